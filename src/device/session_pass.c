#include "device/session_pass.h"

#define BLOCK_ALIGNMENT 16
#define BLOCK_BYTES_MIN 4096
#define BLOCK_BYTES_GROWN (1u << 20)
#define HEADER_BYTES                                                                               \
    ((sizeof(byte_block) + BLOCK_ALIGNMENT - 1) / BLOCK_ALIGNMENT * BLOCK_ALIGNMENT)

// A device keeps few passes, and none that has grown large.
#define SPARES_MAX 8
#define SPARE_BLOCK_BYTES (64u << 10)
#define SPARE_BYTES (2u << 20)

static void free_block(weir_device* device, byte_block* block) {
    weir_free(&device->allocator, block, HEADER_BYTES + block->size, BLOCK_ALIGNMENT);
}

weir_status session_pass_bytes(weir_device* device, device_pass* pass, size_t byte_size,
                               void** bytes) {
    byte_block* block = pass->blocks;
    if (byte_size > SIZE_MAX - HEADER_BYTES - BLOCK_ALIGNMENT) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "%zu bytes pass the address space", byte_size);
    }
    const size_t rounded = (byte_size + BLOCK_ALIGNMENT - 1) / BLOCK_ALIGNMENT * BLOCK_ALIGNMENT;
    if (!block || rounded > block->size - block->used) {
        size_t size = block ? 2 * block->size : BLOCK_BYTES_MIN;
        size = size > BLOCK_BYTES_GROWN ? BLOCK_BYTES_GROWN : size;
        size = size < rounded ? rounded : size;
        void* memory = NULL;
        WEIR_TRY(weir_alloc(&device->allocator, HEADER_BYTES + size, BLOCK_ALIGNMENT, &memory));
        block = memory;
        *block = (byte_block){.next = pass->blocks, .size = size};
        pass->blocks = block;
    }
    *bytes = (uint8_t*)block + HEADER_BYTES + block->used;
    block->used += rounded;
    return WEIR_OK;
}

// Keeps one small block.
static void empty_blocks(weir_device* device, device_pass* pass) {
    byte_block* kept = NULL;
    for (byte_block* block = pass->blocks; block;) {
        byte_block* next = block->next;
        if (!kept && block->size <= SPARE_BLOCK_BYTES) {
            *block = (byte_block){.size = block->size};
            kept = block;
        } else {
            free_block(device, block);
        }
        block = next;
    }
    pass->blocks = kept;
}

void session_pass_empty(weir_device* device, device_pass* pass) {
    if (pass->work) {
        pass->work->vtable->destroy(pass->work);
        pass->work = NULL;
    }
    for (size_t i = 0; i < pass->views.count; i++) {
        weir_view_release(&pass->views.items[i]);
    }
    empty_blocks(device, pass);
    pass->recorded.count = pass->views.count = pass->pointers.count = 0;
    pass->accesses.count = pass->touched.count = pass->edges.count = 0;
    pass->dispatches.count = 0;
    pass->waits = 0;
    pass->fence = false;
    pass->bytes_read = pass->bytes_written = pass->ranges_widened = 0;
}

static void free_pass(weir_device* device, device_pass* pass) {
    const weir_allocator* allocator = &device->allocator;
    if (pass->blocks) {
        free_block(device, pass->blocks);
    }
    array_free(allocator, &pass->recorded);
    array_free(allocator, &pass->views);
    array_free(allocator, &pass->pointers);
    array_free(allocator, &pass->accesses);
    array_free(allocator, &pass->touched);
    array_free(allocator, &pass->edges);
    array_free(allocator, &pass->dispatches);
    object_free(allocator, pass);
}

static size_t held_bytes(const device_pass* pass) {
    return pass->recorded.capacity * sizeof *pass->recorded.items +
           pass->views.capacity * sizeof *pass->views.items +
           pass->pointers.capacity * sizeof *pass->pointers.items +
           pass->accesses.capacity * sizeof *pass->accesses.items +
           pass->touched.capacity * sizeof *pass->touched.items +
           pass->edges.capacity * sizeof *pass->edges.items +
           pass->dispatches.capacity * sizeof *pass->dispatches.items;
}

weir_status session_pass_create(weir_device* device, device_pass** pass) {
    pthread_mutex_lock(&device->lock);
    device_pass* spare = device->spare_passes;
    if (spare) {
        device->spare_passes = spare->next;
        device->spare_pass_count--;
    }
    pthread_mutex_unlock(&device->lock);
    if (!spare) {
        WEIR_TRY(object_new(&device->allocator, &spare));
    }
    spare->next = NULL;
    *pass = spare;
    return WEIR_OK;
}

void session_pass_destroy(weir_device* device, device_pass* pass) {
    if (!pass) {
        return;
    }
    session_pass_empty(device, pass); // release callbacks run without the lock
    bool kept = false;
    if (held_bytes(pass) <= SPARE_BYTES) {
        pthread_mutex_lock(&device->lock);
        kept = device->spare_pass_count < SPARES_MAX;
        if (kept) {
            pass->next = device->spare_passes;
            device->spare_passes = pass;
            device->spare_pass_count++;
        }
        pthread_mutex_unlock(&device->lock);
    }
    if (!kept) {
        free_pass(device, pass);
    }
}

void weir_device_reap(weir_device* device) {
    device_pass* done = NULL;
    pthread_mutex_lock(&device->lock);
    for (device_pass** link = &device->passes; *link;) {
        device_pass* pass = *link;
        if (weir_device_has_done(device, pass->sequence)) {
            *link = pass->next;
            pass->next = done;
            done = pass;
        } else {
            link = &pass->next;
        }
    }
    pthread_mutex_unlock(&device->lock);
    while (done) {
        device_pass* next = done->next;
        session_pass_destroy(device, done);
        done = next;
    }
}

void weir_device_drop_spares(weir_device* device) {
    while (device->spare_passes) {
        device_pass* next = device->spare_passes->next;
        free_pass(device, device->spare_passes);
        device->spare_passes = next;
    }
    device->spare_pass_count = 0;
}

// Storage may have been sealed after the recording.
static weir_status check_sealed(const device_pass* pass, const recorded_dispatch* record) {
    for (uint32_t i = 0; i < record->operand_count; i++) {
        const weir_storage* storage = pass->views.items[record->operand_begin + i].storage;
        const weir_access* access = &pass->accesses.items[record->access_begin + i];
        if ((access->kind & WEIR_ACCESS_WRITE) != 0 && weir_storage_is_sealed(storage)) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "%s: operand %u writes to storage %s, which was sealed since",
                             record->name, i, storage->name);
        }
    }
    return WEIR_OK;
}

weir_status session_pass_resolve(const weir_device* device, device_pass* pass) {
    const size_t count = pass->recorded.count;
    WEIR_TRY(array_reserve(&device->allocator, &pass->dispatches, count));
    for (size_t i = 0; i < count; i++) {
        WEIR_TRY(check_sealed(pass, &pass->recorded.items[i]));
    }
    // Lazy storages take their memory here: before anything is handed to the device.
    for (size_t i = 0; i < pass->views.count; i++) {
        const weir_view* view = &pass->views.items[i];
        WEIR_TRY(weir_state_check_bytes(view->storage, view->byte_offset,
                                        view->byte_offset + weir_view_byte_span(view)));
        WEIR_TRY(weir_view_resolve(&pass->views.items[i], &pass->pointers.items[i]));
    }
    pass->pointers.count = pass->views.count;
    for (size_t i = 0; i < count; i++) {
        const recorded_dispatch* record = &pass->recorded.items[i];
        pass->dispatches.items[i] = (device_dispatch){
            .name = record->name,
            .kind = record->kind,
            .fence = record->fence,
            .run = record->kernel,
            .code = record->code.words ? &record->code : NULL,
            .group = record->level,
            .tile_count = record->tile_count,
            .constants = record->constants,
            .constants_size = record->constants_size,
            .views = pass->views.items + record->operand_begin,
            .pointers = pass->pointers.items + record->operand_begin,
            .operand_count = record->operand_count,
            .accesses = pass->accesses.items + record->access_begin,
            .access_count = record->access_count,
            .predecessors = pass->edges.items + record->edge_begin,
            .predecessor_count = record->edge_count,
        };
    }
    pass->dispatches.count = count;
    return WEIR_OK;
}
