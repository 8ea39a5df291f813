// The tree of members against a list of them: random storages, overlapping ones too, come and go.
#include "testing.h"

#include "device/residency_tree.h"

#define COUNT 200
#define SPACE 4096 // bytes of made-up addresses, from 1 on

typedef struct visit_log {
    const weir_storage* seen[COUNT];
    size_t count, limit;
} visit_log;

static bool keep(void* context, const weir_storage* storage) {
    visit_log* log = context;
    log->seen[log->count++] = storage;
    return log->count < log->limit;
}

// Compares a visit with a look at every storage.
static void check_visit(const weir_storage* root, const weir_storage* storages, uint64_t begin,
                        uint64_t end) {
    visit_log log = {.limit = SIZE_MAX};
    assert_true(residency_tree_visit(root, begin, end, keep, &log));
    size_t expected = 0;
    for (size_t i = 0; i < COUNT; i++) {
        const storage_residency* member = &storages[i].residency;
        if (member->in_tree && member->begin < end && member->end > begin) {
            bool found = false;
            for (size_t k = 0; k < log.count; k++) {
                found = found || log.seen[k] == &storages[i];
            }
            assert_true(found);
            expected++;
        }
    }
    assert_int_equal(log.count, expected);
    for (size_t k = 1; k < log.count; k++) {
        assert_true(log.seen[k - 1]->residency.begin <= log.seen[k]->residency.begin);
    }
    if (expected > 1) { // a visit ends where it is told to
        visit_log short_log = {.limit = expected - 1};
        assert_false(residency_tree_visit(root, begin, end, keep, &short_log));
        assert_int_equal(short_log.count, expected - 1);
    }
}

static void visits_are_those_of_a_list(void** state) {
    (void)state;
    static weir_storage storages[COUNT];
    weir_storage* root = NULL;
    test_random random = {.state = 99};
    for (int step = 0; step < 20000; step++) {
        weir_storage* storage = &storages[random_below(&random, COUNT)];
        if (storage->residency.in_tree) {
            residency_tree_remove(&root, storage);
        } else {
            const uint64_t address = 1 + random_below(&random, SPACE);
            storage->byte_size = random_below(&random, step % 3 == 0 ? SPACE / 4 : 40);
            atomic_store(&storage->host, (void*)(uintptr_t)address);
            residency_tree_add(&root, storage);
        }
        const uint64_t begin = random_below(&random, SPACE + 50);
        check_visit(root, storages, begin, begin + 1 + random_below(&random, 100));
    }
    for (size_t i = 0; i < COUNT; i++) {
        residency_tree_remove(&root, &storages[i]); // those that are not in it are left alone
    }
    assert_null(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(visits_are_those_of_a_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
