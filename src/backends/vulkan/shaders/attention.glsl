// Causal attention with a running softmax (Milakov and Gimelshein 2018): one workgroup for a head of
// a row, or for a part of its keys. Keys are taken in blocks. LANES invocations share a key or a row
// of values, neighbouring columns each, so that neighbours read neighbouring words; what they found
// is added in the order of the lanes. y may lie on q: the query is copied first. Keys and values are
// f32, or halves, which are read two at a time where all of them lie in pairs.
#ifndef ATTENTION_GLSL
#define ATTENTION_GLSL

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

#ifdef SPLIT
layout(constant_id = 5) const uint SPLITS = 2u; // parts at most

// Of each part of a head of a row: the weighted values, the largest score, and the sum of weights.
#define PART_FLOATS (HEAD_DIM + 2u)
layout(set = 0, binding = 5, std430) coherent buffer Parts { float parts[]; };
layout(set = 0, binding = 6, std430) coherent buffer Arrived { uint arrived[]; }; // 0 between passes

shared uint arrival;
#endif

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

// What the teams found, in their order.
float sum_of_column(uint column) {
    float sum = 0.0;
    [[unroll]] for (uint i = 0u; i < TEAMS; i++) {
        sum += columns[i][column];
    }
    return sum;
}

#ifdef SPLIT
// Adds up the parts of a head of a row, in their order.
void merge(uint first, uint count, uint to) {
    float largest = -3.0e38;
    for (uint i = 0u; i < count; i++) {
        largest = max(largest, parts[first + i * PART_FLOATS + HEAD_DIM]);
    }
    float total = 0.0;
    for (uint i = 0u; i < count; i++) {
        const uint part = first + i * PART_FLOATS;
        total += parts[part + HEAD_DIM + 1u] * exp_exact(parts[part + HEAD_DIM] - largest);
    }
    for (uint column = gl_LocalInvocationID.x; column < HEAD_DIM; column += SIZE) {
        float sum = 0.0;
        for (uint i = 0u; i < count; i++) {
            const uint part = first + i * PART_FLOATS;
            sum += parts[part + column] * exp_exact(parts[part + HEAD_DIM] - largest);
        }
        y[to + column] = sum / total;
    }
}

// Stores part `split` of `count` and merges them all where it is the last to arrive. Which one that
// is does not change a bit.
void finish_part(uint unit, uint split, uint count, float largest, float total, uint to) {
    const uint at = gl_LocalInvocationID.x;
    const uint first = push.offset[4] + unit * SPLITS * PART_FLOATS;
    const uint part = first + split * PART_FLOATS;
    for (uint column = at; column < HEAD_DIM; column += SIZE) {
        parts[part + column] = sum_of_column(column);
    }
    if (at == 0u) {
        parts[part + HEAD_DIM] = largest;
        parts[part + HEAD_DIM + 1u] = total;
    }
    memoryBarrierBuffer();
    barrier();
    if (at == 0u) {
        memoryBarrierBuffer(); // what all have stored comes before the arrival,
        arrival = atomicAdd(arrived[unit], 1u);
        memoryBarrierBuffer(); // and after it what others have
    }
    barrier();
    if (arrival + 1u == count) {
        memoryBarrierBuffer();
        merge(first, count, to);
        if (at == 0u) {
            arrived[unit] = 0u; // for the next pass
        }
    }
}
#endif

// Of head `head` of row `row` the part `split`, all of it where there are no parts.
void attend(uint row, uint head, uint split) {
    const uint at = gl_LocalInvocationID.x;
    const uint lane = at % LANES;
    const uint first_column = head / GROUP * HEAD_DIM;
    const uint seen = params[POSITION] + row + 1u;
    uint first_key = 0u;
    uint end = seen;
#ifdef SPLIT
    const uint blocks = (seen + BLOCK - 1u) / BLOCK;
    const uint part_blocks = (blocks + SPLITS - 1u) / SPLITS;
    const uint count_of_parts = (blocks + part_blocks - 1u) / part_blocks;
    if (split >= count_of_parts) {
        return;
    }
    first_key = split * part_blocks * BLOCK;
    end = min(seen, first_key + part_blocks * BLOCK);
#endif
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
    for (uint begin = first_key; begin < end; begin += BLOCK) {
        const uint count = min(BLOCK, end - begin);
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
#ifdef SPLIT
    if (count_of_parts > 1u) {
        finish_part(row * HEADS + head, split, count_of_parts, largest, total, to);
        barrier(); // the columns are replaced next
        return;
    }
#endif
    for (uint column = at; column < HEAD_DIM; column += SIZE) {
        y[to + column] = sum_of_column(column) / total;
    }
    barrier(); // the columns are replaced next
}

#endif
