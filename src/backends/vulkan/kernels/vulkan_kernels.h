// The kernels of Vulkan: which operands each takes, and the launches that a dispatch becomes.
//
// A launch is one vkCmdDispatch: a shader with its constants, the operands that it binds and the
// words pushed to it. A dispatch is one launch, or several that write disjoint bytes where an
// operand is larger than a binding may be. All launches are recorded once, at the upper bounds of
// the parameters; the shaders read the actual numbers from the block of the pass.
#ifndef WEIR_BACKENDS_VULKAN_KERNELS_VULKAN_KERNELS_H
#define WEIR_BACKENDS_VULKAN_KERNELS_VULKAN_KERNELS_H

#include <weir/vulkan.h>

#include "backends/vulkan/vulkan_shaders.h"
#include "device/backend.h"

// X(name, operation, operands that it takes in runs of rows, scratch), in the order of the target
#define VULKAN_KERNEL_LIST(X)                                                                      \
    X(get_rows, GET_ROWS, 1u << 0, vulkan_no_scratch)                                              \
    X(rms_norm, RMS_NORM, 0, vulkan_no_scratch)                                                    \
    X(mul, MUL, 0, vulkan_no_scratch)                                                              \
    X(add, ADD, 0, vulkan_no_scratch)                                                              \
    X(matmul, MATMUL, 1u << 1, vulkan_no_scratch)                                                  \
    X(rope, ROPE, 0, vulkan_no_scratch)                                                            \
    X(attention, ATTENTION, 0, vulkan_attention_scratch)                                           \
    X(silu_gate, SILU_GATE, 0, vulkan_no_scratch)                                                  \
    X(set_rows, SET_ROWS, 0, vulkan_no_scratch)                                                    \
    X(matmul_add, MATMUL_ADD, 1u << 1, vulkan_no_scratch)                                          \
    X(rms_norm_mul, RMS_NORM_MUL, 0, vulkan_no_scratch)                                            \
    X(gate_up, GATE_UP, 1u << 1 | 1u << 2, vulkan_no_scratch)                                      \
    X(add_rms_norm_mul, ADD_RMS_NORM_MUL, 0, vulkan_no_scratch)                                    \
    X(rope_set_rows, ROPE_SET_ROWS, 0, vulkan_no_scratch)                                          \
    X(rms_norm_matmul, RMS_NORM_MATMUL, 1u << 1, vulkan_no_scratch)                                \
    X(rms_norm_gate_up, RMS_NORM_GATE_UP, 1u << 1 | 1u << 2, vulkan_no_scratch)                    \
    X(matmul_set_rows, MATMUL_SET_ROWS, 1u << 1, vulkan_no_scratch)                                \
    X(matmul_rope, MATMUL_ROPE, 1u << 1, vulkan_no_scratch)

#define VULKAN_BINDINGS 7             // of a launch, besides the parameters
#define VULKAN_CONSTANTS 14           // specialisation constants of a shader
#define VULKAN_TABLE UINT32_MAX       // instead of an operand: the table of the launch
#define VULKAN_FAULT (UINT32_MAX - 1) // instead of an operand: the words for faults
#define VULKAN_FAULT_BYTES 8          // 1 + the row that failed, and its index

// What is pushed; the same for all shaders, see shaders/common.glsl.
typedef struct vulkan_push {
    uint32_t rows, rows_param, width, columns;
    uint32_t offset[7];
    uint32_t stride[7];
    uint32_t extra[8];
} vulkan_push;

typedef struct vulkan_binding {
    uint32_t operand;    // its number, VULKAN_TABLE or VULKAN_FAULT
    uint32_t slot;       // whose push.offset is set
    uint32_t unit_bytes; // that push.offset counts
    bool writes;
    int64_t first_row, row_count; // of the operand; row_count 0: all that is declared
} vulkan_binding;

typedef struct vulkan_launch {
    vulkan_shader shader;
    uint32_t constants[VULKAN_CONSTANTS];
    vulkan_push push;
    uint32_t groups[2];
    vulkan_binding bindings[VULKAN_BINDINGS];
    uint32_t binding_count;
    const float* table; // bytes of its own, as VULKAN_TABLE
    size_t table_floats;
} vulkan_launch;

#define VULKAN_TILE 64 // rows of a tile of a product with many rows, and columns of the smaller

// Bytes of shared memory that products with few rows take.
uint32_t vulkan_tuning_bytes(const weir_vulkan_tuning* tuning);

// Bytes of shared memory that a workgroup takes at least that keeps x.
uint64_t vulkan_held_bytes(const weir_vulkan_tuning* tuning);

typedef struct vulkan_encoder vulkan_encoder;

// What an encoding function is told, and what it calls for every launch.
struct vulkan_encoder {
    uint64_t binding_bytes_max;
    uint32_t group_count_max;
    uint32_t shared_bytes_max; // of a workgroup
    const weir_vulkan_tuning* tuning;
    const weir_allocator* allocator;
    // Returns the most bytes of a run of rows of an operand, so that each lies in one allocation.
    uint64_t (*run_bytes_max)(const weir_view* view);
    weir_status (*launch)(vulkan_encoder* encoder, const vulkan_launch* launch);
};

// Bytes of scratch of a dispatch.
uint64_t vulkan_no_scratch(const weir_kernel_use* use);
uint64_t vulkan_attention_scratch(const weir_kernel_use* use);

#define VULKAN_KERNEL_DECLARE(name, operation, rows, scratch)                                      \
    bool vulkan_##name##_accepts(const weir_kernel_use* use);                                      \
    weir_status vulkan_##name##_encode(vulkan_encoder* encoder, const device_dispatch* dispatch);
VULKAN_KERNEL_LIST(VULKAN_KERNEL_DECLARE)
#undef VULKAN_KERNEL_DECLARE

// Turns a dispatch of a kernel of the target into launches.
//
// Errors: WEIR_UNSUPPORTED more workgroups than the device takes; of `launch`.
WEIR_MUST_USE weir_status vulkan_encode(vulkan_encoder* encoder, const device_dispatch* dispatch);

// Checks what only the parameters of a pass decide: whether the rows fit the cache.
//
// Errors: WEIR_OUT_OF_RANGE as the kernels of the CPU say it.
WEIR_MUST_USE weir_status vulkan_check_params(const device_dispatch* dispatch,
                                              const uint64_t* params);

#endif
