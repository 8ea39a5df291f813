// Schedules of real shapes: the waits are those of the data flow, and each one is needed.
#include "schedule_testing.h"

#include "llama_shapes.h"

typedef struct model_shape {
    llama_shape shape;
    uint32_t waits; // the depth of the data flow of single operations: 14 per block and 4
    uint32_t fused; // and of what is left by fusion: 8 per block and 3
} model_shape;

static const model_shape shapes[] = {
    {{"demo", 256, 7, 8, 4, 704, 4000}, 102, 59},
    {{"110M", 768, 12, 12, 12, 2048, 32000}, 172, 99},
    {{"1.1B", 2048, 22, 32, 4, 5632, 32000}, 312, 179},
};

#define SHAPES (sizeof shapes / sizeof *shapes)

// Plans a pass without any weights.
static weir_schedule* plan(const model_shape* model, uint32_t rows, uint32_t without_fusions) {
    const weir_schedule_options options = {.without_fusions = without_fusions};
    weir_llama_graph pass = llama_shape_graph(&model->shape, rows, 512, false);
    weir_target target;
    weir_schedule* schedule = NULL;
    assert_ok(weir_target_find("cpu", &target));
    assert_ok(weir_schedule_create(NULL, pass.graph, &target, &options, &schedule));
    weir_graph_destroy(pass.graph);
    return schedule;
}

static void check_waits(const model_shape* shape, uint32_t rows, bool fused) {
    weir_schedule* schedule = plan(shape, rows, fused ? 0 : WEIR_FUSION_ALL);
    const weir_schedule_report* report = &schedule->report;
    assert_int_equal(report->waits, fused ? shape->fused : shape->waits);
    assert_int_equal(report->waits,
                     fused ? 8 * shape->shape.blocks + 3 : 14 * shape->shape.blocks + 4);
    assert_int_equal(report->residual_edges, 0);
    assert_true(report->arena_bytes >= report->bound_bytes);
    assert_true(20 * report->arena_bytes <= 21 * report->bound_bytes);
    assert_ok(weir_schedule_check(schedule));
    weir_schedule_destroy(schedule);
}

static void waits_are_those_of_the_data_flow(void** state) {
    (void)state;
    for (size_t i = 0; i < SHAPES; i++) {
        for (uint32_t rows = 1; rows <= 512; rows += 511) {
            check_waits(&shapes[i], rows, false);
            check_waits(&shapes[i], rows, true);
        }
    }
}

// With the one rewrite that others make as well, as many waits as there: 12 per block and 3.
static void each_rewrite_takes_out_its_waits(void** state) {
    (void)state;
    static const struct {
        uint32_t fusions;
        uint32_t per_block;
        uint32_t rest;
    } cases[] = {
        {WEIR_FUSION_BIT(WEIR_FUSION_RMS_NORM_MUL), 12, 3},
        {WEIR_FUSION_BIT(WEIR_FUSION_MATMUL_ADD), 12, 4},
        {WEIR_FUSION_BIT(WEIR_FUSION_GATE_UP), 13, 4},
        {WEIR_FUSION_BIT(WEIR_FUSION_ROPE_SET_ROWS), 13, 4},
        {WEIR_FUSION_ALL & ~WEIR_FUSION_BIT(WEIR_FUSION_MATMUL_ADD), 8, 3},
    };
    const model_shape* shape = &shapes[SHAPES - 1];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weir_schedule* schedule = plan(shape, 1, WEIR_FUSION_ALL & ~cases[i].fusions);
        assert_int_equal(schedule->report.waits,
                         cases[i].per_block * shape->shape.blocks + cases[i].rest);
        weir_schedule_destroy(schedule);
    }
}

// The quadratic check reports the dispatch that has lost the edge beside the first, by number, that
// it is no longer ordered with; the tracked one, which is told of the order without that one pair,
// reports exactly that.
static void any_edge_taken_out_is_reported(void** state) {
    (void)state;
    for (size_t i = 0; i < 2 * SHAPES; i++) {
        weir_schedule* schedule = plan(&shapes[i / 2], 1, i % 2 ? WEIR_FUSION_ALL : 0);
        expect_each_edge(schedule, weir_schedule_check_pairs);
        weir_schedule_destroy(schedule);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_are_those_of_the_data_flow),
        cmocka_unit_test(each_rewrite_takes_out_its_waits),
        cmocka_unit_test(any_edge_taken_out_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
