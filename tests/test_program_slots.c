// Programs with several passes in flight: each has its own inputs, outputs and parameters.
#include "program_testing.h"

static void a_program_in_flight_is_busy(void** state) {
    const small* s = *state;
    weir_ticket first = {0};
    weir_ticket second = {0};
    const uint64_t params[] = {1, 0};
    float x[32] = {0};
    write_zeros(s, s->program, 1);
    assert_ok(weir_program_commit(s->program, params, 2, &first));
    assert_status(weir_program_commit(s->program, params, 2, &second), WEIR_BUSY);
    assert_int_equal(second.sequence, 0);
    assert_status(weir_program_write(s->program, s->x, x, sizeof x), WEIR_BUSY);
    assert_null(weir_program_contents(s->program, s->y));
    assert_int_equal(weir_null_complete(s->device, 1, WEIR_OK), 1);
    assert_ok(weir_ticket_wait(first, 0));
    assert_non_null(weir_program_contents(s->program, s->y));
    assert_ok(weir_program_write(s->program, s->x, x, sizeof x));
    weir_null_fail(s->device, 0, WEIR_IO);
    assert_status(weir_program_commit(s->program, params, 2, &second), WEIR_IO);
    assert_int_equal(weir_program_counters(s->program)->submits, 1);
    assert_ok(weir_program_commit(s->program, params, 2, &second));
    assert_int_equal(weir_null_complete(s->device, 1, WEIR_OK), 1);
}

// A program for `rows` in [lower, upper]: normed, multiplied, kept in two states, attended to.
typedef struct ranged {
    weir_graph* graph;
    weir_schedule* schedule;
    weir_program* program;
    weir_arena* arena;
    weir_storage* states[2];
    weir_value x, y, z;
} ranged;

#define RANGED_WIDTH 32
#define RANGED_CACHE 600

static void ranged_graph(ranged* r, int64_t lower, int64_t upper, weir_value weight[2],
                         weir_value state[2]) {
    weir_attention_desc attention = {.heads = 4, .kv_heads = 4, .head_dim = 8};
    weir_param rows = WEIR_PARAM_NONE;
    weir_value v[8];
    const weir_shape x = shape2(upper, RANGED_WIDTH);
    const weir_shape square = shape2(RANGED_WIDTH, RANGED_WIDTH);
    const weir_shape cache = shape2(RANGED_CACHE, RANGED_WIDTH);
    assert_ok(weir_graph_create(NULL, &r->graph));
    assert_ok(weir_graph_param(r->graph, "rows", (uint64_t)lower, (uint64_t)upper, &rows));
    assert_ok(weir_graph_param(r->graph, "position", 0, RANGED_CACHE - 1, &attention.position));
    assert_ok(weir_graph_input(r->graph, "x", WEIR_DTYPE_F32, &x, rows, &r->x));
    for (int i = 0; i < 2; i++) {
        assert_ok(weir_graph_weight(r->graph, "w", WEIR_DTYPE_F32, &square, &weight[i]));
        assert_ok(weir_graph_state(r->graph, "s", WEIR_DTYPE_F32, &cache, &state[i]));
    }
    assert_ok(weir_graph_rms_norm(r->graph, r->x, 1e-5f, &v[0]));
    assert_ok(weir_graph_matmul(r->graph, v[0], weight[0], &v[1]));
    assert_ok(weir_graph_matmul(r->graph, v[0], weight[1], &v[2]));
    assert_ok(weir_graph_set_rows(r->graph, v[1], state[0], attention.position));
    assert_ok(weir_graph_set_rows(r->graph, v[2], state[1], attention.position));
    assert_ok(weir_graph_attention(r->graph, v[0], state[0], state[1], &attention, &v[3]));
    assert_ok(weir_graph_silu_gate(r->graph, v[3], v[1], &v[4]));
    assert_ok(weir_graph_add(r->graph, v[4], r->x, &r->y));
    assert_ok(weir_graph_mul(r->graph, v[2], v[3], &r->z));
    assert_ok(weir_graph_output(r->graph, r->y));
    assert_ok(weir_graph_output(r->graph, r->z));
}

static ranged open_ranged(weir_device* device, int64_t lower, int64_t upper,
                          weir_storage* const weights[2], uint32_t slot_count) {
    ranged r = {0};
    weir_value weight[2];
    weir_value state[2];
    weir_binding bindings[4];
    ranged_graph(&r, lower, upper, weight, state);
    r.schedule = schedule_of(r.graph, (weir_schedule_options){0});
    for (size_t i = 0; i < 2; i++) {
        r.states[i] = allocate_zeros(device, RANGED_CACHE * RANGED_WIDTH * sizeof(float));
        bindings[i] = (weir_binding){
            weight[i], view_of(weights[i], WEIR_DTYPE_F32, shape2(RANGED_WIDTH, RANGED_WIDTH))};
        bindings[2 + i] = (weir_binding){
            state[i], view_of(r.states[i], WEIR_DTYPE_F32, shape2(RANGED_CACHE, RANGED_WIDTH))};
    }
    assert_ok(weir_arena_create(device, weir_schedule_plan(r.schedule), &r.arena));
    const weir_program_desc desc = {.schedule = r.schedule,
                                    .bindings = bindings,
                                    .binding_count = 4,
                                    .arena = r.arena,
                                    .slot_count = slot_count};
    assert_ok(weir_program_create(device, &desc, &r.program));
    return r;
}

static void close_ranged(ranged* r) {
    weir_program_destroy(r->program);
    weir_arena_destroy(r->arena);
    weir_schedule_destroy(r->schedule);
    weir_graph_destroy(r->graph);
    weir_storage_release(r->states[0]);
    weir_storage_release(r->states[1]);
}

static void run_ranged(const ranged* r, const float* x, uint64_t rows, uint64_t position) {
    weir_storage* arena = weir_arena_storage(r->arena);
    memset(weir_storage_host_pointer(arena), 0xFF, weir_storage_byte_size(arena));
    assert_ok(weir_program_write(r->program, r->x, x, rows * RANGED_WIDTH * sizeof(float)));
    assert_ok(weir_program_run(r->program, (uint64_t[]){rows, position}, 2));
}

static void assert_same_output(const ranged* a, const ranged* b, bool second, uint64_t rows) {
    weir_view views[2];
    assert_ok(weir_program_output(a->program, (weir_ticket){0}, second ? a->z : a->y, &views[0]));
    assert_ok(weir_program_output(b->program, (weir_ticket){0}, second ? b->z : b->y, &views[1]));
    assert_int_equal(views[0].shape.dims[0], rows);
    assert_int_equal(views[1].shape.dims[0], rows);
    assert_memory_equal(weir_view_contents(&views[0]), weir_view_contents(&views[1]),
                        rows * RANGED_WIDTH * sizeof(float));
}

// Every size, largest and smallest first, so that what a large pass leaves is there for small ones.
static void every_size_gives_what_a_program_of_that_size_gives(void** state) {
    (void)state;
    const uint64_t upper = getenv("WEIR_LONG") ? 512 : 40;
    static float x[512 * RANGED_WIDTH];
    test_random random = {211};
    weir_device* device = open_device("cpu", 2, NULL);
    weir_storage* weights[2];
    for (size_t i = 0; i < 2; i++) {
        weights[i] = random_floats(device, &random, RANGED_WIDTH * RANGED_WIDTH, 0.3f);
    }
    ranged range = open_ranged(device, 1, (int64_t)upper, weights, 2);
    for (uint64_t i = 0; i < upper; i++) {
        const uint64_t rows = i % 2 ? 1 + i / 2 : upper - i / 2;
        const uint64_t position = random_below(&random, RANGED_CACHE - rows + 1);
        ranged exact = open_ranged(device, (int64_t)rows, (int64_t)rows, weights, 1);
        const size_t cache_bytes = RANGED_CACHE * RANGED_WIDTH * sizeof(float);
        for (size_t k = 0; k < 2; k++) { // both go on from the same text
            memcpy(weir_storage_host_pointer(exact.states[k]),
                   weir_storage_host_pointer(range.states[k]), cache_bytes);
        }
        fill_floats(&random, x, rows * RANGED_WIDTH);
        run_ranged(&range, x, rows, position);
        run_ranged(&exact, x, rows, position);
        assert_same_output(&range, &exact, false, rows);
        assert_same_output(&range, &exact, true, rows);
        for (size_t k = 0; k < 2; k++) {
            assert_memory_equal(weir_storage_host_pointer(exact.states[k]),
                                weir_storage_host_pointer(range.states[k]), cache_bytes);
        }
        close_ranged(&exact);
    }
    close_ranged(&range);
    weir_storage_release(weights[0]);
    weir_storage_release(weights[1]);
    weir_device_destroy(device);
}

static weir_program* with_slots(const small* s, uint32_t slot_count) {
    weir_program* program = NULL;
    weir_program_desc desc = desc_of(s);
    desc.slot_count = slot_count;
    assert_ok(weir_program_create(s->device, &desc, &program));
    return program;
}

// As many passes as there are slots are in flight all the time, and each result is looked at only
// when its slot is the next to be used.
static void passes_in_flight_keep_to_their_slots(void** state) {
    const small* s = *state;
    enum { PASSES = 60 };
    static float x[PASSES][8 * 32];
    weir_ticket tickets[PASSES];
    atomic_uint calls = 0;
    test_random random = {223};
    assert_ok(weir_device_set_tile_hook(s->device, delay_some_tiles, &calls));
    for (uint32_t slots = 1; slots <= 4; slots++) {
        weir_program* program = with_slots(s, slots);
        for (uint32_t pass = 0; pass < PASSES + slots; pass++) {
            if (pass >= slots) {
                const uint32_t done = pass - slots;
                const uint64_t rows = 1 + done % 8;
                float y[8 * 32];
                double expected[8 * 32];
                assert_ok(weir_ticket_wait(tickets[done], WEIR_WAIT_FOREVER));
                assert_ok(weir_program_read(program, tickets[done], s->y, y, rows * 128));
                expect_rows(s, x[done], rows, expected);
                assert_close(y, expected, rows * 32);
            }
            if (pass < PASSES) {
                const uint64_t rows = 1 + pass % 8;
                fill_floats(&random, x[pass], rows * 32);
                assert_ok(weir_program_write(program, s->x, x[pass], rows * 128));
                assert_ok(
                    weir_program_commit(program, (uint64_t[]){rows, pass % 16}, 2, &tickets[pass]));
            }
        }
        weir_program_destroy(program);
    }
    assert_ok(weir_device_set_tile_hook(s->device, NULL, NULL));
}

static void a_slot_is_taken_up_again_when_its_pass_is_complete(void** state) {
    const small* s = *state;
    weir_program* program = with_slots(s, 3);
    weir_ticket tickets[5];
    weir_view view;
    const uint64_t params[] = {1, 0};
    assert_status(weir_program_output(program, (weir_ticket){0}, s->y, &view), WEIR_NOT_FOUND);
    for (uint32_t i = 0; i < 3; i++) {
        write_zeros(s, program, 1);
        assert_ok(weir_program_commit(program, params, 2, &tickets[i]));
    }
    assert_status(weir_program_write(program, s->x, (float[32]){0.0f}, 128), WEIR_BUSY);
    assert_message_has("every slot");
    assert_status(weir_program_commit(program, params, 2, &tickets[3]), WEIR_BUSY);
    assert_status(weir_program_output(program, tickets[0], s->y, &view), WEIR_BUSY);
    assert_int_equal(weir_null_complete(s->device, 1, WEIR_OK), 1);
    assert_ok(weir_program_output(program, tickets[0], s->y, &view));
    assert_null(weir_program_contents(program, s->y)); // of the last pass
    write_zeros(s, program, 1);
    assert_ok(weir_program_commit(program, params, 2, &tickets[3]));
    assert_status(weir_program_output(program, tickets[0], s->y, &view), WEIR_NOT_FOUND);
    assert_status(weir_program_write(program, s->x, (float[32]){0.0f}, 128), WEIR_BUSY);
    assert_int_equal(weir_null_complete(s->device, 3, WEIR_OK), 3);
    for (uint32_t i = 1; i < 4; i++) {
        assert_ok(weir_program_output(program, tickets[i], s->y, &view));
        assert_int_equal(view.shape.dims[0], 1);
    }
    assert_non_null(weir_program_contents(program, s->y));
    weir_program_destroy(program);
}

static void slots_have_a_limit(void** state) {
    const small* s = *state;
    weir_program* program = NULL;
    weir_program_desc desc = desc_of(s);
    desc.slot_count = 65;
    assert_status(weir_program_create(s->device, &desc, &program), WEIR_INVALID_ARGUMENT);
    assert_message_has("65 slots");
    assert_null(program);
}

static void a_pass_reads_no_row_that_was_not_written_for_it(void** state) {
    const small* s = *state;
    float x[8 * 32];
    test_random random = {227};
    fill_floats(&random, x, 8 * 32);
    assert_status(weir_program_run(s->program, (uint64_t[]){1, 0}, 2), WEIR_INVALID_ARGUMENT);
    assert_message_has("input x: the pass reads 128 bytes, 0 were written for it");
    assert_ok(weir_program_write(s->program, s->x, x, sizeof x));
    assert_ok(weir_program_run(s->program, (uint64_t[]){8, 0}, 2));
    assert_status(weir_program_run(s->program, (uint64_t[]){8, 0}, 2), WEIR_INVALID_ARGUMENT);
    assert_ok(weir_program_write(s->program, s->x, x, 3 * 128)); // the other rows are older
    assert_status(weir_program_run(s->program, (uint64_t[]){5, 0}, 2), WEIR_INVALID_ARGUMENT);
    assert_message_has("reads 640 bytes, 384 were written");
    assert_ok(weir_program_run(s->program, (uint64_t[]){3, 0}, 2)); // a refused try keeps them
    assert_int_equal(weir_program_counters(s->program)->submits, 2);
}

static void outputs_have_the_rows_of_their_pass(void** state) {
    const small* s = *state;
    weir_view view;
    float y[8 * 32];
    double expected[8 * 32];
    float x[8 * 32];
    test_random random = {229};
    for (uint64_t i = 0; i < 8; i++) {
        const uint64_t rows = i % 2 ? 1 + i / 2 : 8 - i / 2;
        fill_floats(&random, x, rows * 32);
        assert_ok(weir_program_write(s->program, s->x, x, rows * 128));
        assert_ok(weir_program_run(s->program, (uint64_t[]){rows, 0}, 2));
        assert_ok(weir_program_output(s->program, (weir_ticket){0}, s->y, &view));
        assert_int_equal(view.shape.dims[0], rows);
        assert_int_equal(weir_view_byte_length(&view), rows * 128);
        assert_status(weir_program_read(s->program, (weir_ticket){0}, s->y, y, rows * 128 + 1),
                      WEIR_OUT_OF_RANGE);
        char label[32]; // y has no name
        snprintf(label, sizeof label, "output value %u, the pass made", s->y);
        assert_message_has(label);
        assert_ok(weir_program_read(s->program, (weir_ticket){0}, s->y, y, rows * 128));
        expect_rows(s, x, rows, expected);
        assert_close(y, expected, rows * 32);
    }
    assert_status(weir_program_output(s->program, (weir_ticket){0}, s->x, &view), WEIR_NOT_FOUND);
    assert_status(weir_program_read(s->program, (weir_ticket){0}, 99, y, 4), WEIR_NOT_FOUND);
}

static void a_failed_pass_has_no_outputs(void** state) {
    const small* s = *state;
    weir_view view;
    write_zeros(s, s->program, 5);
    assert_status(weir_program_run(s->program, (uint64_t[]){5, 20}, 2), WEIR_OUT_OF_RANGE);
    assert_status(weir_program_output(s->program, (weir_ticket){0}, s->y, &view),
                  WEIR_OUT_OF_RANGE);
    assert_message_has("set_rows");
}

static void replays_with_slots_and_new_bindings_allocate_nothing(void** state) {
    (void)state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    small s = open_small_on(open_device("cpu", 2, &counter));
    s.program = with_slots(&s, 3);
    weir_storage* other = allocate_zeros(s.device, 24 * 32 * sizeof(float));
    weir_storage* inputs = allocate_zeros(s.device, 2 * 8 * 32 * sizeof(float));
    weir_binding bindings[2][2];
    for (uint64_t i = 0; i < 2; i++) {
        const weir_shape shape = shape2(8, 32);
        bindings[i][0] = (weir_binding){
            s.kept, view_of(i ? other : s.kept_bytes, WEIR_DTYPE_F32, shape2(24, 32))};
        bindings[i][1].value = s.x;
        assert_ok(weir_view_make(inputs, i * 1024, WEIR_DTYPE_F32, &shape, &bindings[i][1].view));
    }
    weir_ticket tickets[40];
    size_t calls = 0;
    for (uint32_t pass = 0; pass < 40; pass++) {
        if (pass == 8) { // every slot has had both bindings
            calls = atomic_load(&counter.calls);
        }
        if (pass >= 3) {
            assert_ok(weir_ticket_wait(tickets[pass - 3], WEIR_WAIT_FOREVER));
        }
        assert_ok(weir_program_bind(s.program, bindings[pass % 2], 2));
        assert_ok(weir_program_commit(s.program, (uint64_t[]){1 + pass % 8, 0}, 2, &tickets[pass]));
    }
    assert_int_equal(atomic_load(&counter.calls), calls);
    weir_program_destroy(s.program);
    s.program = NULL;
    weir_storage_release(other);
    weir_storage_release(inputs);
    close_small(&s);
    assert_int_equal(atomic_load(&counter.live_blocks), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        on_null(a_program_in_flight_is_busy),
        cmocka_unit_test(every_size_gives_what_a_program_of_that_size_gives),
        on_cpu(passes_in_flight_keep_to_their_slots),
        on_null(a_slot_is_taken_up_again_when_its_pass_is_complete),
        on_cpu(slots_have_a_limit),
        on_cpu(a_pass_reads_no_row_that_was_not_written_for_it),
        on_cpu(outputs_have_the_rows_of_their_pass),
        on_cpu(a_failed_pass_has_no_outputs),
        cmocka_unit_test(replays_with_slots_and_new_bindings_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
