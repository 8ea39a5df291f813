// Components of items by birth, placed one by one, for tests of what changes placements.
#ifndef WEIR_TESTS_RANDOM_COMPONENT_H
#define WEIR_TESTS_RANDOM_COMPONENT_H

#include "testing.h"

#include "plan/plan_sections.h"

#define MOST 6000

static plan_item items[MOST];
static uint64_t totals[MOST];
static uint64_t offsets[MOST];

// Items by birth: most of them live shortly, so that many stand aside, unless all live long.
static plan_component random_component(test_random* random, uint32_t count, uint32_t sections) {
    const bool is_long = random_below(random, 2);
    uint32_t first = 0;
    plan_component component = {
        .items = items, .totals = totals, .item_count = count, .section_count = sections};
    memset(totals, 0, sizeof totals);
    for (uint32_t i = 0; i < count; ++i) {
        const uint64_t step = random_below(random, 1 + 2ull * sections / count);
        first = first + step < sections ? first + (uint32_t)step : first;
        const uint64_t most = is_long || random_below(random, 8) == 0 ? sections / 2 + 1 : 4;
        const uint64_t end = first + 1 + random_below(random, most);
        const uint64_t size = random_below(random, 1000);
        items[i] = (plan_item){.size = 1 + (size >> random_below(random, 8)),
                               .alignment = 1,
                               .first = first,
                               .end = end < sections ? (uint32_t)end : sections,
                               .span_count = 1,
                               .index = i};
        for (uint32_t s = first; s < items[i].end; ++s) {
            totals[s] += items[i].size;
            component.bound = totals[s] > component.bound ? totals[s] : component.bound;
        }
    }
    return component;
}

// First fit by births, or each item on top of all before it.
static uint64_t first_placement(const plan_component* component, bool is_tower) {
    uint64_t top = 0;
    for (uint32_t i = 0; i < component->item_count; ++i) {
        offsets[i] = is_tower ? top : 0;
        for (uint32_t j = 0; j < i && !is_tower; ++j) {
            const uint64_t end = offsets[j] + items[j].size;
            if (items[j].end > items[i].first && offsets[i] < end &&
                offsets[j] < offsets[i] + items[i].size) {
                offsets[i] = end;
                j = UINT32_MAX; // from the beginning: the place is another
            }
        }
        top = offsets[i] + items[i].size > top ? offsets[i] + items[i].size : top;
    }
    return top;
}

// Pair by pair; items at UINT64_MAX have no place. Returns the peak.
static uint64_t assert_placed(const plan_component* component) {
    uint64_t top = 0;
    for (uint32_t i = 0; i < component->item_count; ++i) {
        const uint64_t end = offsets[i] + items[i].size;
        if (offsets[i] == UINT64_MAX) {
            continue;
        }
        top = end > top ? end : top;
        for (uint32_t j = 0; j < i; ++j) {
            assert_true(offsets[j] == UINT64_MAX || items[j].end <= items[i].first ||
                        items[i].end <= items[j].first ||
                        offsets[j] + items[j].size <= offsets[i] || end <= offsets[j]);
        }
    }
    return top;
}

#endif
