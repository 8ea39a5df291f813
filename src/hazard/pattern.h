// Arithmetic of strided byte patterns of any depth, wide enough never to overflow.
//
// A pattern is the set of runs [p, p + run) for p = sum of stride[k] * x[k], 0 <= x[k] < count[k].
// Two ranges meet exactly when a point lies in the pattern of their difference: with runs la and lb
// and x[k] counted from the far end for one of them, that is the pattern with all levels of both
// and runs of la + lb - 1. So overlap needs one question only, `pattern_has`.
#ifndef WEIR_HAZARD_PATTERN_H
#define WEIR_HAZARD_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

#define PATTERN_LEVELS 16

__extension__ typedef unsigned __int128 wide;

typedef struct pattern_level {
    wide count;
    wide stride;
} pattern_level;

typedef struct pattern {
    wide run;
    uint32_t level_count;
    pattern_level levels[PATTERN_LEVELS]; // once normal: strides falling, counts >= 2
} pattern;

// Adds a level and keeps the pattern normal; the set of bytes stays exact unless all places are
// taken: then it is widened, and the function returns true.
bool pattern_add(pattern* set, wide count, wide stride);

// Widens the pattern until it has at most `level_count` levels; true when that changed it.
bool pattern_widen(pattern* set, uint32_t level_count);

// Returns one past the last byte.
wide pattern_span(const pattern* set);

// Tells whether `point` lies in a run. Exact, or true when a million steps do not settle it, which
// takes at least three levels of long counts whose strides are no multiples of each other.
bool pattern_has(const pattern* set, wide point);

#endif
