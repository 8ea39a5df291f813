// The check of a schedule: right ones pass in every mode, and each kind of planted mistake is found
// by its proof, which names what is wrong.
#include "testing.h"

#include <stdatomic.h>
#include <weir/check.h>

#include "random_graph.h"
#include "schedule/schedule.h"
#include "small_blocks.h"
#include "testing_allocator.h"

#define PASSES 3
#define BINDINGS_MAX 16

// A graph with all that its check takes.
typedef struct subject {
    weir_device* device;
    weir_schedule* schedule;
    weir_storage* storage; // of all bindings
    weir_binding bindings[BINDINGS_MAX];
    uint64_t params[PASSES][2];
    float numbers[3][RANDOM_ROWS * RANDOM_WIDTH]; // of each input
    weir_check_input inputs[3];
    weir_check_pass passes[PASSES];
    weir_check_desc desc;
} subject;

// What the proofs said.
typedef struct verdicts {
    weir_status status[WEIR_PROOF_COUNT];
    char messages[WEIR_PROOF_COUNT][512];
    uint32_t count;
} verdicts;

static void listen(void* context, weir_proof proof, weir_status status) {
    verdicts* heard = context;
    assert_int_equal(proof, heard->count); // in their order
    heard->status[proof] = status;
    snprintf(heard->messages[proof], sizeof heard->messages[proof], "%s",
             status == WEIR_OK ? "" : weir_last_error());
    heard->count++;
}

static void bind_all(subject* s, const weir_graph* graph, test_random* random) {
    const weir_storage_desc desc = {.byte_size = 1u << 18, .fill = WEIR_FILL_ZERO};
    uint64_t offset = 0;
    assert_ok(weir_storage_allocate(s->device, &desc, &s->storage));
    uint8_t* bytes = weir_storage_host_pointer(s->storage);
    for (weir_value value = 0; value < weir_graph_value_count(graph); value++) {
        const weir_value_info* info = weir_graph_value_info(graph, value);
        if (info->kind != WEIR_VALUE_WEIGHT && info->kind != WEIR_VALUE_STATE) {
            continue;
        }
        weir_binding* binding = &s->bindings[s->desc.binding_count++];
        assert_true(s->desc.binding_count <= BINDINGS_MAX);
        binding->value = value;
        assert_ok(weir_view_make(s->storage, offset, info->layout.dtype, &info->layout.shape,
                                 &binding->view));
        const uint64_t byte_size = weir_view_byte_span(&info->layout);
        for (uint64_t i = 0; info->layout.dtype == WEIR_DTYPE_F32 && i < byte_size; i += 4) {
            const float number = 0.25f * random_unit(random);
            memcpy(bytes + offset + i, &number, sizeof number);
        }
        offset += (byte_size + 63) / 64 * 64;
    }
}

static void make_passes(subject* s, const random_graph* made, test_random* random) {
    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; k < RANDOM_ROWS * RANDOM_WIDTH; k++) {
            s->numbers[i][k] = random_unit(random);
        }
        s->inputs[i] = (weir_check_input){made->inputs[i], s->numbers[i], sizeof s->numbers[i]};
    }
    for (size_t p = 0; p < PASSES; p++) {
        s->params[p][made->rows] = 1 + random_below(random, RANDOM_ROWS);
        s->params[p][made->position] = random_below(random, RANDOM_POSITION + 1);
        s->passes[p] = (weir_check_pass){
            .params = s->params[p], .param_count = 2, .inputs = s->inputs, .input_count = 3};
    }
    s->desc.passes = s->passes;
    s->desc.pass_count = PASSES;
    s->desc.delayed_runs = 1;
}

static void make_subject_for(subject* s, weir_device* device, const weir_target* target,
                             const random_graph* made, weir_schedule_options options,
                             test_random* random) {
    *s = (subject){.device = device};
    assert_ok(weir_schedule_create(NULL, made->graph, target, &options, &s->schedule));
    bind_all(s, made->graph, random);
    make_passes(s, made, random);
    s->desc.schedule = s->schedule;
    s->desc.bindings = s->bindings;
}

static void make_subject(subject* s, weir_device* device, const random_graph* made,
                         weir_schedule_options options, test_random* random) {
    make_subject_for(s, device, weir_device_target(device), made, options, random);
}

static void drop_subject(subject* s) {
    weir_schedule_destroy(s->schedule);
    weir_storage_release(s->storage);
}

static weir_device* open_device(uint32_t threads) {
    weir_device* device = NULL;
    assert_ok(weir_device_create(&(weir_device_desc){.thread_count = threads}, &device));
    return device;
}

static verdicts hear(subject* s, weir_status expected) {
    verdicts heard = {0};
    s->desc.report = listen;
    s->desc.context = &heard;
    assert_status(weir_schedule_prove(s->device, &s->desc), expected);
    assert_int_equal(heard.count, WEIR_PROOF_COUNT);
    return heard;
}

static void random_graphs_are_proven_in_every_mode(void** state) {
    (void)state;
    test_random random = {29};
    weir_device* device = open_device(3);
    const weir_schedule_options modes[] = {{.reuse = WEIR_REUSE_FREE},
                                           {.reuse = WEIR_REUSE_SERIAL},
                                           {.reuse = WEIR_REUSE_NONE},
                                           {.fence_all = true},
                                           {.never_in_place = true}};
    for (uint32_t i = 0; i < 25; i++) {
        static subject s;
        random_graph made = random_graph_make(&random, 10 + i);
        make_subject(&s, device, &made, modes[i % 5], &random);
        const verdicts heard = hear(&s, WEIR_OK);
        for (uint32_t p = 0; p < WEIR_PROOF_COUNT; p++) {
            assert_int_equal(heard.status[p], WEIR_OK);
        }
        drop_subject(&s);
        weir_graph_destroy(made.graph);
    }
    weir_device_destroy(device);
}

static void random_graphs_in_small_blocks_are_proven(void** state) {
    (void)state;
    test_random random = {37};
    weir_device* device = open_device(3);
    const weir_schedule_options modes[] = {{.reuse = WEIR_REUSE_FREE},
                                           {.reuse = WEIR_REUSE_SERIAL},
                                           {.reuse = WEIR_REUSE_NONE},
                                           {.never_in_place = true}};
    uint32_t blocks = 0;
    for (uint32_t i = 0; i < 24; i++) {
        static subject s;
        random_graph made = random_graph_make(&random, 12 + i);
        weir_target target =
            with_small_blocks(weir_device_target(device), made.graph, modes[i % 4]);
        target.storage_bytes_max += i / 4 % 3 * 1024; // a little more room, too
        make_subject_for(&s, device, &target, &made, modes[i % 4], &random);
        blocks += s.schedule->report.arena_blocks;
        hear(&s, WEIR_OK);
        drop_subject(&s);
        weir_graph_destroy(made.graph);
    }
    assert_true(blocks > 24 * 2);
    weir_device_destroy(device);
}

// Two products of inputs, their sum, and its norm: dispatches 0 and 1 side by side, then 2, then 3.
typedef struct diamond {
    random_graph made; // only what make_subject reads
    weir_value a, b, sum, y;
} diamond;

static diamond make_diamond(void) {
    diamond d = {0};
    const weir_shape shape = weir_shape_make(2, (int64_t[]){RANDOM_ROWS, RANDOM_WIDTH});
    const weir_shape square = weir_shape_make(2, (int64_t[]){RANDOM_WIDTH, RANDOM_WIDTH});
    weir_value c = WEIR_VALUE_NONE;
    assert_ok(weir_graph_create(NULL, &d.made.graph));
    weir_graph* graph = d.made.graph;
    assert_ok(weir_graph_param(graph, "rows", 1, RANDOM_ROWS, &d.made.rows));
    assert_ok(weir_graph_param(graph, "position", 0, 3, &d.made.position));
    for (size_t i = 0; i < 3; i++) {
        assert_ok(
            weir_graph_input(graph, "x", WEIR_DTYPE_F32, &shape, d.made.rows, &d.made.inputs[i]));
    }
    assert_ok(weir_graph_weight(graph, "w", WEIR_DTYPE_F32, &square, &d.made.square));
    assert_ok(weir_graph_matmul(graph, d.made.inputs[0], d.made.square, &d.a));
    assert_ok(weir_graph_matmul(graph, d.made.inputs[1], d.made.square, &d.b));
    assert_ok(weir_graph_add(graph, d.a, d.b, &d.sum));
    assert_ok(weir_graph_matmul(graph, d.sum, d.made.square, &c));
    assert_ok(weir_graph_add(graph, c, d.a, &d.y));
    assert_ok(weir_graph_output(graph, d.y));
    return d;
}

static void diamond_subject(subject* s, weir_device* device, diamond* d) {
    test_random random = {31};
    *d = make_diamond();
    make_subject(s, device, &d->made, (weir_schedule_options){.without_fusions = WEIR_FUSION_ALL},
                 &random);
    for (size_t p = 0; p < PASSES; p++) {
        s->params[p][d->made.position] %= 4;
    }
}

static void assert_names(const verdicts* heard, weir_proof proof, const subject* s,
                         uint32_t dispatch) {
    char text[300];
    snprintf(text, sizeof text, "%u (%s)", dispatch, s->schedule->dispatches.items[dispatch].name);
    if (!strstr(heard->messages[proof], text)) {
        fail_msg("\"%s\" does not name %s", heard->messages[proof], text);
    }
}

static void a_missing_edge_is_found_by_the_order(void** state) {
    (void)state;
    static subject s;
    diamond d;
    weir_device* device = open_device(1);
    diamond_subject(&s, device, &d);
    // Dispatch 2 waits for 0 and 1: it now waits for one of them twice.
    schedule_edges* edges = &s.schedule->edges;
    const uint32_t kept = edges->items[edges->begins[2]];
    const uint32_t lost = edges->items[edges->begins[2] + 1];
    edges->items[edges->begins[2] + 1] = kept;
    const verdicts heard = hear(&s, WEIR_INTERNAL);
    assert_int_equal(heard.status[WEIR_PROOF_PLAN], WEIR_OK);
    assert_int_equal(heard.status[WEIR_PROOF_ORDER], WEIR_INTERNAL);
    assert_names(&heard, WEIR_PROOF_ORDER, &s, lost);
    assert_names(&heard, WEIR_PROOF_ORDER, &s, 2);
    assert_message_has(heard.messages[WEIR_PROOF_ORDER]); // the first failure is the outcome
    drop_subject(&s);
    weir_graph_destroy(d.made.graph);
    weir_device_destroy(device);
}

static void values_on_the_same_bytes_are_found_by_three_proofs(void** state) {
    (void)state;
    static subject s;
    diamond d;
    weir_device* device = open_device(1);
    diamond_subject(&s, device, &d);
    s.schedule->placements[d.b].byte_offset = s.schedule->placements[d.a].byte_offset;
    const verdicts heard = hear(&s, WEIR_INTERNAL);
    assert_int_equal(heard.status[WEIR_PROOF_ORDER], WEIR_INTERNAL);
    assert_names(&heard, WEIR_PROOF_ORDER, &s, 0);
    assert_names(&heard, WEIR_PROOF_ORDER, &s, 1);
    assert_int_equal(heard.status[WEIR_PROOF_POISON], WEIR_INTERNAL);
    assert_names(&heard, WEIR_PROOF_POISON, &s, 2); // the first to read what was taken
    assert_int_equal(heard.status[WEIR_PROOF_ELIDED], WEIR_INTERNAL);
    drop_subject(&s);
    weir_graph_destroy(d.made.graph);
    weir_device_destroy(device);
}

static void a_plan_with_a_collision_is_found_by_the_verifier(void** state) {
    (void)state;
    static subject s;
    diamond d;
    weir_device* device = open_device(1);
    diamond_subject(&s, device, &d);
    // The plan was made for fewer bytes than the value has.
    weir_plan_buffer* buffer = &s.schedule->plan_buffers.items[s.schedule->buffers[d.a]];
    buffer->byte_size += 64;
    const verdicts heard = hear(&s, WEIR_INFEASIBLE);
    assert_int_equal(heard.status[WEIR_PROOF_PLAN], WEIR_INFEASIBLE);
    assert_int_equal(heard.status[WEIR_PROOF_ORDER], WEIR_OK);
    buffer->byte_size -= 64;
    drop_subject(&s);
    weir_graph_destroy(d.made.graph);
    weir_device_destroy(device);
}

// The last use of `a` is forgotten, as by a planner that frees it one dispatch too soon: nothing
// has taken its bytes yet, and only the poison shows the read.
static void a_read_after_free_is_found_by_the_poison(void** state) {
    (void)state;
    static subject s;
    diamond d;
    weir_device* device = open_device(1);
    diamond_subject(&s, device, &d);
    const uint32_t end = s.schedule->uses.begins[d.a + 1];
    assert_int_equal(s.schedule->uses.items[end - 1], 4);
    s.schedule->uses.items[end - 1] = 2;
    const verdicts heard = hear(&s, WEIR_INTERNAL);
    for (uint32_t p = 0; p < WEIR_PROOF_COUNT; p++) {
        assert_int_equal(heard.status[p], p == WEIR_PROOF_POISON ? WEIR_INTERNAL : WEIR_OK);
    }
    assert_names(&heard, WEIR_PROOF_POISON, &s, 4);
    drop_subject(&s);
    weir_graph_destroy(d.made.graph);
    weir_device_destroy(device);
}

static void states_of_the_caller_are_judged_and_left_alone(void** state) {
    (void)state;
    test_random random = {37};
    static subject s;
    static uint8_t before[1u << 18];
    weir_device* device = open_device(2);
    random_graph made = random_graph_make(&random, 40);
    make_subject(&s, device, &made, (weir_schedule_options){0}, &random);
    assert_true(s.schedule->report.state_bytes > 0);
    memcpy(before, weir_storage_host_pointer(s.storage), sizeof before);
    hear(&s, WEIR_OK);
    assert_memory_equal(before, weir_storage_host_pointer(s.storage), sizeof before);
    for (uint32_t i = 0; i < s.desc.binding_count; i++) {
        const uint64_t offset = s.bindings[i].view.byte_offset;
        if (weir_schedule_value(s.schedule, s.bindings[i].value)->kind != WEIR_VALUE_STATE) {
            continue;
        }
        s.bindings[i].view.byte_offset = (1u << 18) - 64; // past the end of what is to be copied
        assert_status(weir_schedule_prove(device, &s.desc), WEIR_OUT_OF_RANGE);
        s.bindings[i].view.byte_offset = offset;
    }
    drop_subject(&s);
    weir_graph_destroy(made.graph);
    weir_device_destroy(device);
}

static void count_tiles(void* context, uint32_t worker, const char* name, uint32_t dispatch,
                        uint32_t tile, bool begin) {
    (void)worker;
    (void)name;
    (void)dispatch;
    (void)tile;
    (void)begin;
    atomic_fetch_add((atomic_uint*)context, 1);
}

static void the_tile_hook_of_the_caller_is_back_afterwards(void** state) {
    (void)state;
    static subject s;
    diamond d;
    atomic_uint tiles = 0;
    weir_device* device = open_device(1);
    diamond_subject(&s, device, &d);
    assert_ok(weir_device_set_tile_hook(device, count_tiles, &tiles));
    hear(&s, WEIR_OK);
    assert_int_equal(tiles, 0);
    weir_program* program = NULL;
    const weir_program_desc desc = {
        .schedule = s.schedule, .bindings = s.bindings, .binding_count = s.desc.binding_count};
    assert_ok(weir_program_create(device, &desc, &program));
    for (uint32_t i = 0; i < s.passes[0].input_count; i++) {
        const weir_check_input* input = &s.passes[0].inputs[i];
        assert_ok(weir_program_write(program, input->input, input->bytes, input->byte_size));
    }
    assert_ok(weir_program_run(program, s.params[0], 2));
    assert_true(tiles > 0);
    weir_program_destroy(program);
    drop_subject(&s);
    weir_graph_destroy(d.made.graph);
    weir_device_destroy(device);
}

static void wrong_passes_and_bindings_are_errors(void** state) {
    (void)state;
    static subject s;
    diamond d;
    weir_device* device = open_device(1);
    diamond_subject(&s, device, &d);
    s.params[1][d.made.rows] = RANDOM_ROWS + 1;
    assert_status(weir_schedule_prove(device, &s.desc), WEIR_OUT_OF_RANGE);
    s.params[1][d.made.rows] = 1;
    s.passes[2].param_count = 1;
    assert_status(weir_schedule_prove(device, &s.desc), WEIR_INVALID_ARGUMENT);
    s.passes[2].param_count = 2;
    s.inputs[1].input = d.a;
    assert_status(weir_schedule_prove(device, &s.desc), WEIR_NOT_FOUND);
    s.inputs[1].input = d.made.inputs[1];
    s.desc.binding_count = 0;
    assert_status(weir_schedule_prove(device, &s.desc), WEIR_INVALID_ARGUMENT);
    s.desc.binding_count = 1;
    assert_ok(weir_schedule_prove(device, &s.desc));
    assert_string_equal(weir_proof_name((weir_proof)9), "unknown");
    drop_subject(&s);
    weir_graph_destroy(d.made.graph);
    weir_device_destroy(device);
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void** state) {
    (void)state;
    static subject s;
    test_allocator counter = {.fail_at = SIZE_MAX};
    weir_device* device = NULL;
    diamond d;
    const weir_device_desc desc = {.thread_count = 1, .allocator = test_allocator_of(&counter)};
    assert_ok(weir_device_create(&desc, &device));
    diamond_subject(&s, device, &d);
    const size_t live = counter.live_blocks;
    size_t failures = 0;
    for (weir_status status = WEIR_OUT_OF_MEMORY; status != WEIR_OK; failures++) {
        counter.fail_at = counter.calls + failures;
        status = weir_schedule_prove(device, &s.desc);
        assert_true(status == WEIR_OK || status == WEIR_OUT_OF_MEMORY ||
                    status == WEIR_DEVICE_OUT_OF_MEMORY);
        assert_int_equal(counter.live_blocks, live);
    }
    assert_true(failures > 15);
    counter.fail_at = SIZE_MAX;
    drop_subject(&s);
    weir_graph_destroy(d.made.graph);
    weir_device_destroy(device);
    assert_int_equal(counter.live_blocks, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_graphs_are_proven_in_every_mode),
        cmocka_unit_test(random_graphs_in_small_blocks_are_proven),
        cmocka_unit_test(a_missing_edge_is_found_by_the_order),
        cmocka_unit_test(values_on_the_same_bytes_are_found_by_three_proofs),
        cmocka_unit_test(a_plan_with_a_collision_is_found_by_the_verifier),
        cmocka_unit_test(a_read_after_free_is_found_by_the_poison),
        cmocka_unit_test(states_of_the_caller_are_judged_and_left_alone),
        cmocka_unit_test(the_tile_hook_of_the_caller_is_back_afterwards),
        cmocka_unit_test(wrong_passes_and_bindings_are_errors),
        cmocka_unit_test(each_failing_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
