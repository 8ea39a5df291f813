#version 450
// Causal attention with a running softmax (Milakov and Gimelshein 2018): one workgroup for a head of
// a row. Keys are taken in blocks, one key for an invocation; then an invocation sums the values of
// its columns. y may lie on q: the query is copied first.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

#define SIZE 128u
#define HEAD_MAX 512u
#define SHARE (HEAD_MAX / SIZE)

#define HEADS push.extra[0]
#define GROUP push.extra[1]    // query heads of a key head
#define HEAD_DIM push.extra[2]
#define SCALE push.extra[3]
#define POSITION push.extra[4] // its parameter

layout(local_size_x = SIZE) in;

layout(set = 0, binding = 1, std430) readonly buffer Q { float q[]; };
layout(set = 0, binding = 2, std430) readonly buffer Keys { float keys[]; };
layout(set = 0, binding = 3, std430) readonly buffer Values { float values[]; };
layout(set = 0, binding = 4, std430) writeonly buffer Y { float y[]; };

shared float query[HEAD_MAX];
shared float weights[SIZE];
shared float scratch[SIZE];

float reduce(float mine, bool largest) {
    const uint at = gl_LocalInvocationID.x;
    scratch[at] = mine;
    barrier();
    for (uint step = SIZE / 2u; step > 0u; step /= 2u) {
        if (at < step) {
            const float other = scratch[at + step];
            scratch[at] = largest ? max(scratch[at], other) : scratch[at] + other;
        }
        barrier();
    }
    const float found = scratch[0];
    barrier();
    return found;
}

float score(uint key, uint column) {
    const uint from = push.offset[1] + key * push.stride[1] + column;
    float sum = 0.0;
    for (uint i = 0u; i < HEAD_DIM; i++) {
        sum += query[i] * keys[from + i];
    }
    return sum * uintBitsToFloat(SCALE);
}

void attend(uint row, uint head) {
    const uint at = gl_LocalInvocationID.x;
    const uint column = head / GROUP * HEAD_DIM;
    const uint seen = params[POSITION] + row + 1u;
    for (uint i = at; i < HEAD_DIM; i += SIZE) {
        query[i] = q[push.offset[0] + row * push.stride[0] + head * HEAD_DIM + i];
    }
    barrier();
    float sums[SHARE];
    for (uint i = 0u; i < SHARE; i++) {
        sums[i] = 0.0;
    }
    float largest = -3.0e38;
    float total = 0.0;
    for (uint begin = 0u; begin < seen; begin += SIZE) {
        const uint count = min(SIZE, seen - begin);
        const float mine = at < count ? score(begin + at, column) : -3.0e38;
        const float block_largest = max(largest, reduce(mine, true));
        const float rescale = exp_exact(largest - block_largest);
        weights[at] = at < count ? exp_exact(mine - block_largest) : 0.0;
        total = total * rescale + reduce(weights[at], false);
        largest = block_largest;
        for (uint i = 0u; i < SHARE; i++) {
            const uint element = at + i * SIZE;
            if (element < HEAD_DIM) {
                float sum = sums[i] * rescale;
                const uint from = push.offset[2] + begin * push.stride[2] + column + element;
                for (uint key = 0u; key < count; key++) {
                    sum += weights[key] * values[from + key * push.stride[2]];
                }
                sums[i] = sum;
            }
        }
        barrier(); // the weights are replaced next
    }
    const uint to = push.offset[3] + row * push.stride[3] + head * HEAD_DIM;
    for (uint i = 0u; i < SHARE; i++) {
        if (at + i * SIZE < HEAD_DIM) {
            y[to + at + i * SIZE] = sums[i] / total;
        }
    }
    barrier(); // the query is replaced next
}

void main() {
    const uint units = row_count() * HEADS;
    for (uint unit = gl_WorkGroupID.x; unit < units; unit += gl_NumWorkGroups.x) {
        attend(unit / HEADS, unit % HEADS);
    }
}
