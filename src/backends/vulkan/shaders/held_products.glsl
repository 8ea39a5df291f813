// Products of units of 32 elements with one row of x that a workgroup keeps in 8 bits: it is
// brought, normalised and rounded once, and then the workgroup takes one group of columns after the
// other.
//
// Teams of invocations have columns of their own, and their members units of these. What is read of
// the weights is under way one unit ahead, across the borders of groups, and while x is rounded.
#ifndef HELD_PRODUCTS_GLSL
#define HELD_PRODUCTS_GLSL

#define TEAM 32u         // members; a divisor of SIZE
#define QUADS_OF_UNIT 8u // of x
#define QUADS_MAX 8u     // of x that an invocation brings at once
#define HELD 3u          // quads of words of a unit: 8 of bytes, the scale, two totals, one unused

layout(constant_id = 9) const uint UNITS = 1u; // of x

const uint TEAMS = SIZE / TEAM;
const uint GROUP = TEAMS * COLUMNS; // columns
const uint READS = COLUMNS * MATRICES;
const uint STEPS = (UNITS + TEAM - 1u) / TEAM;
const uint X_QUADS = UNITS * QUADS_OF_UNIT;
const uint QUADS_EACH = (X_QUADS + SIZE - 1u) / SIZE;
const uint BROUGHT = QUADS_EACH < QUADS_MAX ? QUADS_EACH : QUADS_MAX;

// The shares of a sum lie together, padded so that neighbouring sums begin in different banks. They
// alternate between two halves: one is added up while the other is written. Before, the first half
// has the largest magnitudes of quads, and the second one squares.
const uint PITCH = TEAM / 4u + 1u;
const uint SHARES = TEAMS * SUMS * PITCH;
const uint MAGNITUDES = BROUGHT * SIZE / 4u;
const uint HALF = SHARES > MAGNITUDES ? SHARES : MAGNITUDES;
const uint PARTS = FACTORS == FACTORS_NONE ? 1u : TEAMS; // of the sum of the squares

shared uvec4 held[UNITS * HELD];
shared uvec4 scratch[2u * HALF];
shared float square_parts[PARTS];

uint team() {
    return gl_LocalInvocationID.x / TEAM;
}

uint member() {
    return gl_LocalInvocationID.x % TEAM;
}

// Quads of x, and their factors.
struct piece {
    vec4 quads[QUADS_MAX];
    vec4 factors[QUADS_MAX];
};

void bring(uint begin, out piece x) {
    [[unroll]] for (uint j = 0u; j < BROUGHT; j++) {
        const uint quad = begin + j * SIZE + gl_LocalInvocationID.x;
        x.quads[j] = quad < X_QUADS ? x4[push.offset[0] / 4u + quad] : vec4(0.0);
        if (FACTORS != FACTORS_NONE) {
            x.factors[j] = quad < X_QUADS ? factors_of(quad) : vec4(0.0);
        }
    }
}

// Rounds quads from `begin` on. Eight invocations have a unit: they tell each other their largest
// magnitudes.
void hold_piece(uint begin, piece x, inout float squares) {
    vec4 quads[QUADS_MAX];
    [[unroll]] for (uint j = 0u; j < BROUGHT; j++) {
        const uint at = j * SIZE + gl_LocalInvocationID.x;
        quads[j] = x.quads[j];
        if (FACTORS != FACTORS_NONE) {
            squares += dot(quads[j], quads[j]);
            quads[j] *= x.factors[j];
        }
        scratch[at / 4u][at % 4u] = most_of(quads[j]);
    }
    barrier();
    [[unroll]] for (uint j = 0u; j < BROUGHT; j++) {
        const uint at = j * SIZE + gl_LocalInvocationID.x;
        const uvec4 most4 = max(scratch[at / 8u * 2u], scratch[at / 8u * 2u + 1u]);
        const uint most = max(max(most4.x, most4.y), max(most4.z, most4.w));
        const uint quad = begin + at;
        if (quad < X_QUADS) {
            const uint place = quad / QUADS_OF_UNIT * HELD;
            const uint eighth = quad % QUADS_OF_UNIT;
            held[place + eighth / 4u][eighth % 4u] = uint(round_quad(quads[j], inverse_of(most)));
            if (eighth == 0u) {
                held[place + 2u].x = floatBitsToUint(scale_of_most(most));
            }
        }
    }
    barrier();
}

void find_totals() {
    for (uint unit = gl_LocalInvocationID.x; unit < UNITS; unit += SIZE) {
        const uvec4 low = held[unit * HELD];
        const uvec4 high = held[unit * HELD + 1u];
        ivec2 sums = ivec2(0);
        [[unroll]] for (uint i = 0u; i < 4u; i++) {
            sums.x += dot_bytes(int(low[i]), 0x01010101, 0);
            sums.y += dot_bytes(int(high[i]), 0x01010101, 0);
        }
        const float scale = uintBitsToFloat(held[unit * HELD + 2u].x);
        held[unit * HELD + 2u].yz = floatBitsToUint(scale * vec2(sums));
    }
}

float sum_of_quads(uint begin) {
    vec4 sum = vec4(0.0);
    [[unroll]] for (uint i = 0u; i < TEAM / 4u; i++) {
        sum += uintBitsToFloat(scratch[begin + i]);
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}

// What is brought next is under way while a piece is rounded.
void hold_x(piece first) {
    const uint at = gl_LocalInvocationID.x;
    float squares = 0.0;
    piece x = first;
    [[unroll]] for (uint begin = 0u; begin < X_QUADS; begin += BROUGHT * SIZE) {
        piece next;
        if (begin + BROUGHT * SIZE < X_QUADS) {
            bring(begin + BROUGHT * SIZE, next);
        }
        hold_piece(begin, x, squares);
        x = next;
    }
    if (FACTORS != FACTORS_NONE) {
        scratch[HALF + at / 4u][at % 4u] = floatBitsToUint(squares);
    }
    find_totals();
    barrier();
    if (FACTORS != FACTORS_NONE && at < PARTS) {
        square_parts[at] = sum_of_quads(HALF + at * TEAM / 4u);
    }
}

// The number that the sums are multiplied by; `square_parts` is complete.
float scale_of_sums() {
    if (FACTORS == FACTORS_NONE) {
        return 1.0;
    }
    precise float total = 0.0;
    [[unroll]] for (uint i = 0u; i < PARTS; i++) {
        total += square_parts[i];
    }
    return scale_of_squares(total);
}

uint slot_at(uint group, uint c) {
    return group * GROUP + team() * COLUMNS + c;
}

// Whether an invocation stores a slot of a group, which is then the one of its number.
bool stores(uint group) {
    return member() < COLUMNS && slot_at(group, member()) < push.columns && row_count() > 0u;
}

// The unit of this member in a step; behind the last one that, which then counts nothing.
uint unit_of(uint step) {
    return min(step * TEAM + member(), UNITS - 1u);
}

void load_step(uint group, uint step, out uint raw[READS][RAW_MAX]) {
    [[unroll]] for (uint i = 0u; i < READS; i++) {
        const uint row = row_of(i % MATRICES, slot_at(group, i / MATRICES));
        load_unit(i % MATRICES, row, unit_of(step), raw[i]);
    }
}

rounded_x held_x(uint unit) {
    const uvec4 low = held[unit * HELD];
    const uvec4 high = held[unit * HELD + 1u];
    const vec4 rest = uintBitsToFloat(held[unit * HELD + 2u]);
    rounded_x x;
    x.bytes = int[8](int(low.x), int(low.y), int(low.z), int(low.w), int(high.x), int(high.y),
                     int(high.z), int(high.w));
    x.scale = rest.x;
    x.totals = rest.yz;
    return x;
}

void add_step(uint step, uint raw[READS][RAW_MAX], inout float sums[SUMS]) {
    const uint unit = unit_of(step);
    const bool counts = step * TEAM + member() < UNITS;
    const rounded_x x = held_x(unit);
    [[unroll]] for (uint i = 0u; i < READS; i++) {
        const float sum = dot_rounded(i % MATRICES, raw[i], unit, x);
        sums[i] += counts ? sum : 0.0;
    }
}

// `half_at` is where the shares of this group go.
void add_and_store(uint group, uint half_at, float sums[SUMS], ending with) {
    const uint team_at = half_at + team() * SUMS * PITCH;
    [[unroll]] for (uint i = 0u; i < SUMS; i++) {
        scratch[team_at + i * PITCH + member() / 4u][member() % 4u] = floatBitsToUint(sums[i]);
    }
    barrier();
    if (stores(group)) {
        const uint at = member() * MATRICES;
        const bool has_other = MATRICES == 2u || ROTATION != ROTATION_NONE;
        const float scale = scale_of_sums();
        store(0u, slot_at(group, member()), sum_of_quads(team_at + at * PITCH) * scale,
              has_other ? sum_of_quads(team_at + (at ^ 1u) * PITCH) * scale : 0.0, with);
    }
}

void main() {
    const uint groups = (push.columns + GROUP - 1u) / GROUP;
    uint raw[READS][RAW_MAX];
    uint half_at = 0u;
    piece x;
    bring(0u, x);
    load_step(gl_WorkGroupID.x, 0u, raw);
    hold_x(x);
    for (uint group = gl_WorkGroupID.x; group < groups; group += gl_NumWorkGroups.x) {
        const uint next = group + gl_NumWorkGroups.x;
        ending with = ending(0u, 0.0, 1.0, vec2(0.0), 0u);
        if (stores(group)) {
            with = ending_of(0u, slot_at(group, member()));
        }
        float sums[SUMS];
        [[unroll]] for (uint i = 0u; i < SUMS; i++) {
            sums[i] = 0.0;
        }
        for (uint step = 0u; step < STEPS; step++) {
            const bool ends = step + 1u == STEPS;
            add_step(step, raw, sums);
            if (!ends || next < groups) {
                load_step(ends ? next : group, ends ? 0u : step + 1u, raw);
            }
        }
        add_and_store(group, half_at, sums, with);
        half_at = half_at == 0u ? HALF : 0u;
    }
}

#endif
