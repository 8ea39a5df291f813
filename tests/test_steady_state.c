// What a running text costs: nothing is allocated from the second token on. The calls of the C
// library that allocate are wrapped by the linker, so that no thread of the library escapes.
#include "testing.h"

#include <stdatomic.h>
#include <weir-llm/generate.h>

#include "llama_file.h"

static atomic_bool watching;
static atomic_uint allocations;

static void count(void) {
    if (atomic_load(&watching)) {
        atomic_fetch_add(&allocations, 1);
    }
}

void* __real_malloc(size_t byte_size);
void* __real_calloc(size_t items, size_t byte_size);
void* __real_realloc(void* pointer, size_t byte_size);
void* __real_aligned_alloc(size_t alignment, size_t byte_size);
int __real_posix_memalign(void** pointer, size_t alignment, size_t byte_size);
void* __wrap_malloc(size_t byte_size);
void* __wrap_calloc(size_t items, size_t byte_size);
void* __wrap_realloc(void* pointer, size_t byte_size);
void* __wrap_aligned_alloc(size_t alignment, size_t byte_size);
int __wrap_posix_memalign(void** pointer, size_t alignment, size_t byte_size);

void* __wrap_malloc(size_t byte_size) {
    count();
    return __real_malloc(byte_size);
}

void* __wrap_calloc(size_t items, size_t byte_size) {
    count();
    return __real_calloc(items, byte_size);
}

void* __wrap_realloc(void* pointer, size_t byte_size) {
    count();
    return __real_realloc(pointer, byte_size);
}

void* __wrap_aligned_alloc(size_t alignment, size_t byte_size) {
    count();
    return __real_aligned_alloc(alignment, byte_size);
}

int __wrap_posix_memalign(void** pointer, size_t alignment, size_t byte_size) {
    count();
    return __real_posix_memalign(pointer, alignment, byte_size);
}

static bool watch_from_the_first_token(void* context, uint32_t id, const char* bytes,
                                       size_t length) {
    (void)id;
    (void)bytes;
    (void)length;
    uint32_t* tokens = context;
    (*tokens)++;
    atomic_store(&watching, true);
    return true;
}

// Generates 40 tokens and returns how many allocations the library made after the first.
static uint32_t count_allocations(const weir_sampler_options* sampling) {
    static const uint32_t prompt[5] = {1, 4, 7, 3, 5};
    size_t byte_size = 0;
    char path[64];
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    write_file(path, bytes, byte_size);
    free(bytes);
    weir_device* device = NULL;
    weir_model* model = NULL;
    weir_tokenizer* tokenizer = NULL;
    weir_sampler* sampler = NULL;
    weir_context* context = NULL;
    assert_ok(weir_device_create(&(weir_device_desc){.thread_count = 3}, &device));
    assert_ok(weir_model_open(NULL, device, path, &model));
    assert_ok(weir_tokenizer_create(NULL, weir_model_gguf(model), &tokenizer));
    assert_ok(weir_sampler_create(NULL, sampling, TINY_VOCABULARY, &sampler));
    assert_ok(weir_context_create(NULL, model, NULL, &context));
    uint32_t tokens = 0;
    const weir_generate_options options = {.max_tokens = 40,
                                           .ignore_end = true,
                                           .emit = watch_from_the_first_token,
                                           .context = &tokens};
    atomic_store(&allocations, 0);
    const weir_status status =
        weir_generate(context, tokenizer, sampler, prompt, 5, &options, NULL);
    atomic_store(&watching, false);
    assert_ok(status);
    assert_int_equal(tokens, 40);
    weir_context_destroy(context);
    weir_sampler_destroy(sampler);
    weir_tokenizer_destroy(tokenizer);
    weir_model_destroy(model);
    weir_device_destroy(device);
    remove_file(path);
    return atomic_load(&allocations);
}

static void greedy_tokens_allocate_nothing(void** state) {
    (void)state;
    assert_int_equal(count_allocations(&(weir_sampler_options){0}), 0);
}

static void drawn_tokens_allocate_nothing(void** state) {
    (void)state;
    const weir_sampler_options sampling = {.temperature = 1.0f, .top_p = 0.9f, .seed = 3};
    assert_int_equal(count_allocations(&sampling), 0);
}

// Without this the tests above could pass because nothing is counted at all.
static void allocations_of_the_library_are_counted(void** state) {
    (void)state;
    weir_sampler* sampler = NULL;
    atomic_store(&allocations, 0);
    atomic_store(&watching, true);
    const weir_status status = weir_sampler_create(NULL, &(weir_sampler_options){0}, 5, &sampler);
    atomic_store(&watching, false);
    assert_ok(status);
    assert_true(atomic_load(&allocations) > 0);
    weir_sampler_destroy(sampler);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_tokens_allocate_nothing),
        cmocka_unit_test(drawn_tokens_allocate_nothing),
        cmocka_unit_test(allocations_of_the_library_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
