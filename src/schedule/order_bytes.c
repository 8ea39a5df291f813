// Few live bytes first. An order of one dispatch after another with a low peak is found by list
// scheduling and improved by taking single dispatches to other places; then as many neighbours as
// the cap allows are put into one group.
#include <string.h>

#include "schedule/order.h"

#define TRIES 256        // orders that are looked at, fewer of large graphs:
#define TRY_WORK 1048576 // dispatches in all of them
#define READY_MAX 128    // dispatches that are compared for one place

typedef struct bytes_search {
    const order_net* net;
    uint32_t* order;   // the dispatches, one after another
    uint32_t* trial;   // another such order
    uint32_t* best;    // that with the lowest peak so far
    uint32_t* place;   // of each dispatch in the trial
    uint32_t* waiting; // per dispatch: predecessors that are not over
    uint32_t* left;    // per buffer: uses that are not over
    uint32_t* ready;   // dispatches that could come next
    uint32_t ready_count;
    uint32_t* heights; // per dispatch: edges on the longest path that starts there
    uint64_t* live;    // bytes at each place
} bytes_search;

// What a dispatch adds to the live bytes of its group, with everything of that group still live.
static uint64_t made_bytes(const bytes_search* search, uint32_t dispatch) {
    const order_net* net = search->net;
    uint64_t bytes = 0;
    for (uint32_t t = net->touched.begins[dispatch]; t < net->touched.begins[dispatch + 1]; t++) {
        const uint32_t buffer = net->touched.items[t];
        bytes += order_makes(net, dispatch, buffer) ? net->bytes[buffer] : 0;
    }
    return bytes;
}

static uint64_t ended_bytes(const bytes_search* search, uint32_t dispatch) {
    const order_net* net = search->net;
    uint64_t bytes = 0;
    for (uint32_t t = net->touched.begins[dispatch]; t < net->touched.begins[dispatch + 1]; t++) {
        const uint32_t buffer = net->touched.items[t];
        bytes += search->left[buffer] == 1 ? net->bytes[buffer] : 0;
    }
    return bytes;
}

// The result may lie on a buffer of which this is the only use that is left.
static uint64_t saved_bytes(const bytes_search* search, uint32_t dispatch) {
    const order_lists* pairs = &search->net->pairs;
    for (uint32_t p = pairs->begins[dispatch]; p < pairs->begins[dispatch + 1]; p++) {
        if (search->left[pairs->items[p]] == 1) {
            return search->net->bytes[pairs->items[p]];
        }
    }
    return 0;
}

static void add_ready(bytes_search* search, uint32_t dispatch) {
    search->ready[search->ready_count++] = dispatch;
}

static void restart(bytes_search* search) {
    const order_net* net = search->net;
    search->ready_count = 0;
    for (uint32_t i = 0; i < net->buffer_count; i++) {
        search->left[i] = net->uses.begins[i + 1] - net->uses.begins[i];
    }
    for (uint32_t d = 0; d < net->dispatch_count; d++) {
        search->waiting[d] = net->before.begins[d + 1] - net->before.begins[d];
        if (search->waiting[d] == 0) {
            add_ready(search, d);
        }
    }
}

static void take_out_ready(bytes_search* search, uint32_t dispatch) {
    for (uint32_t r = 0; r < search->ready_count; r++) {
        if (search->ready[r] == dispatch) {
            search->ready[r] = search->ready[--search->ready_count];
            return;
        }
    }
}

// Ends a dispatch: what waits for it alone is ready, what it uses last is over. Returns the bytes
// of the latter.
static uint64_t finish(bytes_search* search, uint32_t dispatch) {
    const order_net* net = search->net;
    const uint64_t ended = ended_bytes(search, dispatch);
    for (uint32_t t = net->touched.begins[dispatch]; t < net->touched.begins[dispatch + 1]; t++) {
        search->left[net->touched.items[t]]--;
    }
    for (uint32_t e = net->after.begins[dispatch]; e < net->after.begins[dispatch + 1]; e++) {
        if (--search->waiting[net->after.items[e]] == 0) {
            add_ready(search, net->after.items[e]);
        }
    }
    return ended;
}

typedef enum list_kind {
    LIST_GIVEN = 0, // by number
    LIST_NET = 1,   // what leaves the fewest bytes behind
    LIST_PEAK = 2,  // what needs the fewest bytes while it runs
    LIST_HIGH = 3,  // what has the longest path before it
    LIST_KINDS = 4,
} list_kind;

// Smaller is sooner. Sums of bytes stay below 2^63: signed differences hold.
static int64_t list_key(const bytes_search* search, list_kind kind, uint32_t dispatch) {
    const int64_t made = (int64_t)(made_bytes(search, dispatch) - saved_bytes(search, dispatch));
    switch (kind) {
    case LIST_NET:
        return (int64_t)made_bytes(search, dispatch) - (int64_t)ended_bytes(search, dispatch);
    case LIST_PEAK:
        return made;
    case LIST_HIGH:
        return -(int64_t)search->heights[dispatch];
    case LIST_GIVEN:
    case LIST_KINDS:
        break;
    }
    return (int64_t)dispatch;
}

static void list_order(bytes_search* search, list_kind kind, uint32_t* order) {
    restart(search);
    for (uint32_t i = 0; i < search->net->dispatch_count; i++) {
        if (kind == LIST_GIVEN) {
            order[i] = i;
            continue;
        }
        uint32_t next = search->ready[0];
        int64_t least = list_key(search, kind, next);
        for (uint32_t r = 1; r < search->ready_count && r < READY_MAX; r++) {
            const int64_t key = list_key(search, kind, search->ready[r]);
            if (key < least || (key == least && search->ready[r] < next)) {
                least = key;
                next = search->ready[r];
            }
        }
        take_out_ready(search, next);
        finish(search, next);
        order[i] = next;
    }
}

// The live bytes at each place of an order; returns the largest, at the last place that has it.
static uint64_t measure(bytes_search* search, const uint32_t* order, uint32_t* at) {
    uint64_t carried = 0;
    uint64_t peak = 0;
    restart(search);
    for (uint32_t i = 0; i < search->net->dispatch_count; i++) {
        const uint32_t d = order[i];
        const uint64_t made = made_bytes(search, d);
        search->live[i] = carried + made - saved_bytes(search, d);
        if (search->live[i] >= peak) {
            peak = search->live[i];
            *at = i;
        }
        carried += made - finish(search, d);
    }
    return peak;
}

// Takes the dispatch at place `from` to place `to`; false where its predecessors or successors
// stand between.
static bool reinsert(bytes_search* search, uint32_t from, uint32_t to) {
    const order_net* net = search->net;
    const uint32_t dispatch = search->order[from];
    const order_lists* next = to > from ? &net->after : &net->before;
    for (uint32_t e = next->begins[dispatch]; e < next->begins[dispatch + 1]; e++) {
        const uint32_t at = search->place[next->items[e]];
        if (to > from ? at <= to : at >= to) {
            return false;
        }
    }
    memcpy(search->trial, search->order, net->dispatch_count * sizeof *search->trial);
    if (to > from) {
        memmove(search->trial + from, search->trial + from + 1,
                (to - from) * sizeof *search->trial);
    } else {
        memmove(search->trial + to + 1, search->trial + to, (from - to) * sizeof *search->trial);
    }
    search->trial[to] = dispatch;
    return true;
}

// Looks for one dispatch that, taken to the other side of the peak, lowers it.
static bool lower_peak(bytes_search* search, uint64_t* peak, uint32_t* at, uint32_t* tries) {
    const uint32_t count = search->net->dispatch_count;
    for (uint32_t i = 0; i < count; i++) {
        search->place[search->order[i]] = i;
    }
    const uint32_t middle = *at;
    for (uint32_t distance = 0; distance<count&& * tries> 0; distance++) {
        for (int side = 0; side < 2; side++) {
            const uint32_t from = side == 0 ? middle - distance : middle + distance;
            const uint32_t to = side == 0 ? middle + 1 : middle - 1;
            if (from >= count || to >= count || from == to || *tries == 0 ||
                !reinsert(search, from, to)) {
                continue;
            }
            (*tries)--;
            uint32_t found_at = 0;
            const uint64_t found = measure(search, search->trial, &found_at);
            if (found < *peak) {
                memcpy(search->order, search->trial, count * sizeof *search->order);
                *peak = found;
                *at = found_at;
                return true;
            }
        }
    }
    return false;
}

// Finds an order of one after another with a low peak: each list order, improved.
static uint64_t find_order(bytes_search* search) {
    const uint32_t count = search->net->dispatch_count;
    const uint32_t most = TRY_WORK / count < TRIES ? TRY_WORK / count : TRIES;
    uint64_t lowest = UINT64_MAX;
    for (int kind = 0; kind < LIST_KINDS; kind++) {
        uint32_t at = 0;
        uint32_t tries = most / LIST_KINDS;
        list_order(search, (list_kind)kind, search->order);
        uint64_t peak = measure(search, search->order, &at);
        while (lower_peak(search, &peak, &at, &tries)) {
        }
        if (peak < lowest) {
            lowest = peak;
            memcpy(search->best, search->order, count * sizeof *search->best);
        }
    }
    memcpy(search->order, search->best, count * sizeof *search->order);
    return lowest;
}

typedef struct grouping {
    uint64_t cap;
    uint32_t window; // how far ahead of the order a group may reach
    uint32_t groups;
} grouping;

// The next dispatch that fits into a group of `live` bytes: within the window the one with the
// longest path before it, by place where there are several; WEIR_PLAN_NONE for none.
static uint32_t choose(const bytes_search* search, const grouping* g, const uint32_t* group_of,
                       uint32_t begin, uint64_t live) {
    const uint32_t count = search->net->dispatch_count;
    uint32_t chosen = WEIR_PLAN_NONE;
    uint32_t seen = 0;
    for (uint32_t i = begin; i < count && seen < g->window; i++) {
        const uint32_t d = search->order[i];
        if (group_of[d] != WEIR_PLAN_NONE) {
            continue;
        }
        seen++;
        const bool fits = search->waiting[d] == 0 &&
                          live + made_bytes(search, d) - saved_bytes(search, d) <= g->cap;
        if (fits && (chosen == WEIR_PLAN_NONE || search->heights[d] > search->heights[chosen])) {
            chosen = d;
        }
    }
    return chosen;
}

// Fills groups one after another; false where the cap lets no dispatch into an empty one.
static bool fill_groups(bytes_search* search, grouping* g, uint32_t* group_of) {
    const uint32_t count = search->net->dispatch_count;
    uint64_t carried = 0;
    uint32_t begin = 0; // all before it in the order have a group
    restart(search);
    memset(group_of, 0xFF, count * sizeof *group_of); // WEIR_PLAN_NONE
    for (g->groups = 0; begin < count; g->groups++) {
        uint64_t live = carried;
        uint32_t members = 0;
        for (;; members++) {
            const uint32_t d = choose(search, g, group_of, begin, live);
            if (d == WEIR_PLAN_NONE) {
                break;
            }
            live += made_bytes(search, d) - saved_bytes(search, d);
            carried += made_bytes(search, d);
            group_of[d] = g->groups;
            search->trial[members] = d;
            while (begin < count && group_of[search->order[begin]] != WEIR_PLAN_NONE) {
                begin++;
            }
        }
        if (members == 0) {
            return false;
        }
        for (uint32_t m = 0; m < members; m++) {
            carried -= finish(search, search->trial[m]);
        }
    }
    return true;
}

static weir_status search_make(plan_scratch* scratch, const order_net* net, bytes_search* search) {
    const uint32_t count = net->dispatch_count;
    search->net = net;
    WEIR_TRY(scratch_take(scratch, &search->order, count));
    WEIR_TRY(scratch_take(scratch, &search->trial, count));
    WEIR_TRY(scratch_take(scratch, &search->best, count));
    WEIR_TRY(scratch_take(scratch, &search->place, count));
    WEIR_TRY(scratch_take(scratch, &search->waiting, count));
    WEIR_TRY(scratch_take(scratch, &search->left, net->buffer_count));
    WEIR_TRY(scratch_take(scratch, &search->ready, count));
    WEIR_TRY(scratch_take(scratch, &search->heights, count));
    WEIR_TRY(scratch_take(scratch, &search->live, count));
    for (uint32_t d = count; d-- > 0;) {
        for (uint32_t e = net->after.begins[d]; e < net->after.begins[d + 1]; e++) {
            const uint32_t above = search->heights[net->after.items[e]] + 1;
            search->heights[d] = above > search->heights[d] ? above : search->heights[d];
        }
    }
    return WEIR_OK;
}

// Windows of one keep to the order, which therefore always fits; wider ones fill groups better but
// may run into a dead end.
weir_status order_by_bytes(plan_scratch* scratch, const order_net* net, uint64_t cap,
                           uint32_t* groups) {
    static const uint32_t windows[] = {1, 4, 16, 64, 256};
    scratch_block* mark = scratch->last;
    bytes_search search = {0};
    uint32_t* trial = NULL;
    weir_status status = search_make(scratch, net, &search);
    if (status == WEIR_OK) {
        status = scratch_take(scratch, &trial, net->dispatch_count);
    }
    if (status == WEIR_OK) {
        const uint64_t lowest = find_order(&search);
        uint32_t fewest = UINT32_MAX;
        for (size_t w = 0; w < sizeof windows / sizeof *windows; w++) {
            grouping g = {.cap = cap > lowest ? cap : lowest, .window = windows[w]};
            if (fill_groups(&search, &g, trial) && g.groups < fewest) {
                fewest = g.groups;
                memcpy(groups, trial, net->dispatch_count * sizeof *groups);
            }
        }
    }
    plan_scratch_release(scratch, mark);
    return status;
}
