// ConflictTracker: what a dispatch waits for, and passes as the unit of waiting.
#include "conformance.h"

static const char* record(weir_tracker* tracker, const weir_view* view, weir_access_kind kind) {
    const weir_access access = weir_access_from_view(view, kind);
    const weir_tracker_dispatch dispatch = {
        .accesses = &access, .access_count = 1, .declared = true};
    weir_verdict verdict;
    assert_ok(weir_tracker_record(tracker, &dispatch, &verdict));
    if (verdict.hazard_count == 0) {
        assert_false(verdict.barrier);
        return "none";
    }
    const weir_hazard* hazard = &verdict.hazards[0];
    assert_int_equal(hazard->later, verdict.dispatch);
    if (hazard->kind != WEIR_HAZARD_FENCE) { // which has no ranges
        assert_true(weir_range_overlaps(&hazard->earlier_range, &hazard->later_range));
        assert_int_equal(hazard->later_range.byte_offset, access.range.byte_offset);
    }
    return weir_hazard_name(hazard->kind);
}

// Group mode: RAW, WAR and WAW force a barrier, anything else is elided; the group that follows a
// barrier begins with the dispatch that needed it.
static void conflict_tracker_records_reads_and_writes(void** state) {
    const conformance* c = *state;
    weir_tracker* tracker = NULL;
    const weir_view x = first_floats(c, 0, 8);
    const weir_view y = first_floats(c, 8, 8);
    assert_ok(weir_tracker_create(NULL, WEIR_TRACKER_GROUP, &tracker));
    assert_string_equal(record(tracker, &x, WEIR_ACCESS_WRITE), "none");
    assert_string_equal(record(tracker, &y, WEIR_ACCESS_WRITE), "none");
    assert_string_equal(record(tracker, &x, WEIR_ACCESS_READ), "RAW");
    assert_string_equal(record(tracker, &x, WEIR_ACCESS_READ), "none");
    assert_string_equal(record(tracker, &y, WEIR_ACCESS_READ), "none");
    assert_string_equal(record(tracker, &x, WEIR_ACCESS_WRITE), "WAR");
    assert_string_equal(record(tracker, &x, WEIR_ACCESS_WRITE), "WAW");
    assert_string_equal(record(tracker, &y, WEIR_ACCESS_WRITE), "none");
    weir_tracker_destroy(tracker);
}

// DAG mode: the whole pass, each hazard with both dispatches.
static void conflict_tracker_dag_as_well_as_groups(void** state) {
    const conformance* c = *state;
    weir_tracker* tracker = NULL;
    weir_verdict verdict;
    const weir_view parts[] = {first_floats(c, 0, 8), first_floats(c, 8, 8)};
    const weir_view both = first_floats(c, 4, 8);
    assert_ok(weir_tracker_create(NULL, WEIR_TRACKER_DAG, &tracker));
    assert_string_equal(record(tracker, &parts[0], WEIR_ACCESS_WRITE), "none");
    assert_string_equal(record(tracker, &parts[1], WEIR_ACCESS_READ), "none");
    const weir_access access = weir_access_from_view(&both, WEIR_ACCESS_WRITE);
    assert_ok(weir_tracker_record(
        tracker, &(weir_tracker_dispatch){.accesses = &access, .access_count = 1, .declared = true},
        &verdict));
    assert_int_equal(verdict.hazard_count, 2);
    assert_int_equal(verdict.hazards[0].kind, WEIR_HAZARD_WAW);
    assert_int_equal(verdict.hazards[0].earlier, 0);
    assert_int_equal(verdict.hazards[1].kind, WEIR_HAZARD_WAR);
    assert_int_equal(verdict.hazards[1].earlier, 1);
    assert_int_equal(verdict.hazards[1].later, 2);
    weir_tracker_destroy(tracker);
}

static weir_status nothing(const weir_kernel_call* call) {
    (void)call;
    return WEIR_OK;
}

static void conflict_tracker_undeclared_is_a_full_fence(void** state) {
    const conformance* c = *state;
    weir_tracker* tracker = NULL;
    weir_verdict verdict;
    const weir_view x = first_floats(c, 0, 8);
    const weir_view y = first_floats(c, 8, 8);
    assert_ok(weir_tracker_create(NULL, WEIR_TRACKER_GROUP, &tracker));
    assert_string_equal(record(tracker, &x, WEIR_ACCESS_READ), "none");
    assert_ok(weir_tracker_record(tracker, &(weir_tracker_dispatch){0}, &verdict));
    assert_true(verdict.barrier);
    assert_string_equal(record(tracker, &y, WEIR_ACCESS_READ), "fence");
    weir_tracker_destroy(tracker);
    const uint32_t none = 0; // elements that the code touches
    const weir_kernel_code code = {.words = ripple_words, .byte_size = sizeof ripple_words};
    const weir_operand operands[] = {{first_floats(c, 256, 8), WEIR_ACCESS_READ},
                                     {first_floats(c, 512, 8), WEIR_ACCESS_WRITE}};
    const weir_dispatch_desc function = {.name = "any", .kernel = nothing, .undeclared = true};
    const weir_dispatch_desc shader = {.name = "any",
                                       .code = &code,
                                       .operands = operands,
                                       .operand_count = 2,
                                       .constants = &none,
                                       .constants_size = sizeof none,
                                       .undeclared = true};
    assert_ok(fill_with(c->session, &x, 1.0f));
    assert_ok(weir_session_dispatch(c->session, c->runs_functions ? &function : &shader, &verdict));
    assert_int_equal(verdict.hazards[0].kind, WEIR_HAZARD_FENCE);
    assert_ok(fill_with(c->session, &y, 1.0f));
    assert_ok(weir_session_finish(c->session));
    assert_int_equal(weir_session_counters(c->session)->waits, 2);
}

// One pass, however many dispatches, is one submit and one wait.
static void conflict_tracker_finish_is_the_only_sync_point(void** state) {
    const conformance* c = *state;
    enum { STEPS = 32 };
    put_count(c, &c->floats, 5.0f);
    for (uint64_t i = 0; i + 1 < STEPS; i++) {
        const weir_view from = first_floats(c, i * 8, 8);
        const weir_view to = first_floats(c, (i + 1) * 8, 8);
        assert_ok(weir_session_copy(c->session, &from, &to));
    }
    assert_ok(weir_session_finish(c->session));
    const weir_counters* counted = weir_session_counters(c->session);
    assert_int_equal(counted->submits, 1);
    assert_int_equal(counted->host_waits, 1);
    assert_int_equal(counted->waits, STEPS - 2); // each copy reads what the one before wrote
    const weir_view last = first_floats(c, (STEPS - 1) * 8, 8);
    assert_counts(c, &last, 5.0f, 1.0f);
}

static void assert_all(const conformance* c, const weir_view* view, float expected) {
    const size_t count = (size_t)weir_view_element_count(view);
    float* numbers = calloc(count, sizeof(float));
    assert_non_null(numbers);
    get(c, view, numbers);
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        wrong += numbers[i] != expected;
    }
    free(numbers);
    assert_int_equal(wrong, 0);
}

// Pass 1, a write, pass 2, and no wait between: pass 1 reads the old bytes, pass 2 the new ones.
// There are so many bytes that passes are in flight together.
static void conflict_tracker_passes_keep_their_order(void** state) {
    const conformance* c = *state;
    enum { COUNT = 1 << 17 };
    need_execution(c);
    weir_session* sessions[2] = {c->session, NULL};
    weir_storage* storage = allocate_zeros(c->device, 3 * COUNT * sizeof(float));
    const weir_view x = floats_of(storage, 0, COUNT);
    const weir_view before = floats_of(storage, COUNT * sizeof(float), COUNT);
    const weir_view after = floats_of(storage, 2 * COUNT * sizeof(float), COUNT);
    assert_ok(weir_session_create(c->device, &sessions[1]));
    for (int round = 0; round < 10; round++) {
        weir_ticket tickets[3];
        weir_session* second = sessions[round % 2];
        assert_ok(fill_with(c->session, &x, (float)round));
        assert_ok(weir_session_copy(c->session, &x, &before));
        assert_ok(weir_session_commit(c->session, &tickets[0]));
        assert_ok(fill_with(second, &x, -1.0f));
        assert_ok(weir_session_commit(second, &tickets[1]));
        assert_ok(weir_session_copy(c->session, &x, &after));
        assert_ok(weir_session_commit(c->session, &tickets[2]));
        assert_ok(weir_ticket_wait(tickets[2], WEIR_WAIT_FOREVER));
        assert_true(weir_ticket_is_complete(tickets[0]) && weir_ticket_is_complete(tickets[1]));
        assert_all(c, &before, (float)round);
        assert_all(c, &after, -1.0f);
    }
    weir_session_destroy(sessions[1]);
    weir_storage_release(storage);
}

// What was recorded and not committed reaches no device; adds of its residency are taken back.
static void conflict_tracker_dropped_on_error(void** state) {
    const conformance* c = *state;
    weir_residency* set = NULL;
    weir_session* dropped = NULL;
    const weir_view x = first_floats(c, 0, 64);
    put_count(c, &x, 1.0f);
    assert_ok(weir_residency_create(c->device, &(weir_residency_desc){0}, &set));
    assert_ok(weir_session_create(c->device, &dropped));
    assert_ok(
        weir_residency_register(set, c->storage, &(weir_residency_options){.session = dropped}));
    assert_ok(fill_with(dropped, &x, 9.0f));
    const weir_view outside = {.storage = c->storage,
                               .byte_offset = FLOATS * sizeof(float),
                               .dtype = x.dtype,
                               .shape = x.shape,
                               .strides = {sizeof(float)}};
    assert_status(fill_with(dropped, &outside, 9.0f), WEIR_OUT_OF_RANGE);
    weir_session_destroy(dropped);
    assert_int_equal(weir_residency_counted(set).rolled_back, 1);
    assert_int_equal(weir_residency_counted(set).members, 0);
    assert_counts(c, &x, 1.0f, 1.0f);
    assert_int_equal(weir_residency_counted(set).adds_applied, 0);
    weir_residency_destroy(set);
}

// Memory released and allocated again while a session records: no hazard of what was there before,
// and none lost of what is there now.
static void conflict_tracker_reallocated_while_recording(void** state) {
    const conformance* c = *state;
    const weir_view kept = first_floats(c, 0, 64);
    for (int round = 0; round < 20; round++) {
        const uint64_t waits = weir_session_counters(c->session)->waits;
        for (int i = 0; i < 3; i++) {
            weir_storage* storage = allocate_zeros(c->device, 64 * sizeof(float));
            const weir_view view = floats_of(storage, 0, 64);
            assert_ok(fill_with(c->session, &view, (float)(round * 3 + i)));
            if (i == 2) {
                assert_ok(weir_session_copy(c->session, &view, &kept));
            }
            weir_storage_release(storage);
        }
        assert_ok(weir_session_finish(c->session)); // the fills run together, the copy after one
        assert_int_equal(weir_session_counters(c->session)->waits - waits, 1);
        assert_counts(c, &kept, (float)(round * 3 + 2), 0.0f);
    }
}

typedef struct meeting {
    atomic_uint* arrived;
    atomic_bool* missed;
} meeting;

static weir_status meet(const weir_kernel_call* call) {
    const meeting* m = call->constants;
    const uint64_t begin = now_ns();
    atomic_fetch_add(m->arrived, 1);
    while (atomic_load(m->arrived) < 2 && !atomic_load(m->missed)) {
        if (now_ns() - begin > UINT64_C(20000000000)) {
            atomic_store(m->missed, true);
        }
    }
    return WEIR_OK;
}

static weir_status dispatch(weir_session* session, weir_kernel_fn kernel, weir_view view,
                            weir_access_kind kind, const void* constants, size_t constants_size) {
    const weir_operand operand = {view, kind};
    const weir_dispatch_desc desc = {.name = "kernel of the caller",
                                     .kernel = kernel,
                                     .operands = &operand,
                                     .operand_count = 1,
                                     .constants = constants,
                                     .constants_size = constants_size};
    return weir_session_dispatch(session, &desc, NULL);
}

// Two kernels wait for each other's flag: in one group, then in passes of two sessions. Writers of
// disjoint bytes of one storage run together, and so do readers of the same.
static void conflict_tracker_independent_dispatches_run_together(void** state) {
    const conformance* c = *state;
    need_execution(c);
    if (!c->runs_functions) {
        skip_because("nothing promises that one dispatch goes on while another runs");
    }
    weir_session* other = NULL;
    assert_ok(weir_session_create(c->device, &other));
    for (int round = 0; round < 60; round++) {
        atomic_uint arrived = 0;
        atomic_bool missed = false;
        const meeting m = {&arrived, &missed};
        const bool readers = round % 2 == 0;
        weir_session* second = round % 3 == 0 ? other : c->session;
        const weir_access_kind kind = readers ? WEIR_ACCESS_READ : WEIR_ACCESS_WRITE;
        weir_ticket tickets[2];
        assert_ok(dispatch(c->session, meet, first_floats(c, 0, 8), kind, &m, sizeof m));
        if (second == other) {
            assert_ok(weir_session_commit(c->session, &tickets[0]));
        }
        assert_ok(dispatch(second, meet, first_floats(c, readers ? 0 : 8, 8), kind, &m, sizeof m));
        assert_ok(weir_session_commit(second, &tickets[1]));
        assert_ok(weir_ticket_wait(tickets[1], WEIR_WAIT_FOREVER));
        if (second == other) {
            assert_ok(weir_ticket_wait(tickets[0], WEIR_WAIT_FOREVER));
        }
        assert_false(atomic_load(&missed));
    }
    weir_session_destroy(other);
}

typedef struct guard {
    atomic_int* inside;
    atomic_int* overlaps;
} guard;

static weir_status enter_alone(const weir_kernel_call* call) {
    const guard* g = call->constants;
    if (atomic_fetch_add(g->inside, 1) != 0) {
        atomic_fetch_add(g->overlaps, 1);
    }
    sleep_us(100);
    *(float*)call->pointers[0] += 1.0f;
    atomic_fetch_sub(g->inside, 1);
    return WEIR_OK;
}

#define RIPPLES 65536 // elements
#define RIPPLE_GROUP 64

// Code cannot look around; but every dispatch reads what all workgroups of the one before wrote,
// and writes what they read.
static void check_pairs_of_code(const conformance* c) {
    weir_session* sessions[2] = {c->session, NULL};
    weir_storage* storage = allocate_zeros(c->device, 2 * RIPPLES * sizeof(float));
    const weir_view halves[2] = {floats_of(storage, 0, RIPPLES),
                                 floats_of(storage, RIPPLES * sizeof(float), RIPPLES)};
    static float numbers[RIPPLES];
    weir_ticket last = {0};
    assert_ok(weir_session_create(c->device, &sessions[1]));
    for (int i = 0; i < 100; i++) {
        weir_session* session = sessions[i / 2 % 2];
        assert_ok(run_code(session, ripple_words, sizeof ripple_words, &halves[i % 2],
                           &halves[(i + 1) % 2], RIPPLES / RIPPLE_GROUP, RIPPLES));
        if (i % 2 == 1) {
            assert_ok(weir_session_commit(session, &last));
        }
    }
    assert_ok(weir_ticket_wait(last, WEIR_WAIT_FOREVER));
    get(c, &halves[0], numbers);
    for (int i = 0; i < RIPPLES; i++) {
        assert_true(numbers[i] == 100.0f);
    }
    weir_session_destroy(sessions[1]);
    weir_storage_release(storage);
}

// A conflicting pair never overlaps in time: within a pass, and across passes of two sessions.
static void conflict_tracker_conflicting_pair_never_overlaps(void** state) {
    const conformance* c = *state;
    need_execution(c);
    if (!c->runs_functions) {
        check_pairs_of_code(c);
        return;
    }
    weir_session* sessions[2] = {c->session, NULL};
    atomic_int inside = 0;
    atomic_int overlaps = 0;
    const guard g = {&inside, &overlaps};
    weir_ticket last = {0};
    assert_ok(weir_session_create(c->device, &sessions[1]));
    for (int i = 0; i < 100; i++) {
        weir_session* session = sessions[i / 2 % 2];
        assert_ok(dispatch(session, enter_alone, first_floats(c, 0, 1 + i % 3),
                           WEIR_ACCESS_READ_WRITE, &g, sizeof g));
        if (i % 2 == 1) {
            assert_ok(weir_session_commit(session, &last));
        }
    }
    assert_ok(weir_ticket_wait(last, WEIR_WAIT_FOREVER));
    assert_int_equal(atomic_load(&overlaps), 0);
    const weir_view first = first_floats(c, 0, 1);
    assert_counts(c, &first, 100.0f, 0.0f);
    weir_session_destroy(sessions[1]);
}

int conformance_conflict_tracker(void) {
    const struct CMUnitTest cases[] = {
        conformance_case(conflict_tracker_records_reads_and_writes),
        conformance_case(conflict_tracker_dag_as_well_as_groups),
        conformance_case(conflict_tracker_undeclared_is_a_full_fence),
        conformance_case(conflict_tracker_finish_is_the_only_sync_point),
        conformance_case(conflict_tracker_passes_keep_their_order),
        conformance_case(conflict_tracker_dropped_on_error),
        conformance_case(conflict_tracker_reallocated_while_recording),
        conformance_case(conflict_tracker_independent_dispatches_run_together),
        conformance_case(conflict_tracker_conflicting_pair_never_overlaps),
    };
    return cmocka_run_group_tests_name("ConflictTracker", cases, NULL, NULL);
}
