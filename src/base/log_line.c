#include "base/log_line.h"

#include <stdarg.h>
#include <stdio.h>

void log_line(const weir_log* log, weir_log_level level, const char* format, ...) {
    if (!log->write || level > log->level) {
        return;
    }
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    log->write(log->context, level, text);
}
