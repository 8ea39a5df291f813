// How much memory the machine has.
#ifndef WEIR_BASE_MEMORY_SIZE_H
#define WEIR_BASE_MEMORY_SIZE_H

#include <stdint.h>
#include <unistd.h>

// Returns the bytes of physical memory, 0 where the system does not tell.
static inline uint64_t memory_size(void) {
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
}

#endif
