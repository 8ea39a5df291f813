// The sampler: logits in, one token id out.
//
// temperature 0 is greedy: the largest logit, the lowest id among equals. Otherwise the logits are
// divided by the temperature, kept down to the smallest set whose probability reaches `top_p`
// (Holtzman et al. 2020), and one is drawn. The same seed and logits give the same ids on every
// machine with the same libm.
#ifndef WEIR_LLM_SAMPLER_H
#define WEIR_LLM_SAMPLER_H

#include <weir/allocator.h>

WEIR_C_BEGIN

typedef struct weir_sampler weir_sampler;

typedef struct weir_sampler_options {
    float temperature; // 0 = greedy
    float top_p;       // in (0, 1]; 0 = 1 = all tokens
    uint64_t seed;
} weir_sampler_options;

// Creates a sampler for a vocabulary of `token_count` tokens; `options` may be NULL. Sampling
// itself allocates nothing.
//
// Ownership: the caller destroys it.
// Errors:    WEIR_INVALID_ARGUMENT temperature negative or not finite, top_p outside [0, 1], no
//            tokens; WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_sampler_create(const weir_allocator* allocator,
                                                       const weir_sampler_options* options,
                                                       uint32_t token_count,
                                                       weir_sampler** sampler);

// Destroys a sampler; NULL is a no-op.
//
// Threads: thread-compatible.
WEIR_API void weir_sampler_destroy(weir_sampler* sampler);

// Returns the tokens of the vocabulary that it was created for.
//
// Threads: thread-safe.
WEIR_API uint32_t weir_sampler_size(const weir_sampler* sampler);

// Chooses the next token from `logits` [token_count].
//
// Errors:  WEIR_OUT_OF_RANGE a logit is NaN or +inf, or all are -inf: the message names the token.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_sampler_next(weir_sampler* sampler, const float* logits,
                                                     uint32_t* id);

WEIR_C_END

#endif
