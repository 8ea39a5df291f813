// The GGUF parser, and what reads a model's numbers from a parse.
#include "fuzz.h"

#include <weir-llm/llama.h>
#include <weir/gguf.h>

static volatile uint64_t sink;

static void touch_values(const weir_gguf* gguf) {
    uint64_t count = 0;
    uint64_t sum = 0;
    const weir_gguf_value* values = weir_gguf_values(gguf, &count);
    for (uint64_t i = 0; i < count; i++) {
        const void* cursor = NULL;
        weir_text string;
        char shown[24];
        weir_text_escape(values[i].key, shown, sizeof shown);
        while (weir_gguf_next_string(&values[i], &cursor, &string)) {
            sum += string.length > 0 ? (uint8_t)string.bytes[string.length - 1] : 0;
        }
        for (uint64_t k = 0; k < values[i].count; k++) {
            sum += (uint64_t)weir_gguf_element_i64(&values[i], k);
            sum += weir_gguf_element_f64(&values[i], k) > 0;
        }
    }
    sink = sum;
}

// Tensors lie inside the file and apart from each other.
static void touch_tensors(const weir_gguf* gguf, const uint8_t* bytes, size_t byte_size) {
    uint64_t count = 0;
    const weir_gguf_tensor* tensors = weir_gguf_tensors(gguf, &count);
    for (uint64_t i = 0; i < count; i++) {
        fuzz_require(tensors[i].byte_size > 0);
        fuzz_require(tensors[i].byte_offset <= byte_size);
        fuzz_require(tensors[i].byte_size <= byte_size - tensors[i].byte_offset);
        sink = bytes[tensors[i].byte_offset] +
               (uint64_t)bytes[tensors[i].byte_offset + tensors[i].byte_size - 1];
    }
}

// The input as the only part of a set, and as two parts, which cannot agree on their places.
static void parse_as_set(const uint8_t* bytes, size_t byte_size) {
    fuzz_purse purse = {.most = 8 * byte_size + 2048};
    const weir_allocator allocator = fuzz_allocator(&purse);
    const weir_gguf_part part = {.bytes = bytes, .byte_size = byte_size, .file_name = "part.gguf"};
    const weir_gguf_part parts[] = {part, part};
    for (uint32_t count = 1; count <= 2; count++) {
        weir_gguf* gguf = NULL;
        const weir_status status = weir_gguf_parse_parts(&allocator, parts, count, &gguf);
        fuzz_require(status != WEIR_OUT_OF_MEMORY);
        fuzz_require(status != WEIR_OK || count == 1);
        weir_gguf_destroy(gguf);
    }
    fuzz_require(purse.live == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t byte_size) {
    fuzz_purse purse = {.most = 4 * byte_size + 1024};
    const weir_allocator allocator = fuzz_allocator(&purse);
    uint8_t* exact = fuzz_exact(bytes, byte_size);
    weir_gguf* gguf = NULL;
    const weir_status status = weir_gguf_parse(&allocator, exact, byte_size, "fuzz.gguf", &gguf);
    fuzz_require(status != WEIR_OUT_OF_MEMORY);
    if (status == WEIR_OK) {
        touch_values(gguf);
        touch_tensors(gguf, exact, byte_size);
        weir_llama_params params;
        if (weir_llama_params_read(gguf, &params) == WEIR_OK) {
            fuzz_require(params.heads > 0 && params.heads % params.kv_heads == 0);
        }
    }
    weir_gguf_destroy(gguf);
    fuzz_require(purse.live == 0);
    parse_as_set(exact, byte_size);
    free(exact);
    return 0;
}
