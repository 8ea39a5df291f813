// Tokens that are always whole are found at every place, in steps that the length of the text alone
// decides.
#include "gguf_builder.h"

#include "llm/tokenizer_impl.h"
#include "testing_allocator.h"

#define TOKENS_MAX 64
#define USER_DEFINED 4
#define CONTROL 3

typedef struct vocabulary {
    gguf_text texts[TOKENS_MAX];
    int32_t types[TOKENS_MAX];
    uint32_t count;
} vocabulary;

// <unk>, and what the test adds.
static vocabulary begin_vocabulary(void) {
    return (vocabulary){.texts = {GGUF_TEXT("<unk>")}, .types = {2}, .count = 1};
}

static uint32_t add_token(vocabulary* vocab, const char* bytes, size_t length, int32_t type) {
    vocab->texts[vocab->count] = (gguf_text){bytes, length};
    vocab->types[vocab->count] = type;
    return vocab->count++;
}

// Creates the tokenizer and checks that it took no more memory than was told before.
static weir_status try_create(const vocabulary* vocab, test_allocator* heap,
                              weir_tokenizer** tokenizer) {
    static const float scores[TOKENS_MAX];
    gguf_builder builder = {0};
    gguf_put_string(&builder, "tokenizer.ggml.model", "llama");
    gguf_put_strings(&builder, "tokenizer.ggml.tokens", vocab->texts, vocab->count);
    gguf_put_array(&builder, "tokenizer.ggml.scores", WEIR_GGUF_F32, scores, vocab->count,
                   vocab->count * sizeof(float));
    gguf_put_array(&builder, "tokenizer.ggml.token_type", WEIR_GGUF_I32, vocab->types, vocab->count,
                   vocab->count * sizeof(int32_t));
    gguf_put_bool(&builder, "tokenizer.ggml.add_space_prefix", false);
    size_t byte_size = 0;
    uint8_t* bytes = gguf_builder_finish(&builder, &byte_size);
    weir_gguf* gguf = NULL;
    assert_ok(weir_gguf_parse(NULL, bytes, byte_size, "made", &gguf));
    const weir_allocator allocator = test_allocator_of(heap);
    const weir_status status = weir_tokenizer_create(&allocator, gguf, tokenizer);
    assert_true(atomic_load(&heap->asked_bytes) <= weir_tokenizer_bytes(gguf));
    weir_gguf_destroy(gguf);
    free(bytes);
    return status;
}

static weir_tokenizer* create(const vocabulary* vocab, test_allocator* heap) {
    weir_tokenizer* tokenizer = NULL;
    *heap = (test_allocator){.fail_at = SIZE_MAX};
    assert_ok(try_create(vocab, heap, &tokenizer));
    return tokenizer;
}

// `count` times one character and another one at the end.
static char* repeat(char character, size_t count, char last) {
    char* text = malloc(count + 1);
    assert_non_null(text);
    memset(text, character, count);
    text[count] = last;
    return text;
}

static uint32_t longest_at(const vocabulary* vocab, int32_t type, const char* text, size_t length) {
    uint32_t best = WEIR_TOKEN_NONE;
    for (uint32_t id = 0; id < vocab->count; id++) {
        const gguf_text token = vocab->texts[id];
        if (vocab->types[id] == type && token.length > 0 && token.length <= length &&
            memcmp(token.bytes, text, token.length) == 0 &&
            (best == WEIR_TOKEN_NONE || token.length > vocab->texts[best].length)) {
            best = id;
        }
    }
    return best;
}

// All places of random windows agree with a comparison of every token, and the steps with the bound
// that the header promises.
static void check_windows(const vocabulary* vocab, const token_trie* trie, int32_t type,
                          test_random* random) {
    char text[80];
    uint32_t ids[80];
    for (int round = 0; round < 20; round++) {
        const size_t length = 1 + random_below(random, sizeof text);
        const size_t count = 1 + random_below(random, length);
        for (size_t i = 0; i < length; i++) {
            text[i] = (char)('a' + random_below(random, 3));
        }
        const size_t read = length - count > trie->longest ? count + trie->longest : length;
        assert_true(weir_token_trie_match(trie, text, length, count, ids) <= 2 * read);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(ids[i], longest_at(vocab, type, text + i, length - i));
        }
    }
}

static void the_longest_token_is_found_at_every_place(void** state) {
    (void)state;
    test_random random = {17};
    for (int round = 0; round < 300; round++) {
        char texts[40][12];
        vocabulary vocab = begin_vocabulary();
        for (uint32_t i = 0; i < 40; i++) {
            const size_t length = random_below(&random, sizeof texts[i]); // none is left out
            for (size_t k = 0; k < length; k++) {
                texts[i][k] = (char)('a' + random_below(&random, 2 + random_below(&random, 2)));
            }
            add_token(&vocab, texts[i], length, random_below(&random, 3) ? USER_DEFINED : CONTROL);
        }
        test_allocator heap;
        weir_tokenizer* tokenizer = create(&vocab, &heap);
        check_windows(&vocab, &tokenizer->user_defined, USER_DEFINED, &random);
        check_windows(&vocab, &tokenizer->control, CONTROL, &random);
        weir_tokenizer_destroy(tokenizer);
        assert_int_equal(heap.live_blocks, 0);
    }
}

// Steps for a token of many 'a' and a 'b', and one that begins with the 'b', in a text of 'a': each
// place begins as the first does, and each ends as the second.
static size_t steps_for(size_t token_length, size_t text_length) {
    char* front = repeat('a', token_length - 1, 'b');
    char* back = repeat('a', token_length - 1, 'a');
    char* text = repeat('a', text_length - 1, 'a');
    uint32_t* ids = malloc(text_length * sizeof *ids);
    assert_non_null(ids);
    back[0] = 'b';
    vocabulary vocab = begin_vocabulary();
    add_token(&vocab, front, token_length, USER_DEFINED);
    add_token(&vocab, back, token_length, USER_DEFINED);
    test_allocator heap;
    weir_tokenizer* tokenizer = create(&vocab, &heap);
    const size_t steps =
        weir_token_trie_match(&tokenizer->user_defined, text, text_length, text_length, ids);
    for (size_t i = 0; i < text_length; i++) {
        assert_int_equal(ids[i], WEIR_TOKEN_NONE);
    }
    weir_tokenizer_destroy(tokenizer);
    assert_int_equal(heap.live_blocks, 0);
    free(front);
    free(back);
    free(text);
    free(ids);
    return steps;
}

static void steps_grow_with_the_text_and_not_with_the_tokens(void** state) {
    (void)state;
    const size_t small = steps_for(1000, 10000);
    assert_in_range(small, 10000, 20000);
    assert_in_range(steps_for(1000, 20000), 2 * small - 2000, 2 * small + 2000);
    assert_in_range(steps_for(8000, 10000), 10000, 20000);
}

// A step for each byte of the longest beginning at every place would be some 10^11.
static void megabytes_of_a_long_beginning_are_encoded(void** state) {
    (void)state;
    const size_t token_length = 300000;
    const size_t text_length = 1 << 20;
    char* token = repeat('a', token_length - 1, 'b');
    char* text = repeat('a', text_length - 1, 'b');
    vocabulary vocab = begin_vocabulary();
    const uint32_t letter = add_token(&vocab, "a", 1, 1);
    const uint32_t user = add_token(&vocab, token, token_length, USER_DEFINED);
    add_token(&vocab, "bbb", 3, CONTROL);
    test_allocator heap;
    weir_tokenizer* tokenizer = create(&vocab, &heap);
    for (unsigned flags = 0; flags <= WEIR_TOKENIZE_SPECIAL; flags += WEIR_TOKENIZE_SPECIAL) {
        weir_ids ids = {0};
        assert_ok(weir_tokenizer_encode(tokenizer, text, text_length, flags, &ids));
        assert_int_equal(ids.count, text_length - token_length + 1);
        assert_int_equal(ids.items[ids.count - 2], letter);
        assert_int_equal(ids.items[ids.count - 1], user);
        weir_ids_free(&ids);
    }
    weir_tokenizer_destroy(tokenizer);
    assert_int_equal(heap.live_blocks, 0);
    free(token);
    free(text);
}

// Several windows, control tokens between them, and text that begins anew behind each.
static void a_text_of_many_windows_is_cut_as_one_of_one(void** state) {
    (void)state;
    vocabulary vocab = begin_vocabulary();
    const uint32_t letter = add_token(&vocab, "x", 1, 1);
    const uint32_t user = add_token(&vocab, "xyz", 3, USER_DEFINED);
    const uint32_t control = add_token(&vocab, "<|end|>", 7, CONTROL);
    test_allocator heap;
    weir_tokenizer* tokenizer = create(&vocab, &heap);
    static const char unit[] = "xxyz<|end|>";
    const size_t unit_length = sizeof unit - 1;
    const size_t units = 1000;
    char* text = malloc(units * unit_length);
    assert_non_null(text);
    for (size_t i = 0; i < units * unit_length; i++) {
        text[i] = unit[i % unit_length];
    }
    weir_ids ids = {0};
    assert_ok(
        weir_tokenizer_encode(tokenizer, text, units * unit_length, WEIR_TOKENIZE_SPECIAL, &ids));
    assert_int_equal(ids.count, 3 * units);
    for (size_t i = 0; i < units; i++) {
        assert_int_equal(ids.items[3 * i], letter);
        assert_int_equal(ids.items[3 * i + 1], user);
        assert_int_equal(ids.items[3 * i + 2], control);
    }
    weir_ids_free(&ids);
    weir_tokenizer_destroy(tokenizer);
    assert_int_equal(heap.live_blocks, 0);
    free(text);
}

static weir_status create_and_encode(const vocabulary* vocab, test_allocator* heap) {
    weir_tokenizer* tokenizer = NULL;
    WEIR_TRY(try_create(vocab, heap, &tokenizer));
    weir_ids ids = {.allocator = test_allocator_of(heap)};
    const weir_status status =
        weir_tokenizer_encode(tokenizer, "a<c>a<u>", 8, WEIR_TOKENIZE_SPECIAL, &ids);
    assert_int_equal(ids.count, status == WEIR_OK ? 4 : 0);
    weir_ids_free(&ids);
    weir_tokenizer_destroy(tokenizer);
    return status;
}

static void each_failing_allocation_leaks_nothing(void** state) {
    (void)state;
    vocabulary vocab = begin_vocabulary();
    add_token(&vocab, "a", 1, 1);
    add_token(&vocab, "<u>", 3, USER_DEFINED);
    add_token(&vocab, "<c>", 3, CONTROL);
    weir_status status = WEIR_OUT_OF_MEMORY;
    size_t calls = 0;
    for (; status == WEIR_OUT_OF_MEMORY; calls++) {
        test_allocator heap = {.fail_at = calls};
        status = create_and_encode(&vocab, &heap);
        assert_int_equal(heap.live_blocks, 0);
    }
    assert_ok(status);
    assert_true(calls > 20); // ten of them for the tries, five for the text and its windows
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_token_is_found_at_every_place),
        cmocka_unit_test(steps_grow_with_the_text_and_not_with_the_tokens),
        cmocka_unit_test(megabytes_of_a_long_beginning_are_encoded),
        cmocka_unit_test(a_text_of_many_windows_is_cut_as_one_of_one),
        cmocka_unit_test(each_failing_allocation_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
