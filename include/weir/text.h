// Text inside a file: where it lies and how long it is. Not terminated, may hold any bytes.
//
//     char shown[64];
//     printf("%s\n", weir_text_escape(tensor->name, shown, sizeof shown));
#ifndef WEIR_TEXT_H
#define WEIR_TEXT_H

#include <weir/api.h>

WEIR_C_BEGIN

typedef struct weir_text {
    const char* bytes;
    uint64_t length;
} weir_text;

// Writes `string` to `text` with control bytes, quotes and bytes outside ASCII as escapes, cut to
// `capacity` with "..."; returns `text`. For names from untrusted files in messages.
//
// Threads: thread-safe.
WEIR_API char* weir_text_escape(weir_text string, char* text, size_t capacity);

WEIR_C_END

#endif
