#include "formats/json_reader.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

weir_status json_reader_fail(const json_reader* reader, weir_status status, const char* file,
                             int line, uint64_t offset, const char* field, const char* format,
                             ...) {
    char problem[512];
    char tensor[160] = "";
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem, sizeof problem, format, arguments);
    va_end(arguments);
    if (reader->tensor.bytes) {
        char name[128];
        snprintf(tensor, sizeof tensor,
                 "tensor \"%s\": ", weir_text_escape(reader->tensor, name, sizeof name));
    }
    return weir_status_fail(status, file, line, "%s: offset %" PRIu64 ": %s%s: %s",
                            reader->file_name, offset, tensor, field, problem);
}

static void skip_space(json_reader* reader) {
    while (reader->position < reader->end) {
        const uint8_t byte = reader->bytes[reader->position];
        if (byte != ' ' && byte != '\t' && byte != '\n' && byte != '\r') {
            break;
        }
        reader->position++;
    }
}

// The next byte, or a word for the end, as messages show it.
static const char* show_next(const json_reader* reader, char text[16]) {
    if (reader->position >= reader->end) {
        return "the end of the header";
    }
    char byte[8];
    const weir_text next = {(const char*)reader->bytes + reader->position, 1};
    snprintf(text, 16, "'%s'", weir_text_escape(next, byte, sizeof byte));
    return text;
}

bool json_take(json_reader* reader, char byte) {
    skip_space(reader);
    if (reader->position >= reader->end || reader->bytes[reader->position] != (uint8_t)byte) {
        return false;
    }
    reader->position++;
    return true;
}

weir_status json_expect(json_reader* reader, char byte, const char* field) {
    if (json_take(reader, byte)) {
        return WEIR_OK;
    }
    char text[16];
    return JSON_FAIL(reader, WEIR_BAD_FORMAT, reader->position, field, "found %s, expected '%c'",
                     show_next(reader, text), byte);
}

weir_status json_next(json_reader* reader, char close, bool* first, const char* field, bool* more) {
    *more = !json_take(reader, close);
    if (*more && !*first) {
        // A comma announces another one: "[1,]" then fails where the value is missing.
        WEIR_TRY(json_expect(reader, ',', field));
    }
    *first = false;
    return WEIR_OK;
}

static bool read_hex(const char* bytes, uint32_t* number) {
    *number = 0;
    for (int i = 0; i < 4; i++) {
        const char digit = bytes[i];
        const char lower = (char)(digit | 0x20);
        if (digit >= '0' && digit <= '9') {
            *number = *number * 16 + (uint32_t)(digit - '0');
        } else if (lower >= 'a' && lower <= 'f') {
            *number = *number * 16 + (uint32_t)(lower - 'a') + 10;
        } else {
            return false;
        }
    }
    return true;
}

// Reads the escape at `bytes`, which begins with a backslash: its length, 0 when it is none, and
// the character. Two escapes of a surrogate pair are one (RFC 8259, section 7).
static uint64_t read_escape(const char* bytes, uint64_t left, uint32_t* character) {
    static const char names[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    if (left < 2) {
        return 0;
    }
    const char* name = bytes[1] != '\0' ? strchr(names, bytes[1]) : NULL;
    if (name) {
        *character = (uint8_t)meanings[name - names];
        return 2;
    }
    if (bytes[1] != 'u' || left < 6 || !read_hex(bytes + 2, character) || *character == 0) {
        return 0;
    }
    if (*character < 0xD800 || *character > 0xDFFF) {
        return 6;
    }
    uint32_t low = 0;
    if (*character > 0xDBFF || left < 12 || bytes[6] != '\\' || bytes[7] != 'u' ||
        !read_hex(bytes + 8, &low) || low < 0xDC00 || low > 0xDFFF) {
        return 0;
    }
    *character = 0x10000 + ((*character - 0xD800) << 10) + (low - 0xDC00);
    return 12;
}

// Bytes of one character or escape inside a string, 0 when it is not allowed there.
static uint64_t string_step(const char* bytes, uint64_t left) {
    uint32_t character = 0;
    if (bytes[0] == '\\') {
        return read_escape(bytes, left, &character);
    }
    return (uint8_t)bytes[0] < 0x20 ? 0 : utf8_character_length((const uint8_t*)bytes, left);
}

weir_status json_read_string(json_reader* reader, const char* field, weir_text* raw) {
    WEIR_TRY(json_expect(reader, '"', field));
    const uint64_t start = reader->position;
    while (reader->position < reader->end && reader->bytes[reader->position] != '"') {
        const char* bytes = (const char*)reader->bytes + reader->position;
        const uint64_t step = string_step(bytes, reader->end - reader->position);
        if (step == 0) {
            char text[16];
            return JSON_FAIL(reader, WEIR_BAD_FORMAT, reader->position, field,
                             "found %s, expected a string of UTF-8 with the escapes of JSON",
                             show_next(reader, text));
        }
        reader->position += step;
    }
    const weir_text found = {(const char*)reader->bytes + start, reader->position - start};
    WEIR_TRY(json_expect(reader, '"', field));
    *raw = found;
    return WEIR_OK;
}

weir_status json_read_u64(json_reader* reader, const char* field, uint64_t* number) {
    skip_space(reader);
    const uint64_t start = reader->position;
    uint64_t found = 0;
    bool fits = true;
    while (reader->position < reader->end && reader->bytes[reader->position] >= '0' &&
           reader->bytes[reader->position] <= '9') {
        const uint64_t digit = (uint64_t)reader->bytes[reader->position++] - '0';
        fits = fits && !__builtin_mul_overflow(found, 10, &found) &&
               !__builtin_add_overflow(found, digit, &found);
    }
    const uint64_t digits = reader->position - start;
    char text[16];
    if (digits == 0) {
        return JSON_FAIL(reader, WEIR_BAD_FORMAT, start, field,
                         "found %s, expected an unsigned integer", show_next(reader, text));
    }
    if (!fits || (digits > 1 && reader->bytes[start] == '0')) {
        return JSON_FAIL(reader, WEIR_BAD_FORMAT, start, field,
                         "found %" PRIu64 " digits that are no integer of 64 bits", digits);
    }
    *number = found;
    return WEIR_OK;
}

static bool take_word(json_reader* reader, const char* word) {
    const size_t length = strlen(word);
    if (reader->end - reader->position < length ||
        memcmp(reader->bytes + reader->position, word, length) != 0) {
        return false;
    }
    reader->position += length;
    return true;
}

static void take_digits(json_reader* reader) {
    while (reader->position < reader->end && reader->bytes[reader->position] >= '0' &&
           reader->bytes[reader->position] <= '9') {
        reader->position++;
    }
}

static bool take_one_of(json_reader* reader, const char* bytes) {
    const bool found = reader->position < reader->end && reader->bytes[reader->position] != 0 &&
                       strchr(bytes, reader->bytes[reader->position]) != NULL;
    reader->position += found ? 1 : 0;
    return found;
}

// A number by the grammar of RFC 8259, section 6; leading zeros are let pass.
static bool take_number(json_reader* reader) {
    take_one_of(reader, "-");
    uint64_t start = reader->position;
    take_digits(reader);
    bool valid = reader->position > start;
    if (valid && take_one_of(reader, ".")) {
        start = reader->position;
        take_digits(reader);
        valid = reader->position > start;
    }
    if (valid && take_one_of(reader, "eE")) {
        take_one_of(reader, "+-");
        start = reader->position;
        take_digits(reader);
        valid = reader->position > start;
    }
    return valid;
}

static weir_status skip_scalar(json_reader* reader, const char* field) {
    if (reader->position < reader->end && reader->bytes[reader->position] == '"') {
        weir_text ignored;
        return json_read_string(reader, field, &ignored);
    }
    if (take_word(reader, "true") || take_word(reader, "false") || take_word(reader, "null") ||
        take_number(reader)) {
        return WEIR_OK;
    }
    char text[16];
    return JSON_FAIL(reader, WEIR_BAD_FORMAT, reader->position, field, "found %s, expected a value",
                     show_next(reader, text));
}

// The open brackets of what is being skipped lie on a stack of fixed size: a file decides neither
// about recursion nor about memory.
weir_status json_skip_value(json_reader* reader, const char* field) {
    char closers[JSON_DEPTH_MAX];
    bool firsts[JSON_DEPTH_MAX];
    uint32_t depth = 0;
    do {
        bool more = true;
        if (depth > 0) {
            WEIR_TRY(json_next(reader, closers[depth - 1], &firsts[depth - 1], field, &more));
            if (!more) {
                depth--;
                continue;
            }
            if (closers[depth - 1] == '}') {
                weir_text ignored;
                WEIR_TRY(json_read_string(reader, field, &ignored));
                WEIR_TRY(json_expect(reader, ':', field));
            }
        }
        const bool object = json_take(reader, '{');
        if (!object && !json_take(reader, '[')) {
            WEIR_TRY(skip_scalar(reader, field));
            continue;
        }
        if (depth == JSON_DEPTH_MAX) {
            return JSON_FAIL(reader, WEIR_BAD_FORMAT, reader->position, field,
                             "found values nested deeper than %d", JSON_DEPTH_MAX);
        }
        closers[depth] = object ? '}' : ']';
        firsts[depth++] = true;
    } while (depth > 0);
    return WEIR_OK;
}

static uint64_t put_utf8(uint32_t character, char* bytes) {
    if (character < 0x80) {
        bytes[0] = (char)character;
        return 1;
    }
    const uint32_t length = character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    for (uint32_t i = length - 1; i > 0; i--) {
        bytes[i] = (char)(0x80 | (character & 0x3F));
        character >>= 6;
    }
    bytes[0] = (char)(((0xF00 >> length) & 0xFF) | character);
    return length;
}

uint64_t json_string_decode(weir_text raw, char* bytes) {
    uint64_t length = 0;
    for (uint64_t i = 0; i < raw.length;) {
        if (raw.bytes[i] != '\\') {
            bytes[length++] = raw.bytes[i++];
            continue;
        }
        uint32_t character = 0;
        const uint64_t step = read_escape(raw.bytes + i, raw.length - i, &character);
        if (step == 0) { // it was an escape before the bytes changed
            i++;
            continue;
        }
        length += put_utf8(character, bytes + length);
        i += step;
    }
    return length;
}
