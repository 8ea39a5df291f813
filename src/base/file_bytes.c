#include "base/file_bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAMES_TRIED 100 // temporary names, before giving up on a folder full of them
#define SUFFIX_ROOM 48  // of a temporary name

static weir_status read_into(int descriptor, const char* path, uint8_t* bytes, size_t byte_size) {
    size_t done = 0;
    while (done < byte_size) {
        const ssize_t got = read(descriptor, bytes + done, byte_size - done);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return WEIR_FAIL(WEIR_IO, "%s: cannot read byte %zu of %zu: %s", path, done, byte_size,
                             got < 0 ? strerror(errno) : "the file was cut while it was read");
        }
        done += (size_t)got;
    }
    return WEIR_OK;
}

static weir_status read_descriptor(const weir_allocator* allocator, int descriptor,
                                   const char* path, size_t limit, uint8_t** bytes,
                                   size_t* byte_size) {
    struct stat facts;
    if (fstat(descriptor, &facts) != 0) {
        return WEIR_FAIL(WEIR_IO, "%s: cannot read its size: %s", path, strerror(errno));
    }
    if (!S_ISREG(facts.st_mode)) {
        return WEIR_FAIL(WEIR_IO, "%s: not a regular file", path);
    }
    if ((uint64_t)facts.st_size > limit) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s: %llu bytes, expected at most %zu", path,
                         (unsigned long long)facts.st_size, limit);
    }
    const size_t size = (size_t)facts.st_size;
    void* memory = NULL;
    if (size > 0) {
        WEIR_TRY(weir_alloc(allocator, size, 1, &memory));
    }
    const weir_status status = read_into(descriptor, path, memory, size);
    if (status != WEIR_OK) {
        weir_free(allocator, memory, size, 1);
        return status;
    }
    *bytes = memory;
    *byte_size = size;
    return WEIR_OK;
}

weir_status file_bytes_read(const weir_allocator* allocator, const char* path, size_t limit,
                            uint8_t** bytes, size_t* byte_size) {
    // Without O_NONBLOCK a FIFO would be waited for before it could be refused.
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        return WEIR_FAIL(WEIR_IO, "%s: cannot open: %s", path, strerror(errno));
    }
    const weir_status status =
        read_descriptor(allocator, descriptor, path, limit, bytes, byte_size);
    close(descriptor);
    return status;
}

// Opens a file that was not there, "PATH.PROCESS-NUMBER.tmp", and writes its name to `name`.
static weir_status open_new(const char* path, char* name, size_t room, int* descriptor) {
    for (unsigned i = 0; i < NAMES_TRIED; i++) {
        snprintf(name, room, "%s.%ld-%u.tmp", path, (long)getpid(), i);
        *descriptor = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (*descriptor >= 0) {
            return WEIR_OK;
        }
        if (errno != EEXIST) {
            break;
        }
    }
    return WEIR_FAIL(WEIR_IO, "%s: cannot create: %s", path, strerror(errno));
}

static weir_status fail_write(const char* path) {
    return WEIR_FAIL(WEIR_IO, "%s: cannot write: %s", path, strerror(errno));
}

// Restarts after signals of others; false with the reason in errno.
static bool write_through(int descriptor, const uint8_t* bytes, size_t byte_size) {
    size_t done = 0;
    while (done < byte_size) {
        const ssize_t put = write(descriptor, bytes + done, byte_size - done);
        if (put == 0) { // a device that takes nothing would be asked for ever
            errno = EIO;
        }
        if (put == 0 || (put < 0 && errno != EINTR)) {
            return false;
        }
        done += put > 0 ? (size_t)put : 0;
    }
    return true;
}

// Both signals go to the thread that writes. One of them that waited there before is not ours to
// take.
bool file_write_all(int descriptor, const void* bytes, size_t byte_size) {
    static const struct timespec at_once = {0};
    sigset_t ours;
    sigset_t before;
    sigset_t waited;
    sigemptyset(&ours);
    sigaddset(&ours, SIGPIPE);
    sigaddset(&ours, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &ours, &before);
    sigpending(&waited);
    const bool written = write_through(descriptor, bytes, byte_size);
    const int error = errno;
    const int raised = error == EPIPE ? SIGPIPE : SIGXFSZ;
    if (!written && (error == EPIPE || error == EFBIG) && sigismember(&waited, raised) == 0) {
        sigset_t taken;
        sigemptyset(&taken);
        sigaddset(&taken, raised);
        while (sigtimedwait(&taken, NULL, &at_once) < 0 && errno == EINTR) {
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return written;
}

static weir_status write_all(int descriptor, const char* path, const void* bytes,
                             size_t byte_size) {
    return file_write_all(descriptor, bytes, byte_size) ? WEIR_OK : fail_write(path);
}

static weir_status write_and_rename(const char* path, char* name, size_t room, const void* bytes,
                                    size_t byte_size) {
    int descriptor = -1;
    WEIR_TRY(open_new(path, name, room, &descriptor));
    weir_status status = write_all(descriptor, path, bytes, byte_size);
    // A name that outlives a crash of the machine must not stand for bytes that do not.
    if (status == WEIR_OK && fsync(descriptor) != 0) {
        status = fail_write(path);
    }
    if (close(descriptor) != 0 && status == WEIR_OK) {
        status = fail_write(path);
    }
    if (status == WEIR_OK && rename(name, path) != 0) {
        status = WEIR_FAIL(WEIR_IO, "%s: cannot rename the new file: %s", path, strerror(errno));
    }
    if (status != WEIR_OK) {
        unlink(name);
    }
    return status;
}

// What a name leads to that is no file to take the place of: a device, a pipe, or nothing yet.
static bool is_special(const char* path) {
    struct stat facts;
    if (stat(path, &facts) != 0) {
        return lstat(path, &facts) == 0;
    }
    return !S_ISREG(facts.st_mode) && !S_ISDIR(facts.st_mode);
}

static weir_status write_into(const char* path, const void* bytes, size_t byte_size) {
    const int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor < 0) {
        return WEIR_FAIL(WEIR_IO, "%s: cannot open: %s", path, strerror(errno));
    }
    const weir_status status = write_all(descriptor, path, bytes, byte_size);
    return close(descriptor) != 0 && status == WEIR_OK ? fail_write(path) : status;
}

weir_status file_bytes_write(const weir_allocator* allocator, const char* path, const void* bytes,
                             size_t byte_size) {
    if (is_special(path)) {
        return write_into(path, bytes, byte_size);
    }
    char target[PATH_MAX]; // links keep their names
    if (realpath(path, target)) {
        path = target;
    }
    const size_t room = strlen(path) + SUFFIX_ROOM;
    void* name = NULL;
    WEIR_TRY(weir_alloc(allocator, room, 1, &name));
    const weir_status status = write_and_rename(path, name, room, bytes, byte_size);
    weir_free(allocator, name, room, 1);
    return status;
}
