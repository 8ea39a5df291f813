// weir plan MODEL --why A B and --schedule-json FILE: what waits for what, and through which bytes.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <weir/explain.h>

#include "json.h"
#include "output.h"
#include "plan.h"

// What an argument names.
typedef struct subject {
    bool is_value;
    uint32_t number; // of the dispatch or the value
} subject;

static uint32_t dispatch_count(const weir_schedule* schedule) {
    return weir_schedule_report_of(schedule)->dispatches;
}

const char* plan_dispatch_name(const weir_schedule* schedule, uint32_t dispatch) {
    weir_dispatch_info info = {.name = ""};
    const weir_status status = weir_schedule_dispatch(schedule, dispatch, &info);
    return status == WEIR_OK ? info.name : "?";
}

const char* plan_value_name(const weir_schedule* schedule, weir_value value, char text[32]) {
    const weir_value_info* info = weir_schedule_value(schedule, value);
    snprintf(text, 32, "value %u", value);
    return info && info->name[0] != '\0' ? info->name : text;
}

static bool parse_number(const char* text, uint32_t* number) {
    char* end = NULL;
    const unsigned long long read = strtoull(text, &end, 10);
    *number = (uint32_t)read;
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && read < UINT32_MAX;
}

static weir_status find_value(const weir_schedule* schedule, const char* text, subject* found) {
    const char prefix[] = "value ";
    found->is_value = true;
    if (strncmp(text, prefix, sizeof prefix - 1) == 0 &&
        parse_number(text + sizeof prefix - 1, &found->number) &&
        weir_schedule_value(schedule, found->number)) {
        return WEIR_OK;
    }
    for (weir_value value = 0; weir_schedule_value(schedule, value); value++) {
        if (text[0] != '\0' && strcmp(weir_schedule_value(schedule, value)->name, text) == 0) {
            found->number = value;
            return WEIR_OK;
        }
    }
    return WEIR_FAIL(WEIR_NOT_FOUND, "--why: no dispatch and no value is named \"%s\"", text);
}

// Whether a dispatch has this name, or computes an operation that has it.
static bool is_named(const weir_schedule* schedule, uint32_t dispatch, const char* text) {
    weir_dispatch_info info = {.name = ""};
    bool found = weir_schedule_dispatch(schedule, dispatch, &info) == WEIR_OK &&
                 strcmp(info.name, text) == 0;
    for (uint32_t i = 0; i < info.source_count && !found; i++) {
        found = strcmp(info.sources[i].name, text) == 0;
    }
    return found;
}

// A number is a dispatch; a name is that of one dispatch or of an operation in it, else of a value.
static weir_status find_subject(const weir_schedule* schedule, const char* text, subject* found) {
    uint32_t matches = 0;
    *found = (subject){0};
    if (parse_number(text, &found->number)) {
        weir_dispatch_info info;
        return weir_schedule_dispatch(schedule, found->number, &info);
    }
    for (uint32_t i = dispatch_count(schedule); i-- > 0;) {
        if (is_named(schedule, i, text)) {
            found->number = i;
            matches++;
        }
    }
    if (matches > 1) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "--why: %u dispatches are named \"%s\", the first is %u: give a number",
                         matches, text, found->number);
    }
    return matches == 1 ? WEIR_OK : find_value(schedule, text, found);
}

static const char* reuse_text(const weir_reason* reason) {
    return reason->in_place ? ", placed on it" : reason->reuse ? ", on the same bytes" : "";
}

static void print_reason(const weir_schedule* schedule, const weir_reason* reason) {
    char names[2][32];
    char ranges[2][128];
    char region[32];
    const char* earlier = plan_value_name(schedule, reason->earlier_value, names[0]);
    const char* later = plan_value_name(schedule, reason->later_value, names[1]);
    printf("  %s in %s: %s at %s", weir_hazard_name(reason->kind),
           plan_region_name(reason->region, reason->block, region), earlier,
           weir_range_format(&reason->earlier_range, ranges[0], sizeof ranges[0]));
    printf(", then %s at %s%s\n", later,
           weir_range_format(&reason->later_range, ranges[1], sizeof ranges[1]),
           reuse_text(reason));
}

// The group of a dispatch, where boundaries wait.
static uint32_t group_of(const weir_schedule* schedule, uint32_t dispatch) {
    weir_dispatch_info info = {.group = 0};
    const weir_status status = weir_schedule_dispatch(schedule, dispatch, &info);
    return status == WEIR_OK ? info.group : 0;
}

static void print_why(const weir_schedule* schedule, uint32_t earlier, uint32_t later,
                      const weir_why* why) {
    printf("dispatch %u (%s) %s dispatch %u (%s)\n", later, plan_dispatch_name(schedule, later),
           !why->ordered          ? "does not wait for"
           : why->edge            ? "waits for"
           : why->path_count == 0 ? "is in a later group than"
                                  : "waits, through others, for",
           earlier, plan_dispatch_name(schedule, earlier));
    if (weir_schedule_groups(schedule) > 0) {
        printf("  group %u, then group %u: %u boundaries between them\n",
               group_of(schedule, earlier), group_of(schedule, later),
               group_of(schedule, later) - group_of(schedule, earlier));
    }
    for (uint32_t i = 0; i < why->reason_count; i++) {
        print_reason(schedule, &why->reasons[i]);
    }
    if (why->fenced) {
        printf("  fence: the schedule waits between any two dispatches\n");
    }
    for (uint32_t i = 1; why->path_count > 2 && i + 1 < why->path_count; i++) {
        printf("  through %u (%s)\n", why->path[i], plan_dispatch_name(schedule, why->path[i]));
    }
}

static void write_range(json* writer, const char* key, const weir_range* range) {
    char text[128];
    json_begin(writer, key, '{');
    json_u64(writer, "offset", range->byte_offset);
    json_u64(writer, "end", weir_range_end(range));
    json_text(writer, "text", weir_range_format(range, text, sizeof text));
    json_end(writer, '}');
}

static void write_reason(json* writer, const weir_schedule* schedule, const weir_reason* reason) {
    char name[32];
    json_begin(writer, NULL, '{');
    json_text(writer, "kind", weir_hazard_name(reason->kind));
    json_text(writer, "region", weir_region_name(reason->region));
    json_u64(writer, "block", reason->block);
    json_text(writer, "earlier_value", plan_value_name(schedule, reason->earlier_value, name));
    write_range(writer, "earlier_range", &reason->earlier_range);
    json_text(writer, "later_value", plan_value_name(schedule, reason->later_value, name));
    write_range(writer, "later_range", &reason->later_range);
    json_bool(writer, "reuse", reason->reuse);
    json_bool(writer, "in_place", reason->in_place);
    json_end(writer, '}');
}

// The operations of the graph that a dispatch computes.
static void write_sources(json* writer, const char* key, const weir_schedule* schedule,
                          uint32_t dispatch) {
    weir_dispatch_info info = {.name = ""};
    json_begin(writer, key, '[');
    if (weir_schedule_dispatch(schedule, dispatch, &info) == WEIR_OK) {
        for (uint32_t i = 0; i < info.source_count; i++) {
            json_text(writer, NULL, info.sources[i].name);
        }
    }
    json_end(writer, ']');
}

static void write_why(json* writer, const char* key, const weir_schedule* schedule,
                      uint32_t earlier, uint32_t later, const weir_why* why) {
    json_begin(writer, key, '{');
    json_u64(writer, "earlier", earlier);
    json_text(writer, "earlier_name", plan_dispatch_name(schedule, earlier));
    write_sources(writer, "earlier_sources", schedule, earlier);
    json_u64(writer, "later", later);
    json_text(writer, "later_name", plan_dispatch_name(schedule, later));
    write_sources(writer, "later_sources", schedule, later);
    json_bool(writer, "ordered", why->ordered);
    json_bool(writer, "edge", why->edge);
    json_bool(writer, "fenced", why->fenced);
    if (weir_schedule_groups(schedule) > 0) {
        json_u64(writer, "earlier_group", group_of(schedule, earlier));
        json_u64(writer, "later_group", group_of(schedule, later));
    }
    json_begin(writer, "reasons", '[');
    for (uint32_t i = 0; i < why->reason_count; i++) {
        write_reason(writer, schedule, &why->reasons[i]);
    }
    json_end(writer, ']');
    json_begin(writer, "path", '[');
    for (uint32_t i = 0; i < why->path_count; i++) {
        json_u64(writer, NULL, why->path[i]);
    }
    json_end(writer, ']');
    json_end(writer, '}');
}

// Explains two dispatches in either order; `writer` is NULL for text.
static weir_status explain_dispatches(json* writer, const char* key, const weir_schedule* schedule,
                                      uint32_t a, uint32_t b) {
    const uint32_t earlier = a < b ? a : b;
    const uint32_t later = a < b ? b : a;
    weir_why why;
    WEIR_TRY(weir_why_find(NULL, schedule, earlier, later, &why));
    if (writer) {
        write_why(writer, key, schedule, earlier, later, &why);
    } else {
        print_why(schedule, earlier, later, &why);
    }
    weir_why_free(&why);
    return WEIR_OK;
}

static void print_if_left_out(const weir_schedule* schedule, weir_value value, const char* name) {
    weir_placement placement;
    if (weir_schedule_place(schedule, value, &placement) == WEIR_OK && placement.byte_size == 0) {
        printf("  %s has none: the kernel that makes it reads it too\n", name);
    }
}

static void print_sharing(const weir_schedule* schedule, const weir_sharing* sharing) {
    char names[2][32];
    char region[32];
    const char* earlier = plan_value_name(schedule, sharing->earlier, names[0]);
    const char* later = plan_value_name(schedule, sharing->later, names[1]);
    if (!sharing->shares) {
        printf("%s and %s share no byte\n", earlier, later);
        print_if_left_out(schedule, sharing->earlier, earlier);
        print_if_left_out(schedule, sharing->later, later);
        return;
    }
    printf("%s and %s share [%" PRIu64 ", %" PRIu64 ") of the %s: %s\n", earlier, later,
           sharing->byte_offset, sharing->byte_offset + sharing->byte_length,
           plan_region_name(sharing->region, sharing->block, region),
           sharing->same       ? "one value"
           : sharing->in_place ? "placed on it in place"
           : sharing->ordered  ? "where the two meet, the one is used up before the other"
                               : "NOT ordered");
}

static void write_sharing(json* writer, const weir_schedule* schedule,
                          const weir_sharing* sharing) {
    char name[32];
    json_text(writer, "earlier_value", plan_value_name(schedule, sharing->earlier, name));
    json_text(writer, "later_value", plan_value_name(schedule, sharing->later, name));
    json_bool(writer, "shares", sharing->shares);
    json_text(writer, "region", weir_region_name(sharing->region));
    json_u64(writer, "block", sharing->block);
    json_u64(writer, "offset", sharing->byte_offset);
    json_u64(writer, "bytes", sharing->byte_length);
    json_bool(writer, "same", sharing->same);
    json_bool(writer, "in_place", sharing->in_place);
    json_bool(writer, "ordered", sharing->ordered);
}

static weir_status explain_values(json* writer, const weir_schedule* schedule, weir_value a,
                                  weir_value b) {
    weir_sharing sharing;
    WEIR_TRY(weir_schedule_sharing(schedule, a, b, &sharing));
    if (writer) {
        json_begin(writer, NULL, '{');
        write_sharing(writer, schedule, &sharing);
    } else {
        print_sharing(schedule, &sharing);
    }
    weir_status status = WEIR_OK;
    // In place one dispatch touches both: there is nothing to wait for.
    if (sharing.shares && !sharing.same && sharing.last_use < sharing.first_use) {
        status = explain_dispatches(writer, "why", schedule, sharing.last_use, sharing.first_use);
    }
    if (writer) {
        json_end(writer, '}');
    }
    return status;
}

weir_status plan_explain(const plan_options* options, const weir_schedule* schedule) {
    subject subjects[2];
    json writer = {.file = stdout};
    json* out = options->json ? &writer : NULL;
    for (int i = 0; i < 2; i++) {
        WEIR_TRY(find_subject(schedule, options->why[i], &subjects[i]));
    }
    if (subjects[0].is_value != subjects[1].is_value) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "--why takes two dispatches or two values: \"%s\" is a %s",
                         options->why[0], subjects[0].is_value ? "value" : "dispatch");
    }
    if (subjects[0].number == subjects[1].number) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "--why: both are \"%s\"", options->why[0]);
    }
    WEIR_TRY(subjects[0].is_value
                 ? explain_values(out, schedule, subjects[0].number, subjects[1].number)
                 : explain_dispatches(out, NULL, schedule, subjects[0].number, subjects[1].number));
    if (out) {
        putchar('\n');
    }
    return WEIR_OK;
}

weir_status plan_write_schedule(const plan_options* options, const weir_schedule* schedule) {
    cli_output output;
    WEIR_TRY(cli_output_open(options->schedule_json, &output));
    return cli_output_close(&output, weir_schedule_json(schedule, cli_output_write, &output));
}
