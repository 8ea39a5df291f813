// The order of texts: by bytes, a prefix before the longer one.
#ifndef WEIR_BASE_TEXT_COMPARE_H
#define WEIR_BASE_TEXT_COMPARE_H

#include <string.h>
#include <weir/text.h>

// Returns < 0, 0 or > 0. Texts of no bytes may have no place.
static inline int text_compare(weir_text a, weir_text b) {
    const size_t shared = (size_t)(a.length < b.length ? a.length : b.length);
    const int difference = shared > 0 ? memcmp(a.bytes, b.bytes, shared) : 0;
    return difference != 0 ? difference : (a.length > b.length) - (a.length < b.length);
}

#endif
