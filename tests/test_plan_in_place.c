// Capacities with in-place pairs: what is called impossible must be so for every choice of pairs.
#include "testing.h"

#include <weir/plan.h>

#include "testing_allocator.h"

#define SMALL 3
#define SIZE_MAX_BYTES 3

typedef struct small_problem {
    weir_plan_buffer buffers[SMALL];
    weir_plan_interval intervals[2 * SMALL];
    uint64_t precedes[SMALL];
    weir_plan_in_place pairs[SMALL];
    weir_plan_problem problem;
} small_problem;

static void random_problem(test_random* random, small_problem* made) {
    memset(made, 0, sizeof *made);
    for (uint32_t i = SMALL; i-- > 0;) {
        const uint32_t spans = 1 + (uint32_t)random_below(random, 2);
        int64_t at = (int64_t)random_below(random, 4);
        for (uint32_t s = 0; s < spans; ++s) {
            const int64_t end = at + 1 + (int64_t)random_below(random, 3);
            made->intervals[2 * i + s] = (weir_plan_interval){at, end};
            at = end + (int64_t)random_below(random, 2);
        }
        made->buffers[i] = (weir_plan_buffer){.byte_size = 1 + random_below(random, SIZE_MAX_BYTES),
                                              .alignment = 1 + random_below(random, 2),
                                              .interval_begin = 2 * i,
                                              .interval_count = spans};
        for (uint32_t j = i + 1; j < SMALL; ++j) {
            if (random_below(random, 3) == 0) {
                made->precedes[i] |= 1ull << j | made->precedes[j];
            }
        }
    }
    if (random_below(random, 4) == 0) {
        weir_plan_buffer* alias = &made->buffers[2];
        alias->flags = WEIR_PLAN_ALIAS;
        alias->alias_of = 0;
        alias->alignment = 0;
        alias->byte_size = 1 + random_below(random, made->buffers[0].byte_size);
        alias->alias_offset =
            random_below(random, made->buffers[0].byte_size - alias->byte_size + 1);
    }
    made->problem = (weir_plan_problem){.buffers = made->buffers,
                                        .buffer_count = SMALL,
                                        .intervals = made->intervals,
                                        .interval_count = 2 * SMALL,
                                        .in_place = made->pairs,
                                        .effort = WEIR_PLAN_PROVE};
    made->problem.precedes = random_below(random, 4) == 0 ? made->precedes : NULL;
    made->problem.in_place_count = 1 + (uint32_t)random_below(random, SMALL);
    for (uint32_t p = 0; p < made->problem.in_place_count; ++p) {
        const uint32_t buffer = (uint32_t)random_below(random, SMALL);
        const uint32_t shift = 1 + (uint32_t)random_below(random, SMALL - 1);
        made->pairs[p] = (weir_plan_in_place){buffer, (buffer + shift) % SMALL};
    }
}

// Whether the verifier accepts the offsets with any choice of the pairs.
static bool is_valid(const small_problem* made, weir_plan_entry* entries) {
    for (uint32_t chosen = 0; chosen < 1u << made->problem.in_place_count; ++chosen) {
        for (uint32_t i = 0; i < SMALL; ++i) {
            entries[i].placed_on = WEIR_PLAN_NONE;
        }
        for (uint32_t p = 0; p < made->problem.in_place_count; ++p) {
            if (chosen >> p & 1) {
                entries[made->pairs[p].buffer].placed_on = made->pairs[p].on;
            }
        }
        if (weir_plan_verify(NULL, &made->problem, entries) == WEIR_OK) {
            return true;
        }
    }
    return false;
}

// The least peak of any offsets that the verifier accepts, by trying all. It lets a buffer be
// placed on a smaller one, which the planner never does, so this is at most what the planner can
// reach.
static uint64_t least_peak(const small_problem* made) {
    const uint64_t top = (uint64_t)SMALL * (SIZE_MAX_BYTES + 1);
    uint64_t least = UINT64_MAX;
    for (uint64_t code = 0; code < top * top * top; ++code) {
        weir_plan_entry entries[SMALL];
        uint64_t rest = code;
        uint64_t peak = 0;
        for (uint32_t i = 0; i < SMALL; ++i) {
            entries[i] = (weir_plan_entry){.byte_offset = rest % top,
                                           .byte_size = made->buffers[i].byte_size,
                                           .placed_on = WEIR_PLAN_NONE};
            rest /= top;
            const uint64_t end = entries[i].byte_offset + entries[i].byte_size;
            peak = end > peak ? end : peak;
        }
        if (peak < least && is_valid(made, entries)) {
            least = peak;
        }
    }
    return least;
}

static void impossible_capacities_are_so_for_every_choice(void** state) {
    (void)state;
    test_random random = {41};
    const uint32_t problems = getenv("WEIR_LONG") ? 20000 : 3000;
    uint32_t proven = 0;
    uint32_t open = 0;
    for (uint32_t p = 0; p < problems; ++p) {
        small_problem made;
        weir_plan* plan = NULL;
        random_problem(&random, &made);
        const uint64_t least = least_peak(&made);
        for (made.problem.capacity = 1; made.problem.capacity < 10; ++made.problem.capacity) {
            const weir_status status = weir_plan_create(NULL, &made.problem, &plan);
            if (status == WEIR_OK) {
                assert_true(made.problem.capacity >= least);
                assert_ok(weir_plan_verify(NULL, &made.problem, weir_plan_entries(plan, NULL)));
                weir_plan_destroy(plan);
                break;
            }
            assert_true(status == WEIR_TIMEOUT ||
                        (status == WEIR_INFEASIBLE && made.problem.capacity < least));
            proven += status == WEIR_INFEASIBLE;
            open += status == WEIR_TIMEOUT;
        }
    }
    // What stays open are capacities between the bound for every choice and the best one.
    assert_true(proven > problems);
    assert_true(open < proven);
}

static void a_failing_allocation_leaves_nothing_behind(void** state) {
    (void)state;
    test_random random = {42};
    small_problem made;
    random_problem(&random, &made);
    made.problem.precedes = NULL;
    made.problem.capacity = 1;
    test_allocator counter = {.fail_at = SIZE_MAX};
    const weir_allocator allocator = test_allocator_of(&counter);
    weir_plan* plan = NULL;
    assert_status(weir_plan_create(&allocator, &made.problem, &plan), WEIR_INFEASIBLE);
    assert_int_equal(counter.live_blocks, 0);
    for (size_t call = 0; call < counter.calls; ++call) {
        test_allocator failing = {.fail_at = call};
        const weir_allocator fails = test_allocator_of(&failing);
        assert_status(weir_plan_create(&fails, &made.problem, &plan), WEIR_OUT_OF_MEMORY);
        assert_int_equal(failing.live_blocks, 0);
        assert_null(plan);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(impossible_capacities_are_so_for_every_choice),
        cmocka_unit_test(a_failing_allocation_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
