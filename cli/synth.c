// weir synth: a model of any shape and type with made-up weights, for benchmarks without a
// download. The numbers are drawn from a seed: the same command writes the same file.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <weir-llm/llama.h>

#include "gguf_write.h"

static const char usage[] =
    "usage: weir synth OUT.gguf [OPTION...]\n\n"
    "Writes a model of the llama architecture whose weights are random; - is standard output.\n\n"
    "      --preset NAME      110m (768 wide, 12 blocks) or 1b (2048 wide, 22 blocks); default "
    "110m\n"
    "      --type TYPE        of the matrices: F32, F16, BF16, Q8_0, Q4_0, Q4_K ... (default "
    "Q8_0)\n"
    "      --embd-type TYPE   of token_embd.weight (default: that of the matrices)\n"
    "      --output-type TYPE of output.weight (default: that of the matrices)\n"
    "      --blocks N --embedding N --heads N --kv-heads N --feed-forward N --vocabulary N\n"
    "      --context N        instead of the numbers of the preset\n"
    "      --tied             no output.weight: the embedding is used\n"
    "      --split N          as a set of N files: OUT-00001-of-0000N.gguf and so on\n"
    "      --seed N           of the weights (default 1)\n";

#define PIECES_RESERVED 259 // <unk>, <s>, </s> and the 256 byte tokens
#define CHUNK_BYTES (1u << 20)
#define DEVIATION 0.02 // of the weights
#define SCALES_MAX 2

typedef struct synth_options {
    const char* path;
    const char* preset;
    const char* type;
    const char* embd_type;
    const char* output_type;
    weir_llama_params wanted; // 0: as the preset has it
    uint64_t seed;
    uint32_t parts;
} synth_options;

static const struct {
    const char* name;
    weir_llama_params params;
} presets[] = {
    {"110m",
     {.blocks = 12,
      .embedding = 768,
      .feed_forward = 2048,
      .heads = 12,
      .kv_heads = 12,
      .vocabulary = 32000,
      .context = 4096}},
    {"1b",
     {.blocks = 22,
      .embedding = 2048,
      .feed_forward = 5632,
      .heads = 32,
      .kv_heads = 4,
      .vocabulary = 32000,
      .context = 4096}},
};

typedef struct synth_scale {
    uint32_t byte_offset; // in a block
    double factor;
} synth_scale;

// Where the blocks of a type keep their half-precision scales, with factors that make the mean of
// the numbers zero, and the root mean square that random bytes then have with a scale of 1. All
// other bytes may be anything, but for the exponent that blocks of MXFP4 begin with.
typedef struct synth_type {
    weir_dtype dtype;
    uint32_t gguf_type;
    uint32_t scale_count;
    synth_scale scales[SCALES_MAX];
    double magnitude;
} synth_type;

static const synth_type types[] = {
    {WEIR_DTYPE_F32, 0, 0, {{0}}, 1},
    {WEIR_DTYPE_F16, 1, 0, {{0}}, 1},
    {WEIR_DTYPE_BF16, 30, 0, {{0}}, 1},
    {WEIR_DTYPE_Q8_0, 8, 1, {{0, 1}}, 74},
    {WEIR_DTYPE_Q4_0, 2, 1, {{0, 1}}, 4.6},
    {WEIR_DTYPE_Q4_1, 3, 2, {{0, 1}, {2, -7.5}}, 4.6},
    {WEIR_DTYPE_Q5_0, 6, 1, {{0, 1}}, 9.2},
    {WEIR_DTYPE_Q5_1, 7, 2, {{0, 1}, {2, -15.5}}, 9.2},
    {WEIR_DTYPE_Q2_K, 10, 2, {{80, 1}, {82, 1.5}}, 13.9},
    {WEIR_DTYPE_Q3_K, 11, 1, {{108, 1}}, 43},
    {WEIR_DTYPE_Q4_K, 12, 2, {{0, 1}, {2, 7.5}}, 258},
    {WEIR_DTYPE_Q5_K, 13, 2, {{0, 1}, {2, 15.5}}, 527},
    {WEIR_DTYPE_Q6_K, 14, 1, {{208, 1}}, 1370},
    {WEIR_DTYPE_IQ4_NL, 20, 1, {{0, 1}}, 67},
    {WEIR_DTYPE_IQ4_XS, 23, 1, {{0, 1}}, 1246},
    {WEIR_DTYPE_MXFP4, 39, 0, {{0}}, 2.9},
};
#define TYPE_COUNT (sizeof types / sizeof types[0])

static weir_status find_type(const char* name, const synth_type** found) {
    char names[256] = "";
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        const char* known = weir_dtype_describe(types[i].dtype)->name;
        if (strcmp(name, known) == 0) {
            *found = &types[i];
            return WEIR_OK;
        }
        const size_t length = strlen(names);
        snprintf(names + length, sizeof names - length, "%s%s", i > 0 ? ", " : "", known);
    }
    return WEIR_FAIL(WEIR_UNSUPPORTED, "no weights of type \"%s\" can be made up; these can: %s",
                     name, names);
}

static uint64_t next_random(uint64_t* state) { // xorshift64* (Vigna 2016)
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545F4914F6CDD1D);
}

// Uniform with the given root mean square: as good as a normal distribution for a benchmark.
static float next_weight(uint64_t* state) {
    const double unit = (double)(next_random(state) >> 11) / 4503599627370496.0 - 1.0;
    return (float)(unit * DEVIATION * sqrt(3.0));
}

static void fill_plain(weir_dtype dtype, uint64_t* state, uint8_t* bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const float weight = next_weight(state);
        const uint16_t half =
            dtype == WEIR_DTYPE_F16 ? weir_f32_to_f16(weight) : weir_f32_to_bf16(weight);
        if (dtype == WEIR_DTYPE_F32) {
            memcpy(bytes + 4 * i, &weight, 4);
        } else {
            memcpy(bytes + 2 * i, &half, 2);
        }
    }
}

// Random bytes, in which each block gets scales that bring its numbers to the right size.
static void fill_blocks(const synth_type* type, uint64_t* state, uint8_t* bytes, size_t count) {
    const uint32_t block_bytes = weir_dtype_describe(type->dtype)->block_bytes;
    const size_t byte_size = count * block_bytes;
    for (size_t i = 0; i < byte_size; i += sizeof(uint64_t)) {
        const uint64_t random = next_random(state);
        memcpy(bytes + i, &random, byte_size - i < 8 ? byte_size - i : 8);
    }
    const double unit = DEVIATION / type->magnitude;
    for (size_t i = 0; i < count; i++, bytes += block_bytes) {
        for (uint32_t k = 0; k < type->scale_count; k++) {
            const uint16_t scale = weir_f32_to_f16((float)(unit * type->scales[k].factor));
            memcpy(bytes + type->scales[k].byte_offset, &scale, sizeof scale);
        }
        if (type->dtype == WEIR_DTYPE_MXFP4) {
            bytes[0] = (uint8_t)(127 + lround(log2(unit))); // of the nearest power of two
        }
    }
}

static weir_status write_weights(const synth_type* type, uint64_t byte_size, uint64_t* state,
                                 uint8_t* chunk, cli_output* output) {
    const uint32_t block_bytes = weir_dtype_describe(type->dtype)->block_bytes;
    for (uint64_t left = byte_size / block_bytes; left > 0;) {
        const uint64_t most = CHUNK_BYTES / block_bytes;
        const size_t count = (size_t)(left < most ? left : most);
        if (block_bytes <= sizeof(float)) {
            fill_plain(type->dtype, state, chunk, count);
        } else {
            fill_blocks(type, state, chunk, count);
        }
        WEIR_TRY(cli_output_put(output, chunk, block_bytes * count));
        left -= count;
    }
    return gguf_write_padding(output, byte_size);
}

// Norms are ones: what is normalised stays of one size, however deep the model is.
static weir_status write_ones(uint64_t byte_size, cli_output* output) {
    const float one = 1.0f;
    for (uint64_t i = 0; i < byte_size / sizeof one; i++) {
        WEIR_TRY(cli_output_put(output, &one, sizeof one));
    }
    return gguf_write_padding(output, byte_size);
}

// A vocabulary of the right size: made-up words, half of them with a space in front.
static size_t piece_text(uint32_t id, char text[16]) {
    if (id < 3) {
        static const char* const special[] = {"<unk>", "<s>", "</s>"};
        return (size_t)snprintf(text, 16, "%s", special[id]);
    }
    if (id < PIECES_RESERVED) {
        return (size_t)snprintf(text, 16, "<0x%02X>", id - 3);
    }
    uint32_t number = (id - PIECES_RESERVED) / 2;
    size_t length = (size_t)snprintf(text, 16, "%s", id % 2 == 0 ? "\xE2\x96\x81" : "");
    do {
        text[length++] = (char)('a' + number % 26);
        number /= 26;
    } while (number > 0);
    return length;
}

static void write_vocabulary(gguf_writer* writer, uint32_t count) {
    gguf_write_text(writer, "tokenizer.ggml.model", "llama");
    gguf_write_array(writer, "tokenizer.ggml.tokens", WEIR_GGUF_STRING, count);
    for (uint32_t id = 0; id < count; id++) {
        char text[16];
        const size_t length = piece_text(id, text);
        gguf_write_element_text(writer, text, length);
    }
    gguf_write_array(writer, "tokenizer.ggml.scores", WEIR_GGUF_F32, count);
    for (uint32_t id = 0; id < count; id++) {
        const float score = id < PIECES_RESERVED ? 0.0f : -(float)(id - PIECES_RESERVED);
        gguf_write_element(writer, &score, sizeof score);
    }
    gguf_write_array(writer, "tokenizer.ggml.token_type", WEIR_GGUF_I32, count);
    for (uint32_t id = 0; id < count; id++) {
        const int32_t type = id == 0 ? 2 : id < 3 ? 3 : id < PIECES_RESERVED ? 6 : 1;
        gguf_write_element(writer, &type, sizeof type);
    }
    gguf_write_u32(writer, "tokenizer.ggml.bos_token_id", 1);
    gguf_write_u32(writer, "tokenizer.ggml.eos_token_id", 2);
    gguf_write_u32(writer, "tokenizer.ggml.unknown_token_id", 0);
}

static void write_params(gguf_writer* writer, const weir_llama_params* params) {
    gguf_write_text(writer, "general.architecture", "llama");
    gguf_write_text(writer, "general.name", "random weights");
    gguf_write_u32(writer, "llama.block_count", params->blocks);
    gguf_write_u32(writer, "llama.context_length", params->context);
    gguf_write_u32(writer, "llama.embedding_length", params->embedding);
    gguf_write_u32(writer, "llama.feed_forward_length", params->feed_forward);
    gguf_write_u32(writer, "llama.attention.head_count", params->heads);
    gguf_write_u32(writer, "llama.attention.head_count_kv", params->kv_heads);
    gguf_write_f32(writer, "llama.attention.layer_norm_rms_epsilon", params->epsilon);
    gguf_write_u32(writer, "llama.rope.dimension_count", params->rotated);
    gguf_write_f32(writer, "llama.rope.freq_base", params->rope_base);
    gguf_write_u32(writer, "llama.vocab_size", params->vocabulary);
}

// What one run needs; the tensors are the weights of the graph of a pass.
typedef struct synth {
    const synth_options* options;
    weir_llama_params params;
    const synth_type* type;
    const synth_type* embd_type;
    const synth_type* output_type;
    weir_llama_graph pass;
    uint32_t weight_count;
    uint64_t state; // of the random numbers
    gguf_writer writer;
    bool begun; // a file of this name has been opened, and what was there is gone
} synth;

static const synth_type* type_of(const synth* run, const weir_value_info* weight) {
    return strcmp(weight->name, "token_embd.weight") == 0 ? run->embd_type
           : strcmp(weight->name, "output.weight") == 0   ? run->output_type
                                                          : run->type;
}

static weir_status weight_size(const synth* run, const weir_value_info* weight,
                               uint64_t* byte_size) {
    const weir_shape* shape = &weight->layout.shape;
    const synth_type* type = shape->rank == 1 ? &types[0] : type_of(run, weight);
    weir_view layout;
    if (weir_view_layout(type->dtype, shape, &layout) != WEIR_OK) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: %.900s", weight->name, weir_last_error());
    }
    *byte_size = weir_view_byte_length(&layout);
    return WEIR_OK;
}

static bool is_weight(const synth* run, weir_value value) {
    return weir_graph_value_info(run->pass.graph, value)->kind == WEIR_VALUE_WEIGHT;
}

// Lists the tensors of one part, or writes them where `output` is given. Parts hold nearly as many
// tensors each, in the order of the graph: the numbers are those of the undivided file.
static weir_status walk_weights(synth* run, uint32_t part, uint8_t* chunk, cli_output* output) {
    uint64_t index = 0;
    for (weir_value v = 0; v < weir_graph_value_count(run->pass.graph); v++) {
        const weir_value_info* weight = weir_graph_value_info(run->pass.graph, v);
        if (!is_weight(run, v) || index++ * run->options->parts / run->weight_count != part) {
            continue;
        }
        const bool norm = weight->layout.shape.rank == 1;
        const synth_type* type = norm ? &types[0] : type_of(run, weight);
        uint64_t byte_size = 0;
        WEIR_TRY(weight_size(run, weight, &byte_size));
        if (!output) {
            gguf_write_tensor(&run->writer, weight->name, &weight->layout.shape, type->gguf_type,
                              byte_size);
        } else {
            WEIR_TRY(norm ? write_ones(byte_size, output)
                          : write_weights(type, byte_size, &run->state, chunk, output));
        }
    }
    return WEIR_OK;
}

// The first part has the keys of the model; each says its place in the set.
static weir_status collect_part(synth* run, uint32_t part) {
    gguf_writer_free(&run->writer);
    if (part == 0) {
        write_params(&run->writer, &run->params);
        write_vocabulary(&run->writer, run->params.vocabulary);
    }
    if (run->options->parts > 1) {
        gguf_write_u16(&run->writer, "split.no", (uint16_t)part);
        gguf_write_u16(&run->writer, "split.count", (uint16_t)run->options->parts);
        gguf_write_i32(&run->writer, "split.tensors.count", (int32_t)run->weight_count);
    }
    return walk_weights(run, part, NULL, NULL);
}

static weir_status write_file(synth* run, uint32_t part, const char* path) {
    cli_output output;
    WEIR_TRY(cli_output_open(path, &output));
    run->begun = true;
    uint8_t* chunk = malloc(CHUNK_BYTES);
    weir_status status =
        chunk ? gguf_write_head(&run->writer, &output)
              : WEIR_FAIL(WEIR_OUT_OF_MEMORY, "%s: no memory for %u bytes", path, CHUNK_BYTES);
    if (status == WEIR_OK) {
        status = walk_weights(run, part, chunk, &output);
    }
    free(chunk);
    return cli_output_close(&output, status);
}

// The path of a part: that of the options, with the numbers of a set before its ending.
static weir_status name_part(const synth_options* options, uint32_t part, char* path,
                             size_t capacity) {
    const size_t length = strlen(options->path);
    const bool ends = length >= 5 && strcmp(options->path + (length - 5), ".gguf") == 0;
    const int stem = (int)(ends ? length - 5 : length);
    const int written = options->parts == 1
                            ? snprintf(path, capacity, "%s", options->path)
                            : snprintf(path, capacity, "%.*s-%05u-of-%05u.gguf", stem,
                                       options->path, part + 1, options->parts);
    return written >= 0 && (size_t)written < capacity
               ? WEIR_OK
               : WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s: the path is too long", options->path);
}

static weir_status write_part(synth* run, uint32_t part) {
    char path[4096];
    WEIR_TRY(name_part(run->options, part, path, sizeof path));
    WEIR_TRY(collect_part(run, part));
    return write_file(run, part, path);
}

// A set is of use as a whole only: without one part the others go as well, those of an older set
// under the same names with them. Nothing goes where nothing was overwritten yet.
static weir_status write_parts(synth* run) {
    const uint32_t parts = run->options->parts;
    weir_status status = WEIR_OK;
    run->state = run->options->seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    for (uint32_t part = 0; status == WEIR_OK && part < parts; part++) {
        status = write_part(run, part);
    }
    for (uint32_t part = 0; status != WEIR_OK && run->begun && part < parts; part++) {
        char path[4096];
        if (name_part(run->options, part, path, sizeof path) == WEIR_OK) {
            cli_output_remove(path);
        }
    }
    return status;
}

static void override(uint32_t wanted, uint32_t* number) {
    *number = wanted > 0 ? wanted : *number;
}

static weir_status choose_params(const synth_options* options, weir_llama_params* params) {
    const char* name = options->preset ? options->preset : presets[0].name;
    const weir_llama_params* wanted = &options->wanted;
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        if (strcmp(name, presets[i].name) == 0) {
            *params = presets[i].params;
        }
    }
    if (params->blocks == 0) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "no preset \"%s\"; there are: 110m, 1b", name);
    }
    override(wanted->blocks, &params->blocks);
    override(wanted->embedding, &params->embedding);
    override(wanted->feed_forward, &params->feed_forward);
    override(wanted->heads, &params->heads);
    override(wanted->heads, &params->kv_heads); // as many, where nothing else is said
    override(wanted->kv_heads, &params->kv_heads);
    override(wanted->vocabulary, &params->vocabulary);
    override(wanted->context, &params->context);
    params->head_dim = params->embedding / params->heads;
    params->rotated = params->head_dim;
    params->epsilon = 1e-5f;
    params->rope_base = 10000.0f;
    params->rope_scale = 1.0f;
    params->tied_output = wanted->tied_output;
    if (params->vocabulary < PIECES_RESERVED) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "a vocabulary of %u tokens; at least %d are needed",
                         params->vocabulary, PIECES_RESERVED);
    }
    if (params->embedding % params->heads != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "an embedding of %u is not divisible by %u heads",
                         params->embedding, params->heads);
    }
    return weir_llama_params_check(params);
}

static weir_status prepare(synth* run) {
    const synth_options* options = run->options;
    const char* type = options->type ? options->type : "Q8_0";
    WEIR_TRY(find_type(type, &run->type));
    WEIR_TRY(find_type(options->embd_type ? options->embd_type : type, &run->embd_type));
    WEIR_TRY(find_type(options->output_type ? options->output_type : type, &run->output_type));
    WEIR_TRY(choose_params(options, &run->params));
    const weir_llama_graph_desc desc = {
        .params = &run->params, .context = 1, .rows = 1, .outputs = 1};
    WEIR_TRY(weir_llama_graph_build(NULL, &desc, &run->pass));
    for (weir_value v = 0; v < weir_graph_value_count(run->pass.graph); v++) {
        run->weight_count += is_weight(run, v);
    }
    if (options->parts < 1 || options->parts > run->weight_count ||
        options->parts > WEIR_GGUF_PARTS_MAX) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "a set of %u files; expected 1 to %u, one per tensor",
                         options->parts, run->weight_count);
    }
    return collect_part(run, 0); // what is wrong with a tensor shows before a file is written
}

static cli_exit synth_command(const synth_options* options) {
    synth run = {.options = options};
    weir_status status = prepare(&run);
    if (status == WEIR_OK) {
        status = write_parts(&run);
    }
    const cli_exit code = status == WEIR_OK ? CLI_OK : cli_fail(status);
    weir_graph_destroy(run.pass.graph);
    gguf_writer_free(&run.writer);
    return cli_finish(code);
}

int synth_main(int argc, char** argv) {
    synth_options wish = {.seed = 1, .parts = 1};
    weir_llama_params* wanted = &wish.wanted;
    const cli_option options[] = {
        {"preset", 0, CLI_TEXT, &wish.preset},
        {"type", 0, CLI_TEXT, &wish.type},
        {"embd-type", 0, CLI_TEXT, &wish.embd_type},
        {"output-type", 0, CLI_TEXT, &wish.output_type},
        {"blocks", 0, CLI_U32, &wanted->blocks},
        {"embedding", 0, CLI_U32, &wanted->embedding},
        {"heads", 0, CLI_U32, &wanted->heads},
        {"kv-heads", 0, CLI_U32, &wanted->kv_heads},
        {"feed-forward", 0, CLI_U32, &wanted->feed_forward},
        {"vocabulary", 0, CLI_U32, &wanted->vocabulary},
        {"context", 0, CLI_U32, &wanted->context},
        {"tied", 0, CLI_FLAG, &wanted->tied_output},
        {"split", 0, CLI_U32, &wish.parts},
        {"seed", 0, CLI_U64, &wish.seed},
    };
    const cli_exit code =
        cli_parse(argc, argv, usage, options, sizeof options / sizeof *options, &wish.path);
    if (code == CLI_GO_ON && wish.parts > 1 && cli_is_output_stream(wish.path)) {
        return cli_usage(argv[0], "--split: standard output takes one file");
    }
    return code == CLI_GO_ON ? synth_command(&wish) : code;
}
