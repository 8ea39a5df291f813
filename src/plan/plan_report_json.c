#include "plan/plan_text.h"

// One object on one line, for scripts: figures first, entries last, since readers that stop early
// want the former. Numbers are whole, and the time is put together from whole parts, so that no
// locale changes the decimal point.

static void write_number(plan_text* text, const char* key, uint64_t number) {
    plan_text_key(text, key);
    plan_text_u64(text, number);
}

static void write_id(plan_text* text, const weir_plan_report* report, uint32_t buffer) {
    if (!report->id) {
        plan_text_u64(text, buffer);
        return;
    }
    size_t length = 0;
    const char* id = report->id(report->id_context, buffer, &length);
    plan_text_quoted(text, id, length);
}

static void write_figures(plan_text* text, const weir_plan_report* report) {
    const weir_plan_result* result = &report->result;
    const struct {
        const char* key;
        uint64_t number;
    } numbers[] = {
        {"total", result->total},       {"penalty", result->penalty},
        {"blocks", result->blocks},     {"buffers", report->problem->buffer_count},
        {"in_place", result->in_place},
    };
    write_number(text, "peak", result->peak);
    plan_text_string(text, ", ");
    write_number(text, "lower_bound", result->lower_bound);
    plan_text_string(text, ", ");
    plan_text_key(text, "optimal");
    plan_text_string(text, result->optimal ? "true, " : "false, ");
    plan_text_key(text, "seconds");
    if (report->duration_ns > 0) {
        // In whole numbers: a decimal point of printf depends on the locale.
        plan_text_format(text, "%llu.%09llu",
                         (unsigned long long)(report->duration_ns / 1000000000u),
                         (unsigned long long)(report->duration_ns % 1000000000u));
    } else {
        plan_text_string(text, "null");
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; ++i) {
        plan_text_string(text, ", ");
        write_number(text, numbers[i].key, numbers[i].number);
    }
}

static void write_entry(plan_text* text, const weir_plan_report* report, uint32_t buffer) {
    const weir_plan_entry* entry = &report->entries[buffer];
    plan_text_string(text, buffer > 0 ? ", {" : "{");
    plan_text_key(text, "id");
    write_id(text, report, buffer);
    plan_text_string(text, ", ");
    write_number(text, "offset", entry->byte_offset);
    plan_text_string(text, ", ");
    write_number(text, "size", entry->byte_size);
    plan_text_string(text, ", ");
    write_number(text, "pool", entry->pool);
    plan_text_string(text, ", ");
    write_number(text, "block", entry->block);
    plan_text_string(text, ", ");
    plan_text_key(text, "on");
    if (entry->placed_on < report->problem->buffer_count) {
        write_id(text, report, entry->placed_on);
    } else {
        plan_text_string(text, "null");
    }
    plan_text_string(text, "}");
}

weir_status weir_plan_report_json(const weir_plan_report* report, weir_plan_write_fn write,
                                  void* context) {
    plan_text text = {.write = write, .context = context};
    plan_text_string(&text, "{");
    write_figures(&text, report);
    if (!report->figures_only) {
        plan_text_string(&text, ", \"entries\": [");
        for (uint32_t i = 0; i < report->problem->buffer_count; ++i) {
            write_entry(&text, report, i);
        }
        plan_text_string(&text, "]");
    }
    plan_text_string(&text, "}\n");
    return plan_text_finish(&text);
}
