// Where a storage takes its memory from, when, and who may see it: lazy and eager, reachable by the
// host or not, huge pages, advice for mappings, native handles.
#include "session_testing.h"

#include <fcntl.h>
#include <unistd.h>

#define THREADS 16

static weir_storage* allocate(weir_device* device, weir_storage_desc desc) {
    weir_storage* storage = NULL;
    assert_ok(weir_storage_allocate(device, &desc, &storage));
    return storage;
}

// A lazy storage after its first touch.
static weir_storage* touched(weir_device* device) {
    weir_storage* storage = allocate(device, (weir_storage_desc){.byte_size = 64, .lazy = true});
    assert_ok(weir_storage_touch(storage));
    return storage;
}

static weir_status fill_with_constant(const weir_kernel_call* call) {
    float* y = call->pointers[0];
    for (int64_t i = 0; i < call->views[0].shape.dims[0]; i++) {
        y[i] = *(const float*)call->constants;
    }
    return WEIR_OK;
}

static weir_status copy(const weir_kernel_call* call) {
    memcpy(call->pointers[1], call->pointers[0], weir_view_byte_length(&call->views[0]));
    return WEIR_OK;
}

static void record_fill(weir_session* session, weir_view view, float value) {
    const weir_operand operand = {view, WEIR_ACCESS_WRITE};
    const weir_dispatch_desc desc = {.name = "fill",
                                     .kernel = fill_with_constant,
                                     .operands = &operand,
                                     .operand_count = 1,
                                     .constants = &value,
                                     .constants_size = sizeof value};
    assert_ok(weir_session_dispatch(session, &desc, NULL));
}

static void record_copy(weir_session* session, weir_view from, weir_view to) {
    const weir_operand operands[] = {{from, WEIR_ACCESS_READ}, {to, WEIR_ACCESS_WRITE}};
    const weir_dispatch_desc desc = {
        .name = "copy", .kernel = copy, .operands = operands, .operand_count = 2};
    assert_ok(weir_session_dispatch(session, &desc, NULL));
}

static void a_lazy_storage_takes_its_memory_at_the_first_host_pointer(void** state) {
    (void)state;
    const char* names[] = {"cpu", "null"};
    for (size_t i = 0; i < 2; i++) {
        test_allocator counter = {.fail_at = SIZE_MAX};
        weir_device* device = open_device(names[i], 1, &counter);
        weir_storage* other = touched(device); // the tables of the device have their memory then
        weir_storage* storage = allocate(
            device, (weir_storage_desc){.byte_size = 1000, .fill = WEIR_FILL_POISON, .lazy = true});
        const size_t before = atomic_load(&counter.live_bytes);
        assert_false(weir_storage_is_allocated(storage));
        assert_int_equal(weir_storage_byte_size(storage), 1000);
        const weir_view view = floats_of(storage, 8, 4); // a view needs no memory
        assert_int_equal(atomic_load(&counter.live_bytes), before);
        const uint8_t* bytes = weir_view_contents(&view);
        assert_true(weir_storage_is_allocated(storage));
        assert_int_equal(atomic_load(&counter.live_bytes), before + 1024);
        assert_ptr_equal(bytes, (uint8_t*)weir_storage_host_pointer(storage) + 8);
        assert_int_equal((uintptr_t)weir_storage_host_pointer(storage) % 64, 0);
        assert_int_equal(bytes[0], 0xFF);
        assert_ok(weir_storage_touch(storage));
        assert_int_equal(atomic_load(&counter.live_bytes), before + 1024);
        weir_storage_release(storage);
        weir_storage_release(other);
        weir_device_destroy(device);
        assert_int_equal(atomic_load(&counter.live_bytes), 0);
    }
}

static void a_lazy_storage_that_nobody_touches_costs_nothing(void** state) {
    (void)state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    weir_device* device = open_device("cpu", 1, &counter);
    const size_t before = atomic_load(&counter.live_bytes);
    weir_storage* storage =
        allocate(device, (weir_storage_desc){.byte_size = UINT64_C(1) << 45, .lazy = true});
    assert_true(atomic_load(&counter.live_bytes) - before < 1 << 16);
    weir_storage_release(storage);
    weir_device_destroy(device);
    assert_int_equal(atomic_load(&counter.live_bytes), 0);
}

static void a_kernel_touches_lazy_storages_at_the_commit(void** state) {
    (void)state;
    weir_device* device = open_device("cpu", 2, NULL);
    weir_storage* a = allocate(device, (weir_storage_desc){.byte_size = 64, .lazy = true});
    weir_storage* b = allocate(
        device, (weir_storage_desc){.byte_size = 64, .fill = WEIR_FILL_ZERO, .lazy = true});
    weir_session* session = NULL;
    assert_ok(weir_session_create(device, &session));
    record_fill(session, floats_of(a, 0, 16), 3.0f);
    record_copy(session, floats_of(a, 16, 4), floats_of(b, 32, 4));
    assert_false(weir_storage_is_allocated(a));
    assert_ok(weir_session_finish(session));
    assert_true(weir_storage_is_allocated(a) && weir_storage_is_allocated(b));
    const float* numbers = weir_storage_host_pointer(b);
    for (int i = 0; i < 16; i++) {
        assert_true(numbers[i] == (i >= 8 && i < 12 ? 3.0f : 0.0f));
    }
    weir_session_destroy(session);
    weir_storage_release(a);
    weir_storage_release(b);
    weir_device_destroy(device);
}

static void a_failed_first_touch_is_the_status_of_the_commit(void** state) {
    (void)state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    weir_device* device = open_device("cpu", 1, &counter);
    weir_storage* storage =
        allocate(device, (weir_storage_desc){.byte_size = 64, .lazy = true, .name = "late"});
    weir_session* session = NULL;
    weir_ticket ticket = {0};
    assert_ok(weir_session_create(device, &session));
    record_fill(session, floats_of(storage, 0, 16), 5.0f);
    size_t failures = 0;
    for (size_t step = 0;; step++) {
        counter.fail_at = atomic_load(&counter.calls) + step;
        const weir_status status = weir_session_commit(session, &ticket);
        counter.fail_at = SIZE_MAX;
        if (status == WEIR_OK) {
            break;
        }
        assert_int_equal(status, WEIR_OUT_OF_MEMORY);
        failures++;
    }
    assert_true(failures >= 2); // that of the storage among them
    assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    assert_true(*(const float*)weir_storage_host_pointer(storage) == 5.0f);
    weir_session_destroy(session);
    weir_storage_release(storage);
    weir_device_destroy(device);
    assert_int_equal(atomic_load(&counter.live_bytes), 0);
}

typedef struct racer {
    pthread_t thread;
    pthread_barrier_t* barrier;
    weir_storage* storage;
    void* pointer;
} racer;

static void* touch_first(void* argument) {
    racer* me = argument;
    pthread_barrier_wait(me->barrier);
    me->pointer = weir_storage_host_pointer(me->storage);
    return NULL;
}

// Returns how many of the threads got a pointer; all of these are the same.
static uint32_t race(weir_storage* storage) {
    pthread_barrier_t barrier;
    racer racers[THREADS];
    assert_int_equal(pthread_barrier_init(&barrier, NULL, THREADS), 0);
    for (size_t i = 0; i < THREADS; i++) {
        racers[i] = (racer){.barrier = &barrier, .storage = storage};
        assert_int_equal(pthread_create(&racers[i].thread, NULL, touch_first, &racers[i]), 0);
    }
    uint32_t found = 0;
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(racers[i].thread, NULL);
        found += racers[i].pointer ? 1 : 0;
        assert_true(!racers[i].pointer || racers[i].pointer == weir_storage_host_pointer(storage));
    }
    pthread_barrier_destroy(&barrier);
    return found;
}

static void sixteen_threads_that_touch_first_allocate_once(void** state) {
    (void)state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    weir_device* device = open_device("cpu", 1, &counter);
    weir_storage* other = touched(device);
    for (int round = 0; round < 40; round++) {
        weir_storage* storage = allocate(
            device, (weir_storage_desc){.byte_size = 4096, .fill = WEIR_FILL_ZERO, .lazy = true});
        const size_t calls = atomic_load(&counter.calls);
        assert_int_equal(race(storage), THREADS);
        assert_int_equal(atomic_load(&counter.calls), calls + 1);
        weir_storage_release(storage);
    }
    weir_storage_release(other);
    weir_device_destroy(device);
    assert_int_equal(atomic_load(&counter.live_bytes), 0);
}

static void after_a_failed_first_touch_the_next_one_works(void** state) {
    (void)state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    weir_device* device = open_device("cpu", 1, &counter);
    weir_storage* other = touched(device);
    for (int round = 0; round < 40; round++) {
        weir_storage* storage =
            allocate(device, (weir_storage_desc){.byte_size = 4096, .lazy = true});
        const size_t calls = atomic_load(&counter.calls);
        counter.fail_at = calls;
        assert_int_equal(race(storage), THREADS - 1); // whoever was first got nothing
        assert_int_equal(atomic_load(&counter.calls), calls + 2);
        weir_storage_release(storage);
    }
    weir_storage_release(other);
    weir_device_destroy(device);
    assert_int_equal(atomic_load(&counter.live_bytes), 0);
}

static void device_only_memory_is_for_kernels_alone(void** state) {
    (void)state;
    const char* names[] = {"cpu", "null"};
    for (size_t i = 0; i < 4; i++) {
        weir_device* device = open_device(names[i % 2], 1, NULL);
        weir_storage* hidden = allocate(
            device, (weir_storage_desc){.byte_size = 64, .lazy = i >= 2, .device_only = true});
        weir_storage* seen = allocate_zeros(device, 64);
        const weir_view view = floats_of(hidden, 0, 16);
        assert_null(weir_storage_host_pointer(hidden));
        assert_null(weir_view_contents(&view));
        weir_session* session = NULL;
        assert_ok(weir_session_create(device, &session));
        record_fill(session, view, 7.0f);
        record_copy(session, view, floats_of(seen, 0, 16));
        assert_ok(weir_session_finish(session));
        const float* numbers = weir_storage_host_pointer(seen);
        assert_true(numbers[15] == (i % 2 == 0 ? 7.0f : 0.0f)); // null runs nothing
        assert_null(weir_view_contents(&view));
        weir_session_destroy(session);
        weir_storage_release(hidden);
        weir_storage_release(seen);
        weir_device_destroy(device);
    }
}

static void a_native_handle_comes_with_the_absolute_offset(void** state) {
    (void)state;
    weir_device* device = open_device("cpu", 1, NULL);
    weir_storage* storages[] = {
        allocate(device, (weir_storage_desc){.byte_size = 256}),
        allocate(device, (weir_storage_desc){.byte_size = 256, .device_only = true}),
        allocate(device, (weir_storage_desc){.byte_size = 256, .lazy = true}),
    };
    for (size_t i = 0; i < 3; i++) {
        const weir_view view = floats_of(storages[i], 64, 32);
        weir_view slice;
        weir_native native;
        assert_ok(weir_view_slice(&view, 16, 8, &slice));
        assert_ok(weir_view_native(&slice, &native));
        assert_true(native.handle != 0 && native.handle % 64 == 0);
        assert_int_equal(native.byte_offset, 80);
        assert_int_equal(native.byte_length, 32);
        assert_true(i == 1 || native.handle == (uintptr_t)weir_storage_host_pointer(storages[i]));
        weir_storage_release(storages[i]);
    }
    weir_native untouched = {.handle = 77};
    assert_status(weir_view_native(&(weir_view){.dtype = WEIR_DTYPE_F32}, &untouched),
                  WEIR_INVALID_ARGUMENT);
    assert_int_equal(untouched.handle, 77);
    weir_device_destroy(device);
}

static void a_description_names_the_storage_and_the_layout(void** state) {
    (void)state;
    weir_device* device = open_device("cpu", 1, NULL);
    weir_storage* storage =
        allocate(device, (weir_storage_desc){.byte_size = 256, .name = "weights"});
    const weir_shape shape = weir_shape_make(2, (int64_t[]){6, 4});
    weir_view view;
    weir_view turned;
    char text[160];
    assert_ok(weir_view_make(storage, 32, WEIR_DTYPE_F32, &shape, &view));
    assert_string_equal(weir_view_describe(&view, text, sizeof text),
                        "weights: F32 [6, 4] @32 (96 bytes)");
    assert_ok(weir_view_permute(&view, (uint32_t[]){1, 0}, &turned));
    assert_string_equal(weir_view_describe(&turned, text, sizeof text),
                        "weights: F32 [4, 6] @32 strides [4, 16] (96 bytes)");
    assert_string_equal(weir_view_describe(&turned, text, 8), "weights");
    view.storage = NULL;
    assert_string_equal(weir_view_describe(&view, text, sizeof text),
                        "no storage: F32 [6, 4] @32 (96 bytes)");
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static void a_broadcast_view_is_read_and_not_written(void** state) {
    (void)state;
    weir_device* device = open_device("cpu", 1, NULL);
    weir_storage* storage = allocate_zeros(device, 256);
    const weir_view one = floats_of(storage, 0, 1);
    const weir_shape shape = weir_shape_make(1, (int64_t[]){8});
    weir_view eight;
    assert_ok(weir_view_broadcast(&one, &shape, &eight));
    const weir_range range = weir_view_range(&eight);
    assert_int_equal(range.byte_length, 4);
    assert_int_equal(range.level_count, 0);
    weir_session* session = NULL;
    assert_ok(weir_session_create(device, &session));
    const weir_operand write = {eight, WEIR_ACCESS_WRITE};
    weir_dispatch_desc desc = {.kernel = copy, .operands = &write, .operand_count = 1};
    assert_status(weir_session_dispatch(session, &desc, NULL), WEIR_INVALID_ARGUMENT);
    assert_message_has("share bytes");
    const weir_operand read = {eight, WEIR_ACCESS_READ};
    desc.operands = &read;
    assert_ok(weir_session_dispatch(session, &desc, NULL));
    weir_session_destroy(session);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static void huge_pages_are_whole_ones_or_none(void** state) {
    (void)state;
    weir_device* device = open_device("cpu", 1, NULL);
    const uint64_t huge = UINT64_C(2) << 20;
    const uint64_t sizes[] = {4096, huge - 65, huge, 2 * huge + 1};
    for (size_t i = 0; i < 4; i++) {
        weir_storage* storage = allocate(device, (weir_storage_desc){.byte_size = sizes[i],
                                                                     .fill = WEIR_FILL_ZERO,
                                                                     .lazy = true,
                                                                     .huge_pages = true});
        assert_false(weir_storage_has_huge_pages(storage)); // no memory yet
        uint8_t* bytes = weir_storage_host_pointer(storage);
        assert_non_null(bytes);
        assert_true(sizes[i] >= huge || !weir_storage_has_huge_pages(storage));
        assert_int_equal((uintptr_t)bytes % (sizes[i] >= huge ? huge : 64), 0);
        assert_int_equal(bytes[sizes[i] - 1], 0);
        weir_storage_release(storage);
    }
    weir_storage* ordinary = allocate(device, (weir_storage_desc){.byte_size = huge});
    assert_false(weir_storage_has_huge_pages(ordinary));
    weir_storage_release(ordinary);
    weir_device_destroy(device);
}

// A file of `byte_size` bytes without blocks, but for `mark` at `mark_offset`.
static void write_sparse(char path[64], uint64_t byte_size, uint64_t mark_offset, uint8_t mark) {
    snprintf(path, 64, "/tmp/weir-test-XXXXXX");
    const int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    assert_int_equal(ftruncate(descriptor, (off_t)byte_size), 0);
    assert_int_equal(pwrite(descriptor, &mark, 1, (off_t)mark_offset), 1);
    close(descriptor);
}

static void advice_changes_no_byte_of_a_mapping(void** state) {
    (void)state;
    weir_device* device = open_device("cpu", 1, NULL);
    char path[64];
    write_sparse(path, 100000, 50001, 0xA5);
    for (weir_advice advice = WEIR_ADVICE_NORMAL; advice <= WEIR_ADVICE_DROP; advice++) {
        const weir_storage_map_desc desc = {.path = path, .byte_offset = 1, .advice = advice};
        weir_storage* storage = NULL;
        assert_ok(weir_storage_map(device, &desc, &storage));
        const uint8_t* bytes = weir_storage_host_pointer(storage);
        assert_int_equal(bytes[50000], 0xA5);
        assert_ok(weir_storage_advise(storage, 0, 0, advice));
        assert_ok(weir_storage_advise(storage, 49999, 2, advice));
        assert_ok(weir_storage_advise(storage, 99999, 0, advice));
        assert_int_equal(bytes[50000], 0xA5);
        assert_status(weir_storage_advise(storage, 0, 100000, advice), WEIR_OUT_OF_RANGE);
        assert_status(weir_storage_advise(storage, UINT64_MAX, 2, advice), WEIR_OUT_OF_RANGE);
        weir_storage_release(storage);
    }
    weir_storage* storage = NULL;
    const weir_storage_map_desc unknown = {.path = path, .advice = (weir_advice)9};
    assert_status(weir_storage_map(device, &unknown, &storage), WEIR_INVALID_ARGUMENT);
    storage = allocate_zeros(device, 64);
    assert_status(weir_storage_advise(storage, 0, 0, WEIR_ADVICE_DROP), WEIR_UNSUPPORTED);
    assert_status(weir_storage_advise(storage, 0, 0, (weir_advice)-1), WEIR_INVALID_ARGUMENT);
    weir_storage_release(storage);
    unlink(path);
    weir_device_destroy(device);
}

static void files_past_eight_gigabytes_are_mapped_where_asked(void** state) {
    (void)state;
    weir_device* device = open_device("cpu", 1, NULL);
    const uint64_t byte_size = (UINT64_C(8) << 30) + 4097;
    const uint64_t mark = (UINT64_C(8) << 30) + 3;
    char path[64];
    write_sparse(path, byte_size, mark, 0x5A);
    weir_storage* whole = NULL;
    weir_storage* end = NULL;
    assert_ok(weir_storage_map(device, &(weir_storage_map_desc){.path = path}, &whole));
    assert_int_equal(weir_storage_byte_size(whole), byte_size);
    const weir_storage_map_desc range = {.path = path, .byte_offset = mark - 1, .byte_size = 3};
    assert_ok(weir_storage_map(device, &range, &end));
    assert_int_equal(((const uint8_t*)weir_storage_host_pointer(whole))[mark], 0x5A);
    assert_int_equal(((const uint8_t*)weir_storage_host_pointer(end))[1], 0x5A);
    const weir_view view = floats_of(whole, UINT64_C(8) << 30, 1);
    const weir_range bytes = weir_view_range(&view);
    const weir_view first = floats_of(whole, 0, 1);
    assert_int_equal(bytes.byte_offset - weir_view_range(&first).byte_offset, UINT64_C(8) << 30);
    weir_storage_release(whole);
    weir_storage_release(end);
    unlink(path);
    weir_device_destroy(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lazy_storage_takes_its_memory_at_the_first_host_pointer),
        cmocka_unit_test(a_lazy_storage_that_nobody_touches_costs_nothing),
        cmocka_unit_test(a_kernel_touches_lazy_storages_at_the_commit),
        cmocka_unit_test(a_failed_first_touch_is_the_status_of_the_commit),
        cmocka_unit_test(sixteen_threads_that_touch_first_allocate_once),
        cmocka_unit_test(after_a_failed_first_touch_the_next_one_works),
        cmocka_unit_test(device_only_memory_is_for_kernels_alone),
        cmocka_unit_test(a_native_handle_comes_with_the_absolute_offset),
        cmocka_unit_test(a_description_names_the_storage_and_the_layout),
        cmocka_unit_test(a_broadcast_view_is_read_and_not_written),
        cmocka_unit_test(huge_pages_are_whole_ones_or_none),
        cmocka_unit_test(advice_changes_no_byte_of_a_mapping),
        cmocka_unit_test(files_past_eight_gigabytes_are_mapped_where_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
