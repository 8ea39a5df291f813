// Fusion: operations of a graph that one kernel computes together, without the values in between.
//
// A rewrite replaces a pattern of operations by one. It is made only where
// - each value in between is read by that pattern alone and is no output of the graph, and is read
//   whole, with the extents it was made with;
// - no other operation comes to see or to change anything in between: every operand is made before
//   the place of the fused operation, every result is read after it, and no state that an operand
//   lies in is written on the way;
// - the target has a kernel that accepts the operands.
//
// Where two patterns want the same operation, the one that stands first below takes it. The result
// need not have the same bits as that of the single operations.
//
//     pattern                                        becomes
//     silu_gate(matmul(x, w), matmul(x, v))          gate_up(x, w, v)
//     add(matmul(x, w), c), add(c, matmul(x, w))     matmul_add(x, w, c)
//     mul(rms_norm(s = add(a, b)), w)                add_rms_norm_mul(a, b, w), which writes s too
//                                                    where anything else reads it
//     mul(rms_norm(x), w)                            rms_norm_mul(x, w)
//     set_rows(rope(matmul(x, w)), state)            matmul_set_rows(x, w), into the state
//     set_rows(matmul(x, w), state)                  the same, without a rotation
//     rope(matmul(x, w))                             matmul_rope(x, w)
//     set_rows(rope(x), state)                       rope_set_rows(x), into the state
//     matmul(rms_norm_mul(x, f), w)                  rms_norm_matmul(x, w, f)
//     gate_up(rms_norm_mul(x, f), w, v)              rms_norm_gate_up(x, w, v, f)
//
// The last two take a norm into every product that reads it. They are made only where all of its
// readers are such products, so that nothing waits for the norm any more; matmul_set_rows and
// matmul_rope take norms in as well, and keep their names.
#ifndef WEIR_FUSION_H
#define WEIR_FUSION_H

#include <weir/graph.h>

WEIR_C_BEGIN

typedef enum weir_fusion {
    WEIR_FUSION_GATE_UP = 0,
    WEIR_FUSION_MATMUL_ADD = 1,
    WEIR_FUSION_ADD_RMS_NORM_MUL = 2,
    WEIR_FUSION_RMS_NORM_MUL = 3,
    WEIR_FUSION_ROPE_SET_ROWS = 4,
    WEIR_FUSION_MATMUL_SET_ROWS = 5,
    WEIR_FUSION_MATMUL_ROPE = 6,
    WEIR_FUSION_RMS_NORM_MATMUL = 7,
    WEIR_FUSION_RMS_NORM_GATE_UP = 8,
    WEIR_FUSION_COUNT
} weir_fusion;

// Masks of weir_schedule_options.
#define WEIR_FUSION_BIT(fusion) (1u << (fusion))
#define WEIR_FUSION_ALL (WEIR_FUSION_BIT(WEIR_FUSION_COUNT) - 1u)

// Returns the operation that a rewrite makes; WEIR_OP_COUNT outside the enumeration.
//
// Threads: thread-safe.
WEIR_API weir_op_kind weir_fusion_op(weir_fusion fusion);

WEIR_C_END

#endif
