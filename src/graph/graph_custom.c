#include <weir/graph.h>

#include <string.h>

#include "graph/graph.h"

_Static_assert(WEIR_CUSTOM_INPUTS_MAX == GRAPH_OP_INPUTS, "as many as any operation has");

// A name that reports and messages can show in one line.
static bool is_name(const char* name) {
    size_t length = 0;
    for (; name && name[length] != '\0'; length++) {
        if (length + 1 == WEIR_CUSTOM_NAME_BYTES || name[length] <= ' ' || name[length] > '~') {
            return false;
        }
    }
    return length > 0;
}

static weir_status check_numbers(const weir_custom_desc* desc) {
    if (!is_name(desc->name)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "custom: expected a name of 1 to %d printable characters without spaces",
                         WEIR_CUSTOM_NAME_BYTES - 1);
    }
    if (desc->input_count < 1 || desc->input_count > WEIR_CUSTOM_INPUTS_MAX || !desc->inputs) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: %u inputs%s; expected 1 to %d", desc->name,
                         desc->input_count, desc->inputs ? "" : " at NULL", WEIR_CUSTOM_INPUTS_MAX);
    }
    if (desc->constants_size > WEIR_CUSTOM_CONSTANTS_MAX ||
        (desc->constants_size > 0 && !desc->constants)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: %zu bytes of constants%s; expected at most %d",
                         desc->name, desc->constants_size, desc->constants ? "" : " at NULL",
                         WEIR_CUSTOM_CONSTANTS_MAX);
    }
    if (desc->in_place >> desc->input_count != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: in_place is 0x%x with %u inputs", desc->name,
                         desc->in_place, desc->input_count);
    }
    return WEIR_OK;
}

// The inputs of an operation, each of them a value.
static weir_status take_inputs(const weir_graph* graph, const weir_custom_desc* desc,
                               graph_op* op) {
    for (uint32_t i = 0; i < desc->input_count; i++) {
        if (!weir_graph_value_info(graph, desc->inputs[i])) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: input %u is value %u; the graph has %u",
                             desc->name, i, desc->inputs[i], weir_graph_value_count(graph));
        }
        op->inputs[op->input_count++] = desc->inputs[i];
    }
    return WEIR_OK;
}

static weir_status layout_result(const weir_graph* graph, const weir_custom_desc* desc,
                                 weir_value_info* info) {
    const weir_status status = weir_view_layout(desc->dtype, &desc->shape, &info->layout);
    if (status != WEIR_OK) {
        return WEIR_FAIL(status, "%s: the result: %s", desc->name, weir_last_error());
    }
    if (weir_view_element_count(&info->layout) == 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: the result has no elements", desc->name);
    }
    info->kind = WEIR_VALUE_RESULT;
    info->rows = desc->rows;
    return weir_graph_check_rows(graph, "result of", desc->name, &desc->shape, desc->rows);
}

weir_status weir_graph_custom(weir_graph* graph, const weir_custom_desc* desc, weir_value* y) {
    graph_op op = {.kind = WEIR_OP_CUSTOM};
    weir_value_info info = {0};
    WEIR_TRY(check_numbers(desc));
    WEIR_TRY(take_inputs(graph, desc, &op));
    WEIR_TRY(layout_result(graph, desc, &info));
    weir_custom_constants* constants = &op.constants.custom;
    memcpy(constants->name, desc->name, strlen(desc->name) + 1);
    constants->in_place = desc->in_place;
    constants->byte_size = (uint32_t)desc->constants_size;
    if (desc->constants_size > 0) {
        memcpy(constants->bytes, desc->constants, desc->constants_size);
    }
    return weir_graph_add_result(graph, &op, &info, y);
}
