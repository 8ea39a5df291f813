// The CPU as planning sees it: a target for each instruction set that this build has kernels for.
#ifndef WEIR_BACKENDS_CPU_CPU_TARGET_H
#define WEIR_BACKENDS_CPU_CPU_TARGET_H

#include <weir/target.h>

// The plain kernels, which every processor runs.
extern const weir_target weir_cpu_target;

// Returns one after another the targets that this processor runs, the best first, the plain one
// last; NULL beyond that. Two may have the same name: the same instruction set, with and without an
// addition to it. One that rounds more than the others, for speed, is not the best.
const weir_target* weir_cpu_target_at(uint32_t index);

// Return the best target of a name, NULL where this processor lacks it; the best of all is the one
// that "cpu" stands for.
const weir_target* weir_cpu_target_best(void);
const weir_target* weir_cpu_target_plain(void);
const weir_target* weir_cpu_target_avx2(void);
const weir_target* weir_cpu_target_avx512(void);
const weir_target* weir_cpu_target_avx512_bf16(void);
const weir_target* weir_cpu_target_neon(void);

#endif
