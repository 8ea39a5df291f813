// The products of NEON with SDOT.
#include "backends/cpu/neon/neon_lanes.h"
#include "backends/cpu/products/product_kernels.h"

#define LANES_SET neon_dotprod_products
#include "backends/cpu/lanes/lanes_products.h"

CPU_PRODUCT_LIST(CPU_PRODUCT_DECLARE, neon_dotprod)
CPU_PRODUCT_LIST(CPU_PRODUCT_DEFINE, neon_dotprod)
