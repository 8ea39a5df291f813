// weir info: what a file holds. The model is checked as for a run; weights are not read.
#include <string.h>

#include "cli.h"
#include "json.h"

static const char usage[] = "usage: weir info MODEL [OPTION...]\n\n"
                            "Describes a model file.\n\n"
                            "      --tensors      list every tensor\n"
                            "      --json         print one object\n";

typedef struct info_options {
    const char* model;
    bool tensors;
    bool json;
} info_options;

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

static void json_tensors(json* writer, const weir_gguf* gguf) {
    uint64_t count = 0;
    const weir_gguf_tensor* tensors = weir_gguf_tensors(gguf, &count);
    json_begin(writer, "tensors", '[');
    for (uint64_t i = 0; i < count; i++) {
        json_begin(writer, NULL, '{');
        json_bytes(writer, "name", tensors[i].name.bytes, (size_t)tensors[i].name.length);
        json_text(writer, "type", weir_dtype_describe(tensors[i].dtype)->name);
        json_begin(writer, "shape", '[');
        for (uint32_t d = 0; d < tensors[i].shape.rank; d++) {
            json_u64(writer, NULL, (uint64_t)tensors[i].shape.dims[d]);
        }
        json_end(writer, ']');
        json_u64(writer, "part", tensors[i].part);
        json_u64(writer, "offset", tensors[i].byte_offset);
        json_u64(writer, "bytes", tensors[i].byte_size);
        json_end(writer, '}');
    }
    json_end(writer, ']');
}

static void print_json(const info_options* options, const cli_model* opened) {
    const weir_gguf* gguf = weir_model_gguf(opened->model);
    const weir_llama_params* params = weir_model_params(opened->model);
    named_count counts[PARAM_COUNT];
    dtype_sum sums[WEIR_DTYPE_COUNT];
    list_params(params, counts);
    sum_dtypes(gguf, sums);
    json writer = {.file = stdout};
    json_begin(&writer, NULL, '{');
    json_text(&writer, "file", options->model);
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

static void print_text(const info_options* options, const cli_model* opened) {
    const weir_gguf* gguf = weir_model_gguf(opened->model);
    const weir_llama_params* params = weir_model_params(opened->model);
    const weir_tokenizer* tokenizer = opened->tokenizer;
    named_count counts[PARAM_COUNT];
    dtype_sum sums[WEIR_DTYPE_COUNT];
    list_params(params, counts);
    sum_dtypes(gguf, sums);
    printf("file          %s (GGUF version %u", options->model, weir_gguf_version(gguf));
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

int info_main(int argc, char** argv) {
    info_options info = {0};
    const cli_option options[] = {
        {"tensors", 0, CLI_FLAG, &info.tensors},
        {"json", 0, CLI_FLAG, &info.json},
    };
    const cli_exit parsed =
        cli_parse(argc, argv, usage, options, sizeof options / sizeof *options, &info.model);
    if (parsed != CLI_GO_ON) {
        return parsed;
    }
    cli_model opened = {0};
    const weir_status status = cli_model_open(info.model, "cpu", 1, &opened);
    cli_exit code = CLI_OK;
    if (status != WEIR_OK) {
        code = cli_fail(status);
    } else if (info.json) {
        print_json(&info, &opened);
    } else {
        print_text(&info, &opened);
    }
    cli_model_close(&opened);
    return cli_finish(code);
}
