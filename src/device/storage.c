#include <weir/storage.h>

#include <stdio.h>

#include "base/bus_fault.h"
#include "device/backend.h"
#include "device/residency.h"

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
    weir_storage* allocated = NULL;
    WEIR_TRY(device->vtable->allocate(device, desc, &allocated));
    identity_join(allocated);
    if (!allocated->lazy) {
        weir_residency_join(allocated);
    }
    *storage = allocated;
    return WEIR_OK;
}

static weir_status check_advice(weir_advice advice) {
    return advice >= WEIR_ADVICE_NORMAL && advice <= WEIR_ADVICE_DROP
               ? WEIR_OK
               : WEIR_FAIL(WEIR_INVALID_ARGUMENT, "unknown advice %d", (int)advice);
}

weir_status weir_storage_map(weir_device* device, const weir_storage_map_desc* desc,
                             weir_storage** storage) {
    if (!desc->path) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "no path to map");
    }
    WEIR_TRY(check_advice(desc->advice));
    weir_storage* mapped = NULL;
    WEIR_TRY(device->vtable->map(device, desc, &mapped));
    atomic_store(&mapped->sealed, true);
    mapped->constant = true;
    mapped->is_foreign = true;
    identity_join(mapped);
    *storage = mapped;
    return WEIR_OK;
}

weir_status weir_storage_advise(weir_storage* storage, uint64_t byte_offset, uint64_t byte_size,
                                weir_advice advice) {
    WEIR_TRY(check_advice(advice));
    if (byte_offset > storage->byte_size || byte_size > storage->byte_size - byte_offset) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                         "advice for bytes [%llu, +%llu) passes the end of storage %s at %llu",
                         (unsigned long long)byte_offset, (unsigned long long)byte_size,
                         storage->name, (unsigned long long)storage->byte_size);
    }
    const uint64_t rest = storage->byte_size - byte_offset;
    return storage->vtable->advise(storage, byte_offset, byte_size > 0 ? byte_size : rest, advice);
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
    wrapped->is_foreign = true;
    identity_join(wrapped);
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
        identity_leave(storage);
        if (!weir_residency_leave(storage)) {
            storage->vtable->destroy(storage);
        }
    }
}

uint64_t weir_storage_byte_size(const weir_storage* storage) {
    return storage->byte_size;
}

weir_status weir_storage_seal(weir_storage* storage) {
    if (!weir_device_is_idle(storage->device)) {
        return WEIR_FAIL(WEIR_BUSY, "a storage cannot be sealed while work is in flight");
    }
    atomic_store(&storage->sealed, true);
    return WEIR_OK;
}

bool weir_storage_is_sealed(const weir_storage* storage) {
    return atomic_load(&storage->sealed);
}

weir_status storage_touch_nothing(weir_storage* storage) {
    (void)storage;
    return WEIR_OK;
}

weir_status storage_advise_nothing(weir_storage* storage, uint64_t byte_offset, uint64_t byte_size,
                                   weir_advice advice) {
    (void)byte_offset;
    (void)byte_size;
    (void)advice;
    return WEIR_FAIL(WEIR_UNSUPPORTED, "advice for storage %s, which is no mapping", storage->name);
}

weir_status storage_native_host(const weir_storage* storage, uint64_t byte_offset,
                                uint64_t byte_size, weir_native* native) {
    *native = (weir_native){.handle = (uintptr_t)atomic_load(&storage->host),
                            .byte_offset = byte_offset,
                            .byte_length = byte_size};
    return WEIR_OK;
}

weir_status storage_check_nothing(const weir_storage* storage) {
    (void)storage;
    return WEIR_OK;
}

weir_status weir_storage_check(const weir_storage* storage) {
    return storage->vtable->check(storage);
}

weir_status device_check_mappings(const device_dispatch* dispatches, uint32_t count) {
    const weir_storage* last = NULL; // mostly they read one file
    for (uint32_t i = 0; bus_fault_is_handled() && i < count; i++) {
        for (uint32_t k = 0; k < dispatches[i].operand_count; k++) {
            const weir_storage* storage = dispatches[i].views[k].storage;
            if (storage && storage->constant && storage != last) {
                WEIR_TRY(storage->vtable->check(storage));
                last = storage;
            }
        }
    }
    return WEIR_OK;
}

// Only memory that is there can stay resident: of those that touch, one lets the set know. Foreign
// memory joins on request alone.
weir_status weir_storage_touch(weir_storage* storage) {
    if (!storage->lazy || atomic_load_explicit(&storage->touched, memory_order_acquire)) {
        return WEIR_OK;
    }
    WEIR_TRY(storage->vtable->touch(storage));
    if (!atomic_exchange(&storage->touched, true) && !storage->is_foreign) {
        weir_residency_join(storage);
    }
    return WEIR_OK;
}

bool weir_storage_is_allocated(const weir_storage* storage) {
    return !storage->lazy || atomic_load(&storage->touched);
}

bool weir_storage_is_copied(const weir_storage* storage) {
    return atomic_load(&storage->is_copied);
}

bool weir_storage_has_huge_pages(const weir_storage* storage) {
    return atomic_load(&storage->huge_pages);
}

// Being looked at is no change that a caller could see, so a const storage may be touched.
static weir_status touch_host(const weir_storage* storage, void** host) {
    WEIR_TRY(weir_storage_touch((weir_storage*)(uintptr_t)storage));
    *host = atomic_load_explicit(&storage->host, memory_order_acquire);
    return WEIR_OK;
}

// Files have an address before the device has its copy of them.
void* weir_storage_host_pointer(const weir_storage* storage) {
    void* host = atomic_load_explicit(&storage->host, memory_order_acquire);
    if (storage->device_only) {
        return NULL;
    }
    return host || touch_host(storage, &host) == WEIR_OK ? host : NULL;
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
    if (!storage) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "a view of no storage");
    }
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

weir_status weir_view_resolve(const weir_view* view, void** pointer) {
    void* host = NULL;
    WEIR_TRY(touch_host(view->storage, &host));
    *pointer = host ? (uint8_t*)host + view->byte_offset : NULL;
    return WEIR_OK;
}

void* weir_view_contents(const weir_view* view) {
    uint8_t* host = view->storage ? weir_storage_host_pointer(view->storage) : NULL;
    return host ? host + view->byte_offset : NULL;
}

weir_status weir_view_native(const weir_view* view, weir_native* native) {
    const weir_storage* storage = view->storage;
    if (!storage) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "a view without storage has no native handle");
    }
    void* host = NULL;
    WEIR_TRY(touch_host(storage, &host));
    return storage->vtable->native(storage, view->byte_offset, weir_view_byte_span(view), native);
}

char* weir_view_describe(const weir_view* view, char* text, size_t capacity) {
    char layout[512];
    snprintf(text, capacity, "%s: %s", view->storage ? view->storage->name : "no storage",
             weir_view_format(view, layout, sizeof layout));
    return text;
}
