#include <stdlib.h>

#include "base/bits.h"
#include "base/checked.h"
#include "plan/plan_internal.h"
#include "plan/plan_sort.h"

#define THRESHOLDS 8 // for the bound on blocks

// What any placement needs: the heaviest set of classes that conflict pairwise. With one interval
// each the classes live at some moment are such a set, and every such set shares a moment (Helly in
// one dimension), so the largest live sum is exact. In a partial order such sets are antichains.

// Bytes that a class counts in the sums.
typedef struct weights {
    const uint64_t* bytes; // by class, from the first of the pool
    uint32_t first;
    uint32_t count;
    bool is_quick; // partial order mode: some heavy set will do
} weights;

typedef struct event {
    int64_t time;
    uint64_t bytes;
    bool begins;
} event;

// At one time ends come before begins: intervals are half-open.
static int compare_events(const void* a, const void* b) {
    const event* x = a;
    const event* y = b;
    if (x->time != y->time) {
        return x->time < y->time ? -1 : 1;
    }
    return (int)x->begins - (int)y->begins;
}

static weir_status largest_live_sum(plan_scratch* scratch, const plan_instance* instance,
                                    const weights* weight, uint64_t* largest) {
    size_t count = 0;
    for (uint32_t i = 0; i < weight->count; ++i) {
        count += 2 * (size_t)instance->classes[weight->first + i].span_count;
    }
    event* events = NULL;
    WEIR_TRY(scratch_take(scratch, &events, count));
    size_t next = 0;
    for (uint32_t i = 0; i < weight->count; ++i) {
        const plan_class* block = &instance->classes[weight->first + i];
        for (uint32_t s = 0; s < block->span_count; ++s) {
            const weir_plan_interval span = instance->spans[block->first_span + s];
            events[next++] = (event){span.begin, weight->bytes[i], true};
            events[next++] = (event){span.end, weight->bytes[i], false};
        }
    }
    qsort(events, count, sizeof *events, compare_events);
    uint64_t live = 0;
    *largest = 0;
    for (size_t i = 0; i < count; ++i) {
        live = events[i].begins ? live + events[i].bytes : live - events[i].bytes;
        *largest = live > *largest ? live : *largest;
    }
    return WEIR_OK;
}

// A flow network; edge e and its reverse e ^ 1 lie together.
typedef struct edge {
    uint64_t room;
    uint32_t to;
    uint32_t next; // of the same node, or NO_EDGE
} edge;

#define NO_EDGE UINT32_MAX

typedef struct network {
    uint32_t node_count;
    uint32_t source;
    uint32_t sink;
    edge* edges;
    uint32_t edge_count;
    uint32_t* head;  // per node: first edge
    uint32_t* arc;   // per node: next edge to try in this phase
    uint32_t* level; // per node: distance from the source, 0 = unreached
    uint32_t* work;  // per node: queue of the search, then the path
} network;

static void add_edge(network* net, uint32_t from, uint32_t to, uint64_t room) {
    net->edges[net->edge_count] = (edge){room, to, net->head[from]};
    net->head[from] = net->edge_count++;
    net->edges[net->edge_count] = (edge){0, from, net->head[to]};
    net->head[to] = net->edge_count++;
}

// Breadth first from the source; false when the sink is cut off, which ends the search.
static bool find_levels(network* net) {
    for (uint32_t i = 0; i < net->node_count; ++i) {
        net->level[i] = 0;
        net->arc[i] = net->head[i];
    }
    uint32_t read = 0;
    uint32_t written = 0;
    net->work[written++] = net->source;
    net->level[net->source] = 1;
    while (read < written) {
        const uint32_t node = net->work[read++];
        for (uint32_t e = net->head[node]; e != NO_EDGE; e = net->edges[e].next) {
            if (net->edges[e].room > 0 && net->level[net->edges[e].to] == 0) {
                net->level[net->edges[e].to] = net->level[node] + 1;
                net->work[written++] = net->edges[e].to;
            }
        }
    }
    return net->level[net->sink] > 0;
}

// Pushes what the path carries; returns its length up to the first edge that is now full.
static uint32_t push_path(network* net, uint32_t length, uint64_t* flow) {
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < length; ++i) {
        const uint64_t room = net->edges[net->work[i]].room;
        least = room < least ? room : least;
    }
    uint32_t full = length;
    for (uint32_t i = length; i-- > 0;) {
        net->edges[net->work[i]].room -= least;
        net->edges[net->work[i] ^ 1].room += least;
        full = net->edges[net->work[i]].room == 0 ? i : full;
    }
    *flow += least;
    return full;
}

// Pushes until every path of the levels is blocked.
static void block_flow(network* net, uint64_t* flow) {
    uint32_t node = net->source;
    uint32_t length = 0; // edges of the path, in net->work
    for (;;) {
        if (node == net->sink) {
            length = push_path(net, length, flow);
            node = length == 0 ? net->source : net->edges[net->work[length - 1]].to;
        }
        uint32_t* arc = &net->arc[node];
        while (*arc != NO_EDGE && (net->edges[*arc].room == 0 ||
                                   net->level[net->edges[*arc].to] != net->level[node] + 1)) {
            *arc = net->edges[*arc].next;
        }
        if (*arc != NO_EDGE) {
            net->work[length++] = *arc;
            node = net->edges[*arc].to;
        } else if (length == 0) {
            return; // the source itself has no way on
        } else {
            const uint32_t back = net->work[--length];
            node = net->edges[back ^ 1].to;
            net->arc[node] = net->edges[net->arc[node]].next;
        }
    }
}

// Maximum flow (Dinic 1970).
static uint64_t max_flow(network* net) {
    uint64_t flow = 0;
    while (find_levels(net)) {
        block_flow(net, &flow);
    }
    return flow;
}

// Fills one row with the immediate successors: those after no other successor. Flow may pass
// through a class, so these edges carry all that the whole order would.
static uint32_t reduce_row(const plan_instance* instance, const weights* weight, uint32_t index,
                           uint64_t* reduced) {
    const size_t words = instance->row_words;
    const uint32_t end = weight->first + weight->count;
    const uint64_t* row = instance->precedes + index * words;
    for (size_t w = 0; w < words; ++w) {
        reduced[w] = row[w];
    }
    // Classes of other pools lie on either side.
    for (size_t w = 0; w < weight->first / 64; ++w) {
        reduced[w] = 0;
    }
    reduced[weight->first / 64] &= UINT64_MAX << (weight->first % 64);
    reduced[(end - 1) / 64] &= UINT64_MAX >> (63 - (end - 1) % 64);
    for (size_t w = (end - 1) / 64 + 1; w < words; ++w) {
        reduced[w] = 0;
    }
    for (size_t w = weight->first / 64; w <= (end - 1) / 64; ++w) {
        // What an already struck successor precedes is struck with it, by transitivity.
        for (uint64_t seen = 0; (reduced[w] & ~seen) != 0;) {
            const uint32_t bit = bits_lowest(reduced[w] & ~seen);
            const uint64_t* after = instance->precedes + (w * 64 + bit) * words;
            for (size_t v = 0; v < words; ++v) {
                reduced[v] &= ~after[v];
            }
            seen |= UINT64_MAX >> (63 - bit);
        }
    }
    return bits_count(reduced, words);
}

static weir_status make_network(plan_scratch* scratch, const plan_instance* instance,
                                const weights* weight, network* net) {
    const uint32_t count = weight->count;
    uint64_t* reduced = NULL;
    WEIR_TRY(scratch_take(scratch, &reduced, instance->row_words));
    size_t edges = 3 * (size_t)count;
    for (uint32_t i = 0; i < count; ++i) {
        edges += reduce_row(instance, weight, weight->first + i, reduced);
    }
    if (count >= UINT32_MAX / 2 || edges >= UINT32_MAX / 2) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%u buffers with %zu edges are too many for the bound",
                         count, edges);
    }
    *net = (network){.node_count = 2 * count + 2, .source = 2 * count, .sink = 2 * count + 1};
    WEIR_TRY(scratch_take(scratch, &net->edges, 2 * edges));
    WEIR_TRY(scratch_take(scratch, &net->head, net->node_count));
    WEIR_TRY(scratch_take(scratch, &net->arc, net->node_count));
    WEIR_TRY(scratch_take(scratch, &net->level, net->node_count));
    WEIR_TRY(scratch_take(scratch, &net->work, net->node_count));
    for (uint32_t i = 0; i < net->node_count; ++i) {
        net->head[i] = NO_EDGE;
    }
    for (uint32_t i = 0; i < count; ++i) {
        add_edge(net, net->source, i, weight->bytes[i]);
        add_edge(net, count + i, net->sink, weight->bytes[i]);
        // From the late side back to the early one: what may follow this class may follow those
        // that it follows.
        add_edge(net, count + i, i, PLAN_LIMIT);
        reduce_row(instance, weight, weight->first + i, reduced);
        for (size_t w = 0; w < instance->row_words; ++w) {
            for (uint64_t rest = reduced[w]; rest != 0; rest &= rest - 1) {
                const uint32_t j = (uint32_t)w * 64 + bits_lowest(rest) - weight->first;
                add_edge(net, i, count + j, PLAN_LIMIT);
            }
        }
    }
    return WEIR_OK;
}

// Dilworth (1950), weighted: the heaviest antichain is the sum of all weights less the largest
// matching of early bytes (left, node i) with later ones (right, node count + i).
static weir_status heaviest_antichain(plan_scratch* scratch, const plan_instance* instance,
                                      const weights* weight, uint64_t* heaviest) {
    network net;
    WEIR_TRY(make_network(scratch, instance, weight, &net));
    uint64_t sum = 0;
    for (uint32_t i = 0; i < weight->count; ++i) {
        sum += weight->bytes[i];
    }
    *heaviest = sum - max_flow(&net);
    return WEIR_OK;
}

// Takes the classes one after another into a set that conflicts pairwise, dropping whatever does
// not conflict with the newest; the heaviest such set seen is a bound too.
static uint64_t sweep_antichains(const plan_instance* instance, const weights* weight,
                                 const plan_pair* order, uint64_t* set) {
    const size_t words = instance->row_words;
    uint64_t bytes = 0;
    uint64_t heaviest = 0;
    for (size_t w = 0; w < words; ++w) {
        set[w] = 0;
    }
    for (uint32_t i = 0; i < weight->count; ++i) {
        const uint32_t added = weight->first + order[i].index;
        const uint64_t* row = instance->conflicts + added * words;
        for (size_t w = 0; w < words; ++w) {
            for (uint64_t gone = set[w] & ~row[w]; gone != 0; gone &= gone - 1) {
                const uint32_t dropped = (uint32_t)w * 64 + bits_lowest(gone);
                bytes -= weight->bytes[dropped - weight->first];
            }
            set[w] &= row[w];
        }
        bits_set(set, added);
        bytes += weight->bytes[order[i].index];
        heaviest = bytes > heaviest ? bytes : heaviest;
    }
    return heaviest;
}

// The live sets of three topological orders. In one of them the heaviest antichain is nearly always
// found, and where it is as heavy as a plan is high there is no need of the flow.
static weir_status lively_antichain(plan_scratch* scratch, const plan_instance* instance,
                                    const weights* weight, uint64_t* heaviest) {
    uint64_t* set = NULL;
    plan_pair* order = NULL;
    plan_pair* spare = NULL;
    WEIR_TRY(scratch_take(scratch, &set, instance->row_words));
    WEIR_TRY(scratch_take(scratch, &order, weight->count));
    WEIR_TRY(scratch_take(scratch, &spare, weight->count));
    *heaviest = 0;
    for (int kind = 0; kind < 3; ++kind) {
        for (uint32_t i = 0; i < weight->count; ++i) {
            const uint64_t* after =
                instance->precedes + (size_t)(weight->first + i) * instance->row_words;
            const uint64_t born = (uint64_t)instance->classes[weight->first + i].birth;
            const uint64_t last = UINT64_MAX - bits_count(after, instance->row_words);
            order[i] = (plan_pair){kind == 0 ? 0 : kind == 1 ? born : last, i};
        }
        plan_sort_pairs(order, spare, weight->count);
        const uint64_t bytes = sweep_antichains(instance, weight, order, set);
        *heaviest = bytes > *heaviest ? bytes : *heaviest;
    }
    return WEIR_OK;
}

static weir_status heaviest_clique(plan_scratch* scratch, const plan_instance* instance,
                                   const weights* weight, uint64_t* heaviest) {
    scratch_block* mark = scratch->last;
    weir_status status = WEIR_OK;
    if (weight->is_quick) {
        status = lively_antichain(scratch, instance, weight, heaviest);
    } else if (instance->precedes) {
        status = heaviest_antichain(scratch, instance, weight, heaviest);
    } else {
        status = largest_live_sum(scratch, instance, weight, heaviest);
    }
    plan_scratch_release(scratch, mark);
    return status;
}

// The greatest step that all offsets are multiples of.
static uint64_t common_alignment(const plan_class* classes, uint32_t count) {
    uint64_t divisor = 0;
    for (uint32_t i = 0; i < count; ++i) {
        for (uint64_t rest = classes[i].alignment; rest != 0;) {
            const uint64_t next = divisor % rest;
            divisor = rest;
            rest = next;
        }
    }
    return divisor;
}

// Rounds sizes up to the step of all offsets; false when the sum passes the limit. `slack` becomes
// the most bytes that any one was rounded up by.
static bool round_up(const plan_class* classes, uint32_t count, uint64_t* bytes, uint64_t* slack) {
    const uint64_t step = common_alignment(classes, count);
    uint64_t sum = 0;
    *slack = 0;
    for (uint32_t i = 0; i < count; ++i) {
        if (!align_u64(classes[i].byte_size, step, &bytes[i]) || !add_u64(sum, bytes[i], &sum) ||
            sum > PLAN_LIMIT) {
            return false;
        }
        const uint64_t padding = bytes[i] - classes[i].byte_size;
        *slack = padding > *slack ? padding : *slack;
    }
    return true;
}

typedef enum bound_kind {
    BOUND_EXACT,
    BOUND_QUICK,
    BOUND_OF_BLOCKS, // the topmost of every block is not rounded up, so none is
} bound_kind;

static weir_status find_bound(plan_scratch* scratch, const plan_instance* instance, uint32_t first,
                              uint32_t count, bound_kind kind, uint64_t* bound) {
    const plan_class* classes = instance->classes + first;
    scratch_block* mark = scratch->last;
    uint64_t* bytes = NULL;
    WEIR_TRY(scratch_take(scratch, &bytes, count));
    const weights weight = {bytes, first, count, kind == BOUND_QUICK};
    uint64_t slack = 0;
    uint64_t rounded = 0;
    weir_status status = WEIR_OK;
    // In a set that conflicts pairwise all but the topmost reach up to the next aligned offset.
    if (kind != BOUND_OF_BLOCKS && round_up(classes, count, bytes, &slack)) {
        status = heaviest_clique(scratch, instance, &weight, &rounded);
        rounded -= slack < rounded ? slack : rounded;
    } else {
        slack = 1;
    }
    uint64_t plain = 0;
    if (status == WEIR_OK && slack > 0) {
        for (uint32_t i = 0; i < count; ++i) {
            bytes[i] = classes[i].byte_size;
        }
        status = heaviest_clique(scratch, instance, &weight, &plain);
    }
    // Fixed classes need what lies below them, too.
    uint64_t most = rounded > plain ? rounded : plain;
    for (uint32_t i = 0; i < count; ++i) {
        const uint64_t end = classes[i].fixed ? classes[i].fixed_offset + classes[i].byte_size : 0;
        most = end > most ? end : most;
    }
    plan_scratch_release(scratch, mark);
    if (status == WEIR_OK) {
        *bound = most;
    }
    return status;
}

weir_status plan_bound(plan_scratch* scratch, const plan_instance* instance, uint32_t first,
                       uint32_t count, uint64_t* bound) {
    return find_bound(scratch, instance, first, count, BOUND_EXACT, bound);
}

weir_status plan_bound_quick(plan_scratch* scratch, const plan_instance* instance, uint32_t first,
                             uint32_t count, uint64_t* bound) {
    return find_bound(scratch, instance, first, count, BOUND_QUICK, bound);
}

weir_status plan_bound_split(plan_scratch* scratch, const plan_instance* instance, uint32_t first,
                             uint32_t count, uint64_t* bound) {
    return find_bound(scratch, instance, first, count, BOUND_OF_BLOCKS, bound);
}

weir_status plan_bound_blocks(plan_scratch* scratch, const plan_instance* instance, uint32_t first,
                              uint32_t count, uint64_t cap, uint32_t* blocks) {
    scratch_block* mark = scratch->last;
    uint64_t* bytes = NULL;
    uint64_t most = 0;
    weir_status status = scratch_take(scratch, &bytes, count);
    const weights weight = {bytes, first, count, false};
    // At each threshold what is larger than the rest of a block counts for a whole one, and what is
    // smaller for nothing (Fekete and Schepers 2001): no block holds more than the cap of that.
    for (uint32_t step = 0; step <= THRESHOLDS && status == WEIR_OK; ++step) {
        const uint64_t threshold = step < THRESHOLDS ? cap / 2 / THRESHOLDS * step : cap / 2;
        uint64_t sum = 0;
        bool fits = true;
        for (uint32_t i = 0; i < count; ++i) {
            const uint64_t size = instance->classes[first + i].byte_size;
            bytes[i] = size > cap - threshold ? cap : size >= threshold ? size : 0;
            fits &= add_u64(sum, bytes[i], &sum) && sum <= PLAN_LIMIT;
        }
        uint64_t heaviest = 0;
        if (fits) {
            status = heaviest_clique(scratch, instance, &weight, &heaviest);
        }
        const uint64_t needed = heaviest / cap + (heaviest % cap != 0);
        most = needed > most ? needed : most;
    }
    plan_scratch_release(scratch, mark);
    if (status == WEIR_OK) {
        *blocks = most < UINT32_MAX ? (uint32_t)most : UINT32_MAX;
    }
    return status;
}
