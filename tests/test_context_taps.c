// Results that a context keeps on request: they are what the pass computes with.
#include "testing.h"

#include <math.h>
#include <weir-llm/context.h>
#include <weir/access.h>

#include "llama_file.h"
#include "shared_device.h"
#include "testing_allocator.h"

enum { TAPS = 4, FED = 7 };

static const char* const names[TAPS] = {"embedding", "output_in", "blk.0.out", "blk.1.attn_in"};
static const uint32_t ids[FED] = {1, 4, 7, 3, 11, 5, 6};

typedef struct fixture {
    weir_device* device;
    weir_model* model;
} fixture;

static fixture setup(void) {
    fixture f = {.device = open_test_device(NULL, 2, true)};
    char path[64];
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    write_file(path, bytes, byte_size);
    free(bytes);
    assert_ok(weir_model_open(NULL, f.device, path, NULL, &f.model));
    remove_file(path);
    return f;
}

static void teardown(fixture* f) {
    weir_model_destroy(f->model);
    close_test_device(f->device);
}

static weir_context* create(weir_model* model, uint32_t tap_count, uint32_t rows, bool all) {
    const weir_context_options options = {.kv_dtype = WEIR_DTYPE_F32,
                                          .prefill_rows = rows,
                                          .output_all = all,
                                          .taps = names,
                                          .tap_count = tap_count};
    weir_context* context = NULL;
    assert_ok(weir_context_create(NULL, model, &options, &context));
    return context;
}

// Returns the rows of a tap, TINY_EMBEDDING wide.
static const float* tap_rows(const weir_context* context, uint32_t tap, int64_t rows) {
    weir_view view;
    const void* numbers = NULL;
    int64_t count = 0;
    assert_ok(weir_context_tap(context, tap, &view));
    assert_int_equal(view.shape.rank, 2);
    assert_int_equal(view.shape.dims[0], rows);
    assert_int_equal(view.shape.dims[1], TINY_EMBEDDING);
    assert_ok(weir_view_read(&view, WEIR_DTYPE_F32, &numbers, &count));
    assert_int_equal(count, rows * TINY_EMBEDDING);
    return numbers;
}

static const float* weights_of(const weir_model* model, const char* name) {
    weir_view view;
    const void* numbers = NULL;
    int64_t count = 0;
    assert_ok(weir_model_weight(model, name, &view));
    assert_ok(weir_view_read(&view, WEIR_DTYPE_F32, &numbers, &count));
    return numbers;
}

static void assert_rows_close(const float* a, const float* b, int64_t rows) {
    for (int64_t i = 0; i < rows * TINY_EMBEDDING; i++) {
        assert_true(fabsf(a[i] - b[i]) <= 1e-4f);
    }
}

static void logits_are_the_product_of_the_last_tap(void** state) {
    (void)state;
    fixture f = setup();
    const bool is_tied = weir_model_params(f.model)->tied_output;
    const float* matrix = weights_of(f.model, is_tied ? "token_embd.weight" : "output.weight");
    for (int all = 0; all < 2; all++) {
        weir_context* context = create(f.model, TAPS, FED, all);
        assert_ok(weir_context_feed(context, ids, FED, all ? WEIR_OUTPUT_ALL : WEIR_OUTPUT_LAST));
        const int64_t rows = all ? FED : 1;
        const float* last = tap_rows(context, 1, rows);
        for (int64_t row = 0; row < rows; row++) {
            const float* logits = weir_context_logits(context, (size_t)row);
            for (int token = 0; token < TINY_VOCABULARY; token++) {
                double sum = 0.0;
                for (int i = 0; i < TINY_EMBEDDING; i++) {
                    sum += (double)last[row * TINY_EMBEDDING + i] *
                           (double)matrix[token * TINY_EMBEDDING + i];
                }
                assert_true(fabs(sum - (double)logits[token]) <= 1e-4);
            }
        }
        weir_context_destroy(context);
    }
    teardown(&f);
}

static void the_first_tap_has_the_rows_of_the_tokens(void** state) {
    (void)state;
    fixture f = setup();
    const float* table = weights_of(f.model, "token_embd.weight");
    weir_context* context = create(f.model, TAPS, 4, false);
    assert_ok(weir_context_feed(context, ids, FED, WEIR_OUTPUT_NONE)); // 4, then 3
    const float* rows = tap_rows(context, 0, 3);
    for (int i = 0; i < 3; i++) {
        assert_memory_equal(rows + i * TINY_EMBEDDING, table + ids[4 + i] * TINY_EMBEDDING,
                            TINY_EMBEDDING * sizeof(float));
    }
    assert_ok(weir_context_feed(context, &ids[2], 1, WEIR_OUTPUT_LAST)); // the other program
    assert_memory_equal(tap_rows(context, 0, 1), table + ids[2] * TINY_EMBEDDING,
                        TINY_EMBEDDING * sizeof(float));
    weir_context_destroy(context);
    teardown(&f);
}

// One row at a time or all at once, and with taps or without.
static void taps_and_logits_do_not_depend_on_each_other(void** state) {
    (void)state;
    fixture f = setup();
    weir_context* whole = create(f.model, TAPS, FED, false);
    weir_context* single = create(f.model, TAPS, FED, false);
    weir_context* without = create(f.model, 0, FED, false);
    assert_ok(weir_context_feed(whole, ids, FED, WEIR_OUTPUT_LAST));
    assert_ok(weir_context_feed(without, ids, FED, WEIR_OUTPUT_LAST));
    for (uint32_t i = 0; i < FED; i++) {
        assert_ok(weir_context_feed(single, &ids[i], 1, WEIR_OUTPUT_LAST));
        for (uint32_t tap = 2; tap < TAPS; tap++) {
            assert_rows_close(tap_rows(single, tap, 1),
                              tap_rows(whole, tap, FED) + i * TINY_EMBEDDING, 1);
        }
    }
    for (int token = 0; token < TINY_VOCABULARY; token++) {
        const float logit = weir_context_logits(whole, 0)[token];
        assert_true(fabsf(weir_context_logits(without, 0)[token] - logit) <= 1e-4f);
    }
    weir_context_memory with_taps;
    const weir_context_options options = {
        .kv_dtype = WEIR_DTYPE_F32, .prefill_rows = FED, .taps = names, .tap_count = TAPS};
    assert_ok(weir_context_measure(NULL, f.model, &options, &with_taps));
    assert_int_equal(with_taps.total, weir_context_memory_of(whole)->total);
    assert_true(with_taps.operands > weir_context_memory_of(without)->operands);
    weir_context_destroy(without);
    weir_context_destroy(single);
    weir_context_destroy(whole);
    teardown(&f);
}

static void taps_that_are_none_are_not_found(void** state) {
    (void)state;
    fixture f = setup();
    const char* const cases[] = {"blk.9.out", "blk.0.attn_norm.weight", "tokens"};
    const weir_status statuses[] = {WEIR_NOT_FOUND, WEIR_INVALID_ARGUMENT, WEIR_INVALID_ARGUMENT};
    weir_context* context = NULL;
    for (size_t i = 0; i < 3; i++) {
        const weir_context_options options = {.taps = &cases[i], .tap_count = 1};
        assert_status(weir_context_create(NULL, f.model, &options, &context), statuses[i]);
        assert_message_has(cases[i]);
    }
    assert_status(
        weir_context_create(NULL, f.model, &(weir_context_options){.tap_count = 1}, &context),
        WEIR_INVALID_ARGUMENT);
    const char* const nameless[] = {names[0], NULL};
    assert_status(weir_context_create(NULL, f.model,
                                      &(weir_context_options){.taps = nameless, .tap_count = 2},
                                      &context),
                  WEIR_INVALID_ARGUMENT);
    assert_message_has("tap 1");
    assert_null(context);

    weir_view view;
    context = create(f.model, TAPS, FED, false);
    assert_status(weir_context_tap(context, 0, &view), WEIR_NOT_FOUND);
    assert_ok(weir_context_feed(context, ids, FED, WEIR_OUTPUT_NONE));
    assert_ok(weir_context_tap(context, TAPS - 1, &view));
    assert_status(weir_context_tap(context, TAPS, &view), WEIR_NOT_FOUND);
    assert_status(weir_context_feed(context, ids, 0, WEIR_OUTPUT_NONE), WEIR_INVALID_ARGUMENT);
    assert_status(weir_context_tap(context, 0, &view), WEIR_NOT_FOUND);
    assert_ok(weir_context_feed(context, ids, FED, WEIR_OUTPUT_NONE));
    assert_ok(weir_context_rewind(context, 3));
    assert_status(weir_context_tap(context, 0, &view), WEIR_NOT_FOUND);
    weir_context_destroy(context);
    teardown(&f);
}

static void refused_memory_leaves_nothing_behind(void** state) {
    (void)state;
    fixture f = setup();
    const weir_context_options options = {.taps = names, .tap_count = TAPS};
    weir_status status = WEIR_OUT_OF_MEMORY;
    for (size_t call = 0; status != WEIR_OK; call++) {
        test_allocator heap = {.fail_at = call};
        const weir_allocator allocator = test_allocator_of(&heap);
        weir_context* context = NULL;
        status = weir_context_create(&allocator, f.model, &options, &context);
        assert_true(status == WEIR_OK || status == WEIR_OUT_OF_MEMORY);
        assert_true((status == WEIR_OK) == (context != NULL));
        weir_context_destroy(context);
        assert_int_equal(heap.live_bytes, 0);
    }
    teardown(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_the_product_of_the_last_tap),
        cmocka_unit_test(the_first_tap_has_the_rows_of_the_tokens),
        cmocka_unit_test(taps_and_logits_do_not_depend_on_each_other),
        cmocka_unit_test(taps_that_are_none_are_not_found),
        cmocka_unit_test(refused_memory_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, close_shared_devices);
}
