// What the files of the GGUF parser share.
#ifndef WEIR_FORMATS_GGUF_PARTS_H
#define WEIR_FORMATS_GGUF_PARTS_H

#include "formats/gguf_reader.h"

// One file.
typedef struct gguf_file {
    const uint8_t* bytes;
    uint64_t byte_size;
    char* name;
    size_t name_size; // with the terminator
    uint32_t version;
    uint64_t alignment;
    uint64_t data_offset; // where the tensor data begins; past the file when there is none
    uint64_t value_count;
    uint64_t tensor_count;
} gguf_file;

struct weir_gguf {
    weir_allocator allocator;
    gguf_file* files; // [file_capacity] the parts of the model
    uint32_t file_count;
    uint32_t file_capacity;
    uint64_t value_count;      // those of files[0]
    uint64_t tensor_count;     // those of all files together
    weir_gguf_value* values;   // in the order of the file
    weir_gguf_tensor* tensors; // file by file, in the order of each
    uint32_t* value_order;     // indices of `values` sorted by key
    uint32_t* tensor_order;    // indices of `tensors` sorted by name
};

enum {
    GGUF_HEADER_BYTES = 24, // magic, version and both counts
    GGUF_KEY_MAX = 65535,   // bytes
    GGUF_NAME_MAX = 64,     // bytes of a tensor name
    GGUF_DIMS_MAX = 4,      // dimensions of a tensor
    GGUF_VALUE_MIN = 14,    // bytes of the shortest pair: length, key of 1, type, value of 1
    GGUF_TENSOR_MIN = 33, // bytes of the shortest info: length, name of 1, rank, dim, type, offset
    GGUF_ALIGNMENT_MIN = 8, // bytes
    GGUF_ALIGNMENT_MAX = 65536,
};

typedef struct weir_gguf_type_info {
    const char* name;
    uint32_t byte_size; // of one value; the smallest for strings; 0 for arrays
} weir_gguf_type_info;

// Returns name and size of a value type, NULL for a number that is none.
const weir_gguf_type_info* weir_gguf_type_describe(uint32_t type);

// Reads the next key/value pair.
//
// Errors: WEIR_BAD_FORMAT; WEIR_UNSUPPORTED an array of arrays.
WEIR_MUST_USE weir_status weir_gguf_read_value(weir_gguf_reader* reader, uint64_t index,
                                               weir_gguf_value* value);

// Reads the next tensor info; its offset stays relative to the tensor data.
//
// Errors: WEIR_BAD_FORMAT; WEIR_UNSUPPORTED an unknown type.
WEIR_MUST_USE weir_status weir_gguf_read_tensor(weir_gguf_reader* reader, uint64_t index,
                                                weir_gguf_tensor* tensor);

// Checks a tensor that was just read against alignment and bounds of the tensor data, and makes its
// offset that from the start of the file.
//
// Errors: WEIR_BAD_FORMAT.
WEIR_MUST_USE weir_status weir_gguf_place_tensor(const weir_gguf_reader* reader,
                                                 const gguf_file* file, weir_gguf_tensor* tensor);

// Holds the keys of part `part` of a set against those of the whole set and its first part. `alone`
// is a parse of that part by itself.
//
// Errors: WEIR_BAD_FORMAT.
WEIR_MUST_USE weir_status weir_gguf_check_part(const weir_gguf* set, uint32_t part,
                                               const weir_gguf* alone);

#endif
