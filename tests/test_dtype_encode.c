#include "testing.h"

#include <math.h>
#include <weir/dtype.h>

static test_random random_state = {0xE4C0DEu};

static void plain_floats_encode_one_by_one(void** state) {
    (void)state;
    float numbers[300];
    uint16_t halves[300];
    for (int i = 0; i < 300; i++) {
        numbers[i] = 100.0f * random_unit(&random_state);
    }
    numbers[7] = INFINITY;
    assert_ok(weir_dtype_from_f32(WEIR_DTYPE_F16, numbers, 300, halves));
    for (int i = 0; i < 300; i++) {
        assert_int_equal(halves[i], weir_f32_to_f16(numbers[i]));
    }
    assert_ok(weir_dtype_from_f32(WEIR_DTYPE_BF16, numbers, 300, halves));
    for (int i = 0; i < 300; i++) {
        assert_int_equal(halves[i], weir_f32_to_bf16(numbers[i]));
    }
    float copies[300];
    assert_ok(weir_dtype_from_f32(WEIR_DTYPE_F32, numbers, 300, copies));
    assert_memory_equal(copies, numbers, sizeof numbers);
}

// Half a step of rounding, and what the f16 of the scale adds at most, which is no subnormal here:
// 127 steps of 2^-11 each.
static void q8_0_is_within_its_steps(void** state) {
    (void)state;
    for (int round = 0; round < 2000; round++) {
        float numbers[64];
        uint8_t blocks[68];
        float decoded[64];
        const float size = ldexpf(1.0f, (int)random_below(&random_state, 24) - 4);
        for (int i = 0; i < 64; i++) {
            numbers[i] = size * random_unit(&random_state);
        }
        assert_ok(weir_dtype_from_f32(WEIR_DTYPE_Q8_0, numbers, 64, blocks));
        assert_ok(weir_dtype_to_f32(WEIR_DTYPE_Q8_0, blocks, 64, decoded));
        for (int begin = 0; begin < 64; begin += 32) {
            float largest = 0.0f;
            for (int i = begin; i < begin + 32; i++) {
                largest = fmaxf(largest, fabsf(numbers[i]));
            }
            for (int i = begin; i < begin + 32; i++) {
                assert_true(fabsf(decoded[i] - numbers[i]) <= 0.57f * largest / 127.0f);
            }
        }
    }
}

static void q8_0_of_extremes_is_zero_or_nan_and_never_another_number(void** state) {
    (void)state;
    const float extremes[] = {NAN, INFINITY, -INFINITY, 3e38f, 127.0f * 65536.0f};
    float numbers[32];
    uint8_t block[34];
    float decoded[32];
    for (size_t i = 0; i < sizeof extremes / sizeof extremes[0]; i++) {
        for (int k = 0; k < 32; k++) {
            numbers[k] = (float)k;
        }
        numbers[random_below(&random_state, 32)] = extremes[i];
        assert_ok(weir_dtype_from_f32(WEIR_DTYPE_Q8_0, numbers, 32, block));
        assert_ok(weir_dtype_to_f32(WEIR_DTYPE_Q8_0, block, 32, decoded));
        for (int k = 0; k < 32; k++) {
            assert_true(isnan(decoded[k]));
        }
    }
    const float tiny[] = {0.0f, -0.0f, 1e-45f, 1e-30f};
    for (size_t i = 0; i < sizeof tiny / sizeof tiny[0]; i++) {
        for (int k = 0; k < 32; k++) {
            numbers[k] = tiny[i];
        }
        assert_ok(weir_dtype_from_f32(WEIR_DTYPE_Q8_0, numbers, 32, block));
        assert_ok(weir_dtype_to_f32(WEIR_DTYPE_Q8_0, block, 32, decoded));
        for (int k = 0; k < 32; k++) {
            assert_true(decoded[k] == 0.0f);
        }
    }
}

static void encoding_refuses_other_types_and_split_blocks(void** state) {
    (void)state;
    const float numbers[33] = {0};
    uint8_t target[64];
    memset(target, 0xA5, sizeof target);
    assert_false(weir_dtype_is_encodable(WEIR_DTYPE_Q4_0));
    assert_false(weir_dtype_is_encodable(WEIR_DTYPE_NONE));
    assert_status(weir_dtype_from_f32(WEIR_DTYPE_Q4_0, numbers, 32, target), WEIR_UNSUPPORTED);
    assert_message_has("Q4_0");
    assert_status(weir_dtype_from_f32(WEIR_DTYPE_Q8_0, numbers, 33, target), WEIR_INVALID_ARGUMENT);
    assert_status(weir_dtype_from_f32(WEIR_DTYPE_F16, numbers, -1, target), WEIR_INVALID_ARGUMENT);
    assert_int_equal(target[0], 0xA5);
    assert_ok(weir_dtype_from_f32(WEIR_DTYPE_F32, NULL, 0, NULL));
    assert_ok(weir_dtype_from_f32(WEIR_DTYPE_Q8_0, NULL, 0, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_floats_encode_one_by_one),
        cmocka_unit_test(q8_0_is_within_its_steps),
        cmocka_unit_test(q8_0_of_extremes_is_zero_or_nan_and_never_another_number),
        cmocka_unit_test(encoding_refuses_other_types_and_split_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
