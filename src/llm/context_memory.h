// The memory of a context: sums over graphs and plans, and the comparison with the limit.
#ifndef WEIR_LLM_CONTEXT_MEMORY_H
#define WEIR_LLM_CONTEXT_MEMORY_H

#include <weir-llm/context.h>

// Sums what no plan saves: the values of a graph that lie outside of the arena, and the tables of
// the vocabulary. The arena is taken as empty.
void weir_context_memory_least(const weir_model* model, const weir_graph* graph,
                               weir_context_memory* memory);

// Sums all of it, from the schedules of both phases.
WEIR_MUST_USE weir_status weir_context_memory_sum(const weir_allocator* allocator,
                                                  const weir_model* model,
                                                  const weir_schedule* const* schedules,
                                                  weir_context_memory* memory);

// Compares with the limit of the model; `length` is that of the context, for the message.
//
// Errors: WEIR_OUT_OF_RANGE.
WEIR_MUST_USE weir_status weir_context_memory_check(const weir_model* model, uint32_t length,
                                                    const weir_context_memory* memory);

#endif
