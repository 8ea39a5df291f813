// The two halves of `weir plan`: models, and planning problems as CSV.
#ifndef WEIR_CLI_PLAN_H
#define WEIR_CLI_PLAN_H

#include <weir/schedule.h>

#include "cli.h"

typedef struct plan_options {
    const char* path;
    bool json;
    // models
    uint32_t rows;
    uint32_t context;
    const char* device;
    const char* why[2];        // two dispatches or two values to explain
    const char* pass;          // which pass: "prefill" or "decode"
    const char* schedule_json; // file
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
    const char* output;
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

#endif
