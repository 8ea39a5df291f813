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

// Sums bits in pairs, in fours and in bytes (Warren, Hacker's Delight, section 5-1): in line and by
// vectors, where a call for each word would cost more.
static inline uint32_t bits_count(const uint64_t* row, size_t words) {
    uint64_t count = 0;
    for (size_t w = 0; w < words; ++w) {
        uint64_t x = row[w];
        x -= x >> 1 & UINT64_C(0x5555555555555555);
        x = (x & UINT64_C(0x3333333333333333)) + (x >> 2 & UINT64_C(0x3333333333333333));
        x = (x + (x >> 4)) & UINT64_C(0x0F0F0F0F0F0F0F0F);
        x += x >> 8;
        x += x >> 16;
        x += x >> 32;
        count += x & 0x7F;
    }
    return (uint32_t)count;
}

// Writes the transpose of a matrix of `rows` rows of `columns` bits to `to`, whose rows have
// bits_words(rows) words; bits past the last column are ignored, those past the last row are 0.
void weir_bits_transpose(const uint64_t* from, size_t rows, size_t columns, uint64_t* to);

#endif
