#include "schedule/schedule.h"

#include <stdio.h>
#include <string.h>

static uint64_t min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

// Names are stored as offsets first: the pool moves while it grows.
static weir_status add_name(weir_schedule* schedule, const char* name, size_t* offset) {
    const size_t length = strlen(name) + 1;
    WEIR_TRY(array_reserve(&schedule->allocator, &schedule->names, schedule->names.count + length));
    memcpy(schedule->names.items + schedule->names.count, name, length);
    *offset = schedule->names.count;
    schedule->names.count += length;
    return WEIR_OK;
}

static weir_status copy_values(weir_schedule* schedule, const weir_graph* graph) {
    const size_t count = graph->values.count;
    WEIR_TRY(array_reserve(&schedule->allocator, &schedule->values, count));
    for (size_t i = 0; i < count; i++) {
        size_t offset = 0;
        WEIR_TRY(add_name(schedule, graph->values.items[i].info.name, &offset));
        schedule->values.items[i] = graph->values.items[i].info;
        schedule->values.items[i].name = (const char*)(uintptr_t)offset;
        schedule->values.count++;
    }
    schedule->graph_value_count = (weir_value)count;
    return WEIR_OK;
}

static weir_status copy_params(weir_schedule* schedule, const weir_graph* graph) {
    const size_t count = graph->params.count;
    WEIR_TRY(array_reserve(&schedule->allocator, &schedule->params, count));
    for (size_t i = 0; i < count; i++) {
        size_t offset = 0;
        WEIR_TRY(add_name(schedule, graph->params.items[i].info.name, &offset));
        schedule->params.items[i] = graph->params.items[i].info;
        schedule->params.items[i].name = (const char*)(uintptr_t)offset;
        schedule->params.count++;
    }
    return WEIR_OK;
}

// Turns the offsets that names were stored as into addresses, once the pool is complete.
static void resolve_names(weir_schedule* schedule) {
    const char* pool = schedule->names.items;
    for (size_t i = 0; i < schedule->values.count; i++) {
        schedule->values.items[i].name = pool + (uintptr_t)schedule->values.items[i].name;
    }
    for (size_t i = 0; i < schedule->params.count; i++) {
        schedule->params.items[i].name = pool + (uintptr_t)schedule->params.items[i].name;
    }
    for (size_t i = 0; i < schedule->dispatches.count; i++) {
        schedule->dispatches.items[i].name = pool + (uintptr_t)schedule->dispatches.items[i].name;
    }
    for (size_t i = 0; i < schedule->sources.count; i++) {
        schedule->sources.items[i].name = pool + (uintptr_t)schedule->sources.items[i].name;
    }
}

static weir_param stored_position(const graph_op* op) {
    return op->kind == WEIR_OP_ROPE_SET_ROWS     ? op->constants.rope_rows.position
           : op->kind == WEIR_OP_MATMUL_SET_ROWS ? op->constants.projection.position
                                                 : op->constants.position;
}

// Whether an input is a cache of which a row sees the keys up to its own.
static bool sees_cache(weir_op_kind op, uint32_t index) {
    const bool part = op == WEIR_OP_ATTENTION_SCORES || op == WEIR_OP_ATTENTION_SUM;
    return (op == WEIR_OP_ATTENTION && (index == 1 || index == 2)) || (part && index == 1);
}

// Rows of a cache that an operation can touch under any position within its bounds: all that it
// writes (from the lowest position), or all that it sees (from 0).
static void limit_rows(const weir_schedule* schedule, const graph_op* op, uint32_t index,
                       schedule_operand* operands) {
    schedule_operand* operand = &operands[index];
    const bool writes =
        weir_graph_op_info(op->kind)->writes_state && operand->kind == WEIR_ACCESS_WRITE;
    const bool sees = sees_cache(op->kind, index);
    if (!writes && !sees) {
        return;
    }
    const weir_param position = writes ? stored_position(op) : op->constants.attention.position;
    const weir_param_info* bounds = &schedule->params.items[position];
    const weir_view* rows = &schedule->values.items[op->inputs[0]].layout;
    weir_view* layout = &operand->layout;
    const uint64_t cache_rows = (uint64_t)layout->shape.dims[0];
    const uint64_t begin = writes ? min_u64(bounds->lower, cache_rows) : 0;
    const uint64_t wanted =
        bounds->upper < cache_rows ? bounds->upper + (uint64_t)rows->shape.dims[0] : cache_rows;
    weir_view touched = *layout;
    touched.byte_offset += begin * (uint64_t)layout->strides[0];
    touched.shape.dims[0] = (int64_t)(min_u64(wanted, cache_rows) - begin);
    bool widened = false;
    operand->extent = weir_range_from_view(&touched, operand->extent.memory_id, 0, &widened);
    operand->touched.fixed = operands[0].touched.fixed;
    operand->touched.params[0] = operands[0].touched.params[0];
    operand->touched.params[1] = sees ? position : WEIR_PARAM_NONE;
    operand->touched.first = writes ? position : WEIR_PARAM_NONE;
}

static schedule_rows count_rows(const weir_value_info* info) {
    const bool scalar = info->layout.shape.rank == 0;
    const uint64_t rows = scalar ? 1 : (uint64_t)info->layout.shape.dims[0];
    return (schedule_rows){
        .row_bytes = rows > 0 ? weir_view_byte_length(&info->layout) / rows : 0,
        .fixed = info->rows == WEIR_PARAM_NONE ? rows : 0,
        .params = {info->rows, WEIR_PARAM_NONE},
        .first = WEIR_PARAM_NONE,
    };
}

static schedule_operand make_operand(weir_schedule* schedule, weir_value value,
                                     weir_access_kind kind) {
    const weir_value_info* info = &schedule->values.items[value];
    bool widened = false;
    const schedule_operand operand = {
        .value = value,
        .root = info->root,
        .rows = info->rows,
        .kind = kind,
        .layout = info->layout,
        .extent = weir_range_from_view(&info->layout, (uint64_t)info->root + 1, 0, &widened),
        .touched = count_rows(info),
    };
    schedule->report.widened_ranges += widened ? 1 : 0;
    return operand;
}

static weir_status no_kernel(const weir_schedule* schedule, const graph_op* op,
                             const weir_view* views, uint32_t count) {
    char operands[512] = "";
    for (uint32_t i = 0; i < count; i++) {
        char shape[128];
        const size_t used = strlen(operands);
        snprintf(operands + used, sizeof operands - used, "%s%s %s", i == 0 ? "" : ", ",
                 weir_dtype_describe(views[i].dtype)->name,
                 weir_shape_format(&views[i].shape, shape, sizeof shape));
    }
    return WEIR_FAIL(WEIR_UNSUPPORTED, "target %s has no kernel for %s of %s",
                     schedule->target.name, weir_graph_op_label(op->kind, &op->constants),
                     operands);
}

// Scratch is a value of its own that lives for one dispatch: planning places it like any other.
static weir_status add_scratch(weir_schedule* schedule, uint64_t byte_size, weir_value* scratch) {
    size_t name = 0;
    WEIR_TRY(add_name(schedule, "scratch", &name));
    const weir_shape shape = weir_shape_make(1, (int64_t[]){(int64_t)byte_size});
    weir_value_info info = {.name = (const char*)(uintptr_t)name,
                            .kind = WEIR_VALUE_RESULT,
                            .root = (weir_value)schedule->values.count,
                            .rows = WEIR_PARAM_NONE};
    WEIR_TRY(weir_view_layout(WEIR_DTYPE_U8, &shape, &info.layout));
    WEIR_TRY(array_reserve(&schedule->allocator, &schedule->values, schedule->values.count + 1));
    *scratch = info.root;
    schedule->values.items[schedule->values.count++] = info;
    schedule->report.scratch_bytes += byte_size;
    return WEIR_OK;
}

// "matmul blk.0.q": the operations and the first name among the output and the weights.
static weir_status name_op(weir_schedule* schedule, const char* prefix, const graph_op* op,
                           size_t* name) {
    const char* pool = schedule->names.items;
    const char* subject = pool + (uintptr_t)schedule->values.items[op->output].name;
    for (uint32_t i = op->input_count; i > 0 && subject[0] == '\0'; i--) {
        subject = pool + (uintptr_t)schedule->values.items[op->inputs[i - 1]].name;
    }
    char text[256];
    snprintf(text, sizeof text, "%s%s%s", prefix, subject[0] ? " " : "", subject);
    return add_name(schedule, text, name);
}

// Names the dispatch of a step, "rms_norm + mul blk.0.attn_in", and what it stands for.
static weir_status name_step(weir_schedule* schedule, const weir_graph* graph,
                             const graph_step* step, size_t* name) {
    char all[96] = "";
    WEIR_TRY(array_reserve(&schedule->allocator, &schedule->sources,
                           schedule->sources.count + step->source_count));
    for (uint32_t i = 0; i < step->source_count; i++) {
        const graph_op* op = &graph->ops.items[step->sources[i]];
        const size_t used = strlen(all);
        const char* label = weir_graph_op_label(op->kind, &op->constants);
        snprintf(all + used, sizeof all - used, "%s%s", i > 0 ? " + " : "", label);
        size_t source = 0;
        WEIR_TRY(name_op(schedule, label, op, &source));
        schedule->sources.items[schedule->sources.count++] =
            (weir_source_op){.op = op->kind, .name = (const char*)(uintptr_t)source};
        *name = source;
    }
    return step->source_count > 1 ? name_op(schedule, all, &step->op, name) : WEIR_OK;
}

// A kernel that takes an operand in runs of rows binds no more than one of those.
static weir_status check_bindings(const weir_schedule* schedule, const graph_op* op,
                                  const weir_kernel* kernel, const schedule_operand* operands,
                                  uint32_t count) {
    const uint64_t limit = schedule->target.binding_bytes_max;
    for (uint32_t i = 0; limit > 0 && i < count; i++) {
        const uint64_t byte_span = weir_view_byte_span(&operands[i].layout);
        if (byte_span > limit && (kernel->by_rows >> i & 1) == 0) {
            return WEIR_FAIL(
                WEIR_UNSUPPORTED, "%s: operand %u spans %llu bytes, target %s binds at most %llu",
                weir_graph_op_label(op->kind, &op->constants), i, (unsigned long long)byte_span,
                schedule->target.name, (unsigned long long)limit);
        }
    }
    return WEIR_OK;
}

static weir_status lower_step(weir_schedule* schedule, const weir_graph* graph,
                              const graph_step* step) {
    const graph_op* op = &step->op;
    schedule_operand operands[SCHEDULE_OPERANDS_MAX];
    weir_view views[SCHEDULE_OPERANDS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < op->input_count; i++) {
        operands[count++] = make_operand(schedule, op->inputs[i], WEIR_ACCESS_READ);
    }
    if (op->sum != WEIR_VALUE_NONE) {
        operands[count++] = make_operand(schedule, op->sum, WEIR_ACCESS_WRITE);
    }
    operands[count++] = make_operand(schedule, op->output, WEIR_ACCESS_WRITE);
    for (uint32_t i = 0; i < count; i++) {
        views[i] = operands[i].layout;
        limit_rows(schedule, op, i, operands);
    }
    const weir_kernel_use use = {
        .operands = views, .operand_count = count, .constants = &op->constants};
    const weir_kernel* kernel = weir_target_kernel(&schedule->target, op->kind, &use);
    if (!kernel) {
        return no_kernel(schedule, op, views, count);
    }
    WEIR_TRY(check_bindings(schedule, op, kernel, operands, count));
    const uint64_t scratch_bytes = kernel->scratch_bytes(&use);
    if (scratch_bytes > 0) {
        weir_value scratch = WEIR_VALUE_NONE;
        WEIR_TRY(add_scratch(schedule, scratch_bytes, &scratch));
        operands[count++] = make_operand(schedule, scratch, WEIR_ACCESS_READ_WRITE);
    }
    size_t name = 0;
    WEIR_TRY(name_step(schedule, graph, step, &name));
    WEIR_TRY(
        array_reserve(&schedule->allocator, &schedule->operands, schedule->operands.count + count));
    WEIR_TRY(
        array_reserve(&schedule->allocator, &schedule->dispatches, schedule->dispatches.count + 1));
    memcpy(schedule->operands.items + schedule->operands.count, operands,
           count * sizeof operands[0]);
    schedule->dispatches.items[schedule->dispatches.count] = (schedule_dispatch){
        .name = (const char*)(uintptr_t)name,
        .op = op->kind,
        .kernel = kernel,
        .constants = op->constants,
        .operand_begin = (uint32_t)schedule->operands.count,
        .operand_count = count,
        .source_begin = (uint32_t)schedule->sources.count - step->source_count,
        .source_count = step->source_count,
        .given = (uint32_t)schedule->dispatches.count,
    };
    schedule->dispatches.count++;
    schedule->operands.count += count;
    return WEIR_OK;
}

static bool is_first_mention(const weir_schedule* schedule, const schedule_dispatch* dispatch,
                             uint32_t operand) {
    const schedule_operand* operands = schedule->operands.items + dispatch->operand_begin;
    for (uint32_t i = 0; i < operand; i++) {
        if (operands[i].root == operands[operand].root) {
            return false;
        }
    }
    return true;
}

// Calls for each (root value, dispatch) once: first to count into begins[root + 1], then to fill.
static void visit_uses(weir_schedule* schedule, bool fill) {
    schedule_uses* uses = &schedule->uses;
    for (uint32_t d = 0; d < schedule->dispatches.count; d++) {
        const schedule_dispatch* dispatch = &schedule->dispatches.items[d];
        for (uint32_t i = 0; i < dispatch->operand_count; i++) {
            if (!is_first_mention(schedule, dispatch, i)) {
                continue;
            }
            const weir_value root = schedule->operands.items[dispatch->operand_begin + i].root;
            if (fill) {
                uses->items[uses->begins[root]++] = d;
            } else {
                uses->begins[root + 1]++;
            }
        }
    }
}

weir_status weir_schedule_find_uses(weir_schedule* schedule) {
    const size_t values = schedule->values.count;
    schedule_uses* uses = &schedule->uses;
    if (!uses->begins) {
        WEIR_TRY(weir_alloc(&schedule->allocator, (values + 1) * sizeof(uint32_t),
                            _Alignof(max_align_t), (void**)&uses->begins));
    }
    memset(uses->begins, 0, (values + 1) * sizeof(uint32_t));
    WEIR_TRY(array_reserve(&schedule->allocator, uses, schedule->operands.count));
    visit_uses(schedule, false);
    for (size_t v = 0; v < values; v++) {
        uses->begins[v + 1] += uses->begins[v];
    }
    uses->count = uses->begins[values];
    visit_uses(schedule, true);
    memmove(uses->begins + 1, uses->begins, values * sizeof(uint32_t)); // filling moved them on
    uses->begins[0] = 0;
    return WEIR_OK;
}

// What lowering appends to is large: it is taken at once rather than grown.
static weir_status reserve_dispatches(weir_schedule* schedule, const graph_steps* steps) {
    size_t operands = 0;
    for (size_t i = 0; i < steps->count; i++) {
        operands += steps->items[i].op.input_count + 3;
    }
    WEIR_TRY(array_reserve(&schedule->allocator, &schedule->dispatches, steps->count));
    return array_reserve(&schedule->allocator, &schedule->operands, operands);
}

static weir_status lower_steps(weir_schedule* schedule, const weir_graph* graph,
                               const graph_steps* steps) {
    WEIR_TRY(copy_values(schedule, graph));
    WEIR_TRY(copy_params(schedule, graph));
    WEIR_TRY(reserve_dispatches(schedule, steps));
    for (size_t i = 0; i < steps->count; i++) {
        WEIR_TRY(lower_step(schedule, graph, &steps->items[i]));
    }
    schedule->report.ops = (uint32_t)graph->ops.count;
    memcpy(schedule->report.fusions, steps->fusions, sizeof steps->fusions);
    resolve_names(schedule);
    return weir_schedule_find_uses(schedule);
}

weir_status weir_schedule_lower(weir_schedule* schedule, const weir_graph* graph) {
    if (graph->ops.count == 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "the graph has no operations");
    }
    graph_steps steps;
    weir_status status = weir_graph_fuse(&schedule->allocator, graph, &schedule->target,
                                         schedule->options.without_fusions, &steps);
    if (status == WEIR_OK) {
        status = lower_steps(schedule, graph, &steps);
    }
    array_free(&schedule->allocator, &steps);
    return status;
}
