#include "plan/plan_sections.h"

#include "base/checked.h"
#include "plan/plan_sort.h"

// Everything here is linear but for the sorting of times, so that a million classes are no matter.

// What building needs; the arrays count from the first class or span of the pool.
typedef struct builder {
    plan_scratch* scratch;
    const plan_instance* instance;
    uint32_t first; // class
    uint32_t count;
    uint32_t first_span; // of the instance: the spans of a pool follow each other
    uint32_t span_count;
    plan_span* spans; // in sections
    uint32_t section_count;
    uint64_t step; // sizes are rounded up to it: the greatest that divides all alignments
    plan_item* items;
    uint64_t* totals;
    uint32_t* crossing; // per section: items that live in it and in the one before
    plan_sections* made;
} builder;

static uint64_t greatest_divisor(uint64_t a, uint64_t b) {
    while (b != 0) {
        const uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static const plan_class* class_at(const builder* build, uint32_t item) {
    return &build->instance->classes[build->first + item];
}

// The caller has seen that this does not overflow.
static uint64_t rounded(uint64_t size, uint64_t step) {
    const uint64_t rest = size % step;
    return rest == 0 ? size : size - rest + step;
}

// Whatever lies above a class begins at a multiple of all alignments' divisor, so no placement is
// lost when sizes are rounded up to it; unless the sum then passes the limit.
static uint64_t rounding_step(const builder* build) {
    uint64_t step = 0;
    for (uint32_t i = 0; i < build->count && step != 1; ++i) {
        step = greatest_divisor(class_at(build, i)->alignment, step);
    }
    uint64_t sum = 0;
    for (uint32_t i = 0; i < build->count && step != 1; ++i) {
        const plan_class* block = class_at(build, i);
        uint64_t size = 0;
        uint64_t end = 0;
        if (!align_u64(block->byte_size, step, &size) || !add_u64(sum, size, &sum) ||
            sum > PLAN_LIMIT ||
            (block->fixed && (!add_u64(block->fixed_offset, size, &end) || end > PLAN_LIMIT))) {
            return 1;
        }
    }
    return step;
}

// When all alignments divide all sizes, stacking alone keeps every offset aligned, and the divisor
// of the sizes may be greater than that of the alignments.
static void choose_unit(builder* build) {
    build->step = rounding_step(build);
    uint64_t unit = 0;
    for (uint32_t i = 0; i < build->count && unit != 1; ++i) {
        const plan_class* block = class_at(build, i);
        unit = greatest_divisor(rounded(block->byte_size, build->step), unit);
        if (block->fixed) {
            unit = greatest_divisor(block->fixed_offset, unit);
        }
    }
    bool divide = true;
    for (uint32_t i = 0; i < build->count && divide; ++i) {
        divide = unit % class_at(build, i)->alignment == 0;
    }
    for (uint32_t i = 0; i < build->count && !divide; ++i) {
        unit = greatest_divisor(class_at(build, i)->alignment, unit);
    }
    build->made->unit = unit;
}

// Walks begins and ends in order; a section ends where something dies after something was born.
static void sweep(builder* build, const plan_pair* begins, const plan_pair* ends) {
    uint32_t section = 0;
    uint32_t born = 0;
    bool grown = false;
    for (uint32_t dead = 0; dead < build->span_count;) {
        // Intervals are half-open: at one time ends come first.
        if (born < build->span_count && begins[born].key < ends[dead].key) {
            build->spans[begins[born++].index].first = section;
            grown = true;
        } else {
            section += grown;
            grown = false;
            build->spans[ends[dead++].index].end = section;
        }
    }
    build->section_count = section;
}

// Finds the sections in which each span begins and ends.
static weir_status cut_time(builder* build) {
    const uint32_t count = build->span_count;
    WEIR_TRY(scratch_take(build->scratch, &build->spans, count));
    scratch_block* mark = build->scratch->last;
    plan_pair* begins = NULL;
    plan_pair* ends = NULL;
    plan_pair* spare = NULL;
    weir_status status = scratch_take(build->scratch, &begins, count);
    if (status == WEIR_OK) {
        status = scratch_take(build->scratch, &ends, count);
    }
    if (status == WEIR_OK) {
        status = scratch_take(build->scratch, &spare, count);
    }
    if (status == WEIR_OK) {
        const weir_plan_interval* live = build->instance->spans + build->first_span;
        for (uint32_t i = 0; i < count; ++i) {
            begins[i] = (plan_pair){plan_time_key(live[i].begin), i};
            ends[i] = (plan_pair){plan_time_key(live[i].end), i};
        }
        plan_sort_pairs(begins, spare, count);
        plan_sort_pairs(ends, spare, count);
        sweep(build, begins, ends);
    }
    plan_scratch_release(build->scratch, mark);
    return status;
}

// Makes item `i`, with its spans. A gap may close: when all that lives in it lives in the section
// before or after, nothing is lost by calling the class live there.
static plan_item item_of(builder* build, uint32_t i) {
    const plan_class* block = class_at(build, i);
    const uint64_t unit = build->made->unit;
    plan_item item = {.size = rounded(block->byte_size, build->step) / unit,
                      .alignment = block->alignment / greatest_divisor(block->alignment, unit),
                      .fixed_offset = block->fixed ? block->fixed_offset / unit : 0,
                      .first_span = block->first_span - build->first_span,
                      .index = build->first + i,
                      .fixed = block->fixed};
    plan_span* spans = build->spans + item.first_span;
    for (uint32_t s = 0; s < block->span_count; ++s) {
        if (item.span_count > 0 && spans[s].first <= spans[item.span_count - 1].end) {
            spans[item.span_count - 1].end = spans[s].end;
        } else {
            spans[item.span_count++] = spans[s];
        }
    }
    if (item.span_count == 0) { // never live: a section of its own
        item.first = build->section_count++;
        item.end = item.first + 1;
        item.span_count = 1;
    } else {
        item.first = spans[0].first;
        item.end = spans[item.span_count - 1].end;
    }
    return item;
}

// Counting sort of the items by first section. `starts` has one entry per section and one more.
static void order_items(const plan_item* unordered, plan_item* items, uint32_t count,
                        uint32_t* starts, uint32_t section_count) {
    for (uint32_t i = 0; i < count; ++i) {
        ++starts[unordered[i].first + 1];
    }
    for (uint32_t s = 0; s < section_count; ++s) {
        starts[s + 1] += starts[s];
    }
    for (uint32_t i = 0; i < count; ++i) {
        items[starts[unordered[i].first]++] = unordered[i];
    }
}

// Makes the items in the order of classes, then sorts them by birth.
static weir_status make_items(builder* build) {
    const uint32_t count = build->count;
    WEIR_TRY(scratch_take(build->scratch, &build->items, count));
    scratch_block* mark = build->scratch->last;
    plan_item* unordered = NULL;
    uint32_t* starts = NULL;
    weir_status status = scratch_take(build->scratch, &unordered, count);
    if (status == WEIR_OK) {
        for (uint32_t i = 0; i < count; ++i) {
            unordered[i] = item_of(build, i);
        }
        status = scratch_take(build->scratch, &starts, (size_t)build->section_count + 2);
    }
    if (status == WEIR_OK) {
        order_items(unordered, build->items, count, starts, build->section_count);
    }
    plan_scratch_release(build->scratch, mark);
    return status;
}

// Adds the sizes of an item to the differences that `sum_up` makes totals of. Differences may wrap,
// the sums do not: they stay below the sum of all sizes.
static void add_differences(const builder* build, const plan_item* item, uint64_t size,
                            uint64_t* totals) {
    if (item->span_count == 1) {
        totals[item->first] += size;
        totals[item->end] -= size;
        return;
    }
    for (uint32_t s = 0; s < item->span_count; ++s) {
        const plan_span* span = &build->spans[item->first_span + s];
        totals[span->first] += size;
        totals[span->end] -= size;
    }
}

// Makes totals of differences; returns the largest.
static uint64_t sum_up(uint64_t* totals, uint32_t section_count) {
    uint64_t largest = 0;
    for (uint32_t s = 0; s < section_count; ++s) {
        totals[s] += s > 0 ? totals[s - 1] : 0;
        largest = totals[s] > largest ? totals[s] : largest;
    }
    return largest;
}

// Computes the largest live sum of sizes as they are, not rounded.
static weir_status exact_bound(const builder* build, uint64_t* bound) {
    scratch_block* mark = build->scratch->last;
    uint64_t* totals = NULL;
    WEIR_TRY(scratch_take(build->scratch, &totals, (size_t)build->section_count + 1));
    for (uint32_t i = 0; i < build->count; ++i) {
        const plan_item* item = &build->items[i];
        const plan_class* block = &build->instance->classes[item->index];
        add_differences(build, item, block->byte_size, totals);
    }
    *bound = sum_up(totals, build->section_count);
    for (uint32_t i = 0; i < build->count; ++i) {
        const plan_class* block = class_at(build, i);
        const uint64_t end = block->fixed ? block->fixed_offset + block->byte_size : 0;
        *bound = end > *bound ? end : *bound;
    }
    plan_scratch_release(build->scratch, mark);
    return WEIR_OK;
}

// Sums sizes and counts lives that cross from one section into the next. A life [first, end)
// crosses into sections first + 1 to end - 1, gaps and all: components are planned by hulls.
static weir_status sum_sections(builder* build) {
    const size_t borders = (size_t)build->section_count + 1;
    WEIR_TRY(scratch_take(build->scratch, &build->totals, borders));
    WEIR_TRY(scratch_take(build->scratch, &build->crossing, borders + 1));
    for (uint32_t i = 0; i < build->count; ++i) {
        const plan_item* item = &build->items[i];
        const uint64_t size = build->instance->classes[item->index].byte_size;
        const uint64_t padding = item->size * build->made->unit - size;
        build->made->slack = padding > build->made->slack ? padding : build->made->slack;
        add_differences(build, item, item->size, build->totals);
        ++build->crossing[item->first + 1];
        --build->crossing[item->end];
    }
    sum_up(build->totals, build->section_count);
    for (uint32_t s = 0; s < build->section_count; ++s) {
        build->crossing[s + 1] += build->crossing[s];
    }
    return WEIR_OK;
}

// Fills a component with the items from `items` on that are born in sections [first, end), and
// counts its sections from 0.
static void fill_component(builder* build, plan_component* component, plan_item* items,
                           uint32_t first, uint32_t end) {
    const plan_item* const all_end = build->items + build->count;
    component->items = items;
    component->spans = build->spans;
    component->totals = build->totals + first;
    component->section_count = end - first;
    for (uint32_t s = 0; s < end - first; ++s) {
        const uint64_t total = component->totals[s];
        component->bound = total > component->bound ? total : component->bound;
    }
    for (plan_item* item = items; item < all_end && item->first < end; ++item) {
        const uint64_t top = item->fixed ? item->fixed_offset + item->size : 0;
        component->bound = top > component->bound ? top : component->bound;
        component->has_fixed |= item->fixed;
        component->has_gaps |= item->span_count > 1;
        component->has_alignment |= item->alignment > 1;
        for (uint32_t s = 0; s < item->span_count && item->span_count > 1; ++s) {
            build->spans[item->first_span + s].first -= first;
            build->spans[item->first_span + s].end -= first;
        }
        ++component->item_count;
    }
    // Only now: the loop above compares with sections of the whole.
    for (uint32_t i = 0; i < component->item_count; ++i) {
        items[i].first -= first;
        items[i].end -= first;
    }
}

// Cuts where nothing crosses.
static weir_status split(builder* build) {
    plan_sections* made = build->made;
    for (uint32_t s = 0; s < build->section_count; ++s) {
        made->component_count += build->crossing[s] == 0;
    }
    WEIR_TRY(scratch_take(build->scratch, &made->components, made->component_count));
    uint32_t next = 0;
    plan_item* items = build->items;
    for (uint32_t first = 0; first < build->section_count;) {
        uint32_t end = first + 1;
        while (end < build->section_count && build->crossing[end] > 0) {
            ++end;
        }
        plan_component* component = &made->components[next++];
        fill_component(build, component, items, first, end);
        items += component->item_count;
        made->bound = component->bound > made->bound ? component->bound : made->bound;
        first = end;
    }
    return WEIR_OK;
}

weir_status plan_sections_make(plan_scratch* scratch, const plan_instance* instance, uint32_t first,
                               uint32_t count, plan_sections* sections) {
    const plan_class* last = &instance->classes[first + count - 1];
    builder build = {.scratch = scratch,
                     .instance = instance,
                     .first = first,
                     .count = count,
                     .first_span = instance->classes[first].first_span,
                     .span_count =
                         last->first_span + last->span_count - instance->classes[first].first_span,
                     .made = sections};
    *sections = (plan_sections){0};
    choose_unit(&build);
    WEIR_TRY(cut_time(&build));
    WEIR_TRY(make_items(&build));
    WEIR_TRY(sum_sections(&build));
    // While items still count sections of the whole.
    uint64_t exact = 0;
    if (sections->slack > 0) {
        WEIR_TRY(exact_bound(&build, &exact));
    }
    WEIR_TRY(split(&build));
    // Of a set live together all but the topmost reach up to the next step.
    const uint64_t in_units = sections->bound * sections->unit - sections->slack;
    sections->byte_bound = exact > in_units ? exact : in_units;
    return WEIR_OK;
}
