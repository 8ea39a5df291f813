// The command line: getopt_long, driven by one table per command.
#include <assert.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "terminal.h"

#define OPTIONS_MAX 32
#define LONG_ONLY 256 // getopt's values of options: LONG_ONLY + index
#define HELP (LONG_ONLY + OPTIONS_MAX)

// Decimal digits only: strtoull alone would take signs and white space.
static bool parse_u64(const char* text, uint64_t max, uint64_t* number) {
    uint64_t read = 0;
    for (const char* c = text; *c; c++) {
        if (*c < '0' || *c > '9' || __builtin_mul_overflow(read, 10u, &read) ||
            __builtin_add_overflow(read, (uint64_t)(*c - '0'), &read)) {
            return false;
        }
    }
    *number = read;
    return *text != '\0' && read <= max;
}

// A number and at most one letter: powers of 1024.
static bool parse_bytes(const char* text, uint64_t* number) {
    static const char letters[] = "KMGT";
    char digits[24];
    const size_t length = strlen(text);
    const char* letter = length > 0 ? strchr(letters, text[length - 1]) : NULL;
    const size_t digit_count = length - (letter ? 1 : 0);
    if (digit_count >= sizeof digits) {
        return false;
    }
    memcpy(digits, text, digit_count);
    digits[digit_count] = '\0';
    const unsigned shift = letter ? 10 * (unsigned)(letter - letters + 1) : 0;
    uint64_t read = 0;
    if (!parse_u64(digits, UINT64_MAX >> shift, &read)) {
        return false;
    }
    *number = read << shift;
    return true;
}

static bool parse_float(const char* text, float* number) {
    char* end = NULL;
    const float read = strtof(text, &end);
    *number = read;
    return end != text && *end == '\0' && isfinite(read);
}

// Stores the value of one option; false when it is not what the option takes.
static bool store(const cli_option* option, const char* text) {
    uint64_t number = 0;
    float real = 0.0f;
    switch (option->kind) {
    case CLI_FLAG:
    case CLI_UNSET:
        *(bool*)option->target = option->kind == CLI_FLAG;
        return true;
    case CLI_TEXT:
        *(const char**)option->target = text;
        return true;
    case CLI_U32:
        if (!parse_u64(text, UINT32_MAX, &number)) {
            return false;
        }
        *(uint32_t*)option->target = (uint32_t)number;
        return true;
    case CLI_U64:
        if (!parse_u64(text, UINT64_MAX, &number)) {
            return false;
        }
        *(uint64_t*)option->target = number;
        return true;
    case CLI_FLOAT:
        if (!parse_float(text, &real)) {
            return false;
        }
        *(float*)option->target = real;
        return true;
    case CLI_PAIR:
        *(const char**)option->target = text;
        return true;
    case CLI_BYTES:
        if (!parse_bytes(text, &number)) {
            return false;
        }
        *(uint64_t*)option->target = number;
        return true;
    case CLI_KV:
        return cli_find_kv(text, option->target);
    }
    return false;
}

static cli_exit refuse_value(const char* command, const cli_option* option, const char* text) {
    return option->kind == CLI_KV
               ? cli_usage(command, CLI_KV_EXPECTED)
               : cli_usage(command, "--%s: '%s' is not %s", option->name, text,
                           option->kind == CLI_FLOAT   ? "a number"
                           : option->kind == CLI_BYTES ? "a size such as 4096, 512M or 8G"
                                                       : "a whole number in range");
}

static bool takes_value(const cli_option* option) {
    return option->kind != CLI_FLAG && option->kind != CLI_UNSET;
}

// Fills what getopt_long reads. The leading ':' of the letters makes it tell a missing value from
// an unknown option, and keeps it from printing.
static void describe(const cli_option* options, size_t count, struct option* longs, char* letters) {
    *letters++ = ':';
    *letters++ = 'h';
    for (size_t i = 0; i < count; i++) {
        longs[i] =
            (struct option){options[i].name, takes_value(&options[i]), NULL, LONG_ONLY + (int)i};
        if (options[i].letter) {
            *letters++ = options[i].letter;
            if (takes_value(&options[i])) {
                *letters++ = ':';
            }
        }
    }
    longs[count] = (struct option){"help", no_argument, NULL, HELP};
    longs[count + 1] = (struct option){0};
    *letters = '\0';
}

// getopt returns the letter for a short option and our number for a long one.
static const cli_option* find_option(const cli_option* options, size_t count, int found) {
    for (size_t i = 0; i < count; i++) {
        if (found == LONG_ONLY + (int)i || (options[i].letter && found == options[i].letter)) {
            return &options[i];
        }
    }
    return NULL;
}

// Arguments that are no options stand at argv[optind] and after it then.
static cli_exit parse_options(int argc, char** argv, const char* usage, const cli_option* options,
                              size_t option_count) {
    struct option longs[OPTIONS_MAX + 2];
    char letters[2 * OPTIONS_MAX + 3];
    assert(option_count <= OPTIONS_MAX);
    describe(options, option_count, longs, letters);
    opterr = 0;
    for (;;) {
        const int found = getopt_long(argc, argv, letters, longs, NULL);
        if (found == -1) {
            break;
        }
        if (found == 'h' || found == HELP) {
            fputs(usage, stdout);
            return cli_finish(CLI_OK);
        }
        const cli_option* option = find_option(options, option_count, found);
        if (found == ':') {
            return cli_usage(argv[0], "option '%s' needs a value", argv[optind - 1]);
        }
        if (!option && optopt > 0 && optopt < LONG_ONLY) { // may stand among other letters
            return cli_usage(argv[0], "unknown option '-%c'", optopt);
        }
        if (!option) {
            return cli_usage(argv[0], "unknown option '%s'", argv[optind - 1]);
        }
        if (option->kind == CLI_PAIR && optind >= argc) {
            return cli_usage(argv[0], "option '--%s' needs two values", option->name);
        }
        if (option->kind == CLI_PAIR) {
            ((const char**)option->target)[1] = argv[optind++];
        }
        if (!store(option, optarg)) {
            return refuse_value(argv[0], option, optarg);
        }
    }
    return CLI_GO_ON;
}

cli_exit cli_parse(int argc, char** argv, const char* usage, const cli_option* options,
                   size_t option_count, const char** model_path) {
    const cli_exit code = parse_options(argc, argv, usage, options, option_count);
    if (code != CLI_GO_ON) {
        return code;
    }
    if (!model_path) {
        return argc == optind ? CLI_GO_ON
                              : cli_usage(argv[0], "unexpected argument '%s'", argv[optind]);
    }
    if (argc - optind != 1) {
        return cli_usage(argv[0],
                         argc == optind ? "no model file given" : "more than one model file given");
    }
    *model_path = argv[optind];
    return CLI_GO_ON;
}

cli_exit cli_parse_many(int argc, char** argv, const char* usage, const cli_option* options,
                        size_t option_count, const char* const** paths, size_t* path_count) {
    const cli_exit code = parse_options(argc, argv, usage, options, option_count);
    if (code != CLI_GO_ON) {
        return code;
    }
    if (optind == argc) {
        return cli_usage(argv[0], "no model file given");
    }
    *paths = (const char* const*)argv + optind;
    *path_count = (size_t)(argc - optind);
    return CLI_GO_ON;
}

bool cli_find_kv(const char* name, weir_dtype* dtype) {
    static const struct {
        const char* name;
        weir_dtype dtype;
    } types[] = {{"f32", WEIR_DTYPE_F32},
                 {"f16", WEIR_DTYPE_F16},
                 {"bf16", WEIR_DTYPE_BF16},
                 {"q8_0", WEIR_DTYPE_Q8_0}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(types[i].name, name) == 0) {
            *dtype = types[i].dtype;
            return true;
        }
    }
    return false;
}

// Standard output goes first: both streams may end on one terminal. Names of files and options may
// hold any bytes: a message stays on its line and sends no escape sequences.
static void print_message(const char* format, va_list arguments) {
    char text[2048];
    vsnprintf(text, sizeof text, format, arguments);
    for (char* c = text; *c; c++) {
        *c = *c == '\n' || *c == '\t' ? '?' : *c;
    }
    terminal out = {.file = stderr};
    fflush(stdout);
    fputs("weir: ", stderr);
    terminal_put(&out, text, strlen(text));
    terminal_finish(&out);
}

cli_exit cli_error(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print_message(format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return CLI_ERROR;
}

cli_exit cli_usage(const char* command, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print_message(format, arguments);
    va_end(arguments);
    fprintf(stderr, "; see weir %s%s--help\n", command ? command : "", command ? " " : "");
    return CLI_USAGE;
}

cli_exit cli_fail(weir_status status) {
    const char* message = weir_last_error();
    cli_error("%s", *message ? message : weir_status_text(status));
    switch (status) {
    case WEIR_INFEASIBLE:
        return CLI_INFEASIBLE;
    case WEIR_TIMEOUT:
        return CLI_GAVE_UP;
    default:
        return CLI_ERROR;
    }
}

cli_exit cli_finish(cli_exit code) {
    const bool failed = fflush(stdout) != 0 || ferror(stdout);
    return failed && code == CLI_OK ? cli_error("cannot write to standard output") : code;
}
