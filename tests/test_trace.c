// The trace of a run: all tiles of the passes that are kept, in the format of the viewers.
#include "llm_fixture.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <weir/explain.h>

#include "json_reader.h"
#include "llama_file.h"

static char model[64];
static char trace[64]; // file in the folder of the model

static int write_model(void** state) {
    (void)state;
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    write_file(model, bytes, byte_size);
    free(bytes);
    strcpy(trace, model);
    strcpy(strrchr(trace, '/'), "/trace.json");
    return 0;
}

static int remove_model(void** state) {
    (void)state;
    remove(trace);
    remove_file(model);
    return 0;
}

// Runs `weir run` with a trace and returns the file; free() it.
static char* run_traced(const char* options) {
    const char* build = getenv("WEIR_BINARY_DIR");
    char command[512];
    size_t byte_size = 0;
    // Drivers leave memory behind.
    snprintf(command, sizeof command,
             "%s '%s/weir' run '%s' -p abc --ignore-end --trace '%s' %s >/dev/null",
             strstr(options, "vulkan") ? "ASAN_OPTIONS=detect_leaks=0" : "", build ? build : ".",
             model, trace, options);
    assert_int_equal(system(command), 0);
    char* text = read_whole_file(trace, true, &byte_size);
    assert_json(text);
    return text;
}

static void count_tile(void* context, uint32_t worker, const char* name, uint32_t dispatch,
                       uint32_t tile, bool begin) {
    (void)worker;
    (void)name;
    (void)dispatch;
    (void)tile;
    if (begin) {
        atomic_fetch_add((atomic_uint*)context, 1);
    }
}

// The tiles of the same run in this process; shapes alone cut them.
static uint32_t count_tiles(uint32_t tokens) {
    fixture f = open_fixture(model, NULL, 1, NULL);
    weir_ids prompt = {0};
    listener heard = {0};
    atomic_uint tiles = 0;
    assert_ok(weir_tokenizer_encode(f.tokenizer, "abc", 3, WEIR_TOKENIZE_BOS, &prompt));
    assert_ok(weir_device_set_tile_hook(f.device, count_tile, &tiles));
    generate(&f, prompt.items, prompt.count, tokens, &heard);
    weir_ids_free(&prompt);
    teardown(&f);
    return tiles;
}

static void every_tile_of_a_run_is_in_its_trace(void** state) {
    (void)state;
    for (int threads = 1; threads <= 3; threads += 2) {
        char options[64];
        snprintf(options, sizeof options, "-n 6 --trace-passes 99 --threads %d", threads);
        char* text = run_traced(options);
        assert_int_equal(count_of(text, "\"cat\": \"tile\""), count_tiles(6));
        assert_int_equal(count_of(text, "\"cat\": \"pass\""), 6); // the prompt, then 5 tokens
        assert_int_equal(count_of(text, "prefill"), 1);
        assert_int_equal(count_of(text, "\"thread_name\""), threads + 1);
        assert_non_null(strstr(text, "\"dropped_tiles\": 0"));
        free(text);
    }
}

// Both ends of an arrow are named after the hazards of its edge.
static void check_kinds(const char* text, const weir_schedule* schedule, size_t passes) {
    static const char* const names[] = {"RAW",         "WAR",         "RAW and WAR",        "WAW",
                                        "RAW and WAW", "WAR and WAW", "RAW and WAR and WAW"};
    size_t expected[8] = {0};
    size_t found = 0;
    for (uint32_t i = 0; i < weir_schedule_report_of(schedule)->dispatches; i++) {
        weir_dispatch_info info;
        assert_ok(weir_schedule_dispatch(schedule, i, &info));
        for (uint32_t e = 0; e < info.predecessor_count; e++) {
            weir_why why;
            uint32_t kinds = 0;
            assert_ok(weir_why_find(NULL, schedule, info.predecessors[e], i, &why));
            for (uint32_t k = 0; k < why.reason_count; k++) {
                const weir_hazard_kind kind = why.reasons[k].kind;
                kinds |= kind == WEIR_HAZARD_RAW ? 1 : kind == WEIR_HAZARD_WAR ? 2 : 4;
            }
            expected[kinds]++;
            weir_why_free(&why);
        }
    }
    assert_int_equal(expected[0], 0);
    for (size_t kinds = 1; kinds < 8; kinds++) {
        char key[64];
        snprintf(key, sizeof key, "\"cat\": \"wait for\", \"name\": \"%s\"", names[kinds - 1]);
        assert_int_equal(count_of(text, key), 2 * passes * expected[kinds]);
        found += expected[kinds];
    }
    assert_int_equal(found, weir_schedule_report_of(schedule)->edges);
}

static void every_edge_is_an_arrow_with_two_ends(void** state) {
    (void)state;
    char* text = run_traced("-n 4 --trace-passes 2");
    fixture f = open_fixture(model, NULL, 1, NULL);
    const weir_schedule* decode = weir_context_schedule(f.context, WEIR_PHASE_DECODE);
    const uint32_t edges = weir_schedule_report_of(decode)->edges;
    assert_int_equal(count_of(text, "\"ph\": \"s\""), 2 * edges);
    assert_int_equal(count_of(text, "\"ph\": \"f\""), 2 * edges);
    for (uint32_t id = 1; id <= 2 * edges; id++) {
        char key[32];
        snprintf(key, sizeof key, "\"id\": %" PRIu32 "%s", id, "}");
        assert_int_equal(count_of(text, key), 1); // where it leaves
        snprintf(key, sizeof key, "\"id\": %" PRIu32 ",", id);
        assert_int_equal(count_of(text, key), 1); // where it enters
    }
    check_kinds(text, decode, 2);
    teardown(&f);
    free(text);
}

static void only_the_last_passes_are_kept(void** state) {
    (void)state;
    char* text = run_traced("-n 9 --trace-passes 3");
    assert_int_equal(count_of(text, "\"cat\": \"pass\""), 3);
    assert_non_null(strstr(text, "\"name\": \"pass 7, decode\""));
    assert_non_null(strstr(text, "\"name\": \"pass 9, decode\""));
    assert_non_null(strstr(text, "\"passes\": 9"));
    assert_null(strstr(text, "\"pass\": 6,"));
    free(text);
}

// On each worker tiles and waits follow each other without overlap, and fill the pass.
static void check_cover(const char* text, int threads) {
    double covered = 0.0;
    double end = 0.0;
    double pass = 0.0;
    int last = -1;
    for (const char* at = text; (at = strstr(at, "{\"ph\": \"X\"")) != NULL; at++) {
        const double begin = strtod(find_key(at, "ts"), NULL);
        const double duration = strtod(find_key(at, "dur"), NULL);
        const int worker = (int)strtol(find_key(at, "tid"), NULL, 10);
        char category[16];
        read_string(at, "cat", category, sizeof category);
        if (strcmp(category, "pass") == 0) {
            pass = duration;
            continue;
        }
        assert_true(worker == last || worker == last + 1);
        assert_true(worker != last || begin >= end - 1e-6);
        last = worker;
        end = begin + duration;
        covered += duration;
    }
    assert_true(pass > 0.0);
    assert_int_equal(last, threads - 1);
    assert_true(covered > threads * pass - 1e-3 && covered < threads * pass + 1e-3);
}

// On each lane, in each pass, slices follow each other without overlap.
static void check_lanes(const char* text) {
    double end = 0.0;
    int last = -1;
    for (const char* at = text; (at = strstr(at, "{\"ph\": \"X\"")) != NULL; at++) {
        const double begin = strtod(find_key(at, "ts"), NULL);
        const int lane = (int)strtol(find_key(at, "tid"), NULL, 10);
        assert_true(lane != last || begin >= end - 1e-6);
        last = lane;
        end = begin + strtod(find_key(at, "dur"), NULL);
    }
}

static void tiles_and_waits_of_each_worker_fill_the_pass(void** state) {
    (void)state;
    for (int threads = 1; threads <= 16; threads += 15) { // more than have a tile to run
        char options[64];
        snprintf(options, sizeof options, "-n 2 --trace-passes 1 --threads %d", threads);
        char* text = run_traced(options);
        check_cover(text, threads);
        free(text);
    }
}

// A device that runs no functions of the host tells the times of its dispatches.
static void dispatches_of_a_device_are_in_its_trace(void** state) {
    (void)state;
    weir_device* device = NULL;
    const weir_status status = weir_device_create(&(weir_device_desc){.name = "vulkan"}, &device);
    if (status == WEIR_UNSUPPORTED || status == WEIR_NOT_FOUND) {
        print_message("skipped: %s\n", weir_last_error());
        skip();
    }
    assert_ok(status);
    weir_model* opened = NULL;
    weir_context* context = NULL;
    assert_ok(weir_model_open(NULL, device, model, NULL, &opened));
    assert_ok(weir_context_create(NULL, opened, NULL, &context));
    const weir_schedule* decode = weir_context_schedule(context, WEIR_PHASE_DECODE);
    const uint32_t dispatches = weir_schedule_report_of(decode)->dispatches;
    char* text = run_traced("-n 4 --trace-passes 2 --device vulkan");
    assert_int_equal(count_of(text, "\"cat\": \"dispatch\""), 2 * dispatches);
    assert_int_equal(count_of(text, "\"cat\": \"pass\""), 2);
    assert_non_null(strstr(text, "\"name\": \"pass 4, decode\""));
    assert_non_null(strstr(text, "\"passes\": 4"));
    assert_non_null(strstr(text, "\"dropped_dispatches\": 0"));
    check_kinds(text, decode, 2);
    check_lanes(text);
    free(text);
    weir_context_destroy(context);
    weir_model_destroy(opened);
    weir_device_destroy(device);
}

static void a_trace_that_cannot_be_written_is_an_error(void** state) {
    (void)state;
    const char* build = getenv("WEIR_BINARY_DIR");
    char command[512];
    snprintf(command, sizeof command,
             "'%s/weir' run '%s' -n 2 --trace /no/such/file >/dev/null 2>&1", build ? build : ".",
             model);
    assert_int_not_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tile_of_a_run_is_in_its_trace),
        cmocka_unit_test(every_edge_is_an_arrow_with_two_ends),
        cmocka_unit_test(only_the_last_passes_are_kept),
        cmocka_unit_test(tiles_and_waits_of_each_worker_fill_the_pass),
        cmocka_unit_test(dispatches_of_a_device_are_in_its_trace),
        cmocka_unit_test(a_trace_that_cannot_be_written_is_an_error),
    };
    return cmocka_run_group_tests(tests, write_model, remove_model);
}
