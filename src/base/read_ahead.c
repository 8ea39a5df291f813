#include "base/read_ahead.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "base/memory_size.h"

#define STEP_BYTES (UINT64_C(128) << 10) // what Linux takes at a time whatever the disk
#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 // headers may be older than Linux 5.14, and so may the system
#endif
#define SAMPLES 64
#define STACK_BYTES ((size_t)262144) // Linux asks for 128 KiB on 64-bit Arm

enum { IDLE = 0, CLAIMED = 1, RUNNING = 2 };

// A read that may not wait fails for a page that is not in the cache. File systems that cannot say
// have no disk to wait for.
static bool is_cached(int descriptor, uint64_t offset) {
    char byte;
    const struct iovec where = {.iov_base = &byte, .iov_len = 1};
    return preadv2(descriptor, &where, 1, (off_t)offset, RWF_NOWAIT) >= 0 || errno != EAGAIN;
}

static bool seems_cached(int descriptor, uint64_t begin, uint64_t end) {
    for (uint64_t i = 0; i < SAMPLES; i++) {
        if (!is_cached(descriptor, begin + (end - begin - 1) / SAMPLES * i)) {
            return false;
        }
    }
    return is_cached(descriptor, end - 1);
}

// Pages that are read early are of no use if they push each other out.
static bool fits_memory(uint64_t byte_size) {
    return byte_size / 3 < memory_size() / 4;
}

// Lets the system fault in the pages from `at` to the next border of huge pages; false where it is
// older than Linux 5.14, or the file has become shorter.
static bool fault_in(const read_ahead* ahead, uint64_t at, uint64_t* next) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = (uintptr_t)ahead->mapped + (at - ahead->begin);
    const uintptr_t last = (uintptr_t)ahead->mapped + (ahead->end - ahead->begin);
    const uintptr_t border = (first / HUGE_PAGE_BYTES + 1) * HUGE_PAGE_BYTES;
    const uintptr_t begin = first / page * page;
    const uintptr_t end = border < last ? border : last;
    *next = at + (end - first);
    return madvise((void*)begin, end - begin, MADV_POPULATE_READ) == 0;
}

static void* read_all(void* argument) {
    read_ahead* ahead = argument;
    uint64_t at = ahead->begin;
    bool faults = ahead->mapped != NULL;
    while (at < ahead->end && !atomic_load(&ahead->stopping)) {
        uint64_t next = 0;
        faults = faults && fault_in(ahead, at, &next);
        if (!faults && readahead(ahead->descriptor, (off64_t)at, STEP_BYTES) != 0) {
            return NULL; // it was a favour
        }
        at = faults ? next : at + STEP_BYTES;
    }
    return NULL;
}

static bool start_thread(read_ahead* ahead) {
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) {
        return false;
    }
    const bool started = pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0 &&
                         pthread_create(&ahead->thread, &attributes, read_all, ahead) == 0;
    pthread_attr_destroy(&attributes);
    return started;
}

void read_ahead_start(read_ahead* ahead, int descriptor, uint64_t begin, uint64_t end,
                      const void* mapped) {
    unsigned idle = IDLE;
    if (begin >= end || !fits_memory(end - begin) ||
        !atomic_compare_exchange_strong(&ahead->state, &idle, CLAIMED)) {
        return;
    }
    ahead->descriptor = descriptor;
    ahead->begin = begin;
    ahead->end = end;
    ahead->mapped = mapped;
    const bool started = !seems_cached(descriptor, begin, end) && start_thread(ahead);
    atomic_store(&ahead->state, started ? RUNNING : IDLE); // IDLE: may be asked again
}

void read_ahead_stop(read_ahead* ahead) {
    if (atomic_load(&ahead->state) == RUNNING) {
        atomic_store(&ahead->stopping, true);
        pthread_join(ahead->thread, NULL);
    }
}
