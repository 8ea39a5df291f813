#include "formats/gguf_parts.h"

#include "base/checked.h"

#include <inttypes.h>

// The two kinds of entries; numbers little-endian, strings as u64 length and bytes:
//
//     pair    string key | u32 type | value
//             an array:              u32 element type | u64 count | elements
//     info    string name | u32 rank | u64 dims[rank], innermost first | u32 type | u64 offset
//
// Every read goes through the reader, which knows the end of the file.

static const weir_gguf_type_info type_infos[] = {
    [WEIR_GGUF_U8] = {"u8", 1},         [WEIR_GGUF_I8] = {"i8", 1},
    [WEIR_GGUF_U16] = {"u16", 2},       [WEIR_GGUF_I16] = {"i16", 2},
    [WEIR_GGUF_U32] = {"u32", 4},       [WEIR_GGUF_I32] = {"i32", 4},
    [WEIR_GGUF_F32] = {"f32", 4},       [WEIR_GGUF_BOOL] = {"bool", 1},
    [WEIR_GGUF_STRING] = {"string", 8}, [WEIR_GGUF_ARRAY] = {"array", 0},
    [WEIR_GGUF_U64] = {"u64", 8},       [WEIR_GGUF_I64] = {"i64", 8},
    [WEIR_GGUF_F64] = {"f64", 8},
};

const weir_gguf_type_info* weir_gguf_type_describe(uint32_t type) {
    return type < sizeof type_infos / sizeof *type_infos ? &type_infos[type] : NULL;
}

static weir_status read_type(weir_gguf_reader* reader, const char* field, weir_gguf_type* type) {
    const uint64_t start = reader->position;
    uint32_t number = 0;
    WEIR_TRY(weir_gguf_read_u32(reader, field, &number));
    if (!weir_gguf_type_describe(number)) {
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, start, field,
                         "found %" PRIu32 ", expected 0 to 12", number);
    }
    *type = (weir_gguf_type)number;
    return WEIR_OK;
}

// The format allows 0 and 1 alone; anything else means that one side misread the file.
static weir_status check_bools(const weir_gguf_reader* reader, const uint8_t* bytes,
                               uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        if (bytes[i] > 1) {
            return GGUF_FAIL(reader, WEIR_BAD_FORMAT, (uint64_t)(bytes + i - reader->bytes), "bool",
                             "found %u, expected 0 or 1", bytes[i]);
        }
    }
    return WEIR_OK;
}

// Passes over `count` values of one type that is not an array.
static weir_status read_elements(weir_gguf_reader* reader, weir_gguf_type type, uint64_t count) {
    if (type == WEIR_GGUF_STRING) {
        weir_text string;
        for (uint64_t i = 0; i < count; i++) {
            WEIR_TRY(weir_gguf_read_string(reader, "string", &string));
        }
        return WEIR_OK;
    }
    // The caller has bounded the count, so that the product cannot wrap.
    const uint8_t* bytes = NULL;
    WEIR_TRY(weir_gguf_read_bytes(reader, weir_gguf_type_describe(type)->name,
                                  count * weir_gguf_type_describe(type)->byte_size, &bytes));
    return type == WEIR_GGUF_BOOL ? check_bools(reader, bytes, count) : WEIR_OK;
}

// Bounds the count by the bytes left before anything is multiplied by it. No recursion: an array of
// arrays ends here, however deep it goes.
static weir_status read_array_head(weir_gguf_reader* reader, weir_gguf_value* value) {
    const uint64_t start = reader->position;
    WEIR_TRY(read_type(reader, "array element type", &value->element_type));
    if (value->element_type == WEIR_GGUF_ARRAY) {
        return GGUF_FAIL(reader, WEIR_UNSUPPORTED, start, "array element type",
                         "found an array of arrays, expected plain values");
    }
    WEIR_TRY(weir_gguf_read_u64(reader, "array length", &value->count));
    const uint64_t element_size = weir_gguf_type_describe(value->element_type)->byte_size;
    if (value->count > weir_gguf_bytes_left(reader) / element_size) {
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, start + 4, "array length",
                         "found %" PRIu64 ", expected at most %" PRIu64 " %s values in the %" PRIu64
                         " bytes left",
                         value->count, weir_gguf_bytes_left(reader) / element_size,
                         weir_gguf_type_describe(value->element_type)->name,
                         weir_gguf_bytes_left(reader));
    }
    return WEIR_OK;
}

weir_status weir_gguf_read_value(weir_gguf_reader* reader, uint64_t index, weir_gguf_value* value) {
    reader->entry_kind = "key";
    reader->entry_index = index;
    reader->entry_name = (weir_text){0};
    weir_gguf_value found = {.count = 1};
    WEIR_TRY(weir_gguf_read_name(reader, "key", GGUF_KEY_MAX, &found.key));
    WEIR_TRY(read_type(reader, "value type", &found.type));
    found.element_type = found.type;
    if (found.type == WEIR_GGUF_ARRAY) {
        WEIR_TRY(read_array_head(reader, &found));
    }
    // The bytes of an array begin after its head.
    const uint64_t start = reader->position;
    WEIR_TRY(read_elements(reader, found.element_type, found.count));
    found.bytes = reader->bytes + start;
    found.byte_length = reader->position - start;
    *value = found;
    return WEIR_OK;
}

// Numbers that the format has given up (4, 5, 31 to 33, 36 to 38) are as unknown as new ones.
static weir_dtype dtype_from_id(uint32_t id) {
#define DTYPE_ID(name, elements, bytes, alignment, gguf) [WEIR_DTYPE_##name] = (gguf),
    static const int ids[] = {[WEIR_DTYPE_NONE] = -1, WEIR_DTYPE_LIST(DTYPE_ID)};
#undef DTYPE_ID
    for (unsigned dtype = 0; dtype < WEIR_DTYPE_COUNT; dtype++) {
        if (ids[dtype] >= 0 && (uint32_t)ids[dtype] == id) {
            return (weir_dtype)dtype;
        }
    }
    return WEIR_DTYPE_NONE;
}

// The file lists the innermost dimension first.
static weir_status read_dims(weir_gguf_reader* reader, weir_shape* shape, int64_t* element_count) {
    const uint64_t start = reader->position;
    WEIR_TRY(weir_gguf_read_u32(reader, "dimension count", &shape->rank));
    if (shape->rank < 1 || shape->rank > GGUF_DIMS_MAX) {
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, start, "dimension count",
                         "found %" PRIu32 ", expected 1 to %d", shape->rank, GGUF_DIMS_MAX);
    }
    int64_t count = 1;
    for (uint32_t i = 0; i < shape->rank; i++) {
        uint64_t dim = 0;
        WEIR_TRY(weir_gguf_read_u64(reader, "dimension", &dim));
        if (dim < 1 || dim > INT64_MAX || !mul_i64(count, (int64_t)dim, &count)) {
            return GGUF_FAIL(reader, WEIR_BAD_FORMAT, reader->position - 8, "dimension",
                             "found %" PRIu64 ", expected at least 1 and at most 2^63 - 1 elements "
                             "in all",
                             dim);
        }
        shape->dims[shape->rank - 1 - i] = (int64_t)dim;
    }
    *element_count = count;
    return WEIR_OK;
}

// Blocks lie along the innermost dimension; a row that split one would make sizes ambiguous.
static weir_status read_dtype(weir_gguf_reader* reader, int64_t row_length, weir_dtype* dtype) {
    const uint64_t start = reader->position;
    uint32_t id = 0;
    WEIR_TRY(weir_gguf_read_u32(reader, "type", &id));
    *dtype = dtype_from_id(id);
    if (*dtype == WEIR_DTYPE_NONE) {
        return GGUF_FAIL(reader, WEIR_UNSUPPORTED, start, "type",
                         "found %" PRIu32 ", expected the number of a known tensor type", id);
    }
    const weir_dtype_info* info = weir_dtype_describe(*dtype);
    if (row_length % info->block_elements != 0) {
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, start, "type",
                         "found %s with rows of %" PRId64 ", expected whole blocks of %" PRIu32,
                         info->name, row_length, info->block_elements);
    }
    return WEIR_OK;
}

weir_status weir_gguf_read_tensor(weir_gguf_reader* reader, uint64_t index,
                                  weir_gguf_tensor* tensor) {
    reader->entry_kind = "tensor";
    reader->entry_index = index;
    reader->entry_name = (weir_text){0};
    weir_gguf_tensor found = {0};
    int64_t element_count = 0;
    WEIR_TRY(weir_gguf_read_name(reader, "name", GGUF_NAME_MAX, &found.name));
    WEIR_TRY(read_dims(reader, &found.shape, &element_count));
    WEIR_TRY(read_dtype(reader, found.shape.dims[found.shape.rank - 1], &found.dtype));
    const weir_dtype_info* info = weir_dtype_describe(found.dtype);
    const uint64_t block_count = (uint64_t)element_count / info->block_elements;
    if (!mul_u64(block_count, info->block_bytes, &found.byte_size)) {
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, reader->position - 4, "type",
                         "found %" PRId64 " elements of %s, expected a size of 64 bits",
                         element_count, info->name);
    }
    WEIR_TRY(weir_gguf_read_u64(reader, "offset", &found.byte_offset));
    *tensor = found;
    return WEIR_OK;
}

// Called right after the info was read: its offset field ends at the position of the reader. Tensor
// data need not exist, nor be padded to its end: a file of metadata alone may stop anywhere after
// it.
weir_status weir_gguf_place_tensor(const weir_gguf_reader* reader, const gguf_file* file,
                                   weir_gguf_tensor* tensor) {
    const uint64_t field_offset = reader->position - 8;
    const uint64_t data_size =
        file->data_offset < file->byte_size ? file->byte_size - file->data_offset : 0;
    if (tensor->byte_offset % file->alignment != 0) {
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, field_offset, "offset",
                         "found %" PRIu64 ", expected a multiple of the alignment %" PRIu64,
                         tensor->byte_offset, file->alignment);
    }
    if (tensor->byte_offset > data_size || tensor->byte_size > data_size - tensor->byte_offset) {
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, field_offset, "offset",
                         "found %" PRIu64 " and %" PRIu64 " bytes, expected both within the "
                         "%" PRIu64 " bytes of tensor data",
                         tensor->byte_offset, tensor->byte_size, data_size);
    }
    tensor->byte_offset += file->data_offset;
    return WEIR_OK;
}
