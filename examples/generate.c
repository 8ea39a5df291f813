// Level 3: continues a text with a model file. `generate MODEL.gguf "Once upon a time"`
#include <stdio.h>
#include <string.h>
#include <weir-llm/generate.h>

static bool print(void* file, uint32_t id, const char* bytes, size_t length) {
    (void)id;
    return fwrite(bytes, 1, length, file) == length && fflush(file) == 0;
}

static weir_status generate(weir_model* model, const char* prompt) {
    weir_context* context = NULL;
    weir_tokenizer* tokenizer = NULL;
    weir_sampler* sampler = NULL;
    weir_ids ids = {0};
    WEIR_TRY(weir_context_create(NULL, model, NULL, &context));
    WEIR_TRY(weir_tokenizer_create(NULL, weir_model_gguf(model), &tokenizer));
    WEIR_TRY(weir_sampler_create(NULL, &(weir_sampler_options){.temperature = 0.7f, .seed = 1},
                                 weir_tokenizer_size(tokenizer), &sampler));
    WEIR_TRY(weir_tokenizer_encode(tokenizer, prompt, strlen(prompt), WEIR_TOKENIZE_BOS, &ids));
    const weir_generate_options options = {.max_tokens = 64, .emit = print, .context = stdout};
    printf("%s", prompt);
    WEIR_TRY(weir_generate(context, tokenizer, sampler, ids.items, ids.count, &options, NULL));
    printf("\n");
    weir_ids_free(&ids);
    weir_sampler_destroy(sampler);
    weir_tokenizer_destroy(tokenizer);
    weir_context_destroy(context);
    return WEIR_OK;
}

int main(int argc, char** argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: generate MODEL.gguf PROMPT\n");
        return 64;
    }
    weir_device* device = NULL;
    weir_model* model = NULL;
    const bool ok = weir_device_create(&(weir_device_desc){.name = "cpu"}, &device) == WEIR_OK &&
                    weir_model_open(NULL, device, argv[1], NULL, &model) == WEIR_OK &&
                    generate(model, argv[2]) == WEIR_OK;
    if (!ok) {
        fprintf(stderr, "generate: %s\n", weir_last_error());
        return 1; // the process ends here and takes its memory with it
    }
    weir_model_destroy(model);
    weir_device_destroy(device);
    return 0;
}
