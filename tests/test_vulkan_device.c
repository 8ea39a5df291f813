// What a Vulkan device is made of and what outlives it: features and extensions that are asked for,
// handles and memory that a caller brings or takes, compiled pipelines in a file.
#include "vulkan_testing.h"

#include <unistd.h>
#include <weir/vulkan.h>

#include "backends/vulkan/vulkan_cache.h"

static struct {
    char extensions[512];
    uint32_t queues;
} asked; // of a driver that makes no device

static VkResult VKAPI_PTR make_no_device(VkPhysicalDevice physical, const VkDeviceCreateInfo* info,
                                         const VkAllocationCallbacks* callbacks, VkDevice* device) {
    (void)physical;
    (void)callbacks;
    (void)device;
    asked.extensions[0] = '\0';
    asked.queues = info->queueCreateInfoCount;
    for (uint32_t i = 0; i < info->enabledExtensionCount; i++) {
        strncat(asked.extensions, info->ppEnabledExtensionNames[i], 60);
        strncat(asked.extensions, " ", 2);
    }
    return VK_ERROR_INITIALIZATION_FAILED;
}

// Asks for a device with everything that `probe` has.
static void ask_for(const vulkan_probe* probe) {
    vulkan_device* device = NULL;
    assert_ok(
        vulkan_device_new(&(weir_device_desc){.name = "vulkan"}, weir_device_target(gpu), &device));
    device->instance = vulkan_device_of(gpu)->instance;
    device->instance.devices = NULL;
    device->instance.device_count = 0;
    device->instance.owner = VULKAN_OWNER_CALLER;
    device->instance.process = 0; // it is not held twice
    device->instance.api.CreateDevice = make_no_device;
    device->probe = *probe;
    assert_status(vulkan_device_make(device), WEIR_UNSUPPORTED);
    assert_message_has("vkCreateDevice: VK_ERROR_INITIALIZATION_FAILED");
    vulkan_device_close(device);
}

// A device that has the portability subset must be told so; what it has not got is not asked for.
static void a_device_is_made_with_what_it_has(void** state) {
    (void)state;
    vulkan_probe probe = vulkan_device_of(gpu)->probe;
    probe.portability_subset = probe.memory_priority = probe.pageable_memory = false;
    probe.copy_family = VULKAN_NO_QUEUE;
    ask_for(&probe);
    assert_null(strstr(asked.extensions, "portability"));
    assert_null(strstr(asked.extensions, "priority"));
    assert_non_null(strstr(asked.extensions, "VK_KHR_synchronization2 "));
    assert_int_equal(asked.queues, 1);
    probe.portability_subset = probe.memory_priority = probe.pageable_memory = true;
    probe.copy_family = 1;
    ask_for(&probe);
    assert_non_null(strstr(asked.extensions, "VK_KHR_portability_subset "));
    assert_non_null(strstr(asked.extensions, "VK_EXT_memory_priority "));
    assert_non_null(strstr(asked.extensions, "VK_EXT_pageable_device_local_memory "));
    assert_int_equal(asked.queues, 2);
}

static weir_vulkan_handles handles_of(const vulkan_device* device) {
    return (weir_vulkan_handles){.instance = device->instance.handle,
                                 .physical_device = device->probe.handle,
                                 .device = device->handle,
                                 .queue = device->queue,
                                 .queue_family = device->probe.queue_family,
                                 .get_instance_proc_addr =
                                     (void (*)(void))device->instance.api.GetInstanceProcAddr};
}

static void count_release(void* context, void* pointer) {
    assert_null(pointer);
    ++*(int*)context;
}

// The handles of one device serve as those of a caller.
static void devices_and_buffers_of_a_caller_are_wrapped(void** state) {
    (void)state;
    weir_vulkan_handles handles = handles_of(vulkan_device_of(gpu));
    weir_device* device = NULL;
    assert_ok(weir_vulkan_device_wrap(NULL, &handles, &device));
    weir_storage* own = allocate(gpu, 8192, WEIR_FILL_ZERO, false);
    float* numbers = weir_storage_host_pointer(own);
    for (int i = 0; i < 64; i++) {
        numbers[256 + i] = (float)i;
    }
    int released = 0;
    weir_native native;
    const weir_view all = floats(own, 0, 2048);
    assert_ok(weir_view_native(&all, &native));
    weir_vulkan_buffer_desc desc = {.buffer = native.handle,
                                    .byte_offset = 1024,
                                    .byte_size = 4096,
                                    .release = count_release,
                                    .context = &released,
                                    .name = "theirs"};
    weir_storage* theirs = NULL;
    weir_storage* part = NULL;
    assert_ok(weir_vulkan_buffer_wrap(device, &desc, &theirs));
    assert_null(weir_storage_host_pointer(theirs));
    desc.byte_offset = 2048;
    desc.byte_size = 1024;
    assert_ok(weir_vulkan_buffer_wrap(device, &desc, &part));
    const weir_view x = floats(theirs, 0, 64);
    const weir_view y = floats(theirs, 1024, 64); // where `part` begins
    const weir_view same = floats(part, 0, 64);
    const weir_view z = floats(part, 512, 64);
    weir_session* session = NULL;
    weir_verdict verdict;
    assert_ok(weir_session_create(device, &session));
    assert_ok(scale(session, &x, &y, 2.0f, NULL));
    assert_ok(scale(session, &same, &z, 3.0f, &verdict));
    assert_int_equal(verdict.hazard_count, 1); // two handles on the same bytes
    assert_int_equal(verdict.hazards[0].kind, WEIR_HAZARD_RAW);
    assert_ok(weir_session_finish(session));
    for (int i = 0; i < 64; i++) {
        assert_true(numbers[512 + 128 + i] == 6.0f * (float)i);
    }
    weir_session_destroy(session);
    weir_storage_release(theirs);
    weir_storage_release(part);
    assert_int_equal(released, 2);
    weir_device_destroy(device);
    weir_storage_release(own); // the handles are as they were
    handles.queue = NULL;
    assert_status(weir_vulkan_device_wrap(NULL, &handles, &device), WEIR_INVALID_ARGUMENT);
}

static void buffers_of_one_memory_are_one_memory(void** state) {
    (void)state;
    weir_vulkan_buffer_desc desc = {
        .buffer = 0x1000, .byte_size = 4096, .memory = 0x77, .memory_offset = 65536};
    weir_storage* first = NULL;
    weir_storage* second = NULL;
    weir_storage* apart = NULL;
    assert_ok(weir_vulkan_buffer_wrap(gpu, &desc, &first));
    desc.buffer = 0x2000;
    desc.memory_offset = 65536 - 1024;
    assert_ok(weir_vulkan_buffer_wrap(gpu, &desc, &second));
    desc.buffer = 0x3000;
    desc.memory = 0x78;
    assert_ok(weir_vulkan_buffer_wrap(gpu, &desc, &apart));
    const weir_view a = floats(first, 0, 1);
    const weir_view b = floats(second, 1024, 1);
    const weir_view c = floats(second, 1020, 1);
    const weir_view d = floats(apart, 1024, 1);
    const weir_range ranges[] = {weir_view_range(&a), weir_view_range(&b), weir_view_range(&c),
                                 weir_view_range(&d)};
    assert_true(weir_range_overlaps(&ranges[0], &ranges[1]));
    assert_false(weir_range_overlaps(&ranges[0], &ranges[2]));
    assert_false(weir_range_overlaps(&ranges[0], &ranges[3]));
    weir_storage_release(first);
    weir_storage_release(second);
    weir_storage_release(apart);
}

static void memory_is_shared_by_file_descriptors(void** state) {
    (void)state;
    weir_storage* out = NULL;
    weir_storage* in = NULL;
    int fd = -1;
    if (!vulkan_device_of(gpu)->probe.external_memory_fd) {
        assert_status(weir_vulkan_storage_export(gpu, 4096, NULL, &out, &fd), WEIR_UNSUPPORTED);
        print_message("skipped: the device shares no memory by file descriptors\n");
        skip();
    }
    assert_ok(weir_vulkan_storage_export(gpu, 4096, "out", &out, &fd));
    assert_true(fd >= 0);
    assert_ok(weir_vulkan_storage_import(gpu, fd, 4096, "in", &in));
    assert_ok(weir_storage_alias(out, 0, in, 0, 4096));
    const weir_view sent = floats(out, 256, 64);
    const weir_view got = floats(in, 256, 64);
    float numbers[64];
    float read[64] = {0};
    for (int i = 0; i < 64; i++) {
        numbers[i] = (float)(3 * i);
    }
    weir_session* session = NULL;
    assert_ok(weir_session_create(gpu, &session));
    assert_ok(weir_session_upload(session, numbers, sizeof numbers, &sent));
    assert_ok(weir_session_download(session, &got, read, sizeof read));
    assert_ok(weir_session_finish(session));
    assert_int_equal(weir_session_counters(session)->waits, 1); // the alias orders them
    assert_memory_equal(read, numbers, sizeof read);
    weir_session_destroy(session);
    weir_storage_release(out);
    weir_storage_release(in);
}

// What the driver at hand need not say of memory that is shared with others.
static struct {
    PFN_vkAllocateMemory allocate;
    VkExternalMemoryFeatureFlags features;
    VkExternalMemoryHandleTypeFlagBits kind;
    VkBufferUsageFlags usage;
    VkBuffer alone[4]; // of each allocation the buffer that it is for; NULL: any
    uint32_t allocations;
} sharing;

static void VKAPI_PTR tell_sharing(VkPhysicalDevice device,
                                   const VkPhysicalDeviceExternalBufferInfo* info,
                                   VkExternalBufferProperties* found) {
    (void)device;
    sharing.kind = info->handleType;
    sharing.usage = info->usage;
    found->externalMemoryProperties.externalMemoryFeatures = sharing.features;
}

static VkResult VKAPI_PTR note_alone(VkDevice device, const VkMemoryAllocateInfo* info,
                                     const VkAllocationCallbacks* callbacks,
                                     VkDeviceMemory* memory) {
    assert_true(sharing.allocations < 4);
    VkBuffer* alone = &sharing.alone[sharing.allocations++];
    *alone = VK_NULL_HANDLE;
    for (const VkBaseInStructure* item = info->pNext; item; item = item->pNext) {
        if (item->sType == VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO) {
            *alone = ((const VkMemoryDedicatedAllocateInfo*)(const void*)item)->buffer;
        }
    }
    return sharing.allocate(device, info, callbacks, memory);
}

// A device whose driver says `features` of shared memory.
static weir_device* open_sharing(VkExternalMemoryFeatureFlags features) {
    weir_device* device = open_vulkan(NULL);
    vulkan_api* api = &vulkan_device_of(device)->instance.api;
    sharing.allocate = api->AllocateMemory;
    sharing.features = features;
    sharing.allocations = 0;
    api->GetPhysicalDeviceExternalBufferProperties = tell_sharing;
    api->AllocateMemory = note_alone;
    return device;
}

static void sharing_that_the_driver_does_not_offer_is_refused(void** state) {
    (void)state;
    if (!vulkan_device_of(gpu)->probe.external_memory_fd) {
        print_message("skipped: the device shares no memory by file descriptors\n");
        skip();
    }
    weir_device* device = open_sharing(VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT);
    weir_storage* storage = NULL;
    int fd = -1;
    assert_status(weir_vulkan_storage_export(device, 4096, NULL, &storage, &fd), WEIR_UNSUPPORTED);
    assert_message_has("cannot export buffers by opaque file descriptors");
    assert_message_has("vkGetPhysicalDeviceExternalBufferProperties");
    assert_int_equal(sharing.kind, VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT);
    assert_true((sharing.usage & VK_BUFFER_USAGE_STORAGE_BUFFER_BIT) != 0);
    assert_int_equal(fd, -1);
    sharing.features = VK_EXTERNAL_MEMORY_FEATURE_EXPORTABLE_BIT;
    assert_status(weir_vulkan_storage_import(device, 0, 4096, NULL, &storage), WEIR_UNSUPPORTED);
    assert_message_has("cannot import buffers by opaque file descriptors");
    if (vulkan_device_of(gpu)->probe.external_memory_host) {
        static _Alignas(65536) float numbers[16384];
        const weir_storage_wrap_desc desc = {.pointer = numbers, .byte_size = sizeof numbers};
        assert_status(weir_storage_wrap(device, &desc, &storage), WEIR_UNSUPPORTED);
        assert_message_has("cannot import buffers of host memory");
        assert_int_equal(sharing.kind, VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT);
    }
    assert_null(storage);
    assert_int_equal(sharing.allocations, 0);
    weir_device_destroy(device);
}

static void memory_is_for_one_buffer_where_the_driver_demands_it(void** state) {
    (void)state;
    const VkExternalMemoryFeatureFlags both =
        VK_EXTERNAL_MEMORY_FEATURE_EXPORTABLE_BIT | VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT;
    if (!vulkan_device_of(gpu)->probe.external_memory_fd) {
        print_message("skipped: the device shares no memory by file descriptors\n");
        skip();
    }
    for (int dedicated = 0; dedicated < 2; dedicated++) {
        weir_device* device = open_sharing(
            both | (dedicated ? VK_EXTERNAL_MEMORY_FEATURE_DEDICATED_ONLY_BIT : (VkFlags)0));
        weir_storage* out = NULL;
        weir_storage* in = NULL;
        int fd = -1;
        assert_ok(weir_vulkan_storage_export(device, 4096, "out", &out, &fd));
        assert_ok(weir_vulkan_storage_import(device, fd, 4096, "in", &in));
        const weir_view views[] = {floats(out, 0, 1), floats(in, 0, 1)};
        assert_int_equal(sharing.allocations, 2);
        for (int i = 0; i < 2; i++) {
            weir_native native;
            assert_ok(weir_view_native(&views[i], &native));
            const uint64_t alone = (uint64_t)(uintptr_t)sharing.alone[i];
            assert_true(dedicated ? alone == native.handle : alone == 0 || alone == native.handle);
        }
        weir_storage_release(out);
        weir_storage_release(in);
        weir_device_destroy(device);
    }
}

// Features that a caller has switched on, by any of the structures that can say so.
typedef struct feature_chain {
    VkPhysicalDeviceFeatures2 all;
    VkPhysicalDeviceVulkan11Features core11;
    VkPhysicalDevice8BitStorageFeatures storage8;
    VkPhysicalDeviceShaderFloat16Int8Features half;
    VkPhysicalDeviceVulkan13Features core13;
} feature_chain;

static void make_chain(feature_chain* chain) {
    *chain = (feature_chain){
        .all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &chain->core11},
        .core11 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
                   .pNext = &chain->storage8,
                   .storageBuffer16BitAccess = VK_TRUE},
        .storage8 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES,
                     .pNext = &chain->half,
                     .storageBuffer8BitAccess = VK_TRUE},
        .half = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES,
                 .pNext = &chain->core13,
                 .shaderFloat16 = VK_TRUE},
        .core13 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES,
                   .synchronization2 = VK_TRUE,
                   .shaderIntegerDotProduct = VK_TRUE}};
}

static void features_of_a_caller_are_used_as_far_as_they_are_switched_on(void** state) {
    (void)state;
    const vulkan_probe* has = &vulkan_device_of(gpu)->probe;
    weir_vulkan_handles handles = handles_of(vulkan_device_of(gpu));
    weir_device* device = NULL;
    assert_ok(weir_vulkan_device_wrap(NULL, &handles, &device)); // nobody tells
    const vulkan_probe* uses = &vulkan_device_of(device)->probe;
    assert_false(uses->integer_dot || uses->float16 || uses->memory_priority);
    assert_false(weir_device_target(device)->native_f16);
    const weir_vulkan_tuning dots = {.unit_x = WEIR_VULKAN_X_8_BITS};
    assert_status(weir_vulkan_tune(device, &dots), WEIR_UNSUPPORTED);
    weir_device_destroy(device);

    feature_chain chain;
    make_chain(&chain);
    handles.features = &chain.all;
    assert_ok(weir_vulkan_device_wrap(NULL, &handles, &device));
    uses = &vulkan_device_of(device)->probe;
    assert_int_equal(uses->integer_dot, has->integer_dot);
    assert_int_equal(uses->float16, has->float16);
    assert_false(uses->int8 || uses->memory_priority || uses->pageable_memory);
    assert_status(weir_vulkan_tune(device, &dots), has->integer_dot ? WEIR_OK : WEIR_UNSUPPORTED);
    weir_device_destroy(device);

    chain.storage8.storageBuffer8BitAccess = VK_FALSE;
    assert_status(weir_vulkan_device_wrap(NULL, &handles, &device), WEIR_UNSUPPORTED);
    assert_message_has("lacks 8-bit storage");
    chain.storage8.storageBuffer8BitAccess = VK_TRUE;
    chain.core13.synchronization2 = VK_FALSE;
    assert_status(weir_vulkan_device_wrap(NULL, &handles, &device), WEIR_UNSUPPORTED);
    assert_message_has("lacks synchronization2");
}

// Each optional feature by each structure that can switch it on, on a device that has them all.
static void every_structure_of_features_is_understood(void** state) {
    (void)state;
    VkPhysicalDeviceVulkan12Features core12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .storageBuffer8BitAccess = VK_TRUE,
        .shaderInt8 = VK_TRUE};
    VkPhysicalDevice16BitStorageFeatures storage16 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES,
        .pNext = &core12,
        .storageBuffer16BitAccess = VK_TRUE};
    VkPhysicalDeviceSynchronization2Features order = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SYNCHRONIZATION_2_FEATURES,
        .pNext = &storage16,
        .synchronization2 = VK_TRUE};
    VkPhysicalDeviceShaderIntegerDotProductFeatures dots = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES,
        .pNext = &order,
        .shaderIntegerDotProduct = VK_TRUE};
    VkPhysicalDevicePageableDeviceLocalMemoryFeaturesEXT pageable = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PAGEABLE_DEVICE_LOCAL_MEMORY_FEATURES_EXT,
        .pNext = &dots,
        .pageableDeviceLocalMemory = VK_TRUE};
    VkPhysicalDeviceMemoryPriorityFeaturesEXT priorities = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PRIORITY_FEATURES_EXT,
        .pNext = &pageable,
        .memoryPriority = VK_TRUE};
    vulkan_probe all = vulkan_device_of(gpu)->probe;
    all.float16 = all.int8 = all.integer_dot = true;
    all.memory_priority = all.pageable_memory = true;
    vulkan_probe probe = all;
    vulkan_probe_enabled(&priorities, &probe);
    assert_ok(vulkan_probe_check(&probe));
    assert_true(probe.int8 && probe.integer_dot);
    assert_true(probe.memory_priority && probe.pageable_memory);
    assert_false(probe.float16);
    priorities.memoryPriority = VK_FALSE; // the other extension builds on it
    core12.shaderFloat16 = VK_TRUE;
    probe = all;
    vulkan_probe_enabled(&priorities, &probe);
    assert_false(probe.memory_priority || probe.pageable_memory);
    assert_true(probe.float16);
    storage16.storageBuffer16BitAccess = VK_FALSE;
    probe = all;
    vulkan_probe_enabled(&priorities, &probe);
    assert_status(vulkan_probe_check(&probe), WEIR_UNSUPPORTED);
    assert_message_has("lacks 16-bit storage");
}

static void VKAPI_PTR list_three_families(VkPhysicalDevice device, uint32_t* count,
                                          VkQueueFamilyProperties* families) {
    (void)device;
    for (uint32_t i = 0; families && i < *count && i < 3; i++) {
        families[i] = (VkQueueFamilyProperties){.queueFlags = i == 1 ? VK_QUEUE_TRANSFER_BIT
                                                                     : VK_QUEUE_COMPUTE_BIT,
                                                .queueCount = 1,
                                                .timestampValidBits = i == 0 ? 64 : 0};
    }
    *count = 3;
}

static void times_are_those_of_the_family_of_the_queue(void** state) {
    (void)state;
    vulkan_instance instance = vulkan_device_of(gpu)->instance;
    vulkan_probe probe = vulkan_device_of(gpu)->probe;
    instance.api.GetPhysicalDeviceQueueFamilyProperties = list_three_families;
    assert_ok(vulkan_probe_use_family(&instance, 2, &probe));
    assert_int_equal(probe.queue_family, 2);
    assert_int_equal(probe.timestamp_bits, 0);
    assert_false(probe.calibrated);
    assert_ok(vulkan_probe_use_family(&instance, 0, &probe));
    assert_int_equal(probe.timestamp_bits, 64);
    assert_int_equal(probe.calibrated, vulkan_device_of(gpu)->probe.calibrated);
    assert_status(vulkan_probe_use_family(&instance, 1, &probe), WEIR_INVALID_ARGUMENT);
    assert_message_has("queue family 1 of");
    assert_status(vulkan_probe_use_family(&instance, 3, &probe), WEIR_INVALID_ARGUMENT);
    assert_int_equal(probe.queue_family, 0);
    weir_vulkan_handles handles = handles_of(vulkan_device_of(gpu));
    weir_device* device = NULL;
    handles.queue_family = 1000;
    assert_status(weir_vulkan_device_wrap(NULL, &handles, &device), WEIR_INVALID_ARGUMENT);
    assert_message_has("queue family 1000 of");
}

static void other_devices_are_refused(void** state) {
    (void)state;
    weir_device* cpu = NULL;
    weir_storage* storage = NULL;
    int fd = -1;
    assert_ok(weir_device_create(&(weir_device_desc){.thread_count = 1}, &cpu));
    const weir_vulkan_buffer_desc desc = {.buffer = 1, .byte_size = 1};
    assert_status(weir_vulkan_buffer_wrap(cpu, &desc, &storage), WEIR_INVALID_ARGUMENT);
    assert_message_has("device cpu is not one of Vulkan");
    assert_status(weir_vulkan_storage_export(cpu, 1, NULL, &storage, &fd), WEIR_INVALID_ARGUMENT);
    assert_status(weir_vulkan_storage_import(cpu, 0, 1, NULL, &storage), WEIR_INVALID_ARGUMENT);
    weir_device_destroy(cpu);
}

// Opens a device with a cache, uses it, and closes it.
static void use_cache(const char* path) {
    weir_device* device = NULL;
    assert_ok(
        weir_device_create(&(weir_device_desc){.name = "vulkan", .cache_path = path}, &device));
    weir_storage* storage = allocate(device, 4096, WEIR_FILL_ZERO, false);
    const weir_view x = floats(storage, 0, 64);
    const weir_view y = floats(storage, 2048, 64);
    weir_session* session = NULL;
    assert_ok(weir_session_create(device, &session));
    assert_ok(scale(session, &x, &y, 2.0f, NULL));
    assert_ok(weir_session_finish(session));
    weir_session_destroy(session);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static void write_file(const char* path, const char* bytes, size_t byte_size) {
    FILE* file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, byte_size, file), byte_size);
    fclose(file);
}

static size_t cached_bytes(const char* path) {
    void* data = NULL;
    size_t byte_size = 0;
    vulkan_cache_read(NULL, path, &vulkan_device_of(gpu)->probe, &data, &byte_size);
    weir_free(NULL, data, byte_size, _Alignof(max_align_t));
    return byte_size;
}

static void pipelines_are_kept_and_damaged_files_replaced(void** state) {
    (void)state;
    char folder[] = "/tmp/weir-cache-XXXXXX";
    char path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/pipelines", folder);
    assert_int_equal(cached_bytes(path), 0);
    use_cache(path);
    assert_true(cached_bytes(path) > 0);
    use_cache(path); // reads it
    size_t byte_size = 0;
    char* bytes = read_whole_file(path, false, &byte_size);
    const size_t step = 1 + byte_size / 200;
    for (size_t damage = 0; damage < byte_size; damage += step) {
        bytes[damage] = (char)(bytes[damage] ^ 1);
        write_file(path, bytes, byte_size);
        bytes[damage] = (char)(bytes[damage] ^ 1);
        assert_int_equal(cached_bytes(path), 0); // each byte counts
        write_file(path, bytes, damage);
        assert_int_equal(cached_bytes(path), 0); // and that they are all there
    }
    use_cache(path);
    assert_true(cached_bytes(path) > 0);
    vulkan_probe other = vulkan_device_of(gpu)->probe;
    other.driver_version++;
    void* data = NULL;
    vulkan_cache_read(NULL, path, &other, &data, &byte_size);
    assert_null(data);
    free(bytes);
    unlink(path);
    rmdir(folder);
    use_cache(path); // a folder that is not there
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_is_made_with_what_it_has),
        cmocka_unit_test(devices_and_buffers_of_a_caller_are_wrapped),
        cmocka_unit_test(buffers_of_one_memory_are_one_memory),
        cmocka_unit_test(memory_is_shared_by_file_descriptors),
        cmocka_unit_test(sharing_that_the_driver_does_not_offer_is_refused),
        cmocka_unit_test(memory_is_for_one_buffer_where_the_driver_demands_it),
        cmocka_unit_test(features_of_a_caller_are_used_as_far_as_they_are_switched_on),
        cmocka_unit_test(every_structure_of_features_is_understood),
        cmocka_unit_test(times_are_those_of_the_family_of_the_queue),
        cmocka_unit_test(other_devices_are_refused),
        cmocka_unit_test(pipelines_are_kept_and_damaged_files_replaced),
    };
    return cmocka_run_group_tests(tests, open_gpu, close_gpu);
}
