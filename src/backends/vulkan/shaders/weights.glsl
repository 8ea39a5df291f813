// Rows of weights in any type that they have in a file, eight elements at a time.
//
// Three variables name the same binding: blocks of odd size are read as 16-bit words, f32 and rows
// on 4-byte borders as 32-bit words, rows of plain types on 16-byte borders four such at a time.
// Positions are counted in 16-bit words from the binding.
//
// A shader has one matrix, or two where UP_BINDING is defined: `m` is the number of the matrix, a
// constant wherever these functions are called.
#ifndef WEIGHTS_GLSL
#define WEIGHTS_GLSL

// The numbers of weir_dtype that a kernel is specialised for.
#define F32 0u
#define F16 1u
#define BF16 2u
#define Q8_0 3u
#define Q4_0 4u
#define Q4_1 5u
#define Q5_0 6u
#define Q5_1 7u
#define Q4_K 8u
#define Q5_K 9u
#define Q6_K 10u
#define Q2_K 11u
#define Q3_K 12u
#define IQ4_NL 13u
#define IQ4_XS 14u
#define MXFP4 15u

layout(constant_id = 0) const uint TYPE = F32;
layout(constant_id = 1) const uint BORDERS = 2u; // all rows begin on borders of 2, 4 or 16 bytes

layout(set = 0, binding = WEIGHT_BINDING, std430) readonly buffer Weights16 {
    uint16_t words[];
} w16;
layout(set = 0, binding = WEIGHT_BINDING, std430) readonly buffer Weights32 {
    uint words[];
} w32;
layout(set = 0, binding = WEIGHT_BINDING, std430) readonly buffer Weights128 {
    uvec4 words[];
} w128;

#ifdef UP_BINDING
#define UP_NONE 0xFFFFFFFFu
layout(constant_id = 5) const uint UP_TYPE = UP_NONE;
layout(constant_id = 6) const uint UP_BORDERS = 2u;

layout(set = 0, binding = UP_BINDING, std430) readonly buffer Up16 { uint16_t words[]; } up16;
layout(set = 0, binding = UP_BINDING, std430) readonly buffer Up32 { uint words[]; } up32;
layout(set = 0, binding = UP_BINDING, std430) readonly buffer Up128 { uvec4 words[]; } up128;

uint type_of(uint m) {
    return m == 0u ? TYPE : UP_TYPE;
}

uint borders_of(uint m) {
    return m == 0u ? BORDERS : UP_BORDERS;
}

uint word(uint m, uint at) {
    return m == 0u ? uint(w16.words[at]) : uint(up16.words[at]);
}

uint long_word(uint m, uint at) {
    return m == 0u ? w32.words[at] : up32.words[at];
}

uvec4 quad(uint m, uint at) {
    return m == 0u ? w128.words[at] : up128.words[at];
}
#else
uint type_of(uint m) {
    return TYPE;
}

uint borders_of(uint m) {
    return BORDERS;
}

uint word(uint m, uint at) {
    return uint(w16.words[at]);
}

uint long_word(uint m, uint at) {
    return w32.words[at];
}

uvec4 quad(uint m, uint at) {
    return w128.words[at];
}
#endif

// Byte `index` counted from 16-bit word `at`.
uint byte_at(uint m, uint at, uint index) {
    return (word(m, at + index / 2u) >> (index % 2u * 8u)) & 0xFFu;
}

// Two neighbouring 16-bit words.
uint pair(uint m, uint at) {
    return borders_of(m) >= 4u ? long_word(m, at / 2u)
                               : word(m, at) | word(m, at + 1u) << 16;
}

int sign_extend(uint byte) {
    return int(byte << 24) >> 24;
}

float weight_plain(uint m, uint row, uint k) {
    if (type_of(m) == F32) {
        return uintBitsToFloat(long_word(m, row / 2u + k));
    }
    return type_of(m) == F16 ? half_to_float(word(m, row + k)) : bfloat_to_float(word(m, row + k));
}

// Eight 16-bit elements in four words.
void unpack_plain(uint m, uvec4 words, out float v[8]) {
    for (uint i = 0u; i < 4u; i++) {
        const vec2 halves = unpackHalf2x16(words[i]);
        v[2u * i] = type_of(m) == F16 ? halves.x : bfloat_to_float(words[i] & 0xFFFFu);
        v[2u * i + 1u] = type_of(m) == F16 ? halves.y : bfloat_to_float(words[i] >> 16);
    }
}

void load_plain(uint m, uint row, uint k, out float v[8]) {
    if (type_of(m) == F32 && borders_of(m) == 16u) {
        const vec4 low = uintBitsToFloat(quad(m, row / 8u + k / 4u));
        const vec4 high = uintBitsToFloat(quad(m, row / 8u + k / 4u + 1u));
        v = float[8](low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w);
        return;
    }
    if (type_of(m) == F32) {
        for (uint i = 0u; i < 8u; i++) {
            v[i] = uintBitsToFloat(long_word(m, row / 2u + k + i));
        }
        return;
    }
    const uint at = row + k;
    if (borders_of(m) == 16u) {
        unpack_plain(m, quad(m, at / 8u), v);
    } else {
        unpack_plain(m, uvec4(pair(m, at), pair(m, at + 2u), pair(m, at + 4u), pair(m, at + 6u)), v);
    }
}

void load_q8_0(uint m, uint row, uint k, out float v[8]) {
    const uint block = row + k / 32u * 17u;
    const float d = half_to_float(word(m, block));
    const uint quants = block + 1u + k % 32u / 2u;
    for (uint i = 0u; i < 8u; i += 2u) {
        const uint both = word(m, quants + i / 2u);
        v[i] = d * float(sign_extend(both & 0xFFu));
        v[i + 1u] = d * float(sign_extend(both >> 8));
    }
}

// Four- and five-bit blocks of 32: element j < 16 is the low nibble of byte j, j + 16 the high one.
void load_small(uint m, uint row, uint k, out float v[8]) {
    const bool fifth = type_of(m) == Q5_0 || type_of(m) == Q5_1;
    const bool affine = type_of(m) == Q4_1 || type_of(m) == Q5_1;
    const uint header = affine ? 2u : 1u;
    const uint block = row + k / 32u * (header + (fifth ? 2u : 0u) + 8u);
    const float d = half_to_float(word(m, block));
    const float minimum = affine ? half_to_float(word(m, block + 1u)) : 0.0;
    const uint j = k % 32u;
    const uint high_bits = fifth ? word(m, block + header) | word(m, block + header + 1u) << 16 : 0u;
    const uint quants = block + header + (fifth ? 2u : 0u) + j % 16u / 2u;
    const uint shift = j < 16u ? 0u : 4u;
    const int middle = affine ? 0 : fifth ? 16 : 8;
    for (uint i = 0u; i < 8u; i++) {
        const uint nibble = (word(m, quants + i / 2u) >> (i % 2u * 8u + shift)) & 0xFu;
        const int q = int(nibble | ((high_bits >> (j + i)) & 1u) << 4) - middle;
        v[i] = affine ? d * float(q) + minimum : d * float(q);
    }
}

// Six-bit scale and minimum of sub-block `s` of 32 elements, packed in 12 bytes from word `at`.
uvec2 scale_and_minimum(uint m, uint at, uint s) {
    if (s < 4u) {
        return uvec2(byte_at(m, at, s) & 63u, byte_at(m, at, s + 4u) & 63u);
    }
    const uint split = byte_at(m, at, s + 4u);
    return uvec2((split & 0xFu) | byte_at(m, at, s - 4u) >> 6 << 4,
                 split >> 4 | byte_at(m, at, s) >> 6 << 4);
}

void load_q4_k(uint m, uint row, uint k, out float v[8]) {
    const bool fifth = type_of(m) == Q5_K;
    const uint block = row + k / 256u * (fifth ? 88u : 72u);
    const uint s = k % 256u / 32u;
    const uint l = k % 32u;
    const uvec2 packed = scale_and_minimum(m, block + 2u, s);
    const float scale = half_to_float(word(m, block)) * float(packed.x);
    const float minimum = half_to_float(word(m, block + 1u)) * float(packed.y);
    const uint quants = block + (fifth ? 24u : 8u) + s / 2u * 16u + l / 2u;
    const uint fifths = block + 8u + l / 2u;
    for (uint i = 0u; i < 8u; i++) {
        const uint shift = i % 2u * 8u;
        uint q = (word(m, quants + i / 2u) >> (shift + s % 2u * 4u)) & 0xFu;
        if (fifth) {
            q |= ((word(m, fifths + i / 2u) >> (shift + s)) & 1u) << 4;
        }
        v[i] = scale * float(q) - minimum;
    }
}

// 128 elements lie as four runs of 32; a byte of the low bits serves two runs, of the high four.
void load_q6_k(uint m, uint row, uint k, out float v[8]) {
    const uint block = row + k / 256u * 105u;
    const uint part = k % 256u / 128u;
    const uint run = k % 128u / 32u;
    const uint l = k % 32u;
    const uint scale = byte_at(m, block + 96u, part * 8u + run * 2u + l / 16u);
    const float d = half_to_float(word(m, block + 104u)) * float(sign_extend(scale));
    const uint low = block + part * 32u + run % 2u * 16u + l / 2u;
    const uint high = block + 64u + part * 16u + l / 2u;
    for (uint i = 0u; i < 8u; i++) {
        const uint shift = i % 2u * 8u;
        const uint q = ((word(m, low + i / 2u) >> (shift + run / 2u * 4u)) & 0xFu) |
                       ((word(m, high + i / 2u) >> (shift + run * 2u)) & 3u) << 4;
        v[i] = d * float(int(q) - 32);
    }
}

// The values of the codes of IQ4_NL and IQ4_XS, and twice those of MXFP4, as signed bytes.
const uint IQ4_VALUES[4] = uint[4](0xBFAD9881u, 0xF6EADDCFu, 0x26190D01u, 0x71594535u);
const uint FP4_VALUES[4] = uint[4](0x03020100u, 0x0C080604u, 0xFDFEFF00u, 0xF4F8FAFCu);

// Blocks of 32 whose nibbles are codes, in the order of load_small.
void load_codes(uint m, uint row, uint k, out float v[8]) {
    const uint j = k % 32u;
    uint first = k / 32u * 18u; // byte of the row: that of a block of IQ4_NL
    float scale = 0.0;
    if (type_of(m) == MXFP4) {
        first = k / 32u * 17u;
        const uint e = byte_at(m, row, first);
        // Half of 2^(e - 127), as twice the values are in the table; 255 is NaN.
        scale = uintBitsToFloat(e == 255u ? 0x7FC00000u
                                : e < 2u  ? 0x00200000u << e
                                          : (e - 1u) << 23);
        first += 1u;
    } else if (type_of(m) == IQ4_NL) {
        scale = half_to_float(word(m, row + first / 2u));
        first += 2u;
    } else {
        const uint block = row + k / 256u * 68u;
        const uint s = k % 256u / 32u;
        const uint low = byte_at(m, block + 2u, s / 2u) >> s % 2u * 4u & 0xFu;
        const uint high = word(m, block + 1u) >> 2u * s & 3u;
        scale = half_to_float(word(m, block)) * float(int(low | high << 4) - 32);
        first = k / 256u * 136u + 8u + s * 16u;
    }
    for (uint i = 0u; i < 8u; i++) {
        const uint code = byte_at(m, row, first + j % 16u + i) >> j / 16u * 4u & 0xFu;
        const uint values =
            type_of(m) == MXFP4 ? FP4_VALUES[code / 4u] : IQ4_VALUES[code / 4u];
        v[i] = scale * float(sign_extend(values >> code % 4u * 8u & 0xFFu));
    }
}

// 128 elements lie as four runs of 32, two bits each of the same 32 bytes; the scales change every
// 16 elements.
void load_q2_k(uint m, uint row, uint k, out float v[8]) {
    const uint block = row + k / 256u * 42u;
    const uint packed = byte_at(m, block, k % 256u / 16u);
    const float scale = half_to_float(word(m, block + 40u)) * float(packed & 0xFu);
    const float minimum = half_to_float(word(m, block + 41u)) * float(packed >> 4);
    const uint quants = block + 8u + k % 256u / 128u * 16u + k % 32u / 2u;
    for (uint i = 0u; i < 8u; i++) {
        const uint shift = i % 2u * 8u + k % 128u / 32u * 2u;
        v[i] = scale * float(word(m, quants + i / 2u) >> shift & 3u) - minimum;
    }
}

// As Q2_K without minima; where the third bit is not set, 4 is taken off.
void load_q3_k(uint m, uint row, uint k, out float v[8]) {
    const uint block = row + k / 256u * 55u;
    const uint s = k % 256u / 16u;
    const uint low = byte_at(m, block + 48u, s % 8u) >> s / 8u * 4u & 0xFu;
    const uint high = byte_at(m, block + 52u, s % 4u) >> s / 4u * 2u & 3u;
    const float scale = half_to_float(word(m, block + 54u)) * float(int(low | high << 4) - 32);
    const uint thirds = block + k % 32u / 2u;
    const uint quants = block + 16u + k % 256u / 128u * 16u + k % 32u / 2u;
    for (uint i = 0u; i < 8u; i++) {
        const uint shift = i % 2u * 8u;
        const uint q = (word(m, quants + i / 2u) >> shift + k % 128u / 32u * 2u & 3u) |
                       (word(m, thirds + i / 2u) >> shift + k % 256u / 32u & 1u) << 2;
        v[i] = scale * float(int(q) - 4);
    }
}

// Elements k .. k + 7 of the row that begins at word `row`; k is a multiple of 8.
void load_weights(uint m, uint row, uint k, out float v[8]) {
    if (type_of(m) == Q8_0) {
        load_q8_0(m, row, k, v);
    } else if (type_of(m) == Q4_0 || type_of(m) == Q4_1 || type_of(m) == Q5_0 || type_of(m) == Q5_1) {
        load_small(m, row, k, v);
    } else if (type_of(m) == Q4_K || type_of(m) == Q5_K) {
        load_q4_k(m, row, k, v);
    } else if (type_of(m) == Q6_K) {
        load_q6_k(m, row, k, v);
    } else if (type_of(m) == Q2_K) {
        load_q2_k(m, row, k, v);
    } else if (type_of(m) == Q3_K) {
        load_q3_k(m, row, k, v);
    } else if (type_of(m) == IQ4_NL || type_of(m) == IQ4_XS || type_of(m) == MXFP4) {
        load_codes(m, row, k, v);
    } else {
        load_plain(m, row, k, v);
    }
}

// The same with zeros behind the end of the row, which only plain types have within eight elements.
void load_weights_within(uint m, uint row, uint k, uint width, out float v[8]) {
    if (k + 8u <= width) {
        load_weights(m, row, k, v);
        return;
    }
    for (uint i = 0u; i < 8u; i++) {
        v[i] = k + i < width ? weight_plain(m, row, k + i) : 0.0;
    }
}

#endif
