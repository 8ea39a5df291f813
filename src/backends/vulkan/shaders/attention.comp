#version 450
// Attention, one workgroup for a head of a row.
#extension GL_GOOGLE_include_directive : require
#include "attention.glsl"

void main() {
    const uint units = row_count() * HEADS;
    for (uint unit = gl_WorkGroupID.x; unit < units; unit += gl_NumWorkGroups.x) {
        attend(unit / HEADS, unit % HEADS, 0u);
    }
}
