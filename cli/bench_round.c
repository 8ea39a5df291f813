// One case in one round, from opening the model to closing it.
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

// What is open during a round.
typedef struct bench_run {
    const bench_options* options;
    bench_case* c;
    uint32_t round;
    cli_model opened;
    weir_context* context;
    bench_ceiling* ceiling;
    double rates[2]; // of reading, before and after
} bench_run;

static void keep(const bench_run* run, uint32_t measure, double sample) {
    run->c->samples[measure][run->round] = sample;
}

// Lets the high-water mark of the process begin anew (proc(5), clear_refs). Where that is not
// allowed the mark is not this case's alone, and nothing is reported.
static bool reset_peak(void) {
    const int file = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    const bool written = file >= 0 && write(file, "5", 1) == 1;
    if (file >= 0) {
        close(file);
    }
    return written;
}

// MiB that were resident at most; negative where the system does not say.
static double read_peak(void) {
    FILE* file = fopen("/proc/self/status", "re");
    char line[256];
    unsigned long long kib = 0;
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        found = sscanf(line, "VmHWM: %llu kB", &kib) == 1;
    }
    if (file) {
        fclose(file);
    }
    return found ? (double)kib / 1024.0 : -1.0;
}

// Any tokens do, as long as they differ: what a pass costs does not depend on them.
static uint32_t nth_token(const bench_run* run, uint32_t n) {
    return (uint32_t)(n * UINT64_C(2654435761) % weir_tokenizer_size(run->opened.tokenizer));
}

static weir_status feed(const bench_run* run, uint32_t first, uint32_t count) {
    uint32_t* ids = malloc(count * sizeof *ids);
    if (!ids) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "no memory for %u tokens", count);
    }
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = nth_token(run, first + i);
    }
    // All at once: how long passes are is up to the context.
    const weir_status status = weir_context_feed(run->context, ids, count, WEIR_OUTPUT_LAST);
    free(ids);
    return status;
}

static weir_status time_prompt(const bench_run* run, uint32_t length, double* rate) {
    WEIR_TRY(weir_context_rewind(run->context, 0));
    const uint64_t begin = cli_now();
    WEIR_TRY(feed(run, 0, length));
    *rate = cli_rate(length, cli_now() - begin);
    return WEIR_OK;
}

static weir_status time_decode(const bench_run* run, double* rate) {
    WEIR_TRY(weir_context_rewind(run->context, 0));
    const uint64_t begin = cli_now();
    for (uint32_t i = 0; i < run->options->tokens; i++) {
        WEIR_TRY(feed(run, i, 1));
    }
    *rate = cli_rate(run->options->tokens, cli_now() - begin);
    return WEIR_OK;
}

static uint32_t longest_text(const bench_options* options) {
    uint32_t longest = options->tokens;
    for (uint32_t i = 0; i < options->prompt_count; i++) {
        longest = options->prompts[i] > longest ? options->prompts[i] : longest;
    }
    return longest;
}

// The path of a user: everything that has to be done before the first token is in these times.
static weir_status open_model(bench_run* run) {
    const bench_options* options = run->options;
    const uint64_t begin = cli_now();
    WEIR_TRY(cli_model_open(run->c->model, run->c->device, run->c->threads, &run->opened));
    const weir_context_options context = {.context_length = longest_text(options),
                                          .prefill_rows = options->rows,
                                          .kv_dtype = run->c->kv};
    WEIR_TRY(weir_context_create(NULL, run->opened.model, &context, &run->context));
    keep(run, BENCH_READY, (double)(cli_now() - begin) * 1e-6);
    WEIR_TRY(feed(run, 0, 1));
    keep(run, BENCH_FIRST_TOKEN, (double)(cli_now() - begin) * 1e-6);
    return WEIR_OK;
}

// Of the cache a token reads the rows before it and its own: on average those of half the text.
static weir_status describe(const bench_run* run) {
    bench_case* c = run->c;
    weir_view slot;
    WEIR_TRY(weir_state_view(weir_context_cache(run->context), 0, &slot));
    const uint64_t row_bytes =
        (uint64_t)slot.strides[0] * 2 * weir_model_params(run->opened.model)->blocks;
    c->bytes_per_token =
        bench_ceiling_bytes(run->ceiling) + row_bytes * (run->options->tokens + 1) / 2;
    c->by_copies = bench_ceiling_copies(run->ceiling);
    c->kv = weir_context_kv_dtype(run->context);
    c->threads = weir_device_thread_count(run->opened.device);
    c->waits =
        weir_schedule_report_of(weir_context_schedule(run->context, WEIR_PHASE_DECODE))->waits;
    return WEIR_OK;
}

static weir_status measure_speed(bench_run* run) {
    const bench_options* options = run->options;
    double rate = 0.0;
    WEIR_TRY(bench_ceiling_run(run->ceiling, &run->rates[0]));
    for (uint32_t i = 0; i < options->prompt_count; i++) {
        WEIR_TRY(time_prompt(run, options->prompts[i], &rate));
        keep(run, BENCH_PROMPTS + i, rate);
    }
    WEIR_TRY(time_decode(run, &rate));
    keep(run, BENCH_DECODE, rate);
    WEIR_TRY(bench_ceiling_run(run->ceiling, &run->rates[1]));
    const double ceiling = (run->rates[0] + run->rates[1]) / 2;
    keep(run, BENCH_CEILING, ceiling * 1e-9);
    keep(run, BENCH_SHARE, rate * (double)run->c->bytes_per_token * 100.0 / ceiling);
    return WEIR_OK;
}

// The first pass of each kind is not timed: it takes the pages of the file into the process.
static weir_status measure(bench_run* run) {
    double ignored = 0.0;
    const bool counts = reset_peak();
    WEIR_TRY(open_model(run));
    WEIR_TRY(time_prompt(run, longest_text(run->options), &ignored));
    keep(run, BENCH_PEAK, counts ? read_peak() : -1.0);
    WEIR_TRY(bench_ceiling_create(run->opened.model, &run->ceiling));
    WEIR_TRY(describe(run));
    return measure_speed(run);
}

weir_status bench_round(const bench_options* options, bench_case* c, uint32_t round) {
    bench_run run = {.options = options, .c = c, .round = round};
    const weir_status status = measure(&run);
    bench_ceiling_free(run.ceiling);
    weir_context_destroy(run.context);
    cli_model_close(&run.opened);
    return status;
}
