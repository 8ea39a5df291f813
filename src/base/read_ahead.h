// Brings a file into the page cache by a thread of its own, for somebody who maps it and begins to
// read at once: page faults alone ask for little at a time and wait for each.
#ifndef WEIR_BASE_READ_AHEAD_H
#define WEIR_BASE_READ_AHEAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

// Zero-initialised = not started. It stays where it is from the start to the stop.
typedef struct read_ahead {
    atomic_uint state; // who started it, and whether there is a thread: see the source
    atomic_bool stopping;
    int descriptor;      // of the file
    uint64_t begin, end; // bytes of it
    const void* mapped;  // where byte `begin` is
    pthread_t thread;
} read_ahead;

// Reads bytes [begin, end) of a file, which stays open until the stop, in the background. Where
// they are mapped, from `mapped` on, it goes through the mapping, so that its advice on huge pages
// counts; NULL: they are not. Does nothing where it was started before, where the bytes seem to be
// cached, or where they are more than memory holds well; that no thread can be had is no error
// either.
//
// Threads: thread-safe.
void read_ahead_start(read_ahead* ahead, int descriptor, uint64_t begin, uint64_t end,
                      const void* mapped);

// Ends it, done or not, after the step of at most a huge page that is under way; nobody starts it
// meanwhile.
void read_ahead_stop(read_ahead* ahead);

#endif
