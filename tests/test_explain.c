// Explanations: every wait of a schedule has a reason or a way, and shared bytes an order.
#include "testing.h"

#include <weir/explain.h>

#include "json_reader.h"
#include "random_graph.h"
#include "schedule/schedule.h"
#include "testing_allocator.h"

typedef struct fixture {
    weir_graph* graph;
    weir_target target;
    weir_param position;
    weir_value x, z;   // inputs F32 [4, 32]
    weir_value square; // weight F32 [32, 32]
    weir_value cache;  // state F32 [8, 32]
} fixture;

static weir_shape shape2(int64_t a, int64_t b) {
    return weir_shape_make(2, (int64_t[]){a, b});
}

static int make_graph(void** state) {
    static fixture f;
    const weir_shape shape = shape2(4, 32);
    const weir_shape square = shape2(32, 32);
    const weir_shape cache = shape2(8, 32);
    const weir_dtype f32 = WEIR_DTYPE_F32;
    assert_ok(weir_target_find("cpu", &f.target));
    assert_ok(weir_graph_create(NULL, &f.graph));
    assert_ok(weir_graph_param(f.graph, "position", 0, 3, &f.position));
    assert_ok(weir_graph_input(f.graph, "x", f32, &shape, WEIR_PARAM_NONE, &f.x));
    assert_ok(weir_graph_input(f.graph, "z", f32, &shape, WEIR_PARAM_NONE, &f.z));
    assert_ok(weir_graph_weight(f.graph, "square", f32, &square, &f.square));
    assert_ok(weir_graph_state(f.graph, "cache", f32, &cache, &f.cache));
    *state = &f;
    return 0;
}

static int drop_graph(void** state) {
    weir_graph_destroy(((fixture*)*state)->graph);
    return 0;
}

static weir_value norm(const fixture* f, weir_value x) {
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_rms_norm(f->graph, x, 1e-5f, &y));
    return y;
}

static weir_value matmul(const fixture* f, weir_value x) {
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_matmul(f->graph, x, f->square, &y));
    return y;
}

static weir_schedule* schedule_of(const fixture* f, weir_schedule_options options) {
    weir_schedule* schedule = NULL;
    assert_ok(weir_schedule_create(NULL, f->graph, &f->target, &options, &schedule));
    return schedule;
}

static weir_why why_of(const weir_schedule* schedule, uint32_t earlier, uint32_t later) {
    weir_why why;
    assert_ok(weir_why_find(NULL, schedule, earlier, later, &why));
    return why;
}

static void an_edge_has_its_hazard_values_and_ranges(void** state) {
    const fixture* f = *state;
    const weir_value a = matmul(f, f->x);
    const weir_value b = matmul(f, a);
    weir_schedule* schedule = schedule_of(f, (weir_schedule_options){0});
    weir_why why = why_of(schedule, 0, 1);
    assert_true(why.ordered && why.edge && !why.fenced);
    assert_int_equal(why.path_count, 2);
    assert_int_equal(why.reason_count, 1);
    const weir_reason* reason = &why.reasons[0];
    assert_int_equal(reason->kind, WEIR_HAZARD_RAW);
    assert_int_equal(reason->earlier_value, a);
    assert_int_equal(reason->later_value, a);
    assert_int_equal(reason->region, WEIR_REGION_ARENA);
    assert_false(reason->reuse || reason->in_place);
    weir_placement place;
    assert_ok(weir_schedule_place(schedule, a, &place));
    assert_int_equal(reason->earlier_range.byte_offset, place.byte_offset);
    assert_int_equal(weir_range_end(&reason->later_range), place.byte_offset + 4 * 32 * 4);
    weir_why_free(&why);
    assert_null(why.reasons);
    weir_why_free(&why); // again: nothing
    weir_schedule_destroy(schedule);
    (void)b;
}

static void states_give_war_and_waw(void** state) {
    const fixture* f = *state;
    norm(f, f->cache);
    assert_ok(weir_graph_set_rows(f->graph, f->x, f->cache, f->position));
    assert_ok(weir_graph_set_rows(f->graph, f->z, f->cache, f->position));
    weir_schedule* schedule = schedule_of(f, (weir_schedule_options){0});
    const weir_hazard_kind kinds[] = {WEIR_HAZARD_WAR, WEIR_HAZARD_WAW};
    for (uint32_t i = 0; i < 2; i++) {
        weir_why why = why_of(schedule, i, i + 1);
        assert_int_equal(why.reason_count, 1);
        assert_int_equal(why.reasons[0].kind, kinds[i]);
        assert_int_equal(why.reasons[0].region, WEIR_REGION_STATE);
        assert_int_equal(why.reasons[0].later_value, f->cache);
        weir_why_free(&why);
    }
    weir_schedule_destroy(schedule);
}

static void what_waits_only_through_others_has_a_path(void** state) {
    const fixture* f = *state;
    matmul(f, matmul(f, matmul(f, f->x)));
    weir_schedule* schedule = schedule_of(f, (weir_schedule_options){.reuse = WEIR_REUSE_NONE});
    weir_why why = why_of(schedule, 0, 2);
    assert_true(why.ordered);
    assert_false(why.edge);
    assert_int_equal(why.reason_count, 0);
    assert_int_equal(why.path_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(why.path[i], i);
    }
    weir_why_free(&why);
    weir_schedule_destroy(schedule);
}

static void what_does_not_wait_has_no_path(void** state) {
    const fixture* f = *state;
    matmul(f, f->x);
    matmul(f, f->z);
    weir_schedule* schedule = schedule_of(f, (weir_schedule_options){0});
    weir_why why = why_of(schedule, 0, 1);
    assert_false(why.ordered || why.edge);
    assert_int_equal(why.reason_count + why.path_count, 0);
    weir_why_free(&why);
    weir_schedule_destroy(schedule);
}

static void a_wait_for_reuse_names_both_values(void** state) {
    const fixture* f = *state;
    const weir_value a = matmul(f, f->x);
    matmul(f, a);
    const weir_value c = matmul(f, f->z);
    matmul(f, c);
    weir_schedule* schedule = schedule_of(f, (weir_schedule_options){.reuse = WEIR_REUSE_SERIAL});
    assert_true(schedule->report.residual_edges > 0);
    weir_why why = why_of(schedule, 1, 2);
    assert_true(why.edge);
    assert_int_equal(why.reason_count, 1);
    assert_int_equal(why.reasons[0].kind, WEIR_HAZARD_WAR);
    assert_int_equal(why.reasons[0].earlier_value, a);
    assert_int_equal(why.reasons[0].later_value, c);
    assert_true(why.reasons[0].reuse);
    assert_false(why.reasons[0].in_place);
    weir_why_free(&why);
    weir_sharing sharing;
    assert_ok(weir_schedule_sharing(schedule, c, a, &sharing));
    assert_true(sharing.shares && sharing.ordered && !sharing.in_place && !sharing.same);
    assert_int_equal(sharing.earlier, a);
    assert_int_equal(sharing.later, c);
    assert_int_equal(sharing.last_use, 1);
    assert_int_equal(sharing.first_use, 2);
    assert_int_equal(sharing.byte_length, 4 * 32 * 4);
    weir_schedule_destroy(schedule);
}

static void in_place_is_told_from_reuse(void** state) {
    const fixture* f = *state;
    const weir_value a = matmul(f, f->x);
    const weir_value b = norm(f, a);
    const weir_value c = matmul(f, b);
    weir_schedule* schedule = schedule_of(f, (weir_schedule_options){0});
    assert_int_equal(schedule->report.in_place, 1);
    weir_why why = why_of(schedule, 0, 1);
    assert_int_equal(why.reason_count, 2); // the read of a, and the write of b upon it
    assert_true(why.reasons[1].reuse && why.reasons[1].in_place);
    assert_int_equal(why.reasons[1].kind, WEIR_HAZARD_WAW);
    weir_why_free(&why);
    weir_sharing sharing;
    assert_ok(weir_schedule_sharing(schedule, a, b, &sharing));
    assert_true(sharing.shares && sharing.in_place && sharing.ordered);
    assert_ok(weir_schedule_sharing(schedule, b, c, &sharing));
    assert_false(sharing.shares);
    assert_ok(weir_schedule_sharing(schedule, a, a, &sharing));
    assert_true(sharing.shares && sharing.same);
    assert_ok(weir_schedule_sharing(schedule, f->x, f->square, &sharing));
    assert_false(sharing.shares);
    weir_schedule_destroy(schedule);
}

static void a_fenced_schedule_says_so(void** state) {
    const fixture* f = *state;
    matmul(f, f->x);
    matmul(f, f->z);
    weir_schedule* schedule = schedule_of(f, (weir_schedule_options){.fence_all = true});
    weir_why why = why_of(schedule, 0, 1);
    assert_true(why.fenced && why.edge && why.ordered);
    weir_why_free(&why);
    weir_schedule_destroy(schedule);
}

static void wrong_questions_are_refused(void** state) {
    const fixture* f = *state;
    matmul(f, matmul(f, f->x));
    weir_schedule* schedule = schedule_of(f, (weir_schedule_options){0});
    weir_why why;
    weir_sharing sharing;
    assert_status(weir_why_find(NULL, schedule, 1, 0, &why), WEIR_INVALID_ARGUMENT);
    assert_status(weir_why_find(NULL, schedule, 1, 1, &why), WEIR_INVALID_ARGUMENT);
    assert_status(weir_why_find(NULL, schedule, 0, 2, &why), WEIR_NOT_FOUND);
    assert_status(weir_schedule_sharing(schedule, 0, 99, &sharing), WEIR_NOT_FOUND);
    assert_string_equal(weir_region_name((weir_region)7), "unknown");
    weir_schedule_destroy(schedule);
}

// The way is one along edges, and as long as there is one the dispatches are ordered.
static void check_why(const weir_schedule* schedule, uint32_t earlier, uint32_t later) {
    weir_why why = why_of(schedule, earlier, later);
    assert_int_equal(why.ordered, schedule_bit(&schedule->ancestors, later, earlier));
    assert_int_equal(why.ordered, why.path_count > 0);
    assert_true(why.ordered || why.reason_count == 0);
    assert_true(!why.edge ||
                why.reason_count > 0); // an edge of the reduced DAG has a direct reason
    for (uint32_t i = 1; i < why.path_count; i++) {
        weir_dispatch_info info;
        bool found = false;
        assert_ok(weir_schedule_dispatch(schedule, why.path[i], &info));
        for (uint32_t e = 0; e < info.predecessor_count; e++) {
            found |= info.predecessors[e] == why.path[i - 1];
        }
        assert_true(found);
    }
    if (why.path_count > 0) {
        assert_int_equal(why.path[0], earlier);
        assert_int_equal(why.path[why.path_count - 1], later);
    }
    weir_why_free(&why);
}

static uint32_t check_sharing(const weir_schedule* schedule) {
    uint32_t shared = 0;
    for (weir_value a = 0; a < schedule->values.count; a++) {
        for (weir_value b = 0; b < a; b++) {
            weir_sharing sharing;
            assert_ok(weir_schedule_sharing(schedule, a, b, &sharing));
            assert_true(!sharing.shares || sharing.same || sharing.ordered);
            shared += sharing.shares && !sharing.same;
        }
    }
    return shared;
}

static void every_wait_of_random_graphs_is_explained(void** state) {
    (void)state;
    test_random random = {23};
    weir_target target;
    uint32_t shared = 0;
    assert_ok(weir_target_find("cpu", &target));
    for (int i = 0; i < 600; i++) {
        random_graph made = random_graph_make(&random, 25);
        const weir_schedule_options options = {.reuse = (weir_reuse)(i % 3)};
        weir_schedule* schedule = NULL;
        assert_ok(weir_schedule_create(NULL, made.graph, &target, &options, &schedule));
        for (uint32_t later = 1; later < schedule->report.dispatches; later++) {
            for (uint32_t earlier = 0; earlier < later; earlier++) {
                check_why(schedule, earlier, later);
            }
        }
        shared += check_sharing(schedule);
        weir_schedule_destroy(schedule);
        weir_graph_destroy(made.graph);
    }
    assert_true(shared > 2000);
}

typedef struct sink {
    char text[65536];
    size_t length;
    size_t room; // bytes taken before writing is refused
} sink;

static bool take(void* context, const char* bytes, size_t length) {
    sink* s = context;
    if (s->length + length > s->room) {
        return false;
    }
    memcpy(s->text + s->length, bytes, length);
    s->length += length;
    s->text[s->length] = '\0';
    return true;
}

static void the_schedule_is_one_json_object(void** state) {
    const fixture* f = *state;
    static sink s;
    const weir_value a = matmul(f, f->x);
    assert_ok(weir_graph_name(f->graph, a, "\"a\"\n\x80"));
    assert_ok(weir_graph_set_rows(f->graph, norm(f, a), f->cache, f->position));
    weir_schedule* schedule = schedule_of(f, (weir_schedule_options){0});
    s = (sink){.room = sizeof s.text - 1};
    assert_ok(weir_schedule_json(schedule, take, &s));
    assert_json(s.text);
    assert_int_equal(count_of(s.text, "\"dispatch\": "), 3);
    assert_int_equal(count_of(s.text, "\"root\": "), schedule->values.count);
    assert_non_null(strstr(s.text, "\"name\": \"\\\"a\\\"\\u000a\\ufffd\""));
    assert_non_null(strstr(s.text, "\"predecessors\": [1]"));
    assert_non_null(strstr(s.text, "\"access\": \"write\", \"range\": {\"region\": \"state\""));
    assert_non_null(strstr(s.text, "\"boundaries\": []"));
    s = (sink){.room = 8};
    assert_status(weir_schedule_json(schedule, take, &s), WEIR_IO);
    weir_schedule_destroy(schedule);
    weir_target target = f->target;
    target.waits = WEIR_WAIT_GROUPS;
    assert_ok(weir_schedule_create(NULL, f->graph, &target, NULL, &schedule));
    s = (sink){.room = sizeof s.text - 1};
    assert_ok(weir_schedule_json(schedule, take, &s));
    assert_json(s.text);
    // The rows are read and, in place, overwritten; then read by what stores them.
    assert_int_equal(count_of(s.text, "\"boundary\": "), 3);
    assert_non_null(strstr(s.text, "\"boundary\": 1, \"earlier\": 0, \"later\": 1, "
                                   "\"hazard\": \"RAW\""));
    weir_schedule_destroy(schedule);
}

static void a_failing_allocation_leaks_nothing(void** state) {
    const fixture* f = *state;
    matmul(f, matmul(f, matmul(f, f->x)));
    weir_schedule* schedule = schedule_of(f, (weir_schedule_options){0});
    size_t failures = 0;
    weir_status status = WEIR_OUT_OF_MEMORY;
    for (; status != WEIR_OK; failures++) {
        test_allocator counter = {.fail_at = failures};
        const weir_allocator allocator = test_allocator_of(&counter);
        weir_why why;
        status = weir_why_find(&allocator, schedule, 0, 2, &why);
        if (status == WEIR_OK) {
            weir_why_free(&why);
        }
        assert_int_equal(counter.live_blocks, 0);
        assert_int_equal(counter.live_bytes, 0);
    }
    assert_int_equal(failures, 4);
    weir_schedule_destroy(schedule);
}

#define with_graph(test) cmocka_unit_test_setup_teardown(test, make_graph, drop_graph)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_graph(an_edge_has_its_hazard_values_and_ranges),
        with_graph(states_give_war_and_waw),
        with_graph(what_waits_only_through_others_has_a_path),
        with_graph(what_does_not_wait_has_no_path),
        with_graph(a_wait_for_reuse_names_both_values),
        with_graph(in_place_is_told_from_reuse),
        with_graph(a_fenced_schedule_says_so),
        with_graph(wrong_questions_are_refused),
        cmocka_unit_test(every_wait_of_random_graphs_is_explained),
        with_graph(the_schedule_is_one_json_object),
        with_graph(a_failing_allocation_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
