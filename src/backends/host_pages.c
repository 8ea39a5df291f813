#include "backends/host_pages.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"

typedef struct reserved_storage {
    weir_storage base;
    size_t mapped_size; // whole pages
} reserved_storage;

static_assert(offsetof(reserved_storage, base) == 0, "the base comes first");

uint64_t host_pages_size(void) {
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

static void destroy(weir_storage* storage) {
    reserved_storage* reserved = (reserved_storage*)storage;
    const weir_allocator allocator = storage->device->allocator;
    munmap(atomic_load(&storage->host), reserved->mapped_size);
    object_free(&allocator, reserved);
}

static const storage_vtable reserved_storage_vtable = {
    .touch = storage_touch_nothing,
    .advise = storage_advise_nothing,
    .native = storage_native_host,
    .check = storage_check_nothing,
    .destroy = destroy,
};

// Pages without any access count against no limit of the system; those that commit opens do.
weir_status host_pages_reserve(weir_device* device, uint64_t byte_size, const char* name,
                               weir_storage** storage) {
    uint64_t mapped_size = 0;
    if (!align_u64(byte_size, host_pages_size(), &mapped_size) || mapped_size > SIZE_MAX / 2) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "%llu bytes pass the address space",
                         (unsigned long long)byte_size);
    }
    reserved_storage* made = NULL;
    WEIR_TRY(object_new(&device->allocator, &made));
    void* pointer = mmap(NULL, (size_t)mapped_size, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pointer == MAP_FAILED) {
        const int error = errno;
        object_free(&device->allocator, made);
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot reserve %llu bytes of addresses: %s",
                         (unsigned long long)byte_size, strerror(error));
    }
    weir_storage_init(&made->base, &reserved_storage_vtable, device, name);
    made->mapped_size = (size_t)mapped_size;
    made->base.byte_size = byte_size;
    made->base.memory_id = HOST_MEMORY_ID;
    made->base.memory_offset = (uint64_t)(uintptr_t)pointer;
    atomic_store(&made->base.host, pointer);
    *storage = &made->base;
    return WEIR_OK;
}

weir_status host_pages_commit(weir_storage* storage, uint64_t begin, uint64_t end) {
    char* pages = (char*)atomic_load(&storage->host) + begin;
    if (mprotect(pages, (size_t)(end - begin), PROT_READ | PROT_WRITE) != 0) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "%s: cannot commit %llu bytes: %s", storage->name,
                         (unsigned long long)(end - begin), strerror(errno));
    }
    return WEIR_OK;
}

// A new mapping in the same place drops the pages and what they count for. Where the system cannot
// split its list of mappings any further the old one stays: more bytes are taken than said, and the
// next commit finds them as they are.
void host_pages_decommit(weir_storage* storage, uint64_t begin, uint64_t end) {
    char* pages = (char*)atomic_load(&storage->host) + begin;
    const void* mapped = mmap(pages, (size_t)(end - begin), PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    (void)mapped;
}

// Advice that the system does not take changes nothing, so its answer is not looked at.
weir_status host_pages_hold(const weir_storage* storage, weir_residency_mode mode, int priority) {
    (void)priority; // the system knows none
    char* host = atomic_load(&storage->host);
    const size_t lead = (uintptr_t)host % host_pages_size();
    const size_t length = (size_t)storage->byte_size + lead;
    madvise(host - lead, length, MADV_WILLNEED);
    if (mode == WEIR_RESIDENCY_LOCK && mlock(host - lead, length) != 0) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "%s: cannot lock %llu bytes: %s", storage->name,
                         (unsigned long long)storage->byte_size, strerror(errno));
    }
    return WEIR_OK;
}

void host_pages_let_go(const weir_storage* storage, void* pages, uint64_t byte_size,
                       weir_residency_mode mode) {
    (void)storage;
    if (mode == WEIR_RESIDENCY_LOCK) {
        munlock(pages, (size_t)byte_size);
    }
    madvise(pages, (size_t)byte_size, MADV_COLD);
}
