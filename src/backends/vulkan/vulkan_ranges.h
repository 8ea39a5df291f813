// Accesses as the intervals of a small memory: what a judge of whole intervals needs to be exact.
//
// Which bytes two accesses share is all that hazards depend on. Bytes that exactly the same
// accesses cover are one class, and classes are numbered by their first byte. An access is then a
// set of classes, which for accesses without gaps, and mostly for strided ones, is a few runs of
// numbers.
//
//     bytes       aaaabbbbaaaabbbb      a, b: rows of two strided views, c: all of it
//     classes     0   1   0   1         a = {0}, b = {1}, c = {0, 1}
#ifndef WEIR_BACKENDS_VULKAN_RANGES_H
#define WEIR_BACKENDS_VULKAN_RANGES_H

#include "device/backend.h"

typedef struct class_run {
    uint32_t begin, end; // classes; half-open
} class_run;

typedef struct class_runs {
    class_run* items; // of access i: items[begins[i]] .. items[begins[i + 1] - 1]
    size_t count, capacity;
    size_t* begins; // access_count + 1
    size_t access_count;
    uint32_t class_count;
} class_runs;

// Finds the classes of a list of accesses; undone by class_runs_free, also after a failure.
//
// Errors: WEIR_OUT_OF_MEMORY; WEIR_UNSUPPORTED more than 2^22 runs of bytes.
WEIR_MUST_USE weir_status class_runs_make(const weir_allocator* allocator,
                                          const weir_access* accesses, size_t count,
                                          class_runs* runs);
void class_runs_free(const weir_allocator* allocator, class_runs* runs);

#endif
