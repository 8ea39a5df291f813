#include "device/identity.h"

#include <string.h>

#include "device/backend.h"
#include "hazard/piece.h"

weir_status identity_init(identity* names) {
    atomic_init(&names->last_id, HOST_MEMORY_ID);
    return pthread_mutex_init(&names->lock, NULL) == 0
               ? WEIR_OK
               : WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot make the lock of the memory ids");
}

void identity_finish(const weir_allocator* allocator, identity* names) {
    array_free(allocator, &names->places);
    array_free(allocator, &names->aliases);
    array_free(allocator, &names->files);
    pthread_mutex_destroy(&names->lock);
}

uint64_t identity_new_id(weir_device* device) {
    return atomic_fetch_add_explicit(&device->names.last_id, 1, memory_order_relaxed) + 1;
}

// Finds the first window of a memory that ends behind `offset`; where there is none, the place at
// which one would stand.
static size_t find_window(const identity_windows* windows, uint64_t memory_id, uint64_t offset) {
    size_t low = 0;
    size_t high = windows->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const identity_window* window = &windows->items[middle];
        const bool before =
            window->memory_id < memory_id ||
            (window->memory_id == memory_id && window->begin + window->byte_size <= offset);
        low = before ? middle + 1 : low;
        high = before ? high : middle;
    }
    return low;
}

// Tells whether a window (by its position) meets bytes [begin, end) of a memory.
static bool meets(const identity_windows* windows, size_t position, uint64_t memory_id,
                  uint64_t begin, uint64_t end) {
    return position < windows->count && windows->items[position].memory_id == memory_id &&
           windows->items[position].begin < end && begin < end;
}

static weir_status insert_window(const weir_allocator* allocator, identity_windows* windows,
                                 identity_window window) {
    WEIR_TRY(array_reserve(allocator, windows, windows->count + 1));
    const size_t position = find_window(windows, window.memory_id, window.begin);
    memmove(windows->items + position + 1, windows->items + position,
            (windows->count - position) * sizeof window);
    windows->items[position] = window;
    windows->count++;
    return WEIR_OK;
}

// An empty table keeps no memory: a device without storages holds none for them.
static void remove_window(const weir_allocator* allocator, identity_windows* windows,
                          size_t position) {
    windows->count--;
    memmove(windows->items + position, windows->items + position + 1,
            (windows->count - position) * sizeof *windows->items);
    if (windows->count == 0) {
        array_free(allocator, windows);
    }
}

// The tables changed: storages look again whether they have one name only.
static void change_epoch(identity* names) {
    atomic_fetch_add(&names->epoch, 1);
}

weir_status identity_add_place(weir_device* device, const void* pointer, uint64_t byte_size,
                               uint64_t memory_id, uint64_t memory_offset) {
    identity* names = &device->names;
    pthread_mutex_lock(&names->lock);
    const weir_status status = insert_window(
        &device->allocator, &names->places,
        (identity_window){HOST_MEMORY_ID, (uintptr_t)pointer, byte_size, memory_id, memory_offset});
    change_epoch(names);
    pthread_mutex_unlock(&names->lock);
    return status;
}

void identity_remove_place(weir_device* device, const void* pointer) {
    identity* names = &device->names;
    pthread_mutex_lock(&names->lock);
    const size_t position = find_window(&names->places, HOST_MEMORY_ID, (uintptr_t)pointer);
    if (position < names->places.count &&
        names->places.items[position].begin == (uintptr_t)pointer) {
        remove_window(&device->allocator, &names->places, position);
        change_epoch(names);
    }
    pthread_mutex_unlock(&names->lock);
}

void identity_name_host(weir_device* device, const void* pointer, uint64_t byte_size,
                        uint64_t* memory_id, uint64_t* memory_offset) {
    identity* names = &device->names;
    const uint64_t begin = (uintptr_t)pointer;
    *memory_id = HOST_MEMORY_ID;
    *memory_offset = begin;
    pthread_mutex_lock(&names->lock);
    const size_t position = find_window(&names->places, HOST_MEMORY_ID, begin);
    if (meets(&names->places, position, HOST_MEMORY_ID, begin, begin + byte_size)) {
        const identity_window* place = &names->places.items[position];
        if (place->begin <= begin && begin + byte_size <= place->begin + place->byte_size) {
            *memory_id = place->to_id;
            *memory_offset = place->to_begin + (begin - place->begin);
        }
    }
    pthread_mutex_unlock(&names->lock);
}

weir_status identity_name_file(weir_device* device, uint64_t file_device, uint64_t inode,
                               uint64_t* memory_id) {
    identity* names = &device->names;
    identity_file* found = NULL;
    pthread_mutex_lock(&names->lock);
    for (size_t i = 0; i < names->files.count && !found; i++) {
        identity_file* file = &names->files.items[i];
        found = file->device == file_device && file->inode == inode ? file : NULL;
    }
    weir_status status = WEIR_OK;
    if (!found) {
        status = array_reserve(&device->allocator, &names->files, names->files.count + 1);
        if (status == WEIR_OK) {
            found = &names->files.items[names->files.count++];
            *found = (identity_file){
                .device = file_device, .inode = inode, .memory_id = identity_new_id(device)};
        }
    }
    if (found) {
        found->mappings++;
        *memory_id = found->memory_id;
    }
    pthread_mutex_unlock(&names->lock);
    return status;
}

void identity_forget_file(weir_device* device, uint64_t memory_id) {
    identity* names = &device->names;
    pthread_mutex_lock(&names->lock);
    for (size_t i = 0; i < names->files.count; i++) {
        identity_file* file = &names->files.items[i];
        if (file->memory_id == memory_id && --file->mappings == 0) {
            *file = names->files.items[--names->files.count];
            break;
        }
    }
    if (names->files.count == 0) {
        array_free(&device->allocator, &names->files);
    }
    pthread_mutex_unlock(&names->lock);
}

void identity_join(weir_storage* storage) {
    identity* names = &storage->device->names;
    pthread_mutex_lock(&names->lock);
    storage->joined = true;
    storage->previous = NULL;
    storage->next = names->storages;
    if (storage->next) {
        storage->next->previous = storage;
    }
    names->storages = storage;
    pthread_mutex_unlock(&names->lock);
}

// Tells whether a window of aliases names bytes of a storage. These windows never name bytes by an
// address where the bytes have a place.
static bool names_bytes_of(const identity* names, const identity_window* window,
                           const weir_storage* storage) {
    const uint64_t begin = storage->memory_offset;
    const uint64_t end = begin + storage->byte_size;
    const uint64_t window_end = window->begin + window->byte_size;
    if (window->memory_id == storage->memory_id && window->begin < end && begin < window_end) {
        return true;
    }
    const identity_windows* places = &names->places;
    size_t i = storage->memory_id == HOST_MEMORY_ID ? find_window(places, HOST_MEMORY_ID, begin)
                                                    : places->count;
    for (; meets(places, i, HOST_MEMORY_ID, begin, end); i++) {
        const identity_window* place = &places->items[i];
        const uint64_t low = begin > place->begin ? begin - place->begin : 0;
        const uint64_t high =
            end - place->begin < place->byte_size ? end - place->begin : place->byte_size;
        if (window->memory_id == place->to_id && window->begin < place->to_begin + high &&
            place->to_begin + low < window_end) {
            return true;
        }
    }
    return false;
}

static void forget_aliases(identity* names, const weir_storage* gone) {
    for (size_t i = names->aliases.count; i-- > 0;) {
        const identity_window* window = &names->aliases.items[i];
        bool wanted = !names_bytes_of(names, window, gone);
        for (const weir_storage* s = names->storages; s && !wanted; s = s->next) {
            wanted = names_bytes_of(names, window, s);
        }
        if (!wanted) {
            remove_window(&gone->device->allocator, &names->aliases, i);
            change_epoch(names);
        }
    }
}

void identity_leave(weir_storage* storage) {
    identity* names = &storage->device->names;
    if (!storage->joined) {
        return;
    }
    pthread_mutex_lock(&names->lock);
    if (storage->next) {
        storage->next->previous = storage->previous;
    }
    if (storage->previous) {
        storage->previous->next = storage->next;
    } else {
        names->storages = storage->next;
    }
    forget_aliases(names, storage);
    pthread_mutex_unlock(&names->lock);
}

// Appends what a range is called in a window that it meets. Where it would take too many pieces to
// leave out what lies outside, everything in between counts as touched.
static weir_status append_image(const weir_allocator* allocator, const identity_window* window,
                                const weir_access* access, access_array* list) {
    piece_array pieces = {0};
    piece_scratch scratch = {0};
    const uint64_t end = weir_range_end(&access->range);
    const uint64_t window_end = window->begin + window->byte_size;
    const weir_range before = weir_range_make(window->memory_id, 0, window->begin);
    const weir_range behind =
        weir_range_make(window->memory_id, window_end, end > window_end ? end - window_end : 0);
    bool widened = false;
    weir_status status = array_reserve(allocator, &pieces, 1);
    if (status == WEIR_OK) {
        pieces.items[pieces.count++] = access->range;
        status = piece_subtract(allocator, &scratch, &pieces, 0, &before, &widened);
    }
    if (status == WEIR_OK) {
        status = piece_subtract(allocator, &scratch, &pieces, 0, &behind, &widened);
    }
    if (status == WEIR_OK && widened) {
        const uint64_t low =
            access->range.byte_offset > window->begin ? access->range.byte_offset : window->begin;
        const uint64_t high = end < window_end ? end : window_end;
        pieces.items[0] = weir_range_make(window->memory_id, low, high - low);
        pieces.count = 1;
    }
    if (status == WEIR_OK) {
        status = array_reserve(allocator, list, list->count + pieces.count);
    }
    for (size_t i = 0; status == WEIR_OK && i < pieces.count; i++) {
        weir_range image = pieces.items[i];
        image.memory_id = window->to_id;
        image.byte_offset = window->to_begin + (image.byte_offset - window->begin);
        list->items[list->count++] = (weir_access){.range = image, .kind = access->kind};
    }
    array_free(allocator, &pieces);
    piece_scratch_free(allocator, &scratch);
    return status;
}

// Appends the images of the accesses from `first` to `last` in all windows that they meet.
static weir_status append_images(const weir_allocator* allocator, const identity_windows* windows,
                                 size_t first, size_t last, access_array* list) {
    for (size_t i = first; i < last; i++) {
        const weir_access access = list->items[i];
        const uint64_t begin = access.range.byte_offset;
        const uint64_t end = weir_range_end(&access.range);
        for (size_t w = find_window(windows, access.range.memory_id, begin);
             meets(windows, w, access.range.memory_id, begin, end); w++) {
            WEIR_TRY(append_image(allocator, &windows->items[w], &access, list));
        }
    }
    return WEIR_OK;
}

static bool has_one_name(const identity* names, const weir_storage* storage) {
    const uint64_t id = storage->memory_id;
    const uint64_t begin = storage->memory_offset;
    const uint64_t end = begin + storage->byte_size;
    return !meets(&names->places, find_window(&names->places, id, begin), id, begin, end) &&
           !meets(&names->aliases, find_window(&names->aliases, id, begin), id, begin, end);
}

// The tables are locked.
static weir_status append_all_images(weir_device* device, size_t position, access_array* list) {
    const weir_allocator* allocator = &device->allocator;
    const identity* names = &device->names;
    const size_t count = list->count;
    weir_status status = append_images(allocator, &names->places, position, position + 1, list);
    if (status == WEIR_OK) {
        const size_t placed = list->count;
        status = append_images(allocator, &names->aliases, position, position + 1, list);
        if (status == WEIR_OK) {
            status = append_images(allocator, &names->aliases, count, placed, list);
        }
    }
    list->count = status == WEIR_OK ? list->count : count;
    return status;
}

static weir_status look_up_names(weir_storage* storage, size_t position, access_array* list) {
    identity* names = &storage->device->names;
    weir_status status = WEIR_OK;
    pthread_mutex_lock(&names->lock);
    if (has_one_name(names, storage)) {
        atomic_store_explicit(&storage->plain_epoch, atomic_load(&names->epoch),
                              memory_order_relaxed);
    } else {
        status = append_all_images(storage->device, position, list);
    }
    pthread_mutex_unlock(&names->lock);
    return status;
}

weir_status identity_append_host_names(weir_device* device, size_t position, access_array* list) {
    identity* names = &device->names;
    if (atomic_load(&names->epoch) == 0) { // nothing ever had another name
        return WEIR_OK;
    }
    pthread_mutex_lock(&names->lock);
    const weir_status status = append_all_images(device, position, list);
    pthread_mutex_unlock(&names->lock);
    return status;
}

// Whether the bytes of a storage are known to have one name only.
static bool is_plain(const weir_storage* storage) {
    return atomic_load_explicit(&storage->plain_epoch, memory_order_relaxed) ==
           atomic_load_explicit(&storage->device->names.epoch, memory_order_acquire);
}

weir_status identity_append_names(weir_storage* storage, size_t position, access_array* list) {
    return is_plain(storage) ? WEIR_OK : look_up_names(storage, position, list);
}

// Lists the ranges of a view by every name; to be freed whatever comes of it.
static weir_status list_accesses(const weir_view* view, weir_access_kind kind, access_array* list) {
    if (!view->storage) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "a view without storage has no accesses");
    }
    WEIR_TRY(array_reserve(&view->storage->device->allocator, list, 1));
    list->count = 0;
    list->items[list->count++] = weir_access_from_view(view, kind);
    return identity_append_names(view->storage, 0, list);
}

weir_status identity_open_names(const weir_view* view, weir_access_kind kind,
                                identity_names* names) {
    *names = (identity_names){.count = 1};
    if (is_plain(view->storage)) {
        names->one = weir_access_from_view(view, kind);
        names->items = &names->one;
        return WEIR_OK;
    }
    const weir_status status = list_accesses(view, kind, &names->many);
    if (status != WEIR_OK) {
        identity_close_names(view, names);
        return status;
    }
    names->items = names->many.items;
    names->count = (uint32_t)names->many.count;
    return WEIR_OK;
}

void identity_close_names(const weir_view* view, identity_names* names) {
    array_free(&view->storage->device->allocator, &names->many);
}

weir_status identity_in_flight(const weir_view* view, weir_access_kind kind, bool* in_flight) {
    weir_device* device = view->storage->device;
    *in_flight = !weir_device_is_idle(device);
    if (*in_flight) {
        identity_names names;
        WEIR_TRY(identity_open_names(view, kind, &names));
        *in_flight = weir_device_in_flight(device, names.items, names.count, NULL);
        identity_close_names(view, &names);
    }
    return WEIR_OK;
}

static void free_accesses(const weir_view* view, access_array* list) {
    if (view->storage) {
        array_free(&view->storage->device->allocator, list);
    }
}

weir_status weir_view_accesses(const weir_view* view, weir_access_kind kind, weir_access* accesses,
                               uint32_t capacity, uint32_t* count) {
    access_array list = {0};
    const weir_status status = list_accesses(view, kind, &list);
    if (status == WEIR_OK) {
        const size_t copied = list.count < capacity ? list.count : capacity;
        if (copied > 0) {
            memcpy(accesses, list.items, copied * sizeof accesses[0]);
        }
        *count = (uint32_t)list.count;
    }
    free_accesses(view, &list);
    return status;
}

weir_status identity_find_overlap(const weir_view* a, const weir_view* b, access_array names[2],
                                  bool* overlap) {
    if (a->storage && b->storage && is_plain(a->storage) && is_plain(b->storage)) {
        const weir_range left = weir_view_range(a);
        const weir_range right = weir_view_range(b);
        *overlap = weir_range_overlaps(&left, &right);
        return WEIR_OK;
    }
    WEIR_TRY(list_accesses(a, WEIR_ACCESS_READ, &names[0]));
    WEIR_TRY(list_accesses(b, WEIR_ACCESS_READ, &names[1]));
    bool found = false;
    for (size_t i = 0; i < names[0].count; i++) {
        for (size_t k = 0; k < names[1].count; k++) {
            found =
                found || weir_range_overlaps(&names[0].items[i].range, &names[1].items[k].range);
        }
    }
    *overlap = found;
    return WEIR_OK;
}

weir_status weir_view_overlaps(const weir_view* a, const weir_view* b, bool* overlap) {
    access_array names[2] = {{0}, {0}};
    const weir_status status = identity_find_overlap(a, b, names, overlap);
    free_accesses(a, &names[0]);
    free_accesses(b, &names[1]);
    return status;
}
