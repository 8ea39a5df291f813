// Programs: which memory may be bound to what.
#include "program_testing.h"

static void refuse_bindings(const small* s, const weir_binding* bindings, uint32_t count,
                            weir_status expected, const char* part) {
    const weir_program_desc desc = {
        .schedule = s->schedule, .bindings = bindings, .binding_count = count};
    weir_program* program = NULL;
    assert_status(weir_program_create(s->device, &desc, &program), expected);
    assert_null(program);
    assert_message_has(part);
}

static void missing_bindings_are_named(void** state) {
    const small* s = *state;
    refuse_bindings(s, s->bindings, 2, WEIR_INVALID_ARGUMENT, "kept");
    refuse_bindings(s, s->bindings + 1, 2, WEIR_INVALID_ARGUMENT, "gain");
    refuse_bindings(s, NULL, 0, WEIR_INVALID_ARGUMENT, "gain");
}

static void bindings_that_do_not_fit_are_named(void** state) {
    const small* s = *state;
    weir_binding bad[3];
    memcpy(bad, s->bindings, sizeof bad);
    bad[1].view.dtype = WEIR_DTYPE_I32;
    refuse_bindings(s, bad, 3, WEIR_INVALID_ARGUMENT, "w is F32 [32, 32]");
    bad[1] = s->bindings[1];
    bad[1].view.shape.dims[0] = 31;
    refuse_bindings(s, bad, 3, WEIR_INVALID_ARGUMENT, "[31, 32]");
    bad[1] = s->bindings[1];
    bad[1].view.strides[0] = 4;
    bad[1].view.strides[1] = 128;
    refuse_bindings(s, bad, 3, WEIR_INVALID_ARGUMENT, "w is");
    bad[1] = s->bindings[1];
    bad[1].view.storage = NULL;
    refuse_bindings(s, bad, 3, WEIR_INVALID_ARGUMENT, "w is bound to no memory");
    bad[1] = s->bindings[1];
    bad[1].view.byte_offset = 4;
    refuse_bindings(s, bad, 3, WEIR_OUT_OF_RANGE, "w: ");
    bad[1] = s->bindings[1];
    bad[1].value = s->x;
    refuse_bindings(s, bad, 3, WEIR_INVALID_ARGUMENT, "cannot be bound to F32 [32, 32]");
    bad[1].value = s->y - 1; // a result, but no output
    refuse_bindings(s, bad, 3, WEIR_INVALID_ARGUMENT, "is no weight, state, input or output");
    bad[1].value = 1000;
    refuse_bindings(s, bad, 3, WEIR_INVALID_ARGUMENT, "value 1000");
}

static void memory_of_another_device_is_refused(void** state) {
    const small* s = *state;
    weir_device* other = open_device("cpu", 1, NULL);
    weir_storage* foreign = allocate_zeros(other, 4096);
    weir_arena* arena = NULL;
    weir_program* program = NULL;
    weir_binding bad[3];
    memcpy(bad, s->bindings, sizeof bad);
    bad[1].view.storage = foreign;
    refuse_bindings(s, bad, 3, WEIR_INVALID_ARGUMENT, "w is bound to memory of another device");
    assert_ok(weir_arena_create_sized(other, 1 << 16, &arena));
    weir_program_desc desc = desc_of(s);
    desc.arena = arena;
    assert_status(weir_program_create(s->device, &desc, &program), WEIR_INVALID_ARGUMENT);
    weir_arena_destroy(arena);
    weir_storage_release(foreign);
    weir_device_destroy(other);
}

static void states_need_memory_of_their_own(void** state) {
    const small* s = *state;
    weir_arena* arena = NULL;
    weir_program* program = NULL;
    weir_storage* joint = allocate_zeros(s->device, 8192);
    weir_binding bad[3];
    memcpy(bad, s->bindings, sizeof bad);
    bad[1].view.storage = bad[2].view.storage = joint;
    bad[2].view.byte_offset = 4096 - 4;
    refuse_bindings(s, bad, 3, WEIR_INVALID_ARGUMENT,
                    "state kept and weight w are bound to the same bytes");
    bad[2].view.byte_offset = 4096;
    weir_program_desc desc = {.schedule = s->schedule, .bindings = bad, .binding_count = 3};
    assert_ok(weir_program_create(s->device, &desc, &program));
    weir_program_destroy(program);
    assert_ok(weir_arena_create_sized(s->device, 1 << 16, &arena));
    bad[2].view.storage = weir_arena_storage(arena);
    desc.arena = arena;
    assert_status(weir_program_create(s->device, &desc, &program), WEIR_INVALID_ARGUMENT);
    assert_message_has("kept is bound to bytes of the arena");
    weir_arena_destroy(arena);
    const weir_plan_buffer buffers[] = {{.byte_size = 1 << 16}, {.byte_size = 1 << 16}};
    const weir_plan_problem problem = {
        .buffers = buffers, .buffer_count = 2, .block_bytes_max = 1 << 16};
    weir_plan* plan = NULL;
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    assert_ok(weir_arena_create(s->device, plan, &arena));
    for (uint32_t block = 0; block < 2; block++) {
        bad[2].view.storage = weir_arena_block(arena, block);
        desc.arena = arena;
        assert_status(weir_program_create(s->device, &desc, &program), WEIR_INVALID_ARGUMENT);
        assert_message_has("kept is bound to bytes of the arena");
    }
    weir_arena_destroy(arena);
    weir_plan_destroy(plan);
    assert_ok(weir_storage_seal(joint));
    bad[2].view.storage = joint;
    refuse_bindings(s, bad, 3, WEIR_INVALID_ARGUMENT, "state kept is bound to sealed memory");
    weir_storage_release(joint);
}

static void the_last_binding_of_a_value_holds(void** state) {
    const small* s = *state;
    int released[2] = {0};
    static float gains[2][32];
    weir_storage* wraps[2];
    weir_binding bindings[5];
    weir_program* program = NULL;
    memcpy(bindings, s->bindings, sizeof s->bindings);
    for (size_t i = 0; i < 2; i++) {
        wraps[i] = wrap_counted(s->device, gains[i], sizeof gains[i], &released[i]);
        bindings[3 + i] = (weir_binding){s->gain, floats_of(wraps[i], 0, 32)};
    }
    const weir_program_desc desc = {
        .schedule = s->schedule, .bindings = bindings, .binding_count = 5};
    assert_ok(weir_program_create(s->device, &desc, &program));
    weir_storage_release(wraps[0]);
    weir_storage_release(wraps[1]);
    assert_int_equal(released[0], 1);
    assert_int_equal(released[1], 0);
    float x[32];
    test_random random = {43};
    fill_floats(&random, x, 32);
    assert_ok(weir_program_write(program, s->x, x, sizeof x));
    assert_ok(weir_program_run(program, (uint64_t[]){1, 0}, 2));
    assert_memory_equal(weir_program_contents(program, s->y), x, sizeof x); // the gain is 0
    weir_program_destroy(program);
    assert_int_equal(released[1], 1);
}

static weir_view rows_of(weir_storage* storage, uint64_t byte_offset, int64_t rows) {
    const weir_shape shape = shape2(rows, 32);
    weir_view view;
    assert_ok(weir_view_make(storage, byte_offset, WEIR_DTYPE_F32, &shape, &view));
    return view;
}

static void expect_pass(const small* s, const float* x, const float* y, uint64_t rows) {
    double expected[8 * 32];
    expect_rows(s, x, rows, expected);
    assert_close(y, expected, rows * 32);
}

static void inputs_and_outputs_can_lie_in_memory_of_the_caller(void** state) {
    const small* s = *state;
    weir_storage* storage = allocate_zeros(s->device, 2048);
    float* x = weir_storage_host_pointer(storage);
    float* y = x + 256;
    weir_view view;
    test_random random = {233};
    const weir_binding bindings[] = {{s->x, rows_of(storage, 0, 8)},
                                     {s->y, rows_of(storage, 1024, 8)}};
    assert_ok(weir_program_bind(s->program, bindings, 2));
    for (uint64_t rows = 8; rows > 0; rows--) {
        fill_floats(&random, x, 8 * 32); // and no write
        assert_ok(weir_program_run(s->program, (uint64_t[]){rows, 0}, 2));
        expect_pass(s, x, y, rows);
        assert_ptr_equal(weir_program_contents(s->program, s->y), y);
        assert_ok(weir_program_output(s->program, (weir_ticket){0}, s->y, &view));
        assert_ptr_equal(view.storage, storage);
        assert_int_equal(view.shape.dims[0], rows);
    }
    assert_status(weir_program_write(s->program, s->x, x, 128), WEIR_INVALID_ARGUMENT);
    assert_message_has("input x is bound");
    const weir_binding back[] = {{.value = s->x}, {.value = s->y}};
    assert_ok(weir_program_bind(s->program, back, 2));
    assert_status(weir_program_run(s->program, (uint64_t[]){1, 0}, 2), WEIR_INVALID_ARGUMENT);
    assert_ok(weir_program_write(s->program, s->x, x, 128));
    memset(y, 0, 1024);
    assert_ok(weir_program_run(s->program, (uint64_t[]){1, 0}, 2));
    expect_pass(s, x, weir_program_contents(s->program, s->y), 1);
    assert_true(y[0] == 0.0f);
    weir_storage_release(storage);
}

static void a_binding_may_have_room_for_fewer_rows(void** state) {
    const small* s = *state;
    weir_storage* storage = allocate_zeros(s->device, 6 * 128);
    float* x = weir_storage_host_pointer(storage);
    test_random random = {239};
    fill_floats(&random, x, 3 * 32);
    const weir_binding bindings[] = {{s->x, rows_of(storage, 0, 3)},
                                     {s->y, rows_of(storage, 3 * 128, 3)}};
    assert_ok(weir_program_bind(s->program, bindings, 2)); // apart, though 8 rows would not be
    assert_ok(weir_program_run(s->program, (uint64_t[]){3, 0}, 2));
    expect_pass(s, x, x + 96, 3);
    assert_status(weir_program_run(s->program, (uint64_t[]){4, 0}, 2), WEIR_OUT_OF_RANGE);
    assert_message_has("x is bound to 3 rows, the pass has 4");
    weir_binding bad = bindings[0];
    bad.view.shape.dims[0] = 0; // below the least
    assert_status(weir_program_bind(s->program, &bad, 1), WEIR_INVALID_ARGUMENT);
    weir_storage_release(storage);
}

static void passes_keep_the_bindings_that_they_were_committed_with(void** state) {
    (void)state;
    int released[3] = {0};
    static float gains[3][32];
    small s = open_small_on(open_device("cpu", 2, NULL));
    weir_program_desc desc = desc_of(&s);
    desc.slot_count = 3;
    assert_ok(weir_program_create(s.device, &desc, &s.program));
    weir_ticket tickets[3];
    float x[32];
    test_random random = {241};
    fill_floats(&random, x, 32);
    for (size_t i = 0; i < 3; i++) { // y = x + (i > 0 ? something : 0)
        gains[i][0] = (float)i;
        weir_storage* wrap = wrap_counted(s.device, gains[i], sizeof gains[i], &released[i]);
        const weir_binding gain = {s.gain, floats_of(wrap, 0, 32)};
        assert_ok(weir_program_bind(s.program, &gain, 1));
        weir_storage_release(wrap);
        assert_ok(weir_program_write(s.program, s.x, x, sizeof x));
        assert_ok(weir_program_commit(s.program, (uint64_t[]){1, i}, 2, &tickets[i]));
    }
    float y[3][32];
    const float* w = weir_storage_host_pointer(s.w_bytes);
    for (size_t i = 0; i < 3; i++) {
        assert_ok(weir_ticket_wait(tickets[i], WEIR_WAIT_FOREVER));
        assert_ok(weir_program_read(s.program, tickets[i], s.y, y[i], sizeof y[i]));
    }
    for (size_t n = 0; n < 32; n++) {
        assert_true(y[0][n] == x[n]);
        assert_true(fabs((double)(y[2][n] - x[n]) - 2.0 * (double)(y[1][n] - x[n])) < 1e-4);
        assert_true(w[n * 32] == 0.0f || y[1][n] != x[n]);
    }
    assert_int_equal(released[0] + released[1] + released[2], 0);
    weir_program_destroy(s.program);
    s.program = NULL;
    assert_int_equal(released[0] + released[1] + released[2], 3);
    close_small(&s);
}

static void states_are_bound_anew_between_passes(void** state) {
    const small* s = *state;
    weir_storage* other = allocate_zeros(s->device, 24 * 128);
    const weir_binding bindings[] = {{s->kept, rows_of(s->kept_bytes, 0, 24)},
                                     {s->kept, rows_of(other, 0, 24)}};
    float x[2][32];
    test_random random = {251};
    fill_floats(&random, x[0], 64);
    for (size_t i = 0; i < 6; i++) {
        double expected[32];
        assert_ok(weir_program_bind(s->program, &bindings[i % 2], 1));
        assert_ok(weir_program_write(s->program, s->x, x[i % 2], 128));
        assert_ok(weir_program_run(s->program, (uint64_t[]){1, i}, 2));
        expect_rows(s, x[i % 2], 1, expected);
        const float* kept = weir_storage_host_pointer(i % 2 ? other : s->kept_bytes);
        assert_close(kept + i * 32, expected, 32);
    }
    weir_storage_release(other);
}

static void a_refused_binding_leaves_all_as_before(void** state) {
    const small* s = *state;
    float x[32];
    test_random random = {257};
    weir_storage* storage = allocate_zeros(s->device, 8 * 128);
    fill_floats(&random, x, 32);
    const weir_binding bad[] = {{s->x, rows_of(storage, 0, 8)}, {s->w, floats_of(storage, 0, 32)}};
    assert_status(weir_program_bind(s->program, bad, 2), WEIR_INVALID_ARGUMENT);
    assert_message_has("w is F32 [32, 32]");
    assert_ok(weir_program_write(s->program, s->x, x, 128)); // x lies in the slot
    assert_ok(weir_program_run(s->program, (uint64_t[]){1, 0}, 2));
    expect_pass(s, x, weir_program_contents(s->program, s->y), 1);
    weir_storage_release(storage);
}

static void memory_sealed_since_is_not_written(void** state) {
    const small* s = *state;
    write_zeros(s, s->program, 1);
    assert_ok(weir_program_run(s->program, (uint64_t[]){1, 0}, 2));
    assert_ok(weir_storage_seal(s->kept_bytes));
    write_zeros(s, s->program, 1);
    assert_status(weir_program_run(s->program, (uint64_t[]){1, 0}, 2), WEIR_INVALID_ARGUMENT);
    assert_message_has("the memory of kept was sealed");
    weir_storage* sealed = allocate_zeros(s->device, 8 * 128);
    assert_ok(weir_storage_seal(sealed));
    const weir_binding y = {s->y, rows_of(sealed, 0, 8)};
    assert_status(weir_program_bind(s->program, &y, 1), WEIR_INVALID_ARGUMENT);
    assert_message_has("is bound to sealed memory");
    weir_storage_release(sealed);
}

static void a_device_that_cannot_rebind_says_so(void** state) {
    const small* s = *state;
    weir_ticket ticket;
    weir_storage* other = allocate_zeros(s->device, 24 * 128);
    const weir_binding kept = {s->kept, rows_of(other, 0, 24)};
    assert_ok(weir_program_bind(s->program, &kept, 1));
    write_zeros(s, s->program, 1);
    for (uint32_t i = 0; i < 2; i++) {
        weir_null_fail(s->device, 0, WEIR_IO);
        assert_status(weir_program_commit(s->program, (uint64_t[]){1, 0}, 2, &ticket), WEIR_IO);
        assert_message_has("rebind");
    }
    assert_ok(weir_program_commit(s->program, (uint64_t[]){1, 0}, 2, &ticket));
    assert_int_equal(weir_null_complete(s->device, 1, WEIR_OK), 1);
    weir_storage_release(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        on_cpu(missing_bindings_are_named),
        on_cpu(bindings_that_do_not_fit_are_named),
        on_cpu(memory_of_another_device_is_refused),
        on_cpu(states_need_memory_of_their_own),
        on_cpu(the_last_binding_of_a_value_holds),
        on_cpu(inputs_and_outputs_can_lie_in_memory_of_the_caller),
        on_cpu(a_binding_may_have_room_for_fewer_rows),
        cmocka_unit_test(passes_keep_the_bindings_that_they_were_committed_with),
        on_cpu(states_are_bound_anew_between_passes),
        on_cpu(a_refused_binding_leaves_all_as_before),
        on_cpu(memory_sealed_since_is_not_written),
        on_null(a_device_that_cannot_rebind_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
