// Writing to the log that a caller gave.
#ifndef WEIR_BASE_LOG_LINE_H
#define WEIR_BASE_LOG_LINE_H

#include <weir/log.h>

// Formats one line and hands it to the callback, when there is one that wants this level.
void log_line(const weir_log* log, weir_log_level level, const char* format, ...) WEIR_PRINTF(3, 4);

#endif
