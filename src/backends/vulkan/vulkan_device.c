#include "backends/vulkan/vulkan_device.h"

#include <assert.h>

#include "base/log_line.h"

#define CUT_COLUMNS_MAX 32
#define CUT_THREADS_MAX 256
#define CUT_THREADS_STEP 32

static_assert(offsetof(vulkan_device, base) == 0, "the base comes first");

void vulkan_device_close(vulkan_device* device) {
    const weir_allocator allocator = device->base.allocator;
    if (device->handle) {
        vulkan_queue_close(device);
        vulkan_pipelines_close(device);
        if (!device->borrowed && device->instance.api.DestroyDevice) {
            device->instance.api.DestroyDevice(device->handle, NULL);
        }
    }
    vulkan_instance_close(&device->instance);
    pthread_cond_destroy(&device->waiter_wake);
    pthread_mutex_destroy(&device->waiter_lock);
    pthread_mutex_destroy(&device->queue_lock);
    weir_device_finish(&device->base);
    object_free(&allocator, device);
}

static void destroy(weir_device* base) {
    weir_device_drain(base);
    vulkan_device_close(vulkan_device_of(base));
}

static const device_vtable vulkan_device_vtable = {
    .destroy = destroy,
    .allocate = vulkan_storage_allocate,
    .map = vulkan_storage_map,
    .wrap = vulkan_storage_wrap,
    .reserve = weir_reserve_whole,
    .commit = weir_commit_nothing,
    .decommit = weir_decommit_nothing,
    .memory = vulkan_device_memory,
    .hold = vulkan_storage_hold,
    .let_go = vulkan_storage_let_go,
    .prepare = vulkan_work_create,
};

static uint32_t list_extensions(const vulkan_probe* probe, const char** names) {
    uint32_t count = 0;
#define VULKAN_EXTENSION_NAME(field, extension)                                                    \
    if (probe->field) {                                                                            \
        names[count++] = extension;                                                                \
    }
    VULKAN_EXTENSION_LIST(VULKAN_EXTENSION_NAME)
#undef VULKAN_EXTENSION_NAME
    return count;
}

weir_status vulkan_device_make(vulkan_device* device) {
    const vulkan_probe* probe = &device->probe;
    const float priority = 1.0f;
    const char* extensions[VULKAN_EXTENSIONS_MAX];
    VkDeviceQueueCreateInfo queues[2] = {{.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                          .queueFamilyIndex = probe->queue_family,
                                          .queueCount = 1,
                                          .pQueuePriorities = &priority}};
    queues[1] = queues[0];
    queues[1].queueFamilyIndex = probe->copy_family;
    VkPhysicalDevicePageableDeviceLocalMemoryFeaturesEXT pageable = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PAGEABLE_DEVICE_LOCAL_MEMORY_FEATURES_EXT,
        .pageableDeviceLocalMemory = VK_TRUE};
    VkPhysicalDeviceMemoryPriorityFeaturesEXT priorities = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PRIORITY_FEATURES_EXT,
        .pNext = probe->pageable_memory ? &pageable : NULL,
        .memoryPriority = VK_TRUE};
    VkPhysicalDeviceShaderIntegerDotProductFeatures dots = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES,
        .pNext = probe->memory_priority ? &priorities : NULL,
        .shaderIntegerDotProduct = VK_TRUE};
    VkPhysicalDeviceSynchronization2Features synchronization = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SYNCHRONIZATION_2_FEATURES,
        .pNext = probe->integer_dot ? &dots : dots.pNext,
        .synchronization2 = VK_TRUE};
    VkPhysicalDeviceVulkan12Features core12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .pNext = &synchronization,
        .storageBuffer8BitAccess = VK_TRUE,
        .shaderFloat16 = probe->float16,
        .shaderInt8 = probe->int8};
    VkPhysicalDeviceVulkan11Features core11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
        .pNext = &core12,
        .storageBuffer16BitAccess = VK_TRUE};
    const VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                     .pNext = &core11,
                                     .queueCreateInfoCount =
                                         probe->copy_family == VULKAN_NO_QUEUE ? 1 : 2,
                                     .pQueueCreateInfos = queues,
                                     .enabledExtensionCount = list_extensions(probe, extensions),
                                     .ppEnabledExtensionNames = extensions};
    VULKAN_TRY("vkCreateDevice",
               device->instance.api.CreateDevice(probe->handle, &info, NULL, &device->handle));
    WEIR_TRY(vulkan_api_device(&device->instance.api, device->handle));
    device->instance.api.GetDeviceQueue(device->handle, probe->queue_family, 0, &device->queue);
    if (probe->copy_family != VULKAN_NO_QUEUE) {
        device->copy_family = probe->copy_family;
        device->instance.api.GetDeviceQueue(device->handle, probe->copy_family, 0,
                                            &device->copy_queue);
    }
    return WEIR_OK;
}

static weir_status make_locks(vulkan_device* device) {
    const bool made = pthread_mutex_init(&device->queue_lock, NULL) == 0 &&
                      pthread_mutex_init(&device->waiter_lock, NULL) == 0 &&
                      pthread_cond_init(&device->waiter_wake, NULL) == 0;
    return made ? WEIR_OK : WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot make the locks of a device");
}

// Where invocations are loops of a processor a workgroup has few, and is compiled quickly.
// x is rounded where that spares the device work.
static weir_vulkan_tuning usual_tuning(const vulkan_device* device) {
    const vulkan_probe* probe = &device->probe;
    weir_vulkan_tuning tuning = {.few_columns = 4,
                                 .few_threads = 128,
                                 .unit_columns = 16,
                                 .unit_threads = 64,
                                 .groups_wanted = 512,
                                 .unit_x = WEIR_VULKAN_X_F32,
                                 .held_columns = 4,
                                 .held_threads = 256,
                                 .held_groups = 264,
                                 .tile_columns = 128,
                                 .tiles_wanted = 256,
                                 .tile_x = WEIR_VULKAN_X_F32};
    if (probe->type == VK_PHYSICAL_DEVICE_TYPE_CPU) {
        tuning.few_columns = tuning.unit_columns = 8;
        tuning.few_threads = tuning.unit_threads = tuning.held_threads = 32;
        tuning.groups_wanted = tuning.held_groups = tuning.tiles_wanted = 1;
    }
    if (probe->integer_dot && probe->fast_dots) {
        tuning.unit_x = WEIR_VULKAN_X_8_BITS;
        tuning.tile_x = probe->float16 ? WEIR_VULKAN_X_F16 : WEIR_VULKAN_X_F32;
    }
    return tuning;
}

weir_status vulkan_device_start(vulkan_device* device, const weir_device_desc* desc) {
    if (desc->vulkan) {
        device->options = *desc->vulkan;
        vulkan_probe_limit(&device->probe, desc->vulkan);
    }
    device->heap = vulkan_memory_heap(&device->probe, VULKAN_PLACE_DEVICE);
    device->base.budgets_kernels =
        device->heap == vulkan_memory_heap(&device->probe, VULKAN_PLACE_KERNELS);
    device->base.target = vulkan_probe_target(&device->probe, &device->base.target);
    if (!device->copy_queue) {
        device->copy_queue = device->queue;
        device->copy_family = device->probe.queue_family;
    }
    device->tuning = usual_tuning(device);
    WEIR_TRY(vulkan_pipelines_open(device, desc->cache_path));
    WEIR_TRY(vulkan_queue_open(device));
    log_line(&device->base.log, WEIR_LOG_INFO, "vulkan: %s", device->probe.name);
    return WEIR_OK;
}

static weir_status open(vulkan_device* device, const weir_device_desc* desc,
                        const vulkan_layers* layers) {
    WEIR_TRY(vulkan_instance_open(&desc->allocator, layers, &device->instance));
    WEIR_TRY(vulkan_probe_find(&device->instance, desc->name, &device->probe));
    WEIR_TRY(vulkan_device_make(device));
    return vulkan_device_start(device, desc);
}

bool vulkan_is_device(const weir_device* device) {
    return device->vtable == &vulkan_device_vtable;
}

weir_status vulkan_device_new(const weir_device_desc* desc, const weir_target* target,
                              vulkan_device** device) {
    vulkan_device* made = NULL;
    WEIR_TRY(object_new(&desc->allocator, &made));
    weir_status status = weir_device_init(&made->base, &vulkan_device_vtable, desc, target);
    if (status == WEIR_OK) {
        status = make_locks(made);
        if (status != WEIR_OK) {
            weir_device_finish(&made->base);
        }
    }
    if (status != WEIR_OK) {
        object_free(&desc->allocator, made);
        return status;
    }
    made->base.runs_code = true;
    *device = made;
    return WEIR_OK;
}

weir_status vulkan_device_open(const weir_device_desc* desc, const weir_target* target,
                               const vulkan_layers* layers, vulkan_device** device) {
    vulkan_device* made = NULL;
    WEIR_TRY(vulkan_device_new(desc, target, &made));
    const weir_status status = open(made, desc, layers);
    if (status != WEIR_OK) {
        vulkan_device_close(made);
        return status;
    }
    *device = made;
    return WEIR_OK;
}

static uint32_t usual_unless(uint32_t wanted, uint32_t usual) {
    return wanted > 0 ? wanted : usual;
}

static weir_status check_cut(uint32_t columns, uint32_t threads) {
    return columns <= CUT_COLUMNS_MAX && threads <= CUT_THREADS_MAX &&
                   threads % CUT_THREADS_STEP == 0
               ? WEIR_OK
               : WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                           "tuning: %u columns, %u threads; expected 1 to %d, and a multiple of %d "
                           "up to %d",
                           columns, threads, CUT_COLUMNS_MAX, CUT_THREADS_STEP, CUT_THREADS_MAX);
}

static weir_status check_tile(uint32_t columns) {
    return columns == VULKAN_TILE || columns == 2 * VULKAN_TILE
               ? WEIR_OK
               : WEIR_FAIL(WEIR_INVALID_ARGUMENT, "tuning: tiles of %u columns; expected %d or %d",
                           columns, VULKAN_TILE, 2 * VULKAN_TILE);
}

static weir_status check_x(const vulkan_device* device, const weir_vulkan_tuning* tuning) {
    const bool in_bytes = tuning->unit_x == WEIR_VULKAN_X_8_BITS;
    const bool in_halves = tuning->tile_x == WEIR_VULKAN_X_F16;
    if (!in_bytes && tuning->unit_x != WEIR_VULKAN_X_F32) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "tuning: unit_x is %u", (unsigned)tuning->unit_x);
    }
    if (!in_halves && tuning->tile_x != WEIR_VULKAN_X_F32) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "tuning: tile_x is %u", (unsigned)tuning->tile_x);
    }
    if ((in_bytes && !device->probe.integer_dot) || (in_halves && !device->probe.float16)) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "tuning: %s computes on no %s", device->probe.name,
                         in_bytes && !device->probe.integer_dot ? "bytes" : "16-bit floats");
    }
    return WEIR_OK;
}

// Workgroups that keep x are given up silently where a product is too small or too wide for them;
// what no product can have is worth a line.
static void report_held(const vulkan_device* device, const weir_vulkan_tuning* tuning) {
    const vulkan_probe* probe = &device->probe;
    const uint64_t byte_size = vulkan_held_bytes(tuning);
    if (tuning->unit_x != WEIR_VULKAN_X_8_BITS) {
        return; // there is nothing to keep
    }
    if (tuning->held_groups > probe->group_count_max) {
        log_line(&device->base.log, WEIR_LOG_INFO,
                 "vulkan: no product keeps x: %u workgroups are wanted, %s takes %u",
                 tuning->held_groups, probe->name, probe->group_count_max);
    } else if (byte_size > probe->shared_bytes_max) {
        log_line(&device->base.log, WEIR_LOG_INFO,
                 "vulkan: no product keeps x: it takes %llu bytes of shared memory, %s has %u",
                 (unsigned long long)byte_size, probe->name, probe->shared_bytes_max);
    }
}

weir_status weir_vulkan_tune(weir_device* base, const weir_vulkan_tuning* tuning) {
    if (!vulkan_is_device(base)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "tuning: not a device of Vulkan");
    }
    vulkan_device* device = vulkan_device_of(base);
    const weir_vulkan_tuning usual = usual_tuning(device);
    const weir_vulkan_tuning wanted = {
        .few_columns = usual_unless(tuning->few_columns, usual.few_columns),
        .few_threads = usual_unless(tuning->few_threads, usual.few_threads),
        .unit_columns = usual_unless(tuning->unit_columns, usual.unit_columns),
        .unit_threads = usual_unless(tuning->unit_threads, usual.unit_threads),
        .groups_wanted = usual_unless(tuning->groups_wanted, usual.groups_wanted),
        .unit_x = tuning->unit_x > 0 ? tuning->unit_x : usual.unit_x,
        .held_columns = usual_unless(tuning->held_columns, usual.held_columns),
        .held_threads = usual_unless(tuning->held_threads, usual.held_threads),
        .held_groups = usual_unless(tuning->held_groups, usual.held_groups),
        .tile_columns = usual_unless(tuning->tile_columns, usual.tile_columns),
        .tiles_wanted = usual_unless(tuning->tiles_wanted, usual.tiles_wanted),
        .tile_x = tuning->tile_x > 0 ? tuning->tile_x : usual.tile_x};
    WEIR_TRY(check_x(device, &wanted));
    WEIR_TRY(check_cut(wanted.few_columns, wanted.few_threads));
    WEIR_TRY(check_cut(wanted.unit_columns, wanted.unit_threads));
    WEIR_TRY(check_cut(wanted.held_columns, wanted.held_threads));
    WEIR_TRY(check_tile(wanted.tile_columns));
    if (vulkan_tuning_bytes(&wanted) > device->probe.shared_bytes_max) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "tuning: workgroups share %u bytes; %s has %u",
                         vulkan_tuning_bytes(&wanted), device->probe.name,
                         device->probe.shared_bytes_max);
    }
    device->tuning = wanted;
    report_held(device, &wanted);
    return WEIR_OK;
}

weir_status weir_vulkan_device_create(const weir_device_desc* desc, const weir_target* target,
                                      weir_device** device) {
    static const vulkan_layers none = {.count = 0};
    vulkan_device* made = NULL;
    WEIR_TRY(vulkan_device_open(desc, target, &none, &made));
    *device = &made->base;
    return WEIR_OK;
}
