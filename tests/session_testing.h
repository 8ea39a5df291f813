// What the tests of sessions share: devices, storages, and kernels that show what was run and when.
#ifndef WEIR_TESTS_SESSION_TESTING_H
#define WEIR_TESTS_SESSION_TESTING_H

#include "testing.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <weir/weir.h>

#include "test_card.h"
#include "testing_allocator.h"

static inline void sleep_us(uint64_t microseconds) {
    const struct timespec time = {.tv_sec = (time_t)(microseconds / 1000000),
                                  .tv_nsec = (long)(microseconds % 1000000) * 1000};
    nanosleep(&time, NULL);
}

static inline uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline weir_device* open_device(const char* name, uint32_t threads,
                                       test_allocator* counter) {
    weir_device_desc desc = {.name = name, .thread_count = threads, .vulkan = test_card()};
    if (counter) {
        desc.allocator = test_allocator_of(counter);
    }
    weir_device* device = NULL;
    assert_ok(weir_device_create(&desc, &device));
    return device;
}

// A null device that completes work when the test says so.
static inline weir_device* open_manual(void) {
    const weir_device_desc desc = {.name = "null", .manual_completion = true};
    weir_device* device = NULL;
    assert_ok(weir_device_create(&desc, &device));
    return device;
}

static inline weir_storage* allocate_zeros(weir_device* device, uint64_t byte_size) {
    const weir_storage_desc desc = {
        .byte_size = byte_size, .fill = WEIR_FILL_ZERO, .name = "zeros"};
    weir_storage* storage = NULL;
    assert_ok(weir_storage_allocate(device, &desc, &storage));
    return storage;
}

static inline weir_view floats_of(weir_storage* storage, uint64_t byte_offset, int64_t count) {
    const weir_shape shape = weir_shape_make(1, &count);
    weir_view view;
    assert_ok(weir_view_make(storage, byte_offset, WEIR_DTYPE_F32, &shape, &view));
    return view;
}

static inline void count_release(void* context, void* pointer) {
    (void)pointer;
    ++*(int*)context;
}

static inline weir_storage* wrap_counted(weir_device* device, void* pointer, uint64_t byte_size,
                                         int* released) {
    const weir_storage_wrap_desc desc = {
        .pointer = pointer, .byte_size = byte_size, .release = count_release, .context = released};
    weir_storage* storage = NULL;
    assert_ok(weir_storage_wrap(device, &desc, &storage));
    return storage;
}

// A tile hook that holds up some tiles; the context counts its calls.
static inline void delay_some_tiles(void* context, uint32_t worker, const char* name,
                                    uint32_t dispatch, uint32_t tile, bool begin) {
    const uint64_t call = atomic_fetch_add((atomic_uint*)context, 1);
    const uint64_t choice = (call * 64 + dispatch + tile + begin) * 0x9E3779B97F4A7C15u >> 48;
    (void)name;
    (void)worker;
    if (choice % 8 == 0) {
        sleep_us(choice % 200);
    }
}

// Adds the constant to the first element, if it lies where it should.
static inline weir_status check_aligned_constant(const weir_kernel_call* call) {
    if ((uintptr_t)call->constants % 16 != 0) {
        return WEIR_FAIL(WEIR_INTERNAL, "constants at %p", call->constants);
    }
    *(float*)call->pointers[0] += *(const float*)call->constants;
    return WEIR_OK;
}

// y = y / 2 + constant: the order of passes can be read off the result.
static inline weir_status scale_and_add(const weir_kernel_call* call) {
    float* y = call->pointers[0];
    for (int64_t i = call->tile; i < call->views[0].shape.dims[0]; i += call->tile_count) {
        y[i] = y[i] * 0.5f + *(const float*)call->constants;
    }
    return WEIR_OK;
}

// Runs a test, which gets the name of the device as its state, on the CPU and on the null device.
#define ON_BOTH(test)                                                                              \
    {#test " on cpu", (test), NULL, NULL, "cpu"}, {                                                \
#test " on null", (test), NULL, NULL, "null"                                               \
    }

#endif
