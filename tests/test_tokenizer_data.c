// The tokenizer against published vocabularies, expected ids and hostile files.
#include "testing.h"

#include <dirent.h>
#include <unistd.h>
#include <weir-llm/tokenizer.h>

#include "json_reader.h"

#define SEPARATOR "\n__ggml_vocab_test__\n"

// The archives unpacked for this run: `<folder>/vocab/...`, `<folder>/hostile/...`.
static char folder[64];

static void skip_because(const char* reason) {
    print_message("skipped: %s\n", reason);
    skip();
}

// Unpacks an archive of the shared data into the folder, or skips the test.
static void unpack(const char* archive) {
    char path[512];
    char command[1200];
    if (!shared_data_path(archive, path, sizeof path)) {
        skip_because("the shared test data is not here");
    }
    snprintf(command, sizeof command, "tar -xJf '%s' -C '%s' 2>/dev/null", path, folder);
    if (system(command) != 0) {
        skip_because("the archive could not be unpacked (tar and xz are needed)");
    }
}

static int make_folder(void** state) {
    (void)state;
    const char* root = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/weir-tokenizer-XXXXXX",
             root && strlen(root) < 32 ? root : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void** state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static weir_status load_tokenizer(const char* path, weir_tokenizer** tokenizer) {
    size_t length = 0;
    char* bytes = read_whole_file(path, false, &length);
    weir_gguf* gguf = NULL;
    weir_status status = weir_gguf_parse(NULL, bytes, length, path, &gguf);
    if (status == WEIR_OK) {
        status = weir_tokenizer_create(NULL, gguf, tokenizer);
    }
    weir_gguf_destroy(gguf);
    free(bytes);
    return status;
}

// Compares the ids of one text with one line of expected ids; moves `line` to the next.
static void check_line(const weir_tokenizer* tokenizer, const char* text, size_t length,
                       const char** line, int number) {
    weir_ids ids = {0};
    assert_ok(weir_tokenizer_encode(tokenizer, text, length, WEIR_TOKENIZE_PLAIN, &ids));
    const char* at = *line;
    size_t count = 0;
    while (*at && *at != '\n') {
        char* end = NULL;
        const unsigned long expected = strtoul(at, &end, 10);
        if (end == at) {
            break;
        }
        if (count >= ids.count || ids.items[count] != expected) {
            fail_msg("case %d, id %zu: expected %lu, got %ld", number, count, expected,
                     count < ids.count ? (long)ids.items[count] : -1L);
        }
        count++;
        at = end;
        at += *at == ' ' ? 1 : 0;
    }
    assert_int_equal(ids.count, count);
    weir_ids_free(&ids);
    *line = *at == '\n' ? at + 1 : at;
}

// Checks each case of an input file against its line of ids; the last may go without a separator.
static void check_cases(const weir_tokenizer* tokenizer, const char* input_name,
                        const char* expected_name, int expected_count) {
    char path[256];
    size_t length = 0;
    snprintf(path, sizeof path, "%s/vocab/%s", folder, input_name);
    char* cases = read_whole_file(path, true, &length);
    assert_int_equal(strlen(cases), length);
    snprintf(path, sizeof path, "%s/vocab/%s", folder, expected_name);
    char* expected = read_whole_file(path, true, &length);
    const char* line = expected;
    int count = 0;
    for (const char* text = cases; *text; count++) {
        const char* end = strstr(text, SEPARATOR);
        const size_t text_length = end ? (size_t)(end - text) : strlen(text);
        check_line(tokenizer, text, text_length, &line, count);
        text += text_length + (end ? strlen(SEPARATOR) : 0);
    }
    assert_int_equal(count, expected_count);
    assert_string_equal(line, "");
    free(cases);
    free(expected);
}

static void published_ids_of_the_llama_vocabulary_match(void** state) {
    (void)state;
    unpack("vocab.tar.xz");
    char path[256];
    snprintf(path, sizeof path, "%s/vocab/ggml-vocab-llama-spm.gguf", folder);
    weir_tokenizer* tokenizer = NULL;
    assert_ok(load_tokenizer(path, &tokenizer));
    assert_int_equal(weir_tokenizer_size(tokenizer), 32000);
    check_cases(tokenizer, "tokenizer-tests.inp", "ggml-vocab-llama-spm.gguf.out", 46);
    check_cases(tokenizer, "tokenizer-long.inp", "ggml-vocab-llama-spm.gguf.long.out", 3);
    weir_tokenizer_destroy(tokenizer);
}

static void published_ids_of_the_stories_vocabulary_match(void** state) {
    (void)state;
    unpack("vocab.tar.xz");
    char path[512];
    if (!shared_data_path("stories260K/stories260K-f32.gguf", path, sizeof path)) {
        skip_because("the shared test data is not here");
    }
    weir_tokenizer* tokenizer = NULL;
    assert_ok(load_tokenizer(path, &tokenizer));
    check_cases(tokenizer, "tokenizer-tests.inp", "stories260K.tests.out", 46);
    check_cases(tokenizer, "tokenizer-long.inp", "stories260K.long.out", 3);
    weir_tokenizer_destroy(tokenizer);
}

static void vocabularies_of_other_models_are_unsupported(void** state) {
    (void)state;
    unpack("vocab.tar.xz");
    const char* const names[] = {"gpt-2", "falcon", "deepseek-coder", "bert-bge"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/vocab/ggml-vocab-%s.gguf", folder, names[i]);
        weir_tokenizer* tokenizer = NULL;
        assert_status(load_tokenizer(path, &tokenizer), WEIR_UNSUPPORTED);
        assert_message_has("tokenizer.ggml.model");
    }
}

static void check_text(const weir_tokenizer* tokenizer, const uint32_t* ids, size_t count,
                       const char* expected, size_t expected_length) {
    char text[4096];
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        const weir_text piece = weir_tokenizer_piece(tokenizer, ids[i]);
        assert_true(length + piece.length <= sizeof text);
        memcpy(text + length, piece.bytes, piece.length);
        length += piece.length;
    }
    assert_true(weir_tokenizer_strips_space(tokenizer));
    assert_int_equal(text[0], ' ');
    assert_int_equal(length - 1, expected_length);
    assert_memory_equal(text + 1, expected, expected_length);
}

// Checks the prompt that begins at `at` in the reference: its ids, and those ids and the greedy
// ones as text.
static void check_prompt(const weir_tokenizer* tokenizer, const char* at) {
    char text[4096];
    uint32_t expected[256];
    weir_ids got = {0};
    size_t length = read_string(at, "prompt", text, sizeof text);
    size_t count = read_ids(at, "prompt_ids", expected, 256);
    assert_ok(weir_tokenizer_encode(tokenizer, text, length, WEIR_TOKENIZE_BOS, &got));
    assert_int_equal(got.count, count);
    assert_memory_equal(got.items, expected, count * sizeof *expected);
    weir_ids_free(&got);
    count += read_ids(at, "greedy_ids", expected + count, 256 - count);
    length = read_string(at, "text", text, sizeof text);
    check_text(tokenizer, expected, count, text, length);
}

static void reference_prompts_encode_and_their_stories_decode(void** state) {
    (void)state;
    char path[512];
    if (!shared_data_path("stories260K/ref/reference.json", path, sizeof path)) {
        skip_because("the shared test data is not here");
    }
    size_t length = 0;
    char* json = read_whole_file(path, true, &length);
    assert_true(shared_data_path("stories260K/stories260K-f32.gguf", path, sizeof path));
    weir_tokenizer* tokenizer = NULL;
    assert_ok(load_tokenizer(path, &tokenizer));
    char story[4096];
    uint32_t ids[256];
    length = read_string(json, "text", story, sizeof story);
    check_text(tokenizer, ids, read_ids(json, "ids", ids, 256), story, length);
    int prompts = 0;
    const char* at = find_key(json, "prompts");
    while ((at = strstr(at, "\"prompt\":")) != NULL) {
        check_prompt(tokenizer, at++);
        prompts++;
    }
    assert_int_equal(prompts, 11);
    weir_tokenizer_destroy(tokenizer);
    free(json);
}

// Whatever the vocabulary, text has ids, and these are its own.
static void check_encodes(const weir_tokenizer* tokenizer) {
    static const char text[] = "ab xxxxx <0x0A>\n</s>\xFF\xE2\x96";
    weir_ids ids = {0};
    assert_ok(weir_tokenizer_encode(tokenizer, text, sizeof text, WEIR_TOKENIZE_SPECIAL, &ids));
    assert_true(ids.count > 0);
    for (size_t i = 0; i < ids.count; i++) {
        assert_true(ids.items[i] < weir_tokenizer_size(tokenizer));
        const weir_text piece = weir_tokenizer_piece(tokenizer, ids.items[i]);
        assert_true(piece.length < 6000 && piece.bytes);
    }
    weir_ids_free(&ids);
}

static void hostile_vocabularies_give_the_status_of_their_case(void** state) {
    (void)state;
    static const struct {
        const char* name;
        weir_status status;
        const char* key; // in the message
    } cases[] = {
        {"ok_base", WEIR_OK, NULL},
        {"h30_zero_zero", WEIR_BAD_FORMAT, "tokenizer.ggml.model"},
        {"v01_no_tokens", WEIR_BAD_FORMAT, "tokenizer.ggml.tokens"},
        {"v02_tokens_u32", WEIR_BAD_FORMAT, "tokenizer.ggml.tokens"},
        {"v05_types_short", WEIR_BAD_FORMAT, "tokenizer.ggml.token_type"},
        {"v06_types_u8", WEIR_BAD_FORMAT, "tokenizer.ggml.token_type"},
        {"v07_bos_n", WEIR_BAD_FORMAT, "tokenizer.ggml.bos_token_id"},
        {"v08_eos_max", WEIR_BAD_FORMAT, "tokenizer.ggml.eos_token_id"},
        {"v11_byte_minus1", WEIR_BAD_FORMAT, "<0x-1>"},
        {"v12_byte_gg", WEIR_BAD_FORMAT, "<0xGG>"},
        {"v13_byte_short", WEIR_BAD_FORMAT, "tokenizer.ggml.tokens"},
        {"v15_empty_token", WEIR_OK, NULL},
        {"v16_long_token", WEIR_OK, NULL},
        {"v18_bpe_no_merges", WEIR_UNSUPPORTED, "gpt2"},
        {"v19_merge_no_space", WEIR_UNSUPPORTED, "gpt2"},
        {"v20_merge_unknown", WEIR_UNSUPPORTED, "gpt2"},
        {"v22_scores_nan", WEIR_OK, NULL},
        {"v24_vocab_size_99", WEIR_OK, NULL}, // the model's key, not the tokenizer's
        {"v25_type_99", WEIR_OK, NULL},
        {"v27_template", WEIR_OK, NULL},
    };
    unpack("hostile.tar.xz");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/hostile/%s.gguf", folder, cases[i].name);
        weir_tokenizer* tokenizer = NULL;
        const weir_status status = load_tokenizer(path, &tokenizer);
        if (status != cases[i].status) {
            fail_msg("%s: %s (%s)", cases[i].name, weir_status_text(status), weir_last_error());
        }
        if (status != WEIR_OK) {
            assert_message_has(cases[i].name);
            assert_message_has(cases[i].key);
            continue;
        }
        check_encodes(tokenizer);
        weir_tokenizer_destroy(tokenizer);
    }
}

static void every_hostile_file_is_refused_or_runs(void** state) {
    (void)state;
    unpack("hostile.tar.xz");
    char path[512];
    snprintf(path, sizeof path, "%s/hostile", folder);
    DIR* directory = opendir(path);
    assert_non_null(directory);
    int usable = 0;
    for (const struct dirent* entry; (entry = readdir(directory)) != NULL;) {
        if (!strstr(entry->d_name, ".gguf")) {
            continue;
        }
        snprintf(path, sizeof path, "%s/hostile/%s", folder, entry->d_name);
        weir_tokenizer* tokenizer = NULL;
        if (load_tokenizer(path, &tokenizer) == WEIR_OK) {
            check_encodes(tokenizer);
            weir_tokenizer_destroy(tokenizer);
            usable++;
        } else {
            assert_message_has(entry->d_name);
        }
    }
    closedir(directory);
    assert_true(usable > 10); // files that only the model loader can refuse
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_ids_of_the_llama_vocabulary_match),
        cmocka_unit_test(published_ids_of_the_stories_vocabulary_match),
        cmocka_unit_test(vocabularies_of_other_models_are_unsupported),
        cmocka_unit_test(reference_prompts_encode_and_their_stories_decode),
        cmocka_unit_test(hostile_vocabularies_give_the_status_of_their_case),
        cmocka_unit_test(every_hostile_file_is_refused_or_runs),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
