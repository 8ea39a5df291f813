// Times sessions, programs and tickets, and prints CSV (bench_rows.h).
//
//     record        one dispatch recorded in a session: a read and a write, chained or apart
//     replay        one dispatch of a program that is run again: an addition of one float
//     commit_wait   one pass of a single kernel that does nothing, recorded, committed, waited for
//     ping_pong     one ticket back and one forth between two threads
//     upload        one byte, by a pass that is waited for; download the same
#include <pthread.h>
#include <string.h>
#include <weir/weir.h>

#include "bench_rows.h"

#define DISPATCHES 1000
#define ROUNDS 2000
#define TRANSFER_BYTES (16u << 20)
#define ROWS_MAX 32

static weir_status do_nothing(const weir_kernel_call* call) {
    (void)call;
    return WEIR_OK;
}

static weir_device* open_cpu(uint32_t workers) {
    weir_device* device = NULL;
    bench_check(
        weir_device_create(&(weir_device_desc){.name = "cpu", .thread_count = workers}, &device));
    return device;
}

static weir_storage* allocate(weir_device* device, uint64_t byte_size) {
    const weir_storage_desc desc = {.byte_size = byte_size, .fill = WEIR_FILL_ZERO};
    weir_storage* storage = NULL;
    bench_check(weir_storage_allocate(device, &desc, &storage));
    return storage;
}

static weir_view floats(weir_storage* storage, uint64_t index, int64_t count) {
    const weir_shape shape = weir_shape_make(1, &count);
    weir_view view;
    bench_check(weir_view_make(storage, index * sizeof(float), WEIR_DTYPE_F32, &shape, &view));
    return view;
}

typedef struct session_bench {
    weir_device* device;
    weir_session* session;
    weir_storage* storage;
    weir_view views[2 * DISPATCHES]; // a cache line each; made before, as callers keep theirs
    bool chained;
} session_bench;

static void open_session(session_bench* bench, uint32_t workers, bool chained) {
    *bench = (session_bench){.device = open_cpu(workers), .chained = chained};
    bench->storage = allocate(bench->device, sizeof(float[16]) * 2 * DISPATCHES);
    for (uint32_t i = 0; i < 2 * DISPATCHES; i++) {
        bench->views[i] = floats(bench->storage, 16 * (uint64_t)i, 16);
    }
    bench_check(weir_session_create(bench->device, &bench->session));
}

static void close_session(session_bench* bench) {
    weir_session_destroy(bench->session);
    weir_storage_release(bench->storage);
    weir_device_destroy(bench->device);
}

static void record(session_bench* bench, uint32_t index) {
    const weir_view* views = bench->views + (bench->chained ? index : 2 * index);
    const weir_operand operands[] = {{views[0], WEIR_ACCESS_READ}, {views[1], WEIR_ACCESS_WRITE}};
    const weir_dispatch_desc desc = {
        .name = "nothing", .kernel = do_nothing, .operands = operands, .operand_count = 2};
    bench_check(weir_session_dispatch(bench->session, &desc, NULL));
}

static double measure_record(void* context) {
    session_bench* bench = context;
    const double begin = bench_now();
    for (uint32_t i = 0; i < DISPATCHES; i++) {
        record(bench, i);
    }
    const double end = bench_now();
    bench_check(weir_session_finish(bench->session));
    return (end - begin) / DISPATCHES;
}

static double measure_commit_wait(void* context) {
    session_bench* bench = context;
    const double begin = bench_now();
    for (uint32_t i = 0; i < ROUNDS; i++) {
        const weir_dispatch_desc desc = {.name = "nothing", .kernel = do_nothing};
        bench_check(weir_session_dispatch(bench->session, &desc, NULL));
        bench_check(weir_session_finish(bench->session));
    }
    return (bench_now() - begin) / ROUNDS;
}

typedef struct program_bench {
    weir_device* device;
    weir_graph* graph;
    weir_schedule* schedule;
    weir_program* program;
} program_bench;

// A chain of additions, or as many that depend on the input alone.
static void build(weir_graph* graph, bool chained) {
    const weir_shape shape = weir_shape_make(2, (int64_t[]){1, 1});
    weir_value input;
    weir_value last;
    bench_check(weir_graph_input(graph, "x", WEIR_DTYPE_F32, &shape, WEIR_PARAM_NONE, &input));
    last = input;
    for (uint32_t i = 0; i < DISPATCHES; i++) {
        bench_check(weir_graph_add(graph, chained ? last : input, input, &last));
        if (!chained || i + 1 == DISPATCHES) {
            bench_check(weir_graph_output(graph, last));
        }
    }
}

static program_bench open_program(uint32_t workers, bool chained) {
    program_bench made = {.device = open_cpu(workers)};
    bench_check(weir_graph_create(NULL, &made.graph));
    build(made.graph, chained);
    bench_check(weir_schedule_create(NULL, made.graph, weir_device_target(made.device), NULL,
                                     &made.schedule));
    const weir_program_desc desc = {.schedule = made.schedule};
    bench_check(weir_program_create(made.device, &desc, &made.program));
    return made;
}

static void close_program(program_bench* bench) {
    weir_program_destroy(bench->program);
    weir_schedule_destroy(bench->schedule);
    weir_graph_destroy(bench->graph);
    weir_device_destroy(bench->device);
}

static double measure_replay(void* context) {
    program_bench* bench = context;
    const uint32_t repeats = 20;
    const double begin = bench_now();
    for (uint32_t i = 0; i < repeats; i++) {
        bench_check(weir_program_write(bench->program, 0, &(float){1.0f}, sizeof(float)));
        bench_check(weir_program_run(bench->program, NULL, 0));
    }
    return (bench_now() - begin) / repeats / DISPATCHES;
}

// One of two threads: each waits for tickets of its own device, which the other completes.
typedef struct player {
    weir_device* device;
    weir_session* session; // of the device of the other
    weir_ticket tickets[ROUNDS];
    struct player* other;
    bool first;
} player;

static weir_ticket commit_one(weir_session* session) {
    weir_ticket ticket;
    bench_check(weir_session_dispatch(session, &(weir_dispatch_desc){.kernel = do_nothing}, NULL));
    bench_check(weir_session_commit(session, &ticket));
    return ticket;
}

static void* play(void* context) {
    player* p = context;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        if (!p->first) {
            bench_check(weir_ticket_wait(p->tickets[i], WEIR_WAIT_FOREVER));
        }
        const weir_ticket aim = p->other->tickets[i];
        if (i + 1 < ROUNDS) {
            p->other->tickets[i + 1] = commit_one(p->session);
        }
        weir_null_complete_ticket(aim, WEIR_OK);
        if (p->first) {
            bench_check(weir_ticket_wait(p->tickets[i], WEIR_WAIT_FOREVER));
        }
    }
    return NULL;
}

static double measure_ping_pong(void* context) {
    player* players = context;
    pthread_t thread;
    players[0].tickets[0] = commit_one(players[1].session);
    players[1].tickets[0] = commit_one(players[0].session);
    const double begin = bench_now();
    if (pthread_create(&thread, NULL, play, &players[1]) != 0) {
        fprintf(stderr, "bench_sessions: no second thread\n");
        exit(1);
    }
    play(&players[0]);
    pthread_join(thread, NULL);
    return (bench_now() - begin) / ROUNDS;
}

static void open_players(player players[2]) {
    const weir_device_desc desc = {.name = "null", .manual_completion = true};
    for (int i = 0; i < 2; i++) {
        players[i].first = i == 0;
        players[i].other = &players[1 - i];
        bench_check(weir_device_create(&desc, &players[i].device));
    }
    for (int i = 0; i < 2; i++) {
        bench_check(weir_session_create(players[1 - i].device, &players[i].session));
    }
}

static void close_players(player players[2]) {
    for (int i = 0; i < 2; i++) {
        weir_session_destroy(players[i].session);
    }
    for (int i = 0; i < 2; i++) {
        weir_device_destroy(players[i].device);
    }
}

typedef struct transfer_bench {
    weir_session* session;
    weir_storage* storage;
    uint8_t* host;
    bool upload;
} transfer_bench;

static double measure_transfer(void* context) {
    transfer_bench* bench = context;
    const weir_view view = floats(bench->storage, 0, TRANSFER_BYTES / sizeof(float));
    weir_session* session = bench->session;
    const double begin = bench_now();
    bench_check(bench->upload ? weir_session_upload(session, bench->host, TRANSFER_BYTES, &view)
                              : weir_session_download(session, &view, bench->host, TRANSFER_BYTES));
    bench_check(weir_session_finish(session));
    return (bench_now() - begin) / TRANSFER_BYTES;
}

int main(void) {
    static player players[2];
    static bench_row rows[ROWS_MAX];
    static session_bench sessions[2][2];
    program_bench programs[2][2];
    transfer_bench transfers[2];
    uint32_t count = 0;
    for (uint32_t w = 0; w < 2; w++) {
        for (uint32_t c = 0; c < 2; c++) {
            const char* variant = c ? "chained" : "apart";
            open_session(&sessions[w][c], w + 1, c == 1);
            programs[w][c] = open_program(w + 1, c == 1);
            if (w == 0) {
                rows[count++] = (bench_row){"record",       variant,         1,  "dispatch",
                                            measure_record, &sessions[w][c], {0}};
            }
            rows[count++] = (bench_row){"replay",       variant,         w + 1, "dispatch",
                                        measure_replay, &programs[w][c], {0}};
        }
        rows[count++] = (bench_row){"commit_wait",       "one kernel",    w + 1, "pass",
                                    measure_commit_wait, &sessions[w][0], {0}};
        transfers[w].upload = w == 0;
    }
    open_players(players);
    rows[count++] =
        (bench_row){"ping_pong", "two threads", 0, "round", measure_ping_pong, players, {0}};
    for (uint32_t i = 0; i < 2; i++) {
        transfers[i].session = sessions[1][0].session;
        transfers[i].storage = allocate(sessions[1][0].device, TRANSFER_BYTES);
        transfers[i].host = malloc(TRANSFER_BYTES);
        if (!transfers[i].host) {
            return 1;
        }
        memset(transfers[i].host, 1, TRANSFER_BYTES);
        rows[count++] = (bench_row){transfers[i].upload ? "upload" : "download",
                                    "16 MiB",
                                    2,
                                    "byte",
                                    measure_transfer,
                                    &transfers[i],
                                    {0}};
    }
    bench_run(rows, count);
    for (uint32_t i = 0; i < 2; i++) {
        weir_storage_release(transfers[i].storage);
        free(transfers[i].host);
        for (uint32_t c = 0; c < 2; c++) {
            close_program(&programs[i][c]);
            close_session(&sessions[i][c]);
        }
    }
    close_players(players);
    return 0;
}
