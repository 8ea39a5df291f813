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
    uint32_t block; // of the arena
    bool reuse;     // two values of their own that lie on the same bytes
    bool in_place;  // reuse where the later one takes the bytes of the earlier by its operation
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

// A wait and one reason for it.
typedef struct weir_wait_need {
    uint32_t boundary; // where boundaries wait: the one in question, from 1; else 0
    uint32_t earlier;  // dispatches
    uint32_t later;
    bool only; // no other boundary stands between the two, or no other edges lead from one to the
               // other
    weir_reason reason;
} weir_wait_need;

// Called for a wait; a status other than WEIR_OK ends the walk.
typedef weir_status (*weir_wait_need_fn)(void* context, const weir_wait_need* need);

// Visits what needs each boundary, from the first to the last: every hazard of the placed accesses
// whose later dispatch stands in the group that the boundary opens. Per byte only the last writer
// and the readers since count, as for the tracker. A barrier that covers, for each boundary, the
// accesses visited with it covers all hazards of the pass; each boundary has some with `only`.
// Visits nothing where waits are edges.
//
// Errors:  those of `visit`; WEIR_OUT_OF_MEMORY.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_boundary_visit(const weir_schedule* schedule,
                                                       weir_wait_need_fn visit, void* context);

// Visits the edges that only the reuse of memory needs (report.residual_edges), each with every
// reason: what an order by bytes, a byte budget or WEIR_REUSE_SERIAL costs.
//
// Errors:  those of `visit`; WEIR_OUT_OF_MEMORY.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_residual_visit(const weir_schedule* schedule,
                                                       weir_wait_need_fn visit, void* context);

typedef struct weir_sharing {
    bool shares; // a byte of both; nothing below holds otherwise
    weir_region region;
    uint32_t block;       // of the arena
    uint64_t byte_offset; // of the common bytes within the region (the block)
    uint64_t byte_length;
    bool same;          // one value, or windows on one
    bool in_place;      // `later` takes the bytes of `earlier` by its operation
    bool ordered;       // what accesses of `later` share with those of `earlier` comes after them,
                        // except in the dispatch that makes the one of the other in place
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
// dispatches with level, group, predecessors and operands with their ranges {region, offset,
// length, levels}, the edges [earlier, later] that only the reuse of memory needs, and what needs
// each boundary (weir_boundary_visit). What is no valid UTF-8 in a name becomes U+FFFD.
//
// Errors:  WEIR_IO `write` returned false; WEIR_OUT_OF_MEMORY.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_schedule_json(const weir_schedule* schedule,
                                                      weir_plan_write_fn write, void* context);

// Returns "arena", "input", "output", "weight" or "state"; "unknown" outside the enumeration.
//
// Threads: thread-safe.
WEIR_API const char* weir_region_name(weir_region region);

WEIR_C_END

#endif
