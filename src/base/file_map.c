#include "base/file_map.h"

#include <errno.h>
#include <fcntl.h>
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
    *map = (file_map){.bytes = (const uint8_t*)base + lead,
                      .byte_size = byte_size,
                      .base = base,
                      .base_size = (size_t)(byte_size + lead),
                      .device = (uint64_t)facts.st_dev,
                      .inode = (uint64_t)facts.st_ino};
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
    close(descriptor);
    return status;
}

weir_status file_map_advise(const file_map* map, uint64_t byte_offset, uint64_t byte_size,
                            file_advice advice) {
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
    return WEIR_OK;
}

void file_map_close(file_map* map) {
    if (map->base) {
        munmap(map->base, map->base_size);
    }
    *map = (file_map){0};
}
