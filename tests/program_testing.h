// What the tests of programs share: a small graph, its memory, and what it should compute.
#ifndef WEIR_TESTS_PROGRAM_TESTING_H
#define WEIR_TESTS_PROGRAM_TESTING_H

#include "testing.h"

#include <math.h>
#include <stdatomic.h>
#include <weir/weir.h>

#include "random_instance.h"
#include "session_testing.h"
#include "testing_allocator.h"

static inline weir_shape shape2(int64_t a, int64_t b) {
    return weir_shape_make(2, (int64_t[]){a, b});
}

static inline weir_schedule* schedule_of(const weir_graph* graph, weir_schedule_options options) {
    weir_target target;
    weir_schedule* schedule = NULL;
    assert_ok(weir_target_find("cpu", &target));
    assert_ok(weir_schedule_create(NULL, graph, &target, &options, &schedule));
    return schedule;
}

static inline weir_storage* random_floats(weir_device* device, test_random* random, int64_t count,
                                          float scale) {
    weir_storage* storage = allocate_zeros(device, (uint64_t)count * sizeof(float));
    float* numbers = weir_storage_host_pointer(storage);
    for (int64_t i = 0; i < count; i++) {
        numbers[i] = random_unit(random) * scale;
    }
    return storage;
}

// The graph that most tests run: y = matmul(rms_norm(x) * gain, w) + x, then rows kept in a state.
typedef struct small {
    weir_device* device;
    weir_graph* graph;
    weir_schedule* schedule;
    weir_param rows, position;
    weir_value x, gain, w, kept, y;
    weir_storage* gain_bytes;
    weir_storage* w_bytes;
    weir_storage* kept_bytes;
    weir_binding bindings[3];
    weir_program* program;
} small;

static inline void small_graph(small* s) {
    weir_value normed = WEIR_VALUE_NONE;
    weir_value scaled = WEIR_VALUE_NONE;
    weir_value product = WEIR_VALUE_NONE;
    const weir_shape x = shape2(8, 32);
    const weir_shape square = shape2(32, 32);
    const weir_shape row = weir_shape_make(1, (int64_t[]){32});
    const weir_shape cache = shape2(24, 32);
    assert_ok(weir_graph_create(NULL, &s->graph));
    assert_ok(weir_graph_param(s->graph, "rows", 1, 8, &s->rows));
    assert_ok(weir_graph_param(s->graph, "position", 0, 20, &s->position));
    assert_ok(weir_graph_input(s->graph, "x", WEIR_DTYPE_F32, &x, s->rows, &s->x));
    assert_ok(weir_graph_weight(s->graph, "gain", WEIR_DTYPE_F32, &row, &s->gain));
    assert_ok(weir_graph_weight(s->graph, "w", WEIR_DTYPE_F32, &square, &s->w));
    assert_ok(weir_graph_state(s->graph, "kept", WEIR_DTYPE_F32, &cache, &s->kept));
    assert_ok(weir_graph_rms_norm(s->graph, s->x, 1e-5f, &normed));
    assert_ok(weir_graph_mul(s->graph, normed, s->gain, &scaled));
    assert_ok(weir_graph_matmul(s->graph, scaled, s->w, &product));
    assert_ok(weir_graph_add(s->graph, product, s->x, &s->y));
    assert_ok(weir_graph_set_rows(s->graph, s->y, s->kept, s->position));
    assert_ok(weir_graph_output(s->graph, s->y));
}

static inline small open_small_on(weir_device* device) {
    small s = {.device = device};
    test_random random = {31};
    small_graph(&s);
    s.schedule = schedule_of(s.graph, (weir_schedule_options){0});
    s.gain_bytes = random_floats(s.device, &random, 32, 1.0f);
    s.w_bytes = random_floats(s.device, &random, 32 * 32, 0.3f);
    s.kept_bytes = allocate_zeros(s.device, 24 * 32 * sizeof(float));
    const weir_shape row = weir_shape_make(1, (int64_t[]){32});
    s.bindings[0] = (weir_binding){s.gain, view_of(s.gain_bytes, WEIR_DTYPE_F32, row)};
    s.bindings[1] = (weir_binding){s.w, view_of(s.w_bytes, WEIR_DTYPE_F32, shape2(32, 32))};
    s.bindings[2] = (weir_binding){s.kept, view_of(s.kept_bytes, WEIR_DTYPE_F32, shape2(24, 32))};
    return s;
}

static inline weir_program_desc desc_of(const small* s) {
    return (weir_program_desc){
        .schedule = s->schedule, .bindings = s->bindings, .binding_count = 3};
}

static inline small open_small(const char* name) {
    const weir_device_desc desc = {
        .name = name, .thread_count = 2, .manual_completion = strcmp(name, "null") == 0};
    weir_device* device = NULL;
    assert_ok(weir_device_create(&desc, &device));
    small s = open_small_on(device);
    const weir_program_desc program = desc_of(&s);
    assert_ok(weir_program_create(s.device, &program, &s.program));
    return s;
}

static inline void close_small(small* s) {
    weir_program_destroy(s->program);
    weir_schedule_destroy(s->schedule);
    weir_graph_destroy(s->graph);
    weir_storage_release(s->gain_bytes);
    weir_storage_release(s->w_bytes);
    weir_storage_release(s->kept_bytes);
    weir_device_destroy(s->device);
}

static inline int open_cpu(void** state) {
    static small s;
    s = open_small("cpu");
    *state = &s;
    return 0;
}

static inline int open_null(void** state) {
    static small s;
    s = open_small("null");
    *state = &s;
    return 0;
}

static inline int close_state(void** state) {
    close_small(*state);
    return 0;
}

// Writes `rows` rows of zeros to x.
static inline void write_zeros(const small* s, weir_program* program, uint64_t rows) {
    static const float zeros[8 * 32] = {0.0f};
    assert_ok(weir_program_write(program, s->x, zeros, rows * 32 * sizeof(float)));
}

static inline void expect_rows(const small* s, const float* x, uint64_t rows, double* y) {
    const float* gain = weir_storage_host_pointer(s->gain_bytes);
    const float* w = weir_storage_host_pointer(s->w_bytes);
    for (uint64_t r = 0; r < rows; r++) {
        double squares = 0.0;
        for (size_t k = 0; k < 32; k++) {
            squares += (double)x[r * 32 + k] * (double)x[r * 32 + k];
        }
        const double scale = 1.0 / sqrt(squares / 32.0 + 1e-5);
        for (size_t n = 0; n < 32; n++) {
            double sum = 0.0;
            for (size_t k = 0; k < 32; k++) {
                sum += (double)x[r * 32 + k] * scale * (double)gain[k] * (double)w[n * 32 + k];
            }
            y[r * 32 + n] = sum + (double)x[r * 32 + n];
        }
    }
}

static inline void assert_close(const float* numbers, const double* expected, size_t count) {
    for (size_t i = 0; i < count; i++) {
        assert_true(fabs((double)numbers[i] - expected[i]) < 1e-4);
    }
}

#define on_cpu(test) cmocka_unit_test_setup_teardown(test, open_cpu, close_state)
#define on_null(test) cmocka_unit_test_setup_teardown(test, open_null, close_state)

#endif
