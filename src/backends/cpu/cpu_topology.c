#include "backends/cpu/cpu_topology.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_CAPACITY 4096
#define PROCESSORS_MAX ((size_t)1 << 20) // that are asked for; kernels are built for 8192 at most

// Reads the first line of a file, without its end.
static bool read_line(const char* path, char* line, size_t capacity) {
    FILE* file = fopen(path, "re");
    const bool found = file && fgets(line, (int)capacity, file);
    if (file) {
        fclose(file);
    }
    if (found) {
        line[strcspn(line, "\n")] = '\0';
    }
    return found;
}

// Finds the lowest processor of `allowed` in a list such as "0-3,8"; -1 for none.
static int first_of_list(const char* list, const cpu_set_t* allowed, size_t set_bytes) {
    const long count = (long)set_bytes * 8;
    int first = -1;
    while (*list) {
        char* end = NULL;
        const long begin = strtol(list, &end, 10);
        if (end == list) {
            return first;
        }
        const long last = *end == '-' ? strtol(end + 1, &end, 10) : begin;
        for (long i = begin > 0 ? begin : 0; i <= last && i < count; i++) {
            if (CPU_ISSET_S((size_t)i, set_bytes, allowed) && (first < 0 || i < first)) {
                first = (int)i;
            }
        }
        list = *end == ',' ? end + 1 : end + strlen(end);
    }
    return first;
}

static bool is_first_of_core(const char* root, int processor, const cpu_set_t* allowed,
                             size_t set_bytes) {
    char path[PATH_CAPACITY];
    char list[1024];
    snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
             root, processor);
    const int first =
        read_line(path, list, sizeof list) ? first_of_list(list, allowed, set_bytes) : -1;
    return first < 0 || first == processor;
}

// Lowers `granted` to what one control group allows: "quota period" in microseconds, or "max".
static void apply_quota(const char* folder, uint32_t* granted) {
    char path[PATH_CAPACITY + 16];
    char line[128];
    unsigned long long quota = 0;
    unsigned long long period = 0;
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    if (!read_line(path, line, sizeof line) || sscanf(line, "%llu %llu", &quota, &period) != 2 ||
        period == 0) {
        return;
    }
    const unsigned long long whole = quota / period > 0 ? quota / period : 1;
    *granted = whole < *granted ? (uint32_t)whole : *granted;
}

// The group of the process in the unified hierarchy ("0::/path"), and those above it: each may set
// a limit (cgroup v2 of the kernel's documentation, "CPU Interface Files").
static void apply_groups(const char* root, uint32_t* granted) {
    char path[PATH_CAPACITY];
    char line[PATH_CAPACITY / 2];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (!read_line(path, line, sizeof line) || strncmp(line, "0::/", 4) != 0) {
        line[0] = '\0';
    }
    char* group = line[0] ? line + strlen("0::") : line;
    for (;;) {
        const int length = snprintf(path, sizeof path, "%s/sys/fs/cgroup%s", root, group);
        if (length > 0 && (size_t)length < sizeof path) {
            apply_quota(path, granted);
        }
        char* slash = strrchr(group, '/');
        if (!slash) {
            return;
        }
        *slash = '\0';
    }
}

static weir_status make_set(const weir_allocator* allocator, size_t set_bytes, cpu_set_t** set) {
    void* memory = NULL;
    WEIR_TRY(weir_alloc(allocator, set_bytes, _Alignof(cpu_set_t), &memory));
    memset(memory, 0, set_bytes);
    *set = memory;
    return WEIR_OK;
}

static void free_set(const weir_allocator* allocator, cpu_set_t* set, size_t set_bytes) {
    weir_free(allocator, set, set_bytes, _Alignof(cpu_set_t));
}

weir_status cpu_topology_read(const weir_allocator* allocator, const char* root,
                              const cpu_set_t* allowed, size_t set_bytes, cpu_topology* topology) {
    cpu_topology read = {.set_bytes = set_bytes, .granted_count = UINT32_MAX};
    WEIR_TRY(make_set(allocator, set_bytes, &read.first));
    for (int i = 0; i < (int)(set_bytes * 8); i++) {
        if (!CPU_ISSET_S((size_t)i, set_bytes, allowed)) {
            continue;
        }
        read.thread_count++;
        if (is_first_of_core(root, i, allowed, set_bytes)) {
            CPU_SET_S((size_t)i, set_bytes, read.first);
            read.core_count++;
        }
    }
    if (read.thread_count == 0) { // the system did not tell
        read.thread_count = read.core_count = 1;
    }
    apply_groups(root, &read.granted_count);
    *topology = read;
    return WEIR_OK;
}

// The system refuses a set that is too small for all processors that it could have, whether they
// are there or not (sched_getaffinity(2), "Handling systems with large CPU affinity masks").
weir_status cpu_topology_read_own(const weir_allocator* allocator, cpu_topology* topology) {
    for (size_t count = CPU_SETSIZE;; count *= 2) {
        const size_t set_bytes = CPU_ALLOC_SIZE(count);
        cpu_set_t* allowed = NULL;
        WEIR_TRY(make_set(allocator, set_bytes, &allowed));
        const bool found = sched_getaffinity(0, set_bytes, allowed) == 0;
        const bool go_on = !found && errno == EINVAL && count < PROCESSORS_MAX;
        weir_status status = WEIR_OK;
        if (!go_on) {
            status = cpu_topology_read(allocator, "", allowed, set_bytes, topology);
        }
        free_set(allocator, allowed, set_bytes);
        if (!go_on) {
            return status;
        }
    }
}

void cpu_topology_free(const weir_allocator* allocator, cpu_topology* topology) {
    free_set(allocator, topology->first, topology->set_bytes);
    topology->first = NULL;
}

uint32_t cpu_topology_workers(const cpu_topology* topology) {
    return topology->core_count < topology->granted_count ? topology->core_count
                                                          : topology->granted_count;
}
