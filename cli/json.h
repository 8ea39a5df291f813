// Writes JSON to a stream, on one line. Keys are NULL inside arrays and for the outermost value.
#ifndef WEIR_CLI_JSON_H
#define WEIR_CLI_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct json {
    FILE* file;
    bool follows; // a value stands before the next one: a comma is due
} json;

void json_begin(json* writer, const char* key, char bracket); // '{' or '['
void json_end(json* writer, char bracket);                    // '}' or ']'
void json_u64(json* writer, const char* key, uint64_t number);
void json_f64(json* writer, const char* key, double number); // null where it is not finite
void json_micros(json* writer, const char* key, uint64_t duration_ns); // microseconds, exact
void json_bool(json* writer, const char* key, bool flag);
void json_text(json* writer, const char* key, const char* text);

// Writes any bytes as a string: each byte that is no part of valid UTF-8 becomes U+FFFD.
void json_bytes(json* writer, const char* key, const char* bytes, size_t length);

#endif
