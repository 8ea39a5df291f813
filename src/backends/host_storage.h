// Storage in host memory: owned, mapped and wrapped. Shared by the devices whose kernels run there.
#ifndef WEIR_BACKENDS_HOST_STORAGE_H
#define WEIR_BACKENDS_HOST_STORAGE_H

#include "device/backend.h"

// These are entries of a device vtable.
WEIR_MUST_USE weir_status host_storage_allocate(weir_device* device, const weir_storage_desc* desc,
                                                weir_storage** storage);
WEIR_MUST_USE weir_status host_storage_map(weir_device* device, const weir_storage_map_desc* desc,
                                           weir_storage** storage);
WEIR_MUST_USE weir_status host_storage_wrap(weir_device* device, const weir_storage_wrap_desc* desc,
                                            weir_storage** storage);

#endif
