// Units of 32 weights times x that is rounded to 8 bits, with a scale for each unit: the integers of
// four neighbours are multiplied and added up by one instruction. With s the sum of these products
// and t that of what x was rounded to, a unit gives scale * (s - centre * t), or plus minimum * t.
#ifndef UNIT_DOTS_GLSL
#define UNIT_DOTS_GLSL

// OpSDot of SPV_KHR_integer_dot_product with DotProduct and DotProductInput4x8BitPacked; the last
// operand is PackedVectorFormat4x8Bit.
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6018, 6019],
                  id = 4450)
int dot_bytes(int a, int b, spirv_literal int format);

#define ROUND_TO_INTEGER 12582912.0 // 1.5 * 2^23: the low bits of a sum with it are the integer

struct rounded_x {
    int bytes[8]; // of four neighbours each
    float scale;
    vec2 totals; // of the elements in front of 16, and of those behind
};

// The largest magnitude is found by its bits: those of a NaN are larger than any other, and so no NaN
// hides from it.
uint most_of(vec4 quad) {
    const uvec4 bits = floatBitsToUint(quad) & 0x7FFFFFFFu;
    return max(max(bits.x, bits.y), max(bits.z, bits.w));
}

float inverse_of(uint most) {
    return most > 0u ? 127.0 / uintBitsToFloat(most) : 0.0;
}

float scale_of_most(uint most) {
    return uintBitsToFloat(most) / 127.0;
}

int round_quad(vec4 quad, float inverse) {
    precise vec4 scaled = quad * inverse;
    const uvec4 whole = floatBitsToUint(scaled + ROUND_TO_INTEGER) & 0xFFu;
    return int(whole.x | whole.y << 8 | whole.z << 16 | whole.w << 24);
}

rounded_x round_x(vec4 quads[8]) {
    rounded_x rounded;
    uint most = 0u;
    [[unroll]] for (uint g = 0u; g < 8u; g++) {
        most = max(most, most_of(quads[g]));
    }
    const float inverse = inverse_of(most);
    rounded.scale = scale_of_most(most);
    int sums[2] = int[2](0, 0);
    [[unroll]] for (uint g = 0u; g < 8u; g++) {
        rounded.bytes[g] = round_quad(quads[g], inverse);
        sums[g / 4u] += dot_bytes(rounded.bytes[g], 0x01010101, 0);
    }
    rounded.totals = rounded.scale * vec2(sums[0], sums[1]);
    return rounded;
}

// Elements 4g .. 4g + 3 of a unit as bytes; signed those of Q8_0.
uint bytes_at(uint m, uint raw[RAW_MAX], uint unit, uint g) {
    const uint type = type_of(m);
    const bool odd = (unit * halves_of(m) & 1u) == 1u;
    if (type == Q8_0) {
        return behind(raw, g, odd);
    }
    if (type == Q4_K || type == Q5_K) {
        const uint low = raw[4u + g] >> (unit % 2u * 4u) & 0x0F0F0F0Fu;
        return type == Q4_K ? low : low | (raw[12u + g] >> unit % 8u & 0x01010101u) << 4;
    }
    if (type == Q6_K) {
        const uint run = unit % 4u;
        const bool odd_block = unit / 8u % 2u == 1u;
        return from_half(raw, g, odd_block) >> (run / 2u * 4u) & 0x0F0F0F0Fu |
               (from_half(raw, 9u + g, odd_block) >> (run * 2u) & 0x03030303u) << 4;
    }
    const uint nibbles = small_nibbles(m, raw, odd, g) & 0x0F0F0F0Fu;
    return type == Q5_0 || type == Q5_1 ? nibbles | small_fifths(m, raw, odd, g) << 4 : nibbles;
}

float dot_rounded(uint m, uint raw[RAW_MAX], uint unit, rounded_x x) {
    const uint type = type_of(m);
    int sums[2] = int[2](0, 0);
    [[unroll]] for (uint g = 0u; g < 8u; g++) {
        sums[g / 4u] += dot_bytes(int(bytes_at(m, raw, unit, g)), x.bytes[g], 0);
    }
    const float s = x.scale * float(sums[0] + sums[1]);
    const float t = x.totals.x + x.totals.y;
    if (type == Q6_K) {
        const vec2 scales = vec2(sign_extend(raw[18] & 0xFFu), sign_extend(raw[18] >> 8));
        const vec2 parts = x.scale * vec2(sums[0], sums[1]) - 32.0 * x.totals;
        return half_to_float(raw[19]) * (scales.x * parts.x + scales.y * parts.y);
    }
    if (type == Q4_K || type == Q5_K) {
        const vec2 scales = large_scales(raw, unit % 8u);
        return scales.x * s - scales.y * t;
    }
    if (type == Q4_1 || type == Q5_1) {
        const vec2 both = unpackHalf2x16(raw[0]);
        return both.x * s + both.y * t;
    }
    const float d = small_scale(m, raw, unit);
    return type == Q8_0 ? d * s : d * (s - (type == Q4_0 ? 8.0 : 16.0) * t);
}

#endif
