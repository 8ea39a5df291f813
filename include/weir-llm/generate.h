// Generation: prompt ids in, one token after the other out.
//
//     static bool print(void* file, uint32_t id, const char* bytes, size_t length) {
//         return fwrite(bytes, 1, length, file) == length;
//     }
//     weir_generate_options options = {.max_tokens = 100, .emit = print, .context = stdout};
//     weir_generate(context, tokenizer, sampler, ids, count, &options, &stats);
#ifndef WEIR_LLM_GENERATE_H
#define WEIR_LLM_GENERATE_H

#include <signal.h>
#include <weir-llm/context.h>
#include <weir-llm/sampler.h>
#include <weir-llm/tokenizer.h>

WEIR_C_BEGIN

#define WEIR_STOP_BYTES_MAX 256 // most bytes of a stop text

// Receives each token with the bytes that it adds to the text, which may be part of a character of
// UTF-8; false ends generation. The space that the tokenizer put before the text is left out. With
// stop texts bytes that may begin one are held back: they come with a later token, or in a call of
// their own, with the id WEIR_TOKEN_NONE, when the text ends.
typedef bool (*weir_generate_fn)(void* context, uint32_t id, const char* bytes, size_t length);

typedef struct weir_generate_options {
    uint32_t max_tokens;               // 0: until the context is full
    bool ignore_end;                   // go on after a token that ends the text
    const volatile sig_atomic_t* stop; // generation ends within one pass once it is not 0; or NULL
    weir_generate_fn emit;             // or NULL
    void* context;                     // handed to `emit`
    const weir_text* stop_texts;       // generation ends before one of these is in the text that it
                                       // makes, the prompt not counted; none of it is emitted
    uint32_t stop_text_count;
} weir_generate_options;

typedef enum weir_generate_end {
    WEIR_END_LIMIT = 0,   // max_tokens reached
    WEIR_END_TOKEN = 1,   // the model ended the text; that token is neither counted nor emitted
    WEIR_END_CONTEXT = 2, // no room for another token
    WEIR_END_CALLER = 3,  // `emit` returned false
    WEIR_END_STOP = 4,    // *stop
    WEIR_END_TEXT = 5,    // a stop text; the context keeps those of its tokens that were fed
} weir_generate_end;

typedef struct weir_generate_stats {
    weir_generate_end end;
    uint32_t prompt_tokens;    // fed
    uint32_t generated_tokens; // emitted
    uint32_t decode_passes;    // of one token each
    uint64_t prefill_ns;       // until the logits of the prompt were there
    uint64_t decode_ns;        // from then on, with sampling and `emit`
} weir_generate_stats;

// Feeds the prompt, then samples and feeds one token after the other; the last one is emitted and
// not fed. From the second token on nothing is allocated; each pass is one submit and one wait. The
// sampler remembers the prompt too (weir_sampler_accept). To go on with the text, give the token
// that was emitted last as the first one of the next prompt. Tokenizer and sampler are those of the
// model's vocabulary; `options` may be NULL. On failure the context keeps what was fed, and `stats`
// (may be NULL) tells what was done until then.
//
// Errors:  WEIR_INVALID_ARGUMENT an empty prompt, tokenizer or sampler of another vocabulary, or a
//          stop text without bytes or of more than WEIR_STOP_BYTES_MAX;
//          WEIR_OUT_OF_RANGE the prompt does not fit; as weir_context_feed and weir_sampler_next.
// Threads: thread-compatible; `emit` runs in the calling thread.
WEIR_API WEIR_MUST_USE weir_status weir_generate(weir_context* context,
                                                 const weir_tokenizer* tokenizer,
                                                 weir_sampler* sampler, const uint32_t* prompt,
                                                 size_t prompt_count,
                                                 const weir_generate_options* options,
                                                 weir_generate_stats* stats);

// Returns "limit", "end token", "context full", "caller", "stopped" or "stop text".
//
// Threads: thread-safe.
WEIR_API const char* weir_generate_end_name(weir_generate_end end);

WEIR_C_END

#endif
