// Lowering by ejection, of placements that are far from good.
#include "random_component.h"
#include "testing.h"
#include "testing_allocator.h"

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
    uint64_t work = 150ull * component->item_count;
    assert_ok(plan_eject_make(&scratch, component, keys, &eject));
    const uint64_t lower = plan_eject_lower(eject, component->bound, peak, &work, budget, offsets);
    assert_true(work < 150ull * component->item_count || lower == peak);
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
