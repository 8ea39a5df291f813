// RawBuffer: memory itself, of the device or mapped from a file.
#include "conformance.h"

#include <sys/mman.h>
#include <unistd.h>

static bool all_bytes(const uint8_t* bytes, size_t count, uint8_t expected) {
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != expected) {
            return false;
        }
    }
    return true;
}

// Aligned to 64 bytes, filled as asked for, of any size.
static void raw_buffer_cpu_is_aligned_and_filled(void** state) {
    const conformance* c = *state;
    static const uint64_t sizes[] = {1, 63, 64, 4095, 100000};
    static const weir_fill fills[] = {WEIR_FILL_ZERO, WEIR_FILL_POISON, WEIR_FILL_NONE};
    for (int i = 0; i < 15; i++) {
        const weir_storage_desc desc = {.byte_size = sizes[i / 3], .fill = fills[i % 3]};
        const weir_shape shape = weir_shape_make(1, (const int64_t[]){(int64_t)desc.byte_size});
        static uint8_t bytes[100000];
        weir_storage* storage = NULL;
        weir_view view;
        weir_native native;
        assert_ok(weir_storage_allocate(c->device, &desc, &storage));
        assert_ok(weir_view_make(storage, 0, WEIR_DTYPE_U8, &shape, &view));
        assert_ok(weir_view_native(&view, &native));
        assert_int_equal((uintptr_t)weir_storage_host_pointer(storage) % 64, 0);
        assert_int_equal(native.byte_offset % 64, 0);
        get(c, &view, bytes);
        if (c->executes && desc.fill != WEIR_FILL_NONE) {
            assert_true(all_bytes(bytes, desc.byte_size, desc.fill == WEIR_FILL_ZERO ? 0 : 0xFF));
        }
        weir_storage_release(storage);
    }
}

typedef struct toucher {
    weir_storage* storage;
    pthread_barrier_t* start;
    pthread_t thread;
    uint64_t handle;
} toucher;

static void* touch(void* context) {
    toucher* t = context;
    const weir_view view = {
        .storage = t->storage, .dtype = WEIR_DTYPE_U8, .shape = {1, {1}}, .strides = {1}};
    weir_native native = {0};
    pthread_barrier_wait(t->start);
    if (weir_view_native(&view, &native) == WEIR_OK) {
        t->handle = native.handle + native.byte_offset;
    }
    return NULL;
}

// Sixteen threads race for the first touch: one allocation, and one address for all.
static void raw_buffer_cpu_allocates_lazily_and_once(void** state) {
    const conformance* c = *state;
    const weir_storage_desc desc = {
        .byte_size = 1 << 20, .fill = WEIR_FILL_ZERO, .lazy = true, .name = "lazy"};
    toucher touchers[16];
    for (int round = 0; round < 10; round++) {
        weir_storage* storage = NULL;
        pthread_barrier_t start;
        pthread_barrier_init(&start, NULL, 16);
        assert_ok(weir_storage_allocate(c->device, &desc, &storage));
        assert_false(weir_storage_is_allocated(storage));
        assert_int_equal(weir_storage_byte_size(storage), 1 << 20);
        for (int i = 0; i < 16; i++) {
            touchers[i] = (toucher){.storage = storage, .start = &start};
            assert_int_equal(pthread_create(&touchers[i].thread, NULL, touch, &touchers[i]), 0);
        }
        for (int i = 0; i < 16; i++) {
            pthread_join(touchers[i].thread, NULL);
        }
        assert_true(weir_storage_is_allocated(storage));
        for (int i = 0; i < 16; i++) {
            assert_int_not_equal(touchers[i].handle, 0);
            assert_int_equal(touchers[i].handle, touchers[0].handle);
        }
        weir_storage_release(storage);
        pthread_barrier_destroy(&start);
    }
}

// A commit that names a lazy storage touches it; where that fails, the next try works.
static void raw_buffer_cpu_first_touch_by_a_pass(void** state) {
    conformance* c = *state;
    const weir_storage_desc desc = {.byte_size = 4096, .fill = WEIR_FILL_ZERO, .lazy = true};
    weir_storage* storage = NULL;
    assert_ok(weir_storage_allocate(c->device, &desc, &storage));
    const weir_view view = floats_of(storage, 0, 1024);
    assert_ok(weir_session_copy(c->session, &view, &c->floats));
    assert_false(weir_storage_is_allocated(storage));
    if (c->runs_functions) { // so that its memory comes through the hook
        c->allocator.fail_at = atomic_load(&c->allocator.calls);
        assert_status(weir_storage_touch(storage), WEIR_OUT_OF_MEMORY);
        c->allocator.fail_at = SIZE_MAX;
        assert_false(weir_storage_is_allocated(storage));
    }
    assert_ok(weir_session_finish(c->session));
    assert_true(weir_storage_is_allocated(storage));
    assert_counts(c, &c->floats, 0.0f, 0.0f);
    weir_storage_release(storage);
}

static void raw_buffer_size_and_cpu_accessible(void** state) {
    const conformance* c = *state;
    weir_storage* storage = NULL;
    const weir_storage_desc desc = {.byte_size = 4097, .device_only = true};
    assert_ok(weir_storage_allocate(c->device, &desc, &storage));
    assert_int_equal(weir_storage_byte_size(storage), 4097);
    assert_null(weir_storage_host_pointer(storage));
    const weir_view view = floats_of(storage, 0, 1024); // reached by passes all the same
    put_count(c, &view, 1.0f);
    assert_counts(c, &view, 1.0f, 1.0f);
    weir_storage_release(storage);
}

// Words that nobody had before: the shader adds 3 where its source adds 1.
static void check_code_made_at_run_time(const conformance* c) {
    static const uint32_t one = 0x3F800000;
    static const uint32_t three = 0x40400000;
    uint32_t words[sizeof ripple_words / sizeof *ripple_words];
    uint32_t found = 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        found += ripple_words[i] == one ? 1 : 0;
        words[i] = ripple_words[i] == one ? three : ripple_words[i];
    }
    assert_int_equal(found, 1);
    const weir_view x = first_floats(c, 0, 256);
    const weir_view y = first_floats(c, 512, 256);
    put_count(c, &x, 5.0f);
    assert_ok(run_code(c->session, words, sizeof words, &x, &y, 4, 256));
    assert_ok(weir_session_finish(c->session));
    assert_counts(c, &y, 5.0f + 255.0f + 3.0f, -1.0f);
}

// Machine code written at run time is a kernel like any other; it gets raw pointers.
static void raw_buffer_cpu_kernels_made_at_run_time(void** state) {
    const conformance* c = *state;
    if (!c->runs_functions) {
        check_code_made_at_run_time(c);
        return;
    }
#if defined(__x86_64__)
    // The second member of weir_kernel_call is `pointers`: **call->pointers += 1; return WEIR_OK.
    static const uint8_t code[] = {0x48, 0x8B, 0x47, 0x08, 0x48, 0x8B, 0x00,
                                   0x83, 0x00, 0x01, 0x31, 0xC0, 0xC3};
    void* page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(page, MAP_FAILED);
    memcpy(page, code, sizeof code);
    if (mprotect(page, 4096, PROT_READ | PROT_EXEC) != 0) {
        munmap(page, 4096);
        skip_because("this system runs no code that was written at run time");
    }
    weir_kernel_fn kernel = NULL;
    memcpy(&kernel, &page, sizeof kernel);
    const weir_operand operand = {first_floats(c, 3, 1), WEIR_ACCESS_READ_WRITE};
    const weir_dispatch_desc desc = {.kernel = kernel, .operands = &operand, .operand_count = 1};
    for (int i = 0; i < 10; i++) {
        assert_ok(weir_session_dispatch(c->session, &desc, NULL));
    }
    assert_ok(weir_session_finish(c->session));
    uint32_t count = 0;
    get(c, &operand.view, &count);
    assert_int_equal(count, c->executes ? 10 : 0);
    munmap(page, 4096);
#else
    skip_because("the code of this test is for x86-64");
#endif
}

// Makes a file of `count` floats 0, 1, ... behind a hole.
static void write_file(char path[64], uint64_t hole, int64_t count) {
    float numbers[FLOATS];
    snprintf(path, 64, "/tmp/weir-conformance-XXXXXX");
    const int file = mkstemp(path);
    assert_true(file >= 0);
    for (int64_t i = 0; i < count; i++) {
        numbers[i] = (float)i;
    }
    const size_t byte_size = (size_t)count * sizeof(float);
    assert_int_equal(pwrite(file, numbers, byte_size, (off_t)hole), (ssize_t)byte_size);
    close(file);
}

static weir_storage* try_map(const conformance* c, const weir_storage_map_desc* desc) {
    weir_storage* storage = NULL;
    const weir_status status = weir_storage_map(c->device, desc, &storage);
    if (status == WEIR_UNSUPPORTED) {
        return NULL;
    }
    assert_ok(status);
    return storage;
}

// A range of a file, at any offset, that work of the device reads and nothing writes.
static void raw_buffer_mmap_is_a_read_only_range(void** state) {
    const conformance* c = *state;
    char path[64];
    write_file(path, 0, FLOATS);
    weir_storage* storage = try_map(c, &(weir_storage_map_desc){.path = path, .byte_offset = 400});
    if (!storage) {
        unlink(path);
        skip_because(weir_last_error());
    }
    unlink(path);
    assert_int_equal(weir_storage_byte_size(storage), FLOATS * sizeof(float) - 400);
    assert_true(weir_storage_is_sealed(storage));
    const weir_view view = floats_of(storage, 40, 16);
    const weir_view to = first_floats(c, 0, 16);
    assert_ok(weir_session_copy(c->session, &view, &to));
    assert_status(fill_with(c->session, &view, 1.0f), WEIR_INVALID_ARGUMENT);
    assert_ok(weir_session_finish(c->session));
    assert_counts(c, &to, 110.0f, 1.0f);
    void* elements = NULL;
    int64_t count = 0;
    assert_int_not_equal(weir_view_write(&view, WEIR_DTYPE_F32, &elements, &count), WEIR_OK);
    weir_storage_release(storage);
}

static void raw_buffer_mmap_advice_and_refusals(void** state) {
    const conformance* c = *state;
    char path[64];
    weir_storage* none = NULL;
    write_file(path, 0, FLOATS);
    weir_storage* storage =
        try_map(c, &(weir_storage_map_desc){.path = path, .advice = WEIR_ADVICE_SEQUENTIAL});
    if (!storage) {
        unlink(path);
        skip_because(weir_last_error());
    }
    const weir_storage_map_desc beyond = {.path = path, .byte_offset = 4000, .byte_size = 97};
    assert_status(weir_storage_map(c->device, &beyond, &none), WEIR_OUT_OF_RANGE);
    unlink(path);
    assert_status(weir_storage_map(c->device, &(weir_storage_map_desc){.path = path}, &none),
                  WEIR_IO);
    assert_null(none);
    for (int advice = WEIR_ADVICE_NORMAL; advice <= WEIR_ADVICE_DROP; advice++) {
        assert_ok(weir_storage_advise(storage, 0, 0, (weir_advice)advice));
    }
    assert_status(weir_storage_advise(storage, 4000, 97, WEIR_ADVICE_NORMAL), WEIR_OUT_OF_RANGE);
    assert_ok(weir_storage_check(storage));
    const weir_view view = floats_of(storage, 0, FLOATS);
    assert_counts(c, &view, 0.0f, 1.0f);
    weir_storage_release(storage);
}

// The end of a file of 9 GiB, most of which is a hole.
static void raw_buffer_mmap_of_a_huge_file(void** state) {
    const conformance* c = *state;
    const uint64_t hole = UINT64_C(9) << 30;
    char path[64];
    write_file(path, hole, 256);
    weir_storage* storage =
        try_map(c, &(weir_storage_map_desc){.path = path, .byte_offset = hole + 256});
    unlink(path);
    if (!storage) {
        skip_because(weir_last_error());
    }
    const weir_view view = floats_of(storage, 0, 192);
    assert_counts(c, &view, 64.0f, 1.0f);
    weir_storage_release(storage);
}

// Sealed memory of any kind refuses a write when it is recorded, and the rest goes on.
static void raw_buffer_sealed_refuses_writes(void** state) {
    const conformance* c = *state;
    const weir_view from = first_floats(c, 0, 8);
    weir_storage* other = allocate_zeros(c->device, 64);
    const weir_view to = floats_of(other, 0, 8);
    put_count(c, &from, 1.0f);
    assert_false(weir_storage_is_sealed(c->storage));
    assert_ok(weir_storage_seal(c->storage));
    assert_true(weir_storage_is_sealed(c->storage));
    assert_status(fill_with(c->session, &from, 9.0f), WEIR_INVALID_ARGUMENT);
    assert_status(weir_session_copy(c->session, &to, &from), WEIR_INVALID_ARGUMENT);
    assert_ok(weir_session_copy(c->session, &from, &to));
    assert_ok(weir_session_finish(c->session));
    assert_counts(c, &to, 1.0f, 1.0f);
    weir_storage_release(other);
}

int conformance_raw_buffer(void) {
    const struct CMUnitTest cases[] = {
        conformance_case(raw_buffer_cpu_is_aligned_and_filled),
        conformance_case(raw_buffer_cpu_allocates_lazily_and_once),
        conformance_case(raw_buffer_cpu_first_touch_by_a_pass),
        conformance_case(raw_buffer_size_and_cpu_accessible),
        conformance_case(raw_buffer_cpu_kernels_made_at_run_time),
        conformance_case(raw_buffer_mmap_is_a_read_only_range),
        conformance_case(raw_buffer_mmap_advice_and_refusals),
        conformance_case(raw_buffer_mmap_of_a_huge_file),
        conformance_case(raw_buffer_sealed_refuses_writes),
    };
    return cmocka_run_group_tests_name("RawBuffer", cases, NULL, NULL);
}
