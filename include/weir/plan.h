// Planning: conflicts and sizes in, byte offsets and a lower bound out. Pure: no device, no file.
//
// A problem is a list of buffers and one of two statements about which of them may share bytes:
//   - intervals: each buffer is live in [begin, end) of some clock (or in several such intervals),
//     and two buffers conflict when they are live at the same time; or
//   - a partial order: `precedes[i]` has bit j when every access of i surely happens before the
//     first access of j, and two buffers conflict when neither precedes the other. This is the rule
//     under which sharing bytes never adds a wait.
// Conflicting buffers get disjoint bytes. The lower bound is the heaviest set of buffers that
// conflict pairwise: the largest sum of live sizes for intervals, the heaviest antichain for a
// partial order (Dilworth 1950; by maximum flow). A plan whose peak equals its bound is optimal.
//
//     weir_plan_problem problem = {.buffers = buffers, .buffer_count = 3, ...};
//     weir_plan_create(NULL, &problem, &plan);
//     weir_plan_result_of(plan)->peak; weir_plan_entries(plan, NULL)[i].byte_offset;
#ifndef WEIR_PLAN_H
#define WEIR_PLAN_H

#include <weir/allocator.h>

WEIR_C_BEGIN

#define WEIR_PLAN_NONE UINT32_MAX

typedef enum weir_plan_flags {
    WEIR_PLAN_FIXED = 1, // the buffer lies at fixed_offset
    WEIR_PLAN_ALIAS = 2, // the buffer is bytes [alias_offset, +byte_size) of buffer alias_of
} weir_plan_flags;

typedef struct weir_plan_buffer {
    uint64_t byte_size;      // 0 is allowed and conflicts with nothing
    uint64_t alignment;      // of the offset, in bytes, any value >= 1; 0 = that of the problem (an
                             // alias: none of its own; otherwise a divisor of alias_offset)
    uint32_t interval_begin; // first of its intervals in weir_plan_problem.intervals
    uint32_t interval_count; // 0: live always (intervals mode)
    uint32_t flags;          // weir_plan_flags
    uint32_t alias_of;       // WEIR_PLAN_ALIAS: a buffer that is no alias itself
    uint64_t alias_offset;   // WEIR_PLAN_ALIAS: byte offset within alias_of
    uint64_t fixed_offset;   // WEIR_PLAN_FIXED
    uint32_t pool;           // buffers of different pools never share bytes and are planned apart
} weir_plan_buffer;

typedef struct weir_plan_interval {
    int64_t begin; // live in [begin, end)
    int64_t end;
} weir_plan_interval;

// Buffer `buffer` may be placed on buffer `on` at the same offset although they conflict: the
// operation that makes the one reads the other for the last time, and overwrites only bytes that it
// has read. `on` may be an alias; what else lies in its bytes (its root, other aliases) and
// conflicts needs a pair of its own. Each `on` is taken by one buffer at most, only where that one
// fits into the root of `on`, and only where it does not raise the peak.
typedef struct weir_plan_in_place {
    uint32_t buffer;
    uint32_t on;
} weir_plan_in_place;

// Buffers `a` and `b` do not conflict, but sharing bytes between them costs `weight`: a wait that
// the order alone would not need. The sum over all pairs that share a byte is kept small, after the
// peak where there is no capacity; in a pool of more than 2,048 buffers it is only counted.
typedef struct weir_plan_penalty {
    uint32_t a;
    uint32_t b;
    uint64_t weight;
} weir_plan_penalty;

typedef enum weir_plan_effort {
    WEIR_PLAN_SEARCH = 0, // placement, then `iterations` of search where the bound is not met
    WEIR_PLAN_PLACE = 1,  // placement alone: no search
    WEIR_PLAN_PROVE = 2,  // search until the peak is proven the smallest, or the budget is spent
} weir_plan_effort;

// Called now and then during a search; returning false ends it, and the best plan so far is kept.
// `peak` is UINT64_MAX while there is no plan.
typedef bool (*weir_plan_progress_fn)(void* context, uint64_t peak, uint64_t lower_bound);

typedef struct weir_plan_problem {
    const weir_plan_buffer* buffers;
    uint32_t buffer_count;
    const weir_plan_interval* intervals; // intervals mode
    uint32_t interval_count;
    const uint64_t* precedes; // partial order mode when not NULL: buffer_count rows of
                              // weir_plan_row_words(buffer_count) words, transitive, irreflexive
    const weir_plan_in_place* in_place;
    uint32_t in_place_count;
    const weir_plan_penalty* penalties;
    uint32_t penalty_count;
    uint64_t alignment;       // default for buffers, in bytes; 0 = 1
    uint64_t capacity;        // 0: as small as possible; otherwise any plan that fits will do, and
                              // penalties are paid rather than pass it
    uint64_t enough;          // a peak that no plan can beat, whatever goes in place, or 0: a plan
                              // that has it is taken without looking for others
    uint64_t block_bytes_max; // 0: one block; otherwise no block is larger, and no buffer crosses
                              // from one block into the next
    weir_plan_effort effort;
    uint64_t iterations;            // budget of the search; 0 = default
    uint64_t time_limit_ns;         // 0: none; where it strikes, the plan depends on the machine
    weir_plan_progress_fn progress; // may be NULL
    void* progress_context;
} weir_plan_problem;

typedef struct weir_plan_entry {
    uint64_t byte_offset; // within its block
    uint64_t byte_size;
    uint32_t pool;
    uint32_t block;     // 0 where there is only one
    uint32_t placed_on; // the buffer whose bytes it takes in place, or WEIR_PLAN_NONE
} weir_plan_entry;

typedef struct weir_plan_result {
    uint64_t peak;        // bytes that the offsets need, over all pools
    uint64_t lower_bound; // bytes that any placement needs with these in-place decisions, where a
                          // buffer, its aliases and what is placed on it are one
    uint64_t total;       // sum of sizes without aliases: bytes without reuse
    uint64_t penalty;     // sum of the weights of all pairs that share a byte
    bool optimal;         // no plan for these in-place decisions is smaller: proven
    uint32_t in_place;    // buffers placed on another
    uint32_t blocks;      // of all pools
    uint32_t block_bound; // blocks that any placement needs
} weir_plan_result;

typedef struct weir_plan weir_plan;

// Returns the words of one row of the `precedes` relation.
//
// Threads: thread-safe.
WEIR_API uint32_t weir_plan_row_words(uint32_t buffer_count);

// Places all buffers. The same problem always gives the same plan.
//
// Ownership: the caller destroys the plan; the problem is not kept.
// Errors:    WEIR_INVALID_ARGUMENT bad index, alias, alignment or effort, or an order that is none;
//            WEIR_OUT_OF_RANGE offsets or the sum of sizes pass 2^63 - 1; WEIR_INFEASIBLE fixed
//            offsets collide, or no plan fits the capacity: proven, whatever is placed in place;
//            WEIR_TIMEOUT no plan that fits was found, and none was shown impossible;
//            WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_plan_create(const weir_allocator* allocator,
                                                    const weir_plan_problem* problem,
                                                    weir_plan** plan);

// Destroys a plan; NULL is a no-op.
//
// Threads: thread-compatible.
WEIR_API void weir_plan_destroy(weir_plan* plan);

// Returns the figures of a plan.
//
// Ownership: belongs to the plan.
// Threads:   thread-safe.
WEIR_API const weir_plan_result* weir_plan_result_of(const weir_plan* plan);

// Returns one entry per buffer of the problem, in its order.
//
// Ownership: belongs to the plan.
// Threads:   thread-safe.
WEIR_API const weir_plan_entry* weir_plan_entries(const weir_plan* plan, uint32_t* count);

// Proves that entries solve a problem: sizes, alignment, aliases, fixed offsets, and no two
// conflicting buffers of one pool on a shared byte, except in-place pairs that the problem allows.
// Shares no code with the planner and can judge plans made elsewhere.
//
// Errors:  WEIR_INVALID_ARGUMENT bad problem; WEIR_INFEASIBLE the plan is wrong (the message names
//          both buffers and their bytes); WEIR_OUT_OF_MEMORY.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_plan_verify(const weir_allocator* allocator,
                                                    const weir_plan_problem* problem,
                                                    const weir_plan_entry* entries);

// Sizes as linear functions of symbols (a batch, a length) with upper bounds:
// size of buffer i = constants[i] + sum over s of factors[i * symbol_count + s] * value of s.
typedef struct weir_plan_sizes {
    const uint64_t* constants; // bytes, per buffer
    const uint64_t* factors;   // bytes per unit, buffer_count rows of symbol_count
    const uint64_t* upper;     // largest value, per symbol
    uint32_t symbol_count;
} weir_plan_sizes;

typedef struct weir_plan_symbolic weir_plan_symbolic;

// Plans at the upper bounds of all symbols, and keeps which buffer lies above which. The sizes in
// the problem's buffers are ignored.
//
// Ownership: the caller destroys it; problem and sizes are not kept.
// Errors:    those of weir_plan_create, about the sizes at the upper bounds.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_plan_symbolic_create(const weir_allocator* allocator,
                                                             const weir_plan_problem* problem,
                                                             const weir_plan_sizes* sizes,
                                                             weir_plan_symbolic** plan);

// Destroys a symbolic plan; NULL is a no-op.
//
// Threads: thread-compatible.
WEIR_API void weir_plan_symbolic_destroy(weir_plan_symbolic* plan);

// Returns the plan at the upper bounds.
//
// Ownership: belongs to the symbolic plan.
// Threads:   thread-safe.
WEIR_API const weir_plan* weir_plan_symbolic_upper(const weir_plan_symbolic* plan);

// Places all buffers for some values of the symbols, in one pass over them and without allocating:
// every offset, and `peak` (bytes over all pools and blocks; may be NULL), is at most the planned
// one. An alias may outgrow a root that shrinks faster: its bytes are kept for it.
//
// Shapes:  values [symbol_count]; entries, one per buffer.
// Errors:  WEIR_OUT_OF_RANGE a value above its bound.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_plan_resize(weir_plan_symbolic* plan,
                                                    const uint64_t* values,
                                                    weir_plan_entry* entries, uint64_t* peak);

// An order of dispatches, to be scored. Dispatch uses[u] touches buffer i, for u in
// [use_begins[i], use_begins[i + 1]).
typedef struct weir_plan_order {
    const uint32_t* use_begins; // buffer_count + 1
    const uint32_t* uses;
    const uint32_t* positions; // per dispatch, each below dispatch_count
    uint32_t dispatch_count;
} weir_plan_order;

// Computes what the buffers of a problem need in an order, where each lives from its first use to
// its last; intervals, order, in-place pairs, penalties and blocks of the problem are ignored.
// `lower_bound` takes one pass over the buffers; with `peak`, NULL where it is not asked for, a few
// placements are made too, and the bound counts padding.
//
// Errors:  WEIR_INVALID_ARGUMENT a bad buffer, use or position; WEIR_OUT_OF_RANGE sizes;
//          WEIR_INFEASIBLE fixed buffers collide; WEIR_OUT_OF_MEMORY.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_plan_score(const weir_allocator* allocator,
                                                   const weir_plan_problem* problem,
                                                   const weir_plan_order* order,
                                                   uint64_t* lower_bound, uint64_t* peak);

// Returns the sum of the weights of all penalty pairs of a problem whose entries share a byte;
// UINT64_MAX where it is larger.
//
// Threads: thread-safe.
WEIR_API uint64_t weir_plan_penalty_of(const weir_plan_problem* problem,
                                       const weir_plan_entry* entries);

// Called for two buffers that share a byte; a status other than WEIR_OK ends the walk.
typedef weir_status (*weir_plan_sharing_fn)(void* context, uint32_t earlier, uint32_t later);

// Visits every two buffers whose entries share a byte, once, in-place pairs and aliases among them:
// what lies in the same bytes needs an order. The earlier one is that with the lower position
// (NULL: the lower index; a tie too). O(n log n) and the pairs.
//
// Errors:  those of `visit`; WEIR_OUT_OF_MEMORY.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_plan_sharing(const weir_allocator* allocator,
                                                     const weir_plan_entry* entries, uint32_t count,
                                                     const uint32_t* positions,
                                                     weir_plan_sharing_fn visit, void* context);

WEIR_C_END

#endif
