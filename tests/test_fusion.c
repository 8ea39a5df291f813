// Fusion: which operations become one dispatch, where it stands, and what keeps them apart.
#include "testing.h"

#include <weir/explain.h>

#include "schedule/schedule.h"

#define ROWS 4
#define WIDTH 32

typedef struct fixture {
    weir_graph* graph;
    weir_target target; // the CPU's
    weir_param position;
    weir_value x, z;         // inputs F32 [4, 32]
    weir_value w, v;         // weights F32 [32, 32]
    weir_value gain;         // weight F32 [32]
    weir_value cache, other; // states F32 [16, 32]
} fixture;

static int make_graph(void** state) {
    static fixture f;
    const weir_shape shape = weir_shape_make(2, (int64_t[]){ROWS, WIDTH});
    const weir_shape square = weir_shape_make(2, (int64_t[]){WIDTH, WIDTH});
    const weir_shape row = weir_shape_make(1, (int64_t[]){WIDTH});
    const weir_shape cache = weir_shape_make(2, (int64_t[]){16, WIDTH});
    const weir_dtype f32 = WEIR_DTYPE_F32;
    assert_ok(weir_target_find("cpu:plain", &f.target));
    assert_ok(weir_graph_create(NULL, &f.graph));
    assert_ok(weir_graph_param(f.graph, "position", 0, 3, &f.position));
    assert_ok(weir_graph_input(f.graph, "x", f32, &shape, WEIR_PARAM_NONE, &f.x));
    assert_ok(weir_graph_input(f.graph, "z", f32, &shape, WEIR_PARAM_NONE, &f.z));
    assert_ok(weir_graph_weight(f.graph, "w", f32, &square, &f.w));
    assert_ok(weir_graph_weight(f.graph, "v", f32, &square, &f.v));
    assert_ok(weir_graph_weight(f.graph, "gain", f32, &row, &f.gain));
    assert_ok(weir_graph_state(f.graph, "cache", f32, &cache, &f.cache));
    assert_ok(weir_graph_state(f.graph, "other", f32, &cache, &f.other));
    *state = &f;
    return 0;
}

static int drop_graph(void** state) {
    weir_graph_destroy(((fixture*)*state)->graph);
    return 0;
}

static weir_value matmul(const fixture* f, weir_value x, weir_value w) {
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_matmul(f->graph, x, w, &y));
    return y;
}

static weir_value add(const fixture* f, weir_value a, weir_value b) {
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_add(f->graph, a, b, &y));
    return y;
}

static weir_value mul(const fixture* f, weir_value a, weir_value b) {
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_mul(f->graph, a, b, &y));
    return y;
}

static weir_value norm(const fixture* f, weir_value x) {
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_rms_norm(f->graph, x, 1e-5f, &y));
    return y;
}

static weir_value gate(const fixture* f, weir_value a, weir_value b) {
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_silu_gate(f->graph, a, b, &y));
    return y;
}

static weir_value rope(const fixture* f, weir_value x) {
    const weir_rope_desc desc = {.head_dim = 8, .base = 10000.0f, .position = f->position};
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_rope(f->graph, x, WEIR_VALUE_NONE, &desc, &y));
    return y;
}

static void store(const fixture* f, weir_value x, weir_value state) {
    assert_ok(weir_graph_set_rows(f->graph, x, state, f->position));
}

static weir_value narrow(const fixture* f, weir_value x, int64_t start, int64_t length) {
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_narrow(f->graph, x, 0, start, length, &y));
    return y;
}

static weir_schedule* schedule_without(const fixture* f, uint32_t without) {
    const weir_schedule_options options = {.without_fusions = without};
    weir_schedule* schedule = NULL;
    assert_ok(weir_schedule_create(NULL, f->graph, &f->target, &options, &schedule));
    assert_ok(weir_schedule_check(schedule));
    return schedule;
}

static weir_schedule* schedule_of(const fixture* f) {
    return schedule_without(f, 0);
}

static weir_dispatch_info info_of(const weir_schedule* schedule, uint32_t dispatch) {
    weir_dispatch_info info;
    assert_ok(weir_schedule_dispatch(schedule, dispatch, &info));
    return info;
}

static uint64_t bytes_of(const weir_schedule* schedule, weir_value value) {
    weir_placement place;
    assert_ok(weir_schedule_place(schedule, value, &place));
    return place.byte_size;
}

// The dispatches are exactly these operations.
static void assert_ops(const weir_schedule* schedule, size_t count, const weir_op_kind* ops) {
    uint32_t fused = 0;
    assert_int_equal(weir_schedule_report_of(schedule)->dispatches, count);
    for (uint32_t i = 0; i < count; i++) {
        const weir_dispatch_info info = info_of(schedule, i);
        assert_string_equal(weir_op_name(info.op), weir_op_name(ops[i]));
        assert_int_equal(info.kernel->op, info.op);
        fused += info.source_count > 1 ? 1 : 0;
    }
    for (uint32_t i = 0; i < WEIR_FUSION_COUNT; i++) {
        fused -= weir_schedule_report_of(schedule)->fusions[i];
    }
    assert_int_equal(fused, 0);
}

#define has_ops(schedule, ...)                                                                     \
    assert_ops((schedule), sizeof((weir_op_kind[]){__VA_ARGS__}) / sizeof(weir_op_kind),           \
               (weir_op_kind[]){__VA_ARGS__})

// Makes the schedule of the graph, which has to have these dispatches, and drops it.
#define expect_ops(f, ...)                                                                         \
    do {                                                                                           \
        weir_schedule* made = schedule_of(f);                                                      \
        has_ops(made, __VA_ARGS__);                                                                \
        weir_schedule_destroy(made);                                                               \
    } while (0)

static void rewrites_have_operations(void** state) {
    (void)state;
    assert_string_equal(weir_op_name(weir_fusion_op(WEIR_FUSION_GATE_UP)), "gate_up");
    assert_string_equal(weir_op_name(weir_fusion_op(WEIR_FUSION_ROPE_SET_ROWS)), "rope_set_rows");
    assert_int_equal(weir_fusion_op(WEIR_FUSION_COUNT), WEIR_OP_COUNT);
    assert_string_equal(weir_op_name(weir_fusion_op(WEIR_FUSION_RMS_NORM_MATMUL)),
                        "rms_norm_matmul");
    assert_int_equal(WEIR_FUSION_ALL, 511);
}

static void a_gated_pair_of_products_is_one_dispatch(void** state) {
    const fixture* f = *state;
    const weir_value up = matmul(f, f->x, f->v); // in either order
    const weir_value gated = matmul(f, f->x, f->w);
    const weir_value y = gate(f, gated, up);
    assert_ok(weir_graph_name(f->graph, y, "inner"));
    weir_schedule* schedule = schedule_of(f);
    has_ops(schedule, WEIR_OP_GATE_UP);
    const weir_dispatch_info info = info_of(schedule, 0);
    assert_string_equal(info.name, "matmul + matmul + silu_gate inner");
    assert_int_equal(info.source_count, 3);
    assert_string_equal(info.sources[0].name, "matmul v");
    assert_string_equal(info.sources[1].name, "matmul w");
    assert_string_equal(info.sources[2].name, "silu_gate inner");
    assert_int_equal(info.sources[2].op, WEIR_OP_SILU_GATE);
    const schedule_operand* operands = schedule->operands.items;
    assert_int_equal(schedule->dispatches.items[0].operand_count, 4);
    assert_int_equal(operands[0].value, f->x);
    assert_int_equal(operands[1].value, f->w); // the gate
    assert_int_equal(operands[2].value, f->v);
    assert_int_equal(operands[3].value, y);
    assert_int_equal(bytes_of(schedule, up), 0);
    assert_int_equal(bytes_of(schedule, gated), 0);
    assert_int_equal(weir_schedule_report_of(schedule)->ops, 3);
    assert_int_equal(weir_schedule_report_of(schedule)->output_bytes, 0);
    weir_schedule_destroy(schedule);
}

static void products_of_two_values_are_not_gated_at_once(void** state) {
    const fixture* f = *state;
    gate(f, matmul(f, f->x, f->w), matmul(f, f->z, f->v));
    const weir_value p = matmul(f, f->x, f->w);
    gate(f, p, p);
    expect_ops(f, WEIR_OP_MATMUL, WEIR_OP_MATMUL, WEIR_OP_SILU_GATE, WEIR_OP_MATMUL,
               WEIR_OP_SILU_GATE);
}

static void a_product_and_a_sum_are_one_dispatch_on_the_bytes_of_the_addend(void** state) {
    const fixture* f = *state;
    const weir_value first = add(f, matmul(f, f->x, f->w), f->gain); // a row for all
    const weir_value second = add(f, first, matmul(f, f->x, f->v));
    matmul(f, second, f->w);
    weir_schedule* schedule = schedule_of(f);
    has_ops(schedule, WEIR_OP_MATMUL_ADD, WEIR_OP_MATMUL_ADD, WEIR_OP_MATMUL);
    weir_sharing sharing;
    assert_ok(weir_schedule_sharing(schedule, first, second, &sharing));
    assert_true(sharing.shares && sharing.in_place);
    assert_int_equal(schedule->operands.items[6].value, first);
    weir_schedule_destroy(schedule);
}

// The later product of two takes the sum; the other is read by it.
static void a_sum_of_two_products_takes_one_of_them(void** state) {
    const fixture* f = *state;
    const weir_value a = matmul(f, f->x, f->w);
    add(f, a, matmul(f, f->z, f->v));
    weir_schedule* schedule = schedule_of(f);
    has_ops(schedule, WEIR_OP_MATMUL, WEIR_OP_MATMUL_ADD);
    assert_int_equal(info_of(schedule, 1).predecessor_count, 1);
    weir_schedule_destroy(schedule);
}

static void a_norm_and_its_weight_are_one_dispatch(void** state) {
    const fixture* f = *state;
    mul(f, norm(f, f->x), f->gain);
    mul(f, f->z, norm(f, f->x)); // a matrix, and on the other side
    expect_ops(f, WEIR_OP_RMS_NORM_MUL, WEIR_OP_RMS_NORM_MUL);
}

static void a_value_that_others_read_stays(void** state) {
    const fixture* f = *state;
    const weir_value n = norm(f, f->x);
    mul(f, n, f->gain);
    gate(f, n, f->z);
    const weir_value m = norm(f, f->x);
    mul(f, m, m);
    const weir_value p = matmul(f, f->x, f->w);
    add(f, p, p);
    expect_ops(f, WEIR_OP_RMS_NORM, WEIR_OP_MUL, WEIR_OP_SILU_GATE, WEIR_OP_RMS_NORM, WEIR_OP_MUL,
               WEIR_OP_MATMUL, WEIR_OP_ADD);
}

static void an_output_in_between_stays(void** state) {
    const fixture* f = *state;
    const weir_value n = norm(f, f->x);
    mul(f, n, f->gain);
    const weir_value p = matmul(f, f->x, f->w);
    add(f, f->z, p);
    const weir_value turned = rope(f, f->x);
    store(f, turned, f->cache);
    assert_ok(weir_graph_output(f->graph, n));
    assert_ok(weir_graph_output(f->graph, p));
    assert_ok(weir_graph_output(f->graph, turned));
    expect_ops(f, WEIR_OP_RMS_NORM, WEIR_OP_MUL, WEIR_OP_MATMUL, WEIR_OP_ADD, WEIR_OP_ROPE,
               WEIR_OP_SET_ROWS);
}

static void only_a_window_on_all_of_a_value_is_that_value(void** state) {
    const fixture* f = *state;
    const weir_shape same = weir_shape_make(2, (int64_t[]){ROWS, WIDTH});
    weir_value whole = WEIR_VALUE_NONE;
    assert_ok(weir_graph_reshape(f->graph, norm(f, f->x), &same, &whole));
    mul(f, whole, f->gain);
    mul(f, narrow(f, norm(f, f->x), 1, 2), f->gain);
    store(f, narrow(f, rope(f, f->x), 0, 3), f->cache);
    expect_ops(f, WEIR_OP_RMS_NORM_MUL, WEIR_OP_RMS_NORM, WEIR_OP_MUL, WEIR_OP_ROPE,
               WEIR_OP_SET_ROWS);
}

static void a_sum_that_others_read_is_a_result_too(void** state) {
    const fixture* f = *state;
    const weir_value sum = add(f, f->x, f->z);
    const weir_value y = mul(f, norm(f, sum), f->gain);
    const weir_value last = add(f, y, sum);
    weir_schedule* schedule = schedule_of(f);
    has_ops(schedule, WEIR_OP_ADD_RMS_NORM_MUL, WEIR_OP_ADD);
    const schedule_dispatch* first = &schedule->dispatches.items[0];
    assert_int_equal(first->operand_count, 5);
    assert_int_equal(schedule->operands.items[first->operand_begin + 3].value, sum);
    assert_int_equal(schedule->operands.items[first->operand_begin + 3].kind, WEIR_ACCESS_WRITE);
    assert_int_equal(schedule->operands.items[first->operand_begin + 4].value, y);
    assert_int_equal(bytes_of(schedule, sum), ROWS * WIDTH * 4);
    weir_why why;
    assert_ok(weir_why_find(NULL, schedule, 0, 1, &why));
    bool of_sum = false;
    for (uint32_t i = 0; i < why.reason_count; i++) {
        of_sum |= why.reasons[i].kind == WEIR_HAZARD_RAW && why.reasons[i].later_value == sum;
    }
    assert_true(of_sum);
    weir_why_free(&why);
    weir_schedule_destroy(schedule);
    assert_ok(weir_graph_output(f->graph, last));
}

static void a_sum_that_is_an_output_is_a_result_too(void** state) {
    const fixture* f = *state;
    const weir_value sum = add(f, f->x, f->z);
    mul(f, norm(f, sum), f->gain);
    assert_ok(weir_graph_output(f->graph, sum));
    weir_schedule* schedule = schedule_of(f);
    has_ops(schedule, WEIR_OP_ADD_RMS_NORM_MUL);
    weir_placement place;
    assert_ok(weir_schedule_place(schedule, sum, &place));
    assert_int_equal(place.region, WEIR_REGION_OUTPUT);
    weir_schedule_destroy(schedule);
}

static void a_sum_that_nobody_else_reads_takes_no_bytes(void** state) {
    const fixture* f = *state;
    const weir_value sum = add(f, f->x, f->z);
    mul(f, norm(f, sum), f->gain);
    weir_schedule* schedule = schedule_of(f);
    has_ops(schedule, WEIR_OP_ADD_RMS_NORM_MUL);
    assert_int_equal(schedule->dispatches.items[0].operand_count, 4);
    assert_int_equal(bytes_of(schedule, sum), 0);
    weir_schedule_destroy(schedule);
}

static void the_sum_lies_on_an_operand_that_is_read_for_the_last_time(void** state) {
    const fixture* f = *state;
    const weir_value stream = matmul(f, f->x, f->w);
    const weir_value sum = add(f, stream, f->z);
    const weir_value y = mul(f, norm(f, sum), f->gain);
    matmul(f, y, f->w);
    gate(f, sum, f->z);
    weir_schedule* schedule = schedule_without(f, WEIR_FUSION_BIT(WEIR_FUSION_MATMUL_ADD));
    has_ops(schedule, WEIR_OP_MATMUL, WEIR_OP_ADD_RMS_NORM_MUL, WEIR_OP_MATMUL, WEIR_OP_SILU_GATE);
    weir_sharing sharing;
    assert_ok(weir_schedule_sharing(schedule, stream, sum, &sharing));
    assert_true(sharing.shares && sharing.in_place);
    weir_schedule_destroy(schedule);
}

// The fused operation moves up before what reads the sum in between.
static void readers_of_the_sum_come_after_it(void** state) {
    const fixture* f = *state;
    const weir_value sum = add(f, f->x, f->z);
    const weir_value n = norm(f, sum);
    matmul(f, sum, f->w);
    mul(f, n, f->gain);
    expect_ops(f, WEIR_OP_ADD_RMS_NORM_MUL, WEIR_OP_MATMUL);
}

// The factor is made of the sum: there is no place for a dispatch that makes the one and reads the
// other.
static void a_factor_made_of_the_sum_keeps_the_sum_apart(void** state) {
    const fixture* f = *state;
    const weir_value sum = add(f, f->x, f->z);
    const weir_value n = norm(f, sum);
    mul(f, n, matmul(f, sum, f->w));
    mul(f, norm(f, add(f, f->x, f->z)), f->gain);
    const weir_value again = add(f, f->x, f->z);
    mul(f, norm(f, again), again);
    expect_ops(f, WEIR_OP_ADD, WEIR_OP_MATMUL, WEIR_OP_RMS_NORM_MUL, WEIR_OP_ADD_RMS_NORM_MUL,
               WEIR_OP_ADD, WEIR_OP_RMS_NORM_MUL);
}

static void rows_are_turned_into_a_state(void** state) {
    const fixture* f = *state;
    store(f, rope(f, f->x), f->cache);
    store(f, rope(f, f->x), narrow(f, f->cache, 8, 8));
    weir_schedule* schedule = schedule_of(f);
    has_ops(schedule, WEIR_OP_ROPE_SET_ROWS, WEIR_OP_ROPE_SET_ROWS);
    assert_string_equal(info_of(schedule, 0).name, "rope + set_rows cache");
    const schedule_operand* written = &schedule->operands.items[1];
    // Rows 0 .. 3 + 4: what the bounds of the position allow, not the whole cache.
    assert_int_equal(written->extent.byte_length, 7 * WIDTH * 4);
    assert_int_equal(info_of(schedule, 1).predecessor_count, 0);
    weir_schedule_destroy(schedule);
}

static void rows_of_a_state_are_not_turned_into_the_same_one(void** state) {
    const fixture* f = *state;
    store(f, rope(f, narrow(f, f->cache, 8, 4)), f->cache);
    store(f, rope(f, narrow(f, f->cache, 8, 4)), f->other);
    expect_ops(f, WEIR_OP_ROPE, WEIR_OP_SET_ROWS, WEIR_OP_ROPE_SET_ROWS);
}

// A product of rows of a state is not moved past a write to that state, in either direction.
static void reads_and_writes_of_a_state_keep_their_order(void** state) {
    const fixture* f = *state;
    const weir_value early = matmul(f, narrow(f, f->cache, 0, 4), f->w);
    store(f, f->x, f->cache);
    add(f, f->z, early); // at the place of the product
    const weir_value held = matmul(f, narrow(f, f->cache, 0, 4), f->w);
    store(f, f->z, f->cache);
    const weir_value late = norm(f, narrow(f, f->cache, 4, 4));
    add(f, late, held); // nowhere
    expect_ops(f, WEIR_OP_MATMUL_ADD, WEIR_OP_SET_ROWS, WEIR_OP_MATMUL, WEIR_OP_SET_ROWS,
               WEIR_OP_RMS_NORM, WEIR_OP_ADD);
}

static void turned_rows_are_not_stored_later_than_they_were_read(void** state) {
    const fixture* f = *state;
    const weir_value turned = rope(f, narrow(f, f->other, 0, 4));
    store(f, f->x, f->other);
    store(f, turned, f->cache);
    expect_ops(f, WEIR_OP_ROPE, WEIR_OP_SET_ROWS, WEIR_OP_SET_ROWS);
}

// add(x, matmul): both rewrites want the sum; the product has it, unless it may not.
static void the_first_rewrite_of_the_list_takes_what_two_want(void** state) {
    const fixture* f = *state;
    const weir_value sum = add(f, f->z, matmul(f, f->x, f->w));
    mul(f, norm(f, sum), f->gain);
    weir_schedule* schedule = schedule_of(f);
    has_ops(schedule, WEIR_OP_MATMUL_ADD, WEIR_OP_RMS_NORM_MUL);
    weir_schedule_destroy(schedule);
    schedule = schedule_without(f, WEIR_FUSION_BIT(WEIR_FUSION_MATMUL_ADD));
    has_ops(schedule, WEIR_OP_MATMUL, WEIR_OP_ADD_RMS_NORM_MUL);
    weir_schedule_destroy(schedule);
}

static void the_mask_takes_out_each_rewrite(void** state) {
    const fixture* f = *state;
    gate(f, matmul(f, f->x, f->w), matmul(f, f->x, f->v));
    add(f, matmul(f, f->x, f->w), f->z);
    mul(f, norm(f, add(f, f->x, f->z)), f->gain);
    mul(f, norm(f, f->x), f->gain);
    store(f, rope(f, f->x), f->cache);
    for (uint32_t without = 0; without <= WEIR_FUSION_ALL; without++) {
        weir_schedule* schedule = schedule_without(f, without);
        const weir_schedule_report* report = weir_schedule_report_of(schedule);
        const bool sum_alone = without >> WEIR_FUSION_ADD_RMS_NORM_MUL & 1;
        for (uint32_t i = 0; i < WEIR_FUSION_COUNT; i++) {
            const bool has_kernel = weir_fusion_op((weir_fusion)i) < WEIR_OP_RMS_NORM_MATMUL;
            const uint32_t found = i == WEIR_FUSION_RMS_NORM_MUL && sum_alone ? 2 : has_kernel;
            assert_int_equal(report->fusions[i], without >> i & 1 ? 0 : found);
        }
        assert_int_equal(report->ops, 12);
        weir_schedule_destroy(schedule);
    }
    weir_schedule* schedule = schedule_without(f, WEIR_FUSION_ALL);
    assert_int_equal(weir_schedule_report_of(schedule)->dispatches, 12);
    weir_schedule_destroy(schedule);
}

static bool accepts_nothing(const weir_kernel_use* use) {
    (void)use;
    return false;
}

static void a_target_without_the_kernel_keeps_the_operations(void** state) {
    fixture* f = *state;
    weir_kernel kernels[WEIR_OP_COUNT];
    const weir_target cpu = f->target;
    gate(f, matmul(f, f->x, f->w), matmul(f, f->x, f->v));
    mul(f, norm(f, add(f, f->x, f->z)), f->gain);
    memcpy(kernels, cpu.kernels, cpu.kernel_count * sizeof kernels[0]);
    assert_in_range(cpu.kernel_count, WEIR_OP_SET_ROWS, WEIR_OP_COUNT);
    for (uint32_t i = 0; i < cpu.kernel_count; i++) {
        if (kernels[i].op == WEIR_OP_GATE_UP) {
            kernels[i] = kernels[0]; // not there
        } else if (kernels[i].op == WEIR_OP_ADD_RMS_NORM_MUL) {
            kernels[i].accepts = accepts_nothing; // there, for other operands
        }
    }
    f->target.kernels = kernels;
    expect_ops(f, WEIR_OP_MATMUL, WEIR_OP_MATMUL, WEIR_OP_SILU_GATE, WEIR_OP_ADD,
               WEIR_OP_RMS_NORM_MUL);
    f->target = cpu;
}

// Of the products with a norm in them: f32 factors, one row for all rows.
static bool accepts_row_of_factors(const weir_kernel_use* use) {
    const weir_view* factors = &use->operands[use->operand_count - 2];
    return factors->shape.rank == 1 && factors->dtype == WEIR_DTYPE_F32;
}

static bool accepts_all(const weir_kernel_use* use) {
    (void)use;
    return true;
}

// The CPU's target with kernels for products with a norm in them; returns that of the CPU.
static weir_target add_norm_kernels(fixture* f) {
    static weir_kernel kernels[WEIR_OP_COUNT + 2];
    const weir_target cpu = f->target;
    uint32_t count = cpu.kernel_count;
    memcpy(kernels, cpu.kernels, count * sizeof kernels[0]);
    for (uint32_t i = 0; i < cpu.kernel_count; i++) {
        const weir_op_kind op = kernels[i].op;
        if (op == WEIR_OP_MATMUL || op == WEIR_OP_GATE_UP) {
            kernels[count] = kernels[i];
            kernels[count].op =
                op == WEIR_OP_MATMUL ? WEIR_OP_RMS_NORM_MATMUL : WEIR_OP_RMS_NORM_GATE_UP;
            kernels[count++].accepts = accepts_row_of_factors;
        }
    }
    f->target.kernels = kernels;
    f->target.kernel_count = count;
    return cpu;
}

static void a_norm_goes_into_all_products_that_read_it(void** state) {
    fixture* f = *state;
    const weir_target cpu = add_norm_kernels(f);
    const weir_value h = mul(f, norm(f, f->x), f->gain);
    const weir_value a = matmul(f, h, f->w);
    const weir_value b = add(f, a, matmul(f, f->z, f->v));
    gate(f, matmul(f, h, f->w), matmul(f, h, f->v));
    mul(f, norm(f, b), f->gain); // nothing reads it
    weir_schedule* schedule = schedule_of(f);
    has_ops(schedule, WEIR_OP_RMS_NORM_MATMUL, WEIR_OP_MATMUL_ADD, WEIR_OP_RMS_NORM_GATE_UP,
            WEIR_OP_RMS_NORM_MUL);
    const weir_dispatch_info first = info_of(schedule, 0);
    const weir_dispatch_info gated = info_of(schedule, 2);
    assert_int_equal(first.source_count, 3);
    assert_string_equal(first.name, "rms_norm + mul + matmul gain");
    assert_int_equal(gated.source_count, 5);
    const weir_schedule_report* report = weir_schedule_report_of(schedule);
    assert_int_equal(report->fusions[WEIR_FUSION_RMS_NORM_MATMUL], 1);
    assert_int_equal(report->fusions[WEIR_FUSION_RMS_NORM_GATE_UP], 1);
    assert_int_equal(report->fusions[WEIR_FUSION_GATE_UP], 0);
    assert_int_equal(report->fusions[WEIR_FUSION_RMS_NORM_MUL], 1);
    assert_int_equal(bytes_of(schedule, h), 0);
    weir_schedule_destroy(schedule);
    f->target = cpu;
}

// With the norm's only product as it stands in a model, `without` each of the two rewrites.
static void the_mask_takes_out_norms_in_products(void** state) {
    fixture* f = *state;
    const weir_target cpu = add_norm_kernels(f);
    matmul(f, mul(f, norm(f, f->x), f->gain), f->w);
    const weir_value h = mul(f, norm(f, f->z), f->gain);
    gate(f, matmul(f, h, f->w), matmul(f, h, f->v));
    weir_schedule* schedule = schedule_without(f, WEIR_FUSION_BIT(WEIR_FUSION_RMS_NORM_MATMUL));
    has_ops(schedule, WEIR_OP_RMS_NORM_MUL, WEIR_OP_MATMUL, WEIR_OP_RMS_NORM_GATE_UP);
    weir_schedule_destroy(schedule);
    schedule = schedule_without(f, WEIR_FUSION_BIT(WEIR_FUSION_RMS_NORM_GATE_UP));
    has_ops(schedule, WEIR_OP_RMS_NORM_MATMUL, WEIR_OP_RMS_NORM_MUL, WEIR_OP_GATE_UP);
    weir_schedule_destroy(schedule);
    f->target = cpu;
}

static void a_norm_that_anything_else_reads_stays(void** state) {
    fixture* f = *state;
    const weir_target cpu = add_norm_kernels(f);
    weir_value h = mul(f, norm(f, f->x), f->gain); // read by a sum too
    matmul(f, h, f->w);
    add(f, h, f->z);
    h = mul(f, norm(f, f->x), f->gain); // read by the caller
    matmul(f, h, f->w);
    assert_ok(weir_graph_output(f->graph, h));
    h = mul(f, norm(f, f->x), f->gain); // some rows of it
    matmul(f, narrow(f, h, 0, 2), f->w);
    h = mul(f, norm(f, f->x), f->gain); // as the weights
    matmul(f, f->z, h);
    h = mul(f, norm(f, f->x), f->gain); // as both
    matmul(f, h, h);
    h = mul(f, norm(f, f->x), f->z); // factors for each row, which no kernel takes
    matmul(f, h, f->w);
    expect_ops(f, WEIR_OP_RMS_NORM_MUL, WEIR_OP_MATMUL, WEIR_OP_ADD, WEIR_OP_RMS_NORM_MUL,
               WEIR_OP_MATMUL, WEIR_OP_RMS_NORM_MUL, WEIR_OP_MATMUL, WEIR_OP_RMS_NORM_MUL,
               WEIR_OP_MATMUL, WEIR_OP_RMS_NORM_MUL, WEIR_OP_MATMUL, WEIR_OP_RMS_NORM_MUL,
               WEIR_OP_MATMUL);
    f->target = cpu;
}

// A product behind a write to the state that the norm reads would read the new rows.
static void a_norm_of_a_state_that_is_written_stays(void** state) {
    fixture* f = *state;
    const weir_target cpu = add_norm_kernels(f);
    weir_value h = mul(f, norm(f, f->cache), f->gain);
    store(f, f->x, f->other); // another state
    matmul(f, h, f->w);
    h = mul(f, norm(f, f->cache), f->gain);
    matmul(f, h, f->w);
    store(f, f->x, f->cache);
    matmul(f, h, f->v);
    expect_ops(f, WEIR_OP_SET_ROWS, WEIR_OP_RMS_NORM_MATMUL, WEIR_OP_RMS_NORM_MUL, WEIR_OP_MATMUL,
               WEIR_OP_SET_ROWS, WEIR_OP_MATMUL);
    f->target = cpu;
}

// The same with kernels for products that turn or store what they make.
static weir_target add_projection_kernels(fixture* f) {
    static weir_kernel kernels[WEIR_OP_COUNT + 2];
    const weir_target cpu = add_norm_kernels(f);
    const uint32_t count = f->target.kernel_count;
    memcpy(kernels, f->target.kernels, count * sizeof kernels[0]);
    for (uint32_t i = 0; i < 2; i++) {
        kernels[count + i] = kernels[0];
        kernels[count + i].op = i == 0 ? WEIR_OP_MATMUL_SET_ROWS : WEIR_OP_MATMUL_ROPE;
        kernels[count + i].accepts = accepts_all;
    }
    f->target.kernels = kernels;
    f->target.kernel_count = count + 2;
    return cpu;
}

static void products_turn_and_store_what_they_make(void** state) {
    fixture* f = *state;
    const weir_target cpu = add_projection_kernels(f);
    const weir_value h = mul(f, norm(f, f->x), f->gain);
    rope(f, matmul(f, h, f->w));
    store(f, rope(f, matmul(f, h, f->v)), f->cache);
    store(f, matmul(f, h, f->w), f->other);
    store(f, rope(f, f->z), f->cache);
    weir_schedule* schedule = schedule_of(f);
    has_ops(schedule, WEIR_OP_MATMUL_ROPE, WEIR_OP_MATMUL_SET_ROWS, WEIR_OP_MATMUL_SET_ROWS,
            WEIR_OP_ROPE_SET_ROWS);
    const weir_dispatch_info keys = info_of(schedule, 1);
    assert_int_equal(keys.source_count, 5);
    assert_string_equal(keys.name, "rms_norm + mul + matmul + rope + set_rows cache");
    const weir_schedule_report* report = weir_schedule_report_of(schedule);
    assert_int_equal(report->fusions[WEIR_FUSION_MATMUL_ROPE], 1);
    assert_int_equal(report->fusions[WEIR_FUSION_MATMUL_SET_ROWS], 2);
    assert_int_equal(report->fusions[WEIR_FUSION_RMS_NORM_MATMUL], 0);
    assert_int_equal(report->waits, 1); // keys behind keys
    weir_schedule_destroy(schedule);
    schedule = schedule_without(f, WEIR_FUSION_BIT(WEIR_FUSION_MATMUL_SET_ROWS) |
                                       WEIR_FUSION_BIT(WEIR_FUSION_MATMUL_ROPE));
    has_ops(schedule, WEIR_OP_RMS_NORM_MATMUL, WEIR_OP_ROPE, WEIR_OP_RMS_NORM_MATMUL,
            WEIR_OP_ROPE_SET_ROWS, WEIR_OP_RMS_NORM_MATMUL, WEIR_OP_SET_ROWS,
            WEIR_OP_ROPE_SET_ROWS);
    weir_schedule_destroy(schedule);
    f->target = cpu;
}

// What the caller or another operation reads must be there; and what is read must not be what is
// being written.
static void products_that_others_read_are_not_turned(void** state) {
    fixture* f = *state;
    const weir_target cpu = add_projection_kernels(f);
    weir_value y = matmul(f, f->x, f->w);
    store(f, y, f->cache);
    assert_ok(weir_graph_output(f->graph, y));
    y = matmul(f, f->x, f->v);
    rope(f, y);
    store(f, y, f->other);
    store(f, matmul(f, narrow(f, f->cache, 0, ROWS), f->w), f->cache);
    const weir_value h = mul(f, norm(f, narrow(f, f->cache, 0, ROWS)), f->gain);
    store(f, matmul(f, h, f->w), f->cache);
    expect_ops(f, WEIR_OP_MATMUL, WEIR_OP_SET_ROWS, WEIR_OP_MATMUL, WEIR_OP_ROPE, WEIR_OP_SET_ROWS,
               WEIR_OP_MATMUL, WEIR_OP_SET_ROWS, WEIR_OP_RMS_NORM_MUL, WEIR_OP_MATMUL_SET_ROWS);
    f->target = cpu;
}

static void groups_and_every_reuse_are_proven_too(void** state) {
    fixture* f = *state;
    weir_value stream = f->x;
    for (int layer = 0; layer < 3; layer++) {
        const weir_value h = mul(f, norm(f, stream), f->gain);
        store(f, rope(f, matmul(f, h, f->w)), f->cache);
        stream = add(f, stream, matmul(f, gate(f, matmul(f, h, f->w), matmul(f, h, f->v)), f->w));
        stream = add(f, stream, f->z);
    }
    assert_ok(weir_graph_output(f->graph, stream));
    for (uint32_t mode = 0; mode < 6; mode++) {
        const weir_schedule_options options = {.reuse = (weir_reuse)(mode / 2)};
        weir_schedule* schedule = NULL;
        f->target.waits = mode % 2 ? WEIR_WAIT_GROUPS : WEIR_WAIT_EDGES;
        assert_ok(weir_schedule_create(NULL, f->graph, &f->target, &options, &schedule));
        assert_ok(weir_schedule_check(schedule));
        assert_int_equal(schedule->report.fusions[WEIR_FUSION_GATE_UP], 3);
        assert_int_equal(schedule->report.fusions[WEIR_FUSION_ADD_RMS_NORM_MUL], 2);
        weir_schedule_destroy(schedule);
    }
    f->target.waits = WEIR_WAIT_EDGES;
}

#define with_graph(test) cmocka_unit_test_setup_teardown(test, make_graph, drop_graph)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rewrites_have_operations),
        with_graph(a_gated_pair_of_products_is_one_dispatch),
        with_graph(products_of_two_values_are_not_gated_at_once),
        with_graph(a_product_and_a_sum_are_one_dispatch_on_the_bytes_of_the_addend),
        with_graph(a_sum_of_two_products_takes_one_of_them),
        with_graph(a_norm_and_its_weight_are_one_dispatch),
        with_graph(a_value_that_others_read_stays),
        with_graph(an_output_in_between_stays),
        with_graph(only_a_window_on_all_of_a_value_is_that_value),
        with_graph(a_sum_that_others_read_is_a_result_too),
        with_graph(a_sum_that_is_an_output_is_a_result_too),
        with_graph(a_sum_that_nobody_else_reads_takes_no_bytes),
        with_graph(the_sum_lies_on_an_operand_that_is_read_for_the_last_time),
        with_graph(readers_of_the_sum_come_after_it),
        with_graph(a_factor_made_of_the_sum_keeps_the_sum_apart),
        with_graph(rows_are_turned_into_a_state),
        with_graph(rows_of_a_state_are_not_turned_into_the_same_one),
        with_graph(reads_and_writes_of_a_state_keep_their_order),
        with_graph(turned_rows_are_not_stored_later_than_they_were_read),
        with_graph(the_first_rewrite_of_the_list_takes_what_two_want),
        with_graph(the_mask_takes_out_each_rewrite),
        with_graph(a_target_without_the_kernel_keeps_the_operations),
        with_graph(a_norm_goes_into_all_products_that_read_it),
        with_graph(the_mask_takes_out_norms_in_products),
        with_graph(a_norm_that_anything_else_reads_stays),
        with_graph(a_norm_of_a_state_that_is_written_stays),
        with_graph(products_turn_and_store_what_they_make),
        with_graph(products_that_others_read_are_not_turned),
        with_graph(groups_and_every_reuse_are_proven_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
