#version 450
// Attention of few rows to many keys: the keys of a head of a row are cut into parts (Dao et al. 2023,
// Flash-Decoding), a workgroup for each. The last one to arrive merges them.
#extension GL_GOOGLE_include_directive : require
#define SPLIT
#include "attention.glsl"

void main() {
    const uint units = row_count() * HEADS * SPLITS;
    for (uint unit = gl_WorkGroupID.x; unit < units; unit += gl_NumWorkGroups.x) {
        attend(unit / SPLITS / HEADS, unit / SPLITS % HEADS, unit % SPLITS);
    }
}
