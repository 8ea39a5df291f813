#include "hazard/pattern.h"

// Patterns of views are nested: a level repeats something shorter than its stride. Then at most two
// indices of a level can reach a given point, and the search below is short. Only levels of two
// ranges with unrelated strides interleave; two of them are solved as Euclid would, and more by
// trying indices of the others.

#define STEP_BUDGET (1u << 20)

wide pattern_span(const pattern* set) {
    wide span = set->run;
    for (uint32_t k = 0; k < set->level_count; ++k) {
        span += (set->levels[k].count - 1) * set->levels[k].stride;
    }
    return span;
}

static void remove_level(pattern* set, uint32_t index) {
    --set->level_count;
    for (uint32_t k = index; k < set->level_count; ++k) {
        set->levels[k] = set->levels[k + 1];
    }
}

static void insert_level(pattern* set, wide count, wide stride) {
    uint32_t index = set->level_count++;
    for (; index > 0 && set->levels[index - 1].stride < stride; --index) {
        set->levels[index] = set->levels[index - 1];
    }
    set->levels[index] = (pattern_level){count, stride};
}

// Runs that touch or overlap their next repetition are one longer run.
static bool merge_into_run(pattern* set) {
    if (set->level_count == 0) {
        return false;
    }
    const pattern_level innermost = set->levels[set->level_count - 1];
    if (innermost.stride > set->run) {
        return false;
    }
    set->run += (innermost.count - 1) * innermost.stride;
    --set->level_count;
    return true;
}

// Levels s and k * s with k <= count(s) cover every multiple of s up to their common end.
static bool merge_levels(pattern* set) {
    for (uint32_t outer = 0; outer < set->level_count; ++outer) {
        for (uint32_t inner = outer + 1; inner < set->level_count; ++inner) {
            const pattern_level far = set->levels[outer];
            pattern_level* near = &set->levels[inner];
            if (far.stride % near->stride == 0 && far.stride / near->stride <= near->count) {
                near->count += (far.count - 1) * (far.stride / near->stride);
                remove_level(set, outer);
                return true;
            }
        }
    }
    return false;
}

// Each merge removes a level, so this ends. Merging levels may make a run adjoin, and the reverse.
static void normalise(pattern* set) {
    while (merge_into_run(set) || merge_levels(set)) {
    }
}

bool pattern_add(pattern* set, wide count, wide stride) {
    if (count <= 1 || stride == 0) {
        return false;
    }
    // Levels of a count of one, or of no stride, repeat nothing.
    const bool widened =
        set->level_count == PATTERN_LEVELS && pattern_widen(set, PATTERN_LEVELS - 1);
    insert_level(set, count, stride);
    normalise(set);
    return widened;
}

static wide common_divisor(wide a, wide b) {
    while (b != 0) {
        const wide rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

// Bytes of all runs, an upper bound of the bytes of the set.
static long double byte_count(const pattern* set) {
    long double bytes = (long double)set->run;
    for (uint32_t k = 0; k < set->level_count; ++k) {
        bytes *= (long double)set->levels[k].count;
    }
    return bytes;
}

// The set with the innermost level filled up to one run.
static pattern fill_run(const pattern* set) {
    pattern filled = *set;
    const pattern_level innermost = filled.levels[--filled.level_count];
    filled.run += (innermost.count - 1) * innermost.stride;
    normalise(&filled);
    return filled;
}

// The set with two levels replaced by all steps of their common divisor between their ends.
static pattern fuse_levels(const pattern* set, uint32_t outer, uint32_t inner) {
    pattern fused = *set;
    const pattern_level far = set->levels[outer];
    const pattern_level near = set->levels[inner];
    const wide step = common_divisor(far.stride, near.stride);
    const wide last = (far.count - 1) * far.stride + (near.count - 1) * near.stride;
    remove_level(&fused, inner);
    remove_level(&fused, outer);
    insert_level(&fused, last / step + 1, step);
    normalise(&fused);
    return fused;
}

bool pattern_widen(pattern* set, uint32_t level_count) {
    bool widened = false;
    while (set->level_count > level_count) {
        pattern best = fill_run(set);
        for (uint32_t outer = 0; outer < set->level_count; ++outer) {
            for (uint32_t inner = outer + 1; inner < set->level_count; ++inner) {
                const pattern fused = fuse_levels(set, outer, inner);
                if (byte_count(&fused) < byte_count(&best)) {
                    best = fused;
                }
            }
        }
        *set = best;
        widened = true;
    }
    return widened;
}

// Finds the least x >= 0 with low <= (factor * x) mod modulus <= high, where low <= high < modulus
// and factor < modulus; false when there is none. Each step replaces (factor, modulus) by
// (modulus mod factor, factor), as Euclid's algorithm does. Products stay below modulus * factor.
static bool first_in_window(wide factor, wide modulus, wide low, wide high, wide* x) {
    if (low == 0) {
        *x = 0;
        return true;
    }
    if (factor == 0) {
        return false;
    }
    const wide direct = (low + factor - 1) / factor;
    if (direct * factor <= high) {
        *x = direct;
        return true;
    }
    // No multiple of factor lies in the window, so neither end is one and both stay below factor.
    wide turns = 0;
    if (!first_in_window(modulus % factor, factor, factor - high % factor, factor - low % factor,
                         &turns)) {
        return false;
    }
    *x = (low + modulus * turns + factor - 1) / factor;
    return true;
}

// Indices x of `level` for which point - stride * x lies in [0, rest); false when there are none.
static bool index_window(const pattern_level* level, wide rest, wide point, wide* first,
                         wide* last) {
    *first = point < rest ? 0 : (point - rest) / level->stride + 1;
    *last = point / level->stride;
    *last = *last < level->count ? *last : level->count - 1;
    return *first <= *last;
}

// Two levels: a run of width `run` starts at far * x + near * y <= point < that + run. Within the
// window of x that leaves room for some y, the bound of y holds by itself, and what is left is
// (point - far * x) mod near < run.
static bool pair_has(const pattern* set, wide point) {
    const pattern_level* far = &set->levels[0];
    const pattern_level* near = &set->levels[1];
    const wide rest = (near->count - 1) * near->stride + set->run;
    wide first = 0;
    wide last = 0;
    if (!index_window(far, rest, point, &first, &last)) {
        return false;
    }
    const wide high = (point - far->stride * first) % near->stride;
    if (high < set->run) {
        return true;
    }
    wide x = 0;
    return first_in_window(far->stride % near->stride, near->stride, high - set->run + 1, high,
                           &x) &&
           x <= last - first;
}

static bool search(const pattern* set, wide point, uint32_t* steps);

// Tries every index of the level that leaves the fewest.
static bool search_levels(const pattern* set, wide point, uint32_t* steps) {
    const wide span = pattern_span(set);
    wide first = 0;
    wide last = 0;
    uint32_t chosen = set->level_count;
    for (uint32_t k = 0; k < set->level_count; ++k) {
        const pattern_level* level = &set->levels[k];
        wide from = 0;
        wide to = 0;
        if (!index_window(level, span - (level->count - 1) * level->stride, point, &from, &to)) {
            return false;
        }
        if (chosen == set->level_count || to - from < last - first) {
            chosen = k;
            first = from;
            last = to;
        }
    }
    const wide stride = set->levels[chosen].stride;
    pattern rest = *set;
    remove_level(&rest, chosen);
    for (wide x = first; x <= last; ++x) {
        if (++*steps > STEP_BUDGET || search(&rest, point - stride * x, steps)) {
            return true;
        }
    }
    return false;
}

static bool search(const pattern* set, wide point, uint32_t* steps) {
    if (point >= pattern_span(set)) {
        return false;
    }
    switch (set->level_count) {
    case 0:
        return true;
    case 1:
        return point % set->levels[0].stride < set->run;
    case 2:
        return pair_has(set, point);
    default:
        return search_levels(set, point, steps);
    }
}

bool pattern_has(const pattern* set, wide point) {
    uint32_t steps = 0;
    return search(set, point, &steps);
}
