// Times the tracker and prints CSV: nanoseconds of processor time to check and record one dispatch,
// the median over the runs. Group mode for open sets of 2 to 4096 dispatches, then group and DAG
// mode over one decode pass of a Llama of 22 layers.
//
// A peer may be timed on the same accesses in the same run, turn by turn with weir: a shared object
// that exports
//
//     void*    peer_create(void);
//     void     peer_destroy(void* peer);
//     uint32_t peer_prepare(void* peer, const peer_access* accesses, uint32_t count);
//     int      peer_record(void* peer, uint32_t dispatch);
//
// peer_prepare turns one dispatch into whatever the peer works on, outside of the time, and counts
// them from 0. peer_record checks that dispatch against the open set and records it; it returns 1
// when a barrier was needed before it, and then the open set is that dispatch alone. Weir and the
// peer must ask for the same barriers.
#include <dlfcn.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <weir/tracker.h>

#define RUNS 31
#define ACCESSES 3            // most, of one dispatch
#define TURN_DISPATCHES 16384 // least, of one measured turn
#define SLOT_BYTES 8448u      // apart in the arena of a pass: 8192 and a gap

typedef struct peer_access {
    uint64_t memory_id;
    uint64_t byte_offset;
    uint64_t byte_length;
    int32_t writes;
} peer_access;

typedef struct peer_library {
    void* (*create)(void);
    void (*destroy)(void* peer);
    uint32_t (*prepare)(void* peer, const peer_access* accesses, uint32_t count);
    int (*record)(void* peer, uint32_t dispatch);
} peer_library;

typedef struct workload {
    weir_access (*accesses)[ACCESSES];
    uint32_t* counts;
    uint32_t dispatch_count;
} workload;

enum { WEIGHTS = 1, ARENA = 2, CACHE = 3 };

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time); // what else runs here does not count
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int compare_doubles(const void* a, const void* b) {
    const double x = *(const double*)a;
    const double y = *(const double*)b;
    return x < y ? -1 : x > y;
}

static void fail(const char* what) {
    fprintf(stderr, "bench_tracker: %s\n", what);
    exit(1);
}

static void* allocate(size_t count, size_t size) {
    void* memory = calloc(count, size);
    if (!memory) {
        fail("out of memory");
    }
    return memory;
}

static workload make_workload(uint32_t capacity) {
    return (workload){.accesses = allocate(capacity, sizeof(weir_access[ACCESSES])),
                      .counts = allocate(capacity, sizeof(uint32_t))};
}

static void free_workload(workload* work) {
    free(work->accesses);
    free(work->counts);
}

static void begin_dispatch(workload* work) {
    work->counts[work->dispatch_count++] = 0;
}

static void add_access(workload* work, uint64_t memory_id, uint64_t offset, uint64_t length,
                       weir_access_kind kind) {
    const uint32_t last = work->dispatch_count - 1;
    work->accesses[last][work->counts[last]++] =
        (weir_access){.range = weir_range_make(memory_id, offset, length), .kind = kind};
}

// How the weights of a dispatch are declared; a peer takes constants for reads.
typedef enum weights_as {
    WEIGHTS_NONE = 0,
    WEIGHTS_READ = 1,
    WEIGHTS_CONSTANT = 2,
} weights_as;

// Groups of `open_set` dispatches that may run together: each reads a weight and the first result
// of the group before, and writes a result of its own, 4096 bytes in slots of 4352, so that even a
// peer to which touching ranges overlap sees none. Three parts of the arena take turns, so that the
// first dispatch of a group meets one hazard, and the others none.
static workload make_groups(uint32_t open_set, bool shuffled, weights_as weights) {
    // A multiple of three groups, few enough for the nearest caches where the groups allow it.
    const uint32_t dispatch_count = (open_set < 128 ? 128 / open_set * 3 : 3) * open_set;
    workload work = make_workload(dispatch_count);
    uint32_t* slots = allocate(open_set, sizeof *slots);
    uint64_t random = 88172645463325252ull;
    for (uint32_t i = 0; i < open_set; ++i) {
        slots[i] = i;
    }
    for (uint32_t i = open_set; shuffled && i-- > 1;) {
        random ^= random << 13; // xorshift64 (Marsaglia 2003)
        random ^= random >> 7;
        random ^= random << 17;
        const uint32_t other = (uint32_t)(random % (i + 1));
        const uint32_t slot = slots[i];
        slots[i] = slots[other];
        slots[other] = slot;
    }
    for (uint32_t d = 0; d < dispatch_count; ++d) {
        const uint64_t part = d / open_set % 3 * (open_set + 1);
        const uint64_t before = (d / open_set + 2) % 3 * (open_set + 1);
        begin_dispatch(&work);
        if (weights != WEIGHTS_NONE) {
            add_access(&work, WEIGHTS, (uint64_t)d * 8448, 8192,
                       weights == WEIGHTS_READ ? WEIR_ACCESS_READ : WEIR_ACCESS_CONSTANT);
        }
        add_access(&work, ARENA, (before + slots[0]) * 4352, 4096, WEIR_ACCESS_READ);
        add_access(&work, ARENA, (part + slots[d % open_set]) * 4352, 4096, WEIR_ACCESS_WRITE);
    }
    free(slots);
    return work;
}

// Adds a dispatch that reads slots a and b of the arena (none where negative), and writes slot c.
static void add_step(workload* work, int a, int b, int c) {
    begin_dispatch(work);
    for (int i = 0; i < 2; ++i) {
        const int slot = i == 0 ? a : b;
        if (slot >= 0) {
            add_access(work, ARENA, (uint64_t)slot * SLOT_BYTES, 8192, WEIR_ACCESS_READ);
        }
    }
    add_access(work, ARENA, (uint64_t)c * SLOT_BYTES, 8192, WEIR_ACCESS_WRITE);
}

static void add_cache_step(workload* work, int arena_slot, uint64_t cache_offset,
                           weir_access_kind kind) {
    begin_dispatch(work);
    const bool stores = kind == WEIR_ACCESS_WRITE;
    add_access(work, ARENA, (uint64_t)arena_slot * SLOT_BYTES, 8192, WEIR_ACCESS_READ);
    add_access(work, CACHE, cache_offset, stores ? 1024 : 1u << 20, kind);
    if (!stores) {
        add_access(work, ARENA, (uint64_t)6 * SLOT_BYTES, 8192, WEIR_ACCESS_WRITE);
    }
}

// Decode of one token: 22 layers of 19 dispatches and 7 round them. The arena reuses its slots in
// each layer; weights are left out, as they are by a schedule.
static workload make_pass(void) {
    workload work = make_workload(425);
    add_step(&work, -1, -1, 0);
    for (uint64_t layer = 0; layer < 22; ++layer) {
        const uint64_t cache = layer << 22;
        add_step(&work, 0, -1, 1); // norm
        add_step(&work, 1, -1, 2); // times its weight
        add_step(&work, 2, -1, 3); // q, k, v
        add_step(&work, 2, -1, 4);
        add_step(&work, 2, -1, 5);
        add_step(&work, 3, -1, 7); // turned q and k
        add_step(&work, 4, -1, 8);
        add_cache_step(&work, 8, cache + 7 * 1024, WEIR_ACCESS_WRITE);
        add_cache_step(&work, 5, cache + (1u << 21) + 7 * 1024, WEIR_ACCESS_WRITE);
        add_cache_step(&work, 7, cache, WEIR_ACCESS_READ); // attention
        add_step(&work, 6, -1, 1);
        add_step(&work, 1, 0, 2); // add
        add_step(&work, 2, -1, 3);
        add_step(&work, 3, -1, 4);
        add_step(&work, 4, -1, 5); // gate and up
        add_step(&work, 4, -1, 7);
        add_step(&work, 5, 7, 8);
        add_step(&work, 8, -1, 1);
        add_step(&work, 1, 2, 0); // add
    }
    for (int i = 0; i < 6; ++i) {
        add_step(&work, i, -1, i + 1);
    }
    return work;
}

static uint32_t count_passes(const workload* work) {
    return (TURN_DISPATCHES + work->dispatch_count - 1) / work->dispatch_count;
}

// Nanoseconds per dispatch; counts the barriers.
static double time_weir(weir_tracker* tracker, weir_tracker_mode mode, const workload* work,
                        uint32_t* barriers) {
    const uint32_t passes = count_passes(work);
    *barriers = 0;
    const double begin = now();
    for (uint32_t pass = 0; pass < passes; ++pass) {
        if (mode == WEIR_TRACKER_DAG) {
            weir_tracker_reset(tracker);
        }
        for (uint32_t d = 0; d < work->dispatch_count; ++d) {
            const weir_tracker_dispatch dispatch = {work->accesses[d], work->counts[d], true};
            weir_verdict verdict;
            if (weir_tracker_record(tracker, &dispatch, &verdict) != WEIR_OK) {
                fail(weir_last_error());
            }
            *barriers += verdict.barrier;
        }
    }
    return (now() - begin) / ((double)passes * work->dispatch_count);
}

static double time_peer(const peer_library* library, void* peer, const workload* work,
                        uint32_t* barriers) {
    const uint32_t passes = count_passes(work);
    *barriers = 0;
    const double begin = now();
    for (uint32_t pass = 0; pass < passes; ++pass) {
        for (uint32_t d = 0; d < work->dispatch_count; ++d) {
            *barriers += library->record(peer, d) != 0;
        }
    }
    return (now() - begin) / ((double)passes * work->dispatch_count);
}

static void* prepare_peer(const peer_library* library, const workload* work) {
    void* peer = library->create();
    for (uint32_t d = 0; d < work->dispatch_count; ++d) {
        peer_access accesses[ACCESSES];
        for (uint32_t i = 0; i < work->counts[d]; ++i) {
            const weir_access* access = &work->accesses[d][i];
            accesses[i] =
                (peer_access){access->range.memory_id, access->range.byte_offset,
                              access->range.byte_length, (access->kind & WEIR_ACCESS_WRITE) != 0};
        }
        library->prepare(peer, accesses, work->counts[d]);
    }
    return peer;
}

// Weir and the peer, if there is one, in turns; the first turn is not counted.
static void measure(const peer_library* library, const char* name, uint32_t open_set,
                    weir_tracker_mode mode, const workload* work) {
    weir_tracker* tracker = NULL;
    if (weir_tracker_create(NULL, mode, &tracker) != WEIR_OK) {
        fail(weir_last_error());
    }
    void* peer = library ? prepare_peer(library, work) : NULL;
    double weir_ns[RUNS + 1];
    double peer_ns[RUNS + 1];
    uint32_t barriers = 0;
    for (int run = 0; run <= RUNS; ++run) {
        uint32_t peer_barriers = 0;
        weir_ns[run] = time_weir(tracker, mode, work, &barriers);
        if (peer) {
            peer_ns[run] = time_peer(library, peer, work, &peer_barriers);
            if (peer_barriers != barriers) {
                fail("weir and the peer do not place the same barriers");
            }
        }
    }
    qsort(weir_ns + 1, RUNS, sizeof *weir_ns, compare_doubles);
    printf("%s,%" PRIu32 ",%.1f,%.1f,%.1f,", name, open_set, weir_ns[1 + RUNS / 2], weir_ns[1],
           weir_ns[RUNS]);
    if (peer) {
        qsort(peer_ns + 1, RUNS, sizeof *peer_ns, compare_doubles);
        printf("%.1f,%.1f,%.1f,%.2f,", peer_ns[1 + RUNS / 2], peer_ns[1], peer_ns[RUNS],
               peer_ns[1 + RUNS / 2] / weir_ns[1 + RUNS / 2]);
        library->destroy(peer);
    } else {
        printf(",,,,");
    }
    printf("%" PRIu32 "\n", barriers);
    fflush(stdout);
    weir_tracker_destroy(tracker);
}

static void load_symbol(void* handle, const char* name, void* function) {
    void* symbol = dlsym(handle, name);
    if (!symbol) {
        fail(dlerror());
    }
    memcpy(function, &symbol, sizeof symbol);
}

static peer_library load_peer(const char* path) {
    peer_library library;
    void* handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (!handle) {
        fail(dlerror());
    }
    load_symbol(handle, "peer_create", &library.create);
    load_symbol(handle, "peer_destroy", &library.destroy);
    load_symbol(handle, "peer_prepare", &library.prepare);
    load_symbol(handle, "peer_record", &library.record);
    return library;
}

static bool is_wanted(const char* only, const char* name) {
    return !only || strcmp(only, name) == 0;
}

int main(int argc, char** argv) {
    if (argc > 3 || (argc >= 2 && argv[1][0] == '-' && argv[1][1] != '\0')) {
        fprintf(stderr, "usage: bench_tracker [PEER.so|- [WORKLOAD]]\n");
        return 64;
    }
    peer_library loaded;
    const peer_library* library = NULL;
    const char* only = argc == 3 ? argv[2] : NULL;
    if (argc >= 2 && strcmp(argv[1], "-") != 0) {
        loaded = load_peer(argv[1]);
        library = &loaded;
    }
    printf("workload,open_set,weir_ns,weir_min,weir_max,peer_ns,peer_min,peer_max,peer/weir,"
           "barriers\n");
    static const struct {
        const char* name;
        bool shuffled;
        weights_as weights;
    } forms[] = {{"rising", false, WEIGHTS_READ},
                 {"shuffled", true, WEIGHTS_READ},
                 {"constants", true, WEIGHTS_CONSTANT},
                 {"no_weights", true, WEIGHTS_NONE}};
    static const uint32_t open_sets[] = {2, 4, 16, 64, 256, 1024, 4096};
    for (size_t form = 0; form < sizeof forms / sizeof *forms; ++form) {
        for (size_t i = 0;
             is_wanted(only, forms[form].name) && i < sizeof open_sets / sizeof *open_sets; ++i) {
            workload work = make_groups(open_sets[i], forms[form].shuffled, forms[form].weights);
            measure(library, forms[form].name, open_sets[i], WEIR_TRACKER_GROUP, &work);
            free_workload(&work);
        }
    }
    workload pass = make_pass();
    if (is_wanted(only, "pass_group")) {
        measure(library, "pass_group", pass.dispatch_count, WEIR_TRACKER_GROUP, &pass);
    }
    if (is_wanted(only, "pass_dag")) {
        measure(NULL, "pass_dag", pass.dispatch_count, WEIR_TRACKER_DAG, &pass);
    }
    free_workload(&pass);
    return 0;
}
