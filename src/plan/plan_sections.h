// The normal form of an interval problem, which the fast path and the exact path both plan.
//
// Time is cut into sections, one per largest set of classes live together: two classes conflict
// exactly when they are live in one section. Sizes and offsets are counted in units, the greatest
// step that all offsets can be taken in. Where no class lives across the border of two sections,
// the problem falls apart into components, which do not see each other: each is planned from 0 up,
// and the peak is that of the highest.
//
//     item 0  [0, 2) size 3    #### ####
//     item 1  [0, 1) size 1    #
//     item 2  [1, 2) size 2         ##          section    0    1
//                                               total      4    5     bound 5
#ifndef WEIR_PLAN_SECTIONS_H
#define WEIR_PLAN_SECTIONS_H

#include "plan/plan_internal.h"

typedef struct plan_span {
    uint32_t first; // section
    uint32_t end;   // one past the last
} plan_span;

// One class.
typedef struct plan_item {
    uint64_t size;         // units, >= 1
    uint64_t alignment;    // of the offset, in units, >= 1
    uint64_t fixed_offset; // units, where `fixed`
    uint32_t first;        // first section it lives in
    uint32_t end;          // one past the last
    uint32_t first_span;   // of plan_component.spans, where span_count > 1: rising and apart
    uint32_t span_count;   // 1: it lives in all of [first, end)
    uint32_t index;        // class of the instance
    bool fixed;
} plan_item;

typedef struct plan_component {
    const plan_item* items; // by first section, then by class
    const plan_span* spans; // of items with gaps
    const uint64_t* totals; // per section: units of all items live in it
    uint32_t item_count;
    uint32_t section_count; // sections count from 0 in each component
    uint64_t bound;         // units; no placement of the component is lower
    bool has_gaps;          // any span_count > 1
    bool has_fixed;
    bool has_alignment; // any alignment > 1
} plan_component;

typedef struct plan_sections {
    plan_component* components;
    uint32_t component_count;
    uint64_t unit;       // bytes
    uint64_t slack;      // the most bytes by which any size was rounded up to units; 0: all exact
    uint64_t bound;      // units: of the highest component
    uint64_t byte_bound; // no placement of these classes has a lower peak in bytes
} plan_sections;

// Returns span `index` of an item of a component.
static inline plan_span plan_item_span(const plan_component* component, const plan_item* item,
                                       uint32_t index) {
    return item->span_count == 1 ? (plan_span){item->first, item->end}
                                 : component->spans[item->first_span + index];
}

// Normalises classes [first, first + count) of one pool, count >= 1, of an instance with spans. A
// placement in units is one in bytes: offset = units * unit. Its peak in bytes is then the largest
// offset + byte_size, which is up to `slack` below peak * unit. A peak P in units cannot be beaten
// in units => none in bytes is below P * unit - slack.
//
// Classes that never live are components of their own.
WEIR_MUST_USE weir_status plan_sections_make(plan_scratch* scratch, const plan_instance* instance,
                                             uint32_t first, uint32_t count,
                                             plan_sections* sections);

#endif
