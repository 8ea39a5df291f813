// Sessions on the CPU and on the null device: what is recorded, what waits, what is executed, and
// what is kept until then.
#include "testing.h"

#include "session_fixture.h"

static weir_verdict record(fixture* f, weir_kernel_fn kernel, const weir_operand* operands,
                           uint32_t count) {
    const weir_dispatch_desc desc = {
        .kernel = kernel, .operands = operands, .operand_count = count};
    weir_verdict verdict;
    assert_ok(weir_session_dispatch(f->session, &desc, &verdict));
    return verdict;
}

static void a_dropped_session_has_executed_nothing(void** state) {
    fixture* f = *state;
    for (int i = 0; i < 5; i++) {
        assert_ok(record_add(f, floats_of(f->storage, 0, 64), 1.0f));
    }
    weir_session_destroy(f->session);
    assert_ok(weir_session_create(f->device, &f->session));
    assert_ok(weir_session_finish(f->session));
    assert_true(f->numbers[0] == 0.0f);
    assert_int_equal(weir_session_counters(f->session)->dispatches, 0);
    weir_session_destroy(NULL);
}

static void a_refused_dispatch_leaves_those_before_it_recorded(void** state) {
    fixture* f = *state;
    weir_storage* sealed = allocate_zeros(f->device, 256);
    assert_ok(weir_storage_seal(sealed));
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 4; i++) {
            assert_ok(record_add(f, floats_of(f->storage, 0, 64), 1.0f));
        }
        assert_status(record_add(f, floats_of(sealed, 0, 64), 1.0f), WEIR_INVALID_ARGUMENT);
        assert_message_has("add: operand 0 writes to storage zeros, which is sealed");
        if (round == 0) { // dropped: the next session starts from nothing
            weir_session_destroy(f->session);
            assert_ok(weir_session_create(f->device, &f->session));
        }
    }
    assert_ok(record_add(f, floats_of(f->storage, 0, 32), 10.0f)); // and the same one goes on
    assert_ok(weir_session_finish(f->session));
    assert_int_equal(weir_session_counters(f->session)->dispatches, 5);
    assert_true(f->numbers[0] == 14.0f && f->numbers[63] == 4.0f);
    weir_storage_release(sealed);
}

static void sealed_memory_can_be_read(void** state) {
    fixture* f = *state;
    assert_ok(weir_storage_seal(f->storage));
    const weir_operand read = {floats_of(f->storage, 0, 64), WEIR_ACCESS_READ};
    record(f, do_nothing, &read, 1);
    assert_ok(weir_session_finish(f->session));
    assert_status(record_add(f, floats_of(f->storage, 0, 1), 1.0f), WEIR_INVALID_ARGUMENT);
}

// Each allocation of one recording fails once: nothing is recorded then, and the session goes on.
static void a_dispatch_that_finds_no_memory_is_not_recorded(void** state) {
    (void)state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    fixture f = open_fixture("cpu", 1, &counter);
    weir_status status = WEIR_OUT_OF_MEMORY;
    size_t step = 0;
    for (; status != WEIR_OK; step++) {
        weir_session* session = f.session;
        assert_ok(weir_session_create(f.device, &f.session));
        f.numbers[0] = 0.0f;
        for (int i = 0; i < 16; i++) { // the next one makes the arrays grow
            assert_ok(record_add(&f, floats_of(f.storage, 0, 64), 1.0f));
        }
        counter.fail_at = atomic_load(&counter.calls) + step;
        status = record_add(&f, floats_of(f.storage, 0, 64), 100.0f);
        counter.fail_at = SIZE_MAX;
        if (status != WEIR_OK) {
            assert_status(status, WEIR_OUT_OF_MEMORY);
        }
        assert_ok(record_add(&f, floats_of(f.storage, 0, 64), 1000.0f));
        if (step % 2 == 0) {
            assert_ok(weir_session_finish(f.session));
            assert_true(f.numbers[0] == (status == WEIR_OK ? 1116.0f : 1016.0f));
        }
        weir_session_destroy(f.session);
        f.session = session;
    }
    assert_true(step > 1);
    close_fixture(&f);
    assert_int_equal(atomic_load(&counter.live_blocks), 0);
}

static void a_commit_that_finds_no_memory_can_be_repeated(void** state) {
    (void)state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    fixture f = open_fixture("cpu", 2, &counter);
    weir_session_set_timing(f.session, true);
    weir_status status = WEIR_OUT_OF_MEMORY;
    size_t step = 0;
    for (; status != WEIR_OK; step++) {
        f.numbers[0] = 0.0f;
        for (int i = 0; i < 20; i++) {
            assert_ok(record_add(&f, floats_of(f.storage, 0, 64), 1.0f));
        }
        counter.fail_at = atomic_load(&counter.calls) + step;
        status = weir_session_finish(f.session);
        counter.fail_at = SIZE_MAX;
        if (status != WEIR_OK) {
            assert_status(status, WEIR_OUT_OF_MEMORY);
            assert_true(f.numbers[0] == 0.0f);
            assert_ok(weir_session_finish(f.session));
        }
        assert_true(f.numbers[0] == 20.0f);
    }
    assert_true(step > 3);
    assert_int_equal(weir_session_counters(f.session)->submits, step);
    close_fixture(&f);
    assert_int_equal(atomic_load(&counter.live_blocks), 0);
}

static void a_session_that_finds_no_memory_is_not_created(void** state) {
    (void)state;
    for (int device = 0; device < 2; device++) {
        weir_status status = WEIR_OUT_OF_MEMORY;
        size_t step = 0;
        for (; status != WEIR_OK; step++) {
            test_allocator counter = {.fail_at = step};
            const weir_device_desc desc = {.name = device ? "null" : "cpu",
                                           .thread_count = 2,
                                           .allocator = test_allocator_of(&counter)};
            weir_device* made = NULL;
            weir_session* session = NULL;
            status = weir_device_create(&desc, &made);
            if (status == WEIR_OK) {
                status = weir_session_create(made, &session);
            }
            assert_true(status == WEIR_OK || (status == WEIR_OUT_OF_MEMORY && !session));
            weir_session_destroy(session);
            weir_device_destroy(made);
            assert_int_equal(atomic_load(&counter.live_blocks), 0);
        }
        assert_true(step > 3);
    }
}

static void assert_one_hazard(weir_verdict verdict, weir_hazard_kind kind, uint32_t earlier) {
    assert_int_equal(verdict.hazard_count, 1);
    assert_int_equal(verdict.hazards[0].kind, kind);
    assert_int_equal(verdict.hazards[0].earlier, earlier);
    assert_int_equal(verdict.hazards[0].later, verdict.dispatch);
}

static void the_verdict_says_what_is_waited_for_and_why(void** state) {
    fixture* f = *state;
    const weir_view a = floats_of(f->storage, 0, 16);
    const weir_view b = floats_of(f->storage, 32, 16); // bytes [32, 96): half of a
    const weir_operand write_a = {a, WEIR_ACCESS_WRITE};
    const weir_operand read_a = {a, WEIR_ACCESS_READ};
    const weir_operand read_b = {b, WEIR_ACCESS_READ};
    const weir_operand write_b = {b, WEIR_ACCESS_WRITE};
    assert_int_equal(record(f, do_nothing, &write_a, 1).hazard_count, 0);
    weir_verdict verdict = record(f, do_nothing, &read_b, 1);
    assert_one_hazard(verdict, WEIR_HAZARD_RAW, 0);
    const weir_range wanted = weir_view_range(&b);
    assert_int_equal(verdict.hazards[0].later_range.byte_offset, wanted.byte_offset);
    assert_int_equal(verdict.hazards[0].later_range.byte_length, 64);
    verdict = record(f, do_nothing, &read_a, 1);
    assert_one_hazard(verdict, WEIR_HAZARD_RAW, 0);
    verdict = record(f, do_nothing, &write_b, 1); // after both readers and the writer of half of it
    assert_int_equal(verdict.dispatch, 3);
    assert_int_equal(verdict.hazard_count, 3);
    assert_int_equal(verdict.hazards[0].kind, WEIR_HAZARD_WAW);
    assert_int_equal(verdict.hazards[1].kind, WEIR_HAZARD_WAR);
    assert_int_equal(verdict.hazards[2].kind, WEIR_HAZARD_WAR);
    assert_ok(weir_session_finish(f->session));
    assert_int_equal(record(f, do_nothing, &write_a, 1).dispatch, 0); // the next pass
}

static void touching_slices_do_not_conflict(void** state) {
    fixture* f = *state;
    const weir_operand left = {floats_of(f->storage, 0, 32), WEIR_ACCESS_WRITE};
    const weir_operand right = {floats_of(f->storage, 128, 32), WEIR_ACCESS_WRITE};
    const weir_operand middle = {floats_of(f->storage, 124, 2), WEIR_ACCESS_WRITE};
    assert_int_equal(record(f, do_nothing, &left, 1).hazard_count, 0);
    assert_int_equal(record(f, do_nothing, &right, 1).hazard_count, 0);
    assert_int_equal(record(f, do_nothing, &middle, 1).hazard_count, 2);
}

static void overlapping_wraps_conflict(void** state) {
    fixture* f = *state;
    const weir_storage_wrap_desc desc = {.pointer = f->numbers + 8, .byte_size = 64};
    weir_storage* wrapped = NULL;
    assert_ok(weir_storage_wrap(f->device, &desc, &wrapped));
    const weir_operand whole = {floats_of(f->storage, 0, 9), WEIR_ACCESS_WRITE};
    const weir_operand inner = {floats_of(wrapped, 0, 1), WEIR_ACCESS_READ};
    const weir_operand behind = {floats_of(wrapped, 4, 1), WEIR_ACCESS_READ};
    record(f, do_nothing, &whole, 1);
    assert_one_hazard(record(f, do_nothing, &inner, 1), WEIR_HAZARD_RAW, 0);
    assert_int_equal(record(f, do_nothing, &behind, 1).hazard_count, 0);
    weir_storage_release(wrapped);
}

static void touching_nothing_waits_for_nothing(void** state) {
    fixture* f = *state;
    const weir_operand write = {floats_of(f->storage, 0, 64), WEIR_ACCESS_WRITE};
    record(f, do_nothing, &write, 1);
    assert_int_equal(record(f, do_nothing, NULL, 0).hazard_count, 0);
    assert_one_hazard(record(f, do_nothing, &write, 1), WEIR_HAZARD_WAW, 0);
    assert_ok(weir_session_finish(f->session));
    assert_int_equal(weir_session_counters(f->session)->waits, 1);
}

static weir_status stamp(const weir_kernel_call* call) {
    atomic_int* const* stamps = call->constants; // what comes next, and where to keep it
    sleep_us(call->tile * 50);
    const int now = atomic_fetch_add(stamps[0], 1);
    if (call->tile == 0) {
        atomic_store(stamps[1], now);
    }
    return WEIR_OK;
}

static void undeclared_accesses_are_a_full_fence(void** state) {
    fixture* f = *state;
    atomic_int clock = 0;
    atomic_int at[5] = {0};
    weir_verdict verdict;
    for (uint32_t i = 0; i < 5; i++) {
        atomic_int* const stamps[] = {&clock, &at[i]};
        const weir_dispatch_desc desc = {.name = "stamp",
                                         .kernel = stamp,
                                         .constants = stamps,
                                         .constants_size = sizeof stamps,
                                         .tile_count = 4,
                                         .undeclared = i == 2};
        assert_ok(weir_session_dispatch(f->session, &desc, &verdict));
        if (i == 2) {
            assert_int_equal(verdict.hazard_count, 2);
            assert_int_equal(verdict.hazards[0].kind, WEIR_HAZARD_FENCE);
        } else if (i > 2) {
            assert_one_hazard(verdict, WEIR_HAZARD_FENCE, 2);
        } else {
            assert_int_equal(verdict.hazard_count, 0);
        }
    }
    assert_ok(weir_session_finish(f->session));
    const int fence = atomic_load(&at[2]);
    assert_true(fence >= 8 && fence < 12); // the fence and its tiles, between all others
    assert_true(atomic_load(&at[0]) < 8 && atomic_load(&at[1]) < 8);
    assert_true(atomic_load(&at[3]) >= 12 && atomic_load(&at[4]) >= 12);
    assert_int_equal(weir_session_counters(f->session)->waits, 2);
    assert_int_equal(weir_session_counters(f->session)->waits_elided, 2);
}

static void a_slice_of_a_slice_outlives_the_release_of_its_parent(void** state) {
    fixture* f = *state;
    int released = 0;
    static float numbers[64];
    memset(numbers, 0, sizeof numbers);
    weir_storage* parent = wrap_counted(f->device, numbers, sizeof numbers, &released);
    const weir_view whole = floats_of(parent, 0, 64);
    weir_view slice;
    weir_view inner;
    assert_ok(weir_view_slice(&whole, 64, 32, &slice));
    assert_ok(weir_view_slice(&slice, 32, 4, &inner)); // elements [24, 28)
    weir_view_retain(&inner);
    weir_storage_release(parent);
    assert_ok(record_add(f, inner, 5.0f));
    weir_view_release(&inner); // the session holds it now
    assert_int_equal(released, 0);
    assert_ok(weir_session_finish(f->session));
    assert_int_equal(released, 1);
    for (int i = 0; i < 64; i++) {
        assert_true(numbers[i] == (i >= 24 && i < 28 ? 5.0f : 0.0f));
    }
}

static void constants_are_copied_and_aligned(void** state) {
    fixture* f = *state;
    float constants[32] = {1.0f};
    for (size_t i = 0; i < 8; i++) {
        const weir_operand operand = {floats_of(f->storage, 0, 1), WEIR_ACCESS_READ_WRITE};
        const weir_dispatch_desc desc = {.kernel = check_aligned_constant,
                                         .operands = &operand,
                                         .operand_count = 1,
                                         .constants = constants,
                                         .constants_size = 4 + i};
        assert_ok(weir_session_dispatch(f->session, &desc, NULL));
    }
    constants[0] = 77.0f;
    assert_ok(weir_session_finish(f->session));
    assert_true(f->numbers[0] == 8.0f);
}

static void bad_dispatches_are_refused(void** state) {
    fixture* f = *state;
    weir_device* other = open_device("null", 0, NULL);
    weir_storage* foreign = allocate_zeros(other, 256);
    const weir_view view = floats_of(f->storage, 0, 64);
    weir_view past = view;
    weir_view misaligned = view;
    weir_view broken = view;
    past.byte_offset = 4;
    misaligned.byte_offset = 2;
    misaligned.shape.dims[0] = 1;
    broken.shape.rank = 99;
    const struct {
        weir_operand operand;
        weir_status expected;
        const char* part;
    } cases[] = {
        {{{.dtype = WEIR_DTYPE_F32}, WEIR_ACCESS_READ}, WEIR_INVALID_ARGUMENT, "no storage"},
        {{floats_of(foreign, 0, 4), WEIR_ACCESS_READ}, WEIR_INVALID_ARGUMENT, "another device"},
        {{view, (weir_access_kind)0}, WEIR_INVALID_ARGUMENT, "kind of access"},
        {{view, (weir_access_kind)4}, WEIR_INVALID_ARGUMENT, "kind of access"},
        {{past, WEIR_ACCESS_READ}, WEIR_OUT_OF_RANGE, "passes the end"},
        {{misaligned, WEIR_ACCESS_READ}, WEIR_INVALID_ARGUMENT, "not aligned"},
        {{broken, WEIR_ACCESS_READ}, WEIR_OUT_OF_RANGE, "passes the end"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const weir_dispatch_desc desc = {.name = "blur",
                                         .kernel = do_nothing,
                                         .operands = &cases[i].operand,
                                         .operand_count = 1};
        assert_status(weir_session_dispatch(f->session, &desc, NULL), cases[i].expected);
        assert_message_has("blur: operand 0");
        assert_message_has(cases[i].part);
    }
    assert_status(weir_session_dispatch(f->session, &(weir_dispatch_desc){.name = "none"}, NULL),
                  WEIR_INVALID_ARGUMENT);
    assert_message_has("none: no kernel");
    const weir_dispatch_desc lost[] = {
        {.name = "lost", .kernel = do_nothing, .operand_count = 1},
        {.name = "lost", .kernel = do_nothing, .constants_size = 4},
    };
    for (size_t i = 0; i < 2; i++) {
        assert_status(weir_session_dispatch(f->session, &lost[i], NULL), WEIR_INVALID_ARGUMENT);
        assert_message_has(i == 0 ? "lost: operands at NULL" : "lost: constants at NULL");
    }
    const weir_dispatch_desc many = {.kernel = do_nothing, .tile_count = UINT32_MAX};
    weir_ticket ticket;
    assert_ok(weir_session_dispatch(f->session, &many, NULL));
    assert_status(weir_session_commit(f->session, &ticket), WEIR_UNSUPPORTED);
    weir_storage_release(foreign);
    weir_device_destroy(other);
}

static void one_finish_is_one_submit_and_one_wait(void** state) {
    fixture* f = *state;
    for (int pass = 0; pass < 3; pass++) {
        for (int i = 0; i < 6; i++) {
            assert_ok(record_add(f, floats_of(f->storage, (uint64_t)(i % 2) * 128, 32), 1.0f));
        }
        assert_ok(weir_session_finish(f->session));
    }
    const weir_counters* counters = weir_session_counters(f->session);
    assert_int_equal(counters->submits, 3);
    assert_int_equal(counters->host_waits, 3);
    assert_int_equal(counters->dispatches, 18);
    assert_int_equal(counters->waits, 3 * 2);
    assert_int_equal(counters->waits_elided, 3 * 3);
    assert_int_equal(counters->bytes_read, 18 * 128);
    assert_int_equal(counters->bytes_written, 18 * 128);
    assert_true(f->numbers[0] == 9.0f && f->numbers[63] == 9.0f);
}

// A pattern of six levels is over-stated, and said to be.
static void ranges_that_are_over_stated_are_counted(void** state) {
    fixture* f = *state;
    weir_storage* storage = allocate_zeros(f->device, 8192);
    const weir_shape shape = weir_shape_make(6, (int64_t[]){2, 2, 2, 2, 2, 2});
    weir_view view = {.storage = storage, .dtype = WEIR_DTYPE_F32, .shape = shape};
    for (int64_t i = 5, stride = 8; i >= 0; i--, stride *= 3) {
        view.strides[i] = stride;
    }
    const weir_operand operand = {view, WEIR_ACCESS_READ};
    const weir_dispatch_desc desc = {
        .kernel = do_nothing, .operands = &operand, .operand_count = 1};
    assert_ok(weir_session_dispatch(f->session, &desc, NULL));
    assert_ok(weir_session_dispatch(f->session, &desc, NULL));
    assert_ok(record_add(f, floats_of(f->storage, 0, 32), 1.0f));
    assert_ok(weir_session_finish(f->session));
    assert_int_equal(weir_session_counters(f->session)->ranges_widened, 2);
    weir_storage_release(storage);
}

// Whoever writes before the seal is waited for: sealed memory is no constant for the tracker, which
// only memory is that nothing at all can write.
static void memory_sealed_after_a_write_is_waited_for(void** state) {
    fixture* f = *state;
    weir_storage* storage = allocate_zeros(f->device, 256);
    const weir_view view = floats_of(storage, 0, 32);
    assert_ok(record_add(f, view, 1.0f));
    assert_ok(weir_storage_seal(storage));
    assert_status(record_add(f, view, 1.0f), WEIR_INVALID_ARGUMENT);
    const weir_operand operand = {view, WEIR_ACCESS_READ};
    const weir_dispatch_desc desc = {
        .kernel = do_nothing, .operands = &operand, .operand_count = 1};
    weir_verdict verdict;
    assert_ok(weir_session_dispatch(f->session, &desc, &verdict));
    assert_int_equal(verdict.hazard_count, 1);
    assert_int_equal(verdict.hazards[0].kind, WEIR_HAZARD_RAW);
    assert_status(weir_session_finish(f->session), WEIR_INVALID_ARGUMENT);
    assert_message_has("sealed since");
    weir_storage_release(storage);
}

static void an_empty_commit_is_complete_and_submits_nothing(void** state) {
    fixture* f = *state;
    weir_ticket ticket = {.sequence = 99};
    assert_ok(weir_session_commit(f->session, &ticket));
    assert_int_equal(ticket.sequence, 0);
    assert_true(weir_ticket_is_complete(ticket));
    assert_ok(weir_ticket_wait(ticket, 0));
    assert_ok(weir_session_finish(f->session));
    assert_int_equal(weir_session_counters(f->session)->submits, 0);
    assert_int_equal(weir_session_counters(f->session)->host_waits, 0);
}

static void storages_are_kept_until_completion_and_given_back_once(void** state) {
    (void)state;
    weir_device* device = open_manual();
    static float numbers[4];
    int released[3] = {0};
    weir_session* session = NULL;
    assert_ok(weir_session_create(device, &session));
    weir_ticket ticket = {0};
    for (int i = 0; i < 3; i++) { // committed; committed and never waited for; dropped
        weir_storage* storage = wrap_counted(device, numbers, sizeof numbers, &released[i]);
        const weir_operand operands[] = {{floats_of(storage, 0, 4), WEIR_ACCESS_WRITE},
                                         {floats_of(storage, 4, 1), WEIR_ACCESS_READ}};
        const weir_dispatch_desc desc = {
            .kernel = do_nothing, .operands = operands, .operand_count = 2};
        assert_ok(weir_session_dispatch(session, &desc, NULL));
        weir_storage_release(storage);
        if (i < 2) {
            weir_ticket* used = i == 0 ? &ticket : &(weir_ticket){0};
            assert_ok(weir_session_commit(session, used));
        }
        assert_int_equal(released[i], 0);
    }
    weir_session_destroy(session);
    assert_int_equal(released[0] + released[1], 0);
    assert_int_equal(released[2], 1);
    assert_int_equal(weir_null_complete(device, 1, WEIR_OK), 1);
    assert_ok(weir_ticket_wait(ticket, 0));
    assert_int_equal(released[0], 1);
    assert_int_equal(released[1], 0);
    weir_device_destroy(device);
    assert_int_equal(released[0], 1);
    assert_int_equal(released[1], 1);
    assert_int_equal(released[2], 1);
}

static void dispatches_stay_recorded_when_the_device_refuses_a_commit(void** state) {
    fixture* f = *state;
    weir_ticket ticket = {.sequence = 1234};
    for (int i = 0; i < 3; i++) {
        assert_ok(record_add(f, floats_of(f->storage, 0, 64), 1.0f));
    }
    weir_null_fail(f->device, 0, WEIR_IO);
    assert_status(weir_session_commit(f->session, &ticket), WEIR_IO);
    assert_int_equal(ticket.sequence, 1234);
    assert_int_equal(weir_session_counters(f->session)->submits, 0);
    const weir_operand read = {floats_of(f->storage, 0, 1), WEIR_ACCESS_READ};
    assert_one_hazard(record(f, do_nothing, &read, 1), WEIR_HAZARD_RAW, 2);
    assert_ok(weir_session_commit(f->session, &ticket));
    assert_int_equal(ticket.sequence, 1);
    assert_int_equal(weir_session_counters(f->session)->dispatches, 4);
    weir_null_fail(f->device, 0, WEIR_IO);
    assert_ok(record_add(f, floats_of(f->storage, 0, 64), 1.0f));
    assert_status(weir_session_finish(f->session), WEIR_IO); // and then it is dropped
}

// Storages are released, hazards forgotten, and what is recorded next runs alone.
static void a_reset_session_has_dropped_what_it_recorded(void** state) {
    fixture* f = *state;
    float wrapped[4] = {0};
    int released = 0;
    weir_storage* storage = wrap_counted(f->device, wrapped, sizeof wrapped, &released);
    const weir_operand write = {floats_of(storage, 0, 4), WEIR_ACCESS_WRITE};
    weir_session_reset(f->session); // nothing is recorded
    assert_ok(record_add(f, floats_of(f->storage, 0, 64), 5.0f));
    record(f, do_nothing, &write, 1);
    weir_storage_release(storage);
    assert_int_equal(released, 0);
    weir_session_reset(f->session);
    assert_int_equal(released, 1);
    const weir_operand read = {floats_of(f->storage, 0, 1), WEIR_ACCESS_READ};
    const weir_verdict verdict = record(f, do_nothing, &read, 1);
    assert_int_equal(verdict.dispatch, 0);
    assert_int_equal(verdict.hazard_count, 0);
    assert_ok(record_add(f, floats_of(f->storage, 0, 64), 1.0f));
    assert_ok(weir_session_finish(f->session));
    assert_int_equal(weir_session_counters(f->session)->dispatches, 2);
    for (int i = 0; i < 64; i++) {
        assert_true(f->numbers[i] == 1.0f);
    }
}

static void a_refused_commit_can_be_dropped(void** state) {
    fixture* f = *state;
    weir_ticket ticket;
    assert_ok(record_add(f, floats_of(f->storage, 0, 64), 1.0f));
    weir_null_fail(f->device, 0, WEIR_IO);
    assert_status(weir_session_commit(f->session, &ticket), WEIR_IO);
    weir_session_reset(f->session);
    assert_ok(weir_session_commit(f->session, &ticket));
    assert_int_equal(ticket.sequence, 0); // it was empty
    assert_int_equal(weir_session_counters(f->session)->submits, 0);
}

static void many_passes_run_in_the_order_of_their_commits(void** state) {
    fixture* f = *state;
    weir_ticket tickets[300];
    for (int i = 0; i < 300; i++) {
        const float digit = (float)(i % 7);
        const weir_operand operand = {floats_of(f->storage, 0, 64), WEIR_ACCESS_READ_WRITE};
        const weir_dispatch_desc desc = {.kernel = scale_and_add,
                                         .operands = &operand,
                                         .operand_count = 1,
                                         .constants = &digit,
                                         .constants_size = sizeof digit,
                                         .tile_count = 2};
        assert_ok(weir_session_dispatch(f->session, &desc, NULL));
        assert_ok(weir_session_commit(f->session, &tickets[i]));
    }
    for (int i = 299; i >= 0; i--) {
        assert_ok(weir_ticket_wait(tickets[i], WEIR_WAIT_FOREVER));
    }
    float expected = 0.0f;
    for (int i = 0; i < 300; i++) {
        expected = expected * 0.5f + (float)(i % 7);
    }
    for (int i = 0; i < 64; i++) {
        assert_true(f->numbers[i] == expected);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        on_cpu(a_dropped_session_has_executed_nothing),
        on_cpu(a_refused_dispatch_leaves_those_before_it_recorded),
        on_cpu(sealed_memory_can_be_read),
        cmocka_unit_test(a_dispatch_that_finds_no_memory_is_not_recorded),
        cmocka_unit_test(a_commit_that_finds_no_memory_can_be_repeated),
        cmocka_unit_test(a_session_that_finds_no_memory_is_not_created),
        on_cpu(the_verdict_says_what_is_waited_for_and_why),
        on_null(the_verdict_says_what_is_waited_for_and_why),
        on_null(touching_slices_do_not_conflict),
        on_cpu(overlapping_wraps_conflict),
        on_null(overlapping_wraps_conflict),
        on_cpu(touching_nothing_waits_for_nothing),
        on_cpu(undeclared_accesses_are_a_full_fence),
        on_cpu(a_slice_of_a_slice_outlives_the_release_of_its_parent),
        on_cpu(constants_are_copied_and_aligned),
        on_cpu(bad_dispatches_are_refused),
        on_cpu(one_finish_is_one_submit_and_one_wait),
        on_cpu(ranges_that_are_over_stated_are_counted),
        on_cpu(memory_sealed_after_a_write_is_waited_for),
        on_cpu(an_empty_commit_is_complete_and_submits_nothing),
        on_null(an_empty_commit_is_complete_and_submits_nothing),
        cmocka_unit_test(storages_are_kept_until_completion_and_given_back_once),
        on_cpu(a_reset_session_has_dropped_what_it_recorded),
        on_null(a_refused_commit_can_be_dropped),
        on_null(dispatches_stay_recorded_when_the_device_refuses_a_commit),
        on_cpu(many_passes_run_in_the_order_of_their_commits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
