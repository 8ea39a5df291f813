// Element types, with the block layout of every tensor type that GGUF knows.
//
// A block type packs `block_elements` numbers into `block_bytes` bytes along the innermost
// dimension; plain types are blocks of one element. Sizes can be computed for all types;
// `weir_dtype_to_f32` decodes those listed there, `weir_dtype_from_f32` encodes a few.
#ifndef WEIR_DTYPE_H
#define WEIR_DTYPE_H

#include <weir/status.h>

WEIR_C_BEGIN

// X(name, elements per block, bytes per block, alignment in bytes, GGUF type id or -1)
#define WEIR_DTYPE_LIST(X)                                                                         \
    X(F32, 1, 4, 4, 0)                                                                             \
    X(F16, 1, 2, 2, 1)                                                                             \
    X(BF16, 1, 2, 2, 30)                                                                           \
    X(F64, 1, 8, 8, 28)                                                                            \
    X(I8, 1, 1, 1, 24)                                                                             \
    X(I16, 1, 2, 2, 25)                                                                            \
    X(I32, 1, 4, 4, 26)                                                                            \
    X(I64, 1, 8, 8, 27)                                                                            \
    X(U8, 1, 1, 1, -1)                                                                             \
    X(U16, 1, 2, 2, -1)                                                                            \
    X(U32, 1, 4, 4, -1)                                                                            \
    X(U64, 1, 8, 8, -1)                                                                            \
    X(BOOL, 1, 1, 1, -1)                                                                           \
    X(Q4_0, 32, 18, 2, 2)                                                                          \
    X(Q4_1, 32, 20, 2, 3)                                                                          \
    X(Q5_0, 32, 22, 2, 6)                                                                          \
    X(Q5_1, 32, 24, 2, 7)                                                                          \
    X(Q8_0, 32, 34, 2, 8)                                                                          \
    X(Q8_1, 32, 36, 2, 9)                                                                          \
    X(Q2_K, 256, 84, 2, 10)                                                                        \
    X(Q3_K, 256, 110, 2, 11)                                                                       \
    X(Q4_K, 256, 144, 2, 12)                                                                       \
    X(Q5_K, 256, 176, 2, 13)                                                                       \
    X(Q6_K, 256, 210, 2, 14)                                                                       \
    X(Q8_K, 256, 292, 4, 15)                                                                       \
    X(IQ2_XXS, 256, 66, 2, 16)                                                                     \
    X(IQ2_XS, 256, 74, 2, 17)                                                                      \
    X(IQ3_XXS, 256, 98, 2, 18)                                                                     \
    X(IQ1_S, 256, 50, 2, 19)                                                                       \
    X(IQ4_NL, 32, 18, 2, 20)                                                                       \
    X(IQ3_S, 256, 110, 2, 21)                                                                      \
    X(IQ2_S, 256, 82, 2, 22)                                                                       \
    X(IQ4_XS, 256, 136, 2, 23)                                                                     \
    X(IQ1_M, 256, 56, 2, 29)                                                                       \
    X(TQ1_0, 256, 54, 2, 34)                                                                       \
    X(TQ2_0, 256, 66, 2, 35)                                                                       \
    X(MXFP4, 32, 17, 1, 39)                                                                        \
    X(NVFP4, 64, 36, 1, 40)                                                                        \
    X(Q1_0, 128, 18, 2, 41)                                                                        \
    X(Q2_0, 64, 18, 2, 42)

#define WEIR_DTYPE_ENUM(name, elements, bytes, alignment, gguf) WEIR_DTYPE_##name,
typedef enum weir_dtype {
    WEIR_DTYPE_NONE = 0,
    WEIR_DTYPE_LIST(WEIR_DTYPE_ENUM) WEIR_DTYPE_COUNT
} weir_dtype;
#undef WEIR_DTYPE_ENUM

typedef struct weir_dtype_info {
    const char* name;        // "F32", "Q4_K", ...; "NONE" for values outside the enumeration
    uint32_t block_elements; // numbers in one block; 1 for plain types, 0 for NONE
    uint32_t block_bytes;    // bytes of one block
    uint32_t alignment;      // bytes; what a kernel may assume of a pointer to a block
} weir_dtype_info;

// Returns the layout of a type; never NULL.
//
// Threads: thread-safe.
WEIR_API const weir_dtype_info* weir_dtype_describe(weir_dtype dtype);

// Computes the bytes of `element_count` contiguous elements.
//
// Errors:  WEIR_INVALID_ARGUMENT the count is negative, not whole blocks, or dtype is NONE;
//          WEIR_OUT_OF_RANGE the size does not fit 64 bits.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_dtype_byte_size(weir_dtype dtype, int64_t element_count,
                                                        uint64_t* byte_size);

// Tells whether `weir_dtype_to_f32` can decode the type: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0,
// Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4.
//
// Threads: thread-safe.
WEIR_API bool weir_dtype_is_decodable(weir_dtype dtype);

// Decodes `element_count` elements from `source` to `target`, exactly as the format defines them.
// `source` needs the alignment of the dtype only; the ranges do not overlap.
//
// Errors:  WEIR_UNSUPPORTED no decoder; WEIR_INVALID_ARGUMENT the count is not whole blocks.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_dtype_to_f32(weir_dtype dtype, const void* source,
                                                     int64_t element_count, float* target);

// Tells whether `weir_dtype_from_f32` can encode the type: F32, F16, BF16, Q8_0.
//
// Threads: thread-safe.
WEIR_API bool weir_dtype_is_encodable(weir_dtype dtype);

// Encodes `element_count` elements, each block by itself: 16-bit floats to nearest even, Q8_0 by
// its largest magnitude, which becomes 127 or -127. A block of Q8_0 with a number over 127 * 65504,
// an infinity or a NaN decodes to NaN; one of numbers of at most 2^-20 may decode to zeros.
// `target` needs no alignment; the ranges do not overlap.
//
// Errors:  WEIR_UNSUPPORTED no encoder; WEIR_INVALID_ARGUMENT the count is not whole blocks.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_dtype_from_f32(weir_dtype dtype, const float* source,
                                                       int64_t element_count, void* target);

// Converts between one f32 and its 16-bit forms; to_* rounds to nearest even, NaN stays NaN
// (quiet).
//
// Threads: thread-safe.
WEIR_API float weir_f16_to_f32(uint16_t bits);
WEIR_API uint16_t weir_f32_to_f16(float number);
WEIR_API float weir_bf16_to_f32(uint16_t bits);
WEIR_API uint16_t weir_f32_to_bf16(float number);

WEIR_C_END

#endif
