// What every test includes: cmocka with its prerequisites, and a few helpers.
#ifndef WEIR_TESTS_TESTING_H
#define WEIR_TESTS_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weir/status.h>

// Fails the test with the library's message when `expression` is not WEIR_OK.
#define assert_ok(expression) assert_status((expression), WEIR_OK)

#define assert_status(expression, expected)                                                        \
    do {                                                                                           \
        const weir_status assert_got = (expression);                                               \
        if (assert_got != (expected)) {                                                            \
            fail_msg("%s gave '%s' (%s), expected '%s'", #expression,                              \
                     weir_status_text(assert_got), weir_last_error(), weir_status_text(expected)); \
        }                                                                                          \
    } while (0)

// Fails unless the last error message contains `part`.
#define assert_message_has(part)                                                                   \
    do {                                                                                           \
        if (!strstr(weir_last_error(), (part))) {                                                  \
            fail_msg("message \"%s\" does not contain \"%s\"", weir_last_error(), (part));         \
        }                                                                                          \
    } while (0)

// The device that tests which hold on any device run on: WEIR_TEST_DEVICE, or NULL, the default.
static inline const char* test_device(void) {
    return getenv("WEIR_TEST_DEVICE");
}

// A variable of the environment that is set for a part of a test.
typedef struct test_setting {
    const char* name;
    char* before; // NULL: it was not set
} test_setting;

static inline test_setting test_setting_begin(const char* name, const char* value) {
    const char* before = getenv(name);
    test_setting setting = {.name = name, .before = before ? strdup(before) : NULL};
    setenv(name, value, 1);
    return setting;
}

static inline void test_setting_end(test_setting* setting) {
    if (setting->before) {
        setenv(setting->name, setting->before, 1);
    } else {
        unsetenv(setting->name);
    }
    free(setting->before);
}

// Ends a test program as skipped, with the reason, where the device of WEIR_TEST_DEVICE cannot be
// had.
#define SKIPPED 77
static inline void need_test_device(weir_status status) {
    if (test_device() && (status == WEIR_UNSUPPORTED || status == WEIR_NOT_FOUND)) {
        fprintf(stderr, "skipped: %s\n", weir_last_error());
        exit(SKIPPED);
    }
}

// Random numbers that repeat: xorshift64* (Vigna 2016).
typedef struct test_random {
    uint64_t state; // never 0
} test_random;

static inline uint64_t random_u64(test_random* random) {
    uint64_t x = random->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    random->state = x;
    return x * 0x2545F4914F6CDD1Dull;
}

// Uniform in [0, bound); bound >= 1.
static inline uint64_t random_below(test_random* random, uint64_t bound) {
    return (random_u64(random) >> 11) % bound;
}

// Uniform in [-1, 1).
static inline float random_unit(test_random* random) {
    return (float)((double)(random_u64(random) >> 11) / 4503599627370496.0 - 1.0);
}

// Reads a file into a block of exactly its size, with a NUL behind it where `terminate` says so.
static inline char* read_whole_file(const char* path, bool terminate, size_t* byte_size) {
    FILE* file = fopen(path, "rb");
    if (!file) {
        fail_msg("cannot open %s", path);
    }
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    const long end = ftell(file);
    assert_true(end >= 0);
    rewind(file);
    *byte_size = (size_t)end;
    char* bytes = malloc(*byte_size + terminate);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *byte_size, file), *byte_size);
    if (terminate) {
        bytes[*byte_size] = '\0';
    }
    fclose(file);
    return bytes;
}

// Writes the path of a file of the shared test data to `path`; false when that data is not here.
// Set WEIR_DATA_DIR to look elsewhere than ../shared/data beside the source tree.
static inline bool shared_data_path(const char* name, char* path, size_t capacity) {
    const char* root = getenv("WEIR_DATA_DIR");
    const char* source = getenv("WEIR_SOURCE_DIR");
    if (root) {
        snprintf(path, capacity, "%s/%s", root, name);
    } else {
        snprintf(path, capacity, "%s/../shared/data/%s", source ? source : ".", name);
    }
    FILE* file = fopen(path, "rb");
    if (file) {
        fclose(file);
    }
    return file != NULL;
}

#endif
