// The CPU as planning sees it.
#ifndef WEIR_BACKENDS_CPU_CPU_TARGET_H
#define WEIR_BACKENDS_CPU_CPU_TARGET_H

#include <weir/target.h>

// The plain kernels, which every processor runs.
extern const weir_target weir_cpu_target;

// Return the targets of an instruction set, NULL where this processor lacks it; the best is the one
// that "cpu" stands for.
const weir_target* weir_cpu_target_best(void);
const weir_target* weir_cpu_target_plain(void);
const weir_target* weir_cpu_target_avx512(void);

#endif
