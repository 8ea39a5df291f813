// The tensors of architecture "llama": one list for the graph that uses them and for the check of
// the file that holds them.
#ifndef WEIR_LLM_LLAMA_IMPL_H
#define WEIR_LLM_LLAMA_IMPL_H

#include <weir-llm/llama.h>

typedef enum llama_tensor {
    LLAMA_TOKEN_EMBD = 0,
    LLAMA_OUTPUT_NORM = 1,
    LLAMA_OUTPUT = 2,     // only when the output is not tied
    LLAMA_ROPE_FREQS = 3, // only with rope_factors
    LLAMA_ATTN_NORM = 4,  // from here on once per block
    LLAMA_ATTN_Q = 5,
    LLAMA_ATTN_K = 6,
    LLAMA_ATTN_V = 7,
    LLAMA_ATTN_OUTPUT = 8,
    LLAMA_FFN_NORM = 9,
    LLAMA_FFN_GATE = 10,
    LLAMA_FFN_UP = 11,
    LLAMA_FFN_DOWN = 12,
    LLAMA_TENSOR_COUNT = 13,
} llama_tensor;

#define LLAMA_NAME_CAPACITY 64

typedef struct llama_weight {
    char name[LLAMA_NAME_CAPACITY];
    weir_shape shape; // [width] of a vector, [outputs, inputs] of a matrix
} llama_weight;

// Describes one tensor; `block` counts for those of a block only.
llama_weight weir_llama_weight(const weir_llama_params* params, llama_tensor tensor,
                               uint32_t block);

// Tells whether a model with these hyperparameters has the tensor.
bool weir_llama_uses(const weir_llama_params* params, llama_tensor tensor);

// Tells whether a target has a kernel that takes these operands.
bool weir_llama_has_kernel(const weir_target* target, weir_op_kind op, const weir_kernel_use* use);

#endif
