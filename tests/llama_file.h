// A tiny llama model, built in memory, with one thing wrong on request: 2 blocks, embedding 32,
// 4 heads on 2, feed-forward 64, 12 tokens, context 64, F32, random weights.
#ifndef WEIR_TESTS_LLAMA_FILE_H
#define WEIR_TESTS_LLAMA_FILE_H

#include "gguf_builder.h"

enum { TINY_VOCABULARY = 12, TINY_CONTEXT = 64, TINY_EMBEDDING = 32, TINY_BLOCKS = 2 };

typedef enum change_kind {
    CHANGE_NOTHING = 0,
    CHANGE_OMIT = 1,   // the key or tensor is not written
    CHANGE_U32 = 2,    // the key is `number`
    CHANGE_F32 = 3,    // the key is `real`; the weights of the tensor are all `real`
    CHANGE_TEXT = 4,   // the key is `text`
    CHANGE_ARRAY = 5,  // the key is an array of `number` u32
    CHANGE_SHAPE = 6,  // the first dimension of the tensor is `number`
    CHANGE_TYPE = 7,   // the tensor has type `number` (of the file format)
    CHANGE_EXTRA = 8,  // a tensor [32] of that name and type `number` is added
    CHANGE_RANK_2 = 9, // the vector is written as [n, 1]
    CHANGE_COUNT = 10, // the array of the vocabulary has `number` elements
    CHANGE_TOKEN = 11, // token `number` is `text`, of type `real`
    CHANGE_RAW = 12,   // `number` bytes of `text` stand behind the keys, counted as `real` pairs
} change_kind;

typedef struct llama_change {
    const char* name; // of the key or tensor
    change_kind kind;
    uint32_t number;
    float real;
    const char* text;
} llama_change;

typedef struct llama_writer {
    gguf_builder builder;
    const llama_change* change;
    bool applied;
    test_random random;
} llama_writer;

static inline bool is_changed(llama_writer* writer, const char* name) {
    if (strcmp(writer->change->name, name) != 0) {
        return false;
    }
    writer->applied = true;
    return true;
}

static inline void put_changed_key(llama_writer* writer) {
    const llama_change* change = writer->change;
    const uint32_t items[8] = {4, 4, 4, 4, 4, 4, 4, 4};
    switch (change->kind) {
    case CHANGE_U32:
        gguf_put_u32(&writer->builder, change->name, change->number);
        break;
    case CHANGE_F32:
        gguf_put_f32(&writer->builder, change->name, change->real);
        break;
    case CHANGE_TEXT:
        gguf_put_string(&writer->builder, change->name, change->text);
        break;
    case CHANGE_RAW:
        gguf_append(&writer->builder.values, change->text, change->number);
        writer->builder.value_count += (uint64_t)change->real;
        break;
    case CHANGE_ARRAY:
        gguf_put_array(&writer->builder, change->name, WEIR_GGUF_U32, items, change->number,
                       change->number * sizeof *items);
        break;
    default:
        break;
    }
}

static inline void put_u32(llama_writer* writer, const char* key, uint32_t number) {
    if (is_changed(writer, key)) {
        put_changed_key(writer);
    } else {
        gguf_put_u32(&writer->builder, key, number);
    }
}

static inline void put_text(llama_writer* writer, const char* key, const char* text) {
    if (is_changed(writer, key)) {
        put_changed_key(writer);
    } else {
        gguf_put_string(&writer->builder, key, text);
    }
}

static inline void put_f32(llama_writer* writer, const char* key, float number) {
    if (is_changed(writer, key)) {
        put_changed_key(writer);
    } else {
        gguf_put_f32(&writer->builder, key, number);
    }
}

// Dimensions in the order of the file: innermost first; `outer` 0 for a vector.
static inline void put_weights(llama_writer* writer, const char* name, uint64_t inner,
                               uint64_t outer) {
    static float weights[64 * 64];
    const llama_change* change = writer->change;
    uint64_t dims[2] = {inner, outer};
    uint32_t rank = outer > 0 ? 2 : 1;
    uint32_t type = 0;
    bool is_filled = false;
    if (is_changed(writer, name)) {
        is_filled = change->kind == CHANGE_F32;
        if (change->kind == CHANGE_OMIT) {
            return;
        }
        dims[0] = change->kind == CHANGE_SHAPE ? change->number : dims[0];
        type = change->kind == CHANGE_TYPE ? change->number : type;
        if (change->kind == CHANGE_RANK_2) {
            rank = 2;
            dims[1] = 1;
        }
    }
    const uint64_t count = dims[0] * (rank == 2 ? dims[1] : 1);
    assert_true(count <= sizeof weights / sizeof *weights);
    for (uint64_t i = 0; i < count; i++) {
        weights[i] = is_filled   ? change->real
                     : rank == 2 ? 0.25f * random_unit(&writer->random)
                                 : 1.0f + 0.1f * random_unit(&writer->random);
    }
    // Types other than F32 hold no more bytes than F32: what they say does not matter here.
    gguf_put_tensor(&writer->builder, name, type, rank, dims, weights, count * sizeof *weights);
}

static inline void put_block(llama_writer* writer, uint32_t block) {
    static const struct {
        const char* name;
        uint64_t inner, outer;
    } tensors[] = {
        {"attn_norm", 32, 0}, {"attn_q", 32, 32},      {"attn_k", 32, 16},
        {"attn_v", 32, 16},   {"attn_output", 32, 32}, {"ffn_norm", 32, 0},
        {"ffn_gate", 32, 64}, {"ffn_up", 32, 64},      {"ffn_down", 64, 32},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.%s.weight", block, tensors[i].name);
        put_weights(writer, name, tensors[i].inner, tensors[i].outer);
    }
}

// Puts an array of the vocabulary, cut or left out where that is the change.
static inline void put_vocabulary_array(llama_writer* writer, const char* key, weir_gguf_type type,
                                        const void* items) {
    const llama_change* change = writer->change;
    const bool changed = is_changed(writer, key);
    const uint64_t count =
        changed && change->kind == CHANGE_COUNT ? change->number : TINY_VOCABULARY;
    if (changed && change->kind != CHANGE_COUNT && change->kind != CHANGE_F32) {
        put_changed_key(writer);
    } else {
        gguf_put_array(&writer->builder, key, type, items, count, count * 4);
    }
}

static inline void put_tokens(llama_writer* writer, const gguf_text* tokens) {
    if (is_changed(writer, "tokenizer.ggml.tokens")) {
        put_changed_key(writer);
    } else {
        gguf_put_strings(&writer->builder, "tokenizer.ggml.tokens", tokens, TINY_VOCABULARY);
    }
}

static inline void put_tokenizer(llama_writer* writer) {
    gguf_text tokens[TINY_VOCABULARY] = {
        GGUF_TEXT("<unk>"), GGUF_TEXT("<s>"), GGUF_TEXT("</s>"), GGUF_TEXT("\xe2\x96\x81"),
        GGUF_TEXT("a"),     GGUF_TEXT("b"),   GGUF_TEXT("c"),    GGUF_TEXT("d"),
        GGUF_TEXT("e"),     GGUF_TEXT("f"),   GGUF_TEXT("g"),    GGUF_TEXT("\xe2\x96\x81h")};
    float scores[TINY_VOCABULARY] = {0};
    int32_t types[TINY_VOCABULARY] = {2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const llama_change* change = writer->change;
    if (change->kind == CHANGE_TOKEN) {
        writer->applied = true;
        tokens[change->number] = (gguf_text){change->text, strlen(change->text)};
        types[change->number] = (int32_t)change->real;
    }
    for (int i = 0; change->kind == CHANGE_F32 && i < TINY_VOCABULARY; i++) {
        scores[i] = strcmp(change->name, "tokenizer.ggml.scores") == 0 ? change->real : 0.0f;
    }
    put_text(writer, "tokenizer.ggml.model", "llama");
    put_tokens(writer, tokens);
    put_vocabulary_array(writer, "tokenizer.ggml.scores", WEIR_GGUF_F32, scores);
    put_vocabulary_array(writer, "tokenizer.ggml.token_type", WEIR_GGUF_I32, types);
    put_u32(writer, "tokenizer.ggml.bos_token_id", 1);
    put_u32(writer, "tokenizer.ggml.eos_token_id", 2);
    gguf_put_u32(&writer->builder, "tokenizer.ggml.unknown_token_id", 0);
}

static inline void put_extra(llama_writer* writer) {
    const llama_change* change = writer->change;
    if (change->kind == CHANGE_EXTRA) {
        const float zeros[32] = {0};
        const uint64_t dims[1] = {change->real > 0.0f ? (uint64_t)change->real : 32};
        gguf_put_tensor(&writer->builder, change->name, change->number, 1, dims, zeros,
                        sizeof zeros);
    } else if (!writer->applied && change->kind != CHANGE_NOTHING) {
        put_changed_key(writer); // a key that the model does not have by itself
    }
}

// Returns the file in a block of exactly its size; free() it.
static inline uint8_t* tiny_llama(const llama_change* change, size_t* byte_size) {
    static const llama_change nothing = {.name = ""};
    llama_writer writer = {.change = change ? change : &nothing, .random = {.state = 7}};
    put_text(&writer, "general.architecture", "llama");
    put_u32(&writer, "llama.block_count", TINY_BLOCKS);
    put_u32(&writer, "llama.embedding_length", TINY_EMBEDDING);
    put_u32(&writer, "llama.feed_forward_length", 64);
    put_u32(&writer, "llama.attention.head_count", 4);
    put_u32(&writer, "llama.attention.head_count_kv", 2);
    put_u32(&writer, "llama.context_length", TINY_CONTEXT);
    put_u32(&writer, "llama.rope.dimension_count", 8);
    put_u32(&writer, "llama.vocab_size", TINY_VOCABULARY);
    put_f32(&writer, "llama.rope.freq_base", 10000.0f);
    put_f32(&writer, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    put_tokenizer(&writer);
    put_weights(&writer, "token_embd.weight", TINY_EMBEDDING, TINY_VOCABULARY);
    put_weights(&writer, "output_norm.weight", TINY_EMBEDDING, 0);
    for (uint32_t block = 0; block < TINY_BLOCKS; block++) {
        put_block(&writer, block);
    }
    put_extra(&writer);
    return gguf_builder_finish(&writer.builder, byte_size);
}

// Writes bytes to a file of a fresh directory under /tmp; remove_file takes both away.
static inline void write_file(char path[64], const void* bytes, size_t byte_size) {
    strcpy(path, "/tmp/weir-test-XXXXXX");
    assert_non_null(mkdtemp(path));
    strcat(path, "/model.gguf");
    FILE* file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, byte_size, file), byte_size);
    assert_int_equal(fclose(file), 0);
}

static inline void remove_file(char path[64]) {
    remove(path);
    *strrchr(path, '/') = '\0';
    remove(path);
}

#endif
