#include "testing.h"

#include <weir/tracker.h>

#include "testing_allocator.h"

#define MEMORIES 3
#define SPACE 48   // bytes of one model memory
#define PROGRAM 24 // dispatches of a random program
#define ACCESSES 5 // at most, of one dispatch
#define KINDS 5    // hazard kinds, from 1
#define NOBODY UINT32_MAX

// Per byte: the last writer and the readers since (a bit for each dispatch).
typedef struct byte_state {
    uint32_t writer;
    uint32_t readers;
} byte_state;

typedef struct model {
    byte_state bytes[MEMORIES][SPACE];
    uint32_t open_begin;
    bool fenced;
} model;

typedef bool expectation[PROGRAM][KINDS];

typedef struct program_dispatch {
    weir_access accesses[ACCESSES];
    uint32_t count;
    bool declared;
} program_dispatch;

typedef struct program {
    program_dispatch dispatches[PROGRAM];
} program;

static void model_restart(model* bytes, uint32_t open_begin, bool fenced) {
    for (int m = 0; m < MEMORIES; ++m) {
        for (int b = 0; b < SPACE; ++b) {
            bytes->bytes[m][b] = (byte_state){.writer = NOBODY};
        }
    }
    bytes->open_begin = open_begin;
    bytes->fenced = fenced;
}

// Whether the access touches byte `offset`; enumerates the runs.
static bool touches(const weir_range* range, uint32_t level, uint64_t base, uint64_t offset) {
    if (level >= range->level_count || level >= WEIR_RANGE_LEVELS) {
        return offset >= base && offset - base < range->byte_length;
    }
    for (uint64_t i = 0; i < range->levels[level].count; ++i) {
        if (touches(range, level + 1, base + i * range->levels[level].stride, offset)) {
            return true;
        }
    }
    return false;
}

static void expect_of_byte(const byte_state* state, unsigned kind, expectation expected) {
    if (state->writer != NOBODY) {
        expected[state->writer][WEIR_HAZARD_RAW] |= (kind & WEIR_ACCESS_READ) != 0;
        expected[state->writer][WEIR_HAZARD_WAW] |= (kind & WEIR_ACCESS_WRITE) != 0;
    }
    for (uint32_t d = 0; d < PROGRAM; ++d) {
        if (state->readers >> d & 1) {
            expected[d][WEIR_HAZARD_WAR] |= (kind & WEIR_ACCESS_WRITE) != 0;
        }
    }
}

// Fills the conflicts of a dispatch; true when there is any.
static bool model_check(const model* bytes, const program_dispatch* dispatch, uint32_t number,
                        expectation expected) {
    memset(expected, 0, sizeof(expectation));
    for (uint32_t i = 0; i < dispatch->count && dispatch->declared; ++i) {
        const weir_access* access = &dispatch->accesses[i];
        for (uint64_t b = 0; b < SPACE; ++b) {
            if (touches(&access->range, 0, access->range.byte_offset, b)) {
                expect_of_byte(&bytes->bytes[access->range.memory_id - 1][b], access->kind,
                               expected);
            }
        }
    }
    const uint32_t fence_end = dispatch->declared ? bytes->open_begin + bytes->fenced : number;
    for (uint32_t d = bytes->open_begin; d < fence_end; ++d) {
        expected[d][WEIR_HAZARD_FENCE] = true;
    }
    for (uint32_t d = 0; d < PROGRAM; ++d) {
        for (int kind = 1; kind < KINDS; ++kind) {
            if (expected[d][kind]) {
                return true;
            }
        }
    }
    return false;
}

static void model_record(model* bytes, const program_dispatch* dispatch, uint32_t number) {
    for (unsigned pass = WEIR_ACCESS_READ; pass <= WEIR_ACCESS_WRITE; ++pass) {
        for (uint32_t i = 0; i < dispatch->count && dispatch->declared; ++i) {
            const weir_access* access = &dispatch->accesses[i];
            for (uint64_t b = 0; b < SPACE && (access->kind & pass); ++b) {
                if (!touches(&access->range, 0, access->range.byte_offset, b)) {
                    continue;
                }
                byte_state* state = &bytes->bytes[access->range.memory_id - 1][b];
                if (pass == WEIR_ACCESS_READ) {
                    state->readers |= 1u << number;
                } else {
                    *state = (byte_state){.writer = number};
                }
            }
        }
    }
}

static weir_range random_range(test_random* random, bool strided) {
    weir_range range = weir_range_make(1 + random_below(random, MEMORIES), 0, 0);
    if (strided && random_below(random, 2) == 0) {
        weir_range_level levels[2];
        for (int i = 0; i < 2; ++i) {
            levels[i].count = 1 + random_below(random, 3);
            levels[i].stride = random_below(random, i == 0 ? 12 : 7);
        }
        const uint64_t begin = random_below(random, 8);
        assert_ok(weir_range_pattern(range.memory_id, begin, 1 + random_below(random, 3), levels, 2,
                                     &range, NULL));
        return range;
    }
    const uint64_t length = random_below(random, random_below(random, 4) == 0 ? SPACE : 9);
    const uint64_t offset = random_below(random, SPACE - length + 1);
    return weir_range_make(range.memory_id, offset, length);
}

static void random_program(test_random* random, bool strided, program* made) {
    for (uint32_t d = 0; d < PROGRAM; ++d) {
        program_dispatch* dispatch = &made->dispatches[d];
        dispatch->declared = random_below(random, 15) != 0;
        dispatch->count = (uint32_t)random_below(random, ACCESSES + 1);
        for (uint32_t i = 0; i < dispatch->count; ++i) {
            dispatch->accesses[i].kind = random_below(random, 10) == 0
                                             ? WEIR_ACCESS_CONSTANT
                                             : (weir_access_kind)(1 + random_below(random, 3));
            // Now and then the same range twice, perhaps with another kind.
            dispatch->accesses[i].range = i > 0 && random_below(random, 5) == 0
                                              ? dispatch->accesses[i - 1].range
                                              : random_range(random, strided);
        }
    }
}

static weir_status record(weir_tracker* tracker, const program_dispatch* dispatch,
                          weir_verdict* verdict) {
    const weir_tracker_dispatch given = {dispatch->accesses, dispatch->count, dispatch->declared};
    return weir_tracker_record(tracker, &given, verdict);
}

static bool same_range(const weir_range* a, const weir_range* b) {
    return a->memory_id == b->memory_id && a->byte_offset == b->byte_offset &&
           a->byte_length == b->byte_length && a->level_count == b->level_count &&
           memcmp(a->levels, b->levels, a->level_count * sizeof a->levels[0]) == 0;
}

static bool declares(const program_dispatch* dispatch, const weir_range* range, unsigned kind) {
    for (uint32_t i = 0; i < dispatch->count; ++i) {
        if ((dispatch->accesses[i].kind & kind) &&
            same_range(&dispatch->accesses[i].range, range)) {
            return true;
        }
    }
    return false;
}

// A reported hazard is one between declared, meeting ranges of the right kinds.
static void check_hazard(const program* made, const weir_hazard* hazard) {
    if (hazard->kind == WEIR_HAZARD_FENCE) {
        assert_int_equal(hazard->earlier_range.byte_length + hazard->later_range.byte_length, 0);
        return;
    }
    const unsigned earlier = hazard->kind == WEIR_HAZARD_WAR ? WEIR_ACCESS_READ : WEIR_ACCESS_WRITE;
    const unsigned later = hazard->kind == WEIR_HAZARD_RAW ? WEIR_ACCESS_READ : WEIR_ACCESS_WRITE;
    assert_true(declares(&made->dispatches[hazard->earlier], &hazard->earlier_range, earlier));
    assert_true(declares(&made->dispatches[hazard->later], &hazard->later_range, later));
    assert_true(weir_range_overlaps(&hazard->earlier_range, &hazard->later_range));
}

static void check_verdict(const program* made, const weir_verdict* verdict, uint32_t number,
                          expectation expected) {
    expectation found;
    memset(found, 0, sizeof found);
    assert_int_equal(verdict->dispatch, number);
    for (uint32_t i = 0; i < verdict->hazard_count; ++i) {
        const weir_hazard* hazard = &verdict->hazards[i];
        assert_int_equal(hazard->later, number);
        assert_true(hazard->earlier < number);
        check_hazard(made, hazard);
        found[hazard->earlier][hazard->kind] = true;
        for (uint32_t j = 0; j < i; ++j) {
            const weir_hazard* before = &verdict->hazards[j];
            assert_true(before->earlier < hazard->earlier ||
                        (before->earlier == hazard->earlier && before->kind <= hazard->kind));
            assert_false(before->earlier == hazard->earlier && before->kind == hazard->kind &&
                         same_range(&before->earlier_range, &hazard->earlier_range) &&
                         same_range(&before->later_range, &hazard->later_range));
        }
    }
    for (uint32_t d = 0; d < PROGRAM; ++d) {
        for (int kind = 1; kind < KINDS; ++kind) {
            assert_int_equal(found[d][kind], expected[d][kind]);
        }
    }
}

static void compare_with_model(weir_tracker_mode mode, bool strided, uint64_t seed, int rounds) {
    test_random random = {seed};
    weir_tracker* tracker = NULL;
    assert_ok(weir_tracker_create(NULL, mode, &tracker));
    for (int round = 0; round < rounds; ++round) {
        program made;
        model bytes;
        random_program(&random, strided, &made);
        model_restart(&bytes, 0, false);
        weir_tracker_reset(tracker);
        for (uint32_t d = 0; d < PROGRAM; ++d) {
            expectation expected;
            weir_verdict verdict;
            const program_dispatch* dispatch = &made.dispatches[d];
            const bool any = model_check(&bytes, dispatch, d, expected);
            assert_ok(record(tracker, dispatch, &verdict));
            check_verdict(&made, &verdict, d, expected);
            assert_int_equal(verdict.barrier, any && mode == WEIR_TRACKER_GROUP);
            if (verdict.barrier || !dispatch->declared) {
                model_restart(&bytes, d, !dispatch->declared);
            }
            model_record(&bytes, dispatch, d);
        }
    }
    weir_tracker_destroy(tracker);
}

static void contiguous_dags_agree_with_the_bytes(void** state) {
    (void)state;
    compare_with_model(WEIR_TRACKER_DAG, false, 3, 2000);
}

static void contiguous_groups_agree_with_the_bytes(void** state) {
    (void)state;
    compare_with_model(WEIR_TRACKER_GROUP, false, 5, 2000);
}

static void strided_programs_agree_with_the_bytes(void** state) {
    (void)state;
    compare_with_model(WEIR_TRACKER_DAG, true, 7, 1500);
    compare_with_model(WEIR_TRACKER_GROUP, true, 9, 1500);
}

static weir_verdict record_one(weir_tracker* tracker, weir_range range, weir_access_kind kind) {
    const weir_access access = {range, kind};
    const weir_tracker_dispatch dispatch = {&access, 1, true};
    weir_verdict verdict;
    assert_ok(weir_tracker_record(tracker, &dispatch, &verdict));
    return verdict;
}

static void a_hazard_names_both_declared_ranges(void** state) {
    (void)state;
    weir_tracker* tracker = NULL;
    assert_ok(weir_tracker_create(NULL, WEIR_TRACKER_DAG, &tracker));
    record_one(tracker, weir_range_make(1, 0, 100), WEIR_ACCESS_WRITE);
    record_one(tracker, weir_range_make(1, 40, 10), WEIR_ACCESS_WRITE);
    const weir_verdict verdict =
        record_one(tracker, weir_range_make(1, 30, 40), WEIR_ACCESS_READ_WRITE);
    assert_int_equal(verdict.hazard_count, 4);
    assert_int_equal(verdict.hazards[0].kind, WEIR_HAZARD_RAW);
    assert_int_equal(verdict.hazards[1].kind, WEIR_HAZARD_WAW);
    assert_int_equal(verdict.hazards[1].earlier_range.byte_length, 100);
    assert_int_equal(verdict.hazards[2].earlier, 1);
    assert_int_equal(verdict.hazards[3].later_range.byte_offset, 30);
    weir_tracker_destroy(tracker);
}

static void covered_accesses_are_not_reported(void** state) {
    (void)state;
    weir_tracker* tracker = NULL;
    assert_ok(weir_tracker_create(NULL, WEIR_TRACKER_DAG, &tracker));
    weir_range rows = weir_range_make(1, 0, 4);
    rows.level_count = 1;
    rows.levels[0] = (weir_range_level){8, 16};
    record_one(tracker, rows, WEIR_ACCESS_WRITE);
    record_one(tracker, rows, WEIR_ACCESS_READ);
    record_one(tracker, rows, WEIR_ACCESS_WRITE);
    weir_verdict verdict = record_one(tracker, rows, WEIR_ACCESS_READ);
    assert_int_equal(verdict.hazard_count, 1);
    assert_int_equal(verdict.hazards[0].earlier, 2);
    record_one(tracker, weir_range_make(1, 0, 116), WEIR_ACCESS_WRITE);
    verdict = record_one(tracker, weir_range_make(1, 0, 116), WEIR_ACCESS_READ_WRITE);
    assert_int_equal(verdict.hazard_count, 2);
    assert_int_equal(verdict.hazards[0].earlier, 4);
    assert_int_equal(verdict.hazards[1].earlier, 4);
    weir_tracker_destroy(tracker);
}

// Of a run of bytes a write takes every second one: more runs than are cut one by one.
static void a_cut_of_too_many_runs_keeps_the_access_and_is_counted(void** state) {
    (void)state;
    weir_tracker* tracker = NULL;
    assert_ok(weir_tracker_create(NULL, WEIR_TRACKER_DAG, &tracker));
    weir_range half = weir_range_make(1, 0, 1);
    half.level_count = 1;
    half.levels[0] = (weir_range_level){4097, 2};
    record_one(tracker, weir_range_make(1, 0, 8194), WEIR_ACCESS_WRITE);
    assert_int_equal(record_one(tracker, half, WEIR_ACCESS_WRITE).hazard_count, 1);
    assert_int_equal(weir_tracker_widened(tracker), 1);
    // The first write still counts for the byte that the second took, which is safe.
    weir_verdict verdict = record_one(tracker, weir_range_make(1, 0, 1), WEIR_ACCESS_READ);
    assert_int_equal(verdict.hazard_count, 2);
    weir_tracker_reset(tracker);
    half.levels[0].count = 4096;
    record_one(tracker, weir_range_make(1, 0, 8194), WEIR_ACCESS_WRITE);
    record_one(tracker, half, WEIR_ACCESS_WRITE);
    assert_int_equal(weir_tracker_widened(tracker), 1);
    verdict = record_one(tracker, weir_range_make(1, 8190, 1), WEIR_ACCESS_READ);
    assert_int_equal(verdict.hazard_count, 1);
    assert_int_equal(verdict.hazards[0].earlier, 1);
    weir_tracker_destroy(tracker);
}

static void touching_nothing_follows_only_fences(void** state) {
    (void)state;
    weir_tracker* tracker = NULL;
    assert_ok(weir_tracker_create(NULL, WEIR_TRACKER_DAG, &tracker));
    const weir_tracker_dispatch nothing = {.declared = true};
    const weir_tracker_dispatch fence = {.declared = false};
    weir_verdict verdict;
    record_one(tracker, weir_range_make(1, 0, 8), WEIR_ACCESS_WRITE);
    assert_ok(weir_tracker_record(tracker, &nothing, &verdict));
    assert_int_equal(verdict.hazard_count, 0);
    assert_ok(weir_tracker_record(tracker, &fence, &verdict));
    assert_int_equal(verdict.hazard_count, 2);
    assert_ok(weir_tracker_record(tracker, &nothing, &verdict));
    assert_int_equal(verdict.hazard_count, 1);
    assert_int_equal(verdict.hazards[0].kind, WEIR_HAZARD_FENCE);
    assert_int_equal(verdict.hazards[0].earlier, 2);
    weir_tracker_destroy(tracker);
}

static void a_barrier_leaves_the_new_dispatch_open(void** state) {
    (void)state;
    weir_tracker* tracker = NULL;
    assert_ok(weir_tracker_create(NULL, WEIR_TRACKER_GROUP, &tracker));
    assert_false(record_one(tracker, weir_range_make(1, 0, 8), WEIR_ACCESS_WRITE).barrier);
    assert_false(record_one(tracker, weir_range_make(1, 8, 8), WEIR_ACCESS_WRITE).barrier);
    assert_true(record_one(tracker, weir_range_make(1, 0, 8), WEIR_ACCESS_READ).barrier);
    // Dispatch 1 is behind the barrier, dispatch 2 is not.
    assert_false(record_one(tracker, weir_range_make(1, 8, 8), WEIR_ACCESS_WRITE).barrier);
    const weir_verdict verdict = record_one(tracker, weir_range_make(1, 7, 1), WEIR_ACCESS_WRITE);
    assert_true(verdict.barrier);
    assert_int_equal(verdict.dispatch, 4);
    assert_int_equal(verdict.hazards[0].earlier, 2);
    weir_tracker_destroy(tracker);
}

static void reset_forgets_and_counts_from_0(void** state) {
    (void)state;
    weir_tracker* tracker = NULL;
    assert_ok(weir_tracker_create(NULL, WEIR_TRACKER_DAG, &tracker));
    for (uint64_t id = 1; id < 200; ++id) {
        record_one(tracker, weir_range_make(id, 0, 8), WEIR_ACCESS_WRITE);
    }
    weir_tracker_reset(tracker);
    const weir_verdict verdict =
        record_one(tracker, weir_range_make(77, 0, 8), WEIR_ACCESS_READ_WRITE);
    assert_int_equal(verdict.hazard_count, 0);
    assert_int_equal(verdict.dispatch, 0);
    weir_tracker_destroy(tracker);
}

// Numbers go on, fences included, and what comes behind the barrier is tracked as ever.
static void barriers_of_the_caller_order_what_was_recorded(void** state) {
    (void)state;
    for (int mode = 0; mode < 2; ++mode) {
        weir_tracker* tracker = NULL;
        const weir_range bytes = weir_range_make(1, 0, 8);
        assert_ok(weir_tracker_create(NULL, (weir_tracker_mode)mode, &tracker));
        weir_tracker_barrier(tracker); // nothing was recorded
        record_one(tracker, bytes, WEIR_ACCESS_WRITE);
        weir_tracker_barrier(tracker);
        weir_verdict verdict = record_one(tracker, bytes, WEIR_ACCESS_READ_WRITE);
        assert_int_equal(verdict.dispatch, 1);
        assert_int_equal(verdict.hazard_count, 0);
        assert_false(verdict.barrier);
        verdict = record_one(tracker, bytes, WEIR_ACCESS_READ);
        assert_int_equal(verdict.hazard_count, 1);
        assert_int_equal(verdict.hazards[0].earlier, 1);
        assert_ok(weir_tracker_record(tracker, &(weir_tracker_dispatch){0}, &verdict)); // a fence
        weir_tracker_barrier(tracker);
        verdict = record_one(tracker, bytes, WEIR_ACCESS_WRITE);
        assert_int_equal(verdict.dispatch, 4);
        assert_int_equal(verdict.hazard_count, 0);
        assert_ok(weir_tracker_record(tracker, &(weir_tracker_dispatch){0}, &verdict));
        assert_int_equal(verdict.hazard_count, 1); // with what came behind the barrier alone
        assert_int_equal(verdict.hazards[0].earlier, 4);
        weir_tracker_destroy(tracker);
    }
}

static void constants_are_neither_checked_nor_recorded(void** state) {
    (void)state;
    for (int mode = 0; mode < 2; ++mode) {
        weir_tracker* tracker = NULL;
        const weir_range bytes = weir_range_make(1, 0, 8);
        assert_ok(weir_tracker_create(NULL, (weir_tracker_mode)mode, &tracker));
        record_one(tracker, bytes, WEIR_ACCESS_CONSTANT);
        assert_int_equal(record_one(tracker, bytes, WEIR_ACCESS_WRITE).hazard_count, 0);
        assert_int_equal(record_one(tracker, bytes, WEIR_ACCESS_CONSTANT).hazard_count, 0);
        // The fourth meets the second, and not those between.
        const weir_verdict verdict = record_one(tracker, bytes, WEIR_ACCESS_WRITE);
        assert_int_equal(verdict.dispatch, 3);
        assert_int_equal(verdict.hazard_count, 1);
        assert_int_equal(verdict.hazards[0].earlier, 1);
        assert_int_equal(verdict.hazards[0].kind, WEIR_HAZARD_WAW);
        weir_tracker_destroy(tracker);
    }
}

// Groups of few simple dispatches are kept in lists; anything else moves them into trees and must
// find the same, in the middle of a group too.
static void a_small_group_grows_out_of_its_lists(void** state) {
    (void)state;
    weir_tracker* tracker = NULL;
    assert_ok(weir_tracker_create(NULL, WEIR_TRACKER_GROUP, &tracker));
    for (uint64_t i = 0; i < 40; ++i) {
        assert_false(record_one(tracker, weir_range_make(1, i * 8, 8), WEIR_ACCESS_WRITE).barrier);
        assert_false(record_one(tracker, weir_range_make(2, i, 1), WEIR_ACCESS_READ).barrier);
    }
    weir_verdict verdict = record_one(tracker, weir_range_make(1, 39 * 8, 8), WEIR_ACCESS_READ);
    assert_int_equal(verdict.hazard_count, 1);
    assert_int_equal(verdict.hazards[0].earlier, 78);
    record_one(tracker, weir_range_make(2, 0, 4), WEIR_ACCESS_WRITE);
    weir_range strided = weir_range_make(2, 0, 1);
    strided.level_count = 1;
    strided.levels[0] = (weir_range_level){2, 2};
    verdict = record_one(tracker, strided, WEIR_ACCESS_READ);
    assert_true(verdict.barrier);
    assert_int_equal(verdict.hazards[0].earlier, 81);
    assert_int_equal(verdict.hazards[0].earlier_range.byte_length, 4);
    verdict = record_one(tracker, weir_range_make(2, 1, 1), WEIR_ACCESS_WRITE); // in the gap
    assert_false(verdict.barrier);
    verdict = record_one(tracker, weir_range_make(2, 2, 1), WEIR_ACCESS_WRITE);
    assert_true(verdict.barrier);
    assert_int_equal(verdict.hazards[0].kind, WEIR_HAZARD_WAR);
    weir_tracker_destroy(tracker);
}

static void bad_arguments_record_nothing(void** state) {
    (void)state;
    weir_tracker* tracker = NULL;
    assert_status(weir_tracker_create(NULL, (weir_tracker_mode)7, &tracker), WEIR_INVALID_ARGUMENT);
    assert_null(tracker);
    assert_ok(weir_tracker_create(NULL, WEIR_TRACKER_DAG, &tracker));
    const weir_access accesses[] = {{weir_range_make(1, 0, 8), WEIR_ACCESS_WRITE},
                                    {weir_range_make(1, 0, 8), (weir_access_kind)0}};
    const weir_tracker_dispatch bad = {accesses, 2, true};
    weir_verdict verdict = {.dispatch = 99};
    assert_status(weir_tracker_record(tracker, &bad, &verdict), WEIR_INVALID_ARGUMENT);
    assert_message_has("access 1");
    assert_int_equal(verdict.dispatch, 99);
    const weir_tracker_dispatch null = {NULL, 2, true};
    assert_status(weir_tracker_record(tracker, &null, &verdict), WEIR_INVALID_ARGUMENT);
    verdict = record_one(tracker, weir_range_make(1, 0, 8), WEIR_ACCESS_READ);
    assert_int_equal(verdict.hazard_count, 0);
    assert_int_equal(verdict.dispatch, 0);
    weir_tracker_destroy(tracker);
    weir_tracker_destroy(NULL);
}

// Runs a program with one failing allocation and records the failed dispatch again; false when
// the program ended before that allocation.
static bool survive_failure(const program* made, weir_tracker_mode mode, size_t failure) {
    test_allocator hook = {.fail_at = failure};
    const weir_allocator allocator = test_allocator_of(&hook);
    weir_tracker* tracker = NULL;
    weir_tracker* reference = NULL;
    assert_ok(weir_tracker_create(NULL, mode, &reference));
    weir_status status = weir_tracker_create(&allocator, mode, &tracker);
    bool failed = status != WEIR_OK;
    if (failed) {
        assert_status(status, WEIR_OUT_OF_MEMORY);
        assert_ok(weir_tracker_create(&allocator, mode, &tracker));
    }
    for (uint32_t d = 0; d < PROGRAM; ++d) {
        weir_verdict expected;
        weir_verdict verdict = {0};
        assert_ok(record(reference, &made->dispatches[d], &expected));
        status = record(tracker, &made->dispatches[d], &verdict);
        if (status != WEIR_OK) {
            assert_status(status, WEIR_OUT_OF_MEMORY);
            assert_false(failed);
            failed = true;
            assert_ok(record(tracker, &made->dispatches[d], &verdict));
        }
        assert_int_equal(verdict.dispatch, d);
        assert_int_equal(verdict.barrier, expected.barrier);
        assert_int_equal(verdict.hazard_count, expected.hazard_count);
        for (uint32_t i = 0; i < expected.hazard_count; ++i) {
            assert_int_equal(verdict.hazards[i].earlier, expected.hazards[i].earlier);
            assert_int_equal(verdict.hazards[i].kind, expected.hazards[i].kind);
        }
    }
    weir_tracker_destroy(tracker);
    weir_tracker_destroy(reference);
    assert_int_equal(atomic_load(&hook.live_blocks), 0);
    return failed;
}

static void a_failed_allocation_records_nothing(void** state) {
    (void)state;
    test_random random = {21};
    for (int round = 0; round < 20; ++round) {
        program made;
        random_program(&random, round % 2 == 1, &made);
        for (int mode = WEIR_TRACKER_DAG; mode <= WEIR_TRACKER_GROUP; ++mode) {
            size_t failure = 0;
            while (survive_failure(&made, (weir_tracker_mode)mode, failure)) {
                ++failure;
            }
            assert_in_range(failure, 5, 1000);
        }
    }
}

static void hazards_have_names(void** state) {
    (void)state;
    assert_string_equal(weir_hazard_name(WEIR_HAZARD_RAW), "RAW");
    assert_string_equal(weir_hazard_name(WEIR_HAZARD_WAR), "WAR");
    assert_string_equal(weir_hazard_name(WEIR_HAZARD_WAW), "WAW");
    assert_string_equal(weir_hazard_name(WEIR_HAZARD_FENCE), "fence");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contiguous_dags_agree_with_the_bytes),
        cmocka_unit_test(contiguous_groups_agree_with_the_bytes),
        cmocka_unit_test(strided_programs_agree_with_the_bytes),
        cmocka_unit_test(a_hazard_names_both_declared_ranges),
        cmocka_unit_test(covered_accesses_are_not_reported),
        cmocka_unit_test(a_cut_of_too_many_runs_keeps_the_access_and_is_counted),
        cmocka_unit_test(touching_nothing_follows_only_fences),
        cmocka_unit_test(a_barrier_leaves_the_new_dispatch_open),
        cmocka_unit_test(reset_forgets_and_counts_from_0),
        cmocka_unit_test(barriers_of_the_caller_order_what_was_recorded),
        cmocka_unit_test(constants_are_neither_checked_nor_recorded),
        cmocka_unit_test(a_small_group_grows_out_of_its_lists),
        cmocka_unit_test(bad_arguments_record_nothing),
        cmocka_unit_test(a_failed_allocation_records_nothing),
        cmocka_unit_test(hazards_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
