#include "device/shadow.h"

#include <pthread.h>
#include <string.h>

#include "base/checked.h"
#include "device/backend.h"
#include "tensor/half.h"

#define TILE_ELEMENTS 65536
#define LARGEST_HALF 65504.0f

// The conversion is a dispatch like any other, prepared once. Invariant: a shadow that is not
// `dirty` equals its source as of its last commit.
struct weir_shadow {
    weir_device* device;
    weir_view source; // retained
    weir_view halves; // retained
    atomic_bool dirty;
    atomic_uint_least64_t conversions;
    atomic_uint_least64_t saturated;
    pthread_mutex_t lock; // guards the two below: one conversion at a time
    weir_ticket ticket;
    access_array flight; // of the conversion in flight: the device's until it is complete
    dispatch_narrow constants;
    weir_view views[2];
    void* pointers[2];
    access_array accesses; // by every name: reads of the source, then writes of the halves
    size_t source_count;   // of those
    device_dispatch dispatch;
    device_work* work;
    weir_shadow* next; // in the list of the device
};

static uint64_t convert_values(const float* numbers, uint16_t* halves, size_t count) {
    uint64_t saturated = 0;
    for (size_t i = 0; i < count; i++) {
        const uint32_t magnitude = float_to_bits(numbers[i]) & 0x7FFFFFFFu;
        const bool cut = magnitude > float_to_bits(LARGEST_HALF) && magnitude < 0x7F800000u;
        const uint16_t sign = (uint16_t)((float_to_bits(numbers[i]) >> 16) & 0x8000u);
        halves[i] = cut ? (uint16_t)(sign | 0x7BFFu) : f16_narrow(numbers[i]);
        saturated += cut ? 1 : 0;
    }
    return saturated;
}

static weir_status convert_tile(const weir_kernel_call* call) {
    const dispatch_narrow* narrow = call->constants;
    const size_t count = (size_t)weir_view_element_count(&call->views[0]);
    const size_t begin = (size_t)call->tile * TILE_ELEMENTS;
    const size_t rest = count - begin;
    const float* numbers = call->pointers[0];
    uint16_t* halves = call->pointers[1];
    const uint64_t saturated = convert_values(numbers + begin, halves + begin,
                                              rest < TILE_ELEMENTS ? rest : TILE_ELEMENTS);
    atomic_fetch_add_explicit(narrow->saturated, saturated, memory_order_relaxed);
    return WEIR_OK;
}

static weir_status check_source(const weir_view* source) {
    char text[512];
    if (!source->storage || source->dtype != WEIR_DTYPE_F32 || !weir_view_is_contiguous(source) ||
        weir_view_element_count(source) == 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "a shadow of %s; expected contiguous F32",
                         weir_view_describe(source, text, sizeof text));
    }
    return weir_view_check_memory(source);
}

static weir_status list_names(weir_shadow* shadow, const weir_view* view, weir_access_kind kind) {
    access_array* list = &shadow->accesses;
    WEIR_TRY(array_reserve(&shadow->device->allocator, list, list->count + 1));
    list->items[list->count++] = weir_access_from_view(view, kind);
    return identity_append_names(view->storage, list->count - 1, list);
}

static weir_status prepare(weir_shadow* shadow) {
    const int64_t count = weir_view_element_count(&shadow->source);
    const int64_t tiles = (count + TILE_ELEMENTS - 1) / TILE_ELEMENTS;
    if (tiles >= 1 << 24) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "a shadow of %lld values, at most 2^40",
                         (long long)count);
    }
    shadow->constants.saturated = &shadow->saturated;
    shadow->views[0] = shadow->source;
    shadow->views[1] = shadow->halves;
    WEIR_TRY(weir_view_resolve(&shadow->source, &shadow->pointers[0]));
    WEIR_TRY(weir_view_resolve(&shadow->halves, &shadow->pointers[1]));
    WEIR_TRY(list_names(shadow, &shadow->source, WEIR_ACCESS_READ));
    shadow->source_count = shadow->accesses.count;
    WEIR_TRY(list_names(shadow, &shadow->halves, WEIR_ACCESS_WRITE));
    WEIR_TRY(array_reserve(&shadow->device->allocator, &shadow->flight, shadow->accesses.count));
    shadow->dispatch = (device_dispatch){.name = "f16 shadow",
                                         .kind = DEVICE_NARROW,
                                         .run = convert_tile,
                                         .tile_count = (uint32_t)tiles,
                                         .constants = &shadow->constants,
                                         .constants_size = sizeof shadow->constants,
                                         .views = shadow->views,
                                         .pointers = shadow->pointers,
                                         .operand_count = 2,
                                         .accesses = shadow->accesses.items,
                                         .access_count = (uint32_t)shadow->accesses.count};
    return shadow->device->vtable->prepare(shadow->device, &shadow->dispatch, 1, &shadow->work);
}

static void enlist(weir_shadow* shadow) {
    shadow_list* list = &shadow->device->shadows;
    pthread_mutex_lock(&shadow->device->lock);
    shadow->next = list->first;
    list->first = shadow;
    if (atomic_fetch_add(&list->count, 1) == 0) {
        list->begin = UINT64_MAX;
        list->end = 0;
    }
    for (size_t i = 0; i < shadow->source_count; i++) {
        const weir_range* source = &shadow->accesses.items[i].range;
        const uint64_t end = weir_range_end(source);
        list->begin = source->byte_offset < list->begin ? source->byte_offset : list->begin;
        list->end = end > list->end ? end : list->end;
    }
    pthread_mutex_unlock(&shadow->device->lock);
}

weir_status weir_shadow_create_at(const weir_view* source, weir_storage* storage,
                                  uint64_t byte_offset, weir_shadow** shadow) {
    weir_device* device = source->storage->device;
    weir_shadow* made = NULL;
    WEIR_TRY(object_new(&device->allocator, &made));
    if (pthread_mutex_init(&made->lock, NULL) != 0) {
        object_free(&device->allocator, made);
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot make the lock of a shadow");
    }
    made->device = device;
    made->source = *source;
    weir_view_retain(source);
    atomic_init(&made->dirty, true);
    weir_status status =
        weir_view_make(storage, byte_offset, WEIR_DTYPE_F16, &source->shape, &made->halves);
    if (status == WEIR_OK) {
        weir_view_retain(&made->halves);
        status = prepare(made);
    }
    if (status != WEIR_OK) {
        weir_shadow_destroy(made);
        return status;
    }
    enlist(made);
    *shadow = made;
    return WEIR_OK;
}

weir_status weir_shadow_create(const weir_view* source, weir_shadow** shadow) {
    WEIR_TRY(check_source(source));
    const uint64_t count = (uint64_t)weir_view_element_count(source);
    const weir_storage_desc desc = {.byte_size = (count + count % 2) * 2,
                                    .fill = WEIR_FILL_ZERO,
                                    .name = "f16 shadow",
                                    .for_kernels = true};
    weir_storage* storage = NULL;
    WEIR_TRY(weir_storage_allocate(source->storage->device, &desc, &storage));
    const weir_status status = weir_shadow_create_at(source, storage, 0, shadow);
    weir_storage_release(storage); // the shadow has its own reference
    return status;
}

static void delist(weir_shadow* shadow) {
    shadow_list* list = &shadow->device->shadows;
    pthread_mutex_lock(&shadow->device->lock);
    for (weir_shadow** link = &list->first; *link; link = &(*link)->next) {
        if (*link == shadow) {
            *link = shadow->next;
            atomic_fetch_sub(&list->count, 1);
            break;
        }
    }
    pthread_mutex_unlock(&shadow->device->lock);
}

void weir_shadow_destroy(weir_shadow* shadow) {
    if (!shadow) {
        return;
    }
    delist(shadow);
    const weir_status outcome = weir_ticket_wait(shadow->ticket, WEIR_WAIT_FOREVER);
    (void)outcome; // whoever read the shadow has heard of it
    if (shadow->work) {
        shadow->work->vtable->destroy(shadow->work);
    }
    weir_view_release(&shadow->source);
    weir_view_release(&shadow->halves);
    array_free(&shadow->device->allocator, &shadow->accesses);
    array_free(&shadow->device->allocator, &shadow->flight);
    pthread_mutex_destroy(&shadow->lock);
    object_free(&shadow->device->allocator, shadow);
}

void weir_shadow_view(const weir_shadow* shadow, weir_view* view) {
    *view = shadow->halves;
}

bool weir_shadow_is_dirty(const weir_shadow* shadow) {
    return atomic_load(&shadow->dirty);
}

void weir_shadow_mark(weir_shadow* shadow) {
    atomic_store(&shadow->dirty, true);
}

// A write that comes between the two steps marks the shadow again: one conversion too many, never
// one too few.
static weir_status convert(weir_shadow* shadow, weir_ticket* ticket) {
    if (!atomic_exchange(&shadow->dirty, false)) {
        *ticket = shadow->ticket;
        return WEIR_OK;
    }
    const weir_status outcome = weir_ticket_wait(shadow->ticket, WEIR_WAIT_FOREVER);
    (void)outcome; // of the conversion before: this one makes up for it
    // The list of the commit is the device's to reorder; constant memory is left out of it.
    const size_t begin = shadow->source.storage->constant ? shadow->source_count : 0;
    shadow->flight.count = shadow->accesses.count - begin;
    memcpy(shadow->flight.items, shadow->accesses.items + begin,
           shadow->flight.count * sizeof shadow->flight.items[0]);
    const device_commit commit = {.work = shadow->work,
                                  .accesses = shadow->flight.items,
                                  .access_count = (uint32_t)shadow->flight.count};
    const weir_status status = weir_device_submit(shadow->device, &commit, &shadow->ticket);
    if (status != WEIR_OK) {
        atomic_store(&shadow->dirty, true);
        return status;
    }
    atomic_fetch_add(&shadow->conversions, 1);
    *ticket = shadow->ticket;
    return WEIR_OK;
}

weir_status weir_shadow_refresh(weir_shadow* shadow, weir_ticket* ticket) {
    pthread_mutex_lock(&shadow->lock);
    const weir_status status = convert(shadow, ticket);
    pthread_mutex_unlock(&shadow->lock);
    return status;
}

// Whoever commits a pass over these bytes meanwhile races with the host's write itself.
void weir_shadow_follow(weir_shadow* shadow, const float* numbers, size_t first, size_t count) {
    bool in_flight = true;
    const weir_status status = identity_in_flight(&shadow->halves, WEIR_ACCESS_WRITE, &in_flight);
    if (atomic_load(&shadow->dirty) || status != WEIR_OK || in_flight || !shadow->pointers[1]) {
        atomic_store(&shadow->dirty, true);
        return;
    }
    const uint64_t saturated =
        convert_values(numbers, (uint16_t*)shadow->pointers[1] + first, count);
    atomic_fetch_add_explicit(&shadow->saturated, saturated, memory_order_relaxed);
}

weir_shadow_counters weir_shadow_counted(const weir_shadow* shadow) {
    const uint64_t count = (uint64_t)weir_view_element_count(&shadow->source);
    return (weir_shadow_counters){.byte_size = (count + count % 2) * 2,
                                  .conversions = atomic_load(&shadow->conversions),
                                  .saturated = atomic_load(&shadow->saturated)};
}

static bool reads(const weir_access* accesses, uint32_t count, const weir_shadow* shadow) {
    for (uint32_t i = 0; i < count; i++) {
        for (size_t k = shadow->source_count; k < shadow->accesses.count; k++) {
            if ((accesses[i].kind & WEIR_ACCESS_READ) != 0 &&
                weir_range_overlaps(&accesses[i].range, &shadow->accesses.items[k].range)) {
                return true;
            }
        }
    }
    return false;
}

// Finds a dirty shadow that the accesses read, or NULL.
static weir_shadow* find_stale(weir_device* device, const weir_access* accesses, uint32_t count,
                               bool fence) {
    weir_shadow* found = NULL;
    pthread_mutex_lock(&device->lock);
    for (weir_shadow* shadow = device->shadows.first; shadow && !found; shadow = shadow->next) {
        if (atomic_load(&shadow->dirty) && (fence || reads(accesses, count, shadow))) {
            found = shadow;
        }
    }
    pthread_mutex_unlock(&device->lock);
    return found;
}

weir_status weir_shadow_settle(weir_device* device, const weir_access* accesses, uint32_t count,
                               bool fence) {
    if (atomic_load(&device->shadows.count) == 0) {
        return WEIR_OK;
    }
    for (;;) {
        weir_ticket ticket;
        weir_shadow* shadow = find_stale(device, accesses, count, fence);
        if (!shadow) {
            return WEIR_OK;
        }
        WEIR_TRY(weir_shadow_refresh(shadow, &ticket));
    }
}

weir_status weir_shadow_is_stale(const weir_view* view, bool* stale) {
    weir_device* device = view->storage->device;
    *stale = false;
    if (atomic_load(&device->shadows.count) > 0) {
        identity_names names;
        WEIR_TRY(identity_open_names(view, WEIR_ACCESS_READ, &names));
        *stale = find_stale(device, names.items, names.count, false) != NULL;
        identity_close_names(view, &names);
    }
    return WEIR_OK;
}

static bool writes_source(const weir_access* access, const weir_shadow* shadow) {
    for (size_t i = 0; i < shadow->source_count; i++) {
        if (weir_range_overlaps(&access->range, &shadow->accesses.items[i].range)) {
            return true;
        }
    }
    return false;
}

void shadow_list_note(shadow_list* list, const weir_access* accesses, uint32_t count, bool fence,
                      const weir_shadow* except) {
    if (atomic_load(&list->count) == 0) {
        return;
    }
    for (weir_shadow* shadow = list->first; fence && shadow; shadow = shadow->next) {
        atomic_store(&shadow->dirty, true);
    }
    for (uint32_t i = 0; i < count; i++) {
        const weir_range* range = &accesses[i].range;
        if ((accesses[i].kind & WEIR_ACCESS_WRITE) == 0 || range->byte_offset >= list->end ||
            weir_range_end(range) <= list->begin) {
            continue;
        }
        for (weir_shadow* shadow = list->first; shadow; shadow = shadow->next) {
            if (shadow != except && writes_source(&accesses[i], shadow)) {
                atomic_store(&shadow->dirty, true);
            }
        }
    }
}

weir_status weir_shadow_note(const weir_view* view, const weir_shadow* except) {
    weir_device* device = view->storage->device;
    if (atomic_load(&device->shadows.count) > 0) {
        identity_names names;
        WEIR_TRY(identity_open_names(view, WEIR_ACCESS_WRITE, &names));
        pthread_mutex_lock(&device->lock);
        shadow_list_note(&device->shadows, names.items, names.count, false, except);
        pthread_mutex_unlock(&device->lock);
        identity_close_names(view, &names);
    }
    return WEIR_OK;
}
