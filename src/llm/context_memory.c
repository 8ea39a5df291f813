#include "context_memory.h"

#include <stdio.h>

// Sums that pass 64 bits stay at the end: they are over any limit.
static void add(uint64_t* sum, uint64_t bytes) {
    if (__builtin_add_overflow(*sum, bytes, sum)) {
        *sum = UINT64_MAX;
    }
}

static void add_up(const weir_model* model, weir_context_memory* memory) {
    memory->vocabulary = weir_model_vocabulary_bytes(model);
    memory->total = 0;
    add(&memory->total, memory->weights);
    add(&memory->total, memory->caches);
    add(&memory->total, memory->arena);
    add(&memory->total, memory->operands);
    add(&memory->total, memory->vocabulary);
}

void weir_context_memory_least(const weir_model* model, const weir_graph* graph,
                               weir_context_memory* memory) {
    *memory = (weir_context_memory){0};
    for (weir_value value = 0; value < weir_graph_value_count(graph); value++) {
        const weir_value_info* info = weir_graph_value_info(graph, value);
        const uint64_t byte_size = weir_view_byte_span(&info->layout);
        if (info->kind == WEIR_VALUE_WEIGHT) {
            add(&memory->weights, byte_size);
        } else if (info->kind == WEIR_VALUE_STATE) {
            add(&memory->caches, byte_size);
        } else if (info->kind == WEIR_VALUE_INPUT || info->is_output) {
            add(&memory->operands, byte_size);
        }
    }
    add_up(model, memory);
}

// Both phases use the same weights and caches, and one arena in turn; inputs and outputs are those
// of each.
weir_status weir_context_memory_sum(const weir_allocator* allocator, const weir_model* model,
                                    const weir_schedule* const* schedules,
                                    weir_context_memory* memory) {
    const weir_plan* plans[WEIR_PHASE_COUNT];
    weir_arena_deficit arena;
    *memory = (weir_context_memory){0};
    for (int i = 0; i < WEIR_PHASE_COUNT; i++) {
        plans[i] = weir_schedule_plan(schedules[i]);
        const weir_schedule_report* report = weir_schedule_report_of(schedules[i]);
        memory->weights = report->weight_bytes;
        memory->caches = report->state_bytes;
        add(&memory->operands, report->input_bytes);
        add(&memory->operands, report->output_bytes);
    }
    const weir_arena_desc desc = {.plans = plans, .plan_count = WEIR_PHASE_COUNT};
    WEIR_TRY(weir_arena_measure(allocator, weir_model_device(model), &desc, &arena));
    memory->arena = arena.planned_bytes;
    add_up(model, memory);
    return WEIR_OK;
}

weir_status weir_context_memory_check(const weir_model* model, uint32_t length,
                                      const weir_context_memory* memory) {
    const uint64_t allowed = weir_model_limits(model)->memory_bytes;
    if (memory->total <= allowed) {
        return WEIR_OK;
    }
    char arena[32] = "not planned yet";
    if (memory->arena > 0) {
        snprintf(arena, sizeof arena, "%llu", (unsigned long long)memory->arena);
    }
    return WEIR_FAIL(
        WEIR_OUT_OF_RANGE,
        "%s: memory of a context of %u positions: needed are %llu bytes (weights %llu, keys and "
        "values %llu, arena %s, inputs and outputs %llu, vocabulary %llu), allowed are %llu",
        weir_gguf_file_name(weir_model_gguf(model)), length, (unsigned long long)memory->total,
        (unsigned long long)memory->weights, (unsigned long long)memory->caches, arena,
        (unsigned long long)memory->operands, (unsigned long long)memory->vocabulary,
        (unsigned long long)allowed);
}
