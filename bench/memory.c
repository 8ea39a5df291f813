// What the operations on memory cost: CSV on standard output, one row per operation.
//
//     bench_memory [rounds]        default 15; each row is the median of that many rounds
//
// `claim_ns` is the figure that another system publishes for the same operation, on its own
// machine; empty where there is none.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <weir/weir.h>

#define ROUNDS_MAX 1000
#define REPEATS 1000

typedef struct bench {
    weir_device* device;
    weir_storage* storage;
    weir_view view;
    weir_residency* set;
    weir_plan* plan;
    weir_arena* arena;
    weir_state* state;
    weir_storage* many[REPEATS];
    uint8_t bytes[65536];
} bench;

// Never optimised away: what a loop computes ends here.
static volatile uint64_t sink;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void must(weir_status status) {
    if (status != WEIR_OK) {
        fprintf(stderr, "bench_memory: %s\n", weir_last_error());
        exit(1);
    }
}

static void slice(bench* b) {
    for (uint32_t i = 0; i < REPEATS; i++) {
        weir_view made;
        must(weir_view_slice(&b->view, i * 4, 16, &made));
        sink += made.byte_offset;
    }
}

static void slice_retain_release(bench* b) {
    for (uint32_t i = 0; i < REPEATS; i++) {
        weir_view made;
        must(weir_view_slice(&b->view, i * 4, 16, &made));
        weir_view_retain(&made);
        weir_view_release(&made);
        sink += made.byte_offset;
    }
}

static void reshape(bench* b) {
    const weir_shape shape = weir_shape_make(3, (const int64_t[]){16, 16, 64});
    for (uint32_t i = 0; i < REPEATS; i++) {
        weir_view made;
        must(weir_view_reshape(&b->view, &shape, &made));
        sink += made.byte_offset;
    }
}

static void allocate_release(bench* b) {
    for (uint32_t i = 0; i < REPEATS; i++) {
        weir_storage* storage = NULL;
        must(weir_storage_allocate(b->device, &(weir_storage_desc){.byte_size = 4096}, &storage));
        weir_storage_release(storage);
    }
}

static void wrap_release(bench* b) {
    const weir_storage_wrap_desc desc = {.pointer = b->bytes, .byte_size = sizeof b->bytes};
    for (uint32_t i = 0; i < REPEATS; i++) {
        weir_storage* storage = NULL;
        must(weir_storage_wrap(b->device, &desc, &storage));
        weir_storage_release(storage);
    }
}

// One add and one removal of a storage, with half a flush each.
static void residency(bench* b) {
    for (uint32_t i = 0; i < REPEATS; i++) {
        must(weir_residency_register(b->set, b->many[i], NULL));
    }
    weir_residency_flush(b->set);
    for (uint32_t i = 0; i < REPEATS; i++) {
        must(weir_residency_unregister(b->set, b->many[i]));
    }
    weir_residency_flush(b->set);
}

static void write_bytes(bench* b, uint64_t byte_size) {
    for (uint32_t i = 0; i < REPEATS; i++) {
        must(weir_arena_write_bytes(b->arena, 0, 0, b->bytes, byte_size));
    }
}

static void read_bytes(bench* b, uint64_t byte_size) {
    for (uint32_t i = 0; i < REPEATS; i++) {
        must(weir_arena_read_bytes(b->arena, 0, 0, b->bytes, byte_size));
    }
}

static void write_64(bench* b) {
    write_bytes(b, 64);
}

static void write_64k(bench* b) {
    write_bytes(b, sizeof b->bytes);
}

static void read_64(bench* b) {
    read_bytes(b, 64);
}

static void read_64k(bench* b) {
    read_bytes(b, sizeof b->bytes);
}

static void copy_64k(bench* b) {
    uint8_t* place = weir_storage_host_pointer(weir_arena_storage(b->arena));
    for (uint32_t i = 0; i < REPEATS; i++) {
        memcpy(place, b->bytes, sizeof b->bytes);
        sink += place[i];
    }
}

static void view_read(bench* b) {
    for (uint32_t i = 0; i < REPEATS; i++) {
        const void* elements = NULL;
        int64_t count = 0;
        must(weir_view_read(&b->view, WEIR_DTYPE_F32, &elements, &count));
        sink += (uint64_t)count;
    }
}

// Rows of 4 KiB, one at a time, from nothing.
static void state_grow(bench* b) {
    for (int64_t rows = 1; rows <= REPEATS; rows++) {
        must(weir_state_grow(b->state, rows));
    }
    must(weir_state_truncate(b->state, 0));
}

typedef struct operation {
    const char* name;
    void (*run)(bench* b); // REPEATS of them
    const char* claim_ns;
} operation;

static const operation operations[] = {
    {"view_slice", slice, ""},
    {"view_slice_retain_release", slice_retain_release, ""},
    {"view_reshape", reshape, ""},
    {"storage_allocate_release_4096", allocate_release, "5000-30000"},
    {"storage_wrap_release", wrap_release, ""},
    {"residency_add_remove", residency, "2790"},
    {"arena_write_64", write_64, ""},
    {"arena_read_64", read_64, ""},
    {"arena_write_65536", write_64k, ""},
    {"arena_read_65536", read_64k, ""},
    {"memcpy_65536", copy_64k, ""},
    {"view_read", view_read, ""},
    {"state_grow_row_4096", state_grow, ""},
};

static void open_bench(bench* b) {
    const weir_shape shape = weir_shape_make(1, (const int64_t[]){16384});
    const weir_plan_buffer buffer = {.byte_size = sizeof b->bytes};
    const weir_plan_problem problem = {.buffers = &buffer, .buffer_count = 1};
    const weir_state_desc state = {.dtype = WEIR_DTYPE_U8,
                                   .row = weir_shape_make(1, (const int64_t[]){4096}),
                                   .row_count_max = REPEATS};
    const weir_storage_desc desc = {.byte_size = sizeof b->bytes, .fill = WEIR_FILL_ZERO};
    must(weir_device_create(&(weir_device_desc){.thread_count = 1}, &b->device));
    must(weir_storage_allocate(b->device, &desc, &b->storage));
    must(weir_view_make(b->storage, 0, WEIR_DTYPE_F32, &shape, &b->view));
    must(weir_plan_create(NULL, &problem, &b->plan));
    must(weir_arena_create(b->device, b->plan, &b->arena));
    must(weir_state_create(b->device, &state, &b->state));
    for (uint32_t i = 0; i < REPEATS; i++) {
        const weir_storage_desc small = {.byte_size = 4096, .fill = WEIR_FILL_ZERO};
        must(weir_storage_allocate(b->device, &small, &b->many[i]));
    }
}

static void close_bench(bench* b) {
    for (uint32_t i = 0; i < REPEATS; i++) {
        weir_storage_release(b->many[i]);
    }
    weir_state_destroy(b->state);
    weir_arena_destroy(b->arena);
    weir_plan_destroy(b->plan);
    weir_storage_release(b->storage);
    weir_device_destroy(b->device);
}

static int compare(const void* a, const void* b) {
    const double x = *(const double*)a;
    const double y = *(const double*)b;
    return x < y ? -1 : x > y;
}

// A set only where it is measured: allocations would join it.
static void measure(bench* b, const operation* op, int rounds) {
    static double ns[ROUNDS_MAX];
    if (op->run == residency) {
        must(weir_residency_create(b->device, &(weir_residency_desc){0}, &b->set));
    }
    op->run(b); // warm
    for (int round = 0; round < rounds; round++) {
        const uint64_t start = now_ns();
        op->run(b);
        ns[round] = (double)(now_ns() - start) / REPEATS;
    }
    if (op->run == residency) {
        weir_residency_destroy(b->set);
    }
    qsort(ns, (size_t)rounds, sizeof ns[0], compare);
    printf("%s,%.1f,%.1f,%.1f,%s\n", op->name, ns[rounds / 2], ns[rounds / 10],
           ns[rounds - 1 - rounds / 10], op->claim_ns);
}

int main(int argc, char** argv) {
    static bench b;
    const int rounds = argc > 1 ? atoi(argv[1]) : 15;
    if (rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: bench_memory [rounds], 1 to %d\n", ROUNDS_MAX);
        return 64;
    }
    open_bench(&b);
    printf("operation,median_ns,p10_ns,p90_ns,claim_ns\n");
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        measure(&b, &operations[i], rounds);
    }
    close_bench(&b);
    return 0;
}
