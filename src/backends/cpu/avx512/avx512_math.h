// Exponentials and sums over vectors, for the kernels beside the products.
#ifndef WEIR_BACKENDS_CPU_AVX512_AVX512_MATH_H
#define WEIR_BACKENDS_CPU_AVX512_AVX512_MATH_H

#include <math.h>

#include "backends/cpu/avx512/avx512_vector.h"

// e^x with an error of at most 1.5 units in the last place (held by test_cpu_vector); infinity
// from 88.7228 on, 0 for everything under -103.98, NaN for NaN.
//
// x = n ln 2 + r, |r| <= ln 2 / 2: e^x = 2^n e^r (Cody and Waite 1980). e^r is 1 + r + r^2 p(r),
// where p interpolates (e^r - 1 - r) / r^2 at the Chebyshev nodes of the interval: the error of
// that alone is 1e-8.
AVX512_INLINE __m512 avx512_exp(__m512 x) {
    // The second operand comes through where one is NaN. Outside of these bounds the result is
    // infinite or 0 anyway, and n would not be a finite number for infinities.
    x = _mm512_max_ps(_mm512_set1_ps(-110.0f), x);
    x = _mm512_min_ps(_mm512_set1_ps(90.0f), x);
    const __m512 magic = _mm512_set1_ps(0x1.8p23f); // added, it leaves the nearest whole number
    const __m512 n =
        _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(0x1.715476p+0f), magic), magic);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e4p-1f), x); // ln 2 to 15 bits: exact
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20f), r);     // and the rest
    __m512 p = _mm512_set1_ps(0x1.6d10fcp-10f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.120b62p-7f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.55551ap-5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.5554dep-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r);
    return _mm512_scalef_ps(_mm512_add_ps(p, _mm512_set1_ps(1.0f)), n);
}

// 2^x for |x| < 1000 in f64, to 1e-15: 2^n times the Taylor series of e^y, |y| <= ln 2 / 2.
AVX512_INLINE __m512d avx512_exp2_f64(__m512d x) {
    const __m512d magic = _mm512_set1_pd(0x1.8p52); // added, it leaves the nearest whole number
    const __m512d n = _mm512_sub_pd(_mm512_add_pd(x, magic), magic);
    const __m512d y = _mm512_mul_pd(_mm512_sub_pd(x, n), _mm512_set1_pd(0x1.62e42fefa39efp-1));
    __m512d p = _mm512_set1_pd(1.0);
    for (int k = 14; k > 0; k--) {
        p = _mm512_fmadd_pd(p, _mm512_mul_pd(y, _mm512_set1_pd(1.0 / k)), _mm512_set1_pd(1.0));
    }
    return _mm512_scalef_pd(p, n);
}

// Sine and cosine in f64, to 1e-10 for |x| < 2^30: x is brought to [-pi/4, pi/4] by multiples of
// pi/2 in two parts (Cody and Waite 1980), where their Taylor series end after x^11 and x^12.
AVX512_INLINE void avx512_sin_cos_f64(__m512d x, __m512d* sine, __m512d* cosine) {
    const __m512d magic = _mm512_set1_pd(0x1.8p52);
    const __m512d turns = _mm512_fmadd_pd(x, _mm512_set1_pd(0x1.45f306dc9c883p-1), magic);
    const __m512d n = _mm512_sub_pd(turns, magic);
    __m512d r = _mm512_fnmadd_pd(n, _mm512_set1_pd(0x1.921fb54442d18p+0), x);
    r = _mm512_fnmadd_pd(n, _mm512_set1_pd(0x1.1a62633145c07p-54), r);
    const __m512d square = _mm512_mul_pd(r, r);
    __m512d s = _mm512_set1_pd(1.0);
    __m512d c = _mm512_set1_pd(1.0);
    for (int k = 10; k > 0; k -= 2) {
        s = _mm512_fnmadd_pd(_mm512_mul_pd(square, _mm512_set1_pd(1.0 / (k * (k + 1)))), s,
                             _mm512_set1_pd(1.0));
    }
    for (int k = 12; k > 0; k -= 2) {
        c = _mm512_fnmadd_pd(_mm512_mul_pd(square, _mm512_set1_pd(1.0 / (k * (k - 1)))), c,
                             _mm512_set1_pd(1.0));
    }
    s = _mm512_mul_pd(s, r);
    // The low bits of `turns` are n: odd quadrants swap both, the second and third turn the sign of
    // the sine, the first and second that of the cosine.
    const __m512i quadrant = _mm512_castpd_si512(turns);
    const __mmask8 odd = _mm512_test_epi64_mask(quadrant, _mm512_set1_epi64(1));
    const __m512i sine_sign = _mm512_slli_epi64(quadrant, 62);
    const __m512i cosine_sign =
        _mm512_slli_epi64(_mm512_add_epi64(quadrant, _mm512_set1_epi64(1)), 62);
    const __m512i sign = _mm512_set1_epi64(INT64_MIN);
    *sine = _mm512_castsi512_pd(_mm512_xor_si512(
        _mm512_castpd_si512(_mm512_mask_blend_pd(odd, s, c)), _mm512_and_si512(sine_sign, sign)));
    *cosine = _mm512_castsi512_pd(_mm512_xor_si512(
        _mm512_castpd_si512(_mm512_mask_blend_pd(odd, c, s)), _mm512_and_si512(cosine_sign, sign)));
}

// The sums of 16 vectors: that of v[i] is lane i.
AVX512_INLINE __m512 avx512_sum_each(const __m512 v[16]) {
    __m512 t[8];
    for (int i = 0; i < 8; i++) {
        t[i] = _mm512_add_ps(_mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]),
                             _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]));
    }
    for (int i = 0; i < 4; i++) {
        const __m512d a = _mm512_castps_pd(t[2 * i]);
        const __m512d b = _mm512_castps_pd(t[2 * i + 1]);
        t[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                             _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    for (int i = 0; i < 2; i++) {
        t[i] = _mm512_add_ps(_mm512_shuffle_f32x4(t[2 * i], t[2 * i + 1], 0x88),
                             _mm512_shuffle_f32x4(t[2 * i], t[2 * i + 1], 0xDD));
    }
    return _mm512_add_ps(_mm512_shuffle_f32x4(t[0], t[1], 0x88),
                         _mm512_shuffle_f32x4(t[0], t[1], 0xDD));
}

// Turns 16 * `vectors` scores, of which `seen` count, into weights e^(score - max), where `max`
// becomes the largest of these and of what it was; the others weigh 0. Returns the sum.
AVX512_INLINE float avx512_weigh(float* scores, const int vectors, int64_t seen, float* max) {
    __m512 largest = _mm512_set1_ps(*max);
    for (int k = 0; k < vectors; k++) {
        const __mmask16 mask = avx512_mask(seen - 16 * k);
        const __m512 found = _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), mask, scores + 16 * k);
        largest = _mm512_max_ps(largest, found);
    }
    *max = _mm512_reduce_max_ps(largest);
    __m512 sum = _mm512_setzero_ps();
    for (int k = 0; k < vectors; k++) {
        const __mmask16 mask = avx512_mask(seen - 16 * k);
        const __m512 distance =
            _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, scores + 16 * k), _mm512_set1_ps(*max));
        const __m512 weights = _mm512_maskz_mov_ps(mask, avx512_exp(distance));
        sum = _mm512_add_ps(sum, weights);
        _mm512_storeu_ps(scores + 16 * k, weights);
    }
    return _mm512_reduce_add_ps(sum);
}

#endif
