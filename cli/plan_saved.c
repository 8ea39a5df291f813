// weir plan MODEL: plans in files. Written for later runs, and compared.
#include <string.h>

#include "output.h"
#include "plan.h"

static weir_status write_out(const plan_options* options, const weir_plan_file* file) {
    if (!cli_is_output_stream(options->output)) {
        return weir_plan_file_save(file, options->output);
    }
    cli_output output;
    size_t byte_size = 0;
    const void* bytes = weir_plan_file_bytes(file, &byte_size);
    WEIR_TRY(cli_output_open(options->output, &output));
    return cli_output_close(&output, cli_output_put(&output, bytes, byte_size));
}

weir_status plan_save(const plan_options* options, const planned plans[2]) {
    weir_plan_file* file = NULL;
    WEIR_TRY(weir_plan_file_create(NULL, &file));
    weir_status status = weir_plan_file_add(file, plans[0].name, plans[0].schedule);
    if (status == WEIR_OK) {
        status = weir_plan_file_add(file, plans[1].name, plans[1].schedule);
    }
    if (status == WEIR_OK) {
        status = write_out(options, file);
    }
    weir_plan_file_destroy(file);
    return status;
}

static void print_place(const weir_placement* place) {
    char text[32];
    printf("%s + %llu", plan_region_name(place->region, place->block, text),
           (unsigned long long)place->byte_offset);
}

static uint32_t print_figure_changes(const weir_schedule* old, const weir_schedule* now) {
    plan_figure before[PLAN_FIGURES];
    plan_figure after[PLAN_FIGURES];
    uint32_t changes = 0;
    plan_figures(weir_schedule_report_of(old), before);
    plan_figures(weir_schedule_report_of(now), after);
    for (int i = 0; i < PLAN_FIGURES; i++) {
        if (before[i].number != after[i].number) {
            changes++;
            printf("  %-26s %14llu -> %llu\n", after[i].text, (unsigned long long)before[i].number,
                   (unsigned long long)after[i].number);
        }
    }
    return changes;
}

static weir_status print_place_changes(const weir_schedule* old, const weir_schedule* now,
                                       uint32_t* changes) {
    for (weir_value value = 0; weir_schedule_value(old, value); value++) {
        weir_placement from;
        weir_placement to;
        WEIR_TRY(weir_schedule_place(old, value, &from));
        WEIR_TRY(weir_schedule_place(now, value, &to));
        if (from.region != to.region || from.block != to.block ||
            from.byte_offset != to.byte_offset) {
            ++*changes;
            const char* name = weir_schedule_value(old, value)->name;
            printf("  value %u%s%s: ", value, name[0] ? " " : "", name);
            print_place(&from);
            printf(" -> ");
            print_place(&to);
            printf("\n");
        }
    }
    return WEIR_OK;
}

static weir_status print_order_changes(const weir_schedule* old, const weir_schedule* now,
                                       uint32_t* changes) {
    for (uint32_t i = 0; i < weir_schedule_report_of(old)->dispatches; i++) {
        weir_dispatch_info from;
        weir_dispatch_info to;
        WEIR_TRY(weir_schedule_dispatch(old, i, &from));
        WEIR_TRY(weir_schedule_dispatch(now, i, &to));
        if (strcmp(from.name, to.name) != 0) {
            ++*changes;
            printf("  position %u: %s -> %s\n", i, from.name, to.name);
        }
    }
    return WEIR_OK;
}

// Prints what differs, the old first; both are of one graph, so values and dispatches correspond.
static weir_status print_changes(const planned* plan, const weir_schedule* old) {
    printf("%s\n", plan->name);
    uint32_t changes = print_figure_changes(old, plan->schedule);
    WEIR_TRY(print_place_changes(old, plan->schedule, &changes));
    WEIR_TRY(print_order_changes(old, plan->schedule, &changes));
    if (changes == 0) {
        printf("  no difference\n");
    }
    return WEIR_OK;
}

weir_status plan_compare(const plan_options* options, const weir_target* target,
                         const planned plans[2]) {
    weir_plan_file* file = NULL;
    WEIR_TRY(weir_plan_file_open(NULL, options->diff, &file));
    weir_status status = WEIR_OK;
    for (int i = 0; status == WEIR_OK && i < 2; i++) {
        weir_schedule* old = NULL;
        status = weir_plan_file_load(file, plans[i].name, plans[i].pass.graph, target, &old);
        if (status == WEIR_OK) {
            status = print_changes(&plans[i], old);
        }
        weir_schedule_destroy(old);
    }
    weir_plan_file_destroy(file);
    return status;
}
