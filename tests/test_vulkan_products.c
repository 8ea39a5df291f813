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
#define PRODUCT_WIDTH 2112 // of which rows are whole words: units of 32 are read
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

static void run_product(const product* p, float* y) {
    float x[PRODUCT_WIDTH];
    for (int i = 0; i < PRODUCT_WIDTH; i++) {
        x[i] = (float)(i % 31) / 7.0f - 2.0f;
    }
    assert_ok(weir_program_write(p->program, p->x, x, sizeof x));
    assert_ok(weir_program_run(p->program, NULL, 0));
    memcpy(y, weir_program_contents(p->program, p->y), PRODUCT_COLUMNS * sizeof *y);
}

// Workgroups keep x for all pieces of a product, or for none.
static void products_in_pieces_have_the_bits_of_whole_ones(void** state) {
    (void)state;
    static const weir_vulkan_tuning tuning = {.unit_x = WEIR_VULKAN_X_8_BITS,
                                              .held_columns = 1,
                                              .held_threads = 32,
                                              .held_groups = PRODUCT_COLUMNS / 2};
    vulkan_device* device = vulkan_device_of(gpu);
    const uint64_t cap = device->probe.binding_bytes_max;
    float whole[PRODUCT_COLUMNS];
    float pieces[PRODUCT_COLUMNS];
    product p;
    if (weir_vulkan_tune(gpu, &tuning) != WEIR_OK) {
        print_message("skipped: %s\n", weir_last_error());
        skip();
    }
    open_product(&p);
    run_product(&p, whole);
    close_product(&p);
    device->probe.binding_bytes_max = PRODUCT_COLUMNS / 3 * PRODUCT_ROW_BYTES;
    open_product(&p);
    run_product(&p, pieces);
    close_product(&p);
    device->probe.binding_bytes_max = cap;
    assert_memory_equal(pieces, whole, sizeof whole);
    assert_ok(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){0}));
}

static void cuts_that_cannot_be_are_refused(void** state) {
    (void)state;
    assert_status(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){.few_columns = 33}),
                  WEIR_INVALID_ARGUMENT);
    assert_message_has("33 columns");
    assert_status(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){.unit_threads = 48}),
                  WEIR_INVALID_ARGUMENT);
    assert_message_has("48 threads");
    assert_status(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){.held_threads = 16}),
                  WEIR_INVALID_ARGUMENT);
    assert_message_has("16 threads");
    assert_status(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){.unit_x = (weir_vulkan_x)3}),
                  WEIR_INVALID_ARGUMENT);
    assert_message_has("unit_x is 3");
    weir_device* cpu = NULL;
    assert_ok(weir_device_create(&(weir_device_desc){.name = "cpu"}, &cpu));
    assert_status(weir_vulkan_tune(cpu, &(weir_vulkan_tuning){0}), WEIR_INVALID_ARGUMENT);
    weir_device_destroy(cpu);
}

static void keep_line(void* context, weir_log_level level, const char* message) {
    (void)level;
    snprintf(context, 256, "%s", message);
}

static void what_no_product_can_have_is_logged(void** state) {
    (void)state;
    char line[256] = "";
    weir_vulkan_tuning tuning = {.unit_x = WEIR_VULKAN_X_8_BITS, .held_groups = 1};
    if (weir_vulkan_tune(gpu, &tuning) != WEIR_OK) {
        print_message("skipped: the device multiplies no bytes\n");
        skip();
    }
    assert_ok(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){0}));
    weir_device* device = NULL;
    const weir_log log = {.write = keep_line, .context = line, .level = WEIR_LOG_INFO};
    const weir_device_desc desc = {.name = "vulkan", .log = log};
    assert_ok(weir_device_create(&desc, &device));
    line[0] = '\0';
    assert_ok(weir_vulkan_tune(device, &tuning));
    assert_string_equal(line, "");
    tuning.held_groups = UINT32_MAX;
    assert_ok(weir_vulkan_tune(device, &tuning));
    assert_non_null(strstr(line, "no product keeps x: 4294967295 workgroups are wanted"));
    line[0] = '\0';
    tuning.unit_x = WEIR_VULKAN_X_F32; // nothing is kept, and nothing wanted
    assert_ok(weir_vulkan_tune(device, &tuning));
    assert_string_equal(line, "");
    tuning = (weir_vulkan_tuning){.unit_x = WEIR_VULKAN_X_8_BITS,
                                  .few_threads = 32,
                                  .unit_threads = 32,
                                  .held_threads = 256,
                                  .held_groups = 1};
    vulkan_device_of(device)->probe.shared_bytes_max = 16384;
    assert_ok(weir_vulkan_tune(device, &tuning));
    assert_non_null(strstr(line, "bytes of shared memory"));
    weir_device_destroy(device);
}

// Whether a product of rows of F32 takes a rotation of heads of 128 in.
static bool turns_heads_of(int64_t width) {
    const weir_op_constants constants = {.projection = {.turns = true,
                                                        .position = WEIR_PARAM_NONE,
                                                        .rope = {.head_dim = 128, .rotated = 128}}};
    const int64_t shapes[3][2] = {{1, width}, {256, width}, {1, 256}};
    weir_target target;
    weir_view views[3];
    assert_ok(weir_target_find("vulkan", &target));
    for (int i = 0; i < 3; i++) {
        const weir_shape shape = weir_shape_make(2, shapes[i]);
        assert_ok(weir_view_layout(WEIR_DTYPE_F32, &shape, &views[i]));
    }
    for (uint32_t i = 0; i < target.kernel_count; i++) {
        const weir_kernel* kernel = &target.kernels[i];
        if (kernel->op == WEIR_OP_MATMUL_ROPE) {
            return kernel->accepts(&(weir_kernel_use){views, 3, &constants});
        }
    }
    fail_msg("no kernel");
    return false;
}

// A head is bound as a whole: of more bytes than any device binds it is turned by a dispatch of its
// own.
static void heads_that_no_binding_holds_are_not_turned_within_a_product(void** state) {
    (void)state;
    assert_true(turns_heads_of(4096));
    assert_true(turns_heads_of(65536)); // 128 rows are 32 MiB
    assert_false(turns_heads_of(65537));
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
        cmocka_unit_test(products_in_pieces_have_the_bits_of_whole_ones),
        cmocka_unit_test(cuts_that_cannot_be_are_refused),
        cmocka_unit_test(what_no_product_can_have_is_logged),
        cmocka_unit_test(heads_that_no_binding_holds_are_not_turned_within_a_product),
        cmocka_unit_test(the_target_fuses_as_that_of_the_processor_does),
    };
    return cmocka_run_group_tests(tests, open_gpu, close_gpu);
}
