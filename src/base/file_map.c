#include "base/file_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static weir_status check_range(const char* path, uint64_t file_size, uint64_t byte_offset,
                               uint64_t* byte_size) {
    if (byte_offset > file_size || *byte_size > file_size - byte_offset) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                         "%s: bytes [%llu, +%llu) pass the end of the file at %llu", path,
                         (unsigned long long)byte_offset, (unsigned long long)*byte_size,
                         (unsigned long long)file_size);
    }
    if (*byte_size == 0) {
        *byte_size = file_size - byte_offset;
    }
    if (*byte_size == 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "%s: no bytes to map at offset %llu: the file has %llu", path,
                         (unsigned long long)byte_offset, (unsigned long long)file_size);
    }
    return WEIR_OK;
}

// Weights are read from end to end: where the file system keeps pages of 2 MiB the processor looks
// up one address instead of 512. It is a favour, and a fault then reads as much.
static weir_status map_descriptor(int descriptor, const char* path, uint64_t byte_offset,
                                  uint64_t byte_size, file_map* map) {
    struct stat facts;
    if (fstat(descriptor, &facts) != 0) {
        return WEIR_FAIL(WEIR_IO, "%s: cannot read its size: %s", path, strerror(errno));
    }
    if (!S_ISREG(facts.st_mode)) {
        return WEIR_FAIL(WEIR_IO, "%s: not a regular file", path);
    }
    WEIR_TRY(check_range(path, (uint64_t)facts.st_size, byte_offset, &byte_size));
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const uint64_t lead = byte_offset % page;
    if (byte_size > SIZE_MAX - lead) {
        return WEIR_FAIL(WEIR_IO, "%s: %llu bytes pass the address space", path,
                         (unsigned long long)byte_size);
    }
    void* base = mmap(NULL, (size_t)(byte_size + lead), PROT_READ, MAP_SHARED, descriptor,
                      (off_t)(byte_offset - lead));
    if (base == MAP_FAILED) {
        return WEIR_FAIL(WEIR_IO, "%s: cannot map %llu bytes: %s", path,
                         (unsigned long long)byte_size, strerror(errno));
    }
    madvise(base, (size_t)(byte_size + lead), MADV_HUGEPAGE);
    bus_watch* watch = NULL;
    const weir_status status = bus_fault_watch(base, (size_t)(byte_size + lead), &watch);
    if (status != WEIR_OK) {
        munmap(base, (size_t)(byte_size + lead));
        return WEIR_FAIL(status, "%s: %s", path, weir_last_error());
    }
    *map = (file_map){.bytes = (const uint8_t*)base + lead,
                      .byte_size = byte_size,
                      .base = base,
                      .base_size = (size_t)(byte_size + lead),
                      .device = (uint64_t)facts.st_dev,
                      .inode = (uint64_t)facts.st_ino,
                      .file_offset = byte_offset,
                      .descriptor = descriptor,
                      .watch = watch};
    return WEIR_OK;
}

weir_status file_map_open(const char* path, uint64_t byte_offset, uint64_t byte_size,
                          file_map* map) {
    // Without O_NONBLOCK a FIFO would be waited for before it could be refused.
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        return WEIR_FAIL(WEIR_IO, "%s: cannot open: %s", path, strerror(errno));
    }
    const weir_status status = map_descriptor(descriptor, path, byte_offset, byte_size, map);
    if (status != WEIR_OK) {
        close(descriptor);
    }
    return status;
}

weir_status file_map_advise(file_map* map, uint64_t byte_offset, uint64_t byte_size,
                            file_advice advice) {
    if (advice == FILE_WILL_NEED && byte_offset == 0 && byte_size == map->byte_size) {
        read_ahead_start(&map->ahead, map->descriptor, map->file_offset,
                         map->file_offset + map->byte_size, map->bytes);
        return WEIR_OK;
    }
    static const int kinds[] = {
        [FILE_NORMAL] = MADV_NORMAL, [FILE_SEQUENTIAL] = MADV_SEQUENTIAL,
        [FILE_RANDOM] = MADV_RANDOM, [FILE_WILL_NEED] = MADV_WILLNEED,
        [FILE_DROP] = MADV_DONTNEED, // of a shared mapping: the pages are read again
    };
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = ((uintptr_t)map->bytes + byte_offset) / page * page;
    const uintptr_t end = (uintptr_t)map->bytes + byte_offset + byte_size;
    if (begin < end && madvise((void*)begin, end - begin, kinds[advice]) != 0) {
        return WEIR_FAIL(WEIR_IO, "the system refuses advice for bytes [%llu, +%llu): %s",
                         (unsigned long long)byte_offset, (unsigned long long)byte_size,
                         strerror(errno));
    }
    if (begin < end && (advice == FILE_RANDOM || advice == FILE_NORMAL)) {
        madvise((void*)begin, end - begin, advice == FILE_RANDOM ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
    }
    return WEIR_OK;
}

static weir_status fail_lost(const file_map* map) {
    char link[64];
    char path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", map->descriptor);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = '\0';
    const uintptr_t lost = bus_fault_lost(map->watch);
    const uintptr_t begin = (uintptr_t)map->bytes;
    return WEIR_FAIL(WEIR_IO,
                     "%s: bytes from %llu on are lost to the mapping of [%llu, +%llu): the file "
                     "was cut short or cannot be read",
                     path,
                     (unsigned long long)(map->file_offset + (lost > begin ? lost - begin : 0)),
                     (unsigned long long)map->file_offset, (unsigned long long)map->byte_size);
}

weir_status file_map_check(const file_map* map) {
    if (bus_fault_lost(map->watch) != UINTPTR_MAX) {
        return fail_lost(map);
    }
    struct stat facts;
    if (fstat(map->descriptor, &facts) != 0) {
        return WEIR_FAIL(WEIR_IO, "cannot read the size of a mapped file: %s", strerror(errno));
    }
    const uint64_t file_size = (uint64_t)facts.st_size;
    if (file_size >= map->file_offset + map->byte_size) {
        return WEIR_OK;
    }
    // The rest of its last page reads as zeros without any fault.
    const uint64_t kept = file_size > map->file_offset ? file_size - map->file_offset : 0;
    bus_fault_lose(map->watch, (uintptr_t)map->bytes + (uintptr_t)kept);
    return fail_lost(map);
}

weir_status file_map_read(const file_map* map, uint64_t byte_offset, void* bytes,
                          size_t byte_count) {
    const uint64_t begin = map->file_offset + byte_offset;
    for (size_t done = 0; done < byte_count;) {
        const ssize_t got = pread(map->descriptor, (uint8_t*)bytes + done, byte_count - done,
                                  (off_t)(begin + done));
        if (got > 0) {
            done += (size_t)got;
        } else if (got == 0) { // the end of the file
            WEIR_TRY(file_map_check(map));
            return fail_lost(map);
        } else if (errno != EINTR) {
            return WEIR_FAIL(WEIR_IO, "cannot read byte %llu of a mapped file: %s",
                             (unsigned long long)(begin + done), strerror(errno));
        }
    }
    return WEIR_OK;
}

void file_map_close(file_map* map) {
    if (map->base) {
        read_ahead_stop(&map->ahead);
        bus_fault_unwatch(map->watch);
        munmap(map->base, map->base_size);
        close(map->descriptor);
    }
    *map = (file_map){0};
}
