#include "gguf_builder.h"

#include <math.h>
#include <time.h>

// The values that the builder has no function for.
static void put_raw(gguf_builder* builder, const char* key, weir_gguf_type type, const void* bytes,
                    size_t byte_size) {
    gguf_begin_value(builder, key, type);
    gguf_append(&builder->values, bytes, byte_size);
}

#define PUT_NUMBER(builder, key, type, c_type, number)                                             \
    put_raw((builder), (key), (type), &(c_type){number}, sizeof(c_type))

typedef struct parsed {
    uint8_t* bytes;
    size_t byte_size;
    weir_gguf* gguf;
} parsed;

static parsed parse(gguf_builder* builder) {
    parsed file = {0};
    file.bytes = gguf_builder_finish(builder, &file.byte_size);
    assert_ok(weir_gguf_parse(NULL, file.bytes, file.byte_size, "small.gguf", &file.gguf));
    return file;
}

static void release(parsed* file) {
    weir_gguf_destroy(file->gguf);
    free(file->bytes);
}

// Parses bytes that must be refused; frees them.
static void refuse_bytes(uint8_t* bytes, size_t byte_size, weir_status status, const char* part) {
    weir_gguf* gguf = (weir_gguf*)&status;
    assert_status(weir_gguf_parse(NULL, bytes, byte_size, "bad.gguf", &gguf), status);
    assert_ptr_equal(gguf, &status);
    assert_message_has("bad.gguf: offset ");
    assert_message_has(part);
    free(bytes);
}

static void refuse(gguf_builder* builder, weir_status status, const char* part) {
    size_t byte_size = 0;
    uint8_t* bytes = gguf_builder_finish(builder, &byte_size);
    refuse_bytes(bytes, byte_size, status, part);
}

static bool string_is(weir_text string, const char* text) {
    return string.length == strlen(text) && memcmp(string.bytes, text, strlen(text)) == 0;
}

static void put_numbers(gguf_builder* builder) {
    PUT_NUMBER(builder, "u8", WEIR_GGUF_U8, uint8_t, 200);
    PUT_NUMBER(builder, "i8", WEIR_GGUF_I8, int8_t, 100);
    PUT_NUMBER(builder, "u16", WEIR_GGUF_U16, uint16_t, 60000);
    PUT_NUMBER(builder, "i16", WEIR_GGUF_I16, int16_t, 30000);
    PUT_NUMBER(builder, "u32", WEIR_GGUF_U32, uint32_t, 4000000000u);
    PUT_NUMBER(builder, "i32", WEIR_GGUF_I32, int32_t, 2000000000);
    PUT_NUMBER(builder, "u64", WEIR_GGUF_U64, uint64_t, UINT64_MAX);
    PUT_NUMBER(builder, "i64", WEIR_GGUF_I64, int64_t, INT64_MAX);
    PUT_NUMBER(builder, "negative", WEIR_GGUF_I8, int8_t, -1);
    PUT_NUMBER(builder, "f32", WEIR_GGUF_F32, float, 0.5f);
    PUT_NUMBER(builder, "f64", WEIR_GGUF_F64, double, -0.25);
    gguf_put_bool(builder, "bool", true);
    gguf_put_string(builder, "string", "a \"b\"");
    gguf_put_string(builder, "nothing", "");
}

static void integers_come_from_every_type_that_holds_them(void** state) {
    (void)state;
    gguf_builder builder = {0};
    put_numbers(&builder);
    parsed file = parse(&builder);
    const struct {
        const char* key;
        uint64_t number;
    } expected[] = {{"u8", 200},         {"i8", 100},         {"u16", 60000},
                    {"i16", 30000},      {"u32", 4000000000}, {"i32", 2000000000},
                    {"u64", UINT64_MAX}, {"i64", INT64_MAX}};
    uint64_t number = 0;
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        assert_ok(weir_gguf_get_u64(file.gguf, expected[i].key, &number));
        assert_true(number == expected[i].number);
    }
    number = 7;
    assert_status(weir_gguf_get_u64(file.gguf, "negative", &number), WEIR_BAD_FORMAT);
    assert_message_has("key \"negative\": found -1, expected at least 0");
    assert_status(weir_gguf_get_u64(file.gguf, "f32", &number), WEIR_BAD_FORMAT);
    assert_status(weir_gguf_get_u64(file.gguf, "bool", &number), WEIR_BAD_FORMAT);
    assert_status(weir_gguf_get_u64(file.gguf, "string", &number), WEIR_BAD_FORMAT);
    assert_message_has("small.gguf: offset ");
    assert_message_has("found string, expected an integer");
    assert_status(weir_gguf_get_u64(file.gguf, "absent", &number), WEIR_NOT_FOUND);
    assert_message_has("small.gguf: key \"absent\"");
    assert_int_equal(number, 7);
    release(&file);
}

static void floats_bools_and_strings_need_their_type(void** state) {
    (void)state;
    gguf_builder builder = {0};
    put_numbers(&builder);
    parsed file = parse(&builder);
    double number = 0;
    bool flag = false;
    weir_text string = {0};
    assert_ok(weir_gguf_get_f64(file.gguf, "f32", &number));
    assert_true(number == 0.5);
    assert_ok(weir_gguf_get_f64(file.gguf, "f64", &number));
    assert_true(number == -0.25);
    assert_status(weir_gguf_get_f64(file.gguf, "u8", &number), WEIR_BAD_FORMAT);
    assert_ok(weir_gguf_get_bool(file.gguf, "bool", &flag));
    assert_true(flag);
    assert_status(weir_gguf_get_bool(file.gguf, "u8", &flag), WEIR_BAD_FORMAT);
    assert_ok(weir_gguf_get_string(file.gguf, "string", &string));
    assert_true(string_is(string, "a \"b\""));
    assert_ok(weir_gguf_get_string(file.gguf, "nothing", &string));
    assert_int_equal(string.length, 0);
    assert_status(weir_gguf_get_string(file.gguf, "bool", &string), WEIR_BAD_FORMAT);
    assert_status(weir_gguf_get_string(file.gguf, "absent", &string), WEIR_NOT_FOUND);
    release(&file);
}

static void arrays_read_within_their_count_alone(void** state) {
    (void)state;
    gguf_builder builder = {0};
    const int16_t shorts[3] = {-1, 2, -3};
    const uint64_t longs[2] = {1, UINT64_MAX};
    const float floats[4] = {2.75f, -1e30f, 1e30f, (float)NAN};
    gguf_put_array(&builder, "shorts", WEIR_GGUF_I16, shorts, 3, sizeof shorts);
    gguf_put_array(&builder, "longs", WEIR_GGUF_U64, longs, 2, sizeof longs);
    gguf_put_array(&builder, "floats", WEIR_GGUF_F32, floats, 4, sizeof floats);
    gguf_put_array(&builder, "empty", WEIR_GGUF_U32, NULL, 0, 0);
    parsed file = parse(&builder);
    const weir_gguf_value* array = NULL;
    assert_ok(weir_gguf_get_array(file.gguf, "shorts", WEIR_GGUF_I16, &array));
    assert_int_equal(array->count, 3);
    assert_int_equal(weir_gguf_element_i64(array, 2), -3);
    assert_true(weir_gguf_element_f64(array, 0) == -1.0);
    assert_int_equal(weir_gguf_element_i64(array, 3), 0);
    assert_true(weir_gguf_element_f64(array, UINT64_MAX) == 0.0);
    assert_ok(weir_gguf_get_array(file.gguf, "longs", WEIR_GGUF_U64, &array));
    assert_true(weir_gguf_element_i64(array, 1) == INT64_MAX);
    assert_ok(weir_gguf_get_array(file.gguf, "floats", WEIR_GGUF_F32, &array));
    assert_int_equal(weir_gguf_element_i64(array, 0), 2);
    assert_true(weir_gguf_element_i64(array, 1) == INT64_MIN);
    assert_true(weir_gguf_element_i64(array, 2) == INT64_MAX);
    assert_int_equal(weir_gguf_element_i64(array, 3), 0);
    assert_ok(weir_gguf_get_array(file.gguf, "empty", WEIR_GGUF_U32, &array));
    assert_int_equal(array->count, 0);
    assert_status(weir_gguf_get_array(file.gguf, "shorts", WEIR_GGUF_U16, &array), WEIR_BAD_FORMAT);
    assert_message_has("found array of i16, expected array of u16");
    assert_status(weir_gguf_get_array(file.gguf, "no", WEIR_GGUF_U16, &array), WEIR_NOT_FOUND);
    release(&file);
}

static void strings_of_an_array_are_walked_in_order(void** state) {
    (void)state;
    gguf_builder builder = {0};
    const gguf_text texts[] = {GGUF_TEXT("one"), GGUF_TEXT(""), GGUF_TEXT("t\0o\xFF"),
                               GGUF_TEXT("")};
    gguf_put_strings(&builder, "texts", texts, 4);
    gguf_put_strings(&builder, "none", NULL, 0);
    gguf_put_u32(&builder, "number", 1);
    parsed file = parse(&builder);
    const weir_gguf_value* array = NULL;
    const void* cursor = NULL;
    weir_text string = {0};
    size_t count = 0;
    assert_ok(weir_gguf_get_array(file.gguf, "texts", WEIR_GGUF_STRING, &array));
    for (; weir_gguf_next_string(array, &cursor, &string); count++) {
        assert_int_equal(string.length, texts[count].length);
        assert_memory_equal(string.bytes, texts[count].bytes, string.length);
        assert_true((const uint8_t*)string.bytes >= file.bytes &&
                    (const uint8_t*)string.bytes <= file.bytes + file.byte_size);
    }
    assert_int_equal(count, 4);
    assert_false(weir_gguf_next_string(array, &cursor, &string));
    assert_int_equal(weir_gguf_element_i64(array, 0), 0);
    cursor = NULL;
    assert_false(weir_gguf_next_string(weir_gguf_find(file.gguf, "none"), &cursor, &string));
    assert_false(weir_gguf_next_string(weir_gguf_find(file.gguf, "number"), &cursor, &string));
    release(&file);
}

static void tensors_are_outermost_first_and_point_into_the_file(void** state) {
    (void)state;
    gguf_builder builder = {0};
    const uint64_t dims[4] = {64, 3, 1, 2};
    const uint8_t blocks[68 * 6] = {1, 2, 3};
    const float numbers[3] = {1, 2, 3};
    gguf_put_tensor(&builder, "blocks", 8, 4, dims, blocks, sizeof blocks);
    gguf_put_tensor(&builder, "numbers", 0, 1, dims + 1, numbers, sizeof numbers);
    parsed file = parse(&builder);
    const weir_gguf_tensor* tensor = weir_gguf_find_tensor(file.gguf, "blocks");
    const weir_shape shape = weir_shape_make(4, (int64_t[]){2, 1, 3, 64});
    assert_non_null(tensor);
    assert_true(weir_shape_equal(&tensor->shape, &shape));
    assert_int_equal(tensor->dtype, WEIR_DTYPE_Q8_0);
    assert_int_equal(tensor->byte_size, sizeof blocks);
    assert_memory_equal(file.bytes + tensor->byte_offset, blocks, sizeof blocks);
    tensor = weir_gguf_find_tensor(file.gguf, "numbers");
    assert_non_null(tensor);
    assert_int_equal(tensor->byte_size, 12);
    assert_int_equal(tensor->byte_offset % 32, 0);
    assert_memory_equal(file.bytes + tensor->byte_offset, numbers, sizeof numbers);
    uint64_t count = 0;
    assert_true(string_is(weir_gguf_tensors(file.gguf, &count)[0].name, "blocks"));
    assert_int_equal(count, 2);
    assert_null(weir_gguf_find_tensor(file.gguf, "number"));
    assert_null(weir_gguf_find_tensor(file.gguf, ""));
    release(&file);
}

static void an_empty_container_parses(void** state) {
    (void)state;
    gguf_builder builder = {0};
    parsed file = parse(&builder);
    uint64_t count = 7;
    weir_gguf_values(file.gguf, &count);
    assert_int_equal(count, 0);
    weir_gguf_tensors(file.gguf, &count);
    assert_int_equal(count, 0);
    assert_null(weir_gguf_find(file.gguf, "general.name"));
    assert_int_equal(weir_gguf_version(file.gguf), 3);
    assert_int_equal(weir_gguf_alignment(file.gguf), 32);
    assert_string_equal(weir_gguf_file_name(file.gguf), "small.gguf");
    release(&file);
    weir_gguf_destroy(NULL);
}

static void values_keep_the_order_of_the_file_and_all_are_found(void** state) {
    (void)state;
    enum { KEYS = 1000 };
    gguf_builder builder = {0};
    char key[32];
    for (uint32_t i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "key.%u", i * 7919 % KEYS);
        gguf_put_u32(&builder, key, i);
    }
    parsed file = parse(&builder);
    uint64_t count = 0;
    const weir_gguf_value* values = weir_gguf_values(file.gguf, &count);
    assert_int_equal(count, KEYS);
    for (uint32_t i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "key.%u", i * 7919 % KEYS);
        assert_true(string_is(values[i].key, key));
        assert_ptr_equal(weir_gguf_find(file.gguf, key), &values[i]);
        assert_int_equal(weir_gguf_element_i64(&values[i], 0), i);
    }
    assert_null(weir_gguf_find(file.gguf, "key."));
    assert_null(weir_gguf_find(file.gguf, "zzz"));
    release(&file);
}

static uint8_t* header(uint32_t version, uint64_t tensor_count, uint64_t value_count) {
    uint8_t* bytes = malloc(24);
    assert_non_null(bytes);
    memcpy(bytes, "GGUF", 4);
    memcpy(bytes + 4, &version, 4);
    memcpy(bytes + 8, &tensor_count, 8);
    memcpy(bytes + 16, &value_count, 8);
    return bytes;
}

static void versions_2_and_3_are_read_others_are_named(void** state) {
    (void)state;
    weir_gguf* gguf = NULL;
    uint8_t* second = header(2, 0, 0);
    assert_ok(weir_gguf_parse(NULL, second, 24, NULL, &gguf));
    assert_int_equal(weir_gguf_version(gguf), 2);
    weir_gguf_destroy(gguf);
    free(second);
    refuse_bytes(header(1, 0, 0), 24, WEIR_UNSUPPORTED, "version: found 1, expected 2 or 3");
    refuse_bytes(header(4, 0, 0), 24, WEIR_UNSUPPORTED, "version: found 4");
    refuse_bytes(header(0, 0, 0), 24, WEIR_UNSUPPORTED, "version: found 0");
    refuse_bytes(header(0x03000000, 0, 0), 24, WEIR_UNSUPPORTED, "byte order");
    uint8_t* magic = header(3, 0, 0);
    magic[3] = 0;
    refuse_bytes(magic, 24, WEIR_BAD_FORMAT, "found \"GGU\\x00\", expected \"GGUF\"");
    assert_status(weir_gguf_parse(NULL, NULL, 1, "x", &gguf), WEIR_INVALID_ARGUMENT);
    assert_status(weir_gguf_parse(NULL, NULL, 0, "x", &gguf), WEIR_BAD_FORMAT);
}

static void counts_are_bounded_by_the_bytes_left(void** state) {
    (void)state;
    const uint64_t counts[] = {1, UINT32_MAX, UINT64_C(1) << 32, UINT64_C(1) << 60, UINT64_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        refuse_bytes(header(3, counts[i], 0), 24, WEIR_BAD_FORMAT, "tensor count");
        refuse_bytes(header(3, 0, counts[i]), 24, WEIR_BAD_FORMAT, "key/value count");
    }
}

static void keys_must_be_unique_short_text(void** state) {
    (void)state;
    gguf_builder builder = {0};
    gguf_put_u32(&builder, "twice", 1);
    gguf_put_u32(&builder, "once", 1);
    gguf_put_u32(&builder, "twice", 2);
    refuse(&builder, WEIR_BAD_FORMAT, "key \"twice\": name: found it twice");
    gguf_put_u32(&builder, "", 1);
    refuse(&builder, WEIR_BAD_FORMAT, "key 0: key: found length 0, expected 1 to 65535");
    char* large = malloc(65537);
    assert_non_null(large);
    memset(large, 'k', 65536);
    large[65536] = '\0';
    gguf_put_u32(&builder, large, 1);
    refuse(&builder, WEIR_BAD_FORMAT, "found length 65536");
    gguf_put_u32(&builder, large + 1, 1);
    parsed file = parse(&builder);
    assert_non_null(weir_gguf_find(file.gguf, large + 1));
    release(&file);
    free(large);
}

static void keys_must_be_utf8_without_nul(void** state) {
    (void)state;
    const gguf_text bad[] = {
        GGUF_TEXT("a\xFF"),
        GGUF_TEXT("\x80"),
        GGUF_TEXT("\xC1\xBF"),
        GGUF_TEXT("\xC3"),
        GGUF_TEXT("\xE0\x9F\xBF"),
        GGUF_TEXT("\xED\xA0\x80"),
        GGUF_TEXT("\xE2\x82"),
        GGUF_TEXT("\xF0\x8F\xBF\xBF"),
        GGUF_TEXT("\xF4\x90\x80\x80"),
        GGUF_TEXT("a\0b"),
        GGUF_TEXT("\xF5\x80\x80\x80"),
        GGUF_TEXT("\xE2\x82x"),
    };
    gguf_builder builder = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gguf_append_text(&builder.values, bad[i].bytes, bad[i].length);
        PUT_NUMBER(&builder, "later", WEIR_GGUF_U64, uint64_t, 0);
        refuse(&builder, WEIR_BAD_FORMAT, "expected UTF-8 without NUL");
    }
    gguf_put_u32(&builder, "\xC3\xA9.\xE2\x82\xAC.\xF0\x9F\x98\x80", 5);
    parsed file = parse(&builder);
    uint64_t number = 0;
    assert_ok(weir_gguf_get_u64(file.gguf, "\xC3\xA9.\xE2\x82\xAC.\xF0\x9F\x98\x80", &number));
    release(&file);
}

static void values_must_have_a_known_type_and_fit(void** state) {
    (void)state;
    gguf_builder builder = {0};
    PUT_NUMBER(&builder, "k", (weir_gguf_type)13, uint32_t, 1);
    refuse(&builder, WEIR_BAD_FORMAT, "key \"k\": value type: found 13, expected 0 to 12");
    PUT_NUMBER(&builder, "k", WEIR_GGUF_BOOL, uint8_t, 2);
    refuse(&builder, WEIR_BAD_FORMAT, "bool: found 2, expected 0 or 1");
    gguf_put_array(&builder, "k", WEIR_GGUF_BOOL, "\1\0\3", 3, 3);
    refuse(&builder, WEIR_BAD_FORMAT, "bool: found 3");
    PUT_NUMBER(&builder, "k", WEIR_GGUF_F64, float, 1);
    refuse(&builder, WEIR_BAD_FORMAT, "f64: found the end of the file after 4 bytes, expected 8");
    PUT_NUMBER(&builder, "k", WEIR_GGUF_STRING, uint64_t, UINT64_MAX);
    refuse(&builder, WEIR_BAD_FORMAT, "string: found length 18446744073709551615");
    gguf_put_array(&builder, "k", WEIR_GGUF_U64, NULL, (UINT64_C(1) << 61) + 1, 0);
    refuse(&builder, WEIR_BAD_FORMAT, "array length: found 2305843009213693953");
    gguf_put_array(&builder, "k", WEIR_GGUF_STRING, "\1\0\0\0\0\0\0\0", 1, 8);
    refuse(&builder, WEIR_BAD_FORMAT, "string: found length 1, expected at most the 0 bytes left");
    gguf_put_array(&builder, "k", WEIR_GGUF_ARRAY, NULL, 0, 0);
    refuse(&builder, WEIR_UNSUPPORTED, "array of arrays");
}

static void alignment_must_be_a_u32_power_of_two(void** state) {
    (void)state;
    static const char key[] = "general.alignment";
    const uint32_t bad[] = {0, 1, 2, 4, 3, 12, 33, 131072, 0x80000000u, UINT32_MAX};
    gguf_builder builder = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gguf_put_u32(&builder, key, bad[i]);
        refuse(&builder, WEIR_BAD_FORMAT, "key \"general.alignment\": value: found ");
    }
    PUT_NUMBER(&builder, key, WEIR_GGUF_I32, int32_t, 32);
    refuse(&builder, WEIR_BAD_FORMAT, "found i32, expected u32");
    gguf_put_array(&builder, key, WEIR_GGUF_U32, NULL, 0, 0);
    refuse(&builder, WEIR_BAD_FORMAT, "found array, expected u32");
    for (uint32_t good = 8; good <= 65536; good *= 2) {
        gguf_put_u32(&builder, key, good);
        parsed file = parse(&builder);
        assert_int_equal(weir_gguf_alignment(file.gguf), good);
        release(&file);
    }
}

// Puts a tensor info by hand, with 32 bytes of data when it is the first.
static void put_info(gguf_builder* builder, const char* name, uint32_t rank, const uint64_t* dims,
                     uint32_t type, uint64_t offset) {
    static const uint8_t zeros[32];
    gguf_append_text(&builder->infos, name, strlen(name));
    gguf_append_u32(&builder->infos, rank);
    for (uint32_t i = 0; i < rank && i < 8; i++) {
        gguf_append_u64(&builder->infos, dims[i]);
    }
    gguf_append_u32(&builder->infos, type);
    gguf_append_u64(&builder->infos, offset);
    if (builder->tensor_count++ == 0) {
        gguf_append(&builder->data, zeros, sizeof zeros);
    }
}

static void tensors_must_have_sound_dimensions(void** state) {
    (void)state;
    gguf_builder builder = {0};
    const uint64_t max = INT64_MAX;
    const uint64_t half = UINT64_C(1) << 32;
    put_info(&builder, "a.b", 0, NULL, 0, 0);
    refuse(&builder, WEIR_BAD_FORMAT, "dimension count: found 0, expected 1 to 4");
    put_info(&builder, "a.b", 5, (uint64_t[]){1, 1, 1, 1, 1}, 0, 0);
    refuse(&builder, WEIR_BAD_FORMAT, "tensor \"a.b\": dimension count: found 5");
    put_info(&builder, "a.b", UINT32_MAX, (uint64_t[8]){0}, 0, 0);
    refuse(&builder, WEIR_BAD_FORMAT, "dimension count: found 4294967295");
    const uint64_t bad[][2] = {{0, 1},          {1, 0},       {max + 1, 1},
                               {1, UINT64_MAX}, {half, half}, {max, 2}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_info(&builder, "a.b", 2, bad[i], 0, 0);
        refuse(&builder, WEIR_BAD_FORMAT, "tensor \"a.b\": dimension: found ");
    }
    put_info(&builder, "a.b", 2, (uint64_t[]){half / 16, half}, 28, 0);
    refuse(&builder, WEIR_BAD_FORMAT, "expected both within the 32 bytes of tensor data");
    put_info(&builder, "a.b", 1, (uint64_t[]){max}, 28, 0);
    refuse(&builder, WEIR_BAD_FORMAT, "elements of F64, expected a size of 64 bits");
}

static void tensors_must_have_a_known_type_and_whole_blocks(void** state) {
    (void)state;
    gguf_builder builder = {0};
    const uint32_t unknown[] = {4, 5, 31, 32, 33, 36, 37, 38, 43, UINT32_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        put_info(&builder, "w", 1, (uint64_t[]){1}, unknown[i], 0);
        refuse(&builder, WEIR_UNSUPPORTED, "tensor \"w\": type: found ");
    }
    put_info(&builder, "w", 2, (uint64_t[]){20, 32}, 8, 0);
    refuse(&builder, WEIR_BAD_FORMAT, "found Q8_0 with rows of 20, expected whole blocks of 32");
}

static void tensors_must_lie_aligned_inside_and_apart(void** state) {
    (void)state;
    gguf_builder builder = {0};
    const uint64_t* eight = (uint64_t[]){8};
    const uint64_t* nine = (uint64_t[]){9};
    put_info(&builder, "w", 1, eight, 0, 4);
    refuse(&builder, WEIR_BAD_FORMAT, "offset: found 4, expected a multiple of the alignment 32");
    put_info(&builder, "w", 1, eight, 0, 32);
    refuse(&builder, WEIR_BAD_FORMAT, "offset: found 32 and 32 bytes, expected both within the 32");
    put_info(&builder, "w", 1, nine, 0, 0);
    refuse(&builder, WEIR_BAD_FORMAT, "offset: found 0 and 36 bytes");
    put_info(&builder, "w", 1, eight, 0, UINT64_MAX - 31);
    refuse(&builder, WEIR_BAD_FORMAT, "offset: found 18446744073709551584");
    gguf_append(&builder.data, (uint8_t[64]){0}, 64);
    put_info(&builder, "high", 1, nine, 0, 0);
    put_info(&builder, "low", 1, nine, 0, 0);
    refuse(&builder, WEIR_BAD_FORMAT, "expected no overlap");
    gguf_append(&builder.data, (uint8_t[64]){0}, 64);
    put_info(&builder, "second", 1, eight, 0, 32);
    put_info(&builder, "first", 1, nine, 0, 0);
    refuse(&builder, WEIR_BAD_FORMAT,
           "tensor \"second\": data: found the bytes of tensor \"first\"");
    gguf_append(&builder.data, (uint8_t[64]){0}, 64);
    put_info(&builder, "second", 1, eight, 0, 32);
    put_info(&builder, "first", 1, eight, 0, 0);
    parsed file = parse(&builder); // touching is not sharing
    release(&file);
}

static void tensor_names_must_be_unique_and_at_most_64_bytes(void** state) {
    (void)state;
    gguf_builder builder = {0};
    char name[66];
    memset(name, 'n', 65);
    name[65] = '\0';
    put_info(&builder, name, 1, (uint64_t[]){1}, 0, 0);
    refuse(&builder, WEIR_BAD_FORMAT, "name: found length 65, expected 1 to 64");
    put_info(&builder, "", 1, (uint64_t[]){8}, 0, 0);
    refuse(&builder, WEIR_BAD_FORMAT, "tensor 0: name: found length 0");
    gguf_append(&builder.data, (uint8_t[64]){0}, 64);
    put_info(&builder, name + 1, 1, (uint64_t[]){1}, 0, 0);
    put_info(&builder, name + 1, 1, (uint64_t[]){1}, 0, 32);
    refuse(&builder, WEIR_BAD_FORMAT, "name: found it twice");
    put_info(&builder, name + 1, 1, (uint64_t[]){1}, 0, 0);
    parsed file = parse(&builder);
    assert_non_null(weir_gguf_find_tensor(file.gguf, name + 1));
    release(&file);
}

// A million pairs in falling order of keys; looking at each pair of keys would take hours.
static void a_million_keys_parse_in_seconds(void** state) {
    (void)state;
    enum { KEYS = 1000000 };
    gguf_builder builder = {0};
    char key[16];
    for (uint32_t i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "%06u", KEYS - 1 - i);
        PUT_NUMBER(&builder, key, WEIR_GGUF_U8, uint8_t, 1);
    }
    const clock_t start = clock();
    parsed file = parse(&builder);
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 60.0);
    assert_non_null(weir_gguf_find(file.gguf, "123456"));
    release(&file);
}

static void escaped_text_is_printable_and_cut_between_escapes(void** state) {
    (void)state;
    char text[32];
    const weir_text odd = {"a\"\\\n\xFF", 5};
    assert_string_equal(weir_text_escape(odd, text, sizeof text), "a\\\"\\\\\\x0a\\xff");
    assert_string_equal(weir_text_escape(odd, text, 14), "a\\\"\\\\\\x0a\\xff");
    assert_string_equal(weir_text_escape(odd, text, 13), "a\\\"\\\\\\x0a...");
    assert_string_equal(weir_text_escape(odd, text, 12), "a\\\"\\\\...");
    assert_string_equal(weir_text_escape((weir_text){"abcdef", 6}, text, 7), "abcdef");
    assert_string_equal(weir_text_escape((weir_text){"abcdef", 6}, text, 6), "ab...");
    assert_string_equal(weir_text_escape((weir_text){"abcdef", 6}, text, 3), "..");
    assert_string_equal(weir_text_escape((weir_text){"abcdef", 6}, text, 1), "");
    assert_string_equal(weir_text_escape((weir_text){NULL, 0}, text, 8), "");
    text[0] = 'x';
    assert_true(weir_text_escape(odd, text, 0) == text && text[0] == 'x');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_come_from_every_type_that_holds_them),
        cmocka_unit_test(floats_bools_and_strings_need_their_type),
        cmocka_unit_test(arrays_read_within_their_count_alone),
        cmocka_unit_test(strings_of_an_array_are_walked_in_order),
        cmocka_unit_test(tensors_are_outermost_first_and_point_into_the_file),
        cmocka_unit_test(an_empty_container_parses),
        cmocka_unit_test(values_keep_the_order_of_the_file_and_all_are_found),
        cmocka_unit_test(versions_2_and_3_are_read_others_are_named),
        cmocka_unit_test(counts_are_bounded_by_the_bytes_left),
        cmocka_unit_test(keys_must_be_unique_short_text),
        cmocka_unit_test(keys_must_be_utf8_without_nul),
        cmocka_unit_test(values_must_have_a_known_type_and_fit),
        cmocka_unit_test(alignment_must_be_a_u32_power_of_two),
        cmocka_unit_test(tensors_must_have_sound_dimensions),
        cmocka_unit_test(tensors_must_have_a_known_type_and_whole_blocks),
        cmocka_unit_test(tensors_must_lie_aligned_inside_and_apart),
        cmocka_unit_test(tensor_names_must_be_unique_and_at_most_64_bytes),
        cmocka_unit_test(a_million_keys_parse_in_seconds),
        cmocka_unit_test(escaped_text_is_printable_and_cut_between_escapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
