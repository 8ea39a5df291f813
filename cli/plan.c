// weir plan: tells models from CSV by their first bytes, and reads the options of both.
#include <string.h>

#include "output.h"
#include "plan.h"

static const char usage[] =
    "usage: weir plan MODEL [OPTION...]\n"
    "       weir plan FILE.csv [OPTION...]\n\n"
    "MODEL: shows what memory a pass needs and what waits for what. Nothing is run and no tensor\n"
    "memory is taken.\n\n"
    "      --rows N       tokens of a prefill pass (default: 128)\n"
    "      --context N    rows of the caches (default: that of the model, at most 4096)\n"
    "      --device NAME  device to plan for (default: cpu)\n"
    "      --kv TYPE      of keys and values: f32, f16, bf16 or q8_0 (default: f16 where the\n"
    "                     device can, else f32)\n"
    "      --no-fusion    a dispatch for each operation of the graph\n"
    "      --split-attention  attention as scores, softmax and sum, not as one operation\n"
    "      --order NAME   waits (the fewest, default), bytes (the fewest) or given (by the graph)\n"
    "      --arena N      at most N bytes for the arena, with as many waits as that needs\n"
    "                     (of the pass that --pass names, else of each)\n"
    "      --tradeoff     show the curve between bytes and waits; every point is checked\n"
    "      --why A B      explain why dispatch B waits for A (numbers or names), or what two "
    "named\n"
    "                     values share\n"
    "      --schedule-json FILE  write the whole schedule; - for standard output\n"
    "      --pass NAME    of which pass: prefill or decode (default)\n"
    "      --json         print one object, with every value\n"
    "  -o, --output FILE  write the plans of both passes, for --plan here and of run and check\n"
    "      --plan FILE    show the plans of such a file, proven again\n"
    "      --diff FILE    show what differs from the plans of such a file\n\n"
    "FILE.csv: places buffers with columns id, lower, upper, size in as few bytes as possible; "
    "also\n"
    "alignment, gaps and offset (fixed where given). - is standard input. Ctrl-C ends the search\n"
    "with the best plan so far.\n\n"
    "      --capacity N   any plan of at most N bytes will do\n"
    "      --minimize     as few bytes as possible under the capacity too\n"
    "      --budget N     iterations of the search (default: by the number of buffers)\n"
    "      --time S       seconds after which the search ends\n"
    "      --align N      alignment of offsets where the file has none, in bytes\n"
    "      --block N      split into blocks of at most N bytes\n"
    "      --proof        search until the peak is proven the smallest\n"
    "      --free         plan anew what has an offset\n"
    "      --verify       check the offsets of the file: exit code 0 valid, 1 not\n"
    "  -o, --output FILE  write the CSV with a column offset; - for standard output, alone\n"
    "      --map          print which buffer lies where at which time\n"
    "      --svg FILE     draw it (- as above)\n"
    "      --json         print one object {peak, lower_bound, optimal, seconds, ...}, with a\n"
    "                     key failure where exit code 2 or 3 follows\n"
    "      --entries      with --json: every buffer too\n\n"
    "Exit codes: 0 solved, 1 error, 2 proven infeasible or no order found within --arena, 3 gave "
    "up,\n"
    "130 interrupted.\n";

static bool is_model(const char* path) {
    char magic[4] = {0};
    return cli_read_head(path, magic, sizeof magic) == sizeof magic &&
           memcmp(magic, "GGUF", sizeof magic) == 0;
}

// The first option that is given but not for this kind of file, or NULL.
static const char* find_foreign(const plan_options* plan, bool model) {
    const struct {
        const char* name;
        bool for_model;
        bool given;
    } options[] = {
        {"rows", true, plan->rows > 0},
        {"context", true, plan->context > 0},
        {"device", true, plan->device != NULL},
        {"kv", true, plan->kv != WEIR_DTYPE_NONE},
        {"no-fusion", true, plan->no_fusion},
        {"split-attention", true, plan->split_attention},
        {"order", true, plan->order != NULL},
        {"arena", true, plan->arena > 0},
        {"tradeoff", true, plan->tradeoff},
        {"why", true, plan->why[0] != NULL},
        {"schedule-json", true, plan->schedule_json != NULL},
        {"pass", true, plan->pass != NULL},
        {"plan", true, plan->plan != NULL},
        {"diff", true, plan->diff != NULL},
        {"capacity", false, plan->capacity > 0},
        {"minimize", false, plan->minimize},
        {"budget", false, plan->budget > 0},
        {"time", false, plan->seconds > 0},
        {"align", false, plan->alignment > 0},
        {"block", false, plan->block_bytes > 0},
        {"proof", false, plan->proof},
        {"free", false, plan->free},
        {"verify", false, plan->verify},
        {"map", false, plan->map},
        {"svg", false, plan->svg != NULL},
        {"entries", false, plan->entries},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (options[i].given && options[i].for_model != model) {
            return options[i].name;
        }
    }
    return NULL;
}

// An option that is about one schedule, or NULL.
static const char* find_single(const plan_options* plan) {
    return plan->order           ? "order"
           : plan->arena > 0     ? "arena"
           : plan->why[0]        ? "why"
           : plan->schedule_json ? "schedule-json"
           : plan->diff          ? "diff"
                                 : NULL;
}

// What options for CSV would be passed over in silence or get into each other's text, or NULL.
static const char* find_unused(const plan_options* plan) {
    if (plan->entries && !plan->json) {
        return "--entries is for --json";
    }
    if (cli_is_output_stream(plan->output) + cli_is_output_stream(plan->svg) + plan->map > 1) {
        return "standard output takes one of --output -, --svg - and --map";
    }
    const bool plans = plan->output || plan->minimize || plan->proof || plan->budget > 0 ||
                       plan->seconds > 0 || plan->free;
    return plan->verify && plans ? "--verify judges the offsets of the file, and makes no plan"
                                 : NULL;
}

// What excludes each other in options for models, or is out of its range.
static cli_exit check_values(const char* command, const plan_options* plan) {
    if (plan->seconds < 0 || plan->seconds > 1e9f) {
        return cli_usage(command, "--time: expected seconds from 0 to 10^9");
    }
    if (plan->pass && strcmp(plan->pass, "prefill") != 0 && strcmp(plan->pass, "decode") != 0) {
        return cli_usage(command, "--pass: expected prefill or decode");
    }
    if (cli_is_output_stream(plan->schedule_json) &&
        (plan->why[0] || cli_is_output_stream(plan->output))) {
        return cli_usage(command, "standard output takes one of --output -, --schedule-json - and "
                                  "--why");
    }
    if (plan->json && plan->diff) {
        return cli_usage(command, "--json and --diff exclude each other");
    }
    weir_order order = WEIR_ORDER_WAITS;
    if (!cli_find_order(plan->order, &order)) {
        return cli_usage(command, "--order: expected waits, bytes or given");
    }
    if (plan->plan && (plan->no_fusion || plan->order || plan->arena > 0 || plan->tradeoff)) {
        return cli_usage(command, "--%s: the plans of --plan have been made already",
                         plan->no_fusion   ? "no-fusion"
                         : plan->order     ? "order"
                         : plan->arena > 0 ? "arena"
                                           : "tradeoff");
    }
    const char* single = find_single(plan);
    if (plan->tradeoff && single) {
        return cli_usage(command, "--tradeoff shows all orders, --%s is about one", single);
    }
    return CLI_GO_ON;
}

int plan_main(int argc, char** argv) {
    plan_options plan = {0};
    const cli_option options[] = {
        {"rows", 0, CLI_U32, &plan.rows},
        {"context", 0, CLI_U32, &plan.context},
        {"device", 0, CLI_TEXT, &plan.device},
        {"kv", 0, CLI_KV, &plan.kv},
        {"no-fusion", 0, CLI_FLAG, &plan.no_fusion},
        {"split-attention", 0, CLI_FLAG, &plan.split_attention},
        {"order", 0, CLI_TEXT, &plan.order},
        {"arena", 0, CLI_U64, &plan.arena},
        {"tradeoff", 0, CLI_FLAG, &plan.tradeoff},
        {"why", 0, CLI_PAIR, plan.why},
        {"pass", 0, CLI_TEXT, &plan.pass},
        {"plan", 0, CLI_TEXT, &plan.plan},
        {"diff", 0, CLI_TEXT, &plan.diff},
        {"schedule-json", 0, CLI_TEXT, &plan.schedule_json},
        {"json", 0, CLI_FLAG, &plan.json},
        {"capacity", 0, CLI_U64, &plan.capacity},
        {"minimize", 0, CLI_FLAG, &plan.minimize},
        {"budget", 0, CLI_U64, &plan.budget},
        {"time", 0, CLI_FLOAT, &plan.seconds},
        {"align", 0, CLI_U64, &plan.alignment},
        {"block", 0, CLI_U64, &plan.block_bytes},
        {"proof", 0, CLI_FLAG, &plan.proof},
        {"free", 0, CLI_FLAG, &plan.free},
        {"verify", 0, CLI_FLAG, &plan.verify},
        {"output", 'o', CLI_TEXT, &plan.output},
        {"map", 0, CLI_FLAG, &plan.map},
        {"svg", 0, CLI_TEXT, &plan.svg},
        {"entries", 0, CLI_FLAG, &plan.entries},
    };
    const cli_exit parsed =
        cli_parse(argc, argv, usage, options, sizeof options / sizeof *options, &plan.path);
    if (parsed != CLI_GO_ON) {
        return parsed;
    }
    const cli_exit checked = check_values(argv[0], &plan);
    if (checked != CLI_GO_ON) {
        return checked;
    }
    const bool model = is_model(plan.path);
    const char* foreign = find_foreign(&plan, model);
    if (foreign) {
        return cli_usage(argv[0], "--%s is not for %s", foreign, model ? "models" : "CSV");
    }
    const char* unused = model ? NULL : find_unused(&plan);
    if (unused) {
        return cli_usage(argv[0], "%s", unused);
    }
    return model ? plan_model_command(&plan) : plan_csv_command(&plan);
}
