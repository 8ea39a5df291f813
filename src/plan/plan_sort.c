#include "plan/plan_sort.h"

#include <string.h>

#define DIGIT_BITS 8
#define DIGIT_VALUES (1u << DIGIT_BITS)
#define DIGITS (64 / DIGIT_BITS)
#define INSERTION_MAX 48 // with fewer pairs the tables of the radix sort cost more than they save

// Quadratic, but without tables: the quickest for schedules of a few dozen values.
static void insertion_sort(plan_pair* pairs, size_t count) {
    for (size_t i = 1; i < count; ++i) {
        const plan_pair moved = pairs[i];
        size_t to = i;
        for (; to > 0 && pairs[to - 1].key > moved.key; --to) {
            pairs[to] = pairs[to - 1];
        }
        pairs[to] = moved;
    }
}

// Moves all pairs to where the counts of one digit say, in order of arrival.
static void scatter(const plan_pair* from, plan_pair* to, size_t count, unsigned shift,
                    const size_t* counts) {
    size_t next[DIGIT_VALUES];
    size_t sum = 0;
    for (uint32_t value = 0; value < DIGIT_VALUES; ++value) {
        next[value] = sum;
        sum += counts[value];
    }
    for (size_t i = 0; i < count; ++i) {
        to[next[from[i].key >> shift & (DIGIT_VALUES - 1)]++] = from[i];
    }
}

// Least significant digit first; digits that all keys share cost nothing, and times and sizes
// mostly share most of theirs.
void plan_sort_pairs(plan_pair* pairs, plan_pair* spare, size_t count) {
    if (count <= INSERTION_MAX) {
        insertion_sort(pairs, count);
        return;
    }
    uint64_t differing = 0; // the bits that not all keys share
    for (size_t i = 1; i < count; ++i) {
        differing |= pairs[i].key ^ pairs[0].key;
    }
    plan_pair* from = pairs;
    plan_pair* to = spare;
    for (unsigned digit = 0; digit < DIGITS; ++digit) {
        const unsigned shift = digit * DIGIT_BITS;
        if ((differing >> shift & (DIGIT_VALUES - 1)) == 0) {
            continue;
        }
        size_t counts[DIGIT_VALUES] = {0};
        for (size_t i = 0; i < count; ++i) {
            ++counts[from[i].key >> shift & (DIGIT_VALUES - 1)];
        }
        scatter(from, to, count, shift, counts);
        plan_pair* sorted = to;
        to = from;
        from = sorted;
    }
    if (from != pairs) { // after an odd number of passes
        memcpy(pairs, from, count * sizeof *pairs);
    }
}
