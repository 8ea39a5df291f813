// Memory of the Vulkan device: what does not fit, budgets and priorities, and devices that are not
// there or are lost. What no driver at hand can be made to say is put into its mouth: the entry
// points of a device are a table, and a test replaces some of them.
#include "vulkan_testing.h"

#include <stdatomic.h>
#include <unistd.h>

#include <weir/arena.h>
#include <weir/residency.h>
#include <weir/vulkan.h>

#define MIB (UINT64_C(1) << 20)

static weir_status try_allocate(weir_device* device, uint64_t byte_size, weir_storage** storage) {
    return weir_storage_allocate(
        device, &(weir_storage_desc){.byte_size = byte_size, .device_only = true}, storage);
}

// y = 2 x on a device; the status of the pass.
static weir_status run_scale(weir_device* device) {
    weir_storage* storage = NULL;
    weir_session* session = NULL;
    WEIR_TRY(weir_storage_allocate(device, &(weir_storage_desc){.byte_size = 4096}, &storage));
    const weir_view x = floats(storage, 0, 64);
    const weir_view y = floats(storage, 2048, 64);
    float* numbers = weir_storage_host_pointer(storage);
    for (int i = 0; i < 64; i++) {
        numbers[i] = (float)i;
    }
    assert_ok(weir_session_create(device, &session));
    assert_ok(scale(session, &x, &y, 2.0f, NULL));
    const weir_status status = weir_session_finish(session);
    for (int i = 0; i < 64 && status == WEIR_OK; i++) {
        assert_true(numbers[512 + i] == 2.0f * (float)i);
    }
    weir_session_destroy(session);
    weir_storage_release(storage);
    return status;
}

static void what_does_not_fit_is_a_status_and_the_next_work_runs(void** state) {
    (void)state;
    const vulkan_probe* probe = &vulkan_device_of(gpu)->probe;
    weir_storage* storage = NULL;
    assert_status(try_allocate(gpu, probe->allocation_bytes_max + 1, &storage),
                  WEIR_DEVICE_OUT_OF_MEMORY);
    assert_message_has("passes the limit of vulkan");
    assert_status(try_allocate(gpu, UINT64_MAX - 100, &storage), WEIR_DEVICE_OUT_OF_MEMORY);
    assert_null(storage);
    assert_ok(run_scale(gpu));
}

// A card with 4 MiB, of which one allocation takes 3 at most.
static void a_small_heap_is_a_status_with_what_is_missing(void** state) {
    (void)state;
    const weir_vulkan_options options = {.memory_bytes_max = 4 * MIB,
                                         .allocation_bytes_max = 3 * MIB};
    weir_device* device = open_vulkan_with(&options);
    weir_storage* first = NULL;
    weir_storage* second = NULL;
    weir_storage* third = NULL;
    assert_status(try_allocate(device, 8 * MIB, &first), WEIR_DEVICE_OUT_OF_MEMORY);
    assert_message_has("passes the limit of vulkan, 3145728 bytes");
    assert_ok(try_allocate(device, 3 * MIB, &first));
    assert_status(try_allocate(device, 2 * MIB, &second), WEIR_DEVICE_OUT_OF_MEMORY);
    assert_message_has("pass the limit of 4194304 by 1048576");
    assert_null(second);
    const weir_device_memory memory = weir_device_memory_now(device);
    assert_int_equal(memory.budget_bytes, 4 * MIB);
    assert_true(memory.used_bytes >= 3 * MIB);
    assert_ok(run_scale(device)); // in the rest
    assert_ok(try_allocate(device, MIB, &second));
    assert_status(try_allocate(device, MIB, &third), WEIR_DEVICE_OUT_OF_MEMORY);
    weir_storage_release(first); // its bytes come back
    assert_ok(try_allocate(device, 2 * MIB, &third));
    weir_storage_release(second);
    weir_storage_release(third);
    weir_device_destroy(device);
}

static void a_heap_below_one_allocation_is_named(void** state) {
    (void)state;
    const weir_vulkan_options options = {.memory_bytes_max = MIB};
    weir_device* device = open_vulkan_with(&options);
    weir_storage* storage = NULL;
    assert_status(try_allocate(device, 2 * MIB, &storage), WEIR_DEVICE_OUT_OF_MEMORY);
    assert_message_has("pass the heap");
    weir_device_destroy(device);
}

static void an_arena_that_the_device_has_no_room_for_has_its_deficit(void** state) {
    (void)state;
    const weir_vulkan_options options = {.memory_bytes_max = 4 * MIB};
    weir_device* device = open_vulkan_with(&options);
    const uint64_t used = weir_device_memory_now(device).used_bytes;
    weir_arena* arena = NULL;
    weir_arena_deficit deficit;
    weir_arena_desc desc = {.byte_size = 6 * MIB, .device_only = true, .deficit = &deficit};
    assert_status(weir_arena_create_with(device, &desc, &arena), WEIR_DEVICE_OUT_OF_MEMORY);
    assert_int_equal(deficit.available_bytes, 4 * MIB - used);
    assert_int_equal(deficit.deficit_bytes, 2 * MIB + used);
    desc.byte_size = 2 * MIB;
    assert_ok(weir_arena_create_with(device, &desc, &arena));
    assert_int_equal(deficit.deficit_bytes, 0);
    weir_arena_destroy(arena);
    weir_device_destroy(device);
}

static void a_small_binding_is_the_limit_of_planning_and_of_passes(void** state) {
    (void)state;
    const weir_vulkan_options options = {.binding_bytes_max = 1024};
    weir_device* device = open_vulkan_with(&options);
    assert_int_equal(weir_device_target(device)->binding_bytes_max, 1024);
    weir_storage* storage = allocate(device, 8192, WEIR_FILL_ZERO, false);
    const weir_view x = floats(storage, 0, 1024);
    const weir_view y = floats(storage, 4096, 1024);
    weir_session* session = NULL;
    weir_ticket ticket;
    assert_ok(weir_session_create(device, &session));
    assert_ok(scale(session, &x, &y, 2.0f, NULL));
    assert_status(weir_session_commit(session, &ticket), WEIR_UNSUPPORTED);
    assert_message_has("binds at most 1024");
    weir_session_destroy(session);
    weir_storage_release(storage);
    assert_ok(run_scale(device));
    weir_device_destroy(device);
}

static void no_loader_and_no_device_are_statuses(void** state) {
    (void)state;
    vulkan_api api = {0};
    vulkan_probe probe;
    assert_status(vulkan_api_open("/nowhere/libvulkan.so.1", &api), WEIR_UNSUPPORTED);
    assert_message_has("no driver loader");
    assert_null(api.library);
    assert_status(vulkan_api_open("libm.so.6", &api), WEIR_UNSUPPORTED); // no loader of drivers
    assert_message_has("vkGetInstanceProcAddr");
    vulkan_instance instance = vulkan_device_of(gpu)->instance;
    instance.device_count = 0; // drivers that find no hardware of theirs
    assert_status(vulkan_probe_find(&instance, "vulkan", &probe), WEIR_NOT_FOUND);
    assert_message_has("the drivers of Vulkan found none");
    instance.listed = VK_ERROR_INITIALIZATION_FAILED;
    assert_status(vulkan_probe_find(&instance, "vulkan", &probe), WEIR_NOT_FOUND);
    assert_message_has("vkEnumeratePhysicalDevices: VK_ERROR_INITIALIZATION_FAILED");
}

static VkResult VKAPI_PTR have_no_memory(VkDevice device, const VkMemoryAllocateInfo* info,
                                         const VkAllocationCallbacks* callbacks,
                                         VkDeviceMemory* memory) {
    (void)device;
    (void)info;
    (void)callbacks;
    (void)memory;
    return VK_ERROR_OUT_OF_DEVICE_MEMORY;
}

static void memory_that_the_driver_refuses_is_a_status_and_nothing_stays_counted(void** state) {
    (void)state;
    weir_device* device = open_vulkan(NULL);
    vulkan_api* api = &vulkan_device_of(device)->instance.api;
    const PFN_vkAllocateMemory allocate_memory = api->AllocateMemory;
    const uint32_t heap = vulkan_device_of(device)->heap;
    const uint64_t used = atomic_load(&vulkan_device_of(device)->used[heap]);
    weir_storage* storage = NULL;
    api->AllocateMemory = have_no_memory;
    assert_status(try_allocate(device, MIB, &storage), WEIR_DEVICE_OUT_OF_MEMORY);
    assert_message_has("no 1048576 bytes");
    assert_message_has("in use");
    api->AllocateMemory = allocate_memory;
    assert_int_equal(atomic_load(&vulkan_device_of(device)->used[heap]), used);
    assert_ok(run_scale(device));
    weir_device_destroy(device);
}

static PFN_vkWaitForFences wait_for_fences;

// Waits in earnest, so that nothing runs any more, and says that the device is gone.
static VkResult VKAPI_PTR lose_wait(VkDevice device, uint32_t count, const VkFence* fences,
                                    VkBool32 all, uint64_t timeout) {
    wait_for_fences(device, count, fences, all, timeout);
    return VK_ERROR_DEVICE_LOST;
}

static atomic_bool may_finish;
static PFN_vkDestroyDevice destroy_device;
static weir_device* going;
static uint32_t left; // passes when the driver's device goes

static VkResult VKAPI_PTR finish_late(VkDevice device, uint32_t count, const VkFence* fences,
                                      VkBool32 all, uint64_t timeout) {
    while (!atomic_load(&may_finish)) {
        usleep(100);
    }
    return wait_for_fences(device, count, fences, all, timeout);
}

static void VKAPI_PTR note_left(VkDevice device, const VkAllocationCallbacks* callbacks) {
    left = going->passes != NULL;
    destroy_device(device, callbacks);
}

// The session is gone while its pass is in flight, and nobody waits for it but the device.
static void work_that_was_dropped_in_flight_goes_before_the_device(void** state) {
    (void)state;
    going = open_vulkan(NULL);
    vulkan_api* api = &vulkan_device_of(going)->instance.api;
    wait_for_fences = api->WaitForFences;
    destroy_device = api->DestroyDevice;
    api->WaitForFences = finish_late;
    api->DestroyDevice = note_left;
    weir_storage* storage = allocate(going, 4096, WEIR_FILL_NONE, false);
    const weir_view view = floats(storage, 0, 64);
    const float one = 1.0f;
    weir_session* session = NULL;
    weir_ticket ticket;
    atomic_store(&may_finish, false);
    assert_ok(weir_session_create(going, &session));
    assert_ok(weir_session_fill(session, &view, &one, sizeof one));
    assert_ok(weir_session_commit(session, &ticket));
    weir_session_destroy(session);
    weir_storage_release(storage);
    assert_non_null(going->passes);
    left = 2;
    atomic_store(&may_finish, true);
    weir_device_destroy(going);
    assert_int_equal(left, 0);
}

// Lost in a call of the driver: this work and all later work ends with the first cause, everything
// can be destroyed, and another device can be opened.
static void check_lost(weir_device* device, const char* call) {
    weir_storage* storage = allocate(device, 4096, WEIR_FILL_ZERO, false);
    const weir_view x = floats(storage, 0, 64);
    const weir_view y = floats(storage, 2048, 64);
    weir_session* session = NULL;
    assert_ok(weir_session_create(device, &session));
    for (int i = 0; i < 2; i++) {
        assert_ok(scale(session, &x, &y, 2.0f, NULL));
        assert_status(weir_session_finish(session), WEIR_DEVICE_LOST);
        assert_message_has(call);
    }
    weir_session_destroy(session);
    weir_storage_release(storage);
    weir_device_destroy(device);
    assert_ok(run_scale(gpu));
}

static void a_device_lost_in_a_submission_is_a_status(void** state) {
    (void)state;
    weir_device* device = open_vulkan(NULL);
    vulkan_device_of(device)->instance.api.QueueSubmit2KHR = lose_submit;
    check_lost(device, "vkQueueSubmit2: VK_ERROR_DEVICE_LOST");
}

static void a_device_lost_while_work_runs_is_a_status(void** state) {
    (void)state;
    weir_device* device = open_vulkan(NULL);
    vulkan_api* api = &vulkan_device_of(device)->instance.api;
    wait_for_fences = api->WaitForFences;
    api->WaitForFences = lose_wait;
    check_lost(device, "vkWaitForFences: VK_ERROR_DEVICE_LOST");
}

static void a_device_lost_while_memory_is_filled_is_lost(void** state) {
    (void)state;
    weir_device* device = open_vulkan(NULL);
    vulkan_api* api = &vulkan_device_of(device)->instance.api;
    const PFN_vkQueueSubmit2KHR submit = api->QueueSubmit2KHR;
    weir_storage* storage = NULL;
    const weir_storage_desc desc = {.byte_size = 4096, .fill = WEIR_FILL_ZERO, .device_only = true};
    api->QueueSubmit2KHR = lose_submit;
    // Where the host maps what the device has, it fills it itself.
    const weir_status status = weir_storage_allocate(device, &desc, &storage);
    api->QueueSubmit2KHR = submit;
    assert_status(status, WEIR_DEVICE_LOST);
    assert_null(storage);
    assert_status(run_scale(device), WEIR_DEVICE_LOST);
    weir_device_destroy(device);
}

// The driver of a card with VK_EXT_memory_budget, with one heap.
static struct {
    uint64_t budget, usage;
    PFN_vkGetPhysicalDeviceMemoryProperties2 ask;
} card;

static void VKAPI_PTR estimate(VkPhysicalDevice device, VkPhysicalDeviceMemoryProperties2* found) {
    VkPhysicalDeviceMemoryBudgetPropertiesEXT* budget = found->pNext;
    found->pNext = NULL;
    card.ask(device, found);
    found->pNext = budget;
    for (uint32_t i = 0; budget && i < found->memoryProperties.memoryHeapCount; i++) {
        budget->heapBudget[i] = card.budget;
        budget->heapUsage[i] = card.usage;
    }
}

#define PRIORITIES_MAX 16

static struct {
    VkDeviceMemory memory[PRIORITIES_MAX];
    float value[PRIORITIES_MAX];
    uint32_t count;
} priorities;

static void VKAPI_PTR note_priority(VkDevice device, VkDeviceMemory memory, float priority) {
    (void)device;
    assert_true(priorities.count < PRIORITIES_MAX);
    priorities.memory[priorities.count] = memory;
    priorities.value[priorities.count++] = priority;
}

// A device whose driver has the extensions for budgets and priorities.
static weir_device* open_card(uint64_t budget) {
    weir_device* device = open_vulkan(NULL);
    vulkan_api* api = &vulkan_device_of(device)->instance.api;
    card.ask = api->GetPhysicalDeviceMemoryProperties2;
    card.budget = budget;
    card.usage = 0;
    priorities.count = 0;
    api->GetPhysicalDeviceMemoryProperties2 = estimate;
    api->SetDeviceMemoryPriorityEXT = note_priority;
    vulkan_device_of(device)->probe.memory_budget = true;
    return device;
}

static VkDeviceMemory memory_of(const weir_storage* storage) {
    return ((const vulkan_storage*)storage)->parts[0].memory;
}

static void the_budget_of_the_driver_is_told(void** state) {
    (void)state;
    weir_device* device = open_card(64 * MIB);
    card.usage = 40 * MIB; // by this process, weir or not
    const weir_device_memory memory = weir_device_memory_now(device);
    assert_int_equal(memory.total_bytes, vulkan_device_of(device)->probe.memory_bytes);
    assert_int_equal(memory.budget_bytes, 64 * MIB);
    assert_int_equal(memory.used_bytes, 40 * MIB);
    weir_arena* arena = NULL;
    weir_arena_deficit deficit;
    const weir_arena_desc desc = {.byte_size = 30 * MIB, .device_only = true, .deficit = &deficit};
    assert_status(weir_arena_create_with(device, &desc, &arena), WEIR_DEVICE_OUT_OF_MEMORY);
    assert_int_equal(deficit.deficit_bytes, 6 * MIB);
    weir_device_destroy(device);
}

static weir_residency* open_set(weir_device* device) {
    weir_residency* set = NULL;
    assert_ok(weir_residency_create(device, &(weir_residency_desc){.byte_budget = 0}, &set));
    return set;
}

static void use(weir_device* device, weir_storage* storage) {
    const weir_view view = floats(storage, 0, 16);
    const float zero = 0.0f;
    weir_session* session = NULL;
    assert_ok(weir_session_create(device, &session));
    assert_ok(weir_session_fill(session, &view, &zero, sizeof zero));
    assert_ok(weir_session_finish(session));
    weir_session_destroy(session);
}

// The set has no budget of its own: members keep to that of the driver, the least important ones
// leave first, and what cannot come in is short by so many bytes.
static void members_keep_to_the_budget_of_the_driver(void** state) {
    (void)state;
    weir_device* device = open_card(4 * MIB);
    weir_residency* set = open_set(device);
    weir_storage* a = allocate(device, 2 * MIB, WEIR_FILL_NONE, true);
    weir_storage* b = allocate(device, 2 * MIB, WEIR_FILL_NONE, true);
    weir_residency_flush(set);
    assert_true(weir_residency_is_resident(set, a) && weir_residency_is_resident(set, b));
    assert_int_equal(weir_residency_counted(set).budget_bytes, 4 * MIB);
    assert_ok(weir_residency_register(set, b, &(weir_residency_options){.priority = 1}));
    weir_storage* c = allocate(device, MIB, WEIR_FILL_NONE, true);
    use(device, c);
    assert_false(weir_residency_is_resident(set, a)); // the longest unused of the lowest priority
    assert_true(weir_residency_is_resident(set, b) && weir_residency_is_resident(set, c));
    assert_int_equal(weir_residency_counted(set).evictions, 1);
    card.budget = 2 * MIB; // somebody else has started
    weir_storage* d = allocate(device, MIB, WEIR_FILL_NONE, true);
    use(device, d);
    assert_false(weir_residency_is_resident(set, d)); // c would not do, and b is worth more
    assert_true(weir_residency_is_resident(set, b));
    assert_int_equal(weir_residency_counted(set).refusals, 1);
    assert_int_equal(weir_residency_counted(set).deficit_bytes, MIB);
    weir_storage_release(a);
    weir_storage_release(b);
    weir_storage_release(c);
    weir_storage_release(d);
    weir_residency_destroy(set);
    weir_device_destroy(device);
}

static void members_give_the_driver_their_priorities(void** state) {
    (void)state;
    weir_device* device = open_card(64 * MIB);
    weir_residency* set = open_set(device);
    weir_storage* a = allocate(device, MIB, WEIR_FILL_NONE, true);
    weir_residency_flush(set);
    assert_int_equal(priorities.count, 1);
    assert_true(priorities.memory[0] == memory_of(a));
    assert_true(priorities.value[0] == VULKAN_PRIORITY_USUAL);
    static const int rising[] = {INT32_MIN / 2, -3, -1, 1, 2, 1000};
    for (size_t i = 0; i < sizeof rising / sizeof *rising; i++) {
        assert_ok(weir_residency_register(set, a, &(weir_residency_options){rising[i], NULL}));
        const float last = priorities.value[priorities.count - 1];
        assert_int_equal(priorities.count, 2 + i);
        assert_true(last >= 0.0f && last <= 1.0f);
        assert_true(i == 0 || last > priorities.value[priorities.count - 2]);
        assert_true((rising[i] > 0) == (last > VULKAN_PRIORITY_USUAL));
    }
    assert_ok(weir_residency_unregister(set, a));
    weir_residency_flush(set);
    assert_true(priorities.value[priorities.count - 1] == 0.0f); // pages first
    weir_storage_release(a);
    weir_residency_destroy(set);
    weir_device_destroy(device);
}

#define ALLOCATIONS_MAX 16

// The allocations of a driver with VK_EXT_memory_priority, which the one at hand need not have.
static struct {
    PFN_vkAllocateMemory allocate;
    float priority[ALLOCATIONS_MAX]; // -1: none was given
    uint32_t count;
} allocations;

static VkResult VKAPI_PTR note_allocation(VkDevice device, const VkMemoryAllocateInfo* info,
                                          const VkAllocationCallbacks* callbacks,
                                          VkDeviceMemory* memory) {
    const VkMemoryPriorityAllocateInfoEXT* first = info->pNext;
    VkMemoryAllocateInfo passed = *info;
    const bool has = first && first->sType == VK_STRUCTURE_TYPE_MEMORY_PRIORITY_ALLOCATE_INFO_EXT;
    assert_true(allocations.count < ALLOCATIONS_MAX);
    allocations.priority[allocations.count++] = has ? first->priority : -1.0f;
    passed.pNext = has ? first->pNext : info->pNext;
    return allocations.allocate(device, &passed, callbacks, memory);
}

static weir_device* open_with_priorities(bool has_priorities) {
    weir_device* device = open_vulkan(NULL);
    vulkan_api* api = &vulkan_device_of(device)->instance.api;
    allocations.allocate = api->AllocateMemory;
    allocations.count = 0;
    api->AllocateMemory = note_allocation;
    api->SetDeviceMemoryPriorityEXT = NULL; // VK_EXT_memory_priority alone cannot change them
    vulkan_device_of(device)->probe.memory_priority = has_priorities;
    return device;
}

static weir_storage* allocate_lazily(weir_device* device) {
    const weir_storage_desc desc = {.byte_size = 4096, .device_only = true, .lazy = true};
    weir_storage* storage = NULL;
    assert_ok(weir_storage_allocate(device, &desc, &storage));
    return storage;
}

static void memory_is_allocated_with_its_priority(void** state) {
    (void)state;
    weir_device* device = open_with_priorities(true);
    weir_storage* storages[5] = {allocate(device, MIB, WEIR_FILL_NONE, true)};
    assert_int_equal(allocations.count, 1);
    assert_true(allocations.priority[0] == VULKAN_PRIORITY_USUAL);
    const weir_storage_desc desc = {.byte_size = 4096, .host_reads = true}; // as staging buffers
    assert_ok(weir_storage_allocate(device, &desc, &storages[1]));
    assert_true(allocations.priority[1] == VULKAN_PRIORITY_STAGING);
    weir_residency* set = open_set(device);
    static const int wanted[] = {3, -3, 0};
    for (uint32_t i = 0; i < 3; i++) { // registered before it has memory
        weir_storage* storage = storages[2 + i] = allocate_lazily(device);
        assert_int_equal(allocations.count, 2 + i);
        assert_ok(
            weir_residency_register(set, storage, &(weir_residency_options){wanted[i], NULL}));
        assert_int_equal(allocations.count, 3 + i);
        assert_true(allocations.priority[2 + i] == vulkan_priority_of(wanted[i]));
    }
    assert_true(allocations.priority[2] > allocations.priority[4]);
    assert_true(allocations.priority[3] < allocations.priority[4]);
    for (uint32_t i = 0; i < 5; i++) {
        weir_storage_release(storages[i]);
    }
    weir_residency_destroy(set);
    weir_device_destroy(device);
}

static void drivers_without_priorities_are_given_none(void** state) {
    (void)state;
    weir_device* device = open_with_priorities(false);
    weir_storage* storage = allocate(device, MIB, WEIR_FILL_NONE, true);
    assert_int_equal(allocations.count, 1);
    assert_true(allocations.priority[0] == -1.0f);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

#define GIB (UINT64_C(1) << 30)
#define LOCAL VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT
#define VISIBLE (VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)

// What drivers of AMD show: a heap of the host, and one of the device that the host maps.
static vulkan_probe probe_two_heaps(VkPhysicalDeviceType type, uint64_t host_bytes,
                                    uint64_t local_bytes) {
    vulkan_probe probe = {.type = type};
    probe.memory = (VkPhysicalDeviceMemoryProperties){
        .memoryTypeCount = 4,
        .memoryTypes = {{LOCAL, 1},
                        {VISIBLE, 0},
                        {LOCAL | VISIBLE, 1},
                        {VISIBLE | VK_MEMORY_PROPERTY_HOST_CACHED_BIT, 0}},
        .memoryHeapCount = 2,
        .memoryHeaps = {{host_bytes, 0}, {local_bytes, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT}}};
    vulkan_probe_memory(&probe);
    return probe;
}

static void what_shares_the_memory_of_the_host_is_told_by_its_kind(void** state) {
    (void)state;
    vulkan_probe probe = probe_two_heaps(VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU, 15 * GIB, GIB / 2);
    assert_true(probe.unified);
    assert_int_equal(probe.memory_bytes, 15 * GIB + GIB / 2);
    // The carved-out part is too small for weights, and no nearer than the rest.
    assert_int_equal(vulkan_memory_heap(&probe, VULKAN_PLACE_DEVICE), 0);
    assert_int_equal(vulkan_memory_heap(&probe, VULKAN_PLACE_SHARED), 0);
    probe = probe_two_heaps(VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU, 5 * GIB, 10 * GIB);
    assert_true(probe.unified);
    assert_int_equal(vulkan_memory_heap(&probe, VULKAN_PLACE_DEVICE), 1);
    assert_int_equal(vulkan_memory_heap(&probe, VULKAN_PLACE_SHARED), 1);
    probe = probe_two_heaps(VK_PHYSICAL_DEVICE_TYPE_CPU, 8 * GIB, 8 * GIB);
    assert_true(probe.unified);
    assert_int_equal(probe.memory_bytes, 16 * GIB);
}

static void cards_have_their_own_memory_whatever_the_host_has(void** state) {
    (void)state;
    vulkan_probe probe = probe_two_heaps(VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU, 64 * GIB, 8 * GIB);
    assert_false(probe.unified);
    assert_int_equal(probe.memory_bytes, 8 * GIB);
    assert_int_equal(vulkan_memory_heap(&probe, VULKAN_PLACE_DEVICE), 1);
    assert_int_equal(vulkan_memory_heap(&probe, VULKAN_PLACE_SHARED), 1);
    probe = probe_two_heaps(VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU, 64 * GIB, 8 * GIB);
    assert_false(probe.unified); // nobody knows what is behind it
    probe.memory.memoryHeaps[0].flags = VK_MEMORY_HEAP_DEVICE_LOCAL_BIT;
    vulkan_probe_memory(&probe);
    assert_true(probe.unified); // unless all of it is its own
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_fit_is_a_status_and_the_next_work_runs),
        cmocka_unit_test(a_small_heap_is_a_status_with_what_is_missing),
        cmocka_unit_test(a_heap_below_one_allocation_is_named),
        cmocka_unit_test(an_arena_that_the_device_has_no_room_for_has_its_deficit),
        cmocka_unit_test(a_small_binding_is_the_limit_of_planning_and_of_passes),
        cmocka_unit_test(no_loader_and_no_device_are_statuses),
        cmocka_unit_test(memory_that_the_driver_refuses_is_a_status_and_nothing_stays_counted),
        cmocka_unit_test(work_that_was_dropped_in_flight_goes_before_the_device),
        cmocka_unit_test(a_device_lost_in_a_submission_is_a_status),
        cmocka_unit_test(a_device_lost_while_work_runs_is_a_status),
        cmocka_unit_test(a_device_lost_while_memory_is_filled_is_lost),
        cmocka_unit_test(the_budget_of_the_driver_is_told),
        cmocka_unit_test(members_keep_to_the_budget_of_the_driver),
        cmocka_unit_test(members_give_the_driver_their_priorities),
        cmocka_unit_test(memory_is_allocated_with_its_priority),
        cmocka_unit_test(drivers_without_priorities_are_given_none),
        cmocka_unit_test(what_shares_the_memory_of_the_host_is_told_by_its_kind),
        cmocka_unit_test(cards_have_their_own_memory_whatever_the_host_has),
    };
    return cmocka_run_group_tests(tests, open_gpu, close_gpu);
}
