// Checks: a schedule is proven, run and compared, on the device that it is for.
//
// The reference is a run in the order of the dispatches on one thread, with every value on bytes of
// its own: nothing is reused and nothing runs side by side. Against it are held, byte for byte, a
// serial run on the planned places in which the bytes of a value are overwritten with 0xFF as soon
// as its last use is over, runs of the program, and runs with random delays round the tiles.
//
//     weir_check_desc check = {.schedule = schedule, .bindings = bindings, .binding_count = 2,
//                              .passes = &pass, .pass_count = 1};
//     weir_schedule_prove(device, &check);
#ifndef WEIR_CHECK_H
#define WEIR_CHECK_H

#include <weir/program.h>

WEIR_C_BEGIN

typedef enum weir_proof {
    WEIR_PROOF_PLAN = 0,    // the verifier: no two values that conflict share a byte
    WEIR_PROOF_ORDER = 1,   // every two dispatches that share a byte are ordered by the edges
    WEIR_PROOF_POISON = 2,  // no dispatch reads bytes that are free
    WEIR_PROOF_ELIDED = 3,  // the program gives the bytes of the reference
    WEIR_PROOF_DELAYED = 4, // so it does with random delays
    WEIR_PROOF_COUNT
} weir_proof;

// Called once per proof, in their order; the message of one that failed is weir_last_error().
typedef void (*weir_proof_fn)(void* context, weir_proof proof, weir_status status);

typedef struct weir_check_input {
    weir_value input;
    const void* bytes; // the beginning of the input; the rest is as it was, at first zeros
    uint64_t byte_size;
} weir_check_input;

typedef struct weir_check_pass {
    const uint64_t* params; // of the graph, in its order
    uint32_t param_count;
    const weir_check_input* inputs;
    uint32_t input_count;
} weir_check_pass;

typedef struct weir_check_desc {
    const weir_schedule* schedule;
    const weir_binding* bindings; // as of a program; states are copied, never written
    uint32_t binding_count;
    const weir_check_pass* passes; // run one after another over the same states
    uint32_t pass_count;
    uint32_t delayed_runs; // of all passes; 0 = 3
    uint64_t seed;         // of the delays
    weir_proof_fn report;  // may be NULL
    void* context;
} weir_check_desc;

// Makes all proofs, also after one that failed, and returns the first failure. The device must be
// idle; its tile hook is not called meanwhile.
//
// Errors:  WEIR_INFEASIBLE two values that conflict share bytes; WEIR_INTERNAL two dispatches are
//          not ordered, or bytes differ (the message names what and where); WEIR_UNSUPPORTED the
//          host cannot run the kernels or reach the bindings; as weir_program_create,
//          weir_program_write and weir_program_run.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_schedule_prove(weir_device* device,
                                                       const weir_check_desc* desc);

// Returns "plan", "order", "poison", "elided" or "delayed"; "unknown" outside the enumeration.
//
// Threads: thread-safe.
WEIR_API const char* weir_proof_name(weir_proof proof);

WEIR_C_END

#endif
