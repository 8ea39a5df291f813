// Cases of attention, checked against two passes over the keys in double precision.
#ifndef WEIR_TESTS_ATTENTION_TESTING_H
#define WEIR_TESTS_ATTENTION_TESTING_H

#include "kernel_testing.h"

typedef struct attention_case {
    weir_attention_desc desc;
    int64_t rows;
    uint64_t position; // parameter 1 of the pass
    int64_t spare;     // rows of the cache that no query sees
} attention_case;

// Random rows as passes would write them; the rows after `written` keep their guard bytes.
static inline tensor new_cache(test_random* random, weir_dtype dtype, int64_t rows, int64_t written,
                               int64_t columns, int64_t gap) {
    tensor cache = new_tensor(dtype, rows, columns, gap);
    float* numbers = malloc((size_t)columns * sizeof *numbers);
    assert_non_null(numbers);
    for (int64_t row = 0; row < written; row++) {
        for (int64_t i = 0; i < columns; i++) {
            numbers[i] = 2.0f * random_unit(random);
        }
        assert_ok(weir_dtype_from_f32(dtype, numbers, columns, tensor_row(&cache, row)));
    }
    free(numbers);
    return cache;
}

// The numbers that a tensor decodes to, row after row.
static inline double* decode_tensor(const tensor* t, int64_t rows) {
    float* decoded = malloc((size_t)t->columns * sizeof *decoded);
    double* numbers = malloc((size_t)(rows * t->columns) * sizeof *numbers);
    assert_true(decoded && numbers);
    for (int64_t row = 0; row < rows; row++) {
        assert_ok(weir_dtype_to_f32(t->view.dtype, tensor_row(t, row), t->columns, decoded));
        for (int64_t i = 0; i < t->columns; i++) {
            numbers[row * t->columns + i] = (double)decoded[i];
        }
    }
    free(decoded);
    return numbers;
}

// Result and scale of one row of one head.
static inline void attention_reference(const attention_case* c, const tensor* q, const double* keys,
                                       const double* values, int64_t row, int64_t head,
                                       reference* r) {
    const int64_t d = c->desc.head_dim;
    const int64_t width = (int64_t)c->desc.kv_heads * d;
    const int64_t kv = head / (c->desc.heads / c->desc.kv_heads) * d;
    const int64_t seen = (int64_t)c->position + row + 1;
    double* weights = calloc((size_t)seen, sizeof(double));
    assert_non_null(weights);
    double max = -INFINITY;
    double sum = 0.0;
    for (int64_t key = 0; key < seen; key++) {
        for (int64_t e = 0; e < d; e++) {
            weights[key] += tensor_at(q, row, head * d + e) * keys[key * width + kv + e];
        }
        weights[key] *= (double)c->desc.scale;
        max = fmax(max, weights[key]);
    }
    for (int64_t key = 0; key < seen; key++) {
        weights[key] = exp(weights[key] - max);
        sum += weights[key];
    }
    for (int64_t e = 0; e < d; e++) {
        const int64_t at = row * q->columns + head * d + e;
        for (int64_t key = 0; key < seen; key++) {
            const double value = values[key * width + kv + e];
            r->result[at] += weights[key] / sum * value;
            r->scale[at] += weights[key] / sum * fabs(value);
        }
    }
    free(weights);
}

// The kernel that a schedule would take, or NULL.
static inline const weir_kernel* accepting_kernel(weir_op_kind op, const kernel_run* run) {
    weir_view views[KERNEL_OPERANDS];
    kernel_views(run, views);
    const weir_kernel_use use = {views, run->operand_count, &run->constants};
    for (uint32_t i = 0; i < kernels_on.target->kernel_count; i++) {
        const weir_kernel* kernel = &kernels_on.target->kernels[i];
        if (kernel->op == op && kernel->accepts(&use)) {
            return kernel;
        }
    }
    return NULL;
}

// Checks one case, in place on q too, with `key_gap` blocks between rows of keys. Returns the
// kernel that was checked; NULL where the target has none for these types.
static inline const weir_kernel* check_attention_apart(const attention_case* c, int64_t key_gap,
                                                       weir_dtype key_dtype, weir_dtype value_dtype,
                                                       test_random* random) {
    const int64_t width = (int64_t)c->desc.heads * c->desc.head_dim;
    const int64_t kv_width = (int64_t)c->desc.kv_heads * c->desc.head_dim;
    const int64_t n = (int64_t)c->position + c->rows + c->spare;
    tensor q = new_random(random, WEIR_DTYPE_F32, c->rows, width, 4);
    tensor keys = new_cache(random, key_dtype, n, n - c->spare, kv_width, key_gap);
    tensor values = new_cache(random, value_dtype, n, n - c->spare, kv_width, 0);
    tensor y = new_tensor(WEIR_DTYPE_F32, c->rows, width, 1);
    reference r = new_reference(c->rows, width);
    double* key_numbers = decode_tensor(&keys, n - c->spare);
    double* value_numbers = decode_tensor(&values, n - c->spare);
    for (int64_t i = 0; i < c->rows * c->desc.heads; i++) {
        attention_reference(c, &q, key_numbers, value_numbers, i / c->desc.heads, i % c->desc.heads,
                            &r);
    }
    kernel_run run = {NULL, {&q, &keys, &values, &y}, 4, {.attention = c->desc}, {7, c->position}};
    run.kernel = accepting_kernel(WEIR_OP_ATTENTION, &run);
    if (run.kernel) {
        // The weights inherit the rounding of the scores, which grow with the scale.
        const double tolerance = 5e-6 * (1.0 + (double)c->desc.scale);
        check_kernel(&run, r.result, r.scale, tolerance, 1, random);
    }
    free(key_numbers);
    free(value_numbers);
    free_reference(&r);
    free_tensor(&q);
    free_tensor(&keys);
    free_tensor(&values);
    free_tensor(&y);
    return run.kernel;
}

static inline const weir_kernel* check_attention(const attention_case* c, weir_dtype key_dtype,
                                                 weir_dtype value_dtype, test_random* random) {
    return check_attention_apart(c, 1, key_dtype, value_dtype, random);
}

#endif
