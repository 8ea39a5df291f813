#include "plan/plan_scratch.h"

#include <string.h>

// Blocks are chained from the newest to the oldest; each knows its size, which freeing takes.
struct scratch_block {
    scratch_block* older;
    size_t byte_size;
    _Alignas(max_align_t) unsigned char bytes[];
};

weir_status plan_scratch_take(plan_scratch* scratch, size_t count, size_t item_size,
                              void** pointer) {
    size_t byte_size = 0;
    if (__builtin_mul_overflow(count, item_size, &byte_size) ||
        __builtin_add_overflow(byte_size, sizeof(scratch_block), &byte_size)) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "%zu items of %zu bytes pass the address space", count,
                         item_size);
    }
    scratch_block* block = NULL;
    WEIR_TRY(weir_alloc(&scratch->allocator, byte_size, _Alignof(scratch_block), (void**)&block));
    memset(block, 0, byte_size);
    block->older = scratch->last;
    block->byte_size = byte_size;
    scratch->last = block;
    *pointer = block->bytes;
    return WEIR_OK;
}

void plan_scratch_release(plan_scratch* scratch, scratch_block* mark) {
    while (scratch->last != mark) {
        scratch_block* block = scratch->last;
        scratch->last = block->older;
        weir_free(&scratch->allocator, block, block->byte_size, _Alignof(scratch_block));
    }
}
