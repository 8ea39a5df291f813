// Finding pieces by their bytes: a hash table for merging, where whole pieces are asked for.
//
// Whoever makes a vocabulary can choose pieces that share slots. A table in which such pieces form
// a run longer than chance would is given up for an ordered list: lookups then take O(log n) steps,
// and no vocabulary makes them take more.
#include "tokenizer_impl.h"

#include <string.h>

#include "memory.h"

// At most half of the slots are taken; the longest run of taken ones is then about 5 ln n long with
// hashes that are as good as random (Knuth, TAOCP 3, section 6.4): below 90 for 2^24 pieces.
#define RUN_MAX 256

// FNV-1a (Fowler, Noll, Vo), with a last step because the table uses the low bits alone.
static uint64_t hash_bytes(const char* bytes, size_t length) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ (uint8_t)bytes[i]) * 0x100000001B3u;
    }
    return hash ^ (hash >> 32);
}

// Returns the slot that holds these bytes, or the free one where they belong. There always is a
// free one: at most half of the slots are taken.
static size_t find_slot(const weir_tokenizer* tokenizer, const char* bytes, size_t length) {
    const size_t mask = tokenizer->slot_count - 1;
    size_t slot = (size_t)hash_bytes(bytes, length) & mask;
    while (tokenizer->slots[slot] != WEIR_TOKEN_NONE) {
        const weir_text piece = token_text(tokenizer, tokenizer->slots[slot]);
        if (piece.length == length && memcmp(piece.bytes, bytes, length) == 0) {
            break;
        }
        slot = (slot + 1) & mask;
    }
    return slot;
}

// Returns < 0, 0 or > 0 as the text of a token comes before, is, or comes after these bytes.
static int compare_token(const weir_tokenizer* tokenizer, uint32_t id, const char* bytes,
                         size_t length) {
    const weir_text text = token_text(tokenizer, id);
    const size_t common = text.length < length ? (size_t)text.length : length;
    const int order = memcmp(text.bytes, bytes, common);
    return order != 0 ? order : (text.length > length) - (text.length < length);
}

static uint32_t find_ordered(const weir_tokenizer* tokenizer, const char* bytes, size_t length) {
    const token_set* pieces = &tokenizer->pieces;
    uint32_t low = pieces->first[(uint8_t)bytes[0]];
    uint32_t high = pieces->first[(uint8_t)bytes[0] + 1];
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const int order = compare_token(tokenizer, pieces->ids[middle], bytes, length);
        if (order == 0) {
            return pieces->ids[middle];
        }
        low = order < 0 ? middle + 1 : low;
        high = order < 0 ? high : middle;
    }
    return WEIR_TOKEN_NONE;
}

uint32_t weir_tokenizer_find(const weir_tokenizer* tokenizer, const char* bytes, size_t length) {
    if (length > tokenizer->longest) {
        return WEIR_TOKEN_NONE;
    }
    return tokenizer->slot_count > 0 ? tokenizer->slots[find_slot(tokenizer, bytes, length)]
                                     : find_ordered(tokenizer, bytes, length);
}

// Text never becomes a control, unknown or byte token by merging: "</s>" written by a user stays
// text. Unused tokens are left out as their name says.
static bool is_mergeable(const weir_tokenizer* tokenizer, uint32_t id) {
    const uint8_t type = tokenizer->types[id];
    return (type == TOKEN_NORMAL || type == TOKEN_USER_DEFINED) &&
           token_text(tokenizer, id).length > 0;
}

// A pair of bytes that no piece has side by side is a place where text can be cut before encoding.
static void note_joins(weir_tokenizer* tokenizer, weir_text piece) {
    for (uint64_t i = 1; i < piece.length; i++) {
        const uint8_t bit = (uint8_t)piece.bytes[i];
        tokenizer->joins[(uint8_t)piece.bytes[i - 1]][bit / 32] |= 1u << (bit % 32);
    }
}

// Puts a piece in its slot; false when the way there is too long.
static bool insert_piece(weir_tokenizer* tokenizer, uint32_t id) {
    const weir_text piece = token_text(tokenizer, id);
    const size_t mask = tokenizer->slot_count - 1;
    size_t slot = (size_t)hash_bytes(piece.bytes, (size_t)piece.length) & mask;
    for (size_t steps = 0; tokenizer->slots[slot] != WEIR_TOKEN_NONE; steps++) {
        const uint32_t other = tokenizer->slots[slot];
        if (compare_token(tokenizer, other, piece.bytes, (size_t)piece.length) == 0) {
            return true; // of pieces spelled alike the first one is found, whatever their scores
        }
        if (steps == RUN_MAX) {
            return false;
        }
        slot = (slot + 1) & mask;
    }
    tokenizer->slots[slot] = id;
    return true;
}

// Text that is no piece is sought to the end of a run: none may be long.
static bool has_short_runs(const weir_tokenizer* tokenizer) {
    size_t run = 0;
    // The second time round closes the run that spans the end of the table.
    for (size_t i = 0; i < 2 * tokenizer->slot_count && run <= RUN_MAX; i++) {
        const size_t slot = i & (tokenizer->slot_count - 1);
        run = tokenizer->slots[slot] != WEIR_TOKEN_NONE ? run + 1 : 0;
    }
    return run <= RUN_MAX;
}

// Fills a table of `slot_count` slots, which are empty; false when it is no good.
static bool fill_slots(weir_tokenizer* tokenizer) {
    for (uint32_t id = 0; id < tokenizer->size; id++) {
        if (is_mergeable(tokenizer, id) && !insert_piece(tokenizer, id)) {
            return false;
        }
    }
    return has_short_runs(tokenizer);
}

// Orders texts by their bytes, a prefix before what it begins, equal texts by id.
static bool text_before(const weir_tokenizer* tokenizer, uint32_t a, uint32_t b) {
    const weir_text left = token_text(tokenizer, a);
    const weir_text right = token_text(tokenizer, b);
    const uint64_t common = left.length < right.length ? left.length : right.length;
    const int order = memcmp(left.bytes, right.bytes, (size_t)common);
    if (order != 0) {
        return order < 0;
    }
    return left.length != right.length ? left.length < right.length : a < b;
}

static void sift_down(const weir_tokenizer* tokenizer, weir_token_order comes_before, uint32_t* ids,
                      size_t count, size_t at) {
    const uint32_t id = ids[at];
    while (at < count / 2) {
        size_t child = 2 * at + 1;
        if (child + 1 < count && comes_before(tokenizer, ids[child], ids[child + 1])) {
            child++;
        }
        if (!comes_before(tokenizer, id, ids[child])) {
            break;
        }
        ids[at] = ids[child];
        at = child;
    }
    ids[at] = id;
}

// Heapsort: the order of a file cannot make it slow, and it needs no memory.
void weir_tokenizer_sort(const weir_tokenizer* tokenizer, weir_token_order comes_before,
                         uint32_t* ids, size_t count) {
    for (size_t at = count / 2; at > 0; at--) {
        sift_down(tokenizer, comes_before, ids, count, at - 1);
    }
    for (size_t left = count; left > 1; left--) {
        const uint32_t last = ids[0];
        ids[0] = ids[left - 1];
        ids[left - 1] = last;
        sift_down(tokenizer, comes_before, ids, left - 1, 0);
    }
}

static bool is_same_text(const weir_tokenizer* tokenizer, uint32_t a, uint32_t b) {
    const weir_text left = token_text(tokenizer, a);
    const weir_text right = token_text(tokenizer, b);
    return left.length == right.length && memcmp(left.bytes, right.bytes, (size_t)left.length) == 0;
}

// Narrows every search to the tokens with the right first byte.
static void index_first_bytes(const weir_tokenizer* tokenizer, token_set* set) {
    uint32_t at = 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        set->first[byte] = at;
        while (at < set->count && (uint8_t)token_text(tokenizer, set->ids[at]).bytes[0] == byte) {
            at++;
        }
    }
    set->first[256] = at;
}

// The pieces in order, the first of those that are spelled alike.
static weir_status order_pieces(const weir_tokenizer* tokenizer, uint32_t capacity,
                                token_set* set) {
    uint32_t count = 0;
    WEIR_TRY(llm_array_new(&tokenizer->allocator, capacity, &set->ids));
    set->capacity = capacity;
    for (uint32_t id = 0; id < tokenizer->size; id++) {
        if (is_mergeable(tokenizer, id)) {
            set->ids[count++] = id;
        }
    }
    weir_tokenizer_sort(tokenizer, text_before, set->ids, count);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t id = set->ids[i];
        if (set->count == 0 || !is_same_text(tokenizer, set->ids[set->count - 1], id)) {
            set->ids[set->count++] = id;
        }
    }
    index_first_bytes(tokenizer, set);
    return WEIR_OK;
}

// Makes the table of pieces, or the ordered list where the table is no good.
static weir_status index_pieces(weir_tokenizer* tokenizer) {
    uint32_t count = 0;
    for (uint32_t id = 0; id < tokenizer->size; id++) {
        if (is_mergeable(tokenizer, id)) {
            const weir_text piece = token_text(tokenizer, id);
            const size_t length = (size_t)piece.length;
            count++;
            note_joins(tokenizer, piece);
            tokenizer->longest = length > tokenizer->longest ? length : tokenizer->longest;
        }
    }
    const size_t slot_count = weir_tokenizer_slots(count);
    WEIR_TRY(llm_array_new(&tokenizer->allocator, slot_count, &tokenizer->slots));
    tokenizer->slot_count = slot_count;
    memset(tokenizer->slots, 0xFF, slot_count * sizeof *tokenizer->slots);
    if (fill_slots(tokenizer)) {
        return WEIR_OK;
    }
    llm_array_free(&tokenizer->allocator, tokenizer->slots, slot_count);
    tokenizer->slots = NULL;
    tokenizer->slot_count = 0;
    return order_pieces(tokenizer, count, &tokenizer->pieces);
}

weir_status weir_tokenizer_index(weir_tokenizer* tokenizer) {
    WEIR_TRY(index_pieces(tokenizer));
    WEIR_TRY(weir_token_trie_build(tokenizer, TOKEN_USER_DEFINED, &tokenizer->user_defined));
    return weir_token_trie_build(tokenizer, TOKEN_CONTROL, &tokenizer->control);
}
