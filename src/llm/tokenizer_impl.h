// The tables of a tokenizer, shared by the files that read them from a GGUF file
// (tokenizer_vocabulary.c), index and search them (tokenizer_index.c, tokenizer_match.c), and
// encode with them (tokenizer_encode.c).
//
// Pieces are kept as text: U+2581, by which the vocabulary writes a space, becomes a space when
// they are read, and encoding turns U+2581 in its input into a space likewise. So one table serves
// both directions. Control tokens alone keep their spelling, because they are sought in the text
// as it was given.
//
//     text     <s>, h, e, l, l, o, ...         one after the other
//     offsets  0    3  4  ...          [size + 1], never decreasing
#ifndef WEIR_LLM_TOKENIZER_IMPL_H
#define WEIR_LLM_TOKENIZER_IMPL_H

#include <weir-llm/tokenizer.h>

// The numbers of tokenizer.ggml.token_type.
typedef enum token_type {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4, // always one token where its text occurs
    TOKEN_UNUSED = 5,       // never made from text
    TOKEN_BYTE = 6,
} token_type;

// Tokens, each text once, ordered by their bytes.
typedef struct token_set {
    uint32_t* ids; // [capacity]
    uint32_t count;
    uint32_t capacity;
    uint32_t first[257]; // texts beginning with byte b: [first[b], first[b + 1])
} token_set;

// Tokens of one type that are sought at every place of a text, as a trie over their bytes from the
// last to the first. Nodes are numbered by depth, the root is 0, and the children of node i are
// [children[i], children[i + 1]), in the order of their bytes.
typedef struct token_trie {
    uint8_t* bytes;      // [node_count] the byte that leads to a node
    uint32_t* children;  // [node_count + 1]
    uint32_t* shorter;   // [node_count] the longest other way that ends as the way to this one does
    uint32_t* ids;       // [node_count] the longest token that the way ends with, or NONE
    uint32_t node_count; // 0: there are no tokens
    size_t longest;      // bytes of the longest token
} token_trie;

struct weir_tokenizer {
    weir_allocator allocator;
    uint32_t size;
    char* text; // [text_capacity]
    size_t text_capacity;
    size_t* offsets; // [size + 1] into text
    float* scores;   // [size], never NaN
    uint8_t* types;  // [size] token_type

    uint32_t* slots;   // [slot_count] ids of the pieces that merging may make, or WEIR_TOKEN_NONE
    size_t slot_count; // a power of two, at least twice the pieces; 0: `pieces` has them
    token_set pieces;  // the same pieces in order; empty while there are slots
    size_t longest;    // bytes of the longest of them
    uint32_t joins[256][8]; // bit b of row a: a piece in slots has byte b right behind byte a
    token_trie user_defined;
    token_trie control;
    uint32_t byte_ids[256];

    uint32_t bos;
    uint32_t eos;
    uint32_t eot;
    uint32_t eom;
    uint32_t unknown;
    bool adds_bos;
    bool adds_space;
};

// Returns the text of a token as the tables hold it.
static inline weir_text token_text(const weir_tokenizer* tokenizer, uint32_t id) {
    return (weir_text){.bytes = tokenizer->text + tokenizer->offsets[id],
                       .length = tokenizer->offsets[id + 1] - tokenizer->offsets[id]};
}

// Tells whether any piece that merging may make spans these two adjoining bytes.
static inline bool weir_tokenizer_joins(const weir_tokenizer* tokenizer, char first, char second) {
    const uint8_t bit = (uint8_t)second;
    return (tokenizer->joins[(uint8_t)first][bit / 32] >> (bit % 32)) & 1u;
}

// Copies `length` bytes to `text` with U+2581 turned into a space; returns the bytes written.
size_t weir_tokenizer_unescape(const char* bytes, size_t length, char* text);

// Reads the keys of the vocabulary into a zeroed tokenizer. On failure weir_tokenizer_destroy
// releases what was read.
WEIR_MUST_USE weir_status weir_tokenizer_read(weir_tokenizer* tokenizer, const weir_gguf* gguf);

// Builds slots and tries from what was read.
WEIR_MUST_USE weir_status weir_tokenizer_index(weir_tokenizer* tokenizer);

// Returns the slots of a table for `count` pieces: at most half of them are taken.
static inline size_t weir_tokenizer_slots(size_t count) {
    size_t slots = 2;
    while (slots / 2 < count) {
        slots *= 2;
    }
    return slots;
}

// Finds the token that merging may make out of these bytes, else WEIR_TOKEN_NONE.
uint32_t weir_tokenizer_find(const weir_tokenizer* tokenizer, const char* bytes, size_t length);

typedef bool (*weir_token_order)(const weir_tokenizer* tokenizer, uint32_t a, uint32_t b);

// Sorts ids by an order in which no two are equal.
void weir_tokenizer_sort(const weir_tokenizer* tokenizer, weir_token_order comes_before,
                         uint32_t* ids, size_t count);

// Builds the trie of all tokens of a type that have text. On failure weir_token_trie_free releases
// what is there.
WEIR_MUST_USE weir_status weir_token_trie_build(const weir_tokenizer* tokenizer, token_type type,
                                                token_trie* trie);

void weir_token_trie_free(const weir_allocator* allocator, token_trie* trie);

// Sets ids[i] to the longest token that begins at text[i] and ends within `length` bytes, else
// WEIR_TOKEN_NONE, for the first `count` places. There has to be a token. Returns the nodes looked
// at: at most twice the bytes read, which are `count` and those of the longest token.
size_t weir_token_trie_match(const token_trie* trie, const char* text, size_t length, size_t count,
                             uint32_t* ids);

#endif
