// The model that ships with weir: its tokens, its greedy text and its logits, against a float64
// forward pass over the same weights (models/README.md).
#include "testing.h"

#include <math.h>

#include "json_reader.h"
#include "llm_fixture.h"

#define NAME "weir-tales-6m-q8_0"
#define VOCABULARY 4000
#define GREEDY 64
#define LOGIT_ROWS 3
#define CACHE_ROWS 32 // tokens that caches of other types are compared over

static char model_path[512];
static char* expected; // the whole JSON file

static int open_expected(void** state) {
    (void)state;
    const char* source = getenv("WEIR_SOURCE_DIR");
    char path[512];
    size_t byte_size = 0;
    snprintf(model_path, sizeof model_path, "%s/models/%s.gguf", source ? source : ".", NAME);
    snprintf(path, sizeof path, "%s/models/%s.expected.json", source ? source : ".", NAME);
    expected = read_whole_file(path, true, &byte_size);
    return 0;
}

static int close_expected(void** state) {
    free(expected);
    return close_shared_devices(state);
}

static void its_tokenizer_gives_the_expected_ids(void** state) {
    (void)state;
    fixture f = open_fixture(model_path, NULL, 1, NULL);
    const char* end = find_key(expected, "cases");
    int cases = 0;
    for (const char* at = find_key(expected, "tokenizer");; at++) {
        at = strstr(at, "\"text\":");
        if (!at || at > end) {
            break;
        }
        char text[256];
        uint32_t ids[64];
        weir_ids got = {0};
        const size_t length = read_string(at, "text", text, sizeof text);
        const size_t count = read_ids(at, "ids", ids, 64);
        assert_ok(weir_tokenizer_encode(f.tokenizer, text, length, WEIR_TOKENIZE_PLAIN, &got));
        assert_int_equal(got.count, count);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(got.items[i], ids[i]);
        }
        weir_ids_free(&got);
        cases++;
    }
    assert_int_equal(cases, 4);
    teardown(&f);
}

static void check_greedy_text(uint32_t without_fusions) {
    fixture f = open_fixture(model_path, "cpu:plain", 0,
                             &(weir_context_options){.kv_dtype = WEIR_DTYPE_F32,
                                                     .schedule.without_fusions = without_fusions});
    int cases = 0;
    const char* at = find_key(expected, "cases");
    while ((at = strstr(at, "\"prompt\":")) != NULL) {
        static listener heard;
        uint32_t prompt[64];
        uint32_t greedy[GREEDY];
        const size_t count = read_ids(at, "prompt_ids", prompt, 64);
        assert_int_equal(read_ids(at, "greedy_ids", greedy, GREEDY), GREEDY);
        heard = (listener){0};
        assert_ok(weir_context_rewind(f.context, 0));
        generate(&f, prompt, count, GREEDY, &heard);
        assert_memory_equal(heard.ids, greedy, sizeof greedy);
        at++;
        cases++;
    }
    assert_int_equal(cases, 3);
    teardown(&f);
}

static void its_greedy_text_is_the_expected_one(void** state) {
    (void)state;
    check_greedy_text(0);
    check_greedy_text(WEIR_FUSION_ALL);
}

// The plain kernels decode the weights and keep x as it is; those of instruction sets may round x
// to 8 bits, which moves a logit by some hundredths.
static void check_logits(const char* device, double tolerance) {
    fixture f =
        open_fixture(model_path, device, 0,
                     &(weir_context_options){.output_all = true, .kv_dtype = WEIR_DTYPE_F32});
    uint32_t ids[LOGIT_ROWS];
    assert_int_equal(read_ids(expected, "logits_input_ids", ids, LOGIT_ROWS), LOGIT_ROWS);
    assert_ok(weir_context_feed(f.context, ids, LOGIT_ROWS, WEIR_OUTPUT_ALL));
    const char* at = find_key(expected, "logits");
    for (size_t row = 0; row < LOGIT_ROWS; row++) {
        const float* logits = weir_context_logits(f.context, row);
        for (int i = 0; i < VOCABULARY; i++) {
            at += strcspn(at, "-0123456789");
            char* end = NULL;
            const double wanted = strtod(at, &end);
            assert_ptr_not_equal(end, at);
            if (!(fabs(wanted - (double)logits[i]) <= tolerance)) {
                fail_msg("logit %d of row %zu is %g, expected %g", i, row, (double)logits[i],
                         wanted);
            }
            at = end;
        }
    }
    teardown(&f);
}

static void its_logits_are_those_of_double_precision(void** state) {
    (void)state;
    const char* devices[CPU_DEVICES];
    const uint32_t count = list_cpu_devices(devices);
    for (uint32_t i = 0; i < count; i++) {
        check_logits(devices[i], strcmp(devices[i], "cpu:plain") == 0 ? 1e-3 : 0.2);
    }
}

// Which types a cache can have is up to the kernels of a device.
static void need_cpu(void) {
    if (test_device() && strncmp(test_device(), "cpu", 3) != 0) {
        print_message("skipped: the types of caches are those of the cpu\n");
        skip();
    }
}

// What rounding keys and values costs beside a cache in F32, on the same kernels.
static void caches_of_fewer_bits_stay_near_one_of_f32(void** state) {
    (void)state;
    static const struct {
        weir_dtype dtype;
        double rms;
    } caches[] = {{WEIR_DTYPE_F32, 0.0}, {WEIR_DTYPE_F16, 0.005}, {WEIR_DTYPE_Q8_0, 0.02}};
    static float wanted[CACHE_ROWS * VOCABULARY];
    uint32_t ids[CACHE_ROWS];
    for (uint32_t i = 0; i < CACHE_ROWS; i++) {
        ids[i] = i * 97 % VOCABULARY;
    }
    for (size_t i = 0; i < sizeof caches / sizeof caches[0]; i++) {
        if (test_device() && caches[i].dtype == WEIR_DTYPE_Q8_0) {
            continue; // devices keep plain numbers
        }
        fixture f =
            open_fixture(model_path, "cpu:plain", 0,
                         &(weir_context_options){.output_all = true, .kv_dtype = caches[i].dtype});
        assert_ok(weir_context_feed(f.context, ids, CACHE_ROWS, WEIR_OUTPUT_ALL));
        double squares = 0.0;
        for (size_t at = 0; at < CACHE_ROWS * VOCABULARY; at++) {
            const float logit = weir_context_logits(f.context, at / VOCABULARY)[at % VOCABULARY];
            wanted[at] = i == 0 ? logit : wanted[at];
            squares += pow((double)(logit - wanted[at]), 2.0);
        }
        const double rms = sqrt(squares / (CACHE_ROWS * VOCABULARY));
        if (!(rms <= caches[i].rms)) {
            fail_msg("%s: rms %g", weir_dtype_describe(caches[i].dtype)->name, rms);
        }
        teardown(&f);
    }
}

static void caches_are_of_f16_where_nobody_asks(void** state) {
    (void)state;
    fixture f = open_fixture(model_path, "cpu:plain", 0, NULL);
    assert_int_equal(weir_context_kv_dtype(f.context), WEIR_DTYPE_F16);
    teardown(&f);
}

static void a_cache_that_does_not_fit_is_refused(void** state) {
    (void)state;
    need_cpu();
    fixture f = open_fixture(model_path, "cpu:plain", 0, NULL);
    weir_context* context = NULL;
    assert_status(weir_context_create(NULL, f.model,
                                      &(weir_context_options){.kv_dtype = WEIR_DTYPE_Q4_0},
                                      &context),
                  WEIR_UNSUPPORTED);
    assert_message_has("cpu:plain has no kernels for keys and values in Q4_0");
    assert_status(weir_context_create(NULL, f.model,
                                      &(weir_context_options){.kv_dtype = WEIR_DTYPE_Q4_K},
                                      &context),
                  WEIR_INVALID_ARGUMENT);
    assert_null(context);
    weir_target bare = *weir_device_target(f.device);
    weir_dtype found = WEIR_DTYPE_NONE;
    bare.kernel_count = 0;
    assert_ok(weir_llama_kv_dtype(weir_model_params(f.model), &bare, WEIR_DTYPE_NONE, &found));
    assert_int_equal(found, WEIR_DTYPE_F32);
    teardown(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_tokenizer_gives_the_expected_ids),
        cmocka_unit_test(its_greedy_text_is_the_expected_one),
        cmocka_unit_test(its_logits_are_those_of_double_precision),
        cmocka_unit_test(caches_of_fewer_bits_stay_near_one_of_f32),
        cmocka_unit_test(caches_are_of_f16_where_nobody_asks),
        cmocka_unit_test(a_cache_that_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, open_expected, close_expected);
}
