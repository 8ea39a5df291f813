// Limits of models and contexts: what is needed is known, and compared, before it is taken.
#include "llama_file.h"

#include <unistd.h>
#include <weir-llm/context.h>
#include <weir-llm/tokenizer.h>

#include "device/backend.h"
#include "testing_allocator.h"

typedef struct fixture {
    char path[64];
    uint64_t byte_size;
    test_allocator heap; // of the device
    weir_device* device;
} fixture;

static int setup(void** state) {
    static fixture f;
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    write_file(f.path, bytes, byte_size);
    free(bytes);
    f.byte_size = byte_size;
    f.heap.fail_at = SIZE_MAX;
    const weir_device_desc desc = {
        .name = "cpu", .thread_count = 1, .allocator = test_allocator_of(&f.heap)};
    assert_ok(weir_device_create(&desc, &f.device));
    *state = &f;
    return 0;
}

static int teardown(void** state) {
    fixture* f = *state;
    weir_device_destroy(f->device);
    assert_int_equal(f->heap.live_blocks, 0);
    remove_file(f->path);
    return 0;
}

static weir_model* open_limited(fixture* f, const weir_limits* limits) {
    weir_model* model = NULL;
    const weir_model_options options = {.limits = *limits};
    assert_ok(weir_model_open(NULL, f->device, f->path, &options, &model));
    return model;
}

static void defaults_fit_the_machine(void** state) {
    (void)state;
    const uint64_t machine = weir_machine_memory();
    const uint64_t pages = (uint64_t)sysconf(_SC_PHYS_PAGES);
    assert_true(machine >= 1u << 20);
    assert_true(machine <= pages * (uint64_t)sysconf(_SC_PAGESIZE));
    const weir_limits limits = weir_limits_resolve(NULL);
    assert_true(limits.file_bytes == machine && limits.memory_bytes == machine);
    assert_int_equal(limits.context, WEIR_CONTEXT_MAX);
    assert_int_equal(limits.vocabulary, WEIR_VOCABULARY_MAX);
    const weir_limits wanted = {1, 2, 3, 4};
    const weir_limits kept = weir_limits_resolve(&wanted);
    assert_memory_equal(&kept, &wanted, sizeof kept);
}

static void a_model_within_its_limits_opens(void** state) {
    fixture* f = *state;
    const weir_limits limits = {.file_bytes = f->byte_size, .vocabulary = TINY_VOCABULARY};
    weir_model* model = open_limited(f, &limits);
    assert_true(weir_model_limits(model)->file_bytes == f->byte_size);
    const uint64_t device = weir_device_memory_now(f->device).total_bytes;
    const uint64_t machine = weir_machine_memory();
    const uint64_t least = device > 0 && device < machine ? device : machine;
    assert_true(weir_model_limits(model)->memory_bytes == least);
    weir_model_destroy(model);
}

static void a_model_over_a_limit_is_refused_with_both_numbers(void** state) {
    fixture* f = *state;
    char found[96];
    weir_model* model = NULL;
    weir_model_options options = {.limits.file_bytes = f->byte_size - 1};
    snprintf(found, sizeof found, "size of the model: found %llu bytes, allowed are %llu",
             (unsigned long long)f->byte_size, (unsigned long long)f->byte_size - 1);
    assert_status(weir_model_open(NULL, f->device, f->path, &options, &model), WEIR_OUT_OF_RANGE);
    assert_message_has(f->path);
    assert_message_has(found);
    options.limits = (weir_limits){.vocabulary = TINY_VOCABULARY - 1};
    assert_status(weir_model_open(NULL, f->device, f->path, &options, &model), WEIR_OUT_OF_RANGE);
    assert_message_has(f->path);
    assert_message_has("vocabulary: found 12 tokens, allowed are 11");
    assert_null(model);
}

static void contexts_keep_to_the_limit_of_positions(void** state) {
    fixture* f = *state;
    weir_model* model = open_limited(f, &(weir_limits){.context = 10});
    weir_context* context = NULL;
    const weir_context_options wish = {.context_length = 11};
    assert_status(weir_context_create(NULL, model, &wish, &context), WEIR_OUT_OF_RANGE);
    assert_message_has("a context of 11 positions; allowed are 10");
    weir_context_memory memory;
    assert_status(weir_context_measure(NULL, model, &wish, &memory), WEIR_OUT_OF_RANGE);
    assert_ok(weir_context_create(NULL, model, NULL, &context)); // the default is cut
    assert_int_equal(weir_context_length(context), 10);
    weir_context_destroy(context);
    weir_model_destroy(model);
}

// The sums that a reader can make by hand, and the arena as the schedules say.
static void the_memory_of_a_context_is_what_it_takes(void** state) {
    fixture* f = *state;
    weir_model* model = open_limited(f, &(weir_limits){0});
    const weir_context_options wish = {.context_length = 48, .prefill_rows = 16};
    weir_context_memory memory;
    assert_ok(weir_context_measure(NULL, model, &wish, &memory));
    weir_context* context = NULL;
    assert_ok(weir_context_create(NULL, model, &wish, &context));
    assert_memory_equal(weir_context_memory_of(context), &memory, sizeof memory);
    uint64_t count = 0;
    uint64_t weights = 0;
    const weir_gguf_tensor* tensors = weir_gguf_tensors(weir_model_gguf(model), &count);
    for (uint64_t i = 0; i < count; i++) {
        weights += tensors[i].byte_size;
    }
    assert_int_equal(memory.weights, weights);
    const uint64_t caches = 2 * TINY_BLOCKS * 48ull * 16 * sizeof(uint16_t); // F16
    assert_int_equal(memory.caches, caches);
    assert_true(weir_state_reserved_bytes(weir_context_cache(context)) >= caches);
    uint64_t arena = 0;
    for (weir_phase phase = 0; phase < WEIR_PHASE_COUNT; phase++) {
        const weir_schedule_report* report =
            weir_schedule_report_of(weir_context_schedule(context, phase));
        arena = report->arena_bytes > arena ? report->arena_bytes : arena;
    }
    assert_true(arena > 0);
    assert_int_equal(memory.arena, arena);
    assert_true(memory.operands >= 2 * TINY_VOCABULARY * sizeof(float));
    assert_int_equal(memory.vocabulary, weir_tokenizer_bytes(weir_model_gguf(model)));
    assert_int_equal(memory.vocabulary, weir_model_vocabulary_bytes(model));
    assert_int_equal(memory.total, memory.weights + memory.caches + memory.arena + memory.operands +
                                       memory.vocabulary);
    weir_context_destroy(context);
    weir_model_destroy(model);
}

// At the need itself it works, a byte below it does not, whether the arena or less is too much; and
// then nothing was asked of the device.
static void a_context_over_the_limit_takes_nothing(void** state) {
    fixture* f = *state;
    weir_model* model = open_limited(f, &(weir_limits){0});
    weir_context_memory memory;
    assert_ok(weir_context_measure(NULL, model, NULL, &memory));
    weir_model_destroy(model);
    const uint64_t least = memory.total - memory.arena - memory.operands;
    const uint64_t limits[] = {memory.total, memory.total - 1, least - 1, 1};
    for (int i = 0; i < 4; i++) {
        model = open_limited(f, &(weir_limits){.memory_bytes = limits[i]});
        weir_context* context = NULL;
        test_allocator heap = {.fail_at = SIZE_MAX};
        const weir_allocator allocator = test_allocator_of(&heap);
        const size_t before = atomic_load(&f->heap.asked_bytes);
        const weir_status status = weir_context_create(&allocator, model, NULL, &context);
        assert_int_equal(status, i == 0 ? WEIR_OK : WEIR_OUT_OF_RANGE);
        if (i > 0) {
            char allowed[64];
            snprintf(allowed, sizeof allowed, "allowed are %llu", (unsigned long long)limits[i]);
            assert_message_has(f->path);
            assert_message_has("needed are ");
            assert_message_has(allowed);
            assert_int_equal(atomic_load(&f->heap.asked_bytes), before);
            assert_null(context);
        }
        weir_context_destroy(context);
        assert_int_equal(heap.live_blocks, 0);
        weir_model_destroy(model);
    }
}

// A file of a few KiB that asks for the largest caches there may be, with rows that are wide and
// cheap to write: the keys of 2^24 positions.
static void a_small_file_cannot_ask_for_much(void** state) {
    fixture* f = *state;
    size_t byte_size = 0;
    char path[64];
    const llama_change change = {
        .name = "llama.context_length", .kind = CHANGE_U32, .number = WEIR_CONTEXT_MAX};
    uint8_t* bytes = tiny_llama(&change, &byte_size);
    write_file(path, bytes, byte_size);
    free(bytes);
    weir_model* model = NULL;
    weir_context* context = NULL;
    const weir_model_options options = {.limits.memory_bytes = 4u << 20};
    const weir_context_options wish = {.context_length = WEIR_CONTEXT_MAX};
    assert_ok(weir_model_open(NULL, f->device, path, &options, &model));
    test_allocator heap = {.fail_at = SIZE_MAX};
    const weir_allocator allocator = test_allocator_of(&heap);
    assert_status(weir_context_create(&allocator, model, &wish, &context), WEIR_OUT_OF_RANGE);
    assert_message_has("keys and values 2147483648");
    assert_true(heap.asked_bytes < 1u << 20);                    // a graph, and no plan of it
    assert_ok(weir_context_create(NULL, model, NULL, &context)); // the default length is modest
    weir_context_destroy(context);
    weir_model_destroy(model);
    remove_file(path);
}

static void each_failing_allocation_of_a_measure_leaks_nothing(void** state) {
    fixture* f = *state;
    weir_model* model = open_limited(f, &(weir_limits){0});
    weir_status status = WEIR_OUT_OF_MEMORY;
    const weir_context_options wish = {.prefill_rows = 4};
    size_t calls = 0;
    for (; status == WEIR_OUT_OF_MEMORY; calls++) {
        test_allocator heap = {.fail_at = calls};
        const weir_allocator allocator = test_allocator_of(&heap);
        weir_context_memory memory = {.total = 7};
        status = weir_context_measure(&allocator, model, &wish, &memory);
        assert_int_equal(memory.total == 7, status != WEIR_OK);
        assert_int_equal(heap.live_blocks, 0);
    }
    assert_ok(status);
    assert_true(calls > 5);
    weir_model_destroy(model);
}

// Logits of a prompt and of the token after it, [2, vocabulary].
static void feed_text(weir_context* context, float* logits) {
    static const uint32_t ids[] = {1, 4, 7, 3, 11, 5, 6, 2, 9, 10, 8, 3, 4, 7, 6, 5, 1, 2, 3, 9};
    const uint32_t count = sizeof ids / sizeof *ids;
    assert_ok(weir_context_feed(context, ids, count - 1, WEIR_OUTPUT_LAST));
    memcpy(logits, weir_context_logits(context, 0), TINY_VOCABULARY * sizeof *logits);
    assert_ok(weir_context_feed(context, &ids[count - 1], 1, WEIR_OUTPUT_LAST));
    memcpy(logits + TINY_VOCABULARY, weir_context_logits(context, 0),
           TINY_VOCABULARY * sizeof *logits);
}

// A device that allows little of one storage ends no context while the pieces fit: arena and caches
// lie in several, with the same bits. One piece that does not is named with both numbers.
static void a_context_needs_no_large_storage(void** state) {
    fixture* f = *state;
    weir_model* model = open_limited(f, &(weir_limits){0});
    const weir_context_options wish = {.context_length = 48, .prefill_rows = 16};
    weir_context* context = NULL;
    float expected[2 * TINY_VOCABULARY];
    float got[2 * TINY_VOCABULARY];
    assert_ok(weir_context_create(NULL, model, &wish, &context));
    feed_text(context, expected);
    weir_context_destroy(context);
    uint64_t* limit = &f->device->target.storage_bytes_max;
    uint32_t refused = 0;
    for (*limit = 256;; *limit += 256) {
        const weir_status status = weir_context_create(NULL, model, &wish, &context);
        if (status == WEIR_OK) {
            break;
        }
        char number[32];
        snprintf(number, sizeof number, "%llu", (unsigned long long)*limit);
        assert_true(status == WEIR_UNSUPPORTED || status == WEIR_DEVICE_OUT_OF_MEMORY);
        assert_message_has(number);
        refused++;
    }
    assert_true(refused > 8);
    feed_text(context, got);
    assert_memory_equal(got, expected, sizeof got);
    const weir_schedule* prefill = weir_context_schedule(context, WEIR_PHASE_PREFILL);
    const uint32_t blocks = weir_schedule_report_of(prefill)->arena_blocks;
    assert_true(blocks > 1);
    assert_true(weir_context_memory_of(context)->arena <= blocks * *limit);
    assert_int_equal(weir_state_storage_count(weir_context_cache(context)), 2 * TINY_BLOCKS);
    weir_context_destroy(context);
    *limit = 0;
    weir_model_destroy(model);
}

static void a_file_without_tokens_needs_no_tables(void** state) {
    (void)state;
    gguf_builder builder = {0};
    gguf_put_u32(&builder, "tokenizer.ggml.tokens", 3);
    size_t byte_size = 0;
    uint8_t* bytes = gguf_builder_finish(&builder, &byte_size);
    weir_gguf* gguf = NULL;
    assert_ok(weir_gguf_parse(NULL, bytes, byte_size, "odd", &gguf));
    assert_int_equal(weir_tokenizer_bytes(gguf), 0);
    weir_gguf_destroy(gguf);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_fit_the_machine),
        cmocka_unit_test(a_model_within_its_limits_opens),
        cmocka_unit_test(a_model_over_a_limit_is_refused_with_both_numbers),
        cmocka_unit_test(contexts_keep_to_the_limit_of_positions),
        cmocka_unit_test(the_memory_of_a_context_is_what_it_takes),
        cmocka_unit_test(a_context_over_the_limit_takes_nothing),
        cmocka_unit_test(a_small_file_cannot_ask_for_much),
        cmocka_unit_test(each_failing_allocation_of_a_measure_leaks_nothing),
        cmocka_unit_test(a_context_needs_no_large_storage),
        cmocka_unit_test(a_file_without_tokens_needs_no_tables),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
