// Blocks of weights, 32 elements at a time, as products need them: without a conversion.
//
// The top bits of the fraction of a 16-bit float hold an element: with the exponent of 1 the float
// is v = 1 + element / 2^bits, and so two elements are unpacked by a mask, an or and two exact
// conversions. With s the sum of x * v and t that of x, a unit gives scale * (s - centre * t) plus
// minimum * t.
//
// All words of a unit are read before any is used, so that the reads of several units are under way
// together. Rows begin on borders of 4 bytes and are as long as a multiple of 4.
#ifndef UNITS_GLSL
#define UNITS_GLSL

#define UNIT 32u
#define RAW_MAX 20
#define ONES 0x3C003C00u

// 16-bit words of a block; 32-bit words that the reads of a block of 32 take.
uint halves_of(uint m) {
    const uint type = type_of(m);
    return type == Q8_0 ? 17u : type == Q4_0 ? 9u : type == Q4_1 ? 10u : type == Q5_0 ? 11u : 12u;
}

bool is_large(uint m) {
    return type_of(m) == Q4_K || type_of(m) == Q5_K || type_of(m) == Q6_K;
}

// Words `count` from 16-bit word `half_at` on; the first holds half a word more in front where that
// is odd.
#define READ_WORDS(m, half_at, first, count)                                                       \
    [[unroll]] for (uint i = 0u; i < count; i++) {                                                 \
        raw[first + i] = long_word(m, (half_at) / 2u + i);                                         \
    }

#define READ_QUADS(m, word_at, first, count)                                                       \
    [[unroll]] for (uint i = 0u; i < count; i++) {                                                 \
        const uvec4 four = quad(m, (word_at) / 4u + i);                                            \
        raw[first + 4u * i] = four.x;                                                              \
        raw[first + 4u * i + 1u] = four.y;                                                         \
        raw[first + 4u * i + 2u] = four.z;                                                         \
        raw[first + 4u * i + 3u] = four.w;                                                         \
    }

// Q4_K and Q5_K: scales in words 0 to 3, low bits from 4 on, fifth bits from 12 on.
void load_large(uint m, uint row, uint unit, out uint raw[RAW_MAX]) {
    const bool fifth = type_of(m) == Q5_K;
    const uint block = row / 2u + unit / 8u * (fifth ? 44u : 36u);
    const uint quants = block + (fifth ? 12u : 4u) + unit % 8u / 2u * 8u;
    if (borders_of(m) == 16u) {
        READ_QUADS(m, block, 0u, 1u)
        READ_QUADS(m, quants, 4u, 2u)
        if (fifth) {
            READ_QUADS(m, block + 4u, 12u, 2u)
        }
    } else {
        READ_WORDS(m, block * 2u, 0u, 4u)
        READ_WORDS(m, quants * 2u, 4u, 8u)
        if (fifth) {
            READ_WORDS(m, block * 2u + 8u, 12u, 8u)
        }
    }
}

// Low bits in words 0 to 8, high bits in 9 to 17, both scales in 18, the scale of the block in 19.
void load_six(uint m, uint row, uint unit, out uint raw[RAW_MAX]) {
    const uint block = row + unit / 8u * 105u;
    const uint part = unit % 8u / 4u;
    const uint run = unit % 4u;
    READ_WORDS(m, block + part * 32u + run % 2u * 16u, 0u, 9u)
    READ_WORDS(m, block + 64u + part * 16u, 9u, 9u)
    raw[18] = word(m, block + 96u + part * 4u + run);
    raw[19] = word(m, block + 104u);
}

void load_unit(uint m, uint row, uint unit, out uint raw[RAW_MAX]) {
    if (type_of(m) == Q6_K) {
        load_six(m, row, unit, raw);
    } else if (is_large(m)) {
        load_large(m, row, unit, raw);
    } else {
        const uint halves = halves_of(m);
        READ_WORDS(m, row + unit * halves, 0u, (halves + 1u) / 2u)
    }
}

// Word `index` behind the 16-bit word that `raw` begins with, which lies in the upper half of its
// first word where `odd`.
uint behind(uint raw[RAW_MAX], uint index, bool odd) {
    return odd ? raw[index + 1u] : raw[index] >> 16 | raw[index + 1u] << 16;
}

// The same from the first 16-bit word on.
uint from_half(uint raw[RAW_MAX], uint index, bool odd) {
    return odd ? raw[index] >> 16 | raw[index + 1u] << 16 : raw[index];
}

// Elements 0 and 2, 1 and 3 of four bytes whose low nibbles are the element.
uvec2 four_bits(uint t) {
    return uvec2(t << 6, t >> 2) & 0x03C003C0u | ONES;
}

// The same with the fifth bits as the low bits of bytes.
uvec2 five_bits(uint t, uint fifths) {
    return uvec2(t << 5, t >> 3) & 0x01E001E0u | uvec2(fifths << 9, fifths << 1) & 0x02000200u |
           ONES;
}

// The word with elements 4g .. 4g + 3 of Q4_0, Q4_1, Q5_0 or Q5_1: in the low nibbles of its bytes
// where g < 4, else in the high ones.
uint small_word(uint m, uint raw[RAW_MAX], bool odd, uint g) {
    const uint type = type_of(m);
    const uint index = g % 4u + (type == Q5_0 || type == Q5_1 ? 1u : 0u);
    return type == Q4_1 || type == Q5_1 ? raw[1u + index] : behind(raw, index, odd);
}

uint small_nibbles(uint m, uint raw[RAW_MAX], bool odd, uint g) {
    return small_word(m, raw, odd, g) >> (g < 4u ? 0u : 4u);
}

// Their fifth bits, of Q5_0 or Q5_1, as the low bits of four bytes: shifted copies that do not meet.
uint small_fifths(uint m, uint raw[RAW_MAX], bool odd, uint g) {
    const uint bits = type_of(m) == Q5_1 ? raw[1] : behind(raw, 0u, odd);
    return (bits >> (4u * g) & 0xFu) * 0x00204081u & 0x01010101u;
}

// The scale of a block of Q8_0, Q4_0 or Q5_0.
float small_scale(uint m, uint raw[RAW_MAX], uint unit) {
    const bool odd = (unit * halves_of(m) & 1u) == 1u;
    return half_to_float(odd ? raw[0] >> 16 : raw[0] & 0xFFFFu);
}

// Elements 4g and 4g + 2, 4g + 1 and 4g + 3 of a unit as 16-bit floats.
uvec2 four_at(uint m, uint raw[RAW_MAX], uint unit, uint g) {
    const uint type = type_of(m);
    const bool odd = (unit * halves_of(m) & 1u) == 1u;
    if (type == Q8_0) {
        const uint t = behind(raw, g, odd) ^ 0x80808080u;
        return uvec2(t << 2, t >> 6) & 0x03FC03FCu | ONES;
    }
    if (type == Q4_K || type == Q5_K) {
        const uint t = raw[4u + g] >> (unit % 2u * 4u);
        return type == Q4_K ? four_bits(t) : five_bits(t, raw[12u + g] >> unit % 8u);
    }
    if (type == Q6_K) {
        const uint run = unit % 4u;
        const bool odd_block = unit / 8u % 2u == 1u;
        const uint t = from_half(raw, g, odd_block) >> (run / 2u * 4u);
        const uint high = from_half(raw, 9u + g, odd_block) >> (run * 2u);
        return uvec2(t << 4, t >> 4) & 0x00F000F0u | uvec2(high << 8, high) & 0x03000300u | ONES;
    }
    if (type == Q5_0 || type == Q5_1) {
        return five_bits(small_nibbles(m, raw, odd, g), small_fifths(m, raw, odd, g));
    }
    const uint both = small_word(m, raw, odd, g); // shifts of their own, and one less
    return uvec2(g < 4u ? both << 6 : both << 2, g < 4u ? both >> 2 : both >> 6) & 0x03C003C0u | ONES;
}

// Byte `index` of the 12 bytes of scales in words 1 to 3.
uint scale_byte(uint raw[RAW_MAX], uint index) {
    const uint low = index < 4u ? raw[1] : index < 8u ? raw[2] : raw[3];
    return low >> (index % 4u * 8u) & 0xFFu;
}

// Scale and minimum of a unit of Q4_K or Q5_K.
vec2 large_scales(uint raw[RAW_MAX], uint s) {
    const vec2 both = unpackHalf2x16(raw[0]);
    const uint low = scale_byte(raw, s % 4u);
    const uint middle = scale_byte(raw, s % 4u + 4u);
    const uint split = scale_byte(raw, s % 4u + 8u);
    return s < 4u ? both * vec2(low & 63u, middle & 63u)
                  : both * vec2(split & 15u | low >> 6 << 4, split >> 4 | middle >> 6 << 4);
}

// The sums of x * v and of x over four quads.
vec2 sum_quads(uint m, uint raw[RAW_MAX], uint unit, vec4 left[8], uint begin) {
    float s = 0.0;
    float t = 0.0;
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
        const uint g = begin + i;
        const uvec2 packed = four_at(m, raw, unit, g);
        const vec2 even = unpackHalf2x16(packed.x);
        const vec2 uneven = unpackHalf2x16(packed.y);
        s += left[g].x * even.x;
        s += left[g].y * uneven.x;
        s += left[g].z * even.y;
        s += left[g].w * uneven.y;
        t += (left[g].x + left[g].y) + (left[g].z + left[g].w);
    }
    return vec2(s, t);
}

// The product of a unit with 32 elements of x.
float dot_unit(uint m, uint raw[RAW_MAX], uint unit, vec4 left[8]) {
    const uint type = type_of(m);
    const vec2 low = sum_quads(m, raw, unit, left, 0u);
    const vec2 high = sum_quads(m, raw, unit, left, 4u);
    const vec2 all = low + high;
    if (type == Q6_K) {
        const float d = half_to_float(raw[19]) * 64.0;
        return d * float(sign_extend(raw[18] & 0xFFu)) * (low.x - 1.5 * low.y) +
               d * float(sign_extend(raw[18] >> 8)) * (high.x - 1.5 * high.y);
    }
    if (type == Q4_K || type == Q5_K) {
        const vec2 scales = large_scales(raw, unit % 8u);
        return scales.x * (type == Q4_K ? 16.0 : 32.0) * (all.x - all.y) - scales.y * all.y;
    }
    if (type == Q4_1 || type == Q5_1) {
        const vec2 both = unpackHalf2x16(raw[0]);
        return both.x * (type == Q4_1 ? 16.0 : 32.0) * (all.x - all.y) + both.y * all.y;
    }
    return small_scale(m, raw, unit) * (type == Q8_0 ? 256.0 : type == Q4_0 ? 16.0 : 32.0) * (all.x - 1.5 * all.y);
}

#endif
