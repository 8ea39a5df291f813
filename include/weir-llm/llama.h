// The architecture "llama": its hyperparameters and its forward pass as a graph.
//
// A graph needs no weights: the memory of any shape can be planned from its numbers alone.
//
//     weir_llama_params_read(gguf, &params);
//     weir_llama_graph_desc desc = {.params = &params, .context = 512, .rows = 128, .outputs = 1};
//     weir_llama_graph pass;
//     weir_llama_graph_build(NULL, &desc, &pass);
//     weir_schedule_create(NULL, pass.graph, &target, NULL, &schedule);
//     weir_graph_destroy(pass.graph);
#ifndef WEIR_LLM_LLAMA_H
#define WEIR_LLM_LLAMA_H

#include <weir/gguf.h>
#include <weir/target.h>

WEIR_C_BEGIN

typedef struct weir_llama_params {
    uint32_t blocks;       // transformer blocks
    uint32_t embedding;    // width of the residual stream
    uint32_t feed_forward; // width of the hidden layer
    uint32_t heads;        // query heads
    uint32_t kv_heads;     // key and value heads; divides heads
    uint32_t head_dim;     // elements of one head
    uint32_t rotated;      // leading elements of each head that RoPE turns, even
    uint32_t vocabulary;   // tokens
    uint32_t context;      // positions that the model was trained for
    float epsilon;         // of the normalisation
    float rope_base;       // frequency base
    float rope_scale;      // positions are multiplied by it
    bool rope_factors;     // "rope_freqs.weight" divides the frequencies
    bool tied_output;      // the output matrix is the embedding
} weir_llama_params;

// Reads and checks the hyperparameters of a file.
//
// Errors:  WEIR_UNSUPPORTED another architecture, experts, one part of a split model, a RoPE
//          scaling other than linear; WEIR_NOT_FOUND a key is missing; WEIR_BAD_FORMAT,
//          WEIR_OUT_OF_RANGE a value is wrong. The message names file and key.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_llama_params_read(const weir_gguf* gguf,
                                                          weir_llama_params* params);

// Checks what weir_llama_graph_build relies on: no divisor is 0, numbers are finite, sizes are
// within the caps of this library (1024 blocks, widths of 2^20, 2^24 tokens, 2^24 positions).
//
// Errors:  WEIR_OUT_OF_RANGE, WEIR_INVALID_ARGUMENT; the message names the field.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_llama_params_check(const weir_llama_params* params);

// Finds the type of the key and value caches on a target: the one that is wanted, or for NONE F16
// where the target has kernels for it and else F32.
//
// Errors:  WEIR_UNSUPPORTED the target has no kernels for caches of the wanted type;
//          WEIR_INVALID_ARGUMENT a row of the cache is not whole blocks of it.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_llama_kv_dtype(const weir_llama_params* params,
                                                       const weir_target* target, weir_dtype wanted,
                                                       weir_dtype* found);

typedef struct weir_llama_graph_desc {
    const weir_llama_params* params;
    uint32_t context;        // rows of the key and value caches
    uint32_t rows;           // most tokens of one pass, at most `context`
    uint32_t outputs;        // most rows of logits of one pass, at most `rows`
    const weir_gguf* gguf;   // gives each weight its type; NULL: F32 for vectors, else weight_dtype
    weir_dtype weight_dtype; // of the matrices where there is no file; NONE = F32
    weir_dtype kv_dtype;     // of the key and value caches; NONE = F32
    bool split_attention;    // scores, softmax and sum as operations of their own, not as one
} weir_llama_graph_desc;

// A pass over `rows` new tokens that ends in the logits of `outputs` of them. The weights bear the
// names of their tensors; the states are "blk.N.keys" and "blk.N.values", block by block.
typedef struct weir_llama_graph {
    weir_graph* graph;      // belongs to the caller
    weir_param position;    // of the first new token: 0 .. context - 1
    weir_param rows;        // new tokens: 1 .. desc.rows
    weir_param outputs;     // wanted rows of logits: 1 .. desc.outputs
    weir_value tokens;      // input i32 [rows]
    weir_value output_rows; // input i32 [outputs]: which of the new tokens
    weir_value logits;      // output f32 [outputs, vocabulary]
} weir_llama_graph;

// Builds the graph of one pass.
//
// Ownership: the caller destroys pass->graph; the description is not kept.
// Errors:    WEIR_OUT_OF_RANGE, WEIR_INVALID_ARGUMENT the numbers do not fit together;
//            WEIR_NOT_FOUND the file has no such tensor; WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_llama_graph_build(const weir_allocator* allocator,
                                                          const weir_llama_graph_desc* desc,
                                                          weir_llama_graph* pass);

WEIR_C_END

#endif
