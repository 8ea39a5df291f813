// Targets: the plain description of a device that planning needs. No device is opened to get one.
#ifndef WEIR_TARGET_H
#define WEIR_TARGET_H

#include <weir/graph.h>
#include <weir/kernel.h>

WEIR_C_BEGIN

typedef struct weir_rope_rows_desc {
    weir_rope_desc rope;
    weir_param position; // of the first row in the state
} weir_rope_rows_desc;

// A product whose result is turned or goes to a state, or both; of an x that may be normalised.
typedef struct weir_projection_desc {
    bool normalises;     // x, with the factors that are operand 2
    float epsilon;       // then
    bool turns;          // the result, with divisors as the last input where there are some
    weir_rope_desc rope; // then
    weir_param position; // of the first row in the state; WEIR_PARAM_NONE without one
} weir_projection_desc;

// What weir_graph_custom was given.
typedef struct weir_custom_constants {
    char name[WEIR_CUSTOM_NAME_BYTES];
    uint32_t in_place;
    uint32_t byte_size;                             // of the constants
    unsigned char bytes[WEIR_CUSTOM_CONSTANTS_MAX]; // aligned to 4; zeros behind them
} weir_custom_constants;

// The constants of a graph operation.
typedef union weir_op_constants {
    float epsilon;                   // all that have rms_norm in their names
    weir_rope_desc rope;             // rope, its defaults filled in
    weir_attention_desc attention;   // attention and its three parts, their defaults filled in
    weir_param position;             // set_rows
    weir_rope_rows_desc rope_rows;   // rope_set_rows
    weir_projection_desc projection; // matmul_rope, matmul_set_rows
    weir_custom_constants custom;    // custom
} weir_op_constants;

// What a kernel is asked about before it runs. The operands are the inputs of the operation in
// order, then the outputs, the result as the last, then the scratch (u8) once there is any.
typedef struct weir_kernel_use {
    const weir_view* operands; // at the upper bounds, or with the dims of a pass
    uint32_t operand_count;
    const weir_op_constants* constants;
} weir_kernel_use;

// A kernel for an operation of a graph, as a target lists it. A call of it gets the same operands,
// and weir_op_constants as its constants.
typedef struct weir_kernel {
    const char* name; // unique within the target
    weir_op_kind op;

    // Tells whether the kernel takes operands of these types and shapes.
    bool (*accepts)(const weir_kernel_use* use);

    // Cuts the dispatch into tiles, by shapes and constants alone, so that results do not depend on
    // threads. At most 2^24 - 2.
    uint32_t (*tile_count)(const weir_kernel_use* use);

    // Returns the bytes of scratch that the dispatch needs, at the upper bounds; 0 for none.
    uint64_t (*scratch_bytes)(const weir_kernel_use* use);

    weir_kernel_fn run; // NULL where kernels are not host functions

    // Whether `run` is called once more, with tile = tile_count, when all tiles of the dispatch are
    // done: to join what they left in the scratch.
    bool joins;

    uint32_t by_rows;   // bit i: operand i is taken in runs of rows and may pass binding_bytes_max
    const char* custom; // of WEIR_OP_CUSTOM: the name of the operation that it computes
} weir_kernel;

typedef enum weir_wait_kind {
    WEIR_WAIT_EDGES = 0,  // a dispatch waits for its predecessors only (counters, graph edges)
    WEIR_WAIT_GROUPS = 1, // a boundary waits for everything before it (barriers)
} weir_wait_kind;

typedef struct weir_target {
    const char* name;           // "cpu", "null", ...
    weir_wait_kind waits;       // what a dispatch waits for
    uint64_t alignment;         // bytes; of every value in the arena
    uint64_t binding_bytes_max; // largest range one operand may span; 0 = no limit
    uint64_t storage_bytes_max; // largest single storage; 0 = no limit
    bool native_f16; // kernels, also those of the caller, can compute on 16-bit floats as they are
    const weir_kernel* kernels; // the first that accepts the operands of an operation is used
    uint32_t kernel_count;
} weir_target;

// Finds the target of a kind of device by name: "cpu" or "null"; NULL means "cpu". "barriers" is
// none: the kernels and sizes of the CPU for a device that waits by boundaries, to plan for.
//
// Errors:  WEIR_NOT_FOUND, the message lists the names.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_target_find(const char* name, weir_target* target);

WEIR_C_END

#endif
