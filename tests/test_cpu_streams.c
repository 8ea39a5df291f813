// Which weights of a pass stay in the last cache of a CPU device, and which it reads past it.
#include "testing.h"

#include "backends/cpu/cpu_device.h"
#include "session_testing.h"

#define CACHE_BYTES 4096
#define DISPATCHES_MAX 5

static uint32_t one_tile(const weir_kernel_use* use) {
    (void)use;
    return 1;
}

static const weir_kernel product = {
    .name = "product", .op = WEIR_OP_MATMUL, .tile_count = one_tile};
static const weir_kernel lookup = {
    .name = "lookup", .op = WEIR_OP_GET_ROWS, .tile_count = one_tile};

// A dispatch of an operand of this size: of the caller, without a kernel of a target, where that is
// NULL.
typedef struct reading {
    uint64_t byte_size; // 0: no more dispatches
    const weir_kernel* kernel;
    bool writable;
    bool streams; // what is expected
} reading;

static void assert_streams(uint64_t cache_bytes, const reading readings[DISPATCHES_MAX]) {
    weir_device* device = open_device("cpu", 1, NULL);
    weir_storage* storages[DISPATCHES_MAX];
    weir_view views[DISPATCHES_MAX];
    device_dispatch dispatches[DISPATCHES_MAX] = {0};
    device_work* work = NULL;
    uint32_t count = 0;
    for (; count < DISPATCHES_MAX && readings[count].byte_size > 0; count++) {
        const reading* r = &readings[count];
        storages[count] = allocate_zeros(device, r->byte_size);
        views[count] = floats_of(storages[count], 0, (int64_t)(r->byte_size / sizeof(float)));
        if (!r->writable) {
            assert_ok(weir_storage_seal(storages[count]));
        }
        dispatches[count] = (device_dispatch){.name = "read",
                                              .kernel = r->kernel,
                                              .tile_count = 1,
                                              .views = &views[count],
                                              .operand_count = 1};
    }
    ((cpu_device*)device)->cache_bytes = cache_bytes;
    assert_ok(cpu_work_create(device, dispatches, count, &work));
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(((const cpu_work*)work)->streams[i], readings[i].streams);
    }
    work->vtable->destroy(work);
    for (uint32_t i = 0; i < count; i++) {
        weir_storage_release(storages[i]);
    }
    weir_device_destroy(device);
}

static void weights_that_fit_the_cache_stay_there(void** state) {
    (void)state;
    assert_streams(CACHE_BYTES, (reading[DISPATCHES_MAX]){{1024, &product, false, false},
                                                          {2048, &product, false, false},
                                                          {1024, &product, false, false}});
}

static void of_more_weights_half_the_cache_stays(void** state) {
    (void)state;
    assert_streams(CACHE_BYTES, (reading[DISPATCHES_MAX]){{1024, &product, false, false},
                                                          {1024, &product, false, false},
                                                          {1024, &product, false, true},
                                                          {1024, &product, false, true},
                                                          {4, &product, false, true}});
    assert_streams(CACHE_BYTES, (reading[DISPATCHES_MAX]){{3072, &product, false, true},
                                                          {1024, &product, false, false},
                                                          {1024, &product, false, false}});
}

static void what_is_no_matrix_of_weights_does_not_count(void** state) {
    (void)state;
    assert_streams(CACHE_BYTES, (reading[DISPATCHES_MAX]){{65536, &lookup, false, false},
                                                          {65536, &product, true, false},
                                                          {65536, NULL, false, false},
                                                          {4096, &product, false, false}});
}

static void without_a_known_cache_nothing_streams(void** state) {
    (void)state;
    assert_streams(0, (reading[DISPATCHES_MAX]){{65536, &product, false, false},
                                                {65536, &product, false, false}});
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_that_fit_the_cache_stay_there),
        cmocka_unit_test(of_more_weights_half_the_cache_stays),
        cmocka_unit_test(what_is_no_matrix_of_weights_does_not_count),
        cmocka_unit_test(without_a_known_cache_nothing_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
