// Models in several files: what a set of parts must agree on, and that it is then one model.
#include "llama_file.h"

#include <weir-llm/generate.h>

#include "testing_allocator.h"

#define PARTS_MAX 4

// One part in the making, and the keys of its place with one wrong on request.
typedef struct part_keys {
    uint32_t number, count, tensors;
    const char* omit; // this key is left out
} part_keys;

typedef struct parts {
    uint8_t* bytes[PARTS_MAX];
    weir_gguf_part items[PARTS_MAX];
    uint32_t count;
} parts;

static const char* const part_names[PARTS_MAX] = {"m-1.gguf", "m-2.gguf", "m-3.gguf", "m-4.gguf"};

static void put_keys(gguf_builder* builder, const part_keys* keys) {
    const struct {
        const char* key;
        uint32_t number;
    } all[] = {{"split.no", keys->number},
               {"split.count", keys->count},
               {"split.tensors.count", keys->tensors}};
    for (size_t i = 0; i < 3; i++) {
        if (!keys->omit || strcmp(keys->omit, all[i].key) != 0) {
            gguf_put_u32(builder, all[i].key, all[i].number);
        }
    }
}

static void put_vector(gguf_builder* builder, const char* name, float first) {
    const float weights[4] = {first, 1, 2, 3};
    gguf_put_tensor(builder, name, 0, 1, (uint64_t[]){4}, weights, sizeof weights);
}

static void add_part(parts* set, gguf_builder* builder) {
    size_t byte_size = 0;
    uint8_t* bytes = gguf_builder_finish(builder, &byte_size);
    set->bytes[set->count] = bytes;
    set->items[set->count] = (weir_gguf_part){
        .bytes = bytes, .byte_size = byte_size, .file_name = part_names[set->count]};
    set->count++;
}

static void free_parts(parts* set) {
    for (uint32_t i = 0; i < set->count; i++) {
        free(set->bytes[i]);
    }
}

// Three parts: keys and a tensor, two tensors, a tensor. `changed` is the part with other keys.
static parts three_parts(uint32_t changed, const part_keys* keys) {
    static const char* const tensors[3][2] = {{"a", NULL}, {"b", "c"}, {"d", NULL}};
    parts set = {0};
    for (uint32_t i = 0; i < 3; i++) {
        gguf_builder builder = {0};
        const part_keys right = {.number = i, .count = 3, .tensors = 4};
        put_keys(&builder, i == changed ? keys : &right);
        if (i == 0) {
            gguf_put_string(&builder, "general.name", "set");
        }
        for (int k = 0; k < 2 && tensors[i][k]; k++) {
            put_vector(&builder, tensors[i][k], (float)(10 * i) + (float)k);
        }
        add_part(&set, &builder);
    }
    return set;
}

static void parts_make_one_list_of_tensors(void** state) {
    (void)state;
    parts set = three_parts(PARTS_MAX, NULL);
    weir_gguf* gguf = NULL;
    assert_ok(weir_gguf_parse_parts(NULL, set.items, set.count, &gguf));
    assert_int_equal(weir_gguf_part_count(gguf), 3);
    assert_string_equal(weir_gguf_part_name(gguf, 2), "m-3.gguf");
    assert_null(weir_gguf_part_name(gguf, 3));
    assert_string_equal(weir_gguf_file_name(gguf), "m-1.gguf");
    uint64_t count = 0;
    const weir_gguf_tensor* tensors = weir_gguf_tensors(gguf, &count);
    assert_int_equal(count, 4);
    const uint32_t expected[] = {0, 1, 1, 2};
    for (uint64_t i = 0; i < count; i++) {
        const char name[2] = {(char)('a' + i), '\0'};
        const weir_gguf_tensor* found = weir_gguf_find_tensor(gguf, name);
        assert_ptr_equal(found, &tensors[i]);
        assert_int_equal(found->part, expected[i]);
        float first = 0;
        memcpy(&first, set.bytes[found->part] + found->byte_offset, sizeof first);
        assert_true(first == (float)(10 * found->part) + (i == 2 ? 1.0f : 0.0f));
    }
    weir_gguf_values(gguf, &count); // those of the first part alone
    assert_int_equal(count, 4);
    weir_gguf_split split;
    assert_ok(weir_gguf_split_read(gguf, &split));
    assert_int_equal(split.part_count, 3);
    weir_gguf_destroy(gguf);
    free_parts(&set);
}

static void refuse(parts* set, const char* file, const char* field) {
    weir_gguf* gguf = (weir_gguf*)set;
    assert_status(weir_gguf_parse_parts(NULL, set->items, set->count, &gguf), WEIR_BAD_FORMAT);
    assert_ptr_equal(gguf, set);
    assert_message_has(file);
    assert_message_has(field);
    free_parts(set);
}

static void each_wrong_key_of_a_part_is_named_with_its_file(void** state) {
    (void)state;
    const struct {
        uint32_t part;
        part_keys keys;
        const char* field;
    } cases[] = {
        {0, {1, 3, 4, NULL}, "\"split.no\": found 1"},
        {1, {2, 3, 4, NULL}, "\"split.no\": found 2"},
        {1, {3, 3, 4, NULL}, "\"split.no\": found 3"},
        {2, {2, 4, 4, NULL}, "\"split.count\": found 4"},
        {2, {2, 0, 4, NULL}, "\"split.count\": found 0"},
        {2, {2, 70000, 4, NULL}, "\"split.count\": found 70000"},
        {1, {1, 3, 5, NULL}, "\"split.tensors.count\": found 5"},
        {1, {1, 3, 1, NULL}, "\"split.tensors.count\": found 1"},
        {0, {0, 3, 4, "split.no"}, "\"split.no\" is missing"},
        {1, {1, 3, 4, "split.tensors.count"}, "\"split.tensors.count\" is missing"},
        {2, {2, 3, 4, "split.count"}, "\"split.no\": found 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        parts set = three_parts(cases[i].part, &cases[i].keys);
        refuse(&set, part_names[cases[i].part], cases[i].field);
    }
}

static void parts_out_of_order_or_missing_are_refused(void** state) {
    (void)state;
    parts set = three_parts(PARTS_MAX, NULL);
    const weir_gguf_part swapped[] = {set.items[0], set.items[2], set.items[1]};
    weir_gguf* gguf = NULL;
    assert_status(weir_gguf_parse_parts(NULL, swapped, 3, &gguf), WEIR_BAD_FORMAT);
    assert_message_has("m-3.gguf: key \"split.no\": found 2");
    const weir_gguf_part twice[] = {set.items[0], set.items[1], set.items[1]};
    assert_status(weir_gguf_parse_parts(NULL, twice, 3, &gguf), WEIR_BAD_FORMAT);
    assert_status(weir_gguf_parse_parts(NULL, set.items, 2, &gguf), WEIR_BAD_FORMAT);
    assert_message_has("m-1.gguf: key \"split.count\": found 3, expected the number of files");
    assert_status(weir_gguf_parse_parts(NULL, set.items, 0, &gguf), WEIR_INVALID_ARGUMENT);
    assert_status(weir_gguf_parse_parts(NULL, set.items, WEIR_GGUF_PARTS_MAX + 1, &gguf),
                  WEIR_INVALID_ARGUMENT);
    free_parts(&set);
}

static void a_name_in_two_parts_is_refused(void** state) {
    (void)state;
    parts set = {0};
    for (uint32_t i = 0; i < 2; i++) {
        gguf_builder builder = {0};
        put_keys(&builder, &(part_keys){.number = i, .count = 2, .tensors = 3});
        put_vector(&builder, "same", 1);
        if (i == 1) {
            put_vector(&builder, "other", 1);
        }
        add_part(&set, &builder);
    }
    refuse(&set, "m-2.gguf: offset ", "tensor \"same\": name: found it in m-1.gguf as well");
}

// What both say must be the same; what is about one file, or said by a later part alone, is free.
static void keys_of_later_parts_may_repeat_but_not_contradict(void** state) {
    (void)state;
    for (int contradicts = 0; contradicts < 2; contradicts++) {
        parts set = {0};
        for (uint32_t i = 0; i < 2; i++) {
            gguf_builder builder = {0};
            put_keys(&builder, &(part_keys){.number = i, .count = 2, .tensors = 2});
            gguf_put_string(&builder, "general.architecture", "llama");
            gguf_put_u32(&builder, "general.alignment", i == 0 ? 32 : 16);
            gguf_put_u32(&builder, i == 0 ? "general.a" : "general.b", 1);
            gguf_put_u32(&builder, "general.version", i == 1 && contradicts ? 2 : 1);
            put_vector(&builder, i == 0 ? "a" : "b", 1);
            add_part(&set, &builder);
        }
        if (contradicts) {
            refuse(&set, "m-2.gguf: offset ", "\"general.version\": found another value");
            continue;
        }
        weir_gguf* gguf = NULL;
        assert_ok(weir_gguf_parse_parts(NULL, set.items, set.count, &gguf));
        assert_non_null(weir_gguf_find(gguf, "general.a"));
        assert_null(weir_gguf_find(gguf, "general.b"));
        weir_gguf_destroy(gguf);
        free_parts(&set);
    }
}

static void a_malformed_part_is_refused_by_its_name(void** state) {
    (void)state;
    parts set = three_parts(PARTS_MAX, NULL);
    for (size_t length = 0; length < set.items[1].byte_size; length++) {
        uint8_t* prefix = malloc(length > 0 ? length : 1);
        assert_non_null(prefix);
        memcpy(prefix, set.bytes[1], length);
        weir_gguf_part cut[] = {set.items[0], set.items[1], set.items[2]};
        cut[1].bytes = prefix;
        cut[1].byte_size = length;
        weir_gguf* gguf = NULL;
        const weir_status status = weir_gguf_parse_parts(NULL, cut, 3, &gguf);
        free(prefix);
        if (status == WEIR_OK) { // nothing but the padding of the last tensor is gone
            assert_true(length + 32 > set.items[1].byte_size);
            weir_gguf_destroy(gguf);
        } else {
            assert_int_equal(status, WEIR_BAD_FORMAT);
            assert_message_has("m-2.gguf: ");
        }
    }
    const weir_gguf_part none[] = {set.items[0], {.byte_size = 8, .file_name = "x"}};
    weir_gguf* gguf = NULL;
    assert_status(weir_gguf_parse_parts(NULL, none, 2, &gguf), WEIR_INVALID_ARGUMENT);
    free_parts(&set);
}

static void each_failing_allocation_of_a_set_leaks_nothing(void** state) {
    (void)state;
    parts set = three_parts(PARTS_MAX, NULL);
    weir_status status = WEIR_OUT_OF_MEMORY;
    size_t failing = 0;
    for (; status == WEIR_OUT_OF_MEMORY; failing++) {
        test_allocator counter = {.fail_at = failing};
        const weir_allocator allocator = test_allocator_of(&counter);
        weir_gguf* gguf = NULL;
        status = weir_gguf_parse_parts(&allocator, set.items, set.count, &gguf);
        weir_gguf_destroy(gguf);
        assert_int_equal(counter.live_blocks, 0);
    }
    assert_ok(status);
    assert_true(failing > 8);
    free_parts(&set);
}

static void paths_of_parts_differ_in_their_numbers(void** state) {
    (void)state;
    const weir_gguf_split split = {.part = 1, .part_count = 12};
    char path[64];
    assert_ok(weir_gguf_part_path("/x/m-00002-of-00012.gguf", &split, 11, path, sizeof path));
    assert_string_equal(path, "/x/m-00012-of-00012.gguf");
    assert_ok(weir_gguf_part_path("-00002-of-00012.gguf", &split, 0, path, 21));
    assert_string_equal(path, "-00001-of-00012.gguf");
    const char* const others[] = {
        "m.gguf",         "m-00001-of-00012.gguf", "m-00002-of-00013.gguf",
        "m-2-of-12.gguf", "m-00002-of-00012.GGUF", ""};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_status(weir_gguf_part_path(others[i], &split, 0, path, sizeof path),
                      WEIR_BAD_FORMAT);
        assert_message_has("expected it to end in -00002-of-00012.gguf");
    }
    assert_status(weir_gguf_part_path("-00002-of-00012.gguf", &split, 0, path, 20),
                  WEIR_OUT_OF_RANGE);
    assert_status(weir_gguf_part_path("-00002-of-00012.gguf", &split, 12, path, sizeof path),
                  WEIR_OUT_OF_RANGE);
}

// Writes the tiny model as `count` parts to a fresh folder; the first has no tensors.
typedef struct split_model {
    char folder[64];
    char paths[PARTS_MAX][128];
    char whole[64];
    uint32_t count;
} split_model;

static void put_part(const weir_gguf* gguf, const uint8_t* bytes, uint32_t part, uint32_t count,
                     gguf_builder* builder) {
    uint64_t value_count = 0;
    uint64_t tensor_count = 0;
    const weir_gguf_value* values = weir_gguf_values(gguf, &value_count);
    const weir_gguf_tensor* tensors = weir_gguf_tensors(gguf, &tensor_count);
    put_keys(builder, &(part_keys){part, count, (uint32_t)tensor_count, NULL});
    for (uint64_t i = 0; part == 0 && i < value_count; i++) {
        // From the length of its key on a pair can be copied as it is.
        const char* begin = values[i].key.bytes - sizeof(uint64_t);
        const char* end = (const char*)values[i].bytes + values[i].byte_length;
        gguf_append(&builder->values, begin, (size_t)(end - begin));
        builder->value_count++;
    }
    for (uint64_t i = 0; i < tensor_count; i++) {
        const weir_gguf_tensor* tensor = &tensors[i];
        if (1 + i * (count - 1) / tensor_count != part) {
            continue;
        }
        char name[65];
        snprintf(name, sizeof name, "%.*s", (int)tensor->name.length, tensor->name.bytes);
        uint64_t dims[2] = {0};
        for (uint32_t d = 0; d < tensor->shape.rank; d++) {
            dims[d] = (uint64_t)tensor->shape.dims[tensor->shape.rank - 1 - d];
        }
        gguf_put_tensor(builder, name, 0, tensor->shape.rank, dims, bytes + tensor->byte_offset,
                        tensor->byte_size);
    }
}

static split_model write_split(uint32_t count) {
    split_model split = {.count = count};
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    write_file(split.whole, bytes, byte_size);
    strcpy(split.folder, split.whole);
    *strrchr(split.folder, '/') = '\0';
    weir_gguf* gguf = NULL;
    assert_ok(weir_gguf_parse(NULL, bytes, byte_size, "tiny", &gguf));
    for (uint32_t part = 0; part < count; part++) {
        gguf_builder builder = {0};
        put_part(gguf, bytes, part, count, &builder);
        size_t part_size = 0;
        uint8_t* part_bytes = gguf_builder_finish(&builder, &part_size);
        snprintf(split.paths[part], sizeof split.paths[part], "%s/m-%05u-of-%05u.gguf",
                 split.folder, part + 1, count);
        FILE* file = fopen(split.paths[part], "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(part_bytes, 1, part_size, file), part_size);
        assert_int_equal(fclose(file), 0);
        free(part_bytes);
    }
    weir_gguf_destroy(gguf);
    free(bytes);
    return split;
}

static void remove_split(split_model* split) {
    for (uint32_t part = 0; part < split->count; part++) {
        remove(split->paths[part]);
    }
    remove_file(split->whole);
}

static weir_device* open_device(void) {
    weir_device* device = NULL;
    assert_ok(weir_device_create(&(weir_device_desc){.name = "cpu", .thread_count = 1}, &device));
    return device;
}

static void first_logits(weir_device* device, const char* path, float logits[TINY_VOCABULARY]) {
    weir_model* model = NULL;
    weir_context* context = NULL;
    assert_ok(weir_model_open(NULL, device, path, NULL, &model));
    assert_ok(weir_context_create(NULL, model, NULL, &context));
    assert_ok(weir_context_feed(context, (const uint32_t[]){1, 4, 5}, 3, WEIR_OUTPUT_LAST));
    memcpy(logits, weir_context_logits(context, 0), TINY_VOCABULARY * sizeof *logits);
    weir_context_destroy(context);
    weir_model_destroy(model);
}

static void any_part_opens_the_same_model_without_a_copy(void** state) {
    (void)state;
    split_model split = write_split(4);
    weir_device* device = open_device();
    float expected[TINY_VOCABULARY];
    first_logits(device, split.whole, expected);
    for (uint32_t part = 0; part < split.count; part++) {
        float logits[TINY_VOCABULARY];
        first_logits(device, split.paths[part], logits);
        assert_memory_equal(logits, expected, sizeof logits);
    }
    weir_model* model = NULL;
    assert_ok(weir_model_open(NULL, device, split.paths[1], NULL, &model));
    assert_int_equal(weir_gguf_part_count(weir_model_gguf(model)), 4);
    assert_string_equal(weir_gguf_part_name(weir_model_gguf(model), 3), split.paths[3]);
    assert_int_equal(weir_model_copied_bytes(model), 0);
    uint64_t total = 0;
    for (uint32_t part = 0; part < split.count; part++) {
        size_t byte_size = 0;
        free(read_whole_file(split.paths[part], false, &byte_size));
        total += byte_size;
    }
    assert_int_equal(weir_model_mapped_bytes(model), total);
    weir_model_destroy(model);
    weir_device_destroy(device);
    remove_split(&split);
}

static void a_missing_or_renamed_part_is_named(void** state) {
    (void)state;
    split_model split = write_split(3);
    weir_device* device = open_device();
    weir_model* model = NULL;
    char moved[160];
    snprintf(moved, sizeof moved, "%s/model-1.gguf", split.folder);
    assert_int_equal(rename(split.paths[1], moved), 0);
    assert_status(weir_model_open(NULL, device, split.paths[0], NULL, &model), WEIR_IO);
    assert_message_has(split.paths[1]);
    assert_status(weir_model_open(NULL, device, moved, NULL, &model), WEIR_BAD_FORMAT);
    assert_message_has("model-1.gguf: name of the file: expected it to end in -00002-of-00003");
    assert_int_equal(rename(split.paths[2], split.paths[1]), 0); // one in the place of another
    assert_int_equal(rename(moved, split.paths[2]), 0);
    assert_status(weir_model_open(NULL, device, split.paths[0], NULL, &model), WEIR_BAD_FORMAT);
    assert_message_has("00002-of-00003.gguf: key \"split.no\": found 2");
    assert_null(model);
    weir_device_destroy(device);
    remove_split(&split);
}

// A set of as many files as there can be, of which the first is there alone.
static void a_set_that_is_not_there_takes_little_memory(void** state) {
    (void)state;
    gguf_builder builder = {0};
    put_keys(&builder, &(part_keys){0, WEIR_GGUF_PARTS_MAX, 1, NULL});
    size_t byte_size = 0;
    uint8_t* bytes = gguf_builder_finish(&builder, &byte_size);
    char plain[64];
    char path[512];
    write_file(plain, bytes, byte_size);
    snprintf(path, sizeof path, "%.*s%0200d-00001-of-65535.gguf",
             (int)(strlen(plain) - strlen("model.gguf")), plain, 0);
    assert_int_equal(rename(plain, path), 0);
    test_allocator counter = {.fail_at = SIZE_MAX};
    const weir_allocator allocator = test_allocator_of(&counter);
    weir_device* device = open_device();
    weir_model* model = NULL;
    assert_status(weir_model_open(&allocator, device, path, NULL, &model), WEIR_IO);
    assert_message_has("-00002-of-65535.gguf: cannot open");
    assert_true(counter.asked_bytes < 1u << 20);
    assert_int_equal(counter.live_blocks, 0);
    weir_device_destroy(device);
    assert_int_equal(rename(path, plain), 0);
    remove_file(plain);
    free(bytes);
}

static void the_size_of_all_parts_counts_against_the_limit(void** state) {
    (void)state;
    split_model split = write_split(3);
    weir_device* device = open_device();
    weir_model* model = NULL;
    assert_ok(weir_model_open(NULL, device, split.paths[0], NULL, &model));
    weir_model_options options = {.limits.file_bytes = weir_model_mapped_bytes(model)};
    weir_model_destroy(model);
    model = NULL;
    assert_ok(weir_model_open(NULL, device, split.paths[0], &options, &model));
    weir_model_destroy(model);
    model = NULL;
    options.limits.file_bytes--;
    assert_status(weir_model_open(NULL, device, split.paths[0], &options, &model),
                  WEIR_OUT_OF_RANGE);
    assert_message_has("00003-of-00003.gguf: size of the model: found ");
    assert_null(model);
    weir_device_destroy(device);
    remove_split(&split);
}

static void each_failing_allocation_of_a_split_model_leaks_nothing(void** state) {
    (void)state;
    split_model split = write_split(3);
    weir_device* device = open_device();
    weir_status status = WEIR_OUT_OF_MEMORY;
    size_t failing = 0;
    for (; status == WEIR_OUT_OF_MEMORY; failing++) {
        test_allocator counter = {.fail_at = failing};
        const weir_allocator allocator = test_allocator_of(&counter);
        weir_model* model = NULL;
        status = weir_model_open(&allocator, device, split.paths[2], NULL, &model);
        assert_int_equal(model != NULL, status == WEIR_OK);
        weir_model_destroy(model);
        assert_int_equal(counter.live_blocks, 0);
    }
    assert_ok(status);
    assert_true(failing > 12);
    weir_device_destroy(device);
    remove_split(&split);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_make_one_list_of_tensors),
        cmocka_unit_test(each_wrong_key_of_a_part_is_named_with_its_file),
        cmocka_unit_test(parts_out_of_order_or_missing_are_refused),
        cmocka_unit_test(a_name_in_two_parts_is_refused),
        cmocka_unit_test(keys_of_later_parts_may_repeat_but_not_contradict),
        cmocka_unit_test(a_malformed_part_is_refused_by_its_name),
        cmocka_unit_test(each_failing_allocation_of_a_set_leaks_nothing),
        cmocka_unit_test(paths_of_parts_differ_in_their_numbers),
        cmocka_unit_test(any_part_opens_the_same_model_without_a_copy),
        cmocka_unit_test(a_missing_or_renamed_part_is_named),
        cmocka_unit_test(a_set_that_is_not_there_takes_little_memory),
        cmocka_unit_test(the_size_of_all_parts_counts_against_the_limit),
        cmocka_unit_test(each_failing_allocation_of_a_split_model_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
