// Rows of bits: bit `i` of a row is bit i % 64 of word i / 64.
#ifndef WEIR_BASE_BITS_H
#define WEIR_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline size_t bits_words(size_t bit_count) {
    return bit_count / 64 + (bit_count % 64 != 0);
}

static inline bool bits_has(const uint64_t* row, size_t index) {
    return row[index / 64] >> (index % 64) & 1;
}

static inline void bits_set(uint64_t* row, size_t index) {
    row[index / 64] |= (uint64_t)1 << (index % 64);
}

static inline void bits_clear(uint64_t* row, size_t index) {
    row[index / 64] &= ~((uint64_t)1 << (index % 64));
}

// Number of the lowest set bit of a word that is not 0.
static inline uint32_t bits_lowest(uint64_t word) {
    return (uint32_t)__builtin_ctzll(word);
}

static inline uint32_t bits_count(const uint64_t* row, size_t words) {
    uint32_t count = 0;
    for (size_t w = 0; w < words; ++w) {
        count += (uint32_t)__builtin_popcountll(row[w]);
    }
    return count;
}

// Writes the transpose of a matrix of `rows` rows of `columns` bits to `to`, whose rows have
// bits_words(rows) words; bits past the last column are ignored, those past the last row are 0.
void weir_bits_transpose(const uint64_t* from, size_t rows, size_t columns, uint64_t* to);

#endif
