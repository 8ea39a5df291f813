// Products with weights, one thread: for each type the rate at which weights are read (one row of
// x) and at which numbers are multiplied (many rows), with the targets of the CPU in turn.
// Times are those that the thread had the processor, so that a busy machine disturbs less.
//
//     bench_kernels [ROUNDS]        CSV: target, type, rows, n, k, GB/s, GMAC/s; medians
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <weir/target.h>

#define ROUNDS_DEFAULT 7
#define ROUNDS_MAX 101
#define TARGETS_MAX 4

typedef struct bench_case {
    weir_dtype dtype;
    int64_t rows, n, k;
} bench_case;

static double thread_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int compare(const void* a, const void* b) {
    const double x = *(const double*)a;
    const double y = *(const double*)b;
    return (x > y) - (x < y);
}

static uint8_t* filled(size_t byte_size) {
    uint8_t* bytes = aligned_alloc(64, (byte_size + 63) / 64 * 64);
    if (!bytes) {
        fprintf(stderr, "no memory for %zu bytes\n", byte_size);
        exit(1);
    }
    uint64_t state = 88172645463325252u;
    for (size_t i = 0; i < byte_size; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Exponents stay small in the types that keep them in halves: no infinity, no NaN.
        bytes[i] = i % 2 == 1 ? (uint8_t)(state & 0x3F) : (uint8_t)state;
    }
    return bytes;
}

static void run_once(const weir_kernel* kernel, const weir_view views[3], void* const* pointers) {
    const weir_kernel_use use = {.operands = views, .operand_count = 3};
    const uint32_t tiles = kernel->tile_count(&use);
    for (uint32_t tile = 0; tile < tiles; tile++) {
        const weir_kernel_call call = {.views = views,
                                       .pointers = pointers,
                                       .operand_count = 3,
                                       .tile = tile,
                                       .tile_count = tiles};
        if (kernel->run(&call) != WEIR_OK) {
            fprintf(stderr, "%s\n", weir_last_error());
            exit(1);
        }
    }
}

static const weir_kernel* find_kernel(const weir_target* target, const weir_view views[3]) {
    const weir_kernel_use use = {.operands = views, .operand_count = 3};
    for (uint32_t i = 0; i < target->kernel_count; i++) {
        if (target->kernels[i].op == WEIR_OP_MATMUL && target->kernels[i].accepts(&use)) {
            return &target->kernels[i];
        }
    }
    return NULL;
}

static weir_view matrix(weir_dtype dtype, int64_t rows, int64_t columns) {
    weir_view view = {0};
    if (weir_view_layout(dtype, &(weir_shape){.rank = 2, .dims = {rows, columns}}, &view) !=
        WEIR_OK) {
        fprintf(stderr, "%s\n", weir_last_error());
        exit(1);
    }
    return view;
}

static void run_case(const bench_case* wanted, const weir_target* targets, int target_count,
                     int rounds) {
    const weir_view views[3] = {matrix(WEIR_DTYPE_F32, wanted->rows, wanted->k),
                                matrix(wanted->dtype, wanted->n, wanted->k),
                                matrix(WEIR_DTYPE_F32, wanted->rows, wanted->n)};
    void* pointers[3];
    for (int i = 0; i < 3; i++) {
        pointers[i] = filled((size_t)weir_view_byte_length(&views[i]));
    }
    if (wanted->dtype == WEIR_DTYPE_MXFP4) { // whose blocks of odd size begin with an exponent
        const uint64_t byte_size = weir_view_byte_length(&views[1]);
        for (uint64_t i = 0; i < byte_size; i += 17) {
            ((uint8_t*)pointers[1])[i] = 120;
        }
    }
    double seconds[TARGETS_MAX][ROUNDS_MAX];
    for (int round = 0; round < rounds; round++) {
        for (int t = 0; t < target_count; t++) {
            const weir_kernel* kernel = find_kernel(&targets[t], views);
            const double begin = thread_seconds();
            run_once(kernel, views, pointers);
            seconds[t][round] = thread_seconds() - begin;
        }
    }
    const double bytes = (double)weir_view_byte_length(&views[1]);
    const double products = (double)wanted->rows * (double)wanted->n * (double)wanted->k;
    for (int t = 0; t < target_count; t++) {
        qsort(seconds[t], (size_t)rounds, sizeof(double), compare);
        const double median = seconds[t][rounds / 2];
        printf("%s,%s,%lld,%lld,%lld,%.2f,%.2f\n", targets[t].name,
               weir_dtype_describe(wanted->dtype)->name, (long long)wanted->rows,
               (long long)wanted->n, (long long)wanted->k, bytes / median / 1e9,
               products / median / 1e9);
    }
    for (int i = 0; i < 3; i++) {
        free(pointers[i]);
    }
}

int main(int argc, char** argv) {
    static const weir_dtype dtypes[] = {
        WEIR_DTYPE_Q4_0,  WEIR_DTYPE_Q4_1, WEIR_DTYPE_Q5_0,   WEIR_DTYPE_Q5_1,
        WEIR_DTYPE_Q8_0,  WEIR_DTYPE_Q2_K, WEIR_DTYPE_Q3_K,   WEIR_DTYPE_Q4_K,
        WEIR_DTYPE_Q5_K,  WEIR_DTYPE_Q6_K, WEIR_DTYPE_IQ4_NL, WEIR_DTYPE_IQ4_XS,
        WEIR_DTYPE_MXFP4, WEIR_DTYPE_F16,  WEIR_DTYPE_BF16,   WEIR_DTYPE_F32};
    const int wanted = argc > 1 ? atoi(argv[1]) : ROUNDS_DEFAULT;
    const int rounds = wanted < 1 ? 1 : wanted > ROUNDS_MAX ? ROUNDS_MAX : wanted;
    weir_target targets[TARGETS_MAX];
    int target_count = 0;
    static const char* const names[TARGETS_MAX] = {"cpu:plain", "cpu:avx2", "cpu:avx512",
                                                   "cpu:neon"};
    for (int i = 0; i < TARGETS_MAX; i++) {
        target_count += weir_target_find(names[i], &targets[target_count]) == WEIR_OK ? 1 : 0;
    }
    printf("target,type,rows,n,k,gigabytes_per_second,gigaproducts_per_second\n");
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        run_case(&(bench_case){dtypes[i], 1, 8192, 2048}, targets, target_count, rounds);
        run_case(&(bench_case){dtypes[i], 4, 8192, 2048}, targets, target_count, rounds);
        run_case(&(bench_case){dtypes[i], 128, 1024, 2048}, targets, target_count, rounds);
    }
    return 0;
}
