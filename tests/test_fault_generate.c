// A text from a model, from opening the device to closing it, in which every allocation, mapping,
// commit of memory and thread start fails once in turn.
#include "testing_faults.h"

#include "llama_file.h"
#include "llm_fixture.h"

static bool count_tokens(void* context, uint32_t id, const char* bytes, size_t length) {
    (void)id;
    (void)bytes;
    (void)length;
    ++*(uint32_t*)context;
    return true;
}

static weir_status speak(fixture* f, const char* path, const weir_allocator* allocator,
                         weir_ids* ids) {
    const weir_device_desc device = {.name = "cpu", .thread_count = 2, .allocator = *allocator};
    uint32_t tokens = 0;
    const weir_generate_options options = {
        .max_tokens = 4, .ignore_end = true, .emit = count_tokens, .context = &tokens};
    WEIR_TRY(weir_device_create(&device, &f->device));
    WEIR_TRY(fill_fixture(f, allocator, path, 0.8f, NULL));
    WEIR_TRY(weir_tokenizer_encode(f->tokenizer, "abc", 3, 0, ids));
    WEIR_TRY(weir_generate(f->context, f->tokenizer, f->sampler, ids->items, ids->count, &options,
                           NULL));
    return tokens == 4 ? WEIR_OK : WEIR_FAIL(WEIR_INTERNAL, "%u tokens, expected 4", tokens);
}

static weir_status cycle(void* context, const weir_allocator* allocator) {
    fixture f = {0};
    weir_ids ids = {.allocator = *allocator};
    const weir_status status = speak(&f, context, allocator, &ids);
    weir_ids_free(&ids);
    teardown(&f);
    return status;
}

static void generation_survives_each_failure_of_the_system(void** state) {
    (void)state;
    char path[64];
    size_t failures[FAULT_KINDS];
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    write_file(path, bytes, byte_size);
    free(bytes);
    fail_each_in_turn(cycle, path, failures);
    remove_file(path);
    print_failures(failures);
    assert_true(failures[FAULT_ALLOCATION] > 100);
    assert_true(failures[FAULT_MAPPING] >= 1);
    assert_true(failures[FAULT_COMMIT] >= 1);
    assert_int_equal(failures[FAULT_THREAD], 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generation_survives_each_failure_of_the_system),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
