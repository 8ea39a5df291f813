#include "plan/plan_columns.h"

#include <string.h>

#include "plan/plan_sort.h"

#define PLACES_PER_ITEM 8 // in rows, on average, at most
#define STEP_LEAST 16     // sections

static uint32_t column_from(const plan_columns* columns, uint32_t section) {
    return section / columns->step + (section % columns->step != 0);
}

// The first place in a row of an item that lies at `offset` or above it.
static uint32_t place_in(const plan_columns* columns, uint32_t column, uint64_t offset) {
    const uint32_t* row = columns->rows + columns->begins[column];
    uint32_t first = 0;
    for (uint32_t end = columns->lengths[column]; first < end;) {
        const uint32_t middle = first + (end - first) / 2;
        if (columns->spots[row[middle]].offset < offset) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return first;
}

void plan_columns_lay(plan_columns* columns, uint32_t item, uint64_t offset) {
    plan_spot* spot = &columns->spots[item];
    const uint32_t end = column_from(columns, spot->end);
    for (uint32_t c = column_from(columns, spot->first); c < end; ++c) {
        const uint32_t place = place_in(columns, c, offset);
        uint32_t* at = columns->rows + columns->begins[c] + place;
        memmove(at + 1, at, (columns->lengths[c]++ - place) * sizeof *at);
        *at = item;
    }
    spot->offset = offset;
    spot->top = offset + columns->component->items[item].size;
}

void plan_columns_take(plan_columns* columns, uint32_t item) {
    plan_spot* spot = &columns->spots[item];
    const uint32_t end = column_from(columns, spot->end);
    for (uint32_t c = column_from(columns, spot->first); c < end; ++c) {
        const uint32_t place = place_in(columns, c, spot->offset);
        uint32_t* at = columns->rows + columns->begins[c] + place;
        memmove(at, at + 1, (--columns->lengths[c] - place) * sizeof *at);
    }
    spot->offset = PLAN_AWAY;
    spot->top = 0;
}

// The first place in a row of an item that ends above a line: none before it does.
static uint32_t place_above(const plan_columns* columns, uint32_t column, uint64_t line) {
    const uint32_t* row = columns->rows + columns->begins[column];
    const uint32_t place = place_in(columns, column, line);
    return place > 0 && columns->spots[row[place - 1]].top > line ? place - 1 : place;
}

uint32_t plan_columns_take_above(plan_columns* columns, uint64_t line, uint32_t* items) {
    uint32_t count = 0;
    for (uint32_t c = 0; c < columns->column_count; ++c) {
        columns->lengths[c] = place_above(columns, c, line);
    }
    for (uint32_t i = 0; i < columns->component->item_count; ++i) {
        plan_spot* spot = &columns->spots[i];
        if (spot->top > line) {
            spot->offset = PLAN_AWAY;
            spot->top = 0;
            items[count++] = i;
        }
    }
    return count;
}

void plan_columns_keep(plan_columns* columns) {
    const uint64_t places = columns->begins[columns->column_count];
    memcpy(columns->kept_rows, columns->rows, places * sizeof *columns->rows);
    for (uint32_t i = 0; i < columns->component->item_count; ++i) {
        columns->kept_offsets[i] = columns->spots[i].offset;
    }
}

void plan_columns_go_back(plan_columns* columns) {
    const plan_component* component = columns->component;
    const uint64_t places = columns->begins[columns->column_count];
    memcpy(columns->rows, columns->kept_rows, places * sizeof *columns->rows);
    for (uint32_t c = 0; c < columns->column_count; ++c) {
        columns->lengths[c] = (uint32_t)(columns->begins[c + 1] - columns->begins[c]);
    }
    for (uint32_t i = 0; i < component->item_count; ++i) {
        columns->spots[i].offset = columns->kept_offsets[i];
        columns->spots[i].top = columns->kept_offsets[i] + component->items[i].size;
    }
}

// Adds an item unless it waits.
static void add(const plan_columns* columns, uint32_t item, plan_company* company) {
    company->items[company->count] = item; // there is room for one too many
    company->count += columns->spots[item].offset != PLAN_AWAY;
}

// Adds those of a row that live in sections [first, end).
static uint32_t meet_row(const plan_columns* columns, uint32_t column, uint32_t first, uint32_t end,
                         plan_company* company) {
    const uint32_t* row = columns->rows + columns->begins[column];
    const uint32_t length = columns->lengths[column];
    if (column * columns->step >= first) {
        memcpy(company->items, row, length * sizeof *row);
        company->count = length;
        return length;
    }
    for (uint32_t i = 0; i < length; ++i) {
        const plan_spot* spot = &columns->spots[row[i]];
        if (spot->first < end && first < spot->end) {
            add(columns, row[i], company);
        }
    }
    return length;
}

// Adds those that live in sections [first, end), but not in section `at` of their column.
static uint64_t meet_others(const plan_columns* columns, uint32_t at, uint32_t first, uint32_t end,
                            plan_company* company) {
    uint64_t looks = 0;
    const uint32_t dead_end = columns->dead_from[at + 1];
    for (uint32_t i = columns->dead_from[first + 1]; at > first && i < dead_end; ++i, ++looks) {
        add(columns, columns->dead[i], company);
    }
    // The items themselves are listed by birth.
    const uint32_t born_end = columns->born_from[end];
    for (uint32_t i = columns->born_from[at + 1]; i < born_end; ++i, ++looks) {
        if (columns->spots[i].end > first) {
            add(columns, i, company);
        }
    }
    return looks;
}

// The column in the middle of a life, or the last one before.
static uint32_t column_of(const plan_columns* columns, uint32_t first, uint32_t end) {
    const uint32_t middle = (first + (end - first) / 2) / columns->step;
    const uint32_t next = middle + 1;
    const bool is_next = middle * columns->step < first && next < columns->column_count &&
                         next * columns->step < end;
    return is_next ? next : middle;
}

uint64_t plan_columns_meet(const plan_columns* columns, uint32_t item, plan_company* company) {
    const uint32_t first = columns->spots[item].first;
    const uint32_t end = columns->spots[item].end;
    const uint32_t column = column_of(columns, first, end);
    company->count = 0;
    const uint32_t looks = meet_row(columns, column, first, end, company);
    company->row_count = company->count;
    return looks + meet_others(columns, column * columns->step, first, end, company);
}

// Lists the items by death: a counting sort (Seward 1954), with the borders of sections as counts.
static weir_status list_deaths(plan_scratch* scratch, plan_columns* columns) {
    const plan_component* component = columns->component;
    const size_t borders = (size_t)component->section_count + 1;
    WEIR_TRY(scratch_take(scratch, &columns->dead, component->item_count));
    WEIR_TRY(scratch_take(scratch, &columns->born_from, borders + 1));
    WEIR_TRY(scratch_take(scratch, &columns->dead_from, borders + 1));
    for (uint32_t i = 0; i < component->item_count; ++i) {
        ++columns->born_from[columns->spots[i].first + 1];
        ++columns->dead_from[columns->spots[i].end + 1];
    }
    for (size_t s = 0; s < borders; ++s) {
        columns->born_from[s + 1] += columns->born_from[s];
        columns->dead_from[s + 1] += columns->dead_from[s];
    }
    for (uint32_t i = 0; i < component->item_count; ++i) {
        columns->dead[columns->dead_from[columns->spots[i].end]++] = i;
    }
    // Each border has moved to the next one.
    memmove(columns->dead_from + 1, columns->dead_from, borders * sizeof *columns->dead_from);
    columns->dead_from[0] = 0;
    return WEIR_OK;
}

// Columns as close as the places in their rows allow.
static weir_status take_rows(plan_scratch* scratch, plan_columns* columns) {
    const plan_component* component = columns->component;
    uint64_t lives = 0;
    for (uint32_t s = 0; s < component->section_count; ++s) {
        lives += columns->born_from[s + 1] - columns->dead_from[s + 1];
    }
    const uint64_t step = lives / ((uint64_t)PLACES_PER_ITEM * component->item_count) + 1;
    columns->step = step > STEP_LEAST ? (uint32_t)step : STEP_LEAST;
    columns->column_count = (component->section_count - 1) / columns->step + 1;
    WEIR_TRY(scratch_take(scratch, &columns->lengths, columns->column_count));
    WEIR_TRY(scratch_take(scratch, &columns->begins, (size_t)columns->column_count + 1));
    for (uint32_t c = 0; c < columns->column_count; ++c) {
        const uint32_t at = c * columns->step;
        const uint32_t live = columns->born_from[at + 1] - columns->dead_from[at + 1];
        columns->begins[c + 1] = columns->begins[c] + live;
    }
    const uint64_t places = columns->begins[columns->column_count];
    WEIR_TRY(scratch_take(scratch, &columns->kept_offsets, component->item_count));
    WEIR_TRY(scratch_take(scratch, &columns->kept_rows, places));
    return scratch_take(scratch, &columns->rows, places);
}

// Lays all items, by rising offsets, so that each is the last of its rows.
static weir_status lay_all(plan_scratch* scratch, const uint64_t* offsets, plan_columns* columns) {
    const uint32_t count = columns->component->item_count;
    plan_pair* pairs = NULL;
    plan_pair* spare = NULL;
    WEIR_TRY(scratch_take(scratch, &pairs, count));
    WEIR_TRY(scratch_take(scratch, &spare, count));
    for (uint32_t i = 0; i < count; ++i) {
        pairs[i] = (plan_pair){offsets[i], i};
    }
    plan_sort_pairs(pairs, spare, count);
    for (uint32_t p = 0; p < count; ++p) {
        plan_columns_lay(columns, pairs[p].index, pairs[p].key);
    }
    return WEIR_OK;
}

weir_status plan_columns_make(plan_scratch* scratch, const plan_component* component,
                              const uint64_t* offsets, plan_columns* columns) {
    *columns = (plan_columns){.component = component};
    WEIR_TRY(scratch_take(scratch, &columns->spots, component->item_count));
    for (uint32_t i = 0; i < component->item_count; ++i) {
        columns->spots[i].first = component->items[i].first;
        columns->spots[i].end = component->items[i].end;
    }
    WEIR_TRY(list_deaths(scratch, columns));
    WEIR_TRY(take_rows(scratch, columns));
    scratch_block* mark = scratch->last;
    const weir_status status = lay_all(scratch, offsets, columns);
    plan_scratch_release(scratch, mark);
    WEIR_TRY(status);
    plan_columns_keep(columns);
    return WEIR_OK;
}
