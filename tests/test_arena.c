// Arenas from plans, their nodes and host I/O, on every device that runs in host memory: `state` is
// the name of the device.
#include "session_testing.h"

static weir_plan* make_plan(const uint64_t* sizes, uint32_t count, uint64_t block_bytes_max) {
    weir_plan_buffer buffers[16] = {0};
    for (uint32_t i = 0; i < count; i++) {
        buffers[i].byte_size = sizes[i];
    }
    const weir_plan_problem problem = {.buffers = buffers,
                                       .buffer_count = count,
                                       .alignment = 64,
                                       .block_bytes_max = block_bytes_max};
    weir_plan* plan = NULL;
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    return plan;
}

typedef struct fixture {
    weir_device* device;
    weir_plan* plan;
    weir_arena* arena;
} fixture;

static const uint64_t sizes[] = {100, 256, 64, 1024};

static fixture begin(void** state, const weir_arena_desc* desc) {
    fixture f = {.device = open_device(*state, 1, NULL), .plan = make_plan(sizes, 4, 0)};
    weir_arena_desc wanted = desc ? *desc : (weir_arena_desc){0};
    wanted.plan = f.plan;
    assert_ok(weir_arena_create_with(f.device, &wanted, &f.arena));
    return f;
}

static void end(fixture* f) {
    weir_arena_destroy(f->arena);
    weir_plan_destroy(f->plan);
    weir_device_destroy(f->device);
}

static weir_session* open_session(const fixture* f) {
    weir_session* session = NULL;
    assert_ok(weir_session_create(f->device, &session));
    return session;
}

static void record(weir_session* session, weir_kernel_fn kernel, const weir_view* views,
                   const weir_access_kind* kinds, uint32_t count, float constant) {
    weir_operand operands[4];
    for (uint32_t i = 0; i < count; i++) {
        operands[i] = (weir_operand){.view = views[i], .kind = kinds[i]};
    }
    const weir_dispatch_desc desc = {.kernel = kernel,
                                     .operands = operands,
                                     .operand_count = count,
                                     .constants = &constant,
                                     .constants_size = sizeof constant};
    assert_ok(weir_session_dispatch(session, &desc, NULL));
}

static void nodes_lie_where_the_plan_says(void** state) {
    static const char* const names[] = {"x", NULL, "logits", "h"};
    fixture f = begin(state, &(weir_arena_desc){.names = names});
    const weir_plan_entry* entries = weir_plan_entries(f.plan, NULL);
    assert_int_equal(weir_arena_node_count(f.arena), 4);
    for (uint32_t node = 0; node < 4; node++) {
        weir_arena_node info;
        assert_true(weir_arena_has(f.arena, node));
        assert_ok(weir_arena_get(f.arena, node, &info));
        assert_int_equal(info.byte_offset, entries[node].byte_offset);
        assert_int_equal(info.slot_bytes, sizes[node]);
        assert_int_equal(info.byte_length, sizes[node]);
        assert_int_equal(info.block, 0);
        if (names[node]) {
            uint32_t found = 99;
            assert_string_equal(info.name, names[node]);
            assert_ok(weir_arena_find(f.arena, names[node], &found));
            assert_int_equal(found, node);
        } else {
            assert_null(info.name);
        }
    }
    weir_arena_node info = {.block = 77};
    uint32_t node = 77;
    assert_false(weir_arena_has(f.arena, 4));
    assert_status(weir_arena_get(f.arena, 4, &info), WEIR_NOT_FOUND);
    assert_status(weir_arena_find(f.arena, "y", &node), WEIR_NOT_FOUND);
    assert_int_equal(info.block + node, 77 * 2);
    assert_int_equal(weir_arena_byte_size(f.arena), weir_plan_result_of(f.plan)->peak);
    end(&f);
}

static void no_value_crosses_a_block_border(void** state) {
    weir_device* device = open_device(*state, 1, NULL);
    const uint64_t many[] = {700, 600, 500, 400, 300, 200};
    weir_plan* plan = make_plan(many, 6, 1024);
    weir_arena* arena = NULL;
    assert_ok(weir_arena_create(device, plan, &arena));
    assert_true(weir_arena_block_count(arena) >= 3);
    assert_int_equal(weir_arena_block_count(arena), weir_plan_result_of(plan)->blocks);
    uint64_t total = 0;
    for (uint32_t block = 0; block < weir_arena_block_count(arena); block++) {
        weir_view whole;
        assert_ok(weir_arena_whole(arena, block, &whole));
        assert_ptr_equal(whole.storage, weir_arena_block(arena, block));
        assert_true(weir_view_byte_length(&whole) <= 1024);
        total += weir_view_byte_length(&whole);
    }
    assert_int_equal(total, weir_arena_byte_size(arena));
    uint8_t bytes[1024];
    for (uint32_t node = 0; node < 6; node++) { // all are live: nobody may lie on another
        weir_arena_node info;
        assert_ok(weir_arena_get(arena, node, &info));
        assert_true(info.byte_offset + info.slot_bytes <=
                    weir_storage_byte_size(weir_arena_block(arena, info.block)));
        memset(bytes, (int)node + 1, sizeof bytes);
        assert_ok(weir_arena_write_bytes(arena, node, 0, bytes, many[node]));
    }
    for (uint32_t node = 0; node < 6; node++) {
        assert_ok(weir_arena_read_bytes(arena, node, 0, bytes, many[node]));
        for (uint64_t i = 0; i < many[node]; i++) {
            assert_int_equal(bytes[i], node + 1);
        }
    }
    weir_view view = {0};
    const weir_shape shape = weir_shape_make(1, (const int64_t[]){200});
    assert_ok(weir_arena_view(arena, plan, 5, WEIR_DTYPE_U8, &shape, &view));
    assert_int_equal(((const uint8_t*)weir_view_contents(&view))[0], 6);
    assert_status(weir_arena_whole(arena, 9, &view), WEIR_NOT_FOUND);
    assert_null(weir_arena_block(arena, 9));
    weir_arena_destroy(arena);
    weir_plan_destroy(plan);
    weir_device_destroy(device);
}

static void the_length_bounds_host_io_and_views(void** state) {
    const uint64_t extents[] = {20, 256, 64, 1024};
    fixture f = begin(state, &(weir_arena_desc){.extents = extents});
    float numbers[25] = {1, 2, 3, 4, 5, 6, 7, 8};
    weir_view view;
    weir_arena_node info;
    assert_ok(weir_arena_get(f.arena, 0, &info));
    assert_int_equal(info.slot_bytes, 100);
    assert_int_equal(info.byte_length, 20);
    assert_ok(weir_arena_write(f.arena, 0, WEIR_DTYPE_F32, 0, numbers, 5));
    assert_status(weir_arena_write(f.arena, 0, WEIR_DTYPE_F32, 0, numbers, 6), WEIR_OUT_OF_RANGE);
    assert_status(weir_arena_write(f.arena, 0, WEIR_DTYPE_F32, 5, numbers, 1), WEIR_OUT_OF_RANGE);
    assert_status(weir_arena_write(f.arena, 0, WEIR_DTYPE_F32, -1, numbers, 1),
                  WEIR_INVALID_ARGUMENT);
    assert_status(weir_arena_write(f.arena, 0, WEIR_DTYPE_F32, INT64_MAX, numbers, 1),
                  WEIR_OUT_OF_RANGE);
    assert_status(weir_arena_read(f.arena, 0, WEIR_DTYPE_F32, 0, numbers, 6), WEIR_OUT_OF_RANGE);
    assert_status(weir_arena_read_bytes(f.arena, 0, 19, numbers, 2), WEIR_OUT_OF_RANGE);
    assert_status(weir_arena_write_bytes(f.arena, 0, UINT64_MAX, numbers, 2), WEIR_OUT_OF_RANGE);
    assert_status(weir_arena_write_bytes(f.arena, 4, 0, numbers, 2), WEIR_NOT_FOUND);
    assert_status(weir_arena_read(f.arena, 4, WEIR_DTYPE_F32, 0, numbers, 1), WEIR_NOT_FOUND);
    assert_ok(weir_arena_node_view(f.arena, 0, WEIR_DTYPE_F32, NULL, &view));
    assert_int_equal(view.shape.dims[0], 5); // not 25
    const weir_range range = weir_view_range(&view);
    assert_int_equal(weir_range_end(&range), range.byte_offset + 20);
    const weir_shape six = weir_shape_make(1, (const int64_t[]){6});
    assert_status(weir_arena_node_view(f.arena, 0, WEIR_DTYPE_F32, &six, &view), WEIR_OUT_OF_RANGE);

    assert_ok(weir_arena_set_length(f.arena, 0, 12));
    assert_status(weir_arena_read(f.arena, 0, WEIR_DTYPE_F32, 0, numbers, 5), WEIR_OUT_OF_RANGE);
    memset(numbers, 0, sizeof numbers);
    assert_ok(weir_arena_read(f.arena, 0, WEIR_DTYPE_F32, 1, numbers, 2));
    assert_true(numbers[0] == 2 && numbers[1] == 3 && numbers[2] == 0);
    assert_ok(weir_arena_node_view(f.arena, 0, WEIR_DTYPE_F32, NULL, &view));
    assert_int_equal(view.shape.dims[0], 3);
    assert_ok(weir_arena_set_length(f.arena, 0, 20));                        // up again
    assert_status(weir_arena_set_length(f.arena, 0, 21), WEIR_OUT_OF_RANGE); // within the slot
    assert_status(weir_arena_set_length(f.arena, 1, 257), WEIR_OUT_OF_RANGE);
    assert_status(weir_arena_set_length(f.arena, 4, 1), WEIR_NOT_FOUND);
    assert_ok(weir_arena_set_length(f.arena, 0, 7));
    assert_status(weir_arena_node_view(f.arena, 0, WEIR_DTYPE_F32, NULL, &view),
                  WEIR_INVALID_ARGUMENT);
    end(&f);
}

static void a_length_does_not_change_under_a_pass(void** state) {
    (void)state;
    weir_device* device = open_manual();
    fixture f = {.device = device, .plan = make_plan(sizes, 4, 0)};
    assert_ok(weir_arena_create(device, f.plan, &f.arena));
    weir_session* session = open_session(&f);
    weir_view view;
    weir_ticket ticket;
    assert_ok(weir_arena_node_view(f.arena, 1, WEIR_DTYPE_F32, NULL, &view));
    record(session, scale_and_add, &view, (const weir_access_kind[]){WEIR_ACCESS_READ_WRITE}, 1, 1);
    assert_ok(weir_session_commit(session, &ticket));
    assert_status(weir_arena_set_length(f.arena, 1, 8), WEIR_BUSY);
    assert_ok(weir_arena_set_length(f.arena, 2, 8)); // another node
    assert_int_equal(weir_null_complete(device, 1, WEIR_OK), 1);
    assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    assert_ok(weir_arena_set_length(f.arena, 1, 8));
    weir_session_destroy(session);
    end(&f);
}

// Waits until the flag in the constants is set, then copies operand 0 to operand 1.
static weir_status copy_when_told(const weir_kernel_call* call) {
    atomic_bool* flag = *(atomic_bool* const*)call->constants;
    while (!atomic_load(flag)) {
        sleep_us(50);
    }
    memcpy(call->pointers[1], call->pointers[0], 4 * (size_t)call->views[0].shape.dims[0]);
    return WEIR_OK;
}

static void record_copy(weir_session* session, const fixture* f, uint32_t from, uint32_t to,
                        atomic_bool* flag) {
    weir_operand operands[2] = {{.kind = WEIR_ACCESS_READ}, {.kind = WEIR_ACCESS_WRITE}};
    const weir_shape shape = weir_shape_make(1, (const int64_t[]){16});
    assert_ok(weir_arena_node_view(f->arena, from, WEIR_DTYPE_F32, &shape, &operands[0].view));
    assert_ok(weir_arena_node_view(f->arena, to, WEIR_DTYPE_F32, &shape, &operands[1].view));
    const weir_dispatch_desc desc = {.kernel = copy_when_told,
                                     .operands = operands,
                                     .operand_count = 2,
                                     .constants = &flag,
                                     .constants_size = sizeof flag};
    assert_ok(weir_session_dispatch(session, &desc, NULL));
}

// Pass 1 committed, write, pass 2 committed, no wait: 1 reads the old bytes and 2 the new ones.
static void later_passes_see_a_write_and_earlier_ones_do_not(void** state) {
    (void)state;
    const bool device_only[] = {false, true};
    for (int i = 0; i < 2; i++) {
        fixture f = begin((void*[]){"cpu"}, &(weir_arena_desc){.device_only = device_only[i]});
        float numbers[16];
        atomic_bool flag = false;
        for (int k = 0; k < 16; k++) {
            numbers[k] = 1;
        }
        assert_ok(weir_arena_write(f.arena, 2, WEIR_DTYPE_F32, 0, numbers, 16));
        weir_session* session = open_session(&f);
        weir_ticket first;
        weir_ticket second;
        record_copy(session, &f, 2, 1, &flag);
        assert_ok(weir_session_commit(session, &first));
        for (int k = 0; k < 16; k++) {
            numbers[k] = 2;
        }
        assert_ok(weir_arena_write(f.arena, 2, WEIR_DTYPE_F32, 0, numbers, 16));
        memset(numbers, 0, sizeof numbers); // the source may be reused
        record_copy(session, &f, 2, 3, &flag);
        assert_ok(weir_session_commit(session, &second));
        assert_false(weir_ticket_is_complete(first));
        assert_int_equal(weir_arena_counted(f.arena).host_waits, 0);
        atomic_store(&flag, true);
        float old[16];
        float new[16];
        const weir_arena_range ranges[] = {
            {.node = 1, .byte_size = sizeof old, .bytes = old},
            {.node = 3, .byte_size = sizeof new, .bytes = new},
        };
        assert_ok(weir_arena_read_many(f.arena, ranges, 2));
        assert_true(weir_arena_counted(f.arena).host_waits <= 1);
        for (int k = 0; k < 16; k++) {
            assert_true(old[k] == 1 && new[k] == 2);
        }
        assert_ok(weir_ticket_wait(second, WEIR_WAIT_FOREVER));
        weir_session_destroy(session);
        end(&f);
    }
}

static void nothing_is_staged_where_the_host_reaches_idle_memory(void** state) {
    fixture f = begin(state, NULL);
    int32_t ids[64];
    int32_t back[64] = {0};
    for (int32_t i = 0; i < 64; i++) {
        ids[i] = i * 3;
    }
    assert_ok(weir_arena_write(f.arena, 1, WEIR_DTYPE_I32, 0, ids, 64));
    assert_ok(weir_arena_read(f.arena, 1, WEIR_DTYPE_I32, 0, back, 64));
    assert_memory_equal(ids, back, sizeof ids);
    const weir_arena_counters counted = weir_arena_counted(f.arena);
    assert_int_equal(counted.staged_bytes, 0);
    assert_int_equal(counted.direct_bytes, 2 * sizeof ids);
    assert_int_equal(counted.host_waits, 0);
    assert_ok(weir_arena_write(f.arena, 1, WEIR_DTYPE_I32, 64, ids, 0)); // nothing, at the end
    assert_ok(weir_arena_read_many(f.arena, NULL, 0));
    end(&f);
}

static void memory_out_of_reach_is_read_with_one_wait(void** state) {
    (void)state;
    fixture f = begin((void*[]){"cpu"}, &(weir_arena_desc){.device_only = true});
    uint8_t bytes[1024];
    uint8_t back[4][1024];
    weir_arena_range ranges[4];
    assert_null(weir_storage_host_pointer(weir_arena_storage(f.arena)));
    for (uint32_t node = 0; node < 4; node++) {
        memset(bytes, (int)node + 10, sizeof bytes);
        assert_ok(weir_arena_write_bytes(f.arena, node, 0, bytes, sizes[node]));
        ranges[node] =
            (weir_arena_range){.node = node, .byte_size = sizes[node], .bytes = back[node]};
    }
    assert_ok(weir_arena_read_many(f.arena, ranges, 4));
    assert_int_equal(weir_arena_counted(f.arena).host_waits, 1);
    assert_int_equal(weir_arena_counted(f.arena).direct_bytes, 0);
    for (uint32_t node = 0; node < 4; node++) {
        assert_int_equal(back[node][0], node + 10);
        assert_int_equal(back[node][sizes[node] - 1], node + 10);
    }
    end(&f);
}

static void a_hundred_outputs_are_one_wait(void** state) {
    (void)state;
    fixture f = begin((void*[]){"cpu"}, NULL);
    weir_session* session = open_session(&f);
    weir_arena_range ranges[100];
    float back[100];
    atomic_bool flag = true;
    weir_ticket ticket;
    record_copy(session, &f, 2, 3, &flag);
    assert_ok(weir_session_commit(session, &ticket));
    for (uint32_t i = 0; i < 100; i++) {
        ranges[i] = (weir_arena_range){
            .node = 3, .byte_offset = i % 16 * 4, .byte_size = 4, .bytes = &back[i]};
    }
    assert_ok(weir_arena_read_many(f.arena, ranges, 100));
    assert_true(weir_arena_counted(f.arena).host_waits <= 1);
    assert_true(weir_ticket_is_complete(ticket));
    ranges[99].node = 4;
    assert_status(weir_arena_read_many(f.arena, ranges, 100), WEIR_NOT_FOUND);
    weir_session_destroy(session);
    end(&f);
}

static void the_budget_is_checked_before_the_first_allocation(void** state) {
    test_allocator counter = {.fail_at = SIZE_MAX};
    weir_device* device = open_device(*state, 1, &counter);
    const uint64_t many[] = {700, 600, 500, 400, 300, 200};
    weir_plan* plan = make_plan(many, 6, 1024);
    weir_arena_deficit deficit = {0};
    weir_arena* arena = NULL;
    weir_arena_desc desc = {
        .plan = plan, .twin = WEIR_TWIN_ALWAYS, .deficit = &deficit, .byte_budget = 2000};
    const size_t live = atomic_load(&counter.live_bytes);
    assert_status(weir_arena_create_with(device, &desc, &arena), WEIR_OUT_OF_MEMORY);
    assert_null(arena);
    assert_int_equal(atomic_load(&counter.live_bytes), live);
    assert_true(deficit.planned_bytes >= 2700);
    assert_true(deficit.twin_bytes >= deficit.planned_bytes / 2);
    assert_int_equal(deficit.needed_bytes, deficit.planned_bytes + deficit.twin_bytes);
    assert_int_equal(deficit.available_bytes, 2000);
    assert_int_equal(deficit.deficit_bytes, deficit.needed_bytes - 2000);
    assert_int_equal(deficit.blocks, weir_plan_result_of(plan)->blocks);
    assert_true(deficit.block_bytes <= 1024);
    const uint64_t needed = deficit.needed_bytes;
    desc.byte_budget = needed - 1;
    assert_status(weir_arena_create_with(device, &desc, &arena), WEIR_OUT_OF_MEMORY);
    assert_int_equal(deficit.deficit_bytes, 1);
    desc.byte_budget = needed;
    assert_ok(weir_arena_create_with(device, &desc, &arena));
    assert_int_equal(deficit.deficit_bytes, 0);
    assert_int_equal(weir_arena_byte_size(arena) + weir_arena_twin_bytes(arena), needed);
    weir_arena_destroy(arena);
    weir_plan_destroy(plan);
    weir_device_destroy(device);
}

static void bad_arenas_are_refused(void** state) {
    weir_device* device = open_device(*state, 1, NULL);
    weir_plan* plan = make_plan(sizes, 4, 0);
    weir_arena* arena = NULL;
    const uint64_t extents[] = {101, 256, 64, 1024};
    const weir_arena_desc too_long = {.plan = plan, .extents = extents};
    assert_status(weir_arena_create_with(device, &too_long, &arena), WEIR_INVALID_ARGUMENT);
    static const char* const names[] = {"x"};
    const weir_arena_desc no_plan = {.names = names};
    assert_status(weir_arena_create_with(device, &no_plan, &arena), WEIR_INVALID_ARGUMENT);
    assert_null(arena);
    weir_plan_destroy(plan);
    weir_device_destroy(device);
}

static void buffers_of_two_pools_have_blocks_of_their_own(void** state) {
    weir_device* device = open_device(*state, 1, NULL);
    const weir_plan_buffer buffers[] = {
        {.byte_size = 64}, {.byte_size = 128, .pool = 3}, {.byte_size = 32, .pool = 3}};
    const weir_plan_problem problem = {.buffers = buffers, .buffer_count = 3, .alignment = 16};
    weir_plan* plan = NULL;
    weir_arena* arena = NULL;
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    assert_ok(weir_arena_create(device, plan, &arena));
    assert_int_equal(weir_arena_block_count(arena), 2);
    weir_arena_node first;
    weir_arena_node second;
    assert_ok(weir_arena_get(arena, 0, &first));
    assert_ok(weir_arena_get(arena, 1, &second));
    assert_int_equal(first.block, 0);
    assert_int_equal(second.block, 1);
    assert_int_equal(weir_arena_byte_size(arena), weir_plan_result_of(plan)->peak);
    weir_arena_destroy(arena);
    weir_plan_destroy(plan);
    weir_device_destroy(device);
}

// y = x * transpose(w), in double precision.
static void multiply(const float* x, const float* w, int64_t k, int64_t n, double* y) {
    for (int64_t i = 0; i < n; i++) {
        y[i] = 0;
        for (int64_t j = 0; j < k; j++) {
            y[i] += (double)x[j] * (double)w[i * k + j];
        }
    }
}

// Packed weights written raw, multiplied where they lie, and read back as they were.
static void q4_0_written_raw_is_multiplied_and_read_back_equal(void** state) {
    (void)state;
    enum { K = 64, N = 5, BYTES = K / 32 * 18 * N };
    weir_device* device = open_device("cpu:plain", 2, NULL);
    weir_plan* plan = make_plan((const uint64_t[]){BYTES}, 1, 0);
    weir_arena* arena = NULL;
    weir_graph* graph = NULL;
    weir_schedule* schedule = NULL;
    weir_program* program = NULL;
    uint8_t packed[BYTES];
    uint8_t back[BYTES];
    float decoded[K * N];
    float x[K];
    double expected[N];
    test_random random = {.state = 7};
    for (size_t i = 0; i < BYTES; i++) {
        packed[i] = (uint8_t)random_u64(&random);
    }
    for (size_t block = 0; block < BYTES / 18; block++) {
        packed[block * 18 + 1] = 0x2C; // the scale: about 2^-4
    }
    for (int i = 0; i < K; i++) {
        x[i] = random_unit(&random);
    }
    assert_ok(weir_dtype_to_f32(WEIR_DTYPE_Q4_0, packed, K * N, decoded));
    multiply(x, decoded, K, N, expected);
    assert_ok(weir_arena_create(device, plan, &arena));
    assert_ok(weir_arena_write_bytes(arena, 0, 0, packed, 18)); // in two parts
    assert_ok(weir_arena_write_bytes(arena, 0, 18, packed + 18, BYTES - 18));

    weir_value input;
    weir_value output;
    weir_binding binding;
    const weir_shape row = weir_shape_make(2, (const int64_t[]){1, K});
    const weir_shape matrix = weir_shape_make(2, (const int64_t[]){N, K});
    assert_ok(weir_graph_create(NULL, &graph));
    assert_ok(weir_graph_input(graph, "x", WEIR_DTYPE_F32, &row, WEIR_PARAM_NONE, &input));
    assert_ok(weir_graph_weight(graph, "w", WEIR_DTYPE_Q4_0, &matrix, &binding.value));
    assert_ok(weir_graph_matmul(graph, input, binding.value, &output));
    assert_ok(weir_graph_output(graph, output));
    assert_ok(weir_schedule_create(NULL, graph, weir_device_target(device), NULL, &schedule));
    assert_ok(weir_arena_node_view(arena, 0, WEIR_DTYPE_Q4_0, &matrix, &binding.view));
    const weir_program_desc desc = {.schedule = schedule, .bindings = &binding, .binding_count = 1};
    assert_ok(weir_program_create(device, &desc, &program));
    assert_ok(weir_program_write(program, input, x, sizeof x));
    assert_ok(weir_program_run(program, NULL, 0));
    const float* y = weir_program_contents(program, output);
    for (int i = 0; i < N; i++) {
        assert_true(y[i] - expected[i] < 1e-4 && expected[i] - y[i] < 1e-4);
    }
    assert_ok(weir_arena_read_bytes(arena, 0, 0, back, BYTES));
    assert_memory_equal(packed, back, BYTES);
    weir_program_destroy(program);
    weir_schedule_destroy(schedule);
    weir_graph_destroy(graph);
    weir_arena_destroy(arena);
    weir_plan_destroy(plan);
    weir_device_destroy(device);
}

// All blocks together would be large enough for the program, the first one is not.
static void a_program_needs_one_block_for_all_its_values(void** state) {
    weir_device* device = open_device(*state, 1, NULL);
    weir_plan* plan = make_plan((const uint64_t[]){64, 64, 64, 64}, 4, 64);
    weir_arena* arena = NULL;
    weir_graph* graph = NULL;
    weir_schedule* schedule = NULL;
    weir_program* program = NULL;
    weir_value x;
    weir_value sum;
    weir_value y;
    const weir_shape shape = weir_shape_make(2, (const int64_t[]){1, 40});
    assert_ok(weir_graph_create(NULL, &graph));
    assert_ok(weir_graph_input(graph, "x", WEIR_DTYPE_F32, &shape, WEIR_PARAM_NONE, &x));
    assert_ok(weir_graph_add(graph, x, x, &sum));
    assert_ok(weir_graph_mul(graph, sum, x, &y));
    assert_ok(weir_graph_output(graph, y));
    assert_ok(weir_schedule_create(NULL, graph, weir_device_target(device), NULL, &schedule));
    const uint64_t needed = weir_schedule_report_of(schedule)->arena_bytes;
    assert_true(needed > 64 && needed <= 256);
    assert_ok(weir_arena_create(device, plan, &arena));
    assert_int_equal(weir_arena_byte_size(arena), 256);
    const weir_program_desc desc = {.schedule = schedule, .arena = arena};
    assert_status(weir_program_create(device, &desc, &program), WEIR_OUT_OF_RANGE);
    assert_null(program);
    weir_schedule_destroy(schedule);
    weir_graph_destroy(graph);
    weir_arena_destroy(arena);
    weir_plan_destroy(plan);
    weir_device_destroy(device);
}

typedef struct reader {
    weir_device* device;
    const weir_arena* arena;
} reader;

static weir_status sum_up(const weir_kernel_call* call) {
    float sum = 0;
    for (int i = 0; i < 16; i++) {
        sum += ((const float*)call->pointers[0])[i];
    }
    *(float*)call->pointers[1] = sum;
    return WEIR_OK;
}

// Makes views of the shared arena and reads through them, as often as it can.
static void* read_nodes(void* context) {
    const reader* r = context;
    weir_session* session = NULL;
    weir_storage* result = allocate_zeros(r->device, 64);
    const weir_shape shape = weir_shape_make(1, (const int64_t[]){16});
    weir_operand operands[2] = {{.kind = WEIR_ACCESS_READ}, {.kind = WEIR_ACCESS_WRITE}};
    assert_ok(weir_session_create(r->device, &session));
    operands[1].view = floats_of(result, 0, 1);
    for (uint32_t i = 0; i < 200; i++) {
        assert_ok(
            weir_arena_node_view(r->arena, 1 + i % 2, WEIR_DTYPE_F32, &shape, &operands[0].view));
        weir_view_retain(&operands[0].view);
        const weir_dispatch_desc desc = {
            .kernel = sum_up, .operands = operands, .operand_count = 2};
        assert_ok(weir_session_dispatch(session, &desc, NULL));
        weir_view_release(&operands[0].view);
        assert_ok(weir_session_finish(session));
        assert_true(*(const float*)weir_view_contents(&operands[1].view) == (i % 2 ? 32 : 16));
    }
    weir_session_destroy(session);
    weir_storage_release(result);
    return NULL;
}

static void threads_read_one_arena(void** state) {
    (void)state;
    fixture f = begin((void*[]){"cpu"}, NULL);
    float numbers[16];
    for (uint32_t node = 1; node <= 2; node++) {
        for (int i = 0; i < 16; i++) {
            numbers[i] = (float)node;
        }
        assert_ok(weir_arena_write(f.arena, node, WEIR_DTYPE_F32, 0, numbers, 16));
    }
    reader r = {.device = f.device, .arena = f.arena};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_nodes, &r), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    end(&f);
}

static weir_status use_arena(weir_device* device, const weir_plan* plan, weir_arena** arena) {
    static const char* const names[] = {"x", NULL, "logits", "h"};
    const float numbers[16] = {1};
    float back[16];
    const weir_shape shape = weir_shape_make(1, (const int64_t[]){16});
    weir_view view;
    const weir_arena_desc desc = {
        .plan = plan, .names = names, .twin = WEIR_TWIN_ALWAYS, .device_only = true};
    weir_arena_range ranges[40];
    WEIR_TRY(weir_arena_create_with(device, &desc, arena));
    WEIR_TRY(weir_arena_twin_view(*arena, 1, &shape, &view));
    WEIR_TRY(weir_arena_write(*arena, 1, WEIR_DTYPE_F32, 0, numbers, 16));
    for (int i = 0; i < 40; i++) {
        ranges[i] = (weir_arena_range){.node = 1, .byte_size = sizeof back, .bytes = back};
    }
    return weir_arena_read_many(*arena, ranges, 40);
}

static void each_allocation_may_fail(void** state) {
    weir_plan* plan = make_plan(sizes, 4, 0);
    for (size_t fail_at = 0;; fail_at++) {
        assert_true(fail_at < 200);
        test_allocator counter = {.fail_at = SIZE_MAX};
        weir_device* device = open_device(*state, 1, &counter);
        weir_arena* arena = NULL;
        counter.fail_at = atomic_load(&counter.calls) + fail_at;
        const weir_status status = use_arena(device, plan, &arena);
        counter.fail_at = SIZE_MAX;
        weir_arena_destroy(arena);
        weir_device_destroy(device); // passes in flight keep what they need until then
        assert_int_equal(atomic_load(&counter.live_bytes), 0);
        if (status == WEIR_OK) {
            assert_true(fail_at >= 8);
            break;
        }
        assert_int_equal(status, WEIR_OUT_OF_MEMORY);
    }
    weir_plan_destroy(plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ON_BOTH(nodes_lie_where_the_plan_says),
        ON_BOTH(no_value_crosses_a_block_border),
        ON_BOTH(the_length_bounds_host_io_and_views),
        cmocka_unit_test(a_length_does_not_change_under_a_pass),
        cmocka_unit_test(later_passes_see_a_write_and_earlier_ones_do_not),
        ON_BOTH(nothing_is_staged_where_the_host_reaches_idle_memory),
        cmocka_unit_test(memory_out_of_reach_is_read_with_one_wait),
        cmocka_unit_test(a_hundred_outputs_are_one_wait),
        ON_BOTH(the_budget_is_checked_before_the_first_allocation),
        ON_BOTH(bad_arenas_are_refused),
        ON_BOTH(buffers_of_two_pools_have_blocks_of_their_own),
        cmocka_unit_test(q4_0_written_raw_is_multiplied_and_read_back_equal),
        ON_BOTH(a_program_needs_one_block_for_all_its_values),
        cmocka_unit_test(threads_read_one_arena),
        ON_BOTH(each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
