// Storages of a Vulkan device.
//
// Memory that the host maps is known by its address, as on every device, so that wraps of it are
// the same memory; what only the device reaches has an id of its own.
//
// A mapped file is imported where the device shares the memory of the host, and copied once
// otherwise. Either way it may be larger than an allocation can be. It then lies in several parts
// that overlap, so that whatever is no larger than the overlap lies whole in one of them:
//
//     file      |-----------------------------------------------|
//     part 0    |------------ stride ------------|-- overlap --|
//     part 1                                     |------ ...
#include <assert.h>
#include <string.h>
#include <unistd.h>

#include "backends/host_storage.h"
#include "backends/vulkan/vulkan_storage.h"
#include "base/checked.h"
#include "base/log_line.h"

#define OVERLAP (UINT64_C(32) << 20)     // bytes; more than any row of weights
#define CHUNK_BYTES (UINT64_C(64) << 20) // of a staged copy

static_assert(offsetof(vulkan_storage, base) == 0, "the base comes first");

static vulkan_storage* cast(weir_storage* storage) {
    return (vulkan_storage*)storage;
}

static void destroy(weir_storage* storage) {
    vulkan_storage* made = cast(storage);
    vulkan_device* device = vulkan_device_of(storage->device);
    const weir_allocator allocator = storage->device->allocator;
    void* host = atomic_load(&storage->host);
    if (storage->lazy && host && storage->byte_size > 0) {
        identity_remove_place(storage->device, host);
    }
    host_storage_forget_file(storage, &made->map);
    for (uint32_t i = 0; i < made->part_count && !made->borrowed; i++) {
        vulkan_memory_destroy(device, &made->parts[i]);
    }
    weir_free(&allocator, made->parts, made->part_count * sizeof *made->parts,
              _Alignof(max_align_t));
    file_map_close(&made->map);
    if (made->release) {
        made->release(made->release_context, host);
    }
    if (made->touch_locked) {
        pthread_mutex_destroy(&made->touch_lock);
    }
    object_free(&allocator, made);
}

typedef struct fill_command {
    VkBuffer buffer;
    uint64_t byte_size;
    uint32_t word;
} fill_command;

static void record_fill(vulkan_device* device, VkCommandBuffer commands, const void* context) {
    const fill_command* fill = context;
    device->instance.api.CmdFillBuffer(commands, fill->buffer, 0, fill->byte_size, fill->word);
}

static weir_status fill_memory(vulkan_device* device, const vulkan_memory* memory, weir_fill fill) {
    if (fill == WEIR_FILL_NONE) {
        return WEIR_OK;
    }
    if (memory->mapped) {
        memset(memory->mapped, fill == WEIR_FILL_ZERO ? 0 : 0xFF, (size_t)memory->byte_size);
        return WEIR_OK;
    }
    const fill_command command = {.buffer = memory->buffer,
                                  .byte_size = memory->byte_size,
                                  .word = fill == WEIR_FILL_ZERO ? 0 : UINT32_MAX};
    return vulkan_queue_once(device, record_fill, &command);
}

// Takes the memory of an owned storage.
static weir_status take_memory(vulkan_storage* made) {
    vulkan_device* device = vulkan_device_of(made->base.device);
    const vulkan_place place = made->base.device_only ? VULKAN_PLACE_DEVICE
                               : made->host_reads     ? VULKAN_PLACE_HOST
                                                      : VULKAN_PLACE_SHARED;
    uint64_t byte_size = 0;
    if (!align_u64(made->base.byte_size > 0 ? made->base.byte_size : 1, 64, &byte_size)) {
        return WEIR_FAIL(WEIR_DEVICE_OUT_OF_MEMORY, "%llu bytes pass the address space",
                         (unsigned long long)made->base.byte_size);
    }
    vulkan_memory memory;
    WEIR_TRY(vulkan_memory_create(device, place, byte_size, &memory));
    const weir_status status = fill_memory(device, &memory, made->fill);
    if (status != WEIR_OK) {
        vulkan_memory_destroy(device, &memory);
        return status;
    }
    made->parts[0] = memory;
    made->base.native = (uint64_t)(uintptr_t)memory.buffer;
    made->base.in_budget = memory.heap == device->heap;
    atomic_store(&made->base.host, memory.mapped);
    return WEIR_OK;
}

// The address that the memory of a lazy storage has now leads to the name that it had before.
static weir_status take_lazily(vulkan_storage* made) {
    weir_storage* storage = &made->base;
    WEIR_TRY(take_memory(made));
    void* host = atomic_load(&storage->host);
    if (!host || storage->byte_size == 0) {
        return WEIR_OK;
    }
    const weir_status status = identity_add_place(storage->device, host, storage->byte_size,
                                                  storage->memory_id, storage->memory_offset);
    if (status != WEIR_OK) {
        atomic_store(&storage->host, NULL);
        vulkan_memory_destroy(vulkan_device_of(storage->device), &made->parts[0]);
    }
    return status;
}

static weir_status touch(weir_storage* storage) {
    vulkan_storage* made = cast(storage);
    if (!storage->lazy) {
        return WEIR_OK;
    }
    weir_status status = WEIR_OK;
    pthread_mutex_lock(&made->touch_lock);
    if (!made->parts[0].buffer) {
        status = take_lazily(made);
    }
    pthread_mutex_unlock(&made->touch_lock);
    return status;
}

static weir_status advise(weir_storage* storage, uint64_t byte_offset, uint64_t byte_size,
                          weir_advice advice) {
    static const file_advice kinds[] = {
        [WEIR_ADVICE_NORMAL] = FILE_NORMAL, [WEIR_ADVICE_SEQUENTIAL] = FILE_SEQUENTIAL,
        [WEIR_ADVICE_RANDOM] = FILE_RANDOM, [WEIR_ADVICE_WILL_NEED] = FILE_WILL_NEED,
        [WEIR_ADVICE_DROP] = FILE_DROP,
    };
    vulkan_storage* made = cast(storage);
    return made->map.base ? file_map_advise(&made->map, byte_offset, byte_size, kinds[advice])
                          : storage_advise_nothing(storage, byte_offset, byte_size, advice);
}

static weir_status check(const weir_storage* storage) {
    const vulkan_storage* made = (const vulkan_storage*)storage;
    return made->map.base ? file_map_check(&made->map) : WEIR_OK;
}

static const storage_vtable vulkan_storage_vtable = {
    .touch = touch,
    .advise = advise,
    .check = check,
    .destroy = destroy,
};

weir_status vulkan_storage_new(weir_device* device, const char* name, uint32_t part_count,
                               vulkan_storage** storage) {
    vulkan_storage* made = NULL;
    WEIR_TRY(object_new(&device->allocator, &made));
    void* parts = NULL;
    const weir_status status =
        weir_alloc_zeroed(&device->allocator, part_count * sizeof *made->parts, &parts);
    if (status != WEIR_OK) {
        object_free(&device->allocator, made);
        return status;
    }
    weir_storage_init(&made->base, &vulkan_storage_vtable, device, name);
    made->parts = parts;
    made->part_count = part_count;
    made->stride = UINT64_MAX;
    *storage = made;
    return WEIR_OK;
}

weir_status vulkan_storage_allocate(weir_device* device, const weir_storage_desc* desc,
                                    weir_storage** storage) {
    vulkan_storage* made = NULL;
    WEIR_TRY(vulkan_storage_new(device, desc->name, 1, &made));
    made->base.byte_size = desc->byte_size;
    made->base.device_only = desc->device_only;
    made->base.lazy = desc->lazy;
    made->fill = desc->fill;
    made->host_reads = desc->host_reads;
    weir_status status = WEIR_OK;
    if (!desc->lazy) {
        status = take_memory(made);
    } else if (pthread_mutex_init(&made->touch_lock, NULL) == 0) {
        made->touch_locked = true;
    } else {
        status = WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot make the lock of a storage");
    }
    if (status != WEIR_OK) {
        destroy(&made->base);
        return status;
    }
    void* host = atomic_load(&made->base.host);
    made->base.memory_id = host ? HOST_MEMORY_ID : identity_new_id(device);
    made->base.memory_offset = (uint64_t)(uintptr_t)host;
    *storage = &made->base;
    return WEIR_OK;
}

// The pages around a range of host memory.
typedef struct page_range {
    uint8_t* begin;
    uint64_t byte_size;
    uint64_t lead; // bytes before the range
} page_range;

static weir_status find_pages(const vulkan_device* device, const void* pointer, uint64_t byte_size,
                              page_range* pages) {
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const uint64_t step =
        device->probe.import_alignment > page ? device->probe.import_alignment : page;
    const uint64_t address = (uint64_t)(uintptr_t)pointer;
    pages->lead = address % step;
    pages->begin = (uint8_t*)(uintptr_t)(address - pages->lead);
    if (step > page && pages->lead != 0) { // what lies before the range may not be mapped
        return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: %s imports host memory aligned to %llu bytes",
                         device->probe.name, (unsigned long long)step);
    }
    return align_u64(pages->lead + byte_size, step, &pages->byte_size)
               ? WEIR_OK
               : WEIR_FAIL(WEIR_OUT_OF_RANGE, "%llu bytes pass the address space",
                           (unsigned long long)byte_size);
}

weir_status vulkan_storage_wrap(weir_device* base, const weir_storage_wrap_desc* desc,
                                weir_storage** storage) {
    vulkan_device* device = vulkan_device_of(base);
    page_range pages = {0};
    WEIR_TRY(find_pages(device, desc->pointer, desc->byte_size > 0 ? desc->byte_size : 1, &pages));
    vulkan_storage* made = NULL;
    WEIR_TRY(vulkan_storage_new(base, desc->name, 1, &made));
    const weir_status status =
        vulkan_memory_import(device, pages.begin, pages.byte_size, &made->parts[0]);
    if (status != WEIR_OK) {
        destroy(&made->base);
        return status;
    }
    made->lead = pages.lead;
    made->base.byte_size = desc->byte_size;
    made->base.native = (uint64_t)(uintptr_t)made->parts[0].buffer;
    made->release = desc->release;
    made->release_context = desc->context;
    identity_name_host(base, desc->pointer, desc->byte_size, &made->base.memory_id,
                       &made->base.memory_offset);
    atomic_store(&made->base.host, desc->pointer);
    *storage = &made->base;
    return WEIR_OK;
}

typedef struct copy_command {
    VkBuffer source, target;
    VkBufferCopy region;
} copy_command;

static void record_copy(vulkan_device* device, VkCommandBuffer commands, const void* context) {
    const copy_command* copy = context;
    device->instance.api.CmdCopyBuffer(commands, copy->source, copy->target, 1, &copy->region);
}

// Copies host bytes to memory of the device, a chunk at a time through `staging`.
static weir_status upload(vulkan_device* device, const vulkan_memory* staging, const uint8_t* bytes,
                          uint64_t byte_size, const vulkan_memory* target) {
    for (uint64_t done = 0; done < byte_size; done += staging->byte_size) {
        const uint64_t left = byte_size - done;
        const uint64_t count = left < staging->byte_size ? left : staging->byte_size;
        memcpy(staging->mapped, bytes + done, (size_t)count);
        const copy_command copy = {.source = staging->buffer,
                                   .target = target->buffer,
                                   .region = {.dstOffset = done, .size = count}};
        WEIR_TRY(vulkan_queue_once(device, record_copy, &copy));
    }
    return WEIR_OK;
}

// Bytes of part `index` of a storage of `byte_size` bytes behind `lead`.
static uint64_t part_bytes(const vulkan_storage* made, uint32_t index, uint64_t byte_size) {
    const uint64_t begin = index > 0 ? made->stride * index : 0;
    const uint64_t left = byte_size - begin;
    return made->part_count == 1 || left < made->stride + OVERLAP ? left : made->stride + OVERLAP;
}

static weir_status import_parts(vulkan_storage* made, const page_range* pages) {
    vulkan_device* device = vulkan_device_of(made->base.device);
    for (uint32_t i = 0; i < made->part_count; i++) {
        uint8_t* begin = pages->begin + (i > 0 ? made->stride * i : 0);
        WEIR_TRY(vulkan_memory_import(device, begin, part_bytes(made, i, pages->byte_size),
                                      &made->parts[i]));
    }
    made->lead = pages->lead;
    return WEIR_OK;
}

static weir_status copy_parts(vulkan_storage* made) {
    vulkan_device* device = vulkan_device_of(made->base.device);
    const uint64_t byte_size = made->base.byte_size;
    vulkan_memory staging;
    WEIR_TRY(vulkan_memory_create(device, VULKAN_PLACE_HOST,
                                  byte_size < CHUNK_BYTES ? byte_size : CHUNK_BYTES, &staging));
    weir_status status = WEIR_OK;
    for (uint32_t i = 0; i < made->part_count && status == WEIR_OK; i++) {
        const uint64_t begin = i > 0 ? made->stride * i : 0;
        const uint64_t count = part_bytes(made, i, byte_size);
        const uint64_t end = begin + count;
        status = vulkan_memory_create(device, VULKAN_PLACE_DEVICE, count, &made->parts[i]);
        if (status == WEIR_OK) {
            status = upload(device, &staging, made->map.bytes + begin, count, &made->parts[i]);
        }
        log_line(&device->base.log, WEIR_LOG_DEBUG, "vulkan: %s: %llu of %llu bytes copied",
                 made->base.name, (unsigned long long)end, (unsigned long long)byte_size);
    }
    vulkan_memory_destroy(device, &staging);
    return status;
}

static void drop_parts(vulkan_storage* made) {
    for (uint32_t i = 0; i < made->part_count; i++) {
        vulkan_memory_destroy(vulkan_device_of(made->base.device), &made->parts[i]);
    }
}

// A device that shares the memory of the host reads the file where it is; where that is refused,
// and on a card, which would read it through the bus in every pass, it gets a copy.
static weir_status bind_file(vulkan_storage* made) {
    vulkan_device* device = vulkan_device_of(made->base.device);
    page_range pages = {0};
    if (device->probe.unified && device->probe.external_memory_host &&
        find_pages(device, made->map.bytes, made->base.byte_size, &pages) == WEIR_OK) {
        if (import_parts(made, &pages) == WEIR_OK) {
            return WEIR_OK;
        }
        log_line(&device->base.log, WEIR_LOG_INFO, "vulkan: %s is copied: %s", made->base.name,
                 weir_last_error());
        drop_parts(made);
    }
    made->lead = 0;
    return copy_parts(made);
}

weir_status vulkan_storage_map(weir_device* base, const weir_storage_map_desc* desc,
                               weir_storage** storage) {
    vulkan_device* device = vulkan_device_of(base);
    const char* slash = strrchr(desc->path, '/');
    const uint64_t limit = device->probe.allocation_bytes_max;
    const uint64_t stride = limit / 2 / OVERLAP * OVERLAP; // whole pages of any size
    file_map map;
    WEIR_TRY(file_map_open(desc->path, desc->byte_offset, desc->byte_size, &map));
    const uint64_t byte_size = map.byte_size + (uint64_t)sysconf(_SC_PAGESIZE);
    const bool whole = byte_size <= limit || stride == 0;
    vulkan_storage* made = NULL;
    weir_status status =
        vulkan_storage_new(base, slash ? slash + 1 : desc->path,
                           whole ? 1 : (uint32_t)((map.byte_size - 1) / stride + 1), &made);
    if (status != WEIR_OK) {
        file_map_close(&map);
        return status;
    }
    made->stride = whole ? UINT64_MAX : stride;
    made->map = map;
    status = host_storage_name_file(&made->base, &map, desc->byte_offset);
    if (status == WEIR_OK && desc->advice != WEIR_ADVICE_NORMAL) {
        status = advise(&made->base, 0, map.byte_size, desc->advice);
    }
    if (status == WEIR_OK) {
        status = bind_file(made);
    }
    if (status != WEIR_OK) {
        destroy(&made->base);
        return status;
    }
    made->base.native = (uint64_t)(uintptr_t)made->parts[0].buffer;
    *storage = &made->base;
    return WEIR_OK;
}

weir_status vulkan_storage_locate(const weir_storage* storage, uint64_t byte_offset,
                                  uint64_t byte_size, VkBuffer* buffer, uint64_t* buffer_offset) {
    const vulkan_storage* made = (const vulkan_storage*)storage;
    const uint64_t begin = byte_offset + made->lead;
    const uint64_t index = begin / made->stride;
    const uint64_t within = begin - index * made->stride;
    const vulkan_memory* part = &made->parts[index < made->part_count ? index : 0];
    if (index >= made->part_count || within > part->byte_size ||
        byte_size > part->byte_size - within) {
        return WEIR_FAIL(
            WEIR_UNSUPPORTED, "bytes [%llu, +%llu) of storage %s do not lie in one allocation",
            (unsigned long long)byte_offset, (unsigned long long)byte_size, storage->name);
    }
    *buffer = part->buffer;
    *buffer_offset = within;
    return WEIR_OK;
}
