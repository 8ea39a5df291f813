#include "testing.h"

#include <weir/plan.h>

#include "testing_allocator.h"

#define SMALL 6

typedef struct small_problem {
    weir_plan_buffer buffers[SMALL];
    weir_plan_interval intervals[SMALL];
    uint64_t precedes[SMALL];
    weir_plan_problem problem;
} small_problem;

static void random_problem(test_random* random, uint32_t count, small_problem* made) {
    memset(made, 0, sizeof *made);
    made->problem = (weir_plan_problem){.buffers = made->buffers,
                                        .buffer_count = count,
                                        .intervals = made->intervals,
                                        .interval_count = count,
                                        .block_bytes_max = 8 + random_below(random, 8)};
    for (uint32_t i = 0; i < count; ++i) {
        made->buffers[i].byte_size = random_below(random, 9);
        made->buffers[i].alignment = random_below(random, 3);
        made->buffers[i].interval_begin = i;
        made->buffers[i].interval_count = 1;
        made->intervals[i].begin = (int64_t)random_below(random, 8);
        made->intervals[i].end = made->intervals[i].begin + 1 + (int64_t)random_below(random, 4);
    }
    if (random_below(random, 2)) {
        for (uint32_t i = count; i-- > 0;) {
            for (uint32_t j = i + 1; j < count; ++j) {
                if (random_below(random, 3) == 0) {
                    made->precedes[i] |= 1ull << j | made->precedes[j];
                }
            }
        }
        made->problem.precedes = made->precedes;
    }
}

static bool conflict(const small_problem* made, uint32_t a, uint32_t b) {
    if (made->buffers[a].byte_size == 0 || made->buffers[b].byte_size == 0) {
        return false;
    }
    if (made->problem.precedes) {
        return !(made->precedes[a] >> b & 1) && !(made->precedes[b] >> a & 1);
    }
    return made->intervals[a].begin < made->intervals[b].end &&
           made->intervals[b].begin < made->intervals[a].end;
}

// The least height of one block that holds `members`: every order, lowest offsets.
static uint64_t least_height(const small_problem* made, uint32_t members, uint32_t placed,
                             uint64_t* offsets, uint64_t height) {
    uint64_t best = UINT64_MAX;
    for (uint32_t i = 0; i < made->problem.buffer_count; ++i) {
        if (!(members >> i & 1) || (placed >> i & 1)) {
            continue;
        }
        const uint64_t step = made->buffers[i].alignment > 0 ? made->buffers[i].alignment : 1;
        const uint64_t size = made->buffers[i].byte_size;
        uint64_t offset = 0;
        for (bool moved = true; moved;) {
            moved = false;
            for (uint32_t j = 0; j < made->problem.buffer_count; ++j) {
                const uint64_t end = offsets[j] + made->buffers[j].byte_size;
                if ((placed >> j & 1) && conflict(made, i, j) && offset < end &&
                    offsets[j] < offset + size) {
                    offset = (end + step - 1) / step * step;
                    moved = true;
                }
            }
        }
        offsets[i] = offset;
        const uint64_t end = size > 0 ? offset + size : 0;
        const uint64_t got =
            least_height(made, members, placed | 1u << i, offsets, end > height ? end : height);
        best = got < best ? got : best;
    }
    return best == UINT64_MAX ? height : best;
}

// The least bytes and the least blocks over all ways to deal the buffers out.
static void deal_out(const small_problem* made, uint32_t next, uint32_t* groups, uint32_t count,
                     uint64_t* bytes, uint32_t* blocks) {
    if (next == made->problem.buffer_count) {
        uint64_t sum = 0;
        for (uint32_t g = 0; g < count; ++g) {
            uint64_t offsets[SMALL] = {0};
            const uint64_t height = least_height(made, groups[g], 0, offsets, 0);
            if (height > made->problem.block_bytes_max) {
                return;
            }
            sum += height;
        }
        *bytes = sum < *bytes ? sum : *bytes;
        *blocks = count < *blocks ? count : *blocks;
        return;
    }
    if (made->buffers[next].byte_size == 0) {
        deal_out(made, next + 1, groups, count, bytes, blocks);
        return;
    }
    for (uint32_t g = 0; g <= count; ++g) {
        const uint32_t before = groups[g];
        groups[g] = g < count ? before | 1u << next : 1u << next;
        deal_out(made, next + 1, groups, g < count ? count : count + 1, bytes, blocks);
        groups[g] = before;
    }
}

static void blocks_are_valid_and_nearly_always_the_fewest_bytes(void** state) {
    (void)state;
    test_random random = {21};
    int best = 0;
    int several = 0;
    const int rounds = 400;
    for (int round = 0; round < rounds; ++round) {
        small_problem made;
        random_problem(&random, 1 + (uint32_t)random_below(&random, 5), &made);
        weir_plan* plan = NULL;
        assert_ok(weir_plan_create(NULL, &made.problem, &plan));
        const weir_plan_entry* entries = weir_plan_entries(plan, NULL);
        assert_ok(weir_plan_verify(NULL, &made.problem, entries));
        const weir_plan_result* result = weir_plan_result_of(plan);
        uint32_t groups[SMALL + 1] = {0};
        uint64_t bytes = UINT64_MAX;
        uint32_t blocks = UINT32_MAX;
        deal_out(&made, 0, groups, 0, &bytes, &blocks);
        assert_true(result->lower_bound <= bytes);
        assert_true(result->peak >= bytes);
        assert_true(result->block_bound <= blocks);
        assert_true(result->blocks >= blocks);
        for (uint32_t i = 0; i < made.problem.buffer_count; ++i) {
            assert_true(entries[i].block == 0 || entries[i].block < result->blocks);
        }
        best += result->peak == bytes;
        several += result->blocks > 1;
        weir_plan_destroy(plan);
    }
    assert_true(best >= rounds * 97 / 100);
    assert_true(several > rounds / 8);
}

static void what_fits_one_block_is_not_split(void** state) {
    (void)state;
    const weir_plan_buffer buffers[3] = {{.byte_size = 4}, {.byte_size = 5}, {.byte_size = 7}};
    const weir_plan_problem problem = {
        .buffers = buffers, .buffer_count = 3, .block_bytes_max = 16};
    weir_plan* plan = NULL;
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    assert_int_equal(weir_plan_result_of(plan)->blocks, 1);
    assert_int_equal(weir_plan_result_of(plan)->block_bound, 1);
    assert_int_equal(weir_plan_result_of(plan)->peak, 16);
    weir_plan_destroy(plan);
}

// Six of just over half a block each need six blocks, though their bytes would fit into four.
static void large_buffers_need_a_block_each_and_the_bound_knows(void** state) {
    (void)state;
    weir_plan_buffer buffers[6];
    for (int i = 0; i < 6; ++i) {
        buffers[i] = (weir_plan_buffer){.byte_size = 51};
    }
    const weir_plan_problem problem = {
        .buffers = buffers, .buffer_count = 6, .block_bytes_max = 100};
    weir_plan* plan = NULL;
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    assert_ok(weir_plan_verify(NULL, &problem, weir_plan_entries(plan, NULL)));
    const weir_plan_result* result = weir_plan_result_of(plan);
    assert_int_equal(result->blocks, 6);
    assert_int_equal(result->block_bound, 6);
    assert_int_equal(result->peak, 6 * 51);
    assert_true(result->optimal);
    weir_plan_destroy(plan);
}

static void a_buffer_larger_than_a_block_is_infeasible(void** state) {
    (void)state;
    const weir_plan_buffer buffers[2] = {{.byte_size = 4}, {.byte_size = 17}};
    const weir_plan_problem problem = {
        .buffers = buffers, .buffer_count = 2, .block_bytes_max = 16};
    weir_plan* plan = NULL;
    assert_status(weir_plan_create(NULL, &problem, &plan), WEIR_INFEASIBLE);
    assert_message_has("buffer 1 has 17 bytes");
    assert_null(plan);
}

static void aliases_and_fixed_buffers_keep_their_places_in_blocks(void** state) {
    (void)state;
    const weir_plan_buffer buffers[5] = {
        {.byte_size = 60},
        {.byte_size = 60},
        {.byte_size = 10, .flags = WEIR_PLAN_ALIAS, .alias_of = 1, .alias_offset = 20},
        {.byte_size = 30, .flags = WEIR_PLAN_FIXED, .fixed_offset = 64},
        {.byte_size = 30, .flags = WEIR_PLAN_FIXED, .fixed_offset = 70},
    };
    const weir_plan_problem problem = {
        .buffers = buffers, .buffer_count = 5, .block_bytes_max = 100};
    weir_plan* plan = NULL;
    // Two that are fixed at the same bytes can only be in different blocks.
    const weir_status status = weir_plan_create(NULL, &problem, &plan);
    assert_ok(status);
    const weir_plan_entry* entries = weir_plan_entries(plan, NULL);
    assert_ok(weir_plan_verify(NULL, &problem, entries));
    assert_int_not_equal(entries[3].block, entries[4].block);
    assert_int_equal(entries[1].block, entries[2].block);
    assert_int_equal(entries[2].byte_offset, entries[1].byte_offset + 20);
    weir_plan_destroy(plan);
}

static void the_verifier_refuses_a_block_that_is_too_high(void** state) {
    (void)state;
    const weir_plan_buffer buffers[2] = {{.byte_size = 8}, {.byte_size = 8}};
    weir_plan_problem problem = {.buffers = buffers, .buffer_count = 2, .block_bytes_max = 8};
    weir_plan* plan = NULL;
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    const weir_plan_entry* entries = weir_plan_entries(plan, NULL);
    assert_ok(weir_plan_verify(NULL, &problem, entries));
    problem.block_bytes_max = 7;
    assert_status(weir_plan_verify(NULL, &problem, entries), WEIR_INFEASIBLE);
    problem.block_bytes_max = 0;
    assert_status(weir_plan_verify(NULL, &problem, entries), WEIR_INFEASIBLE);
    weir_plan_destroy(plan);
}

static void the_same_problem_gives_the_same_blocks(void** state) {
    (void)state;
    test_random random = {33};
    weir_plan_buffer buffers[120];
    weir_plan_interval lives[120];
    for (uint32_t i = 0; i < 120; ++i) {
        const int64_t begin = (int64_t)random_below(&random, 60);
        lives[i] = (weir_plan_interval){begin, begin + 1 + (int64_t)random_below(&random, 20)};
        buffers[i] = (weir_plan_buffer){
            .byte_size = 1 + random_below(&random, 500), .interval_begin = i, .interval_count = 1};
    }
    const weir_plan_problem problem = {.buffers = buffers,
                                       .buffer_count = 120,
                                       .intervals = lives,
                                       .interval_count = 120,
                                       .block_bytes_max = 1500};
    weir_plan* plans[2] = {NULL, NULL};
    assert_ok(weir_plan_create(NULL, &problem, &plans[0]));
    assert_ok(weir_plan_create(NULL, &problem, &plans[1]));
    const weir_plan_entry* entries = weir_plan_entries(plans[0], NULL);
    assert_ok(weir_plan_verify(NULL, &problem, entries));
    assert_memory_equal(entries, weir_plan_entries(plans[1], NULL), 120 * sizeof *entries);
    const weir_plan_result* result = weir_plan_result_of(plans[0]);
    assert_true(result->blocks >= result->block_bound && result->blocks > 1);
    weir_plan_destroy(plans[0]);
    weir_plan_destroy(plans[1]);
}

static void a_failing_allocation_leaves_nothing_behind(void** state) {
    (void)state;
    test_random random = {8};
    small_problem made;
    do {
        random_problem(&random, 5, &made);
    } while (made.problem.precedes == NULL);
    test_allocator counter = {.fail_at = SIZE_MAX};
    const weir_allocator allocator = test_allocator_of(&counter);
    weir_plan* plan = NULL;
    assert_ok(weir_plan_create(&allocator, &made.problem, &plan));
    weir_plan_destroy(plan);
    const size_t calls = counter.calls;
    for (size_t call = 0; call < calls; ++call) {
        test_allocator failing = {.fail_at = call};
        const weir_allocator fails = test_allocator_of(&failing);
        plan = NULL;
        assert_status(weir_plan_create(&fails, &made.problem, &plan), WEIR_OUT_OF_MEMORY);
        assert_null(plan);
        assert_int_equal(failing.live_blocks, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_valid_and_nearly_always_the_fewest_bytes),
        cmocka_unit_test(what_fits_one_block_is_not_split),
        cmocka_unit_test(large_buffers_need_a_block_each_and_the_bound_knows),
        cmocka_unit_test(a_buffer_larger_than_a_block_is_infeasible),
        cmocka_unit_test(aliases_and_fixed_buffers_keep_their_places_in_blocks),
        cmocka_unit_test(the_verifier_refuses_a_block_that_is_too_high),
        cmocka_unit_test(the_same_problem_gives_the_same_blocks),
        cmocka_unit_test(a_failing_allocation_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
