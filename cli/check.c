// weir check: proves the two programs of a model and holds their runs against a serial one.
#include <stdlib.h>
#include <string.h>
#include <weir-llm/context.h>
#include <weir/check.h>
#include <weir/vulkan.h>

#include "cli.h"
#include "json.h"

#define ROWS_DEFAULT 16
#define CONTEXT_DEFAULT 128
#define IDS_DEFAULT 24

static const char usage[] =
    "usage: weir check MODEL [OPTION...]\n\n"
    "Proves what the two programs of a model rely on, and prints one line per proof:\n"
    "  plan     no two values that conflict share a byte\n"
    "  order    every two dispatches that share a byte are ordered\n"
    "  poison   no dispatch reads bytes that are free: they are overwritten, nothing changes\n"
    "  elided   the programs give the bytes of a serial run without any reuse\n"
    "  delayed  so they do with random delays\n"
    "On a device that waits by barriers, instead of the last three:\n"
    "  barriers  the validation layer of Khronos reports no hazard, and one without any of them\n"
    "  elided    the programs give the bytes of programs with a barrier after each dispatch\n\n"
    "      --device NAME  what to prove for, see weir devices (default: cpu)\n"
    "      --ids FILE   tokens to run, separated by white space; - for stdin (default: 24 tokens)\n"
    "      --rows N     tokens of a prefill pass (default: 16)\n"
    "      --context N  rows of the caches (default: that of the model, at most 128)\n"
    "      --kv TYPE    of keys and values: f32, f16, bf16 or q8_0 (default: f16 where the device\n"
    "                   can, else f32)\n"
    "      --threads N  worker threads (default: one per core)\n"
    "      --order NAME waits (the fewest, default), bytes (the fewest) or given (by the graph)\n"
    "      --arena N    at most N bytes for the arena of each program\n"
    "      --plan FILE  prove the plans of this file, made with the same rows, context and kv\n"
    "      --runs N     runs with random delays (default: 3)\n"
    "      --seed S     of the delays (default: 0)\n"
    "      --json       print one object\n\n"
    "Exit codes: 0 everything is proven, 1 not.\n";

typedef struct check_options {
    const char* model;
    const char* ids;
    uint32_t rows;
    uint32_t context;
    const char* device;
    uint32_t threads;
    weir_dtype kv;
    const char* plan; // file
    weir_schedule_options schedule;
    uint32_t runs;
    uint64_t seed;
    bool json;
} check_options;

// One of the two programs, with what its passes take.
typedef struct checked {
    const check_options* options;
    const cli_model* opened;
    const weir_plan_file* plans; // NULL: plan now
    const weir_ids* ids;
    json* writer; // NULL: lines
    const char* name;
    uint32_t rows;
    weir_llama_graph pass;
    weir_schedule* schedule;
    weir_storage* cache;
    weir_binding* bindings;
    uint32_t binding_count;
    weir_check_pass* passes;
    weir_check_input* inputs; // two per pass
    uint64_t* params;         // three per pass
    int32_t* wanted;          // per pass: the row whose logits are computed
    uint32_t pass_count;
} checked;

static weir_status new_array(size_t count, size_t item_size, void** items) {
    *items = calloc(count > 0 ? count : 1, item_size);
    return *items ? WEIR_OK : WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot allocate %zu items", count);
}

static weir_status make_schedule(checked* c) {
    const weir_llama_graph_desc desc = {.params = weir_model_params(c->opened->model),
                                        .context = c->options->context,
                                        .rows = c->rows,
                                        .outputs = 1,
                                        .kv_dtype = c->options->kv,
                                        .gguf = weir_model_gguf(c->opened->model)};
    WEIR_TRY(weir_llama_graph_build(NULL, &desc, &c->pass));
    return cli_schedule_make(c->plans, c->name, c->pass.graph,
                             weir_device_target(c->opened->device), &c->options->schedule,
                             &c->schedule);
}

// Every state gets its part of one storage; a step of 64 bytes suits every dtype.
static weir_status bind(checked* c) {
    const uint32_t values = weir_graph_value_count(c->pass.graph);
    uint64_t byte_size = 0;
    WEIR_TRY(new_array(values, sizeof *c->bindings, (void**)&c->bindings));
    const uint64_t states = weir_schedule_report_of(c->schedule)->state_bytes;
    const weir_storage_desc desc = {.byte_size = states + 64 * (uint64_t)values,
                                    .fill = WEIR_FILL_ZERO,
                                    .name = "keys and values"};
    WEIR_TRY(weir_storage_allocate(c->opened->device, &desc, &c->cache));
    for (weir_value value = 0; value < values; value++) {
        const weir_value_info* info = weir_graph_value_info(c->pass.graph, value);
        weir_binding* binding = &c->bindings[c->binding_count];
        binding->value = value;
        if (info->kind == WEIR_VALUE_WEIGHT) {
            WEIR_TRY(weir_model_weight(c->opened->model, info->name, &binding->view));
            c->binding_count++;
        } else if (info->kind == WEIR_VALUE_STATE) {
            WEIR_TRY(weir_view_make(c->cache, byte_size, info->layout.dtype, &info->layout.shape,
                                    &binding->view));
            byte_size += (weir_view_byte_span(&info->layout) + 63) / 64 * 64;
            c->binding_count++;
        }
    }
    return WEIR_OK;
}

static void set_pass(checked* c, uint32_t number, uint32_t position, uint32_t rows) {
    weir_check_pass* pass = &c->passes[number];
    uint64_t* params = c->params + 3 * (size_t)number;
    weir_check_input* inputs = c->inputs + 2 * (size_t)number;
    c->wanted[number] = (int32_t)rows - 1;
    inputs[0] =
        (weir_check_input){c->pass.tokens, c->ids->items + position, rows * sizeof *c->ids->items};
    inputs[1] = (weir_check_input){c->pass.output_rows, &c->wanted[number], sizeof *c->wanted};
    params[c->pass.position] = position;
    params[c->pass.rows] = rows;
    params[c->pass.outputs] = 1;
    *pass =
        (weir_check_pass){.params = params, .param_count = 3, .inputs = inputs, .input_count = 2};
}

// Cuts the tokens into passes; the last one may be shorter.
static weir_status make_passes(checked* c) {
    const uint32_t count = (uint32_t)c->ids->count;
    c->pass_count = (count + c->rows - 1) / c->rows;
    WEIR_TRY(new_array(c->pass_count, sizeof *c->passes, (void**)&c->passes));
    WEIR_TRY(new_array(2 * (size_t)c->pass_count, sizeof *c->inputs, (void**)&c->inputs));
    WEIR_TRY(new_array(3 * (size_t)c->pass_count, sizeof *c->params, (void**)&c->params));
    WEIR_TRY(new_array(c->pass_count, sizeof *c->wanted, (void**)&c->wanted));
    for (uint32_t i = 0; i < c->pass_count; i++) {
        const uint32_t position = i * c->rows;
        set_pass(c, i, position, count - position < c->rows ? count - position : c->rows);
    }
    return WEIR_OK;
}

static void print_line(const checked* c, const char* proof, weir_status status) {
    const bool holds = status == WEIR_OK;
    const char* message = holds ? "" : weir_last_error();
    if (!c->writer) {
        printf("%-8s %-8s %s%s\n", c->name, proof, holds ? "ok" : "FAILED: ", message);
        return;
    }
    json_begin(c->writer, NULL, '{');
    json_text(c->writer, "program", c->name);
    json_text(c->writer, "proof", proof);
    json_bool(c->writer, "holds", holds);
    json_text(c->writer, "message", message);
    json_end(c->writer, '}');
}

static void print_proof(void* context, weir_proof proof, weir_status status) {
    print_line(context, weir_proof_name(proof), status);
}

static weir_status prove_barriers(const checked* c) {
    weir_vulkan_verdict verdict;
    WEIR_TRY(weir_vulkan_judge(NULL, c->options->device, c->schedule, &verdict));
    if (verdict.hazards > 0 || verdict.needed < verdict.boundaries) {
        return WEIR_FAIL(WEIR_INTERNAL, "%u hazards, %u of %u barriers are needed: %s",
                         verdict.hazards, verdict.needed, verdict.boundaries, verdict.message);
    }
    return WEIR_OK;
}

static weir_status run_pass(const checked* c, weir_program* program, uint32_t number,
                            uint8_t* logits, uint64_t byte_size) {
    const weir_check_pass* pass = &c->passes[number];
    for (uint32_t i = 0; i < pass->input_count; i++) {
        WEIR_TRY(weir_program_write(program, pass->inputs[i].input, pass->inputs[i].bytes,
                                    pass->inputs[i].byte_size));
    }
    WEIR_TRY(weir_program_run(program, pass->params, pass->param_count));
    memcpy(logits, weir_program_contents(program, c->pass.logits), byte_size);
    return WEIR_OK;
}

// Runs all passes over caches of zeros and keeps their logits.
static weir_status run_passes(checked* c, const weir_schedule* schedule, uint64_t byte_size,
                              uint8_t* logits) {
    weir_program* program = NULL;
    weir_storage_release(c->cache);
    free(c->bindings);
    c->cache = NULL;
    c->bindings = NULL;
    c->binding_count = 0;
    WEIR_TRY(bind(c));
    const weir_program_desc desc = {
        .schedule = schedule, .bindings = c->bindings, .binding_count = c->binding_count};
    weir_status status = weir_program_create(c->opened->device, &desc, &program);
    for (uint32_t i = 0; i < c->pass_count && status == WEIR_OK; i++) {
        status = run_pass(c, program, i, logits + i * byte_size, byte_size);
    }
    weir_program_destroy(program);
    return status;
}

static weir_status prove_elided(checked* c) {
    const uint64_t byte_size = weir_schedule_report_of(c->schedule)->output_bytes;
    const weir_target* target = weir_device_target(c->opened->device);
    const weir_schedule_options all = {.fence_all = true};
    weir_schedule* fenced = NULL;
    uint8_t* logits = NULL;
    WEIR_TRY(weir_schedule_create(NULL, c->pass.graph, target, &all, &fenced));
    weir_status status = new_array(2 * c->pass_count, byte_size, (void**)&logits);
    if (status == WEIR_OK) {
        status = run_passes(c, fenced, byte_size, logits);
    }
    if (status == WEIR_OK) {
        status = run_passes(c, c->schedule, byte_size, logits + c->pass_count * byte_size);
    }
    if (status == WEIR_OK &&
        memcmp(logits, logits + c->pass_count * byte_size, c->pass_count * byte_size) != 0) {
        status = WEIR_FAIL(WEIR_INTERNAL, "the logits differ from those of the fenced program");
    }
    free(logits);
    weir_schedule_destroy(fenced);
    return status;
}

// What can be proven where kernels are no functions of the host.
static weir_status prove_on_device(checked* c) {
    WEIR_TRY(make_schedule(c));
    WEIR_TRY(make_passes(c));
    const weir_status order = weir_schedule_check(c->schedule);
    print_line(c, "order", order);
    const weir_status barriers = prove_barriers(c);
    print_line(c, "barriers", barriers);
    const weir_status elided = prove_elided(c);
    print_line(c, "elided", elided);
    return order != WEIR_OK ? order : barriers != WEIR_OK ? barriers : elided;
}

static weir_status prove(checked* c) {
    if (weir_device_target(c->opened->device)->waits == WEIR_WAIT_GROUPS) {
        return prove_on_device(c);
    }
    WEIR_TRY(make_schedule(c));
    WEIR_TRY(bind(c));
    WEIR_TRY(make_passes(c));
    const weir_check_desc desc = {.schedule = c->schedule,
                                  .bindings = c->bindings,
                                  .binding_count = c->binding_count,
                                  .passes = c->passes,
                                  .pass_count = c->pass_count,
                                  .delayed_runs = c->options->runs,
                                  .seed = c->options->seed,
                                  .report = print_proof,
                                  .context = c};
    return weir_schedule_prove(c->opened->device, &desc);
}

static void checked_free(checked* c) {
    weir_schedule_destroy(c->schedule);
    weir_graph_destroy(c->pass.graph);
    weir_storage_release(c->cache);
    free(c->bindings);
    free(c->passes);
    free(c->inputs);
    free(c->params);
    free(c->wanted);
}

// The tokens to run: those of the file, or some that spread over the vocabulary.
static weir_status read_ids(check_options* options, const cli_model* opened, weir_ids* ids) {
    const weir_llama_params* params = weir_model_params(opened->model);
    if (options->context > params->context) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s: a context of %u positions; the model has %u",
                         weir_gguf_file_name(weir_model_gguf(opened->model)), options->context,
                         params->context);
    }
    const uint32_t common = params->context < CONTEXT_DEFAULT ? params->context : CONTEXT_DEFAULT;
    options->context = options->context > 0 ? options->context : common;
    if (options->ids) {
        WEIR_TRY(cli_read_ids(options->ids, params->vocabulary, ids));
    }
    for (uint32_t i = 0; !options->ids && i < IDS_DEFAULT && i < options->context; i++) {
        WEIR_TRY(weir_ids_push(ids, (uint32_t)((i * UINT64_C(2654435761)) % params->vocabulary)));
    }
    if (ids->count > options->context) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s: %zu token ids; the context has room for %u",
                         options->ids, ids->count, options->context);
    }
    return WEIR_OK;
}

static weir_status check_model(check_options* options, const cli_model* opened,
                               const weir_plan_file* plans) {
    weir_ids ids = {0};
    json writer = {.file = stdout};
    weir_status status = read_ids(options, opened, &ids);
    weir_status first = status;
    char message[1024] = ""; // of the first failure, which the second program must not hide
    if (status == WEIR_OK && options->json) {
        json_begin(&writer, NULL, '{');
        json_begin(&writer, "proofs", '[');
    }
    const uint32_t rows = options->rows > 0 ? options->rows : ROWS_DEFAULT;
    for (int i = 0; status == WEIR_OK && i < 2; i++) {
        checked program = {.options = options,
                           .opened = opened,
                           .plans = plans,
                           .ids = &ids,
                           .writer = options->json ? &writer : NULL,
                           .name = i == 0 ? "prefill" : "decode",
                           .rows = i > 0                     ? 1
                                   : rows < options->context ? rows
                                                             : options->context};
        const weir_status proven = prove(&program);
        if (proven != WEIR_OK && first == WEIR_OK) {
            first = proven;
            snprintf(message, sizeof message, "%s", weir_last_error());
        }
        checked_free(&program);
    }
    if (status == WEIR_OK && options->json) {
        json_end(&writer, ']');
        json_bool(&writer, "holds", first == WEIR_OK);
        json_end(&writer, '}');
        putchar('\n');
    }
    weir_ids_free(&ids);
    return *message ? WEIR_FAIL(first, "%s", message) : first;
}

int check_main(int argc, char** argv) {
    check_options check = {0};
    const char* order = NULL;
    const cli_option options[] = {
        {"ids", 0, CLI_TEXT, &check.ids},
        {"rows", 0, CLI_U32, &check.rows},
        {"context", 0, CLI_U32, &check.context},
        {"threads", 0, CLI_U32, &check.threads},
        {"plan", 0, CLI_TEXT, &check.plan},
        {"runs", 0, CLI_U32, &check.runs},
        {"seed", 0, CLI_U64, &check.seed},
        {"json", 0, CLI_FLAG, &check.json},
        {"device", 0, CLI_TEXT, &check.device},
        {"order", 0, CLI_TEXT, &order},
        {"kv", 0, CLI_KV, &check.kv},
        {"arena", 0, CLI_U64, &check.schedule.byte_budget},
    };
    cli_exit code =
        cli_parse(argc, argv, usage, options, sizeof options / sizeof *options, &check.model);
    if (code != CLI_GO_ON) {
        return code;
    }
    if (!cli_find_order(order, &check.schedule.order)) {
        return cli_usage(argv[0], "--order: expected waits, bytes or given");
    }
    if (check.plan && (order || check.schedule.byte_budget > 0)) {
        return cli_usage(argv[0], "--%s: the plans of --plan have been made already",
                         order ? "order" : "arena");
    }
    cli_model opened = {0};
    weir_plan_file* plans = NULL;
    weir_status status = cli_model_open(check.model, check.device, check.threads, &opened);
    if (status == WEIR_OK && check.plan) {
        status = weir_plan_file_open(NULL, check.plan, &plans);
    }
    if (status == WEIR_OK) {
        status = weir_llama_kv_dtype(weir_model_params(opened.model),
                                     weir_device_target(opened.device), check.kv, &check.kv);
    }
    if (status == WEIR_OK) {
        status = check_model(&check, &opened, plans);
    }
    code = cli_finish(CLI_OK);
    if (status != WEIR_OK) { // a plan that is wrong is an error here, whatever its status
        cli_fail(status);
        code = CLI_ERROR;
    }
    weir_plan_file_destroy(plans);
    cli_model_close(&opened);
    return code;
}
