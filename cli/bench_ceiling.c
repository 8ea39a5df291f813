// The rate that decode is measured against: the workers of the device do nothing but read the
// weights that a token takes, where they lie. It is a dispatch of our own, so the clocks are those
// of the workers: from the start of the first tile to the end of the last.
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define TILE_BYTES (UINT64_C(512) << 10)
#define COPY_BYTES_MAX (UINT64_C(1) << 30)
#define PASSES_MAX 32
#define PASSES_MIN 3
#define ENOUGH_NS UINT64_C(60000000) // of reading: a clock tick or a neighbour counts for little

struct bench_ceiling {
    weir_device* device;
    weir_session* session;
    weir_storage* target;   // sums of the tiles, or the other side of copies
    weir_operand* operands; // [0] is `target`
    uint32_t operand_count;
    weir_timing* timings; // of the dispatches, no more than there are operands
    uint64_t byte_size;   // of the weights
    uint64_t moved;       // bytes that one pass reads, or copies twice
    bool copies;
};

// Enough sums that none waits for the one before.
static uint64_t sum_words(const uint64_t* words, uint64_t count) {
    uint64_t sums[32] = {0};
    uint64_t i = 0;
    for (; i + 32 <= count; i += 32) {
        for (uint32_t k = 0; k < 32; k++) {
            sums[k] ^= words[i + k];
        }
    }
    for (; i < count; i++) {
        sums[0] ^= words[i];
    }
    uint64_t sum = 0;
    for (uint32_t k = 0; k < 32; k++) {
        sum ^= sums[k];
    }
    return sum;
}

// Tile t reads bytes [t * TILE_BYTES, + TILE_BYTES) of the operands put end to end, and writes its
// sum, a cache line from the next, so that no compiler leaves the reading out. Tensors of GGUF
// files begin at multiples of 32 bytes; the last bytes of an odd one are nothing to a rate.
static weir_status read_tile(const weir_kernel_call* call) {
    uint64_t begin = call->tile * TILE_BYTES;
    uint64_t left = TILE_BYTES;
    uint64_t sum = 0;
    for (uint32_t i = 1; i < call->operand_count && left > 0; i++) {
        const uint64_t length = weir_view_byte_length(&call->views[i]) & ~UINT64_C(7);
        if (begin >= length) {
            begin -= length;
            continue;
        }
        const uint64_t take = length - begin < left ? length - begin : left;
        const uint8_t* bytes = call->pointers[i];
        sum ^= sum_words((const uint64_t*)(const void*)(bytes + (begin & ~UINT64_C(7))), take / 8);
        left -= take;
        begin = 0;
    }
    uint64_t* sums = call->pointers[0];
    sums[call->tile * 8] = sum;
    return WEIR_OK;
}

// The embedding is looked up by row and not read, unless it is the output matrix as well.
static bool is_streamed(const weir_model* model, const weir_gguf_tensor* tensor) {
    static const char embedding[] = "token_embd.weight";
    return weir_model_params(model)->tied_output || tensor->name.length != sizeof embedding - 1 ||
           strncmp(tensor->name.bytes, embedding, sizeof embedding - 1) != 0;
}

static weir_status list_weights(const weir_model* model, bench_ceiling* ceiling) {
    uint64_t count = 0;
    const weir_gguf_tensor* tensors = weir_gguf_tensors(weir_model_gguf(model), &count);
    ceiling->operands = calloc((size_t)count + 1, sizeof *ceiling->operands);
    ceiling->timings = calloc((size_t)count + 1, sizeof *ceiling->timings);
    if (!ceiling->operands || !ceiling->timings) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "no memory for %llu operands",
                         (unsigned long long)count);
    }
    ceiling->operand_count = 1;
    for (uint64_t i = 0; i < count; i++) {
        char name[128];
        weir_view view;
        if (tensors[i].name.length >= sizeof name || !is_streamed(model, &tensors[i])) {
            continue;
        }
        memcpy(name, tensors[i].name.bytes, tensors[i].name.length);
        name[tensors[i].name.length] = '\0';
        if (weir_model_weight(model, name, &view) != WEIR_OK) {
            continue; // the model has no use for it
        }
        ceiling->operands[ceiling->operand_count++] =
            (weir_operand){.view = view, .kind = WEIR_ACCESS_READ};
        ceiling->byte_size += weir_view_byte_length(&view);
    }
    return WEIR_OK;
}

static uint32_t count_tiles(const bench_ceiling* ceiling) {
    return (uint32_t)((ceiling->byte_size + TILE_BYTES - 1) / TILE_BYTES);
}

static weir_status make_sums(bench_ceiling* ceiling) {
    const int64_t words = (int64_t)count_tiles(ceiling) * 8;
    const weir_shape shape = weir_shape_make(1, &words);
    const weir_storage_desc desc = {.byte_size = (uint64_t)words * 8, .name = "sums"};
    WEIR_TRY(weir_storage_allocate(ceiling->device, &desc, &ceiling->target));
    ceiling->operands[0].kind = WEIR_ACCESS_WRITE;
    return weir_view_make(ceiling->target, 0, WEIR_DTYPE_I64, &shape, &ceiling->operands[0].view);
}

static weir_status record_reads(bench_ceiling* ceiling) {
    const weir_dispatch_desc desc = {.name = "read",
                                     .kernel = read_tile,
                                     .operands = ceiling->operands,
                                     .operand_count = ceiling->operand_count,
                                     .tile_count = count_tiles(ceiling)};
    ceiling->moved = ceiling->byte_size;
    return weir_session_dispatch(ceiling->session, &desc, NULL);
}

// Matrices only: a copy of a few bytes says nothing of a rate.
static bool is_copied(const bench_ceiling* ceiling, uint32_t operand, uint64_t at) {
    const weir_view* view = &ceiling->operands[operand].view;
    return view->shape.rank > 1 && weir_view_byte_length(view) <= COPY_BYTES_MAX - at;
}

static uint64_t place_after(uint64_t at, const weir_view* view) {
    return at + ((weir_view_byte_length(view) + 255) & ~UINT64_C(255));
}

static weir_status make_copies(bench_ceiling* ceiling) {
    uint64_t at = 0;
    for (uint32_t i = 1; i < ceiling->operand_count; i++) {
        at = is_copied(ceiling, i, at) ? place_after(at, &ceiling->operands[i].view) : at;
    }
    const weir_storage_desc desc = {.byte_size = at, .name = "copies", .device_only = true};
    return weir_storage_allocate(ceiling->device, &desc, &ceiling->target);
}

// Each weight to a place of its own: no copy waits for another.
static weir_status record_copies(bench_ceiling* ceiling) {
    uint64_t at = 0;
    ceiling->moved = 0;
    for (uint32_t i = 1; i < ceiling->operand_count; i++) {
        const weir_view* from = &ceiling->operands[i].view;
        weir_view to;
        if (!is_copied(ceiling, i, at)) {
            continue;
        }
        WEIR_TRY(weir_view_make(ceiling->target, at, from->dtype, &from->shape, &to));
        WEIR_TRY(weir_session_copy(ceiling->session, from, &to));
        ceiling->moved += 2 * weir_view_byte_length(from);
        at = place_after(at, from);
    }
    return WEIR_OK;
}

// Whether the device runs functions of the host shows when it is given one.
static weir_status prepare(const weir_model* model, bench_ceiling* ceiling) {
    WEIR_TRY(list_weights(model, ceiling));
    WEIR_TRY(weir_session_create(ceiling->device, &ceiling->session));
    weir_session_set_timing(ceiling->session, true);
    WEIR_TRY(make_sums(ceiling));
    const weir_status status = record_reads(ceiling);
    if (status != WEIR_UNSUPPORTED) {
        return status;
    }
    ceiling->copies = true;
    weir_storage_release(ceiling->target);
    ceiling->target = NULL;
    return make_copies(ceiling);
}

weir_status bench_ceiling_create(const weir_model* model, bench_ceiling** ceiling) {
    bench_ceiling* made = calloc(1, sizeof *made);
    if (!made) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "no memory for a ceiling");
    }
    made->device = weir_model_device(model);
    const weir_status status = prepare(model, made);
    if (status != WEIR_OK) {
        bench_ceiling_free(made);
        return status;
    }
    *ceiling = made;
    return WEIR_OK;
}

void bench_ceiling_free(bench_ceiling* ceiling) {
    if (!ceiling) {
        return;
    }
    weir_session_destroy(ceiling->session);
    weir_storage_release(ceiling->target);
    free(ceiling->operands);
    free(ceiling->timings);
    free(ceiling);
}

uint64_t bench_ceiling_bytes(const bench_ceiling* ceiling) {
    return ceiling->byte_size;
}

bool bench_ceiling_copies(const bench_ceiling* ceiling) {
    return ceiling->copies;
}

static weir_status time_pass(bench_ceiling* ceiling, uint64_t* duration_ns) {
    WEIR_TRY(ceiling->copies ? record_copies(ceiling) : record_reads(ceiling));
    weir_ticket ticket;
    WEIR_TRY(weir_session_commit(ceiling->session, &ticket));
    WEIR_TRY(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    uint32_t count = 0;
    WEIR_TRY(weir_ticket_timings(ticket, ceiling->timings, ceiling->operand_count, &count));
    uint64_t begin = UINT64_MAX;
    uint64_t end = 0;
    for (uint32_t i = 0; i < count; i++) {
        begin = ceiling->timings[i].begin_ns < begin ? ceiling->timings[i].begin_ns : begin;
        end = ceiling->timings[i].end_ns > end ? ceiling->timings[i].end_ns : end;
    }
    *duration_ns = end > begin ? end - begin : 0;
    return WEIR_OK;
}

weir_status bench_ceiling_run(bench_ceiling* ceiling, double* rate) {
    double durations[PASSES_MAX];
    uint64_t total = 0;
    uint32_t passes = 0;
    while (passes < PASSES_MIN || (passes < PASSES_MAX && total < ENOUGH_NS)) {
        uint64_t duration = 0;
        WEIR_TRY(time_pass(ceiling, &duration));
        durations[passes++] = (double)duration;
        total += duration;
    }
    const double median = bench_median(durations, passes);
    *rate = median > 0 ? (double)ceiling->moved * 1e9 / median : -1.0;
    return WEIR_OK;
}
