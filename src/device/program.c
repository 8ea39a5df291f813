#include <weir/program.h>

#include <string.h>

#include "base/log_line.h"
#include "device/backend.h"
#include "schedule/schedule.h"

// Bytes that the accesses of a pass declare: a sum over its parameters, because the bytes of each
// access grow by whole rows.
typedef struct traffic {
    uint64_t bytes_read, bytes_written;
} traffic;

struct weir_program {
    weir_device* device;
    const weir_schedule* schedule;
    weir_arena* own_arena;   // NULL when the arena is shared
    weir_storage* slot;      // inputs, then outputs; reachable by the host
    uint64_t outputs_offset; // of the outputs in the slot
    device_work* work;
    weir_ticket ticket; // of the last pass
    weir_counters counters;
    traffic fixed_traffic; // of every pass
    weir_view* bound;      // per value: its storage and offset; storages are retained
    device_dispatch* dispatches;
    weir_view* views;      // per operand
    weir_param* rows;      // per operand
    void** pointers;       // per operand
    weir_access* accesses; // per operand
    access_array touched;  // of the pass, reduced, by every name; without constant memory
    bool timing;
    uint64_t* params;       // the parameter block of the pass in flight
    traffic* param_traffic; // per parameter: added for each unit of it
    uint32_t* numbers;      // per dispatch its number, of which groups are runs
};

typedef struct owned_array {
    void** pointer;
    size_t byte_size;
} owned_array;

#define OWNED_ARRAYS 9

static void list_arrays(weir_program* program, owned_array arrays[OWNED_ARRAYS]) {
    const size_t values = program->schedule->values.count;
    const size_t operands = program->schedule->operands.count;
    const size_t params = program->schedule->params.count;
    const size_t dispatches = program->schedule->dispatches.count;
    const owned_array list[OWNED_ARRAYS] = {
        {(void**)&program->bound, values * sizeof *program->bound},
        {(void**)&program->dispatches, dispatches * sizeof *program->dispatches},
        {(void**)&program->views, operands * sizeof *program->views},
        {(void**)&program->rows, operands * sizeof *program->rows},
        {(void**)&program->pointers, operands * sizeof *program->pointers},
        {(void**)&program->accesses, operands * sizeof *program->accesses},
        {(void**)&program->params, params * sizeof *program->params},
        {(void**)&program->param_traffic, params * sizeof *program->param_traffic},
        {(void**)&program->numbers, dispatches * sizeof *program->numbers},
    };
    memcpy(arrays, list, sizeof list);
}

static weir_status allocate_arrays(weir_program* program) {
    owned_array arrays[OWNED_ARRAYS];
    list_arrays(program, arrays);
    for (size_t i = 0; i < OWNED_ARRAYS; i++) {
        WEIR_TRY(
            weir_alloc_zeroed(&program->device->allocator, arrays[i].byte_size, arrays[i].pointer));
    }
    return WEIR_OK;
}

static void free_arrays(weir_program* program) {
    owned_array arrays[OWNED_ARRAYS];
    list_arrays(program, arrays);
    for (size_t i = 0; i < OWNED_ARRAYS; i++) {
        weir_free(&program->device->allocator, *arrays[i].pointer, arrays[i].byte_size,
                  _Alignof(max_align_t));
    }
}

static void bind(weir_program* program, weir_value value, weir_storage* storage,
                 uint64_t byte_offset) {
    weir_storage_retain(storage);
    program->bound[value].storage = storage;
    program->bound[value].byte_offset = byte_offset;
}

static weir_status check_binding(const weir_program* program, const weir_binding* binding) {
    const weir_value_info* info = weir_schedule_value(program->schedule, binding->value);
    if (!info || (info->kind != WEIR_VALUE_WEIGHT && info->kind != WEIR_VALUE_STATE)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "value %u is no weight and no state",
                         binding->value);
    }
    const weir_view* view = &binding->view;
    char wanted[128];
    char given[128];
    if (view->dtype != info->layout.dtype || !weir_shape_equal(&view->shape, &info->layout.shape) ||
        !weir_view_is_contiguous(view)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s is %s and cannot be bound to %s", info->name,
                         weir_view_format(&info->layout, wanted, sizeof wanted),
                         weir_view_format(view, given, sizeof given));
    }
    if (!view->storage || view->storage->device != program->device) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s is bound to %s", info->name,
                         view->storage ? "memory of another device" : "no memory");
    }
    if (info->kind == WEIR_VALUE_STATE && weir_storage_is_sealed(view->storage)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "state %s is bound to sealed memory", info->name);
    }
    const weir_status status = weir_view_check_memory(view);
    return status == WEIR_OK ? WEIR_OK : WEIR_FAIL(status, "%s: %s", info->name, weir_last_error());
}

static weir_view bytes_of(weir_storage* storage) {
    return (weir_view){.storage = storage,
                       .dtype = WEIR_DTYPE_U8,
                       .shape = {.rank = 1, .dims = {(int64_t)storage->byte_size}},
                       .strides = {1}};
}

// The schedule takes states for memory of their own: nothing else may lie on their bytes.
static weir_status check_apart(const weir_program_desc* desc, const weir_schedule* schedule,
                               weir_storage* arena) {
    for (uint32_t i = 0; i < desc->binding_count; i++) {
        const weir_binding* state = &desc->bindings[i];
        if (schedule->values.items[state->value].kind != WEIR_VALUE_STATE) {
            continue;
        }
        const char* name = schedule->values.items[state->value].name;
        const weir_view arena_bytes = bytes_of(arena);
        bool shared = false;
        WEIR_TRY(weir_view_overlaps(&state->view, &arena_bytes, &shared));
        if (shared) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "state %s is bound to bytes of the arena",
                             name);
        }
        for (uint32_t k = 0; k < desc->binding_count; k++) {
            const weir_binding* other = &desc->bindings[k];
            WEIR_TRY(weir_view_overlaps(&state->view, &other->view, &shared));
            if (other->value != state->value && shared) {
                return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                                 "state %s and %s are bound to the same bytes", name,
                                 schedule->values.items[other->value].name);
            }
        }
    }
    return WEIR_OK;
}

static weir_status bind_outside(weir_program* program, const weir_program_desc* desc) {
    for (uint32_t i = 0; i < desc->binding_count; i++) {
        const weir_binding* binding = &desc->bindings[i];
        WEIR_TRY(check_binding(program, binding));
        weir_storage_release(program->bound[binding->value].storage); // bound twice: the last holds
        bind(program, binding->value, binding->view.storage, binding->view.byte_offset);
    }
    return WEIR_OK;
}

// Gives every value its storage; inputs and outputs lie in the slot, results in the arena.
static weir_status bind_planned(weir_program* program, weir_storage* arena) {
    const weir_schedule* schedule = program->schedule;
    for (weir_value value = 0; value < program->schedule->values.count; value++) {
        const weir_value_info* info = &schedule->values.items[value];
        const weir_placement* place = &schedule->placements[value];
        uint32_t uses = 0;
        schedule_uses_of(schedule, value, &uses);
        if (info->kind == WEIR_VALUE_VIEW || uses == 0) {
            continue;
        }
        switch (place->region) {
        case WEIR_REGION_ARENA:
            bind(program, value, arena, place->byte_offset);
            break;
        case WEIR_REGION_INPUT:
            bind(program, value, program->slot, place->byte_offset);
            break;
        case WEIR_REGION_OUTPUT:
            bind(program, value, program->slot, program->outputs_offset + place->byte_offset);
            break;
        case WEIR_REGION_WEIGHT:
        case WEIR_REGION_STATE:
            if (!program->bound[value].storage) {
                return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "nothing is bound to %s", info->name);
            }
            break;
        }
    }
    return WEIR_OK;
}

static void add_traffic(traffic* sum, weir_access_kind kind, uint64_t byte_count) {
    sum->bytes_read += (kind & WEIR_ACCESS_READ) != 0 ? byte_count : 0;
    sum->bytes_written += (kind & WEIR_ACCESS_WRITE) != 0 ? byte_count : 0;
}

static void count_traffic(weir_program* program, const schedule_operand* operand) {
    const schedule_rows* touched = &operand->touched;
    const uint64_t row_bytes = touched->row_bytes;
    add_traffic(&program->fixed_traffic, operand->kind, touched->fixed * row_bytes);
    for (size_t i = 0; i < sizeof touched->params / sizeof touched->params[0]; i++) {
        if (touched->params[i] != WEIR_PARAM_NONE) {
            add_traffic(&program->param_traffic[touched->params[i]], operand->kind, row_bytes);
        }
    }
}

// The declared bytes of an operand in the memory of its storage.
static weir_access access_of(const weir_program* program, const schedule_operand* operand) {
    const weir_view* base = &program->bound[operand->root];
    weir_access access = {.range = operand->extent, .kind = operand->kind};
    access.range.memory_id = base->storage->memory_id;
    access.range.byte_offset += base->storage->memory_offset + base->byte_offset;
    return access;
}

static weir_status resolve_operands(weir_program* program, const schedule_dispatch* dispatch) {
    for (uint32_t i = 0; i < dispatch->operand_count; i++) {
        const size_t index = dispatch->operand_begin + i;
        const schedule_operand* operand = &program->schedule->operands.items[index];
        weir_view* view = &program->views[index];
        *view = operand->layout;
        view->storage = program->bound[operand->root].storage;
        view->byte_offset += program->bound[operand->root].byte_offset;
        program->rows[index] = operand->rows;
        WEIR_TRY(weir_view_resolve(view, &program->pointers[index]));
        program->accesses[index] = access_of(program, operand);
        count_traffic(program, operand);
    }
    return WEIR_OK;
}

// A schedule by groups on a device that waits along edges: each dispatch follows all of the group
// before its own, and through these everything before. A later dispatch has no lower group.
static void follow_groups(weir_program* program) {
    const schedule_dispatch* items = program->schedule->dispatches.items;
    uint32_t before = 0; // first of the group before, and of the group itself
    uint32_t begin = 0;
    for (uint32_t i = 0; i < program->schedule->dispatches.count; i++) {
        program->numbers[i] = i;
        if (i > 0 && items[i].group > items[i - 1].group) {
            before = begin;
            begin = i;
        }
        program->dispatches[i].predecessors = program->numbers + before;
        program->dispatches[i].predecessor_count = begin - before;
    }
}

static weir_status resolve(weir_program* program) {
    const weir_schedule* schedule = program->schedule;
    for (size_t i = 0; i < schedule->dispatches.count; i++) {
        const schedule_dispatch* dispatch = &schedule->dispatches.items[i];
        const uint32_t edge_begin = schedule->edges.begins[i];
        WEIR_TRY(resolve_operands(program, dispatch));
        program->dispatches[i] = (device_dispatch){
            .name = dispatch->name,
            .run = dispatch->kernel->run,
            .kernel = dispatch->kernel,
            .constants = &dispatch->constants,
            .views = program->views + dispatch->operand_begin,
            .rows = program->rows + dispatch->operand_begin,
            .pointers = program->pointers + dispatch->operand_begin,
            .accesses = program->accesses + dispatch->operand_begin,
            .access_count = dispatch->operand_count,
            .operand_count = dispatch->operand_count,
            .predecessors = schedule->edges.items + edge_begin,
            .predecessor_count = schedule->edges.begins[i + 1] - edge_begin,
        };
    }
    if (schedule->target.waits == WEIR_WAIT_GROUPS &&
        program->device->target.waits == WEIR_WAIT_EDGES) {
        follow_groups(program);
    }
    return WEIR_OK;
}

// What other passes are compared with: every byte under any parameters, in few ranges. Constant
// memory counts by its other names only, by which somebody may write.
static weir_status gather_touched(weir_program* program) {
    const weir_schedule* schedule = program->schedule;
    access_array* touched = &program->touched;
    for (size_t i = 0; i < schedule->operands.count; i++) {
        weir_storage* storage = program->bound[schedule->operands.items[i].root].storage;
        const size_t position = touched->count;
        WEIR_TRY(array_reserve(&program->device->allocator, touched, position + 1));
        touched->items[touched->count++] = program->accesses[i];
        WEIR_TRY(identity_append_names(storage, position, touched));
        if (storage->constant) {
            touched->items[position] = touched->items[--touched->count];
        }
    }
    uint32_t write_count = 0;
    touched->count = flight_reduce(touched->items, (uint32_t)touched->count, &write_count);
    return WEIR_OK;
}

// Finds the arena, the caller's or one of the program's own.
static weir_status choose_arena(weir_program* program, weir_arena* given, weir_storage** storage) {
    const uint64_t needed = program->schedule->report.arena_bytes;
    if (!given) {
        WEIR_TRY(weir_arena_create_sized(program->device, needed, &program->own_arena));
        given = program->own_arena;
    }
    if (weir_arena_byte_size(given) < needed) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "the plan needs %llu bytes, the arena has %llu",
                         (unsigned long long)needed,
                         (unsigned long long)weir_arena_byte_size(given));
    }
    *storage = weir_arena_storage(given);
    if ((*storage)->device != program->device) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "the arena lies on another device");
    }
    return WEIR_OK;
}

static weir_status record(weir_program* program, const weir_program_desc* desc) {
    weir_device* device = program->device;
    const weir_schedule* schedule = program->schedule;
    if (schedule->target.kernels != device->target.kernels) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "a schedule for target %s cannot run on device %s",
                         schedule->target.name, device->target.name);
    }
    WEIR_TRY(allocate_arrays(program));
    program->outputs_offset = schedule->report.input_bytes;
    const weir_storage_desc slot = {.byte_size = schedule->report.input_bytes +
                                                 schedule->report.output_bytes,
                                    .fill = WEIR_FILL_ZERO,
                                    .name = "inputs and outputs"};
    weir_storage* arena = NULL;
    WEIR_TRY(weir_storage_allocate(device, &slot, &program->slot));
    WEIR_TRY(choose_arena(program, desc->arena, &arena));
    WEIR_TRY(bind_outside(program, desc));
    WEIR_TRY(check_apart(desc, schedule, arena));
    WEIR_TRY(bind_planned(program, arena));
    WEIR_TRY(resolve(program));
    WEIR_TRY(gather_touched(program));
    return device->vtable->prepare(device, program->dispatches,
                                   (uint32_t)schedule->dispatches.count, &program->work);
}

weir_status weir_program_create(weir_device* device, const weir_program_desc* desc,
                                weir_program** program) {
    weir_program* made = NULL;
    WEIR_TRY(object_new(&device->allocator, &made));
    made->device = device;
    made->schedule = desc->schedule;
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

static void wait_until_idle(weir_program* program) {
    const weir_status outcome = weir_ticket_wait(program->ticket, WEIR_WAIT_FOREVER);
    (void)outcome; // it belongs to whoever holds the ticket
}

void weir_program_destroy(weir_program* program) {
    if (!program) {
        return;
    }
    wait_until_idle(program);
    if (program->work) {
        program->work->vtable->destroy(program->work);
    }
    for (size_t i = 0; program->bound && i < program->schedule->values.count; i++) {
        weir_storage_release(program->bound[i].storage);
    }
    weir_arena_destroy(program->own_arena);
    weir_storage_release(program->slot);
    free_arrays(program);
    array_free(&program->device->allocator, &program->touched);
    object_free(&program->device->allocator, program);
}

static weir_status check_idle(const weir_program* program) {
    return weir_ticket_is_complete(program->ticket)
               ? WEIR_OK
               : WEIR_FAIL(WEIR_BUSY, "a pass of the program is in flight");
}

// Where the host finds a value of the slot; NULL for any other value.
static uint8_t* slot_address(const weir_program* program, weir_value value, weir_value_kind kind) {
    const weir_value_info* info = weir_schedule_value(program->schedule, value);
    if (!info || info->kind != kind || (kind == WEIR_VALUE_RESULT && !info->is_output)) {
        return NULL;
    }
    const uint64_t base = kind == WEIR_VALUE_RESULT ? program->outputs_offset : 0;
    return (uint8_t*)program->slot->host + base + program->schedule->placements[value].byte_offset;
}

weir_status weir_program_write(weir_program* program, weir_value input, const void* bytes,
                               uint64_t byte_size) {
    uint8_t* target = slot_address(program, input, WEIR_VALUE_INPUT);
    if (!target) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "value %u is no input of the program", input);
    }
    const uint64_t room = program->schedule->placements[input].byte_size;
    if (byte_size > room) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%llu bytes do not fit input %s of %llu bytes",
                         (unsigned long long)byte_size, program->schedule->values.items[input].name,
                         (unsigned long long)room);
    }
    WEIR_TRY(check_idle(program));
    if (byte_size > 0) {
        memcpy(target, bytes, (size_t)byte_size);
    }
    return WEIR_OK;
}

static weir_status check_params(const weir_program* program, const uint64_t* params,
                                uint32_t param_count) {
    if (param_count != program->schedule->params.count) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%u parameters given, the graph has %zu",
                         param_count, program->schedule->params.count);
    }
    for (uint32_t i = 0; i < param_count; i++) {
        const weir_param_info* info = &program->schedule->params.items[i];
        if (params[i] < info->lower || params[i] > info->upper) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE, "parameter %s is %llu, outside [%llu, %llu]",
                             info->name, (unsigned long long)params[i],
                             (unsigned long long)info->lower, (unsigned long long)info->upper);
        }
    }
    return WEIR_OK;
}

static void count_pass(weir_program* program) {
    const weir_schedule_report* report = &program->schedule->report;
    weir_counters* counters = &program->counters;
    counters->dispatches += report->dispatches;
    counters->waits += report->waits;
    counters->waits_elided += report->waits_elided;
    counters->submits++;
    counters->bytes_read += program->fixed_traffic.bytes_read;
    counters->bytes_written += program->fixed_traffic.bytes_written;
    for (size_t i = 0; i < program->schedule->params.count; i++) {
        counters->bytes_read += program->param_traffic[i].bytes_read * program->params[i];
        counters->bytes_written += program->param_traffic[i].bytes_written * program->params[i];
    }
}

weir_status weir_program_commit(weir_program* program, const uint64_t* params, uint32_t param_count,
                                weir_ticket* ticket) {
    WEIR_TRY(check_params(program, params, param_count));
    WEIR_TRY(check_idle(program));
    if (param_count > 0) {
        memcpy(program->params, params, param_count * sizeof params[0]);
    }
    const device_commit commit = {
        .work = program->work,
        .params = program->params,
        .accesses = program->touched.items,
        .access_count = (uint32_t)program->touched.count,
        .timing_count = program->timing ? program->schedule->report.dispatches : 0,
    };
    WEIR_TRY(weir_device_submit(program->device, &commit, &program->ticket));
    count_pass(program);
    *ticket = program->ticket;
    return WEIR_OK;
}

weir_status weir_program_run(weir_program* program, const uint64_t* params, uint32_t param_count) {
    weir_ticket ticket;
    WEIR_TRY(weir_program_commit(program, params, param_count, &ticket));
    program->counters.host_waits++;
    return weir_ticket_wait(ticket, WEIR_WAIT_FOREVER);
}

const void* weir_program_contents(const weir_program* program, weir_value output) {
    return weir_ticket_is_complete(program->ticket)
               ? slot_address(program, output, WEIR_VALUE_RESULT)
               : NULL;
}

void weir_program_set_timing(weir_program* program, bool timing) {
    program->timing = timing;
}

const weir_counters* weir_program_counters(const weir_program* program) {
    return &program->counters;
}
