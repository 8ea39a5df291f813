#include "model_files.h"

#include <string.h>

#include "memory.h"

// Hands on the progress of one file as that of all.
static bool report(void* context, uint64_t done_bytes, uint64_t total_bytes) {
    const model_files* files = context;
    (void)total_bytes;
    return !files->progress || files->progress(files->progress_context,
                                               files->byte_begin + done_bytes, files->byte_size);
}

// Mapping takes addresses alone: the size is compared before any byte is read.
static weir_status map_file(weir_device* device, const char* path, uint64_t bytes_max,
                            model_files* files) {
    const weir_storage_map_desc desc = {
        .path = path, .progress = report, .progress_context = files};
    weir_storage* mapping = NULL;
    WEIR_TRY(weir_storage_map(device, &desc, &mapping));
    files->items[files->count++].mapping = mapping;
    const uint64_t byte_size = weir_storage_byte_size(mapping);
    if (byte_size > bytes_max || files->byte_size > bytes_max - byte_size) {
        return WEIR_FAIL(
            WEIR_OUT_OF_RANGE, "%s: size of the model: found %llu bytes%s, allowed are %llu", path,
            (unsigned long long)(files->byte_size + byte_size),
            files->count > 1 ? " in the parts so far" : "", (unsigned long long)bytes_max);
    }
    files->byte_size += byte_size;
    if (!weir_storage_host_pointer(mapping)) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "%s: the host cannot reach memory mapped on this device",
                         path);
    }
    return WEIR_OK;
}

static weir_status make_room(const weir_allocator* allocator, uint32_t count, model_files* files) {
    WEIR_TRY(llm_array_new(allocator, count, &files->items));
    files->capacity = count;
    return WEIR_OK;
}

static weir_status parse_part(const weir_allocator* allocator, weir_storage* mapping,
                              const char* path, weir_gguf** gguf) {
    return weir_gguf_parse(allocator, weir_storage_host_pointer(mapping),
                           weir_storage_byte_size(mapping), path, gguf);
}

// The paths of the parts, one after the other: names of one set are all as long as the path given.
// Room for all of them is taken once all are known to be there: what a file says of its set decides
// about little memory.
typedef struct part_names {
    char* text;
    size_t size; // of one, with its terminator
} part_names;

static char* name_of(const part_names* names, uint32_t part) {
    return names->text + part * names->size;
}

static weir_status map_parts(const weir_allocator* allocator, weir_device* device, const char* path,
                             const weir_gguf_split* split, uint64_t bytes_max, model_files* files) {
    char* name = NULL;
    const size_t size = strlen(path) + 1;
    weir_status status = make_room(allocator, split->part_count, files);
    if (status == WEIR_OK) {
        status = llm_array_new(allocator, size, &name);
    }
    for (uint32_t i = 0; status == WEIR_OK && i < split->part_count; i++) {
        status = weir_gguf_part_path(path, split, i, name, size);
        if (status == WEIR_OK) {
            status = map_file(device, name, bytes_max, files);
        }
    }
    llm_array_free(allocator, name, size);
    return status;
}

static weir_status parse_named(const weir_allocator* allocator, const model_files* files,
                               const part_names* names, weir_gguf** gguf) {
    weir_gguf_part* parts = NULL;
    WEIR_TRY(llm_array_new(allocator, files->count, &parts));
    for (uint32_t i = 0; i < files->count; i++) {
        parts[i] = (weir_gguf_part){.bytes = weir_storage_host_pointer(files->items[i].mapping),
                                    .byte_size = weir_storage_byte_size(files->items[i].mapping),
                                    .file_name = name_of(names, i)};
    }
    const weir_status status = weir_gguf_parse_parts(allocator, parts, files->count, gguf);
    llm_array_free(allocator, parts, files->count);
    return status;
}

static weir_status parse_parts(const weir_allocator* allocator, const char* path,
                               const weir_gguf_split* split, const model_files* files,
                               weir_gguf** gguf) {
    part_names names = {.size = strlen(path) + 1};
    size_t text_size = 0;
    if (__builtin_mul_overflow(names.size, files->count, &text_size)) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "%s: %u paths pass the address space", path,
                         files->count);
    }
    WEIR_TRY(llm_array_new(allocator, text_size, &names.text));
    weir_status status = WEIR_OK;
    for (uint32_t i = 0; status == WEIR_OK && i < files->count; i++) {
        status = weir_gguf_part_path(path, split, i, name_of(&names, i), names.size);
    }
    if (status == WEIR_OK) {
        status = parse_named(allocator, files, &names, gguf);
    }
    llm_array_free(allocator, names.text, text_size);
    return status;
}

weir_status weir_model_files_open(const weir_allocator* allocator, weir_device* device,
                                  const char* path, uint64_t bytes_max, model_files* files,
                                  weir_gguf** gguf) {
    weir_gguf* parsed = NULL;
    weir_gguf_split split;
    WEIR_TRY(make_room(allocator, 1, files));
    WEIR_TRY(map_file(device, path, bytes_max, files));
    WEIR_TRY(parse_part(allocator, files->items[0].mapping, path, &parsed));
    weir_status status = weir_gguf_split_read(parsed, &split);
    if (status == WEIR_OK && split.part_count == 1) {
        *gguf = parsed;
        return WEIR_OK;
    }
    weir_gguf_destroy(parsed);
    WEIR_TRY(status);
    // The part that was named is mapped again with the others.
    weir_model_files_close(allocator, files);
    WEIR_TRY(map_parts(allocator, device, path, &split, bytes_max, files));
    return parse_parts(allocator, path, &split, files, gguf);
}

weir_status weir_model_files_check(const model_files* files) {
    for (uint32_t i = 0; i < files->count; i++) {
        WEIR_TRY(weir_storage_check(files->items[i].mapping));
    }
    return WEIR_OK;
}

// Programs of the model may keep the mappings for longer, but have no need to copy them again.
weir_status weir_model_files_touch(model_files* files, weir_progress_fn progress, void* context) {
    weir_status status = WEIR_OK;
    files->progress = progress;
    files->progress_context = context;
    files->byte_begin = 0;
    for (uint32_t i = 0; i < files->count && status == WEIR_OK; i++) {
        status = weir_storage_touch(files->items[i].mapping);
        files->byte_begin += weir_storage_byte_size(files->items[i].mapping);
    }
    files->progress = NULL;
    return status;
}

void weir_model_files_close(const weir_allocator* allocator, model_files* files) {
    for (uint32_t i = 0; i < files->count; i++) {
        weir_storage_release(files->items[i].mapping);
    }
    llm_array_free(allocator, files->items, files->capacity);
    *files = (model_files){0};
}
