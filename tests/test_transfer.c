// Copies, fills, uploads and downloads: every byte where it belongs and no other touched, whatever
// the strides; and they are ordered like any dispatch.
#include "testing.h"

#include "session_testing.h"

#define STORAGE_BYTES 8192

typedef struct fixture {
    weir_device* device;
    weir_session* session;
    weir_storage* storages[2];
    uint8_t* bytes[2];
} fixture;

static fixture open_fixture(weir_device* device) {
    fixture f = {.device = device};
    for (int i = 0; i < 2; i++) {
        f.storages[i] = allocate_zeros(device, STORAGE_BYTES);
        f.bytes[i] = weir_storage_host_pointer(f.storages[i]);
    }
    assert_ok(weir_session_create(device, &f.session));
    return f;
}

static void close_fixture(fixture* f) {
    weir_session_destroy(f->session);
    for (int i = 0; i < 2; i++) {
        weir_storage_release(f->storages[i]);
    }
    weir_device_destroy(f->device);
}

static int open_cpu(void** state) {
    static fixture f;
    f = open_fixture(open_device("cpu", 2, NULL));
    *state = &f;
    return 0;
}

static int close_state(void** state) {
    close_fixture(*state);
    return 0;
}

// A view of random dims that is narrowed and permuted.
static weir_view random_view(test_random* random, weir_storage* storage, weir_dtype dtype,
                             const weir_shape* wanted, const uint32_t* axes) {
    const weir_dtype_info* info = weir_dtype_describe(dtype);
    weir_shape parent = {.rank = wanted->rank};
    for (uint32_t i = 0; i < wanted->rank; i++) { // room to be narrowed from
        const bool last = axes[i] + 1 == wanted->rank;
        parent.dims[axes[i]] = wanted->dims[i] + (int64_t)random_below(random, 3) *
                                                     (last ? (int64_t)info->block_elements : 1);
    }
    weir_view view;
    assert_ok(weir_view_make(storage, 64 * random_below(random, 8), dtype, &parent, &view));
    for (uint32_t i = 0; i < wanted->rank; i++) {
        const int64_t room = parent.dims[axes[i]] - wanted->dims[i];
        assert_ok(weir_view_narrow(&view, axes[i], room, wanted->dims[i], &view));
    }
    assert_ok(weir_view_permute(&view, axes, &view));
    return view;
}

// Calls `visit` with the offset of every unit (element or block) of a view, in index order.
static void list_units(const weir_view* view, uint64_t* offsets, size_t* count) {
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    weir_shape units = view->shape;
    if (units.rank > 0) {
        units.dims[units.rank - 1] /= info->block_elements;
    }
    int64_t total = 1;
    for (uint32_t i = 0; i < units.rank; i++) {
        total *= units.dims[i];
    }
    *count = (size_t)total;
    for (int64_t n = 0; n < total; n++) {
        int64_t rest = n;
        uint64_t offset = view->byte_offset;
        for (uint32_t i = units.rank; i-- > 0;) {
            offset += (uint64_t)(rest % units.dims[i] * view->strides[i]);
            rest /= units.dims[i];
        }
        offsets[n] = offset;
    }
}

typedef struct random_case {
    weir_view from, to;
    uint64_t from_units[512], to_units[512];
    size_t count;
    uint32_t unit; // bytes
} random_case;

static void make_case(const fixture* f, test_random* random, random_case* made) {
    static const weir_dtype dtypes[] = {WEIR_DTYPE_F32, WEIR_DTYPE_U8, WEIR_DTYPE_F16,
                                        WEIR_DTYPE_U64, WEIR_DTYPE_Q4_0};
    const weir_dtype dtype = dtypes[random_below(random, 5)];
    const weir_dtype_info* info = weir_dtype_describe(dtype);
    const bool plain = info->block_elements == 1;
    weir_shape shape = {.rank = (uint32_t)random_below(random, 4) + (plain ? 0 : 1)};
    shape.rank = shape.rank > 3 ? 3 : shape.rank;
    for (uint32_t i = 0; i < shape.rank; i++) {
        const bool last = i + 1 == shape.rank;
        const bool more = random_below(random, 30) > 0;
        shape.dims[i] = (int64_t)(random_below(random, 5) + (more ? 1 : 0)) *
                        (last ? (int64_t)info->block_elements : 1);
    }
    uint32_t axes[2][WEIR_RANK_MAX];
    for (int side = 0; side < 2; side++) {
        for (uint32_t i = 0; i < shape.rank; i++) {
            axes[side][i] = i;
        }
        const uint32_t movable = plain ? shape.rank : shape.rank - 1;
        for (uint32_t i = movable; i > 1; i--) {
            const uint32_t k = (uint32_t)random_below(random, i);
            const uint32_t moved = axes[side][k];
            axes[side][k] = axes[side][i - 1];
            axes[side][i - 1] = moved;
        }
    }
    made->from = random_view(random, f->storages[0], dtype, &shape, axes[0]);
    made->to = random_view(random, f->storages[1], dtype, &shape, axes[1]);
    made->unit = info->block_bytes;
    list_units(&made->from, made->from_units, &made->count);
    list_units(&made->to, made->to_units, &made->count);
}

static void fill_random(test_random* random, uint8_t* bytes) {
    for (size_t i = 0; i < STORAGE_BYTES; i++) {
        bytes[i] = (uint8_t)random_u64(random);
    }
}

static void copies_move_every_element_and_touch_no_other_byte(void** state) {
    fixture* f = *state;
    test_random random = {7};
    static random_case c;
    static uint8_t expected[STORAGE_BYTES];
    for (int round = 0; round < 1500; round++) {
        make_case(f, &random, &c);
        fill_random(&random, f->bytes[0]);
        fill_random(&random, f->bytes[1]);
        memcpy(expected, f->bytes[1], STORAGE_BYTES);
        for (size_t i = 0; i < c.count; i++) {
            memcpy(expected + c.to_units[i], f->bytes[0] + c.from_units[i], c.unit);
        }
        assert_ok(weir_session_copy(f->session, &c.from, &c.to));
        assert_ok(weir_session_finish(f->session));
        assert_memory_equal(f->bytes[1], expected, STORAGE_BYTES);
    }
}

static void fills_repeat_their_value_in_every_element(void** state) {
    fixture* f = *state;
    test_random random = {8};
    static random_case c;
    static uint8_t expected[STORAGE_BYTES];
    for (int round = 0; round < 1500; round++) {
        make_case(f, &random, &c);
        uint8_t value[8];
        size_t value_size = (size_t)1 << random_below(&random, 4);
        while (c.unit % value_size != 0) {
            value_size /= 2;
        }
        for (size_t i = 0; i < sizeof value; i++) {
            value[i] = (uint8_t)random_u64(&random);
        }
        fill_random(&random, f->bytes[1]);
        memcpy(expected, f->bytes[1], STORAGE_BYTES);
        for (size_t i = 0; i < c.count; i++) {
            for (size_t k = 0; k < c.unit; k += value_size) {
                memcpy(expected + c.to_units[i] + k, value, value_size);
            }
        }
        assert_ok(weir_session_fill(f->session, &c.to, value, value_size));
        assert_ok(weir_session_finish(f->session));
        assert_memory_equal(f->bytes[1], expected, STORAGE_BYTES);
    }
}

static void what_is_uploaded_comes_back_by_download(void** state) {
    fixture* f = *state;
    test_random random = {9};
    static random_case c;
    static uint8_t expected[STORAGE_BYTES];
    static uint8_t source[STORAGE_BYTES];
    static uint8_t back[STORAGE_BYTES + 1];
    for (int round = 0; round < 1500; round++) {
        make_case(f, &random, &c);
        const size_t byte_size = c.count * c.unit;
        fill_random(&random, f->bytes[1]);
        fill_random(&random, source);
        memcpy(expected, f->bytes[1], STORAGE_BYTES);
        for (size_t i = 0; i < c.count; i++) {
            memcpy(expected + c.to_units[i], source + i * c.unit, c.unit);
        }
        back[byte_size] = 77;
        assert_ok(weir_session_upload(f->session, source, byte_size, &c.to));
        assert_ok(weir_session_download(f->session, &c.to, back, byte_size));
        uint8_t sent[STORAGE_BYTES];
        memcpy(sent, source, byte_size);
        memset(source, 0xEE, byte_size); // it was copied when recorded
        assert_ok(weir_session_finish(f->session));
        assert_memory_equal(f->bytes[1], expected, STORAGE_BYTES);
        assert_memory_equal(back, sent, byte_size);
        assert_int_equal(back[byte_size], 77);
    }
}

// Large enough to be cut into tiles, contiguous and by rows.
static void large_transfers_are_whole(void** state) {
    (void)state;
    weir_device* device = open_device("cpu", 3, NULL);
    weir_session* session = NULL;
    const uint64_t count = (3u << 20) / 4 + 7;
    const weir_shape rows = weir_shape_make(2, (int64_t[]){911, 863}); // fewer than `count`
    weir_storage* storages[2];
    float* numbers[2];
    float* back = malloc(count * 4);
    assert_non_null(back);
    for (int i = 0; i < 2; i++) {
        storages[i] = allocate_zeros(device, count * 4);
        numbers[i] = weir_storage_host_pointer(storages[i]);
    }
    assert_ok(weir_session_create(device, &session));
    for (uint64_t i = 0; i < count; i++) {
        numbers[0][i] = (float)i;
    }
    const weir_view from = floats_of(storages[0], 0, (int64_t)count);
    const weir_view to = floats_of(storages[1], 0, (int64_t)count);
    assert_ok(weir_session_copy(session, &from, &to));
    assert_ok(weir_session_download(session, &to, back, count * 4));
    assert_ok(weir_session_finish(session));
    assert_memory_equal(numbers[0], back, count * 4);
    weir_view table;
    weir_view turned;
    assert_ok(weir_view_make(storages[0], 0, WEIR_DTYPE_F32, &rows, &table));
    assert_ok(weir_view_permute(&table, (uint32_t[]){1, 0}, &turned));
    weir_view target;
    assert_ok(weir_view_make(storages[1], 0, WEIR_DTYPE_F32, &turned.shape, &target));
    const float eight = 8.0f;
    assert_ok(weir_session_fill(session, &to, &eight, sizeof eight));
    assert_ok(weir_session_copy(session, &turned, &target));
    assert_ok(weir_session_finish(session));
    for (uint64_t i = 0; i < 911; i += 13) {
        for (uint64_t k = 0; k < 863; k++) {
            assert_true(numbers[1][k * 911 + i] == numbers[0][i * 863 + k]);
        }
    }
    assert_true(numbers[1][911 * 863] == 8.0f && numbers[1][count - 1] == 8.0f);
    weir_session_destroy(session);
    weir_storage_release(storages[0]);
    weir_storage_release(storages[1]);
    free(back);
    weir_device_destroy(device);
}

static weir_status double_it(const weir_kernel_call* call) {
    float* x = call->pointers[0];
    for (int64_t i = 0; i < call->views[0].shape.dims[0]; i++) {
        x[i] *= 2.0f;
    }
    return WEIR_OK;
}

static void transfers_wait_for_what_they_conflict_with(void** state) {
    fixture* f = *state;
    const weir_view a = floats_of(f->storages[0], 0, 16);
    const weir_view b = floats_of(f->storages[1], 0, 16);
    const float one = 1.0f;
    float back[16];
    const weir_operand operand = {a, WEIR_ACCESS_READ_WRITE};
    const weir_dispatch_desc twice = {
        .name = "double", .kernel = double_it, .operands = &operand, .operand_count = 1};
    assert_ok(weir_session_fill(f->session, &a, &one, sizeof one));
    assert_ok(weir_session_dispatch(f->session, &twice, NULL));
    assert_ok(weir_session_copy(f->session, &a, &b));
    assert_ok(weir_session_dispatch(f->session, &twice, NULL));
    assert_ok(weir_session_download(f->session, &b, back, sizeof back));
    assert_ok(weir_session_finish(f->session));
    for (int i = 0; i < 16; i++) {
        assert_true(back[i] == 2.0f);
        assert_true(((const float*)f->bytes[0])[i] == 4.0f);
    }
    assert_int_equal(weir_session_counters(f->session)->waits, 3);
    assert_int_equal(weir_session_counters(f->session)->submits, 1);
}

// Both write the same bytes of the host: the second comes after the first.
static void downloads_to_the_same_bytes_are_ordered(void** state) {
    fixture* f = *state;
    float back[1] = {0};
    for (int i = 0; i < 2; i++) {
        const weir_view view = floats_of(f->storages[i], 0, 1);
        *(float*)(void*)f->bytes[i] = (float)i + 1.0f;
        assert_ok(weir_session_download(f->session, &view, back, sizeof back));
    }
    assert_ok(weir_session_finish(f->session));
    assert_true(back[0] == 2.0f);
    assert_int_equal(weir_session_counters(f->session)->waits, 1);
}

// One session after another, none waited for: uploads of a stream through one buffer.
static void uploads_in_flight_are_used_in_their_order(void** state) {
    fixture* f = *state;
    const weir_view input = floats_of(f->storages[0], 0, 4);
    float results[50][4];
    for (int i = 0; i < 50; i++) {
        float source[4] = {(float)i, (float)i, (float)i, (float)i};
        weir_ticket ticket;
        assert_ok(weir_session_upload(f->session, source, sizeof source, &input));
        assert_ok(weir_session_download(f->session, &input, results[i], sizeof results[i]));
        assert_ok(weir_session_commit(f->session, &ticket));
    }
    assert_ok(weir_session_download(f->session, &input, f->bytes[1], 16));
    assert_ok(weir_session_finish(f->session));
    for (int i = 0; i < 50; i++) {
        assert_true(results[i][0] == (float)i && results[i][3] == (float)i);
    }
}

static void dropped_transfers_move_nothing(void** state) {
    fixture* f = *state;
    const weir_view view = floats_of(f->storages[0], 0, 4);
    const float source[4] = {1, 2, 3, 4};
    float back[4] = {9, 9, 9, 9};
    assert_ok(weir_session_upload(f->session, source, sizeof source, &view));
    assert_ok(weir_session_download(f->session, &view, back, sizeof back));
    weir_session_destroy(f->session);
    assert_ok(weir_session_create(f->device, &f->session));
    assert_true(back[0] == 9.0f && ((const float*)(void*)f->bytes[0])[0] == 0.0f);
}

static void wrong_transfers_are_refused(void** state) {
    fixture* f = *state;
    const weir_view a = floats_of(f->storages[0], 0, 16);
    const weir_view shorter = floats_of(f->storages[1], 0, 15);
    const weir_view same = floats_of(f->storages[0], 60, 16);
    const weir_view none = {.dtype = WEIR_DTYPE_F32};
    weir_view flat = floats_of(f->storages[1], 0, 16);
    weir_view words;
    float bytes[16] = {0};
    weir_session* s = f->session;
    assert_status(weir_session_copy(s, &a, &shorter), WEIR_INVALID_ARGUMENT);
    assert_message_has("copy: F32 [16]");
    assert_ok(weir_view_bitcast(&flat, WEIR_DTYPE_U32, &words));
    assert_status(weir_session_copy(s, &a, &words), WEIR_INVALID_ARGUMENT);
    assert_status(weir_session_copy(s, &a, &same), WEIR_INVALID_ARGUMENT);
    assert_message_has("share bytes");
    assert_status(weir_session_copy(s, &none, &a), WEIR_INVALID_ARGUMENT);
    assert_status(weir_session_copy(s, &a, &none), WEIR_INVALID_ARGUMENT);
    flat.strides[0] = 0; // one element sixteen times
    assert_status(weir_session_copy(s, &a, &flat), WEIR_INVALID_ARGUMENT);
    assert_message_has("elements of the target share bytes");
    assert_status(weir_session_fill(s, &flat, bytes, 4), WEIR_INVALID_ARGUMENT);
    assert_status(weir_session_upload(s, bytes, 64, &flat), WEIR_INVALID_ARGUMENT);
    assert_ok(weir_session_copy(s, &flat, &a)); // but it may be read
    assert_status(weir_session_fill(s, &a, bytes, 3), WEIR_INVALID_ARGUMENT);
    assert_status(weir_session_fill(s, &a, bytes, 8), WEIR_INVALID_ARGUMENT);
    assert_message_has("divide the 4 of an element");
    assert_status(weir_session_fill(s, &a, bytes, 0), WEIR_INVALID_ARGUMENT);
    assert_status(weir_session_upload(s, bytes, 63, &a), WEIR_OUT_OF_RANGE);
    assert_message_has("63 bytes given, the view has 64");
    assert_status(weir_session_upload(s, NULL, 64, &a), WEIR_INVALID_ARGUMENT);
    assert_status(weir_session_download(s, &a, bytes, 65), WEIR_OUT_OF_RANGE);
    assert_status(weir_session_download(s, &a, NULL, 64), WEIR_INVALID_ARGUMENT);
    assert_status(weir_session_download(s, &a, f->bytes[0] + 60, 64), WEIR_INVALID_ARGUMENT);
    assert_ok(weir_storage_seal(f->storages[1]));
    assert_status(weir_session_fill(s, &shorter, bytes, 4), WEIR_INVALID_ARGUMENT);
    assert_message_has("sealed");
    assert_ok(weir_session_finish(s));
    assert_int_equal(weir_session_counters(s)->dispatches, 1);
}

static void transfers_that_find_no_memory_are_not_recorded(void** state) {
    (void)state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    fixture f = open_fixture(open_device("cpu", 1, &counter));
    const weir_view a = floats_of(f.storages[0], 0, 512);
    const weir_view b = floats_of(f.storages[1], 0, 512);
    const uint8_t zero = 0;
    static float source[512];
    static float back[512];
    source[511] = 5.0f;
    weir_status status = WEIR_OUT_OF_MEMORY;
    size_t step = 0;
    for (; status != WEIR_OK; step++) {
        weir_session* session = NULL;
        assert_ok(weir_session_create(f.device, &session));
        counter.fail_at = atomic_load(&counter.calls) + step;
        const weir_status steps[] = {weir_session_upload(session, source, sizeof source, &a),
                                     weir_session_copy(session, &a, &b),
                                     weir_session_fill(session, &a, &zero, 1),
                                     weir_session_download(session, &b, back, sizeof back)};
        counter.fail_at = SIZE_MAX;
        status = WEIR_OK;
        for (int i = 0; i < 4; i++) {
            assert_true(steps[i] == WEIR_OK || steps[i] == WEIR_OUT_OF_MEMORY);
            status = status == WEIR_OK ? steps[i] : status;
        }
        if (status == WEIR_OK) {
            assert_ok(weir_session_finish(session));
        }
        weir_session_destroy(session);
    }
    assert_true(step > 2);
    assert_true(back[511] == 5.0f);
    close_fixture(&f);
    assert_int_equal(atomic_load(&counter.live_blocks), 0);
}

#define on_cpu(test) cmocka_unit_test_setup_teardown(test, open_cpu, close_state)

int main(void) {
    const struct CMUnitTest tests[] = {
        on_cpu(copies_move_every_element_and_touch_no_other_byte),
        on_cpu(fills_repeat_their_value_in_every_element),
        on_cpu(what_is_uploaded_comes_back_by_download),
        cmocka_unit_test(large_transfers_are_whole),
        on_cpu(transfers_wait_for_what_they_conflict_with),
        on_cpu(downloads_to_the_same_bytes_are_ordered),
        on_cpu(uploads_in_flight_are_used_in_their_order),
        on_cpu(dropped_transfers_move_nothing),
        on_cpu(wrong_transfers_are_refused),
        cmocka_unit_test(transfers_that_find_no_memory_are_not_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
