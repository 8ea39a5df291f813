// The loop of autoregressive decoding: logits -> one token -> the next pass. Everything it needs
// lies on the stack or in objects made before, so a token costs no allocation.
#include <weir-llm/generate.h>

#include <time.h>

#include "stop_text.h"

typedef struct generator {
    weir_context* context;
    const weir_tokenizer* tokenizer;
    weir_sampler* sampler;
    const weir_generate_options* options;
    weir_generate_stats stats;
    bool at_start; // the text is still empty: a leading space is not part of it
    bool is_over;  // the caller or a stop text ended it: what is held back is nobody's
    stop_text stop;
} generator;

const char* weir_generate_end_name(weir_generate_end end) {
    switch (end) {
    case WEIR_END_LIMIT:
        return "limit";
    case WEIR_END_TOKEN:
        return "end token";
    case WEIR_END_CONTEXT:
        return "context full";
    case WEIR_END_CALLER:
        return "caller";
    case WEIR_END_STOP:
        return "stopped";
    case WEIR_END_TEXT:
        return "stop text";
    }
    return "unknown";
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// Read between passes: a pass under way is not interrupted, its results are whole or absent.
static bool is_stopped(const generator* g) {
    return g->options->stop && *g->options->stop != 0;
}

// Feeds the prompt pass by pass, so that a stop is seen between two of them.
static weir_status feed_prompt(generator* g, const uint32_t* ids, size_t count) {
    const size_t room = weir_context_length(g->context) - weir_context_position(g->context);
    if (count == 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "the prompt has no tokens, not even a BOS token");
    }
    if (count > room) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                         "the prompt has %zu tokens; the context has room for %zu", count, room);
    }
    const size_t pass_rows = weir_context_rows(g->context);
    for (size_t fed = 0; fed < count && !is_stopped(g);) {
        const size_t rows = count - fed < pass_rows ? count - fed : pass_rows;
        const weir_output output = fed + rows == count ? WEIR_OUTPUT_LAST : WEIR_OUTPUT_NONE;
        WEIR_TRY(weir_context_feed(g->context, ids + fed, rows, output));
        for (size_t i = fed; i < fed + rows; i++) {
            g->at_start = g->at_start && weir_tokenizer_piece(g->tokenizer, ids[i]).length == 0;
        }
        WEIR_TRY(weir_sampler_accept(g->sampler, ids + fed, rows));
        fed += rows;
        g->stats.prompt_tokens = (uint32_t)fed;
    }
    return WEIR_OK;
}

// Hands bytes to the caller; false ends generation.
static bool hand_out(generator* g, uint32_t id, const char* bytes, size_t length) {
    const weir_generate_options* options = g->options;
    if (options->emit && !options->emit(options->context, id, bytes, length)) {
        g->stats.end = WEIR_END_CALLER;
        g->is_over = true;
    }
    return !g->is_over;
}

// Hands out what is certain of a token. One call is about the token, whatever there is of its
// bytes; more are only made for a piece that is longer than what is looked at at once.
static bool hand_out_certain(generator* g, uint32_t id, const char* bytes, size_t length) {
    bool found = false;
    do {
        const size_t taken = length < STOP_TEXT_CHUNK ? length : STOP_TEXT_CHUNK;
        const size_t certain = weir_stop_text_take(&g->stop, bytes, taken, &found);
        if ((id != WEIR_TOKEN_NONE || certain > 0) && !hand_out(g, id, g->stop.bytes, certain)) {
            return false;
        }
        weir_stop_text_drop(&g->stop, certain);
        id = WEIR_TOKEN_NONE;
        bytes += taken;
        length -= taken;
    } while (length > 0 && !found);
    if (found) {
        g->stats.end = WEIR_END_TEXT;
        g->is_over = true;
    }
    return !found;
}

// Hands one token to the caller; false ends generation. Pieces of the first word carry the space
// that encoding puts before every text; it is dropped once, from the first piece that adds any
// bytes.
static bool emit(generator* g, uint32_t id) {
    weir_text piece = weir_tokenizer_piece(g->tokenizer, id);
    if (g->at_start && piece.length > 0) {
        g->at_start = false;
        if (piece.bytes[0] == ' ' && weir_tokenizer_strips_space(g->tokenizer)) {
            piece.bytes++;
            piece.length--;
        }
    }
    g->stats.generated_tokens++;
    return g->stop.count > 0 ? hand_out_certain(g, id, piece.bytes, (size_t)piece.length)
                             : hand_out(g, id, piece.bytes, (size_t)piece.length);
}

// What was held back did not become a stop text.
static void release_held(generator* g) {
    const weir_generate_end end = g->stats.end;
    if (!g->is_over && g->stop.held > 0) {
        (void)hand_out(g, WEIR_TOKEN_NONE, g->stop.bytes, g->stop.held);
        g->stats.end = end; // it had ended before
    }
}

// Ends with the logits of the last fed token used up or dropped; the token drawn last is emitted
// but not fed, since nobody has asked for what follows it.
static weir_status decode(generator* g) {
    const weir_generate_options* options = g->options;
    const float* logits = weir_context_logits(g->context, 0); // NULL: stopped within the prompt
    while (logits && !is_stopped(g)) {
        uint32_t id = 0;
        WEIR_TRY(weir_sampler_next(g->sampler, logits, &id));
        if (!options->ignore_end && weir_tokenizer_is_end(g->tokenizer, id)) {
            g->stats.end = WEIR_END_TOKEN;
            return WEIR_OK;
        }
        if (!emit(g, id)) {
            return WEIR_OK;
        }
        if (g->stats.generated_tokens == options->max_tokens) {
            g->stats.end = WEIR_END_LIMIT;
            return WEIR_OK;
        }
        if (weir_context_position(g->context) == weir_context_length(g->context)) {
            g->stats.end = WEIR_END_CONTEXT;
            return WEIR_OK;
        }
        WEIR_TRY(weir_context_feed(g->context, &id, 1, WEIR_OUTPUT_LAST));
        g->stats.decode_passes++;
        logits = weir_context_logits(g->context, 0);
    }
    g->stats.end = WEIR_END_STOP;
    return WEIR_OK;
}

// Pieces of another vocabulary would otherwise show as nonsense only; a sampler of a larger one
// would read past the logits.
static weir_status check_vocabulary(const generator* g) {
    const uint32_t tokens = weir_tokenizer_size(g->tokenizer);
    const uint32_t expected = weir_model_params(weir_context_model(g->context))->vocabulary;
    if (tokens != expected) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "the tokenizer has %u tokens, the model %u", tokens,
                         expected);
    }
    if (weir_sampler_size(g->sampler) != expected) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "the sampler is made for %u tokens, the model has %u",
                         weir_sampler_size(g->sampler), expected);
    }
    return WEIR_OK;
}

// The clock runs on when a phase fails: the times are those of what was really done.
static weir_status generate(generator* g, const uint32_t* prompt, size_t prompt_count) {
    WEIR_TRY(check_vocabulary(g));
    WEIR_TRY(weir_stop_text_check(g->options->stop_texts, g->options->stop_text_count));
    const uint64_t begin = now_ns();
    weir_status status = feed_prompt(g, prompt, prompt_count);
    const uint64_t fed = now_ns();
    g->stats.prefill_ns = fed - begin;
    if (status == WEIR_OK) {
        status = decode(g);
        release_held(g);
        g->stats.decode_ns = now_ns() - fed;
    }
    return status;
}

weir_status weir_generate(weir_context* context, const weir_tokenizer* tokenizer,
                          weir_sampler* sampler, const uint32_t* prompt, size_t prompt_count,
                          const weir_generate_options* options, weir_generate_stats* stats) {
    static const weir_generate_options defaults = {0};
    generator g = {.context = context,
                   .tokenizer = tokenizer,
                   .sampler = sampler,
                   .options = options ? options : &defaults,
                   .at_start = weir_context_position(context) == 0};
    g.stop.texts = g.options->stop_texts;
    g.stop.count = g.options->stop_text_count;
    const weir_status status = generate(&g, prompt, prompt_count);
    if (stats) {
        *stats = g.stats;
    }
    return status;
}
