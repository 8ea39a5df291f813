// Typed access of the host to the bytes of a view, refused while passes in flight are in the way.
//
//     const float* logits = NULL;
//     weir_view_read(&view, WEIR_DTYPE_F32, (const void**)&logits, &count);
//
// weir_view_contents (weir/storage.h) returns the same address without any check.
#ifndef WEIR_ACCESS_H
#define WEIR_ACCESS_H

#include <weir/storage.h>

WEIR_C_BEGIN

// Returns the address of the elements of a contiguous view, to be read, and how many there are.
// `dtype` must be that of the view, or the view must be one of raw bytes (u8).
//
// Ownership: the storage's; holds until a pass that writes the bytes is committed.
// Errors:    WEIR_BUSY a pass in flight writes a byte of the view, or a shadow has to be converted
//            first; WEIR_INVALID_ARGUMENT no storage, wrong dtype, not contiguous, a length of no
//            whole elements, or misaligned; WEIR_UNSUPPORTED the host cannot reach the memory;
//            WEIR_OUT_OF_RANGE the view passes the end of its storage; WEIR_OUT_OF_MEMORY of a lazy
//            storage.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_view_read(const weir_view* view, weir_dtype dtype,
                                                  const void** elements, int64_t* count);

// Returns the address of the elements of a contiguous view, for the caller alone to read and write.
// Shadows of the bytes will be converted again.
//
// Ownership: the storage's; holds until a pass that touches the bytes is committed.
// Aliasing:  two callers with access to the same bytes at a time are not noticed.
// Errors:    as weir_view_read; WEIR_BUSY while a pass in flight reads or writes a byte of the
//            view; WEIR_INVALID_ARGUMENT sealed or mapped memory.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_view_write(const weir_view* view, weir_dtype dtype,
                                                   void** elements, int64_t* count);

WEIR_C_END

#endif
