// Vocabularies made to be slow: pieces that share slots of the hash table.
#include "gguf_builder.h"

#include "llm/tokenizer_impl.h"
#include "testing_allocator.h"

#define PIECE_BYTES 8
#define PIECES_MAX 4096

typedef struct vocabulary {
    char text[PIECES_MAX][PIECE_BYTES + 1];
    uint32_t count;
} vocabulary;

// The hash of the table (FNV-1a, folded): what whoever makes a file can compute as well.
static uint64_t hash_of(const char* text) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (; *text; text++) {
        hash = (hash ^ (uint8_t)*text) * 0x100000001B3u;
    }
    return hash ^ (hash >> 32);
}

// Adds a piece that begins its search at slot `slot` of a table with `slots` of them.
static void add_colliding(vocabulary* vocab, size_t slots, size_t slot, uint64_t* counter) {
    char* text = vocab->text[vocab->count++];
    do {
        uint64_t number = (*counter)++;
        size_t length = 0;
        do {
            text[length++] = (char)('a' + number % 26);
            number /= 26;
        } while (number > 0);
        text[length] = '\0';
    } while ((hash_of(text) & (slots - 1)) != slot);
}

static weir_tokenizer* create(const vocabulary* vocab, const weir_allocator* allocator,
                              weir_status* status, uint64_t* bound) {
    static gguf_text texts[PIECES_MAX + 1];
    static float scores[PIECES_MAX + 1];
    texts[0] = GGUF_TEXT("<unk>");
    for (uint32_t i = 0; i < vocab->count; i++) {
        texts[i + 1] = (gguf_text){vocab->text[i], strlen(vocab->text[i])};
        scores[i + 1] = -(float)i;
    }
    const uint32_t count = vocab->count + 1;
    gguf_builder builder = {0};
    gguf_put_string(&builder, "tokenizer.ggml.model", "llama");
    gguf_put_strings(&builder, "tokenizer.ggml.tokens", texts, count);
    gguf_put_array(&builder, "tokenizer.ggml.scores", WEIR_GGUF_F32, scores, count, count * 4ull);
    gguf_put_u32(&builder, "tokenizer.ggml.unknown_token_id", 0);
    size_t byte_size = 0;
    uint8_t* bytes = gguf_builder_finish(&builder, &byte_size);
    weir_gguf* gguf = NULL;
    weir_tokenizer* tokenizer = NULL;
    assert_ok(weir_gguf_parse(NULL, bytes, byte_size, "made", &gguf));
    *status = weir_tokenizer_create(allocator, gguf, &tokenizer);
    *bound = weir_tokenizer_bytes(gguf);
    weir_gguf_destroy(gguf);
    free(bytes);
    return tokenizer;
}

// Every piece is found, as the first of its spelling, and nothing else is.
static void assert_finds(const vocabulary* vocab, const weir_tokenizer* tokenizer) {
    for (uint32_t i = 0; i < vocab->count; i++) {
        uint32_t first = 0;
        while (strcmp(vocab->text[first], vocab->text[i]) != 0) {
            first++;
        }
        const size_t length = strlen(vocab->text[i]);
        assert_int_equal(weir_tokenizer_find(tokenizer, vocab->text[i], length), first + 1);
    }
    const char* const others[] = {"~", "A", "zzzzzzzz", "a\x80", "\xff"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_int_equal(weir_tokenizer_find(tokenizer, others[i], strlen(others[i])),
                         WEIR_TOKEN_NONE);
    }
}

static weir_tokenizer* create_counted(const vocabulary* vocab, test_allocator* counter) {
    uint64_t bound = 0;
    weir_status status = WEIR_OK;
    const weir_allocator allocator = test_allocator_of(counter);
    weir_tokenizer* tokenizer = create(vocab, &allocator, &status, &bound);
    assert_ok(status);
    assert_true(atomic_load(&counter->asked_bytes) <= bound);
    return tokenizer;
}

static void pieces_as_they_come_lie_in_slots(void** state) {
    (void)state;
    static vocabulary vocab;
    uint64_t counter = 1;
    for (vocab.count = 0; vocab.count < 2000;) {
        add_colliding(&vocab, 1, 0, &counter);
    }
    strcpy(vocab.text[1500], vocab.text[10]);
    test_allocator heap = {.fail_at = SIZE_MAX};
    weir_tokenizer* tokenizer = create_counted(&vocab, &heap);
    assert_int_equal(tokenizer->slot_count, 4096);
    assert_finds(&vocab, tokenizer);
    weir_tokenizer_destroy(tokenizer);
    assert_int_equal(heap.live_blocks, 0);
}

static void pieces_of_one_slot_are_found_in_order_instead(void** state) {
    (void)state;
    static vocabulary vocab;
    uint64_t counter = 1;
    for (vocab.count = 0; vocab.count < 300;) {
        add_colliding(&vocab, 1024, 77, &counter);
    }
    strcpy(vocab.text[250], vocab.text[10]);
    test_allocator heap = {.fail_at = SIZE_MAX};
    weir_tokenizer* tokenizer = create_counted(&vocab, &heap);
    assert_int_equal(tokenizer->slot_count, 0);
    assert_int_equal(tokenizer->pieces.count, 299);
    assert_finds(&vocab, tokenizer);
    weir_tokenizer_destroy(tokenizer);
    assert_int_equal(heap.live_blocks, 0);
}

// Each has a slot of its own, side by side: only what is no piece would be sought for long.
static void runs_of_taken_slots_are_no_better(void** state) {
    (void)state;
    static vocabulary vocab;
    for (size_t begin = 0; begin < 1024; begin += 900) { // the second run spans the end
        uint64_t counter = 1;
        vocab.count = 0;
        for (size_t i = 0; i < 300; i++) {
            add_colliding(&vocab, 1024, (begin + i) % 1024, &counter);
        }
        test_allocator heap = {.fail_at = SIZE_MAX};
        weir_tokenizer* tokenizer = create_counted(&vocab, &heap);
        assert_int_equal(tokenizer->slot_count, 0);
        assert_finds(&vocab, tokenizer);
        weir_tokenizer_destroy(tokenizer);
    }
}

static void a_text_encodes_alike_from_slots_and_in_order(void** state) {
    (void)state;
    static vocabulary vocab;
    uint64_t counter = 1;
    for (vocab.count = 0; vocab.count < 26;) { // the letters
        add_colliding(&vocab, 1, 0, &counter);
    }
    counter = 26;
    while (vocab.count < 300) { // pairs and longer ones; 600 slots and more
        add_colliding(&vocab, 1024, 5, &counter);
    }
    uint64_t bound = 0;
    weir_status status = WEIR_OK;
    weir_tokenizer* ordered = create(&vocab, NULL, &status, &bound);
    assert_ok(status);
    assert_int_equal(ordered->slot_count, 0);
    // As many more pieces, which no text here has, make the table larger: collisions are fewer.
    vocabulary* more = malloc(sizeof *more);
    assert_non_null(more);
    *more = vocab;
    for (uint32_t i = 0; i < 3000; i++) {
        snprintf(more->text[more->count++], PIECE_BYTES + 1, "%07u", i);
    }
    weir_tokenizer* slotted = create(more, NULL, &status, &bound);
    assert_ok(status);
    assert_int_equal(slotted->slot_count, 8192);
    test_random random = {9};
    for (int round = 0; round < 200; round++) {
        char text[64];
        for (size_t i = 0; i < sizeof text; i++) {
            text[i] = (char)('a' + random_below(&random, 26));
        }
        weir_ids a = {0};
        weir_ids b = {0};
        assert_ok(weir_tokenizer_encode(ordered, text, sizeof text, 0, &a));
        assert_ok(weir_tokenizer_encode(slotted, text, sizeof text, 0, &b));
        assert_int_equal(a.count, b.count);
        assert_memory_equal(a.items, b.items, a.count * sizeof *a.items);
        weir_ids_free(&a);
        weir_ids_free(&b);
    }
    weir_tokenizer_destroy(ordered);
    weir_tokenizer_destroy(slotted);
    free(more);
}

static void each_failing_allocation_leaks_nothing(void** state) {
    (void)state;
    static vocabulary vocab;
    uint64_t counter = 1;
    for (vocab.count = 0; vocab.count < 300;) {
        add_colliding(&vocab, 1024, 3, &counter);
    }
    weir_status status = WEIR_OUT_OF_MEMORY;
    size_t calls = 0;
    for (; status == WEIR_OUT_OF_MEMORY; calls++) {
        test_allocator heap = {.fail_at = calls};
        const weir_allocator allocator = test_allocator_of(&heap);
        uint64_t bound = 0;
        weir_tokenizer* tokenizer = create(&vocab, &allocator, &status, &bound);
        weir_tokenizer_destroy(tokenizer);
        assert_int_equal(heap.live_blocks, 0);
    }
    assert_ok(status);
    assert_true(calls > 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_as_they_come_lie_in_slots),
        cmocka_unit_test(pieces_of_one_slot_are_found_in_order_instead),
        cmocka_unit_test(runs_of_taken_slots_are_no_better),
        cmocka_unit_test(a_text_encodes_alike_from_slots_and_in_order),
        cmocka_unit_test(each_failing_allocation_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
