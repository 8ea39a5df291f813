// Who is who: handles on the same bytes conflict exactly where they share them, whichever way they
// came by the bytes. The oracle is a model with one number per byte.
#include "session_testing.h"

#include <sys/mman.h>
#include <unistd.h>

static weir_storage* wrap(weir_device* device, void* pointer, uint64_t byte_size) {
    weir_storage* storage = NULL;
    const weir_storage_wrap_desc desc = {.pointer = pointer, .byte_size = byte_size};
    assert_ok(weir_storage_wrap(device, &desc, &storage));
    return storage;
}

static weir_storage* map(weir_device* device, const char* path, uint64_t byte_offset,
                         uint64_t byte_size) {
    weir_storage* storage = NULL;
    const weir_storage_map_desc desc = {
        .path = path, .byte_offset = byte_offset, .byte_size = byte_size};
    assert_ok(weir_storage_map(device, &desc, &storage));
    return storage;
}

static weir_storage* allocate_lazy(weir_device* device, uint64_t byte_size) {
    weir_storage* storage = NULL;
    const weir_storage_desc desc = {.byte_size = byte_size, .fill = WEIR_FILL_ZERO, .lazy = true};
    assert_ok(weir_storage_allocate(device, &desc, &storage));
    return storage;
}

static weir_view bytes_of(weir_storage* storage, uint64_t byte_offset, uint64_t byte_size) {
    const weir_shape shape = weir_shape_make(1, (int64_t[]){(int64_t)byte_size});
    weir_view view;
    assert_ok(weir_view_make(storage, byte_offset, WEIR_DTYPE_U8, &shape, &view));
    return view;
}

// Tells whether accesses to two views conflict when one of them writes.
static bool views_meet(const weir_view* a, const weir_view* b) {
    static weir_access left[1024];
    static weir_access right[1024];
    uint32_t left_count = 0;
    uint32_t right_count = 0;
    assert_ok(weir_view_accesses(a, WEIR_ACCESS_WRITE, left, 1024, &left_count));
    assert_ok(weir_view_accesses(b, WEIR_ACCESS_READ, right, 1024, &right_count));
    assert_true(left_count >= 1 && left_count <= 1024 && right_count >= 1 && right_count <= 1024);
    bool overlap = false;
    assert_ok(weir_view_overlaps(a, b, &overlap));
    for (uint32_t i = 0; i < left_count; i++) {
        assert_int_equal(left[i].kind, WEIR_ACCESS_WRITE);
        for (uint32_t k = 0; k < right_count; k++) {
            if (weir_range_overlaps(&left[i].range, &right[k].range)) {
                assert_true(overlap);
                return true;
            }
        }
    }
    assert_false(overlap);
    return false;
}

static bool parts_meet(weir_storage* a, uint64_t a_begin, uint64_t a_size, weir_storage* b,
                       uint64_t b_begin, uint64_t b_size) {
    const weir_view left = bytes_of(a, a_begin, a_size);
    const weir_view right = bytes_of(b, b_begin, b_size);
    const bool met = views_meet(&left, &right);
    assert_int_equal(met, views_meet(&right, &left));
    return met;
}

static void write_file(char path[64], size_t byte_size) {
    snprintf(path, 64, "/tmp/weir-test-XXXXXX");
    const int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    assert_int_equal(ftruncate(descriptor, (off_t)byte_size), 0);
    close(descriptor);
}

static void a_wrap_of_lazy_memory_is_that_memory(void** state) {
    weir_storage* lazy = allocate_lazy(*state, 256);
    weir_storage* next = allocate_lazy(*state, 256);
    const weir_view before = bytes_of(lazy, 64, 64); // its range was made without an address
    uint8_t* bytes = weir_storage_host_pointer(lazy);
    assert_non_null(weir_storage_host_pointer(next));
    weir_storage* inside = wrap(*state, bytes + 100, 50);
    weir_storage* around = wrap(*state, bytes - 50, 400); // reaches out at both ends
    const weir_view part = bytes_of(inside, 0, 28);
    const weir_view rest = bytes_of(inside, 28, 22);
    assert_true(views_meet(&before, &part));
    assert_false(views_meet(&before, &rest));
    assert_true(parts_meet(around, 0, 51, lazy, 0, 1));
    assert_false(parts_meet(around, 0, 50, lazy, 0, 256));
    assert_true(parts_meet(around, 305, 95, lazy, 255, 1));
    assert_false(parts_meet(around, 306, 10, lazy, 0, 256));
    assert_true(parts_meet(around, 150, 1, inside, 0, 1));
    assert_false(parts_meet(lazy, 0, 256, next, 0, 256));
    weir_storage_release(around);
    weir_storage_release(inside);
    weir_storage_release(next);
    weir_storage_release(lazy);
}

static void mappings_of_one_file_share_their_bytes(void** state) {
    char path[64];
    char link_path[80];
    char other_path[64];
    write_file(path, 20000);
    write_file(other_path, 20000);
    snprintf(link_path, sizeof link_path, "%s-link", path);
    assert_int_equal(link(path, link_path), 0);
    weir_storage* whole = map(*state, path, 0, 0);
    weir_storage* again = map(*state, link_path, 5001, 1000); // same inode, other name
    weir_storage* other = map(*state, other_path, 5001, 1000);
    weir_storage* inside = wrap(*state, (uint8_t*)weir_storage_host_pointer(whole) + 5500, 1000);
    assert_ptr_not_equal((uint8_t*)weir_storage_host_pointer(whole) + 5001,
                         weir_storage_host_pointer(again));
    assert_true(parts_meet(whole, 5001, 1, again, 0, 1));
    assert_false(parts_meet(whole, 5000, 1, again, 0, 1000));
    assert_true(parts_meet(whole, 6000, 1, again, 999, 1));
    assert_false(parts_meet(whole, 6001, 99, again, 0, 1000));
    assert_true(parts_meet(inside, 0, 1, again, 499, 1));
    assert_false(parts_meet(inside, 0, 1, again, 0, 499));
    assert_false(parts_meet(whole, 0, 20000, other, 0, 1000));
    weir_storage_release(inside);
    weir_storage_release(whole);
    weir_storage_release(again);
    weir_storage_release(other);
    unlink(path);
    unlink(link_path);
    unlink(other_path);
}

static void the_id_of_a_file_is_not_given_again(void** state) {
    char path[64];
    write_file(path, 100);
    weir_storage* first = map(*state, path, 0, 0);
    const weir_view view = bytes_of(first, 0, 100);
    const weir_range range = weir_view_range(&view);
    weir_storage_release(first);
    weir_storage* second = map(*state, path, 0, 0);
    const weir_view later = bytes_of(second, 0, 100);
    const weir_range later_range = weir_view_range(&later);
    assert_int_not_equal(range.memory_id, later_range.memory_id);
    weir_storage_release(second);
    unlink(path);
}

static void bad_aliases_are_refused(void** state) {
    static uint8_t bytes[200];
    weir_storage* a = wrap(*state, bytes, 100);
    weir_storage* b = wrap(*state, bytes + 100, 100);
    assert_status(weir_storage_alias(a, 1, b, 0, 100), WEIR_OUT_OF_RANGE);
    assert_status(weir_storage_alias(a, 0, b, 1, 100), WEIR_OUT_OF_RANGE);
    assert_status(weir_storage_alias(a, UINT64_MAX, b, 0, 2), WEIR_OUT_OF_RANGE);
    weir_device* null = NULL;
    assert_ok(
        weir_device_create(&(weir_device_desc){.name = "null", .manual_completion = true}, &null));
    weir_storage* c = wrap(null, bytes, 100);
    weir_storage* d = wrap(null, bytes + 100, 100);
    assert_status(weir_storage_alias(a, 0, c, 0, 1), WEIR_INVALID_ARGUMENT);
    assert_false(parts_meet(a, 0, 100, b, 0, 100));
    weir_session* session = NULL;
    weir_ticket ticket;
    const weir_operand operand = {floats_of(c, 0, 1), WEIR_ACCESS_WRITE};
    const weir_dispatch_desc desc = {
        .kernel = scale_and_add, .operands = &operand, .operand_count = 1};
    assert_ok(weir_session_create(null, &session));
    assert_ok(weir_session_dispatch(session, &desc, NULL));
    assert_ok(weir_session_commit(session, &ticket));
    assert_status(weir_storage_alias(c, 0, d, 0, 100), WEIR_BUSY);
    assert_int_equal(weir_null_complete(null, 1, WEIR_OK), 1);
    assert_ok(weir_storage_alias(c, 0, d, 0, 100));
    assert_true(parts_meet(c, 5, 1, d, 5, 1));
    weir_session_destroy(session);
    weir_storage_release(a);
    weir_storage_release(b);
    weir_storage_release(c);
    weir_storage_release(d);
    weir_device_destroy(null);
}

// Storages of the model. Byte i of storage s is byte begins[s] + i of the model; handles on the
// same memory have begins that overlap.
enum { MODEL_STORAGES = 8, MODEL_BYTES = 640 };

typedef struct byte_model {
    weir_storage* storages[MODEL_STORAGES];
    size_t begins[MODEL_STORAGES];
    size_t sizes[MODEL_STORAGES];
    uint16_t classes[MODEL_BYTES]; // bytes of one number are one byte
} byte_model;

static void add_to_model(byte_model* model, size_t index, weir_storage* storage, size_t begin) {
    model->storages[index] = storage;
    model->begins[index] = begin;
    model->sizes[index] = (size_t)weir_storage_byte_size(storage);
    assert_true(begin + model->sizes[index] <= MODEL_BYTES);
}

static void make_model(byte_model* model, weir_device* device, uint8_t memory[256],
                       const char* path) {
    for (size_t i = 0; i < MODEL_BYTES; i++) {
        model->classes[i] = (uint16_t)i;
    }
    weir_storage* lazy = allocate_lazy(device, 128);
    uint8_t* lazy_bytes = weir_storage_host_pointer(lazy);
    add_to_model(model, 0, wrap(device, memory, 100), 0);
    add_to_model(model, 1, wrap(device, memory + 60, 100), 60);
    add_to_model(model, 2, wrap(device, memory + 160, 96), 160);
    add_to_model(model, 3, lazy, 256);
    add_to_model(model, 4, wrap(device, lazy_bytes + 30, 40), 286);
    add_to_model(model, 5, map(device, path, 0, 100), 384);
    add_to_model(model, 6, map(device, path, 50, 150), 434);
    add_to_model(model, 7, allocate_zeros(device, 56), 584);
}

static void model_alias(byte_model* model, test_random* random) {
    const size_t a = random_below(random, MODEL_STORAGES);
    const size_t b = random_below(random, MODEL_STORAGES);
    const size_t least = model->sizes[a] < model->sizes[b] ? model->sizes[a] : model->sizes[b];
    const size_t size = random_below(random, least / 2 + 1);
    const size_t a_begin = random_below(random, model->sizes[a] - size + 1);
    const size_t b_begin = random_below(random, model->sizes[b] - size + 1);
    assert_ok(weir_storage_alias(model->storages[a], a_begin, model->storages[b], b_begin, size));
    for (size_t i = 0; i < size; i++) {
        const uint16_t from = model->classes[model->begins[b] + b_begin + i];
        const uint16_t to = model->classes[model->begins[a] + a_begin + i];
        for (size_t k = 0; k < MODEL_BYTES; k++) {
            model->classes[k] = model->classes[k] == from ? to : model->classes[k];
        }
    }
}

// A random view of a random storage, strided half of the time; `touched` marks its classes.
static weir_view model_view(const byte_model* model, test_random* random,
                            bool touched[MODEL_BYTES]) {
    const size_t s = random_below(random, MODEL_STORAGES);
    const size_t size = model->sizes[s];
    const size_t run = 1 + random_below(random, 12);
    const size_t stride = run + random_below(random, 9);
    const size_t most = (size - run) / stride + 1;
    const size_t rows = 1 + random_below(random, random_below(random, 2) == 0 ? 1 : most);
    const size_t span = (rows - 1) * stride + run;
    const size_t begin = random_below(random, size - span + 1);
    weir_view view = bytes_of(model->storages[s], begin, run);
    view.shape = weir_shape_make(2, (int64_t[]){(int64_t)rows, (int64_t)run});
    view.strides[0] = (int64_t)stride;
    view.strides[1] = 1;
    memset(touched, 0, MODEL_BYTES);
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = 0; i < run; i++) {
            touched[model->classes[model->begins[s] + begin + row * stride + i]] = true;
        }
    }
    return view;
}

static void random_aliases_meet_exactly_where_they_share_bytes(void** state) {
    test_random random = {.state = 20240607};
    static uint8_t memory[256];
    uint32_t met = 0;
    uint32_t apart = 0;
    char path[64];
    write_file(path, 200);
    for (int round = 0; round < 60; round++) {
        byte_model model;
        make_model(&model, *state, memory, path);
        for (int step = 0; step < 8; step++) {
            for (int pair = 0; pair < 60; pair++) {
                bool left_bytes[MODEL_BYTES];
                bool right_bytes[MODEL_BYTES];
                const weir_view left = model_view(&model, &random, left_bytes);
                const weir_view right = model_view(&model, &random, right_bytes);
                bool expected = false;
                for (size_t i = 0; i < MODEL_BYTES; i++) {
                    expected = expected || (left_bytes[i] && right_bytes[i]);
                }
                assert_int_equal(views_meet(&left, &right), expected);
                met += expected;
                apart += !expected;
            }
            model_alias(&model, &random);
        }
        for (size_t i = 0; i < MODEL_STORAGES; i++) {
            weir_storage_release(model.storages[MODEL_STORAGES - 1 - i]);
        }
    }
    unlink(path);
    assert_true(met > 1000 && apart > 1000);
}

static void an_alias_lasts_as_long_as_a_storage_has_its_bytes(void** state) {
    static uint8_t memory[400];
    weir_storage* a = wrap(*state, memory, 100);
    weir_storage* b = wrap(*state, memory + 200, 100);
    weir_storage* early = wrap(*state, memory + 50, 100); // before the declaration
    assert_ok(weir_storage_alias(a, 0, b, 0, 100));
    weir_storage* late = wrap(*state, memory + 40, 20); // and after it
    assert_true(parts_meet(early, 0, 1, b, 50, 1));
    assert_false(parts_meet(early, 50, 50, b, 0, 100));
    assert_true(parts_meet(late, 0, 1, b, 40, 1));
    weir_storage_release(a);
    assert_true(parts_meet(early, 0, 1, b, 50, 1));
    weir_storage_release(early);
    assert_true(parts_meet(late, 0, 1, b, 40, 1));
    weir_storage_release(late); // the last: what comes there now is other memory
    weir_storage* reused = wrap(*state, memory, 100);
    assert_false(parts_meet(reused, 0, 100, b, 0, 100));
    weir_storage_release(reused);
    weir_storage_release(b);
}

static weir_status add_one(const weir_kernel_call* call) {
    const float* x = call->pointers[0];
    float* y = call->pointers[1];
    for (int64_t i = 0; i < call->views[0].shape.dims[0]; i++) {
        y[i] = x[i] + 1.0f;
    }
    return WEIR_OK;
}

static weir_verdict record_add(weir_session* session, weir_view x, weir_view y) {
    const weir_operand operands[] = {{x, WEIR_ACCESS_READ}, {y, WEIR_ACCESS_WRITE}};
    const weir_dispatch_desc desc = {
        .name = "add one", .kernel = add_one, .operands = operands, .operand_count = 2};
    weir_verdict verdict;
    assert_ok(weir_session_dispatch(session, &desc, &verdict));
    return verdict;
}

static void one_memory_mapped_twice_is_ordered_once_declared(void** state) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const int descriptor = memfd_create("weir-test", 0);
    assert_true(descriptor >= 0);
    assert_int_equal(ftruncate(descriptor, (off_t)(2 * page)), 0);
    void* low = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    void* high = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, (off_t)page);
    assert_true(low != MAP_FAILED && high != MAP_FAILED);
    close(descriptor);
    weir_storage* a = wrap(*state, low, 2 * page);
    weir_storage* b = wrap(*state, high, page);
    weir_session* session = NULL;
    assert_ok(weir_session_create(*state, &session));
    assert_ok(weir_storage_alias(a, page, b, 0, page));
    for (int round = 1; round <= 20; round++) {
        record_add(session, floats_of(a, 0, 8), floats_of(a, page, 8));
        const weir_verdict none = record_add(session, floats_of(a, 0, 8), floats_of(b, 32, 8));
        assert_int_equal(none.hazard_count, 0);
        const weir_verdict raw = record_add(session, floats_of(b, 0, 8), floats_of(a, 0, 8));
        assert_int_equal(raw.hazard_count, 3); // RAW through b, WAR with both readers of a
        assert_ok(weir_session_finish(session));
        assert_true(((const float*)low)[7] == 2.0f * (float)round);
    }
    weir_session_destroy(session);
    weir_storage_release(a);
    weir_storage_release(b);
    munmap(low, 2 * page);
    munmap(high, page);
}

// Commits a dispatch from x to y in a session of its own.
static weir_ticket commit_add(weir_device* device, weir_view x, weir_view y) {
    weir_session* session = NULL;
    weir_ticket ticket;
    assert_ok(weir_session_create(device, &session));
    record_add(session, x, y);
    assert_ok(weir_session_commit(session, &ticket));
    weir_session_destroy(session);
    return ticket;
}

static void passes_in_flight_are_ordered_by_aliases_too(void** state) {
    (void)state;
    _Alignas(64) static uint8_t memory[20480];
    char path[64];
    weir_device* device = NULL;
    assert_ok(weir_device_create(&(weir_device_desc){.name = "null", .manual_completion = true},
                                 &device));
    write_file(path, 4096);
    weir_storage* mapped = map(device, path, 0, 0);
    weir_storage* shared = wrap(device, memory, 4096); // as if it were the file, writable
    weir_storage* other = wrap(device, memory + 8192, 4096);
    assert_ok(weir_storage_alias(mapped, 0, shared, 0, 4096));
    const weir_ticket reader = commit_add(device, floats_of(mapped, 64, 8), floats_of(other, 0, 8));
    const weir_ticket apart = commit_add(device, floats_of(other, 64, 8), floats_of(shared, 96, 8));
    const weir_ticket writer =
        commit_add(device, floats_of(other, 96, 8), floats_of(shared, 92, 1));
    assert_false(weir_null_complete_ticket(writer, WEIR_OK));
    assert_true(weir_null_complete_ticket(apart, WEIR_OK));
    assert_true(weir_null_complete_ticket(reader, WEIR_OK));
    assert_true(weir_null_complete_ticket(writer, WEIR_OK));
    weir_storage_release(mapped);
    weir_storage_release(shared);
    weir_storage_release(other);
    weir_device_destroy(device);
    unlink(path);
}

static void a_download_into_lazy_memory_is_a_write_to_it(void** state) {
    weir_storage* lazy = allocate_lazy(*state, 256);
    weir_storage* source = allocate_zeros(*state, 64);
    uint8_t* bytes = weir_storage_host_pointer(lazy);
    weir_session* session = NULL;
    const weir_view from = floats_of(source, 0, 8);
    assert_ok(weir_session_create(*state, &session));
    assert_ok(weir_session_download(session, &from, bytes + 64, 32));
    assert_int_equal(
        record_add(session, floats_of(lazy, 0, 8), floats_of(source, 32, 8)).hazard_count, 0);
    assert_int_equal(
        record_add(session, floats_of(lazy, 92, 1), floats_of(lazy, 128, 1)).hazard_count, 1);
    assert_ok(weir_session_finish(session));
    weir_session_destroy(session);
    weir_storage_release(source);
    weir_storage_release(lazy);
}

static void a_ring_that_is_mapped_twice_in_a_row_meets_itself(void** state) {
    static uint8_t memory[256]; // as if bytes 128.. were mapped to the first 128 again
    weir_storage* ring = wrap(*state, memory, 256);
    assert_ok(weir_storage_alias(ring, 0, ring, 128, 128));
    assert_true(parts_meet(ring, 0, 1, ring, 128, 1));
    assert_true(parts_meet(ring, 120, 16, ring, 0, 8));   // wraps round
    assert_true(parts_meet(ring, 120, 16, ring, 248, 8)); // the other name of its first half
    assert_false(parts_meet(ring, 120, 16, ring, 8, 112));
    assert_false(parts_meet(ring, 120, 16, ring, 136, 112));
    weir_storage_release(ring);
}

// Hands out one block at a time, always at the same address while it is free.
typedef struct one_block {
    _Alignas(64) uint8_t bytes[4096];
    bool taken;
    weir_allocator rest;
} one_block;

static void* take_block(void* context, size_t byte_size, size_t alignment) {
    one_block* block = context;
    if (byte_size == 1024 && !block->taken) {
        block->taken = true;
        return block->bytes;
    }
    void* pointer = NULL;
    return weir_alloc(&block->rest, byte_size, alignment, &pointer) == WEIR_OK ? pointer : NULL;
}

static void give_block(void* context, void* pointer, size_t byte_size, size_t alignment) {
    one_block* block = context;
    if (pointer == block->bytes) {
        block->taken = false;
    } else {
        weir_free(&block->rest, pointer, byte_size, alignment);
    }
}

static void memory_released_and_reallocated_while_recording_keeps_its_hazards_apart(void** state) {
    (void)state;
    static one_block block;
    weir_device* device = NULL;
    const weir_device_desc desc = {
        .thread_count = 1,
        .allocator = {.context = &block, .alloc = take_block, .free = give_block}};
    assert_ok(weir_device_create(&desc, &device));
    for (int lazy = 0; lazy < 2; lazy++) {
        const weir_storage_desc wanted = {.byte_size = 1024, .lazy = lazy != 0};
        weir_session* session = NULL;
        weir_storage* first = NULL;
        weir_storage* second = NULL;
        weir_storage* source = allocate_zeros(device, 64);
        assert_ok(weir_session_create(device, &session));
        assert_ok(weir_storage_allocate(device, &wanted, &first));
        assert_ptr_equal(weir_storage_host_pointer(first), block.bytes);
        record_add(session, floats_of(source, 0, 8), floats_of(first, 0, 8));
        weir_storage_release(first); // the session holds it: its address is not free
        assert_ok(weir_storage_allocate(device, &wanted, &second));
        assert_ptr_not_equal(weir_storage_host_pointer(second), block.bytes);
        assert_int_equal(
            record_add(session, floats_of(second, 0, 8), floats_of(source, 32, 8)).hazard_count,
            0); // nothing stale
        weir_storage* again = wrap(device, block.bytes, 1024);
        assert_int_equal(
            record_add(session, floats_of(again, 0, 8), floats_of(again, 512, 8)).hazard_count,
            1); // nothing lost: the bytes that the first dispatch writes
        weir_storage_release(again);
        weir_session_destroy(session); // dropped: the address is free from here on
        weir_storage_release(second);
        assert_ok(weir_session_create(device, &session));
        assert_ok(weir_storage_allocate(device, &wanted, &first));
        assert_ptr_equal(weir_storage_host_pointer(first), block.bytes);
        assert_int_equal(
            record_add(session, floats_of(first, 0, 8), floats_of(source, 0, 8)).hazard_count, 0);
        assert_ok(weir_session_finish(session));
        weir_session_destroy(session);
        weir_storage_release(first);
        weir_storage_release(source);
    }
    weir_device_destroy(device);
}

static void failed_declarations_change_nothing(void** state) {
    (void)state;
    static uint8_t memory[300];
    test_allocator counter = {.fail_at = SIZE_MAX};
    weir_device* device = open_device("cpu", 1, &counter);
    weir_storage* a = wrap(device, memory, 100);
    weir_storage* b = wrap(device, memory + 100, 100);
    weir_storage* c = wrap(device, memory + 200, 100);
    assert_ok(weir_storage_alias(a, 10, b, 20, 50));
    weir_status status = WEIR_OUT_OF_MEMORY;
    for (size_t step = 0; status != WEIR_OK; step++) {
        assert_true(step < 20);
        assert_false(parts_meet(c, 0, 100, a, 0, 100));
        assert_true(parts_meet(a, 10, 1, b, 20, 1));
        counter.fail_at = atomic_load(&counter.calls) + step;
        status = weir_storage_alias(b, 30, c, 0, 50);
        counter.fail_at = SIZE_MAX;
        assert_true(status == WEIR_OK || status == WEIR_OUT_OF_MEMORY);
    }
    assert_true(parts_meet(c, 0, 1, a, 20, 1));
    const weir_view view = bytes_of(a, 0, 100);
    uint32_t count = 0;
    status = WEIR_OUT_OF_MEMORY;
    for (size_t step = 0; status != WEIR_OK; step++) {
        assert_true(step < 40);
        counter.fail_at = atomic_load(&counter.calls) + step;
        status = weir_view_accesses(&view, WEIR_ACCESS_READ, NULL, 0, &count);
        counter.fail_at = SIZE_MAX;
        assert_true(status == WEIR_OK || (status == WEIR_OUT_OF_MEMORY && count == 0));
    }
    assert_true(count > 1);
    weir_storage_release(a);
    weir_storage_release(b);
    weir_storage_release(c);
    weir_device_destroy(device);
    assert_int_equal(atomic_load(&counter.live_bytes), 0);
}

static int open_cpu(void** state) {
    *state = open_device("cpu", 2, NULL);
    return 0;
}

static int close_cpu(void** state) {
    weir_device_destroy(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrap_of_lazy_memory_is_that_memory),
        cmocka_unit_test(mappings_of_one_file_share_their_bytes),
        cmocka_unit_test(the_id_of_a_file_is_not_given_again),
        cmocka_unit_test(bad_aliases_are_refused),
        cmocka_unit_test(random_aliases_meet_exactly_where_they_share_bytes),
        cmocka_unit_test(an_alias_lasts_as_long_as_a_storage_has_its_bytes),
        cmocka_unit_test(one_memory_mapped_twice_is_ordered_once_declared),
        cmocka_unit_test(passes_in_flight_are_ordered_by_aliases_too),
        cmocka_unit_test(a_download_into_lazy_memory_is_a_write_to_it),
        cmocka_unit_test(a_ring_that_is_mapped_twice_in_a_row_meets_itself),
        cmocka_unit_test(memory_released_and_reallocated_while_recording_keeps_its_hazards_apart),
        cmocka_unit_test(failed_declarations_change_nothing),
    };
    return cmocka_run_group_tests(tests, open_cpu, close_cpu);
}
