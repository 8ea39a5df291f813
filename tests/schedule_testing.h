// What tests of schedules share: a graph to build on, short names for its operations, targets, and
// taking edges out of a schedule.
#ifndef WEIR_TESTS_SCHEDULE_TESTING_H
#define WEIR_TESTS_SCHEDULE_TESTING_H

#include "testing.h"

#include "schedule/schedule.h"

typedef struct fixture {
    weir_graph* graph;
    weir_target target; // the CPU's
    weir_param position;
    weir_value x, z;   // inputs F32 [4, 32]
    weir_value square; // weight F32 [32, 32]
} fixture;

static inline weir_shape shape2(int64_t a, int64_t b) {
    return weir_shape_make(2, (int64_t[]){a, b});
}

static inline int make_graph(void** state) {
    static fixture f;
    const weir_shape shape = shape2(4, 32);
    const weir_shape square = shape2(32, 32);
    assert_ok(weir_target_find("cpu", &f.target));
    assert_ok(weir_graph_create(NULL, &f.graph));
    assert_ok(weir_graph_param(f.graph, "position", 0, 3, &f.position));
    assert_ok(weir_graph_input(f.graph, "x", WEIR_DTYPE_F32, &shape, WEIR_PARAM_NONE, &f.x));
    assert_ok(weir_graph_input(f.graph, "z", WEIR_DTYPE_F32, &shape, WEIR_PARAM_NONE, &f.z));
    assert_ok(weir_graph_weight(f.graph, "square", WEIR_DTYPE_F32, &square, &f.square));
    *state = &f;
    return 0;
}

static inline int drop_graph(void** state) {
    weir_graph_destroy(((fixture*)*state)->graph);
    return 0;
}

static inline weir_value norm(const fixture* f, weir_value x) {
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_rms_norm(f->graph, x, 1e-5f, &y));
    return y;
}

static inline weir_value add(const fixture* f, weir_value a, weir_value b) {
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_add(f->graph, a, b, &y));
    return y;
}

static inline weir_value matmul(const fixture* f, weir_value x) {
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_matmul(f->graph, x, f->square, &y));
    return y;
}

static inline weir_value narrow(const fixture* f, weir_value value, int64_t start, int64_t length) {
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_narrow(f->graph, value, 0, start, length, &y));
    return y;
}

static inline weir_value new_state(const fixture* f, const char* name, int64_t rows) {
    const weir_shape shape = shape2(rows, 32);
    weir_value value = WEIR_VALUE_NONE;
    assert_ok(weir_graph_state(f->graph, name, WEIR_DTYPE_F32, &shape, &value));
    return value;
}

static inline weir_schedule* schedule_with(const weir_graph* graph, const weir_target* target,
                                           weir_schedule_options options) {
    weir_schedule* schedule = NULL;
    assert_ok(weir_schedule_create(NULL, graph, target, &options, &schedule));
    assert_ok(weir_schedule_check(schedule));
    return schedule;
}

// Dispatches are counted as operations here; tests/test_fusion.c is about the others.
static inline weir_schedule* schedule_of(const fixture* f) {
    return schedule_with(f->graph, &f->target,
                         (weir_schedule_options){.without_fusions = WEIR_FUSION_ALL});
}

static inline weir_dispatch_info info_of(const weir_schedule* schedule, uint32_t dispatch) {
    weir_dispatch_info info;
    assert_ok(weir_schedule_dispatch(schedule, dispatch, &info));
    return info;
}

static inline weir_placement place_of(const weir_schedule* schedule, weir_value value) {
    weir_placement place;
    assert_ok(weir_schedule_place(schedule, value, &place));
    return place;
}

static inline void assert_waits_for(const weir_schedule* schedule, uint32_t dispatch,
                                    uint32_t count, const uint32_t* expected) {
    const weir_dispatch_info info = info_of(schedule, dispatch);
    assert_int_equal(info.predecessor_count, count);
    for (uint32_t i = 0; i < count; i++) {
        bool found = false;
        for (uint32_t k = 0; k < count; k++) {
            found |= info.predecessors[k] == expected[i];
        }
        assert_true(found);
    }
}

#define waits_for(schedule, dispatch, ...)                                                         \
    assert_waits_for((schedule), (dispatch), sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t), \
                     (uint32_t[]){__VA_ARGS__})
#define waits_for_nothing(schedule, dispatch) assert_waits_for((schedule), (dispatch), 0, NULL)

static inline bool share_bytes(weir_placement a, weir_placement b) {
    return a.region == b.region && a.block == b.block &&
           a.byte_offset < b.byte_offset + b.byte_size &&
           b.byte_offset < a.byte_offset + a.byte_size;
}

static inline uint64_t hundred_bytes(const weir_kernel_use* use) {
    (void)use;
    return 100;
}

// The kernels of the CPU, of which `op` asks for scratch.
static inline weir_target target_with_scratch(const weir_target* base, weir_op_kind op,
                                              weir_kernel kernels[64]) {
    weir_target target = *base;
    assert_true(base->kernel_count <= 64);
    for (uint32_t i = 0; i < base->kernel_count; i++) {
        kernels[i] = base->kernels[i];
        if (kernels[i].op == op) {
            kernels[i].scratch_bytes = hundred_bytes;
        }
    }
    target.kernels = kernels;
    return target;
}

// Takes edge `edge` out of the reduced DAG and returns the dispatch that waited by it.
static inline uint32_t remove_edge(weir_schedule* schedule, uint32_t edge) {
    schedule_edges* edges = &schedule->edges;
    uint32_t later = 0;
    while (edges->begins[later + 1] <= edge) {
        later++;
    }
    memmove(edges->items + edge, edges->items + edge + 1,
            (edges->count - edge - 1) * sizeof edges->items[0]);
    edges->count--;
    for (uint32_t i = later + 1; i <= schedule->dispatches.count; i++) {
        edges->begins[i]--;
    }
    return later;
}

static inline void restore_edge(weir_schedule* schedule, uint32_t edge, uint32_t earlier,
                                uint32_t later) {
    schedule_edges* edges = &schedule->edges;
    memmove(edges->items + edge + 1, edges->items + edge,
            (edges->count - edge) * sizeof edges->items[0]);
    edges->items[edge] = earlier;
    edges->count++;
    for (uint32_t i = later + 1; i <= schedule->dispatches.count; i++) {
        edges->begins[i]++;
    }
}

static inline void assert_names_dispatch(const weir_schedule* schedule, uint32_t dispatch) {
    char text[300];
    snprintf(text, sizeof text, "%u (%s)", dispatch, info_of(schedule, dispatch).name);
    assert_message_has(text);
}

// Takes each edge out in turn, which `check` must report, naming the dispatch that waited by it.
// The tracked check, which is told of the order without that one pair, names both.
static inline uint32_t expect_each_edge(weir_schedule* schedule,
                                        weir_status (*check)(const weir_schedule*)) {
    const uint32_t count = schedule->report.edges;
    for (uint32_t edge = 0; edge < count; edge++) {
        const uint32_t earlier = schedule->edges.items[edge];
        const uint32_t later = remove_edge(schedule, edge);
        assert_status(check(schedule), WEIR_INTERNAL);
        assert_names_dispatch(schedule, later);
        restore_edge(schedule, edge, earlier, later);
        uint64_t* word =
            &schedule->ancestors.words[later * schedule->ancestors.row_words + earlier / 64];
        *word ^= UINT64_C(1) << (earlier % 64);
        assert_status(weir_schedule_check_tracked(schedule), WEIR_INTERNAL);
        assert_names_dispatch(schedule, earlier);
        assert_names_dispatch(schedule, later);
        *word ^= UINT64_C(1) << (earlier % 64);
    }
    assert_ok(weir_schedule_check(schedule));
    return count;
}

// Takes a boundary out of a schedule by groups and returns the first dispatch behind it.
static inline uint32_t remove_boundary(weir_schedule* schedule, uint32_t boundary) {
    uint32_t begin = 0;
    uint32_t end = 0;
    assert_ok(weir_schedule_group(schedule, boundary, &begin, &end));
    for (uint32_t d = begin; d < schedule->dispatches.count; d++) {
        schedule->dispatches.items[d].group--;
    }
    return begin;
}

static inline void restore_boundary(weir_schedule* schedule, uint32_t begin) {
    for (uint32_t d = begin; d < schedule->dispatches.count; d++) {
        schedule->dispatches.items[d].group++;
    }
}

#define with_graph(test) cmocka_unit_test_setup_teardown(test, make_graph, drop_graph)

#endif
