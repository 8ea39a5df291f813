// Lets threads with models of their own work on one device for a long time: texts, sessions, drops
// in the middle, failing allocations and kernels, broken files, devices that come and go. Every
// result is compared with what it has to be; memory, file descriptors and mappings must not grow.
//
//     bench_soak SECONDS MODEL...      one thread per model; scripts/soak makes eight models
//
// A row of CSV is printed at each of the points where all threads stand still and have dropped what
// they hold. Ends with 1 at the first thing that is not as it must be.
#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench_rows.h"
#include "soak.h"

#define THREADS_MAX 16
#define POINTS 12
#define WORKERS 3
#define DONE_BLOCKS 64                    // of passes that are done and not yet cleared away
#define SETTLED 2                         // the point from which bytes count
#define LIST_BYTES ((uint64_t)64 << 10)   // by which lists may still grow
#define LIBRARY_BYTES ((uint64_t)8 << 20) // that the C library may keep for itself
#define LIBRARY_MAPPINGS 32               // likewise

static atomic_size_t live_blocks, live_bytes;
static _Thread_local uint32_t fail_after; // allocations; 0: none fails
static _Thread_local bool has_failed;

static atomic_bool standing, ending;
static pthread_barrier_t arrive, leave;
static const char* const count_names[SOAK_COUNTS] = {
    "texts",   "texts_dropped",      "sessions",       "sessions_dropped",
    "devices", "failed_allocations", "failed_kernels", "refused"};

static void* allocate(void* context, size_t byte_size, size_t alignment) {
    void* pointer = NULL;
    const size_t least = alignment < sizeof(void*) ? sizeof(void*) : alignment;
    (void)context;
    if (fail_after > 0 && --fail_after == 0) {
        has_failed = true;
        return NULL;
    }
    if (posix_memalign(&pointer, least, byte_size) != 0) {
        return NULL;
    }
    atomic_fetch_add(&live_blocks, 1);
    atomic_fetch_add(&live_bytes, byte_size);
    return pointer;
}

static void release(void* context, void* pointer, size_t byte_size, size_t alignment) {
    (void)context;
    (void)alignment;
    atomic_fetch_sub(&live_blocks, 1);
    atomic_fetch_sub(&live_bytes, byte_size);
    free(pointer);
}

weir_allocator soak_allocator(void) {
    return (weir_allocator){.alloc = allocate, .free = release};
}

void soak_arm(uint32_t calls) {
    fail_after = calls + 1;
    has_failed = false;
}

bool soak_disarm(void) {
    fail_after = 0;
    return has_failed;
}

static void act(soak_thread* thread) {
    static void (*const actions[])(soak_thread*) = {
        soak_say_text,       soak_say_text,     soak_run_session, soak_run_session,
        soak_drop_session,   soak_drop_session, soak_starve_text, soak_starve_session,
        soak_starve_session, soak_fail_kernel,  soak_ask_wrong,   soak_say_on_own_device};
    actions[soak_below(thread, sizeof actions / sizeof *actions)](thread);
}

// Waits for what runs on its memory, and holds a model and floats only.
static void stand_still(soak_thread* thread) {
    soak_run_session(thread);
    weir_context_destroy(thread->context);
    thread->context = NULL;
    pthread_barrier_wait(&arrive);
    pthread_barrier_wait(&leave);
}

static void* work(void* context) {
    soak_thread* thread = context;
    while (!atomic_load(&ending)) {
        if (atomic_load(&standing)) {
            stand_still(thread);
        } else {
            act(thread);
        }
    }
    return NULL;
}

// What a process holds, as Linux tells it.
typedef struct holdings {
    uint64_t live_blocks, live_bytes, resident_bytes;
    uint32_t descriptors, threads, mappings;
} holdings;

// Ends the program where the system does not say what it holds.
static void need(const void* opened, const char* path) {
    if (!opened) {
        perror(path);
        exit(1);
    }
}

static uint32_t count_entries(const char* path) {
    uint32_t count = 0;
    DIR* folder = opendir(path);
    need(folder, path);
    while (readdir(folder)) {
        count++;
    }
    closedir(folder);
    return count;
}

static uint32_t count_lines(const char* path) {
    uint32_t count = 0;
    FILE* file = fopen(path, "r");
    need(file, path);
    for (int c = getc(file); c != EOF; c = getc(file)) {
        count += c == '\n';
    }
    fclose(file);
    return count;
}

static uint64_t resident_bytes(void) {
    static const char path[] = "/proc/self/statm";
    unsigned long pages = 0;
    FILE* file = fopen(path, "r");
    need(file, path);
    const bool read = fscanf(file, "%*u %lu", &pages) == 1;
    fclose(file);
    need(read ? path : NULL, path);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static holdings look(void) {
    return (holdings){.live_blocks = atomic_load(&live_blocks),
                      .live_bytes = atomic_load(&live_bytes),
                      .resident_bytes = resident_bytes(),
                      .descriptors = count_entries("/proc/self/fd"),
                      .threads = count_entries("/proc/self/task"),
                      .mappings = count_lines("/proc/self/maps")};
}

static double now(void) {
    return bench_now() * 1e-9;
}

static uint64_t sum_counts(const soak_thread* threads, uint32_t count, uint32_t kind) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += threads[i].counts[kind];
    }
    return sum;
}

static void print_row(double seconds, const soak_thread* threads, uint32_t count,
                      const holdings* found) {
    printf("%.1f", seconds);
    for (uint32_t kind = 0; kind < SOAK_COUNTS; kind++) {
        printf(",%" PRIu64, sum_counts(threads, count, kind));
    }
    printf(",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%u,%u,%u\n", found->live_blocks, found->live_bytes,
           found->resident_bytes, found->descriptors, found->threads, found->mappings);
    fflush(stdout);
}

// At a point no more is held than at the first one. Bytes count from the third on: by
// then lists have the lengths that they are going to have, and the C library its pages.
static bool is_flat(const holdings* points, uint32_t index) {
    const holdings* first = &points[0];
    const holdings* found = &points[index];
    const holdings* settled = &points[index < SETTLED ? index : SETTLED];
    const bool flat = found->live_blocks <= first->live_blocks + DONE_BLOCKS &&
                      found->descriptors == first->descriptors &&
                      found->threads == first->threads &&
                      found->live_bytes <= settled->live_bytes + LIST_BYTES &&
                      found->resident_bytes <= settled->resident_bytes + LIBRARY_BYTES &&
                      found->mappings <= settled->mappings + LIBRARY_MAPPINGS;
    if (!flat) {
        fprintf(stderr, "soak: more is held at point %u than before\n", index);
    }
    return flat;
}

static void start(soak_thread* threads, pthread_t* handles, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const weir_storage_desc desc = {.byte_size = SOAK_FLOATS * sizeof(float),
                                        .fill = WEIR_FILL_ZERO};
        soak_thread* thread = &threads[i];
        soak_open_model(thread);
        soak_require(weir_storage_allocate(thread->device, &desc, &thread->floats) == WEIR_OK,
                     thread);
        soak_learn_texts(thread);
    }
    for (uint32_t i = 0; i < count; i++) {
        soak_require(pthread_create(&handles[i], NULL, work, &threads[i]) == 0, &threads[i]);
    }
}

// Returns whether memory was flat.
static bool watch(soak_thread* threads, uint32_t count, double seconds) {
    holdings points[POINTS];
    bool flat = true;
    const double begin = now();
    printf("seconds");
    for (uint32_t kind = 0; kind < SOAK_COUNTS; kind++) {
        printf(",%s", count_names[kind]);
    }
    printf(",live_blocks,live_bytes,resident_bytes,descriptors,threads,mappings\n");
    for (uint32_t i = 0; i < POINTS; i++) {
        const double wait = begin + seconds * (i + 1) / POINTS - now();
        if (wait > 0) {
            usleep((useconds_t)(wait * 1e6));
        }
        atomic_store(&standing, true);
        pthread_barrier_wait(&arrive);
        points[i] = look();
        print_row(now() - begin, threads, count, &points[i]);
        flat = is_flat(points, i) && flat;
        atomic_store(&standing, false);
        atomic_store(&ending, i + 1 == POINTS);
        pthread_barrier_wait(&leave);
    }
    return flat;
}

// The counter where all threads met has every commit, and nothing else.
static bool check_meetings(const soak_thread* threads, uint32_t count) {
    uint64_t sum = 0;
    const uint64_t met = *(const uint64_t*)weir_storage_host_pointer(threads[0].meeting);
    for (uint32_t i = 0; i < count; i++) {
        sum += threads[i].meetings;
    }
    if (met != sum) {
        fprintf(stderr,
                "soak: %" PRIu64 " passes of all threads were committed, %" PRIu64 " have run\n",
                sum, met);
    }
    return met == sum;
}

static bool finish(soak_thread* threads, pthread_t* handles, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        pthread_join(handles[i], NULL);
    }
    for (uint32_t i = 0; i < count; i++) {
        soak_say_text(&threads[i]);
        soak_run_session(&threads[i]);
    }
    bool right = check_meetings(threads, count);
    for (uint32_t kind = 0; kind < SOAK_COUNTS; kind++) {
        if (sum_counts(threads, count, kind) == 0) {
            fprintf(stderr, "soak: the time was too short: 0 %s\n", count_names[kind]);
            right = false;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        soak_close_model(&threads[i]);
        weir_storage_release(threads[i].floats);
    }
    return right;
}

int main(int argument_count, char** arguments) {
    const double seconds = argument_count > 2 ? strtod(arguments[1], NULL) : 0.0;
    const uint32_t count = (uint32_t)argument_count - 2;
    if (!(seconds > 0.0) || count > THREADS_MAX) {
        fprintf(stderr, "usage: bench_soak SECONDS MODEL...\n");
        return 64;
    }
    static soak_thread threads[THREADS_MAX];
    pthread_t handles[THREADS_MAX];
    const weir_device_desc desc = {
        .name = "cpu", .thread_count = WORKERS, .allocator = soak_allocator()};
    const weir_storage_desc counter = {.byte_size = 64, .fill = WEIR_FILL_ZERO};
    weir_device* device = NULL;
    weir_storage* meeting = NULL;
    soak_require(weir_device_create(&desc, &device) == WEIR_OK, threads);
    soak_require(weir_storage_allocate(device, &counter, &meeting) == WEIR_OK, threads);
    for (uint32_t i = 0; i < count; i++) {
        threads[i] = (soak_thread){.index = i,
                                   .path = arguments[2 + i],
                                   .random = 1 + i * UINT64_C(0x9E3779B97F4A7C15),
                                   .device = device,
                                   .meeting = meeting};
    }
    pthread_barrier_init(&arrive, NULL, count + 1);
    pthread_barrier_init(&leave, NULL, count + 1);
    start(threads, handles, count);
    const bool flat = watch(threads, count, seconds);
    const bool right = finish(threads, handles, count);
    weir_storage_release(meeting);
    weir_device_destroy(device);
    const bool empty = atomic_load(&live_blocks) == 0;
    fprintf(stderr, "soak: memory %s, results %s, %s left at the end\n", flat ? "flat" : "GROWS",
            right ? "right" : "WRONG", empty ? "nothing" : "SOMETHING");
    return flat && right && empty ? 0 : 1;
}
