// Arenas in several blocks, as a target that caps a storage needs them: what is planned, what the
// checks find there, and what an arena for several plans takes.
#include "schedule_testing.h"

#include <weir/explain.h>
#include <weir/plan_file.h>
#include <weir/program.h>
#include <weir/state.h>

#include "device/backend.h"
#include "random_graph.h"
#include "small_blocks.h"
#include "testing_allocator.h"

static weir_target find_target(weir_wait_kind waits) {
    weir_target target;
    assert_ok(weir_target_find("cpu", &target));
    target.waits = waits;
    return target;
}

static void assert_same_places(const weir_schedule* a, const weir_schedule* b) {
    assert_int_equal(a->values.count, b->values.count);
    for (weir_value value = 0; value < a->values.count; value++) {
        const weir_placement x = place_of(a, value);
        const weir_placement y = place_of(b, value);
        assert_int_equal(x.region, y.region);
        assert_int_equal(x.block, y.block);
        assert_int_equal(x.byte_offset, y.byte_offset);
        assert_int_equal(x.byte_size, y.byte_size);
    }
}

static void what_fits_a_storage_is_planned_as_without_a_limit(void** state) {
    (void)state;
    test_random random = {13};
    for (int i = 0; i < 60; i++) {
        random_graph made = random_graph_make(&random, 6 + (uint32_t)random_below(&random, 40));
        const weir_schedule_options options = {.reuse = (weir_reuse)(i % 3)};
        weir_target target = find_target(i % 2 ? WEIR_WAIT_GROUPS : WEIR_WAIT_EDGES);
        weir_schedule* whole = schedule_with(made.graph, &target, options);
        target.storage_bytes_max = (whole->report.arena_bytes + 63) / 64 * 64;
        weir_schedule* limited = schedule_with(made.graph, &target, options);
        assert_memory_equal(&whole->report, &limited->report, sizeof whole->report);
        assert_int_equal(limited->report.arena_blocks, 1);
        assert_same_places(whole, limited);
        weir_schedule_destroy(whole);
        weir_schedule_destroy(limited);
        weir_graph_destroy(made.graph);
    }
}

// The bytes of each block, by its values.
static uint64_t check_block_sizes(const weir_schedule* schedule, uint64_t limit) {
    uint64_t sum = 0;
    for (uint32_t block = 0; block < schedule->report.arena_blocks; block++) {
        uint64_t end = 0;
        for (weir_value value = 0; value < schedule->values.count; value++) {
            const weir_placement place = place_of(schedule, value);
            assert_true(place.region == WEIR_REGION_ARENA || place.block == 0);
            if (place.region == WEIR_REGION_ARENA && place.block == block &&
                place.byte_offset + place.byte_size > end) {
                end = place.byte_offset + place.byte_size;
            }
        }
        assert_true(end <= limit);
        sum += end;
    }
    return sum;
}

// Whether values share bytes is what their blocks and offsets say.
static void check_sharing(const weir_schedule* schedule) {
    for (weir_value a = 0; a < schedule->values.count; a++) {
        for (weir_value b = a + 1; b < schedule->values.count; b++) {
            const weir_placement x = place_of(schedule, a);
            const weir_placement y = place_of(schedule, b);
            weir_sharing sharing;
            if (x.region == WEIR_REGION_ARENA && y.region == WEIR_REGION_ARENA && x.byte_size > 0 &&
                y.byte_size > 0) {
                assert_ok(weir_schedule_sharing(schedule, a, b, &sharing));
                assert_int_equal(sharing.shares, share_bytes(x, y));
                assert_true(!sharing.shares || sharing.block == x.block);
                assert_true(!sharing.shares || sharing.same || sharing.in_place || sharing.ordered);
            }
        }
    }
}

static void no_block_passes_the_largest_storage(void** state) {
    (void)state;
    test_random random = {17};
    uint32_t several = 0;
    for (int i = 0; i < 90; i++) {
        random_graph made = random_graph_make(&random, 10 + (uint32_t)random_below(&random, 40));
        const weir_schedule_options options = {.reuse = (weir_reuse)(i % 3),
                                               .never_in_place = i % 5 == 0};
        const weir_target free_target = find_target(i % 2 ? WEIR_WAIT_GROUPS : WEIR_WAIT_EDGES);
        weir_target target = with_small_blocks(&free_target, made.graph, options);
        target.storage_bytes_max += random_below(&random, 4) * 1000;
        weir_schedule* whole = schedule_with(made.graph, &free_target, options);
        weir_schedule* schedule = schedule_with(made.graph, &target, options); // which checks it
        const weir_schedule_report* report = &schedule->report;
        assert_int_equal(check_block_sizes(schedule, target.storage_bytes_max),
                         report->arena_bytes);
        assert_true(report->bound_bytes <= report->arena_bytes);
        assert_true(report->arena_blocks > 1 || report->arena_bytes == whole->report.arena_bytes);
        // Blocks cost bytes at most, never waits.
        if (options.reuse != WEIR_REUSE_SERIAL) {
            assert_int_equal(report->residual_edges, 0);
            assert_int_equal(report->waits, whole->report.waits);
        }
        check_sharing(schedule);
        several += report->arena_blocks > 1;
        weir_schedule_destroy(schedule);
        weir_schedule_destroy(whole);
        weir_graph_destroy(made.graph);
    }
    assert_true(several > 60);
}

static void a_value_larger_than_a_storage_is_refused_by_name(void** state) {
    (void)state;
    weir_graph* graph = NULL;
    weir_schedule* schedule = NULL;
    weir_value x = WEIR_VALUE_NONE;
    weir_value y = WEIR_VALUE_NONE;
    weir_value z = WEIR_VALUE_NONE;
    weir_target target = find_target(WEIR_WAIT_GROUPS);
    const weir_shape shape = shape2(8, 32);
    assert_ok(weir_graph_create(NULL, &graph));
    assert_ok(weir_graph_input(graph, "x", WEIR_DTYPE_F32, &shape, WEIR_PARAM_NONE, &x));
    assert_ok(weir_graph_rms_norm(graph, x, 1e-5f, &y));
    assert_ok(weir_graph_add(graph, y, x, &z));
    assert_ok(weir_graph_name(graph, y, "normed"));
    assert_ok(weir_graph_output(graph, z));
    target.storage_bytes_max = 1023;
    const weir_schedule_options options = {.without_fusions = WEIR_FUSION_ALL};
    assert_status(weir_schedule_create(NULL, graph, &target, &options, &schedule),
                  WEIR_UNSUPPORTED);
    assert_message_has("(normed) takes 1024 bytes, a storage of target cpu has at most 960");
    assert_null(schedule);
    target.storage_bytes_max = 1024;
    assert_ok(weir_schedule_create(NULL, graph, &target, &options, &schedule));
    weir_schedule_destroy(schedule);
    target.storage_bytes_max = 1; // less than the alignment
    schedule = NULL;
    assert_status(weir_schedule_create(NULL, graph, &target, &options, &schedule),
                  WEIR_UNSUPPORTED);
    weir_graph_destroy(graph);
}

// Values of two blocks at the same offset are apart; moved to one block they collide, and both
// checks say so.
static void values_moved_to_the_same_block_are_found(void** state) {
    (void)state;
    test_random random = {19};
    uint32_t found = 0;
    for (int i = 0; i < 20; i++) {
        random_graph made = random_graph_make(&random, 30);
        const weir_target free_target = find_target(i % 2 ? WEIR_WAIT_GROUPS : WEIR_WAIT_EDGES);
        const weir_target target =
            with_small_blocks(&free_target, made.graph, (weir_schedule_options){0});
        weir_schedule* schedule = schedule_with(made.graph, &target, (weir_schedule_options){0});
        for (weir_value value = 0; value < schedule->values.count; value++) {
            weir_placement* place = &schedule->placements[value];
            if (schedule->values.items[value].kind != WEIR_VALUE_RESULT || place->block == 0 ||
                place->byte_size == 0) {
                continue;
            }
            const uint32_t block = place->block;
            place->block = 0;
            const bool tracked = weir_schedule_check_tracked(schedule) != WEIR_OK;
            const bool paired = weir_schedule_check_pairs(schedule) != WEIR_OK;
            // The tracker forgets what was overwritten; no pair is left out.
            assert_true(paired || !tracked);
            found += paired;
            place->block = block;
        }
        assert_ok(weir_schedule_check(schedule));
        weir_schedule_destroy(schedule);
        weir_graph_destroy(made.graph);
    }
    assert_true(found > 40);
}

static void blocks_are_saved_and_loaded(void** state) {
    (void)state;
    test_random random = {23};
    for (int i = 0; i < 20; i++) {
        random_graph made = random_graph_make(&random, 30);
        const weir_schedule_options options = {.reuse = (weir_reuse)(i % 3)};
        const weir_target free_target = find_target(i % 2 ? WEIR_WAIT_GROUPS : WEIR_WAIT_EDGES);
        const weir_target target = with_small_blocks(&free_target, made.graph, options);
        weir_schedule* planned = schedule_with(made.graph, &target, options);
        weir_schedule* loaded = NULL;
        weir_plan_file* file = NULL;
        assert_ok(weir_plan_file_create(NULL, &file));
        assert_ok(weir_plan_file_add(file, "pass", planned));
        assert_ok(weir_plan_file_load(file, "pass", made.graph, &target, &loaded));
        assert_memory_equal(&planned->report, &loaded->report, sizeof planned->report);
        assert_same_places(planned, loaded);
        assert_ok(weir_schedule_check(loaded));
        weir_schedule_destroy(loaded);
        weir_plan_file_destroy(file);
        weir_schedule_destroy(planned);
        weir_graph_destroy(made.graph);
    }
}

static weir_status load_again(const weir_schedule* schedule, const weir_graph* graph) {
    weir_plan_file* file = NULL;
    weir_schedule* loaded = NULL;
    assert_ok(weir_plan_file_create(NULL, &file));
    assert_ok(weir_plan_file_add(file, "pass", schedule));
    const weir_status status = weir_plan_file_load(file, "pass", graph, &schedule->target, &loaded);
    weir_schedule_destroy(loaded);
    weir_plan_file_destroy(file);
    return status;
}

// Plans that no planner of this library makes: one block that is too large, and one too far out.
static void saved_places_that_no_storage_holds_are_refused(void** state) {
    (void)state;
    test_random random = {31};
    random_graph made = random_graph_make(&random, 30);
    const weir_target target = find_target(WEIR_WAIT_EDGES);
    weir_schedule* schedule = schedule_with(made.graph, &target, (weir_schedule_options){0});
    uint32_t count = 0;
    weir_plan_entry* entries =
        (weir_plan_entry*)(uintptr_t)weir_plan_entries(schedule->plan, &count);
    assert_ok(load_again(schedule, made.graph));
    schedule->target.storage_bytes_max = schedule->report.arena_bytes - 1;
    assert_status(load_again(schedule, made.graph), WEIR_INFEASIBLE);
    assert_message_has("bytes in one block, a storage of target cpu has at most");
    entries[0].block = count;
    assert_status(load_again(schedule, made.graph), WEIR_INFEASIBLE);
    assert_message_has("values lie in a block");
    entries[0].block = 1; // one block is still larger than a storage
    assert_status(load_again(schedule, made.graph), WEIR_INFEASIBLE);
    schedule->target.storage_bytes_max = 0;
    assert_status(load_again(schedule, made.graph), WEIR_INFEASIBLE);
    assert_message_has("expected one block");
    weir_schedule_destroy(schedule);
    weir_graph_destroy(made.graph);
}

// What was planned for the limits that every device has runs on those that have more, as it is.
static void saved_plans_serve_targets_of_higher_limits_alone(void** state) {
    (void)state;
    test_random random = {37};
    for (int i = 0; i < 20; i++) {
        random_graph made = random_graph_make(&random, 20 + (uint32_t)random_below(&random, 20));
        const weir_target free_target = find_target(i % 2 ? WEIR_WAIT_GROUPS : WEIR_WAIT_EDGES);
        weir_target target =
            with_small_blocks(&free_target, made.graph, (weir_schedule_options){0});
        target.binding_bytes_max = 1 << 20;
        weir_schedule* schedule = schedule_with(made.graph, &target, (weir_schedule_options){0});
        weir_plan_file* file = NULL;
        weir_schedule* loaded = NULL;
        assert_ok(weir_plan_file_create(NULL, &file));
        assert_ok(weir_plan_file_add(file, "pass", schedule));
        target.storage_bytes_max = 3 * target.storage_bytes_max + 1;
        target.binding_bytes_max++;
        assert_ok(weir_plan_file_load(file, "pass", made.graph, &target, &loaded));
        assert_ok(weir_schedule_check(loaded));
        assert_memory_equal(&loaded->report, &schedule->report, sizeof loaded->report);
        assert_same_places(schedule, loaded);
        weir_schedule_destroy(loaded);
        loaded = NULL;
        target.storage_bytes_max = UINT64_MAX - 65535; // that of drivers which know no limit
        assert_ok(weir_plan_file_load(file, "pass", made.graph, &target, &loaded));
        assert_memory_equal(&loaded->report, &schedule->report, sizeof loaded->report);
        assert_same_places(schedule, loaded);
        weir_schedule_destroy(loaded);
        loaded = NULL;
        weir_target lower = schedule->target;
        lower.storage_bytes_max--;
        assert_status(weir_plan_file_load(file, "pass", made.graph, &lower, &loaded),
                      WEIR_INVALID_ARGUMENT);
        assert_message_has("made for storage_bytes_max");
        lower = schedule->target;
        lower.binding_bytes_max--;
        assert_status(weir_plan_file_load(file, "pass", made.graph, &lower, &loaded),
                      WEIR_INVALID_ARGUMENT);
        assert_message_has("binding_bytes_max 1048576, this is 1048575");
        lower.binding_bytes_max = 0; // another kind of target
        assert_status(weir_plan_file_load(file, "pass", made.graph, &lower, &loaded),
                      WEIR_INVALID_ARGUMENT);
        assert_null(loaded);
        weir_plan_file_destroy(file);
        weir_schedule_destroy(schedule);
        weir_graph_destroy(made.graph);
    }
}

static uint64_t block_bytes(const weir_schedule* schedule, uint32_t block) {
    uint64_t end = 0;
    uint32_t count = 0;
    const weir_plan_entry* entries = weir_plan_entries(schedule->plan, &count);
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t last = entries[i].byte_offset + entries[i].byte_size;
        end = entries[i].block == block && last > end ? last : end;
    }
    return end;
}

static void an_arena_for_several_plans_has_the_larger_of_each_block(void** state) {
    (void)state;
    test_random random = {29};
    weir_device* device = NULL;
    assert_ok(weir_device_create(&(weir_device_desc){.name = "null"}, &device));
    for (int i = 0; i < 20; i++) {
        weir_schedule* schedules[3];
        const weir_plan* plans[3];
        uint64_t sum = 0;
        uint32_t blocks = 0;
        for (uint32_t k = 0; k < 3; k++) {
            random_graph made = random_graph_make(&random, 10 + 10 * k);
            const weir_target free_target = find_target(k % 2 ? WEIR_WAIT_GROUPS : WEIR_WAIT_EDGES);
            weir_target target =
                with_small_blocks(&free_target, made.graph, (weir_schedule_options){0});
            target.storage_bytes_max = i == 0 && k > 0 ? 0 : target.storage_bytes_max;
            schedules[k] = schedule_with(made.graph, &target, (weir_schedule_options){0});
            plans[k] = schedules[k]->plan;
            blocks = schedules[k]->report.arena_blocks > blocks ? schedules[k]->report.arena_blocks
                                                                : blocks;
            weir_graph_destroy(made.graph);
        }
        const weir_arena_desc desc = {.plans = plans, .plan_count = 3};
        weir_arena_deficit figures;
        weir_arena* arena = NULL;
        assert_ok(weir_arena_measure(NULL, device, &desc, &figures));
        assert_ok(weir_arena_create_with(device, &desc, &arena));
        assert_int_equal(weir_arena_node_count(arena), 0);
        assert_int_equal(weir_arena_block_count(arena), blocks);
        for (uint32_t b = 0; b < blocks; b++) {
            uint64_t most = 0;
            for (uint32_t k = 0; k < 3; k++) {
                const uint64_t bytes = block_bytes(schedules[k], b);
                most = bytes > most ? bytes : most;
            }
            assert_int_equal(weir_storage_byte_size(weir_arena_block(arena, b)), most);
            sum += most;
        }
        assert_int_equal(figures.planned_bytes, sum);
        assert_int_equal(figures.blocks, blocks);
        assert_int_equal(figures.deficit_bytes, 0);
        assert_int_equal(weir_arena_byte_size(arena), sum);
        weir_arena_destroy(arena);
        // A device that allows less has a deficit, which measuring only tells.
        device->target.storage_bytes_max = figures.block_bytes - 1;
        arena = NULL;
        assert_ok(weir_arena_measure(NULL, device, &desc, &figures));
        assert_int_equal(figures.deficit_bytes, 1);
        assert_status(weir_arena_create_with(device, &desc, &arena), WEIR_DEVICE_OUT_OF_MEMORY);
        assert_message_has("a block of an arena takes");
        assert_null(arena);
        device->target.storage_bytes_max = 0;
        for (uint32_t k = 0; k < 3; k++) {
            weir_schedule_destroy(schedules[k]);
        }
    }
    weir_device_destroy(device);
}

// Programs know blocks by their numbers, also where a plan passes one over.
static void blocks_without_values_keep_their_numbers(void** state) {
    (void)state;
    const weir_plan_buffer buffers[] = {{.byte_size = 64}, {.byte_size = 32}, {.byte_size = 0}};
    const weir_plan_problem problem = {
        .buffers = buffers, .buffer_count = 3, .block_bytes_max = 64};
    const weir_plan_entry entries[] = {
        {.byte_size = 64, .placed_on = WEIR_PLAN_NONE},
        {.byte_size = 32, .block = 2, .placed_on = WEIR_PLAN_NONE},
        {.placed_on = WEIR_PLAN_NONE},
    };
    static const uint64_t sizes[] = {64, 0, 32};
    weir_device* device = NULL;
    weir_plan* plan = NULL;
    weir_arena* arena = NULL;
    assert_ok(weir_device_create(&(weir_device_desc){.name = "null"}, &device));
    assert_ok(weir_plan_adopt(NULL, &problem, entries, &(plan_claims){0}, &plan));
    assert_ok(weir_arena_create(device, plan, &arena));
    assert_int_equal(weir_arena_block_count(arena), 3);
    for (uint32_t block = 0; block < 3; block++) {
        assert_int_equal(weir_storage_byte_size(weir_arena_block(arena, block)), sizes[block]);
    }
    weir_arena_destroy(arena);
    weir_plan_destroy(plan);
    weir_device_destroy(device);
}

// From the schedule to a pass in several blocks, with a state in several storages.
static weir_status run_in_blocks(const weir_graph* graph, const weir_target* target,
                                 const weir_allocator* allocator, weir_value kept, weir_value x) {
    weir_device* device = NULL;
    weir_schedule* schedule = NULL;
    weir_program* program = NULL;
    weir_state* rows = NULL;
    weir_binding binding = {.value = kept};
    const weir_state_desc desc = {.dtype = WEIR_DTYPE_F32,
                                  .row = weir_shape_make(1, (const int64_t[]){32}),
                                  .row_count_max = 8,
                                  .slot_count = 2};
    const float numbers[8 * 32] = {1.0f};
    const weir_device_desc opened = {.name = "cpu", .thread_count = 1, .allocator = *allocator};
    weir_status status = weir_device_create(&opened, &device);
    if (status == WEIR_OK) {
        device->target.storage_bytes_max = 4096;
        status = weir_schedule_create(allocator, graph, target, NULL, &schedule);
    }
    if (status == WEIR_OK) {
        status = weir_state_create(device, &desc, &rows);
    }
    if (status == WEIR_OK) {
        assert_true(schedule->report.arena_blocks > 1);
        assert_int_equal(weir_state_storage_count(rows), 2);
        status = weir_state_grow(rows, 8);
    }
    if (status == WEIR_OK) {
        status = weir_state_view(rows, 1, &binding.view);
    }
    if (status == WEIR_OK) {
        const weir_program_desc made = {
            .schedule = schedule, .bindings = &binding, .binding_count = 1, .slot_count = 2};
        status = weir_program_create(device, &made, &program);
    }
    if (status == WEIR_OK) {
        assert_ok(weir_program_write(program, x, numbers, sizeof numbers));
        assert_ok(weir_program_run(program, (uint64_t[]){0}, 1));
    }
    weir_program_destroy(program);
    weir_state_destroy(rows);
    weir_schedule_destroy(schedule);
    weir_device_destroy(device);
    return status;
}

static void each_allocation_of_a_program_in_blocks_may_fail(void** state) {
    (void)state;
    weir_graph* graph = NULL;
    weir_value x = WEIR_VALUE_NONE;
    weir_value kept = WEIR_VALUE_NONE;
    weir_param position;
    const weir_shape shape = shape2(8, 32);
    weir_target target = find_target(WEIR_WAIT_EDGES);
    target.storage_bytes_max = 1024;
    assert_ok(weir_graph_create(NULL, &graph));
    assert_ok(weir_graph_input(graph, "x", WEIR_DTYPE_F32, &shape, WEIR_PARAM_NONE, &x));
    assert_ok(weir_graph_state(graph, "kept", WEIR_DTYPE_F32, &shape, &kept));
    weir_value sums[4];
    for (int i = 0; i < 4; i++) { // four that are live together
        assert_ok(weir_graph_rms_norm(graph, i > 0 ? sums[i - 1] : x, 1e-5f, &sums[i]));
    }
    weir_value sum = sums[0];
    for (int i = 1; i < 4; i++) {
        assert_ok(weir_graph_add(graph, sum, sums[i], &sum));
    }
    assert_ok(weir_graph_param(graph, "position", 0, 0, &position));
    assert_ok(weir_graph_set_rows(graph, sum, kept, position));
    weir_status status = WEIR_OUT_OF_MEMORY;
    size_t step = 0;
    for (; status != WEIR_OK; step++) {
        test_allocator counter = {.fail_at = step};
        const weir_allocator allocator = test_allocator_of(&counter);
        status = run_in_blocks(graph, &target, &allocator, kept, x);
        assert_true(status == WEIR_OK || status == WEIR_OUT_OF_MEMORY);
        assert_int_equal(atomic_load(&counter.live_blocks), 0);
    }
    assert_true(step > 60);
    weir_graph_destroy(graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fits_a_storage_is_planned_as_without_a_limit),
        cmocka_unit_test(no_block_passes_the_largest_storage),
        cmocka_unit_test(a_value_larger_than_a_storage_is_refused_by_name),
        cmocka_unit_test(values_moved_to_the_same_block_are_found),
        cmocka_unit_test(blocks_are_saved_and_loaded),
        cmocka_unit_test(saved_places_that_no_storage_holds_are_refused),
        cmocka_unit_test(saved_plans_serve_targets_of_higher_limits_alone),
        cmocka_unit_test(an_arena_for_several_plans_has_the_larger_of_each_block),
        cmocka_unit_test(blocks_without_values_keep_their_numbers),
        cmocka_unit_test(each_allocation_of_a_program_in_blocks_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
