#include "backends/vulkan/vulkan_instance.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <weir/vulkan.h>

#include "base/array.h"

#define PORTABILITY "VK_KHR_portability_enumeration"
#define DEBUG_UTILS "VK_EXT_debug_utils"

// The instance of the process.
static struct {
    pthread_mutex_t lock; // guards all of it
    pid_t process;        // that made it
    uint32_t users;       // instances that are open
    vulkan_api api;       // its library is open as long as there is a handle
    VkInstance handle;    // NULL: none yet
} common = {.lock = PTHREAD_MUTEX_INITIALIZER};

weir_status vulkan_extensions_list(const vulkan_instance* instance, VkPhysicalDevice device,
                                   vulkan_extensions* list) {
    const vulkan_api* api = &instance->api;
    uint32_t count = 0;
    VULKAN_TRY("vkEnumerateExtensionProperties",
               device ? api->EnumerateDeviceExtensionProperties(device, NULL, &count, NULL)
                      : api->EnumerateInstanceExtensionProperties(NULL, &count, NULL));
    void* memory = NULL;
    WEIR_TRY(weir_alloc_zeroed(&instance->allocator, count * sizeof *list->items, &memory));
    *list = (vulkan_extensions){.items = memory, .count = count, .room = count};
    const VkResult result =
        device ? api->EnumerateDeviceExtensionProperties(device, NULL, &list->count, list->items)
               : api->EnumerateInstanceExtensionProperties(NULL, &list->count, list->items);
    if (result != VK_SUCCESS && result != VK_INCOMPLETE) {
        vulkan_extensions_free(&instance->allocator, list);
        return vulkan_status(result, "vkEnumerateExtensionProperties");
    }
    return WEIR_OK;
}

bool vulkan_extensions_have(const vulkan_extensions* list, const char* name) {
    for (uint32_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].extensionName, name) == 0) {
            return true;
        }
    }
    return false;
}

void vulkan_extensions_free(const weir_allocator* allocator, vulkan_extensions* list) {
    weir_free(allocator, list->items, list->room * sizeof *list->items, _Alignof(max_align_t));
}

typedef struct loader_reason {
    char text[512]; // the first error, which is the cause of the others
} loader_reason;

static VKAPI_ATTR VkBool32 VKAPI_CALL hear_loader(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                  VkDebugUtilsMessageTypeFlagsEXT kinds,
                                                  const VkDebugUtilsMessengerCallbackDataEXT* data,
                                                  void* context) {
    loader_reason* reason = context;
    (void)severity;
    (void)kinds;
    if (reason->text[0] == '\0' && data->pMessage) {
        snprintf(reason->text, sizeof reason->text, "%s", data->pMessage);
    }
    return VK_FALSE;
}

// Says why no driver was taken: the loader tells it only while it tries, so it tries once more. An
// instance that it makes after all is not used; whoever called may try again.
static weir_status explain_no_driver(const vulkan_api* api, VkInstanceCreateInfo info) {
    loader_reason reason = {.text = ""};
    const char* extensions[] = {DEBUG_UTILS, PORTABILITY};
    const VkDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_GENERAL_BIT_EXT |
                       VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
        .pfnUserCallback = hear_loader,
        .pUserData = &reason};
    info.pNext = &messenger;
    info.enabledLayerCount = 0;
    info.enabledExtensionCount = info.flags != 0 ? 2 : 1;
    info.ppEnabledExtensionNames = extensions;
    VkInstance handle = NULL;
    if (api->CreateInstance(&info, NULL, &handle) == VK_SUCCESS) {
        const PFN_vkDestroyInstance destroy =
            (PFN_vkDestroyInstance)api->GetInstanceProcAddr(handle, "vkDestroyInstance");
        destroy(handle, NULL);
    }
    return WEIR_FAIL(WEIR_UNSUPPORTED,
                     "vulkan: vkCreateInstance: VK_ERROR_INCOMPATIBLE_DRIVER: no driver could be "
                     "loaded: %s",
                     reason.text[0] != '\0' ? reason.text : "the loader does not say why");
}

static weir_status check_version(const vulkan_api* api) {
    uint32_t version = VK_API_VERSION_1_0;
    VULKAN_TRY("vkEnumerateInstanceVersion", api->EnumerateInstanceVersion(&version));
    return version >= VULKAN_VERSION
               ? WEIR_OK
               : WEIR_FAIL(WEIR_UNSUPPORTED, "vulkan: the loader speaks %u.%u, 1.2 is needed",
                           VK_API_VERSION_MAJOR(version), VK_API_VERSION_MINOR(version));
}

static weir_status create_instance(const vulkan_instance* instance, const vulkan_layers* layers,
                                   VkInstance* handle) {
    const vulkan_api* api = &instance->api;
    vulkan_extensions list;
    WEIR_TRY(check_version(api));
    WEIR_TRY(vulkan_extensions_list(instance, NULL, &list));
    const bool portability = vulkan_extensions_have(&list, PORTABILITY);
    vulkan_extensions_free(&instance->allocator, &list);
    const char* extensions[2];
    uint32_t count = 0;
    if (portability) {
        extensions[count++] = PORTABILITY;
    }
    if (layers->next) { // a messenger is asked for
        extensions[count++] = DEBUG_UTILS;
    }
    const VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                           .pEngineName = "weir",
                                           .apiVersion = VULKAN_VERSION};
    const VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pNext = layers->next,
        .flags = portability ? VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR : 0,
        .pApplicationInfo = &application,
        .enabledLayerCount = layers->count,
        .ppEnabledLayerNames = layers->names,
        .enabledExtensionCount = count,
        .ppEnabledExtensionNames = extensions};
    const VkResult result = api->CreateInstance(&info, NULL, handle);
    return result == VK_ERROR_INCOMPATIBLE_DRIVER ? explain_no_driver(api, info)
                                                  : vulkan_status(result, "vkCreateInstance");
}

// Makes an instance and looks up its functions; `made` has those of the loader.
static weir_status make(vulkan_instance* made, const vulkan_layers* layers) {
    VkInstance handle = NULL;
    WEIR_TRY(create_instance(made, layers, &handle));
    const weir_status status = vulkan_api_instance(&made->api, handle);
    if (status != WEIR_OK) {
        if (made->api.DestroyInstance) {
            made->api.DestroyInstance(handle, NULL);
        }
        return status;
    }
    made->handle = handle;
    return WEIR_OK;
}

static weir_status make_common(const weir_allocator* allocator) {
    static const vulkan_layers none = {.count = 0};
    vulkan_instance made = {.allocator = *allocator};
    WEIR_TRY(vulkan_api_open(VULKAN_LIBRARY, &made.api));
    const weir_status status = make(&made, &none);
    if (status != WEIR_OK) {
        vulkan_api_close(&made.api);
        return status;
    }
    common.api = made.api;
    common.handle = made.handle;
    common.process = getpid();
    common.users = 0;
    return WEIR_OK;
}

// Holds the instance of the process, which is made if there is none.
static weir_status hold_common(vulkan_instance* instance) {
    pthread_mutex_lock(&common.lock);
    // What a parent opened is nothing to a child: the threads of its driver are not there.
    const bool there = common.handle && common.process == getpid();
    const weir_status status = there ? WEIR_OK : make_common(&instance->allocator);
    if (status == WEIR_OK) {
        common.users++;
        instance->api = common.api;
        instance->handle = common.handle;
        instance->owner = VULKAN_OWNER_PROCESS;
        instance->process = common.process;
    }
    pthread_mutex_unlock(&common.lock);
    return status;
}

static void let_common_go(pid_t process) {
    pthread_mutex_lock(&common.lock);
    common.users -= process == common.process ? 1 : 0;
    pthread_mutex_unlock(&common.lock);
}

static weir_status list_devices(vulkan_instance* instance) {
    const vulkan_api* api = &instance->api;
    uint32_t count = 0;
    VkResult result = api->EnumeratePhysicalDevices(instance->handle, &count, NULL);
    instance->listed = result;
    // Loaders without any driver differ in which of these they return.
    if (result == VK_ERROR_INITIALIZATION_FAILED || result == VK_ERROR_INCOMPATIBLE_DRIVER) {
        return WEIR_OK;
    }
    VULKAN_TRY("vkEnumeratePhysicalDevices", result);
    void* memory = NULL;
    WEIR_TRY(weir_alloc_zeroed(&instance->allocator, count * sizeof(VkPhysicalDevice), &memory));
    instance->devices = memory;
    instance->device_count = count;
    uint32_t got = count;
    if (count == 0) {
        return WEIR_OK;
    }
    result = api->EnumeratePhysicalDevices(instance->handle, &got, instance->devices);
    return result == VK_INCOMPLETE ? WEIR_OK : vulkan_status(result, "vkEnumeratePhysicalDevices");
}

weir_status vulkan_instance_open(const weir_allocator* allocator, const vulkan_layers* layers,
                                 vulkan_instance* instance) {
    vulkan_instance made = {.allocator = allocator ? *allocator : (weir_allocator){0}};
    WEIR_TRY(hold_common(&made));
    weir_status status = WEIR_OK;
    if (layers->count > 0 || layers->next) {
        status = make(&made, layers);
        made.owner = status == WEIR_OK ? VULKAN_OWNER_SELF : VULKAN_OWNER_PROCESS;
    }
    if (status == WEIR_OK) {
        status = list_devices(&made);
    }
    if (status != WEIR_OK) {
        vulkan_instance_close(&made);
        return status;
    }
    *instance = made;
    return WEIR_OK;
}

void vulkan_instance_close(vulkan_instance* instance) {
    weir_free(&instance->allocator, instance->devices,
              instance->device_count * sizeof(VkPhysicalDevice), _Alignof(max_align_t));
    if (instance->owner == VULKAN_OWNER_SELF) {
        instance->api.DestroyInstance(instance->handle, NULL);
    }
    if (instance->process != 0) {
        let_common_go(instance->process);
    }
    *instance = (vulkan_instance){0};
}

weir_status weir_vulkan_unload(void) {
    weir_status status = WEIR_OK;
    pthread_mutex_lock(&common.lock);
    if (common.handle && common.process == getpid()) {
        if (common.users > 0) {
            status = WEIR_FAIL(
                WEIR_BUSY, "vulkan: the drivers are in use: %u devices are open or being listed",
                common.users);
        } else {
            common.api.DestroyInstance(common.handle, NULL);
            vulkan_api_close(&common.api);
            common.handle = NULL;
        }
    }
    pthread_mutex_unlock(&common.lock);
    return status;
}
