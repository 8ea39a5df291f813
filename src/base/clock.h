// The monotonic clock.
#ifndef WEIR_BASE_CLOCK_H
#define WEIR_BASE_CLOCK_H

#include <stdint.h>

// Returns nanoseconds since some fixed moment.
uint64_t clock_ns(void);

#endif
