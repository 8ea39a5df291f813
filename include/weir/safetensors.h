// safetensors: a read-only parser over bytes in memory.
//
// Source: the format description of the safetensors project. A file is
//
//     | u64 header size | JSON header, may end in spaces | tensor data without holes |
//     0                 8                                8 + header size
//
// The parser is total: every length, product and offset is checked before use, and an error names
// the file, the byte offset, what was found and what was expected. The data is not copied and not
// looked at; nothing says that it is aligned: weir_view_make tells whether a tensor can be used
// where it lies. Shapes are outermost first, as in the file.
//
//     weir_safetensors_parse(NULL, bytes, byte_size, "model.safetensors", &file);
//     const weir_safetensors_tensor* tensor = weir_safetensors_find(file, "conv1.weight");
#ifndef WEIR_SAFETENSORS_H
#define WEIR_SAFETENSORS_H

#include <weir/allocator.h>
#include <weir/dtype.h>
#include <weir/shape.h>
#include <weir/text.h>

WEIR_C_BEGIN

#define WEIR_SAFETENSORS_HEADER_MAX 100000000 // bytes; the limit of the format

typedef struct weir_safetensors weir_safetensors;

typedef struct weir_safetensors_tensor {
    weir_text name;       // with escapes resolved
    weir_text type;       // as the file calls it: "F32", "F8_E4M3", ...
    weir_dtype dtype;     // WEIR_DTYPE_NONE for types that weir has no name for
    weir_shape shape;     // outermost first; rank 0 is a scalar, dims may be 0
    uint64_t byte_offset; // from the start of the file; any alignment
    uint64_t byte_size;
} weir_safetensors_tensor;

// A pair of "__metadata__".
typedef struct weir_safetensors_entry {
    weir_text key;
    weir_text value;
} weir_safetensors_entry;

// Parses the header of a file that lies whole in memory. Refused, beyond what cannot be read:
//
// - headers over WEIR_SAFETENSORS_HEADER_MAX, and anything but spaces behind the JSON;
// - names that come twice, among the tensors, the metadata or the fields of one tensor; names that
//   are not UTF-8 or hold NUL;
// - tensors of more than WEIR_RANK_MAX dimensions, whose bytes do not follow from type and shape,
//   or that leave a hole, overlap, or do not end with the file.
//
// Fields of a tensor that the format does not name are skipped. The memory asked for stays below
// four times the size of the header (and a few hundred bytes), and is asked for after all of it
// was read once.
//
// Ownership: the caller destroys the result; `bytes` must hold as long as it. `file_name` (may be
//            NULL) is copied.
// Errors:    WEIR_BAD_FORMAT; WEIR_IO the bytes changed meanwhile, as those of a mapped file may;
//            WEIR_UNSUPPORTED unknown types, too many dimensions;
//            WEIR_OUT_OF_MEMORY; WEIR_INVALID_ARGUMENT NULL bytes with a size.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_safetensors_parse(const weir_allocator* allocator,
                                                          const void* bytes, uint64_t byte_size,
                                                          const char* file_name,
                                                          weir_safetensors** file);

// Destroys a parse; NULL is a no-op.
//
// Threads: thread-compatible.
WEIR_API void weir_safetensors_destroy(weir_safetensors* file);

// Returns all tensors or all pairs of the metadata, in the order of the file.
//
// Ownership: belongs to the parse.
// Threads:   thread-safe (all queries below).
WEIR_API const weir_safetensors_tensor* weir_safetensors_tensors(const weir_safetensors* file,
                                                                 uint64_t* count);
WEIR_API const weir_safetensors_entry* weir_safetensors_metadata(const weir_safetensors* file,
                                                                 uint64_t* count);

// Finds a tensor by name; NULL when absent.
//
// Ownership: belongs to the parse.
WEIR_API const weir_safetensors_tensor* weir_safetensors_find(const weir_safetensors* file,
                                                              const char* name);

// Returns the name given to weir_safetensors_parse.
//
// Ownership: belongs to the parse.
WEIR_API const char* weir_safetensors_name(const weir_safetensors* file);

WEIR_C_END

#endif
