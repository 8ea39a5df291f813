// The products of every instruction set that this processor has, against a plain f64 reference.
// Where kernels round x, to 8 bits or with weights to 16, the reference rounds in the same way, so
// that nothing else may differ.
#include "kernel_testing.h"

#include "backends/cpu/cpu_features.h"
#include "backends/cpu/cpu_target.h"
#include "backends/cpu/products/products.h"

static test_random random_state = {0xA512u};
static const weir_target* target; // whose kernels are tested

// The kernel that a schedule would take for a run.
static const weir_kernel* kernel_for(weir_op_kind op, const kernel_run* run) {
    weir_view views[KERNEL_OPERANDS];
    kernel_views(run, views);
    const weir_kernel_use use = {.operands = views, .operand_count = run->operand_count};
    for (uint32_t i = 0; i < target->kernel_count; i++) {
        const weir_kernel* kernel = &target->kernels[i];
        if (kernel->op == op && kernel->accepts(&use)) {
            assert_true(strcmp(kernel->name, weir_op_name(op)) != 0); // not the plain one
            return kernel;
        }
    }
    fail_msg("no kernel");
    return NULL;
}

static bool is_float(weir_dtype dtype) {
    return dtype == WEIR_DTYPE_F32 || dtype == WEIR_DTYPE_F16 || dtype == WEIR_DTYPE_BF16;
}

static void round_row_to_half(weir_dtype dtype, const float* x, int64_t count, double* rounded) {
    for (int64_t i = 0; i < count; i++) {
        uint16_t half = 0;
        float number = 0.0f;
        assert_ok(weir_dtype_from_f32(dtype, &x[i], 1, &half));
        assert_ok(weir_dtype_to_f32(dtype, &half, 1, &number));
        rounded[i] = (double)number;
    }
}

// A row of x as one of the targets sees it for weights of BF16 and many rows of x.
static void round_row_to_bf16(const float* x, int64_t count, double* rounded) {
    round_row_to_half(WEIR_DTYPE_BF16, x, count, rounded);
}

#define INVERSE_MAX 0x1p126f

static float inverse_of(float most, float level) {
    return most > 0.0f ? fminf(level / most, INVERSE_MAX) : 0.0f;
}

// Adds in the order of the kernels: another one would move some numbers across a half.
static float sum_squares(const float numbers[CPU_FIXED_GROUP]) {
    float lanes[16] = {0.0f};
    for (int i = 0; i < CPU_FIXED_GROUP; i++) {
        lanes[i % 16] = fmaf(numbers[i], numbers[i], lanes[i % 16]);
    }
    for (int width = 8; width > 0; width /= 2) {
        for (int i = 0; i < width; i++) {
            lanes[i] += lanes[i + width];
        }
    }
    return lanes[0];
}

// A row of x and one of w as they meet as 16-bit integers: see products.h.
static void round_row_to_fixed(const float* x, int64_t count, double* rounded) {
    for (int64_t begin = 0; begin < count; begin += CPU_FIXED_GROUP) {
        const int64_t left = count - begin < CPU_FIXED_GROUP ? count - begin : CPU_FIXED_GROUP;
        float numbers[CPU_FIXED_GROUP] = {0.0f};
        float largest = 0.0f;
        for (int64_t i = 0; i < left; i++) {
            largest = fmaxf(largest, fabsf(x[begin + i]));
        }
        const float inverse = inverse_of(largest, 1.0f);
        for (int64_t i = 0; i < left; i++) {
            numbers[i] = x[begin + i] * inverse;
        }
        const float factor = inverse_of(sqrtf(sum_squares(numbers)), CPU_FIXED_NORM - 5.0f);
        for (int64_t i = 0; i < left; i++) {
            const double q = (double)nearbyintf(numbers[i] * factor);
            rounded[begin + i] =
                factor > 0.0f ? q * (double)(1.0f / factor * (1.0f / inverse)) : 0.0;
        }
    }
}

static void round_weights_to_fixed(const tensor* w, tensor* rounded) {
    float* row = calloc((size_t)w->columns, sizeof *row);
    assert_non_null(row);
    for (int64_t j = 0; j < w->rows; j++) {
        assert_ok(weir_dtype_to_f32(w->view.dtype, tensor_row(w, j), w->columns, row));
        for (int64_t begin = 0; begin < w->columns; begin += CPU_CHUNK) {
            const int64_t end = begin + CPU_CHUNK < w->columns ? begin + CPU_CHUNK : w->columns;
            float largest = 0.0f;
            for (int64_t i = begin; i < end; i++) {
                largest = fmaxf(largest, fabsf(row[i]));
            }
            const float inverse = inverse_of(largest, CPU_FIXED_WEIGHT);
            for (int64_t i = begin; i < end && inverse > 0.0f; i++) {
                row[i] = nearbyintf(row[i] * inverse) / inverse;
            }
        }
        memcpy(tensor_row(rounded, j), row, (size_t)w->columns * sizeof *row);
    }
    free(row);
}

static bool can_be_fixed(const tensor* w) {
    const bool rounds_bf16 = strcmp(target->name, "cpu:avx512_bf16") == 0;
    return strncmp(target->name, "cpu:avx512", 10) == 0 &&
           (w->view.dtype == WEIR_DTYPE_F16 || (w->view.dtype == WEIR_DTYPE_BF16 && !rounds_bf16));
}

// Whether many rows of x meet both matrices as 16-bit integers.
static bool is_fixed(const tensor* x, const tensor* w, const tensor* other) {
    return x->rows >= CPU_FIXED_ROWS && x->columns >= CPU_CHUNK && can_be_fixed(w) &&
           can_be_fixed(other);
}

static bool rounds_to_bf16(const tensor* x, const tensor* w) {
    return strcmp(target->name, "cpu:avx512_bf16") == 0 && w->view.dtype == WEIR_DTYPE_BF16 &&
           x->rows > CPU_FEW_ROWS;
}

// A row of x as AVX-512 sees it for types with integers for scales: that of each 32 elements is one
// of 127 multiples of a unit of 256, the next one above what they need.
static void round_row_by_factors(const float* x, int64_t count, double* rounded) {
    for (int64_t begin = 0; begin < count; begin += 256) {
        float largest[8] = {0.0f};
        float most = 0.0f;
        for (int64_t i = 0; i < 256; i++) {
            largest[i / 32] = fmaxf(largest[i / 32], fabsf(x[begin + i]));
            most = fmaxf(most, fabsf(x[begin + i]));
        }
        for (int64_t i = 0; i < 256; i++) {
            const float ratio = most > 0.0f ? largest[i / 32] / most : 0.0f;
            const float d = ceilf(ratio * 127.0f) * (most / 16129.0f);
            const float inverse = d > 0.0f ? 1.0f / d : 0.0f;
            rounded[begin + i] = (double)nearbyintf(x[begin + i] * inverse) * (double)d;
        }
    }
}

static bool rounds_by_factors(const tensor* w) {
    return strncmp(target->name, "cpu:avx512", 10) == 0 &&
           (w->view.dtype == WEIR_DTYPE_Q4_K || w->view.dtype == WEIR_DTYPE_Q5_K);
}

// `other` is a matrix that meets x beside w, or w.
static void reference_matmul(const tensor* x, const tensor* w, const tensor* other, double* result,
                             double* scale) {
    if (is_fixed(x, w, other)) {
        tensor rounded = new_tensor(WEIR_DTYPE_F32, w->rows, w->columns, 0);
        round_weights_to_fixed(w, &rounded);
        product_reference(x, &rounded, round_row_to_fixed, result, scale);
        free_tensor(&rounded);
        return;
    }
    void (*const round)(const float*, int64_t, double*) = rounds_to_bf16(x, w) ? round_row_to_bf16
                                                          : is_float(w->view.dtype) ? widen_row
                                                          : rounds_by_factors(w)
                                                              ? round_row_by_factors
                                                              : round_row;
    product_reference(x, w, round, result, scale);
}

static void check_product(const tensor* x, const tensor* w) {
    tensor y = new_tensor(WEIR_DTYPE_F32, x->rows, w->rows, 2);
    reference expected = new_reference(x->rows, w->rows);
    reference_matmul(x, w, w, expected.result, expected.scale);
    kernel_run run = {NULL, {x, w, &y}, 3, {0}, {0}};
    run.kernel = kernel_for(WEIR_OP_MATMUL, &run);
    // Types with minima cancel large sums: the magnitudes of the products do not show that.
    check_kernel(&run, expected.result, expected.scale, is_float(w->view.dtype) ? 4e-6 : 4e-5, 0,
                 &random_state);
    free_reference(&expected);
    free_tensor(&y);
}

static void check_matmul(weir_dtype dtype, int64_t m, int64_t n, int64_t k) {
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, k, 3);
    tensor w = new_random(&random_state, dtype, n, k, 1);
    check_product(&x, &w);
    free_tensor(&x);
    free_tensor(&w);
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
    reference_matmul(&x, &w, &w, numbers[0], numbers[1]);
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
    if (is_fixed(&x, &w, &w) != is_fixed(&x, &w, &v)) {
        reference_matmul(&x, &w, &v, numbers[0], numbers[1]);
    }
    reference_matmul(&x, &v, &w, numbers[2], numbers[3]);
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

// Which weight rows are taken together depends on how many there are: each row alone has the bits
// that it has among the others.
static void check_rows_alone(weir_dtype dtype, int64_t m, int64_t n, int64_t k) {
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, k, 0);
    tensor w = new_random(&random_state, dtype, n, k, 0);
    tensor y = new_tensor(WEIR_DTYPE_F32, m, n, 0);
    kernel_run run = {NULL, {&x, &w, &y}, 3, {0}, {0}};
    run.kernel = kernel_for(WEIR_OP_MATMUL, &run);
    assert_ok(run_tiles(&run, 0, &random_state));
    for (int64_t row = 0; row < n; row++) {
        tensor alone = new_tensor(dtype, 1, k, 0);
        tensor one = new_tensor(WEIR_DTYPE_F32, m, 1, 0);
        memcpy(tensor_row(&alone, 0), tensor_row(&w, row), w.row_bytes);
        kernel_run single = {run.kernel, {&x, &alone, &one}, 3, {0}, {0}};
        assert_ok(run_tiles(&single, 0, &random_state));
        for (int64_t i = 0; i < m; i++) {
            assert_memory_equal(tensor_row(&one, i),
                                tensor_row(&y, i) + (size_t)row * sizeof(float), sizeof(float));
        }
        free_tensor(&alone);
        free_tensor(&one);
    }
    free_tensor(&x);
    free_tensor(&w);
    free_tensor(&y);
}

static void rows_do_not_depend_on_their_neighbours(void** state) {
    (void)state;
    static const weir_dtype dtypes[] = {WEIR_DTYPE_F32,  WEIR_DTYPE_F16,  WEIR_DTYPE_BF16,
                                        WEIR_DTYPE_Q8_0, WEIR_DTYPE_Q4_K, WEIR_DTYPE_Q5_K};
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        for (int64_t m = 1; m <= 4; m++) {
            check_rows_alone(dtypes[i], m, 19, 256);
        }
    }
    check_rows_alone(WEIR_DTYPE_F16, 1, 6, 77);
    for (int64_t m = 1; m <= 4; m++) {
        check_rows_alone(WEIR_DTYPE_F16, m, 7, 2051);
        if (m <= 2) {
            check_rows_alone(WEIR_DTYPE_BF16, m, 193, 2819);
        }
    }
}

static void fused_products_agree(void** state) {
    (void)state;
    static const int64_t shapes[][3] = {
        {1, 5, 256}, {2, 150, 512}, {3, 33, 512}, {6, 40, 256}, {66, 300, 256}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const int64_t* shape = shapes[i];
        check_fused(WEIR_DTYPE_Q4_0, WEIR_DTYPE_Q4_0, shape[0], shape[1], shape[2]);
        check_fused(WEIR_DTYPE_Q4_K, WEIR_DTYPE_Q6_K, shape[0], shape[1], shape[2]);
        check_fused(WEIR_DTYPE_Q5_K, WEIR_DTYPE_Q4_K, shape[0], shape[1], shape[2]);
        check_fused(WEIR_DTYPE_Q4_1, WEIR_DTYPE_MXFP4, shape[0], shape[1], shape[2]);
        check_fused(WEIR_DTYPE_IQ4_XS, WEIR_DTYPE_Q2_K, shape[0], shape[1], shape[2]);
        check_fused(WEIR_DTYPE_F16, WEIR_DTYPE_F32, shape[0], shape[1], shape[2]);
    }
    check_fused(WEIR_DTYPE_F16, WEIR_DTYPE_BF16, 21, 33, 300);
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
            check_matmul(dtype, 1, 131, 3 * block); // more columns than a run has
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
    static const int64_t shapes[][3] = {{1, 1, 1},    {1, 1, 7},   {2, 3, 8},     {1, 16, 255},
                                        {7, 17, 256}, {8, 4, 257}, {130, 20, 9},  {64, 2, 33},
                                        {1, 70, 520}, {4, 15, 64}, {65, 65, 129}, {14, 18, 1100}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        check_matmul(WEIR_DTYPE_F32, shapes[i][0], shapes[i][1], shapes[i][2]);
        check_matmul(WEIR_DTYPE_F16, shapes[i][0], shapes[i][1], shapes[i][2]);
        check_matmul(WEIR_DTYPE_BF16, shapes[i][0], shapes[i][1], shapes[i][2]);
    }
}

// Rows of x are taken in blocks of several sizes.
static void every_number_of_rows_agrees(void** state) {
    (void)state;
    static const weir_dtype dtypes[] = {WEIR_DTYPE_Q8_0, WEIR_DTYPE_Q4_0, WEIR_DTYPE_Q4_K,
                                        WEIR_DTYPE_Q5_K, WEIR_DTYPE_Q6_K, WEIR_DTYPE_F16};
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        for (int64_t m = 1; m <= 14; m++) {
            check_matmul(dtypes[i], m, 19, 256);
        }
        check_matmul(dtypes[i], 64, 15, 512);
        check_matmul(dtypes[i], 65, 16, 256);
    }
    for (int64_t m = 19; m <= 28; m++) { // from 20 on F16 is multiplied as 16-bit integers
        check_matmul(WEIR_DTYPE_F16, m, 17, 256 + 31 * (m - 19));
        check_matmul(WEIR_DTYPE_BF16, m, 15, 511 - m);
    }
}

// Rows of x of more chunks than are held at a time.
static void products_agree_for_long_rows(void** state) {
    (void)state;
    check_matmul(WEIR_DTYPE_Q8_0, 1, 3, 256 * 97 + 32);
    check_matmul(WEIR_DTYPE_Q4_0, 2, 12, 256 * 96);
    check_matmul(WEIR_DTYPE_Q4_0, 4, 5, 256 * 97);
    check_matmul(WEIR_DTYPE_Q4_K, 1, 12, 256 * 97);
    check_matmul(WEIR_DTYPE_Q4_K, 2, 70, 256 * 97);
    check_matmul(WEIR_DTYPE_Q4_K, 3, 2, 256 * 98);
    check_matmul(WEIR_DTYPE_Q6_K, 6, 2, 256 * 98);
    check_matmul(WEIR_DTYPE_Q4_0, 130, 33, 256 * 28);
    check_matmul(WEIR_DTYPE_F16, 130, 33, 256 * 28);
}

// More rows of x than a unit has: what a worker holds of them is made anew for each unit of rows.
static void products_agree_for_many_rows(void** state) {
    (void)state;
    check_matmul(WEIR_DTYPE_Q4_0, 140, 70, 512);
    check_matmul(WEIR_DTYPE_Q4_K, 257, 37, 256);
    check_matmul(WEIR_DTYPE_F16, 260, 35, 1040);
    check_matmul(WEIR_DTYPE_BF16, 129, 37, 40);
    check_matmul(WEIR_DTYPE_BF16, 13, 21, 4096 + 77);
    check_fused(WEIR_DTYPE_Q8_0, WEIR_DTYPE_Q6_K, 140, 40, 256);
}

// Rows far apart are read in turn: an odd number of them, a short last chunk, rows of x of more
// chunks than are held at a time, and long ones, which more weight rows share.
static void products_agree_for_large_matrices(void** state) {
    (void)state;
    check_matmul(WEIR_DTYPE_Q8_0, 1, 1989, 1056);
    check_matmul(WEIR_DTYPE_Q8_0, 2, 81, 256 * 97 + 32);
    check_fused(WEIR_DTYPE_Q8_0, WEIR_DTYPE_Q4_K, 1, 1989, 1024); // not of one type
    check_fused(WEIR_DTYPE_Q8_0, WEIR_DTYPE_Q8_0, 3, 1989, 1056);
    for (int64_t m = 1; m <= 4; m++) {
        check_matmul(WEIR_DTYPE_F16, m, 11 + m, 2048 + 8 * m);
        check_matmul(WEIR_DTYPE_F32, m, 2 * m, 2049);
        check_matmul(WEIR_DTYPE_F16, m, 191 + 7 * m, 2816 + 8 * m);
        check_fused(WEIR_DTYPE_F16, WEIR_DTYPE_F16, m, 21 + m, 2048);
        check_fused(WEIR_DTYPE_F16, WEIR_DTYPE_F16, m, 95 + m, 2816);
        check_fused(WEIR_DTYPE_F16, WEIR_DTYPE_BF16, m, 67, 2080);
    }
}

// A pass with fewer rows than its bound, down to none.
static void products_of_no_rows_touch_nothing(void** state) {
    (void)state;
    static const weir_dtype dtypes[] = {WEIR_DTYPE_F32, WEIR_DTYPE_F16, WEIR_DTYPE_BF16,
                                        WEIR_DTYPE_Q8_0, WEIR_DTYPE_Q4_K};
    for (uint32_t i = 0; i < 3 * sizeof dtypes / sizeof *dtypes; i++) {
        tensor x = new_random(&random_state, WEIR_DTYPE_F32, 2 + i % 3 * 8, 2048, 0);
        tensor w = new_random(&random_state, dtypes[i / 3], 9, 2048, 0);
        tensor y = new_tensor(WEIR_DTYPE_F32, x.rows, 9, 0);
        kernel_run run = {NULL, {&x, &w, &y}, 3, {0}, {0}};
        run.kernel = kernel_for(WEIR_OP_MATMUL, &run);
        weir_view views[KERNEL_OPERANDS];
        kernel_views(&run, views);
        views[0].shape.dims[0] = views[2].shape.dims[0] = 0;
        void* pointers[KERNEL_OPERANDS] = {NULL, tensor_row(&w, 0), NULL};
        const weir_kernel_call call = {views,           pointers, 3, 0, 1, &(weir_op_constants){0},
                                       (uint64_t[]){0}, NULL};
        assert_ok(run.kernel->run(&call));
        free_tensor(&x);
        free_tensor(&w);
        free_tensor(&y);
    }
}

static void rows_of_zeros_give_zeros(void** state) {
    (void)state;
    for (int64_t m = 1; m < 12; m++) {
        tensor x = new_tensor(WEIR_DTYPE_F32, m, 256, 0);
        tensor w = new_random(&random_state, m % 2 ? WEIR_DTYPE_Q8_0 : WEIR_DTYPE_Q4_K, 20, 256, 0);
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

// Neighbours of very different magnitudes share what x is rounded with, and all of them may be
// large or small.
static void x_may_have_any_magnitude(void** state) {
    (void)state;
    static const weir_dtype dtypes[] = {WEIR_DTYPE_Q8_0, WEIR_DTYPE_Q4_K, WEIR_DTYPE_Q5_K};
    static const float magnitudes[] = {1.0f, 1e-25f, 1e25f};
    for (int i = 0; i < 9; i++) {
        for (int64_t m = 1; m <= 5; m += 4) {
            tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, 512, 0);
            tensor w = new_random(&random_state, dtypes[i / 3], 6, 512, 0);
            for (int64_t at = 0; at < m * 512; at++) {
                float* number = (float*)(void*)(tensor_row(&x, 0) + 4 * at);
                *number = ldexpf(*number * magnitudes[i % 3], -(int)(at / 32 % 8 * 3));
            }
            check_product(&x, &w);
            free_tensor(&x);
            free_tensor(&w);
        }
    }
}

// Numbers whose scales are no normal ones come to nothing where these are multiples of a unit, and
// to next to nothing elsewhere.
static void the_smallest_x_gives_next_to_nothing(void** state) {
    (void)state;
    for (int64_t m = 1; m <= 5; m += 4) {
        tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, 256, 0);
        tensor w = new_random(&random_state, WEIR_DTYPE_Q4_K, 20, 256, 0);
        tensor y = new_tensor(WEIR_DTYPE_F32, m, 20, 0);
        for (int64_t at = 0; at < m * 256; at++) {
            float* number = (float*)(void*)(tensor_row(&x, 0) + 4 * at);
            *number = ldexpf(*number, -(int)(130 + at % 20));
        }
        kernel_run run = {NULL, {&x, &w, &y}, 3, {0}, {0}};
        run.kernel = kernel_for(WEIR_OP_MATMUL, &run);
        assert_ok(run_tiles(&run, 0, &random_state));
        for (int64_t i = 0; i < m * 20; i++) {
            const double product = fabs(tensor_at(&y, i / 20, i % 20));
            assert_true(rounds_by_factors(&w) ? product == 0.0 : product < 1e-30);
        }
        free_tensor(&x);
        free_tensor(&w);
        free_tensor(&y);
    }
}

// The products of an infinity or a NaN among the weights are no numbers, and all others are.
static void weights_that_are_no_numbers_show(void** state) {
    (void)state;
    static const uint16_t halves[2][4] = {{0x7C00, 0xFC00, 0x7E00, 0x7C01},
                                          {0x7F80, 0xFF80, 0x7FC0, 0x7F81}};
    for (int i = 0; i < 8; i++) {
        const weir_dtype dtype = i / 4 == 0 ? WEIR_DTYPE_F16 : WEIR_DTYPE_BF16;
        tensor x = new_random(&random_state, WEIR_DTYPE_F32, 21, 320, 0);
        tensor w = new_random(&random_state, dtype, 18, 320, 0);
        tensor y = new_tensor(WEIR_DTYPE_F32, 21, 18, 0);
        memcpy(tensor_row(&w, 5) + 2 * (size_t)(37 + 35 * i), &halves[i / 4][i % 4],
               sizeof halves[0][0]);
        kernel_run run = {NULL, {&x, &w, &y}, 3, {0}, {0}};
        run.kernel = kernel_for(WEIR_OP_MATMUL, &run);
        assert_ok(run_tiles(&run, 0, &random_state));
        for (int64_t at = 0; at < 21 * 18; at++) {
            assert_int_equal(isfinite(tensor_at(&y, at / 18, at % 18)) != 0, at % 18 != 5);
        }
        free_tensor(&x);
        free_tensor(&w);
        free_tensor(&y);
    }
}

// x is rounded by the largest magnitude of 32 or 256 neighbours, which nothing may hide from.
static void what_is_no_number_in_x_reaches_every_product(void** state) {
    (void)state;
    static const weir_dtype dtypes[] = {WEIR_DTYPE_Q8_0, WEIR_DTYPE_Q4_0, WEIR_DTYPE_Q4_K,
                                        WEIR_DTYPE_F16};
    for (size_t at = 0; at < 256; at += 5) {
        for (int64_t m = 1; m <= 21; m += m == 1 ? 4 : 16) {
            tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, 256, 0);
            tensor w = new_random(&random_state, dtypes[at % 4], 20, 256, 0);
            tensor y = new_tensor(WEIR_DTYPE_F32, m, 20, 0);
            const float odd[] = {NAN, -NAN, INFINITY, -INFINITY};
            ((float*)(void*)tensor_row(&x, m - 1))[at] = odd[at / 4 % 4];
            kernel_run run = {NULL, {&x, &w, &y}, 3, {0}, {0}};
            run.kernel = kernel_for(WEIR_OP_MATMUL, &run);
            assert_ok(run_tiles(&run, 0, &random_state));
            for (int64_t j = 0; j < 20; j++) {
                assert_true(!isfinite(tensor_at(&y, m - 1, j)));
                assert_true(m == 1 || isfinite(tensor_at(&y, 0, j)));
            }
            free_tensor(&x);
            free_tensor(&w);
            free_tensor(&y);
        }
    }
}

static bool block_is_sane(weir_dtype dtype, const uint8_t* block) {
    const uint32_t count = weir_dtype_describe(dtype)->block_elements;
    float decoded[256];
    assert_ok(weir_dtype_to_f32(dtype, block, count, decoded));
    return is_sane(decoded, count);
}

// Puts `byte` wherever a random block still decodes to modest numbers with it: in the quants, not
// in the exponents of scales.
static void fill_with_byte(tensor* w, uint8_t byte) {
    const weir_dtype_info* info = weir_dtype_describe(w->view.dtype);
    for (int64_t row = 0; row < w->rows; row++) {
        for (size_t at = 0; at < w->row_bytes; at += info->block_bytes) {
            uint8_t* block = tensor_row(w, row) + at;
            for (uint32_t i = 0; i < info->block_bytes; i++) {
                const uint8_t before = block[i];
                block[i] = byte;
                block[i] = block_is_sane(w->view.dtype, block) ? byte : before;
            }
        }
    }
}

// The largest weights meet the largest x, with signs that add up and that do not: integer sums are
// as large as they get.
static void extreme_numbers_do_not_overflow(void** state) {
    (void)state;
    static const uint8_t bytes[] = {0x00, 0x7F, 0x80, 0xFF};
    for (uint32_t i = 1; i < WEIR_DTYPE_COUNT; i++) {
        const weir_dtype dtype = (weir_dtype)i;
        for (size_t b = 0; b < sizeof bytes && weir_dtype_is_decodable(dtype); b++) {
            for (int64_t m = 1; m <= (is_float(dtype) ? 21 : 5); m += m == 1 ? 4 : 16) {
                tensor x = new_tensor(WEIR_DTYPE_F32, m, 512, 0);
                for (int64_t at = 0; at < m * 512; at++) {
                    const float number = at / 512 % 2 == 1 && at % 2 == 1 ? -3.0f : 3.0f;
                    memcpy(tensor_row(&x, 0) + 4 * at, &number, sizeof number);
                }
                tensor w = new_random(&random_state, dtype, 17, 512, 0);
                fill_with_byte(&w, bytes[b]);
                check_product(&x, &w);
                free_tensor(&x);
                free_tensor(&w);
            }
        }
    }
}

// One element that is far larger than its neighbours, and numbers at the ends of the range: of what
// meets as integers nothing overflows, and no scale becomes infinite.
static void numbers_of_any_size_are_multiplied(void** state) {
    (void)state;
    static const float sizes[] = {0x1p-140f, 0x1p-120f, 1e-20f, 1e20f, 0x1p100f};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        tensor x = new_random(&random_state, WEIR_DTYPE_F32, 24, 320, 0);
        tensor w = new_random(&random_state, WEIR_DTYPE_F16, 18, 320, 0);
        tensor v = new_random(&random_state, WEIR_DTYPE_BF16, 18, 320, 0);
        float* row = (float*)(void*)tensor_row(&x, 3);
        for (int64_t at = 0; at < 320; at++) {
            row[at] *= sizes[i];
        }
        ((float*)(void*)tensor_row(&x, 5))[(size_t)i * 64] = sizes[i] < 1.0f ? 1e5f : sizes[i];
        ((uint16_t*)(void*)tensor_row(&w, 7))[(size_t)i * 64] = 0x7BFF; // 65504
        ((uint16_t*)(void*)tensor_row(&w, 8))[(size_t)i * 64] = 0x0001; // 2^-24
        memset(tensor_row(&w, 9), 0, w.row_bytes);
        check_product(&x, &w);
        check_product(&x, &v);
        free_tensor(&x);
        free_tensor(&w);
        free_tensor(&v);
    }
}

static double squared_distance(const double* a, const double* b, size_t count) {
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    }
    return sum;
}

static void round_row_to_f16(const float* x, int64_t count, double* rounded) {
    round_row_to_half(WEIR_DTYPE_F16, x, count, rounded);
}

// About normally distributed.
static void fill_normal(tensor* t) {
    for (int64_t at = 0; at < t->rows * t->columns; at++) {
        float sum = 0.0f;
        for (int i = 0; i < 12; i++) {
            sum += random_unit(&random_state);
        }
        assert_ok(
            weir_dtype_from_f32(t->view.dtype, &sum, 1,
                                tensor_row(t, at / t->columns) +
                                    (size_t)(at % t->columns) * t->row_bytes / (size_t)t->columns));
    }
}

// With x and weights as 16-bit integers products come closer to the exact ones than with x in F16.
static void integers_of_16_bits_are_closer_than_f16(void** state) {
    (void)state;
    tensor x = new_tensor(WEIR_DTYPE_F32, 32, 1024, 0);
    tensor w = new_tensor(WEIR_DTYPE_F16, 48, 1024, 0);
    tensor y = new_tensor(WEIR_DTYPE_F32, x.rows, w.rows, 0);
    fill_normal(&x);
    fill_normal(&w);
    const size_t count = (size_t)(x.rows * w.rows);
    reference exact = new_reference(x.rows, w.rows);
    reference halved = new_reference(x.rows, w.rows);
    double* found = calloc(count, sizeof *found);
    assert_non_null(found);
    product_reference(&x, &w, widen_row, exact.result, exact.scale);
    product_reference(&x, &w, round_row_to_f16, halved.result, halved.scale);
    kernel_run run = {NULL, {&x, &w, &y}, 3, {0}, {0}};
    run.kernel = kernel_for(WEIR_OP_MATMUL, &run);
    assert_ok(run_tiles(&run, 0, &random_state));
    for (size_t i = 0; i < count; i++) {
        found[i] = tensor_at(&y, (int64_t)i / w.rows, (int64_t)i % w.rows);
    }
    const double distance = squared_distance(found, exact.result, count);
    const double of_half = squared_distance(halved.result, exact.result, count);
    print_message("%.2f of the error of x in F16\n", sqrt(distance / of_half));
    assert_true(distance < of_half);
    free(found);
    free_reference(&exact);
    free_reference(&halved);
    free_tensor(&x);
    free_tensor(&w);
    free_tensor(&y);
}

// Workers of a device give the bits that one thread gives.
static void check_threads(weir_dtype dtype, int64_t m, int64_t n, int64_t k) {
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, k, 0);
    tensor w = new_random(&random_state, dtype, n, k, 0);
    tensor alone = new_tensor(WEIR_DTYPE_F32, m, n, 0);
    kernel_run run = {NULL, {&x, &w, &alone}, 3, {0}, {0}};
    run.kernel = kernel_for(WEIR_OP_MATMUL, &run);
    assert_ok(run_here(&run, 1, &random_state));
    for (uint32_t threads = 1; threads <= 7; threads += 2) {
        tensor y = new_tensor(WEIR_DTYPE_F32, m, n, 0);
        run.operands[2] = &y;
        weir_device* device = NULL;
        const weir_device_desc desc = {.name = "cpu:plain", .thread_count = threads};
        assert_ok(weir_device_create(&desc, &device));
        assert_ok(run_on_device(device, &run));
        assert_same_rows(&alone, &y);
        weir_device_destroy(device);
        free_tensor(&y);
    }
    free_tensor(&x);
    free_tensor(&w);
    free_tensor(&alone);
}

static void bits_do_not_depend_on_threads(void** state) {
    (void)state;
    static const weir_dtype dtypes[] = {WEIR_DTYPE_Q8_0, WEIR_DTYPE_Q4_K, WEIR_DTYPE_F16,
                                        WEIR_DTYPE_BF16};
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        check_threads(dtypes[i], 2, 700, 512);
        check_threads(dtypes[i], 72, 700, 512);
    }
    // Rows from far apart, of parts that are not all as long.
    check_threads(WEIR_DTYPE_F16, 1, 211, 2819);
    check_threads(WEIR_DTYPE_F16, 2, 211, 2819);
    check_threads(WEIR_DTYPE_F32, 3, 35, 2051);
}

// An addition to an instruction set sums the same integers: the target of the same name that comes
// next gives the same bits.
static void additions_change_no_bit(void** state) {
    (void)state;
    uint32_t at = 0;
    while (weir_cpu_target_at(at) != target) {
        at++;
    }
    const weir_target* with = target;
    const weir_target* without = weir_cpu_target_at(at + 1);
    if (strcmp(with->name, without->name) != 0) {
        print_message("skipped: %s is there with one set of kernels\n", with->name);
        skip();
    }
    for (uint32_t i = 1; i < WEIR_DTYPE_COUNT; i++) {
        for (int64_t m = 1; m <= 9 && weir_dtype_is_decodable((weir_dtype)i); m += 4) {
            tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, 512, 0);
            tensor w = new_random(&random_state, (weir_dtype)i, 21, 512, 0);
            tensor y[2];
            for (int k = 0; k < 2; k++) {
                y[k] = new_tensor(WEIR_DTYPE_F32, m, 21, 0);
                kernel_run run = {NULL, {&x, &w, &y[k]}, 3, {0}, {0}};
                target = k == 0 ? with : without;
                run.kernel = kernel_for(WEIR_OP_MATMUL, &run);
                assert_ok(run_tiles(&run, 0, &random_state));
            }
            target = with;
            assert_same_rows(&y[0], &y[1]);
            free_tensor(&x);
            free_tensor(&w);
            free_tensor(&y[0]);
            free_tensor(&y[1]);
        }
    }
}

// What decides which kernels run is what the system says too.
static void features_are_those_that_the_system_lists(void** state) {
    (void)state;
    static const struct {
        const char* flags[8];
        size_t offset;
    } sets[] = {
        {{"avx2", "fma", "f16c"}, offsetof(cpu_features, avx2)},
        {{"avx2", "fma", "f16c", "avx_vnni"}, offsetof(cpu_features, avx2_vnni)},
        {{"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"},
         offsetof(cpu_features, avx512)},
        {{"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16"},
         offsetof(cpu_features, avx512_bf16)},
        {{"asimd"}, offsetof(cpu_features, neon)},
        {{"asimddp"}, offsetof(cpu_features, neon_dotprod)},
    };
#if defined(__aarch64__)
    const char* const key = "Features";
#else
    const char* const key = "flags";
#endif
    char line[8192] = "";
    FILE* file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file) && strncmp(line, key, strlen(key)) != 0) {
    }
    if (file) {
        fclose(file);
    }
    char* list = strncmp(line, key, strlen(key)) == 0 ? strchr(line, ':') : NULL;
    if (!list) { // an emulator shows the list of the machine below
        print_message("skipped: the system lists no flags of this processor\n");
        skip();
    }
    list[strlen(list) - 1] = ' ';
    const cpu_features found = cpu_features_find();
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        bool expected = true;
        for (size_t k = 0; k < 8 && sets[i].flags[k]; k++) {
            char word[32];
            snprintf(word, sizeof word, " %s ", sets[i].flags[k]);
            expected = expected && strstr(list, word) != NULL;
        }
        assert_int_equal(((const bool*)&found)[sets[i].offset], expected);
    }
}

int main(void) {
    const struct CMUnitTest once[] = {
        cmocka_unit_test(features_are_those_that_the_system_lists),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_agree_for_every_weight_type),
        cmocka_unit_test(products_agree_on_edge_shapes),
        cmocka_unit_test(products_agree_for_long_rows),
        cmocka_unit_test(products_agree_for_many_rows),
        cmocka_unit_test(products_agree_for_large_matrices),
        cmocka_unit_test(products_of_no_rows_touch_nothing),
        cmocka_unit_test(rows_of_zeros_give_zeros),
        cmocka_unit_test(x_may_have_any_magnitude),
        cmocka_unit_test(the_smallest_x_gives_next_to_nothing),
        cmocka_unit_test(what_is_no_number_in_x_reaches_every_product),
        cmocka_unit_test(weights_that_are_no_numbers_show),
        cmocka_unit_test(fused_products_agree),
        cmocka_unit_test(rows_do_not_depend_on_their_neighbours),
        cmocka_unit_test(every_number_of_rows_agrees),
        cmocka_unit_test(extreme_numbers_do_not_overflow),
        cmocka_unit_test(numbers_of_any_size_are_multiplied),
        cmocka_unit_test(integers_of_16_bits_are_closer_than_f16),
        cmocka_unit_test(bits_do_not_depend_on_threads),
        cmocka_unit_test(additions_change_no_bit),
    };
    int failed = cmocka_run_group_tests(once, NULL, NULL);
    for (uint32_t i = 0; (target = weir_cpu_target_at(i)) != &weir_cpu_target; i++) {
        print_message("with %s\n", target->kernels[0].name);
        failed += cmocka_run_group_tests_name(target->kernels[0].name, tests, NULL, NULL);
    }
    return failed;
}
