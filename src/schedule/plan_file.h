// Inside a plan file. All numbers are little-endian, a text is u32 length, its bytes, NUL:
//
//     header    "WEIRPLAN" | u32 version | u32 plans | u64 bytes of the file | u64 checksum
//     plan      u64 bytes after the name | text name | target | options | graph | results
//     target    text name | u32 waits | u64 alignment, binding_bytes_max, storage_bytes_max
//     options   u32 policy, reuse, order | u64 byte_budget | u32 flags | u64 plan_iterations
//     graph     u32 count, u64 lower and upper of each parameter
//               u32 values of the graph | u32 count, u32 hash of each value as lowered
//               u32 count, u32 hash of each dispatch as lowered
//     results   u32 count, u32 group of each dispatch as lowered, when values were placed
//               u32 count, u64 offset, u64 size, u32 pool, u32 block, u32 placed_on of each buffer
//               claims and facts (plan_facts)
//
// The checksum is the hash (base/hash.h) of all bytes but its own.
#ifndef WEIR_SCHEDULE_PLAN_FILE_H
#define WEIR_SCHEDULE_PLAN_FILE_H

#include <weir/plan_file.h>

#include "schedule/plan_codec.h"
#include "schedule/schedule.h"

#define PLAN_FILE_HEADER 32 // bytes

typedef struct plan_section {
    size_t name;       // where its name begins in the bytes
    size_t begin, end; // of what comes after the name
} plan_section;

struct weir_plan_file {
    weir_allocator allocator;
    char label[256]; // for messages: the path, cut to fit
    plan_bytes bytes;
    struct {
        plan_section* items;
        size_t count, capacity;
    } sections;
};

// What must come out of a load again, to the bit; the first two are claims.
typedef struct plan_facts {
    uint64_t lower_bound;
    uint64_t serial_bytes;
    uint32_t block_bound;
    uint64_t arena_bytes;
    uint32_t waits;
    uint32_t edges;
    uint32_t residual_edges;
    uint64_t edge_hash; // of all predecessors in order
} plan_facts;

// Appends everything about a schedule that comes after its name.
WEIR_MUST_USE weir_status weir_plan_file_encode(plan_writer* writer, const weir_schedule* schedule);

// Makes a schedule of it, for the same graph and a target with the same or higher limits.
WEIR_MUST_USE weir_status weir_plan_file_decode(const weir_allocator* allocator,
                                                plan_reader* reader, const char* label,
                                                const weir_graph* graph, const weir_target* target,
                                                weir_schedule** schedule);

// Write and compare what identifies target and graph. The list
// `lowered` has the position of each dispatch as lowered; a schedule that is compared is lowered
// and not ordered yet.
void weir_plan_write_target(plan_writer* writer, const weir_target* target);
void weir_plan_write_graph(plan_writer* writer, const weir_schedule* schedule,
                           const uint32_t* lowered);
WEIR_MUST_USE weir_status weir_plan_match_target(plan_reader* reader, const char* label,
                                                 const weir_target* target);
WEIR_MUST_USE weir_status weir_plan_match_graph(plan_reader* reader, const char* label,
                                                const weir_schedule* schedule);

// The message of bytes that are not what they should be.
WEIR_MUST_USE weir_status weir_plan_file_damaged(const char* label, const char* part);

#endif
