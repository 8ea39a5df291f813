#include "plan/plan_load.h"

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

weir_status plan_load_make(plan_scratch* scratch, const plan_component* component,
                           plan_load* load) {
    const uint32_t rows = component->section_count / PLAN_LOAD_ROW + 1;
    *load = (plan_load){.totals = component->totals};
    for (uint32_t level = 0; level < PLAN_LOAD_LEVELS && rows >> level > 0; ++level) {
        const uint32_t half = level > 0 ? 1u << (level - 1) : 0;
        WEIR_TRY(scratch_take(scratch, &load->most[level], rows));
        for (uint32_t r = 0; r < rows && level > 0; ++r) {
            const uint32_t other = r + half < rows ? r + half : r;
            load->most[level][r] = larger(load->most[level - 1][r], load->most[level - 1][other]);
        }
        for (uint32_t s = 0; s < component->section_count && level == 0; ++s) {
            uint64_t* most = &load->most[0][s / PLAN_LOAD_ROW];
            *most = larger(*most, component->totals[s]);
        }
    }
    return WEIR_OK;
}

static uint64_t most_of(const uint64_t* totals, uint32_t first, uint32_t end) {
    uint64_t most = 0;
    for (uint32_t s = first; s < end; ++s) {
        most = larger(most, totals[s]);
    }
    return most;
}

uint64_t plan_load_of(const plan_load* load, uint32_t first, uint32_t end) {
    const uint32_t first_row = (first + PLAN_LOAD_ROW - 1) / PLAN_LOAD_ROW;
    const uint32_t end_row = end / PLAN_LOAD_ROW;
    if (first_row >= end_row) {
        return most_of(load->totals, first, end);
    }
    const uint32_t level = 31 - (uint32_t)__builtin_clz(end_row - first_row);
    const uint64_t* most = load->most[level];
    const uint64_t inner = larger(most[first_row], most[end_row - (1u << level)]);
    return larger(inner, larger(most_of(load->totals, first, first_row * PLAN_LOAD_ROW),
                                most_of(load->totals, end_row * PLAN_LOAD_ROW, end)));
}
