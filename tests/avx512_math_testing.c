#include "avx512_math_testing.h"

#include "backends/cpu/avx512/avx512_math.h"

void avx512_exp_testing(const float x[16], float y[16]) {
    _mm512_storeu_ps(y, avx512_exp(_mm512_loadu_ps(x)));
}

void avx512_exp2_testing(const double x[8], double y[8]) {
    _mm512_storeu_pd(y, avx512_exp2_f64(_mm512_loadu_pd(x)));
}

void avx512_sin_cos_testing(const double x[8], double sine[8], double cosine[8]) {
    __m512d s;
    __m512d c;
    avx512_sin_cos_f64(_mm512_loadu_pd(x), &s, &c);
    _mm512_storeu_pd(sine, s);
    _mm512_storeu_pd(cosine, c);
}
