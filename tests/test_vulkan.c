// The Vulkan device: what it says where it cannot be had, its memory, its limits, code of the
// caller. What holds on any device is in other programs, which run on this one too.
#include "vulkan_testing.h"

#include <math.h>
#include <unistd.h>
#include <weir/program.h>
#include <weir/schedule.h>
#include <weir/shadow.h>
#include <weir/vulkan.h>

#include "backends/vulkan/vulkan_target.h"
#include "base/clock.h"

static void what_cannot_be_had_is_said(void** state) {
    (void)state;
    weir_device* device = NULL;
    assert_status(weir_device_create(&(weir_device_desc){.name = "vulkan:99"}, &device),
                  WEIR_NOT_FOUND);
    assert_message_has("there are: 0 ");
    assert_status(weir_device_create(&(weir_device_desc){.name = "vulkan:abacus"}, &device),
                  WEIR_NOT_FOUND);
    assert_message_has("abacus");
    assert_null(device);
}

static void check_lack(const vulkan_probe* probe, const char* message) {
    assert_status(vulkan_probe_check(probe), WEIR_UNSUPPORTED);
    assert_message_has(message);
    assert_message_has(probe->name);
}

static void a_device_that_lacks_the_base_says_what(void** state) {
    (void)state;
    const vulkan_probe whole = vulkan_device_of(gpu)->probe;
    vulkan_probe probe = whole;
    assert_ok(vulkan_probe_check(&probe));
#define CHECK_LACK(field, number, message)                                                         \
    probe = whole;                                                                                 \
    probe.field = (number);                                                                        \
    check_lack(&probe, message)
    CHECK_LACK(api_version, VK_API_VERSION_1_1, "lacks Vulkan 1.2");
    CHECK_LACK(synchronization2, false, "lacks synchronization2");
    CHECK_LACK(synchronization2_feature, false, "lacks synchronization2");
    CHECK_LACK(storage16, false, "lacks 16-bit storage");
    CHECK_LACK(storage8, false, "lacks 8-bit storage");
    CHECK_LACK(queue_family, VULKAN_NO_QUEUE, "a queue that computes");
    CHECK_LACK(memory_bytes, 0, "memory of its own");
    CHECK_LACK(invocations_max, 128, "maxComputeWorkGroupInvocations is 128, expected 256");
    CHECK_LACK(shared_bytes_max, 16384, "maxComputeSharedMemorySize is 16384, expected 32768");
    CHECK_LACK(bindings_max, 7, "maxPerStageDescriptorStorageBuffers is 7, expected 8");
#undef CHECK_LACK
}

// What has just as much as the base passes, and its kernels fit.
static void the_least_that_is_promised_is_enough(void** state) {
    (void)state;
    vulkan_probe probe = vulkan_device_of(gpu)->probe;
    probe.invocations_max = 256;
    probe.shared_bytes_max = 32768;
    probe.bindings_max = 8;
    assert_ok(vulkan_probe_check(&probe));
    for (uint32_t i = 0; i < VULKAN_SHADER_COUNT; i++) { // the judge executes nothing
        const bool runs = i != VULKAN_SHADER_shadow;
        assert_true(!runs || vulkan_shader_codes[i].binding_count <= 8);
    }
    assert_true(vulkan_tuning_bytes(&vulkan_device_of(gpu)->tuning) <= 32768);
}

static void devices_are_found_by_index_and_by_name(void** state) {
    (void)state;
    weir_device* device = NULL;
    char name[32];
    assert_ok(weir_device_create(&(weir_device_desc){.name = "vulkan:0"}, &device));
    weir_device_destroy(device);
    snprintf(name, sizeof name, "vulkan:%.6s", vulkan_device_of(gpu)->probe.name);
    assert_ok(weir_device_create(&(weir_device_desc){.name = name}, &device));
    assert_string_equal(weir_device_target(device)->name, "vulkan");
    weir_device_destroy(device);
}

static void planning_needs_no_device(void** state) {
    (void)state;
    weir_target target;
    test_setting drivers = test_setting_begin("VK_DRIVER_FILES", "/nowhere");
    assert_ok(weir_target_find("vulkan", &target));
    assert_ok(weir_target_find("vulkan:3", &target));
    test_setting_end(&drivers);
    assert_int_equal(target.waits, WEIR_WAIT_GROUPS);
    assert_true(target.kernels == weir_device_target(gpu)->kernels);
    assert_true(target.binding_bytes_max <= weir_device_target(gpu)->binding_bytes_max);
}

static void code_of_the_caller_runs_in_the_order_of_its_accesses(void** state) {
    (void)state;
    weir_storage* storage = allocate(gpu, 4096, WEIR_FILL_ZERO, false);
    const weir_view a = floats(storage, 0, 100);
    const weir_view b = floats(storage, 1024, 100);
    const weir_view c = floats(storage, 2048, 100);
    float* numbers = weir_view_contents(&a);
    for (int i = 0; i < 100; i++) {
        numbers[i] = (float)i;
    }
    weir_session* session = NULL;
    weir_verdict verdict;
    assert_ok(weir_session_create(gpu, &session));
    assert_ok(scale(session, &a, &b, 2.0f, &verdict));
    assert_int_equal(verdict.hazard_count, 0);
    assert_ok(scale(session, &b, &c, 3.0f, &verdict));
    assert_int_equal(verdict.hazard_count, 1);
    assert_int_equal(verdict.hazards[0].kind, WEIR_HAZARD_RAW);
    assert_ok(scale(session, &c, &a, 1.0f, NULL));
    assert_ok(weir_session_finish(session));
    assert_int_equal(weir_session_counters(session)->waits, 2);
    assert_int_equal(weir_session_counters(session)->submits, 1);
    for (int i = 0; i < 100; i++) {
        assert_true(numbers[i] == 6.0f * (float)i);
    }
    weir_session_destroy(session);
    weir_storage_release(storage);
}

static void code_that_cannot_run_is_refused(void** state) {
    (void)state;
    weir_storage* storage = allocate(gpu, 4096, WEIR_FILL_ZERO, false);
    const weir_view a = floats(storage, 0, 10);
    const weir_view odd = floats(storage, 2052, 10);
    weir_session* session = NULL;
    weir_ticket ticket;
    assert_ok(weir_session_create(gpu, &session));
    assert_ok(scale(session, &a, &odd, 2.0f, NULL));
    assert_status(weir_session_commit(session, &ticket), WEIR_INVALID_ARGUMENT);
    assert_message_has("operand 1 begins 4 bytes behind");
    weir_session_destroy(session);

    assert_ok(weir_session_create(gpu, &session));
    const weir_operand operand = {a, WEIR_ACCESS_WRITE};
    uint8_t many[132] = {0};
    const weir_kernel_code code = {.words = scale_words, .byte_size = sizeof scale_words};
    weir_dispatch_desc desc = {.name = "large",
                               .code = &code,
                               .operands = &operand,
                               .operand_count = 1,
                               .constants = many,
                               .constants_size = sizeof many};
    assert_ok(weir_session_dispatch(session, &desc, NULL));
    assert_status(weir_session_commit(session, &ticket), WEIR_UNSUPPORTED);
    assert_message_has("132 bytes of constants");
    desc.code = NULL;
    assert_status(weir_session_dispatch(session, &desc, NULL), WEIR_INVALID_ARGUMENT);
    weir_session_destroy(session);
    weir_storage_release(storage);
}

// Refuses one dispatch of code with so many operands, all of the same bytes, and drops it.
static void check_code(weir_session* session, const weir_operand* operand, uint32_t count,
                       const weir_kernel_code* code, const char* message) {
    const weir_operand operands[] = {*operand, *operand, *operand};
    const weir_dispatch_desc desc = {
        .name = "wrong", .code = code, .operands = operands, .operand_count = count};
    weir_ticket ticket;
    assert_ok(weir_session_dispatch(session, &desc, NULL));
    assert_status(weir_session_commit(session, &ticket), WEIR_INVALID_ARGUMENT);
    assert_message_has("wrong: ");
    assert_message_has(message);
    weir_session_reset(session);
}

// No driver looks at bindings: code would read what is not bound.
static void code_that_binds_more_than_the_operands_is_refused(void** state) {
    (void)state;
    enum { WORDS = sizeof scale_words / sizeof *scale_words, DECORATE = 4 << 16 | 71 };
    weir_storage* storage = allocate(gpu, 4096, WEIR_FILL_ZERO, false);
    const weir_operand operand = {floats(storage, 0, 10), WEIR_ACCESS_READ};
    uint32_t changed[WORDS];
    weir_kernel_code code = {.words = changed, .byte_size = sizeof changed};
    weir_session* session = NULL;
    memcpy(changed, scale_words, sizeof changed);
    assert_ok(weir_session_create(gpu, &session));
    check_code(session, &operand, 1, &code, "binding 1; expected less than 1, the operands");
    check_code(session, &operand, 0, &code, "expected less than 0, the operands");
    for (size_t i = 0; i + 3 < WORDS; i++) {
        if (changed[i] == DECORATE && changed[i + 2] == 34) { // DescriptorSet
            changed[i + 3] = 1;
        }
    }
    check_code(session, &operand, 2, &code, "in set 1");
    memcpy(changed, scale_words, sizeof changed);
    code.entry = "mai";
    check_code(session, &operand, 2, &code, "without an entry \"mai\"");
    code.entry = "main_of_another";
    check_code(session, &operand, 2, &code, "without an entry");
    code.entry = NULL;
    code.byte_size -= sizeof *changed; // cut within its last instruction or before it
    changed[WORDS - 2] = 0x00030000;
    check_code(session, &operand, 2, &code, "has 3 words; 1 are left");
    changed[5] &= 0xFFFF;
    check_code(session, &operand, 2, &code, "at word 5 has 0 words");
    weir_session_destroy(session);
    weir_storage_release(storage);
}

// The message has the dispatch, and the session goes on once what is wrong was dropped.
static void code_that_is_none_is_refused_by_name(void** state) {
    (void)state;
    static const uint32_t words[2] = {0x03022307, 0x00010000}; // of the other byte order
    const weir_kernel_code cases[] = {
        {.words = words, .byte_size = sizeof words},
        {.words = scale_words, .byte_size = sizeof scale_words - 1},
    };
    weir_session* session = NULL;
    weir_ticket ticket;
    assert_ok(weir_session_create(gpu, &session));
    for (size_t i = 0; i < 2; i++) {
        const weir_dispatch_desc desc = {.name = "junk", .code = &cases[i]};
        assert_ok(weir_session_dispatch(session, &desc, NULL));
        assert_status(weir_session_commit(session, &ticket), WEIR_INVALID_ARGUMENT);
        assert_message_has("junk: ");
        assert_message_has("expected words of SPIR-V");
        weir_session_reset(session);
        assert_ok(weir_session_finish(session));
    }
    const weir_kernel_code nothing[] = {{.words = NULL, .byte_size = 4}, {.words = words}};
    for (size_t i = 0; i < 2; i++) {
        const weir_dispatch_desc desc = {.name = "nothing", .code = &nothing[i]};
        assert_status(weir_session_dispatch(session, &desc, NULL), WEIR_INVALID_ARGUMENT);
        assert_message_has("nothing: code without words");
    }
    weir_session_destroy(session);
}

static weir_status host_kernel(const weir_kernel_call* call) {
    (void)call;
    return WEIR_OK;
}

static void functions_of_the_host_are_refused_and_code_on_the_cpu(void** state) {
    (void)state;
    const weir_kernel_code code = {.words = scale_words, .byte_size = sizeof scale_words};
    weir_device* cpu = NULL;
    weir_session* session = NULL;
    assert_ok(weir_session_create(gpu, &session));
    assert_status(
        weir_session_dispatch(session, &(weir_dispatch_desc){.kernel = host_kernel}, NULL),
        WEIR_UNSUPPORTED);
    assert_message_has("device vulkan runs code");
    weir_session_destroy(session);
    assert_ok(weir_device_create(&(weir_device_desc){.thread_count = 1}, &cpu));
    assert_ok(weir_session_create(cpu, &session));
    assert_status(weir_session_dispatch(session, &(weir_dispatch_desc){.code = &code}, NULL),
                  WEIR_UNSUPPORTED);
    assert_message_has("device cpu runs functions of the host");
    weir_session_destroy(session);
    weir_device_destroy(cpu);
}

static void memory_of_the_device_is_reached_by_copies_only(void** state) {
    (void)state;
    static const weir_fill fills[] = {WEIR_FILL_ZERO, WEIR_FILL_POISON};
    for (size_t i = 0; i < 2; i++) {
        weir_storage* storage = allocate(gpu, 1000, fills[i], true);
        assert_null(weir_storage_host_pointer(storage));
        const weir_view all = {.storage = storage};
        weir_view bytes = all;
        const weir_shape shape = weir_shape_make(1, (int64_t[]){1000});
        assert_ok(weir_view_make(storage, 0, WEIR_DTYPE_U8, &shape, &bytes));
        uint8_t read[1000];
        weir_session* session = NULL;
        assert_ok(weir_session_create(gpu, &session));
        assert_ok(weir_session_download(session, &bytes, read, sizeof read));
        assert_ok(weir_session_finish(session));
        for (size_t k = 0; k < sizeof read; k++) {
            assert_int_equal(read[k], fills[i] == WEIR_FILL_ZERO ? 0 : 0xFF);
        }
        weir_session_destroy(session);
        weir_storage_release(storage);
    }
}

// Any place and length, also those that no command of Vulkan takes by itself.
static void copies_and_fills_move_any_bytes(void** state) {
    (void)state;
    weir_storage* storage = allocate(gpu, 256, WEIR_FILL_ZERO, true);
    weir_view whole;
    weir_view part;
    weir_view rows;
    uint8_t sent[256];
    uint8_t got[256];
    uint8_t expected[256];
    for (int i = 0; i < 256; i++) {
        sent[i] = expected[i] = (uint8_t)(i * 7);
    }
    const weir_shape all = weir_shape_make(1, (int64_t[]){256});
    assert_ok(weir_view_make(storage, 0, WEIR_DTYPE_U8, &all, &whole));
    const weir_shape five = weir_shape_make(1, (int64_t[]){5});
    assert_ok(weir_view_make(storage, 33, WEIR_DTYPE_U8, &five, &part));
    // Four rows of 3 bytes, 8 apart, to 4 rows of 3 at another place, 16 apart.
    rows = whole;
    rows.shape = weir_shape_make(2, (int64_t[]){4, 3});
    rows.strides[0] = 8;
    rows.strides[1] = 1;
    rows.byte_offset = 65;
    weir_view to = rows;
    to.strides[0] = 16;
    to.byte_offset = 129;
    for (int row = 0; row < 4; row++) {
        memcpy(expected + 129 + 16 * row, expected + 65 + 8 * row, 3);
    }
    memset(expected + 33, 0xAB, 5);
    weir_session* session = NULL;
    assert_ok(weir_session_create(gpu, &session));
    assert_ok(weir_session_upload(session, sent, sizeof sent, &whole));
    assert_ok(weir_session_copy(session, &rows, &to));
    const uint8_t value = 0xAB;
    assert_ok(weir_session_fill(session, &part, &value, sizeof value));
    assert_ok(weir_session_download(session, &whole, got, sizeof got));
    assert_ok(weir_session_finish(session));
    assert_memory_equal(got, expected, sizeof got);
    weir_session_destroy(session);
    weir_storage_release(storage);
}

static void wrapped_host_memory_is_used_in_place(void** state) {
    (void)state;
    if (!vulkan_device_of(gpu)->probe.external_memory_host) {
        print_message("skipped: the device cannot import host memory\n");
        skip();
    }
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t* memory = aligned_alloc(page, 2 * page);
    assert_non_null(memory);
    memset(memory, 0, 2 * page);
    weir_storage* outer = NULL;
    weir_storage* inner = NULL;
    assert_ok(weir_storage_wrap(
        gpu, &(weir_storage_wrap_desc){.pointer = memory, .byte_size = 2 * page}, &outer));
    // Begins within a page: what lies before it on the page stays out of its views.
    assert_ok(weir_storage_wrap(
        gpu, &(weir_storage_wrap_desc){.pointer = memory + 64, .byte_size = page}, &inner));
    const weir_view x = floats(outer, 64, 16);
    const weir_view y = floats(outer, page, 16);
    const weir_view same = floats(inner, 0, 16);
    const weir_view z = floats(inner, 1024, 16);
    float* numbers = (float*)(void*)(memory + 64);
    for (int i = 0; i < 16; i++) {
        numbers[i] = (float)(i + 1);
    }
    weir_session* session = NULL;
    weir_verdict verdict;
    assert_ok(weir_session_create(gpu, &session));
    assert_ok(scale(session, &x, &y, 2.0f, NULL));
    assert_ok(scale(session, &y, &same, 5.0f, &verdict)); // writes what the first one reads
    assert_int_equal(verdict.hazard_count, 2);
    assert_ok(scale(session, &x, &z, 1.0f, &verdict));
    assert_int_equal(verdict.hazards[0].kind, WEIR_HAZARD_RAW);
    assert_ok(weir_session_finish(session));
    for (int i = 0; i < 16; i++) {
        assert_true(numbers[i] == 10.0f * (float)(i + 1));
        assert_true(numbers[256 + i] == 10.0f * (float)(i + 1));
    }
    weir_session_destroy(session);
    weir_storage_release(inner);
    weir_storage_release(outer);
    free(memory);
}

static void bindings_beyond_the_cap_are_refused_by_name(void** state) {
    (void)state;
    vulkan_device* device = vulkan_device_of(gpu);
    const uint64_t cap = device->probe.binding_bytes_max;
    weir_storage* storage = allocate(gpu, 4096, WEIR_FILL_ZERO, false);
    const weir_view x = floats(storage, 0, 512);
    const weir_view y = floats(storage, 2048, 512);
    weir_session* session = NULL;
    weir_ticket ticket;
    assert_ok(weir_session_create(gpu, &session));
    assert_ok(scale(session, &x, &y, 2.0f, NULL));
    device->probe.binding_bytes_max = 1024;
    assert_status(weir_session_commit(session, &ticket), WEIR_UNSUPPORTED);
    device->probe.binding_bytes_max = cap;
    assert_message_has("binds at most 1024");
    assert_ok(weir_session_finish(session));
    weir_session_destroy(session);
    weir_storage_release(storage);
}

// One dispatch of a kernel of the target, with all operands in one storage.
static weir_status run_kernel(weir_op_kind op, weir_view* views, uint32_t count) {
    device_dispatch dispatch = {.name = weir_op_name(op), .operand_count = count, .views = views};
    weir_access accesses[4];
    weir_op_constants constants = {0};
    device_work* work = NULL;
    weir_ticket ticket;
    for (uint32_t i = 0; i < weir_vulkan_target.kernel_count; i++) {
        if (weir_vulkan_target.kernels[i].op == op) {
            dispatch.kernel = &weir_vulkan_target.kernels[i];
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        accesses[i] =
            weir_access_from_view(&views[i], i + 1 == count ? WEIR_ACCESS_WRITE : WEIR_ACCESS_READ);
    }
    dispatch.constants = &constants;
    dispatch.accesses = accesses;
    dispatch.access_count = count;
    WEIR_TRY(gpu->vtable->prepare(gpu, &dispatch, 1, &work));
    const device_commit commit = {.work = work};
    assert_ok(weir_device_submit(gpu, &commit, &ticket));
    const weir_status status = weir_ticket_wait(ticket, WEIR_WAIT_FOREVER);
    work->vtable->destroy(work);
    return status;
}

// With a cap of 8 KiB a table of 64 rows of 1 KiB is taken in ten pieces.
static void tables_beyond_the_cap_are_read_in_pieces(void** state) {
    (void)state;
    vulkan_device* device = vulkan_device_of(gpu);
    const uint64_t cap = device->probe.binding_bytes_max;
    weir_storage* storage = allocate(gpu, 128 << 10, WEIR_FILL_ZERO, false);
    const weir_shape table_shape = weir_shape_make(2, (int64_t[]){64, 256});
    const weir_shape x_shape = weir_shape_make(2, (int64_t[]){6, 256});
    const weir_shape y_shape = weir_shape_make(2, (int64_t[]){6, 64});
    const weir_shape ids_shape = weir_shape_make(1, (int64_t[]){6});
    weir_view views[3];
    float* numbers = weir_storage_host_pointer(storage);
    for (int i = 0; i < 64 * 256; i++) {
        const int row = i / 256; // row r is full of r
        numbers[i] = (float)row;
    }
    float* x = numbers + 16384;
    for (int i = 0; i < 6 * 256; i++) {
        const int row = i / 256;
        x[i] = (float)(row + 1);
    }
    for (int64_t rows = 1; rows <= 6; rows += 5) { // the kernel for few rows and that for many
        assert_ok(weir_view_make(storage, 65536, WEIR_DTYPE_F32, &x_shape, &views[0]));
        assert_ok(weir_view_make(storage, 0, WEIR_DTYPE_F32, &table_shape, &views[1]));
        assert_ok(weir_view_make(storage, 98304, WEIR_DTYPE_F32, &y_shape, &views[2]));
        views[0].shape.dims[0] = views[2].shape.dims[0] = rows;
        device->probe.binding_bytes_max = 8192;
        const weir_status status = run_kernel(WEIR_OP_MATMUL, views, 3);
        device->probe.binding_bytes_max = cap;
        assert_ok(status);
        const float* y = weir_view_contents(&views[2]);
        for (int i = 0; i < rows * 64; i++) {
            const int row = i / 64;
            assert_true(y[i] == 256.0f * (float)(row + 1) * (float)(i % 64));
        }
    }
    int32_t* ids = (int32_t*)(void*)(numbers + 16384);
    memcpy(ids, (int32_t[]){63, 0, 31, 7, 8, 62}, 24);
    assert_ok(weir_view_make(storage, 0, WEIR_DTYPE_F32, &table_shape, &views[0]));
    assert_ok(weir_view_make(storage, 65536, WEIR_DTYPE_I32, &ids_shape, &views[1]));
    assert_ok(weir_view_make(storage, 98304, WEIR_DTYPE_F32, &x_shape, &views[2]));
    device->probe.binding_bytes_max = 8192;
    weir_status status = run_kernel(WEIR_OP_GET_ROWS, views, 3);
    assert_ok(status);
    const float* y = weir_view_contents(&views[2]);
    for (int i = 0; i < 6 * 256; i++) {
        const int32_t id = ids[i / 256];
        assert_true(y[i] == (float)id);
    }
    ids[3] = 64;
    status = run_kernel(WEIR_OP_GET_ROWS, views, 3);
    device->probe.binding_bytes_max = cap;
    assert_status(status, WEIR_OUT_OF_RANGE);
    assert_message_has("get_rows: get_rows: index 64 (row 3) is outside [0, 64)");
    weir_storage_release(storage);
}

// The plan of a model whose tables pass what a binding may be; caches may not.
static void plans_take_tables_beyond_the_cap_and_no_other_operand(void** state) {
    (void)state;
    weir_target target;
    weir_graph* graph = NULL;
    weir_schedule* schedule = NULL;
    weir_param position = 0;
    weir_value ids = 0;
    weir_value table = 0;
    weir_value x = 0;
    weir_value y = 0;
    weir_value cache = 0;
    const weir_shape table_shape = weir_shape_make(2, (int64_t[]){40000, 1024}); // 164 MB
    const weir_shape ids_shape = weir_shape_make(1, (int64_t[]){2});
    assert_ok(weir_target_find("vulkan", &target));
    assert_ok(weir_graph_create(NULL, &graph));
    assert_ok(weir_graph_param(graph, "position", 0, 100, &position));
    assert_ok(weir_graph_input(graph, "ids", WEIR_DTYPE_I32, &ids_shape, WEIR_PARAM_NONE, &ids));
    assert_ok(weir_graph_weight(graph, "table", WEIR_DTYPE_F32, &table_shape, &table));
    assert_ok(weir_graph_get_rows(graph, table, ids, &x));
    assert_ok(weir_graph_matmul(graph, x, table, &y));
    assert_ok(weir_graph_output(graph, y));
    assert_ok(weir_schedule_create(NULL, graph, &target, NULL, &schedule));
    weir_schedule_destroy(schedule);
    assert_ok(weir_graph_state(graph, "cache", WEIR_DTYPE_F32, &table_shape, &cache));
    assert_ok(weir_graph_set_rows(graph, x, cache, position));
    assert_status(weir_schedule_create(NULL, graph, &target, NULL, &schedule), WEIR_UNSUPPORTED);
    assert_message_has("set_rows: operand 1 spans 163840000 bytes");
    weir_graph_destroy(graph);
}

static void a_lost_device_ends_all_work_and_another_can_be_opened(void** state) {
    (void)state;
    weir_device* device = open_vulkan(NULL);
    weir_storage* storage = allocate(device, 4096, WEIR_FILL_ZERO, false);
    const weir_view x = floats(storage, 0, 64);
    const weir_view y = floats(storage, 2048, 64);
    weir_session* session = NULL;
    weir_ticket ticket;
    assert_ok(weir_session_create(device, &session));
    assert_ok(scale(session, &x, &y, 2.0f, NULL));
    assert_ok(weir_session_commit(session, &ticket));
    weir_device_lose(device, "vulkan: vkWaitForFences: simulated");
    assert_ok(scale(session, &x, &y, 2.0f, NULL));
    assert_status(weir_session_finish(session), WEIR_DEVICE_LOST);
    assert_message_has("simulated");
    weir_session_destroy(session);
    weir_storage_release(storage);
    weir_device_destroy(device);
    device = open_vulkan(NULL);
    weir_device_destroy(device);
}

static void times_are_taken_when_asked_for(void** state) {
    (void)state;
    if (vulkan_device_of(gpu)->probe.timestamp_bits == 0) {
        print_message("skipped: the device takes no times\n");
        skip();
    }
    weir_storage* storage = allocate(gpu, 4096, WEIR_FILL_ZERO, false);
    const weir_view x = floats(storage, 0, 64);
    const weir_view y = floats(storage, 2048, 64);
    weir_session* session = NULL;
    weir_ticket ticket;
    weir_timing timings[2];
    uint32_t count = 0;
    assert_ok(weir_session_create(gpu, &session));
    weir_session_set_timing(session, true);
    assert_ok(scale(session, &x, &y, 2.0f, NULL));
    assert_ok(scale(session, &y, &x, 2.0f, NULL));
    const uint64_t before = clock_ns();
    assert_ok(weir_session_commit(session, &ticket));
    assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    const uint64_t after = clock_ns();
    assert_ok(weir_ticket_timings(ticket, timings, 2, &count));
    assert_int_equal(count, 2);
    assert_true(timings[0].begin_ns > 0 && timings[0].begin_ns <= timings[0].end_ns);
    assert_true(timings[1].begin_ns <= timings[1].end_ns);
    assert_true(timings[0].end_ns <= timings[1].end_ns);
    // On the clock of the host, as exactly as the driver compares the two.
    const uint64_t slack = 1000000;
    assert_true(timings[0].begin_ns + slack >= before && timings[1].end_ns <= after + slack);
    weir_session_destroy(session);
    weir_storage_release(storage);
}

// What a rebinding must not ask the driver for.
static struct {
    PFN_vkAllocateMemory allocate_memory;
    PFN_vkCreateBuffer create_buffer;
    PFN_vkCreateDescriptorPool create_descriptor_pool;
    PFN_vkAllocateCommandBuffers allocate_command_buffers;
    uint32_t calls;
} driver;

static VkResult VKAPI_PTR count_memory(VkDevice device, const VkMemoryAllocateInfo* info,
                                       const VkAllocationCallbacks* callbacks,
                                       VkDeviceMemory* memory) {
    driver.calls++;
    return driver.allocate_memory(device, info, callbacks, memory);
}

static VkResult VKAPI_PTR count_buffer(VkDevice device, const VkBufferCreateInfo* info,
                                       const VkAllocationCallbacks* callbacks, VkBuffer* buffer) {
    driver.calls++;
    return driver.create_buffer(device, info, callbacks, buffer);
}

static VkResult VKAPI_PTR count_pool(VkDevice device, const VkDescriptorPoolCreateInfo* info,
                                     const VkAllocationCallbacks* callbacks,
                                     VkDescriptorPool* pool) {
    driver.calls++;
    return driver.create_descriptor_pool(device, info, callbacks, pool);
}

static VkResult VKAPI_PTR count_commands(VkDevice device, const VkCommandBufferAllocateInfo* info,
                                         VkCommandBuffer* commands) {
    driver.calls++;
    return driver.allocate_command_buffers(device, info, commands);
}

static void count_calls(vulkan_api* api) {
    driver.allocate_memory = api->AllocateMemory;
    driver.create_buffer = api->CreateBuffer;
    driver.create_descriptor_pool = api->CreateDescriptorPool;
    driver.allocate_command_buffers = api->AllocateCommandBuffers;
    driver.calls = 0;
    api->AllocateMemory = count_memory;
    api->CreateBuffer = count_buffer;
    api->CreateDescriptorPool = count_pool;
    api->AllocateCommandBuffers = count_commands;
}

// y = rows of a table, times a table: with faults, parameters and both tables bound anew.
typedef struct rebound {
    weir_graph* graph;
    weir_schedule* schedule;
    weir_program* program;
    weir_value ids, table, y;
} rebound;

static rebound make_rebound(weir_device* device, const weir_view* table) {
    rebound r;
    const weir_shape ids_shape = weir_shape_make(1, (int64_t[]){2});
    weir_value x = 0;
    assert_ok(weir_graph_create(NULL, &r.graph));
    assert_ok(
        weir_graph_input(r.graph, "ids", WEIR_DTYPE_I32, &ids_shape, WEIR_PARAM_NONE, &r.ids));
    assert_ok(weir_graph_weight(r.graph, "table", WEIR_DTYPE_F32, &table->shape, &r.table));
    assert_ok(weir_graph_get_rows(r.graph, r.table, r.ids, &x));
    assert_ok(weir_graph_matmul(r.graph, x, r.table, &r.y));
    assert_ok(weir_graph_output(r.graph, r.y));
    assert_ok(weir_schedule_create(NULL, r.graph, weir_device_target(device), NULL, &r.schedule));
    const weir_binding binding = {.value = r.table, .view = *table};
    const weir_program_desc desc = {
        .schedule = r.schedule, .bindings = &binding, .binding_count = 1};
    assert_ok(weir_program_create(device, &desc, &r.program));
    return r;
}

static void check_rebound(const rebound* r, const weir_view* table, float factor) {
    static const int32_t ids[] = {3, 1};
    const weir_binding binding = {.value = r->table, .view = *table};
    assert_ok(weir_program_bind(r->program, &binding, 1));
    assert_ok(weir_program_write(r->program, r->ids, ids, sizeof ids));
    assert_ok(weir_program_run(r->program, NULL, 0));
    const float* y = weir_program_contents(r->program, r->y);
    for (int i = 0; i < 8; i++) { // row i of the table is full of factor * i
        const int32_t id = ids[i / 4];
        assert_true(y[i] == 32.0f * factor * factor * (float)id * (float)(i % 4));
    }
}

static void new_bindings_take_no_memory(void** state) {
    (void)state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    weir_device* device = open_vulkan(&counter);
    const weir_shape shape = weir_shape_make(2, (int64_t[]){4, 32});
    weir_storage* storage = allocate(device, 1024, WEIR_FILL_ZERO, false);
    float* numbers = weir_storage_host_pointer(storage);
    weir_view tables[2];
    for (int i = 0; i < 256; i++) {
        const int row = i / 32 % 4;
        const int table = i / 128;
        numbers[i] = (float)((table + 1) * row);
    }
    assert_ok(weir_view_make(storage, 0, WEIR_DTYPE_F32, &shape, &tables[0]));
    assert_ok(weir_view_make(storage, 512, WEIR_DTYPE_F32, &shape, &tables[1]));
    const rebound r = make_rebound(device, &tables[0]);
    check_rebound(&r, &tables[1], 2.0f); // once, for what grows
    count_calls(&vulkan_device_of(device)->instance.api);
    const size_t calls = atomic_load(&counter.calls);
    for (int i = 0; i < 6; i++) {
        check_rebound(&r, &tables[i % 2], (float)(1 + i % 2));
    }
    assert_int_equal(atomic_load(&counter.calls), calls);
    assert_int_equal(driver.calls, 0);
    weir_program_set_timing(r.program, true); // the commands with times are recorded anew as well
    check_rebound(&r, &tables[0], 1.0f);
    check_rebound(&r, &tables[1], 2.0f);
    weir_program_destroy(r.program);
    weir_schedule_destroy(r.schedule);
    weir_graph_destroy(r.graph);
    weir_storage_release(storage);
    weir_device_destroy(device);
    assert_int_equal(counter.live_blocks, 0);
}

#define PATTERNS 70001 // odd, and more than one workgroup takes at once

// All exponents and signs, special values, and whatever random bits are.
static void halves_are_those_of_the_host_bit_for_bit(void** state) {
    (void)state;
    static uint16_t halves[PATTERNS];
    test_random random = {0x4A1Fu};
    weir_storage* storage = allocate(gpu, PATTERNS * sizeof(float), WEIR_FILL_ZERO, false);
    const weir_view source = floats(storage, 0, PATTERNS);
    uint32_t* bits = weir_view_contents(&source);
    uint64_t saturated = 0;
    for (uint32_t i = 0; i < PATTERNS; i++) {
        const uint32_t exponent = i % 256 << 23;
        const uint32_t fraction = i < 512 ? 0 : (uint32_t)random_u64(&random) & 0x7FFFFFu;
        bits[i] = exponent | fraction | (i / 256 % 2) << 31;
    }
    weir_shadow* shadow = NULL;
    weir_session* session = NULL;
    weir_view view;
    assert_ok(weir_shadow_create(&source, &shadow));
    weir_shadow_view(shadow, &view);
    assert_ok(weir_session_create(gpu, &session));
    assert_ok(weir_session_download(session, &view, halves, sizeof halves));
    assert_ok(weir_session_finish(session));
    for (uint32_t i = 0; i < PATTERNS; i++) {
        float number = 0.0f;
        memcpy(&number, &bits[i], sizeof number);
        const bool large = fabsf(number) > 65504.0f && !isinf(number);
        const uint16_t expected =
            large ? (number < 0.0f ? 0xFBFF : 0x7BFF) : weir_f32_to_f16(number);
        saturated += large ? 1 : 0;
        assert_int_equal(halves[i], expected);
    }
    assert_int_equal(weir_shadow_counted(shadow).saturated, saturated);
    assert_true(saturated > 1000);
    weir_session_destroy(session);
    weir_shadow_destroy(shadow);
    weir_storage_release(storage);
}
#define HALVES 96

static const uint32_t half_square_words[] = {
#include "shaders/half_square.inc"
};

// What native_f16 says: a kernel of the caller multiplies halves, those of a shadow.
static void a_target_with_16_bit_floats_computes_on_them(void** state) {
    (void)state;
    if (!weir_device_target(gpu)->native_f16) {
        print_message("skipped: the device computes on no 16-bit floats\n");
        skip();
    }
    const weir_shape shape = weir_shape_make(1, (int64_t[]){HALVES});
    weir_storage* storage = allocate(gpu, 1024, WEIR_FILL_ZERO, false);
    const weir_view source = floats(storage, 0, HALVES);
    float* numbers = weir_view_contents(&source);
    for (int i = 0; i < HALVES; i++) {
        numbers[i] = (float)(i - 40) + 0.5f; // squares that halves have not got, too
    }
    weir_shadow* shadow = NULL;
    weir_session* session = NULL;
    weir_view x, y;
    assert_ok(weir_shadow_create(&source, &shadow));
    weir_shadow_view(shadow, &x);
    assert_ok(weir_view_make(storage, 512, WEIR_DTYPE_F16, &shape, &y));
    const weir_kernel_code code = {
        .words = half_square_words, .byte_size = sizeof half_square_words, .groups = {1}};
    const weir_operand operands[] = {{x, WEIR_ACCESS_READ}, {y, WEIR_ACCESS_WRITE}};
    const uint32_t pairs = HALVES / 2;
    const weir_dispatch_desc desc = {.name = "square",
                                     .code = &code,
                                     .operands = operands,
                                     .operand_count = 2,
                                     .constants = &pairs,
                                     .constants_size = sizeof pairs};
    assert_ok(weir_session_create(gpu, &session));
    assert_ok(weir_session_dispatch(session, &desc, NULL));
    assert_ok(weir_session_finish(session));
    const uint16_t* squares = weir_view_contents(&y);
    for (int i = 0; i < HALVES; i++) {
        const float exact = numbers[i] * numbers[i];
        const float found = weir_f16_to_f32(squares[i]);
        assert_true(fabsf(found - exact) <= exact / 1024.0f); // one unit in the last place
    }
    weir_session_destroy(session);
    weir_shadow_destroy(shadow);
    weir_storage_release(storage);
}

// Each allocation of a session's work fails once in turn; nothing is left over.
static void every_failing_allocation_leaves_nothing_behind(void** state) {
    (void)state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    weir_device* device = open_vulkan(&counter);
    weir_storage* storage = allocate(device, 4096, WEIR_FILL_ZERO, false);
    const weir_view x = floats(storage, 0, 64);
    const weir_view y = floats(storage, 2048, 64);
    bool done = false;
    for (size_t fail = 0; !done; fail++) {
        weir_session* session = NULL;
        uint8_t got[256];
        counter.fail_at = atomic_load(&counter.calls) + fail;
        weir_status status = weir_session_create(device, &session);
        status = status == WEIR_OK ? scale(session, &x, &y, 2.0f, NULL) : status;
        status = status == WEIR_OK ? weir_session_download(session, &y, got, sizeof got) : status;
        status = status == WEIR_OK ? weir_session_finish(session) : status;
        done = status == WEIR_OK;
        assert_true(done || status == WEIR_OUT_OF_MEMORY);
        weir_session_destroy(session);
        assert_true(fail < 1000);
    }
    counter.fail_at = SIZE_MAX;
    assert_int_equal(vulkan_device_of(device)->pipelines.count, 1); // what was compiled is kept
    weir_storage_release(storage);
    weir_device_destroy(device);
    assert_int_equal(counter.live_blocks, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_had_is_said),
        cmocka_unit_test(a_device_that_lacks_the_base_says_what),
        cmocka_unit_test(the_least_that_is_promised_is_enough),
        cmocka_unit_test(devices_are_found_by_index_and_by_name),
        cmocka_unit_test(planning_needs_no_device),
        cmocka_unit_test(code_of_the_caller_runs_in_the_order_of_its_accesses),
        cmocka_unit_test(code_that_cannot_run_is_refused),
        cmocka_unit_test(code_that_binds_more_than_the_operands_is_refused),
        cmocka_unit_test(code_that_is_none_is_refused_by_name),
        cmocka_unit_test(functions_of_the_host_are_refused_and_code_on_the_cpu),
        cmocka_unit_test(memory_of_the_device_is_reached_by_copies_only),
        cmocka_unit_test(copies_and_fills_move_any_bytes),
        cmocka_unit_test(wrapped_host_memory_is_used_in_place),
        cmocka_unit_test(bindings_beyond_the_cap_are_refused_by_name),
        cmocka_unit_test(tables_beyond_the_cap_are_read_in_pieces),
        cmocka_unit_test(plans_take_tables_beyond_the_cap_and_no_other_operand),
        cmocka_unit_test(a_lost_device_ends_all_work_and_another_can_be_opened),
        cmocka_unit_test(times_are_taken_when_asked_for),
        cmocka_unit_test(new_bindings_take_no_memory),
        cmocka_unit_test(halves_are_those_of_the_host_bit_for_bit),
        cmocka_unit_test(a_target_with_16_bit_floats_computes_on_them),
        cmocka_unit_test(every_failing_allocation_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, open_gpu, close_gpu);
}
