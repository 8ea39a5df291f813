#include "backends/vulkan/vulkan_api.h"

#include <dlfcn.h>
#include <string.h>

static weir_status missing(const char* name) {
    return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: the driver has no vk%s", name);
}

weir_status vulkan_api_open(const char* library, vulkan_api* api) {
    vulkan_api found = {.library = dlopen(library, RTLD_NOW | RTLD_LOCAL)};
    if (!found.library) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: no driver loader: %s", dlerror());
    }
    // ISO C has no conversion from an object pointer to a function pointer; POSIX promises that the
    // bytes are the same.
    void* symbol = dlsym(found.library, "vkGetInstanceProcAddr");
    memcpy(&found.GetInstanceProcAddr, &symbol, sizeof symbol);
    if (!symbol) {
        dlclose(found.library);
        return missing("GetInstanceProcAddr");
    }
#define VULKAN_FIND(name)                                                                          \
    found.name = (PFN_vk##name)found.GetInstanceProcAddr(NULL, "vk" #name);                        \
    if (!found.name) {                                                                             \
        dlclose(found.library);                                                                    \
        return missing(#name);                                                                     \
    }
    VULKAN_GLOBAL_FUNCTIONS(VULKAN_FIND)
#undef VULKAN_FIND
    *api = found;
    return WEIR_OK;
}

void vulkan_api_close(vulkan_api* api) {
    if (api->library) {
        dlclose(api->library);
    }
    *api = (vulkan_api){0};
}

weir_status vulkan_api_instance(vulkan_api* api, VkInstance instance) {
#define VULKAN_FIND(name)                                                                          \
    api->name = (PFN_vk##name)api->GetInstanceProcAddr(instance, "vk" #name);                      \
    if (!api->name) {                                                                              \
        return missing(#name);                                                                     \
    }
    VULKAN_INSTANCE_FUNCTIONS(VULKAN_FIND)
#undef VULKAN_FIND
    PFN_vkVoidFunction domains =
        api->GetInstanceProcAddr(instance, "vkGetPhysicalDeviceCalibrateableTimeDomainsEXT");
    if (!domains) {
        domains =
            api->GetInstanceProcAddr(instance, "vkGetPhysicalDeviceCalibrateableTimeDomainsKHR");
    }
    api->GetPhysicalDeviceCalibrateableTimeDomainsEXT =
        (PFN_vkGetPhysicalDeviceCalibrateableTimeDomainsEXT)domains;
    return WEIR_OK;
}

weir_status vulkan_api_device(vulkan_api* api, VkDevice device) {
#define VULKAN_FIND(name) api->name = (PFN_vk##name)api->GetDeviceProcAddr(device, "vk" #name);
    VULKAN_OPTIONAL_FUNCTIONS(VULKAN_FIND)
#undef VULKAN_FIND
    if (!api->GetCalibratedTimestampsEXT) { // the same under its later name
        api->GetCalibratedTimestampsEXT = (PFN_vkGetCalibratedTimestampsEXT)api->GetDeviceProcAddr(
            device, "vkGetCalibratedTimestampsKHR");
    }
#define VULKAN_FIND(name)                                                                          \
    api->name = (PFN_vk##name)api->GetDeviceProcAddr(device, "vk" #name);                          \
    if (!api->name) {                                                                              \
        return missing(#name);                                                                     \
    }
    VULKAN_DEVICE_FUNCTIONS(VULKAN_FIND)
#undef VULKAN_FIND
    return WEIR_OK;
}

// X(result, status): those that a program can meet; anything else is an internal error.
#define RESULTS(X)                                                                                 \
    X(VK_ERROR_OUT_OF_HOST_MEMORY, WEIR_OUT_OF_MEMORY)                                             \
    X(VK_ERROR_OUT_OF_DEVICE_MEMORY, WEIR_DEVICE_OUT_OF_MEMORY)                                    \
    X(VK_ERROR_OUT_OF_POOL_MEMORY, WEIR_DEVICE_OUT_OF_MEMORY)                                      \
    X(VK_ERROR_FRAGMENTED_POOL, WEIR_DEVICE_OUT_OF_MEMORY)                                         \
    X(VK_ERROR_TOO_MANY_OBJECTS, WEIR_DEVICE_OUT_OF_MEMORY)                                        \
    X(VK_ERROR_MEMORY_MAP_FAILED, WEIR_DEVICE_OUT_OF_MEMORY)                                       \
    X(VK_ERROR_DEVICE_LOST, WEIR_DEVICE_LOST)                                                      \
    X(VK_ERROR_INITIALIZATION_FAILED, WEIR_UNSUPPORTED)                                            \
    X(VK_ERROR_LAYER_NOT_PRESENT, WEIR_UNSUPPORTED)                                                \
    X(VK_ERROR_EXTENSION_NOT_PRESENT, WEIR_UNSUPPORTED)                                            \
    X(VK_ERROR_FEATURE_NOT_PRESENT, WEIR_UNSUPPORTED)                                              \
    X(VK_ERROR_INCOMPATIBLE_DRIVER, WEIR_UNSUPPORTED)                                              \
    X(VK_ERROR_INVALID_EXTERNAL_HANDLE, WEIR_INVALID_ARGUMENT)                                     \
    X(VK_ERROR_INVALID_SHADER_NV, WEIR_INVALID_ARGUMENT)                                           \
    X(VK_TIMEOUT, WEIR_TIMEOUT)

const char* vulkan_result_name(VkResult result) {
    switch ((int)result) {
#define RESULT_NAME(name, status)                                                                  \
    case name:                                                                                     \
        return #name;
        RESULTS(RESULT_NAME)
#undef RESULT_NAME
    case VK_SUCCESS:
        return "VK_SUCCESS";
    default:
        return "another result";
    }
}

weir_status vulkan_status(VkResult result, const char* call) {
    if (result == VK_SUCCESS) {
        return WEIR_OK;
    }
    switch ((int)result) {
#define RESULT_CASE(name, status)                                                                  \
    case name:                                                                                     \
        return WEIR_FAIL(status, "vulkan: %s: %s", call, #name);
        RESULTS(RESULT_CASE)
#undef RESULT_CASE
    default:
        return WEIR_FAIL(WEIR_INTERNAL, "vulkan: %s: result %d", call, (int)result);
    }
}
