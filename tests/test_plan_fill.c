// Filling around what lies already, what stands aside for it, and the largest totals of ranges.
#include "random_component.h"
#include "testing.h"
#include "testing_allocator.h"

#include "plan/plan_aside.h"
#include "plan/plan_fill.h"
#include "plan/plan_load.h"

static uint64_t before[MOST];

// Takes a part of a placement away, small items first; returns how many.
static uint32_t take_away(test_random* random, uint32_t count) {
    const uint64_t largest = 1 + random_below(random, 1000);
    uint32_t taken = 0;
    for (uint32_t i = 0; i < count; ++i) {
        if (items[i].size <= largest && random_below(random, 4) > 0) {
            offsets[i] = PLAN_FILL_AWAY;
            ++taken;
        }
        before[i] = offsets[i];
    }
    return taken;
}

static void assert_others_lie_where_they_lay(uint32_t count, uint64_t begin, uint64_t end) {
    for (uint32_t i = 0; i < count; ++i) {
        if (before[i] != PLAN_FILL_AWAY) {
            assert_true(offsets[i] == before[i]);
        } else if (offsets[i] != PLAN_FILL_AWAY) {
            assert_true(offsets[i] >= begin && offsets[i] + items[i].size <= end);
        }
    }
}

static uint32_t count_away(uint32_t count) {
    uint32_t away = 0;
    for (uint32_t i = 0; i < count; ++i) {
        away += offsets[i] == PLAN_FILL_AWAY;
    }
    return away;
}

static void what_is_filled_in_lies_free_and_within_the_window(void** state) {
    (void)state;
    test_random random = {11};
    plan_scratch scratch = {0};
    uint32_t taken = 0;
    uint32_t laid = 0;
    for (int round = 0; round < 200; ++round) {
        const uint32_t count = 2 + (uint32_t)random_below(&random, round < 199 ? 200 : MOST - 2);
        const uint32_t sections = 1 + (uint32_t)random_below(&random, count);
        const plan_component component = random_component(&random, count, sections);
        const uint64_t peak = first_placement(&component, round == 199 || random_below(&random, 2));
        const uint64_t begin = random_below(&random, 2) * (peak / 4);
        const uint32_t away = take_away(&random, count);
        uint32_t left = 0;
        assert_ok(plan_fill_lay(&scratch, &component, begin, peak, offsets, &left));
        assert_int_equal(left, count_away(count));
        assert_others_lie_where_they_lay(count, begin, peak);
        assert_placed(&component);
        taken += away;
        laid += away - left;
        memcpy(before, offsets, count * sizeof *offsets);
        assert_ok(plan_fill_lay(&scratch, &component, peak, INT64_MAX, offsets, &left));
        assert_int_equal(left, 0);
        assert_others_lie_where_they_lay(count, peak, INT64_MAX);
        assert_placed(&component);
    }
    assert_true(laid > taken / 2 && laid < taken);
    assert_null(scratch.last);
}

static void one_of_a_few_finds_its_place_again(void** state) {
    (void)state;
    test_random random = {12};
    plan_scratch scratch = {0};
    for (int round = 0; round < 2000; ++round) {
        const uint32_t count = 1 + (uint32_t)random_below(&random, 4);
        const plan_component component = random_component(&random, count, 4);
        const uint64_t peak = first_placement(&component, random_below(&random, 2));
        uint32_t left = 1;
        offsets[random_below(&random, count)] = PLAN_FILL_AWAY;
        assert_ok(plan_fill_lay(&scratch, &component, 0, peak, offsets, &left));
        assert_int_equal(left, 0);
        assert_true(assert_placed(&component) <= peak);
    }
}

static void what_stands_aside_is_small_and_lives_shortly(void** state) {
    (void)state;
    static bool stands_aside[MOST];
    test_random random = {13};
    plan_scratch scratch = {0};
    uint32_t rounds_with = 0;
    for (int round = 0; round < 20; ++round) {
        const plan_component component = random_component(&random, MOST, MOST / 2);
        uint32_t count = 0;
        uint32_t marked = 0;
        uint32_t kept_before = 0;
        plan_kept kept;
        assert_ok(plan_aside_mark(&scratch, &component, stands_aside, &count));
        assert_ok(plan_kept_make(&scratch, &component, stands_aside, &kept));
        for (uint32_t i = 0; i < component.item_count; ++i) {
            marked += stands_aside[i];
            if (!stands_aside[i]) {
                assert_int_equal(kept.item_of[kept_before], i);
                assert_int_equal(kept.component.items[kept_before++].index, i);
            }
            for (uint32_t s = items[i].first; s < items[i].end && stands_aside[i]; ++s) {
                assert_true(items[i].size <= (component.bound - totals[s]) / 16);
            }
        }
        assert_int_equal(marked, count);
        assert_int_equal(kept.component.item_count, component.item_count - count);
        assert_true(kept.component.bound == component.bound);
        assert_true(count == 0 || count >= component.item_count / 4);
        rounds_with += count > 0;
        plan_scratch_release(&scratch, NULL);
    }
    assert_true(rounds_with > 0 && rounds_with < 20);
}

static void the_largest_total_of_a_range_is_found(void** state) {
    (void)state;
    test_random random = {14};
    for (int round = 0; round < 40; ++round) {
        const uint32_t sections = 1 + (uint32_t)random_below(&random, MOST);
        const plan_component component = {.totals = totals, .section_count = sections};
        plan_scratch scratch = {0};
        plan_load load;
        for (uint32_t s = 0; s < sections; ++s) {
            totals[s] = random_below(&random, 1ull << random_below(&random, 62));
        }
        assert_ok(plan_load_make(&scratch, &component, &load));
        for (int look = 0; look < 200; ++look) {
            const uint32_t first = (uint32_t)random_below(&random, sections);
            const uint32_t end = first + 1 + (uint32_t)random_below(&random, sections - first);
            uint64_t most = 0;
            for (uint32_t s = first; s < end; ++s) {
                most = totals[s] > most ? totals[s] : most;
            }
            assert_true(plan_load_of(&load, first, end) == most);
        }
        plan_scratch_release(&scratch, NULL);
    }
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void** state) {
    (void)state;
    static bool stands_aside[MOST];
    test_random random = {15};
    const plan_component component = random_component(&random, 300, 150);
    weir_status status = WEIR_OUT_OF_MEMORY;
    for (size_t at = 0; status != WEIR_OK; ++at) {
        test_allocator counter = {.fail_at = at};
        plan_scratch scratch = {.allocator = test_allocator_of(&counter)};
        uint32_t count = 0;
        plan_kept kept;
        const uint64_t peak = first_placement(&component, true);
        offsets[7] = PLAN_FILL_AWAY;
        status = plan_aside_mark(&scratch, &component, stands_aside, &count);
        if (status == WEIR_OK) {
            status = plan_kept_make(&scratch, &component, stands_aside, &kept);
        }
        if (status == WEIR_OK) {
            status = plan_fill_lay(&scratch, &component, 0, peak, offsets, &count);
        }
        assert_true(status == WEIR_OK || status == WEIR_OUT_OF_MEMORY);
        plan_scratch_release(&scratch, NULL);
        assert_int_equal(counter.live_blocks, 0);
        assert_true(at < 60);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_filled_in_lies_free_and_within_the_window),
        cmocka_unit_test(one_of_a_few_finds_its_place_again),
        cmocka_unit_test(what_stands_aside_is_small_and_lives_shortly),
        cmocka_unit_test(the_largest_total_of_a_range_is_found),
        cmocka_unit_test(each_failing_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
