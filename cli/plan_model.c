// weir plan MODEL: the two passes of a context, planned and not run. Needs metadata only, so models
// far larger than the memory of this machine can be looked at.
#include <stdlib.h>
#include <string.h>
#include <weir-llm/context.h>
#include <weir/explain.h>
#include <weir/fault.h>

#include "json.h"
#include "output.h"
#include "plan.h"

#define LARGEST 8 // values that the text lists

typedef struct placed_value {
    weir_value value;
    const char* name; // "" when it has none
    weir_placement placement;
} placed_value;

weir_schedule_options plan_schedule_options(const plan_options* options) {
    weir_schedule_options how = {.without_fusions = options->no_fusion ? WEIR_FUSION_ALL : 0,
                                 .byte_budget = options->arena};
    cli_find_order(options->order, &how.order); // checked when the options were read
    return how;
}

// The same graph as weir_context makes, at the same bounds.
static weir_status plan_pass(const plan_options* options, const weir_model* model,
                             const weir_plan_file* saved, const weir_target* target,
                             planned* plan) {
    const weir_llama_graph_desc desc = {.params = weir_model_params(model),
                                        .context = options->context,
                                        .rows = plan->rows,
                                        .outputs = 1,
                                        .kv_dtype = options->kv,
                                        .gguf = weir_model_gguf(model),
                                        .split_attention = options->split_attention};
    WEIR_TRY(weir_llama_graph_build(NULL, &desc, &plan->pass));
    weir_schedule_options how = plan_schedule_options(options);
    if (options->pass && strcmp(options->pass, plan->name) != 0) {
        how.byte_budget = 0; // it is that of the other pass
    }
    return cli_schedule_make(saved, plan->name, plan->pass.graph, target, &how, &plan->schedule);
}

static void plan_free(planned* plan) {
    weir_schedule_destroy(plan->schedule);
    weir_graph_destroy(plan->pass.graph);
}

void plan_figures(const weir_schedule_report* report, plan_figure list[PLAN_FIGURES]) {
    const plan_figure figures[PLAN_FIGURES] = {
        {"weight_bytes", "weights", report->weight_bytes},
        {"state_bytes", "keys and values", report->state_bytes},
        {"input_bytes", "inputs", report->input_bytes},
        {"output_bytes", "outputs", report->output_bytes},
        {"arena_bytes", "arena", report->arena_bytes},
        {"bound_bytes", "lower bound of the arena", report->bound_bytes},
        {"serial_bytes", "arena in serial order", report->serial_bytes},
        {"total_bytes", "arena without reuse", report->total_bytes},
        {"scratch_bytes", "of these scratch", report->scratch_bytes},
        {"arena_blocks", "blocks of the arena", report->arena_blocks},
        {"ops", "operations", report->ops},
        {"dispatches", "dispatches", report->dispatches},
        {"waits_naive", "waits without tracking", report->waits_naive},
        {"depth", "waits of the data flow", report->depth},
        {"waits", "waits kept", report->waits},
        {"waits_elided", "waits elided", report->waits_elided},
        {"edges", "edges", report->edges},
        {"residual_edges", "of these for reuse", report->residual_edges},
        {"values", "values in the arena", report->values},
        {"in_place", "of these in place", report->in_place},
        {"widened_ranges", "ranges over-stated", report->widened_ranges},
    };
    memcpy(list, figures, sizeof figures);
}

// The largest first, in the order they are made among equals.
static int compare_sizes(const void* a, const void* b) {
    const placed_value* left = a;
    const placed_value* right = b;
    if (left->placement.byte_size != right->placement.byte_size) {
        return left->placement.byte_size < right->placement.byte_size ? 1 : -1;
    }
    return left->value < right->value ? -1 : left->value > right->value;
}

// Lists the results that have bytes, in the order they are made; `values` has room for all values
// of the graph.
static weir_status list_values(const planned* plan, placed_value* values, uint32_t* count) {
    *count = 0;
    for (weir_value value = 0; value < weir_graph_value_count(plan->pass.graph); value++) {
        const weir_value_info* info = weir_graph_value_info(plan->pass.graph, value);
        weir_placement placement;
        WEIR_TRY(weir_schedule_place(plan->schedule, value, &placement));
        if (info->kind == WEIR_VALUE_RESULT && placement.byte_size > 0) {
            values[(*count)++] =
                (placed_value){.value = value, .name = info->name, .placement = placement};
        }
    }
    return WEIR_OK;
}

const char* plan_region_name(weir_region region, uint32_t block, char text[32]) {
    if (region != WEIR_REGION_ARENA || block == 0) {
        return weir_region_name(region);
    }
    snprintf(text, 32, "arena block %u", block);
    return text;
}

static const char* fusion_name(uint32_t fusion) {
    return weir_op_name(weir_fusion_op((weir_fusion)fusion));
}

static void print_fusions(const weir_schedule_report* report) {
    for (uint32_t i = 0; i < WEIR_FUSION_COUNT; i++) {
        if (report->fusions[i] > 0) {
            char text[64];
            snprintf(text, sizeof text, "fused as %s", fusion_name(i));
            printf("  %-26s %14u\n", text, report->fusions[i]);
        }
    }
}

static void write_fusions(json* writer, const weir_schedule_report* report) {
    json_begin(writer, "fusions", '{');
    for (uint32_t i = 0; i < WEIR_FUSION_COUNT; i++) {
        json_u64(writer, fusion_name(i), report->fusions[i]);
    }
    json_end(writer, '}');
}

static void print_text(const planned* plan, placed_value* values, uint32_t count) {
    plan_figure figures[PLAN_FIGURES];
    plan_figures(weir_schedule_report_of(plan->schedule), figures);
    printf("%s, %u row%s\n", plan->name, plan->rows, plan->rows > 1 ? "s" : "");
    for (int i = 0; i < PLAN_FIGURES; i++) {
        printf("  %-26s %14llu%s\n", figures[i].text, (unsigned long long)figures[i].number,
               i < PLAN_BYTE_FIGURES ? " bytes" : "");
    }
    print_fusions(weir_schedule_report_of(plan->schedule));
    qsort(values, count, sizeof *values, compare_sizes);
    printf("  largest values\n");
    for (uint32_t i = 0; i < count && i < LARGEST; i++) {
        char number[32];
        char region[32];
        snprintf(number, sizeof number, "value %u", values[i].value);
        printf("    %-24s %14llu bytes, %s + %llu\n",
               values[i].name[0] != '\0' ? values[i].name : number,
               (unsigned long long)values[i].placement.byte_size,
               plan_region_name(values[i].placement.region, values[i].placement.block, region),
               (unsigned long long)values[i].placement.byte_offset);
    }
}

// Leaves the object open for what follows.
static void print_json(json* writer, const planned* plan, const placed_value* values,
                       uint32_t count) {
    plan_figure figures[PLAN_FIGURES];
    plan_figures(weir_schedule_report_of(plan->schedule), figures);
    json_begin(writer, plan->name, '{');
    json_u64(writer, "rows", plan->rows);
    for (int i = 0; i < PLAN_FIGURES; i++) {
        json_u64(writer, figures[i].key, figures[i].number);
    }
    write_fusions(writer, weir_schedule_report_of(plan->schedule));
    json_begin(writer, "results", '[');
    for (uint32_t i = 0; i < count; i++) {
        json_begin(writer, NULL, '{');
        json_u64(writer, "value", values[i].value);
        json_text(writer, "name", values[i].name);
        json_text(writer, "region", weir_region_name(values[i].placement.region));
        json_u64(writer, "block", values[i].placement.block);
        json_u64(writer, "offset", values[i].placement.byte_offset);
        json_u64(writer, "bytes", values[i].placement.byte_size);
        json_end(writer, '}');
    }
    json_end(writer, ']');
}

// Prints one pass; `writer` is NULL for text.
static weir_status print_pass(json* writer, const planned* plan) {
    const size_t size = weir_graph_value_count(plan->pass.graph) * sizeof(placed_value);
    void* memory = NULL;
    WEIR_TRY(weir_alloc(NULL, size, _Alignof(placed_value), &memory));
    placed_value* values = memory;
    uint32_t count = 0;
    weir_status status = list_values(plan, values, &count);
    if (status == WEIR_OK && writer) {
        print_json(writer, plan, values, count);
        status = plan_list_residual(writer, plan);
        json_end(writer, '}');
    } else if (status == WEIR_OK) {
        print_text(plan, values, count);
        status = plan_list_residual(NULL, plan);
    }
    weir_free(NULL, memory, size, _Alignof(placed_value));
    return status;
}

json* plan_report_begin(const plan_options* options, json* writer) {
    if (!options->json) {
        printf("device %s, context %u\n", options->device, options->context);
        return NULL;
    }
    *writer = (json){.file = stdout};
    json_begin(writer, NULL, '{');
    json_text(writer, "device", options->device);
    json_u64(writer, "context", options->context);
    return writer;
}

void plan_report_end(json* writer) {
    if (writer) {
        json_end(writer, '}');
        putchar('\n');
    }
}

static weir_status print_plans(const plan_options* options, const planned plans[2]) {
    json out;
    json* writer = plan_report_begin(options, &out);
    for (int i = 0; i < 2; i++) {
        WEIR_TRY(print_pass(writer, &plans[i]));
    }
    plan_report_end(writer);
    return WEIR_OK;
}

// Shows what the options ask for: an explanation, a file, or the figures of both passes.
static weir_status show(const plan_options* options, const weir_target* target,
                        const planned plans[2]) {
    const bool prefill = options->pass && strcmp(options->pass, "prefill") == 0;
    const weir_schedule* schedule = plans[prefill ? 0 : 1].schedule;
    if (options->output) {
        WEIR_TRY(plan_save(options, plans));
        if (cli_is_output_stream(options->output)) {
            return WEIR_OK;
        }
    }
    if (options->tradeoff) {
        return plan_show_tradeoff(options, target, plans);
    }
    if (options->diff) {
        return plan_compare(options, target, plans);
    }
    if (options->schedule_json) {
        WEIR_TRY(plan_write_schedule(options, schedule));
    }
    if (options->why[0]) {
        return plan_explain(options, schedule);
    }
    return options->schedule_json ? WEIR_OK : print_plans(options, plans);
}

// Defaults are those of weir_context_create, so that the figures are those of `weir run`.
static weir_status plan_model(plan_options* options, const weir_model* model) {
    const uint32_t limit = weir_model_params(model)->context;
    const uint32_t common =
        limit < WEIR_CONTEXT_LENGTH_DEFAULT ? limit : WEIR_CONTEXT_LENGTH_DEFAULT;
    options->context = options->context > 0 ? options->context : common;
    if (options->context > limit) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s: a context of %u positions; the model has %u",
                         weir_gguf_file_name(weir_model_gguf(model)), options->context, limit);
    }
    const uint32_t rows = options->rows > 0 ? options->rows : WEIR_CONTEXT_ROWS_DEFAULT;
    planned plans[2] = {
        {.name = "prefill", .rows = rows < options->context ? rows : options->context},
        {.name = "decode", .rows = 1},
    };
    weir_target target;
    weir_plan_file* saved = NULL;
    WEIR_TRY(weir_target_find(options->device, &target));
    WEIR_TRY(weir_llama_kv_dtype(weir_model_params(model), &target, options->kv, &options->kv));
    if (options->plan) {
        WEIR_TRY(weir_plan_file_open(NULL, options->plan, &saved));
    }
    weir_status status = plan_pass(options, model, saved, &target, &plans[0]);
    if (status == WEIR_OK) {
        status = plan_pass(options, model, saved, &target, &plans[1]);
    }
    weir_plan_file_destroy(saved);
    if (status == WEIR_OK) {
        status = show(options, &target, plans);
    }
    plan_free(&plans[0]);
    plan_free(&plans[1]);
    return status;
}

cli_exit plan_model_command(plan_options* options) {
    weir_device* device = NULL;
    weir_model* model = NULL;
    options->device = options->device ? options->device : "cpu";
    // The mapping needs a device; what is planned for is the target.
    weir_status status = weir_fault_handler_install();
    if (status == WEIR_OK) {
        status = weir_device_create(&(weir_device_desc){.name = "cpu", .thread_count = 1}, &device);
    }
    if (status == WEIR_OK) {
        const weir_model_options any = {.limits.file_bytes = WEIR_LIMIT_NONE};
        status = weir_model_open(NULL, device, options->path, &any, &model);
    }
    if (status == WEIR_OK) {
        status = plan_model(options, model);
    }
    const cli_exit code = status == WEIR_OK ? CLI_OK : cli_fail(status);
    weir_model_destroy(model);
    weir_device_destroy(device);
    return cli_finish(code);
}
