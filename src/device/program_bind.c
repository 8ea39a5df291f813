#include <string.h>

#include "device/program.h"

static bool has_rows(const weir_value_info* info) {
    return info->rows != WEIR_PARAM_NONE;
}

static bool is_bindable(const weir_value_info* info) {
    return info->kind == WEIR_VALUE_WEIGHT || info->kind == WEIR_VALUE_STATE ||
           info->kind == WEIR_VALUE_INPUT || (info->kind == WEIR_VALUE_RESULT && info->is_output);
}

// Inputs and outputs whose rows are a parameter may have room for fewer than the most.
static bool has_room(const weir_program* program, const weir_value_info* info,
                     const weir_view* view) {
    const bool of_pass = info->kind == WEIR_VALUE_INPUT || info->kind == WEIR_VALUE_RESULT;
    weir_shape shape = view->shape;
    if (of_pass && has_rows(info) && shape.rank == info->layout.shape.rank &&
        shape.dims[0] <= info->layout.shape.dims[0] &&
        shape.dims[0] >= (int64_t)program->schedule->params.items[info->rows].lower) {
        shape.dims[0] = info->layout.shape.dims[0];
    }
    return weir_shape_equal(&shape, &info->layout.shape);
}

static weir_status check_memory(const weir_program* program, weir_value value,
                                const weir_view* view) {
    const weir_value_info* info = program_value(program, value);
    void* pointer = NULL;
    if (view->storage->device != program->device) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s is bound to memory of another device",
                         program_label(program, value));
    }
    if (program_writes(program, value) && weir_storage_is_sealed(view->storage)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s %s is bound to sealed memory",
                         info->kind == WEIR_VALUE_STATE ? "state" : "output",
                         program_label(program, value));
    }
    weir_status status = weir_view_check_memory(view);
    if (status == WEIR_OK) {
        status = weir_view_resolve(view, &pointer); // what is lazy is touched here, not in a pass
    }
    return status == WEIR_OK
               ? WEIR_OK
               : WEIR_FAIL(status, "%s: %s", program_label(program, value), weir_last_error());
}

static weir_status check_binding(const weir_program* program, const weir_binding* binding) {
    const weir_value_info* info = weir_schedule_value(program->schedule, binding->value);
    if (!info || !is_bindable(info)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "value %u is no weight, state, input or output",
                         binding->value);
    }
    const weir_view* view = &binding->view;
    const bool own = info->kind == WEIR_VALUE_INPUT || info->kind == WEIR_VALUE_RESULT;
    if (!view->storage) {
        return own ? WEIR_OK
                   : WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s is bound to no memory",
                               program_label(program, binding->value));
    }
    if (view->dtype != info->layout.dtype || !has_room(program, info, view) ||
        !weir_view_is_contiguous(view)) {
        char wanted[128];
        char given[128];
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s is %s and cannot be bound to %s",
                         program_label(program, binding->value),
                         weir_view_format(&info->layout, wanted, sizeof wanted),
                         weir_view_format(view, given, sizeof given));
    }
    return check_memory(program, binding->value, view);
}

// Nothing that the caller has may lie in memory that passes use for what they like.
static weir_status check_apart(weir_program* program, const weir_binding* binding) {
    bool shared = false;
    for (size_t i = 0; i < program->blocks.count && binding->view.storage && !shared; i++) {
        weir_storage* block = program->blocks.items[i].storage;
        const weir_view arena = {.storage = block,
                                 .dtype = WEIR_DTYPE_U8,
                                 .shape = {.rank = 1, .dims = {(int64_t)block->byte_size}},
                                 .strides = {1}};
        WEIR_TRY(identity_find_overlap(&binding->view, &arena, program->names, &shared));
    }
    if (shared) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s is bound to bytes of the arena",
                         program_label(program, binding->value));
    }
    return WEIR_OK;
}

weir_status program_want(weir_program* program, const weir_binding* bindings, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        WEIR_TRY(check_binding(program, &bindings[i]));
        WEIR_TRY(check_apart(program, &bindings[i]));
    }
    for (uint32_t i = 0; i < count; i++) {
        program->wanted[bindings[i].value] = bindings[i].view; // bound twice: the last holds
    }
    return WEIR_OK;
}

weir_view program_base(const weir_program* program, const weir_view* bound, weir_storage* memory,
                       weir_value value) {
    if (bound[value].storage) {
        return bound[value];
    }
    const weir_placement* place = &program->schedule->placements[value];
    weir_view base = program_value(program, value)->layout;
    base.byte_offset = place->byte_offset;
    switch (place->region) {
    case WEIR_REGION_ARENA:
        base.storage = program->blocks.items[place->block].storage;
        break;
    case WEIR_REGION_INPUT:
        base.storage = memory;
        break;
    case WEIR_REGION_OUTPUT:
        base.storage = memory;
        base.byte_offset += program->schedule->report.input_bytes;
        break;
    case WEIR_REGION_WEIGHT:
    case WEIR_REGION_STATE:
        base.storage = NULL;
        break;
    }
    return base;
}

bool program_same_base(const weir_view* a, const weir_view* b) {
    return a->storage == b->storage && a->byte_offset == b->byte_offset &&
           a->shape.rank == b->shape.rank &&
           (a->shape.rank == 0 || a->shape.dims[0] == b->shape.dims[0]);
}

// The declared bytes of an operand in the memory of its storage: no more rows than its base has.
static weir_access access_of(const schedule_operand* operand, const weir_view* base) {
    weir_access access = {.range = operand->extent, .kind = operand->kind};
    if (operand->rows != WEIR_PARAM_NONE && base->shape.dims[0] < operand->layout.shape.dims[0]) {
        weir_view touched = operand->layout;
        touched.shape.dims[0] = base->shape.dims[0];
        access.range = weir_range_from_view(&touched, 0, 0, NULL);
    }
    access.range.memory_id = base->storage->memory_id;
    access.range.byte_offset += base->storage->memory_offset + base->byte_offset;
    return access;
}

static weir_status resolve_operand(const weir_program* program, program_slot* slot, size_t index) {
    const schedule_operand* operand = &program->schedule->operands.items[index];
    const weir_view* base = &slot->bound[operand->root];
    weir_view* view = &slot->views[index];
    *view = operand->layout;
    view->storage = base->storage;
    view->byte_offset += base->byte_offset;
    slot->accesses[index] = access_of(operand, base);
    return weir_view_resolve(view, &slot->pointers[index]);
}

// Adds what an operand touches by every name. Constant memory counts by its other names only, by
// which somebody may write.
static weir_status touch(const weir_program* program, const program_slot* slot, size_t operand,
                         access_array* touched) {
    const weir_value root = program->schedule->operands.items[operand].root;
    weir_storage* storage = slot->bound[root].storage;
    const size_t position = touched->count;
    WEIR_TRY(array_reserve(&program->device->allocator, touched, position + 1));
    touched->items[touched->count++] = slot->accesses[operand];
    WEIR_TRY(identity_append_names(storage, position, touched));
    if (storage->constant) {
        touched->items[position] = touched->items[--touched->count];
    }
    return WEIR_OK;
}

static void reduce(access_array* touched) {
    uint32_t write_count = 0;
    touched->count = flight_reduce(touched->items, (uint32_t)touched->count, &write_count);
}

// What other passes are compared with: every byte under any parameters, in few ranges. The part of
// it that lies in the arena is the same for all slots and bindings.
static weir_status gather_touched(weir_program* program, program_slot* slot) {
    access_array* inside = &program->arena_touched;
    access_array* touched = &slot->touched;
    for (size_t i = 0; inside->count == 0 && i < program->inside_count; i++) {
        WEIR_TRY(touch(program, slot, program->places[i], inside));
    }
    reduce(inside);
    WEIR_TRY(array_reserve(&program->device->allocator, touched, inside->count));
    touched->count = inside->count;
    if (inside->count > 0) {
        memcpy(touched->items, inside->items, inside->count * sizeof *inside->items);
    }
    for (size_t i = program->inside_count; i < program->schedule->operands.count; i++) {
        WEIR_TRY(touch(program, slot, program->places[i], touched));
    }
    reduce(touched);
    return WEIR_OK;
}

static void place(program_slot* slot, weir_value value, const weir_view* base) {
    weir_view_retain(base);
    weir_view_release(&slot->bound[value]);
    slot->bound[value] = *base;
}

weir_status program_resolve(weir_program* program, const weir_view* bound, program_slot* slot) {
    for (weir_value value = 0; value < program->schedule->values.count; value++) {
        const weir_value_info* info = program_value(program, value);
        if (info->kind == WEIR_VALUE_VIEW || !program_is_used(program, value)) {
            continue;
        }
        const weir_view base = program_base(program, bound, slot->memory, value);
        if (!base.storage) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "nothing is bound to %s",
                             program_label(program, value));
        }
        place(slot, value, &base);
    }
    for (size_t i = 0; i < program->schedule->operands.count; i++) {
        WEIR_TRY(resolve_operand(program, slot, i));
    }
    return gather_touched(program, slot);
}

// Resolves every operand on a value again.
static weir_status move_value(const weir_program* program, program_slot* slot, weir_value value) {
    uint32_t count = 0;
    const uint32_t* uses = schedule_uses_of(program->schedule, value, &count);
    for (uint32_t u = 0; u < count; u++) {
        const schedule_dispatch* dispatch = &program->schedule->dispatches.items[uses[u]];
        for (uint32_t i = 0; i < dispatch->operand_count; i++) {
            const size_t index = dispatch->operand_begin + i;
            if (program->schedule->operands.items[index].root == value) {
                WEIR_TRY(resolve_operand(program, slot, index));
            }
        }
    }
    return WEIR_OK;
}

// Gives a slot the order that its bindings need, or that of the schedule again.
static weir_status remake(weir_program* program, program_slot* slot) {
    program_slot made = {0};
    WEIR_TRY(program_slot_make(program, program->bound, slot->memory, &made));
    memcpy(made.written, slot->written, program->schedule->values.count * sizeof *made.written);
    made.version = program->version;
    program_slot_free(program, slot);
    *slot = made;
    return WEIR_OK;
}

weir_status program_sync(weir_program* program, program_slot* slot) {
    bool aliased = slot->aliased;
    if (slot->version == program->version) {
        return WEIR_OK;
    }
    WEIR_TRY(
        program_find_alias(program, program->bound, slot->memory, aliased ? NULL : slot, &aliased));
    if (aliased) {
        return remake(program, slot);
    }
    for (uint32_t i = 0; i < program->bindable_count; i++) {
        const weir_value value = program->bindables[i];
        const weir_view base = program_base(program, program->bound, slot->memory, value);
        if (!program_same_base(&base, &slot->bound[value])) {
            place(slot, value, &base);
            WEIR_TRY(move_value(program, slot, value));
        }
    }
    WEIR_TRY(gather_touched(program, slot));
    WEIR_TRY(slot->work->vtable->rebind(slot->work));
    slot->version = program->version;
    return WEIR_OK;
}

// Tells by trial whether there is an order for the slot that comes next; the slot keeps what it has
// until then, for its outputs.
static weir_status check_order(weir_program* program) {
    program_slot* next = &program->slots[program->passes % program->slot_count];
    bool aliased = next->aliased;
    WEIR_TRY(program_find_alias(program, program->wanted, next->memory, aliased ? NULL : next,
                                &aliased));
    if (aliased) {
        program_slot trial = {0};
        WEIR_TRY(program_slot_make(program, program->wanted, next->memory, &trial));
        program_slot_free(program, &trial);
    }
    return WEIR_OK;
}

weir_status weir_program_bind(weir_program* program, const weir_binding* bindings, uint32_t count) {
    WEIR_TRY(program_want(program, bindings, count));
    const weir_status status = check_order(program);
    if (status != WEIR_OK) {
        for (uint32_t i = 0; i < count; i++) {
            program->wanted[bindings[i].value] = program->bound[bindings[i].value];
        }
        return status;
    }
    for (uint32_t i = 0; i < count; i++) { // what was written there was for memory left behind
        for (uint32_t s = 0; s < program->slot_count; s++) {
            program->slots[s].written[bindings[i].value] = 0;
        }
    }
    program_take_wanted(program, bindings, count);
    return WEIR_OK;
}
