// Reading a vocabulary. The keys are those of the GGUF specification (ggml, docs/gguf.md, section
// "Tokenizer"); nothing in them is trusted: types, lengths and ids are checked before use.
#include "tokenizer_impl.h"

#include <math.h>
#include <string.h>
#include <weir-llm/limits.h>

#include "memory.h"

#define KEY(name) "tokenizer.ggml." name

// The UTF-8 bytes of U+2581.
static const char space_mark[] = "\xE2\x96\x81";

size_t weir_tokenizer_unescape(const char* bytes, size_t length, char* text) {
    size_t written = 0;
    size_t at = 0;
    while (at < length) {
        if (length - at >= 3 && memcmp(bytes + at, space_mark, 3) == 0) {
            text[written++] = ' ';
            at += 3;
        } else {
            text[written++] = bytes[at++];
        }
    }
    return written;
}

static weir_status check_model(const weir_gguf* gguf) {
    if (!weir_gguf_find(gguf, KEY("model"))) {
        return WEIR_FAIL(WEIR_BAD_FORMAT, "%s: key %s is missing; the file holds no vocabulary",
                         weir_gguf_file_name(gguf), KEY("model"));
    }
    weir_text model = {0};
    WEIR_TRY(weir_gguf_get_string(gguf, KEY("model"), &model));
    if (model.length != strlen("llama") || memcmp(model.bytes, "llama", model.length) != 0) {
        char name[64];
        return WEIR_FAIL(WEIR_UNSUPPORTED, "%s: %s is \"%s\"; supported is \"llama\"",
                         weir_gguf_file_name(gguf), KEY("model"),
                         weir_text_escape(model, name, sizeof name));
    }
    return WEIR_OK;
}

// Opens an array that has to have one element per token.
static weir_status open_array(const weir_tokenizer* tokenizer, const weir_gguf* gguf,
                              const char* key, weir_gguf_type element_type,
                              const weir_gguf_value** array) {
    if (!weir_gguf_find(gguf, key)) {
        return WEIR_FAIL(WEIR_BAD_FORMAT, "%s: key %s is missing", weir_gguf_file_name(gguf), key);
    }
    const weir_gguf_value* found = NULL;
    WEIR_TRY(weir_gguf_get_array(gguf, key, element_type, &found));
    if (found->count != tokenizer->size) {
        return WEIR_FAIL(WEIR_BAD_FORMAT, "%s: %s has %llu elements; expected %u, one per token",
                         weir_gguf_file_name(gguf), key, (unsigned long long)found->count,
                         tokenizer->size);
    }
    *array = found;
    return WEIR_OK;
}

// Among so many tokens WEIR_TOKEN_NONE is never an id.
static weir_status read_size(weir_tokenizer* tokenizer, const weir_gguf* gguf,
                             const weir_gguf_value** tokens) {
    const weir_gguf_value* found = weir_gguf_find(gguf, KEY("tokens"));
    const bool is_array = found && found->type == WEIR_GGUF_ARRAY;
    if (is_array && (found->count == 0 || found->count > WEIR_VOCABULARY_MAX)) {
        return WEIR_FAIL(WEIR_BAD_FORMAT, "%s: %s has %llu elements; expected 1 to %u",
                         weir_gguf_file_name(gguf), KEY("tokens"), (unsigned long long)found->count,
                         WEIR_VOCABULARY_MAX);
    }
    tokenizer->size = is_array ? (uint32_t)found->count : 0;
    return open_array(tokenizer, gguf, KEY("tokens"), WEIR_GGUF_STRING, tokens);
}

// Reads the id of a special token; an absent key leaves WEIR_TOKEN_NONE.
static weir_status read_id(const weir_tokenizer* tokenizer, const weir_gguf* gguf, const char* key,
                           uint32_t* id) {
    *id = WEIR_TOKEN_NONE;
    if (!weir_gguf_find(gguf, key)) {
        return WEIR_OK;
    }
    uint64_t number = 0;
    WEIR_TRY(weir_gguf_get_u64(gguf, key, &number));
    if (number >= tokenizer->size) {
        return WEIR_FAIL(WEIR_BAD_FORMAT, "%s: %s is %llu; the vocabulary has %u tokens",
                         weir_gguf_file_name(gguf), key, (unsigned long long)number,
                         tokenizer->size);
    }
    *id = (uint32_t)number;
    return WEIR_OK;
}

// Reads a flag; an absent key leaves it as it is.
static weir_status read_flag(const weir_gguf* gguf, const char* key, bool* flag) {
    return weir_gguf_find(gguf, key) ? weir_gguf_get_bool(gguf, key, flag) : WEIR_OK;
}

// What a file leaves out is as SentencePiece has it by default: BOS in front, a space in front.
static weir_status read_special_ids(weir_tokenizer* tokenizer, const weir_gguf* gguf) {
    WEIR_TRY(read_id(tokenizer, gguf, KEY("bos_token_id"), &tokenizer->bos));
    WEIR_TRY(read_id(tokenizer, gguf, KEY("eos_token_id"), &tokenizer->eos));
    WEIR_TRY(read_id(tokenizer, gguf, KEY("eot_token_id"), &tokenizer->eot));
    WEIR_TRY(read_id(tokenizer, gguf, KEY("eom_token_id"), &tokenizer->eom));
    WEIR_TRY(read_id(tokenizer, gguf, KEY("unknown_token_id"), &tokenizer->unknown));
    tokenizer->adds_bos = tokenizer->bos != WEIR_TOKEN_NONE;
    WEIR_TRY(read_flag(gguf, KEY("add_bos_token"), &tokenizer->adds_bos));
    if (tokenizer->adds_bos && tokenizer->bos == WEIR_TOKEN_NONE) {
        return WEIR_FAIL(WEIR_BAD_FORMAT, "%s: %s is true, but %s is missing",
                         weir_gguf_file_name(gguf), KEY("add_bos_token"), KEY("bos_token_id"));
    }
    tokenizer->adds_space = true;
    return read_flag(gguf, KEY("add_space_prefix"), &tokenizer->adds_space);
}

// Without scores nothing says which pair to merge first, so they are required. NaN has no place in
// an order; it counts as the lowest score.
static weir_status read_scores(weir_tokenizer* tokenizer, const weir_gguf* gguf) {
    const weir_gguf_value* scores = NULL;
    WEIR_TRY(open_array(tokenizer, gguf, KEY("scores"), WEIR_GGUF_F32, &scores));
    WEIR_TRY(llm_array_new(&tokenizer->allocator, tokenizer->size, &tokenizer->scores));
    for (uint32_t id = 0; id < tokenizer->size; id++) {
        const float score = (float)weir_gguf_element_f64(scores, id);
        tokenizer->scores[id] = isnan(score) ? -INFINITY : score;
    }
    return WEIR_OK;
}

// Sets the type of a special token that the file may not have.
static void mark_type(weir_tokenizer* tokenizer, uint32_t id, token_type type) {
    if (id != WEIR_TOKEN_NONE) {
        tokenizer->types[id] = (uint8_t)type;
    }
}

// The types are optional in the format: without them the special ids tell the control tokens, and
// the spelling tells the byte tokens (read_pieces). Types of later times count as normal.
static weir_status read_types(weir_tokenizer* tokenizer, const weir_gguf* gguf) {
    WEIR_TRY(llm_array_new(&tokenizer->allocator, tokenizer->size, &tokenizer->types));
    memset(tokenizer->types, TOKEN_NORMAL, tokenizer->size);
    if (!weir_gguf_find(gguf, KEY("token_type"))) {
        mark_type(tokenizer, tokenizer->bos, TOKEN_CONTROL);
        mark_type(tokenizer, tokenizer->eos, TOKEN_CONTROL);
        mark_type(tokenizer, tokenizer->eot, TOKEN_CONTROL);
        mark_type(tokenizer, tokenizer->eom, TOKEN_CONTROL);
        mark_type(tokenizer, tokenizer->unknown, TOKEN_UNKNOWN);
        return WEIR_OK;
    }
    const weir_gguf_value* types = NULL;
    WEIR_TRY(open_array(tokenizer, gguf, KEY("token_type"), WEIR_GGUF_I32, &types));
    for (uint32_t id = 0; id < tokenizer->size; id++) {
        const int64_t type = weir_gguf_element_i64(types, id);
        if (type >= TOKEN_NORMAL && type <= TOKEN_BYTE) {
            tokenizer->types[id] = (uint8_t)type;
        }
        if (type == TOKEN_UNKNOWN && tokenizer->unknown == WEIR_TOKEN_NONE) {
            tokenizer->unknown = id;
        }
    }
    return WEIR_OK;
}

// Returns the value of a capital hexadecimal digit, else -1.
static int hex_digit(char digit) {
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

// Returns the byte that a token written exactly <0xHH> stands for, else -1.
static int parse_byte(weir_text token) {
    if (token.length != 6 || memcmp(token.bytes, "<0x", 3) != 0 || token.bytes[5] != '>') {
        return -1;
    }
    const int high = hex_digit(token.bytes[3]);
    const int low = hex_digit(token.bytes[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

// Writes the text of one token behind the others; returns its length, which is never more than that
// in the file. An unknown token stands for text that is lost, so it has none.
static size_t store_piece(const weir_tokenizer* tokenizer, uint32_t id, weir_text token,
                          char* text) {
    switch (tokenizer->types[id]) {
    case TOKEN_BYTE:
        text[0] = (char)parse_byte(token);
        return 1;
    case TOKEN_CONTROL:
        memcpy(text, token.bytes, (size_t)token.length);
        return (size_t)token.length;
    case TOKEN_UNKNOWN:
        return 0;
    default:
        return weir_tokenizer_unescape(token.bytes, (size_t)token.length, text);
    }
}

// Settles the byte tokens; the first token of a byte is the one that encoding uses.
static weir_status read_byte(weir_tokenizer* tokenizer, const weir_gguf* gguf, uint32_t id,
                             weir_text token, bool typed) {
    const int byte = parse_byte(token);
    if (!typed && byte >= 0 && tokenizer->types[id] == TOKEN_NORMAL) {
        tokenizer->types[id] = TOKEN_BYTE;
    }
    if (tokenizer->types[id] != TOKEN_BYTE) {
        return WEIR_OK;
    }
    if (byte < 0) {
        char name[64];
        return WEIR_FAIL(WEIR_BAD_FORMAT,
                         "%s: %s: token %u has the type byte but is \"%s\"; expected <0x00> to "
                         "<0xFF>",
                         weir_gguf_file_name(gguf), KEY("tokens"), id,
                         weir_text_escape(token, name, sizeof name));
    }
    if (tokenizer->byte_ids[byte] == WEIR_TOKEN_NONE) {
        tokenizer->byte_ids[byte] = id;
    }
    return WEIR_OK;
}

// All tokens are read, each once: a file that is changed meanwhile may have more of them or longer
// ones than were checked, and does not get past the ends of the tables.
static weir_status read_pieces(weir_tokenizer* tokenizer, const weir_gguf* gguf,
                               const weir_gguf_value* tokens) {
    const bool typed = weir_gguf_find(gguf, KEY("token_type")) != NULL;
    weir_text token = {0};
    tokenizer->text_capacity = (size_t)(tokens->byte_length - sizeof(uint64_t) * tokens->count);
    WEIR_TRY(llm_array_new(&tokenizer->allocator, tokenizer->text_capacity, &tokenizer->text));
    WEIR_TRY(
        llm_array_new(&tokenizer->allocator, (size_t)tokenizer->size + 1, &tokenizer->offsets));
    memset(tokenizer->byte_ids, 0xFF, sizeof tokenizer->byte_ids);
    size_t used = 0;
    uint32_t id = 0;
    const void* cursor = NULL;
    for (; id < tokenizer->size && weir_gguf_next_string(tokens, &cursor, &token); id++) {
        if (token.length > tokenizer->text_capacity - used) {
            break;
        }
        WEIR_TRY(read_byte(tokenizer, gguf, id, token, typed));
        tokenizer->offsets[id] = used;
        used += store_piece(tokenizer, id, token, tokenizer->text + used);
    }
    tokenizer->offsets[id] = used;
    if (id != tokenizer->size) {
        return WEIR_FAIL(WEIR_IO, "%s: %s changed while it was read", weir_gguf_file_name(gguf),
                         KEY("tokens"));
    }
    return WEIR_OK;
}

// Any text has to have ids: by all 256 byte tokens, or by a token for what is unknown.
static weir_status check_coverage(const weir_tokenizer* tokenizer, const weir_gguf* gguf) {
    for (int byte = 0; byte < 256 && tokenizer->unknown == WEIR_TOKEN_NONE; byte++) {
        if (tokenizer->byte_ids[byte] == WEIR_TOKEN_NONE) {
            return WEIR_FAIL(WEIR_BAD_FORMAT, "%s: %s has no <0x%02X>, and %s is missing",
                             weir_gguf_file_name(gguf), KEY("tokens"), (unsigned)byte,
                             KEY("unknown_token_id"));
        }
    }
    return WEIR_OK;
}

weir_status weir_tokenizer_read(weir_tokenizer* tokenizer, const weir_gguf* gguf) {
    const weir_gguf_value* tokens = NULL;
    WEIR_TRY(check_model(gguf));
    WEIR_TRY(read_size(tokenizer, gguf, &tokens));
    WEIR_TRY(read_special_ids(tokenizer, gguf));
    WEIR_TRY(read_scores(tokenizer, gguf));
    WEIR_TRY(read_types(tokenizer, gguf));
    WEIR_TRY(read_pieces(tokenizer, gguf, tokens));
    return check_coverage(tokenizer, gguf);
}
