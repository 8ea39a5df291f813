// weir plan MODEL --tradeoff, and what an order by bytes or a budget costs: bytes against waits.
#include <stdlib.h>
#include <string.h>
#include <weir/explain.h>

#include "json.h"
#include "plan.h"

#define POINTS_MAX 64
#define LISTED 8 // edges that the text lists

static const char* const order_names[] = {"waits", "bytes", "given"};

bool cli_find_order(const char* name, weir_order* order) {
    for (int i = 0; name && i <= WEIR_ORDER_GIVEN; i++) {
        if (strcmp(order_names[i], name) == 0) {
            *order = (weir_order)i;
            return true;
        }
    }
    return !name;
}

static void print_point(const weir_tradeoff_point* point) {
    char how[64] = "";
    if (point->byte_budget > 0) {
        snprintf(how, sizeof how, "--arena %llu", (unsigned long long)point->byte_budget);
    } else {
        snprintf(how, sizeof how, "--order %s", order_names[point->order]);
    }
    printf("  %14llu %14llu %8u %8u   %s\n", (unsigned long long)point->arena_bytes,
           (unsigned long long)point->bound_bytes, point->waits, point->residual_edges, how);
}

static void write_point(json* writer, const weir_tradeoff_point* point) {
    json_begin(writer, NULL, '{');
    json_text(writer, "order", order_names[point->order]);
    json_u64(writer, "byte_budget", point->byte_budget);
    json_u64(writer, "arena_bytes", point->arena_bytes);
    json_u64(writer, "bound_bytes", point->bound_bytes);
    json_u64(writer, "waits", point->waits);
    json_u64(writer, "residual_edges", point->residual_edges);
    json_end(writer, '}');
}

static weir_status show_curve(json* writer, const planned* plan, const weir_target* target,
                              const weir_schedule_options* how) {
    weir_tradeoff_point points[POINTS_MAX];
    uint32_t count = 0;
    WEIR_TRY(
        weir_schedule_tradeoff(NULL, plan->pass.graph, target, how, points, POINTS_MAX, &count));
    if (writer) {
        json_begin(writer, plan->name, '[');
    } else {
        printf("%s, %u row%s\n  %14s %14s %8s %8s   made by\n", plan->name, plan->rows,
               plan->rows > 1 ? "s" : "", "arena bytes", "lower bound", "waits", "residual");
    }
    for (uint32_t i = 0; i < count; i++) {
        if (writer) {
            write_point(writer, &points[i]);
        } else {
            print_point(&points[i]);
        }
    }
    if (writer) {
        json_end(writer, ']');
    }
    return WEIR_OK;
}

weir_status plan_show_tradeoff(const plan_options* options, const weir_target* target,
                               const planned plans[2]) {
    json out;
    json* writer = plan_report_begin(options, &out);
    const weir_schedule_options how = plan_schedule_options(options);
    for (int i = 0; i < 2; i++) {
        WEIR_TRY(show_curve(writer, &plans[i], target, &how));
    }
    plan_report_end(writer);
    return WEIR_OK;
}

typedef struct residual_list {
    json* writer; // NULL: text
    const weir_schedule* schedule;
    uint32_t edges;
    uint32_t earlier, later; // of the last edge
} residual_list;

// One line, or one object, for each edge: the first of its reasons.
static weir_status list_need(void* context, const weir_wait_need* need) {
    residual_list* list = context;
    char names[2][32];
    if (list->edges > 0 && need->earlier == list->earlier && need->later == list->later) {
        return WEIR_OK;
    }
    list->edges++;
    list->earlier = need->earlier;
    list->later = need->later;
    const char* earlier = plan_value_name(list->schedule, need->reason.earlier_value, names[0]);
    const char* later = plan_value_name(list->schedule, need->reason.later_value, names[1]);
    if (list->writer) {
        json_begin(list->writer, NULL, '{');
        json_u64(list->writer, "earlier", need->earlier);
        json_u64(list->writer, "later", need->later);
        json_text(list->writer, "hazard", weir_hazard_name(need->reason.kind));
        json_text(list->writer, "earlier_value", earlier);
        json_text(list->writer, "later_value", later);
        json_end(list->writer, '}');
    } else if (list->edges <= LISTED) {
        printf("    %u (%s) waits for %u (%s): %s, %s on the bytes of %s\n", need->later,
               plan_dispatch_name(list->schedule, need->later), need->earlier,
               plan_dispatch_name(list->schedule, need->earlier),
               weir_hazard_name(need->reason.kind), later, earlier);
    }
    return WEIR_OK;
}

weir_status plan_list_residual(json* writer, const planned* plan) {
    const uint32_t count = weir_schedule_report_of(plan->schedule)->residual_edges;
    residual_list list = {.writer = writer, .schedule = plan->schedule};
    if (writer) {
        json_begin(writer, "residual", '[');
    } else if (count > 0) {
        printf("  edges for reuse\n");
    }
    WEIR_TRY(weir_residual_visit(plan->schedule, list_need, &list));
    if (writer) {
        json_end(writer, ']');
    } else if (list.edges > LISTED) {
        printf("    and %u more, all with --json\n", list.edges - LISTED);
    }
    return WEIR_OK;
}
