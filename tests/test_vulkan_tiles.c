// Products of many rows on a Vulkan device, in tiles of every size.
#include "vulkan_testing.h"

#include <math.h>
#include <weir/program.h>
#include <weir/schedule.h>
#include <weir/vulkan.h>

// More than two tiles of rows and one of 128 columns, and no whole number of tiles.
#define ROWS 133
#define COLUMNS 150
#define MATRICES_MAX 2

typedef enum product_form { PLAIN, ADDED, GATED } product_form;

typedef struct tiled {
    product_form form;
    weir_dtype dtype;
    int64_t width;
    weir_schedule* schedule;
    weir_binding bindings[MATRICES_MAX];
    uint32_t matrices;
    weir_value x, addend, y;
    float* numbers; // of x, then of what is added
} tiled;

static weir_binding new_weights(weir_value value, weir_dtype dtype, const weir_shape* shape) {
    const weir_dtype_info* info = weir_dtype_describe(dtype);
    const size_t elements = (size_t)(shape->dims[0] * shape->dims[1]);
    const size_t byte_size = elements / info->block_elements * info->block_bytes;
    weir_binding binding = {.value = value};
    weir_storage* storage = allocate(gpu, byte_size, WEIR_FILL_NONE, false);
    uint8_t* bytes = weir_storage_host_pointer(storage);
    test_random random = {(uint64_t)dtype * 7 + value};
    for (size_t i = 0; i < byte_size; i++) { // no infinity, no NaN
        bytes[i] = (uint8_t)(random_u64(&random) & (i % 2 == 1 ? 0x3F : 0xFF));
    }
    assert_ok(weir_view_make(storage, 0, dtype, shape, &binding.view));
    return binding;
}

static void open_tiled(tiled* t) {
    const weir_shape x_shape = weir_shape_make(2, (int64_t[]){ROWS, t->width});
    const weir_shape w_shape = weir_shape_make(2, (int64_t[]){COLUMNS, t->width});
    const weir_shape y_shape = weir_shape_make(2, (int64_t[]){ROWS, COLUMNS});
    static const char* names[] = {"w", "up"};
    weir_graph* graph = NULL;
    weir_value products[MATRICES_MAX];
    t->matrices = t->form == GATED ? 2 : 1;
    assert_ok(weir_graph_create(NULL, &graph));
    assert_ok(weir_graph_input(graph, "x", WEIR_DTYPE_F32, &x_shape, WEIR_PARAM_NONE, &t->x));
    for (uint32_t m = 0; m < t->matrices; m++) {
        weir_value w;
        assert_ok(weir_graph_weight(graph, names[m], t->dtype, &w_shape, &w));
        assert_ok(weir_graph_matmul(graph, t->x, w, &products[m]));
        t->bindings[m] = new_weights(w, t->dtype, &w_shape);
    }
    t->y = products[0];
    if (t->form == ADDED) {
        assert_ok(weir_graph_input(graph, "addend", WEIR_DTYPE_F32, &y_shape, WEIR_PARAM_NONE,
                                   &t->addend));
        assert_ok(weir_graph_add(graph, products[0], t->addend, &t->y));
    } else if (t->form == GATED) {
        assert_ok(weir_graph_silu_gate(graph, products[0], products[1], &t->y));
    }
    assert_ok(weir_graph_output(graph, t->y));
    assert_ok(weir_schedule_create(NULL, graph, weir_device_target(gpu), NULL, &t->schedule));
    assert_int_equal(weir_schedule_report_of(t->schedule)->dispatches, 1);
    weir_graph_destroy(graph);
    const size_t count = ROWS * (size_t)t->width + ROWS * COLUMNS;
    test_random random = {3};
    t->numbers = malloc(count * sizeof(float));
    assert_non_null(t->numbers);
    for (size_t i = 0; i < count; i++) {
        t->numbers[i] = (float)(random_u64(&random) % 2001) / 1000.0f - 1.0f;
    }
}

static void close_tiled(tiled* t) {
    for (uint32_t m = 0; m < t->matrices; m++) {
        weir_storage_release(t->bindings[m].view.storage);
    }
    weir_schedule_destroy(t->schedule);
    free(t->numbers);
}

static void run_tiled(const tiled* t, uint32_t columns, float* y) {
    const weir_vulkan_tuning tuning = {.tile_columns = columns, .tiles_wanted = 1};
    const weir_program_desc desc = {
        .schedule = t->schedule, .bindings = t->bindings, .binding_count = t->matrices};
    weir_program* program = NULL;
    assert_ok(weir_vulkan_tune(gpu, &tuning));
    assert_ok(weir_program_create(gpu, &desc, &program));
    const size_t x_count = ROWS * (size_t)t->width;
    assert_ok(weir_program_write(program, t->x, t->numbers, x_count * sizeof(float)));
    if (t->form == ADDED) {
        assert_ok(weir_program_write(program, t->addend, t->numbers + x_count,
                                     ROWS * COLUMNS * sizeof(float)));
    }
    assert_ok(weir_program_run(program, NULL, 0));
    memcpy(y, weir_program_contents(program, t->y), ROWS * COLUMNS * sizeof *y);
    weir_program_destroy(program);
    assert_ok(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){0}));
}

// The sum of row r and column c of a product, and of the magnitudes of what is added up in it.
static double sum_of(const tiled* t, const float* w, size_t r, double* magnitude) {
    double sum = 0.0;
    *magnitude = 0.0;
    for (int64_t k = 0; k < t->width; k++) {
        const double part = (double)w[k] * (double)t->numbers[r * (size_t)t->width + (size_t)k];
        sum += part;
        *magnitude += fabs(part);
    }
    return sum;
}

static void decode_column(const tiled* t, uint32_t m, size_t c, float* w) {
    const weir_view* view = &t->bindings[m].view;
    const uint8_t* bytes = weir_storage_host_pointer(view->storage);
    assert_ok(weir_dtype_to_f32(t->dtype, bytes + c * (uint64_t)view->strides[0], t->width, w));
}

// Against sums in f64 of the numbers that the format defines.
static void check_tiled(const tiled* t, const float* y) {
    float w[MATRICES_MAX][512];
    assert_true(t->width <= 512);
    for (size_t c = 0; c < COLUMNS; c++) {
        for (uint32_t m = 0; m < t->matrices; m++) {
            decode_column(t, m, c, w[m]);
        }
        for (size_t r = 0; r < ROWS; r++) {
            double magnitude;
            double expected = sum_of(t, w[0], r, &magnitude);
            if (t->form == ADDED) {
                expected += (double)t->numbers[ROWS * (size_t)t->width + r * COLUMNS + c];
            } else if (t->form == GATED) {
                double up_magnitude;
                const double up = sum_of(t, w[1], r, &up_magnitude);
                magnitude = magnitude * fabs(up) * 1.1 + up_magnitude * fabs(expected);
                expected = expected / (1.0 + exp(-expected)) * up;
            }
            assert_true(fabs((double)y[r * COLUMNS + c] - expected) <= 4e-6 * (magnitude + 1.0));
        }
    }
}

static void check_form(product_form form, weir_dtype dtype, int64_t width) {
    static const uint32_t columns[] = {0, 64, 128};
    static float y[ROWS * COLUMNS];
    tiled t = {.form = form, .dtype = dtype, .width = width};
    open_tiled(&t);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        run_tiled(&t, columns[i], y);
        check_tiled(&t, y);
    }
    close_tiled(&t);
}

static void products_are_right_in_tiles_of_every_size(void** state) {
    (void)state;
    check_form(PLAIN, WEIR_DTYPE_Q4_0, 160);
    check_form(ADDED, WEIR_DTYPE_F16, 84);
    check_form(ADDED, WEIR_DTYPE_F32, 37); // rows of x begin anywhere
    check_form(GATED, WEIR_DTYPE_Q8_0, 96);
    check_form(GATED, WEIR_DTYPE_BF16, 20); // one step and a part
    check_form(PLAIN, WEIR_DTYPE_Q4_K, 256);
}

static void tiles_of_other_sizes_are_refused(void** state) {
    (void)state;
    assert_status(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){.tile_columns = 256}),
                  WEIR_INVALID_ARGUMENT);
    assert_message_has("tiles of 256 columns");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_right_in_tiles_of_every_size),
        cmocka_unit_test(tiles_of_other_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, open_gpu, close_gpu);
}
