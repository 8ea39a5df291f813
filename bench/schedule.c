// Makes schedules of Llama shapes and prints CSV: waits beside the depth of the data flow, bytes
// beside their bound, and the microseconds of each phase, the median over the runs. No file is
// read: the graphs are built from their numbers.
//
//     bench_schedule [runs [label]]     only rows that begin so: "1.1B,decode 1,one,512,cpu"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <weir-llm/llama.h>
#include <weir/schedule.h>

#define RUNS_MAX 1001
#define RUNS_DEFAULT 31
#define PHASES_MAX 16

typedef struct shape {
    const char* name;
    uint32_t embedding, blocks, heads, kv_heads, feed_forward;
} shape;

static const shape shapes[] = {
    {"110M", 768, 12, 12, 12, 2048},
    {"1.1B", 2048, 22, 32, 4, 5632},
    {"35 blocks", 2048, 35, 32, 4, 5632}, // 671 dispatches
};

typedef struct graph_case {
    const shape* model;
    uint32_t rows, context;
    bool split_attention;
    const char* target;
    const char* fusion; // "none", "norm" or "all"
    uint32_t without_fusions;
} graph_case;

// The times of the phases of all runs.
typedef struct stopwatch {
    const char* names[PHASES_MAX];
    double times[PHASES_MAX][RUNS_MAX]; // microseconds
    uint32_t phase, phase_count, run;
    double last;
} stopwatch;

static double now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static void end_phase(void* context, const char* name) {
    stopwatch* watch = context;
    const double now = now_us();
    if (watch->phase < PHASES_MAX) {
        watch->names[watch->phase] = name;
        watch->times[watch->phase++][watch->run] = now - watch->last;
    }
    watch->phase_count = watch->phase;
    watch->last = now;
}

static int compare_doubles(const void* a, const void* b) {
    const double x = *(const double*)a;
    const double y = *(const double*)b;
    return x < y ? -1 : x > y;
}

static double median(double* times, uint32_t count) {
    qsort(times, count, sizeof *times, compare_doubles);
    return times[count / 2];
}

static weir_status build_graph(const graph_case* c, weir_llama_graph* pass) {
    const shape* model = c->model;
    const weir_llama_params params = {.blocks = model->blocks,
                                      .embedding = model->embedding,
                                      .feed_forward = model->feed_forward,
                                      .heads = model->heads,
                                      .kv_heads = model->kv_heads,
                                      .head_dim = model->embedding / model->heads,
                                      .rotated = model->embedding / model->heads,
                                      .vocabulary = 32000,
                                      .context = c->context,
                                      .epsilon = 1e-5f,
                                      .rope_base = 10000.0f,
                                      .rope_scale = 1.0f};
    const weir_llama_graph_desc desc = {.params = &params,
                                        .context = c->context,
                                        .rows = c->rows,
                                        .outputs = 1,
                                        .split_attention = c->split_attention};
    return weir_llama_graph_build(NULL, &desc, pass);
}

static void print_head(const stopwatch* watch) {
    printf("model,pass,attention,context,target,fusion,dispatches,depth,waits,residual_edges,arena_"
           "bytes,"
           "bound_bytes,serial_bytes,total_bytes");
    for (uint32_t p = 0; p < watch->phase_count; p++) {
        printf(",%s_us", watch->names[p]);
    }
    printf(",all_us\n");
}

static void label_of(const graph_case* c, char text[64]) {
    snprintf(text, 64, "%s,%s %u,%s,%u,%s,%s", c->model->name, c->rows > 1 ? "prefill" : "decode",
             c->rows, c->split_attention ? "split" : "one", c->context, c->target, c->fusion);
}

static void print_row(const char* label, const weir_schedule_report* report, stopwatch* watch,
                      double* totals, uint32_t runs) {
    printf("%s,%u,%u,%u,%u,%llu,%llu,%llu,%llu", label, report->dispatches, report->depth,
           report->waits, report->residual_edges, (unsigned long long)report->arena_bytes,
           (unsigned long long)report->bound_bytes, (unsigned long long)report->serial_bytes,
           (unsigned long long)report->total_bytes);
    for (uint32_t p = 0; p < watch->phase_count; p++) {
        printf(",%.1f", median(watch->times[p], runs));
    }
    printf(",%.1f\n", median(totals, runs));
}

static weir_status measure(const graph_case* c, const char* label, uint32_t runs, bool first) {
    static stopwatch watch;
    static double totals[RUNS_MAX];
    weir_llama_graph pass;
    weir_target target;
    WEIR_TRY(weir_target_find(c->target, &target));
    WEIR_TRY(build_graph(c, &pass));
    const weir_schedule_options options = {
        .without_fusions = c->without_fusions, .phase = end_phase, .phase_context = &watch};
    weir_status status = WEIR_OK;
    for (uint32_t run = 0; run < runs && status == WEIR_OK; run++) {
        weir_schedule* schedule = NULL;
        watch.run = run;
        watch.phase = 0;
        const double begin = now_us();
        watch.last = begin;
        status = weir_schedule_create(NULL, pass.graph, &target, &options, &schedule);
        totals[run] = now_us() - begin;
        if (status == WEIR_OK && run + 1 == runs) {
            if (first) {
                print_head(&watch);
            }
            print_row(label, weir_schedule_report_of(schedule), &watch, totals, runs);
        }
        weir_schedule_destroy(schedule);
    }
    weir_graph_destroy(pass.graph);
    return status;
}

int main(int argc, char** argv) {
    static const uint32_t contexts[] = {512, 4096};
    static const char* const targets[] = {"cpu", "barriers"};
    static const char* const fusions[] = {"none", "norm", "all"};
    static const uint32_t without[] = {
        WEIR_FUSION_ALL, WEIR_FUSION_ALL & ~WEIR_FUSION_BIT(WEIR_FUSION_RMS_NORM_MUL), 0};
    const uint32_t asked = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : RUNS_DEFAULT;
    const uint32_t runs = asked >= 1 && asked <= RUNS_MAX ? asked : RUNS_DEFAULT;
    bool first = true;
    for (size_t i = 0; i < 48 * sizeof shapes / sizeof *shapes; i++) {
        const graph_case c = {.model = &shapes[i / 48],
                              .rows = i / 24 % 2 ? 512 : 1,
                              .split_attention = i / 12 % 2 != 0,
                              .context = contexts[i / 6 % 2],
                              .target = targets[i / 3 % 2],
                              .fusion = fusions[i % 3],
                              .without_fusions = without[i % 3]};
        char label[64];
        label_of(&c, label);
        if (argc > 2 && strncmp(label, argv[2], strlen(argv[2])) != 0) {
            continue;
        }
        if (measure(&c, label, runs, first) != WEIR_OK) {
            fprintf(stderr, "%s\n", weir_last_error());
            return 1;
        }
        first = false;
    }
    return 0;
}
