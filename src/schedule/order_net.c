#include "schedule/order.h"

// A relation between two numbered sets, collected in two rounds: counted, then filled.
typedef struct collector {
    uint32_t* begins; // count + 1
    uint32_t* items;
} collector;

static weir_status collector_make(plan_scratch* scratch, size_t count, collector* made) {
    return scratch_take(scratch, &made->begins, count + 2);
}

// After counting into begins[i + 2] this leaves the place to fill next in begins[i + 1].
static weir_status collector_start(plan_scratch* scratch, size_t count, collector* made) {
    for (size_t i = 0; i < count; i++) {
        made->begins[i + 2] += made->begins[i + 1];
    }
    return scratch_take(scratch, &made->items, made->begins[count + 1]);
}

static void collector_add(collector* made, uint32_t key, uint32_t item, bool fill) {
    if (fill) {
        made->items[made->begins[key + 1]++] = item;
    } else {
        made->begins[key + 2]++;
    }
}

static order_lists collector_lists(const collector* made) {
    return (order_lists){.begins = made->begins, .items = made->items};
}

static weir_status find_after(plan_scratch* scratch, order_net* net) {
    collector after = {0};
    WEIR_TRY(collector_make(scratch, net->dispatch_count, &after));
    for (int fill = 0; fill < 2; fill++) {
        for (uint32_t d = 0; d < net->dispatch_count; d++) {
            for (uint32_t e = net->before.begins[d]; e < net->before.begins[d + 1]; e++) {
                collector_add(&after, net->before.items[e], d, fill != 0);
            }
        }
        if (fill == 0) {
            WEIR_TRY(collector_start(scratch, net->dispatch_count, &after));
        }
    }
    net->after = collector_lists(&after);
    return WEIR_OK;
}

// Both directions of "this dispatch touches that buffer", each pair once.
static weir_status find_touched(plan_scratch* scratch, const weir_schedule* schedule,
                                order_net* net) {
    collector touched = {0};
    collector uses = {0};
    WEIR_TRY(collector_make(scratch, net->dispatch_count, &touched));
    WEIR_TRY(collector_make(scratch, net->buffer_count, &uses));
    for (int fill = 0; fill < 2; fill++) {
        for (weir_value value = 0; value < schedule->values.count; value++) {
            const uint32_t buffer = schedule->buffers[value];
            if (buffer == WEIR_PLAN_NONE) {
                continue;
            }
            uint32_t count = 0;
            const uint32_t* list = schedule_uses_of(schedule, value, &count);
            for (uint32_t i = 0; i < count; i++) {
                collector_add(&touched, list[i], buffer, fill != 0);
                collector_add(&uses, buffer, list[i], fill != 0);
            }
        }
        if (fill == 0) {
            WEIR_TRY(collector_start(scratch, net->dispatch_count, &touched));
            WEIR_TRY(collector_start(scratch, net->buffer_count, &uses));
        }
    }
    net->touched = collector_lists(&touched);
    net->uses = collector_lists(&uses);
    return WEIR_OK;
}

static weir_status find_pairs(plan_scratch* scratch, const weir_schedule* schedule,
                              order_net* net) {
    collector pairs = {0};
    WEIR_TRY(collector_make(scratch, net->dispatch_count, &pairs));
    for (int fill = 0; fill < 2; fill++) {
        for (uint32_t d = 0; d < net->dispatch_count; d++) {
            const schedule_dispatch* dispatch = &schedule->dispatches.items[d];
            const schedule_operand* operands = schedule->operands.items + dispatch->operand_begin;
            for (uint32_t input = 0; dispatch->overwrites >> input != 0; input++) {
                if ((dispatch->overwrites >> input & 1) != 0) {
                    collector_add(&pairs, d, schedule->buffers[operands[input].root], fill != 0);
                }
            }
        }
        if (fill == 0) {
            WEIR_TRY(collector_start(scratch, net->dispatch_count, &pairs));
        }
    }
    net->pairs = collector_lists(&pairs);
    return WEIR_OK;
}

weir_status order_net_make(plan_scratch* scratch, const weir_schedule* schedule, order_net* net) {
    *net = (order_net){.dispatch_count = (uint32_t)schedule->dispatches.count,
                       .buffer_count = (uint32_t)schedule->plan_buffers.count,
                       .before = {schedule->edges.begins, schedule->edges.items}};
    uint64_t* bytes = NULL;
    WEIR_TRY(scratch_take(scratch, &bytes, net->buffer_count));
    for (uint32_t i = 0; i < net->buffer_count; i++) {
        bytes[i] = schedule->plan_buffers.items[i].byte_size;
    }
    net->bytes = bytes;
    WEIR_TRY(find_after(scratch, net));
    WEIR_TRY(find_touched(scratch, schedule, net));
    return find_pairs(scratch, schedule, net);
}
