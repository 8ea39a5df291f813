// Storages, the views on them, and arenas: what holds, for how long, and what is refused.
#include "testing.h"

#include <sys/stat.h>
#include <unistd.h>
#include <weir/weir.h>

#include "testing_allocator.h"

static weir_device* new_device(const char* name, bool manual, test_allocator* counter) {
    weir_device_desc desc = {.name = name, .thread_count = 1, .manual_completion = manual};
    if (counter) {
        desc.allocator = test_allocator_of(counter);
    }
    weir_device* device = NULL;
    assert_ok(weir_device_create(&desc, &device));
    return device;
}

static int open_device(void** state) {
    *state = new_device("cpu", false, NULL);
    return 0;
}

static int close_device(void** state) {
    weir_device_destroy(*state);
    return 0;
}

static weir_storage* allocate(weir_device* device, uint64_t byte_size) {
    weir_storage* storage = NULL;
    const weir_storage_desc desc = {.byte_size = byte_size, .fill = WEIR_FILL_ZERO};
    assert_ok(weir_storage_allocate(device, &desc, &storage));
    return storage;
}

static weir_storage* wrap(weir_device* device, void* pointer, uint64_t byte_size) {
    weir_storage* storage = NULL;
    const weir_storage_wrap_desc desc = {.pointer = pointer, .byte_size = byte_size};
    assert_ok(weir_storage_wrap(device, &desc, &storage));
    return storage;
}

static weir_view bytes_of(weir_storage* storage, uint64_t byte_offset, int64_t byte_size) {
    const weir_shape shape = weir_shape_make(1, &byte_size);
    weir_view view;
    assert_ok(weir_view_make(storage, byte_offset, WEIR_DTYPE_U8, &shape, &view));
    return view;
}

static void unknown_devices_are_not_found(void** state) {
    (void)state;
    weir_device* device = NULL;
    weir_target target = {0};
    assert_status(weir_device_create(&(weir_device_desc){.name = "abacus"}, &device),
                  WEIR_NOT_FOUND);
    assert_message_has("abacus");
    assert_message_has("cpu, cpu:plain");
    assert_null(device);
    assert_status(weir_target_find("abacus", &target), WEIR_NOT_FOUND);
    assert_ok(weir_target_find("null", &target));
    assert_string_equal(target.name, "null");
}

static void allocated_memory_is_filled_and_aligned(void** state) {
    const uint64_t sizes[] = {1, 63, 64, 65, 4097};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (weir_fill fill = WEIR_FILL_ZERO; fill <= WEIR_FILL_POISON; fill++) {
            weir_storage* storage = NULL;
            const weir_storage_desc desc = {.byte_size = sizes[i], .fill = fill};
            assert_ok(weir_storage_allocate(*state, &desc, &storage));
            assert_int_equal(weir_storage_byte_size(storage), sizes[i]);
            assert_false(weir_storage_is_sealed(storage));
            const uint8_t* bytes = weir_storage_host_pointer(storage);
            assert_int_equal((uintptr_t)bytes % 64, 0);
            for (uint64_t k = 0; k < sizes[i]; k++) {
                assert_int_equal(bytes[k], fill == WEIR_FILL_ZERO ? 0 : 0xFF);
            }
            weir_storage_release(storage);
        }
    }
}

static void an_empty_storage_has_no_bytes_to_view(void** state) {
    weir_storage* storage = allocate(*state, 0);
    weir_view view = bytes_of(storage, 0, 0);
    const weir_range range = weir_view_range(&view);
    assert_int_equal(weir_range_end(&range), range.byte_offset);
    const int64_t one = 1;
    const weir_shape shape = weir_shape_make(1, &one);
    assert_status(weir_view_make(storage, 0, WEIR_DTYPE_U8, &shape, &view), WEIR_OUT_OF_RANGE);
    weir_storage_release(storage);
}

static void bad_allocations_are_refused(void** state) {
    weir_storage* storage = NULL;
    const weir_storage_desc unknown = {.byte_size = 64, .fill = (weir_fill)7};
    assert_status(weir_storage_allocate(*state, &unknown, &storage), WEIR_INVALID_ARGUMENT);
    assert_message_has("fill 7");
    const weir_storage_desc huge = {.byte_size = UINT64_MAX - 3};
    assert_status(weir_storage_allocate(*state, &huge, &storage), WEIR_OUT_OF_MEMORY);
    assert_null(storage);
}

typedef struct temporary_file {
    char path[64];
    size_t byte_size;
} temporary_file;

// Byte i of the file is 7 * i + 3, modulo 256.
static uint8_t file_byte(size_t index) {
    return (uint8_t)(7 * index + 3);
}

static temporary_file write_file(size_t byte_size) {
    temporary_file file = {.path = "/tmp/weir-test-XXXXXX", .byte_size = byte_size};
    const int descriptor = mkstemp(file.path);
    assert_true(descriptor >= 0);
    for (size_t i = 0; i < byte_size; i++) {
        const uint8_t byte = file_byte(i);
        assert_int_equal(write(descriptor, &byte, 1), 1);
    }
    close(descriptor);
    return file;
}

static void mapped_ranges_hold_the_bytes_of_the_file(void** state) {
    const temporary_file file = write_file(9001);
    const struct {
        uint64_t byte_offset, byte_size, expected;
    } cases[] = {{0, 0, 9001},    {0, 1, 1},        {1, 17, 17}, {4095, 2, 2},
                 {4097, 0, 4904}, {8191, 810, 810}, {9000, 1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const weir_storage_map_desc desc = {.path = file.path,
                                            .byte_offset = cases[i].byte_offset,
                                            .byte_size = cases[i].byte_size};
        weir_storage* storage = NULL;
        assert_ok(weir_storage_map(*state, &desc, &storage));
        assert_true(weir_storage_is_sealed(storage));
        assert_int_equal(weir_storage_byte_size(storage), cases[i].expected);
        const uint8_t* bytes = weir_storage_host_pointer(storage);
        for (size_t k = 0; k < cases[i].expected; k++) {
            assert_int_equal(bytes[k], file_byte((size_t)cases[i].byte_offset + k));
        }
        weir_storage_release(storage);
    }
    unlink(file.path);
}

static void a_mapping_outlives_the_name_of_its_file(void** state) {
    const temporary_file file = write_file(100);
    weir_storage* storage = NULL;
    assert_ok(weir_storage_map(*state, &(weir_storage_map_desc){.path = file.path}, &storage));
    unlink(file.path);
    assert_int_equal(((const uint8_t*)weir_storage_host_pointer(storage))[99], file_byte(99));
    weir_storage_release(storage);
}

static void bad_mappings_are_refused(void** state) {
    const temporary_file file = write_file(100);
    const temporary_file empty = write_file(0);
    const struct {
        weir_storage_map_desc desc;
        weir_status expected;
    } cases[] = {
        {{.path = "/nowhere/weir-missing"}, WEIR_IO},
        {{.path = "/tmp"}, WEIR_IO},
        {{.path = NULL}, WEIR_INVALID_ARGUMENT},
        {{.path = empty.path}, WEIR_INVALID_ARGUMENT},
        {{.path = file.path, .byte_offset = 100}, WEIR_INVALID_ARGUMENT},
        {{.path = file.path, .byte_offset = 101}, WEIR_OUT_OF_RANGE},
        {{.path = file.path, .byte_offset = 1, .byte_size = 100}, WEIR_OUT_OF_RANGE},
        {{.path = file.path, .byte_offset = UINT64_MAX, .byte_size = 2}, WEIR_OUT_OF_RANGE},
        {{.path = file.path, .byte_size = UINT64_MAX}, WEIR_OUT_OF_RANGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        weir_storage* storage = NULL;
        assert_status(weir_storage_map(*state, &cases[i].desc, &storage), cases[i].expected);
        assert_null(storage);
        if (cases[i].desc.path) {
            assert_message_has(cases[i].desc.path);
        }
    }
    unlink(file.path);
    unlink(empty.path);
}

static void bad_wraps_are_refused(void** state) {
    weir_storage* storage = NULL;
    const weir_storage_wrap_desc nowhere = {.pointer = NULL, .byte_size = 1};
    assert_status(weir_storage_wrap(*state, &nowhere, &storage), WEIR_INVALID_ARGUMENT);
    const weir_storage_wrap_desc endless = {.pointer = state, .byte_size = UINT64_MAX};
    assert_status(weir_storage_wrap(*state, &endless, &storage), WEIR_OUT_OF_RANGE);
    assert_null(storage);
    const weir_storage_wrap_desc nothing = {.pointer = NULL, .byte_size = 0};
    assert_ok(weir_storage_wrap(*state, &nothing, &storage));
    weir_storage_release(storage);
}

static void count_release(void* context, void* pointer) {
    (void)pointer;
    ++*(int*)context;
}

static void a_wrap_is_given_back_once_by_the_last_reference(void** state) {
    float numbers[8] = {0};
    int released = 0;
    const weir_storage_wrap_desc desc = {.pointer = numbers,
                                         .byte_size = sizeof numbers,
                                         .sealed = true,
                                         .release = count_release,
                                         .context = &released};
    weir_storage* storage = NULL;
    assert_ok(weir_storage_wrap(*state, &desc, &storage));
    assert_true(weir_storage_is_sealed(storage));
    assert_ptr_equal(weir_storage_host_pointer(storage), numbers);
    const weir_view view = bytes_of(storage, 4, 8);
    weir_view_retain(&view);
    weir_storage_retain(storage);
    weir_storage_release(storage);
    weir_storage_release(storage);
    assert_int_equal(released, 0);
    weir_view_release(&view);
    assert_int_equal(released, 1);
    weir_storage_retain(NULL);
    weir_storage_release(NULL);
    weir_view_retain(&(weir_view){0});
    weir_view_release(&(weir_view){0});
}

static void views_lie_inside_their_storage(void** state) {
    weir_storage* storage = allocate(*state, 100);
    const struct {
        uint64_t byte_offset;
        weir_dtype dtype;
        int64_t dims[2];
        weir_status expected;
    } cases[] = {
        {0, WEIR_DTYPE_F32, {5, 5}, WEIR_OK},
        {4, WEIR_DTYPE_F32, {4, 6}, WEIR_OK},
        {4, WEIR_DTYPE_F32, {5, 5}, WEIR_OUT_OF_RANGE},
        {100, WEIR_DTYPE_F32, {0, 7}, WEIR_OK},
        {104, WEIR_DTYPE_F32, {0, 7}, WEIR_OUT_OF_RANGE},
        {100, WEIR_DTYPE_U8, {1, 1}, WEIR_OUT_OF_RANGE},
        {UINT64_MAX, WEIR_DTYPE_U8, {1, 1}, WEIR_OUT_OF_RANGE},
        {2, WEIR_DTYPE_F32, {1, 1}, WEIR_INVALID_ARGUMENT},
        {2, WEIR_DTYPE_F16, {1, 1}, WEIR_OK},
        {3, WEIR_DTYPE_U8, {1, 97}, WEIR_OK},
        {2, WEIR_DTYPE_Q8_0, {2, 32}, WEIR_OK},
        {1, WEIR_DTYPE_Q8_0, {2, 32}, WEIR_INVALID_ARGUMENT},
        {0, WEIR_DTYPE_Q8_0, {3, 32}, WEIR_OUT_OF_RANGE},
        {0, WEIR_DTYPE_Q8_0, {2, 31}, WEIR_INVALID_ARGUMENT},
        {0, WEIR_DTYPE_F32, {-1, 4}, WEIR_INVALID_ARGUMENT},
        {0, WEIR_DTYPE_NONE, {1, 1}, WEIR_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const weir_shape shape = weir_shape_make(2, cases[i].dims);
        weir_view view = {.byte_offset = 77};
        assert_status(weir_view_make(storage, cases[i].byte_offset, cases[i].dtype, &shape, &view),
                      cases[i].expected);
        assert_int_equal(view.byte_offset,
                         cases[i].expected == WEIR_OK ? cases[i].byte_offset : 77);
    }
    weir_storage_release(storage);
}

static void alignment_counts_from_the_memory_and_not_from_the_storage(void** state) {
    _Alignas(16) uint8_t bytes[32] = {0};
    weir_storage* storage = wrap(*state, bytes + 1, 31);
    const int64_t four = 4;
    const weir_shape shape = weir_shape_make(1, &four);
    weir_view view;
    assert_status(weir_view_make(storage, 0, WEIR_DTYPE_F32, &shape, &view), WEIR_INVALID_ARGUMENT);
    assert_message_has("F32");
    assert_status(weir_view_make(NULL, 0, WEIR_DTYPE_F32, &shape, &view), WEIR_INVALID_ARGUMENT);
    assert_ok(weir_view_make(storage, 3, WEIR_DTYPE_F32, &shape, &view));
    assert_ptr_equal(weir_view_contents(&view), bytes + 4);
    weir_storage_release(storage);
}

static void contents_include_the_offset_of_a_slice_of_a_slice(void** state) {
    weir_storage* storage = allocate(*state, 256);
    const weir_shape shape = weir_shape_make(1, (int64_t[]){32});
    weir_view view;
    weir_view slice;
    weir_view inner;
    assert_ok(weir_view_make(storage, 64, WEIR_DTYPE_F32, &shape, &view));
    assert_ok(weir_view_slice(&view, 16, 16, &slice));
    assert_ok(weir_view_slice(&slice, 8, 4, &inner));
    uint8_t* base = weir_storage_host_pointer(storage);
    assert_ptr_equal(weir_view_contents(&inner), base + 64 + 16 + 8);
    const weir_range range = weir_view_range(&inner);
    const weir_range whole = weir_view_range(&view);
    assert_int_equal(range.byte_offset - whole.byte_offset, 24);
    assert_int_equal(range.byte_length, 16);
    assert_int_equal(range.memory_id, whole.memory_id);
    assert_null(weir_view_contents(&(weir_view){.dtype = WEIR_DTYPE_F32}));
    const weir_range none = weir_view_range(&(weir_view){.dtype = WEIR_DTYPE_F32});
    assert_int_equal(none.byte_length, 0);
    weir_storage_release(storage);
}

static void wraps_of_the_same_bytes_are_the_same_bytes(void** state) {
    _Alignas(64) static uint8_t bytes[256];
    weir_storage* left = wrap(*state, bytes, 128);
    weir_storage* middle = wrap(*state, bytes + 64, 128);
    weir_storage* right = wrap(*state, bytes + 128, 128);
    const weir_view left_view = bytes_of(left, 0, 128);
    const weir_view middle_view = bytes_of(middle, 0, 128);
    const weir_view right_view = bytes_of(right, 0, 128);
    const weir_range a = weir_view_range(&left_view);
    const weir_range b = weir_view_range(&middle_view);
    const weir_range c = weir_view_range(&right_view);
    assert_true(weir_range_overlaps(&a, &b));
    assert_true(weir_range_overlaps(&b, &c));
    assert_false(weir_range_overlaps(&a, &c));
    weir_storage_release(left);
    weir_storage_release(middle);
    weir_storage_release(right);
}

static void owned_storages_never_share_a_byte(void** state) {
    weir_storage* storages[8];
    weir_range ranges[8];
    for (size_t i = 0; i < 8; i++) {
        storages[i] = allocate(*state, 1 + 40 * i);
        const weir_view view = bytes_of(storages[i], 0, (int64_t)(1 + 40 * i));
        ranges[i] = weir_view_range(&view);
        for (size_t k = 0; k < i; k++) {
            assert_false(weir_range_overlaps(&ranges[i], &ranges[k]));
        }
    }
    for (size_t i = 0; i < 8; i++) {
        weir_storage_release(storages[i]);
    }
}

static weir_status never_run(const weir_kernel_call* call) {
    (void)call;
    return WEIR_FAIL(WEIR_INTERNAL, "the null device ran a kernel");
}

static void sealing_waits_for_work_in_flight(void** state) {
    (void)state;
    weir_device* device = new_device("null", true, NULL);
    weir_storage* storage = allocate(device, 64);
    const weir_operand operand = {bytes_of(storage, 0, 64), WEIR_ACCESS_WRITE};
    const weir_dispatch_desc dispatch = {
        .kernel = never_run, .operands = &operand, .operand_count = 1};
    weir_session* session = NULL;
    weir_ticket ticket;
    assert_ok(weir_session_create(device, &session));
    assert_ok(weir_session_dispatch(session, &dispatch, NULL));
    assert_ok(weir_session_commit(session, &ticket));
    assert_status(weir_storage_seal(storage), WEIR_BUSY);
    assert_false(weir_storage_is_sealed(storage));
    assert_int_equal(weir_null_complete(device, 1, WEIR_OK), 1);
    assert_ok(weir_storage_seal(storage));
    assert_true(weir_storage_is_sealed(storage));
    assert_status(weir_session_dispatch(session, &dispatch, NULL), WEIR_INVALID_ARGUMENT);
    weir_session_destroy(session);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static weir_plan* two_buffers(uint64_t first, uint64_t second) {
    const weir_plan_buffer buffers[] = {{.byte_size = first}, {.byte_size = second}};
    const weir_plan_problem problem = {.buffers = buffers, .buffer_count = 2, .alignment = 64};
    weir_plan* plan = NULL;
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    return plan;
}

static void arena_views_lie_where_the_plan_says(void** state) {
    weir_plan* plan = two_buffers(100, 200);
    weir_arena* arena = NULL;
    assert_ok(weir_arena_create(*state, plan, &arena));
    assert_int_equal(weir_arena_byte_size(arena), weir_plan_result_of(plan)->peak);
    assert_int_equal(weir_storage_byte_size(weir_arena_storage(arena)),
                     weir_plan_result_of(plan)->peak);
    const weir_plan_entry* entries = weir_plan_entries(plan, NULL);
    const weir_shape shape = weir_shape_make(2, (int64_t[]){5, 10});
    weir_view view;
    assert_ok(weir_arena_view(arena, plan, 1, WEIR_DTYPE_F32, &shape, &view));
    assert_int_equal(view.byte_offset, entries[1].byte_offset);
    assert_ptr_equal(view.storage, weir_arena_storage(arena));
    assert_status(weir_arena_view(arena, plan, 0, WEIR_DTYPE_F32, &shape, &view),
                  WEIR_OUT_OF_RANGE);
    assert_message_has("entry 0");
    assert_status(weir_arena_view(arena, plan, 2, WEIR_DTYPE_F32, &shape, &view), WEIR_NOT_FOUND);
    weir_arena_destroy(arena);
    weir_arena_destroy(NULL);
    weir_plan_destroy(plan);
}

static void an_arena_is_too_small_for_a_larger_plan(void** state) {
    weir_plan* plan = two_buffers(100, 200);
    weir_arena* arena = NULL;
    assert_ok(weir_arena_create_sized(*state, 128, &arena));
    const weir_shape shape = weir_shape_make(1, (int64_t[]){200});
    weir_view view;
    const uint64_t offset = weir_plan_entries(plan, NULL)[1].byte_offset;
    assert_true(offset + 200 > 128);
    assert_status(weir_arena_view(arena, plan, 1, WEIR_DTYPE_U8, &shape, &view), WEIR_OUT_OF_RANGE);
    weir_arena_destroy(arena);
    weir_plan_destroy(plan);
}

static void failed_allocations_leave_nothing_behind(void** state) {
    (void)state;
    const temporary_file file = write_file(100);
    test_allocator counter = {.fail_at = SIZE_MAX};
    weir_device* device = new_device("cpu", false, &counter);
    const size_t live = atomic_load(&counter.live_blocks);
    uint8_t byte = 0;
    int released = 0;
    for (int which = 0; which < 4; which++) {
        weir_status status = WEIR_OUT_OF_MEMORY;
        for (size_t step = 0; status != WEIR_OK; step++) {
            assert_true(step < 8);
            weir_storage* storage = NULL;
            weir_arena* arena = NULL;
            counter.fail_at = atomic_load(&counter.calls) + step;
            if (which == 0) {
                const weir_storage_desc desc = {.byte_size = 10};
                status = weir_storage_allocate(device, &desc, &storage);
            } else if (which == 1) {
                const weir_storage_map_desc desc = {.path = file.path};
                status = weir_storage_map(device, &desc, &storage);
            } else if (which == 2) {
                const weir_storage_wrap_desc desc = {.pointer = &byte,
                                                     .byte_size = 1,
                                                     .release = count_release,
                                                     .context = &released};
                status = weir_storage_wrap(device, &desc, &storage);
            } else {
                status = weir_arena_create_sized(device, 100, &arena);
            }
            counter.fail_at = SIZE_MAX;
            assert_true(status == WEIR_OK || status == WEIR_OUT_OF_MEMORY);
            assert_true(status == WEIR_OK || (!storage && !arena && released == (which == 3)));
            weir_storage_release(storage);
            weir_arena_destroy(arena);
            assert_int_equal(atomic_load(&counter.live_blocks), live);
        }
    }
    assert_int_equal(released, 1);
    weir_device_destroy(device);
    assert_int_equal(atomic_load(&counter.live_bytes), 0);
    unlink(file.path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_devices_are_not_found),
        cmocka_unit_test(allocated_memory_is_filled_and_aligned),
        cmocka_unit_test(an_empty_storage_has_no_bytes_to_view),
        cmocka_unit_test(bad_allocations_are_refused),
        cmocka_unit_test(mapped_ranges_hold_the_bytes_of_the_file),
        cmocka_unit_test(a_mapping_outlives_the_name_of_its_file),
        cmocka_unit_test(bad_mappings_are_refused),
        cmocka_unit_test(bad_wraps_are_refused),
        cmocka_unit_test(a_wrap_is_given_back_once_by_the_last_reference),
        cmocka_unit_test(views_lie_inside_their_storage),
        cmocka_unit_test(alignment_counts_from_the_memory_and_not_from_the_storage),
        cmocka_unit_test(contents_include_the_offset_of_a_slice_of_a_slice),
        cmocka_unit_test(wraps_of_the_same_bytes_are_the_same_bytes),
        cmocka_unit_test(owned_storages_never_share_a_byte),
        cmocka_unit_test(sealing_waits_for_work_in_flight),
        cmocka_unit_test(arena_views_lie_where_the_plan_says),
        cmocka_unit_test(an_arena_is_too_small_for_a_larger_plan),
        cmocka_unit_test(failed_allocations_leave_nothing_behind),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
