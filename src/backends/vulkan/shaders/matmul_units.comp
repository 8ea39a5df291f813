#version 450
// y = x * transpose(w) for few rows of x and weights in blocks: an invocation takes units of 32
// elements, of all columns of the workgroup at once. x goes through shared memory, whose quads are
// padded so that neighbours read from different banks.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "few.glsl"
#include "units.glsl"

#define QUADS_OF_UNIT 8u
#define PITCH 9u

layout(constant_id = 9) const uint TOGETHER = 1u; // columns whose reads are under way; a divisor

shared vec4 staged[SIZE * PITCH];

// The elements of x that the units of this round need, of one row.
void stage(uint row, uint base) {
    const uint from = (push.offset[0] + row * push.stride[0]) / 4u + base * QUADS_OF_UNIT;
    const uint count = push.width / 4u - base * QUADS_OF_UNIT;
    [[unroll]] for (uint j = 0u; j < QUADS_OF_UNIT; j++) {
        const uint i = gl_LocalInvocationID.x + j * SIZE;
        staged[i / QUADS_OF_UNIT * PITCH + i % QUADS_OF_UNIT] = i < count ? x4[from + i] : vec4(0.0);
    }
}

// The dot products of one row of x with the unit of every column, a few columns at a time: the reads
// of the next ones may begin before these are used.
void add_units(uint row, uint unit, bool inside, vec4 left[QUADS_OF_UNIT], inout float sums[SUMS]) {
    [[unroll]] for (uint begin = 0u; begin < COLUMNS; begin += TOGETHER) {
        uint raw[TOGETHER * MATRICES][RAW_MAX];
        [[unroll]] for (uint c = 0u; c < TOGETHER; c++) {
            [[unroll]] for (uint m = 0u; m < MATRICES; m++) {
                load_unit(m, row_at(m, begin + c), unit, raw[c * MATRICES + m]);
            }
        }
        [[unroll]] for (uint c = 0u; c < TOGETHER; c++) {
            [[unroll]] for (uint m = 0u; m < MATRICES; m++) {
                const float sum = dot_unit(m, raw[c * MATRICES + m], unit, left);
                sums[sum_of(row, begin + c, m)] += inside ? sum : 0.0;
            }
        }
    }
}

void main() {
    const uint at = gl_LocalInvocationID.x;
    const uint units = push.width / UNIT;
    float addends[TURNS];
    load_addends(addends);
    float sums[SUMS];
    [[unroll]] for (uint i = 0u; i < SUMS; i++) {
        sums[i] = 0.0;
    }
    for (uint base = 0u; base < units; base += SIZE) {
        [[unroll]] for (uint row = 0u; row < ROWS; row++) {
            vec4 left[QUADS_OF_UNIT];
            barrier(); // what was staged before is read
            stage(row, base);
            barrier();
            [[unroll]] for (uint i = 0u; i < QUADS_OF_UNIT; i++) {
                left[i] = staged[at * PITCH + i];
            }
            add_units(row, min(base + at, units - 1u), base + at < units, left, sums);
        }
    }
    add_and_store(sums, addends);
}
