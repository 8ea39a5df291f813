// A model from opening to text: changes to a whole llama file (fuzz_changes.h) give an error, or a
// model whose texts cost no more than what was asked for. Weights may say anything: what comes out
// is a token of the vocabulary.
#include "fuzz_changes.h"

#include <sys/mman.h>
#include <unistd.h>
#include <weir-llm/generate.h>

#include "llama_file.h"

#define CONTEXT 16
#define ROOM 4096                      // bytes that changes may add
#define MODEL_BYTES ((size_t)64 << 20) // of all that is made of one file

typedef struct speaker {
    weir_model* model;
    weir_tokenizer* tokenizer;
    weir_sampler* sampler;
    weir_context* context;
    weir_ids ids;
} speaker;

static weir_device* device; // made once, with one worker: runs repeat
static uint8_t* whole;
static size_t whole_size;

static void prepare(void) {
    const weir_device_desc desc = {.name = "cpu", .thread_count = 1};
    whole = tiny_llama(NULL, &whole_size);
    fuzz_require(weir_device_create(&desc, &device) == WEIR_OK);
}

static bool is_token(void* context, uint32_t id, const char* bytes, size_t length) {
    const speaker* s = context;
    fuzz_require(id < weir_tokenizer_size(s->tokenizer));
    fuzz_require(length == 0 || bytes != NULL);
    return true;
}

// Prefers the tokens of a text; a vocabulary that knows none of it has its first ones.
static weir_status speak(speaker* s, const weir_allocator* allocator, const char* path) {
    const weir_context_options options = {.prefill_rows = 4};
    const weir_generate_options generate = {.max_tokens = 3, .emit = is_token, .context = s};
    WEIR_TRY(weir_model_open(allocator, device, path, NULL, &s->model));
    WEIR_TRY(weir_tokenizer_create(allocator, weir_model_gguf(s->model), &s->tokenizer));
    WEIR_TRY(weir_tokenizer_encode(s->tokenizer, "a bad cab", 9, WEIR_TOKENIZE_BOS, &s->ids));
    WEIR_TRY(weir_sampler_create(allocator, &(weir_sampler_options){.temperature = 0.8f},
                                 weir_tokenizer_size(s->tokenizer), &s->sampler));
    weir_context_options used = options;
    const uint32_t most = weir_model_params(s->model)->context;
    used.context_length = most < CONTEXT ? most : CONTEXT;
    WEIR_TRY(weir_context_create(allocator, s->model, &used, &s->context));
    return weir_generate(s->context, s->tokenizer, s->sampler, s->ids.items, s->ids.count,
                         &generate, NULL);
}

static void run_file(const char* path) {
    fuzz_purse purse = {.most = MODEL_BYTES};
    const weir_allocator allocator = fuzz_allocator(&purse);
    speaker s = {.ids = {.allocator = allocator}};
    const weir_status status = speak(&s, &allocator, path);
    fuzz_require(status != WEIR_OUT_OF_MEMORY && status != WEIR_INTERNAL);
    fuzz_require(status == WEIR_OK || weir_last_error()[0] != '\0');
    weir_ids_free(&s.ids);
    weir_context_destroy(s.context);
    weir_sampler_destroy(s.sampler);
    weir_tokenizer_destroy(s.tokenizer);
    weir_model_destroy(s.model);
    fuzz_require(purse.live == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t byte_size) {
    if (!whole) {
        prepare();
    }
    char path[64];
    fuzz_input input = {bytes, byte_size};
    fuzz_bytes file = {malloc(whole_size + ROOM), whole_size, whole_size + ROOM};
    fuzz_require(file.items);
    memcpy(file.items, whole, whole_size);
    fuzz_change(&input, &file);
    const int descriptor = memfd_create("model", MFD_CLOEXEC);
    fuzz_require(descriptor >= 0);
    fuzz_require(write(descriptor, file.items, file.count) == (ssize_t)file.count);
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    run_file(path);
    close(descriptor);
    free(file.items);
    return 0;
}
