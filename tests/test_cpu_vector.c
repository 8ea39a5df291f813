// The vector functions of the CPU kernels against the C library in double precision, and the
// kernels of AVX-512 beside products against the plain ones and their definitions.
#include "attention_testing.h"

#include "backends/cpu/kernels/cpu_exp.h"
#ifdef WEIR_CPU_X86
#include "avx512_math_testing.h"
#include "backends/cpu/avx512/avx512_products.h"
#endif

#define POSITION 1 // index of the parameter that the kernels read

static test_random random_state = {0x5EC708u};

static bool has_avx512(void) {
    return weir_cpu_target_avx512() != NULL;
}

static void need_avx512(void) {
    if (!has_avx512()) {
        print_message("skipped: this processor has no AVX-512\n");
        skip();
    }
    kernels_on.target = weir_cpu_target_avx512();
}

// Units in the last place of an f32 near `exact`, which is a normal number.
static double ulps(float got, double exact) {
    int exponent = 0;
    frexp(exact, &exponent);
    return fabs((double)got - exact) / ldexp(1.0, exponent - 24);
}

static void exp4(const float x[4], float y[4]) {
    cpu_store(y, cpu_exp(cpu_load(x)));
}

static void exp_is_within_its_error(void** state) {
    (void)state;
    double worst = 0.0;
    double worst_avx512 = 0.0;
    for (int i = 0; i < 40000; i++) {
        float x[16];
        float y[16];
        for (int k = 0; k < 16; k++) {
            x[k] = i == 0 ? (float)(k - 8) : 87.0f * random_unit(&random_state);
        }
        for (int k = 0; k < 16; k += 4) {
            exp4(x + k, y + k);
        }
        for (int k = 0; k < 16; k++) {
            worst = fmax(worst, ulps(y[k], exp((double)x[k])));
        }
#ifdef WEIR_CPU_X86
        if (has_avx512()) {
            avx512_exp_testing(x, y);
            for (int k = 0; k < 16; k++) {
                worst_avx512 = fmax(worst_avx512, ulps(y[k], exp((double)x[k])));
            }
        }
#endif
    }
    if (!(worst <= 2.0 && worst_avx512 <= 1.5)) {
        fail_msg("errors of %g and %g units", worst, worst_avx512);
    }
}

static void exp_of_extremes_is_what_is_promised(void** state) {
    (void)state;
    const float x[4] = {-INFINITY, -1000.0f, INFINITY, NAN};
    float y[4];
    exp4(x, y);
    assert_true(ulps(y[0], exp(-87.0)) <= 2.0);
    assert_true(ulps(y[1], exp(-87.0)) <= 2.0);
    assert_true(ulps(y[2], exp(88.0)) <= 2.0);
    assert_true(isnan(y[3]));
#ifdef WEIR_CPU_X86
    if (has_avx512()) {
        const float wide[16] = {-INFINITY, -1000.0f, -104.0f, INFINITY, 89.0f,
                                NAN,       0.0f,     -0.0f,   -90.0f};
        float got[16];
        avx512_exp_testing(wide, got);
        assert_true(got[0] == 0.0f && got[1] == 0.0f && got[2] == 0.0f);
        assert_true(isinf(got[3]) && isinf(got[4]) && isnan(got[5]));
        assert_true(got[6] == 1.0f && got[7] == 1.0f);
        assert_true(fabs((double)got[8] - exp(-90.0)) <= 2e-45); // a subnormal
    }
#endif
}

#ifdef WEIR_CPU_X86

typedef void (*gate_fn)(const float* gate, const float* up, int64_t count, float* y);

static void check_extreme_gates(gate_fn gates) {
    const float gate[5] = {-1e4f, -3e38f, 3e38f, -87.0f, NAN};
    const float up[5] = {2.0f, 2.0f, 0.5f, 2.0f, 1.0f};
    float y[5];
    gates(gate, up, 5, y);
    assert_true(y[0] == 0.0f && y[1] == 0.0f);
    assert_true(y[2] == 1.5e38f);
    assert_true(y[3] < 0.0f && y[3] > -1e-35f);
    assert_true(isnan(y[4]));
}

static void gates_of_extremes_are_what_is_promised(void** state) {
    (void)state;
    check_extreme_gates(cpu_silu_gate);
    if (has_avx512()) {
        check_extreme_gates(avx512_silu_gate);
    }
}

// Every length up to two and a half vectors, in place, with a number behind the end.
static void gates_of_avx512_are_within_their_error(void** state) {
    (void)state;
    need_avx512();
    double worst = 0.0;
    for (int64_t count = 1; count <= 40; count++) {
        for (int turn = 0; turn < 50; turn++) {
            double exact[40];
            float y[41];
            float up[40];
            for (int64_t i = 0; i < count; i++) {
                y[i] = 60.0f * random_unit(&random_state);
                up[i] = random_unit(&random_state) + 2.0f;
                exact[i] = (double)y[i] / (1.0 + exp(-(double)y[i])) * (double)up[i];
            }
            y[count] = 7.0f;
            avx512_silu_gate(y, up, count, y);
            for (int64_t i = 0; i < count; i++) {
                worst = fmax(worst, ulps(y[i], exact[i]));
            }
            assert_true(y[count] == 7.0f);
        }
    }
    if (!(worst <= 4.0)) {
        fail_msg("an error of %g units", worst);
    }
}

static void powers_of_two_in_f64_are_exact_to_15_digits(void** state) {
    (void)state;
    need_avx512();
    for (int i = 0; i < 20000; i++) {
        double x[8];
        double y[8];
        for (int k = 0; k < 8; k++) {
            x[k] = 40.0 * (double)random_unit(&random_state);
        }
        avx512_exp2_testing(x, y);
        for (int k = 0; k < 8; k++) {
            assert_true(fabs(y[k] / exp2(x[k]) - 1.0) <= 1e-15);
        }
    }
}

// Multiples of pi / 4 are where quadrants change.
static void sines_and_cosines_are_exact_to_10_digits(void** state) {
    (void)state;
    need_avx512();
    for (int i = 0; i < 40000; i++) {
        double x[8];
        double sine[8];
        double cosine[8];
        for (int k = 0; k < 8; k++) {
            const double size = i % 4 == 0 ? 10.0 : i % 4 == 1 ? 1e5 : i % 4 == 2 ? 1e9 : 0.0;
            x[k] = size * (double)random_unit(&random_state);
            if (i % 4 == 3) {
                const int eighths = 8 * (i / 4) + k - 4000;
                x[k] = 0.78539816339744830962 * (double)eighths;
            }
        }
        avx512_sin_cos_testing(x, sine, cosine);
        for (int k = 0; k < 8; k++) {
            assert_true(fabs(sine[k] - sin(x[k])) <= 1e-10);
            assert_true(fabs(cosine[k] - cos(x[k])) <= 1e-10);
        }
    }
}

#endif

static void check_rope(const weir_rope_desc* desc, bool has_factors, int64_t m, int64_t heads,
                       uint64_t position, const char* name) {
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, m, heads * desc->head_dim, 2);
    tensor factors = new_row(&random_state, WEIR_DTYPE_F32, desc->rotated / 2);
    tensor y = new_tensor(WEIR_DTYPE_F32, m, x.columns, 1);
    reference r = new_reference(m, x.columns);
    for (int64_t i = 0; i < desc->rotated / 2; i++) {
        ((float*)tensor_data(&factors))[i] = 1.0f + (float)i;
    }
    rope_reference(desc, &x, has_factors, position, &r);
    kernel_run run = {NULL,
                      {&x, has_factors ? &factors : &y, &y},
                      has_factors ? 3 : 2,
                      {.rope = *desc},
                      {7, position}};
    run.kernel = accepting_kernel(WEIR_OP_ROPE, &run);
    assert_non_null(run.kernel);
    assert_string_equal(run.kernel->name, name);
    check_kernel(&run, r.result, r.scale, 3e-7, 1, &random_state);
    free_reference(&r);
    free_tensor(&x);
    free_tensor(&factors);
    free_tensor(&y);
}

static void rope_agrees_for_every_shape(void** state) {
    (void)state;
    need_avx512();
    for (int pairing = 0; pairing < 2; pairing++) {
        weir_rope_desc desc = {.head_dim = 64,
                               .rotated = 64,
                               .pairing = (weir_rope_pairing)pairing,
                               .base = 10000.0f,
                               .scale = 1.0f,
                               .position = POSITION};
        check_rope(&desc, false, 1, 3, 0, "rope_avx512");
        check_rope(&desc, true, 5, 2, 1000, "rope_avx512");
        check_rope(&desc, false, 3, 1, 130000, "rope_avx512");
        desc.base = 500000.0f;
        desc.scale = 0.125f;
        desc.head_dim = 128;
        check_rope(&desc, false, 4, 2, 77, "rope_avx512"); // half of a head is copied
        desc.head_dim = desc.rotated = 512;
        check_rope(&desc, true, 2, 1, 9, "rope_avx512");
        desc.head_dim = desc.rotated = 48; // pairs are no whole vectors
        check_rope(&desc, false, 2, 2, 9, "rope");
    }
}

// Turned and stored at once has the bits of both operations one after the other.
static void check_stored(weir_dtype dtype, weir_rope_pairing pairing, int64_t heads) {
    const weir_rope_desc desc = {.head_dim = 64,
                                 .rotated = 32,
                                 .pairing = pairing,
                                 .base = 10000.0f,
                                 .scale = 1.0f,
                                 .position = POSITION};
    tensor x = new_random(&random_state, WEIR_DTYPE_F32, 6, heads * 64, 2);
    tensor turned = new_tensor(WEIR_DTYPE_F32, 6, x.columns, 0);
    tensor cache = new_tensor(dtype, 9, x.columns, 1);
    tensor expected = copy_tensor(&cache);
    kernel_run runs[] = {
        {NULL, {&x, &turned}, 2, {.rope = desc}, {2, 100}},
        {NULL, {&turned, &expected}, 2, {.position = 0}, {2, 100}},
        {NULL, {&x, &cache}, 2, {.rope_rows = {.rope = desc, .position = 0}}, {2, 100}},
    };
    const weir_op_kind ops[] = {WEIR_OP_ROPE, WEIR_OP_SET_ROWS, WEIR_OP_ROPE_SET_ROWS};
    for (int i = 0; i < 3; i++) {
        runs[i].kernel = accepting_kernel(ops[i], &runs[i]);
        assert_non_null(runs[i].kernel);
        assert_ok(run_tiles(&runs[i], 4, &random_state));
    }
    assert_non_null(strstr(runs[2].kernel->name, "avx512"));
    assert_memory_equal(cache.memory, expected.memory, cache.byte_size);
    runs[2].params[0] = 4; // one row too far
    assert_status(run_tiles(&runs[2], 2, &random_state), WEIR_OUT_OF_RANGE);
    assert_memory_equal(cache.memory, expected.memory, cache.byte_size);
    free_tensor(&x);
    free_tensor(&turned);
    free_tensor(&cache);
    free_tensor(&expected);
}

static void turned_rows_are_stored_in_every_type(void** state) {
    (void)state;
    need_avx512();
    const weir_dtype dtypes[] = {WEIR_DTYPE_F32, WEIR_DTYPE_F16, WEIR_DTYPE_BF16, WEIR_DTYPE_Q8_0};
    for (int i = 0; i < 8; i++) {
        check_stored(dtypes[i / 2], (weir_rope_pairing)(i % 2), 3);
        check_stored(dtypes[i / 2], (weir_rope_pairing)(i % 2), 19); // over one part
    }
}

// The instructions round as the encoder does, specials too, and write no byte after a row.
static void rows_are_stored_with_the_bits_of_the_encoder(void** state) {
    (void)state;
    need_avx512();
    for (int64_t k = 1; k < 70; k += 3) {
        tensor x = new_random(&random_state, WEIR_DTYPE_F32, 4, k, 2);
        tensor cache = new_tensor(WEIR_DTYPE_F16, 6, k, 1);
        tensor expected = copy_tensor(&cache);
        const float special[] = {INFINITY, -INFINITY, 65519.9f, 65520.0f, 1e-8f, 6e-8f, -0.0f};
        for (int64_t row = 0; row < 4; row++) {
            float* numbers = (float*)(void*)tensor_row(&x, row);
            numbers[random_below(&random_state, (uint64_t)k)] = special[(k + row) % 7];
            numbers[0] = row == 1 ? NAN : numbers[0];
            assert_ok(
                weir_dtype_from_f32(WEIR_DTYPE_F16, numbers, k, tensor_row(&expected, row + 1)));
        }
        kernel_run run = {NULL, {&x, &cache}, 2, {.position = POSITION}, {0, 1}};
        run.kernel = accepting_kernel(WEIR_OP_SET_ROWS, &run);
        assert_string_equal(run.kernel->name, "set_rows_avx512");
        assert_ok(run_tiles(&run, 2, &random_state));
        assert_memory_equal(cache.memory, expected.memory, cache.byte_size);
        free_tensor(&x);
        free_tensor(&cache);
        free_tensor(&expected);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_its_error),
        cmocka_unit_test(exp_of_extremes_is_what_is_promised),
#ifdef WEIR_CPU_X86
        cmocka_unit_test(gates_of_extremes_are_what_is_promised),
        cmocka_unit_test(gates_of_avx512_are_within_their_error),
        cmocka_unit_test(powers_of_two_in_f64_are_exact_to_15_digits),
        cmocka_unit_test(sines_and_cosines_are_exact_to_10_digits),
#endif
        cmocka_unit_test(rope_agrees_for_every_shape),
        cmocka_unit_test(turned_rows_are_stored_in_every_type),
        cmocka_unit_test(rows_are_stored_with_the_bits_of_the_encoder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
