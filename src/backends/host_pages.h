// Pages of host memory: addresses reserved and committed by parts, bytes kept resident. Shared by
// the devices whose kernels run there.
#ifndef WEIR_BACKENDS_HOST_PAGES_H
#define WEIR_BACKENDS_HOST_PAGES_H

#include "device/backend.h"

// Returns the bytes of one page.
uint64_t host_pages_size(void);

// These are entries of a device vtable.
WEIR_MUST_USE weir_status host_pages_reserve(weir_device* device, uint64_t byte_size,
                                             const char* name, weir_storage** storage);
WEIR_MUST_USE weir_status host_pages_commit(weir_storage* storage, uint64_t begin, uint64_t end);
void host_pages_decommit(weir_storage* storage, uint64_t begin, uint64_t end);
WEIR_MUST_USE weir_status host_pages_hold(const weir_storage* storage, weir_residency_mode mode,
                                          int priority);
void host_pages_let_go(const weir_storage* storage, void* pages, uint64_t byte_size,
                       weir_residency_mode mode);

#endif
