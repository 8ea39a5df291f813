#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "soak.h"

static const uint32_t prefill_rows[SOAK_SHAPES] = {1, 4, 16};
static const weir_schedule_options schedules[SOAK_SHAPES] = {
    {0}, {.reuse = WEIR_REUSE_SERIAL}, {.order = WEIR_ORDER_BYTES}};

void soak_open_model(soak_thread* thread) {
    const weir_allocator allocator = soak_allocator();
    soak_require(weir_model_open(&allocator, thread->device, thread->path, NULL, &thread->model) ==
                     WEIR_OK,
                 thread);
    soak_require(weir_tokenizer_create(&allocator, weir_model_gguf(thread->model),
                                       &thread->tokenizer) == WEIR_OK,
                 thread);
}

void soak_close_model(soak_thread* thread) {
    weir_context_destroy(thread->context);
    weir_tokenizer_destroy(thread->tokenizer);
    weir_model_destroy(thread->model);
    thread->context = NULL;
    thread->tokenizer = NULL;
    thread->model = NULL;
}

static weir_status make_context(weir_model* model, uint32_t shape, weir_context** context) {
    const weir_allocator allocator = soak_allocator();
    const weir_context_options options = {
        .context_length = 64, .prefill_rows = prefill_rows[shape], .schedule = schedules[shape]};
    return weir_context_create(&allocator, model, &options, context);
}

// FNV-1a (Fowler, Noll and Vo) over the bits.
static uint64_t hash_logits(const float* logits, uint32_t count) {
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    const unsigned char* bytes = (const unsigned char*)logits;
    for (size_t i = 0; i < count * sizeof *logits; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001B3);
    }
    return hash;
}

// Hears a text, and ends it at a token.
typedef struct listener {
    uint32_t ids[SOAK_TOKENS];
    uint32_t count;
    uint32_t end_at; // SOAK_TOKENS: never
} listener;

static bool listen_to(void* context, uint32_t id, const char* bytes, size_t length) {
    listener* heard = context;
    (void)bytes;
    (void)length;
    heard->ids[heard->count++] = id;
    return heard->count < heard->end_at;
}

// Begins anew in a context and says a text, or its beginning.
static weir_status say(soak_thread* thread, weir_context* context, listener* heard) {
    const weir_allocator allocator = soak_allocator();
    const weir_generate_options options = {
        .max_tokens = SOAK_TOKENS, .ignore_end = true, .emit = listen_to, .context = heard};
    const uint32_t vocabulary = weir_tokenizer_size(thread->tokenizer);
    uint32_t prompt[9];
    weir_sampler* sampler = NULL;
    for (uint32_t i = 0; i < 9; i++) {
        prompt[i] = (i * 37 + 5 * thread->index + 1) % vocabulary;
    }
    WEIR_TRY(weir_context_rewind(context, 0));
    WEIR_TRY(weir_sampler_create(&allocator, &(weir_sampler_options){0}, vocabulary, &sampler));
    const weir_status status =
        weir_generate(context, thread->tokenizer, sampler, prompt, 9, &options, NULL);
    weir_sampler_destroy(sampler);
    return status;
}

static void compare(soak_thread* thread, weir_context* context, uint32_t shape,
                    const listener* heard) {
    const soak_text* expected = &thread->expected[shape];
    soak_require(memcmp(heard->ids, expected->ids, heard->count * sizeof *heard->ids) == 0, thread);
    if (heard->count == SOAK_TOKENS) {
        const uint64_t hash =
            hash_logits(weir_context_logits(context, 0), weir_tokenizer_size(thread->tokenizer));
        soak_require(hash == expected->logits_hash, thread);
        thread->counts[SOAK_TEXTS]++;
    } else {
        thread->counts[SOAK_TEXTS_DROPPED]++;
    }
}

void soak_learn_texts(soak_thread* thread) {
    for (uint32_t shape = 0; shape < SOAK_SHAPES; shape++) {
        listener heard = {.end_at = SOAK_TOKENS + 1};
        weir_context* context = NULL;
        soak_require(make_context(thread->model, shape, &context) == WEIR_OK, thread);
        soak_require(say(thread, context, &heard) == WEIR_OK, thread);
        soak_require(heard.count == SOAK_TOKENS, thread);
        memcpy(thread->expected[shape].ids, heard.ids, sizeof heard.ids);
        thread->expected[shape].logits_hash =
            hash_logits(weir_context_logits(context, 0), weir_tokenizer_size(thread->tokenizer));
        weir_context_destroy(context);
    }
}

static uint32_t random_end(soak_thread* thread) {
    return soak_below(thread, 3) == 0 ? 1 + soak_below(thread, SOAK_TOKENS) : SOAK_TOKENS + 1;
}

// Keeps its context now and then; another time the model too is opened anew.
void soak_say_text(soak_thread* thread) {
    if (!thread->context || soak_below(thread, 4) == 0) {
        weir_context_destroy(thread->context);
        thread->context = NULL;
        if (soak_below(thread, 4) == 0) {
            soak_close_model(thread);
            soak_open_model(thread);
        }
        thread->shape = soak_below(thread, SOAK_SHAPES);
        soak_require(make_context(thread->model, thread->shape, &thread->context) == WEIR_OK,
                     thread);
    }
    listener heard = {.end_at = random_end(thread)};
    soak_require(say(thread, thread->context, &heard) == WEIR_OK, thread);
    compare(thread, thread->context, thread->shape, &heard);
}

void soak_say_on_own_device(soak_thread* thread) {
    const weir_allocator allocator = soak_allocator();
    const weir_device_desc desc = {
        .name = "cpu", .thread_count = 1 + soak_below(thread, 3), .allocator = allocator};
    const uint32_t shape = soak_below(thread, SOAK_SHAPES);
    weir_device* device = NULL;
    weir_model* model = NULL;
    weir_context* context = NULL;
    listener heard = {.end_at = random_end(thread)};
    soak_require(weir_device_create(&desc, &device) == WEIR_OK, thread);
    soak_require(weir_model_open(&allocator, device, thread->path, NULL, &model) == WEIR_OK,
                 thread);
    soak_require(make_context(model, shape, &context) == WEIR_OK, thread);
    soak_require(say(thread, context, &heard) == WEIR_OK, thread);
    compare(thread, context, shape, &heard);
    weir_context_destroy(context);
    weir_model_destroy(model);
    weir_device_destroy(device);
    thread->counts[SOAK_DEVICES]++;
}

// One allocation between opening the model and the end of a text fails.
void soak_starve_text(soak_thread* thread) {
    const weir_allocator allocator = soak_allocator();
    const uint32_t shape = soak_below(thread, SOAK_SHAPES);
    listener heard = {.end_at = SOAK_TOKENS + 1};
    weir_model* model = NULL;
    weir_context* context = NULL;
    soak_arm(soak_below(thread, 1000));
    weir_status status = weir_model_open(&allocator, thread->device, thread->path, NULL, &model);
    status = status == WEIR_OK ? make_context(model, shape, &context) : status;
    status = status == WEIR_OK ? say(thread, context, &heard) : status;
    const bool failed = soak_disarm();
    soak_require(status == (failed ? WEIR_OUT_OF_MEMORY : WEIR_OK), thread);
    thread->counts[failed ? SOAK_FAILED_ALLOCATIONS : SOAK_TEXTS]++;
    weir_context_destroy(context);
    weir_model_destroy(model);
}

// The first bytes of the model: its metadata may be whole, its tensors are not.
static weir_status open_cut_file(soak_thread* thread) {
    char cut[64];
    char bytes[4096];
    snprintf(cut, sizeof cut, "/tmp/weir-soak-XXXXXX");
    const int from = open(thread->path, O_RDONLY | O_CLOEXEC);
    const int to = mkstemp(cut);
    soak_require(from >= 0 && to >= 0, thread);
    const ssize_t length = read(from, bytes, 1 + soak_below(thread, sizeof bytes));
    soak_require(length > 0 && write(to, bytes, (size_t)length) == length, thread);
    close(from);
    close(to);
    weir_model* model = NULL;
    const weir_allocator allocator = soak_allocator();
    const weir_status status = weir_model_open(&allocator, thread->device, cut, NULL, &model);
    soak_require(model == NULL, thread);
    unlink(cut);
    return status;
}

void soak_ask_wrong(soak_thread* thread) {
    const weir_allocator allocator = soak_allocator();
    const uint32_t outside = weir_tokenizer_size(thread->tokenizer);
    const weir_context_options endless = {.context_length = UINT32_MAX};
    weir_context* context = NULL;
    weir_model* model = NULL;
    soak_require(open_cut_file(thread) == WEIR_BAD_FORMAT, thread);
    soak_require(weir_model_open(&allocator, thread->device, "/nowhere/none.gguf", NULL, &model) !=
                     WEIR_OK,
                 thread);
    soak_require(weir_context_create(&allocator, thread->model, &endless, &context) ==
                     WEIR_OUT_OF_RANGE,
                 thread);
    if (thread->context) {
        soak_require(weir_context_feed(thread->context, &outside, 1, WEIR_OUTPUT_LAST) ==
                         WEIR_OUT_OF_RANGE,
                     thread);
        thread->counts[SOAK_REFUSED]++;
    }
    thread->counts[SOAK_REFUSED] += 3;
}
