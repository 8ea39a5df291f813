// The schedule as JSON (RFC 8259), written as it is walked.
#include <weir/explain.h>

#include <string.h>

#include "plan/plan_text.h"
#include "schedule/schedule.h"

static void write_number(plan_text* text, const char* key, uint64_t number) {
    plan_text_key(text, key);
    plan_text_u64(text, number);
    plan_text_string(text, ", ");
}

static void write_name(plan_text* text, const char* key, const char* name) {
    plan_text_key(text, key);
    plan_text_quoted(text, name, strlen(name));
    plan_text_string(text, ", ");
}

static void write_report(plan_text* text, const weir_schedule_report* report) {
    const struct {
        const char* key;
        uint64_t number;
    } figures[] = {
        {"ops", report->ops},
        {"dispatches", report->dispatches},
        {"edges", report->edges},
        {"residual_edges", report->residual_edges},
        {"waits_naive", report->waits_naive},
        {"depth", report->depth},
        {"waits", report->waits},
        {"waits_elided", report->waits_elided},
        {"values", report->values},
        {"in_place", report->in_place},
        {"arena_bytes", report->arena_bytes},
        {"arena_blocks", report->arena_blocks},
        {"bound_bytes", report->bound_bytes},
        {"total_bytes", report->total_bytes},
        {"serial_bytes", report->serial_bytes},
        {"scratch_bytes", report->scratch_bytes},
        {"weight_bytes", report->weight_bytes},
        {"state_bytes", report->state_bytes},
        {"input_bytes", report->input_bytes},
        {"output_bytes", report->output_bytes},
    };
    plan_text_key(text, "report");
    plan_text_string(text, "{");
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        write_number(text, figures[i].key, figures[i].number);
    }
    plan_text_key(text, "fusions");
    plan_text_string(text, "{");
    for (uint32_t i = 0; i < WEIR_FUSION_COUNT; i++) {
        plan_text_string(text, i > 0 ? ", " : "");
        plan_text_key(text, weir_op_name(weir_fusion_op((weir_fusion)i)));
        plan_text_u64(text, report->fusions[i]);
    }
    plan_text_string(text, "}, ");
    plan_text_key(text, "widened_ranges");
    plan_text_u64(text, report->widened_ranges);
    plan_text_string(text, "}, ");
}

static void write_value(plan_text* text, const weir_schedule* schedule, weir_value value) {
    static const char* const kinds[] = {"input", "weight", "state", "result", "view"};
    const weir_value_info* info = &schedule->values.items[value];
    const weir_placement* place = &schedule->placements[value];
    plan_text_string(text, value > 0 ? ", {" : "{");
    write_number(text, "value", value);
    write_name(text, "name", info->name);
    write_name(text, "kind", kinds[info->kind]);
    write_number(text, "root", info->root);
    write_name(text, "region", weir_region_name(place->region));
    write_number(text, "block", place->block);
    write_number(text, "offset", place->byte_offset);
    write_number(text, "bytes", place->byte_size);
    plan_text_key(text, "output");
    plan_text_string(text, info->is_output ? "true}" : "false}");
}

// Inputs and weights have ranges too: those that the check leaves out because nothing writes them.
static void write_range(plan_text* text, const weir_schedule* schedule,
                        const schedule_operand* operand) {
    const weir_placement* root = &schedule->placements[operand->root];
    const weir_range* extent = &operand->extent;
    plan_text_key(text, "range");
    plan_text_string(text, "{");
    write_name(text, "region", weir_region_name(root->region));
    write_number(text, "block", root->block);
    write_number(text, "offset", extent->byte_offset + root->byte_offset);
    write_number(text, "length", extent->byte_length);
    plan_text_key(text, "levels");
    plan_text_string(text, "[");
    for (uint32_t i = 0; i < extent->level_count; i++) {
        plan_text_string(text, i > 0 ? ", [" : "[");
        plan_text_u64(text, extent->levels[i].count);
        plan_text_string(text, ", ");
        plan_text_u64(text, extent->levels[i].stride);
        plan_text_string(text, "]");
    }
    plan_text_string(text, "]}");
}

static void write_operand(plan_text* text, const weir_schedule* schedule,
                          const schedule_operand* operand) {
    static const char* const kinds[] = {"none", "read", "write", "read and write"};
    write_number(text, "value", operand->value);
    write_name(text, "name", schedule->values.items[operand->value].name);
    write_name(text, "access", kinds[operand->kind]);
    write_range(text, schedule, operand);
}

static void write_dispatch(plan_text* text, const weir_schedule* schedule, uint32_t index) {
    const schedule_dispatch* dispatch = &schedule->dispatches.items[index];
    plan_text_string(text, index > 0 ? ", {" : "{");
    write_number(text, "dispatch", index);
    write_name(text, "name", dispatch->name);
    write_name(text, "op", weir_op_name(dispatch->op));
    plan_text_key(text, "sources");
    plan_text_string(text, "[");
    for (uint32_t i = 0; i < dispatch->source_count; i++) {
        const char* name = schedule->sources.items[dispatch->source_begin + i].name;
        plan_text_string(text, i > 0 ? ", " : "");
        plan_text_quoted(text, name, strlen(name));
    }
    plan_text_string(text, "], ");
    write_name(text, "kernel", dispatch->kernel->name);
    write_number(text, "level", dispatch->level);
    write_number(text, "group", dispatch->group);
    plan_text_key(text, "predecessors");
    plan_text_string(text, "[");
    const uint32_t begin = schedule->edges.begins[index];
    for (uint32_t e = begin; e < schedule->edges.begins[index + 1]; e++) {
        plan_text_string(text, e > begin ? ", " : "");
        plan_text_u64(text, schedule->edges.items[e]);
    }
    plan_text_string(text, "], ");
    plan_text_key(text, "operands");
    plan_text_string(text, "[");
    for (uint32_t i = 0; i < dispatch->operand_count; i++) {
        plan_text_string(text, i > 0 ? ", {" : "{");
        write_operand(text, schedule, &schedule->operands.items[dispatch->operand_begin + i]);
        plan_text_string(text, "}");
    }
    plan_text_string(text, "]}");
}

static void write_residual(plan_text* text, const weir_schedule* schedule) {
    plan_text_key(text, "residual");
    plan_text_string(text, "[");
    for (size_t i = 0; i < schedule->residual.count; i++) {
        plan_text_string(text, i > 0 ? ", [" : "[");
        plan_text_u64(text, schedule->residual.items[i].from);
        plan_text_string(text, ", ");
        plan_text_u64(text, schedule->residual.items[i].to);
        plan_text_string(text, "]");
    }
    plan_text_string(text, "]");
}

typedef struct need_writer {
    plan_text* text;
    bool follows; // one stands before the next
} need_writer;

static weir_status write_need(void* context, const weir_wait_need* need) {
    need_writer* writer = context;
    plan_text_string(writer->text, writer->follows ? ", {" : "{");
    writer->follows = true;
    write_number(writer->text, "boundary", need->boundary);
    write_number(writer->text, "earlier", need->earlier);
    write_number(writer->text, "later", need->later);
    write_name(writer->text, "hazard", weir_hazard_name(need->reason.kind));
    write_number(writer->text, "earlier_value", need->reason.earlier_value);
    write_number(writer->text, "later_value", need->reason.later_value);
    plan_text_key(writer->text, "reuse");
    plan_text_string(writer->text, need->reason.reuse ? "true, " : "false, ");
    plan_text_key(writer->text, "only");
    plan_text_string(writer->text, need->only ? "true}" : "false}");
    return WEIR_OK;
}

static weir_status write_boundaries(plan_text* text, const weir_schedule* schedule) {
    need_writer writer = {.text = text};
    plan_text_string(text, ", ");
    plan_text_key(text, "boundaries");
    plan_text_string(text, "[");
    WEIR_TRY(weir_boundary_visit(schedule, write_need, &writer));
    plan_text_string(text, "]");
    return WEIR_OK;
}

weir_status weir_schedule_json(const weir_schedule* schedule, weir_plan_write_fn write,
                               void* context) {
    plan_text text = {.write = write, .context = context};
    plan_text_string(&text, "{");
    write_name(&text, "target", schedule->target.name);
    write_name(&text, "waits", schedule->target.waits == WEIR_WAIT_GROUPS ? "groups" : "edges");
    write_report(&text, &schedule->report);
    plan_text_key(&text, "values");
    plan_text_string(&text, "[");
    for (weir_value value = 0; value < schedule->values.count; value++) {
        write_value(&text, schedule, value);
    }
    plan_text_string(&text, "], ");
    plan_text_key(&text, "dispatches");
    plan_text_string(&text, "[");
    for (uint32_t i = 0; i < schedule->dispatches.count; i++) {
        write_dispatch(&text, schedule, i);
    }
    plan_text_string(&text, "], ");
    write_residual(&text, schedule);
    WEIR_TRY(write_boundaries(&text, schedule));
    plan_text_string(&text, "}\n");
    return plan_text_finish(&text);
}
