// The verifier against a look at every pair of buffers and every moment, and at full scale.
#include "testing.h"

#include <time.h>
#include <weir/plan.h>

#include "testing_allocator.h"

#define SMALL 6
#define MOMENTS 12

typedef struct verify_case {
    weir_plan_buffer buffers[SMALL];
    weir_plan_interval intervals[2 * SMALL];
    weir_plan_in_place in_place[SMALL];
    uint64_t precedes[SMALL];
    weir_plan_entry entries[SMALL];
    weir_plan_problem problem;
} verify_case;

static uint32_t root_of(const verify_case* made, uint32_t i) {
    return made->buffers[i].flags & WEIR_PLAN_ALIAS ? made->buffers[i].alias_of : i;
}

static bool is_live(const verify_case* made, uint32_t i, int64_t moment) {
    const weir_plan_buffer* buffer = &made->buffers[i];
    bool live = buffer->interval_count == 0;
    for (uint32_t s = 0; s < buffer->interval_count; ++s) {
        const weir_plan_interval* span = &made->intervals[buffer->interval_begin + s];
        live |= span->begin <= moment && moment < span->end;
    }
    return live;
}

static bool do_conflict(const verify_case* made, uint32_t a, uint32_t b) {
    if (made->problem.precedes) {
        return !(made->precedes[a] >> b & 1) && !(made->precedes[b] >> a & 1);
    }
    for (int64_t moment = 0; moment < MOMENTS; ++moment) {
        if (is_live(made, a, moment) && is_live(made, b, moment)) {
            return true;
        }
    }
    return false;
}

static bool do_overlap(const weir_plan_entry* a, const weir_plan_entry* b) {
    return a->byte_size > 0 && b->byte_size > 0 && a->pool == b->pool && a->block == b->block &&
           a->byte_offset < b->byte_offset + b->byte_size &&
           b->byte_offset < a->byte_offset + a->byte_size;
}

static bool is_listed(const verify_case* made, uint32_t buffer, uint32_t on) {
    for (uint32_t i = 0; i < made->problem.in_place_count; ++i) {
        if (made->in_place[i].buffer == buffer && made->in_place[i].on == on) {
            return made->entries[buffer].byte_offset == made->entries[on].byte_offset;
        }
    }
    return false;
}

// Whether every two that collide are excused, and no bytes are taken twice.
static bool is_valid(const verify_case* made) {
    uint32_t takers[SMALL] = {0};
    for (uint32_t a = 0; a < made->problem.buffer_count; ++a) {
        for (uint32_t b = 0; b < a; ++b) {
            if (root_of(made, a) == root_of(made, b) || !do_conflict(made, a, b) ||
                !do_overlap(&made->entries[a], &made->entries[b])) {
                continue;
            }
            if (is_listed(made, a, b)) {
                ++takers[b];
            } else if (is_listed(made, b, a)) {
                ++takers[a];
            } else {
                return false;
            }
        }
    }
    for (uint32_t i = 0; i < made->problem.buffer_count; ++i) {
        if (takers[i] > 1) {
            return false;
        }
    }
    return true;
}

static void random_lives(test_random* random, verify_case* made) {
    made->problem.intervals = made->intervals;
    for (uint32_t i = 0; i < SMALL; ++i) {
        made->buffers[i].interval_begin = made->problem.interval_count;
        made->buffers[i].interval_count = (uint32_t)random_below(random, 3);
        for (uint32_t s = 0; s < made->buffers[i].interval_count; ++s) {
            const int64_t begin = (int64_t)random_below(random, 8);
            const int64_t end = begin + (int64_t)random_below(random, 4); // some are empty
            made->intervals[made->problem.interval_count++] = (weir_plan_interval){begin, end};
        }
    }
}

static void random_order(test_random* random, verify_case* made) {
    made->problem.precedes = made->precedes;
    for (uint32_t i = SMALL; i-- > 0;) {
        for (uint32_t j = i + 1; j < SMALL; ++j) {
            if (random_below(random, 2) == 0) {
                made->precedes[i] |= 1ull << j | made->precedes[j];
            }
        }
    }
}

// Aliases only of buffers 0 and 1, which are none; pairs from higher to lower numbers, so that no
// two of them are each other's reverse.
static void random_case(test_random* random, verify_case* made) {
    memset(made, 0, sizeof *made);
    made->problem.buffers = made->buffers;
    made->problem.buffer_count = SMALL;
    made->problem.block_bytes_max = random_below(random, 2) ? 100 : 0;
    const uint64_t blocks = made->problem.block_bytes_max > 0 ? 2 : 1;
    for (uint32_t i = 0; i < SMALL; ++i) {
        weir_plan_buffer* buffer = &made->buffers[i];
        weir_plan_entry* entry = &made->entries[i];
        *buffer = (weir_plan_buffer){.byte_size = random_below(random, 6),
                                     .pool = random_below(random, 4) == 0};
        *entry = (weir_plan_entry){.byte_offset = 2 * random_below(random, 9),
                                   .byte_size = buffer->byte_size,
                                   .pool = buffer->pool,
                                   .block = (uint32_t)random_below(random, blocks),
                                   .placed_on = WEIR_PLAN_NONE};
        if (i >= 2 && random_below(random, 3) == 0) {
            const uint32_t root = (uint32_t)random_below(random, 2);
            buffer->flags = WEIR_PLAN_ALIAS;
            buffer->alias_of = root;
            buffer->alias_offset = random_below(random, 3);
            buffer->pool = made->buffers[root].pool;
            *entry = made->entries[root];
            entry->byte_offset += buffer->alias_offset;
            entry->byte_size = buffer->byte_size;
        }
    }
    made->problem.in_place = made->in_place;
    for (uint32_t i = 1; i < SMALL; ++i) {
        made->in_place[made->problem.in_place_count++] =
            (weir_plan_in_place){.buffer = i, .on = (uint32_t)random_below(random, i)};
    }
    if (random_below(random, 2)) {
        random_order(random, made);
    } else {
        random_lives(random, made);
    }
}

static void the_verifier_agrees_with_a_look_at_every_pair(void** state) {
    (void)state;
    test_random random = {21};
    int valid = 0;
    int with_pairs = 0;
    const int rounds = 60000;
    for (int round = 0; round < rounds; ++round) {
        verify_case made;
        random_case(&random, &made);
        const bool expected = is_valid(&made);
        valid += expected;
        if (weir_plan_verify(NULL, &made.problem, made.entries) !=
            (expected ? WEIR_OK : WEIR_INFEASIBLE)) {
            fail_msg("round %d: expected %s", round, expected ? "valid" : weir_last_error());
        }
        const uint32_t pairs = made.problem.in_place_count;
        made.problem.in_place_count = 0;
        with_pairs += expected && !is_valid(&made);
        made.problem.in_place_count = pairs;
    }
    assert_in_range(valid, rounds / 20, rounds - rounds / 20);
    assert_true(with_pairs > rounds / 200);
}

static void blocks_and_capacity_are_held(void** state) {
    (void)state;
    const weir_plan_buffer buffers[2] = {{.byte_size = 60}, {.byte_size = 60}};
    weir_plan_problem problem = {.buffers = buffers, .buffer_count = 2, .block_bytes_max = 64};
    weir_plan_entry entries[2] = {
        {.byte_size = 60, .placed_on = WEIR_PLAN_NONE},
        {.byte_size = 60, .block = 1, .placed_on = WEIR_PLAN_NONE},
    };
    assert_ok(weir_plan_verify(NULL, &problem, entries));
    problem.capacity = 120;
    assert_ok(weir_plan_verify(NULL, &problem, entries));
    problem.capacity = 119;
    assert_status(weir_plan_verify(NULL, &problem, entries), WEIR_INFEASIBLE);
    assert_message_has("needs 120 bytes");
    problem.capacity = 0;
    entries[1].byte_offset = 5;
    assert_status(weir_plan_verify(NULL, &problem, entries), WEIR_INFEASIBLE);
    assert_message_has("block 1 of pool 0 needs 65 bytes");
    entries[1].byte_offset = 0;
    problem.block_bytes_max = 0;
    assert_status(weir_plan_verify(NULL, &problem, entries), WEIR_INFEASIBLE);
    assert_message_has("block 1, expected one block");
}

typedef struct large_case {
    weir_plan_buffer* buffers;
    weir_plan_interval* intervals;
    weir_plan_entry* entries;
    weir_plan_problem problem;
} large_case;

static void make_large(large_case* made, uint32_t count) {
    made->buffers = calloc(count, sizeof *made->buffers);
    made->intervals = calloc(count, sizeof *made->intervals);
    made->entries = calloc(count, sizeof *made->entries);
    assert_true(made->buffers && made->intervals && made->entries);
    made->problem = (weir_plan_problem){.buffers = made->buffers,
                                        .buffer_count = count,
                                        .intervals = made->intervals,
                                        .interval_count = count};
}

static void set_buffer(large_case* made, uint32_t i, weir_plan_interval live, uint64_t offset,
                       uint64_t byte_size) {
    made->buffers[i] =
        (weir_plan_buffer){.byte_size = byte_size, .interval_begin = i, .interval_count = 1};
    made->intervals[i] = live;
    made->entries[i] = (weir_plan_entry){
        .byte_offset = offset, .byte_size = byte_size, .placed_on = WEIR_PLAN_NONE};
}

static void free_large(large_case* made) {
    free(made->buffers);
    free(made->intervals);
    free(made->entries);
}

// Processor time, which other programs do not change much; the limit is that of a slow machine with
// sanitizers.
static void verify_quickly(const large_case* made, weir_status expected) {
    const clock_t begin = clock();
    assert_status(weir_plan_verify(NULL, &made->problem, made->entries), expected);
    const double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    if (seconds > 60.0) {
        fail_msg("%u buffers took %.1f s", made->problem.buffer_count, seconds);
    }
}

// 1000 columns of bytes with 300 lives each, one after the other: a look at all pairs that share a
// byte would meet 45 million of them; were all lives in one column, 45 billion.
static void what_shares_bytes_at_different_times_costs_little(void** state) {
    (void)state;
    const uint32_t count = 300000;
    for (uint32_t columns = 1000; columns >= 1; columns /= 1000) {
        large_case made;
        make_large(&made, count);
        for (uint32_t i = 0; i < count; ++i) {
            const int64_t begin = i / columns;
            set_buffer(&made, i, (weir_plan_interval){begin, begin + 1}, 64 * (i % columns), 64);
        }
        verify_quickly(&made, WEIR_OK);
        ++made.intervals[count - 1 - columns].end;
        verify_quickly(&made, WEIR_INFEASIBLE);
        free_large(&made);
    }
}

// All live at once, on the same bytes, and one memory.
static void many_aliases_of_one_root_cost_little(void** state) {
    (void)state;
    const uint32_t count = 200000;
    large_case made;
    make_large(&made, count);
    for (uint32_t i = 0; i < count; ++i) {
        set_buffer(&made, i, (weir_plan_interval){i % 100, 1000 + i % 7}, 0, 4096);
        made.buffers[i].flags = i > 0 && i < count - 1 ? WEIR_PLAN_ALIAS : 0;
    }
    made.entries[count - 1].byte_offset = 4096;
    verify_quickly(&made, WEIR_OK);
    made.entries[count - 1].byte_offset = 4095;
    verify_quickly(&made, WEIR_INFEASIBLE);
    free_large(&made);
}

static void each_failed_allocation_is_reported_and_leaks_nothing(void** state) {
    (void)state;
    const weir_plan_buffer buffers[2] = {{.byte_size = 60}, {.byte_size = 60}};
    const weir_plan_in_place pair = {.buffer = 1, .on = 0};
    const weir_plan_problem problem = {
        .buffers = buffers, .buffer_count = 2, .in_place = &pair, .in_place_count = 1};
    const weir_plan_entry entries[2] = {
        {.byte_size = 60, .placed_on = WEIR_PLAN_NONE},
        {.byte_size = 60, .placed_on = 0},
    };
    weir_status status = WEIR_OUT_OF_MEMORY;
    size_t calls = 0;
    for (; status == WEIR_OUT_OF_MEMORY; ++calls) {
        test_allocator counter = {.fail_at = calls};
        const weir_allocator allocator = test_allocator_of(&counter);
        status = weir_plan_verify(&allocator, &problem, entries);
        assert_int_equal(counter.live_blocks, 0);
    }
    assert_ok(status);
    assert_true(calls > 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_verifier_agrees_with_a_look_at_every_pair),
        cmocka_unit_test(blocks_and_capacity_are_held),
        cmocka_unit_test(what_shares_bytes_at_different_times_costs_little),
        cmocka_unit_test(many_aliases_of_one_root_cost_little),
        cmocka_unit_test(each_failed_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
