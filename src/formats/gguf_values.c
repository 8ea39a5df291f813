#include "formats/gguf_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

// Parsing proved that every value lies in the file. What is read again here may have changed since,
// where the bytes are a mapping and somebody writes to the file or cuts it short: nothing that is
// read decides about bounds alone.

static weir_status require(const weir_gguf* gguf, const char* key, const weir_gguf_value** value) {
    *value = weir_gguf_find(gguf, key);
    if (!*value) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "%s: key \"%s\" is missing", gguf->files[0].name, key);
    }
    return WEIR_OK;
}

// Writes "u32", "array of string"; returns `text`.
static char* format_type(const weir_gguf_value* value, char* text, size_t capacity) {
    snprintf(text, capacity, "%s%s", value->type == WEIR_GGUF_ARRAY ? "array of " : "",
             weir_gguf_type_describe(value->element_type)->name);
    return text;
}

static weir_status fail_type(const weir_gguf* gguf, const weir_gguf_value* value, const char* key,
                             const char* expected) {
    char type[32];
    return WEIR_FAIL(WEIR_BAD_FORMAT, "%s: offset %" PRIu64 ": key \"%s\": found %s, expected %s",
                     gguf->files[0].name,
                     (uint64_t)((const uint8_t*)value->bytes - gguf->files[0].bytes), key,
                     format_type(value, type, sizeof type), expected);
}

// One loader for all number types; the member that `kind` names holds the value without loss.
typedef enum number_kind { NUMBER_NONE, NUMBER_UNSIGNED, NUMBER_SIGNED, NUMBER_FLOAT } number_kind;

typedef struct loaded_number {
    number_kind kind;
    uint64_t u; // NUMBER_UNSIGNED
    int64_t i;  // NUMBER_SIGNED
    double f;   // NUMBER_FLOAT
} loaded_number;

// Values lie unaligned in the file.
#define LOAD_CASE(tag, c_type, kind_value, member)                                                 \
    case WEIR_GGUF_##tag: {                                                                        \
        c_type loaded;                                                                             \
        memcpy(&loaded, bytes, sizeof loaded);                                                     \
        return (loaded_number){.kind = (kind_value), .member = loaded};                            \
    }

static loaded_number load_number(weir_gguf_type type, const uint8_t* bytes) {
    switch (type) {
        LOAD_CASE(U8, uint8_t, NUMBER_UNSIGNED, u)
        LOAD_CASE(BOOL, uint8_t, NUMBER_UNSIGNED, u)
        LOAD_CASE(U16, uint16_t, NUMBER_UNSIGNED, u)
        LOAD_CASE(U32, uint32_t, NUMBER_UNSIGNED, u)
        LOAD_CASE(U64, uint64_t, NUMBER_UNSIGNED, u)
        LOAD_CASE(I8, int8_t, NUMBER_SIGNED, i)
        LOAD_CASE(I16, int16_t, NUMBER_SIGNED, i)
        LOAD_CASE(I32, int32_t, NUMBER_SIGNED, i)
        LOAD_CASE(I64, int64_t, NUMBER_SIGNED, i)
        LOAD_CASE(F32, float, NUMBER_FLOAT, f)
        LOAD_CASE(F64, double, NUMBER_FLOAT, f)
    case WEIR_GGUF_STRING:
    case WEIR_GGUF_ARRAY:
        break;
    }
    return (loaded_number){.kind = NUMBER_NONE};
}

#undef LOAD_CASE

weir_status weir_gguf_get_u64(const weir_gguf* gguf, const char* key, uint64_t* number) {
    const weir_gguf_value* value = NULL;
    WEIR_TRY(require(gguf, key, &value));
    const loaded_number found = load_number(value->type, value->bytes);
    const bool is_integer = found.kind == NUMBER_UNSIGNED || found.kind == NUMBER_SIGNED;
    if (!is_integer || value->type == WEIR_GGUF_BOOL) {
        return fail_type(gguf, value, key, "an integer");
    }
    if (found.kind == NUMBER_SIGNED && found.i < 0) {
        return WEIR_FAIL(
            WEIR_BAD_FORMAT,
            "%s: offset %" PRIu64 ": key \"%s\": found %" PRId64 ", expected at least 0",
            gguf->files[0].name, (uint64_t)((const uint8_t*)value->bytes - gguf->files[0].bytes),
            key, found.i);
    }
    *number = found.kind == NUMBER_SIGNED ? (uint64_t)found.i : found.u;
    return WEIR_OK;
}

weir_status weir_gguf_get_f64(const weir_gguf* gguf, const char* key, double* number) {
    const weir_gguf_value* value = NULL;
    WEIR_TRY(require(gguf, key, &value));
    const loaded_number found = load_number(value->type, value->bytes);
    if (found.kind != NUMBER_FLOAT) {
        return fail_type(gguf, value, key, "f32 or f64");
    }
    *number = found.f;
    return WEIR_OK;
}

// The parser let only 0 and 1 pass.
weir_status weir_gguf_get_bool(const weir_gguf* gguf, const char* key, bool* flag) {
    const weir_gguf_value* value = NULL;
    WEIR_TRY(require(gguf, key, &value));
    if (value->type != WEIR_GGUF_BOOL) {
        return fail_type(gguf, value, key, "bool");
    }
    *flag = *(const uint8_t*)value->bytes != 0;
    return WEIR_OK;
}

// Returns the end of a string that begins `left` bytes, 8 or more, before the end of its value.
static const uint8_t* load_string(const uint8_t* bytes, uint64_t left, weir_text* string) {
    uint64_t length = 0;
    memcpy(&length, bytes, sizeof length);
    length = length < left - sizeof length ? length : left - sizeof length;
    *string = (weir_text){(const char*)bytes + sizeof length, length};
    return bytes + sizeof length + length;
}

weir_status weir_gguf_get_string(const weir_gguf* gguf, const char* key, weir_text* string) {
    const weir_gguf_value* value = NULL;
    WEIR_TRY(require(gguf, key, &value));
    if (value->type != WEIR_GGUF_STRING) {
        return fail_type(gguf, value, key, "string");
    }
    load_string(value->bytes, value->byte_length, string);
    return WEIR_OK;
}

weir_status weir_gguf_get_array(const weir_gguf* gguf, const char* key, weir_gguf_type element_type,
                                const weir_gguf_value** array) {
    const weir_gguf_value* value = NULL;
    WEIR_TRY(require(gguf, key, &value));
    if (value->type != WEIR_GGUF_ARRAY || value->element_type != element_type) {
        const weir_gguf_type_info* info = weir_gguf_type_describe((uint32_t)element_type);
        char expected[32];
        snprintf(expected, sizeof expected, "array of %s", info ? info->name : "no type");
        return fail_type(gguf, value, key, expected);
    }
    *array = value;
    return WEIR_OK;
}

// The cursor is the address of the next string. It cannot be mistaken for the start: a string takes
// at least the eight bytes of its length.
bool weir_gguf_next_string(const weir_gguf_value* array, const void** cursor, weir_text* string) {
    const uint8_t* start = array->bytes;
    const uint8_t* next = *cursor ? *cursor : start;
    const uint64_t left = array->byte_length - (uint64_t)(next - start);
    if (array->type != WEIR_GGUF_ARRAY || array->element_type != WEIR_GGUF_STRING ||
        left < sizeof(uint64_t)) {
        return false;
    }
    *cursor = load_string(next, left, string);
    return true;
}

// Single values count as arrays of one: their element type is their type. Strings give no number.
static loaded_number load_element(const weir_gguf_value* array, uint64_t index) {
    if (index >= array->count) {
        return (loaded_number){.kind = NUMBER_NONE};
    }
    const uint64_t element_size = weir_gguf_type_describe(array->element_type)->byte_size;
    return load_number(array->element_type, (const uint8_t*)array->bytes + index * element_size);
}

int64_t weir_gguf_element_i64(const weir_gguf_value* array, uint64_t index) {
    const loaded_number found = load_element(array, index);
    switch (found.kind) {
    case NUMBER_UNSIGNED:
        return found.u > INT64_MAX ? INT64_MAX : (int64_t)found.u;
    case NUMBER_SIGNED:
        return found.i;
    case NUMBER_FLOAT:
        // Converting a float that does not fit is undefined in C.
        if (found.f >= 0x1p63 || found.f < -0x1p63) {
            return found.f > 0 ? INT64_MAX : INT64_MIN;
        }
        return found.f == found.f ? (int64_t)found.f : 0;
    case NUMBER_NONE:
        break;
    }
    return 0;
}

double weir_gguf_element_f64(const weir_gguf_value* array, uint64_t index) {
    const loaded_number found = load_element(array, index);
    switch (found.kind) {
    case NUMBER_UNSIGNED:
        return (double)found.u;
    case NUMBER_SIGNED:
        return (double)found.i;
    case NUMBER_FLOAT:
        return found.f;
    case NUMBER_NONE:
        break;
    }
    return 0;
}
