#include "testing.h"

#include <weir/plan.h>

#include "testing_allocator.h"

#define MOST 40 // buffers
#define SYMBOLS 3

typedef struct symbolic_problem {
    weir_plan_buffer buffers[MOST];
    weir_plan_interval intervals[MOST];
    uint64_t precedes[MOST];
    weir_plan_in_place in_place[MOST];
    uint64_t constants[MOST];
    uint64_t factors[MOST * SYMBOLS];
    uint64_t upper[SYMBOLS];
    weir_plan_problem problem;
    weir_plan_sizes sizes;
} symbolic_problem;

static uint64_t size_at(const symbolic_problem* made, uint32_t buffer, const uint64_t* values) {
    uint64_t size = made->constants[buffer];
    for (uint32_t s = 0; s < SYMBOLS; ++s) {
        size += made->factors[buffer * SYMBOLS + s] * values[s];
    }
    return size;
}

static void add_alias(test_random* random, symbolic_problem* made, uint32_t index) {
    const uint32_t root = (uint32_t)random_below(random, index);
    weir_plan_buffer* alias = &made->buffers[index];
    if ((made->buffers[root].flags & WEIR_PLAN_ALIAS) ||
        size_at(made, root, made->upper) < size_at(made, index, made->upper)) {
        return;
    }
    *alias = (weir_plan_buffer){.flags = WEIR_PLAN_ALIAS,
                                .alias_of = root,
                                .interval_begin = index,
                                .interval_count = 1,
                                .pool = made->buffers[root].pool};
}

static void random_problem(test_random* random, uint32_t count, symbolic_problem* made) {
    memset(made, 0, sizeof *made);
    for (uint32_t s = 0; s < SYMBOLS; ++s) {
        made->upper[s] = 1 + random_below(random, 20);
    }
    for (uint32_t i = 0; i < count; ++i) {
        made->constants[i] = random_below(random, 3) == 0 ? random_below(random, 40) : 0;
        for (uint32_t s = 0; s < SYMBOLS; ++s) {
            made->factors[i * SYMBOLS + s] =
                random_below(random, 2) == 0 ? random_below(random, 9) : 0;
        }
        made->buffers[i] = (weir_plan_buffer){.alignment = random_below(random, 5),
                                              .interval_begin = i,
                                              .interval_count = 1,
                                              .pool = random_below(random, 6) == 0};
        const int64_t begin = (int64_t)random_below(random, 12);
        made->intervals[i] =
            (weir_plan_interval){begin, begin + 1 + (int64_t)random_below(random, 5)};
        if (i > 0 && random_below(random, 6) == 0) {
            add_alias(random, made, i);
        }
    }
    made->problem = (weir_plan_problem){.buffers = made->buffers,
                                        .buffer_count = count,
                                        .intervals = made->intervals,
                                        .interval_count = count,
                                        .in_place = made->in_place,
                                        .alignment = 1 + random_below(random, 4),
                                        .effort = WEIR_PLAN_PLACE};
    for (uint32_t i = 1; i < count; ++i) {
        if (random_below(random, 3) == 0) {
            made->in_place[made->problem.in_place_count++] =
                (weir_plan_in_place){i, (uint32_t)random_below(random, i)};
        }
    }
    if (random_below(random, 2)) {
        for (uint32_t i = count; i-- > 0;) {
            for (uint32_t j = i + 1; j < count; ++j) {
                if (random_below(random, 5) == 0) {
                    made->precedes[i] |= 1ull << j | made->precedes[j];
                }
            }
        }
        made->problem.precedes = made->precedes;
    }
    if (random_below(random, 3) == 0) {
        made->problem.block_bytes_max = 800;
    }
    made->sizes = (weir_plan_sizes){made->constants, made->factors, made->upper, SYMBOLS};
}

// The same problem with the sizes that the values give.
static void sized(const symbolic_problem* made, const uint64_t* values, weir_plan_buffer* buffers,
                  weir_plan_problem* problem) {
    *problem = made->problem;
    problem->buffers = buffers;
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        buffers[i] = made->buffers[i];
        buffers[i].byte_size = size_at(made, i, values);
    }
}

static void every_size_within_the_bounds_gets_a_valid_plan_no_higher(void** state) {
    (void)state;
    test_random random = {77};
    int lower = 0;
    for (int round = 0; round < 300; ++round) {
        symbolic_problem made;
        random_problem(&random, 1 + (uint32_t)random_below(&random, MOST), &made);
        weir_plan_symbolic* plan = NULL;
        assert_ok(weir_plan_symbolic_create(NULL, &made.problem, &made.sizes, &plan));
        uint32_t count = 0;
        const weir_plan_entry* planned = weir_plan_entries(weir_plan_symbolic_upper(plan), &count);
        const uint64_t planned_peak = weir_plan_result_of(weir_plan_symbolic_upper(plan))->peak;
        for (int i = 0; i < 20; ++i) {
            uint64_t values[SYMBOLS];
            weir_plan_entry entries[MOST];
            weir_plan_buffer buffers[MOST];
            weir_plan_problem problem;
            uint64_t peak = 0;
            for (uint32_t s = 0; s < SYMBOLS; ++s) {
                values[s] = i == 0 ? made.upper[s] : random_below(&random, made.upper[s] + 1);
            }
            assert_ok(weir_plan_resize(plan, values, entries, &peak));
            sized(&made, values, buffers, &problem);
            assert_ok(weir_plan_verify(NULL, &problem, entries));
            assert_true(peak <= planned_peak);
            lower += peak < planned_peak;
            for (uint32_t b = 0; b < count; ++b) {
                assert_true(entries[b].byte_offset <= planned[b].byte_offset);
                assert_true(entries[b].byte_size == 0 || problem.block_bytes_max > 0 ||
                            entries[b].byte_offset + entries[b].byte_size <= peak);
            }
        }
        weir_plan_symbolic_destroy(plan);
    }
    assert_true(lower > 3000);
}

// Where all sizes are one factor of one symbol, the stack shrinks with it to the bound.
static void a_stack_shrinks_with_its_symbol(void** state) {
    (void)state;
    const weir_plan_interval lives[4] = {{0, 2}, {1, 3}, {2, 4}, {3, 5}};
    weir_plan_buffer buffers[4];
    for (uint32_t i = 0; i < 4; ++i) {
        buffers[i] = (weir_plan_buffer){.interval_begin = i, .interval_count = 1};
    }
    const weir_plan_problem problem = {
        .buffers = buffers, .buffer_count = 4, .intervals = lives, .interval_count = 4};
    const weir_plan_sizes sizes = {.constants = (uint64_t[]){0, 0, 0, 0},
                                   .factors = (uint64_t[]){4, 8, 4, 8},
                                   .upper = (uint64_t[]){512},
                                   .symbol_count = 1};
    weir_plan_symbolic* plan = NULL;
    assert_ok(weir_plan_symbolic_create(NULL, &problem, &sizes, &plan));
    assert_int_equal(weir_plan_result_of(weir_plan_symbolic_upper(plan))->peak, 12 * 512);
    weir_plan_entry entries[4];
    uint64_t peak = 0;
    for (uint64_t rows = 0; rows <= 512; rows += 64) {
        assert_ok(weir_plan_resize(plan, &rows, entries, &peak));
        assert_int_equal(peak, 12 * rows);
    }
    weir_plan_symbolic_destroy(plan);
}

static void fixed_buffers_stay_where_they_are(void** state) {
    (void)state;
    const weir_plan_buffer buffers[3] = {{0}, {.flags = WEIR_PLAN_FIXED, .fixed_offset = 100}, {0}};
    const weir_plan_problem problem = {.buffers = buffers, .buffer_count = 3};
    const weir_plan_sizes sizes = {.constants = (uint64_t[]){0, 10, 0},
                                   .factors = (uint64_t[]){10, 0, 20},
                                   .upper = (uint64_t[]){10},
                                   .symbol_count = 1};
    weir_plan_symbolic* plan = NULL;
    assert_ok(weir_plan_symbolic_create(NULL, &problem, &sizes, &plan));
    weir_plan_entry entries[3];
    assert_ok(weir_plan_resize(plan, (uint64_t[]){1}, entries, NULL));
    assert_int_equal(entries[1].byte_offset, 100);
    weir_plan_symbolic_destroy(plan);
}

static void values_above_their_bound_are_refused(void** state) {
    (void)state;
    test_random random = {5};
    symbolic_problem made;
    random_problem(&random, 8, &made);
    weir_plan_symbolic* plan = NULL;
    weir_plan_entry entries[MOST];
    assert_ok(weir_plan_symbolic_create(NULL, &made.problem, &made.sizes, &plan));
    uint64_t values[SYMBOLS] = {0, made.upper[1] + 1, 0};
    memset(entries, 0xAB, sizeof entries);
    assert_status(weir_plan_resize(plan, values, entries, NULL), WEIR_OUT_OF_RANGE);
    assert_message_has("symbol 1");
    assert_int_equal(entries[0].pool, 0xABABABABu);
    weir_plan_symbolic_destroy(plan);
}

static void sizes_that_pass_the_limit_are_out_of_range(void** state) {
    (void)state;
    const weir_plan_buffer buffers[1] = {{0}};
    const weir_plan_problem problem = {.buffers = buffers, .buffer_count = 1};
    const uint64_t constant = 1;
    const uint64_t factor = 1ull << 40;
    weir_plan_symbolic* plan = NULL;
    for (uint64_t upper = 1ull << 23; upper <= 1ull << 24; upper *= 2) {
        const weir_plan_sizes sizes = {&constant, &factor, &upper, 1};
        assert_status(weir_plan_symbolic_create(NULL, &problem, &sizes, &plan), WEIR_OUT_OF_RANGE);
        assert_null(plan);
    }
    const weir_plan_sizes missing = {&constant, NULL, &factor, 1};
    assert_status(weir_plan_symbolic_create(NULL, &problem, &missing, &plan),
                  WEIR_INVALID_ARGUMENT);
}

static void resizing_allocates_nothing_and_failures_leave_nothing(void** state) {
    (void)state;
    test_random random = {6};
    symbolic_problem made;
    random_problem(&random, 12, &made);
    test_allocator counter = {.fail_at = SIZE_MAX};
    const weir_allocator allocator = test_allocator_of(&counter);
    weir_plan_symbolic* plan = NULL;
    assert_ok(weir_plan_symbolic_create(&allocator, &made.problem, &made.sizes, &plan));
    const size_t calls = counter.calls;
    weir_plan_entry entries[MOST];
    uint64_t peak = 0;
    assert_ok(weir_plan_resize(plan, made.upper, entries, &peak));
    assert_int_equal(counter.calls, calls);
    weir_plan_symbolic_destroy(plan);
    assert_int_equal(counter.live_blocks, 0);
    for (size_t call = 0; call < calls; ++call) {
        test_allocator failing = {.fail_at = call};
        const weir_allocator fails = test_allocator_of(&failing);
        plan = NULL;
        assert_status(weir_plan_symbolic_create(&fails, &made.problem, &made.sizes, &plan),
                      WEIR_OUT_OF_MEMORY);
        assert_null(plan);
        assert_int_equal(failing.live_blocks, 0);
    }
}

static void no_buffers_and_no_symbols_are_a_plan_too(void** state) {
    (void)state;
    const weir_plan_problem problem = {0};
    const weir_plan_sizes sizes = {0};
    weir_plan_symbolic* plan = NULL;
    uint64_t peak = 1;
    assert_ok(weir_plan_symbolic_create(NULL, &problem, &sizes, &plan));
    assert_ok(weir_plan_resize(plan, NULL, NULL, &peak));
    assert_int_equal(peak, 0);
    weir_plan_symbolic_destroy(plan);
    weir_plan_symbolic_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_within_the_bounds_gets_a_valid_plan_no_higher),
        cmocka_unit_test(a_stack_shrinks_with_its_symbol),
        cmocka_unit_test(fixed_buffers_stay_where_they_are),
        cmocka_unit_test(values_above_their_bound_are_refused),
        cmocka_unit_test(sizes_that_pass_the_limit_are_out_of_range),
        cmocka_unit_test(resizing_allocates_nothing_and_failures_leave_nothing),
        cmocka_unit_test(no_buffers_and_no_symbols_are_a_plan_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
