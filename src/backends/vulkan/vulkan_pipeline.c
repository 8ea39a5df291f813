#include <string.h>

#include "backends/vulkan/vulkan_cache.h"
#include "backends/vulkan/vulkan_code.h"
#include "backends/vulkan/vulkan_device.h"
#include "base/log_line.h"

static weir_status make_layouts(vulkan_device* device, uint32_t count) {
    const vulkan_api* api = &device->instance.api;
    VkDescriptorSetLayoutBinding bindings[VULKAN_BINDINGS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        bindings[i] =
            (VkDescriptorSetLayoutBinding){.binding = i,
                                           .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           .descriptorCount = 1,
                                           .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    }
    const VkDescriptorSetLayoutCreateInfo set = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = count,
        .pBindings = bindings};
    if (!device->set_layouts[count]) {
        VULKAN_TRY("vkCreateDescriptorSetLayout",
                   api->CreateDescriptorSetLayout(device->handle, &set, NULL,
                                                  &device->set_layouts[count]));
    }
    const VkPushConstantRange push = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
                                      .size = VULKAN_PUSH_BYTES};
    const VkPipelineLayoutCreateInfo layout = {.sType =
                                                   VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                               .setLayoutCount = 1,
                                               .pSetLayouts = &device->set_layouts[count],
                                               .pushConstantRangeCount = 1,
                                               .pPushConstantRanges = &push};
    return vulkan_status(
        api->CreatePipelineLayout(device->handle, &layout, NULL, &device->pipeline_layouts[count]),
        "vkCreatePipelineLayout");
}

static weir_status find_layouts(vulkan_device* device, uint32_t count) {
    if (count > VULKAN_BINDINGS_MAX || count > device->probe.bindings_max) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: a kernel with %u operands; %s binds at most %u",
                         count, device->probe.name,
                         device->probe.bindings_max < VULKAN_BINDINGS_MAX
                             ? device->probe.bindings_max
                             : VULKAN_BINDINGS_MAX);
    }
    return device->pipeline_layouts[count] ? WEIR_OK : make_layouts(device, count);
}

weir_status vulkan_layout_find(vulkan_device* device, uint32_t binding_count,
                               VkDescriptorSetLayout* set_layout,
                               VkPipelineLayout* pipeline_layout) {
    pthread_mutex_lock(&device->pipeline_lock);
    const weir_status status = find_layouts(device, binding_count);
    if (status == WEIR_OK) {
        *set_layout = device->set_layouts[binding_count];
        *pipeline_layout = device->pipeline_layouts[binding_count];
    }
    pthread_mutex_unlock(&device->pipeline_lock);
    return status;
}

// What a pipeline is made of.
typedef struct pipeline_source {
    const uint32_t* words;
    size_t byte_size;
    const char* entry;
    uint32_t binding_count;
    const uint32_t* constants;
    uint32_t constant_count;
} pipeline_source;

static weir_status make_pipeline(vulkan_device* device, const pipeline_source* source,
                                 VkPipeline* pipeline) {
    const vulkan_api* api = &device->instance.api;
    VkSpecializationMapEntry entries[VULKAN_CONSTANTS];
    for (uint32_t i = 0; i < source->constant_count; i++) {
        entries[i] = (VkSpecializationMapEntry){
            .constantID = i, .offset = i * (uint32_t)sizeof(uint32_t), .size = sizeof(uint32_t)};
    }
    const VkSpecializationInfo constants = {.mapEntryCount = source->constant_count,
                                            .pMapEntries = entries,
                                            .dataSize = source->constant_count * sizeof(uint32_t),
                                            .pData = source->constants};
    const VkShaderModuleCreateInfo code = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                           .codeSize = source->byte_size,
                                           .pCode = source->words};
    VkShaderModule shader = VK_NULL_HANDLE;
    WEIR_TRY(find_layouts(device, source->binding_count));
    VULKAN_TRY("vkCreateShaderModule",
               api->CreateShaderModule(device->handle, &code, NULL, &shader));
    const VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = shader,
                  .pName = source->entry,
                  .pSpecializationInfo = source->constant_count > 0 ? &constants : NULL},
        .layout = device->pipeline_layouts[source->binding_count]};
    const VkResult result =
        api->CreateComputePipelines(device->handle, device->cache, 1, &info, NULL, pipeline);
    api->DestroyShaderModule(device->handle, shader, NULL);
    device->cache_is_behind = true;
    return vulkan_status(result, "vkCreateComputePipelines");
}

static bool is_same(const vulkan_pipeline* pipeline, const vulkan_launch* launch) {
    return pipeline->shader == launch->shader &&
           memcmp(pipeline->constants, launch->constants, sizeof launch->constants) == 0;
}

static weir_status find_pipeline(vulkan_device* device, const vulkan_launch* launch,
                                 VkPipeline* pipeline) {
    for (size_t i = 0; i < device->pipelines.count; i++) {
        if (is_same(&device->pipelines.items[i], launch)) {
            *pipeline = device->pipelines.items[i].handle;
            return WEIR_OK;
        }
    }
    const vulkan_shader_code* code = &vulkan_shader_codes[launch->shader];
    const pipeline_source source = {.words = code->words,
                                    .byte_size = code->byte_size,
                                    .entry = "main",
                                    .binding_count = code->binding_count,
                                    .constants = launch->constants,
                                    .constant_count = VULKAN_CONSTANTS};
    WEIR_TRY(
        array_reserve(&device->base.allocator, &device->pipelines, device->pipelines.count + 1));
    vulkan_pipeline* made = &device->pipelines.items[device->pipelines.count];
    *made = (vulkan_pipeline){.shader = launch->shader, .binding_count = code->binding_count};
    memcpy(made->constants, launch->constants, sizeof made->constants);
    WEIR_TRY(make_pipeline(device, &source, &made->handle));
    device->pipelines.count++;
    *pipeline = made->handle;
    return WEIR_OK;
}

weir_status vulkan_pipeline_find(vulkan_device* device, const vulkan_launch* launch,
                                 VkPipeline* pipeline) {
    pthread_mutex_lock(&device->pipeline_lock);
    const weir_status status = find_pipeline(device, launch, pipeline);
    pthread_mutex_unlock(&device->pipeline_lock);
    return status;
}

static bool is_code(const vulkan_pipeline* pipeline, const pipeline_source* source) {
    return pipeline->code && pipeline->code_bytes == source->byte_size &&
           pipeline->binding_count == source->binding_count &&
           strcmp(pipeline->entry, source->entry) == 0 &&
           memcmp(pipeline->code, source->words, source->byte_size) == 0;
}

static void free_code(const weir_allocator* allocator, vulkan_pipeline* pipeline) {
    const size_t entry_bytes = pipeline->entry ? strlen(pipeline->entry) + 1 : 0;
    weir_free(allocator, pipeline->code, pipeline->code_bytes, _Alignof(max_align_t));
    weir_free(allocator, pipeline->entry, entry_bytes, _Alignof(max_align_t));
}

static weir_status copy_code(const weir_allocator* allocator, const pipeline_source* source,
                             vulkan_pipeline* pipeline) {
    void* memory = NULL;
    WEIR_TRY(weir_alloc(allocator, source->byte_size, _Alignof(max_align_t), &memory));
    pipeline->code = memory;
    pipeline->code_bytes = source->byte_size;
    memcpy(pipeline->code, source->words, source->byte_size);
    const size_t entry_bytes = strlen(source->entry) + 1;
    WEIR_TRY(weir_alloc(allocator, entry_bytes, _Alignof(max_align_t), &memory));
    pipeline->entry = memory;
    memcpy(pipeline->entry, source->entry, entry_bytes);
    return WEIR_OK;
}

static weir_status find_code(vulkan_device* device, const pipeline_source* source,
                             VkPipeline* pipeline) {
    const weir_allocator* allocator = &device->base.allocator;
    for (size_t i = 0; i < device->pipelines.count; i++) {
        if (is_code(&device->pipelines.items[i], source)) {
            *pipeline = device->pipelines.items[i].handle;
            return WEIR_OK;
        }
    }
    WEIR_TRY(
        vulkan_code_check(source->words, source->byte_size, source->entry, source->binding_count));
    WEIR_TRY(array_reserve(allocator, &device->pipelines, device->pipelines.count + 1));
    vulkan_pipeline made = {.shader = VULKAN_SHADER_COUNT, .binding_count = source->binding_count};
    weir_status status = copy_code(allocator, source, &made);
    if (status == WEIR_OK) {
        status = make_pipeline(device, source, &made.handle);
    }
    if (status != WEIR_OK) {
        free_code(allocator, &made);
        return status;
    }
    device->pipelines.items[device->pipelines.count++] = made;
    *pipeline = made.handle;
    return WEIR_OK;
}

weir_status vulkan_pipeline_find_code(vulkan_device* device, const weir_kernel_code* code,
                                      uint32_t binding_count, VkPipeline* pipeline) {
    const pipeline_source source = {.words = code->words,
                                    .byte_size = code->byte_size,
                                    .entry = code->entry ? code->entry : "main",
                                    .binding_count = binding_count};
    pthread_mutex_lock(&device->pipeline_lock);
    const weir_status status = find_code(device, &source, pipeline);
    pthread_mutex_unlock(&device->pipeline_lock);
    return status;
}

static weir_status keep_path(vulkan_device* device, const char* path) {
    const size_t byte_size = strlen(path) + 1;
    void* memory = NULL;
    WEIR_TRY(weir_alloc(&device->base.allocator, byte_size, _Alignof(max_align_t), &memory));
    device->cache_path = memory;
    memcpy(device->cache_path, path, byte_size);
    return WEIR_OK;
}

static void free_path(vulkan_device* device) {
    const size_t byte_size = device->cache_path ? strlen(device->cache_path) + 1 : 0;
    weir_free(&device->base.allocator, device->cache_path, byte_size, _Alignof(max_align_t));
    device->cache_path = NULL;
}

static weir_status open_cache(vulkan_device* device) {
    const vulkan_api* api = &device->instance.api;
    void* data = NULL;
    size_t byte_size = 0;
    if (device->cache_path) {
        vulkan_cache_read(&device->base.allocator, device->cache_path, &device->probe, &data,
                          &byte_size);
    }
    const VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                            .initialDataSize = byte_size,
                                            .pInitialData = data};
    device->cache_is_behind = !data;
    const VkResult result = api->CreatePipelineCache(device->handle, &info, NULL, &device->cache);
    weir_free(&device->base.allocator, data, byte_size, _Alignof(max_align_t));
    return vulkan_status(result, "vkCreatePipelineCache");
}

weir_status vulkan_pipelines_open(vulkan_device* device, const char* cache_path) {
    if (pthread_mutex_init(&device->pipeline_lock, NULL) != 0) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot make the lock of pipelines");
    }
    weir_status status = cache_path ? keep_path(device, cache_path) : WEIR_OK;
    if (status == WEIR_OK) {
        status = open_cache(device);
    }
    if (status != WEIR_OK) {
        free_path(device);
        pthread_mutex_destroy(&device->pipeline_lock);
    }
    return status;
}

static weir_status save_cache(vulkan_device* device) {
    const vulkan_api* api = &device->instance.api;
    const weir_allocator* allocator = &device->base.allocator;
    size_t byte_size = 0;
    void* data = NULL;
    VULKAN_TRY("vkGetPipelineCacheData",
               api->GetPipelineCacheData(device->handle, device->cache, &byte_size, NULL));
    const size_t room = byte_size;
    WEIR_TRY(weir_alloc(allocator, room, _Alignof(max_align_t), &data));
    weir_status status =
        vulkan_status(api->GetPipelineCacheData(device->handle, device->cache, &byte_size, data),
                      "vkGetPipelineCacheData");
    if (status == WEIR_OK) {
        status = vulkan_cache_write(device->cache_path, &device->probe, data, byte_size);
    }
    weir_free(allocator, data, room, _Alignof(max_align_t));
    return status;
}

// A run that cannot keep its pipelines is as good as any other.
static void close_cache(vulkan_device* device) {
    if (device->cache_path && device->cache_is_behind && device->pipelines.count > 0 &&
        save_cache(device) != WEIR_OK) {
        log_line(&device->base.log, WEIR_LOG_WARNING, "vulkan: the pipelines are not kept: %s",
                 weir_last_error());
    }
    device->instance.api.DestroyPipelineCache(device->handle, device->cache, NULL);
    free_path(device);
}

void vulkan_pipelines_close(vulkan_device* device) {
    const vulkan_api* api = &device->instance.api;
    if (!device->cache) {
        return;
    }
    close_cache(device);
    for (size_t i = 0; i < device->pipelines.count; i++) {
        api->DestroyPipeline(device->handle, device->pipelines.items[i].handle, NULL);
        free_code(&device->base.allocator, &device->pipelines.items[i]);
    }
    array_free(&device->base.allocator, &device->pipelines);
    for (uint32_t i = 0; i <= VULKAN_BINDINGS_MAX; i++) {
        if (device->pipeline_layouts[i]) {
            api->DestroyPipelineLayout(device->handle, device->pipeline_layouts[i], NULL);
        }
        if (device->set_layouts[i]) {
            api->DestroyDescriptorSetLayout(device->handle, device->set_layouts[i], NULL);
        }
    }
    pthread_mutex_destroy(&device->pipeline_lock);
}
