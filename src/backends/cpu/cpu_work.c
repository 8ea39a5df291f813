#include <assert.h>
#include <string.h>

#include "backends/cpu/cpu_device.h"

static_assert(offsetof(cpu_work, base) == 0, "the base comes first");

static void destroy_work(device_work* base) {
    cpu_work* work = (cpu_work*)base;
    const weir_allocator* allocator = &work->device->base.allocator;
    const size_t alignment = _Alignof(max_align_t);
    cpu_executor_forget(work->device, work);
    weir_free(allocator, work->fixed_tiles, work->count * sizeof(uint32_t), alignment);
    weir_free(allocator, work->slots, work->count * sizeof(cpu_slot), CPU_LINE);
    weir_free(allocator, work->ready, work->count * sizeof work->ready[0], alignment);
    weir_free(allocator, work->successors, work->edge_count * sizeof(uint32_t), alignment);
    weir_free(allocator, work->successor_begins, (work->count + 1) * sizeof(uint32_t), alignment);
    object_free(allocator, work);
}

// Tiles look at the dispatches as they are: there is nothing to take over.
static weir_status rebind_nothing(device_work* base) {
    (void)base;
    return WEIR_OK;
}

static const work_vtable cpu_work_vtable = {
    .submit = cpu_queue_submit,
    .rebind = rebind_nothing,
    .destroy = destroy_work,
};

static weir_status allocate_arrays(cpu_work* work) {
    const weir_allocator* allocator = &work->device->base.allocator;
    void* memory = NULL;
    WEIR_TRY(weir_alloc(allocator, work->count * sizeof(cpu_slot), CPU_LINE, &memory));
    memset(memory, 0, work->count * sizeof(cpu_slot));
    work->slots = memory;
    WEIR_TRY(weir_alloc_zeroed(allocator, work->count * sizeof work->ready[0], &memory));
    work->ready = memory;
    WEIR_TRY(weir_alloc_zeroed(allocator, work->count * sizeof(uint32_t), &memory));
    work->fixed_tiles = memory;
    WEIR_TRY(weir_alloc_zeroed(allocator, (work->count + 1) * sizeof(uint32_t), &memory));
    work->successor_begins = memory;
    for (uint32_t i = 0; i < work->count; i++) {
        work->edge_count += work->dispatches[i].predecessor_count;
        work->root_count += work->dispatches[i].predecessor_count == 0 ? 1 : 0;
    }
    WEIR_TRY(weir_alloc_zeroed(allocator, work->edge_count * sizeof(uint32_t), &memory));
    work->successors = memory;
    return WEIR_OK;
}

static uint32_t count_tiles(const device_dispatch* dispatch) {
    const weir_kernel_use use = {.operands = dispatch->views,
                                 .operand_count = dispatch->operand_count,
                                 .constants = dispatch->constants};
    return dispatch->kernel ? dispatch->kernel->tile_count(&use) : dispatch->tile_count;
}

// Kernels are asked for their tiles once where no parameter sets a dim.
static void fix_tiles(cpu_work* work) {
    for (uint32_t i = 0; i < work->count; i++) {
        const device_dispatch* dispatch = &work->dispatches[i];
        bool varies = false;
        for (uint32_t k = 0; dispatch->rows && k < dispatch->operand_count; k++) {
            varies |= dispatch->rows[k] != WEIR_PARAM_NONE;
        }
        work->fixed_tiles[i] = varies ? 0 : cpu_work_size(work, i);
    }
}

// Turns the lists of predecessors round.
static void link_successors(cpu_work* work) {
    uint32_t* begins = work->successor_begins;
    for (uint32_t i = 0; i < work->count; i++) {
        for (uint32_t k = 0; k < work->dispatches[i].predecessor_count; k++) {
            begins[work->dispatches[i].predecessors[k] + 1]++;
        }
    }
    for (uint32_t i = 0; i < work->count; i++) {
        begins[i + 1] += begins[i];
    }
    for (uint32_t i = 0; i < work->count; i++) {
        for (uint32_t k = 0; k < work->dispatches[i].predecessor_count; k++) {
            work->successors[begins[work->dispatches[i].predecessors[k]]++] = i;
        }
    }
    memmove(begins + 1, begins, work->count * sizeof begins[0]); // filling moved them on
    begins[0] = 0;
}

// Cursors and list entries count in CPU_INDEX_BITS. Kernels are asked at the upper bounds, where
// they cut the most tiles.
static weir_status check_counts(const device_dispatch* dispatches, uint32_t count) {
    if (count > CPU_INDEX_MASK) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "%u dispatches in one pass, at most %llu", count,
                         (unsigned long long)CPU_INDEX_MASK);
    }
    for (uint32_t i = 0; i < count; i++) {
        const device_dispatch* dispatch = &dispatches[i];
        const uint32_t tiles = count_tiles(dispatch);
        if (tiles >= CPU_INDEX_MASK) {
            return WEIR_FAIL(WEIR_UNSUPPORTED, "%s: %u tiles, at most %llu", dispatch->name, tiles,
                             (unsigned long long)CPU_INDEX_MASK - 1);
        }
    }
    return WEIR_OK;
}

weir_status cpu_work_create(weir_device* device, const device_dispatch* dispatches, uint32_t count,
                            device_work** work) {
    WEIR_TRY(check_counts(dispatches, count));
    cpu_work* made = NULL;
    WEIR_TRY(object_new(&device->allocator, &made));
    made->base.vtable = &cpu_work_vtable;
    made->device = (cpu_device*)device;
    made->dispatches = dispatches;
    made->count = count;
    const weir_status status = allocate_arrays(made);
    if (status != WEIR_OK) {
        destroy_work(&made->base);
        return status;
    }
    link_successors(made);
    fix_tiles(made);
    *work = &made->base;
    return WEIR_OK;
}

uint32_t cpu_work_size(const cpu_work* work, uint32_t dispatch) {
    if (work->fixed_tiles[dispatch] != 0) {
        return work->fixed_tiles[dispatch];
    }
    const device_dispatch* sized = &work->dispatches[dispatch];
    for (uint32_t i = 0; sized->rows && i < sized->operand_count; i++) {
        if (sized->rows[i] != WEIR_PARAM_NONE) {
            sized->views[i].shape.dims[0] = (int64_t)work->params[sized->rows[i]];
        }
    }
    const uint32_t tiles = count_tiles(sized);
    assert(tiles < CPU_INDEX_MASK);
    return tiles > 0 ? tiles : 1;
}

static void begin_dispatch(cpu_work* work, uint32_t dispatch, uint64_t sequence) {
    cpu_slot* slot = &work->slots[dispatch];
    const uint32_t tiles = cpu_work_size(work, dispatch);
    const uint32_t predecessors = work->dispatches[dispatch].predecessor_count;
    const uint64_t first = sequence << CPU_INDEX_BITS;
    const uint32_t lanes = cpu_lane_count(work->device);
    // A late worker of the pass before must not claim a tile by the new count: whoever reads that
    // count finds the cursors already taken away.
    for (uint32_t i = 0; i < lanes; i++) {
        atomic_store_explicit(&slot->cursors[i], first | CPU_INDEX_MASK, memory_order_relaxed);
    }
    atomic_store_explicit(&slot->tile_count, tiles, memory_order_release);
    atomic_store_explicit(&slot->tiles_done, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->pending, predecessors, memory_order_relaxed);
    atomic_store_explicit(&slot->has_started, false, memory_order_relaxed);
    for (uint32_t i = 0; i < lanes; i++) {
        atomic_store_explicit(&slot->cursors[i], first, memory_order_release);
    }
}

void cpu_work_begin(cpu_work* work, const cpu_pass* pass) {
    work->params = pass->params;
    work->timings = pass->timings;
    atomic_store_explicit(&work->status, WEIR_OK, memory_order_relaxed);
    atomic_store_explicit(&work->remaining, work->count, memory_order_relaxed);
    for (uint32_t i = 0; i < work->count && !cpu_is_alone(work->device); i++) {
        begin_dispatch(work, i, pass->sequence);
    }
    atomic_store(&work->sequence, pass->sequence);
}
