// The log: a plain value {level, callback} given at device creation. Without it the library is
// silent.
#ifndef WEIR_LOG_H
#define WEIR_LOG_H

#include <weir/api.h>

WEIR_C_BEGIN

typedef enum weir_log_level {
    WEIR_LOG_ERROR = 0,
    WEIR_LOG_WARNING = 1,
    WEIR_LOG_INFO = 2,
    WEIR_LOG_DEBUG = 3,
} weir_log_level;

// Receives one line without a line break. May be called from any thread of the device.
typedef void (*weir_log_fn)(void* context, weir_log_level level, const char* text);

typedef struct weir_log {
    void* context;
    weir_log_fn write;    // NULL: nothing is logged
    weir_log_level level; // messages above this level are dropped
} weir_log;

WEIR_C_END

#endif
