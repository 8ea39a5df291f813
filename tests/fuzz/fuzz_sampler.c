// The sampler: any options and logits give a token of the vocabulary or an error, and never one
// whose logit is -inf; the same input gives the same tokens again.
#include "fuzz.h"

#include <math.h>
#include <weir-llm/sampler.h>

#define TOKENS_MAX 64
#define DRAWS 4

static float fuzz_float(fuzz_input* input) {
    static const float odd[] = {0, -0.0f, INFINITY, -INFINITY, NAN, 1e-40f, 3e38f, -3e38f};
    const uint8_t kind = fuzz_byte(input);
    if (kind < 16) {
        return odd[kind % 8];
    }
    return (float)(int8_t)fuzz_byte(input) / (kind < 128 ? 8.0f : 0.001f);
}

static uint32_t draw(const weir_sampler_options* options, const float* logits, uint32_t count,
                     uint32_t ids[DRAWS]) {
    weir_sampler* sampler = NULL;
    uint32_t drawn = 0;
    if (weir_sampler_create(NULL, options, count, &sampler) != WEIR_OK) {
        return 0;
    }
    while (drawn < DRAWS && weir_sampler_next(sampler, logits, &ids[drawn]) == WEIR_OK) {
        fuzz_require(ids[drawn] < count);
        fuzz_require(logits[ids[drawn]] > -INFINITY);
        drawn++;
    }
    weir_sampler_destroy(sampler);
    return drawn;
}

int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t byte_size) {
    fuzz_input input = {bytes, byte_size};
    weir_sampler_options options = {0};
    options.temperature = fuzz_float(&input);
    options.top_p = fuzz_float(&input);
    options.seed = fuzz_u64(&input);
    options.top_k = fuzz_byte(&input);
    options.min_p = fuzz_float(&input);
    options.repetition_penalty = fuzz_float(&input);
    options.repetition_window = fuzz_byte(&input);
    const uint32_t count = fuzz_below(&input, TOKENS_MAX + 1);
    float* logits = malloc((count > 0 ? count : 1) * sizeof *logits);
    fuzz_require(logits);
    for (uint32_t i = 0; i < count; i++) {
        logits[i] = fuzz_float(&input);
    }
    uint32_t first[DRAWS];
    uint32_t second[DRAWS];
    const uint32_t drawn = draw(&options, logits, count, first);
    fuzz_require(draw(&options, logits, count, second) == drawn);
    fuzz_require(memcmp(first, second, drawn * sizeof first[0]) == 0);
    free(logits);
    return 0;
}
