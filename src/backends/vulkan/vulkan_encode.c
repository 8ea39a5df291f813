// From dispatches to launches: pipelines, exact ranges of bindings, and what is pushed.
#include <string.h>

#include "backends/vulkan/kernels/vulkan_kernel_parts.h"
#include "backends/vulkan/vulkan_work.h"

#define NARROW_SIZE 64 // invocations of a workgroup of shaders/narrow.comp

// The encoder that kernels call back; it knows the dispatch that is being encoded.
typedef struct work_encoder {
    vulkan_encoder base;
    vulkan_work* work;
    uint32_t dispatch;
    uint32_t fault; // its number, where the dispatch reports one
} work_encoder;

// Bytes of a storage.
typedef struct byte_range {
    uint64_t begin, length;
} byte_range;

// The bytes that an operand declares, from the first to the last; all of the view where bytes with
// several names make the accesses more than the operands.
static byte_range declared_range(const device_dispatch* dispatch, uint32_t operand) {
    const weir_view* view = &dispatch->views[operand];
    const weir_storage* storage = view->storage;
    if (dispatch->access_count == dispatch->operand_count) {
        const weir_range* range = &dispatch->accesses[operand].range;
        const uint64_t end = weir_range_end(range);
        if (range->memory_id == storage->memory_id && range->byte_length > 0 &&
            range->byte_offset >= storage->memory_offset &&
            end - storage->memory_offset <= storage->byte_size) {
            return (byte_range){range->byte_offset - storage->memory_offset,
                                end - range->byte_offset};
        }
    }
    return (byte_range){view->byte_offset, weir_view_byte_span(view)};
}

static byte_range rows_range(const weir_view* view, int64_t first_row, int64_t row_count) {
    weir_view rows = *view;
    rows.byte_offset += (uint64_t)(first_row * view->strides[0]);
    rows.shape.dims[0] = row_count;
    return (byte_range){rows.byte_offset, weir_view_byte_span(&rows)};
}

// Appends the binding of a range, its begin rounded down to the step of offsets. `lead` receives
// the bytes between the binding and the range.
static weir_status add_range(vulkan_work* work, const char* name, const weir_storage* storage,
                             byte_range range, uint64_t* lead) {
    VkDescriptorBufferInfo info = {0};
    const uint64_t length = range.length > 0 ? range.length : 1;
    WEIR_TRY(vulkan_storage_locate(storage, range.begin, length, &info.buffer, &info.offset));
    *lead = info.offset % work->step;
    info.offset -= *lead;
    info.range = length + *lead;
    if (info.range > work->device->probe.binding_bytes_max) {
        return WEIR_FAIL(WEIR_UNSUPPORTED,
                         "%s: a binding of %llu bytes of storage %s; %s binds at most %llu", name,
                         (unsigned long long)info.range, storage->name, work->device->probe.name,
                         (unsigned long long)work->device->probe.binding_bytes_max);
    }
    work->buffers.items[work->buffers.count++] = info;
    return WEIR_OK;
}

// Of the block where `buffer` is VK_NULL_HANDLE.
static void add_own_range(vulkan_work* work, VkBuffer buffer, uint64_t offset, uint64_t length) {
    work->buffers.items[work->buffers.count++] =
        (VkDescriptorBufferInfo){.buffer = buffer, .offset = offset, .range = length};
}

// Tables begin at the step of offsets.
static weir_status add_table(vulkan_work* work, const vulkan_launch* launch, uint64_t* offset) {
    const size_t step = (size_t)work->step / sizeof(float);
    const size_t begin = (work->tables.count + step - 1) / step * step;
    const size_t end = begin + launch->table_floats;
    WEIR_TRY(array_reserve(&work->device->base.allocator, &work->tables, end));
    memset(work->tables.items + work->tables.count, 0,
           (begin - work->tables.count) * sizeof(float));
    memcpy(work->tables.items + begin, launch->table, launch->table_floats * sizeof(float));
    work->tables.count = end;
    *offset = work->tables_offset + begin * sizeof(float);
    return WEIR_OK;
}

static weir_status add_operand(work_encoder* encoder, const vulkan_binding* binding,
                               vulkan_push* push) {
    const device_dispatch* dispatch = &encoder->work->dispatches[encoder->dispatch];
    const weir_view* view = &dispatch->views[binding->operand];
    const byte_range range = binding->row_count > 0
                                 ? rows_range(view, binding->first_row, binding->row_count)
                                 : declared_range(dispatch, binding->operand);
    uint64_t lead = 0;
    WEIR_TRY(add_range(encoder->work, dispatch->name, view->storage, range, &lead));
    const uint64_t first = view->byte_offset + (uint64_t)(binding->first_row * view->strides[0]);
    // Where the declared bytes begin behind the first element this is negative, and the shader
    // adds it modulo 2^32 to what leads behind the begin again.
    const int64_t distance = (int64_t)(first - range.begin + lead);
    push->offset[binding->slot] += (uint32_t)(distance / (int64_t)binding->unit_bytes);
    return WEIR_OK;
}

static weir_status add_bindings(work_encoder* encoder, const vulkan_launch* launch,
                                vulkan_push* push) {
    vulkan_work* work = encoder->work;
    uint64_t table_offset = 0;
    if (launch->table_floats > 0) {
        WEIR_TRY(add_table(work, launch, &table_offset));
    }
    add_own_range(work, VK_NULL_HANDLE, 0, work->tables_offset);
    for (uint32_t i = 0; i < launch->binding_count; i++) {
        const vulkan_binding* binding = &launch->bindings[i];
        if (binding->operand == VULKAN_FAULT) {
            add_own_range(work, work->faults.buffer, encoder->fault * work->step,
                          VULKAN_FAULT_BYTES);
        } else if (binding->operand == VULKAN_TABLE) {
            add_own_range(work, VK_NULL_HANDLE, table_offset, launch->table_floats * sizeof(float));
        } else {
            WEIR_TRY(add_operand(encoder, binding, push));
        }
    }
    return WEIR_OK;
}

static weir_status check_groups(const vulkan_work* work, const char* name,
                                const uint32_t groups[3]) {
    const uint32_t limit = work->device->probe.group_count_max;
    for (int i = 0; i < 3; i++) {
        if (groups[i] > limit) {
            return WEIR_FAIL(WEIR_UNSUPPORTED, "%s: %u workgroups; %s takes %u", name, groups[i],
                             work->device->probe.name, limit);
        }
    }
    return WEIR_OK;
}

// Rows are walked with a stride by the shaders: fewer workgroups than rows will do.
static weir_status add_launch(vulkan_encoder* base, const vulkan_launch* launch) {
    work_encoder* encoder = (work_encoder*)base;
    vulkan_work* work = encoder->work;
    const weir_allocator* allocator = &work->device->base.allocator;
    WEIR_TRY(array_reserve(allocator, &work->launches, work->launches.count + 1));
    WEIR_TRY(
        array_reserve(allocator, &work->buffers, work->buffers.count + launch->binding_count + 1));
    const uint32_t limit = work->device->probe.group_count_max;
    work_launch made = {
        .dispatch = encoder->dispatch,
        .groups = {launch->groups[0], launch->groups[1] < limit ? launch->groups[1] : limit, 1},
        .push_bytes = sizeof launch->push,
        .buffer_begin = work->buffers.count,
        .buffer_count = launch->binding_count + 1};
    WEIR_TRY(check_groups(work, work->dispatches[encoder->dispatch].name, made.groups));
    vulkan_push push = launch->push;
    WEIR_TRY(add_bindings(encoder, launch, &push));
    memcpy(made.push, &push, sizeof push);
    WEIR_TRY(vulkan_layout_find(work->device, made.buffer_count, &made.set_layout, &made.layout));
    WEIR_TRY(vulkan_pipeline_find(work->device, launch, &made.pipeline));
    work->launches.items[work->launches.count++] = made;
    return WEIR_OK;
}

// Finds the pipeline for code of the caller.
static weir_status find_code(vulkan_work* work, const device_dispatch* dispatch,
                             uint32_t binding_count, VkPipeline* pipeline) {
    const weir_status status =
        vulkan_pipeline_find_code(work->device, dispatch->code, binding_count, pipeline);
    return status == WEIR_OK ? status
                             : WEIR_FAIL(status, "%s: %s", dispatch->name, weir_last_error());
}

// Code of the caller binds its operands from 0 on and has no way to be told of a lead.
static weir_status encode_code(vulkan_work* work, uint32_t number) {
    const device_dispatch* dispatch = &work->dispatches[number];
    const weir_kernel_code* code = dispatch->code;
    const weir_allocator* allocator = &work->device->base.allocator;
    WEIR_TRY(array_reserve(allocator, &work->launches, work->launches.count + 1));
    WEIR_TRY(array_reserve(allocator, &work->buffers,
                           work->buffers.count + dispatch->operand_count + 1));
    work_launch made = {.dispatch = number,
                        .push_bytes = (uint32_t)dispatch->constants_size,
                        .buffer_begin = work->buffers.count,
                        .buffer_count = dispatch->operand_count};
    if (dispatch->constants_size > VULKAN_PUSH_BYTES || dispatch->constants_size % 4 != 0) {
        return WEIR_FAIL(WEIR_UNSUPPORTED,
                         "%s: %zu bytes of constants; code takes up to %d, in words of 4",
                         dispatch->name, dispatch->constants_size, VULKAN_PUSH_BYTES);
    }
    memcpy(made.push, dispatch->constants, dispatch->constants_size);
    for (int i = 0; i < 3; i++) {
        made.groups[i] = code->groups[i] > 0 ? code->groups[i] : 1;
    }
    WEIR_TRY(check_groups(work, dispatch->name, made.groups));
    for (uint32_t i = 0; i < dispatch->operand_count; i++) {
        const weir_view* view = &dispatch->views[i];
        const byte_range range = {view->byte_offset, weir_view_byte_span(view)};
        uint64_t lead = 0;
        WEIR_TRY(add_range(work, dispatch->name, view->storage, range, &lead));
        if (lead != 0) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "%s: operand %u begins %llu bytes behind a multiple of %llu, where %s "
                             "can bind it",
                             dispatch->name, i, (unsigned long long)lead,
                             (unsigned long long)work->step, work->device->probe.name);
        }
    }
    WEIR_TRY(vulkan_layout_find(work->device, made.buffer_count, &made.set_layout, &made.layout));
    WEIR_TRY(find_code(work, dispatch, made.buffer_count, &made.pipeline));
    work->launches.items[work->launches.count++] = made;
    return WEIR_OK;
}

static weir_status encode_narrow(work_encoder* encoder) {
    const device_dispatch* dispatch = &encoder->work->dispatches[encoder->dispatch];
    const uint64_t count = (uint64_t)weir_view_element_count(&dispatch->views[0]);
    const uint64_t groups = (count + NARROW_SIZE - 1) / NARROW_SIZE;
    const uint32_t limit = encoder->base.group_count_max;
    vulkan_launch launch = new_launch(dispatch, VULKAN_SHADER_narrow, 0);
    if (count > UINT32_MAX) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "%s: %llu values; shaders count to 2^32 - 1",
                         dispatch->name, (unsigned long long)count);
    }
    launch.push.rows = (uint32_t)count;
    bind_operand(&launch, dispatch, 0, ELEMENT_BYTES, false);
    bind_operand(&launch, dispatch, 1, WORD_BYTES, true);
    bind_special(&launch, VULKAN_FAULT, true);
    launch.groups[0] = groups < limit ? (uint32_t)groups : limit; // each goes on with a stride
    return encoder->base.launch(&encoder->base, &launch);
}

weir_status vulkan_work_encode(vulkan_work* work) {
    work_encoder encoder = {
        .base = {.binding_bytes_max = work->device->probe.binding_bytes_max,
                 .group_count_max = work->device->probe.group_count_max,
                 .shared_bytes_max = work->device->probe.shared_bytes_max,
                 .tuning = &work->device->tuning,
                 .allocator = &work->device->base.allocator,
                 .run_bytes_max = vulkan_storage_run_bytes,
                 .launch = add_launch},
        .work = work,
    };
    for (uint32_t i = 0; i < work->count; i++) {
        const device_dispatch* dispatch = &work->dispatches[i];
        encoder.dispatch = i;
        if (dispatch->kind == DEVICE_NARROW) {
            WEIR_TRY(encode_narrow(&encoder));
            encoder.fault++;
        } else if (dispatch->kind != DEVICE_KERNEL) {
            WEIR_TRY(vulkan_transfer_encode(work, i));
        } else if (dispatch->kernel) {
            WEIR_TRY(vulkan_encode(&encoder.base, dispatch));
            encoder.fault += dispatch->kernel->op == WEIR_OP_GET_ROWS ? 1 : 0;
        } else {
            WEIR_TRY(encode_code(work, i));
        }
    }
    return WEIR_OK;
}
