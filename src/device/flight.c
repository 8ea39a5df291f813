#include "device/flight.h"

#include <assert.h>

// Where a sweep stands: everything before `first` ends before whatever comes next.
typedef struct sweep {
    const weir_access* items;
    uint32_t count;
    uint32_t first;
} sweep;

static bool writes(const weir_access* access) {
    return (access->kind & WEIR_ACCESS_WRITE) != 0;
}

// By the place of the first byte; longer ones first, so that they swallow those behind.
static int compare_places(const weir_range* a, const weir_range* b) {
    if (a->memory_id != b->memory_id) {
        return a->memory_id < b->memory_id ? -1 : 1;
    }
    if (a->byte_offset != b->byte_offset) {
        return a->byte_offset < b->byte_offset ? -1 : 1;
    }
    const uint64_t a_end = weir_range_end(a);
    const uint64_t b_end = weir_range_end(b);
    return a_end > b_end ? -1 : a_end < b_end;
}

static int compare(const weir_access* a, const weir_access* b) {
    if (writes(a) != writes(b)) {
        return writes(a) ? -1 : 1;
    }
    return compare_places(&a->range, &b->range);
}

// Shell's method with the gaps of Tokuda (1992), rounded: in place, and quick where most is in
// order already, as lists of dispatches that walk through memory are.
static void sort(weir_access* items, uint32_t count) {
    static const uint32_t gaps[] = {68904, 30623, 13610, 6049, 2688, 1195, 531,
                                    236,   105,   46,    20,   9,    4,    1};
    for (size_t g = 0; g < sizeof gaps / sizeof gaps[0]; g++) {
        const uint32_t gap = gaps[g];
        for (uint32_t i = gap; i < count; i++) {
            if (compare(&items[i - gap], &items[i]) <= 0) {
                continue;
            }
            const weir_access moved = items[i];
            uint32_t to = i;
            for (; to >= gap && compare(&items[to - gap], &moved) > 0; to -= gap) {
                items[to] = items[to - gap];
            }
            items[to] = moved;
        }
    }
}

static bool same_range(const weir_range* a, const weir_range* b) {
    if (a->memory_id != b->memory_id || a->byte_offset != b->byte_offset ||
        a->byte_length != b->byte_length || a->level_count != b->level_count) {
        return false;
    }
    for (uint32_t i = 0; i < a->level_count; i++) {
        if (a->levels[i].count != b->levels[i].count ||
            a->levels[i].stride != b->levels[i].stride) {
            return false;
        }
    }
    return true;
}

// Lets `kept` cover `next`, which is not before it and of its kind; false where only a list of both
// says what they touch.
static bool swallow(weir_access* kept, const weir_access* next) {
    weir_range* range = &kept->range;
    if (same_range(range, &next->range)) {
        return true;
    }
    const uint64_t end = weir_range_end(range);
    if (range->level_count > 0 || next->range.level_count > 0 ||
        range->memory_id != next->range.memory_id || next->range.byte_offset > end) {
        return false;
    }
    const uint64_t next_end = weir_range_end(&next->range);
    range->byte_length = (next_end > end ? next_end : end) - range->byte_offset;
    return true;
}

uint32_t flight_reduce(weir_access* accesses, uint32_t count, uint32_t* write_count) {
    uint32_t kept = 0;
    uint32_t written = 0;
    sort(accesses, count);
    for (uint32_t i = 0; i < count; i++) {
        const weir_access* next = &accesses[i];
        if (weir_range_end(&next->range) == next->range.byte_offset) {
            continue; // empty
        }
        const bool same_kind = kept > 0 && writes(&accesses[kept - 1]) == writes(next);
        if (!same_kind || !swallow(&accesses[kept - 1], next)) {
            accesses[kept++] = *next;
            written += writes(next) ? 1 : 0;
        }
    }
    *write_count = written;
    return kept;
}

void flight_add(flight* passes, uint64_t sequence, weir_access* accesses, uint32_t count,
                bool fence) {
    const uint64_t index = sequence % PASSES_IN_FLIGHT;
    assert(passes->entries[index].sequence == 0);
    passes->entries[index] = (flight_entry){
        .sequence = sequence, .accesses = accesses, .access_count = count, .fence = fence};
    passes->used |= UINT64_C(1) << index;
}

bool flight_remove(flight* passes, uint64_t sequence) {
    if (!flight_has(passes, sequence)) {
        return false;
    }
    passes->entries[sequence % PASSES_IN_FLIGHT].sequence = 0;
    passes->used &= ~(UINT64_C(1) << sequence % PASSES_IN_FLIGHT);
    return true;
}

bool flight_has(const flight* passes, uint64_t sequence) {
    return sequence != 0 && passes->entries[sequence % PASSES_IN_FLIGHT].sequence == sequence;
}

// Tells whether something that the sweep has not passed shares a byte with `range`.
static bool meets(sweep* over, const weir_range* range) {
    while (over->first < over->count) {
        const weir_range* item = &over->items[over->first].range;
        if (item->memory_id > range->memory_id ||
            (item->memory_id == range->memory_id && weir_range_end(item) > range->byte_offset)) {
            break;
        }
        over->first++;
    }
    const uint64_t end = weir_range_end(range);
    for (uint32_t i = over->first; i < over->count; i++) {
        const weir_range* item = &over->items[i].range;
        if (item->memory_id > range->memory_id ||
            (item->memory_id == range->memory_id && item->byte_offset >= end)) {
            return false;
        }
        if (weir_range_overlaps(item, range)) {
            return true;
        }
    }
    return false;
}

// The list may have any order: where it steps back the sweep begins anew.
static bool conflicts_with(flight_entry* entry, const weir_access* accesses, uint32_t count) {
    if (!entry->reduced) {
        entry->access_count =
            flight_reduce(entry->accesses, entry->access_count, &entry->write_count);
        entry->reduced = true;
    }
    sweep written = {.items = entry->accesses, .count = entry->write_count};
    sweep read = {.items = entry->accesses + entry->write_count,
                  .count = entry->access_count - entry->write_count};
    for (uint32_t i = 0; i < count; i++) {
        const weir_range* range = &accesses[i].range;
        if (i > 0 && compare_places(&accesses[i - 1].range, range) > 0) {
            written.first = read.first = 0;
        }
        if (meets(&written, range) || (writes(&accesses[i]) && meets(&read, range))) {
            return true;
        }
    }
    return false;
}

uint64_t flight_conflicts(flight* passes, const weir_access* accesses, uint32_t count, bool fence) {
    uint64_t found = 0;
    for (uint64_t left = passes->used; left != 0; left &= left - 1) {
        flight_entry* entry = &passes->entries[__builtin_ctzll(left)];
        if (fence || entry->fence || conflicts_with(entry, accesses, count)) {
            found |= left & -left;
        }
    }
    return found;
}

uint32_t flight_list(const flight* passes, uint64_t bits, uint64_t sequences[PASSES_IN_FLIGHT]) {
    uint32_t count = 0;
    for (uint64_t left = bits; left != 0; left &= left - 1) {
        const uint64_t sequence = passes->entries[__builtin_ctzll(left)].sequence;
        uint32_t to = count++;
        for (; to > 0 && sequences[to - 1] > sequence; to--) {
            sequences[to] = sequences[to - 1];
        }
        sequences[to] = sequence;
    }
    return count;
}
