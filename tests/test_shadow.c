// f16 shadows of f32 weights: half the bytes, never stale. Where numbers are looked at it is on the
// CPU; what is dirty when is told on the null device, too.
#include "session_testing.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#define WIDTH 64
#define HEIGHT 33

// y [1, HEIGHT] = x [1, WIDTH] * transpose(w [HEIGHT, WIDTH]), w as f32 or f16.
typedef struct multiplication {
    weir_device* device;
    weir_graph* graph;
    weir_schedule* schedule;
    weir_program* program;
    weir_value x, y;
    float input[WIDTH];
} multiplication;

static weir_shape matrix_shape(void) {
    return weir_shape_make(2, (const int64_t[]){HEIGHT, WIDTH});
}

static multiplication compile(weir_device* device, const weir_view* weight) {
    multiplication m = {.device = device};
    weir_binding binding = {.view = *weight};
    const weir_shape row = weir_shape_make(2, (const int64_t[]){1, WIDTH});
    const weir_shape matrix = matrix_shape();
    assert_ok(weir_graph_create(NULL, &m.graph));
    assert_ok(weir_graph_input(m.graph, "x", WEIR_DTYPE_F32, &row, WEIR_PARAM_NONE, &m.x));
    assert_ok(weir_graph_weight(m.graph, "w", weight->dtype, &matrix, &binding.value));
    assert_ok(weir_graph_matmul(m.graph, m.x, binding.value, &m.y));
    assert_ok(weir_graph_output(m.graph, m.y));
    assert_ok(weir_schedule_create(NULL, m.graph, weir_device_target(device), NULL, &m.schedule));
    const weir_program_desc desc = {
        .schedule = m.schedule, .bindings = &binding, .binding_count = 1};
    assert_ok(weir_program_create(device, &desc, &m.program));
    for (int i = 0; i < WIDTH; i++) {
        m.input[i] = (float)(i % 7 - 3) * 0.25f;
    }
    return m;
}

static const float* run(const multiplication* m) {
    assert_ok(weir_program_write(m->program, m->x, m->input, sizeof m->input));
    assert_ok(weir_program_run(m->program, NULL, 0));
    return weir_program_contents(m->program, m->y);
}

static void discard(multiplication* m) {
    weir_program_destroy(m->program);
    weir_schedule_destroy(m->schedule);
    weir_graph_destroy(m->graph);
}

static weir_view matrix_of(weir_storage* storage) {
    const weir_shape matrix = matrix_shape();
    weir_view view;
    assert_ok(weir_view_make(storage, 0, WEIR_DTYPE_F32, &matrix, &view));
    return view;
}

static void fill(float* numbers, size_t count, uint64_t seed) {
    test_random random = {.state = seed};
    for (size_t i = 0; i < count; i++) {
        numbers[i] = random_unit(&random);
    }
}

// Fails unless y is x * w within what 11 bits of each weight allow.
static void assert_product(const multiplication* m, const float* weights, const float* y) {
    for (int i = 0; i < HEIGHT; i++) {
        double sum = 0;
        double magnitude = 0;
        for (int k = 0; k < WIDTH; k++) {
            const double term = (double)m->input[k] * (double)weights[i * WIDTH + k];
            sum += term;
            magnitude += fabs(term);
        }
        assert_true(fabs((double)y[i] - sum) <= magnitude * 0x1p-11 + 1e-6);
    }
}

static weir_status negate(const weir_kernel_call* call) {
    float* numbers = call->pointers[0];
    for (int64_t i = 0; i < weir_view_element_count(&call->views[0]); i++) {
        numbers[i] = -numbers[i];
    }
    return WEIR_OK;
}

// Not waited for: the order of passes does it.
static weir_ticket run_kernel(weir_device* device, weir_kernel_fn kernel, const weir_view* view,
                              bool undeclared) {
    weir_session* session = NULL;
    const weir_operand operand = {.view = *view, .kind = WEIR_ACCESS_READ_WRITE};
    const weir_dispatch_desc desc = {
        .kernel = kernel, .operands = &operand, .operand_count = 1, .undeclared = undeclared};
    weir_ticket ticket;
    assert_ok(weir_session_create(device, &session));
    assert_ok(weir_session_dispatch(session, &desc, NULL));
    assert_ok(weir_session_commit(session, &ticket));
    weir_session_destroy(session);
    return ticket;
}

static void a_shadow_is_read_in_half_the_bytes_and_is_never_stale(void** state) {
    (void)state;
    weir_device* device = open_device("cpu", 2, NULL);
    weir_storage* storage = allocate_zeros(device, sizeof(float) * WIDTH * HEIGHT);
    const weir_view weight = matrix_of(storage);
    float* numbers = weir_view_contents(&weight);
    fill(numbers, WIDTH * HEIGHT, 1);
    weir_shadow* shadow = NULL;
    weir_view halves;
    assert_ok(weir_shadow_create(&weight, &shadow));
    weir_shadow_view(shadow, &halves);
    assert_int_equal(halves.dtype, WEIR_DTYPE_F16);
    assert_true(weir_shape_equal(&halves.shape, &weight.shape));
    multiplication plain = compile(device, &weight);
    multiplication light = compile(device, &halves);
    run(&plain);
    assert_product(&light, numbers, run(&light));
    const uint64_t weight_bytes = sizeof(float) * WIDTH * HEIGHT;
    assert_int_equal(weir_program_counters(plain.program)->bytes_read -
                         weir_program_counters(light.program)->bytes_read,
                     weight_bytes / 2);
    assert_int_equal(weir_shadow_counted(shadow).conversions, 1);
    run(&light); // nothing was written: nothing is converted
    assert_int_equal(weir_shadow_counted(shadow).conversions, 1);

    void* elements = NULL;
    int64_t count = 0;
    assert_ok(weir_view_write(&weight, WEIR_DTYPE_F32, &elements, &count)); // by the host
    fill(elements, WIDTH * HEIGHT, 2);
    assert_product(&light, numbers, run(&light));
    run_kernel(device, negate, &weight, false); // by the device
    assert_product(&light, numbers, run(&light));
    run_kernel(device, negate, &weight, true); // by somebody who does not say so
    assert_product(&light, numbers, run(&light));
    assert_int_equal(weir_shadow_counted(shadow).conversions, 4);
    numbers[5] = 77; // past weir
    weir_shadow_mark(shadow);
    assert_product(&light, numbers, run(&light));
    discard(&plain);
    discard(&light);
    weir_shadow_destroy(shadow);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static void without_shadows_nothing_is_taken(void** state) {
    test_allocator counter = {.fail_at = SIZE_MAX};
    weir_device* device = open_device(*state, 1, &counter);
    weir_plan* plan = NULL;
    const weir_plan_buffer buffer = {.byte_size = 1000};
    const weir_plan_problem problem = {.buffers = &buffer, .buffer_count = 1};
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    const weir_twin modes[] = {WEIR_TWIN_NONE, WEIR_TWIN_NATIVE, WEIR_TWIN_ALWAYS};
    size_t taken[3];
    for (int i = 0; i < 3; i++) {
        weir_arena* arena = NULL;
        weir_view view;
        const weir_shape shape = weir_shape_make(1, (const int64_t[]){10});
        const size_t before = atomic_load(&counter.live_bytes);
        const weir_arena_desc desc = {.plan = plan, .twin = modes[i]};
        assert_ok(weir_arena_create_with(device, &desc, &arena));
        taken[i] = atomic_load(&counter.live_bytes) - before;
        // The CPU has no use for 16-bit floats but their size: off unless asked for.
        const bool has_twin = modes[i] == WEIR_TWIN_ALWAYS;
        assert_int_equal(weir_arena_twin_bytes(arena), has_twin ? 500 : 0);
        assert_status(weir_arena_twin_view(arena, 0, &shape, &view),
                      has_twin ? WEIR_OK : WEIR_NOT_FOUND);
        weir_arena_destroy(arena);
    }
    assert_int_equal(taken[0], taken[1]);
    assert_true(taken[2] >= taken[0] + 500);
    weir_plan_destroy(plan);
    weir_device_destroy(device);
}

static void large_values_saturate_and_odd_counts_are_padded(void** state) {
    (void)state;
    const float numbers[7] = {1.5f, 65504.0f, 65520.0f, -1e30f, (float)INFINITY, -0.0f, 0x1p-25f};
    const uint16_t expected[8] = {0x3E00, 0x7BFF, 0x7BFF, 0xFBFF, 0x7C00, 0x8000, 0x0000, 0};
    weir_device* device = open_device("cpu", 1, NULL);
    weir_storage* storage = allocate_zeros(device, sizeof numbers);
    const weir_view source = floats_of(storage, 0, 7);
    memcpy(weir_view_contents(&source), numbers, sizeof numbers);
    weir_shadow* shadow = NULL;
    weir_ticket ticket;
    weir_view halves;
    const void* seen = NULL;
    int64_t count = 0;
    assert_ok(weir_shadow_create(&source, &shadow));
    weir_shadow_view(shadow, &halves);
    assert_status(weir_view_read(&halves, WEIR_DTYPE_F16, &seen, &count), WEIR_BUSY);
    assert_true(weir_shadow_is_dirty(shadow));
    assert_ok(weir_shadow_refresh(shadow, &ticket));
    assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    assert_false(weir_shadow_is_dirty(shadow));
    assert_ok(weir_view_read(&halves, WEIR_DTYPE_F16, &seen, &count));
    assert_int_equal(count, 7);
    assert_int_equal(weir_storage_byte_size(halves.storage), 16); // the padding counts
    assert_memory_equal(seen, expected, sizeof expected);
    const weir_shadow_counters counted = weir_shadow_counted(shadow);
    assert_int_equal(counted.byte_size, 16);
    assert_int_equal(counted.saturated, 2);
    assert_int_equal(counted.conversions, 1);
    ((float*)weir_view_contents(&source))[0] = (float)NAN;
    weir_shadow_mark(shadow);
    assert_ok(weir_shadow_refresh(shadow, &ticket));
    assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    assert_true((*(const uint16_t*)seen & 0x7FFF) > 0x7C00);
    weir_shadow_destroy(shadow);
    weir_shadow_destroy(NULL);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static void only_writes_to_the_source_make_it_dirty(void** state) {
    weir_device* device = open_device(*state, 1, NULL);
    weir_storage* storage = allocate_zeros(device, 1024);
    const weir_view source = floats_of(storage, 256, 64);
    weir_shadow* shadow = NULL;
    weir_ticket ticket;
    void* elements = NULL;
    const void* seen = NULL;
    int64_t count = 0;
    assert_ok(weir_shadow_create(&source, &shadow));
    assert_ok(weir_shadow_refresh(shadow, &ticket));
    assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    const weir_view before = floats_of(storage, 0, 64);
    const weir_view behind = floats_of(storage, 512, 64);
    const weir_view last = floats_of(storage, 508, 2);
    assert_ok(weir_ticket_wait(run_kernel(device, negate, &before, false), WEIR_WAIT_FOREVER));
    assert_ok(weir_ticket_wait(run_kernel(device, negate, &behind, false), WEIR_WAIT_FOREVER));
    assert_ok(weir_view_write(&before, WEIR_DTYPE_F32, &elements, &count));
    assert_ok(weir_view_read(&source, WEIR_DTYPE_F32, &seen, &count));
    assert_false(weir_shadow_is_dirty(shadow));
    run_kernel(device, negate, &last, false); // the last element
    assert_true(weir_shadow_is_dirty(shadow));
    assert_ok(weir_shadow_refresh(shadow, &ticket));
    assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    // Another handle on the same bytes.
    weir_storage* wrap = NULL;
    const weir_storage_wrap_desc desc = {.pointer = weir_view_contents(&source), .byte_size = 256};
    assert_ok(weir_storage_wrap(device, &desc, &wrap));
    const weir_view alias = floats_of(wrap, 0, 1);
    assert_ok(weir_view_write(&alias, WEIR_DTYPE_F32, &elements, &count));
    assert_true(weir_shadow_is_dirty(shadow));
    weir_storage_release(wrap);
    weir_shadow_destroy(shadow);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

// One memory at two addresses, which only the declaration tells.
static void writes_through_a_declared_alias_are_noted(void** state) {
    weir_device* device = open_device(*state, 1, NULL);
    const int file = memfd_create("weir", 0);
    assert_true(file >= 0 && ftruncate(file, 4096) == 0);
    void* pages[2];
    weir_storage* storages[2];
    for (int i = 0; i < 2; i++) {
        pages[i] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        assert_true(pages[i] != MAP_FAILED);
        const weir_storage_wrap_desc desc = {.pointer = pages[i], .byte_size = 4096};
        assert_ok(weir_storage_wrap(device, &desc, &storages[i]));
    }
    assert_ok(weir_storage_alias(storages[0], 0, storages[1], 0, 4096));
    const weir_view source = floats_of(storages[0], 64, 16);
    const weir_view alias = floats_of(storages[1], 64, 16);
    const weir_view beside = floats_of(storages[1], 128, 16);
    weir_shadow* shadow = NULL;
    weir_ticket ticket;
    void* elements = NULL;
    int64_t count = 0;
    assert_ok(weir_shadow_create(&source, &shadow));
    assert_ok(weir_shadow_refresh(shadow, &ticket));
    assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    assert_ok(weir_view_write(&beside, WEIR_DTYPE_F32, &elements, &count));
    assert_ok(weir_ticket_wait(run_kernel(device, negate, &beside, false), WEIR_WAIT_FOREVER));
    assert_false(weir_shadow_is_dirty(shadow));
    assert_ok(weir_view_write(&alias, WEIR_DTYPE_F32, &elements, &count));
    assert_true(weir_shadow_is_dirty(shadow));
    assert_ok(weir_shadow_refresh(shadow, &ticket));
    assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    assert_ok(weir_ticket_wait(run_kernel(device, negate, &alias, false), WEIR_WAIT_FOREVER));
    assert_true(weir_shadow_is_dirty(shadow));
    weir_shadow_destroy(shadow);
    for (int i = 0; i < 2; i++) {
        weir_storage_release(storages[i]);
        munmap(pages[i], 4096);
    }
    close(file);
    weir_device_destroy(device);
}

static void bad_sources_are_refused(void** state) {
    weir_device* device = open_device(*state, 1, NULL);
    weir_storage* storage = allocate_zeros(device, 256);
    weir_shadow* shadow = NULL;
    weir_view view = floats_of(storage, 0, 64);
    view.dtype = WEIR_DTYPE_I32;
    assert_status(weir_shadow_create(&view, &shadow), WEIR_INVALID_ARGUMENT);
    view = floats_of(storage, 0, 0);
    assert_status(weir_shadow_create(&view, &shadow), WEIR_INVALID_ARGUMENT);
    view = floats_of(storage, 0, 64);
    view.byte_offset = 4;
    assert_status(weir_shadow_create(&view, &shadow), WEIR_OUT_OF_RANGE);
    view.storage = NULL;
    assert_status(weir_shadow_create(&view, &shadow), WEIR_INVALID_ARGUMENT);
    assert_null(shadow);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static void the_twin_keeps_half_the_offset_and_follows_writes(void** state) {
    (void)state;
    enum { BYTES = sizeof(float) * WIDTH * HEIGHT };
    weir_device* device = open_device("cpu", 2, NULL);
    weir_plan* plan = NULL;
    weir_arena* arena = NULL;
    const weir_plan_buffer buffers[] = {{.byte_size = 100}, {.byte_size = BYTES}};
    const weir_plan_problem problem = {.buffers = buffers, .buffer_count = 2, .alignment = 64};
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    const weir_arena_desc desc = {.plan = plan, .twin = WEIR_TWIN_ALWAYS};
    assert_ok(weir_arena_create_with(device, &desc, &arena));
    static float numbers[WIDTH * HEIGHT];
    weir_view halves;
    weir_arena_node node;
    const weir_shape matrix = matrix_shape();
    assert_ok(weir_arena_get(arena, 1, &node));
    assert_ok(weir_arena_twin_view(arena, 1, &matrix, &halves));
    assert_int_equal(halves.byte_offset, node.byte_offset / 2);
    const weir_shape larger = weir_shape_make(1, (const int64_t[]){WIDTH * HEIGHT + 1});
    assert_status(weir_arena_twin_view(arena, 1, &larger, &halves), WEIR_OUT_OF_RANGE);
    assert_status(weir_arena_twin_view(arena, 2, &matrix, &halves), WEIR_NOT_FOUND);

    multiplication light = compile(device, &halves);
    fill(numbers, WIDTH * HEIGHT, 3);
    assert_ok(weir_arena_write(arena, 1, WEIR_DTYPE_F32, 0, numbers, WIDTH * HEIGHT));
    assert_product(&light, numbers, run(&light));
    numbers[WIDTH] = 3; // written together from now on: both are there without a conversion
    assert_ok(weir_arena_write(arena, 1, WEIR_DTYPE_F32, WIDTH, &numbers[WIDTH], 1));
    const void* seen = NULL;
    int64_t count = 0;
    assert_ok(weir_view_read(&halves, WEIR_DTYPE_F16, &seen, &count));
    assert_int_equal(((const uint16_t*)seen)[WIDTH], 0x4200);
    assert_product(&light, numbers, run(&light));
    numbers[2] = -9; // raw bytes and passes mark it
    assert_ok(weir_arena_write_bytes(arena, 1, 8, &numbers[2], 4));
    assert_status(weir_view_read(&halves, WEIR_DTYPE_F16, &seen, &count), WEIR_BUSY);
    assert_product(&light, numbers, run(&light));
    weir_view whole;
    assert_ok(weir_arena_node_view(arena, 1, WEIR_DTYPE_F32, &matrix, &whole));
    run_kernel(device, negate, &whole, false);
    const float* y = run(&light);
    for (int i = 0; i < WIDTH * HEIGHT; i++) {
        numbers[i] = -numbers[i];
    }
    assert_product(&light, numbers, y);
    discard(&light);
    weir_arena_destroy(arena);
    weir_plan_destroy(plan);
    weir_device_destroy(device);
}

static weir_status use_shadow(weir_storage* storage, weir_shadow** shadow) {
    const weir_view source = floats_of(storage, 0, 7);
    weir_ticket ticket;
    WEIR_TRY(weir_shadow_create(&source, shadow));
    WEIR_TRY(weir_shadow_refresh(*shadow, &ticket));
    return weir_ticket_wait(ticket, WEIR_WAIT_FOREVER);
}

static void each_allocation_may_fail(void** state) {
    for (size_t fail_at = 0;; fail_at++) {
        assert_true(fail_at < 100);
        test_allocator counter = {.fail_at = SIZE_MAX};
        weir_device* device = open_device(*state, 1, &counter);
        weir_storage* storage = allocate_zeros(device, 64);
        weir_shadow* shadow = NULL;
        counter.fail_at = atomic_load(&counter.calls) + fail_at;
        const weir_status status = use_shadow(storage, &shadow);
        counter.fail_at = SIZE_MAX;
        weir_shadow_destroy(shadow);
        weir_storage_release(storage);
        weir_device_destroy(device);
        assert_int_equal(atomic_load(&counter.live_bytes), 0);
        if (status == WEIR_OK) {
            assert_true(fail_at >= 4);
            break;
        }
        assert_int_equal(status, WEIR_OUT_OF_MEMORY);
    }
}

static void a_refused_conversion_leaves_the_shadow_dirty(void** state) {
    (void)state;
    weir_device* device = open_device("null", 1, NULL);
    weir_storage* storage = allocate_zeros(device, 64);
    const weir_view source = floats_of(storage, 0, 16);
    weir_shadow* shadow = NULL;
    weir_ticket ticket;
    assert_ok(weir_shadow_create(&source, &shadow));
    weir_null_fail(device, 0, WEIR_DEVICE_OUT_OF_MEMORY);
    assert_status(weir_shadow_refresh(shadow, &ticket), WEIR_DEVICE_OUT_OF_MEMORY);
    assert_true(weir_shadow_is_dirty(shadow));
    assert_int_equal(weir_shadow_counted(shadow).conversions, 0);
    assert_ok(weir_shadow_refresh(shadow, &ticket));
    assert_false(weir_shadow_is_dirty(shadow));
    weir_shadow_destroy(shadow);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

// One thread writes the weight by passes, another multiplies by the shadow: each result is that of
// some whole weight, never of a mixture, and the last one that of the last write.
typedef struct writer {
    weir_device* device;
    weir_view weight;
} writer;

static weir_status set_all(const weir_kernel_call* call) {
    float* numbers = call->pointers[0];
    for (int64_t i = 0; i < weir_view_element_count(&call->views[0]); i++) {
        numbers[i] = *(const float*)call->constants;
    }
    return WEIR_OK;
}

static void* write_weights(void* context) {
    const writer* w = context;
    weir_session* session = NULL;
    assert_ok(weir_session_create(w->device, &session));
    for (int i = 1; i <= 200; i++) {
        const float constant = (float)i;
        const weir_operand operand = {.view = w->weight, .kind = WEIR_ACCESS_WRITE};
        const weir_dispatch_desc desc = {.kernel = set_all,
                                         .operands = &operand,
                                         .operand_count = 1,
                                         .constants = &constant,
                                         .constants_size = sizeof constant};
        weir_ticket ticket;
        assert_ok(weir_session_dispatch(session, &desc, NULL));
        assert_ok(weir_session_commit(session, &ticket));
    }
    weir_session_destroy(session);
    return NULL;
}

static void threads_write_and_read_without_mixing(void** state) {
    (void)state;
    weir_device* device = open_device("cpu", 2, NULL);
    weir_storage* storage = allocate_zeros(device, sizeof(float) * WIDTH * HEIGHT);
    writer w = {.device = device, .weight = matrix_of(storage)};
    weir_shadow* shadow = NULL;
    weir_view halves;
    pthread_t thread;
    assert_ok(weir_shadow_create(&w.weight, &shadow));
    weir_shadow_view(shadow, &halves);
    multiplication m = compile(device, &halves);
    for (int i = 0; i < WIDTH; i++) {
        m.input[i] = 1.0f / WIDTH;
    }
    assert_int_equal(pthread_create(&thread, NULL, write_weights, &w), 0);
    float last = 0;
    for (int i = 0; i < 100; i++) {
        const float* y = run(&m);
        for (int k = 1; k < HEIGHT; k++) {
            assert_true(y[k] == y[0]);
        }
        assert_true(y[0] >= last);
        last = y[0];
    }
    pthread_join(thread, NULL);
    assert_true(run(&m)[0] == 200.0f);
    discard(&m);
    weir_shadow_destroy(shadow);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shadow_is_read_in_half_the_bytes_and_is_never_stale),
        ON_BOTH(without_shadows_nothing_is_taken),
        cmocka_unit_test(large_values_saturate_and_odd_counts_are_padded),
        ON_BOTH(only_writes_to_the_source_make_it_dirty),
        ON_BOTH(writes_through_a_declared_alias_are_noted),
        ON_BOTH(bad_sources_are_refused),
        cmocka_unit_test(the_twin_keeps_half_the_offset_and_follows_writes),
        ON_BOTH(each_allocation_may_fail),
        cmocka_unit_test(a_refused_conversion_leaves_the_shadow_dirty),
        cmocka_unit_test(threads_write_and_read_without_mixing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
