// Changes to bytes that are in order, told by an input: a search starts near what a reader takes.
//
//     | kind, place (2 bytes), operands | ...
#ifndef WEIR_TESTS_FUZZ_FUZZ_CHANGES_H
#define WEIR_TESTS_FUZZ_FUZZ_CHANGES_H

#include "fuzz.h"

#define FUZZ_CHANGES_MAX 32

// Bytes that are changed in place; what lies beyond the first 64 KiB moves only.
typedef struct fuzz_bytes {
    uint8_t* items;
    size_t count;
    size_t capacity;
} fuzz_bytes;

// Writes a number, the lowest byte first.
static inline void fuzz_put(uint8_t* bytes, uint64_t number, size_t byte_size) {
    for (size_t i = 0; i < byte_size; i++) {
        bytes[i] = (uint8_t)(number >> (8 * i));
    }
}

// Makes room for, or takes out, `length` bytes at a place.
static inline void fuzz_move_tail(fuzz_bytes* bytes, size_t place, size_t length, bool insert) {
    const size_t left = bytes->count - place;
    uint8_t* at = bytes->items + place;
    if (insert && bytes->count + length <= bytes->capacity) {
        memmove(at + length, at, left);
        bytes->count += length;
    } else if (!insert) {
        memmove(at, at + length, left - length);
        bytes->count -= length;
    }
}

static inline void fuzz_swap(uint8_t* place, uint8_t* other, size_t length) {
    for (size_t i = 0; i < length; i++) {
        const uint8_t kept = place[i];
        place[i] = other[i];
        other[i] = kept;
    }
}

// A number becomes a bound, any other, or a little more or less.
static inline void fuzz_change_number(fuzz_input* input, uint8_t* place, size_t byte_size) {
    static const uint64_t bounds[] = {
        0, 1, UINT8_MAX, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, 1u << 30, UINT64_C(1) << 40};
    uint64_t number = 0;
    for (size_t i = byte_size; i > 0; i--) {
        number = number << 8 | place[i - 1];
    }
    const uint32_t choice = fuzz_byte(input);
    if (choice < 16) {
        number = bounds[choice % (sizeof bounds / sizeof *bounds)];
    } else if (choice < 32) {
        number = fuzz_u64(input);
    } else {
        number += (uint64_t)(int64_t)(int8_t)choice;
    }
    fuzz_put(place, number, byte_size);
}

static inline void fuzz_change_once(fuzz_input* input, fuzz_bytes* bytes) {
    const uint32_t kind = fuzz_below(input, 6);
    const size_t high = fuzz_byte(input);
    const size_t place = (high << 8 | fuzz_byte(input)) % bytes->count;
    const size_t length = kind < 2 ? 4u + 4u * kind : 1 + fuzz_below(input, 32);
    uint8_t* at = bytes->items + place;
    if (place + 2 * length > bytes->count) {
        *at = fuzz_byte(input);
    } else if (kind < 2) {
        fuzz_change_number(input, at, length);
    } else if (kind < 4) {
        fuzz_move_tail(bytes, place, length, kind == 2);
    } else if (kind == 4) { // neighbours in a list
        fuzz_swap(at, at + length, length);
    } else {
        *at = (uint8_t)(*at ^ length);
    }
}

// Makes all changes that the input has left.
static inline void fuzz_change(fuzz_input* input, fuzz_bytes* bytes) {
    for (int changes = 0; input->left > 0 && bytes->count > 0 && changes < FUZZ_CHANGES_MAX;
         changes++) {
        fuzz_change_once(input, bytes);
    }
}

#endif
