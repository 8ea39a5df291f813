// What tells whether a plan was made for a target and a graph: both as lowered, since it is
// dispatches with their scratch that are placed. Names of values and parameters are left out.
#include "base/hash.h"
#include "schedule/plan_file.h"

#include <string.h>

static uint32_t fold(uint64_t hash) {
    return (uint32_t)(hash ^ hash >> 32);
}

static uint64_t hash_text(uint64_t hash, const char* text) {
    return hash_bytes(hash, text, strlen(text) + 1);
}

static uint64_t hash_float(uint64_t hash, float number) {
    uint32_t bits = 0;
    memcpy(&bits, &number, sizeof bits);
    return hash_u64(hash, bits);
}

static uint32_t hash_value(const weir_value_info* info) {
    const weir_view* layout = &info->layout;
    uint64_t hash = hash_u64(HASH_BEGIN, info->kind);
    hash = hash_u64(hash, info->is_output);
    hash = hash_u64(hash, info->root);
    hash = hash_u64(hash, info->rows);
    hash = hash_u64(hash, layout->byte_offset);
    hash = hash_text(hash, weir_dtype_describe(layout->dtype)->name);
    hash = hash_u64(hash, layout->shape.rank);
    for (uint32_t i = 0; i < layout->shape.rank; i++) {
        hash = hash_u64(hash, (uint64_t)layout->shape.dims[i]);
        hash = hash_u64(hash, (uint64_t)layout->strides[i]);
    }
    return fold(hash);
}

static uint64_t hash_rope(uint64_t hash, const weir_rope_desc* rope) {
    hash = hash_u64(hash, rope->head_dim);
    hash = hash_u64(hash, rope->rotated);
    hash = hash_u64(hash, rope->pairing);
    hash = hash_float(hash, rope->base);
    hash = hash_float(hash, rope->scale);
    return hash_u64(hash, rope->position);
}

static uint64_t hash_attention(uint64_t hash, const weir_attention_desc* attention) {
    hash = hash_u64(hash, attention->heads);
    hash = hash_u64(hash, attention->kv_heads);
    hash = hash_u64(hash, attention->head_dim);
    hash = hash_float(hash, attention->scale);
    return hash_u64(hash, attention->position);
}

static uint64_t hash_projection(uint64_t hash, const weir_projection_desc* projection) {
    hash = hash_u64(hash, projection->normalises);
    hash = hash_float(hash, projection->normalises ? projection->epsilon : 0.0f);
    hash = hash_u64(hash, projection->turns);
    hash = projection->turns ? hash_rope(hash, &projection->rope) : hash;
    return hash_u64(hash, projection->position);
}

static uint64_t hash_custom(uint64_t hash, const weir_custom_constants* custom) {
    hash = hash_text(hash, custom->name);
    hash = hash_u64(hash, custom->in_place);
    hash = hash_u64(hash, custom->byte_size);
    return hash_bytes(hash, custom->bytes, custom->byte_size);
}

// Field by field: a structure has padding. No default, so that a new operation is not forgotten.
static uint64_t hash_constants(uint64_t hash, weir_op_kind op, const weir_op_constants* constants) {
    switch (op) {
    case WEIR_OP_RMS_NORM:
    case WEIR_OP_RMS_NORM_MUL:
    case WEIR_OP_ADD_RMS_NORM_MUL:
    case WEIR_OP_RMS_NORM_MATMUL:
    case WEIR_OP_RMS_NORM_GATE_UP:
        return hash_float(hash, constants->epsilon);
    case WEIR_OP_ROPE:
        return hash_rope(hash, &constants->rope);
    case WEIR_OP_ATTENTION:
    case WEIR_OP_ATTENTION_SCORES:
    case WEIR_OP_ATTENTION_SOFTMAX:
    case WEIR_OP_ATTENTION_SUM:
        return hash_attention(hash, &constants->attention);
    case WEIR_OP_SET_ROWS:
        return hash_u64(hash, constants->position);
    case WEIR_OP_ROPE_SET_ROWS:
        return hash_u64(hash_rope(hash, &constants->rope_rows.rope), constants->rope_rows.position);
    case WEIR_OP_MATMUL_SET_ROWS:
    case WEIR_OP_MATMUL_ROPE:
        return hash_projection(hash, &constants->projection);
    case WEIR_OP_CUSTOM:
        return hash_custom(hash, &constants->custom);
    case WEIR_OP_GET_ROWS:
    case WEIR_OP_MUL:
    case WEIR_OP_ADD:
    case WEIR_OP_MATMUL:
    case WEIR_OP_SILU_GATE:
    case WEIR_OP_GATE_UP:
    case WEIR_OP_MATMUL_ADD:
    case WEIR_OP_COUNT:
        break;
    }
    return hash;
}

static uint32_t hash_dispatch(const weir_schedule* schedule, uint32_t index) {
    const schedule_dispatch* dispatch = &schedule->dispatches.items[index];
    uint64_t hash = hash_text(HASH_BEGIN, weir_op_name(dispatch->op));
    hash = hash_text(hash, dispatch->kernel->name);
    hash = hash_constants(hash, dispatch->op, &dispatch->constants);
    for (uint32_t i = 0; i < dispatch->operand_count; i++) {
        const schedule_operand* operand = &schedule->operands.items[dispatch->operand_begin + i];
        hash = hash_u64(hash, operand->value);
        hash = hash_u64(hash, operand->kind);
    }
    return fold(hash);
}

void weir_plan_write_target(plan_writer* writer, const weir_target* target) {
    plan_write_text(writer, target->name);
    plan_write_u32(writer, target->waits);
    plan_write_u64(writer, target->alignment);
    plan_write_u64(writer, target->binding_bytes_max);
    plan_write_u64(writer, target->storage_bytes_max);
}

void weir_plan_write_graph(plan_writer* writer, const weir_schedule* schedule,
                           const uint32_t* lowered) {
    plan_write_u32(writer, (uint32_t)schedule->params.count);
    for (size_t i = 0; i < schedule->params.count; i++) {
        plan_write_u64(writer, schedule->params.items[i].lower);
        plan_write_u64(writer, schedule->params.items[i].upper);
    }
    plan_write_u32(writer, schedule->graph_value_count);
    plan_write_u32(writer, (uint32_t)schedule->values.count);
    for (size_t i = 0; i < schedule->values.count; i++) {
        plan_write_u32(writer, hash_value(&schedule->values.items[i]));
    }
    plan_write_u32(writer, (uint32_t)schedule->dispatches.count);
    for (size_t i = 0; i < schedule->dispatches.count; i++) {
        plan_write_u32(writer, hash_dispatch(schedule, lowered[i]));
    }
}

static weir_status match(const char* label, const char* what, uint64_t there, uint64_t here) {
    return there == here
               ? WEIR_OK
               : WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: made for %s %llu, this is %llu", label, what,
                           (unsigned long long)there, (unsigned long long)here);
}

// What keeps to a limit keeps to a higher one; 0 is none. Kernels that would be others with it are
// found by the hashes of the dispatches, places that no storage holds by the verifier.
static weir_status match_limit(const char* label, const char* what, uint64_t there, uint64_t here) {
    return there > 0 && there <= here ? WEIR_OK : match(label, what, there, here);
}

weir_status weir_plan_match_target(plan_reader* reader, const char* label,
                                   const weir_target* target) {
    const char* name = plan_read_text(reader);
    if (!reader->failed && strcmp(name, target->name) != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: made for target %s, this is %s", label, name,
                         target->name);
    }
    const uint32_t waits = plan_read_u32(reader);
    const uint64_t alignment = plan_read_u64(reader);
    const uint64_t binding_bytes_max = plan_read_u64(reader);
    const uint64_t storage_bytes_max = plan_read_u64(reader);
    if (reader->failed) {
        return weir_plan_file_damaged(label, "the target is cut");
    }
    WEIR_TRY(match(label, "a target that waits by kind", waits, target->waits));
    WEIR_TRY(match(label, "an alignment of", alignment, target->alignment));
    WEIR_TRY(match_limit(label, "binding_bytes_max", binding_bytes_max, target->binding_bytes_max));
    return match_limit(label, "storage_bytes_max", storage_bytes_max, target->storage_bytes_max);
}

static weir_status match_params(plan_reader* reader, const char* label,
                                const weir_schedule* schedule) {
    WEIR_TRY(match(label, "a graph whose number of parameters is", plan_read_u32(reader),
                   schedule->params.count));
    for (size_t i = 0; i < schedule->params.count; i++) {
        const weir_param_info* info = &schedule->params.items[i];
        const uint64_t lower = plan_read_u64(reader);
        const uint64_t upper = plan_read_u64(reader);
        if (!reader->failed && (lower != info->lower || upper != info->upper)) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "%s: made for parameter %s in [%llu, %llu], here it is in [%llu, "
                             "%llu]",
                             label, info->name, (unsigned long long)lower,
                             (unsigned long long)upper, (unsigned long long)info->lower,
                             (unsigned long long)info->upper);
        }
    }
    return WEIR_OK;
}

static weir_status match_values(plan_reader* reader, const char* label,
                                const weir_schedule* schedule) {
    WEIR_TRY(match(label, "a graph whose number of values is", plan_read_u32(reader),
                   schedule->graph_value_count));
    const uint32_t count = plan_read_u32(reader);
    // Values come before scratch: what differs first is most likely what differs.
    for (uint32_t i = 0; i < count && i < schedule->values.count; i++) {
        const weir_value_info* info = &schedule->values.items[i];
        if (plan_read_u32(reader) != hash_value(info) && !reader->failed) {
            char text[128];
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s: made for another value %u than %s: %s",
                             label, i, info->name[0] != '\0' ? info->name : "here",
                             weir_view_format(&info->layout, text, sizeof text));
        }
    }
    return match(label, "a graph whose number of values with scratch is", count,
                 schedule->values.count);
}

static weir_status match_dispatches(plan_reader* reader, const char* label,
                                    const weir_schedule* schedule) {
    const uint32_t count = plan_read_u32(reader);
    for (uint32_t i = 0; i < count && i < schedule->dispatches.count; i++) {
        if (plan_read_u32(reader) != hash_dispatch(schedule, i) && !reader->failed) {
            const schedule_dispatch* dispatch = &schedule->dispatches.items[i];
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "%s: made for another dispatch %u than here: %s by kernel %s", label,
                             i, dispatch->name, dispatch->kernel->name);
        }
    }
    return match(label, "a graph whose number of dispatches is", count, schedule->dispatches.count);
}

weir_status weir_plan_match_graph(plan_reader* reader, const char* label,
                                  const weir_schedule* schedule) {
    WEIR_TRY(match_params(reader, label, schedule));
    WEIR_TRY(match_values(reader, label, schedule));
    WEIR_TRY(match_dispatches(reader, label, schedule));
    return reader->failed ? weir_plan_file_damaged(label, "the graph is cut") : WEIR_OK;
}
