#include <string.h>

#include "base/clock.h"
#include "plan/plan_exact_parts.h"

// Depth first, without recursion. A frame places the first class whose turn it is, and when that
// fails skips it, which is a conclusion like others: so each frame has one choice at a time, and no
// list of them. Where the unplaced classes fall apart, each part is solved after the other; that
// one fails is the fault of the choice which made it, not of the parts solved before.

#define CLOCK_WORK 10000 // between two looks at the clock: some 0.1 ms
#define TELL_WORK 200000 // between two reports of progress

// Highs are taken in bytes: with sizes rounded up to the step of all alignments, the topmost class
// of a section may use room that its rounded size does not fit in.
bool exact_start(exact_search* search, uint64_t capacity) {
    search->capacity = capacity;
    search->room = (int64_t)((capacity + search->slack) / search->unit);
    search->change_count = 0;
    search->frame_count = 0;
    search->part_count = 0;
    memset(search->unplaced, 0, search->class_words * sizeof(uint64_t));
    memset(search->tight, 0, search->class_words * sizeof(uint64_t));
    memset(search->stale_classes, 0, search->class_words * sizeof(uint64_t));
    memset(search->stale_sections, 0, search->section_words * sizeof(uint64_t));
    memset(search->crossing, 0, (search->section_count + 1) * sizeof *search->crossing);
    for (uint32_t s = 0; s < search->section_count; ++s) {
        search->load[s] = (int64_t)search->component->totals[s];
        row_set(search->stale_sections, s);
    }
    for (uint32_t i = 0; i < search->count; ++i) {
        const plan_item* item = &search->component->items[i];
        const uint64_t bytes = search->instance->classes[item->index].byte_size;
        const int64_t start = item->fixed ? (int64_t)item->fixed_offset : 0;
        if (bytes > capacity || start > (int64_t)((capacity - bytes) / search->unit)) {
            return false;
        }
        search->rest[i] = start;
        search->low[i] = start;
        search->high[i] = item->fixed ? start : (int64_t)((capacity - bytes) / search->unit);
        row_set(search->unplaced, i);
        if (item->fixed) {
            row_set(search->tight, i);
            row_set(search->stale_classes, i);
        }
        for (uint32_t s = item->first + 1; s < item->end; ++s) {
            ++search->crossing[s];
        }
    }
    return true;
}

// Ties alone are free: a class placed before a lower one would keep that from its place.
static bool comes_first(const exact_search* search, uint32_t a, uint32_t b) {
    if (search->fullest_first && search->fullness[a] != search->fullness[b]) {
        return search->fullness[a] > search->fullness[b];
    }
    return search->rank[a] < search->rank[b];
}

// The class whose turn it is: of those that can rest on what is placed the lowest, by rank where
// several are. None when each comes too late for some other: for its high, or, had that one been
// let down as far as it goes, for its end.
static uint32_t choose(const exact_search* search, const exact_part* part) {
    uint32_t chosen = EXACT_NONE;
    int64_t lowest = INT64_MAX;
    int64_t latest = INT64_MAX;
    for (uint32_t w = part->first / 64; w <= (part->end - 1) / 64; ++w) {
        for (uint64_t bits = search->unplaced[w]; bits != 0; bits &= bits - 1) {
            const uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(bits);
            if (i < part->first || i >= part->end) {
                continue;
            }
            const int64_t rest = search->rest[i];
            const int64_t limit = rest + search->size[i] - 1;
            latest = limit < latest ? limit : latest;
            latest = search->high[i] < latest ? search->high[i] : latest;
            if (search->low[i] == rest && rest <= lowest) {
                if (rest < lowest || comes_first(search, i, chosen)) {
                    lowest = rest;
                    chosen = i;
                }
            }
        }
    }
    return lowest <= latest ? chosen : EXACT_NONE;
}

static bool has_unplaced(const exact_search* search, uint32_t first, uint32_t end) {
    for (uint32_t i = first; i < end; i = (i / 64 + 1) * 64) {
        uint64_t bits = search->unplaced[i / 64] & ~(uint64_t)0 << (i % 64);
        if (end - i / 64 * 64 < 64) {
            bits &= ((uint64_t)1 << (end % 64)) - 1;
        }
        if (bits != 0) {
            return true;
        }
    }
    return false;
}

// Lists what is left of a frame's part, in pieces where it falls apart, before what else is to be
// solved. Returns the first of all that, or EXACT_NONE when nothing is left.
//
// Each part that was entered has placed a class of its own, and each that waits has one to place,
// so there are never more parts or frames than classes, but for the one being opened.
static uint32_t list_parts(exact_search* search, uint32_t frame_index) {
    const exact_frame* frame = &search->frames[frame_index];
    const exact_part part = search->parts[frame->part];
    const plan_item* item = &search->component->items[frame->chosen];
    uint32_t head = part.next;
    uint32_t end = part.end;
    for (uint32_t s = item->end - 1; s > item->first; --s) {
        if (search->crossing[s] == 0 && search->born[s] > part.first && search->born[s] < end) {
            if (has_unplaced(search, search->born[s], end)) {
                search->parts[search->part_count] =
                    (exact_part){search->born[s], end, frame_index, head};
                head = search->part_count++;
            }
            end = search->born[s];
        }
    }
    if (has_unplaced(search, part.first, end)) {
        search->parts[search->part_count] = (exact_part){part.first, end, frame_index, head};
        head = search->part_count++;
    }
    return head;
}

// Opens a frame for a part; true when it is worth a search.
static bool open_frame(exact_search* search, uint32_t index) {
    const exact_part* part = &search->parts[index];
    const exact_part* of =
        part->parent == EXACT_NONE ? NULL : &search->parts[search->frames[part->parent].part];
    exact_frame* frame = &search->frames[search->frame_count++];
    *frame = (exact_frame){.part = index,
                           .part_count = search->part_count,
                           .chosen = EXACT_NONE,
                           .key = exact_key_of(search, part)};
    if (exact_has_failed(search, frame)) {
        return false;
    }
    const bool made = !of || of->first != part->first || of->end != part->end;
    return !made || exact_weigh(search, part);
}

// Closes the frames above the one whose choice made the part that has now failed; false when no
// choice did.
static bool give_up(exact_search* search) {
    const exact_frame* failed = &search->frames[search->frame_count - 1];
    const uint32_t parent = search->parts[failed->part].parent;
    if (parent == EXACT_NONE) {
        return false;
    }
    while (search->frame_count - 1 > parent) {
        const exact_frame* closed = &search->frames[--search->frame_count];
        if (closed->chosen != EXACT_NONE) {
            exact_unplace(search, closed->chosen);
        }
    }
    return true;
}

// Takes back the choice of the topmost frame and skips it; false when nothing is left to choose.
static bool skip(exact_search* search) {
    exact_frame* frame = &search->frames[search->frame_count - 1];
    const uint32_t chosen = frame->chosen;
    exact_undo(search, frame->mark);
    exact_unplace(search, chosen);
    search->part_count = frame->part_count;
    frame->chosen = EXACT_NONE;
    return exact_raise(search, chosen, search->rest[chosen] + 1) && exact_propagate(search);
}

// Asked at every node; clock and caller are asked by work, which bounds the time between two
// answers whatever a node costs.
bool exact_is_spent(exact_search* search) {
    plan_exact_budget* budget = search->budget;
    const uint64_t spent = search->work - search->counted;
    if (spent < CLOCK_WORK && spent < budget->work) {
        return budget->stopped;
    }
    search->counted = search->work;
    budget->work -= spent < budget->work ? spent : budget->work;
    budget->untold += spent;
    budget->stopped |= budget->deadline_ns > 0 && clock_ns() >= budget->deadline_ns;
    if (budget->untold >= TELL_WORK && budget->progress && !budget->stopped) {
        budget->untold = 0;
        budget->stopped = !budget->progress(budget->progress_context, budget->peak, budget->bound);
    }
    return budget->stopped || budget->work == 0;
}

// Places the class chosen in the topmost frame. False when that cannot lead to a solution; else
// `part` is what is to be solved next.
static bool advance(exact_search* search, uint32_t chosen, uint32_t* part) {
    exact_frame* frame = &search->frames[search->frame_count - 1];
    ++search->nodes;
    search->work += search->class_words;
    frame->chosen = chosen;
    frame->mark = search->change_count;
    if (!exact_place(search, chosen) || !exact_propagate(search)) {
        return false;
    }
    *part = list_parts(search, search->frame_count - 1);
    return true;
}

// Goes back to a choice that can be skipped, for its frame to go on from there; false when there is
// none, or when search->status is not WEIR_OK.
static bool go_back(exact_search* search, bool for_good) {
    while (!for_good || give_up(search)) {
        if (skip(search)) {
            return true;
        }
        if (search->status != WEIR_OK) {
            return false;
        }
        exact_note_failure(search, &search->frames[search->frame_count - 1]);
        for_good = true;
    }
    return false;
}

// Places classes until no part is left (EXACT_FOUND), a limit is reached (EXACT_SPENT), or the
// topmost frame has failed (EXACT_IMPOSSIBLE): its choice, or for good.
static exact_outcome go_down(exact_search* search, bool alive, uint64_t last_node, bool* for_good) {
    *for_good = !alive;
    while (alive) {
        const exact_frame* frame = &search->frames[search->frame_count - 1];
        const uint32_t chosen = choose(search, &search->parts[frame->part]);
        uint32_t part = EXACT_NONE;
        if (chosen == EXACT_NONE) {
            exact_note_failure(search, frame);
            *for_good = true;
            return EXACT_IMPOSSIBLE;
        }
        if (search->nodes >= last_node || exact_is_spent(search)) {
            return EXACT_SPENT;
        }
        if (!advance(search, chosen, &part)) {
            return EXACT_IMPOSSIBLE;
        }
        if (part == EXACT_NONE) {
            return EXACT_FOUND;
        }
        alive = open_frame(search, part);
        *for_good = !alive;
    }
    return EXACT_IMPOSSIBLE;
}

weir_status exact_run(exact_search* search, uint64_t capacity, uint64_t node_limit,
                      exact_outcome* outcome) {
    const uint64_t last_node = search->nodes + node_limit;
    *outcome = EXACT_IMPOSSIBLE;
    search->status = WEIR_OK;
    if (!exact_start(search, capacity) || !exact_propagate(search)) {
        return search->status;
    }
    search->parts[search->part_count++] = (exact_part){0, search->count, EXACT_NONE, EXACT_NONE};
    bool alive = open_frame(search, 0);
    bool for_good = false;
    do {
        *outcome = go_down(search, alive, last_node, &for_good);
        alive = true;
    } while (search->status == WEIR_OK && *outcome == EXACT_IMPOSSIBLE &&
             go_back(search, for_good));
    return search->status;
}
