#version 450
// Causal attention with a running softmax (Milakov and Gimelshein 2018): one workgroup for a head of
// a row. Keys are taken in blocks. LANES invocations share a key or a row of values, neighbouring
// columns each, so that neighbours read neighbouring words; what they found is added in the order of
// the lanes. y may lie on q: the query is copied first.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common.glsl"

#define SIZE 256u
#define LANES 32u
#define TEAMS (SIZE / LANES) // keys that are looked at together

#define HEADS push.extra[0]
#define GROUP push.extra[1]    // query heads of a key head
#define HEAD_DIM push.extra[2]
#define SCALE push.extra[3]
#define POSITION push.extra[4] // its parameter

layout(local_size_x = SIZE) in;
layout(constant_id = 0) const uint SHARE = 4u; // columns of a lane: HEAD_DIM / LANES, rounded up
layout(constant_id = 1) const uint WHOLE = 0u; // HEAD_DIM / LANES leaves no rest
layout(constant_id = 2) const uint BLOCK = 64u; // keys of a block, at most SIZE

const uint TURNS = BLOCK / TEAMS;

layout(set = 0, binding = 1, std430) readonly buffer Q { float q[]; };
layout(set = 0, binding = 2, std430) readonly buffer Keys { float keys[]; };
layout(set = 0, binding = 3, std430) readonly buffer Values { float values[]; };
layout(set = 0, binding = 4, std430) writeonly buffer Y { float y[]; };

shared float found[BLOCK][LANES + 1u]; // by key and lane
shared vec4 weights[BLOCK / 4u];
shared float columns[TEAMS][SHARE * LANES];

bool has_column(uint column) {
    return WHOLE == 1u || column < HEAD_DIM;
}

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
        const uint from = push.offset[1] + (begin + min(key, count - 1u)) * push.stride[1] +
                          first_column + lane;
        float sum = 0.0;
        [[unroll]] for (uint j = 0u; j < SHARE; j++) {
            sum += has_column(lane + j * LANES) ? query[j] * keys[from + j * LANES] : 0.0;
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
        const uint from = push.offset[2] + (begin + min(key, count - 1u)) * push.stride[2] +
                          first_column + lane;
        const float weight = weights[key / 4u][key % 4u];
        [[unroll]] for (uint j = 0u; j < SHARE; j++) {
            sums[j] += has_column(lane + j * LANES) ? weight * values[from + j * LANES] : 0.0;
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
        const uint column = lane + j * LANES;
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
        columns[at / LANES][lane + j * LANES] = sums[j];
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
