// Lays many small items of short lives around those that lie already, section by section: what is
// live lies in a row by offsets, and the holes between are listed by size, so that one that fits is
// found at once (segregated fits: Masmano et al. 2004). What is yet to be born while the item lives
// is looked at one by one.
//
//     line ----------------------    the item is born in section 4: of the holes there that are
//         | a    |   item?  | c |    large enough, it takes one that c, born before it dies, leaves
//         |______|  ________|___|    free
//      b            |  d  |
//     section       4
#ifndef WEIR_PLAN_FILL_H
#define WEIR_PLAN_FILL_H

#include "plan/plan_sections.h"

#define PLAN_FILL_AWAY UINT64_MAX // offset of an item that has no place yet

// Lays those items of a component without gaps that are away within offsets [begin, end), around
// all others. What finds no place stays away; `left` counts that.
WEIR_MUST_USE weir_status plan_fill_lay(plan_scratch* scratch, const plan_component* component,
                                        uint64_t begin, uint64_t end, uint64_t* offsets,
                                        uint32_t* left);

#endif
