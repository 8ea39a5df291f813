// Lowering by ejection, of placements that are far from good.
#include "testing.h"
#include "testing_allocator.h"

#include "plan/plan_eject.h"

#define MOST 2000

static plan_item items[MOST];
static uint64_t totals[MOST];
static int64_t keys[MOST];
static uint64_t offsets[MOST];
static uint64_t again[MOST];

// Items by birth: most of them live shortly, so that many stand aside, unless all live long.
static plan_component random_component(test_random* random, uint32_t count, uint32_t sections) {
    const bool is_long = random_below(random, 2);
    uint32_t first = 0;
    plan_component component = {
        .items = items, .totals = totals, .item_count = count, .section_count = sections};
    memset(totals, 0, sizeof totals);
    for (uint32_t i = 0; i < count; ++i) {
        const uint64_t step = random_below(random, 1 + 2ull * sections / count);
        first = first + step < sections ? first + (uint32_t)step : first;
        const uint64_t most = is_long || random_below(random, 8) == 0 ? sections / 2 + 1 : 4;
        const uint64_t end = first + 1 + random_below(random, most);
        items[i] = (plan_item){.size = 1 + (random_below(random, 1000) >> random_below(random, 8)),
                               .alignment = 1,
                               .first = first,
                               .end = end < sections ? (uint32_t)end : sections,
                               .span_count = 1,
                               .index = i};
        keys[i] = (int64_t)random_below(random, 1ull << 34);
        for (uint32_t s = first; s < items[i].end; ++s) {
            totals[s] += items[i].size;
            component.bound = totals[s] > component.bound ? totals[s] : component.bound;
        }
    }
    return component;
}

// First fit by births, or each item on top of all before it.
static uint64_t first_placement(const plan_component* component, bool is_tower) {
    uint64_t top = 0;
    for (uint32_t i = 0; i < component->item_count; ++i) {
        offsets[i] = is_tower ? top : 0;
        for (uint32_t j = 0; j < i && !is_tower; ++j) {
            const uint64_t end = offsets[j] + items[j].size;
            if (items[j].end > items[i].first && offsets[i] < end &&
                offsets[j] < offsets[i] + items[i].size) {
                offsets[i] = end;
                j = UINT32_MAX; // from the beginning: the place is another
            }
        }
        top = offsets[i] + items[i].size > top ? offsets[i] + items[i].size : top;
    }
    return top;
}

static void assert_placed(const plan_component* component, uint64_t peak) {
    uint64_t top = 0;
    for (uint32_t i = 0; i < component->item_count; ++i) {
        const uint64_t end = offsets[i] + items[i].size;
        top = end > top ? end : top;
        for (uint32_t j = 0; j < i; ++j) {
            assert_true(items[j].end <= items[i].first || items[i].end <= items[j].first ||
                        offsets[j] + items[j].size <= offsets[i] || end <= offsets[j]);
        }
    }
    assert_true(top == peak);
}

static uint64_t lower(const plan_component* component, uint64_t peak, plan_budget* budget) {
    plan_scratch scratch = {0};
    plan_eject* eject = NULL;
    assert_ok(plan_eject_make(&scratch, component, keys, &eject));
    const uint64_t lower = plan_eject_lower(eject, component->bound, peak, budget, offsets);
    plan_scratch_release(&scratch, NULL);
    return lower;
}

static void a_placement_becomes_lower_and_stays_one(void** state) {
    (void)state;
    test_random random = {5};
    uint32_t lowered = 0;
    for (int round = 0; round < 60; ++round) {
        const uint32_t count = 2 + (uint32_t)random_below(&random, round < 50 ? 60 : MOST - 2);
        const uint32_t sections = 1 + (uint32_t)random_below(&random, count);
        const plan_component component = random_component(&random, count, sections);
        const uint64_t before = first_placement(&component, random_below(&random, 2));
        plan_budget budget = {0};
        const uint64_t peak = lower(&component, before, &budget);
        assert_placed(&component, peak);
        assert_true(peak >= component.bound && peak <= before);
        lowered += peak < before;
    }
    assert_true(lowered > 15);
}

static void the_same_placement_is_lowered_to_the_same(void** state) {
    (void)state;
    test_random random = {6};
    const plan_component component = random_component(&random, MOST, MOST / 2);
    plan_budget budget = {0};
    const uint64_t before = first_placement(&component, true);
    const uint64_t peak = lower(&component, before, &budget);
    memcpy(again, offsets, sizeof again);
    first_placement(&component, true);
    assert_true(lower(&component, before, &budget) == peak);
    assert_memory_equal(again, offsets, sizeof again);
}

static bool stop(void* context, uint64_t peak, uint64_t bound) {
    (void)peak;
    (void)bound;
    return ++*(int*)context < 3;
}

static void a_stopped_budget_leaves_a_placement(void** state) {
    (void)state;
    test_random random = {7};
    const plan_component component = random_component(&random, MOST, MOST / 2);
    int looks = 0;
    plan_budget budget = {.progress = stop, .progress_context = &looks};
    const uint64_t before = first_placement(&component, true);
    const uint64_t peak = lower(&component, before, &budget);
    assert_true(budget.is_stopped);
    assert_true(peak <= before);
    assert_placed(&component, peak);
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void** state) {
    (void)state;
    test_random random = {8};
    const plan_component component = random_component(&random, 100, 50);
    weir_status status = WEIR_OUT_OF_MEMORY;
    for (size_t at = 0; status != WEIR_OK; ++at) {
        test_allocator counter = {.fail_at = at};
        plan_scratch scratch = {.allocator = test_allocator_of(&counter)};
        plan_eject* eject = NULL;
        status = plan_eject_make(&scratch, &component, keys, &eject);
        assert_true(status == WEIR_OK || (status == WEIR_OUT_OF_MEMORY && !eject));
        plan_scratch_release(&scratch, NULL);
        assert_int_equal(counter.live_blocks, 0);
        assert_true(at < 20);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_placement_becomes_lower_and_stays_one),
        cmocka_unit_test(the_same_placement_is_lowered_to_the_same),
        cmocka_unit_test(a_stopped_budget_leaves_a_placement),
        cmocka_unit_test(each_failing_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
