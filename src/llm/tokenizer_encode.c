// Encoding: merging as SentencePiece's BPE defines it (Kudo and Richardson 2018, after Sennrich et
// al. 2016). A heap holds the candidate pairs, so n characters take O(n log n) steps, each with one
// lookup of at most the longest piece. All scratch is freed before the call returns.
#include "tokenizer_impl.h"

#include <string.h>

#include "memory.h"

#define NO_SYMBOL UINT32_MAX

// A stretch of the text that is one token so far, in a list in the order of the text.
typedef struct symbol {
    uint32_t offset;
    uint32_t length; // 0: merged into a symbol before it
    uint32_t prev;   // index, or NO_SYMBOL
    uint32_t next;
    uint32_t id; // WEIR_TOKEN_NONE: no piece covers it
} symbol;

// Two adjoining symbols that a piece covers. It is out of date once `left` and its successor are
// no longer `length` bytes together: symbols only grow, so equal sums mean the same two symbols.
typedef struct pair {
    float score;
    uint32_t left;
    uint32_t length;
    uint32_t id;
} pair;

#define WINDOW_MIN 512 // places

// Where tokens of one type begin in a text, found out for a window of places at a time, and only
// forwards. A window has as many places as the longest token has bytes, or more: what is read of
// the next one so at most doubles the work.
typedef struct finder {
    const token_trie* trie;
    const char* text;
    size_t length;
    size_t begin; // the window; empty at first
    size_t end;
    uint32_t* ids;   // [capacity] of its places
    size_t capacity; // 0: there are no such tokens
} finder;

// Scratch of one call. Of n symbols, n - 1 pairs are queued at first, and each of at most n - 1
// merges takes one and adds at most two: the heap stays below 2 n.
typedef struct encoder {
    const weir_tokenizer* tokenizer;
    weir_ids* ids;
    char* text; // [text_capacity] the segment in work, as pieces are written
    size_t text_capacity;
    finder user_defined; // in the segment
    symbol* symbols;     // of the run in work
    size_t symbol_capacity;
    pair* pairs; // heap, best first
    size_t pair_count;
    size_t pair_capacity;
} encoder;

static weir_status open_finder(const encoder* work, const token_trie* trie, const char* text,
                               size_t length, finder* found) {
    const size_t places = trie->longest > WINDOW_MIN ? trie->longest : WINDOW_MIN;
    *found = (finder){.trie = trie, .text = text, .length = length};
    if (trie->node_count == 0) {
        return WEIR_OK;
    }
    found->capacity = places < length ? places : length;
    return llm_array_new(&work->tokenizer->allocator, found->capacity, &found->ids);
}

static void close_finder(const encoder* work, finder* found) {
    llm_array_free(&work->tokenizer->allocator, found->ids, found->capacity);
}

// Finds the longest token that begins at a place not before the last one asked for; returns its
// bytes, 0 for none.
static size_t find_at(const encoder* work, finder* found, size_t at, uint32_t* id) {
    *id = WEIR_TOKEN_NONE;
    if (found->capacity == 0) {
        return 0;
    }
    if (at >= found->end) {
        const size_t left = found->length - at;
        found->begin = at;
        found->end = at + (left < found->capacity ? left : found->capacity);
        weir_token_trie_match(found->trie, found->text + at, left, found->end - at, found->ids);
    }
    *id = found->ids[at - found->begin];
    return *id == WEIR_TOKEN_NONE ? 0 : (size_t)token_text(work->tokenizer, *id).length;
}

// At most one pair per `left` is up to date, so score and place order all that count.
static bool comes_before(const pair* a, const pair* b) {
    return a->score > b->score || (a->score == b->score && a->left < b->left);
}

static weir_status push_pair(encoder* work, pair added) {
    if (work->pair_count == work->pair_capacity) {
        void* pairs = work->pairs;
        WEIR_TRY(weir_llm_array_grow(&work->tokenizer->allocator, sizeof *work->pairs,
                                     work->pair_count, work->pair_count + 1, &pairs,
                                     &work->pair_capacity));
        work->pairs = pairs;
    }
    size_t at = work->pair_count++;
    while (at > 0 && comes_before(&added, &work->pairs[(at - 1) / 2])) {
        work->pairs[at] = work->pairs[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    work->pairs[at] = added;
    return WEIR_OK;
}

static pair pop_pair(encoder* work) {
    pair* heap = work->pairs;
    const pair best = heap[0];
    const size_t count = --work->pair_count;
    const pair moved = heap[count];
    size_t at = 0;
    while (at < count / 2) {
        size_t child = 2 * at + 1;
        if (child + 1 < count && comes_before(&heap[child + 1], &heap[child])) {
            child++;
        }
        if (!comes_before(&heap[child], &moved)) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
    return best;
}

// A user-defined token stays as the text has it: no pair takes it in.
static bool is_frozen(const encoder* work, const symbol* part) {
    return part->id != WEIR_TOKEN_NONE && work->tokenizer->types[part->id] == TOKEN_USER_DEFINED;
}

// Queues the pair that begins with symbol `left`, where a piece covers it.
static weir_status try_pair(encoder* work, uint32_t left) {
    if (left == NO_SYMBOL || work->symbols[left].next == NO_SYMBOL) {
        return WEIR_OK;
    }
    const symbol* first = &work->symbols[left];
    const symbol* second = &work->symbols[first->next];
    if (is_frozen(work, first) || is_frozen(work, second)) {
        return WEIR_OK;
    }
    const uint32_t length = first->length + second->length;
    const uint32_t id = weir_tokenizer_find(work->tokenizer, work->text + first->offset, length);
    if (id == WEIR_TOKEN_NONE) {
        return WEIR_OK;
    }
    return push_pair(
        work,
        (pair){.score = work->tokenizer->scores[id], .left = left, .length = length, .id = id});
}

static bool is_continuation(char byte) {
    return ((uint8_t)byte & 0xC0) == 0x80;
}

// Returns the bytes of the character at `text` (RFC 3629: shortest form, no surrogates, at most
// U+10FFFF), 1 for a byte that begins none.
static uint32_t character_length(const char* text, size_t left) {
    const uint8_t lead = (uint8_t)text[0];
    const uint32_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || left < length) {
        return 1;
    }
    const uint8_t second = (uint8_t)text[1];
    const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (second < low || second > high) {
        return 1;
    }
    for (uint32_t i = 2; i < length; i++) {
        if (!is_continuation(text[i])) {
            return 1;
        }
    }
    return length;
}

// Cuts text[begin, end) into user-defined tokens and characters; returns the number of symbols.
static uint32_t split(encoder* work, size_t begin, size_t end) {
    const weir_tokenizer* tokenizer = work->tokenizer;
    uint32_t count = 0;
    size_t at = begin;
    while (at < end) {
        const char* text = work->text + at;
        uint32_t id = WEIR_TOKEN_NONE;
        uint32_t symbol_length = (uint32_t)find_at(work, &work->user_defined, at, &id);
        if (symbol_length == 0) {
            symbol_length = character_length(text, end - at);
            id = weir_tokenizer_find(tokenizer, text, symbol_length);
        }
        work->symbols[count] = (symbol){.offset = (uint32_t)at,
                                        .length = symbol_length,
                                        .prev = count > 0 ? count - 1 : NO_SYMBOL,
                                        .next = count + 1,
                                        .id = id};
        count++;
        at += symbol_length;
    }
    work->symbols[count - 1].next = NO_SYMBOL;
    return count;
}

// Pairs are not removed from the heap when one of their symbols goes: finding them there would cost
// more than looking at them when they come up.
static weir_status merge(encoder* work, uint32_t count) {
    work->pair_count = 0;
    for (uint32_t left = 0; left < count; left++) {
        WEIR_TRY(try_pair(work, left));
    }
    while (work->pair_count > 0) {
        const pair best = pop_pair(work);
        symbol* left = &work->symbols[best.left];
        // Out of date: `left` is gone, is the last one, or either symbol has grown.
        if (left->length == 0 || left->next == NO_SYMBOL) {
            continue;
        }
        symbol* right = &work->symbols[left->next];
        if (left->length + right->length != best.length) {
            continue;
        }
        left->length = best.length;
        left->id = best.id;
        left->next = right->next;
        right->length = 0;
        if (left->next != NO_SYMBOL) {
            work->symbols[left->next].prev = best.left;
        }
        WEIR_TRY(try_pair(work, left->prev));
        WEIR_TRY(try_pair(work, best.left));
    }
    return WEIR_OK;
}

// Emits a stretch that no piece covers: as bytes when the vocabulary has all of them, else as one
// unknown token.
static weir_status emit_uncovered(const encoder* work, const symbol* part) {
    const weir_tokenizer* tokenizer = work->tokenizer;
    const char* bytes = work->text + part->offset;
    bool has_all = true;
    for (uint32_t i = 0; i < part->length; i++) {
        has_all = has_all && tokenizer->byte_ids[(uint8_t)bytes[i]] != WEIR_TOKEN_NONE;
    }
    if (!has_all) {
        return weir_ids_push(work->ids, tokenizer->unknown);
    }
    for (uint32_t i = 0; i < part->length; i++) {
        WEIR_TRY(weir_ids_push(work->ids, tokenizer->byte_ids[(uint8_t)bytes[i]]));
    }
    return WEIR_OK;
}

// Encodes text[begin, end), which no piece reaches across.
static weir_status encode_run(encoder* work, size_t begin, size_t end) {
    void* symbols = work->symbols;
    WEIR_TRY(weir_llm_array_grow(&work->tokenizer->allocator, sizeof *work->symbols, 0, end - begin,
                                 &symbols, &work->symbol_capacity));
    work->symbols = symbols;
    WEIR_TRY(merge(work, split(work, begin, end)));
    for (uint32_t at = 0; at != NO_SYMBOL; at = work->symbols[at].next) {
        const symbol* part = &work->symbols[at];
        if (part->id != WEIR_TOKEN_NONE) {
            WEIR_TRY(weir_ids_push(work->ids, part->id));
        } else {
            WEIR_TRY(emit_uncovered(work, part));
        }
    }
    return WEIR_OK;
}

// Encodes text that holds no control token. It is cut before each character that no piece joins to
// the byte before it: the result is the same, and the scratch memory of merging follows the longest
// run - mostly a word - instead of the text. Beside it there are a copy of the text and the windows
// of the finders, which have no more places than the text.
static weir_status encode_segment(encoder* work, const char* text, size_t length) {
    if (length == 0) {
        return WEIR_OK;
    }
    size_t used = 0;
    if (work->tokenizer->adds_space) {
        work->text[used++] = ' ';
    }
    used += weir_tokenizer_unescape(text, length, work->text + used);
    work->user_defined.length = used;
    work->user_defined.end = 0;
    size_t begin = 0;
    for (size_t at = 1; at <= used; at++) {
        if (at == used ||
            (!is_continuation(work->text[at]) &&
             !weir_tokenizer_joins(work->tokenizer, work->text[at - 1], work->text[at]))) {
            WEIR_TRY(encode_run(work, begin, at));
            begin = at;
        }
    }
    return WEIR_OK;
}

// Encodes the text between control tokens, and these as their ids. Text behind a control token
// begins anew, with a space where the vocabulary adds one. The input is sought as it was given:
// some control tokens have U+2581 in their spelling. A longer user-defined token at
// the same place wins, and one that began before is stepped over whole.
static weir_status encode_parts(encoder* work, finder* user_defined, finder* control) {
    const char* text = control->text;
    size_t begin = 0;
    size_t at = 0;
    while (at < control->length) {
        uint32_t id = WEIR_TOKEN_NONE;
        const size_t user_length = find_at(work, user_defined, at, &id);
        const size_t length = find_at(work, control, at, &id);
        if (length == 0 || length < user_length) {
            at += user_length > 0 ? user_length : 1;
            continue;
        }
        WEIR_TRY(encode_segment(work, text + begin, at - begin));
        WEIR_TRY(weir_ids_push(work->ids, id));
        at += length;
        begin = at;
    }
    return encode_segment(work, text + begin, control->length - begin);
}

static weir_status encode_special(encoder* work, const char* text, size_t length) {
    finder user_defined;
    finder control = {0};
    weir_status status =
        open_finder(work, &work->tokenizer->user_defined, text, length, &user_defined);
    if (status == WEIR_OK) {
        status = open_finder(work, &work->tokenizer->control, text, length, &control);
    }
    if (status == WEIR_OK) {
        status = encode_parts(work, &user_defined, &control);
    }
    close_finder(work, &user_defined);
    close_finder(work, &control);
    return status;
}

static weir_status encode_text(encoder* work, const char* text, size_t length, unsigned flags) {
    const weir_tokenizer* tokenizer = work->tokenizer;
    if ((flags & WEIR_TOKENIZE_BOS) && tokenizer->adds_bos) {
        WEIR_TRY(weir_ids_push(work->ids, tokenizer->bos));
    }
    if (length == 0) {
        return WEIR_OK;
    }
    work->text_capacity = length + 1;
    WEIR_TRY(llm_array_new(&tokenizer->allocator, work->text_capacity, &work->text));
    WEIR_TRY(open_finder(work, &tokenizer->user_defined, work->text, work->text_capacity,
                         &work->user_defined));
    return flags & WEIR_TOKENIZE_SPECIAL ? encode_special(work, text, length)
                                         : encode_segment(work, text, length);
}

weir_status weir_tokenizer_encode(const weir_tokenizer* tokenizer, const char* text, size_t length,
                                  unsigned flags, weir_ids* ids) {
    if (length > INT32_MAX) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "text of %zu bytes; at most 2^31 - 1 can be encoded",
                         length);
    }
    encoder work = {.tokenizer = tokenizer, .ids = ids};
    const size_t count = ids->count;
    const weir_status status = encode_text(&work, text, length, flags);
    if (status != WEIR_OK) {
        ids->count = count;
    }
    const weir_allocator* allocator = &tokenizer->allocator;
    llm_array_free(allocator, work.text, work.text_capacity);
    close_finder(&work, &work.user_defined);
    llm_array_free(allocator, work.symbols, work.symbol_capacity);
    llm_array_free(allocator, work.pairs, work.pair_capacity);
    return status;
}
