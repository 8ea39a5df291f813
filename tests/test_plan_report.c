#include "plan_text_sink.h"
#include "testing_allocator.h"

typedef struct report_case {
    weir_plan_buffer buffers[5];
    weir_plan_interval intervals[6];
    weir_plan_entry entries[5];
    weir_plan_problem problem;
    weir_plan_report report;
} report_case;

static const char* name_buffer(const void* context, uint32_t buffer, size_t* length) {
    const char* const* names = context;
    *length = strlen(names[buffer]);
    return names[buffer];
}

static const char* const names[5] = {"a<b>", "\"q\"&", "\xC3\xA9\xFF", "t\tn\n", "x\\"};

// Buffer 0 has a gap, 3 is placed on 1, 4 is an alias within 2.
static void make_case(report_case* made) {
    *made = (report_case){
        .buffers = {{.byte_size = 1024, .interval_begin = 0, .interval_count = 2},
                    {.byte_size = 512, .interval_begin = 2, .interval_count = 1},
                    {.byte_size = 1536},
                    {.byte_size = 512, .interval_begin = 3, .interval_count = 1},
                    {.byte_size = 12, .flags = WEIR_PLAN_ALIAS, .alias_of = 2}},
        .intervals = {{0, 2}, {6, 10}, {2, 6}, {5, 10}},
        .entries = {{.byte_offset = 0, .byte_size = 1024, .placed_on = WEIR_PLAN_NONE},
                    {.byte_offset = 1024, .byte_size = 512, .placed_on = WEIR_PLAN_NONE},
                    {.byte_offset = 1536, .byte_size = 1536, .placed_on = WEIR_PLAN_NONE},
                    {.byte_offset = 1024, .byte_size = 512, .placed_on = 1},
                    {.byte_offset = 1536, .byte_size = 12, .placed_on = WEIR_PLAN_NONE}},
    };
    made->problem = (weir_plan_problem){.buffers = made->buffers,
                                        .buffer_count = 5,
                                        .intervals = made->intervals,
                                        .interval_count = 4};
    made->report = (weir_plan_report){
        .problem = &made->problem,
        .entries = made->entries,
        .result = {.peak = 3072, .lower_bound = 2560, .total = 4608, .in_place = 1, .blocks = 1},
        .id = name_buffer,
        .id_context = names,
        .duration_ns = 1000000042};
}

static void the_map_shows_what_lies_where(void** state) {
    (void)state;
    report_case made;
    text_sink sink = {0};
    make_case(&made);
    assert_ok(weir_plan_report_map(NULL, &made.report, sink_write, &sink));
    assert_string_equal(
        sink.bytes,
        "pool 0, block 0: 4 buffers, 3072 bytes, 60 per cell, 4 of 4 moments\n"
        "         0 aaaaaaaaaaaaaaaaaa........cccccccccccccccccccccccccc          2.5 KiB\n"
        "         2 .................bbbbbbbbbcccccccccccccccccccccccccc          2.0 KiB\n"
        "         5 .................bbbbbbbbbcccccccccccccccccccccccccc          2.5 KiB\n"
        "         6 aaaaaaaaaaaaaaaaadddddddddcccccccccccccccccccccccccc          3.0 KiB\n");
    sink_free(&sink);
}

static void the_map_shows_bytes_that_two_hold(void** state) {
    (void)state;
    report_case made;
    text_sink sink = {0};
    make_case(&made);
    made.entries[2].byte_offset = 1000;
    made.entries[3].placed_on = WEIR_PLAN_NONE;
    assert_ok(weir_plan_report_map(NULL, &made.report, sink_write, &sink));
    const char* line = strstr(sink.bytes, "\n         0 ");
    assert_non_null(line);
    assert_true(strchr(line, '!') < strchr(line + 1, '\n'));
    line = strstr(sink.bytes, "\n         5 ");
    assert_non_null(line);
    assert_true(strchr(line, '!') < strchr(line + 1, '\n'));
    sink_free(&sink);
}

// 1000 buffers, one after the other, of which one is large: the line of its share shows it.
static void a_long_map_keeps_the_peak(void** state) {
    (void)state;
    enum { COUNT = 1000 };
    static weir_plan_buffer buffers[COUNT];
    static weir_plan_interval intervals[COUNT];
    static weir_plan_entry entries[COUNT];
    for (uint32_t i = 0; i < COUNT; ++i) {
        const uint64_t byte_size = i == 777 ? 1u << 20 : 1024;
        buffers[i] =
            (weir_plan_buffer){.byte_size = byte_size, .interval_begin = i, .interval_count = 1};
        intervals[i] = (weir_plan_interval){i, i + 1};
        entries[i] = (weir_plan_entry){.byte_size = byte_size, .placed_on = WEIR_PLAN_NONE};
    }
    const weir_plan_problem problem = {
        .buffers = buffers, .buffer_count = COUNT, .intervals = intervals, .interval_count = COUNT};
    const weir_plan_report report = {.problem = &problem, .entries = entries, .map_lines = 10};
    text_sink sink = {0};
    assert_ok(weir_plan_report_map(NULL, &report, sink_write, &sink));
    assert_non_null(strstr(sink.bytes, "10 of 1000 moments\n"));
    assert_non_null(strstr(sink.bytes, "\n       777 "));
    assert_non_null(strstr(sink.bytes, "      1024.0 KiB\n"));
    size_t lines = 0;
    for (size_t i = 0; i < sink.length; ++i) {
        lines += sink.bytes[i] == '\n';
    }
    assert_int_equal(lines, 11);
    sink_free(&sink);
}

static void the_drawing_has_a_box_per_life(void** state) {
    (void)state;
    report_case made;
    text_sink sink = {0};
    make_case(&made);
    assert_ok(weir_plan_report_svg(NULL, &made.report, sink_write, &sink));
    assert_string_equal(
        sink.bytes,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" width=\"1240\" height=\"800\" "
        "viewBox=\"-200 -400 10400 6600\">\n"
        "<text x=\"0\" y=\"-120\" font-family=\"sans-serif\" font-size=\"180\">"
        "5 buffers, peak 3072 bytes, lower bound 2560</text>\n"
        "<rect width=\"10000\" height=\"6000\" fill=\"#f4f4f4\"/>\n"
        "<g stroke=\"#444\" stroke-width=\"4\">\n"
        "<rect x=\"0\" y=\"4000\" width=\"2000\" height=\"2000\" fill=\"#8dd3c7\">"
        "<title>a&lt;b&gt;: 1024 bytes at 0, [0, 2)</title></rect>\n"
        "<rect x=\"6000\" y=\"4000\" width=\"4000\" height=\"2000\" fill=\"#8dd3c7\">"
        "<title>a&lt;b&gt;: 1024 bytes at 0, [6, 10)</title></rect>\n"
        "<rect x=\"2000\" y=\"3000\" width=\"4000\" height=\"1000\" fill=\"#ffe082\">"
        "<title>\"q\"&amp;: 512 bytes at 1024, [2, 6)</title></rect>\n"
        "<rect x=\"5000\" y=\"3000\" width=\"5000\" height=\"1000\" fill=\"#fb8072\">"
        "<title>t\tn\xEF\xBF\xBD: 512 bytes at 1024, [5, 10)</title></rect>\n"
        "<rect x=\"0\" y=\"0\" width=\"10000\" height=\"3000\" fill=\"#bebada\">"
        "<title>\xC3\xA9\xEF\xBF\xBD: 1536 bytes at 1536, [0, 10)</title></rect>\n"
        "</g>\n"
        "<line x1=\"0\" y1=\"0\" x2=\"10000\" y2=\"0\" stroke=\"#c00\" stroke-width=\"12\">"
        "<title>peak: 3072 bytes</title></line>\n"
        "<line x1=\"0\" y1=\"1000\" x2=\"10000\" y2=\"1000\" stroke=\"#06c\" stroke-width=\"12\">"
        "<title>lower bound: 2560 bytes</title></line>\n"
        "</svg>\n");
    sink_free(&sink);
}

static void json_escapes_what_it_must(void** state) {
    (void)state;
    report_case made;
    text_sink sink = {0};
    make_case(&made);
    assert_ok(weir_plan_report_json(&made.report, sink_write, &sink));
    assert_string_equal(
        sink.bytes,
        "{\"peak\": 3072, \"lower_bound\": 2560, \"optimal\": false, \"seconds\": 1.000000042, "
        "\"total\": 4608, \"penalty\": 0, \"blocks\": 1, \"buffers\": 5, \"in_place\": 1, "
        "\"entries\": ["
        "{\"id\": \"a<b>\", \"offset\": 0, \"size\": 1024, \"pool\": 0, \"block\": 0, "
        "\"on\": null}, "
        "{\"id\": \"\\\"q\\\"&\", \"offset\": 1024, \"size\": 512, \"pool\": 0, \"block\": 0, "
        "\"on\": null}, "
        "{\"id\": \"\xC3\xA9\\ufffd\", \"offset\": 1536, \"size\": 1536, \"pool\": 0, "
        "\"block\": 0, \"on\": null}, "
        "{\"id\": \"t\\u0009n\\u000a\", \"offset\": 1024, \"size\": 512, \"pool\": 0, "
        "\"block\": 0, \"on\": \"\\\"q\\\"&\"}, "
        "{\"id\": \"x\\\\\", \"offset\": 1536, \"size\": 12, \"pool\": 0, \"block\": 0, "
        "\"on\": null}]}\n");
    sink_free(&sink);
    made.report.id = NULL;
    made.report.figures_only = true;
    made.report.result.optimal = true;
    made.report.duration_ns = 0;
    assert_ok(weir_plan_report_json(&made.report, sink_write, &sink));
    assert_non_null(strstr(sink.bytes, "\"optimal\": true, \"seconds\": null, "));
    assert_non_null(strstr(sink.bytes, "\"in_place\": 1}\n"));
    sink_free(&sink);
}

static void what_cannot_be_drawn_is_refused(void** state) {
    (void)state;
    report_case made;
    const uint64_t order[5] = {0};
    text_sink sink = {.room = 20};
    make_case(&made);
    assert_status(weir_plan_report_map(NULL, &made.report, sink_write, &sink), WEIR_IO);
    assert_status(weir_plan_report_svg(NULL, &made.report, sink_write, &sink), WEIR_IO);
    assert_status(weir_plan_report_json(&made.report, sink_write, &sink), WEIR_IO);
    made.problem.precedes = order;
    assert_status(weir_plan_report_map(NULL, &made.report, sink_write, &sink), WEIR_UNSUPPORTED);
    made.problem.precedes = NULL;
    made.entries[0].byte_offset = INT64_MAX;
    assert_status(weir_plan_report_svg(NULL, &made.report, sink_write, &sink),
                  WEIR_INVALID_ARGUMENT);
    made.entries[0].byte_offset = 0;
    made.problem.interval_count = 3;
    assert_status(weir_plan_report_svg(NULL, &made.report, sink_write, &sink),
                  WEIR_INVALID_ARGUMENT);
    sink_free(&sink);
}

static void plans_of_any_size_and_time_are_drawn(void** state) {
    (void)state;
    report_case made;
    text_sink sink = {0};
    make_case(&made);
    made.intervals[0] = (weir_plan_interval){INT64_MIN, INT64_MAX};
    made.entries[0].byte_size = INT64_MAX;
    assert_ok(weir_plan_report_map(NULL, &made.report, sink_write, &sink));
    assert_ok(weir_plan_report_svg(NULL, &made.report, sink_write, &sink));
    assert_non_null(strstr(sink.bytes, "<rect x=\"0\" y=\"0\" width=\"10000\" height=\"6000\""));
    sink_free(&sink);
    // Nothing at all, and one byte.
    made.problem.buffer_count = 0;
    assert_ok(weir_plan_report_svg(NULL, &made.report, sink_write, &sink));
    assert_ok(weir_plan_report_map(NULL, &made.report, sink_write, &sink));
    assert_ok(weir_plan_report_json(&made.report, sink_write, &sink));
    assert_non_null(strstr(sink.bytes, "\"entries\": []}"));
    sink_free(&sink);
    made.problem.buffer_count = 1;
    made.entries[0].byte_size = 1;
    assert_ok(weir_plan_report_map(NULL, &made.report, sink_write, &sink));
    assert_non_null(strstr(sink.bytes, " a          "));
    sink_free(&sink);
}

static void blocks_and_pools_are_drawn_apart(void** state) {
    (void)state;
    report_case made;
    text_sink sink = {0};
    make_case(&made);
    made.problem.buffer_count = 3;
    made.entries[1].byte_offset = 0;
    made.entries[1].block = 1;
    made.entries[2].byte_offset = 0;
    made.entries[2].pool = 7;
    assert_ok(weir_plan_report_map(NULL, &made.report, sink_write, &sink));
    assert_non_null(strstr(sink.bytes, "pool 0, block 0: 1 buffers, 1024 bytes"));
    assert_non_null(strstr(sink.bytes, "pool 0, block 1: 1 buffers, 512 bytes"));
    assert_non_null(strstr(sink.bytes, "pool 7, block 0: 1 buffers, 1536 bytes"));
    assert_null(strchr(sink.bytes, '!'));
    sink_free(&sink);
    assert_ok(weir_plan_report_svg(NULL, &made.report, sink_write, &sink));
    // 1024, 512 and 1536 of 3072 bytes, on each other.
    assert_non_null(strstr(sink.bytes, "y=\"4000\" width=\"2000\" height=\"2000\""));
    assert_non_null(strstr(sink.bytes, "y=\"3000\" width=\"4000\" height=\"1000\""));
    assert_non_null(strstr(sink.bytes, "y=\"0\" width=\"10000\" height=\"3000\""));
    sink_free(&sink);
}

static void each_failed_allocation_is_reported_and_leaks_nothing(void** state) {
    (void)state;
    report_case made;
    make_case(&made);
    for (int kind = 0; kind < 2; ++kind) {
        weir_status status = WEIR_OUT_OF_MEMORY;
        size_t calls = 0;
        for (; status == WEIR_OUT_OF_MEMORY; ++calls) {
            test_allocator counter = {.fail_at = calls};
            const weir_allocator allocator = test_allocator_of(&counter);
            text_sink sink = {0};
            status = kind == 0 ? weir_plan_report_map(&allocator, &made.report, sink_write, &sink)
                               : weir_plan_report_svg(&allocator, &made.report, sink_write, &sink);
            assert_int_equal(counter.live_blocks, 0);
            sink_free(&sink);
        }
        assert_ok(status);
        assert_true(calls > 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_map_shows_what_lies_where),
        cmocka_unit_test(the_map_shows_bytes_that_two_hold),
        cmocka_unit_test(a_long_map_keeps_the_peak),
        cmocka_unit_test(the_drawing_has_a_box_per_life),
        cmocka_unit_test(json_escapes_what_it_must),
        cmocka_unit_test(what_cannot_be_drawn_is_refused),
        cmocka_unit_test(plans_of_any_size_and_time_are_drawn),
        cmocka_unit_test(blocks_and_pools_are_drawn_apart),
        cmocka_unit_test(each_failed_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
