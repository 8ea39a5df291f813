// The results of weir bench: one table for a reader, one with a row per figure for programs.
#include <math.h>
#include <string.h>

#include "bench.h"
#include "json.h"

#define MEASURE_NAME_MAX 32

// What stands for one measure of one case: the median of the rounds, their ends.
typedef struct bench_figure {
    double median, low, high; // NAN where it could not be measured
} bench_figure;

static const struct {
    const char* name;
    const char* unit;
} measures[BENCH_PROMPTS] = {
    [BENCH_DECODE] = {"decode", "tokens/s"},     [BENCH_SHARE] = {"share", "%"},
    [BENCH_CEILING] = {"ceiling", "GB/s"},       [BENCH_READY] = {"ready", "ms"},
    [BENCH_FIRST_TOKEN] = {"first_token", "ms"}, [BENCH_PEAK] = {"peak_memory", "MiB"},
};

static const char* measure_unit(uint32_t measure) {
    return measure < BENCH_PROMPTS ? measures[measure].unit : "tokens/s";
}

static const char* measure_name(const bench_options* options, uint32_t measure, char* name) {
    if (measure < BENCH_PROMPTS) {
        return measures[measure].name;
    }
    snprintf(name, MEASURE_NAME_MAX, "prefill_%u", options->prompts[measure - BENCH_PROMPTS]);
    return name;
}

static uint32_t measure_count(const bench_options* options) {
    return BENCH_PROMPTS + options->prompt_count;
}

// Puts the samples in order.
static bench_figure figure_of(const bench_options* options, bench_case* c, uint32_t measure) {
    double* samples = c->samples[measure];
    const double median = bench_median(samples, options->rounds);
    const double low = samples[0];
    if (low < 0) {
        return (bench_figure){NAN, NAN, NAN};
    }
    return (bench_figure){median, low, samples[options->rounds - 1]};
}

static const char* base_name(const char* path) {
    const char* slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

// The median, and how far the rounds are from it at most.
static void print_cell(bench_figure figure, int decimals) {
    if (isnan(figure.median)) {
        printf(" %14s", "-");
        return;
    }
    const double off = fmax(figure.high - figure.median, figure.median - figure.low);
    printf(" %9.*f ±%2.0f%%", decimals, figure.median,
           figure.median > 0 ? fmin(off * 100.0 / figure.median, 99.0) : 0.0);
}

static const char* kv_name(const bench_case* c) {
    return weir_dtype_describe(c->kv)->name;
}

static int longest_name(const bench_case* cases, size_t count) {
    size_t longest = strlen("model");
    for (size_t i = 0; i < count; i++) {
        const size_t length = strlen(base_name(cases[i].model));
        longest = length > longest ? length : longest;
    }
    return (int)longest;
}

static void print_head(const bench_options* options, int width) {
    printf("%-*s %-12s %7s %-5s", width, "model", "device", "threads", "cache");
    for (uint32_t i = 0; i < options->prompt_count; i++) {
        char title[MEASURE_NAME_MAX];
        snprintf(title, sizeof title, "prefill %u", options->prompts[i]);
        printf(" %14s", title);
    }
    printf(" %14s %14s %14s %5s %14s %14s\n", "decode", "GB/s read", "share %", "waits",
           "first token ms", "peak MiB");
}

static void print_text(const bench_options* options, bench_case* cases, size_t count) {
    const int width = longest_name(cases, count);
    bool copies = false;
    print_head(options, width);
    for (size_t i = 0; i < count; i++) {
        bench_case* c = &cases[i];
        printf("%-*s %-12s %7u %-5s", width, base_name(c->model), c->device, c->threads,
               kv_name(c));
        for (uint32_t p = 0; p < options->prompt_count; p++) {
            print_cell(figure_of(options, c, BENCH_PROMPTS + p), 1);
        }
        print_cell(figure_of(options, c, BENCH_DECODE), 1);
        print_cell(figure_of(options, c, BENCH_CEILING), 2);
        print_cell(figure_of(options, c, BENCH_SHARE), 1);
        printf(" %5u", c->waits);
        print_cell(figure_of(options, c, BENCH_FIRST_TOKEN), 1);
        print_cell(figure_of(options, c, BENCH_PEAK), 1);
        putchar('\n');
        copies |= c->by_copies;
    }
    printf("Medians of %u %s, and how far a round was off at most. Prefill and decode in "
           "tokens per\nsecond; decode of %u tokens.%s\n",
           options->rounds, options->rounds == 1 ? "round" : "rounds", options->tokens,
           copies ? " Rates of devices that run no host functions are those of copies." : "");
}

// RFC 4180: quoted where a name has what would end a field.
static void print_field(const char* text) {
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, stdout);
        return;
    }
    putchar('"');
    for (const char* c = text; *c; c++) {
        printf(*c == '"' ? "\"\"" : "%c", *c);
    }
    putchar('"');
}

static void print_number(double number) {
    if (!isnan(number)) {
        printf("%.6g", number);
    }
}

static void print_csv(const bench_options* options, bench_case* cases, size_t count) {
    puts("model,device,threads,kv,measure,unit,median,low,high,rounds,bytes_per_token,waits_per_"
         "token,"
         "ceiling_by");
    for (size_t i = 0; i < count; i++) {
        bench_case* c = &cases[i];
        for (uint32_t m = 0; m < measure_count(options); m++) {
            char name[MEASURE_NAME_MAX];
            const bench_figure figure = figure_of(options, c, m);
            print_field(c->model);
            printf(",%s,%u,%s,%s,%s,", c->device, c->threads, kv_name(c),
                   measure_name(options, m, name), measure_unit(m));
            print_number(figure.median);
            putchar(',');
            print_number(figure.low);
            putchar(',');
            print_number(figure.high);
            printf(",%u,%llu,%u,%s\n", options->rounds, (unsigned long long)c->bytes_per_token,
                   c->waits, c->by_copies ? "copies" : "reads");
        }
    }
}

static void print_measure(json* writer, const bench_options* options, bench_case* c, uint32_t m) {
    char name[MEASURE_NAME_MAX];
    const bench_figure figure = figure_of(options, c, m);
    json_begin(writer, measure_name(options, m, name), '{');
    json_text(writer, "unit", measure_unit(m));
    json_f64(writer, "median", figure.median);
    json_f64(writer, "low", figure.low);
    json_f64(writer, "high", figure.high);
    json_end(writer, '}');
}

static void print_json(const bench_options* options, bench_case* cases, size_t count) {
    json writer = {.file = stdout};
    json_begin(&writer, NULL, '{');
    json_u64(&writer, "rounds", options->rounds);
    json_u64(&writer, "decode_tokens", options->tokens);
    json_begin(&writer, "cases", '[');
    for (size_t i = 0; i < count; i++) {
        bench_case* c = &cases[i];
        json_begin(&writer, NULL, '{');
        json_bytes(&writer, "model", c->model, strlen(c->model));
        json_text(&writer, "device", c->device);
        json_u64(&writer, "threads", c->threads);
        json_text(&writer, "kv", kv_name(c));
        json_u64(&writer, "bytes_per_token", c->bytes_per_token);
        json_u64(&writer, "waits_per_token", c->waits);
        json_text(&writer, "ceiling_by", c->by_copies ? "copies" : "reads");
        json_begin(&writer, "measures", '{');
        for (uint32_t m = 0; m < measure_count(options); m++) {
            print_measure(&writer, options, c, m);
        }
        json_end(&writer, '}');
        json_end(&writer, '}');
    }
    json_end(&writer, ']');
    json_end(&writer, '}');
    putchar('\n');
}

bench_print_fn bench_find_format(const char* name) {
    return strcmp(name, "text") == 0   ? print_text
           : strcmp(name, "csv") == 0  ? print_csv
           : strcmp(name, "json") == 0 ? print_json
                                       : NULL;
}
