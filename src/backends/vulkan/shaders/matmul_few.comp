#version 450
// y = x * transpose(w) for few rows of x and weights of any type, eight elements at a time: plain
// types, and blocks that begin on odd borders.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "few.glsl"

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

void add_eight(uint k, bool whole, inout float sums[SUMS]) {
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
    float addends[TURNS];
    load_addends(addends);
    float sums[SUMS];
    [[unroll]] for (uint i = 0u; i < SUMS; i++) {
        sums[i] = 0.0;
    }
    uint k = gl_LocalInvocationID.x * 8u;
    for (; k + (UNROLL - 1u) * step + 8u <= push.width; k += UNROLL * step) {
        [[unroll]] for (uint i = 0u; i < UNROLL; i++) {
            add_eight(k + i * step, true, sums);
        }
    }
    for (; k < push.width; k += step) {
        add_eight(k, false, sums);
    }
    add_and_store(sums, addends);
}
