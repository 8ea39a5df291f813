#include "formats/gguf_parts.h"

#include "base/array.h"
#include "base/checked.h"
#include "base/text_compare.h"
#include "formats/order.h"

#include <inttypes.h>
#include <string.h>

//     | magic, version, counts | key/value pairs | tensor infos | padding | tensor data ... |
//     0                        24                                        data_offset
//
// Parsing walks the metadata twice: the first walk checks all of it and keeps nothing, so that
// counts are proved before memory is asked for; the second fills the arrays. What compares entries
// with each other (unique names, no overlap) sorts them first: no input makes it quadratic.
//
// The files of a set are walked one after the other. Their tensors lie in one array, file by file;
// of the values only those of the first file are kept.

static const char alignment_key[] = "general.alignment";

enum { DEFAULT_ALIGNMENT = 32 };

// Entries are values or tensors; each has a name at items[index].
typedef weir_text (*name_fn)(const void* items, uint32_t index);

static weir_text value_name(const void* items, uint32_t index) {
    return ((const weir_gguf_value*)items)[index].key;
}

static weir_text tensor_name(const void* items, uint32_t index) {
    return ((const weir_gguf_tensor*)items)[index].name;
}

static int compare_keys(const void* items, uint32_t a, uint32_t b) {
    return text_compare(value_name(items, a), value_name(items, b));
}

static int compare_names(const void* items, uint32_t a, uint32_t b) {
    return text_compare(tensor_name(items, a), tensor_name(items, b));
}

static int compare_offsets(const void* items, uint32_t a, uint32_t b) {
    const weir_gguf_tensor* tensors = items;
    return (tensors[a].byte_offset > tensors[b].byte_offset) -
           (tensors[a].byte_offset < tensors[b].byte_offset);
}

// In a big-endian file the magic reads the same and the version is swapped.
static weir_status read_version(weir_gguf_reader* reader, uint32_t* version) {
    const uint64_t start = reader->position;
    WEIR_TRY(weir_gguf_read_u32(reader, "version", version));
    if (*version == 2 || *version == 3) {
        return WEIR_OK;
    }
    const uint32_t swapped = __builtin_bswap32(*version);
    if (swapped >= 1 && swapped <= 3) {
        return GGUF_FAIL(reader, WEIR_UNSUPPORTED, start, "byte order",
                         "found a big-endian file of version %" PRIu32 ", expected little-endian",
                         swapped);
    }
    return GGUF_FAIL(reader, WEIR_UNSUPPORTED, start, "version",
                     "found %" PRIu32 ", expected 2 or 3", *version);
}

// Indices of entries have 32 bits; so many entries would take 56 GiB of metadata.
static weir_status read_count(weir_gguf_reader* reader, const char* field, uint64_t* count) {
    WEIR_TRY(weir_gguf_read_u64(reader, field, count));
    if (*count > UINT32_MAX) {
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, reader->position - 8, field,
                         "found %" PRIu64 ", expected at most %" PRIu32, *count, UINT32_MAX);
    }
    return WEIR_OK;
}

// The lower bound of what the entries take cannot wrap, as both counts have 32 bits.
static weir_status read_header(weir_gguf_reader* reader, gguf_file* file) {
    const uint8_t* magic = NULL;
    WEIR_TRY(weir_gguf_read_bytes(reader, "magic", 4, &magic));
    if (memcmp(magic, "GGUF", 4) != 0) {
        char text[24];
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, 0, "magic", "found \"%s\", expected \"GGUF\"",
                         weir_text_escape((weir_text){(const char*)magic, 4}, text, sizeof text));
    }
    WEIR_TRY(read_version(reader, &file->version));
    WEIR_TRY(read_count(reader, "tensor count", &file->tensor_count));
    WEIR_TRY(read_count(reader, "key/value count", &file->value_count));
    const uint64_t least =
        file->tensor_count * GGUF_TENSOR_MIN + file->value_count * GGUF_VALUE_MIN;
    if (least > weir_gguf_bytes_left(reader)) {
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, 8, "tensor count and key/value count",
                         "found %" PRIu64 " and %" PRIu64 ", which take at least %" PRIu64
                         " bytes, expected at most the %" PRIu64 " bytes left",
                         file->tensor_count, file->value_count, least,
                         weir_gguf_bytes_left(reader));
    }
    return WEIR_OK;
}

static weir_status read_alignment(const weir_gguf_reader* reader, const weir_gguf_value* value,
                                  uint64_t* alignment) {
    const uint64_t start = (uint64_t)((const uint8_t*)value->bytes - reader->bytes);
    if (value->type != WEIR_GGUF_U32) {
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, start, "value type", "found %s, expected u32",
                         weir_gguf_type_describe(value->type)->name);
    }
    uint32_t number = 0;
    memcpy(&number, value->bytes, sizeof number);
    // Below 8 some element types would lie unaligned; huge values serve attacks alone.
    if (number < GGUF_ALIGNMENT_MIN || number > GGUF_ALIGNMENT_MAX ||
        (number & (number - 1)) != 0) {
        return GGUF_FAIL(reader, WEIR_BAD_FORMAT, start, "value",
                         "found %" PRIu32 ", expected a power of two from %d to %d", number,
                         GGUF_ALIGNMENT_MIN, GGUF_ALIGNMENT_MAX);
    }
    *alignment = number;
    return WEIR_OK;
}

// The alignment is needed before the keys are sorted and can be looked up. If the key comes twice,
// check_unique_keys refuses the file.
static weir_status walk_values(weir_gguf_reader* reader, gguf_file* file, weir_gguf_value* values) {
    const weir_text wanted = {alignment_key, sizeof alignment_key - 1};
    for (uint64_t i = 0; i < file->value_count; i++) {
        weir_gguf_value value;
        WEIR_TRY(weir_gguf_read_value(reader, i, &value));
        if (text_compare(value.key, wanted) == 0) {
            WEIR_TRY(read_alignment(reader, &value, &file->alignment));
        }
        if (values) {
            values[i] = value;
        }
    }
    return WEIR_OK;
}

static weir_status walk_tensors(weir_gguf_reader* reader, const gguf_file* file,
                                weir_gguf_tensor* tensors) {
    for (uint64_t i = 0; i < file->tensor_count; i++) {
        weir_gguf_tensor tensor;
        WEIR_TRY(weir_gguf_read_tensor(reader, i, &tensor));
        if (tensors) {
            WEIR_TRY(weir_gguf_place_tensor(reader, file, &tensor));
            tensors[i] = tensor;
        }
    }
    return WEIR_OK;
}

static weir_gguf_reader open_reader(const gguf_file* file, uint64_t position) {
    return (weir_gguf_reader){.bytes = file->bytes,
                              .byte_size = file->byte_size,
                              .position = position,
                              .file_name = file->name};
}

// The first walk.
static weir_status measure(gguf_file* file) {
    weir_gguf_reader reader = open_reader(file, 0);
    WEIR_TRY(read_header(&reader, file));
    WEIR_TRY(walk_values(&reader, file, NULL));
    WEIR_TRY(walk_tensors(&reader, file, NULL));
    if (!align_u64(reader.position, file->alignment, &file->data_offset)) {
        return GGUF_FAIL(&reader, WEIR_BAD_FORMAT, reader.position, "tensor data",
                         "found an offset past 2^64, expected less");
    }
    return WEIR_OK;
}

// With this, what is asked for stays below four times what the walk has seen in the file.
_Static_assert(sizeof(weir_gguf_value) + sizeof(uint32_t) <= 4 * GGUF_VALUE_MIN, "memory bound");
_Static_assert(sizeof(weir_gguf_tensor) + sizeof(uint32_t) <= 4 * GGUF_TENSOR_MIN, "memory bound");

static weir_status allocate_items(const weir_gguf* gguf, uint64_t count, size_t item_size,
                                  void** items) {
    size_t byte_size = 0;
    if (__builtin_mul_overflow(count, item_size, &byte_size)) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "%s: %" PRIu64 " entries pass the address space",
                         gguf->files[0].name, count);
    }
    return weir_alloc(&gguf->allocator, byte_size, _Alignof(max_align_t), items);
}

// The inverse of allocate_items; arrays that were never allocated are NULL.
static void free_items(const weir_gguf* gguf, void* pointer, uint64_t count, size_t item_size) {
    weir_free(&gguf->allocator, pointer, (size_t)count * item_size, _Alignof(max_align_t));
}

static weir_status allocate_values(weir_gguf* gguf) {
    WEIR_TRY(allocate_items(gguf, gguf->value_count, sizeof *gguf->values, (void**)&gguf->values));
    return allocate_items(gguf, gguf->value_count, sizeof *gguf->value_order,
                          (void**)&gguf->value_order);
}

static void free_values(weir_gguf* gguf) {
    free_items(gguf, gguf->values, gguf->value_count, sizeof *gguf->values);
    free_items(gguf, gguf->value_order, gguf->value_count, sizeof *gguf->value_order);
}

static weir_status allocate_tensors(weir_gguf* gguf) {
    WEIR_TRY(
        allocate_items(gguf, gguf->tensor_count, sizeof *gguf->tensors, (void**)&gguf->tensors));
    return allocate_items(gguf, gguf->tensor_count, sizeof *gguf->tensor_order,
                          (void**)&gguf->tensor_order);
}

// Says that `name`, which lies in `file`, stands in `other` as well, or twice in `file`.
static weir_status fail_twice(const gguf_file* file, const gguf_file* other, const char* kind,
                              weir_text name) {
    weir_gguf_reader reader = open_reader(file, 0);
    reader.entry_kind = kind;
    reader.entry_name = name;
    const uint64_t offset = (uint64_t)((const uint8_t*)name.bytes - file->bytes);
    return file == other ? GGUF_FAIL(&reader, WEIR_BAD_FORMAT, offset, "name",
                                     "found it twice, expected it once")
                         : GGUF_FAIL(&reader, WEIR_BAD_FORMAT, offset, "name",
                                     "found it in %s as well, expected it once", other->name);
}

// Equal names are neighbours in the sorted order; the message points at the second in the file.
static weir_status check_unique_keys(const weir_gguf* gguf) {
    for (uint64_t i = 1; i < gguf->value_count; i++) {
        const weir_text a = gguf->values[gguf->value_order[i - 1]].key;
        const weir_text b = gguf->values[gguf->value_order[i]].key;
        if (text_compare(a, b) == 0) {
            return fail_twice(gguf->files, gguf->files, "key", a.bytes > b.bytes ? a : b);
        }
    }
    return WEIR_OK;
}

// Of two files the message points at the later one. Indices follow the order of files, and in each
// that of the file.
static weir_status check_unique_tensors(const weir_gguf* gguf) {
    for (uint64_t i = 1; i < gguf->tensor_count; i++) {
        const uint32_t a = gguf->tensor_order[i - 1];
        const uint32_t b = gguf->tensor_order[i];
        const weir_gguf_tensor* first = &gguf->tensors[a < b ? a : b];
        const weir_gguf_tensor* second = &gguf->tensors[a < b ? b : a];
        if (text_compare(first->name, second->name) == 0) {
            return fail_twice(&gguf->files[second->part], &gguf->files[first->part], "tensor",
                              second->name);
        }
    }
    return WEIR_OK;
}

// Sorts `tensor_order` by offset for the while; the order by name is made afterwards.
static weir_status check_overlap(const weir_gguf* gguf) {
    weir_order_sort(gguf->tensor_order, (size_t)gguf->tensor_count, compare_offsets, gguf->tensors);
    for (uint64_t i = 1; i < gguf->tensor_count; i++) {
        const weir_gguf_tensor* before = &gguf->tensors[gguf->tensor_order[i - 1]];
        const weir_gguf_tensor* after = &gguf->tensors[gguf->tensor_order[i]];
        if (before->byte_size > after->byte_offset - before->byte_offset) {
            char name[128];
            weir_gguf_reader reader = open_reader(gguf->files, 0);
            reader.entry_kind = "tensor";
            reader.entry_name = after->name;
            return GGUF_FAIL(&reader, WEIR_BAD_FORMAT, after->byte_offset, "data",
                             "found the bytes of tensor \"%s\" there, expected no overlap",
                             weir_text_escape(before->name, name, sizeof name));
        }
    }
    return WEIR_OK;
}

// The second walk over one file, and the checks that need all its entries at once.
static weir_status fill_entries(weir_gguf* alone) {
    gguf_file* file = alone->files;
    weir_gguf_reader reader = open_reader(file, GGUF_HEADER_BYTES);
    WEIR_TRY(walk_values(&reader, file, alone->values));
    WEIR_TRY(walk_tensors(&reader, file, alone->tensors));
    WEIR_TRY(check_overlap(alone));
    weir_order_sort(alone->value_order, (size_t)alone->value_count, compare_keys, alone->values);
    return check_unique_keys(alone);
}

// Fills in one file as if it were parsed alone; its tensors go to their place among those of all
// files.
static weir_status read_file(weir_gguf* gguf, uint32_t part, uint64_t first_tensor, bool is_set) {
    gguf_file* file = &gguf->files[part];
    weir_gguf alone = {.allocator = gguf->allocator,
                       .files = file,
                       .file_count = 1,
                       .value_count = file->value_count,
                       .tensor_count = file->tensor_count,
                       .tensors = gguf->tensors + first_tensor,
                       .tensor_order = gguf->tensor_order + first_tensor};
    weir_status status = allocate_values(&alone);
    if (status == WEIR_OK) {
        status = fill_entries(&alone);
    }
    for (uint64_t i = 0; status == WEIR_OK && i < file->tensor_count; i++) {
        alone.tensors[i].part = part;
    }
    if (status == WEIR_OK && is_set) {
        status = weir_gguf_check_part(gguf, part, &alone);
    }
    if (status != WEIR_OK || part > 0) {
        free_values(&alone);
        return status;
    }
    gguf->value_count = alone.value_count;
    gguf->values = alone.values;
    gguf->value_order = alone.value_order;
    return WEIR_OK;
}

static weir_status add_file(weir_gguf* gguf, const weir_gguf_part* part) {
    gguf_file* file = &gguf->files[gguf->file_count];
    const char* name = part->file_name ? part->file_name : "(memory)";
    if (!part->bytes && part->byte_size > 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: no bytes given, expected %" PRIu64, name,
                         part->byte_size);
    }
    *file = (gguf_file){.bytes = part->bytes,
                        .byte_size = part->byte_size,
                        .name_size = strlen(name) + 1,
                        .alignment = DEFAULT_ALIGNMENT};
    WEIR_TRY(weir_alloc(&gguf->allocator, file->name_size, 1, (void**)&file->name));
    memcpy(file->name, name, file->name_size);
    gguf->file_count++;
    return WEIR_OK;
}

// Indices of tensors have 32 bits.
static weir_status measure_files(weir_gguf* gguf) {
    for (uint32_t i = 0; i < gguf->file_count; i++) {
        WEIR_TRY(measure(&gguf->files[i]));
        gguf->tensor_count += gguf->files[i].tensor_count;
    }
    if (gguf->tensor_count > UINT32_MAX) {
        return WEIR_FAIL(WEIR_BAD_FORMAT,
                         "%s: found %" PRIu64 " tensors in %" PRIu32
                         " files, expected at most %" PRIu32,
                         gguf->files[0].name, gguf->tensor_count, gguf->file_count, UINT32_MAX);
    }
    return WEIR_OK;
}

// On failure the caller destroys what there is. `files` has room for all parts.
static weir_status parse_files(weir_gguf* gguf, const weir_gguf_part* parts, uint32_t part_count,
                               bool is_set) {
    for (uint32_t i = 0; i < part_count; i++) {
        WEIR_TRY(add_file(gguf, &parts[i]));
    }
    WEIR_TRY(measure_files(gguf));
    WEIR_TRY(allocate_tensors(gguf));
    uint64_t first_tensor = 0;
    for (uint32_t i = 0; i < part_count; i++) {
        WEIR_TRY(read_file(gguf, i, first_tensor, is_set));
        first_tensor += gguf->files[i].tensor_count;
    }
    weir_order_sort(gguf->tensor_order, (size_t)gguf->tensor_count, compare_names, gguf->tensors);
    return check_unique_tensors(gguf);
}

static weir_status parse(const weir_allocator* allocator, const weir_gguf_part* parts,
                         uint32_t part_count, bool is_set, weir_gguf** gguf) {
    weir_gguf* made = NULL;
    WEIR_TRY(object_new(allocator, &made));
    made->allocator = allocator ? *allocator : (weir_allocator){0};
    made->file_capacity = part_count;
    weir_status status =
        weir_alloc_zeroed(&made->allocator, part_count * sizeof *made->files, (void**)&made->files);
    if (status == WEIR_OK) {
        status = parse_files(made, parts, part_count, is_set);
    }
    if (status != WEIR_OK) {
        weir_gguf_destroy(made);
        return status;
    }
    *gguf = made;
    return WEIR_OK;
}

weir_status weir_gguf_parse(const weir_allocator* allocator, const void* bytes, uint64_t byte_size,
                            const char* file_name, weir_gguf** gguf) {
    const weir_gguf_part part = {.bytes = bytes, .byte_size = byte_size, .file_name = file_name};
    return parse(allocator, &part, 1, false, gguf);
}

weir_status weir_gguf_parse_parts(const weir_allocator* allocator, const weir_gguf_part* parts,
                                  uint32_t part_count, weir_gguf** gguf) {
    if (part_count < 1 || part_count > WEIR_GGUF_PARTS_MAX) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%" PRIu32 " parts given, expected 1 to %d",
                         part_count, WEIR_GGUF_PARTS_MAX);
    }
    return parse(allocator, parts, part_count, true, gguf);
}

void weir_gguf_destroy(weir_gguf* gguf) {
    if (!gguf) {
        return;
    }
    free_values(gguf);
    free_items(gguf, gguf->tensors, gguf->tensor_count, sizeof *gguf->tensors);
    free_items(gguf, gguf->tensor_order, gguf->tensor_count, sizeof *gguf->tensor_order);
    for (uint32_t i = 0; i < gguf->file_count; i++) {
        weir_free(&gguf->allocator, gguf->files[i].name, gguf->files[i].name_size, 1);
    }
    free_items(gguf, gguf->files, gguf->file_capacity, sizeof *gguf->files);
    // The allocator lies in the memory that it releases.
    const weir_allocator allocator = gguf->allocator;
    object_free(&allocator, gguf);
}

uint32_t weir_gguf_version(const weir_gguf* gguf) {
    return gguf->files[0].version;
}

uint64_t weir_gguf_alignment(const weir_gguf* gguf) {
    return gguf->files[0].alignment;
}

const char* weir_gguf_file_name(const weir_gguf* gguf) {
    return gguf->files[0].name;
}

uint32_t weir_gguf_part_count(const weir_gguf* gguf) {
    return gguf->file_count;
}

const char* weir_gguf_part_name(const weir_gguf* gguf, uint32_t part) {
    return part < gguf->file_count ? gguf->files[part].name : NULL;
}

const weir_gguf_value* weir_gguf_values(const weir_gguf* gguf, uint64_t* count) {
    *count = gguf->value_count;
    return gguf->values;
}

const weir_gguf_tensor* weir_gguf_tensors(const weir_gguf* gguf, uint64_t* count) {
    *count = gguf->tensor_count;
    return gguf->tensors;
}

// Binary search in a sorted order. Returns the place in `items` of the entry named `name`, or
// `count`.
static uint64_t search(const uint32_t* order, uint64_t count, const void* items, name_fn name_of,
                       const char* name) {
    const weir_text wanted = {name, strlen(name)};
    uint64_t low = 0;
    uint64_t high = count;
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        const int difference = text_compare(name_of(items, order[middle]), wanted);
        if (difference == 0) {
            return order[middle];
        }
        low = difference < 0 ? middle + 1 : low;
        high = difference < 0 ? high : middle;
    }
    return count;
}

const weir_gguf_value* weir_gguf_find(const weir_gguf* gguf, const char* key) {
    const uint64_t index =
        search(gguf->value_order, gguf->value_count, gguf->values, value_name, key);
    return index < gguf->value_count ? &gguf->values[index] : NULL;
}

const weir_gguf_tensor* weir_gguf_find_tensor(const weir_gguf* gguf, const char* name) {
    const uint64_t index =
        search(gguf->tensor_order, gguf->tensor_count, gguf->tensors, tensor_name, name);
    return index < gguf->tensor_count ? &gguf->tensors[index] : NULL;
}
