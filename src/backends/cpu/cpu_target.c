#include "backends/cpu/cpu_target.h"

#include "backends/cpu/kernels/cpu_kernels.h"
#ifdef WEIR_CPU_AVX512
#include "backends/cpu/avx512/avx512_kernels.h"
#endif

static uint64_t no_scratch(const weir_kernel_use* use) {
    (void)use;
    return 0;
}

#define CPU_KERNEL_ROW(kernel, operation)                                                          \
    {.name = #kernel,                                                                              \
     .op = WEIR_OP_##operation,                                                                    \
     .accepts = weir_cpu_##kernel##_accepts,                                                       \
     .tile_count = weir_cpu_##kernel##_tiles,                                                      \
     .scratch_bytes = no_scratch,                                                                  \
     .run = weir_cpu_##kernel##_run},

static const weir_kernel plain_kernels[] = {CPU_KERNEL_LIST(CPU_KERNEL_ROW)};

// Arena values start on cache lines, so that tiles of different values never share one.
const weir_target weir_cpu_target = {
    .name = "cpu:plain",
    .waits = WEIR_WAIT_EDGES,
    .alignment = 64,
    .kernels = plain_kernels,
    .kernel_count = sizeof plain_kernels / sizeof plain_kernels[0],
};

#ifdef WEIR_CPU_AVX512

// The first kernel that accepts an operation is taken: those of the instruction set, then the plain
// ones.
#define AVX512_KERNEL_ROW(kernel, operation)                                                       \
    {.name = #kernel "_avx512",                                                                    \
     .op = WEIR_OP_##operation,                                                                    \
     .accepts = avx512_##kernel##_accepts,                                                         \
     .tile_count = avx512_##kernel##_tiles,                                                        \
     .scratch_bytes = no_scratch,                                                                  \
     .run = avx512_##kernel##_run},

static const weir_kernel avx512_kernels[] = {AVX512_KERNEL_LIST(AVX512_KERNEL_ROW)
                                                 CPU_KERNEL_LIST(CPU_KERNEL_ROW)};

static const weir_target avx512_target = {
    .name = "cpu:avx512",
    .waits = WEIR_WAIT_EDGES,
    .alignment = 64,
    .kernels = avx512_kernels,
    .kernel_count = sizeof avx512_kernels / sizeof avx512_kernels[0],
};

// F16C came before AVX2, and clang 14 cannot ask for it.
static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
}

const weir_target* weir_cpu_target_avx512(void) {
    return has_avx512() ? &avx512_target : NULL;
}

#else

const weir_target* weir_cpu_target_avx512(void) {
    return NULL;
}

#endif

const weir_target* weir_cpu_target_best(void) {
    const weir_target* avx512 = weir_cpu_target_avx512();
    return avx512 ? avx512 : &weir_cpu_target;
}

const weir_target* weir_cpu_target_plain(void) {
    return &weir_cpu_target;
}
