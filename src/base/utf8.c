#include "base/utf8.h"

// The ranges are those of RFC 3629, section 4: no overlong form, no surrogate, nothing past
// U+10FFFF.
uint64_t utf8_character_length(const uint8_t* bytes, uint64_t left) {
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
bool utf8_is_text(weir_text string) {
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
