// List scheduling by level, then local search: a dispatch may stand anywhere between the earliest
// group that its predecessors allow and the latest that its successors allow without a group more
// than the longest path has.
#include <string.h>

#include "schedule/order.h"

#define TRIES 512     // moves that are looked at
#define RIPPLE_MAX 32 // dispatches that one move may push before it

typedef struct move {
    uint32_t dispatch, from;
} move;

typedef struct depth_search {
    const order_net* net;
    order_live live;
    uint32_t* early; // earliest group of each dispatch
    uint32_t* late;  // latest
    uint32_t tries;
    move moves[RIPPLE_MAX]; // of the try
    uint32_t move_count;
} depth_search;

static void find_early(depth_search* search) {
    const order_lists* before = &search->net->before;
    uint32_t groups = 1;
    for (uint32_t d = 0; d < search->net->dispatch_count; d++) {
        uint32_t early = 0;
        for (uint32_t e = before->begins[d]; e < before->begins[d + 1]; e++) {
            const uint32_t behind = search->early[before->items[e]] + 1;
            early = behind > early ? behind : early;
        }
        search->early[d] = early;
        groups = early + 1 > groups ? early + 1 : groups;
    }
    search->live.group_count = groups;
}

// The latest group of a dispatch where its successors stand in `groups`.
static uint32_t latest(const depth_search* search, uint32_t dispatch, const uint32_t* groups) {
    const order_lists* after = &search->net->after;
    uint32_t late = search->live.group_count - 1;
    for (uint32_t e = after->begins[dispatch]; e < after->begins[dispatch + 1]; e++) {
        const uint32_t ahead = groups[after->items[e]] - 1;
        late = ahead < late ? ahead : late;
    }
    return late;
}

// Whether a dispatch makes more bytes than end with it, by the order of the numbers.
static bool adds_bytes(const order_net* net, uint32_t dispatch) {
    uint64_t made = 0;
    uint64_t ended = 0;
    for (uint32_t t = net->touched.begins[dispatch]; t < net->touched.begins[dispatch + 1]; t++) {
        const uint32_t buffer = net->touched.items[t];
        const bool last = net->uses.items[net->uses.begins[buffer + 1] - 1] == dispatch;
        made += order_makes(net, dispatch, buffer) ? net->bytes[buffer] : 0;
        ended += last ? net->bytes[buffer] : 0;
    }
    return made > ended;
}

typedef enum start_kind {
    START_EARLY = 0,
    START_LATE = 1,
    START_MIXED = 2, // late where that delays bytes, early where it frees them
    START_KINDS = 3,
} start_kind;

static void start(depth_search* search, start_kind kind) {
    for (uint32_t d = search->net->dispatch_count; d-- > 0;) {
        const bool late = kind == START_LATE || (kind == START_MIXED && adds_bytes(search->net, d));
        search->live.groups[d] = late ? latest(search, d, search->live.groups) : search->early[d];
    }
    order_live_fill(&search->live);
}

static bool is_better(order_score a, order_score b) {
    return a.peak < b.peak || (a.peak == b.peak && a.count < b.count);
}

static void undo(depth_search* search) {
    while (search->move_count > 0) {
        const move last = search->moves[--search->move_count];
        order_live_move(&search->live, last.dispatch, last.from);
    }
}

static bool push(depth_search* search, uint32_t dispatch, uint32_t group) {
    if (search->move_count == RIPPLE_MAX || group < search->early[dispatch] ||
        group > search->late[dispatch]) {
        return false;
    }
    search->moves[search->move_count++] =
        (move){.dispatch = dispatch, .from = search->live.groups[dispatch]};
    order_live_move(&search->live, dispatch, group);
    return true;
}

// Moves a dispatch and whatever it runs into, each just far enough; false where that is too much,
// and then only part of it is done.
static bool push_all(depth_search* search, uint32_t dispatch, uint32_t group) {
    const bool down = group > search->live.groups[dispatch];
    const order_lists* next = down ? &search->net->after : &search->net->before;
    if (!push(search, dispatch, group)) {
        return false;
    }
    for (uint32_t m = 0; m < search->move_count; m++) {
        const uint32_t pushed = search->moves[m].dispatch;
        const uint32_t at = search->live.groups[pushed];
        for (uint32_t e = next->begins[pushed]; e < next->begins[pushed + 1]; e++) {
            const uint32_t other = next->items[e];
            const uint32_t stands = search->live.groups[other];
            const bool blocks = down ? stands <= at : stands >= at;
            if (blocks && (at == 0 || !push(search, other, down ? at + 1 : at - 1))) {
                return false;
            }
        }
    }
    return true;
}

static bool try_move(depth_search* search, uint32_t dispatch, uint32_t group, order_score* best) {
    if (search->tries == 0 || group < search->early[dispatch] || group > search->late[dispatch]) {
        return false;
    }
    search->tries--;
    search->move_count = 0;
    if (push_all(search, dispatch, group)) {
        const order_score score = order_live_score(&search->live);
        if (is_better(score, *best)) {
            *best = score;
            return true;
        }
    }
    undo(search);
    return false;
}

// Looks for a move that takes one of the buffers of the first peak out of it.
static bool lower_peak(depth_search* search, order_score* best) {
    const order_lists* uses = &search->net->uses;
    const uint32_t at = best->first;
    for (uint32_t i = 0; i < search->net->buffer_count; i++) {
        const order_span span = order_live_span(&search->live, i);
        if (span.first > at || span.last < at) {
            continue;
        }
        for (uint32_t u = uses->begins[i]; u < uses->begins[i + 1]; u++) {
            const uint32_t dispatch = uses->items[u];
            const uint32_t group = search->live.groups[dispatch];
            if ((group <= at && try_move(search, dispatch, at + 1, best)) ||
                (group >= at && at > 0 && try_move(search, dispatch, at - 1, best))) {
                return true;
            }
        }
    }
    return false;
}

static weir_status search_make(plan_scratch* scratch, const order_net* net, depth_search* search) {
    search->net = net;
    search->tries = TRIES;
    WEIR_TRY(scratch_take(scratch, &search->early, net->dispatch_count));
    WEIR_TRY(scratch_take(scratch, &search->late, net->dispatch_count));
    WEIR_TRY(order_live_make(scratch, net, net->dispatch_count, &search->live));
    find_early(search);
    for (uint32_t d = net->dispatch_count; d-- > 0;) {
        search->late[d] = latest(search, d, search->late);
    }
    return WEIR_OK;
}

weir_status order_by_depth(plan_scratch* scratch, const order_net* net, uint32_t* groups) {
    scratch_block* mark = scratch->last;
    depth_search search = {0};
    const weir_status status = search_make(scratch, net, &search);
    order_score lowest = {.peak = UINT64_MAX};
    for (int kind = 0; status == WEIR_OK && kind < START_KINDS; kind++) {
        start(&search, (start_kind)kind);
        order_score score = order_live_score(&search.live);
        while (lower_peak(&search, &score)) {
        }
        if (is_better(score, lowest)) {
            lowest = score;
            memcpy(groups, search.live.groups, net->dispatch_count * sizeof *groups);
        }
    }
    plan_scratch_release(scratch, mark);
    return status;
}
