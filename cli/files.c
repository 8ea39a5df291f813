// Files and memory of the commands.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <weir/fault.h>

#include "cli.h"

// Doubles what is needed, so that n appended bytes cost O(n).
weir_status cli_bytes_append(cli_bytes* bytes, const void* source, size_t length) {
    if (length > bytes->capacity - bytes->count) {
        size_t capacity = 0;
        void* grown = NULL;
        if (__builtin_add_overflow(bytes->count, length, &capacity) ||
            __builtin_mul_overflow(capacity, 2u, &capacity)) {
            return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "a text of %zu bytes cannot grow by %zu",
                             bytes->count, length);
        }
        WEIR_TRY(weir_alloc(NULL, capacity, 1, &grown));
        if (bytes->count > 0) {
            memcpy(grown, bytes->items, bytes->count);
        }
        weir_free(NULL, bytes->items, bytes->capacity, 1);
        bytes->items = grown;
        bytes->capacity = capacity;
    }
    if (length > 0) {
        memcpy(bytes->items + bytes->count, source, length);
        bytes->count += length;
    }
    return WEIR_OK;
}

void cli_bytes_free(cli_bytes* bytes) {
    weir_free(NULL, bytes->items, bytes->capacity, 1);
    *bytes = (cli_bytes){0};
}

// No prompt and no list of ids comes near this; a device that never ends does.
#define FILE_BYTES_MAX (1u << 30)

static weir_status read_all(FILE* file, const char* path, cli_bytes* bytes) {
    char block[16384];
    size_t length = 0;
    while ((length = fread(block, 1, sizeof block, file)) > 0) {
        if (length > FILE_BYTES_MAX - bytes->count) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s: over %u bytes, the most that is read", path,
                             FILE_BYTES_MAX);
        }
        WEIR_TRY(cli_bytes_append(bytes, block, length));
    }
    if (ferror(file)) {
        return WEIR_FAIL(WEIR_IO, "%s: cannot read: %s", path, strerror(errno));
    }
    return WEIR_OK;
}

bool cli_is_stream(const char* path) {
    return path && strcmp(path, "-") == 0;
}

weir_status cli_read_file(const char* path, cli_bytes* bytes) {
    if (cli_is_stream(path)) {
        return read_all(stdin, "standard input", bytes);
    }
    FILE* file = fopen(path, "rb");
    if (!file) {
        return WEIR_FAIL(WEIR_IO, "%s: cannot open: %s", path, strerror(errno));
    }
    const weir_status status = read_all(file, path, bytes);
    fclose(file);
    return status;
}

weir_status cli_schedule_make(const weir_plan_file* plans, const char* name,
                              const weir_graph* graph, const weir_target* target,
                              const weir_schedule_options* options, weir_schedule** schedule) {
    if (plans) {
        return weir_plan_file_load(plans, name, graph, target, schedule);
    }
    const weir_status status = weir_schedule_create(NULL, graph, target, options, schedule);
    return status == WEIR_INFEASIBLE ? WEIR_FAIL(status, "%s: %s", name, weir_last_error())
                                     : status;
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

// Parses one id of `length` bytes; the bytes may be anything. Numbers past 32 bits end early: a
// line of digits cannot overflow.
static bool parse_id(const char* bytes, size_t length, uint64_t* id) {
    uint64_t number = 0;
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] < '0' || bytes[i] > '9' || number > UINT32_MAX) {
            return false;
        }
        number = number * 10 + (uint64_t)(bytes[i] - '0');
    }
    *id = number;
    return length > 0;
}

// Byte positions in messages: a file of ids often has one line.
static weir_status parse_ids(const char* path, const cli_bytes* bytes, uint32_t limit,
                             weir_ids* ids) {
    size_t at = 0;
    while (at < bytes->count) {
        if (is_space(bytes->items[at])) {
            at++;
            continue;
        }
        const size_t begin = at;
        while (at < bytes->count && !is_space(bytes->items[at])) {
            at++;
        }
        uint64_t id = 0;
        if (!parse_id(bytes->items + begin, at - begin, &id)) {
            char text[64];
            const weir_text item = {bytes->items + begin, at - begin};
            return WEIR_FAIL(WEIR_BAD_FORMAT, "%s: byte %zu: \"%s\" is no token id", path, begin,
                             weir_text_escape(item, text, sizeof text));
        }
        if (id >= limit) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                             "%s: byte %zu: token id %llu; expected less than %u, the size of the "
                             "vocabulary",
                             path, begin, (unsigned long long)id, limit);
        }
        WEIR_TRY(weir_ids_push(ids, (uint32_t)id));
    }
    return WEIR_OK;
}

size_t cli_read_head(const char* path, void* bytes, size_t capacity) {
    struct stat facts;
    if (stat(path, &facts) != 0 || !S_ISREG(facts.st_mode)) {
        return 0;
    }
    FILE* file = fopen(path, "rb");
    if (!file) {
        return 0;
    }
    const size_t length = fread(bytes, 1, capacity, file);
    fclose(file);
    return length;
}

weir_status cli_read_ids(const char* path, uint32_t limit, weir_ids* ids) {
    cli_bytes bytes = {0};
    const char* name = cli_is_stream(path) ? "standard input" : path;
    weir_status status = cli_read_file(path, &bytes);
    if (status == WEIR_OK) {
        status = parse_ids(name, &bytes, limit, ids);
    }
    if (status == WEIR_OK && ids->count == 0) {
        status = WEIR_FAIL(WEIR_BAD_FORMAT, "%s: no token ids", name);
    }
    cli_bytes_free(&bytes);
    return status;
}

// Finds where compiled pipelines are kept, by the XDG Base Directory Specification, and makes the
// folders; "" where there is no such place.
static void find_cache(char* path, size_t capacity) {
    const char* base = getenv("XDG_CACHE_HOME");
    const char* home = getenv("HOME");
    path[0] = '\0';
    int length = -1;
    if (base && base[0] == '/') {
        length = snprintf(path, capacity, "%s", base);
    } else if (home && home[0] == '/') {
        length = snprintf(path, capacity, "%s/.cache", home);
    }
    if (length < 0 || (size_t)length + sizeof "/weir/vulkan" > capacity) {
        path[0] = '\0';
        return;
    }
    // A folder that cannot be made shows when the cache is written, which costs nothing but time.
    (void)mkdir(path, 0700);
    strcat(path, "/weir");
    (void)mkdir(path, 0700);
    strcat(path, "/vulkan");
}

// On a terminal, where the device gets a copy of the model.
static bool print_progress(void* context, uint64_t done_bytes, uint64_t total_bytes) {
    (void)context;
    fprintf(stderr, done_bytes < total_bytes ? "\rloading %3.0f %%" : "\r             \r",
            100.0 * (double)done_bytes / (double)total_bytes);
    return true;
}

weir_status cli_vocabulary_check(const weir_gguf* gguf, uint64_t needed, uint64_t allowed) {
    if (needed > allowed) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                         "%s: memory of the vocabulary: needed are %llu bytes, allowed are %llu",
                         weir_gguf_file_name(gguf), (unsigned long long)needed,
                         (unsigned long long)allowed);
    }
    return WEIR_OK;
}

weir_status cli_model_open(const char* path, const char* device, uint32_t threads,
                           cli_model* opened) {
    char cache[4096] = "";
    if (device && strncmp(device, "vulkan", strlen("vulkan")) == 0) {
        find_cache(cache, sizeof cache);
    }
    const weir_device_desc desc = {
        .name = device, .thread_count = threads, .cache_path = cache[0] ? cache : NULL};
    // A file that is cut short while it is read ends the command with a message.
    WEIR_TRY(weir_fault_handler_install());
    WEIR_TRY(weir_device_create(&desc, &opened->device));
    const weir_model_options options = {.limits = opened->limits,
                                        .progress = isatty(STDERR_FILENO) ? print_progress : NULL};
    WEIR_TRY(weir_model_open(NULL, opened->device, path, &options, &opened->model));
    const weir_gguf* gguf = weir_model_gguf(opened->model);
    WEIR_TRY(cli_vocabulary_check(gguf, weir_model_vocabulary_bytes(opened->model),
                                  weir_model_limits(opened->model)->memory_bytes));
    return weir_tokenizer_create(NULL, gguf, &opened->tokenizer);
}

void cli_model_close(cli_model* opened) {
    weir_tokenizer_destroy(opened->tokenizer);
    weir_model_destroy(opened->model);
    weir_device_destroy(opened->device);
    *opened = (cli_model){0};
}

uint64_t cli_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

double cli_rate(uint64_t items, uint64_t duration_ns) {
    return duration_ns > 0 ? (double)items * 1e9 / (double)duration_ns : 0.0;
}
