// JSON (RFC 8259) as it is written, without a tree: the caller brackets what it opens.
#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

// Returns the bytes of the character that begins at `bytes`, 0 when it is no valid UTF-8 (RFC 3629:
// no surrogates, nothing over-long, nothing past U+10FFFF).
static size_t character_length(const unsigned char* bytes, size_t length) {
    const unsigned char first = bytes[0];
    if (first < 0x80) {
        return 1;
    }
    const size_t wanted = first >= 0xC2 && first <= 0xDF   ? 2
                          : first >= 0xE0 && first <= 0xEF ? 3
                          : first >= 0xF0 && first <= 0xF4 ? 4
                                                           : 0;
    if (wanted == 0 || wanted > length) {
        return 0;
    }
    const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (bytes[1] < low || bytes[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < wanted; i++) {
        if (bytes[i] < 0x80 || bytes[i] > 0xBF) {
            return 0;
        }
    }
    return wanted;
}

// What the grammar asks for is escaped, and DEL.
static void write_ascii(FILE* file, unsigned char c) {
    switch (c) {
    case '"':
        fputs("\\\"", file);
        return;
    case '\\':
        fputs("\\\\", file);
        return;
    case '\n':
        fputs("\\n", file);
        return;
    case '\t':
        fputs("\\t", file);
        return;
    case '\r':
        fputs("\\r", file);
        return;
    default:
        break;
    }
    if (c < 0x20 || c == 0x7F) {
        fprintf(file, "\\u%04x", c);
    } else {
        fputc(c, file);
    }
}

static void write_string(FILE* file, const char* bytes, size_t length) {
    const unsigned char* rest = (const unsigned char*)bytes;
    fputc('"', file);
    while (length > 0) {
        const size_t step = character_length(rest, length);
        if (step == 0) {
            fputs("\\ufffd", file);
        } else if (rest[0] == 0xC2 && rest[1] < 0xA0) { // a control, which a terminal may act on
            fprintf(file, "\\u%04x", rest[1]);
        } else if (step == 1) {
            write_ascii(file, *rest);
        } else {
            fwrite(rest, 1, step, file);
        }
        rest += step > 0 ? step : 1;
        length -= step > 0 ? step : 1;
    }
    fputc('"', file);
}

// Commas stand before every value but the first of its bracket.
static void write_key(json* writer, const char* key) {
    if (writer->follows) {
        fputs(", ", writer->file);
    }
    if (key) {
        write_string(writer->file, key, strlen(key));
        fputs(": ", writer->file);
    }
    writer->follows = true;
}

void json_begin(json* writer, const char* key, char bracket) {
    write_key(writer, key);
    fputc(bracket, writer->file);
    writer->follows = false;
}

void json_end(json* writer, char bracket) {
    fputc(bracket, writer->file);
    writer->follows = true;
}

void json_u64(json* writer, const char* key, uint64_t number) {
    write_key(writer, key);
    fprintf(writer->file, "%" PRIu64, number);
}

void json_f64(json* writer, const char* key, double number) {
    write_key(writer, key);
    if (isfinite(number)) {
        fprintf(writer->file, "%.10g", number);
    } else {
        fputs("null", writer->file);
    }
}

void json_micros(json* writer, const char* key, uint64_t duration_ns) {
    write_key(writer, key);
    fprintf(writer->file, "%" PRIu64 ".%03u", duration_ns / 1000, (unsigned)(duration_ns % 1000));
}

void json_bool(json* writer, const char* key, bool flag) {
    write_key(writer, key);
    fputs(flag ? "true" : "false", writer->file);
}

void json_text(json* writer, const char* key, const char* text) {
    json_bytes(writer, key, text, strlen(text));
}

void json_bytes(json* writer, const char* key, const char* bytes, size_t length) {
    write_key(writer, key);
    write_string(writer->file, bytes, length);
}
