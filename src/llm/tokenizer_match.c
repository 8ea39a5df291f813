// Where tokens begin that are always whole: matching of many words at once (Aho and Corasick 1975),
// from the end of the text to its beginning.
//
// Read backwards, the longest word that has just been completed is the longest token that begins
// here. One move per byte so tells it for every place, however long the tokens are and whatever
// they share; a walk down from each place would take as many steps as the longest prefix is long.
#include "tokenizer_impl.h"

#include "memory.h"

#define ROOT 0u

// Byte `depth` of a token from its end.
static uint8_t byte_before_end(weir_text text, uint64_t depth) {
    return (uint8_t)text.bytes[text.length - 1 - depth];
}

static uint64_t common_end(weir_text a, weir_text b) {
    const uint64_t most = a.length < b.length ? a.length : b.length;
    uint64_t common = 0;
    while (common < most && byte_before_end(a, common) == byte_before_end(b, common)) {
        common++;
    }
    return common;
}

// Orders tokens by their bytes from the end, one that others end with before them, equals by id.
static bool end_before(const weir_tokenizer* tokenizer, uint32_t a, uint32_t b) {
    const weir_text left = token_text(tokenizer, a);
    const weir_text right = token_text(tokenizer, b);
    const uint64_t common = common_end(left, right);
    if (common < left.length && common < right.length) {
        return byte_before_end(left, common) < byte_before_end(right, common);
    }
    return left.length != right.length ? left.length < right.length : a < b;
}

// Each token of the ordered list adds a node for each byte that it does not share with the one
// before it.
static uint64_t count_nodes(const weir_tokenizer* tokenizer, const uint32_t* ids, uint32_t count) {
    uint64_t nodes = 1;
    for (uint32_t i = 0; i < count; i++) {
        const weir_text text = token_text(tokenizer, ids[i]);
        nodes += text.length;
        nodes -= i > 0 ? common_end(token_text(tokenizer, ids[i - 1]), text) : 0;
    }
    return nodes;
}

static weir_status allocate(const weir_tokenizer* tokenizer, uint64_t node_count,
                            token_trie* trie) {
    const weir_allocator* allocator = &tokenizer->allocator;
    if (node_count >= UINT32_MAX) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                         "tokens that are always whole make a trie of %llu nodes, allowed are %u",
                         (unsigned long long)node_count, UINT32_MAX - 1);
    }
    trie->node_count = (uint32_t)node_count;
    WEIR_TRY(llm_array_new(allocator, (size_t)node_count, &trie->bytes));
    WEIR_TRY(llm_array_new(allocator, (size_t)node_count + 1, &trie->children));
    WEIR_TRY(llm_array_new(allocator, (size_t)node_count, &trie->shorter));
    return llm_array_new(allocator, (size_t)node_count, &trie->ids);
}

// Returns the child that a byte leads to, ROOT for none: the root is nobody's child.
static uint32_t find_child(const token_trie* trie, uint32_t node, uint8_t byte) {
    uint32_t low = trie->children[node];
    uint32_t high = trie->children[node + 1];
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (trie->bytes[middle] == byte) {
            return middle;
        }
        low = trie->bytes[middle] < byte ? middle + 1 : low;
        high = trie->bytes[middle] < byte ? high : middle;
    }
    return ROOT;
}

// Every move goes down one node at most, and each shorter way that is tried goes up one at least:
// over a text there are no more of these than of its bytes.
static uint32_t move(const token_trie* trie, uint32_t node, uint8_t byte, size_t* steps) {
    uint32_t next = find_child(trie, node, byte);
    ++*steps;
    while (next == ROOT && node != ROOT) {
        node = trie->shorter[node];
        next = find_child(trie, node, byte);
        ++*steps;
    }
    return next;
}

// Makes the nodes level by level, so that the children of a node lie side by side and those of
// shorter ways are there before they are asked for. Until its turn comes a node keeps the range of
// its tokens in the list in `children` and `ids`; all in the range end with the way to the node.
static void fill(const weir_tokenizer* tokenizer, const uint32_t* list, uint32_t count,
                 token_trie* trie) {
    uint32_t made = 1;
    uint32_t level_end = 1; // the first node of the next level
    uint64_t depth = 0;
    size_t steps = 0;
    trie->bytes[ROOT] = 0;
    trie->children[ROOT] = 0;
    trie->shorter[ROOT] = ROOT;
    trie->ids[ROOT] = count;
    for (uint32_t node = 0; node < trie->node_count; node++) {
        if (node == level_end) {
            level_end = made;
            depth++;
        }
        uint32_t at = trie->children[node];
        const uint32_t end = trie->ids[node];
        trie->children[node] = made;
        trie->ids[node] = node == ROOT ? WEIR_TOKEN_NONE : trie->ids[trie->shorter[node]];
        if (at < end && token_text(tokenizer, list[at]).length == depth) {
            trie->ids[node] = list[at]; // of tokens spelled alike the first one
        }
        while (at < end && token_text(tokenizer, list[at]).length == depth) {
            at++;
        }
        while (at < end) {
            const uint8_t byte = byte_before_end(token_text(tokenizer, list[at]), depth);
            trie->bytes[made] = byte;
            trie->children[made] = at;
            while (at < end && byte_before_end(token_text(tokenizer, list[at]), depth) == byte) {
                at++;
            }
            trie->ids[made] = at;
            trie->shorter[made] =
                node == ROOT ? ROOT : move(trie, trie->shorter[node], byte, &steps);
            made++;
        }
    }
    trie->children[trie->node_count] = made;
}

weir_status weir_token_trie_build(const weir_tokenizer* tokenizer, token_type type,
                                  token_trie* trie) {
    const weir_allocator* allocator = &tokenizer->allocator;
    uint32_t capacity = 0;
    for (uint32_t id = 0; id < tokenizer->size; id++) {
        capacity += tokenizer->types[id] == type;
    }
    uint32_t* list = NULL;
    WEIR_TRY(llm_array_new(allocator, capacity, &list));
    uint32_t count = 0;
    for (uint32_t id = 0; id < tokenizer->size; id++) {
        const size_t length = (size_t)token_text(tokenizer, id).length;
        if (tokenizer->types[id] == type && length > 0) {
            list[count++] = id;
            trie->longest = length > trie->longest ? length : trie->longest;
        }
    }
    weir_status status = WEIR_OK;
    if (count > 0) {
        weir_tokenizer_sort(tokenizer, end_before, list, count);
        status = allocate(tokenizer, count_nodes(tokenizer, list, count), trie);
    }
    if (count > 0 && status == WEIR_OK) {
        fill(tokenizer, list, count, trie);
    }
    llm_array_free(allocator, list, capacity);
    return status;
}

void weir_token_trie_free(const weir_allocator* allocator, token_trie* trie) {
    llm_array_free(allocator, trie->bytes, trie->node_count);
    llm_array_free(allocator, trie->children, (size_t)trie->node_count + 1);
    llm_array_free(allocator, trie->shorter, trie->node_count);
    llm_array_free(allocator, trie->ids, trie->node_count);
}

// Tokens that begin in the first `count` bytes end within `longest` bytes behind them: further on
// nothing need be read.
size_t weir_token_trie_match(const token_trie* trie, const char* text, size_t length, size_t count,
                             uint32_t* ids) {
    size_t steps = 0;
    uint32_t node = ROOT;
    size_t at = length - count > trie->longest ? count + trie->longest : length;
    while (at-- > 0) {
        node = move(trie, node, (uint8_t)text[at], &steps);
        if (at < count) {
            ids[at] = trie->ids[node];
        }
    }
    return steps;
}
