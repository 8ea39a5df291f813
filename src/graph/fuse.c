#include "graph/fuse.h"

#include <string.h>

#define NO_OP UINT32_MAX

// What the rewrites look at: for each operation whether it was taken and where it will run, for
// each value who makes it and how often it is read.
typedef struct fuser {
    const weir_allocator* allocator;
    const weir_graph* graph;
    const weir_target* target;
    graph_steps fused;  // in the order they were found
    uint32_t* step_of;  // per operation: the fused step that took it, or NO_OP
    uint32_t* place;    // per operation: the one of the graph at whose turn it runs, itself unless
                        // it was taken
    uint32_t* maker;    // per value: the operation it is the result of, or NO_OP
    uint32_t* readings; // per root: inputs of operations that lie in it
    uint32_t* numbers;  // the memory of the four
} fuser;

// A pattern that was found: the fused operation and the single ones, rising.
typedef struct fusion_match {
    graph_op op;
    uint32_t sources[FUSED_OPS];
    uint32_t source_count;
    bool writes_last; // it writes a state, at the place of the last and nowhere else
} fusion_match;

typedef bool (*match_fn)(const fuser* f, uint32_t last, fusion_match* match);

static const graph_op* op_at(const fuser* f, uint32_t index) {
    return &f->graph->ops.items[index];
}

static const weir_value_info* info_of(const fuser* f, weir_value value) {
    return &f->graph->values.items[value].info;
}

// Two values with the same elements in the same bytes.
static bool is_same(const fuser* f, weir_value a, weir_value b) {
    const weir_value_info* x = info_of(f, a);
    const weir_value_info* y = info_of(f, b);
    return a == b ||
           (x->root == y->root && x->rows == y->rows && x->layout.dtype == y->layout.dtype &&
            x->layout.byte_offset == y->layout.byte_offset &&
            weir_shape_equal(&x->layout.shape, &y->layout.shape) &&
            memcmp(x->layout.strides, y->layout.strides, sizeof x->layout.strides) == 0);
}

// The free operation of the wanted kind whose result `value` is, whole; NO_OP if there is none.
static uint32_t find_maker(const fuser* f, weir_value value, weir_op_kind kind) {
    const weir_value root = info_of(f, value)->root;
    const uint32_t made_by = f->maker[root];
    return made_by != NO_OP && op_at(f, made_by)->kind == kind && f->step_of[made_by] == NO_OP &&
                   is_same(f, value, root)
               ? made_by
               : NO_OP;
}

// The same, where nothing else reads the value: a value in between.
static uint32_t find_sole_maker(const fuser* f, weir_value value, weir_op_kind kind) {
    const weir_value root = info_of(f, value)->root;
    return f->readings[root] == 1 && !info_of(f, root)->is_output ? find_maker(f, value, kind)
                                                                  : NO_OP;
}

// The sole maker of an operand of an operation whose two may be swapped, looked for in operand
// `first` first; `*other` is the other operand.
static uint32_t find_swapped(const fuser* f, const graph_op* op, weir_op_kind kind, uint32_t first,
                             weir_value* other) {
    for (uint32_t i = 0; i < 2; i++) {
        const uint32_t slot = i == 0 ? first : 1 - first;
        const uint32_t made_by = find_sole_maker(f, op->inputs[slot], kind);
        if (made_by != NO_OP) {
            *other = op->inputs[1 - slot];
            return made_by;
        }
    }
    return NO_OP;
}

static bool match_gate_up(const fuser* f, uint32_t last, fusion_match* match) {
    const graph_op* gate = op_at(f, last);
    const uint32_t left = find_sole_maker(f, gate->inputs[0], WEIR_OP_MATMUL);
    const uint32_t right = find_sole_maker(f, gate->inputs[1], WEIR_OP_MATMUL);
    if (left == NO_OP || right == NO_OP ||
        !is_same(f, op_at(f, left)->inputs[0], op_at(f, right)->inputs[0])) {
        return false;
    }
    *match = (fusion_match){
        .op = {.kind = WEIR_OP_GATE_UP,
               .inputs = {op_at(f, left)->inputs[0], op_at(f, left)->inputs[1],
                          op_at(f, right)->inputs[1]},
               .input_count = 3,
               .output = gate->output,
               .sum = WEIR_VALUE_NONE},
        .sources = {left < right ? left : right, left < right ? right : left, last},
        .source_count = 3,
    };
    return true;
}

// The right operand first: that is where what is added to a stream stands, as a rule.
static bool match_matmul_add(const fuser* f, uint32_t last, fusion_match* match) {
    const graph_op* add = op_at(f, last);
    weir_value addend = WEIR_VALUE_NONE;
    const uint32_t product = find_swapped(f, add, WEIR_OP_MATMUL, 1, &addend);
    if (product == NO_OP) {
        return false;
    }
    *match = (fusion_match){
        .op = {.kind = WEIR_OP_MATMUL_ADD,
               .inputs = {op_at(f, product)->inputs[0], op_at(f, product)->inputs[1], addend},
               .input_count = 3,
               .output = add->output,
               .sum = WEIR_VALUE_NONE},
        .sources = {product, last},
        .source_count = 2,
    };
    return true;
}

static bool match_rms_norm_mul(const fuser* f, uint32_t last, fusion_match* match) {
    const graph_op* mul = op_at(f, last);
    weir_value factor = WEIR_VALUE_NONE;
    const uint32_t norm = find_swapped(f, mul, WEIR_OP_RMS_NORM, 0, &factor);
    if (norm == NO_OP) {
        return false;
    }
    *match = (fusion_match){
        .op = {.kind = WEIR_OP_RMS_NORM_MUL,
               .inputs = {op_at(f, norm)->inputs[0], factor},
               .input_count = 2,
               .output = mul->output,
               .sum = WEIR_VALUE_NONE,
               .constants = op_at(f, norm)->constants},
        .sources = {norm, last},
        .source_count = 2,
    };
    return true;
}

// The sum may have other readers: it then is a result of the fused operation too.
static bool match_add_rms_norm_mul(const fuser* f, uint32_t last, fusion_match* match) {
    fusion_match pair;
    if (!match_rms_norm_mul(f, last, &pair)) {
        return false;
    }
    const uint32_t add = find_maker(f, pair.op.inputs[0], WEIR_OP_ADD);
    if (add == NO_OP) {
        return false;
    }
    const weir_value sum = op_at(f, add)->output;
    const bool is_kept = f->readings[sum] > 1 || info_of(f, sum)->is_output;
    *match = (fusion_match){
        .op = {.kind = WEIR_OP_ADD_RMS_NORM_MUL,
               .inputs = {op_at(f, add)->inputs[0], op_at(f, add)->inputs[1], pair.op.inputs[1]},
               .input_count = 3,
               .output = pair.op.output,
               .sum = is_kept ? sum : WEIR_VALUE_NONE,
               .constants = pair.op.constants},
        .sources = {add, pair.sources[0], last},
        .source_count = 3,
    };
    // mul(rms_norm(s), s) reads the sum as its other operand, before it is there.
    return info_of(f, pair.op.inputs[1])->root != sum;
}

static bool reads_output(const fuser* f, const graph_op* op) {
    for (uint32_t i = 0; i < op->input_count; i++) {
        if (info_of(f, op->inputs[i])->root == info_of(f, op->output)->root) {
            return true;
        }
    }
    return false;
}

// Tiles run in any order, so the rows that are turned must not lie in the state that they go to.
static bool match_rope_set_rows(const fuser* f, uint32_t last, fusion_match* match) {
    const graph_op* store = op_at(f, last);
    const uint32_t turn = find_sole_maker(f, store->inputs[0], WEIR_OP_ROPE);
    if (turn == NO_OP) {
        return false;
    }
    *match = (fusion_match){
        .op = *op_at(f, turn), .sources = {turn, last}, .source_count = 2, .writes_last = true};
    match->op.kind = WEIR_OP_ROPE_SET_ROWS;
    match->op.output = store->output;
    match->op.constants.rope_rows = (weir_rope_rows_desc){.rope = op_at(f, turn)->constants.rope,
                                                          .position = store->constants.position};
    return !reads_output(f, &match->op);
}

// The product behind `value`, which is taken in; its x and w become the first inputs.
static uint32_t match_product(const fuser* f, weir_value value, fusion_match* match) {
    const uint32_t product = find_sole_maker(f, value, WEIR_OP_MATMUL);
    if (product != NO_OP) {
        *match = (fusion_match){
            .op = {.inputs = {op_at(f, product)->inputs[0], op_at(f, product)->inputs[1]},
                   .input_count = 2,
                   .sum = WEIR_VALUE_NONE,
                   .constants.projection.position = WEIR_PARAM_NONE},
            .sources = {product},
            .source_count = 1};
    }
    return product;
}

static void add_turn(const fuser* f, uint32_t turn, fusion_match* match) {
    const graph_op* rope = op_at(f, turn);
    match->sources[match->source_count++] = turn;
    match->op.constants.projection.turns = true;
    match->op.constants.projection.rope = rope->constants.rope;
    if (rope->input_count > 1) {
        match->op.inputs[match->op.input_count++] = rope->inputs[1];
    }
}

static bool match_matmul_rope(const fuser* f, uint32_t last, fusion_match* match) {
    if (match_product(f, op_at(f, last)->inputs[0], match) == NO_OP) {
        return false;
    }
    add_turn(f, last, match);
    match->op.kind = WEIR_OP_MATMUL_ROPE;
    match->op.output = op_at(f, last)->output;
    return true;
}

// As in rope_set_rows, what is read must not lie in the state.
static bool match_matmul_set_rows(const fuser* f, uint32_t last, fusion_match* match) {
    const graph_op* store = op_at(f, last);
    const uint32_t turn = find_sole_maker(f, store->inputs[0], WEIR_OP_ROPE);
    const weir_value rows = turn == NO_OP ? store->inputs[0] : op_at(f, turn)->inputs[0];
    if (match_product(f, rows, match) == NO_OP) {
        return false;
    }
    if (turn != NO_OP) {
        add_turn(f, turn, match);
    }
    match->sources[match->source_count++] = last;
    match->writes_last = true;
    match->op.kind = WEIR_OP_MATMUL_SET_ROWS;
    match->op.output = store->output;
    match->op.constants.projection.position = store->constants.position;
    return !reads_output(f, &match->op);
}

typedef struct fusion_rule {
    weir_op_kind last; // of the pattern, by which it is found
    weir_op_kind made;
    match_fn match;
} fusion_rule;

static const fusion_rule rules[WEIR_FUSION_COUNT] = {
    [WEIR_FUSION_GATE_UP] = {WEIR_OP_SILU_GATE, WEIR_OP_GATE_UP, match_gate_up},
    [WEIR_FUSION_MATMUL_ADD] = {WEIR_OP_ADD, WEIR_OP_MATMUL_ADD, match_matmul_add},
    [WEIR_FUSION_ADD_RMS_NORM_MUL] = {WEIR_OP_MUL, WEIR_OP_ADD_RMS_NORM_MUL,
                                      match_add_rms_norm_mul},
    [WEIR_FUSION_RMS_NORM_MUL] = {WEIR_OP_MUL, WEIR_OP_RMS_NORM_MUL, match_rms_norm_mul},
    [WEIR_FUSION_ROPE_SET_ROWS] = {WEIR_OP_SET_ROWS, WEIR_OP_ROPE_SET_ROWS, match_rope_set_rows},
    [WEIR_FUSION_MATMUL_SET_ROWS] = {WEIR_OP_SET_ROWS, WEIR_OP_MATMUL_SET_ROWS,
                                     match_matmul_set_rows},
    [WEIR_FUSION_MATMUL_ROPE] = {WEIR_OP_ROPE, WEIR_OP_MATMUL_ROPE, match_matmul_rope},
    [WEIR_FUSION_RMS_NORM_MATMUL] = {WEIR_OP_COUNT, WEIR_OP_RMS_NORM_MATMUL, NULL}, // of steps
    [WEIR_FUSION_RMS_NORM_GATE_UP] = {WEIR_OP_COUNT, WEIR_OP_RMS_NORM_GATE_UP, NULL},
};

// The first that wants an operation takes it. Which waits go is the same for matmul_add and
// add_rms_norm_mul, but the tiles of a product share its sum among all threads.
static const weir_fusion priority[] = {
    WEIR_FUSION_GATE_UP,       WEIR_FUSION_MATMUL_ADD,      WEIR_FUSION_ADD_RMS_NORM_MUL,
    WEIR_FUSION_RMS_NORM_MUL,  WEIR_FUSION_MATMUL_SET_ROWS, WEIR_FUSION_MATMUL_ROPE,
    WEIR_FUSION_ROPE_SET_ROWS,
};

weir_op_kind weir_fusion_op(weir_fusion fusion) {
    return (uint32_t)fusion < WEIR_FUSION_COUNT ? rules[fusion].made : WEIR_OP_COUNT;
}

static bool is_source(const fusion_match* match, uint32_t op) {
    for (uint32_t i = 0; i < match->source_count; i++) {
        if (match->sources[i] == op) {
            return true;
        }
    }
    return false;
}

// Whether an operation between two places writes to the state that `value` lies in.
static bool is_written_between(const fuser* f, weir_value value, uint32_t a, uint32_t b) {
    const weir_value root = info_of(f, value)->root;
    const uint32_t end = a < b ? b : a;
    if (info_of(f, root)->kind != WEIR_VALUE_STATE) {
        return false;
    }
    for (uint32_t i = (a < b ? a : b) + 1; i < end; i++) {
        const graph_op* op = op_at(f, i); // those that write states are never moved
        if (weir_graph_op_info(op->kind)->writes_state && info_of(f, op->output)->root == root) {
            return true;
        }
    }
    return false;
}

// Whether all that the pattern reads is the same when it is read at `place`.
static bool can_read_at(const fuser* f, const fusion_match* match, uint32_t place) {
    for (uint32_t s = 0; s < match->source_count; s++) {
        const graph_op* op = op_at(f, match->sources[s]);
        for (uint32_t i = 0; i < op->input_count; i++) {
            const uint32_t made_by = f->maker[info_of(f, op->inputs[i])->root];
            if (is_written_between(f, op->inputs[i], match->sources[s], place) ||
                (made_by != NO_OP && !is_source(match, made_by) && f->place[made_by] >= place)) {
                return false;
            }
        }
    }
    return true;
}

// Whether everything else that reads the sum comes after `place`.
static bool can_write_at(const fuser* f, const fusion_match* match, uint32_t place) {
    const weir_value sum = match->op.sum;
    uint32_t left = sum == WEIR_VALUE_NONE ? 0 : f->readings[sum];
    for (uint32_t i = match->sources[0] + 1; left > 0; i++) {
        const graph_op* op = op_at(f, i);
        for (uint32_t k = 0; k < op->input_count; k++) {
            const bool reads = info_of(f, op->inputs[k])->root == sum;
            if (reads && !is_source(match, i) && f->place[i] <= place) {
                return false;
            }
            left -= reads ? 1 : 0;
        }
    }
    return true;
}

// The place of one of the single operations where the fused one means the same, the last that does;
// NO_OP if there is none.
static uint32_t find_place(const fuser* f, const fusion_match* match) {
    for (uint32_t i = match->source_count; i-- > 0;) {
        const uint32_t place = match->sources[i];
        if (can_read_at(f, match, place) && can_write_at(f, match, place)) {
            return place;
        }
        if (match->writes_last) {
            break;
        }
    }
    return NO_OP;
}

bool weir_graph_has_kernel(const weir_graph* graph, const weir_target* target, const graph_op* op) {
    const graph_value* values = graph->values.items;
    weir_view views[GRAPH_OP_INPUTS + 2];
    uint32_t count = 0;
    for (uint32_t i = 0; i < op->input_count; i++) {
        views[count++] = values[op->inputs[i]].info.layout;
    }
    if (op->sum != WEIR_VALUE_NONE) {
        views[count++] = values[op->sum].info.layout;
    }
    views[count++] = values[op->output].info.layout;
    const weir_kernel_use use = {
        .operands = views, .operand_count = count, .constants = &op->constants};
    return weir_target_kernel(target, op->kind, &use) != NULL;
}

static weir_status fuse_at(fuser* f, weir_fusion fusion, uint32_t last) {
    const fusion_rule* rule = &rules[fusion];
    fusion_match match;
    if (op_at(f, last)->kind != rule->last || f->step_of[last] != NO_OP ||
        !rule->match(f, last, &match)) {
        return WEIR_OK;
    }
    const uint32_t place = find_place(f, &match);
    if (place == NO_OP || !weir_graph_has_kernel(f->graph, f->target, &match.op)) {
        return WEIR_OK;
    }
    graph_steps* steps = &f->fused;
    WEIR_TRY(array_reserve(f->allocator, steps, steps->count + 1));
    graph_step* step = &steps->items[steps->count];
    *step = (graph_step){.op = match.op, .source_count = match.source_count};
    for (uint32_t i = match.op.input_count; i < GRAPH_OP_INPUTS; i++) {
        step->op.inputs[i] = WEIR_VALUE_NONE;
    }
    for (uint32_t i = 0; i < match.source_count; i++) {
        step->sources[i] = match.sources[i];
        f->step_of[match.sources[i]] = (uint32_t)steps->count;
        f->place[match.sources[i]] = place;
    }
    steps->count++;
    steps->fusions[fusion]++;
    return WEIR_OK;
}

static size_t count_numbers(const weir_graph* graph) {
    return 2 * (graph->ops.count + graph->values.count);
}

static weir_status look(fuser* f) {
    const size_t op_count = f->graph->ops.count;
    const size_t value_count = f->graph->values.count;
    void* memory = NULL;
    WEIR_TRY(weir_alloc(f->allocator, count_numbers(f->graph) * sizeof(uint32_t),
                        _Alignof(uint32_t), &memory));
    f->numbers = memory;
    f->step_of = f->numbers;
    f->maker = f->step_of + op_count;
    f->place = f->maker + value_count;
    f->readings = f->place + op_count;
    memset(f->step_of, 0xFF, (op_count + value_count) * sizeof(uint32_t)); // NO_OP, makers too
    memset(f->readings, 0, value_count * sizeof(uint32_t));
    for (uint32_t i = 0; i < op_count; i++) {
        const graph_op* op = op_at(f, i);
        f->place[i] = i;
        if (!weir_graph_op_info(op->kind)->writes_state) {
            f->maker[op->output] = i;
        }
        for (uint32_t k = 0; k < op->input_count; k++) {
            f->readings[info_of(f, op->inputs[k])->root]++;
        }
    }
    return WEIR_OK;
}

// Lists the fused steps at their places, between the operations that were not taken.
static void list_steps(const fuser* f, graph_steps* steps) {
    for (uint32_t i = 0; i < f->graph->ops.count; i++) {
        graph_step* step = &steps->items[steps->count];
        if (f->step_of[i] == NO_OP) {
            *step = (graph_step){.op = *op_at(f, i), .sources = {i}, .source_count = 1};
            steps->count++;
        } else if (f->place[i] == i) {
            *step = f->fused.items[f->step_of[i]];
            steps->count++;
        }
    }
    memcpy(steps->fusions, f->fused.fusions, sizeof steps->fusions);
}

static weir_status fuse_all(fuser* f, uint32_t without) {
    for (size_t rule = 0; rule < sizeof priority / sizeof *priority; rule++) {
        const weir_fusion fusion = priority[rule];
        for (uint32_t i = 0; i < f->graph->ops.count && (without >> fusion & 1) == 0; i++) {
            WEIR_TRY(fuse_at(f, fusion, i));
        }
    }
    return WEIR_OK;
}

weir_status weir_graph_fuse(const weir_allocator* allocator, const weir_graph* graph,
                            const weir_target* target, uint32_t without, graph_steps* steps) {
    fuser f = {.allocator = allocator, .graph = graph, .target = target};
    *steps = (graph_steps){0};
    WEIR_TRY(array_reserve(allocator, steps, graph->ops.count));
    weir_status status = look(&f);
    if (status == WEIR_OK) {
        status = fuse_all(&f, without);
    }
    if (status == WEIR_OK) {
        list_steps(&f, steps);
        status = weir_graph_fuse_norms(allocator, graph, target, without, steps);
    }
    array_free(allocator, &f.fused);
    weir_free(allocator, f.numbers, count_numbers(graph) * sizeof(uint32_t), _Alignof(uint32_t));
    return status;
}
