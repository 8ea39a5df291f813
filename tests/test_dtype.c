#include "testing.h"

#include <float.h>
#include <math.h>
#include <weir/dtype.h>

static uint32_t bits_of(float number) {
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

// What IEEE 754 says of binary16, by way of double arithmetic.
static double f16_by_definition(uint32_t half) {
    const int exponent = (int)(half >> 10) & 31;
    const double fraction = (double)(half & 0x3FF);
    const double sign = (half & 0x8000) != 0 ? -1.0 : 1.0;
    if (exponent == 31) {
        return fraction == 0.0 ? sign * (double)INFINITY : (double)NAN;
    }
    return exponent == 0 ? sign * ldexp(fraction, -24)
                         : sign * ldexp(1024.0 + fraction, exponent - 25);
}

static void every_f16_widens_to_its_definition_and_back(void** state) {
    (void)state;
    for (uint32_t half = 0; half < 0x10000; half++) {
        const float wide = weir_f16_to_f32((uint16_t)half);
        const uint16_t back = weir_f32_to_f16(wide);
        if (isnan(f16_by_definition(half))) {
            assert_true(isnan(wide));
            assert_int_equal(bits_of(wide) >> 31, half >> 15);
            assert_true((bits_of(wide) & 0x00400000u) != 0);
            assert_int_equal(back, half | 0x0200);
        } else {
            assert_true((double)wide == f16_by_definition(half));
            assert_int_equal(signbit(wide) != 0, half >> 15);
            assert_int_equal(back, half);
        }
    }
}

static void f16_rounds_to_nearest_and_ties_to_even(void** state) {
    (void)state;
    for (uint32_t low = 0; low < 0x7C00; low++) {
        // Above the largest finite number lies the one that the format would have next.
        const double next = low == 0x7BFF ? 65536.0 : f16_by_definition(low + 1);
        const float middle = (float)((f16_by_definition(low) + next) / 2.0); // exact
        assert_int_equal(weir_f32_to_f16(nextafterf(middle, 0.0f)), low);
        assert_int_equal(weir_f32_to_f16(middle), low + (low & 1));
        assert_int_equal(weir_f32_to_f16(nextafterf(middle, FLT_MAX)), low + 1);
        assert_int_equal(weir_f32_to_f16(-middle), (low + (low & 1)) | 0x8000);
    }
}

static void f16_of_extremes_is_infinite_zero_or_nan(void** state) {
    (void)state;
    assert_int_equal(weir_f32_to_f16(FLT_MAX), 0x7C00);
    assert_int_equal(weir_f32_to_f16(-INFINITY), 0xFC00);
    assert_int_equal(weir_f32_to_f16(FLT_TRUE_MIN), 0);
    assert_int_equal(weir_f32_to_f16(-0.0f), 0x8000);
    assert_int_equal(weir_f32_to_f16(float_of(0x7F800001u)), 0x7E00); // signalling, low payload
    assert_int_equal(weir_f32_to_f16(float_of(0xFFFFFFFFu)), 0xFFFF);
}

static void every_bf16_widens_to_the_upper_half_and_back(void** state) {
    (void)state;
    for (uint32_t half = 0; half < 0x10000; half++) {
        const float wide = weir_bf16_to_f32((uint16_t)half);
        assert_int_equal(bits_of(wide), half << 16);
        assert_int_equal(weir_f32_to_bf16(wide), isnan(wide) ? half | 0x0040 : half);
    }
}

static void bf16_rounds_to_nearest_and_ties_to_even(void** state) {
    (void)state;
    for (uint32_t low = 0; low < 0x7F80; low++) {
        const uint32_t middle = (low << 16) | 0x8000u;
        assert_int_equal(weir_f32_to_bf16(float_of(middle - 1)), low);
        assert_int_equal(weir_f32_to_bf16(float_of(middle)), low + (low & 1));
        assert_int_equal(weir_f32_to_bf16(float_of(middle + 1)), low + 1);
        assert_int_equal(weir_f32_to_bf16(float_of(middle | 0x80000000u)),
                         (low + (low & 1)) | 0x8000);
    }
    assert_int_equal(weir_f32_to_bf16(float_of(0x7F800001u)), 0x7FC0);
}

enum { GOLDEN_BLOCKS = 8, BLOCK_BYTES_MAX = 210 };

// Blocks of random bytes; the f16 at each scale gets the exponent of 2^-4, so that no NaN comes in.
static void fill_blocks(uint8_t* bytes, size_t block_bytes, const int* scales, size_t scale_count) {
    test_random random = {0x9E3779B97F4A7C15ull};
    for (int block = 0; block < GOLDEN_BLOCKS; block++, bytes += block_bytes) {
        for (size_t i = 0; i < block_bytes; i++) {
            bytes[i] = (uint8_t)(random_u64(&random) >> 56);
        }
        for (size_t i = 0; i < scale_count; i++) {
            bytes[scales[i] + 1] = (uint8_t)((bytes[scales[i] + 1] & 0x83) | 0x2C);
        }
    }
}

// FNV-1a, 64 bits.
static uint64_t hash_floats(const float* numbers, size_t count) {
    uint64_t hash = 0xCBF29CE484222325ull;
    for (size_t i = 0; i < 4 * count; i++) {
        const uint32_t byte = (bits_of(numbers[i / 4]) >> (8 * (i % 4))) & 0xFF;
        hash = (hash ^ byte) * 0x100000001B3ull;
    }
    return hash;
}

// First, middle + 3 and last number, and the hash of all bits: from the `gguf` package of Python
// (0.19.0, quants.dequantize) on the same bytes.
static const struct {
    weir_dtype dtype;
    int scales[2];
    size_t scale_count;
    float first, middle, last;
    uint64_t hash;
} goldens[] = {
    {WEIR_DTYPE_Q8_0, {0}, 1, -0x1.6478p+2f, -0x1.b1bp+1f, -0x1.fdbcp+2f, 0xB753B4E7E54C5E71ull},
    {WEIR_DTYPE_Q4_0, {0}, 1, 0x0p+0f, 0x1.8dbp-1f, -0x1.49p-3f, 0x74C6570C187CECE4ull},
    {WEIR_DTYPE_Q5_0, {0}, 1, -0x1.6478p-1f, 0x1.39d8p+0f, 0x1.36d8p-1f, 0x12EBE8236F705FE0ull},
    {WEIR_DTYPE_Q4_K, {0, 2}, 2, 0x1.1c78p+2f, -0x1.bf9fp+4f, 0x1.e46c8p+3f, 0x85E18DA27F015E78ull},
    {WEIR_DTYPE_Q5_K, {0, 2}, 2, 0x1.bbcap+4f, 0x1.e1f54p+5f, 0x1.dd39cp+5f, 0x75318302CE65BA41ull},
    {WEIR_DTYPE_Q6_K, {208}, 1, 0x1.738ecp+7f, 0x1.e41b8p+5f, 0x1.e078p+0f, 0x6221CC74A43A6CF0ull},
    {WEIR_DTYPE_Q4_1, {0, 2}, 2, 0x1.6ap-4f, 0x1.824p-2f, 0x1.45ap-2f, 0x5D1988F6789C23ECull},
    {WEIR_DTYPE_Q5_1, {0, 2}, 2, 0x1.1018p-1f, 0x1.de04p+1f, -0x1.ec48p+0f, 0xAA20E3F5E1A89C98ull},
    {WEIR_DTYPE_Q2_K, {80, 82}, 2, 0x1.307cp+0f, 0x1.7e18p+0f, 0x1.45p-4f, 0x010243C1BA86CB01ull},
    {WEIR_DTYPE_Q3_K, {108}, 1, -0x1.9e6p+0f, -0x1.4898p+3f, -0x1.892p+0f, 0xA6B8D8CA8D10C427ull},
    {WEIR_DTYPE_IQ4_NL, {0}, 1, 0x1.034p-4f, 0x1.7148p+3f, -0x1.0108p+1f, 0x898B92F5871F3CA4ull},
    {WEIR_DTYPE_IQ4_XS, {0}, 1, 0x1.441p+4f, -0x1.d88p+2f, -0x1.ddf0cp+6f, 0x3822AE1C49609D4Aull},
    {WEIR_DTYPE_MXFP4, {0}, 0, 0x1p-113f, -0x1p+16f, 0x0p+0f, 0x874A7F5724623166ull},
};

static void blocks_decode_to_the_bits_of_the_reference(void** state) {
    (void)state;
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
        const weir_dtype_info* info = weir_dtype_describe(goldens[i].dtype);
        const size_t count = (size_t)GOLDEN_BLOCKS * info->block_elements;
        // Two bytes past an even address: no more alignment than the types ask for.
        uint8_t bytes[2 + GOLDEN_BLOCKS * BLOCK_BYTES_MAX];
        float numbers[GOLDEN_BLOCKS * 256 + 1];
        fill_blocks(bytes + 2, info->block_bytes, goldens[i].scales, goldens[i].scale_count);
        numbers[count] = 12345.0f;
        assert_ok(weir_dtype_to_f32(goldens[i].dtype, bytes + 2, (int64_t)count, numbers));
        assert_true(numbers[0] == goldens[i].first);
        assert_true(numbers[count / 2 + 3] == goldens[i].middle);
        assert_true(numbers[count - 1] == goldens[i].last);
        assert_true(hash_floats(numbers, count) == goldens[i].hash);
        assert_true(numbers[count] == 12345.0f);
    }
}

static void plain_floats_decode_one_by_one(void** state) {
    (void)state;
    const uint16_t f16[3] = {0x3C00, 0x0001, 0xFC00};
    const uint16_t bf16[3] = {0x3F80, 0x0001, 0xFF80};
    const float f32[3] = {1.0f, float_of(1), -INFINITY};
    float numbers[3];
    assert_ok(weir_dtype_to_f32(WEIR_DTYPE_F16, f16, 3, numbers));
    assert_true(numbers[0] == 1.0f && numbers[1] == 0x1p-24f && numbers[2] == -INFINITY);
    assert_ok(weir_dtype_to_f32(WEIR_DTYPE_BF16, bf16, 3, numbers));
    assert_true(numbers[0] == 1.0f && bits_of(numbers[1]) == 0x10000 && numbers[2] == -INFINITY);
    assert_ok(weir_dtype_to_f32(WEIR_DTYPE_F32, f32, 3, numbers));
    assert_memory_equal(numbers, f32, sizeof f32);
}

static void decoding_refuses_other_types_and_split_blocks(void** state) {
    (void)state;
    uint8_t bytes[256] = {0};
    float numbers[256] = {0};
    for (int dtype = -1; dtype <= (int)WEIR_DTYPE_COUNT; dtype++) {
        const weir_status status = weir_dtype_to_f32((weir_dtype)dtype, bytes, 0, numbers);
        const bool is_decodable = weir_dtype_is_decodable((weir_dtype)dtype);
        assert_int_equal(status, is_decodable ? WEIR_OK : WEIR_UNSUPPORTED);
    }
    assert_status(weir_dtype_to_f32(WEIR_DTYPE_Q8_0, bytes, 31, numbers), WEIR_INVALID_ARGUMENT);
    assert_message_has("blocks of 32");
    assert_status(weir_dtype_to_f32(WEIR_DTYPE_F32, bytes, -1, numbers), WEIR_INVALID_ARGUMENT);
    assert_ok(weir_dtype_to_f32(WEIR_DTYPE_F32, NULL, 0, NULL));
}

static void sixteen_types_are_decodable(void** state) {
    (void)state;
    const weir_dtype decodable[] = {
        WEIR_DTYPE_F32,  WEIR_DTYPE_F16,    WEIR_DTYPE_BF16,   WEIR_DTYPE_Q8_0,
        WEIR_DTYPE_Q4_0, WEIR_DTYPE_Q5_0,   WEIR_DTYPE_Q4_K,   WEIR_DTYPE_Q5_K,
        WEIR_DTYPE_Q6_K, WEIR_DTYPE_Q4_1,   WEIR_DTYPE_Q5_1,   WEIR_DTYPE_Q2_K,
        WEIR_DTYPE_Q3_K, WEIR_DTYPE_IQ4_NL, WEIR_DTYPE_IQ4_XS, WEIR_DTYPE_MXFP4};
    size_t count = 0;
    for (unsigned dtype = 0; dtype < WEIR_DTYPE_COUNT; dtype++) {
        count += weir_dtype_is_decodable((weir_dtype)dtype) ? 1 : 0;
    }
    assert_int_equal(count, sizeof decodable / sizeof *decodable);
    for (size_t i = 0; i < count; i++) {
        assert_true(weir_dtype_is_decodable(decodable[i]));
    }
}

static void every_type_has_a_layout_and_no_other_number_has(void** state) {
    (void)state;
    for (unsigned dtype = 1; dtype < WEIR_DTYPE_COUNT; dtype++) {
        const weir_dtype_info* info = weir_dtype_describe((weir_dtype)dtype);
        assert_true(info->block_elements >= 1 && info->block_bytes >= 1);
        assert_true(info->alignment >= 1 && info->block_bytes % info->alignment == 0);
        assert_true(info->block_elements > 1 || info->alignment == info->block_bytes);
    }
    assert_string_equal(weir_dtype_describe(WEIR_DTYPE_Q4_K)->name, "Q4_K");
    assert_int_equal(weir_dtype_describe(WEIR_DTYPE_Q4_K)->block_bytes, 144);
    const weir_dtype outside[] = {WEIR_DTYPE_NONE, WEIR_DTYPE_COUNT, (weir_dtype)-1};
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(weir_dtype_describe(outside[i])->name, "NONE");
        assert_int_equal(weir_dtype_describe(outside[i])->block_elements, 0);
    }
}

static void sizes_count_whole_blocks_and_do_not_wrap(void** state) {
    (void)state;
    uint64_t byte_size = 7;
    assert_ok(weir_dtype_byte_size(WEIR_DTYPE_Q6_K, 512, &byte_size));
    assert_int_equal(byte_size, 420);
    assert_ok(weir_dtype_byte_size(WEIR_DTYPE_F64, 0, &byte_size));
    assert_int_equal(byte_size, 0);
    assert_ok(weir_dtype_byte_size(WEIR_DTYPE_U8, INT64_MAX, &byte_size));
    assert_true(byte_size == (uint64_t)INT64_MAX);
    byte_size = 7;
    assert_status(weir_dtype_byte_size(WEIR_DTYPE_F64, INT64_MAX, &byte_size), WEIR_OUT_OF_RANGE);
    assert_status(weir_dtype_byte_size(WEIR_DTYPE_Q6_K, 255, &byte_size), WEIR_INVALID_ARGUMENT);
    assert_status(weir_dtype_byte_size(WEIR_DTYPE_F32, -1, &byte_size), WEIR_INVALID_ARGUMENT);
    assert_status(weir_dtype_byte_size(WEIR_DTYPE_NONE, 0, &byte_size), WEIR_INVALID_ARGUMENT);
    assert_int_equal(byte_size, 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_f16_widens_to_its_definition_and_back),
        cmocka_unit_test(f16_rounds_to_nearest_and_ties_to_even),
        cmocka_unit_test(f16_of_extremes_is_infinite_zero_or_nan),
        cmocka_unit_test(every_bf16_widens_to_the_upper_half_and_back),
        cmocka_unit_test(bf16_rounds_to_nearest_and_ties_to_even),
        cmocka_unit_test(blocks_decode_to_the_bits_of_the_reference),
        cmocka_unit_test(plain_floats_decode_one_by_one),
        cmocka_unit_test(decoding_refuses_other_types_and_split_blocks),
        cmocka_unit_test(sixteen_types_are_decodable),
        cmocka_unit_test(every_type_has_a_layout_and_no_other_number_has),
        cmocka_unit_test(sizes_count_whole_blocks_and_do_not_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
