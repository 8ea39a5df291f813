// The processors that a process may use, as Linux tells: affinity, cores, and what its control
// groups grant.
#ifndef WEIR_BACKENDS_CPU_TOPOLOGY_H
#define WEIR_BACKENDS_CPU_TOPOLOGY_H

#include <sched.h>
#include <stdint.h>
#include <weir/allocator.h>

// Sets are as large as the system needs: the type cpu_set_t alone ends at 1024 processors.
typedef struct cpu_topology {
    cpu_set_t* first; // [set_bytes] one hardware thread of each core that has any
    size_t set_bytes;
    uint32_t thread_count;  // hardware threads that may be used, at least 1
    uint32_t core_count;    // cores that they belong to
    uint32_t granted_count; // processors' worth of time, rounded down, at least 1
} cpu_topology;

// Reads the topology for the processors of `allowed`, a set of `set_bytes`. `root` stands before
// the paths of the system: "" but in tests. What cannot be read is no limit; a thread without
// siblings is a core. Release it with cpu_topology_free.
//
// Errors: WEIR_OUT_OF_MEMORY.
WEIR_MUST_USE weir_status cpu_topology_read(const weir_allocator* allocator, const char* root,
                                            const cpu_set_t* allowed, size_t set_bytes,
                                            cpu_topology* topology);

// As cpu_topology_read, for this process.
WEIR_MUST_USE weir_status cpu_topology_read_own(const weir_allocator* allocator,
                                                cpu_topology* topology);

void cpu_topology_free(const weir_allocator* allocator, cpu_topology* topology);

// Workers that get the most out of it: one for each core, and no more than are granted. A second
// thread of a core has the same arithmetic and the same path to memory.
uint32_t cpu_topology_workers(const cpu_topology* topology);

#endif
