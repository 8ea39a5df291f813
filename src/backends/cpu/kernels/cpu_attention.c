#include "backends/cpu/kernels/cpu_attention.h"

#include "backends/cpu/kernels/cpu_vector.h"

#define Q 0
#define KEYS 1
#define VALUES 2

cpu_attention_cut weir_cpu_attention_cut(const weir_attention_desc* desc, int64_t row_count,
                                         int64_t heads_max, int64_t queries) {
    cpu_attention_cut cut = {.group = desc->heads / desc->kv_heads, .row_count = row_count};
    cut.heads = cpu_min(cut.group, heads_max);
    cut.head_units = cpu_divide_up(cut.group, cut.heads);
    cut.rows = queries / cut.heads > 0 ? queries / cut.heads : 1;
    cut.units = cpu_divide_up(row_count, cut.rows) * cut.head_units * desc->kv_heads;
    return cut;
}

// Units of the same rows follow each other.
cpu_attention_unit weir_cpu_attention_unit(const cpu_attention_cut* cut, int64_t unit) {
    const int64_t row_units = cpu_divide_up(cut->row_count, cut->rows);
    const int64_t across = unit % (cut->units / row_units);
    cpu_attention_unit found = {.kv_head = across / cut->head_units};
    found.heads = cpu_unit_items(across % cut->head_units, cut->heads, cut->group);
    found.heads.begin += found.kv_head * cut->group;
    found.heads.end += found.kv_head * cut->group;
    found.rows = cpu_unit_items(unit / (cut->units / row_units), cut->rows, cut->row_count);
    return found;
}

bool weir_cpu_attention_fits(const weir_kernel_use* use, uint32_t head_max) {
    const weir_view* v = use->operands;
    return use->operand_count == 4 && cpu_is_matrix(&v[Q]) && cpu_is_cache(&v[KEYS]) &&
           cpu_is_cache(&v[VALUES]) && weir_shape_equal(&v[KEYS].shape, &v[VALUES].shape) &&
           cpu_is_output(&v[3], &v[Q]) && use->constants->attention.head_dim <= head_max;
}

weir_status weir_cpu_cache_rows(const weir_kernel_call* call, uint32_t operand, int64_t kv_head,
                                cpu_span keys, float* decoded, cpu_cache_rows* rows) {
    const weir_op_constants* constants = call->constants;
    const weir_view* cache = &call->views[operand];
    const int64_t length = constants->attention.head_dim;
    const int64_t column = kv_head * length;
    *rows = (cpu_cache_rows){.count = keys.end - keys.begin, .length = length};
    if (cache->dtype == WEIR_DTYPE_F32) {
        rows->first = cpu_row_f32(call, operand, keys.begin) + column;
        rows->stride = cache->strides[0] / (int64_t)sizeof(float);
        return WEIR_OK;
    }
    const weir_dtype_info* info = weir_dtype_describe(cache->dtype);
    const int64_t block = info->block_elements;
    const int64_t first = column / block;
    const int64_t blocks = cpu_divide_up(column + length, block) - first;
    rows->first = decoded + (column - first * block);
    rows->stride = blocks * block;
    for (int64_t key = keys.begin; key < keys.end; key++) {
        const char* source = cpu_row(call, operand, key) + first * info->block_bytes;
        WEIR_TRY(weir_dtype_to_f32(cache->dtype, source, blocks * block, decoded));
        decoded += rows->stride;
    }
    return WEIR_OK;
}

weir_status weir_cpu_attention_walk(const weir_kernel_call* call, const char* name, uint32_t cache,
                                    cpu_attention_block_fn take) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    const int64_t row_count = call->views[0].shape.dims[0];
    const cpu_attention_cut cut = cpu_plain_cut(desc, row_count);
    float decoded[CPU_ATTENTION_DECODED];
    int64_t position = 0;
    WEIR_TRY(
        cpu_attention_position(call, name, row_count, call->views[cache].shape.dims[0], &position));
    const cpu_span span = cpu_tile_units(call, cut.units);
    for (int64_t i = span.begin; i < span.end; i++) {
        const cpu_attention_unit unit = weir_cpu_attention_unit(&cut, i);
        const int64_t seen = position + unit.rows.end;
        for (int64_t begin = 0; begin < seen; begin += CPU_ATTENTION_BLOCK) {
            const cpu_span block = {begin, cpu_min(begin + CPU_ATTENTION_BLOCK, seen)};
            WEIR_TRY(take(call, &unit, position, block, decoded));
        }
    }
    return WEIR_OK;
}

void weir_cpu_score_keys(const cpu_cache_rows* keys, const float* query, float* scores) {
    int64_t i = 0;
    for (; i + 4 <= keys->count; i += 4) {
        const float* four[4];
        for (int64_t k = 0; k < 4; k++) {
            four[k] = keys->first + (i + k) * keys->stride;
        }
        cpu_dot4(query, four, keys->length, scores + i);
    }
    for (; i < keys->count; i++) {
        scores[i] = cpu_dot(query, keys->first + i * keys->stride, keys->length);
    }
}

void weir_cpu_add_values(const cpu_cache_rows* values, const float* weights, float* restrict sum) {
    const int64_t stride = values->stride;
    int64_t i = 0;
    for (; i + 4 <= values->count; i += 4) {
        const float* restrict a = values->first + i * stride;
        const float* restrict b = a + stride;
        const float* restrict c = b + stride;
        const float* restrict d = c + stride;
        const float* w = weights + i;
        for (int64_t e = 0; e < values->length; e++) {
            sum[e] = (((sum[e] + a[e] * w[0]) + b[e] * w[1]) + c[e] * w[2]) + d[e] * w[3];
        }
    }
    for (; i < values->count; i++) {
        const float* restrict a = values->first + i * stride;
        for (int64_t e = 0; e < values->length; e++) {
            sum[e] += a[e] * weights[i];
        }
    }
}
