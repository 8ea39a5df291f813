// The sampler: logits in, one token id out.
//
// 1. Logits of tokens among the last ones are made less likely by `repetition_penalty` p: l > 0
//    becomes l / p, others become l * p (Keskar et al. 2019), however often a token came.
// 2. temperature 0 is greedy: the largest logit, the lowest id among equals. Otherwise the logits
//    are divided by the temperature.
// 3. Tokens are kept from the likeliest down, the lower id first among equals: at most `top_k` (Fan
//    et al. 2018); of these the smallest set whose share of their probability reaches `top_p`
//    (Holtzman et al. 2020); and of these those with at least `min_p` times the probability of the
//    likeliest (Nguyen et al. 2024).
// 4. One of them is drawn.
//
// The same seed and logits give the same ids on every machine with the same libm. Any other rule is
// the caller's: who changes logits before the call, -inf for a token that must not come, is served.
//
//     weir_sampler_options options = {.temperature = 0.8f, .top_k = 40, .seed = 1};
//     weir_sampler_create(NULL, &options, weir_tokenizer_size(tokenizer), &sampler);
//     weir_sampler_next(sampler, weir_context_logits(context, 0), &id);
#ifndef WEIR_LLM_SAMPLER_H
#define WEIR_LLM_SAMPLER_H

#include <weir/allocator.h>

WEIR_C_BEGIN

typedef struct weir_sampler weir_sampler;

#define WEIR_SAMPLER_WINDOW_DEFAULT 64 // repetition_window

typedef struct weir_sampler_options {
    float temperature; // 0 = greedy
    float top_p;       // in (0, 1]; 0 = 1 = all tokens
    uint64_t seed;
    uint32_t top_k;             // most tokens to draw from; 0 = all
    float min_p;                // in [0, 1]; 0 = all tokens
    float repetition_penalty;   // above 0; 0 = 1 = none; below 1 repetitions are likelier
    uint32_t repetition_window; // how many of the last tokens are repetitions; 0: the default
} weir_sampler_options;

// Creates a sampler for a vocabulary of `token_count` tokens; `options` may be NULL. Sampling
// itself allocates nothing.
//
// Ownership: the caller destroys it.
// Errors:    WEIR_INVALID_ARGUMENT temperature negative or not finite, top_p or min_p outside
//            [0, 1], a penalty negative or not finite, no tokens; WEIR_OUT_OF_MEMORY.
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

// Chooses the next token from `logits` [token_count], and remembers it as the last one.
//
// Errors:  WEIR_OUT_OF_RANGE a logit is NaN or +inf, or all are -inf: the message names the token.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_sampler_next(weir_sampler* sampler, const float* logits,
                                                     uint32_t* id);

// Remembers tokens that did not come from this sampler, those of a prompt for instance, as the last
// ones; of no consequence without a penalty. weir_generate does so with its prompt.
//
// Errors:  WEIR_OUT_OF_RANGE an id outside the vocabulary: none is remembered then.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_sampler_accept(weir_sampler* sampler, const uint32_t* ids,
                                                       size_t count);

// Forgets all tokens and begins the random numbers of `seed`: as after creation.
//
// Threads: thread-compatible.
WEIR_API void weir_sampler_reset(weir_sampler* sampler, uint64_t seed);

WEIR_C_END

#endif
