// Programs: a schedule on a device, recorded once and replayed.
//
// Weights and states are bound to views of the caller, results lie in the arena, which several
// programs may share. Inputs and outputs lie in slots, one for each pass that can be in flight, or
// in memory of the caller, without a copy. A pass gives the parameters, within the bounds that the
// schedule was planned for; a replay plans nothing, encodes nothing and allocates nothing.
//
//     weir_program_create(device, &desc, &program);
//     weir_program_write(program, tokens, ids, sizeof ids);
//     weir_program_run(program, params, 2);
//     const float* logits = weir_program_contents(program, y);
//
// Passes of a program run in order, since they share the arena. Pass n has slot n % slot_count:
//
//     weir_program_write(program, x, a, sizeof a);         // slot 0
//     weir_program_commit(program, params, 1, &first);
//     weir_program_write(program, x, b, sizeof b);         // slot 1, while the first pass runs
//     weir_program_commit(program, params, 1, &second);
//     weir_program_read(program, first, y, ya, sizeof ya); // after weir_ticket_wait(first, ...)
//
// No pass reads what another one was given: every row of an input that a pass reads is written
// between the commit before and its own, or lies in memory of the caller.
#ifndef WEIR_PROGRAM_H
#define WEIR_PROGRAM_H

#include <weir/arena.h>
#include <weir/schedule.h>
#include <weir/session.h>

WEIR_C_BEGIN

typedef struct weir_program weir_program;

typedef struct weir_binding {
    weir_value value; // a weight, state, input or output
    weir_view view;   // same dtype and shape, contiguous; inputs and outputs whose rows are a
                      // parameter may have fewer rows than its upper bound
} weir_binding;

typedef struct weir_program_desc {
    const weir_schedule* schedule; // must outlive the program
    const weir_binding* bindings;  // every weight and state that the schedule uses; inputs and
                                   // outputs that do not lie in slots
    uint32_t binding_count;
    weir_arena* arena;   // whose blocks are at least as large as those of the plan; NULL: one of
                         // its own
    uint32_t slot_count; // passes that can be in flight, at most 64; 0 = 1
} weir_program_desc;

// Records a schedule on a device.
//
// Ownership: the caller destroys it; the program retains the storages of bindings and arena.
// Aliasing:  as weir_program_bind.
// Errors:    WEIR_INVALID_ARGUMENT a binding is missing, of another type or shape, on bytes of the
//            arena, or a state or output is bound to sealed memory (the message names the value);
//            too many slots; WEIR_OUT_OF_RANGE a binding passes the end of its storage, or a block
//            of the arena is too small or missing; WEIR_UNSUPPORTED a kernel of the schedule is
//            none that the device runs: those of its target and, where these are host functions,
//            any host function; WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_program_create(weir_device* device,
                                                       const weir_program_desc* desc,
                                                       weir_program** program);

// Waits for its passes in flight and destroys the program; NULL is a no-op.
//
// Threads: thread-compatible.
WEIR_API void weir_program_destroy(weir_program* program);

// Binds weights, states, inputs and outputs to other memory, from the next commit on; what is not
// named stays. An input or output whose view has no storage goes back to the slots. On failure all
// bindings are as before.
//
// Ownership: storages are retained; those that they replace are released when their slots are used
//            again.
// Aliasing:  bindings may share bytes where an order gives every pass what it would give apart:
//            readers of an input come before whoever writes to its bytes; states that share bytes
//            with each other or with an output are written in the order of the graph. It is found
//            anew whenever bindings share bytes, here for the slot that comes next and later by the
//            first commit in each of the others, which allocates; otherwise nothing is planned and
//            nothing allocated.
// Errors:    as weir_program_create; WEIR_INVALID_ARGUMENT two values share bytes and no order
//            helps: both are named.
// Threads:   thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_program_bind(weir_program* program,
                                                     const weir_binding* bindings, uint32_t count);

// Copies `byte_size` bytes to the beginning of an input, for the next pass.
//
// Errors:  WEIR_NOT_FOUND no input; WEIR_INVALID_ARGUMENT it is bound to memory of the caller;
//          WEIR_OUT_OF_RANGE longer than the input; WEIR_BUSY all slots have passes in flight.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_program_write(weir_program* program, weir_value input,
                                                      const void* bytes, uint64_t byte_size);

// Runs one pass with the parameters of the graph, in its order, and waits for it.
//
// Errors:  WEIR_OUT_OF_RANGE a parameter is outside its bounds, or a binding has fewer rows; it is
//          named; WEIR_INVALID_ARGUMENT count; rows of an input that it reads were not written for
//          it; memory that it writes was sealed; WEIR_BUSY all slots have passes in flight; the
//          status of the work. Where nothing was started, what was written waits for the next try.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_program_run(weir_program* program, const uint64_t* params,
                                                    uint32_t param_count);

// Starts one pass without waiting, in the next slot.
//
// Errors:  as weir_program_run.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_program_commit(weir_program* program,
                                                       const uint64_t* params, uint32_t param_count,
                                                       weir_ticket* ticket);

// Makes a view of an output as a complete pass left it, with the rows of that pass. A ticket of
// zero stands for the last pass.
//
// Ownership: the view borrows memory of the program, or of the caller where the output was bound;
//            it holds until the slot is used again, `slot_count` passes later.
// Errors:    WEIR_NOT_FOUND no output, or no slot has it any more; WEIR_BUSY the pass is in flight;
//            the status of the pass where that failed.
// Threads:   thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_program_output(const weir_program* program,
                                                       weir_ticket ticket, weir_value output,
                                                       weir_view* view);

// Copies the first `byte_size` bytes of an output of a complete pass.
//
// Errors:  as weir_program_output; WEIR_OUT_OF_RANGE more bytes than the rows of that pass have;
//          WEIR_UNSUPPORTED bound to memory that the host cannot reach.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_program_read(const weir_program* program,
                                                     weir_ticket ticket, weir_value output,
                                                     void* bytes, uint64_t byte_size);

// Returns the address of an output of the last pass; NULL for what is no output, before the first
// pass, or while the last one is in flight. Rows past those of the pass hold anything: who does not
// count them uses weir_program_output.
//
// Ownership: as weir_program_output.
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
