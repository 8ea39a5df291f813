// Explanations: why one dispatch of a schedule waits for another, which values share bytes and what
// orders them, and the whole schedule as JSON.
//
//     weir_why why;
//     weir_why_find(NULL, schedule, 3, 7, &why);
//     for (i < why.reason_count) printf("%s\n", weir_hazard_name(why.reasons[i].kind));
//     weir_why_free(&why);
#ifndef WEIR_EXPLAIN_H
#define WEIR_EXPLAIN_H

#include <weir/plan_report.h>
#include <weir/schedule.h>

WEIR_C_BEGIN

// Two accesses that share a byte where they were placed, one of them a write. The ranges lie in
// their region: their memory id tells regions and states apart and means nothing else.
typedef struct weir_reason {
    weir_hazard_kind kind;
    weir_value earlier_value; // as the operations name them: may be views
    weir_value later_value;
    weir_range earlier_range;
    weir_range later_range;
    weir_region region;
    bool reuse;    // two values of their own that lie on the same bytes
    bool in_place; // reuse where the later one takes the bytes of the earlier by its operation
} weir_reason;

typedef struct weir_why {
    bool ordered; // the earlier dispatch surely completes before the later one starts
    bool edge;    // the later one names it as a predecessor
    bool fenced;  // the schedule waits between any two dispatches because its options say so
    weir_reason* reasons;  // direct ones; none where it waits only for what lies between
    uint32_t reason_count; // by operands of the earlier dispatch, then of the later
    uint32_t* path;        // a shortest way along the edges, both dispatches included
    uint32_t path_count;   // 0: no way; 2: an edge
    weir_allocator allocator;
} weir_why;

// Finds the reasons why dispatch `later` waits for dispatch `earlier`, if it does.
//
// Ownership: the caller frees it with weir_why_free.
// Errors:    WEIR_NOT_FOUND no such dispatch; WEIR_INVALID_ARGUMENT `earlier` is not before
//            `later`; WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_why_find(const weir_allocator* allocator,
                                                 const weir_schedule* schedule, uint32_t earlier,
                                                 uint32_t later, weir_why* why);

// Frees what weir_why_find filled in and empties it.
//
// Threads: thread-compatible.
WEIR_API void weir_why_free(weir_why* why);

typedef struct weir_sharing {
    bool shares; // a byte of both; nothing below holds otherwise
    weir_region region;
    uint64_t byte_offset; // of the common bytes within the region
    uint64_t byte_length;
    bool same;          // one value, or windows on one
    bool in_place;      // `later` takes the bytes of `earlier` by its operation
    bool ordered;       // every access of `earlier` comes before every one of `later`, except in
                        // the dispatch that makes the one of the other in place
    weir_value earlier; // by first use
    weir_value later;
    uint32_t last_use;  // last dispatch that touches `earlier`
    uint32_t first_use; // first that touches `later`: weir_why_find tells what orders the two
} weir_sharing;

// Tells whether two values share bytes, and what orders them.
//
// Errors:  WEIR_NOT_FOUND no such value.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_schedule_sharing(const weir_schedule* schedule,
                                                         weir_value a, weir_value b,
                                                         weir_sharing* sharing);

// Writes the schedule as one JSON object on one line: target, report, values with their placements,
// and dispatches with level, predecessors and operands with their ranges {region, offset, length,
// levels}. What is no valid UTF-8 in a name becomes U+FFFD.
//
// Errors:  WEIR_IO `write` returned false.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_schedule_json(const weir_schedule* schedule,
                                                      weir_plan_write_fn write, void* context);

// Returns "arena", "input", "output", "weight" or "state"; "unknown" outside the enumeration.
//
// Threads: thread-safe.
WEIR_API const char* weir_region_name(weir_region region);

WEIR_C_END

#endif
