// The two halves of `weir plan`: models, and planning problems as CSV.
#ifndef WEIR_CLI_PLAN_H
#define WEIR_CLI_PLAN_H

#include <weir-llm/context.h>
#include <weir-llm/llama.h>
#include <weir/schedule.h>

#include "cli.h"
#include "json.h"

typedef struct plan_options {
    const char* path;
    bool json;
    // models
    uint32_t rows;
    uint32_t context;
    const char* plan; // file to take the plans from
    const char* diff; // file to compare them with
    const char* device;
    weir_dtype kv;             // of the caches; NONE: as weir_context_create finds it
    const char* why[2];        // two dispatches or two values to explain
    bool no_fusion;            // every operation is a dispatch of its own
    bool split_attention;      // attention as three operations
    const char* order;         // "waits", "bytes" or "given"
    uint64_t arena;            // most bytes of the arena; 0: any
    bool tradeoff;             // the curve between bytes and waits
    const char* pass;          // which pass: "prefill" or "decode"
    const char* schedule_json; // file
    const char* output;        // file: plans of a model, or placed CSV
    // CSV
    uint64_t capacity;
    bool minimize;
    uint64_t budget;
    float seconds;
    uint64_t alignment;
    uint64_t block_bytes;
    bool proof;
    bool free;
    bool verify;
    bool map;
    const char* svg;
    bool entries;
} plan_options;

cli_exit plan_model_command(plan_options* options);
cli_exit plan_csv_command(const plan_options* options);

// Print why the dispatches of --why wait, or what its values share; write --schedule-json.
WEIR_MUST_USE weir_status plan_explain(const plan_options* options, const weir_schedule* schedule);
WEIR_MUST_USE weir_status plan_write_schedule(const plan_options* options,
                                              const weir_schedule* schedule);

// A figure of a report with its names in JSON and in text.
typedef struct plan_figure {
    const char* key;
    const char* text;
    uint64_t number;
} plan_figure;

#define PLAN_BYTE_FIGURES 9
#define PLAN_FIGURES 21

// Lists the figures of a report, those in bytes first.
void plan_figures(const weir_schedule_report* report, plan_figure list[PLAN_FIGURES]);

// Return what a dispatch or value is called; a value without a name is "value N", in `text`.
const char* plan_dispatch_name(const weir_schedule* schedule, uint32_t dispatch);
const char* plan_value_name(const weir_schedule* schedule, weir_value value, char text[32]);

// Returns "arena", "input", ...; blocks of the arena after the first have their number behind.
const char* plan_region_name(weir_region region, uint32_t block, char text[32]);

// One pass of a model, planned.
typedef struct planned {
    const char* name;
    uint32_t rows;
    weir_llama_graph pass;
    weir_schedule* schedule;
} planned;

// The options of schedules that the command line asks for.
weir_schedule_options plan_schedule_options(const plan_options* options);

// Begin what `weir plan` prints of both passes, and end it. `writer` is where JSON goes; what is
// returned, and handed on, is NULL for text.
json* plan_report_begin(const plan_options* options, json* writer);
void plan_report_end(json* writer);

// Print the curve between bytes and waits of both passes; list the edges that only the reuse of
// memory needs (`writer` is NULL for text).
WEIR_MUST_USE weir_status plan_show_tradeoff(const plan_options* options, const weir_target* target,
                                             const planned plans[2]);
WEIR_MUST_USE weir_status plan_list_residual(json* writer, const planned* plan);

// Write the plans of both passes to --output; compare them with those of --diff.
WEIR_MUST_USE weir_status plan_save(const plan_options* options, const planned plans[2]);
WEIR_MUST_USE weir_status plan_compare(const plan_options* options, const weir_target* target,
                                       const planned plans[2]);

#endif
