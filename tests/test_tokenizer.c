// The tokenizer on vocabularies that the tests build themselves.
#include "testing.h"

#include <math.h>
#include <time.h>
#include <weir-llm/tokenizer.h>

#include "gguf_builder.h"
#include "testing_allocator.h"

#define KEY(name) "tokenizer.ggml." name
#define MAX_TOKENS 512
#define FIRST_BYTE 3u    // <0x00>
#define FIRST_PIECE 259u // the first token behind the byte tokens

// What a vocabulary file holds; a test takes `basic_vocabulary()` and changes it.
typedef struct vocabulary {
    gguf_text tokens[MAX_TOKENS];
    float scores[MAX_TOKENS];
    int32_t types[MAX_TOKENS];
    uint32_t count;
    uint32_t score_count; // elements written; 0 = no key
    uint32_t type_count;
    const char* model;
    uint32_t bos, eos, eot, unknown; // WEIR_TOKEN_NONE = no key
    int add_space;                   // -1 = no key
    int add_bos;
} vocabulary;

static void add_token(vocabulary* vocab, gguf_text text, float score, int32_t type) {
    assert_true(vocab->count < MAX_TOKENS);
    vocab->tokens[vocab->count] = text;
    vocab->scores[vocab->count] = score;
    vocab->types[vocab->count] = type;
    vocab->count++;
    vocab->score_count = vocab->type_count = vocab->count;
}

static void add_piece(vocabulary* vocab, const char* text, float score) {
    add_token(vocab, (gguf_text){text, strlen(text)}, score, 1);
}

// <unk>, <s>, </s> and, where asked for, the 256 byte tokens.
static vocabulary basic_vocabulary(bool with_bytes) {
    static char bytes[256][8];
    vocabulary vocab = {.model = "llama",
                        .bos = 1,
                        .eos = 2,
                        .eot = WEIR_TOKEN_NONE,
                        .unknown = 0,
                        .add_space = -1,
                        .add_bos = -1};
    add_token(&vocab, GGUF_TEXT("<unk>"), 0.0f, 2);
    add_token(&vocab, GGUF_TEXT("<s>"), 0.0f, 3);
    add_token(&vocab, GGUF_TEXT("</s>"), 0.0f, 3);
    for (unsigned byte = 0; with_bytes && byte < 256; byte++) {
        snprintf(bytes[byte], sizeof bytes[byte], "<0x%02X>", byte);
        add_token(&vocab, (gguf_text){bytes[byte], 6}, 0.0f, 6);
    }
    return vocab;
}

static void put_id(gguf_builder* builder, const char* key, uint32_t id) {
    if (id != WEIR_TOKEN_NONE) {
        gguf_put_u32(builder, key, id);
    }
}

static uint8_t* write_vocabulary(const vocabulary* vocab, size_t* byte_size) {
    gguf_builder builder = {0};
    if (vocab->model) {
        gguf_put_string(&builder, KEY("model"), vocab->model);
    }
    if (vocab->count > 0) {
        gguf_put_strings(&builder, KEY("tokens"), vocab->tokens, vocab->count);
    }
    if (vocab->score_count > 0) {
        gguf_put_array(&builder, KEY("scores"), WEIR_GGUF_F32, vocab->scores, vocab->score_count,
                       vocab->score_count * sizeof(float));
    }
    if (vocab->type_count > 0) {
        gguf_put_array(&builder, KEY("token_type"), WEIR_GGUF_I32, vocab->types, vocab->type_count,
                       vocab->type_count * sizeof(int32_t));
    }
    put_id(&builder, KEY("bos_token_id"), vocab->bos);
    put_id(&builder, KEY("eos_token_id"), vocab->eos);
    put_id(&builder, KEY("eot_token_id"), vocab->eot);
    put_id(&builder, KEY("unknown_token_id"), vocab->unknown);
    if (vocab->add_space >= 0) {
        gguf_put_bool(&builder, KEY("add_space_prefix"), vocab->add_space != 0);
    }
    if (vocab->add_bos >= 0) {
        gguf_put_bool(&builder, KEY("add_bos_token"), vocab->add_bos != 0);
    }
    return gguf_builder_finish(&builder, byte_size);
}

// Gives the file back before the tokenizer is used, so that ASan sees it when anything was kept.
static weir_status try_create(const vocabulary* vocab, const weir_allocator* allocator,
                              weir_tokenizer** tokenizer) {
    size_t byte_size = 0;
    uint8_t* bytes = write_vocabulary(vocab, &byte_size);
    weir_gguf* gguf = NULL;
    assert_ok(weir_gguf_parse(NULL, bytes, byte_size, "small.gguf", &gguf));
    const weir_status status = weir_tokenizer_create(allocator, gguf, tokenizer);
    weir_gguf_destroy(gguf);
    free(bytes);
    return status;
}

static weir_tokenizer* create(const vocabulary* vocab) {
    weir_tokenizer* tokenizer = NULL;
    assert_ok(try_create(vocab, NULL, &tokenizer));
    return tokenizer;
}

static void assert_same_ids(const weir_ids* ids, const uint32_t* expected, size_t count) {
    for (size_t i = 0; i < ids->count && i < count; i++) {
        if (ids->items[i] != expected[i]) {
            fail_msg("id %zu is %u, expected %u", i, ids->items[i], expected[i]);
        }
    }
    assert_int_equal(ids->count, count);
}

// Encodes a text and compares: assert_encodes(tokenizer, "text", flags, 5, 7, 9).
#define assert_encodes(tokenizer, text, flags, ...)                                                \
    do {                                                                                           \
        const uint32_t expected_ids[] = {__VA_ARGS__};                                             \
        weir_ids got_ids = {0};                                                                    \
        assert_ok(                                                                                 \
            weir_tokenizer_encode((tokenizer), (text), sizeof(text) - 1, (flags), &got_ids));      \
        assert_same_ids(&got_ids, expected_ids, sizeof expected_ids / sizeof *expected_ids);       \
        weir_ids_free(&got_ids);                                                                   \
    } while (0)

static void assert_piece(const weir_tokenizer* tokenizer, uint32_t id, const char* expected) {
    const weir_text piece = weir_tokenizer_piece(tokenizer, id);
    assert_int_equal(piece.length, strlen(expected));
    assert_memory_equal(piece.bytes, expected, strlen(expected));
}

static void pairs_merge_by_score_then_from_the_left(void** state) {
    (void)state;
    vocabulary vocab = basic_vocabulary(true);
    vocab.add_space = 0;
    add_piece(&vocab, "a", -10.0f);  // 259
    add_piece(&vocab, "b", -10.0f);  // 260
    add_piece(&vocab, "aa", -2.0f);  // 261
    add_piece(&vocab, "ab", -1.0f);  // 262
    add_piece(&vocab, "aab", -9.0f); // 263
    add_piece(&vocab, "bc", -5.0f);  // 264: no piece for "c" alone
    weir_tokenizer* tokenizer = create(&vocab);
    assert_encodes(tokenizer, "aaa", 0, 261, 259);
    assert_encodes(tokenizer, "aab", 0, 263);
    assert_encodes(tokenizer, "aaab", 0, 261, 262);
    assert_encodes(tokenizer, "abab", 0, 262, 262);
    assert_encodes(tokenizer, "bbc", 0, 260, 264);
    assert_encodes(tokenizer, "abc", 0, 262, FIRST_BYTE + 'c');
    weir_tokenizer_destroy(tokenizer);
}

static void a_space_is_put_before_text_but_not_before_nothing(void** state) {
    (void)state;
    vocabulary vocab = basic_vocabulary(true);
    add_piece(&vocab, "\xE2\x96\x81", -9.0f); // 259
    add_piece(&vocab, "z", -9.0f);            // 260
    add_piece(&vocab, "\xE2\x96\x81z",
              -1.0f); // 261
    weir_tokenizer* with = create(&vocab);
    vocab.add_space = 0;
    weir_tokenizer* without = create(&vocab);
    assert_true(weir_tokenizer_strips_space(with));
    assert_false(weir_tokenizer_strips_space(without));
    assert_encodes(with, "z", 0, 261);
    assert_encodes(with, " z", 0, 259, 261);
    assert_encodes(with, " ", 0, 259, 259);
    assert_encodes(without, "z", 0, 260);
    assert_encodes(without, " z", 0, 261);
    assert_encodes(without, "\xE2\x96\x81z", 0, 261);
    weir_ids ids = {0};
    assert_ok(weir_tokenizer_encode(with, NULL, 0, 0, &ids));
    assert_int_equal(ids.count, 0);
    assert_ok(weir_tokenizer_encode(with, "", 0, WEIR_TOKENIZE_BOS, &ids));
    assert_int_equal(ids.count, 1);
    assert_int_equal(ids.items[0], 1);
    weir_ids_free(&ids);
    weir_tokenizer_destroy(with);
    weir_tokenizer_destroy(without);
}

static void bos_comes_where_the_vocabulary_asks(void** state) {
    (void)state;
    vocabulary vocab = basic_vocabulary(true);
    vocab.add_space = 0;
    weir_tokenizer* tokenizer = create(&vocab);
    assert_true(weir_tokenizer_adds_bos(tokenizer));
    assert_encodes(tokenizer, "x", WEIR_TOKENIZE_BOS, 1, FIRST_BYTE + 'x');
    assert_encodes(tokenizer, "x", WEIR_TOKENIZE_PLAIN, FIRST_BYTE + 'x');
    weir_tokenizer_destroy(tokenizer);
    vocab.add_bos = 0;
    tokenizer = create(&vocab);
    assert_false(weir_tokenizer_adds_bos(tokenizer));
    assert_encodes(tokenizer, "x", WEIR_TOKENIZE_BOS, FIRST_BYTE + 'x');
    weir_tokenizer_destroy(tokenizer);
    vocab.add_bos = -1;
    vocab.bos = WEIR_TOKEN_NONE;
    tokenizer = create(&vocab);
    assert_int_equal(weir_tokenizer_bos(tokenizer), WEIR_TOKEN_NONE);
    assert_encodes(tokenizer, "x", WEIR_TOKENIZE_BOS, FIRST_BYTE + 'x');
    weir_tokenizer_destroy(tokenizer);
}

static void uncovered_characters_become_bytes_or_unknown(void** state) {
    (void)state;
    vocabulary vocab = basic_vocabulary(true);
    vocab.add_space = 0;
    weir_tokenizer* tokenizer = create(&vocab);
    assert_encodes(tokenizer, "\xC3\xA9\xFF", 0, FIRST_BYTE + 0xC3, FIRST_BYTE + 0xA9,
                   FIRST_BYTE + 0xFF);
    weir_tokenizer_destroy(tokenizer);

    vocab = basic_vocabulary(false);
    vocab.add_space = 0;
    add_token(&vocab, GGUF_TEXT("<0xC3>"), 0.0f, 6); // 3
    add_piece(&vocab, "z", -1.0f);                   // 4
    tokenizer = create(&vocab);
    assert_encodes(tokenizer, "z\xC3\xA9z", 0, 4, 0, 4);
    assert_encodes(tokenizer, "\xC3z", 0, 3, 4);
    assert_encodes(tokenizer, "\xF0\x9F\xA6\x99", 0, 0);          // one character
    assert_encodes(tokenizer, "\xF0\x9F\xA6", 0, 0, 0, 0);        // cut off
    assert_encodes(tokenizer, "\xED\xA0\x80", 0, 0, 0, 0);        // a surrogate
    assert_encodes(tokenizer, "\xC0\x80", 0, 0, 0);               // too long a form
    assert_encodes(tokenizer, "\xE0\x9F\x80", 0, 0, 0, 0);        // too long a form
    assert_encodes(tokenizer, "\xF0\x80\x80\x80", 0, 0, 0, 0, 0); // too long a form
    assert_encodes(tokenizer, "\xF4\x90\x80\x80", 0, 0, 0, 0, 0); // past U+10FFFF
    weir_tokenizer_destroy(tokenizer);
}

static void control_text_is_plain_text_unless_asked_for(void** state) {
    (void)state;
    vocabulary vocab = basic_vocabulary(true);
    add_piece(&vocab, "\xE2\x96\x81", -9.0f);         // 259
    add_piece(&vocab, "<", -9.0f);                    // 260
    add_piece(&vocab, "/s>", -3.0f);                  // 261
    add_piece(&vocab, "s>", -2.0f);                   // 262
    add_piece(&vocab, "a", -9.0f);                    // 263
    add_token(&vocab, GGUF_TEXT("</s><s>"), 0.0f, 3); // 264
    weir_tokenizer* tokenizer = create(&vocab);
    assert_encodes(tokenizer, "</s>", 0, 259, 260, 261);
    assert_encodes(tokenizer, "<0x0A>", 0, 259, 260, FIRST_BYTE + '0', FIRST_BYTE + 'x',
                   FIRST_BYTE + '0', FIRST_BYTE + 'A', FIRST_BYTE + '>');
    assert_encodes(tokenizer, "</s>", WEIR_TOKENIZE_SPECIAL, 2);
    assert_encodes(tokenizer, "a</s>a", WEIR_TOKENIZE_SPECIAL, 259, 263, 2, 259, 263);
    assert_encodes(tokenizer, "</s><s></s>", WEIR_TOKENIZE_SPECIAL, 264, 2);
    assert_encodes(tokenizer, "</s", WEIR_TOKENIZE_SPECIAL, 259, 260, FIRST_BYTE + '/',
                   FIRST_BYTE + 's');
    weir_tokenizer_destroy(tokenizer);
}

static void user_defined_tokens_are_always_whole(void** state) {
    (void)state;
    vocabulary vocab = basic_vocabulary(true);
    vocab.add_space = 0;
    add_piece(&vocab, "a", -9.0f);                                     // 259
    add_piece(&vocab, "ab", -1.0f);                                    // 260
    add_token(&vocab, GGUF_TEXT("bc"), 0.0f, 4);                       // 261
    add_token(&vocab, GGUF_TEXT("bcd"), 0.0f, 4);                      // 262
    add_piece(&vocab, "abc", 0.0f);                                    // 263
    add_token(&vocab, GGUF_TEXT("\xE2\x96\x81\xE2\x96\x81"), 0.0f, 4); // 264
    add_token(&vocab, GGUF_TEXT("</s>bc"), 0.0f, 4);                   // 265
    weir_tokenizer* tokenizer = create(&vocab);
    assert_encodes(tokenizer, "abc", 0, 259, 261);
    assert_encodes(tokenizer, "abcdbc", 0, 259, 262, 261);
    assert_encodes(tokenizer, "ab", 0, 260);
    assert_encodes(tokenizer, "a  a", 0, 259, 264, 259);
    assert_encodes(tokenizer, "</s>bc</s>", WEIR_TOKENIZE_SPECIAL, 265, 2);
    weir_tokenizer_destroy(tokenizer);
}

static void unused_and_repeated_and_empty_tokens_are_passed_over(void** state) {
    (void)state;
    vocabulary vocab = basic_vocabulary(true);
    vocab.add_space = 0;
    add_piece(&vocab, "a", -9.0f);                   // 259
    add_piece(&vocab, "a", -1.0f);                   // 260
    add_token(&vocab, GGUF_TEXT("aa"), -1.0f, 5);    // 261, unused
    add_piece(&vocab, "", 5.0f);                     // 262
    add_token(&vocab, GGUF_TEXT(""), 0.0f, 4);       // 263
    add_token(&vocab, GGUF_TEXT(""), 0.0f, 3);       // 264
    add_token(&vocab, GGUF_TEXT("b"), -1.0f, 99);    // 265, a type of later times
    add_token(&vocab, GGUF_TEXT("</s>"), 0.0f, 3);   // 266
    add_token(&vocab, GGUF_TEXT("</s>\n"), 0.0f, 3); // 267
    add_token(&vocab, GGUF_TEXT("</s>\n"), 0.0f, 3); // 268
    add_token(&vocab, GGUF_TEXT("<0x21>"), 0.0f, 6); // 269
    weir_tokenizer* tokenizer = create(&vocab);
    assert_encodes(tokenizer, "aab", WEIR_TOKENIZE_SPECIAL, 259, 259, 265);
    assert_encodes(tokenizer, "</s></s>\n", WEIR_TOKENIZE_SPECIAL, 2, 267);
    assert_encodes(tokenizer, "!", 0, FIRST_BYTE + '!');
    assert_piece(tokenizer, 261, "aa");
    assert_piece(tokenizer, 269, "!");
    weir_tokenizer_destroy(tokenizer);
}

static void nan_scores_are_the_lowest(void** state) {
    (void)state;
    vocabulary vocab = basic_vocabulary(true);
    vocab.add_space = 0;
    add_piece(&vocab, "ab", NAN);    // 259
    add_piece(&vocab, "bc", -1e30f); // 260
    add_piece(&vocab, "cd", -NAN);   // 261
    weir_tokenizer* tokenizer = create(&vocab);
    assert_encodes(tokenizer, "abcd", 0, FIRST_BYTE + 'a', 260, FIRST_BYTE + 'd');
    assert_encodes(tokenizer, "abd", 0, 259, FIRST_BYTE + 'd');
    weir_tokenizer_destroy(tokenizer);
}

static void pieces_are_text_and_control_tokens_are_silent(void** state) {
    (void)state;
    vocabulary vocab = basic_vocabulary(true);
    vocab.eot = 261;
    add_piece(&vocab, "\xE2\x96\x81z\xE2\x96\x81",
              -9.0f);                                    // 259
    add_token(&vocab, (gguf_text){"a\0b", 3}, -9.0f, 1); // 260
    add_token(&vocab, GGUF_TEXT("<end>"), 0.0f, 3);      // 261
    weir_tokenizer* tokenizer = create(&vocab);
    assert_int_equal(weir_tokenizer_size(tokenizer), 262);
    assert_int_equal(weir_tokenizer_bos(tokenizer), 1);
    assert_int_equal(weir_tokenizer_eos(tokenizer), 2);
    assert_piece(tokenizer, 259, " z ");
    assert_piece(tokenizer, FIRST_BYTE + 0x0A, "\n");
    assert_int_equal(weir_tokenizer_piece(tokenizer, FIRST_BYTE).length, 1);
    assert_int_equal(weir_tokenizer_piece(tokenizer, FIRST_BYTE).bytes[0], 0);
    assert_int_equal(weir_tokenizer_piece(tokenizer, 260).length, 3);
    assert_memory_equal(weir_tokenizer_piece(tokenizer, 260).bytes, "a\0b", 3);
    const uint32_t silent[] = {0, 1, 2, 261, 262, WEIR_TOKEN_NONE};
    for (size_t i = 0; i < sizeof silent / sizeof *silent; i++) {
        assert_piece(tokenizer, silent[i], "");
    }
    for (uint32_t id = 0; id < 262; id++) {
        assert_int_equal(weir_tokenizer_is_end(tokenizer, id), id == 2 || id == 261);
    }
    assert_false(weir_tokenizer_is_end(tokenizer, WEIR_TOKEN_NONE)); // although EOM is none
    weir_tokenizer_destroy(tokenizer);
}

// As much as fits is written and terminated, and no byte behind it.
static void decoded_text_is_cut_to_its_room(void** state) {
    (void)state;
    vocabulary vocab = basic_vocabulary(true);
    add_piece(&vocab, "\xE2\x96\x81z\xE2\x96\x81", -9.0f); // 259
    weir_tokenizer* tokenizer = create(&vocab);
    // BOS adds nothing; the first space is that of encoding, the second one is not.
    const uint32_t ids[] = {1, 259, 259, FIRST_BYTE, FIRST_BYTE + '!', 2, WEIR_TOKEN_NONE};
    const char expected[] = "z  z \0!";
    const size_t length = sizeof expected - 1;
    assert_int_equal(weir_tokenizer_decode(tokenizer, ids, 7, NULL, 0), length);
    for (size_t capacity = 1; capacity <= length + 2; capacity++) {
        char text[16];
        memset(text, '#', sizeof text);
        const size_t written = capacity - 1 < length ? capacity - 1 : length;
        assert_int_equal(weir_tokenizer_decode(tokenizer, ids, 7, text, capacity), length);
        assert_memory_equal(text, expected, written);
        assert_int_equal(text[written], '\0');
        assert_int_equal(text[written + 1], '#');
    }
    char none[2] = "x";
    assert_int_equal(weir_tokenizer_decode(tokenizer, NULL, 0, none, 2), 0);
    assert_string_equal(none, "");
    weir_tokenizer_destroy(tokenizer);
}

static void missing_types_are_inferred(void** state) {
    (void)state;
    vocabulary vocab = basic_vocabulary(true);
    vocab.add_space = 0;
    add_piece(&vocab, "a", -1.0f);
    vocab.type_count = 0;
    weir_tokenizer* tokenizer = create(&vocab);
    assert_encodes(tokenizer, "ab</s>", WEIR_TOKENIZE_SPECIAL, 259, FIRST_BYTE + 'b', 2);
    assert_piece(tokenizer, FIRST_BYTE + 'b', "b");
    assert_piece(tokenizer, 2, "");
    weir_tokenizer_destroy(tokenizer);
}

static void unusable_vocabularies_are_refused_by_key(void** state) {
    (void)state;
    const vocabulary good = basic_vocabulary(false);
    vocabulary cases[12];
    const char* keys[12];
    size_t count = 0;
#define CASE(key, change)                                                                          \
    do {                                                                                           \
        vocabulary* vocab = &cases[count];                                                         \
        *vocab = good;                                                                             \
        keys[count++] = KEY(key);                                                                  \
        change;                                                                                    \
    } while (0)
    CASE("model", vocab->model = NULL);
    CASE("tokens", vocab->count = 0);
    CASE("scores", vocab->score_count = 0);
    CASE("scores", vocab->score_count = 2);
    CASE("token_type", vocab->type_count = 1);
    CASE("bos_token_id", vocab->bos = 3);
    CASE("eos_token_id", vocab->eos = UINT32_MAX - 1);
    CASE("eot_token_id", vocab->eot = 3);
    CASE("unknown_token_id", vocab->unknown = 3);
    CASE("add_bos_token", (vocab->bos = WEIR_TOKEN_NONE, vocab->add_bos = 1));
    CASE("tokens", (vocab->types[0] = 6, vocab->tokens[0] = GGUF_TEXT("<0x0a>")));
    CASE("unknown_token_id", (vocab->unknown = WEIR_TOKEN_NONE, vocab->types[0] = 1));
#undef CASE
    for (size_t i = 0; i < count; i++) {
        weir_tokenizer* tokenizer = NULL;
        assert_status(try_create(&cases[i], NULL, &tokenizer), WEIR_BAD_FORMAT);
        assert_message_has("small.gguf");
        assert_message_has(keys[i]);
        assert_null(tokenizer);
    }
}

static void other_models_are_unsupported(void** state) {
    (void)state;
    const char* const models[] = {"gpt2", "bert", "llam", "llama2", ""};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        vocabulary vocab = basic_vocabulary(true);
        vocab.model = models[i];
        weir_tokenizer* tokenizer = NULL;
        assert_status(try_create(&vocab, NULL, &tokenizer), WEIR_UNSUPPORTED);
        assert_message_has(models[i]);
        assert_message_has("small.gguf");
    }
}

// Random pieces over the letters a to d, of each type that text can become.
static vocabulary random_vocabulary(test_random* random, char texts[][8]) {
    vocabulary vocab = basic_vocabulary(true);
    vocab.add_space = 0;
    const uint32_t count = 4 + (uint32_t)random_below(random, 40);
    for (uint32_t i = 0; i < count; i++) {
        const size_t length = 1 + random_below(random, 5);
        for (size_t k = 0; k < length; k++) {
            texts[i][k] = (char)('a' + random_below(random, 4));
        }
        const float score = random_below(random, 8) ? -(float)random_below(random, 6) : NAN;
        add_token(&vocab, (gguf_text){texts[i], length}, score, 1);
    }
    return vocab;
}

static uint32_t find_by_search(const vocabulary* vocab, const char* text, size_t length) {
    for (uint32_t id = FIRST_PIECE; id < vocab->count; id++) {
        if (vocab->tokens[id].length == length &&
            memcmp(vocab->tokens[id].bytes, text, length) == 0) {
            return id;
        }
    }
    return WEIR_TOKEN_NONE;
}

// The definition of the encoding, step by step: merges the best pair of all until there is none.
static void encode_by_definition(const vocabulary* vocab, const char* text, size_t length,
                                 weir_ids* ids) {
    size_t ends[64]; // of the parts
    size_t count = length;
    for (size_t i = 0; i < length; i++) {
        ends[i] = i + 1;
    }
    for (;;) {
        size_t best = SIZE_MAX;
        float best_score = 0.0f;
        for (size_t i = 0; i + 1 < count; i++) {
            const size_t begin = i > 0 ? ends[i - 1] : 0;
            const uint32_t id = find_by_search(vocab, text + begin, ends[i + 1] - begin);
            const float raw = id == WEIR_TOKEN_NONE ? 0.0f : vocab->scores[id];
            const float score = isnan(raw) ? -INFINITY : raw;
            if (id != WEIR_TOKEN_NONE && (best == SIZE_MAX || score > best_score)) {
                best = i;
                best_score = score;
            }
        }
        if (best == SIZE_MAX) {
            break;
        }
        memmove(ends + best, ends + best + 1, (count - best - 1) * sizeof *ends);
        count--;
    }
    for (size_t i = 0; i < count; i++) {
        const size_t begin = i > 0 ? ends[i - 1] : 0;
        const uint32_t id = find_by_search(vocab, text + begin, ends[i] - begin);
        assert_true(id != WEIR_TOKEN_NONE || ends[i] - begin == 1);
        assert_ok(
            weir_ids_push(ids, id != WEIR_TOKEN_NONE ? id : FIRST_BYTE + (uint8_t)text[begin]));
    }
}

static void random_text_encodes_as_defined(void** state) {
    (void)state;
    test_random random = {.state = 20240607};
    for (int round = 0; round < 300; round++) {
        char texts[64][8];
        const vocabulary vocab = random_vocabulary(&random, texts);
        weir_tokenizer* tokenizer = create(&vocab);
        for (int i = 0; i < 20; i++) {
            char text[64];
            const size_t length = 1 + random_below(&random, sizeof text);
            for (size_t k = 0; k < length; k++) {
                text[k] = (char)('a' + random_below(&random, 5));
            }
            weir_ids got = {0};
            weir_ids expected = {0};
            assert_ok(weir_tokenizer_encode(tokenizer, text, length, 0, &got));
            encode_by_definition(&vocab, text, length, &expected);
            assert_same_ids(&got, expected.items, expected.count);
            weir_ids_free(&got);
            weir_ids_free(&expected);
        }
        weir_tokenizer_destroy(tokenizer);
    }
}

static void random_bytes_survive_the_round_trip(void** state) {
    (void)state;
    vocabulary vocab = basic_vocabulary(true);
    add_piece(&vocab, "\xE2\x96\x81", -1.0f);
    add_piece(&vocab, "\xE2\x96\x81\xE2\x96\x81", -2.0f);
    add_piece(&vocab, "\xC3\xA9", -3.0f);
    add_piece(&vocab, "\x80\xFF", -4.0f);
    add_token(&vocab, GGUF_TEXT("<s"), 0.0f, 4);
    for (int add_space = 0; add_space <= 1; add_space++) {
        vocab.add_space = add_space;
        weir_tokenizer* tokenizer = create(&vocab);
        test_random random = {.state = 99};
        for (int round = 0; round < 500; round++) {
            static const char common[] = "  <s\xC3\xA9\x80\xFF";
            char text[200];
            char decoded[sizeof text + 1];
            const size_t length = random_below(&random, sizeof text);
            for (size_t i = 0; i < length; i++) {
                const bool any = random_below(&random, 2);
                text[i] = any ? (char)random_below(&random, 256)
                              : common[random_below(&random, sizeof common)];
            }
            weir_ids ids = {0};
            assert_ok(weir_tokenizer_encode(tokenizer, text, length, 0, &ids));
            assert_int_equal(
                weir_tokenizer_decode(tokenizer, ids.items, ids.count, decoded, sizeof decoded),
                length);
            assert_memory_equal(decoded, text, length);
            weir_ids_free(&ids);
        }
        weir_tokenizer_destroy(tokenizer);
    }
}

// Encodes 2 MB of one character: each level of pieces doubles the one below.
static void check_repeated(const weir_tokenizer* tokenizer, char character, uint32_t longest) {
    const size_t length = 2u << 20;
    char* text = malloc(length);
    assert_non_null(text);
    memset(text, character, length);
    weir_ids ids = {0};
    const clock_t begin = clock();
    assert_ok(weir_tokenizer_encode(tokenizer, text, length, 0, &ids));
    const double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    assert_true(seconds < 30.0); // quadratic time would be hours
    assert_int_equal(ids.count, length / 16);
    for (size_t i = 0; i < ids.count; i++) {
        assert_int_equal(ids.items[i], longest);
    }
    weir_ids_free(&ids);
    free(text);
}

static void megabytes_of_one_character_take_seconds(void** state) {
    (void)state;
    vocabulary vocab = basic_vocabulary(true);
    vocab.add_space = 0;
    const char* const marks = "\xE2\x96\x81\xE2\x96\x81\xE2\x96\x81\xE2\x96\x81\xE2\x96\x81\xE2\x96"
                              "\x81\xE2\x96\x81\xE2\x96\x81\xE2\x96\x81\xE2\x96\x81\xE2\x96\x81\xE2"
                              "\x96\x81\xE2\x96\x81\xE2\x96\x81\xE2\x96\x81\xE2\x96\x81";
    for (size_t length = 1; length <= 16; length *= 2) {
        add_token(&vocab, (gguf_text){"aaaaaaaaaaaaaaaa", length}, -(float)length, 1);
        add_token(&vocab, (gguf_text){marks, 3 * length}, -(float)length, 1);
    }
    weir_tokenizer* tokenizer = create(&vocab);
    check_repeated(tokenizer, 'a', FIRST_PIECE + 8);
    check_repeated(tokenizer, ' ', FIRST_PIECE + 9);
    weir_tokenizer_destroy(tokenizer);
}

static void text_past_two_gigabytes_is_out_of_range(void** state) {
    (void)state;
    const vocabulary vocab = basic_vocabulary(true);
    weir_tokenizer* tokenizer = create(&vocab);
    weir_ids ids = {0};
    assert_status(weir_tokenizer_encode(tokenizer, "x", (size_t)INT32_MAX + 1, 0, &ids),
                  WEIR_OUT_OF_RANGE);
    assert_int_equal(ids.count, 0);
    weir_tokenizer_destroy(tokenizer);
}

static weir_status create_and_encode(const vocabulary* vocab, const weir_allocator* allocator) {
    weir_tokenizer* tokenizer = NULL;
    weir_status status = try_create(vocab, allocator, &tokenizer);
    if (status != WEIR_OK) {
        assert_null(tokenizer);
        return status;
    }
    weir_ids ids = {.allocator = *allocator};
    status = weir_ids_push(&ids, 77);
    if (status == WEIR_OK) {
        char text[400];
        memset(text, 'a', sizeof text);
        status = weir_tokenizer_encode(tokenizer, text, sizeof text, WEIR_TOKENIZE_BOS, &ids);
        if (status != WEIR_OK) {
            assert_int_equal(ids.count, 1);
        }
        assert_int_equal(ids.items[0], 77);
    }
    weir_ids_free(&ids);
    assert_null(ids.items);
    weir_tokenizer_destroy(tokenizer);
    return status;
}

static void each_refused_allocation_leaks_nothing(void** state) {
    (void)state;
    vocabulary vocab = basic_vocabulary(true);
    add_piece(&vocab, "a", -1.0f);
    add_piece(&vocab, "aa", -2.0f);
    add_token(&vocab, GGUF_TEXT("<x>"), -2.0f, 4);
    size_t calls = 0;
    weir_status status = WEIR_OUT_OF_MEMORY;
    while (status != WEIR_OK) {
        test_allocator heap = {.fail_at = calls++};
        const weir_allocator allocator = test_allocator_of(&heap);
        status = create_and_encode(&vocab, &allocator);
        assert_true(status == WEIR_OK || status == WEIR_OUT_OF_MEMORY);
        assert_int_equal(heap.live_bytes, 0);
    }
    assert_true(calls > 12); // the tables, the scratch and the list were all refused once
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_merge_by_score_then_from_the_left),
        cmocka_unit_test(a_space_is_put_before_text_but_not_before_nothing),
        cmocka_unit_test(bos_comes_where_the_vocabulary_asks),
        cmocka_unit_test(uncovered_characters_become_bytes_or_unknown),
        cmocka_unit_test(control_text_is_plain_text_unless_asked_for),
        cmocka_unit_test(user_defined_tokens_are_always_whole),
        cmocka_unit_test(unused_and_repeated_and_empty_tokens_are_passed_over),
        cmocka_unit_test(nan_scores_are_the_lowest),
        cmocka_unit_test(pieces_are_text_and_control_tokens_are_silent),
        cmocka_unit_test(decoded_text_is_cut_to_its_room),
        cmocka_unit_test(missing_types_are_inferred),
        cmocka_unit_test(unusable_vocabularies_are_refused_by_key),
        cmocka_unit_test(other_models_are_unsupported),
        cmocka_unit_test(random_text_encodes_as_defined),
        cmocka_unit_test(random_bytes_survive_the_round_trip),
        cmocka_unit_test(megabytes_of_one_character_take_seconds),
        cmocka_unit_test(text_past_two_gigabytes_is_out_of_range),
        cmocka_unit_test(each_refused_allocation_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
