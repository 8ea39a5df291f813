// What is left of an access when later writes took bytes out of it: a list of pieces, each a range
// in normal form (weir_range_pattern), which together hold exactly the bytes left.
//
// Taking a run of bytes out of a nested pattern (each level repeats something no longer than its
// stride, as the patterns of views do) leaves at most two pieces for each level and two runs:
//
//     before    [==]...[==]...[==]...[==]...[==]         1 piece:  5 x
//     cut                        ^^^^
//     after     [==]...[==]...[=                         2 x, a run
//                                   ...[==]...[==]       2 x
//
// A strided write is taken out run by run, a pattern that is not nested by its runs: exact, up to
// PIECE_RUNS runs.
#ifndef WEIR_HAZARD_PIECE_H
#define WEIR_HAZARD_PIECE_H

#include <weir/allocator.h>
#include <weir/range.h>

#define PIECE_RUNS 4096

typedef struct piece_array {
    weir_range* items;
    size_t count;
    size_t capacity;
} piece_array;

// Scratch of piece_subtract.
typedef struct piece_scratch {
    piece_array input;
    piece_array runs;
    piece_array tail;
} piece_scratch;

// Returns the normal form of a range filled in by hand: the same bytes, or everything from its
// offset on when its end passes 2^64 - 1 or it has too many levels.
weir_range piece_normalise(const weir_range* range);

// Takes the bytes of `write` out of the pieces from `first` on. `*widened` is set where that would
// take more than PIECE_RUNS runs: the piece then stays whole.
WEIR_MUST_USE weir_status piece_subtract(const weir_allocator* allocator, piece_scratch* scratch,
                                         piece_array* pieces, size_t first, const weir_range* write,
                                         bool* widened);

void piece_scratch_free(const weir_allocator* allocator, piece_scratch* scratch);

#endif
