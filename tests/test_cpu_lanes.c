// Which tiles the workers of a CPU device run, with fewer and with more workers than a dispatch has
// lanes: each tile once, in places of their own, whoever is held up, and whatever pass was before.
#include "testing.h"

#include <math.h>

#include "session_testing.h"

#define TILES_MAX 40
#define WORKERS_MAX 7 // more than there are lanes, and not the same number in each

static weir_status count_tile_runs(const weir_kernel_call* call) {
    atomic_uint* runs = *(atomic_uint* const*)call->constants;
    if (call->tile >= call->tile_count) {
        return WEIR_FAIL(WEIR_INTERNAL, "tile %u of %u", call->tile, call->tile_count);
    }
    atomic_fetch_add(&runs[call->tile], 1);
    return WEIR_OK;
}

// Workers that take turns get neighbours: tiles are not claimed in their order.
static void every_tile_is_run_once_by_any_number_of_workers(void** state) {
    (void)state;
    for (uint32_t workers = 2; workers <= 8; workers += 3) {
        weir_device* device = open_device("cpu", workers, NULL);
        weir_session* session = NULL;
        assert_ok(weir_session_create(device, &session));
        for (uint32_t tiles = 1; tiles <= TILES_MAX; tiles++) {
            atomic_uint runs[TILES_MAX] = {0};
            atomic_uint* const counted = runs;
            const weir_dispatch_desc desc = {.name = "count",
                                             .kernel = count_tile_runs,
                                             .constants = &counted,
                                             .constants_size = sizeof counted,
                                             .tile_count = tiles};
            assert_ok(weir_session_dispatch(session, &desc, NULL));
            assert_ok(weir_session_finish(session));
            for (uint32_t i = 0; i < TILES_MAX; i++) {
                assert_int_equal(atomic_load(&runs[i]), i < tiles ? 1 : 0);
            }
        }
        weir_session_destroy(session);
        weir_device_destroy(device);
    }
}

// Tiles of one dispatch, of which those that begin first stay until all of these have begun, or
// until all others have ended.
typedef struct crowd {
    uint32_t held;  // how many stay
    uint32_t tiles; // in all
    bool together;  // until all of these have begun
    atomic_uint begun;
    atomic_uint ended;           // of the others
    atomic_uint_least64_t first; // bit i: tile i stayed
} crowd;

static weir_status stand_in_crowd(const weir_kernel_call* call) {
    crowd* c = *(crowd* const*)call->constants;
    const uint64_t deadline = now_ns() + UINT64_C(20000000000);
    if (atomic_fetch_add(&c->begun, 1) >= c->held) {
        atomic_fetch_add(&c->ended, 1);
        return WEIR_OK;
    }
    atomic_fetch_or(&c->first, UINT64_C(1) << call->tile);
    while (c->together ? atomic_load(&c->begun) < c->held
                       : atomic_load(&c->ended) < c->tiles - c->held) {
        if (now_ns() > deadline) {
            return WEIR_FAIL(WEIR_TIMEOUT, "%u of %u tiles begun, %u ended", atomic_load(&c->begun),
                             c->tiles, atomic_load(&c->ended));
        }
        sleep_us(10);
    }
    return WEIR_OK;
}

static void run_crowd(weir_session* session, crowd* c) {
    const weir_dispatch_desc desc = {.name = "crowd",
                                     .kernel = stand_in_crowd,
                                     .constants = &c,
                                     .constants_size = sizeof(void*),
                                     .tile_count = c->tiles};
    assert_ok(weir_session_dispatch(session, &desc, NULL));
    assert_ok(weir_session_finish(session));
    assert_int_equal(atomic_load(&c->begun), c->tiles);
}

// Each keeps to neighbours: those of one lane begin in parts of it.
static void workers_begin_in_places_of_their_own(void** state) {
    (void)state;
    static const struct {
        uint32_t workers;
        uint32_t tiles;
        uint32_t first[WORKERS_MAX];
    } cases[] = {{2, 9, {0, 5}},
                 {3, 11, {0, 4, 8}},
                 {4, 18, {0, 5, 10, 14}},
                 {5, 18, {0, 3, 5, 10, 14}},
                 {7, 27, {0, 4, 7, 11, 14, 18, 21}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const uint32_t workers = cases[i].workers;
        weir_device* device = open_device("cpu", workers, NULL);
        weir_session* session = NULL;
        uint64_t expected = 0;
        for (uint32_t k = 0; k < workers; k++) {
            expected |= UINT64_C(1) << cases[i].first[k];
        }
        assert_ok(weir_session_create(device, &session));
        for (uint32_t round = 0; round < 10; round++) {
            crowd c = {.held = workers, .tiles = cases[i].tiles, .together = true};
            run_crowd(session, &c);
            assert_int_equal(atomic_load(&c.first), expected);
        }
        weir_session_destroy(session);
        weir_device_destroy(device);
    }
}

// One worker runs all that the lanes of the others have left.
static void workers_that_are_held_leave_their_tiles_to_the_last(void** state) {
    (void)state;
    for (uint32_t workers = 2; workers <= WORKERS_MAX; workers++) {
        weir_device* device = open_device("cpu", workers, NULL);
        weir_session* session = NULL;
        assert_ok(weir_session_create(device, &session));
        for (uint32_t tiles = 2; tiles <= 29; tiles += 3) {
            crowd c = {.held = (workers < tiles ? workers : tiles) - 1, .tiles = tiles};
            run_crowd(session, &c);
        }
        weir_session_destroy(session);
        weir_device_destroy(device);
    }
}

enum { REPLAY_ROWS = 23, REPLAY_WIDTH = 2, REPLAY_STEPS = 5, KERNELS_MAX = 64 };

// Tiles that the kernel below has run: what they write would not tell that one ran twice.
static atomic_uint rows_done;

static uint32_t one_tile_per_row(const weir_kernel_use* use) {
    return (uint32_t)use->operands[0].shape.dims[0];
}

static uint64_t no_scratch(const weir_kernel_use* use) {
    (void)use;
    return 0;
}

static bool accept_all(const weir_kernel_use* use) {
    (void)use;
    return true;
}

static weir_status add_row_number(const weir_kernel_call* call) {
    const float* x = (const float*)call->pointers[0] + call->tile * REPLAY_WIDTH;
    float* y = (float*)call->pointers[1] + call->tile * REPLAY_WIDTH;
    for (int i = 0; i < REPLAY_WIDTH; i++) {
        y[i] = x[i] + (float)call->tile;
    }
    atomic_fetch_add_explicit(&rows_done, 1, memory_order_relaxed);
    return WEIR_OK;
}

// REPLAY_STEPS operations one after another, and as many beside them, on a number of rows that each
// pass has anew.
typedef struct chains {
    weir_graph* graph;
    weir_value x;
    weir_value y[2];
    weir_kernel kernels[KERNELS_MAX];
    weir_target target;
    weir_schedule* schedule;
} chains;

static void make_chains(chains* c) {
    const weir_shape shape = {2, {REPLAY_ROWS, REPLAY_WIDTH}};
    weir_param rows;
    assert_ok(weir_target_find("cpu", &c->target));
    assert_true(c->target.kernel_count < KERNELS_MAX);
    memcpy(c->kernels, c->target.kernels, c->target.kernel_count * sizeof(weir_kernel));
    c->kernels[c->target.kernel_count++] =
        (weir_kernel){"add_row_number", WEIR_OP_CUSTOM, accept_all,     one_tile_per_row,
                      no_scratch,       add_row_number, .custom = "add"};
    c->target.kernels = c->kernels;
    assert_ok(weir_graph_create(NULL, &c->graph));
    assert_ok(weir_graph_param(c->graph, "rows", 1, REPLAY_ROWS, &rows));
    assert_ok(weir_graph_input(c->graph, "x", WEIR_DTYPE_F32, &shape, rows, &c->x));
    for (int chain = 0; chain < 2; chain++) {
        c->y[chain] = c->x;
        for (int i = 0; i < REPLAY_STEPS; i++) {
            const weir_value input = c->y[chain];
            const weir_custom_desc desc = {.name = "add",
                                           .inputs = &input,
                                           .input_count = 1,
                                           .dtype = WEIR_DTYPE_F32,
                                           .shape = shape,
                                           .rows = rows};
            assert_ok(weir_graph_custom(c->graph, &desc, &c->y[chain]));
        }
        assert_ok(weir_graph_output(c->graph, c->y[chain]));
    }
    assert_ok(weir_schedule_create(NULL, c->graph, &c->target, NULL, &c->schedule));
}

static void replay(const chains* c, weir_program* program, uint64_t rows) {
    float x[REPLAY_ROWS * REPLAY_WIDTH] = {0.0f};
    float y[REPLAY_ROWS * REPLAY_WIDTH];
    const uint64_t byte_size = rows * REPLAY_WIDTH * sizeof(float);
    atomic_store(&rows_done, 0);
    assert_ok(weir_program_write(program, c->x, x, byte_size));
    assert_ok(weir_program_run(program, &rows, 1));
    assert_int_equal(atomic_load(&rows_done), 2 * REPLAY_STEPS * rows);
    for (int chain = 0; chain < 2; chain++) {
        assert_ok(weir_program_read(program, (weir_ticket){0}, c->y[chain], y, byte_size));
        for (uint64_t i = 0; i < rows * REPLAY_WIDTH; i++) {
            const uint64_t row = i / REPLAY_WIDTH;
            assert_true(y[i] == (float)(REPLAY_STEPS * row));
        }
    }
}

// A worker that comes late from a pass finds lanes of the next one, longer or shorter.
static void replays_right_after_one_another_run_every_tile_once(void** state) {
    (void)state;
    static chains c;
    test_random random = {.state = 17};
    const uint32_t passes = getenv("WEIR_LONG") ? 100000 : 1000;
    make_chains(&c);
    for (uint32_t workers = 1; workers <= WORKERS_MAX; workers++) {
        weir_device* device = open_device("cpu", workers, NULL);
        weir_program* program = NULL;
        const weir_program_desc desc = {.schedule = c.schedule};
        assert_ok(weir_program_create(device, &desc, &program));
        for (uint32_t pass = 0; pass < passes; pass++) {
            replay(&c, program, 1 + random_below(&random, REPLAY_ROWS));
        }
        weir_program_destroy(program);
        weir_device_destroy(device);
    }
    weir_schedule_destroy(c.schedule);
    weir_graph_destroy(c.graph);
}

enum { JOINED_TILES = 37 };

// What a tile, or the join, is to fail at: a number of tiles for the join.
static uint32_t failing_tile;
static atomic_uint joins_done;

static uint32_t joined_tiles(const weir_kernel_use* use) {
    (void)use;
    return JOINED_TILES;
}

static uint64_t a_number_for_each_tile(const weir_kernel_use* use) {
    (void)use;
    return JOINED_TILES * sizeof(uint32_t);
}

// Tiles leave x times their number, the join writes the sum of these.
static weir_status leave_or_join(const weir_kernel_call* call) {
    const float* x = call->pointers[0];
    float* y = call->pointers[1];
    float* left = call->pointers[2];
    if (call->tile == failing_tile) {
        return WEIR_FAIL(WEIR_IO, "call %u is to fail", call->tile);
    }
    if (call->tile < call->tile_count) {
        left[call->tile] = x[0] * (float)call->tile;
        return WEIR_OK;
    }
    atomic_fetch_add(&joins_done, 1);
    y[0] = 0.0f;
    for (uint32_t i = 0; i < call->tile_count; i++) {
        y[0] += left[i];
        left[i] = NAN; // a tile that runs after this, or not in the next pass, is seen
    }
    return WEIR_OK;
}

static weir_schedule* schedule_joined(weir_target* target, weir_kernel kernels[KERNELS_MAX],
                                      weir_value* x, weir_value* y) {
    const weir_shape one = weir_shape_make(1, (int64_t[]){1});
    weir_graph* graph = NULL;
    weir_schedule* schedule = NULL;
    assert_ok(weir_target_find("cpu", target));
    assert_true(target->kernel_count < KERNELS_MAX);
    memcpy(kernels, target->kernels, target->kernel_count * sizeof(weir_kernel));
    kernels[target->kernel_count++] = (weir_kernel){.name = "leave_or_join",
                                                    .op = WEIR_OP_CUSTOM,
                                                    .accepts = accept_all,
                                                    .tile_count = joined_tiles,
                                                    .scratch_bytes = a_number_for_each_tile,
                                                    .run = leave_or_join,
                                                    .joins = true,
                                                    .custom = "join"};
    target->kernels = kernels;
    assert_ok(weir_graph_create(NULL, &graph));
    assert_ok(weir_graph_input(graph, "x", WEIR_DTYPE_F32, &one, WEIR_PARAM_NONE, x));
    const weir_custom_desc desc = {.name = "join",
                                   .inputs = x,
                                   .input_count = 1,
                                   .dtype = WEIR_DTYPE_F32,
                                   .shape = one,
                                   .rows = WEIR_PARAM_NONE};
    assert_ok(weir_graph_custom(graph, &desc, y));
    assert_ok(weir_graph_output(graph, *y));
    assert_ok(weir_schedule_create(NULL, graph, target, NULL, &schedule));
    weir_graph_destroy(graph);
    return schedule;
}

// Once, when all tiles are done, by however many workers, and not where something has failed.
static void joins_come_once_after_all_tiles(void** state) {
    (void)state;
    static weir_kernel kernels[KERNELS_MAX];
    weir_target target;
    weir_value x = WEIR_VALUE_NONE;
    weir_value y = WEIR_VALUE_NONE;
    weir_schedule* schedule = schedule_joined(&target, kernels, &x, &y);
    const uint32_t passes = getenv("WEIR_LONG") ? 100000 : 500;
    for (uint32_t workers = 1; workers <= WORKERS_MAX; workers++) {
        weir_device* device = open_device("cpu", workers, NULL);
        weir_program* program = NULL;
        assert_ok(
            weir_program_create(device, &(weir_program_desc){.schedule = schedule}, &program));
        failing_tile = UINT32_MAX;
        atomic_store(&joins_done, 0);
        for (uint32_t pass = 1; pass <= passes; pass++) {
            const float number = (float)(pass % 1000);
            float sum = 0.0f;
            assert_ok(weir_program_write(program, x, &number, sizeof number));
            assert_ok(weir_program_run(program, NULL, 0));
            assert_ok(weir_program_read(program, (weir_ticket){0}, y, &sum, sizeof sum));
            assert_true(sum == number * JOINED_TILES * (JOINED_TILES - 1) / 2);
            assert_int_equal(atomic_load(&joins_done), pass);
        }
        for (failing_tile = 0; failing_tile <= JOINED_TILES; failing_tile += JOINED_TILES) {
            assert_ok(weir_program_write(program, x, &(float){1.0f}, sizeof(float)));
            assert_status(weir_program_run(program, NULL, 0), WEIR_IO);
            assert_message_has("is to fail");
            assert_int_equal(atomic_load(&joins_done), passes);
        }
        weir_program_destroy(program);
        weir_device_destroy(device);
    }
    weir_schedule_destroy(schedule);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joins_come_once_after_all_tiles),
        cmocka_unit_test(every_tile_is_run_once_by_any_number_of_workers),
        cmocka_unit_test(workers_begin_in_places_of_their_own),
        cmocka_unit_test(workers_that_are_held_leave_their_tiles_to_the_last),
        cmocka_unit_test(replays_right_after_one_another_run_every_tile_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
