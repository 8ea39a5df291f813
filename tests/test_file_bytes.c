// Writing small files: what the system says by a signal is a value here.
#include "testing.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file_bytes.h"

#define LIMIT 64
#define MANY 256 // bytes, more than LIMIT

static bool is_pending(int signal_number) {
    sigset_t pending;
    return sigpending(&pending) == 0 && sigismember(&pending, signal_number) == 1;
}

static bool is_blocked(int signal_number) {
    sigset_t blocked;
    return pthread_sigmask(SIG_BLOCK, NULL, &blocked) == 0 &&
           sigismember(&blocked, signal_number) == 1;
}

// A pipe that nobody reads from any more.
static int open_left_pipe(void) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    return ends[1];
}

static volatile sig_atomic_t handled = 0;

static void handle(int signal_number) {
    handled = signal_number;
}

static void a_reader_that_has_left_is_an_error_without_signal(void** state) {
    (void)state;
    const int end = open_left_pipe();
    assert_false(file_write_all(end, "text", 4)); // SIGPIPE would end the test
    assert_int_equal(errno, EPIPE);
    handled = 0;
    signal(SIGPIPE, handle);
    assert_false(file_write_all(end, "text", 4));
    assert_int_equal(errno, EPIPE);
    assert_int_equal(handled, 0);
    signal(SIGPIPE, SIG_DFL);
    assert_false(is_blocked(SIGPIPE) || is_pending(SIGPIPE));
    close(end);
}

// A signal that the caller holds back, and has not taken yet, stays.
static void a_signal_that_waits_is_left_to_the_caller(void** state) {
    (void)state;
    const int end = open_left_pipe();
    sigset_t set;
    const struct timespec at_once = {0};
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    assert_false(file_write_all(end, "text", 4));
    assert_true(is_blocked(SIGPIPE));
    assert_false(is_pending(SIGPIPE));
    raise(SIGPIPE);
    assert_false(file_write_all(end, "text", 4));
    assert_true(is_pending(SIGPIPE));
    assert_int_equal(sigtimedwait(&set, NULL, &at_once), SIGPIPE);
    assert_int_equal(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
    close(end);
}

static void a_limit_on_files_is_an_error_without_signal(void** state) {
    (void)state;
    static const char bytes[MANY];
    char path[] = "/tmp/weir-file-bytes-XXXXXX";
    struct rlimit before;
    const int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    const struct rlimit tight = {LIMIT, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    const bool written = file_write_all(descriptor, bytes, sizeof bytes);
    const int error = errno;
    const bool pending = is_pending(SIGXFSZ);
    const bool fits = file_write_all(descriptor, bytes, 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_false(written);
    assert_int_equal(error, EFBIG);
    assert_false(pending || is_blocked(SIGXFSZ));
    assert_true(fits);
    assert_int_equal(lseek(descriptor, 0, SEEK_END), LIMIT);
    close(descriptor);
    assert_int_equal(unlink(path), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_that_has_left_is_an_error_without_signal),
        cmocka_unit_test(a_signal_that_waits_is_left_to_the_caller),
        cmocka_unit_test(a_limit_on_files_is_an_error_without_signal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
