// What the files of weir bench share: cases, what one round measures of a case, the tables.
//
//     bench.c          options, cases, rounds
//     bench_round.c    one case in one round: open, first token, prefill, decode, memory
//     bench_ceiling.c  how fast the same workers only read the same weights
//     bench_table.c    medians and spread as text, CSV or JSON
#ifndef WEIR_CLI_BENCH_H
#define WEIR_CLI_BENCH_H

#include <weir-llm/context.h>

#include "cli.h"

#define BENCH_LIST_MAX 16 // entries of a list on the command line
#define BENCH_ROUNDS_MAX 100

// What is measured in each round; after the last one come the prompts, in their order.
typedef enum bench_measure {
    BENCH_DECODE = 0,  // tokens per second
    BENCH_SHARE,       // of the ceiling that decode reads weights and cache at, %
    BENCH_CEILING,     // GB/s
    BENCH_READY,       // ms until a model is open, planned and bound
    BENCH_FIRST_TOKEN, // ms from there on until the logits of one token are there, added to READY
    BENCH_PEAK,        // MiB of host memory that were resident at most, mapped pages included
    BENCH_PROMPTS,
} bench_measure;

#define BENCH_MEASURES_MAX (BENCH_PROMPTS + BENCH_LIST_MAX)

typedef struct bench_options {
    const char* const* models;
    size_t model_count;
    uint32_t prompts[BENCH_LIST_MAX]; // lengths
    uint32_t prompt_count;
    uint32_t threads[BENCH_LIST_MAX];
    uint32_t thread_count;
    char devices[BENCH_LIST_MAX][32];
    uint32_t device_count;
    weir_dtype kvs[BENCH_LIST_MAX]; // NONE: what a context takes by itself
    uint32_t kv_count;
    uint32_t tokens; // of one decode
    uint32_t rounds;
    uint32_t rows; // most tokens of one prefill pass; 0: the default
} bench_options;

typedef struct bench_case {
    const char* model;
    const char* device;
    uint32_t threads;         // asked for, then had
    weir_dtype kv;            // of keys and values: asked for, then had
    uint32_t waits;           // of one token
    uint64_t bytes_per_token; // of weights and cache that decode reads, at its mean position
    bool by_copies;           // how the ceiling was measured: copies, since the device runs no
                              // functions of the host
    double samples[BENCH_MEASURES_MAX][BENCH_ROUNDS_MAX]; // negative: could not be measured
} bench_case;

// Measures one case in one round.
WEIR_MUST_USE weir_status bench_round(const bench_options* options, bench_case* c, uint32_t round);

// A pass that only reads the weights that a token takes.
typedef struct bench_ceiling bench_ceiling;

// Prepares it for a model; the weights that it reads have `byte_size` bytes.
WEIR_MUST_USE weir_status bench_ceiling_create(const weir_model* model, bench_ceiling** ceiling);
void bench_ceiling_free(bench_ceiling* ceiling);

// Returns the bytes of the weights that decode reads for one token.
uint64_t bench_ceiling_bytes(const bench_ceiling* ceiling);

// Tells whether reading is timed by copies.
bool bench_ceiling_copies(const bench_ceiling* ceiling);

// Reads all of it some times and returns the median rate in bytes per second, by the clocks of the
// workers.
WEIR_MUST_USE weir_status bench_ceiling_run(bench_ceiling* ceiling, double* rate);

// Returns the median of `count` values, which are put in order.
double bench_median(double* values, uint32_t count);

typedef void (*bench_print_fn)(const bench_options* options, bench_case* cases, size_t count);

// Returns how "text", "csv" or "json" is printed; NULL for another name.
bench_print_fn bench_find_format(const char* name);

#endif
