// Every kernel against a plain f64 reference, on random and edge shapes: those of the CPU, or of
// the device that WEIR_TEST_DEVICE names.
#include "attention_testing.h"

#include "graph/graph.h"

#define POSITION 1 // index of the parameter that the kernels read

static test_random random_state = {0x5EEDu};

static void the_target_has_one_kernel_for_each_operation(void** state) {
    (void)state;
    need_host_kernels();
    assert_string_equal(weir_cpu_target.name, "cpu:plain");
    assert_int_equal(weir_cpu_target.waits, WEIR_WAIT_EDGES);
    assert_int_equal(weir_cpu_target.alignment, 64);
    assert_int_equal(weir_cpu_target.kernel_count, HOST_OPS);
    for (uint32_t op = 0; op < HOST_OPS; op++) {
        const weir_kernel* kernel = find_kernel((weir_op_kind)op);
        assert_string_equal(kernel->name, weir_op_name((weir_op_kind)op));
        assert_non_null(kernel->run);
        assert_int_equal(kernel->scratch_bytes(NULL), 0);
    }
}

// Rows of x and of w begin `x_gap` numbers and `w_gap` blocks behind the end of the one before.
static void check_spaced_matmul(weir_dtype dtype, int64_t m, int64_t n, int64_t k, int64_t x_gap,
                                int64_t w_gap) {
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, k, x_gap);
    tensor w = new_random(&random_state, dtype, n, k, w_gap);
    tensor y = new_tensor(WEIR_DTYPE_F32, m, n, 2);
    reference r = new_reference(m, n);
    product_reference(&x, &w, widen_row, r.result, r.scale);
    kernel_run run = {find_kernel(WEIR_OP_MATMUL), {&x, &w, &y}, 3, {0}, {0}};
    check_kernel(&run, r.result, r.scale, 4e-6, 0, &random_state);
    free_reference(&r);
    free_tensor(&x);
    free_tensor(&w);
    free_tensor(&y);
}

static void check_matmul(weir_dtype dtype, int64_t m, int64_t n, int64_t k) {
    check_spaced_matmul(dtype, m, n, k, 3, 1);
}

static void matmul_agrees_for_every_weight_type(void** state) {
    (void)state;
    uint32_t types = 0;
    for (uint32_t i = 1; i < WEIR_DTYPE_COUNT; i++) {
        const weir_dtype dtype = (weir_dtype)i;
        if (takes_weights(dtype)) {
            const int64_t block = row_step(dtype);
            check_matmul(dtype, 1, 5, block);
            check_matmul(dtype, 3, 18, 3 * block);
            check_matmul(dtype, 9, 33, block == 1 ? 300 : 2 * block);
            // Long rows, one and several, all on wide borders.
            check_spaced_matmul(dtype, 1, 11, 2304, 0, 0);
            check_spaced_matmul(dtype, 3, 11, 1280, 4, 2);
            types++;
        }
    }
    assert_int_equal(types, 16);
}

static void matmul_agrees_on_edge_shapes(void** state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1},    {1, 1, 7},   {2, 3, 8},    {1, 16, 255},
                                        {7, 17, 256}, {8, 4, 257}, {130, 20, 9}, {257, 2, 33},
                                        {1, 70, 520}, {4, 15, 64}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        check_matmul(WEIR_DTYPE_F32, shapes[i][0], shapes[i][1], shapes[i][2]);
    }
}

static void matmul_gives_a_row_the_same_bits_alone_and_in_a_batch(void** state) {
    (void)state;
    need_host_kernels();
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, 11, 544, 0);
    tensor w = new_random(&random_state, WEIR_DTYPE_Q8_0, 37, 544, 0);
    tensor y = new_tensor(WEIR_DTYPE_F32, 11, 37, 0);
    const kernel_run batch = {find_kernel(WEIR_OP_MATMUL), {&x, &w, &y}, 3, {0}, {0}};
    assert_ok(run_tiles(&batch, 0, &random_state));
    for (int64_t i = 0; i < 11; i++) {
        tensor x_row = new_tensor(WEIR_DTYPE_F32, 1, 544, 0);
        tensor y_row = new_tensor(WEIR_DTYPE_F32, 1, 37, 0);
        memcpy(tensor_row(&x_row, 0), tensor_row(&x, i), x.row_bytes);
        const kernel_run alone = {find_kernel(WEIR_OP_MATMUL), {&x_row, &w, &y_row}, 3, {0}, {0}};
        assert_ok(run_tiles(&alone, 0, &random_state));
        assert_memory_equal(tensor_row(&y_row, 0), tensor_row(&y, i), y.row_bytes);
        free_tensor(&x_row);
        free_tensor(&y_row);
    }
    free_tensor(&x);
    free_tensor(&w);
    free_tensor(&y);
}

// b: 0 the same shape, otherwise one row of this type.
static void check_elementwise(weir_op_kind op, weir_dtype b_row, int64_t m, int64_t k) {
    tensor a = new_random(&random_state, WEIR_DTYPE_F32, m, k, 1);
    tensor b = b_row == WEIR_DTYPE_NONE ? new_random(&random_state, WEIR_DTYPE_F32, m, k, 2)
                                        : new_row(&random_state, b_row, k);
    tensor y = new_tensor(WEIR_DTYPE_F32, m, k, 3);
    reference r = new_reference(m, k);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t c = 0; c < k; c++) {
            const double left = tensor_at(&a, i, c);
            const double right = tensor_at(&b, b_row == WEIR_DTYPE_NONE ? i : 0, c);
            double result = left + right;
            if (op == WEIR_OP_MUL) {
                result = left * right;
            } else if (op == WEIR_OP_SILU_GATE) {
                result = left / (1.0 + exp(-left)) * right;
            }
            r.result[i * k + c] = result;
            r.scale[i * k + c] = fabs(result);
        }
    }
    kernel_run run = {find_kernel(op), {&a, &b, &y}, 3, {0}, {0}};
    const double tolerance = op == WEIR_OP_SILU_GATE ? 1e-6 : 1e-7;
    check_kernel(&run, r.result, r.scale, tolerance, b_row == WEIR_DTYPE_NONE ? 3 : 1,
                 &random_state);
    free_reference(&r);
    free_tensor(&a);
    free_tensor(&b);
    free_tensor(&y);
}

static void elementwise_kernels_agree_and_work_in_place(void** state) {
    (void)state;
    static const int64_t shapes[][2] = {{1, 1}, {1, 64}, {3, 7}, {2, 1024}, {5, 2051}, {40, 33}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const int64_t m = shapes[i][0];
        const int64_t k = shapes[i][1];
        check_elementwise(WEIR_OP_SILU_GATE, WEIR_DTYPE_NONE, m, k);
        check_elementwise(WEIR_OP_MUL, WEIR_DTYPE_NONE, m, k);
        check_elementwise(WEIR_OP_ADD, WEIR_DTYPE_NONE, m, k);
        check_elementwise(WEIR_OP_MUL, WEIR_DTYPE_F32, m, k);
        check_elementwise(WEIR_OP_ADD, WEIR_DTYPE_F16, m, k);
        check_elementwise(WEIR_OP_MUL, WEIR_DTYPE_BF16, m, k);
    }
}

static void silu_of_large_numbers_neither_overflows_nor_becomes_nan(void** state) {
    (void)state;
    tensor gate = new_tensor(WEIR_DTYPE_F32, 1, 4, 0);
    tensor up = new_tensor(WEIR_DTYPE_F32, 1, 4, 0);
    tensor y = new_tensor(WEIR_DTYPE_F32, 1, 4, 0);
    memcpy(tensor_data(&gate), (float[]){-1000.0f, 1000.0f, -0.0f, -88.0f}, 16);
    memcpy(tensor_data(&up), (float[]){2.0f, 2.0f, 2.0f, 2.0f}, 16);
    const kernel_run run = {find_kernel(WEIR_OP_SILU_GATE), {&gate, &up, &y}, 3, {0}, {0}};
    assert_ok(run_tiles(&run, 0, &random_state));
    assert_near(&y, (double[]){0.0, 2000.0, 0.0, -176.0 / (1.0 + exp(88.0))},
                (double[]){1.0, 2000.0, 1.0, 1e-30}, 1e-6);
    free_tensor(&gate);
    free_tensor(&up);
    free_tensor(&y);
}

static void check_rms_norm(int64_t m, int64_t k, float epsilon) {
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, k, 5);
    tensor y = new_tensor(WEIR_DTYPE_F32, m, k, 0);
    reference r = new_reference(m, k);
    for (int64_t i = 0; i < m; i++) {
        double sum = 0.0;
        for (int64_t c = 0; c < k; c++) {
            sum += tensor_at(&x, i, c) * tensor_at(&x, i, c);
        }
        for (int64_t c = 0; c < k; c++) {
            const double result = tensor_at(&x, i, c) / sqrt(sum / (double)k + (double)epsilon);
            r.result[i * k + c] = result;
            r.scale[i * k + c] = fabs(result);
        }
    }
    kernel_run run = {find_kernel(WEIR_OP_RMS_NORM), {&x, &y}, 2, {.epsilon = epsilon}, {0}};
    check_kernel(&run, r.result, r.scale, 1e-6, 1, &random_state);
    free_reference(&r);
    free_tensor(&x);
    free_tensor(&y);
}

static void rms_norm_agrees_and_works_in_place(void** state) {
    (void)state;
    check_rms_norm(1, 1, 1e-5f);
    check_rms_norm(1, 64, 1e-5f);
    check_rms_norm(3, 255, 0.0f);
    check_rms_norm(17, 257, 1e-6f);
    check_rms_norm(2, 5000, 1e-5f);
}

static void check_rope(const weir_rope_desc* desc, bool has_factors, int64_t m, int64_t heads,
                       uint64_t position) {
    const int64_t k = heads * desc->head_dim;
    const int64_t half = desc->rotated / 2;
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, k, 2);
    tensor factors = new_row(&random_state, WEIR_DTYPE_F32, half);
    tensor y = new_tensor(WEIR_DTYPE_F32, m, k, 1);
    reference r = new_reference(m, k);
    for (int64_t i = 0; i < half; i++) {
        ((float*)tensor_data(&factors))[i] = 1.0f + (float)i;
    }
    rope_reference(desc, &x, has_factors, position, &r);
    kernel_run run = {find_kernel(WEIR_OP_ROPE), {&x, &y}, 2, {.rope = *desc}, {7, position}};
    if (has_factors) {
        run.operands[1] = &factors;
        run.operands[2] = &y;
        run.operand_count = 3;
    }
    check_kernel(&run, r.result, r.scale, 3e-7, 1, &random_state);
    free_reference(&r);
    free_tensor(&x);
    free_tensor(&factors);
    free_tensor(&y);
}

static void rope_agrees_for_both_pairings_and_works_in_place(void** state) {
    (void)state;
    for (int pairing = 0; pairing < 2; pairing++) {
        weir_rope_desc desc = {.head_dim = 8,
                               .rotated = 8,
                               .pairing = (weir_rope_pairing)pairing,
                               .base = 10000.0f,
                               .scale = 1.0f,
                               .position = POSITION};
        check_rope(&desc, false, 1, 1, 0);
        check_rope(&desc, true, 5, 3, 17);
        desc.head_dim = 2;
        desc.rotated = 2;
        check_rope(&desc, false, 3, 1, 1);
        desc.head_dim = 15;
        desc.rotated = 6;
        check_rope(&desc, false, 4, 2, 3);
        desc.head_dim = 300;
        desc.rotated = 260;
        desc.base = 500000.0f;
        desc.scale = 0.25f;
        check_rope(&desc, true, 9, 2, 131000);
    }
}

static void attention_agrees_and_works_in_place(void** state) {
    (void)state;
    const attention_case cases[] = {
        {{1, 1, 1, 1.0f, POSITION}, 1, 0, 0},      {{1, 1, 4, 0.5f, POSITION}, 3, 0, 2},
        {{4, 2, 15, 0.26f, POSITION}, 5, 62, 1},   {{6, 3, 8, 0.35f, POSITION}, 9, 0, 0},
        {{3, 1, 64, 0.125f, POSITION}, 1, 63, 4},  {{2, 2, 16, 2.0f, POSITION}, 2, 64, 0},
        {{2, 1, 512, 0.04f, POSITION}, 1, 130, 3}, {{8, 8, 4, 0.5f, POSITION}, 66, 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_non_null(check_attention(&cases[i], WEIR_DTYPE_F32, WEIR_DTYPE_F32, &random_state));
    }
}

// Blocks of Q8_0 begin and end within heads where 32 does not divide these. A device wants both
// caches of one type, and reads halves two at a time where it can: not in rows or heads of odd
// length.
static void attention_reads_caches_of_every_type(void** state) {
    (void)state;
    const weir_dtype dtypes[] = {WEIR_DTYPE_F32, WEIR_DTYPE_F16, WEIR_DTYPE_BF16, WEIR_DTYPE_Q8_0};
    for (int i = 0; i < 16; i++) {
        const attention_case cases[] = {
            {{8, 4, 8, 0.35f, POSITION}, 1, 70, 2},   {{5, 1, 64, 0.125f, POSITION}, 3, 63, 0},
            {{4, 4, 40, 0.2f, POSITION}, 9, 60, 1},   {{4, 4, 40, 0.2f, POSITION}, 2, 140, 1},
            {{2, 1, 512, 0.04f, POSITION}, 1, 64, 3}, {{2, 2, 480, 0.04f, POSITION}, 2, 3, 0},
            {{2, 2, 15, 0.26f, POSITION}, 2, 62, 1},
        };
        const weir_dtype keys = dtypes[i % 4];
        const weir_dtype values = dtypes[i / 4];
        for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
            const uint32_t width = cases[k].desc.kv_heads * cases[k].desc.head_dim;
            if ((keys == WEIR_DTYPE_Q8_0 || values == WEIR_DTYPE_Q8_0) && width % 32 != 0) {
                continue;
            }
            const bool taken =
                !kernels_on.device || (keys == values && takes_cache(keys) && takes_cache(values));
            if (taken != (check_attention_apart(&cases[k], 1 + i / 4 % 2, keys, values,
                                                &random_state) != NULL)) {
                fail_msg("%s kernel for case %zu of types %d", taken ? "no" : "a", k, i);
            }
        }
    }
}

// Few rows and a long cache: a device cuts the keys into parts, of which a text that has just begun
// fills one, and the last may be short.
static void attention_agrees_where_long_caches_are_cut(void** state) {
    (void)state;
    const attention_case cases[] = {
        {{4, 2, 64, 0.125f, POSITION}, 1, 0, 1100},  {{4, 2, 64, 0.125f, POSITION}, 1, 127, 973},
        {{4, 2, 64, 0.125f, POSITION}, 1, 128, 972}, {{4, 2, 64, 0.125f, POSITION}, 1, 700, 400},
        {{4, 1, 32, 0.2f, POSITION}, 3, 1020, 0},    {{1, 1, 512, 0.04f, POSITION}, 2, 511, 0},
        {{32, 8, 8, 0.35f, POSITION}, 4, 510, 2},    {{2, 2, 15, 100.0f, POSITION}, 2, 600, 9},
    };
    const weir_dtype dtypes[] = {WEIR_DTYPE_F32, WEIR_DTYPE_F16};
    for (size_t i = 0; i < 2 * (sizeof cases / sizeof cases[0]); i++) {
        const weir_dtype dtype = dtypes[i % 2];
        const uint32_t runs = kernels_on.scratch_runs;
        assert_non_null(check_attention_apart(&cases[i / 2], 2, dtype, dtype, &random_state));
        assert_true(!kernels_on.device || kernels_on.scratch_runs > runs);
    }
}

static void attention_survives_scores_that_would_overflow_exp(void** state) {
    (void)state;
    assert_non_null(check_attention(&(attention_case){{2, 1, 16, 100.0f, POSITION}, 3, 70, 1},
                                    WEIR_DTYPE_F32, WEIR_DTYPE_F32, &random_state));
}

static void attention_refuses_what_does_not_fit(void** state) {
    (void)state;
    tensor q = new_random(&random_state, WEIR_DTYPE_F32, 2, 513, 0);
    tensor cache = new_random(&random_state, WEIR_DTYPE_F32, 8, 513, 0);
    tensor y = new_tensor(WEIR_DTYPE_F32, 2, 513, 0);
    kernel_run run = {find_kernel(WEIR_OP_ATTENTION),
                      {&q, &cache, &cache, &y},
                      4,
                      {.attention = {1, 1, 513, 1.0f, POSITION}},
                      {0, 6}};
    const weir_view views[] = {q.view, cache.view, cache.view, y.view};
    assert_false(run.kernel->accepts(&(weir_kernel_use){views, 4, &run.constants}));
    run.constants.attention.head_dim = 27;
    run.constants.attention.heads = run.constants.attention.kv_heads = 19;
    assert_ok(run_tiles(&run, 0, &random_state));
    run.params[POSITION] = 7;
    assert_status(run_tiles(&run, 0, &random_state), WEIR_OUT_OF_RANGE);
    assert_message_has("attention: position 7 and 2 rows");
    run.params[POSITION] = UINT64_MAX;
    assert_status(run_tiles(&run, 0, &random_state), WEIR_OUT_OF_RANGE);
    free_tensor(&q);
    free_tensor(&cache);
    free_tensor(&y);
}

static void get_rows_copies_exactly_for_every_type(void** state) {
    (void)state;
    for (uint32_t i = 1; i < WEIR_DTYPE_COUNT; i++) {
        const weir_dtype dtype = (weir_dtype)i;
        if (!takes_weights(dtype)) {
            continue;
        }
        const int64_t block = row_step(dtype);
        const int64_t k = block == 1 ? 33 : 3 * block;
        tensor table = new_random(&random_state, dtype, 5, k, 1);
        tensor indices = new_tensor(WEIR_DTYPE_I32, 1, 7, 0);
        tensor y = new_tensor(WEIR_DTYPE_F32, 7, k, 2);
        reference r = new_reference(7, k);
        indices.view.shape = weir_shape_make(1, (int64_t[]){7});
        indices.view.strides[0] = 4;
        for (int64_t row = 0; row < 7; row++) {
            const int32_t index = row == 0 ? 4 : (int32_t)random_below(&random_state, 5);
            ((int32_t*)tensor_data(&indices))[row] = index;
            for (int64_t c = 0; c < k; c++) {
                r.result[row * k + c] = tensor_at(&table, index, c);
            }
        }
        kernel_run run = {find_kernel(WEIR_OP_GET_ROWS), {&table, &indices, &y}, 3, {0}, {0}};
        check_kernel(&run, r.result, r.scale, 0.0, 0, &random_state);
        free_reference(&r);
        free_tensor(&table);
        free_tensor(&indices);
        free_tensor(&y);
    }
}

static void get_rows_refuses_indices_outside_the_table(void** state) {
    (void)state;
    static const int32_t bad[] = {5, -1, INT32_MAX, INT32_MIN};
    tensor table = new_random(&random_state, WEIR_DTYPE_F32, 5, 8, 0);
    tensor y = new_tensor(WEIR_DTYPE_F32, 2, 8, 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        tensor indices = new_tensor(WEIR_DTYPE_I32, 1, 2, 0);
        indices.view.shape = weir_shape_make(1, (int64_t[]){2});
        indices.view.strides[0] = 4;
        memcpy(tensor_data(&indices), (int32_t[]){4, bad[i]}, 8);
        const kernel_run run = {find_kernel(WEIR_OP_GET_ROWS), {&table, &indices, &y}, 3, {0}, {0}};
        char part[64];
        snprintf(part, sizeof part, "index %d (row 1) is outside [0, 5)", (int)bad[i]);
        assert_status(run_tiles(&run, 0, &random_state), WEIR_OUT_OF_RANGE);
        assert_message_has(part);
        free_tensor(&indices);
    }
    free_tensor(&table);
    free_tensor(&y);
}

static void set_rows_writes_its_rows_and_no_others(void** state) {
    (void)state;
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, 3, 33, 2);
    for (uint64_t position = 0; position <= 6; position++) {
        tensor cache = new_random(&random_state, WEIR_DTYPE_F32, 8, 33, 1);
        tensor before = copy_tensor(&cache);
        const kernel_run run = {
            find_kernel(WEIR_OP_SET_ROWS), {&x, &cache}, 2, {.position = POSITION}, {0, position}};
        if (position > 5) {
            assert_status(run_tiles(&run, 2, &random_state), WEIR_OUT_OF_RANGE);
            assert_message_has("set_rows: position 6 and 3 rows");
            assert_memory_equal(cache.memory, before.memory, cache.byte_size);
        } else {
            assert_ok(run_tiles(&run, 2, &random_state));
            for (int64_t row = 0; row < 3; row++) {
                memcpy(tensor_row(&before, (int64_t)position + row), tensor_row(&x, row),
                       x.row_bytes);
            }
            assert_memory_equal(cache.memory, before.memory, cache.byte_size);
        }
        free_tensor(&cache);
        free_tensor(&before);
    }
    free_tensor(&x);
}

// Where f16 and bf16 round, and what they cannot hold.
static const float border_numbers[] = {
    0.0f,          -0.0f,       65504.0f,     65519.0f,     65520.0f,  -65536.0f, 3.4e38f,
    INFINITY,      -INFINITY,   0x1p-14f,     0x1.ffcp-15f, 0x1p-24f,  0x1p-25f,  0x1.8p-25f,
    -0x1p-26f,     1e-40f,      0x1.002p0f,   0x1.006p0f,   0x1.01p0f, 0x1.03p0f, -0x1.00ap0f,
    0x1.fffffep7f, 0x1.ffep-1f, 0x1.ffffp15f, NAN,          -NAN,
};

// A row is stored as the encoder of the type stores it.
static void set_rows_encodes_to_the_type_of_its_state(void** state) {
    (void)state;
    const weir_dtype dtypes[] = {WEIR_DTYPE_F16, WEIR_DTYPE_BF16, WEIR_DTYPE_Q8_0};
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        tensor x = new_random(&random_state, WEIR_DTYPE_F32, 5, 96, 2);
        tensor cache = new_tensor(dtypes[i], 9, 96, 1);
        memcpy(tensor_row(&x, 1), border_numbers, sizeof border_numbers);
        tensor expected = copy_tensor(&cache);
        kernel_run run = {NULL, {&x, &cache}, 2, {.position = POSITION}, {0, 3}};
        run.kernel = accepting_kernel(WEIR_OP_SET_ROWS, &run);
        for (int64_t row = 0; row < 5; row++) {
            assert_ok(weir_dtype_from_f32(dtypes[i], (const float*)(const void*)tensor_row(&x, row),
                                          96, tensor_row(&expected, 3 + row)));
        }
        assert_true((run.kernel != NULL) == takes_cache(dtypes[i]));
        if (run.kernel) {
            assert_ok(run_tiles(&run, 3, &random_state));
            assert_memory_equal(cache.memory, expected.memory, cache.byte_size);
        }
        free_tensor(&x);
        free_tensor(&cache);
        free_tensor(&expected);
    }
}

// The three parts one after another, each against what it is defined to compute of the bits that
// the one before has made.
static void check_split_attention(const attention_case* c, weir_dtype key_dtype,
                                  weir_dtype value_dtype) {
    const int64_t heads = c->desc.heads;
    const int64_t d = c->desc.head_dim;
    const int64_t n = (int64_t)c->position + c->rows + c->spare;
    tensor q = new_random(&random_state, WEIR_DTYPE_F32, c->rows, heads * d, 4);
    const int64_t written = n - c->spare;
    tensor keys = new_cache(&random_state, key_dtype, n, written, c->desc.kv_heads * d, 1);
    tensor values = new_cache(&random_state, value_dtype, n, written, c->desc.kv_heads * d, 0);
    tensor scores = new_tensor(WEIR_DTYPE_F32, c->rows, heads * n, 1);
    tensor weights = new_tensor(WEIR_DTYPE_F32, c->rows, heads * n, 3);
    tensor y = new_tensor(WEIR_DTYPE_F32, c->rows, heads * d, 1);
    reference r[3] = {new_reference(c->rows, heads * n), new_reference(c->rows, heads * n),
                      new_reference(c->rows, heads * d)};
    const weir_op_constants constants = {.attention = c->desc};
    kernel_run runs[3] = {
        {find_kernel(WEIR_OP_ATTENTION_SCORES),
         {&q, &keys, &scores},
         3,
         constants,
         {7, c->position}},
        {find_kernel(WEIR_OP_ATTENTION_SOFTMAX),
         {&scores, &weights},
         2,
         constants,
         {7, c->position}},
        {find_kernel(WEIR_OP_ATTENTION_SUM),
         {&weights, &values, &y},
         3,
         constants,
         {7, c->position}},
    };
    for (int64_t at = 0; at < c->rows * heads * n; at++) {
        const int64_t row = at / (heads * n);
        const int64_t key = at % n;
        const int64_t head = at / n % heads;
        const int64_t kv = head / (heads / c->desc.kv_heads) * d;
        for (int64_t e = 0; e < d && key <= (int64_t)c->position + row; e++) {
            const double product = tensor_at(&q, row, head * d + e) * tensor_at(&keys, key, kv + e);
            r[0].result[at] += product;
            r[0].scale[at] += fabs(product);
        }
    }
    check_kernel(&runs[0], r[0].result, r[0].scale, 3e-6, 0, &random_state);
    for (int64_t i = 0; i < c->rows * heads; i++) {
        const int64_t row = i / heads;
        const int64_t seen = (int64_t)c->position + row + 1;
        double max = -INFINITY;
        double sum = 0.0;
        for (int64_t key = 0; key < seen; key++) {
            max = fmax(max, tensor_at(&scores, row, i % heads * n + key) * (double)c->desc.scale);
        }
        for (int64_t pass = 0; pass < 2; pass++) {
            for (int64_t key = 0; key < seen; key++) {
                const double score = tensor_at(&scores, row, i % heads * n + key);
                const double weight = exp(score * (double)c->desc.scale - max);
                sum += pass == 0 ? weight : 0.0;
                r[1].result[i * n + key] = weight / sum;
                r[1].scale[i * n + key] = weight / sum;
            }
        }
    }
    // The exponent of a large score is rounded before exp sees it.
    check_kernel(&runs[1], r[1].result, r[1].scale, 5e-6 * (1.0 + c->desc.scale), 1, &random_state);
    for (int64_t at = 0; at < c->rows * heads * d; at++) {
        const int64_t row = at / (heads * d);
        const int64_t head = at / d % heads;
        const int64_t kv = head / (heads / c->desc.kv_heads) * d;
        for (int64_t key = 0; key <= (int64_t)c->position + row; key++) {
            const double product =
                tensor_at(&weights, row, head * n + key) * tensor_at(&values, key, kv + at % d);
            r[2].result[at] += product;
            r[2].scale[at] += fabs(product);
        }
    }
    check_kernel(&runs[2], r[2].result, r[2].scale, 5e-6, 0, &random_state);
    tensor* tensors[] = {&q, &keys, &values, &scores, &weights, &y};
    for (size_t i = 0; i < 6; i++) {
        free_tensor(tensors[i]);
    }
    for (size_t i = 0; i < 3; i++) {
        free_reference(&r[i]);
    }
}

static void attention_in_three_parts_agrees_with_their_definitions(void** state) {
    (void)state;
    need_host_kernels();
    const attention_case cases[] = {
        {{1, 1, 1, 1.0f, POSITION}, 1, 0, 0},     {{4, 2, 15, 0.26f, POSITION}, 5, 62, 1},
        {{6, 3, 8, 0.35f, POSITION}, 9, 0, 0},    {{3, 1, 64, 0.125f, POSITION}, 1, 63, 4},
        {{2, 1, 16, 100.0f, POSITION}, 3, 70, 1}, {{8, 8, 4, 0.5f, POSITION}, 66, 1, 0},
        {{8, 4, 8, 0.35f, POSITION}, 3, 70, 2},   {{4, 4, 40, 0.2f, POSITION}, 2, 130, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_split_attention(&cases[i], WEIR_DTYPE_F32, WEIR_DTYPE_F32);
    }
    check_split_attention(&cases[6], WEIR_DTYPE_F16, WEIR_DTYPE_Q8_0);
    check_split_attention(&cases[7], WEIR_DTYPE_Q8_0, WEIR_DTYPE_BF16);
}

// Operands that fit `op`: [4, 64] activations, a [4, 64] matrix, caches of 9 rows.
static uint32_t make_operands(weir_op_kind op, weir_view views[KERNEL_OPERANDS]) {
    const weir_shape shape = weir_shape_make(2, (int64_t[]){4, 64});
    const weir_shape ids = weir_shape_make(1, (int64_t[]){4});
    const weir_shape cache = weir_shape_make(2, (int64_t[]){9, 64});
    const weir_shape square = weir_shape_make(2, (int64_t[]){4, 4});
    const weir_shape scores = weir_shape_make(2, (int64_t[]){4, 18}); // of two heads
    const weir_shape row = weir_shape_make(1, (int64_t[]){64});
    const weir_shape narrow_cache = weir_shape_make(2, (int64_t[]){9, 4});
    uint32_t last = 0;
    for (uint32_t i = 0; i < KERNEL_OPERANDS; i++) {
        assert_ok(weir_view_layout(WEIR_DTYPE_F32, &shape, &views[i]));
    }
    switch (op) {
    case WEIR_OP_GET_ROWS:
        assert_ok(weir_view_layout(WEIR_DTYPE_I32, &ids, &views[1]));
        return 3;
    case WEIR_OP_MATMUL:
        assert_ok(weir_view_layout(WEIR_DTYPE_F32, &square, &views[2]));
        return 3;
    case WEIR_OP_ATTENTION:
        assert_ok(weir_view_layout(WEIR_DTYPE_F32, &cache, &views[1]));
        assert_ok(weir_view_layout(WEIR_DTYPE_F32, &cache, &views[2]));
        return 4;
    case WEIR_OP_ATTENTION_SCORES:
    case WEIR_OP_ATTENTION_SUM:
        assert_ok(weir_view_layout(WEIR_DTYPE_F32, &cache, &views[1]));
        assert_ok(
            weir_view_layout(WEIR_DTYPE_F32, &scores, &views[op == WEIR_OP_ATTENTION_SUM ? 0 : 2]));
        return 3;
    case WEIR_OP_SET_ROWS:
    case WEIR_OP_ROPE_SET_ROWS:
        assert_ok(weir_view_layout(WEIR_DTYPE_F32, &cache, &views[1]));
        return 2;
    case WEIR_OP_GATE_UP:
        assert_ok(weir_view_layout(WEIR_DTYPE_F32, &square, &views[3]));
        return 4;
    case WEIR_OP_MATMUL_ADD:
        assert_ok(weir_view_layout(WEIR_DTYPE_F32, &square, &views[2]));
        assert_ok(weir_view_layout(WEIR_DTYPE_F32, &square, &views[3]));
        return 4;
    case WEIR_OP_ADD_RMS_NORM_MUL:
        return 5;
    case WEIR_OP_RMS_NORM_MATMUL:
    case WEIR_OP_RMS_NORM_GATE_UP:
        last = op == WEIR_OP_RMS_NORM_MATMUL ? 3 : 4;
        assert_ok(weir_view_layout(WEIR_DTYPE_F32, &row, &views[last - 1]));
        assert_ok(weir_view_layout(WEIR_DTYPE_F32, &square, &views[last]));
        return last + 1;
    case WEIR_OP_MATMUL_SET_ROWS:
        assert_ok(weir_view_layout(WEIR_DTYPE_F32, &narrow_cache, &views[2]));
        return 3;
    case WEIR_OP_MATMUL_ROPE:
        assert_ok(weir_view_layout(WEIR_DTYPE_F32, &square, &views[2]));
        return 3;
    case WEIR_OP_ATTENTION_SOFTMAX:
    case WEIR_OP_RMS_NORM:
    case WEIR_OP_ROPE:
        return 2;
    default:
        return 3;
    }
}

static const weir_op_constants two_heads = {.attention = {2, 2, 32, 1.0f, 0}};

static const weir_op_constants half_turned = {
    .projection = {.turns = true, .rope = {4, 2, WEIR_ROPE_HALVES, 1e4f, 1.0f, 0}}};

static bool accepts(const weir_kernel* kernel, const weir_view* views, uint32_t count) {
    const bool projects =
        kernel->op == WEIR_OP_MATMUL_SET_ROWS || kernel->op == WEIR_OP_MATMUL_ROPE;
    return kernel->accepts(&(weir_kernel_use){views, count, projects ? &half_turned : &two_heads});
}

static uint32_t tiles_of(const weir_kernel* kernel, const weir_view* views, uint32_t count) {
    return kernel->tile_count(&(weir_kernel_use){views, count, &two_heads});
}

static void kernels_accept_only_what_they_can_read_and_write(void** state) {
    (void)state;
    for (uint32_t i = 0; i < WEIR_OP_COUNT; i++) {
        const weir_kernel* kernel = find_kernel((weir_op_kind)i);
        if (!kernel) {
            continue;
        }
        weir_view views[KERNEL_OPERANDS];
        const uint32_t count = make_operands(kernel->op, views);
        assert_true(accepts(kernel, views, count));
        assert_false(accepts(kernel, views, 1));
        assert_false(accepts(kernel, views, count + 2));
        for (uint32_t v = 0; v < count; v++) {
            const weir_view good = views[v];
            views[v].dtype = WEIR_DTYPE_Q2_K;
            assert_false(accepts(kernel, views, count));
            views[v] = good;
            views[v].shape.rank = 3;
            assert_false(accepts(kernel, views, count));
            views[v] = good;
            views[v].strides[good.shape.rank - 1] *= 2;
            assert_false(accepts(kernel, views, count));
            views[v] = good;
            views[v].strides[0] += 2;
            assert_false(accepts(kernel, views, count));
            views[v] = good;
            views[v].byte_offset = 2;
            assert_false(accepts(kernel, views, count));
            views[v] = good;
            views[v].shape.dims[good.shape.rank - 1]++;
            assert_false(accepts(kernel, views, count));
            views[v] = good;
        }
        views[count - 1].strides[0] /= 2;
        assert_false(accepts(kernel, views, count));
    }
}

static void work_is_cut_by_its_size(void** state) {
    (void)state;
    need_host_kernels();
    for (uint32_t i = 0; i < HOST_OPS; i++) {
        const weir_kernel* kernel = find_kernel((weir_op_kind)i);
        weir_view views[KERNEL_OPERANDS];
        const uint32_t count = make_operands(kernel->op, views);
        assert_int_equal(tiles_of(kernel, views, count), 1);
        for (uint32_t v = 0; v < count; v++) {
            views[v].shape.dims[0] *= 1024;
            if (views[v].shape.rank == 2) {
                views[v].shape.dims[1] *= 64;
                views[v].strides[0] *= 64;
            }
        }
        assert_in_range(tiles_of(kernel, views, count), 16, 4096);
        views[0].shape.dims[0] = views[count - 1].shape.dims[0] = 0;
        views[kernel->op == WEIR_OP_GET_ROWS ? 1 : 0].shape.dims[0] = 0;
        assert_int_equal(tiles_of(kernel, views, count), 1);
    }
}

// Whether an operand other than the first and the last has as many rows as the first.
static bool goes_by_rows(weir_op_kind op, uint32_t operand) {
    return op == WEIR_OP_MUL || op == WEIR_OP_ADD || op == WEIR_OP_SILU_GATE ||
           op == WEIR_OP_RMS_NORM_MUL || op == WEIR_OP_ADD_RMS_NORM_MUL ||
           (op == WEIR_OP_MATMUL_ADD && operand == 2);
}

static void a_dispatch_of_no_rows_touches_nothing(void** state) {
    (void)state;
    need_host_kernels();
    for (uint32_t i = 0; i < HOST_OPS; i++) {
        const weir_kernel* kernel = find_kernel((weir_op_kind)i);
        weir_view views[KERNEL_OPERANDS];
        const uint32_t count = make_operands(kernel->op, views);
        const uint32_t rows_of = kernel->op == WEIR_OP_GET_ROWS ? 1 : 0;
        views[rows_of].shape.dims[0] = 0;
        if (!weir_graph_op_info(kernel->op)->writes_state) {
            views[count - 1].shape.dims[0] = 0;
        }
        for (uint32_t v = 1; v + 1 < count; v++) {
            views[v].shape.dims[0] = goes_by_rows(kernel->op, v) ? 0 : views[v].shape.dims[0];
        }
        assert_true(accepts(kernel, views, count));
        void* pointers[KERNEL_OPERANDS] = {NULL};
        weir_op_constants constants = two_heads;
        if (kernel->op == WEIR_OP_ROPE) {
            constants.rope = (weir_rope_desc){64, 64, WEIR_ROPE_HALVES, 1e4f, 1.0f, 0};
        } else if (kernel->op == WEIR_OP_SET_ROWS) {
            constants.position = 0;
        } else if (kernel->op == WEIR_OP_ROPE_SET_ROWS) {
            constants.rope_rows = (weir_rope_rows_desc){
                .rope = {64, 64, WEIR_ROPE_HALVES, 1e4f, 1.0f, 0}, .position = 0};
        }
        const uint64_t params[1] = {0};
        const weir_kernel_call call = {views, pointers, count, 0, 1, &constants, params, NULL};
        assert_ok(kernel->run(&call));
    }
}

static void kernels_that_need_parameters_say_so_in_a_session(void** state) {
    (void)state;
    need_host_kernels();
    static const weir_op_kind ops[] = {WEIR_OP_ROPE,
                                       WEIR_OP_ATTENTION,
                                       WEIR_OP_SET_ROWS,
                                       WEIR_OP_ATTENTION_SCORES,
                                       WEIR_OP_ATTENTION_SOFTMAX,
                                       WEIR_OP_ATTENTION_SUM};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        weir_view views[KERNEL_OPERANDS];
        const uint32_t count = make_operands(ops[i], views);
        void* pointers[KERNEL_OPERANDS] = {NULL};
        const weir_kernel_call call = {views, pointers, count, 0, 1, &two_heads, NULL, NULL};
        assert_status(find_kernel(ops[i])->run(&call), WEIR_INVALID_ARGUMENT);
        assert_message_has(weir_op_name(ops[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_target_has_one_kernel_for_each_operation),
        cmocka_unit_test(matmul_agrees_for_every_weight_type),
        cmocka_unit_test(matmul_agrees_on_edge_shapes),
        cmocka_unit_test(matmul_gives_a_row_the_same_bits_alone_and_in_a_batch),
        cmocka_unit_test(elementwise_kernels_agree_and_work_in_place),
        cmocka_unit_test(silu_of_large_numbers_neither_overflows_nor_becomes_nan),
        cmocka_unit_test(rms_norm_agrees_and_works_in_place),
        cmocka_unit_test(rope_agrees_for_both_pairings_and_works_in_place),
        cmocka_unit_test(attention_agrees_and_works_in_place),
        cmocka_unit_test(attention_reads_caches_of_every_type),
        cmocka_unit_test(attention_agrees_where_long_caches_are_cut),
        cmocka_unit_test(attention_survives_scores_that_would_overflow_exp),
        cmocka_unit_test(attention_refuses_what_does_not_fit),
        cmocka_unit_test(attention_in_three_parts_agrees_with_their_definitions),
        cmocka_unit_test(get_rows_copies_exactly_for_every_type),
        cmocka_unit_test(get_rows_refuses_indices_outside_the_table),
        cmocka_unit_test(set_rows_writes_its_rows_and_no_others),
        cmocka_unit_test(set_rows_encodes_to_the_type_of_its_state),
        cmocka_unit_test(kernels_accept_only_what_they_can_read_and_write),
        cmocka_unit_test(work_is_cut_by_its_size),
        cmocka_unit_test(a_dispatch_of_no_rows_touches_nothing),
        cmocka_unit_test(kernels_that_need_parameters_say_so_in_a_session),
    };
    return cmocka_run_group_tests(tests, open_kernel_device, close_kernel_device);
}
