// Small files, read and written whole.
#ifndef WEIR_BASE_FILE_BYTES_H
#define WEIR_BASE_FILE_BYTES_H

#include <weir/allocator.h>

// Reads a regular file of at most `limit` bytes; the caller frees `bytes` (alignment 1), which is
// NULL for an empty file.
//
// Errors: WEIR_IO, WEIR_OUT_OF_RANGE longer than the limit, WEIR_OUT_OF_MEMORY; all name the path.
WEIR_MUST_USE weir_status file_bytes_read(const weir_allocator* allocator, const char* path,
                                          size_t limit, uint8_t** bytes, size_t* byte_size);

// Writes a file in whole or not at all: to a new file beside it, which then takes its name. Readers
// see the old bytes or the new ones; after a failure the old ones are there and no other file is.
// A link keeps its name: the file that it leads to is replaced. A device or a pipe, and what is
// behind a link that leads nowhere yet, is written in place.
//
// Errors: WEIR_IO, WEIR_OUT_OF_MEMORY; they name the path.
WEIR_MUST_USE weir_status file_bytes_write(const weir_allocator* allocator, const char* path,
                                           const void* bytes, size_t byte_size);

// Writes all bytes to a descriptor; false with the reason in errno where that fails. A reader that
// has left and a limit on the size of files are reasons like any other: SIGPIPE and SIGXFSZ, by
// which the system tells of them, do not reach the process.
WEIR_MUST_USE bool file_write_all(int descriptor, const void* bytes, size_t byte_size);

#endif
