// Devices: opening and closing, what the null device does, failures of kernels and of the device.
#include "testing.h"

#include <fenv.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "session_fixture.h"

// Makes every thread creation of a child process fail, and tries to open a device there.
static void a_worker_that_cannot_be_started_is_reported(void** state) {
    (void)state;
    fflush(stdout);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit none = {0, 0};
        const bool limited =
            (geteuid() != 0 || setuid(65534) == 0) && setrlimit(RLIMIT_NPROC, &none) == 0;
        weir_device* device = NULL;
        const weir_status status =
            limited
                ? weir_device_create(&(weir_device_desc){.name = "cpu", .thread_count = 3}, &device)
                : WEIR_OK;
        _exit(!limited ? 77
                       : (status == WEIR_IO && !device && strstr(weir_last_error(), "worker 0 of 3")
                              ? 0
                              : 1));
    }
    int outcome = 0;
    assert_int_equal(waitpid(child, &outcome, 0), child);
    assert_true(WIFEXITED(outcome));
    if (WEXITSTATUS(outcome) == 77) {
        print_message("skipped: the number of threads cannot be limited here\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(outcome), 0);
}

static void the_thread_count_is_the_one_asked_for(void** state) {
    (void)state;
    for (uint32_t threads = 1; threads <= 4; threads++) {
        weir_device* device = open_device("cpu", threads, NULL);
        assert_int_equal(weir_device_thread_count(device), threads);
        assert_string_equal(weir_device_target(device)->name, "cpu");
        weir_device_destroy(device);
    }
    weir_device* device = open_device(NULL, 0, NULL);
    assert_true(weir_device_thread_count(device) >= 1);
    weir_device_destroy(device);
    weir_device_destroy(NULL);
    device = NULL;
    assert_status(
        weir_device_create(&(weir_device_desc){.thread_count = WEIR_THREADS_MAX + 1}, &device),
        WEIR_INVALID_ARGUMENT);
    assert_message_has("1025 worker threads, at most 1024");
    assert_null(device);
    weir_target target;
    assert_ok(weir_target_find(NULL, &target));
    assert_string_equal(target.name, "cpu");
    assert_status(weir_target_find("abacus", &target), WEIR_NOT_FOUND);
    assert_message_has("cpu, cpu:plain");
}

static void the_null_device_runs_no_kernel(void** state) {
    fixture* f = *state;
    assert_ok(record_add(f, floats_of(f->storage, 0, 64), 1.0f));
    weir_ticket ticket;
    assert_ok(weir_session_commit(f->session, &ticket));
    assert_true(weir_ticket_is_complete(ticket));
    assert_ok(weir_ticket_wait(ticket, 0));
    assert_true(f->numbers[0] == 0.0f);
    assert_int_equal(weir_null_complete(f->device, 1, WEIR_OK), 0); // completes by itself
}

static void the_null_device_fails_the_call_that_a_test_names(void** state) {
    fixture* f = *state;
    float number = 0.0f;
    const weir_storage_desc room = {.byte_size = 64};
    const weir_storage_wrap_desc wrap = {.pointer = &number, .byte_size = sizeof number};
    const weir_storage_map_desc map = {.path = "/proc/self/exe"};
    weir_storage* storage = NULL;
    weir_null_fail(f->device, 2, WEIR_DEVICE_OUT_OF_MEMORY);
    for (int i = 0; i < 2; i++) {
        assert_ok(weir_storage_allocate(f->device, &room, &storage));
        weir_storage_release(storage);
    }
    storage = NULL;
    assert_status(weir_storage_allocate(f->device, &room, &storage), WEIR_DEVICE_OUT_OF_MEMORY);
    weir_null_fail(f->device, 0, WEIR_IO);
    assert_status(weir_storage_map(f->device, &map, &storage), WEIR_IO);
    weir_null_fail(f->device, 0, WEIR_UNSUPPORTED);
    assert_status(weir_storage_wrap(f->device, &wrap, &storage), WEIR_UNSUPPORTED);
    assert_null(storage);
    weir_null_fail(f->device, 0, WEIR_IO);
    weir_null_fail(f->device, 0, WEIR_OK);
    assert_ok(weir_storage_wrap(f->device, &wrap, &storage));
    weir_storage_release(storage);
}

static weir_status fail_in_tile_two(const weir_kernel_call* call) {
    return call->tile == 2 ? WEIR_FAIL(WEIR_BAD_FORMAT, "row %d is bad", 7) : WEIR_OK;
}

static weir_status fail_without_words(const weir_kernel_call* call) {
    (void)call;
    return WEIR_IO;
}

static void a_failing_kernel_ends_its_pass_and_no_other(void** state) {
    fixture* f = *state;
    const weir_operand operand = {floats_of(f->storage, 0, 64), WEIR_ACCESS_READ_WRITE};
    for (int round = 0; round < 20; round++) {
        const weir_dispatch_desc bad = {.name = "decode",
                                        .kernel = fail_in_tile_two,
                                        .operands = &operand,
                                        .operand_count = 1,
                                        .tile_count = 5};
        f->numbers[0] = 0.0f;
        assert_ok(record_add(f, operand.view, 1.0f));
        assert_ok(weir_session_dispatch(f->session, &bad, NULL));
        assert_ok(record_add(f, operand.view, 10.0f));
        assert_ok(record_add(f, operand.view, 10.0f));
        assert_status(weir_session_finish(f->session), WEIR_BAD_FORMAT);
        assert_string_equal(weir_last_error(), "decode: row 7 is bad");
        assert_true(f->numbers[0] == 1.0f);
        assert_ok(record_add(f, operand.view, 2.0f));
        assert_ok(weir_session_finish(f->session));
        assert_true(f->numbers[0] == 3.0f);
    }
}

static void a_failure_without_a_message_is_not_given_an_older_one(void** state) {
    fixture* f = *state;
    for (int i = 0; i < 10; i++) {
        const weir_dispatch_desc loud = {
            .name = "loud", .kernel = fail_in_tile_two, .tile_count = 8};
        const weir_dispatch_desc silent = {.name = "silent", .kernel = fail_without_words};
        assert_ok(weir_session_dispatch(f->session, &loud, NULL));
        assert_status(weir_session_finish(f->session), WEIR_BAD_FORMAT);
        assert_ok(weir_session_dispatch(f->session, &silent, NULL));
        assert_status(weir_session_finish(f->session), WEIR_IO);
        assert_string_equal(weir_last_error(), "silent: input/output error");
    }
}

// Says which thread ran it, and how arithmetic rounds there.
static weir_status tell_thread(const weir_kernel_call* call) {
    void* const* told = call->constants;
    *(pthread_t*)told[0] = pthread_self();
    *(int*)told[1] = fegetround();
    return WEIR_OK;
}

static void a_host_thread_that_waits_takes_the_place_of_a_worker(void** state) {
    (void)state;
    for (uint32_t workers = 1; workers <= 2; workers++) {
        weir_device* device = open_device("cpu", workers, NULL);
        weir_session* session = NULL;
        assert_ok(weir_session_create(device, &session));
        assert_int_equal(fesetround(FE_UPWARD), 0);
        uint32_t times_here = 0;
        for (int round = 0; round < 200; round++) {
            pthread_t thread;
            int rounding = -1;
            weir_ticket ticket = {0};
            void* const told[] = {&thread, &rounding};
            const weir_dispatch_desc desc = {
                .kernel = tell_thread, .constants = told, .constants_size = sizeof told};
            assert_ok(weir_session_dispatch(session, &desc, NULL));
            if (round % 4 == 3) { // nobody waits: the worker runs it
                assert_ok(weir_session_commit(session, &ticket));
                while (!weir_ticket_is_complete(ticket)) {
                    sleep_us(1);
                }
            } else {
                assert_ok(weir_session_finish(session));
            }
            const bool here = pthread_equal(thread, pthread_self()) != 0;
            assert_int_equal(rounding, FE_TONEAREST);
            assert_true(!here || round % 4 != 3);
            times_here += here;
        }
        assert_true(times_here > 0 || workers == 2); // a worker that is about may come first
        assert_int_equal(fegetround(), FE_UPWARD);   // the host has its own back
        assert_int_equal(fesetround(FE_TONEAREST), 0);
        weir_session_destroy(session);
        weir_device_destroy(device);
    }
}

static void the_last_error_of_the_host_is_no_kernels(void** state) {
    fixture* f = *state;
    for (int i = 0; i < 50; i++) {
        char place[128];
        weir_device* device = NULL;
        const weir_dispatch_desc silent = {.name = "silent", .kernel = fail_without_words};
        assert_status(weir_device_create(&(weir_device_desc){.name = "toaster"}, &device),
                      WEIR_NOT_FOUND);
        snprintf(place, sizeof place, "%s", weir_last_error_place());
        assert_true(place[0] != '\0');
        assert_ok(
            weir_session_dispatch(f->session, &(weir_dispatch_desc){.kernel = do_nothing}, NULL));
        assert_ok(weir_session_finish(f->session));
        assert_message_has("toaster"); // a pass that succeeds leaves it alone
        assert_string_equal(weir_last_error_place(), place);
        assert_ok(weir_session_dispatch(f->session, &silent, NULL));
        assert_status(weir_session_finish(f->session), WEIR_IO);
        assert_string_equal(weir_last_error(), "silent: input/output error");
    }
}

static void* wait_for_loss(void* argument) {
    const weir_ticket* ticket = argument;
    const weir_status status = weir_ticket_wait(*ticket, WEIR_WAIT_FOREVER);
    return status == WEIR_DEVICE_LOST && strstr(weir_last_error(), "the bus fell off") ? argument
                                                                                       : NULL;
}

static void a_lost_device_hangs_nobody_and_keeps_the_first_cause(void** state) {
    (void)state;
    weir_device* device = open_manual();
    weir_session* session = NULL;
    static float number;
    int released = 0;
    weir_storage* storage = wrap_counted(device, &number, sizeof number, &released);
    const weir_operand operand = {floats_of(storage, 0, 1), WEIR_ACCESS_WRITE};
    const weir_dispatch_desc desc = {
        .name = "write", .kernel = do_nothing, .operands = &operand, .operand_count = 1};
    weir_ticket held;
    pthread_t waiter;
    void* woken = NULL;
    assert_ok(weir_session_create(device, &session));
    const weir_ticket before = commit_one(session);
    const weir_ticket failed = commit_one(session);
    assert_int_equal(weir_null_complete(device, 1, WEIR_OK), 1);
    assert_int_equal(weir_null_complete(device, 1, WEIR_IO), 1);
    assert_ok(weir_session_dispatch(session, &desc, NULL));
    assert_ok(weir_session_commit(session, &held));
    weir_ticket last = commit_one(session);
    weir_storage_release(storage);
    assert_int_equal(pthread_create(&waiter, NULL, wait_for_loss, &last), 0);
    sleep_us(3000);
    weir_null_lose(device, "the bus fell off");
    weir_null_lose(device, "somebody noticed");
    pthread_join(waiter, &woken);
    assert_ptr_equal(woken, &last);
    assert_true(weir_ticket_is_complete(held));
    assert_status(weir_ticket_wait(held, WEIR_WAIT_FOREVER), WEIR_DEVICE_LOST);
    assert_string_equal(weir_last_error(), "device null is lost: the bus fell off");
    assert_int_equal(released, 1);
    assert_ok(weir_ticket_wait(before, 0)); // what was over stays as it was
    assert_status(weir_ticket_wait(failed, 0), WEIR_IO);
    for (int i = 0; i < 3; i++) {
        weir_ticket ticket = {.sequence = 1234};
        assert_ok(
            weir_session_dispatch(session, &(weir_dispatch_desc){.kernel = do_nothing}, NULL));
        assert_status(weir_session_commit(session, &ticket), WEIR_DEVICE_LOST);
        assert_message_has("the bus fell off");
        assert_int_equal(ticket.sequence, 1234);
    }
    assert_status(weir_session_finish(session), WEIR_DEVICE_LOST);
    assert_int_equal(weir_null_complete(device, 9, WEIR_OK), 0);
    assert_ok(weir_device_set_tile_hook(device, NULL, NULL)); // nothing is in flight
    weir_session_destroy(session);
    weir_device_destroy(device);
    device = open_manual(); // another one is as good as ever
    assert_ok(weir_session_create(device, &session));
    last = commit_one(session);
    assert_int_equal(weir_null_complete(device, 1, WEIR_OK), 1);
    assert_ok(weir_ticket_wait(last, 0));
    weir_session_destroy(session);
    weir_device_destroy(device);
}

static void a_submission_that_loses_the_device_poisons_it(void** state) {
    fixture* f = *state;
    weir_ticket ticket;
    assert_ok(record_add(f, floats_of(f->storage, 0, 64), 1.0f));
    weir_null_fail(f->device, 0, WEIR_DEVICE_LOST);
    assert_status(weir_session_commit(f->session, &ticket), WEIR_DEVICE_LOST);
    assert_status(weir_session_commit(f->session, &ticket), WEIR_DEVICE_LOST);
    assert_message_has("lost: submit fails because a test asked for it");
}

static void a_completion_that_loses_the_device_poisons_it(void** state) {
    (void)state;
    weir_device* device = open_manual();
    weir_session* session = NULL;
    weir_ticket tickets[70];
    assert_ok(weir_session_create(device, &session));
    for (int i = 0; i < 70; i++) { // the first ones are over when it happens
        tickets[i] = commit_one(session);
        assert_int_equal(weir_null_complete(device, i < 10 ? 1 : 0, WEIR_OK), i < 10 ? 1 : 0);
    }
    assert_int_equal(weir_null_complete(device, 1, WEIR_DEVICE_LOST), 1);
    for (int i = 0; i < 70; i++) {
        assert_true(weir_ticket_is_complete(tickets[i]));
        assert_status(weir_ticket_wait(tickets[i], 0), i < 10 ? WEIR_OK : WEIR_DEVICE_LOST);
    }
    weir_session_destroy(session);
    weir_device_destroy(device);
}

static void* lose_soon(void* argument) {
    sleep_us(5000);
    weir_null_lose(argument, "gone");
    return NULL;
}

static void a_commit_that_waits_for_room_is_told_of_the_loss(void** state) {
    (void)state;
    weir_device* device = open_manual();
    weir_session* session = NULL;
    pthread_t thread;
    weir_ticket ticket;
    assert_ok(weir_session_create(device, &session));
    for (int i = 0; i < 64; i++) {
        commit_one(session);
    }
    assert_int_equal(pthread_create(&thread, NULL, lose_soon, device), 0);
    assert_ok(weir_session_dispatch(session, &(weir_dispatch_desc){.kernel = do_nothing}, NULL));
    assert_status(weir_session_commit(session, &ticket), WEIR_DEVICE_LOST);
    pthread_join(thread, NULL);
    weir_session_destroy(session);
    weir_device_destroy(device);
}

static weir_status say_lost(const weir_kernel_call* call) {
    (void)call;
    return WEIR_FAIL(WEIR_DEVICE_LOST, "some other device");
}

static void a_kernel_cannot_lose_the_device_that_runs_it(void** state) {
    fixture* f = *state;
    assert_ok(weir_session_dispatch(f->session, &(weir_dispatch_desc){.kernel = say_lost}, NULL));
    assert_status(weir_session_finish(f->session), WEIR_DEVICE_LOST);
    assert_string_equal(weir_last_error(), "kernel: some other device");
    assert_ok(record_add(f, floats_of(f->storage, 0, 64), 1.0f));
    assert_ok(weir_session_finish(f->session));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_that_cannot_be_started_is_reported),
        cmocka_unit_test(the_thread_count_is_the_one_asked_for),
        cmocka_unit_test(a_host_thread_that_waits_takes_the_place_of_a_worker),
        on_null(the_null_device_runs_no_kernel),
        on_null(the_null_device_fails_the_call_that_a_test_names),
        on_cpu(a_failing_kernel_ends_its_pass_and_no_other),
        on_cpu(a_failure_without_a_message_is_not_given_an_older_one),
        on_cpu(the_last_error_of_the_host_is_no_kernels),
        cmocka_unit_test(a_lost_device_hangs_nobody_and_keeps_the_first_cause),
        on_null(a_submission_that_loses_the_device_poisons_it),
        cmocka_unit_test(a_completion_that_loses_the_device_poisons_it),
        cmocka_unit_test(a_commit_that_waits_for_room_is_told_of_the_loss),
        on_cpu(a_kernel_cannot_lose_the_device_that_runs_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
