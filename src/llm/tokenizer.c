#include "tokenizer_impl.h"

#include <string.h>
#include <weir-llm/limits.h>

#include "memory.h"

weir_status weir_tokenizer_create(const weir_allocator* allocator, const weir_gguf* gguf,
                                  weir_tokenizer** tokenizer) {
    weir_tokenizer* created = NULL;
    WEIR_TRY(llm_array_new(allocator, 1, &created));
    *created = (weir_tokenizer){0};
    if (allocator) {
        created->allocator = *allocator;
    }
    weir_status status = weir_tokenizer_read(created, gguf);
    if (status == WEIR_OK) {
        status = weir_tokenizer_index(created);
    }
    if (status != WEIR_OK) {
        weir_tokenizer_destroy(created);
        return status;
    }
    *tokenizer = created;
    return WEIR_OK;
}

#define NODE_BYTES (sizeof(uint8_t) + 3 * sizeof(uint32_t)) // of a token_trie
#define UNTYPED_CONTROL_MAX 4                               // BOS, EOS, EOT and EOM

// Returns the bytes of text of the tokens that are sought in text, or more.
static uint64_t sought_bytes(const weir_gguf* gguf, const weir_gguf_value* tokens) {
    const weir_gguf_value* types = weir_gguf_find(gguf, "tokenizer.ggml.token_type");
    uint64_t sought = 0;
    uint64_t longest = 0;
    uint64_t id = 0;
    weir_text token = {0};
    for (const void* at = NULL; weir_gguf_next_string(tokens, &at, &token); id++) {
        const int64_t type = types ? weir_gguf_element_i64(types, id) : TOKEN_NORMAL;
        sought += type == TOKEN_CONTROL || type == TOKEN_USER_DEFINED ? token.length : 0;
        longest = token.length > longest ? token.length : longest;
    }
    return types ? sought : UNTYPED_CONTROL_MAX * longest;
}

// The arrays of struct weir_tokenizer, as if every token were in all that it can be in: the table
// of slots or, where it was given up, also the list of pieces; and the list that a trie is made of.
// A trie has no more nodes than its tokens have bytes, and a root.
uint64_t weir_tokenizer_bytes(const weir_gguf* gguf) {
    const weir_gguf_value* tokens = weir_gguf_find(gguf, "tokenizer.ggml.tokens");
    if (!tokens || tokens->type != WEIR_GGUF_ARRAY || tokens->element_type != WEIR_GGUF_STRING ||
        tokens->count > WEIR_VOCABULARY_MAX) {
        return 0;
    }
    const uint64_t count = tokens->count;
    const uint64_t lists = sizeof(size_t) + sizeof(float) + sizeof(uint8_t) + 2 * sizeof(uint32_t);
    return sizeof(weir_tokenizer) + tokens->byte_length + count * lists + sizeof(size_t) +
           weir_tokenizer_slots((size_t)count) * sizeof(uint32_t) +
           sought_bytes(gguf, tokens) * NODE_BYTES + 2 * (NODE_BYTES + sizeof(uint32_t));
}

void weir_tokenizer_destroy(weir_tokenizer* tokenizer) {
    if (!tokenizer) {
        return;
    }
    const weir_allocator allocator = tokenizer->allocator;
    llm_array_free(&allocator, tokenizer->text, tokenizer->text_capacity);
    llm_array_free(&allocator, tokenizer->offsets, (size_t)tokenizer->size + 1);
    llm_array_free(&allocator, tokenizer->scores, tokenizer->size);
    llm_array_free(&allocator, tokenizer->types, tokenizer->size);
    llm_array_free(&allocator, tokenizer->slots, tokenizer->slot_count);
    llm_array_free(&allocator, tokenizer->pieces.ids, tokenizer->pieces.capacity);
    weir_token_trie_free(&allocator, &tokenizer->user_defined);
    weir_token_trie_free(&allocator, &tokenizer->control);
    llm_array_free(&allocator, tokenizer, 1);
}

weir_text weir_tokenizer_piece(const weir_tokenizer* tokenizer, uint32_t id) {
    if (id >= tokenizer->size || tokenizer->types[id] == TOKEN_CONTROL) {
        return (weir_text){.bytes = "", .length = 0};
    }
    return token_text(tokenizer, id);
}

size_t weir_tokenizer_decode(const weir_tokenizer* tokenizer, const uint32_t* ids, size_t count,
                             char* text, size_t capacity) {
    const size_t room = capacity > 0 ? capacity - 1 : 0; // without the terminator
    size_t length = 0;
    bool at_start = tokenizer->adds_space;
    for (size_t i = 0; i < count; i++) {
        weir_text piece = weir_tokenizer_piece(tokenizer, ids[i]);
        if (at_start && piece.length > 0) {
            const uint64_t skipped = piece.bytes[0] == ' ';
            piece.bytes += skipped;
            piece.length -= skipped;
            at_start = false;
        }
        const size_t left = length < room ? room - length : 0;
        if (left > 0) {
            memcpy(text + length, piece.bytes, piece.length < left ? piece.length : left);
        }
        length += piece.length;
    }
    if (capacity > 0) {
        text[length < room ? length : room] = '\0';
    }
    return length;
}

bool weir_tokenizer_strips_space(const weir_tokenizer* tokenizer) {
    return tokenizer->adds_space;
}

uint32_t weir_tokenizer_size(const weir_tokenizer* tokenizer) {
    return tokenizer->size;
}

uint32_t weir_tokenizer_bos(const weir_tokenizer* tokenizer) {
    return tokenizer->bos;
}

uint32_t weir_tokenizer_eos(const weir_tokenizer* tokenizer) {
    return tokenizer->eos;
}

bool weir_tokenizer_adds_bos(const weir_tokenizer* tokenizer) {
    return tokenizer->adds_bos;
}

bool weir_tokenizer_is_end(const weir_tokenizer* tokenizer, uint32_t id) {
    return id < tokenizer->size &&
           (id == tokenizer->eos || id == tokenizer->eot || id == tokenizer->eom);
}
