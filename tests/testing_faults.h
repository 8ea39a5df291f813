// Lets everything that an operation asks the system for fail once in turn: allocations (through the
// allocator hook), mappings, commits of reserved memory and thread starts (wrapped by the linker:
// declare the test with weir_faults_test). Include it in one file of a program.
//
//     static weir_status cycle(void* context, const weir_allocator* allocator) {
//         ... make, use and release everything with `allocator`; return the first failure ...
//     }
//
//     size_t failures[FAULT_KINDS];
//     fail_each_in_turn(cycle, context, failures);
//     assert_true(failures[FAULT_MAPPING] > 0); // the cycle does map something
#ifndef WEIR_TESTS_TESTING_FAULTS_H
#define WEIR_TESTS_TESTING_FAULTS_H

#include "testing.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "testing_allocator.h"

typedef enum fault_kind {
    FAULT_ALLOCATION = 0,
    FAULT_MAPPING,
    FAULT_COMMIT, // mprotect
    FAULT_THREAD,
    FAULT_KINDS,
} fault_kind;

// Calls are counted from 0 for each run of a cycle; call `fail_at` fails, SIZE_MAX: none does.
static struct {
    test_allocator allocator;
    atomic_size_t map_calls, commit_calls, thread_calls;
    atomic_size_t mapped_bytes, live_threads; // not given back yet
    size_t fail_map_at, fail_commit_at, fail_thread_at;
    size_t stride; // from one failing call of a kind to the next; 0: 1, each call fails
} faults = {.allocator = {.fail_at = SIZE_MAX},
            .fail_map_at = SIZE_MAX,
            .fail_commit_at = SIZE_MAX,
            .fail_thread_at = SIZE_MAX};

void* __real_mmap(void* address, size_t length, int protection, int flags, int file, off_t offset);
int __real_munmap(void* address, size_t length);
int __real_mprotect(void* address, size_t length, int protection);
int __real_pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                          void* (*start)(void*), void* argument);
int __real_pthread_join(pthread_t thread, void** result);
void* __wrap_mmap(void* address, size_t length, int protection, int flags, int file, off_t offset);
int __wrap_munmap(void* address, size_t length);
int __wrap_mprotect(void* address, size_t length, int protection);
int __wrap_pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                          void* (*start)(void*), void* argument);
int __wrap_pthread_join(pthread_t thread, void** result);

static inline size_t whole_pages(size_t length) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (length + page - 1) / page * page;
}

// What replaces pages of a mapping (MAP_FIXED) adds none.
void* __wrap_mmap(void* address, size_t length, int protection, int flags, int file, off_t offset) {
    if (atomic_fetch_add(&faults.map_calls, 1) == faults.fail_map_at) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    void* placed = __real_mmap(address, length, protection, flags, file, offset);
    if (placed != MAP_FAILED && (flags & MAP_FIXED) == 0) {
        atomic_fetch_add(&faults.mapped_bytes, whole_pages(length));
    }
    return placed;
}

int __wrap_munmap(void* address, size_t length) {
    const int result = __real_munmap(address, length);
    if (result == 0) {
        atomic_fetch_sub(&faults.mapped_bytes, whole_pages(length));
    }
    return result;
}

int __wrap_mprotect(void* address, size_t length, int protection) {
    if (atomic_fetch_add(&faults.commit_calls, 1) == faults.fail_commit_at) {
        errno = ENOMEM;
        return -1;
    }
    return __real_mprotect(address, length, protection);
}

int __wrap_pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                          void* (*start)(void*), void* argument) {
    if (atomic_fetch_add(&faults.thread_calls, 1) == faults.fail_thread_at) {
        return EAGAIN;
    }
    const int result = __real_pthread_create(thread, attributes, start, argument);
    atomic_fetch_add(&faults.live_threads, result == 0 ? 1 : 0);
    return result;
}

int __wrap_pthread_join(pthread_t thread, void** result) {
    const int outcome = __real_pthread_join(thread, result);
    atomic_fetch_sub(&faults.live_threads, outcome == 0 ? 1 : 0);
    return outcome;
}

typedef weir_status (*fault_cycle_fn)(void* context, const weir_allocator* allocator);

// Runs a cycle in which call `step` of a kind fails (SIZE_MAX: none does); `failed` tells whether
// it came to that. Nothing may be left behind in either case.
static inline weir_status run_cycle(fault_cycle_fn cycle, void* context, fault_kind kind,
                                    size_t step, bool* failed) {
    const weir_allocator allocator = test_allocator_of(&faults.allocator);
    const size_t mapped_bytes = atomic_load(&faults.mapped_bytes);
    atomic_store(&faults.allocator.calls, 0);
    atomic_store(&faults.map_calls, 0);
    atomic_store(&faults.commit_calls, 0);
    atomic_store(&faults.thread_calls, 0);
    faults.allocator.fail_at = kind == FAULT_ALLOCATION ? step : SIZE_MAX;
    faults.fail_map_at = kind == FAULT_MAPPING ? step : SIZE_MAX;
    faults.fail_commit_at = kind == FAULT_COMMIT ? step : SIZE_MAX;
    faults.fail_thread_at = kind == FAULT_THREAD ? step : SIZE_MAX;
    const weir_status status = cycle(context, &allocator);
    faults.allocator.fail_at = faults.fail_map_at = SIZE_MAX;
    faults.fail_commit_at = faults.fail_thread_at = SIZE_MAX;
    const size_t calls[FAULT_KINDS] = {[FAULT_ALLOCATION] = atomic_load(&faults.allocator.calls),
                                       [FAULT_MAPPING] = atomic_load(&faults.map_calls),
                                       [FAULT_COMMIT] = atomic_load(&faults.commit_calls),
                                       [FAULT_THREAD] = atomic_load(&faults.thread_calls)};
    *failed = step < calls[kind];
    assert_int_equal(atomic_load(&faults.allocator.live_blocks), 0);
    assert_int_equal(atomic_load(&faults.mapped_bytes), mapped_bytes);
    assert_int_equal(atomic_load(&faults.live_threads), 0);
    return status;
}

// Runs a cycle again and again, until every call of each kind (or each faults.stride-th) has failed
// once. Each failure must come out as a status with a message, leave nothing behind, and let the
// next run work.
static inline void fail_each_in_turn(fault_cycle_fn cycle, void* context,
                                     size_t failures[FAULT_KINDS]) {
    bool failed = false;
    assert_ok(run_cycle(cycle, context, FAULT_ALLOCATION, SIZE_MAX, &failed));
    for (fault_kind kind = FAULT_ALLOCATION; kind < FAULT_KINDS; kind++) {
        failures[kind] = 0;
        for (size_t step = 0;; step += faults.stride > 0 ? faults.stride : 1) {
            const weir_status status = run_cycle(cycle, context, kind, step, &failed);
            if (!failed) {
                assert_ok(status);
                break;
            }
            if (status == WEIR_OK || weir_last_error()[0] == '\0') {
                fail_msg("failing call %zu of kind %d gave '%s' (%s)", step, (int)kind,
                         weir_status_text(status), weir_last_error());
            }
            failures[kind]++;
            assert_ok(run_cycle(cycle, context, kind, SIZE_MAX, &failed));
        }
    }
}

static inline void print_failures(const size_t failures[FAULT_KINDS]) {
    print_message("%zu allocations, %zu mappings, %zu commits, %zu thread starts failed\n",
                  failures[FAULT_ALLOCATION], failures[FAULT_MAPPING], failures[FAULT_COMMIT],
                  failures[FAULT_THREAD]);
}

#endif
