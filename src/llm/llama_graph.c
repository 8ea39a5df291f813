// The forward pass of architecture "llama" (Touvron et al., "LLaMA", 2023): a residual stream of
// [rows, embedding] to which each block adds grouped-query attention with rotary positions and a
// gated feed-forward network, both of normalised rows. Shapes are written [rows, width].
#include <weir-llm/llama.h>

#include <stdio.h>

#include "llama.h"

// The first failure is kept and all that follows does nothing, so that the pass below reads as in
// the papers.
typedef struct builder {
    const weir_llama_graph_desc* desc;
    const weir_llama_params* params;
    weir_llama_graph pass;
    weir_value embedding; // token_embd.weight
    weir_value factors;   // rope_freqs.weight or WEIR_VALUE_NONE
    uint32_t block;       // the block being built, for names
    weir_status status;
} builder;

// Norms stay F32 in every quantised file; so do vectors of a model that is only planned.
static weir_status find_dtype(const weir_llama_graph_desc* desc, const llama_weight* weight,
                              weir_dtype* dtype) {
    if (!desc->gguf) {
        const bool plain = weight->shape.rank == 1 || desc->weight_dtype == WEIR_DTYPE_NONE;
        *dtype = plain ? WEIR_DTYPE_F32 : desc->weight_dtype;
        return WEIR_OK;
    }
    const weir_gguf_tensor* tensor = weir_gguf_find_tensor(desc->gguf, weight->name);
    if (!tensor) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "%s: tensor %s is missing",
                         weir_gguf_file_name(desc->gguf), weight->name);
    }
    *dtype = tensor->dtype;
    return WEIR_OK;
}

// A weight enters the graph where it is used first, under the name of its tensor: whoever binds it
// needs no other key.
static weir_value add_weight(builder* b, llama_tensor tensor) {
    const llama_weight weight = weir_llama_weight(b->params, tensor, b->block);
    weir_dtype dtype = WEIR_DTYPE_NONE;
    weir_value value = WEIR_VALUE_NONE;
    if (b->status == WEIR_OK) {
        b->status = find_dtype(b->desc, &weight, &dtype);
    }
    if (b->status == WEIR_OK) {
        b->status = weir_graph_weight(b->pass.graph, weight.name, dtype, &weight.shape, &value);
    }
    return value;
}

static weir_value name_as(builder* b, weir_value value, const char* name) {
    if (b->status == WEIR_OK) {
        b->status = weir_graph_name(b->pass.graph, value, name);
    }
    return value;
}

// Names a value "blk.N.name".
static weir_value name_in_block(builder* b, weir_value value, const char* name) {
    char text[LLAMA_NAME_CAPACITY];
    snprintf(text, sizeof text, "blk.%u.%s", b->block, name);
    return name_as(b, value, text);
}

static weir_value get_rows(builder* b, weir_value table, weir_value indices) {
    weir_value y = WEIR_VALUE_NONE;
    if (b->status == WEIR_OK) {
        b->status = weir_graph_get_rows(b->pass.graph, table, indices, &y);
    }
    return y;
}

static weir_value matmul(builder* b, weir_value x, llama_tensor tensor) {
    const weir_value weight = add_weight(b, tensor);
    weir_value y = WEIR_VALUE_NONE;
    if (b->status == WEIR_OK) {
        b->status = weir_graph_matmul(b->pass.graph, x, weight, &y);
    }
    return y;
}

static weir_value add(builder* b, weir_value x, weir_value z) {
    weir_value y = WEIR_VALUE_NONE;
    if (b->status == WEIR_OK) {
        b->status = weir_graph_add(b->pass.graph, x, z, &y);
    }
    return y;
}

// Normalises the rows and scales them by a weight.
static weir_value norm(builder* b, weir_value x, llama_tensor tensor) {
    const weir_value weight = add_weight(b, tensor);
    weir_value normal = WEIR_VALUE_NONE;
    weir_value y = WEIR_VALUE_NONE;
    if (b->status == WEIR_OK) {
        b->status = weir_graph_rms_norm(b->pass.graph, x, b->params->epsilon, &normal);
    }
    if (b->status == WEIR_OK) {
        b->status = weir_graph_mul(b->pass.graph, normal, weight, &y);
    }
    return y;
}

// Turns pairs (2i, 2i + 1) of each head: GGUF files of this architecture hold the rows of q and k
// in that order.
static weir_value rope(builder* b, weir_value x) {
    const weir_rope_desc desc = {.head_dim = b->params->head_dim,
                                 .rotated = b->params->rotated,
                                 .pairing = WEIR_ROPE_ADJACENT,
                                 .base = b->params->rope_base,
                                 .scale = b->params->rope_scale,
                                 .position = b->pass.position};
    weir_value y = WEIR_VALUE_NONE;
    if (b->status == WEIR_OK) {
        b->status = weir_graph_rope(b->pass.graph, x, b->factors, &desc, &y);
    }
    return y;
}

// Adds a cache [context, kv_heads * head_dim] and writes the new rows into it.
static weir_value append(builder* b, weir_value rows, const char* name) {
    const weir_shape shape = weir_shape_make(
        2, (int64_t[]){b->desc->context, (int64_t)b->params->kv_heads * b->params->head_dim});
    char text[LLAMA_NAME_CAPACITY];
    snprintf(text, sizeof text, "blk.%u.%s", b->block, name);
    weir_value cache = WEIR_VALUE_NONE;
    if (b->status == WEIR_OK) {
        const weir_dtype dtype =
            b->desc->kv_dtype == WEIR_DTYPE_NONE ? WEIR_DTYPE_F32 : b->desc->kv_dtype;
        b->status = weir_graph_state(b->pass.graph, text, dtype, &shape, &cache);
    }
    if (b->status == WEIR_OK) {
        b->status = weir_graph_set_rows(b->pass.graph, rows, cache, b->pass.position);
    }
    return cache;
}

// The scale of the scores is the default 1 / sqrt(head_dim); rows see all keys up to their own.
static weir_value attention(builder* b, weir_value q, weir_value keys, weir_value values) {
    const weir_attention_desc desc = {.heads = b->params->heads,
                                      .kv_heads = b->params->kv_heads,
                                      .head_dim = b->params->head_dim,
                                      .position = b->pass.position};
    weir_value scores = WEIR_VALUE_NONE;
    weir_value weights = WEIR_VALUE_NONE;
    weir_value y = WEIR_VALUE_NONE;
    if (b->status == WEIR_OK && !b->desc->split_attention) {
        b->status = weir_graph_attention(b->pass.graph, q, keys, values, &desc, &y);
        return y;
    }
    if (b->status == WEIR_OK) {
        b->status = weir_graph_attention_scores(b->pass.graph, q, keys, &desc, &scores);
    }
    name_in_block(b, scores, "scores");
    if (b->status == WEIR_OK) {
        b->status = weir_graph_attention_softmax(b->pass.graph, scores, &desc, &weights);
    }
    name_in_block(b, weights, "weights");
    if (b->status == WEIR_OK) {
        b->status = weir_graph_attention_sum(b->pass.graph, weights, values, &desc, &y);
    }
    return y;
}

static weir_value silu_gate(builder* b, weir_value gate, weir_value up) {
    weir_value y = WEIR_VALUE_NONE;
    if (b->status == WEIR_OK) {
        b->status = weir_graph_silu_gate(b->pass.graph, gate, up, &y);
    }
    return y;
}

// The attention of one block before its output matrix: x [rows, embedding] -> [rows, heads *
// head_dim].
static weir_value attend(builder* b, weir_value x) {
    const weir_value h = name_in_block(b, norm(b, x, LLAMA_ATTN_NORM), "attn_in");
    const weir_value q = name_in_block(b, rope(b, matmul(b, h, LLAMA_ATTN_Q)), "q");
    const weir_value k = name_in_block(b, rope(b, matmul(b, h, LLAMA_ATTN_K)), "k");
    const weir_value v = name_in_block(b, matmul(b, h, LLAMA_ATTN_V), "v");
    const weir_value keys = append(b, k, "keys");     // [context, kv_heads * head_dim]
    const weir_value values = append(b, v, "values"); // [context, kv_heads * head_dim]
    return name_in_block(b, attention(b, q, keys, values), "attn");
}

// The gated feed-forward network of one block: x [rows, embedding] -> [rows, embedding].
static weir_value feed_forward(builder* b, weir_value x) {
    const weir_value h = name_in_block(b, norm(b, x, LLAMA_FFN_NORM), "ffn_in");
    const weir_value gate = name_in_block(b, matmul(b, h, LLAMA_FFN_GATE), "ffn_gate");
    const weir_value up = name_in_block(b, matmul(b, h, LLAMA_FFN_UP), "ffn_up");
    const weir_value inner = name_in_block(b, silu_gate(b, gate, up), "ffn_inner");
    return matmul(b, inner, LLAMA_FFN_DOWN);
}

// The whole pass (Touvron et al. 2023): tokens [rows] -> logits [outputs, vocabulary].
static void forward(builder* b) {
    weir_value x = get_rows(b, b->embedding, b->pass.tokens); // [rows, embedding]
    name_as(b, x, "embedding");
    for (b->block = 0; b->block < b->params->blocks; b->block++) {
        weir_value attended = attend(b, x); // [rows, heads * head_dim]
        if (b->block + 1 == b->params->blocks) {
            // After the last cache is written only the wanted rows matter.
            attended = get_rows(b, attended, b->pass.output_rows); // [outputs, heads * head_dim]
            x = get_rows(b, x, b->pass.output_rows);               // [outputs, embedding]
        }
        x = name_in_block(b, add(b, x, matmul(b, attended, LLAMA_ATTN_OUTPUT)), "attn_out");
        x = name_in_block(b, add(b, x, feed_forward(b, x)), "out");
    }
    x = name_as(b, norm(b, x, LLAMA_OUTPUT_NORM), "output_in"); // [outputs, embedding]
    if (!b->params->tied_output) {
        b->pass.logits = matmul(b, x, LLAMA_OUTPUT);
    } else if (b->status == WEIR_OK) {
        b->status = weir_graph_matmul(b->pass.graph, x, b->embedding, &b->pass.logits);
    }
}

// Adds an input of ids whose rows follow a parameter.
static weir_status add_ids(builder* b, const char* name, uint32_t count, weir_param rows,
                           weir_value* input) {
    const weir_shape shape = weir_shape_make(1, (int64_t[]){count});
    return weir_graph_input(b->pass.graph, name, WEIR_DTYPE_I32, &shape, rows, input);
}

static weir_status build(builder* b) {
    weir_llama_graph* pass = &b->pass;
    const weir_llama_graph_desc* desc = b->desc;
    WEIR_TRY(weir_graph_param(pass->graph, "position", 0, desc->context - 1, &pass->position));
    WEIR_TRY(weir_graph_param(pass->graph, "rows", 1, desc->rows, &pass->rows));
    WEIR_TRY(weir_graph_param(pass->graph, "outputs", 1, desc->outputs, &pass->outputs));
    WEIR_TRY(add_ids(b, "tokens", desc->rows, pass->rows, &pass->tokens));
    WEIR_TRY(add_ids(b, "output_rows", desc->outputs, pass->outputs, &pass->output_rows));
    // Used at both ends of the pass where the output is tied, and the factors in every block: these
    // two are added once, before the blocks.
    b->embedding = add_weight(b, LLAMA_TOKEN_EMBD);
    if (weir_llama_uses(b->params, LLAMA_ROPE_FREQS)) {
        b->factors = add_weight(b, LLAMA_ROPE_FREQS);
    }
    forward(b);
    name_as(b, pass->logits, "logits");
    WEIR_TRY(b->status);
    return weir_graph_output(pass->graph, pass->logits);
}

// The limits form a chain: outputs <= rows <= context <= what the model was trained for.
static weir_status check_desc(const weir_llama_graph_desc* desc) {
    WEIR_TRY(weir_llama_params_check(desc->params));
    const uint32_t numbers[] = {desc->context, desc->rows, desc->outputs};
    const uint32_t limits[] = {desc->params->context, desc->context, desc->rows};
    const char* names[] = {"context", "rows", "outputs"};
    for (int i = 0; i < 3; i++) {
        if (numbers[i] < 1 || numbers[i] > limits[i]) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s of the pass is %u; expected 1 to %u", names[i],
                             numbers[i], limits[i]);
        }
    }
    return WEIR_OK;
}

bool weir_llama_has_kernel(const weir_target* target, weir_op_kind op, const weir_kernel_use* use) {
    bool found = false;
    for (uint32_t i = 0; i < target->kernel_count && !found; i++) {
        found = target->kernels[i].op == op && target->kernels[i].accepts(use);
    }
    return found;
}

// Whether one row can be written to a cache of a type, and be attended to there.
static weir_status takes_cache(const weir_llama_params* params, const weir_target* target,
                               weir_dtype dtype, bool* taken) {
    const int64_t width = (int64_t)params->kv_heads * params->head_dim;
    const weir_shape query = weir_shape_make(2, (int64_t[]){1, params->heads * params->head_dim});
    const weir_shape row = weir_shape_make(2, (int64_t[]){1, width});
    weir_view q;
    weir_view x;
    weir_view cache;
    WEIR_TRY(weir_view_layout(WEIR_DTYPE_F32, &query, &q));
    WEIR_TRY(weir_view_layout(WEIR_DTYPE_F32, &row, &x));
    WEIR_TRY(weir_view_layout(dtype, &row, &cache));
    const weir_op_constants constants = {.attention = {.heads = params->heads,
                                                       .kv_heads = params->kv_heads,
                                                       .head_dim = params->head_dim,
                                                       .scale = 1.0f}};
    const weir_view read[] = {q, cache, cache, q};
    const weir_view written[] = {x, cache};
    *taken =
        weir_llama_has_kernel(target, WEIR_OP_ATTENTION, &(weir_kernel_use){read, 4, &constants}) &&
        weir_llama_has_kernel(target, WEIR_OP_SET_ROWS, &(weir_kernel_use){written, 2, &constants});
    return WEIR_OK;
}

weir_status weir_llama_kv_dtype(const weir_llama_params* params, const weir_target* target,
                                weir_dtype wanted, weir_dtype* found) {
    const weir_dtype dtype = wanted == WEIR_DTYPE_NONE ? WEIR_DTYPE_F16 : wanted;
    bool taken = false;
    WEIR_TRY(takes_cache(params, target, dtype, &taken));
    if (!taken && wanted != WEIR_DTYPE_NONE) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "%s has no kernels for keys and values in %s",
                         target->name, weir_dtype_describe(dtype)->name);
    }
    *found = taken ? dtype : WEIR_DTYPE_F32;
    return WEIR_OK;
}

weir_status weir_llama_graph_build(const weir_allocator* allocator,
                                   const weir_llama_graph_desc* desc, weir_llama_graph* pass) {
    WEIR_TRY(check_desc(desc));
    builder b = {.desc = desc, .params = desc->params, .factors = WEIR_VALUE_NONE};
    WEIR_TRY(weir_graph_create(allocator, &b.pass.graph));
    const weir_status status = build(&b);
    if (status != WEIR_OK) {
        weir_graph_destroy(b.pass.graph);
        return status;
    }
    *pass = b.pass;
    return WEIR_OK;
}
