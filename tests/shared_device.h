// The device of WEIR_TEST_DEVICE, opened once for the tests of a program that run models: it
// compiles its kernels once then, where a driver without a GPU takes seconds for them. Elsewhere
// each fixture has a device of its own.
#ifndef WEIR_TESTS_SHARED_DEVICE_H
#define WEIR_TESTS_SHARED_DEVICE_H

#include "testing.h"

#include <weir/vulkan.h>

#include "test_card.h"

static weir_device* shared_devices[2]; // as it is, and one whose products do not round x

// Opens a device, or returns the shared one; `plain` asks for kernels that round no activations.
// Skips the program where the device of WEIR_TEST_DEVICE is not there.
static inline weir_device* open_test_device(const char* name, uint32_t threads, bool plain) {
    weir_device* device = test_device() ? shared_devices[plain] : NULL;
    if (device) {
        return device;
    }
    const weir_device_desc desc = {.name = test_device() ? test_device() : name,
                                   .thread_count = threads,
                                   .vulkan = test_card()};
    const weir_status status = weir_device_create(&desc, &device);
    need_test_device(status);
    assert_ok(status);
    if (plain && test_device() && strncmp(test_device(), "vulkan", 6) == 0) {
        static const weir_vulkan_tuning exact = {.unit_x = WEIR_VULKAN_X_F32,
                                                 .tile_x = WEIR_VULKAN_X_F32};
        assert_ok(weir_vulkan_tune(device, &exact));
    }
    shared_devices[plain] = test_device() ? device : NULL;
    return device;
}

// Destroys a device that is not shared.
static inline void close_test_device(weir_device* device) {
    if (!device || (device != shared_devices[0] && device != shared_devices[1])) {
        weir_device_destroy(device);
    }
}

// Destroys what is shared, after the last test.
static inline int close_shared_devices(void** state) {
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        weir_device_destroy(shared_devices[plain]);
        shared_devices[plain] = NULL;
    }
    return 0;
}

#endif
