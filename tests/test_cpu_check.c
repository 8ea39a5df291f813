// The executor's own check: a schedule with a missing edge is noticed when it matters.
#include "testing.h"

#include <sched.h>

#include "base/clock.h"
#include "device/backend.h"

static atomic_int started;

// Waits until both tiles run, or half a second: the one that is stopped by the check never does.
static weir_status meet(const weir_kernel_call* call) {
    (void)call;
    const uint64_t begin = clock_ns();
    atomic_fetch_add(&started, 1);
    while (atomic_load(&started) < 2 && clock_ns() - begin < 500000000) {
        sched_yield();
    }
    return WEIR_OK;
}

static weir_status run_two(weir_device* device, const weir_access* first, const weir_access* second,
                           bool ordered) {
    const uint32_t edge = 0;
    const device_dispatch dispatches[] = {
        {.name = "writer", .run = meet, .tile_count = 1, .accesses = first, .access_count = 1},
        {.name = "reader",
         .run = meet,
         .tile_count = 1,
         .accesses = second,
         .access_count = 1,
         .predecessors = &edge,
         .predecessor_count = ordered ? 1 : 0},
    };
    device_work* work = NULL;
    weir_ticket ticket;
    atomic_store(&started, ordered ? 2 : 0);
    assert_ok(device->vtable->prepare(device, dispatches, 2, &work));
    assert_ok(weir_device_submit(device, &(device_commit){.work = work}, &ticket));
    const weir_status status = weir_ticket_wait(ticket, WEIR_WAIT_FOREVER);
    work->vtable->destroy(work);
    return status;
}

static void a_missing_edge_is_reported_with_both_dispatches(void** state) {
    (void)state;
    const weir_access write = {weir_range_make(7, 0, 64), WEIR_ACCESS_WRITE};
    const weir_access read = {weir_range_make(7, 60, 64), WEIR_ACCESS_READ};
    const weir_access apart = {weir_range_make(7, 64, 64), WEIR_ACCESS_READ};
    weir_device* device = NULL;
    assert_ok(weir_device_create(&(weir_device_desc){.thread_count = 2}, &device));
    assert_ok(run_two(device, &write, &apart, false));
    assert_ok(run_two(device, &write, &read, true));
#ifdef WEIR_EXPENSIVE_CHECKS
    assert_status(run_two(device, &write, &read, false), WEIR_INTERNAL);
    assert_message_has("writer at m7 [0, 64)");
    assert_message_has("reader at m7 [60, 124)");
#endif
    weir_device_destroy(device);
}

// Two passes that were committed as if they touched nothing: nobody keeps them apart.
static void passes_that_hide_a_conflict_are_reported_with_both_dispatches(void** state) {
    (void)state;
    const weir_access write = {weir_range_make(7, 0, 64), WEIR_ACCESS_WRITE};
    weir_device* device = NULL;
    assert_ok(weir_device_create(&(weir_device_desc){.thread_count = 2}, &device));
    for (int fences = 0; fences < 2; fences++) {
        device_dispatch dispatches[] = {
            {.name = "first", .run = meet, .tile_count = 1, .accesses = &write, .access_count = 1},
            {.name = "second", .run = meet, .tile_count = 1, .accesses = &write, .access_count = 1},
        };
        device_work* works[2];
        weir_ticket tickets[2];
        weir_status statuses[2];
        dispatches[1].fence = fences == 1;
        dispatches[1].access_count = fences == 1 ? 0 : 1;
        atomic_store(&started, 0);
        for (int i = 0; i < 2; i++) {
            assert_ok(device->vtable->prepare(device, &dispatches[i], 1, &works[i]));
            assert_ok(weir_device_submit(device, &(device_commit){.work = works[i]}, &tickets[i]));
        }
        for (int i = 0; i < 2; i++) {
            statuses[i] = weir_ticket_wait(tickets[i], WEIR_WAIT_FOREVER);
        }
#ifdef WEIR_EXPENSIVE_CHECKS
        const int failed = statuses[0] == WEIR_OK ? 1 : 0; // whichever came second
        assert_ok(statuses[1 - failed]);
        assert_status(weir_ticket_wait(tickets[failed], WEIR_WAIT_FOREVER), WEIR_INTERNAL);
        assert_message_has("first at ");
        assert_message_has("second at ");
        assert_message_has(fences == 1 ? "second at anything" : "m7 [0, 64)");
#else
        assert_ok(statuses[0]);
        assert_ok(statuses[1]);
#endif
        for (int i = 0; i < 2; i++) {
            works[i]->vtable->destroy(works[i]);
        }
    }
    weir_device_destroy(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_edge_is_reported_with_both_dispatches),
        cmocka_unit_test(passes_that_hide_a_conflict_are_reported_with_both_dispatches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
