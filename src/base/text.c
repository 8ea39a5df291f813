#include <weir/text.h>

#include <stdio.h>
#include <string.h>

// An escape is written whole or not at all. Where the end does not fit, the text goes back to the
// last place that leaves room for the dots.
char* weir_text_escape(weir_text string, char* text, size_t capacity) {
    static const char dots[] = "...";
    if (capacity == 0) {
        return text;
    }
    size_t length = 0;
    size_t cut = 0; // the last length after which the dots still fit
    for (uint64_t i = 0; i < string.length; i++) {
        const uint8_t byte = (uint8_t)string.bytes[i];
        char piece[8];
        if (byte == '"' || byte == '\\') {
            snprintf(piece, sizeof piece, "\\%c", byte);
        } else if (byte < 0x20 || byte > 0x7E) {
            snprintf(piece, sizeof piece, "\\x%02x", byte);
        } else {
            snprintf(piece, sizeof piece, "%c", byte);
        }
        const size_t piece_length = strlen(piece);
        if (length + piece_length >= capacity) {
            snprintf(text + cut, capacity - cut, "%s", dots);
            return text;
        }
        memcpy(text + length, piece, piece_length);
        length += piece_length;
        cut = length + sizeof dots <= capacity ? length : cut;
    }
    text[length] = '\0';
    return text;
}
