// Statuses and the message that goes with the last failure of a thread.
#include "testing.h"

#include <pthread.h>
#include <weir/status.h>

#define MESSAGE_BYTES 1024 // with the NUL at its end

static void every_status_has_a_text_of_its_own(void** state) {
    (void)state;
    for (int i = 0; i < WEIR_STATUS_COUNT; i++) {
        const char* text = weir_status_text((weir_status)i);
        assert_string_not_equal(text, "unknown status");
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(text, weir_status_text((weir_status)k));
        }
    }
    assert_string_equal(weir_status_text(WEIR_STATUS_COUNT), "unknown status");
    assert_string_equal(weir_status_text((weir_status)-1), "unknown status");
}

static void a_failure_keeps_its_message_and_its_place(void** state) {
    (void)state;
    assert_int_equal(weir_status_fail(WEIR_BUSY, "here.c", 12, "%d of %s", 3, "five"), WEIR_BUSY);
    assert_string_equal(weir_last_error(), "3 of five");
    assert_string_equal(weir_last_error_place(), "here.c:12");
    assert_int_equal(weir_status_fail(WEIR_IO, NULL, 0, "again: %s", weir_last_error()), WEIR_IO);
    assert_string_equal(weir_last_error(), "again: 3 of five");
    assert_string_equal(weir_last_error_place(), "");
}

// What was found and expected stands at the end, behind paths of any length.
static void a_long_message_loses_its_middle(void** state) {
    (void)state;
    static char path[20000];
    for (size_t length = MESSAGE_BYTES - 40; length < MESSAGE_BYTES + 40; length++) {
        memset(path, 'p', length);
        path[length] = '\0';
        assert_int_equal(WEIR_FAIL(WEIR_IO, "begin %s end", path), WEIR_IO);
        const char* message = weir_last_error();
        const size_t whole = length + strlen("begin  end");
        assert_int_equal(strlen(message), whole < MESSAGE_BYTES ? whole : MESSAGE_BYTES - 1);
        assert_memory_equal(message, "begin ppp", 9);
        assert_string_equal(message + strlen(message) - 7, "ppp end");
        assert_true((strstr(message, "ppp ... ppp") != NULL) == (whole >= MESSAGE_BYTES));
    }
    memset(path, 'p', sizeof path - 1);
    assert_int_equal(WEIR_FAIL(WEIR_IO, "%s", path), WEIR_IO);
    assert_int_equal(strlen(weir_last_error()), MESSAGE_BYTES - 1);
}

static void* fail_beside(void* seen) {
    *(bool*)seen = weir_last_error()[0] == '\0' && weir_last_error_place()[0] == '\0';
    return (void*)(uintptr_t)WEIR_FAIL(WEIR_IO, "of the other thread");
}

static void threads_have_messages_of_their_own(void** state) {
    (void)state;
    pthread_t thread;
    bool began_empty = false;
    assert_int_equal(WEIR_FAIL(WEIR_BUSY, "of this thread"), WEIR_BUSY);
    assert_int_equal(pthread_create(&thread, NULL, fail_beside, &began_empty), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(began_empty);
    assert_string_equal(weir_last_error(), "of this thread");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_a_text_of_its_own),
        cmocka_unit_test(a_failure_keeps_its_message_and_its_place),
        cmocka_unit_test(a_long_message_loses_its_middle),
        cmocka_unit_test(threads_have_messages_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
