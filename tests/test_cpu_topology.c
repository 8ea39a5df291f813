// The processors of a machine, told from trees of files as Linux shows them.
#include "testing.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>

#include "backends/cpu/cpu_topology.h"
#include "testing_allocator.h"

static char root[64];
static cpu_topology topology; // of the last read_set; freed with the tree

// Sets that the system is made to refuse, and how often it did.
static size_t refused_below;
static size_t refusals;

int __real_sched_getaffinity(pid_t process, size_t set_bytes, cpu_set_t* set);
int __wrap_sched_getaffinity(pid_t process, size_t set_bytes, cpu_set_t* set);

int __wrap_sched_getaffinity(pid_t process, size_t set_bytes, cpu_set_t* set) {
    if (set_bytes < refused_below) {
        refusals++;
        errno = EINVAL;
        return -1;
    }
    return __real_sched_getaffinity(process, set_bytes, set);
}

// Writes a file below the root, with its folders.
static void put(const char* path, const char* text) {
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char* c = full + strlen(root) + 1; *c; c++) {
        if (*c == '/') {
            *c = '\0';
            mkdir(full, 0700);
            *c = '/';
        }
    }
    FILE* file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void put_siblings(int processor, const char* list) {
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
             processor);
    put(path, list);
}

static int make_root(void** state) {
    (void)state;
    strcpy(root, "/tmp/weir-topology-XXXXXX");
    return mkdtemp(root) ? 0 : 1;
}

static int remove_root(void** state) {
    (void)state;
    char command[128];
    cpu_topology_free(NULL, &topology);
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command);
}

static const cpu_topology* read_set(const cpu_set_t* allowed, size_t set_bytes) {
    cpu_topology_free(NULL, &topology);
    assert_ok(cpu_topology_read(NULL, root, allowed, set_bytes, &topology));
    assert_int_equal(topology.set_bytes, set_bytes);
    return &topology;
}

static const cpu_topology* read_for(const char* processors) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    for (const char* c = processors; *c; c++) {
        CPU_SET((size_t)(*c - '0'), &allowed);
    }
    return read_set(&allowed, sizeof allowed);
}

static bool is_first(const cpu_topology* read, size_t processor) {
    return CPU_ISSET_S(processor, read->set_bytes, read->first);
}

static void threads_of_one_core_count_once(void** state) {
    (void)state;
    static const char* const lists[] = {"0,4\n", "1,5\n", "2-3\n", "2-3\n", "0,4\n", "1,5\n"};
    for (int i = 0; i < 6; i++) {
        put_siblings(i, lists[i]);
    }
    const cpu_topology* all = read_for("012345");
    assert_int_equal(all->thread_count, 6);
    assert_int_equal(all->core_count, 3);
    assert_true(is_first(all, 0) && is_first(all, 1) && is_first(all, 2));
    assert_int_equal(CPU_COUNT_S(all->set_bytes, all->first), 3);
    assert_int_equal(cpu_topology_workers(all), 3);
}

// A core whose first thread is not allowed is still a core.
static void the_affinity_of_the_process_is_respected(void** state) {
    (void)state;
    put_siblings(4, "0,4\n");
    put_siblings(5, "1,5\n");
    put_siblings(1, "1,5\n");
    const cpu_topology* some = read_for("145");
    assert_int_equal(some->thread_count, 3);
    assert_int_equal(some->core_count, 2);
    assert_true(is_first(some, 1) && is_first(some, 4));
}

static void without_files_every_thread_is_a_core(void** state) {
    (void)state;
    const cpu_topology* bare = read_for("02");
    assert_int_equal(bare->core_count, 2);
    assert_int_equal(cpu_topology_workers(bare), 2);
    put_siblings(0, "no list\n");
    put_siblings(2, "7-9,99999999999999999999\n");
    assert_int_equal(read_for("02")->core_count, 2);
    assert_int_equal(read_for("")->core_count, 1);
}

static void control_groups_limit_the_workers(void** state) {
    (void)state;
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    assert_int_equal(cpu_topology_workers(&(cpu_topology){.core_count = 4, .granted_count = 9}), 4);
    const cpu_topology* free_of_limits = read_for("0123");
    assert_int_equal(cpu_topology_workers(free_of_limits), 4);
    put("/sys/fs/cgroup/a/cpu.max", "350000 100000\n"); // that above counts as well
    const cpu_topology* granted = read_for("0123");
    assert_int_equal(cpu_topology_workers(granted), 3);
    put("/sys/fs/cgroup/a/b/cpu.max", "50000 100000\n");
    const cpu_topology* half = read_for("0123");
    assert_int_equal(cpu_topology_workers(half), 1);
    put("/sys/fs/cgroup/a/b/cpu.max", "5 0\n");
    const cpu_topology* nonsense = read_for("0123");
    assert_int_equal(cpu_topology_workers(nonsense), 3);
}

static void a_container_sees_its_own_group_as_the_root(void** state) {
    (void)state;
    put("/proc/self/cgroup", "0::/\n");
    put("/sys/fs/cgroup/cpu.max", "200000 100000\n");
    const cpu_topology* two = read_for("0123");
    assert_int_equal(cpu_topology_workers(two), 2);
    put("/proc/self/cgroup", "12:cpu:/old\n");
    const cpu_topology* old = read_for("0123");
    assert_int_equal(cpu_topology_workers(old), 2);
}

// Processors 1021 to 1028, two threads a core, and one that is alone at the end of the set.
static void processors_past_those_of_a_fixed_set_count(void** state) {
    (void)state;
    const size_t set_bytes = CPU_ALLOC_SIZE(4096);
    cpu_set_t* allowed = CPU_ALLOC(4096);
    assert_non_null(allowed);
    CPU_ZERO_S(set_bytes, allowed);
    for (int i = 1021; i <= 1028; i++) {
        char list[32];
        snprintf(list, sizeof list, "%d-%d\n", i - (i + 1) % 2, i + i % 2);
        put_siblings(i, list);
        CPU_SET_S((size_t)i, set_bytes, allowed);
    }
    CPU_SET_S(4095, set_bytes, allowed);
    const cpu_topology* many = read_set(allowed, set_bytes);
    assert_int_equal(many->thread_count, 9);
    assert_int_equal(many->core_count, 5);
    assert_int_equal(CPU_COUNT_S(set_bytes, many->first), 5);
    assert_true(is_first(many, 1021) && is_first(many, 1023) && is_first(many, 1025) &&
                is_first(many, 1027) && is_first(many, 4095));
    CPU_FREE(allowed);
}

static void this_machine_has_a_core(void** state) {
    (void)state;
    cpu_topology own;
    weir_status status = WEIR_OUT_OF_MEMORY;
    size_t calls = 0;
    for (; status == WEIR_OUT_OF_MEMORY; calls++) {
        test_allocator heap = {.fail_at = calls};
        const weir_allocator allocator = test_allocator_of(&heap);
        status = cpu_topology_read_own(&allocator, &own);
        if (status == WEIR_OK) {
            assert_true(own.core_count >= 1 && own.core_count <= own.thread_count);
            assert_true(cpu_topology_workers(&own) >= 1);
            cpu_topology_free(&allocator, &own);
        }
        assert_int_equal(heap.live_blocks, 0);
    }
    assert_ok(status);
    assert_true(calls >= 3); // both sets
}

// As a kernel that is built for more processors than a small set has.
static void a_set_that_is_refused_is_asked_for_larger(void** state) {
    (void)state;
    cpu_topology own;
    refusals = 0;
    refused_below = 512;
    const weir_status status = cpu_topology_read_own(NULL, &own);
    refused_below = 0;
    assert_ok(status);
    assert_int_equal(own.set_bytes, 512);
    assert_int_equal(refusals, 2); // of 128 and 256 bytes
    assert_int_equal(own.core_count, CPU_COUNT_S(own.set_bytes, own.first));
    assert_true(own.core_count >= 1);
    cpu_topology_free(NULL, &own);
}

static void sets_that_are_always_refused_end_with_one_core(void** state) {
    (void)state;
    cpu_topology own;
    refused_below = SIZE_MAX;
    const weir_status status = cpu_topology_read_own(NULL, &own);
    refused_below = 0;
    assert_ok(status);
    assert_int_equal(own.core_count, 1);
    assert_int_equal(own.thread_count, 1);
    assert_int_equal(cpu_topology_workers(&own), 1);
    cpu_topology_free(NULL, &own);
}

#define in_a_tree(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)

int main(void) {
    const struct CMUnitTest tests[] = {
        in_a_tree(threads_of_one_core_count_once),
        in_a_tree(the_affinity_of_the_process_is_respected),
        in_a_tree(without_files_every_thread_is_a_core),
        in_a_tree(control_groups_limit_the_workers),
        in_a_tree(a_container_sees_its_own_group_as_the_root),
        in_a_tree(processors_past_those_of_a_fixed_set_count),
        cmocka_unit_test(this_machine_has_a_core),
        cmocka_unit_test(a_set_that_is_refused_is_asked_for_larger),
        cmocka_unit_test(sets_that_are_always_refused_end_with_one_core),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
