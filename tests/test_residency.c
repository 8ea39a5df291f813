// Residency sets, on every device that runs in host memory: `state` is the name of the device.
#include "session_testing.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct fixture {
    weir_device* device;
    weir_residency* set;
} fixture;

static fixture begin(void** state, const weir_residency_desc* desc) {
    static const weir_residency_desc defaults = {0};
    fixture f = {.device = open_device(*state, 1, NULL)};
    assert_ok(weir_residency_create(f.device, desc ? desc : &defaults, &f.set));
    return f;
}

static void end(const fixture* f) {
    weir_residency_destroy(f->set);
    weir_device_destroy(f->device);
}

static weir_storage* allocate(const fixture* f, uint64_t byte_size) {
    return allocate_zeros(f->device, byte_size);
}

static weir_status touch_nothing(const weir_kernel_call* call) {
    (void)call;
    return WEIR_OK;
}

// Commits one pass that reads `storages`.
static weir_ticket commit_use(weir_session* session, weir_storage* const* storages,
                              uint32_t count) {
    weir_operand operands[8];
    for (uint32_t i = 0; i < count; i++) {
        operands[i].view = floats_of(storages[i], 0, 4);
        operands[i].kind = WEIR_ACCESS_READ;
    }
    const weir_dispatch_desc desc = {
        .kernel = touch_nothing, .operands = operands, .operand_count = count};
    weir_ticket ticket;
    assert_ok(weir_session_dispatch(session, &desc, NULL));
    assert_ok(weir_session_commit(session, &ticket));
    return ticket;
}

static void use(const fixture* f, weir_storage* const* storages, uint32_t count) {
    weir_session* session = NULL;
    assert_ok(weir_session_create(f->device, &session));
    assert_ok(weir_ticket_wait(commit_use(session, storages, count), WEIR_WAIT_FOREVER));
    weir_session_destroy(session);
}

// Commits a pass that uses no member.
static void commit_anything(const fixture* f) {
    float numbers[4] = {0};
    const weir_storage_wrap_desc desc = {.pointer = numbers, .byte_size = sizeof numbers};
    weir_storage* storage = NULL;
    assert_ok(weir_storage_wrap(f->device, &desc, &storage));
    use(f, &storage, 1);
    weir_storage_release(storage);
}

static void slices_and_reshapes_share_one_registration(void** state) {
    const fixture f = begin(state, NULL);
    weir_storage* storage = allocate(&f, 4096);
    weir_view parent = floats_of(storage, 0, 1024);
    weir_view views[4];
    for (int i = 0; i < 3; i++) {
        assert_ok(weir_view_slice(&parent, (uint64_t)i * 1024, 256, &views[i]));
        weir_view_retain(&views[i]);
    }
    const weir_shape shape = weir_shape_make(2, (const int64_t[]){32, 32});
    assert_ok(weir_view_reshape(&parent, &shape, &views[3]));
    weir_view_retain(&views[3]);
    assert_int_equal(weir_residency_counted(f.set).adds, 1);
    assert_int_equal(weir_residency_counted(f.set).adds_applied, 0);
    assert_false(weir_residency_is_resident(f.set, storage));
    commit_anything(&f);
    assert_int_equal(weir_residency_counted(f.set).adds_applied, 1);
    assert_true(weir_residency_is_resident(f.set, storage));

    weir_storage_release(storage);
    for (int i = 0; i < 3; i++) {
        weir_view_release(&views[i]);
    }
    assert_int_equal(weir_residency_counted(f.set).removals, 0);
    weir_view_release(&views[3]);
    weir_residency_counters counted = weir_residency_counted(f.set);
    assert_int_equal(counted.removals, 1);
    assert_int_equal(counted.removals_applied, 0);
    assert_int_equal(counted.staged_bytes, 4096);
    commit_anything(&f);
    counted = weir_residency_counted(f.set);
    assert_int_equal(counted.adds, 1);
    assert_int_equal(counted.removals_applied, 1);
    assert_int_equal(counted.staged_bytes, 0);
    assert_int_equal(counted.resident_bytes, 0);
    assert_int_equal(counted.members, 0);
    end(&f);
}

static void a_thousand_allocations_are_one_flush(void** state) {
    enum { COUNT = 1000 };
    const fixture f = begin(state, NULL);
    weir_storage* storages[COUNT];
    for (int i = 0; i < COUNT; i++) {
        storages[i] = allocate(&f, 64);
    }
    assert_int_equal(weir_residency_counted(f.set).flushes, 0);
    commit_anything(&f);
    weir_residency_counters counted = weir_residency_counted(f.set);
    assert_int_equal(counted.adds_applied, COUNT);
    assert_int_equal(counted.flushes, 1);
    commit_anything(&f); // nothing staged: no flush
    for (int i = 0; i < COUNT; i++) {
        weir_storage_release(storages[i]);
    }
    assert_int_equal(weir_residency_counted(f.set).flushes, 1);
    commit_anything(&f);
    counted = weir_residency_counted(f.set);
    assert_int_equal(counted.removals_applied, COUNT);
    assert_int_equal(counted.flushes, 2);
    end(&f);
}

// The null device says when a pass completes.
static void a_removal_waits_for_the_pass_that_uses_the_storage(void** state) {
    (void)state;
    weir_device* device = open_manual();
    weir_residency* set = NULL;
    weir_session* session = NULL;
    assert_ok(weir_residency_create(device, &(weir_residency_desc){0}, &set));
    assert_ok(weir_session_create(device, &session));
    weir_storage* used = allocate_zeros(device, 64);
    weir_storage* other = allocate_zeros(device, 64);
    const weir_ticket first = commit_use(session, &used, 1);
    weir_storage_release(used);
    const weir_ticket second = commit_use(session, &other, 1); // its flush must not remove `used`
    weir_residency_flush(set);
    assert_int_equal(weir_residency_counted(set).removals, 0);
    assert_int_equal(weir_null_complete(device, 1, WEIR_OK), 1);
    assert_ok(weir_ticket_wait(first, WEIR_WAIT_FOREVER));
    assert_int_equal(weir_residency_counted(set).removals, 1);
    assert_int_equal(weir_residency_counted(set).removals_applied, 0);
    weir_residency_flush(set);
    assert_int_equal(weir_residency_counted(set).removals_applied, 1);
    assert_int_equal(weir_null_complete(device, 1, WEIR_OK), 1);
    assert_ok(weir_ticket_wait(second, WEIR_WAIT_FOREVER));
    weir_storage_release(other);
    weir_session_destroy(session);
    weir_residency_destroy(set);
    weir_device_destroy(device);
}

static void a_storage_dropped_before_its_flush_is_never_added(void** state) {
    const fixture f = begin(state, NULL);
    weir_storage_release(allocate(&f, 64));
    const weir_residency_counters counted = weir_residency_counted(f.set);
    assert_int_equal(counted.adds, 1);
    assert_int_equal(counted.removals, 1);
    assert_int_equal(counted.removals_applied, 1);
    assert_int_equal(counted.members, 0);
    commit_anything(&f);
    assert_int_equal(weir_residency_counted(f.set).adds_applied, 0);
    assert_int_equal(weir_residency_counted(f.set).flushes, 0);
    end(&f);
}

static void a_dropped_session_rolls_its_adds_back(void** state) {
    const fixture f = begin(state, NULL);
    float numbers[16] = {0};
    int released = 0;
    weir_storage* storage = wrap_counted(f.device, numbers, sizeof numbers, &released);
    weir_session* session = NULL;
    assert_ok(weir_session_create(f.device, &session));
    const weir_residency_options options = {.session = session};
    assert_ok(weir_residency_register(f.set, storage, &options));
    commit_anything(&f); // another session
    weir_residency_flush(f.set);
    assert_false(weir_residency_is_resident(f.set, storage));
    weir_session_destroy(session);
    assert_int_equal(weir_residency_counted(f.set).rolled_back, 1);
    assert_int_equal(weir_residency_counted(f.set).members, 0);
    commit_anything(&f);
    assert_int_equal(weir_residency_counted(f.set).adds_applied, 0);

    assert_ok(weir_session_create(f.device, &session));
    const weir_residency_options again = {.session = session};
    assert_ok(weir_residency_register(f.set, storage, &again));
    weir_session_reset(session);
    assert_int_equal(weir_residency_counted(f.set).rolled_back, 2);
    assert_ok(weir_residency_register(f.set, storage, &(weir_residency_options){0}));
    assert_ok(weir_ticket_wait(commit_use(session, &storage, 1), WEIR_WAIT_FOREVER));
    assert_true(weir_residency_is_resident(f.set, storage));
    weir_session_destroy(session); // after its commit: nothing to roll back
    assert_int_equal(weir_residency_counted(f.set).rolled_back, 2);
    weir_storage_release(storage);
    end(&f);
}

static void foreign_memory_joins_on_request_and_never_twice(void** state) {
    const fixture f = begin(state, NULL);
    float numbers[64] = {0};
    int released = 0;
    weir_storage* whole = wrap_counted(f.device, numbers, sizeof numbers, &released);
    weir_storage* again = wrap_counted(f.device, numbers, sizeof numbers, &released);
    commit_anything(&f);
    assert_int_equal(weir_residency_counted(f.set).adds, 0);
    assert_ok(weir_residency_register(f.set, whole, NULL));
    assert_ok(weir_residency_register(f.set, whole, NULL));
    assert_ok(weir_residency_register(f.set, again, NULL)); // another handle on the same bytes
    weir_residency_counters counted = weir_residency_counted(f.set);
    assert_int_equal(counted.adds, 1);
    assert_int_equal(counted.duplicates, 2);
    commit_anything(&f);
    assert_int_equal(weir_residency_counted(f.set).resident_bytes, sizeof numbers);

    weir_storage_release(whole); // its owner gets it back at once; the bytes stay for the other
    assert_int_equal(released, 1);
    assert_int_equal(weir_residency_counted(f.set).removals_applied, 1);
    commit_anything(&f);
    assert_true(weir_residency_is_resident(f.set, again));
    assert_int_equal(weir_residency_counted(f.set).resident_bytes, sizeof numbers);
    weir_storage_release(again);
    assert_int_equal(released, 2);
    assert_int_equal(weir_residency_counted(f.set).members, 0);
    end(&f);
}

static void unregistering_stages_a_removal_and_registering_takes_it_back(void** state) {
    const fixture f = begin(state, NULL);
    weir_storage* storage = allocate(&f, 64);
    weir_residency_flush(f.set);
    assert_ok(weir_residency_unregister(f.set, storage));
    assert_status(weir_residency_unregister(f.set, storage), WEIR_NOT_FOUND);
    assert_int_equal(weir_residency_counted(f.set).removals, 1);
    assert_ok(weir_residency_register(f.set, storage, NULL));
    assert_int_equal(weir_residency_counted(f.set).removals, 0);
    assert_true(weir_residency_is_resident(f.set, storage));
    assert_ok(weir_residency_unregister(f.set, storage));
    weir_residency_flush(f.set);
    assert_false(weir_residency_is_resident(f.set, storage));
    memset(weir_storage_host_pointer(storage), 1, 64); // still there
    weir_storage_release(storage);
    assert_int_equal(weir_residency_counted(f.set).staged_bytes, 0);
    end(&f);
}

static void the_longest_unused_member_of_the_lowest_priority_is_evicted(void** state) {
    const fixture f = begin(state, &(weir_residency_desc){.byte_budget = 3 * 4096});
    weir_storage* members[4];
    for (int i = 0; i < 3; i++) {
        members[i] = allocate(&f, 4096);
    }
    assert_ok(weir_residency_register(f.set, members[0], &(weir_residency_options){.priority = 1}));
    use(&f, &members[0], 1);
    use(&f, &members[2], 1);
    use(&f, &members[1], 1);
    members[3] = allocate(&f, 4096);
    use(&f, &members[3], 1); // 0 is older but of a higher priority; 2 is older than 1
    assert_true(weir_residency_is_resident(f.set, members[0]));
    assert_true(weir_residency_is_resident(f.set, members[1]));
    assert_false(weir_residency_is_resident(f.set, members[2]));
    assert_true(weir_residency_is_resident(f.set, members[3]));
    use(&f, &members[2], 1); // comes back in place of 1
    assert_true(weir_residency_is_resident(f.set, members[2]));
    assert_false(weir_residency_is_resident(f.set, members[1]));
    weir_residency_counters counted = weir_residency_counted(f.set);
    assert_int_equal(counted.adds, 4);
    assert_int_equal(counted.adds_applied, 5);
    assert_int_equal(counted.evictions, 2);
    assert_int_equal(counted.resident_bytes, 3 * 4096);
    for (int i = 0; i < 4; i++) {
        weir_storage_release(members[i]);
    }
    commit_anything(&f);
    assert_int_equal(weir_residency_counted(f.set).resident_bytes, 0);
    end(&f);
}

static void what_does_not_fit_the_budget_is_refused_and_evicts_nothing(void** state) {
    const fixture f = begin(state, &(weir_residency_desc){.byte_budget = 2 * 4096});
    weir_storage* small = allocate(&f, 4096);
    weir_storage* large = allocate(&f, 3 * 4096);
    use(&f, (weir_storage*[]){small, large}, 2);
    weir_residency_counters counted = weir_residency_counted(f.set);
    assert_true(weir_residency_is_resident(f.set, small));
    assert_false(weir_residency_is_resident(f.set, large));
    assert_int_equal(counted.refusals, 1);
    assert_int_equal(counted.evictions, 0);
    // Members of one pass do not evict each other.
    weir_storage* second = allocate(&f, 4096);
    weir_storage* third = allocate(&f, 4096);
    use(&f, (weir_storage*[]){small, second, third}, 3);
    assert_true(weir_residency_is_resident(f.set, small));
    assert_true(weir_residency_is_resident(f.set, second));
    assert_false(weir_residency_is_resident(f.set, third));
    assert_int_equal(weir_residency_counted(f.set).evictions, 0);
    weir_storage_release(small);
    weir_storage_release(large);
    weir_storage_release(second);
    weir_storage_release(third);
    end(&f);
}

static void a_member_that_a_pass_in_flight_uses_is_not_evicted(void** state) {
    (void)state;
    weir_device* device = open_manual();
    weir_residency* set = NULL;
    weir_session* session = NULL;
    assert_ok(weir_residency_create(device, &(weir_residency_desc){.byte_budget = 64}, &set));
    assert_ok(weir_session_create(device, &session));
    weir_storage* old = allocate_zeros(device, 64);
    commit_use(session, &old, 1);
    weir_storage* new = allocate_zeros(device, 64);
    const weir_ticket ticket = commit_use(session, &new, 1);
    assert_true(weir_residency_is_resident(set, old));
    assert_false(weir_residency_is_resident(set, new));
    assert_int_equal(weir_residency_counted(set).refusals, 1);
    assert_int_equal(weir_null_complete(device, 2, WEIR_OK), 2);
    assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    commit_use(session, &new, 1);
    assert_false(weir_residency_is_resident(set, old));
    assert_true(weir_residency_is_resident(set, new));
    weir_null_complete(device, 1, WEIR_OK);
    weir_storage_release(old);
    weir_storage_release(new);
    weir_session_destroy(session);
    weir_residency_destroy(set);
    weir_device_destroy(device);
}

static void memory_of_dropped_members_does_not_pile_up_without_commits(void** state) {
    const fixture f = begin(state, NULL);
    const uint64_t large = UINT64_C(24) << 20;
    for (int i = 0; i < 6; i++) {
        const weir_storage_desc desc = {.byte_size = large};
        weir_storage* storage = NULL;
        assert_ok(weir_storage_allocate(f.device, &desc, &storage));
        weir_residency_flush(f.set);
        weir_storage_release(storage);
        assert_true(weir_residency_counted(f.set).staged_bytes <= UINT64_C(64) << 20);
    }
    end(&f);
}

// Kilobytes that the system counts as locked for this process; -1 where it does not say.
static long locked_kilobytes(void) {
    FILE* status = fopen("/proc/self/status", "r");
    char line[256];
    long locked = -1;
    while (status && fgets(line, sizeof line, status)) {
        if (sscanf(line, "VmLck: %ld kB", &locked) == 1) {
            break;
        }
    }
    if (status) {
        fclose(status);
    }
    return locked;
}

static void pages_shared_with_a_resident_member_stay_locked(void** state) {
    const long page = sysconf(_SC_PAGESIZE);
    void* pages =
        mmap(NULL, (size_t)page * 3, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(pages != MAP_FAILED);
    const long before = locked_kilobytes();
    if (before < 0 || mlock(pages, (size_t)page * 3) != 0) {
        munmap(pages, (size_t)page * 3);
        print_message("[ SKIPPED  ] this process may not lock memory\n");
        skip();
    }
    const bool counts = locked_kilobytes() - before == 3 * page / 1024;
    munlock(pages, (size_t)page * 3);
    if (!counts) { // sanitizers make mlock do nothing
        munmap(pages, (size_t)page * 3);
        print_message("[ SKIPPED  ] the system does not count locked pages\n");
        skip();
    }
    const fixture f = begin(state, &(weir_residency_desc){.mode = WEIR_RESIDENCY_LOCK});
    int released = 0;
    weir_storage* left = wrap_counted(f.device, pages, (uint64_t)page + 64, &released);
    weir_storage* right =
        wrap_counted(f.device, (char*)pages + page + 64, (uint64_t)page * 2 - 64, &released);
    assert_ok(weir_residency_register(f.set, left, NULL));
    assert_ok(weir_residency_register(f.set, right, NULL));
    weir_residency_flush(f.set);
    assert_int_equal(locked_kilobytes() - before, 3 * page / 1024);
    weir_storage_release(left); // the middle page is the right one's too
    assert_int_equal(locked_kilobytes() - before, 2 * page / 1024);
    weir_storage_release(right);
    assert_int_equal(locked_kilobytes() - before, 0);
    end(&f);
    munmap(pages, (size_t)page * 3);
}

static void what_the_system_refuses_is_counted_and_the_pass_runs(void** state) {
    (void)state;
    const fixture f = begin((void*[]){"null"}, &(weir_residency_desc){WEIR_RESIDENCY_LOCK, 0});
    weir_storage* storage = allocate(&f, 64);
    weir_null_fail(f.device, 0, WEIR_OUT_OF_MEMORY);
    use(&f, &storage, 1);
    assert_int_equal(weir_residency_counted(f.set).refusals, 1);
    assert_false(weir_residency_is_resident(f.set, storage));
    use(&f, &storage, 1); // not asked again before something was let go
    assert_int_equal(weir_residency_counted(f.set).refusals, 1);
    assert_false(weir_residency_is_resident(f.set, storage));
    weir_storage* other = allocate(&f, 64);
    weir_residency_flush(f.set);
    weir_storage_release(other);
    weir_residency_flush(f.set);
    use(&f, &storage, 1);
    assert_true(weir_residency_is_resident(f.set, storage));
    weir_storage_release(storage);
    end(&f);
}

static void programs_use_their_members(void** state) {
    const fixture f = begin(state, &(weir_residency_desc){.byte_budget = 1 << 20});
    weir_graph* graph = NULL;
    weir_schedule* schedule = NULL;
    weir_program* program = NULL;
    weir_value x;
    weir_value w;
    weir_value y;
    const weir_shape shape = weir_shape_make(2, (const int64_t[]){1, 8});
    const weir_shape square = weir_shape_make(2, (const int64_t[]){8, 8});
    assert_ok(weir_graph_create(NULL, &graph));
    assert_ok(weir_graph_input(graph, "x", WEIR_DTYPE_F32, &shape, WEIR_PARAM_NONE, &x));
    assert_ok(weir_graph_weight(graph, "w", WEIR_DTYPE_F32, &square, &w));
    assert_ok(weir_graph_matmul(graph, x, w, &y));
    assert_ok(weir_graph_output(graph, y));
    assert_ok(weir_schedule_create(NULL, graph, weir_device_target(f.device), NULL, &schedule));
    weir_storage* weights = allocate(&f, 256);
    weir_binding binding = {.value = w};
    assert_ok(weir_view_make(weights, 0, WEIR_DTYPE_F32, &square, &binding.view));
    const weir_program_desc desc = {.schedule = schedule, .bindings = &binding, .binding_count = 1};
    assert_ok(weir_program_create(f.device, &desc, &program));
    assert_false(weir_residency_is_resident(f.set, weights));
    const float input[8] = {1};
    assert_ok(weir_program_write(program, x, input, sizeof input));
    assert_ok(weir_program_run(program, NULL, 0));
    assert_true(weir_residency_is_resident(f.set, weights));
    assert_int_equal(weir_residency_counted(f.set).flushes, 1);
    assert_ok(weir_program_write(program, x, input, sizeof input));
    assert_ok(weir_program_run(program, NULL, 0));
    assert_int_equal(weir_residency_counted(f.set).flushes, 1);
    weir_program_destroy(program);
    weir_storage_release(weights);
    weir_schedule_destroy(schedule);
    weir_graph_destroy(graph);
    end(&f);
}

static void a_device_has_one_set(void** state) {
    const fixture f = begin(state, NULL);
    weir_residency* second = NULL;
    assert_status(weir_residency_create(f.device, &(weir_residency_desc){0}, &second), WEIR_BUSY);
    const weir_residency_desc unknown = {.mode = (weir_residency_mode)7};
    assert_status(weir_residency_create(f.device, &unknown, &second), WEIR_INVALID_ARGUMENT);
    assert_null(second);
    weir_device* other = open_device(*state, 1, NULL);
    weir_storage* elsewhere = allocate_zeros(other, 64);
    assert_status(weir_residency_register(f.set, elsewhere, NULL), WEIR_INVALID_ARGUMENT);
    weir_storage_release(elsewhere);
    weir_device_destroy(other);
    // Storages outlive the set.
    weir_storage* storage = allocate(&f, 64);
    weir_residency_destroy(f.set);
    weir_storage_release(storage);
    weir_residency_destroy(NULL);
    weir_device_destroy(f.device);
}

static void each_allocation_may_fail(void** state) {
    for (size_t fail_at = 0;; fail_at++) {
        test_allocator counter = {.fail_at = SIZE_MAX};
        weir_device* device = open_device(*state, 1, &counter);
        const size_t before = atomic_load(&counter.live_bytes);
        counter.fail_at = atomic_load(&counter.calls) + fail_at;
        weir_residency* set = NULL;
        weir_storage* storage = NULL;
        const weir_storage_desc desc = {.byte_size = 64};
        weir_status status = weir_residency_create(device, &(weir_residency_desc){0}, &set);
        if (status == WEIR_OK) {
            status = weir_storage_allocate(device, &desc, &storage);
        }
        if (status == WEIR_OK) {
            weir_residency_flush(set);
        }
        weir_storage_release(storage);
        weir_residency_destroy(set);
        assert_int_equal(atomic_load(&counter.live_bytes), before);
        weir_device_destroy(device);
        if (status == WEIR_OK) {
            assert_true(fail_at >= 2);
            break;
        }
        assert_int_equal(status, WEIR_OUT_OF_MEMORY);
    }
}

static void* allocate_and_release(void* context) {
    const fixture* f = context;
    for (int i = 0; i < 200; i++) {
        weir_storage* storage = allocate(f, 128);
        weir_view view = floats_of(storage, 0, 32);
        weir_view_retain(&view);
        weir_storage_release(storage);
        if (i % 10 == 0) {
            use(f, &view.storage, 1);
        }
        weir_view_release(&view);
    }
    return NULL;
}

static void threads_share_a_set(void** state) {
    fixture f = begin(state, &(weir_residency_desc){.byte_budget = 1024});
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, allocate_and_release, &f), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    weir_residency_flush(f.set);
    const weir_residency_counters counted = weir_residency_counted(f.set);
    assert_int_equal(counted.adds, 800);
    assert_int_equal(counted.removals, 800);
    assert_int_equal(counted.removals_applied, 800);
    assert_int_equal(counted.resident_bytes, 0);
    assert_int_equal(counted.members, 0);
    end(&f);
}

static void a_lazy_storage_joins_when_it_takes_its_memory(void** state) {
    const fixture f = begin(state, NULL);
    weir_storage* lazy = NULL;
    const weir_storage_desc desc = {.byte_size = 5000, .lazy = true};
    assert_ok(weir_storage_allocate(f.device, &desc, &lazy));
    weir_residency_flush(f.set);
    assert_int_equal(weir_residency_counted(f.set).adds, 0);
    assert_int_equal(weir_residency_counted(f.set).resident_bytes, 0);
    weir_storage* untouched = NULL;
    assert_ok(weir_storage_allocate(f.device, &desc, &untouched));
    assert_non_null(weir_storage_host_pointer(lazy));
    assert_ok(weir_storage_touch(lazy));
    weir_residency_flush(f.set);
    assert_int_equal(weir_residency_counted(f.set).adds, 1);
    assert_int_equal(weir_residency_counted(f.set).resident_bytes, 5000);
    weir_storage_release(untouched);
    assert_int_equal(weir_residency_counted(f.set).removals, 0);
    weir_storage_release(lazy);
    weir_residency_flush(f.set);
    assert_int_equal(weir_residency_counted(f.set).removals_applied, 1);
    assert_int_equal(weir_residency_counted(f.set).resident_bytes, 0);
    end(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ON_BOTH(slices_and_reshapes_share_one_registration),
        ON_BOTH(a_thousand_allocations_are_one_flush),
        cmocka_unit_test(a_removal_waits_for_the_pass_that_uses_the_storage),
        ON_BOTH(a_storage_dropped_before_its_flush_is_never_added),
        ON_BOTH(a_dropped_session_rolls_its_adds_back),
        ON_BOTH(foreign_memory_joins_on_request_and_never_twice),
        ON_BOTH(unregistering_stages_a_removal_and_registering_takes_it_back),
        ON_BOTH(the_longest_unused_member_of_the_lowest_priority_is_evicted),
        ON_BOTH(what_does_not_fit_the_budget_is_refused_and_evicts_nothing),
        cmocka_unit_test(a_member_that_a_pass_in_flight_uses_is_not_evicted),
        ON_BOTH(memory_of_dropped_members_does_not_pile_up_without_commits),
        ON_BOTH(pages_shared_with_a_resident_member_stay_locked),
        cmocka_unit_test(what_the_system_refuses_is_counted_and_the_pass_runs),
        ON_BOTH(programs_use_their_members),
        ON_BOTH(a_lazy_storage_joins_when_it_takes_its_memory),
        ON_BOTH(a_device_has_one_set),
        ON_BOTH(each_allocation_may_fail),
        ON_BOTH(threads_share_a_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
