// Mapped files that are cut short: the pass fails with a status, the process lives, and faults at
// other addresses go where they went before.
#include "session_testing.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 64

static size_t page_size(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

// A file of PAGES pages of ones.
static void write_pages(char path[64]) {
    snprintf(path, 64, "/tmp/weir-test-XXXXXX");
    const int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    const size_t byte_size = PAGES * page_size();
    uint8_t* ones = malloc(byte_size);
    assert_non_null(ones);
    memset(ones, 1, byte_size);
    assert_int_equal(write(descriptor, ones, byte_size), byte_size);
    free(ones);
    close(descriptor);
}

static weir_storage* map(weir_device* device, const char* path, uint64_t byte_offset,
                         uint64_t byte_size) {
    weir_storage* storage = NULL;
    const weir_storage_map_desc desc = {
        .path = path, .byte_offset = byte_offset, .byte_size = byte_size};
    assert_ok(weir_storage_map(device, &desc, &storage));
    return storage;
}

// Each tile sums its part of the bytes.
static weir_status sum_bytes(const weir_kernel_call* call) {
    const uint8_t* bytes = call->pointers[0];
    uint64_t* sums = call->pointers[1];
    const int64_t count = call->views[0].shape.dims[0] / call->tile_count;
    uint64_t sum = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += bytes[call->tile * count + i];
    }
    sums[call->tile] = sum;
    return WEIR_OK;
}

// Sums bytes of a storage in 16 tiles; the sum is that of all tiles.
static weir_status sum_pass(weir_device* device, weir_storage* storage, uint64_t byte_offset,
                            int64_t byte_size, uint64_t* sum) {
    weir_storage* sums = allocate_zeros(device, 16 * sizeof *sum);
    weir_view source;
    const weir_shape shape = weir_shape_make(1, &byte_size);
    assert_ok(weir_view_make(storage, byte_offset, WEIR_DTYPE_U8, &shape, &source));
    const weir_operand operands[] = {{source, WEIR_ACCESS_READ},
                                     {floats_of(sums, 0, 32), WEIR_ACCESS_WRITE}};
    const weir_dispatch_desc desc = {.name = "sum",
                                     .kernel = sum_bytes,
                                     .operands = operands,
                                     .operand_count = 2,
                                     .tile_count = 16};
    weir_session* session = NULL;
    assert_ok(weir_session_create(device, &session));
    assert_ok(weir_session_dispatch(session, &desc, NULL));
    const weir_status status = weir_session_finish(session);
    *sum = 0;
    for (size_t i = 0; i < 16; i++) {
        *sum += ((const uint64_t*)weir_storage_host_pointer(sums))[i];
    }
    weir_session_destroy(session);
    weir_storage_release(sums);
    return status;
}

static void a_pass_over_a_file_cut_short_fails_and_the_process_lives(void** state) {
    (void)state;
    char path[64];
    write_pages(path);
    weir_device* device = open_device("cpu", 4, NULL);
    weir_storage* storage = map(device, path, 100, 0); // before the handler is installed
    const int64_t all = (int64_t)(PAGES * page_size()) - 112;
    uint64_t sum = 0;
    assert_ok(weir_fault_handler_install());
    assert_ok(sum_pass(device, storage, 0, all, &sum));
    assert_int_equal(sum, all);
    assert_ok(weir_storage_check(storage));
    assert_int_equal(truncate(path, (off_t)(2 * page_size())), 0);
    assert_status(sum_pass(device, storage, 0, all, &sum), WEIR_IO);
    assert_message_has(path);
    char offset[32];
    snprintf(offset, sizeof offset, "bytes from %zu on", 2 * page_size());
    assert_message_has(offset);
    assert_int_equal(sum, 2 * page_size() - 100); // what was lost reads as zeros
    assert_status(weir_storage_check(storage), WEIR_IO);
    // The file comes back, the pages do not.
    assert_int_equal(truncate(path, (off_t)(PAGES * page_size())), 0);
    assert_status(sum_pass(device, storage, 0, 16, &sum), WEIR_IO);
    // Passes that do not read it go on.
    weir_storage* other = allocate_zeros(device, 64);
    assert_ok(sum_pass(device, other, 0, 64, &sum));
    weir_storage* again = map(device, path, 0, 0);
    assert_ok(sum_pass(device, again, 0, 16, &sum));
    assert_int_equal(sum, 16);
    weir_storage_release(again);
    weir_storage_release(other);
    weir_storage_release(storage);
    weir_device_destroy(device);
    assert_ok(weir_fault_handler_remove());
    unlink(path);
}

static void a_file_cut_within_its_last_page_fails_the_pass_without_a_fault(void** state) {
    (void)state;
    char path[64];
    write_pages(path);
    weir_device* device = open_device("cpu", 1, NULL);
    weir_storage* storage = map(device, path, 0, 0);
    const size_t byte_size = PAGES * page_size();
    uint64_t sum = 0;
    assert_ok(weir_fault_handler_install());
    assert_int_equal(truncate(path, (off_t)byte_size - 1), 0);
    assert_status(sum_pass(device, storage, 0, (int64_t)byte_size, &sum), WEIR_IO);
    char offset[32];
    snprintf(offset, sizeof offset, "bytes from %zu on", byte_size - 1);
    assert_message_has(offset);
    weir_storage_release(storage);
    weir_device_destroy(device);
    assert_ok(weir_fault_handler_remove());
    unlink(path);
}

static void a_lost_page_is_handled_on_a_thread_that_blocks_the_signal(void** state) {
    (void)state;
    sigset_t set;
    sigset_t before;
    sigfillset(&set);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &set, &before), 0);
    weir_device* device = open_device("cpu", 2, NULL); // its workers inherit the mask
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    char path[64];
    write_pages(path);
    weir_storage* storage = map(device, path, 0, 0);
    uint64_t sum = 0;
    assert_ok(weir_fault_handler_install());
    assert_int_equal(truncate(path, 0), 0);
    assert_status(sum_pass(device, storage, 0, (int64_t)(PAGES * page_size()), &sum), WEIR_IO);
    assert_int_equal(sum, 0);
    weir_storage_release(storage);
    weir_device_destroy(device);
    assert_ok(weir_fault_handler_remove());
    unlink(path);
}

static void each_of_many_mappings_is_watched_while_it_lasts(void** state) {
    (void)state;
    char path[64];
    write_pages(path);
    weir_device* device = open_device("cpu", 2, NULL);
    weir_storage* storages[250]; // more than one chunk of the table
    assert_ok(weir_fault_handler_install());
    for (size_t i = 0; i < 250; i++) {
        storages[i] = map(device, path, (i % PAGES) * page_size(), page_size());
    }
    for (size_t i = 0; i < 250; i += 2) {
        weir_storage_release(storages[i]);
    }
    assert_int_equal(truncate(path, (off_t)(PAGES / 2 * page_size())), 0);
    for (size_t i = 1; i < 250; i += 2) {
        const bool lost = i % PAGES >= PAGES / 2;
        uint64_t sum = 0;
        assert_status(sum_pass(device, storages[i], 0, (int64_t)page_size(), &sum),
                      lost ? WEIR_IO : WEIR_OK);
        assert_int_equal(sum, lost ? 0 : page_size());
        weir_storage_release(storages[i]);
    }
    weir_device_destroy(device);
    assert_ok(weir_fault_handler_remove());
    unlink(path);
}

// A mapping that is not weir's, and whose file is gone.
static uint8_t* map_nothing(void) {
    char path[64];
    write_pages(path);
    const int descriptor = open(path, O_RDONLY);
    assert_true(descriptor >= 0);
    void* bytes = mmap(NULL, page_size(), PROT_READ, MAP_SHARED, descriptor, 0);
    assert_true(bytes != MAP_FAILED);
    assert_int_equal(truncate(path, 0), 0);
    close(descriptor);
    unlink(path);
    return bytes;
}

static atomic_uint handler_calls;
static uint8_t* foreign_page;

static void repair(void) {
    atomic_fetch_add(&handler_calls, 1);
    void* placed = mmap(foreign_page, page_size(), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (placed == foreign_page) {
        foreign_page[0] = 42;
    }
}

static void repair_simply(int number) {
    (void)number;
    repair();
}

static void repair_with_facts(int number, siginfo_t* info, void* context) {
    (void)number;
    (void)context;
    if (info->si_addr == foreign_page) {
        repair();
    }
}

static void faults_elsewhere_go_to_the_handler_before(void** state) {
    (void)state;
    for (int which = 0; which < 2; which++) {
        struct sigaction action = {0};
        struct sigaction before;
        if (which == 0) {
            action.sa_handler = repair_simply;
        } else {
            action.sa_sigaction = repair_with_facts;
            action.sa_flags = SA_SIGINFO;
        }
        assert_int_equal(sigaction(SIGBUS, &action, &before), 0);
        assert_ok(weir_fault_handler_install());
        foreign_page = map_nothing();
        atomic_store(&handler_calls, 0);
        assert_int_equal(*(volatile uint8_t*)foreign_page, 42);
        assert_int_equal(atomic_load(&handler_calls), 1);
        munmap(foreign_page, page_size());
        assert_ok(weir_fault_handler_remove());
        struct sigaction restored;
        assert_int_equal(sigaction(SIGBUS, &before, &restored), 0);
        assert_true(which == 0 ? restored.sa_handler == repair_simply
                               : restored.sa_sigaction == repair_with_facts);
    }
}

// Runs in a child: by which signal does it end when a page that is not ours is lost?
static int die_by(bool sent, void (*before)(int)) {
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct sigaction action = {.sa_handler = before};
        sigaction(SIGBUS, &action, NULL);
        if (weir_fault_handler_install() != WEIR_OK) {
            _exit(3);
        }
        if (sent) {
            raise(SIGBUS);
        } else {
            const volatile uint8_t* bytes = map_nothing();
            (void)bytes[0];
        }
        _exit(7);
    }
    int outcome = 0;
    assert_int_equal(waitpid(child, &outcome, 0), child);
    return WIFSIGNALED(outcome) ? WTERMSIG(outcome) : -WEXITSTATUS(outcome);
}

static void without_a_handler_before_the_process_ends_as_ever(void** state) {
    (void)state;
    assert_int_equal(die_by(false, SIG_DFL), SIGBUS);
    assert_int_equal(die_by(false, SIG_IGN), SIGBUS); // a fault cannot be ignored
    assert_int_equal(die_by(true, SIG_DFL), SIGBUS);
    assert_int_equal(die_by(true, SIG_IGN), -7);
}

static void installations_are_counted(void** state) {
    (void)state;
    assert_status(weir_fault_handler_remove(), WEIR_INVALID_ARGUMENT);
    assert_ok(weir_fault_handler_install());
    assert_ok(weir_fault_handler_install());
    assert_ok(weir_fault_handler_remove());
    struct sigaction ours;
    struct sigaction action = {.sa_handler = repair_simply};
    assert_int_equal(sigaction(SIGBUS, &action, &ours), 0);
    assert_status(weir_fault_handler_remove(), WEIR_BUSY); // it may call ours
    assert_int_equal(sigaction(SIGBUS, &ours, NULL), 0);
    assert_ok(weir_fault_handler_remove());
    assert_status(weir_fault_handler_remove(), WEIR_INVALID_ARGUMENT);
}

static void without_the_handler_nobody_looks_unless_asked(void** state) {
    (void)state;
    char path[64];
    write_pages(path);
    weir_device* device = open_device("cpu", 1, NULL);
    weir_storage* storage = map(device, path, 0, 0);
    weir_storage* plain = allocate_zeros(device, 64);
    uint64_t sum = 0;
    assert_int_equal(truncate(path, (off_t)(2 * page_size())), 0);
    assert_ok(sum_pass(device, storage, 0, (int64_t)page_size(), &sum));
    assert_status(weir_storage_check(storage), WEIR_IO);
    assert_ok(weir_storage_check(plain));
    weir_storage_release(plain);
    weir_storage_release(storage);
    weir_device_destroy(device);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pass_over_a_file_cut_short_fails_and_the_process_lives),
        cmocka_unit_test(a_file_cut_within_its_last_page_fails_the_pass_without_a_fault),
        cmocka_unit_test(a_lost_page_is_handled_on_a_thread_that_blocks_the_signal),
        cmocka_unit_test(each_of_many_mappings_is_watched_while_it_lasts),
        cmocka_unit_test(faults_elsewhere_go_to_the_handler_before),
        cmocka_unit_test(without_a_handler_before_the_process_ends_as_ever),
        cmocka_unit_test(installations_are_counted),
        cmocka_unit_test(without_the_handler_nobody_looks_unless_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
