// What the benchmarks of runs share: rows of CSV, measured one after the other in every round, so
// that a busy machine hits all rows alike.
#ifndef WEIR_BENCH_BENCH_ROWS_H
#define WEIR_BENCH_BENCH_ROWS_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <weir/status.h>

#define BENCH_RUNS 15

typedef double (*bench_fn)(void* context); // returns nanoseconds per unit

typedef struct bench_row {
    const char* name;
    const char* variant;
    uint32_t workers;
    const char* unit;
    bench_fn measure;
    void* context;
    double times[BENCH_RUNS];
} bench_row;

static inline double bench_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

// Ends the program with the library's message.
static inline void bench_check(weir_status status) {
    if (status != WEIR_OK) {
        fprintf(stderr, "bench: %s\n", weir_last_error());
        exit(1);
    }
}

static inline int bench_compare(const void* a, const void* b) {
    const double x = *(const double*)a;
    const double y = *(const double*)b;
    return x < y ? -1 : x > y;
}

// Measures all rows and prints them: the median, the least and the most of the runs.
static inline void bench_run(bench_row* rows, uint32_t count) {
    for (uint32_t run = 0; run <= BENCH_RUNS; run++) { // the first one warms up
        for (uint32_t i = 0; i < count; i++) {
            const double time = rows[i].measure(rows[i].context);
            if (run > 0) {
                rows[i].times[run - 1] = time;
            }
        }
    }
    printf("what,variant,workers,unit,ns_median,ns_least,ns_most\n");
    for (uint32_t i = 0; i < count; i++) {
        qsort(rows[i].times, BENCH_RUNS, sizeof(double), bench_compare);
        printf("%s,%s,%" PRIu32 ",%s,%.3f,%.3f,%.3f\n", rows[i].name, rows[i].variant,
               rows[i].workers, rows[i].unit, rows[i].times[BENCH_RUNS / 2], rows[i].times[0],
               rows[i].times[BENCH_RUNS - 1]);
    }
}

#endif
