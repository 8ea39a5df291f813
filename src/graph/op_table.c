#include "graph/graph.h"

#include <string.h>

// Where an input is listed as in place and has another size than the output (one row for all rows
// of mul and add), lowering leaves it alone: only equal layouts can share bytes.
static const graph_op_info op_infos[WEIR_OP_COUNT] = {
    [WEIR_OP_GET_ROWS] = {.name = "get_rows"},
    [WEIR_OP_RMS_NORM] = {.name = "rms_norm", .in_place = 1u << 0},
    [WEIR_OP_MUL] = {.name = "mul", .in_place = 1u << 0 | 1u << 1},
    [WEIR_OP_ADD] = {.name = "add", .in_place = 1u << 0 | 1u << 1},
    [WEIR_OP_MATMUL] = {.name = "matmul"},
    [WEIR_OP_ROPE] = {.name = "rope", .in_place = 1u << 0},
    [WEIR_OP_ATTENTION] = {.name = "attention", .in_place = 1u << 0},
    [WEIR_OP_SILU_GATE] = {.name = "silu_gate", .in_place = 1u << 0 | 1u << 1},
    [WEIR_OP_SET_ROWS] = {.name = "set_rows", .writes_state = true},
    [WEIR_OP_GATE_UP] = {.name = "gate_up"},
    [WEIR_OP_MATMUL_ADD] = {.name = "matmul_add", .in_place = 1u << 2},
    [WEIR_OP_ADD_RMS_NORM_MUL] = {.name = "add_rms_norm_mul", .in_place = 1u << 0 | 1u << 1},
    [WEIR_OP_RMS_NORM_MUL] = {.name = "rms_norm_mul", .in_place = 1u << 0 | 1u << 1},
    [WEIR_OP_ROPE_SET_ROWS] = {.name = "rope_set_rows", .writes_state = true},
    [WEIR_OP_ATTENTION_SCORES] = {.name = "attention_scores"},
    [WEIR_OP_ATTENTION_SOFTMAX] = {.name = "attention_softmax", .in_place = 1u << 0},
    [WEIR_OP_ATTENTION_SUM] = {.name = "attention_sum"},
    [WEIR_OP_RMS_NORM_MATMUL] = {.name = "rms_norm_matmul"},
    [WEIR_OP_RMS_NORM_GATE_UP] = {.name = "rms_norm_gate_up"},
    [WEIR_OP_MATMUL_SET_ROWS] = {.name = "matmul_set_rows", .writes_state = true},
    [WEIR_OP_MATMUL_ROPE] = {.name = "matmul_rope"},
    [WEIR_OP_CUSTOM] = {.name = "custom"}, // the rest is in its constants
};

const graph_op_info* weir_graph_op_info(weir_op_kind kind) {
    return (uint32_t)kind < WEIR_OP_COUNT ? &op_infos[kind] : NULL;
}

const char* weir_op_name(weir_op_kind op) {
    const graph_op_info* info = weir_graph_op_info(op);
    return info ? info->name : "unknown";
}

const char* weir_graph_op_label(weir_op_kind kind, const weir_op_constants* constants) {
    return kind == WEIR_OP_CUSTOM ? constants->custom.name : weir_op_name(kind);
}

uint32_t weir_graph_op_in_place(weir_op_kind kind, const weir_op_constants* constants) {
    return kind == WEIR_OP_CUSTOM ? constants->custom.in_place : op_infos[kind].in_place;
}

// Operations of the caller are told apart by their names.
static bool is_for(const weir_kernel* kernel, weir_op_kind op, const weir_kernel_use* use) {
    return kernel->op == op &&
           (op != WEIR_OP_CUSTOM ||
            (kernel->custom && strcmp(kernel->custom, use->constants->custom.name) == 0));
}

const weir_kernel* weir_target_kernel(const weir_target* target, weir_op_kind op,
                                      const weir_kernel_use* use) {
    for (uint32_t i = 0; i < target->kernel_count; i++) {
        const weir_kernel* kernel = &target->kernels[i];
        if (is_for(kernel, op, use) && kernel->accepts(use)) {
            return kernel;
        }
    }
    return NULL;
}
