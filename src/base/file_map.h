// Read-only mappings of file ranges.
#ifndef WEIR_BASE_FILE_MAP_H
#define WEIR_BASE_FILE_MAP_H

#include "base/bus_fault.h"
#include "base/read_ahead.h"

typedef struct file_map {
    const uint8_t* bytes; // first byte asked for
    uint64_t byte_size;   // bytes asked for
    void* base;           // what munmap takes
    size_t base_size;
    uint64_t device, inode; // of the file
    uint64_t file_offset;   // of `bytes`
    int descriptor;         // of the file, for its size
    bus_watch* watch;
    read_ahead ahead;
} file_map;

// Maps `byte_size` bytes (0: to the end) of `path` from `byte_offset`; no byte is read yet.
//
// Errors: WEIR_IO, WEIR_OUT_OF_RANGE, WEIR_INVALID_ARGUMENT for an empty range; all name the path.
WEIR_MUST_USE weir_status file_map_open(const char* path, uint64_t byte_offset, uint64_t byte_size,
                                        file_map* map);

typedef enum file_advice {
    FILE_NORMAL,
    FILE_SEQUENTIAL,
    FILE_RANDOM,
    FILE_WILL_NEED,
    FILE_DROP,
} file_advice;

// Advises the system on the pages of bytes [byte_offset, + byte_size), which lie in the mapping.
// The first time that all of it will be needed it is read in the background, and `map` stays where
// it is from then on.
//
// Errors: WEIR_IO.
WEIR_MUST_USE weir_status file_map_advise(file_map* map, uint64_t byte_offset, uint64_t byte_size,
                                          file_advice advice);

// Reads `byte_count` bytes of the file from byte `byte_offset` of the mapping, without touching the
// mapping: a file that was cut short is a status and no fault.
//
// Errors: WEIR_IO.
WEIR_MUST_USE weir_status file_map_read(const file_map* map, uint64_t byte_offset, void* bytes,
                                        size_t byte_count);

// Fails when the file has become too short for the mapping, now or before; the message names file
// and offset. Once it has, it always does.
//
// Errors: WEIR_IO.
WEIR_MUST_USE weir_status file_map_check(const file_map* map);

void file_map_close(file_map* map);

#endif
