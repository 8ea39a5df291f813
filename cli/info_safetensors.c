// weir info FILE.safetensors: what the header says. The tensors are mapped and not read.
#include <string.h>
#include <weir/fault.h>
#include <weir/safetensors.h>

#include "info.h"

typedef struct opened_file {
    weir_device* device;
    weir_storage* mapping;
    weir_safetensors* parsed;
} opened_file;

static weir_status open_file(const char* path, opened_file* file) {
    WEIR_TRY(weir_fault_handler_install());
    WEIR_TRY(
        weir_device_create(&(weir_device_desc){.name = "cpu", .thread_count = 1}, &file->device));
    WEIR_TRY(
        weir_storage_map(file->device, &(weir_storage_map_desc){.path = path}, &file->mapping));
    WEIR_TRY(weir_safetensors_parse(NULL, weir_storage_host_pointer(file->mapping),
                                    weir_storage_byte_size(file->mapping), path, &file->parsed));
    return weir_storage_check(file->mapping);
}

static void close_file(opened_file* file) {
    weir_safetensors_destroy(file->parsed);
    weir_storage_release(file->mapping);
    weir_device_destroy(file->device);
}

#define TYPES_MAX 32 // more than the format has

typedef struct type_sum {
    weir_text type;
    uint64_t tensors;
    uint64_t bytes;
} type_sum;

// Sums tensors by type, in the order in which the types come; returns how many types there are.
static uint32_t sum_types(const weir_safetensors_tensor* tensors, uint64_t count,
                          type_sum sums[TYPES_MAX]) {
    uint32_t type_count = 0;
    for (uint64_t i = 0; i < count; i++) {
        const weir_text type = tensors[i].type;
        uint32_t t = 0;
        while (t < type_count && (sums[t].type.length != type.length ||
                                  memcmp(sums[t].type.bytes, type.bytes, type.length) != 0)) {
            t++;
        }
        if (t == type_count && type_count < TYPES_MAX) {
            sums[type_count++] = (type_sum){.type = type};
        }
        if (t < type_count) {
            sums[t].tensors++;
            sums[t].bytes += tensors[i].byte_size;
        }
    }
    return type_count;
}

static void print_text(const info_options* options, const opened_file* file) {
    uint64_t count = 0;
    uint64_t entry_count = 0;
    const weir_safetensors_tensor* tensors = weir_safetensors_tensors(file->parsed, &count);
    const weir_safetensors_entry* entries = weir_safetensors_metadata(file->parsed, &entry_count);
    char key[128];
    char value[512];
    printf("file          %s (safetensors)\n", options->path);
    printf("tensors       %llu\n", (unsigned long long)count);
    printf("mapped        %llu bytes\n", (unsigned long long)weir_storage_byte_size(file->mapping));
    for (uint64_t i = 0; i < entry_count; i++) {
        printf("metadata      \"%s\": \"%s\"\n", weir_text_escape(entries[i].key, key, sizeof key),
               weir_text_escape(entries[i].value, value, sizeof value));
    }
    type_sum sums[TYPES_MAX];
    const uint32_t type_count = sum_types(tensors, count, sums);
    for (uint32_t i = 0; i < type_count; i++) {
        printf("%-13s %llu tensors, %llu bytes\n", weir_text_escape(sums[i].type, key, sizeof key),
               (unsigned long long)sums[i].tensors, (unsigned long long)sums[i].bytes);
    }
    for (uint64_t i = 0; options->tensors && i < count; i++) {
        char shape[128];
        char type[32];
        printf("  %-28s %-8s %-16s %12llu bytes at %llu\n",
               weir_text_escape(tensors[i].name, value, sizeof value),
               weir_text_escape(tensors[i].type, type, sizeof type),
               weir_shape_format(&tensors[i].shape, shape, sizeof shape),
               (unsigned long long)tensors[i].byte_size,
               (unsigned long long)tensors[i].byte_offset);
    }
}

static void json_of_text(json* writer, const char* key, weir_text text) {
    json_bytes(writer, key, text.bytes, (size_t)text.length);
}

// Metadata keys may be any text, which keys of the writer may not: pairs are written as objects.
static void print_json(const info_options* options, const opened_file* file) {
    uint64_t count = 0;
    uint64_t entry_count = 0;
    const weir_safetensors_tensor* tensors = weir_safetensors_tensors(file->parsed, &count);
    const weir_safetensors_entry* entries = weir_safetensors_metadata(file->parsed, &entry_count);
    json writer = {.file = stdout};
    json_begin(&writer, NULL, '{');
    json_text(&writer, "file", options->path);
    json_text(&writer, "format", "safetensors");
    json_u64(&writer, "mapped_bytes", weir_storage_byte_size(file->mapping));
    json_u64(&writer, "tensor_count", count);
    json_begin(&writer, "metadata", '[');
    for (uint64_t i = 0; i < entry_count; i++) {
        json_begin(&writer, NULL, '{');
        json_of_text(&writer, "key", entries[i].key);
        json_of_text(&writer, "value", entries[i].value);
        json_end(&writer, '}');
    }
    json_end(&writer, ']');
    if (options->tensors) {
        json_begin(&writer, "tensors", '[');
        for (uint64_t i = 0; i < count; i++) {
            json_begin(&writer, NULL, '{');
            json_of_text(&writer, "name", tensors[i].name);
            json_of_text(&writer, "type", tensors[i].type);
            info_json_shape(&writer, &tensors[i].shape);
            json_u64(&writer, "offset", tensors[i].byte_offset);
            json_u64(&writer, "bytes", tensors[i].byte_size);
            json_end(&writer, '}');
        }
        json_end(&writer, ']');
    }
    json_end(&writer, '}');
    putchar('\n');
}

cli_exit info_safetensors_command(const info_options* options) {
    opened_file file = {0};
    const weir_status status = open_file(options->path, &file);
    cli_exit code = CLI_OK;
    if (status != WEIR_OK) {
        code = cli_fail(status);
    } else if (options->json) {
        print_json(options, &file);
    } else {
        print_text(options, &file);
    }
    close_file(&file);
    return cli_finish(code);
}
