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
    (void)state;
    free(expected);
    return 0;
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
                             &(weir_context_options){.schedule.without_fusions = without_fusions});
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
    fixture f = open_fixture(model_path, device, 0, &(weir_context_options){.output_all = true});
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
    weir_device_info devices[CPU_DEVICES];
    const uint32_t count = list_cpu_devices(devices);
    for (uint32_t i = 0; i < count; i++) {
        check_logits(devices[i].name, strcmp(devices[i].name, "cpu:plain") == 0 ? 1e-3 : 0.2);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_tokenizer_gives_the_expected_ids),
        cmocka_unit_test(its_greedy_text_is_the_expected_one),
        cmocka_unit_test(its_logits_are_those_of_double_precision),
    };
    return cmocka_run_group_tests(tests, open_expected, close_expected);
}
