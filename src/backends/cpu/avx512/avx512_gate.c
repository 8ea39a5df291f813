// The gate of AVX-512: sixteen numbers at a time.
#include "backends/cpu/avx512/avx512_math.h"
#include "backends/cpu/avx512/avx512_products.h"

// y = gate / (1 + e^-gate) * up. Where e^-gate is infinite the gate, under 3e-37 in size, becomes
// -0.
void avx512_silu_gate(const float* gate, const float* up, int64_t count, float* y) {
    for (int64_t i = 0; i < count; i += 16) {
        const __mmask16 mask = avx512_mask(count - i);
        const __m512 z = _mm512_maskz_loadu_ps(mask, gate + i);
        const __m512 e = avx512_exp(_mm512_sub_ps(_mm512_setzero_ps(), z));
        const __m512 silu = _mm512_div_ps(z, _mm512_add_ps(_mm512_set1_ps(1.0f), e));
        const __m512 gated = _mm512_mul_ps(silu, _mm512_maskz_loadu_ps(mask, up + i));
        _mm512_mask_storeu_ps(y + i, mask, gated);
    }
}
