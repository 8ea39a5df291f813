// What this processor has of the instruction sets that there are kernels for, and the system keeps
// the registers of.
#ifndef WEIR_BACKENDS_CPU_CPU_FEATURES_H
#define WEIR_BACKENDS_CPU_CPU_FEATURES_H

#include <stdbool.h>

typedef struct cpu_features {
    bool avx2;         // with FMA and F16C
    bool avx2_vnni;    // that, and AVX-VNNI
    bool avx512;       // F, BW, DQ, VL, VNNI, FMA, F16C
    bool avx512_bf16;  // that, and AVX512_BF16
    bool neon;         // as every AArch64 has it
    bool neon_dotprod; // that, and SDOT
} cpu_features;

cpu_features cpu_features_find(void);

#endif
