// Attention of the instruction sets: every way that they cut and read, for every type of cache,
// against two passes in double precision.
#include "attention_testing.h"

#define POSITION 1 // index of the parameter that the kernels read

static test_random random_state = {0xA77E0u};

// Few queries and many, blocks of keys that end anywhere, heads of one vector and of many.
static const attention_case cases[] = {
    {{1, 1, 64, 0.125f, POSITION}, 1, 0, 1},    {{12, 12, 64, 0.125f, POSITION}, 1, 200, 3},
    {{8, 4, 64, 0.125f, POSITION}, 1, 63, 1},   {{32, 4, 64, 0.125f, POSITION}, 1, 64, 0},
    {{6, 2, 128, 0.09f, POSITION}, 1, 130, 2},  {{8, 4, 32, 0.2f, POSITION}, 4, 61, 2},
    {{14, 2, 64, 0.125f, POSITION}, 1, 100, 0}, {{71, 1, 64, 0.125f, POSITION}, 1, 77, 0},
    {{4, 4, 64, 0.125f, POSITION}, 130, 0, 5},  {{8, 2, 96, 0.1f, POSITION}, 35, 40, 0},
    {{2, 1, 256, 0.06f, POSITION}, 50, 3, 1},   {{16, 1, 32, 0.17f, POSITION}, 9, 120, 0},
    {{2, 2, 32, 60.0f, POSITION}, 60, 70, 2},
};

// Few queries: every number of slots of a key head, with and without queries for all of them, key
// heads that are no whole fours and more than are computed at a time; keys for one part and for
// all, and ends of parts that some rows do not see.
static const attention_case few[] = {
    {{3, 3, 64, 0.125f, POSITION}, 1, 0, 0},    {{5, 5, 16, 0.25f, POSITION}, 1, 6, 1},
    {{12, 12, 64, 0.125f, POSITION}, 1, 30, 0}, {{12, 12, 64, 0.125f, POSITION}, 1, 1500, 5},
    {{6, 3, 64, 0.125f, POSITION}, 1, 95, 2},   {{3, 1, 80, 0.11f, POSITION}, 1, 300, 0},
    {{28, 4, 128, 0.09f, POSITION}, 1, 257, 1}, {{32, 4, 64, 0.125f, POSITION}, 1, 2047, 0},
    {{70, 70, 32, 0.18f, POSITION}, 1, 129, 3}, {{36, 9, 64, 0.125f, POSITION}, 2, 63, 0},
    {{12, 12, 64, 0.125f, POSITION}, 8, 0, 0},  {{12, 12, 64, 0.125f, POSITION}, 5, 700, 1},
    {{6, 3, 32, 0.18f, POSITION}, 3, 1021, 0},  {{2, 2, 256, 0.06f, POSITION}, 7, 33, 1},
};

static void check_case(const attention_case* c, weir_dtype keys, weir_dtype values,
                       const char* name) {
    const weir_kernel* kernel = check_attention(c, keys, values, &random_state);
    assert_non_null(kernel);
    assert_string_equal(kernel->name, name);
}

static void need_avx512(void) {
    if (!weir_cpu_target_avx512()) {
        print_message("skipped: this processor has no AVX-512\n");
        skip();
    }
    kernels_on.target = weir_cpu_target_avx512();
}

static void avx512_agrees_for_every_shape(void** state) {
    (void)state;
    need_avx512();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_case(&cases[i], WEIR_DTYPE_F16, WEIR_DTYPE_F16, "attention_avx512");
    }
}

static void avx512_agrees_for_few_queries(void** state) {
    (void)state;
    need_avx512();
    kernels_on.scratch_runs = 0;
    for (size_t i = 0; i < sizeof few / sizeof few[0]; i++) {
        check_case(&few[i], WEIR_DTYPE_F16, WEIR_DTYPE_F16, "attention_avx512");
    }
    assert_true(kernels_on.scratch_runs >= sizeof few / sizeof few[0]);
}

// Programs reserve scratch for the most rows of a pass, and cut it by those that there are.
static void scratch_for_many_rows_is_enough_for_few(void** state) {
    (void)state;
    need_avx512();
    const weir_kernel* kernel = find_kernel(WEIR_OP_ATTENTION);
    for (uint32_t group = 1; group <= 9; group++) {
        const weir_op_constants constants = {.attention = {.heads = 5 * group,
                                                           .kv_heads = 5,
                                                           .head_dim = 64,
                                                           .scale = 0.125f,
                                                           .position = POSITION}};
        weir_view views[4];
        const weir_shape cache = weir_shape_make(2, (int64_t[]){2048, 5 * 64});
        uint64_t needed = 0;
        uint32_t tiles = 0;
        for (int64_t rows = 1; rows <= 128; rows++) {
            const weir_shape x = weir_shape_make(2, (int64_t[]){rows, 5 * group * 64});
            assert_ok(weir_view_layout(WEIR_DTYPE_F32, &x, &views[0]));
            assert_ok(weir_view_layout(WEIR_DTYPE_F16, &cache, &views[1]));
            views[2] = views[1];
            views[3] = views[0];
            const weir_kernel_use use = {views, 4, &constants};
            assert_true(kernel->accepts(&use));
            const uint64_t asked = kernel->scratch_bytes(&use);
            assert_true(asked >= needed && (asked > 0) == (group <= 8));
            needed = asked;
            if (rows * group <= 8) {
                assert_true(kernel->tile_count(&use) >= tiles);
                tiles = kernel->tile_count(&use);
            }
        }
        assert_true(group > 8 || tiles > 1); // parts of the keys
    }
}

static void avx512_agrees_for_every_pair_of_types(void** state) {
    (void)state;
    need_avx512();
    const weir_dtype dtypes[] = {WEIR_DTYPE_F32, WEIR_DTYPE_F16, WEIR_DTYPE_BF16, WEIR_DTYPE_Q8_0};
    const attention_case some[] = {
        {{3, 3, 32, 0.18f, POSITION}, 1, 90, 2},
        {{5, 1, 64, 0.125f, POSITION}, 1, 33, 0},
        {{4, 2, 64, 0.125f, POSITION}, 20, 50, 1},
    };
    for (int i = 0; i < 16; i++) {
        for (size_t k = 0; k < sizeof some / sizeof some[0]; k++) {
            check_case(&some[k], dtypes[i % 4], dtypes[i / 4], "attention_avx512");
        }
    }
}

static void heads_that_are_no_whole_vectors_are_left_to_the_plain_kernel(void** state) {
    (void)state;
    need_avx512();
    check_case(&(attention_case){{4, 2, 8, 0.35f, POSITION}, 5, 3, 0}, WEIR_DTYPE_F16,
               WEIR_DTYPE_F16, "attention");
    check_case(&(attention_case){{4, 2, 48, 0.15f, POSITION}, 5, 3, 0}, WEIR_DTYPE_F16,
               WEIR_DTYPE_Q8_0, "attention");
    check_case(&(attention_case){{4, 2, 272, 0.06f, POSITION}, 2, 3, 0}, WEIR_DTYPE_F16,
               WEIR_DTYPE_F16, "attention");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(avx512_agrees_for_every_shape),
        cmocka_unit_test(avx512_agrees_for_few_queries),
        cmocka_unit_test(scratch_for_many_rows_is_enough_for_few),
        cmocka_unit_test(avx512_agrees_for_every_pair_of_types),
        cmocka_unit_test(heads_that_are_no_whole_vectors_are_left_to_the_plain_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
