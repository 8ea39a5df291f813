// Schedules: what waits for what, what shares bytes, and the proof that the two agree.
#include "testing.h"

#include "random_graph.h"
#include "schedule/schedule.h"
#include "testing_allocator.h"

typedef struct fixture {
    weir_graph* graph;
    weir_target target; // the CPU's
    weir_param position;
    weir_value x, z;   // inputs F32 [4, 32]
    weir_value square; // weight F32 [32, 32]
} fixture;

static weir_shape shape2(int64_t a, int64_t b) {
    return weir_shape_make(2, (int64_t[]){a, b});
}

static int make_graph(void** state) {
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

static int drop_graph(void** state) {
    weir_graph_destroy(((fixture*)*state)->graph);
    return 0;
}

static weir_value norm(const fixture* f, weir_value x) {
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_rms_norm(f->graph, x, 1e-5f, &y));
    return y;
}

static weir_value add(const fixture* f, weir_value a, weir_value b) {
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_add(f->graph, a, b, &y));
    return y;
}

static weir_value matmul(const fixture* f, weir_value x) {
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_matmul(f->graph, x, f->square, &y));
    return y;
}

static weir_value narrow(const fixture* f, weir_value value, int64_t start, int64_t length) {
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_narrow(f->graph, value, 0, start, length, &y));
    return y;
}

static weir_value new_state(const fixture* f, const char* name, int64_t rows) {
    const weir_shape shape = shape2(rows, 32);
    weir_value value = WEIR_VALUE_NONE;
    assert_ok(weir_graph_state(f->graph, name, WEIR_DTYPE_F32, &shape, &value));
    return value;
}

static weir_schedule* schedule_with(const weir_graph* graph, const weir_target* target,
                                    weir_schedule_options options) {
    weir_schedule* schedule = NULL;
    assert_ok(weir_schedule_create(NULL, graph, target, &options, &schedule));
    assert_ok(weir_schedule_check(schedule));
    return schedule;
}

static weir_schedule* schedule_of(const fixture* f) {
    return schedule_with(f->graph, &f->target, (weir_schedule_options){0});
}

static weir_dispatch_info info_of(const weir_schedule* schedule, uint32_t dispatch) {
    weir_dispatch_info info;
    assert_ok(weir_schedule_dispatch(schedule, dispatch, &info));
    return info;
}

static weir_placement place_of(const weir_schedule* schedule, weir_value value) {
    weir_placement place;
    assert_ok(weir_schedule_place(schedule, value, &place));
    return place;
}

static void assert_waits_for(const weir_schedule* schedule, uint32_t dispatch, uint32_t count,
                             const uint32_t* expected) {
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

static bool share_bytes(weir_placement a, weir_placement b) {
    return a.region == b.region && a.byte_offset < b.byte_offset + b.byte_size &&
           b.byte_offset < a.byte_offset + a.byte_size;
}

static void independent_operations_have_no_edges(void** state) {
    const fixture* f = *state;
    norm(f, f->x);
    norm(f, f->x);
    matmul(f, f->x);
    add(f, f->x, f->z);
    weir_schedule* schedule = schedule_of(f);
    const weir_schedule_report* report = weir_schedule_report_of(schedule);
    assert_int_equal(report->dispatches, 4);
    assert_int_equal(report->edges, 0);
    assert_int_equal(report->waits, 0);
    assert_int_equal(report->waits_naive, 3);
    assert_int_equal(report->waits_elided, 3);
    for (uint32_t i = 0; i < 4; i++) {
        waits_for_nothing(schedule, i);
        assert_int_equal(info_of(schedule, i).level, 0);
    }
    weir_schedule_destroy(schedule);
}

static void a_chain_waits_step_by_step(void** state) {
    const fixture* f = *state;
    matmul(f, norm(f, matmul(f, norm(f, f->x))));
    weir_schedule* schedule = schedule_of(f);
    const weir_schedule_report* report = weir_schedule_report_of(schedule);
    assert_int_equal(report->edges, 3);
    assert_int_equal(report->waits, 3);
    assert_int_equal(report->waits_elided, 0);
    for (uint32_t i = 1; i < 4; i++) {
        waits_for(schedule, i, i - 1);
        assert_int_equal(info_of(schedule, i).level, i);
    }
    weir_schedule_destroy(schedule);
}

static void edges_that_a_path_implies_are_left_out(void** state) {
    const fixture* f = *state;
    const weir_value a = norm(f, f->x);
    const weir_value b = matmul(f, a);
    const weir_value c = matmul(f, a);
    add(f, add(f, b, c), a);
    weir_schedule* schedule = schedule_of(f);
    waits_for(schedule, 1, 0);
    waits_for(schedule, 2, 0);
    waits_for(schedule, 3, 1, 2);
    waits_for(schedule, 4, 3); // and not 0, whose result it reads too
    assert_int_equal(weir_schedule_report_of(schedule)->edges, 5);
    assert_int_equal(weir_schedule_report_of(schedule)->waits, 3);
    weir_schedule_destroy(schedule);
}

static void dispatches_are_named_after_the_first_named_operand(void** state) {
    const fixture* f = *state;
    const weir_value a = norm(f, f->x);
    const weir_value b = matmul(f, a);
    add(f, b, a);
    assert_ok(weir_graph_name(f->graph, a, "hidden"));
    weir_schedule* schedule = schedule_of(f);
    assert_string_equal(info_of(schedule, 0).name, "rms_norm hidden");
    assert_string_equal(info_of(schedule, 1).name, "matmul square");
    assert_string_equal(info_of(schedule, 2).name, "add hidden");
    assert_int_equal(info_of(schedule, 1).op, WEIR_OP_MATMUL);
    assert_int_equal(info_of(schedule, 1).kernel->op, WEIR_OP_MATMUL);
    weir_dispatch_info info;
    weir_placement place;
    assert_status(weir_schedule_dispatch(schedule, 3, &info), WEIR_NOT_FOUND);
    assert_status(weir_schedule_place(schedule, 99, &place), WEIR_NOT_FOUND);
    assert_null(weir_schedule_value(schedule, 99));
    assert_string_equal(weir_schedule_value(schedule, a)->name, "hidden");
    weir_schedule_destroy(schedule);
    weir_schedule_destroy(NULL);
}

static void a_graph_without_operations_is_refused(void** state) {
    const fixture* f = *state;
    weir_schedule* schedule = NULL;
    assert_status(weir_schedule_create(NULL, f->graph, &f->target, NULL, &schedule),
                  WEIR_INVALID_ARGUMENT);
    assert_null(schedule);
}

static void an_operand_over_the_binding_limit_is_refused(void** state) {
    const fixture* f = *state;
    weir_target target = f->target;
    weir_schedule* schedule = NULL;
    norm(f, f->x); // [4, 32] of f32
    target.binding_bytes_max = 511;
    assert_status(weir_schedule_create(NULL, f->graph, &target, NULL, &schedule), WEIR_UNSUPPORTED);
    assert_message_has("rms_norm: operand 0 spans 512 bytes");
    target.binding_bytes_max = 512;
    assert_ok(weir_schedule_create(NULL, f->graph, &target, NULL, &schedule));
    weir_schedule_destroy(schedule);
}

static void a_missing_kernel_is_named_with_its_types(void** state) {
    const fixture* f = *state;
    const weir_shape shape = shape2(64, 32);
    weir_value w = WEIR_VALUE_NONE;
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_weight(f->graph, "w", WEIR_DTYPE_Q8_0, &shape, &w));
    assert_ok(weir_graph_matmul(f->graph, norm(f, f->x), w, &y));
    weir_kernel norms[16];
    weir_target target = f->target;
    target.name = "toy";
    target.kernels = norms;
    target.kernel_count = 0;
    for (uint32_t i = 0; i < f->target.kernel_count; i++) {
        if (f->target.kernels[i].op == WEIR_OP_RMS_NORM) {
            norms[target.kernel_count++] = f->target.kernels[i];
        }
    }
    weir_schedule* schedule = NULL;
    assert_status(weir_schedule_create(NULL, f->graph, &target, NULL, &schedule), WEIR_UNSUPPORTED);
    assert_null(schedule);
    assert_message_has("toy");
    assert_message_has("matmul");
    assert_message_has("F32 [4, 32], Q8_0 [64, 32], F32 [4, 64]");
}

static void sizes_that_pass_63_bits_are_out_of_range(void** state) {
    const fixture* f = *state;
    const weir_shape huge = shape2(INT64_C(1) << 30, INT64_C(1) << 30);
    weir_value values[3];
    for (size_t i = 0; i < 3; i++) {
        assert_ok(
            weir_graph_input(f->graph, "huge", WEIR_DTYPE_F32, &huge, WEIR_PARAM_NONE, &values[i]));
    }
    norm(f, f->x);
    weir_schedule* schedule = NULL;
    assert_status(weir_schedule_create(NULL, f->graph, &f->target, NULL, &schedule),
                  WEIR_OUT_OF_RANGE);
    assert_null(schedule);
}

static void regions_keep_inputs_outputs_weights_and_states_out_of_the_arena(void** state) {
    const fixture* f = *state;
    const weir_value kept = new_state(f, "kept", 8);
    const weir_value a = norm(f, f->x);
    const weir_value b = matmul(f, a);
    const weir_value c = norm(f, b);
    assert_ok(weir_graph_set_rows(f->graph, c, kept, f->position));
    assert_ok(weir_graph_output(f->graph, b));
    assert_ok(weir_graph_output(f->graph, c));
    weir_schedule* schedule = schedule_of(f);
    const weir_schedule_report* report = weir_schedule_report_of(schedule);
    assert_int_equal(place_of(schedule, f->x).region, WEIR_REGION_INPUT);
    assert_int_equal(place_of(schedule, f->square).region, WEIR_REGION_WEIGHT);
    assert_int_equal(place_of(schedule, kept).region, WEIR_REGION_STATE);
    assert_int_equal(place_of(schedule, a).region, WEIR_REGION_ARENA);
    assert_int_equal(place_of(schedule, b).region, WEIR_REGION_OUTPUT);
    assert_int_equal(place_of(schedule, c).region, WEIR_REGION_OUTPUT);
    assert_false(share_bytes(place_of(schedule, b), place_of(schedule, c)));
    assert_int_equal(report->values, 1);
    assert_int_equal(report->in_place, 0);
    assert_int_equal(report->arena_bytes, 4 * 32 * 4);
    assert_int_equal(report->input_bytes, 2 * 4 * 32 * 4);
    assert_int_equal(report->output_bytes, 2 * 4 * 32 * 4);
    assert_int_equal(report->weight_bytes, 32 * 32 * 4);
    assert_int_equal(report->state_bytes, 8 * 32 * 4);
    weir_schedule_destroy(schedule);
}

static void a_view_is_placed_inside_its_root(void** state) {
    const fixture* f = *state;
    const weir_value a = norm(f, f->x);
    const weir_value window = narrow(f, a, 1, 2);
    norm(f, window);
    matmul(f, a);
    weir_schedule* schedule = schedule_of(f);
    const weir_placement root = place_of(schedule, a);
    const weir_placement view = place_of(schedule, window);
    assert_int_equal(view.region, WEIR_REGION_ARENA);
    assert_int_equal(view.byte_offset, root.byte_offset + 128);
    assert_int_equal(view.byte_size, 256);
    weir_schedule_destroy(schedule);
}

// Two branches that share nothing: the serial order reuses the bytes of the first for the second.
static void two_branches(const fixture* f) {
    weir_value y = WEIR_VALUE_NONE;
    y = matmul(f, matmul(f, f->x));
    assert_ok(weir_graph_output(f->graph, y));
    y = matmul(f, matmul(f, f->z));
    assert_ok(weir_graph_output(f->graph, y));
}

static void free_reuse_adds_no_wait_between_branches(void** state) {
    const fixture* f = *state;
    two_branches(f);
    weir_schedule* schedule = schedule_of(f);
    const weir_schedule_report* report = weir_schedule_report_of(schedule);
    assert_int_equal(report->arena_bytes, 1024);
    assert_int_equal(report->bound_bytes, 1024);
    assert_int_equal(report->serial_bytes, 512);
    assert_int_equal(report->edges, 2);
    assert_int_equal(report->residual_edges, 0);
    assert_int_equal(report->waits, 1);
    weir_schedule_destroy(schedule);
}

static void serial_reuse_takes_fewer_bytes_and_counts_the_edges_it_adds(void** state) {
    const fixture* f = *state;
    two_branches(f);
    weir_schedule* schedule =
        schedule_with(f->graph, &f->target, (weir_schedule_options){.reuse = WEIR_REUSE_SERIAL});
    const weir_schedule_report* report = weir_schedule_report_of(schedule);
    assert_int_equal(report->arena_bytes, 512);
    assert_int_equal(report->serial_bytes, 512);
    assert_int_equal(report->edges, 3);
    assert_int_equal(report->residual_edges, 1);
    assert_int_equal(report->waits, 3);
    waits_for(schedule, 2, 1); // the second branch overwrites what 1 reads
    weir_schedule_destroy(schedule);
}

static void without_reuse_every_value_has_bytes_of_its_own(void** state) {
    const fixture* f = *state;
    const weir_shape row = shape2(1, 24);
    weir_value odd = WEIR_VALUE_NONE;
    assert_ok(
        weir_graph_input(f->graph, "odd", WEIR_DTYPE_F32, &row, WEIR_PARAM_NONE, &odd)); // 96 bytes
    norm(f, norm(f, norm(f, odd)));
    norm(f, norm(f, f->x));
    weir_schedule* schedule =
        schedule_with(f->graph, &f->target, (weir_schedule_options){.reuse = WEIR_REUSE_NONE});
    const weir_schedule_report* report = weir_schedule_report_of(schedule);
    assert_int_equal(report->total_bytes, 3 * 96 + 2 * 512);
    assert_in_range(report->arena_bytes, 3 * 96 + 2 * 512, 3 * 128 + 2 * 512);
    assert_int_equal(report->in_place, 0);
    assert_int_equal(report->serial_bytes, 512); // in place, one chain after the other
    weir_schedule_destroy(schedule);
}

static void a_last_reader_writes_in_place(void** state) {
    const fixture* f = *state;
    const weir_value a = matmul(f, f->x);
    const weir_value b = norm(f, a);
    const weir_value c = add(f, b, f->z);
    matmul(f, c);
    weir_schedule* schedule = schedule_of(f);
    const weir_schedule_report* report = weir_schedule_report_of(schedule);
    assert_int_equal(report->in_place, 2);
    assert_int_equal(place_of(schedule, b).byte_offset, place_of(schedule, a).byte_offset);
    assert_int_equal(place_of(schedule, c).byte_offset, place_of(schedule, a).byte_offset);
    assert_int_equal(report->arena_bytes, 1024);
    weir_schedule_destroy(schedule);
    schedule = schedule_with(f->graph, &f->target, (weir_schedule_options){.never_in_place = true});
    assert_int_equal(weir_schedule_report_of(schedule)->in_place, 0);
    assert_false(share_bytes(place_of(schedule, a), place_of(schedule, b)));
    weir_schedule_destroy(schedule);
}

// Expects that neither of the two modes that go in place puts `y` on `x`.
static void assert_apart(const fixture* f, weir_value x, weir_value y) {
    for (weir_reuse reuse = WEIR_REUSE_FREE; reuse <= WEIR_REUSE_SERIAL; reuse++) {
        weir_schedule* schedule =
            schedule_with(f->graph, &f->target, (weir_schedule_options){.reuse = reuse});
        assert_int_equal(weir_schedule_report_of(schedule)->in_place, 0);
        assert_false(share_bytes(place_of(schedule, x), place_of(schedule, y)));
        weir_schedule_destroy(schedule);
    }
}

static void what_is_read_again_is_not_overwritten(void** state) {
    const fixture* f = *state;
    const weir_value a = matmul(f, f->x);
    const weir_value b = norm(f, a);
    matmul(f, a);
    assert_apart(f, a, b);
}

static void what_is_read_again_through_another_view_is_not_overwritten(void** state) {
    const fixture* f = *state;
    const weir_value a = matmul(f, f->x);
    const weir_value window = narrow(f, a, 3, 1);
    const weir_value b = norm(f, a);
    matmul(f, window);
    assert_apart(f, a, b);
}

static void a_second_operand_of_the_same_root_keeps_the_result_apart(void** state) {
    const fixture* f = *state;
    const weir_value a = matmul(f, f->x);
    const weir_value b = add(f, a, a);
    matmul(f, b);
    assert_apart(f, a, b);
}

static void matmul_is_never_in_place(void** state) {
    const fixture* f = *state;
    const weir_value a = matmul(f, f->x);
    const weir_value b = matmul(f, a);
    matmul(f, b);
    assert_apart(f, a, b);
}

// In the serial order the reader that comes last by number may overwrite; without an added edge it
// may not, because the other reader runs whenever it likes.
static void an_unordered_reader_prevents_in_place_only_where_waits_count(void** state) {
    const fixture* f = *state;
    const weir_value a = matmul(f, f->x);
    matmul(f, a);
    const weir_value b = norm(f, a);
    assert_ok(weir_graph_output(f->graph, matmul(f, b)));
    weir_schedule* schedule = schedule_of(f);
    assert_int_equal(weir_schedule_report_of(schedule)->in_place, 0);
    assert_int_equal(weir_schedule_report_of(schedule)->residual_edges, 0);
    weir_schedule_destroy(schedule);
    schedule =
        schedule_with(f->graph, &f->target, (weir_schedule_options){.reuse = WEIR_REUSE_SERIAL});
    assert_int_equal(weir_schedule_report_of(schedule)->in_place, 1);
    assert_int_equal(place_of(schedule, a).byte_offset, place_of(schedule, b).byte_offset);
    waits_for(schedule, 2, 1);
    weir_schedule_destroy(schedule);
}

static void what_is_read_through_a_window_is_not_overwritten(void** state) {
    const fixture* f = *state;
    const weir_value a = matmul(f, f->x);
    const weir_value b = norm(f, narrow(f, a, 2, 2));
    matmul(f, b);
    assert_apart(f, a, b);
}

static void a_view_of_the_whole_value_can_be_overwritten(void** state) {
    const fixture* f = *state;
    const weir_shape shape = shape2(4, 32);
    weir_value all = WEIR_VALUE_NONE;
    const weir_value a = matmul(f, f->x);
    assert_ok(weir_graph_reshape(f->graph, a, &shape, &all));
    const weir_value b = norm(f, all);
    matmul(f, b);
    weir_schedule* schedule = schedule_of(f);
    assert_int_equal(weir_schedule_report_of(schedule)->in_place, 1);
    assert_int_equal(place_of(schedule, b).byte_offset, place_of(schedule, a).byte_offset);
    weir_schedule_destroy(schedule);
}

static uint64_t hundred_bytes(const weir_kernel_use* use) {
    (void)use;
    return 100;
}

// The kernels of the CPU, of which `op` asks for scratch.
static weir_target target_with_scratch(const weir_target* base, weir_op_kind op,
                                       weir_kernel kernels[16]) {
    weir_target target = *base;
    assert_true(base->kernel_count <= 16);
    for (uint32_t i = 0; i < base->kernel_count; i++) {
        kernels[i] = base->kernels[i];
        if (kernels[i].op == op) {
            kernels[i].scratch_bytes = hundred_bytes;
        }
    }
    target.kernels = kernels;
    return target;
}

static void scratch_is_planned_like_any_value(void** state) {
    const fixture* f = *state;
    weir_kernel kernels[16];
    const weir_target target = target_with_scratch(&f->target, WEIR_OP_MATMUL, kernels);
    const weir_value first = matmul(f, f->x);
    const weir_value chained = matmul(f, first);
    const weir_value apart = matmul(f, f->z);
    weir_schedule* schedule = schedule_with(f->graph, &target, (weir_schedule_options){0});
    const weir_schedule_report* report = weir_schedule_report_of(schedule);
    assert_int_equal(report->values, 6);
    assert_int_equal(report->scratch_bytes, 300);
    assert_int_equal(report->total_bytes, 3 * 512 + 300);
    const weir_value scratch = schedule->graph_value_count;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(place_of(schedule, scratch + i).byte_size, 100);
        assert_string_equal(weir_schedule_value(schedule, scratch + i)->name, "scratch");
        const schedule_dispatch* dispatch = &schedule->dispatches.items[i];
        const schedule_operand* last =
            &schedule->operands.items[dispatch->operand_begin + dispatch->operand_count - 1];
        assert_int_equal(dispatch->operand_count, 4);
        assert_int_equal(last->value, scratch + i);
        assert_int_equal(last->kind, WEIR_ACCESS_READ_WRITE);
    }
    assert_false(share_bytes(place_of(schedule, scratch), place_of(schedule, first)));
    assert_false(share_bytes(place_of(schedule, scratch + 1), place_of(schedule, first)));
    assert_false(share_bytes(place_of(schedule, scratch + 1), place_of(schedule, chained)));
    assert_false(share_bytes(place_of(schedule, scratch + 2), place_of(schedule, scratch)));
    assert_false(share_bytes(place_of(schedule, scratch + 2), place_of(schedule, scratch + 1)));
    assert_false(share_bytes(place_of(schedule, scratch + 2), place_of(schedule, apart)));
    weir_schedule_destroy(schedule);
}

static void a_target_without_alignment_packs_bytes(void** state) {
    const fixture* f = *state;
    weir_kernel kernels[16];
    weir_target target = target_with_scratch(&f->target, WEIR_OP_MATMUL, kernels);
    target.alignment = 0;
    matmul(f, f->x);
    matmul(f, f->z);
    weir_schedule* schedule =
        schedule_with(f->graph, &target, (weir_schedule_options){.reuse = WEIR_REUSE_NONE});
    assert_int_equal(weir_schedule_report_of(schedule)->arena_bytes, 2 * 512 + 2 * 100);
    weir_schedule_destroy(schedule);
}

static void boundaries_number_dispatches_by_group(void** state) {
    const fixture* f = *state;
    weir_target target = f->target;
    target.waits = WEIR_WAIT_GROUPS;
    matmul(f, matmul(f, matmul(f, f->x))); // levels 0, 1, 2
    matmul(f, f->z);                       // level 0, though it comes last
    weir_schedule* schedule = schedule_with(f->graph, &target, (weir_schedule_options){0});
    const weir_schedule_report* report = weir_schedule_report_of(schedule);
    const uint32_t levels[] = {0, 0, 1, 2};
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(info_of(schedule, i).level, levels[i]);
    }
    waits_for(schedule, 2, 0);
    waits_for(schedule, 3, 2);
    assert_int_equal(report->waits, 2);
    assert_int_equal(report->residual_edges, 0);
    assert_int_equal(report->arena_bytes, 1024); // a boundary frees the result of level 0
    weir_schedule_destroy(schedule);
}

static void fencing_everything_waits_between_any_two_dispatches(void** state) {
    const fixture* f = *state;
    for (int i = 0; i < 5; i++) {
        matmul(f, i % 2 ? f->x : f->z);
    }
    weir_schedule* schedule =
        schedule_with(f->graph, &f->target, (weir_schedule_options){.fence_all = true});
    const weir_schedule_report* report = weir_schedule_report_of(schedule);
    assert_int_equal(report->edges, 4);
    assert_int_equal(report->waits, 4);
    assert_int_equal(report->waits_elided, 0);
    assert_int_equal(report->arena_bytes, 512);
    waits_for_nothing(schedule, 0);
    for (uint32_t i = 1; i < 5; i++) {
        waits_for(schedule, i, i - 1);
    }
    weir_schedule_destroy(schedule);
}

static void a_state_is_read_after_it_is_written_and_other_states_are_not(void** state) {
    const fixture* f = *state;
    const weir_value keys = new_state(f, "keys", 8);
    const weir_value values = new_state(f, "values", 8);
    const weir_attention_desc desc = {
        .heads = 1, .kv_heads = 1, .head_dim = 32, .position = f->position};
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_set_rows(f->graph, f->x, keys, f->position));
    assert_ok(weir_graph_set_rows(f->graph, f->x, values, f->position));
    assert_ok(weir_graph_attention(f->graph, f->z, keys, values, &desc, &y));
    assert_ok(weir_graph_set_rows(f->graph, f->z, keys, f->position));
    weir_schedule* schedule = schedule_of(f);
    waits_for_nothing(schedule, 0);
    waits_for_nothing(schedule, 1);
    waits_for(schedule, 2, 0, 1);
    waits_for(schedule, 3, 2); // written after read; 0 is implied
    weir_schedule_destroy(schedule);
}

// Positions are [0, 3]: one row at each, so rows [0, 4) can be written or seen and no others.
static void parameters_limit_what_is_touched_of_a_state(void** state) {
    const fixture* f = *state;
    const weir_shape row = shape2(1, 32);
    const weir_value kept = new_state(f, "kept", 16);
    const weir_attention_desc desc = {
        .heads = 1, .kv_heads = 1, .head_dim = 32, .position = f->position};
    weir_value one = WEIR_VALUE_NONE;
    weir_value y = WEIR_VALUE_NONE;
    assert_ok(weir_graph_input(f->graph, "one", WEIR_DTYPE_F32, &row, WEIR_PARAM_NONE, &one));
    assert_ok(weir_graph_set_rows(f->graph, one, kept, f->position)); // 0: writes rows 0 .. 3
    norm(f, narrow(f, kept, 4, 4));                                   // 1: reads rows 4 .. 7
    norm(f, narrow(f, kept, 3, 4));                                   // 2: reads rows 3 .. 6
    assert_ok(weir_graph_set_rows(f->graph, one, narrow(f, kept, 8, 8),
                                  f->position)); // 3: writes rows 8 .. 11
    assert_ok(weir_graph_attention(f->graph, one, narrow(f, kept, 4, 8), narrow(f, kept, 4, 8),
                                   &desc, &y)); // 4: sees rows 4 .. 7
    assert_ok(weir_graph_attention(f->graph, one, narrow(f, kept, 5, 8), narrow(f, kept, 5, 8),
                                   &desc, &y)); // 5: sees rows 5 .. 8
    weir_schedule* schedule = schedule_of(f);
    waits_for_nothing(schedule, 0);
    waits_for_nothing(schedule, 1);
    waits_for(schedule, 2, 0);
    waits_for_nothing(schedule, 3);
    waits_for_nothing(schedule, 4);
    waits_for(schedule, 5, 3);
    weir_schedule_destroy(schedule);
}

static void a_lowest_position_above_zero_leaves_the_rows_below_alone(void** state) {
    const fixture* f = *state;
    const weir_shape row = shape2(1, 32);
    const weir_value kept = new_state(f, "kept", 16);
    weir_value one = WEIR_VALUE_NONE;
    weir_param late = WEIR_PARAM_NONE;
    assert_ok(weir_graph_param(f->graph, "late", 5, 15, &late));
    assert_ok(weir_graph_input(f->graph, "one", WEIR_DTYPE_F32, &row, WEIR_PARAM_NONE, &one));
    assert_ok(weir_graph_set_rows(f->graph, one, kept, late)); // rows 5 .. 15
    norm(f, narrow(f, kept, 0, 5));
    norm(f, narrow(f, kept, 4, 2));
    weir_schedule* schedule = schedule_of(f);
    waits_for_nothing(schedule, 1);
    waits_for(schedule, 2, 0);
    weir_schedule_destroy(schedule);
}

static void a_schedule_outlives_its_graph(void** state) {
    (void)state;
    test_random random = {7};
    random_graph made = random_graph_make(&random, 20);
    weir_target target;
    assert_ok(weir_target_find("cpu", &target));
    weir_schedule* schedule =
        schedule_with(made.graph, &target, (weir_schedule_options){.reuse = WEIR_REUSE_FREE});
    weir_graph_destroy(made.graph);
    assert_ok(weir_schedule_check(schedule));
    assert_string_equal(weir_schedule_value(schedule, made.square)->name, "square");
    weir_schedule_destroy(schedule);
}

static uint64_t aligned_total(const weir_schedule* schedule) {
    uint64_t total = 0;
    for (weir_value value = 0; value < schedule->values.count; value++) {
        const weir_placement* place = &schedule->placements[value];
        if (schedule->values.items[value].kind != WEIR_VALUE_VIEW &&
            place->region == WEIR_REGION_ARENA) {
            total += (place->byte_size + 63) / 64 * 64;
        }
    }
    return total;
}

static void check_random_outputs(const weir_schedule* schedule, const random_graph* made) {
    for (uint32_t i = 0; i < made->output_count; i++) {
        const weir_placement place = place_of(schedule, made->outputs[i]);
        assert_int_equal(place.region, WEIR_REGION_OUTPUT);
        assert_int_equal(place.byte_offset % 64, 0);
        for (uint32_t k = 0; k < i; k++) {
            assert_false(share_bytes(place, place_of(schedule, made->outputs[k])));
        }
    }
}

// Every mode on one graph: each passes the check (schedule_with asserts that), reuse adds no wait
// unless it is asked to, and the figures of the modes fit together.
static void check_modes(const random_graph* made, const weir_target* target) {
    weir_schedule* none =
        schedule_with(made->graph, target, (weir_schedule_options){.reuse = WEIR_REUSE_NONE});
    weir_schedule* free_reuse = schedule_with(made->graph, target, (weir_schedule_options){0});
    weir_schedule* serial =
        schedule_with(made->graph, target, (weir_schedule_options){.reuse = WEIR_REUSE_SERIAL});
    weir_schedule* apart =
        schedule_with(made->graph, target, (weir_schedule_options){.never_in_place = true});
    weir_schedule* fenced =
        schedule_with(made->graph, target, (weir_schedule_options){.fence_all = true});
    assert_int_equal(none->report.residual_edges, 0);
    assert_int_equal(free_reuse->report.residual_edges, 0);
    assert_int_equal(apart->report.residual_edges, 0);
    assert_int_equal(fenced->report.residual_edges, 0);
    assert_int_equal(free_reuse->report.waits, none->report.waits);
    assert_int_equal(free_reuse->report.edges, none->report.edges);
    assert_int_equal(apart->report.in_place, 0);
    assert_true(serial->report.waits >= free_reuse->report.waits);
    assert_int_equal(fenced->report.waits, fenced->report.dispatches - 1);
    assert_int_equal((none->report.arena_bytes + 63) / 64 * 64, aligned_total(none));
    assert_true(free_reuse->report.arena_bytes <= none->report.arena_bytes);
    assert_true(free_reuse->report.bound_bytes <= free_reuse->report.arena_bytes);
    assert_int_equal(serial->report.serial_bytes, serial->report.arena_bytes);
    check_random_outputs(free_reuse, made);
    check_random_outputs(serial, made);
    if (target->waits == WEIR_WAIT_EDGES) { // groups number the dispatches in their own order
        assert_int_equal(free_reuse->report.serial_bytes, serial->report.arena_bytes);
        assert_int_equal(none->report.serial_bytes, serial->report.arena_bytes);
    }
    weir_schedule_destroy(none);
    weir_schedule_destroy(free_reuse);
    weir_schedule_destroy(serial);
    weir_schedule_destroy(apart);
    weir_schedule_destroy(fenced);
}

static void random_graphs_pass_the_check_in_every_mode(void** state) {
    (void)state;
    test_random random = {11};
    weir_kernel kernels[16];
    weir_target cpu;
    assert_ok(weir_target_find("cpu", &cpu));
    uint32_t views = 0;
    for (int i = 0; i < 250; i++) {
        random_graph made = random_graph_make(&random, 4 + (uint32_t)random_below(&random, 40));
        weir_target target = i % 3 == 0 ? target_with_scratch(&cpu, WEIR_OP_MATMUL, kernels) : cpu;
        target.waits = i % 2 == 0 ? WEIR_WAIT_EDGES : WEIR_WAIT_GROUPS;
        check_modes(&made, &target);
        views += made.views;
        weir_graph_destroy(made.graph);
    }
    assert_true(views > 500);
}

static void serial_reuse_of_random_graphs_does_add_edges(void** state) {
    (void)state;
    test_random random = {13};
    weir_target target;
    assert_ok(weir_target_find("cpu", &target));
    uint32_t residual = 0;
    uint32_t in_place = 0;
    for (int i = 0; i < 50; i++) {
        random_graph made = random_graph_make(&random, 30);
        weir_schedule* serial =
            schedule_with(made.graph, &target, (weir_schedule_options){.reuse = WEIR_REUSE_SERIAL});
        residual += serial->report.residual_edges;
        in_place += serial->report.in_place;
        weir_schedule_destroy(serial);
        weir_graph_destroy(made.graph);
    }
    assert_true(residual > 50);
    assert_true(in_place > 50);
}

// Takes edge `edge` out of the reduced DAG and returns the dispatch that waited by it.
static uint32_t remove_edge(weir_schedule* schedule, uint32_t edge) {
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

static void restore_edge(weir_schedule* schedule, uint32_t edge, uint32_t earlier, uint32_t later) {
    schedule_edges* edges = &schedule->edges;
    memmove(edges->items + edge + 1, edges->items + edge,
            (edges->count - edge) * sizeof edges->items[0]);
    edges->items[edge] = earlier;
    edges->count++;
    for (uint32_t i = later + 1; i <= schedule->dispatches.count; i++) {
        edges->begins[i]++;
    }
}

static void assert_names_dispatch(const weir_schedule* schedule, uint32_t dispatch) {
    char text[300];
    snprintf(text, sizeof text, "%u (%s)", dispatch, info_of(schedule, dispatch).name);
    assert_message_has(text);
}

static void any_edge_taken_out_of_a_diamond_is_found_by_the_check(void** state) {
    const fixture* f = *state;
    const weir_value a = norm(f, f->x);
    add(f, matmul(f, a), matmul(f, a));
    weir_schedule* schedule = schedule_of(f);
    const uint32_t count = schedule->report.edges;
    assert_int_equal(count, 4);
    for (uint32_t edge = 0; edge < count; edge++) {
        const uint32_t earlier = schedule->edges.items[edge];
        const uint32_t later = remove_edge(schedule, edge);
        assert_status(weir_schedule_check(schedule), WEIR_INTERNAL);
        assert_names_dispatch(schedule, earlier);
        assert_names_dispatch(schedule, later);
        restore_edge(schedule, edge, earlier, later);
        assert_ok(weir_schedule_check(schedule));
    }
    weir_schedule_destroy(schedule);
}

// Without an edge the pairs that it ordered are reported; the first of them ends at its dispatch.
static void any_edge_taken_out_of_a_random_graph_is_found_by_both_checks(void** state) {
    (void)state;
    test_random random = {17};
    weir_target target;
    assert_ok(weir_target_find("cpu", &target));
    uint32_t removed = 0;
    for (int i = 0; i < 40; i++) {
        random_graph made = random_graph_make(&random, 30);
        weir_schedule* schedule = schedule_with(
            made.graph, &target,
            (weir_schedule_options){.reuse = i % 2 ? WEIR_REUSE_SERIAL : WEIR_REUSE_FREE});
        for (uint32_t edge = 0; edge < schedule->report.edges; edge++) {
            const uint32_t earlier = schedule->edges.items[edge];
            const uint32_t later = remove_edge(schedule, edge);
            assert_status(weir_schedule_check(schedule), WEIR_INTERNAL);
            assert_names_dispatch(schedule, later);
            restore_edge(schedule, edge, earlier, later);
            uint64_t* word =
                &schedule->ancestors.words[later * schedule->ancestors.row_words + earlier / 64];
            *word ^= UINT64_C(1) << (earlier % 64);
            assert_status(weir_schedule_check_tracked(schedule), WEIR_INTERNAL);
            assert_names_dispatch(schedule, earlier);
            assert_names_dispatch(schedule, later);
            *word ^= UINT64_C(1) << (earlier % 64);
            removed++;
        }
        assert_ok(weir_schedule_check(schedule));
        weir_schedule_destroy(schedule);
        weir_graph_destroy(made.graph);
    }
    assert_true(removed > 400);
}

static void an_edge_to_a_later_dispatch_is_reported(void** state) {
    const fixture* f = *state;
    matmul(f, matmul(f, f->x));
    weir_schedule* schedule = schedule_of(f);
    schedule->edges.items[0] = 1;
    assert_status(weir_schedule_check(schedule), WEIR_INTERNAL);
    weir_schedule_destroy(schedule);
}

static void values_moved_onto_each_other_are_reported(void** state) {
    const fixture* f = *state;
    const weir_value a = matmul(f, f->x);
    const weir_value b = matmul(f, f->z);
    add(f, a, b);
    weir_schedule* schedule = schedule_of(f);
    schedule->placements[b].byte_offset = schedule->placements[a].byte_offset + 508;
    assert_status(weir_schedule_check(schedule), WEIR_INTERNAL);
    assert_names_dispatch(schedule, 0);
    assert_names_dispatch(schedule, 1);
    weir_schedule_destroy(schedule);
}

static void groups_order_nothing_within_themselves(void** state) {
    const fixture* f = *state;
    weir_target target = f->target;
    target.waits = WEIR_WAIT_GROUPS;
    matmul(f, matmul(f, f->x));
    weir_schedule* schedule = schedule_with(f->graph, &target, (weir_schedule_options){0});
    schedule->dispatches.items[1].level = 0; // though the edge is still there
    assert_status(weir_schedule_check(schedule), WEIR_INTERNAL);
    weir_schedule_destroy(schedule);
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void** state) {
    (void)state;
    test_random random = {19};
    weir_kernel kernels[16];
    weir_target cpu;
    assert_ok(weir_target_find("cpu", &cpu));
    random_graph made = random_graph_make(&random, 16);
    for (int mode = 0; mode < 4; mode++) {
        weir_target target = target_with_scratch(&cpu, WEIR_OP_MATMUL, kernels);
        target.waits = mode == 3 ? WEIR_WAIT_GROUPS : WEIR_WAIT_EDGES;
        const weir_schedule_options options = {.reuse = (weir_reuse)(mode % 3)};
        weir_status status = WEIR_OUT_OF_MEMORY;
        size_t step = 0;
        for (; status != WEIR_OK; step++) {
            test_allocator counter = {.fail_at = step};
            const weir_allocator allocator = test_allocator_of(&counter);
            weir_schedule* schedule = NULL;
            status = weir_schedule_create(&allocator, made.graph, &target, &options, &schedule);
            assert_true(status == WEIR_OK ? schedule != NULL : schedule == NULL);
            if (status != WEIR_OK) {
                assert_status(status, WEIR_OUT_OF_MEMORY);
            }
            weir_schedule_destroy(schedule);
            assert_int_equal(atomic_load(&counter.live_blocks), 0);
            assert_int_equal(atomic_load(&counter.live_bytes), 0);
        }
        assert_true(step > 50);
    }
    weir_graph_destroy(made.graph);
}

static void the_same_graph_gives_the_same_schedule(void** state) {
    (void)state;
    test_random random = {23};
    weir_target target;
    assert_ok(weir_target_find("cpu", &target));
    for (int i = 0; i < 30; i++) {
        random_graph made = random_graph_make(&random, 40);
        const weir_schedule_options options = {.reuse = (weir_reuse)(i % 3)};
        weir_schedule* a = schedule_with(made.graph, &target, options);
        weir_schedule* b = schedule_with(made.graph, &target, options);
        assert_memory_equal(&a->report, &b->report, sizeof a->report);
        assert_int_equal(a->edges.count, b->edges.count);
        if (a->edges.count > 0) {
            assert_memory_equal(a->edges.items, b->edges.items,
                                a->edges.count * sizeof a->edges.items[0]);
        }
        assert_memory_equal(a->edges.begins, b->edges.begins,
                            (a->dispatches.count + 1) * sizeof a->edges.begins[0]);
        for (weir_value value = 0; value < a->values.count; value++) {
            assert_int_equal(a->placements[value].region, b->placements[value].region);
            assert_int_equal(a->placements[value].byte_offset, b->placements[value].byte_offset);
            assert_int_equal(a->placements[value].byte_size, b->placements[value].byte_size);
        }
        weir_schedule_destroy(a);
        weir_schedule_destroy(b);
        weir_graph_destroy(made.graph);
    }
}

#define with_graph(test) cmocka_unit_test_setup_teardown(test, make_graph, drop_graph)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_graph(independent_operations_have_no_edges),
        with_graph(a_chain_waits_step_by_step),
        with_graph(edges_that_a_path_implies_are_left_out),
        with_graph(dispatches_are_named_after_the_first_named_operand),
        with_graph(a_graph_without_operations_is_refused),
        with_graph(a_missing_kernel_is_named_with_its_types),
        with_graph(an_operand_over_the_binding_limit_is_refused),
        with_graph(sizes_that_pass_63_bits_are_out_of_range),
        with_graph(regions_keep_inputs_outputs_weights_and_states_out_of_the_arena),
        with_graph(a_view_is_placed_inside_its_root),
        with_graph(free_reuse_adds_no_wait_between_branches),
        with_graph(serial_reuse_takes_fewer_bytes_and_counts_the_edges_it_adds),
        with_graph(without_reuse_every_value_has_bytes_of_its_own),
        with_graph(a_last_reader_writes_in_place),
        with_graph(what_is_read_again_is_not_overwritten),
        with_graph(what_is_read_again_through_another_view_is_not_overwritten),
        with_graph(a_second_operand_of_the_same_root_keeps_the_result_apart),
        with_graph(matmul_is_never_in_place),
        with_graph(an_unordered_reader_prevents_in_place_only_where_waits_count),
        with_graph(what_is_read_through_a_window_is_not_overwritten),
        with_graph(a_view_of_the_whole_value_can_be_overwritten),
        with_graph(scratch_is_planned_like_any_value),
        with_graph(a_target_without_alignment_packs_bytes),
        with_graph(boundaries_number_dispatches_by_group),
        with_graph(fencing_everything_waits_between_any_two_dispatches),
        with_graph(a_state_is_read_after_it_is_written_and_other_states_are_not),
        with_graph(parameters_limit_what_is_touched_of_a_state),
        with_graph(a_lowest_position_above_zero_leaves_the_rows_below_alone),
        cmocka_unit_test(a_schedule_outlives_its_graph),
        cmocka_unit_test(random_graphs_pass_the_check_in_every_mode),
        cmocka_unit_test(serial_reuse_of_random_graphs_does_add_edges),
        with_graph(any_edge_taken_out_of_a_diamond_is_found_by_the_check),
        cmocka_unit_test(any_edge_taken_out_of_a_random_graph_is_found_by_both_checks),
        with_graph(an_edge_to_a_later_dispatch_is_reported),
        with_graph(values_moved_onto_each_other_are_reported),
        with_graph(groups_order_nothing_within_themselves),
        cmocka_unit_test(each_failing_allocation_is_reported_and_leaks_nothing),
        cmocka_unit_test(the_same_graph_gives_the_same_schedule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
