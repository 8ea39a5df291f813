// How products are cut on a Vulkan device, and which operations its kernels compute together.
#include "vulkan_testing.h"

#include <math.h>
#include <weir/program.h>
#include <weir/schedule.h>
#include <weir/vulkan.h>

// The graph y = x * transpose(w) and its program, with made-up numbers in all operands.
typedef struct product {
    weir_schedule* schedule;
    weir_program* program;
    weir_storage* weights;
    weir_value x, y;
} product;

#define PRODUCT_COLUMNS 37
#define PRODUCT_WIDTH 544
#define PRODUCT_ROW_BYTES (PRODUCT_WIDTH / 32 * 34)

static void open_product(product* p) {
    const weir_shape x_shape = weir_shape_make(2, (int64_t[]){1, PRODUCT_WIDTH});
    const weir_shape w_shape = weir_shape_make(2, (int64_t[]){PRODUCT_COLUMNS, PRODUCT_WIDTH});
    weir_graph* graph = NULL;
    weir_value w;
    assert_ok(weir_graph_create(NULL, &graph));
    assert_ok(weir_graph_input(graph, "x", WEIR_DTYPE_F32, &x_shape, WEIR_PARAM_NONE, &p->x));
    assert_ok(weir_graph_weight(graph, "w", WEIR_DTYPE_Q8_0, &w_shape, &w));
    assert_ok(weir_graph_matmul(graph, p->x, w, &p->y));
    assert_ok(weir_graph_output(graph, p->y));
    assert_ok(weir_schedule_create(NULL, graph, weir_device_target(gpu), NULL, &p->schedule));
    weir_binding binding = {.value = w};
    p->weights = allocate(gpu, PRODUCT_COLUMNS * PRODUCT_ROW_BYTES, WEIR_FILL_NONE, false);
    assert_ok(weir_view_make(p->weights, 0, WEIR_DTYPE_Q8_0, &w_shape, &binding.view));
    uint8_t* bytes = weir_storage_host_pointer(p->weights);
    for (size_t i = 0; i < PRODUCT_COLUMNS * PRODUCT_ROW_BYTES; i++) {
        bytes[i] = i % 34 == 1 ? 0x2C : (uint8_t)(i * 37); // scales between 1/16 and 1/8
    }
    const weir_program_desc desc = {
        .schedule = p->schedule, .bindings = &binding, .binding_count = 1};
    assert_ok(weir_program_create(gpu, &desc, &p->program));
    weir_graph_destroy(graph);
}

// Runs the program and compares with the products of the numbers that the format defines, in f64.
static void check_product(const product* p) {
    float x[PRODUCT_WIDTH];
    float w[PRODUCT_WIDTH];
    for (int i = 0; i < PRODUCT_WIDTH; i++) {
        x[i] = (float)(i % 29 - 14);
    }
    assert_ok(weir_program_write(p->program, p->x, x, sizeof x));
    assert_ok(weir_program_run(p->program, NULL, 0));
    const float* y = weir_program_contents(p->program, p->y);
    const uint8_t* weights = weir_storage_host_pointer(p->weights);
    for (size_t c = 0; c < PRODUCT_COLUMNS; c++) {
        double expected = 0.0;
        double scale = 0.0;
        assert_ok(
            weir_dtype_to_f32(WEIR_DTYPE_Q8_0, weights + c * PRODUCT_ROW_BYTES, PRODUCT_WIDTH, w));
        for (int i = 0; i < PRODUCT_WIDTH; i++) {
            expected += (double)w[i] * (double)x[i];
            scale += fabs((double)w[i] * (double)x[i]);
        }
        assert_true(fabs((double)y[c] - expected) <= 4e-6 * scale);
    }
}

static void close_product(product* p) {
    weir_program_destroy(p->program);
    weir_schedule_destroy(p->schedule);
    weir_storage_release(p->weights);
}

static void products_are_right_however_they_are_cut(void** state) {
    (void)state;
    static const weir_vulkan_tuning tunings[] = {
        {0}, {.unit_columns = 4, .unit_threads = 64}, {.unit_columns = 1}, {.unit_columns = 7}};
    weir_vulkan_tuning tuning;
    for (size_t i = 0; i < sizeof tunings / sizeof tunings[0]; i++) {
        product p;
        tuning = tunings[i];
        tuning.unit_x = WEIR_VULKAN_X_F32;
        assert_ok(weir_vulkan_tune(gpu, &tuning));
        open_product(&p);
        check_product(&p);
        close_product(&p);
    }
    assert_ok(weir_vulkan_tune(gpu, &tunings[0]));
}

#define ROUNDED_ROWS 3
#define ROUNDED_COLUMNS 21
#define ROUNDED_WIDTH 1280

// Weights of any type without an infinity or a NaN: no scale has the highest bits of an exponent.
static weir_binding new_weights(weir_value value, weir_dtype dtype, const weir_shape* shape) {
    const weir_dtype_info* info = weir_dtype_describe(dtype);
    const size_t byte_size =
        ROUNDED_COLUMNS * ROUNDED_WIDTH / info->block_elements * info->block_bytes;
    weir_binding binding = {.value = value};
    weir_storage* storage = allocate(gpu, byte_size, WEIR_FILL_NONE, false);
    uint8_t* bytes = weir_storage_host_pointer(storage);
    test_random random = {dtype};
    for (size_t i = 0; i < byte_size; i++) {
        bytes[i] = (uint8_t)random_u64(&random) & (i % 2 == 1 ? 0x3F : 0xFF);
    }
    assert_ok(weir_view_make(storage, 0, dtype, shape, &binding.view));
    return binding;
}

// Numbers that rounding to 8 bits leaves as they are: 127 is the largest of each 32.
static void fill_rounded(float x[ROUNDED_ROWS * ROUNDED_WIDTH]) {
    for (int i = 0; i < ROUNDED_ROWS * ROUNDED_WIDTH; i++) {
        x[i] = (i % 32 == i / 32 % 32 ? -127.0f : (float)(i * 37 % 255 - 127)) / 64.0f;
    }
}

// x normalised, with factors that leave it as it is before it is rounded.
static weir_value add_norm(weir_graph* graph, weir_value x, weir_binding* factors) {
    const weir_shape shape = weir_shape_make(1, (int64_t[]){ROUNDED_WIDTH});
    weir_storage* storage = allocate(gpu, ROUNDED_WIDTH * sizeof(float), WEIR_FILL_NONE, false);
    float* numbers = weir_storage_host_pointer(storage);
    weir_value y;
    for (int i = 0; i < ROUNDED_WIDTH; i++) {
        numbers[i] = i / 32 % 2 ? 0.5f : -2.0f;
    }
    assert_ok(weir_view_make(storage, 0, WEIR_DTYPE_F32, &shape, &factors->view));
    assert_ok(weir_graph_weight(graph, "factors", WEIR_DTYPE_F32, &shape, &factors->value));
    assert_ok(weir_graph_rms_norm(graph, x, 1e-5f, &y));
    assert_ok(weir_graph_mul(graph, y, factors->value, &y));
    return y;
}

// silu(x * transpose(gate)) * (x * transpose(up)), or without `up` x * transpose(gate).
static void run_rounded(weir_dtype gate_dtype, weir_dtype up_dtype, bool has_norm,
                        weir_vulkan_x unit_x, float* y) {
    static float x[ROUNDED_ROWS * ROUNDED_WIDTH];
    const weir_shape x_shape = weir_shape_make(2, (int64_t[]){ROUNDED_ROWS, ROUNDED_WIDTH});
    const weir_shape w_shape = weir_shape_make(2, (int64_t[]){ROUNDED_COLUMNS, ROUNDED_WIDTH});
    const weir_dtype dtypes[] = {gate_dtype, up_dtype};
    const uint32_t count = up_dtype == WEIR_DTYPE_NONE ? 1 : 2;
    weir_graph* graph = NULL;
    weir_schedule* schedule = NULL;
    weir_program* program = NULL;
    weir_value in;
    weir_value out[3];
    weir_binding bindings[3];
    assert_ok(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){.unit_x = unit_x}));
    assert_ok(weir_graph_create(NULL, &graph));
    assert_ok(weir_graph_input(graph, "x", WEIR_DTYPE_F32, &x_shape, WEIR_PARAM_NONE, &in));
    const weir_value normal = has_norm ? add_norm(graph, in, &bindings[count]) : in;
    for (uint32_t i = 0; i < count; i++) {
        weir_value w;
        assert_ok(weir_graph_weight(graph, i == 0 ? "gate" : "up", dtypes[i], &w_shape, &w));
        assert_ok(weir_graph_matmul(graph, normal, w, &out[i]));
        bindings[i] = new_weights(w, dtypes[i], &w_shape);
    }
    if (count == 2) {
        assert_ok(weir_graph_silu_gate(graph, out[0], out[1], &out[2]));
    }
    const weir_value last = out[count == 2 ? 2 : 0];
    assert_ok(weir_graph_output(graph, last));
    assert_ok(weir_schedule_create(NULL, graph, weir_device_target(gpu), NULL, &schedule));
    assert_int_equal(weir_schedule_report_of(schedule)->dispatches, 1);
    const uint32_t bound = count + (has_norm ? 1 : 0);
    const weir_program_desc desc = {
        .schedule = schedule, .bindings = bindings, .binding_count = bound};
    assert_ok(weir_program_create(gpu, &desc, &program));
    fill_rounded(x);
    assert_ok(weir_program_write(program, in, x, sizeof x));
    assert_ok(weir_program_run(program, NULL, 0));
    memcpy(y, weir_program_contents(program, last), ROUNDED_ROWS * ROUNDED_COLUMNS * sizeof *y);
    weir_program_destroy(program);
    weir_schedule_destroy(schedule);
    weir_graph_destroy(graph);
    for (uint32_t i = 0; i < bound; i++) {
        weir_storage_release(bindings[i].view.storage);
    }
    assert_ok(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){0}));
}

static void check_rounded(weir_dtype gate, weir_dtype up, bool has_norm) {
    float whole[ROUNDED_ROWS * ROUNDED_COLUMNS];
    float rounded[ROUNDED_ROWS * ROUNDED_COLUMNS];
    float largest = 0.0f;
    run_rounded(gate, up, has_norm, WEIR_VULKAN_X_F32, whole);
    run_rounded(gate, up, has_norm, WEIR_VULKAN_X_8_BITS, rounded);
    for (int i = 0; i < ROUNDED_ROWS * ROUNDED_COLUMNS; i++) {
        largest = fabsf(whole[i]) > largest ? fabsf(whole[i]) : largest;
    }
    assert_true(largest > 1.0f);
    for (int i = 0; i < ROUNDED_ROWS * ROUNDED_COLUMNS; i++) {
        assert_float_equal(rounded[i], whole[i], largest * 1e-5f);
    }
}

static void need_dots(void) {
    if (weir_vulkan_tune(gpu, &(weir_vulkan_tuning){.unit_x = WEIR_VULKAN_X_8_BITS}) != WEIR_OK) {
        print_message("skipped: %s\n", weir_last_error());
        skip();
    }
}

static void products_of_bytes_are_those_of_the_numbers_that_they_are(void** state) {
    (void)state;
    static const weir_dtype dtypes[] = {WEIR_DTYPE_Q8_0, WEIR_DTYPE_Q4_0, WEIR_DTYPE_Q4_1,
                                        WEIR_DTYPE_Q5_0, WEIR_DTYPE_Q5_1, WEIR_DTYPE_Q4_K,
                                        WEIR_DTYPE_Q5_K, WEIR_DTYPE_Q6_K};
    need_dots();
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        check_rounded(dtypes[i], WEIR_DTYPE_NONE, i % 4 == 1);
    }
    check_rounded(WEIR_DTYPE_Q4_0, WEIR_DTYPE_Q4_0, true);
    check_rounded(WEIR_DTYPE_Q4_K, WEIR_DTYPE_Q6_K, false);
}

static void cuts_that_cannot_be_are_refused(void** state) {
    (void)state;
    assert_status(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){.few_columns = 33}),
                  WEIR_INVALID_ARGUMENT);
    assert_message_has("33 columns");
    assert_status(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){.unit_threads = 48}),
                  WEIR_INVALID_ARGUMENT);
    assert_message_has("48 threads");
    assert_status(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){.unit_x = (weir_vulkan_x)3}),
                  WEIR_INVALID_ARGUMENT);
    assert_message_has("unit_x is 3");
    weir_device* cpu = NULL;
    assert_ok(weir_device_create(&(weir_device_desc){.name = "cpu"}, &cpu));
    assert_status(weir_vulkan_tune(cpu, &(weir_vulkan_tuning){0}), WEIR_INVALID_ARGUMENT);
    weir_device_destroy(cpu);
}

static void the_target_fuses_as_that_of_the_processor_does(void** state) {
    (void)state;
    static const weir_op_kind kinds[] = {WEIR_OP_GATE_UP, WEIR_OP_MATMUL_ADD,
                                         WEIR_OP_ADD_RMS_NORM_MUL, WEIR_OP_RMS_NORM_MUL,
                                         WEIR_OP_ROPE_SET_ROWS};
    weir_target target;
    assert_ok(weir_target_find("vulkan", &target));
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        bool found = false;
        for (uint32_t k = 0; k < target.kernel_count; k++) {
            found = found || target.kernels[k].op == kinds[i];
        }
        assert_true(found);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_right_however_they_are_cut),
        cmocka_unit_test(products_of_bytes_are_those_of_the_numbers_that_they_are),
        cmocka_unit_test(cuts_that_cannot_be_are_refused),
        cmocka_unit_test(the_target_fuses_as_that_of_the_processor_does),
    };
    return cmocka_run_group_tests(tests, open_gpu, close_gpu);
}
