#include "backends/host_storage.h"

#include <assert.h>
#include <string.h>

#include "base/file_map.h"

// A cache line, and what the widest vector loads like.
#define ALIGNMENT 64

typedef struct host_storage {
    weir_storage base;
    size_t owned_size; // bytes from the allocator; 0 when mapped or wrapped
    file_map map;
    weir_storage_release_fn release;
    void* release_context;
} host_storage;

static_assert(offsetof(host_storage, base) == 0, "the base comes first");

static void destroy(weir_storage* storage) {
    host_storage* host = (host_storage*)storage;
    const weir_allocator allocator = storage->device->allocator;
    if (host->owned_size > 0) {
        weir_free(&allocator, storage->host, host->owned_size, ALIGNMENT);
    }
    file_map_close(&host->map);
    if (host->release) {
        host->release(host->release_context, storage->host);
    }
    object_free(&allocator, host);
}

static const storage_vtable host_storage_vtable = {
    .destroy = destroy,
};

static weir_status new_storage(weir_device* device, const char* name, host_storage** storage) {
    WEIR_TRY(object_new(&device->allocator, storage));
    weir_storage_init(&(*storage)->base, &host_storage_vtable, device, name);
    return WEIR_OK;
}

// Where the bytes lie is who they are: see HOST_MEMORY_ID.
static void set_memory(host_storage* storage, const void* pointer, uint64_t byte_size) {
    storage->base.byte_size = byte_size;
    storage->base.memory_id = HOST_MEMORY_ID;
    storage->base.memory_offset = (uint64_t)(uintptr_t)pointer;
    storage->base.host = (void*)(uintptr_t)pointer;
}

weir_status host_storage_allocate(weir_device* device, const weir_storage_desc* desc,
                                  weir_storage** storage) {
    if (desc->byte_size > SIZE_MAX - ALIGNMENT) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "%llu bytes pass the address space",
                         (unsigned long long)desc->byte_size);
    }
    host_storage* made = NULL;
    WEIR_TRY(new_storage(device, desc->name, &made));
    // Whole cache lines: two storages never share one.
    const size_t rounded = ((size_t)desc->byte_size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    const size_t owned_size = rounded > 0 ? rounded : ALIGNMENT;
    void* pointer = NULL;
    const weir_status status = weir_alloc(&device->allocator, owned_size, ALIGNMENT, &pointer);
    if (status != WEIR_OK) {
        destroy(&made->base);
        return status;
    }
    made->owned_size = owned_size;
    set_memory(made, pointer, desc->byte_size);
    if (desc->fill != WEIR_FILL_NONE) {
        memset(pointer, desc->fill == WEIR_FILL_ZERO ? 0 : 0xFF, owned_size);
    }
    *storage = &made->base;
    return WEIR_OK;
}

weir_status host_storage_map(weir_device* device, const weir_storage_map_desc* desc,
                             weir_storage** storage) {
    host_storage* made = NULL;
    const char* slash = strrchr(desc->path, '/');
    WEIR_TRY(new_storage(device, slash ? slash + 1 : desc->path, &made));
    const weir_status status =
        file_map_open(desc->path, desc->byte_offset, desc->byte_size, &made->map);
    if (status != WEIR_OK) {
        destroy(&made->base);
        return status;
    }
    set_memory(made, made->map.bytes, made->map.byte_size);
    *storage = &made->base;
    return WEIR_OK;
}

weir_status host_storage_wrap(weir_device* device, const weir_storage_wrap_desc* desc,
                              weir_storage** storage) {
    host_storage* made = NULL;
    WEIR_TRY(new_storage(device, desc->name, &made));
    made->release = desc->release;
    made->release_context = desc->context;
    set_memory(made, desc->pointer, desc->byte_size);
    *storage = &made->base;
    return WEIR_OK;
}
