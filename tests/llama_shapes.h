// Graphs of known Llama shapes, built from their numbers alone.
#ifndef WEIR_TESTS_LLAMA_SHAPES_H
#define WEIR_TESTS_LLAMA_SHAPES_H

#include "testing.h"

#include <weir-llm/llama.h>

typedef struct llama_shape {
    const char* name;
    uint32_t embedding, blocks, heads, kv_heads, feed_forward, vocabulary;
} llama_shape;

static const llama_shape llama_260k = {"260K", 64, 5, 8, 4, 172, 512};
static const llama_shape llama_110m = {"110M", 768, 12, 12, 12, 2048, 32000};
static const llama_shape llama_1100m = {"1.1B", 2048, 22, 32, 4, 5632, 32000};

// A pass of `rows` new tokens over a cache of `context` positions. The caller destroys its graph.
static inline weir_llama_graph llama_shape_graph(const llama_shape* shape, uint32_t rows,
                                                 uint32_t context, bool split_attention) {
    const weir_llama_params params = {.blocks = shape->blocks,
                                      .embedding = shape->embedding,
                                      .feed_forward = shape->feed_forward,
                                      .heads = shape->heads,
                                      .kv_heads = shape->kv_heads,
                                      .head_dim = shape->embedding / shape->heads,
                                      .rotated = shape->embedding / shape->heads,
                                      .vocabulary = shape->vocabulary,
                                      .context = context,
                                      .epsilon = 1e-5f,
                                      .rope_base = 10000.0f,
                                      .rope_scale = 1.0f};
    const weir_llama_graph_desc desc = {.params = &params,
                                        .context = context,
                                        .rows = rows,
                                        .outputs = 1,
                                        .split_attention = split_attention};
    weir_llama_graph pass;
    assert_ok(weir_llama_graph_build(NULL, &desc, &pass));
    return pass;
}

#endif
