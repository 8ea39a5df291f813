// A real model, trained on children's stories: its text, its logits and its cost against published
// values. Reads the shared test data.
#include "testing.h"

#include <math.h>

#include "json_reader.h"
#include "llm_fixture.h"

#define VOCABULARY 512
#define STORY 256  // tokens of the reference story
#define PROMPTS 11 // prompts of the reference
#define CONTINUATION 48

// Skips the test where the file is absent.
static void need_data(const char* name, char* path, size_t capacity) {
    if (!shared_data_path(name, path, capacity)) {
        print_message("skipped: shared data %s is not here\n", name);
        skip();
    }
}

static fixture setup(const char* name, const char* device, uint32_t threads,
                     const weir_context_options* options) {
    char path[512];
    char file[128];
    snprintf(file, sizeof file, "stories260K/%s.gguf", name);
    need_data(file, path, sizeof path);
    return open_fixture(path, device, threads, options);
}

static char* read_data(const char* name, size_t* byte_size) {
    char path[512];
    need_data(name, path, sizeof path);
    return read_whole_file(path, true, byte_size);
}

static char* read_reference(void) {
    size_t byte_size = 0;
    return read_data("stories260K/ref/reference.json", &byte_size);
}

static void tell_reference_story(const weir_context_options* options) {
    char* json = read_reference();
    static listener heard;
    uint32_t ids[STORY];
    char text[4096];
    assert_int_equal(read_ids(json, "ids", ids, STORY), STORY);
    read_string(json, "text", text, sizeof text);
    free(json);
    fixture f = setup("stories260K-f32", NULL, 0, options);
    heard = (listener){0};
    weir_ids prompt = {0};
    assert_ok(weir_tokenizer_encode(f.tokenizer, "", 0, WEIR_TOKENIZE_BOS, &prompt));
    generate(&f, prompt.items, prompt.count, STORY, &heard);
    assert_int_equal(heard.count, STORY);
    for (size_t i = 0; i < STORY; i++) {
        if (heard.ids[i] != ids[i]) {
            fail_msg("token %zu is %u, expected %u", i, heard.ids[i], ids[i]);
        }
    }
    assert_string_equal(heard.text, text);
    weir_ids_free(&prompt);
    teardown(&f);
}

static void empty_prompt_gives_the_reference_story(void** state) {
    (void)state;
    tell_reference_story(&(weir_context_options){.kv_dtype = WEIR_DTYPE_F32});
}

static void empty_prompt_gives_the_reference_story_without_fusion(void** state) {
    (void)state;
    tell_reference_story(&(weir_context_options){.kv_dtype = WEIR_DTYPE_F32,
                                                 .schedule.without_fusions = WEIR_FUSION_ALL});
}

static void every_prompt_gives_its_reference_text(void** state) {
    (void)state;
    char* json = read_reference();
    fixture f =
        setup("stories260K-f32", NULL, 0, &(weir_context_options){.kv_dtype = WEIR_DTYPE_F32});
    const char* at = find_key(json, "prompts");
    for (int i = 0; i < PROMPTS; i++) {
        char prompt[256];
        char text[1024];
        uint32_t prompt_ids[64];
        uint32_t greedy[CONTINUATION];
        static listener heard;
        weir_ids ids = {0};
        heard = (listener){0};
        at = strstr(at, "\"prompt\":");
        assert_non_null(at);
        read_string(at, "prompt", prompt, sizeof prompt);
        read_string(at, "text", text, sizeof text);
        const size_t prompt_count = read_ids(at, "prompt_ids", prompt_ids, 64);
        assert_int_equal(read_ids(at, "greedy_ids", greedy, CONTINUATION), CONTINUATION);

        assert_ok(
            weir_tokenizer_encode(f.tokenizer, prompt, strlen(prompt), WEIR_TOKENIZE_BOS, &ids));
        assert_int_equal(ids.count, prompt_count);
        assert_memory_equal(ids.items, prompt_ids, prompt_count * sizeof *prompt_ids);
        assert_ok(weir_context_rewind(f.context, 0));
        generate(&f, ids.items, ids.count, CONTINUATION, &heard);
        assert_memory_equal(heard.ids, greedy, sizeof greedy);
        strncat(prompt, heard.text, sizeof prompt - strlen(prompt) - 1);
        assert_string_equal(prompt, text);
        weir_ids_free(&ids);
        at++;
    }
    free(json);
    teardown(&f);
}

// The tokens whose logits are published: BOS and the reference story.
static void story_input(uint32_t ids[STORY]) {
    char* json = read_reference();
    uint32_t story[STORY];
    assert_int_equal(read_ids(json, "ids", story, STORY), STORY);
    ids[0] = 1;
    memcpy(ids + 1, story, (STORY - 1) * sizeof *ids);
    free(json);
}

// Fills rows of logits: in prefill passes of `pass_rows`, or row by row when that is 1.
static void compute_logits(fixture* f, const uint32_t* ids, uint32_t count, uint32_t pass_rows,
                           float* logits) {
    assert_ok(weir_context_rewind(f->context, 0));
    for (uint32_t fed = 0; fed < count; fed += pass_rows) {
        assert_ok(weir_context_feed(f->context, ids + fed, pass_rows, WEIR_OUTPUT_ALL));
        for (uint32_t row = 0; row < pass_rows; row++) {
            memcpy(logits + (size_t)(fed + row) * VOCABULARY, weir_context_logits(f->context, row),
                   VOCABULARY * sizeof(float));
        }
    }
}

// How far logits are from the expected ones: at most, and as root mean square.
typedef struct distance {
    double largest;
    double rms;
} distance;

static distance distance_of(const float* a, const float* b, size_t count) {
    distance found = {0};
    for (size_t i = 0; i < count; i++) {
        const double difference = fabs((double)a[i] - (double)b[i]);
        found.largest =
            difference > found.largest || isnan(difference) ? difference : found.largest;
        found.rms += difference * difference / (double)count;
    }
    found.rms = sqrt(found.rms);
    return found;
}

// A file, its positions with logits of a forward pass in double precision over the decoded weights,
// and how far from them x in f32 may lead.
typedef struct logit_file {
    const char* name;
    uint32_t positions;
    double tolerance;
} logit_file;

// Reads the published logits of a file; malloc aligns them.
static char* read_logits(const logit_file* file) {
    char name[128];
    size_t byte_size = 0;
    snprintf(name, sizeof name, "stories260K/ref/f64_%ux512.%s.f32", file->positions, file->name);
    char* bytes = read_data(name, &byte_size);
    assert_int_equal(byte_size, (size_t)file->positions * VOCABULARY * sizeof(float));
    return bytes;
}

static void check_logits(const logit_file* file, const char* device, const uint32_t* ids) {
    static float logits[STORY * VOCABULARY];
    char* bytes = read_logits(file);
    const float* expected = (const float*)(const void*)bytes;
    // Rounding x to 8 bits, as the quantised kernels of instruction sets do, costs more.
    const bool rounds = strcmp(device, "cpu:plain") != 0 && file->tolerance > 1e-4;
    // One target rounds x to BF16 for many rows of it and weights of BF16.
    const bool halves =
        strcmp(device, "cpu:avx512_bf16") == 0 && strstr(file->name, "bf16") != NULL;
    // All positions in long passes, those of F32 and the first of the others row by row too; and
    // the first without fusion.
    const uint32_t pass_rows[] = {64, 1, 16};
    const uint32_t counts[] = {file->positions, file->positions == STORY ? STORY : 16, 16};
    fixture f = {0};
    for (int mode = 0; mode < 3; mode++) {
        const weir_context_options options = {.output_all = true,
                                              .kv_dtype = WEIR_DTYPE_F32,
                                              .schedule.without_fusions =
                                                  mode == 2 ? WEIR_FUSION_ALL : 0};
        if (mode != 1) { // the first two need the same context
            f = setup(file->name, device, 0, &options);
        }
        compute_logits(&f, ids, counts[mode], pass_rows[mode], logits);
        const distance found = distance_of(logits, expected, (size_t)counts[mode] * VOCABULARY);
        const bool near = rounds                          ? found.rms <= 0.2
                          : halves && pass_rows[mode] > 1 ? found.rms <= 0.02
                                                          : found.largest <= file->tolerance;
        if (!near) {
            fail_msg("%s on %s in passes of %u: the logits differ by %g, rms %g", file->name,
                     device, pass_rows[mode], found.largest, found.rms);
        }
        if (mode != 0) {
            teardown(&f);
        }
    }
    free(bytes);
}

static void logits_are_those_of_double_precision(void** state) {
    (void)state;
    static const logit_file files[] = {
        {"stories260K-f32", 256, 1e-4},          {"stories260K-f16", 64, 1e-4},
        {"stories260K-bf16", 64, 1e-4},          {"stories260K-q8_0", 64, 1e-3},
        {"stories260K-ff192-q8_0", 64, 1e-3},    {"stories260K-ff192-q4_0", 64, 1e-3},
        {"stories260K-ff192-q5_0", 64, 1e-3},    {"stories260K-pad256-q4_k_m", 64, 1e-3},
        {"stories260K-pad256-q5_k_m", 64, 1e-3}, {"stories260K-pad256-q6_k", 64, 1e-3},
    };
    uint32_t ids[STORY];
    story_input(ids);
    const char* devices[CPU_DEVICES] = {"cpu:plain"};
    const uint32_t count = test_device() ? 1 : list_cpu_devices(devices);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        for (uint32_t k = 0; k < count; k++) {
            check_logits(&files[i], devices[k], ids);
        }
    }
}

// Prompts in arithmetic of 16 bits, on a device that has it: far nearer than the limit for x in 8
// bits, 0.2.
static void prompts_in_halves_stay_near_double_precision(void** state) {
    (void)state;
    static const weir_vulkan_tuning halves = {.unit_x = WEIR_VULKAN_X_F32,
                                              .tile_x = WEIR_VULKAN_X_F16};
    static const weir_vulkan_tuning exact = {.unit_x = WEIR_VULKAN_X_F32,
                                             .tile_x = WEIR_VULKAN_X_F32};
    static const logit_file files[] = {{"stories260K-ff192-q4_0", 64, 1e-3},
                                       {"stories260K-pad256-q5_k_m", 64, 1e-3}};
    static float logits[STORY * VOCABULARY];
    weir_device* device = test_device() ? open_test_device(NULL, 0, true) : NULL;
    if (!device || weir_vulkan_tune(device, &halves) != WEIR_OK) {
        print_message("skipped: products are not in 16 bits here\n");
        skip();
    }
    uint32_t ids[STORY];
    story_input(ids);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char* bytes = read_logits(&files[i]);
        const weir_context_options options = {.output_all = true, .kv_dtype = WEIR_DTYPE_F32};
        fixture f = setup(files[i].name, "cpu:plain", 0, &options);
        compute_logits(&f, ids, files[i].positions, 64, logits);
        const distance found = distance_of(logits, (const float*)(const void*)bytes,
                                           (size_t)files[i].positions * VOCABULARY);
        if (!(found.rms <= 0.03) || found.rms < 1e-4) {
            fail_msg("%s in 16 bits: the logits differ by %g, rms %g", files[i].name, found.largest,
                     found.rms);
        }
        print_message("%s in 16 bits: rms %.4f\n", files[i].name, found.rms);
        teardown(&f);
        free(bytes);
    }
    assert_ok(weir_vulkan_tune(device, &exact));
}

// What rounding keys and values costs, against the published logits of weights in F32. Heads of
// this model are small: four of them share each scale of Q8_0, so that small elements lose much.
static void caches_of_fewer_bits_stay_near_double_precision(void** state) {
    (void)state;
    static const struct {
        weir_dtype dtype;
        double rms;
    } caches[] = {{WEIR_DTYPE_F16, 0.005}, {WEIR_DTYPE_BF16, 0.04}, {WEIR_DTYPE_Q8_0, 0.2}};
    static float logits[STORY * VOCABULARY];
    const logit_file file = {"stories260K-f32", STORY, 0.0};
    const char* devices[] = {test_device() ? test_device() : "cpu:plain", "cpu"};
    char* bytes = read_logits(&file);
    uint32_t ids[STORY];
    story_input(ids);
    for (size_t i = 0; i < sizeof caches / sizeof caches[0]; i++) {
        if (test_device() && caches[i].dtype == WEIR_DTYPE_Q8_0) {
            continue; // devices keep plain numbers
        }
        const uint32_t pass_rows[] = {64, 1};
        const uint32_t counts[] = {STORY, 32};
        const weir_context_options options = {.output_all = true, .kv_dtype = caches[i].dtype};
        for (int device = 0; device < (test_device() ? 1 : 2); device++) {
            fixture f = setup(file.name, devices[device], 0, &options);
            assert_int_equal(weir_context_kv_dtype(f.context), caches[i].dtype);
            for (int mode = 0; mode < 2; mode++) {
                compute_logits(&f, ids, counts[mode], pass_rows[mode], logits);
                const distance found = distance_of(logits, (const float*)(const void*)bytes,
                                                   counts[mode] * VOCABULARY);
                if (!(found.rms <= caches[i].rms)) {
                    fail_msg("%s in passes of %u: the logits differ by %g, rms %g",
                             weir_dtype_describe(caches[i].dtype)->name, pass_rows[mode],
                             found.largest, found.rms);
                }
            }
            teardown(&f);
        }
    }
    free(bytes);
}

static void threads_and_fences_do_not_change_a_bit(void** state) {
    (void)state;
    static float expected[32 * VOCABULARY];
    static float logits[32 * VOCABULARY];
    const char* files[] = {"stories260K-f32", "stories260K-pad256-q4_k_m"};
    uint32_t ids[STORY];
    story_input(ids);
    // Other devices have no threads: with and without the waits, and one file, is all there is.
    const uint32_t step = test_device() ? 4 : 1;
    for (size_t file = 0; file < (test_device() ? 1 : 2); file++) {
        const uint32_t pass_rows[] = {1, 16};
        for (int mode = 0; mode < 2; mode++) {
            for (uint32_t threads = 1; threads <= 5; threads += step) {
                // The fifth run is that of 3 threads with a wait between any two dispatches.
                const weir_context_options options = {.output_all = true,
                                                      .schedule.fence_all = threads == 5};
                fixture f = setup(files[file], NULL, threads == 5 ? 3 : threads, &options);
                compute_logits(&f, ids, 32, pass_rows[mode], threads == 1 ? expected : logits);
                if (threads > 1) {
                    assert_memory_equal(logits, expected, sizeof expected);
                }
                teardown(&f);
            }
        }
    }
}

static void elision_keeps_few_waits(void** state) {
    (void)state;
    fixture f = setup("stories260K-f32", NULL, 1, NULL);
    for (weir_phase phase = 0; phase < WEIR_PHASE_COUNT; phase++) {
        const weir_schedule_report* report =
            weir_schedule_report_of(weir_context_schedule(f.context, phase));
        assert_int_equal(report->residual_edges, 0);
        assert_true(report->waits < report->waits_naive);
        assert_int_equal(report->waits + report->waits_elided, report->waits_naive);
        assert_ok(weir_schedule_check(weir_context_schedule(f.context, phase)));
    }
    teardown(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_prompt_gives_the_reference_story),
        cmocka_unit_test(empty_prompt_gives_the_reference_story_without_fusion),
        cmocka_unit_test(every_prompt_gives_its_reference_text),
        cmocka_unit_test(logits_are_those_of_double_precision),
        cmocka_unit_test(prompts_in_halves_stay_near_double_precision),
        cmocka_unit_test(caches_of_fewer_bits_stay_near_double_precision),
        cmocka_unit_test(threads_and_fences_do_not_change_a_bit),
        cmocka_unit_test(elision_keeps_few_waits),
    };
    return cmocka_run_group_tests(tests, NULL, close_shared_devices);
}
