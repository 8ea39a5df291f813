#version 450
// The product of matmul.comp in arithmetic of 16 bits, two elements of k at a time. In each step of
// 32 elements the rows of x and those of the matrices are divided by a power of two, so that the
// largest of a row lies between 1 and 2: whatever the numbers, halves neither overflow nor lose
// more than their last bits. The sums of a step are halves, one for even k and one for odd; sums of
// steps are f32.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#include "tiles.glsl"

#define EXPONENT 0x7F800000u
#define EXPONENT_MOST (253u << 23) // of which there is an inverse

// Of a step, eight halves of a row at a time: those of x, then those of the matrices. The octets of
// a row change places (place_of), so that those of eight neighbouring rows lie in different banks.
shared uvec4 octets[(1u + PLANES) * TILE * OCTETS_OF_STEP];
shared vec4 peaks[(1u + PLANES) * TILE]; // the largest magnitude of each octet of a row
shared float scales[(1u + PLANES) * TILE];

// Of a step, what one invocation carries: an octet of a row of x, and one of each plane.
struct share {
    float octet[3][8];
};

uint place_of(uint line, uint octet_at) {
    return line * OCTETS_OF_STEP + (octet_at ^ line / 2u % OCTETS_OF_STEP);
}

share load_share(uint first_row, uint rows, uint first_column, uint begin) {
    const uint at = gl_LocalInvocationID.x;
    const uint line = at / OCTETS_OF_STEP;
    const uint k = begin + at % OCTETS_OF_STEP * 8u;
    share made;
    const vec4 low = load_x(first_row + line, rows, k);
    const vec4 high = load_x(first_row + line, rows, k + 4u);
    made.octet[0] = float[8](low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w);
    [[unroll]] for (uint p = 0u; p < PLANES; p++) {
        const uint column = first_column + (MATRICES == 1u ? p * TILE : 0u) + line;
        load_w(MATRICES == 1u ? 0u : p, column, k, made.octet[1u + p]);
    }
    return made;
}

uint pack(float low, float high) {
    return packFloat2x16(f16vec2(low, high));
}

// Nobody needs the tiles of the step before when the first invocation passes the barrier.
void put_share(share held) {
    const uint at = gl_LocalInvocationID.x;
    const uint octet_at = at % OCTETS_OF_STEP;
    [[unroll]] for (uint m = 0u; m < 1u + PLANES; m++) {
        const float v[8] = held.octet[m];
        const vec4 pairs = max(abs(vec4(v[0], v[1], v[2], v[3])), abs(vec4(v[4], v[5], v[6], v[7])));
        peaks[m * TILE + at / OCTETS_OF_STEP][octet_at] =
            max(max(pairs.x, pairs.y), max(pairs.z, pairs.w));
    }
    barrier();
    [[unroll]] for (uint m = 0u; m < 1u + PLANES; m++) {
        const uint line = m * TILE + at / OCTETS_OF_STEP;
        const vec4 peak = peaks[line];
        const float largest = max(max(peak.x, peak.y), max(peak.z, peak.w));
        const uint scale = min(floatBitsToUint(largest) & EXPONENT, EXPONENT_MOST);
        const float inverse = uintBitsToFloat((254u << 23) - scale);
        float v[8] = held.octet[m];
        [[unroll]] for (uint i = 0u; i < 8u; i++) {
            v[i] *= inverse;
        }
        octets[place_of(line, octet_at)] =
            uvec4(pack(v[0], v[1]), pack(v[2], v[3]), pack(v[4], v[5]), pack(v[6], v[7]));
        if (octet_at == 0u) {
            scales[line] = uintBitsToFloat(scale);
        }
    }
}

f16vec2 add_products(uvec4 a, uvec4 b, f16vec2 sum) {
    sum = fma(unpackFloat2x16(a.x), unpackFloat2x16(b.x), sum);
    sum = fma(unpackFloat2x16(a.y), unpackFloat2x16(b.y), sum);
    sum = fma(unpackFloat2x16(a.z), unpackFloat2x16(b.z), sum);
    return fma(unpackFloat2x16(a.w), unpackFloat2x16(b.w), sum);
}

// Component j of sums[p][i] is row i and column j of plane p.
void multiply(uvec2 corner, inout vec4 sums[PLANES][4]) {
    f16vec2 parts[4u * PLANES][4];
    [[unroll]] for (uint j = 0u; j < 4u * PLANES; j++) {
        [[unroll]] for (uint i = 0u; i < 4u; i++) {
            parts[j][i] = f16vec2(0.0);
        }
    }
    [[dont_unroll]] for (uint o = 0u; o < OCTETS_OF_STEP; o++) {
        uvec4 a[4];
        [[unroll]] for (uint i = 0u; i < 4u; i++) {
            a[i] = octets[place_of(corner.x + i * EDGE, o)];
        }
        [[unroll]] for (uint j = 0u; j < 4u * PLANES; j++) {
            const uvec4 b = octets[place_of(TILE + corner.y + j * EDGE, o)];
            [[unroll]] for (uint i = 0u; i < 4u; i++) {
                parts[j][i] = add_products(a[i], b, parts[j][i]);
            }
        }
    }
    float row_scales[4];
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
        row_scales[i] = scales[corner.x + i * EDGE];
    }
    [[unroll]] for (uint j = 0u; j < 4u * PLANES; j++) {
        const float scale = scales[TILE + corner.y + j * EDGE];
        [[unroll]] for (uint i = 0u; i < 4u; i++) {
            const vec2 part = vec2(parts[j][i]);
            sums[j / 4u][i][j % 4u] += (part.x + part.y) * row_scales[i] * scale;
        }
    }
}

// Called when a step is multiplied: put_share waits before it replaces the tiles.
void free_tiles() {
}

#include "tile_main.glsl"
