#include "plan/plan_verify.h"

#include <stdlib.h>

#include "base/array.h"

// Walks the clock with the live regions in a tree over all regions of the block, sorted by where
// they begin. A region that begins to live meets the live ones that begin before its end and end
// after its begin. Aliases of its own root are let pass, and may be many; so that no time is lost
// on them, each node knows the highest end below it and the highest of any other root. What is left
// to meet is an error or a pair in place, and no more than three buffers can all pairwise be that.
// O(n log n), for n intervals.

typedef struct event {
    int64_t time;
    uint32_t rank; // of the region, by begin
    bool begins;
} event;

// The live regions below one node. An end of 0 is none.
typedef struct reach {
    uint64_t end;       // the highest
    uint64_t other_end; // the highest of another root than `root`
    uint32_t root;      // of the region with the highest end
} reach;

typedef struct sweep {
    verifier* check;
    const verify_region* regions;
    uint32_t count;
    event* events;
    size_t event_count;
    uint32_t* lives; // per region: its intervals that hold the present time
    reach* nodes;    // heap order: node k has the children 2k and 2k + 1; leaves from leaf_count
    size_t leaf_count;
} sweep;

// At one time ends come before begins: intervals are half-open.
static int compare_events(const void* a, const void* b) {
    const event* x = a;
    const event* y = b;
    if (x->time != y->time) {
        return x->time < y->time ? -1 : 1;
    }
    if (x->begins != y->begins) {
        return x->begins ? 1 : -1;
    }
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

// Intervals that are empty have no moment in common with any.
static void add_life(sweep* walk, uint32_t rank, int64_t begin, int64_t end) {
    if (begin < end) {
        walk->events[walk->event_count++] = (event){begin, rank, true};
        walk->events[walk->event_count++] = (event){end, rank, false};
    }
}

static void collect_events(sweep* walk) {
    const weir_plan_problem* problem = walk->check->problem;
    for (uint32_t rank = 0; rank < walk->count; ++rank) {
        const weir_plan_buffer* buffer = &problem->buffers[walk->regions[rank].buffer];
        if (buffer->interval_count == 0) {
            add_life(walk, rank, INT64_MIN, INT64_MAX);
        }
        for (uint32_t i = 0; i < buffer->interval_count; ++i) {
            const weir_plan_interval* live = &problem->intervals[buffer->interval_begin + i];
            add_life(walk, rank, live->begin, live->end);
        }
    }
    qsort(walk->events, walk->event_count, sizeof *walk->events, compare_events);
}

static reach join(const reach* a, const reach* b) {
    const reach* high = a->end >= b->end ? a : b;
    const reach* low = high == a ? b : a;
    const uint64_t low_end = low->root == high->root ? low->other_end : low->end;
    return (reach){.end = high->end,
                   .other_end = high->other_end > low_end ? high->other_end : low_end,
                   .root = high->root};
}

static void set_leaf(sweep* walk, uint32_t rank, bool lives) {
    const verify_region* region = &walk->regions[rank];
    size_t node = walk->leaf_count + rank;
    walk->nodes[node] = (reach){.end = lives ? region->end : 0, .root = region->root};
    for (node /= 2; node >= 1; node /= 2) {
        walk->nodes[node] = join(&walk->nodes[2 * node], &walk->nodes[2 * node + 1]);
    }
}

// Meets what is live among the ranks [first, first + count) of `node` that are below `end`.
static weir_status meet(const sweep* walk, const verify_region* region, size_t node, size_t first,
                        size_t count, size_t end) {
    const reach* below = &walk->nodes[node];
    const uint64_t highest = below->root != region->root ? below->end : below->other_end;
    if (first >= end || highest <= region->begin) {
        return WEIR_OK;
    }
    if (count == 1) {
        const verify_region* other = &walk->regions[first];
        return other < region ? plan_verify_pair(walk->check, other, region)
                              : plan_verify_pair(walk->check, region, other);
    }
    WEIR_TRY(meet(walk, region, 2 * node, first, count / 2, end));
    return meet(walk, region, 2 * node + 1, first + count / 2, count / 2, end);
}

// The number of regions that begin before `offset`.
static size_t count_before(const sweep* walk, uint64_t offset) {
    size_t low = 0;
    size_t high = walk->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (walk->regions[middle].begin < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static weir_status walk_clock(sweep* walk) {
    collect_events(walk);
    for (size_t i = 0; i < walk->event_count; ++i) {
        const event* now = &walk->events[i];
        uint32_t* lives = &walk->lives[now->rank];
        if (!now->begins) {
            if (--*lives == 0) {
                set_leaf(walk, now->rank, false);
            }
        } else if ((*lives)++ == 0) {
            const verify_region* region = &walk->regions[now->rank];
            WEIR_TRY(meet(walk, region, 1, 0, walk->leaf_count, count_before(walk, region->end)));
            set_leaf(walk, now->rank, true);
        }
    }
    return WEIR_OK;
}

static size_t events_of(const sweep* walk) {
    size_t count = 0;
    for (uint32_t rank = 0; rank < walk->count; ++rank) {
        const uint32_t lives =
            walk->check->problem->buffers[walk->regions[rank].buffer].interval_count;
        count += 2 * (size_t)(lives > 0 ? lives : 1);
    }
    return count;
}

// Takes memory for `count` items that are all zero bytes.
static weir_status take(const sweep* walk, size_t count, size_t item_size, void** items) {
    size_t byte_size = 0;
    if (__builtin_mul_overflow(count, item_size, &byte_size)) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "%zu items of %zu bytes pass the address space", count,
                         item_size);
    }
    return weir_alloc_zeroed(walk->check->allocator, byte_size, items);
}

weir_status plan_verify_sweep(verifier* check, uint32_t first, uint32_t count) {
    if (count < 2) {
        return WEIR_OK;
    }
    sweep walk = {.check = check, .regions = check->regions + first, .count = count};
    walk.leaf_count = 1;
    while (walk.leaf_count < count) {
        walk.leaf_count *= 2;
    }
    const size_t events = events_of(&walk);
    weir_status status = take(&walk, events, sizeof *walk.events, (void**)&walk.events);
    if (status == WEIR_OK) {
        status = take(&walk, count, sizeof *walk.lives, (void**)&walk.lives);
    }
    if (status == WEIR_OK) {
        status = take(&walk, 2 * walk.leaf_count, sizeof *walk.nodes, (void**)&walk.nodes);
    }
    if (status == WEIR_OK) {
        status = walk_clock(&walk);
    }
    weir_free(check->allocator, walk.nodes, 2 * walk.leaf_count * sizeof *walk.nodes,
              _Alignof(max_align_t));
    weir_free(check->allocator, walk.lives, count * sizeof *walk.lives, _Alignof(max_align_t));
    weir_free(check->allocator, walk.events, events * sizeof *walk.events, _Alignof(max_align_t));
    return status;
}
