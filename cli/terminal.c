#include "terminal.h"

#include <unistd.h>

// The controls of ISO 6429: C0, DEL, and C1 (U+0080 to U+009F), which UTF-8 writes as 0xC2 and the
// same byte, and terminals of eight bits take as that byte alone.
static bool is_c1(unsigned char byte) {
    return byte >= 0x80 && byte <= 0x9F;
}

static bool is_continuation(unsigned char byte) {
    return byte >= 0x80 && byte <= 0xBF;
}

static void put_filtered(terminal* t, unsigned char byte) {
    if (t->held) {
        t->held = false;
        if (is_continuation(byte)) {
            if (!is_c1(byte)) {
                putc(0xC2, t->file);
            }
            putc(is_c1(byte) ? '?' : byte, t->file);
            return;
        }
        putc('?', t->file); // the character ends before its second byte
    }
    const bool continues = is_continuation(byte) && t->awaited > 0;
    if (byte == 0xC2) {
        t->held = true;
    } else if (continues || byte > 0xC2) {
        putc(byte, t->file);
    } else {
        const bool is_text = (byte >= 0x20 && byte <= 0x7E) || byte == '\n' || byte == '\t';
        putc(is_text ? byte : '?', t->file);
    }
    t->awaited = continues      ? t->awaited - 1
                 : byte >= 0xF0 ? 3
                 : byte >= 0xE0 ? 2
                 : byte > 0xC2  ? 1
                                : 0;
}

void terminal_put(terminal* t, const char* bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        put_filtered(t, (unsigned char)bytes[i]);
    }
}

bool terminal_write(terminal* t, const char* bytes, size_t length) {
    if (!isatty(fileno(t->file))) {
        return fwrite(bytes, 1, length, t->file) == length && fflush(t->file) == 0;
    }
    terminal_put(t, bytes, length);
    return fflush(t->file) == 0;
}

bool terminal_finish(terminal* t) {
    if (t->held) {
        putc('?', t->file);
    }
    *t = (terminal){.file = t->file};
    return fflush(t->file) == 0;
}
