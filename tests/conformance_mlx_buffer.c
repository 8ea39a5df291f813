// MlxBuffer: a typed, shaped window on memory that several handles share.
#include "conformance.h"

static _Alignas(4096) float foreign[1024];

// Foreign memory without a copy: its owner gets it back once, after the last view, and no residency
// set takes it without being asked.
static void mlx_buffer_from_raw(void** state) {
    const conformance* c = *state;
    int released = 0;
    weir_residency* set = NULL;
    weir_storage* storage = try_wrap(c, foreign, sizeof foreign, false, &released);
    if (!storage) {
        skip_because(weir_last_error());
    }
    weir_storage_release(storage);
    assert_int_equal(released, 1);
    assert_ok(weir_residency_create(c->device, &(weir_residency_desc){0}, &set));
    storage = try_wrap(c, foreign, sizeof foreign, false, &released);
    const weir_view view = floats_of(storage, 64, 8);
    foreign[16] = 3.0f;
    assert_ptr_equal(weir_view_contents(&view), &foreign[16]);
    assert_ok(fill_with(c->session, &view, 7.0f));
    weir_storage_release(storage); // the session holds it
    assert_int_equal(released, 1);
    assert_ok(weir_session_finish(c->session));
    assert_int_equal(released, 2);
    assert_true(foreign[16] == (c->executes ? 7.0f : 3.0f));
    assert_int_equal(weir_residency_counted(set).adds, 0);
    weir_residency_destroy(set);
}

// Slices are relative to what they are cut from, and compose; what does not fit is an error.
static void mlx_buffer_slice_view(void** state) {
    const conformance* c = *state;
    weir_view slice;
    weir_view of_slice;
    put_count(c, &c->floats, 0.0f);
    assert_ok(weir_view_slice(&c->floats, 400, 50, &slice));
    assert_ok(weir_view_slice(&slice, 40, 5, &of_slice));
    assert_int_equal(of_slice.byte_offset, 440);
    assert_ptr_equal(of_slice.storage, c->storage);
    assert_counts(c, &of_slice, 110.0f, 1.0f);
    weir_view refused = {.byte_offset = 7};
    assert_status(weir_view_slice(&slice, 196, 2, &refused), WEIR_OUT_OF_RANGE);
    assert_status(weir_view_slice(&slice, UINT64_MAX - 3, 2, &refused), WEIR_OUT_OF_RANGE);
    assert_status(weir_view_slice(&slice, 0, INT64_MAX, &refused), WEIR_OUT_OF_RANGE);
    assert_status(weir_view_slice(&slice, 2, 1, &refused), WEIR_INVALID_ARGUMENT);
    assert_status(weir_view_slice(&slice, 0, -1, &refused), WEIR_INVALID_ARGUMENT);
    assert_int_equal(refused.byte_offset, 7);
}

// Another shape of the same elements; transposed and read as another type, too.
static void mlx_buffer_with_shape(void** state) {
    const conformance* c = *state;
    const weir_shape matrix = weir_shape_make(2, (const int64_t[]){4, 3});
    const weir_shape wrong = weir_shape_make(2, (const int64_t[]){4, 4});
    const weir_view dozen = first_floats(c, 0, 12);
    weir_view rows;
    weir_view columns;
    weir_view row;
    weir_view bits;
    put_count(c, &dozen, 0.0f);
    assert_ok(weir_view_reshape(&dozen, &matrix, &rows));
    assert_ok(weir_view_permute(&rows, (const uint32_t[]){1, 0}, &columns));
    assert_ok(weir_view_narrow(&columns, 0, 1, 1, &row));
    assert_counts(c, &row, 1.0f, 3.0f);
    assert_status(weir_view_reshape(&dozen, &wrong, &rows), WEIR_INVALID_ARGUMENT);
    assert_ok(weir_view_bitcast(&dozen, WEIR_DTYPE_I32, &bits));
    assert_int_equal(weir_view_element_count(&bits), 12);
    int32_t words[12] = {0};
    get(c, &bits, words);
    assert_int_equal(words[1], c->executes ? 0x3F800000 : 0);
    assert_ok(weir_view_slice(&dozen, 4, 4, &row));
    assert_status(weir_view_bitcast(&row, WEIR_DTYPE_Q4_0, &bits), WEIR_INVALID_ARGUMENT);
}

// All lengths are those of the view, not of what it was cut from.
static void mlx_buffer_lengths(void** state) {
    const conformance* c = *state;
    weir_view slice;
    assert_ok(weir_view_slice(&c->floats, 128, 6, &slice));
    assert_int_equal(weir_view_element_count(&slice), 6);
    assert_int_equal(weir_view_byte_length(&slice), 24);
    assert_int_equal(weir_view_byte_span(&slice), 24);
    assert_int_equal(slice.byte_offset, 128);
    assert_int_equal(slice.dtype, WEIR_DTYPE_F32);
    assert_int_equal(slice.shape.rank, 1);
    assert_int_equal(slice.shape.dims[0], 6);
    assert_int_equal(weir_storage_byte_size(c->storage), FLOATS * sizeof(float));
}

// Pointer and native handle contain the offset of the view; memory that the host cannot reach has
// the handle alone.
static void mlx_buffer_contents_ptr_and_handle(void** state) {
    const conformance* c = *state;
    const weir_storage_desc hidden = {.byte_size = 4096, .device_only = true};
    weir_storage* storage = NULL;
    weir_native whole;
    weir_native part;
    weir_view slice;
    weir_view of_slice;
    assert_ok(weir_storage_allocate(c->device, &hidden, &storage));
    weir_storage* const storages[] = {c->storage, storage};
    for (int i = 0; i < 2; i++) {
        const weir_view all = floats_of(storages[i], 0, 1024);
        assert_ok(weir_view_slice(&all, 256, 64, &slice));
        assert_ok(weir_view_slice(&slice, 64, 8, &of_slice));
        assert_ok(weir_view_native(&all, &whole));
        assert_ok(weir_view_native(&of_slice, &part));
        assert_int_not_equal(whole.handle, 0);
        assert_int_equal(part.handle, whole.handle);
        assert_int_equal(part.byte_offset - whole.byte_offset, 320);
        assert_int_equal(part.byte_length, 32);
        const char* base = weir_storage_host_pointer(storages[i]);
        assert_ptr_equal(weir_view_contents(&of_slice), base ? base + 320 : NULL);
    }
    assert_null(weir_storage_host_pointer(storage));
    weir_storage_release(storage);
}

// Both forms of access refuse what would be misread.
static void mlx_buffer_refuses_what_would_be_misread(void** state) {
    const conformance* c = *state;
    const weir_storage_desc hidden = {.byte_size = 64, .device_only = true};
    weir_storage* storage = NULL;
    const void* read = NULL;
    void* write = NULL;
    int64_t count = -1;
    const weir_shape bytes = weir_shape_make(1, (const int64_t[]){10});
    weir_view ten_bytes;
    weir_view gaps;
    const weir_shape matrix = weir_shape_make(2, (const int64_t[]){32, 32});
    assert_ok(weir_storage_allocate(c->device, &hidden, &storage));
    const weir_view out_of_reach = floats_of(storage, 0, 4);
    assert_ok(weir_view_make(c->storage, 0, WEIR_DTYPE_U8, &bytes, &ten_bytes));
    assert_ok(weir_view_reshape(&c->floats, &matrix, &gaps));
    assert_ok(weir_view_narrow(&gaps, 1, 0, 3, &gaps));
    const struct {
        const weir_view* view;
        weir_dtype dtype;
        weir_status expected;
    } refused[] = {
        {&c->floats, WEIR_DTYPE_I32, WEIR_INVALID_ARGUMENT},
        {&ten_bytes, WEIR_DTYPE_F32, WEIR_INVALID_ARGUMENT}, // no whole elements
        {&gaps, WEIR_DTYPE_F32, WEIR_INVALID_ARGUMENT},
        {&out_of_reach, WEIR_DTYPE_F32, WEIR_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_status(weir_view_read(refused[i].view, refused[i].dtype, &read, &count),
                      refused[i].expected);
        assert_status(weir_view_write(refused[i].view, refused[i].dtype, &write, &count),
                      refused[i].expected);
    }
    assert_true(!read && !write && count == -1);
    weir_storage_release(storage);
}

// Typed reading: of sealed memory too, and beside passes in flight that only read.
static void mlx_buffer_as_slice(void** state) {
    const conformance* c = *state;
    const void* elements = NULL;
    int64_t count = 0;
    const weir_view view = first_floats(c, 16, 8);
    if (!weir_storage_host_pointer(c->storage)) {
        skip_because("the host does not reach the memory of the device");
    }
    put_count(c, &view, 3.0f);
    assert_ok(weir_storage_seal(c->storage));
    assert_ok(weir_view_read(&view, WEIR_DTYPE_F32, &elements, &count));
    assert_int_equal(count, 8);
    assert_ptr_equal(elements, weir_view_contents(&view));
    assert_true(((const float*)elements)[7] == (c->executes ? 10.0f : 0.0f));
}

// Exclusive typed access, refused for sealed memory.
static void mlx_buffer_as_mut_slice(void** state) {
    const conformance* c = *state;
    void* elements = NULL;
    int64_t count = 0;
    const weir_view view = first_floats(c, 16, 8);
    if (!weir_storage_host_pointer(c->storage)) {
        skip_because("the host does not reach the memory of the device");
    }
    assert_ok(weir_view_write(&view, WEIR_DTYPE_F32, &elements, &count));
    assert_int_equal(count, 8);
    for (int i = 0; i < 8; i++) {
        ((float*)elements)[i] = (float)i;
    }
    assert_counts(c, &view, 0.0f, 1.0f);
    assert_ok(weir_storage_seal(c->storage));
    elements = NULL;
    assert_status(weir_view_write(&view, WEIR_DTYPE_F32, &elements, &count), WEIR_INVALID_ARGUMENT);
    assert_null(elements);
}

typedef struct beside {
    weir_status read_across, write_across; // bytes that the pass touches
    weir_status read_beside, write_beside; // others
} beside;

static beside access_beside(const held* h) {
    const void* read = NULL;
    void* write = NULL;
    int64_t count = 0;
    const weir_view across = floats_of(h->storage, 252, 2);
    const weir_view touching = floats_of(h->storage, 288, 8);
    beside b;
    b.read_across = weir_view_read(&across, WEIR_DTYPE_F32, &read, &count);
    b.write_across = weir_view_write(&across, WEIR_DTYPE_F32, &write, &count);
    b.read_beside = weir_view_read(&touching, WEIR_DTYPE_F32, &read, &count);
    b.write_beside = weir_view_write(&touching, WEIR_DTYPE_F32, &write, &count);
    return b;
}

// Refused byte for byte while a pass in flight writes, for exclusive access also while one reads.
static void mlx_buffer_access_beside_passes_in_flight(void** state) {
    const conformance* c = *state;
    static const weir_access_kind kinds[] = {WEIR_ACCESS_READ, WEIR_ACCESS_WRITE};
    for (int i = 0; i < 2; i++) {
        beside in_flight;
        beside after;
        bool known = false;
        for (uint32_t steps = HELD_STEPS; !known; steps *= 2) {
            held h;
            hold(c, &h, kinds[i], steps);
            in_flight = access_beside(&h);
            known = was_held(&h) || steps == HELD_STEPS_MAX;
            let_go(c, &h);
            after = access_beside(&h);
            close_held(&h);
        }
        assert_int_equal(in_flight.read_across, i == 0 ? WEIR_OK : WEIR_BUSY);
        assert_int_equal(in_flight.write_across, WEIR_BUSY);
        assert_int_equal(in_flight.read_beside, WEIR_OK);
        assert_int_equal(in_flight.write_beside, WEIR_OK);
        assert_int_equal(after.read_across, WEIR_OK);
        assert_int_equal(after.write_across, WEIR_OK);
    }
}

// Views that retain outlive what they were cut from, and see each other's writes.
static void mlx_buffer_clone_and_drop(void** state) {
    const conformance* c = *state;
    weir_storage* storage = allocate_zeros(c->device, 64 * sizeof(float));
    const weir_view parent = floats_of(storage, 0, 64);
    const weir_shape shape = weir_shape_make(2, (const int64_t[]){8, 8});
    weir_view slice;
    weir_view reshaped;
    assert_ok(weir_view_slice(&parent, 128, 16, &slice));
    weir_view_retain(&slice);
    assert_ok(weir_view_reshape(&parent, &shape, &reshaped));
    weir_view_retain(&reshaped);
    const weir_view clone = reshaped;
    weir_view_retain(&clone);
    weir_storage_release(storage);
    weir_view_release(&reshaped);
    put_count(c, &clone, 100.0f);
    assert_counts(c, &slice, 132.0f, 1.0f);
    weir_view_release(&clone);
    assert_ok(fill_with(c->session, &slice, 1.0f));
    assert_ok(weir_session_finish(c->session));
    assert_counts(c, &slice, 1.0f, 0.0f);
    weir_view_release(&slice);
}

typedef struct sharer {
    const conformance* c;
    pthread_t thread;
    uint64_t number;
    weir_status status;
} sharer;

static weir_status share(const conformance* c, uint64_t number) {
    const weir_shape shape = weir_shape_make(2, (const int64_t[]){4, 4});
    weir_session* session = NULL;
    WEIR_TRY(weir_session_create(c->device, &session));
    weir_status status = WEIR_OK;
    for (int i = 0; i < 20 && status == WEIR_OK; i++) {
        weir_view slice;
        weir_view reshaped;
        weir_ticket ticket;
        weir_view_retain(&c->floats);
        status = weir_view_slice(&c->floats, number * 64, 16, &slice);
        if (status == WEIR_OK) {
            status = weir_view_reshape(&slice, &shape, &reshaped);
        }
        if (status == WEIR_OK) {
            status = fill_with(session, &reshaped, (float)number);
        }
        if (status == WEIR_OK) {
            status = weir_session_commit(session, &ticket);
        }
        weir_view_release(&c->floats);
        if (status == WEIR_OK) {
            status = weir_ticket_wait(ticket, WEIR_WAIT_FOREVER);
        }
    }
    weir_session_destroy(session);
    return status;
}

static void* share_in_thread(void* context) {
    sharer* s = context;
    s->status = share(s->c, s->number);
    return NULL;
}

// Sixteen threads slice, reshape, retain and release views of one storage, with sessions of their
// own on one device.
static void mlx_buffer_thread_safety(void** state) {
    const conformance* c = *state;
    sharer sharers[16];
    for (uint64_t i = 0; i < 16; i++) {
        sharers[i] = (sharer){.c = c, .number = i, .status = WEIR_INTERNAL};
        assert_int_equal(pthread_create(&sharers[i].thread, NULL, share_in_thread, &sharers[i]), 0);
    }
    for (uint64_t i = 0; i < 16; i++) {
        pthread_join(sharers[i].thread, NULL);
    }
    for (uint64_t i = 0; i < 16; i++) {
        const weir_view part = first_floats(c, i * 16, 16);
        assert_int_equal(sharers[i].status, WEIR_OK);
        assert_counts(c, &part, (float)i, 0.0f);
    }
}

int conformance_mlx_buffer(void) {
    const struct CMUnitTest cases[] = {
        conformance_case(mlx_buffer_from_raw),
        conformance_case(mlx_buffer_slice_view),
        conformance_case(mlx_buffer_with_shape),
        conformance_case(mlx_buffer_lengths),
        conformance_case(mlx_buffer_contents_ptr_and_handle),
        conformance_case(mlx_buffer_refuses_what_would_be_misread),
        conformance_case(mlx_buffer_as_slice),
        conformance_case(mlx_buffer_as_mut_slice),
        conformance_case(mlx_buffer_access_beside_passes_in_flight),
        conformance_case(mlx_buffer_clone_and_drop),
        conformance_case(mlx_buffer_thread_safety),
    };
    return cmocka_run_group_tests_name("MlxBuffer", cases, NULL, NULL);
}
