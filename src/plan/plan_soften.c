#include "plan/plan_soft.h"

// Softening pool by pool. What each block needs before is what it may need after, so neither the
// peak nor the number of blocks rises; a capacity that leaves room to spare is spread over the
// blocks, for penalties are what it is there to spare.

static uint32_t pool_end(const plan_instance* instance, uint32_t first) {
    uint32_t end = first + 1;
    while (end < instance->class_count &&
           instance->classes[end].pool == instance->classes[first].pool) {
        ++end;
    }
    return end;
}

// The heights of the blocks of a pool, whose classes are [first, end): at most as many blocks, for
// each is opened by a class.
static void measure(const plan_instance* instance, uint32_t first, uint32_t end,
                    const uint64_t* offsets, plan_soft_room* room) {
    for (uint32_t number = 0; number < end - first; ++number) {
        room->tops[number] = 0;
    }
    room->block_count = 0;
    for (uint32_t c = first; c < end; ++c) {
        const uint32_t number = room->cap > 0 ? (uint32_t)(offsets[c] / room->cap) : 0;
        const uint64_t top = offsets[c] - number * room->cap + instance->classes[c].byte_size;
        room->tops[number] = top > room->tops[number] ? top : room->tops[number];
        room->block_count = number >= room->block_count ? number + 1 : room->block_count;
    }
}

static uint64_t sum_of(const plan_soft_room* room) {
    uint64_t sum = 0;
    for (uint32_t number = 0; number < room->block_count; ++number) {
        sum += room->tops[number];
    }
    return sum;
}

static void raise_tops(plan_soft_room* room, uint64_t slack) {
    const uint64_t share = slack / room->block_count;
    for (uint32_t number = 0; number < room->block_count; ++number) {
        const uint64_t most = room->cap > 0 ? room->cap : PLAN_LIMIT;
        const uint64_t left = most - room->tops[number];
        room->tops[number] += share < left ? share : left;
    }
}

weir_status plan_soften(plan_scratch* scratch, const plan_instance* instance,
                        const weir_plan_problem* problem, uint64_t slack, plan_budget* budget,
                        uint64_t* offsets, uint64_t* peak) {
    const uint64_t rounds = budget->rounds;
    plan_soft_room room = {.cap = problem->block_bytes_max};
    WEIR_TRY(scratch_take(scratch, &room.tops, instance->class_count));
    *peak = 0;
    for (uint32_t first = 0; first < instance->class_count;) {
        const uint32_t end = pool_end(instance, first);
        measure(instance, first, end, offsets, &room);
        const uint64_t before = sum_of(&room);
        raise_tops(&room, slack);
        budget->rounds = rounds;
        WEIR_TRY(plan_soft_place(scratch, instance, problem, first, end - first, &room, budget,
                                 offsets));
        measure(instance, first, end, offsets, &room);
        const uint64_t after = sum_of(&room);
        slack -= after > before ? after - before : 0;
        *peak += after;
        first = end;
    }
    return WEIR_OK;
}
