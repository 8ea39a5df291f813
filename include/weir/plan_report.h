// Plans to look at: as a text map, as a drawing (SVG), and as JSON.
//
// A report is written piece by piece to a function of the caller. Map and drawing need a clock and
// hence intervals; JSON tells of any plan.
//
//     weir_plan_report report = {.problem = &problem,
//                                .entries = weir_plan_entries(plan, NULL),
//                                .result = *weir_plan_result_of(plan)};
//     weir_plan_report_map(NULL, &report, write_to_file, file);
#ifndef WEIR_PLAN_REPORT_H
#define WEIR_PLAN_REPORT_H

#include <weir/plan.h>

WEIR_C_BEGIN

// Takes `length` bytes of a text; returning false ends the writing.
typedef bool (*weir_plan_write_fn)(void* context, const char* bytes, size_t length);

// Returns the name of a buffer: `length` bytes, which may be anything.
typedef const char* (*weir_plan_id_fn)(const void* context, uint32_t buffer, size_t* length);

typedef struct weir_plan_report {
    const weir_plan_problem* problem;
    const weir_plan_entry* entries; // one per buffer
    weir_plan_result result;
    weir_plan_id_fn id; // NULL: buffers are named by their number
    const void* id_context;
    uint64_t duration_ns; // what planning took, for the JSON; 0: not known
    bool figures_only;    // the JSON holds no entries
    uint32_t map_lines;   // at most so many lines of time; 0 = 64
} weir_plan_report;

// Writes a map of 80 columns: time goes down, the bytes of a block go from left to right. Each line
// shows one moment, the one with the most live bytes of those that share the line: '.' is free, a
// letter or digit is the buffer that holds most of a cell, '!' is a byte that two buffers hold, and
// the number at the end is what is live. Aliases are part of their root.
//
// Errors:  WEIR_INVALID_ARGUMENT an entry that passes 2^63 - 1, or intervals that are not there;
//          WEIR_UNSUPPORTED a partial order; WEIR_IO `write` returned false; WEIR_OUT_OF_MEMORY.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_plan_report_map(const weir_allocator* allocator,
                                                        const weir_plan_report* report,
                                                        weir_plan_write_fn write, void* context);

// Writes a drawing in SVG 1.1: time goes to the right, offsets go up, blocks stand on each other;
// a rectangle per interval with id and bytes as its title, and lines at peak and lower bound.
//
// Errors:  as the map.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_plan_report_svg(const weir_allocator* allocator,
                                                        const weir_plan_report* report,
                                                        weir_plan_write_fn write, void* context);

// Writes one JSON object on one line: peak, lower_bound, optimal, seconds (null where the duration
// is not known), total, penalty, buffers, blocks, in_place; and an array "entries" of {id, offset,
// size, pool, block, on}. What is no valid UTF-8 in an id becomes U+FFFD.
//
// Errors:  WEIR_IO `write` returned false.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_plan_report_json(const weir_plan_report* report,
                                                         weir_plan_write_fn write, void* context);

WEIR_C_END

#endif
