// Attention of few queries, as in decoding: what counts is the reading of the cache.
//
// The keys are cut into parts, which tiles compute for all heads (Dao et al. 2023, "Flash-Decoding
// for long-context inference"): rows are then read whole and in their order. Heads of 64 elements,
// 128 bytes of F16 a row apart, came at a third to a half of that rate: prefetchers do not follow
// them, and two cores that read halves of the same rows bring the same pages twice. Each part keeps
// a running softmax (Milakov and Gimelshein 2018) and leaves sums that are not yet divided in the
// scratch; the join brings them to one largest score, in the order of the parts.
//
// Queries of a key head that see the same keys meet what is read of it in registers: they have
// slots, 1, 2, 4 or 8 for each key head, of which the last repeat a query where there are fewer.
//
//     scratch: part 0 | largest scores [slots] | sums of weights [slots] | sums [slots, head_dim] |
//              part 1 ...
#include <math.h>
#include <string.h>

#include "backends/cpu/avx512/avx512_attention.h"
#include "backends/cpu/avx512/avx512_cache.h"
#include "backends/cpu/avx512/avx512_math.h"
#include "backends/cpu/kernels/cpu_kernels.h"

#define Q 0
#define KEYS 1
#define VALUES 2
#define Y 3
#define SCRATCH 4

#define CHUNK 32       // keys that are taken in at a time
#define STEP 4         // rows of keys that are read side by side
#define VALUE_STEP 8   // rows of values that are added to sums in registers
#define SLOTS_MAX 64   // that are computed at a time: their scores stay in the first cache
#define PARTS_MAX 16   // of all keys
#define PART_KEYS 8    // at least
#define PART_NS 4000.0 // what a part takes at least, about
#define AHEAD 8192     // bytes that are asked for before they are read

// What reading takes on one core, and products where they bound it.
#define NS_PER_BYTE 0.07
#define NS_PER_PRODUCT 0.04

// How a pass is cut. Nothing of it depends on threads or on the number of tiles.
typedef struct few_cut {
    int64_t group;      // query heads of a key head
    int64_t queries;    // of a key head, of all rows
    int64_t slots;      // of a key head
    int64_t slot_count; // of all key heads
    int64_t head_dim;
    int64_t seen; // keys of the last row
    int64_t parts;
} few_cut;

// What a part leaves.
typedef struct few_part {
    float* max;    // largest score
    float* weight; // sum of the weights
    float* sum;    // of values by their weights
} few_part;

// Some key heads and their queries in one part.
typedef struct few_work {
    _Alignas(64) float scores[SLOTS_MAX][CHUNK]; // of a chunk, then its weights
    const float* query[SLOTS_MAX];
    int64_t seen[SLOTS_MAX]; // keys
    int64_t count;           // slots, a multiple of four
    int64_t slots;           // of a key head
    int64_t heads;           // key heads
    int64_t first_head;
    int64_t head_dim;
    float scale;
    float* max; // of the part, from the first slot on
    float* weight;
    float* sum;
} few_work;

// Rows in the order in which they are read: the keys of a chunk, its values, the next chunk.
typedef struct few_reader {
    const char* first[2]; // keys and values: row 0 of the cache, at the first byte that is read
    int64_t stride[2];
    int64_t bytes[2]; // of each row
    int64_t end;      // keys of the part
    cpu_span chunk;
    int64_t next; // row
    int which;
} few_reader;

static int64_t round_up(int64_t number, int64_t unit) {
    return cpu_divide_up(number, unit) * unit;
}

// As many parts as pay, a power of two: more keys never make fewer.
static int64_t count_parts(const weir_view* views, const weir_attention_desc* desc, int64_t rows,
                           int64_t seen) {
    double bytes = 0.0; // of a key and its value
    for (int i = KEYS; i <= VALUES; i++) {
        const weir_dtype_info* info = weir_dtype_describe(views[i].dtype);
        bytes += (double)desc->kv_heads * desc->head_dim * (double)info->block_bytes /
                 (double)info->block_elements;
    }
    const double products = 2.0 * (double)rows * desc->heads * desc->head_dim;
    const double cost = (double)seen * (bytes * NS_PER_BYTE + products * NS_PER_PRODUCT);
    int64_t parts = 1;
    while (parts < PARTS_MAX && 2 * parts * PART_KEYS <= seen &&
           (double)(2 * parts) * PART_NS <= cost) {
        parts *= 2;
    }
    return parts;
}

static few_cut find_cut(const weir_view* views, const weir_attention_desc* desc, int64_t rows,
                        int64_t seen) {
    few_cut cut = {.group = desc->heads / desc->kv_heads, .head_dim = desc->head_dim};
    cut.queries = rows * cut.group;
    cut.slots = cut.queries > 4 ? 8 : cut.queries > 2 ? 4 : cut.queries;
    cut.slot_count = cut.slots * desc->kv_heads;
    cut.seen = seen;
    cut.parts = count_parts(views, desc, rows, seen);
    return cut;
}

// Whole vectors, also for slots that are computed by fours.
static int64_t padded_slots(const few_cut* cut) {
    return round_up(cut->slot_count, 16);
}

static int64_t part_floats(const few_cut* cut) {
    return padded_slots(cut) * (2 + cut->head_dim);
}

static few_part part_of(const weir_kernel_call* call, const few_cut* cut, int64_t part) {
    float* max = (float*)call->pointers[SCRATCH] + part * part_floats(cut);
    float* weight = max + padded_slots(cut);
    return (few_part){max, weight, weight + padded_slots(cut)};
}

bool avx512_attention_is_few(const weir_attention_desc* desc, int64_t rows) {
    return rows * (desc->heads / desc->kv_heads) <= AVX512_FEW_TOTAL;
}

uint32_t avx512_attention_few_tiles(const weir_view* views, const weir_attention_desc* desc) {
    return (uint32_t)count_parts(views, desc, views[Q].shape.dims[0], views[KEYS].shape.dims[0]);
}

uint64_t avx512_attention_few_scratch(const weir_view* views, const weir_attention_desc* desc) {
    const int64_t rows_max = AVX512_FEW_TOTAL / (desc->heads / desc->kv_heads);
    const int64_t rows = cpu_min(views[Q].shape.dims[0], rows_max);
    const few_cut cut = find_cut(views, desc, rows, views[KEYS].shape.dims[0]);
    return rows > 0 ? (uint64_t)(cut.parts * part_floats(&cut)) * sizeof(float) : 0;
}

// Asks for the next rows. The second cache is meant: a first cache has too few misses open at a
// time, and lines that were asked for there came at half the rate.
AVX512_INLINE void read_ahead(few_reader* reader) {
    const int64_t end = cpu_min(reader->next + STEP, reader->chunk.end);
    for (; reader->next < end; reader->next++) {
        const char* row =
            reader->first[reader->which] + reader->next * reader->stride[reader->which];
        const int64_t lead = (int64_t)((uintptr_t)row % 64);
        for (int64_t at = -lead; at < reader->bytes[reader->which]; at += 64) {
            _mm_prefetch(row + at, _MM_HINT_T1);
        }
    }
    if (reader->next < reader->chunk.end) {
        return;
    }
    if (reader->which == 1) {
        reader->chunk.begin = reader->chunk.end;
        reader->chunk.end = cpu_min(reader->chunk.end + CHUNK, reader->end);
    }
    reader->which = 1 - reader->which;
    reader->next = reader->chunk.begin;
}

static few_reader start_reading(const weir_kernel_call* call, const few_work* work, cpu_span keys) {
    few_reader reader = {.end = keys.end, .next = keys.begin};
    reader.chunk = (cpu_span){keys.begin, cpu_min(keys.begin + CHUNK, keys.end)};
    for (int i = 0; i < 2; i++) {
        const weir_dtype_info* info = weir_dtype_describe(call->views[KEYS + i].dtype);
        const int64_t blocks = work->head_dim / info->block_elements;
        reader.first[i] =
            cpu_row(call, (uint32_t)(KEYS + i), 0) + work->first_head * blocks * info->block_bytes;
        reader.stride[i] = call->views[KEYS + i].strides[0];
        reader.bytes[i] = work->heads * blocks * info->block_bytes;
    }
    for (int64_t asked = 0; asked < AHEAD; asked += STEP * reader.bytes[0]) {
        read_ahead(&reader);
    }
    return reader;
}

// Scores of four keys by four slots, which have `share` queries of each key head.
AVX512_INLINE void score_step(avx512_load_fn load, const char* const rows[STEP], few_work* work,
                              int64_t slot, int64_t key, const int share) {
    __m512 sums[16];
    int64_t columns[4];
    for (int i = 0; i < 16; i++) {
        sums[i] = _mm512_setzero_ps();
    }
    for (int head = 0; head < 4 / share; head++) { // none comes after the last
        columns[head] = cpu_min(slot / work->slots + head, work->heads - 1) + work->first_head;
        columns[head] *= work->head_dim;
    }
    for (int64_t e = 0; e < work->head_dim; e += 16) {
        for (int head = 0; head < 4 / share; head++) {
            for (int i = 0; i < STEP; i++) {
                const __m512 elements = load(rows[i], columns[head] + e);
                for (int q = head * share; q < (head + 1) * share; q++) {
                    sums[4 * q + i] = _mm512_fmadd_ps(
                        elements, _mm512_loadu_ps(work->query[slot + q] + e), sums[4 * q + i]);
                }
            }
        }
    }
    const __m512 found = _mm512_mul_ps(avx512_sum_each(sums), _mm512_set1_ps(work->scale));
    _mm_store_ps(work->scores[slot] + key, _mm512_castps512_ps128(found));
    _mm_store_ps(work->scores[slot + 1] + key, _mm512_extractf32x4_ps(found, 1));
    _mm_store_ps(work->scores[slot + 2] + key, _mm512_extractf32x4_ps(found, 2));
    _mm_store_ps(work->scores[slot + 3] + key, _mm512_extractf32x4_ps(found, 3));
}

// Fills the scores of a chunk. Rows past its end are the last: their scores are not looked at.
AVX512_INLINE void score_chunk(avx512_load_fn load, const weir_kernel_call* call, few_work* work,
                               few_reader* reader, cpu_span keys, const int share) {
    for (int64_t key = keys.begin; key < keys.end; key += STEP) {
        const char* rows[STEP];
        read_ahead(reader);
        for (int i = 0; i < STEP; i++) {
            rows[i] = cpu_row(call, KEYS, cpu_min(key + i, keys.end - 1));
        }
        for (int64_t slot = 0; slot < work->count; slot += 4) {
            score_step(load, rows, work, slot, key - keys.begin, share);
        }
    }
}

AVX512_INLINE void score_shared(avx512_load_fn load, const weir_kernel_call* call, few_work* work,
                                few_reader* reader, cpu_span keys) {
    if (work->slots == 1) {
        score_chunk(load, call, work, reader, keys, 1);
    } else if (work->slots == 2) {
        score_chunk(load, call, work, reader, keys, 2);
    } else {
        score_chunk(load, call, work, reader, keys, 4);
    }
}

// Turns the scores of a slot into weights, those of keys from `seen` on into 0, and brings its sums
// to the largest score.
static void weigh(few_work* work, int64_t slot, int64_t seen) {
    const float before = work->max[slot];
    const float sum = avx512_weigh(work->scores[slot], CHUNK / 16, seen, &work->max[slot]);
    if (work->max[slot] != before) { // the first chunk brings zeros by exp(-infinity) = 0
        const __m512 factor = avx512_exp(_mm512_set1_ps(before - work->max[slot]));
        for (int64_t e = 0; e < work->head_dim; e += 16) {
            float* at = work->sum + slot * work->head_dim + e;
            _mm512_store_ps(at, _mm512_mul_ps(_mm512_load_ps(at), factor));
        }
        work->weight[slot] *= _mm512_cvtss_f32(factor);
    }
    work->weight[slot] += sum;
}

// A query that sees nothing of the chunk stays as it is.
static void weigh_all(few_work* work, cpu_span keys) {
    for (int64_t slot = 0; slot < work->heads * work->slots; slot++) {
        const int64_t seen = cpu_min(work->seen[slot], keys.end) - keys.begin;
        if (seen > 0) {
            weigh(work, slot, seen);
        } else {
            memset(work->scores[slot], 0, sizeof work->scores[slot]);
        }
    }
}

// `width` vectors of the sums of `count` slots of a key head, from element `begin` on.
AVX512_INLINE void add_columns(avx512_load_fn load, const weir_kernel_call* call, few_work* work,
                               int64_t slot, cpu_span keys, int64_t first_key, int64_t begin,
                               const int count, const int width) {
    __m512 sums[4][4];
    float* sum = work->sum + slot * work->head_dim + begin;
    const int64_t column = (work->first_head + slot / work->slots) * work->head_dim + begin;
    for (int q = 0; q < count; q++) {
        for (int i = 0; i < width; i++) {
            sums[q][i] = _mm512_load_ps(sum + q * work->head_dim + 16 * i);
        }
    }
    for (int64_t key = keys.begin; key < keys.end; key++) {
        const char* row = cpu_row(call, VALUES, key);
        for (int i = 0; i < width; i++) {
            const __m512 elements = load(row, column + 16 * i);
            for (int q = 0; q < count; q++) {
                const __m512 weight = _mm512_set1_ps(work->scores[slot + q][key - first_key]);
                sums[q][i] = _mm512_fmadd_ps(elements, weight, sums[q][i]);
            }
        }
    }
    for (int q = 0; q < count; q++) {
        for (int i = 0; i < width; i++) {
            _mm512_store_ps(sum + q * work->head_dim + 16 * i, sums[q][i]);
        }
    }
}

// Adds the values of a chunk by their weights.
AVX512_INLINE void add_chunk(avx512_load_fn load, const weir_kernel_call* call, few_work* work,
                             few_reader* reader, cpu_span keys, const int count) {
    for (int64_t key = keys.begin; key < keys.end; key += VALUE_STEP) {
        const cpu_span step = {key, cpu_min(key + VALUE_STEP, keys.end)};
        for (int64_t row = step.begin; row < step.end; row += STEP) {
            read_ahead(reader);
        }
        for (int64_t slot = 0; slot < work->heads * work->slots; slot += count) {
            int64_t begin = 0;
            for (; begin + 64 <= work->head_dim; begin += 64) {
                add_columns(load, call, work, slot, step, keys.begin, begin, count, 4);
            }
            for (; begin < work->head_dim; begin += 16) {
                add_columns(load, call, work, slot, step, keys.begin, begin, count, 1);
            }
        }
    }
}

AVX512_INLINE void add_shared(avx512_load_fn load, const weir_kernel_call* call, few_work* work,
                              few_reader* reader, cpu_span keys) {
    if (work->slots == 1) {
        add_chunk(load, call, work, reader, keys, 1);
    } else if (work->slots == 2) {
        add_chunk(load, call, work, reader, keys, 2);
    } else {
        add_chunk(load, call, work, reader, keys, 4);
    }
}

// Slot i of a key head has query i, or the last; the slots up to a multiple of four repeat the last
// one of all.
static void start(const weir_kernel_call* call, const few_cut* cut, const few_part* part,
                  cpu_span heads, few_work* work) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    const int64_t first = heads.begin * cut->slots;
    const int64_t row_count = call->views[Q].shape.dims[0];
    work->heads = heads.end - heads.begin;
    work->slots = cut->slots;
    work->count = cpu_divide_up(work->heads * cut->slots, 4) * 4;
    work->first_head = heads.begin;
    work->head_dim = cut->head_dim;
    work->scale = desc->scale;
    work->max = part->max + first;
    work->weight = part->weight + first;
    work->sum = part->sum + first * cut->head_dim;
    for (int64_t slot = 0; slot < work->count; slot++) {
        const int64_t head = cpu_min(slot / cut->slots, work->heads - 1);
        const int64_t query = cpu_min(slot - head * cut->slots, cut->queries - 1);
        const int64_t row = query / cut->group;
        const int64_t column = (heads.begin + head) * cut->group + query % cut->group;
        work->query[slot] = cpu_row_f32(call, Q, row) + column * cut->head_dim;
        work->seen[slot] = cut->seen - row_count + row + 1;
    }
    for (int64_t slot = 0; slot < work->heads * cut->slots; slot++) {
        work->max[slot] = -INFINITY;
        work->weight[slot] = 0.0f;
    }
    memset(work->sum, 0, (size_t)(work->heads * cut->slots * cut->head_dim) * sizeof(float));
}

static void attend(const weir_kernel_call* call, const few_cut* cut, int64_t number) {
    const few_part part = part_of(call, cut, number);
    const int64_t kv_heads = cut->slot_count / cut->slots;
    const int64_t at_a_time = SLOTS_MAX / cut->slots;
    const cpu_span keys = {cut->seen * number / cut->parts, cut->seen * (number + 1) / cut->parts};
    for (int64_t i = 0; i < cpu_divide_up(kv_heads, at_a_time); i++) {
        few_work work;
        start(call, cut, &part, cpu_unit_items(i, at_a_time, kv_heads), &work);
        few_reader reader = start_reading(call, &work, keys);
        for (int64_t begin = keys.begin; begin < keys.end; begin += CHUNK) {
            const cpu_span chunk = {begin, cpu_min(begin + CHUNK, keys.end)};
            AVX512_FOR_CACHE(call->views[KEYS].dtype, score_shared, call, &work, &reader, chunk);
            weigh_all(&work, chunk);
            AVX512_FOR_CACHE(call->views[VALUES].dtype, add_shared, call, &work, &reader, chunk);
        }
    }
}

// Brings 16 slots to one largest score: their maxima become the factors of their sums.
static void join_weights(const weir_kernel_call* call, const few_cut* cut, int64_t slot) {
    __m512 largest = _mm512_set1_ps(-INFINITY);
    __m512 total = _mm512_setzero_ps();
    for (int64_t i = 0; i < cut->parts; i++) {
        largest = _mm512_max_ps(largest, _mm512_load_ps(part_of(call, cut, i).max + slot));
    }
    for (int64_t i = 0; i < cut->parts; i++) {
        const few_part part = part_of(call, cut, i);
        const __m512 max = _mm512_load_ps(part.max + slot);
        const __m512 factor = avx512_exp(_mm512_sub_ps(max, largest));
        _mm512_store_ps(part.max + slot, factor);
        total = _mm512_fmadd_ps(_mm512_load_ps(part.weight + slot), factor, total);
    }
    const __m512 share = _mm512_div_ps(_mm512_set1_ps(1.0f), total);
    for (int64_t i = 0; i < cut->parts; i++) {
        float* factor = part_of(call, cut, i).max + slot;
        _mm512_store_ps(factor, _mm512_mul_ps(_mm512_load_ps(factor), share));
    }
}

static void join(const weir_kernel_call* call, const few_cut* cut) {
    for (int64_t slot = 0; slot < cut->slot_count; slot += 16) {
        join_weights(call, cut, slot);
    }
    for (int64_t slot = 0; slot < cut->slot_count; slot++) {
        const int64_t query = slot % cut->slots;
        if (query >= cut->queries) {
            continue;
        }
        const int64_t head = slot / cut->slots * cut->group + query % cut->group;
        float* y = cpu_row_at(call, Y, query / cut->group) + head * cut->head_dim;
        for (int64_t e = 0; e < cut->head_dim; e += 16) {
            __m512 sum = _mm512_setzero_ps();
            for (int64_t i = 0; i < cut->parts; i++) {
                const few_part part = part_of(call, cut, i);
                sum = _mm512_fmadd_ps(_mm512_load_ps(part.sum + slot * cut->head_dim + e),
                                      _mm512_set1_ps(part.max[slot]), sum);
            }
            _mm512_storeu_ps(y + e, sum);
        }
    }
}

// Tiles have neighbouring parts, each a first part that is not that of the tile before.
void avx512_attention_few(const weir_kernel_call* call, int64_t position) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    const int64_t rows = call->views[Q].shape.dims[0];
    if (rows == 0) {
        return;
    }
    const few_cut cut = find_cut(call->views, desc, rows, position + rows);
    if (call->tile == call->tile_count) {
        join(call, &cut);
        return;
    }
    const int64_t begin = cpu_divide_up(call->tile * cut.parts, call->tile_count);
    const int64_t end = cpu_divide_up((call->tile + 1) * cut.parts, call->tile_count);
    for (int64_t part = begin; part < end; part++) {
        attend(call, &cut, part);
    }
}
