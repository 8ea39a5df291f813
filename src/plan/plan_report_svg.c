#include <string.h>

#include "plan/plan_layout.h"
#include "plan/plan_text.h"

// Time runs to the right and bytes upwards; pools and blocks stand on each other. A box is one life
// of one buffer, so what is in place or wrong shows as boxes that cover each other. Coordinates are
// whole numbers, for a decimal point of printf depends on the locale; the picture is stretched to
// them, however long the clock and large the bytes.

#define WIDTH 10000
#define HEIGHT 6000

typedef struct drawing {
    const plan_layout* layout;
    plan_text* text;
    uint64_t span;  // of the clock
    uint64_t total; // bytes of all blocks, >= 1
} drawing;

// Text of an element (XML 1.0): what no document may hold becomes U+FFFD.
static void write_escaped(plan_text* text, const char* bytes, size_t length) {
    static const char replacement[] = "\xEF\xBF\xBD";
    while (length > 0) {
        size_t step = plan_text_character(bytes, length);
        const bool is_no_character = step == 3 && (memcmp(bytes, "\xEF\xBF\xBE", 3) == 0 ||
                                                   memcmp(bytes, "\xEF\xBF\xBF", 3) == 0);
        const bool is_control = (unsigned char)*bytes < ' ' && *bytes != '\t';
        if (step == 0 || is_no_character || is_control) {
            plan_text_string(text, replacement);
            step = step > 0 ? step : 1;
        } else if (*bytes == '&') {
            plan_text_string(text, "&amp;");
        } else if (*bytes == '<') {
            plan_text_string(text, "&lt;");
        } else if (*bytes == '>') {
            plan_text_string(text, "&gt;");
        } else {
            plan_text_bytes(text, bytes, step);
        }
        bytes += step;
        length -= step;
    }
}

// Distances on a clock of 64 bits need the sign bit too.
static uint64_t x_of(const drawing* draw, int64_t time) {
    const uint64_t passed = (uint64_t)time - (uint64_t)draw->layout->clock_begin;
    return plan_layout_scale(WIDTH, passed, draw->span);
}

static uint64_t y_of(const drawing* draw, uint64_t byte) {
    return HEIGHT - plan_layout_scale(HEIGHT, byte < draw->total ? byte : draw->total, draw->total);
}

static void write_title(const drawing* draw, const plan_box* box, weir_plan_interval life) {
    const weir_plan_report* report = draw->layout->report;
    plan_text_string(draw->text, "<title>");
    if (report->id) {
        size_t length = 0;
        const char* id = report->id(report->id_context, box->buffer, &length);
        write_escaped(draw->text, id, length);
    } else {
        plan_text_u64(draw->text, box->buffer);
    }
    plan_text_format(draw->text, ": %llu bytes at %llu, [%lld, %lld)</title>",
                     (unsigned long long)(box->end - box->begin), (unsigned long long)box->begin,
                     (long long)life.begin, (long long)life.end);
}

// Everything has at least one unit of width and height.
static void write_box(const drawing* draw, const plan_box* box, uint64_t base) {
    static const char* const colours[] = {
        "#8dd3c7", "#ffe082", "#bebada", "#fb8072", "#80b1d3", "#fdb462",
        "#b3de69", "#fccde5", "#bc80bd", "#c5e1a5", "#90caf9", "#d7a98c",
    };
    const size_t colour = box->buffer % (sizeof colours / sizeof *colours);
    const uint64_t top = y_of(draw, base + box->end);
    const uint64_t height = y_of(draw, base + box->begin) - top;
    for (uint32_t i = 0; i < plan_layout_lives(draw->layout, box->buffer); ++i) {
        const weir_plan_interval life = plan_layout_life(draw->layout, box->buffer, i);
        if (life.begin < life.end) {
            const uint64_t left = x_of(draw, life.begin);
            const uint64_t width = x_of(draw, life.end) - left;
            plan_text_format(draw->text,
                             "<rect x=\"%llu\" y=\"%llu\" width=\"%llu\" height=\"%llu\" "
                             "fill=\"%s\">",
                             (unsigned long long)left, (unsigned long long)top,
                             (unsigned long long)(width > 0 ? width : 1),
                             (unsigned long long)(height > 0 ? height : 1), colours[colour]);
            write_title(draw, box, life);
            plan_text_string(draw->text, "</rect>\n");
        }
    }
}

static void write_mark(const drawing* draw, uint64_t bytes, const char* what, const char* colour) {
    const unsigned long long y = y_of(draw, bytes);
    plan_text_format(draw->text,
                     "<line x1=\"0\" y1=\"%llu\" x2=\"%d\" y2=\"%llu\" stroke=\"%s\" "
                     "stroke-width=\"12\"><title>%s: %llu bytes</title></line>\n",
                     y, WIDTH, y, colour, what, (unsigned long long)bytes);
}

static void write_head(const drawing* draw) {
    const weir_plan_report* report = draw->layout->report;
    plan_text_format(draw->text,
                     "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" width=\"1240\" "
                     "height=\"800\" viewBox=\"-200 -400 %d %d\">\n",
                     WIDTH + 400, HEIGHT + 600);
    plan_text_format(draw->text,
                     "<text x=\"0\" y=\"-120\" font-family=\"sans-serif\" font-size=\"180\">"
                     "%u buffers, peak %llu bytes, lower bound %llu%s</text>\n",
                     report->problem->buffer_count, (unsigned long long)report->result.peak,
                     (unsigned long long)report->result.lower_bound,
                     report->result.optimal ? ", optimal" : "");
    plan_text_format(draw->text, "<rect width=\"%d\" height=\"%d\" fill=\"#f4f4f4\"/>\n", WIDTH,
                     HEIGHT);
    plan_text_string(draw->text, "<g stroke=\"#444\" stroke-width=\"4\">\n");
}

static void draw_plan(const drawing* draw) {
    uint64_t base = 0;
    uint32_t count = 0;
    write_head(draw);
    for (uint32_t first = 0; first < draw->layout->count; first += count) {
        uint64_t byte_size = 0;
        count = plan_layout_block(draw->layout, first, &byte_size);
        for (uint32_t i = first; i < first + count; ++i) {
            write_box(draw, &draw->layout->boxes[i], base);
        }
        base += byte_size;
    }
    plan_text_string(draw->text, "</g>\n");
    write_mark(draw, draw->layout->report->result.peak, "peak", "#c00");
    if (draw->layout->report->result.lower_bound > 0) {
        write_mark(draw, draw->layout->report->result.lower_bound, "lower bound", "#06c");
    }
    plan_text_string(draw->text, "</svg>\n");
}

static weir_status sum_blocks(const plan_layout* layout, uint64_t* total) {
    uint32_t count = 0;
    *total = 0;
    for (uint32_t first = 0; first < layout->count; first += count) {
        uint64_t byte_size = 0;
        count = plan_layout_block(layout, first, &byte_size);
        if (byte_size > INT64_MAX - *total) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "the blocks sum to more than 2^63 - 1 bytes");
        }
        *total += byte_size;
    }
    *total = *total > 0 ? *total : 1;
    return WEIR_OK;
}

weir_status weir_plan_report_svg(const weir_allocator* allocator, const weir_plan_report* report,
                                 weir_plan_write_fn write, void* context) {
    plan_text text = {.write = write, .context = context};
    plan_layout layout;
    WEIR_TRY(plan_layout_make(allocator, report, &layout));
    drawing draw = {.layout = &layout,
                    .text = &text,
                    .span = (uint64_t)layout.clock_end - (uint64_t)layout.clock_begin};
    weir_status status = sum_blocks(&layout, &draw.total);
    if (status == WEIR_OK) {
        draw_plan(&draw);
        status = plan_text_finish(&text);
    }
    plan_layout_free(&layout);
    return status;
}
