// GGUF: a read-only parser over bytes in memory (versions 2 and 3, little-endian).
//
// Source: the GGUF specification (ggml, docs/gguf.md). The parser is total: every count, length,
// offset, product and alignment is checked before use, and an error names the file, the byte
// offset, the field and what was expected. Strings and arrays point into the bytes; nothing of the
// data is copied. Dimensions are turned round: weir's shapes are outermost first.
//
// A model may be split into several files, its parts. Each is a GGUF file of its own and can be
// parsed alone; weir_gguf_parse_parts makes one parse of all of them.
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
    uint32_t part;        // number of the file that holds it, from 0
    weir_shape shape;     // outermost first
    uint64_t byte_offset; // from the start of that file
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
// Ownership: the caller destroys the result; `bytes` must hold as long as it, and may change: then
//            what is read is of no use, but nothing is read outside of them. `file_name` (may be
//            NULL) is copied.
// Errors:    WEIR_BAD_FORMAT; WEIR_UNSUPPORTED versions other than 2 and 3, big-endian files,
//            arrays of arrays, unknown tensor types; WEIR_OUT_OF_MEMORY; WEIR_INVALID_ARGUMENT NULL
//            bytes with a size.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_gguf_parse(const weir_allocator* allocator,
                                                   const void* bytes, uint64_t byte_size,
                                                   const char* file_name, weir_gguf** gguf);

#define WEIR_GGUF_PARTS_MAX 65535 // files of one model: split.count has 16 bits

// One file of a set, whole in memory.
typedef struct weir_gguf_part {
    const void* bytes;
    uint64_t byte_size;
    const char* file_name; // may be NULL
} weir_gguf_part;

// Parses the parts of one model, in their order. The result has the keys of the first part and the
// tensors of all. Refused, beyond what weir_gguf_parse refuses in any of them:
//
// - a part without its keys (weir_gguf_split_read), out of its place, of a set of another size, or
//   whose split.tensors.count is not the number of tensors in all parts together;
// - a tensor name that comes in two parts;
// - a key of a later part that the first part has with another value. split.no and
//   general.alignment are those of one file and may differ; keys that the first part lacks are
//   checked and left out.
//
// The memory asked for is bounded as that of weir_gguf_parse, by the metadata of all parts.
//
// Ownership: as weir_gguf_parse, for the bytes of every part.
// Errors:    as weir_gguf_parse; WEIR_INVALID_ARGUMENT no parts, or over WEIR_GGUF_PARTS_MAX.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_gguf_parse_parts(const weir_allocator* allocator,
                                                         const weir_gguf_part* parts,
                                                         uint32_t part_count, weir_gguf** gguf);

// Destroys a parse; NULL is a no-op.
//
// Threads: thread-compatible.
WEIR_API void weir_gguf_destroy(weir_gguf* gguf);

// Returns facts of the header; of several parts, those of the first.
//
// Threads: thread-safe (all queries below).
WEIR_API uint32_t weir_gguf_version(const weir_gguf* gguf);
WEIR_API uint64_t weir_gguf_alignment(const weir_gguf* gguf);
WEIR_API const char* weir_gguf_file_name(const weir_gguf* gguf);

// Returns how many files were parsed, and the name of one of them; NULL for an unknown part.
//
// Ownership: belongs to the parse.
WEIR_API uint32_t weir_gguf_part_count(const weir_gguf* gguf);
WEIR_API const char* weir_gguf_part_name(const weir_gguf* gguf, uint32_t part);

// What a file says about the set that it belongs to.
typedef struct weir_gguf_split {
    uint32_t part;         // number of this file, from 0
    uint32_t part_count;   // files of the set; 1: the file is the whole model
    uint64_t tensor_count; // of all parts together
} weir_gguf_split;

// Reads the keys split.no, split.count and split.tensors.count. A file without split.count is
// whole; in one of a set all three are required.
//
// Errors:  WEIR_BAD_FORMAT a key is missing or no integer, split.count is 0 or over
//          WEIR_GGUF_PARTS_MAX, split.no is not below it, split.tensors.count is less than the file
//          has, or other than that for a whole file. The message names file and key.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_gguf_split_read(const weir_gguf* gguf,
                                                        weir_gguf_split* split);

// Writes the path of part `part` of a set to `part_path`, given the path of the part that `split`
// was read from. Parts lie side by side; their names differ in their numbers, which count from 1:
//
//     llama-00001-of-00003.gguf  llama-00002-of-00003.gguf  llama-00003-of-00003.gguf
//
// Errors:  WEIR_BAD_FORMAT the name does not end in the numbers that the file says;
//          WEIR_OUT_OF_RANGE no such part, or more than `capacity` bytes with the terminator.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_gguf_part_path(const char* path,
                                                       const weir_gguf_split* split, uint32_t part,
                                                       char* part_path, size_t capacity);

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

// Walks the strings of an array in order: start with `cursor` = NULL. Where the bytes change after
// they were parsed, as those of a mapped file may, the strings are others, and there may be more or
// fewer than `count`; all lie within the array.
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
