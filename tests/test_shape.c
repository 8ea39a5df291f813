#include "testing.h"

#include <weir/shape.h>

#define SHAPE(...)                                                                                 \
    weir_shape_make(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__})

static void elements_are_the_product_of_the_dims(void** state) {
    (void)state;
    int64_t count = 0;
    const weir_shape scalar = {0};
    assert_ok(weir_shape_check(&scalar, &count));
    assert_int_equal(count, 1);
    const weir_shape cube = SHAPE(2, 3, 4, 1, 1, 1, 1, 5);
    assert_ok(weir_shape_check(&cube, &count));
    assert_int_equal(count, 120);
    const weir_shape largest = SHAPE(INT64_MAX, 1);
    assert_ok(weir_shape_check(&largest, &count));
    assert_true(count == INT64_MAX);
}

static void a_dim_of_zero_makes_any_shape_empty(void** state) {
    (void)state;
    int64_t count = 7;
    const weir_shape shape = SHAPE(INT64_MAX, INT64_MAX, 0);
    assert_ok(weir_shape_check(&shape, &count));
    assert_int_equal(count, 0);
}

static void bad_shapes_are_refused_and_leave_the_count_alone(void** state) {
    (void)state;
    int64_t count = 7;
    const weir_shape negative = SHAPE(4, -1, 0);
    assert_status(weir_shape_check(&negative, &count), WEIR_INVALID_ARGUMENT);
    assert_message_has("[4, -1, 0]: dimension 1");
    const weir_shape huge = SHAPE(INT64_C(1) << 32, INT64_C(1) << 31);
    assert_status(weir_shape_check(&huge, &count), WEIR_OUT_OF_RANGE);
    const weir_shape deep = weir_shape_make(9, (int64_t[9]){1, 1, 1, 1, 1, 1, 1, 1, 1});
    assert_status(weir_shape_check(&deep, &count), WEIR_INVALID_ARGUMENT);
    assert_message_has("rank 9");
    assert_int_equal(count, 7);
}

static void shapes_are_equal_when_rank_and_dims_are(void** state) {
    (void)state;
    const weir_shape a = SHAPE(2, 3);
    const weir_shape same = SHAPE(2, 3);
    const weir_shape longer = SHAPE(2, 3, 1);
    const weir_shape other = SHAPE(2, 4);
    assert_true(weir_shape_equal(&a, &same));
    assert_false(weir_shape_equal(&a, &longer));
    assert_false(weir_shape_equal(&a, &other));
}

static void text_shows_the_dims_and_is_cut_to_its_room(void** state) {
    (void)state;
    char text[256];
    const weir_shape scalar = {0};
    const weir_shape rows = SHAPE(512, 64);
    assert_string_equal(weir_shape_format(&scalar, text, sizeof text), "[]");
    assert_string_equal(weir_shape_format(&rows, text, sizeof text), "[512, 64]");
    assert_string_equal(weir_shape_format(&rows, text, 5), "[512");
    text[0] = 'x';
    assert_true(weir_shape_format(&rows, text, 0) == text && text[0] == 'x');
    const weir_shape longest = SHAPE(INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN,
                                     INT64_MIN, INT64_MIN, INT64_MIN);
    assert_int_equal(strlen(weir_shape_format(&longest, text, sizeof text)), 8 * 20 + 7 * 2 + 2);
    const weir_shape deep = {.rank = UINT32_MAX};
    assert_string_equal(weir_shape_format(&deep, text, sizeof text), "[rank 4294967295]");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_are_the_product_of_the_dims),
        cmocka_unit_test(a_dim_of_zero_makes_any_shape_empty),
        cmocka_unit_test(bad_shapes_are_refused_and_leave_the_count_alone),
        cmocka_unit_test(shapes_are_equal_when_rank_and_dims_are),
        cmocka_unit_test(text_shows_the_dims_and_is_cut_to_its_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
