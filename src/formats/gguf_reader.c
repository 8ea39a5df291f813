#include "formats/gguf_reader.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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
                 weir_gguf_escape(reader->entry_name, name, sizeof name));
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

weir_status weir_gguf_read_string(weir_gguf_reader* reader, const char* field,
                                  weir_gguf_string* string) {
    const uint64_t start = reader->position;
    uint64_t length = 0;
    WEIR_TRY(weir_gguf_read_u64(reader, field, &length));
    if (length > weir_gguf_bytes_left(reader)) {
        // The offset is that of the length, which is what is wrong.
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, start, field,
                         "found length %" PRIu64 ", expected at most the %" PRIu64 " bytes left",
                         length, weir_gguf_bytes_left(reader));
    }
    *string = (weir_gguf_string){(const char*)reader->bytes + reader->position, length};
    reader->position += length;
    return WEIR_OK;
}

// Returns the bytes of the well-formed UTF-8 character at `bytes`, 0 when there is none. The ranges
// are those of RFC 3629, section 4: no overlong form, no surrogate, nothing past U+10FFFF.
static uint64_t utf8_character_length(const uint8_t* bytes, uint64_t left) {
    const uint8_t lead = bytes[0];
    if (lead < 0x80) {
        return 1;
    }
    const uint64_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (lead < 0xC2 || lead > 0xF4 || length > left) {
        return 0;
    }
    const uint8_t second_min = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const uint8_t second_max = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (bytes[1] < second_min || bytes[1] > second_max) {
        return 0;
    }
    for (uint64_t i = 2; i < length; i++) {
        if ((bytes[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return length;
}

// NUL would let two different names look the same to C strings.
static bool is_text(weir_gguf_string string) {
    const uint8_t* bytes = (const uint8_t*)string.bytes;
    uint64_t length = 0;
    for (uint64_t i = 0; i < string.length; i += length) {
        length = utf8_character_length(bytes + i, string.length - i);
        if (length == 0 || bytes[i] == 0) {
            return false;
        }
    }
    return true;
}

// The length is judged before the content: a message about content shows it.
weir_status weir_gguf_read_name(weir_gguf_reader* reader, const char* field, uint64_t length_max,
                                weir_gguf_string* name) {
    const uint64_t start = reader->position;
    weir_gguf_string found = {0};
    WEIR_TRY(weir_gguf_read_string(reader, field, &found));
    if (found.length == 0 || found.length > length_max) {
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, start, field,
                         "found length %" PRIu64 ", expected 1 to %" PRIu64, found.length,
                         length_max);
    }
    if (!is_text(found)) {
        char text[96];
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, start, field,
                         "found \"%s\", expected UTF-8 without NUL",
                         weir_gguf_escape(found, text, sizeof text));
    }
    reader->entry_name = found;
    *name = found;
    return WEIR_OK;
}
