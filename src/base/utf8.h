// Well-formed UTF-8 (RFC 3629).
#ifndef WEIR_BASE_UTF8_H
#define WEIR_BASE_UTF8_H

#include <weir/text.h>

// Returns the bytes of the character at `bytes`, of which `left` (>= 1) can be read; 0 when it is
// not well-formed.
uint64_t utf8_character_length(const uint8_t* bytes, uint64_t left);

// Tells whether all of `string` is UTF-8 without NUL.
bool utf8_is_text(weir_text string);

#endif
