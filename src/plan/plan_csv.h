// What reading and writing of CSV share.
#ifndef WEIR_SRC_PLAN_CSV_H
#define WEIR_SRC_PLAN_CSV_H

#include <weir/plan_csv.h>

typedef enum csv_column {
    CSV_ID,
    CSV_LOWER,
    CSV_UPPER,
    CSV_SIZE,
    CSV_ALIGNMENT,
    CSV_GAPS,
    CSV_OFFSET,
    CSV_BLOCK,
    CSV_COLUMN_COUNT,
} csv_column;

#define CSV_ABSENT SIZE_MAX

// A part of the text; a line without its break, or a field.
typedef struct csv_span {
    const char* at;
    size_t length;
} csv_span;

typedef struct csv_row {
    csv_span line;
    csv_span id;
} csv_row;

struct weir_plan_csv {
    weir_allocator allocator;
    weir_plan_csv_desc desc;
    csv_span header;
    size_t columns[CSV_COLUMN_COUNT]; // number of its field in a line, or CSV_ABSENT
    size_t field_count;               // of each line
    bool last_moments;                // ends are moments of life: the column is "end"
    uint32_t first_free;              // the first buffer without offset, or WEIR_PLAN_NONE
    struct {
        csv_row* items;
        size_t count, capacity;
    } rows;
    struct {
        weir_plan_buffer* items;
        size_t count, capacity;
    } buffers;
    struct {
        weir_plan_interval* items;
        size_t count, capacity;
    } intervals;
    struct {
        weir_plan_entry* items;
        size_t count, capacity;
    } entries; // none where the text has no offsets
    weir_plan_problem problem;
};

// Takes the next line or field off the front of `rest`; false when there is none. The last field
// ends with the line: a line without comma is one field.
bool plan_csv_next_line(csv_span* rest, csv_span* line);
bool plan_csv_next_field(csv_span* rest, csv_span* field);

// Fills everything but the allocator and the description. What was taken stays in the object on
// failure.
WEIR_MUST_USE weir_status plan_csv_read(weir_plan_csv* csv);

// Line of a place in the text, from 1.
size_t plan_csv_line_of(const weir_plan_csv* csv, const char* at);

#endif
