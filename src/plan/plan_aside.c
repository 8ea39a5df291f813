#include "plan/plan_aside.h"

#include <string.h>

#include "plan/plan_load.h"

__extension__ typedef unsigned __int128 u128;

#define LIVES 32    // classes of lives, of [2^c, 2^(c + 1)) sections
#define AREA 64     // part of sizes times lives that short lives may hold to stand aside
#define SIZE 16     // sizes that must be free, at the bound, around what stands aside
#define BIRTHS 1024 // while it lives, at most
#define PART 4      // of the items that must stand aside for it to be worth while

static uint32_t class_of(const plan_item* item) {
    return 31 - (uint32_t)__builtin_clz(item->end - item->first);
}

// The first class of lives that is too long to stand aside.
static uint32_t first_long_class(const plan_component* component) {
    u128 areas[LIVES] = {0};
    u128 all = 0;
    for (uint32_t i = 0; i < component->item_count; ++i) {
        const plan_item* item = &component->items[i];
        const u128 area = (u128)item->size * (item->end - item->first);
        areas[class_of(item)] += area;
        all += area;
    }
    uint32_t life = 0;
    u128 sum = areas[0];
    while (life + 1 < LIVES && sum * AREA <= all) {
        sum += areas[++life];
    }
    return life;
}

// Marks what stands aside; returns how many do. `born` has, per section, how many are born before.
static uint32_t mark(const plan_component* component, const plan_load* load, const uint32_t* born,
                     bool* stands_aside) {
    const uint32_t long_class = first_long_class(component);
    uint32_t count = 0;
    for (uint32_t i = 0; i < component->item_count; ++i) {
        const plan_item* item = &component->items[i];
        stands_aside[i] =
            class_of(item) < long_class && born[item->end] - born[item->first] <= BIRTHS &&
            item->size <= (component->bound - plan_load_of(load, item->first, item->end)) / SIZE;
        count += stands_aside[i];
    }
    return count;
}

// Takes what it needs only while it marks.
static weir_status look(plan_scratch* scratch, const plan_component* component, bool* stands_aside,
                        uint32_t* count) {
    uint32_t* born = NULL;
    plan_load load;
    WEIR_TRY(scratch_take(scratch, &born, (size_t)component->section_count + 1));
    WEIR_TRY(plan_load_make(scratch, component, &load));
    for (uint32_t i = 0; i < component->item_count; ++i) {
        ++born[component->items[i].first + 1];
    }
    for (uint32_t s = 0; s < component->section_count; ++s) {
        born[s + 1] += born[s];
    }
    *count = mark(component, &load, born, stands_aside);
    return WEIR_OK;
}

weir_status plan_aside_mark(plan_scratch* scratch, const plan_component* component,
                            bool* stands_aside, uint32_t* count) {
    scratch_block* before = scratch->last;
    const weir_status status = look(scratch, component, stands_aside, count);
    plan_scratch_release(scratch, before);
    WEIR_TRY(status);
    if (*count < component->item_count / PART || *count == component->item_count) {
        memset(stands_aside, 0, component->item_count * sizeof *stands_aside);
        *count = 0;
    }
    return WEIR_OK;
}

weir_status plan_kept_make(plan_scratch* scratch, const plan_component* component,
                           const bool* stands_aside, plan_kept* kept) {
    plan_item* items = NULL;
    uint32_t count = 0;
    for (uint32_t i = 0; i < component->item_count; ++i) {
        count += !stands_aside[i];
    }
    *kept = (plan_kept){.component = *component};
    WEIR_TRY(scratch_take(scratch, &items, count));
    WEIR_TRY(scratch_take(scratch, &kept->item_of, count));
    kept->component.items = items;
    kept->component.item_count = 0;
    for (uint32_t i = 0; i < component->item_count; ++i) {
        if (!stands_aside[i]) {
            const uint32_t index = kept->component.item_count++;
            items[index] = component->items[i];
            kept->item_of[index] = i;
        }
    }
    return WEIR_OK;
}
