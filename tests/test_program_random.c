// What a pass computes depends neither on threads nor on the schedule: random graphs, in every mode
// and at every point between bytes and waits, equal bit for bit.
#include "random_instance.h"

#include <math.h>

#define MODES 13
#define POINTS 16

static void delay_tile(void* context, uint32_t worker, const char* name, uint32_t dispatch,
                       uint32_t tile, bool begin) {
    const uint64_t* seed = context;
    uint64_t choice = (*seed + dispatch * 64 + tile * 2 + begin) * 0x9E3779B97F4A7C15u;
    (void)name;
    (void)worker;
    choice >>= 48;
    if (choice % 16 == 0) {
        sleep_us(choice % 50);
    }
}

static void results_depend_neither_on_threads_nor_on_the_schedule(void** state) {
    (void)state;
    test_random random = {59};
    static const struct {
        const char* target;
        weir_schedule_options options;
        bool small_blocks;
    } modes[MODES] = {
        {"cpu", {0}, false},
        {"cpu", {.reuse = WEIR_REUSE_SERIAL}, false},
        {"cpu", {.fence_all = true}, false},
        {"cpu", {.never_in_place = true}, false},
        {"cpu", {.order = WEIR_ORDER_BYTES}, false},
        {"barriers", {0}, false},
        {"barriers", {.reuse = WEIR_REUSE_SERIAL}, false},
        {"barriers", {.order = WEIR_ORDER_GIVEN}, false},
        {"barriers", {.order = WEIR_ORDER_BYTES}, false},
        {"cpu", {0}, true},
        {"cpu", {.reuse = WEIR_REUSE_SERIAL}, true},
        {"barriers", {0}, true},
        {"barriers", {.order = WEIR_ORDER_BYTES}, true},
    };
    uint32_t blocks = 0;
    for (uint32_t round = 0; round < 24; round++) {
        random_graph made = random_graph_make(&random, 10 + (uint32_t)random_below(&random, 30));
        instance reference = open_instance(
            &made, 1, "cpu", (weir_schedule_options){.reuse = WEIR_REUSE_NONE, .fence_all = true});
        instance others[MODES];
        uint64_t seed = round;
        for (uint32_t i = 0; i < MODES; i++) {
            others[i] = open_instance_in(&made, 1 + (round + i) % 4, modes[i].target,
                                         modes[i].options, modes[i].small_blocks);
            blocks += weir_arena_block_count(others[i].arena);
            assert_ok(
                weir_device_set_tile_hook(others[i].device, round % 2 ? delay_tile : NULL, &seed));
        }
        for (uint64_t pass = 0; pass < 3; pass++) {
            const uint64_t params[2] = {1 + random_below(&random, RANDOM_ROWS),
                                        random_below(&random, RANDOM_POSITION + 1)};
            run_instance(&reference, round * 8 + pass + 1, params, 0);
            for (uint32_t i = 0; i < MODES; i++) {
                run_instance(&others[i], round * 8 + pass + 1, params, 0xFF);
                assert_same_bytes(&reference, &others[i], params);
            }
        }
        for (uint32_t i = 0; i < MODES; i++) {
            close_instance(&others[i]);
        }
        close_instance(&reference);
        weir_graph_destroy(made.graph);
    }
    assert_true(blocks > 24 * (MODES + 8)); // of those in small blocks three, on average
}

// The points of one target, on different numbers of threads, against the serial reference.
static uint32_t compare_points(const random_graph* made, const char* name, uint64_t seed) {
    weir_target target;
    weir_tradeoff_point points[POINTS];
    uint32_t count = 0;
    const uint64_t params[2] = {1 + seed % RANDOM_ROWS, seed % (RANDOM_POSITION + 1)};
    assert_ok(weir_target_find(name, &target));
    assert_ok(weir_schedule_tradeoff(NULL, made->graph, &target, NULL, points, POINTS, &count));
    instance reference = open_instance(
        made, 1, "cpu", (weir_schedule_options){.reuse = WEIR_REUSE_NONE, .fence_all = true});
    run_instance(&reference, seed + 1, params, 0);
    for (uint32_t i = 0; i < count; i++) {
        instance it = open_instance(made, 1 + i % 4, name,
                                    (weir_schedule_options){.order = points[i].order,
                                                            .byte_budget = points[i].byte_budget});
        assert_int_equal(weir_schedule_report_of(it.schedule)->arena_bytes, points[i].arena_bytes);
        assert_int_equal(weir_schedule_report_of(it.schedule)->waits, points[i].waits);
        run_instance(&it, seed + 1, params, 0xFF);
        assert_same_bytes(&reference, &it, params);
        close_instance(&it);
    }
    close_instance(&reference);
    return count;
}

static void results_do_not_depend_on_the_point_between_bytes_and_waits(void** state) {
    (void)state;
    test_random random = {71};
    uint32_t points = 0;
    for (uint32_t round = 0; round < 12; round++) {
        random_graph made = random_graph_make(&random, 12 + (uint32_t)random_below(&random, 30));
        points += compare_points(&made, "cpu", round);
        points += compare_points(&made, "barriers", round);
        weir_graph_destroy(made.graph);
    }
    assert_true(points > 48);
}

// Sums and products are the same; only rounding may differ.
static void assert_near_bytes(const void* a, const void* b, uint64_t byte_size) {
    for (uint64_t i = 0; i < byte_size; i += sizeof(float)) {
        float x = 0.0f;
        float y = 0.0f;
        memcpy(&x, (const uint8_t*)a + i, sizeof x);
        memcpy(&y, (const uint8_t*)b + i, sizeof y);
        assert_true(fabsf(x - y) <= 1e-4f * (1.0f + fabsf(x)));
    }
}

static void assert_near_results(const instance* a, const instance* b, const uint64_t params[2]) {
    for (uint32_t i = 0; i < a->made->output_count; i++) {
        const weir_value value = a->made->outputs[i];
        const weir_value_info* info = weir_schedule_value(a->schedule, value);
        const uint64_t rows =
            info->rows == WEIR_PARAM_NONE ? (uint64_t)info->layout.shape.dims[0] : params[0];
        assert_near_bytes(weir_program_contents(a->program, value),
                          weir_program_contents(b->program, value),
                          rows * (uint64_t)info->layout.strides[0]);
    }
    for (size_t i = 6; i < 10; i++) {
        assert_near_bytes(weir_storage_host_pointer(a->storages[i]),
                          weir_storage_host_pointer(b->storages[i]),
                          weir_storage_byte_size(a->storages[i]));
    }
}

// Any set of rewrites against none; and what is fused depends on neither threads nor waits.
static void fused_graphs_give_the_results_of_single_operations(void** state) {
    (void)state;
    test_random random = {83};
    uint32_t fusions[WEIR_FUSION_COUNT] = {0};
    const uint32_t rounds = getenv("WEIR_LONG") ? 5000 : 100;
    for (uint32_t round = 0; round < rounds; round++) {
        random_graph made = random_graph_build(&random, (uint32_t)random_below(&random, 10),
                                               1 + (uint32_t)random_below(&random, 12));
        const uint32_t without = round % 2 ? (uint32_t)random_below(&random, WEIR_FUSION_ALL) : 0;
        const uint64_t params[2] = {1 + random_below(&random, RANDOM_ROWS),
                                    random_below(&random, RANDOM_POSITION + 1)};
        // Kernels that round x to 8 bits may round it otherwise after the least other step.
        instance single = open_instance(
            &made, 1, "cpu:plain",
            (weir_schedule_options){.reuse = WEIR_REUSE_NONE, .without_fusions = WEIR_FUSION_ALL});
        instance fused = open_instance(&made, 3, "cpu:plain",
                                       (weir_schedule_options){.without_fusions = without});
        instance serial =
            open_instance(&made, 1, "cpu:plain",
                          (weir_schedule_options){.fence_all = true, .without_fusions = without});
        for (uint32_t i = 0; i < WEIR_FUSION_COUNT; i++) {
            fusions[i] += weir_schedule_report_of(fused.schedule)->fusions[i];
        }
        run_instance(&single, round + 1, params, 0);
        run_instance(&fused, round + 1, params, 0xFF);
        run_instance(&serial, round + 1, params, 0);
        assert_near_results(&single, &fused, params);
        assert_same_bytes(&serial, &fused, params);
        close_instance(&single);
        close_instance(&fused);
        close_instance(&serial);
        weir_graph_destroy(made.graph);
    }
    for (uint32_t i = 0; i < WEIR_FUSION_COUNT; i++) {
        const bool has_kernel = weir_fusion_op((weir_fusion)i) < WEIR_OP_RMS_NORM_MATMUL;
        assert_true(fusions[i] > 10 || !has_kernel);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_depend_neither_on_threads_nor_on_the_schedule),
        cmocka_unit_test(results_do_not_depend_on_the_point_between_bytes_and_waits),
        cmocka_unit_test(fused_graphs_give_the_results_of_single_operations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
