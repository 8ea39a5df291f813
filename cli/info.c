// weir info: what a file holds. A model is checked as for a run; weights are not read.
#include <string.h>
#include <weir-llm/context.h>

#include "info.h"

static const char usage[] =
    "usage: weir info MODEL [OPTION...]\n"
    "       weir info FILE.safetensors [OPTION...]\n\n"
    "Describes a model, and the memory that a run of it needs; or what a safetensors file "
    "holds.\n\n"
    "      --context N    tell the memory for so many positions (default: as of weir run)\n"
    "      --tensors      list every tensor\n" CLI_LIMITS_USAGE
    "      --json         print one object\n";

typedef struct dtype_sum {
    uint64_t tensors;
    uint64_t bytes;
} dtype_sum;

static void sum_dtypes(const weir_gguf* gguf, dtype_sum sums[WEIR_DTYPE_COUNT]) {
    uint64_t count = 0;
    const weir_gguf_tensor* tensors = weir_gguf_tensors(gguf, &count);
    memset(sums, 0, WEIR_DTYPE_COUNT * sizeof *sums);
    for (uint64_t i = 0; i < count; i++) {
        sums[tensors[i].dtype].tensors++;
        sums[tensors[i].dtype].bytes += tensors[i].byte_size;
    }
}

// The numbers of the model, in one place for both forms of output.
typedef struct named_count {
    const char* name;
    uint64_t number;
} named_count;

#define PARAM_COUNT 9

static void list_params(const weir_llama_params* params, named_count list[PARAM_COUNT]) {
    const named_count counts[PARAM_COUNT] = {
        {"blocks", params->blocks},
        {"embedding", params->embedding},
        {"feed_forward", params->feed_forward},
        {"heads", params->heads},
        {"kv_heads", params->kv_heads},
        {"head_dim", params->head_dim},
        {"rotated", params->rotated},
        {"vocabulary", params->vocabulary},
        {"context", params->context},
    };
    memcpy(list, counts, sizeof counts);
}

// Vocabularies may lack any special token: the key is then left out.
static void json_token(json* writer, const char* key, uint32_t id) {
    if (id != WEIR_TOKEN_NONE) {
        json_u64(writer, key, id);
    }
}

static void json_tokenizer(json* writer, const weir_tokenizer* tokenizer) {
    json_begin(writer, "tokenizer", '{');
    json_u64(writer, "tokens", weir_tokenizer_size(tokenizer));
    json_token(writer, "bos", weir_tokenizer_bos(tokenizer));
    json_token(writer, "eos", weir_tokenizer_eos(tokenizer));
    json_bool(writer, "adds_bos", weir_tokenizer_adds_bos(tokenizer));
    json_end(writer, '}');
}

void info_json_shape(json* writer, const weir_shape* shape) {
    json_begin(writer, "shape", '[');
    for (uint32_t d = 0; d < shape->rank; d++) {
        json_u64(writer, NULL, (uint64_t)shape->dims[d]);
    }
    json_end(writer, ']');
}

// The memory of a run by its parts, for both forms of output.
#define MEMORY_COUNT 6

static void list_memory(const weir_context_memory* memory, named_count list[MEMORY_COUNT]) {
    const named_count counts[MEMORY_COUNT] = {
        {"weights", memory->weights},       {"caches", memory->caches},
        {"arena", memory->arena},           {"operands", memory->operands},
        {"vocabulary", memory->vocabulary}, {"total", memory->total},
    };
    memcpy(list, counts, sizeof counts);
}

static void json_memory(json* writer, const info_options* options,
                        const weir_context_memory* memory, const weir_model* model) {
    named_count counts[MEMORY_COUNT];
    list_memory(memory, counts);
    json_begin(writer, "memory", '{');
    json_u64(writer, "context", options->context);
    for (int i = 0; i < MEMORY_COUNT; i++) {
        json_u64(writer, counts[i].name, counts[i].number);
    }
    json_u64(writer, "allowed", weir_model_limits(model)->memory_bytes);
    json_end(writer, '}');
}

static void print_memory(const info_options* options, const weir_context_memory* memory,
                         const weir_model* model) {
    named_count counts[MEMORY_COUNT];
    list_memory(memory, counts);
    printf("a run         %llu bytes at a context of %u, allowed are %llu\n",
           (unsigned long long)memory->total, options->context,
           (unsigned long long)weir_model_limits(model)->memory_bytes);
    for (int i = 0; i < MEMORY_COUNT - 1; i++) { // the last is the total
        printf("  %-11s %llu bytes\n", counts[i].name, (unsigned long long)counts[i].number);
    }
}

static void json_tensors(json* writer, const weir_gguf* gguf) {
    uint64_t count = 0;
    const weir_gguf_tensor* tensors = weir_gguf_tensors(gguf, &count);
    json_begin(writer, "tensors", '[');
    for (uint64_t i = 0; i < count; i++) {
        json_begin(writer, NULL, '{');
        json_bytes(writer, "name", tensors[i].name.bytes, (size_t)tensors[i].name.length);
        json_text(writer, "type", weir_dtype_describe(tensors[i].dtype)->name);
        info_json_shape(writer, &tensors[i].shape);
        json_u64(writer, "part", tensors[i].part);
        json_u64(writer, "offset", tensors[i].byte_offset);
        json_u64(writer, "bytes", tensors[i].byte_size);
        json_end(writer, '}');
    }
    json_end(writer, ']');
}

static void print_json(const info_options* options, const cli_model* opened,
                       const weir_context_memory* memory) {
    const weir_gguf* gguf = weir_model_gguf(opened->model);
    const weir_llama_params* params = weir_model_params(opened->model);
    named_count counts[PARAM_COUNT];
    dtype_sum sums[WEIR_DTYPE_COUNT];
    list_params(params, counts);
    sum_dtypes(gguf, sums);
    json writer = {.file = stdout};
    json_begin(&writer, NULL, '{');
    json_text(&writer, "file", options->path);
    json_text(&writer, "architecture", "llama");
    json_u64(&writer, "gguf_version", weir_gguf_version(gguf));
    json_u64(&writer, "parts", weir_gguf_part_count(gguf));
    json_begin(&writer, "params", '{');
    for (int i = 0; i < PARAM_COUNT; i++) {
        json_u64(&writer, counts[i].name, counts[i].number);
    }
    json_f64(&writer, "epsilon", (double)params->epsilon);
    json_f64(&writer, "rope_base", (double)params->rope_base);
    json_f64(&writer, "rope_scale", (double)params->rope_scale);
    json_bool(&writer, "tied_output", params->tied_output);
    json_end(&writer, '}');
    json_begin(&writer, "types", '{');
    for (int i = 0; i < WEIR_DTYPE_COUNT; i++) {
        if (sums[i].tensors > 0) {
            json_begin(&writer, weir_dtype_describe((weir_dtype)i)->name, '{');
            json_u64(&writer, "tensors", sums[i].tensors);
            json_u64(&writer, "bytes", sums[i].bytes);
            json_end(&writer, '}');
        }
    }
    json_end(&writer, '}');
    json_u64(&writer, "mapped_bytes", weir_model_mapped_bytes(opened->model));
    json_u64(&writer, "copied_bytes", weir_model_copied_bytes(opened->model));
    json_memory(&writer, options, memory, opened->model);
    json_tokenizer(&writer, opened->tokenizer);
    if (options->tensors) {
        json_tensors(&writer, gguf);
    }
    json_end(&writer, '}');
    putchar('\n');
}

static void print_token(const char* name, uint32_t id) {
    if (id != WEIR_TOKEN_NONE) {
        printf(", %s %u", name, id);
    }
}

static void print_tensors(const weir_gguf* gguf) {
    uint64_t count = 0;
    const weir_gguf_tensor* tensors = weir_gguf_tensors(gguf, &count);
    for (uint64_t i = 0; i < count; i++) {
        char name[96];
        char shape[96];
        printf("  %-28s %-8s %-16s %12llu bytes at %llu",
               weir_text_escape(tensors[i].name, name, sizeof name),
               weir_dtype_describe(tensors[i].dtype)->name,
               weir_shape_format(&tensors[i].shape, shape, sizeof shape),
               (unsigned long long)tensors[i].byte_size,
               (unsigned long long)tensors[i].byte_offset);
        if (weir_gguf_part_count(gguf) > 1) {
            printf(" of part %u", tensors[i].part + 1); // as in the names of the files
        }
        putchar('\n');
    }
}

static void print_text(const info_options* options, const cli_model* opened,
                       const weir_context_memory* memory) {
    const weir_gguf* gguf = weir_model_gguf(opened->model);
    const weir_llama_params* params = weir_model_params(opened->model);
    const weir_tokenizer* tokenizer = opened->tokenizer;
    named_count counts[PARAM_COUNT];
    dtype_sum sums[WEIR_DTYPE_COUNT];
    list_params(params, counts);
    sum_dtypes(gguf, sums);
    printf("file          %s (GGUF version %u", options->path, weir_gguf_version(gguf));
    if (weir_gguf_part_count(gguf) > 1) {
        printf(", in %u parts", weir_gguf_part_count(gguf));
    }
    printf(")\n");
    printf("architecture  llama, output %s\n", params->tied_output ? "tied" : "of its own");
    for (int i = 0; i < PARAM_COUNT; i++) {
        printf("%-13s %llu\n", counts[i].name, (unsigned long long)counts[i].number);
    }
    printf("epsilon       %g\n", (double)params->epsilon);
    printf("rope          base %g, scale %g%s\n", (double)params->rope_base,
           (double)params->rope_scale, params->rope_factors ? ", with factors" : "");
    printf("tokenizer     %u tokens", weir_tokenizer_size(tokenizer));
    print_token("bos", weir_tokenizer_bos(tokenizer));
    print_token("eos", weir_tokenizer_eos(tokenizer));
    printf("\nmapped        %llu bytes\ncopied        %llu bytes\n",
           (unsigned long long)weir_model_mapped_bytes(opened->model),
           (unsigned long long)weir_model_copied_bytes(opened->model));
    print_memory(options, memory, opened->model);
    for (int i = 0; i < WEIR_DTYPE_COUNT; i++) {
        if (sums[i].tensors > 0) {
            printf("%-13s %llu tensors, %llu bytes\n", weir_dtype_describe((weir_dtype)i)->name,
                   (unsigned long long)sums[i].tensors, (unsigned long long)sums[i].bytes);
        }
    }
    if (options->tensors) {
        print_tensors(gguf);
    }
}

// A safetensors file begins with the size of its header, and that with a brace.
static bool is_safetensors(const char* path) {
    char head[9] = {0};
    const size_t length = cli_read_head(path, head, sizeof head);
    const char* ending = strrchr(path, '.');
    const bool is_named = length > 0 && ending && strcmp(ending, ".safetensors") == 0;
    return memcmp(head, "GGUF", 4) != 0 && (is_named || (length == sizeof head && head[8] == '{'));
}

// The memory is that of weir run with its defaults, but for the context.
static weir_status open_model(info_options* options, cli_model* opened,
                              weir_context_memory* memory) {
    WEIR_TRY(cli_model_open(options->path, "cpu", 1, opened));
    const uint32_t lengths[] = {WEIR_CONTEXT_LENGTH_DEFAULT,
                                weir_model_params(opened->model)->context,
                                weir_model_limits(opened->model)->context};
    uint32_t common = lengths[0];
    for (int i = 1; i < 3; i++) {
        common = lengths[i] < common ? lengths[i] : common;
    }
    options->context = options->context > 0 ? options->context : common;
    const weir_context_options context = {.context_length = options->context};
    return weir_context_measure(NULL, opened->model, &context, memory);
}

static cli_exit info_model_command(info_options* options) {
    cli_model opened = {.limits = options->limits};
    weir_context_memory memory;
    const weir_status status = open_model(options, &opened, &memory);
    cli_exit code = CLI_OK;
    if (status != WEIR_OK) {
        code = cli_fail(status);
    } else if (options->json) {
        print_json(options, &opened, &memory);
    } else {
        print_text(options, &opened, &memory);
    }
    cli_model_close(&opened);
    return cli_finish(code);
}

// Looking at a model takes none of its memory: files of any size are described.
int info_main(int argc, char** argv) {
    info_options info = {.limits.file_bytes = WEIR_LIMIT_NONE};
    const cli_option options[] = {
        {"context", 0, CLI_U32, &info.context},
        {"tensors", 0, CLI_FLAG, &info.tensors},
        CLI_LIMITS(&info.limits),
        {"json", 0, CLI_FLAG, &info.json},
    };
    const cli_exit parsed =
        cli_parse(argc, argv, usage, options, sizeof options / sizeof *options, &info.path);
    if (parsed != CLI_GO_ON) {
        return parsed;
    }
    if (!is_safetensors(info.path)) {
        return info_model_command(&info);
    }
    if (info.context > 0 || info.limits.memory_bytes > 0 || info.limits.context > 0 ||
        info.limits.vocabulary > 0 || info.limits.file_bytes != WEIR_LIMIT_NONE) {
        return cli_usage(argv[0], "--context and limits are for models, not for safetensors files");
    }
    return info_safetensors_command(&info);
}
