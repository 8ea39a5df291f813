#include "testing.h"

#include <weir/range.h>

#define SPACE 4096 // bytes of the model memory

typedef struct byte_set {
    uint64_t words[SPACE / 64];
} byte_set;

static void set_run(byte_set* set, uint64_t begin, uint64_t length) {
    for (uint64_t byte = begin; byte < begin + length; ++byte) {
        assert_true(byte < SPACE);
        set->words[byte / 64] |= 1ull << (byte % 64);
    }
}

static void set_pattern(byte_set* set, uint64_t offset, uint64_t run,
                        const weir_range_level* levels, uint32_t level_count) {
    if (level_count == 0) {
        set_run(set, offset, run);
        return;
    }
    for (uint64_t i = 0; i < levels[0].count; ++i) {
        set_pattern(set, offset + i * levels[0].stride, run, levels + 1, level_count - 1);
    }
}

static byte_set bytes_of(const weir_range* range) {
    byte_set set = {{0}};
    set_pattern(&set, range->byte_offset, range->byte_length, range->levels, range->level_count);
    return set;
}

static bool sets_meet(const byte_set* a, const byte_set* b) {
    for (size_t i = 0; i < SPACE / 64; ++i) {
        if (a->words[i] & b->words[i]) {
            return true;
        }
    }
    return false;
}

static bool set_holds(const byte_set* outer, const byte_set* inner) {
    for (size_t i = 0; i < SPACE / 64; ++i) {
        if (inner->words[i] & ~outer->words[i]) {
            return false;
        }
    }
    return true;
}

// A range as a caller could fill it by hand: levels in any order, also of one repetition.
static weir_range random_range(test_random* random) {
    const uint64_t begin = random_below(random, 200);
    weir_range range = weir_range_make(1, begin, random_below(random, 7));
    range.level_count = (uint32_t)random_below(random, WEIR_RANGE_LEVELS + 1);
    for (uint32_t k = 0; k < range.level_count; ++k) {
        range.levels[k].count = 1 + random_below(random, 4);
        range.levels[k].stride = random_below(random, random_below(random, 3) == 0 ? 200 : 24);
    }
    return range;
}

static weir_range random_normal(test_random* random) {
    const weir_range raw = random_range(random);
    weir_range range;
    assert_ok(weir_range_pattern(1, raw.byte_offset, raw.byte_length, raw.levels, raw.level_count,
                                 &range, NULL));
    return range;
}

static weir_range scaled(const weir_range* range, uint64_t scale, uint64_t base) {
    weir_range large = *range;
    large.byte_offset = base + range->byte_offset * scale;
    large.byte_length *= scale;
    for (uint32_t k = 0; k < range->level_count; ++k) {
        large.levels[k].stride *= scale;
    }
    return large;
}

static void overlap_agrees_with_the_bytes(void** state) {
    (void)state;
    test_random random = {7};
    size_t meeting = 0;
    for (int round = 0; round < 200000; ++round) {
        const bool raw = round % 4 == 0;
        const weir_range a = raw ? random_range(&random) : random_normal(&random);
        const weir_range b = raw ? random_range(&random) : random_normal(&random);
        const byte_set a_bytes = bytes_of(&a);
        const byte_set b_bytes = bytes_of(&b);
        const bool expected = sets_meet(&a_bytes, &b_bytes);
        meeting += expected;
        const weir_range far_a = scaled(&a, 1ull << 51, (1ull << 63) + 12345);
        const weir_range far_b = scaled(&b, 1ull << 51, (1ull << 63) + 12345);
        if (weir_range_overlaps(&a, &b) != expected || weir_range_overlaps(&b, &a) != expected ||
            weir_range_overlaps(&far_a, &far_b) != expected ||
            weir_range_overlaps(&far_b, &far_a) != expected) {
            char a_text[160];
            char b_text[160];
            fail_msg("%s and %s: expected %d", weir_range_format(&a, a_text, sizeof a_text),
                     weir_range_format(&b, b_text, sizeof b_text), (int)expected);
        }
    }
    // Both answers must be common, or the rounds prove little.
    assert_in_range(meeting, 40000, 160000);
}

static void normal_form_keeps_the_bytes(void** state) {
    (void)state;
    test_random random = {11};
    for (int round = 0; round < 30000; ++round) {
        weir_range_level levels[7];
        const uint32_t level_count = (uint32_t)random_below(&random, 8);
        for (uint32_t k = 0; k < level_count; ++k) {
            levels[k].count = 1 + random_below(&random, 3);
            levels[k].stride = random_below(&random, 200);
        }
        const uint64_t run = 1 + random_below(&random, 4);
        byte_set exact = {{0}};
        set_pattern(&exact, 5, run, levels, level_count);
        weir_range range;
        bool widened = true;
        assert_ok(weir_range_pattern(3, 5, run, levels, level_count, &range, &widened));
        const byte_set bytes = bytes_of(&range);
        assert_true(set_holds(&bytes, &exact));
        assert_true(widened || set_holds(&exact, &bytes));
        assert_true(level_count > WEIR_RANGE_LEVELS || !widened);
        uint64_t inner = range.byte_length;
        for (uint32_t k = range.level_count; k-- > 0; inner = range.levels[k].stride) {
            assert_true(range.levels[k].count >= 2 && range.levels[k].stride > inner);
        }
    }
}

// Two progressions of runs, each longer than the other's stride and clear of its ends, meet
// exactly when a distance that lets runs meet is a multiple of the strides' common divisor.
static void long_progressions_meet_by_their_common_divisor(void** state) {
    (void)state;
    test_random random = {13};
    size_t meeting = 0;
    for (int round = 0; round < 20000; ++round) {
        const uint64_t divisor = 1 + random_below(&random, 1000);
        const uint64_t s = divisor * (1 + random_below(&random, 1u << 20));
        const uint64_t t = divisor * (1 + random_below(&random, 1u << 20));
        uint64_t common = s;
        for (uint64_t rest = t; rest != 0;) {
            const uint64_t next = common % rest;
            common = rest;
            rest = next;
        }
        const uint64_t la = 1 + random_below(&random, 20);
        const uint64_t lb = 1 + random_below(&random, 20);
        const uint64_t shift = random_below(&random, 1u << 30);
        weir_range a = weir_range_make(1, 1000, la);
        weir_range b = weir_range_make(1, 1000 + s * (1ull << 30) + shift, lb);
        a.level_count = b.level_count = 1;
        a.levels[0] = (weir_range_level){1ull << 33, s};
        b.levels[0] = (weir_range_level){1ull << 33, t};
        // b - a = shift + multiple of common; runs meet for -lb < b - a < la.
        const uint64_t up = shift % common;
        const bool expected = up < la || common - up < lb;
        meeting += expected;
        assert_int_equal(weir_range_overlaps(&a, &b), expected);
        assert_int_equal(weir_range_overlaps(&b, &a), expected);
    }
    assert_in_range(meeting, 1000, 19000);
}

static void short_progressions_meet_only_within_their_counts(void** state) {
    (void)state;
    test_random random = {17};
    size_t meeting = 0;
    for (int round = 0; round < 20000; ++round) {
        weir_range ranges[2];
        for (int i = 0; i < 2; ++i) {
            const uint64_t begin = random_below(&random, 40000);
            ranges[i] = weir_range_make(9, begin, 1 + random_below(&random, 4));
            ranges[i].level_count = 1;
            ranges[i].levels[0].count = 2 + random_below(&random, 60);
            ranges[i].levels[0].stride = 5 + random_below(&random, 700);
        }
        bool expected = false;
        for (uint64_t i = 0; i < ranges[0].levels[0].count && !expected; ++i) {
            for (uint64_t j = 0; j < ranges[1].levels[0].count && !expected; ++j) {
                const uint64_t p = ranges[0].byte_offset + i * ranges[0].levels[0].stride;
                const uint64_t q = ranges[1].byte_offset + j * ranges[1].levels[0].stride;
                expected = p < q + ranges[1].byte_length && q < p + ranges[0].byte_length;
            }
        }
        meeting += expected;
        assert_int_equal(weir_range_overlaps(&ranges[0], &ranges[1]), expected);
        assert_int_equal(weir_range_overlaps(&ranges[1], &ranges[0]), expected);
    }
    assert_in_range(meeting, 1000, 19000);
}

static void touching_ranges_do_not_overlap(void** state) {
    (void)state;
    const weir_range a = weir_range_make(1, 0, 64);
    const weir_range b = weir_range_make(1, 64, 64);
    const weir_range top = weir_range_make(1, UINT64_MAX - 1, 1);
    const weir_range below = weir_range_make(1, UINT64_MAX - 2, 1);
    assert_false(weir_range_overlaps(&a, &b));
    assert_false(weir_range_overlaps(&b, &a));
    assert_false(weir_range_overlaps(&top, &below));
    assert_true(weir_range_overlaps(&top, &top));
    const weir_range last = weir_range_make(1, 63, 1);
    assert_true(weir_range_overlaps(&a, &last));
}

static void other_memories_and_empty_ranges_never_overlap(void** state) {
    (void)state;
    const weir_range a = weir_range_make(1, 0, 64);
    const weir_range other = weir_range_make(2, 0, 64);
    const weir_range empty = weir_range_make(1, 32, 0);
    assert_false(weir_range_overlaps(&a, &other));
    assert_false(weir_range_overlaps(&a, &empty));
    assert_false(weir_range_overlaps(&empty, &a));
    assert_false(weir_range_overlaps(&empty, &empty));
    assert_int_equal(weir_range_end(&empty), 32);
}

static void column_slices_side_by_side_do_not_overlap(void** state) {
    (void)state;
    weir_range left = weir_range_make(1, 0, 64);
    weir_range right = weir_range_make(1, 64, 64);
    left.level_count = right.level_count = 1;
    left.levels[0] = right.levels[0] = (weir_range_level){1ull << 40, 128};
    assert_false(weir_range_overlaps(&left, &right));
    right.byte_offset -= 1;
    assert_true(weir_range_overlaps(&left, &right));
}

static void runs_and_levels_that_adjoin_merge(void** state) {
    (void)state;
    const weir_range_level tiled[] = {{1, 999}, {3, 32}, {4, 8}, {5, 0}};
    weir_range range;
    assert_ok(weir_range_pattern(1, 100, 8, tiled, 4, &range, NULL));
    assert_int_equal(range.level_count, 0);
    assert_int_equal(range.byte_length, 96);
    const weir_range_level rows[] = {{4, 10}, {3, 40}};
    assert_ok(weir_range_pattern(1, 0, 2, rows, 2, &range, NULL));
    assert_int_equal(range.level_count, 1);
    assert_int_equal(range.levels[0].count, 12);
    assert_int_equal(range.levels[0].stride, 10);
}

static void the_fifth_level_is_widened_at_the_least_cost(void** state) {
    (void)state;
    const weir_range_level levels[] = {{2, 100000000}, {2, 1000000}, {2, 10000}, {2, 100}, {3, 12}};
    weir_range range;
    bool widened = false;
    assert_ok(weir_range_pattern(1, 0, 10, levels, 5, &range, &widened));
    assert_true(widened);
    // Filling the gaps of 2 bytes between runs of 10 is cheaper than any other way.
    assert_int_equal(range.byte_length, 34);
    assert_int_equal(range.level_count, 4);
    assert_int_equal(weir_range_end(&range), 101010100 + 34);
}

static void patterns_past_64_bits_are_out_of_range(void** state) {
    (void)state;
    weir_range range = weir_range_make(5, 6, 7);
    const weir_range_level far[] = {{2, UINT64_MAX}};
    assert_status(weir_range_pattern(1, 0, 1, far, 1, &range, NULL), WEIR_OUT_OF_RANGE);
    assert_message_has("2^64 - 1");
    const weir_range_level both[] = {{UINT64_MAX, UINT64_MAX}, {UINT64_MAX, UINT64_MAX}};
    assert_status(weir_range_pattern(1, UINT64_MAX, 1, both, 2, &range, NULL), WEIR_OUT_OF_RANGE);
    assert_int_equal(range.byte_offset, 6); // untouched
    const weir_range_level fits[] = {{2, UINT64_MAX - 1}};
    assert_ok(weir_range_pattern(1, 0, 1, fits, 1, &range, NULL));
    assert_int_equal(weir_range_end(&range), UINT64_MAX);
    const weir_range_level none[] = {{UINT64_MAX, UINT64_MAX}, {0, 1}};
    assert_ok(weir_range_pattern(1, 40, 1, none, 2, &range, NULL));
    assert_int_equal(weir_range_end(&range), 40);
}

static void ranges_past_64_bits_count_as_all_that_follows(void** state) {
    (void)state;
    const weir_range past = weir_range_make(1, UINT64_MAX - 4, 100);
    const weir_range inside = weir_range_make(1, UINT64_MAX - 2, 1);
    const weir_range before = weir_range_make(1, UINT64_MAX - 5, 1);
    assert_int_equal(weir_range_end(&past), UINT64_MAX);
    assert_true(weir_range_overlaps(&past, &inside));
    assert_false(weir_range_overlaps(&past, &before));
    weir_range deep = weir_range_make(1, 10, 1);
    deep.level_count = 77;
    const weir_range high = weir_range_make(1, 1ull << 60, 1);
    assert_true(weir_range_overlaps(&deep, &high));
}

// Four unequal levels of many repetitions: odd bytes against even ones, which is too deep to settle
// in time. The safe answer is given, in both directions.
static void hopeless_patterns_count_as_overlapping(void** state) {
    (void)state;
    const weir_range_level odd[] = {{5000000, 1000003ull * 1998}, {5000000, 2 * 999983ull}};
    const weir_range_level even[] = {{5000000, 1000033ull * 2002}, {5000000, 2 * 999979ull}};
    weir_range a = weir_range_make(1, 1, 1);
    weir_range b = weir_range_make(1, 1ull << 40, 1);
    a.level_count = b.level_count = 2;
    memcpy(a.levels, odd, sizeof odd);
    memcpy(b.levels, even, sizeof even);
    assert_true(weir_range_overlaps(&a, &b));
    assert_true(weir_range_overlaps(&b, &a));
}

static void only_contiguous_and_equal_ranges_contain(void** state) {
    (void)state;
    const weir_range all = weir_range_make(1, 0, 100);
    weir_range rows = weir_range_make(1, 0, 10);
    rows.level_count = 1;
    rows.levels[0] = (weir_range_level){3, 45};
    const weir_range run = weir_range_make(1, 0, 10);
    const weir_range empty = weir_range_make(2, 7, 0);
    assert_true(weir_range_contains(&all, &rows));
    assert_false(weir_range_contains(&rows, &all));
    assert_true(weir_range_contains(&rows, &rows));
    assert_false(weir_range_contains(&rows, &run));
    assert_true(weir_range_contains(&run, &empty));
    rows.levels[0].stride = 46; // ends at 102
    assert_false(weir_range_contains(&all, &rows));
    const weir_range elsewhere = weir_range_make(2, 0, 10);
    assert_false(weir_range_contains(&all, &elsewhere));
}

static void views_give_their_exact_bytes(void** state) {
    (void)state;
    weir_view view = {.byte_offset = 16, .dtype = WEIR_DTYPE_F32};
    view.shape = (weir_shape){.rank = 3, .dims = {2, 3, 4}};
    view.strides[0] = 48;
    view.strides[1] = 16;
    view.strides[2] = 4;
    bool widened = true;
    weir_range range = weir_range_from_view(&view, 8, 1000, &widened);
    assert_false(widened);
    assert_int_equal(range.level_count, 0);
    assert_int_equal(range.byte_offset, 1016);
    assert_int_equal(range.byte_length, 96);
    view.shape.dims[2] = 2; // narrowed columns: rows of 8 bytes every 16
    range = weir_range_from_view(&view, 8, 1000, NULL);
    char text[64];
    assert_string_equal(weir_range_format(&range, text, sizeof text), "m8 [1016, 1104) 6 x 8 +16");
    view.strides[0] = 0; // broadcast
    range = weir_range_from_view(&view, 8, 1000, NULL);
    assert_string_equal(weir_range_format(&range, text, sizeof text), "m8 [1016, 1056) 3 x 8 +16");
    view.shape.dims[1] = 0;
    range = weir_range_from_view(&view, 8, 1000, NULL);
    assert_int_equal(weir_range_end(&range), range.byte_offset);
    assert_int_equal(range.byte_length, 0);
}

static void views_of_blocks_count_blocks(void** state) {
    (void)state;
    weir_view view = {.dtype = WEIR_DTYPE_Q8_0};
    view.shape = (weir_shape){.rank = 2, .dims = {3, 64}};
    view.strides[0] = 100;
    view.strides[1] = 34;
    const weir_range range = weir_range_from_view(&view, 1, 0, NULL);
    assert_int_equal(range.byte_length, 68);
    assert_int_equal(range.level_count, 1);
    assert_int_equal(range.levels[0].count, 3);
    assert_int_equal(range.levels[0].stride, 100);
    const weir_view scalar = {.dtype = WEIR_DTYPE_F16, .byte_offset = 6};
    const weir_range two = weir_range_from_view(&scalar, 1, 0, NULL);
    assert_int_equal(two.byte_offset, 6);
    assert_int_equal(two.byte_length, 2);
}

static void impossible_views_claim_the_whole_memory(void** state) {
    (void)state;
    weir_view view = {.dtype = WEIR_DTYPE_U8, .byte_offset = 4};
    view.shape = (weir_shape){.rank = 1, .dims = {4}};
    view.strides[0] = -1;
    bool widened = false;
    weir_range range = weir_range_from_view(&view, 1, 0, &widened);
    assert_true(widened);
    assert_int_equal(range.byte_offset, 0);
    assert_int_equal(weir_range_end(&range), UINT64_MAX);
    view.strides[0] = 1;
    range = weir_range_from_view(&view, 1, UINT64_MAX, &widened);
    assert_true(widened);
    assert_int_equal(weir_range_end(&range), UINT64_MAX);
}

static void texts_are_cut_to_their_capacity(void** state) {
    (void)state;
    weir_range range = weir_range_make(3, 64, 6);
    range.level_count = 1;
    range.levels[0] = (weir_range_level){3, 10};
    char text[40];
    assert_string_equal(weir_range_format(&range, text, sizeof text), "m3 [64, 90) 3 x 6 +10");
    assert_string_equal(weir_range_format(&range, text, 8), "m3 [64,");
    range = weir_range_make(3, 64, 32);
    assert_string_equal(weir_range_format(&range, text, sizeof text), "m3 [64, 96)");
    range = weir_range_make(1, 0x55d0c0a1f2a0, 32);
    assert_string_equal(weir_range_format(&range, text, sizeof text), "m1 [0x55d0c0a1f2a0, +32)");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlap_agrees_with_the_bytes),
        cmocka_unit_test(normal_form_keeps_the_bytes),
        cmocka_unit_test(long_progressions_meet_by_their_common_divisor),
        cmocka_unit_test(short_progressions_meet_only_within_their_counts),
        cmocka_unit_test(touching_ranges_do_not_overlap),
        cmocka_unit_test(other_memories_and_empty_ranges_never_overlap),
        cmocka_unit_test(column_slices_side_by_side_do_not_overlap),
        cmocka_unit_test(runs_and_levels_that_adjoin_merge),
        cmocka_unit_test(the_fifth_level_is_widened_at_the_least_cost),
        cmocka_unit_test(patterns_past_64_bits_are_out_of_range),
        cmocka_unit_test(ranges_past_64_bits_count_as_all_that_follows),
        cmocka_unit_test(hopeless_patterns_count_as_overlapping),
        cmocka_unit_test(only_contiguous_and_equal_ranges_contain),
        cmocka_unit_test(views_give_their_exact_bytes),
        cmocka_unit_test(views_of_blocks_count_blocks),
        cmocka_unit_test(impossible_views_claim_the_whole_memory),
        cmocka_unit_test(texts_are_cut_to_their_capacity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
