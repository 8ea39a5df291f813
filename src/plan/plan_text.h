// Text on its way to a caller's function, in pieces of some size. A failure is kept to the end.
#ifndef WEIR_PLAN_TEXT_H
#define WEIR_PLAN_TEXT_H

#include <weir/plan_report.h>

typedef struct plan_text {
    weir_plan_write_fn write;
    void* context;
    bool failed;
    size_t used;
    char piece[4096];
} plan_text;

void plan_text_bytes(plan_text* text, const char* bytes, size_t length);
void plan_text_string(plan_text* text, const char* string);
void plan_text_u64(plan_text* text, uint64_t number);

// Writes any bytes as a string of JSON: each that is no part of valid UTF-8 becomes U+FFFD.
void plan_text_quoted(plan_text* text, const char* bytes, size_t length);

// Writes the key of a member of a JSON object; it needs no escapes.
void plan_text_key(plan_text* text, const char* key);

// At most 255 bytes.
void plan_text_format(plan_text* text, const char* format, ...) WEIR_PRINTF(2, 3);

// Hands over what is left; WEIR_IO when the function refused anything.
WEIR_MUST_USE weir_status plan_text_finish(plan_text* text);

// Returns the bytes of the character that begins at `bytes`, 0 when it is no valid UTF-8.
size_t plan_text_character(const char* bytes, size_t length);

#endif
