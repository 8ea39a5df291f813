#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// What stdio writes to a file by. The reason of a failure is kept where it is known, and a reader
// that has left a pipe is one, where a signal would end the program before it had said so.
static ssize_t write_through(void* cookie, const char* bytes, size_t length) {
    cli_output* output = cookie;
    void (*const before)(int) = signal(SIGPIPE, SIG_IGN);
    size_t done = 0;
    while (done < length && output->error == 0) {
        const ssize_t put = write(output->descriptor, bytes + done, length - done);
        if (put == 0) { // a device that takes nothing would be asked for ever
            output->error = EIO;
        } else if (put < 0 && errno != EINTR) {
            output->error = errno;
        }
        done += put > 0 ? (size_t)put : 0;
    }
    signal(SIGPIPE, before);
    return (ssize_t)done;
}

static int close_through(void* cookie) {
    cli_output* output = cookie;
    if (close(output->descriptor) != 0 && output->error == 0) {
        output->error = errno;
    }
    return output->error == 0 ? 0 : EOF;
}

static bool is_file_of_output(const char* path) {
    struct stat there;
    struct stat here;
    return stat(path, &there) == 0 && S_ISREG(there.st_mode) && fstat(STDOUT_FILENO, &here) == 0 &&
           here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

bool cli_is_output_stream(const char* path) {
    return path &&
           (strcmp(path, "-") == 0 || strcmp(path, "/dev/stdout") == 0 || is_file_of_output(path));
}

weir_status cli_output_open(const char* path, cli_output* output) {
    if (cli_is_output_stream(path)) {
        *output = (cli_output){.file = stdout, .name = "standard output"};
        return WEIR_OK;
    }
    *output = (cli_output){.name = path};
    output->descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (output->descriptor < 0) {
        return WEIR_FAIL(WEIR_IO, "%s: cannot open: %s", path, strerror(errno));
    }
    const cookie_io_functions_t through = {.write = write_through, .close = close_through};
    output->file = fopencookie(output, "w", through);
    if (!output->file) {
        close(output->descriptor);
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "%s: no memory to write it", path);
    }
    return WEIR_OK;
}

static weir_status fail_write(const cli_output* output) {
    return output->error != 0
               ? WEIR_FAIL(WEIR_IO, "%s: cannot write: %s", output->name, strerror(output->error))
               : WEIR_FAIL(WEIR_IO, "%s: cannot write", output->name);
}

bool cli_output_write(void* output, const char* bytes, size_t length) {
    cli_output* to = output;
    const bool written = fwrite(bytes, 1, length, to->file) == length;
    if (!written && to->error == 0) {
        to->error = errno;
    }
    return written;
}

weir_status cli_output_put(cli_output* output, const void* bytes, size_t length) {
    return cli_output_write(output, bytes, length) ? WEIR_OK : fail_write(output);
}

weir_status cli_output_close(cli_output* output, weir_status status) {
    FILE* file = output->file;
    if (!file) {
        return status;
    }
    bool failed = ferror(file) != 0;
    errno = 0;
    if ((file == stdout ? fflush(file) : fclose(file)) != 0) {
        failed = true;
        output->error = output->error != 0 ? output->error : errno;
    }
    if ((failed || status != WEIR_OK) && file != stdout) {
        cli_output_remove(output->name);
    }
    output->file = NULL;
    return failed && (status == WEIR_OK || status == WEIR_IO) ? fail_write(output) : status;
}

void cli_output_remove(const char* path) {
    struct stat facts;
    char target[PATH_MAX];
    if (!cli_is_output_stream(path) && realpath(path, target) && lstat(target, &facts) == 0 &&
        S_ISREG(facts.st_mode) && access(target, W_OK) == 0) {
        remove(target);
    }
}
