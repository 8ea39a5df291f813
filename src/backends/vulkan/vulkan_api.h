// The entry points of Vulkan, looked up at run time: weir links no Vulkan library.
//
// Only headers are needed to build. libvulkan.so.1 is opened with the first instance; every
// function that is called stands in one of the lists below.
#ifndef WEIR_BACKENDS_VULKAN_API_H
#define WEIR_BACKENDS_VULKAN_API_H

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>
#include <weir/status.h>

// X(name): found without an instance.
#define VULKAN_GLOBAL_FUNCTIONS(X)                                                                 \
    X(EnumerateInstanceVersion)                                                                    \
    X(EnumerateInstanceExtensionProperties)                                                        \
    X(CreateInstance)

// X(name): of an instance.
#define VULKAN_INSTANCE_FUNCTIONS(X)                                                               \
    X(DestroyInstance)                                                                             \
    X(EnumeratePhysicalDevices)                                                                    \
    X(GetPhysicalDeviceProperties2)                                                                \
    X(GetPhysicalDeviceFeatures2)                                                                  \
    X(GetPhysicalDeviceMemoryProperties2)                                                          \
    X(GetPhysicalDeviceQueueFamilyProperties)                                                      \
    X(GetPhysicalDeviceExternalBufferProperties)                                                   \
    X(EnumerateDeviceExtensionProperties)                                                          \
    X(CreateDevice)                                                                                \
    X(GetDeviceProcAddr)

// X(name): of a device.
#define VULKAN_DEVICE_FUNCTIONS(X)                                                                 \
    X(DestroyDevice)                                                                               \
    X(GetDeviceQueue)                                                                              \
    X(DeviceWaitIdle)                                                                              \
    X(AllocateMemory)                                                                              \
    X(FreeMemory)                                                                                  \
    X(MapMemory)                                                                                   \
    X(CreateBuffer)                                                                                \
    X(DestroyBuffer)                                                                               \
    X(GetBufferMemoryRequirements)                                                                 \
    X(GetBufferMemoryRequirements2)                                                                \
    X(BindBufferMemory)                                                                            \
    X(CreateShaderModule)                                                                          \
    X(DestroyShaderModule)                                                                         \
    X(CreateDescriptorSetLayout)                                                                   \
    X(DestroyDescriptorSetLayout)                                                                  \
    X(CreatePipelineLayout)                                                                        \
    X(DestroyPipelineLayout)                                                                       \
    X(CreateComputePipelines)                                                                      \
    X(DestroyPipeline)                                                                             \
    X(CreatePipelineCache)                                                                         \
    X(DestroyPipelineCache)                                                                        \
    X(GetPipelineCacheData)                                                                        \
    X(CreateDescriptorPool)                                                                        \
    X(DestroyDescriptorPool)                                                                       \
    X(AllocateDescriptorSets)                                                                      \
    X(ResetDescriptorPool)                                                                         \
    X(UpdateDescriptorSets)                                                                        \
    X(CreateCommandPool)                                                                           \
    X(DestroyCommandPool)                                                                          \
    X(ResetCommandPool)                                                                            \
    X(AllocateCommandBuffers)                                                                      \
    X(BeginCommandBuffer)                                                                          \
    X(EndCommandBuffer)                                                                            \
    X(CmdBindPipeline)                                                                             \
    X(CmdBindDescriptorSets)                                                                       \
    X(CmdPushConstants)                                                                            \
    X(CmdDispatch)                                                                                 \
    X(CmdCopyBuffer)                                                                               \
    X(CmdFillBuffer)                                                                               \
    X(CmdPipelineBarrier2KHR)                                                                      \
    X(CreateQueryPool)                                                                             \
    X(DestroyQueryPool)                                                                            \
    X(CmdResetQueryPool)                                                                           \
    X(CmdWriteTimestamp2KHR)                                                                       \
    X(GetQueryPoolResults)                                                                         \
    X(CreateFence)                                                                                 \
    X(DestroyFence)                                                                                \
    X(ResetFences)                                                                                 \
    X(WaitForFences)                                                                               \
    X(QueueSubmit2KHR)

// X(name): of extensions that need not be there; NULL then.
#define VULKAN_OPTIONAL_FUNCTIONS(X)                                                               \
    X(GetMemoryHostPointerPropertiesEXT)                                                           \
    X(GetMemoryFdKHR)                                                                              \
    X(SetDeviceMemoryPriorityEXT)                                                                  \
    X(GetCalibratedTimestampsEXT)

typedef struct vulkan_api {
    void* library; // NULL where the caller brought the functions
    PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
#define VULKAN_MEMBER(name) PFN_vk##name name;
    VULKAN_GLOBAL_FUNCTIONS(VULKAN_MEMBER)
    VULKAN_INSTANCE_FUNCTIONS(VULKAN_MEMBER)
    VULKAN_DEVICE_FUNCTIONS(VULKAN_MEMBER)
    VULKAN_OPTIONAL_FUNCTIONS(VULKAN_MEMBER)
#undef VULKAN_MEMBER
    PFN_vkGetPhysicalDeviceCalibrateableTimeDomainsEXT GetPhysicalDeviceCalibrateableTimeDomainsEXT;
} vulkan_api;

#define VULKAN_LIBRARY "libvulkan.so.1"   // the loader of drivers
#define VULKAN_VERSION VK_API_VERSION_1_2 // that loader and devices must have

// Opens the loader and looks up the global functions; undone by vulkan_api_close.
//
// Errors: WEIR_UNSUPPORTED no such library, or a function is missing in it.
WEIR_MUST_USE weir_status vulkan_api_open(const char* library, vulkan_api* api);
void vulkan_api_close(vulkan_api* api);

// Look up the functions of an instance and of a device.
//
// Errors: WEIR_UNSUPPORTED a function that is always called is missing, by name.
WEIR_MUST_USE weir_status vulkan_api_instance(vulkan_api* api, VkInstance instance);
WEIR_MUST_USE weir_status vulkan_api_device(vulkan_api* api, VkDevice device);

// Turns a result of Vulkan into a status with the message "CALL: RESULT".
WEIR_MUST_USE weir_status vulkan_status(VkResult result, const char* call);

// The name of a result that a program can meet.
const char* vulkan_result_name(VkResult result);

#define VULKAN_TRY(call, expression) WEIR_TRY(vulkan_status((expression), (call)))

#endif
