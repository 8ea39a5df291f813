// Schedules of Llama shapes: as many waits as the data flow is deep, on devices that wait along
// edges and by boundaries, in no more bytes than the order needs, and each of the waits needed.
#include "schedule_testing.h"

#include <weir/weir.h>

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

// Vulkan has kernels for other fusions than the processor, and boundaries: planning needs no GPU.
static void boundaries_on_vulkan_are_the_depth(void** state) {
    (void)state;
    const llama_shape* shapes[] = {&llama_110m, &llama_1100m};
    weir_target target;
    if (weir_target_find("vulkan", &target) != WEIR_OK) {
        print_message("skipped: %s\n", weir_last_error());
        skip();
    }
    for (uint32_t i = 0; i < 12; i++) {
        const weir_schedule_options options = {.without_fusions = fusion_sets[i % 3].without};
        weir_schedule* schedule =
            plan(shapes[i / 6], i / 3 % 2 ? 512 : 1, 512, false, "vulkan", options);
        assert_true(schedule->report.depth > 2 * shapes[i / 6]->blocks);
        assert_int_equal(schedule->report.waits, schedule->report.depth);
        assert_ok(weir_schedule_check_plan(schedule));
        weir_schedule_destroy(schedule);
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

// A model of random weights on a device, its passes planned in one way.
typedef struct running {
    weir_device* device;
    weir_llama_graph pass;
    weir_schedule* schedule;
    weir_storage* weights;
    weir_storage* states;
    weir_program* program;
} running;

#define ROWS 8
#define POINTS 16

// Every weight and every state gets its part of one storage of its kind.
static uint32_t bind_parts(const running* r, weir_binding* bindings) {
    uint64_t ends[2] = {0, 0};
    uint32_t count = 0;
    for (weir_value value = 0; value < weir_graph_value_count(r->pass.graph); value++) {
        const weir_value_info* info = weir_graph_value_info(r->pass.graph, value);
        if (info->kind == WEIR_VALUE_WEIGHT || info->kind == WEIR_VALUE_STATE) {
            const int kind = info->kind == WEIR_VALUE_STATE;
            bindings[count].value = value;
            assert_ok(weir_view_make(kind ? r->states : r->weights, ends[kind], info->layout.dtype,
                                     &info->layout.shape, &bindings[count].view));
            ends[kind] += (weir_view_byte_span(&info->layout) + 63) / 64 * 64;
            count++;
        }
    }
    return count;
}

static running open_running(const char* name, uint32_t threads, weir_schedule_options options) {
    running r = {.pass = llama_shape_graph(&llama_260k, ROWS, 64, true)};
    weir_target target;
    weir_binding bindings[128];
    test_random random = {5};
    assert_ok(
        weir_device_create(&(weir_device_desc){.name = "cpu", .thread_count = threads}, &r.device));
    assert_ok(weir_target_find(name, &target));
    assert_ok(weir_schedule_create(NULL, r.pass.graph, &target, &options, &r.schedule));
    const weir_schedule_report* report = weir_schedule_report_of(r.schedule);
    const weir_storage_desc weights = {.byte_size = report->weight_bytes + 128 * 64};
    const weir_storage_desc states = {.byte_size = report->state_bytes + 128 * 64,
                                      .fill = WEIR_FILL_ZERO};
    assert_ok(weir_storage_allocate(r.device, &weights, &r.weights));
    assert_ok(weir_storage_allocate(r.device, &states, &r.states));
    float* numbers = weir_storage_host_pointer(r.weights);
    for (uint64_t i = 0; i < weights.byte_size / sizeof(float); i++) {
        numbers[i] = 0.3f * random_unit(&random);
    }
    const weir_program_desc desc = {
        .schedule = r.schedule, .bindings = bindings, .binding_count = bind_parts(&r, bindings)};
    assert_ok(weir_program_create(r.device, &desc, &r.program));
    return r;
}

static void close_running(running* r) {
    weir_program_destroy(r->program);
    weir_schedule_destroy(r->schedule);
    weir_graph_destroy(r->pass.graph);
    weir_storage_release(r->weights);
    weir_storage_release(r->states);
    weir_device_destroy(r->device);
}

// Two passes of several rows, then two of one; the logits of all of them.
static void run_passes(const running* r, float logits[4][512]) {
    uint64_t position = 0;
    for (uint32_t pass = 0; pass < 4; pass++) {
        const uint32_t rows = pass < 2 ? ROWS - pass : 1;
        int32_t ids[ROWS];
        uint64_t params[3];
        for (uint32_t i = 0; i < rows; i++) {
            ids[i] = (int32_t)((position + i) * 37 % 512);
        }
        const int32_t last = (int32_t)rows - 1;
        assert_ok(weir_program_write(r->program, r->pass.tokens, ids, rows * sizeof *ids));
        assert_ok(weir_program_write(r->program, r->pass.output_rows, &last, sizeof last));
        params[r->pass.position] = position;
        params[r->pass.rows] = rows;
        params[r->pass.outputs] = 1;
        assert_ok(weir_program_run(r->program, params, 3));
        memcpy(logits[pass], weir_program_contents(r->program, r->pass.logits), sizeof logits[0]);
        position += rows;
    }
}

static void every_point_between_bytes_and_waits_gives_the_same_bits(void** state) {
    (void)state;
    static float expected[4][512];
    static float logits[4][512];
    running reference = open_running(
        "cpu", 1, (weir_schedule_options){.reuse = WEIR_REUSE_NONE, .fence_all = true});
    run_passes(&reference, expected);
    uint32_t total = 0;
    for (int i = 0; i < 2; i++) {
        weir_target target;
        weir_tradeoff_point points[POINTS];
        uint32_t count = 0;
        assert_ok(weir_target_find(targets[i], &target));
        assert_ok(weir_schedule_tradeoff(NULL, reference.pass.graph, &target, NULL, points, POINTS,
                                         &count));
        for (uint32_t k = 0; k < 4 * count; k++) {
            const weir_tradeoff_point* point = &points[k / 4];
            running r = open_running(
                targets[i], 1 + k % 4,
                (weir_schedule_options){.order = point->order, .byte_budget = point->byte_budget});
            assert_int_equal(r.schedule->report.arena_bytes, point->arena_bytes);
            run_passes(&r, logits);
            assert_memory_equal(logits, expected, sizeof expected);
            assert_memory_equal(weir_storage_host_pointer(r.states),
                                weir_storage_host_pointer(reference.states),
                                weir_storage_byte_size(r.states));
            close_running(&r);
        }
        total += count;
    }
    assert_true(total > 2);
    close_running(&reference);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_are_the_depth_and_bytes_the_bound),
        cmocka_unit_test(boundaries_on_vulkan_are_the_depth),
        cmocka_unit_test(the_order_of_the_graph_waits_once_more_in_each_block),
        cmocka_unit_test(any_edge_taken_out_is_reported),
        cmocka_unit_test(any_boundary_taken_out_is_reported),
        cmocka_unit_test(every_point_between_bytes_and_waits_gives_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
