// Status codes, and the message that goes with the last failure of a thread.
//
// Every fallible function returns a `weir_status`; 0 is success. A failure also leaves a text and
// the place that raised it in a buffer of the calling thread (1 KiB, no heap), read by
// `weir_last_error()`. Output parameters are written only on success. The library never aborts,
// exits or prints.
//
//     weir_status status = weir_storage_map(device, &desc, &storage);
//     if (status != WEIR_OK) fprintf(stderr, "%s\n", weir_last_error());
#ifndef WEIR_STATUS_H
#define WEIR_STATUS_H

#include <weir/api.h>

WEIR_C_BEGIN

// X(name, value, text): the one list of status codes.
#define WEIR_STATUS_LIST(X)                                                                        \
    X(OK, 0, "ok")                                                                                 \
    X(INVALID_ARGUMENT, 1, "invalid argument")                                                     \
    X(OUT_OF_RANGE, 2, "out of range")                                                             \
    X(OUT_OF_MEMORY, 3, "out of memory")                                                           \
    X(DEVICE_OUT_OF_MEMORY, 4, "out of device memory")                                             \
    X(UNSUPPORTED, 5, "unsupported")                                                               \
    X(NOT_FOUND, 6, "not found")                                                                   \
    X(BAD_FORMAT, 7, "bad format")                                                                 \
    X(IO, 8, "input/output error")                                                                 \
    X(DEVICE_LOST, 9, "device lost")                                                               \
    X(TIMEOUT, 10, "timed out")                                                                    \
    X(BUSY, 11, "busy")                                                                            \
    X(CANCELLED, 12, "cancelled")                                                                  \
    X(INFEASIBLE, 13, "infeasible")                                                                \
    X(INTERNAL, 14, "internal error")

#define WEIR_STATUS_ENUM(name, value, text) WEIR_##name = (value),
typedef enum weir_status { WEIR_STATUS_LIST(WEIR_STATUS_ENUM) WEIR_STATUS_COUNT } weir_status;
#undef WEIR_STATUS_ENUM

// Returns the fixed text of a status, "unknown status" for a value outside the enumeration.
//
// Threads: thread-safe.
WEIR_API const char* weir_status_text(weir_status status);

// Returns the message of the last failure in the calling thread, "" when there was none.
//
// Ownership: the text belongs to the library and holds until the next failure in this thread.
// Threads:   thread-safe; each thread sees its own message.
WEIR_API const char* weir_last_error(void);

// Stores a message for `weir_last_error()` and returns `status`: the one way to raise an error, for
// the library, for callers' kernels and for code built on top. A text over 1 KiB is shortened in
// its middle. `file` may be NULL; otherwise "file:line" is kept beside the text.
//
// Threads: thread-safe.
WEIR_API weir_status weir_status_fail(weir_status status, const char* file, int line,
                                      const char* format, ...) WEIR_PRINTF(4, 5);

// Returns "file:line" of the last failure in the calling thread, "" when unknown.
//
// Threads: thread-safe.
WEIR_API const char* weir_last_error_place(void);

// Raises an error: `return WEIR_FAIL(WEIR_OUT_OF_RANGE, "rows [%llu, ...", ...);`
#define WEIR_FAIL(status, ...) weir_status_fail((status), __FILE__, __LINE__, __VA_ARGS__)

// Returns from the enclosing function when `expression` fails; for functions without clean-up.
#define WEIR_TRY(expression)                                                                       \
    do {                                                                                           \
        const weir_status weir_try_status = (expression);                                          \
        if (weir_try_status != WEIR_OK) {                                                          \
            return weir_try_status;                                                                \
        }                                                                                          \
    } while (0)

WEIR_C_END

#endif
