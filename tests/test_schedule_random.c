// Schedules of random graphs: every mode passes the check, and the check finds what is wrong.
#include "schedule_testing.h"

#include "random_graph.h"
#include "testing_allocator.h"

static void a_schedule_outlives_its_graph(void** state) {
    (void)state;
    test_random random = {7};
    random_graph made = random_graph_make(&random, 20);
    weir_target target;
    assert_ok(weir_target_find("cpu", &target));
    weir_schedule* schedule =
        schedule_with(made.graph, &target, (weir_schedule_options){.reuse = WEIR_REUSE_FREE});
    weir_graph_destroy(made.graph);
    assert_ok(weir_schedule_check(schedule));
    assert_string_equal(weir_schedule_value(schedule, made.square)->name, "square");
    weir_schedule_destroy(schedule);
}

static uint64_t aligned_total(const weir_schedule* schedule) {
    uint64_t total = 0;
    for (weir_value value = 0; value < schedule->values.count; value++) {
        const weir_placement* place = &schedule->placements[value];
        if (schedule->values.items[value].kind != WEIR_VALUE_VIEW &&
            place->region == WEIR_REGION_ARENA) {
            total += (place->byte_size + 63) / 64 * 64;
        }
    }
    return total;
}

static void check_random_outputs(const weir_schedule* schedule, const random_graph* made) {
    for (uint32_t i = 0; i < made->output_count; i++) {
        const weir_placement place = place_of(schedule, made->outputs[i]);
        assert_int_equal(place.region, WEIR_REGION_OUTPUT);
        assert_int_equal(place.byte_offset % 64, 0);
        for (uint32_t k = 0; k < i; k++) {
            assert_false(share_bytes(place, place_of(schedule, made->outputs[k])));
        }
    }
}

// Every mode on one graph: each passes the check (schedule_with asserts that), reuse adds no wait
// unless it is asked to, and the figures of the modes fit together.
static void check_modes(const random_graph* made, const weir_target* target) {
    weir_schedule* none =
        schedule_with(made->graph, target, (weir_schedule_options){.reuse = WEIR_REUSE_NONE});
    weir_schedule* free_reuse = schedule_with(made->graph, target, (weir_schedule_options){0});
    weir_schedule* serial =
        schedule_with(made->graph, target, (weir_schedule_options){.reuse = WEIR_REUSE_SERIAL});
    weir_schedule* apart =
        schedule_with(made->graph, target, (weir_schedule_options){.never_in_place = true});
    weir_schedule* fenced =
        schedule_with(made->graph, target, (weir_schedule_options){.fence_all = true});
    assert_int_equal(none->report.residual_edges, 0);
    assert_int_equal(free_reuse->report.residual_edges, 0);
    assert_int_equal(apart->report.residual_edges, 0);
    assert_int_equal(fenced->report.residual_edges, 0);
    assert_int_equal(free_reuse->report.waits, none->report.waits);
    assert_int_equal(free_reuse->report.edges, none->report.edges);
    assert_int_equal(apart->report.in_place, 0);
    assert_true(serial->report.waits >= free_reuse->report.waits);
    assert_int_equal(fenced->report.waits, fenced->report.dispatches - 1);
    assert_int_equal((none->report.arena_bytes + 63) / 64 * 64, aligned_total(none));
    assert_true(free_reuse->report.arena_bytes <= none->report.arena_bytes);
    assert_true(free_reuse->report.bound_bytes <= free_reuse->report.arena_bytes);
    assert_int_equal(serial->report.serial_bytes, serial->report.arena_bytes);
    check_random_outputs(free_reuse, made);
    check_random_outputs(serial, made);
    if (target->waits == WEIR_WAIT_EDGES) { // groups number the dispatches in their own order
        assert_int_equal(free_reuse->report.serial_bytes, serial->report.arena_bytes);
        assert_int_equal(none->report.serial_bytes, serial->report.arena_bytes);
    }
    weir_schedule_destroy(none);
    weir_schedule_destroy(free_reuse);
    weir_schedule_destroy(serial);
    weir_schedule_destroy(apart);
    weir_schedule_destroy(fenced);
}

static void random_graphs_pass_the_check_in_every_mode(void** state) {
    (void)state;
    test_random random = {11};
    weir_kernel kernels[64];
    weir_target cpu;
    assert_ok(weir_target_find("cpu", &cpu));
    uint32_t views = 0;
    for (int i = 0; i < 250; i++) {
        random_graph made = random_graph_make(&random, 4 + (uint32_t)random_below(&random, 40));
        weir_target target = i % 3 == 0 ? target_with_scratch(&cpu, WEIR_OP_MATMUL, kernels) : cpu;
        target.waits = i % 2 == 0 ? WEIR_WAIT_EDGES : WEIR_WAIT_GROUPS;
        check_modes(&made, &target);
        views += made.views;
        weir_graph_destroy(made.graph);
    }
    assert_true(views > 500);
}

static void serial_reuse_of_random_graphs_does_add_edges(void** state) {
    (void)state;
    test_random random = {13};
    weir_target target;
    assert_ok(weir_target_find("cpu", &target));
    uint32_t residual = 0;
    uint32_t in_place = 0;
    for (int i = 0; i < 50; i++) {
        random_graph made = random_graph_make(&random, 30);
        weir_schedule* serial =
            schedule_with(made.graph, &target, (weir_schedule_options){.reuse = WEIR_REUSE_SERIAL});
        residual += serial->report.residual_edges;
        in_place += serial->report.in_place;
        weir_schedule_destroy(serial);
        weir_graph_destroy(made.graph);
    }
    assert_true(residual > 50);
    assert_true(in_place > 50);
}

// Without an edge the pairs that it ordered are reported; the first of them ends at its dispatch.
static void any_edge_taken_out_of_a_random_graph_is_found_by_both_checks(void** state) {
    (void)state;
    test_random random = {17};
    weir_target target;
    assert_ok(weir_target_find("cpu", &target));
    uint32_t removed = 0;
    for (int i = 0; i < 40; i++) {
        random_graph made = random_graph_make(&random, 30);
        weir_schedule* schedule = schedule_with(
            made.graph, &target,
            (weir_schedule_options){.reuse = i % 2 ? WEIR_REUSE_SERIAL : WEIR_REUSE_FREE});
        removed += expect_each_edge(schedule, weir_schedule_check);
        weir_schedule_destroy(schedule);
        weir_graph_destroy(made.graph);
    }
    assert_true(removed > 400);
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void** state) {
    (void)state;
    test_random random = {19};
    weir_kernel kernels[64];
    weir_target cpu;
    assert_ok(weir_target_find("cpu", &cpu));
    random_graph made = random_graph_make(&random, 16);
    for (int mode = 0; mode < 4; mode++) {
        weir_target target = target_with_scratch(&cpu, WEIR_OP_MATMUL, kernels);
        target.waits = mode == 3 ? WEIR_WAIT_GROUPS : WEIR_WAIT_EDGES;
        const weir_schedule_options options = {.reuse = (weir_reuse)(mode % 3)};
        weir_status status = WEIR_OUT_OF_MEMORY;
        size_t step = 0;
        for (; status != WEIR_OK; step++) {
            test_allocator counter = {.fail_at = step};
            const weir_allocator allocator = test_allocator_of(&counter);
            weir_schedule* schedule = NULL;
            status = weir_schedule_create(&allocator, made.graph, &target, &options, &schedule);
            assert_true(status == WEIR_OK ? schedule != NULL : schedule == NULL);
            if (status != WEIR_OK) {
                assert_status(status, WEIR_OUT_OF_MEMORY);
            }
            weir_schedule_destroy(schedule);
            assert_int_equal(atomic_load(&counter.live_blocks), 0);
            assert_int_equal(atomic_load(&counter.live_bytes), 0);
        }
        assert_true(step > 50);
    }
    weir_graph_destroy(made.graph);
}

static void the_same_graph_gives_the_same_schedule(void** state) {
    (void)state;
    test_random random = {23};
    weir_target target;
    assert_ok(weir_target_find("cpu", &target));
    for (int i = 0; i < 30; i++) {
        random_graph made = random_graph_make(&random, 40);
        const weir_schedule_options options = {.reuse = (weir_reuse)(i % 3)};
        weir_schedule* a = schedule_with(made.graph, &target, options);
        weir_schedule* b = schedule_with(made.graph, &target, options);
        assert_memory_equal(&a->report, &b->report, sizeof a->report);
        assert_int_equal(a->edges.count, b->edges.count);
        if (a->edges.count > 0) {
            assert_memory_equal(a->edges.items, b->edges.items,
                                a->edges.count * sizeof a->edges.items[0]);
        }
        assert_memory_equal(a->edges.begins, b->edges.begins,
                            (a->dispatches.count + 1) * sizeof a->edges.begins[0]);
        for (weir_value value = 0; value < a->values.count; value++) {
            assert_int_equal(a->placements[value].region, b->placements[value].region);
            assert_int_equal(a->placements[value].byte_offset, b->placements[value].byte_offset);
            assert_int_equal(a->placements[value].byte_size, b->placements[value].byte_size);
        }
        weir_schedule_destroy(a);
        weir_schedule_destroy(b);
        weir_graph_destroy(made.graph);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_schedule_outlives_its_graph),
        cmocka_unit_test(random_graphs_pass_the_check_in_every_mode),
        cmocka_unit_test(serial_reuse_of_random_graphs_does_add_edges),
        cmocka_unit_test(any_edge_taken_out_of_a_random_graph_is_found_by_both_checks),
        cmocka_unit_test(each_failing_allocation_is_reported_and_leaks_nothing),
        cmocka_unit_test(the_same_graph_gives_the_same_schedule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
