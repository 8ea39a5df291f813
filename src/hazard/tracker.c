#include <weir/tracker.h>

#include <string.h>

#include "base/array.h"
#include "hazard/conflict.h"
#include "hazard/memory_map.h"
#include "hazard/piece.h"
#include "hazard/small_set.h"

#define NO_PIECE UINT32_MAX
#define COVERS_WRITERS 1u
#define COVERS_READERS 2u

// A dispatch is recorded in five steps, of which only the last changes what the tracker holds:
// collect its distinct ranges, check them against the open pieces, work out what its writes leave
// of those that they meet, make all the room that recording takes, record. So a failure on the way
// loses nothing.

// One access of an open dispatch, as declared.
typedef struct open_access {
    uint64_t memory_id;
    uint64_t byte_offset;
    uint64_t byte_length;
    uint32_t dispatch;
    uint32_t piece; // the declared range when it has levels, else NO_PIECE; of an unsorted reader
                    // the next one
} open_access;

typedef struct open_array {
    open_access* items;
    size_t count;
    size_t capacity;
} open_array;

// One distinct range of the dispatch being recorded.
typedef struct pending_access {
    uint64_t begin;
    uint64_t end;
    uint64_t memory_id;
    const weir_range* declared;
    unsigned kind;   // weir_access_kind bits
    uint32_t normal; // normal form in `normals` when that has levels, else NO_PIECE
    unsigned covers; // whose whole plain entries it overwrites: COVERS_ bits
    uint32_t memory; // in `memories`, or MEMORY_NONE
} pending_access;

typedef struct pending_array {
    pending_access* items;
    size_t count;
    size_t capacity;
} pending_array;

// An entry that a write of the dispatch takes bytes from.
typedef struct touched_entry {
    interval_entry entry;
    uint32_t memory;
    bool writes; // it is in the tree of the writers
} touched_entry;

typedef struct touched_array {
    touched_entry* items;
    size_t count;
    size_t capacity;
} touched_array;

// Whose the pieces made for one entry or access are.
typedef struct piece_owner {
    size_t piece_end; // its pieces end here, and begin where those of the one before end
    uint32_t access;
    bool writes;
} piece_owner;

typedef struct owner_array {
    piece_owner* items;
    size_t count;
    size_t capacity;
} owner_array;

typedef struct hazard_array {
    weir_hazard* items;
    size_t count;
    size_t capacity;
} hazard_array;

struct weir_tracker {
    weir_allocator allocator;
    weir_tracker_mode mode;
    uint32_t next_dispatch;
    uint32_t open_begin; // first dispatch not ordered before all new ones by a fence or barrier
    bool fenced;         // open_begin is a fence
    uint64_t widened_count;
    open_array accesses;
    piece_array pieces;  // ranges with levels, of open accesses and of entries
    uint32_t free_piece; // list through memory_id
    bool is_small;       // the open accesses are in `few`; none is in `accesses` or in a tree
    small_set few;
    memory_map memories;
    interval_pool pool;
    pending_array pending; // the rest is scratch of one call
    piece_array normals;
    bool plain;     // no range of the dispatch has levels
    bool entangled; // two ranges of the dispatch may meet, and one is written
    interval_array hits;
    touched_array touched;
    piece_array made;
    owner_array owners;
    uint64_t new_widened;
    piece_scratch scratch;
    conflict_array conflicts;
    hazard_array hazards;
};

const char* weir_hazard_name(weir_hazard_kind kind) {
    switch (kind) {
    case WEIR_HAZARD_RAW:
        return "RAW";
    case WEIR_HAZARD_WAR:
        return "WAR";
    case WEIR_HAZARD_WAW:
        return "WAW";
    case WEIR_HAZARD_FENCE:
        return "fence";
    }
    return "unknown";
}

// Drops all open accesses in constant time; dispatch `open_begin` is the first of the open ones.
static void drop_open(weir_tracker* tracker, uint32_t open_begin, bool fenced) {
    memory_map_clear(&tracker->memories);
    interval_pool_clear(&tracker->pool);
    tracker->accesses.count = 0;
    tracker->pieces.count = 0;
    tracker->free_piece = NO_PIECE;
    tracker->open_begin = open_begin;
    tracker->fenced = fenced;
    tracker->is_small = tracker->mode == WEIR_TRACKER_GROUP;
    small_set_clear(&tracker->few);
}

weir_status weir_tracker_create(const weir_allocator* allocator, weir_tracker_mode mode,
                                weir_tracker** tracker) {
    if (mode != WEIR_TRACKER_DAG && mode != WEIR_TRACKER_GROUP) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "tracker mode %d, expected DAG (0) or GROUP (1)",
                         (int)mode);
    }
    const weir_allocator used = allocator ? *allocator : (weir_allocator){0};
    weir_tracker* made = NULL;
    WEIR_TRY(object_new(&used, &made));
    made->allocator = used;
    made->mode = mode;
    drop_open(made, 0, false);
    *tracker = made;
    return WEIR_OK;
}

void weir_tracker_destroy(weir_tracker* tracker) {
    if (!tracker) {
        return;
    }
    const weir_allocator allocator = tracker->allocator;
    array_free(&allocator, &tracker->accesses);
    array_free(&allocator, &tracker->pieces);
    memory_map_free(&allocator, &tracker->memories);
    array_free(&allocator, &tracker->pool);
    array_free(&allocator, &tracker->pending);
    array_free(&allocator, &tracker->normals);
    array_free(&allocator, &tracker->hits);
    array_free(&allocator, &tracker->touched);
    array_free(&allocator, &tracker->made);
    array_free(&allocator, &tracker->owners);
    piece_scratch_free(&allocator, &tracker->scratch);
    array_free(&allocator, &tracker->conflicts);
    array_free(&allocator, &tracker->hazards);
    object_free(&allocator, tracker);
}

void weir_tracker_barrier(weir_tracker* tracker) {
    drop_open(tracker, tracker->next_dispatch, false);
}

void weir_tracker_reset(weir_tracker* tracker) {
    drop_open(tracker, 0, false);
    tracker->next_dispatch = 0;
}

uint64_t weir_tracker_widened(const weir_tracker* tracker) {
    return tracker->widened_count;
}

// As declared: ranges that differ in form alone are reported apart.
static bool is_same_range(const weir_range* a, const weir_range* b) {
    return a->byte_offset == b->byte_offset && a->byte_length == b->byte_length &&
           a->level_count == b->level_count && a->level_count <= WEIR_RANGE_LEVELS &&
           memcmp(a->levels, b->levels, a->level_count * sizeof a->levels[0]) == 0;
}

// The end of a range without levels.
static inline uint64_t plain_end(const weir_range* range) {
    const uint64_t end = range->byte_offset + range->byte_length;
    return end >= range->byte_offset ? end : UINT64_MAX;
}

// The interval of a pending access whose range has levels, and its normal form if that still has.
static weir_status normalise(weir_tracker* tracker, pending_access* pending) {
    const weir_range normal = piece_normalise(pending->declared);
    tracker->plain = false;
    pending->end = weir_range_end(&normal);
    if (normal.level_count > 0) {
        WEIR_TRY(array_reserve(&tracker->allocator, &tracker->normals, tracker->normals.count + 1));
        pending->normal = (uint32_t)tracker->normals.count;
        tracker->normals.items[tracker->normals.count++] = normal;
    }
    return WEIR_OK;
}

// Whether the range of a new access is among those of `items` already, which then takes its kinds
// too: each is there once, so that no hazard is reported twice for one pair of ranges.
static inline bool merge_pending(pending_access* items, const pending_access* made,
                                 bool* entangled) {
    for (pending_access* other = items; other < made; ++other) {
        if (made->begin >= other->end || other->begin >= made->end ||
            other->memory_id != made->memory_id) {
            continue;
        }
        if (is_same_range(other->declared, made->declared)) {
            // A read that turns out to be a write too may meet the accesses between the two.
            *entangled |= (made->kind & ~other->kind & WEIR_ACCESS_WRITE) != 0;
            other->kind |= made->kind;
            return true;
        }
        *entangled |= ((made->kind | other->kind) & WEIR_ACCESS_WRITE) != 0;
    }
    return false;
}

// Collects the distinct ranges of a dispatch that hold bytes, each with all its kinds.
static weir_status collect(weir_tracker* tracker, const weir_tracker_dispatch* dispatch) {
    pending_array* pending = &tracker->pending;
    pending->count = tracker->normals.count = 0;
    tracker->entangled = false;
    tracker->plain = true;
    if (!dispatch->declared) {
        return WEIR_OK;
    }
    if (dispatch->access_count > 0 && !dispatch->accesses) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "dispatch %u: %u accesses at NULL",
                         tracker->next_dispatch, dispatch->access_count);
    }
    if (pending->capacity < dispatch->access_count) {
        WEIR_TRY(array_reserve(&tracker->allocator, pending, dispatch->access_count));
    }
    pending_access* made = pending->items;
    bool entangled = false;
    for (uint32_t i = 0; i < dispatch->access_count; ++i) {
        const weir_access* access = &dispatch->accesses[i];
        made->begin = access->range.byte_offset;
        made->end = plain_end(&access->range);
        made->memory_id = access->range.memory_id;
        made->declared = &access->range;
        made->kind = (unsigned)access->kind;
        made->normal = NO_PIECE;
        made->covers = 0;
        made->memory = MEMORY_NONE;
        if (made->kind == WEIR_ACCESS_CONSTANT) {
            continue;
        }
        if (made->kind < WEIR_ACCESS_READ || made->kind > WEIR_ACCESS_READ_WRITE) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "dispatch %u, access %u: kind %u, expected read, write or both, or "
                             "constant",
                             tracker->next_dispatch, i, made->kind);
        }
        if (access->range.level_count > 0) {
            WEIR_TRY(normalise(tracker, made));
        }
        if (made->begin < made->end && !merge_pending(pending->items, made, &entangled)) {
            ++made;
        }
    }
    pending->count = (size_t)(made - pending->items);
    tracker->entangled = entangled;
    return WEIR_OK;
}

// The exact bytes of a pending access.
static weir_range bytes_of(const weir_tracker* tracker, const pending_access* access) {
    return access->normal == NO_PIECE
               ? weir_range_make(access->memory_id, access->begin, access->end - access->begin)
               : tracker->normals.items[access->normal];
}

static weir_range bytes_of_entry(const weir_tracker* tracker, const interval_entry* entry,
                                 uint64_t memory_id) {
    return entry->item == NO_PIECE
               ? weir_range_make(memory_id, entry->begin, entry->end - entry->begin)
               : tracker->pieces.items[entry->item];
}

// Whether the runs meet, of two whose intervals do.
static bool meets(const weir_tracker* tracker, const pending_access* access,
                  const interval_entry* entry) {
    if (access->normal == NO_PIECE && entry->item == NO_PIECE) {
        return true;
    }
    const weir_range later = bytes_of(tracker, access);
    const weir_range earlier = bytes_of_entry(tracker, entry, access->memory_id);
    return weir_range_overlaps(&earlier, &later);
}

static weir_status add_conflict(weir_tracker* tracker, uint32_t earlier, uint32_t later,
                                weir_hazard_kind kind) {
    conflict_array* conflicts = &tracker->conflicts;
    if (conflicts->count == conflicts->capacity) {
        WEIR_TRY(array_reserve(&tracker->allocator, conflicts, conflicts->count + 1));
    }
    conflicts->items[conflicts->count++] =
        (conflict){.earlier = earlier,
                   .dispatch = tracker->accesses.items[earlier].dispatch,
                   .later = later,
                   .kind = kind};
    return WEIR_OK;
}

// Notes what a write takes from an entry that it meets: all of it, as most often, or some.
static weir_status touch(weir_tracker* tracker, uint32_t memory, bool writers,
                         pending_access* access, const interval_entry* hit) {
    touched_array* touched = &tracker->touched;
    if (access->begin <= hit->begin && hit->end <= access->end && access->normal == NO_PIECE &&
        hit->item == NO_PIECE && !tracker->entangled) {
        access->covers |= writers ? COVERS_WRITERS : COVERS_READERS;
        return WEIR_OK;
    }
    WEIR_TRY(array_reserve(&tracker->allocator, touched, touched->count + 1));
    touched->items[touched->count++] =
        (touched_entry){.entry = *hit, .memory = memory, .writes = writers};
    return WEIR_OK;
}

// Notes the conflicts of a pending access with an entry whose interval it meets.
static weir_status check_hit(weir_tracker* tracker, uint32_t memory, bool writers, uint32_t later,
                             const interval_entry* hit) {
    pending_access* access = &tracker->pending.items[later];
    if (!meets(tracker, access, hit)) {
        return WEIR_OK;
    }
    if (writers && (access->kind & WEIR_ACCESS_READ)) {
        WEIR_TRY(add_conflict(tracker, hit->access, later, WEIR_HAZARD_RAW));
    }
    if (access->kind & WEIR_ACCESS_WRITE) {
        WEIR_TRY(
            add_conflict(tracker, hit->access, later, writers ? WEIR_HAZARD_WAW : WEIR_HAZARD_WAR));
        return touch(tracker, memory, writers, access, hit);
    }
    return WEIR_OK;
}

// Notes the conflicts of a pending access with the writers or the readers of its memory.
static weir_status check_against(weir_tracker* tracker, uint32_t memory, bool writers,
                                 uint32_t later) {
    const pending_access* access = &tracker->pending.items[later];
    const open_memory* open = &tracker->memories.items[memory];
    const interval_tree* tree = writers ? &open->writers : &open->readers;
    if (tree->height == 1) { // no need to collect what one node holds
        const interval_node* node = &tracker->pool.items[tree->root];
        const interval_entry* stop = node->entries + node->count;
        for (const interval_entry* entry = node->entries;
             entry < stop && entry->begin < access->end; ++entry) {
            if (access->begin < entry->end) {
                WEIR_TRY(check_hit(tracker, memory, writers, later, entry));
            }
        }
        return WEIR_OK;
    }
    interval_array* hits = &tracker->hits;
    hits->count = 0;
    WEIR_TRY(interval_tree_find(&tracker->allocator, &tracker->pool, tree, access->begin,
                                access->end, hits));
    for (size_t i = 0; i < hits->count; ++i) {
        WEIR_TRY(check_hit(tracker, memory, writers, later, &hits->items[i]));
    }
    return WEIR_OK;
}

// Puts the readers of a memory into their tree. What is read is not looked at before something is
// written near it: most memory that is read is never written in the same group, or only later.
static weir_status sort_readers(weir_tracker* tracker, open_memory* open) {
    WEIR_TRY(interval_pool_reserve(&tracker->allocator, &tracker->pool, open->unsorted_count));
    while (open->unsorted != INTERVAL_NONE) {
        open_access* reader = &tracker->accesses.items[open->unsorted];
        const weir_range range =
            weir_range_make(open->memory_id, reader->byte_offset, reader->byte_length);
        const interval_entry entry = {.begin = reader->byte_offset,
                                      .end = plain_end(&range),
                                      .access = open->unsorted,
                                      .item = NO_PIECE};
        open->unsorted = reader->piece;
        reader->piece = NO_PIECE;
        interval_tree_insert(&tracker->pool, &open->readers, &entry);
    }
    open->unsorted_count = 0;
    open->unsorted_begin = UINT64_MAX;
    open->unsorted_end = 0;
    return WEIR_OK;
}

// Two accesses of one dispatch never conflict: nothing of it is recorded before all is checked.
static weir_status check_pending(weir_tracker* tracker) {
    tracker->conflicts.count = tracker->touched.count = 0;
    for (uint32_t i = 0; i < tracker->pending.count; ++i) {
        pending_access* access = &tracker->pending.items[i];
        const uint32_t memory = memory_map_find(&tracker->memories, access->memory_id);
        if (memory == MEMORY_NONE) {
            continue;
        }
        access->memory = memory;
        open_memory* open = &tracker->memories.items[memory];
        if (!interval_tree_misses(&open->writers, access->begin, access->end)) {
            WEIR_TRY(check_against(tracker, memory, true, i));
        }
        if ((access->kind & WEIR_ACCESS_WRITE) && access->begin < open->unsorted_end &&
            open->unsorted_begin < access->end) {
            WEIR_TRY(sort_readers(tracker, open));
        }
        if ((access->kind & WEIR_ACCESS_WRITE) &&
            !interval_tree_misses(&open->readers, access->begin, access->end)) {
            WEIR_TRY(check_against(tracker, memory, false, i));
        }
    }
    return WEIR_OK;
}

static void report_conflict(const weir_tracker* tracker, const conflict* found,
                            weir_hazard* hazard) {
    const open_access* earlier = &tracker->accesses.items[found->earlier];
    hazard->kind = found->kind;
    hazard->earlier = found->dispatch;
    hazard->later = tracker->next_dispatch;
    hazard->later_range = *tracker->pending.items[found->later].declared;
    if (earlier->piece != NO_PIECE) {
        hazard->earlier_range = tracker->pieces.items[earlier->piece];
        return;
    }
    memset(&hazard->earlier_range, 0, sizeof hazard->earlier_range);
    hazard->earlier_range.memory_id = earlier->memory_id;
    hazard->earlier_range.byte_offset = earlier->byte_offset;
    hazard->earlier_range.byte_length = earlier->byte_length;
}

// Turns fences and conflicts into the hazards of the verdict.
static weir_status report(weir_tracker* tracker, bool declared) {
    hazard_array* hazards = &tracker->hazards;
    conflict_array* conflicts = &tracker->conflicts;
    // A fence precedes all after it, so the open one comes first; a new one follows all open ones.
    const uint32_t fence_end =
        declared ? tracker->open_begin + (tracker->fenced ? 1 : 0) : tracker->next_dispatch;
    const size_t fence_count = fence_end - tracker->open_begin;
    hazards->count = 0;
    if (fence_count + conflicts->count == 0) {
        return WEIR_OK;
    }
    if (conflicts->count > 1) {
        conflict_order(conflicts);
    }
    if (hazards->capacity < fence_count + conflicts->count) {
        WEIR_TRY(array_reserve(&tracker->allocator, hazards, fence_count + conflicts->count));
    }
    for (uint32_t earlier = tracker->open_begin; earlier < fence_end; ++earlier) {
        hazards->items[hazards->count++] = (weir_hazard){
            .kind = WEIR_HAZARD_FENCE, .earlier = earlier, .later = tracker->next_dispatch};
    }
    for (size_t i = 0; i < conflicts->count; ++i) {
        report_conflict(tracker, &conflicts->items[i], &hazards->items[hazards->count++]);
    }
    return WEIR_OK;
}

// Makes the pieces that the writes of the dispatch from `first` on leave of `whole`.
static weir_status leave(weir_tracker* tracker, const weir_range* whole, size_t first,
                         uint32_t access, bool writes) {
    piece_array* made = &tracker->made;
    const size_t begin = made->count;
    WEIR_TRY(array_reserve(&tracker->allocator, made, made->count + 1));
    made->items[made->count++] = *whole;
    for (size_t i = first; i < tracker->pending.count; ++i) {
        const pending_access* write = &tracker->pending.items[i];
        if (!(write->kind & WEIR_ACCESS_WRITE) || write->memory_id != whole->memory_id) {
            continue;
        }
        const weir_range bytes = bytes_of(tracker, write);
        bool widened = false;
        WEIR_TRY(
            piece_subtract(&tracker->allocator, &tracker->scratch, made, begin, &bytes, &widened));
        tracker->new_widened += widened;
    }
    WEIR_TRY(array_reserve(&tracker->allocator, &tracker->owners, tracker->owners.count + 1));
    tracker->owners.items[tracker->owners.count++] =
        (piece_owner){.piece_end = made->count, .access = access, .writes = writes};
    return WEIR_OK;
}

static int compare_touched(const touched_entry* a, const touched_entry* b) {
    if (a->entry.access != b->entry.access) {
        return a->entry.access < b->entry.access ? -1 : 1;
    }
    return a->entry.begin < b->entry.begin ? -1 : a->entry.begin > b->entry.begin;
}

// Leaves each touched entry once. One access is in one tree only, so access and begin name it.
static void order_touched(touched_array* touched) {
    size_t kept = 0;
    for (size_t gap = touched->count / 2; gap > 0; gap /= 2) { // Shellsort: short, in place
        for (size_t i = gap; i < touched->count; ++i) {
            const touched_entry moved = touched->items[i];
            size_t slot = i;
            for (; slot >= gap && compare_touched(&moved, &touched->items[slot - gap]) < 0;
                 slot -= gap) {
                touched->items[slot] = touched->items[slot - gap];
            }
            touched->items[slot] = moved;
        }
    }
    for (size_t i = 0; i < touched->count; ++i) {
        if (kept == 0 || compare_touched(&touched->items[kept - 1], &touched->items[i]) != 0) {
            touched->items[kept++] = touched->items[i];
        }
    }
    touched->count = kept;
}

// Works out all pieces that recording adds, other than whole pending accesses.
static weir_status make_pieces(weir_tracker* tracker, size_t access_base) {
    if (tracker->touched.count > 1) {
        order_touched(&tracker->touched);
    }
    for (size_t i = 0; i < tracker->touched.count; ++i) {
        const touched_entry* touched = &tracker->touched.items[i];
        const uint64_t memory_id = tracker->memories.items[touched->memory].memory_id;
        const weir_range whole = bytes_of_entry(tracker, &touched->entry, memory_id);
        WEIR_TRY(leave(tracker, &whole, 0, touched->entry.access, touched->writes));
    }
    // Reads come before all writes of their dispatch, and writes in the order of the accesses.
    for (size_t i = 0; tracker->entangled && i < tracker->pending.count; ++i) {
        const pending_access* access = &tracker->pending.items[i];
        const weir_range whole = bytes_of(tracker, access);
        const bool writes = (access->kind & WEIR_ACCESS_WRITE) != 0;
        WEIR_TRY(leave(tracker, &whole, writes ? i + 1 : 0, (uint32_t)(access_base + i), writes));
    }
    return WEIR_OK;
}

static bool has_room(const weir_tracker* tracker, size_t pending_count, size_t piece_count) {
    return tracker->accesses.count + pending_count <= tracker->accesses.capacity &&
           tracker->pieces.count + piece_count <= tracker->pieces.capacity &&
           memory_map_has_room(&tracker->memories, tracker->memories.count + pending_count) &&
           tracker->accesses.count + pending_count < UINT32_MAX &&
           tracker->pieces.count + piece_count < UINT32_MAX;
}

// Makes all the room that recording takes; nothing after it can fail.
static weir_status reserve(weir_tracker* tracker) {
    const weir_allocator* allocator = &tracker->allocator;
    const size_t pending_count = tracker->pending.count;
    // Declared ranges and normal forms with levels, and every piece made.
    const size_t piece_count = pending_count + tracker->normals.count + tracker->made.count;
    WEIR_TRY(interval_pool_reserve(allocator, &tracker->pool, pending_count + tracker->made.count));
    if (has_room(tracker, pending_count, piece_count)) {
        return WEIR_OK;
    }
    WEIR_TRY(array_reserve(allocator, &tracker->accesses, tracker->accesses.count + pending_count));
    WEIR_TRY(array_reserve(allocator, &tracker->pieces, tracker->pieces.count + piece_count));
    WEIR_TRY(
        memory_map_reserve(allocator, &tracker->memories, tracker->memories.count + pending_count));
    return has_room(tracker, pending_count, piece_count)
               ? WEIR_OK
               : WEIR_FAIL(WEIR_OUT_OF_RANGE, "dispatch %u: more than 2^32 - 2 open accesses",
                           tracker->next_dispatch);
}

static uint32_t keep_piece(weir_tracker* tracker, const weir_range* piece) {
    uint32_t index = tracker->free_piece;
    if (index != NO_PIECE) {
        tracker->free_piece = (uint32_t)tracker->pieces.items[index].memory_id;
    } else {
        index = (uint32_t)tracker->pieces.count++;
    }
    tracker->pieces.items[index] = *piece;
    return index;
}

static void drop_piece(weir_tracker* tracker, uint32_t index) {
    tracker->pieces.items[index].memory_id = tracker->free_piece;
    tracker->free_piece = index;
}

static void insert(weir_tracker* tracker, uint32_t memory, bool writes,
                   const interval_entry* entry) {
    open_memory* open = &tracker->memories.items[memory];
    interval_tree_insert(&tracker->pool, writes ? &open->writers : &open->readers, entry);
}

static void insert_piece(weir_tracker* tracker, const weir_range* piece, uint32_t access,
                         bool writes) {
    const interval_entry entry = {
        .begin = piece->byte_offset,
        .end = weir_range_end(piece),
        .access = access,
        .item = piece->level_count > 0 ? keep_piece(tracker, piece) : NO_PIECE,
    };
    insert(tracker, memory_map_open(&tracker->memories, piece->memory_id), writes, &entry);
}

static uint32_t open_pending(weir_tracker* tracker, const pending_access* access) {
    const weir_range* declared = access->declared;
    const uint32_t index = (uint32_t)tracker->accesses.count++;
    open_access* open = &tracker->accesses.items[index];
    open->memory_id = declared->memory_id;
    open->byte_offset = declared->byte_offset;
    open->byte_length = declared->byte_length;
    open->dispatch = tracker->next_dispatch;
    open->piece = declared->level_count > 0 ? keep_piece(tracker, declared) : NO_PIECE;
    return index;
}

static void add_unsorted(weir_tracker* tracker, uint32_t memory, uint32_t access, uint64_t begin,
                         uint64_t end) {
    open_memory* open = &tracker->memories.items[memory];
    tracker->accesses.items[access].piece = open->unsorted;
    open->unsorted = access;
    ++open->unsorted_count;
    open->unsorted_begin = begin < open->unsorted_begin ? begin : open->unsorted_begin;
    open->unsorted_end = end > open->unsorted_end ? end : open->unsorted_end;
}

// Adds the pending accesses to the open ones, and to those of their memory unless they come there
// in pieces. Behind a barrier or a fence the memories are other ones.
static void record_pending(weir_tracker* tracker, bool restart) {
    for (size_t i = 0; i < tracker->pending.count; ++i) {
        const pending_access* access = &tracker->pending.items[i];
        const uint32_t index = open_pending(tracker, access);
        if (tracker->entangled) {
            continue;
        }
        const uint32_t memory = restart || access->memory == MEMORY_NONE
                                    ? memory_map_open(&tracker->memories, access->memory_id)
                                    : access->memory;
        if (access->kind == WEIR_ACCESS_READ && access->declared->level_count == 0) {
            add_unsorted(tracker, memory, index, access->begin, access->end);
            continue;
        }
        const interval_entry entry = {
            .begin = access->begin,
            .end = access->end,
            .access = index,
            .item = access->normal != NO_PIECE
                        ? keep_piece(tracker, &tracker->normals.items[access->normal])
                        : NO_PIECE};
        insert(tracker, memory, (access->kind & WEIR_ACCESS_WRITE) != 0, &entry);
    }
}

// Puts the first dispatch of a group into the lists.
static void record_few(weir_tracker* tracker) {
    for (size_t i = 0; i < tracker->pending.count; ++i) {
        const pending_access* access = &tracker->pending.items[i];
        const small_access open = {.memory_id = access->memory_id,
                                   .begin = access->begin,
                                   .end = access->end,
                                   .dispatch = tracker->next_dispatch};
        small_set_add(&tracker->few, (access->kind & WEIR_ACCESS_WRITE) != 0, &open);
    }
}

// Moves the lists into the trees. Until a dispatch is recorded that changes nothing that is seen.
static weir_status leave_few(weir_tracker* tracker) {
    const size_t count = tracker->few.writers.count + tracker->few.readers.count;
    WEIR_TRY(array_reserve(&tracker->allocator, &tracker->accesses, count));
    WEIR_TRY(memory_map_reserve(&tracker->allocator, &tracker->memories, count));
    WEIR_TRY(interval_pool_reserve(&tracker->allocator, &tracker->pool, count));
    for (int writes = 0; writes < 2; ++writes) {
        const small_list* list = writes ? &tracker->few.writers : &tracker->few.readers;
        for (uint32_t i = 0; i < list->count; ++i) {
            const small_access* few = &list->items[i];
            const interval_entry entry = {.begin = few->begin,
                                          .end = few->end,
                                          .access = (uint32_t)tracker->accesses.count,
                                          .item = NO_PIECE};
            tracker->accesses.items[tracker->accesses.count++] =
                (open_access){.memory_id = few->memory_id,
                              .byte_offset = few->begin,
                              .byte_length = few->end - few->begin,
                              .dispatch = few->dispatch,
                              .piece = NO_PIECE};
            insert(tracker, memory_map_open(&tracker->memories, few->memory_id), writes, &entry);
        }
    }
    small_set_clear(&tracker->few);
    tracker->is_small = false;
    return WEIR_OK;
}

// Takes out what the writes cover whole.
static void sweep_covered(weir_tracker* tracker) {
    for (size_t i = 0; i < tracker->pending.count; ++i) {
        const pending_access* access = &tracker->pending.items[i];
        if (access->covers == 0) {
            continue;
        }
        open_memory* open = &tracker->memories.items[access->memory];
        if (access->covers & COVERS_WRITERS) {
            interval_tree_sweep(&tracker->pool, &open->writers, access->begin, access->end,
                                NO_PIECE);
        }
        if (access->covers & COVERS_READERS) {
            interval_tree_sweep(&tracker->pool, &open->readers, access->begin, access->end,
                                NO_PIECE);
        }
    }
}

// Puts what is left of the touched entries in their place, and the pieces of an entangled dispatch.
static void record_pieces(weir_tracker* tracker) {
    for (size_t i = 0; i < tracker->touched.count; ++i) {
        const touched_entry* touched = &tracker->touched.items[i];
        open_memory* open = &tracker->memories.items[touched->memory];
        interval_tree_remove(&tracker->pool, touched->writes ? &open->writers : &open->readers,
                             touched->entry.begin, touched->entry.access);
        if (touched->entry.item != NO_PIECE) {
            drop_piece(tracker, touched->entry.item);
        }
    }
    size_t piece = 0;
    for (size_t i = 0; i < tracker->owners.count; ++i) {
        const piece_owner* owner = &tracker->owners.items[i];
        for (; piece < owner->piece_end; ++piece) {
            insert_piece(tracker, &tracker->made.items[piece], owner->access, owner->writes);
        }
    }
}

// Does all that recording into the trees takes and that can fail.
static weir_status prepare(weir_tracker* tracker, bool restart) {
    if (restart) {
        tracker->touched.count = 0;
    }
    tracker->made.count = tracker->owners.count = 0;
    tracker->new_widened = 0;
    if (tracker->touched.count > 0 || tracker->entangled) {
        WEIR_TRY(make_pieces(tracker, restart ? 0 : tracker->accesses.count));
    }
    return reserve(tracker);
}

// Turns conflicts with the lists into hazards.
static weir_status report_few(weir_tracker* tracker, const weir_tracker_dispatch* dispatch,
                              small_conflicts* found) {
    hazard_array* hazards = &tracker->hazards;
    if (hazards->capacity < found->count) {
        WEIR_TRY(array_reserve(&tracker->allocator, hazards, found->count));
    }
    if (found->count > 1) {
        conflict_array ordered = {.items = found->items, .count = found->count};
        conflict_order(&ordered); // no two are equal
    }
    for (size_t i = 0; i < found->count; ++i) {
        const conflict* at = &found->items[i];
        const small_list* list =
            at->kind == WEIR_HAZARD_WAR ? &tracker->few.readers : &tracker->few.writers;
        const small_access* earlier = &list->items[at->earlier];
        weir_hazard* hazard = &hazards->items[i];
        hazard->kind = at->kind;
        hazard->earlier = at->dispatch;
        hazard->later = tracker->next_dispatch;
        hazard->later_range = dispatch->accesses[at->later].range;
        hazard->earlier_range =
            weir_range_make(earlier->memory_id, earlier->begin, earlier->end - earlier->begin);
    }
    hazards->count = found->count;
    return WEIR_OK;
}

// All of weir_tracker_record for a simple dispatch in a small group; `*done` tells whether it was
// one, else nothing was changed.
static weir_status record_simple(weir_tracker* tracker, const weir_tracker_dispatch* dispatch,
                                 weir_verdict* verdict, bool* done) {
    small_set* few = &tracker->few;
    small_conflicts found;
    *done = false;
    if (!small_set_takes(dispatch)) {
        return WEIR_OK;
    }
    small_set_check(few, dispatch, &found);
    if (found.count > 0) {
        WEIR_TRY(report_few(tracker, dispatch, &found));
        small_set_clear(few);
        tracker->open_begin = tracker->next_dispatch;
    } else if (!small_set_has_room(few, dispatch->access_count)) {
        return WEIR_OK;
    }
    for (uint32_t i = 0; i < dispatch->access_count; ++i) {
        const weir_access* access = &dispatch->accesses[i];
        if (small_access_counts(access)) {
            const small_access open = {.memory_id = access->range.memory_id,
                                       .begin = access->range.byte_offset,
                                       .end = access->range.byte_offset + access->range.byte_length,
                                       .dispatch = tracker->next_dispatch};
            small_set_add(few, (access->kind & WEIR_ACCESS_WRITE) != 0, &open);
        }
    }
    verdict->dispatch = tracker->next_dispatch++;
    verdict->barrier = found.count > 0;
    verdict->hazards = tracker->hazards.items;
    verdict->hazard_count = (uint32_t)found.count;
    *done = true;
    return WEIR_OK;
}

static weir_status record_any(weir_tracker* tracker, const weir_tracker_dispatch* dispatch,
                              weir_verdict* verdict) {
    WEIR_TRY(collect(tracker, dispatch));
    if (tracker->is_small) {
        WEIR_TRY(leave_few(tracker));
    }
    WEIR_TRY(check_pending(tracker));
    WEIR_TRY(report(tracker, dispatch->declared));
    const bool barrier = tracker->mode == WEIR_TRACKER_GROUP && tracker->hazards.count > 0;
    // Behind a barrier or a fence nothing before it can be in conflict with what comes.
    const bool restart = barrier || !dispatch->declared;
    WEIR_TRY(prepare(tracker, restart));
    if (restart) {
        drop_open(tracker, tracker->next_dispatch, !dispatch->declared);
    }
    tracker->is_small = tracker->is_small && tracker->plain && !tracker->entangled &&
                        tracker->pending.count <= SMALL_SET;
    if (tracker->is_small) {
        record_few(tracker);
    } else {
        if (!restart) {
            sweep_covered(tracker);
        }
        record_pending(tracker, restart);
        record_pieces(tracker);
        tracker->widened_count += tracker->new_widened;
    }
    *verdict = (weir_verdict){.dispatch = tracker->next_dispatch++,
                              .barrier = barrier,
                              .hazards = tracker->hazards.items,
                              .hazard_count = (uint32_t)tracker->hazards.count};
    return WEIR_OK;
}

weir_status weir_tracker_record(weir_tracker* tracker, const weir_tracker_dispatch* dispatch,
                                weir_verdict* verdict) {
    if (tracker->next_dispatch == UINT32_MAX) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "more than 2^32 - 1 dispatches without a reset");
    }
    if (tracker->is_small && !tracker->fenced) {
        bool done = false;
        WEIR_TRY(record_simple(tracker, dispatch, verdict, &done));
        if (done) {
            return WEIR_OK;
        }
    }
    return record_any(tracker, dispatch, verdict);
}
