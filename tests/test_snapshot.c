// Snapshots of contexts: what goes on from one is what would have gone on without it.
#include "testing.h"

#include <weir-llm/snapshot.h>

#include "llama_file.h"
#include "shared_device.h"
#include "snapshot_bytes.h"
#include "testing_allocator.h"

enum { FED = 5, ALL = 9 };

static const uint32_t ids[ALL] = {1, 4, 7, 3, 11, 5, 6, 8, 10};

typedef struct fixture {
    weir_device* device;
    weir_model* model;
} fixture;

static weir_model* open_bytes(weir_device* device, const uint8_t* bytes, size_t byte_size) {
    char path[64];
    weir_model* model = NULL;
    write_file(path, bytes, byte_size);
    assert_ok(weir_model_open(NULL, device, path, NULL, &model));
    remove_file(path);
    return model;
}

static weir_model* open_model(weir_device* device, const llama_change* change) {
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(change, &byte_size);
    weir_model* model = open_bytes(device, bytes, byte_size);
    free(bytes);
    return model;
}

static fixture setup(void) {
    fixture f = {.device = open_test_device(NULL, 2, false)};
    f.model = open_model(f.device, NULL);
    return f;
}

static void teardown(fixture* f) {
    weir_model_destroy(f->model);
    close_test_device(f->device);
}

// A context that was fed the first `count` ids.
static weir_context* fed_context(weir_model* model, weir_dtype kv_dtype, uint32_t length,
                                 size_t count) {
    const weir_context_options options = {.context_length = length, .kv_dtype = kv_dtype};
    weir_context* context = NULL;
    assert_ok(weir_context_create(NULL, model, &options, &context));
    if (count > 0) {
        assert_ok(weir_context_feed(context, ids, count, WEIR_OUTPUT_LAST));
    }
    return context;
}

// Feeds what follows the first FED ids, one by one, and keeps the logits of each.
static void go_on(weir_context* context, float logits[ALL - FED][TINY_VOCABULARY]) {
    assert_int_equal(weir_context_position(context), FED);
    for (uint32_t i = 0; i < ALL - FED; i++) {
        assert_ok(weir_context_feed(context, &ids[FED + i], 1, WEIR_OUTPUT_LAST));
        memcpy(logits[i], weir_context_logits(context, 0), sizeof logits[i]);
    }
}

static uint8_t* save(const weir_context* context, uint64_t* byte_size) {
    *byte_size = weir_snapshot_bytes(context);
    uint8_t* bytes = malloc(*byte_size);
    assert_non_null(bytes);
    assert_ok(weir_snapshot_save(context, bytes, *byte_size));
    return bytes;
}

static void a_loaded_text_goes_on_bit_for_bit(void** state) {
    (void)state;
    const weir_dtype dtypes[] = {WEIR_DTYPE_F32, WEIR_DTYPE_F16, WEIR_DTYPE_BF16};
    float expected[ALL - FED][TINY_VOCABULARY];
    float got[ALL - FED][TINY_VOCABULARY];
    fixture f = setup();
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        weir_context* context = fed_context(f.model, dtypes[i], 20, FED);
        uint64_t byte_size = 0;
        uint8_t* bytes = save(context, &byte_size);
        const uint64_t element_bytes = weir_dtype_describe(dtypes[i])->block_bytes;
        assert_int_equal(byte_size,
                         SNAPSHOT_HEADER_BYTES + 2 * TINY_BLOCKS * FED * 16 * element_bytes);
        go_on(context, expected);

        // Into an empty one of another length, and over another text.
        weir_context* longer = fed_context(f.model, dtypes[i], 40, 0);
        assert_ok(weir_snapshot_load(longer, bytes, byte_size));
        assert_null(weir_context_logits(longer, 0));
        go_on(longer, got);
        assert_memory_equal(got, expected, sizeof got);
        assert_ok(weir_context_rewind(longer, 0));
        assert_ok(
            weir_context_feed(longer, (uint32_t[]){9, 9, 9, 9, 9, 9, 9}, 7, WEIR_OUTPUT_NONE));
        assert_ok(weir_snapshot_load(longer, bytes, byte_size));
        go_on(longer, got);
        assert_memory_equal(got, expected, sizeof got);
        weir_context_destroy(longer);
        weir_context_destroy(context);

        // Into a context of the same file, opened once more.
        weir_model* again = open_model(f.device, NULL);
        weir_context* other = fed_context(again, dtypes[i], 20, 0);
        assert_ok(weir_snapshot_load(other, bytes, byte_size));
        uint64_t same_size = 0;
        uint8_t* same = save(other, &same_size);
        assert_int_equal(same_size, byte_size);
        assert_memory_equal(same, bytes, byte_size);
        free(same);
        go_on(other, got);
        assert_memory_equal(got, expected, sizeof got);
        weir_context_destroy(other);
        weir_model_destroy(again);
        free(bytes);
    }
    teardown(&f);
}

static void a_copied_text_goes_on_by_itself(void** state) {
    (void)state;
    float expected[ALL - FED][TINY_VOCABULARY];
    float got[ALL - FED][TINY_VOCABULARY];
    fixture f = setup();
    weir_context* context = fed_context(f.model, WEIR_DTYPE_NONE, 0, FED);
    weir_context* copy = fed_context(f.model, WEIR_DTYPE_NONE, 30, ALL);
    assert_ok(weir_snapshot_copy(context, copy));
    assert_null(weir_context_logits(copy, 0));
    go_on(context, expected);
    go_on(copy, got);
    assert_memory_equal(got, expected, sizeof got);
    // Another end of the copy changes nothing in the first.
    assert_ok(weir_context_rewind(copy, 2));
    assert_ok(weir_context_feed(copy, ids, ALL, WEIR_OUTPUT_NONE));
    assert_ok(weir_context_rewind(context, FED));
    go_on(context, got);
    assert_memory_equal(got, expected, sizeof got);
    assert_ok(weir_snapshot_copy(context, context));
    assert_int_equal(weir_context_position(context), ALL);
    weir_context_destroy(copy);
    weir_context_destroy(context);
    teardown(&f);
}

static void an_empty_text_can_be_saved_and_copied(void** state) {
    (void)state;
    fixture f = setup();
    weir_context* empty = fed_context(f.model, WEIR_DTYPE_NONE, 0, 0);
    weir_context* context = fed_context(f.model, WEIR_DTYPE_NONE, 0, FED);
    uint64_t byte_size = 0;
    uint8_t* bytes = save(empty, &byte_size);
    assert_int_equal(byte_size, SNAPSHOT_HEADER_BYTES);
    assert_ok(weir_snapshot_load(context, bytes, byte_size));
    assert_int_equal(weir_context_position(context), 0);
    assert_ok(weir_context_feed(context, ids, FED, WEIR_OUTPUT_NONE));
    assert_ok(weir_snapshot_copy(empty, context));
    assert_int_equal(weir_context_position(context), 0);
    free(bytes);
    weir_context_destroy(context);
    weir_context_destroy(empty);
    teardown(&f);
}

static void what_does_not_fit_is_refused_and_changes_nothing(void** state) {
    (void)state;
    const llama_change trained = {.name = "output_norm.weight", .kind = CHANGE_F32, .real = 2.0f};
    fixture f = setup();
    weir_model* another = open_model(f.device, &trained);
    weir_context* from = fed_context(f.model, WEIR_DTYPE_F32, 0, FED);
    weir_context* halves = fed_context(f.model, WEIR_DTYPE_F16, 0, 2);
    weir_context* shorter = fed_context(f.model, WEIR_DTYPE_F32, FED - 1, 2);
    weir_context* other = fed_context(another, WEIR_DTYPE_F32, 0, 2);
    uint64_t byte_size = 0;
    uint8_t* bytes = save(from, &byte_size);
    const struct {
        weir_context* to;
        weir_status status;
        const char* loaded;
        const char* copied;
    } cases[] = {
        {halves, WEIR_INVALID_ARGUMENT, "in F32, those of the context are in F16", "in F32 cannot"},
        {shorter, WEIR_OUT_OF_RANGE, "5 tokens, the context has room for 4", "has room for 4"},
        {other, WEIR_INVALID_ARGUMENT, "of another model than", "two opened models"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_status(weir_snapshot_load(cases[i].to, bytes, byte_size), cases[i].status);
        assert_message_has(cases[i].loaded);
        assert_status(weir_snapshot_copy(from, cases[i].to), cases[i].status);
        assert_message_has(cases[i].copied);
        assert_int_equal(weir_context_position(cases[i].to), 2);
        assert_non_null(weir_context_logits(cases[i].to, 0));
        weir_context_destroy(cases[i].to);
    }
    assert_status(weir_snapshot_save(from, bytes, byte_size - 1), WEIR_OUT_OF_RANGE);
    assert_message_has("room for");
    free(bytes);
    weir_context_destroy(from);
    weir_model_destroy(another);
    teardown(&f);
}

// Of tensors shorter than what is looked at of each, all bytes count.
static void models_that_differ_in_a_short_tensor_are_told_apart(void** state) {
    (void)state;
    const llama_change factors = {"rope_freqs.weight", CHANGE_EXTRA, 0, 4.0f, NULL};
    fixture f = setup();
    size_t file_size = 0;
    uint8_t* file = tiny_llama(&factors, &file_size);
    weir_model* one = open_bytes(f.device, file, file_size);
    weir_view view;
    assert_ok(weir_model_weight(one, factors.name, &view));
    assert_int_equal(weir_view_byte_length(&view), 16);
    file[view.byte_offset + 12] ^= 1; // of the last number
    weir_model* other = open_bytes(f.device, file, file_size);
    free(file);
    weir_context* from = fed_context(one, WEIR_DTYPE_F32, 0, 0);
    weir_context* to = fed_context(other, WEIR_DTYPE_F32, 0, 0);
    uint64_t byte_size = 0;
    uint8_t* bytes = save(from, &byte_size);
    assert_status(weir_snapshot_load(to, bytes, byte_size), WEIR_INVALID_ARGUMENT);
    assert_message_has("of another model than");
    free(bytes);
    weir_context_destroy(to);
    weir_context_destroy(from);
    weir_model_destroy(other);
    weir_model_destroy(one);
    teardown(&f);
}

static void cut_and_damaged_bytes_are_refused(void** state) {
    (void)state;
    fixture f = setup();
    weir_context* context = fed_context(f.model, WEIR_DTYPE_F16, 0, FED);
    uint64_t byte_size = 0;
    uint8_t* bytes = save(context, &byte_size);
    for (uint64_t cut = 0; cut < byte_size; cut++) {
        uint8_t* part = malloc(cut > 0 ? cut : 1); // so that a sanitizer sees one too far
        assert_non_null(part);
        memcpy(part, bytes, cut);
        assert_status(weir_snapshot_load(context, part, cut), WEIR_BAD_FORMAT);
        free(part);
        const uint8_t bit = (uint8_t)(1u << cut % 8);
        bytes[cut] ^= bit;
        assert_status(weir_snapshot_load(context, bytes, byte_size), WEIR_BAD_FORMAT);
        bytes[cut] ^= bit;
    }
    assert_int_equal(weir_context_position(context), FED);
    assert_non_null(weir_context_logits(context, 0));
    assert_ok(weir_snapshot_load(context, bytes, byte_size));
    free(bytes);
    weir_context_destroy(context);
    teardown(&f);
}

// With a right checksum, as who makes bytes up would write it (docs/formats.md).
static void made_up_numbers_are_refused(void** state) {
    (void)state;
    static const struct {
        size_t at; // of the number in the header
        uint64_t number;
        size_t byte_size;
        weir_status status;
        const char* part;
    } cases[] = {
        {8, 0x36314611, 8, WEIR_INVALID_ARGUMENT, "in \\x11F16, those"},
        {16, 1, 8, WEIR_INVALID_ARGUMENT, "another model"},
        {24, UINT64_MAX, 8, WEIR_INVALID_ARGUMENT, "another model"},
        {32, UINT32_MAX, 4, WEIR_INVALID_ARGUMENT, "another model"},
        {36, UINT32_MAX, 4, WEIR_OUT_OF_RANGE, "4294967295 tokens"},
        {36, TINY_CONTEXT, 4, WEIR_BAD_FORMAT, "64 tokens have"},
        {36, FED - 1, 4, WEIR_BAD_FORMAT, "4 tokens have"},
        {36, 0, 4, WEIR_BAD_FORMAT, "0 tokens have"},
    };
    fixture f = setup();
    weir_context* context = fed_context(f.model, WEIR_DTYPE_F16, 0, FED);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t byte_size = 0;
        uint8_t* bytes = save(context, &byte_size);
        memcpy(bytes + cases[i].at, &cases[i].number, cases[i].byte_size);
        snapshot_seal(bytes, byte_size);
        assert_status(weir_snapshot_load(context, bytes, byte_size), cases[i].status);
        assert_message_has(cases[i].part);
        free(bytes);
    }
    assert_int_equal(weir_context_position(context), FED);
    weir_context_destroy(context);
    teardown(&f);
}

// Every allocation fails once: a context that was to be filled is as before or empty, and can be
// filled by the next try.
static void refused_memory_leaves_usable_contexts(void** state) {
    (void)state;
    test_allocator heap = {.fail_at = SIZE_MAX};
    weir_device* device = NULL;
    const weir_device_desc desc = {
        .name = "cpu", .thread_count = 1, .allocator = test_allocator_of(&heap)};
    assert_ok(weir_device_create(&desc, &device));
    weir_model* model = open_model(device, NULL);
    weir_context* from = fed_context(model, WEIR_DTYPE_NONE, 0, FED);
    weir_context* to = fed_context(model, WEIR_DTYPE_NONE, 0, 2);
    uint64_t byte_size = 0;
    uint8_t* bytes = save(from, &byte_size);
    for (int what = 0; what < 3; what++) {
        weir_status status = WEIR_OUT_OF_MEMORY;
        for (size_t call = 0; status != WEIR_OK; call++) {
            heap.fail_at = heap.calls + call;
            status = what == 0   ? weir_snapshot_save(from, bytes, byte_size)
                     : what == 1 ? weir_snapshot_load(to, bytes, byte_size)
                                 : weir_snapshot_copy(from, to);
            heap.fail_at = SIZE_MAX;
            assert_true(status == WEIR_OK || status == WEIR_OUT_OF_MEMORY);
            const uint32_t position = weir_context_position(to);
            assert_true(position == (what == 0 ? 2 : status == WEIR_OK ? FED : 0));
            assert_true(call < 1000 && (call > 0 || status != WEIR_OK));
        }
        assert_int_equal(weir_context_position(from), FED);
    }
    free(bytes);
    weir_context_destroy(to);
    weir_context_destroy(from);
    weir_model_destroy(model);
    weir_device_destroy(device);
    assert_int_equal(heap.live_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loaded_text_goes_on_bit_for_bit),
        cmocka_unit_test(a_copied_text_goes_on_by_itself),
        cmocka_unit_test(an_empty_text_can_be_saved_and_copied),
        cmocka_unit_test(what_does_not_fit_is_refused_and_changes_nothing),
        cmocka_unit_test(models_that_differ_in_a_short_tensor_are_told_apart),
        cmocka_unit_test(cut_and_damaged_bytes_are_refused),
        cmocka_unit_test(made_up_numbers_are_refused),
        cmocka_unit_test(refused_memory_leaves_usable_contexts),
    };
    return cmocka_run_group_tests(tests, NULL, close_shared_devices);
}
