// The numbers of a model. A file is not trusted: each number is checked by itself, then against the
// others, before anything is computed from it. The keys are those of the GGUF specification.
#include <weir-llm/limits.h>
#include <weir-llm/llama.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "llama.h"

// Caps far above any published model: with them every product below fits 63 bits.
#define BLOCKS_MAX 1024u
#define WIDTH_MAX (1u << 20)

static const struct {
    const char* key;
    size_t field; // offset of a uint32_t in weir_llama_params
    uint32_t max; // and at least 1
} counts[] = {
    {"llama.block_count", offsetof(weir_llama_params, blocks), BLOCKS_MAX},
    {"llama.embedding_length", offsetof(weir_llama_params, embedding), WIDTH_MAX},
    {"llama.feed_forward_length", offsetof(weir_llama_params, feed_forward), WIDTH_MAX},
    {"llama.attention.head_count", offsetof(weir_llama_params, heads), WIDTH_MAX},
    {"llama.attention.head_count_kv", offsetof(weir_llama_params, kv_heads), WIDTH_MAX},
    {"llama.attention.key_length", offsetof(weir_llama_params, head_dim), WIDTH_MAX},
    {"llama.rope.dimension_count", offsetof(weir_llama_params, rotated), WIDTH_MAX},
    {"llama.vocab_size", offsetof(weir_llama_params, vocabulary), WEIR_VOCABULARY_MAX},
    {"llama.context_length", offsetof(weir_llama_params, context), WEIR_CONTEXT_MAX},
};

static weir_status check_positive(const char* key, float number) {
    if (!isfinite(number) || number <= 0.0f) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s is %g; expected a finite number above 0", key,
                         (double)number);
    }
    return WEIR_OK;
}

// The keys stand in the messages although the numbers may come from elsewhere: they are the names
// under which users know them.
weir_status weir_llama_params_check(const weir_llama_params* params) {
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        uint32_t count = 0;
        memcpy(&count, (const char*)params + counts[i].field, sizeof count);
        if (count < 1 || count > counts[i].max) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s is %u; expected 1 to %u", counts[i].key, count,
                             counts[i].max);
        }
    }
    if (params->heads % params->kv_heads != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "llama.attention.head_count_kv is %u; expected a divisor of "
                         "llama.attention.head_count, which is %u",
                         params->kv_heads, params->heads);
    }
    if ((uint64_t)params->heads * params->head_dim > WIDTH_MAX) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                         "llama.attention.head_count is %u and llama.attention.key_length %u; "
                         "expected a product of at most %u",
                         params->heads, params->head_dim, WIDTH_MAX);
    }
    if (params->rotated % 2 != 0 || params->rotated > params->head_dim) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "llama.rope.dimension_count is %u; expected an even number up to the "
                         "length of a head, which is %u",
                         params->rotated, params->head_dim);
    }
    WEIR_TRY(check_positive("llama.attention.layer_norm_rms_epsilon", params->epsilon));
    WEIR_TRY(check_positive("llama.rope.freq_base", params->rope_base));
    return check_positive("the inverse of llama.rope.scaling.factor", params->rope_scale);
}

static bool string_is(weir_text string, const char* text) {
    return string.length == strlen(text) && memcmp(string.bytes, text, strlen(text)) == 0;
}

static weir_status read_count(const weir_gguf* gguf, const char* key, uint32_t* count) {
    uint64_t number = 0;
    WEIR_TRY(weir_gguf_get_u64(gguf, key, &number));
    if (number > UINT32_MAX) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s: %s is %llu; expected at most %u",
                         weir_gguf_file_name(gguf), key, (unsigned long long)number, UINT32_MAX);
    }
    *count = (uint32_t)number;
    return WEIR_OK;
}

// Leaves *count alone where the key is absent.
static weir_status read_optional_count(const weir_gguf* gguf, const char* key, uint32_t* count) {
    return weir_gguf_find(gguf, key) ? read_count(gguf, key, count) : WEIR_OK;
}

// A value past the range of f32 becomes infinite, which every check refuses.
static weir_status read_float(const weir_gguf* gguf, const char* key, float* number) {
    double wide = 0.0;
    WEIR_TRY(weir_gguf_get_f64(gguf, key, &wide));
    *number = fabs(wide) > (double)FLT_MAX ? INFINITY : (float)wide;
    return WEIR_OK;
}

// What would parse and then be something else than this library can run.
static weir_status check_kind(const weir_gguf* gguf) {
    const char* file = weir_gguf_file_name(gguf);
    weir_gguf_split split;
    WEIR_TRY(weir_gguf_split_read(gguf, &split));
    if (split.part_count != weir_gguf_part_count(gguf)) {
        return WEIR_FAIL(WEIR_UNSUPPORTED,
                         "%s: split.count is %u, and %u file was parsed; a model needs all parts",
                         file, split.part_count, weir_gguf_part_count(gguf));
    }
    weir_text architecture = {0};
    WEIR_TRY(weir_gguf_get_string(gguf, "general.architecture", &architecture));
    if (!string_is(architecture, "llama")) {
        char text[64];
        return WEIR_FAIL(WEIR_UNSUPPORTED, "%s: general.architecture is \"%s\"; expected \"llama\"",
                         file, weir_text_escape(architecture, text, sizeof text));
    }
    uint32_t experts = 0;
    WEIR_TRY(read_optional_count(gguf, "llama.expert_count", &experts));
    if (experts > 0) {
        return WEIR_FAIL(WEIR_UNSUPPORTED,
                         "%s: llama.expert_count is %u; mixtures of experts cannot be run", file,
                         experts);
    }
    return WEIR_OK;
}

// Heads share the embedding evenly unless the file gives them a length of their own. No heads at
// all is left to the check of ranges.
static weir_status read_head_dim(const weir_gguf* gguf, weir_llama_params* params) {
    if (weir_gguf_find(gguf, "llama.attention.key_length")) {
        WEIR_TRY(read_count(gguf, "llama.attention.key_length", &params->head_dim));
    } else if (params->heads > 0) {
        params->head_dim = params->embedding / params->heads;
        if (params->embedding % params->heads != 0) {
            return WEIR_FAIL(WEIR_BAD_FORMAT,
                             "%s: llama.attention.head_count is %u; expected a divisor of "
                             "llama.embedding_length, which is %u",
                             weir_gguf_file_name(gguf), params->heads, params->embedding);
        }
    }
    uint32_t value_length = params->head_dim;
    WEIR_TRY(read_optional_count(gguf, "llama.attention.value_length", &value_length));
    if (value_length != params->head_dim) {
        return WEIR_FAIL(WEIR_UNSUPPORTED,
                         "%s: llama.attention.value_length is %u; expected that of keys, which is "
                         "%u",
                         weir_gguf_file_name(gguf), value_length, params->head_dim);
    }
    params->rotated = params->head_dim;
    return read_optional_count(gguf, "llama.rope.dimension_count", &params->rotated);
}

// The number of tokens is said up to three times; where it is said, it must be the same. (That of
// the embedding is checked with the shapes of all tensors.)
static weir_status read_vocabulary(const weir_gguf* gguf, weir_llama_params* params) {
    const weir_gguf_tensor* embedding = weir_gguf_find_tensor(gguf, "token_embd.weight");
    const weir_gguf_value* tokens = weir_gguf_find(gguf, "tokenizer.ggml.tokens");
    if (weir_gguf_find(gguf, "llama.vocab_size")) {
        WEIR_TRY(read_count(gguf, "llama.vocab_size", &params->vocabulary));
    } else if (embedding && embedding->shape.rank == 2 && embedding->shape.dims[0] <= UINT32_MAX) {
        params->vocabulary = (uint32_t)embedding->shape.dims[0];
    } else {
        return WEIR_FAIL(WEIR_NOT_FOUND,
                         "%s: neither llama.vocab_size nor a matrix "
                         "token_embd.weight says how many tokens there are",
                         weir_gguf_file_name(gguf));
    }
    if (tokens && tokens->type == WEIR_GGUF_ARRAY && tokens->count != params->vocabulary) {
        return WEIR_FAIL(WEIR_BAD_FORMAT,
                         "%s: tokenizer.ggml.tokens has %llu items; expected %u, one per token of "
                         "the model",
                         weir_gguf_file_name(gguf), (unsigned long long)tokens->count,
                         params->vocabulary);
    }
    return WEIR_OK;
}

// Linear scaling (Chen et al. 2023) divides positions by the factor. Without a type a factor means
// linear.
static weir_status read_rope(const weir_gguf* gguf, weir_llama_params* params) {
    params->rope_base = 10000.0f;
    if (weir_gguf_find(gguf, "llama.rope.freq_base")) {
        WEIR_TRY(read_float(gguf, "llama.rope.freq_base", &params->rope_base));
    }
    params->rope_scale = 1.0f;
    params->rope_factors = weir_gguf_find_tensor(gguf, "rope_freqs.weight") != NULL;

    weir_text type = {.bytes = "linear", .length = strlen("linear")};
    if (weir_gguf_find(gguf, "llama.rope.scaling.type")) {
        WEIR_TRY(weir_gguf_get_string(gguf, "llama.rope.scaling.type", &type));
    }
    if (string_is(type, "none")) {
        return WEIR_OK;
    }
    if (!string_is(type, "linear")) {
        char text[64];
        return WEIR_FAIL(WEIR_UNSUPPORTED,
                         "%s: llama.rope.scaling.type is \"%s\"; expected \"none\" or \"linear\"",
                         weir_gguf_file_name(gguf), weir_text_escape(type, text, sizeof text));
    }
    // The second name is that of older files.
    const char* keys[] = {"llama.rope.scaling.factor", "llama.rope.scale_linear"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (weir_gguf_find(gguf, keys[i])) {
            float factor = 0.0f;
            WEIR_TRY(read_float(gguf, keys[i], &factor));
            if (check_positive(keys[i], factor) != WEIR_OK) {
                return WEIR_FAIL(WEIR_BAD_FORMAT, "%s: %s", weir_gguf_file_name(gguf),
                                 weir_last_error());
            }
            params->rope_scale = 1.0f / factor;
            return WEIR_OK;
        }
    }
    return WEIR_OK;
}

weir_status weir_llama_params_read(const weir_gguf* gguf, weir_llama_params* params) {
    WEIR_TRY(check_kind(gguf));
    weir_llama_params read = {0};
    WEIR_TRY(read_count(gguf, "llama.block_count", &read.blocks));
    WEIR_TRY(read_count(gguf, "llama.embedding_length", &read.embedding));
    WEIR_TRY(read_count(gguf, "llama.feed_forward_length", &read.feed_forward));
    WEIR_TRY(read_count(gguf, "llama.attention.head_count", &read.heads));
    read.kv_heads = read.heads;
    WEIR_TRY(read_optional_count(gguf, "llama.attention.head_count_kv", &read.kv_heads));
    WEIR_TRY(read_count(gguf, "llama.context_length", &read.context));
    WEIR_TRY(read_float(gguf, "llama.attention.layer_norm_rms_epsilon", &read.epsilon));
    WEIR_TRY(read_head_dim(gguf, &read));
    WEIR_TRY(read_vocabulary(gguf, &read));
    WEIR_TRY(read_rope(gguf, &read));
    read.tied_output = !weir_gguf_find_tensor(gguf, "output.weight");
    if (weir_llama_params_check(&read) != WEIR_OK) {
        return WEIR_FAIL(WEIR_BAD_FORMAT, "%s: %s", weir_gguf_file_name(gguf), weir_last_error());
    }
    *params = read;
    return WEIR_OK;
}

bool weir_llama_uses(const weir_llama_params* params, llama_tensor tensor) {
    if (tensor == LLAMA_OUTPUT) {
        return !params->tied_output;
    }
    return tensor != LLAMA_ROPE_FREQS || params->rope_factors;
}

static weir_shape vector(uint32_t width) {
    return weir_shape_make(1, (int64_t[]){width});
}

static weir_shape matrix(uint32_t outputs, uint32_t inputs) {
    return weir_shape_make(2, (int64_t[]){outputs, inputs});
}

// Shapes are [outputs, inputs]: y = x * transpose(w).
static weir_shape shape_of(const weir_llama_params* params, llama_tensor tensor) {
    const uint32_t query_width = params->heads * params->head_dim;
    const uint32_t key_width = params->kv_heads * params->head_dim;
    switch (tensor) {
    case LLAMA_TOKEN_EMBD:
    case LLAMA_OUTPUT:
        return matrix(params->vocabulary, params->embedding);
    case LLAMA_ROPE_FREQS:
        return vector(params->rotated / 2);
    case LLAMA_ATTN_Q:
        return matrix(query_width, params->embedding);
    case LLAMA_ATTN_K:
    case LLAMA_ATTN_V:
        return matrix(key_width, params->embedding);
    case LLAMA_ATTN_OUTPUT:
        return matrix(params->embedding, query_width);
    case LLAMA_FFN_GATE:
    case LLAMA_FFN_UP:
        return matrix(params->feed_forward, params->embedding);
    case LLAMA_FFN_DOWN:
        return matrix(params->embedding, params->feed_forward);
    case LLAMA_OUTPUT_NORM:
    case LLAMA_ATTN_NORM:
    case LLAMA_FFN_NORM:
    case LLAMA_TENSOR_COUNT:
        break;
    }
    return vector(params->embedding);
}

llama_weight weir_llama_weight(const weir_llama_params* params, llama_tensor tensor,
                               uint32_t block) {
    static const char* const names[LLAMA_TENSOR_COUNT] = {
        [LLAMA_TOKEN_EMBD] = "token_embd",   [LLAMA_OUTPUT_NORM] = "output_norm",
        [LLAMA_OUTPUT] = "output",           [LLAMA_ROPE_FREQS] = "rope_freqs",
        [LLAMA_ATTN_NORM] = "attn_norm",     [LLAMA_ATTN_Q] = "attn_q",
        [LLAMA_ATTN_K] = "attn_k",           [LLAMA_ATTN_V] = "attn_v",
        [LLAMA_ATTN_OUTPUT] = "attn_output", [LLAMA_FFN_NORM] = "ffn_norm",
        [LLAMA_FFN_GATE] = "ffn_gate",       [LLAMA_FFN_UP] = "ffn_up",
        [LLAMA_FFN_DOWN] = "ffn_down",
    };
    llama_weight weight = {.shape = shape_of(params, tensor)};
    if (tensor < LLAMA_ATTN_NORM) {
        snprintf(weight.name, sizeof weight.name, "%s.weight", names[tensor]);
    } else {
        snprintf(weight.name, sizeof weight.name, "blk.%u.%s.weight", block, names[tensor]);
    }
    return weight;
}
