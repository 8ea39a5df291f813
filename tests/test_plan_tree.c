// The tree of waiting items, against a look at every item.
#include "testing.h"

#include "plan/plan_tree.h"

#define MOST 3000

static plan_item items[MOST];
static bool waits[MOST];

// Items by birth: with a key in 8 values or in many, and lives short, long, or of both kinds.
static plan_component random_component(test_random* random, uint32_t count, uint32_t sections) {
    const bool is_long = random_below(random, 2);
    uint32_t first = 0;
    for (uint32_t i = 0; i < count; ++i) {
        const uint64_t step = random_below(random, 1 + 2ull * sections / count);
        first = first + step < sections ? first + (uint32_t)step : first;
        const uint64_t most = is_long && random_below(random, 2) ? sections : 8;
        const uint64_t end = first + 1 + random_below(random, most);
        items[i] = (plan_item){.size = 1,
                               .alignment = 1,
                               .first = first,
                               .end = end < sections ? (uint32_t)end : sections,
                               .span_count = 1,
                               .index = i,
                               .fixed = random_below(random, 16) == 0};
    }
    return (plan_component){.items = items, .item_count = count, .section_count = sections};
}

static int64_t largest_key(const plan_tree* tree, uint32_t first, uint32_t end) {
    int64_t key = INT64_MIN;
    for (uint32_t i = 0; i < tree->component->item_count; ++i) {
        if (waits[i] && items[i].first >= first && items[i].end <= end && tree->keys[i] > key) {
            key = tree->keys[i];
        }
    }
    return key;
}

static void the_item_found_has_the_largest_key_of_those_within(void** state) {
    (void)state;
    test_random random = {3};
    for (int round = 0; round < 60; ++round) {
        const uint32_t count = round < 40 ? 1 + (uint32_t)random_below(&random, 60) : MOST;
        const uint32_t sections = 1 + (uint32_t)random_below(&random, 2ull * count);
        const plan_component component = random_component(&random, count, sections);
        const uint64_t keys = random_below(&random, 2) ? 8 : 1u << 30;
        plan_scratch scratch = {0};
        plan_tree tree;
        assert_ok(plan_tree_make(&scratch, &component, &tree));
        for (uint32_t i = 0; i < count; ++i) {
            tree.keys[i] = (int64_t)random_below(&random, keys) - 4;
            waits[i] = !items[i].fixed;
        }
        plan_tree_fill(&tree);
        for (int query = 0; query < 300; ++query) {
            const uint32_t first = (uint32_t)random_below(&random, sections);
            const uint32_t end = first + 1 + (uint32_t)random_below(&random, sections - first);
            const uint32_t found = plan_tree_find(&tree, first, end);
            const int64_t key = largest_key(&tree, first, end);
            assert_int_equal(found == PLAN_TREE_NONE, key == INT64_MIN);
            if (found != PLAN_TREE_NONE) {
                assert_true(waits[found] && items[found].first >= first && items[found].end <= end);
                assert_true(tree.keys[found] == key);
                waits[found] = false;
                plan_tree_take(&tree, found);
            }
        }
        plan_scratch_release(&scratch, NULL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_item_found_has_the_largest_key_of_those_within),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
