#version 450
// y[i] = table[indices[i]]. A launch has a run of the rows of the table; whoever holds an index sees
// to its row, and the first launch reports an index outside the table.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#define WEIGHT_BINDING 1
#include "weights.glsl"

#define FIRST_ROW push.extra[0]  // of the table, in this launch
#define ROWS push.extra[1]       // of the table, in this launch
#define TABLE_ROWS push.extra[2] // of the whole table

layout(local_size_x = 64) in;

layout(set = 0, binding = 2, std430) readonly buffer Indices { int indices[]; };
layout(set = 0, binding = 3, std430) writeonly buffer Y { float y[]; };
// One more than the first row whose index is wrong, and that index.
layout(set = 0, binding = 4, std430) buffer Fault { uint fault_row; int fault_index; };

void main() {
    const uint rows = row_count();
    const uint k = gl_GlobalInvocationID.x * 8u;
    for (uint row = gl_WorkGroupID.y; row < rows; row += gl_NumWorkGroups.y) {
        const int index = indices[push.offset[1] + row];
        if (index < 0 || uint(index) >= TABLE_ROWS) {
            if (k == 0u && FIRST_ROW == 0u && atomicCompSwap(fault_row, 0u, row + 1u) == 0u) {
                fault_index = index;
            }
            continue;
        }
        if (uint(index) - FIRST_ROW >= ROWS || k >= push.width) {
            continue;
        }
        float v[8];
        load_weights_within(0u, push.offset[0] + (uint(index) - FIRST_ROW) * push.stride[0], k,
                            push.width, v);
        const uint to = push.offset[2] + row * push.stride[2] + k;
        for (uint i = 0u; i < 8u && k + i < push.width; i++) {
            y[to + i] = v[i];
        }
    }
}
