// The safetensors parser: what it reads, what it refuses and how, and that no file makes it read
// outside its bytes or lose memory.
#include "testing.h"
#include "testing_allocator.h"

#include <weir/safetensors.h>

// A file in a block of exactly its size, so that the address sanitizer sees one byte too far.
typedef struct st_file {
    uint8_t* bytes;
    size_t byte_size;
} st_file;

static st_file make_file(const char* header, size_t header_size, size_t data_size) {
    st_file file = {.byte_size = 8 + header_size + data_size};
    file.bytes = malloc(file.byte_size);
    assert_non_null(file.bytes);
    for (size_t i = 0; i < 8; i++) {
        file.bytes[i] = (uint8_t)((uint64_t)header_size >> (8 * i));
    }
    memcpy(file.bytes + 8, header, header_size);
    for (size_t i = 0; i < data_size; i++) {
        file.bytes[8 + header_size + i] = (uint8_t)i;
    }
    return file;
}

static weir_status parse(st_file file, weir_safetensors** parsed) {
    return weir_safetensors_parse(NULL, file.bytes, file.byte_size, "small.safetensors", parsed);
}

static bool text_is(weir_text text, const char* expected) {
    return text.length == strlen(expected) && memcmp(text.bytes, expected, text.length) == 0;
}

static const char good[] =
    "{\"__metadata__\":{\"format\":\"pt\",\"a\\nb\":\"\\u00e9\\ud83d\\ude00\"},"
    "\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[4,28]},"
    "\"odd\\/name\" : {\"shape\":[],\"note\":[1,{\"x\":[null,true,-1.5e3,\"s\"]}],"
    "\"data_offsets\":[0,4],\"dtype\":\"I32\"},"
    "\"none\":{\"dtype\":\"U8\",\"shape\":[0,7],\"data_offsets\":[4,4]},"
    "\"small\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[28,31]}}   ";

static void tensors_and_metadata_are_read(void** state) {
    (void)state;
    st_file file = make_file(good, sizeof good - 1, 31);
    weir_safetensors* parsed = NULL;
    assert_ok(parse(file, &parsed));
    uint64_t count = 0;
    const weir_safetensors_entry* entries = weir_safetensors_metadata(parsed, &count);
    assert_int_equal(count, 2);
    assert_true(text_is(entries[0].key, "format") && text_is(entries[0].value, "pt"));
    assert_true(text_is(entries[1].key, "a\nb"));
    assert_true(text_is(entries[1].value, "\xC3\xA9\xF0\x9F\x98\x80"));
    const weir_safetensors_tensor* tensors = weir_safetensors_tensors(parsed, &count);
    assert_int_equal(count, 4);
    const uint64_t data = 8 + sizeof good - 1;
    const weir_safetensors_tensor* w = weir_safetensors_find(parsed, "w");
    assert_ptr_equal(w, &tensors[0]);
    assert_int_equal(w->dtype, WEIR_DTYPE_F32);
    assert_int_equal(w->byte_offset, data + 4);
    assert_int_equal(w->byte_size, 24);
    assert_true(weir_shape_equal(&w->shape, &(weir_shape){.rank = 2, .dims = {2, 3}}));
    const weir_safetensors_tensor* odd = weir_safetensors_find(parsed, "odd/name");
    assert_non_null(odd);
    assert_int_equal(odd->shape.rank, 0);
    assert_int_equal(odd->byte_size, 4);
    const weir_safetensors_tensor* small = weir_safetensors_find(parsed, "small");
    assert_int_equal(small->dtype, WEIR_DTYPE_NONE);
    assert_true(text_is(small->type, "F8_E4M3"));
    assert_null(weir_safetensors_find(parsed, "absent"));
    assert_string_equal(weir_safetensors_name(parsed), "small.safetensors");
    weir_safetensors_destroy(parsed);
    free(file.bytes);
}

static void a_file_without_tensors_is_read(void** state) {
    (void)state;
    st_file file = make_file("{}", 2, 0);
    weir_safetensors* parsed = NULL;
    assert_ok(parse(file, &parsed));
    uint64_t count = 7;
    weir_safetensors_tensors(parsed, &count);
    assert_int_equal(count, 0);
    weir_safetensors_destroy(parsed);
    free(file.bytes);
}

#define U8(name, begin, end)                                                                       \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[" begin "," end "]}"
#define INFO(fields) "{\"w\":{" fields "}}"

typedef struct bad_file {
    const char* header;
    size_t data_size;
    weir_status status;
    const char* part;
} bad_file;

static const bad_file bad_files[] = {
    {"", 0, WEIR_BAD_FORMAT, "begin with '{'"},
    {" {}", 0, WEIR_BAD_FORMAT, "begin with '{'"},
    {"{", 0, WEIR_BAD_FORMAT, "found the end of the header"},
    {"{}x", 0, WEIR_BAD_FORMAT, "nothing but spaces"},
    {"{}\n", 0, WEIR_BAD_FORMAT, "nothing but spaces"},
    {"{}", 1, WEIR_BAD_FORMAT, "found 1 bytes behind the last tensor"},
    {"{" U8("w", "0", "4") ",}", 4, WEIR_BAD_FORMAT, "found '}', expected '\"'"},
    {"{" U8("w", "0", "4") "," U8("w", "4", "8") "}", 8, WEIR_BAD_FORMAT, "found \"w\" twice"},
    {"{" U8("w", "0", "4") "," U8("\\u0077", "4", "8") "}", 8, WEIR_BAD_FORMAT, "\"w\" twice"},
    {"{" U8("a", "0", "4") "," U8("b", "5", "9") "}", 9, WEIR_BAD_FORMAT, "without hole"},
    {"{" U8("a", "0", "4") "," U8("b", "3", "7") "}", 7, WEIR_BAD_FORMAT, "without hole"},
    {"{" U8("a", "0", "4") "}", 3, WEIR_BAD_FORMAT,
     "tensor \"a\": data_offsets: found [0, 4), expected a range of the 3 bytes"},
    {"{" U8("a", "4", "0") "}", 4, WEIR_BAD_FORMAT, "found [4, 0)"},
    {"{" U8("a", "0", "5") "}", 5, WEIR_BAD_FORMAT, "found 5 bytes, expected the 32 bits"},
    {"{" U8("a", "0", "18446744073709551616") "}", 5, WEIR_BAD_FORMAT, "no integer of 64 bits"},
    {"{" U8("a\\n", "00", "4") "}", 4, WEIR_BAD_FORMAT, "tensor \"a\\\\n\": data_offsets: "},
    {"{" U8("a", "00", "4") "}", 4, WEIR_BAD_FORMAT, "no integer of 64 bits"},
    {"{" U8("a", "-1", "4") "}", 4, WEIR_BAD_FORMAT, "expected an unsigned integer"},
    {"{" U8("a", "0", "4.0") "}", 4, WEIR_BAD_FORMAT, "found '.', expected ']'"},
    {"{" U8("a\\u0000", "0", "4") "}", 4, WEIR_BAD_FORMAT, "escapes of JSON"},
    {"{" U8("a\\ud800", "0", "4") "}", 4, WEIR_BAD_FORMAT, "escapes of JSON"},
    {"{" U8("a\\x", "0", "4") "}", 4, WEIR_BAD_FORMAT, "escapes of JSON"},
    {"{" U8("a\x01", "0", "4") "}", 4, WEIR_BAD_FORMAT, "escapes of JSON"},
    {"{" U8("\xC0\xAF", "0", "4") "}", 4, WEIR_BAD_FORMAT, "escapes of JSON"},
    {INFO("\"dtype\":\"U8\",\"shape\":[4]"), 4, WEIR_BAD_FORMAT,
     "tensor \"w\": fields: expected all of"},
    {INFO("\"dtype\":\"U8\",\"dtype\":\"U8\""), 4, WEIR_BAD_FORMAT, "found \"dtype\" twice"},
    {INFO("\"dtype\":\"Q4_0\",\"shape\":[]"), 4, WEIR_UNSUPPORTED,
     "tensor \"w\": dtype: found \"Q4_0\", which is no type of this format"},
    {INFO("\"shape\":[1,1,1,1,1,1,1,1,1]"), 4, WEIR_UNSUPPORTED, "more than 8 dimensions"},
    {INFO("\"shape\":[9223372036854775808]"), 4, WEIR_BAD_FORMAT, "less than 2^63"},
    {INFO("\"dtype\":\"F64\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]"), 0,
     WEIR_BAD_FORMAT, "more elements than fit"},
    {INFO("\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]"), 2, WEIR_BAD_FORMAT, "12 bits"},
    {"{" U8("a", "0", "4") ",1}", 4, WEIR_BAD_FORMAT, ": header: found '1'"},
    {INFO("\"x\":nul"), 0, WEIR_BAD_FORMAT, "expected a value"},
    {INFO("\"x\":1."), 0, WEIR_BAD_FORMAT, "expected a value"},
    {"{\"__metadata__\":{\"a\":1}}", 0, WEIR_BAD_FORMAT, "__metadata__: found '1'"},
    {"{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}", 0, WEIR_BAD_FORMAT, "found \"a\" twice"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, WEIR_BAD_FORMAT, "\"__metadata__\" twice"},
};

static void bad_files_are_refused_with_what_is_wrong(void** state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad_files / sizeof bad_files[0]; i++) {
        const bad_file* bad = &bad_files[i];
        st_file file = make_file(bad->header, strlen(bad->header), bad->data_size);
        weir_safetensors* parsed = (weir_safetensors*)&file;
        assert_status(parse(file, &parsed), bad->status);
        assert_ptr_equal(parsed, &file);
        assert_message_has("small.safetensors: offset ");
        assert_message_has(bad->part);
        free(file.bytes);
    }
}

static void a_header_size_past_the_file_or_the_limit_is_refused(void** state) {
    (void)state;
    const uint64_t sizes[] = {3, WEIR_SAFETENSORS_HEADER_MAX + 1, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        st_file file = make_file("{}", 2, 0);
        memcpy(file.bytes, &sizes[i], sizeof sizes[i]);
        weir_safetensors* parsed = NULL;
        assert_status(parse(file, &parsed), WEIR_BAD_FORMAT);
        assert_message_has("header size: found ");
        free(file.bytes);
    }
    weir_safetensors* parsed = NULL;
    assert_status(weir_safetensors_parse(NULL, NULL, 8, NULL, &parsed), WEIR_INVALID_ARGUMENT);
    assert_status(weir_safetensors_parse(NULL, NULL, 0, NULL, &parsed), WEIR_BAD_FORMAT);
    assert_message_has("(memory): offset 0");
}

static void skipped_values_may_nest_only_so_deep(void** state) {
    (void)state;
    char header[512];
    for (int depth = 60; depth <= 80; depth += 20) {
        int length = snprintf(header, sizeof header, "{\"w\":{\"x\":");
        for (int i = 0; i < depth; i++) {
            header[length++] = '[';
        }
        for (int i = 0; i < depth; i++) {
            header[length++] = ']';
        }
        length += snprintf(header + length, sizeof header - (size_t)length,
                           ",\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
        st_file file = make_file(header, (size_t)length, 0);
        weir_safetensors* parsed = NULL;
        assert_status(parse(file, &parsed), depth == 60 ? WEIR_OK : WEIR_BAD_FORMAT);
        weir_safetensors_destroy(parsed);
        free(file.bytes);
    }
}

static void every_prefix_is_refused(void** state) {
    (void)state;
    st_file whole = make_file(good, sizeof good - 1, 31);
    for (size_t size = 0; size < whole.byte_size; size++) {
        st_file prefix = {.bytes = malloc(size > 0 ? size : 1), .byte_size = size};
        assert_non_null(prefix.bytes);
        memcpy(prefix.bytes, whole.bytes, size);
        weir_safetensors* parsed = NULL;
        assert_status(parse(prefix, &parsed), WEIR_BAD_FORMAT);
        free(prefix.bytes);
    }
    free(whole.bytes);
}

// Either the file is read, with every text and every byte of its tensors in place, or it is
// refused, with nothing left over and a bounded appetite.
static void parse_and_touch(st_file file) {
    test_allocator counter = {.fail_at = SIZE_MAX};
    const weir_allocator allocator = test_allocator_of(&counter);
    weir_safetensors* parsed = NULL;
    const weir_status status =
        weir_safetensors_parse(&allocator, file.bytes, file.byte_size, "broken", &parsed);
    if (status == WEIR_OK) {
        assert_true(counter.live_bytes <= 4 * file.byte_size + 512);
        uint64_t count = 0;
        unsigned sum = 0;
        const weir_safetensors_tensor* tensors = weir_safetensors_tensors(parsed, &count);
        for (uint64_t i = 0; i < count; i++) {
            assert_true(tensors[i].byte_offset + tensors[i].byte_size <= file.byte_size);
            for (uint64_t k = 0; k < tensors[i].name.length; k++) {
                sum += (unsigned char)tensors[i].name.bytes[k];
            }
        }
        assert_true(sum != 1);
    }
    weir_safetensors_destroy(parsed);
    assert_int_equal(counter.live_blocks, 0);
}

static void broken_copies_are_read_or_refused(void** state) {
    (void)state;
    st_file file = make_file(good, sizeof good - 1, 31);
    test_random random = {.state = 2411};
    for (int round = 0; round < 20000; round++) {
        st_file broken = {.bytes = malloc(file.byte_size), .byte_size = file.byte_size};
        assert_non_null(broken.bytes);
        memcpy(broken.bytes, file.bytes, file.byte_size);
        for (uint64_t flips = 1 + random_below(&random, 3); flips > 0; flips--) {
            const uint64_t place = random_below(&random, file.byte_size);
            broken.bytes[place] = (uint8_t)random_u64(&random);
        }
        parse_and_touch(broken);
        free(broken.bytes);
    }
    free(file.bytes);
}

static void each_allocation_fails_once(void** state) {
    (void)state;
    st_file file = make_file(good, sizeof good - 1, 31);
    weir_status status = WEIR_OUT_OF_MEMORY;
    for (size_t fail_at = 0; status != WEIR_OK; fail_at++) {
        test_allocator counter = {.fail_at = fail_at};
        const weir_allocator allocator = test_allocator_of(&counter);
        weir_safetensors* parsed = NULL;
        status = weir_safetensors_parse(&allocator, file.bytes, file.byte_size, NULL, &parsed);
        assert_true(status == WEIR_OK || status == WEIR_OUT_OF_MEMORY);
        weir_safetensors_destroy(parsed);
        assert_int_equal(counter.live_blocks, 0);
    }
    free(file.bytes);
}

static void a_published_file_is_read(void** state) {
    (void)state;
    char path[512];
    if (!shared_data_path("silero-vad/silero_vad_16k.safetensors", path, sizeof path)) {
        print_message("no reference data\n");
        skip();
    }
    st_file file = {0};
    file.bytes = (uint8_t*)read_whole_file(path, false, &file.byte_size);
    weir_safetensors* parsed = NULL;
    assert_ok(parse(file, &parsed));
    uint64_t count = 0;
    const weir_safetensors_tensor* tensors = weir_safetensors_tensors(parsed, &count);
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < count; i++) {
        bytes += tensors[i].byte_size;
    }
    const weir_safetensors_tensor* first = weir_safetensors_find(parsed, "stft_conv.weight");
    assert_non_null(first);
    assert_true(weir_shape_equal(&first->shape, &(weir_shape){.rank = 3, .dims = {258, 1, 256}}));
    assert_int_equal(first->dtype, WEIR_DTYPE_F32);
    // 8 + 1208 bytes of size and header; the tensors are all the rest.
    assert_int_equal(bytes, file.byte_size - 8 - 0x4b8);
    weir_safetensors_destroy(parsed);
    free(file.bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_and_metadata_are_read),
        cmocka_unit_test(a_file_without_tensors_is_read),
        cmocka_unit_test(bad_files_are_refused_with_what_is_wrong),
        cmocka_unit_test(a_header_size_past_the_file_or_the_limit_is_refused),
        cmocka_unit_test(skipped_values_may_nest_only_so_deep),
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(broken_copies_are_read_or_refused),
        cmocka_unit_test(each_allocation_fails_once),
        cmocka_unit_test(a_published_file_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
