// What the machine has is asked of the system each time: limits of a control group may change.
#include <weir-llm/limits.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define PATH_CAPACITY 1024

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t physical_memory(void) {
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : WEIR_LIMIT_NONE;
}

static uint64_t address_space(void) {
    struct rlimit limit;
    const bool known = getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
    return known ? (uint64_t)limit.rlim_cur : WEIR_LIMIT_NONE;
}

// Reads the beginning of a file as a text; false when there is none. Not by stdio, which allocates.
static bool read_text(const char* path, char* text, size_t capacity) {
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return false;
    }
    size_t length = 0;
    ssize_t count = 0;
    while (length < capacity - 1 &&
           (count = read(file, text + length, capacity - 1 - length)) > 0) {
        length += (size_t)count;
    }
    text[length] = '\0';
    close(file);
    return length > 0;
}

// Reads a file with one number; "max", like anything else that is none, is no limit.
static uint64_t read_limit(const char* folder, const char* name) {
    char path[PATH_CAPACITY + 64];
    char text[32];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!read_text(path, text, sizeof text)) {
        return WEIR_LIMIT_NONE;
    }
    const unsigned long long limit = strtoull(text, NULL, 10); // at its maximum past 64 bits
    return limit > 0 ? limit : WEIR_LIMIT_NONE;
}

// The limit of a group holds for those below it: the smallest on the way to the root counts. In a
// container the path may name folders that are not there; those have no limit.
static uint64_t group_limit(const char* root, const char* group, const char* name) {
    char folder[PATH_CAPACITY];
    const size_t root_length = strlen(root);
    snprintf(folder, sizeof folder, "%s%s", root, group);
    uint64_t least = read_limit(root, name);
    for (size_t length = strlen(folder); length > root_length; length--) {
        if (folder[length] == '\0' || folder[length] == '/') {
            folder[length] = '\0';
            least = smaller(least, read_limit(folder, name));
        }
    }
    return least;
}

// A line is "0::/path" for the unified hierarchy and "N:controllers:/path" for older ones.
static uint64_t line_limit(char* line) {
    char* controllers = strchr(line, ':');
    char* group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group) {
        return WEIR_LIMIT_NONE;
    }
    *group++ = '\0';
    if (strcmp(controllers, ":") == 0) {
        return group_limit("/sys/fs/cgroup", group, "memory.max");
    }
    return strstr(controllers, "memory")
               ? group_limit("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes")
               : WEIR_LIMIT_NONE;
}

static uint64_t control_groups(void) {
    char text[4096];
    uint64_t least = WEIR_LIMIT_NONE;
    if (!read_text("/proc/self/cgroup", text, sizeof text)) {
        return least;
    }
    for (char* line = text; *line;) {
        char* end = line + strcspn(line, "\n");
        char* next = *end ? end + 1 : end;
        *end = '\0';
        least = smaller(least, line_limit(line));
        line = next;
    }
    return least;
}

uint64_t weir_machine_memory(void) {
    const int saved = errno; // files that are not there are no error of anybody
    const uint64_t least = smaller(smaller(physical_memory(), address_space()), control_groups());
    errno = saved;
    return least;
}

weir_limits weir_limits_resolve(const weir_limits* wanted) {
    weir_limits limits = wanted ? *wanted : (weir_limits){0};
    const bool asks = limits.file_bytes == 0 || limits.memory_bytes == 0;
    const uint64_t machine = asks ? weir_machine_memory() : 0;
    limits.file_bytes = limits.file_bytes > 0 ? limits.file_bytes : machine;
    limits.memory_bytes = limits.memory_bytes > 0 ? limits.memory_bytes : machine;
    limits.context = limits.context > 0 ? limits.context : WEIR_CONTEXT_MAX;
    limits.vocabulary = limits.vocabulary > 0 ? limits.vocabulary : WEIR_VOCABULARY_MAX;
    return limits;
}
