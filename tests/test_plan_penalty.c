// Soft conflicts: weighted pairs that share bytes only where the capacity leaves no other way.
#include "testing.h"

#include <weir/plan.h>

#include "planner_data.h"
#include "testing_allocator.h"

#define SMALL 4

typedef struct small_problem {
    weir_plan_buffer buffers[SMALL];
    weir_plan_interval intervals[SMALL];
    uint64_t precedes[SMALL];
    weir_plan_penalty penalties[SMALL * SMALL];
    weir_plan_problem problem;
} small_problem;

static bool conflict(const small_problem* made, uint32_t a, uint32_t b) {
    if (made->problem.precedes) {
        return !(made->precedes[a] >> b & 1) && !(made->precedes[b] >> a & 1);
    }
    return made->intervals[a].begin < made->intervals[b].end &&
           made->intervals[b].begin < made->intervals[a].end;
}

static void random_problem(test_random* random, small_problem* made) {
    memset(made, 0, sizeof *made);
    made->problem = (weir_plan_problem){.buffers = made->buffers,
                                        .buffer_count = SMALL,
                                        .intervals = made->intervals,
                                        .interval_count = SMALL,
                                        .penalties = made->penalties,
                                        .capacity = 5 + random_below(random, 8)};
    for (uint32_t i = SMALL; i-- > 0;) {
        const int64_t begin = (int64_t)random_below(random, 9);
        made->intervals[i] =
            (weir_plan_interval){begin, begin + 1 + (int64_t)random_below(random, 3)};
        made->buffers[i] = (weir_plan_buffer){.byte_size = 1 + random_below(random, 5),
                                              .alignment = 1 + random_below(random, 2),
                                              .interval_begin = i,
                                              .interval_count = 1};
        for (uint32_t j = i + 1; j < SMALL; ++j) {
            if (random_below(random, 2) == 0) {
                made->precedes[i] |= 1ull << j | made->precedes[j];
            }
            if (random_below(random, 3) > 0) {
                made->penalties[made->problem.penalty_count++] =
                    (weir_plan_penalty){j, i, 1 + random_below(random, 9)};
            }
        }
    }
    made->problem.precedes = random_below(random, 2) ? made->precedes : NULL;
}

static bool share(const small_problem* made, const uint64_t* offsets, uint32_t a, uint32_t b) {
    return offsets[a] < offsets[b] + made->buffers[b].byte_size &&
           offsets[b] < offsets[a] + made->buffers[a].byte_size;
}

static uint64_t penalty_of(const small_problem* made, const uint64_t* offsets) {
    uint64_t sum = 0;
    for (uint32_t p = 0; p < made->problem.penalty_count; ++p) {
        const weir_plan_penalty* pair = &made->penalties[p];
        sum += share(made, offsets, pair->a, pair->b) ? pair->weight : 0;
    }
    return sum;
}

// Every placement below the capacity.
static uint64_t least_penalty(const small_problem* made, uint64_t* offsets, uint32_t next) {
    if (next == SMALL) {
        return penalty_of(made, offsets);
    }
    uint64_t best = UINT64_MAX;
    for (uint64_t at = 0; at + made->buffers[next].byte_size <= made->problem.capacity;
         at += made->buffers[next].alignment) {
        bool fits = true;
        offsets[next] = at;
        for (uint32_t j = 0; j < next; ++j) {
            fits &= !conflict(made, next, j) || !share(made, offsets, next, j);
        }
        if (fits) {
            const uint64_t got = least_penalty(made, offsets, next + 1);
            best = got < best ? got : best;
        }
    }
    return best;
}

static void small_penalties_are_nearly_always_the_least(void** state) {
    (void)state;
    test_random random = {19};
    int best = 0;
    int paid = 0;
    int solved = 0;
    for (int round = 0; round < 300; ++round) {
        small_problem made;
        random_problem(&random, &made);
        uint64_t offsets[SMALL];
        const uint64_t least = least_penalty(&made, offsets, 0);
        weir_plan* plan = NULL;
        const weir_status status = weir_plan_create(NULL, &made.problem, &plan);
        if (least == UINT64_MAX) {
            assert_true(status == WEIR_INFEASIBLE || status == WEIR_TIMEOUT);
            continue;
        }
        assert_ok(status);
        const weir_plan_entry* entries = weir_plan_entries(plan, NULL);
        assert_ok(weir_plan_verify(NULL, &made.problem, entries));
        for (uint32_t i = 0; i < SMALL; ++i) {
            offsets[i] = entries[i].byte_offset;
        }
        const uint64_t penalty = weir_plan_result_of(plan)->penalty;
        assert_int_equal(penalty, penalty_of(&made, offsets));
        assert_int_equal(penalty, weir_plan_penalty_of(&made.problem, entries));
        assert_true(penalty >= least);
        best += penalty == least;
        paid += least > 0;
        ++solved;
        weir_plan_destroy(plan);
    }
    assert_true(solved > 100 && paid > 10);
    assert_true(best >= solved * 97 / 100);
}

static void without_a_capacity_the_peak_comes_first(void** state) {
    (void)state;
    const weir_plan_buffer buffers[2] = {
        {.byte_size = 8, .interval_begin = 0, .interval_count = 1},
        {.byte_size = 8, .interval_begin = 1, .interval_count = 1}};
    const weir_plan_interval lives[2] = {{0, 1}, {1, 2}};
    const weir_plan_penalty penalties[1] = {{0, 1, 3}};
    weir_plan_problem problem = {.buffers = buffers,
                                 .buffer_count = 2,
                                 .intervals = lives,
                                 .interval_count = 2,
                                 .penalties = penalties,
                                 .penalty_count = 1};
    weir_plan* plan = NULL;
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    assert_int_equal(weir_plan_result_of(plan)->peak, 8);
    assert_int_equal(weir_plan_result_of(plan)->penalty, 3);
    weir_plan_destroy(plan);
    problem.capacity = 16;
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    assert_int_equal(weir_plan_result_of(plan)->penalty, 0);
    weir_plan_destroy(plan);
}

// Over several blocks too the penalty falls, and neither the peak nor the number of blocks rises.
static void penalties_are_lessened_across_blocks(void** state) {
    (void)state;
    test_random random = {17};
    uint32_t split = 0;
    uint32_t lessened = 0;
    for (int p = 0; p < 3000; ++p) {
        small_problem made;
        random_problem(&random, &made);
        made.problem.block_bytes_max = 5 + random_below(&random, 4);
        made.problem.capacity = random_below(&random, 2) ? 8 + random_below(&random, 16) : 0;
        if (random_below(&random, 4) == 0) {
            made.buffers[0].flags = WEIR_PLAN_FIXED;
            made.buffers[0].fixed_offset = 0;
        }
        weir_plan_problem hard = made.problem;
        hard.penalty_count = 0;
        weir_plan* plain = NULL;
        weir_plan* soft = NULL;
        const weir_status status = weir_plan_create(NULL, &hard, &plain);
        assert_status(weir_plan_create(NULL, &made.problem, &soft), status);
        if (status != WEIR_OK) {
            continue;
        }
        const weir_plan_result* result = weir_plan_result_of(soft);
        const weir_plan_entry* entries = weir_plan_entries(soft, NULL);
        assert_ok(weir_plan_verify(NULL, &made.problem, entries));
        const uint64_t before = weir_plan_penalty_of(&made.problem, weir_plan_entries(plain, NULL));
        assert_int_equal(result->penalty, weir_plan_penalty_of(&made.problem, entries));
        assert_true(result->penalty <= before);
        assert_int_equal(result->blocks, weir_plan_result_of(plain)->blocks);
        assert_true(made.problem.capacity > 0 ? result->peak <= made.problem.capacity
                                              : result->peak <= weir_plan_result_of(plain)->peak);
        split += result->blocks > 1;
        lessened += result->blocks > 1 && result->penalty < before;
        weir_plan_destroy(plain);
        weir_plan_destroy(soft);
    }
    assert_true(split > 500);
    assert_true(lessened > 100);
}

static void bad_pairs_are_refused(void** state) {
    (void)state;
    const weir_plan_buffer buffers[2] = {{.byte_size = 8}, {.byte_size = 8}};
    const weir_plan_penalty pairs[2] = {{0, 2, 1}, {1, 1, 1}};
    for (int i = 0; i < 2; ++i) {
        const weir_plan_problem problem = {
            .buffers = buffers, .buffer_count = 2, .penalties = &pairs[i], .penalty_count = 1};
        weir_plan* plan = NULL;
        assert_status(weir_plan_create(NULL, &problem, &plan), WEIR_INVALID_ARGUMENT);
        assert_message_has("penalty 0");
        assert_null(plan);
    }
    const weir_plan_problem problem = {.buffers = buffers, .buffer_count = 2, .penalty_count = 1};
    weir_plan* plan = NULL;
    assert_status(weir_plan_create(NULL, &problem, &plan), WEIR_INVALID_ARGUMENT);
}

static void a_failing_allocation_leaves_nothing_behind(void** state) {
    (void)state;
    const weir_plan_buffer buffers[2] = {
        {.byte_size = 8, .interval_begin = 0, .interval_count = 1},
        {.byte_size = 8, .interval_begin = 1, .interval_count = 1}};
    const weir_plan_interval lives[2] = {{0, 1}, {1, 2}};
    const weir_plan_penalty penalties[1] = {{0, 1, UINT64_MAX}};
    const weir_plan_problem problem = {.buffers = buffers,
                                       .buffer_count = 2,
                                       .intervals = lives,
                                       .interval_count = 2,
                                       .penalties = penalties,
                                       .penalty_count = 1,
                                       .capacity = 15};
    test_allocator counter = {.fail_at = SIZE_MAX};
    const weir_allocator allocator = test_allocator_of(&counter);
    weir_plan* plan = NULL;
    assert_ok(weir_plan_create(&allocator, &problem, &plan));
    assert_int_equal(weir_plan_result_of(plan)->penalty, UINT64_MAX);
    weir_plan_destroy(plan);
    for (size_t call = 0; call < counter.calls; ++call) {
        test_allocator failing = {.fail_at = call};
        const weir_allocator fails = test_allocator_of(&failing);
        plan = NULL;
        assert_status(weir_plan_create(&fails, &problem, &plan), WEIR_OUT_OF_MEMORY);
        assert_int_equal(failing.live_blocks, 0);
    }
}

#define BUFFERS_MOST 500
#define PAIRS_MOST 20000

typedef struct benchmark {
    weir_plan_buffer buffers[BUFFERS_MOST];
    weir_plan_interval lives[BUFFERS_MOST];
    weir_plan_penalty penalties[PAIRS_MOST];
    weir_plan_problem problem;
} benchmark;

// Reads the number behind the next `"key":`, and moves there; false when `until` comes first.
static bool next_number(const char** at, const char* key, const char* until, uint64_t* number) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    // Not strstr: under sanitizers each call measures the whole text.
    const char* found = *at;
    while (*found != '\0' && strncmp(found, quoted, strlen(quoted)) != 0) {
        ++found;
    }
    if (*found == '\0' || (until && found > until)) {
        return false;
    }
    *at = found + strlen(quoted);
    *number = strtoull(*at, NULL, 10);
    return true;
}

static void read_benchmark(const char* text, benchmark* made) {
    const char* costs = strstr(text, "\"reuse_penalties\": [");
    costs = costs ? costs : strstr(text, "\"reuse_penalties\":[");
    assert_non_null(costs);
    const char* at = strstr(text, "\"buffers\":");
    assert_non_null(at);
    uint32_t count = 0;
    uint64_t lower = 0;
    while (next_number(&at, "lower", costs, &lower)) {
        uint64_t upper = 0;
        uint64_t size = 0;
        assert_true(count < BUFFERS_MOST && next_number(&at, "upper", costs, &upper) &&
                    next_number(&at, "size", costs, &size));
        made->lives[count] = (weir_plan_interval){(int64_t)lower, (int64_t)upper};
        made->buffers[count] =
            (weir_plan_buffer){.byte_size = size, .interval_begin = count, .interval_count = 1};
        ++count;
    }
    uint32_t pairs = 0;
    uint64_t cost = 0;
    at = costs;
    while (next_number(&at, "cost", NULL, &cost)) {
        uint64_t first = 0;
        uint64_t second = 0;
        assert_true(pairs < PAIRS_MOST && next_number(&at, "first", NULL, &first) &&
                    next_number(&at, "second", NULL, &second));
        made->penalties[pairs++] = (weir_plan_penalty){(uint32_t)first, (uint32_t)second, cost};
    }
    uint64_t capacity = 0;
    assert_true(next_number(&at, "capacity", NULL, &capacity));
    made->problem = (weir_plan_problem){.buffers = made->buffers,
                                        .buffer_count = count,
                                        .intervals = made->lives,
                                        .interval_count = count,
                                        .penalties = made->penalties,
                                        .penalty_count = pairs,
                                        .capacity = capacity,
                                        .iterations = 300};
}

// The least costs that the authors of the instances report, over all their methods.
static void published_costs_are_undercut(void** state) {
    (void)state;
    static const uint64_t published[11] = {285, 329, 365, 248, 403, 129, 450, 474, 902, 572, 1408};
    unpack_planner_data("planner/dsa-rp-minimalloc");
    static benchmark made;
    for (int i = 0; i < 11; ++i) {
        char path[256];
        size_t byte_size = 0;
        snprintf(path, sizeof path, "%s/planner/dsa-rp-minimalloc/%c.json", unpack_folder, 'A' + i);
        char* text = read_whole_file(path, true, &byte_size);
        read_benchmark(text, &made);
        made.problem.iterations = published[i] == 129 ? 4000 : 300; // one is hard to undercut
        weir_plan* plan = NULL;
        assert_ok(weir_plan_create(NULL, &made.problem, &plan));
        assert_ok(weir_plan_verify(NULL, &made.problem, weir_plan_entries(plan, NULL)));
        assert_true(weir_plan_result_of(plan)->penalty <= published[i]);
        weir_plan_destroy(plan);
        free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_penalties_are_nearly_always_the_least),
        cmocka_unit_test(without_a_capacity_the_peak_comes_first),
        cmocka_unit_test(penalties_are_lessened_across_blocks),
        cmocka_unit_test(bad_pairs_are_refused),
        cmocka_unit_test(a_failing_allocation_leaves_nothing_behind),
        cmocka_unit_test_setup_teardown(published_costs_are_undercut, make_unpack_folder,
                                        remove_unpack_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
