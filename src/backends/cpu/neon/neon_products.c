// The products of NEON as every AArch64 has it.
#include "backends/cpu/neon/neon_lanes.h"
#include "backends/cpu/products/product_kernels.h"

#define LANES_SET neon_products
#include "backends/cpu/lanes/lanes_products.h"

CPU_PRODUCT_LIST(CPU_PRODUCT_DECLARE, neon)
CPU_PRODUCT_LIST(CPU_PRODUCT_DEFINE, neon)
