// Programs: a schedule on a device, recorded once and replayed.
//
// Weights and states are bound to views when the program is made; results lie in the arena, which
// several programs may share. A pass gives the parameters, runs, and leaves the outputs in a slot
// of host-reachable memory. A replay plans nothing, encodes nothing and allocates nothing. Passes
// of one device run in the order of their commits.
//
//     weir_program_create(device, &desc, &program);
//     weir_program_write(program, tokens, ids, sizeof ids);
//     weir_program_run(program, params, 2);
//     const float* logits = weir_program_contents(program, y);
#ifndef WEIR_PROGRAM_H
#define WEIR_PROGRAM_H

#include <weir/arena.h>
#include <weir/schedule.h>
#include <weir/session.h>

WEIR_C_BEGIN

typedef struct weir_program weir_program;

typedef struct weir_binding {
    weir_value value; // a weight or a state
    weir_view view;   // same dtype and shape; contiguous
} weir_binding;

typedef struct weir_program_desc {
    const weir_schedule* schedule; // must outlive the program
    const weir_binding* bindings;  // every weight and state that the schedule uses
    uint32_t binding_count;
    weir_arena* arena; // at least as large as the plan; NULL: one of its own
} weir_program_desc;

// Records a schedule on a device.
//
// Ownership: the caller destroys it; the program retains the storages of bindings and arena.
// Errors:    WEIR_INVALID_ARGUMENT a binding is missing, of another type or shape, or a state is
//            bound to sealed memory or to bytes of another binding or of the arena (the message
//            names the value); WEIR_OUT_OF_RANGE a binding passes the end of its storage, or the
//            arena is too small; WEIR_UNSUPPORTED the schedule was made for another kind of device;
//            WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_program_create(weir_device* device,
                                                       const weir_program_desc* desc,
                                                       weir_program** program);

// Waits for its passes in flight and destroys the program; NULL is a no-op.
//
// Threads: thread-compatible.
WEIR_API void weir_program_destroy(weir_program* program);

// Copies `byte_size` bytes to the beginning of an input, for the next pass.
//
// Errors:  WEIR_NOT_FOUND no input; WEIR_OUT_OF_RANGE longer than the input; WEIR_BUSY a pass is in
//          flight.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_program_write(weir_program* program, weir_value input,
                                                      const void* bytes, uint64_t byte_size);

// Runs one pass with the parameters of the graph, in its order, and waits for it.
//
// Errors:  WEIR_OUT_OF_RANGE a parameter is outside its bounds (named); WEIR_INVALID_ARGUMENT
//          count; the status of the work.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_program_run(weir_program* program, const uint64_t* params,
                                                    uint32_t param_count);

// Starts one pass without waiting. One pass of a program can be in flight.
//
// Errors:  as weir_program_run; WEIR_BUSY the pass before is not complete.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_program_commit(weir_program* program,
                                                       const uint64_t* params, uint32_t param_count,
                                                       weir_ticket* ticket);

// Returns the address of an output of the last pass (shape at the upper bounds, rows from the
// first); NULL for what is no output, or while a pass is in flight.
//
// Ownership: belongs to the program; holds until the next pass.
// Threads:   thread-compatible.
WEIR_API const void* weir_program_contents(const weir_program* program, weir_value output);

// Lets the commits from now on take the times of their dispatches, for weir_ticket_timings. They
// are not taken unless asked for.
//
// Threads: thread-compatible.
WEIR_API void weir_program_set_timing(weir_program* program, bool timing);

// Returns what the program has done since its creation.
//
// Ownership: belongs to the program.
// Threads:   thread-compatible.
WEIR_API const weir_counters* weir_program_counters(const weir_program* program);

WEIR_C_END

#endif
