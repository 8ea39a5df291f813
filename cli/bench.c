// weir bench: how fast models run, and how near that is to what the memory gives.
//
// Machines drift: frequency, neighbours, temperature. So every case is measured once in each round,
// and what is compared are the medians over the rounds.
#include "bench.h"

#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: weir bench MODEL... [OPTION...]\n\n"
    "Times prefill and decode of each model on each device with each number of threads and each\n"
    "type of the cache, and how fast the same workers only read the weights. Every case is opened\n"
    "anew in each round.\n\n"
    "      --prompts LIST  lengths of the prompts (default: 128,512)\n"
    "  -n, --tokens N      tokens to decode, from an empty context on (default: 32)\n"
    "      --threads LIST  worker threads (default: 0, one per core)\n"
    "      --device LIST   what to run on, see weir devices (default: cpu)\n"
    "      --kv LIST       types of keys and values: f32, f16, bf16, q8_0 (default: as weir run)\n"
    "      --rows N        most tokens of one prefill pass (default: 128)\n"
    "      --rounds N      how often each case is measured (default: 5)\n"
    "      --format NAME   text, csv or json (default: text): medians, and the lowest and the\n"
    "                      highest of all rounds\n\n"
    "LIST is one value or several with commas. The share says at what part of the read rate "
    "decode\n"
    "takes in weights and cache; where a device runs no functions of the host, the rate is that "
    "of\n"
    "copies, reads and writes counted. The memory is that of the process, mapped pages included.\n";

static int compare_values(const void* a, const void* b) {
    const double left = *(const double*)a;
    const double right = *(const double*)b;
    return (left > right) - (left < right);
}

double bench_median(double* values, uint32_t count) {
    qsort(values, count, sizeof *values, compare_values);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

// Copies the next entry of a list with commas to `item`; false at the end, or where it is empty or
// too long, which leaves `list` in place.
static bool next_item(const char** list, char* item, size_t capacity) {
    const size_t length = strcspn(*list, ",");
    if (length == 0 || length >= capacity) {
        return false;
    }
    memcpy(item, *list, length);
    item[length] = '\0';
    *list += length;
    if (**list == ',' && (*list)[1] != '\0') {
        (*list)++;
    }
    return true;
}

static bool read_names(const char* list, char names[][32], uint32_t* count) {
    *count = 0;
    while (*list && *count < BENCH_LIST_MAX && next_item(&list, names[*count], 32)) {
        ++*count;
    }
    return *list == '\0' && *count > 0;
}

static bool read_numbers(const char* list, uint32_t lowest, uint32_t highest, uint32_t* numbers,
                         uint32_t* count) {
    char items[BENCH_LIST_MAX][32];
    if (!read_names(list, items, count)) {
        return false;
    }
    for (uint32_t i = 0; i < *count; i++) {
        if (strspn(items[i], "0123456789") != strlen(items[i]) || strlen(items[i]) > 9) {
            return false;
        }
        numbers[i] = (uint32_t)strtoul(items[i], NULL, 10);
        if (numbers[i] < lowest || numbers[i] > highest) {
            return false;
        }
    }
    return true;
}

static bool read_kvs(const char* list, bench_options* bench) {
    char names[BENCH_LIST_MAX][32];
    bench->kv_count = 1;
    if (!list) {
        return true;
    }
    if (!read_names(list, names, &bench->kv_count)) {
        return false;
    }
    for (uint32_t i = 0; i < bench->kv_count; i++) {
        if (!cli_find_kv(names[i], &bench->kvs[i])) {
            return false;
        }
    }
    return true;
}

// Workers are what the CPU has: on other devices one case stands for all numbers of threads.
static bool takes_threads(const char* device) {
    return strncmp(device, "cpu", 3) == 0;
}

static size_t make_cases(const bench_options* options, bench_case* cases) {
    size_t count = 0;
    for (size_t m = 0; m < options->model_count; m++) {
        for (uint32_t d = 0; d < options->device_count; d++) {
            const uint32_t kinds = takes_threads(options->devices[d]) ? options->thread_count : 1;
            for (uint32_t t = 0; t < kinds * options->kv_count; t++) {
                cases[count++] = (bench_case){.model = options->models[m],
                                              .device = options->devices[d],
                                              .threads = options->threads[t / options->kv_count],
                                              .kv = options->kvs[t % options->kv_count]};
            }
        }
    }
    return count;
}

static weir_status run_rounds(const bench_options* options, bench_case* cases, size_t count) {
    for (uint32_t round = 0; round < options->rounds; round++) {
        for (size_t i = 0; i < count; i++) {
            WEIR_TRY(bench_round(options, &cases[i], round));
        }
    }
    return WEIR_OK;
}

static cli_exit bench_command(const bench_options* options, bench_print_fn print) {
    const size_t most =
        options->model_count * options->device_count * options->thread_count * options->kv_count;
    bench_case* cases = calloc(most, sizeof *cases);
    if (!cases) {
        return cli_error("no memory for %zu cases", most);
    }
    const size_t count = make_cases(options, cases);
    const weir_status status = run_rounds(options, cases, count);
    if (status == WEIR_OK) {
        print(options, cases, count);
    }
    const cli_exit code = status == WEIR_OK ? CLI_OK : cli_fail(status);
    free(cases);
    return cli_finish(code);
}

int bench_main(int argc, char** argv) {
    bench_options bench = {.tokens = 32, .rounds = 5};
    const char* prompts = "128,512";
    const char* threads = "0";
    const char* devices = "cpu";
    const char* kvs = NULL;
    const char* format = "text";
    const cli_option options[] = {
        {"prompts", 0, CLI_TEXT, &prompts},
        {"tokens", 'n', CLI_U32, &bench.tokens},
        {"threads", 0, CLI_TEXT, &threads},
        {"device", 0, CLI_TEXT, &devices},
        {"kv", 0, CLI_TEXT, &kvs},
        {"rows", 0, CLI_U32, &bench.rows},
        {"rounds", 0, CLI_U32, &bench.rounds},
        {"format", 0, CLI_TEXT, &format},
    };
    const cli_exit code =
        cli_parse_many(argc, argv, usage, options, sizeof options / sizeof *options, &bench.models,
                       &bench.model_count);
    if (code != CLI_GO_ON) {
        return code;
    }
    if (!read_numbers(prompts, 1, 1u << 24, bench.prompts, &bench.prompt_count)) {
        return cli_usage(argv[0], "--prompts: '%s' is no list of at most %d lengths", prompts,
                         BENCH_LIST_MAX);
    }
    if (!read_numbers(threads, 0, WEIR_THREADS_MAX, bench.threads, &bench.thread_count)) {
        return cli_usage(argv[0], "--threads: '%s' is no list of at most %d numbers up to %d",
                         threads, BENCH_LIST_MAX, WEIR_THREADS_MAX);
    }
    if (!read_names(devices, bench.devices, &bench.device_count)) {
        return cli_usage(argv[0], "--device: '%s' is no list of at most %d devices", devices,
                         BENCH_LIST_MAX);
    }
    if (!read_kvs(kvs, &bench)) {
        return cli_usage(argv[0], CLI_KV_EXPECTED);
    }
    if (bench.rounds == 0 || bench.rounds > BENCH_ROUNDS_MAX || bench.tokens == 0) {
        return cli_usage(argv[0], "--rounds takes 1 to %d, --tokens 1 or more", BENCH_ROUNDS_MAX);
    }
    const bench_print_fn print = bench_find_format(format);
    return print ? bench_command(&bench, print)
                 : cli_usage(argv[0], "--format: '%s' is none of text, csv, json", format);
}
