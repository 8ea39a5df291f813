#include "plan/plan_pack.h"

#include <string.h>

#include "base/bits.h"
#include "base/checked.h"

typedef unsigned long long ull; // for messages

// Offsets on the line that pass PLAN_LIMIT are refused where they would arise, by `settle`, so that
// every sum of an offset and a size below is safe. A list of ranges by begin is kept beside the
// bits of what is placed: with many conflicts the list is walked, with few the bits are.

#define NO_OFFSET UINT64_MAX

weir_status plan_pack_make(plan_scratch* scratch, const plan_instance* instance, uint32_t first,
                           uint32_t count, uint64_t cap, plan_pack* pack) {
    *pack = (plan_pack){.instance = instance, .first = first, .count = count, .cap = cap};
    // Every class opens one block at most.
    pack->heights_count = cap > 0 ? count : 1;
    WEIR_TRY(scratch_take(scratch, &pack->offsets, count));
    WEIR_TRY(scratch_take(scratch, &pack->order, count));
    WEIR_TRY(scratch_take(scratch, &pack->placed, bits_words(instance->class_count)));
    WEIR_TRY(scratch_take(scratch, &pack->ranges, count));
    WEIR_TRY(scratch_take(scratch, &pack->near, count));
    WEIR_TRY(scratch_take(scratch, &pack->heights, pack->heights_count));
    for (uint32_t i = first; i < first + count; ++i) {
        if (!instance->classes[i].fixed) {
            pack->order[pack->free_count++] = i;
        }
    }
    return WEIR_OK;
}

// The first range that begins above.
static uint32_t lower_index(const pack_range* ranges, uint32_t count, uint64_t begin) {
    uint32_t low = 0;
    for (uint32_t high = count; low < high;) {
        const uint32_t middle = low + (high - low) / 2;
        if (ranges[middle].begin <= begin) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// Keeps the list by begin; equal ones keep the order of arrival.
static void insert_range(pack_range* ranges, uint32_t count, pack_range item) {
    const uint32_t slot = lower_index(ranges, count, item.begin);
    memmove(ranges + slot + 1, ranges + slot, (count - slot) * sizeof *ranges);
    ranges[slot] = item;
}

// Few neighbours are fetched by their bits and sorted.
static uint32_t gather_few(plan_pack* pack, const uint64_t* conflicts) {
    uint32_t count = 0;
    for (size_t w = pack->first / 64; w <= (pack->first + pack->count - 1) / 64; ++w) {
        for (uint64_t rest = conflicts[w] & pack->placed[w]; rest != 0; rest &= rest - 1) {
            const uint32_t other = (uint32_t)w * 64 + bits_lowest(rest);
            const uint64_t begin = pack->offsets[other - pack->first];
            const uint64_t end = begin + pack->instance->classes[other].byte_size;
            uint32_t slot = count++;
            for (; slot > 0 && pack->near[slot - 1].begin > begin; --slot) {
                pack->near[slot] = pack->near[slot - 1];
            }
            pack->near[slot] = (pack_range){begin, end, other};
        }
    }
    return count;
}

// Finds the placed classes that conflict with one, by begin.
static uint32_t gather(plan_pack* pack, uint32_t index) {
    const plan_instance* instance = pack->instance;
    if (instance->conflicts) {
        const uint64_t* row = instance->conflicts + (size_t)index * instance->row_words;
        uint32_t expected = 0;
        for (size_t w = pack->first / 64; w <= (pack->first + pack->count - 1) / 64; ++w) {
            expected += (uint32_t)__builtin_popcountll(row[w] & pack->placed[w]);
        }
        // Sorting few by insertion takes the square of their number, the walk all that is placed.
        if ((uint64_t)expected * expected < 6 * (uint64_t)pack->range_count) {
            return gather_few(pack, row);
        }
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < pack->range_count; ++i) {
        if (plan_classes_conflict(instance, index, pack->ranges[i].index)) {
            pack->near[count++] = pack->ranges[i];
        }
    }
    return count;
}

// The first place at or above `start` that is aligned and keeps off the borders; NO_OFFSET past the
// limit.
static uint64_t settle(const plan_pack* pack, const plan_class* block, uint64_t start) {
    const uint64_t base = pack->cap > 0 ? start / pack->cap * pack->cap : 0;
    uint64_t local = 0;
    if (!align_u64(start - base, block->alignment, &local)) {
        return NO_OFFSET;
    }
    uint64_t found = 0;
    if (pack->cap > 0 && (local > pack->cap || block->byte_size > pack->cap - local)) {
        found = base + pack->cap;
        if (found / pack->cap >= pack->heights_count) {
            return NO_OFFSET;
        }
    } else if (!add_u64(base, local, &found)) {
        return NO_OFFSET;
    }
    return found > PLAN_LIMIT || block->byte_size > PLAN_LIMIT - found ? NO_OFFSET : found;
}

static uint64_t border_above(const plan_pack* pack, uint64_t offset) {
    return pack->cap > 0 ? offset - offset % pack->cap + pack->cap : NO_OFFSET;
}

// By how much the sum of all heights would rise.
static uint64_t growth_at(const plan_pack* pack, uint64_t offset, uint64_t byte_size) {
    const uint64_t number = pack->cap > 0 ? offset / pack->cap : 0;
    const uint64_t local = pack->cap > 0 ? offset % pack->cap : offset;
    const uint64_t height = number < pack->block_count ? pack->heights[number] : 0;
    return local + byte_size > height ? local + byte_size - height : 0;
}

// What the rule minimises, for a gap up to `room_end`.
static uint64_t price_of(const plan_pack* pack, pack_rule rule, uint64_t offset, uint64_t byte_size,
                         uint64_t room_end) {
    switch (rule) {
    case PACK_BEST:
        return room_end - offset;
    case PACK_GROWTH:
        return growth_at(pack, offset, byte_size);
    case PACK_FIRST:
    case PACK_RULES:
        break;
    }
    return 0;
}

static uint64_t find_offset(plan_pack* pack, uint32_t index, pack_rule rule) {
    const plan_class* block = &pack->instance->classes[index];
    const uint32_t near_count = gather(pack, index);
    uint64_t found = NO_OFFSET;
    uint64_t found_price = UINT64_MAX;
    uint64_t start = settle(pack, block, 0);
    for (uint32_t i = 0; i <= near_count && start != NO_OFFSET;) {
        if (i < near_count && pack->near[i].end <= start) {
            ++i;
            continue;
        }
        const uint64_t ceiling = i < near_count ? pack->near[i].begin : NO_OFFSET;
        const uint64_t border = border_above(pack, start);
        if (ceiling > start && ceiling - start >= block->byte_size) {
            const uint64_t room_end = ceiling < border ? ceiling : border;
            const uint64_t price = price_of(pack, rule, start, block->byte_size, room_end);
            if (found == NO_OFFSET || price < found_price) {
                found = start;
                found_price = price;
            }
            if (found_price == 0 || (rule == PACK_BEST && found_price == block->byte_size)) {
                return found;
            }
        }
        // Above the ceiling's class, or in the next block where there is one still to be had.
        if (i < near_count && ceiling < border) {
            start = settle(pack, block, pack->near[i++].end);
        } else if (border != NO_OFFSET && border / pack->cap <= pack->block_count) {
            start = settle(pack, block, border);
        } else {
            break;
        }
    }
    return found;
}

// Blocks are opened one by one from the first: one that lies above an empty one is never chosen,
// but fixed classes may open several at once.
static void put(plan_pack* pack, uint32_t index, uint64_t offset, uint64_t* peak) {
    const uint64_t size = pack->instance->classes[index].byte_size;
    const uint64_t number = pack->cap > 0 ? offset / pack->cap : 0;
    const uint64_t top = (pack->cap > 0 ? offset % pack->cap : offset) + size;
    while (pack->block_count <= number) {
        pack->heights[pack->block_count++] = 0;
    }
    if (top > pack->heights[number]) {
        *peak += top - pack->heights[number];
        pack->heights[number] = top;
    }
    insert_range(pack->ranges, pack->range_count++, (pack_range){offset, offset + size, index});
    bits_set(pack->placed, index);
    pack->offsets[index - pack->first] = offset;
}

// A fixed class goes to the first block where its bytes are free; NO_OFFSET when there is none.
static uint64_t find_fixed(plan_pack* pack, uint32_t index) {
    const plan_class* block = &pack->instance->classes[index];
    const uint32_t near_count = gather(pack, index);
    const uint64_t blocks = pack->cap > 0 ? pack->heights_count : 1;
    if (pack->cap > 0 &&
        (block->byte_size > pack->cap || block->fixed_offset > pack->cap - block->byte_size)) {
        return NO_OFFSET;
    }
    for (uint64_t number = 0; number < blocks; ++number) {
        uint64_t begin = 0;
        if (!mul_u64(number, pack->cap, &begin) || !add_u64(begin, block->fixed_offset, &begin) ||
            begin > PLAN_LIMIT - block->byte_size) {
            return NO_OFFSET;
        }
        bool is_free = true;
        for (uint32_t i = 0; i < near_count; ++i) {
            is_free &=
                pack->near[i].begin >= begin + block->byte_size || pack->near[i].end <= begin;
        }
        if (is_free) {
            return begin;
        }
    }
    return NO_OFFSET;
}

// Returns the first fixed class that has no place, or WEIR_PLAN_NONE.
static uint32_t place_fixed(plan_pack* pack, uint64_t* peak) {
    pack->range_count = 0;
    pack->block_count = 0;
    *peak = 0;
    memset(pack->placed, 0, bits_words(pack->instance->class_count) * sizeof *pack->placed);
    if (pack->free_count == pack->count) {
        return WEIR_PLAN_NONE;
    }
    for (uint32_t index = pack->first; index < pack->first + pack->count; ++index) {
        if (pack->instance->classes[index].fixed) {
            const uint64_t offset = find_fixed(pack, index);
            if (offset == NO_OFFSET) {
                return index;
            }
            put(pack, index, offset, peak);
        }
    }
    return WEIR_PLAN_NONE;
}

weir_status plan_pack_check_fixed(plan_pack* pack) {
    for (uint32_t i = pack->first; i < pack->first + pack->count && pack->cap > 0; ++i) {
        const plan_class* large = &pack->instance->classes[i];
        if (large->byte_size > pack->cap) {
            return WEIR_FAIL(WEIR_INFEASIBLE, "buffer %u has %llu bytes, a block at most %llu",
                             large->owner, (ull)large->byte_size, (ull)pack->cap);
        }
    }
    uint64_t peak = 0;
    const uint32_t index = place_fixed(pack, &peak);
    if (index == WEIR_PLAN_NONE) {
        return WEIR_OK;
    }
    const plan_class* block = &pack->instance->classes[index];
    if (pack->cap > 0) {
        return WEIR_FAIL(WEIR_INFEASIBLE, "no block of %llu bytes has buffer %u at [%llu, %llu)",
                         (ull)pack->cap, block->owner, (ull)block->fixed_offset,
                         (ull)(block->fixed_offset + block->byte_size));
    }
    uint32_t other = 0;
    for (uint32_t i = 0; i < pack->range_count; ++i) {
        const pack_range* range = &pack->ranges[i];
        if (range->begin < block->fixed_offset + block->byte_size &&
            block->fixed_offset < range->end &&
            plan_classes_conflict(pack->instance, index, range->index)) {
            other = i;
        }
    }
    return WEIR_FAIL(WEIR_INFEASIBLE,
                     "buffers %u and %u conflict and are fixed at [%llu, %llu) and [%llu, %llu)",
                     block->owner, pack->instance->classes[pack->ranges[other].index].owner,
                     (ull)block->fixed_offset, (ull)(block->fixed_offset + block->byte_size),
                     (ull)pack->ranges[other].begin, (ull)pack->ranges[other].end);
}

uint64_t plan_pack_place(plan_pack* pack, pack_rule rule, uint64_t limit) {
    uint64_t peak = 0;
    if (place_fixed(pack, &peak) != WEIR_PLAN_NONE || peak >= limit) {
        return PACK_NO_PEAK;
    }
    for (uint32_t i = 0; i < pack->free_count; ++i) {
        const uint64_t offset = find_offset(pack, pack->order[i], rule);
        if (offset == NO_OFFSET) {
            return PACK_NO_PEAK;
        }
        put(pack, pack->order[i], offset, &peak);
        // A height never falls again, so an order that reaches the limit is given up at once.
        if (peak >= limit) {
            return PACK_NO_PEAK;
        }
    }
    return peak;
}
