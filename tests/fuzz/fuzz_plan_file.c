// Plan files: whatever the bytes, a load gives an error, or a schedule that passes its check and
// whose plan is saved as the same bytes again.
//
// Bytes that begin as a plan file does are taken for one. Others are changes to a file of one plan
// that is made here, so that most of it is in order:
//
//     | which plan | kind, place (2 bytes), operands | ...
//
// The checksum of either is then made right, since a search would not get past it, and so is the
// length of a changed plan, unless the first byte is above 127. The first two letters of a plan's
// name say for which graph and which target it is loaded.
#include "fuzz.h"
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

static void put_number(uint8_t* bytes, uint64_t number, size_t byte_size) {
    for (size_t i = 0; i < byte_size; i++) {
        bytes[i] = (uint8_t)(number >> (8 * i));
    }
}

static void seal(uint8_t* bytes, size_t byte_size) {
    if (byte_size >= HEADER) {
        put_number(bytes + SIZE_AT, byte_size, 8);
        const uint64_t hash = hash_bytes(HASH_BEGIN, bytes, CHECKSUM_AT);
        put_number(bytes + CHECKSUM_AT, hash_bytes(hash, bytes + HEADER, byte_size - HEADER), 8);
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

// Makes room for, or takes out, `length` bytes at a place.
static void move_tail(uint8_t* bytes, size_t* byte_size, size_t place, size_t length, bool insert) {
    const size_t left = *byte_size - place;
    if (insert && length <= left && *byte_size + length <= CHANGED_MAX) {
        memmove(bytes + place + length, bytes + place, left);
        *byte_size += length;
    } else if (!insert && length <= left) {
        memmove(bytes + place, bytes + place + length, left - length);
        *byte_size -= length;
    }
}

static void swap_bytes(uint8_t* bytes, size_t place, size_t other, size_t length) {
    for (size_t i = 0; i < length; i++) {
        const uint8_t kept = bytes[place + i];
        bytes[place + i] = bytes[other + i];
        bytes[other + i] = kept;
    }
}

static void change_number(fuzz_input* input, uint8_t* place, size_t byte_size) {
    static const uint64_t bounds[] = {
        0, 1, UINT8_MAX, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, 1u << 30, UINT64_C(1) << 40};
    uint64_t number = 0;
    for (size_t i = byte_size; i > 0; i--) {
        number = number << 8 | place[i - 1];
    }
    const uint32_t choice = fuzz_byte(input);
    if (choice < 16) {
        number = bounds[choice % (sizeof bounds / sizeof *bounds)];
    } else if (choice < 32) {
        number = fuzz_u64(input);
    } else { // a little more or less
        number += (uint64_t)(int64_t)(int8_t)choice;
    }
    put_number(place, number, byte_size);
}

static void change_once(fuzz_input* input, uint8_t* bytes, size_t* byte_size) {
    const uint32_t kind = fuzz_below(input, 6);
    const size_t high = fuzz_byte(input);
    const size_t place = (high << 8 | fuzz_byte(input)) % *byte_size;
    const size_t length = kind < 2 ? 4u + 4u * kind : 1 + fuzz_below(input, 32);
    if (place + 2 * length > *byte_size) {
        bytes[place] = fuzz_byte(input);
    } else if (kind < 2) {
        change_number(input, bytes + place, length);
    } else if (kind < 4) {
        move_tail(bytes, byte_size, place, length, kind == 2);
    } else if (kind == 4) { // neighbours in a list
        swap_bytes(bytes, place, place + length, length);
    } else {
        bytes[place] = (uint8_t)(bytes[place] ^ length);
    }
}

static uint8_t* changed_file(fuzz_input* input, size_t* byte_size) {
    uint8_t* bytes = malloc(CHANGED_MAX);
    fuzz_require(bytes);
    const uint32_t choice = fuzz_byte(input);
    const uint32_t index = choice % (2 * GRAPHS);
    memcpy(bytes, plans[index], plan_sizes[index]);
    *byte_size = plan_sizes[index];
    for (int changes = 0; input->left > 0 && *byte_size > HEADER && changes < 32; changes++) {
        change_once(input, bytes, byte_size);
    }
    if (choice < 128 && *byte_size >= HEADER + NAME_END) {
        put_number(bytes + HEADER, *byte_size - HEADER - NAME_END, 8);
    }
    return bytes;
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
