// Text of a model on its way to standard output. A terminal acts on control characters, and tokens
// may hold any: there they come as '?', but for line feeds and tabs. Files and pipes get the text
// as it is.
#ifndef WEIR_CLI_TERMINAL_H
#define WEIR_CLI_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

// Where in a character of UTF-8 the text is: tokens may cut it anywhere. Only `file` is set at its
// beginning.
typedef struct terminal {
    FILE* file;
    unsigned awaited; // continuation bytes that belong to the character
    bool held;        // 0xC2 was read and not written: a control character may follow
} terminal;

// Writes bytes as a terminal may see them, whatever the file is.
void terminal_put(terminal* t, const char* bytes, size_t length);

// Writes bytes and flushes; false when that fails.
bool terminal_write(terminal* t, const char* bytes, size_t length);

// Writes what was held, at the end of the text.
bool terminal_finish(terminal* t);

#endif
