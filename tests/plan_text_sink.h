// Where the planner's texts are written in tests.
#ifndef WEIR_TESTS_PLAN_TEXT_SINK_H
#define WEIR_TESTS_PLAN_TEXT_SINK_H

#include "testing.h"

#include <weir/plan_report.h>

typedef struct text_sink {
    char* bytes; // terminated
    size_t length;
    size_t room; // refuses what goes beyond; 0 = any
} text_sink;

static inline bool sink_write(void* context, const char* bytes, size_t length) {
    text_sink* sink = context;
    if (sink->room > 0 && length > sink->room - sink->length) {
        return false;
    }
    sink->bytes = realloc(sink->bytes, sink->length + length + 1);
    assert_non_null(sink->bytes);
    memcpy(sink->bytes + sink->length, bytes, length);
    sink->length += length;
    sink->bytes[sink->length] = '\0';
    return true;
}

static inline void sink_free(text_sink* sink) {
    free(sink->bytes);
    *sink = (text_sink){0};
}

#endif
