// Products of units of 32 elements: an invocation takes units of all columns of the workgroup at once.
// x goes through shared memory, whose quads are padded so that neighbours read from different banks.
// What is read of the weights is under way while x is brought and while other columns are computed.
#ifndef UNIT_PRODUCTS_GLSL
#define UNIT_PRODUCTS_GLSL

#define QUADS_OF_UNIT 8u
#define PITCH 9u

layout(constant_id = 9) const uint TOGETHER = 1u; // columns whose reads are under way; a divisor

const uint READS = TOGETHER * MATRICES;

shared vec4 staged[SIZE * PITCH];

#ifdef DOTS
#define unit_x rounded_x
#else
struct unit_x {
    vec4 quads[QUADS_OF_UNIT];
};
#endif

// The elements of x that the units of this round need, of one row; with factors also their squares.
void stage(uint row, uint base, inout float squares[ROWS]) {
    const uint from = (push.offset[0] + row * push.stride[0]) / 4u + base * QUADS_OF_UNIT;
    const uint count = push.width / 4u - base * QUADS_OF_UNIT;
    barrier(); // what was staged before is read
    [[unroll]] for (uint j = 0u; j < QUADS_OF_UNIT; j++) {
        const uint i = gl_LocalInvocationID.x + j * SIZE;
        vec4 four = i < count ? x4[from + i] : vec4(0.0);
        if (FACTORS != FACTORS_NONE) {
            squares[row] += dot(four, four);
            four *= i < count ? factors_of(base * QUADS_OF_UNIT + i) : vec4(0.0);
        }
        staged[i / QUADS_OF_UNIT * PITCH + i % QUADS_OF_UNIT] = four;
    }
    barrier();
}

unit_x take_x() {
    vec4 quads[QUADS_OF_UNIT];
    [[unroll]] for (uint i = 0u; i < QUADS_OF_UNIT; i++) {
        quads[i] = staged[gl_LocalInvocationID.x * PITCH + i];
    }
#ifdef DOTS
    return round_x(quads);
#else
    return unit_x(quads);
#endif
}

float dot_x(uint m, uint raw[RAW_MAX], uint unit, unit_x left) {
#ifdef DOTS
    return dot_rounded(m, raw, unit, left);
#else
    return dot_unit(m, raw, unit, left.quads);
#endif
}

void load_columns(uint begin, uint unit, out uint raw[READS][RAW_MAX]) {
    [[unroll]] for (uint i = 0u; i < READS; i++) {
        load_unit(i % MATRICES, row_at(i % MATRICES, begin + i / MATRICES), unit, raw[i]);
    }
}

// The dot products of one row of x with a unit of every column.
void add_units(uint row, uint base, inout float sums[SUMS], inout float squares[ROWS]) {
    const uint units = push.width / UNIT;
    const uint unit = min(base + gl_LocalInvocationID.x, units - 1u);
    const bool inside = base + gl_LocalInvocationID.x < units;
    uint raw[READS][RAW_MAX];
    uint next[READS][RAW_MAX];
    load_columns(0u, unit, raw);
    stage(row, base, squares);
    const unit_x left = take_x();
    [[unroll]] for (uint begin = 0u; begin < COLUMNS; begin += TOGETHER) {
        if (begin + TOGETHER < COLUMNS) {
            load_columns(begin + TOGETHER, unit, next);
        }
        [[unroll]] for (uint i = 0u; i < READS; i++) {
            const float sum = dot_x(i % MATRICES, raw[i], unit, left);
            sums[sum_of(row, begin + i / MATRICES, i % MATRICES)] += inside ? sum : 0.0;
            if (begin + TOGETHER < COLUMNS) {
                [[unroll]] for (uint j = 0u; j < RAW_MAX; j++) {
                    raw[i][j] = next[i][j];
                }
            }
        }
    }
}

void main() {
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
    for (uint base = 0u; base < push.width / UNIT; base += SIZE) {
        [[unroll]] for (uint row = 0u; row < ROWS; row++) {
            add_units(row, base, sums, squares);
        }
    }
    add_and_store(sums, squares, endings);
}

#endif
