// A context: one text in the making. It owns the key and value caches of a model and two programs
// that write to them: one for many rows (prefill), one for a single row (decode).
//
// The two never run together, so they share one arena, as large as the larger of their plans. Each
// pass is one submit and one wait; feeding allocates nothing.
//
//     weir_context_create(NULL, model, NULL, &context);
//     weir_context_feed(context, ids, count, WEIR_OUTPUT_LAST);
//     const float* logits = weir_context_logits(context, 0);
#ifndef WEIR_LLM_CONTEXT_H
#define WEIR_LLM_CONTEXT_H

#include <weir-llm/model.h>
#include <weir/plan_file.h>
#include <weir/program.h>
#include <weir/state.h>

WEIR_C_BEGIN

typedef struct weir_context weir_context;

#define WEIR_CONTEXT_ROWS_DEFAULT 128    // prefill_rows
#define WEIR_CONTEXT_LENGTH_DEFAULT 4096 // context_length

typedef struct weir_context_options {
    uint32_t context_length; // positions, at most those of the model; 0: the default, or fewer
    uint32_t prefill_rows;   // most tokens of one pass; 0: the default
    bool output_all;         // WEIR_OUTPUT_ALL is allowed; costs prefill_rows rows of logits
    weir_dtype kv_dtype; // of the caches, see weir_llama_kv_dtype; NONE: F16 where the device can
    weir_schedule_options schedule;
    const char* const* taps; // names of results to keep for weir_context_tap, such as "output_in",
        // what the logits are computed from, or "blk.0.out"; `weir plan --json`
        // lists them. They are outputs then, and no fusion leaves them out
    uint32_t tap_count;
    const weir_plan_file* plans; // planned before, under the names of the phases; read by the call
                                 // alone. `schedule` is then that of the file. NULL: plan now
} weir_context_options;

// The memory that a context takes, in bytes. The lists of its plans are not counted: they follow
// the number of operations, not their sizes.
typedef struct weir_context_memory {
    uint64_t weights;    // of the model, where they are mapped or as the copy of a device
    uint64_t caches;     // keys and values of all positions; memory comes as the text grows
    uint64_t arena;      // the larger of both plans
    uint64_t operands;   // inputs and outputs of both programs
    uint64_t vocabulary; // tables of a tokenizer for the model, at most
    uint64_t total;      // of all these
} weir_context_memory;

typedef enum weir_output {
    WEIR_OUTPUT_NONE = 0, // no logits
    WEIR_OUTPUT_LAST = 1, // the logits that follow the last token
    WEIR_OUTPUT_ALL = 2,  // the logits that follow each token
} weir_output;

typedef enum weir_phase {
    WEIR_PHASE_PREFILL = 0,
    WEIR_PHASE_DECODE = 1,
    WEIR_PHASE_COUNT
} weir_phase;

// Returns "prefill" or "decode", NULL for an unknown phase.
//
// Threads: thread-safe.
WEIR_API const char* weir_phase_name(weir_phase phase);

// Computes what a context would take, without taking it; options may be NULL. The limit of memory
// is not looked at.
//
// Errors:  as weir_context_create.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_context_measure(const weir_allocator* allocator,
                                                        weir_model* model,
                                                        const weir_context_options* options,
                                                        weir_context_memory* memory);

// Creates an empty context; options may be NULL. What it needs is compared with the limits of the
// model before any of it is taken.
//
// Ownership: the caller destroys it; the model must outlive it.
// Errors:    WEIR_OUT_OF_RANGE more positions than the model has or its limits allow, or more
//            memory than they do (the message has the needed and the allowed bytes);
//            WEIR_NOT_FOUND, WEIR_INVALID_ARGUMENT a tap that is none; WEIR_OUT_OF_MEMORY,
//            WEIR_DEVICE_OUT_OF_MEMORY; as weir_llama_kv_dtype; as weir_schedule_create, or as
//            weir_plan_file_load.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_context_create(const weir_allocator* allocator,
                                                       weir_model* model,
                                                       const weir_context_options* options,
                                                       weir_context** context);

// Destroys a context; NULL is a no-op.
//
// Threads: thread-compatible.
WEIR_API void weir_context_destroy(weir_context* context);

// Return facts of a context.
//
// Threads: thread-compatible.
WEIR_API uint32_t weir_context_position(const weir_context* context);   // tokens fed
WEIR_API uint32_t weir_context_length(const weir_context* context);     // tokens that fit
WEIR_API uint32_t weir_context_rows(const weir_context* context);       // tokens of one pass
WEIR_API weir_dtype weir_context_kv_dtype(const weir_context* context); // of the caches
WEIR_API weir_model* weir_context_model(const weir_context* context);
WEIR_API const weir_context_memory* weir_context_memory_of(const weir_context* context);

// Returns the caches of keys and values: memory that grows with the text, and is given back when
// the text is cut. Two slots per block.
//
// Ownership: belongs to the context.
// Threads:   thread-compatible.
WEIR_API const weir_state* weir_context_cache(const weir_context* context);

// Return the schedule of a phase and what its program has done; NULL for an unknown phase.
//
// Ownership: belongs to the context.
// Threads:   thread-compatible.
WEIR_API const weir_schedule* weir_context_schedule(const weir_context* context, weir_phase phase);
WEIR_API const weir_counters* weir_context_counters(const weir_context* context, weir_phase phase);

// Returns row `row` of the logits [vocabulary] that the last feed asked for (LAST: row 0), NULL
// where there is none.
//
// Ownership: belongs to the context; holds until the next feed.
// Threads:   thread-compatible.
WEIR_API const float* weir_context_logits(const weir_context* context, size_t row);

// Makes a view of tap `tap` of the options as the last pass of the last feed left it: f32 [rows,
// width], in the last block behind its attention [rows of logits, width] (of a pass that nobody
// asked logits of, one). Host and device read it as any output of a program. The mean of rows of
// "output_in", or the last of them, is what embeddings of a text are made of.
//
// Ownership: the view borrows memory of the context; holds until the next feed.
// Errors:    WEIR_NOT_FOUND no such tap, or nothing was fed since the context was made, rewound or
//            loaded, or the last feed failed.
// Threads:   thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_context_tap(const weir_context* context, uint32_t tap,
                                                    weir_view* view);

// Appends tokens to the text, in passes of at most weir_context_rows tokens. On failure the
// position is as before and there are no logits.
//
// Errors:  WEIR_OUT_OF_RANGE an id outside the vocabulary, more tokens than the context has room
//          for, or more than one pass takes with WEIR_OUTPUT_ALL; WEIR_INVALID_ARGUMENT no tokens,
//          an unknown output, or WEIR_OUTPUT_ALL for several without the option; the status of
//          the work.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_context_feed(weir_context* context, const uint32_t* ids,
                                                     size_t count, weir_output output);

// Called when a pass is complete, in the thread that feeds, with the times of the dispatches of the
// schedule of its phase (weir_timing); they hold for the call.
typedef void (*weir_context_pass_fn)(void* watcher, weir_phase phase, const weir_timing* timings,
                                     uint32_t count);

// Takes the times of every pass from now on and hands them to `watch`; NULL: no longer.
//
// Errors:  WEIR_OUT_OF_MEMORY; it is watched as before.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_context_watch(weir_context* context,
                                                      weir_context_pass_fn watch, void* watcher);

// Forgets all tokens from `position` on; 0 begins a new text.
//
// Errors:  WEIR_OUT_OF_RANGE past the current position.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_context_rewind(weir_context* context, uint32_t position);

WEIR_C_END

#endif
