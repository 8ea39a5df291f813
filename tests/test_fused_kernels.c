// The kernels of fused operations against a plain f64 reference, on random and edge shapes: those
// of the CPU, or of the device that WEIR_TEST_DEVICE names.
#include "kernel_testing.h"

#define POSITION 1 // index of the parameter that the kernels read

static test_random random_state = {0xF05Eu};

// Whether products see x rounded to 8 bits. Rows are then packed, as these kernels want them.
static bool rounds;

static int64_t gap(int64_t blocks) {
    return rounds ? 0 : blocks;
}

// Of the magnitudes of the terms. Types with minima cancel large sums, which these do not show.
static double tolerance_of_products(void) {
    return rounds ? 4e-5 : 4e-6;
}

static void see_row(const float* x, int64_t count, double* seen) {
    (rounds ? round_row : widen_row)(x, count, seen);
}

// Numbers halfway between two bytes are left out: a device divides by the largest with an error in
// the last bits, and so may round these otherwise. Without factors they are 1.
static void leave_out_ties(tensor* x, const tensor* factors) {
    for (int64_t i = 0; i < x->rows && rounds; i++) {
        float* row = (float*)(void*)tensor_row(x, i);
        for (int64_t begin = 0; begin < x->columns; begin += 32) {
            double seen[32];
            double largest = 0.0;
            for (int64_t c = 0; c < 32; c++) {
                seen[c] =
                    (double)row[begin + c] * (factors ? tensor_at(factors, 0, begin + c) : 1.0);
                largest = fabs(seen[c]) > largest ? fabs(seen[c]) : largest;
            }
            for (int64_t c = 0; c < 32; c++) {
                const double scaled = fabs(seen[c]) / largest * 127.0;
                if (fabs(scaled - floor(scaled) - 0.5) < 1e-3) {
                    row[begin + c] = 0.0f;
                }
            }
        }
    }
}

// A second operand: a matrix (WEIR_DTYPE_NONE), or one row of this type.
static tensor new_pair_or_row(weir_dtype row, int64_t m, int64_t n) {
    return row == WEIR_DTYPE_NONE ? new_random(&random_state, WEIR_DTYPE_F32, m, n, 2)
                                  : new_row(&random_state, row, n);
}

static double pair_or_row_at(const tensor* b, weir_dtype row, int64_t i, int64_t c) {
    return tensor_at(b, row == WEIR_DTYPE_NONE ? i : 0, c);
}

static void check_matmul_add(weir_dtype dtype, weir_dtype c_row, int64_t m, int64_t n, int64_t k) {
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, k, gap(3));
    tensor w = new_random(&random_state, dtype, n, k, gap(1));
    tensor c = new_pair_or_row(c_row, m, n);
    tensor y = new_tensor(WEIR_DTYPE_F32, m, n, 2);
    reference r = new_reference(m, n);
    leave_out_ties(&x, NULL);
    product_reference(&x, &w, see_row, r.result, r.scale);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            const double added = pair_or_row_at(&c, c_row, i, j);
            r.result[i * n + j] += added;
            r.scale[i * n + j] += fabs(added);
        }
    }
    kernel_run run = {find_kernel(WEIR_OP_MATMUL_ADD), {&x, &w, &c, &y}, 4, {0}, {0}};
    check_kernel(&run, r.result, r.scale, tolerance_of_products(),
                 c_row == WEIR_DTYPE_NONE ? 1u << 2 : 0, &random_state);
    free_reference(&r);
    free_tensor(&x);
    free_tensor(&w);
    free_tensor(&c);
    free_tensor(&y);
}

static const int64_t matmul_shapes[][3] = {{1, 1, 1},    {1, 5, 7},    {2, 3, 8},
                                           {1, 16, 255}, {7, 17, 256}, {8, 4, 257},
                                           {130, 20, 9}, {129, 2, 33}, {1, 70, 520}};
#define MATMUL_SHAPES (sizeof matmul_shapes / sizeof *matmul_shapes)

static void matmul_add_agrees_and_works_in_place(void** state) {
    (void)state;
    static const weir_dtype rows[] = {WEIR_DTYPE_NONE, WEIR_DTYPE_F32, WEIR_DTYPE_F16,
                                      WEIR_DTYPE_BF16};
    for (size_t i = 0; i < MATMUL_SHAPES; i++) {
        const int64_t* s = matmul_shapes[i];
        check_matmul_add(WEIR_DTYPE_F32, WEIR_DTYPE_NONE, s[0], s[1], s[2]);
        check_matmul_add(WEIR_DTYPE_F32, rows[i % 4], s[0], s[1], s[2]);
    }
    for (uint32_t i = 1; i < WEIR_DTYPE_COUNT; i++) {
        const weir_dtype dtype = (weir_dtype)i;
        if (takes_weights(dtype)) {
            const int64_t k = 3 * row_step(dtype);
            check_matmul_add(dtype, rows[i % 4], 3, 18, k);
        }
    }
}

// The first factor of z * u errs by at most 1.1 times as much as z, the second as u: silu has a
// slope below 1.1.
static reference gate_up_reference(const tensor* x, const tensor* gate, const tensor* up,
                                   see_row_fn see) {
    const reference r = new_reference(x->rows, gate->rows);
    reference z = new_reference(x->rows, gate->rows);
    reference u = new_reference(x->rows, gate->rows);
    product_reference(x, gate, see, z.result, z.scale);
    product_reference(x, up, see, u.result, u.scale);
    for (int64_t at = 0; at < x->rows * gate->rows; at++) {
        const double silu = z.result[at] / (1.0 + exp(-z.result[at]));
        r.result[at] = silu * u.result[at];
        r.scale[at] = 1.1 * z.scale[at] * fabs(u.result[at]) + fabs(silu) * u.scale[at] +
                      1e-5 * z.scale[at] * u.scale[at];
    }
    free_reference(&z);
    free_reference(&u);
    return r;
}

static void check_gate_up(weir_dtype gate_dtype, weir_dtype up_dtype, int64_t m, int64_t n,
                          int64_t k) {
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, k, gap(1));
    tensor gate = new_random(&random_state, gate_dtype, n, k, 0);
    tensor up = new_random(&random_state, up_dtype, n, k, gap(2));
    tensor y = new_tensor(WEIR_DTYPE_F32, m, n, 3);
    leave_out_ties(&x, NULL);
    reference r = gate_up_reference(&x, &gate, &up, see_row);
    kernel_run run = {find_kernel(WEIR_OP_GATE_UP), {&x, &gate, &up, &y}, 4, {0}, {0}};
    check_kernel(&run, r.result, r.scale, 1.25 * tolerance_of_products(), 0, &random_state);
    free_reference(&r);
    free_tensor(&x);
    free_tensor(&gate);
    free_tensor(&up);
    free_tensor(&y);
}

static void gate_up_agrees_for_every_pair_of_types(void** state) {
    (void)state;
    need_kernel(WEIR_OP_GATE_UP);
    for (size_t i = 0; i < MATMUL_SHAPES; i++) {
        const int64_t* s = matmul_shapes[i];
        check_gate_up(WEIR_DTYPE_F32, WEIR_DTYPE_F32, s[0], s[1], s[2]);
    }
    for (uint32_t i = 1; i < WEIR_DTYPE_COUNT; i++) {
        if (takes_weights((weir_dtype)i)) {
            check_gate_up((weir_dtype)i, WEIR_DTYPE_F32, 2, 19, 256);
            check_gate_up(WEIR_DTYPE_Q8_0, (weir_dtype)i, 1, 5, 256);
        }
    }
}

static void gate_up_of_large_numbers_neither_overflows_nor_becomes_nan(void** state) {
    (void)state;
    need_kernel(WEIR_OP_GATE_UP);
    tensor x = new_tensor(WEIR_DTYPE_F32, 1, 1, 0);
    tensor gate = new_tensor(WEIR_DTYPE_F32, 3, 1, 0);
    tensor up = new_tensor(WEIR_DTYPE_F32, 3, 1, 0);
    tensor y = new_tensor(WEIR_DTYPE_F32, 1, 3, 0);
    memcpy(tensor_data(&x), (float[]){1.0f}, 4);
    memcpy(tensor_data(&gate), (float[]){-1000.0f, 1000.0f, -0.0f}, 12);
    memcpy(tensor_data(&up), (float[]){2.0f, 2.0f, 2.0f}, 12);
    const kernel_run run = {find_kernel(WEIR_OP_GATE_UP), {&x, &gate, &up, &y}, 4, {0}, {0}};
    assert_ok(run_tiles(&run, 0, &random_state));
    assert_near(&y, (double[]){0.0, 2000.0, 0.0}, (double[]){1.0, 2000.0, 1.0}, 1e-6);
    free_tensor(&x);
    free_tensor(&gate);
    free_tensor(&up);
    free_tensor(&y);
}

// Row i of s / sqrt(mean(s^2) + epsilon) * w; s has as many columns as the reference.
static void normalise(const double* s, const tensor* w, weir_dtype w_row, int64_t i, int64_t k,
                      float epsilon, reference* r) {
    double squares = 0.0;
    for (int64_t c = 0; c < k; c++) {
        squares += s[c] * s[c];
    }
    for (int64_t c = 0; c < k; c++) {
        r->result[i * k + c] =
            s[c] / sqrt(squares / (double)k + (double)epsilon) * pair_or_row_at(w, w_row, i, c);
        r->scale[i * k + c] = fabs(r->result[i * k + c]);
    }
}

static void check_rms_norm_mul(weir_dtype w_row, int64_t m, int64_t k, float epsilon) {
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, k, 5);
    tensor w = new_pair_or_row(w_row, m, k);
    tensor y = new_tensor(WEIR_DTYPE_F32, m, k, 1);
    reference r = new_reference(m, k);
    double* row = calloc((size_t)k, sizeof(double));
    assert_non_null(row);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t c = 0; c < k; c++) {
            row[c] = tensor_at(&x, i, c);
        }
        normalise(row, &w, w_row, i, k, epsilon, &r);
    }
    kernel_run run = {
        find_kernel(WEIR_OP_RMS_NORM_MUL), {&x, &w, &y}, 3, {.epsilon = epsilon}, {0}};
    check_kernel(&run, r.result, r.scale, 1e-6, w_row == WEIR_DTYPE_NONE ? 3 : 1, &random_state);
    free(row);
    free_reference(&r);
    free_tensor(&x);
    free_tensor(&w);
    free_tensor(&y);
}

// What a product with a norm in it sees of a row of x.
static struct {
    const tensor* factors;
    float epsilon;
} norm_within;

static void see_normal_row(const float* x, int64_t count, double* seen) {
    double squares = 0.0;
    for (int64_t c = 0; c < count; c++) {
        squares += (double)x[c] * (double)x[c];
    }
    static float scaled[32768]; // which is what is rounded
    assert_true((size_t)count <= sizeof scaled / sizeof *scaled);
    for (int64_t c = 0; c < count; c++) {
        scaled[c] = x[c] * (float)tensor_at(norm_within.factors, 0, c);
    }
    see_row(scaled, count, seen);
    for (int64_t c = 0; c < count; c++) {
        seen[c] /= sqrt(squares / (double)count + (double)norm_within.epsilon);
    }
}

// The factors begin `skipped` bytes behind a border.
static void check_rms_norm_matmul(weir_dtype dtype, weir_dtype factor_type, size_t skipped,
                                  int64_t m, int64_t n, int64_t k) {
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, k, 4);
    tensor w = new_random(&random_state, dtype, n, k, gap(1));
    tensor factors = new_row_behind(&random_state, factor_type, k, skipped);
    tensor y = new_tensor(WEIR_DTYPE_F32, m, n, 2);
    reference r = new_reference(m, n);
    norm_within.factors = &factors;
    norm_within.epsilon = 1e-5f;
    leave_out_ties(&x, &factors);
    product_reference(&x, &w, see_normal_row, r.result, r.scale);
    kernel_run run = {
        find_kernel(WEIR_OP_RMS_NORM_MATMUL), {&x, &w, &factors, &y}, 4, {.epsilon = 1e-5f}, {0}};
    check_kernel(&run, r.result, r.scale, tolerance_of_products(), 0, &random_state);
    free_reference(&r);
    free_tensor(&x);
    free_tensor(&w);
    free_tensor(&factors);
    free_tensor(&y);
}

static const weir_dtype factor_types[] = {WEIR_DTYPE_F32, WEIR_DTYPE_F16, WEIR_DTYPE_BF16};

// Rows that are no quads, wider than a workgroup reads at once, and of each kind of factors;
// weights by elements, by eights and by units. What the norm does depends on none of their types.
static void rms_norm_matmul_agrees(void** state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1}, {4, 18, 255}, {2, 3, 2052}};
    need_kernel(WEIR_OP_RMS_NORM_MATMUL);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int64_t* s = shapes[i];
        check_rms_norm_matmul(WEIR_DTYPE_F32, factor_types[i % 3], 0, s[0], s[1], s[2]);
    }
    check_rms_norm_matmul(WEIR_DTYPE_F16, WEIR_DTYPE_F32, 0, 1, 9, 768);
    check_rms_norm_matmul(WEIR_DTYPE_F16, WEIR_DTYPE_F32, 12, 1, 9, 768);
    check_rms_norm_matmul(WEIR_DTYPE_Q8_0, WEIR_DTYPE_BF16, 6, 1, 9, 768);
    check_rms_norm_matmul(WEIR_DTYPE_Q4_K, WEIR_DTYPE_F32, 4, 2, 9, 2304);
    check_rms_norm_matmul(WEIR_DTYPE_Q4_K, WEIR_DTYPE_F32, 0, 2, 9, 2304);
}

static void check_rms_norm_gate_up(weir_dtype gate_dtype, weir_dtype up_dtype, int64_t m,
                                   int64_t k) {
    const int64_t n = 19;
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, k, 4);
    tensor gate = new_random(&random_state, gate_dtype, n, k, 0);
    tensor up = new_random(&random_state, up_dtype, n, k, gap(1));
    tensor factors = new_row(&random_state, factor_types[m % 3], k);
    tensor y = new_tensor(WEIR_DTYPE_F32, m, n, 3);
    norm_within.factors = &factors;
    norm_within.epsilon = 1e-5f;
    leave_out_ties(&x, &factors);
    reference r = gate_up_reference(&x, &gate, &up, see_normal_row);
    kernel_run run = {find_kernel(WEIR_OP_RMS_NORM_GATE_UP),
                      {&x, &gate, &up, &factors, &y},
                      5,
                      {.epsilon = 1e-5f},
                      {0}};
    check_kernel(&run, r.result, r.scale, 1.25 * tolerance_of_products(), 0, &random_state);
    free_reference(&r);
    free_tensor(&x);
    free_tensor(&gate);
    free_tensor(&up);
    free_tensor(&factors);
    free_tensor(&y);
}

static void rms_norm_gate_up_agrees(void** state) {
    (void)state;
    need_kernel(WEIR_OP_RMS_NORM_GATE_UP);
    check_rms_norm_gate_up(WEIR_DTYPE_F32, WEIR_DTYPE_F32, 1, 251);
    check_rms_norm_gate_up(WEIR_DTYPE_Q4_0, WEIR_DTYPE_Q4_0, 3, 2304);
}

// A product whose result is turned where there is a `rope`, of rows that are normalised where there
// are factors, and whose rows go to a cache where it has a type.
typedef struct projection_case {
    weir_dtype weights, cache; // WEIR_DTYPE_NONE: no cache
    int64_t rows, heads, width;
    bool normalises, has_divisors;
    const weir_rope_desc* rope;
} projection_case;

static reference projection_reference(const projection_case* c, const tensor* x, const tensor* w) {
    const int64_t n = w->rows;
    const reference product = new_reference(c->rows, n);
    product_reference(x, w, c->normalises ? see_normal_row : see_row, product.result,
                      product.scale);
    if (!c->rope) {
        return product;
    }
    tensor flat = new_tensor(WEIR_DTYPE_F32, c->rows, n, 0);
    reference turned = new_reference(c->rows, n);
    for (int64_t i = 0; i < c->rows * n; i++) {
        ((float*)(void*)tensor_row(&flat, i / n))[i % n] = (float)product.result[i];
    }
    rope_reference(c->rope, &flat, c->has_divisors, 17, &turned);
    for (int64_t i = 0; i < c->rows * n; i++) {
        double most = 0.0; // of the head: the other of a pair is there
        const int64_t head = i / c->rope->head_dim * c->rope->head_dim; // n are whole heads
        for (int64_t k = 0; k < c->rope->head_dim; k++) {
            most = fmax(most, product.scale[head + k]);
        }
        turned.scale[i] = 2.0 * most;
    }
    reference unturned = product;
    free_reference(&unturned);
    free_tensor(&flat);
    return turned;
}

static void check_projection(const projection_case* c) {
    const weir_op_kind op =
        c->cache == WEIR_DTYPE_NONE ? WEIR_OP_MATMUL_ROPE : WEIR_OP_MATMUL_SET_ROWS;
    const bool stores = c->cache != WEIR_DTYPE_NONE;
    const int64_t n = c->heads * (c->rope ? c->rope->head_dim : 6);
    const int64_t first = stores ? 2 : 0;
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, c->rows, c->width, 4);
    tensor w = new_random(&random_state, c->weights, n, c->width, gap(1));
    tensor factors = new_row(&random_state, WEIR_DTYPE_F32, c->width);
    tensor divisors = new_row(&random_state, WEIR_DTYPE_F32, c->rope ? c->rope->rotated / 2 : 1);
    tensor y =
        new_random(&random_state, stores ? c->cache : WEIR_DTYPE_F32, c->rows + 2 * first, n, 2);
    const tensor before = copy_tensor(&y);
    for (int64_t i = 0; i < divisors.columns; i++) {
        ((float*)tensor_data(&divisors))[i] = 1.0f + (float)i;
    }
    norm_within.factors = &factors;
    norm_within.epsilon = 1e-5f;
    leave_out_ties(&x, c->normalises ? &factors : NULL);
    reference r = projection_reference(c, &x, &w);
    kernel_run run = {.kernel = find_kernel(op),
                      .operands = {&x, &w},
                      .operand_count = 2,
                      .constants.projection = {.normalises = c->normalises,
                                               .epsilon = 1e-5f,
                                               .turns = c->rope != NULL,
                                               .position = stores ? 0 : WEIR_PARAM_NONE},
                      .params = {(uint64_t)first, 17}};
    if (c->rope) {
        run.constants.projection.rope = *c->rope;
    }
    if (c->normalises) {
        run.operands[run.operand_count++] = &factors;
    }
    if (c->has_divisors) {
        run.operands[run.operand_count++] = &divisors;
    }
    run.operands[run.operand_count++] = &y;
    assert_ok(run_tiles(&run, 0, &random_state));
    const double step = c->cache == WEIR_DTYPE_F16    ? 1.0 / 2048
                        : c->cache == WEIR_DTYPE_BF16 ? 1.0 / 256
                                                      : 0.0;
    for (int64_t i = 0; i < y.rows * n; i++) {
        const int64_t row = i / n - first;
        const double got = tensor_at(&y, i / n, i % n);
        if (row < 0 || row >= c->rows) {
            assert_true(got == tensor_at(&before, i / n, i % n));
            continue;
        }
        const double expected = r.result[row * n + i % n];
        const double tolerance =
            tolerance_of_products() * r.scale[row * n + i % n] + step * fabs(expected) + 1e-7;
        const bool overflows = c->cache == WEIR_DTYPE_F16 && fabs(expected) > 65000.0;
        if (overflows ? !(got / expected > 0.99) : !(fabs(got - expected) <= tolerance)) {
            fail_msg("[%lld, %lld] is %.9g, expected %.9g", (long long)row, (long long)(i % n), got,
                     expected);
        }
    }
    assert_true(tensor_is_intact(&y));
    if (stores) {
        run.params[0] = (uint64_t)(y.rows - c->rows + 1); // one row too far
        assert_status(run_tiles(&run, 0, &random_state), WEIR_OUT_OF_RANGE);
        assert_message_has("matmul_set_rows: position");
    }
    tensor copy = before;
    free_tensor(&copy);
    free_reference(&r);
    free_tensor(&x);
    free_tensor(&w);
    free_tensor(&factors);
    free_tensor(&divisors);
    free_tensor(&y);
}

static const weir_rope_desc adjacent = {
    .head_dim = 8, .rotated = 8, .base = 10000.0f, .scale = 1.0f, .position = POSITION};
static const weir_rope_desc halves = {.head_dim = 18,
                                      .rotated = 12,
                                      .pairing = WEIR_ROPE_HALVES,
                                      .base = 10000.0f,
                                      .scale = 0.25f,
                                      .position = POSITION};

static void products_turn_and_store_their_rows(void** state) {
    (void)state;
    static const projection_case cases[] = {
        {WEIR_DTYPE_F32, WEIR_DTYPE_NONE, 1, 1, 7, false, false, &adjacent},
        {WEIR_DTYPE_F32, WEIR_DTYPE_NONE, 3, 5, 64, true, true, &halves},
        {WEIR_DTYPE_Q4_0, WEIR_DTYPE_F32, 4, 3, 2304, true, false, &halves},
        {WEIR_DTYPE_Q8_0, WEIR_DTYPE_BF16, 2, 9, 256, false, true, &adjacent},
        {WEIR_DTYPE_F16, WEIR_DTYPE_F16, 1, 11, 256, true, true, &adjacent},
        {WEIR_DTYPE_Q4_K, WEIR_DTYPE_BF16, 2, 7, 768, true, false, NULL},
    };
    need_kernel(WEIR_OP_MATMUL_ROPE);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_projection(&cases[i]);
    }
}

// Every type that is multiplied as bytes: one row, which workgroups keep, with a norm or with what
// is added, and two with what is added. Rows of 1536 elements are whole words in each.
static void check_rounded_types(void) {
    static const weir_dtype dtypes[] = {WEIR_DTYPE_Q8_0, WEIR_DTYPE_Q4_0, WEIR_DTYPE_Q4_1,
                                        WEIR_DTYPE_Q5_0, WEIR_DTYPE_Q5_1, WEIR_DTYPE_Q4_K,
                                        WEIR_DTYPE_Q5_K, WEIR_DTYPE_Q6_K};
    for (uint32_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        check_matmul_add(dtypes[i], WEIR_DTYPE_NONE, 2, 19, 1536);
        check_matmul_add(dtypes[i], i % 2 ? WEIR_DTYPE_F16 : WEIR_DTYPE_NONE, 1, 19, 1536);
        check_rms_norm_matmul(dtypes[i], factor_types[i % 3], i % 2 * 4, 1, 19, 1536);
    }
    check_rms_norm_matmul(WEIR_DTYPE_Q8_0, WEIR_DTYPE_F32, 0, 1, 3, 32768); // too long to be kept
}

static void check_rounded_fusions(void) {
    static const projection_case cases[] = {
        {WEIR_DTYPE_Q4_0, WEIR_DTYPE_NONE, 1, 5, 1536, true, false, &adjacent},
        {WEIR_DTYPE_Q8_0, WEIR_DTYPE_F16, 1, 3, 320, false, true, &halves},
        {WEIR_DTYPE_Q8_0, WEIR_DTYPE_F16, 3, 3, 256, true, true, &halves},
        {WEIR_DTYPE_Q4_K, WEIR_DTYPE_BF16, 1, 7, 768, false, false, NULL},
    };
    check_gate_up(WEIR_DTYPE_Q4_K, WEIR_DTYPE_Q6_K, 1, 19, 1536);
    check_rms_norm_gate_up(WEIR_DTYPE_Q4_0, WEIR_DTYPE_Q4_0, 1, 1536);
    check_rms_norm_gate_up(WEIR_DTYPE_Q4_0, WEIR_DTYPE_Q4_0, 2, 512);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_projection(&cases[i]);
    }
}

static void products_of_bytes_agree(void** state) {
    (void)state;
    static const weir_vulkan_tuning cuts[] = {
        {.unit_x = WEIR_VULKAN_X_8_BITS, .tile_x = WEIR_VULKAN_X_F32},
        {.unit_x = WEIR_VULKAN_X_8_BITS,
         .unit_columns = 3,
         .held_columns = 2,
         .tile_x = WEIR_VULKAN_X_F32},
        {.unit_x = WEIR_VULKAN_X_8_BITS,
         .held_columns = 1,
         .held_threads = 96,
         .held_groups = 2,
         .tile_x = WEIR_VULKAN_X_F32}};
    static const weir_vulkan_tuning exact = {.unit_x = WEIR_VULKAN_X_F32,
                                             .tile_x = WEIR_VULKAN_X_F32};
    weir_device* device = kernels_on.device;
    if (!device || weir_vulkan_tune(device, &cuts[0]) != WEIR_OK) {
        print_message("skipped: %s\n", device ? weir_last_error() : "no device");
        skip();
    }
    rounds = true;
    check_rounded_fusions();
    assert_ok(weir_vulkan_tune(device, &cuts[1]));
    check_rounded_types();
    assert_ok(weir_vulkan_tune(device, &cuts[2]));
    check_rms_norm_matmul(WEIR_DTYPE_Q4_0, WEIR_DTYPE_F32, 0, 1, 37, 2304);
    rounds = false;
    assert_ok(weir_vulkan_tune(device, &exact));
}

// With two outputs either may lie on a or b, with one it may itself.
static void check_sum_in_place(kernel_run* run, uint32_t on, const tensor* sum, const tensor* y) {
    const tensor* kept[KERNEL_OPERANDS];
    memcpy(kept, run->operands, sizeof kept);
    tensor both = copy_tensor(run->operands[on]);
    tensor again = new_tensor(WEIR_DTYPE_F32, y->rows, y->columns, 4);
    run->operands[on] = run->operands[3] = &both;
    run->operands[4] = &again;
    assert_ok(run_tiles(run, 3, &random_state));
    assert_same_rows(sum, &both);
    assert_same_rows(y, &again);
    assert_true(tensor_is_intact(&both));
    assert_true(tensor_is_intact(&again));
    free_tensor(&both);
    free_tensor(&again);
    memcpy(run->operands, kept, sizeof kept);
}

static void check_add_rms_norm_mul(weir_dtype b_row, weir_dtype w_row, int64_t m, int64_t k) {
    const float epsilon = 1e-5f;
    tensor a = new_random(&random_state, WEIR_DTYPE_F32, m, k, 1);
    tensor b = new_pair_or_row(b_row, m, k);
    tensor w = new_pair_or_row(w_row, m, k);
    tensor sum = new_tensor(WEIR_DTYPE_F32, m, k, 2);
    tensor y = new_tensor(WEIR_DTYPE_F32, m, k, 0);
    reference r = new_reference(m, k);
    double* row = calloc((size_t)k, sizeof(double));
    assert_non_null(row);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t c = 0; c < k; c++) {
            const float added = (float)tensor_at(&a, i, c) + (float)pair_or_row_at(&b, b_row, i, c);
            row[c] = (double)added;
        }
        normalise(row, &w, w_row, i, k, epsilon, &r);
    }
    const uint32_t in_place = b_row == WEIR_DTYPE_NONE ? 3 : 1;
    const weir_kernel* kernel = find_kernel(WEIR_OP_ADD_RMS_NORM_MUL);
    kernel_run two = {kernel, {&a, &b, &w, &sum, &y}, 5, {.epsilon = epsilon}, {0}};
    check_kernel(&two, r.result, r.scale, 1e-6, in_place, &random_state);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t c = 0; c < k; c++) {
            const float added = (float)tensor_at(&a, i, c) + (float)pair_or_row_at(&b, b_row, i, c);
            assert_true(tensor_at(&sum, i, c) == (double)added);
        }
    }
    assert_true(tensor_is_intact(&sum));
    for (uint32_t on = 0; on < 2; on++) {
        if ((in_place >> on & 1) != 0) {
            check_sum_in_place(&two, on, &sum, &y);
        }
    }
    tensor only = new_tensor(WEIR_DTYPE_F32, m, k, 3);
    kernel_run one = {kernel, {&a, &b, &w, &only}, 4, {.epsilon = epsilon}, {0}};
    check_kernel(&one, r.result, r.scale, 1e-6, in_place, &random_state);
    assert_same_rows(&y, &only);
    free(row);
    free_reference(&r);
    free_tensor(&a);
    free_tensor(&b);
    free_tensor(&w);
    free_tensor(&sum);
    free_tensor(&y);
    free_tensor(&only);
}

static void norms_agree_and_work_in_place(void** state) {
    (void)state;
    static const weir_dtype rows[] = {WEIR_DTYPE_NONE, WEIR_DTYPE_F32, WEIR_DTYPE_F16,
                                      WEIR_DTYPE_BF16};
    static const int64_t shapes[][2] = {{1, 1}, {1, 64}, {3, 255}, {17, 257}, {2, 1024}, {2, 2051}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (size_t w = 0; w < 4; w++) {
            check_rms_norm_mul(rows[w], shapes[i][0], shapes[i][1], w % 2 == 0 ? 1e-5f : 0.0f);
            if (find_kernel(WEIR_OP_ADD_RMS_NORM_MUL)) {
                check_add_rms_norm_mul(rows[(i + w) % 4], rows[w], shapes[i][0], shapes[i][1]);
            }
        }
    }
}

static void check_rope_set_rows(const weir_rope_desc* desc, bool has_factors, int64_t m,
                                int64_t heads, uint64_t position, int64_t target) {
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, heads * desc->head_dim, 2);
    tensor factors = new_row(&random_state, WEIR_DTYPE_F32, desc->rotated / 2);
    tensor cache = new_random(&random_state, WEIR_DTYPE_F32, m + target + 1, x.columns, 1);
    tensor before = copy_tensor(&cache);
    reference r = new_reference(m, x.columns);
    for (int64_t i = 0; i < desc->rotated / 2; i++) {
        ((float*)tensor_data(&factors))[i] = 1.0f + (float)i;
    }
    rope_reference(desc, &x, has_factors, position, &r);
    kernel_run run = {find_kernel(WEIR_OP_ROPE_SET_ROWS),
                      {&x, has_factors ? &factors : &cache, &cache},
                      has_factors ? 3 : 2,
                      {.rope_rows = {.rope = *desc, .position = 0}},
                      {(uint64_t)target, position}};
    assert_ok(run_tiles(&run, 3, &random_state));
    for (int64_t i = 0; i < cache.rows * cache.columns; i++) {
        const int64_t row = i / cache.columns - target;
        const int64_t column = i % cache.columns;
        const int64_t at = row * cache.columns + column;
        const double got = tensor_at(&cache, row + target, column);
        const bool written = row >= 0 && row < m;
        const double expected = written ? r.result[at] : tensor_at(&before, row + target, column);
        assert_true(fabs(got - expected) <= (written ? 3e-7 * r.scale[at] : 0.0));
    }
    assert_true(tensor_is_intact(&cache));
    run.params[0] = (uint64_t)target + 2; // one row too far
    tensor after = copy_tensor(&cache);
    assert_status(run_tiles(&run, 2, &random_state), WEIR_OUT_OF_RANGE);
    assert_message_has("rope_set_rows: position");
    assert_memory_equal(after.memory, cache.memory, cache.byte_size);
    free_reference(&r);
    free_tensor(&x);
    free_tensor(&factors);
    free_tensor(&cache);
    free_tensor(&before);
    free_tensor(&after);
}

static void rope_set_rows_turns_its_rows_and_touches_no_others(void** state) {
    (void)state;
    need_kernel(WEIR_OP_ROPE_SET_ROWS);
    for (int pairing = 0; pairing < 2; pairing++) {
        weir_rope_desc desc = {.head_dim = 8,
                               .rotated = 8,
                               .pairing = (weir_rope_pairing)pairing,
                               .base = 10000.0f,
                               .scale = 1.0f,
                               .position = POSITION};
        check_rope_set_rows(&desc, false, 1, 1, 0, 0);
        check_rope_set_rows(&desc, true, 5, 3, 17, 17);
        desc.head_dim = 15;
        desc.rotated = 6; // the rest of each head is copied
        check_rope_set_rows(&desc, false, 4, 2, 3, 9);
        desc.head_dim = 300;
        desc.rotated = 260;
        desc.scale = 0.25f;
        check_rope_set_rows(&desc, true, 9, 2, 1000, 1);
    }
}

// What is stored are the bits that the single operations store: rope, then set_rows.
static void check_rope_into(weir_dtype dtype, const weir_rope_desc* desc, int64_t heads) {
    const int64_t k = heads * desc->head_dim;
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, 6, k, 2);
    tensor turned = new_tensor(WEIR_DTYPE_F32, 6, k, 0);
    tensor cache = new_tensor(dtype, 9, k, 1);
    tensor expected = copy_tensor(&cache);
    const kernel_run single[] = {
        {find_kernel(WEIR_OP_ROPE), {&x, &turned}, 2, {.rope = *desc}, {2, 100}},
        {find_kernel(WEIR_OP_SET_ROWS), {&turned, &expected}, 2, {.position = 0}, {2, 100}},
    };
    assert_ok(run_tiles(&single[0], 2, &random_state));
    assert_ok(run_tiles(&single[1], 2, &random_state));
    const kernel_run fused = {find_kernel(WEIR_OP_ROPE_SET_ROWS),
                              {&x, &cache},
                              2,
                              {.rope_rows = {.rope = *desc, .position = 0}},
                              {2, 100}};
    assert_ok(run_tiles(&fused, 4, &random_state));
    assert_memory_equal(cache.memory, expected.memory, cache.byte_size);
    free_tensor(&x);
    free_tensor(&turned);
    free_tensor(&cache);
    free_tensor(&expected);
}

static void rope_set_rows_encodes_to_the_type_of_its_state(void** state) {
    (void)state;
    need_kernel(WEIR_OP_ROPE_SET_ROWS);
    const weir_dtype dtypes[] = {WEIR_DTYPE_F32, WEIR_DTYPE_F16, WEIR_DTYPE_BF16, WEIR_DTYPE_Q8_0};
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (!takes_cache(dtypes[i])) {
            continue;
        }
        weir_rope_desc desc = {
            .head_dim = 64, .rotated = 64, .base = 10000.0f, .scale = 1.0f, .position = POSITION};
        check_rope_into(dtypes[i], &desc, 3);
        desc.head_dim = 8; // four heads to a block of Q8_0
        desc.rotated = 6;
        check_rope_into(dtypes[i], &desc, 140); // over 1024 elements
        desc.head_dim = 80;
        desc.rotated = 80;
        desc.pairing = WEIR_ROPE_HALVES;
        check_rope_into(dtypes[i], &desc, 2);
    }
    if (kernels_on.device) {
        return; // which has no caches in blocks
    }
    // 256 elements of Q8_0 and 511 of a head end together too far out: two operations do it.
    weir_view views[2];
    const weir_op_constants constants = {
        .rope_rows = {.rope = {.head_dim = 511, .rotated = 510, .base = 1e4f, .scale = 1.0f}}};
    const weir_shape shape = weir_shape_make(2, (int64_t[]){4, 511 * 32});
    assert_ok(weir_view_layout(WEIR_DTYPE_F32, &shape, &views[0]));
    assert_ok(weir_view_layout(WEIR_DTYPE_Q8_0, &shape, &views[1]));
    assert_false(
        find_kernel(WEIR_OP_ROPE_SET_ROWS)->accepts(&(weir_kernel_use){views, 2, &constants}));
    assert_true(find_kernel(WEIR_OP_SET_ROWS)->accepts(&(weir_kernel_use){views, 2, &constants}));
}

static void rope_set_rows_needs_parameters(void** state) {
    (void)state;
    need_host_kernels();
    need_kernel(WEIR_OP_ROPE_SET_ROWS);
    weir_view views[2] = {0};
    void* pointers[2] = {NULL, NULL};
    const weir_op_constants constants = {.rope_rows = {.position = 0}};
    const weir_kernel_call call = {views, pointers, 2, 0, 1, &constants, NULL, NULL};
    assert_status(find_kernel(WEIR_OP_ROPE_SET_ROWS)->run(&call), WEIR_INVALID_ARGUMENT);
    assert_message_has("rope_set_rows");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmul_add_agrees_and_works_in_place),
        cmocka_unit_test(gate_up_agrees_for_every_pair_of_types),
        cmocka_unit_test(gate_up_of_large_numbers_neither_overflows_nor_becomes_nan),
        cmocka_unit_test(norms_agree_and_work_in_place),
        cmocka_unit_test(rms_norm_matmul_agrees),
        cmocka_unit_test(rms_norm_gate_up_agrees),
        cmocka_unit_test(products_turn_and_store_their_rows),
        cmocka_unit_test(products_of_bytes_agree),
        cmocka_unit_test(rope_set_rows_turns_its_rows_and_touches_no_others),
        cmocka_unit_test(rope_set_rows_encodes_to_the_type_of_its_state),
        cmocka_unit_test(rope_set_rows_needs_parameters),
    };
    return cmocka_run_group_tests(tests, open_kernel_device, close_kernel_device);
}
