#include "device/check_serial.h"

#include <string.h>

#include "device/backend.h"

#define ROW_ALIGNMENT 64 // what every storage has at least
#define POISON 0xFF      // NaN in every float type

static uint64_t aligned(const weir_schedule* schedule, uint64_t offset) {
    const uint64_t alignment =
        schedule->target.alignment > ROW_ALIGNMENT ? schedule->target.alignment : ROW_ALIGNMENT;
    const uint64_t rest = offset % alignment;
    return rest > 0 ? offset + (alignment - rest) : offset;
}

static bool has_bytes(const weir_schedule* schedule, weir_value value) {
    uint32_t uses = 0;
    schedule_uses_of(schedule, value, &uses);
    return uses > 0 && schedule->values.items[value].kind != WEIR_VALUE_VIEW;
}

// Where a block of the arena begins: behind those before it. Blocks are few.
static uint64_t block_begin(const weir_schedule* schedule, uint32_t block) {
    uint64_t begin = 0;
    for (uint32_t b = 0; b < block; b++) {
        uint64_t end = 0;
        for (weir_value value = 0; value < schedule->values.count; value++) {
            const weir_placement* place = &schedule->placements[value];
            if (place->region == WEIR_REGION_ARENA && place->block == b &&
                place->byte_offset + place->byte_size > end) {
                end = place->byte_offset + place->byte_size;
            }
        }
        begin = aligned(schedule, begin + end);
    }
    return begin;
}

// Gives each value its offset, SIZE_MAX where it has none here; returns the bytes of all. Sizes of
// a schedule add up to less than 2^63.
static uint64_t lay_out(check_serial* serial, uint64_t* offsets) {
    const weir_schedule* schedule = serial->schedule;
    uint64_t end = serial->apart ? 0 : block_begin(schedule, schedule->report.arena_blocks);
    const weir_region order[] = {WEIR_REGION_ARENA, WEIR_REGION_INPUT, WEIR_REGION_OUTPUT,
                                 WEIR_REGION_STATE};
    for (size_t r = 0; r < sizeof order / sizeof *order; r++) {
        for (weir_value value = 0; value < schedule->values.count; value++) {
            const weir_placement* place = &schedule->placements[value];
            const bool planned = place->region == WEIR_REGION_ARENA && !serial->apart;
            if (place->region != order[r] || !has_bytes(schedule, value)) {
                continue;
            }
            offsets[value] =
                planned ? block_begin(schedule, place->block) + place->byte_offset : end;
            end = planned ? end : aligned(schedule, end + place->byte_size);
        }
        serial->arena_bytes = order[r] == WEIR_REGION_ARENA ? end : serial->arena_bytes;
    }
    return end;
}

static weir_status allocate(check_serial* serial) {
    const size_t count = serial->schedule->values.count;
    void* memory = NULL;
    WEIR_TRY(weir_alloc(&serial->allocator, count * sizeof(uint64_t), _Alignof(uint64_t), &memory));
    uint64_t* offsets = memory;
    memset(offsets, 0xFF, count * sizeof *offsets);
    const uint64_t byte_size = lay_out(serial, offsets);
    weir_status status =
        weir_alloc(&serial->allocator, (size_t)byte_size, ROW_ALIGNMENT, (void**)&serial->memory);
    if (status == WEIR_OK) {
        serial->byte_size = byte_size;
        memset(serial->memory, 0, (size_t)byte_size);
        for (size_t value = 0; value < count; value++) {
            serial->roots[value] =
                offsets[value] == UINT64_MAX ? NULL : serial->memory + offsets[value];
        }
    }
    weir_free(&serial->allocator, memory, count * sizeof(uint64_t), _Alignof(uint64_t));
    return status;
}

// Weights are read where they lie; states are copied.
static weir_status take_bindings(check_serial* serial, const weir_check_desc* desc) {
    for (uint32_t i = 0; i < desc->binding_count; i++) {
        const weir_binding* binding = &desc->bindings[i];
        const weir_value_info* info = weir_schedule_value(serial->schedule, binding->value);
        uint8_t* bytes = info ? weir_view_contents(&binding->view) : NULL;
        if (!bytes) {
            return WEIR_FAIL(WEIR_UNSUPPORTED, "the host cannot reach what value %u is bound to",
                             binding->value);
        }
        if (info->kind == WEIR_VALUE_WEIGHT) {
            serial->roots[binding->value] = bytes;
        } else if (serial->roots[binding->value]) {
            memcpy(serial->roots[binding->value], bytes,
                   (size_t)serial->schedule->placements[binding->value].byte_size);
        }
    }
    return WEIR_OK;
}

weir_status check_serial_make(const weir_allocator* allocator, const weir_check_desc* desc,
                              bool apart, check_serial* serial) {
    *serial = (check_serial){.schedule = desc->schedule, .allocator = *allocator, .apart = apart};
    WEIR_TRY(weir_alloc_zeroed(&serial->allocator,
                               desc->schedule->values.count * sizeof *serial->roots,
                               (void**)&serial->roots));
    WEIR_TRY(allocate(serial));
    return take_bindings(serial, desc);
}

void check_serial_free(check_serial* serial) {
    if (serial->schedule) {
        weir_free(&serial->allocator, serial->memory, (size_t)serial->byte_size, ROW_ALIGNMENT);
        weir_free(&serial->allocator, serial->roots,
                  serial->schedule->values.count * sizeof *serial->roots, _Alignof(max_align_t));
    }
    *serial = (check_serial){0};
}

weir_status check_serial_begin(check_serial* serial, const weir_check_pass* pass) {
    const weir_schedule* schedule = serial->schedule;
    memset(serial->memory, POISON, (size_t)serial->arena_bytes);
    for (uint32_t i = 0; i < pass->input_count; i++) {
        const weir_check_input* input = &pass->inputs[i];
        const weir_value_info* info = weir_schedule_value(schedule, input->input);
        if (!info || info->kind != WEIR_VALUE_INPUT) {
            return WEIR_FAIL(WEIR_NOT_FOUND, "value %u is no input of the schedule", input->input);
        }
        const uint64_t room = schedule->placements[input->input].byte_size;
        if (input->byte_size > room) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%llu bytes do not fit input %s of %llu bytes",
                             (unsigned long long)input->byte_size, info->name,
                             (unsigned long long)room);
        }
        if (serial->roots[input->input] && input->byte_size > 0) {
            memcpy(serial->roots[input->input], input->bytes, (size_t)input->byte_size);
        }
    }
    return WEIR_OK;
}

weir_status check_serial_run(check_serial* serial, uint32_t dispatch, const uint64_t* params) {
    const schedule_dispatch* item = &serial->schedule->dispatches.items[dispatch];
    const schedule_operand* operands = serial->schedule->operands.items + item->operand_begin;
    weir_view views[SCHEDULE_OPERANDS_MAX];
    void* pointers[SCHEDULE_OPERANDS_MAX];
    if (!item->kernel->run) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "%s: kernel %s is no function of the host", item->name,
                         item->kernel->name);
    }
    for (uint32_t i = 0; i < item->operand_count; i++) {
        if (!serial->roots[operands[i].root]) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "nothing is bound to %s",
                             serial->schedule->values.items[operands[i].root].name);
        }
        views[i] = operands[i].layout;
        pointers[i] = serial->roots[operands[i].root] + operands[i].layout.byte_offset;
        if (operands[i].rows != WEIR_PARAM_NONE) {
            views[i].shape.dims[0] = (int64_t)params[operands[i].rows];
        }
    }
    const weir_kernel_use use = {
        .operands = views, .operand_count = item->operand_count, .constants = &item->constants};
    const uint32_t cut = item->kernel->tile_count(&use);
    weir_kernel_call call = {.views = views,
                             .pointers = pointers,
                             .operand_count = item->operand_count,
                             .tile_count = cut > 0 ? cut : 1,
                             .constants = &item->constants,
                             .params = params};
    const uint32_t calls = call.tile_count + (item->kernel->joins ? 1 : 0);
    for (; call.tile < calls; call.tile++) {
        const weir_status status = item->kernel->run(&call);
        if (status != WEIR_OK) {
            return WEIR_FAIL(status, "%s: %s", item->name, weir_last_error());
        }
    }
    return WEIR_OK;
}

static bool dies_at(const weir_schedule* schedule, weir_value root, uint32_t dispatch) {
    return schedule->placements[root].region == WEIR_REGION_ARENA &&
           schedule->uses.items[schedule->uses.begins[root + 1] - 1] == dispatch;
}

// Whether the dispatch has put a value that lives on upon the bytes of `root`.
static bool has_heir(const weir_schedule* schedule, uint32_t dispatch, weir_value root) {
    const schedule_dispatch* item = &schedule->dispatches.items[dispatch];
    const weir_placement* place = &schedule->placements[root];
    for (uint32_t i = 0; i < item->operand_count; i++) {
        const weir_value other = schedule->operands.items[item->operand_begin + i].root;
        const weir_placement* at = &schedule->placements[other];
        if (other != root && at->region == WEIR_REGION_ARENA && at->block == place->block &&
            !dies_at(schedule, other, dispatch) &&
            at->byte_offset < place->byte_offset + place->byte_size &&
            place->byte_offset < at->byte_offset + at->byte_size) {
            return true;
        }
    }
    return false;
}

void check_serial_bury(check_serial* serial, uint32_t dispatch) {
    const weir_schedule* schedule = serial->schedule;
    const schedule_dispatch* item = &schedule->dispatches.items[dispatch];
    for (uint32_t i = 0; i < item->operand_count; i++) {
        const weir_value root = schedule->operands.items[item->operand_begin + i].root;
        if (dies_at(schedule, root, dispatch) && !has_heir(schedule, dispatch, root)) {
            memset(serial->roots[root], POISON, (size_t)schedule->placements[root].byte_size);
        }
    }
}

uint64_t check_value_bytes(const weir_schedule* schedule, weir_value value,
                           const uint64_t* params) {
    const weir_value_info* info = &schedule->values.items[value];
    const uint64_t byte_size = schedule->placements[value].byte_size;
    return info->rows == WEIR_PARAM_NONE ? byte_size
                                         : params[info->rows] * (uint64_t)info->layout.strides[0];
}
