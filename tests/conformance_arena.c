// Arena: planned memory whose nodes lie where the plan says.
#include "conformance.h"

#include <math.h>

static const uint64_t node_sizes[] = {100, 256, 64, 1024};

static weir_plan* plan_of(uint32_t count, const uint64_t* sizes, uint64_t block_bytes_max) {
    weir_plan_buffer buffers[8] = {0};
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

static weir_arena* arena_of(const conformance* c, weir_arena_desc desc) {
    static const char* const names[] = {"x", NULL, "logits", "h"};
    weir_plan* plan = plan_of(4, node_sizes, 0);
    weir_arena* arena = NULL;
    desc.plan = plan;
    desc.names = names;
    assert_ok(weir_arena_create_with(c->device, &desc, &arena));
    weir_plan_destroy(plan);
    return arena;
}

static weir_view node_floats(const weir_arena* arena, uint32_t node) {
    weir_view view;
    assert_ok(weir_arena_node_view(arena, node, WEIR_DTYPE_F32, NULL, &view));
    return view;
}

// One allocation that fits every offset + length.
static void arena_from_plan(void** state) {
    const conformance* c = *state;
    weir_plan* plan = plan_of(4, node_sizes, 0);
    weir_arena* arena = NULL;
    uint32_t count = 0;
    const weir_plan_entry* entries = weir_plan_entries(plan, &count);
    assert_ok(weir_arena_create(c->device, plan, &arena));
    assert_int_equal(weir_arena_block_count(arena), 1);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(entries[i].byte_offset + entries[i].byte_size <= weir_arena_byte_size(arena));
    }
    assert_int_equal(weir_arena_byte_size(arena), weir_plan_result_of(plan)->peak);
    weir_arena_destroy(arena);
    weir_plan_destroy(plan);
}

// The budget is checked before the first allocation; the deficit is told in figures.
static void arena_budget_before_allocating(void** state) {
    const conformance* c = *state;
    weir_plan* plan = plan_of(4, node_sizes, 0);
    const uint64_t needed = weir_plan_result_of(plan)->peak;
    weir_arena_deficit deficit = {0};
    weir_arena* arena = NULL;
    weir_arena_desc desc = {.plan = plan, .byte_budget = needed - 1, .deficit = &deficit};
    const size_t calls = atomic_load(&c->allocator.live_bytes);
    assert_status(weir_arena_create_with(c->device, &desc, &arena), WEIR_OUT_OF_MEMORY);
    assert_null(arena);
    assert_int_equal(atomic_load(&c->allocator.live_bytes), calls);
    assert_int_equal(deficit.needed_bytes, needed);
    assert_int_equal(deficit.available_bytes, needed - 1);
    assert_int_equal(deficit.deficit_bytes, 1);
    desc.byte_budget = needed;
    assert_ok(weir_arena_create_with(c->device, &desc, &arena));
    assert_int_equal(deficit.deficit_bytes, 0);
    weir_arena_destroy(arena);
    weir_plan_destroy(plan);
}

// Where bindings are capped there are several blocks, and no node crosses from one to the next.
static void arena_in_several_blocks(void** state) {
    const conformance* c = *state;
    static const uint64_t sizes[] = {700, 600, 500, 400, 300, 200};
    weir_plan* plan = plan_of(6, sizes, 1024);
    weir_arena* arena = NULL;
    assert_ok(weir_arena_create(c->device, plan, &arena));
    assert_true(weir_arena_block_count(arena) >= 3);
    for (uint32_t i = 0; i < 6; i++) {
        weir_arena_node node;
        assert_ok(weir_arena_get(arena, i, &node));
        weir_storage* block = weir_arena_block(arena, node.block);
        assert_true(weir_storage_byte_size(block) <= 1024);
        assert_true(node.byte_offset + node.slot_bytes <= weir_storage_byte_size(block));
        const weir_view view = node_floats(arena, i);
        put_count(c, &view, (float)(1000 * i));
    }
    for (uint32_t i = 0; i < 6; i++) {
        const weir_view view = node_floats(arena, i);
        assert_counts(c, &view, (float)(1000 * i), 1.0f);
    }
    weir_arena_destroy(arena);
    weir_plan_destroy(plan);
}

// Lookup by number and by name, enumeration, and an error for what is unknown.
static void arena_has_offset_len_of(void** state) {
    const conformance* c = *state;
    weir_arena* arena = arena_of(c, (weir_arena_desc){0});
    weir_arena_node node;
    uint32_t number = 99;
    assert_int_equal(weir_arena_node_count(arena), 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(weir_arena_has(arena, i));
        assert_ok(weir_arena_get(arena, i, &node));
        assert_int_equal(node.byte_length, node_sizes[i]);
        assert_int_equal(node.byte_offset % 64, 0);
        const weir_view view = node_floats(arena, i);
        assert_int_equal(view.byte_offset, node.byte_offset);
        assert_int_equal(weir_view_byte_length(&view), node_sizes[i]);
    }
    assert_ok(weir_arena_find(arena, "logits", &number));
    assert_int_equal(number, 2);
    assert_false(weir_arena_has(arena, 4));
    assert_status(weir_arena_get(arena, 4, &node), WEIR_NOT_FOUND);
    assert_status(weir_arena_find(arena, "gradients", &number), WEIR_NOT_FOUND);
    weir_arena_destroy(arena);
}

// One binding of all bytes for every kernel; offsets tell the nodes apart.
static void arena_whole_binding(void** state) {
    const conformance* c = *state;
    weir_arena* arena = arena_of(c, (weir_arena_desc){0});
    weir_arena_node node;
    weir_view whole;
    assert_ok(weir_arena_whole(arena, 0, &whole));
    assert_int_equal(weir_view_byte_length(&whole), weir_arena_byte_size(arena));
    for (uint32_t i = 0; i < 4; i++) {
        weir_view part;
        weir_view floats;
        assert_ok(weir_arena_get(arena, i, &node));
        assert_ok(weir_view_slice(&whole, node.byte_offset, (int64_t)node.byte_length, &part));
        assert_ok(weir_view_bitcast(&part, WEIR_DTYPE_F32, &floats));
        assert_ok(fill_with(c->session, &floats, (float)i));
    }
    assert_ok(weir_session_finish(c->session));
    for (uint32_t i = 0; i < 4; i++) {
        const weir_view floats = node_floats(arena, i);
        assert_counts(c, &floats, (float)i, 0.0f);
    }
    assert_status(weir_arena_whole(arena, 1, &whole), WEIR_NOT_FOUND);
    weir_arena_destroy(arena);
}

// The length of a node bounds views and the host, within the extent that was recorded.
static void arena_set_actual_len(void** state) {
    const conformance* c = *state;
    static const uint64_t extents[] = {100, 128, 64, 1024};
    weir_arena* arena = arena_of(c, (weir_arena_desc){.extents = extents});
    float numbers[32] = {0};
    assert_status(weir_arena_set_length(arena, 1, 129), WEIR_OUT_OF_RANGE);
    assert_status(weir_arena_set_length(arena, 0, 101), WEIR_OUT_OF_RANGE);
    assert_status(weir_arena_set_length(arena, 4, 4), WEIR_NOT_FOUND);
    assert_ok(weir_arena_set_length(arena, 1, 20));
    weir_view view = node_floats(arena, 1);
    assert_int_equal(weir_view_element_count(&view), 5);
    assert_ok(weir_arena_write(arena, 1, WEIR_DTYPE_F32, 0, numbers, 5));
    assert_status(weir_arena_write(arena, 1, WEIR_DTYPE_F32, 0, numbers, 6), WEIR_OUT_OF_RANGE);
    assert_status(weir_arena_write(arena, 1, WEIR_DTYPE_F32, 5, numbers, 1), WEIR_OUT_OF_RANGE);
    assert_status(weir_arena_read(arena, 1, WEIR_DTYPE_F32, 0, numbers, 6), WEIR_OUT_OF_RANGE);
    const weir_shape six = weir_shape_make(1, (const int64_t[]){6});
    assert_status(weir_arena_node_view(arena, 1, WEIR_DTYPE_F32, &six, &view), WEIR_OUT_OF_RANGE);
    assert_ok(weir_arena_set_length(arena, 1, 128)); // and back
    assert_ok(weir_arena_write(arena, 1, WEIR_DTYPE_F32, 0, numbers, 32));
    weir_arena_destroy(arena);
}

// Passes committed after a write see it, those before do not; the source may be reused at once.
static void arena_write_f32_and_read_f32(void** state) {
    const conformance* c = *state;
    need_execution(c);
    weir_arena* arenas[] = {arena_of(c, (weir_arena_desc){0}),
                            arena_of(c, (weir_arena_desc){.device_only = true})};
    for (int i = 0; i < 20; i++) {
        weir_arena* arena = arenas[i % 2];
        const weir_view node = node_floats(arena, 1);
        const weir_view before = first_floats(c, 0, 64);
        const weir_view after = first_floats(c, 64, 64);
        float numbers[64];
        weir_ticket ticket;
        for (int k = 0; k < 64; k++) {
            numbers[k] = (float)(i + k);
        }
        assert_ok(weir_arena_write(arena, 1, WEIR_DTYPE_F32, 0, numbers, 64));
        memset(numbers, 0xFF, sizeof numbers);
        assert_ok(weir_session_copy(c->session, &node, &before));
        assert_ok(weir_session_commit(c->session, &ticket));
        for (int k = 0; k < 64; k++) {
            numbers[k] = -1.0f;
        }
        assert_ok(weir_arena_write(arena, 1, WEIR_DTYPE_F32, 8, numbers, 48));
        memset(numbers, 0, sizeof numbers);
        assert_ok(weir_session_copy(c->session, &node, &after));
        assert_ok(weir_session_commit(c->session, &ticket));
        assert_ok(weir_arena_read(arena, 1, WEIR_DTYPE_F32, 6, numbers, 4));
        assert_true(numbers[0] == (float)(i + 6) && numbers[2] == -1.0f && numbers[3] == -1.0f);
        assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
        const weir_view middle = first_floats(c, 72, 48);
        assert_counts(c, &before, (float)i, 1.0f);
        assert_counts(c, &middle, -1.0f, 0.0f);
    }
    weir_arena_destroy(arenas[0]);
    weir_arena_destroy(arenas[1]);
}

// All outputs of a pass come back with one wait.
static void arena_reads_all_outputs_at_once(void** state) {
    const conformance* c = *state;
    weir_arena* arena = arena_of(c, (weir_arena_desc){.device_only = true});
    float outputs[4][256] = {{0}};
    weir_arena_range ranges[4];
    weir_ticket ticket;
    for (uint32_t i = 0; i < 4; i++) {
        const weir_view node = node_floats(arena, i);
        ranges[i] = (weir_arena_range){.node = i, .byte_size = node_sizes[i], .bytes = outputs[i]};
        assert_ok(fill_with(c->session, &node, (float)(i + 1)));
    }
    assert_ok(weir_session_commit(c->session, &ticket));
    const uint64_t waits = weir_arena_counted(arena).host_waits;
    assert_ok(weir_arena_read_many(arena, ranges, 4));
    assert_true(weir_arena_counted(arena).host_waits - waits <= 1);
    for (uint32_t i = 0; c->executes && i < 4; i++) {
        for (uint64_t k = 0; k < node_sizes[i] / sizeof(float); k++) {
            assert_true(outputs[i][k] == (float)(i + 1));
        }
    }
    ranges[3].byte_size = 1025;
    assert_status(weir_arena_read_many(arena, ranges, 4), WEIR_OUT_OF_RANGE);
    weir_arena_destroy(arena);
}

static void arena_write_bytes_range_and_read_bytes_range(void** state) {
    const conformance* c = *state;
    weir_arena* arena = arena_of(c, (weir_arena_desc){0});
    uint8_t bytes[100];
    uint8_t back[100] = {0};
    for (int i = 0; i < 100; i++) {
        bytes[i] = (uint8_t)(i * 7);
    }
    assert_ok(weir_arena_write_bytes(arena, 0, 0, bytes, 33));
    assert_ok(weir_arena_write_bytes(arena, 0, 33, bytes + 33, 67));
    assert_ok(weir_arena_read_bytes(arena, 0, 1, back, 99));
    if (c->executes) {
        assert_memory_equal(back, bytes + 1, 99);
    }
    assert_status(weir_arena_write_bytes(arena, 0, 1, bytes, 100), WEIR_OUT_OF_RANGE);
    assert_status(weir_arena_write_bytes(arena, 0, UINT64_MAX, bytes, 2), WEIR_OUT_OF_RANGE);
    assert_status(weir_arena_read_bytes(arena, 0, 100, back, 1), WEIR_OUT_OF_RANGE);
    assert_status(weir_arena_read_bytes(arena, 9, 0, back, 1), WEIR_NOT_FOUND);
    weir_arena_destroy(arena);
}

// y [1, n] = x [1, k] * transpose(w [n, k]) over weights of any type, as a program.
typedef struct product {
    weir_graph* graph;
    weir_schedule* schedule;
    weir_program* program;
    weir_value x, y;
} product;

static product compile(const conformance* c, const weir_view* weight) {
    product p = {0};
    weir_binding binding = {.view = *weight};
    const weir_shape row = weir_shape_make(2, (const int64_t[]){1, weight->shape.dims[1]});
    assert_ok(weir_graph_create(NULL, &p.graph));
    assert_ok(weir_graph_input(p.graph, "x", WEIR_DTYPE_F32, &row, WEIR_PARAM_NONE, &p.x));
    assert_ok(weir_graph_weight(p.graph, "w", weight->dtype, &weight->shape, &binding.value));
    assert_ok(weir_graph_matmul(p.graph, p.x, binding.value, &p.y));
    assert_ok(weir_graph_output(p.graph, p.y));
    assert_ok(
        weir_schedule_create(NULL, p.graph, weir_device_target(c->device), NULL, &p.schedule));
    const weir_program_desc desc = {
        .schedule = p.schedule, .bindings = &binding, .binding_count = 1};
    assert_ok(weir_program_create(c->device, &desc, &p.program));
    return p;
}

static void discard(product* p) {
    weir_program_destroy(p->program);
    weir_schedule_destroy(p->schedule);
    weir_graph_destroy(p->graph);
}

// Q4_0 blocks are written raw into an arena of weights, multiplied where they lie, and read back as
// they were. The program keeps the memory when the arena goes.
static void arena_packed_weights_are_multiplied_in_place(void** state) {
    const conformance* c = *state;
    enum { K = 64, N = 5, BYTES = K / 32 * 18 * N };
    weir_plan* plan = plan_of(1, (const uint64_t[]){BYTES}, 0);
    weir_arena* arena = NULL;
    uint8_t packed[BYTES];
    uint8_t back[BYTES];
    float decoded[K * N];
    float x[K];
    float y[N] = {0};
    weir_view weight;
    weir_ticket ticket;
    test_random random = {.state = 7};
    for (size_t i = 0; i < BYTES; i++) {
        packed[i] = i % 18 == 1 ? 0x2C : (uint8_t)random_u64(&random); // scales of about 2^-4
    }
    for (int i = 0; i < K; i++) {
        x[i] = random_unit(&random);
    }
    assert_ok(weir_dtype_to_f32(WEIR_DTYPE_Q4_0, packed, K * N, decoded));
    assert_ok(weir_arena_create(c->device, plan, &arena));
    assert_ok(weir_arena_write_bytes(arena, 0, 0, packed, 18));
    assert_ok(weir_arena_write_bytes(arena, 0, 18, packed + 18, BYTES - 18));
    const weir_shape matrix = weir_shape_make(2, (const int64_t[]){N, K});
    assert_ok(weir_arena_node_view(arena, 0, WEIR_DTYPE_Q4_0, &matrix, &weight));
    product p = compile(c, &weight);
    assert_ok(weir_arena_read_bytes(arena, 0, 0, back, BYTES));
    weir_arena_destroy(arena);
    assert_ok(weir_program_write(p.program, p.x, x, sizeof x));
    assert_ok(weir_program_commit(p.program, NULL, 0, &ticket));
    assert_ok(weir_ticket_wait(ticket, WEIR_WAIT_FOREVER));
    assert_ok(weir_program_read(p.program, ticket, p.y, y, sizeof y));
    for (int i = 0; c->executes && i < N; i++) {
        double sum = 0;
        double magnitude = 0;
        for (int k = 0; k < K; k++) {
            sum += (double)x[k] * (double)decoded[i * K + k];
            magnitude += fabs((double)x[k] * (double)decoded[i * K + k]);
        }
        // Kernels may quantise x to 8 bits.
        assert_true(fabs((double)y[i] - sum) <= magnitude * 0x1p-7);
    }
    if (c->executes) {
        assert_memory_equal(packed, back, BYTES);
    }
    discard(&p);
    weir_plan_destroy(plan);
}

int conformance_arena(void) {
    const struct CMUnitTest cases[] = {
        conformance_case(arena_from_plan),
        conformance_case(arena_budget_before_allocating),
        conformance_case(arena_in_several_blocks),
        conformance_case(arena_has_offset_len_of),
        conformance_case(arena_whole_binding),
        conformance_case(arena_set_actual_len),
        conformance_case(arena_write_f32_and_read_f32),
        conformance_case(arena_reads_all_outputs_at_once),
        conformance_case(arena_write_bytes_range_and_read_bytes_range),
        conformance_case(arena_packed_weights_are_multiplied_in_place),
    };
    return cmocka_run_group_tests_name("Arena", cases, NULL, NULL);
}
