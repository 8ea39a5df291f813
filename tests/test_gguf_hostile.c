#include "gguf_builder.h"

#include <dirent.h>
#include <unistd.h>

// An allocator that counts, checks the balance and fails on demand.
typedef struct counter {
    size_t live;        // bytes
    size_t asked;       // bytes in all
    int64_t until_fail; // allocations that still succeed; negative: all
} counter;

static void* count_alloc(void* context, size_t byte_size, size_t alignment) {
    counter* count = context;
    (void)alignment; // never above that of max_align_t here
    count->asked += byte_size;
    if (count->until_fail == 0) {
        return NULL;
    }
    count->until_fail -= count->until_fail > 0 ? 1 : 0;
    count->live += byte_size;
    return malloc(byte_size);
}

static void count_free(void* context, void* pointer, size_t byte_size, size_t alignment) {
    counter* count = context;
    (void)alignment;
    count->live -= byte_size;
    free(pointer);
}

// Reads everything that a parse points at; the sum keeps the loads alive.
static uint64_t touch(const weir_gguf* gguf, const uint8_t* bytes) {
    uint64_t sum = 0;
    uint64_t count = 0;
    const weir_gguf_value* values = weir_gguf_values(gguf, &count);
    for (uint64_t i = 0; i < count; i++) {
        const void* cursor = NULL;
        weir_text string;
        while (weir_gguf_next_string(&values[i], &cursor, &string)) {
            sum += string.length > 0 ? (uint8_t)string.bytes[string.length - 1] : 0;
        }
        for (uint64_t k = 0; k < values[i].count; k++) {
            sum += (uint64_t)weir_gguf_element_i64(&values[i], k);
        }
    }
    const weir_gguf_tensor* tensors = weir_gguf_tensors(gguf, &count);
    for (uint64_t i = 0; i < count; i++) {
        sum += bytes[tensors[i].byte_offset];
        sum += bytes[tensors[i].byte_offset + tensors[i].byte_size - 1];
    }
    return sum;
}

static volatile uint64_t touched;

// Parses with a bound on the memory asked for, reads all of it, releases all of it.
static weir_status parse_and_touch(const uint8_t* bytes, size_t byte_size, const char* name) {
    counter count = {.until_fail = -1};
    const weir_allocator allocator = {&count, count_alloc, count_free};
    weir_gguf* gguf = NULL;
    const weir_status status = weir_gguf_parse(&allocator, bytes, byte_size, name, &gguf);
    if (status == WEIR_OK) {
        touched = touch(gguf, bytes);
        weir_gguf_destroy(gguf);
    }
    assert_int_equal(count.live, 0);
    assert_true(count.asked <= 1024 + 4 * byte_size);
    return status;
}

static uint8_t* small_file(size_t* byte_size) {
    gguf_builder builder = {0};
    const gguf_text texts[] = {GGUF_TEXT("<s>"), GGUF_TEXT(""), GGUF_TEXT("a")};
    const uint8_t data[136] = {0};
    const uint8_t flags[3] = {0, 1, 1};
    gguf_put_string(&builder, "general.architecture", "llama");
    gguf_put_u32(&builder, "general.alignment", 32);
    gguf_put_strings(&builder, "tokens", texts, 3);
    gguf_put_array(&builder, "flags", WEIR_GGUF_BOOL, flags, 3, 3);
    gguf_put_f32(&builder, "eps", 1e-5f);
    gguf_put_tensor(&builder, "a.weight", 8, 2, (uint64_t[]){64, 2}, data, 136);
    gguf_put_tensor(&builder, "b.weight", 0, 1, (uint64_t[]){5}, data, 20);
    gguf_put_tensor(&builder, "c.weight", 1, 4, (uint64_t[]){2, 1, 1, 3}, data, 12);
    return gguf_builder_finish(&builder, byte_size);
}

static void expect_prefixes_refused(const uint8_t* bytes, size_t from, size_t to, size_t step) {
    for (size_t length = from; length < to; length += step) {
        uint8_t* prefix = malloc(length > 0 ? length : 1);
        assert_non_null(prefix);
        memcpy(prefix, bytes, length);
        const weir_status status = parse_and_touch(prefix, length, "prefix");
        free(prefix);
        assert_int_equal(status, WEIR_BAD_FORMAT);
    }
}

// Returns one past the last byte of the tensor data and the first byte of it.
static size_t data_end(const uint8_t* bytes, size_t byte_size, size_t* data_start) {
    weir_gguf* gguf = NULL;
    assert_ok(weir_gguf_parse(NULL, bytes, byte_size, "whole", &gguf));
    uint64_t count = 0;
    const weir_gguf_tensor* tensors = weir_gguf_tensors(gguf, &count);
    uint64_t end = 0;
    *data_start = byte_size;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t tensor_end = tensors[i].byte_offset + tensors[i].byte_size;
        end = tensor_end > end ? tensor_end : end;
        *data_start = tensors[i].byte_offset < *data_start ? tensors[i].byte_offset : *data_start;
    }
    weir_gguf_destroy(gguf);
    return (size_t)end;
}

static void every_truncated_prefix_of_a_small_file_is_refused(void** state) {
    (void)state;
    size_t byte_size = 0;
    size_t data_start = 0;
    uint8_t* bytes = small_file(&byte_size);
    const size_t end = data_end(bytes, byte_size, &data_start);
    expect_prefixes_refused(bytes, 0, end, 1);
    assert_ok(parse_and_touch(bytes, end, "without padding"));
    free(bytes);
}

static void every_truncated_prefix_of_a_model_is_refused(void** state) {
    (void)state;
    char path[512];
    if (!shared_data_path("stories260K/stories260K-q8_0.gguf", path, sizeof path)) {
        print_message("skipped: %s is not here\n", path);
        skip();
    }
    size_t byte_size = 0;
    size_t data_start = 0;
    uint8_t* bytes = (uint8_t*)read_whole_file(path, false, &byte_size);
    const size_t end = data_end(bytes, byte_size, &data_start);
    expect_prefixes_refused(bytes, 0, data_start, 1);
    expect_prefixes_refused(bytes, data_start, end < 40000 ? end : 40000, 29);
    expect_prefixes_refused(bytes, end - 40, end, 1);
    free(bytes);
}

// Flips one random byte at a time within the first `span` bytes.
static void flip_bytes(uint8_t* bytes, size_t byte_size, size_t span, int rounds) {
    test_random random = {0xF11Bull};
    int refused = 0;
    for (int round = 0; round < rounds; round++) {
        const size_t place = (size_t)random_below(&random, span);
        const uint8_t change = (uint8_t)(1 + random_below(&random, 255));
        bytes[place] ^= change;
        refused += parse_and_touch(bytes, byte_size, "flipped") == WEIR_OK ? 0 : 1;
        bytes[place] ^= change;
    }
    assert_true(refused > rounds / 20 && refused < rounds);
}

static void flipped_bytes_never_lead_outside_the_file(void** state) {
    (void)state;
    size_t byte_size = 0;
    size_t data_start = 0;
    uint8_t* bytes = small_file(&byte_size);
    data_end(bytes, byte_size, &data_start);
    flip_bytes(bytes, byte_size, data_start, 20000);
    free(bytes);
}

static void flipped_bytes_of_a_model_never_lead_outside_the_file(void** state) {
    (void)state;
    char path[512];
    if (!shared_data_path("stories260K/stories260K-ff192-q4_0.gguf", path, sizeof path)) {
        print_message("skipped: %s is not here\n", path);
        skip();
    }
    size_t byte_size = 0;
    size_t data_start = 0;
    uint8_t* bytes = (uint8_t*)read_whole_file(path, false, &byte_size);
    data_end(bytes, byte_size, &data_start);
    flip_bytes(bytes, byte_size, data_start, 3000);
    free(bytes);
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void** state) {
    (void)state;
    size_t byte_size = 0;
    uint8_t* bytes = small_file(&byte_size);
    weir_status status = WEIR_OUT_OF_MEMORY;
    int64_t failing = 0;
    for (; status == WEIR_OUT_OF_MEMORY; failing++) {
        counter count = {.until_fail = failing};
        const weir_allocator allocator = {&count, count_alloc, count_free};
        weir_gguf* gguf = NULL;
        status = weir_gguf_parse(&allocator, bytes, byte_size, "small.gguf", &gguf);
        assert_int_equal(gguf != NULL, status == WEIR_OK);
        weir_gguf_destroy(gguf);
        assert_int_equal(count.live, 0);
    }
    assert_ok(status);
    assert_true(failing > 3);
    free(bytes);
}

// Unpacks an archive of the shared data into a new folder; false, with the reason printed, when
// that cannot be done.
static bool unpack(const char* archive, char* folder, size_t capacity) {
    char path[512];
    if (!shared_data_path(archive, path, sizeof path)) {
        print_message("skipped: %s is not here\n", path);
        return false;
    }
    const char* root = getenv("WEIR_BINARY_DIR");
    snprintf(folder, capacity, "%s/gguf-XXXXXX", root ? root : "/tmp");
    if (!mkdtemp(folder)) {
        print_message("skipped: cannot make %s\n", folder);
        return false;
    }
    char command[1536];
    snprintf(command, sizeof command, "tar xJf '%s' -C '%s'", path, folder);
    if (system(command) != 0) {
        print_message("skipped: '%s' failed\n", command);
        rmdir(folder);
        return false;
    }
    return true;
}

static void remove_folder(const char* folder) {
    char command[1024];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    assert_int_equal(system(command), 0);
}

// The verdicts of the manifest are those for loading a model; these say what the container parser
// decides where the manifest leaves a choice.
static bool must_parse(const char* name, const char* verdict) {
    static const char* const refused_policies[] = {"a_align_1.gguf", "a_align_i32.gguf",
                                                   "k07_key_bad_utf8.gguf", "k16_arr_nested.gguf"};
    for (size_t i = 0; i < sizeof refused_policies / sizeof *refused_policies; i++) {
        if (strcmp(name, refused_policies[i]) == 0) {
            return false;
        }
    }
    return strcmp(verdict, "reject") != 0;
}

static void the_hostile_corpus_gets_its_verdicts(void** state) {
    (void)state;
    char folder[512];
    if (!unpack("hostile.tar.xz", folder, sizeof folder)) {
        skip();
    }
    char path[1024];
    snprintf(path, sizeof path, "%s/hostile/MANIFEST.tsv", folder);
    FILE* manifest = fopen(path, "r");
    assert_non_null(manifest);
    char line[1024];
    char name[128];
    char verdict[32];
    int files = 0;
    int wrong = 0;
    assert_non_null(fgets(line, sizeof line, manifest)); // the heads of the columns
    while (fgets(line, sizeof line, manifest)) {
        assert_int_equal(sscanf(line, "%127[^\t]\t%*[^\t]\t%31[^\t]", name, verdict), 2);
        snprintf(path, sizeof path, "%s/hostile/%s", folder, name);
        size_t byte_size = 0;
        uint8_t* bytes = (uint8_t*)read_whole_file(path, false, &byte_size);
        const weir_status status = parse_and_touch(bytes, byte_size, name);
        free(bytes);
        files++;
        const bool is_refused = status == WEIR_BAD_FORMAT || status == WEIR_UNSUPPORTED;
        if (must_parse(name, verdict) ? status != WEIR_OK : !is_refused) {
            print_message("%s (%s): %s\n", name, verdict, weir_last_error());
            wrong++;
        }
        if (status != WEIR_OK) {
            assert_message_has(name);
            assert_message_has(": offset ");
            assert_message_has("expected");
        }
        if (strcmp(name, "h08_big_endian.gguf") == 0) {
            assert_message_has("byte order");
        }
    }
    fclose(manifest);
    remove_folder(folder);
    assert_int_equal(wrong, 0);
    assert_true(files >= 100);
}

static void real_vocabularies_parse(void** state) {
    (void)state;
    char folder[512];
    if (!unpack("vocab.tar.xz", folder, sizeof folder)) {
        skip();
    }
    char path[1024];
    snprintf(path, sizeof path, "%s/vocab", folder);
    DIR* entries = opendir(path);
    assert_non_null(entries);
    int files = 0;
    for (const struct dirent* entry; (entry = readdir(entries));) {
        const char* ending = strrchr(entry->d_name, '.');
        if (!ending || strcmp(ending, ".gguf") != 0) {
            continue;
        }
        snprintf(path, sizeof path, "%s/vocab/%s", folder, entry->d_name);
        size_t byte_size = 0;
        uint8_t* bytes = (uint8_t*)read_whole_file(path, false, &byte_size);
        assert_ok(parse_and_touch(bytes, byte_size, entry->d_name));
        free(bytes);
        files++;
    }
    closedir(entries);
    remove_folder(folder);
    assert_int_equal(files, 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_truncated_prefix_of_a_small_file_is_refused),
        cmocka_unit_test(every_truncated_prefix_of_a_model_is_refused),
        cmocka_unit_test(flipped_bytes_never_lead_outside_the_file),
        cmocka_unit_test(flipped_bytes_of_a_model_never_lead_outside_the_file),
        cmocka_unit_test(each_failing_allocation_is_reported_and_leaks_nothing),
        cmocka_unit_test(the_hostile_corpus_gets_its_verdicts),
        cmocka_unit_test(real_vocabularies_parse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
