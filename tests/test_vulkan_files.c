// Mapped files on the Vulkan device: read in place or copied, whole or in parts, on any hardware by
// the options that make a device smaller.
#include "vulkan_testing.h"

#include <unistd.h>
#include <weir-llm/model.h>
#include <weir/program.h>
#include <weir/schedule.h>
#include <weir/vulkan.h>

#include "llama_file.h"

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define FILE_BYTES (3 * MIB + 1234) // ends within a page
#define ALLOCATION MIB              // parts of 768 KiB that begin every 512 KiB
#define OVERLAP (256 * KIB)

static char path[] = "/tmp/weir_vulkan_XXXXXX";
static uint8_t* content; // of the file

static const weir_vulkan_options copied_in_parts = {.allocation_bytes_max = ALLOCATION,
                                                    .copies_files = true};
static const weir_vulkan_options copied_whole = {.copies_files = true};
static const weir_vulkan_options in_parts = {.allocation_bytes_max = ALLOCATION};

static int open_all(void** state) {
    test_random random = {0xF11Eu};
    const int descriptor = mkstemp(path);
    content = malloc(FILE_BYTES);
    assert_non_null(content);
    for (uint64_t i = 0; i < FILE_BYTES; i++) {
        content[i] = (uint8_t)random_u64(&random);
    }
    assert_int_equal(write(descriptor, content, FILE_BYTES), FILE_BYTES);
    close(descriptor);
    return open_gpu(state);
}

static int close_all(void** state) {
    unlink(path);
    free(content);
    return close_gpu(state);
}

static weir_view bytes_of(weir_storage* storage, uint64_t byte_offset, uint64_t byte_size) {
    const weir_shape shape = weir_shape_make(1, (int64_t[]){(int64_t)byte_size});
    weir_view view;
    assert_ok(weir_view_make(storage, byte_offset, WEIR_DTYPE_U8, &shape, &view));
    return view;
}

// Reads bytes by way of the device.
static weir_status download(weir_device* device, weir_storage* storage, uint64_t byte_offset,
                            uint64_t byte_size, uint8_t* to) {
    const weir_view view = bytes_of(storage, byte_offset, byte_size);
    weir_session* session = NULL;
    assert_ok(weir_session_create(device, &session));
    assert_ok(weir_session_download(session, &view, to, byte_size));
    const weir_status status = weir_session_finish(session);
    weir_session_destroy(session);
    return status;
}

// All bytes of a range of the file are on the device, in runs that lie in one allocation anyhow.
static void check_bytes(weir_device* device, weir_storage* storage, uint64_t begin) {
    static uint8_t got[OVERLAP];
    test_random random = {0xB17E5u};
    const uint64_t byte_size = weir_storage_byte_size(storage);
    for (uint64_t done = 0; done < byte_size; done += OVERLAP) {
        const uint64_t left = byte_size - done;
        const uint64_t count = left < OVERLAP ? left : OVERLAP;
        assert_ok(download(device, storage, done, count, got));
        assert_memory_equal(got, content + begin + done, count);
    }
    for (int i = 0; i < 50; i++) { // across the borders of parts
        const uint64_t most = byte_size < OVERLAP ? byte_size : OVERLAP;
        const uint64_t count = 1 + random_below(&random, most);
        const uint64_t from = random_below(&random, byte_size - count + 1);
        assert_ok(download(device, storage, from, count, got));
        assert_memory_equal(got, content + begin + from, count);
    }
}

// Four strides of parts exactly, from within a page: what lies before it pushes the last bytes past
// the border of a part that is not there.
static void the_last_part_has_what_lies_past_its_border(void** state) {
    (void)state;
    const uint64_t begin = 70001;
    uint8_t got[16];
    weir_device* device = open_vulkan_with(&in_parts);
    weir_storage* storage = NULL;
    const weir_storage_map_desc desc = {.path = path, .byte_offset = begin, .byte_size = 2 * MIB};
    assert_ok(weir_storage_map(device, &desc, &storage));
    assert_ok(download(device, storage, 2 * MIB - sizeof got, sizeof got, got));
    assert_memory_equal(got, content + begin + 2 * MIB - sizeof got, sizeof got);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

typedef struct heard {
    uint32_t calls;
    uint64_t done, total;
    uint64_t give_up_at; // bytes
} heard;

static bool listen(void* context, uint64_t done_bytes, uint64_t total_bytes) {
    heard* h = context;
    assert_true(done_bytes >= h->done && done_bytes <= total_bytes);
    assert_true(h->calls == 0 || total_bytes == h->total);
    h->calls++;
    h->done = done_bytes;
    h->total = total_bytes;
    return h->give_up_at == 0 || done_bytes < h->give_up_at;
}

static void files_have_their_bytes_in_place_and_copied_whole_and_in_parts(void** state) {
    (void)state;
    static const weir_vulkan_options* const options[] = {NULL, &in_parts, &copied_whole,
                                                         &copied_in_parts};
    for (int i = 0; i < 4; i++) {
        for (uint64_t begin = 0; begin <= 70001; begin += 70001) { // and from within a page
            weir_device* device = open_vulkan_with(options[i]);
            weir_storage* storage = NULL;
            heard h = {0};
            assert_ok(weir_storage_map(
                device,
                &(weir_storage_map_desc){
                    .path = path, .byte_offset = begin, .progress = listen, .progress_context = &h},
                &storage));
            assert_int_equal(weir_storage_byte_size(storage), FILE_BYTES - begin);
            const uint8_t* host = weir_storage_host_pointer(storage);
            assert_memory_equal(host, content + begin, FILE_BYTES - begin);
            assert_int_equal(h.calls, 0); // the host needs no copy
            check_bytes(device, storage, begin);
            const bool copied = !vulkan_device_of(device)->probe.unified ||
                                (options[i] && options[i]->copies_files);
            assert_true(copied ? h.calls > 0 && h.done == h.total : h.calls == 0);
            weir_storage_release(storage);
            weir_device_destroy(device);
        }
    }
}

static void nothing_is_copied_before_the_device_reads(void** state) {
    (void)state;
    weir_device* device = open_vulkan_with(&copied_in_parts);
    const uint32_t heap = vulkan_device_of(device)->heap;
    weir_storage* storage = NULL;
    heard h = {0};
    const weir_storage_map_desc desc = {.path = path, .progress = listen, .progress_context = &h};
    const uint64_t used = atomic_load(&vulkan_device_of(device)->used[heap]);
    assert_ok(weir_storage_map(device, &desc, &storage));
    assert_false(weir_storage_is_allocated(storage));
    assert_int_equal(atomic_load(&vulkan_device_of(device)->used[heap]), used);
    assert_ok(weir_storage_touch(storage));
    assert_true(weir_storage_is_allocated(storage));
    assert_true(atomic_load(&vulkan_device_of(device)->used[heap]) >= used + FILE_BYTES);
    const uint32_t calls = h.calls;
    assert_true(calls >= 1);
    assert_ok(weir_storage_touch(storage)); // once
    assert_int_equal(h.calls, calls);
    weir_storage_release(storage);
    assert_int_equal(atomic_load(&vulkan_device_of(device)->used[heap]), used);
    weir_device_destroy(device);
}

static void a_copy_can_be_given_up_and_begun_again(void** state) {
    (void)state;
    weir_device* device = open_vulkan_with(&copied_in_parts);
    const uint32_t heap = vulkan_device_of(device)->heap;
    const uint64_t used = atomic_load(&vulkan_device_of(device)->used[heap]);
    weir_storage* storage = NULL;
    heard h = {.give_up_at = 1};
    uint8_t got[16];
    const weir_storage_map_desc desc = {.path = path, .progress = listen, .progress_context = &h};
    assert_ok(weir_storage_map(device, &desc, &storage));
    assert_status(weir_storage_touch(storage), WEIR_CANCELLED);
    assert_message_has("given up after");
    assert_int_equal(atomic_load(&vulkan_device_of(device)->used[heap]), used);
    h = (heard){.give_up_at = UINT64_MAX};
    assert_ok(download(device, storage, FILE_BYTES - 16, 16, got));
    assert_memory_equal(got, content + FILE_BYTES - 16, 16);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

// The bytes are counted before the first one is read.
static void a_copy_without_room_is_a_status_before_it_begins(void** state) {
    (void)state;
    const weir_vulkan_options options = {
        .memory_bytes_max = 2 * MIB, .allocation_bytes_max = ALLOCATION, .copies_files = true};
    weir_device* device = open_vulkan_with(&options);
    weir_storage* storage = NULL;
    heard h = {0};
    uint8_t got[16];
    weir_storage_map_desc desc = {.path = path, .progress = listen, .progress_context = &h};
    assert_ok(weir_storage_map(device, &desc, &storage));
    assert_status(download(device, storage, 0, 16, got), WEIR_DEVICE_OUT_OF_MEMORY);
    assert_message_has("pass the limit");
    assert_int_equal(h.calls, 0);
    weir_storage_release(storage);
    desc.byte_size = 64 * KIB; // fits
    assert_ok(weir_storage_map(device, &desc, &storage));
    check_bytes(device, storage, 0);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static void a_file_cut_short_before_its_copy_is_a_status(void** state) {
    (void)state;
    char cut[] = "/tmp/weir_cut_XXXXXX";
    const int descriptor = mkstemp(cut);
    weir_device* device = open_vulkan_with(&copied_whole);
    weir_storage* storage = NULL;
    assert_int_equal(write(descriptor, content, 2 * MIB), 2 * MIB);
    assert_ok(weir_storage_map(device, &(weir_storage_map_desc){.path = cut}, &storage));
    assert_int_equal(ftruncate(descriptor, 5000), 0);
    assert_status(weir_storage_touch(storage), WEIR_IO);
    assert_message_has("cut short");
    close(descriptor);
    unlink(cut);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

// A native handle leads to the allocation that has the bytes, and a wrap of that is the same
// memory.
static void handles_lead_to_the_part_that_has_the_bytes(void** state) {
    (void)state;
    weir_device* device = open_vulkan_with(&copied_in_parts);
    weir_storage* storage = NULL;
    weir_storage* wrapped = NULL;
    weir_native first;
    weir_native later;
    assert_ok(weir_storage_map(device, &(weir_storage_map_desc){.path = path}, &storage));
    const weir_view a = bytes_of(storage, 100, 1000);
    const weir_view b = bytes_of(storage, 2 * MIB + 100, 1000);
    assert_ok(weir_view_native(&a, &first));
    assert_ok(weir_view_native(&b, &later));
    assert_true(first.handle != later.handle);
    assert_int_equal(first.byte_offset, 100);
    assert_int_equal(later.byte_offset, 100); // parts begin every 512 KiB
    assert_ok(weir_vulkan_buffer_wrap(device,
                                      &(weir_vulkan_buffer_desc){.buffer = later.handle,
                                                                 .byte_offset = later.byte_offset,
                                                                 .byte_size = 1000},
                                      &wrapped));
    const weir_view same = bytes_of(wrapped, 0, 1000);
    bool overlap = false;
    assert_ok(weir_view_overlaps(&same, &b, &overlap));
    assert_true(overlap);
    const weir_range range = weir_view_range(&same);
    const weir_range expected = weir_view_range(&b);
    assert_int_equal(range.byte_offset, expected.byte_offset);
    const weir_view whole = bytes_of(storage, 0, FILE_BYTES); // lies in no one allocation
    assert_status(weir_view_native(&whole, &first), WEIR_UNSUPPORTED);
    weir_storage_release(wrapped);
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static void a_model_tells_how_far_the_copy_of_its_files_is(void** state) {
    (void)state;
    char file[] = "/tmp/weir_model_XXXXXX";
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    close(mkstemp(file));
    FILE* out = fopen(file, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, byte_size, out), byte_size);
    fclose(out);
    weir_device* device = open_vulkan_with(&copied_whole);
    weir_model* model = NULL;
    heard h = {0};
    const weir_model_options options = {.progress = listen, .progress_context = &h};
    assert_ok(weir_model_open(NULL, device, file, &options, &model));
    assert_int_equal(h.done, byte_size);
    assert_int_equal(h.total, byte_size);
    assert_int_equal(weir_model_mapped_bytes(model), byte_size);
    assert_int_equal(weir_model_copied_bytes(model), byte_size);
    weir_model_destroy(model);
    h = (heard){.give_up_at = 1};
    model = NULL;
    assert_status(weir_model_open(NULL, device, file, &options, &model), WEIR_CANCELLED);
    assert_null(model);
    weir_device_destroy(device);
    unlink(file);
    free(bytes);
}

#define TABLE_ROWS 700
#define TABLE_WIDTH 1024

static float weight_of(int64_t row, int64_t column) {
    return (float)((row * 31 + column * 7) % 13 - 6);
}

static void write_table(const char* file, uint64_t lead) {
    FILE* out = fopen(file, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(content, 1, lead, out), lead);
    for (int64_t row = 0; row < TABLE_ROWS; row++) {
        float numbers[TABLE_WIDTH];
        for (int64_t column = 0; column < TABLE_WIDTH; column++) {
            numbers[column] = weight_of(row, column);
        }
        assert_int_equal(fwrite(numbers, sizeof *numbers, TABLE_WIDTH, out), TABLE_WIDTH);
    }
    fclose(out);
}

// y = rows `ids` of a table, times the table: both kernels that take weights.
static void check_products(weir_device* device, weir_storage* storage, uint64_t lead) {
    static const int32_t ids[] = {699, 0, 64, 127, 128};
    enum { COUNT = sizeof ids / sizeof *ids };
    const weir_shape table_shape = weir_shape_make(2, (int64_t[]){TABLE_ROWS, TABLE_WIDTH});
    const weir_shape ids_shape = weir_shape_make(1, (int64_t[]){COUNT});
    weir_graph* graph = NULL;
    weir_schedule* schedule = NULL;
    weir_program* program = NULL;
    weir_value values[4];
    assert_ok(weir_graph_create(NULL, &graph));
    assert_ok(
        weir_graph_input(graph, "ids", WEIR_DTYPE_I32, &ids_shape, WEIR_PARAM_NONE, &values[0]));
    assert_ok(weir_graph_weight(graph, "table", WEIR_DTYPE_F32, &table_shape, &values[1]));
    assert_ok(weir_graph_get_rows(graph, values[1], values[0], &values[2]));
    assert_ok(weir_graph_matmul(graph, values[2], values[1], &values[3]));
    assert_ok(weir_graph_output(graph, values[3]));
    assert_ok(weir_schedule_create(NULL, graph, weir_device_target(device), NULL, &schedule));
    weir_binding binding = {.value = values[1]};
    assert_ok(weir_view_make(storage, lead, WEIR_DTYPE_F32, &table_shape, &binding.view));
    const weir_program_desc desc = {.schedule = schedule, .bindings = &binding, .binding_count = 1};
    assert_ok(weir_program_create(device, &desc, &program));
    assert_ok(weir_program_write(program, values[0], ids, sizeof ids));
    assert_ok(weir_program_run(program, NULL, 0));
    const float* y = weir_program_contents(program, values[3]);
    for (int64_t i = 0; i < COUNT * TABLE_ROWS; i++) {
        double sum = 0.0;
        for (int64_t k = 0; k < TABLE_WIDTH; k++) {
            sum += (double)(weight_of(ids[i / TABLE_ROWS], k) * weight_of(i % TABLE_ROWS, k));
        }
        assert_true((double)y[i] == sum); // small whole numbers
    }
    weir_program_destroy(program);
    weir_schedule_destroy(schedule);
    weir_graph_destroy(graph);
}

// A table of 2.7 MiB lies in several allocations of 1 MiB, though one binding could reach all of
// it.
static void weights_that_cross_allocations_are_taken_in_runs_of_rows(void** state) {
    (void)state;
    char file[] = "/tmp/weir_table_XXXXXX";
    const uint64_t lead = 4096 + 32;
    close(mkstemp(file));
    write_table(file, lead);
    const weir_vulkan_options* const options[] = {&in_parts, &copied_in_parts};
    for (int i = 0; i < 2; i++) {
        weir_device* device = open_vulkan_with(options[i]);
        weir_storage* storage = NULL;
        assert_ok(weir_storage_map(device, &(weir_storage_map_desc){.path = file}, &storage));
        check_products(device, storage, lead);
        weir_storage_release(storage);
        weir_device_destroy(device);
    }
    unlink(file);
}

static void a_device_lost_in_a_copy_is_lost(void** state) {
    (void)state;
    weir_device* device = open_vulkan_with(&copied_in_parts);
    weir_storage* storage = NULL;
    assert_ok(weir_storage_map(device, &(weir_storage_map_desc){.path = path}, &storage));
    vulkan_device_of(device)->instance.api.QueueSubmit2KHR = lose_submit;
    assert_status(weir_storage_touch(storage), WEIR_DEVICE_LOST);
    assert_status(weir_device_check_lost(device), WEIR_DEVICE_LOST);
    assert_message_has("vkQueueSubmit2");
    weir_storage_release(storage);
    weir_device_destroy(device);
}

static void every_failing_allocation_of_a_copy_leaves_nothing_behind(void** state) {
    (void)state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    weir_device* device = NULL;
    const weir_device_desc desc = {
        .name = "vulkan", .vulkan = &copied_in_parts, .allocator = test_allocator_of(&counter)};
    assert_ok(weir_device_create(&desc, &device));
    const size_t before = counter.live_blocks;
    bool done = false;
    for (size_t fail = 0; !done; fail++) {
        weir_storage* storage = NULL;
        counter.fail_at = atomic_load(&counter.calls) + fail;
        weir_status status =
            weir_storage_map(device, &(weir_storage_map_desc){.path = path}, &storage);
        status = status == WEIR_OK ? weir_storage_touch(storage) : status;
        done = status == WEIR_OK;
        assert_true(done || status == WEIR_OUT_OF_MEMORY);
        weir_storage_release(storage);
        assert_true(counter.live_blocks <= before + 2); // lists that have grown
        assert_true(fail < 100);
    }
    weir_device_destroy(device);
    assert_int_equal(counter.live_blocks, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_have_their_bytes_in_place_and_copied_whole_and_in_parts),
        cmocka_unit_test(the_last_part_has_what_lies_past_its_border),
        cmocka_unit_test(nothing_is_copied_before_the_device_reads),
        cmocka_unit_test(a_copy_can_be_given_up_and_begun_again),
        cmocka_unit_test(a_copy_without_room_is_a_status_before_it_begins),
        cmocka_unit_test(a_file_cut_short_before_its_copy_is_a_status),
        cmocka_unit_test(handles_lead_to_the_part_that_has_the_bytes),
        cmocka_unit_test(a_model_tells_how_far_the_copy_of_its_files_is),
        cmocka_unit_test(weights_that_cross_allocations_are_taken_in_runs_of_rows),
        cmocka_unit_test(a_device_lost_in_a_copy_is_lost),
        cmocka_unit_test(every_failing_allocation_of_a_copy_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
