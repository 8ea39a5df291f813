// Lifetimes as CSV: what is read is written back and read again the same; small problems are
// planned, and the plan is held against the verifier.
#include "fuzz.h"

#include <weir/plan_csv.h>

typedef struct sink_text {
    char* bytes;
    size_t length;
    size_t capacity;
} sink_text;

static bool append(void* context, const char* bytes, size_t length) {
    sink_text* sink = context;
    if (length > sink->capacity - sink->length) {
        sink->capacity = (sink->length + length) * 2;
        sink->bytes = realloc(sink->bytes, sink->capacity);
        fuzz_require(sink->bytes);
    }
    if (length > 0) {
        memcpy(sink->bytes + sink->length, bytes, length);
        sink->length += length;
    }
    return true;
}

// A written plan is read back as the same buffers, each fixed where the plan put it.
static void check_round_trip(const weir_plan_csv* csv, const weir_plan_entry* entries) {
    sink_text sink = {0};
    fuzz_require(weir_plan_csv_write(csv, entries, append, &sink) == WEIR_OK);
    weir_plan_csv* again = NULL;
    const weir_plan_csv_desc desc = {.bytes = sink.bytes, .byte_size = sink.length};
    fuzz_require(weir_plan_csv_create(NULL, &desc, &again) == WEIR_OK);
    const weir_plan_problem* before = weir_plan_csv_problem(csv);
    const weir_plan_problem* after = weir_plan_csv_problem(again);
    fuzz_require(after->buffer_count == before->buffer_count);
    fuzz_require(after->interval_count == before->interval_count);
    const weir_plan_entry* read = NULL;
    fuzz_require(weir_plan_csv_entries(again, &read) == WEIR_OK);
    for (uint32_t i = 0; i < before->buffer_count; i++) {
        fuzz_require(read[i].byte_offset == entries[i].byte_offset);
        fuzz_require(after->buffers[i].byte_size == before->buffers[i].byte_size);
    }
    weir_plan_csv_destroy(again);
    free(sink.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t byte_size) {
    uint8_t* exact = fuzz_exact(bytes, byte_size);
    weir_plan_csv* csv = NULL;
    const weir_plan_csv_desc desc = {.bytes = (const char*)exact, .byte_size = byte_size};
    if (weir_plan_csv_create(NULL, &desc, &csv) == WEIR_OK) {
        weir_plan_problem problem = *weir_plan_csv_problem(csv);
        problem.effort = WEIR_PLAN_PLACE;
        weir_plan* plan = NULL;
        if (weir_plan_create(NULL, &problem, &plan) == WEIR_OK) {
            const weir_plan_result* result = weir_plan_result_of(plan);
            const weir_plan_entry* entries = weir_plan_entries(plan, NULL);
            fuzz_require(result->peak >= result->lower_bound);
            fuzz_require(weir_plan_verify(NULL, &problem, entries) == WEIR_OK);
            check_round_trip(csv, entries);
        }
        weir_plan_destroy(plan);
    }
    weir_plan_csv_destroy(csv);
    free(exact);
    return 0;
}
