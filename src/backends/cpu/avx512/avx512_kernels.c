#include "backends/cpu/avx512/avx512_kernels.h"

#include "backends/cpu/avx512/avx512_products.h"

CPU_PRODUCT_LIST(CPU_PRODUCT_DEFINE, avx512)
CPU_PRODUCT_LIST(CPU_PRODUCT_DEFINE, avx512_bf16)
