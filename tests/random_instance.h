// Random graphs on a device: memory for their weights and states, programs, and passes.
#ifndef WEIR_TESTS_RANDOM_INSTANCE_H
#define WEIR_TESTS_RANDOM_INSTANCE_H

#include "random_graph.h"
#include "session_testing.h"
#include "small_blocks.h"

static inline weir_view view_of(weir_storage* storage, weir_dtype dtype, weir_shape shape) {
    weir_view view;
    assert_ok(weir_view_make(storage, 0, dtype, &shape, &view));
    return view;
}

static inline void fill_floats(test_random* random, float* numbers, size_t count) {
    for (size_t i = 0; i < count; i++) {
        numbers[i] = random_unit(random);
    }
}

// A random graph on a device: memory for its weights and states, and a program.
typedef struct instance {
    weir_device* device;
    weir_schedule* schedule;
    weir_program* program;
    weir_storage* storages[10]; // weights, then states
    weir_arena* arena;
    const random_graph* made;
} instance;

static const float weight_scale = 0.3f;

static inline weir_storage* random_weight(weir_device* device, const weir_value_info* info,
                                          test_random* random) {
    weir_storage* storage = allocate_zeros(device, weir_view_byte_span(&info->layout));
    uint8_t* bytes = weir_storage_host_pointer(storage);
    const uint64_t size = weir_storage_byte_size(storage);
    for (uint64_t i = 0; info->layout.dtype == WEIR_DTYPE_F32 && i < size; i += 4) {
        const float number = random_unit(random) * weight_scale;
        memcpy(bytes + i, &number, sizeof number);
    }
    for (uint64_t i = 0; info->layout.dtype == WEIR_DTYPE_F16 && i < size; i += 2) {
        const uint16_t number = weir_f32_to_f16(random_unit(random));
        memcpy(bytes + i, &number, sizeof number);
    }
    for (uint64_t i = 0; info->layout.dtype == WEIR_DTYPE_Q8_0 && i < size; i++) {
        const uint64_t scale = weir_f32_to_f16(weight_scale / 128.0f);
        bytes[i] = (uint8_t)(i % 34 < 2 ? scale >> (8 * (i % 34)) : random_u64(random));
    }
    return storage;
}

// Plans for `target`, which has the kernels of the CPU, and runs on that; with `small_blocks` in
// blocks that are as small as the largest value lets them be.
static inline instance open_instance_in(const random_graph* made, uint32_t threads,
                                        const char* target, weir_schedule_options options,
                                        bool small_blocks) {
    // "barriers" is a target only; it has the kernels of "cpu".
    const char* device = strcmp(target, "barriers") == 0 ? "cpu" : target;
    instance it = {.device = open_device(device, threads, NULL), .made = made};
    weir_target planned;
    test_random random = {53};
    const weir_value values[10] = {
        made->square,   made->packed,    made->widen,     made->shrink,    made->row,
        made->half_row, made->states[0], made->states[1], made->states[2], made->states[3]};
    weir_binding bindings[10];
    assert_ok(weir_target_find(target, &planned));
    planned = small_blocks ? with_small_blocks(&planned, made->graph, options) : planned;
    assert_ok(weir_schedule_create(NULL, made->graph, &planned, &options, &it.schedule));
    for (size_t i = 0; i < 10; i++) {
        const weir_value_info* info = weir_graph_value_info(made->graph, values[i]);
        it.storages[i] = random_weight(it.device, info, &random);
        bindings[i] = (weir_binding){
            values[i], view_of(it.storages[i], info->layout.dtype, info->layout.shape)};
    }
    assert_ok(weir_arena_create(it.device, weir_schedule_plan(it.schedule), &it.arena));
    const weir_program_desc desc = {
        .schedule = it.schedule, .bindings = bindings, .binding_count = 10, .arena = it.arena};
    assert_ok(weir_program_create(it.device, &desc, &it.program));
    return it;
}

static inline instance open_instance(const random_graph* made, uint32_t threads, const char* target,
                                     weir_schedule_options options) {
    return open_instance_in(made, threads, target, options, false);
}

static inline void close_instance(instance* it) {
    weir_program_destroy(it->program);
    weir_schedule_destroy(it->schedule);
    weir_arena_destroy(it->arena);
    for (size_t i = 0; i < 10; i++) {
        weir_storage_release(it->storages[i]);
    }
    weir_device_destroy(it->device);
}

// One pass with inputs drawn from `seed`. What the arena holds before must not matter.
static inline void run_instance(const instance* it, uint64_t seed, const uint64_t params[2],
                                int filler) {
    test_random random = {seed};
    float x[RANDOM_ROWS * RANDOM_WIDTH];
    for (uint32_t i = 0; i < weir_arena_block_count(it->arena); i++) {
        weir_storage* block = weir_arena_block(it->arena, i);
        memset(weir_storage_host_pointer(block), filler, weir_storage_byte_size(block));
    }
    for (size_t i = 0; i < 3; i++) {
        const uint64_t rows = i < 2 ? params[0] : RANDOM_ROWS;
        fill_floats(&random, x, rows * RANDOM_WIDTH);
        assert_ok(weir_program_write(it->program, it->made->inputs[i], x,
                                     rows * RANDOM_WIDTH * sizeof(float)));
    }
    assert_ok(weir_program_run(it->program, params, 2));
}

static inline void assert_same_bytes(const instance* a, const instance* b,
                                     const uint64_t params[2]) {
    for (uint32_t i = 0; i < a->made->output_count; i++) {
        const weir_value value = a->made->outputs[i];
        const weir_value_info* info = weir_schedule_value(a->schedule, value);
        const uint64_t row_bytes = (uint64_t)info->layout.strides[0];
        const uint64_t rows =
            info->rows == WEIR_PARAM_NONE ? (uint64_t)info->layout.shape.dims[0] : params[0];
        assert_memory_equal(weir_program_contents(a->program, value),
                            weir_program_contents(b->program, value), rows * row_bytes);
    }
    for (size_t i = 6; i < 10; i++) {
        assert_memory_equal(weir_storage_host_pointer(a->storages[i]),
                            weir_storage_host_pointer(b->storages[i]),
                            weir_storage_byte_size(a->storages[i]));
    }
}

#endif
