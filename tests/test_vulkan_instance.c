// What all Vulkan devices of a process share: the loader, the drivers and an instance, which are
// opened once, however often devices come and go.
#include "vulkan_testing.h"

#include <dirent.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/vulkan.h>

#define ROUNDS 200
#define ROUNDS_LONG 2000
#define ROUNDS_BEFORE 5
#define THREADS 4
#define THREAD_ROUNDS 10
#define MAPPINGS_SLACK 16 // stacks and heaps of threads that the C library keeps for others

// A sanitizer keeps what was freed, in mappings of its own.
#ifndef __has_feature // of clang, which tells of sanitizers by it
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COUNTS_MAPPINGS false
#else
#define COUNTS_MAPPINGS true
#endif

// What a process runs out of where libraries are loaded over and over.
typedef struct holdings {
    uint32_t files, mappings, key;
    unsigned long long loads; // of libraries, ever
} holdings;

static int note_loads(struct dl_phdr_info* info, size_t size, void* loads) {
    (void)size;
    *(unsigned long long*)loads = info->dlpi_adds;
    return 1;
}

static uint32_t count_files(void) {
    uint32_t count = 0;
    DIR* folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder)) {
        count++;
    }
    closedir(folder);
    return count;
}

static uint32_t count_lines(const char* path) {
    uint32_t count = 0;
    FILE* file = fopen(path, "r");
    assert_non_null(file);
    for (int c = getc(file); c != EOF; c = getc(file)) {
        count += c == '\n';
    }
    fclose(file);
    return count;
}

// The key that is free next: the C library gives out the lowest.
static uint32_t next_key(void) {
    pthread_key_t key = 0;
    assert_int_equal(pthread_key_create(&key, NULL), 0);
    pthread_key_delete(key);
    return key;
}

static holdings take_stock(void) {
    holdings stock = {
        .files = count_files(), .mappings = count_lines("/proc/self/maps"), .key = next_key()};
    dl_iterate_phdr(note_loads, &stock.loads);
    return stock;
}

static void open_and_close(void) {
    weir_device_destroy(open_vulkan(NULL));
}

static void devices_come_and_go_and_the_driver_stays(void** state) {
    (void)state;
    const int rounds = getenv("WEIR_LONG") ? ROUNDS_LONG : ROUNDS;
    for (int i = 0; i < ROUNDS_BEFORE; i++) {
        open_and_close();
    }
    const holdings before = take_stock();
    for (int i = 0; i < rounds; i++) {
        open_and_close();
    }
    const holdings after = take_stock();
    assert_int_equal(after.loads, before.loads);
    assert_int_equal(after.files, before.files);
    assert_int_equal(after.key, before.key);
    assert_true(!COUNTS_MAPPINGS || after.mappings <= before.mappings + MAPPINGS_SLACK);
}

static void lists_of_devices_keep_it_too(void** state) {
    (void)state;
    weir_device_info infos[8];
    uint32_t count = 0;
    assert_ok(weir_device_list(infos, 8, &count));
    const holdings before = take_stock();
    for (int i = 0; i < 20; i++) {
        assert_ok(weir_device_list(infos, 8, &count));
    }
    assert_int_equal(take_stock().loads, before.loads);
}

static void devices_share_an_instance(void** state) {
    (void)state;
    weir_device* first = open_vulkan(NULL);
    weir_device* second = open_vulkan(NULL);
    const vulkan_instance* a = &vulkan_device_of(first)->instance;
    const vulkan_instance* b = &vulkan_device_of(second)->instance;
    assert_ptr_equal(a->handle, b->handle);
    assert_int_equal(a->owner, VULKAN_OWNER_PROCESS);
    weir_device_destroy(first);
    weir_storage* storage = allocate(second, 4096, WEIR_FILL_ZERO, true); // it still works
    weir_storage_release(storage);
    weir_device_destroy(second);
}

typedef struct crowd {
    pthread_barrier_t done;
    atomic_uint failures;
} crowd;

// The driver of NVIDIA (580.159) may lock up where a thread that has used it ends while another one
// destroys a device: they end together.
static void* come_and_go(void* context) {
    crowd* all = context;
    for (int i = 0; i < THREAD_ROUNDS; i++) {
        weir_device* device = NULL;
        if (weir_device_create(&(weir_device_desc){.name = "vulkan"}, &device) != WEIR_OK) {
            atomic_fetch_add(&all->failures, 1);
        }
        weir_device_destroy(device);
    }
    pthread_barrier_wait(&all->done);
    return NULL;
}

// Also the first of them: nothing is loaded when the threads begin.
static void threads_open_devices_at_the_same_time(void** state) {
    (void)state;
    pthread_t threads[THREADS];
    crowd all = {.failures = 0};
    assert_int_equal(pthread_barrier_init(&all.done, NULL, THREADS), 0);
    assert_ok(weir_vulkan_unload());
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &all), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_barrier_destroy(&all.done);
    assert_int_equal(atomic_load(&all.failures), 0);
    assert_ok(weir_vulkan_unload()); // each of them let go
}

static void drivers_are_unloaded_on_request_and_loaded_again(void** state) {
    (void)state;
    weir_device* device = open_vulkan(NULL);
    assert_status(weir_vulkan_unload(), WEIR_BUSY);
    assert_message_has("in use: 1 devices");
    weir_storage* storage = allocate(device, 4096, WEIR_FILL_ZERO, false);
    weir_storage_release(storage);
    weir_device_destroy(device);
    const holdings before = take_stock();
    assert_ok(weir_vulkan_unload());
    assert_ok(weir_vulkan_unload()); // there is nothing left
    open_and_close();
    assert_true(take_stock().loads > before.loads);
}

static int use_in_child(void) {
    weir_device* device = NULL;
    weir_storage* storage = NULL;
    const weir_storage_desc desc = {.byte_size = 4096, .fill = WEIR_FILL_ZERO, .device_only = true};
    weir_status status = weir_device_create(&(weir_device_desc){.name = "vulkan"}, &device);
    if (status == WEIR_OK) { // the fill is work for the queue
        status = weir_storage_allocate(device, &desc, &storage);
    }
    if (status != WEIR_OK) {
        fprintf(stderr, "in a child: %s\n", weir_last_error());
    }
    weir_storage_release(storage);
    weir_device_destroy(device);
    return (int)status;
}

// The threads of a driver stay behind in the parent. Some cannot be used in the child of a process
// that has used them (docs/vulkan.md): there it is enough that the parent goes on.
static void a_child_makes_an_instance_of_its_own(void** state) {
    (void)state;
    weir_device* device = open_vulkan(NULL);
    const bool emulated = vulkan_device_of(device)->probe.type == VK_PHYSICAL_DEVICE_TYPE_CPU;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(20);
        _exit(use_in_child());
    }
    int code = -1;
    assert_int_equal(waitpid(child, &code, 0), child);
    weir_storage* storage = allocate(device, 4096, WEIR_FILL_ZERO, true);
    weir_storage_release(storage);
    weir_device_destroy(device);
    assert_true(!emulated || (WIFEXITED(code) && WEXITSTATUS(code) == WEIR_OK));
    assert_true(WIFEXITED(code) || WTERMSIG(code) == SIGALRM); // it hangs in the driver, at worst
    assert_true(!WIFEXITED(code) || WEXITSTATUS(code) != WEIR_INTERNAL);
}

static void layers_get_an_instance_of_their_own(void** state) {
    (void)state;
    static const char* const names[] = {"VK_LAYER_KHRONOS_validation"};
    const vulkan_layers layers = {.names = names, .count = 1};
    weir_device* device = open_vulkan(NULL);
    vulkan_instance watched;
    const weir_status status = vulkan_instance_open(NULL, &layers, &watched);
    if (status == WEIR_UNSUPPORTED) {
        assert_message_has("VK_ERROR_LAYER_NOT_PRESENT");
    } else {
        assert_ok(status);
        assert_int_equal(watched.owner, VULKAN_OWNER_SELF);
        assert_ptr_not_equal(watched.handle, vulkan_device_of(device)->instance.handle);
        assert_true(watched.device_count > 0);
        vulkan_instance_close(&watched);
    }
    weir_storage* storage = allocate(device, 4096, WEIR_FILL_ZERO, true); // nothing went with it
    weir_storage_release(storage);
    weir_device_destroy(device);
}

// What the loader says of a driver whose library is not there.
static void the_reason_of_the_loader_is_named(void** state) {
    (void)state;
    char path[] = "/tmp/weir-driver-XXXXXX.json";
    static const char manifest[] =
        "{\"file_format_version\": \"1.0.0\", \"ICD\": {\"api_version\": "
        "\"1.3.0\", \"library_path\": \"/nowhere/driver.so\"}}";
    const int file = mkstemps(path, 5);
    assert_true(file >= 0);
    assert_int_equal(write(file, manifest, strlen(manifest)), strlen(manifest));
    close(file);
    weir_device* device = NULL;
    assert_ok(weir_vulkan_unload());
    test_setting drivers = test_setting_begin("VK_DRIVER_FILES", path);
    assert_status(weir_device_create(&(weir_device_desc){.name = "vulkan"}, &device),
                  WEIR_UNSUPPORTED);
    assert_message_has("vkCreateInstance: VK_ERROR_INCOMPATIBLE_DRIVER");
    assert_message_has("/nowhere/driver.so");
    test_setting_end(&drivers);
    unlink(path);
    open_and_close();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_come_and_go_and_the_driver_stays),
        cmocka_unit_test(lists_of_devices_keep_it_too),
        cmocka_unit_test(devices_share_an_instance),
        cmocka_unit_test(threads_open_devices_at_the_same_time),
        cmocka_unit_test(drivers_are_unloaded_on_request_and_loaded_again),
        cmocka_unit_test(a_child_makes_an_instance_of_its_own),
        cmocka_unit_test(layers_get_an_instance_of_their_own),
        cmocka_unit_test(the_reason_of_the_loader_is_named),
    };
    open_and_close(); // skips the program where there is no device
    return cmocka_run_group_tests(tests, NULL, NULL);
}
