// The passes in flight: reduced lists touch the same bytes, and conflicts are exact.
#include "testing.h"

#include "device/flight.h"

#define MEMORIES 3
#define BYTES 96 // of a memory
#define LIST_MAX 24

// Which bytes a list reads and writes.
typedef struct byte_model {
    bool read[MEMORIES][BYTES];
    bool written[MEMORIES][BYTES];
} byte_model;

static weir_access random_access(test_random* random) {
    weir_access access = {.kind = (weir_access_kind)(1 + random_below(random, 3))};
    const uint64_t memory = 1 + random_below(random, MEMORIES);
    if (random_below(random, 4) > 0) {
        const uint64_t length = random_below(random, 12); // empty ones, too
        access.range = weir_range_make(memory, random_below(random, BYTES - length), length);
        return access;
    }
    weir_range_level level = {.count = 2 + random_below(random, 4)};
    level.stride = 5 + random_below(random, 6);
    const uint64_t begin = random_below(random, 40);
    assert_ok(weir_range_pattern(memory, begin, 1 + random_below(random, 4), &level, 1,
                                 &access.range, NULL));
    return access;
}

static void paint(byte_model* model, const weir_access* accesses, uint32_t count) {
    memset(model, 0, sizeof *model);
    for (uint32_t i = 0; i < count; i++) {
        const weir_range* range = &accesses[i].range;
        const uint64_t rows = range->level_count > 0 ? range->levels[0].count : 1;
        for (uint64_t row = 0; row < rows; row++) {
            for (uint64_t k = 0; k < range->byte_length; k++) {
                const uint64_t at = range->byte_offset + k +
                                    row * (range->level_count > 0 ? range->levels[0].stride : 0);
                bool(*bytes)[BYTES] =
                    (accesses[i].kind & WEIR_ACCESS_WRITE) != 0 ? model->written : model->read;
                bytes[range->memory_id - 1][at] = true;
            }
        }
    }
}

static bool models_conflict(const byte_model* a, const byte_model* b) {
    for (uint32_t m = 0; m < MEMORIES; m++) {
        for (uint32_t i = 0; i < BYTES; i++) {
            const bool a_any = a->written[m][i] || a->read[m][i];
            const bool b_any = b->written[m][i] || b->read[m][i];
            if ((a->written[m][i] && b_any) || (b->written[m][i] && a_any)) {
                return true;
            }
        }
    }
    return false;
}

static void a_reduced_list_touches_the_same_bytes(void** state) {
    (void)state;
    test_random random = {17};
    for (int round = 0; round < 4000; round++) {
        weir_access list[LIST_MAX];
        byte_model before;
        byte_model after;
        const uint32_t count = (uint32_t)random_below(&random, LIST_MAX + 1);
        for (uint32_t i = 0; i < count; i++) {
            list[i] = random_access(&random);
        }
        paint(&before, list, count);
        uint32_t write_count = 0;
        const uint32_t kept = flight_reduce(list, count, &write_count);
        assert_true(kept <= count && write_count <= kept);
        paint(&after, list, kept);
        assert_memory_equal(&before, &after, sizeof before);
        for (uint32_t i = 0; i < kept; i++) {
            assert_int_equal((list[i].kind & WEIR_ACCESS_WRITE) != 0, i < write_count);
        }
        paint(&after, list, count); // what lies behind is left over, and touches nothing else
        assert_memory_equal(&before, &after, sizeof before);
    }
}

static void neighbours_become_one_range(void** state) {
    (void)state;
    weir_access list[40];
    for (uint32_t i = 0; i < 40; i++) { // from the back, and every other one read
        list[i] = (weir_access){weir_range_make(1, 64 * ((39 - i) / 2), 64),
                                i % 2 ? WEIR_ACCESS_READ : WEIR_ACCESS_READ_WRITE};
    }
    uint32_t write_count = 0;
    assert_int_equal(flight_reduce(list, 40, &write_count), 2);
    assert_int_equal(write_count, 1);
    list[0] = (weir_access){weir_range_make(1, 0, 64), WEIR_ACCESS_READ};
    list[1] = (weir_access){weir_range_make(1, 65, 64), WEIR_ACCESS_READ};
    assert_int_equal(flight_reduce(list, 2, &write_count), 2);
}

static void conflicts_are_those_of_the_bytes(void** state) {
    (void)state;
    test_random random = {99};
    uint32_t conflicts = 0;
    for (int round = 0; round < 4000; round++) {
        weir_access kept[LIST_MAX];
        weir_access other[LIST_MAX];
        byte_model models[2];
        flight passes = {.used = 0};
        const uint32_t kept_count = (uint32_t)random_below(&random, 8);
        const uint32_t other_count = (uint32_t)random_below(&random, 8);
        for (uint32_t i = 0; i < LIST_MAX; i++) {
            kept[i] = random_access(&random);
            other[i] = random_access(&random);
        }
        paint(&models[0], kept, kept_count);
        paint(&models[1], other, other_count);
        flight_add(&passes, 70, kept, kept_count, false);
        const uint64_t expected = models_conflict(&models[0], &models[1]) ? UINT64_C(1) << 6 : 0;
        assert_int_equal(flight_conflicts(&passes, other, other_count, false), expected);
        uint32_t write_count = 0;
        const uint32_t reduced = flight_reduce(other, other_count, &write_count);
        assert_int_equal(flight_conflicts(&passes, other, reduced, false), expected);
        conflicts += expected != 0 ? 1 : 0;
    }
    assert_true(conflicts > 500 && conflicts < 3500);
}

static void fences_conflict_with_everything(void** state) {
    (void)state;
    flight passes = {.used = 0};
    weir_access read = {weir_range_make(1, 0, 4), WEIR_ACCESS_READ};
    flight_add(&passes, 64, &read, 1, false);
    flight_add(&passes, 65, NULL, 0, true);
    flight_add(&passes, 66, NULL, 0, false);
    assert_int_equal(flight_conflicts(&passes, NULL, 0, true), 7);
    assert_int_equal(flight_conflicts(&passes, &read, 1, false), 2);
    assert_int_equal(flight_conflicts(&passes, NULL, 0, false), 2);
    assert_true(flight_remove(&passes, 65));
    assert_false(flight_remove(&passes, 65));
    assert_int_equal(flight_conflicts(&passes, &read, 1, false), 0);
}

static void passes_are_listed_in_the_order_of_their_numbers(void** state) {
    (void)state;
    flight passes = {.used = 0};
    uint64_t sequences[PASSES_IN_FLIGHT];
    for (uint64_t sequence = 100; sequence < 100 + PASSES_IN_FLIGHT; sequence++) {
        flight_add(&passes, sequence, NULL, 0, false);
    }
    assert_true(flight_remove(&passes, 101));
    assert_int_equal(flight_list(&passes, passes.used, sequences), PASSES_IN_FLIGHT - 1);
    for (uint32_t i = 0; i < PASSES_IN_FLIGHT - 1; i++) {
        assert_int_equal(sequences[i], i == 0 ? 100 : 101 + i);
    }
    assert_true(flight_has(&passes, 163));
    assert_false(flight_has(&passes, 99)); // its entry is that of 163
    assert_false(flight_has(&passes, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reduced_list_touches_the_same_bytes),
        cmocka_unit_test(neighbours_become_one_range),
        cmocka_unit_test(conflicts_are_those_of_the_bytes),
        cmocka_unit_test(fences_conflict_with_everything),
        cmocka_unit_test(passes_are_listed_in_the_order_of_their_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
