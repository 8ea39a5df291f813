// The norm of a few rows within the products that read it: every one of them normalises for itself,
// which costs less than to wait for another dispatch. It is the only rewrite that takes one
// operation into several, so it is made of whole steps, behind all others.
#include "graph/fuse.h"

typedef struct norm_fuser {
    const weir_graph* graph;
    const weir_target* target;
    uint32_t without;
    graph_steps* steps;
    uint32_t* readings; // per root: inputs of steps that lie in it
} norm_fuser;

static const weir_value_info* info_of(const norm_fuser* f, weir_value value) {
    return &f->graph->values.items[value].info;
}

// The operation that a product becomes, WEIR_OP_COUNT for anything else.
static weir_op_kind joined_kind(weir_op_kind reader) {
    switch ((int)reader) {
    case WEIR_OP_MATMUL:
        return WEIR_OP_RMS_NORM_MATMUL;
    case WEIR_OP_GATE_UP:
        return WEIR_OP_RMS_NORM_GATE_UP;
    case WEIR_OP_MATMUL_SET_ROWS:
    case WEIR_OP_MATMUL_ROPE:
        return reader;
    default:
        return WEIR_OP_COUNT;
    }
}

static weir_fusion rewrite_of(weir_op_kind reader) {
    return reader == WEIR_OP_GATE_UP ? WEIR_FUSION_RMS_NORM_GATE_UP : WEIR_FUSION_RMS_NORM_MATMUL;
}

// The operations that a step stands for, with those of the norm, rising.
static void merge_sources(const graph_step* norm, const graph_step* reader, graph_step* made) {
    uint32_t n = 0;
    uint32_t r = 0;
    made->source_count = 0;
    while (n < norm->source_count || r < reader->source_count) {
        const bool of_norm = r == reader->source_count ||
                             (n < norm->source_count && norm->sources[n] < reader->sources[r]);
        made->sources[made->source_count++] = of_norm ? norm->sources[n++] : reader->sources[r++];
    }
}

// The step of a product that has taken in a norm: x of the norm instead of its own rows, and the
// factors of the norm behind its weights.
static graph_step join(const graph_step* norm, const graph_step* reader) {
    const uint32_t weights = reader->op.kind == WEIR_OP_GATE_UP ? 2 : 1;
    graph_step made = *reader;
    graph_op* op = &made.op;
    op->kind = joined_kind(reader->op.kind);
    op->inputs[0] = norm->op.inputs[0];
    for (uint32_t i = op->input_count; i > 1 + weights; i--) {
        op->inputs[i] = op->inputs[i - 1];
    }
    op->inputs[1 + weights] = norm->op.inputs[1];
    op->input_count++;
    if (op->kind == reader->op.kind) {
        op->constants.projection.normalises = true;
        op->constants.projection.epsilon = norm->op.constants.epsilon;
    } else {
        op->constants.epsilon = norm->op.constants.epsilon;
    }
    merge_sources(norm, reader, &made);
    return made;
}

// How many inputs of a step lie in `root`.
static uint32_t count_readings(const norm_fuser* f, const graph_step* step, weir_value root) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < step->op.input_count; i++) {
        count += info_of(f, step->op.inputs[i])->root == root ? 1 : 0;
    }
    return count;
}

// Whether a step writes to a state that the norm reads, which then cannot be read behind it.
static bool spoils(const norm_fuser* f, const graph_step* step, const graph_step* norm) {
    return weir_graph_op_info(step->op.kind)->writes_state &&
           count_readings(f, norm, info_of(f, step->op.output)->root) > 0;
}

static bool can_join(const norm_fuser* f, const graph_step* norm, const graph_step* reader) {
    if (joined_kind(reader->op.kind) == WEIR_OP_COUNT ||
        (f->without >> rewrite_of(reader->op.kind) & 1) != 0 ||
        reader->op.inputs[0] != norm->op.output ||
        count_readings(f, reader, norm->op.output) != 1 || spoils(f, reader, norm)) {
        return false;
    }
    const graph_step made = join(norm, reader);
    return weir_graph_has_kernel(f->graph, f->target, &made.op);
}

// Whether every reader of a norm can take it in; `*last` is the last of them.
static bool all_can_join(const norm_fuser* f, uint32_t at, uint32_t* last) {
    const graph_step* norm = &f->steps->items[at];
    const weir_value made = norm->op.output;
    bool same = true; // what the norm reads is as it was
    *last = at;
    for (uint32_t left = f->readings[made]; left > 0;) {
        const graph_step* step = &f->steps->items[++*last];
        const uint32_t readings = count_readings(f, step, made);
        if (readings > 0 && !(same && can_join(f, norm, step))) {
            return false;
        }
        same = same && !spoils(f, step, norm);
        left -= readings;
    }
    return *last > at;
}

static void join_all(norm_fuser* f, uint32_t at, uint32_t last) {
    graph_step* norm = &f->steps->items[at];
    uint32_t* made = f->steps->fusions;
    for (uint32_t i = at + 1; i <= last; i++) {
        graph_step* step = &f->steps->items[i];
        const weir_op_kind kind = step->op.kind;
        if (count_readings(f, step, norm->op.output) == 0) {
            continue;
        }
        *step = join(norm, step);
        made[WEIR_FUSION_GATE_UP] -= kind == WEIR_OP_GATE_UP ? 1 : 0;
        made[rewrite_of(kind)] += kind != step->op.kind ? 1 : 0;
    }
    made[WEIR_FUSION_RMS_NORM_MUL]--;
    norm->source_count = 0; // it goes
}

static void drop_taken(graph_steps* steps) {
    size_t count = 0;
    for (size_t i = 0; i < steps->count; i++) {
        if (steps->items[i].source_count > 0) {
            steps->items[count++] = steps->items[i];
        }
    }
    steps->count = count;
}

static void join_norms(norm_fuser* f) {
    for (uint32_t i = 0; i < f->steps->count; i++) {
        for (uint32_t k = 0; k < f->steps->items[i].op.input_count; k++) {
            f->readings[info_of(f, f->steps->items[i].op.inputs[k])->root]++;
        }
    }
    for (uint32_t i = 0; i < f->steps->count; i++) {
        const graph_op* op = &f->steps->items[i].op;
        uint32_t last = 0;
        if (op->kind == WEIR_OP_RMS_NORM_MUL && !info_of(f, op->output)->is_output &&
            all_can_join(f, i, &last)) {
            join_all(f, i, last);
        }
    }
    drop_taken(f->steps);
}

weir_status weir_graph_fuse_norms(const weir_allocator* allocator, const weir_graph* graph,
                                  const weir_target* target, uint32_t without, graph_steps* steps) {
    norm_fuser f = {.graph = graph, .target = target, .without = without, .steps = steps};
    const size_t byte_size = graph->values.count * sizeof *f.readings;
    void* memory = NULL;
    WEIR_TRY(weir_alloc_zeroed(allocator, byte_size, &memory));
    f.readings = memory;
    join_norms(&f);
    weir_free(allocator, memory, byte_size, _Alignof(max_align_t));
    return WEIR_OK;
}
