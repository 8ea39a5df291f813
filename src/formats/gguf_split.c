#include "formats/gguf_parts.h"

#include "base/text_compare.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

// Sets of files, as the tool gguf-split of the ggml project writes them: each part says its number,
// how many parts there are, and how many tensors they have together.

// Behind the common prefix of the names: the number of the part, from 1, and that of all parts.
#define PART_ENDING "-%05" PRIu32 "-of-%05" PRIu32 ".gguf"

static const char number_key[] = "split.no";
static const char count_key[] = "split.count";
static const char tensors_key[] = "split.tensors.count";

static weir_status fail_key(const weir_gguf* gguf, const char* key, uint64_t found,
                            const char* expected, uint64_t number) {
    return WEIR_FAIL(WEIR_BAD_FORMAT, "%s: key \"%s\": found %" PRIu64 ", expected %s %" PRIu64,
                     gguf->files[0].name, key, found, expected, number);
}

// Absent keys leave *number alone; in a set they must not be absent.
static weir_status read_number(const weir_gguf* gguf, const char* key, bool is_required,
                               uint64_t* number) {
    if (weir_gguf_find(gguf, key)) {
        return weir_gguf_get_u64(gguf, key, number);
    }
    return is_required ? WEIR_FAIL(WEIR_BAD_FORMAT,
                                   "%s: key \"%s\" is missing, expected it in a part of a set",
                                   gguf->files[0].name, key)
                       : WEIR_OK;
}

// Of several files those keys are the ones of the first; the sum has been checked by parsing them.
weir_status weir_gguf_split_read(const weir_gguf* gguf, weir_gguf_split* split) {
    uint64_t count = 1;
    uint64_t part = 0;
    uint64_t tensors = gguf->tensor_count;
    WEIR_TRY(read_number(gguf, count_key, false, &count));
    if (count < 1 || count > WEIR_GGUF_PARTS_MAX) {
        return fail_key(gguf, count_key, count, "1 to", WEIR_GGUF_PARTS_MAX);
    }
    const bool is_set = count > 1;
    WEIR_TRY(read_number(gguf, number_key, is_set, &part));
    if (part >= count) {
        return fail_key(gguf, number_key, part, "less than split.count, which is", count);
    }
    WEIR_TRY(read_number(gguf, tensors_key, is_set, &tensors));
    if (tensors < gguf->tensor_count || (!is_set && tensors > gguf->tensor_count)) {
        return fail_key(gguf, tensors_key, tensors,
                        is_set ? "at least the tensors of this file," : "the tensors of the file,",
                        gguf->tensor_count);
    }
    *split = (weir_gguf_split){
        .part = (uint32_t)part, .part_count = (uint32_t)count, .tensor_count = tensors};
    return WEIR_OK;
}

// split.no and general.alignment are about one file; whatever else two parts both say, they must
// say alike. The array elements of equal values have equal bytes, strings included.
static weir_status check_value(const weir_gguf* set, const weir_gguf* alone,
                               const weir_gguf_value* value, const weir_gguf_value* first) {
    if (value->type == first->type && value->element_type == first->element_type &&
        value->count == first->count && value->byte_length == first->byte_length &&
        memcmp(value->bytes, first->bytes, (size_t)value->byte_length) == 0) {
        return WEIR_OK;
    }
    char key[128];
    return WEIR_FAIL(
        WEIR_BAD_FORMAT,
        "%s: offset %" PRIu64 ": key \"%s\": found another value than in %s, expected the same",
        alone->files[0].name, (uint64_t)((const uint8_t*)value->bytes - alone->files[0].bytes),
        weir_text_escape(value->key, key, sizeof key), set->files[0].name);
}

static bool is_of_one_file(weir_text key) {
    static const char alignment_key[] = "general.alignment";
    return text_compare(key, (weir_text){number_key, sizeof number_key - 1}) == 0 ||
           text_compare(key, (weir_text){alignment_key, sizeof alignment_key - 1}) == 0;
}

// Both lists are sorted by key: one walk finds what they share.
static weir_status check_values(const weir_gguf* set, const weir_gguf* alone) {
    uint64_t at = 0;
    for (uint64_t i = 0; i < alone->value_count; i++) {
        const weir_gguf_value* value = &alone->values[alone->value_order[i]];
        const weir_gguf_value* first = NULL;
        int order = -1;
        while (at < set->value_count && order < 0) {
            first = &set->values[set->value_order[at]];
            order = text_compare(first->key, value->key);
            at += order < 0 ? 1 : 0;
        }
        if (order == 0 && !is_of_one_file(value->key)) {
            WEIR_TRY(check_value(set, alone, value, first));
        }
    }
    return WEIR_OK;
}

weir_status weir_gguf_check_part(const weir_gguf* set, uint32_t part, const weir_gguf* alone) {
    weir_gguf_split split = {0};
    WEIR_TRY(weir_gguf_split_read(alone, &split));
    if (split.part_count != set->file_count) {
        return fail_key(alone, count_key, split.part_count, "the number of files given,",
                        set->file_count);
    }
    if (split.part != part) {
        return fail_key(alone, number_key, split.part, "the place among the files,", part);
    }
    if (split.tensor_count != set->tensor_count) {
        return fail_key(alone, tensors_key, split.tensor_count, "the tensors of all files,",
                        set->tensor_count);
    }
    return part > 0 ? check_values(set, alone) : WEIR_OK;
}

weir_status weir_gguf_part_path(const char* path, const weir_gguf_split* split, uint32_t part,
                                char* part_path, size_t capacity) {
    char own[40];
    char wanted[40];
    snprintf(own, sizeof own, PART_ENDING, split->part + 1, split->part_count);
    snprintf(wanted, sizeof wanted, PART_ENDING, part + 1, split->part_count);
    const size_t length = strlen(path);
    const size_t end_length = strlen(own);
    if (length < end_length || strcmp(path + (length - end_length), own) != 0) {
        return WEIR_FAIL(WEIR_BAD_FORMAT,
                         "%s: name of the file: expected it to end in %s, as split.no is %" PRIu32
                         " and split.count %" PRIu32,
                         path, own, split->part, split->part_count);
    }
    if (part >= split->part_count || length >= capacity) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                         "%s: part %" PRIu32 " of %" PRIu32 " in %zu bytes cannot be named", path,
                         part, split->part_count, capacity);
    }
    memcpy(part_path, path, length - end_length);
    memcpy(part_path + (length - end_length), wanted, strlen(wanted) + 1);
    return WEIR_OK;
}
