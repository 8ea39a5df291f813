// The five parts with a kernel of the caller's own: wrapped and sliced storage, a tracker that says
// what must wait for what and why, an arena placed by a plan, and one wait for the whole pass.
#include <inttypes.h>
#include <stdio.h>
#include <weir/weir.h>

enum { LEFT, RIGHT, SUM, VALUES, N = 1024 };

static weir_status add(const weir_kernel_call* call) { // y = a + b, in one tile
    const float* a = call->pointers[0];
    const float* b = call->pointers[1];
    float* y = call->pointers[2];
    for (int64_t i = 0; i < call->views[0].shape.dims[0]; i++) {
        y[i] = a[i] + b[i];
    }
    return WEIR_OK;
}

static weir_status record(weir_session* session, weir_view a, weir_view b, weir_view y) {
    const weir_operand operands[] = {
        {a, WEIR_ACCESS_READ}, {b, WEIR_ACCESS_READ}, {y, WEIR_ACCESS_WRITE}};
    const weir_dispatch_desc desc = {
        .name = "add", .kernel = add, .operands = operands, .operand_count = 3};
    weir_verdict verdict;
    char text[96];
    WEIR_TRY(weir_session_dispatch(session, &desc, &verdict));
    for (uint32_t i = 0; i < 3; i++) {
        const weir_range bytes = weir_view_range(&operands[i].view);
        printf("add %u %-6s %s\n", verdict.dispatch, i < 2 ? "reads" : "writes",
               weir_range_format(&bytes, text, sizeof text));
    }
    printf("      barrier %s\n", verdict.hazard_count > 0 ? "kept" : "elided");
    for (uint32_t i = 0; i < verdict.hazard_count; i++) {
        const weir_hazard* hazard = &verdict.hazards[i];
        printf("      %s on add %u, %s\n", weir_hazard_name(hazard->kind), hazard->earlier,
               weir_range_format(&hazard->earlier_range, text, sizeof text));
    }
    return WEIR_OK;
}

static weir_status run(weir_device* device, weir_storage* storage, weir_session* session) {
    // View: two slices of the wrapped memory; they touch and do not conflict.
    const weir_shape whole = {1, {2 * N}}, half = {1, {N}};
    const uint64_t bytes = N * sizeof(float);
    weir_view data, low, high, values[VALUES];
    WEIR_TRY(weir_view_make(storage, 0, WEIR_DTYPE_F32, &whole, &data));
    WEIR_TRY(weir_view_slice(&data, 0, N, &low));
    WEIR_TRY(weir_view_slice(&data, bytes, N, &high));

    // Plan and arena: left and right live together; the sum may lie on left, which it reads last.
    const weir_plan_interval live[] = {{0, 3}, {1, 3}, {2, 4}};
    const weir_plan_in_place sum_on_left = {.buffer = SUM, .on = LEFT};
    weir_plan_buffer buffers[VALUES];
    for (uint32_t i = 0; i < VALUES; i++) {
        buffers[i] = (weir_plan_buffer){bytes, .interval_begin = i, .interval_count = 1};
    }
    const weir_plan_problem problem = {
        buffers,        VALUES, live, VALUES, .in_place = &sum_on_left, .in_place_count = 1,
        .alignment = 64};
    weir_plan* plan = NULL;
    weir_arena* arena = NULL;
    WEIR_TRY(weir_plan_create(NULL, &problem, &plan));
    const weir_plan_result* result = weir_plan_result_of(plan);
    printf("arena %" PRIu64 " bytes, lower bound %" PRIu64 ", without reuse %" PRIu64 "\n",
           result->peak, result->lower_bound, result->total);
    WEIR_TRY(weir_arena_create(device, plan, &arena));
    for (uint32_t i = 0; i < VALUES; i++) {
        WEIR_TRY(weir_arena_view(arena, plan, i, WEIR_DTYPE_F32, &half, &values[i]));
    }

    // Session: two independent dispatches and one that needs both; nothing runs before finish.
    WEIR_TRY(record(session, low, low, values[LEFT]));
    WEIR_TRY(record(session, high, high, values[RIGHT]));
    WEIR_TRY(record(session, values[LEFT], values[RIGHT], values[SUM]));
    WEIR_TRY(weir_session_finish(session));
    const float* sum = weir_view_contents(&values[SUM]);
    printf("sum[5] = %g, expected %d; %" PRIu64 " wait by the host\n", (double)sum[5],
           2 * 5 + 2 * (N + 5), weir_session_counters(session)->host_waits);
    weir_arena_destroy(arena);
    weir_plan_destroy(plan);
    return WEIR_OK;
}

int main(void) {
    static float data[2 * N] = {[5] = 5, [N + 5] = N + 5};
    const weir_storage_wrap_desc wrap = {.pointer = data, .byte_size = sizeof data};
    weir_device* device = NULL;
    weir_storage* storage = NULL;
    weir_session* session = NULL;
    const bool ok = weir_device_create(&(weir_device_desc){.name = "cpu"}, &device) == WEIR_OK &&
                    weir_storage_wrap(device, &wrap, &storage) == WEIR_OK &&
                    weir_session_create(device, &session) == WEIR_OK &&
                    run(device, storage, session) == WEIR_OK;
    fprintf(stderr, "%s", ok ? "" : weir_last_error());
    weir_session_destroy(session);
    weir_storage_release(storage);
    weir_device_destroy(device);
    return ok ? 0 : 1;
}
