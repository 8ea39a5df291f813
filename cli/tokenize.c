// weir tokenize: text in, ids out, in the form that `weir eval --ids` reads.
#include <string.h>
#include <weir/fault.h>

#include "cli.h"
#include "json.h"

static const char usage[] =
    "usage: weir tokenize MODEL [OPTION...]\n\n"
    "Prints the token ids of a text; a file that holds a vocabulary and no weights is enough.\n\n"
    "  -p, --prompt TEXT  the text (default: standard input)\n"
    "      --file FILE    read the text from a file\n"
    "      --no-bos       do not begin with the BOS token\n"
    "      --special      recognise control tokens that are written in the text\n"
    "      --max-memory SIZE  refuse a vocabulary that needs more, as in 512M (default: the\n"
    "                     memory of this machine)\n"
    "      --json         print one object {ids, pieces}\n";

typedef struct tokenize_options {
    const char* model;
    const char* prompt;
    const char* file;
    bool bos;
    bool special;
    bool json;
    weir_limits limits;
} tokenize_options;

typedef struct tokenize_state {
    const tokenize_options* options;
    weir_device* device;
    weir_storage* mapping;
    weir_gguf* gguf;
    weir_tokenizer* tokenizer;
    cli_bytes text;
    weir_ids ids;
} tokenize_state;

// Not a cli_model: files with a vocabulary alone are no models.
static weir_status open_vocabulary(tokenize_state* state) {
    const char* path = state->options->model;
    WEIR_TRY(weir_fault_handler_install());
    WEIR_TRY(
        weir_device_create(&(weir_device_desc){.name = "cpu", .thread_count = 1}, &state->device));
    WEIR_TRY(
        weir_storage_map(state->device, &(weir_storage_map_desc){.path = path}, &state->mapping));
    WEIR_TRY(weir_gguf_parse(NULL, weir_storage_host_pointer(state->mapping),
                             weir_storage_byte_size(state->mapping), path, &state->gguf));
    WEIR_TRY(cli_vocabulary_check(state->gguf, weir_tokenizer_bytes(state->gguf),
                                  weir_limits_resolve(&state->options->limits).memory_bytes));
    WEIR_TRY(weir_tokenizer_create(NULL, state->gguf, &state->tokenizer));
    return weir_storage_check(state->mapping); // a file that was cut reads as zeros
}

static weir_status encode(tokenize_state* state) {
    const tokenize_options* options = state->options;
    WEIR_TRY(open_vocabulary(state));
    if (options->prompt) {
        WEIR_TRY(cli_bytes_append(&state->text, options->prompt, strlen(options->prompt)));
    } else {
        WEIR_TRY(cli_read_file(options->file ? options->file : "-", &state->text));
    }
    const unsigned flags =
        (options->bos ? WEIR_TOKENIZE_BOS : 0u) | (options->special ? WEIR_TOKENIZE_SPECIAL : 0u);
    return weir_tokenizer_encode(state->tokenizer, state->text.items, state->text.count, flags,
                                 &state->ids);
}

static void print_ids(const tokenize_state* state) {
    for (size_t i = 0; i < state->ids.count; i++) {
        printf("%s%u", i > 0 ? " " : "", state->ids.items[i]);
    }
    putchar('\n');
}

static void print_json(const tokenize_state* state) {
    json writer = {.file = stdout};
    json_begin(&writer, NULL, '{');
    json_begin(&writer, "ids", '[');
    for (size_t i = 0; i < state->ids.count; i++) {
        json_u64(&writer, NULL, state->ids.items[i]);
    }
    json_end(&writer, ']');
    json_begin(&writer, "pieces", '[');
    for (size_t i = 0; i < state->ids.count; i++) {
        const weir_text piece = weir_tokenizer_piece(state->tokenizer, state->ids.items[i]);
        json_bytes(&writer, NULL, piece.bytes, (size_t)piece.length);
    }
    json_end(&writer, ']');
    json_end(&writer, '}');
    putchar('\n');
}

static cli_exit tokenize_command(const tokenize_options* options) {
    tokenize_state state = {.options = options};
    const weir_status status = encode(&state);
    cli_exit code = CLI_OK;
    if (status != WEIR_OK) {
        code = cli_fail(status);
    } else if (options->json) {
        print_json(&state);
    } else {
        print_ids(&state);
    }
    weir_ids_free(&state.ids);
    cli_bytes_free(&state.text);
    weir_tokenizer_destroy(state.tokenizer);
    weir_gguf_destroy(state.gguf);
    weir_storage_release(state.mapping);
    weir_device_destroy(state.device);
    return cli_finish(code);
}

int tokenize_main(int argc, char** argv) {
    tokenize_options tokenize = {.bos = true};
    const cli_option options[] = {
        {"prompt", 'p', CLI_TEXT, &tokenize.prompt},
        {"file", 0, CLI_TEXT, &tokenize.file},
        {"no-bos", 0, CLI_UNSET, &tokenize.bos},
        {"special", 0, CLI_FLAG, &tokenize.special},
        {"json", 0, CLI_FLAG, &tokenize.json},
        {"max-memory", 0, CLI_BYTES, &tokenize.limits.memory_bytes},
    };
    const cli_exit code =
        cli_parse(argc, argv, usage, options, sizeof options / sizeof *options, &tokenize.model);
    if (code != CLI_GO_ON) {
        return code;
    }
    if (tokenize.prompt && tokenize.file) {
        return cli_usage(argv[0], "--prompt and --file exclude each other");
    }
    return tokenize_command(&tokenize);
}
