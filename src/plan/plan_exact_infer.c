#include <string.h>

#include "plan/plan_exact_parts.h"

// What follows from what is placed, by three rules that run until none says anything new:
//
//   sections   The unplaced classes of a section lie above one another between its floor, the least
//              low, and the room. The lowest of them begins at `room - load` at the latest, so few
//              can be it: the others lie above one of those, and one that alone can be it has a new
//              high. And whatever lies at v or above must fit between v and the room, for every v.
//   pairs      Of two that conflict one lies below the other; where it has no room below, above.
//   rests      A class that does not rest on placed ones rests on an unplaced one.

static uint32_t pop_bit(uint64_t* word) {
    const uint32_t bit = (uint32_t)__builtin_ctzll(*word);
    *word &= *word - 1;
    return bit;
}

static bool grow_changes(exact_search* search) {
    const size_t capacity = search->change_capacity * 2;
    exact_change* grown = NULL;
    search->status = scratch_take(search->scratch, &grown, capacity);
    if (search->status != WEIR_OK) {
        return false;
    }
    // The former block stays in the scratch memory: all of them together are less than this one.
    memcpy(grown, search->changes, search->change_count * sizeof *grown);
    search->changes = grown;
    search->change_capacity = capacity;
    return true;
}

static bool change(exact_search* search, int64_t* at, int64_t value) {
    if (search->change_count == search->change_capacity && !grow_changes(search)) {
        return false;
    }
    search->changes[search->change_count++] = (exact_change){at, *at};
    *at = value;
    return true;
}

void exact_undo(exact_search* search, size_t mark) {
    while (search->change_count > mark) {
        const exact_change* last = &search->changes[--search->change_count];
        *last->at = last->old;
    }
    // Before the changes nothing was stale, for conclusions are always drawn to the end.
    memset(search->stale_classes, 0, search->class_words * sizeof(uint64_t));
    memset(search->stale_sections, 0, search->section_words * sizeof(uint64_t));
}

bool exact_raise(exact_search* search, uint32_t index, int64_t offset) {
    const int64_t low = exact_aligned(search, index, offset);
    if (low <= search->low[index]) {
        return true;
    }
    if (low > search->high[index] || !change(search, &search->low[index], low)) {
        return false;
    }
    row_set(search->stale_classes, index);
    return true;
}

// The row of tight classes is kept so that visits to others find those whose high says something:
// a high as it was at the start pushes nobody.
static bool lower_high(exact_search* search, uint32_t index, int64_t high) {
    if (high >= search->high[index]) {
        return true;
    }
    int64_t* tight = (int64_t*)&search->tight[index / 64];
    const int64_t with = (int64_t)((uint64_t)*tight | (uint64_t)1 << (index % 64));
    if (high < search->low[index] || !change(search, &search->high[index], high) ||
        (with != *tight && !change(search, tight, with))) {
        return false;
    }
    row_set(search->stale_classes, index);
    return true;
}

// The fullness stays as it is until the part falls apart. Taken afresh at each node it leads the
// search astray, by measurement on the published challenges.
bool exact_weigh(exact_search* search, const exact_part* part) {
    for (uint32_t i = part->first; i < part->end; ++i) {
        const plan_item* item = &search->component->items[i];
        const uint64_t* lives = search->lives + (size_t)i * search->section_words;
        int64_t fullest = 0;
        for (uint32_t s = item->first; s < item->end && row_has(search->unplaced, i); ++s) {
            fullest = search->load[s] > fullest && row_has(lives, s) ? search->load[s] : fullest;
        }
        if (fullest != search->fullness[i] && !change(search, &search->fullness[i], fullest)) {
            return false;
        }
    }
    return true;
}

// The sections a class lives in are to be visited: its bounds are part of what they say.
static void stale_lives(exact_search* search, uint32_t index) {
    const uint64_t* lives = search->lives + (size_t)index * search->section_words;
    const plan_item* item = &search->component->items[index];
    for (uint32_t w = item->first / 64; w <= (item->end - 1) / 64; ++w) {
        search->stale_sections[w] |= lives[w];
    }
}

static void add_load(exact_search* search, uint32_t index, int64_t size) {
    const plan_item* item = &search->component->items[index];
    const uint64_t* lives = search->lives + (size_t)index * search->section_words;
    if (item->span_count == 1) {
        for (uint32_t s = item->first; s < item->end; ++s) {
            search->load[s] += size;
        }
        return;
    }
    for (uint32_t s = item->first; s < item->end; ++s) {
        search->load[s] += row_has(lives, s) ? size : 0;
    }
}

// Offsets only rise on the way down, so a placed class lies below all that conflict with it later,
// and its end is all that they need to know.
bool exact_place(exact_search* search, uint32_t index) {
    const int64_t end = search->rest[index] + search->size[index];
    const plan_item* item = &search->component->items[index];
    search->placed[index] = search->rest[index];
    search->unplaced[index / 64] &= ~((uint64_t)1 << (index % 64));
    add_load(search, index, -search->size[index]);
    for (uint32_t s = item->first + 1; s < item->end; ++s) {
        --search->crossing[s];
    }
    stale_lives(search, index);
    const uint64_t* row = search->conflicts + (size_t)index * search->class_words;
    for (uint32_t w = 0; w < search->class_words; ++w) {
        for (uint64_t bits = row[w] & search->unplaced[w]; bits != 0;) {
            const uint32_t other = w * 64 + pop_bit(&bits);
            const int64_t rest = exact_aligned(search, other, end);
            if (rest > search->rest[other] && (!change(search, &search->rest[other], rest) ||
                                               !exact_raise(search, other, rest))) {
                return false;
            }
        }
    }
    return true;
}

void exact_unplace(exact_search* search, uint32_t index) {
    const plan_item* item = &search->component->items[index];
    row_set(search->unplaced, index);
    add_load(search, index, search->size[index]);
    for (uint32_t s = item->first + 1; s < item->end; ++s) {
        ++search->crossing[s];
    }
}

// Whether, for every v, all members with a low of v or more fit between v and the room. Members are
// sorted by falling lows; by insertion, for they are few.
static bool stacks_fit(const exact_search* search, uint32_t count) {
    int64_t* const lows = search->lows;
    int64_t* const sizes = search->sizes;
    for (uint32_t i = 1; i < count; ++i) {
        const int64_t low = lows[i];
        const int64_t size = sizes[i];
        uint32_t at = i;
        for (; at > 0 && lows[at - 1] < low; --at) {
            lows[at] = lows[at - 1];
            sizes[at] = sizes[at - 1];
        }
        lows[at] = low;
        sizes[at] = size;
    }
    int64_t stack = 0;
    for (uint32_t i = 0; i < count; ++i) {
        stack += sizes[i];
        if (lows[i] + stack > search->room) {
            return false;
        }
    }
    return true;
}

// What the members of one section show.
typedef struct survey {
    int64_t floor;       // least low
    int64_t ceiling;     // greatest low
    int64_t least_end;   // of those that can be lowest: least low + size
    uint32_t candidates; // how many can be lowest
    uint32_t candidate;  // the last of those
    uint32_t count;      // members
} survey;

// Reads each member once; what the rules need is then in one place.
static survey look_at(const exact_search* search, uint32_t section, int64_t latest) {
    survey seen = {.floor = INT64_MAX, .ceiling = 0, .least_end = INT64_MAX};
    const uint64_t* members = search->members + (size_t)section * search->class_words;
    for (uint32_t w = 0; w < search->class_words; ++w) {
        for (uint64_t bits = members[w] & search->unplaced[w]; bits != 0;) {
            const uint32_t i = w * 64 + pop_bit(&bits);
            const int64_t low = search->low[i];
            const int64_t end = low + search->size[i];
            search->lows[seen.count] = low;
            search->sizes[seen.count++] = search->size[i];
            seen.floor = low < seen.floor ? low : seen.floor;
            seen.ceiling = low > seen.ceiling ? low : seen.ceiling;
            if (low <= latest) {
                seen.least_end = end < seen.least_end ? end : seen.least_end;
                seen.candidate = i;
                ++seen.candidates;
            }
        }
    }
    return seen;
}

// Where the whole load fits above the highest low, any member may still be the lowest.
static bool visit_section(exact_search* search, uint32_t section) {
    if (search->load[section] == 0) {
        return true;
    }
    const int64_t latest = search->room - search->load[section];
    const survey seen = look_at(search, section, latest);
    search->work += 1 + seen.count;
    if (seen.floor > latest) {
        return false;
    }
    if (seen.ceiling > latest && !stacks_fit(search, seen.count)) {
        return false;
    }
    if (seen.candidates == 1 && !lower_high(search, seen.candidate, latest)) {
        return false;
    }
    const uint64_t* members = search->members + (size_t)section * search->class_words;
    for (uint32_t w = 0; w < search->class_words && seen.ceiling > latest; ++w) {
        for (uint64_t bits = members[w] & search->unplaced[w]; bits != 0;) {
            const uint32_t i = w * 64 + pop_bit(&bits);
            if (search->low[i] > latest && !exact_raise(search, i, seen.least_end)) {
                return false;
            }
        }
    }
    return true;
}

// A class whose high was lowered pushes up those that cannot lie below it, and a class that was
// raised may no longer fit below those.
static bool visit_class(exact_search* search, uint32_t index) {
    const uint64_t* row = search->conflicts + (size_t)index * search->class_words;
    const bool tight = row_has(search->tight, index);
    stale_lives(search, index);
    for (uint32_t w = 0; w < search->class_words; ++w) {
        uint64_t bits = row[w] & search->unplaced[w];
        bits &= tight ? ~(uint64_t)0 : search->tight[w];
        while (bits != 0) {
            const uint32_t other = w * 64 + pop_bit(&bits);
            ++search->work;
            if (exact_end(search, other) > search->high[index] &&
                !exact_raise(search, other, exact_end(search, index))) {
                return false;
            }
            if (exact_end(search, index) > search->high[other] &&
                !exact_raise(search, index, exact_end(search, other))) {
                return false;
            }
        }
    }
    return true;
}

// The class rests on the end of a neighbour, so not below the least of those. While the one that
// was the least last time is unplaced and still as low, nothing can have changed.
static bool visit_rest(exact_search* search, uint32_t index) {
    const uint32_t hint = search->witness[index];
    if (row_has(search->unplaced, hint) && hint != index &&
        exact_end(search, hint) <= search->low[index]) {
        return true;
    }
    const uint64_t* row = search->conflicts + (size_t)index * search->class_words;
    int64_t least = INT64_MAX;
    for (uint32_t w = 0; w < search->class_words; ++w) {
        for (uint64_t bits = row[w] & search->unplaced[w]; bits != 0;) {
            const uint32_t other = w * 64 + pop_bit(&bits);
            ++search->work;
            if (exact_end(search, other) < least) {
                least = exact_end(search, other);
                search->witness[index] = other;
            }
        }
    }
    return least != INT64_MAX && exact_raise(search, index, least);
}

static bool visit_rests(exact_search* search) {
    for (uint32_t w = 0; w < search->class_words; ++w) {
        for (uint64_t bits = search->unplaced[w]; bits != 0;) {
            const uint32_t i = w * 64 + pop_bit(&bits);
            if (search->low[i] > search->rest[i] && !visit_rest(search, i)) {
                return false;
            }
        }
    }
    return true;
}

static bool visit_classes(exact_search* search, bool* any) {
    for (uint32_t w = 0; w < search->class_words; ++w) {
        while (search->stale_classes[w] != 0) {
            const uint32_t i = w * 64 + pop_bit(&search->stale_classes[w]);
            *any = true;
            if (row_has(search->unplaced, i) && !visit_class(search, i)) {
                return false;
            }
        }
    }
    return true;
}

static bool visit_sections(exact_search* search) {
    for (uint32_t w = 0; w < search->section_words; ++w) {
        while (search->stale_sections[w] != 0) {
            if (!visit_section(search, w * 64 + pop_bit(&search->stale_sections[w]))) {
                return false;
            }
        }
    }
    return true;
}

// The cheap rule first: what classes say of each other often spares a visit to their sections.
bool exact_propagate(exact_search* search) {
    bool any = true;
    while (any) {
        any = false;
        if (!visit_classes(search, &any) || !visit_sections(search) || !visit_rests(search)) {
            return false;
        }
        for (uint32_t w = 0; w < search->class_words && !any; ++w) {
            any = search->stale_classes[w] != 0;
        }
    }
    return true;
}
