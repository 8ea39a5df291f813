#include "backends/cpu/cpu_topology.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_CAPACITY 4096

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
static int first_of_list(const char* list, const cpu_set_t* allowed) {
    int first = -1;
    while (*list) {
        char* end = NULL;
        const long begin = strtol(list, &end, 10);
        if (end == list) {
            return first;
        }
        const long last = *end == '-' ? strtol(end + 1, &end, 10) : begin;
        for (long i = begin; i <= last && i < CPU_SETSIZE; i++) {
            if (i >= 0 && CPU_ISSET((size_t)i, allowed) && (first < 0 || i < first)) {
                first = (int)i;
            }
        }
        list = *end == ',' ? end + 1 : end + strlen(end);
    }
    return first;
}

static bool is_first_of_core(const char* root, int processor, const cpu_set_t* allowed) {
    char path[PATH_CAPACITY];
    char list[1024];
    snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
             root, processor);
    const int first = read_line(path, list, sizeof list) ? first_of_list(list, allowed) : -1;
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

void cpu_topology_read(const char* root, const cpu_set_t* allowed, cpu_topology* topology) {
    *topology = (cpu_topology){.granted_count = UINT32_MAX};
    CPU_ZERO(&topology->first);
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET((size_t)i, allowed)) {
            continue;
        }
        topology->thread_count++;
        if (is_first_of_core(root, i, allowed)) {
            CPU_SET((size_t)i, &topology->first);
            topology->core_count++;
        }
    }
    if (topology->thread_count == 0) { // more processors than the set has room for
        topology->thread_count = topology->core_count = 1;
    }
    apply_groups(root, &topology->granted_count);
}

void cpu_topology_read_own(cpu_topology* topology) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        CPU_ZERO(&allowed);
    }
    cpu_topology_read("", &allowed, topology);
}

uint32_t cpu_topology_workers(const cpu_topology* topology) {
    return topology->core_count < topology->granted_count ? topology->core_count
                                                          : topology->granted_count;
}
