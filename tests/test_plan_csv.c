#include "plan_text_sink.h"

#include <weir/plan_csv.h>

#include "testing_allocator.h"

static const char full_text[] = "size, id,alignment,lower,upper,gaps,note\r\n"
                                "64,a b,16,0,10,2-4 6-7,x\r\n"
                                "\r\n"
                                " 8 ,\"q\",1,-3, 5 ,,y y\r\n"
                                "0,,4,1,1,,";

// Parses a copy of exactly the size of the text, so that one byte too far is seen.
static weir_status parse(const char* text, size_t length, weir_plan_csv** csv, char** copy) {
    *copy = malloc(length > 0 ? length : 1);
    assert_non_null(*copy);
    memcpy(*copy, text, length);
    const weir_plan_csv_desc desc = {.name = "t.csv", .bytes = *copy, .byte_size = length};
    return weir_plan_csv_create(NULL, &desc, csv);
}

static void assert_refused(const char* text, weir_status status, const char* message) {
    weir_plan_csv* csv = NULL;
    char* copy = NULL;
    assert_status(parse(text, strlen(text), &csv, &copy), status);
    assert_message_has(message);
    assert_null(csv);
    free(copy);
}

static void columns_come_in_any_order(void** state) {
    (void)state;
    weir_plan_csv* csv = NULL;
    char* copy = NULL;
    assert_ok(parse(full_text, strlen(full_text), &csv, &copy));
    const weir_plan_problem* problem = weir_plan_csv_problem(csv);
    assert_int_equal(problem->buffer_count, 3);
    const weir_plan_buffer* buffers = problem->buffers;
    assert_int_equal(buffers[0].byte_size, 64);
    assert_int_equal(buffers[0].alignment, 16);
    assert_int_equal(buffers[0].interval_count, 3);
    const weir_plan_interval* lives = problem->intervals + buffers[0].interval_begin;
    const int64_t expected[6] = {0, 2, 4, 6, 7, 10};
    for (int i = 0; i < 3; ++i) {
        assert_int_equal(lives[i].begin, expected[2 * i]);
        assert_int_equal(lives[i].end, expected[2 * i + 1]);
    }
    assert_int_equal(buffers[1].byte_size, 8);
    lives = problem->intervals + buffers[1].interval_begin;
    assert_int_equal(lives->begin, -3);
    assert_int_equal(lives->end, 5);
    assert_int_equal(buffers[2].interval_count, 1); // empty, not always live
    size_t length = 0;
    assert_memory_equal(weir_plan_csv_id(csv, 0, &length), "a b", 3);
    assert_int_equal(length, 3);
    weir_plan_csv_id(csv, 2, &length);
    assert_int_equal(length, 0);
    weir_plan_csv_destroy(csv);
    free(copy);
}

// Fields in quotes (RFC 4180): commas inside them separate nothing, and what is written back is
// what was read. A quote that is not closed is a character like others.
static void quoted_fields_are_read_without_their_quotes(void** state) {
    (void)state;
    const char text[] = "\"id\",\"lower\", \"upper\" ,size,\"note\"\r\n"
                        "\"a,b\",\"0\",\" 4 \",\"8\",\"say \"\"x,y\"\"\"\r\n"
                        "c,1,3,16,\"\"\n"
                        "\"d,1,3,16,e\n";
    weir_plan_csv* csv = NULL;
    char* copy = NULL;
    assert_ok(parse(text, sizeof text - 1, &csv, &copy));
    const weir_plan_problem* problem = weir_plan_csv_problem(csv);
    assert_int_equal(problem->buffer_count, 3);
    assert_int_equal(problem->buffers[0].byte_size, 8);
    assert_int_equal(problem->intervals[0].end, 4);
    size_t length = 0;
    const char* id = weir_plan_csv_id(csv, 0, &length);
    assert_int_equal(length, 3);
    assert_memory_equal(id, "a,b", 3);
    id = weir_plan_csv_id(csv, 2, &length);
    assert_int_equal(length, 2);
    assert_memory_equal(id, "\"d", 2);
    const weir_plan_entry entries[3] = {{.byte_offset = 1}, {.byte_offset = 2}, {.byte_offset = 3}};
    text_sink sink = {0};
    assert_ok(weir_plan_csv_write(csv, entries, sink_write, &sink));
    assert_string_equal(sink.bytes, "\"id\",\"lower\", \"upper\" ,size,\"note\",offset\n"
                                    "\"a,b\",\"0\",\" 4 \",\"8\",\"say \"\"x,y\"\"\",1\n"
                                    "c,1,3,16,\"\",2\n"
                                    "\"d,1,3,16,e,3\n");
    sink_free(&sink);
    weir_plan_csv_destroy(csv);
    free(copy);
    assert_refused("id,lower,upper,size\na,0,1,2\n\"a\",0,1,2\n", WEIR_BAD_FORMAT, "3:2: id 'a'");
}

static void offsets_are_added_and_the_rest_is_kept(void** state) {
    (void)state;
    weir_plan_csv* csv = NULL;
    char* copy = NULL;
    weir_plan_entry entries[3] = {{.byte_offset = 16}, {.byte_offset = UINT64_MAX}, {0}};
    assert_ok(parse(full_text, strlen(full_text), &csv, &copy));
    text_sink sink = {0};
    assert_ok(weir_plan_csv_write(csv, entries, sink_write, &sink));
    assert_string_equal(sink.bytes, "size, id,alignment,lower,upper,gaps,note,offset\n"
                                    "64,a b,16,0,10,2-4 6-7,x,16\n"
                                    " 8 ,\"q\",1,-3, 5 ,,y y,18446744073709551615\n"
                                    "0,,4,1,1,,,0\n");
    sink_free(&sink);
    entries[2].block = 3;
    assert_ok(weir_plan_csv_write(csv, entries, sink_write, &sink));
    assert_non_null(strstr(sink.bytes, ",offset,block\n"));
    assert_non_null(strstr(sink.bytes, ",x,16,0\n"));
    assert_non_null(strstr(sink.bytes, ",,,0,3\n"));
    sink_free(&sink);
    sink.room = 10;
    assert_status(weir_plan_csv_write(csv, entries, sink_write, &sink), WEIR_IO);
    sink_free(&sink);
    weir_plan_csv_destroy(csv);
    free(copy);
}

static void offsets_of_the_text_are_fixed_or_ignored(void** state) {
    (void)state;
    const char text[] = "offset,id,lower,upper,size\n8,a,0,2,4\n,b,1,3,4\n-1,c,1,3,4\n";
    weir_plan_csv_desc desc = {.name = "t.csv", .bytes = text, .byte_size = sizeof text - 1};
    weir_plan_csv* csv = NULL;
    const weir_plan_entry* entries = NULL;
    assert_ok(weir_plan_csv_create(NULL, &desc, &csv));
    const weir_plan_problem* problem = weir_plan_csv_problem(csv);
    assert_int_equal(problem->buffers[0].flags, WEIR_PLAN_FIXED);
    assert_int_equal(problem->buffers[0].fixed_offset, 8);
    assert_int_equal(problem->buffers[1].flags | problem->buffers[2].flags, 0);
    assert_status(weir_plan_csv_entries(csv, &entries), WEIR_NOT_FOUND);
    assert_message_has("t.csv:3: no offset");
    weir_plan* plan = NULL;
    assert_ok(weir_plan_create(NULL, problem, &plan));
    text_sink sink = {0};
    assert_ok(weir_plan_csv_write(csv, weir_plan_entries(plan, NULL), sink_write, &sink));
    assert_non_null(strstr(sink.bytes, "offset,id,lower,upper,size\n8,a,0,2,4\n"));
    weir_plan_csv_destroy(csv);

    // What was written is a plan of its own.
    const weir_plan_csv_desc again = {.bytes = sink.bytes, .byte_size = sink.length};
    assert_ok(weir_plan_csv_create(NULL, &again, &csv));
    assert_ok(weir_plan_csv_entries(csv, &entries));
    assert_ok(weir_plan_verify(NULL, weir_plan_csv_problem(csv), entries));
    for (uint32_t i = 0; i < 3; ++i) {
        assert_int_equal(entries[i].byte_offset, weir_plan_entries(plan, NULL)[i].byte_offset);
    }
    weir_plan_csv_destroy(csv);
    sink_free(&sink);
    weir_plan_destroy(plan);

    desc.ignore_offsets = true;
    assert_ok(weir_plan_csv_create(NULL, &desc, &csv));
    assert_int_equal(weir_plan_csv_problem(csv)->buffers[0].flags, 0);
    assert_status(weir_plan_csv_entries(csv, &entries), WEIR_NOT_FOUND);
    weir_plan_csv_destroy(csv);
}

static void a_column_end_holds_last_moments(void** state) {
    (void)state;
    const char text[] = "buffer,start,end,size,gaps\na,0,9,4,3-4\n";
    const weir_plan_csv_desc desc = {.bytes = text, .byte_size = sizeof text - 1};
    weir_plan_csv* csv = NULL;
    assert_ok(weir_plan_csv_create(NULL, &desc, &csv));
    const weir_plan_interval* lives = weir_plan_csv_problem(csv)->intervals;
    assert_int_equal(lives[0].end, 3);
    assert_int_equal(lives[1].begin, 5);
    assert_int_equal(lives[1].end, 10);
    weir_plan_csv_destroy(csv);
}

static void a_buffer_that_is_all_gap_never_lives(void** state) {
    (void)state;
    const char text[] = "id,lower,upper,size,gaps\na,0,9,4,0-5 5-9\nb,0,9,4,\n";
    const weir_plan_csv_desc desc = {.bytes = text, .byte_size = sizeof text - 1};
    weir_plan_csv* csv = NULL;
    weir_plan* plan = NULL;
    assert_ok(weir_plan_csv_create(NULL, &desc, &csv));
    assert_ok(weir_plan_create(NULL, weir_plan_csv_problem(csv), &plan));
    assert_int_equal(weir_plan_result_of(plan)->peak, 4);
    weir_plan_destroy(plan);
    weir_plan_csv_destroy(csv);
}

#define HEAD "id,lower,upper,size\n"

static void errors_name_line_and_column(void** state) {
    (void)state;
    static const struct {
        const char* text;
        const char* message;
    } cases[] = {
        {"", "t.csv: no header line"},
        {"\n \n", "t.csv: no header line"},
        {"id,lower,upper\n", "t.csv:1:1: no column 'size'"},
        {"lower,upper,size\n", "no column 'id'"},
        {"id,lower,upper,size,id\n", "t.csv:1:21: a second column 'id'"},
        {"id,lower,upper,size,begin\n", "t.csv:1:21: a second column 'begin'"},
        {"id,lower,upper,size,block\n", "no column 'offset'"},
        {HEAD "a,0,1\n", "t.csv:2:6: 3 fields, expected the 4"},
        {HEAD "a,0,1,2,3\n", "t.csv:2:9: more than the 4 fields"},
        {HEAD "a,0,1,2\nb,x,1,2\n", "t.csv:3:3: lower 'x'"},
        {HEAD "a,0,1,2\n\nb,0,,2\n", "t.csv:4:5: upper ''"},
        {HEAD "a,0,1,-2\n", "t.csv:2:7: size '-2'"},
        {HEAD "a,0,1,2.5\n", "size '2.5'"},
        {HEAD "a,0,1,0x10\n", "size '0x10'"},
        {HEAD "a,0,1,9223372036854775808\n", "size '9223372036854775808'"},
        {HEAD "a,-9223372036854775809,1,2\n", "lower '-9223372036854775809'"},
        {HEAD "a,3,2,2\n", "t.csv:2:5: upper 2"},
        {HEAD "a,0,1,\x01\xff\n", "size '?\?'"},
        {HEAD "a,0,1,2\nb,0,1,2\na,0,1,2\n", "t.csv:4:1: id 'a' is that of line 2"},
        {HEAD "longer one,0,1,2\nlonger one,0,1,2\n", "t.csv:3:1: id 'longer one'"},
        {"id,lower,end,size\na,0,9223372036854775807,2\n",
         "2:5: upper 9223372036854775807 ends the life before it begins, or passes 2^63"},
        {"id,lower,upper,size,alignment\na,0,1,2,0\n", "alignment '0'"},
        {"id,lower,upper,size,offset\na,0,1,2,-2\n", "offset '-2'"},
        {"id,lower,upper,size,offset,block\na,0,1,2,0,4294967296\n", "block 4294967296"},
        {"id,lower,upper,size,gaps\na,0,9,2,3\n", "t.csv:2:9: gaps '3'"},
        {"id,lower,upper,size,gaps\na,0,9,2,3-\n", "gaps '3-'"},
        {"id,lower,upper,size,gaps\na,0,9,2,3-4x\n", "gaps '3-4x'"},
        {"id,lower,upper,size,gaps\na,0,9,2,3-4 5\n", "t.csv:2:13: gaps '3-4 5'"},
        {"id,lower,upper,size,gaps\na,0,9,2,5-6 3-4\n", "what is left of the life, [6, 9)"},
        {"id,lower,upper,size,gaps\na,0,9,2,5-4\n", "gaps '5-4'"},
        {"id,lower,upper,size,gaps\na,0,9,2,5-10\n", "gaps '5-10'"},
        {"id,lower,upper,size,gaps\na,0,9,2,-1-3\n", "gaps '-1-3'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        assert_refused(cases[i].text, WEIR_BAD_FORMAT, cases[i].message);
    }
    assert_refused("id,lower,upper,size,gaps\na,0,9,2,3-4@0:1\n", WEIR_UNSUPPORTED,
                   "t.csv:2:9: gaps '3-4@0:1'");
}

static void the_whole_range_of_numbers_is_read(void** state) {
    (void)state;
    const char text[] =
        "\xEF\xBB\xBF" HEAD "a,-9223372036854775808,9223372036854775807,9223372036854775807\n";
    const weir_plan_csv_desc desc = {.bytes = text, .byte_size = sizeof text - 1};
    weir_plan_csv* csv = NULL;
    assert_ok(weir_plan_csv_create(NULL, &desc, &csv));
    const weir_plan_problem* problem = weir_plan_csv_problem(csv);
    assert_true(problem->intervals[0].begin == INT64_MIN);
    assert_true(problem->intervals[0].end == INT64_MAX);
    assert_true(problem->buffers[0].byte_size == INT64_MAX);
    weir_plan_csv_destroy(csv);
}

// A second mark, or one behind an empty line, is no part of a name either: what is written would be
// read as other columns than these.
static void marks_before_the_header_are_left_out(void** state) {
    (void)state;
    const char* const texts[] = {
        "\xEF\xBB\xBF\xEF\xBB\xBF" HEAD "a,0,1,8\n",
        "\n\xEF\xBB\xBF" HEAD "a,0,1,8\n",
        "\xEF\xBB\xBF\n\xEF\xBB\xBF" HEAD "a,0,1,8\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) {
        weir_plan_csv* csv = NULL;
        char* copy = NULL;
        assert_ok(parse(texts[i], strlen(texts[i]), &csv, &copy));
        assert_int_equal(weir_plan_csv_problem(csv)->buffer_count, 1);
        weir_plan_csv_destroy(csv);
        free(copy);
    }
    assert_refused("\xEF\xBB\xBF\xEF\xBB\xBFid,,id,lower,upper,size\n", WEIR_BAD_FORMAT, "'id'");
}

static void the_shortest_lines_find_room(void** state) {
    (void)state;
    char text[32 + 8 * 11] = "id,end,start,size";
    for (int id = '0'; id <= '9'; ++id) {
        const char line[] = {'\n', (char)id, ',', '0', ',', '0', ',', '0', '\0'};
        strcat(text, line);
    }
    weir_plan_csv* csv = NULL;
    char* copy = NULL;
    strcat(text, "\n,0,0,0");
    assert_ok(parse(text, strlen(text), &csv, &copy));
    assert_int_equal(weir_plan_csv_problem(csv)->buffer_count, 11);
    weir_plan_csv_destroy(csv);
    free(copy);
}

// Parses whatever it is, and where it is a problem plans nothing but reads all that was made.
static bool touch(const char* text, size_t length) {
    weir_plan_csv* csv = NULL;
    char* copy = NULL;
    const weir_status status = parse(text, length, &csv, &copy);
    if (status == WEIR_OK) {
        const weir_plan_problem* problem = weir_plan_csv_problem(csv);
        weir_plan_entry* entries = calloc(problem->buffer_count + 1u, sizeof *entries);
        const weir_plan_entry* read = NULL;
        assert_non_null(entries);
        text_sink sink = {0};
        assert_ok(weir_plan_csv_write(csv, entries, sink_write, &sink));
        assert_true(sink.length > 0);
        sink_free(&sink);
        if (weir_plan_csv_entries(csv, &read) == WEIR_OK && problem->buffer_count > 0) {
            memcpy(entries, read, problem->buffer_count * sizeof *entries);
        }
        free(entries);
    }
    weir_plan_csv_destroy(csv);
    free(copy);
    return status == WEIR_OK;
}

static const char fuzz_seed[] = "id,lower,upper,size,alignment,gaps,offset,block\n"
                                "b1,0,30,4,1,2-4 6-7,0,0\r\n"
                                "b2,-3,9,400000000000,8,,16,1\n"
                                "b3,0,9223372036854775807,4,4,0-9,-1,\n"
                                "b4,9,21,4,1,9-21,,7\n";

static void every_prefix_and_flipped_byte_is_read_or_refused(void** state) {
    (void)state;
    test_random random = {33};
    for (size_t length = 0; length < sizeof fuzz_seed; ++length) {
        touch(fuzz_seed, length);
    }
    int read = 0;
    const int rounds = 20000;
    for (int round = 0; round < rounds; ++round) {
        static const char likely[] = ",\n\r-0189 @:\"";
        char text[sizeof fuzz_seed];
        memcpy(text, fuzz_seed, sizeof text);
        for (uint64_t flips = 1 + random_below(&random, 3); flips > 0; --flips) {
            const uint64_t at = random_below(&random, sizeof text - 1);
            const bool any = random_below(&random, 2) == 1;
            text[at] = any ? (char)random_below(&random, 256)
                           : likely[random_below(&random, sizeof likely - 1)];
        }
        read += touch(text, sizeof text - 1);
    }
    assert_in_range(read, rounds / 50, rounds - rounds / 50);
}

static void each_failed_allocation_is_reported_and_leaks_nothing(void** state) {
    (void)state;
    const weir_plan_csv_desc desc = {.bytes = fuzz_seed, .byte_size = sizeof fuzz_seed - 1};
    weir_status status = WEIR_OUT_OF_MEMORY;
    size_t calls = 0;
    for (; status == WEIR_OUT_OF_MEMORY; ++calls) {
        test_allocator counter = {.fail_at = calls};
        const weir_allocator allocator = test_allocator_of(&counter);
        weir_plan_csv* csv = NULL;
        status = weir_plan_csv_create(&allocator, &desc, &csv);
        weir_plan_csv_destroy(csv);
        assert_int_equal(counter.live_blocks, 0);
    }
    assert_ok(status);
    assert_true(calls > 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_come_in_any_order),
        cmocka_unit_test(quoted_fields_are_read_without_their_quotes),
        cmocka_unit_test(offsets_are_added_and_the_rest_is_kept),
        cmocka_unit_test(offsets_of_the_text_are_fixed_or_ignored),
        cmocka_unit_test(a_column_end_holds_last_moments),
        cmocka_unit_test(a_buffer_that_is_all_gap_never_lives),
        cmocka_unit_test(errors_name_line_and_column),
        cmocka_unit_test(the_whole_range_of_numbers_is_read),
        cmocka_unit_test(marks_before_the_header_are_left_out),
        cmocka_unit_test(the_shortest_lines_find_room),
        cmocka_unit_test(every_prefix_and_flipped_byte_is_read_or_refused),
        cmocka_unit_test(each_failed_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
