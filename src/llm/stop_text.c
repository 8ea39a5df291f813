// Every place is compared with every text: both are short, and a pass of a model takes longer by
// orders of magnitude.
#include "stop_text.h"

#include <string.h>

weir_status weir_stop_text_check(const weir_text* texts, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (!texts || texts[i].length == 0 || texts[i].length > WEIR_STOP_BYTES_MAX) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "stop text %u has %llu bytes; expected 1 to %d",
                             i, texts ? (unsigned long long)texts[i].length : 0,
                             WEIR_STOP_BYTES_MAX);
        }
    }
    return WEIR_OK;
}

// Returns the bytes of the longest text that ends at `end`, 0 for none.
static size_t ends_at(const stop_text* stop, size_t end) {
    size_t longest = 0;
    for (uint32_t i = 0; i < stop->count; i++) {
        const size_t length = (size_t)stop->texts[i].length;
        if (length > longest && length <= end &&
            memcmp(stop->bytes + end - length, stop->texts[i].bytes, length) == 0) {
            longest = length;
        }
    }
    return longest;
}

// Tells whether the last `length` bytes of the first `end` begin a longer text.
static bool may_grow(const stop_text* stop, size_t end, size_t length) {
    for (uint32_t i = 0; i < stop->count; i++) {
        if (stop->texts[i].length > length &&
            memcmp(stop->bytes + end - length, stop->texts[i].bytes, length) == 0) {
            return true;
        }
    }
    return false;
}

size_t weir_stop_text_take(stop_text* stop, const char* bytes, size_t length, bool* found) {
    const size_t before = stop->held;
    const size_t all = before + length;
    memcpy(stop->bytes + before, bytes, length);
    stop->held = all;
    // The text that is whole first ends it, whatever the pieces are cut like.
    for (size_t end = before + 1; end <= all; end++) {
        const size_t whole = ends_at(stop, end);
        if (whole > 0) {
            *found = true;
            return end - whole;
        }
    }
    size_t held = all < WEIR_STOP_BYTES_MAX ? all : WEIR_STOP_BYTES_MAX - 1;
    while (held > 0 && !may_grow(stop, all, held)) {
        held--;
    }
    *found = false;
    return all - held;
}

void weir_stop_text_drop(stop_text* stop, size_t count) {
    stop->held -= count;
    memmove(stop->bytes, stop->bytes + count, stop->held);
}
