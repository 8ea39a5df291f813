// What snapshots need of a context beyond its public functions.
#ifndef WEIR_LLM_CONTEXT_REFILL_H
#define WEIR_LLM_CONTEXT_REFILL_H

#include <weir-llm/context.h>

// Writes the rows [0, `position`) of each slot of a cache that has grown to them.
typedef weir_status (*weir_context_fill_fn)(void* source, const weir_state* cache,
                                            uint32_t position);

// Replaces the text of a context by one of `position` tokens, at most its length, whose keys and
// values come from `fill`. On failure the context is empty.
WEIR_MUST_USE weir_status weir_context_refill(weir_context* context, uint32_t position,
                                              weir_context_fill_fn fill, void* source);

#endif
