#include "schedule/schedule.h"

#include <string.h>

#include "plan/plan_scratch.h"

weir_status weir_schedule_bits_new(const weir_allocator* allocator, size_t rows, size_t columns,
                                   schedule_bits* bits) {
    const size_t row_words = (columns + 63) / 64;
    size_t byte_size = 0;
    if (__builtin_mul_overflow(rows * sizeof(uint64_t), row_words, &byte_size)) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "a relation of %zu x %zu is too large", rows, columns);
    }
    void* words = NULL;
    WEIR_TRY(weir_alloc_zeroed(allocator, byte_size, &words));
    *bits = (schedule_bits){.words = words, .rows = rows, .row_words = row_words};
    return WEIR_OK;
}

void weir_schedule_bits_free(const weir_allocator* allocator, schedule_bits* bits) {
    weir_free(allocator, bits->words, bits->rows * bits->row_words * sizeof(uint64_t),
              _Alignof(max_align_t));
    *bits = (schedule_bits){0};
}

static weir_status push_edge(weir_schedule* schedule, uint32_t predecessor) {
    WEIR_TRY(array_reserve(&schedule->allocator, &schedule->edges, schedule->edges.count + 1));
    schedule->edges.items[schedule->edges.count++] = predecessor;
    return WEIR_OK;
}

// What the walk along the graph knows. A result is written once, by the dispatch that makes it, and
// read after that: its hazards are known without looking for them. Only values that are written
// again, states above all, need the tracker.
typedef struct flow_walk {
    weir_schedule* schedule;
    weir_tracker* tracker;
    bool* tracked;    // per value
    uint32_t* number; // in the graph of each dispatch that the tracker has seen
    uint32_t seen;
} flow_walk;

static uint32_t maker_of(const weir_schedule* schedule, weir_value root) {
    return schedule->uses.items[schedule->uses.begins[root]];
}

static void find_tracked(const weir_schedule* schedule, bool* tracked) {
    for (uint32_t d = 0; d < schedule->dispatches.count; d++) {
        const schedule_dispatch* dispatch = &schedule->dispatches.items[d];
        for (uint32_t i = 0; i < dispatch->operand_count; i++) {
            const schedule_operand* operand =
                &schedule->operands.items[dispatch->operand_begin + i];
            const bool made = schedule->values.items[operand->root].kind == WEIR_VALUE_RESULT &&
                              maker_of(schedule, operand->root) == d;
            tracked[operand->root] |= operand->kind != WEIR_ACCESS_READ && !made;
        }
    }
}

// Pushes an edge to the maker of each result that a dispatch reads, and collects the accesses that
// the tracker has to look at.
static weir_status walk_operands(flow_walk* walk, uint32_t index, weir_access* accesses,
                                 uint32_t* access_count) {
    weir_schedule* schedule = walk->schedule;
    const schedule_dispatch* dispatch = &schedule->dispatches.items[index];
    *access_count = 0;
    for (uint32_t i = 0; i < dispatch->operand_count; i++) {
        const schedule_operand* operand = &schedule->operands.items[dispatch->operand_begin + i];
        if (walk->tracked[operand->root]) {
            accesses[(*access_count)++] =
                (weir_access){.range = operand->extent, .kind = operand->kind};
        } else if (schedule->values.items[operand->root].kind == WEIR_VALUE_RESULT &&
                   maker_of(schedule, operand->root) != index) {
            WEIR_TRY(push_edge(schedule, maker_of(schedule, operand->root)));
        }
    }
    return WEIR_OK;
}

static weir_status track_dispatch(flow_walk* walk, uint32_t index, const weir_access* accesses,
                                  uint32_t access_count) {
    const weir_tracker_dispatch declared = {
        .accesses = accesses, .access_count = access_count, .declared = true};
    weir_verdict verdict;
    WEIR_TRY(weir_tracker_record(walk->tracker, &declared, &verdict));
    walk->number[walk->seen++] = index;
    uint32_t last = UINT32_MAX;
    for (uint32_t h = 0; h < verdict.hazard_count; h++) {
        if (verdict.hazards[h].earlier != last) {
            last = verdict.hazards[h].earlier;
            WEIR_TRY(push_edge(walk->schedule, walk->number[last]));
        }
    }
    return WEIR_OK;
}

static weir_status walk_dispatches(flow_walk* walk) {
    weir_schedule* schedule = walk->schedule;
    find_tracked(schedule, walk->tracked);
    for (uint32_t i = 0; i < schedule->dispatches.count; i++) {
        weir_access accesses[SCHEDULE_OPERANDS_MAX];
        uint32_t access_count = 0;
        schedule->edges.begins[i] = (uint32_t)schedule->edges.count;
        WEIR_TRY(walk_operands(walk, i, accesses, &access_count));
        if (access_count > 0) {
            WEIR_TRY(track_dispatch(walk, i, accesses, access_count));
        }
    }
    schedule->edges.begins[schedule->dispatches.count] = (uint32_t)schedule->edges.count;
    return WEIR_OK;
}

static weir_status find_flow(weir_schedule* schedule) {
    plan_scratch scratch = {.allocator = schedule->allocator};
    flow_walk walk = {.schedule = schedule};
    weir_status status = weir_tracker_create(&schedule->allocator, WEIR_TRACKER_DAG, &walk.tracker);
    if (status == WEIR_OK) {
        status = scratch_take(&scratch, &walk.tracked, schedule->values.count);
    }
    if (status == WEIR_OK) {
        status = scratch_take(&scratch, &walk.number, schedule->dispatches.count);
    }
    if (status == WEIR_OK) {
        status = walk_dispatches(&walk);
    }
    plan_scratch_release(&scratch, NULL);
    weir_tracker_destroy(walk.tracker);
    return status;
}

weir_status weir_schedule_find_edges(weir_schedule* schedule) {
    schedule_edges* edges = &schedule->edges;
    const size_t byte_size = (schedule->dispatches.count + 1) * sizeof(uint32_t);
    WEIR_TRY(
        weir_alloc(&schedule->allocator, byte_size, _Alignof(max_align_t), (void**)&edges->begins));
    memset(edges->begins, 0, byte_size);
    edges->count = 0;
    WEIR_TRY(array_reserve(&schedule->allocator, edges, 1)); // lists of none point somewhere too
    if (schedule->options.fence_all) {
        for (uint32_t i = 1; i < schedule->dispatches.count; i++) {
            WEIR_TRY(push_edge(schedule, i - 1));
            schedule->edges.begins[i + 1] = i;
        }
        return WEIR_OK;
    }
    return find_flow(schedule);
}

// Adds the ancestors of `from`, and `from` itself, to those of `to`.
static void inherit(schedule_bits* ancestors, uint32_t to, uint32_t from) {
    uint64_t* target = ancestors->words + to * ancestors->row_words;
    const uint64_t* source = ancestors->words + from * ancestors->row_words;
    for (size_t w = 0; w < ancestors->row_words; w++) {
        target[w] |= source[w];
    }
    schedule_bit_set(ancestors, to, from);
}

// Keeps only edges that no other path implies (transitive reduction of a DAG: Aho, Garey and Ullman
// 1972). Predecessors are taken from the latest to the earliest, so that each is met after all that
// could imply it.
static uint32_t reduce_row(schedule_bits* ancestors, uint32_t dispatch, uint32_t* predecessors,
                           uint32_t count) {
    uint32_t kept = 0;
    for (uint32_t i = 1; i < count; i++) { // few and nearly sorted
        const uint32_t predecessor = predecessors[i];
        uint32_t slot = i;
        for (; slot > 0 && predecessors[slot - 1] < predecessor; slot--) {
            predecessors[slot] = predecessors[slot - 1];
        }
        predecessors[slot] = predecessor;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!schedule_bit(ancestors, dispatch, predecessors[i])) {
            inherit(ancestors, dispatch, predecessors[i]);
            predecessors[kept++] = predecessors[i];
        }
    }
    return kept;
}

weir_status weir_schedule_close(weir_schedule* schedule) {
    const uint32_t count = (uint32_t)schedule->dispatches.count;
    schedule_edges* edges = &schedule->edges;
    if (!schedule->ancestors.words) {
        WEIR_TRY(weir_schedule_bits_new(&schedule->allocator, count, count, &schedule->ancestors));
    }
    memset(schedule->ancestors.words, 0,
           schedule->ancestors.rows * schedule->ancestors.row_words * sizeof(uint64_t));
    uint32_t written = 0;
    uint32_t begin = 0;
    schedule->report.waits = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t end = edges->begins[i + 1];
        const uint32_t kept =
            reduce_row(&schedule->ancestors, i, edges->items + begin, end - begin);
        uint32_t level = 0;
        for (uint32_t k = 0; k < kept; k++) {
            const uint32_t predecessor = edges->items[begin + k];
            const uint32_t above = schedule->dispatches.items[predecessor].level + 1;
            level = above > level ? above : level;
            edges->items[written + k] = predecessor;
        }
        edges->begins[i] = written;
        written += kept;
        begin = end;
        schedule->dispatches.items[i].level = level;
        schedule->report.waits = level > schedule->report.waits ? level : schedule->report.waits;
    }
    edges->begins[count] = written;
    edges->count = written;
    schedule->report.edges = written;
    return WEIR_OK;
}
