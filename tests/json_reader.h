// Just enough of a JSON reader for test data of known form: finds the next `"key":` and reads what
// follows it.
#ifndef WEIR_TESTS_JSON_READER_H
#define WEIR_TESTS_JSON_READER_H

#include "testing.h"

#include <ctype.h>

static inline const char* find_key(const char* text, const char* key) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char* found = strstr(text, quoted);
    assert_non_null(found);
    return found + strlen(quoted);
}

// Reads the numbers of the array behind the next `"key":`; returns how many there are.
static inline size_t read_ids(const char* text, const char* key, uint32_t* ids, size_t capacity) {
    const char* at = find_key(text, key);
    size_t count = 0;
    at += strspn(at, " \n[");
    while (*at != ']') {
        char* end = NULL;
        assert_true(count < capacity);
        ids[count++] = (uint32_t)strtoul(at, &end, 10);
        assert_ptr_not_equal(end, at);
        at = end + strspn(end, " \n,");
    }
    return count;
}

static inline size_t put_utf8(char* target, uint32_t code) {
    if (code < 0x80) {
        target[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        target[0] = (char)(0xC0 | code >> 6);
        target[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        target[0] = (char)(0xE0 | code >> 12);
        target[1] = (char)(0x80 | (code >> 6 & 0x3F));
        target[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    target[0] = (char)(0xF0 | code >> 18);
    target[1] = (char)(0x80 | (code >> 12 & 0x3F));
    target[2] = (char)(0x80 | (code >> 6 & 0x3F));
    target[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

static inline uint32_t read_hex(const char* at) {
    const char digits[5] = {at[0], at[1], at[2], at[3], '\0'};
    return (uint32_t)strtoul(digits, NULL, 16);
}

// Reads the string of the next `"key":`; returns its bytes.
static inline size_t read_string(const char* text, const char* key, char* target, size_t capacity) {
    const char* at = find_key(text, key);
    size_t length = 0;
    at += strspn(at, " \n") + 1;
    for (; *at != '"'; at++) {
        assert_true(length + 4 < capacity);
        if (*at != '\\') {
            target[length++] = *at;
            continue;
        }
        at++;
        if (*at == 'u') {
            uint32_t code = read_hex(at + 1);
            at += 4;
            if (code >= 0xD800 && code < 0xDC00) {
                code = 0x10000 + ((code - 0xD800) << 10) + (read_hex(at + 3) - 0xDC00);
                at += 6;
            }
            length += put_utf8(target + length, code);
        } else {
            target[length++] = *at == 'n' ? '\n' : *at == 't' ? '\t' : *at;
        }
    }
    target[length] = '\0';
    return length;
}

static inline const char* skip_space(const char* at) {
    return at + strspn(at, " \t\r\n");
}

// Returns the end of a string that begins at `at`, NULL when it is none (RFC 8259).
static inline const char* skip_string(const char* at) {
    if (*at++ != '"') {
        return NULL;
    }
    for (; *at != '"'; at++) {
        if ((unsigned char)*at < 0x20) {
            return NULL;
        }
        if (*at == '\\') {
            at++;
            const bool known = *at != '\0' && strchr("\"\\/bfnrtu", *at) != NULL;
            for (int i = 1; known && *at == 'u' && i <= 4; i++) {
                if (!isxdigit((unsigned char)at[i])) {
                    return NULL;
                }
            }
            if (!known) {
                return NULL;
            }
        }
    }
    return at + 1;
}

static inline const char* skip_number(const char* at) {
    at += *at == '-';
    const size_t whole = strspn(at, "0123456789");
    if (whole == 0 || (whole > 1 && *at == '0')) {
        return NULL;
    }
    at += whole;
    if (*at == '.') {
        const size_t digits = strspn(at + 1, "0123456789");
        at = digits > 0 ? at + 1 + digits : NULL;
    }
    if (at && (*at == 'e' || *at == 'E')) {
        at += at[1] == '+' || at[1] == '-' ? 2 : 1;
        const size_t digits = strspn(at, "0123456789");
        at = digits > 0 ? at + digits : NULL;
    }
    return at;
}

// Returns the end of the JSON value that begins at `at`, NULL when it is none.
static inline const char* skip_json(const char* at) {
    const char* const words[] = {"true", "false", "null"};
    at = skip_space(at);
    for (size_t i = 0; i < 3; i++) {
        if (strncmp(at, words[i], strlen(words[i])) == 0) {
            return at + strlen(words[i]);
        }
    }
    if (*at != '{' && *at != '[') {
        return *at == '"' ? skip_string(at) : skip_number(at);
    }
    const bool keyed = *at == '{';
    const char close = keyed ? '}' : ']';
    at = skip_space(at + 1);
    if (*at == close) {
        return at + 1;
    }
    for (;;) {
        if (keyed) {
            at = skip_string(skip_space(at));
            if (!at || *(at = skip_space(at)) != ':') {
                return NULL;
            }
            at++;
        }
        at = skip_json(at);
        if (!at) {
            return NULL;
        }
        at = skip_space(at);
        if (*at == close) {
            return at + 1;
        }
        if (*at++ != ',') {
            return NULL;
        }
    }
}

// Fails unless `text` is one JSON value and nothing else.
static inline void assert_json(const char* text) {
    const char* end = skip_json(text);
    if (!end || *skip_space(end) != '\0') {
        fail_msg("no JSON: %.200s", text);
    }
}

static inline size_t count_of(const char* text, const char* part) {
    size_t count = 0;
    for (const char* at = text; (at = strstr(at, part)) != NULL; at += strlen(part)) {
        count++;
    }
    return count;
}

#endif
