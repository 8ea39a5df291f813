// One storage shared by many threads: views made, sliced, retained and released while sessions run
// on one device. What ThreadSanitizer finds here is the point; what is checked is that nothing is
// lost and nothing is given back early.
#include "session_testing.h"

#include <unistd.h>

enum { THREADS = 16, SHARE = 64 }; // each thread has SHARE floats of the storage to itself

typedef struct stress {
    weir_device* device;
    weir_storage* shared;
    weir_storage* lazy;
    const char* path;
    uint32_t rounds;
    pthread_barrier_t barrier;
} stress;

typedef struct stress_thread {
    stress* all;
    uint32_t number;
    pthread_t thread;
    bool right;
} stress_thread;

// Slices and reshapes its share down to a row of 8, each view an owner for a while.
static weir_status take_row(const weir_view* share, uint64_t row, weir_view* taken) {
    weir_view half;
    weir_view rows;
    const weir_shape shape = {2, {4, 8}};
    WEIR_TRY(weir_view_slice(share, row / 4 * 128, 32, &half));
    weir_view_retain(&half);
    weir_status status = weir_view_reshape(&half, &shape, &rows);
    if (status == WEIR_OK) {
        status = weir_view_narrow(&rows, 0, (int64_t)(row % 4), 1, taken);
    }
    if (status == WEIR_OK) {
        weir_view_retain(taken);
    }
    weir_view_release(&half);
    return status;
}

static weir_status add_to_row(const weir_kernel_call* call) {
    float* y = call->pointers[0];
    const float* x = call->pointers[1];
    for (int64_t i = 0; i < 8; i++) {
        y[i] += x[i];
    }
    return WEIR_OK;
}

static weir_status record_row(weir_session* session, const weir_view* share, uint64_t row,
                              const weir_view* ones) {
    weir_view taken;
    WEIR_TRY(take_row(share, row, &taken));
    const weir_operand operands[] = {{taken, WEIR_ACCESS_READ_WRITE}, {*ones, WEIR_ACCESS_READ}};
    const weir_dispatch_desc desc = {
        .name = "add", .kernel = add_to_row, .operands = operands, .operand_count = 2};
    const weir_status status = weir_session_dispatch(session, &desc, NULL);
    weir_view_release(&taken); // the session has references of its own
    return status;
}

// Storages that come and go beside the shared one: other threads look the tables up meanwhile.
static weir_status churn(const stress* all, float* numbers) {
    weir_storage* wrapped = NULL;
    weir_storage* mapped = NULL;
    weir_storage* lazy = NULL;
    const weir_storage_wrap_desc wrap = {.pointer = numbers, .byte_size = 8 * sizeof *numbers};
    WEIR_TRY(weir_storage_wrap(all->device, &wrap, &wrapped));
    weir_status status = weir_storage_map(
        all->device, &(weir_storage_map_desc){.path = all->path, .byte_size = 64}, &mapped);
    if (status == WEIR_OK) {
        status = weir_storage_allocate(all->device,
                                       &(weir_storage_desc){.byte_size = 256, .lazy = true}, &lazy);
    }
    if (status == WEIR_OK && !weir_storage_host_pointer(lazy)) {
        status = WEIR_OUT_OF_MEMORY;
    }
    weir_storage_release(lazy);
    weir_storage_release(mapped);
    weir_storage_release(wrapped);
    return status;
}

static weir_status work(stress_thread* me, weir_session* session) {
    const stress* all = me->all;
    const weir_view whole = floats_of(all->shared, 0, THREADS * SHARE);
    const weir_view ones = floats_of(all->lazy, 0, 8);
    weir_view share;
    float numbers[8] = {0};
    WEIR_TRY(weir_view_slice(&whole, me->number * SHARE * sizeof(float), SHARE, &share));
    weir_view_retain(&share);
    weir_status status = WEIR_OK;
    for (uint32_t round = 0; round < all->rounds && status == WEIR_OK; round++) {
        for (uint64_t row = 0; row < SHARE / 8 && status == WEIR_OK; row++) {
            status = record_row(session, &share, row, &ones);
        }
        if (status == WEIR_OK && round % 4 == 0) {
            status = churn(all, numbers);
        }
        if (status == WEIR_OK) {
            status = weir_session_finish(session);
        }
    }
    weir_view_release(&share);
    return status;
}

static void* run_thread(void* argument) {
    stress_thread* me = argument;
    weir_session* session = NULL;
    pthread_barrier_wait(&me->all->barrier);
    me->right =
        weir_session_create(me->all->device, &session) == WEIR_OK && work(me, session) == WEIR_OK;
    weir_session_destroy(session);
    weir_storage_release(me->all->shared);
    return NULL;
}

static void sixteen_threads_share_a_storage_while_sessions_run(void** state) {
    (void)state;
    static float memory[THREADS * SHARE];
    static stress_thread threads[THREADS];
    test_allocator counter = {.fail_at = SIZE_MAX};
    char path[64] = "/tmp/weir-test-XXXXXX";
    const int descriptor = mkstemp(path);
    assert_true(descriptor >= 0 && ftruncate(descriptor, 4096) == 0);
    close(descriptor);
    int released = 0;
    stress all = {.device = open_device("cpu", 3, &counter),
                  .path = path,
                  .rounds = getenv("WEIR_LONG") ? 5000 : 200};
    const weir_storage_desc desc = {.byte_size = 64, .fill = WEIR_FILL_NONE, .lazy = true};
    memset(memory, 0, sizeof memory);
    all.shared = wrap_counted(all.device, memory, sizeof memory, &released);
    assert_ok(weir_storage_allocate(all.device, &desc, &all.lazy));
    float* ones = weir_storage_host_pointer(all.lazy);
    for (size_t i = 0; i < 8; i++) {
        ones[i] = 1.0f;
    }
    assert_int_equal(pthread_barrier_init(&all.barrier, NULL, THREADS), 0);
    for (uint32_t i = 0; i < THREADS; i++) {
        threads[i] = (stress_thread){.all = &all, .number = i};
        weir_storage_retain(all.shared);
        assert_int_equal(pthread_create(&threads[i].thread, NULL, run_thread, &threads[i]), 0);
    }
    weir_storage_release(all.shared); // the last thread gives it back
    for (uint32_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i].thread, NULL);
        assert_true(threads[i].right);
    }
    for (size_t i = 0; i < THREADS * SHARE; i++) {
        assert_true(memory[i] == (float)all.rounds);
    }
    assert_int_equal(released, 1);
    pthread_barrier_destroy(&all.barrier);
    weir_storage_release(all.lazy);
    weir_device_destroy(all.device);
    assert_int_equal(atomic_load(&counter.live_bytes), 0);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sixteen_threads_share_a_storage_while_sessions_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
