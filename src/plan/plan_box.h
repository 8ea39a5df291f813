// The bytes of one buffer in a plan, and the order of such boxes: by pool, block and offset.
#ifndef WEIR_PLAN_BOX_H
#define WEIR_PLAN_BOX_H

#include <stdint.h>

typedef struct plan_box {
    uint64_t begin;
    uint64_t end;
    uint32_t pool;
    uint32_t block;
    uint32_t buffer;
} plan_box;

// Compares two boxes for qsort. Ends with the buffer, so that the order does not hang on the
// sorting of the C library.
static inline int plan_box_compare(const void* a, const void* b) {
    const plan_box* x = a;
    const plan_box* y = b;
    if (x->pool != y->pool) {
        return x->pool < y->pool ? -1 : 1;
    }
    if (x->block != y->block) {
        return x->block < y->block ? -1 : 1;
    }
    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    return x->buffer < y->buffer ? -1 : x->buffer > y->buffer;
}

#endif
