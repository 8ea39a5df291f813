// Times what programs cost besides their kernels, and prints CSV (bench_rows.h).
//
//     plan     the schedule of a llama pass of 22 blocks, planned
//     load     the same, from a plan file in memory
//     pass     one pass of a small program: an input written, committed, waited for
//     bind     the same pass after one value was bound to other memory
//     flight   one of many passes in flight, with as many slots as the variant says
#include <weir-llm/llama.h>
#include <weir/weir.h>

#include "bench_rows.h"

#define PASSES 400
#define WIDTH 64
#define DEPTH 12
#define SLOTS_MAX 4

typedef struct planning {
    weir_llama_graph pass;
    weir_target target;
    weir_schedule_options options;
    weir_plan_file* file;
} planning;

static planning open_planning(const char* target, uint32_t rows, weir_order order) {
    static const weir_llama_params params = {.blocks = 22,
                                             .embedding = 2048,
                                             .feed_forward = 5632,
                                             .heads = 32,
                                             .kv_heads = 4,
                                             .head_dim = 64,
                                             .rotated = 64,
                                             .vocabulary = 32000,
                                             .context = 2048,
                                             .epsilon = 1e-5f,
                                             .rope_base = 10000.0f,
                                             .rope_scale = 1.0f};
    const weir_llama_graph_desc desc = {
        .params = &params, .context = 2048, .rows = rows, .outputs = 1};
    planning made = {.options = {.order = order}};
    weir_schedule* schedule = NULL;
    bench_check(weir_target_find(target, &made.target));
    bench_check(weir_llama_graph_build(NULL, &desc, &made.pass));
    bench_check(
        weir_schedule_create(NULL, made.pass.graph, &made.target, &made.options, &schedule));
    bench_check(weir_plan_file_create(NULL, &made.file));
    bench_check(weir_plan_file_add(made.file, "pass", schedule));
    weir_schedule_destroy(schedule);
    return made;
}

static double measure_plan(void* context) {
    const planning* p = context;
    weir_schedule* schedule = NULL;
    const double begin = bench_now();
    bench_check(weir_schedule_create(NULL, p->pass.graph, &p->target, &p->options, &schedule));
    const double end = bench_now();
    weir_schedule_destroy(schedule);
    return end - begin;
}

static double measure_load(void* context) {
    const planning* p = context;
    weir_schedule* schedule = NULL;
    const double begin = bench_now();
    bench_check(weir_plan_file_load(p->file, "pass", p->pass.graph, &p->target, &schedule));
    const double end = bench_now();
    weir_schedule_destroy(schedule);
    return end - begin;
}

// A chain of matrix products of one row with a residual stream.
typedef struct replay {
    weir_device* device;
    weir_graph* graph;
    weir_schedule* schedule;
    weir_program* program;
    weir_storage* weights[2]; // each of all products
    weir_value x, w, y;
    uint32_t slot_count;
} replay;

static weir_view view_of(weir_storage* storage) {
    const weir_shape shape = weir_shape_make(2, (int64_t[]){WIDTH, WIDTH});
    weir_view view;
    bench_check(weir_view_make(storage, 0, WEIR_DTYPE_F32, &shape, &view));
    return view;
}

static replay open_replay(uint32_t workers, uint32_t slot_count) {
    replay made = {.slot_count = slot_count};
    const weir_shape row = weir_shape_make(2, (int64_t[]){1, WIDTH});
    const weir_shape square = weir_shape_make(2, (int64_t[]){WIDTH, WIDTH});
    const weir_storage_desc desc = {.byte_size = WIDTH * WIDTH * sizeof(float),
                                    .fill = WEIR_FILL_ZERO};
    const weir_device_desc device = {.name = "cpu", .thread_count = workers};
    bench_check(weir_device_create(&device, &made.device));
    bench_check(weir_graph_create(NULL, &made.graph));
    bench_check(weir_graph_input(made.graph, "x", WEIR_DTYPE_F32, &row, WEIR_PARAM_NONE, &made.x));
    bench_check(weir_graph_weight(made.graph, "w", WEIR_DTYPE_F32, &square, &made.w));
    made.y = made.x;
    for (uint32_t i = 0; i < DEPTH; i++) {
        bench_check(weir_graph_matmul(made.graph, made.y, made.w, &made.y));
    }
    bench_check(weir_graph_output(made.graph, made.y));
    bench_check(weir_schedule_create(NULL, made.graph, weir_device_target(made.device), NULL,
                                     &made.schedule));
    for (uint32_t i = 0; i < 2; i++) {
        bench_check(weir_storage_allocate(made.device, &desc, &made.weights[i]));
    }
    const weir_binding w = {made.w, view_of(made.weights[0])};
    const weir_program_desc program = {
        .schedule = made.schedule, .bindings = &w, .binding_count = 1, .slot_count = slot_count};
    bench_check(weir_program_create(made.device, &program, &made.program));
    return made;
}

static void close_replay(replay* r) {
    weir_program_destroy(r->program);
    weir_storage_release(r->weights[0]);
    weir_storage_release(r->weights[1]);
    weir_schedule_destroy(r->schedule);
    weir_graph_destroy(r->graph);
    weir_device_destroy(r->device);
}

static void write_input(const replay* r) {
    static const float x[WIDTH] = {1.0f};
    bench_check(weir_program_write(r->program, r->x, x, sizeof x));
}

static double measure_pass(void* context) {
    const replay* r = context;
    const double begin = bench_now();
    for (uint32_t i = 0; i < PASSES; i++) {
        write_input(r);
        bench_check(weir_program_run(r->program, NULL, 0));
    }
    return (bench_now() - begin) / PASSES;
}

static double measure_bind(void* context) {
    const replay* r = context;
    const weir_binding bindings[2] = {{r->w, view_of(r->weights[0])},
                                      {r->w, view_of(r->weights[1])}};
    const double begin = bench_now();
    for (uint32_t i = 0; i < PASSES; i++) {
        bench_check(weir_program_bind(r->program, &bindings[i % 2], 1));
        write_input(r);
        bench_check(weir_program_run(r->program, NULL, 0));
    }
    return (bench_now() - begin) / PASSES;
}

static double measure_flight(void* context) {
    const replay* r = context;
    weir_ticket tickets[SLOTS_MAX] = {{0}};
    const double begin = bench_now();
    for (uint32_t i = 0; i < PASSES; i++) {
        weir_ticket* ticket = &tickets[i % r->slot_count];
        bench_check(weir_ticket_wait(*ticket, WEIR_WAIT_FOREVER));
        write_input(r);
        bench_check(weir_program_commit(r->program, NULL, 0, ticket));
    }
    for (uint32_t i = 0; i < r->slot_count; i++) {
        bench_check(weir_ticket_wait(tickets[i], WEIR_WAIT_FOREVER));
    }
    return (bench_now() - begin) / PASSES;
}

int main(void) {
    static bench_row rows[16];
    static const char* const planned[] = {"edges", "edges fewest bytes", "barriers"};
    planning plans[] = {open_planning("cpu", 128, WEIR_ORDER_WAITS),
                        open_planning("cpu", 128, WEIR_ORDER_BYTES),
                        open_planning("barriers", 128, WEIR_ORDER_WAITS)};
    replay replays[2][3];
    uint32_t count = 0;
    for (uint32_t i = 0; i < 3; i++) {
        const char* variant = planned[i];
        rows[count++] = (bench_row){"plan", variant, 0, "schedule", measure_plan, &plans[i], {0}};
        rows[count++] = (bench_row){"load", variant, 0, "schedule", measure_load, &plans[i], {0}};
    }
    for (uint32_t w = 0; w < 2; w++) {
        static const char* const variants[] = {"1 slot", "2 slots", "4 slots"};
        for (uint32_t s = 0; s < 3; s++) {
            replays[w][s] = open_replay(w + 1, 1u << s);
            rows[count++] = (bench_row){"flight",       variants[s],    w + 1, "pass",
                                        measure_flight, &replays[w][s], {0}};
        }
        rows[count++] =
            (bench_row){"pass", "1 slot", w + 1, "pass", measure_pass, &replays[w][0], {0}};
        rows[count++] =
            (bench_row){"bind", "1 weight", w + 1, "pass", measure_bind, &replays[w][0], {0}};
    }
    bench_run(rows, count);
    for (uint32_t i = 0; i < 2; i++) {
        for (uint32_t s = 0; s < 3; s++) {
            close_replay(&replays[i][s]);
        }
    }
    for (uint32_t i = 0; i < 3; i++) {
        weir_plan_file_destroy(plans[i].file);
        weir_graph_destroy(plans[i].pass.graph);
    }
    return 0;
}
