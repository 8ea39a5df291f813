// The program `weir`: one file per command.
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static const struct {
    const char* name;
    int (*run)(int argc, char** argv);
    const char* summary;
} commands[] = {
    {"run", run_main, "continue a text"},
    {"eval", eval_main, "score given tokens, write their logits"},
    {"tokenize", tokenize_main, "turn text into token ids"},
    {"info", info_main, "describe a model file"},
    {"plan", plan_main, "show what memory a model needs, or place the buffers of a CSV file"},
    {"check", check_main, "prove the programs of a model and compare their runs"},
    {"bench", bench_main, "time prefill and decode against what the memory gives"},
    {"synth", synth_main, "write a model with random weights, for benchmarks"},
    {"devices", devices_main, "list what this machine can run on"},
};

static void print_help(FILE* file) {
    fprintf(file, "usage: weir COMMAND [FILE] [OPTION...]\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        fprintf(file, "  %-10s %s\n", commands[i].name, commands[i].summary);
    }
    fprintf(file, "\nFILE is a model in GGUF, for plan also a problem in CSV; devices takes none. "
                  "weir COMMAND --help\n"
                  "lists the options of a command, weir --version prints the version.\n"
                  "Exit codes: 0 ok, 1 error, 2 infeasible, 3 gave up, 64 wrong usage, 130 "
                  "interrupted.\n");
}

// A standard stream that the caller has closed stays one that cannot be used: the first file that
// is opened must not take its number, to be read as input or to have messages written into it.
static void hold_standard_streams(void) {
    for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; stream++) {
        if (fcntl(stream, F_GETFD) == -1) {
            (void)open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        }
    }
}

int main(int argc, char** argv) {
    hold_standard_streams();
    signal(SIGXFSZ, SIG_IGN); // a file over the limit is an error of whoever writes it
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return cli_finish(CLI_OK);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("weir %s\n", weir_version());
        return cli_finish(CLI_OK);
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    return cli_usage(NULL, "unknown command '%s'", argv[1]);
}
