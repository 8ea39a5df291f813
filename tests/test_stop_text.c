// Texts that end generation: against a search in the whole text, however its pieces are cut.
#include "testing.h"

#include "llama_file.h"
#include "llm_fixture.h"

enum { TOKENS = 40, TEXT_MAX = 60000, STOPS_MAX = 3, LONG_PIECE = 3000 };

static const uint32_t bos = 1;

typedef struct heard_text {
    char text[TEXT_MAX];
    size_t length;
    uint32_t ids[TOKENS];
    uint32_t count; // of tokens; bytes that come alone are none
    uint32_t limit; // tokens to take; 0 = all
} heard_text;

static bool hear(void* context, uint32_t id, const char* bytes, size_t length) {
    heard_text* heard = context;
    assert_true(heard->length + length <= sizeof heard->text);
    memcpy(heard->text + heard->length, bytes, length);
    heard->length += length;
    if (id == WEIR_TOKEN_NONE) {
        assert_true(length > 0);
        return true;
    }
    assert_true(heard->count < TOKENS);
    heard->ids[heard->count++] = id;
    return heard->count != heard->limit;
}

// A model whose token `a` is `piece`; temperature 1 lets all tokens come.
static fixture setup(const char* piece) {
    const llama_change change = {
        .name = "tokens", .kind = CHANGE_TOKEN, .number = 4, .text = piece, .real = 1.0f};
    char path[64];
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(piece ? &change : NULL, &byte_size);
    write_file(path, bytes, byte_size);
    free(bytes);
    fixture f = {.device = open_test_device(NULL, 1, false)};
    assert_ok(fill_fixture(&f, NULL, path, 2.0f, NULL));
    remove_file(path);
    return f;
}

static weir_generate_stats run(fixture* f, uint64_t seed, const weir_text* stops, uint32_t count,
                               heard_text* heard) {
    const weir_generate_options options = {.max_tokens = TOKENS,
                                           .ignore_end = true,
                                           .emit = hear,
                                           .context = heard,
                                           .stop_texts = stops,
                                           .stop_text_count = count};
    weir_generate_stats stats;
    heard->length = 0;
    heard->count = 0;
    weir_sampler_reset(f->sampler, seed);
    assert_ok(weir_context_rewind(f->context, 0));
    assert_ok(weir_generate(f->context, f->tokenizer, f->sampler, &bos, 1, &options, &stats));
    assert_int_equal(stats.generated_tokens, heard->count);
    return stats;
}

// Where the stop text that is whole first begins; the length of the text where none is in it.
static size_t find_stop(const heard_text* whole, const weir_text* stops, uint32_t count) {
    for (size_t end = 1; end <= whole->length; end++) {
        size_t longest = 0;
        for (uint32_t i = 0; i < count; i++) {
            const size_t length = (size_t)stops[i].length;
            if (length <= end && length > longest &&
                memcmp(whole->text + end - length, stops[i].bytes, length) == 0) {
                longest = length;
            }
        }
        if (longest > 0) {
            return end - longest;
        }
    }
    return whole->length;
}

// Cuts stop texts out of the text, some of them with a wrong last byte.
static uint32_t cut_stops(test_random* random, const heard_text* whole, weir_text* stops,
                          char (*bytes)[WEIR_STOP_BYTES_MAX]) {
    const uint32_t count = 1 + (uint32_t)random_below(random, STOPS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        const size_t begin = random_below(random, whole->length);
        const size_t left = whole->length - begin;
        const size_t most = left < WEIR_STOP_BYTES_MAX ? left : WEIR_STOP_BYTES_MAX;
        const bool is_short = random_below(random, 2);
        const size_t length = 1 + random_below(random, is_short && most > 6 ? 6 : most);
        memcpy(bytes[i], whole->text + begin, length);
        if (random_below(random, 2)) {
            bytes[i][length - 1] = 'x';
        }
        stops[i] = (weir_text){bytes[i], length};
    }
    return count;
}

static void check_against_search(const char* piece, int rounds) {
    fixture f = setup(piece);
    test_random random = {.state = 11};
    heard_text* whole = malloc(sizeof *whole);
    heard_text* heard = malloc(sizeof *heard);
    assert_true(whole && heard);
    whole->limit = heard->limit = 0;
    int found = 0;
    for (int round = 0; round < rounds; round++) {
        weir_text stops[STOPS_MAX];
        char bytes[STOPS_MAX][WEIR_STOP_BYTES_MAX];
        run(&f, (uint64_t)round / 8, NULL, 0, whole);
        assert_int_equal(whole->count, TOKENS);
        const uint32_t count = cut_stops(&random, whole, stops, bytes);
        const size_t expected = find_stop(whole, stops, count);
        const weir_generate_stats stats = run(&f, (uint64_t)round / 8, stops, count, heard);
        const bool is_found = expected < whole->length;
        assert_int_equal(stats.end, is_found ? WEIR_END_TEXT : WEIR_END_LIMIT);
        assert_int_equal(heard->length, expected);
        assert_memory_equal(heard->text, whole->text, expected);
        assert_memory_equal(heard->ids, whole->ids, heard->count * sizeof *heard->ids);
        assert_int_equal(weir_context_position(f.context), heard->count);
        found += is_found;
    }
    assert_true(found > rounds / 4 && found < rounds);
    free(whole);
    free(heard);
    teardown(&f);
}

static void text_ends_before_what_is_whole_first(void** state) {
    (void)state;
    check_against_search(NULL, 100);
}

static void pieces_may_hold_several_stop_texts(void** state) {
    (void)state;
    check_against_search("bcabca", 100);
}

// Longer than what is looked at once, so that a stop text lies across.
static void pieces_of_any_length_are_searched(void** state) {
    (void)state;
    char piece[LONG_PIECE + 1];
    test_random random = {.state = 3};
    for (int i = 0; i < LONG_PIECE; i++) {
        piece[i] = (char)('a' + random_below(&random, 3));
    }
    piece[LONG_PIECE] = '\0';
    check_against_search(piece, 30);
}

static void the_caller_comes_before_what_is_held_back(void** state) {
    (void)state;
    fixture f = setup(NULL);
    static heard_text whole;
    static heard_text heard = {.limit = 5};
    run(&f, 1, NULL, 0, &whole);
    // The first five tokens may begin this text, and nothing of them is handed out.
    char bytes[32];
    memcpy(bytes, whole.text, 20);
    const weir_text stop = {bytes, 20};
    const weir_generate_stats stats = run(&f, 1, &stop, 1, &heard);
    assert_int_equal(stats.end, WEIR_END_CALLER);
    assert_int_equal(heard.count, 5);
    assert_int_equal(heard.length, 0);
    teardown(&f);
}

static void the_prompt_is_not_searched(void** state) {
    (void)state;
    fixture f = setup(NULL);
    heard_text heard = {0};
    const uint32_t prompt[] = {1, 4, 5}; // "ab"
    const weir_text stop = {"ab", 2};
    const weir_generate_options options = {.max_tokens = 1,
                                           .ignore_end = true,
                                           .emit = hear,
                                           .context = &heard,
                                           .stop_texts = &stop,
                                           .stop_text_count = 1};
    weir_generate_stats stats;
    assert_ok(weir_generate(f.context, f.tokenizer, f.sampler, prompt, 3, &options, &stats));
    assert_int_equal(stats.end, WEIR_END_LIMIT);
    assert_int_equal(heard.length, weir_tokenizer_piece(f.tokenizer, heard.ids[0]).length);
    teardown(&f);
}

static void stop_texts_have_1_to_256_bytes(void** state) {
    (void)state;
    fixture f = setup(NULL);
    static char bytes[WEIR_STOP_BYTES_MAX + 1];
    const weir_text cases[][2] = {{{"a", 1}, {"", 0}}, {{"a", 1}, {bytes, sizeof bytes}}};
    for (size_t i = 0; i < 2; i++) {
        const weir_generate_options options = {.stop_texts = cases[i], .stop_text_count = 2};
        assert_status(weir_generate(f.context, f.tokenizer, f.sampler, &bos, 1, &options, NULL),
                      WEIR_INVALID_ARGUMENT);
        assert_message_has("stop text 1 has");
    }
    const weir_generate_options none = {.stop_text_count = 1};
    assert_status(weir_generate(f.context, f.tokenizer, f.sampler, &bos, 1, &none, NULL),
                  WEIR_INVALID_ARGUMENT);
    assert_int_equal(weir_context_position(f.context), 0);
    teardown(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_ends_before_what_is_whole_first),
        cmocka_unit_test(pieces_may_hold_several_stop_texts),
        cmocka_unit_test(pieces_of_any_length_are_searched),
        cmocka_unit_test(the_caller_comes_before_what_is_held_back),
        cmocka_unit_test(the_prompt_is_not_searched),
        cmocka_unit_test(stop_texts_have_1_to_256_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, close_shared_devices);
}
