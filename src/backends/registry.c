// The only place that names the back ends.
#include <string.h>

#include "backends/cpu/cpu_target.h"
#include "backends/vulkan/vulkan_target.h"
#include "device/backend.h"

typedef struct registry_entry {
    const char* name;
    bool numbered;                      // there may be several
    const weir_target* (*target)(void); // planned for as this one, under the name of the entry;
                                        // NULL where the processor lacks what it takes
    weir_wait_kind waits;               // instead of the target's
    weir_status (*create)(const weir_device_desc* desc, const weir_target* target,
                          weir_device** device); // NULL where there is only a target
} registry_entry;

static const registry_entry entries[] = {
    {.name = "cpu", .target = weir_cpu_target_best, .create = weir_cpu_device_create},
    {.name = "cpu:plain", .target = weir_cpu_target_plain, .create = weir_cpu_device_create},
    {.name = "cpu:avx2", .target = weir_cpu_target_avx2, .create = weir_cpu_device_create},
    {.name = "cpu:avx512", .target = weir_cpu_target_avx512, .create = weir_cpu_device_create},
    {.name = "cpu:avx512_bf16",
     .target = weir_cpu_target_avx512_bf16,
     .create = weir_cpu_device_create},
    {.name = "cpu:neon", .target = weir_cpu_target_neon, .create = weir_cpu_device_create},
    {.name = "vulkan",
     .numbered = true,
     .target = weir_vulkan_target_any,
     .waits = WEIR_WAIT_GROUPS,
     .create = weir_vulkan_device_create},
    {.name = "null", .target = weir_cpu_target_best, .create = weir_null_device_create},
    {.name = "barriers", .target = weir_cpu_target_best, .waits = WEIR_WAIT_GROUPS},
};

// A name may go on behind a colon: which of several devices of the kind is meant.
static bool names(const registry_entry* entry, const char* name) {
    const size_t length = strlen(entry->name);
    return strncmp(entry->name, name, length) == 0 &&
           (name[length] == '\0' || (name[length] == ':' && entry->numbered));
}

static weir_status find(const char* wanted, const registry_entry** found) {
    const char* name = wanted ? wanted : "cpu";
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        if (names(&entries[i], name)) {
            *found = &entries[i];
            return WEIR_OK;
        }
    }
    return WEIR_FAIL(WEIR_NOT_FOUND,
                     "no device \"%s\"; there are: cpu, cpu:plain, cpu:avx2, cpu:avx512, "
                     "cpu:avx512_bf16, cpu:neon, vulkan, null, barriers",
                     name);
}

static weir_status target_of(const registry_entry* entry, weir_target* target) {
    const weir_target* found = entry->target();
    if (!found) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "this processor lacks the instructions of \"%s\"",
                         entry->name);
    }
    *target = *found;
    target->name = entry->name;
    target->waits = entry->waits;
    return WEIR_OK;
}

weir_status weir_target_find(const char* name, weir_target* target) {
    const registry_entry* entry = NULL;
    WEIR_TRY(find(name, &entry));
    return target_of(entry, target);
}

weir_status weir_device_list(weir_device_info* infos, uint32_t capacity, uint32_t* count) {
    uint32_t found = 0;
    WEIR_TRY(weir_cpu_device_list(infos, capacity, &found));
    WEIR_TRY(weir_vulkan_device_list(infos, capacity, &found));
    *count = found;
    return WEIR_OK;
}

weir_status weir_device_create(const weir_device_desc* desc, weir_device** device) {
    const registry_entry* entry = NULL;
    WEIR_TRY(find(desc->name, &entry));
    weir_target target;
    WEIR_TRY(target_of(entry, &target));
    if (!entry->create) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "\"%s\" is a target to plan for; nothing executes it",
                         entry->name);
    }
    return entry->create(desc, &target, device);
}
