// weir bench: every case is measured in every round, and the three tables say the same.
#include "cli_fixture.h"

#include <math.h>

#include "json_reader.h"

#define QUICK "bench $M --prompts 4,9 -n 3 --rounds 3 "

typedef struct csv_row {
    uint32_t threads;
    char kv[8];
    char measure[32];
    double median, low, high;
    uint32_t rounds;
    uint64_t bytes_per_token;
    uint32_t waits;
    char by[16];
} csv_row;

static size_t count_lines(const char* text) {
    size_t count = 0;
    for (const char* c = text; *c; c++) {
        count += *c == '\n' ? 1 : 0;
    }
    return count;
}

// Reads the rows of one case each; the name of the model is without commas.
static size_t read_rows(const char* text, csv_row* rows, size_t capacity) {
    size_t count = 0;
    const char* line = strchr(text, '\n');
    for (; line && line[1] != '\0'; line = strchr(line + 1, '\n')) {
        assert_true(count < capacity);
        csv_row* row = &rows[count++];
        unsigned long long bytes = 0;
        const int found = sscanf(
            line + 1, "%*[^,],cpu:plain,%u,%7[^,],%31[^,],%*[^,],%lf,%lf,%lf,%u,%llu,%u,%15s",
            &row->threads, row->kv, row->measure, &row->median, &row->low, &row->high, &row->rounds,
            &bytes, &row->waits, row->by);
        assert_int_equal(found, 10);
        row->bytes_per_token = bytes;
    }
    return count;
}

static void assert_row_is_sound(const csv_row* row) {
    assert_int_equal(row->rounds, 3);
    assert_true(row->low > 0 && row->low <= row->median && row->median <= row->high);
    assert_true(isfinite(row->high));
    assert_true(row->waits > 0 && row->bytes_per_token > 0);
    assert_string_equal(row->by, "reads");
}

static void csv_has_a_row_for_each_case_and_measure(void** state) {
    (void)state;
    static const char* const measures[] = {"decode",      "share",       "ceiling",   "ready",
                                           "first_token", "peak_memory", "prefill_4", "prefill_9"};
    csv_row rows[32];
    assert_int_equal(weir(QUICK "--device cpu:plain --threads 1,2 --format csv"), 0);
    assert_string_equal(cli.errors, "");
    assert_int_equal(read_rows(cli.output, rows, 32), 16);
    for (size_t i = 0; i < 16; i++) {
        assert_int_equal(rows[i].threads, 1 + i / 8);
        assert_string_equal(rows[i].measure, measures[i % 8]);
        assert_row_is_sound(&rows[i]);
    }
    assert_true(rows[3].median <= rows[4].median); // ready comes before the first token
}

// The weights of the tiny model without its embedding, in F32.
#define STREAMED_BYTES 75904

// Of the cache, decode reads two rows on average where three tokens are made, three where five are.
static void the_share_is_that_of_the_bytes_that_decode_reads(void** state) {
    (void)state;
    csv_row of_three[8];
    csv_row of_five[8];
    assert_int_equal(weir("bench $M --device cpu:plain --prompts 2 -n 3 --rounds 1 --format csv"),
                     0);
    assert_int_equal(read_rows(cli.output, of_three, 8), 7);
    assert_int_equal(weir("bench $M --device cpu:plain --prompts 2 -n 5 --rounds 1 --format csv"),
                     0);
    assert_int_equal(read_rows(cli.output, of_five, 8), 7);
    const uint64_t cache_row = of_five->bytes_per_token - of_three->bytes_per_token;
    assert_int_equal(of_three->bytes_per_token - 2 * cache_row, STREAMED_BYTES);
    const double rate = of_five[0].median * (double)of_five->bytes_per_token; // one round: all of
    const double share = rate / (of_five[2].median * 1e9) * 100.0;            // one measurement
    assert_true(fabs(share / of_five[1].median - 1.0) < 1e-3);
}

// Keys and values of two blocks, 16 elements each.
static void types_of_the_cache_are_cases_of_their_own(void** state) {
    (void)state;
    csv_row rows[16];
    assert_int_equal(weir("bench $M --device cpu:plain --prompts 2 -n 3 --rounds 1 --kv f32,f16 "
                          "--format csv"),
                     0);
    assert_int_equal(read_rows(cli.output, rows, 16), 14);
    assert_string_equal(rows[0].kv, "F32");
    assert_string_equal(rows[7].kv, "F16");
    assert_int_equal(rows[0].bytes_per_token, STREAMED_BYTES + 2 * 4 * 16 * 4);
    assert_int_equal(rows[7].bytes_per_token, STREAMED_BYTES + 2 * 4 * 16 * 2);
}

static void text_and_json_name_the_cases(void** state) {
    (void)state;
    assert_int_equal(weir(QUICK "$M --device cpu --threads 1"), 0);
    assert_has(cli.output, "prefill 4");
    assert_has(cli.output, "prefill 9");
    assert_has(cli.output, "Medians of 3 rounds");
    assert_int_equal(count_lines(cli.output), 5); // head, two models, two lines of explanation
    assert_int_equal(weir(QUICK "--threads 2 --format json"), 0);
    assert_int_equal(strtoul(find_key(cli.output, "rounds"), NULL, 10), 3);
    assert_int_equal(strtoul(find_key(cli.output, "threads"), NULL, 10), 2);
    const char* decode = find_key(cli.output, "decode");
    assert_true(strtod(find_key(decode, "median"), NULL) > 0);
    assert_true(strtod(find_key(find_key(cli.output, "prefill_9"), "high"), NULL) > 0);
    assert_one_line(cli.output);
}

static void a_name_with_a_comma_stays_one_field(void** state) {
    (void)state;
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    write_named("a,\"b.gguf", bytes, byte_size);
    free(bytes);
    assert_int_equal(weir("bench 'a,\"b.gguf' --prompts 2 -n 1 --rounds 1 --format csv"), 0);
    assert_has(cli.output, "\n\"a,\"\"b.gguf\",cpu,");
}

static void wrong_lists_exit_with_64(void** state) {
    (void)state;
    static const char* const calls[] = {
        "bench",
        "bench $M --prompts ''",
        "bench $M --prompts 4,,5",
        "bench $M --prompts 4,",
        "bench $M --prompts 0",
        "bench $M --prompts 4x",
        "bench $M --threads -1",
        "bench $M --threads 1025",
        "bench $M --threads 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
        "bench $M --device ,cpu",
        "bench $M --rounds 0",
        "bench $M --rounds 101",
        "bench $M -n 0",
        "bench $M --format xml",
        "bench $M --kv f32,q9",
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        assert_int_equal(weir(calls[i]), 64);
        assert_one_line(cli.errors);
        assert_string_equal(cli.output, "");
    }
}

static void what_cannot_be_measured_is_an_error(void** state) {
    (void)state;
    assert_int_equal(weir("bench $M missing.gguf --prompts 4 -n 1 --rounds 1"), 1);
    assert_has(cli.errors, "missing.gguf");
    assert_int_equal(weir("bench $M --prompts 100000 -n 1 --rounds 1"), 1);
    assert_one_line(cli.errors);
    assert_int_equal(weir("bench $M --device toaster --rounds 1"), 1);
    assert_has(cli.errors, "toaster");
    assert_string_equal(cli.output, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(csv_has_a_row_for_each_case_and_measure),
        cmocka_unit_test(the_share_is_that_of_the_bytes_that_decode_reads),
        cmocka_unit_test(types_of_the_cache_are_cases_of_their_own),
        cmocka_unit_test(text_and_json_name_the_cases),
        cmocka_unit_test(a_name_with_a_comma_stays_one_field),
        cmocka_unit_test(wrong_lists_exit_with_64),
        cmocka_unit_test(what_cannot_be_measured_is_an_error),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
