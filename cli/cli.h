// What the commands of the program share: options, files, errors. Only public headers of weir.
#ifndef WEIR_CLI_H
#define WEIR_CLI_H

#include <stdio.h>
#include <weir-llm/model.h>
#include <weir-llm/tokenizer.h>
#include <weir/plan_file.h>

typedef enum cli_exit {
    CLI_OK = 0,
    CLI_ERROR = 1,
    CLI_INFEASIBLE = 2,
    CLI_GAVE_UP = 3,
    CLI_USAGE = 64,
    CLI_INTERRUPTED = 130,
    CLI_GO_ON = -1, // of cli_parse: the command runs
} cli_exit;

// The commands; each gets its own name in argv[0] and returns an exit code.
int run_main(int argc, char** argv);
int eval_main(int argc, char** argv);
int tokenize_main(int argc, char** argv);
int info_main(int argc, char** argv);
int plan_main(int argc, char** argv);
int check_main(int argc, char** argv);
int synth_main(int argc, char** argv);
int bench_main(int argc, char** argv);
int devices_main(int argc, char** argv);

typedef enum cli_option_kind {
    CLI_FLAG = 0,  // bool: set to true
    CLI_UNSET = 1, // bool: set to false
    CLI_TEXT = 2,  // const char*
    CLI_U32 = 3,   // uint32_t
    CLI_U64 = 4,   // uint64_t
    CLI_FLOAT = 5, // float, finite
    CLI_PAIR = 6,  // const char*[2]: the value and the argument after it
    CLI_BYTES = 7, // uint64_t: a number with K, M, G or T behind it, powers of 1024
    CLI_KV = 8,    // weir_dtype: a type of keys and values
} cli_option_kind;

typedef struct cli_option {
    const char* name; // without "--"
    char letter;      // short form, or 0
    cli_option_kind kind;
    void* target; // left alone when the option is not given
} cli_option;

// The options that limit what a model may ask for, and what a usage says of them.
#define CLI_LIMITS(limits)                                                                         \
    {"max-file", 0, CLI_BYTES, &(limits)->file_bytes},                                             \
        {"max-memory", 0, CLI_BYTES, &(limits)->memory_bytes},                                     \
        {"max-context", 0, CLI_U32, &(limits)->context}, {                                         \
        "max-vocabulary", 0, CLI_U32, &(limits)->vocabulary                                        \
    }
#define CLI_LIMITS_USAGE                                                                           \
    "      --max-file SIZE, --max-memory SIZE  refuse models whose files, or whose memory of a "   \
    "run,\n"                                                                                       \
    "                     is larger, as in 512M or 8G (default: the memory of this machine)\n"     \
    "      --max-context N, --max-vocabulary N  refuse more positions or tokens\n"

// Reads the command line of a command that takes one model file, or none where `model_path` is
// NULL. `--help` prints `usage`.
cli_exit cli_parse(int argc, char** argv, const char* usage, const cli_option* options,
                   size_t option_count, const char** model_path);

// Reads the command line of a command that takes one or more model files; `paths` points into argv.
cli_exit cli_parse_many(int argc, char** argv, const char* usage, const cli_option* options,
                        size_t option_count, const char* const** paths, size_t* path_count);

// Print one line to stderr and return the exit code: for the last error of weir, for an error of
// the program itself, for a wrong command line.
cli_exit cli_fail(weir_status status);
cli_exit cli_error(const char* format, ...) WEIR_PRINTF(1, 2);
cli_exit cli_usage(const char* command, const char* format, ...) WEIR_PRINTF(2, 3);

// Flushes stdout and turns a failed write into an error, where `code` is none yet.
cli_exit cli_finish(cli_exit code);

// A growing list of bytes. Zero-initialised = empty.
typedef struct cli_bytes {
    char* items;
    size_t count;
    size_t capacity;
} cli_bytes;

WEIR_MUST_USE weir_status cli_bytes_append(cli_bytes* bytes, const void* source, size_t length);
void cli_bytes_free(cli_bytes* bytes);

// Tells a path that stands for a standard stream, "-", from others; NULL is none.
bool cli_is_stream(const char* path);

// Reads a whole file; "-" is standard input.
WEIR_MUST_USE weir_status cli_read_file(const char* path, cli_bytes* bytes);

// Reads the first bytes of a file, fewer where it is shorter: what tells kinds of files apart. None
// of what is no regular file, which can be read only once, or cannot be read: that is left to the
// command that the file is for.
size_t cli_read_head(const char* path, void* bytes, size_t capacity);

// Reads token ids, decimal and separated by white space; each must be less than `limit`.
WEIR_MUST_USE weir_status cli_read_ids(const char* path, uint32_t limit, weir_ids* ids);

// A model with what it takes to use it. Zero-initialised = nothing open.
typedef struct cli_model {
    weir_limits limits; // set before it is opened
    weir_device* device;
    weir_model* model;
    weir_tokenizer* tokenizer;
} cli_model;

WEIR_MUST_USE weir_status cli_model_open(const char* path, const char* device, uint32_t threads,
                                         cli_model* opened);
void cli_model_close(cli_model* opened);

// Compares the memory that a tokenizer of a file needs with the limit of memory, before any of it
// is taken: it may be more than ten times the file.
WEIR_MUST_USE weir_status cli_vocabulary_check(const weir_gguf* gguf, uint64_t needed,
                                               uint64_t allowed);

// Finds the order that --order names; NULL leaves `order` as it is. False for another name.
bool cli_find_order(const char* name, weir_order* order);

// Finds the type of keys and values that --kv names. False for another name.
bool cli_find_kv(const char* name, weir_dtype* dtype);

#define CLI_KV_EXPECTED "--kv: expected f32, f16, bf16 or q8_0"

// Makes the schedule of a phase: taken from a plan file with its options, or planned with those
// given (NULL: the defaults) where `plans` is NULL.
WEIR_MUST_USE weir_status cli_schedule_make(const weir_plan_file* plans, const char* name,
                                            const weir_graph* graph, const weir_target* target,
                                            const weir_schedule_options* options,
                                            weir_schedule** schedule);

// Returns the nanoseconds of a clock that never goes back.
uint64_t cli_now(void);

// Returns a duration per item as items per second, 0 where nothing took time.
double cli_rate(uint64_t items, uint64_t duration_ns);

#endif
