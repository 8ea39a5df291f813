// Typed access of the host to views, on every device that runs in host memory: `state` is the name
// of the device.
#include "session_testing.h"

#include <unistd.h>

static weir_view bytes_of(weir_storage* storage, uint64_t byte_offset, int64_t count) {
    const weir_shape shape = weir_shape_make(1, &count);
    weir_view view;
    assert_ok(weir_view_make(storage, byte_offset, WEIR_DTYPE_U8, &shape, &view));
    return view;
}

static void a_view_is_read_and_written_where_it_lies(void** state) {
    weir_device* device = open_device(*state, 1, NULL);
    weir_storage* storage = allocate_zeros(device, 256);
    const weir_view view = floats_of(storage, 64, 10);
    void* elements = NULL;
    const void* seen = NULL;
    int64_t count = 0;
    assert_ok(weir_view_write(&view, WEIR_DTYPE_F32, &elements, &count));
    assert_int_equal(count, 10);
    assert_ptr_equal(elements, (char*)weir_storage_host_pointer(storage) + 64);
    ((float*)elements)[9] = 5;
    weir_view slice;
    assert_ok(weir_view_slice(&view, 36, 1, &slice)); // through one view and seen by the other
    assert_ok(weir_view_read(&slice, WEIR_DTYPE_F32, &seen, &count));
    assert_int_equal(count, 1);
    assert_true(*(const float*)seen == 5);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static void raw_bytes_are_read_as_any_type_that_divides_them(void** state) {
    weir_device* device = open_device(*state, 1, NULL);
    weir_storage* storage = allocate_zeros(device, 256);
    const void* seen = NULL;
    int64_t count = -1;
    const weir_view whole = bytes_of(storage, 0, 36);
    assert_ok(weir_view_read(&whole, WEIR_DTYPE_F32, &seen, &count));
    assert_int_equal(count, 9);
    assert_ok(weir_view_read(&whole, WEIR_DTYPE_Q4_0, &seen, &count)); // two blocks of 18 bytes
    assert_int_equal(count, 64);
    const weir_view odd = bytes_of(storage, 0, 10);
    seen = NULL;
    count = -1;
    assert_status(weir_view_read(&odd, WEIR_DTYPE_F32, &seen, &count), WEIR_INVALID_ARGUMENT);
    assert_message_has("no whole elements");
    const weir_view shifted = bytes_of(storage, 2, 8);
    assert_status(weir_view_read(&shifted, WEIR_DTYPE_F32, &seen, &count), WEIR_INVALID_ARGUMENT);
    assert_message_has("misaligned");
    assert_null(seen);
    assert_int_equal(count, -1);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static void wrong_types_and_shapes_are_refused(void** state) {
    weir_device* device = open_device(*state, 1, NULL);
    weir_storage* storage = allocate_zeros(device, 256);
    const void* seen = NULL;
    void* elements = NULL;
    int64_t count = -1;
    const weir_view view = floats_of(storage, 0, 16);
    assert_status(weir_view_read(&view, WEIR_DTYPE_I32, &seen, &count), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_read(&view, WEIR_DTYPE_NONE, &seen, &count), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_write(&view, WEIR_DTYPE_U8, &elements, &count), WEIR_INVALID_ARGUMENT);
    const weir_shape square = weir_shape_make(2, (const int64_t[]){4, 4});
    weir_view columns;
    assert_ok(weir_view_reshape(&view, &square, &columns));
    assert_ok(weir_view_narrow(&columns, 1, 0, 2, &columns));
    assert_status(weir_view_read(&columns, WEIR_DTYPE_F32, &seen, &count), WEIR_INVALID_ARGUMENT);
    assert_message_has("not contiguous");
    const weir_view nowhere = {.dtype = WEIR_DTYPE_F32, .shape = square};
    assert_status(weir_view_read(&nowhere, WEIR_DTYPE_F32, &seen, &count), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_write(&nowhere, WEIR_DTYPE_F32, &elements, &count),
                  WEIR_INVALID_ARGUMENT);
    weir_view past = view;
    past.byte_offset = 252;
    assert_status(weir_view_read(&past, WEIR_DTYPE_F32, &seen, &count), WEIR_OUT_OF_RANGE);
    assert_null(seen);
    assert_null(elements);
    assert_int_equal(count, -1);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static void memory_out_of_reach_is_unsupported(void** state) {
    weir_device* device = open_device(*state, 1, NULL);
    const weir_storage_desc desc = {.byte_size = 64, .device_only = true};
    weir_storage* storage = NULL;
    const void* seen = NULL;
    void* elements = NULL;
    int64_t count = 0;
    assert_ok(weir_storage_allocate(device, &desc, &storage));
    const weir_view view = floats_of(storage, 0, 16);
    assert_status(weir_view_read(&view, WEIR_DTYPE_F32, &seen, &count), WEIR_UNSUPPORTED);
    assert_status(weir_view_write(&view, WEIR_DTYPE_F32, &elements, &count), WEIR_UNSUPPORTED);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static void sealed_and_mapped_memory_is_never_written(void** state) {
    weir_device* device = open_device(*state, 1, NULL);
    weir_storage* storage = allocate_zeros(device, 64);
    const weir_view view = floats_of(storage, 0, 16);
    const void* seen = NULL;
    void* elements = NULL;
    int64_t count = 0;
    assert_ok(weir_storage_seal(storage));
    assert_ok(weir_view_read(&view, WEIR_DTYPE_F32, &seen, &count));
    assert_status(weir_view_write(&view, WEIR_DTYPE_F32, &elements, &count), WEIR_INVALID_ARGUMENT);
    assert_message_has("sealed");
    weir_storage_release(storage);

    char path[] = "/tmp/weir_access_XXXXXX";
    const int descriptor = mkstemp(path);
    const float numbers[4] = {1, 2, 3, 4};
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, numbers, sizeof numbers), sizeof numbers);
    close(descriptor);
    assert_ok(weir_storage_map(device, &(weir_storage_map_desc){.path = path}, &storage));
    const weir_view mapped = floats_of(storage, 0, 4);
    assert_ok(weir_view_read(&mapped, WEIR_DTYPE_F32, &seen, &count));
    assert_true(((const float*)seen)[3] == 4);
    assert_status(weir_view_write(&mapped, WEIR_DTYPE_F32, &elements, &count),
                  WEIR_INVALID_ARGUMENT);
    unlink(path);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static weir_status do_nothing(const weir_kernel_call* call) {
    (void)call;
    return WEIR_OK;
}

// A pass in flight reads bytes [0, 64) and writes [64, 128).
static void passes_in_flight_are_not_disturbed(void** state) {
    (void)state;
    weir_device* device = open_manual();
    weir_session* session = NULL;
    assert_ok(weir_session_create(device, &session));
    weir_storage* storage = allocate_zeros(device, 256);
    const weir_operand operands[] = {
        {.view = floats_of(storage, 0, 16), .kind = WEIR_ACCESS_READ},
        {.view = floats_of(storage, 64, 16), .kind = WEIR_ACCESS_WRITE},
    };
    const weir_dispatch_desc dispatch = {
        .kernel = do_nothing, .operands = operands, .operand_count = 2};
    const weir_view free_view = floats_of(storage, 128, 16);
    const weir_view overlapping = floats_of(storage, 124, 16); // its first element is written
    weir_ticket ticket;
    const void* seen = NULL;
    void* elements = NULL;
    int64_t count = 0;
    assert_ok(weir_session_dispatch(session, &dispatch, NULL));
    assert_ok(weir_view_write(&operands[1].view, WEIR_DTYPE_F32, &elements, &count)); // recorded
    assert_ok(weir_session_commit(session, &ticket));
    assert_ok(weir_view_read(&operands[0].view, WEIR_DTYPE_F32, &seen, &count));
    assert_status(weir_view_write(&operands[0].view, WEIR_DTYPE_F32, &elements, &count), WEIR_BUSY);
    assert_status(weir_view_read(&operands[1].view, WEIR_DTYPE_F32, &seen, &count), WEIR_BUSY);
    assert_status(weir_view_write(&operands[1].view, WEIR_DTYPE_F32, &elements, &count), WEIR_BUSY);
    assert_status(weir_view_read(&overlapping, WEIR_DTYPE_F32, &seen, &count), WEIR_BUSY);
    assert_ok(weir_view_read(&free_view, WEIR_DTYPE_F32, &seen, &count));
    assert_ok(weir_view_write(&free_view, WEIR_DTYPE_F32, &elements, &count));
    assert_int_equal(weir_null_complete(device, 1, WEIR_OK), 1);
    assert_ok(weir_view_read(&operands[1].view, WEIR_DTYPE_F32, &seen, &count));
    assert_ok(weir_view_write(&operands[0].view, WEIR_DTYPE_F32, &elements, &count));
    assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    weir_session_destroy(session);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static void a_lazy_storage_is_touched_or_says_why_not(void** state) {
    test_allocator counter = {.fail_at = SIZE_MAX};
    weir_device* device = open_device(*state, 1, &counter);
    const weir_storage_desc desc = {.byte_size = 64, .lazy = true, .fill = WEIR_FILL_ZERO};
    weir_storage* storage = NULL;
    const void* seen = NULL;
    int64_t count = 0;
    assert_ok(weir_storage_allocate(device, &desc, &storage));
    const weir_view view = floats_of(storage, 0, 16);
    counter.fail_at = atomic_load(&counter.calls);
    assert_status(weir_view_read(&view, WEIR_DTYPE_F32, &seen, &count), WEIR_OUT_OF_MEMORY);
    assert_null(seen);
    assert_ok(weir_view_read(&view, WEIR_DTYPE_F32, &seen, &count));
    assert_true(((const float*)seen)[15] == 0);
    weir_storage_release(storage);
    weir_device_destroy(device);
    assert_int_equal(atomic_load(&counter.live_bytes), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ON_BOTH(a_view_is_read_and_written_where_it_lies),
        ON_BOTH(raw_bytes_are_read_as_any_type_that_divides_them),
        ON_BOTH(wrong_types_and_shapes_are_refused),
        ON_BOTH(memory_out_of_reach_is_unsupported),
        ON_BOTH(sealed_and_mapped_memory_is_never_written),
        cmocka_unit_test(passes_in_flight_are_not_disturbed),
        ON_BOTH(a_lazy_storage_is_touched_or_says_why_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
