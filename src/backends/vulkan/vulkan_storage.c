// Storages of a Vulkan device.
//
// Memory that the host maps is known by its address, as on every device, so that wraps of it are
// the same memory; what only the device reaches has an id of its own.
//
// A mapped file is imported where the device shares the memory of the host, and copied once
// otherwise, both at the first touch: the host reads the file before that. Either way it may be
// larger than an allocation can be. It then lies in several parts that overlap, so that whatever is
// no larger than the overlap lies whole in one of them:
//
//     file      |-----------------------------------------------|
//     part 0    |------------ stride ------------|-- overlap --|
//     part 1                                     |------ ...
#include <assert.h>
#include <string.h>
#include <unistd.h>

#include "backends/host_storage.h"
#include "backends/vulkan/vulkan_storage.h"
#include "backends/vulkan/vulkan_upload.h"
#include "base/checked.h"
#include "base/log_line.h"
#include "device/residency.h"

#define OVERLAP (UINT64_C(32) << 20)   // bytes of parts; more than any row of weights
#define PART_STEP (UINT64_C(64) << 10) // where a part may begin; whole pages of any size

static_assert(offsetof(vulkan_storage, base) == 0, "the base comes first");

static vulkan_storage* cast(weir_storage* storage) {
    return (vulkan_storage*)storage;
}

static void destroy(weir_storage* storage) {
    vulkan_storage* made = cast(storage);
    vulkan_device* device = vulkan_device_of(storage->device);
    const weir_allocator allocator = storage->device->allocator;
    void* host = atomic_load(&storage->host);
    if (storage->lazy && !made->map.base && host && storage->byte_size > 0) {
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
    if (storage->lazy) {
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

static vulkan_place place_of(const vulkan_storage* made) {
    if (made->base.device_only) {
        return VULKAN_PLACE_DEVICE;
    }
    if (made->for_kernels) {
        return VULKAN_PLACE_KERNELS;
    }
    return made->host_reads ? VULKAN_PLACE_HOST : VULKAN_PLACE_SHARED;
}

// Takes the memory of an owned storage.
static weir_status take_memory(vulkan_storage* made) {
    vulkan_device* device = vulkan_device_of(made->base.device);
    const vulkan_place place = place_of(made);
    uint64_t byte_size = 0;
    if (!align_u64(made->base.byte_size > 0 ? made->base.byte_size : 1, 64, &byte_size)) {
        return WEIR_FAIL(WEIR_DEVICE_OUT_OF_MEMORY, "%llu bytes pass the address space",
                         (unsigned long long)made->base.byte_size);
    }
    vulkan_memory memory;
    WEIR_TRY(vulkan_memory_create(device, place, weir_residency_priority(&made->base), byte_size,
                                  &memory));
    const weir_status status = fill_memory(device, &memory, made->fill);
    if (status != WEIR_OK) {
        vulkan_memory_destroy(device, &memory);
        return status;
    }
    made->parts[0] = memory;
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

// Bytes of part `index` of a storage of `byte_size` bytes behind `lead`.
static uint64_t part_bytes(const vulkan_storage* made, uint32_t index, uint64_t byte_size) {
    const uint64_t begin = index > 0 ? made->stride * index : 0;
    const uint64_t left = byte_size - begin;
    const uint64_t most = made->part_count == 1 ? UINT64_MAX : made->stride + made->overlap;
    return left < most ? left : most;
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

// All parts have their memory before the first byte is read: what does not fit is known early.
static weir_status copy_parts(vulkan_storage* made) {
    vulkan_device* device = vulkan_device_of(made->base.device);
    const weir_allocator* allocator = &device->base.allocator;
    const size_t list_bytes = made->part_count * sizeof(vulkan_upload_part);
    void* list = NULL;
    WEIR_TRY(weir_alloc_zeroed(allocator, list_bytes, &list));
    vulkan_upload_part* parts = list;
    weir_status status = WEIR_OK;
    for (uint32_t i = 0; i < made->part_count && status == WEIR_OK; i++) {
        const uint64_t count = part_bytes(made, i, made->base.byte_size);
        parts[i] = (vulkan_upload_part){i > 0 ? made->stride * i : 0, &made->parts[i]};
        status = vulkan_memory_create(device, VULKAN_PLACE_DEVICE,
                                      weir_residency_priority(&made->base), count, &made->parts[i]);
    }
    if (status == WEIR_OK) {
        const vulkan_upload_desc upload = {.map = &made->map,
                                           .parts = parts,
                                           .part_count = made->part_count,
                                           .progress = made->progress,
                                           .progress_context = made->progress_context};
        status = vulkan_upload(device, &upload);
    }
    weir_free(allocator, list, list_bytes, _Alignof(max_align_t));
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
        !device->options.copies_files &&
        find_pages(device, made->map.bytes, made->base.byte_size, &pages) == WEIR_OK) {
        if (import_parts(made, &pages) == WEIR_OK) {
            return WEIR_OK;
        }
        log_line(&device->base.log, WEIR_LOG_INFO, "vulkan: %s is copied: %s", made->base.name,
                 weir_last_error());
        drop_parts(made);
    }
    made->lead = 0;
    const weir_status status = copy_parts(made);
    if (status != WEIR_OK) {
        drop_parts(made);
    }
    made->base.in_budget = status == WEIR_OK;
    atomic_store(&made->base.is_copied, status == WEIR_OK);
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
        status = made->map.base ? bind_file(made) : take_lazily(made);
        atomic_store(&made->buffer, made->parts[0].buffer);
    }
    pthread_mutex_unlock(&made->touch_lock);
    return status;
}

static weir_status advise(weir_storage* storage, uint64_t byte_offset, uint64_t byte_size,
                          weir_advice advice) {
    return host_storage_advise(storage, &cast(storage)->map, byte_offset, byte_size, advice);
}

static weir_status check(const weir_storage* storage) {
    const vulkan_storage* made = (const vulkan_storage*)storage;
    return made->map.base ? file_map_check(&made->map) : WEIR_OK;
}

static weir_status native(const weir_storage* storage, uint64_t byte_offset, uint64_t byte_size,
                          weir_native* found) {
    VkBuffer buffer = VK_NULL_HANDLE;
    uint64_t offset = 0;
    WEIR_TRY(vulkan_storage_locate(storage, byte_offset, byte_size, &buffer, &offset));
    *found = (weir_native){(uint64_t)(uintptr_t)buffer, offset, byte_size};
    return WEIR_OK;
}

static const storage_vtable vulkan_storage_vtable = {
    .touch = touch,
    .advise = advise,
    .native = native,
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

static weir_status make_lazy(vulkan_storage* made) {
    if (pthread_mutex_init(&made->touch_lock, NULL) != 0) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot make the lock of a storage");
    }
    made->base.lazy = true;
    return WEIR_OK;
}

weir_status vulkan_storage_allocate(weir_device* device, const weir_storage_desc* desc,
                                    weir_storage** storage) {
    vulkan_storage* made = NULL;
    WEIR_TRY(vulkan_storage_new(device, desc->name, 1, &made));
    made->base.byte_size = desc->byte_size;
    made->base.device_only = desc->device_only;
    made->fill = desc->fill;
    made->for_kernels = desc->for_kernels;
    made->host_reads = desc->host_reads;
    const weir_status status = desc->lazy ? make_lazy(made) : take_memory(made);
    if (status != WEIR_OK) {
        destroy(&made->base);
        return status;
    }
    atomic_store(&made->buffer, made->parts[0].buffer);
    void* host = atomic_load(&made->base.host);
    made->base.memory_id = host ? HOST_MEMORY_ID : identity_new_id(device);
    made->base.memory_offset = (uint64_t)(uintptr_t)host;
    *storage = &made->base;
    return WEIR_OK;
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
    atomic_store(&made->buffer, made->parts[0].buffer);
    made->release = desc->release;
    made->release_context = desc->context;
    identity_name_host(base, desc->pointer, desc->byte_size, &made->base.memory_id,
                       &made->base.memory_offset);
    atomic_store(&made->base.host, desc->pointer);
    *storage = &made->base;
    return WEIR_OK;
}

weir_status vulkan_storage_map(weir_device* base, const weir_storage_map_desc* desc,
                               weir_storage** storage) {
    vulkan_device* device = vulkan_device_of(base);
    const char* slash = strrchr(desc->path, '/');
    const uint64_t limit = device->probe.allocation_bytes_max;
    const uint64_t quarter = limit / 4 / PART_STEP * PART_STEP;
    const uint64_t overlap = quarter < OVERLAP ? quarter : OVERLAP;
    const uint64_t stride = limit / 2 / PART_STEP * PART_STEP;
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
    made->overlap = overlap;
    made->map = map;
    made->progress = desc->progress;
    made->progress_context = desc->progress_context;
    status = host_storage_name_file(&made->base, &map, desc->byte_offset);
    if (status == WEIR_OK && desc->advice != WEIR_ADVICE_NORMAL) {
        status = advise(&made->base, 0, map.byte_size, desc->advice);
    }
    if (status == WEIR_OK) {
        status = make_lazy(made);
    }
    if (status != WEIR_OK) {
        destroy(&made->base);
        return status;
    }
    *storage = &made->base;
    return WEIR_OK;
}

// The part in which byte `begin` behind the lead begins; the last has what the lead pushes past it.
static uint32_t part_at(const vulkan_storage* made, uint64_t begin) {
    const uint64_t index = begin / made->stride;
    return index < made->part_count ? (uint32_t)index : made->part_count - 1;
}

weir_status vulkan_storage_locate(const weir_storage* storage, uint64_t byte_offset,
                                  uint64_t byte_size, VkBuffer* buffer, uint64_t* buffer_offset) {
    const vulkan_storage* made = (const vulkan_storage*)storage;
    const uint64_t begin = byte_offset + made->lead;
    const uint32_t index = part_at(made, begin);
    const uint64_t within = begin - index * made->stride;
    const vulkan_memory* part = &made->parts[index];
    if (within > part->byte_size || byte_size > part->byte_size - within) {
        return WEIR_FAIL(
            WEIR_UNSUPPORTED, "bytes [%llu, +%llu) of storage %s do not lie in one allocation",
            (unsigned long long)byte_offset, (unsigned long long)byte_size, storage->name);
    }
    *buffer = part->buffer;
    *buffer_offset = within;
    return WEIR_OK;
}

uint64_t vulkan_storage_run_bytes(const weir_view* view) {
    const vulkan_storage* made = (const vulkan_storage*)view->storage;
    const uint64_t begin = view->byte_offset + made->lead;
    const uint32_t index = part_at(made, begin);
    const uint64_t within = begin - index * made->stride;
    const uint64_t byte_size = made->parts[index].byte_size;
    const bool whole = within <= byte_size && weir_view_byte_span(view) <= byte_size - within;
    return whole ? UINT64_MAX : made->overlap;
}
