#include "plan/plan_csv.h"

#include <string.h>

#include "base/array.h"
#include "plan/plan_text.h"

// What was read is kept as spans of the caller's text, so that its rows can be written back with
// nothing but the offsets changed: other columns, their order and the blanks in them belong to
// whoever wrote the file.

weir_status weir_plan_csv_create(const weir_allocator* allocator, const weir_plan_csv_desc* desc,
                                 weir_plan_csv** csv) {
    weir_plan_csv* made = NULL;
    WEIR_TRY(object_new(allocator, &made));
    if (allocator) {
        made->allocator = *allocator;
    }
    made->desc = *desc;
    made->desc.name = desc->name ? desc->name : "csv";
    // On failure the parts read so far are given back by the same path as on success.
    const weir_status status = plan_csv_read(made);
    if (status != WEIR_OK) {
        weir_plan_csv_destroy(made);
        return status;
    }
    made->problem = (weir_plan_problem){.buffers = made->buffers.items,
                                        .buffer_count = (uint32_t)made->buffers.count,
                                        .intervals = made->intervals.items,
                                        .interval_count = (uint32_t)made->intervals.count};
    *csv = made;
    return WEIR_OK;
}

void weir_plan_csv_destroy(weir_plan_csv* csv) {
    if (!csv) {
        return;
    }
    const weir_allocator allocator = csv->allocator;
    array_free(&allocator, &csv->rows);
    array_free(&allocator, &csv->buffers);
    array_free(&allocator, &csv->intervals);
    array_free(&allocator, &csv->entries);
    object_free(&allocator, csv);
}

const weir_plan_problem* weir_plan_csv_problem(const weir_plan_csv* csv) {
    return &csv->problem;
}

weir_status weir_plan_csv_entries(const weir_plan_csv* csv, const weir_plan_entry** entries) {
    if (csv->columns[CSV_OFFSET] == CSV_ABSENT || csv->desc.ignore_offsets) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "%s: no column 'offset'", csv->desc.name);
    }
    if (csv->first_free != WEIR_PLAN_NONE) {
        const csv_row* row = &csv->rows.items[csv->first_free];
        return WEIR_FAIL(WEIR_NOT_FOUND, "%s:%zu: no offset", csv->desc.name,
                         plan_csv_line_of(csv, row->line.at));
    }
    *entries = csv->entries.items;
    return WEIR_OK;
}

const char* weir_plan_csv_id(const void* csv, uint32_t buffer, size_t* length) {
    const csv_span id = ((const weir_plan_csv*)csv)->rows.items[buffer].id;
    *length = id.length;
    return id.at;
}

// One line with the fields of the plan replaced, or added behind it. The header has no entry.
static void write_line(plan_text* text, const weir_plan_csv* csv, csv_span line,
                       const weir_plan_entry* entry, bool with_block) {
    csv_span field;
    for (size_t i = 0; plan_csv_next_field(&line, &field); ++i) {
        if (i > 0) {
            plan_text_string(text, ",");
        }
        if (entry && i == csv->columns[CSV_OFFSET]) {
            plan_text_u64(text, entry->byte_offset);
        } else if (entry && i == csv->columns[CSV_BLOCK]) {
            plan_text_u64(text, entry->block);
        } else {
            plan_text_bytes(text, field.at, field.length);
        }
    }
    const bool add[2] = {csv->columns[CSV_OFFSET] == CSV_ABSENT,
                         with_block && csv->columns[CSV_BLOCK] == CSV_ABSENT};
    for (int i = 0; i < 2; ++i) {
        if (add[i]) {
            plan_text_string(text, ",");
            if (entry) {
                plan_text_u64(text, i == 0 ? entry->byte_offset : entry->block);
            } else {
                plan_text_string(text, i == 0 ? "offset" : "block");
            }
        }
    }
    plan_text_string(text, "\n");
}

weir_status weir_plan_csv_write(const weir_plan_csv* csv, const weir_plan_entry* entries,
                                weir_plan_write_fn write, void* context) {
    plan_text text = {.write = write, .context = context};
    // A plan in one block is written without a column of blocks, for readers that know none.
    bool with_block = false;
    for (size_t i = 0; i < csv->rows.count; ++i) {
        with_block |= entries[i].block > 0;
    }
    write_line(&text, csv, csv->header, NULL, with_block);
    for (size_t i = 0; i < csv->rows.count; ++i) {
        write_line(&text, csv, csv->rows.items[i].line, &entries[i], with_block);
    }
    return plan_text_finish(&text);
}
