// Where a command writes to: a file that is made anew, or standard output, by "-", /dev/stdout or
// a path of the file that it goes to, and then behind what is in it. A file that could not be
// written whole is removed.
//
// A reader that leaves a named pipe is an error of the file like a full disk. One that leaves
// standard output ends the program by SIGPIPE, without a word, as it does with others.
#ifndef WEIR_CLI_OUTPUT_H
#define WEIR_CLI_OUTPUT_H

#include <stdio.h>
#include <weir/status.h>

// Zero-initialised = not open. It stays where it was opened.
typedef struct cli_output {
    FILE* file; // NULL: not open
    const char* name;
    int descriptor; // of a file
    int error;      // errno of the first failure
} cli_output;

// Tells a path that stands for standard output, whose file must not be opened anew: what is in it
// would go.
bool cli_is_output_stream(const char* path);

// Opens a path; the output keeps it.
//
// Errors: WEIR_IO, WEIR_OUT_OF_MEMORY; nothing is open then.
WEIR_MUST_USE weir_status cli_output_open(const char* path, cli_output* output);

// Writes bytes, as a status and in the form in which the library asks for it; whoever writes to
// `file` itself learns of a failure when it is closed.
//
// Errors: WEIR_IO.
WEIR_MUST_USE weir_status cli_output_put(cli_output* output, const void* bytes, size_t length);
bool cli_output_write(void* output, const char* bytes, size_t length);

// Writes what is buffered and closes the file; standard output stays open. Returns `status`, or
// what kept bytes from being written where there is no other failure. A no-op where nothing is
// open.
//
// Errors: WEIR_IO.
WEIR_MUST_USE weir_status cli_output_close(cli_output* output, weir_status status);

// Removes a file of which a part was written. Devices, pipes and links keep their names: what a
// link leads to goes. So does what may not be written, since it was not begun.
void cli_output_remove(const char* path);

#endif
