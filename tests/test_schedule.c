// Schedules: what waits for what, what shares bytes, and the proof that the two agree.
#include "schedule_testing.h"

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
    weir_kernel norms[32];
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

static void scratch_is_planned_like_any_value(void** state) {
    const fixture* f = *state;
    weir_kernel kernels[64];
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
    weir_kernel kernels[64];
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

// A dispatch that stores rows is made to read the state, as one of two operations in it might.
static void operations_in_one_dispatch_may_not_read_rows_that_they_store(void** state) {
    const fixture* f = *state;
    const weir_shape row = shape2(1, 32);
    const weir_value kept = new_state(f, "kept", 16);
    weir_value one = WEIR_VALUE_NONE;
    assert_ok(weir_graph_input(f->graph, "one", WEIR_DTYPE_F32, &row, WEIR_PARAM_NONE, &one));
    assert_ok(weir_graph_set_rows(f->graph, one, kept, f->position));
    weir_schedule* schedule = schedule_of(f);
    schedule_operand* operands = schedule->operands.items;
    schedule->dispatches.items[0].source_count = 2;
    assert_ok(weir_schedule_check(schedule));
    const schedule_operand read = operands[0];
    operands[0] = operands[1];
    operands[0].kind = WEIR_ACCESS_READ;
    assert_status(weir_schedule_check(schedule), WEIR_INTERNAL);
    assert_message_has("reads a state by operand 0");
    schedule->dispatches.items[0].source_count = 1; // its kernel may
    assert_ok(weir_schedule_check(schedule));
    operands[0] = read;
    weir_schedule_destroy(schedule);
}

static void groups_order_nothing_within_themselves(void** state) {
    const fixture* f = *state;
    weir_target target = f->target;
    target.waits = WEIR_WAIT_GROUPS;
    matmul(f, matmul(f, f->x));
    weir_schedule* schedule = schedule_with(f->graph, &target, (weir_schedule_options){0});
    schedule->dispatches.items[1].group = 0; // though the edge is still there
    assert_status(weir_schedule_check(schedule), WEIR_INTERNAL);
    weir_schedule_destroy(schedule);
}

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
        with_graph(any_edge_taken_out_of_a_diamond_is_found_by_the_check),
        with_graph(an_edge_to_a_later_dispatch_is_reported),
        with_graph(values_moved_onto_each_other_are_reported),
        with_graph(operations_in_one_dispatch_may_not_read_rows_that_they_store),
        with_graph(groups_order_nothing_within_themselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
