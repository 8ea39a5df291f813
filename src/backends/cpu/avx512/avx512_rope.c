// rope, set_rows and both in one. Angles are computed in f64, eight pairs at a time, and rows are
// rounded to the type of a cache with the instructions that there are for it.
#include <math.h>
#include <string.h>

#include "backends/cpu/avx512/avx512_kernels.h"
#include "backends/cpu/avx512/avx512_math.h"
#include "backends/cpu/kernels/cpu_rope.h"

#define PAIRS_MAX 256

// A cosine and a sine for each element of the turned part of a head: sines of first elements are
// those of the pair with their signs changed.
typedef struct rotation {
    _Alignas(64) double frequencies[PAIRS_MAX]; // angle per position
    _Alignas(64) float cosine[2 * PAIRS_MAX];
    _Alignas(64) float sine[2 * PAIRS_MAX];
} rotation;

// Pairs and heads are whole vectors, so that no lane is left over.
static bool has_whole_vectors(const weir_rope_desc* rope) {
    return rope->rotated % 32 == 0 && rope->rotated / 2 <= PAIRS_MAX && rope->head_dim % 16 == 0 &&
           rope->head_dim <= CPU_ROPE_PART;
}

bool avx512_rope_accepts(const weir_kernel_use* use) {
    return weir_cpu_rope_accepts(use) && has_whole_vectors(&use->constants->rope);
}

uint32_t avx512_rope_tiles(const weir_kernel_use* use) {
    return cpu_rope_tiles(use);
}

// base^(-2i / rotated) = 2^(i * step).
static void find_frequencies(const weir_rope_desc* rope, const float* factors, rotation* turn) {
    const double step = -2.0 * log2((double)rope->base) / (double)rope->rotated;
    const __m512d lanes = _mm512_setr_pd(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0);
    for (int64_t i = 0; i < rope->rotated / 2; i += 8) {
        const __m512d index = _mm512_add_pd(_mm512_set1_pd((double)i), lanes);
        __m512d frequency = avx512_exp2_f64(_mm512_mul_pd(index, _mm512_set1_pd(step)));
        frequency = _mm512_mul_pd(frequency, _mm512_set1_pd((double)rope->scale));
        if (factors) {
            frequency = _mm512_div_pd(frequency, _mm512_cvtps_pd(_mm256_loadu_ps(factors + i)));
        }
        _mm512_store_pd(turn->frequencies + i, frequency);
    }
}

// Eight pairs of both numbers become 16 elements: neighbours, or half a head apart.
static void store_pairs(const weir_rope_desc* rope, int64_t i, __m256 cosine, __m256 sine,
                        rotation* turn) {
    const __m256 minus = _mm256_sub_ps(_mm256_setzero_ps(), sine);
    if (rope->pairing == WEIR_ROPE_ADJACENT) {
        const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
        const __m512 c = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(cosine));
        const __m512 s = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(sine));
        const __m512 first = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(minus));
        _mm512_store_ps(turn->cosine + 2 * i, c);
        _mm512_store_ps(turn->sine + 2 * i, _mm512_mask_blend_ps(0x5555, s, first));
        return;
    }
    const int64_t half = rope->rotated / 2;
    _mm256_store_ps(turn->cosine + i, cosine);
    _mm256_store_ps(turn->cosine + half + i, cosine);
    _mm256_store_ps(turn->sine + i, minus);
    _mm256_store_ps(turn->sine + half + i, sine);
}

static void find_turn(const weir_rope_desc* rope, double position, rotation* turn) {
    for (int64_t i = 0; i < rope->rotated / 2; i += 8) {
        __m512d sine;
        __m512d cosine;
        const __m512d angle =
            _mm512_mul_pd(_mm512_set1_pd(position), _mm512_load_pd(turn->frequencies + i));
        avx512_sin_cos_f64(angle, &sine, &cosine);
        store_pairs(rope, i, _mm512_cvtpd_ps(cosine), _mm512_cvtpd_ps(sine), turn);
    }
}

static __m512 turned(__m512 x, __m512 partner, const rotation* turn, int64_t e) {
    return _mm512_fmadd_ps(x, _mm512_load_ps(turn->cosine + e),
                           _mm512_mul_ps(partner, _mm512_load_ps(turn->sine + e)));
}

// Turns one head; y may be x. What is not turned is copied.
static void turn_head(const weir_rope_desc* rope, const rotation* turn, const float* x, float* y) {
    if (rope->pairing == WEIR_ROPE_ADJACENT) {
        for (int64_t e = 0; e < rope->rotated; e += 16) {
            const __m512 elements = _mm512_loadu_ps(x + e);
            const __m512 partners = _mm512_permute_ps(elements, 0xB1);
            _mm512_storeu_ps(y + e, turned(elements, partners, turn, e));
        }
    } else {
        const int64_t half = rope->rotated / 2;
        for (int64_t e = 0; e < half; e += 16) {
            const __m512 first = _mm512_loadu_ps(x + e);
            const __m512 second = _mm512_loadu_ps(x + half + e);
            _mm512_storeu_ps(y + e, turned(first, second, turn, e));
            _mm512_storeu_ps(y + half + e, turned(second, first, turn, half + e));
        }
    }
    if (x != y) {
        memcpy(y + rope->rotated, x + rope->rotated,
               (rope->head_dim - rope->rotated) * sizeof(float));
    }
}

// Stores whole blocks in a type, with the bits of weir_dtype_from_f32.
static weir_status encode(weir_dtype dtype, const float* x, int64_t count, void* y) {
    if (dtype != WEIR_DTYPE_F16) {
        return weir_dtype_from_f32(dtype, x, count, y);
    }
    for (int64_t i = 0; i < count; i += 16) {
        const __mmask16 mask = avx512_mask(count - i);
        const __m512 numbers = _mm512_maskz_loadu_ps(mask, x + i);
        const __m256i halves =
            _mm512_maskz_cvtps_ph(mask, numbers, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm256_mask_storeu_epi16((uint16_t*)y + i, mask, halves);
    }
    return WEIR_OK;
}

// Turns a row into a cache, part after part.
static weir_status turn_into(const weir_rope_desc* rope, const rotation* turn, const float* x,
                             int64_t width, weir_dtype dtype, uint8_t* y) {
    const weir_dtype_info* info = weir_dtype_describe(dtype);
    const int64_t part = weir_cpu_rope_part(rope, dtype);
    for (int64_t begin = 0; begin < width; begin += part) {
        const int64_t length = cpu_min(part, width - begin);
        float heads[CPU_ROPE_PART];
        for (int64_t head = 0; head < length; head += rope->head_dim) {
            turn_head(rope, turn, x + begin + head, heads + head);
        }
        WEIR_TRY(
            encode(dtype, heads, length, y + begin / info->block_elements * info->block_bytes));
    }
    return WEIR_OK;
}

// Row i of the tile goes to row `target` + i of the output, in the type that it has.
static weir_status turn_tile(const weir_kernel_call* call, const char* name,
                             const weir_rope_desc* rope, int64_t target) {
    const weir_view* x = &call->views[0];
    const weir_dtype dtype = call->views[call->operand_count - 1].dtype;
    const cpu_span rows = cpu_tile_units(call, x->shape.dims[0]);
    uint64_t position = 0;
    rotation turn;
    WEIR_TRY(cpu_read_param(call, name, rope->position, &position));
    find_frequencies(rope, call->operand_count == 3 ? call->pointers[1] : NULL, &turn);
    for (int64_t row = rows.begin; row < rows.end; row++) {
        const float* from = cpu_row_f32(call, 0, row);
        find_turn(rope, (double)position + (double)row, &turn);
        if (dtype != WEIR_DTYPE_F32) {
            WEIR_TRY(turn_into(rope, &turn, from, x->shape.dims[1], dtype,
                               cpu_output_bytes(call, target + row)));
            continue;
        }
        float* to = cpu_output_row(call, target + row);
        for (int64_t head = 0; head < x->shape.dims[1]; head += rope->head_dim) {
            turn_head(rope, &turn, from + head, to + head);
        }
    }
    return WEIR_OK;
}

weir_status avx512_rope_run(const weir_kernel_call* call) {
    return turn_tile(call, "rope", &((const weir_op_constants*)call->constants)->rope, 0);
}

bool avx512_rope_set_rows_accepts(const weir_kernel_use* use) {
    return weir_cpu_rope_set_rows_accepts(use) &&
           has_whole_vectors(&use->constants->rope_rows.rope);
}

uint32_t avx512_rope_set_rows_tiles(const weir_kernel_use* use) {
    return cpu_rope_tiles(use);
}

weir_status avx512_rope_set_rows_run(const weir_kernel_call* call) {
    const weir_rope_rows_desc* desc = &((const weir_op_constants*)call->constants)->rope_rows;
    int64_t target = 0;
    WEIR_TRY(cpu_rope_target(call, &target));
    return turn_tile(call, "rope_set_rows", &desc->rope, target);
}

bool avx512_set_rows_accepts(const weir_kernel_use* use) {
    return weir_cpu_set_rows_accepts(use) && use->operands[1].dtype == WEIR_DTYPE_F16;
}

uint32_t avx512_set_rows_tiles(const weir_kernel_use* use) {
    return weir_cpu_set_rows_tiles(use);
}

weir_status avx512_set_rows_run(const weir_kernel_call* call) {
    return weir_cpu_set_rows_tile(call, encode);
}
