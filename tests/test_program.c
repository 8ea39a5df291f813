// Programs: recorded once, replayed with other parameters.
#include "program_testing.h"

static void passes_compute_what_plain_c_does_and_states_stay(void** state) {
    const small* s = *state;
    test_random random = {37};
    double kept[24 * 32] = {0.0};
    const uint64_t passes[][2] = {{8, 0}, {1, 8}, {3, 9}, {1, 12}, {5, 0}, {4, 20}};
    for (size_t pass = 0; pass < sizeof passes / sizeof passes[0]; pass++) {
        const uint64_t rows = passes[pass][0];
        float x[8 * 32];
        double expected[8 * 32];
        fill_floats(&random, x, rows * 32);
        expect_rows(s, x, rows, expected);
        memcpy(kept + passes[pass][1] * 32, expected, rows * 32 * sizeof(double));
        assert_ok(weir_program_write(s->program, s->x, x, rows * 32 * sizeof(float)));
        assert_ok(weir_program_run(s->program, passes[pass], 2));
        assert_close(weir_program_contents(s->program, s->y), expected, rows * 32);
        assert_close(weir_storage_host_pointer(s->kept_bytes), kept, 24 * 32);
    }
}

static void rows_past_those_of_the_pass_are_left_alone(void** state) {
    const small* s = *state;
    test_random random = {41};
    float x[8 * 32];
    float before[8 * 32];
    fill_floats(&random, x, 8 * 32);
    assert_ok(weir_program_write(s->program, s->x, x, sizeof x));
    assert_ok(weir_program_run(s->program, (uint64_t[]){8, 0}, 2));
    memcpy(before, weir_program_contents(s->program, s->y), sizeof before);
    fill_floats(&random, x, 3 * 32);
    assert_ok(weir_program_write(s->program, s->x, x, 3 * 32 * sizeof(float)));
    assert_ok(weir_program_run(s->program, (uint64_t[]){3, 0}, 2));
    const float* after = weir_program_contents(s->program, s->y);
    double expected[3 * 32];
    expect_rows(s, x, 3, expected);
    assert_close(after, expected, 3 * 32);
    assert_memory_equal(after + 3 * 32, before + 3 * 32, 5 * 32 * sizeof(float));
}

static void parameters_outside_their_bounds_are_named(void** state) {
    const small* s = *state;
    const struct {
        uint64_t params[2];
        const char* name;
    } cases[] = {
        {{0, 0}, "rows"}, {{9, 0}, "rows"}, {{1, 21}, "position"}, {{1, UINT64_MAX}, "position"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_status(weir_program_run(s->program, cases[i].params, 2), WEIR_OUT_OF_RANGE);
        assert_message_has(cases[i].name);
    }
    assert_status(weir_program_run(s->program, (uint64_t[]){1, 0}, 1), WEIR_INVALID_ARGUMENT);
    assert_status(weir_program_run(s->program, NULL, 0), WEIR_INVALID_ARGUMENT);
    assert_int_equal(weir_program_counters(s->program)->submits, 0);
}

static void a_pass_over_the_end_of_the_cache_fails_and_the_next_one_works(void** state) {
    const small* s = *state;
    write_zeros(s, s->program, 5);
    assert_status(weir_program_run(s->program, (uint64_t[]){5, 20}, 2), WEIR_OUT_OF_RANGE);
    assert_message_has("set_rows");
    assert_message_has("cache of 24 rows");
    write_zeros(s, s->program, 4);
    assert_ok(weir_program_run(s->program, (uint64_t[]){4, 20}, 2));
}

static void only_inputs_are_written_and_only_outputs_are_read(void** state) {
    const small* s = *state;
    float x[8 * 32 + 1] = {0};
    assert_status(weir_program_write(s->program, s->x, x, sizeof x), WEIR_OUT_OF_RANGE);
    assert_message_has("input x of 1024 bytes");
    assert_status(weir_program_write(s->program, s->y, x, 4), WEIR_NOT_FOUND);
    assert_status(weir_program_write(s->program, s->w, x, 4), WEIR_NOT_FOUND);
    assert_status(weir_program_write(s->program, 99, x, 4), WEIR_NOT_FOUND);
    assert_ok(weir_program_write(s->program, s->x, NULL, 0));
    assert_null(weir_program_contents(s->program, s->y)); // no pass yet
    write_zeros(s, s->program, 1);
    assert_ok(weir_program_run(s->program, (uint64_t[]){1, 0}, 2));
    assert_non_null(weir_program_contents(s->program, s->y));
    assert_null(weir_program_contents(s->program, s->x));
    assert_null(weir_program_contents(s->program, s->y - 1)); // a result, but no output
    assert_null(weir_program_contents(s->program, 99));
}

static void a_schedule_for_other_kernels_is_unsupported(void** state) {
    const small* s = *state;
    weir_kernel kernels[64];
    weir_target target;
    assert_ok(weir_target_find("cpu", &target));
    memcpy(kernels, target.kernels, target.kernel_count * sizeof kernels[0]);
    target.kernels = kernels;
    target.name = "toy";
    for (uint32_t i = 0; i < target.kernel_count; i++) {
        kernels[i].run = NULL; // no host functions
    }
    weir_schedule* schedule = NULL;
    weir_program* program = NULL;
    assert_ok(weir_schedule_create(NULL, s->graph, &target, NULL, &schedule));
    weir_program_desc desc = desc_of(s);
    desc.schedule = schedule;
    assert_status(weir_program_create(s->device, &desc, &program), WEIR_UNSUPPORTED);
    assert_message_has("of target toy cannot run on device cpu");
    assert_null(program);
    weir_schedule_destroy(schedule);
}

static weir_status negate(const weir_kernel_call* call) {
    const uint32_t output = call->operand_count - 1;
    const int64_t count = weir_view_element_count(&call->views[output]);
    for (int64_t i = 0; i < count; i++) {
        ((float*)call->pointers[output])[i] = -((const float*)call->pointers[0])[i];
    }
    return WEIR_OK;
}

static uint32_t one_tile(const weir_kernel_use* use) {
    (void)use;
    return 1;
}

// It needs no more than to stand in a target: here in the place of rms_norm, and wrong on purpose.
static void kernels_of_the_caller_run_in_programs(void** state) {
    const small* s = *state;
    weir_kernel kernels[64];
    weir_target target;
    weir_schedule* schedule = NULL;
    weir_program* program = NULL;
    float x[32];
    test_random random = {71};
    assert_ok(weir_target_find("cpu", &target));
    assert_true(target.kernel_count < 64);
    memcpy(kernels + 1, target.kernels, target.kernel_count * sizeof kernels[0]);
    kernels[0] = target.kernels[0];
    for (uint32_t i = 0; i < target.kernel_count; i++) {
        kernels[0] = target.kernels[i].op == WEIR_OP_RMS_NORM ? target.kernels[i] : kernels[0];
    }
    kernels[0].name = "negate";
    kernels[0].tile_count = one_tile;
    kernels[0].run = negate;
    target.kernels = kernels;
    target.kernel_count++;
    const weir_schedule_options options = {.without_fusions = WEIR_FUSION_ALL};
    assert_ok(weir_schedule_create(NULL, s->graph, &target, &options, &schedule));
    weir_program_desc desc = desc_of(s);
    desc.schedule = schedule;
    assert_ok(weir_program_create(s->device, &desc, &program));
    fill_floats(&random, x, 32);
    assert_ok(weir_program_write(program, s->x, x, sizeof x));
    assert_ok(weir_program_run(program, (uint64_t[]){1, 0}, 2));
    const float* y = weir_program_contents(program, s->y);
    const float* gain = weir_storage_host_pointer(s->gain_bytes);
    const float* w = weir_storage_host_pointer(s->w_bytes);
    for (size_t n = 0; n < 32; n++) {
        double sum = (double)x[n];
        for (size_t k = 0; k < 32; k++) {
            sum -= (double)x[k] * (double)gain[k] * (double)w[n * 32 + k];
        }
        assert_true(fabs((double)y[n] - sum) < 1e-4);
    }
    weir_program_destroy(program);
    weir_schedule_destroy(schedule);
}

static void programs_that_share_an_arena_do_not_disturb_each_other(void** state) {
    const small* s = *state;
    const uint64_t needed = weir_schedule_report_of(s->schedule)->arena_bytes;
    weir_arena* arena = NULL;
    weir_program* programs[2] = {NULL};
    weir_program_desc desc = desc_of(s);
    assert_ok(weir_arena_create_sized(s->device, needed - 1, &desc.arena));
    assert_status(weir_program_create(s->device, &desc, &programs[0]), WEIR_OUT_OF_RANGE);
    weir_arena_destroy(desc.arena);
    assert_ok(weir_arena_create_sized(s->device, needed, &arena));
    desc.arena = arena;
    assert_ok(weir_program_create(s->device, &desc, &programs[0]));
    assert_ok(weir_program_create(s->device, &desc, &programs[1]));
    void* bytes = weir_storage_host_pointer(weir_arena_storage(arena));
    weir_arena_destroy(arena); // the programs hold its storage
    test_random random = {47};
    for (uint64_t pass = 0; pass < 20; pass++) {
        weir_ticket tickets[2];
        float x[2][8 * 32];
        double expected[8 * 32];
        memset(bytes, 0xFF, needed);
        for (size_t i = 0; i < 2; i++) {
            fill_floats(&random, x[i], 8 * 32);
            assert_ok(weir_program_write(programs[i], s->x, x[i], sizeof x[i]));
            assert_ok(
                weir_program_commit(programs[i], (uint64_t[]){8 - pass % 8, pass}, 2, &tickets[i]));
        }
        for (size_t i = 0; i < 2; i++) {
            assert_ok(weir_ticket_wait(tickets[i], WEIR_WAIT_FOREVER));
            expect_rows(s, x[i], 8 - pass % 8, expected);
            assert_close(weir_program_contents(programs[i], s->y), expected, (8 - pass % 8) * 32);
        }
        // Both wrote the same rows of the state: the later commit is what stays.
        const float* kept = weir_storage_host_pointer(s->kept_bytes);
        assert_close(kept + pass * 32, expected, (8 - pass % 8) * 32);
    }
    weir_program_destroy(programs[0]);
    weir_program_destroy(programs[1]);
}

// An arena with more blocks than the plan needs serves it; one that lacks bytes or blocks does not.
static void the_blocks_of_an_arena_hold_those_of_the_plan(void** state) {
    const small* s = *state;
    const uint64_t needed = weir_schedule_report_of(s->schedule)->arena_bytes;
    const weir_plan_buffer buffers[] = {{.byte_size = 64}, {.byte_size = 64}}; // live always
    const weir_plan_problem problem = {
        .buffers = buffers, .buffer_count = 2, .block_bytes_max = 64};
    weir_arena_desc arena = {.byte_size = needed - 1};
    weir_plan* plan = NULL;
    weir_program* program = NULL;
    weir_program_desc desc = desc_of(s);
    assert_int_equal(weir_schedule_report_of(s->schedule)->arena_blocks, 1);
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    arena.plan = plan;
    assert_ok(weir_arena_create_with(s->device, &arena, &desc.arena));
    assert_int_equal(weir_arena_block_count(desc.arena), 2);
    assert_status(weir_program_create(s->device, &desc, &program), WEIR_OUT_OF_RANGE);
    assert_message_has("the plan needs 1024 bytes in 1 block, one of at least 1024 as number 0");
    assert_message_has("the arena has 2, that one of 1023");
    weir_arena_destroy(desc.arena);
    arena.byte_size = needed;
    assert_ok(weir_arena_create_with(s->device, &arena, &desc.arena));
    assert_ok(weir_program_create(s->device, &desc, &program));
    weir_program_destroy(program);
    weir_arena_destroy(desc.arena);
    weir_plan_destroy(plan);
}

static void a_replay_is_one_submit_one_wait_and_no_allocation(void** state) {
    (void)state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    small s = open_small_on(open_device("cpu", 2, &counter));
    const weir_program_desc desc = desc_of(&s);
    assert_ok(weir_program_create(s.device, &desc, &s.program));
    const weir_schedule_report* report = weir_schedule_report_of(s.schedule);
    const size_t calls = atomic_load(&counter.calls);
    float x[8 * 32] = {1.0f};
    for (uint64_t pass = 0; pass < 10; pass++) {
        assert_ok(weir_program_write(s.program, s.x, x, sizeof x));
        assert_ok(weir_program_run(s.program, (uint64_t[]){1 + pass % 8, pass}, 2));
    }
    assert_int_equal(atomic_load(&counter.calls), calls);
    const weir_counters* counters = weir_program_counters(s.program);
    assert_int_equal(counters->submits, 10);
    assert_int_equal(counters->host_waits, 10);
    assert_int_equal(counters->dispatches, 10 * report->dispatches);
    assert_int_equal(counters->waits, 10 * report->waits);
    assert_int_equal(counters->waits_elided, 10 * report->waits_elided);
    close_small(&s);
    assert_int_equal(atomic_load(&counter.live_blocks), 0);
}

static void traffic_is_counted_at_the_sizes_of_each_pass(void** state) {
    const small* s = *state;
    const uint64_t row = 32 * sizeof(float);
    const uint64_t weights = row + 32 * row; // one gain, one matrix
    uint64_t reads = 0;
    uint64_t writes = 0;
    for (uint64_t rows = 1; rows <= 8; rows++) {
        write_zeros(s, s->program, rows);
        assert_ok(weir_program_run(s->program, (uint64_t[]){rows, 2 * rows}, 2));
        reads += weights + (1 + 2 + 1) * rows * row; // rms_norm_mul, matmul_add, set_rows
        writes += 3 * rows * row;
        assert_int_equal(weir_program_counters(s->program)->bytes_read, reads);
        assert_int_equal(weir_program_counters(s->program)->bytes_written, writes);
    }
}

static void attention_counts_the_rows_that_it_sees(void** state) {
    (void)state;
    weir_graph* graph = NULL;
    weir_program* program = NULL;
    weir_value q = WEIR_VALUE_NONE;
    weir_value y = WEIR_VALUE_NONE;
    weir_value cache[2];
    weir_binding bindings[2];
    weir_storage* storages[2];
    weir_attention_desc desc = {.heads = 2, .kv_heads = 2, .head_dim = 16};
    weir_device* device = open_device("cpu", 1, NULL);
    const weir_shape x = shape2(4, 32);
    const weir_shape rows = shape2(100, 32);
    assert_ok(weir_graph_create(NULL, &graph));
    assert_ok(weir_graph_param(graph, "position", 0, 90, &desc.position));
    assert_ok(weir_graph_input(graph, "q", WEIR_DTYPE_F32, &x, WEIR_PARAM_NONE, &q));
    for (size_t i = 0; i < 2; i++) {
        assert_ok(weir_graph_state(graph, i ? "v" : "k", WEIR_DTYPE_F32, &rows, &cache[i]));
        storages[i] = allocate_zeros(device, 100 * 128);
        bindings[i] = (weir_binding){cache[i], view_of(storages[i], WEIR_DTYPE_F32, rows)};
    }
    assert_ok(weir_graph_attention(graph, q, cache[0], cache[1], &desc, &y));
    assert_ok(weir_graph_output(graph, y));
    weir_schedule* schedule = schedule_of(graph, (weir_schedule_options){0});
    const weir_program_desc made = {.schedule = schedule, .bindings = bindings, .binding_count = 2};
    assert_ok(weir_program_create(device, &made, &program));
    assert_ok(weir_program_write(program, q, (float[4 * 32]){0.0f}, 4 * 128));
    assert_ok(weir_program_run(program, (uint64_t[]){10}, 1));
    const uint64_t scratch = weir_schedule_report_of(schedule)->scratch_bytes; // of some kernels
    assert_int_equal(weir_program_counters(program)->bytes_read, (4 + 2 * 14) * 128 + scratch);
    assert_int_equal(weir_program_counters(program)->bytes_written, 4 * 128 + scratch);
    weir_program_destroy(program);
    weir_schedule_destroy(schedule);
    weir_graph_destroy(graph);
    weir_storage_release(storages[0]);
    weir_storage_release(storages[1]);
    weir_device_destroy(device);
}

static void each_failing_allocation_of_a_program_is_reported_and_leaks_nothing(void** state) {
    (void)state;
    for (uint32_t slots = 1; slots <= 3; slots += 2) {
        test_allocator counter = {.fail_at = SIZE_MAX};
        small s = open_small_on(open_device("cpu", 1, &counter));
        weir_program_desc desc = desc_of(&s);
        const size_t live = atomic_load(&counter.live_blocks);
        weir_status status = WEIR_OUT_OF_MEMORY;
        size_t step = 0;
        desc.slot_count = slots;
        for (; status != WEIR_OK; step++) {
            counter.fail_at = atomic_load(&counter.calls) + step;
            status = weir_program_create(s.device, &desc, &s.program);
            counter.fail_at = SIZE_MAX;
            if (status != WEIR_OK) {
                assert_status(status, WEIR_OUT_OF_MEMORY);
                assert_null(s.program);
                assert_int_equal(atomic_load(&counter.live_blocks), live);
            }
        }
        assert_true(step > 12 * slots);
        write_zeros(&s, s.program, 1);
        assert_ok(weir_program_run(s.program, (uint64_t[]){1, 0}, 2));
        close_small(&s);
        assert_int_equal(atomic_load(&counter.live_blocks), 0);
    }
}

static void programs_come_and_go_while_workers_linger(void** state) {
    (void)state;
    small s = open_small_on(open_device("cpu", 4, NULL));
    const weir_program_desc desc = desc_of(&s);
    weir_program* previous = NULL;
    weir_ticket ticket = {0};
    for (uint32_t i = 0; i < 500; i++) {
        weir_program* program = NULL;
        assert_ok(weir_program_create(s.device, &desc, &program));
        write_zeros(&s, program, 8);
        assert_ok(weir_program_run(program, (uint64_t[]){1 + i % 8, 0}, 2));
        if (previous && i % 2) { // the pass before was of the other one
            assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
            write_zeros(&s, previous, 1);
            assert_ok(weir_program_run(previous, (uint64_t[]){1, 0}, 2));
        }
        weir_program_destroy(previous);
        previous = program;
        if (i % 5 == 0) { // destroyed with a pass in flight, every other time
            write_zeros(&s, program, 8);
            assert_ok(weir_program_commit(program, (uint64_t[]){8, 0}, 2, &ticket));
        }
    }
    weir_program_destroy(previous);
    weir_program_destroy(NULL);
    close_small(&s);
}

typedef struct tile_count {
    atomic_uint tiles;
} tile_count;

static void count_tile(void* context, uint32_t worker, const char* name, uint32_t dispatch,
                       uint32_t tile, bool begin) {
    (void)worker;
    (void)name;
    (void)dispatch;
    (void)tile;
    atomic_fetch_add(&((tile_count*)context)->tiles, begin ? 1 : 0);
}

// Large enough that the kernels cut several tiles, and more of them for more rows: workers that are
// late from one pass meet the next one with other counts.
static void passes_of_other_sizes_are_cut_into_other_tiles(void** state) {
    (void)state;
    enum { ROWS = 64, WIDTH = 1024 };
    static float x[ROWS * WIDTH];
    weir_graph* graph = NULL;
    weir_param rows = WEIR_PARAM_NONE;
    weir_value values[5];
    test_random random = {67};
    const weir_shape shape = shape2(ROWS, WIDTH);
    assert_ok(weir_graph_create(NULL, &graph));
    assert_ok(weir_graph_param(graph, "rows", 1, ROWS, &rows));
    assert_ok(weir_graph_input(graph, "x", WEIR_DTYPE_F32, &shape, rows, &values[0]));
    assert_ok(weir_graph_rms_norm(graph, values[0], 1e-5f, &values[1]));
    assert_ok(weir_graph_silu_gate(graph, values[1], values[0], &values[2]));
    assert_ok(weir_graph_mul(graph, values[0], values[1], &values[3]));
    assert_ok(weir_graph_add(graph, values[2], values[3], &values[4]));
    assert_ok(weir_graph_output(graph, values[4]));
    weir_schedule* schedule = schedule_of(graph, (weir_schedule_options){0});
    const weir_program_desc desc = {.schedule = schedule};
    weir_device* devices[2] = {open_device("cpu", 1, NULL), open_device("cpu", 4, NULL)};
    weir_program* programs[2] = {NULL};
    tile_count counts[2] = {{0}, {0}};
    fill_floats(&random, x, ROWS * WIDTH);
    for (size_t i = 0; i < 2; i++) {
        assert_ok(weir_program_create(devices[i], &desc, &programs[i]));
        assert_ok(weir_program_write(programs[i], values[0], x, sizeof x));
        assert_ok(weir_device_set_tile_hook(devices[i], count_tile, &counts[i]));
        assert_ok(weir_program_run(programs[i], (uint64_t[]){ROWS}, 1));
        assert_ok(weir_device_set_tile_hook(devices[i], NULL, NULL));
    }
    assert_true(atomic_load(&counts[0].tiles) > 16);
    assert_int_equal(atomic_load(&counts[0].tiles), atomic_load(&counts[1].tiles));
    for (uint32_t pass = 0; pass < 120; pass++) {
        const uint64_t params[] = {pass % 3 == 0 ? ROWS : 1 + random_below(&random, ROWS)};
        assert_ok(weir_program_write(programs[1], values[0], x, sizeof x));
        assert_ok(weir_program_run(programs[1], params, 1));
        if (pass % 10 == 0) {
            assert_ok(weir_program_write(programs[0], values[0], x, sizeof x));
            assert_ok(weir_program_run(programs[0], params, 1));
            assert_memory_equal(weir_program_contents(programs[0], values[4]),
                                weir_program_contents(programs[1], values[4]),
                                params[0] * WIDTH * sizeof(float));
        }
    }
    for (size_t i = 0; i < 2; i++) {
        weir_program_destroy(programs[i]);
        weir_device_destroy(devices[i]);
    }
    weir_schedule_destroy(schedule);
    weir_graph_destroy(graph);
}

static void rows_looked_up_come_from_the_table_and_bad_indices_fail(void** state) {
    (void)state;
    weir_device* device = open_device("cpu", 2, NULL);
    weir_graph* graph = NULL;
    weir_program* program = NULL;
    weir_value table = WEIR_VALUE_NONE;
    weir_value ids = WEIR_VALUE_NONE;
    weir_value y = WEIR_VALUE_NONE;
    test_random random = {61};
    const weir_shape table_shape = shape2(10, 8);
    const weir_shape ids_shape = weir_shape_make(1, (int64_t[]){3});
    weir_storage* storage = random_floats(device, &random, 80, 1.0f);
    assert_ok(weir_graph_create(NULL, &graph));
    assert_ok(weir_graph_weight(graph, "table", WEIR_DTYPE_F32, &table_shape, &table));
    assert_ok(weir_graph_input(graph, "ids", WEIR_DTYPE_I32, &ids_shape, WEIR_PARAM_NONE, &ids));
    assert_ok(weir_graph_get_rows(graph, table, ids, &y));
    assert_ok(weir_graph_output(graph, y));
    weir_schedule* schedule = schedule_of(graph, (weir_schedule_options){0});
    const weir_binding binding = {table, view_of(storage, WEIR_DTYPE_F32, table_shape)};
    const weir_program_desc desc = {.schedule = schedule, .bindings = &binding, .binding_count = 1};
    assert_ok(weir_program_create(device, &desc, &program));
    weir_graph_destroy(graph); // not needed any more
    const int32_t bad[] = {0, 10, 1};
    assert_ok(weir_program_write(program, ids, bad, sizeof bad));
    assert_status(weir_program_run(program, NULL, 0), WEIR_OUT_OF_RANGE);
    assert_message_has("get_rows");
    const int32_t good[] = {9, 0, 4};
    assert_ok(weir_program_write(program, ids, good, sizeof good));
    assert_ok(weir_program_run(program, NULL, 0));
    const float* numbers = weir_program_contents(program, y);
    const float* rows = weir_storage_host_pointer(storage);
    for (size_t i = 0; i < 3; i++) {
        assert_memory_equal(numbers + 8 * i, rows + 8 * good[i], 8 * sizeof(float));
    }
    weir_program_destroy(program);
    weir_schedule_destroy(schedule);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        on_cpu(passes_compute_what_plain_c_does_and_states_stay),
        on_cpu(rows_past_those_of_the_pass_are_left_alone),
        on_cpu(parameters_outside_their_bounds_are_named),
        on_cpu(a_pass_over_the_end_of_the_cache_fails_and_the_next_one_works),
        on_cpu(only_inputs_are_written_and_only_outputs_are_read),
        on_cpu(a_schedule_for_other_kernels_is_unsupported),
        on_cpu(kernels_of_the_caller_run_in_programs),
        on_cpu(the_blocks_of_an_arena_hold_those_of_the_plan),
        on_cpu(programs_that_share_an_arena_do_not_disturb_each_other),
        cmocka_unit_test(a_replay_is_one_submit_one_wait_and_no_allocation),
        on_cpu(traffic_is_counted_at_the_sizes_of_each_pass),
        cmocka_unit_test(attention_counts_the_rows_that_it_sees),
        cmocka_unit_test(each_failing_allocation_of_a_program_is_reported_and_leaks_nothing),
        cmocka_unit_test(programs_come_and_go_while_workers_linger),
        cmocka_unit_test(passes_of_other_sizes_are_cut_into_other_tiles),
        cmocka_unit_test(rows_looked_up_come_from_the_table_and_bad_indices_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
