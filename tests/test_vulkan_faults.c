// Whole cycles on a Vulkan device, from opening it to closing it, in which each call to the driver
// fails once in turn: out of memory first, then with a lost device. Each failure is a status with a
// message, or belongs to what can be done without; no object is left, and the next cycle works.
//
// So it is with what is asked of the system. A driver that cannot be loaded as often as that stays
// loaded, and the calls that load it do not fail. With WEIR_LONG every call fails, otherwise the
// first and the last of each function of the driver, and some of the others.
#include "testing_faults.h"
#include "testing_vulkan_faults.h"

#include <weir/weir.h>

#include "backends/vulkan/vulkan_device.h"
#include "llama_file.h"
#include "llm_fixture.h"

#define FLOATS 64
#define WRAPPED_BYTES 65536
#define VENDOR_NVIDIA 0x10DE
#define PIECE_BYTES 1024 // of arena and caches, which then lie in several

static const uint32_t scale_words[] = {
#include "shaders/scale.inc"
};

typedef struct scale_constants {
    float factor;
    uint32_t count;
} scale_constants;

static char folder[32];
static char model_path[64], cache_path[64];
static bool every; // call fails
static bool keeps_pipelines = true;
static bool keeps_driver;

// The next cycle makes an instance, too, where the driver stands that.
static void end_cycle(void) {
    if (!keeps_driver) {
        assert_ok(weir_vulkan_unload());
    }
    assert_int_equal(atomic_load(&driver.objects), keeps_driver ? 1 : 0);
}

static weir_status open_vulkan(const weir_allocator* allocator, const weir_vulkan_options* options,
                               weir_device** device) {
    const weir_device_desc desc = {.name = "vulkan",
                                   .allocator = *allocator,
                                   .vulkan = options,
                                   .cache_path = keeps_pipelines ? cache_path : NULL};
    unlink(cache_path); // pipelines are compiled, and kept at the end
    return weir_device_create(&desc, device);
}

// What a cycle of storages and a session makes; what was not made is NULL.
typedef struct memories {
    weir_device* device;
    weir_storage *shared, *hidden, *mapped, *wrapped, *exported, *imported;
    weir_session* session;
    int handle;
} memories;

static weir_status make_memories(memories* m) {
    static _Alignas(WRAPPED_BYTES) float floats[WRAPPED_BYTES / sizeof(float)];
    const weir_storage_desc shared = {.byte_size = 4096, .fill = WEIR_FILL_ZERO};
    const weir_storage_desc hidden = {
        .byte_size = 4096, .fill = WEIR_FILL_POISON, .device_only = true};
    const weir_storage_wrap_desc wrap = {.pointer = floats, .byte_size = sizeof floats};
    const weir_storage_map_desc map = {.path = model_path};
    floats[0] = 3.0f;
    WEIR_TRY(weir_storage_allocate(m->device, &shared, &m->shared));
    WEIR_TRY(weir_storage_allocate(m->device, &hidden, &m->hidden));
    WEIR_TRY(weir_storage_map(m->device, &map, &m->mapped));
    WEIR_TRY(weir_storage_wrap(m->device, &wrap, &m->wrapped));
    const weir_status status =
        weir_vulkan_storage_export(m->device, 4096, "shared", &m->exported, &m->handle);
    if (status == WEIR_UNSUPPORTED && strstr(weir_last_error(), "by file descriptors")) {
        return WEIR_OK; // some devices share nothing
    }
    WEIR_TRY(status);
    const int other = dup(m->handle);
    const weir_status imported =
        weir_vulkan_storage_import(m->device, other, 4096, "shared", &m->imported);
    if (imported != WEIR_OK) {
        close(other);
    }
    return imported;
}

static weir_status view_floats(weir_storage* storage, weir_view* view) {
    return weir_view_make(storage, 0, WEIR_DTYPE_F32, &(weir_shape){1, {FLOATS}}, view);
}

// wrapped -> scale -> hidden -> shared -> host, with times taken.
static weir_status run_session(memories* m) {
    const float two = 2.0f;
    const scale_constants constants = {2.0f, FLOATS};
    const weir_kernel_code code = {
        .words = scale_words, .byte_size = sizeof scale_words, .groups = {1}};
    float got[FLOATS] = {0};
    weir_view from, through, to, read;
    weir_ticket ticket;
    weir_timing timings[8];
    uint32_t count = 0;
    WEIR_TRY(view_floats(m->wrapped, &from));
    WEIR_TRY(view_floats(m->hidden, &through));
    WEIR_TRY(view_floats(m->shared, &to));
    WEIR_TRY(view_floats(m->mapped, &read));
    const weir_operand operands[] = {
        {from, WEIR_ACCESS_READ}, {through, WEIR_ACCESS_WRITE}, {read, WEIR_ACCESS_READ}};
    const weir_dispatch_desc desc = {.name = "scale",
                                     .code = &code,
                                     .operands = operands,
                                     .operand_count = 2,
                                     .constants = &constants,
                                     .constants_size = sizeof constants};
    WEIR_TRY(weir_session_create(m->device, &m->session));
    weir_session_set_timing(m->session, true);
    WEIR_TRY(weir_session_fill(m->session, &to, &two, sizeof two));
    WEIR_TRY(weir_session_dispatch(m->session, &desc, NULL));
    WEIR_TRY(weir_session_copy(m->session, &through, &to));
    WEIR_TRY(weir_session_download(m->session, &to, got, sizeof got));
    WEIR_TRY(weir_session_commit(m->session, &ticket));
    WEIR_TRY(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    WEIR_TRY(weir_ticket_timings(ticket, timings, 8, &count));
    return got[0] == 6.0f ? WEIR_OK : WEIR_FAIL(WEIR_INTERNAL, "%g", (double)got[0]);
}

static weir_status session_cycle(void* context, const weir_allocator* allocator) {
    (void)context;
    memories m = {.handle = -1};
    weir_status status = open_vulkan(allocator, NULL, &m.device);
    status = status == WEIR_OK ? make_memories(&m) : status;
    status = status == WEIR_OK ? run_session(&m) : status;
    weir_session_destroy(m.session);
    weir_storage_release(m.imported);
    weir_storage_release(m.exported);
    weir_storage_release(m.wrapped);
    weir_storage_release(m.mapped);
    weir_storage_release(m.hidden);
    weir_storage_release(m.shared);
    weir_device_destroy(m.device);
    if (m.handle >= 0) {
        close(m.handle);
    }
    end_cycle();
    return status;
}

static bool note_token(void* context, uint32_t id, const char* bytes, size_t length) {
    (void)bytes;
    (void)length;
    uint32_t* sum = context;
    *sum = *sum * 31 + id + 1;
    return true;
}

static weir_status speak(fixture* f, const weir_allocator* allocator) {
    static uint32_t first = 0; // what the first text said: all others say the same
    static const uint32_t prompt[] = {1, 4, 5, 6};
    uint32_t said = 0;
    const weir_generate_options options = {
        .max_tokens = 3, .ignore_end = true, .emit = note_token, .context = &said};
    const weir_context_options small = {.context_length = 16, .prefill_rows = 4};
    const weir_vulkan_options pieces = {.allocation_bytes_max = PIECE_BYTES};
    WEIR_TRY(open_vulkan(allocator, &pieces, &f->device));
    WEIR_TRY(fill_fixture(f, allocator, model_path, 0.0f, &small));
    assert_true(weir_state_storage_count(weir_context_cache(f->context)) > 1);
    assert_true(weir_schedule_report_of(weir_context_schedule(f->context, WEIR_PHASE_PREFILL))
                    ->arena_blocks > 1);
    WEIR_TRY(weir_generate(f->context, f->tokenizer, f->sampler, prompt, 4, &options, NULL));
    first = first == 0 ? said : first;
    return said == first ? WEIR_OK : WEIR_FAIL(WEIR_INTERNAL, "another text");
}

static weir_status speak_cycle(void* context, const weir_allocator* allocator) {
    (void)context;
    fixture f = {0};
    const weir_status status = speak(&f, allocator);
    teardown(&f);
    end_cycle();
    return status;
}

// Runs a cycle in which driver call `step` gives `result` (SIZE_MAX: none does).
static weir_status run_driver_cycle(fault_cycle_fn cycle, size_t step, VkResult result) {
    bool failed = false;
    atomic_store(&driver.calls, 0);
    atomic_store(&driver.failed, NULL);
    driver.fail_at = step;
    driver.result = result;
    const weir_status status = run_cycle(cycle, NULL, FAULT_ALLOCATION, SIZE_MAX, &failed);
    driver.fail_at = SIZE_MAX;
    return status;
}

// Calls without which the work is done all the same: pipelines are not kept, times are not known,
// memory of the host is copied where it cannot be imported.
static bool is_dispensable(const char* call) {
    static const char* const calls[] = {
        "vkGetPipelineCacheData", "vkGetQueryPoolResults", "vkGetMemoryHostPointerPropertiesEXT",
        "vkCreateBuffer",         "vkAllocateMemory",      "vkBindBufferMemory"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (strcmp(calls[i], call) == 0) {
            return true;
        }
    }
    return false;
}

// Returns whether the work was done all the same. Threads may call in another order than before, so
// that the number of the last calls is not always reached.
static bool fail_once(fault_cycle_fn cycle, size_t step, VkResult result) {
    const weir_status status = run_driver_cycle(cycle, step, result);
    const char* call = atomic_load(&driver.failed);
    if (status == WEIR_OK && call && !is_dispensable(call)) {
        fail_msg("%s (call %zu) failed, and the work is said to be done", call, step);
    } else if (status != WEIR_OK && (!call || status == WEIR_INTERNAL || !*weir_last_error())) {
        fail_msg("%s (call %zu) gave '%s' (%s)", call ? call : "nothing", step,
                 weir_status_text(status), weir_last_error());
    }
    return status == WEIR_OK;
}

static bool is_first(const char* const* names, size_t step) {
    for (size_t i = 0; i < step; i++) {
        if (names[i] == names[step]) {
            return false;
        }
    }
    return true;
}

static bool is_last(const char* const* names, size_t step, size_t count) {
    for (size_t i = step + 1; i < count; i++) {
        if (names[i] == names[step]) {
            return false;
        }
    }
    return true;
}

// A device that is not there yet cannot be lost; later the first call of each function is enough.
static bool is_chosen(const char* const* names, size_t step, size_t count, VkResult result) {
    if (result != VK_ERROR_DEVICE_LOST) {
        return every || is_first(names, step) || is_last(names, step, count);
    }
    for (size_t i = 0; i < step; i++) {
        if (strcmp(names[i], "vkCreateDevice") == 0) {
            return every || is_first(names, step);
        }
    }
    return false;
}

static void fail_calls(fault_cycle_fn cycle, VkResult result) {
    static const char* names[DRIVER_NAMES_MAX];
    assert_ok(run_driver_cycle(cycle, SIZE_MAX, result));
    const size_t count = atomic_load(&driver.calls);
    assert_in_range(count, 50, DRIVER_NAMES_MAX);
    memcpy(names, driver.names, sizeof names);
    uint32_t harmless = 0;
    uint32_t failures = 0;
    for (size_t step = 0; step < count; step++) {
        if (is_chosen(names, step, count, result)) {
            harmless += fail_once(cycle, step, result);
            failures++;
        }
        if (every) {
            assert_ok(run_driver_cycle(cycle, SIZE_MAX, result));
        }
    }
    assert_ok(run_driver_cycle(cycle, SIZE_MAX, result));
    print_message("%u of %zu calls failed, %u of them without harm\n", failures, count, harmless);
    assert_true(failures > harmless);
}

static void sessions_survive_a_driver_without_memory(void** state) {
    (void)state;
    fail_calls(session_cycle, VK_ERROR_OUT_OF_DEVICE_MEMORY);
}

static void sessions_survive_a_lost_device(void** state) {
    (void)state;
    fail_calls(session_cycle, VK_ERROR_DEVICE_LOST);
}

static void texts_survive_a_driver_without_memory(void** state) {
    (void)state;
    fail_calls(speak_cycle, VK_ERROR_OUT_OF_DEVICE_MEMORY);
}

static void texts_survive_a_lost_device(void** state) {
    (void)state;
    fail_calls(speak_cycle, VK_ERROR_DEVICE_LOST);
}

// Without the file of pipelines: to keep them is tried only, so that its allocations do not matter.
static void fail_system(fault_cycle_fn cycle, size_t stride) {
    size_t failures[FAULT_KINDS];
    keeps_pipelines = false;
    faults.stride = every ? 1 : stride;
    fail_each_in_turn(cycle, NULL, failures);
    keeps_pipelines = true;
    print_failures(failures);
    assert_true(failures[FAULT_ALLOCATION] > 0);
    assert_true(failures[FAULT_THREAD] > 0); // the one that waits for fences
}

static void sessions_survive_each_failure_of_the_system(void** state) {
    (void)state;
    fail_system(session_cycle, 11);
}

static void texts_survive_each_failure_of_the_system(void** state) {
    (void)state;
    fail_system(speak_cycle, 61);
}

// The driver of NVIDIA gives up after some thirty times (docs/vulkan.md).
static bool is_loaded_few_times(void) {
    weir_device* device = NULL;
    if (weir_device_create(&(weir_device_desc){.name = "vulkan"}, &device) != WEIR_OK) {
        return false;
    }
    const bool found = vulkan_device_of(device)->probe.vendor_id == VENDOR_NVIDIA;
    weir_device_destroy(device);
    return found;
}

static int open_files(void** state) {
    (void)state;
    every = getenv("WEIR_LONG") != NULL;
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    write_file(model_path, bytes, byte_size);
    free(bytes);
    snprintf(folder, sizeof folder, "/tmp/weir-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(cache_path, sizeof cache_path, "%s/pipelines", folder);
    keeps_driver = is_loaded_few_times();
    const weir_status status = run_driver_cycle(session_cycle, SIZE_MAX, VK_SUCCESS);
    if (status == WEIR_UNSUPPORTED || status == WEIR_NOT_FOUND) {
        fprintf(stderr, "skipped: %s\n", weir_last_error());
        exit(SKIPPED);
    }
    return status == WEIR_OK ? 0 : -1;
}

static int close_files(void** state) {
    (void)state;
    remove_file(model_path);
    unlink(cache_path);
    rmdir(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_survive_a_driver_without_memory),
        cmocka_unit_test(sessions_survive_a_lost_device),
        cmocka_unit_test(texts_survive_a_driver_without_memory),
        cmocka_unit_test(texts_survive_a_lost_device),
        cmocka_unit_test(sessions_survive_each_failure_of_the_system),
        cmocka_unit_test(texts_survive_each_failure_of_the_system),
    };
    return cmocka_run_group_tests(tests, open_files, close_files);
}
