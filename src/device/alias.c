// Declared aliases: which windows lead to which class of bytes.
//
// A declaration walks both stretches of bytes together, in pieces over which nothing changes: each
// side has one name there and lies in one class or in none.
//
//     neither has a class    both get a new one
//     one has                the other joins it
//     both have              one class becomes part of the other
#include <string.h>

#include "device/backend.h"

// A byte by its name, and the class that it belongs to.
typedef struct alias_point {
    uint64_t memory_id, offset;
    uint64_t class_id, class_offset; // class_id 0: none
} alias_point;

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

// Finds the window over a byte, and cuts `length` to where the answer changes.
static const identity_window* look_up(const identity_windows* windows, uint64_t memory_id,
                                      uint64_t offset, uint64_t* length) {
    for (size_t i = 0; i < windows->count; i++) {
        const identity_window* window = &windows->items[i];
        if (window->memory_id != memory_id || window->begin + window->byte_size <= offset) {
            continue;
        }
        if (window->begin > offset) {
            *length = smaller(*length, window->begin - offset);
            return NULL;
        }
        *length = smaller(*length, window->begin + window->byte_size - offset);
        return window;
    }
    return NULL;
}

static alias_point point_of(const identity_windows* places, const identity_windows* aliases,
                            uint64_t memory_id, uint64_t offset, uint64_t* length) {
    alias_point point = {.memory_id = memory_id, .offset = offset};
    const identity_window* place = look_up(places, memory_id, offset, length);
    if (place) {
        point.memory_id = place->to_id;
        point.offset = place->to_begin + (offset - place->begin);
    }
    const identity_window* window = look_up(aliases, point.memory_id, point.offset, length);
    if (window) {
        point.class_id = window->to_id;
        point.class_offset = window->to_begin + (point.offset - window->begin);
    }
    return point;
}

static uint64_t distance(uint64_t a, uint64_t b) {
    return a > b ? a - b : b - a;
}

static weir_status append(const weir_allocator* allocator, identity_windows* windows,
                          identity_window window) {
    if (window.byte_size == 0) {
        return WEIR_OK;
    }
    WEIR_TRY(array_reserve(allocator, windows, windows->count + 1));
    size_t position = windows->count++;
    for (; position > 0; position--) {
        const identity_window* left = &windows->items[position - 1];
        if (left->memory_id < window.memory_id ||
            (left->memory_id == window.memory_id && left->begin < window.begin)) {
            break;
        }
        windows->items[position] = *left;
    }
    windows->items[position] = window;
    return WEIR_OK;
}

// Returns bytes [low, high) of a window, counted in its class.
static identity_window part_of(const identity_window* window, uint64_t low, uint64_t high) {
    const uint64_t skipped = low - window->to_begin;
    return (identity_window){window->memory_id, window->begin + skipped, high - low, window->to_id,
                             low};
}

// Lets everything that leads to bytes [from, + length) of one class lead to those of another.
static weir_status merge(const weir_allocator* allocator, identity_windows* aliases,
                         const alias_point* from, const alias_point* to, uint64_t length) {
    const uint64_t begin = from->class_offset;
    const uint64_t end = begin + length;
    for (size_t i = 0; i < aliases->count; i++) {
        const identity_window window = aliases->items[i];
        const uint64_t window_end = window.to_begin + window.byte_size;
        if (window.to_id != from->class_id || window.to_begin >= end || begin >= window_end) {
            continue;
        }
        const uint64_t low = window.to_begin > begin ? window.to_begin : begin;
        const uint64_t high = smaller(window_end, end);
        identity_window moved = part_of(&window, low, high);
        moved.to_id = to->class_id;
        moved.to_begin = to->class_offset + (low - begin);
        memmove(aliases->items + i, aliases->items + i + 1,
                (aliases->count - i - 1) * sizeof window);
        aliases->count--;
        WEIR_TRY(append(allocator, aliases, part_of(&window, window.to_begin, low)));
        WEIR_TRY(append(allocator, aliases, moved));
        WEIR_TRY(append(allocator, aliases, part_of(&window, high, window_end)));
        i = (size_t)-1; // the order changed; what has moved is not found again
    }
    return WEIR_OK;
}

static weir_status join(const weir_allocator* allocator, identity_windows* aliases,
                        const alias_point* point, uint64_t length, uint64_t class_id,
                        uint64_t class_offset) {
    const identity_window window = {point->memory_id, point->offset, length, class_id,
                                    class_offset};
    return append(allocator, aliases, window);
}

// Joins the first bytes of both stretches and returns how many in `length`.
static weir_status join_piece(weir_device* device, identity_windows* aliases, alias_point a,
                              alias_point b, uint64_t length) {
    const weir_allocator* allocator = &device->allocator;
    if (a.class_id != 0 && b.class_id != 0) {
        return merge(allocator, aliases, &b, &a, length);
    }
    if (a.class_id == 0 && b.class_id == 0) {
        const uint64_t made = identity_new_id(device);
        WEIR_TRY(join(allocator, aliases, &a, length, made, 0));
        return join(allocator, aliases, &b, length, made, 0);
    }
    return a.class_id != 0 ? join(allocator, aliases, &b, length, a.class_id, a.class_offset)
                           : join(allocator, aliases, &a, length, b.class_id, b.class_offset);
}

// Extends a copy of the table, so that a failure leaves the old one.
static weir_status declare(weir_device* device, const weir_storage* a, uint64_t a_begin,
                           const weir_storage* b, uint64_t b_begin, uint64_t byte_size,
                           identity_windows* aliases) {
    for (uint64_t done = 0; done < byte_size;) {
        uint64_t length = byte_size - done;
        const identity_windows* places = &device->names.places;
        const alias_point left =
            point_of(places, aliases, a->memory_id, a->memory_offset + a_begin + done, &length);
        const alias_point right =
            point_of(places, aliases, b->memory_id, b->memory_offset + b_begin + done, &length);
        const bool one_byte = left.memory_id == right.memory_id && left.offset == right.offset;
        const bool one_class = left.class_id != 0 && left.class_id == right.class_id &&
                               left.class_offset == right.class_offset;
        if (!one_byte && !one_class) {
            // Stretches that overlap themselves are joined by steps of their distance.
            if (left.memory_id == right.memory_id) {
                length = smaller(length, distance(left.offset, right.offset));
            }
            if (left.class_id != 0 && left.class_id == right.class_id) {
                length = smaller(length, distance(left.class_offset, right.class_offset));
            }
            WEIR_TRY(join_piece(device, aliases, left, right, length));
        }
        done += length;
    }
    return WEIR_OK;
}

static weir_status check_part(const weir_storage* storage, uint64_t byte_offset,
                              uint64_t byte_size) {
    if (byte_offset > storage->byte_size || byte_size > storage->byte_size - byte_offset) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                         "an alias of bytes [%llu, +%llu) passes the end of storage %s at %llu",
                         (unsigned long long)byte_offset, (unsigned long long)byte_size,
                         storage->name, (unsigned long long)storage->byte_size);
    }
    return WEIR_OK;
}

weir_status weir_storage_alias(weir_storage* storage, uint64_t byte_offset, weir_storage* other,
                               uint64_t other_offset, uint64_t byte_size) {
    weir_device* device = storage->device;
    if (device != other->device) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "storages %s and %s lie on different devices",
                         storage->name, other->name);
    }
    WEIR_TRY(check_part(storage, byte_offset, byte_size));
    WEIR_TRY(check_part(other, other_offset, byte_size));
    if (!weir_device_is_idle(device)) {
        return WEIR_FAIL(WEIR_BUSY, "an alias cannot be declared while work is in flight");
    }
    identity* names = &device->names;
    identity_windows made = {0};
    pthread_mutex_lock(&names->lock);
    weir_status status = array_reserve(&device->allocator, &made, names->aliases.count + 2);
    if (status == WEIR_OK) {
        if (names->aliases.count > 0) {
            memcpy(made.items, names->aliases.items, names->aliases.count * sizeof made.items[0]);
        }
        made.count = names->aliases.count;
        status = declare(device, storage, byte_offset, other, other_offset, byte_size, &made);
    }
    if (status == WEIR_OK) {
        const identity_windows old = names->aliases;
        names->aliases = made;
        made = old;
        atomic_fetch_add(&names->epoch, 1);
    }
    pthread_mutex_unlock(&names->lock);
    array_free(&device->allocator, &made);
    return status;
}
