// What is looked at in code of the caller before a driver gets it.
#ifndef WEIR_BACKENDS_VULKAN_CODE_H
#define WEIR_BACKENDS_VULKAN_CODE_H

#include <weir/kernel.h>

// Checks that code has the form of SPIR-V and an entry for compute of the name `entry`, and that
// the storage buffers it declares are in set 0 below `binding_count`. Drivers check none of it.
//
// Errors: WEIR_INVALID_ARGUMENT.
WEIR_MUST_USE weir_status vulkan_code_check(const uint32_t* words, size_t byte_size,
                                            const char* entry, uint32_t binding_count);

#endif
