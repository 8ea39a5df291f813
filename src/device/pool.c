#include <weir/pool.h>

#include <string.h>

#include "device/backend.h"
#include "device/pool_class.h"

#define NO_SLOT 0 // slot 0 is never used, so that zeroed lists are empty

typedef enum slot_state {
    SLOT_EMPTY = 0,
    SLOT_PENDING, // its bytes are in use, its storage is being allocated
    SLOT_IN_USE,
    SLOT_CACHED,
} slot_state;

enum { BY_CLASS, BY_AGE, LIST_KINDS };

// The storage and lease of an empty slot are those that it had last: to compare with, never to use.
typedef struct pool_slot {
    slot_state state;
    uint32_t class_index;
    weir_storage* storage; // the pool's reference
    uint64_t byte_size;    // of the class
    uint64_t asked;        // of the acquisition
    uint64_t lease;        // number of the last acquisition
    uint64_t sequence;     // last commit of the device at the return
    struct {
        uint32_t older, newer; // neighbours by the time of the return; of an empty slot, the next
    } links[LIST_KINDS];       // empty one is `older` by age
} pool_slot;

typedef struct slot_list {
    uint32_t oldest, newest;
} slot_list;

// Invariants, whenever the lock is free:
//
//     usage.bytes_in_use = sum of byte_size over pending and used slots
//     usage.bytes_cached = sum of byte_size over cached slots, which `age` and the classes list
//     usage.bytes_in_use + usage.bytes_cached <= usage.byte_cap
struct weir_pool {
    weir_device* device;
    pthread_mutex_t lock; // guards what follows
    struct {
        pool_slot* items;
        size_t count, capacity;
    } slots;
    uint32_t first_empty;
    uint64_t leases;
    weir_pool_usage usage;
    slot_list age; // all cached slots
    slot_list classes[POOL_CLASS_COUNT];
};

weir_status weir_pool_create(weir_device* device, const weir_pool_desc* desc, weir_pool** pool) {
    weir_pool* made = NULL;
    WEIR_TRY(object_new(&device->allocator, &made));
    if (pthread_mutex_init(&made->lock, NULL) != 0) {
        object_free(&device->allocator, made);
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot make the lock of a pool");
    }
    made->device = device;
    made->usage.byte_cap = desc->byte_cap > 0 ? desc->byte_cap : UINT64_MAX;
    *pool = made;
    return WEIR_OK;
}

void weir_pool_destroy(weir_pool* pool) {
    if (!pool) {
        return;
    }
    const weir_allocator* allocator = &pool->device->allocator;
    for (size_t i = 0; i < pool->slots.count; i++) {
        if (pool->slots.items[i].state != SLOT_EMPTY) {
            weir_storage_release(pool->slots.items[i].storage);
        }
    }
    array_free(allocator, &pool->slots);
    pthread_mutex_destroy(&pool->lock);
    object_free(allocator, pool);
}

static void list_append(weir_pool* pool, slot_list* list, int kind, uint32_t slot) {
    pool_slot* slots = pool->slots.items;
    slots[slot].links[kind].older = list->newest;
    slots[slot].links[kind].newer = NO_SLOT;
    if (list->newest != NO_SLOT) {
        slots[list->newest].links[kind].newer = slot;
    } else {
        list->oldest = slot;
    }
    list->newest = slot;
}

static void list_remove(weir_pool* pool, slot_list* list, int kind, uint32_t slot) {
    pool_slot* slots = pool->slots.items;
    const uint32_t older = slots[slot].links[kind].older;
    const uint32_t newer = slots[slot].links[kind].newer;
    if (older != NO_SLOT) {
        slots[older].links[kind].newer = newer;
    } else {
        list->oldest = newer;
    }
    if (newer != NO_SLOT) {
        slots[newer].links[kind].older = older;
    } else {
        list->newest = older;
    }
}

// Lists order the cached slots by the time of their return. Returns in order have sequences in
// order, but views and sessions may hold any of them: idle ones can lie anywhere.
static void put_in_cache(weir_pool* pool, uint32_t slot) {
    pool_slot* cached = &pool->slots.items[slot];
    cached->state = SLOT_CACHED;
    list_append(pool, &pool->age, BY_AGE, slot);
    list_append(pool, &pool->classes[cached->class_index], BY_CLASS, slot);
    pool->usage.bytes_cached += cached->byte_size;
    pool->usage.storages_cached++;
}

static void take_from_cache(weir_pool* pool, uint32_t slot) {
    pool_slot* cached = &pool->slots.items[slot];
    list_remove(pool, &pool->age, BY_AGE, slot);
    list_remove(pool, &pool->classes[cached->class_index], BY_CLASS, slot);
    pool->usage.bytes_cached -= cached->byte_size;
    pool->usage.storages_cached--;
}

static void empty_slot(weir_pool* pool, uint32_t slot) {
    pool->slots.items[slot].state = SLOT_EMPTY;
    pool->slots.items[slot].links[BY_AGE].older = pool->first_empty;
    pool->first_empty = slot;
}

// Once a storage is returned nobody may take a new reference, and commits only complete, so what is
// idle stays idle. References cover the work that names the storage. The sequence covers undeclared
// work, which may touch it without naming it.
static bool is_idle(const weir_pool* pool, const pool_slot* cached) {
    return atomic_load_explicit(&cached->storage->references, memory_order_acquire) == 1 &&
           weir_device_is_past(pool->device, cached->sequence);
}

static uint64_t waiting_bytes(const weir_pool* pool) {
    const pool_slot* slots = pool->slots.items;
    uint64_t byte_size = 0;
    for (uint32_t i = pool->age.oldest; i != NO_SLOT; i = slots[i].links[BY_AGE].newer) {
        byte_size += is_idle(pool, &slots[i]) ? 0 : slots[i].byte_size;
    }
    return byte_size;
}

// Drops idle storages until at most `byte_size` bytes are cached, and all that are of no more use.
// Released under the lock: the bytes are gone before they are no longer counted.
static uint64_t drop_idle(weir_pool* pool, uint64_t byte_size) {
    uint64_t dropped = 0;
    for (uint32_t i = pool->age.oldest; i != NO_SLOT;) {
        const pool_slot* slot = &pool->slots.items[i];
        const uint32_t newer = slot->links[BY_AGE].newer;
        const bool wanted =
            pool->usage.bytes_cached <= byte_size && !weir_storage_is_sealed(slot->storage);
        if (!wanted && is_idle(pool, slot)) {
            weir_storage_release(slot->storage);
            take_from_cache(pool, i);
            empty_slot(pool, i);
            pool->usage.drops++;
            dropped++;
        }
        i = newer;
    }
    return dropped;
}

// The last one returned is the most likely to be in the caches of the processor.
static uint32_t find_cached(const weir_pool* pool, uint32_t class_index, weir_fill fill) {
    const pool_slot* slots = pool->slots.items;
    for (uint32_t i = pool->classes[class_index].newest; i != NO_SLOT;
         i = slots[i].links[BY_CLASS].older) {
        // Where the host cannot fill the memory, a new storage is filled by the device.
        const bool fillable =
            fill == WEIR_FILL_NONE || weir_storage_host_pointer(slots[i].storage) != NULL;
        if (fillable && !weir_storage_is_sealed(slots[i].storage) && is_idle(pool, &slots[i])) {
            return i;
        }
    }
    return NO_SLOT;
}

static weir_status refuse(weir_pool* pool, uint64_t byte_size, uint64_t waiting,
                          weir_pool_deficit* deficit) {
    const uint64_t room = pool->usage.byte_cap - pool->usage.bytes_in_use - waiting;
    const weir_pool_deficit found = {.byte_size = byte_size,
                                     .byte_cap = pool->usage.byte_cap,
                                     .in_use = pool->usage.bytes_in_use,
                                     .waiting = waiting,
                                     .missing = byte_size - room};
    pool->usage.refusals++;
    if (deficit) {
        *deficit = found;
    }
    return WEIR_FAIL(WEIR_DEVICE_OUT_OF_MEMORY,
                     "%llu bytes of scratch pass the cap of the pool by %llu: cap %llu, in use "
                     "%llu, returned but held by work or views %llu",
                     (unsigned long long)found.byte_size, (unsigned long long)found.missing,
                     (unsigned long long)found.byte_cap, (unsigned long long)found.in_use,
                     (unsigned long long)found.waiting);
}

static weir_status find_empty(weir_pool* pool, uint32_t* slot) {
    if (pool->first_empty != NO_SLOT) {
        *slot = pool->first_empty;
        pool->first_empty = pool->slots.items[*slot].links[BY_AGE].older;
        return WEIR_OK;
    }
    const size_t count = pool->slots.count > 0 ? pool->slots.count : 1; // the first comes with 0
    if (count >= UINT32_MAX) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "a pool of %zu storages is full", count - 1);
    }
    WEIR_TRY(array_reserve(&pool->device->allocator, &pool->slots, count + 1));
    pool->slots.items[0] = (pool_slot){.state = SLOT_EMPTY};
    pool->slots.items[count] = (pool_slot){.state = SLOT_EMPTY};
    pool->slots.count = count + 1;
    *slot = (uint32_t)count;
    return WEIR_OK;
}

// Makes room for a new storage under the cap, and counts it from now on. Nothing is dropped for a
// request that cannot be met.
static weir_status reserve(weir_pool* pool, uint32_t class_index, weir_pool_deficit* deficit,
                           uint32_t* slot) {
    const uint64_t byte_size = pool_class_bytes(class_index);
    const uint64_t waiting = waiting_bytes(pool);
    if (byte_size > pool->usage.byte_cap - pool->usage.bytes_in_use - waiting) {
        return refuse(pool, byte_size, waiting, deficit);
    }
    uint32_t found = NO_SLOT;
    WEIR_TRY(find_empty(pool, &found));
    drop_idle(pool, pool->usage.byte_cap - pool->usage.bytes_in_use - byte_size);
    pool_slot* reserved = &pool->slots.items[found];
    reserved->state = SLOT_PENDING;
    reserved->storage = NULL;
    reserved->class_index = class_index;
    reserved->byte_size = byte_size;
    pool->usage.bytes_in_use += byte_size;
    *slot = found;
    return WEIR_OK;
}

static weir_scratch start_lease(weir_pool* pool, uint32_t slot, uint64_t asked) {
    pool_slot* used = &pool->slots.items[slot];
    weir_pool_usage* usage = &pool->usage;
    const uint64_t held = usage->bytes_in_use + usage->bytes_cached;
    used->state = SLOT_IN_USE;
    used->asked = asked;
    used->lease = ++pool->leases;
    usage->bytes_asked += asked;
    usage->storages_in_use++;
    usage->peak_in_use =
        usage->bytes_in_use > usage->peak_in_use ? usage->bytes_in_use : usage->peak_in_use;
    usage->peak_held = held > usage->peak_held ? held : usage->peak_held;
    return (weir_scratch){.storage = used->storage, .lease = used->lease, .slot = slot};
}

// Allocates without the lock; the slot is reserved. A device that has no memory left is asked again
// once the pool has dropped what it can.
static weir_status allocate(weir_pool* pool, uint32_t class_index, weir_fill fill,
                            weir_storage** storage) {
    const weir_storage_desc desc = {
        .byte_size = pool_class_bytes(class_index), .fill = fill, .name = "scratch"};
    const weir_status status = weir_storage_allocate(pool->device, &desc, storage);
    if (status != WEIR_OUT_OF_MEMORY && status != WEIR_DEVICE_OUT_OF_MEMORY) {
        return status;
    }
    pthread_mutex_lock(&pool->lock);
    const uint64_t dropped = drop_idle(pool, 0);
    pthread_mutex_unlock(&pool->lock);
    return dropped > 0 ? weir_storage_allocate(pool->device, &desc, storage) : status;
}

static weir_status finish_reserved(weir_pool* pool, uint32_t slot, uint32_t class_index,
                                   const weir_scratch_desc* desc, weir_scratch* scratch) {
    weir_storage* storage = NULL;
    const weir_status status = allocate(pool, class_index, desc->fill, &storage);
    pthread_mutex_lock(&pool->lock);
    if (status == WEIR_OK) { // the slots may have moved meanwhile, the number holds
        pool->slots.items[slot].storage = storage;
        *scratch = start_lease(pool, slot, desc->byte_size);
        pool->usage.misses++;
    } else {
        pool->usage.bytes_in_use -= pool_class_bytes(class_index);
        empty_slot(pool, slot);
    }
    pthread_mutex_unlock(&pool->lock);
    return status;
}

static void fill_storage(const weir_storage* storage, weir_fill fill) {
    if (fill != WEIR_FILL_NONE) {
        memset(weir_storage_host_pointer(storage), fill == WEIR_FILL_ZERO ? 0 : 0xFF,
               (size_t)weir_storage_byte_size(storage));
    }
}

weir_status weir_pool_acquire(weir_pool* pool, const weir_scratch_desc* desc, weir_scratch* scratch,
                              weir_pool_deficit* deficit) {
    if (desc->fill != WEIR_FILL_NONE && desc->fill != WEIR_FILL_ZERO &&
        desc->fill != WEIR_FILL_POISON) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "unknown fill %d", (int)desc->fill);
    }
    uint32_t class_index = 0;
    if (!pool_class_of(desc->byte_size, &class_index)) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "no size class holds %llu bytes of scratch",
                         (unsigned long long)desc->byte_size);
    }
    // Sessions let go of the storages of completed work; release callbacks run without our lock.
    weir_device_reap(pool->device);
    weir_scratch found = {0};
    weir_status status = WEIR_OK;
    uint32_t reserved = NO_SLOT;
    pthread_mutex_lock(&pool->lock);
    const uint32_t cached = find_cached(pool, class_index, desc->fill);
    if (cached != NO_SLOT) {
        take_from_cache(pool, cached);
        pool->usage.bytes_in_use += pool->slots.items[cached].byte_size;
        pool->usage.hits++;
        found = start_lease(pool, cached, desc->byte_size);
    } else {
        status = reserve(pool, class_index, deficit, &reserved);
    }
    pthread_mutex_unlock(&pool->lock);
    WEIR_TRY(status);
    if (cached == NO_SLOT) {
        return finish_reserved(pool, reserved, class_index, desc, scratch);
    }
    fill_storage(found.storage, desc->fill);
    *scratch = found;
    return WEIR_OK;
}

// The storage of `scratch` is compared, not read: it may be gone.
static weir_status check_lease(const weir_pool* pool, const weir_scratch* scratch) {
    const pool_slot* slot =
        scratch->slot < pool->slots.count ? &pool->slots.items[scratch->slot] : NULL;
    if (!slot || !scratch->storage || slot->storage != scratch->storage || scratch->lease == 0 ||
        scratch->lease > slot->lease) {
        return WEIR_FAIL(WEIR_NOT_FOUND,
                         "storage %p, lease %llu, is no scratch of this pool, or was dropped since",
                         (void*)scratch->storage, (unsigned long long)scratch->lease);
    }
    if (slot->lease != scratch->lease || slot->state != SLOT_IN_USE) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "scratch of %llu bytes, lease %llu, returned twice",
                         (unsigned long long)slot->byte_size, (unsigned long long)scratch->lease);
    }
    return WEIR_OK;
}

weir_status weir_pool_return(weir_pool* pool, const weir_scratch* scratch) {
    pthread_mutex_lock(&pool->lock);
    const weir_status status = check_lease(pool, scratch);
    if (status == WEIR_OK) {
        pool_slot* slot = &pool->slots.items[scratch->slot];
        // Whatever the caller committed before has its number by now.
        slot->sequence = atomic_load(&pool->device->submitted);
        pool->usage.bytes_in_use -= slot->byte_size;
        pool->usage.bytes_asked -= slot->asked;
        pool->usage.storages_in_use--;
        put_in_cache(pool, scratch->slot);
    }
    pthread_mutex_unlock(&pool->lock);
    return status;
}

uint64_t weir_pool_trim(weir_pool* pool, uint64_t byte_size) {
    weir_device_reap(pool->device);
    pthread_mutex_lock(&pool->lock);
    drop_idle(pool, byte_size);
    const uint64_t left = pool->usage.bytes_cached;
    pthread_mutex_unlock(&pool->lock);
    return left;
}

weir_pool_usage weir_pool_usage_of(weir_pool* pool) {
    weir_device_reap(pool->device);
    pthread_mutex_lock(&pool->lock);
    weir_pool_usage usage = pool->usage;
    usage.bytes_waiting = waiting_bytes(pool);
    pthread_mutex_unlock(&pool->lock);
    return usage;
}
