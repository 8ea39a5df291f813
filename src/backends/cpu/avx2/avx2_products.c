// The products of AVX2 with FMA and F16C.
#include "backends/cpu/avx2/avx2_lanes.h"
#include "backends/cpu/products/product_kernels.h"

#define LANES_SET avx2_products
#include "backends/cpu/lanes/lanes_products.h"

CPU_PRODUCT_LIST(CPU_PRODUCT_DECLARE, avx2)
CPU_PRODUCT_LIST(CPU_PRODUCT_DEFINE, avx2)
