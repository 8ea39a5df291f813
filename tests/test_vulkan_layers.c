// What the validation layers of Khronos can be trusted with across submissions. They follow the
// order of passes on the queue; but a wait for a fence is lost to them where it ends in one thread
// while another is within vkQueueSubmit2: the layer checks the submission against a copy of what
// the queue has in flight, and then keeps the copy, in which the fence was not waited for. Vulkan
// asks for no order of these two calls (of vkQueueSubmit2 only queue and fence are externally
// synchronized). The same work with the two calls one at a time is not reported.
#include "vulkan_testing.h"

#include <pthread.h>

#include "backends/vulkan/vulkan_target.h"

#define THREADS 8
#define PASSES 60
#define FLOATS_EACH 16

static atomic_uint reports; // of hazards
static atomic_uint others;

static VKAPI_ATTR VkBool32 VKAPI_CALL hear(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                           VkDebugUtilsMessageTypeFlagsEXT kinds,
                                           const VkDebugUtilsMessengerCallbackDataEXT* data,
                                           void* context) {
    const char* name = data->pMessageIdName ? data->pMessageIdName : "";
    (void)severity;
    (void)kinds;
    (void)context;
    atomic_fetch_add(strncmp(name, "SYNC-HAZARD", 11) == 0 ? &reports : &others, 1);
    return VK_FALSE;
}

typedef struct watched {
    vulkan_device* device;
    VkDebugUtilsMessengerEXT messenger;
} watched;

static watched open_watched(void) {
    static const char* const names[] = {"VK_LAYER_KHRONOS_validation"};
    static const VkValidationFeatureEnableEXT enabled[] = {
        VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT};
    static const VkValidationFeaturesEXT features = {.sType =
                                                         VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
                                                     .enabledValidationFeatureCount = 1,
                                                     .pEnabledValidationFeatures = enabled};
    const vulkan_layers layers = {.names = names, .count = 1, .next = &features};
    const VkDebugUtilsMessengerCreateInfoEXT info = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT |
                           VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
        .pfnUserCallback = hear};
    watched w = {0};
    weir_target target = weir_vulkan_target;
    target.waits = WEIR_WAIT_GROUPS;
    const weir_status status =
        vulkan_device_open(&(weir_device_desc){.name = "vulkan"}, &target, &layers, &w.device);
    if (status != WEIR_OK) {
        fprintf(stderr, "skipped: %s\n", weir_last_error());
        exit(SKIPPED);
    }
    const vulkan_instance* instance = &w.device->instance;
    const PFN_vkCreateDebugUtilsMessengerEXT create =
        (PFN_vkCreateDebugUtilsMessengerEXT)instance->api.GetInstanceProcAddr(
            instance->handle, "vkCreateDebugUtilsMessengerEXT");
    assert_non_null(create);
    assert_int_equal(create(instance->handle, &info, NULL, &w.messenger), VK_SUCCESS);
    atomic_store(&reports, 0);
    atomic_store(&others, 0);
    return w;
}

static void close_watched(watched* w) {
    const vulkan_instance* instance = &w->device->instance;
    const PFN_vkDestroyDebugUtilsMessengerEXT destroy =
        (PFN_vkDestroyDebugUtilsMessengerEXT)instance->api.GetInstanceProcAddr(
            instance->handle, "vkDestroyDebugUtilsMessengerEXT");
    destroy(instance->handle, w->messenger, NULL);
    weir_device_destroy(&w->device->base);
}

typedef struct filler {
    weir_storage* storage;
    uint64_t byte_offset;
    pthread_t thread;
    weir_status status;
} filler;

// Fills its part again and again, and waits each time: no hazard with itself or the others.
static void* fill_in_thread(void* context) {
    filler* f = context;
    const weir_view part = floats(f->storage, f->byte_offset, FLOATS_EACH);
    const float one = 1.0f;
    weir_session* session = NULL;
    weir_status status = weir_session_create(f->storage->device, &session);
    for (int i = 0; i < PASSES && status == WEIR_OK; i++) {
        status = weir_session_fill(session, &part, &one, sizeof one);
        status = status == WEIR_OK ? weir_session_finish(session) : status;
    }
    weir_session_destroy(session);
    f->status = status;
    return NULL;
}

static void fill_in_threads(weir_device* device) {
    weir_storage* storage = allocate(device, 4096, WEIR_FILL_ZERO, false);
    filler fillers[THREADS];
    for (uint64_t i = 0; i < THREADS; i++) {
        fillers[i] = (filler){.storage = storage, .byte_offset = i * 256};
        assert_int_equal(pthread_create(&fillers[i].thread, NULL, fill_in_thread, &fillers[i]), 0);
    }
    for (uint64_t i = 0; i < THREADS; i++) {
        pthread_join(fillers[i].thread, NULL);
        assert_int_equal(fillers[i].status, WEIR_OK);
    }
    weir_storage_release(storage);
}

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static PFN_vkWaitForFences wait_for_fences;
static PFN_vkQueueSubmit2KHR queue_submit;

static VkResult VKAPI_PTR wait_in_turn(VkDevice device, uint32_t count, const VkFence* fences,
                                       VkBool32 all, uint64_t timeout) {
    pthread_mutex_lock(&turn);
    const VkResult result = wait_for_fences(device, count, fences, all, timeout);
    pthread_mutex_unlock(&turn);
    return result;
}

static VkResult VKAPI_PTR submit_in_turn(VkQueue queue, uint32_t count, const VkSubmitInfo2* infos,
                                         VkFence fence) {
    pthread_mutex_lock(&turn);
    const VkResult result = queue_submit(queue, count, infos, fence);
    pthread_mutex_unlock(&turn);
    return result;
}

// A hazard across two submissions is planted: the layer is awake there.
static void passes_without_an_order_are_reported(void** state) {
    (void)state;
    watched w = open_watched();
    weir_device* device = &w.device->base;
    weir_storage* storage = allocate(device, 4096, WEIR_FILL_ZERO, false);
    const dispatch_fill fill = {.bytes = {1, 2, 3, 4}, .byte_count = 4};
    weir_view view = floats(storage, 0, 64);
    const weir_access access = weir_access_from_view(&view, WEIR_ACCESS_WRITE);
    weir_access listed[2] = {access, access};
    const device_dispatch dispatch = {.name = "fill",
                                      .kind = DEVICE_FILL,
                                      .constants = &fill,
                                      .constants_size = sizeof fill,
                                      .views = &view,
                                      .operand_count = 1,
                                      .accesses = &access,
                                      .access_count = 1};
    device_work* works[2];
    wait_for_fences = w.device->instance.api.WaitForFences;
    w.device->instance.api.WaitForFences = wait_in_turn;
    for (int ordered = 1; ordered >= 0; ordered--) {
        pthread_mutex_lock(&turn); // both are in flight before the first is waited for
        for (int i = 0; i < 2; i++) {
            weir_ticket ticket;
            assert_ok(device->vtable->prepare(device, &dispatch, 1, &works[i]));
            // Without its accesses the front end sees no conflict between the two.
            device_commit commit = {.work = works[i], .accesses = &listed[i]};
            commit.access_count = ordered ? 1 : 0;
            assert_ok(weir_device_submit(device, &commit, &ticket));
        }
        pthread_mutex_unlock(&turn);
        weir_device_drain(device);
        assert_int_equal(atomic_load(&reports) > 0, !ordered);
        works[0]->vtable->destroy(works[0]);
        works[1]->vtable->destroy(works[1]);
    }
    weir_storage_release(storage);
    close_watched(&w);
}

static void waits_and_submissions_in_turn_are_not_reported(void** state) {
    (void)state;
    watched w = open_watched();
    fill_in_threads(&w.device->base);
    print_message("%u hazards reported of %d passes where waits and submissions overlap\n",
                  atomic_load(&reports), THREADS * PASSES);
    assert_int_equal(atomic_load(&others), 0);
    close_watched(&w);
    w = open_watched();
    vulkan_api* api = &w.device->instance.api;
    wait_for_fences = api->WaitForFences;
    queue_submit = api->QueueSubmit2KHR;
    api->WaitForFences = wait_in_turn;
    api->QueueSubmit2KHR = submit_in_turn;
    fill_in_threads(&w.device->base);
    assert_int_equal(atomic_load(&reports), 0);
    assert_int_equal(atomic_load(&others), 0);
    close_watched(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes_without_an_order_are_reported),
        cmocka_unit_test(waits_and_submissions_in_turn_are_not_reported),
    };
    setenv("VK_LAYER_ENABLES", "VALIDATION_CHECK_ENABLE_SYNCHRONIZATION_VALIDATION_QUEUE_SUBMIT",
           1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
