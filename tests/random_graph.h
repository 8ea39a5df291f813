// Random graphs over most operations of the table, with views, states and parameters.
#ifndef WEIR_TESTS_RANDOM_GRAPH_H
#define WEIR_TESTS_RANDOM_GRAPH_H

#include "testing.h"

#include <weir/graph.h>

#define RANDOM_ROWS 8      // upper bound of the parameter `rows`
#define RANDOM_WIDTH 32    // of the wide values; the narrow ones have half of it
#define RANDOM_CACHE 24    // rows of a state
#define RANDOM_POSITION 12 // upper bound of the parameter `position`
#define RANDOM_POOL 64

typedef enum random_class {
    RANDOM_WIDE = 0,  // [rows, 32]
    RANDOM_SLIM = 1,  // [rows, 16]
    RANDOM_FIXED = 2, // [8, 32], no parameter
    RANDOM_SHORT = 3, // [4, 32], no parameter
    RANDOM_CLASSES = 4,
} random_class;

typedef struct random_graph {
    weir_graph* graph;
    weir_param rows, position;
    weir_value inputs[3]; // two wide, one fixed
    weir_value square;    // F32 [32, 32]
    weir_value packed;    // Q8_0 [32, 32]
    weir_value widen;     // F32 [32, 16]
    weir_value shrink;    // F32 [16, 32]
    weir_value row;       // F32 [32]
    weir_value half_row;  // F16 [32]
    weir_value states[4]; // F32 [24, 32]
    weir_value outputs[8];
    uint32_t output_count;
    weir_value pools[RANDOM_CLASSES][RANDOM_POOL];
    uint32_t counts[RANDOM_CLASSES];
    uint32_t views;
} random_graph;

static inline void random_keep(random_graph* made, random_class kind, weir_value value) {
    if (made->counts[kind] < RANDOM_POOL) {
        made->pools[kind][made->counts[kind]++] = value;
    }
}

// Recent values twice as often as old ones: chains and wide graphs both come up.
static inline weir_value random_pick(random_graph* made, random_class kind, test_random* random) {
    const uint32_t count = made->counts[kind];
    const uint64_t a = random_below(random, count);
    const uint64_t b = random_below(random, count);
    return made->pools[kind][a > b ? a : b];
}

static inline void random_leaves(random_graph* made) {
    const weir_shape wide = weir_shape_make(2, (int64_t[]){RANDOM_ROWS, RANDOM_WIDTH});
    const weir_shape square = weir_shape_make(2, (int64_t[]){RANDOM_WIDTH, RANDOM_WIDTH});
    const weir_shape widen = weir_shape_make(2, (int64_t[]){RANDOM_WIDTH, RANDOM_WIDTH / 2});
    const weir_shape shrink = weir_shape_make(2, (int64_t[]){RANDOM_WIDTH / 2, RANDOM_WIDTH});
    const weir_shape row = weir_shape_make(1, (int64_t[]){RANDOM_WIDTH});
    const weir_shape cache = weir_shape_make(2, (int64_t[]){RANDOM_CACHE, RANDOM_WIDTH});
    weir_graph* graph = made->graph;
    assert_ok(weir_graph_param(graph, "rows", 1, RANDOM_ROWS, &made->rows));
    assert_ok(weir_graph_param(graph, "position", 0, RANDOM_POSITION, &made->position));
    const weir_dtype f32 = WEIR_DTYPE_F32;
    assert_ok(weir_graph_input(graph, "x0", f32, &wide, made->rows, &made->inputs[0]));
    assert_ok(weir_graph_input(graph, "x1", f32, &wide, made->rows, &made->inputs[1]));
    assert_ok(weir_graph_input(graph, "f", f32, &wide, WEIR_PARAM_NONE, &made->inputs[2]));
    assert_ok(weir_graph_weight(graph, "square", f32, &square, &made->square));
    assert_ok(weir_graph_weight(graph, "packed", WEIR_DTYPE_Q8_0, &square, &made->packed));
    assert_ok(weir_graph_weight(graph, "widen", f32, &widen, &made->widen));
    assert_ok(weir_graph_weight(graph, "shrink", f32, &shrink, &made->shrink));
    assert_ok(weir_graph_weight(graph, "row", f32, &row, &made->row));
    assert_ok(weir_graph_weight(graph, "half_row", WEIR_DTYPE_F16, &row, &made->half_row));
    for (size_t i = 0; i < 4; i++) {
        const char* const names[] = {"k0", "v0", "k1", "v1"};
        assert_ok(weir_graph_state(graph, names[i], f32, &cache, &made->states[i]));
    }
    random_keep(made, RANDOM_WIDE, made->inputs[0]);
    random_keep(made, RANDOM_WIDE, made->inputs[1]);
    random_keep(made, RANDOM_FIXED, made->inputs[2]);
}

// A window on a value: half of a wide one, left or right, four rows of a fixed one, or all of it.
static inline void random_view(random_graph* made, test_random* random) {
    weir_value view = WEIR_VALUE_NONE;
    const weir_shape same = weir_shape_make(2, (int64_t[]){RANDOM_ROWS, RANDOM_WIDTH});
    const weir_value wide = random_pick(made, RANDOM_WIDE, random);
    switch (random_below(random, 3)) {
    case 0:
        assert_ok(weir_graph_narrow(made->graph, wide, 1,
                                    random_below(random, 2) ? RANDOM_WIDTH / 2 : 0,
                                    RANDOM_WIDTH / 2, &view));
        random_keep(made, RANDOM_SLIM, view);
        break;
    case 1:
        assert_ok(weir_graph_narrow(made->graph, random_pick(made, RANDOM_FIXED, random), 0,
                                    (int64_t)random_below(random, 5), 4, &view));
        random_keep(made, RANDOM_SHORT, view);
        break;
    default:
        assert_ok(weir_graph_reshape(made->graph, wide, &same, &view));
        random_keep(made, RANDOM_WIDE, view);
        break;
    }
    made->views++;
}

static inline void random_elementwise(random_graph* made, random_class kind, test_random* random) {
    const weir_value a = random_pick(made, kind, random);
    const weir_value b = random_pick(made, kind, random);
    const weir_value row = random_below(random, 2) ? made->row : made->half_row;
    const bool has_row = kind != RANDOM_SLIM && random_below(random, 2) != 0;
    weir_value y = WEIR_VALUE_NONE;
    switch (random_below(random, 4)) {
    case 0:
        assert_ok(weir_graph_rms_norm(made->graph, a, 1e-5f, &y));
        break;
    case 1:
        assert_ok(weir_graph_mul(made->graph, a, has_row ? row : b, &y));
        break;
    case 2:
        assert_ok(weir_graph_add(made->graph, a, has_row ? row : b, &y));
        break;
    default:
        assert_ok(weir_graph_silu_gate(made->graph, a, b, &y));
        break;
    }
    random_keep(made, kind, y);
}

static inline void random_matmul(random_graph* made, test_random* random) {
    const weir_value wide = random_pick(made, RANDOM_WIDE, random);
    const bool slim = made->counts[RANDOM_SLIM] > 0;
    weir_value y = WEIR_VALUE_NONE;
    switch (random_below(random, slim ? 4 : 3)) {
    case 0:
        assert_ok(weir_graph_matmul(made->graph, wide, made->square, &y));
        random_keep(made, RANDOM_WIDE, y);
        break;
    case 1:
        assert_ok(weir_graph_matmul(made->graph, wide, made->packed, &y));
        random_keep(made, RANDOM_WIDE, y);
        break;
    case 2:
        assert_ok(weir_graph_matmul(made->graph, wide, made->shrink, &y));
        random_keep(made, RANDOM_SLIM, y);
        break;
    default:
        assert_ok(weir_graph_matmul(made->graph, random_pick(made, RANDOM_SLIM, random),
                                    made->widen, &y));
        random_keep(made, RANDOM_WIDE, y);
        break;
    }
}

static inline void random_split_attention(random_graph* made, weir_value q, uint64_t layer,
                                          const weir_attention_desc* desc, weir_value* y) {
    weir_value scores = WEIR_VALUE_NONE;
    weir_value weights = WEIR_VALUE_NONE;
    assert_ok(weir_graph_attention_scores(made->graph, q, made->states[2 * layer], desc, &scores));
    assert_ok(weir_graph_attention_softmax(made->graph, scores, desc, &weights));
    assert_ok(weir_graph_attention_sum(made->graph, weights, made->states[2 * layer + 1], desc, y));
}

static inline void random_cache(random_graph* made, test_random* random) {
    const weir_value wide = random_pick(made, RANDOM_WIDE, random);
    const uint64_t layer = random_below(random, 2);
    const weir_attention_desc attention = {
        .heads = 4, .kv_heads = 4, .head_dim = RANDOM_WIDTH / 4, .position = made->position};
    const weir_rope_desc rope = {
        .head_dim = RANDOM_WIDTH / 4, .base = 10000.0f, .position = made->position};
    weir_value y = WEIR_VALUE_NONE;
    switch (random_below(random, 3)) {
    case 0:
        assert_ok(weir_graph_set_rows(
            made->graph, wide, made->states[2 * layer + random_below(random, 2)], made->position));
        return;
    case 1:
        if (random_below(random, 2) == 0) {
            random_split_attention(made, wide, layer, &attention, &y);
        } else {
            assert_ok(weir_graph_attention(made->graph, wide, made->states[2 * layer],
                                           made->states[2 * layer + 1], &attention, &y));
        }
        break;
    default:
        assert_ok(weir_graph_rope(made->graph, wide, WEIR_VALUE_NONE, &rope, &y));
        break;
    }
    random_keep(made, RANDOM_WIDE, y);
}

static inline void random_output(random_graph* made, weir_value value) {
    const weir_value_info* info = weir_graph_value_info(made->graph, value);
    if (info->kind == WEIR_VALUE_RESULT && !info->is_output && made->output_count < 8) {
        assert_ok(weir_graph_output(made->graph, value));
        made->outputs[made->output_count++] = value;
    }
}

static inline void random_step(random_graph* made, test_random* random) {
    const uint64_t choice = random_below(random, 10);
    const random_class kind = (random_class)random_below(random, RANDOM_CLASSES);
    if (choice < 2) {
        random_view(made, random);
    } else if (choice < 4) {
        random_matmul(made, random);
    } else if (choice < 6) {
        random_cache(made, random);
    } else {
        random_elementwise(made, made->counts[kind] > 0 ? kind : RANDOM_WIDE, random);
    }
}

// A value in the middle of a pattern that fusion looks for: now and then others may read it too,
// and now and then something comes in between.
static inline weir_value random_middle(random_graph* made, weir_value value, test_random* random) {
    if (random_below(random, 5) == 0) {
        random_keep(made, RANDOM_WIDE, value);
    }
    if (random_below(random, 3) == 0) {
        random_step(made, random);
    }
    return value;
}

static inline weir_value random_product(random_graph* made, weir_value x, test_random* random) {
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_matmul(made->graph, x,
                                random_below(random, 2) ? made->square : made->packed, &y));
    return random_middle(made, y, random);
}

// One of the patterns of weir/fusion.h, or nearly one.
static inline void random_pattern(random_graph* made, test_random* random) {
    const weir_rope_desc rope = {
        .head_dim = RANDOM_WIDTH / 4, .base = 10000.0f, .position = made->position};
    const weir_value a = random_pick(made, RANDOM_WIDE, random);
    const weir_value b = random_pick(made, RANDOM_WIDE, random);
    weir_value x = WEIR_VALUE_NONE;
    weir_value y = WEIR_VALUE_NONE;
    switch (random_below(random, 4)) {
    case 0:
        x = random_product(made, a, random);
        y = random_product(made, random_below(random, 4) ? a : b, random);
        assert_ok(weir_graph_silu_gate(made->graph, x, y, &y));
        break;
    case 1:
        x = random_product(made, a, random);
        assert_ok(random_below(random, 2) ? weir_graph_add(made->graph, x, b, &y)
                                          : weir_graph_add(made->graph, b, x, &y));
        break;
    case 2:
        assert_ok(weir_graph_add(made->graph, a, b, &x));
        x = random_middle(made, x, random);
        assert_ok(weir_graph_rms_norm(made->graph, random_below(random, 3) ? x : a, 1e-5f, &x));
        x = random_middle(made, x, random);
        assert_ok(weir_graph_mul(
            made->graph, x,
            random_below(random, 2) ? made->half_row : random_pick(made, RANDOM_WIDE, random), &y));
        break;
    default:
        assert_ok(weir_graph_rope(made->graph, a, WEIR_VALUE_NONE, &rope, &x));
        x = random_middle(made, x, random);
        assert_ok(weir_graph_set_rows(made->graph, x, made->states[random_below(random, 4)],
                                      made->position));
        return;
    }
    random_keep(made, RANDOM_WIDE, y);
}

static inline random_graph random_graph_build(test_random* random, uint32_t steps,
                                              uint32_t patterns) {
    random_graph made = {0};
    assert_ok(weir_graph_create(NULL, &made.graph));
    random_leaves(&made);
    for (uint32_t i = 0; i < steps; i++) {
        random_step(&made, random);
    }
    for (uint32_t i = 0; i < patterns; i++) {
        random_pattern(&made, random);
    }
    random_elementwise(&made, RANDOM_WIDE, random); // one operation at least
    for (uint32_t kind = 0; kind < RANDOM_CLASSES; kind++) {
        for (uint32_t k = 0; k < 2 && made.counts[kind] > 0; k++) {
            random_output(&made, k == 0 ? made.pools[kind][made.counts[kind] - 1]
                                        : random_pick(&made, (random_class)kind, random));
        }
    }
    return made;
}

// Makes a graph of some `steps` operations and views; the caller destroys made.graph.
static inline random_graph random_graph_make(test_random* random, uint32_t steps) {
    return random_graph_build(random, steps, 0);
}

#endif
