#include <weir/status.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/last_error.h"

static _Thread_local last_error last;

const char* weir_version(void) {
    return "0.1.0";
}

const char* weir_status_text(weir_status status) {
    switch (status) {
#define STATUS_CASE(name, value, text)                                                             \
    case WEIR_##name:                                                                              \
        return text;
        WEIR_STATUS_LIST(STATUS_CASE)
#undef STATUS_CASE
    case WEIR_STATUS_COUNT:
        break;
    }
    return "unknown status";
}

const char* weir_last_error(void) {
    return last.message;
}

const char* weir_last_error_place(void) {
    return last.place;
}

void last_error_take(last_error* taken) {
    *taken = last;
    last = (last_error){{0}, {0}};
}

void last_error_put(const last_error* taken) {
    last = *taken;
}

// Keeps head and tail of a text that does not fit: the tail holds what was found and expected.
static void shorten_middle(char* text, const char* full, size_t full_length) {
    static const char gap[] = " ... ";
    const size_t room = LAST_ERROR_MESSAGE - 1 - (sizeof gap - 1);
    const size_t head = room / 2;
    const size_t tail = room - head;
    memcpy(text, full, head);
    memcpy(text + head, gap, sizeof gap - 1);
    memcpy(text + head + sizeof gap - 1, full + full_length - tail, tail);
    text[LAST_ERROR_MESSAGE - 1] = '\0';
}

weir_status weir_status_fail(weir_status status, const char* file, int line, const char* format,
                             ...) {
    char full[8 * LAST_ERROR_MESSAGE]; // two of the longest paths
    va_list arguments;
    va_start(arguments, format);
    const int written = vsnprintf(full, sizeof full, format, arguments);
    va_end(arguments);
    if (written < 0) {
        full[0] = '\0';
    }
    const size_t length = strlen(full);
    if (length < LAST_ERROR_MESSAGE) {
        memcpy(last.message, full, length + 1);
    } else {
        shorten_middle(last.message, full, length);
    }
    last.place[0] = '\0';
    if (file) {
        snprintf(last.place, sizeof last.place, "%s:%d", file, line);
    }
    return status;
}
