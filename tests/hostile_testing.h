// Model files that nobody vouches for: loading and running one as every user does, under a bound on
// the memory that it may ask for.
#ifndef WEIR_TESTS_HOSTILE_TESTING_H
#define WEIR_TESTS_HOSTILE_TESTING_H

#include "llama_file.h"

#include <weir-llm/generate.h>

#include "testing_allocator.h"

// What may be asked of the allocators for one file: a fixed part and a multiple of its size.
#define MEMORY_FIXED (16u << 20)
#define MEMORY_FACTOR 4

typedef struct fixture {
    test_allocator device_heap;
    test_allocator heap;
    weir_allocator allocator; // counts in `heap`
    weir_device* device;
} fixture;

static fixture f;

static inline int setup(void** state) {
    (void)state;
    f.device_heap.fail_at = f.heap.fail_at = SIZE_MAX;
    f.allocator = test_allocator_of(&f.heap);
    const weir_device_desc desc = {
        .name = "cpu", .thread_count = 1, .allocator = test_allocator_of(&f.device_heap)};
    assert_ok(weir_device_create(&desc, &f.device));
    return 0;
}

static inline int teardown(void** state) {
    (void)state;
    weir_device_destroy(f.device);
    assert_int_equal(f.device_heap.live_blocks, 0);
    return 0;
}

// A few tokens from a prompt that any vocabulary has ids for.
static inline weir_status generate(weir_model* model, const weir_tokenizer* tokenizer) {
    weir_context* context = NULL;
    weir_sampler* sampler = NULL;
    weir_ids ids = {.allocator = f.allocator};
    const char text[] = "a b\xE2\x96\x81<0x41>\xff\n";
    const weir_generate_options options = {.max_tokens = 4, .ignore_end = true};
    weir_status status =
        weir_tokenizer_encode(tokenizer, text, sizeof text - 1, WEIR_TOKENIZE_BOS, &ids);
    if (status == WEIR_OK) {
        status = weir_context_create(&f.allocator, model, NULL, &context);
    }
    if (status == WEIR_OK) {
        status = weir_sampler_create(&f.allocator, &(weir_sampler_options){0},
                                     weir_tokenizer_size(tokenizer), &sampler);
    }
    if (status == WEIR_OK) {
        status = weir_generate(context, tokenizer, sampler, ids.items, ids.count, &options, NULL);
    }
    weir_sampler_destroy(sampler);
    weir_context_destroy(context);
    weir_ids_free(&ids);
    return status;
}

// Loads a file and, where it is a model, runs it; `ran` is the status of that.
static inline weir_status load_and_run(const char* path, weir_status* ran) {
    weir_model* model = NULL;
    weir_tokenizer* tokenizer = NULL;
    weir_status status = weir_model_open(&f.allocator, f.device, path, NULL, &model);
    if (status == WEIR_OK) {
        status = weir_tokenizer_create(&f.allocator, weir_model_gguf(model), &tokenizer);
    }
    *ran = status;
    if (status == WEIR_OK) {
        *ran = generate(model, tokenizer);
    }
    weir_tokenizer_destroy(tokenizer);
    weir_model_destroy(model);
    return status;
}

static inline bool is_printable(const char* text) {
    for (; *text; text++) {
        if (*text < 0x20 || *text > 0x7E) { // as signed: bytes from 0x80 on are below
            return false;
        }
    }
    return true;
}

// Loads and runs a file and holds the outcome to what is true of every file: no memory is left
// over or asked for beyond measure, and what fails says so in one printable line with the path.
static inline weir_status judge(const char* path, uint64_t byte_size, weir_status* ran) {
    const size_t device_asked = atomic_load(&f.device_heap.asked_bytes);
    const size_t device_live = atomic_load(&f.device_heap.live_bytes);
    atomic_store(&f.heap.asked_bytes, 0);
    const weir_status status = load_and_run(path, ran);
    const uint64_t asked =
        atomic_load(&f.heap.asked_bytes) + (atomic_load(&f.device_heap.asked_bytes) - device_asked);
    if (asked > MEMORY_FIXED + MEMORY_FACTOR * byte_size) {
        fail_msg("%s: %llu bytes were asked for, the file has %llu", path,
                 (unsigned long long)asked, (unsigned long long)byte_size);
    }
    assert_int_equal(f.heap.live_blocks, 0);
    assert_true(atomic_load(&f.device_heap.live_bytes) <= device_live + 4096); // lists may grow
    if (status != WEIR_OK) {
        assert_message_has(path);
    }
    if (*ran != WEIR_OK) {
        assert_true(weir_last_error()[0] != '\0');
        assert_true(is_printable(weir_last_error()));
    }
    return status;
}

#endif
