// The GGUF parser, of one file and of several, and what reads a model's numbers from a parse.
#include "fuzz.h"

#include <weir-llm/llama.h>
#include <weir/gguf.h>

#define PARTS_MAX 4

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

// Tensors lie inside their file.
static void touch_tensors(const weir_gguf* gguf, const weir_gguf_part* parts, uint32_t part_count) {
    uint64_t count = 0;
    const weir_gguf_tensor* tensors = weir_gguf_tensors(gguf, &count);
    for (uint64_t i = 0; i < count; i++) {
        fuzz_require(tensors[i].part < part_count);
        const weir_gguf_part* part = &parts[tensors[i].part];
        const uint8_t* bytes = part->bytes;
        fuzz_require(tensors[i].byte_size > 0);
        fuzz_require(tensors[i].byte_offset <= part->byte_size);
        fuzz_require(tensors[i].byte_size <= part->byte_size - tensors[i].byte_offset);
        sink = bytes[tensors[i].byte_offset] +
               (uint64_t)bytes[tensors[i].byte_offset + tensors[i].byte_size - 1];
    }
}

// Cuts the input where a file seems to begin, each piece in a block of exactly its size.
static uint32_t cut(const uint8_t* bytes, size_t byte_size, weir_gguf_part parts[PARTS_MAX]) {
    uint32_t count = 0;
    size_t begin = 0;
    for (size_t end = 1; end <= byte_size || count == 0; end++) {
        const bool last = end >= byte_size;
        const bool magic = !last && byte_size - end >= 4 && memcmp(bytes + end, "GGUF", 4) == 0;
        if (last || (magic && count + 1 < PARTS_MAX)) {
            const size_t stop = last ? byte_size : end;
            parts[count++] = (weir_gguf_part){.bytes = fuzz_exact(bytes + begin, stop - begin),
                                              .byte_size = stop - begin,
                                              .file_name = "fuzz.gguf"};
            begin = stop;
        }
    }
    return count;
}

static weir_status parse(const weir_allocator* allocator, const weir_gguf_part* parts,
                         uint32_t count, weir_gguf** gguf) {
    return count > 1 ? weir_gguf_parse_parts(allocator, parts, count, gguf)
                     : weir_gguf_parse(allocator, parts[0].bytes, parts[0].byte_size,
                                       parts[0].file_name, gguf);
}

// One file as the only part of a set: refused, or the same number of tensors.
static void parse_as_set(const weir_gguf_part* part, const weir_gguf* alone) {
    fuzz_purse purse = {.most = 4 * (size_t)part->byte_size + 2048};
    const weir_allocator allocator = fuzz_allocator(&purse);
    uint64_t count = 0;
    uint64_t alone_count = 0;
    weir_gguf* gguf = NULL;
    const weir_status status = weir_gguf_parse_parts(&allocator, part, 1, &gguf);
    fuzz_require(status != WEIR_OUT_OF_MEMORY && (status != WEIR_OK || alone));
    if (status == WEIR_OK) {
        weir_gguf_tensors(gguf, &count);
        weir_gguf_tensors(alone, &alone_count);
        fuzz_require(count == alone_count);
    }
    weir_gguf_destroy(gguf);
    fuzz_require(purse.live == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t byte_size) {
    fuzz_purse purse = {.most = 4 * byte_size + PARTS_MAX * 1024};
    const weir_allocator allocator = fuzz_allocator(&purse);
    weir_gguf_part parts[PARTS_MAX];
    const uint32_t count = cut(bytes, byte_size, parts);
    weir_gguf* gguf = NULL;
    const weir_status status = parse(&allocator, parts, count, &gguf);
    fuzz_require(status != WEIR_OUT_OF_MEMORY);
    if (status == WEIR_OK) {
        touch_values(gguf);
        touch_tensors(gguf, parts, count);
        weir_gguf_split split;
        weir_llama_params params;
        if (weir_gguf_split_read(gguf, &split) == WEIR_OK) {
            fuzz_require(split.part < split.part_count);
        }
        if (weir_llama_params_read(gguf, &params) == WEIR_OK) {
            fuzz_require(params.heads > 0 && params.heads % params.kv_heads == 0);
        }
    }
    if (count == 1) {
        parse_as_set(&parts[0], gguf);
    }
    weir_gguf_destroy(gguf);
    fuzz_require(purse.live == 0);
    for (uint32_t i = 0; i < count; i++) {
        free((void*)(uintptr_t)parts[i].bytes);
    }
    return 0;
}
