#include "testing.h"

#include "base/array.h"
#include "hazard/interval_tree.h"

#define ENTRIES 5000

static const weir_allocator heap = {0};

// What a tree should hold, in no order.
typedef struct flat_set {
    interval_entry entries[ENTRIES];
    size_t count;
} flat_set;

static int compare_entries(const void* a, const void* b) {
    const interval_entry* x = a;
    const interval_entry* y = b;
    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    return x->access < y->access ? -1 : x->access > y->access;
}

// Checks order, summaries and counts below a node, and returns the number of intervals there.
static size_t check_node(const interval_pool* pool, uint32_t index, uint32_t level) {
    const interval_node* node = &pool->items[index];
    size_t count = level > 1 ? 0 : node->count;
    assert_in_range(node->count, 1, INTERVAL_FANOUT);
    for (uint32_t i = 0; i < node->count; ++i) {
        const interval_entry* entry = &node->entries[i];
        assert_true(i == 0 || compare_entries(entry - 1, entry) < 0);
        if (level == 1) {
            continue;
        }
        const interval_node* child = &pool->items[entry->item];
        uint64_t end = 0;
        count += check_node(pool, entry->item, level - 1);
        for (uint32_t k = 0; k < child->count; ++k) {
            end = child->entries[k].end > end ? child->entries[k].end : end;
        }
        assert_int_equal(compare_entries(entry, &child->entries[0]), 0);
        assert_int_equal(entry->end, end);
    }
    return count;
}

static void check_tree(const interval_pool* pool, const interval_tree* tree, const flat_set* set) {
    if (set->count == 0) {
        assert_int_equal(tree->root, INTERVAL_NONE);
        return;
    }
    assert_int_equal(check_node(pool, tree->root, tree->height), set->count);
    uint64_t begin = UINT64_MAX;
    uint64_t end = 0;
    for (size_t i = 0; i < set->count; ++i) {
        begin = set->entries[i].begin < begin ? set->entries[i].begin : begin;
        end = set->entries[i].end > end ? set->entries[i].end : end;
    }
    assert_int_equal(tree->begin, begin);
    assert_int_equal(tree->end, end);
}

static void check_find(const interval_pool* pool, const interval_tree* tree, const flat_set* set,
                       uint64_t begin, uint64_t end, interval_array* hits) {
    size_t expected = 0;
    hits->count = 0;
    assert_ok(interval_tree_find(&heap, pool, tree, begin, end, hits));
    for (size_t i = 0; i < set->count; ++i) {
        expected += set->entries[i].begin < end && begin < set->entries[i].end;
    }
    assert_int_equal(hits->count, expected);
    for (size_t i = 0; i < hits->count; ++i) {
        assert_true(hits->items[i].begin < end && begin < hits->items[i].end);
        assert_true(i == 0 || compare_entries(&hits->items[i - 1], &hits->items[i]) < 0);
    }
}

// Takes all entries of one item within a window out of both.
static void sweep(interval_pool* pool, interval_tree* tree, flat_set* set, uint64_t begin,
                  uint64_t end, uint32_t item) {
    interval_tree_sweep(pool, tree, begin, end, item);
    for (size_t i = 0; i < set->count;) {
        const interval_entry* entry = &set->entries[i];
        if (entry->begin >= begin && entry->end <= end && entry->item == item) {
            set->entries[i] = set->entries[--set->count];
        } else {
            ++i;
        }
    }
}

// Grows and shrinks a tree with intervals of up to `longest` bytes; `order` 0 is random, 1 rises
// and -1 falls.
static void compare_with_flat_set(uint64_t seed, uint64_t longest, int order) {
    static flat_set set;
    test_random random = {seed};
    interval_pool pool = {0};
    interval_tree tree;
    interval_array hits = {0};
    interval_pool_clear(&pool);
    interval_tree_init(&tree);
    set.count = 0;
    uint32_t made = 0;
    for (uint64_t share = 80; share > 0; share = share == 80 ? 20 : share == 20 ? 60 : 0) {
        for (int step = 0; step < ENTRIES; ++step) {
            if (random_below(&random, 100) < share && set.count < ENTRIES) {
                const uint64_t at = order == 0  ? random_below(&random, 100000)
                                    : order > 0 ? made * 7ull
                                                : 1000000 - made * 7ull;
                const interval_entry entry = {.begin = at,
                                              .end = at + 1 + random_below(&random, longest),
                                              .access = made,
                                              .item = made % 3};
                ++made;
                assert_ok(interval_pool_reserve(&heap, &pool, 1));
                interval_tree_insert(&pool, &tree, &entry);
                set.entries[set.count++] = entry;
            } else if (set.count > 0) {
                const size_t gone = random_below(&random, set.count);
                interval_tree_remove(&pool, &tree, set.entries[gone].begin,
                                     set.entries[gone].access);
                set.entries[gone] = set.entries[--set.count];
            }
            if (step % 100 == 0) {
                const uint64_t begin = random_below(&random, 1000000);
                check_tree(&pool, &tree, &set);
                sweep(&pool, &tree, &set, begin, begin + random_below(&random, 20000),
                      (uint32_t)(step / 100 % 3));
                check_tree(&pool, &tree, &set);
                check_find(&pool, &tree, &set, begin, begin + random_below(&random, 5000), &hits);
            }
        }
    }
    sweep(&pool, &tree, &set, 0, 300000, 1);
    check_tree(&pool, &tree, &set);
    while (set.count > 0) {
        --set.count;
        interval_tree_remove(&pool, &tree, set.entries[set.count].begin,
                             set.entries[set.count].access);
    }
    check_tree(&pool, &tree, &set);
    array_free(&heap, &pool);
    array_free(&heap, &hits);
}

static void a_tree_holds_what_a_flat_set_holds(void** state) {
    (void)state;
    compare_with_flat_set(3, 10, 0);
    compare_with_flat_set(5, 50000, 0);
    compare_with_flat_set(7, 7, 1);
    compare_with_flat_set(9, 100, -1);
}

// The room made for many insertions at once is enough, whatever their order, and the nodes made
// are few.
static void reserved_insertions_find_their_room(void** state) {
    (void)state;
    for (uint64_t order = 0; order < 4; ++order) {
        test_random random = {order + 1};
        interval_pool pool = {0};
        interval_tree tree;
        interval_pool_clear(&pool);
        interval_tree_init(&tree);
        assert_ok(interval_pool_reserve(&heap, &pool, ENTRIES));
        for (uint32_t i = 0; i < ENTRIES; ++i) {
            const uint64_t places[] = {i, ENTRIES - i, 7, random_below(&random, ENTRIES)};
            const interval_entry entry = {
                .begin = places[order], .end = places[order] + 1, .access = i};
            interval_tree_insert(&pool, &tree, &entry);
        }
        assert_in_range(pool.count, ENTRIES / INTERVAL_FANOUT, ENTRIES / 5);
        assert_in_range(tree.height, 3, 5);
        array_free(&heap, &pool);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_holds_what_a_flat_set_holds),
        cmocka_unit_test(reserved_insertions_find_their_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
