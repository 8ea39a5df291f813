// Reading ahead: the pages of a file come into the cache without anybody touching them.
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/file_map.h"
#include "base/read_ahead.h"

#define FILE_BYTES ((off_t)8 << 20)
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 // not in headers older than Linux 5.14
#endif

// 1: in the cache, 0: not, -1: the file system does not say.
static int cached_at(int descriptor, off_t offset) {
    char byte;
    const struct iovec where = {&byte, 1};
    if (preadv2(descriptor, &where, 1, offset, RWF_NOWAIT) == 1) {
        return 1;
    }
    return errno == EAGAIN ? 0 : -1;
}

static int open_file(char path[64]) {
    static uint8_t bytes[1 << 16];
    strcpy(path, "/tmp/weir-read-ahead-XXXXXX");
    const int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    for (off_t at = 0; at < FILE_BYTES; at += (off_t)sizeof bytes) {
        assert_int_equal(write(descriptor, bytes, sizeof bytes), sizeof bytes);
    }
    return descriptor;
}

static void drop_file(int descriptor) {
    assert_int_equal(fsync(descriptor), 0);
    assert_int_equal(posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED), 0);
    if (cached_at(descriptor, FILE_BYTES / 2) != 0) {
        print_message("skipped: pages of /tmp cannot be dropped\n");
        skip();
    }
}

// Seconds pass before this gives up: the disk may be busy.
static bool all_is_cached(int descriptor) {
    const struct timespec pause = {.tv_nsec = 2000000};
    for (int i = 0; i < 5000; i++) {
        off_t at = 0;
        while (at < FILE_BYTES && cached_at(descriptor, at) == 1) {
            at += 4096;
        }
        if (at >= FILE_BYTES) {
            return true;
        }
        nanosleep(&pause, NULL);
    }
    return false;
}

static void a_file_comes_into_the_cache_untouched(void** state) {
    (void)state;
    char path[64];
    read_ahead ahead = {0};
    const int descriptor = open_file(path);
    unlink(path);
    drop_file(descriptor);
    read_ahead_start(&ahead, descriptor, 0, (uint64_t)FILE_BYTES, NULL);
    assert_int_equal(atomic_load(&ahead.state), 2);
    read_ahead_start(&ahead, descriptor, 0, (uint64_t)FILE_BYTES, NULL); // once is enough
    assert_true(all_is_cached(descriptor));
    read_ahead_stop(&ahead);
    close(descriptor);
}

static void what_is_cached_starts_no_thread(void** state) {
    (void)state;
    char path[64];
    read_ahead ahead = {0};
    const int descriptor = open_file(path);
    unlink(path);
    read_ahead_start(&ahead, descriptor, 0, (uint64_t)FILE_BYTES, NULL);
    assert_int_not_equal(atomic_load(&ahead.state), 2);
    read_ahead_stop(&ahead);
    close(descriptor);
}

static void nothing_and_too_much_are_left_alone(void** state) {
    (void)state;
    read_ahead ahead = {0};
    read_ahead_start(&ahead, -1, 5, 5, NULL);
    read_ahead_start(&ahead, -1, 0, UINT64_C(1) << 62, NULL);
    assert_int_equal(atomic_load(&ahead.state), 0);
    read_ahead_stop(&ahead);
}

static void a_stop_at_once_is_safe(void** state) {
    (void)state;
    char path[64];
    const int descriptor = open_file(path);
    unlink(path);
    for (int i = 0; i < 3; i++) {
        read_ahead ahead = {0};
        drop_file(descriptor);
        read_ahead_start(&ahead, descriptor, 0, (uint64_t)FILE_BYTES, NULL);
        assert_int_equal(atomic_load(&ahead.state), 2); // it runs
        read_ahead_stop(&ahead);
    }
    close(descriptor);
}

static void a_mapping_that_will_be_needed_is_read(void** state) {
    (void)state;
    char path[64];
    file_map map;
    const int descriptor = open_file(path);
    drop_file(descriptor);
    assert_ok(file_map_open(path, 0, 0, &map));
    assert_ok(file_map_advise(&map, 0, map.byte_size, FILE_WILL_NEED));
    assert_true(all_is_cached(descriptor));
    file_map_close(&map);
    unlink(path);
    close(descriptor);
}

static bool can_fault_in(void) {
    void* page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(page != MAP_FAILED);
    const bool can = madvise(page, 4096, MADV_POPULATE_READ) == 0;
    munmap(page, 4096);
    return can;
}

// Whether the page of a byte has an entry in the tables of this process, by /proc/self/pagemap.
static bool has_entry(const uint8_t* byte) {
    uint64_t entry = 0;
    const uintptr_t page = (uintptr_t)byte / (uintptr_t)sysconf(_SC_PAGESIZE);
    const int pages = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    assert_true(pages >= 0);
    assert_int_equal(pread(pages, &entry, sizeof entry, (off_t)(page * sizeof entry)),
                     sizeof entry);
    close(pages);
    return entry >> 63 != 0;
}

// From the middle of a page to the end: no page of the mapping is touched, and yet it is there.
static void a_mapping_is_faulted_in(void** state) {
    (void)state;
    char path[64];
    file_map map;
    if (!can_fault_in()) {
        print_message("skipped: Linux does so from 5.14 on\n");
        skip();
    }
    const int descriptor = open_file(path);
    drop_file(descriptor);
    assert_ok(file_map_open(path, 4097, 0, &map));
    assert_ok(file_map_advise(&map, 0, map.byte_size, FILE_WILL_NEED));
    const struct timespec pause = {.tv_nsec = 2000000};
    for (int i = 0; i < 5000 && !has_entry(map.bytes + map.byte_size - 1); i++) {
        nanosleep(&pause, NULL);
    }
    assert_true(has_entry(map.bytes + map.byte_size - 1));
    assert_true(has_entry(map.bytes));
    file_map_close(&map);
    unlink(path);
    close(descriptor);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_comes_into_the_cache_untouched),
        cmocka_unit_test(what_is_cached_starts_no_thread),
        cmocka_unit_test(nothing_and_too_much_are_left_alone),
        cmocka_unit_test(a_stop_at_once_is_safe),
        cmocka_unit_test(a_mapping_that_will_be_needed_is_read),
        cmocka_unit_test(a_mapping_is_faulted_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
