// The vector functions of the AVX-512 kernels, compiled for that instruction set: call them only
// where the processor has it.
#ifndef WEIR_TESTS_AVX512_MATH_TESTING_H
#define WEIR_TESTS_AVX512_MATH_TESTING_H

void avx512_exp_testing(const float x[16], float y[16]);
void avx512_exp2_testing(const double x[8], double y[8]);
void avx512_sin_cos_testing(const double x[8], double sine[8], double cosine[8]);

#endif
