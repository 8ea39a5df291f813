// Random problems with everything that a problem may have, against the verifier. WEIR_LONG in the
// environment asks for the full counts and sizes.
#include "testing.h"

#include <weir/plan.h>

typedef struct random_case {
    weir_plan_buffer* buffers;
    weir_plan_interval* intervals;
    weir_plan_in_place* in_place;
    weir_plan_entry* entries; // of the last plan
    weir_plan_problem problem;
} random_case;

static bool is_long(void) {
    return getenv("WEIR_LONG") != NULL;
}

static void* take(size_t count, size_t item_size) {
    void* memory = calloc(count + 1, item_size);
    assert_non_null(memory);
    return memory;
}

static void free_case(random_case* made) {
    free(made->buffers);
    free(made->intervals);
    free(made->in_place);
    free(made->entries);
}

static uint64_t random_size(test_random* random, uint64_t largest) {
    switch (random_below(random, 8)) {
    case 0:
        return 0;
    case 1:
        return 1 + random_below(random, largest);
    default:
        return 1 + random_below(random, largest / 16 + 1);
    }
}

// Up to three lives, which may be empty, meet, or overlap.
static void add_lives(test_random* random, random_case* made, uint32_t index, int64_t clock) {
    weir_plan_buffer* buffer = &made->buffers[index];
    buffer->interval_begin = made->problem.interval_count;
    buffer->interval_count = random_below(random, 4) > 0 ? 1 : (uint32_t)random_below(random, 4);
    for (uint32_t k = 0; k < buffer->interval_count; ++k) {
        const int64_t begin = (int64_t)random_below(random, (uint64_t)clock);
        const int64_t life = (int64_t)random_below(random, random_below(random, 8) ? 12 : 200);
        made->intervals[made->problem.interval_count++] =
            (weir_plan_interval){begin - clock / 2, begin + life - clock / 2};
    }
}

static void make_case(test_random* random, uint32_t count, uint64_t largest, random_case* made) {
    static const uint64_t alignments[] = {0, 0, 1, 2, 3, 8, 64, 100};
    memset(made, 0, sizeof *made);
    made->buffers = take(count, sizeof *made->buffers);
    made->intervals = take(3 * (size_t)count, sizeof *made->intervals);
    made->in_place = take(count, sizeof *made->in_place);
    made->entries = take(count, sizeof *made->entries);
    made->problem = (weir_plan_problem){.buffers = made->buffers,
                                        .buffer_count = count,
                                        .intervals = made->intervals,
                                        .in_place = made->in_place,
                                        .alignment = alignments[random_below(random, 8)]};
    const bool pools = random_below(random, 3) == 0;
    for (uint32_t i = 0; i < count; ++i) {
        weir_plan_buffer* buffer = &made->buffers[i];
        buffer->byte_size = random_size(random, largest);
        buffer->alignment = alignments[random_below(random, 8)];
        buffer->pool = pools ? (uint32_t)random_below(random, 3) : 0;
        add_lives(random, made, i, 2 + count / 3);
        const uint32_t other = i > 0 ? (uint32_t)random_below(random, i) : 0;
        const weir_plan_buffer* root = &made->buffers[other];
        if (i > 0 && random_below(random, 10) == 0 && !(root->flags & WEIR_PLAN_ALIAS)) {
            buffer->flags = WEIR_PLAN_ALIAS;
            buffer->alias_of = other;
            buffer->alias_offset = random_below(random, root->byte_size + 1);
            buffer->byte_size = root->byte_size - buffer->alias_offset;
            buffer->alignment = 0;
            buffer->pool = root->pool;
        } else if (i > 0 && random_below(random, 6) == 0) {
            made->in_place[made->problem.in_place_count++] = (weir_plan_in_place){i, other};
        }
    }
}

// Plans, and keeps the entries in the case.
static weir_plan_result plan_case(random_case* made) {
    weir_plan* plan = NULL;
    assert_ok(weir_plan_create(NULL, &made->problem, &plan));
    const weir_plan_result result = *weir_plan_result_of(plan);
    memcpy(made->entries, weir_plan_entries(plan, NULL),
           made->problem.buffer_count * sizeof *made->entries);
    weir_plan_destroy(plan);
    return result;
}

// The peak must be that of the entries, and no less than the bound.
static void check_plan(const random_case* made, const weir_plan_result* result) {
    assert_ok(weir_plan_verify(NULL, &made->problem, made->entries));
    uint64_t ends[3] = {0};
    uint64_t total = 0;
    for (uint32_t i = 0; i < made->problem.buffer_count; ++i) {
        const weir_plan_entry* entry = &made->entries[i];
        const uint64_t end = entry->byte_size > 0 ? entry->byte_offset + entry->byte_size : 0;
        ends[entry->pool] = end > ends[entry->pool] ? end : ends[entry->pool];
        total += made->buffers[i].flags & WEIR_PLAN_ALIAS ? 0 : entry->byte_size;
    }
    assert_true(result->peak == ends[0] + ends[1] + ends[2]);
    assert_true(result->total == total);
    assert_true(result->lower_bound <= result->peak);
    if (result->peak == result->lower_bound) {
        assert_true(result->optimal);
    }
}

static void plans_of_any_shape_are_valid_and_repeat(void** state) {
    (void)state;
    test_random random = {41};
    const int rounds = is_long() ? 20000 : 300;
    for (int round = 0; round < rounds; ++round) {
        random_case made;
        const uint32_t count = 1 + (uint32_t)random_below(&random, 80);
        const uint64_t largest = random_below(&random, 4) ? 1000 : (uint64_t)INT64_MAX / count / 2;
        make_case(&random, count, largest, &made);
        made.problem.iterations = 1 + random_below(&random, 2);
        const weir_plan_result first = plan_case(&made);
        check_plan(&made, &first);
        weir_plan_entry* entries = take(count, sizeof *entries);
        memcpy(entries, made.entries, count * sizeof *entries);
        const weir_plan_result second = plan_case(&made);
        assert_true(first.peak == second.peak);
        assert_memory_equal(entries, made.entries, count * sizeof *entries);
        free(entries);
        free_case(&made);
    }
}

// What a plan has found is kept where it is fixed: half of it must have a plan too.
static void fixed_halves_of_plans_have_plans(void** state) {
    (void)state;
    test_random random = {43};
    const int rounds = is_long() ? 20000 : 200;
    for (int round = 0; round < rounds; ++round) {
        random_case made;
        const uint32_t count = 1 + (uint32_t)random_below(&random, 60);
        make_case(&random, count, 500, &made);
        made.problem.in_place_count = 0;
        made.problem.iterations = 1;
        plan_case(&made);
        for (uint32_t i = 0; i < count; ++i) {
            if (!(made.buffers[i].flags & WEIR_PLAN_ALIAS) && random_below(&random, 2)) {
                made.buffers[i].flags = WEIR_PLAN_FIXED;
                made.buffers[i].fixed_offset = made.entries[i].byte_offset;
            }
        }
        const weir_plan_result result = plan_case(&made);
        check_plan(&made, &result);
        free_case(&made);
    }
}

static bool has_alias(const random_case* made) {
    for (uint32_t i = 0; i < made->problem.buffer_count; ++i) {
        if (made->buffers[i].flags & WEIR_PLAN_ALIAS) {
            return true;
        }
    }
    return false;
}

// A capacity is met by any plan of that peak, and below the bound by none. The bound takes aliases
// and their root for one; where an alias outlives its root that is no proof.
static void capacities_are_met_or_shown_impossible(void** state) {
    (void)state;
    test_random random = {47};
    const int rounds = is_long() ? 20000 : 200;
    int proven = 0;
    for (int round = 0; round < rounds; ++round) {
        random_case made;
        make_case(&random, 2 + (uint32_t)random_below(&random, 40), 500, &made);
        made.problem.in_place_count = 0;
        made.problem.iterations = 1;
        const weir_plan_result free_result = plan_case(&made);
        if (free_result.lower_bound > 1) {
            made.problem.capacity = free_result.peak;
            const weir_plan_result result = plan_case(&made);
            check_plan(&made, &result);
            weir_plan* plan = NULL;
            made.problem.capacity = free_result.lower_bound - 1;
            const weir_status status = weir_plan_create(NULL, &made.problem, &plan);
            assert_true(status == WEIR_INFEASIBLE || (status == WEIR_TIMEOUT && has_alias(&made)));
            assert_null(plan);
            proven += status == WEIR_INFEASIBLE;
        }
        free_case(&made);
    }
    assert_true(proven > rounds / 2);
}

// A peak that is enough changes nothing where it is not met, and gives one as good where it is.
static void a_peak_that_is_enough_ends_the_search(void** state) {
    (void)state;
    test_random random = {59};
    const int rounds = is_long() ? 10000 : 300;
    uint32_t met = 0;
    for (int round = 0; round < rounds; ++round) {
        random_case made;
        make_case(&random, 2 + (uint32_t)random_below(&random, 40), 500, &made);
        made.problem.iterations = 1;
        const weir_plan_result wanted = plan_case(&made);
        const size_t byte_size = made.problem.buffer_count * sizeof *made.entries;
        weir_plan_entry* entries = take(made.problem.buffer_count, sizeof *entries);
        memcpy(entries, made.entries, byte_size);
        made.problem.enough = wanted.lower_bound > 0 ? wanted.lower_bound - 1 : 0;
        if (wanted.lower_bound == wanted.peak) {
            plan_case(&made);
            assert_memory_equal(made.entries, entries, byte_size);
        }
        made.problem.enough = wanted.peak;
        const weir_plan_result result = plan_case(&made);
        check_plan(&made, &result);
        assert_true(result.peak <= wanted.peak);
        met += result.in_place > 0 && result.peak == wanted.peak;
        free(entries);
        free_case(&made);
    }
    assert_true(met > 20);
}

static void large_plans_are_valid(void** state) {
    (void)state;
    test_random random = {53};
    const uint32_t counts[] = {300, 1000, 20000, 100000};
    const int used = is_long() ? 4 : 2;
    for (int i = 0; i < used; ++i) {
        for (int round = 0; round < 3; ++round) {
            random_case made;
            make_case(&random, counts[i], 1u << 20, &made);
            made.problem.iterations = 1;
            const weir_plan_result result = plan_case(&made);
            check_plan(&made, &result);
            free_case(&made);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_of_any_shape_are_valid_and_repeat),
        cmocka_unit_test(fixed_halves_of_plans_have_plans),
        cmocka_unit_test(capacities_are_met_or_shown_impossible),
        cmocka_unit_test(a_peak_that_is_enough_ends_the_search),
        cmocka_unit_test(large_plans_are_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
