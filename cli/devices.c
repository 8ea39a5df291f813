// weir devices: what this machine can run on.
#include <stdlib.h>
#include <weir/device.h>

#include "cli.h"
#include "json.h"

static const char usage[] =
    "usage: weir devices [OPTION...]\n\n"
    "Lists the devices that --device of other commands takes, with their memory, the lanes of a\n"
    "subgroup and what they can do; a device that cannot be used says why.\n\n"
    "      --json  print one object\n";

static void print_line(const weir_device_info* info) {
    printf("%-15s %s\n", info->name, info->description);
    if (!info->available) {
        return;
    }
    printf("%-15s %.1f GiB%s", "", (double)info->memory_bytes / (1024.0 * 1024.0 * 1024.0),
           info->unified ? ", shared with the host" : "");
    if (info->budget_bytes > 0) {
        printf(", %.1f GiB for one process now",
               (double)info->budget_bytes / (1024.0 * 1024.0 * 1024.0));
    }
    if (info->subgroup_max > 0) {
        printf(info->subgroup_min == info->subgroup_max ? ", subgroups of %u"
                                                        : ", subgroups of %u to %u",
               info->subgroup_min, info->subgroup_max);
    }
    printf("%s%s\n", info->features[0] ? "; " : "", info->features);
}

static void print_json(const weir_device_info* infos, uint32_t count) {
    json writer = {.file = stdout};
    json_begin(&writer, NULL, '{');
    json_begin(&writer, "devices", '[');
    for (uint32_t i = 0; i < count; i++) {
        json_begin(&writer, NULL, '{');
        json_text(&writer, "name", infos[i].name);
        json_text(&writer, "description", infos[i].description);
        json_bool(&writer, "available", infos[i].available);
        json_bool(&writer, "unified", infos[i].unified);
        json_u64(&writer, "memory_bytes", infos[i].memory_bytes);
        json_u64(&writer, "budget_bytes", infos[i].budget_bytes);
        json_u64(&writer, "subgroup_min", infos[i].subgroup_min);
        json_u64(&writer, "subgroup_max", infos[i].subgroup_max);
        json_text(&writer, "features", infos[i].features);
        json_end(&writer, '}');
    }
    json_end(&writer, ']');
    json_end(&writer, '}');
    putchar('\n');
}

// Devices may come and go between the two calls; what is new then is left out.
static weir_status list_devices(weir_device_info** infos, uint32_t* count) {
    uint32_t capacity = 0;
    WEIR_TRY(weir_device_list(NULL, 0, &capacity));
    *infos = calloc(capacity, sizeof **infos);
    if (!*infos) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot allocate %u devices", capacity);
    }
    WEIR_TRY(weir_device_list(*infos, capacity, count));
    *count = *count < capacity ? *count : capacity;
    return WEIR_OK;
}

int devices_main(int argc, char** argv) {
    bool as_json = false;
    const cli_option options[] = {{"json", 0, CLI_FLAG, &as_json}};
    const cli_exit code = cli_parse(argc, argv, usage, options, 1, NULL);
    if (code != CLI_GO_ON) {
        return code;
    }
    weir_device_info* infos = NULL;
    uint32_t count = 0;
    const weir_status status = list_devices(&infos, &count);
    if (status != WEIR_OK) {
        free(infos);
        return cli_fail(status);
    }
    for (uint32_t i = 0; i < count && !as_json; i++) {
        print_line(&infos[i]);
    }
    if (as_json) {
        print_json(infos, count);
    }
    free(infos);
    return cli_finish(CLI_OK);
}
