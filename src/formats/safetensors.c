#include <weir/safetensors.h>

#include <inttypes.h>
#include <string.h>

#include "base/array.h"
#include "base/checked.h"
#include "base/text_compare.h"
#include "formats/json_reader.h"
#include "formats/order.h"

#define SIZE_BYTES 8 // of the header size that a file begins with

struct weir_safetensors {
    weir_allocator allocator;
    uint64_t data_offset; // where the tensor data begins
    uint64_t data_size;
    uint64_t tensor_count;
    uint64_t entry_count;
    uint64_t text_size; // bytes of all names, keys and values, as they stand in the file
    uint64_t text_used;
    weir_safetensors_tensor* tensors; // in the order of the file
    weir_safetensors_entry* entries;  // in the order of the file
    uint32_t* tensor_order;           // indices of `tensors` sorted by name
    uint32_t* entry_order;            // indices of `entries` sorted by key
    char* text;
    char* file_name;
    size_t file_name_size; // with the terminator
};

typedef struct type_info {
    const char* name;
    uint32_t bits; // of one element
    weir_dtype dtype;
} type_info;

static const type_info types[] = {
    {"BOOL", 8, WEIR_DTYPE_BOOL},
    {"U8", 8, WEIR_DTYPE_U8},
    {"I8", 8, WEIR_DTYPE_I8},
    {"U16", 16, WEIR_DTYPE_U16},
    {"I16", 16, WEIR_DTYPE_I16},
    {"U32", 32, WEIR_DTYPE_U32},
    {"I32", 32, WEIR_DTYPE_I32},
    {"U64", 64, WEIR_DTYPE_U64},
    {"I64", 64, WEIR_DTYPE_I64},
    {"F16", 16, WEIR_DTYPE_F16},
    {"BF16", 16, WEIR_DTYPE_BF16},
    {"F32", 32, WEIR_DTYPE_F32},
    {"F64", 64, WEIR_DTYPE_F64},
    {"C64", 64, WEIR_DTYPE_NONE},
    {"F8_E4M3", 8, WEIR_DTYPE_NONE},
    {"F8_E5M2", 8, WEIR_DTYPE_NONE},
    {"F8_E8M0", 8, WEIR_DTYPE_NONE},
    {"F8_E4M3FNUZ", 8, WEIR_DTYPE_NONE},
    {"F8_E5M2FNUZ", 8, WEIR_DTYPE_NONE},
    {"F6_E2M3", 6, WEIR_DTYPE_NONE},
    {"F6_E3M2", 6, WEIR_DTYPE_NONE},
    {"F4", 4, WEIR_DTYPE_NONE},
};

// The header is walked twice, by the same code: the first walk checks and counts, the second fills
// arrays of exactly that size. Where the bytes are a mapping they may change in between: the second
// walk believes nothing of the first but how much room there is.
typedef struct header_walk {
    json_reader reader;
    weir_safetensors* file;
    bool fill;
    uint64_t tensor_count; // of this walk so far
    uint64_t entry_count;
} header_walk;

static bool is_word(weir_text text, const char* word) {
    return text_compare(text, (weir_text){word, strlen(word)}) == 0;
}

static weir_status fail_changed(const json_reader* reader) {
    return JSON_FAIL(reader, WEIR_IO, reader->position, "header",
                     "the file changed while it was read");
}

// Takes over a string of the header: counted in the first walk, decoded in the second, which makes
// it no longer.
static weir_status keep_text(header_walk* walk, weir_text raw, weir_text* kept) {
    weir_safetensors* file = walk->file;
    if (!walk->fill) {
        file->text_size += raw.length;
        return WEIR_OK;
    }
    if (raw.length > file->text_size - file->text_used) {
        return fail_changed(&walk->reader);
    }
    char* bytes = file->text + file->text_used;
    const uint64_t length = json_string_decode(raw, bytes);
    file->text_used += length;
    *kept = (weir_text){bytes, length};
    return WEIR_OK;
}

static weir_status keep_entry(header_walk* walk, weir_text key, weir_text value) {
    weir_safetensors_entry entry = {0};
    if (walk->fill && walk->entry_count == walk->file->entry_count) {
        return fail_changed(&walk->reader);
    }
    WEIR_TRY(keep_text(walk, key, &entry.key));
    WEIR_TRY(keep_text(walk, value, &entry.value));
    if (walk->fill) {
        walk->file->entries[walk->entry_count] = entry;
    }
    walk->entry_count++;
    return WEIR_OK;
}

static weir_status keep_tensor(header_walk* walk, weir_text name, weir_safetensors_tensor tensor) {
    if (walk->fill && walk->tensor_count == walk->file->tensor_count) {
        return fail_changed(&walk->reader);
    }
    WEIR_TRY(keep_text(walk, name, &tensor.name));
    if (walk->fill) {
        walk->file->tensors[walk->tensor_count] = tensor;
    }
    walk->tensor_count++;
    return WEIR_OK;
}

static weir_status read_type(json_reader* reader, weir_safetensors_tensor* tensor, uint32_t* bits) {
    const uint64_t start = reader->position;
    WEIR_TRY(json_read_string(reader, "dtype", &tensor->type));
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (is_word(tensor->type, types[i].name)) {
            tensor->dtype = types[i].dtype;
            *bits = types[i].bits;
            return WEIR_OK;
        }
    }
    char shown[64];
    return JSON_FAIL(reader, WEIR_UNSUPPORTED, start, "dtype",
                     "found \"%s\", which is no type of this format",
                     weir_text_escape(tensor->type, shown, sizeof shown));
}

static weir_status read_shape(json_reader* reader, weir_shape* shape) {
    WEIR_TRY(json_expect(reader, '[', "shape"));
    bool first = true;
    bool more = false;
    for (;;) {
        WEIR_TRY(json_next(reader, ']', &first, "shape", &more));
        if (!more) {
            return WEIR_OK;
        }
        const uint64_t start = reader->position;
        uint64_t dim = 0;
        WEIR_TRY(json_read_u64(reader, "shape", &dim));
        if (dim > INT64_MAX) {
            return JSON_FAIL(reader, WEIR_BAD_FORMAT, start, "shape",
                             "found %" PRIu64 ", expected less than 2^63", dim);
        }
        if (shape->rank == WEIR_RANK_MAX) {
            return JSON_FAIL(reader, WEIR_UNSUPPORTED, start, "shape",
                             "found more than %d dimensions", WEIR_RANK_MAX);
        }
        shape->dims[shape->rank++] = (int64_t)dim;
    }
}

static weir_status read_offsets(json_reader* reader, uint64_t offsets[2]) {
    WEIR_TRY(json_expect(reader, '[', "data_offsets"));
    WEIR_TRY(json_read_u64(reader, "data_offsets", &offsets[0]));
    WEIR_TRY(json_expect(reader, ',', "data_offsets"));
    WEIR_TRY(json_read_u64(reader, "data_offsets", &offsets[1]));
    return json_expect(reader, ']', "data_offsets");
}

// Holds the bytes against type and shape, and against the data of the file.
static weir_status check_bytes(const header_walk* walk, uint64_t start, uint32_t bits,
                               const uint64_t offsets[2], weir_safetensors_tensor* tensor) {
    uint64_t count = 1;
    uint64_t total_bits = 0;
    bool fits = true;
    bool empty = false;
    for (uint32_t i = 0; i < tensor->shape.rank; i++) {
        const uint64_t dim = (uint64_t)tensor->shape.dims[i];
        empty = empty || dim == 0;
        fits = fits && (dim == 0 || mul_u64(count, dim, &count));
    }
    fits = fits && count <= INT64_MAX && mul_u64(count, bits, &total_bits);
    if (!fits) {
        return JSON_FAIL(&walk->reader, WEIR_BAD_FORMAT, start, "shape",
                         "found more elements than fit 64 bits");
    }
    total_bits = empty ? 0 : total_bits;
    if (offsets[0] > offsets[1] || offsets[1] > walk->file->data_size) {
        return JSON_FAIL(&walk->reader, WEIR_BAD_FORMAT, start, "data_offsets",
                         "found [%" PRIu64 ", %" PRIu64 "), expected a range of the %" PRIu64
                         " bytes of data",
                         offsets[0], offsets[1], walk->file->data_size);
    }
    const uint64_t byte_size = offsets[1] - offsets[0];
    if (total_bits % 8 != 0 || byte_size != total_bits / 8) {
        return JSON_FAIL(&walk->reader, WEIR_BAD_FORMAT, start, "data_offsets",
                         "found %" PRIu64 " bytes, expected the %" PRIu64 " bits of type and shape",
                         byte_size, total_bits);
    }
    tensor->byte_offset = walk->file->data_offset + offsets[0];
    tensor->byte_size = byte_size;
    return WEIR_OK;
}

typedef enum tensor_field {
    FIELD_TYPE = 1,
    FIELD_SHAPE = 2,
    FIELD_OFFSETS = 4,
    FIELD_ALL = 7,
} tensor_field;

static tensor_field field_of(weir_text name) {
    return is_word(name, "dtype")          ? FIELD_TYPE
           : is_word(name, "shape")        ? FIELD_SHAPE
           : is_word(name, "data_offsets") ? FIELD_OFFSETS
                                           : (tensor_field)0;
}

static weir_status read_tensor(header_walk* walk, weir_safetensors_tensor* tensor) {
    json_reader* reader = &walk->reader;
    const uint64_t start = reader->position;
    uint64_t offsets[2] = {0};
    uint32_t bits = 0;
    unsigned seen = 0;
    WEIR_TRY(json_expect(reader, '{', "fields"));
    bool first = true;
    bool more = false;
    for (;;) {
        WEIR_TRY(json_next(reader, '}', &first, "fields", &more));
        if (!more) {
            break;
        }
        const uint64_t field_start = reader->position;
        weir_text name;
        WEIR_TRY(json_read_string(reader, "fields", &name));
        WEIR_TRY(json_expect(reader, ':', "fields"));
        const tensor_field field = field_of(name);
        if ((seen & field) != 0) {
            char shown[32];
            return JSON_FAIL(reader, WEIR_BAD_FORMAT, field_start, "fields",
                             "found \"%s\" twice, expected it once",
                             weir_text_escape(name, shown, sizeof shown));
        }
        seen |= field;
        switch (field) {
        case FIELD_TYPE:
            WEIR_TRY(read_type(reader, tensor, &bits));
            break;
        case FIELD_SHAPE:
            WEIR_TRY(read_shape(reader, &tensor->shape));
            break;
        case FIELD_OFFSETS:
            WEIR_TRY(read_offsets(reader, offsets));
            break;
        default:
            WEIR_TRY(json_skip_value(reader, "fields"));
        }
    }
    if (seen != FIELD_ALL) {
        return JSON_FAIL(reader, WEIR_BAD_FORMAT, start, "fields",
                         "expected all of dtype, shape and data_offsets");
    }
    return check_bytes(walk, start, bits, offsets, tensor);
}

static weir_status read_metadata(header_walk* walk) {
    json_reader* reader = &walk->reader;
    WEIR_TRY(json_expect(reader, '{', "__metadata__"));
    bool first = true;
    bool more = false;
    for (;;) {
        WEIR_TRY(json_next(reader, '}', &first, "__metadata__", &more));
        if (!more) {
            return WEIR_OK;
        }
        weir_text key;
        weir_text value;
        WEIR_TRY(json_read_string(reader, "__metadata__", &key));
        WEIR_TRY(json_expect(reader, ':', "__metadata__"));
        WEIR_TRY(json_read_string(reader, "__metadata__", &value));
        WEIR_TRY(keep_entry(walk, key, value));
    }
}

static weir_status read_members(header_walk* walk) {
    json_reader* reader = &walk->reader;
    WEIR_TRY(json_expect(reader, '{', "header"));
    bool first = true;
    bool more = false;
    bool metadata_seen = false;
    for (;;) {
        WEIR_TRY(json_next(reader, '}', &first, "header", &more));
        if (!more) {
            return WEIR_OK;
        }
        const uint64_t start = reader->position;
        weir_text name;
        WEIR_TRY(json_read_string(reader, "header", &name));
        WEIR_TRY(json_expect(reader, ':', "header"));
        if (is_word(name, "__metadata__")) {
            if (metadata_seen) {
                return JSON_FAIL(reader, WEIR_BAD_FORMAT, start, "header",
                                 "found \"__metadata__\" twice, expected it once");
            }
            metadata_seen = true;
            WEIR_TRY(read_metadata(walk));
            continue;
        }
        weir_safetensors_tensor tensor = {0};
        reader->tensor = name;
        WEIR_TRY(read_tensor(walk, &tensor));
        reader->tensor = (weir_text){0};
        WEIR_TRY(keep_tensor(walk, name, tensor));
    }
}

// Only spaces may stand behind the JSON: they pad the header.
static weir_status walk_header(header_walk* walk) {
    json_reader* reader = &walk->reader;
    reader->position = SIZE_BYTES;
    walk->tensor_count = 0;
    walk->entry_count = 0;
    WEIR_TRY(read_members(walk));
    while (reader->position < reader->end) {
        if (reader->bytes[reader->position] != ' ') {
            return JSON_FAIL(reader, WEIR_BAD_FORMAT, reader->position, "header",
                             "expected nothing but spaces behind the JSON");
        }
        reader->position++;
    }
    return WEIR_OK;
}

static weir_status read_size(header_walk* walk, uint64_t byte_size) {
    json_reader* reader = &walk->reader;
    if (byte_size < SIZE_BYTES) {
        return JSON_FAIL(reader, WEIR_BAD_FORMAT, 0, "header size",
                         "found the end of the file after %" PRIu64 " bytes, expected %d",
                         byte_size, SIZE_BYTES);
    }
    uint64_t header_size = 0;
    for (int i = SIZE_BYTES - 1; i >= 0; i--) {
        header_size = header_size << 8 | reader->bytes[i];
    }
    const uint64_t left = byte_size - SIZE_BYTES;
    const uint64_t most =
        left < WEIR_SAFETENSORS_HEADER_MAX ? left : (uint64_t)WEIR_SAFETENSORS_HEADER_MAX;
    if (header_size > most) {
        return JSON_FAIL(reader, WEIR_BAD_FORMAT, 0, "header size",
                         "found %" PRIu64 ", expected at most %" PRIu64, header_size, most);
    }
    reader->end = SIZE_BYTES + header_size;
    walk->file->data_offset = reader->end;
    walk->file->data_size = left - header_size;
    // Not even white space may come before it.
    if (header_size == 0 || reader->bytes[SIZE_BYTES] != '{') {
        return JSON_FAIL(reader, WEIR_BAD_FORMAT, SIZE_BYTES, "header",
                         "expected it to begin with '{'");
    }
    return WEIR_OK;
}

static weir_status allocate_items(weir_safetensors* file, uint64_t count, size_t item_size,
                                  void** items) {
    return weir_alloc_zeroed(&file->allocator, (size_t)count * item_size, items);
}

static weir_status allocate(weir_safetensors* file, const char* file_name) {
    const size_t name_size = strlen(file_name) + 1;
    void* copy = NULL;
    WEIR_TRY(allocate_items(file, name_size, 1, &copy));
    file->file_name = memcpy(copy, file_name, name_size);
    file->file_name_size = name_size;
    WEIR_TRY(
        allocate_items(file, file->tensor_count, sizeof *file->tensors, (void**)&file->tensors));
    WEIR_TRY(
        allocate_items(file, file->entry_count, sizeof *file->entries, (void**)&file->entries));
    WEIR_TRY(allocate_items(file, file->tensor_count, sizeof *file->tensor_order,
                            (void**)&file->tensor_order));
    WEIR_TRY(allocate_items(file, file->entry_count, sizeof *file->entry_order,
                            (void**)&file->entry_order));
    return allocate_items(file, file->text_size, 1, (void**)&file->text);
}

static int compare_names(const void* items, uint32_t a, uint32_t b) {
    const weir_safetensors_tensor* tensors = items;
    return text_compare(tensors[a].name, tensors[b].name);
}

static int compare_keys(const void* items, uint32_t a, uint32_t b) {
    const weir_safetensors_entry* entries = items;
    return text_compare(entries[a].key, entries[b].key);
}

// Empty tensors come before those that begin at the same byte.
static int compare_places(const void* items, uint32_t a, uint32_t b) {
    const weir_safetensors_tensor* x = (const weir_safetensors_tensor*)items + a;
    const weir_safetensors_tensor* y = (const weir_safetensors_tensor*)items + b;
    const int difference = (x->byte_offset > y->byte_offset) - (x->byte_offset < y->byte_offset);
    return difference != 0 ? difference
                           : (x->byte_size > y->byte_size) - (x->byte_size < y->byte_size);
}

// The data belongs to the tensors, each byte to one of them. Sorts `tensor_order` by place for the
// while.
static weir_status check_cover(const json_reader* reader, weir_safetensors* file) {
    weir_order_sort(file->tensor_order, (size_t)file->tensor_count, compare_places, file->tensors);
    uint64_t end = file->data_offset;
    for (uint64_t i = 0; i < file->tensor_count; i++) {
        const weir_safetensors_tensor* tensor = &file->tensors[file->tensor_order[i]];
        if (tensor->byte_offset != end) {
            char shown[128];
            return JSON_FAIL(reader, WEIR_BAD_FORMAT, tensor->byte_offset, "data",
                             "found the beginning of tensor \"%s\", expected it at offset %" PRIu64
                             ", without hole and overlap",
                             weir_text_escape(tensor->name, shown, sizeof shown), end);
        }
        end += tensor->byte_size;
    }
    if (end != file->data_offset + file->data_size) {
        return JSON_FAIL(reader, WEIR_BAD_FORMAT, end, "data",
                         "found %" PRIu64 " bytes behind the last tensor, expected none",
                         file->data_offset + file->data_size - end);
    }
    return WEIR_OK;
}

static weir_status fail_twice(const json_reader* reader, const char* field, weir_text name) {
    char shown[128];
    return JSON_FAIL(reader, WEIR_BAD_FORMAT, SIZE_BYTES, field,
                     "found \"%s\" twice, expected it once",
                     weir_text_escape(name, shown, sizeof shown));
}

// Equal names are neighbours in a sorted order.
static weir_status check_unique(const json_reader* reader, weir_safetensors* file) {
    weir_order_sort(file->tensor_order, (size_t)file->tensor_count, compare_names, file->tensors);
    weir_order_sort(file->entry_order, (size_t)file->entry_count, compare_keys, file->entries);
    for (uint64_t i = 1; i < file->tensor_count; i++) {
        const uint32_t* order = file->tensor_order;
        if (compare_names(file->tensors, order[i - 1], order[i]) == 0) {
            return fail_twice(reader, "tensor", file->tensors[order[i]].name);
        }
    }
    for (uint64_t i = 1; i < file->entry_count; i++) {
        const uint32_t* order = file->entry_order;
        if (compare_keys(file->entries, order[i - 1], order[i]) == 0) {
            return fail_twice(reader, "__metadata__", file->entries[order[i]].key);
        }
    }
    return WEIR_OK;
}

weir_status weir_safetensors_parse(const weir_allocator* allocator, const void* bytes,
                                   uint64_t byte_size, const char* file_name,
                                   weir_safetensors** file) {
    const char* shown_name = file_name ? file_name : "(memory)";
    if (!bytes && byte_size > 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: no bytes given, expected %" PRIu64, shown_name,
                         byte_size);
    }
    weir_safetensors facts = {.allocator = allocator ? *allocator : (weir_allocator){0}};
    header_walk walk = {.reader = {.bytes = bytes, .file_name = shown_name}, .file = &facts};
    WEIR_TRY(read_size(&walk, byte_size));
    WEIR_TRY(walk_header(&walk));
    facts.tensor_count = walk.tensor_count;
    facts.entry_count = walk.entry_count;

    // From here on there is something to release.
    weir_safetensors* made = NULL;
    WEIR_TRY(object_new(allocator, &made));
    *made = facts;
    walk.file = made;
    walk.fill = true;
    weir_status status = allocate(made, shown_name);
    if (status == WEIR_OK) {
        status = walk_header(&walk);
    }
    if (status == WEIR_OK &&
        (walk.tensor_count != made->tensor_count || walk.entry_count != made->entry_count)) {
        status = fail_changed(&walk.reader);
    }
    if (status == WEIR_OK) {
        status = check_cover(&walk.reader, made);
    }
    if (status == WEIR_OK) {
        status = check_unique(&walk.reader, made);
    }
    if (status != WEIR_OK) {
        weir_safetensors_destroy(made);
        return status;
    }
    *file = made;
    return WEIR_OK;
}

static void free_items(const weir_safetensors* file, void* items, uint64_t count,
                       size_t item_size) {
    weir_free(&file->allocator, items, (size_t)count * item_size, _Alignof(max_align_t));
}

void weir_safetensors_destroy(weir_safetensors* file) {
    if (!file) {
        return;
    }
    free_items(file, file->tensors, file->tensor_count, sizeof *file->tensors);
    free_items(file, file->entries, file->entry_count, sizeof *file->entries);
    free_items(file, file->tensor_order, file->tensor_count, sizeof *file->tensor_order);
    free_items(file, file->entry_order, file->entry_count, sizeof *file->entry_order);
    free_items(file, file->text, file->text_size, 1);
    free_items(file, file->file_name, file->file_name_size, 1);
    // The allocator lies in the memory that it releases.
    const weir_allocator allocator = file->allocator;
    object_free(&allocator, file);
}

const weir_safetensors_tensor* weir_safetensors_tensors(const weir_safetensors* file,
                                                        uint64_t* count) {
    *count = file->tensor_count;
    return file->tensors;
}

const weir_safetensors_entry* weir_safetensors_metadata(const weir_safetensors* file,
                                                        uint64_t* count) {
    *count = file->entry_count;
    return file->entries;
}

const weir_safetensors_tensor* weir_safetensors_find(const weir_safetensors* file,
                                                     const char* name) {
    const weir_text wanted = {name, strlen(name)};
    uint64_t low = 0;
    uint64_t high = file->tensor_count;
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        const weir_safetensors_tensor* tensor = &file->tensors[file->tensor_order[middle]];
        const int difference = text_compare(tensor->name, wanted);
        if (difference == 0) {
            return tensor;
        }
        low = difference < 0 ? middle + 1 : low;
        high = difference < 0 ? high : middle;
    }
    return NULL;
}

const char* weir_safetensors_name(const weir_safetensors* file) {
    return file->file_name;
}
