#include "hazard/piece.h"

#include <string.h>

#include "base/array.h"

// Pieces come from declared ranges whose end fits 64 bits, so nothing below overflows.

weir_range piece_normalise(const weir_range* range) {
    const uint64_t end = weir_range_end(range);
    weir_range normal;
    if (range->level_count > WEIR_RANGE_LEVELS ||
        weir_range_pattern(range->memory_id, range->byte_offset, range->byte_length, range->levels,
                           range->level_count, &normal, NULL) != WEIR_OK) {
        return weir_range_make(range->memory_id, range->byte_offset, end - range->byte_offset);
    }
    return normal;
}

// Bytes from the first to the last of one repetition of level `level - 1`.
static uint64_t span_below(const weir_range* piece, uint32_t level) {
    uint64_t span = piece->byte_length;
    for (uint32_t k = level; k < piece->level_count; ++k) {
        span += (piece->levels[k].count - 1) * piece->levels[k].stride;
    }
    return span;
}

static bool is_nested(const weir_range* piece) {
    for (uint32_t k = 0; k < piece->level_count; ++k) {
        if (piece->levels[k].stride < span_below(piece, k + 1)) {
            return false;
        }
    }
    return true;
}

static weir_status append(const weir_allocator* allocator, piece_array* pieces,
                          const weir_range* piece) {
    WEIR_TRY(array_reserve(allocator, pieces, pieces->count + 1));
    pieces->items[pieces->count++] = *piece;
    return WEIR_OK;
}

// One repetition of the outermost level.
static weir_range take_one(const weir_range* piece, uint64_t index) {
    weir_range one = *piece;
    one.byte_offset += index * piece->levels[0].stride;
    --one.level_count;
    memmove(one.levels, one.levels + 1, one.level_count * sizeof one.levels[0]);
    return one;
}

// Appends repetitions [first, end) of the outermost level as one piece.
static weir_status append_part(const weir_allocator* allocator, piece_array* pieces,
                               const weir_range* piece, uint64_t first, uint64_t end) {
    if (first >= end) {
        return WEIR_OK;
    }
    weir_range part = take_one(piece, first);
    if (end - first > 1) {
        part = *piece;
        part.byte_offset += first * piece->levels[0].stride;
        part.levels[0].count = end - first;
    }
    return append(allocator, pieces, &part);
}

static weir_status cut_run(const weir_allocator* allocator, piece_array* pieces,
                           const weir_range* piece, uint64_t begin, uint64_t end) {
    const uint64_t piece_end = piece->byte_offset + piece->byte_length;
    weir_range part = *piece;
    if (piece->byte_offset < begin) {
        part.byte_length = begin - piece->byte_offset;
        WEIR_TRY(append(allocator, pieces, &part));
    }
    if (end < piece_end) {
        part.byte_offset = end;
        part.byte_length = piece_end - end;
        WEIR_TRY(append(allocator, pieces, &part));
    }
    return WEIR_OK;
}

// Appends what a nested piece is without the bytes [begin, end), in order of address.
static weir_status cut(const weir_allocator* allocator, piece_array* pieces,
                       const weir_range* piece, uint64_t begin, uint64_t end) {
    const uint64_t offset = piece->byte_offset;
    if (offset >= end || offset + span_below(piece, 0) <= begin) {
        return append(allocator, pieces, piece);
    }
    if (piece->level_count == 0) {
        return cut_run(allocator, pieces, piece, begin, end);
    }
    // Repetitions [first, last] meet the cut; those between the two lie in it.
    const weir_range_level* level = &piece->levels[0];
    const uint64_t span = span_below(piece, 1);
    const uint64_t first = begin < offset + span ? 0 : (begin - offset - span) / level->stride + 1;
    uint64_t last = (end - 1 - offset) / level->stride;
    last = last < level->count ? last : level->count - 1;
    if (first > last) {
        return append(allocator, pieces, piece); // the cut lies in a gap
    }
    WEIR_TRY(append_part(allocator, pieces, piece, 0, first));
    const weir_range low = take_one(piece, first);
    WEIR_TRY(cut(allocator, pieces, &low, begin, end));
    if (first < last) {
        const weir_range high = take_one(piece, last);
        WEIR_TRY(cut(allocator, pieces, &high, begin, end));
    }
    return append_part(allocator, pieces, piece, last + 1, level->count);
}

// Appends the runs of a nested piece that meet [begin, end), or all runs of any other; false when
// there are too many.
static weir_status list_runs(const weir_allocator* allocator, piece_array* runs,
                             const weir_range* piece, uint64_t begin, uint64_t end, bool nested,
                             bool* fits) {
    const uint64_t offset = piece->byte_offset;
    if (piece->level_count == 0) {
        *fits = runs->count < PIECE_RUNS;
        const bool meets = offset < end && begin < offset + piece->byte_length;
        return *fits && meets ? append(allocator, runs, piece) : WEIR_OK;
    }
    const weir_range_level* level = &piece->levels[0];
    const uint64_t span = span_below(piece, 1);
    uint64_t index = 0;
    if (nested && begin >= offset + span) {
        index = (begin - offset - span) / level->stride + 1;
    }
    for (; *fits && index < level->count; ++index) {
        if (nested && offset + index * level->stride >= end) {
            break;
        }
        const weir_range one = take_one(piece, index);
        WEIR_TRY(list_runs(allocator, runs, &one, begin, end, nested, fits));
    }
    return WEIR_OK;
}

static void sift_down(weir_range* items, size_t root, size_t count) {
    const weir_range moved = items[root];
    for (size_t child = 2 * root + 1; child < count; child = 2 * root + 1) {
        if (child + 1 < count && items[child].byte_offset < items[child + 1].byte_offset) {
            ++child;
        }
        if (moved.byte_offset >= items[child].byte_offset) {
            break;
        }
        items[root] = items[child];
        root = child;
    }
    items[root] = moved;
}

// Sorts runs that may overlap, all of one length, and makes them disjoint.
static void order_runs(piece_array* runs) {
    for (size_t root = runs->count / 2; root-- > 0;) {
        sift_down(runs->items, root, runs->count);
    }
    for (size_t last = runs->count; last-- > 1;) {
        const weir_range largest = runs->items[0];
        runs->items[0] = runs->items[last];
        runs->items[last] = largest;
        sift_down(runs->items, 0, last);
    }
    size_t kept = 0;
    for (size_t i = 1; i < runs->count; ++i) {
        weir_range* before = &runs->items[kept];
        const uint64_t end = runs->items[i].byte_offset + runs->items[i].byte_length;
        if (runs->items[i].byte_offset <= before->byte_offset + before->byte_length) {
            before->byte_length = end - before->byte_offset;
        } else {
            runs->items[++kept] = runs->items[i];
        }
    }
    runs->count = runs->count > 0 ? kept + 1 : 0;
}

// Replaces a list by the runs, in order and disjoint, of a pattern that meet [begin, end).
static weir_status spell_out(const weir_allocator* allocator, piece_array* runs,
                             const weir_range* piece, uint64_t begin, uint64_t end, bool* fits) {
    const bool nested = is_nested(piece);
    runs->count = 0;
    *fits = true;
    WEIR_TRY(list_runs(allocator, runs, piece, begin, end, nested, fits));
    if (*fits && !nested) {
        order_runs(runs);
    }
    return WEIR_OK;
}

// Cuts all runs out of the pieces from `first` on, both in order. The pieces behind a cut are few:
// one for each level, and the rest of a run.
static weir_status sweep(const weir_allocator* allocator, piece_scratch* scratch,
                         piece_array* pieces, size_t first) {
    size_t from = first;
    for (size_t r = 0; r < scratch->runs.count; ++r) {
        const uint64_t begin = scratch->runs.items[r].byte_offset;
        const uint64_t end = begin + scratch->runs.items[r].byte_length;
        while (from < pieces->count && weir_range_end(&pieces->items[from]) <= begin) {
            ++from;
        }
        size_t behind = from;
        while (behind < pieces->count && pieces->items[behind].byte_offset < end) {
            ++behind;
        }
        const size_t count = pieces->count - from;
        if (behind == from) {
            continue;
        }
        WEIR_TRY(array_reserve(allocator, &scratch->tail, count));
        memcpy(scratch->tail.items, pieces->items + from, count * sizeof *pieces->items);
        pieces->count = from;
        for (size_t i = 0; i < count; ++i) {
            WEIR_TRY(cut(allocator, pieces, &scratch->tail.items[i], begin, end));
        }
    }
    return WEIR_OK;
}

// Appends `piece` without the bytes of `write`, which it meets.
static weir_status subtract_one(const weir_allocator* allocator, piece_scratch* scratch,
                                piece_array* pieces, const weir_range* piece,
                                const weir_range* write, bool* widened) {
    const size_t first = pieces->count;
    const uint64_t begin = piece->byte_offset;
    const uint64_t end = weir_range_end(piece);
    const bool nested = is_nested(piece);
    bool fits = true;
    if (nested && write->level_count == 0) {
        return cut(allocator, pieces, piece, write->byte_offset, weir_range_end(write));
    }
    WEIR_TRY(append(allocator, pieces, piece));
    if (!nested) {
        WEIR_TRY(spell_out(allocator, &scratch->runs, piece, begin, end, &fits));
        pieces->count = first;
        for (size_t i = 0; fits && i < scratch->runs.count; ++i) {
            WEIR_TRY(append(allocator, pieces, &scratch->runs.items[i]));
        }
    }
    if (fits) {
        WEIR_TRY(spell_out(allocator, &scratch->runs, write, begin, end, &fits));
    }
    if (!fits) {
        *widened = true;
        pieces->count = first;
        return append(allocator, pieces, piece);
    }
    return sweep(allocator, scratch, pieces, first);
}

weir_status piece_subtract(const weir_allocator* allocator, piece_scratch* scratch,
                           piece_array* pieces, size_t first, const weir_range* write,
                           bool* widened) {
    const size_t count = pieces->count - first;
    piece_array* input = &scratch->input;
    if (count == 0) {
        return WEIR_OK;
    }
    WEIR_TRY(array_reserve(allocator, input, count));
    memcpy(input->items, pieces->items + first, count * sizeof *input->items);
    pieces->count = first;
    for (size_t i = 0; i < count; ++i) {
        const weir_range* piece = &input->items[i];
        if (!weir_range_overlaps(write, piece)) {
            WEIR_TRY(append(allocator, pieces, piece));
        } else if (!weir_range_contains(write, piece)) {
            WEIR_TRY(subtract_one(allocator, scratch, pieces, piece, write, widened));
        }
    }
    return WEIR_OK;
}

void piece_scratch_free(const weir_allocator* allocator, piece_scratch* scratch) {
    array_free(allocator, &scratch->input);
    array_free(allocator, &scratch->runs);
    array_free(allocator, &scratch->tail);
}
