// Who lives together with an item, nearly in the order of offsets: at some sections, the columns,
// what is live there is kept in a row by rising offsets. What lives together with an item is then
// the row of a column within its life, what died before that while it lived, and what is born
// after: two stretches of the lists of deaths and births.
//
//     item        |-----------------|
//     column               #                 its row lives together with the item,
//     deaths       x    x                    as does what dies here
//     births                 o   o  o        or is born here
//
// Lives shorter than the way between two columns take the last one before; what died or was born
// in between is looked at one by one.
#ifndef WEIR_PLAN_COLUMNS_H
#define WEIR_PLAN_COLUMNS_H

#include "plan/plan_sections.h"

#define PLAN_AWAY UINT64_MAX // offset of an item that waits

// Where and when an item lies.
typedef struct plan_spot {
    uint64_t offset; // PLAN_AWAY: it waits
    uint64_t top;    // 0: it waits
    int64_t cost;    // of pushing it away
    uint32_t first;  // section
    uint32_t end;    // one past the last
} plan_spot;

typedef struct plan_columns {
    const plan_component* component;
    plan_spot* spots;       // per item
    uint32_t step;          // sections from one column to the next; the first one is at section 0
    uint32_t* lengths;      // per column: of its row
    uint64_t* begins;       // per column and one more: of its row in `rows`
    uint32_t* rows;         // items
    uint32_t* kept_rows;    // as they were kept, when no item waited
    uint64_t* kept_offsets; // likewise, per item
    uint32_t column_count;
    uint32_t* dead;      // items by death
    uint32_t* born_from; // per section and one more: the first item that is born there or later
    uint32_t* dead_from; // likewise of `dead`
} plan_columns;

// Who lives together with an item.
typedef struct plan_company {
    uint32_t* items; // a row by rising offsets, apart from each other, and then others
    uint32_t row_count;
    uint32_t count;
} plan_company;

// Makes columns of a placement of a component without gaps: offsets per item.
WEIR_MUST_USE weir_status plan_columns_make(plan_scratch* scratch, const plan_component* component,
                                            const uint64_t* offsets, plan_columns* columns);

// Lays an item that waits.
void plan_columns_lay(plan_columns* columns, uint32_t item, uint64_t offset);

// Takes an item out that lies somewhere.
void plan_columns_take(plan_columns* columns, uint32_t item);

// Takes out all that end above a line, at one go: each row loses its end. Lists them by birth, and
// returns how many there were.
uint32_t plan_columns_take_above(plan_columns* columns, uint64_t line, uint32_t* items);

// Keeps where all items lie, of which none waits. What was made counts as kept.
void plan_columns_keep(plan_columns* columns);

// Lays all items where they lay when that was kept last. Both are as long as the rows, however many
// items have moved.
void plan_columns_go_back(plan_columns* columns);

// Lists those that do not wait and live together with an item that does, each once. Returns what
// that cost: about the number of items looked at.
uint64_t plan_columns_meet(const plan_columns* columns, uint32_t item, plan_company* company);

#endif
