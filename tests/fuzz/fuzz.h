// What all fuzz targets share. A target is a function from bytes to nothing that must hold its own
// promises: whatever the bytes, no crash, no leak, and every check of its own passes.
//
// Built with -DWEIR_FUZZ=ON by clang the targets are libFuzzer programs; otherwise fuzz_driver.c
// runs them over their corpus, and over mutations of it that are the same each time.
#ifndef WEIR_TESTS_FUZZ_FUZZ_H
#define WEIR_TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weir/allocator.h>

int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t byte_size);

// Ends the program where a promise is broken: what a fuzzer takes for a finding.
#define fuzz_require(condition)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);          \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

// The bytes of an input, taken from the front; zeros once they are used up.
typedef struct fuzz_input {
    const uint8_t* bytes;
    size_t left;
} fuzz_input;

static inline uint8_t fuzz_byte(fuzz_input* input) {
    if (input->left == 0) {
        return 0;
    }
    input->left--;
    return *input->bytes++;
}

// A number in [0, bound); 1 <= bound <= 256.
static inline uint32_t fuzz_below(fuzz_input* input, uint32_t bound) {
    return fuzz_byte(input) % bound;
}

static inline uint64_t fuzz_u64(fuzz_input* input) {
    uint64_t number = 0;
    for (int i = 0; i < 8; i++) {
        number = number << 8 | fuzz_byte(input);
    }
    return number;
}

// Copies bytes to a block of exactly their size, so that the address sanitizer sees one too far.
static inline uint8_t* fuzz_exact(const uint8_t* bytes, size_t byte_size) {
    uint8_t* copy = malloc(byte_size > 0 ? byte_size : 1);
    fuzz_require(copy);
    if (byte_size > 0) {
        memcpy(copy, bytes, byte_size);
    }
    return copy;
}

// An allocator with a purse: what goes beyond it fails.
typedef struct fuzz_purse {
    size_t live;
    size_t most;  // bytes
    bool refused; // more was asked for
} fuzz_purse;

static inline void* fuzz_purse_alloc(void* context, size_t byte_size, size_t alignment) {
    fuzz_purse* purse = context;
    void* pointer = NULL;
    const size_t least = alignment < sizeof(void*) ? sizeof(void*) : alignment;
    if (byte_size > purse->most - purse->live || posix_memalign(&pointer, least, byte_size) != 0) {
        purse->refused = true;
        return NULL;
    }
    purse->live += byte_size;
    return pointer;
}

static inline void fuzz_purse_free(void* context, void* pointer, size_t byte_size,
                                   size_t alignment) {
    (void)alignment;
    ((fuzz_purse*)context)->live -= byte_size;
    free(pointer);
}

static inline weir_allocator fuzz_allocator(fuzz_purse* purse) {
    return (weir_allocator){.context = purse, .alloc = fuzz_purse_alloc, .free = fuzz_purse_free};
}

#endif
