// The kernels for AVX-512 against a plain f64 reference. Products with quantised weights round x to
// 8 bits; the reference rounds it the same way, so that nothing else may differ.
#include "kernel_testing.h"

#include "backends/cpu/cpu_target.h"

static test_random random_state = {0xA512u};

// The kernel that a schedule would take for a run.
static const weir_kernel* kernel_for(weir_op_kind op, const kernel_run* run) {
    const weir_target* target = weir_cpu_target_avx512();
    weir_view views[KERNEL_OPERANDS];
    kernel_views(run, views);
    const weir_kernel_use use = {.operands = views, .operand_count = run->operand_count};
    for (uint32_t i = 0; i < target->kernel_count; i++) {
        const weir_kernel* kernel = &target->kernels[i];
        if (kernel->op == op && kernel->accepts(&use)) {
            assert_non_null(strstr(kernel->name, "avx512"));
            return kernel;
        }
    }
    fail_msg("no kernel");
    return NULL;
}

static bool is_float(weir_dtype dtype) {
    return dtype == WEIR_DTYPE_F32 || dtype == WEIR_DTYPE_F16 || dtype == WEIR_DTYPE_BF16;
}

// A row of x as the quantised kernels see it: 8 bits, with a scale for each 32 elements.
static void round_row(const float* x, int64_t count, double* rounded) {
    for (int64_t begin = 0; begin < count; begin += 32) {
        const int64_t end = begin + 32 < count ? begin + 32 : count;
        float largest = 0.0f;
        for (int64_t i = begin; i < end; i++) {
            largest = fmaxf(largest, fabsf(x[i]));
        }
        const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
        for (int64_t i = begin; i < end; i++) {
            rounded[i] = (double)nearbyintf(x[i] * inverse) * (double)(largest / 127.0f);
        }
    }
}

static void widen_row(const float* x, int64_t count, double* wide) {
    for (int64_t i = 0; i < count; i++) {
        wide[i] = (double)x[i];
    }
}

// The products of all rows, and the sums of their magnitudes, by which errors are measured.
static void reference_matmul(const tensor* x, const tensor* w, double* result, double* scale) {
    const int64_t k = x->columns;
    double* row = calloc((size_t)k, sizeof *row);
    double* weights = calloc((size_t)(w->rows * k), sizeof *weights);
    assert_true(row && weights);
    for (int64_t j = 0; j < w->rows; j++) {
        for (int64_t c = 0; c < k; c++) {
            weights[j * k + c] = tensor_at(w, j, c);
        }
    }
    for (int64_t i = 0; i < x->rows; i++) {
        const float* source = (const float*)(const void*)tensor_row(x, i);
        (is_float(w->view.dtype) ? widen_row : round_row)(source, k, row);
        for (int64_t j = 0; j < w->rows; j++) {
            double sum = 0.0;
            double size = 0.0;
            for (int64_t c = 0; c < k; c++) {
                sum += row[c] * weights[j * k + c];
                size += fabs(row[c] * weights[j * k + c]);
            }
            result[i * w->rows + j] = sum;
            scale[i * w->rows + j] = size;
        }
    }
    free(row);
    free(weights);
}

static void check_matmul(weir_dtype dtype, int64_t m, int64_t n, int64_t k) {
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, k, 3);
    tensor w = new_random(&random_state, dtype, n, k, 1);
    tensor y = new_tensor(WEIR_DTYPE_F32, m, n, 2);
    double* result = calloc((size_t)(m * n), sizeof *result);
    double* scale = calloc((size_t)(m * n), sizeof *scale);
    assert_true(result && scale);
    reference_matmul(&x, &w, result, scale);
    kernel_run run = {NULL, {&x, &w, &y}, 3, {0}, {0}};
    run.kernel = kernel_for(WEIR_OP_MATMUL, &run);
    // Types with minima cancel large sums: the magnitudes of the products do not show that.
    check_kernel(&run, result, scale, is_float(dtype) ? 4e-6 : 4e-5, 0, &random_state);
    free(result);
    free(scale);
    free_tensor(&x);
    free_tensor(&w);
    free_tensor(&y);
}

// y = x * w + c, in place on c too; y = silu(x * w) * (x * v).
static void check_fused(weir_dtype dtype, weir_dtype other, int64_t m, int64_t n, int64_t k) {
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, k, 0);
    tensor w = new_random(&random_state, dtype, n, k, 1);
    tensor v = new_random(&random_state, other, n, k, 0);
    tensor c = new_random(&random_state, WEIR_DTYPE_F32, m, n, 2);
    tensor y = new_tensor(WEIR_DTYPE_F32, m, n, 2);
    const size_t count = (size_t)(m * n);
    double* numbers[4]; // results of w, their scale, results of v, their scale
    for (int i = 0; i < 4; i++) {
        numbers[i] = calloc(count, sizeof(double));
        assert_non_null(numbers[i]);
    }
    reference_matmul(&x, &w, numbers[0], numbers[1]);
    reference_matmul(&x, &v, numbers[2], numbers[3]);
    double* expected = calloc(count, sizeof *expected);
    double* scale = calloc(count, sizeof *scale);
    assert_true(expected && scale);
    for (size_t i = 0; i < count; i++) {
        expected[i] = numbers[0][i] + tensor_at(&c, (int64_t)i / n, (int64_t)i % n);
        scale[i] = numbers[1][i] + 2.0;
    }
    kernel_run add = {NULL, {&x, &w, &c, &y}, 4, {0}, {0}};
    add.kernel = kernel_for(WEIR_OP_MATMUL_ADD, &add);
    check_kernel(&add, expected, scale, 4e-5, 1u << 2, &random_state);
    for (size_t i = 0; i < count; i++) {
        const double gate = numbers[0][i];
        const double up = numbers[2][i];
        expected[i] = gate / (1.0 + exp(-gate)) * up;
        // silu grows at most by 1.1 for each unit of its argument.
        scale[i] = 1.1 * numbers[1][i] * (fabs(up) + 1e-3 * numbers[3][i]) +
                   (fabs(gate) + 1.0) * numbers[3][i];
    }
    kernel_run gated = {NULL, {&x, &w, &v, &y}, 4, {0}, {0}};
    gated.kernel = kernel_for(WEIR_OP_GATE_UP, &gated);
    check_kernel(&gated, expected, scale, 4e-5, 0, &random_state);
    for (int i = 0; i < 4; i++) {
        free(numbers[i]);
    }
    free(expected);
    free(scale);
    free_tensor(&x);
    free_tensor(&w);
    free_tensor(&v);
    free_tensor(&c);
    free_tensor(&y);
}

static void fused_products_agree(void** state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 5, 256}, {3, 33, 512}, {6, 40, 256}, {66, 300, 256}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const int64_t* shape = shapes[i];
        check_fused(WEIR_DTYPE_Q4_0, WEIR_DTYPE_Q4_0, shape[0], shape[1], shape[2]);
        check_fused(WEIR_DTYPE_Q4_K, WEIR_DTYPE_Q6_K, shape[0], shape[1], shape[2]);
        check_fused(WEIR_DTYPE_Q4_1, WEIR_DTYPE_MXFP4, shape[0], shape[1], shape[2]);
        check_fused(WEIR_DTYPE_IQ4_XS, WEIR_DTYPE_Q2_K, shape[0], shape[1], shape[2]);
        check_fused(WEIR_DTYPE_F16, WEIR_DTYPE_F32, shape[0], shape[1], shape[2]);
    }
}

static void products_agree_for_every_weight_type(void** state) {
    (void)state;
    for (uint32_t i = 1; i < WEIR_DTYPE_COUNT; i++) {
        const weir_dtype dtype = (weir_dtype)i;
        if (weir_dtype_is_decodable(dtype)) {
            const int64_t block = weir_dtype_describe(dtype)->block_elements;
            check_matmul(dtype, 1, 5, block);
            check_matmul(dtype, 2, 9, 3 * block);
            check_matmul(dtype, 3, 18, 3 * block);
            check_matmul(dtype, 4, 33, block == 256 ? 512 : 11 * block);
            check_matmul(dtype, 5, 17, block == 256 ? 512 : 11 * block);
            check_matmul(dtype, 19, 81, block == 256 ? 768 : 9 * block);
            check_matmul(dtype, 67, 130, block);
            for (int64_t k = block; block == 32 && k < 512; k += 3 * block) {
                check_matmul(dtype, 1 + k % 3, 4, k); // every length of the last chunk
                check_matmul(dtype, 6, 3, k);
            }
        }
    }
}

static void products_agree_on_edge_shapes(void** state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1},    {1, 1, 7},   {2, 3, 8},    {1, 16, 255},
                                        {7, 17, 256}, {8, 4, 257}, {130, 20, 9}, {64, 2, 33},
                                        {1, 70, 520}, {4, 15, 64}, {65, 65, 129}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        check_matmul(WEIR_DTYPE_F32, shapes[i][0], shapes[i][1], shapes[i][2]);
        check_matmul(WEIR_DTYPE_F16, shapes[i][0], shapes[i][1], shapes[i][2]);
    }
}

// Rows of x of more chunks than are held at a time.
static void products_agree_for_long_rows(void** state) {
    (void)state;
    check_matmul(WEIR_DTYPE_Q8_0, 1, 3, 256 * 97 + 32);
    check_matmul(WEIR_DTYPE_Q4_K, 3, 2, 256 * 98);
    check_matmul(WEIR_DTYPE_Q6_K, 6, 2, 256 * 98);
}

static void rows_of_zeros_give_zeros(void** state) {
    (void)state;
    for (int64_t m = 1; m < 12; m += 5) {
        tensor x = new_tensor(WEIR_DTYPE_F32, m, 64, 0);
        tensor w = new_random(&random_state, WEIR_DTYPE_Q8_0, 20, 64, 0);
        tensor y = new_tensor(WEIR_DTYPE_F32, m, 20, 0);
        for (int64_t i = 0; i < m; i++) {
            memset(tensor_row(&x, i), 0, x.row_bytes);
        }
        kernel_run run = {NULL, {&x, &w, &y}, 3, {0}, {0}};
        run.kernel = kernel_for(WEIR_OP_MATMUL, &run);
        assert_ok(run_tiles(&run, 0, &random_state));
        for (int64_t i = 0; i < m * 20; i++) {
            assert_true(tensor_at(&y, i / 20, i % 20) == 0.0);
        }
        free_tensor(&x);
        free_tensor(&w);
        free_tensor(&y);
    }
}

int main(void) {
    if (!weir_cpu_target_avx512()) {
        print_message("this processor has no AVX-512 with VNNI\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_agree_for_every_weight_type),
        cmocka_unit_test(products_agree_on_edge_shapes),
        cmocka_unit_test(products_agree_for_long_rows),
        cmocka_unit_test(rows_of_zeros_give_zeros),
        cmocka_unit_test(fused_products_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
