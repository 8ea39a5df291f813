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

static void run_tuned(const tiled* t, const weir_vulkan_tuning* tuning, float* y) {
    const weir_program_desc desc = {
        .schedule = t->schedule, .bindings = t->bindings, .binding_count = t->matrices};
    weir_program* program = NULL;
    assert_ok(weir_vulkan_tune(gpu, tuning));
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

static void run_tiled(const tiled* t, uint32_t columns, weir_vulkan_x x, float* y) {
    run_tuned(t, &(weir_vulkan_tuning){.tile_columns = columns, .tiles_wanted = 1, .tile_x = x}, y);
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

typedef struct deviation {
    double largest;         // of the magnitude of what is added up
    double errors, squares; // sums of the squares of what is wrong and of what is expected
} deviation;

// Against sums in f64 of the numbers that the format defines.
static deviation compare_tiled(const tiled* t, const float* y) {
    deviation found = {0};
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
                const float addend = t->numbers[ROWS * (size_t)t->width + r * COLUMNS + c];
                expected += (double)addend;
                magnitude += fabs((double)addend);
            } else if (t->form == GATED) {
                double up_magnitude;
                const double up = sum_of(t, w[1], r, &up_magnitude);
                magnitude = magnitude * fabs(up) * 1.1 + up_magnitude * fabs(expected);
                expected = expected / (1.0 + exp(-expected)) * up;
            }
            const double error = fabs((double)y[r * COLUMNS + c] - expected);
            assert_true(isfinite(error));
            const double share = magnitude > 0.0 ? error / magnitude : error;
            found.largest = share > found.largest ? share : found.largest;
            found.errors += error * error;
            found.squares += expected * expected;
        }
    }
    return found;
}

static void check_form(product_form form, weir_dtype dtype, int64_t width) {
    static const uint32_t columns[] = {0, 64, 128};
    static float y[ROWS * COLUMNS];
    tiled t = {.form = form, .dtype = dtype, .width = width};
    open_tiled(&t);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        run_tiled(&t, columns[i], WEIR_VULKAN_X_F32, y);
        assert_true(compare_tiled(&t, y).largest <= 4e-6);
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

static void need_halves(void) {
    if (!vulkan_device_of(gpu)->probe.float16) {
        assert_status(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){.tile_x = WEIR_VULKAN_X_F16}),
                      WEIR_UNSUPPORTED);
        print_message("skipped: the device computes on no 16-bit floats\n");
        skip();
    }
}

// Numbers that f16 has not got, too: rows are scaled.
static void check_halves(product_form form, weir_dtype dtype, int64_t width) {
    static const float factors[] = {1.0f, 1e9f, 1e-9f};
    static float y[ROWS * COLUMNS];
    tiled t = {.form = form, .dtype = dtype, .width = width};
    open_tiled(&t);
    const size_t x_count = ROWS * (size_t)width;
    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
        for (size_t k = 0; k < x_count; k++) {
            t.numbers[k] *= factors[i];
        }
        for (uint32_t columns = 64; columns <= 128; columns += 64) {
            run_tiled(&t, columns, WEIR_VULKAN_X_F16, y);
            const deviation found = compare_tiled(&t, y);
            assert_true(found.largest <= 4e-3);
            assert_true(found.errors <= 4e-6 * found.squares); // a few times 2^-11
            assert_true(found.errors > 0.0);                   // it was in halves
        }
        for (size_t k = 0; k < x_count; k++) {
            t.numbers[k] /= factors[i];
        }
    }
    close_tiled(&t);
}

static void products_in_halves_err_as_halves_do(void** state) {
    (void)state;
    need_halves();
    check_halves(PLAIN, WEIR_DTYPE_Q4_0, 160);
    check_halves(ADDED, WEIR_DTYPE_Q5_1, 96);
    check_halves(GATED, WEIR_DTYPE_Q8_0, 96);
    check_halves(PLAIN, WEIR_DTYPE_Q6_K, 256);
}

// Whole numbers with few bits, rows of zeros, and rows of which one number hides the others.
static void what_halves_hold_is_multiplied_exactly(void** state) {
    (void)state;
    static float y[ROWS * COLUMNS];
    need_halves();
    tiled t = {.form = PLAIN, .dtype = WEIR_DTYPE_Q8_0, .width = 96};
    open_tiled(&t);
    uint8_t* bytes = weir_storage_host_pointer(t.bindings[0].view.storage);
    const uint16_t scale = weir_f32_to_f16(0.125f);
    test_random random = {5};
    for (size_t block = 0; block < COLUMNS * 3; block++) {
        memcpy(bytes + block * 34, &scale, sizeof scale);
        for (size_t i = 0; i < 32; i++) {
            bytes[block * 34 + 2 + i] = (uint8_t)(int8_t)(random_u64(&random) % 17 - 8);
        }
    }
    for (size_t k = 0; k < ROWS * 96; k++) {
        const float whole = (float)(random_u64(&random) % 15) - 7.0f;
        t.numbers[k] = k / 96 % 5 == 0 ? 0.0f : ldexpf(whole, (int)(k / 96 % 60) - 30);
    }
    run_tiled(&t, 128, WEIR_VULKAN_X_F16, y);
    const deviation found = compare_tiled(&t, y);
    assert_true(found.squares > 0.0);
    assert_true(found.errors == 0.0);
    close_tiled(&t);
}

static void types_that_are_not_rounded_stay_in_f32(void** state) {
    (void)state;
    static float y[2][ROWS * COLUMNS];
    static const weir_dtype types[] = {WEIR_DTYPE_F16, WEIR_DTYPE_BF16, WEIR_DTYPE_F32,
                                       WEIR_DTYPE_IQ4_NL};
    need_halves();
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        tiled t = {.form = PLAIN, .dtype = types[i], .width = 64};
        open_tiled(&t);
        run_tiled(&t, 64, WEIR_VULKAN_X_F32, y[0]);
        run_tiled(&t, 64, WEIR_VULKAN_X_F16, y[1]);
        assert_memory_equal(y[0], y[1], sizeof y[0]);
        close_tiled(&t);
    }
}

static void kinds_of_x_that_a_product_has_not_are_refused(void** state) {
    (void)state;
    assert_status(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){.tile_x = WEIR_VULKAN_X_8_BITS}),
                  WEIR_INVALID_ARGUMENT);
    assert_message_has("tile_x is 2");
    assert_status(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){.unit_x = WEIR_VULKAN_X_F16}),
                  WEIR_INVALID_ARGUMENT);
    assert_message_has("unit_x is 3");
    bool* float16 = &vulkan_device_of(gpu)->probe.float16;
    const bool has = *float16;
    *float16 = false;
    assert_status(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){.tile_x = WEIR_VULKAN_X_F16}),
                  WEIR_UNSUPPORTED);
    assert_message_has("computes on no 16-bit floats");
    *float16 = has;
}

// What is measured to be faster: on a device that multiplies bytes as fast as numbers.
static void devices_that_round_few_rows_round_many(void** state) {
    (void)state;
    vulkan_device* device = vulkan_device_of(gpu);
    const vulkan_probe found = device->probe;
    device->probe.integer_dot = device->probe.fast_dots = true;
    for (int has_halves = 0; has_halves < 2; has_halves++) {
        device->probe.float16 = has_halves;
        assert_ok(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){0}));
        assert_int_equal(device->tuning.unit_x, WEIR_VULKAN_X_8_BITS);
        assert_int_equal(device->tuning.tile_x, has_halves ? WEIR_VULKAN_X_F16 : WEIR_VULKAN_X_F32);
    }
    device->probe.fast_dots = false;
    assert_ok(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){0}));
    assert_int_equal(device->tuning.tile_x, WEIR_VULKAN_X_F32);
    device->probe = found;
    assert_ok(weir_vulkan_tune(gpu, &(weir_vulkan_tuning){0}));
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
        cmocka_unit_test(products_in_halves_err_as_halves_do),
        cmocka_unit_test(what_halves_hold_is_multiplied_exactly),
        cmocka_unit_test(types_that_are_not_rounded_stay_in_f32),
        cmocka_unit_test(kinds_of_x_that_a_product_has_not_are_refused),
        cmocka_unit_test(devices_that_round_few_rows_round_many),
        cmocka_unit_test(tiles_of_other_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, open_gpu, close_gpu);
}
