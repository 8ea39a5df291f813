// What a graph holds: parameters, values and views. Numbers are positions in the arrays and never
// change; nothing is ever removed. The rules of the operations are in graph_ops.c.
#include "graph/graph.h"

#include <string.h>

weir_status weir_graph_create(const weir_allocator* allocator, weir_graph** graph) {
    weir_graph* created = NULL;
    WEIR_TRY(object_new(allocator, &created));
    if (allocator) {
        created->allocator = *allocator;
    }
    *graph = created;
    return WEIR_OK;
}

static void free_name(const weir_graph* graph, char* name) {
    if (name) {
        weir_free(&graph->allocator, name, strlen(name) + 1, 1);
    }
}

void weir_graph_destroy(weir_graph* graph) {
    if (!graph) {
        return;
    }
    for (size_t i = 0; i < graph->values.count; i++) {
        free_name(graph, graph->values.items[i].name);
    }
    for (size_t i = 0; i < graph->params.count; i++) {
        free_name(graph, graph->params.items[i].name);
    }
    array_free(&graph->allocator, &graph->values);
    array_free(&graph->allocator, &graph->ops);
    array_free(&graph->allocator, &graph->params);
    const weir_allocator allocator = graph->allocator;
    object_free(&allocator, graph);
}

// An absent or empty name stays NULL, which infos show as "".
static weir_status copy_name(const weir_graph* graph, const char* name, char** copy) {
    char* made = NULL;
    if (name && name[0] != '\0') {
        const size_t byte_size = strlen(name) + 1;
        void* memory = NULL;
        WEIR_TRY(weir_alloc(&graph->allocator, byte_size, 1, &memory));
        made = memory;
        memcpy(made, name, byte_size);
    }
    *copy = made;
    return WEIR_OK;
}

weir_status weir_graph_param(weir_graph* graph, const char* name, uint64_t lower, uint64_t upper,
                             weir_param* param) {
    if (lower > upper) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "parameter \"%s\": the lower bound %llu is over the upper bound %llu",
                         name ? name : "", (unsigned long long)lower, (unsigned long long)upper);
    }
    WEIR_TRY(array_reserve(&graph->allocator, &graph->params, graph->params.count + 1));
    graph_param added = {.info = {.lower = lower, .upper = upper}};
    WEIR_TRY(copy_name(graph, name, &added.name));
    added.info.name = added.name ? added.name : "";
    *param = (weir_param)graph->params.count;
    graph->params.items[graph->params.count++] = added;
    return WEIR_OK;
}

// Adds a value whose kind, layout and rows are set; the root of a value that is no view is itself.
static weir_status add_value(weir_graph* graph, const char* name, weir_value_info info,
                             weir_value* value) {
    WEIR_TRY(array_reserve(&graph->allocator, &graph->values, graph->values.count + 1));
    graph_value added = {.info = info};
    WEIR_TRY(copy_name(graph, name, &added.name));
    const weir_value made = (weir_value)graph->values.count;
    added.info.name = added.name ? added.name : "";
    if (info.kind != WEIR_VALUE_VIEW) {
        added.info.root = made;
    }
    graph->values.items[graph->values.count++] = added;
    *value = made;
    return WEIR_OK;
}

weir_status weir_graph_check_rows(const weir_graph* graph, const char* kind, const char* name,
                                  const weir_shape* shape, weir_param rows) {
    if (rows == WEIR_PARAM_NONE) {
        return WEIR_OK;
    }
    const weir_param_info* bounds = weir_graph_param_info(graph, rows);
    if (!bounds) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s \"%s\": the graph has no parameter %u", kind,
                         name, rows);
    }
    if (shape->rank == 0 || (uint64_t)shape->dims[0] != bounds->upper) {
        char text[128];
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "%s \"%s\": shape %s; expected the first dimension to be %llu, the "
                         "upper bound of parameter \"%s\"",
                         kind, name, weir_shape_format(shape, text, sizeof text),
                         (unsigned long long)bounds->upper, bounds->name);
    }
    return WEIR_OK;
}

// Inputs, weights and states. Empty ones are refused: they would be values without bytes, which
// neither planning nor binding has a meaning for.
static weir_status add_leaf(weir_graph* graph, weir_value_kind kind, const char* name,
                            weir_dtype dtype, const weir_shape* shape, weir_param rows,
                            weir_value* value) {
    static const char* const kinds[] = {
        [WEIR_VALUE_INPUT] = "input", [WEIR_VALUE_WEIGHT] = "weight", [WEIR_VALUE_STATE] = "state"};
    const char* shown = name ? name : "";
    weir_value_info info = {.kind = kind, .rows = rows};
    const weir_status status = weir_view_layout(dtype, shape, &info.layout);
    if (status != WEIR_OK) {
        return WEIR_FAIL(status, "%s \"%s\": %s", kinds[kind], shown, weir_last_error());
    }
    char text[128];
    if (weir_view_element_count(&info.layout) == 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s \"%s\" has no elements: shape %s", kinds[kind],
                         shown, weir_shape_format(shape, text, sizeof text));
    }
    WEIR_TRY(weir_graph_check_rows(graph, kinds[kind], shown, shape, rows));
    return add_value(graph, name, info, value);
}

weir_status weir_graph_input(weir_graph* graph, const char* name, weir_dtype dtype,
                             const weir_shape* shape, weir_param rows, weir_value* input) {
    return add_leaf(graph, WEIR_VALUE_INPUT, name, dtype, shape, rows, input);
}

weir_status weir_graph_weight(weir_graph* graph, const char* name, weir_dtype dtype,
                              const weir_shape* shape, weir_value* weight) {
    return add_leaf(graph, WEIR_VALUE_WEIGHT, name, dtype, shape, WEIR_PARAM_NONE, weight);
}

weir_status weir_graph_state(weir_graph* graph, const char* name, weir_dtype dtype,
                             const weir_shape* shape, weir_value* state) {
    return add_leaf(graph, WEIR_VALUE_STATE, name, dtype, shape, WEIR_PARAM_NONE, state);
}

static weir_status find_value(const weir_graph* graph, const char* action, weir_value value,
                              const weir_value_info** info) {
    *info = weir_graph_value_info(graph, value);
    if (!*info) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: no value %u; the graph has %u", action, value,
                         weir_graph_value_count(graph));
    }
    return WEIR_OK;
}

weir_status weir_graph_output(weir_graph* graph, weir_value result) {
    const weir_value_info* info = NULL;
    WEIR_TRY(find_value(graph, "output", result, &info));
    if (info->kind != WEIR_VALUE_RESULT) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "output: value %u \"%s\" is not made by an operation; only results are "
                         "read after a pass",
                         result, info->name);
    }
    graph->values.items[result].info.is_output = true;
    return WEIR_OK;
}

// The old name goes only once the new one is there; they may be the same text.
weir_status weir_graph_name(weir_graph* graph, weir_value value, const char* name) {
    const weir_value_info* info = NULL;
    WEIR_TRY(find_value(graph, "name", value, &info));
    char* copy = NULL;
    WEIR_TRY(copy_name(graph, name, &copy));
    graph_value* named = &graph->values.items[value];
    free_name(graph, named->name);
    named->name = copy;
    named->info.name = copy ? copy : "";
    return WEIR_OK;
}

weir_status weir_graph_find(const weir_graph* graph, const char* name, weir_value* value) {
    for (size_t i = 0; i < graph->values.count && name[0] != '\0'; i++) {
        if (strcmp(graph->values.items[i].info.name, name) == 0) {
            *value = (weir_value)i;
            return WEIR_OK;
        }
    }
    return WEIR_FAIL(WEIR_NOT_FOUND, "no value named \"%s\" among the %zu of the graph", name,
                     graph->values.count);
}

// The layout of a view carries its offset within the root, so that a view of a view composes by the
// arithmetic of views alone.
weir_status weir_graph_narrow(weir_graph* graph, weir_value value, uint32_t axis, int64_t start,
                              int64_t length, weir_value* narrow) {
    const weir_value_info* info = NULL;
    WEIR_TRY(find_value(graph, "narrow", value, &info));
    if (info->rows != WEIR_PARAM_NONE && axis == 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "narrow: the first dimension of value %u \"%s\" is parameter \"%s\"",
                         value, info->name, weir_graph_param_info(graph, info->rows)->name);
    }
    weir_value_info made = {.kind = WEIR_VALUE_VIEW, .root = info->root, .rows = info->rows};
    const weir_status status = weir_view_narrow(&info->layout, axis, start, length, &made.layout);
    if (status != WEIR_OK) {
        return WEIR_FAIL(status, "narrow: value %u \"%s\": %s", value, info->name,
                         weir_last_error());
    }
    if (length == 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "narrow: no elements of value %u \"%s\" are left",
                         value, info->name);
    }
    return add_value(graph, NULL, made, narrow);
}

// With the first dimension kept, the elements of one row stay in that row: the shape holds for any
// number of rows.
weir_status weir_graph_reshape(weir_graph* graph, weir_value value, const weir_shape* shape,
                               weir_value* reshaped) {
    const weir_value_info* info = NULL;
    WEIR_TRY(find_value(graph, "reshape", value, &info));
    if (info->rows != WEIR_PARAM_NONE &&
        (shape->rank == 0 || shape->dims[0] != info->layout.shape.dims[0])) {
        char text[128];
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "reshape: the first dimension of value %u \"%s\" is parameter \"%s\" and "
                         "must stay %lld; the shape is %s",
                         value, info->name, weir_graph_param_info(graph, info->rows)->name,
                         (long long)info->layout.shape.dims[0],
                         weir_shape_format(shape, text, sizeof text));
    }
    weir_value_info made = {.kind = WEIR_VALUE_VIEW, .root = info->root, .rows = info->rows};
    const weir_status status = weir_view_reshape(&info->layout, shape, &made.layout);
    if (status != WEIR_OK) {
        return WEIR_FAIL(status, "reshape: value %u \"%s\": %s", value, info->name,
                         weir_last_error());
    }
    return add_value(graph, NULL, made, reshaped);
}

weir_status weir_graph_add_result(weir_graph* graph, const graph_op* op,
                                  const weir_value_info* info, weir_value* result) {
    WEIR_TRY(array_reserve(&graph->allocator, &graph->ops, graph->ops.count + 1));
    graph_op added = *op;
    added.sum = WEIR_VALUE_NONE;
    for (uint32_t i = added.input_count; i < GRAPH_OP_INPUTS; i++) {
        added.inputs[i] = WEIR_VALUE_NONE;
    }
    if (result) {
        WEIR_TRY(add_value(graph, NULL, *info, &added.output));
        *result = added.output;
    }
    graph->ops.items[graph->ops.count++] = added;
    return WEIR_OK;
}

weir_status weir_graph_add_op(weir_graph* graph, const graph_op* op, weir_value leader,
                              int64_t width, weir_value* result) {
    weir_value_info info = {.kind = WEIR_VALUE_RESULT};
    if (result) {
        const weir_value_info* rows = weir_graph_value_info(graph, leader);
        const weir_shape shape = weir_shape_make(2, (int64_t[]){rows->layout.shape.dims[0], width});
        info.rows = rows->rows;
        WEIR_TRY(weir_view_layout(WEIR_DTYPE_F32, &shape, &info.layout));
    }
    return weir_graph_add_result(graph, op, &info, result);
}

uint32_t weir_graph_value_count(const weir_graph* graph) {
    return (uint32_t)graph->values.count;
}

uint32_t weir_graph_param_count(const weir_graph* graph) {
    return (uint32_t)graph->params.count;
}

uint32_t weir_graph_op_count(const weir_graph* graph) {
    return (uint32_t)graph->ops.count;
}

const weir_value_info* weir_graph_value_info(const weir_graph* graph, weir_value value) {
    return value < graph->values.count ? &graph->values.items[value].info : NULL;
}

const weir_param_info* weir_graph_param_info(const weir_graph* graph, weir_param param) {
    return param < graph->params.count ? &graph->params.items[param].info : NULL;
}
