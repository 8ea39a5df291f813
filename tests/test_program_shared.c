// Random graphs whose inputs, states and outputs lie where they like in one storage: what runs in
// parallel gives what a serial run gives, operation by operation in the order of the graph.
#include "random_instance.h"

#define STORAGE_ROWS 200
#define ROW_BYTES (RANDOM_WIDTH * sizeof(float))

typedef struct shared {
    weir_device* device;
    weir_schedule* schedule;
    weir_program* program; // NULL: refused
    weir_storage* storage; // of all values that are not weights
    weir_storage* weights[6];
} shared;

// Where each input, state and output of a graph lies, in units of half a row.
typedef struct places {
    uint64_t units[3 + 4 + 8];
} places;

static places draw_places(const random_graph* made, test_random* random) {
    places drawn;
    uint64_t next = 0;
    const uint32_t count = 7 + made->output_count;
    // States and inputs apart or nearly so, outputs anywhere: most graphs then have some order.
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t rows = i < 3 ? RANDOM_ROWS : RANDOM_CACHE;
        drawn.units[i] = i < 7 ? next : random_below(random, 2 * (STORAGE_ROWS - RANDOM_ROWS));
        next += 2 * rows - (i < 7 ? random_below(random, 8) / 7 * 4 : 0);
    }
    return drawn;
}

static weir_value value_at(const random_graph* made, uint32_t i) {
    return i < 3 ? made->inputs[i] : i < 7 ? made->states[i - 3] : made->outputs[i - 7];
}

static weir_status open_program(shared* s, const random_graph* made, const places* where) {
    weir_binding bindings[6 + 7 + 8];
    const weir_value weights[6] = {made->square, made->packed, made->widen,
                                   made->shrink, made->row,    made->half_row};
    test_random random = {307};
    uint32_t count = 0;
    for (; count < 6; count++) {
        const weir_value_info* info = weir_graph_value_info(made->graph, weights[count]);
        s->weights[count] = random_weight(s->device, info, &random);
        bindings[count] = (weir_binding){
            weights[count], view_of(s->weights[count], info->layout.dtype, info->layout.shape)};
    }
    for (uint32_t i = 0; i < 7 + made->output_count; i++) {
        const weir_value value = value_at(made, i);
        const weir_value_info* info = weir_graph_value_info(made->graph, value);
        bindings[count].value = value;
        assert_ok(weir_view_make(s->storage, where->units[i] * ROW_BYTES / 2, WEIR_DTYPE_F32,
                                 &info->layout.shape, &bindings[count++].view));
    }
    const weir_program_desc desc = {
        .schedule = s->schedule, .bindings = bindings, .binding_count = count};
    const weir_status status = weir_program_create(s->device, &desc, &s->program);
    if (status != WEIR_OK) {
        assert_status(status, WEIR_INVALID_ARGUMENT);
        assert_message_has("bound to the same bytes");
    }
    return status;
}

static shared open_shared(const random_graph* made, const places* where, uint32_t threads,
                          const char* target, weir_schedule_options options) {
    shared s = {.device = open_device("cpu", threads, NULL)};
    weir_target planned;
    test_random random = {311};
    s.storage = allocate_zeros(s.device, STORAGE_ROWS * ROW_BYTES);
    fill_floats(&random, weir_storage_host_pointer(s.storage), STORAGE_ROWS * RANDOM_WIDTH);
    assert_ok(weir_target_find(target, &planned));
    assert_ok(weir_schedule_create(NULL, made->graph, &planned, &options, &s.schedule));
    if (open_program(&s, made, where) != WEIR_OK) {
        assert_null(s.program);
    }
    return s;
}

static void close_shared(shared* s) {
    weir_program_destroy(s->program);
    weir_schedule_destroy(s->schedule);
    weir_storage_release(s->storage);
    for (size_t i = 0; i < 6; i++) {
        weir_storage_release(s->weights[i]);
    }
    weir_device_destroy(s->device);
}

// Numbers stay finite: what lies in the storage is drawn anew for each pass.
static void run_both(const shared* a, const shared* b, uint64_t seed, const uint64_t params[2]) {
    const shared* both[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        test_random random = {seed};
        fill_floats(&random, weir_storage_host_pointer(both[i]->storage),
                    STORAGE_ROWS * RANDOM_WIDTH);
        assert_ok(weir_program_run(both[i]->program, params, 2));
    }
    assert_memory_equal(weir_storage_host_pointer(a->storage),
                        weir_storage_host_pointer(b->storage), STORAGE_ROWS * ROW_BYTES);
}

static void shared_bytes_hold_what_a_serial_run_leaves(void** state) {
    (void)state;
    static const struct {
        const char* target;
        weir_schedule_options options;
    } modes[] = {{"cpu", {.without_fusions = WEIR_FUSION_ALL}},
                 {"cpu", {0}},
                 {"cpu", {.reuse = WEIR_REUSE_SERIAL, .without_fusions = WEIR_FUSION_ALL}},
                 {"barriers", {.without_fusions = WEIR_FUSION_ALL}}};
    const uint32_t rounds = getenv("WEIR_LONG") ? 3000 : 150;
    test_random random = {313};
    uint32_t compared[4] = {0};
    uint32_t reordered = 0;
    for (uint64_t round = 0; round < rounds; round++) {
        random_graph made = random_graph_make(&random, 6 + (uint32_t)random_below(&random, 16));
        const places where = draw_places(&made, &random);
        shared serial = open_shared(&made, &where, 1, "cpu",
                                    (weir_schedule_options){.reuse = WEIR_REUSE_NONE,
                                                            .order = WEIR_ORDER_GIVEN,
                                                            .fence_all = true,
                                                            .without_fusions = WEIR_FUSION_ALL});
        for (uint32_t m = 0; m < 4 && serial.program; m++) {
            atomic_uint calls = 0;
            shared it = open_shared(&made, &where, 2 + m % 3, modes[m].target, modes[m].options);
            assert_ok(weir_device_set_tile_hook(it.device, delay_some_tiles, &calls));
            for (uint64_t pass = 0; pass < 3 && it.program; pass++) {
                const uint64_t params[2] = {1 + random_below(&random, RANDOM_ROWS),
                                            random_below(&random, RANDOM_POSITION + 1)};
                run_both(&serial, &it, round * 16 + m * 4 + pass + 1, params);
                compared[m]++;
                const weir_counters* counters = weir_program_counters(it.program);
                reordered +=
                    counters->waits != (pass + 1) * weir_schedule_report_of(it.schedule)->waits;
            }
            close_shared(&it);
        }
        close_shared(&serial);
        weir_graph_destroy(made.graph);
    }
    for (uint32_t m = 0; m < 4; m++) {
        assert_true(compared[m] > rounds / 10);
    }
    assert_true(reordered > rounds / 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_bytes_hold_what_a_serial_run_leaves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
