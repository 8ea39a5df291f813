// Stands between weir and a Vulkan driver: counts the calls that can fail, lets one of them fail,
// and counts the objects that are made and destroyed. Declare a program that includes it with
// weir_vulkan_faults_test: the linker leads dlsym here. Include it in one file of a program.
//
// Each function of src/backends/vulkan/vulkan_api.h that returns a VkResult stands in FAULT_CALLS,
// each that destroys something in FAULT_ENDS; what is in neither goes straight to the driver.
#ifndef WEIR_TESTS_TESTING_VULKAN_FAULTS_H
#define WEIR_TESTS_TESTING_VULKAN_FAULTS_H

#include "testing.h"

#include <dlfcn.h>
#include <stdatomic.h>

#include "backends/vulkan/vulkan_api.h"

// X(name, parameters, arguments, objects that success makes)
#define FAULT_CALLS(X)                                                                             \
    X(EnumerateInstanceVersion, (uint32_t * a), (a), 0)                                            \
    X(EnumerateInstanceExtensionProperties,                                                        \
      (const char* a, uint32_t* b, VkExtensionProperties* c), (a, b, c), 0)                        \
    X(CreateInstance,                                                                              \
      (const VkInstanceCreateInfo* a, const VkAllocationCallbacks* b, VkInstance* c), (a, b, c),   \
      1)                                                                                           \
    X(EnumeratePhysicalDevices, (VkInstance a, uint32_t * b, VkPhysicalDevice * c), (a, b, c), 0)  \
    X(EnumerateDeviceExtensionProperties,                                                          \
      (VkPhysicalDevice a, const char* b, uint32_t* c, VkExtensionProperties* d), (a, b, c, d), 0) \
    X(CreateDevice,                                                                                \
      (VkPhysicalDevice a, const VkDeviceCreateInfo* b, const VkAllocationCallbacks* c,            \
       VkDevice* d),                                                                               \
      (a, b, c, d), 1)                                                                             \
    X(DeviceWaitIdle, (VkDevice a), (a), 0)                                                        \
    X(AllocateMemory,                                                                              \
      (VkDevice a, const VkMemoryAllocateInfo* b, const VkAllocationCallbacks* c,                  \
       VkDeviceMemory* d),                                                                         \
      (a, b, c, d), 1)                                                                             \
    X(MapMemory,                                                                                   \
      (VkDevice a, VkDeviceMemory b, VkDeviceSize c, VkDeviceSize d, VkMemoryMapFlags e,           \
       void** f),                                                                                  \
      (a, b, c, d, e, f), 0)                                                                       \
    X(CreateBuffer,                                                                                \
      (VkDevice a, const VkBufferCreateInfo* b, const VkAllocationCallbacks* c, VkBuffer* d),      \
      (a, b, c, d), 1)                                                                             \
    X(BindBufferMemory, (VkDevice a, VkBuffer b, VkDeviceMemory c, VkDeviceSize d), (a, b, c, d),  \
      0)                                                                                           \
    X(CreateShaderModule,                                                                          \
      (VkDevice a, const VkShaderModuleCreateInfo* b, const VkAllocationCallbacks* c,              \
       VkShaderModule* d),                                                                         \
      (a, b, c, d), 1)                                                                             \
    X(CreateDescriptorSetLayout,                                                                   \
      (VkDevice a, const VkDescriptorSetLayoutCreateInfo* b, const VkAllocationCallbacks* c,       \
       VkDescriptorSetLayout* d),                                                                  \
      (a, b, c, d), 1)                                                                             \
    X(CreatePipelineLayout,                                                                        \
      (VkDevice a, const VkPipelineLayoutCreateInfo* b, const VkAllocationCallbacks* c,            \
       VkPipelineLayout* d),                                                                       \
      (a, b, c, d), 1)                                                                             \
    X(CreateComputePipelines,                                                                      \
      (VkDevice a, VkPipelineCache b, uint32_t c, const VkComputePipelineCreateInfo* d,            \
       const VkAllocationCallbacks* e, VkPipeline* f),                                             \
      (a, b, c, d, e, f), c)                                                                       \
    X(CreatePipelineCache,                                                                         \
      (VkDevice a, const VkPipelineCacheCreateInfo* b, const VkAllocationCallbacks* c,             \
       VkPipelineCache* d),                                                                        \
      (a, b, c, d), 1)                                                                             \
    X(GetPipelineCacheData, (VkDevice a, VkPipelineCache b, size_t * c, void* d), (a, b, c, d), 0) \
    X(CreateDescriptorPool,                                                                        \
      (VkDevice a, const VkDescriptorPoolCreateInfo* b, const VkAllocationCallbacks* c,            \
       VkDescriptorPool* d),                                                                       \
      (a, b, c, d), 1)                                                                             \
    X(AllocateDescriptorSets,                                                                      \
      (VkDevice a, const VkDescriptorSetAllocateInfo* b, VkDescriptorSet* c), (a, b, c), 0)        \
    X(ResetDescriptorPool, (VkDevice a, VkDescriptorPool b, VkDescriptorPoolResetFlags c),         \
      (a, b, c), 0)                                                                                \
    X(CreateCommandPool,                                                                           \
      (VkDevice a, const VkCommandPoolCreateInfo* b, const VkAllocationCallbacks* c,               \
       VkCommandPool* d),                                                                          \
      (a, b, c, d), 1)                                                                             \
    X(AllocateCommandBuffers,                                                                      \
      (VkDevice a, const VkCommandBufferAllocateInfo* b, VkCommandBuffer* c), (a, b, c), 0)        \
    X(BeginCommandBuffer, (VkCommandBuffer a, const VkCommandBufferBeginInfo* b), (a, b), 0)       \
    X(EndCommandBuffer, (VkCommandBuffer a), (a), 0)                                               \
    X(CreateQueryPool,                                                                             \
      (VkDevice a, const VkQueryPoolCreateInfo* b, const VkAllocationCallbacks* c,                 \
       VkQueryPool* d),                                                                            \
      (a, b, c, d), 1)                                                                             \
    X(GetQueryPoolResults,                                                                         \
      (VkDevice a, VkQueryPool b, uint32_t c, uint32_t d, size_t e, void* f, VkDeviceSize g,       \
       VkQueryResultFlags h),                                                                      \
      (a, b, c, d, e, f, g, h), 0)                                                                 \
    X(CreateFence,                                                                                 \
      (VkDevice a, const VkFenceCreateInfo* b, const VkAllocationCallbacks* c, VkFence* d),        \
      (a, b, c, d), 1)                                                                             \
    X(ResetFences, (VkDevice a, uint32_t b, const VkFence* c), (a, b, c), 0)                       \
    X(WaitForFences, (VkDevice a, uint32_t b, const VkFence* c, VkBool32 d, uint64_t e),           \
      (a, b, c, d, e), 0)                                                                          \
    X(QueueSubmit2KHR, (VkQueue a, uint32_t b, const VkSubmitInfo2* c, VkFence d), (a, b, c, d),   \
      0)                                                                                           \
    X(GetMemoryHostPointerPropertiesEXT,                                                           \
      (VkDevice a, VkExternalMemoryHandleTypeFlagBits b, const void* c,                            \
       VkMemoryHostPointerPropertiesEXT* d),                                                       \
      (a, b, c, d), 0)                                                                             \
    X(GetMemoryFdKHR, (VkDevice a, const VkMemoryGetFdInfoKHR* b, int* c), (a, b, c), 0)

// X(name, type): the calls that take (VkDevice, what they destroy, callbacks).
#define FAULT_ENDS(X)                                                                              \
    X(FreeMemory, VkDeviceMemory)                                                                  \
    X(DestroyBuffer, VkBuffer)                                                                     \
    X(DestroyShaderModule, VkShaderModule)                                                         \
    X(DestroyDescriptorSetLayout, VkDescriptorSetLayout)                                           \
    X(DestroyPipelineLayout, VkPipelineLayout)                                                     \
    X(DestroyPipeline, VkPipeline)                                                                 \
    X(DestroyPipelineCache, VkPipelineCache)                                                       \
    X(DestroyDescriptorPool, VkDescriptorPool)                                                     \
    X(DestroyCommandPool, VkCommandPool)                                                           \
    X(DestroyQueryPool, VkQueryPool)                                                               \
    X(DestroyFence, VkFence)

#define DRIVER_NAMES_MAX 1024

// Calls are counted from 0 for each run; call `fail_at` gives `result`, SIZE_MAX: none does.
static struct {
    vulkan_api real;
    atomic_size_t calls;
    atomic_size_t objects; // made and not destroyed yet
    size_t fail_at;
    VkResult result;
    _Atomic(const char*) failed;         // the function that failed, NULL: none did
    const char* names[DRIVER_NAMES_MAX]; // of the calls, the first ones
} driver = {.fail_at = SIZE_MAX};

static bool driver_fails(const char* name) {
    const size_t call = atomic_fetch_add(&driver.calls, 1);
    if (call < DRIVER_NAMES_MAX) {
        driver.names[call] = name;
    }
    if (call != driver.fail_at) {
        return false;
    }
    atomic_store(&driver.failed, name);
    return true;
}

#define FAULT_DEFINE(name, parameters, arguments, made)                                            \
    static VKAPI_ATTR VkResult VKAPI_CALL fault_##name parameters {                                \
        if (driver_fails("vk" #name)) {                                                            \
            return driver.result;                                                                  \
        }                                                                                          \
        const VkResult result = driver.real.name arguments;                                        \
        atomic_fetch_add(&driver.objects, result == VK_SUCCESS ? (size_t)(made) : 0);              \
        return result;                                                                             \
    }
FAULT_CALLS(FAULT_DEFINE)
#undef FAULT_DEFINE

#define FAULT_DEFINE(name, type)                                                                   \
    static VKAPI_ATTR void VKAPI_CALL fault_##name(VkDevice a, type b,                             \
                                                   const VkAllocationCallbacks* c) {               \
        atomic_fetch_sub(&driver.objects, b ? 1 : 0);                                              \
        driver.real.name(a, b, c);                                                                 \
    }
FAULT_ENDS(FAULT_DEFINE)
#undef FAULT_DEFINE

static VKAPI_ATTR void VKAPI_CALL fault_DestroyInstance(VkInstance a,
                                                        const VkAllocationCallbacks* b) {
    atomic_fetch_sub(&driver.objects, a ? 1 : 0);
    driver.real.DestroyInstance(a, b);
}

static VKAPI_ATTR void VKAPI_CALL fault_DestroyDevice(VkDevice a, const VkAllocationCallbacks* b) {
    atomic_fetch_sub(&driver.objects, a ? 1 : 0);
    driver.real.DestroyDevice(a, b);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL fault_GetDeviceProcAddr(VkDevice device,
                                                                        const char* name);

// The function of this file that takes the place of the driver's, which is kept.
static PFN_vkVoidFunction replace(const char* name, PFN_vkVoidFunction found) {
#define FAULT_REPLACE(function, ...)                                                               \
    if (found && strcmp(name, "vk" #function) == 0) {                                              \
        driver.real.function = (PFN_vk##function)found;                                            \
        return (PFN_vkVoidFunction)fault_##function;                                               \
    }
    FAULT_CALLS(FAULT_REPLACE)
    FAULT_ENDS(FAULT_REPLACE)
    FAULT_REPLACE(DestroyInstance, )
    FAULT_REPLACE(DestroyDevice, )
    FAULT_REPLACE(GetDeviceProcAddr, )
#undef FAULT_REPLACE
    return found;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL fault_GetDeviceProcAddr(VkDevice device,
                                                                        const char* name) {
    return replace(name, driver.real.GetDeviceProcAddr(device, name));
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL fault_GetInstanceProcAddr(VkInstance instance,
                                                                          const char* name) {
    return replace(name, driver.real.GetInstanceProcAddr(instance, name));
}

void* __real_dlsym(void* library, const char* name);
void* __wrap_dlsym(void* library, const char* name);

// ISO C has no conversion between pointers to objects and to functions; POSIX promises that the
// bytes are the same.
void* __wrap_dlsym(void* library, const char* name) {
    void* found = __real_dlsym(library, name);
    if (found && strcmp(name, "vkGetInstanceProcAddr") == 0) {
        const PFN_vkGetInstanceProcAddr replaced = fault_GetInstanceProcAddr;
        memcpy(&driver.real.GetInstanceProcAddr, &found, sizeof found);
        memcpy(&found, &replaced, sizeof found);
    }
    return found;
}

#endif
