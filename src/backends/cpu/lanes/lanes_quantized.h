// Products with quantised weights: part of lanes_products.h.
#include "backends/cpu/lanes/lanes_unpack.h"
#include "backends/cpu/products/products.h"

#define ROWS 4 // of x, summed side by side in registers

static void quantize(const float* x, int64_t count, cpu_chunk* chunk) {
    float copy[CPU_CHUNK];
    if (count < CPU_CHUNK) {
        memset(copy, 0, sizeof copy);
        memcpy(copy, x, (size_t)count * sizeof *x);
        x = copy;
    }
    for (int g = 0; g < PARTS; g++) {
        lanes_floats part[4];
        for (int i = 0; i < 4; i++) {
            part[i] = lanes_load_floats(x + 32 * g + 8 * i);
        }
        const lanes_floats low = lanes_larger_magnitude(part[0], part[1]);
        const lanes_floats high = lanes_larger_magnitude(part[2], part[3]);
        const float largest = lanes_largest(lanes_larger_magnitude(low, high));
        const float d = largest / 127.0f;
        const lanes_floats inverse = lanes_float(largest > 0.0f ? 127.0f / largest : 0.0f);
        for (int i = 0; i < 4; i++) {
            part[i] = lanes_mul(part[i], inverse);
        }
        lanes_store_quants(part, chunk->q + 32 * g);
        const lanes_part sums =
            lanes_part_add(lanes_part_zero(), lanes_set(1), lanes_load(chunk->q + 32 * g), false);
        lanes_add_fours(lanes_part_finish(lanes_int(0), sums), chunk->sum + 2 * g);
        for (int i = 0; i < 2; i++) {
            chunk->d[2 * g + i] = d;
            chunk->d_sum[2 * g + i] = d * (float)chunk->sum[2 * g + i];
        }
    }
}

// What the compiler knows of a type where the functions below are expanded for it.
typedef struct traits {
    lanes_bytes (*bytes)(const uint8_t* blocks, int part);
    void (*scales)(const uint8_t* blocks, chunk_scales* scales);
    uint32_t block_elements;
    uint32_t block_bytes;
    int bits; // unsigned bytes have; 8: signed ones
    bool has_minimum;
    bool groups_of_16; // scales differ every 16 elements; else every 32
    int32_t offset;
} traits;

LANES_INLINE lanes_part multiply_bytes(traits type, lanes_part part, lanes_bytes u, lanes_bytes q) {
    return lanes_part_add(part, u, q, type.bits == 8);
}

// The blocks of a chunk. The last chunk of a row of 32-element blocks may be short: it is copied,
// and zeros fill it up. What stands there meets zeros of x.
LANES_INLINE const uint8_t* find_chunk(traits type, const uint8_t* row, int64_t chunk,
                                       int64_t elements, uint8_t copy[2 * CPU_CHUNK]) {
    const uint8_t* source =
        row + chunk * (int64_t)(CPU_CHUNK / type.block_elements * type.block_bytes);
    const int64_t left = elements - chunk * CPU_CHUNK;
    if (left >= CPU_CHUNK) {
        return source;
    }
    memset(copy, 0, 2 * CPU_CHUNK);
    memcpy(copy, source, (size_t)(left / type.block_elements * type.block_bytes));
    return copy;
}

// What is taken off for each unit of d * sum(q). A type has a minimum, or an offset that counts as
// one of offset * scale.
LANES_INLINE lanes_floats floor_of(traits type, const chunk_scales* scales, int half) {
    return type.has_minimum ? scales->minimum[half]
                            : lanes_mul(scales->scale[half], lanes_float((float)type.offset));
}

// Begins with what depends on the scales alone: scale * d for each group.
LANES_INLINE lanes_floats begin_chunk(traits type, const chunk_scales* scales, const cpu_chunk* x,
                                      float factors[CPU_GROUPS], lanes_floats sum) {
    for (int h = 0; h < 2; h++) {
        lanes_store_floats(factors + 8 * h,
                           lanes_mul(scales->scale[h], lanes_load_floats(x->d + 8 * h)));
        if (type.has_minimum || type.offset != 0) {
            sum = lanes_fnma(floor_of(type, scales, h), lanes_load_floats(x->d_sum + 8 * h), sum);
        }
    }
    return sum;
}

LANES_INLINE void dot_rows(traits type, const uint8_t* weights, int64_t elements,
                           const cpu_chunk* x, int64_t stride, int count, float* results) {
    const int chains = count <= 2 ? 4 : 2; // hide the latency
    lanes_floats sums[CPU_FEW_ROWS][4];
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < chains; k++) {
            sums[i][k] = lanes_float(0.0f);
        }
    }
    const int64_t chunks = (elements + CPU_CHUNK - 1) / CPU_CHUNK;
    for (int64_t c = 0; c < chunks; c++) {
        uint8_t copy[2 * CPU_CHUNK];
        const uint8_t* source = find_chunk(type, weights, c, elements, copy);
        float factors[CPU_FEW_ROWS][CPU_GROUPS];
        chunk_scales scales;
        type.scales(source, &scales);
        for (int i = 0; i < count; i++) {
            sums[i][0] = begin_chunk(type, &scales, x + i * stride + c, factors[i], sums[i][0]);
        }
#pragma GCC unroll 8
        for (int j = 0; j < PARTS; j++) {
            const lanes_bytes u = type.bytes(source, j);
            for (int i = 0; i < count; i++) {
                const lanes_bytes q = lanes_load(x[i * stride + c].q + 32 * j);
                const lanes_ints dot =
                    lanes_part_finish(lanes_int(0), multiply_bytes(type, lanes_part_zero(), u, q));
                const lanes_floats factor = type.groups_of_16 ? lanes_fours(factors[i] + 2 * j)
                                                              : lanes_float(factors[i][2 * j]);
                sums[i][j % chains] = lanes_fma(lanes_to_floats(dot), factor, sums[i][j % chains]);
            }
        }
    }
    for (int i = 0; i < count; i++) {
        for (int k = chains / 2; k > 0; k /= 2) {
            for (int j = 0; j < k; j++) {
                sums[i][j] = lanes_add(sums[i][j], sums[i][j + k]);
            }
        }
        results[i * CPU_RUN_COLUMNS] = lanes_sum(sums[i][0]);
    }
}

// A constant number of rows keeps all sums in registers.
LANES_INLINE void dot_row(traits type, const uint8_t* weights, int64_t elements, const cpu_chunk* x,
                          int64_t stride, int64_t count, float* results) {
    switch (count) {
    case 1:
        dot_rows(type, weights, elements, x, stride, 1, results);
        break;
    case 2:
        dot_rows(type, weights, elements, x, stride, 2, results);
        break;
    case 3:
        dot_rows(type, weights, elements, x, stride, 3, results);
        break;
    default:
        dot_rows(type, weights, elements, x, stride, 4, results);
    }
}

LANES_INLINE void dot_any(traits type, const cpu_weight_rows* weights, int64_t elements,
                          const cpu_chunk* x, int64_t stride, int64_t count, float* results) {
    for (int64_t n = 0; n < weights->count; n++) {
        dot_row(type, weights->first + n * weights->byte_stride, elements, x, stride, count,
                results + n);
    }
}

// Unpacks eight rows to one half of a block.
LANES_INLINE void unpack_half(traits type, const uint8_t* const sources[8], int64_t rows, int half,
                              cpu_block* block) {
    for (int j = 0; j < PARTS; j++) {
        lanes_bytes square[8];
        for (int i = 0; i < 8; i++) {
            square[i] = type.bytes(sources[i], j);
        }
        lanes_transpose(square);
        for (int k = 0; k < 8; k++) {
            lanes_store(block->u[8 * j + k][8 * half], square[k]);
        }
    }
    lanes_floats scales[2][8];
    lanes_floats minima[2][8];
    for (int i = 0; i < 8; i++) {
        chunk_scales found;
        type.scales(sources[i], &found);
        for (int h = 0; h < 2; h++) {
            scales[h][i] = i < rows ? found.scale[h] : lanes_float(0.0f);
            if (type.has_minimum) {
                minima[h][i] = i < rows ? found.minimum[h] : lanes_float(0.0f);
            }
        }
    }
    for (int h = 0; h < 2; h++) {
        transpose_floats(scales[h], &block->scale[8 * h][8 * half]);
        if (type.has_minimum) {
            transpose_floats(minima[h], &block->minimum[8 * h][8 * half]);
        }
    }
}

LANES_INLINE void unpack_block(traits type, const uint8_t* weights, int64_t row_bytes, int64_t rows,
                               int64_t chunk, int64_t elements, cpu_block* block) {
    for (int half = 0; half < 2; half++) {
        uint8_t copies[8][2 * CPU_CHUNK];
        const uint8_t* sources[8];
        for (int64_t i = 0; i < 8; i++) {
            const int64_t row = 8 * half + i;
            const int64_t known = row < rows ? row : rows - 1; // any: its scales become 0
            sources[i] = find_chunk(type, weights + known * row_bytes, chunk, elements, copies[i]);
        }
        unpack_half(type, sources, rows - 8 * half, half, block);
    }
}

// Integer sums over group g: each lane is a weight row.
LANES_INLINE void dot_group(traits type, const cpu_block* block, int half, const cpu_chunk* x,
                            int count, int g, lanes_ints* dots) {
    const int words = type.groups_of_16 ? 4 : 8;
    const int steps = LANES_STEPS(type.bits) < words ? LANES_STEPS(type.bits) : words;
    for (int i = 0; i < count; i++) {
        const int32_t* sum = x[i].sum + g * words / 4;
        const int32_t both = type.groups_of_16 ? sum[0] : sum[0] + sum[1];
        dots[i] = lanes_int(-type.offset * both);
    }
    for (int begin = 0; begin < words; begin += steps) {
        lanes_part parts[ROWS];
        for (int i = 0; i < count; i++) {
            parts[i] = lanes_part_zero();
        }
        for (int k = g * words + begin; k < g * words + begin + steps; k++) {
            const lanes_bytes u = lanes_load(block->u[k][8 * half]);
            for (int i = 0; i < count; i++) {
                parts[i] = multiply_bytes(type, parts[i], u, lanes_word(x[i].q + 4 * k));
            }
        }
        for (int i = 0; i < count; i++) {
            dots[i] = lanes_part_finish(dots[i], parts[i]);
        }
    }
}

// One scaling per group.
LANES_INLINE void multiply_rows(traits type, const cpu_block* block, int half, const cpu_chunk* x,
                                int count, bool first, float* results, int64_t stride) {
    const int group = type.groups_of_16 ? 16 : 32;
    lanes_floats sums[ROWS];
    for (int i = 0; i < count; i++) {
        sums[i] = first ? lanes_float(0.0f) : lanes_load_floats(results + i * stride);
    }
    for (int g = 0; g < CPU_CHUNK / group; g++) {
        const int sixteenth = g * group / 16;
        lanes_ints dots[ROWS];
        dot_group(type, block, half, x, count, g, dots);
        const lanes_floats scale = lanes_load_floats(block->scale[sixteenth] + 8 * half);
        for (int i = 0; i < count; i++) {
            const lanes_floats both = lanes_mul(scale, lanes_float(x[i].d[sixteenth]));
            sums[i] = lanes_fma(lanes_to_floats(dots[i]), both, sums[i]);
        }
        if (type.has_minimum) {
            const lanes_floats minimum = lanes_load_floats(block->minimum[sixteenth] + 8 * half);
            for (int i = 0; i < count; i++) {
                const float* d_sum = x[i].d_sum + sixteenth;
                const float sum = type.groups_of_16 ? d_sum[0] : d_sum[0] + d_sum[1];
                sums[i] = lanes_fnma(minimum, lanes_float(sum), sums[i]);
            }
        }
    }
    for (int i = 0; i < count; i++) {
        lanes_store_floats(results + i * stride, sums[i]);
    }
}

LANES_INLINE void multiply_any(traits type, const cpu_block* block, const cpu_chunk* x,
                               int64_t count, bool first, float* sums, int64_t stride) {
    for (int half = 0; half < 2; half++) {
        float* results = sums + 8 * half;
        int64_t i = 0;
        for (; i + ROWS <= count; i += ROWS) {
            multiply_rows(type, block, half, x + i, ROWS, first, results + i * stride, stride);
        }
        for (; i < count; i++) {
            multiply_rows(type, block, half, x + i, 1, first, results + i * stride, stride);
        }
    }
}

// X(name, dtype, offset, elements of a block, bytes of a block, bits, has a minimum, groups of 16)
#define TYPE_LIST(X)                                                                               \
    X(q8_0, Q8_0, 0, 32, 34, 8, false, false)                                                      \
    X(q4_0, Q4_0, 8, 32, 18, 4, false, false)                                                      \
    X(q4_1, Q4_1, 0, 32, 20, 4, true, false)                                                       \
    X(q5_0, Q5_0, 16, 32, 22, 5, false, false)                                                     \
    X(q5_1, Q5_1, 0, 32, 24, 5, true, false)                                                       \
    X(q2_k, Q2_K, 0, 256, 84, 2, true, true)                                                       \
    X(q3_k, Q3_K, 4, 256, 110, 3, false, true)                                                     \
    X(q4_k, Q4_K, 0, 256, 144, 4, true, false)                                                     \
    X(q5_k, Q5_K, 0, 256, 176, 5, true, false)                                                     \
    X(q6_k, Q6_K, 32, 256, 210, 6, false, true)                                                    \
    X(iq4_nl, IQ4_NL, 0, 32, 18, 8, false, false)                                                  \
    X(iq4_xs, IQ4_XS, 0, 256, 136, 8, false, false)                                                \
    X(mxfp4, MXFP4, FP4_OFFSET, 32, 17, 5, false, false)

#define TYPE_TRAITS(name, offset, elements, size, bits, minimum, sixteen)                          \
    ((traits){bytes_##name, scales_##name, elements, size, bits, minimum, sixteen, offset})

#define TYPE_FUNCTIONS(name, dtype, offset, elements, size, bits, minimum, sixteen)                \
    static void dot_##name(const cpu_weight_rows* weights, int64_t columns, const cpu_chunk* x,    \
                           int64_t stride, int64_t count, float* sums) {                           \
        dot_any(TYPE_TRAITS(name, offset, elements, size, bits, minimum, sixteen), weights,        \
                columns, x, stride, count, sums);                                                  \
    }                                                                                              \
    static void unpack_##name(const uint8_t* weights, int64_t row_bytes, int64_t rows,             \
                              int64_t chunk, int64_t columns, cpu_block* block) {                  \
        unpack_block(TYPE_TRAITS(name, offset, elements, size, bits, minimum, sixteen), weights,   \
                     row_bytes, rows, chunk, columns, block);                                      \
    }                                                                                              \
    static void multiply_##name(const cpu_block* block, const cpu_chunk* x, int64_t count,         \
                                bool first, float* sums, int64_t stride) {                         \
        multiply_any(TYPE_TRAITS(name, offset, elements, size, bits, minimum, sixteen), block, x,  \
                     count, first, sums, stride);                                                  \
    }
TYPE_LIST(TYPE_FUNCTIONS)
#undef TYPE_FUNCTIONS

static const cpu_quantized_type quantized_types[] = {
#define TYPE_ROW(name, dtype, offset, elements, size, bits, minimum, sixteen)                      \
    {WEIR_DTYPE_##dtype, CPU_CHUNK / (elements) * (size), quantize, dot_##name, unpack_##name,     \
     multiply_##name},
    TYPE_LIST(TYPE_ROW)
#undef TYPE_ROW
};
