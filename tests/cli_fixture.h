// The program `weir` in a folder with a tiny model: runs commands, keeps what they print.
#ifndef WEIR_TESTS_CLI_FIXTURE_H
#define WEIR_TESTS_CLI_FIXTURE_H

#include "testing.h"

#include <sys/wait.h>
#include <unistd.h>

#include "llama_file.h"

#define OUTPUT_CAPACITY 65536

// A folder with a tiny model and what the last command printed.
typedef struct fixture {
    char program[512];
    char folder[64];
    char model[64];
    char output[OUTPUT_CAPACITY];
    char errors[OUTPUT_CAPACITY];
} fixture;

static fixture cli; // too large for the stack of each test

static inline void write_named(const char* name, const void* bytes, size_t byte_size) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", cli.folder, name);
    FILE* file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, byte_size, file), byte_size);
    assert_int_equal(fclose(file), 0);
}

// Writes the tiny model with one change.
static inline void write_changed(const char* name, llama_change change) {
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(&change, &byte_size);
    write_named(name, bytes, byte_size);
    free(bytes);
}

static inline void read_named(const char* name, char* target, size_t capacity) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", cli.folder, name);
    FILE* file = fopen(path, "rb");
    assert_non_null(file);
    const size_t length = fread(target, 1, capacity - 1, file);
    target[length] = '\0';
    fclose(file);
}

static inline int setup(void** state) {
    (void)state;
    const char* build = getenv("WEIR_BINARY_DIR");
    snprintf(cli.program, sizeof cli.program, "%s/weir", build ? build : ".");
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    write_file(cli.model, bytes, byte_size);
    free(bytes);
    strcpy(cli.folder, cli.model);
    *strrchr(cli.folder, '/') = '\0';
    return access(cli.program, X_OK);
}

static inline int teardown(void** state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", cli.folder);
    return system(command);
}

// Runs `weir <arguments>` in the folder; "$M" is the model, "$W" the program. Returns the exit
// code.
static inline int weir(const char* arguments) {
    char command[2048];
    snprintf(command, sizeof command, "cd '%s' && M='%s' && W='%s' && $W %s >out 2>err", cli.folder,
             cli.model, cli.program, arguments);
    const int status = system(command);
    read_named("out", cli.output, sizeof cli.output);
    read_named("err", cli.errors, sizeof cli.errors);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static inline void assert_has(const char* text, const char* part) {
    if (!strstr(text, part)) {
        fail_msg("\"%s\" does not contain \"%s\"", text, part);
    }
}

static inline void assert_one_line(const char* text) {
    const char* line_break = strchr(text, '\n');
    assert_non_null(line_break);
    assert_int_equal(line_break[1], '\0');
}

#endif
