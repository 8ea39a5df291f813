// The tracker against a model of bytes: for each byte the access that wrote it last and the
// accesses that read it since. Programs live in a space of 64 places, so that a range is a word of
// bits, and the places stand for offsets anywhere in 64 bits: only their order counts, and their
// distances where there are strides. WEIR_LONG in the environment makes it ten million dispatches.
#include "testing.h"

#include <weir/tracker.h>

#define MEMORIES 2
#define PLACES 64  // of one memory
#define PROGRAM 40 // dispatches of a program
#define ACCESSES 4 // at most, of one dispatch
#define ALL_ACCESSES (PROGRAM * ACCESSES)
#define WORDS ((ALL_ACCESSES + 63) / 64)
#define NOBODY UINT32_MAX

// One access, with the places it touches.
typedef struct model_access {
    uint64_t places;
    uint64_t memory;
    unsigned kind;
    const weir_range* range;
} model_access;

typedef struct model_byte {
    uint32_t writer; // access: dispatch * ACCESSES + its index
    uint64_t readers[WORDS];
} model_byte;

typedef struct model {
    model_byte bytes[MEMORIES][PLACES];
    model_access accesses[ALL_ACCESSES];
    uint32_t counts[PROGRAM]; // accesses of each dispatch
    uint32_t open_begin;
    bool fenced;
} model;

typedef struct program {
    weir_access accesses[ALL_ACCESSES];
    uint64_t places[ALL_ACCESSES];
    uint32_t counts[PROGRAM];
    bool declared[PROGRAM];
    bool barriers[PROGRAM]; // the caller places one before the dispatch
} program;

// Where the places lie: offsets[p] to offsets[p + 1]. `scale` is their distance, or 0 when it
// differs.
typedef struct place_map {
    uint64_t offsets[PLACES + 1];
    uint64_t scale;
} place_map;

// Bits of hazard kinds, for the later access and the earlier one.
typedef uint8_t expectation[ACCESSES][ALL_ACCESSES];

typedef struct tally {
    uint64_t dispatches;
    uint64_t hazards[WEIR_HAZARD_FENCE + 1];
    uint64_t clear; // dispatches without a hazard
} tally;

static int compare_offsets(const void* a, const void* b) {
    const uint64_t x = *(const uint64_t*)a;
    const uint64_t y = *(const uint64_t*)b;
    return x < y ? -1 : x > y;
}

static place_map random_map(test_random* random, bool even) {
    place_map map = {.scale = 0};
    if (even) {
        map.scale = 1ull << random_below(random, 58);
        const uint64_t room = UINT64_MAX - PLACES * map.scale;
        // At the very bottom, at the very top, or anywhere.
        const uint64_t bases[] = {0, room, random_u64(random) % (room + 1)};
        const uint64_t base = bases[random_below(random, 3)];
        for (uint64_t p = 0; p <= PLACES; ++p) {
            map.offsets[p] = base + p * map.scale;
        }
        return map;
    }
    bool distinct = false;
    while (!distinct) {
        for (uint64_t p = 0; p <= PLACES; ++p) {
            const uint64_t shift = random_below(random, 50);
            map.offsets[p] = random_u64(random) >> shift;
        }
        map.offsets[0] = 0;
        map.offsets[1] = UINT64_MAX;
        qsort(map.offsets, PLACES + 1, sizeof map.offsets[0], compare_offsets);
        distinct = true;
        for (uint64_t p = 0; p < PLACES; ++p) {
            distinct &= map.offsets[p] < map.offsets[p + 1];
        }
    }
    return map;
}

static uint64_t run_of_places(uint64_t first, uint64_t count) {
    return count == 0 ? 0 : (count >= 64 ? UINT64_MAX : (1ull << count) - 1) << first;
}

static uint64_t random_run(test_random* random, const place_map* map, weir_range* range) {
    const uint64_t longest = random_below(random, 8) == 0 ? PLACES : 12;
    const uint64_t count = random_below(random, longest + 1);
    const uint64_t first = random_below(random, PLACES - count + 1);
    *range = weir_range_make(1 + random_below(random, MEMORIES), map->offsets[first],
                             map->offsets[first + count] - map->offsets[first]);
    return run_of_places(first, count);
}

// Levels in any order, as a caller could fill them in by hand, cut so that they fit.
static uint64_t random_pattern(test_random* random, const place_map* map, weir_range* range) {
    const uint64_t run = 1 + random_below(random, 4);
    uint64_t left = PLACES - run;
    uint64_t places = run_of_places(0, run);
    uint64_t span = run;
    *range = weir_range_make(1 + random_below(random, MEMORIES), 0, run * map->scale);
    range->level_count = (uint32_t)(1 + random_below(random, WEIR_RANGE_LEVELS));
    for (uint32_t k = 0; k < range->level_count; ++k) {
        // Nested more often than not, as views are.
        const uint64_t stride =
            random_below(random, 3) > 0 ? span + random_below(random, 5) : random_below(random, 20);
        uint64_t count = 1 + random_below(random, k == 0 ? 7 : 4);
        while ((count - 1) * stride > left) {
            --count;
        }
        uint64_t repeated = 0;
        for (uint64_t i = 0; i < count; ++i) {
            repeated |= places << (i * stride);
        }
        places = repeated;
        left -= (count - 1) * stride;
        span += (count - 1) * stride;
        // The outermost level comes first.
        range->levels[range->level_count - 1 - k] = (weir_range_level){count, stride * map->scale};
    }
    const uint64_t first = random_below(random, left + 1);
    range->byte_offset = map->offsets[first];
    if (random_below(random, 50) == 0) {
        range->levels[0].count = 0; // nothing at all
        return 0;
    }
    if (random_below(random, 2) == 0) {
        bool widened = true;
        assert_ok(weir_range_pattern(range->memory_id, range->byte_offset, range->byte_length,
                                     range->levels, range->level_count, range, &widened));
        assert_false(widened);
    }
    return places << first;
}

// A slice of a slice of bytes, perhaps turned over, perhaps repeated.
static uint64_t random_view(test_random* random, const place_map* map, weir_range* range) {
    const int64_t rows = (int64_t)(1 + random_below(random, 8));
    const int64_t row = (int64_t)(1 + random_below(random, PLACES / (uint64_t)rows));
    const int64_t first = (int64_t)random_below(random, PLACES - (uint64_t)(rows * row) + 1);
    const int64_t skipped = (int64_t)random_below(random, (uint64_t)row);
    const int64_t columns = (int64_t)random_below(random, (uint64_t)(row - skipped) + 1);
    weir_view view = {.byte_offset = (uint64_t)(first + skipped), .dtype = WEIR_DTYPE_I8};
    const bool turned = random_below(random, 2) == 0;
    view.shape.rank = 3;
    view.shape.dims[0] = 1 + (int64_t)random_below(random, 3);
    view.strides[0] = 0;
    view.shape.dims[turned ? 1 : 2] = columns;
    view.strides[turned ? 1 : 2] = 1;
    view.shape.dims[turned ? 2 : 1] = rows;
    view.strides[turned ? 2 : 1] = row;
    *range = weir_range_from_view(&view, 1 + random_below(random, MEMORIES), map->offsets[0], NULL);
    uint64_t places = 0;
    for (int64_t r = 0; r < rows; ++r) {
        places |= run_of_places((uint64_t)(first + skipped + r * row), (uint64_t)columns);
    }
    return places;
}

static uint64_t random_range(test_random* random, const place_map* map, weir_range* range) {
    const uint64_t form = map->scale == 0 ? 0 : random_below(random, 4);
    if (form == 1 || form == 2) {
        return random_pattern(random, map, range);
    }
    return form == 3 && map->scale == 1 ? random_view(random, map, range)
                                        : random_run(random, map, range);
}

static void random_program(test_random* random, program* made) {
    const place_map map = random_map(random, random_below(random, 3) > 0);
    const uint64_t most = 1 + random_below(random, ACCESSES);
    const uint64_t reads = random_below(random, 4); // how much more often than writes
    for (uint32_t d = 0; d < PROGRAM; ++d) {
        made->declared[d] = random_below(random, 40) != 0;
        made->counts[d] = (uint32_t)random_below(random, most + 1);
        for (uint32_t i = 0; i < made->counts[d]; ++i) {
            const uint32_t at = d * ACCESSES + i;
            weir_access* access = &made->accesses[at];
            access->kind = random_below(random, 4) < reads
                               ? WEIR_ACCESS_READ
                               : (weir_access_kind)(1 + random_below(random, 3));
            if (random_below(random, 16) == 0) {
                access->kind = WEIR_ACCESS_CONSTANT;
            }
            // Now and then a range that was there before, perhaps with another kind.
            const uint32_t other = (uint32_t)random_below(random, d + 1);
            if (made->counts[other] > 0 && random_below(random, 4) == 0 && (other < d || i > 0)) {
                const uint32_t from = other * ACCESSES;
                access->range = made->accesses[from].range;
                made->places[at] = made->places[from];
            } else {
                made->places[at] = random_range(random, &map, &access->range);
            }
        }
    }
    for (uint32_t d = 0; d < PROGRAM; ++d) {
        made->barriers[d] = random_below(random, 20) == 0;
    }
}

static bool is_same(const weir_range* a, const weir_range* b) {
    return a->memory_id == b->memory_id && a->byte_offset == b->byte_offset &&
           a->byte_length == b->byte_length && a->level_count == b->level_count &&
           memcmp(a->levels, b->levels, a->level_count * sizeof a->levels[0]) == 0;
}

static void restart(model* state, uint32_t open_begin, bool fenced) {
    for (int m = 0; m < MEMORIES; ++m) {
        for (int p = 0; p < PLACES; ++p) {
            state->bytes[m][p] = (model_byte){.writer = NOBODY};
        }
    }
    state->open_begin = open_begin;
    state->fenced = fenced;
}

// Gives the model the accesses of a dispatch: constants are none, the same range twice is one.
static void load(model* state, const program* made, uint32_t dispatch) {
    model_access* accesses = &state->accesses[dispatch * ACCESSES];
    uint32_t count = 0;
    for (uint32_t i = 0; made->declared[dispatch] && i < made->counts[dispatch]; ++i) {
        const weir_access* access = &made->accesses[dispatch * ACCESSES + i];
        uint32_t same = 0;
        if (access->kind == WEIR_ACCESS_CONSTANT) {
            continue;
        }
        while (same < count && !is_same(accesses[same].range, &access->range)) {
            ++same;
        }
        if (same == count) {
            accesses[count++] = (model_access){.places = made->places[dispatch * ACCESSES + i],
                                               .memory = access->range.memory_id - 1,
                                               .range = &access->range};
        }
        accesses[same].kind |= (unsigned)access->kind;
    }
    state->counts[dispatch] = count;
}

static void expect_of_byte(const model_byte* byte, unsigned kind, uint8_t expected[ALL_ACCESSES]) {
    if (byte->writer != NOBODY) {
        const unsigned raw = kind & WEIR_ACCESS_READ ? 1u << WEIR_HAZARD_RAW : 0;
        const unsigned waw = kind & WEIR_ACCESS_WRITE ? 1u << WEIR_HAZARD_WAW : 0;
        expected[byte->writer] = (uint8_t)(expected[byte->writer] | raw | waw);
    }
    for (uint32_t w = 0; w < WORDS && (kind & WEIR_ACCESS_WRITE); ++w) {
        for (uint64_t left = byte->readers[w]; left != 0; left &= left - 1) {
            expected[w * 64 + (uint32_t)__builtin_ctzll(left)] |= 1u << WEIR_HAZARD_WAR;
        }
    }
}

// Fills the conflicts of a dispatch and returns their number, each kind counted.
static uint32_t expect(const model* state, uint32_t dispatch, expectation expected) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < state->counts[dispatch]; ++i) {
        const model_access* access = &state->accesses[dispatch * ACCESSES + i];
        memset(expected[i], 0, sizeof expected[i]);
        for (uint64_t left = access->places; left != 0; left &= left - 1) {
            expect_of_byte(&state->bytes[access->memory][__builtin_ctzll(left)], access->kind,
                           expected[i]);
        }
        for (uint32_t earlier = 0; earlier < dispatch * ACCESSES; ++earlier) {
            found += (uint32_t)__builtin_popcount(expected[i][earlier]);
        }
    }
    return found;
}

static void record_in_model(model* state, uint32_t dispatch) {
    for (unsigned pass = WEIR_ACCESS_READ; pass <= WEIR_ACCESS_WRITE; ++pass) {
        for (uint32_t i = 0; i < state->counts[dispatch]; ++i) {
            const uint32_t at = dispatch * ACCESSES + i;
            const model_access* access = &state->accesses[at];
            const uint64_t places = access->kind & pass ? access->places : 0;
            for (uint64_t left = places; left != 0; left &= left - 1) {
                model_byte* byte = &state->bytes[access->memory][__builtin_ctzll(left)];
                if (pass == WEIR_ACCESS_READ) {
                    byte->readers[at / 64] |= 1ull << (at % 64);
                } else {
                    *byte = (model_byte){.writer = at};
                }
            }
        }
    }
}

static uint32_t find_access(const model* state, uint32_t dispatch, const weir_range* range) {
    uint32_t i = 0;
    while (i < state->counts[dispatch] &&
           !is_same(state->accesses[dispatch * ACCESSES + i].range, range)) {
        ++i;
    }
    assert_true(i < state->counts[dispatch]);
    return i;
}

// Every hazard must be expected, reported once and in order; that their number is right then says
// that none is missed.
static void check_hazards(const model* state, const weir_verdict* verdict, uint32_t dispatch,
                          uint32_t fence_end, expectation expected) {
    for (uint32_t i = 0; i < verdict->hazard_count; ++i) {
        const weir_hazard* hazard = &verdict->hazards[i];
        assert_int_equal(hazard->later, dispatch);
        assert_true(hazard->earlier < dispatch);
        assert_true(i == 0 || verdict->hazards[i - 1].earlier <= hazard->earlier);
        if (hazard->kind == WEIR_HAZARD_FENCE) {
            assert_int_equal(hazard->earlier, state->open_begin + i);
            assert_true(hazard->earlier < fence_end);
            assert_int_equal(hazard->earlier_range.byte_length, 0);
            continue;
        }
        const uint32_t later = find_access(state, dispatch, &hazard->later_range);
        const uint32_t earlier = find_access(state, hazard->earlier, &hazard->earlier_range);
        uint8_t* kinds = &expected[later][hazard->earlier * ACCESSES + earlier];
        assert_true(*kinds >> hazard->kind & 1);
        *kinds = (uint8_t)(*kinds & ~(1u << hazard->kind));
    }
}

static void run_program(weir_tracker* tracker, weir_tracker_mode mode, const program* made,
                        model* state, tally* sum) {
    restart(state, 0, false);
    weir_tracker_reset(tracker);
    for (uint32_t d = 0; d < PROGRAM; ++d) {
        expectation expected;
        weir_verdict verdict;
        if (made->barriers[d]) {
            weir_tracker_barrier(tracker);
            restart(state, d, false);
        }
        load(state, made, d);
        const uint32_t fence_end = made->declared[d] ? state->open_begin + state->fenced : d;
        const uint32_t count = expect(state, d, expected) + fence_end - state->open_begin;
        const weir_tracker_dispatch given = {&made->accesses[d * ACCESSES], made->counts[d],
                                             made->declared[d]};
        assert_ok(weir_tracker_record(tracker, &given, &verdict));
        assert_int_equal(verdict.dispatch, d);
        assert_int_equal(verdict.hazard_count, count);
        check_hazards(state, &verdict, d, fence_end, expected);
        assert_int_equal(verdict.barrier, mode == WEIR_TRACKER_GROUP && count > 0);
        for (uint32_t i = 0; i < verdict.hazard_count; ++i) {
            ++sum->hazards[verdict.hazards[i].kind];
        }
        sum->clear += count == 0;
        if (verdict.barrier || !made->declared[d]) {
            restart(state, d, !made->declared[d]);
        }
        record_in_model(state, d);
        ++sum->dispatches;
    }
}

static void compare_with_model(weir_tracker_mode mode, uint64_t seed, uint64_t dispatches) {
    static model state;
    static program made;
    test_random random = {seed};
    tally sum = {0};
    weir_tracker* tracker = NULL;
    assert_ok(weir_tracker_create(NULL, mode, &tracker));
    while (sum.dispatches < dispatches) {
        random_program(&random, &made);
        run_program(tracker, mode, &made, &state, &sum);
    }
    assert_int_equal(weir_tracker_widened(tracker), 0);
    weir_tracker_destroy(tracker);
    print_message(
        "%llu dispatches: %llu RAW, %llu WAR, %llu WAW, %llu fences, %llu without\n",
        (unsigned long long)sum.dispatches, (unsigned long long)sum.hazards[WEIR_HAZARD_RAW],
        (unsigned long long)sum.hazards[WEIR_HAZARD_WAR],
        (unsigned long long)sum.hazards[WEIR_HAZARD_WAW],
        (unsigned long long)sum.hazards[WEIR_HAZARD_FENCE], (unsigned long long)sum.clear);
    // Every answer must be common, or the rounds prove little.
    for (int kind = WEIR_HAZARD_RAW; kind <= WEIR_HAZARD_FENCE; ++kind) {
        assert_true(sum.hazards[kind] > dispatches / 20);
    }
    assert_true(sum.clear > dispatches / 10);
}

static uint64_t dispatch_count(void) {
    return getenv("WEIR_LONG") ? 5000000 : 100000;
}

static void dags_are_those_of_the_bytes(void** state) {
    (void)state;
    compare_with_model(WEIR_TRACKER_DAG, 1001, dispatch_count());
}

static void groups_are_those_of_the_bytes(void** state) {
    (void)state;
    compare_with_model(WEIR_TRACKER_GROUP, 2002, dispatch_count());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dags_are_those_of_the_bytes),
        cmocka_unit_test(groups_are_those_of_the_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
