#include <string.h>

#include "device/program.h"
#include "device/residency.h"

typedef unsigned long long ull; // for messages

static program_slot* next_slot(const weir_program* program) {
    return &program->slots[program->passes % program->slot_count];
}

static weir_status check_free(const program_slot* slot) {
    return weir_ticket_is_complete(slot->ticket)
               ? WEIR_OK
               : WEIR_FAIL(WEIR_BUSY, "every slot of the program has a pass in flight");
}

weir_status weir_program_write(weir_program* program, weir_value input, const void* bytes,
                               uint64_t byte_size) {
    const weir_value_info* info = weir_schedule_value(program->schedule, input);
    if (!info || info->kind != WEIR_VALUE_INPUT) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "value %u is no input of the program", input);
    }
    if (program->bound[input].storage) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "input %s is bound to memory of the caller",
                         program_label(program, input));
    }
    const weir_placement* place = &program->schedule->placements[input];
    if (byte_size > place->byte_size) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%llu bytes do not fit input %s of %llu bytes",
                         (ull)byte_size, program_label(program, input), (ull)place->byte_size);
    }
    program_slot* slot = next_slot(program);
    WEIR_TRY(check_free(slot));
    if (byte_size > 0) {
        memcpy((uint8_t*)slot->memory->host + place->byte_offset, bytes, (size_t)byte_size);
    }
    slot->written[input] = byte_size;
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
                             info->name, (ull)params[i], (ull)info->lower, (ull)info->upper);
        }
    }
    return WEIR_OK;
}

// Bytes of an input or output that a pass uses; rows are whole.
static uint64_t bytes_of_pass(const weir_value_info* info, const uint64_t* params) {
    const uint64_t byte_size = weir_view_byte_span(&info->layout);
    if (info->rows == WEIR_PARAM_NONE || info->layout.shape.dims[0] == 0) {
        return byte_size;
    }
    return byte_size / (uint64_t)info->layout.shape.dims[0] * params[info->rows];
}

// What a pass reads was written for it, and what it writes has room, every row.
static weir_status check_value(const weir_program* program, const program_slot* slot,
                               weir_value value, const uint64_t* params) {
    const weir_value_info* info = program_value(program, value);
    const weir_storage* storage = program->bound[value].storage;
    if (storage && program_writes(program, value) && weir_storage_is_sealed(storage)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "the memory of %s was sealed since it was bound",
                         program_label(program, value));
    }
    if (storage && info->rows != WEIR_PARAM_NONE &&
        params[info->rows] > (uint64_t)program->bound[value].shape.dims[0]) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s is bound to %lld rows, the pass has %llu",
                         program_label(program, value),
                         (long long)program->bound[value].shape.dims[0], (ull)params[info->rows]);
    }
    if (!storage && info->kind == WEIR_VALUE_INPUT) {
        const uint64_t needed = bytes_of_pass(info, params);
        if (slot->written[value] < needed) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "input %s: the pass reads %llu bytes, %llu were written for it",
                             program_label(program, value), (ull)needed, (ull)slot->written[value]);
        }
    }
    return WEIR_OK;
}

static uint64_t value_of(const uint64_t* params, weir_param param) {
    return param == WEIR_PARAM_NONE ? 0 : params[param];
}

// The rows of states that this pass touches are there: memory may come as they grow.
static weir_status check_states(const weir_program* program, const program_slot* slot,
                                const uint64_t* params) {
    for (uint32_t i = 0; i < program->state_operand_count; i++) {
        const uint32_t index = program->state_operands[i];
        const schedule_operand* operand = &program->schedule->operands.items[index];
        const weir_view* bound = &slot->bound[operand->root];
        const schedule_rows* touched = &operand->touched;
        const uint64_t rows = touched->fixed + value_of(params, touched->params[0]) +
                              value_of(params, touched->params[1]);
        if (bound->storage->slot_stride == 0 || rows == 0) {
            continue;
        }
        const uint64_t begin = bound->byte_offset + operand->layout.byte_offset;
        const uint64_t last = value_of(params, touched->first) + rows - 1;
        const uint64_t stride =
            operand->layout.shape.rank > 0 ? (uint64_t)operand->layout.strides[0] : 0;
        const weir_status status = weir_state_check_bytes(
            bound->storage, begin, begin + last * stride + touched->row_bytes);
        if (status != WEIR_OK) {
            return WEIR_FAIL(status, "the pass touches row %llu of state %s: %s", (ull)last,
                             program_value(program, operand->root)->name, weir_last_error());
        }
    }
    return WEIR_OK;
}

static void count_pass(weir_program* program, const program_slot* slot) {
    const uint32_t dispatches = program->schedule->report.dispatches;
    weir_counters* counters = &program->counters;
    counters->dispatches += dispatches;
    counters->waits += slot->order.waits;
    counters->waits_elided += dispatches - 1 - slot->order.waits;
    counters->submits++;
    counters->bytes_read += program->fixed_traffic.bytes_read;
    counters->bytes_written += program->fixed_traffic.bytes_written;
    counters->ranges_widened += program->schedule->report.widened_ranges;
    for (size_t i = 0; i < program->schedule->params.count; i++) {
        counters->bytes_read += program->param_traffic[i].bytes_read * slot->params[i];
        counters->bytes_written += program->param_traffic[i].bytes_written * slot->params[i];
    }
}

static weir_status submit(weir_program* program, program_slot* slot, bool attended) {
    weir_residency_commit(program->device, slot->bound, program->schedule->values.count, NULL);
    const device_commit commit = {
        .work = slot->work,
        .params = slot->params,
        .accesses = slot->touched.items,
        .access_count = (uint32_t)slot->touched.count,
        .timing_count = program->timing ? program->schedule->report.dispatches : 0,
        .attended = attended,
    };
    return weir_device_submit(program->device, &commit, &slot->ticket);
}

static weir_status commit(weir_program* program, const uint64_t* params, uint32_t param_count,
                          bool attended, weir_ticket* ticket) {
    program_slot* slot = next_slot(program);
    WEIR_TRY(check_params(program, params, param_count));
    WEIR_TRY(check_free(slot));
    for (uint32_t i = 0; i < program->checked_count; i++) {
        WEIR_TRY(check_value(program, slot, program->checked[i], params));
    }
    WEIR_TRY(program_sync(program, slot));
    WEIR_TRY(check_states(program, slot, params));
    if (param_count > 0) {
        memcpy(slot->params, params, param_count * sizeof params[0]);
    }
    WEIR_TRY(submit(program, slot, attended));
    for (uint32_t i = 0; i < program->checked_count; i++) {
        slot->written[program->checked[i]] = 0;
    }
    program->passes++;
    count_pass(program, slot);
    *ticket = slot->ticket;
    return WEIR_OK;
}

weir_status weir_program_commit(weir_program* program, const uint64_t* params, uint32_t param_count,
                                weir_ticket* ticket) {
    return commit(program, params, param_count, false, ticket);
}

weir_status weir_program_run(weir_program* program, const uint64_t* params, uint32_t param_count) {
    weir_ticket ticket;
    WEIR_TRY(commit(program, params, param_count, true, &ticket));
    program->counters.host_waits++;
    return weir_ticket_wait(ticket, WEIR_WAIT_FOREVER);
}

// The slot that still has the outputs of a pass; NULL when there is none.
static const program_slot* slot_of(const weir_program* program, weir_ticket ticket) {
    if (ticket.sequence == 0 && program->passes > 0) {
        return &program->slots[(program->passes - 1) % program->slot_count];
    }
    for (uint32_t i = 0; i < program->slot_count; i++) {
        const weir_ticket* kept = &program->slots[i].ticket;
        if (ticket.sequence != 0 && kept->device == ticket.device &&
            kept->sequence == ticket.sequence) {
            return &program->slots[i];
        }
    }
    return NULL;
}

static bool is_output(const weir_program* program, weir_value value) {
    const weir_value_info* info = weir_schedule_value(program->schedule, value);
    return info && info->kind == WEIR_VALUE_RESULT && info->is_output;
}

weir_status weir_program_output(const weir_program* program, weir_ticket ticket, weir_value output,
                                weir_view* view) {
    if (!is_output(program, output)) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "value %u is no output of the program", output);
    }
    const program_slot* slot = slot_of(program, ticket);
    if (!slot || slot->ticket.sequence == 0) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "no slot of the program has the outputs of pass %llu",
                         (ull)ticket.sequence);
    }
    if (!weir_ticket_is_complete(slot->ticket)) {
        return WEIR_FAIL(WEIR_BUSY, "the pass is in flight");
    }
    WEIR_TRY(weir_ticket_wait(slot->ticket, 0)); // whether it failed
    const weir_value_info* info = program_value(program, output);
    weir_view found = info->layout;
    found.storage = slot->bound[output].storage;
    found.byte_offset = slot->bound[output].byte_offset;
    if (info->rows != WEIR_PARAM_NONE) {
        found.shape.dims[0] = (int64_t)slot->params[info->rows];
    }
    *view = found;
    return WEIR_OK;
}

weir_status weir_program_read(const weir_program* program, weir_ticket ticket, weir_value output,
                              void* bytes, uint64_t byte_size) {
    weir_view view;
    WEIR_TRY(weir_program_output(program, ticket, output, &view));
    const char* name = program_label(program, output);
    if (byte_size > weir_view_byte_length(&view)) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%llu bytes asked of output %s, the pass made %llu",
                         (ull)byte_size, name, (ull)weir_view_byte_length(&view));
    }
    const void* source = weir_view_contents(&view);
    if (!source && byte_size > 0) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "output %s lies where the host cannot read", name);
    }
    if (byte_size > 0) {
        memcpy(bytes, source, (size_t)byte_size);
    }
    return WEIR_OK;
}

const void* weir_program_contents(const weir_program* program, weir_value output) {
    const program_slot* slot = slot_of(program, (weir_ticket){0});
    return slot && slot->ticket.sequence != 0 && is_output(program, output) &&
                   weir_ticket_is_complete(slot->ticket)
               ? weir_view_contents(&slot->bound[output])
               : NULL;
}

void weir_program_set_timing(weir_program* program, bool timing) {
    program->timing = timing;
}

const weir_counters* weir_program_counters(const weir_program* program) {
    return &program->counters;
}
