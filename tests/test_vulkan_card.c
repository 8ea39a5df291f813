// Cards whose memory the host does not map: where things lie, and that everything the host wants of
// them still comes to it. lavapipe maps all of its memory: a card is an option of the device, a
// list of types of memory, or a driver whose entry points are replaced.
#include "vulkan_testing.h"

#include <pthread.h>
#include <unistd.h>
#include <weir-llm/snapshot.h>
#include <weir/access.h>
#include <weir/arena.h>
#include <weir/session.h>
#include <weir/shadow.h>
#include <weir/state.h>

#include "llama_file.h"
#include "llm_fixture.h"

#define GIB (UINT64_C(1) << 30)
#define MIB (UINT64_C(1) << 20)

static const weir_vulkan_options hidden = {.hides_memory = true, .copies_files = true};

#define LOCAL VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT
#define VISIBLE (VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)
#define CACHED VK_MEMORY_PROPERTY_HOST_CACHED_BIT

// The heaps and types of a device, and which type each place takes.
typedef struct card_memory {
    const char* name;
    VkPhysicalDeviceType kind;
    uint64_t heaps[3]; // bytes; those of which the bit is set in `local` are the device's
    uint32_t local;
    struct {
        VkMemoryPropertyFlags flags;
        uint32_t heap;
    } types[4];
    uint32_t host, shared, kernels, device;
} card_memory;

static const card_memory cards[] = {
    {"a card with a window of 256 MiB",
     VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU,
     {8 * GIB, 16 * GIB, 256 * MIB},
     5,
     {{LOCAL, 0}, {VISIBLE, 1}, {VISIBLE | CACHED, 1}, {LOCAL | VISIBLE, 2}},
     .host = 2,
     .shared = 2,
     .kernels = 0,
     .device = 0},
    {"a card without a window",
     VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU,
     {8 * GIB, 16 * GIB},
     1,
     {{LOCAL, 0}, {VISIBLE, 1}, {VISIBLE | CACHED, 1}},
     .host = 2,
     .shared = 2,
     .kernels = 0,
     .device = 0},
    {"a card that shows all of its memory",
     VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU,
     {8 * GIB, 16 * GIB},
     1,
     {{LOCAL, 0}, {VISIBLE, 1}, {VISIBLE | CACHED, 1}, {LOCAL | VISIBLE, 0}},
     .host = 2,
     .shared = 3,
     .kernels = 3,
     .device = 0},
    {"a processor with its graphics",
     VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU,
     {16 * GIB},
     1,
     {{LOCAL, 0}, {LOCAL | VISIBLE, 0}, {LOCAL | VISIBLE | CACHED, 0}},
     .host = 2,
     .shared = 2,
     .kernels = 2,
     .device = 0},
    {"graphics with a part carved out",
     VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU,
     {512 * MIB, 15 * GIB},
     1,
     {{LOCAL, 0}, {VISIBLE, 1}, {LOCAL | VISIBLE, 0}, {VISIBLE | CACHED, 1}},
     .host = 3,
     .shared = 3,
     .kernels = 3,
     .device = 3},
    {"an emulation",
     VK_PHYSICAL_DEVICE_TYPE_CPU,
     {16 * GIB},
     1,
     {{LOCAL | VISIBLE | CACHED, 0}},
     .host = 0,
     .shared = 0,
     .kernels = 0,
     .device = 0},
};

static const card_memory* shown; // by the replaced entry point

static void list_memory(const card_memory* from, VkPhysicalDeviceMemoryProperties* memory) {
    *memory = (VkPhysicalDeviceMemoryProperties){0};
    for (uint32_t i = 0; i < 3 && from->heaps[i] > 0; i++) {
        memory->memoryHeaps[memory->memoryHeapCount++] = (VkMemoryHeap){
            from->heaps[i], (from->local >> i & 1) != 0 ? VK_MEMORY_HEAP_DEVICE_LOCAL_BIT : 0};
    }
    for (uint32_t i = 0; i < 4 && from->types[i].flags != 0; i++) {
        memory->memoryTypes[memory->memoryTypeCount++] =
            (VkMemoryType){from->types[i].flags, from->types[i].heap};
    }
}

static void VKAPI_PTR show_memory(VkPhysicalDevice device,
                                  VkPhysicalDeviceMemoryProperties2* found) {
    (void)device;
    list_memory(shown, &found->memoryProperties);
}

static PFN_vkGetPhysicalDeviceProperties2 get_properties;

static void VKAPI_PTR show_kind(VkPhysicalDevice device, VkPhysicalDeviceProperties2* found) {
    get_properties(device, found);
    found->properties.deviceType = shown->kind;
}

static void what_is_for_kernels_lies_in_memory_of_the_device_on_every_card(void** state) {
    (void)state;
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
        vulkan_instance instance = vulkan_device_of(gpu)->instance;
        vulkan_probe probe;
        shown = &cards[i];
        get_properties = instance.api.GetPhysicalDeviceProperties2;
        instance.api.GetPhysicalDeviceProperties2 = show_kind;
        instance.api.GetPhysicalDeviceMemoryProperties2 = show_memory;
        assert_ok(vulkan_probe_device(&instance, vulkan_device_of(gpu)->probe.handle, &probe));
        const uint32_t types[] = {vulkan_memory_type(&probe, VULKAN_PLACE_HOST, UINT32_MAX),
                                  vulkan_memory_type(&probe, VULKAN_PLACE_SHARED, UINT32_MAX),
                                  vulkan_memory_type(&probe, VULKAN_PLACE_KERNELS, UINT32_MAX),
                                  vulkan_memory_type(&probe, VULKAN_PLACE_DEVICE, UINT32_MAX)};
        const uint32_t wanted[] = {shown->host, shown->shared, shown->kernels, shown->device};
        for (int k = 0; k < 4; k++) {
            if (types[k] != wanted[k]) {
                fail_msg("%s: place %d takes type %u, expected %u", shown->name, k, types[k],
                         wanted[k]);
            }
        }
    }
}

static uint64_t most_of_a_buffer, most_of_an_allocation; // that the driver says

static void VKAPI_PTR show_limits(VkPhysicalDevice device, VkPhysicalDeviceProperties2* found) {
    get_properties(device, found);
    VkBaseOutStructure* item = (VkBaseOutStructure*)found;
    for (; item; item = item->pNext) {
        void* any = item;
        if (item->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES) {
            ((VkPhysicalDeviceMaintenance4Properties*)any)->maxBufferSize = most_of_a_buffer;
        } else if (item->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES) {
            ((VkPhysicalDeviceVulkan11Properties*)any)->maxMemoryAllocationSize =
                most_of_an_allocation;
        }
    }
}

// The lesser of both limits, in whole steps of what drivers round sizes up to.
static void storages_fit_buffers_and_allocations(void** state) {
    (void)state;
    static const struct {
        uint64_t buffer, allocation, storage;
    } limits[] = {{0, 2 * GIB, 2 * GIB}, // a driver that does not know of buffers
                  {GIB, 2 * GIB, GIB},
                  {4 * GIB, 2 * GIB, 2 * GIB},
                  {UINT64_MAX, 4 * GIB - 1, 4 * GIB - 65536},
                  {4 * GIB - 1, UINT64_MAX, 4 * GIB - 65536},
                  {0, 10000, 10000}}; // of a test
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        vulkan_instance instance = vulkan_device_of(gpu)->instance;
        vulkan_probe probe;
        most_of_a_buffer = limits[i].buffer;
        most_of_an_allocation = limits[i].allocation;
        get_properties = instance.api.GetPhysicalDeviceProperties2;
        instance.api.GetPhysicalDeviceProperties2 = show_limits;
        assert_ok(vulkan_probe_device(&instance, vulkan_device_of(gpu)->probe.handle, &probe));
        const weir_target target = vulkan_probe_target(&probe, weir_device_target(gpu));
        assert_int_equal(target.storage_bytes_max, limits[i].storage);
    }
}

// What the driver of a card with two heaps of its own says; its first heap is full on request.
static struct {
    PFN_vkGetBufferMemoryRequirements ask;
    PFN_vkAllocateMemory allocate;
    bool full;
    uint32_t tries;
    uint32_t type; // which the real device has, allows and maps
} driver;

static void VKAPI_PTR ask_requirements(VkDevice device, VkBuffer buffer,
                                       VkMemoryRequirements* needed) {
    driver.ask(device, buffer, needed);
    driver.type = vulkan_memory_type(&vulkan_device_of(gpu)->probe, VULKAN_PLACE_SHARED,
                                     needed->memoryTypeBits);
    needed->memoryTypeBits = 3;
}

static VkResult VKAPI_PTR allocate_from(VkDevice device, const VkMemoryAllocateInfo* info,
                                        const VkAllocationCallbacks* callbacks,
                                        VkDeviceMemory* memory) {
    VkMemoryAllocateInfo real = *info;
    driver.tries++;
    if (driver.full && info->memoryTypeIndex == 0) {
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    }
    real.memoryTypeIndex = driver.type;
    return driver.allocate(device, &real, callbacks, memory);
}

static void a_full_heap_that_the_host_maps_leaves_the_other_to_kernels(void** state) {
    (void)state;
    static const card_memory two_heaps = {
        .heaps = {8 * GIB, 8 * GIB}, .local = 3, .types = {{LOCAL | VISIBLE, 0}, {LOCAL, 1}}};
    weir_device* base = open_vulkan(NULL);
    vulkan_device* device = vulkan_device_of(base);
    list_memory(&two_heaps, &device->probe.memory);
    driver.ask = device->instance.api.GetBufferMemoryRequirements;
    driver.allocate = device->instance.api.AllocateMemory;
    device->instance.api.GetBufferMemoryRequirements = ask_requirements;
    device->instance.api.AllocateMemory = allocate_from;
    const weir_storage_desc desc = {.byte_size = 65536, .for_kernels = true};
    const uint64_t before = atomic_load(&device->used[0]);
    for (int full = 0; full < 2; full++) {
        weir_storage* storage = NULL;
        driver.full = full == 1;
        driver.tries = 0;
        assert_ok(weir_storage_allocate(base, &desc, &storage));
        const vulkan_memory* memory = &((const vulkan_storage*)storage)->parts[0];
        assert_int_equal(driver.tries, 1 + full);
        assert_int_equal(memory->heap, full);
        assert_int_equal(atomic_load(&device->used[full]) - (full ? 0 : before), 65536);
        assert_true((weir_storage_host_pointer(storage) == NULL) == driver.full);
        weir_storage_release(storage);
        assert_int_equal(atomic_load(&device->used[0]), before);
        assert_int_equal(atomic_load(&device->used[1]), 0);
    }
    device->instance.api.AllocateMemory = driver.allocate;
    weir_device_destroy(base);
}

static void arenas_and_shadows_are_reached_by_copies(void** state) {
    (void)state;
    weir_device* device = open_vulkan_with(&hidden);
    const weir_plan_buffer buffers[] = {{.byte_size = 4096}, {.byte_size = 1000}};
    const weir_plan_problem problem = {.buffers = buffers, .buffer_count = 2, .alignment = 256};
    weir_plan* plan = NULL;
    weir_arena* arena = NULL;
    uint8_t bytes[4096];
    uint8_t back[4096] = {0};
    for (int i = 0; i < 4096; i++) {
        bytes[i] = (uint8_t)(i * 7 % 251);
    }
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    assert_ok(weir_arena_create(device, plan, &arena));
    assert_null(weir_storage_host_pointer(weir_arena_storage(arena)));
    assert_ok(weir_arena_write_bytes(arena, 0, 0, bytes, 4096));
    assert_ok(weir_arena_write_bytes(arena, 1, 10, bytes, 900));
    assert_ok(weir_arena_read_bytes(arena, 0, 0, back, 4096));
    assert_memory_equal(back, bytes, 4096);
    assert_ok(weir_arena_read_bytes(arena, 1, 10, back, 900));
    assert_memory_equal(back, bytes, 900);
    assert_int_equal(weir_arena_counted(arena).direct_bytes, 0);
    assert_int_equal(weir_arena_counted(arena).staged_bytes, 2 * (4096 + 900));
    weir_arena_destroy(arena);
    weir_plan_destroy(plan);

    weir_storage* storage = allocate(device, 256, WEIR_FILL_NONE, false);
    float* numbers = weir_storage_host_pointer(storage); // what is not for kernels stays mapped
    assert_non_null(numbers);
    numbers[3] = 1.5f;
    const weir_view source = floats(storage, 0, 64);
    weir_shadow* shadow = NULL;
    weir_session* session = NULL;
    weir_view halves;
    uint16_t half = 0;
    assert_ok(weir_shadow_create(&source, &shadow));
    weir_shadow_view(shadow, &halves);
    assert_null(weir_view_contents(&halves));
    assert_ok(weir_view_narrow(&halves, 0, 3, 1, &halves));
    assert_ok(weir_session_create(device, &session));
    assert_ok(weir_session_download(session, &halves, &half, sizeof half));
    assert_ok(weir_session_finish(session));
    assert_int_equal(half, 0x3E00); // 1.5
    weir_session_destroy(session);
    weir_shadow_destroy(shadow);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static PFN_vkWaitForFences wait_for_fences;

static VkResult VKAPI_PTR wait_late(VkDevice device, uint32_t count, const VkFence* fences,
                                    VkBool32 all, uint64_t timeout) {
    usleep(20000);
    return wait_for_fences(device, count, fences, all, timeout);
}

// Copies of the host are no passes that are in the way of a new length, however long they take.
static void nodes_take_lengths_while_the_copies_of_the_host_are_under_way(void** state) {
    (void)state;
    weir_device* device = open_vulkan_with(&hidden);
    vulkan_api* api = &vulkan_device_of(device)->instance.api;
    const weir_plan_buffer buffers[] = {{.byte_size = 4096}, {.byte_size = 4096}};
    const weir_plan_problem problem = {.buffers = buffers, .buffer_count = 2, .alignment = 256};
    weir_plan* plan = NULL;
    weir_arena* arena = NULL;
    uint8_t bytes[4096] = {1, 2, 3};
    uint8_t back[4096] = {0};
    wait_for_fences = api->WaitForFences;
    api->WaitForFences = wait_late;
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    assert_ok(weir_arena_create(device, plan, &arena));
    assert_ok(weir_arena_write_bytes(arena, 0, 0, bytes, 4096));
    assert_ok(weir_arena_write_bytes(arena, 1, 0, bytes, 4096));
    assert_false(weir_device_is_idle(device));
    assert_ok(weir_arena_set_length(arena, 0, 8)); // not of what was written last
    assert_ok(weir_arena_set_length(arena, 1, 8));
    assert_ok(weir_arena_read_bytes(arena, 0, 0, back, 8));
    assert_memory_equal(back, bytes, 8);
    weir_arena_destroy(arena);
    weir_plan_destroy(plan);
    weir_device_destroy(device);
}

// Memory for three of four storages: none is kept.
static void a_state_that_finds_no_room_for_all_storages_takes_none(void** state) {
    (void)state;
    const weir_vulkan_options options = {.memory_bytes_max = MIB, .allocation_bytes_max = MIB / 3};
    weir_device* device = open_vulkan_with(&options);
    const uint32_t heap = vulkan_device_of(device)->heap;
    const uint64_t used = atomic_load(&vulkan_device_of(device)->used[heap]);
    weir_state_desc desc = {.dtype = WEIR_DTYPE_U8,
                            .row = weir_shape_make(1, (const int64_t[]){1024}),
                            .row_count_max = 300,
                            .slot_count = 4,
                            .name = "rows"};
    weir_state* rows = NULL;
    assert_status(weir_state_create(device, &desc, &rows), WEIR_DEVICE_OUT_OF_MEMORY);
    assert_message_has("pass the limit of 1048576 by ");
    assert_null(rows);
    assert_int_equal(atomic_load(&vulkan_device_of(device)->used[heap]), used);
    desc.slot_count = 2;
    assert_ok(weir_state_create(device, &desc, &rows));
    assert_int_equal(weir_state_storage_count(rows), 2);
    weir_state_destroy(rows);
    desc.row_count_max = 400;
    rows = NULL;
    assert_status(weir_state_create(device, &desc, &rows), WEIR_DEVICE_OUT_OF_MEMORY);
    assert_message_has(
        "a slot of rows takes 409600 bytes, the largest storage of vulkan has 327680");
    assert_null(rows);
    weir_device_destroy(device);
}

static void rows_of_states_are_reached_by_copies(void** state) {
    (void)state;
    weir_device* device = open_vulkan_with(&hidden);
    const weir_state_desc desc = {.dtype = WEIR_DTYPE_F32,
                                  .row = weir_shape_make(1, (const int64_t[]){16}),
                                  .row_count_max = 8,
                                  .slot_count = 2,
                                  .name = "rows"};
    weir_state* rows = NULL;
    weir_session* session = NULL;
    weir_view view;
    float numbers[32];
    float back[32] = {0};
    for (int i = 0; i < 32; i++) {
        numbers[i] = (float)i;
    }
    assert_ok(weir_state_create(device, &desc, &rows));
    assert_ok(weir_state_grow(rows, 5));
    assert_ok(weir_state_rows(rows, 1, 3, 2, &view));
    assert_null(weir_view_contents(&view));
    const void* elements = NULL;
    int64_t count = 0;
    assert_status(weir_view_read(&view, WEIR_DTYPE_F32, &elements, &count), WEIR_UNSUPPORTED);
    assert_message_has("is out of reach of the host");
    assert_ok(weir_session_create(device, &session));
    assert_ok(weir_session_upload(session, numbers, sizeof numbers, &view));
    assert_ok(weir_session_download(session, &view, back, sizeof back));
    assert_ok(weir_session_finish(session));
    assert_memory_equal(back, numbers, sizeof numbers);
    weir_session_destroy(session);
    weir_state_destroy(rows);
    weir_device_destroy(device);
}

#define ALLOCATIONS_MAX 256

// Every piece of memory that the driver gave, and whether it was mapped. Several threads copy a
// file, each by memory of its own.
static struct {
    pthread_mutex_t lock; // of what follows
    PFN_vkAllocateMemory allocate;
    PFN_vkMapMemory map;
    VkDeviceMemory memory[ALLOCATIONS_MAX];
    uint64_t byte_size[ALLOCATIONS_MAX];
    bool mapped[ALLOCATIONS_MAX];
    uint32_t count;
} given = {.lock = PTHREAD_MUTEX_INITIALIZER};

static VkResult VKAPI_PTR note_allocation(VkDevice device, const VkMemoryAllocateInfo* info,
                                          const VkAllocationCallbacks* callbacks,
                                          VkDeviceMemory* memory) {
    const VkResult result = given.allocate(device, info, callbacks, memory);
    pthread_mutex_lock(&given.lock);
    assert_true(result == VK_SUCCESS && given.count < ALLOCATIONS_MAX);
    given.memory[given.count] = *memory;
    given.mapped[given.count] = false;
    given.byte_size[given.count++] = info->allocationSize;
    pthread_mutex_unlock(&given.lock);
    return result;
}

static VkResult VKAPI_PTR note_mapping(VkDevice device, VkDeviceMemory memory, VkDeviceSize offset,
                                       VkDeviceSize size, VkMemoryMapFlags flags, void** bytes) {
    pthread_mutex_lock(&given.lock);
    for (uint32_t i = given.count; i > 0; i--) { // the last one of this handle
        if (given.memory[i - 1] == memory) {
            given.mapped[i - 1] = true;
            break;
        }
    }
    pthread_mutex_unlock(&given.lock);
    return given.map(device, memory, offset, size, flags, bytes);
}

// How many pieces that were mapped, or not, have this size, which drivers round up.
static uint32_t pieces_of(uint64_t byte_size, bool mapped) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < given.count; i++) {
        count += given.mapped[i] == mapped && given.byte_size[i] >= byte_size &&
                 given.byte_size[i] < byte_size + 256;
    }
    return count;
}

#define FED_MAX 44

// A text on a device: a prompt, then single tokens.
typedef struct text_options {
    weir_context_options context;
    uint32_t prompt, fed;       // tokens
    uint64_t storage_bytes_max; // of a device whose arena and caches lie in several pieces
} text_options;

// Feeds a text and returns the logits [1 + fed - prompt, vocabulary]; `f` is left open.
static float* feed_text(fixture* f, const char* path, const text_options* options) {
    vulkan_api* api = &vulkan_device_of(f->device)->instance.api;
    given.count = 0;
    given.allocate = api->AllocateMemory;
    given.map = api->MapMemory;
    api->AllocateMemory = note_allocation;
    api->MapMemory = note_mapping;
    assert_ok(fill_fixture(f, NULL, path, 0.0f, &options->context));
    api->AllocateMemory = given.allocate;
    api->MapMemory = given.map;
    const size_t width = weir_model_params(f->model)->vocabulary;
    float* logits = malloc((1 + options->fed - options->prompt) * width * sizeof *logits);
    uint32_t ids[FED_MAX];
    assert_non_null(logits);
    for (uint32_t i = 0; i < options->fed; i++) {
        ids[i] = (1 + 5 * i) % (uint32_t)width;
    }
    assert_ok(weir_context_feed(f->context, ids, options->prompt, WEIR_OUTPUT_LAST));
    memcpy(logits, weir_context_logits(f->context, 0), width * sizeof *logits);
    for (uint32_t i = options->prompt; i < options->fed; i++) {
        assert_ok(weir_context_feed(f->context, &ids[i], 1, WEIR_OUTPUT_LAST));
        memcpy(logits + (i + 1 - options->prompt) * width, weir_context_logits(f->context, 0),
               width * sizeof *logits);
    }
    return logits;
}

// Whether each piece of arena and caches is mapped, or none is.
static void check_pieces(const fixture* f, bool mapped) {
    const weir_state* cache = weir_context_cache(f->context);
    const weir_schedule* prefill = weir_context_schedule(f->context, WEIR_PHASE_PREFILL);
    uint32_t count = 0;
    const weir_plan_entry* entries = weir_plan_entries(weir_schedule_plan(prefill), &count);
    for (uint32_t block = 0; block < weir_schedule_report_of(prefill)->arena_blocks; block++) {
        uint64_t end = 0; // the plan of single rows needs less of each block
        for (uint32_t i = 0; i < count; i++) {
            const uint64_t last = entries[i].byte_offset + entries[i].byte_size;
            end = entries[i].block == block && last > end ? last : end;
        }
        assert_true(pieces_of(end, mapped) > 0);
        assert_int_equal(pieces_of(end, !mapped), 0);
    }
    for (uint32_t slot = 0; slot < 2 * weir_model_params(f->model)->blocks; slot++) {
        const weir_storage* storage = weir_state_storage(cache, slot);
        assert_int_equal(weir_storage_host_pointer(storage) != NULL, mapped);
        assert_true(pieces_of(weir_storage_byte_size(storage), mapped) > 0);
        assert_int_equal(pieces_of(weir_storage_byte_size(storage), !mapped), 0);
    }
}

// Saves the text of one context and goes on with it in the other, where it has the same rows.
static void check_snapshots(const fixture* from, const fixture* to) {
    const uint64_t byte_size = weir_snapshot_bytes(from->context);
    uint8_t* bytes = malloc(2 * byte_size);
    assert_non_null(bytes);
    assert_int_equal(weir_snapshot_bytes(to->context), byte_size);
    assert_ok(weir_snapshot_save(from->context, bytes, byte_size));
    assert_ok(weir_context_rewind(to->context, 0));
    assert_ok(weir_snapshot_load(to->context, bytes, byte_size));
    assert_ok(weir_snapshot_save(to->context, bytes + byte_size, byte_size));
    assert_memory_equal(bytes, bytes + byte_size, byte_size);
    free(bytes);
    const size_t width = weir_model_params(from->model)->vocabulary;
    assert_ok(weir_context_feed(from->context, (uint32_t[]){3}, 1, WEIR_OUTPUT_LAST));
    assert_ok(weir_context_feed(to->context, (uint32_t[]){3}, 1, WEIR_OUTPUT_LAST));
    assert_memory_equal(weir_context_logits(from->context, 0), weir_context_logits(to->context, 0),
                        width * sizeof(float));
}

// The same bits with arena and caches in memory that the host does not reach, also in several
// pieces, as with all of it mapped; and where they lie.
static void check_model(const char* path, const text_options* options) {
    const weir_vulkan_options card = {.hides_memory = true,
                                      .copies_files = true,
                                      .allocation_bytes_max = options->storage_bytes_max};
    fixture f[2] = {{.device = gpu}, {.device = open_vulkan_with(&card)}};
    float* logits[2];
    for (int i = 0; i < 2; i++) {
        logits[i] = feed_text(&f[i], path, options);
        if (i == 1 || vulkan_device_of(gpu)->probe.unified) {
            check_pieces(&f[i], i == 0);
        }
        const bool several = i == 1 && options->storage_bytes_max > 0;
        const weir_schedule* prefill = weir_context_schedule(f[i].context, WEIR_PHASE_PREFILL);
        assert_int_equal(weir_state_storage_count(weir_context_cache(f[i].context)) > 1, several);
        assert_int_equal(weir_schedule_report_of(prefill)->arena_blocks > 1, several);
    }
    const size_t width = weir_model_params(f[0].model)->vocabulary;
    assert_memory_equal(logits[0], logits[1],
                        (1 + options->fed - options->prompt) * width * sizeof(float));
    check_snapshots(&f[1], &f[0]);
    check_snapshots(&f[0], &f[1]);
    for (int i = 0; i < 2; i++) {
        weir_device* device = f[i].device;
        f[i].device = NULL; // `gpu` stays
        free(logits[i]);
        teardown(&f[i]);
        weir_device_destroy(i == 0 ? NULL : device);
    }
}

static void the_tiny_model_runs_in_memory_that_the_host_does_not_map(void** state) {
    (void)state;
    const text_options options = {
        .context = {.context_length = 48, .prefill_rows = 8}, .prompt = 21, .fed = 30};
    char path[64] = "";
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    write_file(path, bytes, byte_size);
    free(bytes);
    check_model(path, &options);
    remove_file(path);
}

// With allocations of at most 256 KiB the arena has two blocks, the cache two storages, and the
// weights lie in parts.
static void the_story_model_runs_in_several_pieces_that_the_host_does_not_map(void** state) {
    (void)state;
    const text_options options = {.context = {.context_length = 512, .prefill_rows = 256},
                                  .prompt = 40,
                                  .fed = FED_MAX,
                                  .storage_bytes_max = 256 << 10};
    char path[512];
    if (!shared_data_path("stories260K/stories260K-f32.gguf", path, sizeof path)) {
        print_message("skipped: shared data stories260K is not here\n");
        skip();
    }
    check_model(path, &options);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_for_kernels_lies_in_memory_of_the_device_on_every_card),
        cmocka_unit_test(a_full_heap_that_the_host_maps_leaves_the_other_to_kernels),
        cmocka_unit_test(storages_fit_buffers_and_allocations),
        cmocka_unit_test(nodes_take_lengths_while_the_copies_of_the_host_are_under_way),
        cmocka_unit_test(a_state_that_finds_no_room_for_all_storages_takes_none),
        cmocka_unit_test(arenas_and_shadows_are_reached_by_copies),
        cmocka_unit_test(rows_of_states_are_reached_by_copies),
        cmocka_unit_test(the_tiny_model_runs_in_memory_that_the_host_does_not_map),
        cmocka_unit_test(the_story_model_runs_in_several_pieces_that_the_host_does_not_map),
    };
    return cmocka_run_group_tests(tests, open_gpu, close_gpu);
}
