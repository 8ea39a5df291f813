// Blocks against decoders in f64 that find each element by itself, as the definitions of the
// formats say it, and against rows that the reference quantiser made.
#include "quantised_rows.h"

#include <math.h>
#include <weir/dtype.h>

static double f16_at(const uint8_t* bytes) {
    const int half = bytes[0] | bytes[1] << 8;
    const int exponent = (half >> 10) & 31;
    const double fraction = (double)(half & 0x3FF);
    const double magnitude =
        exponent == 0 ? ldexp(fraction, -24) : ldexp(1024.0 + fraction, exponent - 25);
    return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

static int bits_of_byte(const uint8_t* bytes, int index, int shift, int count) {
    return (bytes[index] >> shift) & ((1 << count) - 1);
}

// Element i of 32 as a nibble: the first sixteen low, the others high.
static int nibble_of(const uint8_t* quants, int i) {
    return bits_of_byte(quants, i % 16, i < 16 ? 0 : 4, 4);
}

static int bit_of(const uint8_t* bytes, int i) {
    return bits_of_byte(bytes, i / 8, i % 8, 1);
}

static double q8_0_at(const uint8_t* b, int i) {
    return f16_at(b) * (double)(int8_t)b[2 + i];
}

static double q4_0_at(const uint8_t* b, int i) {
    return f16_at(b) * (nibble_of(b + 2, i) - 8);
}

static double q4_1_at(const uint8_t* b, int i) {
    return f16_at(b) * nibble_of(b + 4, i) + f16_at(b + 2);
}

static double q5_0_at(const uint8_t* b, int i) {
    return f16_at(b) * (nibble_of(b + 6, i) + 16 * bit_of(b + 2, i) - 16);
}

static double q5_1_at(const uint8_t* b, int i) {
    return f16_at(b) * (nibble_of(b + 8, i) + 16 * bit_of(b + 4, i)) + f16_at(b + 2);
}

// 128 elements share 32 bytes, run s of 32 with bits 2s and 2s + 1.
static int two_bits_at(const uint8_t* quants, int i) {
    return bits_of_byte(quants, i / 128 * 32 + i % 32, i % 128 / 32 * 2, 2);
}

static double q2_k_at(const uint8_t* b, int i) {
    const int scale = bits_of_byte(b, i / 16, 0, 4);
    const int minimum = bits_of_byte(b, i / 16, 4, 4);
    return f16_at(b + 80) * scale * two_bits_at(b + 16, i) - f16_at(b + 82) * minimum;
}

static double q3_k_at(const uint8_t* b, int i) {
    const int s = i / 16;
    const int low = bits_of_byte(b + 96, s % 8, s < 8 ? 0 : 4, 4);
    const int high = bits_of_byte(b + 104, s % 4, s / 4 * 2, 2);
    const int q = two_bits_at(b + 32, i) - (bits_of_byte(b, i % 32, i / 32, 1) ? 0 : 4);
    return f16_at(b + 108) * (low + 16 * high - 32) * q;
}

// Scale (which = 0) or minimum (which = 1) of sub-block s, of six bits.
static int six_bits_at(const uint8_t* packed, int s, int which) {
    if (s < 4) {
        return bits_of_byte(packed, s + 4 * which, 0, 6);
    }
    return bits_of_byte(packed, s + 4, 4 * which, 4) +
           16 * bits_of_byte(packed, s - 4 + 4 * which, 6, 2);
}

static double with_minimum(const uint8_t* b, int i, int q) {
    return f16_at(b) * six_bits_at(b + 4, i / 32, 0) * q -
           f16_at(b + 2) * six_bits_at(b + 4, i / 32, 1);
}

static double q4_k_at(const uint8_t* b, int i) {
    return with_minimum(b, i, bits_of_byte(b + 16, i / 64 * 32 + i % 32, i % 64 / 32 * 4, 4));
}

static double q5_k_at(const uint8_t* b, int i) {
    return with_minimum(b, i,
                        bits_of_byte(b + 48, i / 64 * 32 + i % 32, i % 64 / 32 * 4, 4) +
                            16 * bits_of_byte(b + 16, i % 32, i / 32, 1));
}

static double q6_k_at(const uint8_t* b, int i) {
    const int low = bits_of_byte(b, i / 128 * 64 + i % 64, i % 128 / 64 * 4, 4);
    const int high = bits_of_byte(b + 128, i / 128 * 32 + i % 32, i % 128 / 32 * 2, 2);
    return f16_at(b + 208) * (int8_t)b[192 + i / 16] * (low + 16 * high - 32);
}

static double iq4_value(int code) {
    static const double values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};
    return values[code];
}

static double iq4_nl_at(const uint8_t* b, int i) {
    return f16_at(b) * iq4_value(nibble_of(b + 2, i));
}

static double iq4_xs_at(const uint8_t* b, int i) {
    const int s = i / 32;
    const int low = bits_of_byte(b + 4, s / 2, s % 2 * 4, 4);
    const int high = bits_of_byte(b + 2, s / 4, s % 4 * 2, 2);
    return f16_at(b) * (low + 16 * high - 32) * iq4_value(nibble_of(b + 8 + 16 * s, i % 32));
}

// E2M1: one sign, two bits of exponent (bias 1), one of fraction.
static double mxfp4_at(const uint8_t* b, int i) {
    const int code = nibble_of(b + 1, i);
    const int exponent = (code >> 1) & 3;
    const double fraction = (double)(code & 1) / 2.0;
    const double magnitude = exponent == 0 ? fraction : ldexp(1.0 + fraction, exponent - 1);
    const double scale = b[0] == 255 ? (double)NAN : ldexp(1.0, b[0] - 127);
    return magnitude == 0.0 ? scale * 0.0 : scale * ((code & 8) != 0 ? -magnitude : magnitude);
}

#define SCALES_MAX 2

typedef struct block_type {
    weir_dtype dtype;
    double (*at)(const uint8_t* block, int element);
    int scale_count;
    int scales[SCALES_MAX]; // byte offsets of the f16 in a block
} block_type;

static const block_type types[] = {
    {WEIR_DTYPE_Q8_0, q8_0_at, 1, {0}},     {WEIR_DTYPE_Q4_0, q4_0_at, 1, {0}},
    {WEIR_DTYPE_Q4_1, q4_1_at, 2, {0, 2}},  {WEIR_DTYPE_Q5_0, q5_0_at, 1, {0}},
    {WEIR_DTYPE_Q5_1, q5_1_at, 2, {0, 2}},  {WEIR_DTYPE_Q2_K, q2_k_at, 2, {80, 82}},
    {WEIR_DTYPE_Q3_K, q3_k_at, 1, {108}},   {WEIR_DTYPE_Q4_K, q4_k_at, 2, {0, 2}},
    {WEIR_DTYPE_Q5_K, q5_k_at, 2, {0, 2}},  {WEIR_DTYPE_Q6_K, q6_k_at, 1, {208}},
    {WEIR_DTYPE_IQ4_NL, iq4_nl_at, 1, {0}}, {WEIR_DTYPE_IQ4_XS, iq4_xs_at, 1, {0}},
    {WEIR_DTYPE_MXFP4, mxfp4_at, 0, {0}},
};
#define TYPE_COUNT (sizeof types / sizeof types[0])

// What a block stands for rounds at most once, in the last step.
static bool is_same(float got, double expected) {
    const float rounded = (float)expected;
    return isnan(rounded) ? isnan(got) : memcmp(&got, &rounded, sizeof got) == 0;
}

static void check_blocks(const block_type* type, const uint8_t* bytes, int count) {
    const weir_dtype_info* info = weir_dtype_describe(type->dtype);
    const int elements = (int)info->block_elements;
    for (int b = 0; b < count; b++, bytes += info->block_bytes) {
        float numbers[256];
        assert_ok(weir_dtype_to_f32(type->dtype, bytes, elements, numbers));
        for (int i = 0; i < elements; i++) {
            const double expected = type->at(bytes, i);
            if (!is_same(numbers[i], expected)) {
                fail_msg("%s: element %d of block %d is %a, expected %a", info->name, i, b,
                         (double)numbers[i], expected);
            }
        }
    }
}

// Every scale that is a number, subnormal ones too.
static void random_blocks_decode_to_their_definition(void** state) {
    (void)state;
    test_random random = {0xB10C5u};
    const int rounds = getenv("WEIR_LONG") ? 50000 : 2000;
    for (size_t t = 0; t < TYPE_COUNT; t++) {
        const uint32_t block_bytes = weir_dtype_describe(types[t].dtype)->block_bytes;
        for (int round = 0; round < rounds; round++) {
            uint8_t block[256];
            for (uint32_t i = 0; i < block_bytes; i++) {
                block[i] = (uint8_t)(random_u64(&random) >> 40);
            }
            for (int k = 0; k < types[t].scale_count; k++) {
                uint8_t* high = &block[types[t].scales[k] + 1];
                *high = (*high & 0x7C) == 0x7C ? (uint8_t)(*high ^ 0x40) : *high;
            }
            check_blocks(&types[t], block, 1);
        }
    }
}

static void every_exponent_of_mxfp4_is_a_power_of_two_or_nan(void** state) {
    (void)state;
    for (int exponent = 0; exponent < 256; exponent++) {
        uint8_t block[17] = {(uint8_t)exponent};
        for (int i = 0; i < 16; i++) {
            block[1 + i] = (uint8_t)(i * 0x11);
        }
        check_blocks(&types[TYPE_COUNT - 1], block, 1);
    }
}

// Values stay those of the definition, and near those of the row: blocks are cut where they should.
static void rows_of_the_reference_quantiser_decode_close_to_what_they_were(void** state) {
    (void)state;
    static const struct {
        weir_dtype dtype;
        const uint8_t* bytes;
        size_t byte_size;
        double distance; // that the quantiser left, root mean square
    } rows[] = {
        {WEIR_DTYPE_Q4_1, q4_1_row, sizeof q4_1_row, 0.0726},
        {WEIR_DTYPE_Q5_1, q5_1_row, sizeof q5_1_row, 0.0337},
        {WEIR_DTYPE_Q2_K, q2_k_row, sizeof q2_k_row, 0.2853},
        {WEIR_DTYPE_Q3_K, q3_k_row, sizeof q3_k_row, 0.1355},
        {WEIR_DTYPE_IQ4_NL, iq4_nl_row, sizeof iq4_nl_row, 0.0706},
        {WEIR_DTYPE_IQ4_XS, iq4_xs_row, sizeof iq4_xs_row, 0.0707},
        {WEIR_DTYPE_MXFP4, mxfp4_row, sizeof mxfp4_row, 0.1128},
    };
    float row[QUANTISED_ROW];
    quantised_row(row);
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        float numbers[QUANTISED_ROW];
        uint64_t byte_size = 0;
        assert_ok(weir_dtype_byte_size(rows[r].dtype, QUANTISED_ROW, &byte_size));
        assert_int_equal(byte_size, rows[r].byte_size);
        assert_ok(weir_dtype_to_f32(rows[r].dtype, rows[r].bytes, QUANTISED_ROW, numbers));
        double error = 0.0;
        double norm = 0.0;
        for (int i = 0; i < QUANTISED_ROW; i++) {
            const double off = (double)numbers[i] - (double)row[i];
            error += off * off;
            norm += (double)row[i] * (double)row[i];
        }
        assert_true(fabs(sqrt(error / norm) - rows[r].distance) < 1e-4);
        for (size_t t = 0; t < TYPE_COUNT; t++) {
            if (types[t].dtype == rows[r].dtype) {
                const int block = (int)weir_dtype_describe(rows[r].dtype)->block_elements;
                check_blocks(&types[t], rows[r].bytes, QUANTISED_ROW / block);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_blocks_decode_to_their_definition),
        cmocka_unit_test(every_exponent_of_mxfp4_is_a_power_of_two_or_nan),
        cmocka_unit_test(rows_of_the_reference_quantiser_decode_close_to_what_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
