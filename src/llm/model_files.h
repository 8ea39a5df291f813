// The files of a model: one, or the parts of a set, each mapped once.
#ifndef WEIR_LLM_MODEL_FILES_H
#define WEIR_LLM_MODEL_FILES_H

#include <weir/gguf.h>
#include <weir/storage.h>

typedef struct model_file {
    weir_storage* mapping; // of the whole file
} model_file;

// It is known to the files that are mapped, and does not move.
typedef struct model_files {
    model_file* items; // [capacity], of which `count` are mapped
    uint32_t count;
    uint32_t capacity;
    uint64_t byte_size;        // of all files together
    uint64_t byte_begin;       // of the file that is being copied, among them
    weir_progress_fn progress; // of the copies; NULL: nobody asks
    void* progress_context;
} model_files;

// Maps the file at `path` and, where it is a part of a set, all parts of that set, and parses them
// together. Any part may be named; the others are sought beside it by their names. On failure
// weir_model_files_close releases what was opened.
//
// Errors: as weir_storage_map, weir_gguf_parse_parts and weir_gguf_part_path; WEIR_OUT_OF_RANGE
//         over `bytes_max` bytes; WEIR_UNSUPPORTED the host cannot reach mapped memory.
WEIR_MUST_USE weir_status weir_model_files_open(const weir_allocator* allocator,
                                                weir_device* device, const char* path,
                                                uint64_t bytes_max, model_files* files,
                                                weir_gguf** gguf);

// Fails when one of the files has been cut short since it was mapped: what was read of it may be
// zeros.
//
// Errors: WEIR_IO.
WEIR_MUST_USE weir_status weir_model_files_check(const model_files* files);

// Lets the device get its copies, where it needs any; `progress` (may be NULL) is told of all files
// together.
//
// Errors: as weir_storage_touch.
WEIR_MUST_USE weir_status weir_model_files_touch(model_files* files, weir_progress_fn progress,
                                                 void* context);

void weir_model_files_close(const weir_allocator* allocator, model_files* files);

#endif
