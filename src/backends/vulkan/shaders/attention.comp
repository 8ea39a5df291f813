#version 450
// Causal attention with a running softmax (Milakov and Gimelshein 2018): one workgroup for a head of
// a row. Keys are taken in blocks. LANES invocations share a key or a row of values, neighbouring
// columns each, so that neighbours read neighbouring words; what they found is added in the order of
// the lanes. y may lie on q: the query is copied first. Keys and values are f32, or halves, which are
// read two at a time where all of them lie in pairs.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common.glsl"
#include "cache.glsl"

#define SIZE 256u
#define LANES 32u
#define TEAMS (SIZE / LANES) // keys that are looked at together

#define HEADS push.extra[0]
#define GROUP push.extra[1]    // query heads of a key head
#define HEAD_DIM push.extra[2]
#define SCALE push.extra[3]
#define POSITION push.extra[4] // its parameter

layout(local_size_x = SIZE) in;
layout(constant_id = 0) const uint SHARE = 4u; // columns of a lane, a multiple of STEP
layout(constant_id = 1) const uint WHOLE = 0u; // SHARE * LANES is HEAD_DIM
layout(constant_id = 2) const uint BLOCK = 64u; // keys of a block, at most SIZE
layout(constant_id = 3) const uint STEP = 1u;   // columns that are read at a time: 1, or 2 halves

const uint TURNS = BLOCK / TEAMS;

layout(set = 0, binding = 1, std430) readonly buffer Q { float q[]; };
layout(set = 0, binding = 2, std430) readonly buffer Keys { float keys[]; };
layout(set = 0, binding = 2, std430) readonly buffer Keys16 { uint16_t half_keys[]; };
layout(set = 0, binding = 2, std430) readonly buffer KeyPairs { uint key_pairs[]; };
layout(set = 0, binding = 3, std430) readonly buffer Values { float values[]; };
layout(set = 0, binding = 3, std430) readonly buffer Values16 { uint16_t half_values[]; };
layout(set = 0, binding = 3, std430) readonly buffer ValuePairs { uint value_pairs[]; };
layout(set = 0, binding = 4, std430) writeonly buffer Y { float y[]; };

shared float found[BLOCK][LANES + 1u]; // by key and lane
shared vec4 weights[BLOCK / 4u];
shared float columns[TEAMS][SHARE * LANES];

bool has_column(uint column) {
    return WHOLE == 1u || column < HEAD_DIM;
}

// Column j of those that a lane has.
uint column_of(uint lane, uint j) {
    return (j / STEP * LANES + lane) * STEP + j % STEP;
}

// Defines a function that reads the columns of a lane in a head of a row, which begins at `from`;
// those that are none are 0.
#define DEFINE_LOAD(name, numbers, halves, pairs)                                                  \
    void name(uint from, uint lane, out float v[SHARE]) {                                          \
        [[unroll]] for (uint j = 0u; j < SHARE; j += STEP) {                                       \
            const uint column = column_of(lane, j);                                                \
            if (!has_column(column)) {                                                             \
                v[j] = 0.0;                                                                        \
                v[j + STEP - 1u] = 0.0;                                                            \
            } else if (STEP == 2u) {                                                               \
                const uint pair = pairs[(from + column) / 2u];                                     \
                v[j] = from_half(pair & 0xFFFFu);                                                  \
                v[j + STEP - 1u] = from_half(pair >> 16);                                          \
            } else {                                                                               \
                v[j] = CACHE == CACHE_F32 ? numbers[from + column]                                 \
                                          : from_half(uint(halves[from + column]));                \
            }                                                                                      \
        }                                                                                          \
    }
DEFINE_LOAD(load_keys, keys, half_keys, key_pairs)
DEFINE_LOAD(load_values, values, half_values, value_pairs)

// The largest of the scores of a block and one number, and the sum of their weights.
float largest_of(float least) {
    vec4 largest = vec4(least);
    for (uint i = 0u; i < BLOCK / 4u; i++) {
        largest = max(largest, weights[i]);
    }
    return max(max(largest.x, largest.y), max(largest.z, largest.w));
}

float sum_of_weights() {
    vec4 sum = vec4(0.0);
    for (uint i = 0u; i < BLOCK / 4u; i++) {
        sum += weights[i];
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}

// Scores of keys [begin, begin + count) to `weights`, the others as good as minus infinity.
void score(float query[SHARE], uint begin, uint count, uint first_column) {
    const uint at = gl_LocalInvocationID.x;
    const uint lane = at % LANES;
    [[unroll]] for (uint i = 0u; i < TURNS; i++) {
        const uint key = at / LANES + i * TEAMS;
        const uint from =
            push.offset[1] + (begin + min(key, count - 1u)) * push.stride[1] + first_column;
        float columns_of_key[SHARE];
        load_keys(from, lane, columns_of_key);
        float sum = 0.0;
        [[unroll]] for (uint j = 0u; j < SHARE; j++) {
            sum += query[j] * columns_of_key[j];
        }
        found[key][lane] = sum;
    }
    barrier();
    if (at < BLOCK) {
        float sum = 0.0;
        [[unroll]] for (uint i = 0u; i < LANES; i++) {
            sum += found[at][i];
        }
        weights[at / 4u][at % 4u] = at < count ? sum * uintBitsToFloat(SCALE) : -3.0e38;
    }
    barrier();
}

// Adds the weighted values of the keys of this team.
void add_values(uint begin, uint count, uint first_column, float rescale, inout float sums[SHARE]) {
    const uint at = gl_LocalInvocationID.x;
    const uint lane = at % LANES;
    [[unroll]] for (uint j = 0u; j < SHARE; j++) {
        sums[j] *= rescale;
    }
    [[unroll]] for (uint i = 0u; i < TURNS; i++) {
        const uint key = at / LANES + i * TEAMS;
        const uint from =
            push.offset[2] + (begin + min(key, count - 1u)) * push.stride[2] + first_column;
        const float weight = weights[key / 4u][key % 4u];
        float columns_of_row[SHARE];
        load_values(from, lane, columns_of_row);
        [[unroll]] for (uint j = 0u; j < SHARE; j++) {
            sums[j] += weight * columns_of_row[j];
        }
    }
}

void attend(uint row, uint head) {
    const uint at = gl_LocalInvocationID.x;
    const uint lane = at % LANES;
    const uint first_column = head / GROUP * HEAD_DIM;
    const uint seen = params[POSITION] + row + 1u;
    float query[SHARE];
    float sums[SHARE];
    [[unroll]] for (uint j = 0u; j < SHARE; j++) {
        const uint column = column_of(lane, j);
        query[j] = has_column(column)
                       ? q[push.offset[0] + row * push.stride[0] + head * HEAD_DIM + column]
                       : 0.0;
        sums[j] = 0.0;
    }
    float largest = -3.0e38;
    float total = 0.0;
    for (uint begin = 0u; begin < seen; begin += BLOCK) {
        const uint count = min(BLOCK, seen - begin);
        score(query, begin, count, first_column);
        const float block_largest = largest_of(largest);
        barrier(); // the scores become weights
        if (at < BLOCK) {
            weights[at / 4u][at % 4u] =
                at < count ? exp_exact(weights[at / 4u][at % 4u] - block_largest) : 0.0;
        }
        barrier();
        const float rescale = exp_exact(largest - block_largest);
        total = total * rescale + sum_of_weights();
        largest = block_largest;
        add_values(begin, count, first_column, rescale, sums);
    }
    [[unroll]] for (uint j = 0u; j < SHARE; j++) {
        columns[at / LANES][column_of(lane, j)] = sums[j];
    }
    barrier();
    const uint to = push.offset[3] + row * push.stride[3] + head * HEAD_DIM;
    for (uint column = at; column < HEAD_DIM; column += SIZE) {
        float sum = 0.0;
        [[unroll]] for (uint i = 0u; i < TEAMS; i++) {
            sum += columns[i][column];
        }
        y[to + column] = sum / total;
    }
    barrier(); // the columns are replaced next
}

void main() {
    const uint units = row_count() * HEADS;
    for (uint unit = gl_WorkGroupID.x; unit < units; unit += gl_NumWorkGroups.x) {
        attend(unit / HEADS, unit % HEADS);
    }
}
