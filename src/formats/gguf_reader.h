// The cursor of the GGUF parser. Bounds are checked by subtraction, `wanted > end - position`, so
// that no length from a file can wrap.
#ifndef WEIR_FORMATS_GGUF_READER_H
#define WEIR_FORMATS_GGUF_READER_H

#include <weir/gguf.h>

typedef struct weir_gguf_reader {
    const uint8_t* bytes;
    uint64_t byte_size;
    uint64_t position; // <= byte_size
    const char* file_name;
    const char* entry_kind; // what is being read, for messages: NULL (header), "key", "tensor"
    uint64_t entry_index;   // its place among the entries of its kind
    weir_text entry_name;   // empty until it is known
} weir_gguf_reader;

// Raises "FILE: offset N: ENTRY: FIELD: found ..., expected ...".
#define GGUF_FAIL(reader, status, offset, field, ...)                                              \
    weir_gguf_reader_fail((reader), (status), __FILE__, __LINE__, (offset), (field), __VA_ARGS__)

weir_status weir_gguf_reader_fail(const weir_gguf_reader* reader, weir_status status,
                                  const char* file, int line, uint64_t offset, const char* field,
                                  const char* format, ...) WEIR_PRINTF(7, 8);

uint64_t weir_gguf_bytes_left(const weir_gguf_reader* reader);

// Read one field and move on.
//
// Errors: WEIR_BAD_FORMAT the file ends before it does.
WEIR_MUST_USE weir_status weir_gguf_read_u32(weir_gguf_reader* reader, const char* field,
                                             uint32_t* number);
WEIR_MUST_USE weir_status weir_gguf_read_u64(weir_gguf_reader* reader, const char* field,
                                             uint64_t* number);
WEIR_MUST_USE weir_status weir_gguf_read_bytes(weir_gguf_reader* reader, const char* field,
                                               uint64_t byte_length, const uint8_t** bytes);

// Reads a length and that many bytes of any content.
WEIR_MUST_USE weir_status weir_gguf_read_string(weir_gguf_reader* reader, const char* field,
                                                weir_text* string);

// Reads the string that names an entry: 1 .. `length_max` bytes of UTF-8 without NUL. Messages name
// the entry from here on.
WEIR_MUST_USE weir_status weir_gguf_read_name(weir_gguf_reader* reader, const char* field,
                                              uint64_t length_max, weir_text* name);

#endif
