// Model files that change while they are opened: written to in place, or cut short.
#include "hostile_testing.h"

#include <unistd.h>
#include <weir/fault.h>
#include <weir/safetensors.h>

static uint8_t* strings_file(size_t* byte_size) {
    gguf_builder builder = {0};
    const gguf_text texts[] = {GGUF_TEXT("<unk>"), GGUF_TEXT(""), GGUF_TEXT("abc"),
                               GGUF_TEXT("\xE2\x96\x81z"), GGUF_TEXT("abcabcabcabc")};
    const float scores[5] = {0};
    const int32_t types[5] = {2, 1, 1, 1, 1};
    gguf_put_string(&builder, "tokenizer.ggml.model", "llama");
    gguf_put_array(&builder, "tokenizer.ggml.scores", WEIR_GGUF_F32, scores, 5, sizeof scores);
    gguf_put_array(&builder, "tokenizer.ggml.token_type", WEIR_GGUF_I32, types, 5, sizeof types);
    gguf_put_u32(&builder, "tokenizer.ggml.unknown_token_id", 0);
    gguf_put_strings(&builder, "tokenizer.ggml.tokens", texts, 5); // the last bytes of the file
    return gguf_builder_finish(&builder, byte_size);
}

// Reads all that a parse points at; the sum keeps the loads alive.
static uint64_t touch(const weir_gguf* gguf) {
    uint64_t sum = 0;
    uint64_t count = 0;
    const weir_gguf_value* values = weir_gguf_values(gguf, &count);
    for (uint64_t i = 0; i < count; i++) {
        weir_text string = {0};
        for (const void* cursor = NULL; weir_gguf_next_string(&values[i], &cursor, &string);) {
            for (uint64_t k = 0; k < string.length; k++) {
                sum += (uint8_t)string.bytes[k];
            }
        }
        for (uint64_t k = 0; k < values[i].count; k++) {
            sum += (uint64_t)weir_gguf_element_i64(&values[i], k);
        }
    }
    weir_text model = {0};
    if (weir_gguf_get_string(gguf, "tokenizer.ggml.model", &model) == WEIR_OK) {
        for (uint64_t k = 0; k < model.length; k++) {
            sum += (uint8_t)model.bytes[k];
        }
    }
    return sum;
}

static volatile uint64_t seen;

static void changed_bytes_after_the_parse_lead_nowhere_else(void** state) {
    (void)state;
    size_t byte_size = 0;
    uint8_t* bytes = strings_file(&byte_size); // a block of exactly its size
    uint8_t* right = malloc(byte_size);
    assert_non_null(right);
    memcpy(right, bytes, byte_size);
    test_random random = {0xC4A9};
    int failed = 0;
    for (int round = 0; round < 4000; round++) {
        weir_gguf* gguf = NULL;
        assert_ok(weir_gguf_parse(NULL, bytes, byte_size, "changing", &gguf));
        for (uint64_t i = random_below(&random, 12); i > 0; i--) {
            const uint8_t often[] = {0, 1, 3, 0xff};
            const uint64_t at = random_below(&random, byte_size);
            bytes[at] = often[random_below(&random, 4)];
        }
        seen = touch(gguf);
        weir_tokenizer* tokenizer = NULL;
        const weir_status status = weir_tokenizer_create(NULL, gguf, &tokenizer);
        failed += status == WEIR_OK ? 0 : 1;
        weir_tokenizer_destroy(tokenizer);
        weir_gguf_destroy(gguf);
        memcpy(bytes, right, byte_size);
    }
    assert_true(failed > 100 && failed < 4000);
    free(right);
    free(bytes);
}

// Zeros make strings of no length, of which more fit in than there were.
static void strings_that_shrink_end_with_their_array(void** state) {
    (void)state;
    size_t byte_size = 0;
    uint8_t* bytes = strings_file(&byte_size);
    weir_gguf* gguf = NULL;
    const weir_gguf_value* tokens = NULL;
    assert_ok(weir_gguf_parse(NULL, bytes, byte_size, "changing", &gguf));
    assert_ok(weir_gguf_get_array(gguf, "tokenizer.ggml.tokens", WEIR_GGUF_STRING, &tokens));
    const size_t begin = (size_t)((const uint8_t*)tokens->bytes - bytes);
    memset(bytes + begin, 0, byte_size - begin);
    weir_text string = {0};
    uint64_t count = 0;
    for (const void* cursor = NULL; weir_gguf_next_string(tokens, &cursor, &string); count++) {
        assert_int_equal(string.length, 0);
    }
    assert_int_equal(count, tokens->byte_length / 8);
    assert_true(count > tokens->count);
    weir_tokenizer* tokenizer = NULL;
    assert_ok(weir_tokenizer_create(NULL, gguf, &tokenizer)); // five tokens, all of them empty
    weir_tokenizer_destroy(tokenizer);
    const uint64_t much = UINT64_MAX;
    memcpy(bytes + begin, &much, sizeof much); // one token, which takes all there is
    assert_status(weir_tokenizer_create(NULL, gguf, &tokenizer), WEIR_IO);
    assert_message_has("changing: tokenizer.ggml.tokens changed while it was read");
    weir_gguf_destroy(gguf);
    free(bytes);
}

// An allocator that cuts a file short at one of its calls.
typedef struct cutter {
    const char* path;
    size_t calls;
    size_t cut_at;
    off_t length;
} cutter;

static void* cut_and_allocate(void* context, size_t byte_size, size_t alignment) {
    cutter* c = context;
    if (c->calls++ == c->cut_at) {
        assert_int_equal(truncate(c->path, c->length), 0);
    }
    void* pointer = NULL;
    const size_t least = alignment < sizeof(void*) ? sizeof(void*) : alignment;
    return posix_memalign(&pointer, least, byte_size) == 0 ? pointer : NULL;
}

static void free_uncounted(void* context, void* pointer, size_t byte_size, size_t alignment) {
    (void)context;
    (void)byte_size;
    (void)alignment;
    free(pointer);
}

static weir_status load_cut(cutter* c) {
    const weir_allocator allocator = {c, cut_and_allocate, free_uncounted};
    weir_model* model = NULL;
    weir_tokenizer* tokenizer = NULL;
    weir_status status = weir_model_open(&allocator, f.device, c->path, NULL, &model);
    const bool was_cut = c->calls > c->cut_at;
    if (status == WEIR_OK && !was_cut) {
        status = weir_tokenizer_create(&allocator, weir_model_gguf(model), &tokenizer);
    } else {
        assert_int_not_equal(status, WEIR_OK); // what was cut before the end is no model
        assert_message_has(c->path);
    }
    if (status == WEIR_OK && c->calls > c->cut_at) {
        weir_context* context = NULL; // the tokenizer was made: names are gone, or a pass notices
        weir_status used = weir_context_create(NULL, model, NULL, &context);
        if (used == WEIR_OK) {
            used = weir_context_feed(context, (const uint32_t[]){1}, 1, WEIR_OUTPUT_LAST);
        }
        assert_true(used == WEIR_IO || used == WEIR_NOT_FOUND);
        weir_context_destroy(context);
    }
    weir_tokenizer_destroy(tokenizer);
    weir_model_destroy(model);
    return status;
}

static void files_cut_short_while_they_are_opened_are_refused(void** state) {
    (void)state;
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    const off_t lengths[] = {0, 1, 700, 1500, 4096, (off_t)byte_size - 1};
    assert_ok(weir_fault_handler_install());
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t cut_at = 0;
        for (bool cut = true; cut; cut_at++) {
            char path[64];
            write_file(path, bytes, byte_size);
            cutter c = {.path = path, .cut_at = cut_at, .length = lengths[i]};
            const weir_status status = load_cut(&c);
            cut = c.calls > cut_at;
            assert_true(cut || status == WEIR_OK);
            remove_file(path);
        }
        assert_true(cut_at > 10);
    }
    assert_ok(weir_fault_handler_remove());
    free(bytes);
}

// An allocator that writes to a block of bytes at each of its calls.
typedef struct writer {
    test_allocator heap;
    test_random random;
    uint8_t* bytes;
    size_t byte_size;
} writer;

static void* write_and_allocate(void* context, size_t byte_size, size_t alignment) {
    static const char often[] = "\\\"u0:,{}[]a9 ";
    writer* w = context;
    for (uint64_t i = random_below(&w->random, 8); i > 6; i--) {
        w->bytes[8 + random_below(&w->random, w->byte_size - 8)] =
            (uint8_t)often[random_below(&w->random, sizeof often - 1)];
    }
    return test_allocate(&w->heap, byte_size, alignment);
}

static void free_counted(void* context, void* pointer, size_t byte_size, size_t alignment) {
    test_release(&((writer*)context)->heap, pointer, byte_size, alignment);
}

// An allocator that replaces a text by another of its length.
typedef struct replacer {
    test_allocator heap;
    char* bytes;
    const char* then;
} replacer;

static void* replace_and_allocate(void* context, size_t byte_size, size_t alignment) {
    replacer* r = context;
    memcpy(r->bytes, r->then, strlen(r->then));
    return test_allocate(&r->heap, byte_size, alignment);
}

static void free_replaced(void* context, void* pointer, size_t byte_size, size_t alignment) {
    test_release(&((replacer*)context)->heap, pointer, byte_size, alignment);
}

// The parser reads twice; what it found first says how much room there is.
static void headers_that_change_between_the_walks_lead_nowhere_else(void** state) {
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"\\u0041\\u0042\":\"\\u00e9\",\"c\":\"\\\"\"},"
        "\"\\u0077\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
        "\"\\ud83d\\ude00\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]}}      ";
    const size_t byte_size = 8 + sizeof header - 1 + 2;
    uint8_t* bytes = malloc(byte_size);
    assert_non_null(bytes);
    writer w = {
        .heap.fail_at = SIZE_MAX, .random = {7}, .bytes = bytes, .byte_size = byte_size - 2};
    const weir_allocator allocator = {&w, write_and_allocate, free_counted};
    int read = 0;
    for (int round = 0; round < 20000; round++) {
        const uint64_t header_size = sizeof header - 1;
        memcpy(bytes, &header_size, 8);
        memcpy(bytes + 8, header, header_size);
        memset(bytes + 8 + header_size, 0, 2);
        weir_safetensors* file = NULL;
        const weir_status status =
            weir_safetensors_parse(&allocator, bytes, byte_size, "changing", &file);
        assert_true(status == WEIR_OK || status == WEIR_BAD_FORMAT || status == WEIR_UNSUPPORTED ||
                    status == WEIR_IO);
        read += status == WEIR_OK ? 1 : 0;
        uint64_t count = 0;
        const weir_safetensors_tensor* tensors =
            status == WEIR_OK ? weir_safetensors_tensors(file, &count) : NULL;
        for (uint64_t i = 0; i < count; i++) {
            seen += tensors[i].name.length > 0 ? (uint8_t)tensors[i].name.bytes[0] : 0;
        }
        weir_safetensors_destroy(file);
        assert_int_equal(w.heap.live_blocks, 0);
        assert_int_equal(w.heap.live_bytes, 0);
    }
    assert_true(read > 0 && read < 20000);
    free(bytes);
}

// One member more, one less, a longer text: each in a file of the same size.
static void headers_that_grow_or_shrink_between_the_walks_are_noticed(void** state) {
    (void)state;
    static const struct {
        const char* first;
        const char* then;
    } cases[] = {
        {"{\"__metadata__\":{\"a\":\"bcdefghij\"}}", "{\"__metadata__\":{\"a\":\"\",\"b\":\"\"}}"},
        {"{\"__metadata__\":{\"a\":\"\",\"b\":\"\"}}", "{\"__metadata__\":{\"a\":\"b\"}}"},
        {"{\"__metadata__\":{\"a\":\"b\"}}", "{\"__metadata__\":{\"a\":\"bcdefghijkl\"}}"},
        {"{\"__metadata__\":{\"a\":\"b\"}}", "{\"__metadata__\":{\"abcdefghijkl\":\"\"}}"},
        {"{}", "{\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"},
        {"{\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", "{}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char bytes[8 + 64 + 1];
        const uint64_t header_size = 64; // both padded with spaces
        char then[64 + 1];
        memcpy(bytes, &header_size, 8);
        snprintf(bytes + 8, sizeof bytes - 8, "%-64s", cases[i].first);
        snprintf(then, sizeof then, "%-64s", cases[i].then);
        replacer r = {.heap.fail_at = SIZE_MAX, .bytes = bytes + 8, .then = then};
        const weir_allocator allocator = {&r, replace_and_allocate, free_replaced};
        weir_safetensors* file = NULL;
        assert_status(weir_safetensors_parse(&allocator, bytes, 8 + 64, "changing", &file),
                      WEIR_IO);
        assert_message_has("changing: offset ");
        assert_message_has("changed while it was read");
        assert_int_equal(r.heap.live_bytes, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changed_bytes_after_the_parse_lead_nowhere_else),
        cmocka_unit_test(strings_that_shrink_end_with_their_array),
        cmocka_unit_test(headers_that_change_between_the_walks_lead_nowhere_else),
        cmocka_unit_test(headers_that_grow_or_shrink_between_the_walks_are_noticed),
        cmocka_unit_test(files_cut_short_while_they_are_opened_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
