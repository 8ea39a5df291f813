#include "backends/cpu/avx512/avx512_attention.h"

#include "backends/cpu/avx512/avx512_cache.h"
#include "backends/cpu/avx512/avx512_math.h"

static inline const char* row_of(const avx512_rows* rows, int64_t index) {
    return rows->first + index * rows->stride;
}

// Heads lie far apart in the rows of a cache, which the processor does not foresee: each row that
// is read asks for the one that is read a block later.
AVX512_INLINE void prefetch_head(const avx512_rows* rows, const char* row) {
    const char* head = row + AVX512_KEYS * rows->stride + rows->byte_offset;
    for (int64_t at = 0; at < rows->next_bytes; at += 64) {
        _mm_prefetch(head + at, _MM_HINT_T0);
    }
}

// 16 sums at a time: 16 / count keys, each with `count` queries. Rows past the end are the last.
AVX512_INLINE void score(avx512_load_fn load, const avx512_rows* keys, avx512_queries* queries,
                         const int count) {
    const int step = 16 / count;
    for (int64_t key = 0; key < keys->count; key += step) {
        const char* rows[16];
        __m512 sums[16];
        for (int i = 0; i < 16; i++) {
            sums[i] = _mm512_setzero_ps();
        }
        for (int i = 0; i < step; i++) {
            rows[i] = row_of(keys, key + i < keys->count ? key + i : keys->count - 1);
            prefetch_head(keys, rows[i]);
        }
        for (int64_t e = 0; e < keys->length; e += 16) {
            for (int i = 0; i < step; i++) {
                const __m512 elements = load(rows[i], keys->column + e);
                for (int q = 0; q < count; q++) {
                    sums[q * step + i] = _mm512_fmadd_ps(
                        elements, _mm512_load_ps(queries->query + q * queries->length + e),
                        sums[q * step + i]);
                }
            }
        }
        _Alignas(64) float found[16];
        _mm512_store_ps(found, avx512_sum_each(sums));
        for (int q = 0; q < count; q++) {
            __builtin_memcpy(queries->scores[q] + key, found + q * step,
                             (size_t)step * sizeof(float));
        }
    }
}

AVX512_INLINE void score_count(avx512_load_fn load, const avx512_rows* keys,
                               avx512_queries* queries) {
    if (queries->count == 1) {
        score(load, keys, queries, 1);
    } else if (queries->count == 2) {
        score(load, keys, queries, 2);
    } else {
        score(load, keys, queries, 4);
    }
}

void avx512_score_few(const avx512_rows* keys, avx512_queries* queries) {
    AVX512_FOR_CACHE(keys->dtype, score_count, keys, queries);
}

// `width` vectors of the sums, from element `begin` on.
AVX512_INLINE void add_columns(avx512_load_fn load, const avx512_rows* values,
                               avx512_queries* queries, int64_t begin, const int count,
                               const int width) {
    __m512 sums[AVX512_FEW_QUERIES][4];
    for (int q = 0; q < count; q++) {
        const __m512 factor = _mm512_set1_ps(queries->factor[q]);
        const float* sum = queries->sum + q * queries->length + begin;
        for (int i = 0; i < width; i++) {
            sums[q][i] = _mm512_mul_ps(_mm512_load_ps(sum + 16 * i), factor);
        }
    }
    for (int64_t key = 0; key < values->count; key++) {
        const char* row = row_of(values, key);
        if (begin == 0) {
            prefetch_head(values, row);
        }
        for (int i = 0; i < width; i++) {
            const __m512 elements = load(row, values->column + begin + 16 * i);
            for (int q = 0; q < count; q++) {
                sums[q][i] =
                    _mm512_fmadd_ps(elements, _mm512_set1_ps(queries->scores[q][key]), sums[q][i]);
            }
        }
    }
    for (int q = 0; q < count; q++) {
        for (int i = 0; i < width; i++) {
            _mm512_store_ps(queries->sum + q * queries->length + begin + 16 * i, sums[q][i]);
        }
    }
}

AVX512_INLINE void add_values(avx512_load_fn load, const avx512_rows* values,
                              avx512_queries* queries, const int count) {
    int64_t begin = 0;
    for (; begin + 64 <= values->length; begin += 64) {
        add_columns(load, values, queries, begin, count, 4);
    }
    for (; begin < values->length; begin += 16) {
        add_columns(load, values, queries, begin, count, 1);
    }
}

AVX512_INLINE void add_count(avx512_load_fn load, const avx512_rows* values,
                             avx512_queries* queries) {
    if (queries->count == 1) {
        add_values(load, values, queries, 1);
    } else if (queries->count == 2) {
        add_values(load, values, queries, 2);
    } else {
        add_values(load, values, queries, 4);
    }
}

void avx512_sum_few(const avx512_rows* values, avx512_queries* queries) {
    AVX512_FOR_CACHE(values->dtype, add_count, values, queries);
}
