// Plan files: whatever the bytes, a load gives an error, or a schedule that passes its check and
// whose plan is saved as the same bytes again.
//
// Bytes that begin as a plan file does are taken for one. Others are changes to a file of one plan
// that is made here, so that most of it is in order:
//
//     | which plan | changes (fuzz_changes.h) ... |
//
// The checksum of either is then made right, since a search would not get past it, and so is the
// length of a changed plan, unless the first byte is above 127. The first two letters of a plan's
// name say for which graph and which target it is loaded.
#include "fuzz_changes.h"
#include "random_graph.h"

#include <weir/plan_file.h>

#include "base/hash.h"

#define GRAPHS 4
#define HEADER 32
#define SIZE_AT 16
#define CHECKSUM_AT 24
#define NAME_AT 12  // from the begin of a plan: after its length, and that of its name
#define NAME_END 15 // of a name of two letters
#define CHANGED_MAX ((size_t)1 << 16) // bytes
#define LOAD_BYTES ((size_t)2 << 20)  // what lowering and planning of these graphs may take

static weir_graph* graphs[GRAPHS];
static weir_target targets[2];
static uint8_t* plans[2 * GRAPHS]; // a file for each graph and target
static size_t plan_sizes[2 * GRAPHS];

static void seal(uint8_t* bytes, size_t byte_size) {
    if (byte_size >= HEADER) {
        fuzz_put(bytes + SIZE_AT, byte_size, 8);
        const uint64_t hash = hash_bytes(HASH_BEGIN, bytes, CHECKSUM_AT);
        fuzz_put(bytes + CHECKSUM_AT, hash_bytes(hash, bytes + HEADER, byte_size - HEADER), 8);
    }
}

static void make_plan(uint32_t graph, uint32_t target) {
    static const weir_schedule_options modes[GRAPHS] = {
        {0}, {.reuse = WEIR_REUSE_SERIAL}, {.order = WEIR_ORDER_BYTES}, {.fence_all = true}};
    const char name[] = {(char)('0' + graph), (char)('0' + target), '\0'};
    const uint32_t index = 2 * graph + target;
    weir_schedule* schedule = NULL;
    weir_plan_file* file = NULL;
    fuzz_require(weir_plan_file_create(NULL, &file) == WEIR_OK);
    fuzz_require(weir_schedule_create(NULL, graphs[graph], &targets[target], &modes[graph],
                                      &schedule) == WEIR_OK);
    fuzz_require(weir_plan_file_add(file, name, schedule) == WEIR_OK);
    const void* bytes = weir_plan_file_bytes(file, &plan_sizes[index]);
    plans[index] = fuzz_exact(bytes, plan_sizes[index]);
    fuzz_require(plan_sizes[index] < CHANGED_MAX / 2);
    weir_plan_file_destroy(file);
    weir_schedule_destroy(schedule);
}

static void prepare(void) {
    static const uint32_t steps[GRAPHS] = {1, 6, 14, 24};
    test_random random = {5};
    for (uint32_t i = 0; i < 2; i++) {
        fuzz_require(weir_target_find("cpu", &targets[i]) == WEIR_OK);
        targets[i].waits = i == 0 ? WEIR_WAIT_EDGES : WEIR_WAIT_GROUPS;
    }
    for (uint32_t i = 0; i < GRAPHS; i++) {
        graphs[i] = random_graph_make(&random, steps[i]).graph;
        make_plan(i, 0);
        make_plan(i, 1);
    }
}

static uint8_t* changed_file(fuzz_input* input, size_t* byte_size) {
    const uint32_t choice = fuzz_byte(input);
    const uint32_t index = choice % (2 * GRAPHS);
    fuzz_bytes bytes = {malloc(CHANGED_MAX), plan_sizes[index], CHANGED_MAX};
    fuzz_require(bytes.items);
    memcpy(bytes.items, plans[index], bytes.count);
    fuzz_change(input, &bytes);
    if (choice < 128 && bytes.count >= HEADER + NAME_END) {
        fuzz_put(bytes.items + HEADER, bytes.count - HEADER - NAME_END, 8);
    }
    *byte_size = bytes.count;
    return bytes.items;
}

// A plan that was loaded is saved as the bytes that it was loaded from.
static void check_saved_again(const weir_plan_file* file, const char* name,
                              const weir_schedule* schedule) {
    weir_plan_file* again = NULL;
    size_t byte_size = 0;
    size_t again_size = 0;
    fuzz_require(weir_schedule_check(schedule) == WEIR_OK);
    fuzz_require(weir_plan_file_create(NULL, &again) == WEIR_OK);
    fuzz_require(weir_plan_file_add(again, name, schedule) == WEIR_OK);
    const uint8_t* bytes = weir_plan_file_bytes(file, &byte_size);
    const uint8_t* copy = weir_plan_file_bytes(again, &again_size);
    const size_t length = again_size - HEADER;
    const size_t begin = (size_t)((const uint8_t*)name - bytes) - NAME_AT;
    fuzz_require(length <= byte_size - begin);
    fuzz_require(memcmp(bytes + begin, copy + HEADER, length) == 0);
    weir_plan_file_destroy(again);
}

static void load_all(const weir_plan_file* file) {
    for (uint32_t i = 0; i < weir_plan_file_count(file) && i < 2 * GRAPHS; i++) {
        const char* name = weir_plan_file_name(file, i);
        const uint32_t graph = (uint8_t)name[0] % GRAPHS;
        const uint32_t target = name[0] != '\0' ? (uint8_t)name[1] % 2 : 0;
        weir_schedule* schedule = NULL;
        const weir_status status =
            weir_plan_file_load(file, name, graphs[graph], &targets[target], &schedule);
        fuzz_require(status != WEIR_OUT_OF_MEMORY && status != WEIR_INTERNAL);
        fuzz_require((status == WEIR_OK) == (schedule != NULL));
        if (schedule) {
            check_saved_again(file, name, schedule);
        }
        weir_schedule_destroy(schedule);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t byte_size) {
    if (!plans[0]) {
        prepare();
    }
    fuzz_input input = {bytes, byte_size};
    size_t file_size = byte_size;
    const bool is_file = byte_size >= 4 && memcmp(bytes, "WEIR", 4) == 0;
    uint8_t* made = is_file ? fuzz_exact(bytes, byte_size) : changed_file(&input, &file_size);
    seal(made, file_size);
    uint8_t* exact = fuzz_exact(made, file_size);
    fuzz_purse purse = {.most = 8 * file_size + LOAD_BYTES};
    const weir_allocator allocator = fuzz_allocator(&purse);
    weir_plan_file* file = NULL;
    const weir_status status = weir_plan_file_parse(&allocator, exact, file_size, &file);
    fuzz_require(status != WEIR_OUT_OF_MEMORY);
    if (status == WEIR_OK) {
        load_all(file);
    }
    weir_plan_file_destroy(file);
    fuzz_require(purse.live == 0);
    free(exact);
    free(made);
    return 0;
}
