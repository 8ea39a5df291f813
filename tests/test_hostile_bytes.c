// Every prefix of a model, and copies with one byte changed: each loads and runs, or is refused.
// The share that is tried here is small; with WEIR_LONG every prefix of the first 40,000 bytes,
// every 997th after them, and 200,000 copies are.
#include "hostile_testing.h"

#include <fcntl.h>
#include <unistd.h>
#include <weir/safetensors.h>

static bool is_long(void) {
    return getenv("WEIR_LONG") != NULL;
}

// A file in memory that is changed on disk in place.
typedef struct changed_file {
    char path[64];
    uint8_t* bytes;
    size_t byte_size;
    int descriptor;
} changed_file;

static changed_file open_changed(uint8_t* bytes, size_t byte_size) {
    changed_file file = {.bytes = bytes, .byte_size = byte_size};
    write_file(file.path, bytes, byte_size);
    file.descriptor = open(file.path, O_RDWR);
    assert_true(file.descriptor >= 0);
    return file;
}

static void close_changed(changed_file* file) {
    close(file->descriptor);
    remove_file(file->path);
    free(file->bytes);
}

static void cut_to(const changed_file* file, size_t length) {
    assert_int_equal(ftruncate(file->descriptor, (off_t)length), 0);
}

static void write_byte(const changed_file* file, size_t at, uint8_t byte) {
    assert_int_equal(pwrite(file->descriptor, &byte, 1, (off_t)at), 1);
}

// Where the data of the tensors begins and ends.
static void find_data(const changed_file* file, size_t* begin, size_t* end) {
    weir_gguf* gguf = NULL;
    assert_ok(weir_gguf_parse(NULL, file->bytes, file->byte_size, "whole", &gguf));
    uint64_t count = 0;
    const weir_gguf_tensor* tensors = weir_gguf_tensors(gguf, &count);
    *begin = file->byte_size;
    *end = 0;
    for (uint64_t i = 0; i < count; i++) {
        const size_t tensor_end = (size_t)(tensors[i].byte_offset + tensors[i].byte_size);
        *begin = tensors[i].byte_offset < *begin ? (size_t)tensors[i].byte_offset : *begin;
        *end = tensor_end > *end ? tensor_end : *end;
    }
    weir_gguf_destroy(gguf);
}

// Prefixes from the longest to the shortest, so that the file is only ever cut.
static void try_prefixes(changed_file* file) {
    size_t begin = 0;
    size_t end = 0;
    find_data(file, &begin, &end);
    const size_t dense = 40000;
    const size_t small_step = is_long() ? 1 : 61;
    const size_t large_step = is_long() ? 997 : 9973;
    size_t loaded = 0;
    for (size_t length = file->byte_size; length > 0;) {
        weir_status ran = WEIR_OK;
        cut_to(file, length);
        const weir_status status = judge(file->path, length, &ran);
        loaded += status == WEIR_OK ? 1 : 0;
        assert_int_equal(status == WEIR_OK, length >= end); // all that may be missing is padding
        const size_t step = length > dense ? large_step : small_step;
        length -= step < length ? step : length;
    }
    assert_true(loaded >= 1);
}

// Changes one byte at a time; of three, two lie in the metadata.
static void try_flips(changed_file* file, int rounds) {
    size_t begin = 0;
    size_t end = 0;
    find_data(file, &begin, &end);
    test_random random = {0xF11B};
    int loaded = 0;
    for (int round = 0; round < rounds; round++) {
        const size_t at = (size_t)random_below(&random, round % 3 == 0 ? file->byte_size : begin);
        const uint8_t change = (uint8_t)(1 + random_below(&random, 255));
        weir_status ran = WEIR_OK;
        write_byte(file, at, file->bytes[at] ^ change);
        loaded += judge(file->path, file->byte_size, &ran) == WEIR_OK ? 1 : 0;
        write_byte(file, at, file->bytes[at]);
    }
    assert_true(loaded > rounds / 10 && loaded < rounds);
    print_message("%d of %d changed copies load\n", loaded, rounds);
}

static bool read_shared(const char* name, uint8_t** bytes, size_t* byte_size) {
    char path[512];
    if (!shared_data_path(name, path, sizeof path)) {
        print_message("skipped: %s is not here\n", path);
        return false;
    }
    *bytes = (uint8_t*)read_whole_file(path, false, byte_size);
    return true;
}

// Opens a published model for changes, or the tiny one where `shared` is NULL.
static changed_file open_model(const char* shared) {
    size_t byte_size = 0;
    uint8_t* bytes = NULL;
    if (!shared) {
        bytes = tiny_llama(NULL, &byte_size);
    } else if (!read_shared(shared, &bytes, &byte_size)) {
        skip();
    }
    return open_changed(bytes, byte_size);
}

static const char published[] = "stories260K/stories260K-q8_0.gguf";

static void prefixes_of_a_tiny_model_load_or_are_refused(void** state) {
    (void)state;
    changed_file file = open_model(NULL);
    try_prefixes(&file);
    close_changed(&file);
}

static void changed_copies_of_a_tiny_model_load_or_are_refused(void** state) {
    (void)state;
    changed_file file = open_model(NULL);
    try_flips(&file, is_long() ? 50000 : 500);
    close_changed(&file);
}

static void prefixes_of_a_published_model_load_or_are_refused(void** state) {
    (void)state;
    changed_file file = open_model(published);
    try_prefixes(&file);
    close_changed(&file);
}

static void changed_copies_of_a_published_model_load_or_are_refused(void** state) {
    (void)state;
    changed_file file = open_model(published);
    try_flips(&file, is_long() ? 200000 : 150);
    close_changed(&file);
}

static volatile uint64_t seen; // keeps loads alive

// Parses a copy in a block of exactly its size and reads all that the parse points at.
static weir_status parse_safetensors(const uint8_t* bytes, size_t byte_size) {
    uint8_t* copy = malloc(byte_size > 0 ? byte_size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, byte_size);
    weir_safetensors* parsed = NULL;
    atomic_store(&f.heap.asked_bytes, 0);
    const weir_status status =
        weir_safetensors_parse(&f.allocator, copy, byte_size, "copy.safetensors", &parsed);
    assert_true(atomic_load(&f.heap.asked_bytes) <= MEMORY_FIXED + MEMORY_FACTOR * byte_size);
    uint64_t count = 0;
    if (status == WEIR_OK) {
        const weir_safetensors_tensor* tensors = weir_safetensors_tensors(parsed, &count);
        for (uint64_t i = 0; i < count; i++) {
            seen += tensors[i].byte_size > 0
                        ? copy[tensors[i].byte_offset + tensors[i].byte_size - 1]
                        : 0;
            seen += tensors[i].name.length > 0 ? (uint8_t)tensors[i].name.bytes[0] : 0;
        }
    } else {
        assert_message_has("copy.safetensors: offset ");
        assert_true(is_printable(weir_last_error()));
    }
    weir_safetensors_destroy(parsed);
    assert_int_equal(f.heap.live_blocks, 0);
    free(copy);
    return status;
}

static void try_safetensors(uint8_t* bytes, size_t byte_size, int flips) {
    const size_t small_step = is_long() ? 1 : 37;
    for (size_t length = 0; length < byte_size;) {
        assert_int_not_equal(parse_safetensors(bytes, length), WEIR_OK); // the data must end it
        length += length < 40000 ? small_step : 997 * small_step;
    }
    assert_ok(parse_safetensors(bytes, byte_size));
    uint64_t header_size = 0;
    memcpy(&header_size, bytes, sizeof header_size);
    test_random random = {0xF11B};
    int refused = 0;
    for (int round = 0; round < flips; round++) {
        const size_t span = round % 64 == 0 ? byte_size : (size_t)header_size + 8;
        const size_t at = (size_t)random_below(&random, span);
        const uint8_t change = (uint8_t)(1 + random_below(&random, 255));
        bytes[at] ^= change;
        refused += parse_safetensors(bytes, byte_size) == WEIR_OK ? 0 : 1;
        bytes[at] ^= change;
    }
    assert_true(refused > flips / 10 && refused < flips);
}

static void a_small_safetensors_file_is_read_or_refused(void** state) {
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"a\\u00e9\":\"b\",\"c\":\"\"},"
        "\"w\":{\"dtype\":\"F32\",\"shape\":[8,3],\"data_offsets\":[0,96],\"x\":[{},1e3,null]},"
        "\"\\n\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[96,98]},"
        "\"e\":{\"dtype\":\"U8\",\"shape\":[0,7],\"data_offsets\":[98,98]}}  ";
    const uint64_t header_size = sizeof header - 1;
    const size_t byte_size = 8 + header_size + 98;
    uint8_t* bytes = calloc(1, byte_size);
    assert_non_null(bytes);
    memcpy(bytes, &header_size, 8);
    memcpy(bytes + 8, header, header_size);
    try_safetensors(bytes, byte_size, is_long() ? 200000 : 5000);
    free(bytes);
}

static void a_published_safetensors_file_is_read_or_refused(void** state) {
    (void)state;
    size_t byte_size = 0;
    uint8_t* bytes = NULL;
    if (!read_shared("silero-vad/silero_vad_16k.safetensors", &bytes, &byte_size)) {
        skip();
    }
    try_safetensors(bytes, byte_size, is_long() ? 200000 : 500);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefixes_of_a_tiny_model_load_or_are_refused),
        cmocka_unit_test(changed_copies_of_a_tiny_model_load_or_are_refused),
        cmocka_unit_test(prefixes_of_a_published_model_load_or_are_refused),
        cmocka_unit_test(changed_copies_of_a_published_model_load_or_are_refused),
        cmocka_unit_test(a_small_safetensors_file_is_read_or_refused),
        cmocka_unit_test(a_published_safetensors_file_is_read_or_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
