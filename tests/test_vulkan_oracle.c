// Barriers before the synchronisation validation of Khronos: enough, and none too many.
//
// It shares no code with the tracker and the schedule. A random program is one of dispatches with
// random accesses, contiguous and strided, whose predecessors the tracker finds.
#include "testing.h"

#include <weir-llm/llama.h>

#include "backends/vulkan/vulkan_oracle.h"
#include "random_graph.h"
#include "small_blocks.h"

#define PROGRAMS 100         // more by WEIR_ORACLE_PROGRAMS
#define PROGRAMS_LONG 100000 // with WEIR_LONG
#define DISPATCHES 31
#define ACCESSES 5 // of one dispatch
#define MEMORY 512 // bytes of each of two memories

static vulkan_oracle* oracle;

static int open_oracle(void** state) {
    (void)state;
    const weir_status status = vulkan_oracle_open(NULL, test_device(), &oracle);
    if (status == WEIR_UNSUPPORTED) {
        fprintf(stderr, "skipped: %s\n", weir_last_error());
        exit(SKIPPED);
    }
    assert_ok(status);
    return 0;
}

static int close_oracle(void** state) {
    (void)state;
    vulkan_oracle_close(oracle);
    return 0;
}

typedef struct random_program {
    device_dispatch dispatches[DISPATCHES];
    weir_access accesses[DISPATCHES][ACCESSES];
    uint32_t edges[DISPATCHES][DISPATCHES];
    uint32_t count;
} random_program;

// Up to 64 bytes in words of 4, one in four as rows with gaps.
static weir_range random_range(test_random* random) {
    const uint64_t memory_id = 1 + random_below(random, 2);
    const uint64_t offset = 4 * random_below(random, MEMORY / 4 - 32);
    weir_range range = weir_range_make(memory_id, offset, 4 * (1 + random_below(random, 16)));
    if (random_below(random, 4) == 0) {
        range.byte_length = 4 * (1 + random_below(random, 2));
        range.level_count = 1;
        range.levels[0] = (weir_range_level){.count = 2 + random_below(random, 3),
                                             .stride = 8 + 4 * random_below(random, 6)};
        range.levels[0].stride += range.byte_length;
    }
    return range;
}

static void make_program(random_program* made, test_random* random) {
    weir_tracker* tracker = NULL;
    assert_ok(weir_tracker_create(NULL, WEIR_TRACKER_DAG, &tracker));
    made->count = 2 + (uint32_t)random_below(random, DISPATCHES - 1);
    for (uint32_t i = 0; i < made->count; i++) {
        device_dispatch* dispatch = &made->dispatches[i];
        const uint32_t reads = 1 + (uint32_t)random_below(random, 3);
        *dispatch =
            (device_dispatch){.name = "random",
                              .accesses = made->accesses[i],
                              .predecessors = made->edges[i],
                              .access_count = reads + 1 + (uint32_t)random_below(random, 2)};
        for (uint32_t k = 0; k < dispatch->access_count; k++) {
            made->accesses[i][k] =
                (weir_access){.range = random_range(random),
                              .kind = k < reads                      ? WEIR_ACCESS_READ
                                      : random_below(random, 4) == 0 ? WEIR_ACCESS_READ_WRITE
                                                                     : WEIR_ACCESS_WRITE};
        }
        weir_verdict verdict;
        const weir_tracker_dispatch declared = {.accesses = dispatch->accesses,
                                                .access_count = dispatch->access_count,
                                                .declared = true};
        assert_ok(weir_tracker_record(tracker, &declared, &verdict));
        for (uint32_t h = 0; h < verdict.hazard_count; h++) {
            const uint32_t earlier = verdict.hazards[h].earlier;
            if (h == 0 || earlier != verdict.hazards[h - 1].earlier) {
                made->edges[i][dispatch->predecessor_count++] = earlier;
                const uint32_t above = made->dispatches[earlier].group + 1;
                dispatch->group = above > dispatch->group ? above : dispatch->group;
            }
        }
    }
    weir_tracker_destroy(tracker);
}

static uint32_t program_count(void) {
    const char* wanted = getenv("WEIR_ORACLE_PROGRAMS");
    return wanted ? (uint32_t)atoi(wanted) : getenv("WEIR_LONG") ? PROGRAMS_LONG : PROGRAMS;
}

static void random_programs_have_the_barriers_they_need_and_no_other(void** state) {
    (void)state;
    test_random random = {0xBA221E25u};
    static random_program made;
    const uint32_t programs = program_count();
    uint64_t dispatches = 0;
    uint64_t boundaries = 0;
    uint32_t unjudged = 0;
    for (uint32_t i = 0; i < programs; i++) {
        vulkan_groups groups;
        weir_vulkan_verdict verdict;
        make_program(&made, &random);
        assert_ok(vulkan_groups_make(NULL, made.dispatches, made.count, &groups));
        const weir_status status =
            vulkan_oracle_judge(oracle, made.dispatches, made.count, &groups, &verdict);
        if (status == WEIR_UNSUPPORTED) { // rows that cut each other into too many pieces
            unjudged++;
            vulkan_groups_free(NULL, &groups);
            continue;
        }
        assert_ok(status);
        if (verdict.hazards != 0 || verdict.needed != verdict.boundaries) {
            fail_msg("program %u: %u hazards, %u of %u boundaries are needed: %s", i,
                     verdict.hazards, verdict.needed, verdict.boundaries, verdict.message);
        }
        dispatches += verdict.dispatches;
        boundaries += verdict.boundaries;
        vulkan_groups_free(NULL, &groups);
    }
    print_message(
        "%u programs, %llu dispatches, %llu barriers, each of them needed; %u not judged\n",
        programs - unjudged, (unsigned long long)dispatches, (unsigned long long)boundaries,
        unjudged);
    assert_true(unjudged <= programs / 100);
    assert_true(boundaries > programs);
}

// What a barrier makes visible is judged as well: each bit that is taken from a mask is missed by
// the program, or by one of the others.
static void barriers_without_visibility_are_reported(void** state) {
    (void)state;
    const weir_access access[2] = {{weir_range_make(1, 0, 64), WEIR_ACCESS_WRITE},
                                   {weir_range_make(1, 60, 64), WEIR_ACCESS_READ}};
    const uint32_t first = 0;
    device_dispatch dispatches[2] = {{.name = "write", .accesses = access, .access_count = 1},
                                     {.name = "read",
                                      .accesses = access + 1,
                                      .access_count = 1,
                                      .group = 1,
                                      .predecessors = &first,
                                      .predecessor_count = 1}};
    for (int mask = 0; mask < 4; mask++) {
        vulkan_groups groups;
        weir_vulkan_verdict verdict;
        assert_ok(vulkan_groups_make(NULL, dispatches, 2, &groups));
        vulkan_boundary* boundary = &groups.boundaries[1];
        assert_int_equal(boundary->source_accesses, VK_ACCESS_2_SHADER_STORAGE_WRITE_BIT);
        assert_int_equal(boundary->target_accesses, VK_ACCESS_2_SHADER_STORAGE_READ_BIT);
        boundary->source_accesses = (mask & 1) != 0 ? boundary->source_accesses : 0;
        boundary->target_accesses = (mask & 2) != 0 ? boundary->target_accesses : 0;
        assert_ok(vulkan_oracle_judge(oracle, dispatches, 2, &groups, &verdict));
        assert_int_equal(verdict.hazards > 0, mask != 3);
        vulkan_groups_free(NULL, &groups);
    }
    // A write after a read waits and makes nothing visible.
    dispatches[0].accesses = access + 1;
    dispatches[1].accesses = access;
    vulkan_groups groups;
    assert_ok(vulkan_groups_make(NULL, dispatches, 2, &groups));
    assert_int_equal(groups.boundaries[1].source_accesses, 0);
    assert_int_equal(groups.boundaries[1].target_accesses, 0);
    vulkan_groups_free(NULL, &groups);
}

static void a_hazard_that_nothing_orders_is_found_before_recording(void** state) {
    (void)state;
    const weir_access access = {weir_range_make(1, 0, 64), WEIR_ACCESS_WRITE};
    const device_dispatch dispatches[2] = {{.name = "a", .accesses = &access, .access_count = 1},
                                           {.name = "b", .accesses = &access, .access_count = 1}};
    vulkan_groups groups;
    assert_status(vulkan_groups_make(NULL, dispatches, 2, &groups), WEIR_INTERNAL);
    assert_message_has("b conflict and are not ordered");
    vulkan_groups_free(NULL, &groups);
}

// Returns how often the schedule waits; with `small_blocks` its arena has as many as can be.
static uint32_t judge_schedule(const weir_graph* graph, const char* name, bool small_blocks) {
    weir_target target;
    weir_schedule* schedule = NULL;
    weir_vulkan_verdict verdict;
    assert_ok(weir_target_find("vulkan", &target));
    target = small_blocks ? with_small_blocks(&target, graph, (weir_schedule_options){0}) : target;
    assert_ok(weir_schedule_create(NULL, graph, &target, NULL, &schedule));
    assert_int_equal(weir_schedule_report_of(schedule)->arena_blocks > 1, small_blocks);
    assert_ok(weir_vulkan_judge(NULL, test_device(), schedule, &verdict));
    assert_int_equal(verdict.boundaries, weir_schedule_report_of(schedule)->waits);
    assert_int_equal(verdict.boundaries + 1, weir_schedule_groups(schedule));
    if (verdict.hazards != 0 || verdict.needed != verdict.boundaries) {
        fail_msg("%s: %u hazards, %u of %u boundaries are needed: %s", name, verdict.hazards,
                 verdict.needed, verdict.boundaries, verdict.message);
    }
    print_message("%s: %u dispatches, %u barriers, each of them needed\n", name, verdict.dispatches,
                  verdict.boundaries);
    weir_schedule_destroy(schedule);
    return verdict.boundaries;
}

static void programs_of_models_have_the_barriers_they_need_and_no_other(void** state) {
    (void)state;
    static const struct {
        const char* name;
        uint32_t embedding, blocks, heads, kv_heads, feed_forward, vocabulary;
    } shapes[] = {
        {"stories260K", 64, 5, 8, 4, 172, 512},
        {"demo", 256, 7, 8, 4, 704, 4000},
        {"110M", 768, 12, 12, 12, 2048, 32000},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const weir_llama_params params = {.blocks = shapes[i].blocks,
                                          .embedding = shapes[i].embedding,
                                          .feed_forward = shapes[i].feed_forward,
                                          .heads = shapes[i].heads,
                                          .kv_heads = shapes[i].kv_heads,
                                          .head_dim = shapes[i].embedding / shapes[i].heads,
                                          .rotated = shapes[i].embedding / shapes[i].heads,
                                          .vocabulary = shapes[i].vocabulary,
                                          .context = 512,
                                          .epsilon = 1e-5f,
                                          .rope_base = 10000.0f,
                                          .rope_scale = 1.0f};
        for (uint32_t rows = 1; rows <= 64; rows += 63) {
            const weir_llama_graph_desc desc = {
                .params = &params, .context = 256, .rows = rows, .outputs = 1};
            weir_llama_graph pass;
            assert_ok(weir_llama_graph_build(NULL, &desc, &pass));
            const uint32_t waits = judge_schedule(pass.graph, shapes[i].name, false);
            if (i == 0) {
                assert_int_equal(judge_schedule(pass.graph, "the same in small blocks", true),
                                 waits);
            }
            // Nothing waits for a norm, a rotation or a row of a cache by itself.
            assert_true(rows > 1 || waits == 5 * shapes[i].blocks + 2);
            weir_graph_destroy(pass.graph);
        }
    }
}

static void random_graphs_have_the_barriers_they_need_and_no_other(void** state) {
    (void)state;
    test_random random = {0x6EA9u};
    for (int i = 0; i < 6; i++) {
        // Attention in parts, which some graphs have, has no kernels here.
        random_graph made = random_graph_make(&random, 40);
        weir_target target;
        weir_schedule* schedule = NULL;
        assert_ok(weir_target_find("vulkan", &target));
        const weir_status status = weir_schedule_create(NULL, made.graph, &target, NULL, &schedule);
        weir_schedule_destroy(schedule);
        if (status == WEIR_OK) {
            judge_schedule(made.graph, "random graph", false);
            judge_schedule(made.graph, "the same in small blocks", true);
        } else {
            assert_int_equal(status, WEIR_UNSUPPORTED);
        }
        weir_graph_destroy(made.graph);
    }
}

static void schedules_that_wait_along_edges_are_not_judged(void** state) {
    (void)state;
    test_random random = {0x77u};
    random_graph made = random_graph_make(&random, 10);
    weir_target target;
    weir_schedule* schedule = NULL;
    weir_vulkan_verdict verdict;
    assert_ok(weir_target_find("cpu", &target));
    assert_ok(weir_schedule_create(NULL, made.graph, &target, NULL, &schedule));
    assert_status(weir_vulkan_judge(NULL, NULL, schedule, &verdict), WEIR_INVALID_ARGUMENT);
    weir_schedule_destroy(schedule);
    weir_graph_destroy(made.graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_programs_have_the_barriers_they_need_and_no_other),
        cmocka_unit_test(barriers_without_visibility_are_reported),
        cmocka_unit_test(a_hazard_that_nothing_orders_is_found_before_recording),
        cmocka_unit_test(programs_of_models_have_the_barriers_they_need_and_no_other),
        cmocka_unit_test(random_graphs_have_the_barriers_they_need_and_no_other),
        cmocka_unit_test(schedules_that_wait_along_edges_are_not_judged),
    };
    return cmocka_run_group_tests(tests, open_oracle, close_oracle);
}
