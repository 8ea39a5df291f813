#include "schedule/schedule.h"

#include <string.h>

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

// The accesses of one dispatch that can conflict: weights and inputs are never written in a pass.
static uint32_t gather_accesses(const weir_schedule* schedule, const schedule_dispatch* dispatch,
                                weir_access* accesses) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < dispatch->operand_count; i++) {
        const schedule_operand* operand = &schedule->operands.items[dispatch->operand_begin + i];
        const weir_value_kind kind = schedule->values.items[operand->root].kind;
        if (kind != WEIR_VALUE_WEIGHT && kind != WEIR_VALUE_INPUT) {
            accesses[count++] = (weir_access){.range = operand->extent, .kind = operand->kind};
        }
    }
    return count;
}

static weir_status track_dispatches(weir_schedule* schedule, weir_tracker* tracker) {
    for (uint32_t i = 0; i < schedule->dispatches.count; i++) {
        const schedule_dispatch* dispatch = &schedule->dispatches.items[i];
        weir_access accesses[GRAPH_OP_INPUTS + 2];
        const weir_tracker_dispatch declared = {
            .accesses = accesses,
            .access_count = gather_accesses(schedule, dispatch, accesses),
            .declared = true,
        };
        weir_verdict verdict;
        WEIR_TRY(weir_tracker_record(tracker, &declared, &verdict));
        schedule->edges.begins[i] = (uint32_t)schedule->edges.count;
        uint32_t last = UINT32_MAX;
        for (uint32_t h = 0; h < verdict.hazard_count; h++) {
            if (verdict.hazards[h].earlier != last) {
                last = verdict.hazards[h].earlier;
                WEIR_TRY(push_edge(schedule, last));
            }
        }
    }
    schedule->edges.begins[schedule->dispatches.count] = (uint32_t)schedule->edges.count;
    return WEIR_OK;
}

static weir_status find_edges(weir_schedule* schedule) {
    schedule_edges* edges = &schedule->edges;
    const size_t byte_size = (schedule->dispatches.count + 1) * sizeof(uint32_t);
    if (!edges->begins) {
        WEIR_TRY(weir_alloc(&schedule->allocator, byte_size, _Alignof(max_align_t),
                            (void**)&edges->begins));
    }
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
    weir_tracker* tracker = NULL;
    WEIR_TRY(weir_tracker_create(&schedule->allocator, WEIR_TRACKER_DAG, &tracker));
    const weir_status status = track_dispatches(schedule, tracker);
    weir_tracker_destroy(tracker);
    return status;
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

// Where a boundary waits for everything before it, all lower levels are ancestors.
static void close_groups(weir_schedule* schedule) {
    const schedule_dispatch* dispatches = schedule->dispatches.items;
    for (uint32_t i = 0; i < schedule->dispatches.count; i++) {
        for (uint32_t j = 0; j < schedule->dispatches.count; j++) {
            if (dispatches[j].level < dispatches[i].level) {
                schedule_bit_set(&schedule->ancestors, i, j);
            }
        }
    }
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
    if (schedule->target.waits == WEIR_WAIT_GROUPS) {
        close_groups(schedule);
    }
    return WEIR_OK;
}

// Numbers the dispatches in the order of their groups, and within a group as they were: what comes
// later by number then never runs earlier, and lifetimes in groups agree with the numbers.
static weir_status sort_by_level(weir_schedule* schedule) {
    const size_t count = schedule->dispatches.count;
    const size_t byte_size = count * sizeof(schedule_dispatch);
    void* memory = NULL;
    WEIR_TRY(weir_alloc(&schedule->allocator, byte_size, _Alignof(schedule_dispatch), &memory));
    schedule_dispatch* sorted = memory;
    size_t placed = 0;
    for (uint32_t level = 0; level <= schedule->report.waits; level++) {
        for (size_t i = 0; i < count; i++) {
            if (schedule->dispatches.items[i].level == level) {
                sorted[placed++] = schedule->dispatches.items[i];
            }
        }
    }
    memcpy(schedule->dispatches.items, sorted, byte_size);
    weir_free(&schedule->allocator, sorted, byte_size, _Alignof(schedule_dispatch));
    return WEIR_OK;
}

// Checks that a given order names each dispatch once, after all that it waits for, and group by
// group where boundaries wait. `positions` is filled: where each dispatch stands.
static weir_status check_given(const weir_schedule* schedule, uint32_t* positions) {
    const schedule_given* given = schedule->given;
    const uint32_t count = (uint32_t)schedule->dispatches.count;
    uint32_t level = 0;
    memset(positions, 0xFF, count * sizeof *positions);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t dispatch = given->order[i];
        if (dispatch >= count || positions[dispatch] != UINT32_MAX) {
            return WEIR_FAIL(WEIR_INFEASIBLE, "position %u of the order: dispatch %u is %s", i,
                             dispatch, dispatch < count ? "there twice" : "unknown");
        }
        positions[dispatch] = i;
        for (uint32_t e = schedule->edges.begins[dispatch];
             e < schedule->edges.begins[dispatch + 1]; e++) {
            if (positions[schedule->edges.items[e]] == UINT32_MAX) {
                return WEIR_FAIL(WEIR_INFEASIBLE,
                                 "position %u of the order: %s comes before %s, which it needs", i,
                                 schedule->dispatches.items[dispatch].name,
                                 schedule->dispatches.items[schedule->edges.items[e]].name);
            }
        }
        const uint32_t next = schedule->dispatches.items[dispatch].level;
        if (schedule->target.waits == WEIR_WAIT_GROUPS && next < level) {
            return WEIR_FAIL(WEIR_INFEASIBLE, "position %u of the order: group %u after group %u",
                             i, next, level);
        }
        level = next;
    }
    return WEIR_OK;
}

static weir_status sort_as_given(weir_schedule* schedule) {
    const size_t count = schedule->dispatches.count;
    const size_t byte_size = count * (sizeof(schedule_dispatch) + sizeof(uint32_t));
    void* memory = NULL;
    if (schedule->given->dispatch_count != count) {
        return WEIR_FAIL(WEIR_INFEASIBLE, "an order of %u dispatches is given, expected %zu",
                         schedule->given->dispatch_count, count);
    }
    WEIR_TRY(weir_alloc(&schedule->allocator, byte_size, _Alignof(schedule_dispatch), &memory));
    schedule_dispatch* sorted = memory;
    const weir_status status = check_given(schedule, (uint32_t*)(sorted + count));
    for (size_t i = 0; status == WEIR_OK && i < count; i++) {
        sorted[i] = schedule->dispatches.items[schedule->given->order[i]];
    }
    if (status == WEIR_OK) {
        memcpy(schedule->dispatches.items, sorted, count * sizeof *sorted);
    }
    weir_free(&schedule->allocator, memory, byte_size, _Alignof(schedule_dispatch));
    return status;
}

weir_status weir_schedule_order(weir_schedule* schedule) {
    WEIR_TRY(find_edges(schedule));
    WEIR_TRY(weir_schedule_close(schedule));
    if (schedule->given) {
        WEIR_TRY(sort_as_given(schedule));
    } else if (schedule->target.waits == WEIR_WAIT_GROUPS) {
        WEIR_TRY(sort_by_level(schedule));
    } else {
        return WEIR_OK;
    }
    WEIR_TRY(weir_schedule_find_uses(schedule));
    WEIR_TRY(find_edges(schedule));
    return weir_schedule_close(schedule);
}
