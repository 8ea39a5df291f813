// What the benchmarks of single kernels share: the time that a thread had the processor, operands,
// and the targets of the CPU in turn.
#ifndef WEIR_BENCH_BENCH_KERNEL_H
#define WEIR_BENCH_BENCH_KERNEL_H

#include <string.h>
#include <weir/target.h>

#include "bench_rows.h"

#define ROUNDS_DEFAULT 7
#define ROUNDS_MAX 101
#define TARGETS_MAX 5
#define WORKER_BYTES 1572864 // as a worker of the CPU has for its tiles of a dispatch

static inline double thread_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// Sorts the times of the rounds.
static inline double median_of(double* seconds, int rounds) {
    qsort(seconds, (size_t)rounds, sizeof *seconds, bench_compare);
    return seconds[rounds / 2];
}

static inline void* new_bytes(uint64_t byte_size) {
    void* bytes = aligned_alloc(64, (size_t)(byte_size + 63) / 64 * 64);
    if (!bytes) {
        fprintf(stderr, "no memory for %llu bytes\n", (unsigned long long)byte_size);
        exit(1);
    }
    return bytes;
}

// Numbers in [-1, 1), rounded to the type of the view: none so small that arithmetic slows down.
static inline void* new_matrix(const weir_view* view, uint64_t* state) {
    const int64_t rows = view->shape.dims[0];
    const int64_t columns = view->shape.dims[1];
    uint8_t* bytes = new_bytes(weir_view_byte_length(view));
    float* row = new_bytes((uint64_t)columns * sizeof *row);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t k = 0; k < columns; k++) {
            *state = *state * 6364136223846793005u + 1442695040888963407u;
            row[k] = (float)((double)(*state >> 11) * 0x1p-52 - 1.0);
        }
        bench_check(weir_dtype_from_f32(view->dtype, row, columns, bytes + i * view->strides[0]));
    }
    free(row);
    return bytes;
}

// Returns the first kernel that takes the operands; ends the program where there is none.
static inline const weir_kernel* find_kernel(const weir_target* target, weir_op_kind op,
                                             const weir_kernel_use* use) {
    for (uint32_t i = 0; i < target->kernel_count; i++) {
        if (target->kernels[i].op == op && target->kernels[i].accepts(use)) {
            return &target->kernels[i];
        }
    }
    fprintf(stderr, "%s has no kernel\n", target->name);
    exit(1);
}

// Runs all tiles as one worker, which prepares once what all of them need of x, and joins them; the
// call's own are not looked at.
static inline void run_tiles(const weir_kernel* kernel, weir_kernel_call call, uint32_t tiles) {
    static _Alignas(64) uint8_t memory[WORKER_BYTES];
    weir_kernel_local local = {.memory = memory, .byte_size = sizeof memory};
    call.local = &local;
    call.tile_count = tiles;
    for (call.tile = 0; call.tile < tiles + (kernel->joins ? 1 : 0); call.tile++) {
        bench_check(kernel->run(&call));
    }
}

// Finds those targets of the CPU that this processor can run.
static inline int find_targets(weir_target targets[TARGETS_MAX]) {
    static const char* const names[TARGETS_MAX] = {"cpu:plain", "cpu:avx2", "cpu:avx512",
                                                   "cpu:avx512_bf16", "cpu:neon"};
    int count = 0;
    for (int i = 0; i < TARGETS_MAX; i++) {
        count += weir_target_find(names[i], &targets[count]) == WEIR_OK ? 1 : 0;
    }
    return count;
}

// How often to measure, from the command line.
static inline int rounds_of(int argc, char** argv) {
    const int wanted = argc > 1 ? atoi(argv[1]) : ROUNDS_DEFAULT;
    return wanted < 1 ? 1 : wanted > ROUNDS_MAX ? ROUNDS_MAX : wanted;
}

#endif
