#include "backends/cpu/cpu_target.h"

#include <string.h>

#include "backends/cpu/cpu_features.h"
#include "backends/cpu/kernels/cpu_kernels.h"
#include "backends/cpu/products/product_kernels.h"
#ifdef WEIR_CPU_X86
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

// The first kernel that accepts an operation is taken: those of the instruction set, then the plain
// ones.
#define SET_TARGET(set, device)                                                                    \
    static const weir_target set##_target = {                                                      \
        .name = "cpu:" #device,                                                                    \
        .waits = WEIR_WAIT_EDGES,                                                                  \
        .alignment = 64,                                                                           \
        .kernels = set##_kernels,                                                                  \
        .kernel_count = sizeof set##_kernels / sizeof set##_kernels[0],                            \
    };

#define SET_KERNEL_ROW(set, kernel, operation)                                                     \
    {.name = #kernel "_" #set,                                                                     \
     .op = WEIR_OP_##operation,                                                                    \
     .accepts = set##_##kernel##_accepts,                                                          \
     .tile_count = set##_##kernel##_tiles,                                                         \
     .scratch_bytes = no_scratch,                                                                  \
     .run = set##_##kernel##_run},

// A set that brings products and nothing else.
#define PRODUCT_SET(set, device)                                                                   \
    CPU_PRODUCT_LIST(CPU_PRODUCT_DECLARE, set)                                                     \
    static const weir_kernel set##_kernels[] = {CPU_PRODUCT_LIST(SET_KERNEL_ROW, set)              \
                                                    CPU_KERNEL_LIST(CPU_KERNEL_ROW)};              \
    SET_TARGET(set, device)

#if defined(WEIR_CPU_X86)

#define AVX512_KERNEL_ROW(kernel, operation) SET_KERNEL_ROW(avx512, kernel, operation)

#define AVX512_ATTENTION_ROW                                                                       \
    {.name = "attention_avx512",                                                                   \
     .op = WEIR_OP_ATTENTION,                                                                      \
     .accepts = avx512_attention_accepts,                                                          \
     .tile_count = avx512_attention_tiles,                                                         \
     .scratch_bytes = avx512_attention_scratch,                                                    \
     .run = avx512_attention_run,                                                                  \
     .joins = true},

#define AVX512_KERNEL_ROWS                                                                         \
    AVX512_KERNEL_LIST(AVX512_KERNEL_ROW)                                                          \
    AVX512_ATTENTION_ROW CPU_KERNEL_LIST(CPU_KERNEL_ROW)

static const weir_kernel avx512_kernels[] = {AVX512_KERNEL_ROWS};
SET_TARGET(avx512, avx512)

static const weir_kernel avx512_bf16_kernels[] = {CPU_PRODUCT_LIST(SET_KERNEL_ROW, avx512_bf16)
                                                      AVX512_KERNEL_ROWS};
SET_TARGET(avx512_bf16, avx512_bf16)

PRODUCT_SET(avx2, avx2)
PRODUCT_SET(avx2_vnni, avx2)

#elif defined(WEIR_CPU_ARM)

PRODUCT_SET(neon, neon)
PRODUCT_SET(neon_dotprod, neon)

#endif

const weir_target* weir_cpu_target_at(uint32_t index) {
    const weir_target* targets[5];
    uint32_t count = 0;
    const cpu_features has = cpu_features_find();
    (void)has;
#if defined(WEIR_CPU_X86)
    if (has.avx512) {
        targets[count++] = &avx512_target;
    }
    if (has.avx512_bf16) {
        targets[count++] = &avx512_bf16_target;
    }
    if (has.avx2_vnni) {
        targets[count++] = &avx2_vnni_target;
    }
    if (has.avx2) {
        targets[count++] = &avx2_target;
    }
#elif defined(WEIR_CPU_ARM)
    if (has.neon_dotprod) {
        targets[count++] = &neon_dotprod_target;
    }
    if (has.neon) {
        targets[count++] = &neon_target;
    }
#endif
    targets[count++] = &weir_cpu_target;
    return index < count ? targets[index] : NULL;
}

static const weir_target* find(const char* name) {
    const weir_target* target = NULL;
    for (uint32_t i = 0; (target = weir_cpu_target_at(i)) != NULL; i++) {
        if (strcmp(target->name, name) == 0) {
            return target;
        }
    }
    return NULL;
}

const weir_target* weir_cpu_target_best(void) {
    return weir_cpu_target_at(0);
}

const weir_target* weir_cpu_target_plain(void) {
    return &weir_cpu_target;
}

const weir_target* weir_cpu_target_avx2(void) {
    return find("cpu:avx2");
}

const weir_target* weir_cpu_target_avx512(void) {
    return find("cpu:avx512");
}

const weir_target* weir_cpu_target_avx512_bf16(void) {
    return find("cpu:avx512_bf16");
}

const weir_target* weir_cpu_target_neon(void) {
    return find("cpu:neon");
}
