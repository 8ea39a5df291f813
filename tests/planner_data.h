// Published problems of the planner, from the shared data: unpacked to a folder that goes even when
// the test fails.
#ifndef WEIR_TESTS_PLANNER_DATA_H
#define WEIR_TESTS_PLANNER_DATA_H

#include "testing.h"

#include <weir/plan.h>

static char unpack_folder[] = "/tmp/weir-planner-XXXXXX";

static inline int make_unpack_folder(void** state) {
    (void)state;
    return mkdtemp(unpack_folder) ? 0 : -1;
}

static inline int remove_unpack_folder(void** state) {
    (void)state;
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", unpack_folder);
    return system(command);
}

// Unpacks folders of the archive, given with spaces between them; skips the test without it.
static inline void unpack_planner_data(const char* folders) {
    char archive[1024];
    char command[2048];
    if (!shared_data_path("planner.tar.xz", archive, sizeof archive)) {
        print_message("skipped: no planner.tar.xz in the shared data\n");
        skip();
    }
    snprintf(command, sizeof command, "tar xJf '%s' -C '%s' %s", archive, unpack_folder, folders);
    if (system(command) != 0) {
        print_message("skipped: tar cannot unpack %s\n", archive);
        skip();
    }
}

// Reads buffers with a life each from a file with the columns id, lower, upper and size.
static inline uint32_t read_lifetimes(const char* path, weir_plan_buffer* buffers,
                                      weir_plan_interval* intervals, uint32_t capacity) {
    FILE* file = fopen(path, "r");
    assert_non_null(file);
    char line[256];
    uint32_t count = 0;
    assert_non_null(fgets(line, sizeof line, file)); // the names of the columns
    while (fgets(line, sizeof line, file)) {
        long long lower = 0;
        long long upper = 0;
        unsigned long long size = 0;
        const char* comma = strchr(line, ',');
        assert_true(comma && sscanf(comma, ",%lld,%lld,%llu", &lower, &upper, &size) == 3);
        assert_true(count < capacity);
        intervals[count] = (weir_plan_interval){lower, upper};
        buffers[count] =
            (weir_plan_buffer){.byte_size = size, .interval_begin = count, .interval_count = 1};
        ++count;
    }
    fclose(file);
    return count;
}

#endif
