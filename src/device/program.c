#include "device/program.h"

#include <string.h>

#include "base/log_line.h"

typedef struct owned_array {
    void** pointer;
    size_t byte_size;
} owned_array;

static weir_status take_arrays(const weir_program* program, const owned_array* arrays,
                               size_t count) {
    for (size_t i = 0; i < count; i++) {
        WEIR_TRY(
            weir_alloc_zeroed(&program->device->allocator, arrays[i].byte_size, arrays[i].pointer));
    }
    return WEIR_OK;
}

static void drop_arrays(const weir_program* program, const owned_array* arrays, size_t count) {
    for (size_t i = 0; i < count; i++) {
        weir_free(&program->device->allocator, *arrays[i].pointer, arrays[i].byte_size,
                  _Alignof(max_align_t));
    }
}

#define SLOT_ARRAYS 7

static void list_slot_arrays(const weir_program* program, program_slot* slot,
                             owned_array arrays[SLOT_ARRAYS]) {
    const weir_schedule* schedule = program->schedule;
    const size_t operands = schedule->operands.count;
    const owned_array list[SLOT_ARRAYS] = {
        {(void**)&slot->bound, schedule->values.count * sizeof *slot->bound},
        {(void**)&slot->dispatches, schedule->dispatches.count * sizeof *slot->dispatches},
        {(void**)&slot->views, operands * sizeof *slot->views},
        {(void**)&slot->pointers, operands * sizeof *slot->pointers},
        {(void**)&slot->accesses, operands * sizeof *slot->accesses},
        {(void**)&slot->params, schedule->params.count * sizeof *slot->params},
        {(void**)&slot->written, schedule->values.count * sizeof *slot->written},
    };
    memcpy(arrays, list, sizeof list);
}

#define PROGRAM_ARRAYS 11

static void list_arrays(weir_program* program, owned_array arrays[PROGRAM_ARRAYS]) {
    const weir_schedule* schedule = program->schedule;
    const size_t values = schedule->values.count;
    const owned_array list[PROGRAM_ARRAYS] = {
        {(void**)&program->bound, values * sizeof *program->bound},
        {(void**)&program->wanted, values * sizeof *program->wanted},
        {(void**)&program->bindables, values * sizeof *program->bindables},
        {(void**)&program->changed, values * sizeof *program->changed},
        {(void**)&program->checked, values * sizeof *program->checked},
        {(void**)&program->places, schedule->operands.count * sizeof *program->places},
        {(void**)&program->state_operands,
         schedule->operands.count * sizeof *program->state_operands},
        {(void**)&program->rows, schedule->operands.count * sizeof *program->rows},
        {(void**)&program->numbers, schedule->dispatches.count * sizeof *program->numbers},
        {(void**)&program->slots, program->slot_count * sizeof *program->slots},
        {(void**)&program->param_traffic, schedule->params.count * sizeof *program->param_traffic},
    };
    memcpy(arrays, list, sizeof list);
}

// A schedule by groups on a device that waits along edges: each dispatch follows all of the group
// before its own, and through these everything before. A later dispatch has no lower group.
static void follow_groups(const weir_program* program, program_slot* slot) {
    const schedule_dispatch* items = program->schedule->dispatches.items;
    uint32_t before = 0; // first of the group before, and of the group itself
    uint32_t begin = 0;
    for (uint32_t i = 0; i < program->schedule->dispatches.count; i++) {
        program->numbers[i] = i;
        if (i > 0 && items[i].group > items[i - 1].group) {
            before = begin;
            begin = i;
        }
        slot->dispatches[i].predecessors = program->numbers + before;
        slot->dispatches[i].predecessor_count = begin - before;
    }
}

// The dispatches of a slot in its order, or in that of the schedule.
static void list_dispatches(const weir_program* program, program_slot* slot) {
    const weir_schedule* schedule = program->schedule;
    const program_order* order = &slot->order;
    for (uint32_t i = 0; i < schedule->dispatches.count; i++) {
        const uint32_t number = order->numbers ? order->numbers[i] : i;
        const uint32_t* edges = order->numbers ? order->edges.items : schedule->edges.items;
        const uint32_t* begins = order->numbers ? order->begins : schedule->edges.begins;
        const schedule_dispatch* dispatch = &schedule->dispatches.items[number];
        slot->dispatches[i] = (device_dispatch){
            .name = dispatch->name,
            .run = dispatch->kernel->run,
            .kernel = dispatch->kernel,
            .constants = &dispatch->constants,
            .constants_size = sizeof dispatch->constants,
            .group = order->numbers ? i : dispatch->group, // bindings that share bytes: in turn
            .views = slot->views + dispatch->operand_begin,
            .rows = program->rows + dispatch->operand_begin,
            .pointers = slot->pointers + dispatch->operand_begin,
            .operand_count = dispatch->operand_count,
            .accesses = slot->accesses + dispatch->operand_begin,
            .access_count = dispatch->operand_count,
            .predecessors = edges + begins[i],
            .predecessor_count = begins[i + 1] - begins[i],
        };
    }
    if (!order->numbers && schedule->target.waits == WEIR_WAIT_GROUPS &&
        program->device->target.waits == WEIR_WAIT_EDGES) {
        follow_groups(program, slot);
    }
}

static weir_status fill_slot(weir_program* program, const weir_view* bound, program_slot* slot) {
    owned_array arrays[SLOT_ARRAYS];
    list_slot_arrays(program, slot, arrays);
    WEIR_TRY(take_arrays(program, arrays, SLOT_ARRAYS));
    WEIR_TRY(program_find_alias(program, bound, slot->memory, NULL, &slot->aliased));
    WEIR_TRY(program_resolve(program, bound, slot));
    slot->order.waits = program->schedule->report.waits;
    if (slot->aliased) {
        WEIR_TRY(program_find_order(program, slot));
    }
    list_dispatches(program, slot);
    return program->device->vtable->prepare(program->device, slot->dispatches,
                                            (uint32_t)program->schedule->dispatches.count,
                                            &slot->work);
}

weir_status program_slot_make(weir_program* program, const weir_view* bound, weir_storage* memory,
                              program_slot* slot) {
    weir_storage_retain(memory);
    slot->memory = memory;
    const weir_status status = fill_slot(program, bound, slot);
    if (status != WEIR_OK) {
        program_slot_free(program, slot);
    }
    return status;
}

void program_slot_free(weir_program* program, program_slot* slot) {
    owned_array arrays[SLOT_ARRAYS];
    if (slot->work) {
        slot->work->vtable->destroy(slot->work);
    }
    for (size_t i = 0; slot->bound && i < program->schedule->values.count; i++) {
        weir_view_release(&slot->bound[i]);
    }
    array_free(&program->device->allocator, &slot->touched);
    program_order_free(program, &slot->order);
    list_slot_arrays(program, slot, arrays);
    drop_arrays(program, arrays, SLOT_ARRAYS);
    weir_storage_release(slot->memory);
    *slot = (program_slot){0};
}

void program_take_wanted(weir_program* program, const weir_binding* bindings, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const weir_value value = bindings[i].value;
        weir_view_retain(&program->wanted[value]);
        weir_view_release(&program->bound[value]);
        program->bound[value] = program->wanted[value];
    }
    program->checked_count = 0;
    for (uint32_t i = 0; i < program->bindable_count; i++) {
        const weir_value value = program->bindables[i];
        const weir_value_kind kind = program_value(program, value)->kind;
        if (kind == WEIR_VALUE_INPUT ||
            (kind != WEIR_VALUE_WEIGHT && program->bound[value].storage)) {
            program->checked[program->checked_count++] = value;
        }
    }
    program->version++;
}

static void add_traffic(program_traffic* sum, weir_access_kind kind, uint64_t byte_count) {
    sum->bytes_read += (kind & WEIR_ACCESS_READ) != 0 ? byte_count : 0;
    sum->bytes_written += (kind & WEIR_ACCESS_WRITE) != 0 ? byte_count : 0;
}

// Returns the parameter that kernels read for the rows of an operand: none where its bounds leave
// no choice, so that they need not wait for it.
static weir_param rows_to_read(const weir_schedule* schedule, weir_param rows) {
    if (rows == WEIR_PARAM_NONE) {
        return WEIR_PARAM_NONE;
    }
    const weir_param_info* bounds = &schedule->params.items[rows];
    return bounds->lower == bounds->upper ? WEIR_PARAM_NONE : rows;
}

// Takes from the schedule what is the same for all slots.
static void take_schedule(weir_program* program) {
    const weir_schedule* schedule = program->schedule;
    for (size_t i = 0; i < schedule->operands.count; i++) {
        const schedule_operand* operand = &schedule->operands.items[i];
        const schedule_rows* touched = &operand->touched;
        program->rows[i] = rows_to_read(schedule, operand->rows);
        if (program_value(program, operand->root)->kind == WEIR_VALUE_STATE) {
            program->state_operands[program->state_operand_count++] = (uint32_t)i;
        }
        add_traffic(&program->fixed_traffic, operand->kind, touched->fixed * touched->row_bytes);
        for (size_t p = 0; p < sizeof touched->params / sizeof touched->params[0]; p++) {
            if (touched->params[p] != WEIR_PARAM_NONE) {
                add_traffic(&program->param_traffic[touched->params[p]], operand->kind,
                            touched->row_bytes);
            }
        }
    }
    uint32_t listed = 0;
    for (int outside = 0; outside < 2; outside++) {
        for (uint32_t i = 0; i < schedule->operands.count; i++) {
            const weir_value root = schedule->operands.items[i].root;
            if ((schedule->placements[root].region != WEIR_REGION_ARENA) == (outside == 1)) {
                program->places[listed++] = i;
            }
        }
        program->inside_count = outside == 0 ? listed : program->inside_count;
    }
    for (weir_value value = 0; value < schedule->values.count; value++) {
        const weir_value_info* info = program_value(program, value);
        if (schedule->placements[value].region != WEIR_REGION_ARENA &&
            info->kind != WEIR_VALUE_VIEW && program_is_used(program, value)) {
            program->bindables[program->bindable_count++] = value;
        }
    }
}

// Whether the blocks of the arena hold every place of the plan.
static weir_status check_blocks(const weir_program* program) {
    uint32_t count = 0;
    const weir_plan_entry* entries =
        weir_plan_entries(weir_schedule_plan(program->schedule), &count);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t block = entries[i].block;
        const uint64_t needed = entries[i].byte_offset + entries[i].byte_size;
        const uint64_t there =
            block < program->blocks.count ? program->blocks.items[block].storage->byte_size : 0;
        if (block >= program->blocks.count || needed > there) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                             "the plan needs %llu bytes in %u block%s, one of at least %llu as "
                             "number %u; the arena has %zu, that one of %llu",
                             (unsigned long long)program->schedule->report.arena_bytes,
                             program->schedule->report.arena_blocks,
                             program->schedule->report.arena_blocks > 1 ? "s" : "",
                             (unsigned long long)needed, block, program->blocks.count,
                             (unsigned long long)there);
        }
    }
    return WEIR_OK;
}

// Finds the arena, the caller's or one of the program's own.
static weir_status choose_arena(weir_program* program, weir_arena* given) {
    const weir_plan* plan = weir_schedule_plan(program->schedule);
    if (!given) {
        const weir_arena_desc desc = {.plans = &plan, .plan_count = 1};
        WEIR_TRY(weir_arena_create_with(program->device, &desc, &program->own_arena));
        given = program->own_arena;
    }
    const uint32_t count = weir_arena_block_count(given);
    WEIR_TRY(array_reserve(&program->device->allocator, &program->blocks, count));
    for (uint32_t i = 0; i < count; i++) {
        weir_storage* block = weir_arena_block(given, i);
        if (block->device != program->device) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "the arena lies on another device");
        }
        weir_storage_retain(block);
        program->blocks.items[program->blocks.count++].storage = block;
    }
    return check_blocks(program);
}

static weir_status make_slot(weir_program* program, program_slot* slot) {
    const weir_schedule_report* report = &program->schedule->report;
    const weir_storage_desc desc = {.byte_size = report->input_bytes + report->output_bytes,
                                    .fill = WEIR_FILL_ZERO,
                                    .name = "inputs and outputs",
                                    .host_reads = true};
    weir_storage* memory = NULL;
    WEIR_TRY(weir_storage_allocate(program->device, &desc, &memory));
    const weir_status status = program_slot_make(program, program->wanted, memory, slot);
    weir_storage_release(memory);
    return status;
}

// A device runs the kernels of its target and, where those are host functions, any host function.
static weir_status check_kernels(const weir_program* program) {
    const weir_target* target = &program->device->target;
    const weir_kernel* end = target->kernels + target->kernel_count;
    const bool takes_functions = target->kernel_count > 0 && target->kernels[0].run;
    for (size_t i = 0; i < program->schedule->dispatches.count; i++) {
        const schedule_dispatch* dispatch = &program->schedule->dispatches.items[i];
        const weir_kernel* kernel = dispatch->kernel;
        const bool own = kernel >= target->kernels && kernel < end;
        if (!own && !(takes_functions && kernel->run)) {
            return WEIR_FAIL(WEIR_UNSUPPORTED, "%s: kernel %s of target %s cannot run on device %s",
                             dispatch->name, kernel->name, program->schedule->target.name,
                             target->name);
        }
    }
    return WEIR_OK;
}

static weir_status record(weir_program* program, const weir_program_desc* desc) {
    owned_array arrays[PROGRAM_ARRAYS];
    WEIR_TRY(check_kernels(program));
    list_arrays(program, arrays);
    WEIR_TRY(take_arrays(program, arrays, PROGRAM_ARRAYS));
    take_schedule(program);
    WEIR_TRY(choose_arena(program, desc->arena));
    WEIR_TRY(program_want(program, desc->bindings, desc->binding_count));
    for (uint32_t i = 0; i < program->slot_count; i++) {
        WEIR_TRY(make_slot(program, &program->slots[i]));
    }
    program_take_wanted(program, desc->bindings, desc->binding_count);
    for (uint32_t i = 0; i < program->slot_count; i++) {
        program->slots[i].version = program->version;
    }
    return WEIR_OK;
}

weir_status weir_program_create(weir_device* device, const weir_program_desc* desc,
                                weir_program** program) {
    if (desc->slot_count > PASSES_IN_FLIGHT) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "%u slots, a device has at most %d passes in flight", desc->slot_count,
                         PASSES_IN_FLIGHT);
    }
    weir_program* made = NULL;
    WEIR_TRY(object_new(&device->allocator, &made));
    made->device = device;
    made->schedule = desc->schedule;
    made->slot_count = desc->slot_count > 0 ? desc->slot_count : 1;
    const weir_status status = record(made, desc);
    if (status != WEIR_OK) {
        weir_program_destroy(made);
        return status;
    }
    const weir_schedule_report* report = &made->schedule->report;
    log_line(&device->log, WEIR_LOG_INFO,
             "%s: program of %u dispatches, %u waits, arena of %llu bytes (bound %llu)",
             device->target.name, report->dispatches, report->waits,
             (unsigned long long)report->arena_bytes, (unsigned long long)report->bound_bytes);
    *program = made;
    return WEIR_OK;
}

void weir_program_destroy(weir_program* program) {
    if (!program) {
        return;
    }
    owned_array arrays[PROGRAM_ARRAYS];
    for (uint32_t i = 0; program->slots && i < program->slot_count; i++) {
        const weir_status outcome = weir_ticket_wait(program->slots[i].ticket, WEIR_WAIT_FOREVER);
        (void)outcome; // it belongs to whoever holds the ticket
        program_slot_free(program, &program->slots[i]);
    }
    for (size_t i = 0; program->bound && i < program->schedule->values.count; i++) {
        weir_view_release(&program->bound[i]);
    }
    array_free(&program->device->allocator, &program->arena_touched);
    array_free(&program->device->allocator, &program->names[0]);
    array_free(&program->device->allocator, &program->names[1]);
    for (size_t i = 0; i < program->blocks.count; i++) {
        weir_storage_release(program->blocks.items[i].storage);
    }
    array_free(&program->device->allocator, &program->blocks);
    weir_arena_destroy(program->own_arena);
    list_arrays(program, arrays);
    drop_arrays(program, arrays, PROGRAM_ARRAYS);
    object_free(&program->device->allocator, program);
}
