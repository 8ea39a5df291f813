#include "plan/plan_fixed.h"

#include "plan/plan_sort.h"

// Fixed items are looked at by rising offset. One collides with an earlier one exactly when, in a
// section that both live in, the largest end so far passes its offset. A tree over the sections
// keeps the largest ends, so that n items take O(n log n) steps.

typedef unsigned long long ull; // for messages

#define NO_ITEM UINT32_MAX

// Node 1 is the root, nodes 2n and 2n + 1 lie below node n, and node leaves + s is section s.
typedef struct end_tree {
    const plan_component* component;
    uint32_t leaves;   // a power of two
    uint32_t* covers;  // per node: of the items that live in all of its sections, the highest
    uint32_t* highest; // per node: of the items that live in any of its sections, the highest
} end_tree;

static uint64_t end_of(const end_tree* tree, uint32_t item) {
    const plan_item* fixed = &tree->component->items[item];
    return fixed->fixed_offset + fixed->size;
}

// Of two equal ends the earlier one stays.
static void keep_higher(const end_tree* tree, uint32_t item, uint32_t* kept) {
    if (item != NO_ITEM && (*kept == NO_ITEM || end_of(tree, item) > end_of(tree, *kept))) {
        *kept = item;
    }
}

// Marks the O(log n) nodes that make up the span, and those above them. The nodes above its first
// and last section include all of the latter; those that lie within the span may know, too.
static void add_span(end_tree* tree, uint32_t item, plan_span span) {
    uint32_t low = span.first + tree->leaves;
    uint32_t high = span.end + tree->leaves;
    for (; low < high; low /= 2, high /= 2) {
        if (low % 2 == 1) {
            keep_higher(tree, item, &tree->covers[low]);
            keep_higher(tree, item, &tree->highest[low++]);
        }
        if (high % 2 == 1) {
            keep_higher(tree, item, &tree->covers[--high]);
            keep_higher(tree, item, &tree->highest[high]);
        }
    }
    for (uint32_t node = (span.first + tree->leaves) / 2; node > 0; node /= 2) {
        keep_higher(tree, item, &tree->highest[node]);
    }
    for (uint32_t node = (span.end - 1 + tree->leaves) / 2; node > 0; node /= 2) {
        keep_higher(tree, item, &tree->highest[node]);
    }
}

// The highest item in any section of a span: in the nodes that make it up, or covering one of these
// from above. What covers a node above the first or last section lives in that section.
static uint32_t highest_in(const end_tree* tree, plan_span span) {
    uint32_t found = NO_ITEM;
    uint32_t low = span.first + tree->leaves;
    uint32_t high = span.end + tree->leaves;
    for (; low < high; low /= 2, high /= 2) {
        if (low % 2 == 1) {
            keep_higher(tree, tree->highest[low++], &found);
        }
        if (high % 2 == 1) {
            keep_higher(tree, tree->highest[--high], &found);
        }
    }
    for (uint32_t node = span.first + tree->leaves; node > 0; node /= 2) {
        keep_higher(tree, tree->covers[node], &found);
    }
    for (uint32_t node = span.end - 1 + tree->leaves; node > 0; node /= 2) {
        keep_higher(tree, tree->covers[node], &found);
    }
    return found;
}

static weir_status refuse(const plan_instance* instance, const plan_item* a, const plan_item* b) {
    const plan_class* x = &instance->classes[a->index];
    const plan_class* y = &instance->classes[b->index];
    return WEIR_FAIL(WEIR_INFEASIBLE,
                     "buffers %u and %u conflict and are fixed at [%llu, %llu) and [%llu, %llu)",
                     x->owner, y->owner, (ull)x->fixed_offset,
                     (ull)(x->fixed_offset + x->byte_size), (ull)y->fixed_offset,
                     (ull)(y->fixed_offset + y->byte_size));
}

// First all spans are asked, then all are added: an item does not collide with itself.
static weir_status add_item(end_tree* tree, const plan_instance* instance, uint32_t index) {
    const plan_component* component = tree->component;
    const plan_item* item = &component->items[index];
    for (uint32_t s = 0; s < item->span_count; ++s) {
        const plan_span span = plan_item_span(component, item, s);
        const uint32_t below = highest_in(tree, span);
        if (below != NO_ITEM && end_of(tree, below) > item->fixed_offset) {
            return refuse(instance, item, &component->items[below]);
        }
    }
    for (uint32_t s = 0; s < item->span_count; ++s) {
        add_span(tree, index, plan_item_span(component, item, s));
    }
    return WEIR_OK;
}

static weir_status list_fixed(plan_scratch* scratch, const plan_component* component,
                              plan_pair** listed, uint32_t* count) {
    plan_pair* spare = NULL;
    WEIR_TRY(scratch_take(scratch, listed, component->item_count));
    WEIR_TRY(scratch_take(scratch, &spare, component->item_count));
    for (uint32_t i = 0; i < component->item_count; ++i) {
        if (component->items[i].fixed) {
            (*listed)[(*count)++] = (plan_pair){component->items[i].fixed_offset, i};
        }
    }
    plan_sort_pairs(*listed, spare, *count);
    return WEIR_OK;
}

static weir_status lay_ground(plan_scratch* scratch, const plan_instance* instance, end_tree* tree,
                              uint64_t* ground) {
    plan_pair* listed = NULL;
    uint32_t count = 0;
    const size_t nodes = 2 * (size_t)tree->leaves;
    WEIR_TRY(list_fixed(scratch, tree->component, &listed, &count));
    WEIR_TRY(scratch_take(scratch, &tree->covers, nodes));
    WEIR_TRY(scratch_take(scratch, &tree->highest, nodes));
    for (size_t node = 0; node < nodes; ++node) {
        tree->covers[node] = NO_ITEM;
        tree->highest[node] = NO_ITEM;
    }
    for (uint32_t i = 0; i < count; ++i) {
        WEIR_TRY(add_item(tree, instance, listed[i].index));
    }
    for (uint32_t s = 0; s < tree->component->section_count; ++s) {
        const uint32_t highest = highest_in(tree, (plan_span){s, s + 1});
        ground[s] = highest == NO_ITEM ? 0 : end_of(tree, highest);
    }
    return WEIR_OK;
}

weir_status plan_fixed_ground(plan_scratch* scratch, const plan_instance* instance,
                              const plan_component* component, uint64_t* ground) {
    if (component->section_count > UINT32_MAX / 4) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%u times of birth are too many for fixed buffers",
                         component->section_count);
    }
    end_tree tree = {.component = component, .leaves = 1};
    while (tree.leaves < component->section_count) {
        tree.leaves *= 2;
    }
    scratch_block* mark = scratch->last;
    const weir_status status = lay_ground(scratch, instance, &tree, ground);
    plan_scratch_release(scratch, mark);
    return status;
}
