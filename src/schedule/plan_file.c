#include "schedule/plan_file.h"

#include <stdio.h>
#include <string.h>

#include "base/file_bytes.h"
#include "base/hash.h"

#define BYTES_MAX ((size_t)1 << 30)
#define SIZE_AT 16 // in the header
#define CHECKSUM_AT 24

static const char magic[8] = {'W', 'E', 'I', 'R', 'P', 'L', 'A', 'N'};

weir_status weir_plan_file_damaged(const char* label, const char* part) {
    return WEIR_FAIL(WEIR_BAD_FORMAT, "%s: the file is damaged: %s", label, part);
}

static uint64_t checksum_of(const uint8_t* bytes, size_t byte_size) {
    const uint64_t hash = hash_bytes(HASH_BEGIN, bytes, CHECKSUM_AT);
    return hash_bytes(hash, bytes + PLAN_FILE_HEADER, byte_size - PLAN_FILE_HEADER);
}

// Fills in what the header says of the rest.
static void seal(weir_plan_file* file) {
    uint8_t* bytes = file->bytes.items;
    plan_patch(bytes + sizeof magic + sizeof(uint32_t), file->sections.count, sizeof(uint32_t));
    plan_patch(bytes + SIZE_AT, file->bytes.count, sizeof(uint64_t));
    plan_patch(bytes + CHECKSUM_AT, checksum_of(bytes, file->bytes.count), sizeof(uint64_t));
}

static weir_status new_file(const weir_allocator* allocator, const char* label,
                            weir_plan_file** file) {
    WEIR_TRY(object_new(allocator, file));
    (*file)->allocator = allocator ? *allocator : (weir_allocator){0};
    snprintf((*file)->label, sizeof(*file)->label, "%s", label);
    return WEIR_OK;
}

static weir_status write_header(weir_plan_file* file) {
    WEIR_TRY(array_reserve(&file->allocator, &file->bytes, PLAN_FILE_HEADER));
    memset(file->bytes.items, 0, PLAN_FILE_HEADER);
    memcpy(file->bytes.items, magic, sizeof magic);
    plan_patch(file->bytes.items + sizeof magic, WEIR_PLAN_FILE_VERSION, sizeof(uint32_t));
    file->bytes.count = PLAN_FILE_HEADER;
    seal(file);
    return WEIR_OK;
}

weir_status weir_plan_file_create(const weir_allocator* allocator, weir_plan_file** file) {
    weir_plan_file* made = NULL;
    WEIR_TRY(new_file(allocator, "plan", &made));
    const weir_status status = write_header(made);
    if (status != WEIR_OK) {
        weir_plan_file_destroy(made);
        return status;
    }
    *file = made;
    return WEIR_OK;
}

// Checks magic, version, size and checksum; nothing else is looked at before.
static weir_status check_header(const weir_plan_file* file, uint32_t* plan_count) {
    const char* label = file->label;
    plan_reader reader = {.bytes = file->bytes.items, .byte_size = file->bytes.count};
    if (reader.byte_size < PLAN_FILE_HEADER ||
        memcmp(reader.bytes + plan_read_skip(&reader, sizeof magic), magic, sizeof magic) != 0) {
        return WEIR_FAIL(WEIR_BAD_FORMAT,
                         "%s: not a plan file: %zu bytes that do not begin with "
                         "a whole header",
                         label, reader.byte_size);
    }
    const uint32_t version = plan_read_u32(&reader);
    if (version != WEIR_PLAN_FILE_VERSION) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "%s: version %u of plan files, expected %u", label,
                         version, WEIR_PLAN_FILE_VERSION);
    }
    *plan_count = plan_read_u32(&reader);
    const uint64_t byte_size = plan_read_u64(&reader);
    if (byte_size != reader.byte_size) {
        return WEIR_FAIL(WEIR_BAD_FORMAT, "%s: the file is damaged: %zu bytes, expected %llu",
                         label, reader.byte_size, (unsigned long long)byte_size);
    }
    if (plan_read_u64(&reader) != checksum_of(reader.bytes, reader.byte_size)) {
        return weir_plan_file_damaged(label, "its checksum is another one");
    }
    return WEIR_OK;
}

static const plan_section* find_section(const weir_plan_file* file, const char* name) {
    for (size_t i = 0; i < file->sections.count; i++) {
        if (strcmp((const char*)file->bytes.items + file->sections.items[i].name, name) == 0) {
            return &file->sections.items[i];
        }
    }
    return NULL;
}

// Lists the plans of bytes whose checksum is right.
static weir_status list_sections(weir_plan_file* file, uint32_t plan_count) {
    plan_reader reader = {
        .bytes = file->bytes.items, .byte_size = file->bytes.count, .at = PLAN_FILE_HEADER};
    for (uint32_t i = 0; i < plan_count; i++) {
        const uint64_t byte_size = plan_read_u64(&reader);
        const size_t name_at = reader.at + sizeof(uint32_t);
        const char* name = plan_read_text(&reader);
        const size_t begin = plan_read_skip(&reader, byte_size);
        if (reader.failed || find_section(file, name)) {
            return weir_plan_file_damaged(file->label, "a plan is cut, or there twice");
        }
        WEIR_TRY(array_reserve(&file->allocator, &file->sections, file->sections.count + 1));
        file->sections.items[file->sections.count++] =
            (plan_section){.name = name_at, .begin = begin, .end = reader.at};
    }
    return reader.at == reader.byte_size
               ? WEIR_OK
               : weir_plan_file_damaged(file->label, "there are bytes after the last plan");
}

static weir_status check_bytes(weir_plan_file* file) {
    uint32_t plan_count = 0;
    WEIR_TRY(check_header(file, &plan_count));
    return list_sections(file, plan_count);
}

static weir_status finish_reading(weir_plan_file* made, weir_status status, weir_plan_file** file) {
    if (status == WEIR_OK) {
        status = check_bytes(made);
    }
    if (status != WEIR_OK) {
        weir_plan_file_destroy(made);
        return status;
    }
    *file = made;
    return WEIR_OK;
}

weir_status weir_plan_file_open(const weir_allocator* allocator, const char* path,
                                weir_plan_file** file) {
    weir_plan_file* made = NULL;
    WEIR_TRY(new_file(allocator, path, &made));
    const weir_status status =
        file_bytes_read(&made->allocator, path, BYTES_MAX, &made->bytes.items, &made->bytes.count);
    made->bytes.capacity = made->bytes.count;
    return finish_reading(made, status, file);
}

weir_status weir_plan_file_parse(const weir_allocator* allocator, const void* bytes,
                                 size_t byte_size, weir_plan_file** file) {
    weir_plan_file* made = NULL;
    if (byte_size > BYTES_MAX) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "plan: %zu bytes, expected at most %zu", byte_size,
                         BYTES_MAX);
    }
    WEIR_TRY(new_file(allocator, "plan", &made));
    const weir_status status = array_reserve(&made->allocator, &made->bytes, byte_size);
    if (status == WEIR_OK && byte_size > 0) {
        memcpy(made->bytes.items, bytes, byte_size);
        made->bytes.count = byte_size;
    }
    return finish_reading(made, status, file);
}

void weir_plan_file_destroy(weir_plan_file* file) {
    if (file) {
        const weir_allocator allocator = file->allocator;
        array_free(&allocator, &file->sections);
        array_free(&allocator, &file->bytes);
        object_free(&allocator, file);
    }
}

uint32_t weir_plan_file_count(const weir_plan_file* file) {
    return (uint32_t)file->sections.count;
}

const char* weir_plan_file_name(const weir_plan_file* file, uint32_t index) {
    return index < file->sections.count
               ? (const char*)file->bytes.items + file->sections.items[index].name
               : NULL;
}

const void* weir_plan_file_bytes(const weir_plan_file* file, size_t* byte_size) {
    *byte_size = file->bytes.count;
    return file->bytes.items;
}

weir_status weir_plan_file_add(weir_plan_file* file, const char* name,
                               const weir_schedule* schedule) {
    if (find_section(file, name)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: there is a plan %s already", file->label,
                         name);
    }
    WEIR_TRY(array_reserve(&file->allocator, &file->sections, file->sections.count + 1));
    const size_t start = file->bytes.count;
    plan_writer writer = {.allocator = &file->allocator, .bytes = &file->bytes};
    plan_write_u64(&writer, 0);
    plan_section section = {.name = file->bytes.count + sizeof(uint32_t)};
    plan_write_text(&writer, name);
    section.begin = file->bytes.count;
    const weir_status status = weir_plan_file_encode(&writer, schedule);
    if (status != WEIR_OK) {
        file->bytes.count = start;
        return status;
    }
    section.end = file->bytes.count;
    plan_patch(file->bytes.items + start, section.end - section.begin, sizeof(uint64_t));
    file->sections.items[file->sections.count++] = section;
    seal(file);
    return WEIR_OK;
}

weir_status weir_plan_file_save(const weir_plan_file* file, const char* path) {
    return file_bytes_write(&file->allocator, path, file->bytes.items, file->bytes.count);
}

weir_status weir_plan_file_load(const weir_plan_file* file, const char* name,
                                const weir_graph* graph, const weir_target* target,
                                weir_schedule** schedule) {
    const plan_section* section = find_section(file, name);
    if (!section) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "%s: no plan %s among its %zu", file->label, name,
                         file->sections.count);
    }
    char label[sizeof file->label + 64];
    snprintf(label, sizeof label, "%s, plan %s", file->label, name);
    plan_reader reader = {.bytes = file->bytes.items + section->begin,
                          .byte_size = section->end - section->begin};
    return weir_plan_file_decode(&file->allocator, &reader, label, graph, target, schedule);
}
