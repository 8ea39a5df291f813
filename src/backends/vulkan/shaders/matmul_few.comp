#version 450
// y = x * transpose(w) for few rows of x and weights of any type, eight elements at a time: plain
// types, and blocks that begin on odd borders.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "few.glsl"
#include "few_sums.glsl"

layout(constant_id = 9) const uint UNROLL = 1u; // eights whose loads are under way together

void load_left(uint row, uint k, out float left[8]) {
    const uint from = push.offset[0] + row * push.stride[0] + k;
    if (QUADS == 1u && k + 8u <= push.width) {
        const vec4 low = x4[from / 4u];
        const vec4 high = x4[from / 4u + 1u];
        left = float[8](low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w);
    } else {
        for (uint i = 0u; i < 8u; i++) {
            left[i] = k + i < push.width ? x[from + i] : 0.0;
        }
    }
}

void load_factors(uint k, out float factors[8]) {
    if (FACTORS == FACTORS_QUADS && k + 8u <= push.width) {
        const vec4 low = factors_of(k / 4u);
        const vec4 high = factors_of(k / 4u + 1u);
        factors = float[8](low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w);
    } else {
        for (uint i = 0u; i < 8u; i++) {
            factors[i] = k + i < push.width ? factor_at(k + i) : 0.0;
        }
    }
}

void add_eight(uint k, bool whole, inout float sums[SUMS], inout float squares[ROWS]) {
    float factors[8];
    if (FACTORS != FACTORS_NONE) {
        load_factors(k, factors);
    }
    float v[COLUMNS * MATRICES][8];
    [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
        [[unroll]] for (uint m = 0u; m < MATRICES; m++) {
            if (whole) {
                load_weights(m, row_at(m, c), k, v[c * MATRICES + m]);
            } else {
                load_weights_within(m, row_at(m, c), k, push.width, v[c * MATRICES + m]);
            }
        }
    }
    [[unroll]] for (uint row = 0u; row < ROWS; row++) {
        float left[8];
        load_left(row, k, left);
        if (FACTORS != FACTORS_NONE) {
            [[unroll]] for (uint j = 0u; j < 8u; j++) {
                squares[row] += left[j] * left[j];
                left[j] *= factors[j];
            }
        }
        [[unroll]] for (uint i = 0u; i < COLUMNS * MATRICES; i++) {
            float sum = 0.0;
            [[unroll]] for (uint j = 0u; j < 8u; j++) {
                sum += left[j] * v[i][j];
            }
            sums[row * COLUMNS * MATRICES + i] += sum;
        }
    }
}

void main() {
    const uint step = SIZE * 8u;
    ending endings[TURNS];
    load_endings(endings);
    float sums[SUMS];
    [[unroll]] for (uint i = 0u; i < SUMS; i++) {
        sums[i] = 0.0;
    }
    float squares[ROWS];
    [[unroll]] for (uint row = 0u; row < ROWS; row++) {
        squares[row] = 0.0;
    }
    uint k = gl_LocalInvocationID.x * 8u;
    for (; k + (UNROLL - 1u) * step + 8u <= push.width; k += UNROLL * step) {
        [[unroll]] for (uint i = 0u; i < UNROLL; i++) {
            add_eight(k + i * step, true, sums, squares);
        }
    }
    for (; k < push.width; k += step) {
        add_eight(k, false, sums, squares);
    }
    add_and_store(sums, squares, endings);
}
