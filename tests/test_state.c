// States that are committed as they grow, on every device that runs in host memory: `state` is the
// name of the device.
#include "session_testing.h"

#include <unistd.h>

#include "device/backend.h"

static weir_state* create(weir_device* device, int64_t row_elements, int64_t rows, uint32_t slots) {
    const weir_state_desc desc = {.dtype = WEIR_DTYPE_F32,
                                  .row = weir_shape_make(1, &row_elements),
                                  .row_count_max = rows,
                                  .slot_count = slots,
                                  .name = "cache"};
    weir_state* state = NULL;
    assert_ok(weir_state_create(device, &desc, &state));
    return state;
}

// Resident kilobytes of this process.
static long resident_kilobytes(void) {
    FILE* file = fopen("/proc/self/statm", "r");
    long size = 0;
    long resident = 0;
    if (!file || fscanf(file, "%ld %ld", &size, &resident) != 2) {
        resident = 0;
    }
    if (file) {
        fclose(file);
    }
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void reserving_takes_addresses_and_growth_takes_memory(void** name) {
    weir_device* device = open_device(*name, 1, NULL);
    // 4 slots of 2^20 rows of 4 KiB: 16 GiB of addresses.
    weir_state* state = create(device, 1024, 1 << 20, 4);
    assert_int_equal(weir_state_reserved_bytes(state), UINT64_C(16) << 30);
    assert_int_equal(weir_state_committed_bytes(state), 0);
    assert_int_equal(weir_storage_byte_size(weir_state_storage(state, 0)), UINT64_C(16) << 30);
    const long before = resident_kilobytes();
    for (int64_t rows = 1; rows <= 256; rows++) {
        assert_ok(weir_state_grow(state, rows));
        for (uint32_t slot = 0; slot < 4; slot++) {
            weir_view row;
            assert_ok(weir_state_rows(state, slot, rows - 1, 1, &row));
            memset(weir_view_contents(&row), (int)slot, 4096);
        }
        const uint64_t used = (uint64_t)rows * 4096 * 4;
        assert_true(weir_state_committed_bytes(state) >= used);
        assert_true(weir_state_committed_bytes(state) <= used + used / 8 + 4 * (65536 + 4096));
    }
    assert_int_equal(weir_state_row_count(state), 256);
    const long taken = resident_kilobytes() - before;
    assert_true(taken >= 4000 && taken < 3 * 4096); // 4 MiB written; some more by the tools
    weir_state_destroy(state);
    weir_device_destroy(device);
}

static void rows_keep_what_was_appended(void** name) {
    weir_device* device = open_device(*name, 1, NULL);
    weir_state* state = create(device, 100, 1000, 3);
    for (int64_t rows = 0; rows < 1000; rows += 50) {
        assert_ok(weir_state_grow(state, rows + 50));
        for (uint32_t slot = 0; slot < 3; slot++) {
            weir_view view;
            assert_ok(weir_state_rows(state, slot, rows, 50, &view));
            assert_int_equal(view.shape.dims[0], 50);
            assert_int_equal(view.shape.dims[1], 100);
            float* numbers = weir_view_contents(&view);
            for (int i = 0; i < 5000; i++) {
                numbers[i] = (float)(slot * 100000 + (uint32_t)rows * 100 + (uint32_t)i);
            }
        }
    }
    for (uint32_t slot = 0; slot < 3; slot++) {
        weir_view whole;
        assert_ok(weir_state_view(state, slot, &whole));
        assert_int_equal(whole.shape.dims[0], 1000);
        const float* numbers = weir_view_contents(&whole);
        for (uint32_t i = 0; i < 100000; i++) {
            assert_true(numbers[i] == (float)(slot * 100000 + i));
        }
    }
    weir_state_destroy(state);
    weir_device_destroy(device);
}

static void growth_past_the_limit_is_out_of_range(void** name) {
    weir_device* device = open_device(*name, 1, NULL);
    weir_state* state = create(device, 4, 10, 0);
    assert_status(weir_state_grow(state, 11), WEIR_OUT_OF_RANGE);
    assert_int_equal(weir_state_row_count(state), 0);
    assert_ok(weir_state_grow(state, 10));
    assert_ok(weir_state_grow(state, 3)); // at least 3: nothing to do
    assert_int_equal(weir_state_row_count(state), 10);
    weir_view view = {0};
    assert_status(weir_state_rows(state, 0, 9, 2, &view), WEIR_OUT_OF_RANGE);
    assert_status(weir_state_rows(state, 0, -1, 1, &view), WEIR_OUT_OF_RANGE);
    assert_status(weir_state_rows(state, 0, INT64_MAX, 1, &view), WEIR_OUT_OF_RANGE);
    assert_status(weir_state_rows(state, 1, 0, 1, &view), WEIR_NOT_FOUND);
    assert_status(weir_state_view(state, 1, &view), WEIR_NOT_FOUND);
    assert_null(view.storage);
    weir_state_destroy(state);
    weir_state_destroy(NULL);
    weir_device_destroy(device);
}

static void truncation_gives_pages_back(void** name) {
    weir_device* device = open_device(*name, 1, NULL);
    weir_state* state = create(device, 1024, 4096, 2);
    assert_ok(weir_state_grow(state, 4096));
    weir_view view;
    for (uint32_t slot = 0; slot < 2; slot++) {
        assert_ok(weir_state_view(state, slot, &view));
        memset(weir_view_contents(&view), 7, 4096 * 4096);
    }
    assert_int_equal(weir_state_committed_bytes(state), 2 * 4096 * 4096);
    const long before = resident_kilobytes();
    assert_ok(weir_state_truncate(state, 4095)); // growth to 4095 would commit as much
    assert_int_equal(weir_state_committed_bytes(state), 2 * 4096 * 4096);
    assert_ok(weir_state_truncate(state, 16));
    assert_true(weir_state_committed_bytes(state) <= 2 * (16 * 4096 + 65536));
    assert_true(before - resident_kilobytes() > 30000);
    assert_ok(weir_state_view(state, 1, &view));
    assert_int_equal(((const uint8_t*)weir_view_contents(&view))[16 * 4096 - 1], 7);
    assert_status(weir_state_truncate(state, 17), WEIR_OUT_OF_RANGE);
    assert_status(weir_state_truncate(state, -1), WEIR_OUT_OF_RANGE);
    assert_ok(weir_state_truncate(state, 0));
    assert_int_equal(weir_state_committed_bytes(state), 0);
    assert_ok(weir_state_grow(state, 100));
    assert_ok(weir_state_rows(state, 1, 99, 1, &view));
    memset(weir_view_contents(&view), 9, 4096);
    weir_state_destroy(state);
    weir_device_destroy(device);
}

static weir_status touch_nothing(const weir_kernel_call* call) {
    (void)call;
    return WEIR_OK;
}

static void truncation_waits_for_nobody(void** name) {
    (void)name;
    weir_device* device = open_manual();
    weir_session* session = NULL;
    assert_ok(weir_session_create(device, &session));
    weir_state* state = create(device, 4, 10, 0);
    assert_ok(weir_state_grow(state, 10));
    weir_operand operand = {.kind = WEIR_ACCESS_READ};
    assert_ok(weir_state_rows(state, 0, 5, 2, &operand.view));
    const weir_dispatch_desc dispatch = {
        .kernel = touch_nothing, .operands = &operand, .operand_count = 1};
    weir_ticket ticket;
    assert_ok(weir_session_dispatch(session, &dispatch, NULL));
    assert_ok(weir_session_commit(session, &ticket));
    assert_status(weir_state_truncate(state, 6), WEIR_BUSY);
    assert_int_equal(weir_state_row_count(state), 10);
    assert_ok(weir_state_truncate(state, 7)); // rows that the pass does not touch
    assert_int_equal(weir_state_row_count(state), 7);
    assert_int_equal(weir_null_complete(device, 1, WEIR_OK), 1);
    assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    assert_ok(weir_state_truncate(state, 6));
    weir_session_destroy(session);
    weir_state_destroy(state);
    weir_device_destroy(device);
}

// x [2, 4] is stored at `position` of a cache [8, 4], and rows of it are looked up.
static void passes_past_the_rows_are_refused(void** name) {
    weir_device* device = open_device(*name, 1, NULL);
    weir_state* state = create(device, 4, 8, 2);
    weir_graph* graph = NULL;
    weir_schedule* schedule = NULL;
    weir_program* program = NULL;
    weir_param position;
    weir_value x;
    weir_binding binding;
    const weir_shape rows = weir_shape_make(2, (const int64_t[]){2, 4});
    const weir_shape cache = weir_shape_make(2, (const int64_t[]){8, 4});
    const float numbers[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    assert_ok(weir_graph_create(NULL, &graph));
    assert_ok(weir_graph_param(graph, "position", 0, 6, &position));
    assert_ok(weir_graph_input(graph, "x", WEIR_DTYPE_F32, &rows, WEIR_PARAM_NONE, &x));
    assert_ok(weir_graph_state(graph, "cache", WEIR_DTYPE_F32, &cache, &binding.value));
    assert_ok(weir_graph_set_rows(graph, x, binding.value, position));
    assert_ok(weir_schedule_create(NULL, graph, weir_device_target(device), NULL, &schedule));
    assert_ok(weir_state_view(state, 1, &binding.view));
    const weir_program_desc desc = {.schedule = schedule, .bindings = &binding, .binding_count = 1};
    assert_ok(weir_program_create(device, &desc, &program));
    assert_ok(weir_state_grow(state, 3));
    for (uint64_t at = 0; at <= 6; at++) {
        assert_ok(weir_program_write(program, x, numbers, sizeof numbers));
        assert_status(weir_program_run(program, &at, 1), at <= 1 ? WEIR_OK : WEIR_OUT_OF_RANGE);
    }
    assert_message_has("cache");
    assert_ok(weir_state_grow(state, 8));
    assert_ok(weir_program_run(program, &(uint64_t){6}, 1));

    weir_session* session = NULL;
    weir_operand operand = {.kind = WEIR_ACCESS_READ};
    const void* elements = NULL;
    int64_t count = 0;
    assert_ok(weir_state_rows(state, 0, 5, 2, &operand.view));
    const weir_dispatch_desc dispatch = {
        .kernel = touch_nothing, .operands = &operand, .operand_count = 1};
    assert_ok(weir_session_create(device, &session));
    assert_ok(weir_session_dispatch(session, &dispatch, NULL));
    assert_ok(weir_state_truncate(state, 6)); // after the recording
    assert_status(weir_session_finish(session), WEIR_OUT_OF_RANGE);
    assert_status(weir_view_read(&operand.view, WEIR_DTYPE_F32, &elements, &count),
                  WEIR_OUT_OF_RANGE);
    assert_ok(weir_state_grow(state, 7));
    assert_ok(weir_session_finish(session));
    assert_ok(weir_view_read(&operand.view, WEIR_DTYPE_F32, &elements, &count));
    weir_session_destroy(session);
    weir_program_destroy(program);
    weir_schedule_destroy(schedule);
    weir_graph_destroy(graph);
    weir_state_destroy(state);
    weir_device_destroy(device);
}

static void bad_states_are_refused(void** name) {
    weir_device* device = open_device(*name, 1, NULL);
    weir_state* state = NULL;
    weir_state_desc desc = {.dtype = WEIR_DTYPE_F32, .row_count_max = 0};
    assert_status(weir_state_create(device, &desc, &state), WEIR_INVALID_ARGUMENT);
    desc.row_count_max = 4;
    desc.row.rank = WEIR_RANK_MAX;
    assert_status(weir_state_create(device, &desc, &state), WEIR_INVALID_ARGUMENT);
    desc.row = weir_shape_make(1, (const int64_t[]){0});
    assert_status(weir_state_create(device, &desc, &state), WEIR_INVALID_ARGUMENT);
    desc.row.dims[0] = INT64_MAX / 8;
    assert_status(weir_state_create(device, &desc, &state), WEIR_OUT_OF_RANGE);
    desc.row.dims[0] = 1024;
    desc.row_count_max = 1 << 20;
    desc.slot_count = UINT32_MAX;
    assert_status(weir_state_create(device, &desc, &state), WEIR_OUT_OF_RANGE);
    desc.dtype = WEIR_DTYPE_Q8_0;
    desc.row.dims[0] = 33;
    desc.slot_count = 1;
    assert_status(weir_state_create(device, &desc, &state), WEIR_INVALID_ARGUMENT);
    assert_null(state);
    weir_device_destroy(device);
}

// A device of which no storage is larger than `limit`.
static weir_device* open_capped(const char* name, uint64_t limit, test_allocator* counter) {
    weir_device* device = open_device(name, 1, counter);
    device->target.storage_bytes_max = limit;
    return device;
}

static void slots_lie_in_storages_no_larger_than_the_device_allows(void** name) {
    weir_device* device = open_capped(*name, 2 * 16384 + 100, NULL);
    weir_device* free_device = open_device(*name, 1, NULL);
    weir_state* state = create(device, 1024, 4, 7); // slots of 16384 bytes
    weir_state* whole = create(free_device, 1024, 4, 7);
    assert_int_equal(weir_state_storage_count(state), 4);
    assert_int_equal(weir_state_storage_count(whole), 1);
    assert_int_equal(weir_state_reserved_bytes(state), weir_state_reserved_bytes(whole));
    static const int64_t counts[] = {1, 3, 4, 2, 4, 0, 4};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        const int64_t before = weir_state_row_count(state);
        const bool grows = counts[i] > before;
        assert_ok((grows ? weir_state_grow : weir_state_truncate)(state, counts[i]));
        assert_ok((grows ? weir_state_grow : weir_state_truncate)(whole, counts[i]));
        assert_int_equal(weir_state_committed_bytes(state), weir_state_committed_bytes(whole));
        for (uint32_t slot = 0; slot < 7; slot++) {
            weir_view view;
            assert_ok(weir_state_rows(state, slot, 0, counts[i], &view));
            assert_ptr_equal(view.storage, weir_state_storage(state, slot));
            assert_true(weir_storage_byte_size(view.storage) <= 2 * 16384 + 100);
            assert_int_equal(view.byte_offset, slot % 2 * 16384);
            uint8_t* bytes = weir_view_contents(&view);
            for (int64_t at = 0; bytes && at < before && at < counts[i]; at++) {
                assert_int_equal(bytes[at * 4096], 10 * (int)slot + (int)at); // as it was left
            }
            for (int64_t at = 0; at < counts[i]; at++) {
                memset(bytes + at * 4096, 10 * (int)slot + (int)at, 4096);
            }
        }
    }
    assert_ptr_equal(weir_state_storage(state, 2), weir_state_storage(state, 3));
    assert_ptr_not_equal(weir_state_storage(state, 1), weir_state_storage(state, 2));
    assert_null(weir_state_storage(state, 7));
    assert_int_equal(weir_storage_byte_size(weir_state_storage(state, 6)), 16384); // one is left
    weir_state_destroy(state);
    weir_state_destroy(whole);
    weir_device_destroy(device);
    weir_device_destroy(free_device);
}

static void a_slot_that_no_storage_holds_is_refused(void** name) {
    weir_device* device = open_capped(*name, 16383, NULL);
    const weir_state_desc desc = {.dtype = WEIR_DTYPE_F32,
                                  .row = weir_shape_make(1, (const int64_t[]){1024}),
                                  .row_count_max = 4,
                                  .name = "cache"};
    weir_state* state = NULL;
    assert_status(weir_state_create(device, &desc, &state), WEIR_DEVICE_OUT_OF_MEMORY);
    assert_message_has("a slot of cache takes 16384 bytes, the largest storage of ");
    assert_message_has(" has 16383");
    assert_null(state);
    weir_device_destroy(device);
}

static void rows_of_every_storage_are_looked_at_before_they_go(void** name) {
    (void)name;
    weir_device* device = open_manual();
    device->target.storage_bytes_max = 4096;
    weir_session* session = NULL;
    assert_ok(weir_session_create(device, &session));
    weir_state* state = create(device, 4, 10, 3); // a page each
    assert_int_equal(weir_state_storage_count(state), 3);
    assert_ok(weir_state_grow(state, 10));
    for (uint32_t slot = 0; slot < 3; slot++) {
        weir_operand operand = {.kind = WEIR_ACCESS_READ};
        assert_ok(weir_state_grow(state, 10));
        assert_ok(weir_state_rows(state, slot, 5, 2, &operand.view));
        const weir_dispatch_desc dispatch = {
            .kernel = touch_nothing, .operands = &operand, .operand_count = 1};
        weir_ticket ticket;
        assert_ok(weir_session_dispatch(session, &dispatch, NULL));
        assert_ok(weir_session_commit(session, &ticket));
        assert_status(weir_state_truncate(state, 6), WEIR_BUSY);
        assert_ok(weir_state_truncate(state, 7));
        assert_int_equal(weir_null_complete(device, 1, WEIR_OK), 1);
        assert_ok(weir_state_truncate(state, 6));
        assert_ok(weir_session_dispatch(session, &dispatch, NULL)); // past the rows now
        assert_status(weir_session_commit(session, &ticket), WEIR_OUT_OF_RANGE);
        weir_session_destroy(session);
        assert_ok(weir_session_create(device, &session));
    }
    weir_session_destroy(session);
    weir_state_destroy(state);
    weir_device_destroy(device);
}

static void check_failed_growth(uint64_t storage_bytes_max) {
    weir_device* device = open_capped("null", storage_bytes_max, NULL);
    weir_state* state = create(device, 1024, 1000, 3);
    assert_int_equal(weir_state_storage_count(state), storage_bytes_max > 0 ? 3 : 1);
    assert_ok(weir_state_grow(state, 1));
    const uint64_t committed = weir_state_committed_bytes(state);
    for (uint32_t call = 0; call < 3; call++) {
        weir_null_fail(device, call, WEIR_OUT_OF_MEMORY);
        assert_status(weir_state_grow(state, 900), WEIR_OUT_OF_MEMORY);
        assert_int_equal(weir_state_row_count(state), 1);
        assert_int_equal(weir_state_committed_bytes(state), committed);
    }
    assert_ok(weir_state_grow(state, 900));
    weir_view view;
    assert_ok(weir_state_rows(state, 2, 0, 900, &view));
    memset(weir_view_contents(&view), 1, 900 * 4096);
    weir_null_fail(device, 0, WEIR_DEVICE_OUT_OF_MEMORY);
    weir_state* second = NULL;
    const weir_state_desc desc = {.dtype = WEIR_DTYPE_U8, .row_count_max = 1};
    assert_status(weir_state_create(device, &desc, &second), WEIR_DEVICE_OUT_OF_MEMORY);
    weir_state_destroy(state);
    weir_device_destroy(device);
}

static void failed_growth_leaves_the_state_as_it_was(void** name) {
    (void)name;
    check_failed_growth(0);
    check_failed_growth(1000 * 4096);
}

// With a storage for each of five slots.
static void each_allocation_may_fail(void** name) {
    for (size_t fail_at = 0;; fail_at++) {
        test_allocator counter = {.fail_at = SIZE_MAX};
        weir_device* device = open_capped(*name, 4096, &counter);
        const size_t before = atomic_load(&counter.live_bytes);
        counter.fail_at = atomic_load(&counter.calls) + fail_at;
        const weir_state_desc desc = {.dtype = WEIR_DTYPE_U8, .row_count_max = 64, .slot_count = 5};
        weir_state* state = NULL;
        const weir_status status = weir_state_create(device, &desc, &state);
        if (status == WEIR_OK) {
            assert_ok(weir_state_grow(state, 64));
            assert_ok(weir_state_truncate(state, 0));
        }
        weir_state_destroy(state);
        assert_int_equal(atomic_load(&counter.live_bytes), before);
        weir_device_destroy(device);
        if (status == WEIR_OK) {
            assert_true(fail_at >= 7);
            break;
        }
        assert_int_equal(status, WEIR_OUT_OF_MEMORY);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ON_BOTH(reserving_takes_addresses_and_growth_takes_memory),
        ON_BOTH(rows_keep_what_was_appended),
        ON_BOTH(growth_past_the_limit_is_out_of_range),
        ON_BOTH(truncation_gives_pages_back),
        cmocka_unit_test(truncation_waits_for_nobody),
        ON_BOTH(passes_past_the_rows_are_refused),
        ON_BOTH(bad_states_are_refused),
        ON_BOTH(slots_lie_in_storages_no_larger_than_the_device_allows),
        ON_BOTH(a_slot_that_no_storage_holds_is_refused),
        cmocka_unit_test(rows_of_every_storage_are_looked_at_before_they_go),
        cmocka_unit_test(failed_growth_leaves_the_state_as_it_was),
        ON_BOTH(each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
