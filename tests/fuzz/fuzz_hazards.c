// Views and hazards: random chains of view operations on a storage of 64 bytes; the range of each
// view is held against the bytes that its elements have, and the tracker, in both modes, against a
// model with one entry per byte.
#include "fuzz.h"

#include <weir/tracker.h>

#define BYTES 64
#define DISPATCHES 24
#define ACCESSES 3

typedef struct access_bits {
    uint64_t bytes;
    unsigned kind;
} access_bits;

typedef struct program {
    weir_access accesses[DISPATCHES][ACCESSES];
    access_bits bits[DISPATCHES][ACCESSES];
    uint32_t counts[DISPATCHES];
    uint32_t dispatch_count;
} program;

// The bytes of every element, one by one.
static uint64_t element_bytes(const weir_view* view) {
    const uint32_t size = weir_dtype_describe(view->dtype)->block_bytes;
    int64_t index[WEIR_RANK_MAX] = {0};
    uint64_t bits = 0;
    for (int64_t left = weir_view_element_count(view); left > 0; left--) {
        uint64_t offset = view->byte_offset;
        for (uint32_t i = 0; i < view->shape.rank; i++) {
            offset += (uint64_t)(index[i] * view->strides[i]);
        }
        fuzz_require(offset + size <= BYTES);
        bits |= ((UINT64_C(1) << size) - 1) << offset;
        for (uint32_t i = view->shape.rank; i > 0; i--) {
            if (++index[i - 1] < view->shape.dims[i - 1]) {
                break;
            }
            index[i - 1] = 0;
        }
    }
    return bits;
}

static uint64_t range_bytes(const weir_range* range) {
    uint64_t count = range->byte_length > 0 ? 1 : 0;
    for (uint32_t i = 0; i < range->level_count; i++) {
        count *= range->levels[i].count;
    }
    uint64_t bits = 0;
    for (uint64_t k = 0; k < count; k++) {
        uint64_t offset = range->byte_offset;
        uint64_t rest = k;
        for (uint32_t i = range->level_count; i > 0; i--) {
            offset += rest % range->levels[i - 1].count * range->levels[i - 1].stride;
            rest /= range->levels[i - 1].count;
        }
        for (uint64_t b = 0; b < range->byte_length; b++) {
            fuzz_require(offset + b < BYTES);
            bits |= UINT64_C(1) << (offset + b);
        }
    }
    return bits;
}

static weir_status change_shape(fuzz_input* input, const weir_view* view, weir_view* changed) {
    weir_shape shape = {.rank = fuzz_below(input, 5)};
    int64_t left = weir_view_element_count(view);
    for (uint32_t i = 0; i < shape.rank; i++) {
        const int64_t wish = 1 + fuzz_below(input, 8);
        const bool last = i + 1 == shape.rank;
        shape.dims[i] = last ? left : left % wish == 0 ? wish : 1;
        left /= shape.dims[i] > 0 ? shape.dims[i] : 1;
    }
    return weir_view_reshape(view, &shape, changed);
}

static weir_status reorder(fuzz_input* input, const weir_view* view, weir_view* changed) {
    uint32_t axes[WEIR_RANK_MAX];
    for (uint32_t i = 0; i < view->shape.rank; i++) {
        axes[i] = i;
    }
    for (uint32_t i = view->shape.rank; i > 1; i--) {
        const uint32_t other = fuzz_below(input, i);
        const uint32_t moved = axes[i - 1];
        axes[i - 1] = axes[other];
        axes[other] = moved;
    }
    return weir_view_permute(view, axes, changed);
}

// Applies one operation; the view stays as it is where the operation is refused.
static void step_view(fuzz_input* input, weir_view* view) {
    static const weir_dtype dtypes[] = {WEIR_DTYPE_U8, WEIR_DTYPE_F16, WEIR_DTYPE_F32,
                                        WEIR_DTYPE_F64};
    weir_view changed = *view;
    weir_status status = WEIR_OK;
    switch (fuzz_below(input, 5)) {
    case 0:
        status = weir_view_slice(view, fuzz_below(input, BYTES + 1), (int8_t)fuzz_byte(input) / 2,
                                 &changed);
        break;
    case 1:
        status = weir_view_narrow(view, fuzz_below(input, 4), (int8_t)fuzz_byte(input) / 8,
                                  (int8_t)fuzz_byte(input) / 8, &changed);
        break;
    case 2:
        status = change_shape(input, view, &changed);
        break;
    case 3:
        status = reorder(input, view, &changed);
        break;
    default:
        status = weir_view_bitcast(view, dtypes[fuzz_below(input, 4)], &changed);
    }
    if (status == WEIR_OK) {
        fuzz_require((element_bytes(&changed) & ~element_bytes(view)) == 0);
        *view = changed;
    }
}

static weir_access read_access(fuzz_input* input, access_bits* bits) {
    weir_view view;
    const weir_shape shape = {.rank = 1, .dims = {BYTES}};
    fuzz_require(weir_view_layout(WEIR_DTYPE_U8, &shape, &view) == WEIR_OK);
    for (uint32_t steps = fuzz_below(input, 7); steps > 0; steps--) {
        step_view(input, &view);
    }
    bool widened = true;
    const weir_access access = {
        .range = weir_range_from_view(&view, 1, 0, &widened),
        .kind = (weir_access_kind)(1 + fuzz_below(input, 3)),
    };
    const uint64_t exact = element_bytes(&view);
    *bits = (access_bits){range_bytes(&access.range), access.kind};
    fuzz_require((exact & ~bits->bytes) == 0);
    fuzz_require(widened || bits->bytes == exact);
    return access;
}

static void read_program(fuzz_input* input, program* made) {
    while (input->left > 0 && made->dispatch_count < DISPATCHES) {
        const uint32_t d = made->dispatch_count++;
        made->counts[d] = fuzz_below(input, ACCESSES + 1);
        for (uint32_t i = 0; i < made->counts[d]; i++) {
            made->accesses[d][i] = read_access(input, &made->bits[d][i]);
        }
    }
}

// Which earlier dispatch, since `begin`, shares a byte that one of the two writes and that no
// dispatch between them has written: bit e of the result.
static uint32_t model_predecessors(const program* made, uint32_t d, uint32_t begin) {
    uint64_t reads = 0;
    uint64_t writes = 0;
    for (uint32_t i = 0; i < made->counts[d]; i++) {
        reads |= (made->bits[d][i].kind & WEIR_ACCESS_READ) != 0 ? made->bits[d][i].bytes : 0;
        writes |= (made->bits[d][i].kind & WEIR_ACCESS_WRITE) != 0 ? made->bits[d][i].bytes : 0;
    }
    uint64_t covered = 0; // written again since
    uint32_t found = 0;
    for (uint32_t e = d; e > begin; e--) {
        uint64_t earlier_reads = 0;
        uint64_t earlier_writes = 0;
        for (uint32_t i = 0; i < made->counts[e - 1]; i++) {
            const access_bits* bits = &made->bits[e - 1][i];
            earlier_reads |= (bits->kind & WEIR_ACCESS_READ) != 0 ? bits->bytes : 0;
            earlier_writes |= (bits->kind & WEIR_ACCESS_WRITE) != 0 ? bits->bytes : 0;
        }
        // A dispatch reads before it writes: its own writes cover its reads.
        const uint64_t raw_waw = earlier_writes & (reads | writes) & ~covered;
        const uint64_t war = earlier_reads & ~earlier_writes & writes & ~covered;
        found |= raw_waw || war ? UINT32_C(1) << (e - 1) : 0;
        covered |= earlier_writes;
    }
    return found;
}

static void check_mode(const program* made, weir_tracker_mode mode) {
    weir_tracker* tracker = NULL;
    fuzz_require(weir_tracker_create(NULL, mode, &tracker) == WEIR_OK);
    uint32_t begin = 0;
    for (uint32_t d = 0; d < made->dispatch_count; d++) {
        const weir_tracker_dispatch dispatch = {
            .accesses = made->accesses[d], .access_count = made->counts[d], .declared = true};
        weir_verdict verdict;
        fuzz_require(weir_tracker_record(tracker, &dispatch, &verdict) == WEIR_OK);
        uint32_t found = 0;
        for (uint32_t i = 0; i < verdict.hazard_count; i++) {
            fuzz_require(weir_range_overlaps(&verdict.hazards[i].earlier_range,
                                             &verdict.hazards[i].later_range));
            found |= UINT32_C(1) << verdict.hazards[i].earlier;
        }
        const uint32_t expected = model_predecessors(made, d, begin);
        fuzz_require(found == expected);
        if (mode == WEIR_TRACKER_GROUP) {
            fuzz_require(verdict.barrier == (expected != 0));
            begin = verdict.barrier ? d : begin;
        }
    }
    weir_tracker_destroy(tracker);
}

int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t byte_size) {
    fuzz_input input = {bytes, byte_size};
    program* made = calloc(1, sizeof *made);
    fuzz_require(made);
    read_program(&input, made);
    check_mode(made, WEIR_TRACKER_DAG);
    check_mode(made, WEIR_TRACKER_GROUP);
    free(made);
    return 0;
}
