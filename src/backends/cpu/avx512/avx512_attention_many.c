#include "backends/cpu/avx512/avx512_attention.h"

#include "backends/cpu/avx512/avx512_cache.h"

// Two matrices with rows at a distance of `stride` floats, and their product, which is added to
// what is there, times a factor for each row, or replaces it where `factor` is NULL.
typedef struct product {
    const float* a; // [rows, length]
    int64_t a_stride;
    const float* b; // [length, columns]
    int64_t b_stride;
    int64_t length;
    float* c; // [rows, columns]
    int64_t c_stride;
    const float* factor;
} product;

// `rows` rows by 16 * `width` columns, all in registers.
AVX512_INLINE void multiply_block(const product* p, int64_t row, int64_t column, const int rows,
                                  const int width) {
    __m512 sums[6][4];
    float* c = p->c + row * p->c_stride + column;
    const float* a = p->a + row * p->a_stride;
    const float* b = p->b + column;
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < width; j++) {
            sums[i][j] = p->factor ? _mm512_mul_ps(_mm512_set1_ps(p->factor[row + i]),
                                                   _mm512_loadu_ps(c + i * p->c_stride + 16 * j))
                                   : _mm512_setzero_ps();
        }
    }
    for (int64_t k = 0; k < p->length; k++) {
        __m512 line[4];
        for (int j = 0; j < width; j++) {
            line[j] = _mm512_loadu_ps(b + k * p->b_stride + 16 * j);
        }
        for (int i = 0; i < rows; i++) {
            const __m512 one = _mm512_set1_ps(a[i * p->a_stride + k]);
            for (int j = 0; j < width; j++) {
                sums[i][j] = _mm512_fmadd_ps(one, line[j], sums[i][j]);
            }
        }
    }
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < width; j++) {
            _mm512_storeu_ps(c + i * p->c_stride + 16 * j, sums[i][j]);
        }
    }
}

AVX512_INLINE void multiply_columns(const product* p, int64_t rows, int64_t column,
                                    const int width) {
    int64_t row = 0;
    for (; row + 6 <= rows; row += 6) {
        multiply_block(p, row, column, 6, width);
    }
    for (; row + 2 <= rows; row += 2) {
        multiply_block(p, row, column, 2, width);
    }
    if (row < rows) {
        multiply_block(p, row, column, 1, width);
    }
}

// `columns` is a multiple of 16.
static void multiply(const product* p, int64_t rows, int64_t columns) {
    int64_t column = 0;
    for (; column + 64 <= columns; column += 64) {
        multiply_columns(p, rows, column, 4);
    }
    for (; column + 32 <= columns; column += 32) {
        multiply_columns(p, rows, column, 2);
    }
    for (; column < columns; column += 16) {
        multiply_columns(p, rows, column, 1);
    }
}

// Rows past the end are the last.
AVX512_INLINE void transpose_keys(avx512_load_fn load, const avx512_rows* keys,
                                  avx512_key_block* block) {
    for (int64_t key = 0; key < AVX512_KEYS; key += 16) {
        const char* rows[16];
        for (int i = 0; i < 16; i++) {
            const int64_t index = key + i < keys->count ? key + i : keys->count - 1;
            rows[i] = keys->first + index * keys->stride;
        }
        for (int64_t e = 0; e < keys->length; e += 16) {
            __m512i square[16];
            for (int i = 0; i < 16; i++) {
                square[i] = _mm512_castps_si512(load(rows[i], keys->column + e));
            }
            avx512_transpose(square);
            for (int i = 0; i < 16; i++) {
                _mm512_store_si512(block->keys[e + i] + key, square[i]);
            }
        }
    }
}

void avx512_score_many(const avx512_rows* keys, avx512_key_block* block, avx512_queries* queries) {
    const product p = {.a = queries->query,
                       .a_stride = queries->length,
                       .b = block->keys[0],
                       .b_stride = AVX512_KEYS,
                       .length = keys->length,
                       .c = queries->scores[0],
                       .c_stride = AVX512_KEYS};
    AVX512_FOR_CACHE(keys->dtype, transpose_keys, keys, block);
    multiply(&p, queries->count, AVX512_KEYS);
}

AVX512_INLINE void widen_values(avx512_load_fn load, const avx512_rows* values,
                                avx512_key_block* block) {
    for (int64_t key = 0; key < values->count; key++) {
        const char* row = values->first + key * values->stride;
        for (int64_t e = 0; e < values->length; e += 16) {
            _mm512_store_ps(block->values + key * values->length + e,
                            load(row, values->column + e));
        }
    }
}

// Values of keys that a query does not see but another of the unit does are multiplied by 0.
void avx512_sum_many(const avx512_rows* values, avx512_key_block* block, avx512_queries* queries) {
    product p = {.a = queries->scores[0],
                 .a_stride = AVX512_KEYS,
                 .b = block->values,
                 .b_stride = values->length,
                 .length = values->count,
                 .c = queries->sum,
                 .c_stride = queries->length,
                 .factor = queries->factor};
    if (values->dtype == WEIR_DTYPE_F32) {
        p.b = (const float*)(const void*)values->first + values->column;
        p.b_stride = values->stride / (int64_t)sizeof(float);
    } else {
        AVX512_FOR_CACHE(values->dtype, widen_values, values, block);
    }
    multiply(&p, queries->count, values->length);
}
