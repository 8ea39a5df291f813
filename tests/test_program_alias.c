// Programs whose bindings share bytes: ordered so that passes give what they would give apart, or
// refused.
#include "program_testing.h"

#define ROWS 8
#define WIDTH 32
#define ROW_BYTES (WIDTH * sizeof(float))

// A graph under construction, its program and one storage of 64 rows that all bindings lie in.
typedef struct subject {
    weir_device* device;
    weir_graph* graph;
    weir_schedule* schedule;
    weir_program* program;
    weir_storage* storage;
    weir_storage* weight_bytes;
    weir_value x, w;
    weir_binding bindings[16];
    uint32_t binding_count;
} subject;

static subject open_subject(uint32_t threads) {
    subject s = {.device = open_device("cpu", threads, NULL)};
    test_random random = {301};
    const weir_shape shape = shape2(ROWS, WIDTH);
    const weir_shape square = shape2(WIDTH, WIDTH);
    assert_ok(weir_graph_create(NULL, &s.graph));
    assert_ok(weir_graph_input(s.graph, "x", WEIR_DTYPE_F32, &shape, WEIR_PARAM_NONE, &s.x));
    assert_ok(weir_graph_weight(s.graph, "w", WEIR_DTYPE_F32, &square, &s.w));
    s.storage = random_floats(s.device, &random, 64 * WIDTH, 1.0f);
    s.weight_bytes = random_floats(s.device, &random, WIDTH * WIDTH, 0.3f);
    s.bindings[0] = (weir_binding){s.w, view_of(s.weight_bytes, WEIR_DTYPE_F32, square)};
    s.binding_count = 1;
    return s;
}

static void close_subject(subject* s) {
    weir_program_destroy(s->program);
    weir_schedule_destroy(s->schedule);
    weir_graph_destroy(s->graph);
    weir_storage_release(s->storage);
    weir_storage_release(s->weight_bytes);
    weir_device_destroy(s->device);
}

// The binding of a value to rows of the storage, from `row` on.
static weir_binding at_row(const subject* s, weir_value value, uint64_t row) {
    const weir_value_info* info = weir_graph_value_info(s->graph, value);
    weir_binding binding = {.value = value};
    assert_ok(weir_view_make(s->storage, row * ROW_BYTES, WEIR_DTYPE_F32, &info->layout.shape,
                             &binding.view));
    return binding;
}

static void add_at(subject* s, weir_value value, uint64_t row) {
    s->bindings[s->binding_count++] = at_row(s, value, row);
}

static weir_value named_output(subject* s, weir_value value, const char* name) {
    assert_ok(weir_graph_name(s->graph, value, name));
    assert_ok(weir_graph_output(s->graph, value));
    return value;
}

static weir_status make_program(subject* s, weir_schedule_options options) {
    s->schedule = schedule_of(s->graph, options);
    const weir_program_desc desc = {
        .schedule = s->schedule, .bindings = s->bindings, .binding_count = s->binding_count};
    return weir_program_create(s->device, &desc, &s->program);
}

// Runs a pass and keeps an output of it.
static void run_pass(const subject* s, weir_value output, float* bytes) {
    assert_ok(weir_program_run(s->program, NULL, 0));
    assert_ok(weir_program_read(s->program, (weir_ticket){0}, output, bytes, ROWS * ROW_BYTES));
}

// x <- norm(x), while two other branches read x; the graph names the one that writes first.
static void readers_of_an_input_come_before_who_overwrites_it(void** state) {
    (void)state;
    subject s = open_subject(4);
    atomic_uint calls = 0;
    weir_value y = WEIR_VALUE_NONE;
    weir_value z = WEIR_VALUE_NONE;
    weir_value v[3];
    assert_ok(weir_graph_rms_norm(s.graph, s.x, 1e-5f, &y));
    assert_ok(weir_graph_matmul(s.graph, s.x, s.w, &v[0]));
    assert_ok(weir_graph_mul(s.graph, s.x, v[0], &v[1]));
    assert_ok(weir_graph_add(s.graph, v[1], v[0], &z));
    named_output(&s, y, "y");
    named_output(&s, z, "z");
    add_at(&s, s.x, 0);
    assert_ok(make_program(&s, (weir_schedule_options){0}));
    float* rows = weir_storage_host_pointer(s.storage);
    float x[ROWS * WIDTH];
    float apart[2][ROWS * WIDTH];
    float shared[2][ROWS * WIDTH];
    memcpy(x, rows, sizeof x);
    run_pass(&s, y, apart[0]);
    assert_ok(weir_program_read(s.program, (weir_ticket){0}, z, apart[1], sizeof apart[1]));
    assert_memory_equal(x, rows, sizeof x);
    const uint64_t waits = weir_program_counters(s.program)->waits;
    const weir_binding over = at_row(&s, y, 0);
    const weir_binding back = {.value = y};
    assert_ok(weir_device_set_tile_hook(s.device, delay_some_tiles, &calls));
    for (uint32_t i = 0; i < 30; i++) {
        memcpy(rows, x, sizeof x);
        assert_ok(weir_program_bind(s.program, i % 3 == 2 ? &back : &over, 1));
        run_pass(&s, y, shared[0]);
        assert_ok(weir_program_read(s.program, (weir_ticket){0}, z, shared[1], sizeof shared[1]));
        assert_memory_equal(shared[0], apart[0], sizeof shared[0]);
        assert_memory_equal(shared[1], apart[1], sizeof shared[1]);
        assert_memory_equal(rows, i % 3 == 2 ? x : apart[0], sizeof x);
    }
    assert_true(weir_program_counters(s.program)->waits >= 31 * waits);
    close_subject(&s);
}

static void expect_refusal(subject* s, weir_value output, uint64_t row, const char* part) {
    const weir_binding over = at_row(s, output, row);
    float before[ROWS * WIDTH];
    float after[ROWS * WIDTH];
    run_pass(s, output, before);
    assert_status(weir_program_bind(s->program, &over, 1), WEIR_INVALID_ARGUMENT);
    assert_message_has(part);
    run_pass(s, output, after); // as before
    assert_memory_equal(before, after, sizeof before);
}

static void what_no_order_can_help_is_refused(void** state) {
    (void)state;
    subject s = open_subject(2);
    weir_value product = WEIR_VALUE_NONE;
    weir_value normed = WEIR_VALUE_NONE;
    weir_value sum = WEIR_VALUE_NONE;
    assert_ok(weir_graph_matmul(s.graph, s.x, s.w, &product));
    assert_ok(weir_graph_rms_norm(s.graph, s.x, 1e-5f, &normed));
    assert_ok(weir_graph_add(s.graph, normed, s.x, &sum)); // reads x once y is there
    named_output(&s, product, "product");
    named_output(&s, normed, "normed");
    named_output(&s, sum, "sum");
    add_at(&s, s.x, 0);
    add_at(&s, sum, 40);
    assert_ok(make_program(&s, (weir_schedule_options){0}));
    expect_refusal(&s, product, 0,
                   "output product and input x are bound to the same bytes: matmul product reads");
    expect_refusal(&s, normed, 0, "would have to run before rms_norm normed");
    expect_refusal(&s, normed, 1,
                   "rms_norm normed reads the one"); // not the same bytes: not in place either
    expect_refusal(&s, normed, 44, "output normed and output sum");
    close_subject(&s);
}

static void a_weight_is_never_overwritten(void** state) {
    (void)state;
    subject s = open_subject(1);
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_matmul(s.graph, s.x, s.w, &y));
    named_output(&s, y, "y");
    s.binding_count = 0;
    add_at(&s, s.w, 0);
    add_at(&s, s.x, 32);
    add_at(&s, y, 28);
    assert_status(make_program(&s, (weir_schedule_options){0}), WEIR_INVALID_ARGUMENT);
    assert_message_has("output y and weight w are bound to the same bytes");
    close_subject(&s);
}

// The state is read, overwritten by way of an output, read again, and written by set_rows at last,
// where nothing of the output lies.
static weir_value mixed_graph(subject* s, weir_value outputs[2], weir_value* kept) {
    const weir_shape cache = shape2(24, WIDTH);
    weir_attention_desc attention = {.heads = 4, .kv_heads = 4, .head_dim = 8};
    weir_param low = WEIR_PARAM_NONE;
    weir_value v[4];
    assert_ok(weir_graph_param(s->graph, "last", 15, 15, &attention.position));
    assert_ok(weir_graph_param(s->graph, "low", 16, 16, &low));
    assert_ok(weir_graph_state(s->graph, "kept", WEIR_DTYPE_F32, &cache, kept));
    assert_ok(weir_graph_attention(s->graph, s->x, *kept, *kept, &attention, &v[0]));
    assert_ok(weir_graph_rms_norm(s->graph, s->x, 1e-5f, &outputs[0]));
    assert_ok(weir_graph_attention(s->graph, s->x, *kept, *kept, &attention, &v[1]));
    assert_ok(weir_graph_add(s->graph, v[0], v[1], &outputs[1]));
    assert_ok(weir_graph_set_rows(s->graph, v[0], *kept, low));
    named_output(s, outputs[0], "row");
    return named_output(s, outputs[1], "sum");
}

// The reference runs all operations one after another on one thread, in the order of the graph.
static void an_output_over_a_state_is_written_in_the_order_of_the_graph(void** state) {
    (void)state;
    subject subjects[3];
    weir_value outputs[2];
    weir_value kept = WEIR_VALUE_NONE;
    float results[3][ROWS * WIDTH];
    atomic_uint calls = 0;
    for (uint32_t i = 0; i < 3; i++) {
        subject* s = &subjects[i];
        *s = open_subject(i == 0 ? 1 : 4);
        mixed_graph(s, outputs, &kept);
        add_at(s, s->x, 40);
        add_at(s, kept, 0);
        if (i < 2) {
            add_at(s, outputs[0], 4);
        }
        assert_ok(make_program(s, (weir_schedule_options){.fence_all = i == 0}));
    }
    assert_ok(weir_device_set_tile_hook(subjects[1].device, delay_some_tiles, &calls));
    for (uint32_t pass = 0; pass < 20; pass++) {
        for (uint32_t i = 0; i < 3; i++) {
            assert_ok(weir_program_run(subjects[i].program, (uint64_t[]){15, 16}, 2));
            assert_ok(weir_program_read(subjects[i].program, (weir_ticket){0}, outputs[1],
                                        results[i], sizeof results[i]));
        }
        assert_memory_equal(results[0], results[1], sizeof results[0]);
        assert_memory_equal(weir_storage_host_pointer(subjects[0].storage),
                            weir_storage_host_pointer(subjects[1].storage), 64 * ROW_BYTES);
        assert_memory_not_equal(results[0], results[2], sizeof results[0]); // it does matter
    }
    for (uint32_t i = 0; i < 3; i++) {
        close_subject(&subjects[i]);
    }
}

// set_rows writes at row 16 and after: an output there would not survive.
static void an_output_that_a_state_overwrites_is_refused(void** state) {
    (void)state;
    subject s = open_subject(1);
    weir_value outputs[2];
    weir_value kept = WEIR_VALUE_NONE;
    mixed_graph(&s, outputs, &kept);
    add_at(&s, s.x, 40);
    add_at(&s, kept, 0);
    add_at(&s, outputs[0], 12);
    assert_status(make_program(&s, (weir_schedule_options){0}), WEIR_INVALID_ARGUMENT);
    assert_message_has("output row and state kept");
    assert_message_has("overwritten within the pass");
    close_subject(&s);
}

// The rows of an output that two operations make together: at which place is no longer known.
static void what_fusion_has_hidden_is_refused(void** state) {
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        subject s = open_subject(1);
        weir_attention_desc attention = {.heads = 4, .kv_heads = 4, .head_dim = 8};
        const weir_shape cache = shape2(24, WIDTH);
        weir_value kept = WEIR_VALUE_NONE;
        weir_value v[2];
        weir_value y = WEIR_VALUE_NONE;
        assert_ok(weir_graph_param(s.graph, "position", 15, 15, &attention.position));
        assert_ok(weir_graph_state(s.graph, "kept", WEIR_DTYPE_F32, &cache, &kept));
        assert_ok(weir_graph_matmul(s.graph, s.x, s.w, &v[0]));
        assert_ok(weir_graph_attention(s.graph, s.x, kept, kept, &attention, &v[1]));
        assert_ok(weir_graph_add(s.graph, v[0], s.x, &y));
        named_output(&s, y, "y");
        named_output(&s, v[1], "z");
        add_at(&s, s.x, 40);
        add_at(&s, kept, 0);
        add_at(&s, y, 4);
        if (i == 0) {
            assert_status(make_program(&s, (weir_schedule_options){0}), WEIR_INVALID_ARGUMENT);
            assert_message_has("were fused");
        } else {
            assert_ok(
                make_program(&s, (weir_schedule_options){.without_fusions = WEIR_FUSION_ALL}));
        }
        close_subject(&s);
    }
}

static void two_states_on_the_same_bytes_are_written_in_the_order_of_the_graph(void** state) {
    (void)state;
    subject subjects[2];
    atomic_uint calls = 0;
    weir_value y = WEIR_VALUE_NONE;
    const weir_shape cache = shape2(24, WIDTH);
    for (uint32_t i = 0; i < 2; i++) {
        subject* s = &subjects[i];
        *s = open_subject(i == 0 ? 1 : 4);
        weir_attention_desc attention = {.heads = 4, .kv_heads = 4, .head_dim = 8};
        weir_param position = WEIR_PARAM_NONE;
        weir_value states[2];
        weir_value normed = WEIR_VALUE_NONE;
        assert_ok(weir_graph_param(s->graph, "position", 0, 16, &position));
        attention.position = position;
        for (uint32_t k = 0; k < 2; k++) {
            assert_ok(
                weir_graph_state(s->graph, k ? "b" : "a", WEIR_DTYPE_F32, &cache, &states[k]));
        }
        assert_ok(weir_graph_rms_norm(s->graph, s->x, 1e-5f, &normed));
        assert_ok(weir_graph_set_rows(s->graph, s->x, states[0], position));
        assert_ok(weir_graph_set_rows(s->graph, normed, states[1], position));
        assert_ok(weir_graph_attention(s->graph, s->x, states[0], states[1], &attention, &y));
        named_output(s, y, "y");
        add_at(s, s->x, 40);
        add_at(s, states[0], 0);
        add_at(s, states[1], 4);
        assert_ok(make_program(s, (weir_schedule_options){.fence_all = i == 0}));
    }
    assert_ok(weir_device_set_tile_hook(subjects[1].device, delay_some_tiles, &calls));
    for (uint64_t pass = 0; pass < 30; pass++) {
        float results[2][ROWS * WIDTH];
        for (uint32_t i = 0; i < 2; i++) {
            assert_ok(weir_program_run(subjects[i].program, (uint64_t[]){pass % 17}, 1));
            assert_ok(weir_program_read(subjects[i].program, (weir_ticket){0}, y, results[i],
                                        sizeof results[i]));
        }
        assert_memory_equal(results[0], results[1], sizeof results[0]);
        assert_memory_equal(weir_storage_host_pointer(subjects[0].storage),
                            weir_storage_host_pointer(subjects[1].storage), 64 * ROW_BYTES);
    }
    close_subject(&subjects[0]);
    close_subject(&subjects[1]);
}

static weir_view rows_of(weir_storage* storage) {
    const weir_shape shape = shape2(8, WIDTH);
    weir_view view;
    assert_ok(weir_view_make(storage, 0, WEIR_DTYPE_F32, &shape, &view));
    return view;
}

static void another_order_comes_with_the_next_pass(void** state) {
    const small* s = *state;
    weir_ticket ticket;
    weir_view output;
    weir_storage* storage = allocate_zeros(s->device, 8 * ROW_BYTES);
    const weir_binding both[] = {{s->x, rows_of(storage)}, {s->y, rows_of(storage)}};
    const weir_binding back[] = {{.value = s->x}, {.value = s->y}};
    write_zeros(s, s->program, 8);
    assert_ok(weir_program_commit(s->program, (uint64_t[]){8, 0}, 2, &ticket));
    for (uint32_t i = 0; i < 4; i++) { // while a pass is in flight
        assert_ok(weir_program_bind(s->program, i % 2 ? back : both, 2));
        assert_int_equal(weir_null_complete(s->device, 1, WEIR_OK), 1);
        assert_ok(weir_program_output(s->program, ticket, s->y, &output)); // where it was
        assert_int_equal(output.storage == storage, i % 2 == 1);
        if (i % 2) {
            write_zeros(s, s->program, 8);
        }
        assert_ok(weir_program_commit(s->program, (uint64_t[]){8, 0}, 2, &ticket));
    }
    assert_int_equal(weir_null_complete(s->device, 1, WEIR_OK), 1);
    weir_storage_release(storage);
}

// What a pass made is what the next one reads, without a copy: with two slots nothing is shared,
// with one the input lies on the output.
static void an_output_can_be_the_next_input(void** state) {
    const small* s = *state;
    for (uint32_t slots = 1; slots <= 2; slots++) {
        weir_program* program = NULL;
        weir_program_desc desc = desc_of(s);
        float x[8 * WIDTH];
        double expected[8 * WIDTH];
        test_random random = {317};
        desc.slot_count = slots;
        assert_ok(weir_program_create(s->device, &desc, &program));
        fill_floats(&random, x, 8 * WIDTH);
        assert_ok(weir_program_write(program, s->x, x, sizeof x));
        for (uint32_t pass = 0; pass < 6; pass++) {
            weir_binding loop = {.value = s->x};
            assert_ok(weir_program_run(program, (uint64_t[]){8, 0}, 2));
            expect_rows(s, x, 8, expected);
            assert_ok(weir_program_read(program, (weir_ticket){0}, s->y, x, sizeof x));
            assert_close(x, expected, 8 * WIDTH);
            assert_ok(weir_program_output(program, (weir_ticket){0}, s->y, &loop.view));
            assert_ok(weir_program_bind(program, &loop, 1));
        }
        weir_program_destroy(program);
    }
}

// No order lets y lie on x: the first slot takes the binding, the one that owns the bytes does not.
static void a_later_slot_is_judged_when_it_is_used(void** state) {
    (void)state;
    subject s = open_subject(1);
    weir_value y = WEIR_VALUE_NONE;
    weir_binding loop = {.value = s.x};
    static const float x[ROWS * WIDTH] = {1.0f};
    assert_ok(weir_graph_matmul(s.graph, s.x, s.w, &y));
    named_output(&s, y, "y");
    s.schedule = schedule_of(s.graph, (weir_schedule_options){0});
    const weir_program_desc desc = {
        .schedule = s.schedule, .bindings = s.bindings, .binding_count = 1, .slot_count = 2};
    assert_ok(weir_program_create(s.device, &desc, &s.program));
    assert_ok(weir_program_write(s.program, s.x, x, sizeof x));
    assert_ok(weir_program_run(s.program, NULL, 0));
    for (uint32_t pass = 0; pass < 4; pass++) { // bound anew each time: the other slot every time
        assert_ok(weir_program_output(s.program, (weir_ticket){0}, y, &loop.view));
        assert_ok(weir_program_bind(s.program, &loop, 1));
        assert_ok(weir_program_run(s.program, NULL, 0));
    }
    assert_status(weir_program_run(s.program, NULL, 0), WEIR_INVALID_ARGUMENT);
    assert_message_has("output y and input x are bound to the same bytes");
    assert_int_equal(weir_program_counters(s.program)->submits, 5);
    close_subject(&s);
}

// Groups of a schedule keep their order; within them dispatches follow each other.
static void schedules_by_groups_run_one_dispatch_after_another(void** state) {
    (void)state;
    subject s = open_subject(4);
    weir_target target;
    weir_value y = WEIR_VALUE_NONE;
    weir_value z = WEIR_VALUE_NONE;
    weir_value v[2];
    float apart[2][ROWS * WIDTH];
    float shared[2][ROWS * WIDTH];
    float x[ROWS * WIDTH];
    assert_ok(weir_graph_rms_norm(s.graph, s.x, 1e-5f, &y));
    assert_ok(weir_graph_matmul(s.graph, s.x, s.w, &v[0]));
    assert_ok(weir_graph_mul(s.graph, y, v[0], &z));
    named_output(&s, y, "y");
    named_output(&s, z, "z");
    add_at(&s, s.x, 0);
    assert_ok(weir_target_find("cpu", &target));
    target.waits = WEIR_WAIT_GROUPS;
    assert_ok(weir_schedule_create(NULL, s.graph, &target, NULL, &s.schedule));
    const weir_program_desc desc = {
        .schedule = s.schedule, .bindings = s.bindings, .binding_count = s.binding_count};
    assert_ok(weir_program_create(s.device, &desc, &s.program));
    float* rows = weir_storage_host_pointer(s.storage);
    memcpy(x, rows, sizeof x);
    run_pass(&s, y, apart[0]);
    assert_ok(weir_program_read(s.program, (weir_ticket){0}, z, apart[1], sizeof apart[1]));
    const uint64_t waits = weir_program_counters(s.program)->waits;
    const weir_binding over = at_row(&s, y, 0);
    assert_ok(weir_program_bind(s.program, &over, 1));
    for (uint32_t i = 0; i < 10; i++) {
        memcpy(rows, x, sizeof x);
        run_pass(&s, y, shared[0]);
        assert_ok(weir_program_read(s.program, (weir_ticket){0}, z, shared[1], sizeof shared[1]));
        assert_memory_equal(shared, apart, sizeof shared);
    }
    assert_int_equal(weir_program_counters(s.program)->waits, waits + 10 * 2);
    close_subject(&s);
}

static void each_failing_allocation_of_another_order_leaves_all_as_before(void** state) {
    (void)state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    small s = open_small_on(open_device("cpu", 1, &counter));
    weir_program_desc desc = desc_of(&s);
    weir_view x;
    const weir_shape shape = shape2(8, WIDTH);
    weir_storage* storage = allocate_zeros(s.device, 8 * ROW_BYTES);
    assert_ok(weir_view_make(storage, 0, WEIR_DTYPE_F32, &shape, &x));
    desc.slot_count = 2;
    assert_ok(weir_program_create(s.device, &desc, &s.program));
    const weir_binding both[] = {{s.x, x}, {s.y, x}};
    weir_status status = WEIR_OUT_OF_MEMORY;
    size_t step = 0;
    for (; status != WEIR_OK; step++) {
        const size_t live = atomic_load(&counter.live_blocks);
        counter.fail_at = atomic_load(&counter.calls) + step;
        status = weir_program_bind(s.program, both, 2);
        counter.fail_at = SIZE_MAX;
        if (status != WEIR_OK) {
            assert_status(status, WEIR_OUT_OF_MEMORY);
            assert_true(atomic_load(&counter.live_blocks) <= live + 2); // kept lists of names
            write_zeros(&s, s.program, 1);                              // x lies in the slot still
            assert_ok(weir_program_run(s.program, (uint64_t[]){1, 0}, 2));
        }
    }
    assert_true(step > 15);
    assert_ok(weir_program_run(s.program, (uint64_t[]){8, 0}, 2));
    weir_storage_release(storage);
    close_small(&s);
    assert_int_equal(atomic_load(&counter.live_blocks), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_of_an_input_come_before_who_overwrites_it),
        cmocka_unit_test(what_no_order_can_help_is_refused),
        cmocka_unit_test(a_weight_is_never_overwritten),
        cmocka_unit_test(an_output_over_a_state_is_written_in_the_order_of_the_graph),
        cmocka_unit_test(an_output_that_a_state_overwrites_is_refused),
        cmocka_unit_test(what_fusion_has_hidden_is_refused),
        cmocka_unit_test(two_states_on_the_same_bytes_are_written_in_the_order_of_the_graph),
        on_null(another_order_comes_with_the_next_pass),
        on_cpu(an_output_can_be_the_next_input),
        cmocka_unit_test(a_later_slot_is_judged_when_it_is_used),
        cmocka_unit_test(schedules_by_groups_run_one_dispatch_after_another),
        cmocka_unit_test(each_failing_allocation_of_another_order_leaves_all_as_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
