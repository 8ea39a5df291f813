// Builds GGUF files in memory, version 3 little-endian, for tests that need a small model or
// vocabulary of their own.
//
//     gguf_builder builder = {0};
//     gguf_put_u32(&builder, "tokenizer.ggml.bos_token_id", 1);
//     gguf_put_tensor(&builder, "output_norm.weight", 0, 1, dims, values, sizeof values);
//     uint8_t* bytes = gguf_builder_finish(&builder, &byte_size);  // exact size; free() it
#ifndef WEIR_TESTS_GGUF_BUILDER_H
#define WEIR_TESTS_GGUF_BUILDER_H

#include <weir/gguf.h>

#include "testing.h"

typedef struct gguf_bytes {
    uint8_t* items;
    size_t count;
    size_t capacity;
} gguf_bytes;

typedef struct gguf_builder {
    gguf_bytes values;
    gguf_bytes infos;
    gguf_bytes data; // of the tensors, each padded to 32
    uint64_t value_count;
    uint64_t tensor_count;
} gguf_builder;

// A text with its length, so that it may hold any bytes.
typedef struct gguf_text {
    const char* bytes;
    size_t length;
} gguf_text;

#define GGUF_TEXT(literal) ((gguf_text){(literal), sizeof(literal) - 1})

static inline void gguf_append(gguf_bytes* bytes, const void* source, size_t length) {
    if (bytes->count + length > bytes->capacity) {
        bytes->capacity = (bytes->count + length) * 2;
        bytes->items = realloc(bytes->items, bytes->capacity);
        assert_non_null(bytes->items);
    }
    if (length > 0) {
        memcpy(bytes->items + bytes->count, source, length);
        bytes->count += length;
    }
}

static inline void gguf_append_u32(gguf_bytes* bytes, uint32_t number) {
    gguf_append(bytes, &number, sizeof number);
}

static inline void gguf_append_u64(gguf_bytes* bytes, uint64_t number) {
    gguf_append(bytes, &number, sizeof number);
}

static inline void gguf_append_text(gguf_bytes* bytes, const char* text, size_t length) {
    gguf_append_u64(bytes, length);
    gguf_append(bytes, text, length);
}

// Begins a key/value pair; its bytes go to builder->values.
static inline void gguf_begin_value(gguf_builder* builder, const char* key, weir_gguf_type type) {
    gguf_append_text(&builder->values, key, strlen(key));
    gguf_append_u32(&builder->values, (uint32_t)type);
    builder->value_count++;
}

static inline void gguf_put_u32(gguf_builder* builder, const char* key, uint32_t number) {
    gguf_begin_value(builder, key, WEIR_GGUF_U32);
    gguf_append_u32(&builder->values, number);
}

static inline void gguf_put_f32(gguf_builder* builder, const char* key, float number) {
    gguf_begin_value(builder, key, WEIR_GGUF_F32);
    gguf_append(&builder->values, &number, sizeof number);
}

static inline void gguf_put_bool(gguf_builder* builder, const char* key, bool flag) {
    gguf_begin_value(builder, key, WEIR_GGUF_BOOL);
    gguf_append(&builder->values, flag ? "\1" : "\0", 1);
}

static inline void gguf_put_string(gguf_builder* builder, const char* key, const char* text) {
    gguf_begin_value(builder, key, WEIR_GGUF_STRING);
    gguf_append_text(&builder->values, text, strlen(text));
}

// Puts an array of numbers of `byte_size` bytes in all.
static inline void gguf_put_array(gguf_builder* builder, const char* key, weir_gguf_type type,
                                  const void* items, uint64_t count, size_t byte_size) {
    gguf_begin_value(builder, key, WEIR_GGUF_ARRAY);
    gguf_append_u32(&builder->values, (uint32_t)type);
    gguf_append_u64(&builder->values, count);
    gguf_append(&builder->values, items, byte_size);
}

static inline void gguf_put_strings(gguf_builder* builder, const char* key, const gguf_text* texts,
                                    size_t count) {
    gguf_put_array(builder, key, WEIR_GGUF_STRING, NULL, count, 0);
    for (size_t i = 0; i < count; i++) {
        gguf_append_text(&builder->values, texts[i].bytes, texts[i].length);
    }
}

// Puts a tensor: `type` is the number of the file format, dimensions are innermost first.
static inline void gguf_put_tensor(gguf_builder* builder, const char* name, uint32_t type,
                                   uint32_t rank, const uint64_t* dims, const void* bytes,
                                   size_t byte_size) {
    static const uint8_t padding[32];
    gguf_append_text(&builder->infos, name, strlen(name));
    gguf_append_u32(&builder->infos, rank);
    for (uint32_t i = 0; i < rank; i++) {
        gguf_append_u64(&builder->infos, dims[i]);
    }
    gguf_append_u32(&builder->infos, type);
    gguf_append_u64(&builder->infos, builder->data.count);
    gguf_append(&builder->data, bytes, byte_size);
    gguf_append(&builder->data, padding, (32 - byte_size % 32) % 32);
    builder->tensor_count++;
}

// Returns the file in a block of exactly its size and empties the builder.
static inline uint8_t* gguf_builder_finish(gguf_builder* builder, size_t* byte_size) {
    static const uint8_t padding[32];
    gguf_bytes file = {0};
    gguf_append(&file, "GGUF", 4);
    gguf_append_u32(&file, 3);
    gguf_append_u64(&file, builder->tensor_count);
    gguf_append_u64(&file, builder->value_count);
    gguf_append(&file, builder->values.items, builder->values.count);
    gguf_append(&file, builder->infos.items, builder->infos.count);
    if (builder->tensor_count > 0) {
        gguf_append(&file, padding, (32 - file.count % 32) % 32);
    }
    gguf_append(&file, builder->data.items, builder->data.count);
    uint8_t* exact = malloc(file.count);
    assert_non_null(exact);
    memcpy(exact, file.items, file.count);
    *byte_size = file.count;
    free(file.items);
    free(builder->values.items);
    free(builder->infos.items);
    free(builder->data.items);
    *builder = (gguf_builder){0};
    return exact;
}

#endif
