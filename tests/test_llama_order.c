// Schedules of Llama shapes: as many waits as the data flow is deep, on devices that wait along
// edges and by boundaries, in no more bytes than the order needs, and each of the waits needed.
#include "schedule_testing.h"

#include <weir/explain.h>

#include "llama_shapes.h"

static const char* const targets[] = {"cpu", "barriers"};

static weir_schedule* plan(const llama_shape* shape, uint32_t rows, uint32_t context, bool split,
                           const char* name, weir_schedule_options options) {
    weir_target target;
    weir_schedule* schedule = NULL;
    weir_llama_graph pass = llama_shape_graph(shape, rows, context, split);
    assert_ok(weir_target_find(name, &target));
    assert_ok(weir_schedule_create(NULL, pass.graph, &target, &options, &schedule));
    weir_graph_destroy(pass.graph);
    return schedule;
}

typedef struct fusion_set {
    uint32_t without;
    uint32_t per_block, rest; // waits of the data flow, with attention in one operation
} fusion_set;

// Without fusion, with the one rewrite that others make as well, and with all.
static const fusion_set fusion_sets[] = {
    {WEIR_FUSION_ALL, 14, 4},
    {WEIR_FUSION_ALL & ~WEIR_FUSION_BIT(WEIR_FUSION_RMS_NORM_MUL), 12, 3},
    {0, 8, 3},
};

// Attention in three operations is two waits more (what is written by heads needs no copy to be
// read by rows).
static void check_shape(const llama_shape* shape, uint32_t rows, uint32_t context, bool split,
                        const char* name, const fusion_set* set) {
    weir_schedule* schedule = plan(shape, rows, context, split, name,
                                   (weir_schedule_options){.without_fusions = set->without});
    const weir_schedule_report* report = &schedule->report;
    assert_int_equal(report->depth, (set->per_block + (split ? 2 : 0)) * shape->blocks + set->rest);
    assert_int_equal(report->waits, report->depth);
    assert_int_equal(report->residual_edges, 0);
    assert_true(report->arena_bytes >= report->bound_bytes);
    assert_true(20 * report->arena_bytes <= 21 * report->bound_bytes);
    assert_ok(weir_schedule_check_plan(schedule));
    weir_schedule_destroy(schedule);
}

static void waits_are_the_depth_and_bytes_the_bound(void** state) {
    (void)state;
    const llama_shape* shapes[] = {&llama_110m, &llama_1100m};
    const uint32_t contexts[] = {512, 4096};
    for (uint32_t i = 0; i < 96; i++) {
        check_shape(shapes[i / 48], i / 24 % 2 ? 512 : 1, contexts[i / 12 % 2], i / 6 % 2,
                    targets[i / 3 % 2], &fusion_sets[i % 3]);
    }
}

// In the order of the graph the writes to the caches open groups of their own: one for each block.
static void the_order_of_the_graph_waits_once_more_in_each_block(void** state) {
    (void)state;
    const llama_shape* shapes[] = {&llama_110m, &llama_1100m};
    for (int i = 0; i < 2; i++) {
        weir_schedule* schedule = plan(
            shapes[i], 1, 512, false, "barriers",
            (weir_schedule_options){.order = WEIR_ORDER_GIVEN, .without_fusions = WEIR_FUSION_ALL});
        assert_true(schedule->report.waits >= schedule->report.depth + shapes[i]->blocks);
        weir_schedule_destroy(schedule);
    }
}

// The quadratic check reports the dispatch that has lost the edge. Large shapes are sampled here:
// WEIR_LONG in the environment takes out every edge, and test_llama_schedule those of decoding.
static void any_edge_taken_out_is_reported(void** state) {
    (void)state;
    const bool all = getenv("WEIR_LONG") != NULL;
    const llama_shape* shapes[] = {&llama_260k, &llama_110m, &llama_1100m};
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 4; k++) {
            weir_schedule* schedule =
                plan(shapes[i], k % 2 ? 512 : 1, 512, k / 2, "cpu", (weir_schedule_options){0});
            const uint32_t step = all || i == 0 ? 1 : 7 + 12 * (uint32_t)i;
            for (uint32_t edge = 0; edge < schedule->report.edges; edge += step) {
                const uint32_t earlier = schedule->edges.items[edge];
                const uint32_t later = remove_edge(schedule, edge);
                assert_status(weir_schedule_check_pairs(schedule), WEIR_INTERNAL);
                assert_names_dispatch(schedule, later);
                restore_edge(schedule, edge, earlier, later);
            }
            assert_ok(weir_schedule_check(schedule));
            weir_schedule_destroy(schedule);
        }
    }
}

static void any_boundary_taken_out_is_reported(void** state) {
    (void)state;
    const bool all = getenv("WEIR_LONG") != NULL;
    const llama_shape* shapes[] = {&llama_260k, &llama_110m, &llama_1100m};
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 4; k++) {
            weir_schedule* schedule = plan(shapes[i], k % 2 ? 512 : 1, 512, k / 2, "barriers",
                                           (weir_schedule_options){0});
            const uint32_t step = all || i * k == 0 ? 1 : 7 + 12 * (uint32_t)i;
            for (uint32_t b = 1; b < weir_schedule_groups(schedule); b += step) {
                const uint32_t begin = remove_boundary(schedule, b);
                assert_status(weir_schedule_check_pairs(schedule), WEIR_INTERNAL);
                restore_boundary(schedule, begin);
            }
            assert_ok(weir_schedule_check(schedule));
            weir_schedule_destroy(schedule);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_are_the_depth_and_bytes_the_bound),
        cmocka_unit_test(the_order_of_the_graph_waits_once_more_in_each_block),
        cmocka_unit_test(any_edge_taken_out_is_reported),
        cmocka_unit_test(any_boundary_taken_out_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
