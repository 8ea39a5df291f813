// A kernel of one's own, by hand (level 1) and in a program (level 2): see docs/add-a-kernel.md.
#include <math.h>
#include <stdio.h>
#include <weir/weir.h>

enum { ROWS = 8, WIDTH = 32, X = 0, Y = 1 };
static const weir_shape shape = {2, {ROWS, WIDTH}};

static bool accepts(const weir_kernel_use* use) { // an output is always contiguous
    return weir_view_is_contiguous(&use->operands[X]);
}

static uint32_t tile_count(const weir_kernel_use* use) { // one for each row
    return (uint32_t)use->operands[X].shape.dims[0];
}

static uint64_t scratch_bytes(const weir_kernel_use* use) {
    (void)use;
    return 0; // else the scratch is one operand more, and a value of its own in the plan
}

// Computes row `tile` of y = x / sqrt(mean(x^2) + epsilon), with sums in double precision.
static weir_status norm_row(const weir_kernel_call* call) {
    const weir_op_constants* constants = call->constants;
    const int64_t width = call->views[X].shape.dims[1];
    const float* x = (const float*)call->pointers[X] + call->tile * width;
    float* y = (float*)call->pointers[Y] + call->tile * width;
    double sum = 0.0;
    for (int64_t i = 0; i < width; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    const double scale = 1.0 / sqrt(sum / (double)width + (double)constants->epsilon);
    for (int64_t i = 0; i < width; i++) {
        y[i] = (float)((double)x[i] * scale);
    }
    return WEIR_OK;
}

static const weir_kernel kernel = {"norm_f64",    WEIR_OP_RMS_NORM, accepts,     tile_count,
                                   scratch_bytes, norm_row,         .by_rows = 0};

static weir_status by_hand(weir_device* device, const weir_view views[2]) {
    const weir_op_constants constants = {.epsilon = 1e-5f};
    const weir_operand operands[] = {{views[X], WEIR_ACCESS_READ}, {views[Y], WEIR_ACCESS_WRITE}};
    const weir_dispatch_desc desc = {"norm",     norm_row,         operands,          2,
                                     &constants, sizeof constants, .tile_count = ROWS};
    weir_session* session = NULL;
    WEIR_TRY(weir_session_create(device, &session));
    WEIR_TRY(weir_session_dispatch(session, &desc, NULL));
    WEIR_TRY(weir_session_finish(session));
    weir_session_destroy(session);
    return WEIR_OK;
}

static weir_status by_program(weir_device* device, const weir_view views[2]) {
    weir_target target = *weir_device_target(device);
    target.kernels = &kernel; // a graph of more operations needs those of the target behind it
    target.kernel_count = 1;
    weir_graph* graph = NULL;
    weir_schedule* schedule = NULL;
    weir_program* program = NULL;
    weir_value x, y;
    weir_dispatch_info info;
    WEIR_TRY(weir_graph_create(NULL, &graph));
    WEIR_TRY(weir_graph_input(graph, "x", WEIR_DTYPE_F32, &shape, WEIR_PARAM_NONE, &x));
    WEIR_TRY(weir_graph_rms_norm(graph, x, 1e-5f, &y));
    WEIR_TRY(weir_graph_output(graph, y));
    WEIR_TRY(weir_schedule_create(NULL, graph, &target, NULL, &schedule));
    WEIR_TRY(weir_schedule_dispatch(schedule, 0, &info));
    const weir_binding input = {x, views[X]};
    const weir_program_desc desc = {.schedule = schedule, .bindings = &input, .binding_count = 1};
    WEIR_TRY(weir_program_create(device, &desc, &program));
    WEIR_TRY(weir_program_run(program, NULL, 0));
    printf("%s by %s: y[5] = %g\n", weir_op_name(info.op), info.kernel->name,
           (double)((const float*)weir_program_contents(program, y))[5]);
    weir_program_destroy(program);
    weir_schedule_destroy(schedule);
    weir_graph_destroy(graph);
    return WEIR_OK;
}

int main(void) {
    static float data[2][ROWS * WIDTH] = {[X] = {[5] = 1.0f, [6] = 3.0f}};
    const weir_storage_wrap_desc wrap = {.pointer = data, .byte_size = sizeof data};
    weir_device* device = NULL;
    weir_storage* storage = NULL;
    weir_view views[2];
    const bool ok =
        weir_device_create(&(weir_device_desc){.name = "cpu"}, &device) == WEIR_OK &&
        weir_storage_wrap(device, &wrap, &storage) == WEIR_OK &&
        weir_view_make(storage, 0, WEIR_DTYPE_F32, &shape, &views[X]) == WEIR_OK &&
        weir_view_make(storage, sizeof data[X], WEIR_DTYPE_F32, &shape, &views[Y]) == WEIR_OK &&
        by_hand(device, views) == WEIR_OK && by_program(device, views) == WEIR_OK;
    printf("by hand: y[5] = %g\n", (double)data[Y][5]);
    fprintf(stderr, "%s", ok ? "" : weir_last_error());
    weir_storage_release(storage);
    weir_device_destroy(device);
    return ok ? 0 : 1;
}
