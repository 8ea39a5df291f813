// Lowers the peak of a placement by guided ejection (Nagata and Braysy 2009): what ends above a
// line is taken out; then the heaviest item that waits is laid, below the line, where what lies in
// its way weighs least, and that waits in turn. An item that had to push others away weighs more
// from then on, so that the search does not run in circles.
//
//     line -----------          item a waits; b and c lie in its way where it does the least harm,
//            | a |              and wait after it; they are shorter, or live where there is room
//      b   |       | c
//
// Lines are drawn ever lower, and what was found hard to lay stays so from one to the next, also
// where a line was not met: a line that fails after much work makes those a little higher cheap.
//
// In a good placement of many items a small part, mostly small items of long lives, stands above
// what the fullest sections hold, and elsewhere much is free: some hundred moves are then enough,
// where another placement of all would stand out elsewhere.
#ifndef WEIR_PLAN_EJECT_H
#define WEIR_PLAN_EJECT_H

#include "plan/plan_budget.h"
#include "plan/plan_sections.h"

typedef struct plan_eject plan_eject;

// Makes a search from a placement of a component without gaps, fixed items and alignments:
// `offsets` per item. `keys` holds per item the logarithm to base 2 of what it weighs, in parts of
// 2^-PLAN_EJECT_KEY_BITS; only differences between them count.
WEIR_MUST_USE weir_status plan_eject_make(plan_scratch* scratch, const plan_component* component,
                                          const int64_t* keys, const uint64_t* offsets,
                                          plan_eject** eject);

#define PLAN_EJECT_KEY_BITS 28

// Tries lines between `target` and the peak of the placement until one more would gain little or
// the work is done: about a quarter of the number of others looked at, some 40 ns each, the same on
// every machine; what is left of it is in `work` then. Returns the peak of the best placement,
// which is in `offsets`. A stopped budget ends it early.
uint64_t plan_eject_lower(plan_eject* eject, uint64_t target, uint64_t* work, plan_budget* budget,
                          uint64_t* offsets);

#endif
