// The texts that end generation, found in bytes that come piece by piece.
#ifndef WEIR_LLM_STOP_TEXT_H
#define WEIR_LLM_STOP_TEXT_H

#include <weir-llm/generate.h>

#define STOP_TEXT_CHUNK 1024 // most bytes that are taken at once

// Bytes are held back as long as they may be the beginning of one of the texts. Invariant between
// two calls: bytes[0, held) is the longest end of all that was taken that is the beginning of a
// text, but no whole one.
typedef struct stop_text {
    const weir_text* texts; // the caller's
    uint32_t count;
    size_t held;
    char bytes[WEIR_STOP_BYTES_MAX + STOP_TEXT_CHUNK];
} stop_text;

// Checks that no text is empty or longer than WEIR_STOP_BYTES_MAX.
//
// Errors: WEIR_INVALID_ARGUMENT.
WEIR_MUST_USE weir_status weir_stop_text_check(const weir_text* texts, uint32_t count);

// Takes at most STOP_TEXT_CHUNK bytes. Returns how many of `bytes` are certain: those before a text
// that is whole now, which `found` tells, or before what is held back.
size_t weir_stop_text_take(stop_text* stop, const char* bytes, size_t length, bool* found);

// Forgets the first `count` bytes, once they were handed out.
void weir_stop_text_drop(stop_text* stop, size_t count);

#endif
