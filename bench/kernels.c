// Products with weights, one thread: for each type the rate at which weights are read (one row of
// x) and at which numbers are multiplied (many rows), with the targets of the CPU in turn.
// Times are those that the thread had the processor, so that a busy machine disturbs less.
//
//     bench_kernels [ROUNDS]        CSV: target, type, rows, n, k, GB/s, GMAC/s; medians
#include "bench_kernel.h"

typedef struct bench_case {
    weir_dtype dtype;
    int64_t rows, n, k;
} bench_case;

// Blocks of any bytes, but for exponents, which stay small in the types that keep them in halves:
// no infinity, no NaN.
static uint8_t* new_blocks(const weir_view* view) {
    const uint64_t byte_size = weir_view_byte_length(view);
    uint8_t* bytes = new_bytes(byte_size);
    uint64_t state = 88172645463325252u;
    for (uint64_t i = 0; i < byte_size; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes[i] = i % 2 == 1 ? (uint8_t)(state & 0x3F) : (uint8_t)state;
    }
    if (view->dtype == WEIR_DTYPE_MXFP4) { // whose blocks of odd size begin with an exponent
        for (uint64_t i = 0; i < byte_size; i += 17) {
            bytes[i] = 120;
        }
    }
    return bytes;
}

static weir_view matrix(weir_dtype dtype, int64_t rows, int64_t columns) {
    weir_view view = {0};
    bench_check(weir_view_layout(dtype, &(weir_shape){.rank = 2, .dims = {rows, columns}}, &view));
    return view;
}

static void run_case(const bench_case* wanted, const weir_target* targets, int target_count,
                     int rounds) {
    const weir_view views[3] = {matrix(WEIR_DTYPE_F32, wanted->rows, wanted->k),
                                matrix(wanted->dtype, wanted->n, wanted->k),
                                matrix(WEIR_DTYPE_F32, wanted->rows, wanted->n)};
    void* pointers[3];
    uint64_t state = 1;
    for (int i = 0; i < 3; i++) {
        pointers[i] = weir_dtype_is_encodable(views[i].dtype) ? new_matrix(&views[i], &state)
                                                              : new_blocks(&views[i]);
    }
    const weir_kernel_use use = {.operands = views, .operand_count = 3};
    const weir_kernel_call call = {.views = views, .pointers = pointers, .operand_count = 3};
    double seconds[TARGETS_MAX][ROUNDS_MAX];
    for (int round = 0; round < rounds; round++) {
        for (int t = 0; t < target_count; t++) {
            const weir_kernel* kernel = find_kernel(&targets[t], WEIR_OP_MATMUL, &use);
            const double begin = thread_seconds();
            run_tiles(kernel, call, kernel->tile_count(&use));
            seconds[t][round] = thread_seconds() - begin;
        }
    }
    const double bytes = (double)weir_view_byte_length(&views[1]);
    const double products = (double)wanted->rows * (double)wanted->n * (double)wanted->k;
    for (int t = 0; t < target_count; t++) {
        const double median = median_of(seconds[t], rounds);
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
    const int rounds = rounds_of(argc, argv);
    weir_target targets[TARGETS_MAX];
    const int target_count = find_targets(targets);
    printf("target,type,rows,n,k,gigabytes_per_second,gigaproducts_per_second\n");
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        run_case(&(bench_case){dtypes[i], 1, 8192, 2048}, targets, target_count, rounds);
        run_case(&(bench_case){dtypes[i], 4, 8192, 2048}, targets, target_count, rounds);
        run_case(&(bench_case){dtypes[i], 128, 1024, 2048}, targets, target_count, rounds);
    }
    return 0;
}
