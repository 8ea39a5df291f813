#include <weir/status.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_CAPACITY 1024
#define PLACE_CAPACITY 96

static _Thread_local char last_message[MESSAGE_CAPACITY];
static _Thread_local char last_place[PLACE_CAPACITY];

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
    return last_message;
}

const char* weir_last_error_place(void) {
    return last_place;
}

// Keeps head and tail of a text that does not fit: the tail holds what was found and expected.
static void shorten_middle(char* text, const char* full, size_t full_length) {
    static const char gap[] = " ... ";
    const size_t room = MESSAGE_CAPACITY - 1 - (sizeof gap - 1);
    const size_t head = room / 2;
    const size_t tail = room - head;
    memcpy(text, full, head);
    memcpy(text + head, gap, sizeof gap - 1);
    memcpy(text + head + sizeof gap - 1, full + full_length - tail, tail);
    text[MESSAGE_CAPACITY - 1] = '\0';
}

weir_status weir_status_fail(weir_status status, const char* file, int line, const char* format,
                             ...) {
    char full[8 * MESSAGE_CAPACITY]; // two of the longest paths
    va_list arguments;
    va_start(arguments, format);
    const int written = vsnprintf(full, sizeof full, format, arguments);
    va_end(arguments);
    if (written < 0) {
        full[0] = '\0';
    }
    const size_t length = strlen(full);
    if (length < MESSAGE_CAPACITY) {
        memcpy(last_message, full, length + 1);
    } else {
        shorten_middle(last_message, full, length);
    }
    last_place[0] = '\0';
    if (file) {
        snprintf(last_place, sizeof last_place, "%s:%d", file, line);
    }
    return status;
}
