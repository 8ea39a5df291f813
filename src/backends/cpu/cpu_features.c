#include "backends/cpu/cpu_features.h"

#include <stdint.h>

#if defined(__x86_64__)

#include <cpuid.h>

// Bits of CPUID (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E) and of XCR0 (SDM volume
// 1, section 13.3).
#define LEAF1_ECX_FMA (1u << 12)
#define LEAF1_ECX_OSXSAVE (1u << 27)
#define LEAF1_ECX_F16C (1u << 29)
#define LEAF7_EBX_AVX2 (1u << 5)
#define LEAF7_EBX_AVX512 (1u << 16 | 1u << 17 | 1u << 30 | 1u << 31) // F, DQ, BW, VL
#define LEAF7_ECX_AVX512_VNNI (1u << 11)
#define LEAF7_1_EAX_AVX_VNNI (1u << 4)
#define LEAF7_1_EAX_AVX512_BF16 (1u << 5)
#define XCR0_AVX 0x06u    // xmm and ymm
#define XCR0_AVX512 0xE6u // and masks, zmm

static bool has(uint32_t bits, uint32_t wanted) {
    return (bits & wanted) == wanted;
}

// The registers whose contents the system keeps.
static uint32_t kept_state(void) {
    uint32_t low = 0;
    uint32_t high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

cpu_features cpu_features_find(void) {
    cpu_features found = {0};
    uint32_t eax = 0;
    uint32_t ebx = 0;
    uint32_t ecx = 0;
    uint32_t edx = 0;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) ||
        !has(ecx, LEAF1_ECX_FMA | LEAF1_ECX_OSXSAVE | LEAF1_ECX_F16C)) {
        return found;
    }
    const uint32_t kept = kept_state();
    if (!has(kept, XCR0_AVX) || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
        return found;
    }
    const uint32_t last_subleaf = eax;
    found.avx2 = has(ebx, LEAF7_EBX_AVX2);
    found.avx512 = found.avx2 && has(kept, XCR0_AVX512) && has(ebx, LEAF7_EBX_AVX512) &&
                   has(ecx, LEAF7_ECX_AVX512_VNNI);
    if (last_subleaf >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) {
        found.avx2_vnni = found.avx2 && has(eax, LEAF7_1_EAX_AVX_VNNI);
        found.avx512_bf16 = found.avx512 && has(eax, LEAF7_1_EAX_AVX512_BF16);
    }
    return found;
}

#elif defined(__aarch64__)

#include <sys/auxv.h>

#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1ul << 20) // asm/hwcap.h of Linux
#endif

cpu_features cpu_features_find(void) {
    return (cpu_features){.neon = true, .neon_dotprod = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0};
}

#else

cpu_features cpu_features_find(void) {
    return (cpu_features){0};
}

#endif
