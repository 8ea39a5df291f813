// Rows of weights in any type that they have in a file, eight elements at a time.
//
// Three variables name the same binding: blocks of odd size are read as 16-bit words, f32 and rows
// on 4-byte borders as 32-bit words, rows of plain types on 16-byte borders four such at a time.
// Positions are counted in 16-bit words from the binding.
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

uint word(uint at) {
    return uint(w16.words[at]);
}

// Byte `index` counted from 16-bit word `at`.
uint byte_at(uint at, uint index) {
    return (word(at + index / 2u) >> (index % 2u * 8u)) & 0xFFu;
}

// Two neighbouring 16-bit words.
uint pair(uint at) {
    return BORDERS >= 4u ? w32.words[at / 2u] : word(at) | word(at + 1u) << 16;
}

int sign_extend(uint byte) {
    return int(byte << 24) >> 24;
}

float weight_plain(uint row, uint k) {
    if (TYPE == F32) {
        return uintBitsToFloat(w32.words[row / 2u + k]);
    }
    return TYPE == F16 ? half_to_float(word(row + k)) : bfloat_to_float(word(row + k));
}

// Eight 16-bit elements in four words.
void unpack_plain(uvec4 words, out float v[8]) {
    for (uint i = 0u; i < 4u; i++) {
        const vec2 halves = unpackHalf2x16(words[i]);
        v[2u * i] = TYPE == F16 ? halves.x : bfloat_to_float(words[i] & 0xFFFFu);
        v[2u * i + 1u] = TYPE == F16 ? halves.y : bfloat_to_float(words[i] >> 16);
    }
}

void load_plain(uint row, uint k, out float v[8]) {
    if (TYPE == F32 && BORDERS == 16u) {
        const vec4 low = uintBitsToFloat(w128.words[row / 8u + k / 4u]);
        const vec4 high = uintBitsToFloat(w128.words[row / 8u + k / 4u + 1u]);
        v = float[8](low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w);
        return;
    }
    if (TYPE == F32) {
        for (uint i = 0u; i < 8u; i++) {
            v[i] = uintBitsToFloat(w32.words[row / 2u + k + i]);
        }
        return;
    }
    const uint at = row + k;
    if (BORDERS == 16u) {
        unpack_plain(w128.words[at / 8u], v);
    } else {
        unpack_plain(uvec4(pair(at), pair(at + 2u), pair(at + 4u), pair(at + 6u)), v);
    }
}

void load_q8_0(uint row, uint k, out float v[8]) {
    const uint block = row + k / 32u * 17u;
    const float d = half_to_float(word(block));
    const uint quants = block + 1u + k % 32u / 2u;
    for (uint i = 0u; i < 8u; i += 2u) {
        const uint both = word(quants + i / 2u);
        v[i] = d * float(sign_extend(both & 0xFFu));
        v[i + 1u] = d * float(sign_extend(both >> 8));
    }
}

// Four- and five-bit blocks of 32: element j < 16 is the low nibble of byte j, j + 16 the high one.
void load_small(uint row, uint k, out float v[8]) {
    const bool fifth = TYPE == Q5_0 || TYPE == Q5_1;
    const bool affine = TYPE == Q4_1 || TYPE == Q5_1;
    const uint header = affine ? 2u : 1u;
    const uint block = row + k / 32u * (header + (fifth ? 2u : 0u) + 8u);
    const float d = half_to_float(word(block));
    const float minimum = affine ? half_to_float(word(block + 1u)) : 0.0;
    const uint j = k % 32u;
    const uint high_bits = fifth ? word(block + header) | word(block + header + 1u) << 16 : 0u;
    const uint quants = block + header + (fifth ? 2u : 0u) + j % 16u / 2u;
    const uint shift = j < 16u ? 0u : 4u;
    const int middle = affine ? 0 : fifth ? 16 : 8;
    for (uint i = 0u; i < 8u; i++) {
        const uint nibble = (word(quants + i / 2u) >> (i % 2u * 8u + shift)) & 0xFu;
        const int q = int(nibble | ((high_bits >> (j + i)) & 1u) << 4) - middle;
        v[i] = affine ? d * float(q) + minimum : d * float(q);
    }
}

// Six-bit scale and minimum of sub-block `s` of 32 elements, packed in 12 bytes from word `at`.
uvec2 scale_and_minimum(uint at, uint s) {
    if (s < 4u) {
        return uvec2(byte_at(at, s) & 63u, byte_at(at, s + 4u) & 63u);
    }
    const uint split = byte_at(at, s + 4u);
    return uvec2((split & 0xFu) | byte_at(at, s - 4u) >> 6 << 4,
                 split >> 4 | byte_at(at, s) >> 6 << 4);
}

void load_q4_k(uint row, uint k, out float v[8]) {
    const bool fifth = TYPE == Q5_K;
    const uint block = row + k / 256u * (fifth ? 88u : 72u);
    const uint s = k % 256u / 32u;
    const uint l = k % 32u;
    const uvec2 packed = scale_and_minimum(block + 2u, s);
    const float scale = half_to_float(word(block)) * float(packed.x);
    const float minimum = half_to_float(word(block + 1u)) * float(packed.y);
    const uint quants = block + (fifth ? 24u : 8u) + s / 2u * 16u + l / 2u;
    const uint fifths = block + 8u + l / 2u;
    for (uint i = 0u; i < 8u; i++) {
        const uint shift = i % 2u * 8u;
        uint q = (word(quants + i / 2u) >> (shift + s % 2u * 4u)) & 0xFu;
        if (fifth) {
            q |= ((word(fifths + i / 2u) >> (shift + s)) & 1u) << 4;
        }
        v[i] = scale * float(q) - minimum;
    }
}

// 128 elements lie as four runs of 32; a byte of the low bits serves two runs, of the high four.
void load_q6_k(uint row, uint k, out float v[8]) {
    const uint block = row + k / 256u * 105u;
    const uint part = k % 256u / 128u;
    const uint run = k % 128u / 32u;
    const uint l = k % 32u;
    const uint scale = byte_at(block + 96u, part * 8u + run * 2u + l / 16u);
    const float d = half_to_float(word(block + 104u)) * float(sign_extend(scale));
    const uint low = block + part * 32u + run % 2u * 16u + l / 2u;
    const uint high = block + 64u + part * 16u + l / 2u;
    for (uint i = 0u; i < 8u; i++) {
        const uint shift = i % 2u * 8u;
        const uint q = ((word(low + i / 2u) >> (shift + run / 2u * 4u)) & 0xFu) |
                       ((word(high + i / 2u) >> (shift + run * 2u)) & 3u) << 4;
        v[i] = d * float(int(q) - 32);
    }
}

// Elements k .. k + 7 of the row that begins at word `row`; k is a multiple of 8.
void load_weights(uint row, uint k, out float v[8]) {
    if (TYPE == Q8_0) {
        load_q8_0(row, k, v);
    } else if (TYPE == Q4_0 || TYPE == Q4_1 || TYPE == Q5_0 || TYPE == Q5_1) {
        load_small(row, k, v);
    } else if (TYPE == Q4_K || TYPE == Q5_K) {
        load_q4_k(row, k, v);
    } else if (TYPE == Q6_K) {
        load_q6_k(row, k, v);
    } else {
        load_plain(row, k, v);
    }
}

// The same with zeros behind the end of the row, which only plain types have within eight elements.
void load_weights_within(uint row, uint k, uint width, out float v[8]) {
    if (k + 8u <= width) {
        load_weights(row, k, v);
        return;
    }
    for (uint i = 0u; i < 8u; i++) {
        v[i] = k + i < width ? weight_plain(row, k + i) : 0.0;
    }
}

#endif
