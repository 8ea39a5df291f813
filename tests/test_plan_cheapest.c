// The cheapest place, against a look at every offset.
#include "testing.h"
#include "testing_allocator.h"

#include "plan/plan_cheapest.h"

#define MOST 3000

static uint64_t offsets[MOST];
static uint64_t tops[MOST];
static int64_t costs[MOST];

static int64_t cost_at(uint32_t count, uint64_t offset, uint64_t size) {
    int64_t cost = 0;
    for (uint32_t i = 0; i < count; ++i) {
        cost += offsets[i] < offset + size && offset < tops[i] ? costs[i] : 0;
    }
    return cost;
}

// By definition. Free places count by the room up to where another begins.
static plan_place slow_find(uint32_t count, uint64_t size, uint64_t end) {
    plan_place best = {.cost = INT64_MAX};
    uint64_t free_since = UINT64_MAX;
    for (uint64_t offset = 0; offset + size <= end; ++offset) {
        const int64_t cost = cost_at(count, offset, size);
        if (cost > 0 && cost < best.cost) {
            best = (plan_place){.cost = cost, .offset = offset};
        }
        free_since = cost > 0 ? UINT64_MAX : free_since == UINT64_MAX ? offset : free_since;
        const bool is_last = offset + size == end || cost_at(count, offset + 1, size) > 0;
        if (free_since != UINT64_MAX && is_last &&
            (best.cost > 0 || offset - free_since < best.room)) {
            best = (plan_place){.room = offset - free_since, .offset = free_since};
        }
    }
    return best;
}

// A row from below up, in part with others between, of which none overlap; returns its length.
static uint32_t draw_row(test_random* random, uint32_t count, uint64_t end, uint64_t dearest) {
    const uint64_t longest = 1 + random_below(random, 1 + 2 * end / (count + 1));
    uint64_t top = 0;
    for (uint32_t i = 0; i < count; ++i) {
        const uint64_t steps = random_below(random, 4);
        offsets[i] = top + steps * random_below(random, 3);
        top = offsets[i] + 1 + random_below(random, longest);
        tops[i] = top;
        costs[i] = 1 + (int64_t)random_below(random, dearest);
        if (offsets[i] >= end) {
            return i;
        }
    }
    return count;
}

// Others of a few sizes, or all small and close to the top of the window.
static void draw_others(test_random* random, uint32_t first, uint32_t count, uint64_t end,
                        uint64_t dearest) {
    const uint64_t longest = 1 + random_below(random, end);
    const uint64_t lowest = random_below(random, 3) == 0 ? end - 1 - end / 16 : 0;
    for (uint32_t i = first; i < count; ++i) {
        offsets[i] = lowest + random_below(random, end - lowest);
        tops[i] = offsets[i] + 1 + random_below(random, longest);
        costs[i] = 1 + (int64_t)random_below(random, dearest);
    }
}

static void the_place_found_is_the_cheapest(void** state) {
    (void)state;
    test_random random = {5};
    plan_scratch scratch = {0};
    plan_cheapest cheapest;
    assert_ok(plan_cheapest_make(&scratch, MOST, &cheapest));
    uint32_t free = 0;
    for (int round = 0; round < 3000; ++round) {
        const uint32_t most = (uint32_t)random_below(&random, round % 50 == 0 ? MOST : 150);
        const uint32_t wanted = (uint32_t)random_below(&random, 1 + most);
        const uint64_t end = 1 + random_below(&random, 1 + random_below(&random, 1000));
        const uint64_t size = 1 + random_below(&random, 1 + random_below(&random, end));
        const uint64_t dearest = 1ull << random_below(&random, 40);
        const uint32_t row = draw_row(&random, wanted, end, dearest);
        const uint32_t count = row + most - wanted;
        draw_others(&random, row, count, end, dearest);
        plan_cheapest_begin(&cheapest, size, end);
        for (uint32_t i = 0; i < count; ++i) {
            plan_cheapest_add(&cheapest, offsets[i], tops[i], costs[i]);
        }
        plan_cheapest_set_row(&cheapest, row);
        const int64_t guess = (int64_t)random_below(&random, 1ull << random_below(&random, 42));
        const plan_place found = plan_cheapest_find(&cheapest, guess);
        const plan_place expected = slow_find(count, size, end);
        assert_true(found.cost == expected.cost);
        assert_true(found.offset == expected.offset);
        assert_true(found.cost > 0 || found.room == expected.room);
        free += found.cost == 0;
    }
    assert_true(free > 100 && free < 2900);
    plan_scratch_release(&scratch, NULL);
}

// Cells are then far wider than an offset.
static void windows_up_to_the_largest_offset_are_searched(void** state) {
    (void)state;
    const uint64_t end = (uint64_t)1 << 62;
    const uint64_t part = end / 100;
    plan_scratch scratch = {0};
    plan_cheapest cheapest;
    assert_ok(plan_cheapest_make(&scratch, 100, &cheapest));
    for (uint64_t hole = 0; hole < 100; ++hole) {
        plan_cheapest_begin(&cheapest, 7, end);
        for (uint64_t i = 0; i < 100; ++i) {
            plan_cheapest_add(&cheapest, i * part, i * part + part - (i == hole ? 8 : 1),
                              i == 50 ? 1 : 9);
        }
        plan_cheapest_set_row(&cheapest, hole % 2 == 0 ? 100 : 0);
        const plan_place found = plan_cheapest_find(&cheapest, 1);
        const bool is_top = hole == 99; // above it the window goes on
        assert_true(found.cost == 0);
        assert_true(found.offset == hole * part + part - 8);
        assert_true(found.room == (is_top ? end - 100 * part + 1 : 1));
    }
    plan_scratch_release(&scratch, NULL);
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void** state) {
    (void)state;
    weir_status status = WEIR_OUT_OF_MEMORY;
    for (size_t at = 0; status != WEIR_OK; ++at) {
        test_allocator counter = {.fail_at = at};
        plan_scratch scratch = {.allocator = test_allocator_of(&counter)};
        plan_cheapest cheapest;
        status = plan_cheapest_make(&scratch, 10, &cheapest);
        assert_true(status == WEIR_OK || status == WEIR_OUT_OF_MEMORY);
        plan_scratch_release(&scratch, NULL);
        assert_int_equal(counter.live_blocks, 0);
        assert_true(at < 10);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_place_found_is_the_cheapest),
        cmocka_unit_test(windows_up_to_the_largest_offset_are_searched),
        cmocka_unit_test(each_failing_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
