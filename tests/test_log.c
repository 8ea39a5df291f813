// What the library tells a log callback, and what it keeps to itself.
#include "testing.h"

#include <weir/session.h>

typedef struct book {
    int lines;
    weir_log_level last_level;
    char last[256];
} book;

static void keep(void* context, weir_log_level level, const char* text) {
    book* kept = context;
    kept->lines++;
    kept->last_level = level;
    snprintf(kept->last, sizeof kept->last, "%s", text);
}

static weir_status fail_always(const weir_kernel_call* call) {
    (void)call;
    return WEIR_FAIL(WEIR_CANCELLED, "said the kernel");
}

static void run_failing(weir_device* device) {
    weir_session* session = NULL;
    assert_ok(weir_session_create(device, &session));
    assert_ok(weir_session_dispatch(
        session, &(weir_dispatch_desc){.name = "culprit", .kernel = fail_always}, NULL));
    assert_status(weir_session_finish(session), WEIR_CANCELLED);
    weir_session_destroy(session);
}

static weir_device* open_device(book* kept, weir_log_level level) {
    const weir_device_desc desc = {
        .name = "cpu",
        .thread_count = 1,
        .log = {.context = kept, .write = keep, .level = level},
    };
    weir_device* device = NULL;
    assert_ok(weir_device_create(&desc, &device));
    return device;
}

static void a_failed_pass_is_an_error_line_with_its_dispatch(void** state) {
    (void)state;
    book kept = {0};
    weir_device* device = open_device(&kept, WEIR_LOG_ERROR);
    assert_int_equal(kept.lines, 0);
    run_failing(device);
    assert_int_equal(kept.lines, 1);
    assert_int_equal(kept.last_level, WEIR_LOG_ERROR);
    assert_non_null(strstr(kept.last, "culprit: said the kernel"));
    weir_device_destroy(device);
}

static void levels_above_the_wanted_one_are_dropped(void** state) {
    (void)state;
    book kept = {0};
    weir_device* device = open_device(&kept, WEIR_LOG_INFO);
    assert_int_equal(kept.lines, 1);
    assert_string_equal(kept.last, "cpu: 1 workers");
    weir_device_destroy(device);
}

static void without_a_callback_nothing_is_written(void** state) {
    (void)state;
    weir_device* device = NULL;
    assert_ok(weir_device_create(&(weir_device_desc){.log = {.level = WEIR_LOG_DEBUG}}, &device));
    run_failing(device);
    weir_device_destroy(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_pass_is_an_error_line_with_its_dispatch),
        cmocka_unit_test(levels_above_the_wanted_one_are_dropped),
        cmocka_unit_test(without_a_callback_nothing_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
