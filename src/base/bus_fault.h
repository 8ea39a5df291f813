// Mappings of files that are watched for pages which the file has no more.
//
// The table of watched mappings is read by a signal handler, in any thread and at any moment: it
// takes no lock and is never freed. An entry changes under an odd generation, and is believed when
// the generation was even and the same before and after (a sequence lock, Lameter 2005). The entry
// over a faulting address cannot change meanwhile: whoever touches a mapping keeps it.
#ifndef WEIR_BASE_BUS_FAULT_H
#define WEIR_BASE_BUS_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <weir/fault.h>

typedef struct bus_watch bus_watch;

// Watches a mapping from now on; to be undone before it is unmapped.
//
// Errors: WEIR_OUT_OF_MEMORY.
WEIR_MUST_USE weir_status bus_fault_watch(const void* base, size_t byte_size, bus_watch** watch);
void bus_fault_unwatch(bus_watch* watch);

// Returns the lowest address that was lost, UINTPTR_MAX for none; marks an address as lost.
uintptr_t bus_fault_lost(const bus_watch* watch);
void bus_fault_lose(bus_watch* watch, uintptr_t address);

// Tells whether the handler is installed.
bool bus_fault_is_handled(void);

// Tells whether the calling thread may touch watched mappings: there is no handler, or the signal
// reaches it.
bool bus_fault_is_safe_here(void);

// Lets the signal reach the calling thread: one that is blocked would end the process.
void bus_fault_unblock(void);

#endif
