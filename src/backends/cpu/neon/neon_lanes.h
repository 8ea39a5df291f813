// The words of lanes/lanes_products.h for NEON as every AArch64 has it, with SDOT where the
// compiler may use it. Eight lanes are two registers.
#ifndef WEIR_BACKENDS_CPU_NEON_NEON_LANES_H
#define WEIR_BACKENDS_CPU_NEON_NEON_LANES_H

#include <arm_neon.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define LANES_INLINE static inline __attribute__((always_inline))

typedef uint8x16x2_t lanes_bytes;
typedef int32x4x2_t lanes_ints;
typedef float32x4x2_t lanes_floats;

LANES_INLINE lanes_bytes lanes_load(const void* bytes) {
    return (lanes_bytes){{vld1q_u8((const uint8_t*)bytes), vld1q_u8((const uint8_t*)bytes + 16)}};
}

LANES_INLINE void lanes_store(void* bytes, lanes_bytes v) {
    vst1q_u8((uint8_t*)bytes, v.val[0]);
    vst1q_u8((uint8_t*)bytes + 16, v.val[1]);
}

LANES_INLINE lanes_bytes lanes_set(uint8_t byte) {
    return (lanes_bytes){{vdupq_n_u8(byte), vdupq_n_u8(byte)}};
}

LANES_INLINE lanes_bytes lanes_word(const void* bytes) {
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    const uint8x16_t four = vreinterpretq_u8_u32(vdupq_n_u32(word));
    return (lanes_bytes){{four, four}};
}

LANES_INLINE lanes_bytes lanes_or(lanes_bytes a, lanes_bytes b) {
    return (lanes_bytes){{vorrq_u8(a.val[0], b.val[0]), vorrq_u8(a.val[1], b.val[1])}};
}

LANES_INLINE lanes_bytes lanes_up(lanes_bytes v, int shift, uint8_t mask) {
    const int8x16_t by = vdupq_n_s8((int8_t)shift);
    const uint8x16_t kept = vdupq_n_u8(mask);
    return (lanes_bytes){
        {vandq_u8(vshlq_u8(v.val[0], by), kept), vandq_u8(vshlq_u8(v.val[1], by), kept)}};
}

LANES_INLINE lanes_bytes lanes_down(lanes_bytes v, int shift, uint8_t mask) {
    return lanes_up(v, -shift, mask);
}

LANES_INLINE lanes_bytes lanes_nibbles(const uint8_t* bytes) {
    const uint8x16_t both = vld1q_u8(bytes);
    return (lanes_bytes){{vandq_u8(both, vdupq_n_u8(0x0F)), vshrq_n_u8(both, 4)}};
}

LANES_INLINE lanes_bytes lanes_where(lanes_bytes v, uint8_t bits, uint8_t mask) {
    const uint8x16_t wanted = vdupq_n_u8(bits);
    const uint8x16_t kept = vdupq_n_u8(mask);
    return (lanes_bytes){
        {vandq_u8(vtstq_u8(v.val[0], wanted), kept), vandq_u8(vtstq_u8(v.val[1], wanted), kept)}};
}

LANES_INLINE lanes_bytes lanes_where_bits(const uint8_t* bytes, uint8_t mask) {
    const uint8x8_t bit = vcreate_u8(UINT64_C(0x8040201008040201));
    const uint8x16_t bits = vcombine_u8(bit, bit);
    const uint8x16_t kept = vdupq_n_u8(mask);
    const uint8x16_t low = vcombine_u8(vdup_n_u8(bytes[0]), vdup_n_u8(bytes[1]));
    const uint8x16_t high = vcombine_u8(vdup_n_u8(bytes[2]), vdup_n_u8(bytes[3]));
    return (lanes_bytes){
        {vandq_u8(vtstq_u8(low, bits), kept), vandq_u8(vtstq_u8(high, bits), kept)}};
}

LANES_INLINE lanes_bytes lanes_look_up(lanes_bytes codes, const int8_t values[16], uint8_t addend) {
    const uint8x16_t table = vaddq_u8(vreinterpretq_u8_s8(vld1q_s8(values)), vdupq_n_u8(addend));
    return (lanes_bytes){{vqtbl1q_u8(table, codes.val[0]), vqtbl1q_u8(table, codes.val[1])}};
}

// Bytes are signed to the instructions: weights are signed, or less than 128.
#define LANES_STEPS(bits) 8

#ifdef __ARM_FEATURE_DOTPROD

typedef int32x4x2_t lanes_part;

LANES_INLINE lanes_part lanes_part_zero(void) {
    return (lanes_part){{vdupq_n_s32(0), vdupq_n_s32(0)}};
}

LANES_INLINE lanes_part lanes_part_add(lanes_part part, lanes_bytes u, lanes_bytes q,
                                       bool is_signed) {
    (void)is_signed;
    for (int i = 0; i < 2; i++) {
        part.val[i] =
            vdotq_s32(part.val[i], vreinterpretq_s8_u8(u.val[i]), vreinterpretq_s8_u8(q.val[i]));
    }
    return part;
}

LANES_INLINE lanes_ints lanes_part_finish(lanes_ints sums, lanes_part part) {
    return (lanes_ints){{vaddq_s32(sums.val[0], part.val[0]), vaddq_s32(sums.val[1], part.val[1])}};
}

#else

// A lane lies in two neighbours of 16 that count pairs of products.
typedef int32x4x4_t lanes_part;

LANES_INLINE lanes_part lanes_part_zero(void) {
    const int32x4_t zero = vdupq_n_s32(0);
    return (lanes_part){{zero, zero, zero, zero}};
}

LANES_INLINE lanes_part lanes_part_add(lanes_part part, lanes_bytes u, lanes_bytes q,
                                       bool is_signed) {
    (void)is_signed;
    for (int i = 0; i < 2; i++) {
        const int8x16_t a = vreinterpretq_s8_u8(u.val[i]);
        const int8x16_t b = vreinterpretq_s8_u8(q.val[i]);
        part.val[2 * i] = vpadalq_s16(part.val[2 * i], vmull_s8(vget_low_s8(a), vget_low_s8(b)));
        part.val[2 * i + 1] = vpadalq_s16(part.val[2 * i + 1], vmull_high_s8(a, b));
    }
    return part;
}

LANES_INLINE lanes_ints lanes_part_finish(lanes_ints sums, lanes_part part) {
    return (lanes_ints){{vaddq_s32(sums.val[0], vpaddq_s32(part.val[0], part.val[1])),
                         vaddq_s32(sums.val[1], vpaddq_s32(part.val[2], part.val[3]))}};
}

#endif

LANES_INLINE lanes_ints lanes_int(int32_t number) {
    return (lanes_ints){{vdupq_n_s32(number), vdupq_n_s32(number)}};
}

LANES_INLINE lanes_floats lanes_to_floats(lanes_ints v) {
    return (lanes_floats){{vcvtq_f32_s32(v.val[0]), vcvtq_f32_s32(v.val[1])}};
}

LANES_INLINE void lanes_store_quants(const lanes_floats v[4], int8_t* q) {
    for (int i = 0; i < 4; i++) {
        const int16x4_t low = vqmovn_s32(vcvtnq_s32_f32(v[i].val[0]));
        const int16x4_t high = vqmovn_s32(vcvtnq_s32_f32(v[i].val[1]));
        vst1_s8(q + 8 * i, vqmovn_s16(vcombine_s16(low, high)));
    }
}

LANES_INLINE void lanes_add_fours(lanes_ints v, int32_t sums[2]) {
    sums[0] = vaddvq_s32(v.val[0]);
    sums[1] = vaddvq_s32(v.val[1]);
}

LANES_INLINE lanes_floats lanes_load_floats(const float* source) {
    return (lanes_floats){{vld1q_f32(source), vld1q_f32(source + 4)}};
}

LANES_INLINE void lanes_store_floats(float* target, lanes_floats v) {
    vst1q_f32(target, v.val[0]);
    vst1q_f32(target + 4, v.val[1]);
}

LANES_INLINE lanes_floats lanes_float(float number) {
    return (lanes_floats){{vdupq_n_f32(number), vdupq_n_f32(number)}};
}

LANES_INLINE lanes_floats lanes_add(lanes_floats a, lanes_floats b) {
    return (lanes_floats){{vaddq_f32(a.val[0], b.val[0]), vaddq_f32(a.val[1], b.val[1])}};
}

LANES_INLINE lanes_floats lanes_mul(lanes_floats a, lanes_floats b) {
    return (lanes_floats){{vmulq_f32(a.val[0], b.val[0]), vmulq_f32(a.val[1], b.val[1])}};
}

LANES_INLINE lanes_floats lanes_fma(lanes_floats a, lanes_floats b, lanes_floats c) {
    return (lanes_floats){
        {vfmaq_f32(c.val[0], a.val[0], b.val[0]), vfmaq_f32(c.val[1], a.val[1], b.val[1])}};
}

LANES_INLINE lanes_floats lanes_fnma(lanes_floats a, lanes_floats b, lanes_floats c) {
    return (lanes_floats){
        {vfmsq_f32(c.val[0], a.val[0], b.val[0]), vfmsq_f32(c.val[1], a.val[1], b.val[1])}};
}

LANES_INLINE lanes_floats lanes_larger_magnitude(lanes_floats a, lanes_floats b) {
    return (lanes_floats){{vmaxq_f32(vabsq_f32(a.val[0]), vabsq_f32(b.val[0])),
                           vmaxq_f32(vabsq_f32(a.val[1]), vabsq_f32(b.val[1]))}};
}

LANES_INLINE float lanes_largest(lanes_floats v) {
    return vmaxvq_f32(vmaxq_f32(v.val[0], v.val[1]));
}

LANES_INLINE float lanes_sum(lanes_floats v) {
    return vaddvq_f32(vaddq_f32(v.val[0], v.val[1]));
}

LANES_INLINE lanes_floats lanes_from_f16(const void* halves) {
    const uint16x8_t bits = vreinterpretq_u16_u8(vld1q_u8((const uint8_t*)halves));
    const float16x8_t eight = vreinterpretq_f16_u16(bits);
    return (lanes_floats){{vcvt_f32_f16(vget_low_f16(eight)), vcvt_high_f32_f16(eight)}};
}

LANES_INLINE lanes_floats lanes_from_bf16(const void* halves) {
    const uint16x8_t bits = vreinterpretq_u16_u8(vld1q_u8((const uint8_t*)halves));
    return (lanes_floats){{vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(bits), 16)),
                           vreinterpretq_f32_u32(vshll_high_n_u16(bits, 16))}};
}

LANES_INLINE lanes_floats lanes_from_u8(const void* bytes) {
    const uint16x8_t wide = vmovl_u8(vld1_u8((const uint8_t*)bytes));
    return (lanes_floats){
        {vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide))), vcvtq_f32_u32(vmovl_high_u16(wide))}};
}

LANES_INLINE lanes_floats lanes_from_i8(const void* bytes) {
    const int16x8_t wide = vmovl_s8(vld1_s8((const int8_t*)bytes));
    return (lanes_floats){
        {vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), vcvtq_f32_s32(vmovl_high_s16(wide))}};
}

LANES_INLINE float lanes_half(const void* bytes) {
    uint16_t half;
    memcpy(&half, bytes, sizeof half);
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half))), 0);
}

LANES_INLINE void lanes_twice(lanes_floats v, lanes_floats twice[2]) {
    for (int i = 0; i < 2; i++) {
        twice[i] = (lanes_floats){{vzip1q_f32(v.val[i], v.val[i]), vzip2q_f32(v.val[i], v.val[i])}};
    }
}

LANES_INLINE lanes_floats lanes_fours(const float* pair) {
    return (lanes_floats){{vdupq_n_f32(pair[0]), vdupq_n_f32(pair[1])}};
}

// Transposes four rows of four words; r[i] and r[i + 4] are what the caller makes of them.
LANES_INLINE void transpose_quarter(lanes_bytes r[8], int row, int half, uint32x4_t out[4]) {
    uint32x4_t w[4];
    for (int i = 0; i < 4; i++) {
        w[i] = vreinterpretq_u32_u8(r[row + i].val[half]);
    }
    const uint64x2_t t0 = vreinterpretq_u64_u32(vtrn1q_u32(w[0], w[1]));
    const uint64x2_t t1 = vreinterpretq_u64_u32(vtrn2q_u32(w[0], w[1]));
    const uint64x2_t t2 = vreinterpretq_u64_u32(vtrn1q_u32(w[2], w[3]));
    const uint64x2_t t3 = vreinterpretq_u64_u32(vtrn2q_u32(w[2], w[3]));
    out[0] = vreinterpretq_u32_u64(vtrn1q_u64(t0, t2));
    out[1] = vreinterpretq_u32_u64(vtrn1q_u64(t1, t3));
    out[2] = vreinterpretq_u32_u64(vtrn2q_u64(t0, t2));
    out[3] = vreinterpretq_u32_u64(vtrn2q_u64(t1, t3));
}

LANES_INLINE void lanes_transpose(lanes_bytes r[8]) {
    uint32x4_t quarters[2][2][4]; // of rows, of columns
    for (int row = 0; row < 2; row++) {
        for (int half = 0; half < 2; half++) {
            transpose_quarter(r, 4 * row, half, quarters[row][half]);
        }
    }
    for (int i = 0; i < 8; i++) {
        r[i] = (lanes_bytes){{vreinterpretq_u8_u32(quarters[0][i / 4][i % 4]),
                              vreinterpretq_u8_u32(quarters[1][i / 4][i % 4])}};
    }
}

#endif
