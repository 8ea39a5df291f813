#include <string.h>

#include "schedule/order.h"

weir_status order_live_make(plan_scratch* scratch, const order_net* net, uint32_t groups_max,
                            order_live* live) {
    *live = (order_live){.net = net, .group_count = groups_max};
    WEIR_TRY(scratch_take(scratch, &live->groups, net->dispatch_count));
    WEIR_TRY(scratch_take(scratch, &live->bytes, groups_max));
    return scratch_take(scratch, &live->seen, net->dispatch_count);
}

order_span order_live_span(const order_live* live, uint32_t buffer) {
    const order_lists* uses = &live->net->uses;
    const uint32_t begin = uses->begins[buffer];
    order_span span = {live->groups[uses->items[begin]], live->groups[uses->items[begin]]};
    for (uint32_t u = begin + 1; u < uses->begins[buffer + 1]; u++) {
        const uint32_t group = live->groups[uses->items[u]];
        span.first = group < span.first ? group : span.first;
        span.last = group > span.last ? group : span.last;
    }
    return span;
}

// Whether a dispatch is the only one of the last group in which a buffer is used.
static bool ends_alone(const order_live* live, uint32_t dispatch, uint32_t buffer) {
    const order_lists* uses = &live->net->uses;
    const uint32_t group = live->groups[dispatch];
    for (uint32_t u = uses->begins[buffer]; u < uses->begins[buffer + 1]; u++) {
        if (uses->items[u] != dispatch && live->groups[uses->items[u]] >= group) {
            return false;
        }
    }
    return true;
}

// Bytes that a dispatch saves in its group by writing its result in place; a pair has one size.
static uint64_t saved_bytes(const order_live* live, uint32_t dispatch) {
    const order_lists* pairs = &live->net->pairs;
    for (uint32_t p = pairs->begins[dispatch]; p < pairs->begins[dispatch + 1]; p++) {
        if (ends_alone(live, dispatch, pairs->items[p])) {
            return live->net->bytes[pairs->items[p]];
        }
    }
    return 0;
}

// Unsigned sums wrap around on the way and come out right.
static void add_life(order_live* live, uint32_t buffer, bool add) {
    const order_span span = order_live_span(live, buffer);
    const uint64_t bytes = add ? live->net->bytes[buffer] : 0 - live->net->bytes[buffer];
    for (uint32_t g = span.first; g <= span.last; g++) {
        live->bytes[g] += bytes;
    }
}

static void add_saving(order_live* live, uint32_t dispatch, bool add) {
    const uint64_t bytes = saved_bytes(live, dispatch);
    live->bytes[live->groups[dispatch]] += add ? 0 - bytes : bytes;
}

void order_live_fill(order_live* live) {
    const order_net* net = live->net;
    memset(live->bytes, 0, live->group_count * sizeof *live->bytes);
    for (uint32_t i = 0; i < net->buffer_count; i++) {
        add_life(live, i, true);
    }
    for (uint32_t d = 0; d < net->dispatch_count; d++) {
        add_saving(live, d, true);
    }
}

// Adds or takes out all that depends on the group of one dispatch: the lives of what it touches,
// and the savings of all that touch the same.
static void add_around(order_live* live, uint32_t dispatch, bool add) {
    const order_net* net = live->net;
    live->visit++;
    for (uint32_t t = net->touched.begins[dispatch]; t < net->touched.begins[dispatch + 1]; t++) {
        const uint32_t buffer = net->touched.items[t];
        add_life(live, buffer, add);
        for (uint32_t u = net->uses.begins[buffer]; u < net->uses.begins[buffer + 1]; u++) {
            const uint32_t user = net->uses.items[u];
            if (live->seen[user] != live->visit) {
                live->seen[user] = live->visit;
                add_saving(live, user, add);
            }
        }
    }
}

void order_live_move(order_live* live, uint32_t dispatch, uint32_t group) {
    add_around(live, dispatch, false);
    live->groups[dispatch] = group;
    add_around(live, dispatch, true);
}

order_score order_live_score(const order_live* live) {
    uint64_t peak = 0;
    for (uint32_t g = 0; g < live->group_count; g++) {
        peak = live->bytes[g] > peak ? live->bytes[g] : peak;
    }
    order_score score = {.peak = peak};
    for (uint32_t g = live->group_count; g-- > 0;) {
        if (live->bytes[g] == peak) {
            score.first = g;
            score.count++;
        }
    }
    return score;
}
