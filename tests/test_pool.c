// Pools of scratch: what a request gets, when a storage is handed out again, and what is refused.
#include "testing.h"

#include <pthread.h>
#include <unistd.h>
#include <weir/weir.h>

#include "device/backend.h"
#include "device/pool_class.h"
#include "testing_allocator.h"

#define MEBIBYTE (1u << 20)

static weir_device* new_device(bool manual, test_allocator* counter) {
    weir_device_desc desc = {.name = "null", .manual_completion = manual};
    if (counter) {
        desc.allocator = test_allocator_of(counter);
    }
    weir_device* device = NULL;
    assert_ok(weir_device_create(&desc, &device));
    return device;
}

static int open_null(void** state) {
    *state = new_device(false, NULL);
    return 0;
}

// Work on this one is in flight until a test completes it.
static int open_manual(void** state) {
    *state = new_device(true, NULL);
    return 0;
}

static int close_device(void** state) {
    weir_device_destroy(*state);
    return 0;
}

static weir_pool* new_pool(weir_device* device, uint64_t byte_cap) {
    weir_pool* pool = NULL;
    assert_ok(weir_pool_create(device, &(weir_pool_desc){.byte_cap = byte_cap}, &pool));
    return pool;
}

static weir_scratch take(weir_pool* pool, uint64_t byte_size) {
    weir_scratch scratch;
    assert_ok(
        weir_pool_acquire(pool, &(weir_scratch_desc){byte_size, WEIR_FILL_NONE}, &scratch, NULL));
    assert_true(weir_storage_byte_size(scratch.storage) >= byte_size);
    return scratch;
}

static void give(weir_pool* pool, weir_scratch scratch) {
    assert_ok(weir_pool_return(pool, &scratch));
}

static weir_status nothing(const weir_kernel_call* call) {
    (void)call;
    return WEIR_OK;
}

// Records a dispatch that reads the first byte of `storage`, or one that declares nothing (NULL).
static void record(weir_session* session, weir_storage* storage) {
    weir_operand operand = {.kind = WEIR_ACCESS_READ};
    if (storage) {
        const weir_shape shape = weir_shape_make(1, (int64_t[]){1});
        assert_ok(weir_view_make(storage, 0, WEIR_DTYPE_U8, &shape, &operand.view));
    }
    const weir_dispatch_desc desc = {.kernel = nothing,
                                     .operands = &operand,
                                     .operand_count = storage ? 1 : 0,
                                     .undeclared = !storage};
    assert_ok(weir_session_dispatch(session, &desc, NULL));
}

static void commit_work_on(weir_device* device, weir_storage* storage) {
    weir_session* session = NULL;
    weir_ticket ticket;
    assert_ok(weir_session_create(device, &session));
    record(session, storage);
    assert_ok(weir_session_commit(session, &ticket));
    weir_session_destroy(session);
}

static void no_size_up_to_a_mebibyte_wastes_an_eighth(void** state) {
    weir_pool* pool = new_pool(*state, 0);
    for (uint64_t size = 1; size <= MEBIBYTE; size++) {
        const weir_scratch scratch = take(pool, size);
        const uint64_t waste = weir_storage_byte_size(scratch.storage) - size;
        if (waste * 8 >= size) {
            fail_msg("%llu bytes waste %llu", (unsigned long long)size, (unsigned long long)waste);
        }
        give(pool, scratch);
    }
    const weir_pool_usage usage = weir_pool_usage_of(pool);
    assert_int_equal(usage.misses, 144); // 15 sizes below 16, 16 octaves of 8, and one mebibyte
    assert_int_equal(usage.hits, MEBIBYTE - 144);
    weir_pool_destroy(pool);
}

static void every_size_gets_the_smallest_class_that_holds_it(void** state) {
    (void)state;
    test_random random = {11};
    for (uint32_t i = 1; i < POOL_CLASS_COUNT; i++) {
        assert_true(pool_class_bytes(i) > pool_class_bytes(i - 1));
    }
    for (uint32_t round = 0; round < 100000; round++) {
        const uint64_t shift = random_below(&random, 64);
        const uint64_t size = (random_u64(&random) >> shift) % (15ull << 60);
        uint32_t index = 0;
        assert_true(pool_class_of(size, &index));
        assert_in_range(index, 1, POOL_CLASS_COUNT - 1);
        const uint64_t bytes = pool_class_bytes(index);
        assert_true(bytes >= size && pool_class_bytes(index - 1) < (size > 0 ? size : 1));
        assert_true(size == 0 || (bytes - size) < size / 8 + (size % 8 != 0));
    }
    uint32_t index = 0;
    assert_true(pool_class_of(15ull << 60, &index));
    assert_int_equal(index, POOL_CLASS_COUNT - 1);
    assert_false(pool_class_of((15ull << 60) + 1, &index));
}

static void sizes_that_no_class_holds_are_refused(void** state) {
    weir_pool* pool = new_pool(*state, 0);
    weir_scratch scratch = {0};
    assert_status(
        weir_pool_acquire(pool, &(weir_scratch_desc){.byte_size = UINT64_MAX}, &scratch, NULL),
        WEIR_OUT_OF_RANGE);
    assert_message_has("18446744073709551615");
    assert_null(scratch.storage);
    assert_int_equal(weir_pool_usage_of(pool).bytes_in_use, 0);
    give(pool, take(pool, 100)); // all is as before
    weir_pool_destroy(pool);
}

static void a_request_of_no_bytes_gets_one(void** state) {
    weir_pool* pool = new_pool(*state, 0);
    const weir_scratch scratch = take(pool, 0);
    assert_int_equal(weir_storage_byte_size(scratch.storage), 1);
    give(pool, scratch);
    weir_pool_destroy(pool);
}

static void a_returned_storage_serves_its_class_and_no_other(void** state) {
    weir_pool* pool = new_pool(*state, 0);
    const weir_scratch first = take(pool, 1000); // of 1024 bytes
    give(pool, first);
    const weir_scratch smaller = take(pool, 960);
    assert_ptr_not_equal(smaller.storage, first.storage);
    const weir_scratch same = take(pool, 961);
    assert_ptr_equal(same.storage, first.storage);
    assert_int_not_equal(same.lease, first.lease);
    const weir_scratch larger = take(pool, 1025);
    assert_ptr_not_equal(larger.storage, first.storage);
    const weir_pool_usage usage = weir_pool_usage_of(pool);
    assert_int_equal(usage.hits, 1);
    assert_int_equal(usage.misses, 3);
    give(pool, smaller);
    give(pool, same);
    give(pool, larger);
    weir_pool_destroy(pool);
}

static void the_last_returned_is_handed_out_first(void** state) {
    weir_pool* pool = new_pool(*state, 0);
    const weir_scratch a = take(pool, 64);
    const weir_scratch b = take(pool, 64);
    const weir_scratch c = take(pool, 64);
    give(pool, b);
    give(pool, c);
    give(pool, a);
    assert_ptr_equal(take(pool, 64).storage, a.storage);
    assert_ptr_equal(take(pool, 64).storage, c.storage);
    assert_ptr_equal(take(pool, 64).storage, b.storage);
    weir_pool_destroy(pool);
}

static void every_acquisition_is_filled_as_asked(void** state) {
    weir_pool* pool = new_pool(*state, 0);
    const weir_fill fills[] = {WEIR_FILL_ZERO, WEIR_FILL_POISON, WEIR_FILL_ZERO, WEIR_FILL_POISON};
    for (uint32_t i = 0; i < 4; i++) {
        weir_scratch scratch;
        assert_ok(weir_pool_acquire(pool, &(weir_scratch_desc){100, fills[i]}, &scratch, NULL));
        uint8_t* bytes = weir_storage_host_pointer(scratch.storage);
        for (uint32_t k = 0; k < weir_storage_byte_size(scratch.storage); k++) {
            assert_int_equal(bytes[k], fills[i] == WEIR_FILL_ZERO ? 0 : 0xFF);
        }
        memset(bytes, 0x5A, 100);
        give(pool, scratch);
    }
    const weir_scratch kept = take(pool, 100); // WEIR_FILL_NONE: whatever the memory held
    assert_int_equal(*(uint8_t*)weir_storage_host_pointer(kept.storage), 0x5A);
    give(pool, kept);
    weir_scratch scratch = {0};
    assert_status(weir_pool_acquire(pool, &(weir_scratch_desc){100, (weir_fill)9}, &scratch, NULL),
                  WEIR_INVALID_ARGUMENT);
    assert_message_has("fill 9");
    weir_pool_destroy(pool);
}

static void the_cap_refuses_and_names_its_figures(void** state) {
    weir_pool* pool = new_pool(*state, 1000);
    const weir_scratch held = take(pool, 700); // of 704 bytes
    weir_scratch scratch = {0};
    weir_pool_deficit deficit = {0};
    assert_status(
        weir_pool_acquire(pool, &(weir_scratch_desc){.byte_size = 400}, &scratch, &deficit),
        WEIR_DEVICE_OUT_OF_MEMORY);
    assert_message_has("416 bytes");
    assert_message_has("by 120");
    assert_message_has("cap 1000");
    assert_message_has("in use 704");
    assert_null(scratch.storage);
    assert_int_equal(deficit.byte_size, 416);
    assert_int_equal(deficit.byte_cap, 1000);
    assert_int_equal(deficit.in_use, 704);
    assert_int_equal(deficit.waiting, 0);
    assert_int_equal(deficit.missing, 120);
    assert_int_equal(weir_pool_usage_of(pool).refusals, 1);
    const weir_scratch fits = take(pool, 288); // 704 + 288 = 992
    give(pool, held);
    give(pool, fits);
    weir_pool_destroy(pool);
}

static void the_cap_is_met_exactly(void** state) {
    weir_pool* pool = new_pool(*state, 1024);
    weir_scratch scratch = {0};
    const weir_scratch a = take(pool, 512);
    const weir_scratch b = take(pool, 512);
    assert_status(weir_pool_acquire(pool, &(weir_scratch_desc){.byte_size = 1}, &scratch, NULL),
                  WEIR_DEVICE_OUT_OF_MEMORY);
    give(pool, a);
    give(pool, b);
    give(pool, take(pool, 1024));
    assert_int_equal(weir_pool_usage_of(pool).peak_held, 1024);
    weir_pool_destroy(pool);
}

static void the_cap_drops_what_was_returned_first_and_no_more(void** state) {
    weir_pool* pool = new_pool(*state, 1000);
    const weir_scratch a = take(pool, 256);
    const weir_scratch b = take(pool, 320);
    const weir_scratch c = take(pool, 384);
    give(pool, b);
    give(pool, c);
    give(pool, a);
    give(pool, take(pool, 96)); // 960 are cached: b must go
    weir_pool_usage usage = weir_pool_usage_of(pool);
    assert_int_equal(usage.drops, 1);
    assert_int_equal(usage.bytes_cached, 256 + 384 + 96);
    assert_ptr_equal(take(pool, 384).storage, c.storage);
    assert_ptr_equal(take(pool, 256).storage, a.storage);
    usage = weir_pool_usage_of(pool);
    assert_int_equal(usage.hits, 2);
    weir_pool_destroy(pool);
}

static void a_refusal_drops_nothing(void** state) {
    weir_pool* pool = new_pool(*state, 1024);
    const weir_scratch held = take(pool, 512);
    give(pool, take(pool, 256));
    weir_scratch scratch = {0};
    assert_status(weir_pool_acquire(pool, &(weir_scratch_desc){.byte_size = 640}, &scratch, NULL),
                  WEIR_DEVICE_OUT_OF_MEMORY);
    assert_int_equal(weir_pool_usage_of(pool).bytes_cached, 256);
    give(pool, held);
    weir_pool_destroy(pool);
}

static void trimming_drops_what_was_returned_first(void** state) {
    (void)state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    weir_device* device = new_device(false, &counter);
    weir_pool* pool = new_pool(device, 0);
    weir_scratch taken[4];
    for (uint32_t i = 0; i < 4; i++) {
        taken[i] = take(pool, 1024u << i);
    }
    for (uint32_t i = 4; i > 1; i--) {
        give(pool, taken[i - 1]);
    }
    const size_t before = atomic_load(&counter.live_bytes);
    assert_int_equal(weir_pool_trim(pool, UINT64_MAX), 14336);
    assert_int_equal(weir_pool_trim(pool, 6144), 6144); // 8192 was returned first
    assert_true(before - atomic_load(&counter.live_bytes) >= 8192);
    assert_int_equal(weir_pool_trim(pool, 6143), 2048);
    assert_int_equal(weir_pool_trim(pool, 0), 0);
    const weir_pool_usage usage = weir_pool_usage_of(pool);
    assert_int_equal(usage.bytes_in_use, 1024);
    assert_int_equal(usage.drops, 3);
    give(pool, taken[0]);
    weir_pool_destroy(pool);
    weir_device_destroy(device);
    assert_int_equal(atomic_load(&counter.live_blocks), 0);
}

static void a_second_return_is_refused(void** state) {
    weir_pool* pool = new_pool(*state, 0);
    const weir_scratch scratch = take(pool, 64);
    give(pool, scratch);
    assert_status(weir_pool_return(pool, &scratch), WEIR_INVALID_ARGUMENT);
    assert_message_has("returned twice");
    const weir_pool_usage usage = weir_pool_usage_of(pool);
    assert_int_equal(usage.storages_cached, 1);
    assert_int_equal(usage.bytes_in_use, 0);
    weir_pool_destroy(pool);
}

static void a_second_return_does_not_take_the_storage_from_its_next_user(void** state) {
    weir_pool* pool = new_pool(*state, 0);
    const weir_scratch first = take(pool, 64);
    give(pool, first);
    const weir_scratch next = take(pool, 64);
    assert_ptr_equal(next.storage, first.storage);
    assert_status(weir_pool_return(pool, &first), WEIR_INVALID_ARGUMENT);
    assert_int_equal(weir_pool_usage_of(pool).storages_in_use, 1);
    give(pool, next);
    weir_pool_destroy(pool);
}

static void what_is_not_of_the_pool_is_not_found(void** state) {
    weir_pool* pool = new_pool(*state, 0);
    weir_pool* other = new_pool(*state, 0);
    const weir_scratch mine = take(pool, 64);
    const weir_scratch foreign = take(other, 64);
    assert_int_equal(foreign.slot, mine.slot);
    assert_int_equal(foreign.lease, mine.lease);
    assert_status(weir_pool_return(pool, &foreign), WEIR_NOT_FOUND);
    const weir_scratch forged[] = {
        {0},
        {.storage = mine.storage},
        {.storage = mine.storage, .lease = mine.lease, .slot = 0},
        {.storage = mine.storage, .lease = mine.lease, .slot = UINT32_MAX},
        {.storage = mine.storage, .lease = mine.lease + 1, .slot = mine.slot},
        {.lease = mine.lease, .slot = mine.slot},
    };
    for (size_t i = 0; i < sizeof forged / sizeof forged[0]; i++) {
        assert_status(weir_pool_return(pool, &forged[i]), WEIR_NOT_FOUND);
    }
    weir_pool* empty = new_pool(*state, 0);
    assert_status(weir_pool_return(empty, &mine), WEIR_NOT_FOUND);
    weir_pool_destroy(empty);
    assert_int_equal(weir_pool_usage_of(pool).storages_in_use, 1);
    give(pool, mine);
    give(other, foreign);
    weir_pool_destroy(other);
    weir_pool_destroy(pool);
}

static void a_return_after_trimming_is_refused_without_reading_the_storage(void** state) {
    weir_pool* pool = new_pool(*state, 0);
    const weir_scratch scratch = take(pool, 64);
    give(pool, scratch);
    assert_int_equal(weir_pool_trim(pool, 0), 0);
    assert_status(weir_pool_return(pool, &scratch), WEIR_INVALID_ARGUMENT);
    const weir_scratch next = take(pool, 128); // in the same slot
    assert_int_equal(next.slot, scratch.slot);
    assert_int_not_equal(weir_pool_return(pool, &scratch), WEIR_OK);
    give(pool, next);
    weir_pool_destroy(pool);
}

static void a_storage_is_not_reused_while_work_in_flight_names_it(void** state) {
    weir_device* device = *state;
    weir_pool* pool = new_pool(device, 0);
    const weir_scratch first = take(pool, 256);
    commit_work_on(device, first.storage);
    commit_work_on(device, NULL);
    give(pool, first);
    assert_int_equal(weir_pool_usage_of(pool).bytes_waiting, 256);
    const weir_scratch second = take(pool, 256);
    assert_ptr_not_equal(second.storage, first.storage);
    assert_int_equal(weir_null_complete(device, 1, WEIR_OK), 1);
    const weir_scratch third = take(pool, 256); // commits made before the return are open still
    assert_ptr_not_equal(third.storage, first.storage);
    commit_work_on(device, second.storage); // later work does not matter
    assert_int_equal(weir_null_complete(device, 1, WEIR_OK), 1);
    assert_int_equal(weir_pool_usage_of(pool).bytes_waiting, 0);
    assert_ptr_equal(take(pool, 256).storage, first.storage);
    weir_null_complete(device, UINT32_MAX, WEIR_OK);
    weir_pool_destroy(pool);
}

static void work_that_failed_is_complete(void** state) {
    weir_device* device = *state;
    weir_pool* pool = new_pool(device, 0);
    const weir_scratch first = take(pool, 256);
    commit_work_on(device, first.storage);
    give(pool, first);
    assert_int_equal(weir_null_complete(device, 1, WEIR_INTERNAL), 1);
    assert_ptr_equal(take(pool, 256).storage, first.storage);
    weir_pool_destroy(pool);
}

// Undeclared work may touch what it does not name.
static void a_storage_is_not_reused_while_undeclared_work_is_in_flight(void** state) {
    weir_device* device = *state;
    weir_pool* pool = new_pool(device, 0);
    const weir_scratch first = take(pool, 256);
    commit_work_on(device, NULL);
    give(pool, first);
    const weir_scratch second = take(pool, 256);
    assert_ptr_not_equal(second.storage, first.storage);
    assert_int_equal(weir_pool_trim(pool, 0), 256);
    assert_int_equal(weir_null_complete(device, 1, WEIR_OK), 1);
    assert_ptr_equal(take(pool, 256).storage, first.storage);
    weir_pool_destroy(pool);
}

static void a_storage_is_not_reused_while_a_session_has_recorded_it(void** state) {
    weir_device* device = *state;
    weir_pool* pool = new_pool(device, 0);
    weir_session* session = NULL;
    assert_ok(weir_session_create(device, &session));
    const weir_scratch first = take(pool, 256);
    record(session, first.storage);
    give(pool, first);
    const weir_scratch second = take(pool, 256);
    assert_ptr_not_equal(second.storage, first.storage);
    weir_session_destroy(session); // executes nothing, and lets go
    assert_ptr_equal(take(pool, 256).storage, first.storage);
    weir_pool_destroy(pool);
}

static void a_storage_is_not_reused_while_a_view_retains_it(void** state) {
    weir_pool* pool = new_pool(*state, 0);
    const weir_scratch first = take(pool, 256);
    const weir_shape shape = weir_shape_make(1, (int64_t[]){16});
    weir_view view;
    assert_ok(weir_view_make(first.storage, 32, WEIR_DTYPE_F32, &shape, &view));
    weir_view_retain(&view);
    give(pool, first);
    assert_ptr_not_equal(take(pool, 256).storage, first.storage);
    weir_view_release(&view);
    assert_ptr_equal(take(pool, 256).storage, first.storage);
    weir_pool_destroy(pool);
}

static void what_waits_counts_against_the_cap_until_it_is_complete(void** state) {
    weir_device* device = *state;
    weir_pool* pool = new_pool(device, 1024);
    const weir_scratch first = take(pool, 768);
    commit_work_on(device, first.storage);
    give(pool, first);
    weir_scratch scratch = {0};
    weir_pool_deficit deficit = {0};
    assert_status(
        weir_pool_acquire(pool, &(weir_scratch_desc){.byte_size = 512}, &scratch, &deficit),
        WEIR_DEVICE_OUT_OF_MEMORY);
    assert_message_has("held by work or views 768");
    assert_int_equal(deficit.in_use, 0);
    assert_int_equal(deficit.waiting, 768);
    assert_int_equal(deficit.missing, 256);
    weir_null_complete(device, 1, WEIR_OK);
    give(pool, take(pool, 512));
    assert_int_equal(weir_pool_usage_of(pool).bytes_cached, 512);
    weir_pool_destroy(pool);
}

// A return that comes while a commit is being refused has seen a number that is given back.
static void a_commit_that_the_device_refused_holds_nothing_back(void** state) {
    weir_device* device = *state;
    weir_pool* pool = new_pool(device, 0);
    const weir_scratch scratch = take(pool, 64);
    atomic_fetch_add(&device->submitted, 1);
    give(pool, scratch);
    assert_int_equal(weir_pool_usage_of(pool).bytes_waiting, 64);
    atomic_fetch_sub(&device->submitted, 1);
    assert_ptr_equal(take(pool, 64).storage, scratch.storage);
    weir_pool_destroy(pool);
}

static void a_storage_that_was_sealed_is_not_handed_out_again(void** state) {
    weir_pool* pool = new_pool(*state, 0);
    const weir_scratch first = take(pool, 64);
    assert_ok(weir_storage_seal(first.storage));
    give(pool, first);
    const weir_scratch second = take(pool, 64);
    assert_false(weir_storage_is_sealed(second.storage));
    const weir_pool_usage usage = weir_pool_usage_of(pool);
    assert_int_equal(usage.misses, 2);
    assert_int_equal(usage.drops, 1);
    assert_int_equal(usage.bytes_cached, 0);
    give(pool, second);
    weir_pool_destroy(pool);
}

static void usage_follows_what_is_asked_handed_out_and_cached(void** state) {
    weir_pool* pool = new_pool(*state, 0);
    const weir_scratch a = take(pool, 1000);
    const weir_scratch b = take(pool, 130);
    weir_pool_usage usage = weir_pool_usage_of(pool);
    assert_true(usage.byte_cap == UINT64_MAX);
    assert_int_equal(usage.bytes_asked, 1130);
    assert_int_equal(usage.bytes_in_use, 1024 + 144);
    assert_int_equal(usage.storages_in_use, 2);
    give(pool, a);
    give(pool, take(pool, 64));
    usage = weir_pool_usage_of(pool);
    assert_int_equal(usage.bytes_asked, 130);
    assert_int_equal(usage.bytes_in_use, 144);
    assert_int_equal(usage.bytes_cached, 1024 + 64);
    assert_int_equal(usage.storages_cached, 2);
    assert_int_equal(usage.peak_in_use, 1024 + 144);
    assert_int_equal(usage.peak_held, 1024 + 144 + 64);
    assert_int_equal(usage.misses, 3);
    give(pool, b);
    weir_pool_destroy(pool);
}

static void a_device_out_of_memory_is_asked_again_once_the_cache_is_dropped(void** state) {
    weir_device* device = *state;
    weir_pool* pool = new_pool(device, 0);
    give(pool, take(pool, 512));
    weir_null_fail(device, 0, WEIR_DEVICE_OUT_OF_MEMORY);
    const weir_scratch scratch = take(pool, 1024);
    assert_int_equal(weir_pool_usage_of(pool).bytes_cached, 0);
    weir_null_fail(device, 0, WEIR_DEVICE_OUT_OF_MEMORY); // nothing is left to drop
    weir_scratch none = {0};
    assert_status(weir_pool_acquire(pool, &(weir_scratch_desc){.byte_size = 2048}, &none, NULL),
                  WEIR_DEVICE_OUT_OF_MEMORY);
    assert_null(none.storage);
    give(pool, scratch);
    give(pool, take(pool, 512));
    weir_null_fail(device, 0, WEIR_DEVICE_LOST); // not for lack of memory: the cache is kept
    assert_status(weir_pool_acquire(pool, &(weir_scratch_desc){.byte_size = 2048}, &none, NULL),
                  WEIR_DEVICE_LOST);
    assert_int_equal(weir_pool_usage_of(pool).bytes_cached, 512 + 1024);
    assert_int_equal(weir_pool_usage_of(pool).bytes_in_use, 0);
    weir_pool_destroy(pool);
}

static void destroying_a_pool_drops_what_was_not_returned(void** state) {
    (void)state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    weir_device* device = new_device(true, &counter);
    weir_pool* pool = new_pool(device, 0);
    const weir_scratch named = take(pool, 4096);
    take(pool, 128);
    give(pool, take(pool, 256));
    commit_work_on(device, named.storage);
    weir_pool_destroy(pool);
    assert_true(atomic_load(&counter.live_bytes) >= 4096); // the pass in flight keeps its storage
    weir_null_complete(device, 1, WEIR_OK);
    weir_device_destroy(device);
    assert_int_equal(atomic_load(&counter.live_blocks), 0);
    weir_pool_destroy(NULL);
}

static weir_status use_pool(weir_device* device) {
    weir_pool* pool = NULL;
    WEIR_TRY(weir_pool_create(device, &(weir_pool_desc){.byte_cap = 4096}, &pool));
    weir_scratch taken[12];
    weir_status status = WEIR_OK;
    for (uint32_t round = 0; round < 2 && status == WEIR_OK; round++) {
        uint32_t count = 0;
        while (count < 12 && status == WEIR_OK) {
            const weir_scratch_desc desc = {.byte_size = 64 + 16 * count + 64 * round};
            status = weir_pool_acquire(pool, &desc, &taken[count], NULL);
            count += status == WEIR_OK ? 1 : 0;
        }
        for (uint32_t i = 0; i < count; i++) {
            assert_ok(weir_pool_return(pool, &taken[i]));
        }
    }
    const weir_pool_usage usage = weir_pool_usage_of(pool);
    assert_int_equal(usage.bytes_in_use, 0);
    assert_int_equal(usage.bytes_asked, 0);
    assert_int_equal(weir_pool_trim(pool, 0), 0);
    weir_pool_destroy(pool);
    return status;
}

static void each_failing_allocation_gives_a_status_and_leaks_nothing(void** state) {
    (void)state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    weir_device* device = new_device(false, &counter);
    const size_t blocks = atomic_load(&counter.live_blocks);
    const size_t before = atomic_load(&counter.calls);
    assert_ok(use_pool(device));
    const size_t calls = atomic_load(&counter.calls) - before;
    assert_true(calls > 20);
    uint32_t failures = 0;
    for (size_t i = 0; i < calls; i++) {
        counter.fail_at = atomic_load(&counter.calls) + i;
        const weir_status status = use_pool(device);
        // A pool that has something to drop asks again, and gets it.
        assert_true(status == WEIR_OUT_OF_MEMORY || status == WEIR_OK);
        failures += status != WEIR_OK ? 1 : 0;
        counter.fail_at = SIZE_MAX;
        assert_int_equal(atomic_load(&counter.live_blocks), blocks);
    }
    assert_true(failures > calls / 2);
    assert_ok(use_pool(device));
    weir_device_destroy(device);
    assert_int_equal(atomic_load(&counter.live_blocks), 0);
}

#define THREADS 8
#define ROUNDS 300

typedef struct pool_user {
    weir_device* device;
    weir_pool* pool;
    uint32_t number;
    uint32_t refusals;
    weir_status status;
    char message[128];
} pool_user;

// Fails when a byte is not the constant: somebody else was given the storage too early.
static weir_status expect_constant(const weir_kernel_call* call) {
    const uint8_t expected = *(const uint8_t*)call->constants;
    const uint8_t* bytes = call->pointers[0];
    for (int64_t i = 0; i < call->views[0].shape.dims[0]; i++) {
        if (bytes[i] != expected) {
            return WEIR_FAIL(WEIR_INTERNAL, "byte %lld is %u, expected %u", (long long)i, bytes[i],
                             expected);
        }
    }
    return WEIR_OK;
}

// Takes scratch, writes to it, commits work that reads it, and returns it at once.
static weir_status use_scratch(const pool_user* user, weir_session* session, uint64_t byte_size,
                               uint8_t mark, weir_ticket* ticket) {
    weir_scratch scratch;
    WEIR_TRY(weir_pool_acquire(user->pool, &(weir_scratch_desc){byte_size, WEIR_FILL_POISON},
                               &scratch, NULL));
    memset(weir_storage_host_pointer(scratch.storage), mark, byte_size);
    const weir_shape shape = weir_shape_make(1, (int64_t[]){(int64_t)byte_size});
    weir_operand operand = {.kind = WEIR_ACCESS_READ};
    WEIR_TRY(weir_view_make(scratch.storage, 0, WEIR_DTYPE_U8, &shape, &operand.view));
    const weir_dispatch_desc desc = {.name = "expect_constant",
                                     .kernel = expect_constant,
                                     .operands = &operand,
                                     .operand_count = 1,
                                     .constants = &mark,
                                     .constants_size = 1};
    WEIR_TRY(weir_session_dispatch(session, &desc, NULL));
    WEIR_TRY(weir_session_commit(session, ticket));
    WEIR_TRY(weir_pool_return(user->pool, &scratch));
    const weir_status twice = weir_pool_return(user->pool, &scratch);
    return twice == WEIR_OK ? WEIR_FAIL(WEIR_INTERNAL, "a second return was accepted") : WEIR_OK;
}

static weir_status use_pool_often(pool_user* user) {
    weir_session* session = NULL;
    WEIR_TRY(weir_session_create(user->device, &session));
    test_random random = {user->number + 1};
    weir_status status = WEIR_OK;
    weir_ticket last = {0};
    for (uint32_t i = 0; i < ROUNDS && status == WEIR_OK; i++) {
        const uint64_t byte_size = 513 + random_below(&random, 256); // four classes
        weir_ticket ticket = last;
        status = use_scratch(user, session, byte_size, (uint8_t)random_u64(&random), &ticket);
        if (status == WEIR_DEVICE_OUT_OF_MEMORY) { // the cap, while much is in flight
            user->refusals++;
            status = WEIR_OK;
        }
        if (status == WEIR_OK && i % 4 == 3) {
            status = weir_ticket_wait(last, WEIR_WAIT_FOREVER);
        }
        if (i % 32 == 31) {
            weir_pool_trim(user->pool, 4096);
        }
        last = ticket;
    }
    if (status == WEIR_OK) {
        status = weir_ticket_wait(last, WEIR_WAIT_FOREVER);
    }
    weir_session_destroy(session);
    return status;
}

static void* run_user(void* argument) {
    pool_user* user = argument;
    user->status = use_pool_often(user);
    snprintf(user->message, sizeof user->message, "%s", weir_last_error());
    return NULL;
}

static void threads_share_a_pool_and_never_a_storage(void** state) {
    (void)state;
    weir_device* device = NULL;
    assert_ok(weir_device_create(&(weir_device_desc){.name = "cpu", .thread_count = 2}, &device));
    weir_pool* pool = new_pool(device, 24 * 1024);
    pthread_t threads[THREADS];
    pool_user users[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        users[i] = (pool_user){.device = device, .pool = pool, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, run_user, &users[i]), 0);
    }
    uint32_t refusals = 0;
    for (uint32_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        if (users[i].status != WEIR_OK) {
            fail_msg("thread %u: %s", i, users[i].message);
        }
        refusals += users[i].refusals;
    }
    const weir_pool_usage usage = weir_pool_usage_of(pool);
    assert_int_equal(usage.bytes_in_use, 0);
    assert_int_equal(usage.bytes_asked, 0);
    assert_int_equal(usage.refusals, refusals);
    assert_int_equal(usage.hits + usage.misses + refusals, THREADS * ROUNDS);
    assert_int_equal(usage.storages_cached, usage.misses - usage.drops);
    assert_true(usage.hits > 0 && usage.peak_held <= usage.byte_cap);
    // Passes that share nothing complete in any order: some may run on after the last of a thread.
    for (int i = 0; i < 10000 && weir_pool_trim(pool, 0) > 0; i++) {
        usleep(1000);
    }
    assert_int_equal(weir_pool_trim(pool, 0), 0);
    weir_pool_destroy(pool);
    weir_device_destroy(device);
}

#define on_null(test) cmocka_unit_test_setup_teardown(test, open_null, close_device)
#define on_manual(test) cmocka_unit_test_setup_teardown(test, open_manual, close_device)

int main(void) {
    const struct CMUnitTest tests[] = {
        on_null(no_size_up_to_a_mebibyte_wastes_an_eighth),
        cmocka_unit_test(every_size_gets_the_smallest_class_that_holds_it),
        on_null(sizes_that_no_class_holds_are_refused),
        on_null(a_request_of_no_bytes_gets_one),
        on_null(a_returned_storage_serves_its_class_and_no_other),
        on_null(the_last_returned_is_handed_out_first),
        on_null(every_acquisition_is_filled_as_asked),
        on_null(the_cap_refuses_and_names_its_figures),
        on_null(the_cap_is_met_exactly),
        on_null(the_cap_drops_what_was_returned_first_and_no_more),
        on_null(a_refusal_drops_nothing),
        cmocka_unit_test(trimming_drops_what_was_returned_first),
        on_null(a_second_return_is_refused),
        on_null(a_second_return_does_not_take_the_storage_from_its_next_user),
        on_null(what_is_not_of_the_pool_is_not_found),
        on_null(a_return_after_trimming_is_refused_without_reading_the_storage),
        on_manual(a_storage_is_not_reused_while_work_in_flight_names_it),
        on_manual(work_that_failed_is_complete),
        on_manual(a_storage_is_not_reused_while_undeclared_work_is_in_flight),
        on_manual(a_storage_is_not_reused_while_a_session_has_recorded_it),
        on_manual(a_storage_is_not_reused_while_a_view_retains_it),
        on_manual(what_waits_counts_against_the_cap_until_it_is_complete),
        on_manual(a_commit_that_the_device_refused_holds_nothing_back),
        on_null(a_storage_that_was_sealed_is_not_handed_out_again),
        on_null(usage_follows_what_is_asked_handed_out_and_cached),
        on_null(a_device_out_of_memory_is_asked_again_once_the_cache_is_dropped),
        cmocka_unit_test(destroying_a_pool_drops_what_was_not_returned),
        cmocka_unit_test(each_failing_allocation_gives_a_status_and_leaks_nothing),
        cmocka_unit_test(threads_share_a_pool_and_never_a_storage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
