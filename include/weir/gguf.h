// GGUF: a read-only parser over bytes in memory (versions 2 and 3, little-endian).
//
// Source: the GGUF specification (ggml, docs/gguf.md). The parser is total: every count, length,
// offset, product and alignment is checked before use, and an error names the file, the byte
// offset, the field and what was expected. Strings and arrays point into the bytes; nothing of the
// data is copied. Dimensions are turned round: weir's shapes are outermost first.
//
//     weir_gguf_parse(NULL, bytes, byte_size, "model.gguf", &gguf);
//     const weir_gguf_tensor* tensor = weir_gguf_find_tensor(gguf, "token_embd.weight");
#ifndef WEIR_GGUF_H
#define WEIR_GGUF_H

#include <weir/allocator.h>
#include <weir/dtype.h>
#include <weir/shape.h>
#include <weir/text.h>

WEIR_C_BEGIN

typedef struct weir_gguf weir_gguf;

// The numbers are those of the file format.
typedef enum weir_gguf_type {
    WEIR_GGUF_U8 = 0,
    WEIR_GGUF_I8 = 1,
    WEIR_GGUF_U16 = 2,
    WEIR_GGUF_I16 = 3,
    WEIR_GGUF_U32 = 4,
    WEIR_GGUF_I32 = 5,
    WEIR_GGUF_F32 = 6,
    WEIR_GGUF_BOOL = 7,
    WEIR_GGUF_STRING = 8,
    WEIR_GGUF_ARRAY = 9,
    WEIR_GGUF_U64 = 10,
    WEIR_GGUF_I64 = 11,
    WEIR_GGUF_F64 = 12,
} weir_gguf_type;

typedef struct weir_gguf_value {
    weir_text key;
    weir_gguf_type type;
    weir_gguf_type element_type; // of an array; otherwise the same as `type`
    uint64_t count;              // elements of an array, else 1
    const void* bytes;    // first byte of the value in the file (unaligned); array: first element
    uint64_t byte_length; // of the value in the file, from `bytes`
} weir_gguf_value;

typedef struct weir_gguf_tensor {
    weir_text name;
    weir_dtype dtype;
    weir_shape shape;     // outermost first
    uint64_t byte_offset; // from the start of the file
    uint64_t byte_size;
} weir_gguf_tensor;

// Parses the metadata of a file that lies whole in memory. Refused, beyond what cannot be read:
//
// - keys and tensor names that come twice, are empty, are not UTF-8 or hold NUL; keys over 65535
//   and tensor names over 64 bytes (the limits of the specification); bools other than 0 and 1;
// - `general.alignment` other than a u32 power of two from 8 to 65536;
// - arrays of arrays, which no known key uses;
// - tensors of 0 or more than 4 dimensions, with a dimension of 0, with rows that split a block, at
//   an offset off the alignment, past the end of the file, or sharing bytes with another tensor.
//
// Bytes after the last tensor are allowed. Values of strings may hold any bytes. The memory asked
// for stays below four times the size of the metadata (and a few hundred bytes), and is asked for
// after all of it was checked.
//
// Ownership: the caller destroys the result; `bytes` must hold as long as it. `file_name` (may be
//            NULL) is copied.
// Errors:    WEIR_BAD_FORMAT; WEIR_UNSUPPORTED versions other than 2 and 3, big-endian files,
//            arrays of arrays, unknown tensor types; WEIR_OUT_OF_MEMORY; WEIR_INVALID_ARGUMENT NULL
//            bytes with a size.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_gguf_parse(const weir_allocator* allocator,
                                                   const void* bytes, uint64_t byte_size,
                                                   const char* file_name, weir_gguf** gguf);

// Destroys a parse; NULL is a no-op.
//
// Threads: thread-compatible.
WEIR_API void weir_gguf_destroy(weir_gguf* gguf);

// Returns facts of the header.
//
// Threads: thread-safe (all queries below).
WEIR_API uint32_t weir_gguf_version(const weir_gguf* gguf);
WEIR_API uint64_t weir_gguf_alignment(const weir_gguf* gguf);
WEIR_API const char* weir_gguf_file_name(const weir_gguf* gguf);

// Returns all key/value pairs or tensors, in the order of the file.
//
// Ownership: belongs to the parse.
WEIR_API const weir_gguf_value* weir_gguf_values(const weir_gguf* gguf, uint64_t* count);
WEIR_API const weir_gguf_tensor* weir_gguf_tensors(const weir_gguf* gguf, uint64_t* count);

// Finds a key or a tensor by name; NULL when absent.
//
// Ownership: belongs to the parse.
WEIR_API const weir_gguf_value* weir_gguf_find(const weir_gguf* gguf, const char* key);
WEIR_API const weir_gguf_tensor* weir_gguf_find_tensor(const weir_gguf* gguf, const char* name);

// Read one value of a required key. Integers are taken from any integer type that holds the value,
// floats from f32 or f64.
//
// Errors: WEIR_NOT_FOUND the key is absent; WEIR_BAD_FORMAT another type, or out of range; the
//         message names file and key.
WEIR_API WEIR_MUST_USE weir_status weir_gguf_get_u64(const weir_gguf* gguf, const char* key,
                                                     uint64_t* number);
WEIR_API WEIR_MUST_USE weir_status weir_gguf_get_f64(const weir_gguf* gguf, const char* key,
                                                     double* number);
WEIR_API WEIR_MUST_USE weir_status weir_gguf_get_bool(const weir_gguf* gguf, const char* key,
                                                      bool* flag);
WEIR_API WEIR_MUST_USE weir_status weir_gguf_get_string(const weir_gguf* gguf, const char* key,
                                                        weir_text* string);

// Finds an array of `element_type`; element reads below are checked against its count.
//
// Errors:  WEIR_NOT_FOUND; WEIR_BAD_FORMAT not an array, or of another element type.
WEIR_API WEIR_MUST_USE weir_status weir_gguf_get_array(const weir_gguf* gguf, const char* key,
                                                       weir_gguf_type element_type,
                                                       const weir_gguf_value** array);

// Walks the strings of an array in order: start with `cursor` = NULL.
//
//     for (const void* cursor = NULL; weir_gguf_next_string(array, &cursor, &string);) ...
WEIR_API bool weir_gguf_next_string(const weir_gguf_value* array, const void** cursor,
                                    weir_text* string);

// Reads element `index` of an array of numbers or bools, or number 0 of a single one; 0 past the
// end. As i64, numbers are cut to integers and to the range of the type, NaN to 0.
WEIR_API int64_t weir_gguf_element_i64(const weir_gguf_value* array, uint64_t index);
WEIR_API double weir_gguf_element_f64(const weir_gguf_value* array, uint64_t index);

WEIR_C_END

#endif
