// Marks of the public interface and the version of the library.
//
// Every public function is `WEIR_API`; every function that can fail is also `WEIR_MUST_USE`, so
// that a forgotten status is a compiler warning. All headers can be included from C11 and from C++.
#ifndef WEIR_API_H
#define WEIR_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEIR_VERSION_MAJOR 0
#define WEIR_VERSION_MINOR 1
#define WEIR_VERSION_PATCH 0

#define WEIR_API __attribute__((visibility("default")))
#define WEIR_MUST_USE __attribute__((warn_unused_result))
#define WEIR_PRINTF(format_index, first_index)                                                     \
    __attribute__((format(printf, format_index, first_index)))

#ifdef __cplusplus
#define WEIR_C_BEGIN extern "C" {
#define WEIR_C_END }
#else
#define WEIR_C_BEGIN
#define WEIR_C_END
#endif

WEIR_C_BEGIN

// Returns the version of the library in use as "major.minor.patch".
//
// Threads: thread-safe.
WEIR_API const char* weir_version(void);

WEIR_C_END

#endif
