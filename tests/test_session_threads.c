// What runs together, what never does, and that results depend on neither: random passes on one to
// seven workers, with delays, against the same steps done one after another in plain C.
#include "testing.h"

#include "session_testing.h"

#define BUFFERS 4
#define FLOATS 64 // of a buffer
#define STEPS_MAX 48
#define TILES_MAX 12  // of a step: several for each of the lanes that a dispatch is cut into
#define WORKERS_MAX 7 // more than there are lanes, and not the same number in each

// y = y / 2 + a / 4 + b / 8 + constant, on `count` floats of three buffers.
typedef struct step {
    uint32_t buffers[3]; // a, b, y
    uint32_t begins[3];
    uint32_t count;
    uint32_t tiles;
    float constant;
} step;

typedef struct random_pass {
    step steps[STEPS_MAX];
    uint32_t count;
} random_pass;

static bool slices_meet(const step* s, uint32_t i, const step* t, uint32_t k) {
    return s->buffers[i] == t->buffers[k] && s->begins[i] < t->begins[k] + t->count &&
           t->begins[k] < s->begins[i] + s->count;
}

static step random_step(test_random* random) {
    step made;
    do {
        made = (step){.count = 1 + (uint32_t)random_below(random, 16),
                      .tiles = 1 + (uint32_t)random_below(random, TILES_MAX),
                      .constant = random_unit(random)};
        for (uint32_t i = 0; i < 3; i++) {
            made.buffers[i] = (uint32_t)random_below(random, BUFFERS);
            made.begins[i] = (uint32_t)random_below(random, FLOATS - made.count + 1);
        }
    } while (slices_meet(&made, 0, &made, 2) || slices_meet(&made, 1, &made, 2));
    return made;
}

static random_pass random_pass_make(test_random* random) {
    random_pass pass = {.count = 8 + (uint32_t)random_below(random, STEPS_MAX - 8 + 1)};
    for (uint32_t i = 0; i < pass.count; i++) {
        pass.steps[i] = random_step(random);
    }
    return pass;
}

static void run_serially(const random_pass* pass, float memory[BUFFERS][FLOATS]) {
    for (uint32_t s = 0; s < pass->count; s++) {
        const step* now = &pass->steps[s];
        const float* a = memory[now->buffers[0]] + now->begins[0];
        const float* b = memory[now->buffers[1]] + now->begins[1];
        float* y = memory[now->buffers[2]] + now->begins[2];
        for (uint32_t i = 0; i < now->count; i++) {
            y[i] = y[i] * 0.5f + a[i] * 0.25f + b[i] * 0.125f + now->constant;
        }
    }
}

static weir_status mix(const weir_kernel_call* call) {
    const float* a = call->pointers[0];
    const float* b = call->pointers[1];
    float* y = call->pointers[2];
    for (int64_t i = call->tile; i < call->views[2].shape.dims[0]; i += call->tile_count) {
        y[i] = y[i] * 0.5f + a[i] * 0.25f + b[i] * 0.125f + *(const float*)call->constants;
    }
    return WEIR_OK;
}

static weir_status record_pass(weir_session* session, const random_pass* pass,
                               weir_storage* const storages[BUFFERS]) {
    for (uint32_t s = 0; s < pass->count; s++) {
        const step* now = &pass->steps[s];
        const weir_shape shape = weir_shape_make(1, (int64_t[]){now->count});
        weir_operand operands[3];
        for (uint32_t i = 0; i < 3; i++) {
            WEIR_TRY(weir_view_make(storages[now->buffers[i]], now->begins[i] * sizeof(float),
                                    WEIR_DTYPE_F32, &shape, &operands[i].view));
            operands[i].kind = i < 2 ? WEIR_ACCESS_READ : WEIR_ACCESS_READ_WRITE;
        }
        const weir_dispatch_desc desc = {.name = "mix",
                                         .kernel = mix,
                                         .operands = operands,
                                         .operand_count = 3,
                                         .constants = &now->constant,
                                         .constants_size = sizeof now->constant,
                                         .tile_count = now->tiles};
        WEIR_TRY(weir_session_dispatch(session, &desc, NULL));
    }
    return WEIR_OK;
}

// Delays tiles at random. Each worker has numbers of its own: a shared counter would order the very
// accesses that the thread sanitizer is to find unordered.
typedef struct delays {
    struct {
        _Alignas(64) uint64_t state;
    } workers[WORKERS_MAX];
} delays;

static void delay_tile(void* context, uint32_t worker, const char* name, uint32_t dispatch,
                       uint32_t tile, bool begin) {
    (void)name;
    (void)dispatch;
    (void)tile;
    (void)begin;
    delays* d = context;
    uint64_t* state = &d->workers[worker].state;
    *state = *state * 6364136223846793005u + 1442695040888963407u + worker;
    const uint64_t choice = *state >> 60;
    if (choice == 0) {
        sleep_us(20 + (*state >> 50) % 64);
    } else if (choice < 4) {
        const uint64_t until = now_ns() + (*state >> 50) % 4096;
        while (now_ns() < until) {
        }
    }
}

static void fill_random(test_random* random, float memory[BUFFERS][FLOATS]) {
    for (uint32_t i = 0; i < BUFFERS; i++) {
        for (uint32_t k = 0; k < FLOATS; k++) {
            memory[i][k] = random_unit(random);
        }
    }
}

static void results_are_those_of_the_serial_run_for_any_number_of_workers(void** state) {
    (void)state;
    test_random random = {101};
    delays d = {{{0}}};
    for (uint32_t round = 0; round < 60; round++) {
        const uint32_t threads = 1 + round % WORKERS_MAX;
        weir_device* device = open_device("cpu", threads, NULL);
        float expected[BUFFERS][FLOATS];
        weir_storage* storages[BUFFERS];
        weir_session* session = NULL;
        fill_random(&random, expected);
        for (uint32_t i = 0; i < BUFFERS; i++) {
            storages[i] = allocate_zeros(device, sizeof expected[i]);
            memcpy(weir_storage_host_pointer(storages[i]), expected[i], sizeof expected[i]);
        }
        assert_ok(weir_device_set_tile_hook(device, round % 3 ? delay_tile : NULL, &d));
        assert_ok(weir_session_create(device, &session));
        for (uint32_t repeat = 0; repeat < 4; repeat++) {
            const random_pass pass = random_pass_make(&random);
            assert_ok(record_pass(session, &pass, storages));
            assert_ok(weir_session_finish(session));
            run_serially(&pass, expected);
            for (uint32_t i = 0; i < BUFFERS; i++) {
                assert_memory_equal(weir_storage_host_pointer(storages[i]), expected[i],
                                    sizeof expected[i]);
            }
        }
        weir_session_destroy(session);
        for (uint32_t i = 0; i < BUFFERS; i++) {
            weir_storage_release(storages[i]);
        }
        weir_device_destroy(device);
    }
}

// Passes of several sessions, committed one after the other and waited for only at the end, on four
// buffers that all of them use: as if each had been waited for.
static void passes_in_flight_leave_what_the_serial_run_of_their_commits_leaves(void** state) {
    (void)state;
    test_random random = {303};
    delays d = {{{0}}};
    for (uint32_t round = 0; round < 24; round++) {
        weir_device* device = open_device("cpu", 1 + round % WORKERS_MAX, NULL);
        float expected[BUFFERS][FLOATS];
        weir_storage* storages[BUFFERS];
        weir_session* sessions[3] = {NULL};
        weir_ticket tickets[20];
        fill_random(&random, expected);
        for (uint32_t i = 0; i < BUFFERS; i++) {
            storages[i] = allocate_zeros(device, sizeof expected[i]);
            memcpy(weir_storage_host_pointer(storages[i]), expected[i], sizeof expected[i]);
        }
        for (uint32_t i = 0; i < 3; i++) {
            assert_ok(weir_session_create(device, &sessions[i]));
        }
        assert_ok(weir_device_set_tile_hook(device, round % 3 ? delay_tile : NULL, &d));
        for (uint32_t i = 0; i < 20; i++) {
            random_pass pass = random_pass_make(&random);
            pass.count = 1 + i % 4; // few steps: some passes conflict and some do not
            assert_ok(record_pass(sessions[i % 3], &pass, storages));
            assert_ok(weir_session_commit(sessions[i % 3], &tickets[i]));
            run_serially(&pass, expected);
        }
        for (uint32_t i = 0; i < 20; i++) {
            assert_ok(weir_ticket_wait(tickets[(i * 7 + round) % 20], WEIR_WAIT_FOREVER));
        }
        for (uint32_t i = 0; i < BUFFERS; i++) {
            assert_memory_equal(weir_storage_host_pointer(storages[i]), expected[i],
                                sizeof expected[i]);
            weir_storage_release(storages[i]);
        }
        for (uint32_t i = 0; i < 3; i++) {
            weir_session_destroy(sessions[i]);
        }
        weir_device_destroy(device);
    }
}

// Watches from the tile hook that what conflicts is over before, or not begun.
typedef struct watcher {
    bool conflicts[STEPS_MAX][STEPS_MAX];
    uint32_t tiles[STEPS_MAX];
    uint32_t count;
    atomic_uint begun[STEPS_MAX];
    atomic_uint ended[STEPS_MAX];
    atomic_uint together; // times that a tile began beside one of another dispatch
    atomic_uint overlaps; // times that it should not have
    delays d;
} watcher;

static void watch_tile(void* context, uint32_t worker, const char* name, uint32_t dispatch,
                       uint32_t tile, bool begin) {
    watcher* w = context;
    if (!begin) {
        delay_tile(&w->d, worker, name, dispatch, tile, begin);
        atomic_fetch_add(&w->ended[dispatch], 1);
        return;
    }
    atomic_fetch_add(&w->begun[dispatch], 1);
    for (uint32_t other = 0; other < w->count; other++) {
        const uint32_t ended = atomic_load(&w->ended[other]);
        const uint32_t begun = atomic_load(&w->begun[other]);
        if (other != dispatch && ended < begun) {
            atomic_fetch_add(&w->together, 1);
        }
        const bool wrong = other < dispatch ? ended != w->tiles[other] : begun != 0;
        if (w->conflicts[dispatch][other] && wrong) {
            atomic_fetch_add(&w->overlaps, 1);
        }
    }
    delay_tile(&w->d, worker, name, dispatch, tile, begin);
}

static void watch_pass(watcher* w, const random_pass* pass) {
    w->count = pass->count;
    for (uint32_t i = 0; i < pass->count; i++) {
        w->tiles[i] = pass->steps[i].tiles;
        atomic_store(&w->begun[i], 0);
        atomic_store(&w->ended[i], 0);
        for (uint32_t k = 0; k < pass->count; k++) {
            const step* a = &pass->steps[i];
            const step* b = &pass->steps[k];
            w->conflicts[i][k] = i != k && (slices_meet(a, 2, b, 2) || slices_meet(a, 2, b, 0) ||
                                            slices_meet(a, 2, b, 1) || slices_meet(a, 0, b, 2) ||
                                            slices_meet(a, 1, b, 2));
        }
    }
}

static void conflicting_dispatches_never_overlap_in_time_and_others_do(void** state) {
    (void)state;
    static watcher w;
    test_random random = {103};
    weir_device* device = open_device("cpu", 4, NULL);
    weir_storage* storages[BUFFERS];
    weir_session* session = NULL;
    for (uint32_t i = 0; i < BUFFERS; i++) {
        storages[i] = allocate_zeros(device, FLOATS * sizeof(float));
    }
    assert_ok(weir_session_create(device, &session));
    for (uint32_t round = 0; round < 60; round++) {
        const random_pass pass = random_pass_make(&random);
        watch_pass(&w, &pass);
        assert_ok(weir_device_set_tile_hook(device, watch_tile, &w));
        assert_ok(record_pass(session, &pass, storages));
        assert_ok(weir_session_finish(session));
        for (uint32_t i = 0; i < pass.count; i++) {
            assert_int_equal(atomic_load(&w.begun[i]), pass.steps[i].tiles);
            assert_int_equal(atomic_load(&w.ended[i]), pass.steps[i].tiles);
        }
        assert_int_equal(atomic_load(&w.overlaps), 0);
    }
    assert_true(atomic_load(&w.together) > 0);
    weir_session_destroy(session);
    for (uint32_t i = 0; i < BUFFERS; i++) {
        weir_storage_release(storages[i]);
    }
    weir_device_destroy(device);
}

typedef struct meeting {
    atomic_uint* mine;
    atomic_uint* others;
    uint32_t round;
} meeting;

// Raises its flag and waits for that of the other, which can only come while this one runs.
static weir_status meet(const weir_kernel_call* call) {
    const meeting* m = call->constants;
    const uint64_t deadline = now_ns() + UINT64_C(20000000000);
    atomic_store(m->mine, m->round);
    while (atomic_load(m->others) != m->round) {
        if (now_ns() > deadline) {
            return WEIR_FAIL(WEIR_TIMEOUT, "the other kernel did not run");
        }
    }
    return WEIR_OK;
}

static weir_status idle(const weir_kernel_call* call) {
    const uint32_t spins = *(const uint32_t*)call->constants;
    const uint64_t until = now_ns() + spins;
    while (now_ns() < until) {
    }
    return WEIR_OK;
}

static void record_kernel(weir_session* session, weir_kernel_fn kernel, const void* constants,
                          size_t size, const weir_operand* operands, uint32_t count) {
    const weir_dispatch_desc desc = {.kernel = kernel,
                                     .operands = operands,
                                     .operand_count = count,
                                     .constants = constants,
                                     .constants_size = size};
    assert_ok(weir_session_dispatch(session, &desc, NULL));
}

// Two kernels that wait for each other's flag: both at the start of a pass (`before` 0), both
// released by one dispatch (1), or each by one of its own (2).
static void meet_often(uint32_t before, uint32_t rounds) {
    weir_device* device = open_device("cpu", 2, NULL);
    weir_storage* storage = allocate_zeros(device, 2 * sizeof(float));
    weir_session* session = NULL;
    test_random random = {107};
    atomic_uint flags[2] = {0};
    assert_ok(weir_session_create(device, &session));
    for (uint32_t round = 1; round <= rounds; round++) {
        for (uint32_t i = 0; i < before; i++) {
            const weir_operand all = {floats_of(storage, 0, 2), WEIR_ACCESS_WRITE};
            const weir_operand one = {floats_of(storage, 4 * i, 1), WEIR_ACCESS_WRITE};
            const uint32_t spins = (uint32_t)random_below(&random, 3000);
            record_kernel(session, idle, &spins, sizeof spins, before == 1 ? &all : &one, 1);
        }
        for (uint32_t i = 0; i < 2; i++) {
            const weir_operand one = {floats_of(storage, 4 * i, 1), WEIR_ACCESS_READ};
            const meeting m = {&flags[i], &flags[1 - i], round};
            record_kernel(session, meet, &m, sizeof m, &one, 1);
        }
        assert_ok(weir_session_finish(session));
    }
    weir_session_destroy(session);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static void kernels_that_wait_for_each_other_finish_in_one_group(void** state) {
    (void)state;
    meet_often(0, 300);
}

static void kernels_released_by_one_dispatch_run_together(void** state) {
    (void)state;
    meet_often(1, 300);
}

static void kernels_released_by_two_dispatches_run_together(void** state) {
    (void)state;
    meet_often(2, 600);
}

// A session of a host thread of its own, on a device that it shares.
typedef struct host {
    weir_device* device;
    weir_storage* shared; // one uint64_t that every pass of the host adds 1 to; NULL: none does
    uint64_t seed;
    uint32_t passes;
    bool right;
} host;

static weir_status add_one(const weir_kernel_call* call) {
    ++*(uint64_t*)call->pointers[0];
    return WEIR_OK;
}

static weir_status run_passes(const host* h, weir_session* session,
                              weir_storage* const storages[BUFFERS],
                              float expected[BUFFERS][FLOATS]) {
    test_random random = {h->seed};
    weir_ticket ticket = {0};
    const weir_shape one = weir_shape_make(1, (int64_t[]){1});
    weir_operand counter = {.kind = WEIR_ACCESS_READ_WRITE};
    if (h->shared) {
        WEIR_TRY(weir_view_make(h->shared, 0, WEIR_DTYPE_U64, &one, &counter.view));
    }
    const weir_dispatch_desc count = {
        .name = "count", .kernel = add_one, .operands = &counter, .operand_count = 1};
    for (uint32_t i = 0; i < h->passes; i++) {
        const random_pass pass = random_pass_make(&random);
        WEIR_TRY(record_pass(session, &pass, storages));
        if (h->shared) {
            WEIR_TRY(weir_session_dispatch(session, &count, NULL));
        }
        if (i % 3 == 1) {
            WEIR_TRY(weir_session_finish(session));
        } else {
            WEIR_TRY(weir_session_commit(session, &ticket));
        }
        run_serially(&pass, expected);
        if (i % 3 == 2) {
            WEIR_TRY(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
        }
    }
    return weir_ticket_wait(ticket, WEIR_WAIT_FOREVER);
}

static void* run_host(void* argument) {
    host* h = argument;
    static const weir_storage_desc desc = {.byte_size = FLOATS * sizeof(float),
                                           .fill = WEIR_FILL_ZERO};
    float expected[BUFFERS][FLOATS] = {{0.0f}};
    weir_storage* storages[BUFFERS] = {NULL};
    weir_session* session = NULL;
    h->right = weir_session_create(h->device, &session) == WEIR_OK;
    for (uint32_t i = 0; i < BUFFERS; i++) {
        h->right &= weir_storage_allocate(h->device, &desc, &storages[i]) == WEIR_OK;
    }
    h->right = h->right && run_passes(h, session, storages, expected) == WEIR_OK;
    for (uint32_t i = 0; i < BUFFERS; i++) {
        h->right = h->right && memcmp(weir_storage_host_pointer(storages[i]), expected[i],
                                      sizeof expected[i]) == 0;
        weir_storage_release(storages[i]);
    }
    weir_session_destroy(session);
    return NULL;
}

// Every second host shares a counter with the others and waits for them, the rest runs beside.
static void run_hosts(uint32_t workers, uint32_t host_count, uint32_t passes) {
    delays d = {{{0}}};
    weir_device* device = open_device("cpu", workers, NULL);
    weir_storage* shared = allocate_zeros(device, sizeof(uint64_t));
    pthread_t ids[16];
    host hosts[16];
    uint64_t expected = 0;
    assert_ok(weir_device_set_tile_hook(device, workers % 2 ? delay_tile : NULL, &d));
    for (uint32_t i = 0; i < host_count; i++) {
        hosts[i] = (host){.device = device,
                          .shared = i % 2 == 0 ? shared : NULL,
                          .seed = 1 + i + 100 * workers,
                          .passes = passes};
        expected += hosts[i].shared ? passes : 0;
        assert_int_equal(pthread_create(&ids[i], NULL, run_host, &hosts[i]), 0);
    }
    for (uint32_t i = 0; i < host_count; i++) {
        pthread_join(ids[i], NULL);
        assert_true(hosts[i].right);
    }
    assert_int_equal(*(const uint64_t*)weir_storage_host_pointer(shared), expected);
    weir_storage_release(shared);
    weir_device_destroy(device);
}

static void threads_with_sessions_of_their_own_share_a_device(void** state) {
    (void)state;
    for (uint32_t workers = 1; workers <= WORKERS_MAX; workers++) {
        run_hosts(workers, 3, 30);
    }
}

static void sixteen_threads_commit_sessions_on_one_device(void** state) {
    (void)state;
    const uint32_t passes = getenv("WEIR_LONG") ? 2000 : 12;
    run_hosts(1, 16, passes);
    run_hosts(WORKERS_MAX - 1, 16, passes);
}

static void* wait_for_ticket(void* argument) {
    const weir_ticket* ticket = argument;
    return weir_ticket_wait(*ticket, WEIR_WAIT_FOREVER) == WEIR_OK ? argument : NULL;
}

static void several_threads_wait_for_one_ticket(void** state) {
    (void)state;
    weir_device* device = open_device("cpu", 2, NULL);
    weir_session* session = NULL;
    assert_ok(weir_session_create(device, &session));
    for (uint32_t round = 0; round < 50; round++) {
        pthread_t threads[3];
        weir_ticket ticket;
        const uint32_t spins = round * 2000;
        record_kernel(session, idle, &spins, sizeof spins, NULL, 0);
        assert_ok(weir_session_commit(session, &ticket));
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, wait_for_ticket, &ticket), 0);
        }
        for (uint32_t i = 0; i < 3; i++) {
            void* woken = NULL;
            pthread_join(threads[i], &woken);
            assert_ptr_equal(woken, &ticket);
        }
    }
    weir_session_destroy(session);
    weir_device_destroy(device);
}

static void devices_close_right_after_their_last_pass(void** state) {
    (void)state;
    for (uint32_t round = 0; round < 200; round++) {
        weir_device* device = open_device("cpu", 1 + round % WORKERS_MAX, NULL);
        weir_session* session = NULL;
        weir_ticket ticket;
        const uint32_t spins = 1000;
        assert_ok(weir_session_create(device, &session));
        for (uint32_t i = 0; i < 6; i++) {
            record_kernel(session, idle, &spins, sizeof spins, NULL, 0);
        }
        assert_ok(weir_session_commit(session, &ticket));
        if (round % 2) {
            assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
        }
        weir_session_destroy(session);
        weir_device_destroy(device);
    }
}

static weir_status measure_stack(const weir_kernel_call* call) {
    pthread_attr_t attributes;
    size_t stack_bytes = 0;
    void* lowest = NULL;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) {
        return WEIR_INTERNAL;
    }
    pthread_attr_getstack(&attributes, &lowest, &stack_bytes);
    pthread_attr_destroy(&attributes);
    atomic_size_t* measured = NULL;
    memcpy(&measured, call->constants, sizeof measured);
    atomic_store(measured, stack_bytes);
    return WEIR_OK;
}

// Some systems give a thread 128 KiB by default, and so does a limit on the stack: less than
// kernels take.
static void workers_have_the_stack_that_kernels_take(void** state) {
    (void)state;
    pthread_attr_t before;
    pthread_attr_t small;
    atomic_size_t stack_bytes = 0;
    assert_int_equal(pthread_getattr_default_np(&before), 0);
    assert_int_equal(pthread_getattr_default_np(&small), 0);
    assert_int_equal(pthread_attr_setstacksize(&small, 131072), 0);
    assert_int_equal(pthread_setattr_default_np(&small), 0);
    weir_device* device = open_device("cpu", 1, NULL);
    assert_int_equal(pthread_setattr_default_np(&before), 0);
    pthread_attr_destroy(&small);
    pthread_attr_destroy(&before);
    weir_session* session = NULL;
    weir_ticket ticket;
    assert_ok(weir_session_create(device, &session));
    atomic_size_t* const address = &stack_bytes;
    const weir_dispatch_desc desc = {.name = "measure",
                                     .kernel = measure_stack,
                                     .constants = &address,
                                     .constants_size = sizeof address};
    assert_ok(weir_session_dispatch(session, &desc, NULL));
    assert_ok(weir_session_commit(session, &ticket));
    while (!weir_ticket_is_complete(ticket)) { // who waits might run the kernel itself
        sleep_us(100);
    }
    assert_ok(weir_ticket_wait(ticket, 0));
    assert_true(atomic_load(&stack_bytes) >= (size_t)1 << 20);
    weir_session_destroy(session);
    weir_device_destroy(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(workers_have_the_stack_that_kernels_take),
        cmocka_unit_test(results_are_those_of_the_serial_run_for_any_number_of_workers),
        cmocka_unit_test(passes_in_flight_leave_what_the_serial_run_of_their_commits_leaves),
        cmocka_unit_test(conflicting_dispatches_never_overlap_in_time_and_others_do),
        cmocka_unit_test(kernels_that_wait_for_each_other_finish_in_one_group),
        cmocka_unit_test(kernels_released_by_one_dispatch_run_together),
        cmocka_unit_test(kernels_released_by_two_dispatches_run_together),
        cmocka_unit_test(threads_with_sessions_of_their_own_share_a_device),
        cmocka_unit_test(sixteen_threads_commit_sessions_on_one_device),
        cmocka_unit_test(several_threads_wait_for_one_ticket),
        cmocka_unit_test(devices_close_right_after_their_last_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
