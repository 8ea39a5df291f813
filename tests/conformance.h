// The conformance suite: what every device has to do, operation by operation, under the names of
// the five systems that weir unifies; docs/coverage.md is its index. The suite knows the public
// headers alone and is given the name of a device:
//
//     build/dev/tests/conformance vulkan:0
//
// A new device must pass it unchanged. What a device has not got is skipped with the reason, never
// passed over: `null` executes nothing, so that bytes are not looked at there. A device that runs
// no functions of the host runs code in SPIR-V; what neither can show is shown by copies, fills,
// uploads, downloads and graphs.
#ifndef WEIR_TESTS_CONFORMANCE_H
#define WEIR_TESTS_CONFORMANCE_H

#include "session_testing.h"

#define FLOATS 1024 // in the storage of a case

typedef struct conformance {
    const char* name;
    weir_device* device;
    weir_session* session;
    weir_storage* storage; // FLOATS floats, zeros
    weir_view floats;      // all of it, f32 [FLOATS]
    test_allocator allocator;
    bool executes;       // false: completes work without doing it
    bool runs_functions; // kernels are functions of the host
} conformance;

// The cases of one system; return how many failed.
int conformance_buffer_range(void);
int conformance_conflict_tracker(void);
int conformance_mlx_buffer(void);
int conformance_residency(void);
int conformance_raw_buffer(void);
int conformance_arena(void);
int conformance_arena_shadow(void);

// Opens the device of the suite before a case; closes it afterwards and fails if anything is left.
int conformance_open(void** state);
int conformance_close(void** state);

#define conformance_case(test)                                                                     \
    cmocka_unit_test_setup_teardown(test, conformance_open, conformance_close)

// Ends a case that this device cannot show. Call it before the case makes anything.
#define skip_because(reason)                                                                       \
    do {                                                                                           \
        print_message("skipped: %s\n", (reason));                                                  \
        skip();                                                                                    \
    } while (0)

static inline void need_execution(const conformance* c) {
    if (!c->executes) {
        skip_because("the device executes nothing, so that there are no bytes to look at");
    }
}

static const uint32_t ripple_words[] = {
#include "shaders/ripple.inc"
};
static const uint32_t spin_words[] = {
#include "shaders/spin.inc"
};

// Records a shader of the suite, which reads x and writes y and has one constant.
static inline weir_status run_code(weir_session* session, const uint32_t* words, size_t byte_size,
                                   const weir_view* x, const weir_view* y, uint32_t groups,
                                   uint32_t constant) {
    const weir_kernel_code code = {.words = words, .byte_size = byte_size, .groups = {groups}};
    const weir_operand operands[] = {{*x, WEIR_ACCESS_READ}, {*y, WEIR_ACCESS_WRITE}};
    const weir_dispatch_desc desc = {.name = "code",
                                     .code = &code,
                                     .operands = operands,
                                     .operand_count = 2,
                                     .constants = &constant,
                                     .constants_size = sizeof constant};
    return weir_session_dispatch(session, &desc, NULL);
}

// Another device of the same kind; a null device completes by weir_null_complete only.
static inline weir_device* open_another(const conformance* c) {
    const weir_device_desc desc = {.name = c->name,
                                   .thread_count = 2,
                                   .manual_completion = !c->executes,
                                   .vulkan = test_card()};
    weir_device* device = NULL;
    assert_ok(weir_device_create(&desc, &device));
    return device;
}

static inline weir_view first_floats(const conformance* c, uint64_t first, int64_t count) {
    return floats_of(c->storage, first * sizeof(float), count);
}

static inline void put(const conformance* c, const weir_view* to, const void* bytes) {
    weir_session* session = NULL;
    assert_ok(weir_session_create(c->device, &session));
    assert_ok(weir_session_upload(session, bytes, weir_view_byte_length(to), to));
    assert_ok(weir_session_finish(session));
    weir_session_destroy(session);
}

static inline void get(const conformance* c, const weir_view* from, void* bytes) {
    weir_session* session = NULL;
    assert_ok(weir_session_create(c->device, &session));
    assert_ok(weir_session_download(session, from, bytes, weir_view_byte_length(from)));
    assert_ok(weir_session_finish(session));
    weir_session_destroy(session);
}

static inline void put_count(const conformance* c, const weir_view* to, float first) {
    float numbers[FLOATS];
    const int64_t count = weir_view_element_count(to);
    assert_true(count <= FLOATS);
    for (int64_t i = 0; i < count; i++) {
        numbers[i] = first + (float)i;
    }
    put(c, to, numbers);
}

// Fails unless the view holds first, first + step, ... where the device executes.
static inline void assert_counts(const conformance* c, const weir_view* from, float first,
                                 float step) {
    float numbers[FLOATS] = {0};
    const int64_t count = weir_view_element_count(from);
    assert_true(count <= FLOATS);
    get(c, from, numbers);
    for (int64_t i = 0; c->executes && i < count; i++) {
        if (numbers[i] != first + step * (float)i) {
            fail_msg("element %lld is %g, expected %g", (long long)i, (double)numbers[i],
                     (double)(first + step * (float)i));
        }
    }
}

static inline weir_status fill_with(weir_session* session, const weir_view* to, float number) {
    return weir_session_fill(session, to, &number, sizeof number);
}

// Wraps memory of the caller; NULL where the device cannot.
static inline weir_storage* try_wrap(const conformance* c, void* pointer, uint64_t byte_size,
                                     bool sealed, int* released) {
    const weir_storage_wrap_desc desc = {.pointer = pointer,
                                         .byte_size = byte_size,
                                         .sealed = sealed,
                                         .release = released ? count_release : NULL,
                                         .context = released,
                                         .name = "foreign"};
    weir_storage* storage = NULL;
    const weir_status status = weir_storage_wrap(c->device, &desc, &storage);
    if (status == WEIR_UNSUPPORTED) {
        return NULL;
    }
    assert_ok(status);
    return storage;
}

static inline weir_status wait_for_flag(const weir_kernel_call* call) {
    const atomic_bool* const* flag = call->constants;
    while (!atomic_load(*flag)) {
        sleep_us(50);
    }
    return WEIR_OK;
}

// A pass that stays in flight until it is let go; code stays for as many steps as it is told, which
// was_held tells from too few.
typedef struct held {
    weir_device* device;
    weir_storage* storage;
    weir_storage* scratch;
    weir_session* session;
    weir_ticket ticket;
    weir_view view; // what the pass touches: floats [64, 72) of 256
    atomic_bool go;
} held;

#define HELD_STEPS (1u << 22) // of code, to begin with
#define HELD_STEPS_MAX (1u << 31)

static inline void hold_by_function(held* h, weir_access_kind kind) {
    const weir_operand operand = {h->view, kind};
    const atomic_bool* const flag = &h->go;
    const weir_dispatch_desc desc = {.name = "held",
                                     .kernel = wait_for_flag,
                                     .operands = &operand,
                                     .operand_count = 1,
                                     .constants = &flag,
                                     .constants_size = sizeof flag};
    assert_ok(weir_session_dispatch(h->session, &desc, NULL));
}

static inline void hold_by_code(held* h, weir_access_kind kind, uint32_t steps) {
    const bool reads = kind == WEIR_ACCESS_READ;
    const weir_view other = floats_of(h->scratch, 0, 8);
    assert_ok(run_code(h->session, spin_words, sizeof spin_words, reads ? &h->view : &other,
                       reads ? &other : &h->view, 1, steps));
}

static inline void hold(const conformance* c, held* h, weir_access_kind kind, uint32_t steps) {
    h->device = open_another(c);
    h->storage = allocate_zeros(h->device, 256 * sizeof(float));
    h->scratch = allocate_zeros(h->device, 256 * sizeof(float));
    h->view = floats_of(h->storage, 256, 8);
    atomic_init(&h->go, false);
    assert_ok(weir_session_create(h->device, &h->session));
    if (c->runs_functions) {
        hold_by_function(h, kind);
    } else {
        hold_by_code(h, kind, steps);
    }
    assert_ok(weir_session_commit(h->session, &h->ticket));
}

static inline bool was_held(const held* h) {
    return !weir_ticket_is_complete(h->ticket);
}

static inline void let_go(const conformance* c, held* h) {
    atomic_store(&h->go, true);
    if (!c->executes) {
        assert_int_equal(weir_null_complete(h->device, 1, WEIR_OK), 1);
    }
    assert_ok(weir_ticket_wait(h->ticket, WEIR_WAIT_FOREVER));
}

static inline void close_held(held* h) {
    weir_session_destroy(h->session);
    weir_storage_release(h->storage);
    weir_storage_release(h->scratch);
    weir_device_destroy(h->device);
}

#endif
