#include "plan/plan_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// Reports go out in pieces of the buffer inside plan_text, so that none takes memory of its own,
// whatever its length. The first write that fails silences all that follow, and is told at the end:
// callers print a whole report without looking after each word.

static void flush(plan_text* text) {
    if (text->used > 0 && !text->failed) {
        text->failed = !text->write(text->context, text->piece, text->used);
    }
    text->used = 0;
}

void plan_text_bytes(plan_text* text, const char* bytes, size_t length) {
    while (length > 0) {
        const size_t room = sizeof text->piece - text->used;
        const size_t step = length < room ? length : room;
        memcpy(text->piece + text->used, bytes, step);
        text->used += step;
        bytes += step;
        length -= step;
        if (text->used == sizeof text->piece) {
            flush(text);
        }
    }
}

void plan_text_string(plan_text* text, const char* string) {
    plan_text_bytes(text, string, strlen(string));
}

// By hand: a plan of a million buffers prints several million numbers.
void plan_text_u64(plan_text* text, uint64_t number) {
    char digits[20];
    size_t first = sizeof digits;
    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    plan_text_bytes(text, digits + first, sizeof digits - first);
}

void plan_text_key(plan_text* text, const char* key) {
    plan_text_string(text, "\"");
    plan_text_string(text, key);
    plan_text_string(text, "\": ");
}

void plan_text_format(plan_text* text, const char* format, ...) {
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length > 0) {
        const size_t made = (size_t)length;
        plan_text_bytes(text, line, made < sizeof line ? made : sizeof line - 1);
    }
}

weir_status plan_text_finish(plan_text* text) {
    flush(text);
    return text->failed ? WEIR_FAIL(WEIR_IO, "the text cannot be written") : WEIR_OK;
}

// RFC 3629: no surrogates, nothing over-long, nothing past U+10FFFF.
size_t plan_text_character(const char* bytes, size_t length) {
    const unsigned char* at = (const unsigned char*)bytes;
    const unsigned char first = length > 0 ? at[0] : 0;
    size_t wanted = 1;
    if (first >= 0x80) {
        wanted = first >= 0xC2 && first <= 0xDF   ? 2
                 : first >= 0xE0 && first <= 0xEF ? 3
                 : first >= 0xF0 && first <= 0xF4 ? 4
                                                  : 0;
    }
    if (wanted > length) {
        return 0;
    }
    const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    for (size_t i = 1; i < wanted; ++i) {
        if (at[i] < (i == 1 ? low : 0x80) || at[i] > (i == 1 ? high : 0xBF)) {
            return 0;
        }
    }
    return wanted;
}

// RFC 8259: quote, backslash and what is below the blank must be escaped.
void plan_text_quoted(plan_text* text, const char* bytes, size_t length) {
    plan_text_string(text, "\"");
    while (length > 0) {
        size_t step = plan_text_character(bytes, length);
        const unsigned char first = (unsigned char)*bytes;
        if (step == 0) {
            plan_text_string(text, "\\ufffd");
            step = 1;
        } else if (first < ' ') {
            plan_text_format(text, "\\u%04x", first);
        } else {
            plan_text_string(text, first == '"' || first == '\\' ? "\\" : "");
            plan_text_bytes(text, bytes, step);
        }
        bytes += step;
        length -= step;
    }
    plan_text_string(text, "\"");
}
