// weir run: prompt in, text out.
#include <string.h>
#include <weir-llm/generate.h>

#include "cli.h"
#include "json.h"
#include "output.h"
#include "terminal.h"
#include "trace.h"

static const char usage[] =
    "usage: weir run MODEL [OPTION...]\n\n"
    "Continues a text. The text goes to standard output as it is made, the prompt first.\n\n"
    "  -p, --prompt TEXT  what the text begins with (default: nothing)\n"
    "      --ids FILE     take the prompt as token ids, separated by white space; - for stdin\n"
    "  -n, --tokens N     most tokens to make (default: 256; 0: until the context is full)\n"
    "      --temp T       draw with this temperature (default: 0, always the likeliest token)\n"
    "      --top-p P      draw from the likeliest tokens that make up P (default: 0.95)\n"
    "      --top-k K      draw from the K likeliest tokens (default: 0, all)\n"
    "      --min-p P      draw from tokens of at least P times the probability of the likeliest\n"
    "                     (default: 0, all)\n"
    "      --repeat-penalty P  make tokens among the last ones less likely (default: 1, not)\n"
    "      --repeat-window N   how many of the last tokens (default: 64)\n"
    "      --seed S       of the random numbers (default: 0)\n"
    "      --ignore-end   go on where the model ends the text\n"
    "      --stop TEXT    end before this text\n"
    "      --device NAME  what to run on, see weir devices (default: cpu)\n"
    "      --threads N    worker threads (default: one per core)\n"
    "      --context N    most tokens of prompt and text (default: that of the model, at most "
    "4096)\n"
    "      --rows N       most tokens of one prefill pass (default: 128)\n"
    "      --kv TYPE      of keys and values: f32, f16, bf16 or q8_0 (default: f16 where the\n"
    "                     device can, else f32)\n"
    "      --plan FILE    take the plans of weir plan MODEL -o FILE, made with the same "
    "--context,\n"
    "                     --rows and --kv\n"
    "      --trace FILE   write when each worker ran which tile, for Perfetto or chrome://tracing\n"
    "      --trace-passes N  of the last N passes (default: 4)\n" CLI_LIMITS_USAGE
    "      --stats        print figures to standard error at the end\n"
    "      --json         print one object {prompt_ids, ids, text, stats} instead of the text\n";

typedef struct run_options {
    const char* model;
    const char* prompt;
    const char* ids;
    uint32_t tokens;
    weir_sampler_options sampler;
    bool ignore_end;
    const char* stop;
    const char* device;
    uint32_t threads;
    uint32_t context;
    uint32_t rows;
    weir_dtype kv;
    const char* plan;
    const char* trace;
    uint32_t trace_passes;
    weir_limits limits;
    bool stats;
    bool json;
} run_options;

typedef struct run_state {
    const run_options* options;
    cli_model opened;
    weir_context* context;
    weir_sampler* sampler;
    trace* trace; // NULL without --trace
    weir_ids prompt;
    weir_ids made;
    cli_bytes text;     // of prompt and made; kept for JSON only
    terminal out;       // standard output
    bool wrote_text;    // to it
    weir_status status; // of `emit`
    weir_generate_stats stats;
} run_state;

static volatile sig_atomic_t interrupted = 0;

// A second signal ends the program at once: the handler is there only for the first.
static void interrupt(int signal_number) {
    (void)signal_number;
    interrupted = 1;
}

// Control tokens add no bytes.
static bool write_text(run_state* run, const char* bytes, size_t length) {
    if (length == 0) {
        return true;
    }
    if (run->options->json) {
        run->status = cli_bytes_append(&run->text, bytes, length);
        return run->status == WEIR_OK;
    }
    run->wrote_text = true;
    return terminal_write(&run->out, bytes, length);
}

// Called for each token; the first failure is kept, since the library only hears "no".
static bool emit(void* context, uint32_t id, const char* bytes, size_t length) {
    run_state* run = context;
    if (id != WEIR_TOKEN_NONE) { // else it is the rest of what was held back
        run->status = weir_ids_push(&run->made, id);
    }
    return run->status == WEIR_OK && write_text(run, bytes, length);
}

// Writes the prompt as the text that its tokens stand for.
static bool write_prompt(run_state* run) {
    const weir_tokenizer* tokenizer = run->opened.tokenizer;
    const weir_ids* ids = &run->prompt;
    const size_t length = weir_tokenizer_decode(tokenizer, ids->items, ids->count, NULL, 0);
    void* text = NULL;
    run->status = weir_alloc(NULL, length + 1, 1, &text);
    if (run->status != WEIR_OK) {
        return false;
    }
    weir_tokenizer_decode(tokenizer, ids->items, ids->count, text, length + 1);
    const bool written = write_text(run, text, length);
    weir_free(NULL, text, length + 1, 1);
    return written;
}

static weir_status read_prompt(run_state* run) {
    const run_options* options = run->options;
    const weir_tokenizer* tokenizer = run->opened.tokenizer;
    if (options->ids) {
        return cli_read_ids(options->ids, weir_tokenizer_size(tokenizer), &run->prompt);
    }
    const char* text = options->prompt ? options->prompt : "";
    return weir_tokenizer_encode(tokenizer, text, strlen(text), WEIR_TOKENIZE_BOS, &run->prompt);
}

static weir_status make_context(run_state* run) {
    const run_options* options = run->options;
    weir_plan_file* plans = NULL;
    if (options->plan) {
        WEIR_TRY(weir_plan_file_open(NULL, options->plan, &plans));
    }
    const weir_context_options context = {.context_length = options->context,
                                          .prefill_rows = options->rows,
                                          .kv_dtype = options->kv,
                                          .plans = plans};
    const weir_status status =
        weir_context_create(NULL, run->opened.model, &context, &run->context);
    weir_plan_file_destroy(plans);
    return status;
}

// Everything that can fail before the first byte of output.
static weir_status prepare(run_state* run) {
    const run_options* options = run->options;
    WEIR_TRY(cli_model_open(options->model, options->device, options->threads, &run->opened));
    WEIR_TRY(read_prompt(run));
    WEIR_TRY(weir_sampler_create(NULL, &options->sampler,
                                 weir_tokenizer_size(run->opened.tokenizer), &run->sampler));
    WEIR_TRY(make_context(run));
    if (run->prompt.count > weir_context_length(run->context)) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                         "the prompt has %zu tokens; the context has room for %u",
                         run->prompt.count, weir_context_length(run->context));
    }
    return options->trace
               ? trace_start(run->context, options->trace, options->trace_passes, &run->trace)
               : WEIR_OK;
}

// The handler is installed when there is something to interrupt: before that the signal ends the
// program as usual.
static weir_status generate(run_state* run) {
    const char* stop = run->options->stop;
    const weir_text stop_text = {stop, stop ? strlen(stop) : 0};
    const weir_generate_options options = {.max_tokens = run->options->tokens,
                                           .ignore_end = run->options->ignore_end,
                                           .stop = &interrupted,
                                           .emit = emit,
                                           .context = run,
                                           .stop_texts = &stop_text,
                                           .stop_text_count = stop != NULL};
    struct sigaction action = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    if (!write_prompt(run)) {
        return run->status;
    }
    const weir_status status =
        weir_generate(run->context, run->opened.tokenizer, run->sampler, run->prompt.items,
                      run->prompt.count, &options, &run->stats);
    if (status != WEIR_OK) {
        return WEIR_FAIL(status, "%s: %s", run->options->model, weir_last_error());
    }
    return run->status;
}

static const char* end_name(const run_state* run) {
    return weir_generate_end_name(run->stats.end);
}

static void print_json(const run_state* run) {
    const weir_counters* prefill = weir_context_counters(run->context, WEIR_PHASE_PREFILL);
    const weir_counters* decode = weir_context_counters(run->context, WEIR_PHASE_DECODE);
    const weir_generate_stats* stats = &run->stats;
    json writer = {.file = stdout};
    json_begin(&writer, NULL, '{');
    json_begin(&writer, "prompt_ids", '[');
    for (size_t i = 0; i < run->prompt.count; i++) {
        json_u64(&writer, NULL, run->prompt.items[i]);
    }
    json_end(&writer, ']');
    json_begin(&writer, "ids", '[');
    for (size_t i = 0; i < run->made.count; i++) {
        json_u64(&writer, NULL, run->made.items[i]);
    }
    json_end(&writer, ']');
    json_bytes(&writer, "text", run->text.items, run->text.count);
    json_begin(&writer, "stats", '{');
    json_text(&writer, "end", end_name(run));
    json_u64(&writer, "prompt_tokens", stats->prompt_tokens);
    json_u64(&writer, "generated_tokens", stats->generated_tokens);
    json_u64(&writer, "prefill_ns", stats->prefill_ns);
    json_u64(&writer, "decode_ns", stats->decode_ns);
    json_u64(&writer, "submits", prefill->submits + decode->submits);
    json_u64(&writer, "host_waits", prefill->host_waits + decode->host_waits);
    json_u64(&writer, "waits", prefill->waits + decode->waits);
    json_u64(&writer, "waits_elided", prefill->waits_elided + decode->waits_elided);
    json_u64(&writer, "threads", weir_device_thread_count(run->opened.device));
    json_end(&writer, '}');
    json_end(&writer, '}');
    putchar('\n');
}

static void print_stats(const run_state* run) {
    const weir_generate_stats* stats = &run->stats;
    const weir_schedule* schedule = weir_context_schedule(run->context, WEIR_PHASE_DECODE);
    const weir_schedule_report* report = weir_schedule_report_of(schedule);
    fprintf(stderr, "prompt    %u tokens in %.3f ms, %.1f per second\n", stats->prompt_tokens,
            (double)stats->prefill_ns * 1e-6, cli_rate(stats->prompt_tokens, stats->prefill_ns));
    fprintf(stderr, "text      %u tokens in %.3f ms, %.1f per second; ended by: %s\n",
            stats->generated_tokens, (double)stats->decode_ns * 1e-6,
            cli_rate(stats->generated_tokens, stats->decode_ns), end_name(run));
    fprintf(stderr, "a token   %u dispatches, %u waits kept, %u elided, 1 submit, 1 host wait\n",
            report->dispatches, report->waits, report->waits_elided);
    fprintf(stderr, "cache     keys and values in %s\n",
            weir_dtype_describe(weir_context_kv_dtype(run->context))->name);
    fprintf(stderr, "threads   %u\n", weir_device_thread_count(run->opened.device));
}

// Text that was made stays on standard output also when generation failed later: the error is
// about what is missing. A run that was interrupted says how far it came.
static cli_exit report(run_state* run, weir_status status) {
    if (run->options->json && status == WEIR_OK) {
        print_json(run);
    } else if (!run->options->json && (status == WEIR_OK || run->wrote_text)) {
        terminal_finish(&run->out);
        putchar('\n');
    }
    const cli_exit code = cli_finish(status == WEIR_OK ? CLI_OK : cli_fail(status));
    const bool stopped = code == CLI_OK && run->stats.end == WEIR_END_STOP;
    if (run->options->stats && code == CLI_OK) {
        print_stats(run);
    } else if (stopped) {
        fprintf(stderr, "weir: interrupted after %u tokens\n", run->stats.generated_tokens);
    }
    return stopped ? CLI_INTERRUPTED : code;
}

static cli_exit run_command(const run_options* options) {
    run_state run = {.options = options, .opened.limits = options->limits, .out.file = stdout};
    weir_status status = prepare(&run);
    cli_exit code = CLI_ERROR;
    if (status == WEIR_OK) {
        status = generate(&run);
        if (status == WEIR_OK && run.trace) {
            status = trace_write(run.trace);
        }
        code = report(&run, status);
    } else {
        code = cli_fail(status);
    }
    trace_free(run.trace);
    weir_context_destroy(run.context);
    weir_sampler_destroy(run.sampler);
    weir_ids_free(&run.prompt);
    weir_ids_free(&run.made);
    cli_bytes_free(&run.text);
    cli_model_close(&run.opened);
    return code;
}

static cli_exit check_run_options(const char* command, const run_options* run) {
    if (run->prompt && run->ids) {
        return cli_usage(command, "--prompt and --ids exclude each other");
    }
    if (cli_is_output_stream(run->trace)) {
        return cli_usage(command, "--trace: standard output takes the text");
    }
    if (run->sampler.temperature < 0.0f) {
        return cli_usage(command, "--temp must not be negative");
    }
    if (!(run->sampler.top_p > 0.0f && run->sampler.top_p <= 1.0f)) {
        return cli_usage(command, "--top-p must be above 0 and at most 1");
    }
    if (!(run->sampler.min_p >= 0.0f && run->sampler.min_p <= 1.0f)) {
        return cli_usage(command, "--min-p must be from 0 to 1");
    }
    if (!(run->sampler.repetition_penalty > 0.0f)) {
        return cli_usage(command, "--repeat-penalty must be above 0");
    }
    if (run->stop && (run->stop[0] == '\0' || strlen(run->stop) > WEIR_STOP_BYTES_MAX)) {
        return cli_usage(command, "--stop: expected 1 to %d bytes", WEIR_STOP_BYTES_MAX);
    }
    if (run->trace_passes < 1 || run->trace_passes > TRACE_PASSES_MAX) {
        return cli_usage(command, "--trace-passes: expected 1 to %d", TRACE_PASSES_MAX);
    }
    return CLI_GO_ON;
}

int run_main(int argc, char** argv) {
    run_options run = {.tokens = 256,
                       .sampler = {.top_p = 0.95f, .repetition_penalty = 1.0f},
                       .trace_passes = TRACE_PASSES_DEFAULT};
    const cli_option options[] = {
        {"prompt", 'p', CLI_TEXT, &run.prompt},
        {"ids", 0, CLI_TEXT, &run.ids},
        {"tokens", 'n', CLI_U32, &run.tokens},
        {"temp", 0, CLI_FLOAT, &run.sampler.temperature},
        {"top-p", 0, CLI_FLOAT, &run.sampler.top_p},
        {"top-k", 0, CLI_U32, &run.sampler.top_k},
        {"min-p", 0, CLI_FLOAT, &run.sampler.min_p},
        {"repeat-penalty", 0, CLI_FLOAT, &run.sampler.repetition_penalty},
        {"repeat-window", 0, CLI_U32, &run.sampler.repetition_window},
        {"seed", 0, CLI_U64, &run.sampler.seed},
        {"ignore-end", 0, CLI_FLAG, &run.ignore_end},
        {"stop", 0, CLI_TEXT, &run.stop},
        {"device", 0, CLI_TEXT, &run.device},
        {"threads", 0, CLI_U32, &run.threads},
        {"context", 0, CLI_U32, &run.context},
        {"rows", 0, CLI_U32, &run.rows},
        {"kv", 0, CLI_KV, &run.kv},
        {"plan", 0, CLI_TEXT, &run.plan},
        {"trace", 0, CLI_TEXT, &run.trace},
        {"trace-passes", 0, CLI_U32, &run.trace_passes},
        CLI_LIMITS(&run.limits),
        {"stats", 0, CLI_FLAG, &run.stats},
        {"json", 0, CLI_FLAG, &run.json},
    };
    cli_exit code =
        cli_parse(argc, argv, usage, options, sizeof options / sizeof *options, &run.model);
    if (code != CLI_GO_ON) {
        return code;
    }
    code = check_run_options(argv[0], &run);
    return code == CLI_GO_ON ? run_command(&run) : code;
}
