// What a running text costs: nothing is allocated from the second token on. The calls of the C
// library that allocate are wrapped by the linker, so that no thread of the library escapes.
#include "testing.h"

#include <stdatomic.h>
#include <weir-llm/generate.h>

#include "llama_file.h"
#include "program_testing.h"

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
    assert_ok(weir_model_open(NULL, device, path, NULL, &model));
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

// Four passes in flight; every other one has its input in other memory of the caller and its state
// in another storage.
static void passes_in_slots_with_new_bindings_allocate_nothing(void** state) {
    (void)state;
    enum { SLOTS = 4, PASSES = 60, WARM = 2 * SLOTS };
    small s = open_small_on(open_device("cpu", 3, NULL));
    weir_program_desc desc = desc_of(&s);
    desc.slot_count = SLOTS;
    assert_ok(weir_program_create(s.device, &desc, &s.program));
    const weir_shape shape = shape2(8, 32);
    weir_storage* other = allocate_zeros(s.device, 24 * 128);
    weir_storage* input = allocate_zeros(s.device, 1024);
    const weir_binding bindings[2][2] = {
        {{.value = s.x}, {s.kept, view_of(s.kept_bytes, WEIR_DTYPE_F32, shape2(24, 32))}},
        {{s.x, view_of(input, WEIR_DTYPE_F32, shape)},
         {s.kept, view_of(other, WEIR_DTYPE_F32, shape2(24, 32))}}};
    weir_ticket tickets[PASSES];
    weir_status status = WEIR_OK;
    float y[32] = {0.0f};
    atomic_store(&allocations, 0);
    for (uint32_t i = 0; status == WEIR_OK && i < PASSES; i++) {
        atomic_store(&watching, i >= WARM);
        if (i >= SLOTS) {
            status = weir_ticket_wait(tickets[i - SLOTS], WEIR_WAIT_FOREVER);
        }
        if (status == WEIR_OK && i >= SLOTS) {
            status = weir_program_read(s.program, tickets[i - SLOTS], s.y, y, sizeof y);
        }
        if (status == WEIR_OK) {
            status = weir_program_bind(s.program, bindings[i % 2], 2);
        }
        if (status == WEIR_OK && i % 2 == 0) {
            status = weir_program_write(s.program, s.x, y, sizeof y);
        }
        if (status == WEIR_OK) {
            status = weir_program_commit(s.program, (uint64_t[]){1, i % 16}, 2, &tickets[i]);
        }
    }
    atomic_store(&watching, false);
    assert_ok(status);
    assert_int_equal(atomic_load(&allocations), 0);
    weir_program_destroy(s.program);
    s.program = NULL;
    weir_storage_release(other);
    weir_storage_release(input);
    close_small(&s);
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
        cmocka_unit_test(passes_in_slots_with_new_bindings_allocate_nothing),
        cmocka_unit_test(allocations_of_the_library_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
