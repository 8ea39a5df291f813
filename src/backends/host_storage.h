// Storage in host memory: owned, mapped and wrapped. Shared by the devices whose kernels run there.
#ifndef WEIR_BACKENDS_HOST_STORAGE_H
#define WEIR_BACKENDS_HOST_STORAGE_H

#include "base/file_map.h"
#include "device/backend.h"

// These are entries of a device vtable.
WEIR_MUST_USE weir_status host_storage_allocate(weir_device* device, const weir_storage_desc* desc,
                                                weir_storage** storage);
WEIR_MUST_USE weir_status host_storage_map(weir_device* device, const weir_storage_map_desc* desc,
                                           weir_storage** storage);
WEIR_MUST_USE weir_status host_storage_wrap(weir_device* device, const weir_storage_wrap_desc* desc,
                                            weir_storage** storage);

// Names a mapping by its file: bytes of a file are the same through every mapping of it. Sets size,
// identity and host address of the storage; undone by host_storage_forget_file, which does nothing
// where this failed.
//
// Errors: WEIR_OUT_OF_MEMORY.
WEIR_MUST_USE weir_status host_storage_name_file(weir_storage* storage, const file_map* map,
                                                 uint64_t byte_offset);
void host_storage_forget_file(weir_storage* storage, const file_map* map);

// The entry of a storage vtable for what may be a mapping.
//
// Errors: WEIR_UNSUPPORTED it is none; WEIR_IO.
WEIR_MUST_USE weir_status host_storage_advise(weir_storage* storage, file_map* map,
                                              uint64_t byte_offset, uint64_t byte_size,
                                              weir_advice advice);

#endif
