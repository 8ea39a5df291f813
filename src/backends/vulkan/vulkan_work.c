#include "backends/vulkan/vulkan_work.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"

#define STEP_MIN 16 // bytes; what a binding may hold is aligned to it

static_assert(offsetof(vulkan_work, base) == 0, "the base comes first");

// Undoes whatever was built.
static void clear(vulkan_work* work) {
    vulkan_device* device = work->device;
    const vulkan_api* api = &device->instance.api;
    const weir_allocator* allocator = &device->base.allocator;
    if (work->fence) {
        api->DestroyFence(device->handle, work->fence, NULL);
    }
    if (work->queries) {
        api->DestroyQueryPool(device->handle, work->queries, NULL);
    }
    if (work->pool) {
        api->DestroyCommandPool(device->handle, work->pool, NULL);
    }
    if (work->descriptors) {
        api->DestroyDescriptorPool(device->handle, work->descriptors, NULL);
    }
    vulkan_memory_destroy(device, &work->block);
    vulkan_memory_destroy(device, &work->faults);
    vulkan_memory_destroy(device, &work->staging);
    vulkan_groups_free(allocator, &work->groups);
    array_free(allocator, &work->launches);
    array_free(allocator, &work->buffers);
    array_free(allocator, &work->copies);
    array_free(allocator, &work->transfers);
    array_free(allocator, &work->staged);
    array_free(allocator, &work->tables);
    *work = (vulkan_work){
        .base = work->base, .device = device, .dispatches = work->dispatches, .count = work->count};
}

static void destroy(device_work* base) {
    vulkan_work* work = (vulkan_work*)base;
    vulkan_queue_forget(work->device, work);
    clear(work);
    object_free(&work->device->base.allocator, work);
}

// Tells whether the shader of a dispatch has something to report: a wrong index, or a count.
static bool reports(const device_dispatch* dispatch) {
    return dispatch->kind == DEVICE_NARROW ||
           (dispatch->kernel && dispatch->kernel->op == WEIR_OP_GET_ROWS);
}

static void count_param(vulkan_work* work, weir_param param) {
    if (param != WEIR_PARAM_NONE && param >= work->param_count) {
        work->param_count = param + 1;
    }
}

// Finds which parameters the shaders read, and how many faults there can be.
static void count_params(vulkan_work* work) {
    for (uint32_t i = 0; i < work->count; i++) {
        const device_dispatch* dispatch = &work->dispatches[i];
        const weir_op_constants* constants = dispatch->constants;
        for (uint32_t k = 0; dispatch->rows && k < dispatch->operand_count; k++) {
            count_param(work, dispatch->rows[k]);
        }
        work->fault_count += reports(dispatch) ? 1 : 0;
        if (!dispatch->kernel) {
            continue;
        }
        if (dispatch->kernel->op == WEIR_OP_ROPE) {
            count_param(work, constants->rope.position);
        } else if (dispatch->kernel->op == WEIR_OP_ROPE_SET_ROWS) {
            count_param(work, constants->rope_rows.rope.position);
            count_param(work, constants->rope_rows.position);
        } else if (dispatch->kernel->op == WEIR_OP_ATTENTION) {
            count_param(work, constants->attention.position);
        } else if (dispatch->kernel->op == WEIR_OP_SET_ROWS) {
            count_param(work, constants->position);
        } else if (dispatch->kernel->op == WEIR_OP_MATMUL_SET_ROWS ||
                   dispatch->kernel->op == WEIR_OP_MATMUL_ROPE) {
            const weir_projection_desc* projection = &constants->projection;
            count_param(work, projection->position);
            count_param(work, projection->turns ? projection->rope.position : WEIR_PARAM_NONE);
        }
    }
}

static weir_status lay_out(vulkan_work* work) {
    const uint64_t alignment = work->device->probe.offset_alignment;
    uint64_t params_bytes = 0;
    work->param_count = work->fault_count = 0;
    work->step = alignment > STEP_MIN ? alignment : STEP_MIN;
    count_params(work);
    if (!align_u64(((uint64_t)work->param_count + 1) * sizeof(uint32_t), work->step,
                   &params_bytes)) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%u parameters", work->param_count);
    }
    work->tables_offset = params_bytes;
    return WEIR_OK;
}

// Memory that the host maps; what is there is kept where its size is right.
static weir_status fit_memory(vulkan_work* work, vulkan_place place, uint64_t byte_size,
                              vulkan_memory* memory) {
    if (memory->buffer && memory->byte_size == byte_size) {
        return WEIR_OK;
    }
    vulkan_memory_destroy(work->device, memory);
    return vulkan_memory_create(work->device, place, 0, byte_size, memory);
}

// The faults are bound while dispatches are encoded: they come before the block.
static weir_status make_faults(vulkan_work* work) {
    const uint64_t byte_size = work->fault_count * work->step;
    if (byte_size == 0) {
        return WEIR_OK;
    }
    WEIR_TRY(fit_memory(work, VULKAN_PLACE_HOST, byte_size, &work->faults));
    memset(work->faults.mapped, 0, (size_t)byte_size);
    return WEIR_OK;
}

static weir_status make_block(vulkan_work* work) {
    const uint64_t table_bytes = work->tables.count * sizeof(float);
    WEIR_TRY(
        fit_memory(work, VULKAN_PLACE_SHARED, work->tables_offset + table_bytes, &work->block));
    uint8_t* bytes = work->block.mapped;
    memset(bytes, 0, (size_t)work->tables_offset);
    if (table_bytes > 0) {
        memcpy(bytes + work->tables_offset, work->tables.items, (size_t)table_bytes);
    }
    if (work->staged.count > 0) {
        WEIR_TRY(fit_memory(work, VULKAN_PLACE_HOST, work->staged.count, &work->staging));
        memcpy(work->staging.mapped, work->staged.items, work->staged.count);
    }
    return WEIR_OK;
}

static weir_status make_pool(vulkan_work* work) {
    const vulkan_api* api = &work->device->instance.api;
    VkDevice device = work->device->handle;
    if (work->launches.count == 0) {
        return WEIR_OK;
    }
    if (work->descriptors && work->launches.count <= work->sets_max &&
        work->buffers.count <= work->buffers_max) {
        return vulkan_status(api->ResetDescriptorPool(device, work->descriptors, 0),
                             "vkResetDescriptorPool");
    }
    const VkDescriptorPoolSize size = {.type = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                       .descriptorCount = (uint32_t)work->buffers.count + 1};
    const VkDescriptorPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                             .maxSets = (uint32_t)work->launches.count,
                                             .poolSizeCount = 1,
                                             .pPoolSizes = &size};
    if (work->descriptors) {
        api->DestroyDescriptorPool(device, work->descriptors, NULL);
        work->descriptors = VK_NULL_HANDLE;
    }
    work->sets_max = work->launches.count;
    work->buffers_max = work->buffers.count;
    return vulkan_status(api->CreateDescriptorPool(device, &info, NULL, &work->descriptors),
                         "vkCreateDescriptorPool");
}

static weir_status write_set(vulkan_work* work, work_launch* launch) {
    const vulkan_api* api = &work->device->instance.api;
    const VkDescriptorSetAllocateInfo info = {.sType =
                                                  VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                              .descriptorPool = work->descriptors,
                                              .descriptorSetCount = 1,
                                              .pSetLayouts = &launch->set_layout};
    VkWriteDescriptorSet writes[VULKAN_BINDINGS_MAX];
    VULKAN_TRY("vkAllocateDescriptorSets",
               api->AllocateDescriptorSets(work->device->handle, &info, &launch->set));
    for (uint32_t i = 0; i < launch->buffer_count; i++) {
        VkDescriptorBufferInfo* buffer = &work->buffers.items[launch->buffer_begin + i];
        buffer->buffer = buffer->buffer ? buffer->buffer : work->block.buffer;
        writes[i] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                           .dstSet = launch->set,
                                           .dstBinding = i,
                                           .descriptorCount = 1,
                                           .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           .pBufferInfo = buffer};
    }
    api->UpdateDescriptorSets(work->device->handle, launch->buffer_count, writes, 0, NULL);
    return WEIR_OK;
}

static weir_status make_objects(vulkan_work* work) {
    const vulkan_api* api = &work->device->instance.api;
    VkDevice device = work->device->handle;
    const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                          .queueFamilyIndex = work->device->probe.queue_family};
    const VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    WEIR_TRY(make_block(work));
    WEIR_TRY(make_pool(work));
    for (size_t i = 0; i < work->launches.count; i++) {
        WEIR_TRY(write_set(work, &work->launches.items[i]));
    }
    if (work->pool) {
        VULKAN_TRY("vkResetCommandPool", api->ResetCommandPool(device, work->pool, 0));
    } else {
        VULKAN_TRY("vkCreateCommandPool", api->CreateCommandPool(device, &pool, NULL, &work->pool));
        VULKAN_TRY("vkCreateFence", api->CreateFence(device, &fence, NULL, &work->fence));
    }
    work->timed_recorded = false;
    return vulkan_work_record(work, false, &work->commands);
}

// Everything that a pass depends on is known to be well before the pass is submitted; what is wrong
// with it ends it like a kernel that fails.
static weir_status check_pass(const vulkan_work* work, const uint64_t* params,
                              const device_dispatch** failed) {
    for (uint32_t i = 0; i < work->count; i++) {
        *failed = &work->dispatches[i];
        if (work->dispatches[i].kernel) {
            WEIR_TRY(vulkan_check_params(&work->dispatches[i], params));
        }
    }
    return WEIR_OK;
}

static weir_status write_params(vulkan_work* work, const uint64_t* params) {
    uint32_t* words = work->block.mapped;
    for (uint32_t i = 0; i < work->param_count; i++) {
        if (params[i] > UINT32_MAX) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE, "parameter %u is %llu; shaders count to 2^32 - 1",
                             i, (unsigned long long)params[i]);
        }
        words[i] = (uint32_t)params[i];
    }
    if (work->fault_count > 0) {
        memset(work->faults.mapped, 0, (size_t)(work->fault_count * work->step));
    }
    return WEIR_OK;
}

static void move_bytes(const vulkan_work* work, bool download) {
    for (size_t i = 0; i < work->transfers.count; i++) {
        const work_transfer* transfer = &work->transfers.items[i];
        uint8_t* staged = (uint8_t*)work->staging.mapped + transfer->staging_offset;
        if (transfer->download == download) {
            memcpy(download ? transfer->host : staged, download ? staged : transfer->host,
                   (size_t)transfer->byte_count);
        }
    }
}

static void fail_pass(const vulkan_work* work, uint64_t sequence, weir_status status,
                      const device_dispatch* dispatch) {
    char message[512];
    snprintf(message, sizeof message, "%.100s: %.400s", dispatch->name, weir_last_error());
    weir_device_complete(&work->device->base, sequence, status, message);
}

static weir_status submit(device_work* base, const device_pass_desc* pass) {
    vulkan_work* work = (vulkan_work*)base;
    const vulkan_api* api = &work->device->instance.api;
    const device_dispatch* failed = NULL;
    const weir_status status = check_pass(work, pass->params, &failed);
    if (status != WEIR_OK) {
        fail_pass(work, pass->sequence, status, failed);
        return WEIR_OK;
    }
    WEIR_TRY(write_params(work, pass->params));
    move_bytes(work, false);
    if (pass->timings && !work->timed_recorded) {
        WEIR_TRY(vulkan_work_record(work, true, &work->timed));
        work->timed_recorded = true;
    }
    work->timings = pass->timings;
    VULKAN_TRY("vkResetFences", api->ResetFences(work->device->handle, 1, &work->fence));
    return vulkan_queue_submit(work->device, work, pass->timings ? work->timed : work->commands,
                               work->fence, pass->after_count > 0, pass->sequence);
}

static weir_status find_groups(vulkan_work* work) {
    return work->groups.tracker ? vulkan_groups_update(work->dispatches, &work->groups)
                                : vulkan_groups_make(&work->device->base.allocator,
                                                     work->dispatches, work->count, &work->groups);
}

// What there is from before is used again where it fits.
static weir_status build(vulkan_work* work) {
    work->launches.count = work->buffers.count = work->copies.count = 0;
    work->transfers.count = work->staged.count = work->tables.count = 0;
    WEIR_TRY(lay_out(work));
    WEIR_TRY(make_faults(work));
    WEIR_TRY(vulkan_work_encode(work));
    WEIR_TRY(find_groups(work));
    return make_objects(work);
}

// Descriptors that recorded commands use cannot change: they are written and recorded anew, in the
// memory that they have. After a failure everything is made from nothing by the next call.
static weir_status rebind(device_work* base) {
    vulkan_work* work = (vulkan_work*)base;
    vulkan_queue_forget(work->device, work);
    const weir_status status = build(work);
    if (status != WEIR_OK) {
        clear(work);
    }
    return status;
}

static const work_vtable vulkan_work_vtable = {
    .submit = submit,
    .rebind = rebind,
    .destroy = destroy,
};

weir_status vulkan_work_create(weir_device* device, const device_dispatch* dispatches,
                               uint32_t count, device_work** work) {
    vulkan_work* made = NULL;
    WEIR_TRY(object_new(&device->allocator, &made));
    made->base.vtable = &vulkan_work_vtable;
    made->device = vulkan_device_of(device);
    made->dispatches = dispatches;
    made->count = count;
    const weir_status status = build(made);
    if (status != WEIR_OK) {
        destroy(&made->base);
        return status;
    }
    *work = &made->base;
    return WEIR_OK;
}

VkFence vulkan_work_fence(const vulkan_work* work) {
    return work->fence;
}

static weir_status check_index(const device_dispatch* dispatch, const uint32_t words[2]) {
    int32_t index = 0;
    memcpy(&index, &words[1], sizeof index);
    return words[0] == 0
               ? WEIR_OK
               : WEIR_FAIL(WEIR_OUT_OF_RANGE, "get_rows: index %d (row %u) is outside [0, %lld)",
                           (int)index, words[0] - 1, (long long)dispatch->views[0].shape.dims[0]);
}

// Takes in what the shaders of a finished pass have counted, and finds the first fault.
static weir_status read_reports(const vulkan_work* work, const device_dispatch** failed) {
    const uint8_t* bytes = work->faults.mapped;
    weir_status status = WEIR_OK;
    for (uint32_t i = 0; i < work->count; i++) {
        const device_dispatch* dispatch = &work->dispatches[i];
        uint32_t words[2];
        if (!reports(dispatch)) {
            continue;
        }
        memcpy(words, bytes, sizeof words);
        bytes += work->step;
        if (dispatch->kind == DEVICE_NARROW) {
            const dispatch_narrow* narrow = dispatch->constants;
            atomic_fetch_add_explicit(narrow->saturated, words[0], memory_order_relaxed);
        } else if (status == WEIR_OK) {
            status = check_index(dispatch, words);
            *failed = dispatch;
        }
    }
    return status;
}

void vulkan_work_finish(vulkan_work* work, uint64_t sequence) {
    const device_dispatch* failed = NULL;
    const weir_status status = read_reports(work, &failed);
    if (work->timings) {
        vulkan_work_read_times(work);
    }
    move_bytes(work, true);
    if (status != WEIR_OK) {
        fail_pass(work, sequence, status, failed);
    } else {
        weir_device_complete(&work->device->base, sequence, WEIR_OK, NULL);
    }
}
