// Two programs of one model over one cache. What differs between them is the bounds of their
// parameters: the plan of a single row is smaller by as much as a prefill pass has rows.
#include <weir-llm/context.h>

#include <string.h>

#include "context_memory.h"
#include "context_refill.h"
#include "memory.h"

// One compiled pass. The schedule must outlive the program.
typedef struct context_phase {
    weir_llama_graph pass; // its graph is gone once the program is made; the numbers stay
    weir_schedule* schedule;
    weir_program* program;
    weir_value* taps; // [tap_count] of the context
} context_phase;

// Invariants: position <= length, rows <= length, and outputs is rows or 1.
// Rows of the cache from `position` on hold nothing of value: a pass writes them before it reads
// them, so rewinding and failed passes need no clean-up.
struct weir_context {
    weir_allocator allocator;
    weir_model* model;
    uint32_t length;   // positions that fit
    uint32_t rows;     // tokens of one prefill pass
    uint32_t outputs;  // rows of logits of one prefill pass
    uint32_t position; // tokens fed
    weir_context_memory memory;
    weir_dtype kv_dtype;
    context_phase phases[WEIR_PHASE_COUNT];
    weir_state* cache;   // slots: keys and values of block 0, of block 1, ...
    weir_arena* arena;   // of both programs: they never run together
    int32_t* wanted;     // [outputs] rows whose logits are asked for
    const float* logits; // of the last feed
    size_t logit_rows;
    uint32_t tap_count;
    const context_phase* tapped; // whose program has the taps of the last feed; NULL: none
    weir_context_pass_fn watch;  // NULL: nobody does
    void* watcher;
    weir_timing* timings; // [timing_count] of the pass that is told
    uint32_t timing_count;
};

const char* weir_phase_name(weir_phase phase) {
    static const char* const names[WEIR_PHASE_COUNT] = {"prefill", "decode"};
    return (unsigned)phase < WEIR_PHASE_COUNT ? names[phase] : NULL;
}

// Results that the caller wants to see are outputs like the logits.
static weir_status make_taps(weir_context* context, context_phase* phase,
                             const char* const* names) {
    if (context->tap_count == 0) {
        return WEIR_OK;
    }
    if (!names) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%u names of taps at NULL", context->tap_count);
    }
    WEIR_TRY(llm_array_new(&context->allocator, context->tap_count, &phase->taps));
    for (uint32_t i = 0; i < context->tap_count; i++) {
        if (!names[i]) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "the name of tap %u is NULL", i);
        }
        WEIR_TRY(weir_graph_find(phase->pass.graph, names[i], &phase->taps[i]));
        WEIR_TRY(weir_graph_output(phase->pass.graph, phase->taps[i]));
    }
    return WEIR_OK;
}

static weir_status make_graph(weir_context* context, weir_phase kind,
                              const weir_context_options* options) {
    context_phase* phase = &context->phases[kind];
    const bool prefill = kind == WEIR_PHASE_PREFILL;
    const weir_llama_graph_desc desc = {.params = weir_model_params(context->model),
                                        .context = context->length,
                                        .rows = prefill ? context->rows : 1,
                                        .outputs = prefill ? context->outputs : 1,
                                        .kv_dtype = context->kv_dtype,
                                        .gguf = weir_model_gguf(context->model)};
    WEIR_TRY(weir_llama_graph_build(&context->allocator, &desc, &phase->pass));
    return make_taps(context, phase, options->taps);
}

static weir_status make_schedule(weir_context* context, weir_phase kind,
                                 const weir_context_options* options) {
    context_phase* phase = &context->phases[kind];
    const weir_target* target = weir_device_target(weir_model_device(context->model));
    return options->plans ? weir_plan_file_load(options->plans, weir_phase_name(kind),
                                                phase->pass.graph, target, &phase->schedule)
                          : weir_schedule_create(&context->allocator, phase->pass.graph, target,
                                                 &options->schedule, &phase->schedule);
}

// Addresses for the whole context; memory comes as the text grows.
static weir_status make_cache(weir_context* context) {
    const weir_llama_params* params = weir_model_params(context->model);
    const int64_t width = (int64_t)params->kv_heads * params->head_dim;
    const weir_state_desc desc = {.dtype = context->kv_dtype,
                                  .row = weir_shape_make(1, &width),
                                  .row_count_max = context->length,
                                  .slot_count = 2 * params->blocks,
                                  .name = "keys and values"};
    return weir_state_create(weir_model_device(context->model), &desc, &context->cache);
}

// Has the files read while the programs are made and the first pass runs. That is a favour: without
// it everything is as it was. Devices that have their copies read the files no more.
static void read_ahead(const weir_context* context, const weir_llama_graph* pass) {
    const weir_storage* last = NULL;
    for (weir_value value = 0; value < weir_graph_value_count(pass->graph); value++) {
        const weir_value_info* info = weir_graph_value_info(pass->graph, value);
        weir_view view;
        if (info->kind == WEIR_VALUE_WEIGHT &&
            weir_model_weight(context->model, info->name, &view) == WEIR_OK &&
            view.storage != last && !weir_storage_is_copied(view.storage) &&
            weir_storage_advise(view.storage, 0, 0, WEIR_ADVICE_WILL_NEED) == WEIR_OK) {
            last = view.storage;
        }
    }
}

// Binds weights by name and the states in their order, which is that of the blocks.
static weir_status bind(const weir_context* context, const weir_llama_graph* pass,
                        weir_binding* bindings, uint32_t* binding_count) {
    uint32_t count = 0;
    uint32_t states = 0;
    for (weir_value value = 0; value < weir_graph_value_count(pass->graph); value++) {
        const weir_value_info* info = weir_graph_value_info(pass->graph, value);
        weir_binding* binding = &bindings[count];
        if (info->kind == WEIR_VALUE_WEIGHT) {
            WEIR_TRY(weir_model_weight(context->model, info->name, &binding->view));
        } else if (info->kind == WEIR_VALUE_STATE) {
            WEIR_TRY(weir_state_view(context->cache, states++, &binding->view));
        } else {
            continue;
        }
        binding->value = value;
        count++;
    }
    *binding_count = count;
    return WEIR_OK;
}

// The program keeps what it needs of the bindings: the list lives for this call only.
static weir_status make_program(weir_context* context, context_phase* phase) {
    const uint32_t capacity = weir_graph_value_count(phase->pass.graph);
    weir_binding* bindings = NULL;
    WEIR_TRY(llm_array_new(&context->allocator, capacity, &bindings));
    weir_program_desc desc = {
        .schedule = phase->schedule, .bindings = bindings, .arena = context->arena};
    weir_status status = bind(context, &phase->pass, bindings, &desc.binding_count);
    if (status == WEIR_OK) {
        status = weir_program_create(weir_model_device(context->model), &desc, &phase->program);
    }
    llm_array_free(&context->allocator, bindings, capacity);
    return status;
}

// Plans both phases. No tensor memory is taken: the larger of both plans is known before that, and
// a shape that cannot be scheduled costs nothing. With `is_limited` what is too large is refused
// here, and what is so without any arena even before it is planned.
static weir_status plan(weir_context* context, const weir_context_options* options,
                        bool is_limited) {
    const context_phase* phases = context->phases;
    WEIR_TRY(weir_llama_kv_dtype(weir_model_params(context->model),
                                 weir_device_target(weir_model_device(context->model)),
                                 options->kv_dtype, &context->kv_dtype));
    WEIR_TRY(make_graph(context, WEIR_PHASE_PREFILL, options));
    weir_context_memory_least(context->model, phases[WEIR_PHASE_PREFILL].pass.graph,
                              &context->memory);
    if (is_limited) {
        WEIR_TRY(weir_context_memory_check(context->model, context->length, &context->memory));
    }
    WEIR_TRY(make_schedule(context, WEIR_PHASE_PREFILL, options));
    WEIR_TRY(make_graph(context, WEIR_PHASE_DECODE, options));
    WEIR_TRY(make_schedule(context, WEIR_PHASE_DECODE, options));
    const weir_schedule* const schedules[] = {phases[WEIR_PHASE_PREFILL].schedule,
                                              phases[WEIR_PHASE_DECODE].schedule};
    WEIR_TRY(
        weir_context_memory_sum(&context->allocator, context->model, schedules, &context->memory));
    return is_limited ? weir_context_memory_check(context->model, context->length, &context->memory)
                      : WEIR_OK;
}

// One arena that holds both plans.
static weir_status make_arena(weir_context* context) {
    const weir_plan* plans[WEIR_PHASE_COUNT];
    for (int i = 0; i < WEIR_PHASE_COUNT; i++) {
        plans[i] = weir_schedule_plan(context->phases[i].schedule);
    }
    const weir_arena_desc desc = {.plans = plans, .plan_count = WEIR_PHASE_COUNT};
    return weir_arena_create_with(weir_model_device(context->model), &desc, &context->arena);
}

// What was planned is taken.
static weir_status build(weir_context* context) {
    read_ahead(context, &context->phases[WEIR_PHASE_DECODE].pass);
    WEIR_TRY(llm_array_new(&context->allocator, context->outputs, &context->wanted));
    WEIR_TRY(make_cache(context));
    WEIR_TRY(make_arena(context));
    for (int i = 0; i < WEIR_PHASE_COUNT; i++) {
        WEIR_TRY(make_program(context, &context->phases[i]));
        // Schedule and program hold copies of what they need.
        weir_graph_destroy(context->phases[i].pass.graph);
        context->phases[i].pass.graph = NULL;
    }
    return WEIR_OK;
}

// The wish or, without one, the default; cut to the limit.
static uint32_t at_most(uint32_t wanted, uint32_t fallback, uint32_t limit) {
    const uint32_t number = wanted > 0 ? wanted : fallback;
    return number < limit ? number : limit;
}

static weir_status check_length(const weir_model* model, uint32_t length) {
    const char* file = weir_gguf_file_name(weir_model_gguf(model));
    const uint32_t model_length = weir_model_params(model)->context;
    const uint32_t allowed = weir_model_limits(model)->context;
    if (length > model_length) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s: a context of %u positions; the model has %u", file,
                         length, model_length);
    }
    if (length > allowed) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s: a context of %u positions; allowed are %u", file,
                         length, allowed);
    }
    return WEIR_OK;
}

// Makes a context with nothing but its numbers.
static weir_status begin(const weir_allocator* allocator, weir_model* model,
                         const weir_context_options* options, weir_context** context) {
    const uint32_t model_length = weir_model_params(model)->context;
    const uint32_t allowed = weir_model_limits(model)->context;
    WEIR_TRY(check_length(model, options->context_length));
    weir_context* created = NULL;
    WEIR_TRY(llm_array_new(allocator, 1, &created));
    *created = (weir_context){.model = model};
    if (allocator) {
        created->allocator = *allocator;
    }
    created->length = at_most(options->context_length, WEIR_CONTEXT_LENGTH_DEFAULT,
                              model_length < allowed ? model_length : allowed);
    created->rows = at_most(options->prefill_rows, WEIR_CONTEXT_ROWS_DEFAULT, created->length);
    created->outputs = options->output_all ? created->rows : 1;
    created->tap_count = options->tap_count;
    *context = created;
    return WEIR_OK;
}

static const weir_context_options default_options = {0};

weir_status weir_context_measure(const weir_allocator* allocator, weir_model* model,
                                 const weir_context_options* options, weir_context_memory* memory) {
    weir_context* planned = NULL;
    options = options ? options : &default_options;
    WEIR_TRY(begin(allocator, model, options, &planned));
    const weir_status status = plan(planned, options, false);
    if (status == WEIR_OK) {
        *memory = planned->memory;
    }
    weir_context_destroy(planned);
    return status;
}

weir_status weir_context_create(const weir_allocator* allocator, weir_model* model,
                                const weir_context_options* options, weir_context** context) {
    weir_context* created = NULL;
    options = options ? options : &default_options;
    WEIR_TRY(begin(allocator, model, options, &created));
    weir_status status = plan(created, options, true);
    if (status == WEIR_OK) {
        status = build(created);
    }
    if (status != WEIR_OK) {
        weir_context_destroy(created);
        return status;
    }
    *context = created;
    return WEIR_OK;
}

void weir_context_destroy(weir_context* context) {
    if (!context) {
        return;
    }
    // Programs first: they point into their schedules.
    const weir_allocator allocator = context->allocator;
    for (int i = 0; i < WEIR_PHASE_COUNT; i++) {
        weir_program_destroy(context->phases[i].program);
        weir_schedule_destroy(context->phases[i].schedule);
        weir_graph_destroy(context->phases[i].pass.graph);
        llm_array_free(&allocator, context->phases[i].taps, context->tap_count);
    }
    weir_arena_destroy(context->arena);
    weir_state_destroy(context->cache);
    llm_array_free(&allocator, context->wanted, context->outputs);
    llm_array_free(&allocator, context->timings, context->timing_count);
    llm_array_free(&allocator, context, 1);
}

uint32_t weir_context_position(const weir_context* context) {
    return context->position;
}

uint32_t weir_context_length(const weir_context* context) {
    return context->length;
}

uint32_t weir_context_rows(const weir_context* context) {
    return context->rows;
}

weir_dtype weir_context_kv_dtype(const weir_context* context) {
    return context->kv_dtype;
}

weir_model* weir_context_model(const weir_context* context) {
    return context->model;
}

const weir_context_memory* weir_context_memory_of(const weir_context* context) {
    return &context->memory;
}

const weir_state* weir_context_cache(const weir_context* context) {
    return context->cache;
}

const weir_schedule* weir_context_schedule(const weir_context* context, weir_phase phase) {
    return (unsigned)phase < WEIR_PHASE_COUNT ? context->phases[phase].schedule : NULL;
}

const weir_counters* weir_context_counters(const weir_context* context, weir_phase phase) {
    return (unsigned)phase < WEIR_PHASE_COUNT
               ? weir_program_counters(context->phases[phase].program)
               : NULL;
}

// Everything that can be wrong with a feed is found before its first pass: a feed of several passes
// does not stop half way for a bad id.
static weir_status check_feed(const weir_context* context, const uint32_t* ids, size_t count,
                              weir_output output) {
    const uint32_t vocabulary = weir_model_params(context->model)->vocabulary;
    const uint32_t room = context->length - context->position;
    if ((unsigned)output > WEIR_OUTPUT_ALL) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "output %d, expected NONE (0), LAST (1) or ALL (2)",
                         (int)output);
    }
    if (count == 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "no tokens to feed");
    }
    if (count > room) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                         "%zu more tokens do not fit: the context holds %u and has %u", count,
                         context->length, context->position);
    }
    for (size_t i = 0; i < count; i++) {
        if (ids[i] >= vocabulary) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                             "token %zu is %u; expected less than %u, the size of the vocabulary",
                             i, ids[i], vocabulary);
        }
    }
    if (output == WEIR_OUTPUT_ALL && count > 1 && context->outputs < context->rows) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "logits of all tokens need a context made with output_all");
    }
    if (output == WEIR_OUTPUT_ALL && count > context->rows) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                         "logits of all of %zu tokens; one pass has those of at most %u", count,
                         context->rows);
    }
    return WEIR_OK;
}

static weir_status run_program(weir_context* context, weir_phase number, const uint64_t* params,
                               uint32_t param_count) {
    weir_program* program = context->phases[number].program;
    weir_ticket ticket;
    uint32_t count = 0;
    if (!context->watch) {
        return weir_program_run(program, params, param_count);
    }
    WEIR_TRY(weir_program_commit(program, params, param_count, &ticket));
    WEIR_TRY(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    WEIR_TRY(weir_ticket_timings(ticket, context->timings, context->timing_count, &count));
    context->watch(context->watcher, number, context->timings, count);
    return WEIR_OK;
}

// Feeds the tokens of one pass and advances.
static weir_status run_pass(weir_context* context, const uint32_t* ids, uint32_t rows,
                            bool all_outputs) {
    const weir_phase number = rows == 1 ? WEIR_PHASE_DECODE : WEIR_PHASE_PREFILL;
    const context_phase* phase = &context->phases[number];
    const uint32_t outputs = all_outputs ? rows : 1;
    for (uint32_t i = 0; i < outputs; i++) {
        // Numbers of rows within this pass, not positions.
        context->wanted[i] = (int32_t)(rows - outputs + i);
    }
    WEIR_TRY(
        weir_program_write(phase->program, phase->pass.tokens, ids, (uint64_t)rows * sizeof *ids));
    WEIR_TRY(weir_program_write(phase->program, phase->pass.output_rows, context->wanted,
                                (uint64_t)outputs * sizeof *context->wanted));
    uint64_t params[3];
    params[phase->pass.position] = context->position;
    params[phase->pass.rows] = rows;
    params[phase->pass.outputs] = outputs;
    WEIR_TRY(weir_state_grow(context->cache, (int64_t)context->position + rows));
    WEIR_TRY(run_program(context, number, params, 3));
    context->logits = weir_program_contents(phase->program, phase->pass.logits);
    context->logit_rows = outputs;
    context->tapped = phase;
    // Only now: after a failure the rows do not count.
    context->position += rows;
    return WEIR_OK;
}

// Every pass computes at least one row of logits; those that nobody asked for are not handed out.
weir_status weir_context_feed(weir_context* context, const uint32_t* ids, size_t count,
                              weir_output output) {
    const uint32_t begin = context->position;
    context->logit_rows = 0;
    context->tapped = NULL;
    WEIR_TRY(check_feed(context, ids, count, output));
    while (count > 0) {
        const uint32_t rows = count < context->rows ? (uint32_t)count : context->rows;
        const weir_status status = run_pass(context, ids, rows, output == WEIR_OUTPUT_ALL);
        if (status != WEIR_OK) {
            context->position = begin;
            context->logit_rows = 0;
            context->tapped = NULL;
            return status;
        }
        ids += rows;
        count -= rows;
    }
    context->logit_rows = output == WEIR_OUTPUT_NONE ? 0 : context->logit_rows;
    return WEIR_OK;
}

const float* weir_context_logits(const weir_context* context, size_t row) {
    const size_t vocabulary = weir_model_params(context->model)->vocabulary;
    return row < context->logit_rows ? context->logits + row * vocabulary : NULL;
}

weir_status weir_context_tap(const weir_context* context, uint32_t tap, weir_view* view) {
    const context_phase* phase = context->tapped;
    if (tap >= context->tap_count) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "no tap %u, the context has %u", tap, context->tap_count);
    }
    if (!phase) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "tap %u: nothing was fed that it would be of", tap);
    }
    return weir_program_output(phase->program, (weir_ticket){0}, phase->taps[tap], view);
}

weir_status weir_context_watch(weir_context* context, weir_context_pass_fn watch, void* watcher) {
    if (watch && !context->timings) {
        uint32_t most = 1;
        for (int i = 0; i < WEIR_PHASE_COUNT; i++) {
            const uint32_t count = weir_schedule_report_of(context->phases[i].schedule)->dispatches;
            most = count > most ? count : most;
        }
        WEIR_TRY(llm_array_new(&context->allocator, most, &context->timings));
        context->timing_count = most;
    }
    for (int i = 0; i < WEIR_PHASE_COUNT; i++) {
        weir_program_set_timing(context->phases[i].program, watch != NULL);
    }
    context->watch = watch;
    context->watcher = watcher;
    return WEIR_OK;
}

weir_status weir_context_rewind(weir_context* context, uint32_t position) {
    if (position > context->position) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "cannot rewind to position %u: the text has %u tokens",
                         position, context->position);
    }
    if (position < weir_state_row_count(context->cache)) {
        WEIR_TRY(weir_state_truncate(context->cache, position));
    }
    context->position = position;
    context->logit_rows = 0;
    context->tapped = NULL;
    return WEIR_OK;
}

weir_status weir_context_refill(weir_context* context, uint32_t position, weir_context_fill_fn fill,
                                void* source) {
    WEIR_TRY(weir_context_rewind(context, 0));
    WEIR_TRY(weir_state_grow(context->cache, position));
    WEIR_TRY(fill(source, context->cache, position));
    context->position = position;
    return WEIR_OK;
}
