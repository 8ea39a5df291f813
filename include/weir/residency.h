// Residency: which storages stay in memory, whatever else the system would like to page out.
//
// A device has at most one residency set. Storages that are allocated while it has one become
// members; mapped and wrapped memory does on request. Membership belongs to the storage: views,
// slices and reshapes share it, whoever holds them. Changes are staged and applied together, by one
// flush per commit at most:
//
//     add      staged by the allocation or the request, applied by the next commit
//     removal  staged by the last release, applied by the next commit. Passes hold references to
//              what they use, so the last release never comes before their completion
//
// With a budget, a member that does not fit takes the place of others: those of lower priority
// first, then those that were used longest ago, never one that a pass in flight uses. An evicted
// member comes back with the next pass that uses it. What the system or the budget refuses is
// counted and fails nothing: residency changes the speed of a pass, not its result. Where a device
// says how much of its memory this process may have (weir_device_memory_now), members in it keep to
// that as well.
//
//     weir_residency_create(device, &(weir_residency_desc){.byte_budget = 8 << 30}, &set);
//     weir_residency_register(set, weights, NULL);   // a mapped file, on request
//
// On the CPU memory is locked (mlock, within RLIMIT_MEMLOCK) or asked for ahead (madvise). Owned
// memory whose removal is staged is given back by the flush. On Vulkan a member that becomes
// resident gets the priority by which the driver pages (VK_EXT_pageable_device_local_memory, where
// there is such), and the lowest when it leaves or is evicted; nothing can be locked.
#ifndef WEIR_RESIDENCY_H
#define WEIR_RESIDENCY_H

#include <weir/session.h>

WEIR_C_BEGIN

typedef struct weir_residency weir_residency;

typedef enum weir_residency_mode {
    WEIR_RESIDENCY_ADVISE = 0, // ask the system to bring members in, and to evict what leaves first
    WEIR_RESIDENCY_LOCK = 1,   // forbid the system to page members out
} weir_residency_mode;

typedef struct weir_residency_desc {
    weir_residency_mode mode;
    uint64_t byte_budget; // of resident members; 0 = none but that of the device
} weir_residency_desc;

typedef struct weir_residency_counters {
    uint64_t adds;             // staged; one per storage, however many views it has
    uint64_t removals;         // staged by last releases and requests
    uint64_t adds_applied;     // members made resident, those that came back included
    uint64_t removals_applied; // members let go; at once where the member was not resident
    uint64_t rolled_back;      // staged adds dropped with their session
    uint64_t duplicates;       // requests for bytes that are members already
    uint64_t flushes;          // that applied something
    uint64_t evictions;        // members that made room for others
    uint64_t refusals;         // adds for which budget or system left no room
    uint64_t resident_bytes;   // now
    uint64_t staged_bytes;     // of removals, now: owned memory that the next flush gives back
    uint64_t members;          // now, whether resident or not
    uint64_t budget_bytes;     // that the last add had to fit in: the least of the set's and the
                               // device's; 0: no limit
    uint64_t deficit_bytes;    // that the last add was short of; 0: it fit
} weir_residency_counters;

// Gives a device its residency set. Storages made before join on request only.
//
// Ownership: the caller destroys it, before the device.
// Errors:    WEIR_BUSY the device has one; WEIR_INVALID_ARGUMENT unknown mode; WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_residency_create(weir_device* device,
                                                         const weir_residency_desc* desc,
                                                         weir_residency** set);

// Lets all members go and destroys the set; NULL is a no-op. The storages live on.
//
// Threads: thread-compatible; no other thread uses the device meanwhile.
WEIR_API void weir_residency_destroy(weir_residency* set);

typedef struct weir_residency_options {
    int priority;          // of lower ones members are evicted first; 0 for allocations
    weir_session* session; // the add is part of its commit and dropped with it; NULL: of the next
                           // commit of the device
} weir_residency_options;

// Stages an add on request: of mapped or wrapped memory, or of a storage made before the set.
// Memory that is a member already is not added twice, under another handle neither; a member takes
// the new priority. `options` may be NULL.
//
// Errors:  WEIR_INVALID_ARGUMENT a storage of another device; WEIR_UNSUPPORTED memory that is
//          committed as it grows.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_residency_register(weir_residency* set,
                                                           weir_storage* storage,
                                                           const weir_residency_options* options);

// Stages the removal of a member; a staged add is dropped. The storage lives on.
//
// Errors:  WEIR_NOT_FOUND it is no member.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_residency_unregister(weir_residency* set,
                                                             weir_storage* storage);

// Applies what is staged now, but for adds of sessions, instead of with the next commit.
//
// Threads: thread-safe.
WEIR_API void weir_residency_flush(weir_residency* set);

// Tells whether a storage is resident: a member whose add has been applied and that is not evicted.
//
// Threads: thread-safe.
WEIR_API bool weir_residency_is_resident(weir_residency* set, const weir_storage* storage);

// Returns what the set has done since its creation.
//
// Threads: thread-safe.
WEIR_API weir_residency_counters weir_residency_counted(weir_residency* set);

WEIR_C_END

#endif
