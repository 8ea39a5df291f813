// The search for an order: which dispatches run between the same two boundaries, and how many bytes
// are live there. Pure numbers: no names, no ranges.
//
//   order_net.c     a schedule as numbers
//   order_live.c    live bytes of each group, kept up to date while dispatches move
//   order_depth.c   as many groups as the data flow needs, with few live bytes
//   order_bytes.c   few live bytes first, then few groups
//
// A buffer is live from the group of its first use to that of its last, both included; where the
// result of the last use may lie on its bytes, only one of the two counts.
#ifndef WEIR_SCHEDULE_ORDER_H
#define WEIR_SCHEDULE_ORDER_H

#include "plan/plan_scratch.h"
#include "schedule/schedule.h"

// Lists of numbers, one per item: items[begins[i]] .. items[begins[i + 1] - 1].
typedef struct order_lists {
    const uint32_t* begins;
    const uint32_t* items;
} order_lists;

typedef struct order_net {
    uint32_t dispatch_count;
    uint32_t buffer_count;
    const uint64_t* bytes; // of each buffer
    order_lists before;    // dispatches that each dispatch waits for
    order_lists after;     // that wait for it
    order_lists uses;      // dispatches that touch each buffer; the first makes it
    order_lists touched;   // buffers that each dispatch touches
    order_lists pairs;     // buffers that the result of each dispatch may be placed on
} order_net;

// Takes the numbers of a schedule whose edges and buffers are known.
WEIR_MUST_USE weir_status order_net_make(plan_scratch* scratch, const weir_schedule* schedule,
                                         order_net* net);

// Whether a dispatch is the one that makes a buffer.
static inline bool order_makes(const order_net* net, uint32_t dispatch, uint32_t buffer) {
    return net->uses.items[net->uses.begins[buffer]] == dispatch;
}

typedef struct order_live {
    const order_net* net;
    uint32_t* groups; // of each dispatch
    uint32_t group_count;
    uint64_t* bytes; // live in each group
    uint32_t* seen;  // per dispatch, for visiting each once
    uint32_t visit;
} order_live;

// The largest sum of live bytes, and how many groups have it.
typedef struct order_score {
    uint64_t peak;
    uint32_t first; // of these groups
    uint32_t count;
} order_score;

// Makes room for up to `groups_max` groups; groups are to be set, then filled in.
WEIR_MUST_USE weir_status order_live_make(plan_scratch* scratch, const order_net* net,
                                          uint32_t groups_max, order_live* live);
void order_live_fill(order_live* live);
void order_live_move(order_live* live, uint32_t dispatch, uint32_t group);
order_score order_live_score(const order_live* live);

// First and last group of a buffer.
typedef struct order_span {
    uint32_t first, last;
} order_span;

order_span order_live_span(const order_live* live, uint32_t buffer);

// Fills `groups` with an order of depth + 1 groups, no boundary more than the data flow needs. Of
// the orders that a bounded search looks at, it has the lowest peak of live bytes.
WEIR_MUST_USE weir_status order_by_depth(plan_scratch* scratch, const order_net* net,
                                         uint32_t* groups);

// Fills `groups` with an order of few groups whose live bytes stay within `cap`, or, where the cap
// is below the lowest peak found for any order, within that.
WEIR_MUST_USE weir_status order_by_bytes(plan_scratch* scratch, const order_net* net, uint64_t cap,
                                         uint32_t* groups);

#endif
