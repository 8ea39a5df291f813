// Attention over caches of keys and values, one thread: the rate at which the cache is read and the
// rate of products, with the targets of the CPU interleaved (those without a kernel of their own
// have the plain one). Several caches take turns, as blocks of a model do, so that a decode step
// reads memory and not what the step before left in the caches of the processor; before each of
// them as much other memory is read as a block may have weights. Times are those that the thread
// had the processor.
//
//     bench_attention [ROUNDS]   CSV: shape, type, rows, keys, target, microseconds, GB/s, GMAC/s
#include "bench_kernel.h"

#define CACHES 12
#define BLOCK_BYTES 8388608

typedef struct bench_case {
    const char* name;
    uint32_t heads, kv_heads, head_dim;
    weir_dtype dtype;
    int64_t rows, keys; // the rows are the last of the keys
} bench_case;

typedef struct operands {
    weir_view views[4];
    void* q;
    void* y;
    void* caches[CACHES][2];
} operands;

static operands new_operands(const bench_case* c) {
    const weir_shape q = {.rank = 2, .dims = {c->rows, (int64_t)c->heads * c->head_dim}};
    const weir_shape cache = {.rank = 2, .dims = {c->keys, (int64_t)c->kv_heads * c->head_dim}};
    uint64_t state = 1;
    operands made;
    bench_check(weir_view_layout(WEIR_DTYPE_F32, &q, &made.views[0]));
    bench_check(weir_view_layout(c->dtype, &cache, &made.views[1]));
    made.views[2] = made.views[1];
    made.views[3] = made.views[0];
    made.q = new_matrix(&made.views[0], &state);
    made.y = new_matrix(&made.views[0], &state);
    for (int i = 0; i < CACHES; i++) {
        made.caches[i][0] = new_matrix(&made.views[1], &state);
        made.caches[i][1] = new_matrix(&made.views[1], &state);
    }
    return made;
}

static void free_operands(operands* o) {
    for (int i = 0; i < CACHES; i++) {
        free(o->caches[i][0]);
        free(o->caches[i][1]);
    }
    free(o->q);
    free(o->y);
}

// Reads as much as the weights of a block, which drives the cache out that is attended to next.
// Returns a sum of what was read, so that the reading is not left out.
static uint64_t read_block(void) {
    static uint64_t* weights;
    uint64_t sum = 0;
    if (!weights) {
        weights = new_bytes(BLOCK_BYTES);
        memset(weights, 1, BLOCK_BYTES);
    }
    for (size_t i = 0; i < BLOCK_BYTES / sizeof *weights; i += 8) {
        sum += weights[i];
    }
    return sum;
}

// Seconds for all caches, each attended to once.
static double run_once(const bench_case* c, const weir_target* target, const operands* o) {
    const weir_op_constants constants = {.attention = {.heads = c->heads,
                                                       .kv_heads = c->kv_heads,
                                                       .head_dim = c->head_dim,
                                                       .scale = 0.125f,
                                                       .position = 0}};
    const weir_kernel_use use = {o->views, 4, &constants};
    const weir_kernel* kernel = find_kernel(target, WEIR_OP_ATTENTION, &use);
    const uint64_t position = (uint64_t)(c->keys - c->rows);
    const uint32_t tiles = kernel->tile_count(&use);
    void* scratch = new_bytes(kernel->scratch_bytes(&use) + 1);
    double seconds = 0.0;
    for (int i = 0; i < CACHES; i++) {
        void* pointers[] = {o->q, o->caches[i][0], o->caches[i][1], o->y, scratch};
        bench_check(read_block() != 0 ? WEIR_OK : WEIR_INTERNAL);
        const double begin = thread_seconds();
        run_tiles(kernel,
                  (weir_kernel_call){.views = o->views,
                                     .pointers = pointers,
                                     .operand_count = 4,
                                     .constants = &constants,
                                     .params = &position},
                  tiles);
        seconds += thread_seconds() - begin;
    }
    free(scratch);
    return seconds;
}

static void run_case(const bench_case* c, const weir_target* targets, int count, int rounds) {
    operands o = new_operands(c);
    double seconds[TARGETS_MAX][ROUNDS_MAX];
    for (int round = 0; round < rounds; round++) {
        for (int t = 0; t < count; t++) {
            seconds[t][round] = run_once(c, &targets[t], &o) / CACHES;
        }
    }
    // Each row sees the keys before it and its own.
    const double seen = (double)c->rows * ((double)c->keys - 0.5 * (double)(c->rows - 1));
    const double products = 2.0 * seen * (double)c->heads * (double)c->head_dim;
    const double bytes = 2.0 * (double)weir_view_byte_length(&o.views[1]);
    for (int t = 0; t < count; t++) {
        const double median = median_of(seconds[t], rounds);
        printf("%s,%s,%lld,%lld,%s,%.1f,%.2f,%.2f\n", c->name, weir_dtype_describe(c->dtype)->name,
               (long long)c->rows, (long long)c->keys, targets[t].name, 1e6 * median,
               bytes / median / 1e9, products / median / 1e9);
    }
    free_operands(&o);
}

int main(int argc, char** argv) {
    static const weir_dtype dtypes[] = {WEIR_DTYPE_F32, WEIR_DTYPE_F16, WEIR_DTYPE_Q8_0};
    static const bench_case shapes[] = {
        {.name = "110m", .heads = 12, .kv_heads = 12, .head_dim = 64, .rows = 1, .keys = 64},
        {.name = "110m", .heads = 12, .kv_heads = 12, .head_dim = 64, .rows = 1, .keys = 2048},
        {.name = "1b", .heads = 32, .kv_heads = 4, .head_dim = 64, .rows = 1, .keys = 64},
        {.name = "1b", .heads = 32, .kv_heads = 4, .head_dim = 64, .rows = 1, .keys = 2048},
        {.name = "8b", .heads = 32, .kv_heads = 8, .head_dim = 128, .rows = 1, .keys = 2048},
        {.name = "110m", .heads = 12, .kv_heads = 12, .head_dim = 64, .rows = 128, .keys = 512},
        {.name = "1b", .heads = 32, .kv_heads = 4, .head_dim = 64, .rows = 128, .keys = 512},
        {.name = "8b", .heads = 32, .kv_heads = 8, .head_dim = 128, .rows = 128, .keys = 512},
    };
    const int rounds = rounds_of(argc, argv);
    weir_target targets[TARGETS_MAX];
    const int target_count = find_targets(targets);
    printf("shape,type,rows,keys,target,microseconds,gigabytes_per_second,"
           "gigaproducts_per_second\n");
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (size_t k = 0; k < sizeof dtypes / sizeof dtypes[0]; k++) {
            bench_case c = shapes[i];
            c.dtype = dtypes[k];
            run_case(&c, targets, target_count, rounds);
        }
    }
    return 0;
}
