// Times a decoding pass of a model with the waits that its data flow needs, with a wait after every
// dispatch, and with none, and prints CSV (bench_rows.h).
//
//     bench_barriers MODEL [DEVICE]
//
//     plan     the waits of the schedule
//     unfused  the same, every operation a dispatch of its own
//     fenced   every dispatch waits for the one before it
//     none     no dispatch waits: what comes out is wrong, and shows what waits take at most. For
//              devices of Vulkan
//
// The waits of each, and the bytes of weights that a pass reads, go to standard error: divided by
// the seconds these are the bandwidth that a pass reaches.
#include <string.h>
#include <weir-llm/context.h>
#include <weir/fusion.h>
#include <weir/vulkan.h>
#include <weir/weir.h>

#include "bench_rows.h"

#define CONTEXT 256
#define PASSES 16 // of one measurement
#define VARIANTS 4

static const struct {
    const char* name;
    weir_schedule_options options;
    bool without_barriers;
} variants[VARIANTS] = {
    {"plan", {.fence_all = false}, false},
    {"unfused", {.without_fusions = WEIR_FUSION_ALL}, false},
    {"fenced", {.fence_all = true}, false},
    {"none", {.fence_all = false}, true},
};

// What the variants with and without waits are run on: a model needs a device of its own.
typedef struct bench_model {
    weir_device* device;
    weir_model* model;
} bench_model;

static double measure_passes(void* context) {
    static const uint32_t id = 1;
    bench_check(weir_context_rewind(context, 0));
    const double begin = bench_now();
    for (int i = 0; i < PASSES; i++) {
        bench_check(weir_context_feed(context, &id, 1, WEIR_OUTPUT_LAST));
    }
    return (bench_now() - begin) / PASSES;
}

static bench_model open_model(const char* path, const char* device, bool without_barriers) {
    const weir_vulkan_options options = {.without_barriers = without_barriers};
    const weir_device_desc desc = {.name = device, .vulkan = &options};
    bench_model opened = {0};
    bench_check(weir_device_create(&desc, &opened.device));
    bench_check(weir_model_open(NULL, opened.device, path, NULL, &opened.model));
    return opened;
}

static void close_model(bench_model* opened) {
    weir_model_destroy(opened->model);
    weir_device_destroy(opened->device);
}

static weir_context* open_variant(uint32_t variant, const bench_model* opened, bench_row* row) {
    const weir_context_options options = {
        .context_length = CONTEXT, .prefill_rows = 1, .schedule = variants[variant].options};
    weir_context* context = NULL;
    bench_check(weir_context_create(NULL, opened->model, &options, &context));
    const weir_schedule* schedule = weir_context_schedule(context, WEIR_PHASE_DECODE);
    const weir_schedule_report* report = weir_schedule_report_of(schedule);
    fprintf(stderr, "%s: %u dispatches, %u waits, %llu bytes of weights\n", variants[variant].name,
            report->dispatches, variants[variant].without_barriers ? 0 : report->waits,
            (unsigned long long)report->weight_bytes);
    *row = (bench_row){.name = "decode",
                       .variant = variants[variant].name,
                       .workers = weir_device_thread_count(opened->device),
                       .unit = "pass",
                       .measure = measure_passes,
                       .context = context};
    return context;
}

int main(int argc, char** argv) {
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: bench_barriers MODEL [DEVICE]\n");
        return 64;
    }
    const char* device = argc > 2 ? argv[2] : "cpu";
    const uint32_t count = strncmp(device, "vulkan", 6) == 0 ? VARIANTS : VARIANTS - 1;
    bench_model models[2] = {open_model(argv[1], device, false)};
    if (count == VARIANTS) {
        models[1] = open_model(argv[1], device, true);
    }
    weir_context* contexts[VARIANTS];
    bench_row rows[VARIANTS];
    for (uint32_t i = 0; i < count; i++) {
        contexts[i] = open_variant(i, &models[variants[i].without_barriers], &rows[i]);
    }
    bench_run(rows, count);
    for (uint32_t i = 0; i < count; i++) {
        weir_context_destroy(contexts[i]);
    }
    close_model(&models[1]);
    close_model(&models[0]);
    return 0;
}
