#include "testing.h"

#include <dirent.h>
#include <unistd.h>
#include <weir/plan.h>

#include "planner_data.h"
#include "testing_allocator.h"

#define SMALL 10 // buffers of a random problem, at most

// A problem with room of its own; `problem` points into the other fields.
typedef struct small_problem {
    weir_plan_buffer buffers[SMALL];
    weir_plan_interval intervals[2 * SMALL];
    uint64_t precedes[SMALL];
    weir_plan_in_place in_place[2 * SMALL];
    weir_plan_problem problem;
} small_problem;

static void add_interval(small_problem* made, uint32_t buffer, int64_t begin, int64_t end) {
    weir_plan_buffer* live = &made->buffers[buffer];
    if (live->interval_count++ == 0) {
        live->interval_begin = made->problem.interval_count;
    }
    made->intervals[made->problem.interval_count++] = (weir_plan_interval){begin, end};
}

static void start_problem(small_problem* made, uint32_t count) {
    memset(made, 0, sizeof *made);
    made->problem.buffers = made->buffers;
    made->problem.buffer_count = count;
    made->problem.intervals = made->intervals;
    made->problem.in_place = made->in_place;
}

// Buffers of the given sizes, one interval each.
static void simple_problem(small_problem* made, uint32_t count, const uint64_t* sizes,
                           const weir_plan_interval* lives) {
    start_problem(made, count);
    for (uint32_t i = 0; i < count; ++i) {
        made->buffers[i].byte_size = sizes[i];
        add_interval(made, i, lives[i].begin, lives[i].end);
    }
}

static void random_lives(test_random* random, small_problem* made, uint32_t spans) {
    for (uint32_t i = 0; i < made->problem.buffer_count; ++i) {
        for (uint32_t s = 0; s < spans; ++s) {
            const int64_t begin = (int64_t)random_below(random, 10);
            add_interval(made, i, begin, begin + 1 + (int64_t)random_below(random, 5));
        }
    }
}

// A random partial order: edges from lower to higher numbers, closed.
static void random_order(test_random* random, small_problem* made) {
    const uint32_t count = made->problem.buffer_count;
    for (uint32_t i = count; i-- > 0;) {
        for (uint32_t j = i + 1; j < count; ++j) {
            if (random_below(random, 4) == 0) {
                made->precedes[i] |= 1ull << j | made->precedes[j];
            }
        }
    }
    made->problem.precedes = made->precedes;
}

static void random_problem(test_random* random, uint32_t count, bool plain, small_problem* made) {
    start_problem(made, count);
    made->problem.alignment = plain ? 0 : 1 + random_below(random, 5);
    for (uint32_t i = 0; i < count; ++i) {
        made->buffers[i].byte_size = random_below(random, 12);
        if (!plain) {
            made->buffers[i].alignment = random_below(random, 4);
            made->buffers[i].pool = random_below(random, 4) == 0 ? 7 : 2;
        }
    }
    if (random_below(random, 2)) {
        random_order(random, made);
    } else {
        random_lives(random, made, plain ? 1 : 1 + (uint32_t)random_below(random, 2));
    }
}

static bool conflict(const small_problem* made, uint32_t a, uint32_t b) {
    if (made->buffers[a].byte_size == 0 || made->buffers[b].byte_size == 0) {
        return false;
    }
    if (made->problem.precedes) {
        return !(made->precedes[a] >> b & 1) && !(made->precedes[b] >> a & 1);
    }
    for (int64_t t = 0; t < 20; ++t) {
        bool live[2] = {false, false};
        for (int k = 0; k < 2; ++k) {
            const weir_plan_buffer* buffer = &made->buffers[k == 0 ? a : b];
            for (uint32_t s = 0; s < buffer->interval_count; ++s) {
                const weir_plan_interval* span = &made->intervals[buffer->interval_begin + s];
                live[k] |= span->begin <= t && t < span->end;
            }
        }
        if (live[0] && live[1]) {
            return true;
        }
    }
    return false;
}

static uint64_t alignment_of(const small_problem* made, uint32_t index) {
    const uint64_t own = made->buffers[index].alignment;
    const uint64_t used = own > 0 ? own : made->problem.alignment;
    return used > 0 ? used : 1;
}

// The least peak of one pool: in rising order of its offsets an optimal plan is found by taking
// the lowest offset for each buffer in turn, so trying every order finds it.
static uint64_t best_peak(const small_problem* made, uint32_t pool, uint64_t* offsets,
                          uint32_t placed, uint64_t peak) {
    uint64_t best = UINT64_MAX;
    for (uint32_t i = 0; i < made->problem.buffer_count; ++i) {
        if (placed >> i & 1 || made->buffers[i].pool != pool) {
            continue;
        }
        uint64_t offset = 0;
        for (bool moved = true; moved;) {
            moved = false;
            for (uint32_t j = 0; j < made->problem.buffer_count; ++j) {
                if (placed >> j & 1 && made->buffers[j].pool == pool && conflict(made, i, j) &&
                    offset < offsets[j] + made->buffers[j].byte_size &&
                    offsets[j] < offset + made->buffers[i].byte_size) {
                    const uint64_t step = alignment_of(made, i);
                    offset = (offsets[j] + made->buffers[j].byte_size + step - 1) / step * step;
                    moved = true;
                }
            }
        }
        offsets[i] = offset;
        const uint64_t end = made->buffers[i].byte_size ? offset + made->buffers[i].byte_size : 0;
        const uint64_t got =
            best_peak(made, pool, offsets, placed | 1u << i, end > peak ? end : peak);
        best = got < best ? got : best;
    }
    return best == UINT64_MAX ? peak : best;
}

// The heaviest set of buffers that conflict pairwise.
static uint64_t heaviest_clique(const small_problem* made) {
    const uint32_t count = made->problem.buffer_count;
    uint64_t heaviest = 0;
    for (uint32_t set = 0; set < 1u << count; ++set) {
        uint64_t bytes = 0;
        for (uint32_t i = 0; i < count; ++i) {
            for (uint32_t j = 0; j < i && (set >> i & 1); ++j) {
                if ((set >> j & 1) && !conflict(made, i, j)) {
                    bytes = 0;
                    i = count;
                    break;
                }
            }
            bytes += i < count && (set >> i & 1) ? made->buffers[i].byte_size : 0;
        }
        heaviest = bytes > heaviest ? bytes : heaviest;
    }
    return heaviest;
}

// Plans, verifies, and returns the figures; the entries go to `entries` where given.
static weir_plan_result plan_of(const weir_plan_problem* problem, weir_plan_entry* entries) {
    weir_plan* plan = NULL;
    uint32_t count = 0;
    assert_ok(weir_plan_create(NULL, problem, &plan));
    const weir_plan_entry* made = weir_plan_entries(plan, &count);
    assert_int_equal(count, problem->buffer_count);
    assert_ok(weir_plan_verify(NULL, problem, made));
    const weir_plan_result result = *weir_plan_result_of(plan);
    assert_true(result.peak >= result.lower_bound);
    assert_int_equal(result.optimal, result.peak == result.lower_bound);
    if (entries && count > 0) {
        memcpy(entries, made, count * sizeof *entries);
    }
    weir_plan_destroy(plan);
    return result;
}

static void small_plans_are_valid_and_nearly_always_optimal(void** state) {
    (void)state;
    test_random random = {5};
    int best = 0;
    const int rounds = 1500;
    for (int round = 0; round < rounds; ++round) {
        small_problem made;
        random_problem(&random, 1 + (uint32_t)random_below(&random, 6), false, &made);
        const weir_plan_result result = plan_of(&made.problem, NULL);
        uint64_t offsets[SMALL];
        const uint64_t least =
            best_peak(&made, 2, offsets, 0, 0) + best_peak(&made, 7, offsets, 0, 0);
        assert_true(result.lower_bound <= least);
        assert_true(result.peak >= least);
        best += result.peak == least;
    }
    assert_true(best >= rounds * 98 / 100);
}

static void the_bound_is_the_heaviest_clique(void** state) {
    (void)state;
    test_random random = {9};
    for (int round = 0; round < 600; ++round) {
        small_problem made;
        random_problem(&random, 1 + (uint32_t)random_below(&random, SMALL), true, &made);
        assert_int_equal(plan_of(&made.problem, NULL).lower_bound, heaviest_clique(&made));
    }
}

static void the_verifier_agrees_with_a_look_at_all_pairs(void** state) {
    (void)state;
    test_random random = {15};
    int wrong = 0;
    for (int round = 0; round < 3000; ++round) {
        small_problem made;
        weir_plan_entry entries[SMALL];
        random_problem(&random, 4, false, &made);
        bool valid = true;
        for (uint32_t i = 0; i < 4; ++i) {
            const uint64_t step = alignment_of(&made, i);
            entries[i] = (weir_plan_entry){.byte_offset = random_below(&random, 30) / step * step,
                                           .byte_size = made.buffers[i].byte_size,
                                           .pool = made.buffers[i].pool,
                                           .placed_on = WEIR_PLAN_NONE};
            for (uint32_t j = 0; j < i; ++j) {
                valid &= entries[i].pool != entries[j].pool || !conflict(&made, i, j) ||
                         entries[i].byte_offset >= entries[j].byte_offset + entries[j].byte_size ||
                         entries[j].byte_offset >= entries[i].byte_offset + entries[i].byte_size;
            }
        }
        wrong += !valid;
        assert_status(weir_plan_verify(NULL, &made.problem, entries),
                      valid ? WEIR_OK : WEIR_INFEASIBLE);
    }
    assert_in_range(wrong, 300, 2700);
}

static void a_wrong_plan_is_named_by_both_buffers_and_bytes(void** state) {
    (void)state;
    small_problem made;
    simple_problem(&made, 3, (uint64_t[]){16, 16, 16},
                   (weir_plan_interval[]){{0, 3}, {2, 5}, {4, 6}});
    weir_plan_entry entries[3];
    plan_of(&made.problem, entries);
    entries[1].byte_offset = entries[0].byte_offset + 8;
    assert_status(weir_plan_verify(NULL, &made.problem, entries), WEIR_INFEASIBLE);
    assert_message_has("buffers 0 at [0, 16) and 1 at [8, 24)");
    plan_of(&made.problem, entries);
    entries[2].byte_size = 8;
    assert_status(weir_plan_verify(NULL, &made.problem, entries), WEIR_INFEASIBLE);
    plan_of(&made.problem, entries);
    entries[2].pool = 1;
    assert_status(weir_plan_verify(NULL, &made.problem, entries), WEIR_INFEASIBLE);
    plan_of(&made.problem, entries);
    entries[2].placed_on = 1;
    assert_status(weir_plan_verify(NULL, &made.problem, entries), WEIR_INFEASIBLE);
    plan_of(&made.problem, entries);
    made.problem.alignment = 7;
    assert_status(weir_plan_verify(NULL, &made.problem, entries), WEIR_INFEASIBLE);
    made.problem.alignment = 0;
    made.problem.capacity = 31;
    assert_status(weir_plan_verify(NULL, &made.problem, entries), WEIR_INFEASIBLE);
}

static void aliases_lie_in_their_root_and_keep_it_alive(void** state) {
    (void)state;
    small_problem made;
    simple_problem(&made, 3, (uint64_t[]){64, 16, 64},
                   (weir_plan_interval[]){{0, 2}, {3, 6}, {4, 5}});
    made.buffers[1].flags = WEIR_PLAN_ALIAS;
    made.buffers[1].alias_of = 0;
    made.buffers[1].alias_offset = 24;
    weir_plan_entry entries[3];
    const weir_plan_result result = plan_of(&made.problem, entries);
    assert_int_equal(entries[1].byte_offset, entries[0].byte_offset + 24);
    assert_int_equal(result.peak, 128); // buffer 2 meets the root through its alias
    assert_int_equal(result.total, 128);
    entries[1].byte_offset += 1;
    assert_status(weir_plan_verify(NULL, &made.problem, entries), WEIR_INFEASIBLE);
    made.buffers[1].alias_offset = 49;
    weir_plan* plan = NULL;
    assert_status(weir_plan_create(NULL, &made.problem, &plan), WEIR_INVALID_ARGUMENT);
    assert_message_has("passes the 64 bytes");
    assert_null(plan);
}

static void an_alias_hands_its_alignment_to_the_root(void** state) {
    (void)state;
    small_problem made;
    simple_problem(&made, 3, (uint64_t[]){100, 20, 5},
                   (weir_plan_interval[]){{0, 2}, {1, 2}, {0, 2}});
    made.problem.alignment = 6;
    made.buffers[1].flags = WEIR_PLAN_ALIAS;
    made.buffers[1].alias_offset = 40;
    made.buffers[1].alignment = 20;
    made.buffers[2].flags = WEIR_PLAN_FIXED;
    weir_plan_entry entries[3];
    const weir_plan_result result = plan_of(&made.problem, entries);
    assert_int_equal(entries[0].byte_offset, 60);
    assert_int_equal(entries[1].byte_offset, 100);
    assert_int_equal(result.peak, 160);
    made.buffers[1].alias_offset = 41;
    weir_plan* plan = NULL;
    assert_status(weir_plan_create(NULL, &made.problem, &plan), WEIR_INVALID_ARGUMENT);
}

static void chains_are_placed_on_each_other(void** state) {
    (void)state;
    small_problem made;
    simple_problem(&made, 3, (uint64_t[]){64, 64, 64},
                   (weir_plan_interval[]){{0, 2}, {1, 4}, {3, 6}});
    made.in_place[0] = (weir_plan_in_place){2, 1};
    made.in_place[1] = (weir_plan_in_place){1, 0};
    assert_int_equal(plan_of(&made.problem, NULL).peak, 128);
    made.problem.in_place_count = 2;
    weir_plan_entry entries[3];
    const weir_plan_result result = plan_of(&made.problem, entries);
    assert_int_equal(result.peak, 64);
    assert_int_equal(result.in_place, 2);
    assert_int_equal(entries[1].placed_on, 0);
    assert_int_equal(entries[2].placed_on, 1);
    made.problem.in_place_count = 1;
    assert_status(weir_plan_verify(NULL, &made.problem, entries), WEIR_INFEASIBLE);
}

static void one_buffer_is_taken_by_one_other(void** state) {
    (void)state;
    small_problem made;
    simple_problem(&made, 3, (uint64_t[]){64, 64, 64},
                   (weir_plan_interval[]){{0, 3}, {2, 4}, {2, 4}});
    made.in_place[0] = (weir_plan_in_place){1, 0};
    made.in_place[1] = (weir_plan_in_place){2, 0};
    made.problem.in_place_count = 2;
    weir_plan_entry entries[3];
    const weir_plan_result result = plan_of(&made.problem, entries);
    assert_int_equal(result.peak, 128);
    assert_int_equal(result.in_place, 1);
    // Apart in time they still may not both take it.
    made.intervals[1].end = 3;
    made.intervals[2] = (weir_plan_interval){0, 2};
    entries[1].byte_offset = entries[2].byte_offset = entries[0].byte_offset = 0;
    entries[1].placed_on = entries[2].placed_on = 0;
    assert_status(weir_plan_verify(NULL, &made.problem, entries), WEIR_INFEASIBLE);
    assert_message_has("both take");
    simple_problem(&made, 3, (uint64_t[]){64, 64, 64},
                   (weir_plan_interval[]){{0, 2}, {2, 3}, {3, 4}});
    made.in_place[0] = (weir_plan_in_place){1, 0};
    made.in_place[1] = (weir_plan_in_place){2, 0};
    made.problem.in_place_count = 2;
    assert_int_equal(plan_of(&made.problem, NULL).in_place, 1);
}

static void a_merge_that_raises_the_peak_is_not_made(void** state) {
    (void)state;
    small_problem made;
    // Buffer 1 is small and lives on; merged it would hold all of buffer 0.
    simple_problem(&made, 3, (uint64_t[]){64, 8, 64},
                   (weir_plan_interval[]){{0, 2}, {1, 6}, {3, 5}});
    made.in_place[0] = (weir_plan_in_place){1, 0};
    made.problem.in_place_count = 1;
    const weir_plan_result result = plan_of(&made.problem, NULL);
    assert_int_equal(result.peak, 72);
    assert_int_equal(result.in_place, 0);
}

static void a_buffer_is_placed_on_an_alias_at_its_offset(void** state) {
    (void)state;
    small_problem made;
    simple_problem(&made, 3, (uint64_t[]){64, 32, 32},
                   (weir_plan_interval[]){{0, 1}, {1, 3}, {2, 3}});
    made.buffers[1].flags = WEIR_PLAN_ALIAS;
    made.buffers[1].alias_offset = 32;
    made.in_place[0] = (weir_plan_in_place){2, 1};
    made.problem.in_place_count = 1;
    weir_plan_entry entries[3];
    const weir_plan_result result = plan_of(&made.problem, entries);
    assert_int_equal(result.peak, 64);
    assert_int_equal(result.in_place, 1);
    assert_int_equal(entries[2].byte_offset, 32);
    // A root that is read beyond the operation itself keeps its bytes.
    made.intervals[0].end = 9;
    assert_int_equal(plan_of(&made.problem, NULL).in_place, 0);
}

static void in_place_pairs_and_aliases_never_raise_the_peak(void** state) {
    (void)state;
    test_random random = {31};
    uint32_t taken = 0;
    for (int round = 0; round < 1500; ++round) {
        small_problem made;
        random_problem(&random, SMALL, round % 2 == 0, &made);
        for (uint32_t i = 6; i < SMALL; ++i) {
            weir_plan_buffer* alias = &made.buffers[i];
            const weir_plan_buffer* root = &made.buffers[random_below(&random, 6)];
            alias->flags = WEIR_PLAN_ALIAS;
            alias->alias_of = (uint32_t)(root - made.buffers);
            alias->alias_offset = random_below(&random, root->byte_size + 1);
            alias->byte_size = random_below(&random, root->byte_size - alias->alias_offset + 1);
            alias->alignment = 0;
            alias->pool = root->pool;
        }
        const uint64_t apart = plan_of(&made.problem, NULL).peak;
        made.problem.in_place_count = (uint32_t)random_below(&random, 2 * SMALL);
        for (uint32_t i = 0; i < made.problem.in_place_count; ++i) {
            const uint32_t buffer = (uint32_t)random_below(&random, SMALL);
            const uint32_t shift = 1 + (uint32_t)random_below(&random, SMALL - 1);
            made.in_place[i] = (weir_plan_in_place){buffer, (buffer + shift) % SMALL};
        }
        const weir_plan_result result = plan_of(&made.problem, NULL);
        assert_true(result.peak <= apart);
        taken += result.in_place;
    }
    assert_in_range(taken, 500, 30000);
}

static void fixed_buffers_stay_and_others_go_round_them(void** state) {
    (void)state;
    small_problem made;
    simple_problem(&made, 3, (uint64_t[]){16, 16, 40},
                   (weir_plan_interval[]){{0, 2}, {0, 2}, {0, 2}});
    made.buffers[0].flags = WEIR_PLAN_FIXED;
    made.buffers[0].fixed_offset = 20;
    weir_plan_entry entries[3];
    weir_plan_result result = plan_of(&made.problem, entries);
    assert_int_equal(entries[0].byte_offset, 20);
    assert_int_equal(entries[1].byte_offset, 0);
    assert_int_equal(result.peak, 76);
    made.buffers[1].flags = WEIR_PLAN_FIXED;
    made.buffers[1].fixed_offset = 30;
    weir_plan* plan = NULL;
    assert_status(weir_plan_create(NULL, &made.problem, &plan), WEIR_INFEASIBLE);
    assert_message_has("buffers 1 and 0");
    // An in-place pair may be fixed where it lies.
    made.buffers[1].fixed_offset = 20;
    made.in_place[0] = (weir_plan_in_place){1, 0};
    made.problem.in_place_count = 1;
    result = plan_of(&made.problem, entries);
    assert_int_equal(result.in_place, 1);
    assert_int_equal(result.peak, 76);
}

static void scratch_shares_with_what_is_not_live_at_its_op(void** state) {
    (void)state;
    small_problem made;
    // Values of ops 0..2, and scratch of op 1.
    simple_problem(&made, 4, (uint64_t[]){32, 32, 32, 32},
                   (weir_plan_interval[]){{0, 2}, {1, 3}, {2, 4}, {1, 2}});
    weir_plan_entry entries[4];
    assert_int_equal(plan_of(&made.problem, entries).peak, 96);
    entries[3].byte_offset = entries[1].byte_offset;
    assert_status(weir_plan_verify(NULL, &made.problem, entries), WEIR_INFEASIBLE);
}

static void empty_buffers_and_problems_need_nothing(void** state) {
    (void)state;
    small_problem made;
    start_problem(&made, 0);
    weir_plan_result result = plan_of(&made.problem, NULL);
    assert_int_equal(result.peak, 0);
    assert_true(result.optimal);
    simple_problem(&made, 3, (uint64_t[]){0, 8, 0}, (weir_plan_interval[]){{0, 5}, {0, 5}, {0, 5}});
    made.buffers[2].flags = WEIR_PLAN_ALIAS;
    made.buffers[2].alias_of = 1;
    made.buffers[2].alias_offset = 8;
    weir_plan_entry entries[3];
    result = plan_of(&made.problem, entries);
    assert_int_equal(result.peak, 8);
    assert_int_equal(entries[2].byte_offset, 8);
}

static void buffers_without_intervals_always_live(void** state) {
    (void)state;
    small_problem made;
    simple_problem(&made, 3, (uint64_t[]){8, 8, 8}, (weir_plan_interval[]){{0, 1}, {5, 6}, {0, 1}});
    made.buffers[2].interval_count = 0;
    assert_int_equal(plan_of(&made.problem, NULL).peak, 16);
    made.intervals[0] = (weir_plan_interval){INT64_MIN, INT64_MIN};
    made.intervals[1] = (weir_plan_interval){INT64_MIN, INT64_MAX};
    assert_int_equal(plan_of(&made.problem, NULL).peak, 16);
}

static void sums_past_63_bits_are_out_of_range(void** state) {
    (void)state;
    small_problem made;
    simple_problem(&made, 2, (uint64_t[]){1ull << 62, 1ull << 62},
                   (weir_plan_interval[]){{0, 2}, {1, 3}});
    weir_plan* plan = NULL;
    assert_status(weir_plan_create(NULL, &made.problem, &plan), WEIR_OUT_OF_RANGE);
    made.intervals[1].begin = 2; // even when they could share all bytes
    assert_status(weir_plan_create(NULL, &made.problem, &plan), WEIR_OUT_OF_RANGE);
    assert_message_has("sizes sum");
    made.intervals[1].begin = 1;
    made.buffers[1].byte_size -= 1;
    assert_int_equal(plan_of(&made.problem, NULL).peak, (uint64_t)INT64_MAX);
    made.problem.alignment = (1ull << 62) + 1;
    assert_status(weir_plan_create(NULL, &made.problem, &plan), WEIR_OUT_OF_RANGE);
    made.problem.alignment = 1ull << 63;
    assert_status(weir_plan_create(NULL, &made.problem, &plan), WEIR_OUT_OF_RANGE);
    made.problem.alignment = 0;
    made.buffers[0].flags = WEIR_PLAN_FIXED;
    made.buffers[0].fixed_offset = UINT64_MAX - 5;
    assert_status(weir_plan_create(NULL, &made.problem, &plan), WEIR_OUT_OF_RANGE);
    assert_null(plan);
}

static void a_capacity_that_is_too_small_is_infeasible(void** state) {
    (void)state;
    small_problem made;
    simple_problem(&made, 2, (uint64_t[]){30, 12}, (weir_plan_interval[]){{0, 2}, {1, 3}});
    made.problem.capacity = 42;
    assert_int_equal(plan_of(&made.problem, NULL).peak, 42);
    made.problem.capacity = 41;
    weir_plan* plan = NULL;
    assert_status(weir_plan_create(NULL, &made.problem, &plan), WEIR_INFEASIBLE);
    assert_message_has("needs 42 bytes, expected at most 41");
}

static void pools_are_planned_apart(void** state) {
    (void)state;
    small_problem made;
    simple_problem(&made, 3, (uint64_t[]){30, 12, 5},
                   (weir_plan_interval[]){{0, 2}, {1, 3}, {0, 3}});
    made.buffers[1].pool = 4000000000u;
    weir_plan_entry entries[3];
    const weir_plan_result result = plan_of(&made.problem, entries);
    assert_int_equal(result.peak, 47);
    assert_int_equal(entries[1].byte_offset, 0);
}

static void bad_problems_are_refused(void** state) {
    (void)state;
    small_problem good;
    simple_problem(&good, 2, (uint64_t[]){8, 8}, (weir_plan_interval[]){{0, 2}, {1, 3}});
    weir_plan* plan = NULL;
    small_problem bad = good;
    bad.buffers[0].flags = 64;
    bad.problem.buffers = bad.buffers;
    assert_status(weir_plan_create(NULL, &bad.problem, &plan), WEIR_INVALID_ARGUMENT);
    bad.buffers[0].flags = WEIR_PLAN_ALIAS; // of itself
    assert_status(weir_plan_create(NULL, &bad.problem, &plan), WEIR_INVALID_ARGUMENT);
    bad.buffers[0].alias_of = 2;
    assert_status(weir_plan_create(NULL, &bad.problem, &plan), WEIR_INVALID_ARGUMENT);
    bad.buffers[0].flags = 0;
    bad.buffers[1].interval_begin = UINT32_MAX;
    assert_status(weir_plan_create(NULL, &bad.problem, &plan), WEIR_INVALID_ARGUMENT);
    bad.buffers[1].interval_begin = 1;
    bad.problem.intervals = (weir_plan_interval[]){{2, 0}, {1, 3}};
    assert_status(weir_plan_create(NULL, &bad.problem, &plan), WEIR_INVALID_ARGUMENT);
    bad.problem.intervals = good.intervals;
    bad.problem.in_place = (weir_plan_in_place[]){{0, 2}};
    bad.problem.in_place_count = 1;
    assert_status(weir_plan_create(NULL, &bad.problem, &plan), WEIR_INVALID_ARGUMENT);
    bad.problem.in_place_count = 0;
    bad.problem.precedes = (uint64_t[]){1, 0};
    assert_status(weir_plan_create(NULL, &bad.problem, &plan), WEIR_INVALID_ARGUMENT);
    assert_message_has("precedes itself");
    bad.problem.precedes = (uint64_t[]){2, 1};
    assert_status(weir_plan_create(NULL, &bad.problem, &plan), WEIR_INVALID_ARGUMENT);
    assert_message_has("transitive");
    bad.problem.precedes = (uint64_t[]){2, 0};
    assert_int_equal(plan_of(&bad.problem, NULL).peak, 8);
    bad.problem.effort = (weir_plan_effort)3;
    assert_status(weir_plan_create(NULL, &bad.problem, &plan), WEIR_INVALID_ARGUMENT);
    assert_message_has("effort 3");
    bad.problem.effort = WEIR_PLAN_SEARCH;
    bad.problem.buffers = NULL;
    assert_status(weir_plan_create(NULL, &bad.problem, &plan), WEIR_INVALID_ARGUMENT);
    assert_null(plan);
    weir_plan_destroy(NULL);
}

// A problem too hard for the list orders, so that the search runs.
static void hard_problem(test_random* random, uint32_t count, weir_plan_buffer* buffers,
                         weir_plan_interval* intervals, weir_plan_problem* problem) {
    for (uint32_t i = 0; i < count; ++i) {
        const int64_t begin = (int64_t)random_below(random, 60);
        intervals[i] = (weir_plan_interval){begin, begin + 1 + (int64_t)random_below(random, 25)};
        buffers[i] = (weir_plan_buffer){
            .byte_size = 1 + random_below(random, 1000), .interval_begin = i, .interval_count = 1};
    }
    *problem = (weir_plan_problem){
        .buffers = buffers, .buffer_count = count, .intervals = intervals, .interval_count = count};
}

static void the_same_problem_gives_the_same_plan(void** state) {
    (void)state;
    test_random random = {41};
    weir_plan_buffer buffers[120];
    weir_plan_interval intervals[120];
    weir_plan_entry first[120];
    weir_plan_entry second[120];
    weir_plan_problem problem;
    hard_problem(&random, 120, buffers, intervals, &problem);
    plan_of(&problem, first);
    plan_of(&problem, second);
    assert_memory_equal(first, second, sizeof first);
}

static void a_longer_search_never_needs_more(void** state) {
    (void)state;
    test_random random = {44};
    weir_plan_buffer buffers[120];
    weir_plan_interval intervals[120];
    weir_plan_problem problem;
    hard_problem(&random, 120, buffers, intervals, &problem);
    problem.iterations = 1;
    const uint64_t quick = plan_of(&problem, NULL).peak;
    problem.iterations = 1000;
    const uint64_t slow = plan_of(&problem, NULL).peak;
    assert_true(slow < quick);
}

static void each_failed_allocation_is_reported_and_leaks_nothing(void** state) {
    (void)state;
    test_random random = {51};
    for (int round = 0; round < 6; ++round) {
        small_problem made;
        random_problem(&random, SMALL, false, &made);
        made.problem.in_place_count = 3;
        for (uint32_t i = 0; i < 3; ++i) {
            made.in_place[i] = (weir_plan_in_place){i + 1, i};
        }
        weir_status status = WEIR_OUT_OF_MEMORY;
        size_t failure = 0;
        for (; status != WEIR_OK; ++failure) {
            test_allocator hook = {.fail_at = failure};
            const weir_allocator allocator = test_allocator_of(&hook);
            weir_plan* plan = NULL;
            status = weir_plan_create(&allocator, &made.problem, &plan);
            if (status == WEIR_OK) {
                status = weir_plan_verify(&allocator, &made.problem, weir_plan_entries(plan, NULL));
            } else {
                assert_null(plan);
            }
            assert_true(status == WEIR_OK || status == WEIR_OUT_OF_MEMORY);
            weir_plan_destroy(plan);
            assert_int_equal(atomic_load(&hook.live_blocks), 0);
        }
        assert_in_range(failure, 20, 10000);
    }
}

#define ROWS_MAX 1024

static uint32_t plan_folder(const char* folder) {
    DIR* listing = opendir(folder);
    assert_non_null(listing);
    uint32_t planned = 0;
    for (const struct dirent* item = readdir(listing); item; item = readdir(listing)) {
        if (!strstr(item->d_name, ".csv")) {
            continue;
        }
        static weir_plan_buffer buffers[ROWS_MAX];
        static weir_plan_interval intervals[ROWS_MAX];
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, item->d_name);
        const uint32_t count = read_lifetimes(path, buffers, intervals, ROWS_MAX);
        const weir_plan_problem problem = {.buffers = buffers,
                                           .buffer_count = count,
                                           .intervals = intervals,
                                           .interval_count = count};
        const weir_plan_result result = plan_of(&problem, NULL);
        if (!result.optimal) {
            fail_msg("%s: peak %llu, bound %llu", item->d_name, (unsigned long long)result.peak,
                     (unsigned long long)result.lower_bound);
        }
        ++planned;
    }
    closedir(listing);
    return planned;
}

// Every published net and every language model graph of the shared data.
static void networks_and_models_are_planned_at_their_bound(void** state) {
    (void)state;
    unpack_planner_data("planner/nets planner/llm");
    char path[256];
    snprintf(path, sizeof path, "%s/planner/nets", unpack_folder);
    assert_int_equal(plan_folder(path), 4);
    snprintf(path, sizeof path, "%s/planner/llm", unpack_folder);
    assert_int_equal(plan_folder(path), 24);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_plans_are_valid_and_nearly_always_optimal),
        cmocka_unit_test(the_bound_is_the_heaviest_clique),
        cmocka_unit_test(the_verifier_agrees_with_a_look_at_all_pairs),
        cmocka_unit_test(a_wrong_plan_is_named_by_both_buffers_and_bytes),
        cmocka_unit_test(aliases_lie_in_their_root_and_keep_it_alive),
        cmocka_unit_test(an_alias_hands_its_alignment_to_the_root),
        cmocka_unit_test(chains_are_placed_on_each_other),
        cmocka_unit_test(one_buffer_is_taken_by_one_other),
        cmocka_unit_test(a_merge_that_raises_the_peak_is_not_made),
        cmocka_unit_test(a_buffer_is_placed_on_an_alias_at_its_offset),
        cmocka_unit_test(in_place_pairs_and_aliases_never_raise_the_peak),
        cmocka_unit_test(fixed_buffers_stay_and_others_go_round_them),
        cmocka_unit_test(scratch_shares_with_what_is_not_live_at_its_op),
        cmocka_unit_test(empty_buffers_and_problems_need_nothing),
        cmocka_unit_test(buffers_without_intervals_always_live),
        cmocka_unit_test(sums_past_63_bits_are_out_of_range),
        cmocka_unit_test(a_capacity_that_is_too_small_is_infeasible),
        cmocka_unit_test(pools_are_planned_apart),
        cmocka_unit_test(bad_problems_are_refused),
        cmocka_unit_test(the_same_problem_gives_the_same_plan),
        cmocka_unit_test(a_longer_search_never_needs_more),
        cmocka_unit_test(each_failed_allocation_is_reported_and_leaks_nothing),
        cmocka_unit_test_setup_teardown(networks_and_models_are_planned_at_their_bound,
                                        make_unpack_folder, remove_unpack_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
