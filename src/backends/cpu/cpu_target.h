// The CPU as planning sees it.
#ifndef WEIR_BACKENDS_CPU_CPU_TARGET_H
#define WEIR_BACKENDS_CPU_CPU_TARGET_H

#include <weir/target.h>

extern const weir_target weir_cpu_target;

#endif
