// The accesses of a group while there are few of them: two plain lists, and no tree is made.
//
// Most groups on devices that wait by barriers hold a handful of dispatches with a few contiguous
// ranges each. Comparing with every entry of two short arrays then takes less time than finding the
// tree of a memory.
#ifndef WEIR_HAZARD_SMALL_SET_H
#define WEIR_HAZARD_SMALL_SET_H

#include "hazard/conflict.h"

#define SMALL_SET 16     // entries of each list
#define SMALL_DISPATCH 8 // most accesses of a dispatch that is looked at here

typedef struct small_access {
    uint64_t memory_id;
    uint64_t begin;
    uint64_t end;
    uint32_t dispatch;
} small_access;

typedef struct small_list {
    uint32_t count;
    small_access items[SMALL_SET]; // in the order of recording
} small_list;

typedef struct small_set {
    small_list writers;
    small_list readers; // since the barrier, as the writers
} small_set;

// Conflicts of one dispatch: at most a RAW and a WAW with each writer, and a WAR with each reader.
typedef struct small_conflicts {
    size_t count;
    conflict items[SMALL_DISPATCH * 3 * SMALL_SET];
} small_conflicts;

// Whether an access touches a byte that something may write.
static inline bool small_access_counts(const weir_access* access) {
    return access->range.byte_length > 0 && access->kind != WEIR_ACCESS_CONSTANT;
}

// Whether a dispatch can be looked at here: few contiguous ranges that do not meet each other.
static inline bool small_set_takes(const weir_tracker_dispatch* dispatch) {
    const weir_access* accesses = dispatch->accesses;
    if (!dispatch->declared || !accesses || dispatch->access_count > SMALL_DISPATCH) {
        return false;
    }
    for (uint32_t i = 0; i < dispatch->access_count; ++i) {
        const weir_range* range = &accesses[i].range;
        const uint64_t end = range->byte_offset + range->byte_length;
        if (range->level_count != 0 || end < range->byte_offset ||
            (unsigned)accesses[i].kind - WEIR_ACCESS_READ >= WEIR_ACCESS_CONSTANT) {
            return false;
        }
        for (uint32_t k = 0; k < i && accesses[i].kind != WEIR_ACCESS_CONSTANT; ++k) {
            const weir_range* other = &accesses[k].range;
            if (range->byte_offset < other->byte_offset + other->byte_length &&
                other->byte_offset < end && range->memory_id == other->memory_id &&
                accesses[k].kind != WEIR_ACCESS_CONSTANT) {
                return false;
            }
        }
    }
    return true;
}

static inline void small_list_check(const small_list* list, const weir_range* range, uint32_t later,
                                    weir_hazard_kind kind, small_conflicts* found) {
    const uint64_t begin = range->byte_offset;
    const uint64_t end = begin + range->byte_length;
    for (uint32_t i = 0; i < list->count; ++i) {
        const small_access* open = &list->items[i];
        // An empty range within an open one meets nothing.
        if (open->begin < end && begin < open->end && open->memory_id == range->memory_id &&
            begin < end) {
            found->items[found->count++] =
                (conflict){.earlier = i, .dispatch = open->dispatch, .later = later, .kind = kind};
        }
    }
}

// Finds the conflicts of a dispatch that the set takes; `earlier` is a place in the list of the
// writers, or for WAR of the readers.
static inline void small_set_check(const small_set* set, const weir_tracker_dispatch* dispatch,
                                   small_conflicts* found) {
    found->count = 0;
    for (uint32_t i = 0; i < dispatch->access_count; ++i) {
        const weir_access* access = &dispatch->accesses[i];
        if (access->kind & WEIR_ACCESS_READ) {
            small_list_check(&set->writers, &access->range, i, WEIR_HAZARD_RAW, found);
        }
        if (access->kind & WEIR_ACCESS_WRITE) {
            small_list_check(&set->writers, &access->range, i, WEIR_HAZARD_WAW, found);
            small_list_check(&set->readers, &access->range, i, WEIR_HAZARD_WAR, found);
        }
    }
}

static inline void small_set_clear(small_set* set) {
    set->writers.count = set->readers.count = 0;
}

// Tells whether both lists have room for `count` entries.
static inline bool small_set_has_room(const small_set* set, size_t count) {
    return set->writers.count + count <= SMALL_SET && set->readers.count + count <= SMALL_SET;
}

static inline void small_set_add(small_set* set, bool writes, const small_access* access) {
    small_list* list = writes ? &set->writers : &set->readers;
    list->items[list->count++] = *access;
}

#endif
