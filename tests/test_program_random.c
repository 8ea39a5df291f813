// What a pass computes depends neither on threads nor on the schedule: random graphs, in every mode
// and at every point between bytes and waits, equal bit for bit.
#include "random_instance.h"

#define MODES 9
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
    } modes[MODES] = {
        {"cpu", {0}},
        {"cpu", {.reuse = WEIR_REUSE_SERIAL}},
        {"cpu", {.fence_all = true}},
        {"cpu", {.never_in_place = true}},
        {"cpu", {.order = WEIR_ORDER_BYTES}},
        {"barriers", {0}},
        {"barriers", {.reuse = WEIR_REUSE_SERIAL}},
        {"barriers", {.order = WEIR_ORDER_GIVEN}},
        {"barriers", {.order = WEIR_ORDER_BYTES}},
    };
    for (uint32_t round = 0; round < 24; round++) {
        random_graph made = random_graph_make(&random, 10 + (uint32_t)random_below(&random, 30));
        instance reference = open_instance(
            &made, 1, "cpu", (weir_schedule_options){.reuse = WEIR_REUSE_NONE, .fence_all = true});
        instance others[MODES];
        uint64_t seed = round;
        for (uint32_t i = 0; i < MODES; i++) {
            others[i] =
                open_instance(&made, 1 + (round + i) % 4, modes[i].target, modes[i].options);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_depend_neither_on_threads_nor_on_the_schedule),
        cmocka_unit_test(results_do_not_depend_on_the_point_between_bytes_and_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
