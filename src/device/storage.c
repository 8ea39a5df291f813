#include <weir/storage.h>

#include <stdio.h>

#include "device/backend.h"

void weir_storage_init(weir_storage* storage, const storage_vtable* vtable, weir_device* device,
                       const char* name) {
    storage->vtable = vtable;
    storage->device = device;
    snprintf(storage->name, sizeof storage->name, "%s", name ? name : "unnamed");
    atomic_init(&storage->references, 1);
    atomic_init(&storage->sealed, false);
}

weir_status weir_storage_allocate(weir_device* device, const weir_storage_desc* desc,
                                  weir_storage** storage) {
    if (desc->fill != WEIR_FILL_NONE && desc->fill != WEIR_FILL_ZERO &&
        desc->fill != WEIR_FILL_POISON) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "unknown fill %d", (int)desc->fill);
    }
    const uint64_t limit = device->target.storage_bytes_max;
    if (limit > 0 && desc->byte_size > limit) {
        return WEIR_FAIL(
            WEIR_DEVICE_OUT_OF_MEMORY, "a storage of %llu bytes passes the limit of %s, %llu bytes",
            (unsigned long long)desc->byte_size, device->target.name, (unsigned long long)limit);
    }
    return device->vtable->allocate(device, desc, storage);
}

weir_status weir_storage_map(weir_device* device, const weir_storage_map_desc* desc,
                             weir_storage** storage) {
    if (!desc->path) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "no path to map");
    }
    weir_storage* mapped = NULL;
    WEIR_TRY(device->vtable->map(device, desc, &mapped));
    atomic_store(&mapped->sealed, true);
    *storage = mapped;
    return WEIR_OK;
}

weir_status weir_storage_wrap(weir_device* device, const weir_storage_wrap_desc* desc,
                              weir_storage** storage) {
    if (!desc->pointer && desc->byte_size > 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "cannot wrap %llu bytes at NULL",
                         (unsigned long long)desc->byte_size);
    }
    if (desc->byte_size > UINT64_MAX - (uintptr_t)desc->pointer) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%llu bytes at %p pass the address space",
                         (unsigned long long)desc->byte_size, desc->pointer);
    }
    weir_storage* wrapped = NULL;
    WEIR_TRY(device->vtable->wrap(device, desc, &wrapped));
    atomic_store(&wrapped->sealed, desc->sealed);
    *storage = wrapped;
    return WEIR_OK;
}

void weir_storage_retain(weir_storage* storage) {
    if (storage) {
        atomic_fetch_add_explicit(&storage->references, 1, memory_order_relaxed);
    }
}

void weir_storage_release(weir_storage* storage) {
    if (storage && atomic_fetch_sub_explicit(&storage->references, 1, memory_order_acq_rel) == 1) {
        storage->vtable->destroy(storage);
    }
}

uint64_t weir_storage_byte_size(const weir_storage* storage) {
    return storage->byte_size;
}

weir_status weir_storage_seal(weir_storage* storage) {
    weir_device* device = storage->device;
    if (atomic_load(&device->completed) != atomic_load(&device->submitted)) {
        return WEIR_FAIL(WEIR_BUSY, "a storage cannot be sealed while work is in flight");
    }
    atomic_store(&storage->sealed, true);
    return WEIR_OK;
}

bool weir_storage_is_sealed(const weir_storage* storage) {
    return atomic_load(&storage->sealed);
}

void* weir_storage_host_pointer(const weir_storage* storage) {
    return storage->host;
}

weir_status weir_view_check_memory(const weir_view* view) {
    const weir_storage* storage = view->storage;
    const weir_dtype_info* dtype = weir_dtype_describe(view->dtype);
    const uint64_t byte_size = weir_view_byte_span(view);
    if (view->byte_offset > storage->byte_size ||
        byte_size > storage->byte_size - view->byte_offset) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                         "a view of bytes [%llu, +%llu) passes the end of storage %s at %llu",
                         (unsigned long long)view->byte_offset, (unsigned long long)byte_size,
                         storage->name, (unsigned long long)storage->byte_size);
    }
    if (dtype->alignment > 1 &&
        (storage->memory_offset + view->byte_offset) % dtype->alignment != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "offset %llu of storage %s is not aligned to the %u bytes of %s in memory",
                         (unsigned long long)view->byte_offset, storage->name, dtype->alignment,
                         dtype->name);
    }
    return WEIR_OK;
}

weir_status weir_view_make(weir_storage* storage, uint64_t byte_offset, weir_dtype dtype,
                           const weir_shape* shape, weir_view* view) {
    weir_view made;
    WEIR_TRY(weir_view_layout(dtype, shape, &made));
    made.storage = storage;
    made.byte_offset = byte_offset;
    WEIR_TRY(weir_view_check_memory(&made));
    *view = made;
    return WEIR_OK;
}

void weir_view_retain(const weir_view* view) {
    weir_storage_retain(view->storage);
}

void weir_view_release(const weir_view* view) {
    weir_storage_release(view->storage);
}

weir_range weir_view_range(const weir_view* view) {
    if (!view->storage) {
        return (weir_range){0};
    }
    return weir_range_from_view(view, view->storage->memory_id, view->storage->memory_offset, NULL);
}

weir_access weir_access_from_view(const weir_view* view, weir_access_kind kind) {
    return (weir_access){.range = weir_view_range(view), .kind = kind};
}

void* weir_view_contents(const weir_view* view) {
    return view->storage && view->storage->host ? (uint8_t*)view->storage->host + view->byte_offset
                                                : NULL;
}
