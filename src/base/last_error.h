// The last error of a thread as a value: taken away while the thread runs something on behalf of
// others, and put back behind it.
#ifndef WEIR_BASE_LAST_ERROR_H
#define WEIR_BASE_LAST_ERROR_H

#define LAST_ERROR_MESSAGE 1024
#define LAST_ERROR_PLACE 96

typedef struct last_error {
    char message[LAST_ERROR_MESSAGE]; // what weir_last_error returns
    char place[LAST_ERROR_PLACE];     // what weir_last_error_place returns
} last_error;

// Takes the last error of this thread, which then has none.
void last_error_take(last_error* taken);

void last_error_put(const last_error* taken);

#endif
