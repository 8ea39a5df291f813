// weir eval: teacher forcing over given tokens.
#include <math.h>
#include <string.h>
#include <weir-llm/context.h>

#include "cli.h"
#include "json.h"
#include "output.h"

static const char usage[] =
    "usage: weir eval MODEL --ids FILE [OPTION...]\n\n"
    "Feeds the given tokens and prints the mean negative log-likelihood of each but the first.\n\n"
    "      --ids FILE     token ids, separated by white space, BOS included; - for stdin\n"
    "      --logits FILE  write the logits that follow each token: float32, little-endian,\n"
    "                     one row of the size of the vocabulary per token;\n"
    "                     - for standard output, alone\n"
    "      --device NAME  what to run on, see weir devices (default: cpu)\n"
    "      --threads N    worker threads (default: one per core)\n"
    "      --kv TYPE      of keys and values: f32, f16, bf16 or q8_0 (default: f16 where the\n"
    "                     device can, else f32)\n" CLI_LIMITS_USAGE
    "      --json         print one object {nll, count}\n";

typedef struct eval_options {
    const char* model;
    const char* ids;
    const char* logits;
    const char* device;
    uint32_t threads;
    weir_limits limits;
    weir_dtype kv;
    bool json;
} eval_options;

typedef struct eval_state {
    const eval_options* options;
    cli_model opened;
    weir_context* context;
    weir_ids ids;
    cli_output logits;
    double sum; // of the negative log-likelihoods
} eval_state;

// -log softmax(logits)[target], in double: the sum over the vocabulary loses nothing that counts.
static double negative_log(const float* logits, uint32_t count, uint32_t target) {
    float largest = -INFINITY;
    for (uint32_t i = 0; i < count; i++) {
        largest = fmaxf(largest, logits[i]);
    }
    double sum = 0.0;
    for (uint32_t i = 0; i < count; i++) {
        sum += exp((double)logits[i] - (double)largest);
    }
    return log(sum) + (double)largest - (double)logits[target];
}

// The logits of one position: written where asked for, and scored against the token that follows.
static weir_status take_row(eval_state* eval, size_t position, const float* logits) {
    const uint32_t count = weir_tokenizer_size(eval->opened.tokenizer);
    if (eval->logits.file) {
        WEIR_TRY(cli_output_put(&eval->logits, logits, count * sizeof *logits));
    }
    if (position + 1 < eval->ids.count) {
        const double nll = negative_log(logits, count, eval->ids.items[position + 1]);
        if (!isfinite(nll)) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                             "%s: the logits after token %zu give no finite likelihood",
                             eval->options->model, position);
        }
        eval->sum += nll;
    }
    return WEIR_OK;
}

// As many rows per pass as the context takes; all of their logits are wanted.
static weir_status feed_all(eval_state* eval) {
    const size_t pass_rows = weir_context_rows(eval->context);
    for (size_t fed = 0; fed < eval->ids.count;) {
        const size_t left = eval->ids.count - fed;
        const size_t rows = left < pass_rows ? left : pass_rows;
        WEIR_TRY(weir_context_feed(eval->context, eval->ids.items + fed, rows, WEIR_OUTPUT_ALL));
        for (size_t row = 0; row < rows; row++) {
            WEIR_TRY(take_row(eval, fed + row, weir_context_logits(eval->context, row)));
        }
        fed += rows;
    }
    return WEIR_OK;
}

// The context is as long as the tokens: a longer cache would only cost memory. The file of logits
// is opened before any work is done, so that a wrong path fails at once.
static weir_status prepare(eval_state* eval) {
    const eval_options* options = eval->options;
    WEIR_TRY(cli_model_open(options->model, options->device, options->threads, &eval->opened));
    WEIR_TRY(cli_read_ids(options->ids, weir_tokenizer_size(eval->opened.tokenizer), &eval->ids));
    const uint32_t limit = weir_model_params(eval->opened.model)->context;
    if (eval->ids.count > limit) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s: %zu token ids; the context of the model is %u",
                         options->ids, eval->ids.count, limit);
    }
    const weir_context_options context = {
        .context_length = (uint32_t)eval->ids.count, .output_all = true, .kv_dtype = options->kv};
    WEIR_TRY(weir_context_create(NULL, eval->opened.model, &context, &eval->context));
    return options->logits ? cli_output_open(options->logits, &eval->logits) : WEIR_OK;
}

static void print_result(const eval_state* eval) {
    const size_t count = eval->ids.count - 1;
    const double mean = count > 0 ? eval->sum / (double)count : NAN;
    if (eval->options->json) {
        json writer = {.file = stdout};
        json_begin(&writer, NULL, '{');
        json_f64(&writer, "nll", mean);
        json_u64(&writer, "count", count);
        json_end(&writer, '}');
        putchar('\n');
    } else if (count > 0) {
        printf("mean negative log-likelihood %.9g over %zu tokens\n", mean, count);
    } else {
        printf("one token: nothing to predict\n");
    }
}

static cli_exit eval_command(const eval_options* options) {
    eval_state eval = {.options = options, .opened.limits = options->limits};
    weir_status status = prepare(&eval);
    if (status == WEIR_OK) {
        status = feed_all(&eval);
    }
    status = cli_output_close(&eval.logits, status);
    const cli_exit code = status == WEIR_OK ? CLI_OK : cli_fail(status);
    if (status == WEIR_OK && !cli_is_output_stream(options->logits)) {
        print_result(&eval);
    }
    weir_context_destroy(eval.context);
    weir_ids_free(&eval.ids);
    cli_model_close(&eval.opened);
    return cli_finish(code);
}

int eval_main(int argc, char** argv) {
    eval_options eval = {0};
    const cli_option options[] = {
        {"ids", 0, CLI_TEXT, &eval.ids},        {"logits", 0, CLI_TEXT, &eval.logits},
        {"device", 0, CLI_TEXT, &eval.device},  {"kv", 0, CLI_KV, &eval.kv},
        {"threads", 0, CLI_U32, &eval.threads}, CLI_LIMITS(&eval.limits),
        {"json", 0, CLI_FLAG, &eval.json},
    };
    const cli_exit code =
        cli_parse(argc, argv, usage, options, sizeof options / sizeof *options, &eval.model);
    if (code != CLI_GO_ON) {
        return code;
    }
    if (eval.json && cli_is_output_stream(eval.logits)) {
        return cli_usage(argv[0], "standard output takes one of --logits - and --json");
    }
    return eval.ids ? eval_command(&eval) : cli_usage(argv[0], "--ids is needed");
}
