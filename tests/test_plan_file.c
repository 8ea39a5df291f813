// Plan files: what is loaded is what was planned, and nothing else is ever loaded.
#include "testing.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <weir/weir.h>

#include "base/hash.h"
#include "random_graph.h"
#include "schedule/schedule.h"
#include "testing_allocator.h"

#define HEADER 32 // bytes of a plan file before its first plan; the checksum is the last eight
#define CHECKSUM_AT 24

static weir_target cpu_target(weir_wait_kind waits) {
    weir_target target;
    assert_ok(weir_target_find("cpu", &target));
    target.waits = waits;
    return target;
}

static weir_schedule* plan(const weir_graph* graph, const weir_target* target,
                           weir_schedule_options options) {
    weir_schedule* schedule = NULL;
    assert_ok(weir_schedule_create(NULL, graph, target, &options, &schedule));
    return schedule;
}

static weir_plan_file* file_of(const weir_schedule* schedule) {
    weir_plan_file* file = NULL;
    assert_ok(weir_plan_file_create(NULL, &file));
    assert_ok(weir_plan_file_add(file, "pass", schedule));
    return file;
}

// The bytes of a file in a block of exactly their size, so that ASan sees one byte too far.
static uint8_t* exact_copy(const void* bytes, size_t byte_size) {
    uint8_t* copy = malloc(byte_size > 0 ? byte_size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, byte_size);
    return copy;
}

static void assert_same_schedule(const weir_schedule* a, const weir_schedule* b) {
    assert_memory_equal(&a->report, &b->report, sizeof a->report);
    assert_int_equal(a->options.reuse, b->options.reuse);
    assert_int_equal(a->options.order, b->options.order);
    assert_int_equal(a->options.byte_budget, b->options.byte_budget);
    assert_int_equal(a->options.without_fusions, b->options.without_fusions);
    assert_int_equal(a->options.fence_all, b->options.fence_all);
    assert_int_equal(a->options.never_in_place, b->options.never_in_place);
    assert_int_equal(a->options.plan_iterations, b->options.plan_iterations);
    assert_memory_equal(weir_plan_result_of(a->plan), weir_plan_result_of(b->plan),
                        sizeof(weir_plan_result));
    assert_int_equal(a->values.count, b->values.count);
    for (weir_value value = 0; value < a->values.count; value++) {
        weir_placement x;
        weir_placement y;
        assert_ok(weir_schedule_place(a, value, &x));
        assert_ok(weir_schedule_place(b, value, &y));
        assert_int_equal(x.region, y.region);
        assert_int_equal(x.block, y.block);
        assert_int_equal(x.byte_offset, y.byte_offset);
        assert_int_equal(x.byte_size, y.byte_size);
    }
    assert_int_equal(a->dispatches.count, b->dispatches.count);
    for (uint32_t i = 0; i < a->dispatches.count; i++) {
        weir_dispatch_info x;
        weir_dispatch_info y;
        assert_ok(weir_schedule_dispatch(a, i, &x));
        assert_ok(weir_schedule_dispatch(b, i, &y));
        assert_string_equal(x.name, y.name);
        assert_ptr_equal(x.kernel, y.kernel);
        assert_int_equal(x.level, y.level);
        assert_int_equal(x.predecessor_count, y.predecessor_count);
        for (uint32_t k = 0; k < x.predecessor_count; k++) {
            assert_int_equal(x.predecessors[k], y.predecessors[k]);
        }
    }
}

static void a_loaded_schedule_is_the_one_that_was_planned(void** state) {
    (void)state;
    test_random random = {101};
    static const weir_schedule_options modes[] = {{0},
                                                  {.reuse = WEIR_REUSE_SERIAL},
                                                  {.reuse = WEIR_REUSE_NONE},
                                                  {.fence_all = true},
                                                  {.never_in_place = true},
                                                  {.plan_iterations = 3},
                                                  {.order = WEIR_ORDER_BYTES},
                                                  {.order = WEIR_ORDER_GIVEN},
                                                  {.without_fusions = WEIR_FUSION_ALL}};
    for (uint32_t round = 0; round < 90; round++) {
        random_graph made = random_graph_make(&random, 4 + (uint32_t)random_below(&random, 40));
        const weir_target target = cpu_target(round % 2 ? WEIR_WAIT_GROUPS : WEIR_WAIT_EDGES);
        weir_schedule* planned = plan(made.graph, &target, modes[round / 2 % 9]);
        weir_plan_file* file = file_of(planned);
        weir_schedule* loaded = NULL;
        assert_ok(weir_plan_file_load(file, "pass", made.graph, &target, &loaded));
        assert_same_schedule(planned, loaded);
        assert_ok(weir_schedule_check(loaded));
        weir_plan_file* again = file_of(loaded);
        size_t sizes[2];
        const void* bytes[2] = {weir_plan_file_bytes(file, &sizes[0]),
                                weir_plan_file_bytes(again, &sizes[1])};
        assert_int_equal(sizes[0], sizes[1]);
        assert_memory_equal(bytes[0], bytes[1], sizes[0]);
        weir_plan_file_destroy(again);
        weir_plan_file_destroy(file);
        weir_schedule_destroy(loaded);
        weir_schedule_destroy(planned);
        weir_graph_destroy(made.graph);
    }
}

// Edges that were added so that the bytes suffice come from the file's places, not from a search.
static void plans_within_a_budget_are_loaded_as_they_are(void** state) {
    (void)state;
    test_random random = {137};
    uint32_t residual = 0;
    for (uint32_t round = 0; round < 60; round++) {
        random_graph made = random_graph_make(&random, 20 + (uint32_t)random_below(&random, 30));
        const weir_target target = cpu_target(round % 2 ? WEIR_WAIT_GROUPS : WEIR_WAIT_EDGES);
        weir_tradeoff_point points[8];
        uint32_t count = 0;
        assert_ok(weir_schedule_tradeoff(NULL, made.graph, &target, NULL, points, 8, &count));
        for (uint32_t i = 0; i < count; i++) {
            const weir_schedule_options options = {.order = points[i].order,
                                                   .byte_budget = points[i].byte_budget};
            weir_schedule* planned = plan(made.graph, &target, options);
            weir_plan_file* file = file_of(planned);
            weir_schedule* loaded = NULL;
            assert_ok(weir_plan_file_load(file, "pass", made.graph, &target, &loaded));
            assert_same_schedule(planned, loaded);
            residual += planned->report.residual_edges;
            weir_plan_file_destroy(file);
            weir_schedule_destroy(loaded);
            weir_schedule_destroy(planned);
        }
        weir_graph_destroy(made.graph);
    }
    assert_true(residual > 0);
}

static void several_plans_have_names(void** state) {
    (void)state;
    test_random random = {103};
    const weir_target target = cpu_target(WEIR_WAIT_EDGES);
    static const char* const names[] = {"prefill", "decode", ""};
    random_graph made[3];
    weir_schedule* schedules[3];
    weir_plan_file* file = NULL;
    assert_ok(weir_plan_file_create(NULL, &file));
    assert_int_equal(weir_plan_file_count(file), 0);
    for (uint32_t i = 0; i < 3; i++) {
        made[i] = random_graph_make(&random, 8 + i);
        schedules[i] = plan(made[i].graph, &target, (weir_schedule_options){0});
        assert_ok(weir_plan_file_add(file, names[i], schedules[i]));
        assert_status(weir_plan_file_add(file, names[i], schedules[i]), WEIR_INVALID_ARGUMENT);
    }
    size_t byte_size = 0;
    const void* bytes = weir_plan_file_bytes(file, &byte_size);
    weir_plan_file* read = NULL;
    assert_ok(weir_plan_file_parse(NULL, bytes, byte_size, &read));
    weir_plan_file_destroy(file);
    assert_int_equal(weir_plan_file_count(read), 3);
    for (uint32_t i = 0; i < 3; i++) {
        weir_schedule* loaded = NULL;
        assert_string_equal(weir_plan_file_name(read, i), names[i]);
        assert_ok(weir_plan_file_load(read, names[i], made[i].graph, &target, &loaded));
        assert_same_schedule(schedules[i], loaded);
        weir_schedule_destroy(loaded);
        weir_schedule_destroy(schedules[i]);
    }
    weir_schedule* none = NULL;
    assert_null(weir_plan_file_name(read, 3));
    assert_status(weir_plan_file_load(read, "other", made[0].graph, &target, &none),
                  WEIR_NOT_FOUND);
    assert_message_has("no plan other");
    assert_null(none);
    weir_plan_file_destroy(read);
    for (uint32_t i = 0; i < 3; i++) {
        weir_graph_destroy(made[i].graph);
    }
}

// y = matmul(rms_norm(x), w) for up to `rows` rows; `name` of the input.
static weir_graph* small_graph(int64_t rows, int64_t width, float epsilon, const char* name) {
    weir_graph* graph = NULL;
    weir_param param = WEIR_PARAM_NONE;
    weir_value values[4];
    const weir_shape x = weir_shape_make(2, (int64_t[]){rows, width});
    const weir_shape w = weir_shape_make(2, (int64_t[]){width, width});
    assert_ok(weir_graph_create(NULL, &graph));
    assert_ok(weir_graph_param(graph, "rows", 1, (uint64_t)rows, &param));
    assert_ok(weir_graph_input(graph, name, WEIR_DTYPE_F32, &x, param, &values[0]));
    assert_ok(weir_graph_weight(graph, "w", WEIR_DTYPE_F32, &w, &values[1]));
    assert_ok(weir_graph_rms_norm(graph, values[0], epsilon, &values[2]));
    assert_ok(weir_graph_matmul(graph, values[2], values[1], &values[3]));
    assert_ok(weir_graph_output(graph, values[3]));
    return graph;
}

typedef struct fixture {
    weir_graph* graph;
    weir_target target;
    weir_schedule* schedule;
    weir_plan_file* file;
    const uint8_t* bytes;
    size_t byte_size;
} fixture;

static int open_fixture(void** state) {
    static fixture f;
    f.graph = small_graph(8, 32, 1e-5f, "x");
    f.target = cpu_target(WEIR_WAIT_EDGES);
    f.schedule = plan(f.graph, &f.target, (weir_schedule_options){0});
    f.file = file_of(f.schedule);
    f.bytes = weir_plan_file_bytes(f.file, &f.byte_size);
    *state = &f;
    return 0;
}

static int close_fixture(void** state) {
    fixture* f = *state;
    weir_plan_file_destroy(f->file);
    weir_schedule_destroy(f->schedule);
    weir_graph_destroy(f->graph);
    return 0;
}

static void expect_refusal(const fixture* f, const weir_graph* graph, const weir_target* target,
                           const char* part) {
    weir_schedule* none = NULL;
    assert_status(weir_plan_file_load(f->file, "pass", graph, target, &none),
                  WEIR_INVALID_ARGUMENT);
    assert_message_has(part);
    assert_null(none);
}

static void other_targets_are_refused_with_what_differs(void** state) {
    const fixture* f = *state;
    weir_target target = f->target;
    target.name = "toaster";
    expect_refusal(f, f->graph, &target, "made for target cpu, this is toaster");
    target = f->target;
    target.waits = WEIR_WAIT_GROUPS;
    expect_refusal(f, f->graph, &target, "waits by kind 0, this is 1");
    target = f->target;
    target.alignment *= 2;
    expect_refusal(f, f->graph, &target, "alignment of");
    target = f->target;
    target.binding_bytes_max = 1 << 20;
    expect_refusal(f, f->graph, &target, "binding_bytes_max 0, this is 1048576");
    target = f->target;
    target.storage_bytes_max = 1 << 20;
    expect_refusal(f, f->graph, &target, "storage_bytes_max");
    weir_kernel kernels[64];
    target = f->target;
    assert_true(target.kernel_count <= 64);
    memcpy(kernels, target.kernels, target.kernel_count * sizeof *kernels);
    for (uint32_t i = 0; i < target.kernel_count; i++) {
        kernels[i].name = kernels[i].op == WEIR_OP_MATMUL ? "better matmul" : kernels[i].name;
    }
    target.kernels = kernels;
    expect_refusal(f, f->graph, &target, "dispatch 1 than here: matmul w by kernel better matmul");
}

static uint64_t much_scratch(const weir_kernel_use* use) {
    (void)use;
    return 4096;
}

static void other_scratch_is_another_plan(void** state) {
    const fixture* f = *state;
    weir_kernel kernels[64];
    weir_target target = f->target;
    memcpy(kernels, target.kernels, target.kernel_count * sizeof *kernels);
    for (uint32_t i = 0; i < target.kernel_count; i++) {
        kernels[i].scratch_bytes = much_scratch;
    }
    target.kernels = kernels;
    expect_refusal(f, f->graph, &target, "values with scratch is 4, this is 6");
}

static void other_graphs_are_refused_with_what_differs(void** state) {
    const fixture* f = *state;
    const struct {
        int64_t rows, width;
        float epsilon;
        const char* part;
    } cases[] = {
        {16, 32, 1e-5f, "made for parameter rows in [1, 8], here it is in [1, 16]"},
        {8, 64, 1e-5f, "another value 0 than x: F32 [8, 64]"},
        {8, 32, 1e-6f, "another dispatch 0 than here: rms_norm"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weir_graph* graph = small_graph(cases[i].rows, cases[i].width, cases[i].epsilon, "x");
        expect_refusal(f, graph, &f->target, cases[i].part);
        weir_graph_destroy(graph);
    }
    weir_graph* longer = small_graph(8, 32, 1e-5f, "x");
    weir_value more = WEIR_VALUE_NONE;
    assert_ok(weir_graph_rms_norm(longer, 0, 1e-5f, &more));
    expect_refusal(f, longer, &f->target, "number of values is 4, this is 5");
    weir_graph_destroy(longer);
}

static void names_are_labels(void** state) {
    const fixture* f = *state;
    weir_graph* renamed = small_graph(8, 32, 1e-5f, "activations");
    weir_schedule* loaded = NULL;
    assert_ok(weir_plan_file_load(f->file, "pass", renamed, &f->target, &loaded));
    assert_string_equal(weir_schedule_value(loaded, 0)->name, "activations");
    weir_schedule_destroy(loaded);
    weir_graph_destroy(renamed);
}

static void every_prefix_is_refused(void** state) {
    const fixture* f = *state;
    for (size_t length = 0; length < f->byte_size; length++) {
        uint8_t* cut = exact_copy(f->bytes, length);
        weir_plan_file* none = NULL;
        assert_status(weir_plan_file_parse(NULL, cut, length, &none), WEIR_BAD_FORMAT);
        assert_null(none);
        free(cut);
    }
}

static void every_flipped_bit_is_refused(void** state) {
    const fixture* f = *state;
    uint8_t* bytes = exact_copy(f->bytes, f->byte_size);
    for (size_t bit = 0; bit < 8 * f->byte_size; bit++) {
        weir_plan_file* none = NULL;
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        const bool version = bit / 8 >= 8 && bit / 8 < 12;
        assert_status(weir_plan_file_parse(NULL, bytes, f->byte_size, &none),
                      version ? WEIR_UNSUPPORTED : WEIR_BAD_FORMAT);
        assert_null(none);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    free(bytes);
}

static void other_versions_are_named(void** state) {
    const fixture* f = *state;
    uint8_t* bytes = exact_copy(f->bytes, f->byte_size);
    weir_plan_file* none = NULL;
    bytes[8] = 7;
    assert_status(weir_plan_file_parse(NULL, bytes, f->byte_size, &none), WEIR_UNSUPPORTED);
    assert_message_has("version 7 of plan files, expected 2");
    free(bytes);
}

// Makes the checksum right again, as whoever forges a plan would.
static void reseal(uint8_t* bytes, size_t byte_size) {
    uint64_t hash = hash_bytes(HASH_BEGIN, bytes, CHECKSUM_AT);
    hash = hash_bytes(hash, bytes + HEADER, byte_size - HEADER);
    for (size_t i = 0; i < 8; i++) {
        bytes[CHECKSUM_AT + i] = (uint8_t)(hash >> (8 * i));
    }
}

// A forged file may say what it likes: what is loaded passes every check.
static void load_forged(const weir_graph* graph, const weir_target* target, const uint8_t* bytes,
                        size_t byte_size, uint32_t* loads) {
    weir_plan_file* file = NULL;
    weir_schedule* loaded = NULL;
    if (weir_plan_file_parse(NULL, bytes, byte_size, &file) != WEIR_OK) {
        assert_null(file);
        return;
    }
    if (weir_plan_file_load(file, "pass", graph, target, &loaded) == WEIR_OK) {
        assert_ok(weir_schedule_check(loaded));
        ++*loads;
    } else {
        assert_null(loaded);
    }
    weir_schedule_destroy(loaded);
    weir_plan_file_destroy(file);
}

static void forged_files_are_proven_before_they_are_used(void** state) {
    const fixture* f = *state;
    uint8_t* bytes = exact_copy(f->bytes, f->byte_size);
    uint32_t loads = 0;
    for (size_t bit = 0; bit < 8 * f->byte_size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        reseal(bytes, f->byte_size);
        load_forged(f->graph, &f->target, bytes, f->byte_size, &loads);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    for (size_t length = HEADER; length < f->byte_size; length++) {
        uint8_t* cut = exact_copy(f->bytes, length);
        memset(cut + 16, 0, 8);
        cut[16] = (uint8_t)length;
        cut[17] = (uint8_t)(length >> 8);
        reseal(cut, length);
        load_forged(f->graph, &f->target, cut, length, &loads);
        free(cut);
    }
    // The claims that nothing checks: other options, a lower bound, the bytes of the serial order.
    assert_true(loads > 0 && loads < 8 * 40);
    free(bytes);
}

static void forged_plans_of_random_graphs_are_proven(void** state) {
    (void)state;
    test_random random = {107};
    uint32_t loads = 0;
    for (uint32_t round = 0; round < 30; round++) {
        random_graph made = random_graph_make(&random, 20);
        const weir_target target = cpu_target(round % 2 ? WEIR_WAIT_GROUPS : WEIR_WAIT_EDGES);
        weir_schedule* schedule = plan(made.graph, &target, (weir_schedule_options){0});
        weir_plan_file* file = file_of(schedule);
        size_t byte_size = 0;
        const void* whole = weir_plan_file_bytes(file, &byte_size);
        uint8_t* bytes = exact_copy(whole, byte_size);
        for (uint32_t i = 0; i < 300; i++) {
            // Most of the results stand in the last third.
            const size_t at = byte_size - 1 - random_below(&random, byte_size / 3);
            const uint8_t kept = bytes[at];
            bytes[at] = (uint8_t)(i % 2 ? random_below(&random, 8) : random_u64(&random));
            reseal(bytes, byte_size);
            load_forged(made.graph, &target, bytes, byte_size, &loads);
            bytes[at] = kept;
        }
        free(bytes);
        weir_plan_file_destroy(file);
        weir_schedule_destroy(schedule);
        weir_graph_destroy(made.graph);
    }
    assert_true(loads > 0); // what is written where it stood already
}

// Moves one value of a plan onto another; both are live at once.
static void a_forged_place_is_named(void** state) {
    (void)state;
    weir_graph* graph = NULL;
    weir_value x = WEIR_VALUE_NONE;
    weir_value made[3];
    const weir_target target = cpu_target(WEIR_WAIT_EDGES);
    const weir_shape shape = weir_shape_make(2, (int64_t[]){4, 32});
    assert_ok(weir_graph_create(NULL, &graph));
    assert_ok(weir_graph_input(graph, "x", WEIR_DTYPE_F32, &shape, WEIR_PARAM_NONE, &x));
    assert_ok(weir_graph_rms_norm(graph, x, 1e-5f, &made[0]));
    assert_ok(weir_graph_rms_norm(graph, x, 1e-6f, &made[1]));
    assert_ok(weir_graph_add(graph, made[0], made[1], &made[2]));
    assert_ok(weir_graph_output(graph, made[2]));
    weir_schedule* schedule = plan(graph, &target, (weir_schedule_options){0});
    assert_int_equal(schedule->plan_buffers.count, 2);
    weir_plan_entry* entries = (weir_plan_entry*)weir_plan_entries(schedule->plan, NULL);
    entries[0].byte_offset = entries[1].byte_offset = 0;
    weir_plan_file* file = file_of(schedule);
    weir_schedule* none = NULL;
    assert_status(weir_plan_file_load(file, "pass", graph, &target, &none), WEIR_INFEASIBLE);
    assert_message_has("plan pass");
    assert_message_has("share bytes");
    assert_null(none);
    weir_plan_file_destroy(file);
    weir_schedule_destroy(schedule);
    weir_graph_destroy(graph);
}

static uint32_t count_files(const char* folder) {
    DIR* listing = opendir(folder);
    assert_non_null(listing);
    uint32_t count = 0;
    for (const struct dirent* entry; (entry = readdir(listing));) {
        count += entry->d_name[0] != '.';
    }
    closedir(listing);
    return count;
}

static void files_are_written_in_whole_or_not_at_all(void** state) {
    const fixture* f = *state;
    char folder[] = "/tmp/weir-plan-XXXXXX";
    char path[64];
    char missing[80];
    weir_plan_file* file = NULL;
    weir_schedule* loaded = NULL;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model.plan", folder);
    snprintf(missing, sizeof missing, "%s/none/model.plan", folder);
    assert_status(weir_plan_file_open(NULL, path, &file), WEIR_IO);
    assert_message_has("model.plan");
    for (int i = 0; i < 2; i++) { // the second time in place of the first
        assert_ok(weir_plan_file_save(f->file, path));
        assert_int_equal(count_files(folder), 1);
    }
    size_t byte_size = 0;
    char* bytes = read_whole_file(path, false, &byte_size);
    assert_int_equal(byte_size, f->byte_size);
    assert_memory_equal(bytes, f->bytes, byte_size);
    free(bytes);
    assert_ok(weir_plan_file_open(NULL, path, &file));
    assert_ok(weir_plan_file_load(file, "pass", f->graph, &f->target, &loaded));
    assert_same_schedule(f->schedule, loaded);
    weir_schedule_destroy(loaded);
    weir_plan_file_destroy(file);
    assert_status(weir_plan_file_save(f->file, missing), WEIR_IO);
    assert_message_has("none/model.plan");
    assert_status(weir_plan_file_save(f->file, folder), WEIR_IO); // a folder cannot be replaced
    assert_int_equal(count_files(folder), 1);
    assert_status(weir_plan_file_open(NULL, folder, &file), WEIR_IO);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

// What cannot be written in whole takes nothing of what was there before.
static void a_full_disk_leaves_the_file_as_it_was(void** state) {
    const fixture* f = *state;
    char folder[] = "/tmp/weir-plan-XXXXXX";
    char path[64];
    struct rlimit before;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model.plan", folder);
    assert_ok(weir_plan_file_save(f->file, path));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    const struct rlimit tight = {.rlim_cur = 64, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    const weir_status status = weir_plan_file_save(f->file, path);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_status(status, WEIR_IO);
    assert_message_has("cannot write");
    assert_int_equal(count_files(folder), 1);
    weir_plan_file* file = NULL;
    assert_ok(weir_plan_file_open(NULL, path, &file));
    weir_plan_file_destroy(file);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

// A link, a device or a pipe is written through: a file in its place would be lost to whoever
// reads what it leads to.
static void a_link_and_a_pipe_keep_their_names(void** state) {
    const fixture* f = *state;
    char folder[] = "/tmp/weir-plan-XXXXXX";
    char path[64];
    char link[64];
    struct stat facts;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model.plan", folder);
    snprintf(link, sizeof link, "%s/link", folder);
    assert_int_equal(symlink("model.plan", link), 0);
    for (int i = 0; i < 2; i++) { // the second time over the first
        assert_ok(weir_plan_file_save(f->file, link));
        assert_int_equal(lstat(link, &facts), 0);
        assert_true(S_ISLNK(facts.st_mode));
        size_t byte_size = 0;
        char* bytes = read_whole_file(path, false, &byte_size);
        assert_int_equal(byte_size, f->byte_size);
        assert_memory_equal(bytes, f->bytes, byte_size);
        free(bytes);
    }
    struct rlimit usual;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &usual), 0);
    const struct rlimit small = {f->byte_size / 2, usual.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const weir_status status = weir_plan_file_save(f->file, link);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &usual), 0);
    assert_int_equal(status, WEIR_IO);
    size_t kept = 0;
    char* bytes = read_whole_file(path, false, &kept);
    assert_true(kept == f->byte_size && memcmp(bytes, f->bytes, kept) == 0);
    free(bytes);
    assert_int_equal(count_files(folder), 2);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(symlink("/dev/full", link), 0);
    assert_status(weir_plan_file_save(f->file, link), WEIR_IO);
    assert_message_has("link: cannot write: No space left");
    assert_int_equal(unlink(link), 0);
    assert_int_equal(mkfifo(link, 0600), 0);
    const int reader = open(link, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0 && f->byte_size <= PIPE_BUF); // all of it fits at once
    assert_ok(weir_plan_file_save(f->file, link));
    char* received = malloc(f->byte_size);
    assert_int_equal(read(reader, received, f->byte_size), f->byte_size);
    assert_memory_equal(received, f->bytes, f->byte_size);
    free(received);
    close(reader);
    assert_int_equal(lstat(link, &facts), 0);
    assert_true(S_ISFIFO(facts.st_mode));
    assert_int_equal(count_files(folder), 2);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void an_empty_file_is_no_plan_file(void** state) {
    (void)state;
    char path[] = "/tmp/weir-plan-XXXXXX";
    weir_plan_file* file = NULL;
    const int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
    assert_status(weir_plan_file_open(NULL, path, &file), WEIR_BAD_FORMAT);
    assert_message_has(path);
    assert_message_has("not a plan file");
    assert_int_equal(unlink(path), 0);
    weir_plan_file_destroy(NULL);
}

// Saves and loads in memory and through a path; every allocation of it fails once in turn.
static weir_status round_trip(const weir_allocator* allocator, const random_graph* made,
                              const weir_target* target, const weir_schedule* schedule,
                              const char* path) {
    weir_plan_file* files[3] = {NULL};
    weir_schedule* loaded = NULL;
    weir_status status = weir_plan_file_create(allocator, &files[0]);
    if (status == WEIR_OK) {
        status = weir_plan_file_add(files[0], "pass", schedule);
    }
    if (status == WEIR_OK) {
        status = weir_plan_file_save(files[0], path);
    }
    if (status == WEIR_OK) {
        status = weir_plan_file_open(allocator, path, &files[1]);
    }
    if (status == WEIR_OK) {
        size_t byte_size = 0;
        const void* bytes = weir_plan_file_bytes(files[1], &byte_size);
        status = weir_plan_file_parse(allocator, bytes, byte_size, &files[2]);
    }
    if (status == WEIR_OK) {
        status = weir_plan_file_load(files[2], "pass", made->graph, target, &loaded);
    }
    assert_int_equal(status == WEIR_OK, loaded != NULL);
    weir_schedule_destroy(loaded);
    for (int i = 0; i < 3; i++) {
        weir_plan_file_destroy(files[i]);
    }
    return status;
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void** state) {
    (void)state;
    test_random random = {109};
    char path[] = "/tmp/weir-plan-XXXXXX";
    close(mkstemp(path));
    random_graph made = random_graph_make(&random, 16);
    for (int mode = 0; mode < 2; mode++) {
        const weir_target target = cpu_target(mode ? WEIR_WAIT_GROUPS : WEIR_WAIT_EDGES);
        const weir_schedule_options options = {.reuse = mode ? WEIR_REUSE_SERIAL : WEIR_REUSE_FREE};
        weir_schedule* schedule = plan(made.graph, &target, options);
        weir_status status = WEIR_OUT_OF_MEMORY;
        size_t step = 0;
        for (; status != WEIR_OK; step++) {
            test_allocator counter = {.fail_at = step};
            const weir_allocator allocator = test_allocator_of(&counter);
            status = round_trip(&allocator, &made, &target, schedule, path);
            assert_true(status == WEIR_OK || status == WEIR_OUT_OF_MEMORY);
            assert_int_equal(atomic_load(&counter.live_blocks), 0);
            assert_int_equal(atomic_load(&counter.live_bytes), 0);
        }
        assert_true(step > 50);
        weir_schedule_destroy(schedule);
    }
    weir_graph_destroy(made.graph);
    assert_int_equal(unlink(path), 0);
}

// A plan that cannot be added leaves the file as it was.
static void a_failed_addition_leaves_the_file_as_before(void** state) {
    const fixture* f = *state;
    test_allocator counter = {.fail_at = SIZE_MAX};
    const weir_allocator allocator = test_allocator_of(&counter);
    weir_plan_file* file = NULL;
    weir_schedule* loaded = NULL;
    assert_ok(weir_plan_file_create(&allocator, &file));
    assert_ok(weir_plan_file_add(file, "pass", f->schedule));
    weir_status status = WEIR_OUT_OF_MEMORY;
    for (size_t step = 0; status != WEIR_OK; step++) {
        weir_plan_file* read = NULL;
        size_t byte_size = 0;
        counter.fail_at = atomic_load(&counter.calls) + step;
        status = weir_plan_file_add(file, "again", f->schedule);
        counter.fail_at = SIZE_MAX;
        const void* bytes = weir_plan_file_bytes(file, &byte_size);
        assert_ok(weir_plan_file_parse(NULL, bytes, byte_size, &read));
        assert_int_equal(weir_plan_file_count(read), status == WEIR_OK ? 2 : 1);
        weir_plan_file_destroy(read);
    }
    assert_ok(weir_plan_file_load(file, "again", f->graph, &f->target, &loaded));
    weir_schedule_destroy(loaded);
    weir_plan_file_destroy(file);
    assert_int_equal(atomic_load(&counter.live_blocks), 0);
}

#define with_file(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loaded_schedule_is_the_one_that_was_planned),
        cmocka_unit_test(plans_within_a_budget_are_loaded_as_they_are),
        cmocka_unit_test(several_plans_have_names),
        with_file(other_targets_are_refused_with_what_differs),
        with_file(other_scratch_is_another_plan),
        with_file(other_graphs_are_refused_with_what_differs),
        with_file(names_are_labels),
        with_file(every_prefix_is_refused),
        with_file(every_flipped_bit_is_refused),
        with_file(other_versions_are_named),
        with_file(forged_files_are_proven_before_they_are_used),
        cmocka_unit_test(forged_plans_of_random_graphs_are_proven),
        cmocka_unit_test(a_forged_place_is_named),
        with_file(files_are_written_in_whole_or_not_at_all),
        with_file(a_full_disk_leaves_the_file_as_it_was),
        with_file(a_link_and_a_pipe_keep_their_names),
        cmocka_unit_test(an_empty_file_is_no_plan_file),
        cmocka_unit_test(each_failing_allocation_is_reported_and_leaks_nothing),
        with_file(a_failed_addition_leaves_the_file_as_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
