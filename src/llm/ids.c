#include <weir-llm/tokenizer.h>

#include "memory.h"

weir_status weir_ids_push(weir_ids* ids, uint32_t id) {
    if (ids->count == ids->capacity) {
        void* items = ids->items;
        WEIR_TRY(weir_llm_array_grow(&ids->allocator, sizeof *ids->items, ids->count,
                                     ids->count + 1, &items, &ids->capacity));
        ids->items = items;
    }
    ids->items[ids->count++] = id;
    return WEIR_OK;
}

void weir_ids_free(weir_ids* ids) {
    llm_array_free(&ids->allocator, ids->items, ids->capacity);
    ids->items = NULL;
    ids->count = 0;
    ids->capacity = 0;
}
