// Planning problems and plans as CSV, in the format of MiniMalloc (Moffitt 2023).
//
// The first line names the columns, in any order; each further line is one buffer:
//     id         any text without line break; no two buffers have the same
//     lower      first moment of its life; also called begin or start
//     upper      first moment after it; or, as column end, its last moment
//     size       bytes
//     alignment  optional: of the offset, in bytes
//     gaps       optional: times within the life when the bytes are free, as "3-5 8-9"; where there
//                is a column end, the second number of each is the last moment
//     offset     optional: where the buffer lies; empty or -1 where it is free
//     block      optional, with offset: number of its block, where there are several
// Other columns are kept and not read. Blank lines, and blanks round a number, are allowed; a field
// may stand in quotes, with commas in it and quotes doubled (RFC 4180), but not across lines.
//
//     weir_plan_csv_create(NULL, &(weir_plan_csv_desc){.name = "a.csv", ...}, &csv);
//     weir_plan_create(NULL, weir_plan_csv_problem(csv), &plan);
//     weir_plan_csv_write(csv, weir_plan_entries(plan, NULL), write, context);
#ifndef WEIR_PLAN_CSV_H
#define WEIR_PLAN_CSV_H

#include <weir/plan_report.h>

WEIR_C_BEGIN

typedef struct weir_plan_csv weir_plan_csv;

typedef struct weir_plan_csv_desc {
    const char* name;  // stands before line and column in messages; NULL: "csv"
    const char* bytes; // the text, not terminated; must outlive the object
    size_t byte_size;
    bool ignore_offsets; // offsets and blocks in the text are neither read nor kept
} weir_plan_csv_desc;

// Reads a text, which may be anything.
//
// Ownership: the caller destroys the object, which points into the text.
// Errors:    WEIR_BAD_FORMAT, with line and column; WEIR_OUT_OF_RANGE more buffers or intervals
//            than a problem holds; WEIR_UNSUPPORTED gaps that keep a part of the bytes ("@");
//            WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_plan_csv_create(const weir_allocator* allocator,
                                                        const weir_plan_csv_desc* desc,
                                                        weir_plan_csv** csv);

// Destroys the object; NULL is a no-op.
//
// Threads: thread-compatible.
WEIR_API void weir_plan_csv_destroy(weir_plan_csv* csv);

// Returns the buffers in the order of the lines, with all other fields of the problem zero. A
// buffer with an offset is fixed there, in whichever block: those of the text are no part of it.
//
// Ownership: belongs to the object; a copy may be changed, and is valid as long.
// Threads:   thread-safe.
WEIR_API const weir_plan_problem* weir_plan_csv_problem(const weir_plan_csv* csv);

// Gives the plan that the text holds, with one entry per buffer, for weir_plan_verify.
//
// Ownership: belongs to the object.
// Errors:    WEIR_NOT_FOUND a buffer has no offset.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_plan_csv_entries(const weir_plan_csv* csv,
                                                         const weir_plan_entry** entries);

// Returns the id of a buffer, which is not terminated; a weir_plan_id_fn for reports, with the
// object as its context. Of one in quotes what stands between them, doubled quotes as they are.
//
// Ownership: belongs to the text.
// Threads:   thread-safe.
WEIR_API const char* weir_plan_csv_id(const void* csv, uint32_t buffer, size_t* length);

// Writes the text with the offsets of a plan: in the column that it has for them, or in a new one
// at the end. All other fields are written as they were read; lines end with LF, and blank ones and
// a byte order mark are left out. Blocks are written where the text has a column for them, or an
// entry lies in another than the first.
//
// Errors:  WEIR_IO `write` returned false.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_plan_csv_write(const weir_plan_csv* csv,
                                                       const weir_plan_entry* entries,
                                                       weir_plan_write_fn write, void* context);

WEIR_C_END

#endif
