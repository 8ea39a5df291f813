// The tokenizer: text to token ids and back, from the vocabulary in a GGUF file.
//
// Model "llama" (SentencePiece BPE with byte fallback; Kudo and Richardson 2018): the text is cut
// into characters, then the adjoining pair whose piece has the best score is merged until none is
// left; what no piece covers becomes byte tokens <0xHH>.
//
//     weir_tokenizer_create(NULL, gguf, &tokenizer);
//     weir_tokenizer_encode(tokenizer, text, length, WEIR_TOKENIZE_BOS, &ids);
//     weir_tokenizer_decode(tokenizer, ids.items, ids.count, text, sizeof text);
//     weir_ids_free(&ids);
#ifndef WEIR_LLM_TOKENIZER_H
#define WEIR_LLM_TOKENIZER_H

#include <weir/gguf.h>

WEIR_C_BEGIN

typedef struct weir_tokenizer weir_tokenizer;

#define WEIR_TOKEN_NONE UINT32_MAX

// A list of token ids that owns its memory. Zero-initialised = empty, with the C library's
// allocator.
typedef struct weir_ids {
    uint32_t* items;
    size_t count;
    size_t capacity;
    weir_allocator allocator;
} weir_ids;

// Appends one id, or releases the list (which is empty and usable again afterwards).
//
// Errors:  WEIR_OUT_OF_MEMORY.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_ids_push(weir_ids* ids, uint32_t id);
WEIR_API void weir_ids_free(weir_ids* ids);

typedef enum weir_tokenize_flags {
    WEIR_TOKENIZE_PLAIN = 0,
    WEIR_TOKENIZE_BOS = 1,     // begin with the BOS token where the vocabulary asks for it
    WEIR_TOKENIZE_SPECIAL = 2, // recognise control tokens written in the text, such as "</s>"
} weir_tokenize_flags;

// Builds the tables of a vocabulary.
//
// Ownership: the caller destroys it; nothing of `gguf` is kept.
// Errors:    WEIR_BAD_FORMAT missing or contradictory vocabulary keys (the message names file and
//            key); WEIR_UNSUPPORTED tokenizer model; WEIR_OUT_OF_RANGE 2^32 bytes of control or
//            user-defined tokens; WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_tokenizer_create(const weir_allocator* allocator,
                                                         const weir_gguf* gguf,
                                                         weir_tokenizer** tokenizer);

// Returns the most memory, in bytes, that weir_tokenizer_create asks for with this file; 0 where
// the file has no list of tokens.
//
// Threads: thread-safe.
WEIR_API uint64_t weir_tokenizer_bytes(const weir_gguf* gguf);

// Destroys a tokenizer; NULL is a no-op.
//
// Threads: thread-compatible.
WEIR_API void weir_tokenizer_destroy(weir_tokenizer* tokenizer);

// Appends the ids of `length` bytes of text to `ids`. Any bytes are accepted, NUL and broken UTF-8
// too.
//
// Errors:  WEIR_OUT_OF_MEMORY (ids are as before); WEIR_OUT_OF_RANGE more than 2^31 - 1 bytes.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_tokenizer_encode(const weir_tokenizer* tokenizer,
                                                         const char* text, size_t length,
                                                         unsigned flags, weir_ids* ids);

// Returns the bytes that a token adds to the text: byte tokens give their byte, control tokens
// nothing, and a leading space that the tokenizer itself put there is the caller's to drop
// (`weir_tokenizer_strips_space`). Unknown ids give nothing.
//
// Ownership: belongs to the tokenizer.
// Threads:   thread-safe.
WEIR_API weir_text weir_tokenizer_piece(const weir_tokenizer* tokenizer, uint32_t id);

// Writes the text that `count` ids stand for to `text`, cut to `capacity` and, unless that is 0,
// terminated; returns the bytes of the whole text, without the terminator. The first id begins the
// text: the space that encoding puts before it is left out. What was encoded is what comes back.
//
// Threads: thread-safe.
WEIR_API size_t weir_tokenizer_decode(const weir_tokenizer* tokenizer, const uint32_t* ids,
                                      size_t count, char* text, size_t capacity);

// Tells whether the first piece of a text begins with a space that encoding added and that is not
// part of the text.
//
// Threads: thread-safe.
WEIR_API bool weir_tokenizer_strips_space(const weir_tokenizer* tokenizer);

// Return facts of the vocabulary; special ids are WEIR_TOKEN_NONE where it has none.
//
// Threads: thread-safe.
WEIR_API uint32_t weir_tokenizer_size(const weir_tokenizer* tokenizer);
WEIR_API uint32_t weir_tokenizer_bos(const weir_tokenizer* tokenizer);
WEIR_API uint32_t weir_tokenizer_eos(const weir_tokenizer* tokenizer);
WEIR_API bool weir_tokenizer_adds_bos(const weir_tokenizer* tokenizer);

// Tells whether a token ends generation: EOS, or another end-of-turn token that the file names.
//
// Threads: thread-safe.
WEIR_API bool weir_tokenizer_is_end(const weir_tokenizer* tokenizer, uint32_t id);

WEIR_C_END

#endif
