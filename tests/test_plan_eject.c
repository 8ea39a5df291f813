// Lowering by ejection, of placements that are far from good.
#include "random_component.h"
#include "testing.h"
#include "testing_allocator.h"

#include "plan/plan_columns.h"
#include "plan/plan_eject.h"

static int64_t keys[MOST];
static uint64_t again[MOST];

static void draw_keys(test_random* random, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
        keys[i] = (int64_t)random_below(random, 1ull << 34);
    }
}

static uint64_t lower(const plan_component* component, uint64_t peak, plan_budget* budget) {
    plan_scratch scratch = {0};
    plan_eject* eject = NULL;
    uint64_t work = 50ull * component->item_count;
    assert_ok(plan_eject_make(&scratch, component, keys, offsets, &eject));
    const uint64_t lower = plan_eject_lower(eject, component->bound, &work, budget, offsets);
    assert_true(work < 50ull * component->item_count || lower == peak);
    plan_scratch_release(&scratch, NULL);
    return lower;
}

static void a_placement_becomes_lower_and_stays_one(void** state) {
    (void)state;
    test_random random = {5};
    uint32_t lowered = 0;
    for (int round = 0; round < 60; ++round) {
        const uint32_t count = 2 + (uint32_t)random_below(&random, round < 50 ? 60 : 1998);
        const uint32_t sections = 1 + (uint32_t)random_below(&random, count);
        const plan_component component = random_component(&random, count, sections);
        draw_keys(&random, count);
        const uint64_t before = first_placement(&component, random_below(&random, 2));
        plan_budget budget = {0};
        const uint64_t peak = lower(&component, before, &budget);
        assert_true(assert_placed(&component) == peak);
        assert_true(peak >= component.bound && peak <= before);
        lowered += peak < before;
    }
    assert_true(lowered > 15);
}

static void the_same_placement_is_lowered_to_the_same(void** state) {
    (void)state;
    test_random random = {6};
    const plan_component component = random_component(&random, 2000, 1000);
    draw_keys(&random, 2000);
    plan_budget budget = {0};
    const uint64_t before = first_placement(&component, true);
    const uint64_t peak = lower(&component, before, &budget);
    memcpy(again, offsets, sizeof again);
    first_placement(&component, true);
    assert_true(lower(&component, before, &budget) == peak);
    assert_memory_equal(again, offsets, sizeof again);
}

// Whether others live together with an item: by definition, and by columns.
static void check_company(const plan_columns* columns, uint32_t waiting, plan_company* company) {
    bool met[MOST] = {false};
    plan_columns_meet(columns, waiting, company);
    for (uint32_t m = 0; m < company->count; ++m) {
        const uint32_t item = company->items[m];
        assert_false(met[item]); // each once
        met[item] = true;
        if (m > 0 && m < company->row_count) {
            assert_true(columns->spots[company->items[m - 1]].top <= columns->spots[item].offset);
        }
    }
    for (uint32_t i = 0; i < columns->component->item_count; ++i) {
        const bool lies = columns->spots[i].offset != PLAN_AWAY;
        const bool together =
            items[i].first < items[waiting].end && items[waiting].first < items[i].end;
        assert_true(met[i] == (lies && together));
    }
}

static void who_lives_together_is_met_once_as_items_go_and_return(void** state) {
    (void)state;
    test_random random = {9};
    uint32_t others[MOST];
    for (int round = 0; round < 20; ++round) {
        plan_scratch scratch = {0};
        plan_columns columns;
        const uint32_t count = 2 + (uint32_t)random_below(&random, 398);
        const plan_component component = random_component(&random, count, 1 + count / 2);
        first_placement(&component, random_below(&random, 2));
        assert_ok(plan_columns_make(&scratch, &component, offsets, &columns));
        plan_company company = {.items = others};
        for (int move = 0; move < 200; ++move) {
            const uint32_t item = (uint32_t)random_below(&random, count);
            if (columns.spots[item].offset == PLAN_AWAY) {
                plan_columns_lay(&columns, item, offsets[item]);
            } else {
                plan_columns_take(&columns, item);
                check_company(&columns, item, &company);
            }
        }
        plan_scratch_release(&scratch, NULL);
    }
}

// Moves an item above all others, and keeps that.
static void move_up(plan_columns* columns, uint32_t item, uint64_t* peak) {
    plan_columns_take(columns, item);
    plan_columns_lay(columns, item, *peak);
    plan_columns_keep(columns);
    offsets[item] = *peak;
    *peak += items[item].size;
}

static void check_taken(const plan_columns* columns, uint64_t line, const uint32_t* taken,
                        uint32_t count, plan_company* company) {
    uint32_t next = 0;
    for (uint32_t i = 0; i < columns->component->item_count; ++i) {
        const bool is_high = offsets[i] + items[i].size > line;
        assert_true((columns->spots[i].offset == PLAN_AWAY) == is_high);
        if (is_high) {
            assert_true(next < count && taken[next++] == i);
        }
    }
    assert_int_equal(next, count);
    for (uint32_t t = 0; t < count && t < 10; ++t) {
        check_company(columns, taken[t], company);
    }
}

static void what_ends_above_a_line_is_taken_at_once_and_all_goes_back(void** state) {
    (void)state;
    test_random random = {10};
    uint32_t taken[MOST];
    uint32_t others[MOST];
    plan_company company = {.items = others};
    for (int round = 0; round < 20; ++round) {
        plan_scratch scratch = {0};
        plan_columns columns;
        const uint32_t count = 2 + (uint32_t)random_below(&random, 398);
        const plan_component component = random_component(&random, count, 1 + count / 2);
        uint64_t peak = first_placement(&component, random_below(&random, 2));
        assert_ok(plan_columns_make(&scratch, &component, offsets, &columns));
        for (int move = 0; move < 20; ++move) {
            const uint64_t line = random_below(&random, peak + 1);
            const uint32_t high = plan_columns_take_above(&columns, line, taken);
            check_taken(&columns, line, taken, high, &company);
            if (high > 0) { // and some of it returns elsewhere
                plan_columns_lay(&columns, taken[random_below(&random, high)], peak);
            }
            plan_columns_go_back(&columns);
            const uint32_t item = (uint32_t)random_below(&random, count);
            check_taken(&columns, UINT64_MAX, NULL, 0, &company);
            move_up(&columns, item, &peak);
            plan_columns_take(&columns, item);
            check_company(&columns, item, &company);
            plan_columns_go_back(&columns);
            assert_true(columns.spots[item].top == peak);
        }
        plan_scratch_release(&scratch, NULL);
    }
}

static bool stop(void* context, uint64_t peak, uint64_t bound) {
    (void)peak;
    (void)bound;
    return ++*(int*)context < 3;
}

static void a_stopped_budget_leaves_a_placement(void** state) {
    (void)state;
    test_random random = {7};
    const plan_component component = random_component(&random, 2000, 1000);
    draw_keys(&random, 2000);
    int looks = 0;
    plan_budget budget = {.progress = stop, .progress_context = &looks};
    const uint64_t before = first_placement(&component, true);
    const uint64_t peak = lower(&component, before, &budget);
    assert_true(budget.is_stopped);
    assert_true(peak <= before);
    assert_true(assert_placed(&component) == peak);
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void** state) {
    (void)state;
    test_random random = {8};
    const plan_component component = random_component(&random, 100, 50);
    draw_keys(&random, 100);
    first_placement(&component, false);
    weir_status status = WEIR_OUT_OF_MEMORY;
    for (size_t at = 0; status != WEIR_OK; ++at) {
        test_allocator counter = {.fail_at = at};
        plan_scratch scratch = {.allocator = test_allocator_of(&counter)};
        plan_eject* eject = NULL;
        status = plan_eject_make(&scratch, &component, keys, offsets, &eject);
        assert_true(status == WEIR_OK || (status == WEIR_OUT_OF_MEMORY && !eject));
        plan_scratch_release(&scratch, NULL);
        assert_int_equal(counter.live_blocks, 0);
        assert_true(at < 40);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_placement_becomes_lower_and_stays_one),
        cmocka_unit_test(the_same_placement_is_lowered_to_the_same),
        cmocka_unit_test(who_lives_together_is_met_once_as_items_go_and_return),
        cmocka_unit_test(what_ends_above_a_line_is_taken_at_once_and_all_goes_back),
        cmocka_unit_test(a_stopped_budget_leaves_a_placement),
        cmocka_unit_test(each_failing_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
