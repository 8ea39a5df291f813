// The tracker: one call checks a dispatch against what is open, says why, and records it.
//
// Rules (Hennessy and Patterson, data hazards): two accesses whose ranges share a byte conflict
// when one of them writes: RAW, WAR or WAW by who came first. Two reads never do. Per byte only the
// last writer and the readers since then matter; what they precede is already ordered through them.
// For each byte that a dispatch touches, the hazards are exactly: with the last writer, RAW when it
// is read and WAW when it is written, readers since or not; with each reader since, WAR when it is
// written. Within one dispatch reads come before writes, and of two writes to one byte the later
// access counts; equal ranges are one access, where the first of them stands. Empty ranges touch
// nothing.
//
// Constants are a class of their own: an access of kind WEIR_ACCESS_CONSTANT is neither checked nor
// recorded. That is right only where no dispatch that the tracker holds or comes to hold writes one
// of these bytes by whatever name, as in a file that is mapped read-only. Memory that was written
// before in the same recording, or that another handle may write, is read by WEIR_ACCESS_READ.
//
// The cost of a dispatch grows with the logarithm of the open accesses and with the hazards found,
// and for strided ranges with the runs of a write that partly covers an older access.
//
// - In DAG mode the tracker holds the whole pass and returns the predecessors of each dispatch.
// - In group mode it holds the dispatches since the last barrier. A hazard means that a barrier is
//   needed before the dispatch; the tracker then starts a new group with that dispatch in it.
//
// A dispatch without declared accesses is a full fence: it follows all before it and precedes all
// after it. "Touches nothing" is `access_count` 0 with `declared` set.
//
//     weir_tracker_create(NULL, WEIR_TRACKER_DAG, &tracker);
//     weir_tracker_record(tracker, &dispatch, &verdict);       // never loses the dispatch
//     for (i < verdict.hazard_count) printf(... verdict.hazards[i] ...)
#ifndef WEIR_TRACKER_H
#define WEIR_TRACKER_H

#include <weir/allocator.h>
#include <weir/range.h>

WEIR_C_BEGIN

typedef enum weir_access_kind {
    WEIR_ACCESS_READ = 1,
    WEIR_ACCESS_WRITE = 2,
    WEIR_ACCESS_READ_WRITE = 3,
    WEIR_ACCESS_CONSTANT = 4, // reads bytes that nothing writes until the tracker is reset
} weir_access_kind;

typedef struct weir_access {
    weir_range range;
    weir_access_kind kind;
} weir_access;

typedef enum weir_hazard_kind {
    WEIR_HAZARD_RAW = 1,   // read after write
    WEIR_HAZARD_WAR = 2,   // write after read
    WEIR_HAZARD_WAW = 3,   // write after write
    WEIR_HAZARD_FENCE = 4, // one of the two declared no accesses
} weir_hazard_kind;

typedef struct weir_hazard {
    weir_hazard_kind kind;
    uint32_t earlier;         // dispatch number, in the order of recording, from 0
    uint32_t later;           // the dispatch just recorded
    weir_range earlier_range; // as declared by the earlier dispatch; empty for a fence
    weir_range later_range;   // as declared by the later dispatch; empty for a fence
} weir_hazard;

typedef struct weir_tracker weir_tracker;

typedef enum weir_tracker_mode {
    WEIR_TRACKER_DAG = 0,
    WEIR_TRACKER_GROUP = 1,
} weir_tracker_mode;

typedef struct weir_tracker_dispatch {
    const weir_access* accesses;
    uint32_t access_count;
    bool declared; // false: the accesses are unknown and the dispatch is a full fence
} weir_tracker_dispatch;

typedef struct weir_verdict {
    uint32_t dispatch; // number of the dispatch just recorded
    bool barrier;      // group mode: a barrier is needed before it
    const weir_hazard* hazards;
    uint32_t hazard_count; // by earlier dispatch, rising; each (earlier, kind, range pair) once
} weir_verdict;

// Creates an empty tracker.
//
// Ownership: the caller destroys it.
// Errors:    WEIR_OUT_OF_MEMORY; WEIR_INVALID_ARGUMENT unknown mode.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_tracker_create(const weir_allocator* allocator,
                                                       weir_tracker_mode mode,
                                                       weir_tracker** tracker);

// Destroys a tracker; NULL is a no-op.
//
// Threads: thread-compatible.
WEIR_API void weir_tracker_destroy(weir_tracker* tracker);

// Checks one dispatch against the open ones and records it. On failure nothing is recorded.
//
// Ownership: the hazards belong to the tracker and hold until the next call on it.
// Errors:    WEIR_OUT_OF_MEMORY; WEIR_INVALID_ARGUMENT an access without a kind.
// Threads:   thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_tracker_record(weir_tracker* tracker,
                                                       const weir_tracker_dispatch* dispatch,
                                                       weir_verdict* verdict);

// Notes a barrier that the caller places for reasons of its own, between what was recorded and what
// comes: no dispatch recorded before is the earlier one of a hazard any more. Numbers go on. A
// barrier that a verdict asks for is noted by the tracker itself.
//
// Threads: thread-compatible.
WEIR_API void weir_tracker_barrier(weir_tracker* tracker);

// Forgets all dispatches and numbers from 0 again; keeps the memory.
//
// Threads: thread-compatible.
WEIR_API void weir_tracker_reset(weir_tracker* tracker);

// Returns how often, since the tracker was made, a strided write left an older access whole because
// taking its bytes out takes more than 4096 runs: that access may then be reported for bytes that
// it no longer holds, never the reverse.
//
// Threads: thread-compatible.
WEIR_API uint64_t weir_tracker_widened(const weir_tracker* tracker);

// Returns "RAW", "WAR", "WAW" or "fence".
//
// Threads: thread-safe.
WEIR_API const char* weir_hazard_name(weir_hazard_kind kind);

WEIR_C_END

#endif
