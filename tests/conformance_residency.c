// MlxBuffer: the residency that its handles share.
#include "conformance.h"

static weir_residency* open_set(const conformance* c, uint64_t byte_budget) {
    weir_residency* set = NULL;
    assert_ok(
        weir_residency_create(c->device, &(weir_residency_desc){.byte_budget = byte_budget}, &set));
    return set;
}

static void commit_fill(const conformance* c, weir_storage* storage) {
    const weir_view view = floats_of(storage, 0, 4);
    assert_ok(fill_with(c->session, &view, 1.0f));
    assert_ok(weir_session_finish(c->session));
}

// An allocation, three slices and a reshape are one add; releasing all but one of them removes
// nothing; the last stages the one removal, which the next commit applies.
static void residency_is_shared_by_all_views(void** state) {
    const conformance* c = *state;
    weir_residency* set = open_set(c, 0);
    weir_storage* storage = allocate_zeros(c->device, 4096);
    const weir_view parent = floats_of(storage, 0, 1024);
    const weir_shape shape = weir_shape_make(2, (const int64_t[]){32, 32});
    weir_view views[4];
    for (int i = 0; i < 3; i++) {
        assert_ok(weir_view_slice(&parent, (uint64_t)i * 1024, 256, &views[i]));
        weir_view_retain(&views[i]);
    }
    assert_ok(weir_view_reshape(&parent, &shape, &views[3]));
    weir_view_retain(&views[3]);
    commit_fill(c, storage);
    assert_int_equal(weir_residency_counted(set).adds, 1);
    assert_int_equal(weir_residency_counted(set).adds_applied, 1);
    assert_true(weir_residency_is_resident(set, storage));
    weir_storage_release(storage);
    for (int i = 0; i < 3; i++) {
        weir_view_release(&views[i]);
    }
    assert_int_equal(weir_residency_counted(set).removals, 0);
    weir_view_release(&views[3]);
    assert_int_equal(weir_residency_counted(set).removals, 1);
    assert_int_equal(weir_residency_counted(set).removals_applied, 0);
    commit_fill(c, c->storage);
    assert_int_equal(weir_residency_counted(set).removals_applied, 1);
    assert_int_equal(weir_residency_counted(set).members, 0);
    weir_residency_destroy(set);
}

// A thousand allocations, then one commit, are one flush.
static void residency_adds_are_batched(void** state) {
    const conformance* c = *state;
    enum { COUNT = 1000 };
    weir_residency* set = open_set(c, 0);
    static weir_storage* storages[COUNT];
    for (int i = 0; i < COUNT; i++) {
        storages[i] = allocate_zeros(c->device, 64);
    }
    assert_int_equal(weir_residency_counted(set).flushes, 0);
    commit_fill(c, c->storage);
    assert_int_equal(weir_residency_counted(set).adds_applied, COUNT);
    assert_int_equal(weir_residency_counted(set).flushes, 1);
    for (int i = 0; i < COUNT; i++) {
        weir_storage_release(storages[i]);
    }
    commit_fill(c, c->storage);
    assert_int_equal(weir_residency_counted(set).removals_applied, COUNT);
    assert_int_equal(weir_residency_counted(set).flushes, 2);
    weir_residency_destroy(set);
}

// The flush of a later commit does not remove what an earlier pass in flight uses.
static bool removal_waits(const conformance* c, uint32_t steps) {
    held h;
    weir_residency* set = NULL;
    hold(c, &h, WEIR_ACCESS_READ, steps);
    assert_ok(weir_residency_create(h.device, &(weir_residency_desc){0}, &set));
    assert_ok(weir_residency_register(set, h.storage, NULL));
    weir_residency_flush(set);
    weir_storage_release(h.storage);
    h.storage = NULL;
    weir_residency_flush(set);
    assert_int_equal(weir_residency_counted(set).adds_applied, 1);
    const uint64_t removals = weir_residency_counted(set).removals;
    const bool known = was_held(&h);
    assert_int_equal(known ? removals : 0, 0);
    let_go(c, &h);
    weir_session_destroy(h.session);
    h.session = NULL;
    weir_residency_flush(set);
    assert_int_equal(weir_residency_counted(set).removals_applied, 1);
    assert_int_equal(weir_residency_counted(set).members, 0);
    weir_residency_destroy(set);
    close_held(&h);
    return known;
}

static void residency_removal_waits_for_completion(void** state) {
    const conformance* c = *state;
    uint32_t steps = HELD_STEPS;
    while (!removal_waits(c, steps)) {
        assert_true(steps < HELD_STEPS_MAX);
        steps *= 2;
    }
}

// Foreign memory on request only, and never twice, under another handle neither.
static void residency_register_existing(void** state) {
    const conformance* c = *state;
    static _Alignas(4096) float numbers[1024];
    weir_storage* storage = try_wrap(c, numbers, sizeof numbers, false, NULL);
    if (!storage) {
        skip_because(weir_last_error());
    }
    weir_residency* set = open_set(c, 0);
    weir_storage* again = try_wrap(c, numbers, sizeof numbers, false, NULL);
    commit_fill(c, storage);
    assert_int_equal(weir_residency_counted(set).adds, 0);
    assert_ok(weir_residency_register(set, storage, NULL));
    assert_ok(weir_residency_register(set, storage, NULL));
    assert_ok(weir_residency_register(set, again, NULL));
    commit_fill(c, storage);
    assert_int_equal(weir_residency_counted(set).adds_applied, 1);
    assert_int_equal(weir_residency_counted(set).duplicates, 2);
    assert_int_equal(weir_residency_counted(set).resident_bytes, sizeof numbers);
    weir_storage_release(again);
    weir_storage_release(storage);
    weir_residency_destroy(set);
}

// Within a budget the lowest priority goes first, then what was used longest ago.
static void residency_budget_and_eviction(void** state) {
    const conformance* c = *state;
    weir_residency* set = open_set(c, 3 * 4096);
    weir_storage* storages[4];
    for (int i = 0; i < 3; i++) {
        storages[i] = allocate_zeros(c->device, 4096);
    }
    assert_ok(weir_residency_register(set, storages[0], &(weir_residency_options){.priority = 1}));
    for (int i = 0; i < 3; i++) {
        commit_fill(c, storages[i]);
    }
    commit_fill(c, storages[1]); // used after storages[2]
    storages[3] = allocate_zeros(c->device, 4096);
    commit_fill(c, storages[3]);
    assert_int_equal(weir_residency_counted(set).evictions, 1);
    assert_true(weir_residency_is_resident(set, storages[0]));
    assert_true(weir_residency_is_resident(set, storages[1]));
    assert_false(weir_residency_is_resident(set, storages[2]));
    assert_true(weir_residency_is_resident(set, storages[3]));
    assert_true(weir_residency_counted(set).resident_bytes <= 3 * 4096);
    commit_fill(c, storages[2]); // comes back in the place of storages[1]
    assert_true(weir_residency_is_resident(set, storages[2]));
    assert_false(weir_residency_is_resident(set, storages[1]));
    for (int i = 0; i < 4; i++) {
        weir_storage_release(storages[i]);
    }
    weir_residency_destroy(set);
}

int conformance_residency(void) {
    const struct CMUnitTest cases[] = {
        conformance_case(residency_is_shared_by_all_views),
        conformance_case(residency_adds_are_batched),
        conformance_case(residency_removal_waits_for_completion),
        conformance_case(residency_register_existing),
        conformance_case(residency_budget_and_eviction),
    };
    return cmocka_run_group_tests_name("MlxBuffer, residency", cases, NULL, NULL);
}
