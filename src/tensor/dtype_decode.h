// Decoders of blocks, one for each type that `weir_dtype_to_f32` takes. They are the definition of
// the formats for all else: kernels that read blocks in a way of their own are tested against them.
//
// The order of operations is that of the definitions, (d * scale) * q - minimum, and contraction is
// off, so that every build gives the same bits.
#ifndef WEIR_TENSOR_DTYPE_DECODE_H
#define WEIR_TENSOR_DTYPE_DECODE_H

#include <stddef.h>
#include <weir/dtype.h>

#include "tensor/half.h"

// The formats are little-endian, and so are the loads below.
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "weir needs a little-endian host");

#define CHECK_BLOCK(name, elements, bytes, alignment, gguf) name##_BYTES = (bytes),
enum { WEIR_DTYPE_LIST(CHECK_BLOCK) };
#undef CHECK_BLOCK

static inline uint16_t load_u16(const uint8_t* bytes) {
    uint16_t number;
    memcpy(&number, bytes, sizeof number);
    return number;
}

static inline float load_f16(const uint8_t* bytes) {
    return f16_widen(load_u16(bytes));
}

// 32 numbers as 4-bit codes: byte j holds element j low and element j + 16 high.
static inline void decode_codes(const uint8_t* restrict codes, const int8_t values[16], float scale,
                                float* restrict target) {
    for (int j = 0; j < 16; j++) {
        target[j] = scale * (float)values[codes[j] & 0xF];
        target[j + 16] = scale * (float)values[codes[j] >> 4];
    }
}

// X(name, dtype)
#define DTYPE_DECODER_LIST(X)                                                                      \
    X(f32, F32)                                                                                    \
    X(f16, F16)                                                                                    \
    X(bf16, BF16)                                                                                  \
    X(q8_0, Q8_0)                                                                                  \
    X(q4_0, Q4_0)                                                                                  \
    X(q4_1, Q4_1)                                                                                  \
    X(q5_0, Q5_0)                                                                                  \
    X(q5_1, Q5_1)                                                                                  \
    X(q2_k, Q2_K)                                                                                  \
    X(q3_k, Q3_K)                                                                                  \
    X(q4_k, Q4_K)                                                                                  \
    X(q5_k, Q5_K)                                                                                  \
    X(q6_k, Q6_K)                                                                                  \
    X(iq4_nl, IQ4_NL)                                                                              \
    X(iq4_xs, IQ4_XS)                                                                              \
    X(mxfp4, MXFP4)

// Decodes `block_count` blocks; alignment of the source is never relied on.
#define DTYPE_DECODER_DECLARE(name, dtype)                                                         \
    void dtype_decode_##name(const uint8_t* restrict source, size_t block_count,                   \
                             float* restrict target);
DTYPE_DECODER_LIST(DTYPE_DECODER_DECLARE)
#undef DTYPE_DECODER_DECLARE

#endif
