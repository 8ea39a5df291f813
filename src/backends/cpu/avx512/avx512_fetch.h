// Lines of quantised weights that few rows of x will meet are asked for by name.
#ifndef WEIR_BACKENDS_CPU_AVX512_AVX512_FETCH_H
#define WEIR_BACKENDS_CPU_AVX512_AVX512_FETCH_H

#include "backends/cpu/avx512/avx512_vector.h"
#include "backends/cpu/products/products.h"

// Several weight rows at a time share what they read of x, and no prefetcher of the processor
// follows neighbours: lines are asked for in the order of memory, this many bytes before the last
// of the rows wants them. They go to the second cache: the first one has no room for them beside x.
#define AVX512_AHEAD 5120

// Asks for as many bytes as a chunk of `rows` rows has, those from row n on being in work, at most
// `together` at a time.
AVX512_INLINE void avx512_fetch_ahead(const cpu_weight_rows* weights, int64_t n, int rows,
                                      int together, int64_t chunk_bytes, int64_t chunk) {
    const int64_t byte_size = rows * chunk_bytes;
    const uintptr_t end =
        (uintptr_t)weights->first + (uintptr_t)(weights->count * weights->byte_stride);
    const int64_t left = (weights->count - n - (together - 1)) * weights->byte_stride -
                         AVX512_AHEAD - chunk * byte_size;
    const uintptr_t base = left <= 0 && weights->next ? (uintptr_t)weights->next : end;
    for (int64_t i = 0; i < byte_size; i += 64) {
        _mm_prefetch((const char*)(base - (uintptr_t)left + (uintptr_t)i), _MM_HINT_T1);
    }
}

#endif
