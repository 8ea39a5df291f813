// A model with everything that generation needs, and a listener to what it says.
#ifndef WEIR_TESTS_LLM_FIXTURE_H
#define WEIR_TESTS_LLM_FIXTURE_H

#include "testing.h"

#include <weir-llm/generate.h>

#include "shared_device.h"

#define LISTENER_TOKENS 256

typedef struct fixture {
    weir_device* device;
    weir_model* model;
    weir_tokenizer* tokenizer;
    weir_sampler* sampler;
    weir_context* context;
} fixture;

// Opens the rest for a device that is there; on failure teardown closes what was made.
static inline WEIR_MUST_USE weir_status fill_fixture(fixture* f, const weir_allocator* allocator,
                                                     const char* path, float temperature,
                                                     const weir_context_options* options) {
    const weir_sampler_options sampling = {.temperature = temperature};
    WEIR_TRY(weir_model_open(allocator, f->device, path, NULL, &f->model));
    WEIR_TRY(weir_tokenizer_create(allocator, weir_model_gguf(f->model), &f->tokenizer));
    WEIR_TRY(
        weir_sampler_create(allocator, &sampling, weir_tokenizer_size(f->tokenizer), &f->sampler));
    return weir_context_create(allocator, f->model, options, &f->context);
}

// `device` NULL is the CPU with its best kernels; WEIR_TEST_DEVICE comes before either, and where
// "cpu:plain" is asked for, whose kernels round no activations, those of Vulkan round none. The
// group of tests ends with close_shared_devices.
static inline fixture open_fixture(const char* path, const char* device, uint32_t threads,
                                   const weir_context_options* options) {
    const bool plain = device && strcmp(device, "cpu:plain") == 0;
    fixture f = {.device = open_test_device(device, threads, plain)};
    assert_ok(fill_fixture(&f, NULL, path, 0.0f, options));
    return f;
}

static inline void teardown(fixture* f) {
    weir_context_destroy(f->context);
    weir_sampler_destroy(f->sampler);
    weir_tokenizer_destroy(f->tokenizer);
    weir_model_destroy(f->model);
    close_test_device(f->device);
}

#define CPU_DEVICES 5

// Finds the devices of this processor that are named for their kernels. No list is asked for: that
// would open the drivers of all other devices, which leave memory behind.
static inline uint32_t list_cpu_devices(const char* names[CPU_DEVICES]) {
    static const char* const known[] = {"cpu:plain", "cpu:avx2", "cpu:avx512", "cpu:avx512_bf16",
                                        "cpu:neon"};
    uint32_t count = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        weir_device* device = NULL;
        const weir_status status =
            weir_device_create(&(weir_device_desc){.name = known[i]}, &device);
        assert_true(status == WEIR_OK || (i > 0 && status == WEIR_UNSUPPORTED));
        if (status == WEIR_OK) {
            names[count++] = known[i];
        }
        weir_device_destroy(device);
    }
    return count;
}

// The ids and bytes that generation emits.
typedef struct listener {
    uint32_t ids[LISTENER_TOKENS];
    size_t count;
    char text[4096];
    size_t length;
} listener;

static inline bool listen_to(void* context, uint32_t id, const char* bytes, size_t length) {
    listener* heard = context;
    assert_true(heard->count < LISTENER_TOKENS && heard->length + length < sizeof heard->text);
    heard->ids[heard->count++] = id;
    memcpy(heard->text + heard->length, bytes, length);
    heard->length += length;
    heard->text[heard->length] = '\0';
    return true;
}

static inline void generate(fixture* f, const uint32_t* prompt, size_t count, uint32_t tokens,
                            listener* heard) {
    const weir_generate_options options = {
        .max_tokens = tokens, .ignore_end = true, .emit = listen_to, .context = heard};
    assert_ok(weir_generate(f->context, f->tokenizer, f->sampler, prompt, count, &options, NULL));
}

#endif
