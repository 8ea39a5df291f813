#include "backends/vulkan/vulkan_oracle.h"

#include <stdio.h>
#include <string.h>

#include "backends/vulkan/vulkan_ranges.h"
#include "backends/vulkan/vulkan_target.h"

// Of shaders/shadow.comp
#define READS 20
#define WRITES 10
#define SHADOW_BINDINGS (READS + WRITES)

#define LAYER "VK_LAYER_KHRONOS_validation"

// What the layer is shown. As dispatches bind their operands it sees every RAW and WAR, and the
// masks as they are. Where writes are bound as reads too, every WAW looks like a RAW: what a
// barrier makes visible to writes must then be taken for visible to reads.
typedef enum oracle_look { LOOK_PLAIN = 0, LOOK_SHADOW = 1, LOOKS } oracle_look;

typedef struct shadow_handle {
    VkDescriptorSet set;
} shadow_handle;

struct vulkan_oracle {
    weir_allocator allocator;
    vulkan_device* device;
    VkDebugUtilsMessengerEXT messenger;
    PFN_vkDestroyDebugUtilsMessengerEXT destroy_messenger;
    uint64_t step; // bytes of a class: what bindings are aligned to
    VkPipeline pipeline;
    VkPipelineLayout layout;
    VkDescriptorSetLayout set_layout;
    VkCommandPool pool;
    VkCommandBuffer commands;
    vulkan_memory memory;
    VkDescriptorPool descriptors;
    uint32_t capacity; // sets that the pool holds
    struct {
        shadow_handle* items; // of each dispatch that for LOOK_PLAIN, then that for LOOK_SHADOW
        size_t count, capacity;
    } sets;
    struct {
        weir_access* items;
        size_t count, capacity;
    } accesses;
    uint32_t hazards;    // reported since it was set to 0
    char hazard[512];    // the first of them
    char complaint[512]; // what the layer said besides hazards; "" for nothing
};

static VKAPI_ATTR VkBool32 VKAPI_CALL hear(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                           VkDebugUtilsMessageTypeFlagsEXT kinds,
                                           const VkDebugUtilsMessengerCallbackDataEXT* data,
                                           void* context) {
    vulkan_oracle* oracle = context;
    const char* name = data->pMessageIdName ? data->pMessageIdName : "";
    const char* text = data->pMessage ? data->pMessage : "";
    (void)severity;
    (void)kinds;
    if (strncmp(name, "SYNC-HAZARD", strlen("SYNC-HAZARD")) == 0) {
        if (oracle->hazards++ == 0) {
            snprintf(oracle->hazard, sizeof oracle->hazard, "%s", text);
        }
    } else if (oracle->complaint[0] == '\0') {
        snprintf(oracle->complaint, sizeof oracle->complaint, "%s", text);
    }
    return VK_FALSE;
}

static weir_status listen(vulkan_oracle* oracle) {
    const vulkan_instance* instance = &oracle->device->instance;
    const PFN_vkCreateDebugUtilsMessengerEXT create =
        (PFN_vkCreateDebugUtilsMessengerEXT)instance->api.GetInstanceProcAddr(
            instance->handle, "vkCreateDebugUtilsMessengerEXT");
    oracle->destroy_messenger =
        (PFN_vkDestroyDebugUtilsMessengerEXT)instance->api.GetInstanceProcAddr(
            instance->handle, "vkDestroyDebugUtilsMessengerEXT");
    if (!create || !oracle->destroy_messenger) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: the loader has no VK_EXT_debug_utils");
    }
    const VkDebugUtilsMessengerCreateInfoEXT info = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT |
                           VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
        .pfnUserCallback = hear,
        .pUserData = oracle};
    return vulkan_status(create(instance->handle, &info, NULL, &oracle->messenger),
                         "vkCreateDebugUtilsMessengerEXT");
}

static weir_status open_device(vulkan_oracle* oracle, const char* name) {
    static const char* const layers[] = {LAYER};
    static const VkValidationFeatureEnableEXT enabled[] = {
        VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT};
    static const VkValidationFeaturesEXT features = {.sType =
                                                         VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
                                                     .enabledValidationFeatureCount = 1,
                                                     .pEnabledValidationFeatures = enabled};
    const weir_device_desc desc = {.name = name, .allocator = oracle->allocator};
    const vulkan_layers watched = {.names = layers, .count = 1, .next = &features};
    WEIR_TRY(vulkan_device_open(&desc, &weir_vulkan_target, &watched, &oracle->device));
    const uint64_t alignment = oracle->device->probe.offset_alignment;
    oracle->step = alignment > 16 ? alignment : 16;
    return listen(oracle);
}

static weir_status make_objects(vulkan_oracle* oracle) {
    const vulkan_api* api = &oracle->device->instance.api;
    VkDevice device = oracle->device->handle;
    const vulkan_launch launch = {.shader = VULKAN_SHADER_shadow};
    WEIR_TRY(
        vulkan_layout_find(oracle->device, SHADOW_BINDINGS, &oracle->set_layout, &oracle->layout));
    WEIR_TRY(vulkan_pipeline_find(oracle->device, &launch, &oracle->pipeline));
    const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                          .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                          .queueFamilyIndex = oracle->device->probe.queue_family};
    VULKAN_TRY("vkCreateCommandPool", api->CreateCommandPool(device, &pool, NULL, &oracle->pool));
    const VkCommandBufferAllocateInfo buffers = {.sType =
                                                     VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                                 .commandPool = oracle->pool,
                                                 .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                                 .commandBufferCount = 1};
    return vulkan_status(api->AllocateCommandBuffers(device, &buffers, &oracle->commands),
                         "vkAllocateCommandBuffers");
}

static void drop_pool(vulkan_oracle* oracle) {
    if (oracle->descriptors) {
        oracle->device->instance.api.DestroyDescriptorPool(oracle->device->handle,
                                                           oracle->descriptors, NULL);
    }
    oracle->descriptors = VK_NULL_HANDLE;
}

// Sets for so many dispatches; those of the program before are forgotten.
static weir_status take_sets(vulkan_oracle* oracle, uint32_t count) {
    const vulkan_api* api = &oracle->device->instance.api;
    VkDevice device = oracle->device->handle;
    WEIR_TRY(array_reserve(&oracle->allocator, &oracle->sets, count));
    if (count > oracle->capacity || !oracle->descriptors) {
        const uint32_t capacity = count > 2 * oracle->capacity ? count : 2 * oracle->capacity;
        const VkDescriptorPoolSize size = {.type = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           .descriptorCount = capacity * SHADOW_BINDINGS};
        const VkDescriptorPoolCreateInfo info = {.sType =
                                                     VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                                 .maxSets = capacity,
                                                 .poolSizeCount = 1,
                                                 .pPoolSizes = &size};
        drop_pool(oracle);
        VULKAN_TRY("vkCreateDescriptorPool",
                   api->CreateDescriptorPool(device, &info, NULL, &oracle->descriptors));
        oracle->capacity = capacity;
    } else {
        VULKAN_TRY("vkResetDescriptorPool",
                   api->ResetDescriptorPool(device, oracle->descriptors, 0));
    }
    const VkDescriptorSetAllocateInfo set = {.sType =
                                                 VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                             .descriptorPool = oracle->descriptors,
                                             .descriptorSetCount = 1,
                                             .pSetLayouts = &oracle->set_layout};
    for (oracle->sets.count = 0; oracle->sets.count < count; oracle->sets.count++) {
        VULKAN_TRY(
            "vkAllocateDescriptorSets",
            api->AllocateDescriptorSets(device, &set, &oracle->sets.items[oracle->sets.count].set));
    }
    return WEIR_OK;
}

static weir_status take_memory(vulkan_oracle* oracle, uint64_t classes) {
    const uint64_t byte_size = classes * oracle->step;
    if (byte_size <= oracle->memory.byte_size) {
        return WEIR_OK;
    }
    vulkan_memory_destroy(oracle->device, &oracle->memory);
    return vulkan_memory_create(oracle->device, VULKAN_PLACE_DEVICE, 0, 2 * byte_size,
                                &oracle->memory);
}

// What one dispatch binds. Bindings that it has no use for get classes of their own: one that
// nobody writes, and for each dispatch some that nobody else touches.
typedef struct shadow_set {
    class_run reads[READS], writes[WRITES];
    uint32_t read_count, write_count;
} shadow_set;

static weir_status add_class_runs(shadow_set* set, const char* name, const class_run* runs,
                                  size_t count, weir_access_kind kind, oracle_look look) {
    const bool writes = (kind & WEIR_ACCESS_WRITE) != 0;
    const bool reads = (kind & WEIR_ACCESS_READ) != 0 || look == LOOK_SHADOW;
    if ((reads && set->read_count + count > READS) ||
        (writes && set->write_count + count > WRITES)) {
        return WEIR_FAIL(WEIR_UNSUPPORTED,
                         "%s: accesses with more gaps than can be judged, %d runs read and %d "
                         "written",
                         name, READS, WRITES);
    }
    for (size_t i = 0; i < count; i++) {
        if (reads) {
            set->reads[set->read_count++] = runs[i];
        }
        if (writes) {
            set->writes[set->write_count++] = runs[i];
        }
    }
    return WEIR_OK;
}

static void write_set(vulkan_oracle* oracle, const shadow_set* set, uint32_t number,
                      uint32_t class_count) {
    VkDescriptorBufferInfo buffers[SHADOW_BINDINGS];
    VkWriteDescriptorSet writes[SHADOW_BINDINGS];
    for (uint32_t i = 0; i < SHADOW_BINDINGS; i++) {
        const uint32_t spare =
            i < READS ? class_count : class_count + 1 + number * WRITES + (i - READS);
        class_run run = {spare, spare + 1};
        if (i < set->read_count) {
            run = set->reads[i];
        } else if (i >= READS && i - READS < set->write_count) {
            run = set->writes[i - READS];
        }
        buffers[i] = (VkDescriptorBufferInfo){.buffer = oracle->memory.buffer,
                                              .offset = run.begin * oracle->step,
                                              .range = (run.end - run.begin) * oracle->step};
        writes[i] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                           .dstSet = oracle->sets.items[number].set,
                                           .dstBinding = i,
                                           .descriptorCount = 1,
                                           .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           .pBufferInfo = &buffers[i]};
    }
    oracle->device->instance.api.UpdateDescriptorSets(oracle->device->handle, SHADOW_BINDINGS,
                                                      writes, 0, NULL);
}

static weir_status write_sets(vulkan_oracle* oracle, const device_dispatch* dispatches,
                              uint32_t count, const class_runs* runs) {
    size_t access = 0;
    for (uint32_t i = 0; i < count; i++) {
        shadow_set sets[LOOKS] = {{.read_count = 0}};
        for (uint32_t k = 0; k < dispatches[i].access_count; k++, access++) {
            const size_t begin = runs->begins[access];
            for (uint32_t look = 0; look < LOOKS; look++) {
                WEIR_TRY(add_class_runs(&sets[look], dispatches[i].name, runs->items + begin,
                                        runs->begins[access + 1] - begin,
                                        dispatches[i].accesses[k].kind, (oracle_look)look));
            }
        }
        write_set(oracle, &sets[LOOK_PLAIN], LOOKS * i + LOOK_PLAIN, runs->class_count);
        write_set(oracle, &sets[LOOK_SHADOW], LOOKS * i + LOOK_SHADOW, runs->class_count);
    }
    return WEIR_OK;
}

// Prepares the shadow of every dispatch.
static weir_status prepare(vulkan_oracle* oracle, const device_dispatch* dispatches,
                           uint32_t count) {
    class_runs runs;
    oracle->accesses.count = 0;
    for (uint32_t i = 0; i < count; i++) {
        WEIR_TRY(array_reserve(&oracle->allocator, &oracle->accesses,
                               oracle->accesses.count + dispatches[i].access_count + 1));
        memcpy(oracle->accesses.items + oracle->accesses.count, dispatches[i].accesses,
               dispatches[i].access_count * sizeof(weir_access));
        oracle->accesses.count += dispatches[i].access_count;
    }
    weir_status status =
        class_runs_make(&oracle->allocator, oracle->accesses.items, oracle->accesses.count, &runs);
    if (status == WEIR_OK) {
        status = take_sets(oracle, LOOKS * count);
    }
    if (status == WEIR_OK) {
        status =
            take_memory(oracle, (uint64_t)runs.class_count + 1 + (uint64_t)LOOKS * count * WRITES);
    }
    if (status == WEIR_OK) {
        status = write_sets(oracle, dispatches, count, &runs);
    }
    class_runs_free(&oracle->allocator, &runs);
    return status;
}

static void record_boundary(const vulkan_oracle* oracle, const vulkan_boundary* boundary,
                            oracle_look look) {
    vulkan_boundary shown = *boundary;
    if (look == LOOK_SHADOW && (shown.target_accesses & VK_ACCESS_2_SHADER_STORAGE_WRITE_BIT)) {
        shown.target_accesses |= VK_ACCESS_2_SHADER_STORAGE_READ_BIT;
    }
    vulkan_boundary_record(&oracle->device->instance.api, oracle->commands, &shown);
}

// Groups to be recorded, without one of the boundaries, and how they are shown.
typedef struct replay_desc {
    uint32_t begin, end; // groups
    uint32_t without;    // boundary; UINT32_MAX: none
    oracle_look look;
} replay_desc;

// Records a replay and counts what the layer reports.
static weir_status replay(vulkan_oracle* oracle, const vulkan_groups* groups,
                          const replay_desc* desc, uint32_t* hazards) {
    const vulkan_api* api = &oracle->device->instance.api;
    const VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    oracle->hazards = 0;
    VULKAN_TRY("vkBeginCommandBuffer", api->BeginCommandBuffer(oracle->commands, &info));
    api->CmdBindPipeline(oracle->commands, VK_PIPELINE_BIND_POINT_COMPUTE, oracle->pipeline);
    for (uint32_t group = desc->begin; group < desc->end; group++) {
        if (group > desc->begin && group != desc->without) {
            record_boundary(oracle, &groups->boundaries[group], desc->look);
        }
        for (uint32_t at = groups->begins[group]; at < groups->begins[group + 1]; at++) {
            const VkDescriptorSet* set =
                &oracle->sets.items[LOOKS * groups->order[at] + (uint32_t)desc->look].set;
            api->CmdBindDescriptorSets(oracle->commands, VK_PIPELINE_BIND_POINT_COMPUTE,
                                       oracle->layout, 0, 1, set, 0, NULL);
            api->CmdDispatch(oracle->commands, 1, 1, 1);
        }
    }
    VULKAN_TRY("vkEndCommandBuffer", api->EndCommandBuffer(oracle->commands));
    *hazards = oracle->hazards;
    return oracle->complaint[0] == '\0'
               ? WEIR_OK
               : WEIR_FAIL(WEIR_INTERNAL, "vulkan: the layer says: %s", oracle->complaint);
}

weir_status vulkan_oracle_judge(vulkan_oracle* oracle, const device_dispatch* dispatches,
                                uint32_t count, const vulkan_groups* groups,
                                weir_vulkan_verdict* verdict) {
    weir_vulkan_verdict judged = {
        .dispatches = count, .boundaries = groups->group_count > 0 ? groups->group_count - 1 : 0};
    WEIR_TRY(prepare(oracle, dispatches, count));
    for (uint32_t look = 0; look < LOOKS; look++) {
        uint32_t hazards = 0;
        const replay_desc all = {0, groups->group_count, UINT32_MAX, (oracle_look)look};
        WEIR_TRY(replay(oracle, groups, &all, &hazards));
        if (hazards > 0 && judged.hazards == 0) {
            snprintf(judged.message, sizeof judged.message, "%s", oracle->hazard);
        }
        judged.hazards += hazards;
    }
    // A barrier orders all before it with all after it: without boundary g only the groups beside
    // it can meet.
    for (uint32_t group = 1; group < groups->group_count; group++) {
        uint32_t hazards = 0;
        const replay_desc beside = {group - 1, group + 1, group, LOOK_SHADOW};
        WEIR_TRY(replay(oracle, groups, &beside, &hazards));
        judged.needed += hazards > 0 ? 1 : 0;
        if (hazards == 0 && judged.message[0] == '\0') {
            snprintf(judged.message, sizeof judged.message, "nothing needs boundary %u, before %s",
                     group, dispatches[groups->order[groups->begins[group]]].name);
        }
    }
    *verdict = judged;
    return WEIR_OK;
}

// A read of what was written, with the barrier and without it.
static weir_status plant_hazard(vulkan_oracle* oracle) {
    const weir_access access[2] = {{weir_range_make(1, 0, 64), WEIR_ACCESS_WRITE},
                                   {weir_range_make(1, 60, 64), WEIR_ACCESS_READ}};
    const uint32_t first = 0;
    const device_dispatch dispatches[2] = {
        {.name = "planted write", .accesses = access, .access_count = 1},
        {.name = "planted read",
         .accesses = access + 1,
         .access_count = 1,
         .group = 1,
         .predecessors = &first,
         .predecessor_count = 1}};
    vulkan_groups groups;
    weir_vulkan_verdict verdict = {0};
    weir_status status = vulkan_groups_make(&oracle->allocator, dispatches, 2, &groups);
    if (status == WEIR_OK) {
        status = vulkan_oracle_judge(oracle, dispatches, 2, &groups, &verdict);
    }
    vulkan_groups_free(&oracle->allocator, &groups);
    if (status == WEIR_OK && (verdict.hazards != 0 || verdict.needed != 1)) {
        status = WEIR_FAIL(WEIR_UNSUPPORTED,
                           "vulkan: the validation layer does not see a planted hazard");
    }
    return status;
}

weir_status vulkan_oracle_open(const weir_allocator* allocator, const char* device,
                               vulkan_oracle** oracle) {
    vulkan_oracle* made = NULL;
    WEIR_TRY(object_new(allocator, &made));
    made->allocator = allocator ? *allocator : (weir_allocator){0};
    weir_status status = open_device(made, device ? device : "vulkan");
    if (status == WEIR_OK) {
        status = make_objects(made);
    }
    if (status == WEIR_OK) {
        status = plant_hazard(made);
    }
    if (status != WEIR_OK) {
        vulkan_oracle_close(made);
        return status;
    }
    *oracle = made;
    return WEIR_OK;
}

void vulkan_oracle_close(vulkan_oracle* oracle) {
    if (!oracle) {
        return;
    }
    const weir_allocator allocator = oracle->allocator;
    if (oracle->device) {
        const vulkan_device* device = oracle->device;
        drop_pool(oracle);
        if (oracle->pool) {
            device->instance.api.DestroyCommandPool(device->handle, oracle->pool, NULL);
        }
        vulkan_memory_destroy(oracle->device, &oracle->memory);
        if (oracle->messenger) {
            oracle->destroy_messenger(device->instance.handle, oracle->messenger, NULL);
        }
        weir_device_destroy(&oracle->device->base);
    }
    array_free(&allocator, &oracle->sets);
    array_free(&allocator, &oracle->accesses);
    object_free(&allocator, oracle);
}
