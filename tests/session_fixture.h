// A device with a session and some floats, and what tests record on them.
#ifndef WEIR_TESTS_SESSION_FIXTURE_H
#define WEIR_TESTS_SESSION_FIXTURE_H

#include "session_testing.h"

typedef struct fixture {
    weir_device* device;
    weir_session* session;
    weir_storage* storage; // 64 floats, zeros
    float* numbers;        // its bytes
} fixture;

static inline fixture open_fixture(const char* name, uint32_t threads, test_allocator* counter) {
    fixture f = {.device = open_device(name, threads, counter)};
    f.storage = allocate_zeros(f.device, 64 * sizeof(float));
    f.numbers = weir_storage_host_pointer(f.storage);
    assert_ok(weir_session_create(f.device, &f.session));
    return f;
}

static inline void close_fixture(fixture* f) {
    weir_session_destroy(f->session);
    weir_storage_release(f->storage);
    weir_device_destroy(f->device);
}

static inline int open_cpu(void** state) {
    static fixture f;
    f = open_fixture("cpu", 2, NULL);
    *state = &f;
    return 0;
}

static inline int open_null(void** state) {
    static fixture f;
    f = open_fixture("null", 0, NULL);
    *state = &f;
    return 0;
}

static inline int close_state(void** state) {
    close_fixture(*state);
    return 0;
}

// Adds a constant to every element of the last operand.
static inline weir_status add_constant(const weir_kernel_call* call) {
    float* y = call->pointers[call->operand_count - 1];
    const int64_t count = call->views[call->operand_count - 1].shape.dims[0];
    for (int64_t i = call->tile; i < count; i += call->tile_count) {
        y[i] += *(const float*)call->constants;
    }
    return WEIR_OK;
}

static inline weir_status do_nothing(const weir_kernel_call* call) {
    (void)call;
    return WEIR_OK;
}

static inline weir_status record_add(fixture* f, weir_view view, float constant) {
    const weir_operand operand = {view, WEIR_ACCESS_READ_WRITE};
    const weir_dispatch_desc desc = {.name = "add",
                                     .kernel = add_constant,
                                     .operands = &operand,
                                     .operand_count = 1,
                                     .constants = &constant,
                                     .constants_size = sizeof constant,
                                     .tile_count = 3};
    return weir_session_dispatch(f->session, &desc, NULL);
}

static inline weir_ticket commit_one(weir_session* session) {
    weir_ticket ticket;
    const weir_dispatch_desc desc = {.name = "one", .kernel = do_nothing};
    assert_ok(weir_session_dispatch(session, &desc, NULL));
    assert_ok(weir_session_commit(session, &ticket));
    return ticket;
}

#define on_cpu(test) cmocka_unit_test_setup_teardown(test, open_cpu, close_state)
#define on_null(test) cmocka_unit_test_setup_teardown(test, open_null, close_state)

#endif
