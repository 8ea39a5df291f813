// The tokenizer: any vocabulary of normal and user-defined pieces over the 256 byte tokens gives
// any text back.
//
//     | piece count | pieces: length and type, score, bytes | text ... |
#include "fuzz.h"
#include "gguf_builder.h"

#include <weir-llm/tokenizer.h>

#define PIECES_MAX 48
#define FIRST_BYTE 3 // <unk>, <s> and </s> come first
#define TOKENS_MAX (FIRST_BYTE + 256 + PIECES_MAX)
#define KEY(name) "tokenizer.ggml." name

typedef struct vocabulary {
    char byte_names[256][8]; // "<0x00>" ...
    gguf_text tokens[TOKENS_MAX];
    float scores[TOKENS_MAX];
    int32_t types[TOKENS_MAX]; // as in the file format: 1 normal, 2 unknown, 3 control,
                               // 4 user-defined, 6 byte
    uint32_t count;
} vocabulary;

static void add_token(vocabulary* vocab, const char* bytes, size_t length, float score,
                      int32_t type) {
    vocab->tokens[vocab->count] = (gguf_text){bytes, length};
    vocab->scores[vocab->count] = score;
    vocab->types[vocab->count++] = type;
}

static void read_vocabulary(fuzz_input* input, vocabulary* vocab) {
    add_token(vocab, "<unk>", 5, 0, 2);
    add_token(vocab, "<s>", 3, 0, 3);
    add_token(vocab, "</s>", 4, 0, 3);
    for (int i = 0; i < 256; i++) {
        snprintf(vocab->byte_names[i], sizeof vocab->byte_names[i], "<0x%02X>", i);
        add_token(vocab, vocab->byte_names[i], 6, 0, 6);
    }
    for (uint32_t left = fuzz_below(input, PIECES_MAX + 1); left > 0 && input->left > 2; left--) {
        const uint32_t form = fuzz_byte(input);
        const uint32_t wanted = 1 + form % 8;
        const int32_t type = form / 8 % 2 ? 4 : 1;
        const float score = (float)(int8_t)fuzz_byte(input);
        const size_t length = wanted < input->left ? wanted : input->left;
        add_token(vocab, (const char*)input->bytes, length, score, type);
        input->bytes += length;
        input->left -= length;
    }
}

static weir_tokenizer* make_tokenizer(const vocabulary* vocab) {
    gguf_builder builder = {0};
    gguf_put_string(&builder, KEY("model"), "llama");
    gguf_put_strings(&builder, KEY("tokens"), vocab->tokens, vocab->count);
    gguf_put_array(&builder, KEY("scores"), WEIR_GGUF_F32, vocab->scores, vocab->count,
                   vocab->count * sizeof vocab->scores[0]);
    gguf_put_array(&builder, KEY("token_type"), WEIR_GGUF_I32, vocab->types, vocab->count,
                   vocab->count * sizeof vocab->types[0]);
    gguf_put_u32(&builder, KEY("bos_token_id"), 1);
    gguf_put_u32(&builder, KEY("eos_token_id"), 2);
    size_t byte_size = 0;
    uint8_t* bytes = gguf_builder_finish(&builder, &byte_size);
    weir_gguf* gguf = NULL;
    weir_tokenizer* tokenizer = NULL;
    fuzz_require(weir_gguf_parse(NULL, bytes, byte_size, NULL, &gguf) == WEIR_OK);
    const weir_status status = weir_tokenizer_create(NULL, gguf, &tokenizer);
    fuzz_require(status == WEIR_OK || tokenizer == NULL);
    weir_gguf_destroy(gguf);
    free(bytes);
    return tokenizer;
}

// U+2581 stands for a space in the pieces, so a text that holds it comes back with a space.
static size_t expected_text(const uint8_t* text, size_t length, uint8_t* expected) {
    size_t written = 0;
    for (size_t i = 0; i < length;) {
        if (length - i >= 3 && memcmp(text + i, "\xE2\x96\x81", 3) == 0) {
            expected[written++] = ' ';
            i += 3;
        } else {
            expected[written++] = text[i++];
        }
    }
    return written;
}

static void check_round_trip(const weir_tokenizer* tokenizer, const uint8_t* text, size_t length) {
    weir_ids ids = {0};
    fuzz_require(weir_tokenizer_encode(tokenizer, (const char*)text, length, WEIR_TOKENIZE_PLAIN,
                                       &ids) == WEIR_OK);
    uint8_t* expected = fuzz_exact(text, length);
    const size_t expected_length = expected_text(text, length, expected);
    size_t at = 0;
    bool strip = weir_tokenizer_strips_space(tokenizer);
    for (size_t i = 0; i < ids.count; i++) {
        weir_text piece = weir_tokenizer_piece(tokenizer, ids.items[i]);
        if (strip && piece.length > 0 && piece.bytes[0] == ' ') {
            piece.bytes++;
            piece.length--;
        }
        strip = false;
        fuzz_require(piece.length <= expected_length - at);
        fuzz_require(piece.length == 0 || memcmp(piece.bytes, expected + at, piece.length) == 0);
        at += piece.length;
    }
    fuzz_require(at == expected_length);
    free(expected);
    weir_ids_free(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t byte_size) {
    fuzz_input input = {bytes, byte_size};
    vocabulary* vocab = calloc(1, sizeof *vocab);
    fuzz_require(vocab);
    read_vocabulary(&input, vocab);
    weir_tokenizer* tokenizer = make_tokenizer(vocab);
    if (tokenizer) {
        uint8_t* text = fuzz_exact(input.bytes, input.left);
        check_round_trip(tokenizer, text, input.left);
        weir_ids ids = {0};
        fuzz_require(weir_tokenizer_encode(tokenizer, (const char*)text, input.left,
                                           WEIR_TOKENIZE_BOS | WEIR_TOKENIZE_SPECIAL,
                                           &ids) == WEIR_OK);
        weir_ids_free(&ids);
        free(text);
    }
    weir_tokenizer_destroy(tokenizer);
    free(vocab);
    return 0;
}
