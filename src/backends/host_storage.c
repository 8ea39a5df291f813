#include "backends/host_storage.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#include "base/file_map.h"
#include "base/futex.h"

// A cache line, and what the widest vector loads like.
#define ALIGNMENT 64

// What x86-64 and AArch64 (with pages of 4 KiB) call a huge page.
#define HUGE_PAGE ((size_t)2 << 20)

// Stages of a lazy storage. Those who find it BUSY sleep on the word.
enum { STAGE_EMPTY, STAGE_BUSY, STAGE_READY };

typedef struct host_storage {
    weir_storage base;
    atomic_uint stage;
    weir_fill fill;
    size_t owned_size; // bytes for the allocator; 0 when mapped or wrapped
    size_t alignment;
    file_map map;
    weir_storage_release_fn release;
    void* release_context;
} host_storage;

static_assert(offsetof(host_storage, base) == 0, "the base comes first");

weir_status host_storage_name_file(weir_storage* storage, const file_map* map,
                                   uint64_t byte_offset) {
    weir_device* device = storage->device;
    uint64_t memory_id = 0;
    WEIR_TRY(identity_name_file(device, map->device, map->inode, &memory_id));
    const weir_status status =
        identity_add_place(device, map->bytes, map->byte_size, memory_id, byte_offset);
    if (status != WEIR_OK) {
        identity_forget_file(device, memory_id);
        return status;
    }
    storage->byte_size = map->byte_size;
    storage->memory_id = memory_id;
    storage->memory_offset = byte_offset;
    atomic_store(&storage->host, (void*)(uintptr_t)map->bytes);
    return WEIR_OK;
}

void host_storage_forget_file(weir_storage* storage, const file_map* map) {
    if (map->base && storage->memory_id != 0) {
        identity_remove_place(storage->device, map->bytes);
        identity_forget_file(storage->device, storage->memory_id);
    }
}

static void destroy(weir_storage* storage) {
    host_storage* host = (host_storage*)storage;
    const weir_allocator allocator = storage->device->allocator;
    void* pointer = atomic_load(&storage->host);
    if (storage->lazy && pointer && storage->byte_size > 0) {
        identity_remove_place(storage->device, pointer);
    }
    host_storage_forget_file(storage, &host->map);
    if (host->owned_size > 0 && pointer) {
        weir_free(&allocator, pointer, host->owned_size, host->alignment);
    }
    file_map_close(&host->map);
    if (host->release) {
        host->release(host->release_context, pointer);
    }
    object_free(&allocator, host);
}

// Takes the memory of an owned storage. Advice comes before the first write, which is what makes
// the system choose a page.
static weir_status take_memory(host_storage* host) {
    weir_storage* storage = &host->base;
    void* pointer = NULL;
    WEIR_TRY(weir_alloc(&storage->device->allocator, host->owned_size, host->alignment, &pointer));
    if (host->alignment == HUGE_PAGE) {
        const size_t whole_pages = host->owned_size / HUGE_PAGE * HUGE_PAGE;
        atomic_store(&storage->huge_pages, madvise(pointer, whole_pages, MADV_HUGEPAGE) == 0);
    }
    if (host->fill != WEIR_FILL_NONE) {
        memset(pointer, host->fill == WEIR_FILL_ZERO ? 0 : 0xFF, host->owned_size);
    }
    weir_status status = WEIR_OK;
    if (storage->lazy && storage->byte_size > 0) {
        status = identity_add_place(storage->device, pointer, storage->byte_size,
                                    storage->memory_id, storage->memory_offset);
    }
    if (status != WEIR_OK) {
        weir_free(&storage->device->allocator, pointer, host->owned_size, host->alignment);
        return status;
    }
    atomic_store_explicit(&storage->host, pointer, memory_order_release);
    return WEIR_OK;
}

// One thread allocates, the others sleep; when it fails, each of them tries for itself.
static weir_status touch(weir_storage* storage) {
    host_storage* host = (host_storage*)storage;
    for (;;) {
        unsigned stage = STAGE_EMPTY;
        if (atomic_compare_exchange_strong(&host->stage, &stage, STAGE_BUSY)) {
            const weir_status status = take_memory(host);
            atomic_store(&host->stage, status == WEIR_OK ? STAGE_READY : STAGE_EMPTY);
            futex_wake(&host->stage, UINT32_MAX);
            return status;
        }
        if (stage == STAGE_READY) {
            return WEIR_OK;
        }
        futex_wait(&host->stage, STAGE_BUSY, FUTEX_FOREVER);
    }
}

weir_status host_storage_advise(weir_storage* storage, file_map* map, uint64_t byte_offset,
                                uint64_t byte_size, weir_advice advice) {
    static const file_advice kinds[] = {
        [WEIR_ADVICE_NORMAL] = FILE_NORMAL, [WEIR_ADVICE_SEQUENTIAL] = FILE_SEQUENTIAL,
        [WEIR_ADVICE_RANDOM] = FILE_RANDOM, [WEIR_ADVICE_WILL_NEED] = FILE_WILL_NEED,
        [WEIR_ADVICE_DROP] = FILE_DROP,
    };
    return map->base ? file_map_advise(map, byte_offset, byte_size, kinds[advice])
                     : storage_advise_nothing(storage, byte_offset, byte_size, advice);
}

static weir_status advise(weir_storage* storage, uint64_t byte_offset, uint64_t byte_size,
                          weir_advice advice) {
    host_storage* host = (host_storage*)storage;
    return host_storage_advise(storage, &host->map, byte_offset, byte_size, advice);
}

static weir_status check(const weir_storage* storage) {
    const host_storage* host = (const host_storage*)storage;
    return host->map.base ? file_map_check(&host->map) : WEIR_OK;
}

static const storage_vtable host_storage_vtable = {
    .touch = touch,
    .advise = advise,
    .native = storage_native_host,
    .check = check,
    .destroy = destroy,
};

static weir_status new_storage(weir_device* device, const char* name, host_storage** storage) {
    WEIR_TRY(object_new(&device->allocator, storage));
    weir_storage_init(&(*storage)->base, &host_storage_vtable, device, name);
    return WEIR_OK;
}

// Memory that was just allocated is where nothing else is: its address is its name.
static void name_by_address(weir_storage* storage) {
    storage->memory_id = HOST_MEMORY_ID;
    storage->memory_offset = (uintptr_t)atomic_load(&storage->host);
}

weir_status host_storage_allocate(weir_device* device, const weir_storage_desc* desc,
                                  weir_storage** storage) {
    if (desc->byte_size > SIZE_MAX - HUGE_PAGE) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "%llu bytes pass the address space",
                         (unsigned long long)desc->byte_size);
    }
    host_storage* made = NULL;
    WEIR_TRY(new_storage(device, desc->name, &made));
    // Whole cache lines: two storages never share one.
    const size_t rounded = ((size_t)desc->byte_size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    made->owned_size = rounded > 0 ? rounded : ALIGNMENT;
    made->alignment = desc->huge_pages && rounded >= HUGE_PAGE ? HUGE_PAGE : ALIGNMENT;
    made->fill = desc->fill;
    made->base.device_only = desc->device_only;
    made->base.lazy = desc->lazy;
    made->base.byte_size = desc->byte_size;
    if (desc->lazy) { // it has no address yet that could be its name
        made->base.memory_id = identity_new_id(device);
    } else {
        const weir_status status = take_memory(made);
        if (status != WEIR_OK) {
            destroy(&made->base);
            return status;
        }
        name_by_address(&made->base);
    }
    *storage = &made->base;
    return WEIR_OK;
}

weir_status host_storage_map(weir_device* device, const weir_storage_map_desc* desc,
                             weir_storage** storage) {
    host_storage* made = NULL;
    const char* slash = strrchr(desc->path, '/');
    WEIR_TRY(new_storage(device, slash ? slash + 1 : desc->path, &made));
    weir_status status = file_map_open(desc->path, desc->byte_offset, desc->byte_size, &made->map);
    if (status == WEIR_OK && desc->advice != WEIR_ADVICE_NORMAL) {
        status = advise(&made->base, 0, made->map.byte_size, desc->advice);
    }
    if (status == WEIR_OK) {
        status = host_storage_name_file(&made->base, &made->map, desc->byte_offset);
    }
    if (status != WEIR_OK) {
        destroy(&made->base);
        return status;
    }
    *storage = &made->base;
    return WEIR_OK;
}

weir_status host_storage_wrap(weir_device* device, const weir_storage_wrap_desc* desc,
                              weir_storage** storage) {
    host_storage* made = NULL;
    WEIR_TRY(new_storage(device, desc->name, &made));
    made->release = desc->release;
    made->release_context = desc->context;
    made->base.byte_size = desc->byte_size;
    identity_name_host(device, desc->pointer, desc->byte_size, &made->base.memory_id,
                       &made->base.memory_offset);
    atomic_store(&made->base.host, desc->pointer);
    *storage = &made->base;
    return WEIR_OK;
}
