// Where the time of a pass goes on a device, and what single kernels cost there. Models and
// matrices have made-up weights in memory of the device: no file is needed. CSV on standard output;
// medians.
//
//     bench_vulkan_kernels [-p] [DEVICE [SHAPE [TYPE...]]]
//
// -p times passes and no single kernels. SHAPE is tiny, 1b or 7b (default), TYPE as in a file: F16,
// Q4_0 ... (default: these two).
//
//     pass     a pass of ROWS tokens at a position; the bytes are those of its weights
//     kernel   the dispatches of one kind in such a pass, by the clock of the device. Their times
//              contain what a time stamp adds: compare them, do not add them up
//     chain    dispatches of which each waits for the one before it
//     product  y = x * transpose(w), without a wait between them or each after the other, and with
//              other cuts into workgroups; 0: the default
//     tiles    a pass of many rows with tiles of so many columns, and with x as weir_vulkan_x says
//              (1 f32, 3 f16); 0: the default
#include <string.h>
#include <weir-llm/llama.h>
#include <weir/vulkan.h>
#include <weir/weir.h>

#include "bench_rows.h"

#define RUNS 15
#define WARM_NS 3e8
#define CONTEXT 1024
#define PREFILL_ROWS 512
#define CHAIN 64           // dispatches of a chain
#define PATTERN (1u << 20) // bytes that weights repeat
#define KINDS_MAX 64
#define STORAGES_MAX 1024
#define TYPES_MAX 16

// A program with memory for all that it binds.
typedef struct rig {
    weir_device* device;
    weir_graph* graph;
    weir_schedule* schedule;
    weir_program* program;
    weir_storage* storages[STORAGES_MAX];
    uint32_t storage_count;
    weir_binding bindings[STORAGES_MAX];
    uint32_t binding_count;
    weir_value inputs[2];
    uint32_t input_count;
    uint64_t weight_bytes;
} rig;

typedef struct kind {
    char name[80];
    uint32_t count;
    double nanoseconds;
} kind;

static uint8_t* pattern;

// Exponents stay small in every type: no infinity, no NaN, no denormal.
static void make_pattern(void) {
    uint64_t state = 88172645463325252u;
    pattern = malloc(PATTERN);
    bench_check(pattern ? WEIR_OK : WEIR_OUT_OF_MEMORY);
    for (size_t i = 0; i < PATTERN; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        pattern[i] = i % 2 == 1 ? (uint8_t)(state & 0x3F) : (uint8_t)state;
    }
}

static weir_view allocate(rig* r, const weir_value_info* info) {
    weir_view view = info->layout;
    const weir_storage_desc desc = {
        .byte_size = weir_view_byte_length(&view), .name = "bench", .fill = WEIR_FILL_NONE};
    if (r->storage_count == STORAGES_MAX) {
        fprintf(stderr, "bench: more than %d storages\n", STORAGES_MAX);
        exit(1);
    }
    weir_storage** storage = &r->storages[r->storage_count++];
    bench_check(weir_storage_allocate(r->device, &desc, storage));
    view.storage = *storage;
    uint8_t* bytes = weir_storage_host_pointer(*storage);
    for (uint64_t done = 0; done < desc.byte_size; done += PATTERN) {
        const uint64_t left = desc.byte_size - done;
        memcpy(bytes + done, pattern, (size_t)(left < PATTERN ? left : PATTERN));
    }
    return view;
}

static void make_program(rig* r) {
    const weir_program_desc desc = {
        .schedule = r->schedule, .bindings = r->bindings, .binding_count = r->binding_count};
    bench_check(weir_program_create(r->device, &desc, &r->program));
}

static void open_rig(rig* r, weir_device* device, weir_graph* graph) {
    *r = (rig){.device = device, .graph = graph};
    for (weir_value value = 0; value < weir_graph_value_count(graph); value++) {
        const weir_value_info* info = weir_graph_value_info(graph, value);
        if (info->kind == WEIR_VALUE_WEIGHT || info->kind == WEIR_VALUE_STATE) {
            r->bindings[r->binding_count++] = (weir_binding){value, allocate(r, info)};
        } else if (info->kind == WEIR_VALUE_INPUT) {
            r->inputs[r->input_count++] = value;
        }
    }
    bench_check(weir_schedule_create(NULL, graph, weir_device_target(device), NULL, &r->schedule));
    r->weight_bytes = weir_schedule_report_of(r->schedule)->weight_bytes;
    make_program(r);
}

static void close_rig(rig* r) {
    weir_program_destroy(r->program);
    weir_schedule_destroy(r->schedule);
    weir_graph_destroy(r->graph);
    for (uint32_t i = 0; i < r->storage_count; i++) {
        weir_storage_release(r->storages[i]);
    }
}

// Zeros, for all inputs at their upper bounds.
static void write_inputs(const rig* r) {
    static const uint8_t zeros[1u << 16];
    for (uint32_t i = 0; i < r->input_count; i++) {
        const weir_value_info* info = weir_schedule_value(r->schedule, r->inputs[i]);
        const uint64_t byte_size = weir_view_byte_length(&info->layout);
        bench_check(byte_size <= sizeof zeros ? WEIR_OK : WEIR_INVALID_ARGUMENT);
        bench_check(weir_program_write(r->program, r->inputs[i], zeros, byte_size));
    }
}

static double run_once(const rig* r, const uint64_t* params, uint32_t param_count) {
    write_inputs(r);
    const double begin = bench_now();
    bench_check(weir_program_run(r->program, params, param_count));
    return (bench_now() - begin) / 1e3;
}

// The median of the time of a pass, in microseconds. Clocks of an idle device are low: it is kept
// busy for a while first.
static double time_pass(const rig* r, const uint64_t* params, uint32_t param_count) {
    double times[RUNS];
    const double begin = bench_now();
    do {
        run_once(r, params, param_count);
    } while (bench_now() - begin < WARM_NS);
    for (int run = 0; run < RUNS; run++) {
        times[run] = run_once(r, params, param_count);
    }
    qsort(times, RUNS, sizeof times[0], bench_compare);
    return times[RUNS / 2];
}

// "matmul blk.3.q" and "matmul blk.4.q" are one kind.
static void name_kind(const char* name, char* text, size_t capacity) {
    const char* block = strstr(name, "blk.");
    if (!block) {
        snprintf(text, capacity, "%s", name);
        return;
    }
    const char* rest = block + 4 + strspn(block + 4, "0123456789") + 1;
    snprintf(text, capacity, "%.*s%s", (int)(block - name), name, rest);
}

static void print_kinds(const rig* r, const char* type, const uint64_t* params,
                        uint32_t param_count) {
    static weir_timing timings[4096];
    kind kinds[KINDS_MAX];
    uint32_t kind_count = 0;
    uint32_t count = 0;
    weir_ticket ticket;
    weir_program_set_timing(r->program, true);
    for (int run = 0; run < 2; run++) { // the commands are recorded by the first
        write_inputs(r);
        bench_check(weir_program_commit(r->program, params, param_count, &ticket));
        bench_check(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    }
    bench_check(weir_ticket_timings(ticket, timings, 4096, &count));
    weir_program_set_timing(r->program, false);
    for (uint32_t i = 0; i < count && i < 4096; i++) {
        weir_dispatch_info info;
        char name[sizeof kinds[0].name];
        uint32_t at = 0;
        bench_check(weir_schedule_dispatch(r->schedule, i, &info));
        name_kind(info.name, name, sizeof name);
        while (at < kind_count && strcmp(kinds[at].name, name) != 0) {
            at++;
        }
        if (at == kind_count && kind_count < KINDS_MAX) {
            kinds[kind_count++] = (kind){.count = 0};
            snprintf(kinds[at].name, sizeof kinds[at].name, "%s", name);
        }
        if (at < kind_count) {
            kinds[at].count++;
            kinds[at].nanoseconds += (double)(timings[i].end_ns - timings[i].begin_ns);
        }
    }
    for (uint32_t i = 0; i < kind_count; i++) {
        const kind* k = &kinds[i];
        printf("kernel,%s,%s,%llu,%u,%.2f,\n", type, k->name, (unsigned long long)params[1],
               k->count, k->nanoseconds / 1e3 / k->count);
    }
}

static const weir_llama_params* find_shape(const char* name) {
    static weir_llama_params params = {.context = CONTEXT,
                                       .vocabulary = 32000,
                                       .epsilon = 1e-5f,
                                       .rope_base = 10000.0f,
                                       .rope_scale = 1.0f};
    const bool tiny = strcmp(name, "tiny") == 0;
    const bool small = strcmp(name, "1b") == 0;
    params.blocks = tiny ? 2 : small ? 22 : 32;
    params.embedding = tiny ? 256 : small ? 2048 : 4096;
    params.feed_forward = tiny ? 512 : small ? 5632 : 11008;
    params.heads = tiny ? 8 : 32;
    params.kv_heads = tiny ? 4 : small ? 4 : 32;
    params.vocabulary = tiny ? 512 : 32000;
    params.head_dim = params.rotated = params.embedding / params.heads;
    return &params;
}

static void open_pass(rig* r, weir_device* device, const char* shape, weir_dtype dtype,
                      uint32_t rows, weir_llama_graph* pass) {
    const weir_llama_graph_desc desc = {.params = find_shape(shape),
                                        .context = CONTEXT,
                                        .rows = rows,
                                        .outputs = 1,
                                        .weight_dtype = dtype};
    bench_check(weir_llama_graph_build(NULL, &desc, pass));
    open_rig(r, device, pass->graph);
}

static void bench_model(weir_device* device, const char* shape, weir_dtype dtype, uint32_t rows) {
    static const uint64_t positions[] = {16, CONTEXT - 1};
    weir_llama_graph pass;
    static rig r;
    open_pass(&r, device, shape, dtype, rows, &pass);
    const weir_schedule_report* report = weir_schedule_report_of(r.schedule);
    const char* type = weir_dtype_describe(dtype)->name;
    for (int i = 0; i < 2; i++) {
        uint64_t params[3];
        params[pass.position] = rows > 1 ? 0 : positions[i];
        params[pass.rows] = rows;
        params[pass.outputs] = 1;
        const double time = time_pass(&r, params, 3);
        printf("pass,%s,%s position %llu: %u dispatches %u waits,%u,1,%.1f,%.1f\n", type, shape,
               (unsigned long long)params[pass.position], report->dispatches, report->waits, rows,
               time, (double)r.weight_bytes / time / 1e3);
        print_kinds(&r, type, params, 3);
        if (rows > 1) {
            break;
        }
    }
    close_rig(&r);
}

// Adds what a chain is made of.
typedef weir_value (*link_fn)(weir_graph* graph, weir_value x, int64_t width, weir_param position);

static weir_value weight(weir_graph* graph, const char* name, weir_dtype dtype, int64_t rows,
                         int64_t columns) {
    const weir_shape shape =
        rows > 0 ? weir_shape_make(2, (int64_t[]){rows, columns}) : weir_shape_make(1, &columns);
    weir_value value = WEIR_VALUE_NONE;
    bench_check(weir_graph_weight(graph, name, dtype, &shape, &value));
    return value;
}

static weir_value link_add(weir_graph* graph, weir_value x, int64_t width, weir_param position) {
    (void)width, (void)position;
    weir_value y = WEIR_VALUE_NONE;
    bench_check(weir_graph_add(graph, x, x, &y));
    return y;
}

static weir_value link_norm(weir_graph* graph, weir_value x, int64_t width, weir_param position) {
    (void)width, (void)position;
    weir_value y = WEIR_VALUE_NONE;
    bench_check(weir_graph_rms_norm(graph, x, 1e-5f, &y));
    return y;
}

static weir_value link_rope(weir_graph* graph, weir_value x, int64_t width, weir_param position) {
    (void)width;
    const weir_rope_desc desc = {.head_dim = 128, .base = 1e4f, .position = position};
    weir_value y = WEIR_VALUE_NONE;
    bench_check(weir_graph_rope(graph, x, WEIR_VALUE_NONE, &desc, &y));
    return y;
}

static weir_value link_attention(weir_graph* graph, weir_value x, int64_t width,
                                 weir_param position) {
    const weir_attention_desc desc = {.heads = (uint32_t)(width / 128),
                                      .kv_heads = (uint32_t)(width / 128),
                                      .head_dim = 128,
                                      .position = position};
    const weir_shape shape = weir_shape_make(2, (int64_t[]){CONTEXT, width});
    weir_value keys = WEIR_VALUE_NONE;
    weir_value values = WEIR_VALUE_NONE;
    weir_value y = WEIR_VALUE_NONE;
    bench_check(weir_graph_state(graph, "keys", WEIR_DTYPE_F32, &shape, &keys));
    bench_check(weir_graph_state(graph, "values", WEIR_DTYPE_F32, &shape, &values));
    bench_check(weir_graph_attention(graph, x, keys, values, &desc, &y));
    return y;
}

static weir_graph* new_graph(int64_t width, weir_value* x, weir_param* position) {
    const weir_shape shape = weir_shape_make(2, (int64_t[]){1, width});
    weir_graph* graph = NULL;
    weir_param rows;
    bench_check(weir_graph_create(NULL, &graph));
    bench_check(weir_graph_param(graph, "position", 0, CONTEXT - 1, position));
    bench_check(weir_graph_param(graph, "rows", 1, 1, &rows));
    bench_check(weir_graph_input(graph, "x", WEIR_DTYPE_F32, &shape, rows, x));
    return graph;
}

static void bench_chain(weir_device* device, int64_t width, const char* name, link_fn link,
                        uint64_t position) {
    weir_value x = WEIR_VALUE_NONE;
    weir_param param = WEIR_PARAM_NONE;
    weir_graph* graph = new_graph(width, &x, &param);
    for (int i = 0; i < CHAIN; i++) {
        x = link(graph, x, width, param);
    }
    bench_check(weir_graph_output(graph, x));
    static rig r;
    open_rig(&r, device, graph);
    const uint64_t params[] = {position, 1};
    const double time = time_pass(&r, params, 2);
    printf("chain,F32,%s position %llu,1,%d,%.2f,\n", name, (unsigned long long)position, CHAIN,
           time / CHAIN);
    close_rig(&r);
}

// Products of one x with matrices that do not fit a cache together, without waits or each after the
// other.
static weir_graph* product_graph(weir_dtype dtype, int64_t n, int64_t k, int count, bool chained) {
    weir_value x = WEIR_VALUE_NONE;
    weir_param param = WEIR_PARAM_NONE;
    weir_graph* graph = new_graph(k, &x, &param);
    for (int i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "w%d", i);
        weir_value y = WEIR_VALUE_NONE;
        bench_check(weir_graph_matmul(graph, x, weight(graph, name, dtype, n, k), &y));
        if (!chained || i + 1 == count) {
            bench_check(weir_graph_output(graph, y));
        }
        x = chained ? y : x;
    }
    return graph;
}

#define CUT(columns, threads, of_units, threads_of_units, groups)                                  \
    {                                                                                              \
        .few_columns = (columns), .few_threads = (threads), .unit_columns = (of_units),            \
        .unit_threads = (threads_of_units), .groups_wanted = (groups),                             \
        .held_groups = (groups) > 0 ? UINT32_MAX : 0 /* no workgroups that keep x */               \
    }

// With the default cut of few rows, and where `sweep` says so with others.
static void bench_product(weir_device* device, weir_dtype dtype, int64_t n, int64_t k, bool chained,
                          bool sweep) {
    static const weir_vulkan_tuning tunings[] = {
        CUT(0, 0, 0, 0, 0),     CUT(2, 64, 4, 64, 1),    CUT(2, 128, 8, 64, 1),
        CUT(4, 64, 16, 64, 1),  CUT(4, 128, 32, 64, 1),  CUT(8, 64, 8, 32, 1),
        CUT(8, 128, 16, 32, 1), CUT(16, 64, 32, 32, 1),  CUT(4, 32, 8, 128, 1),
        CUT(8, 32, 16, 128, 1), CUT(16, 128, 32, 128, 1)};
    static rig r;
    const uint64_t params[] = {0, 1};
    const int count = chained ? CHAIN / 2 : CHAIN / 4;
    open_rig(&r, device, product_graph(dtype, n, k, count, chained));
    for (size_t i = 0; i < (sweep ? sizeof tunings / sizeof tunings[0] : 1); i++) {
        weir_program_destroy(r.program);
        r.program = NULL;
        if (i > 0 && weir_vulkan_tune(device, &tunings[i]) != WEIR_OK) {
            continue; // more than the device has
        }
        make_program(&r);
        const double time = time_pass(&r, params, 2);
        printf("product,%s,%lld x %lld%s cut %u %u units %u %u,1,%d,%.2f,%.1f\n",
               weir_dtype_describe(dtype)->name, (long long)n, (long long)k,
               chained ? " chained" : "", tunings[i].few_columns, tunings[i].few_threads,
               tunings[i].unit_columns, tunings[i].unit_threads, count, time / count,
               (double)r.weight_bytes / time / 1e3);
    }
    const weir_status status = weir_vulkan_tune(device, &tunings[0]);
    (void)status; // a device that cannot be tuned was not
    close_rig(&r);
}

// Passes of many rows in tiles of both sizes and both kinds of arithmetic.
static void bench_tiles(weir_device* device, const char* shape, weir_dtype dtype, uint32_t rows) {
    static const weir_vulkan_tuning tunings[] = {
        {.tile_columns = 0},
        {.tile_columns = 64, .tiles_wanted = 1, .tile_x = WEIR_VULKAN_X_F32},
        {.tile_columns = 128, .tiles_wanted = 1, .tile_x = WEIR_VULKAN_X_F32},
        {.tile_columns = 64, .tiles_wanted = 1, .tile_x = WEIR_VULKAN_X_F16},
        {.tile_columns = 128, .tiles_wanted = 1, .tile_x = WEIR_VULKAN_X_F16},
        {.tile_x = WEIR_VULKAN_X_F16}};
    static rig r;
    weir_llama_graph pass;
    uint64_t params[3] = {0};
    open_pass(&r, device, shape, dtype, rows, &pass);
    params[pass.rows] = rows;
    params[pass.outputs] = 1;
    for (size_t i = 0; i < sizeof tunings / sizeof tunings[0]; i++) {
        weir_program_destroy(r.program);
        r.program = NULL;
        if (i > 0 && weir_vulkan_tune(device, &tunings[i]) != WEIR_OK) {
            continue; // no device of Vulkan, or no such arithmetic
        }
        make_program(&r);
        printf("tiles,%s,%s tile %u x %u,%u,1,%.1f,\n", weir_dtype_describe(dtype)->name, shape,
               tunings[i].tile_columns, (unsigned)tunings[i].tile_x, rows,
               time_pass(&r, params, 3));
    }
    const weir_status status = weir_vulkan_tune(device, &(weir_vulkan_tuning){0});
    (void)status; // a device that cannot be tuned was not
    close_rig(&r);
}

static weir_dtype find_type(const char* name) {
    for (uint32_t i = 1; i < WEIR_DTYPE_COUNT; i++) {
        if (strcmp(weir_dtype_describe((weir_dtype)i)->name, name) == 0) {
            return (weir_dtype)i;
        }
    }
    fprintf(stderr, "bench: no type %s\n", name);
    exit(64);
}

static void bench_kernels(weir_device* device, int64_t width, const weir_dtype* types,
                          int type_count) {
    const int64_t wide = width * 43 / 16 / 256 * 256; // 11008 for 4096
    bench_chain(device, width, "add", link_add, 0);
    bench_chain(device, width, "rms_norm", link_norm, 0);
    bench_chain(device, width, "rope", link_rope, 100);
    bench_chain(device, width, "attention", link_attention, 16);
    bench_chain(device, width, "attention", link_attention, CONTEXT - 1);
    for (int i = 0; i < type_count; i++) {
        bench_product(device, types[i], width, width, true, true);
        bench_product(device, types[i], width, width, false, false);
        bench_product(device, types[i], wide, width, false, true);
        bench_product(device, types[i], width, wide, false, true);
        bench_product(device, types[i], 8 * width, width, false, false);
    }
}

int main(int argc, char** argv) {
    const bool passes_only = argc > 1 && strcmp(argv[1], "-p") == 0;
    argc -= passes_only ? 1 : 0;
    argv += passes_only ? 1 : 0;
    const weir_device_desc desc = {.name = argc > 1 ? argv[1] : "vulkan"};
    const char* shape = argc > 2 ? argv[2] : "7b";
    weir_dtype types[TYPES_MAX] = {WEIR_DTYPE_F16, WEIR_DTYPE_Q4_0};
    int type_count = argc > 3 ? argc - 3 : 2;
    type_count = type_count < TYPES_MAX ? type_count : TYPES_MAX;
    for (int i = 0; i < type_count && argc > 3; i++) {
        types[i] = find_type(argv[3 + i]);
    }
    weir_device* device = NULL;
    make_pattern();
    setvbuf(stdout, NULL, _IOLBF, 0); // a run that is cut short has printed what it measured
    bench_check(weir_device_create(&desc, &device));
    printf("what,type,name,rows,count,microseconds,gigabytes_per_second\n");
    const uint32_t many = strcmp(shape, "tiny") == 0 ? 32 : PREFILL_ROWS;
    if (!passes_only) {
        bench_kernels(device, find_shape(shape)->embedding, types, type_count);
    }
    for (int i = 0; i < type_count; i++) {
        bench_model(device, shape, types[i], 1);
        bench_model(device, shape, types[i], many);
        bench_tiles(device, shape, types[i], many);
        bench_tiles(device, shape, types[i], many / 4);
    }
    weir_device_destroy(device);
    free(pattern);
    return 0;
}
