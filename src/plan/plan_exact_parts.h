// What the parts of the exact search share: its state for one component.
//
// The search looks for a justified placement: every class lies at 0, at its fixed offset, or on the
// end of one that it conflicts with, rounded up to its alignment. Where any placement fits, a
// justified one does: let each class down until it rests. Classes are placed by rising offset, so a
// class whose turn goes by rests on one that is still unplaced; that, and what each section must
// still hold, is what propagation derives.
//
// Invariants for each unplaced class i, while no contradiction was found:
//     rest[i]  = aligned maximum of the ends of the placed classes that conflict with it
//     rest[i] <= low[i] <= its offset <= high[i] in every placement that is still looked for
//     low[i] > rest[i] only if it rests on a class that is still unplaced
//     load[s]  = sum of the sizes of the unplaced classes that live in section s
#ifndef WEIR_PLAN_EXACT_PARTS_H
#define WEIR_PLAN_EXACT_PARTS_H

#include "plan/plan_exact.h"
#include "plan/plan_sections.h"

#define EXACT_NONE UINT32_MAX
#define EXACT_UNITS_MAX ((uint64_t)INT64_MAX / 8) // no room, size, alignment or load passes it

// A change to one word, so that it can be taken back.
typedef struct exact_change {
    int64_t* at;
    int64_t old;
} exact_change;

typedef struct exact_key {
    uint64_t words[2];
} exact_key;

// At this capacity or less, the state with this key has no solution.
typedef struct exact_failure {
    exact_key key; // both words 0: no entry
    uint64_t capacity;
} exact_failure;

typedef struct exact_table {
    exact_failure* slots;
    size_t mask; // their number, a power of two, less one
} exact_table;

// The unplaced classes of [first, end), when they conflict with no other unplaced class.
typedef struct exact_part {
    uint32_t first;
    uint32_t end;
    uint32_t parent; // frame whose choice has failed when this part has, or EXACT_NONE
    uint32_t next;   // part to solve after this one, or EXACT_NONE
} exact_part;

typedef struct exact_frame {
    uint32_t part;
    uint32_t part_count; // parts in use when the frame began
    uint32_t chosen;     // class placed at present
    size_t mark;         // changes made before `chosen` was placed
    exact_key key;       // of the state when the frame began
} exact_frame;

// Classes are numbered as in the component. Rows are bitsets over its classes or sections.
typedef struct exact_search {
    plan_scratch* scratch;
    const plan_instance* instance;
    const plan_component* component;
    uint32_t count;
    uint32_t section_count;
    uint32_t class_words;
    uint32_t section_words;
    uint64_t unit;  // bytes
    uint64_t slack; // bytes by which a size was rounded up, at most
    // What stays.
    int64_t* size;       // per class
    int64_t* align;      // per class
    uint64_t* lives;     // per class: row of the sections it lives in
    uint64_t* conflicts; // per class: row of classes
    uint64_t* members;   // per section: row of classes
    uint32_t* born;      // per section and one more: first class born in it or later
    uint32_t* rank;      // per class: its turn among those at one offset
    bool fullest_first;  // what lives in the fullest section comes before the rank
    // What changes from node to node.
    uint64_t capacity; // bytes
    int64_t room;      // units: no offset + size passes it
    int64_t* rest;
    int64_t* low;
    int64_t* high;
    int64_t* load;
    int64_t* fullness;        // per class: load of its fullest section when its part was made
    uint32_t* crossing;       // per section: unplaced classes that live in it and before it
    uint32_t* witness;        // per class: one that it may rest on at its low, a mere hint
    uint64_t* unplaced;       // row of classes
    uint64_t* tight;          // row of classes whose high was lowered
    uint64_t* stale_classes;  // row of classes whose bounds changed
    uint64_t* stale_sections; // row of sections whose load or members' bounds changed
    int64_t* lows;            // of the members of the section at work, and
    int64_t* sizes;           // their sizes
    exact_change* changes;
    size_t change_count;
    size_t change_capacity;
    exact_frame* frames;
    uint32_t frame_count;
    exact_part* parts;
    uint32_t part_count;
    exact_table table;
    int64_t* placed;    // per placed class: its offset
    weir_status status; // of the last growth of `changes`
    uint64_t nodes;
    uint64_t work;    // classes and sections looked at: a measure of time that repeats
    uint64_t counted; // of that, against the budget
    plan_exact_budget* budget;
} exact_search;

typedef enum exact_outcome {
    EXACT_FOUND,      // search->placed holds it
    EXACT_IMPOSSIBLE, // proven
    EXACT_SPENT,      // neither: the budget is
} exact_outcome;

static inline int64_t exact_end(const exact_search* search, uint32_t index) {
    return search->low[index] + search->size[index];
}

static inline int64_t exact_aligned(const exact_search* search, uint32_t index, int64_t offset) {
    const int64_t align = search->align[index];
    return align == 1 ? offset : (offset + align - 1) / align * align;
}

// Nothing placed, nothing concluded, everything stale; false when a class alone is too large.
bool exact_start(exact_search* search, uint64_t capacity);

// Places a class on what it rests on, which leaves others less room: false when one has none. Taken
// back by exact_unplace after exact_undo.
bool exact_place(exact_search* search, uint32_t index);
void exact_unplace(exact_search* search, uint32_t index);

// Takes back all changes but the first `mark`.
void exact_undo(exact_search* search, size_t mark);

// Excludes the offsets of a class below `offset`; false when none is left.
bool exact_raise(exact_search* search, uint32_t index, int64_t offset);

// Measures the fullness of the classes of a part; false when search->status is not WEIR_OK.
bool exact_weigh(exact_search* search, const exact_part* part);

// Draws all conclusions. False: they contradict each other, or search->status is not WEIR_OK.
bool exact_propagate(exact_search* search);

WEIR_MUST_USE weir_status exact_table_take(plan_scratch* scratch, uint32_t count,
                                           exact_table* table);

// The key of what is left of a part.
exact_key exact_key_of(const exact_search* search, const exact_part* part);
bool exact_has_failed(const exact_search* search, const exact_frame* frame);
void exact_note_failure(exact_search* search, const exact_frame* frame);

// Counts the work since the last call against the budget; true when that is spent.
bool exact_is_spent(exact_search* search);

// Searches in the order at work, through `node_limit` nodes at most.
WEIR_MUST_USE weir_status exact_run(exact_search* search, uint64_t capacity, uint64_t node_limit,
                                    exact_outcome* outcome);

#endif
