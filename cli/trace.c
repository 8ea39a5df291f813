#include "trace.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <weir/explain.h>

#include "cli.h"
#include "json.h"
#include "output.h"

#define EVENTS_MAX (1u << 20) // of one worker in one pass; more are counted and dropped
#define LINE 64               // bytes of a cache line: workers do not write to the same one
#define LANES 64              // on which dispatches that overlap are drawn

typedef struct event {
    uint64_t pass; // counted from 1
    uint64_t begin_ns;
    uint64_t end_ns;
    uint32_t worker;
    uint32_t dispatch;
    uint32_t tile;
    uint32_t phase;
} event;

typedef struct event_list {
    event* items;
    size_t count, capacity;
} event_list;

// Written by its worker alone while passes run.
typedef struct recorder {
    _Alignas(LINE) event open; // the tile that runs
    event_list* passes;        // pass p is in passes[p % kept]
    uint64_t dropped;
} recorder;

typedef struct phase_info {
    const weir_schedule* schedule;
    uint32_t dispatch_count;
    const char** names; // of the dispatches: their addresses tell the phases apart
    bool* roots;        // dispatches that wait for nothing
    uint8_t* hazards; // of the edges, by their later dispatch: bits of weir_hazard_kind; NULL: not
                      // looked for yet
} phase_info;

// Twice the number of the pass, plus 1 once a dispatch of it that is no root has begun. A root that
// begins after that belongs to the next pass: passes do not overlap, and all else in a pass follows
// its roots.
//
// A device that runs no functions of the host tells the times of dispatches when a pass is over. A
// dispatch is then one event, on the first lane that is free: lanes stand where workers are
// otherwise.
struct trace {
    atomic_uint_least64_t state;
    cli_output output; // closed once it is written
    weir_device* device;
    weir_context* context;
    bool has_lanes;
    phase_info phases[WEIR_PHASE_COUNT];
    recorder* recorders;
    uint32_t recorder_count;
    uint32_t worker_count; // or lanes: those of the recorders that recorded
    uint32_t kept;
};

// Returns the pass that a tile belongs to.
static uint64_t enter_pass(trace* t, bool root) {
    uint64_t state = atomic_load(&t->state);
    while ((state & 1) == (uint64_t)root && // the first root of a pass, or the first other one
           !atomic_compare_exchange_weak(&t->state, &state, state + 1)) {
    }
    return atomic_load(&t->state) / 2;
}

static void keep(trace* t, recorder* r) {
    event_list* list = &r->passes[r->open.pass % t->kept];
    if (list->count > 0 && list->items[0].pass != r->open.pass) {
        list->count = 0;
    }
    if (list->count == list->capacity && list->capacity < EVENTS_MAX) {
        const size_t capacity = list->capacity > 0 ? 2 * list->capacity : 1024;
        event* grown = realloc(list->items, capacity * sizeof *grown);
        list->items = grown ? grown : list->items;
        list->capacity = grown ? capacity : list->capacity;
    }
    if (list->count < list->capacity) {
        list->items[list->count++] = r->open;
    } else {
        r->dropped++;
    }
}

static void record(void* context, uint32_t worker, const char* name, uint32_t dispatch,
                   uint32_t tile, bool begin) {
    trace* t = context;
    recorder* r = &t->recorders[worker];
    if (!begin) {
        r->open.end_ns = cli_now();
        keep(t, r);
        return;
    }
    const phase_info* decode = &t->phases[WEIR_PHASE_DECODE];
    const bool is_decode = dispatch < decode->dispatch_count && decode->names[dispatch] == name;
    const uint32_t phase = is_decode ? WEIR_PHASE_DECODE : WEIR_PHASE_PREFILL;
    r->open = (event){.pass = enter_pass(t, t->phases[phase].roots[dispatch]),
                      .worker = worker,
                      .dispatch = dispatch,
                      .tile = tile,
                      .phase = phase};
    r->open.begin_ns = cli_now();
}

static void record_pass(void* context, weir_phase phase, const weir_timing* timings,
                        uint32_t count) {
    trace* t = context;
    uint64_t ends[LANES] = {0};
    const uint64_t pass = atomic_fetch_add(&t->state, 2) / 2 + 1;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t lane = 0;
        while (lane + 1 < LANES && ends[lane] > timings[i].begin_ns) {
            lane++;
        }
        recorder* r = &t->recorders[lane];
        if (ends[lane] > timings[i].begin_ns) {
            r->dropped++;
            continue;
        }
        ends[lane] = timings[i].end_ns;
        t->worker_count = lane + 1 > t->worker_count ? lane + 1 : t->worker_count;
        r->open = (event){.pass = pass,
                          .begin_ns = timings[i].begin_ns,
                          .end_ns = timings[i].end_ns,
                          .worker = lane,
                          .dispatch = i,
                          .phase = phase};
        keep(t, r);
    }
}

static weir_status describe_phase(phase_info* phase, const weir_schedule* schedule) {
    const uint32_t count = weir_schedule_report_of(schedule)->dispatches;
    phase->schedule = schedule;
    phase->dispatch_count = count;
    phase->names = calloc(count, sizeof *phase->names);
    phase->roots = calloc(count, sizeof *phase->roots);
    if (!phase->names || !phase->roots) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot allocate a trace of %u dispatches", count);
    }
    for (uint32_t i = 0; i < count; i++) {
        weir_dispatch_info info;
        WEIR_TRY(weir_schedule_dispatch(schedule, i, &info));
        phase->names[i] = info.name;
        phase->roots[i] = info.predecessor_count == 0;
    }
    return WEIR_OK;
}

static weir_status prepare(trace* t, weir_context* context, const char* path) {
    WEIR_TRY(cli_output_open(path, &t->output)); // what cannot be written is known before the run
    for (int i = 0; i < WEIR_PHASE_COUNT; i++) {
        WEIR_TRY(describe_phase(&t->phases[i], weir_context_schedule(context, (weir_phase)i)));
    }
    const size_t byte_size = t->recorder_count * sizeof *t->recorders;
    t->recorders = aligned_alloc(LINE, byte_size);
    if (!t->recorders) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot allocate a trace of %u workers",
                         t->recorder_count);
    }
    for (uint32_t i = 0; i < t->recorder_count; i++) {
        t->recorders[i] = (recorder){.passes = NULL};
    }
    for (uint32_t i = 0; i < t->recorder_count; i++) {
        t->recorders[i].passes = calloc(t->kept, sizeof *t->recorders[i].passes);
        if (!t->recorders[i].passes) {
            return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot allocate a trace of %u passes", t->kept);
        }
    }
    return t->has_lanes ? weir_context_watch(context, record_pass, t)
                        : weir_device_set_tile_hook(t->device, record, t);
}

weir_status trace_start(weir_context* context, const char* path, uint32_t passes, trace** started) {
    trace* t = calloc(1, sizeof *t);
    if (!t) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot allocate a trace");
    }
    t->device = weir_model_device(weir_context_model(context));
    t->context = context;
    t->has_lanes = !weir_device_target(t->device)->kernels[0].run;
    t->recorder_count = t->has_lanes ? LANES : weir_device_thread_count(t->device);
    t->worker_count = t->has_lanes ? 0 : t->recorder_count;
    t->kept = passes;
    atomic_init(&t->state, 1); // as if pass 0 were over
    const weir_status status = prepare(t, context, path);
    if (status != WEIR_OK) {
        trace_free(t);
        return status;
    }
    *started = t;
    return WEIR_OK;
}

static void stop(trace* t) {
    const weir_status status = t->has_lanes ? weir_context_watch(t->context, NULL, NULL)
                                            : weir_device_set_tile_hook(t->device, NULL, NULL);
    (void)status; // nothing runs any more
}

void trace_free(trace* t) {
    if (!t) {
        return;
    }
    stop(t);
    for (uint32_t i = 0; t->recorders && i < t->recorder_count; i++) {
        for (uint32_t p = 0; t->recorders[i].passes && p < t->kept; p++) {
            free(t->recorders[i].passes[p].items);
        }
        free(t->recorders[i].passes);
    }
    for (int i = 0; i < WEIR_PHASE_COUNT; i++) {
        free((void*)t->phases[i].names);
        free(t->phases[i].roots);
        free(t->phases[i].hazards);
    }
    const weir_status closed = cli_output_close(&t->output, WEIR_OK);
    (void)closed; // what failed before has been told
    free(t->recorders);
    free(t);
}

static bool is_kept(const trace* t, const event* e) {
    return e->pass + t->kept > atomic_load(&t->state) / 2;
}

static int compare_events(const void* a, const void* b) {
    const event* x = a;
    const event* y = b;
    if (x->pass != y->pass) {
        return x->pass < y->pass ? -1 : 1;
    }
    if (x->worker != y->worker) {
        return x->worker < y->worker ? -1 : 1;
    }
    return x->begin_ns < y->begin_ns ? -1 : x->begin_ns > y->begin_ns;
}

// Gathers what was kept, by pass, worker and time.
static weir_status gather(const trace* t, event_list* all) {
    for (uint32_t i = 0; i < t->worker_count; i++) {
        for (uint32_t p = 0; p < t->kept; p++) {
            all->capacity += t->recorders[i].passes[p].count;
        }
    }
    all->items = malloc((all->capacity > 0 ? all->capacity : 1) * sizeof *all->items);
    if (!all->items) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot allocate %zu events", all->capacity);
    }
    for (uint32_t i = 0; i < t->worker_count; i++) {
        for (uint32_t p = 0; p < t->kept; p++) {
            const event_list* list = &t->recorders[i].passes[p];
            for (size_t k = 0; k < list->count && is_kept(t, &list->items[0]); k++) {
                all->items[all->count++] = list->items[k];
            }
        }
    }
    qsort(all->items, all->count, sizeof *all->items, compare_events);
    return WEIR_OK;
}

typedef struct writing {
    json json;
    trace* trace;
    uint64_t origin_ns; // of all times in the file
    uint64_t flow;      // number of the last arrow
} writing;

static void begin_event(writing* w, const char* phase, const char* category, const char* name,
                        uint32_t thread, uint64_t begin_ns) {
    json_begin(&w->json, NULL, '{');
    json_text(&w->json, "ph", phase);
    json_text(&w->json, "cat", category);
    json_text(&w->json, "name", name);
    json_u64(&w->json, "pid", 1);
    json_u64(&w->json, "tid", thread);
    json_micros(&w->json, "ts", begin_ns - w->origin_ns);
}

static void write_slice(writing* w, const char* category, const char* name, uint32_t thread,
                        uint64_t begin_ns, uint64_t end_ns) {
    begin_event(w, "X", category, name, thread, begin_ns);
    json_micros(&w->json, "dur", end_ns - begin_ns);
    json_end(&w->json, '}');
}

static void write_thread_name(writing* w, uint32_t thread, const char* name) {
    begin_event(w, "M", "__metadata", "thread_name", thread, w->origin_ns);
    json_begin(&w->json, "args", '{');
    json_text(&w->json, "name", name);
    json_end(&w->json, '}');
    json_end(&w->json, '}');
}

static void write_tile(writing* w, const event* e) {
    const phase_info* phase = &w->trace->phases[e->phase];
    begin_event(w, "X", w->trace->has_lanes ? "dispatch" : "tile", phase->names[e->dispatch],
                e->worker, e->begin_ns);
    json_micros(&w->json, "dur", e->end_ns - e->begin_ns);
    json_begin(&w->json, "args", '{');
    json_u64(&w->json, "pass", e->pass);
    json_u64(&w->json, "dispatch", e->dispatch);
    if (!w->trace->has_lanes) {
        json_u64(&w->json, "tile", e->tile);
    }
    json_end(&w->json, '}');
    json_end(&w->json, '}');
}

// What an edge is for: the kinds of the hazards between its dispatches, as bits.
static weir_status find_hazards(const phase_info* phase, uint32_t earlier, uint32_t later,
                                uint8_t* hazards) {
    weir_why why;
    WEIR_TRY(weir_why_find(NULL, phase->schedule, earlier, later, &why));
    *hazards = 0;
    for (uint32_t i = 0; i < why.reason_count; i++) {
        *hazards |= (uint8_t)(1u << why.reasons[i].kind);
    }
    weir_why_free(&why);
    return WEIR_OK;
}

static weir_status explain_phase(phase_info* phase) {
    const uint32_t edges = weir_schedule_report_of(phase->schedule)->edges;
    if (phase->hazards) {
        return WEIR_OK;
    }
    phase->hazards = calloc((size_t)edges + 1, 1);
    if (!phase->hazards) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot allocate %u edges", edges);
    }
    size_t edge = 0;
    for (uint32_t i = 0; i < phase->dispatch_count; i++) {
        weir_dispatch_info info;
        WEIR_TRY(weir_schedule_dispatch(phase->schedule, i, &info));
        for (uint32_t e = 0; e < info.predecessor_count; e++) {
            WEIR_TRY(find_hazards(phase, info.predecessors[e], i, &phase->hazards[edge++]));
        }
    }
    return WEIR_OK;
}

// "RAW", "RAW and WAR", ...; "order" where no bytes are shared, as when everything is fenced.
static const char* name_hazards(uint8_t hazards, char* name, size_t capacity) {
    size_t length = 0;
    snprintf(name, capacity, "order");
    for (uint32_t kind = 0; kind < 8; kind++) {
        if ((hazards >> kind & 1) != 0) {
            length += (size_t)snprintf(name + length, capacity - length, "%s%s",
                                       length > 0 ? " and " : "",
                                       weir_hazard_name((weir_hazard_kind)kind));
        }
    }
    return name;
}

// An arrow leaves a slice inside of it and enters the next one at its beginning.
static void write_arrow(writing* w, const event* from, const event* to, uint8_t hazards) {
    char name[64];
    name_hazards(hazards, name, sizeof name);
    const uint64_t leaves = from->end_ns > from->begin_ns ? from->end_ns - 1 : from->begin_ns;
    w->flow++;
    begin_event(w, "s", "wait for", name, from->worker, leaves);
    json_u64(&w->json, "id", w->flow);
    json_end(&w->json, '}');
    begin_event(w, "f", "wait for", name, to->worker, to->begin_ns);
    json_u64(&w->json, "id", w->flow);
    json_text(&w->json, "bp", "e");
    json_end(&w->json, '}');
}

// Per dispatch of a pass the tile that begins first and the one that ends last; NULL: none kept.
typedef struct ends {
    const event* first;
    const event* last;
} ends;

static weir_status write_arrows(writing* w, const event* events, size_t count) {
    phase_info* phase = &w->trace->phases[events[0].phase];
    WEIR_TRY(explain_phase(phase));
    ends* dispatches = calloc(phase->dispatch_count, sizeof *dispatches);
    if (!dispatches) {
        return WEIR_FAIL(WEIR_OUT_OF_MEMORY, "cannot allocate the arrows of a trace");
    }
    for (size_t i = 0; i < count; i++) {
        ends* d = &dispatches[events[i].dispatch];
        d->first = !d->first || events[i].begin_ns < d->first->begin_ns ? &events[i] : d->first;
        d->last = !d->last || events[i].end_ns > d->last->end_ns ? &events[i] : d->last;
    }
    weir_status status = WEIR_OK;
    size_t edge = 0;
    for (uint32_t i = 0; status == WEIR_OK && i < phase->dispatch_count; i++) {
        weir_dispatch_info info = {0};
        status = weir_schedule_dispatch(phase->schedule, i, &info);
        for (uint32_t e = 0; status == WEIR_OK && e < info.predecessor_count; e++, edge++) {
            const ends* before = &dispatches[info.predecessors[e]];
            if (before->last && dispatches[i].first) {
                write_arrow(w, before->last, dispatches[i].first, phase->hazards[edge]);
            }
        }
    }
    free(dispatches);
    return status;
}

// Gaps of a worker between the beginning and the end of a pass are waits, and so is a pass in which
// it runs no tile.
static void write_tiles(writing* w, const event* events, size_t count, uint64_t begin_ns,
                        uint64_t end_ns) {
    size_t next = 0;
    for (uint32_t worker = 0; worker < w->trace->worker_count; worker++) {
        uint64_t idle_ns = begin_ns;
        for (; next < count && events[next].worker == worker; next++) {
            if (events[next].begin_ns > idle_ns) {
                write_slice(w, "wait", "wait", worker, idle_ns, events[next].begin_ns);
            }
            write_tile(w, &events[next]);
            idle_ns = events[next].end_ns;
        }
        if (end_ns > idle_ns) {
            write_slice(w, "wait", "wait", worker, idle_ns, end_ns);
        }
    }
}

static weir_status write_pass(writing* w, const event* events, size_t count) {
    uint64_t begin_ns = events[0].begin_ns;
    uint64_t end_ns = events[0].end_ns;
    char name[64];
    for (size_t i = 1; i < count; i++) {
        begin_ns = events[i].begin_ns < begin_ns ? events[i].begin_ns : begin_ns;
        end_ns = events[i].end_ns > end_ns ? events[i].end_ns : end_ns;
    }
    snprintf(name, sizeof name, "pass %llu, %s", (unsigned long long)events[0].pass,
             events[0].phase == WEIR_PHASE_DECODE ? "decode" : "prefill");
    write_slice(w, "pass", name, w->trace->worker_count, begin_ns, end_ns);
    write_tiles(w, events, count, begin_ns, end_ns);
    return write_arrows(w, events, count);
}

static weir_status write_passes(writing* w, const event_list* all) {
    for (size_t begin = 0, end = 0; begin < all->count; begin = end) {
        while (end < all->count && all->items[end].pass == all->items[begin].pass) {
            end++;
        }
        WEIR_TRY(write_pass(w, all->items + begin, end - begin));
    }
    return WEIR_OK;
}

static void write_threads(writing* w) {
    char name[32];
    for (uint32_t i = 0; i < w->trace->worker_count; i++) {
        snprintf(name, sizeof name, w->trace->has_lanes ? "lane %u" : "worker %u", i);
        write_thread_name(w, i, name);
    }
    write_thread_name(w, w->trace->worker_count, "passes");
}

static weir_status write_events(trace* t, const event_list* all, FILE* file) {
    writing w = {.json.file = file, .trace = t};
    uint64_t dropped = 0;
    for (size_t i = 0; i < all->count; i++) {
        const uint64_t begin_ns = all->items[i].begin_ns;
        w.origin_ns = i == 0 || begin_ns < w.origin_ns ? begin_ns : w.origin_ns;
    }
    for (uint32_t i = 0; i < t->worker_count; i++) {
        dropped += t->recorders[i].dropped;
    }
    json_begin(&w.json, NULL, '{');
    json_text(&w.json, "displayTimeUnit", "ns");
    json_begin(&w.json, "otherData", '{');
    json_u64(&w.json, "workers", t->worker_count);
    json_u64(&w.json, "passes", atomic_load(&t->state) / 2); // of the run
    json_u64(&w.json, t->has_lanes ? "dispatches" : "tiles", all->count);
    json_u64(&w.json, t->has_lanes ? "dropped_dispatches" : "dropped_tiles", dropped);
    json_end(&w.json, '}');
    json_begin(&w.json, "traceEvents", '[');
    write_threads(&w);
    const weir_status status = write_passes(&w, all);
    json_end(&w.json, ']');
    json_end(&w.json, '}');
    fputc('\n', file);
    return status;
}

weir_status trace_write(trace* t) {
    event_list all = {0};
    stop(t);
    weir_status status = gather(t, &all);
    if (status == WEIR_OK) {
        status = write_events(t, &all, t->output.file);
    }
    status = cli_output_close(&t->output, status);
    free(all.items);
    return status;
}
