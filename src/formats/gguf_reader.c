#include "formats/gguf_reader.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

// Names come from the file: they are escaped, and cut well below the room for a message.
weir_status weir_gguf_reader_fail(const weir_gguf_reader* reader, weir_status status,
                                  const char* file, int line, uint64_t offset, const char* field,
                                  const char* format, ...) {
    char problem[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem, sizeof problem, format, arguments);
    va_end(arguments);
    char entry[160];
    if (reader->entry_name.bytes) {
        char name[128];
        snprintf(entry, sizeof entry, "%s \"%s\": ", reader->entry_kind,
                 weir_text_escape(reader->entry_name, name, sizeof name));
    } else if (reader->entry_kind) {
        snprintf(entry, sizeof entry, "%s %" PRIu64 ": ", reader->entry_kind, reader->entry_index);
    } else {
        snprintf(entry, sizeof entry, "header: ");
    }
    return weir_status_fail(status, file, line, "%s: offset %" PRIu64 ": %s%s: %s",
                            reader->file_name, offset, entry, field, problem);
}

// Never wraps: the position moves only by what was left.
uint64_t weir_gguf_bytes_left(const weir_gguf_reader* reader) {
    return reader->byte_size - reader->position;
}

weir_status weir_gguf_read_bytes(weir_gguf_reader* reader, const char* field, uint64_t byte_length,
                                 const uint8_t** bytes) {
    const uint64_t left = weir_gguf_bytes_left(reader);
    if (byte_length > left) {
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, reader->position, field,
                         "found the end of the file after %" PRIu64 " bytes, expected %" PRIu64,
                         left, byte_length);
    }
    *bytes = reader->bytes + reader->position;
    reader->position += byte_length;
    return WEIR_OK;
}

weir_status weir_gguf_read_u32(weir_gguf_reader* reader, const char* field, uint32_t* number) {
    const uint8_t* bytes = NULL;
    WEIR_TRY(weir_gguf_read_bytes(reader, field, sizeof *number, &bytes));
    memcpy(number, bytes, sizeof *number);
    return WEIR_OK;
}

weir_status weir_gguf_read_u64(weir_gguf_reader* reader, const char* field, uint64_t* number) {
    const uint8_t* bytes = NULL;
    WEIR_TRY(weir_gguf_read_bytes(reader, field, sizeof *number, &bytes));
    memcpy(number, bytes, sizeof *number);
    return WEIR_OK;
}

weir_status weir_gguf_read_string(weir_gguf_reader* reader, const char* field, weir_text* string) {
    const uint64_t start = reader->position;
    uint64_t length = 0;
    WEIR_TRY(weir_gguf_read_u64(reader, field, &length));
    if (length > weir_gguf_bytes_left(reader)) {
        // The offset is that of the length, which is what is wrong.
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, start, field,
                         "found length %" PRIu64 ", expected at most the %" PRIu64 " bytes left",
                         length, weir_gguf_bytes_left(reader));
    }
    *string = (weir_text){(const char*)reader->bytes + reader->position, length};
    reader->position += length;
    return WEIR_OK;
}

// The length is judged before the content: a message about content shows it.
weir_status weir_gguf_read_name(weir_gguf_reader* reader, const char* field, uint64_t length_max,
                                weir_text* name) {
    const uint64_t start = reader->position;
    weir_text found = {0};
    WEIR_TRY(weir_gguf_read_string(reader, field, &found));
    if (found.length == 0 || found.length > length_max) {
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, start, field,
                         "found length %" PRIu64 ", expected 1 to %" PRIu64, found.length,
                         length_max);
    }
    if (!utf8_is_text(found)) {
        char text[96];
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, start, field,
                         "found \"%s\", expected UTF-8 without NUL",
                         weir_text_escape(found, text, sizeof text));
    }
    reader->entry_name = found;
    *name = found;
    return WEIR_OK;
}
