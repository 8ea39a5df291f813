#version 450
// y = x * transpose(w) for many rows of x: a workgroup computes a tile of y from tiles of x and of
// decoded w in shared memory. What the next step needs is read while this one is multiplied. An
// element of y is summed in rising order of k.
//
// With a second matrix y = silu(x * transpose(w)) * (x * transpose(up)).
#extension GL_GOOGLE_include_directive : require
#include "tiles.glsl"

#define QUADS_OF_STEP (DEPTH / 4u)
#define X_SHARES (TILE * QUADS_OF_STEP / SIZE)

// Of a step, the rows of x and those of the matrices. The quads of a row change places (place_of),
// so that those of eight neighbouring rows lie in different banks.
shared vec4 left[TILE * QUADS_OF_STEP];
shared vec4 right[PLANES * TILE * QUADS_OF_STEP];

// Of a step, what one invocation carries: neighbours read what lies side by side.
struct share {
    vec4 x[X_SHARES];
    float w[2][8]; // of each plane
};

uint place_of(uint line, uint quad_at) {
    return line * QUADS_OF_STEP + (quad_at ^ line % QUADS_OF_STEP);
}

share load_share(uint first_row, uint rows, uint first_column, uint begin) {
    const uint at = gl_LocalInvocationID.x;
    share made;
    [[unroll]] for (uint s = 0u; s < X_SHARES; s++) {
        const uint i = at + s * SIZE;
        made.x[s] = load_x(first_row + i / QUADS_OF_STEP, rows, begin + i % QUADS_OF_STEP * 4u);
    }
    [[unroll]] for (uint p = 0u; p < PLANES; p++) {
        const uint column = first_column + (MATRICES == 1u ? p * TILE : 0u) + at / OCTETS_OF_STEP;
        load_w(MATRICES == 1u ? 0u : p, column, begin + at % OCTETS_OF_STEP * 8u, made.w[p]);
    }
    return made;
}

void put_share(share held) {
    const uint at = gl_LocalInvocationID.x;
    [[unroll]] for (uint s = 0u; s < X_SHARES; s++) {
        const uint i = at + s * SIZE;
        left[place_of(i / QUADS_OF_STEP, i % QUADS_OF_STEP)] = held.x[s];
    }
    [[unroll]] for (uint p = 0u; p < PLANES; p++) {
        const uint line = p * TILE + at / OCTETS_OF_STEP;
        const uint quad_at = at % OCTETS_OF_STEP * 2u;
        const float w[8] = held.w[p];
        right[place_of(line, quad_at)] = vec4(w[0], w[1], w[2], w[3]);
        right[place_of(line, quad_at + 1u)] = vec4(w[4], w[5], w[6], w[7]);
    }
}

// Component j of sums[p][i] is row i and column j of plane p.
void multiply(uvec2 corner, inout vec4 sums[PLANES][4]) {
    [[dont_unroll]] for (uint q = 0u; q < QUADS_OF_STEP; q++) {
        vec4 a[4];
        [[unroll]] for (uint i = 0u; i < 4u; i++) {
            a[i] = left[place_of(corner.x + i * EDGE, q)];
        }
        [[unroll]] for (uint j = 0u; j < 4u * PLANES; j++) {
            const vec4 b = right[place_of(corner.y + j * EDGE, q)];
            [[unroll]] for (uint i = 0u; i < 4u; i++) {
                float sum = sums[j / 4u][i][j % 4u];
                sum += a[i].x * b.x;
                sum += a[i].y * b.y;
                sum += a[i].z * b.z;
                sum += a[i].w * b.w;
                sums[j / 4u][i][j % 4u] = sum;
            }
        }
    }
}

// Called when a step is multiplied: the tiles are replaced next.
void free_tiles() {
    barrier();
}

#include "tile_main.glsl"
