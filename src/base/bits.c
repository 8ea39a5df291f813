#include "base/bits.h"

// Swaps ever smaller off-diagonal squares of a 64 x 64 square (Warren, Hacker's Delight, 7-3).
static void transpose_square(uint64_t* square) {
    uint64_t mask = 0x00000000FFFFFFFFu;
    for (uint32_t half = 32; half > 0; half /= 2, mask ^= mask << half) {
        for (uint32_t row = 0; row < 64; row = ((row | half) + 1) & ~half) {
            const uint64_t moved = (square[row] >> half ^ square[row | half]) & mask;
            square[row] ^= moved << half;
            square[row | half] ^= moved;
        }
    }
}

void weir_bits_transpose(const uint64_t* from, size_t rows, size_t columns, uint64_t* to) {
    const size_t from_words = bits_words(columns);
    const size_t to_words = bits_words(rows);
    uint64_t square[64];
    for (size_t above = 0; above < to_words; ++above) {
        for (size_t left = 0; left < from_words; ++left) {
            for (size_t i = 0; i < 64; ++i) {
                const size_t row = above * 64 + i;
                square[i] = row < rows ? from[row * from_words + left] : 0;
            }
            transpose_square(square);
            for (size_t i = 0; i < 64 && left * 64 + i < columns; ++i) {
                to[(left * 64 + i) * to_words + above] = square[i];
            }
        }
    }
}
