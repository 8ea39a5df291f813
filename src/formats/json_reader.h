// A pull parser of JSON (RFC 8259) over bytes of a file: the caller says what it expects next.
// Nothing is allocated, nesting is bounded, and every step checks for the end.
//
// Strings come as spans of the source; json_string_decode resolves their escapes.
#ifndef WEIR_FORMATS_JSON_READER_H
#define WEIR_FORMATS_JSON_READER_H

#include <weir/status.h>
#include <weir/text.h>

#define JSON_DEPTH_MAX 64 // of values that are skipped

typedef struct json_reader {
    const uint8_t* bytes; // of the whole file
    uint64_t end;         // of the JSON in it
    uint64_t position;    // <= end
    const char* file_name;
    weir_text tensor; // whose members are read, as it stands in the source; NULL bytes: none
} json_reader;

// Raises "FILE: offset N: tensor "NAME": FIELD: found ..., expected ...".
#define JSON_FAIL(reader, status, offset, field, ...)                                              \
    json_reader_fail((reader), (status), __FILE__, __LINE__, (offset), (field), __VA_ARGS__)

weir_status json_reader_fail(const json_reader* reader, weir_status status, const char* file,
                             int line, uint64_t offset, const char* field, const char* format, ...)
    WEIR_PRINTF(7, 8);

// Skips white space and tells whether `byte` comes next; moves past it when it does.
bool json_take(json_reader* reader, char byte);

// Demands that `byte` comes next and moves past it.
//
// Errors: WEIR_BAD_FORMAT.
WEIR_MUST_USE weir_status json_expect(json_reader* reader, char byte, const char* field);

// Reads the next member of an object or element of an array: false at `close`. `first` is true
// before the first one, and set to false.
//
//     WEIR_TRY(json_expect(reader, '[', "shape"));
//     for (bool first = true, more; ; ) {
//         WEIR_TRY(json_next(reader, ']', &first, "shape", &more));
//         if (!more) break;
WEIR_MUST_USE weir_status json_next(json_reader* reader, char close, bool* first, const char* field,
                                    bool* more);

// Reads a string: `raw` is what stands between the quotes, checked to be UTF-8 with proper escapes
// and without control bytes, surrogates paired, and no NUL.
//
// Errors: WEIR_BAD_FORMAT.
WEIR_MUST_USE weir_status json_read_string(json_reader* reader, const char* field, weir_text* raw);

// Reads an unsigned integer without sign, fraction and exponent.
//
// Errors: WEIR_BAD_FORMAT.
WEIR_MUST_USE weir_status json_read_u64(json_reader* reader, const char* field, uint64_t* number);

// Moves past any value.
//
// Errors: WEIR_BAD_FORMAT not a value, or nested deeper than JSON_DEPTH_MAX.
WEIR_MUST_USE weir_status json_skip_value(json_reader* reader, const char* field);

// Writes the bytes that the span of json_read_string stands for, at most as many as it has, and
// returns their number. Bytes that changed since then give another text, no longer one.
uint64_t json_string_decode(weir_text raw, char* bytes);

#endif
