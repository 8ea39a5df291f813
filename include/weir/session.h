// Sessions: dispatches recorded with their accesses, executed by one submit and one wait.
//
// Recording executes nothing. Each dispatch is checked against those before it: it will wait for
// those it conflicts with and for nothing else. A session that is destroyed before its commit has
// executed nothing. After a commit it is empty and records the next pass.
//
// Several passes can be in flight, of one session and of several. A pass runs after the earlier
// ones that it conflicts with, byte for byte, whoever committed them, and beside all others; there
// is no need to wait for the host in between.
//
//     weir_session_create(device, &session);
//     weir_session_dispatch(session, &produce, NULL);
//     weir_session_dispatch(session, &consume, &verdict);   // verdict.hazards[0]: RAW
//     weir_session_finish(session);                         // commit + wait
//     weir_session_destroy(session);
#ifndef WEIR_SESSION_H
#define WEIR_SESSION_H

#include <weir/device.h>
#include <weir/storage.h>

WEIR_C_BEGIN

typedef struct weir_session weir_session;

typedef struct weir_operand {
    weir_view view;
    weir_access_kind kind;
} weir_operand;

typedef struct weir_dispatch_desc {
    const char* name;      // for messages; must hold until the work is complete; NULL = "kernel"
    weir_kernel_fn kernel; // the caller's function, for devices that run those
    const weir_operand* operands; // every byte the kernel touches, and how
    uint32_t operand_count;
    const void* constants; // copied; handed to every tile
    size_t constants_size;
    uint32_t tile_count;          // 0 = 1
    bool undeclared;              // the kernel touches more than its operands: a full fence
    const weir_kernel_code* code; // for devices that run code; copied, its words are not
} weir_dispatch_desc;

// Creates an empty session.
//
// Ownership: the caller destroys it.
// Errors:    WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_session_create(weir_device* device, weir_session** session);

// Drops what is recorded and not committed, which executes nothing; NULL is a no-op. Work already
// committed runs on and keeps what it needs.
//
// Threads: thread-compatible.
WEIR_API void weir_session_destroy(weir_session* session);

// Drops what is recorded and not committed, as destroying the session does, and goes on with an
// empty one: after an error in the middle of recording, or a commit that failed for good. Counters
// stay.
//
// Threads: thread-compatible.
WEIR_API void weir_session_reset(weir_session* session);

// Records one dispatch. `verdict` (may be NULL) receives what it must wait for, and why. On failure
// nothing is recorded.
//
// Ownership: the session retains the storages until completion or drop; `verdict->hazards` hold
//            until the next call.
// Errors:    WEIR_INVALID_ARGUMENT no kernel, code without words, operands or constants at NULL, an
//            operand without storage, without a kind or of another device, a write to sealed
//            storage or to a view whose indices share bytes; WEIR_UNSUPPORTED the device runs
//            kernels of the other kind; WEIR_OUT_OF_RANGE an operand passes the end of its storage;
//            WEIR_OUT_OF_MEMORY.
// Threads:   thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_session_dispatch(weir_session* session,
                                                         const weir_dispatch_desc* desc,
                                                         weir_verdict* verdict);

// Record a copy of `from` to `to`, of `value` to every element of `to`, of bytes of the host to
// `to`, and of `from` to bytes of the host. They are dispatches with accesses like any other: they
// wait for what they conflict with, and nothing happens before the commit. Bytes of the host are
// the elements in index order without gaps.
//
// Shapes:    any; `from` and `to` of a copy the same. Strides are free.
// Types:     any, both of a copy the same; `value_size` is 1, 2, 4 or 8 and divides the bytes of an
//            element (of a block).
// Ownership: uploaded bytes are copied now and may be changed on return; downloaded ones are
//            written until the ticket is complete.
// Aliasing:  source and target share no byte, and no two elements of a target do.
// Errors:    as weir_session_dispatch; WEIR_INVALID_ARGUMENT against the rules above;
//            WEIR_OUT_OF_RANGE `byte_size` is not that of the view.
// Threads:   thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_session_copy(weir_session* session, const weir_view* from,
                                                     const weir_view* to);
WEIR_API WEIR_MUST_USE weir_status weir_session_fill(weir_session* session, const weir_view* to,
                                                     const void* value, size_t value_size);
WEIR_API WEIR_MUST_USE weir_status weir_session_upload(weir_session* session, const void* bytes,
                                                       size_t byte_size, const weir_view* to);
WEIR_API WEIR_MUST_USE weir_status weir_session_download(weir_session* session,
                                                         const weir_view* from, void* bytes,
                                                         size_t byte_size);

// Hands the recorded dispatches to the device and empties the session. An empty session gives a
// ticket that is complete. While 64 passes of the device are in flight it waits for the oldest.
//
// Errors:  WEIR_OUT_OF_MEMORY, also of a lazy storage that is touched here; WEIR_INVALID_ARGUMENT
//          storage that is written was sealed since; WEIR_DEVICE_LOST the device was lost, with the
//          first cause; what the device says.
//          Nothing has been executed then, and the dispatches are still recorded: the commit can be
//          tried again, or weir_session_reset drops them.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_session_commit(weir_session* session, weir_ticket* ticket);

// Commits and waits: the only wait of a pass.
//
// Errors:  as weir_session_commit; the status of the work.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_session_finish(weir_session* session);

// Lets the commits from now on take the times of their dispatches, for weir_ticket_timings. They
// are not taken unless asked for.
//
// Threads: thread-compatible.
WEIR_API void weir_session_set_timing(weir_session* session, bool timing);

// Returns what the session has done since its creation.
//
// Ownership: belongs to the session.
// Threads:   thread-compatible.
WEIR_API const weir_counters* weir_session_counters(const weir_session* session);

WEIR_C_END

#endif
