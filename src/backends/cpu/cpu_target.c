#include "backends/cpu/cpu_target.h"

#include "backends/cpu/kernels/cpu_kernels.h"

static uint64_t no_scratch(const weir_kernel_use* use) {
    (void)use;
    return 0;
}

static const weir_kernel kernels[] = {
#define CPU_KERNEL_ROW(kernel, operation)                                                          \
    {.name = #kernel,                                                                              \
     .op = WEIR_OP_##operation,                                                                    \
     .accepts = weir_cpu_##kernel##_accepts,                                                       \
     .tile_count = weir_cpu_##kernel##_tiles,                                                      \
     .scratch_bytes = no_scratch,                                                                  \
     .run = weir_cpu_##kernel##_run},
    CPU_KERNEL_LIST(CPU_KERNEL_ROW)
#undef CPU_KERNEL_ROW
};

// Arena values start on cache lines, so that tiles of different values never share one.
const weir_target weir_cpu_target = {
    .name = "cpu",
    .waits = WEIR_WAIT_EDGES,
    .alignment = 64,
    .kernels = kernels,
    .kernel_count = sizeof kernels / sizeof kernels[0],
};
