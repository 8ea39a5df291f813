// Helpers of the kernel tests: tensors with guard bytes, and a run of all tiles of a kernel, here
// or as a pass of one dispatch on the device that WEIR_TEST_DEVICE names.
//
// Memory of a tensor:  | guard | row 0 | gap | row 1 | gap | ... | guard |
// Guards and gaps hold 0xFF: read as f32 it is a NaN that shows in the result, and a write to it is
// seen by tensor_is_intact.
#ifndef WEIR_TESTS_KERNEL_TESTING_H
#define WEIR_TESTS_KERNEL_TESTING_H

#include "testing.h"

#include <math.h>
#include <weir/target.h>
#include <weir/vulkan.h>

#include "backends/cpu/cpu_target.h"
#include "device/backend.h"

#define GUARD_BYTES 64
#define GUARD 0xFF
#define KERNEL_OPERANDS 5

typedef struct tensor {
    uint8_t* memory;
    size_t byte_size; // of memory
    weir_view view;   // [rows, columns], or [columns] when made by new_row
    int64_t rows, columns;
    size_t row_bytes;
    size_t skipped; // bytes in front of the first row, which then begins off the borders of memory
} tensor;

static inline void* tensor_data(const tensor* t) {
    return t->memory + GUARD_BYTES + t->skipped;
}

static inline uint8_t* tensor_row(const tensor* t, int64_t row) {
    return (uint8_t*)tensor_data(t) + row * t->view.strides[0];
}

// What rows of tensors are aligned to, in bytes; devices need 2.
static int64_t tensor_border = 1;

// A tensor full of guard bytes; `gap` blocks lie between rows.
static inline tensor new_tensor(weir_dtype dtype, int64_t rows, int64_t columns, int64_t gap) {
    const weir_dtype_info* info = weir_dtype_describe(dtype);
    tensor t = {.rows = rows, .columns = columns};
    assert_int_equal(columns % info->block_elements, 0);
    t.row_bytes = (size_t)(columns / info->block_elements) * info->block_bytes;
    t.view.dtype = dtype;
    t.view.shape = weir_shape_make(2, (int64_t[]){rows, columns});
    t.view.strides[0] = (int64_t)t.row_bytes + gap * (int64_t)info->block_bytes;
    while (t.view.strides[0] % tensor_border != 0) {
        t.view.strides[0] += (int64_t)info->block_bytes;
    }
    t.view.strides[1] = (int64_t)info->block_bytes;
    t.byte_size = 2 * GUARD_BYTES + (size_t)(rows * t.view.strides[0]);
    t.memory = malloc(t.byte_size);
    assert_non_null(t.memory);
    memset(t.memory, GUARD, t.byte_size);
    return t;
}

static inline void free_tensor(tensor* t) {
    free(t->memory);
    t->memory = NULL;
}

static inline bool is_sane(const float* numbers, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (!isfinite(numbers[i]) || fabsf(numbers[i]) > 1e4f) {
            return false;
        }
    }
    return true;
}

// Random bytes, drawn again until a block decodes to numbers of modest size.
static inline void fill_block(test_random* random, weir_dtype dtype, uint8_t* block) {
    const weir_dtype_info* info = weir_dtype_describe(dtype);
    float decoded[256];
    do {
        for (uint32_t i = 0; i < info->block_bytes; i++) {
            block[i] = (uint8_t)(random_u64(random) >> 32);
        }
        assert_ok(weir_dtype_to_f32(dtype, block, info->block_elements, decoded));
    } while (!is_sane(decoded, info->block_elements));
}

static inline void fill_tensor(test_random* random, tensor* t) {
    const weir_dtype_info* info = weir_dtype_describe(t->view.dtype);
    for (int64_t row = 0; row < t->rows; row++) {
        for (size_t i = 0; i < t->row_bytes; i += info->block_bytes) {
            uint8_t* block = tensor_row(t, row) + i;
            if (t->view.dtype == WEIR_DTYPE_F32) {
                const float number = 2.0f * random_unit(random);
                memcpy(block, &number, sizeof number);
            } else {
                fill_block(random, t->view.dtype, block);
            }
        }
    }
}

static inline tensor new_random(test_random* random, weir_dtype dtype, int64_t rows,
                                int64_t columns, int64_t gap) {
    tensor t = new_tensor(dtype, rows, columns, gap);
    fill_tensor(random, &t);
    return t;
}

// One row, as a view of one dimension.
static inline tensor new_row(test_random* random, weir_dtype dtype, int64_t columns) {
    tensor t = new_random(random, dtype, 1, columns, 0);
    t.view.shape = weir_shape_make(1, &columns);
    t.view.strides[0] = t.view.strides[1];
    t.view.strides[1] = 0;
    return t;
}

// The same, `skipped` bytes behind a border.
static inline tensor new_row_behind(test_random* random, weir_dtype dtype, int64_t columns,
                                    size_t skipped) {
    tensor t = new_row(random, dtype, columns);
    tensor moved = t;
    moved.skipped = skipped;
    moved.byte_size = t.byte_size + skipped;
    moved.memory = malloc(moved.byte_size);
    assert_non_null(moved.memory);
    memset(moved.memory, GUARD, moved.byte_size);
    memcpy(tensor_data(&moved), tensor_data(&t), t.row_bytes);
    free_tensor(&t);
    return moved;
}

static inline tensor copy_tensor(const tensor* t) {
    tensor copy = *t;
    copy.memory = malloc(t->byte_size);
    assert_non_null(copy.memory);
    memcpy(copy.memory, t->memory, t->byte_size);
    return copy;
}

// Element [row, column] as f64, as the format defines it.
static inline double tensor_at(const tensor* t, int64_t row, int64_t column) {
    const weir_dtype_info* info = weir_dtype_describe(t->view.dtype);
    float decoded[256];
    assert_ok(weir_dtype_to_f32(
        t->view.dtype, tensor_row(t, row) + column / info->block_elements * info->block_bytes,
        info->block_elements, decoded));
    return (double)decoded[column % info->block_elements];
}

static inline bool tensor_is_intact(const tensor* t) {
    for (size_t i = 0; i < t->byte_size; i++) {
        const int64_t offset = (int64_t)i - GUARD_BYTES - (int64_t)t->skipped;
        const bool in_rows = offset >= 0 && offset < t->rows * t->view.strides[0] &&
                             (size_t)(offset % t->view.strides[0]) < t->row_bytes;
        if (!in_rows && t->memory[i] != GUARD) {
            return false;
        }
    }
    return true;
}

// A dispatch of one kernel: the operands in order, the output last.
typedef struct kernel_run {
    const weir_kernel* kernel;
    const tensor* operands[KERNEL_OPERANDS];
    uint32_t operand_count;
    weir_op_constants constants;
    uint64_t params[2];
} kernel_run;

static inline void kernel_views(const kernel_run* run, weir_view views[KERNEL_OPERANDS]) {
    for (uint32_t i = 0; i < run->operand_count; i++) {
        views[i] = run->operands[i]->view;
    }
}

// The storage of each operand of a run; operands that are one tensor share it.
static inline void make_storages(weir_device* device, const kernel_run* run,
                                 weir_storage* storages[]) {
    for (uint32_t i = 0; i < run->operand_count; i++) {
        const weir_storage_desc desc = {.byte_size = run->operands[i]->byte_size,
                                        .name = "operand"};
        storages[i] = NULL;
        for (uint32_t k = 0; k < i && !storages[i]; k++) {
            if (run->operands[k] == run->operands[i]) {
                storages[i] = storages[k];
                weir_storage_retain(storages[i]);
            }
        }
        if (!storages[i]) {
            assert_ok(weir_storage_allocate(device, &desc, &storages[i]));
            memcpy(weir_storage_host_pointer(storages[i]), run->operands[i]->memory,
                   run->operands[i]->byte_size);
        }
    }
}

// Scratch of a kernel, full of what some other dispatch left there.
static inline void make_scratch(weir_device* device, uint64_t byte_size, weir_storage** storage,
                                weir_view* view, void** pointer) {
    const weir_storage_desc desc = {
        .byte_size = byte_size, .fill = WEIR_FILL_POISON, .name = "scratch"};
    const weir_shape shape = weir_shape_make(1, (int64_t[]){(int64_t)byte_size});
    assert_ok(weir_storage_allocate(device, &desc, storage));
    assert_ok(weir_view_make(*storage, 0, WEIR_DTYPE_U8, &shape, view));
    assert_ok(weir_view_resolve(view, pointer));
}

// The device that cases run on, and its kernels; without a device they run here, tile by tile.
typedef struct kernel_place {
    weir_device* device;
    const weir_target* target;
    uint32_t scratch_runs; // of kernels that asked for scratch memory
} kernel_place;

static kernel_place kernels_on = {.target = &weir_cpu_target};

static inline bool is_in_place(const kernel_run* run) {
    const tensor* y = run->operands[run->operand_count - 1];
    for (uint32_t i = 0; i + 1 < run->operand_count; i++) {
        if (run->operands[i] == y) {
            return true;
        }
    }
    return false;
}

// Copies the operands to memory of the device, runs the kernel there, and copies them back. One
// with scratch memory runs twice, if it can: what it leaves there is not to matter.
static inline weir_status run_on_device(weir_device* device, const kernel_run* run) {
    weir_storage* storages[8];
    weir_view views[9]; // with the scratch
    void* pointers[9];
    weir_access accesses[9];
    assert_in_range(run->operand_count, 1, 8);
    make_storages(device, run, storages);
    const uint32_t last = run->operand_count - 1;
    for (uint32_t i = 0; i <= last; i++) {
        views[i] = run->operands[i]->view;
        views[i].storage = storages[i];
        views[i].byte_offset = GUARD_BYTES + run->operands[i]->skipped;
        assert_ok(weir_view_resolve(&views[i], &pointers[i]));
        accesses[i] =
            weir_access_from_view(&views[i], i == last ? WEIR_ACCESS_WRITE : WEIR_ACCESS_READ);
    }
    const weir_kernel_use use = {views, run->operand_count, &run->constants};
    assert_true(run->kernel->accepts(&use));
    const uint64_t scratch_bytes = run->kernel->scratch_bytes(&use);
    const uint32_t count = run->operand_count + (scratch_bytes > 0);
    weir_storage* scratch = NULL;
    if (scratch_bytes > 0) {
        make_scratch(device, scratch_bytes, &scratch, &views[last + 1], &pointers[last + 1]);
        accesses[last + 1] = weir_access_from_view(&views[last + 1], WEIR_ACCESS_READ_WRITE);
    }
    const device_dispatch dispatch = {.name = run->kernel->name,
                                      .run = run->kernel->run,
                                      .kernel = run->kernel,
                                      .constants = &run->constants,
                                      .constants_size = sizeof run->constants,
                                      .views = views,
                                      .pointers = pointers,
                                      .operand_count = count,
                                      .accesses = accesses,
                                      .access_count = count};
    device_work* work = NULL;
    assert_ok(device->vtable->prepare(device, &dispatch, 1, &work));
    weir_status status = WEIR_OK;
    const int passes = scratch_bytes > 0 && !is_in_place(run) ? 2 : 1;
    for (int pass = 0; pass < passes && status == WEIR_OK; pass++) {
        weir_ticket ticket;
        weir_access touched[9];
        memcpy(weir_storage_host_pointer(storages[last]), run->operands[last]->memory,
               run->operands[last]->byte_size); // not what the pass before has made
        memcpy(touched, accesses, sizeof touched);
        assert_ok(weir_device_submit(
            device,
            &(device_commit){
                .work = work, .params = run->params, .accesses = touched, .access_count = count},
            &ticket));
        status = weir_ticket_wait(ticket, WEIR_WAIT_FOREVER);
    }
    kernels_on.scratch_runs += scratch_bytes > 0;
    for (uint32_t i = 0; i <= last; i++) {
        memcpy(run->operands[i]->memory, weir_storage_host_pointer(storages[i]),
               run->operands[i]->byte_size);
    }
    work->vtable->destroy(work);
    weir_storage_release(scratch);
    for (uint32_t i = 0; i <= last; i++) {
        weir_storage_release(storages[i]);
    }
    return status;
}

// Group fixtures of a test program: open and close the device of WEIR_TEST_DEVICE.
static inline int open_kernel_device(void** state) {
    (void)state;
    if (test_device()) {
        const weir_device_desc desc = {.name = test_device()};
        const weir_status status = weir_device_create(&desc, &kernels_on.device);
        need_test_device(status);
        assert_ok(status);
        kernels_on.target = weir_device_target(kernels_on.device);
        tensor_border = 2;
        // Kernels that round x have tests of their own: test_fused_kernels, test_vulkan_tiles.
        if (strncmp(test_device(), "vulkan", 6) == 0) {
            static const weir_vulkan_tuning exact = {.unit_x = WEIR_VULKAN_X_F32,
                                                     .tile_x = WEIR_VULKAN_X_F32};
            assert_ok(weir_vulkan_tune(kernels_on.device, &exact));
        }
    }
    return 0;
}

static inline int close_kernel_device(void** state) {
    (void)state;
    weir_device_destroy(kernels_on.device);
    return 0;
}

// Skips what is about functions of the host.
static inline void need_host_kernels(void) {
    if (kernels_on.device) {
        print_message("skipped: the kernels of %s are no functions of the host\n",
                      kernels_on.target->name);
        skip();
    }
}

// Tells whether caches may have a type: any that encodes on the host, plain numbers on a device.
static inline bool takes_cache(weir_dtype dtype) {
    return !kernels_on.device || weir_dtype_describe(dtype)->block_elements == 1;
}

// Elements that rows of weights are a multiple of: devices take rows of whole words of 16 bits.
static inline int64_t row_step(weir_dtype dtype) {
    const weir_dtype_info* info = weir_dtype_describe(dtype);
    const bool odd = kernels_on.device && info->block_bytes > 1 && info->block_bytes % 2 == 1;
    return (odd ? 2 : 1) * (int64_t)info->block_elements;
}

// Tells whether the place multiplies with weights of a type: all do, with every type that decodes.
static inline bool takes_weights(weir_dtype dtype) {
    tensor x = new_tensor(WEIR_DTYPE_F32, 1, 256, 0);
    tensor w = new_tensor(dtype, 2, 256, 0);
    tensor y = new_tensor(WEIR_DTYPE_F32, 1, 2, 0);
    const weir_view views[] = {x.view, w.view, y.view};
    const weir_kernel_use use = {.operands = views, .operand_count = 3};
    bool taken = false;
    for (uint32_t i = 0; i < kernels_on.target->kernel_count; i++) {
        const weir_kernel* kernel = &kernels_on.target->kernels[i];
        taken = taken || (kernel->op == WEIR_OP_MATMUL && kernel->accepts(&use));
    }
    assert_true(taken == weir_dtype_is_decodable(dtype));
    free_tensor(&x);
    free_tensor(&w);
    free_tensor(&y);
    return taken;
}

#define LOCAL_BYTES 1572864
#define LOCALS 2

// Memory of workers, which holds what the kernel before left there.
static inline void take_locals(weir_kernel_local locals[LOCALS]) {
    _Alignas(64) static uint8_t memory[LOCALS][LOCAL_BYTES];
    for (int i = 0; i < LOCALS; i++) {
        locals[i] = (weir_kernel_local){memory[i], LOCAL_BYTES, false};
    }
}

// Each tile runs on one of two workers with memory, or on one that has none; the join comes last.
static inline weir_status run_in_order(const kernel_run* run, weir_kernel_call call,
                                       const uint32_t* order, test_random* random) {
    const uint32_t calls = call.tile_count + (run->kernel->joins ? 1 : 0);
    weir_kernel_local locals[LOCALS];
    weir_status status = WEIR_OK;
    take_locals(locals);
    for (uint32_t i = 0; i < calls && status == WEIR_OK; i++) {
        const uint64_t worker = random_below(random, LOCALS + 1);
        call.tile = i < call.tile_count ? order[i] : i;
        call.local = worker < LOCALS ? &locals[worker] : NULL;
        status = run->kernel->run(&call);
    }
    return status;
}

static inline uint32_t* random_order(uint32_t count, test_random* random) {
    uint32_t* order = malloc(count * sizeof *order);
    assert_non_null(order);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t j = (uint32_t)random_below(random, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    return order;
}

// Scratch is as long as it was asked for, and full of what some other dispatch left there.
static inline weir_status run_here(const kernel_run* run, uint32_t tile_count,
                                   test_random* random) {
    weir_view views[KERNEL_OPERANDS + 1];
    void* pointers[KERNEL_OPERANDS + 1];
    kernel_views(run, views);
    for (uint32_t i = 0; i < run->operand_count; i++) {
        pointers[i] = tensor_data(run->operands[i]);
    }
    const weir_kernel_use use = {
        .operands = views, .operand_count = run->operand_count, .constants = &run->constants};
    assert_true(run->kernel->accepts(&use));
    const uint32_t tiles = tile_count > 0 ? tile_count : run->kernel->tile_count(&use);
    assert_true(tiles > 0);
    const size_t scratch_bytes = (size_t)run->kernel->scratch_bytes(&use);
    void* scratch = NULL;
    if (scratch_bytes > 0) {
        assert_int_equal(scratch_bytes % 64, 0);
        scratch = aligned_alloc(64, scratch_bytes);
        assert_non_null(scratch);
        memset(scratch, 0xFF, scratch_bytes);
        pointers[run->operand_count] = scratch;
        const weir_shape shape = weir_shape_make(1, (int64_t[]){(int64_t)scratch_bytes});
        assert_ok(weir_view_layout(WEIR_DTYPE_U8, &shape, &views[run->operand_count]));
    }
    uint32_t* order = random_order(tiles, random);
    const weir_kernel_call call = {.views = views,
                                   .pointers = pointers,
                                   .operand_count = run->operand_count + (scratch ? 1 : 0),
                                   .tile_count = tiles,
                                   .constants = &run->constants,
                                   .params = run->params};
    const weir_status status = run_in_order(run, call, order, random);
    kernels_on.scratch_runs += scratch ? 1 : 0;
    free(scratch);
    free(order);
    return status;
}

// Runs all tiles in random order; `tile_count` 0: as many as the kernel asks for. Stops at the
// first failure. A device decides by itself how it cuts its work.
static inline weir_status run_tiles(const kernel_run* run, uint32_t tile_count,
                                    test_random* random) {
    return kernels_on.device ? run_on_device(kernels_on.device, run)
                             : run_here(run, tile_count, random);
}

// Checks all elements of the output: at most `tolerance` times `scale` (of each element) away.
static inline void assert_near(const tensor* y, const double* expected, const double* scale,
                               double tolerance) {
    for (int64_t row = 0; row < y->rows; row++) {
        for (int64_t column = 0; column < y->columns; column++) {
            const int64_t i = row * y->columns + column;
            const double got = tensor_at(y, row, column);
            if (!(fabs(got - expected[i]) <= tolerance * scale[i] + 1e-30)) {
                fail_msg("[%lld, %lld] of [%lld, %lld] is %.9g, expected %.9g", (long long)row,
                         (long long)column, (long long)y->rows, (long long)y->columns, got,
                         expected[i]);
            }
        }
    }
    assert_true(tensor_is_intact(y));
}

static inline void assert_same_rows(const tensor* a, const tensor* b) {
    assert_int_equal(a->row_bytes, b->row_bytes);
    for (int64_t row = 0; row < a->rows; row++) {
        assert_memory_equal(tensor_row(a, row), tensor_row(b, row), a->row_bytes);
    }
}

// Runs the kernel into its output, checks it, and then again: cut into other numbers of tiles, and
// in place on each operand whose bit is set in `in_place`. All must give the same bits.
static inline void check_kernel(kernel_run* run, const double* expected, const double* scale,
                                double tolerance, uint32_t in_place, test_random* random) {
    static const uint32_t tile_counts[] = {1, 3, 64};
    const uint32_t last = run->operand_count - 1;
    const tensor* y = run->operands[last];
    assert_ok(run_tiles(run, 0, random));
    assert_near(y, expected, scale, tolerance);
    for (size_t i = 0; i < sizeof tile_counts / sizeof tile_counts[0]; i++) {
        tensor again = new_tensor(WEIR_DTYPE_F32, y->rows, y->columns, 1);
        run->operands[last] = &again;
        assert_ok(run_tiles(run, tile_counts[i], random));
        assert_same_rows(y, &again);
        assert_true(tensor_is_intact(&again));
        free_tensor(&again);
    }
    for (uint32_t i = 0; i < last; i++) {
        if ((in_place >> i & 1) != 0) {
            const tensor* input = run->operands[i];
            tensor both = copy_tensor(input);
            run->operands[i] = run->operands[last] = &both;
            assert_ok(run_tiles(run, 5, random));
            assert_same_rows(y, &both);
            assert_true(tensor_is_intact(&both));
            run->operands[i] = input;
            free_tensor(&both);
        }
    }
    run->operands[last] = y;
}

#define HOST_OPS (WEIR_OP_ATTENTION_SUM + 1) // that the CPU has kernels for: all but the last

// The kernel of an operation; of a fused one that the device does not have NULL.
static inline const weir_kernel* find_kernel(weir_op_kind op) {
    for (uint32_t i = 0; i < kernels_on.target->kernel_count; i++) {
        if (kernels_on.target->kernels[i].op == op) {
            return &kernels_on.target->kernels[i];
        }
    }
    if (op <= WEIR_OP_SET_ROWS || (op < HOST_OPS && !kernels_on.device)) {
        fail_msg("no kernel for %s", weir_op_name(op));
    }
    return NULL;
}

// Skips what is about a fused operation that the device has no kernel for.
static inline void need_kernel(weir_op_kind op) {
    if (!find_kernel(op)) {
        print_message("skipped: %s has no kernel for %s\n", kernels_on.target->name,
                      weir_op_name(op));
        skip();
    }
}

// What a reference leaves: the result, and the size that errors are measured by.
typedef struct reference {
    double* result;
    double* scale;
} reference;

static inline reference new_reference(int64_t rows, int64_t columns) {
    const size_t count = (size_t)(rows * columns) + 1;
    const reference made = {calloc(count, sizeof(double)), calloc(count, sizeof(double))};
    assert_non_null(made.result);
    assert_non_null(made.scale);
    return made;
}

static inline void free_reference(reference* r) {
    free(r->result);
    free(r->scale);
}

// A row of x as kernels see it; most see the numbers themselves.
typedef void (*see_row_fn)(const float* x, int64_t count, double* seen);

static inline void widen_row(const float* x, int64_t count, double* wide) {
    for (int64_t i = 0; i < count; i++) {
        wide[i] = (double)x[i];
    }
}

// A row of x as the quantised kernels see it: 8 bits, with a scale for each 32 elements.
static inline void round_row(const float* x, int64_t count, double* rounded) {
    for (int64_t begin = 0; begin < count; begin += 32) {
        const int64_t end = begin + 32 < count ? begin + 32 : count;
        float largest = 0.0f;
        for (int64_t i = begin; i < end; i++) {
            largest = fmaxf(largest, fabsf(x[i]));
        }
        const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
        for (int64_t i = begin; i < end; i++) {
            rounded[i] = (double)nearbyintf(x[i] * inverse) * (double)(largest / 127.0f);
        }
    }
}

// x times the transpose of w, and the sums of the magnitudes of the terms, by which errors are
// measured.
static inline void product_reference(const tensor* x, const tensor* w, see_row_fn see,
                                     double* result, double* scale) {
    const int64_t k = x->columns;
    double* row = calloc((size_t)k, sizeof *row);
    float* weights = calloc((size_t)(w->rows * k), sizeof *weights);
    assert_true(row && weights);
    for (int64_t j = 0; j < w->rows; j++) {
        assert_ok(weir_dtype_to_f32(w->view.dtype, tensor_row(w, j), k, weights + j * k));
    }
    for (int64_t i = 0; i < x->rows; i++) {
        const float* source = (const float*)(const void*)tensor_row(x, i);
        see(source, k, row);
        for (int64_t j = 0; j < w->rows; j++) {
            double sum = 0.0;
            double size = 0.0;
            for (int64_t c = 0; c < k; c++) {
                const double product = row[c] * (double)weights[j * k + c];
                sum += product;
                size += fabs(product);
            }
            result[i * w->rows + j] = sum;
            scale[i * w->rows + j] = size;
        }
    }
    free(row);
    free(weights);
}

// What rope makes of x; the factors are 1, 2, 3, ... where there are some.
static inline void rope_reference(const weir_rope_desc* desc, const tensor* x, bool has_factors,
                                  uint64_t position, reference* r) {
    const int64_t k = x->columns;
    const int64_t half = desc->rotated / 2;
    for (int64_t at = 0; at < x->rows * k; at++) {
        const int64_t row = at / k;
        const int64_t head = at % k / desc->head_dim * desc->head_dim;
        const int64_t e = at % k - head;
        r->result[at] = tensor_at(x, row, head + e);
        r->scale[at] = 0.0;
        if (e < desc->rotated) {
            const bool adjacent = desc->pairing == WEIR_ROPE_ADJACENT;
            const int64_t pair = adjacent ? e / 2 : e % half;
            const int64_t first = adjacent ? pair * 2 : pair;
            const int64_t second = adjacent ? pair * 2 + 1 : pair + half;
            const double a = tensor_at(x, row, head + first);
            const double b = tensor_at(x, row, head + second);
            double angle = (double)(position + (uint64_t)row) * (double)desc->scale /
                           pow((double)desc->base, 2.0 * (double)pair / desc->rotated);
            angle /= has_factors ? 1.0 + (double)pair : 1.0;
            r->result[at] =
                e == first ? a * cos(angle) - b * sin(angle) : a * sin(angle) + b * cos(angle);
            r->scale[at] = fabs(a) + fabs(b);
        }
    }
}

#endif
