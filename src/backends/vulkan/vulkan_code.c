// The physical layout of SPIR-V and the numbers of its instructions are those of the SPIR-V
// specification 1.6, sections 2.3 and 3.
#include "backends/vulkan/vulkan_code.h"

#include <stdbool.h>
#include <string.h>

enum {
    MAGIC = 0x07230203,
    HEADER_WORDS = 5,
    OP_ENTRY_POINT = 15, // execution model, id, name, ...
    OP_DECORATE = 71,    // target, decoration, number
    MODEL_COMPUTE = 5,   // GLCompute
    DECORATION_BINDING = 33,
    DECORATION_SET = 34,
};

// Tells whether an instruction of `count` words is an entry for compute of that name. Names are
// bytes from the lowest of a word on, as the host has them.
static bool is_entry(const uint32_t* words, uint32_t count, const char* entry) {
    if ((words[0] & 0xFFFF) != OP_ENTRY_POINT || count < 4 || words[1] != MODEL_COMPUTE) {
        return false;
    }
    const char* name = (const char*)(words + 3);
    const size_t room = (count - 3) * sizeof *words;
    return strnlen(name, room) < room && strcmp(name, entry) == 0;
}

static weir_status check_decoration(const uint32_t* words, uint32_t count, uint32_t binding_count) {
    if ((words[0] & 0xFFFF) != OP_DECORATE || count < 4) {
        return WEIR_OK;
    }
    if (words[2] == DECORATION_BINDING && words[3] >= binding_count) {
        return WEIR_FAIL(
            WEIR_INVALID_ARGUMENT,
            "code with binding %u; expected less than %u, the operands of the dispatch", words[3],
            binding_count);
    }
    if (words[2] == DECORATION_SET && words[3] != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "code with a binding in set %u; operands are in set 0", words[3]);
    }
    return WEIR_OK;
}

weir_status vulkan_code_check(const uint32_t* words, size_t byte_size, const char* entry,
                              uint32_t binding_count) {
    const size_t count = byte_size / sizeof *words;
    bool found = false;
    if (byte_size % sizeof *words != 0 || count < HEADER_WORDS || words[0] != MAGIC) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "%zu bytes of code, expected words of SPIR-V that begin with 0x%08X",
                         byte_size, (unsigned)MAGIC);
    }
    for (size_t at = HEADER_WORDS; at < count;) {
        const uint32_t length = words[at] >> 16;
        if (length == 0 || length > count - at) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "code whose instruction at word %zu has %u words; %zu are left", at,
                             length, count - at);
        }
        found = found || is_entry(words + at, length, entry);
        WEIR_TRY(check_decoration(words + at, length, binding_count));
        at += length;
    }
    return found ? WEIR_OK
                 : WEIR_FAIL(WEIR_INVALID_ARGUMENT, "code without an entry \"%s\" for compute",
                             entry);
}
