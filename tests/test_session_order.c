// Commits in flight: what conflicts runs in the order of the commits, what does not runs together,
// within a session and across sessions; and tickets that are complete in any order.
#include "testing.h"

#include "device/backend.h"
#include "session_fixture.h"

#define FLOATS 64

typedef struct order_fixture {
    weir_device* device;
    weir_session* sessions[2];
    weir_storage* storage; // FLOATS floats, zeros
    float* numbers;        // its bytes
} order_fixture;

static order_fixture open_pair(weir_device* device) {
    order_fixture f = {.device = device, .storage = allocate_zeros(device, FLOATS * sizeof(float))};
    f.numbers = weir_storage_host_pointer(f.storage);
    for (int i = 0; i < 2; i++) {
        assert_ok(weir_session_create(device, &f.sessions[i]));
    }
    return f;
}

static int open_manual_pair(void** state) {
    static order_fixture f;
    f = open_pair(open_manual());
    *state = &f;
    return 0;
}

static int open_cpu_pair(void** state) {
    static order_fixture f;
    f = open_pair(open_device("cpu", 3, NULL));
    *state = &f;
    return 0;
}

static int close_pair(void** state) {
    order_fixture* f = *state;
    for (int i = 0; i < 2; i++) {
        weir_session_destroy(f->sessions[i]);
    }
    weir_storage_release(f->storage);
    weir_device_destroy(f->device);
    return 0;
}

// Commits one dispatch on floats [begin, begin + count) of the storage.
static weir_ticket commit(const order_fixture* f, int session, int64_t begin, int64_t count,
                          weir_access_kind kind) {
    const weir_operand operand = {floats_of(f->storage, (uint64_t)begin * 4, count), kind};
    const weir_dispatch_desc desc = {
        .name = "touch", .kernel = do_nothing, .operands = &operand, .operand_count = 1};
    weir_ticket ticket;
    assert_ok(weir_session_dispatch(f->sessions[session], &desc, NULL));
    assert_ok(weir_session_commit(f->sessions[session], &ticket));
    return ticket;
}

static weir_ticket commit_fence(const order_fixture* f) {
    const weir_dispatch_desc desc = {.name = "any", .kernel = do_nothing, .undeclared = true};
    weir_ticket ticket;
    assert_ok(weir_session_dispatch(f->sessions[0], &desc, NULL));
    assert_ok(weir_session_commit(f->sessions[0], &ticket));
    return ticket;
}

static void disjoint_passes_complete_in_any_order(void** state) {
    order_fixture* f = *state;
    const weir_ticket a = commit(f, 0, 0, 16, WEIR_ACCESS_WRITE);
    const weir_ticket b = commit(f, 0, 16, 16, WEIR_ACCESS_WRITE);
    const weir_ticket c = commit(f, 1, 32, 16, WEIR_ACCESS_WRITE);
    const weir_ticket order[] = {c, a, b};
    for (int i = 0; i < 3; i++) {
        assert_false(weir_ticket_is_complete(order[i]));
        assert_true(weir_null_complete_ticket(order[i], i == 1 ? WEIR_IO : WEIR_OK));
        assert_true(weir_ticket_is_complete(order[i]));
        assert_false(weir_null_complete_ticket(order[i], WEIR_OK)); // once only
    }
    assert_ok(weir_ticket_wait(c, 0));
    assert_status(weir_ticket_wait(a, 0), WEIR_IO);
    assert_ok(weir_ticket_wait(b, 0));
    assert_int_equal(weir_null_complete(f->device, 9, WEIR_OK), 0);
}

static void conflicting_passes_are_in_the_order_of_their_commits(void** state) {
    order_fixture* f = *state;
    const weir_ticket write = commit(f, 0, 0, 16, WEIR_ACCESS_WRITE);
    const weir_ticket read = commit(f, 1, 15, 2, WEIR_ACCESS_READ);
    const weir_ticket also = commit(f, 1, 0, 4, WEIR_ACCESS_READ);
    const weir_ticket again = commit(f, 0, 16, 1, WEIR_ACCESS_READ_WRITE); // after `read` alone
    assert_false(weir_null_complete_ticket(read, WEIR_OK));
    assert_false(weir_null_complete_ticket(also, WEIR_OK));
    assert_false(weir_null_complete_ticket(again, WEIR_OK));
    assert_true(weir_null_complete_ticket(write, WEIR_OK));
    assert_false(weir_null_complete_ticket(again, WEIR_OK));
    assert_true(weir_null_complete_ticket(read, WEIR_OK));
    assert_true(weir_null_complete_ticket(again, WEIR_OK));
    assert_true(weir_null_complete_ticket(also, WEIR_OK));
}

static void readers_of_the_same_bytes_do_not_wait_for_each_other(void** state) {
    order_fixture* f = *state;
    const weir_ticket a = commit(f, 0, 0, 64, WEIR_ACCESS_READ);
    const weir_ticket b = commit(f, 1, 0, 64, WEIR_ACCESS_READ);
    assert_true(weir_null_complete_ticket(b, WEIR_OK));
    assert_true(weir_null_complete_ticket(a, WEIR_OK));
}

static void an_undeclared_dispatch_fences_its_pass_against_all_others(void** state) {
    order_fixture* f = *state;
    const weir_ticket before = commit(f, 1, 0, 1, WEIR_ACCESS_READ);
    const weir_ticket fence = commit_fence(f);
    const weir_ticket after = commit(f, 1, 32, 1, WEIR_ACCESS_READ);
    assert_false(weir_null_complete_ticket(after, WEIR_OK));
    assert_false(weir_null_complete_ticket(fence, WEIR_OK));
    assert_true(weir_null_complete_ticket(before, WEIR_OK));
    assert_false(weir_null_complete_ticket(after, WEIR_OK));
    assert_true(weir_null_complete_ticket(fence, WEIR_OK));
    assert_true(weir_null_complete_ticket(after, WEIR_OK));
}

static void interleaved_columns_do_not_conflict(void** state) {
    order_fixture* f = *state;
    weir_view rows;
    weir_view columns[2];
    const weir_view all = floats_of(f->storage, 0, 64);
    const weir_shape shape = weir_shape_make(2, (int64_t[]){8, 8});
    assert_ok(weir_view_reshape(&all, &shape, &rows));
    weir_ticket tickets[2];
    for (int i = 0; i < 2; i++) {
        assert_ok(weir_view_narrow(&rows, 1, 4 * i, 4, &columns[i]));
        const weir_operand operand = {columns[i], WEIR_ACCESS_WRITE};
        const weir_dispatch_desc desc = {
            .kernel = do_nothing, .operands = &operand, .operand_count = 1};
        assert_ok(weir_session_dispatch(f->sessions[i], &desc, NULL));
        assert_ok(weir_session_commit(f->sessions[i], &tickets[i]));
    }
    assert_true(weir_null_complete_ticket(tickets[1], WEIR_OK));
    assert_true(weir_null_complete_ticket(tickets[0], WEIR_OK));
}

static void the_device_knows_which_bytes_are_in_flight(void** state) {
    order_fixture* f = *state;
    const weir_ticket write = commit(f, 0, 0, 16, WEIR_ACCESS_WRITE);
    const weir_ticket read = commit(f, 1, 8, 16, WEIR_ACCESS_READ);
    const weir_view view = floats_of(f->storage, 32, 8); // floats [8, 16)
    const weir_view behind = floats_of(f->storage, 96, 40);
    const weir_access accesses[] = {weir_access_from_view(&behind, WEIR_ACCESS_WRITE),
                                    weir_access_from_view(&view, WEIR_ACCESS_READ)};
    const weir_access written = weir_access_from_view(&view, WEIR_ACCESS_WRITE);
    weir_ticket youngest = {0};
    assert_false(weir_device_in_flight(f->device, accesses, 1, &youngest));
    assert_false(weir_device_in_flight(f->device, NULL, 0, &youngest));
    assert_int_equal(youngest.sequence, 0);
    assert_true(weir_device_in_flight(f->device, accesses, 2, &youngest));
    assert_int_equal(youngest.sequence, write.sequence);
    assert_true(weir_device_in_flight(f->device, &written, 1, &youngest));
    assert_int_equal(youngest.sequence, read.sequence);
    assert_true(weir_null_complete_ticket(write, WEIR_OK));
    assert_true(weir_device_in_flight(f->device, &written, 1, NULL));
    assert_false(weir_device_in_flight(f->device, accesses, 2, NULL));
    assert_ok(weir_device_wait_for(f->device, accesses, 2)); // although `read` is in flight
    assert_int_equal(weir_null_complete(f->device, 9, WEIR_OK), 1);
    assert_ok(weir_device_wait_for(f->device, &written, 1));
}

static void storage_sealed_after_the_recording_is_not_written(void** state) {
    order_fixture* f = *state;
    const weir_operand operand = {floats_of(f->storage, 0, 4), WEIR_ACCESS_WRITE};
    const weir_dispatch_desc desc = {
        .name = "late", .kernel = do_nothing, .operands = &operand, .operand_count = 1};
    weir_ticket ticket;
    assert_ok(weir_session_dispatch(f->sessions[0], &desc, NULL));
    assert_ok(weir_storage_seal(f->storage));
    assert_status(weir_session_commit(f->sessions[0], &ticket), WEIR_INVALID_ARGUMENT);
    assert_message_has("late: operand 0 writes to storage zeros, which was sealed since");
}

// Two numbers that one pass reads, and the next writes: y[1] = y[0] + 1, slowly.
static weir_status step_on(const weir_kernel_call* call) {
    const float* x = call->pointers[0];
    float* y = call->pointers[1];
    sleep_us(*(const uint32_t*)call->constants);
    *y = *x + 1.0f;
    return WEIR_OK;
}

// Without a wait by the host in between, pass 1 reads the old bytes and pass 2 the new ones.
static void a_write_between_two_passes_is_seen_by_the_second_alone(void** state) {
    order_fixture* f = *state;
    for (uint32_t round = 0; round < 20; round++) {
        const uint32_t delay_us = 2000 / (round + 1);
        const weir_operand passes[3][2] = {
            {{floats_of(f->storage, 0, 1), WEIR_ACCESS_READ},
             {floats_of(f->storage, 4, 1), WEIR_ACCESS_WRITE}},
            {{floats_of(f->storage, 8, 1), WEIR_ACCESS_READ}, // the write
             {floats_of(f->storage, 0, 1), WEIR_ACCESS_WRITE}},
            {{floats_of(f->storage, 0, 1), WEIR_ACCESS_READ},
             {floats_of(f->storage, 12, 1), WEIR_ACCESS_WRITE}},
        };
        weir_ticket tickets[3];
        f->numbers[0] = 10.0f; // old
        f->numbers[2] = 20.0f; // new - 1
        for (int i = 0; i < 3; i++) {
            const weir_dispatch_desc desc = {.name = "step",
                                             .kernel = step_on,
                                             .operands = passes[i],
                                             .operand_count = 2,
                                             .constants = &delay_us,
                                             .constants_size = sizeof delay_us};
            weir_session* session = f->sessions[round % 2 ? i % 2 : 0];
            assert_ok(weir_session_dispatch(session, &desc, NULL));
            assert_ok(weir_session_commit(session, &tickets[i]));
        }
        assert_ok(weir_ticket_wait(tickets[2], WEIR_WAIT_FOREVER));
        assert_true(weir_ticket_is_complete(tickets[0]) && weir_ticket_is_complete(tickets[1]));
        assert_true(f->numbers[1] == 11.0f);
        assert_true(f->numbers[3] == 22.0f);
    }
}

typedef struct meeting {
    atomic_uint* arrived;
    atomic_bool* missed;
} meeting;

static weir_status meet(const weir_kernel_call* call) {
    const meeting* m = call->constants;
    const uint64_t begin = now_ns();
    atomic_fetch_add(m->arrived, 1);
    while (atomic_load(m->arrived) < 2 && !atomic_load(m->missed)) {
        if (now_ns() - begin > UINT64_C(20000000000)) {
            atomic_store(m->missed, true);
        }
    }
    return WEIR_OK;
}

// Each of two kernels waits for the flag of the other.
static void meet_in_sessions(const order_fixture* f, weir_session* first, weir_session* second) {
    for (int round = 0; round < 100; round++) {
        atomic_uint arrived = 0;
        atomic_bool missed = false;
        const meeting m = {&arrived, &missed};
        weir_ticket tickets[2];
        for (int i = 0; i < 2; i++) {
            weir_session* session = i == 0 ? first : second;
            const weir_operand operand = {floats_of(f->storage, (uint64_t)i * 128, 32),
                                          WEIR_ACCESS_READ_WRITE};
            const weir_dispatch_desc desc = {.name = "meet",
                                             .kernel = meet,
                                             .operands = &operand,
                                             .operand_count = 1,
                                             .constants = &m,
                                             .constants_size = sizeof m};
            assert_ok(weir_session_dispatch(session, &desc, NULL));
            assert_ok(weir_session_commit(session, &tickets[i]));
        }
        assert_ok(weir_ticket_wait(tickets[1], WEIR_WAIT_FOREVER));
        assert_ok(weir_ticket_wait(tickets[0], WEIR_WAIT_FOREVER));
        assert_false(atomic_load(&missed));
    }
}

static void disjoint_passes_of_two_sessions_run_together(void** state) {
    order_fixture* f = *state;
    meet_in_sessions(f, f->sessions[0], f->sessions[1]);
}

static void disjoint_passes_of_one_session_run_together(void** state) {
    order_fixture* f = *state;
    meet_in_sessions(f, f->sessions[0], f->sessions[0]);
}

typedef struct guard {
    atomic_int* inside; // kernels that are between their first and last line
    atomic_int* overlaps;
} guard;

static weir_status enter_alone(const weir_kernel_call* call) {
    const guard* g = call->constants;
    if (atomic_fetch_add(g->inside, 1) != 0) {
        atomic_fetch_add(g->overlaps, 1);
    }
    sleep_us(call->views[0].shape.dims[0] % 3 == 0 ? 30 : 0);
    *(float*)call->pointers[0] += 1.0f;
    atomic_fetch_sub(g->inside, 1);
    return WEIR_OK;
}

// All of these passes share one float, and touch floats of their own besides.
static void conflicting_passes_never_overlap_in_time(void** state) {
    order_fixture* f = *state;
    atomic_int inside = 0;
    atomic_int overlaps = 0;
    const guard g = {&inside, &overlaps};
    weir_ticket last = {0};
    for (int i = 0; i < 300; i++) {
        const weir_operand operand = {floats_of(f->storage, 4, 1 + i % 17), WEIR_ACCESS_READ_WRITE};
        const weir_dispatch_desc desc = {.name = "alone",
                                         .kernel = enter_alone,
                                         .operands = &operand,
                                         .operand_count = 1,
                                         .constants = &g,
                                         .constants_size = sizeof g};
        assert_ok(weir_session_dispatch(f->sessions[i % 2], &desc, NULL));
        assert_ok(weir_session_commit(f->sessions[i % 2], &last));
    }
    assert_ok(weir_ticket_wait(last, WEIR_WAIT_FOREVER));
    assert_int_equal(atomic_load(&overlaps), 0);
    assert_true(f->numbers[1] == 300.0f);
}

static weir_status fail_slowly(const weir_kernel_call* call) {
    (void)call;
    sleep_us(500);
    return WEIR_FAIL(WEIR_BAD_FORMAT, "nothing fits");
}

static weir_status add_one(const weir_kernel_call* call) {
    *(float*)call->pointers[0] += 1.0f;
    return WEIR_OK;
}

static void passes_behind_a_failed_one_run_all_the_same(void** state) {
    order_fixture* f = *state;
    const weir_operand operand = {floats_of(f->storage, 0, 1), WEIR_ACCESS_READ_WRITE};
    weir_ticket tickets[3];
    for (int i = 0; i < 3; i++) {
        const weir_dispatch_desc desc = {.name = i == 0 ? "bad" : "good",
                                         .kernel = i == 0 ? fail_slowly : add_one,
                                         .operands = &operand,
                                         .operand_count = 1};
        assert_ok(weir_session_dispatch(f->sessions[i % 2], &desc, NULL));
        assert_ok(weir_session_commit(f->sessions[i % 2], &tickets[i]));
    }
    assert_ok(weir_ticket_wait(tickets[2], WEIR_WAIT_FOREVER));
    assert_ok(weir_ticket_wait(tickets[1], WEIR_WAIT_FOREVER));
    assert_status(weir_ticket_wait(tickets[0], WEIR_WAIT_FOREVER), WEIR_BAD_FORMAT);
    assert_string_equal(weir_last_error(), "bad: nothing fits");
    assert_true(f->numbers[0] == 2.0f);
}

#define of_cpu(test) cmocka_unit_test_setup_teardown(test, open_cpu_pair, close_pair)
#define of_null(test) cmocka_unit_test_setup_teardown(test, open_manual_pair, close_pair)

int main(void) {
    const struct CMUnitTest tests[] = {
        of_null(disjoint_passes_complete_in_any_order),
        of_null(conflicting_passes_are_in_the_order_of_their_commits),
        of_null(readers_of_the_same_bytes_do_not_wait_for_each_other),
        of_null(an_undeclared_dispatch_fences_its_pass_against_all_others),
        of_null(interleaved_columns_do_not_conflict),
        of_null(the_device_knows_which_bytes_are_in_flight),
        of_null(storage_sealed_after_the_recording_is_not_written),
        of_cpu(a_write_between_two_passes_is_seen_by_the_second_alone),
        of_cpu(disjoint_passes_of_two_sessions_run_together),
        of_cpu(disjoint_passes_of_one_session_run_together),
        of_cpu(conflicting_passes_never_overlap_in_time),
        of_cpu(passes_behind_a_failed_one_run_all_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
