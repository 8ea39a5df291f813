// Sums of products with few rows of x that all invocations of a workgroup have shares of: they are
// added up and stored, ROUND at a time.
#ifndef FEW_SUMS_GLSL
#define FEW_SUMS_GLSL

#define ROUND 8u // sums that are added up together

const uint LANES = SIZE / ROUND;
const uint TURNS = (SUMS + ROUND - 1u) / ROUND; // in which they are added up

shared float shares[ROUND][SIZE];
shared float partial[ROUND][LANES];

// Of the squares of x, added up beside the first sums.
shared float square_shares[ROWS][FACTORS == FACTORS_NONE ? 1u : SIZE];
shared float square_partial[ROWS][FACTORS == FACTORS_NONE ? 1u : LANES];

uint first_slot() {
    return (gl_WorkGroupID.x + gl_WorkGroupID.y * gl_NumWorkGroups.x) * COLUMNS;
}

uint row_at(uint m, uint c) {
    return row_of(m, first_slot() + c);
}

// The row of x and the slot that an invocation stores in a turn; false for none.
bool stores(uint turn, out uint row, out uint slot) {
    const uint begins_at = gl_LocalInvocationID.x * MATRICES;
    const uint element = (turn * ROUND + begins_at) / MATRICES;
    row = element / COLUMNS;
    slot = first_slot() + element % COLUMNS;
    return begins_at < ROUND && turn * ROUND + begins_at < SUMS && row < row_count() &&
           slot < push.columns;
}

// Read first, since it arrives while the product is computed. y may lie on what is added: only what
// an invocation has read itself is written.
void load_endings(out ending endings[TURNS]) {
    [[unroll]] for (uint turn = 0u; turn < TURNS; turn++) {
        uint row = 0u;
        uint slot = 0u;
        endings[turn] = ending(0u, 0.0, 1.0, vec2(0.0), 0u);
        if (stores(turn, row, slot)) {
            endings[turn] = ending_of(row, slot);
        }
    }
}

float total_of(uint at) {
    float total = 0.0;
    for (uint i = 0u; i < LANES; i++) {
        total += partial[at][i];
    }
    return total;
}

// The number that the sums of a row are multiplied by; `square_partial` is complete.
float scale_of(uint row) {
    if (FACTORS == FACTORS_NONE) {
        return 1.0;
    }
    precise float total = 0.0;
    for (uint i = 0u; i < LANES; i++) {
        total += square_partial[row][i];
    }
    return scale_of_squares(total);
}

void share_squares(float squares[ROWS]) {
    [[unroll]] for (uint row = 0u; row < ROWS; row++) {
        square_shares[row][gl_LocalInvocationID.x] = squares[row];
    }
}

void add_squares() {
    const uint at = gl_LocalInvocationID.x;
    [[unroll]] for (uint row = 0u; row < ROWS; row++) {
        if (at / LANES == row) { // there are at least as many lanes eight times as rows
            float sum = 0.0;
            [[unroll]] for (uint i = 0u; i < ROUND; i++) {
                sum += square_shares[row][at % LANES + i * LANES];
            }
            square_partial[row][at % LANES] = sum;
        }
    }
}

// `squares` are the shares of the sums of the squares of x.
void add_and_store(float sums[SUMS], float squares[ROWS], ending endings[TURNS]) {
    const uint at = gl_LocalInvocationID.x;
    [[unroll]] for (uint turn = 0u; turn < TURNS; turn++) {
        const uint begin = turn * ROUND;
        [[unroll]] for (uint i = 0u; i < ROUND; i++) {
            if (begin + i < SUMS) {
                shares[i][at] = sums[begin + i];
            }
        }
        if (FACTORS != FACTORS_NONE && turn == 0u) {
            share_squares(squares);
        }
        barrier();
        if (begin + at / LANES < SUMS) {
            float sum = 0.0;
            [[unroll]] for (uint i = 0u; i < ROUND; i++) {
                sum += shares[at / LANES][at % LANES + i * LANES];
            }
            partial[at / LANES][at % LANES] = sum;
        }
        if (FACTORS != FACTORS_NONE && turn == 0u) {
            add_squares();
        }
        barrier();
        uint row = 0u;
        uint slot = 0u;
        if (stores(turn, row, slot)) {
            const uint sum_at = at * MATRICES;
            const bool has_other = MATRICES == 2u || ROTATION != ROTATION_NONE;
            const float scale = scale_of(row);
            store(row, slot, total_of(sum_at) * scale,
                  has_other ? total_of(sum_at ^ 1u) * scale : 0.0, endings[turn]);
        }
    }
}

#endif
