// Operations of the caller in graphs: planned, ordered and run as those of weir.
#include "testing.h"

#include <math.h>
#include <weir/weir.h>

#include "testing_allocator.h"

enum { ROWS = 8, WIDTH = 32, KERNELS_MAX = 64 };

typedef struct affine_constants {
    float factor, term;
} affine_constants;

static uint32_t row_tiles(const weir_kernel_use* use) {
    return (uint32_t)use->operands[0].shape.dims[0];
}

static uint64_t no_scratch(const weir_kernel_use* use) {
    (void)use;
    return 0;
}

static bool takes_f32(const weir_kernel_use* use) {
    return use->operand_count >= 2 && use->operands[0].dtype == WEIR_DTYPE_F32;
}

static float gelu_of(float x) {
    return 0.5f * x * (1.0f + erff(x * 0.70710678f));
}

static weir_status gelu(const weir_kernel_call* call) {
    const float* x = (const float*)call->pointers[0] + call->tile * WIDTH;
    float* y = (float*)call->pointers[1] + call->tile * WIDTH;
    for (int i = 0; i < WIDTH; i++) {
        y[i] = gelu_of(x[i]);
    }
    return WEIR_OK;
}

static weir_status affine(const weir_kernel_call* call) {
    const weir_op_constants* constants = call->constants;
    affine_constants with;
    if (constants->custom.byte_size != sizeof with) {
        return WEIR_FAIL(WEIR_INTERNAL, "%u bytes of constants", constants->custom.byte_size);
    }
    memcpy(&with, constants->custom.bytes, sizeof with);
    const float* x = (const float*)call->pointers[0] + call->tile * WIDTH;
    float* y = (float*)call->pointers[1] + call->tile * WIDTH;
    for (int i = 0; i < WIDTH; i++) {
        y[i] = x[i] * with.factor + with.term;
    }
    return WEIR_OK;
}

static uint64_t argmax_scratch(const weir_kernel_use* use) {
    return (uint64_t)use->operands[0].shape.dims[0] * sizeof(float);
}

// Finds the largest number of row `tile`, which is kept in the scratch meanwhile.
static weir_status argmax(const weir_kernel_call* call) {
    const float* x = (const float*)call->pointers[0] + call->tile * WIDTH;
    int32_t* y = (int32_t*)call->pointers[1] + call->tile;
    float* best = (float*)call->pointers[2] + call->tile;
    *best = x[0];
    *y = 0;
    for (int32_t i = 1; i < WIDTH; i++) {
        if (x[i] > *best) {
            *best = x[i];
            *y = i;
        }
    }
    return WEIR_OK;
}

static const weir_kernel own_kernels[] = {
    {"affine_f32", WEIR_OP_CUSTOM, takes_f32, row_tiles, no_scratch, affine, .custom = "affine"},
    {"gelu_f32", WEIR_OP_CUSTOM, takes_f32, row_tiles, no_scratch, gelu, .custom = "gelu"},
    {"argmax_f32", WEIR_OP_CUSTOM, takes_f32, row_tiles, argmax_scratch, argmax,
     .custom = "argmax"},
};

// y = affine(g), index = argmax(g), g = gelu(x * transpose(w)).
typedef struct network {
    weir_graph* graph;
    weir_param rows;
    weir_value x, w, y, index;
    weir_kernel kernels[KERNELS_MAX];
    weir_target target; // the CPU's with kernels for these operations behind its own
} network;

static weir_value custom(const network* net, const char* name, weir_value x, uint32_t in_place,
                         const affine_constants* constants) {
    weir_value y = WEIR_VALUE_NONE;
    const weir_custom_desc desc = {.name = name,
                                   .inputs = &x,
                                   .input_count = 1,
                                   .dtype = WEIR_DTYPE_F32,
                                   .shape = {2, {ROWS, WIDTH}},
                                   .rows = net->rows,
                                   .in_place = in_place,
                                   .constants = constants,
                                   .constants_size = constants ? sizeof *constants : 0};
    assert_ok(weir_graph_custom(net->graph, &desc, &y));
    return y;
}

static void build(network* net, uint32_t in_place, affine_constants constants) {
    const weir_shape x = {2, {ROWS, WIDTH}};
    const weir_shape w = {2, {WIDTH, WIDTH}};
    weir_value h = WEIR_VALUE_NONE;
    assert_ok(weir_target_find("cpu", &net->target));
    assert_true(net->target.kernel_count + 3 <= KERNELS_MAX);
    memcpy(net->kernels, net->target.kernels, net->target.kernel_count * sizeof(weir_kernel));
    memcpy(net->kernels + net->target.kernel_count, own_kernels, sizeof own_kernels);
    net->target.kernels = net->kernels;
    net->target.kernel_count += 3;
    assert_ok(weir_graph_create(NULL, &net->graph));
    assert_ok(weir_graph_param(net->graph, "rows", 1, ROWS, &net->rows));
    assert_ok(weir_graph_input(net->graph, "x", WEIR_DTYPE_F32, &x, net->rows, &net->x));
    assert_ok(weir_graph_weight(net->graph, "w", WEIR_DTYPE_F32, &w, &net->w));
    assert_ok(weir_graph_matmul(net->graph, net->x, net->w, &h));
    const weir_value g = custom(net, "gelu", h, in_place, NULL);
    net->y = custom(net, "affine", g, in_place, &constants);
    const weir_custom_desc find = {.name = "argmax",
                                   .inputs = &g,
                                   .input_count = 1,
                                   .dtype = WEIR_DTYPE_I32,
                                   .shape = {1, {ROWS}},
                                   .rows = net->rows};
    assert_ok(weir_graph_custom(net->graph, &find, &net->index));
    assert_ok(weir_graph_output(net->graph, net->y));
    assert_ok(weir_graph_output(net->graph, net->index));
}

static weir_schedule* schedule_of(const network* net) {
    weir_schedule* schedule = NULL;
    assert_ok(weir_schedule_create(NULL, net->graph, &net->target, NULL, &schedule));
    assert_ok(weir_schedule_check(schedule));
    return schedule;
}

static void results_are_those_of_the_kernels(void** state) {
    (void)state;
    static network net;
    static float weights[WIDTH * WIDTH];
    float x[ROWS * WIDTH];
    test_random random = {.state = 8};
    for (int i = 0; i < WIDTH * WIDTH; i++) {
        weights[i] = random_unit(&random) * 0.5f;
    }
    for (int i = 0; i < ROWS * WIDTH; i++) {
        x[i] = random_unit(&random);
    }
    const affine_constants constants = {2.0f, -1.0f};
    build(&net, 1, constants);
    weir_device* device = NULL;
    weir_storage* storage = NULL;
    weir_program* program = NULL;
    weir_schedule* schedule = schedule_of(&net);
    const weir_storage_wrap_desc wrap = {.pointer = weights, .byte_size = sizeof weights};
    assert_ok(weir_device_create(&(weir_device_desc){.name = "cpu", .thread_count = 2}, &device));
    assert_ok(weir_storage_wrap(device, &wrap, &storage));
    weir_binding binding = {.value = net.w};
    assert_ok(weir_view_make(storage, 0, WEIR_DTYPE_F32, &(weir_shape){2, {WIDTH, WIDTH}},
                             &binding.view));
    weir_graph_destroy(net.graph); // a schedule needs it no more
    const weir_program_desc desc = {.schedule = schedule, .bindings = &binding, .binding_count = 1};
    assert_ok(weir_program_create(device, &desc, &program));
    for (uint64_t rows = 1; rows <= ROWS; rows += 7) {
        assert_ok(weir_program_write(program, net.x, x, rows * WIDTH * sizeof *x));
        assert_ok(weir_program_run(program, &rows, 1));
        float y[ROWS * WIDTH];
        int32_t index[ROWS];
        assert_ok(weir_program_read(program, (weir_ticket){0}, net.y, y, rows * WIDTH * sizeof *y));
        assert_ok(
            weir_program_read(program, (weir_ticket){0}, net.index, index, rows * sizeof *index));
        for (uint64_t row = 0; row < rows; row++) {
            int32_t largest = 0;
            float g[WIDTH];
            for (int n = 0; n < WIDTH; n++) {
                double sum = 0.0;
                for (int k = 0; k < WIDTH; k++) {
                    sum += (double)x[row * WIDTH + (uint64_t)k] * (double)weights[n * WIDTH + k];
                }
                g[n] = gelu_of((float)sum);
                largest = g[n] > g[largest] ? n : largest;
                assert_true(fabsf(y[row * WIDTH + (uint64_t)n] -
                                  (g[n] * constants.factor + constants.term)) <= 1e-4f);
            }
            assert_true(g[largest] - g[index[row]] <= 1e-4f);
        }
    }
    weir_program_destroy(program);
    const uint64_t rows = ROWS;
    const weir_check_input input = {net.x, x, sizeof x};
    const weir_check_pass pass = {&rows, 1, &input, 1};
    const weir_check_desc check = {.schedule = schedule,
                                   .bindings = &binding,
                                   .binding_count = 1,
                                   .passes = &pass,
                                   .pass_count = 1};
    assert_ok(weir_schedule_prove(device, &check));
    weir_schedule_destroy(schedule);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static void they_are_named_and_placed_like_others(void** state) {
    (void)state;
    static network net;
    for (uint32_t in_place = 0; in_place < 2; in_place++) {
        build(&net, in_place, (affine_constants){1.0f, 0.0f});
        weir_schedule* schedule = schedule_of(&net);
        const weir_schedule_report* report = weir_schedule_report_of(schedule);
        assert_int_equal(report->dispatches, 4);
        assert_int_equal(report->in_place, in_place); // gelu on the product; outputs lie elsewhere
        assert_int_equal(report->scratch_bytes, ROWS * sizeof(float));
        const char* const kernels[] = {"gelu_f32", "affine_f32", "argmax_f32"};
        const char* const names[] = {"gelu", "affine", "argmax"};
        for (uint32_t d = 1; d < 4; d++) {
            weir_dispatch_info info;
            assert_ok(weir_schedule_dispatch(schedule, d, &info));
            assert_int_equal(info.op, WEIR_OP_CUSTOM);
            assert_string_equal(info.name, names[d - 1]);
            assert_string_equal(info.kernel->name, kernels[d - 1]);
        }
        weir_schedule_destroy(schedule);
        weir_graph_destroy(net.graph);
    }
}

static void an_operation_without_a_kernel_is_named(void** state) {
    (void)state;
    static network net;
    build(&net, 0, (affine_constants){1.0f, 0.0f});
    weir_schedule* schedule = NULL;
    net.target.kernel_count--; // that of argmax
    assert_status(weir_schedule_create(NULL, net.graph, &net.target, NULL, &schedule),
                  WEIR_UNSUPPORTED);
    assert_message_has("no kernel for argmax of F32 [8, 32], I32 [8]");
    net.kernels[net.target.kernel_count - 1].custom = NULL; // serves no operation
    assert_status(weir_schedule_create(NULL, net.graph, &net.target, NULL, &schedule),
                  WEIR_UNSUPPORTED);
    assert_message_has("no kernel for gelu");
    assert_null(schedule);
    weir_graph_destroy(net.graph);
}

static void plans_belong_to_operations_with_their_constants(void** state) {
    (void)state;
    static network net;
    static network other;
    weir_plan_file* file = NULL;
    weir_schedule* loaded = NULL;
    build(&net, 1, (affine_constants){2.0f, 0.0f});
    weir_schedule* schedule = schedule_of(&net);
    assert_ok(weir_plan_file_create(NULL, &file));
    assert_ok(weir_plan_file_add(file, "net", schedule));
    assert_ok(weir_plan_file_load(file, "net", net.graph, &net.target, &loaded));
    weir_schedule_destroy(loaded);
    loaded = NULL;
    const struct {
        uint32_t in_place;
        affine_constants constants;
    } changes[] = {{0, {2.0f, 0.0f}}, {1, {3.0f, 0.0f}}};
    for (size_t i = 0; i < 2; i++) {
        build(&other, changes[i].in_place, changes[i].constants);
        assert_true(weir_plan_file_load(file, "net", other.graph, &other.target, &loaded) !=
                    WEIR_OK);
        assert_null(loaded);
        weir_graph_destroy(other.graph);
    }
    weir_plan_file_destroy(file);
    weir_schedule_destroy(schedule);
    weir_graph_destroy(net.graph);
}

static void wrong_descriptions_are_refused(void** state) {
    (void)state;
    static network net;
    build(&net, 0, (affine_constants){1.0f, 0.0f});
    const weir_value four[] = {net.x, net.x, net.x, net.x};
    const weir_value unknown = 999;
    const weir_custom_desc good = {.name = "op",
                                   .inputs = four,
                                   .input_count = 4,
                                   .dtype = WEIR_DTYPE_F32,
                                   .shape = {2, {ROWS, WIDTH}},
                                   .rows = net.rows};
    weir_custom_desc bad[15];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bad[i] = good;
    }
    bad[0].name = NULL;
    bad[1].name = "";
    bad[2].name = "a name of 24 characters.";
    bad[3].name = "two words";
    bad[4].input_count = 0;
    bad[5].input_count = 5;
    bad[6].inputs = NULL;
    bad[7].inputs = &unknown;
    bad[7].input_count = 1;
    bad[8].constants = four;
    bad[8].constants_size = WEIR_CUSTOM_CONSTANTS_MAX + 1;
    bad[9].constants_size = 4;
    bad[10].in_place = 1u << 4;
    bad[11].dtype = WEIR_DTYPE_NONE;
    bad[12].shape.dims[1] = 0;
    bad[13].shape.dims[0] = ROWS - 1;
    bad[14].rows = 7;
    const uint32_t values = weir_graph_value_count(net.graph);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        weir_value y = 77;
        assert_status(weir_graph_custom(net.graph, &bad[i], &y), WEIR_INVALID_ARGUMENT);
        assert_int_equal(y, 77);
        assert_message_has(i < 4 ? "custom: expected a name" : "op");
    }
    assert_int_equal(weir_graph_value_count(net.graph), values);
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_custom(net.graph, &good, &y));
    assert_int_equal(y, values);
    weir_graph_destroy(net.graph);
}

static void refused_memory_leaves_the_graph_as_it_was(void** state) {
    (void)state;
    test_allocator heap = {.fail_at = SIZE_MAX};
    const weir_allocator allocator = test_allocator_of(&heap);
    const weir_shape shape = {1, {4}};
    weir_graph* graph = NULL;
    weir_value x = WEIR_VALUE_NONE;
    weir_value y = 77;
    assert_ok(weir_graph_create(&allocator, &graph));
    assert_ok(weir_graph_input(graph, "x", WEIR_DTYPE_F32, &shape, WEIR_PARAM_NONE, &x));
    const weir_custom_desc desc = {.name = "op",
                                   .inputs = &x,
                                   .input_count = 1,
                                   .dtype = WEIR_DTYPE_F32,
                                   .shape = shape,
                                   .rows = WEIR_PARAM_NONE};
    // The lists grow now and then: each call that asks for memory is refused it once.
    for (int i = 0; i < 100; i++) {
        heap.fail_at = heap.calls;
        const uint32_t ops = weir_graph_op_count(graph);
        const weir_status status = weir_graph_custom(graph, &desc, &y);
        heap.fail_at = SIZE_MAX;
        if (status != WEIR_OK) {
            assert_int_equal(status, WEIR_OUT_OF_MEMORY);
            assert_int_equal(weir_graph_op_count(graph), ops);
            assert_int_equal(weir_graph_value_count(graph), ops + 1);
            assert_ok(weir_graph_custom(graph, &desc, &y));
        }
        assert_int_equal(y, ops + 1);
    }
    weir_graph_destroy(graph);
    assert_int_equal(heap.live_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_those_of_the_kernels),
        cmocka_unit_test(they_are_named_and_placed_like_others),
        cmocka_unit_test(an_operation_without_a_kernel_is_named),
        cmocka_unit_test(plans_belong_to_operations_with_their_constants),
        cmocka_unit_test(wrong_descriptions_are_refused),
        cmocka_unit_test(refused_memory_leaves_the_graph_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
