// Whole cycles, from opening a device to closing it, in which every allocation, every mapping and
// every thread start fails once in turn, and every call to the back end of the null device.
#include "testing_faults.h"

#include <weir/weir.h>

enum { ROWS = 4, WIDTH = 32, FILE_FLOATS = WIDTH * WIDTH };

#define NULL_CALLS 40 // more than any cycle makes

static bool on_null; // the device of the cycles; executes nothing, so that nothing is compared
static uint32_t null_fails; // this call to its back end, counted from 0

static void write_ones(char path[64]) {
    static float ones[FILE_FLOATS];
    snprintf(path, 64, "/tmp/weir-test-XXXXXX");
    const int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    for (size_t i = 0; i < FILE_FLOATS; i++) {
        ones[i] = 1.0f;
    }
    assert_int_equal(write(descriptor, ones, sizeof ones), sizeof ones);
    close(descriptor);
}

static weir_status expect(float found, float expected) {
    return on_null || found == expected
               ? WEIR_OK
               : WEIR_FAIL(WEIR_INTERNAL, "%g, expected %g", (double)found, (double)expected);
}

static weir_status add(const weir_kernel_call* call) {
    float* y = call->pointers[1];
    for (int64_t i = 0; i < call->views[0].shape.dims[0]; i++) {
        y[i] += ((const float*)call->pointers[0])[i];
    }
    return WEIR_OK;
}

// Everything that the cycles make; what was not made is NULL.
typedef struct things {
    weir_device* device;
    weir_storage *weights, *twin, *lazy, *foreign;
    weir_session* session;
    weir_pool* pool;
    weir_residency* set;
    weir_shadow* shadow;
    weir_state* state;
    weir_graph* graph;
    weir_schedule *schedule, *loaded;
    weir_plan_file* file;
    weir_arena* arena;
    weir_program* program;
} things;

static void release(things* t) {
    weir_program_destroy(t->program);
    weir_arena_destroy(t->arena);
    weir_plan_file_destroy(t->file);
    weir_schedule_destroy(t->loaded);
    weir_schedule_destroy(t->schedule);
    weir_graph_destroy(t->graph);
    weir_session_destroy(t->session);
    weir_pool_destroy(t->pool);
    weir_state_destroy(t->state);
    weir_shadow_destroy(t->shadow);
    weir_storage_release(t->foreign);
    weir_storage_release(t->lazy);
    weir_storage_release(t->twin);
    weir_storage_release(t->weights);
    weir_residency_destroy(t->set);
    weir_device_destroy(t->device);
}

static weir_status open(things* t, const char* path, const weir_allocator* allocator) {
    const weir_device_desc desc = {
        .name = on_null ? "null" : "cpu", .thread_count = 3, .allocator = *allocator};
    const weir_storage_map_desc map = {.path = path, .advice = WEIR_ADVICE_WILL_NEED};
    WEIR_TRY(weir_device_create(&desc, &t->device));
    if (on_null) {
        weir_null_fail(t->device, null_fails, WEIR_DEVICE_OUT_OF_MEMORY);
    }
    return weir_storage_map(t->device, &map, &t->weights);
}

static weir_status record(things* t) {
    static float numbers[2 * WIDTH];
    const weir_shape shape = {1, {WIDTH}};
    const weir_storage_wrap_desc wrap = {.pointer = numbers, .byte_size = sizeof numbers};
    const weir_storage_desc lazy = {
        .byte_size = 3 << 20, .fill = WEIR_FILL_ZERO, .lazy = true, .huge_pages = true};
    weir_scratch scratch;
    weir_view views[4];
    numbers[0] = 0.0f;
    WEIR_TRY(weir_storage_map(
        t->device, &(weir_storage_map_desc){.path = "/proc/self/exe", .byte_size = 100}, &t->twin));
    WEIR_TRY(weir_storage_allocate(t->device, &lazy, &t->lazy));
    WEIR_TRY(weir_storage_wrap(t->device, &wrap, &t->foreign));
    WEIR_TRY(weir_storage_alias(t->foreign, 0, t->foreign, sizeof numbers / 2, sizeof numbers / 2));
    WEIR_TRY(weir_pool_create(t->device, &(weir_pool_desc){0}, &t->pool));
    WEIR_TRY(weir_pool_acquire(t->pool,
                               &(weir_scratch_desc){.byte_size = WIDTH * 4, .fill = WEIR_FILL_ZERO},
                               &scratch, NULL));
    weir_storage* storages[] = {t->weights, scratch.storage, t->lazy, t->foreign};
    WEIR_TRY(weir_session_create(t->device, &t->session));
    for (int i = 0; i < 4; i++) {
        WEIR_TRY(weir_view_make(storages[i], 0, WEIR_DTYPE_F32, &shape, &views[i]));
    }
    for (int i = 0; i < 3; i++) {
        const weir_operand operands[] = {{views[i], WEIR_ACCESS_READ},
                                         {views[i + 1], WEIR_ACCESS_READ_WRITE}};
        const weir_dispatch_desc desc = {
            .name = "add", .kernel = add, .operands = operands, .operand_count = 2};
        WEIR_TRY(weir_session_dispatch(t->session, &desc, NULL));
    }
    WEIR_TRY(weir_session_finish(t->session));
    WEIR_TRY(weir_pool_return(t->pool, &scratch));
    return expect(numbers[0], 1.0f);
}

static weir_status session_cycle(void* context, const weir_allocator* allocator) {
    things t = {0};
    weir_status status = open(&t, context, allocator);
    if (status == WEIR_OK) {
        status = record(&t);
    }
    release(&t);
    return status;
}

static weir_status compile(things* t, const weir_allocator* allocator) {
    const weir_shape x_shape = {2, {ROWS, WIDTH}}, w_shape = {2, {WIDTH, WIDTH}};
    weir_value x, y, z;
    weir_param rows;
    weir_binding binding = {0};
    WEIR_TRY(weir_graph_create(allocator, &t->graph));
    WEIR_TRY(weir_graph_param(t->graph, "rows", 1, ROWS, &rows));
    WEIR_TRY(weir_graph_input(t->graph, "x", WEIR_DTYPE_F32, &x_shape, rows, &x));
    WEIR_TRY(weir_graph_weight(t->graph, "w", WEIR_DTYPE_F32, &w_shape, &binding.value));
    WEIR_TRY(weir_graph_matmul(t->graph, x, binding.value, &y));
    WEIR_TRY(weir_graph_add(t->graph, x, y, &z));
    WEIR_TRY(weir_graph_output(t->graph, z));
    WEIR_TRY(weir_schedule_create(allocator, t->graph, weir_device_target(t->device), NULL,
                                  &t->schedule));
    WEIR_TRY(weir_view_make(t->weights, 0, WEIR_DTYPE_F32, &w_shape, &binding.view));
    const weir_program_desc desc = {
        .schedule = t->schedule, .bindings = &binding, .binding_count = 1};
    WEIR_TRY(weir_program_create(t->device, &desc, &t->program));
    static const float ones[WIDTH] = {1.0f, 1.0f};
    const uint64_t one = 1;
    WEIR_TRY(weir_program_write(t->program, x, ones, sizeof ones));
    WEIR_TRY(weir_program_run(t->program, &one, 1));
    return expect(*(const float*)weir_program_contents(t->program, z), 3.0f);
}

static weir_status program_cycle(void* context, const weir_allocator* allocator) {
    things t = {0};
    weir_status status = open(&t, context, allocator);
    if (status == WEIR_OK) {
        status = compile(&t, allocator);
    }
    release(&t);
    return status;
}

// x [rows, WIDTH] * transpose(w), w as f16, kept in a state, and added to x.
typedef struct kept_graph {
    weir_value x, w, kept, z;
} kept_graph;

static weir_status build(things* t, const weir_allocator* allocator, kept_graph* g) {
    const weir_shape rows_shape = {2, {ROWS, WIDTH}}, square = {2, {WIDTH, WIDTH}};
    weir_value y;
    weir_param rows, position;
    WEIR_TRY(weir_graph_create(allocator, &t->graph));
    WEIR_TRY(weir_graph_param(t->graph, "rows", 1, ROWS, &rows));
    WEIR_TRY(weir_graph_param(t->graph, "position", 0, 0, &position));
    WEIR_TRY(weir_graph_input(t->graph, "x", WEIR_DTYPE_F32, &rows_shape, rows, &g->x));
    WEIR_TRY(weir_graph_weight(t->graph, "w", WEIR_DTYPE_F16, &square, &g->w));
    WEIR_TRY(weir_graph_state(t->graph, "kept", WEIR_DTYPE_F32, &rows_shape, &g->kept));
    WEIR_TRY(weir_graph_matmul(t->graph, g->x, g->w, &y));
    WEIR_TRY(weir_graph_set_rows(t->graph, y, g->kept, position));
    WEIR_TRY(weir_graph_add(t->graph, g->x, y, &g->z));
    return weir_graph_output(t->graph, g->z);
}

// The schedule goes through a plan file.
static weir_status plan(things* t, const weir_allocator* allocator) {
    WEIR_TRY(weir_schedule_create(allocator, t->graph, weir_device_target(t->device), NULL,
                                  &t->schedule));
    WEIR_TRY(weir_plan_file_create(allocator, &t->file));
    WEIR_TRY(weir_plan_file_add(t->file, "kept", t->schedule));
    WEIR_TRY(
        weir_plan_file_load(t->file, "kept", t->graph, weir_device_target(t->device), &t->loaded));
    const weir_plan_result* result = weir_plan_result_of(weir_schedule_plan(t->loaded));
    return weir_arena_create_sized(t->device, result->peak > 0 ? result->peak : 1, &t->arena);
}

static weir_status bind(things* t, const kept_graph* g, weir_binding bindings[2]) {
    const weir_shape square = {2, {WIDTH, WIDTH}};
    const weir_state_desc state = {
        .dtype = WEIR_DTYPE_F32, .row = {1, {WIDTH}}, .row_count_max = ROWS};
    weir_view source;
    WEIR_TRY(weir_view_make(t->weights, 0, WEIR_DTYPE_F32, &square, &source));
    WEIR_TRY(weir_shadow_create(&source, &t->shadow));
    WEIR_TRY(weir_state_create(t->device, &state, &t->state));
    WEIR_TRY(weir_state_grow(t->state, ROWS));
    WEIR_TRY(weir_residency_register(t->set, t->weights, NULL));
    bindings[0].value = g->w;
    weir_shadow_view(t->shadow, &bindings[0].view);
    bindings[1].value = g->kept;
    return weir_state_view(t->state, 0, &bindings[1].view);
}

// Two passes in flight, the second with a weight that is bound anew.
static weir_status replay(things* t, const kept_graph* g, const weir_binding* weight) {
    static const float ones[WIDTH] = {1.0f, 1.0f};
    const uint64_t params[] = {1, 0};
    float z[WIDTH];
    weir_timing timings[4];
    uint32_t count = 0;
    weir_ticket tickets[2];
    weir_program_set_timing(t->program, true);
    for (int i = 0; i < 2; i++) {
        WEIR_TRY(weir_program_write(t->program, g->x, ones, sizeof ones));
        WEIR_TRY(weir_program_commit(t->program, params, 2, &tickets[i]));
        WEIR_TRY(weir_program_bind(t->program, weight, 1));
    }
    WEIR_TRY(weir_ticket_wait(tickets[0], WEIR_WAIT_FOREVER));
    WEIR_TRY(weir_ticket_wait(tickets[1], WEIR_WAIT_FOREVER));
    WEIR_TRY(weir_ticket_timings(tickets[1], timings, 4, &count));
    WEIR_TRY(weir_program_read(t->program, tickets[1], g->z, z, sizeof z));
    return expect(z[0], 3.0f);
}

static weir_status export_state(const weir_view* view) {
    weir_dl_versioned* tensor = NULL;
    WEIR_TRY(weir_dlpack_export(view, &tensor));
    tensor->deleter(tensor);
    return WEIR_OK;
}

static weir_status run_whole(things* t, const weir_allocator* allocator) {
    kept_graph g;
    weir_binding bindings[2] = {{0}};
    WEIR_TRY(weir_residency_create(t->device, &(weir_residency_desc){0}, &t->set));
    WEIR_TRY(build(t, allocator, &g));
    WEIR_TRY(plan(t, allocator));
    WEIR_TRY(bind(t, &g, bindings));
    const weir_program_desc desc = {.schedule = t->loaded,
                                    .bindings = bindings,
                                    .binding_count = 2,
                                    .arena = t->arena,
                                    .slot_count = 2};
    WEIR_TRY(weir_program_create(t->device, &desc, &t->program));
    WEIR_TRY(replay(t, &g, &bindings[0]));
    return export_state(&bindings[1].view);
}

static weir_status whole_cycle(void* context, const weir_allocator* allocator) {
    things t = {0};
    weir_status status = open(&t, context, allocator);
    if (status == WEIR_OK) {
        status = run_whole(&t, allocator);
    }
    release(&t);
    return status;
}

static void fail_in_turn(fault_cycle_fn cycle) {
    char path[64];
    size_t failures[FAULT_KINDS];
    write_ones(path);
    fail_each_in_turn(cycle, path, failures);
    unlink(path);
    print_failures(failures);
    assert_true(failures[FAULT_ALLOCATION] > 20);
    assert_true(failures[FAULT_MAPPING] >= 1);
    assert_int_equal(failures[FAULT_THREAD], 3);
}

static void sessions_survive_each_failure_of_the_system(void** state) {
    (void)state;
    fail_in_turn(session_cycle);
}

static void programs_survive_each_failure_of_the_system(void** state) {
    (void)state;
    fail_in_turn(program_cycle);
}

// With a plan file, an arena of the caller, a state, a shadow, residency, slots and bindings.
static void whole_programs_survive_each_failure_of_the_system(void** state) {
    (void)state;
    fail_in_turn(whole_cycle);
}

// Returns how many calls failed, and took the work with them.
static uint32_t fail_calls_of_null(fault_cycle_fn cycle, void* context) {
    uint32_t failures = 0;
    bool failed = false;
    on_null = true;
    for (null_fails = 0; null_fails < NULL_CALLS; null_fails++) {
        const weir_status status = run_cycle(cycle, context, FAULT_ALLOCATION, SIZE_MAX, &failed);
        if (status != WEIR_OK) {
            assert_int_equal(status, WEIR_DEVICE_OUT_OF_MEMORY);
            assert_message_has("fails because a test asked for it");
            failures++;
        }
    }
    assert_ok(run_cycle(cycle, context, FAULT_ALLOCATION, SIZE_MAX, &failed));
    on_null = false;
    return failures;
}

static void the_front_end_survives_each_failing_call_of_a_back_end(void** state) {
    (void)state;
    char path[64];
    write_ones(path);
    const uint32_t session = fail_calls_of_null(session_cycle, path);
    const uint32_t program = fail_calls_of_null(program_cycle, path);
    const uint32_t whole = fail_calls_of_null(whole_cycle, path);
    unlink(path);
    print_message("%u, %u and %u calls failed\n", session, program, whole);
    assert_in_range(session, 5, NULL_CALLS - 1);
    assert_in_range(program, 4, NULL_CALLS - 1);
    assert_in_range(whole, 6, NULL_CALLS - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_survive_each_failure_of_the_system),
        cmocka_unit_test(programs_survive_each_failure_of_the_system),
        cmocka_unit_test(whole_programs_survive_each_failure_of_the_system),
        cmocka_unit_test(the_front_end_survives_each_failing_call_of_a_back_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
