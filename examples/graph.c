// Level 2: a graph with weir's kernels, planned and recorded once, run with any number of rows.
//
//     y = x + (silu(x * gate^T) * (x * up^T)) * down^T
//
// x and y [rows, 64], gate and up [256, 64], down [64, 256], rows 1 .. 32
#include <stdio.h>
#include <weir/weir.h>

enum { ROWS = 32, WIDTH = 64, HIDDEN = 256 };

typedef struct network {
    weir_graph* graph;
    weir_param rows;
    weir_value x, gate, up, down, y;
} network;

static weir_status build(network* net) {
    const weir_shape x_shape = {2, {ROWS, WIDTH}}, w_shape = {2, {HIDDEN, WIDTH}};
    const weir_shape down_shape = {2, {WIDTH, HIDDEN}};
    weir_value gated, raised, inner, lowered;
    WEIR_TRY(weir_graph_create(NULL, &net->graph));
    WEIR_TRY(weir_graph_param(net->graph, "rows", 1, ROWS, &net->rows));
    WEIR_TRY(weir_graph_input(net->graph, "x", WEIR_DTYPE_F32, &x_shape, net->rows, &net->x));
    WEIR_TRY(weir_graph_weight(net->graph, "gate", WEIR_DTYPE_F32, &w_shape, &net->gate));
    WEIR_TRY(weir_graph_weight(net->graph, "up", WEIR_DTYPE_F32, &w_shape, &net->up));
    WEIR_TRY(weir_graph_weight(net->graph, "down", WEIR_DTYPE_F32, &down_shape, &net->down));
    WEIR_TRY(weir_graph_matmul(net->graph, net->x, net->gate, &gated));
    WEIR_TRY(weir_graph_matmul(net->graph, net->x, net->up, &raised));
    WEIR_TRY(weir_graph_silu_gate(net->graph, gated, raised, &inner));
    WEIR_TRY(weir_graph_matmul(net->graph, inner, net->down, &lowered));
    WEIR_TRY(weir_graph_add(net->graph, net->x, lowered, &net->y));
    return weir_graph_output(net->graph, net->y);
}

static weir_status run(weir_program* program, const network* net) {
    static float x[ROWS * WIDTH];
    for (int i = 0; i < ROWS * WIDTH; i++) {
        x[i] = 1.0f;
    }
    for (uint64_t rows = 1; rows <= ROWS; rows *= 8) {
        WEIR_TRY(weir_program_write(program, net->x, x, rows * WIDTH * sizeof *x));
        WEIR_TRY(weir_program_run(program, &rows, 1));
        const float* y = weir_program_contents(program, net->y);
        printf("%2d rows: y[last] = %g\n", (int)rows, (double)y[rows * WIDTH - 1]);
    }
    const weir_counters* done = weir_program_counters(program);
    printf("%d submits, %d waits by the host\n", (int)done->submits, (int)done->host_waits);
    return WEIR_OK;
}

static weir_status demonstrate(weir_device* device, weir_storage* weights, network* net) {
    const weir_shape shapes[3] = {{2, {HIDDEN, WIDTH}}, {2, {HIDDEN, WIDTH}}, {2, {WIDTH, HIDDEN}}};
    weir_binding bindings[3] = {{.value = net->gate}, {.value = net->up}, {.value = net->down}};
    weir_schedule* schedule = NULL;
    weir_program* program = NULL;
    for (uint64_t i = 0; i < 3; i++) {
        WEIR_TRY(weir_view_make(weights, i * HIDDEN * WIDTH * sizeof(float), WEIR_DTYPE_F32,
                                &shapes[i], &bindings[i].view));
    }
    // Planned without a device: what must wait for what, and where every value lies.
    WEIR_TRY(weir_schedule_create(NULL, net->graph, weir_device_target(device), NULL, &schedule));
    const weir_schedule_report* report = weir_schedule_report_of(schedule);
    printf("%u operations in %u dispatches, %u waits kept, arena %d bytes, bound %d\n", report->ops,
           report->dispatches, report->waits, (int)report->arena_bytes, (int)report->bound_bytes);
    const weir_program_desc desc = {.schedule = schedule, .bindings = bindings, .binding_count = 3};
    WEIR_TRY(weir_program_create(device, &desc, &program));
    WEIR_TRY(run(program, net));
    weir_program_destroy(program);
    weir_schedule_destroy(schedule);
    return WEIR_OK;
}

int main(void) {
    static float weights[3 * HIDDEN * WIDTH];
    for (int i = 0; i < 3 * HIDDEN * WIDTH; i++) {
        weights[i] = i < HIDDEN * WIDTH ? 0.125f : i < 2 * HIDDEN * WIDTH ? 0.5f : 1.0f / HIDDEN;
    }
    const weir_storage_wrap_desc wrap = {
        .pointer = weights, .byte_size = sizeof weights, .sealed = true, .name = "weights"};
    weir_device* device = NULL;
    weir_storage* storage = NULL;
    network net = {0};
    const bool ok = weir_device_create(&(weir_device_desc){.name = "cpu"}, &device) == WEIR_OK &&
                    weir_storage_wrap(device, &wrap, &storage) == WEIR_OK &&
                    build(&net) == WEIR_OK && demonstrate(device, storage, &net) == WEIR_OK;
    fprintf(stderr, "%s", ok ? "" : weir_last_error());
    weir_graph_destroy(net.graph);
    weir_storage_release(storage);
    weir_device_destroy(device);
    return ok ? 0 : 1;
}
