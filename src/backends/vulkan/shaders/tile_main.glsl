// Goes through the tiles of a workgroup: what the next step needs is read while this one is
// multiplied. See tiles.glsl.
void main() {
    const uint rows = row_count();
    const uint first_column = gl_WorkGroupID.x * TILE_COLUMNS;
    for (uint first_row = gl_WorkGroupID.y * TILE; first_row < rows;
         first_row += gl_NumWorkGroups.y * TILE) {
        vec4 sums[PLANES][4];
        [[unroll]] for (uint i = 0u; i < 4u; i++) {
            [[unroll]] for (uint p = 0u; p < PLANES; p++) {
                sums[p][i] = vec4(0.0);
            }
        }
        share held = load_share(first_row, rows, first_column, 0u);
        for (uint begin = 0u; begin < push.width; begin += DEPTH) {
            put_share(held);
            barrier();
            if (begin + DEPTH < push.width) {
                held = load_share(first_row, rows, first_column, begin + DEPTH);
            }
            multiply(corner(), sums);
            free_tiles();
        }
        store_tile(uvec2(first_row, first_column) + corner(), rows, sums);
    }
}
