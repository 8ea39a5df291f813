// Times a decoding pass of a model with the waits that its data flow needs and with a wait after
// every dispatch, and prints CSV (bench_rows.h).
//
//     bench_barriers MODEL [DEVICE]
//
//     plan     the waits of the schedule
//     unfused  the same, every operation a dispatch of its own
//     fenced   every dispatch waits for the one before it
//
// The waits of each, and the bytes of weights that a pass reads, go to standard error: divided by
// the seconds these are the bandwidth that a pass reaches.
#include <weir-llm/context.h>
#include <weir/fusion.h>
#include <weir/weir.h>

#include "bench_rows.h"

#define CONTEXT 256
#define PASSES 16 // of one measurement
#define VARIANTS 3

static const struct {
    const char* name;
    weir_schedule_options options;
} variants[VARIANTS] = {
    {"plan", {.fence_all = false}},
    {"unfused", {.without_fusions = WEIR_FUSION_ALL}},
    {"fenced", {.fence_all = true}},
};

static double measure_passes(void* context) {
    static const uint32_t id = 1;
    bench_check(weir_context_rewind(context, 0));
    const double begin = bench_now();
    for (int i = 0; i < PASSES; i++) {
        bench_check(weir_context_feed(context, &id, 1, WEIR_OUTPUT_LAST));
    }
    return (bench_now() - begin) / PASSES;
}

int main(int argc, char** argv) {
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: bench_barriers MODEL [DEVICE]\n");
        return 64;
    }
    const weir_device_desc desc = {.name = argc > 2 ? argv[2] : NULL};
    weir_device* device = NULL;
    weir_model* model = NULL;
    weir_context* contexts[VARIANTS];
    bench_row rows[VARIANTS];
    bench_check(weir_device_create(&desc, &device));
    bench_check(weir_model_open(NULL, device, argv[1], NULL, &model));
    for (int i = 0; i < VARIANTS; i++) {
        const weir_context_options options = {
            .context_length = CONTEXT, .prefill_rows = 1, .schedule = variants[i].options};
        bench_check(weir_context_create(NULL, model, &options, &contexts[i]));
        const weir_schedule* schedule = weir_context_schedule(contexts[i], WEIR_PHASE_DECODE);
        const weir_schedule_report* report = weir_schedule_report_of(schedule);
        fprintf(stderr, "%s: %u dispatches, %u waits, %llu bytes of weights\n", variants[i].name,
                report->dispatches, report->waits, (unsigned long long)report->weight_bytes);
        rows[i] = (bench_row){.name = "decode",
                              .variant = variants[i].name,
                              .workers = weir_device_thread_count(device),
                              .unit = "pass",
                              .measure = measure_passes,
                              .context = contexts[i]};
    }
    bench_run(rows, VARIANTS);
    for (int i = 0; i < VARIANTS; i++) {
        weir_context_destroy(contexts[i]);
    }
    weir_model_destroy(model);
    weir_device_destroy(device);
    return 0;
}
