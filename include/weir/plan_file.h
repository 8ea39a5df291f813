// Plan files: what planning and the search for an order have found, kept for the next start.
//
// A file holds the schedules of one or more graphs, by name: the groups of dispatches, the place of
// each value, and what identifies target and graph. Loading does what is cheap again, lowering
// and the derivation of every wait, and takes from the file what is not. Nothing in it is trusted:
// the order must keep the flow of data, weir_plan_verify proves the places, the schedule is checked
// as if it had been planned, and its edges must be those that it was saved with.
//
//     weir_plan_file_create(NULL, &file);
//     weir_plan_file_add(file, "decode", schedule);
//     weir_plan_file_save(file, "model.plan");
//
//     weir_plan_file_open(NULL, "model.plan", &file);
//     weir_plan_file_load(file, "decode", graph, &target, &schedule);
//
// The bytes are the same on every machine: numbers are little-endian, a checksum covers all of
// them. Names are labels: two graphs that differ in names alone share their plans.
#ifndef WEIR_PLAN_FILE_H
#define WEIR_PLAN_FILE_H

#include <weir/schedule.h>

WEIR_C_BEGIN

#define WEIR_PLAN_FILE_VERSION 2 // of what is written; other versions are refused

typedef struct weir_plan_file weir_plan_file;

// Creates a plan file without plans, in memory.
//
// Ownership: the caller destroys it.
// Errors:    WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_plan_file_create(const weir_allocator* allocator,
                                                         weir_plan_file** file);

// Reads a plan file from a path, or from bytes, which are copied.
//
// Ownership: the caller destroys it.
// Errors:    WEIR_IO; WEIR_BAD_FORMAT no plan file, or a damaged one (the message says where);
//            WEIR_UNSUPPORTED another version; WEIR_OUT_OF_RANGE more than 1 GiB;
//            WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_plan_file_open(const weir_allocator* allocator,
                                                       const char* path, weir_plan_file** file);
WEIR_API WEIR_MUST_USE weir_status weir_plan_file_parse(const weir_allocator* allocator,
                                                        const void* bytes, size_t byte_size,
                                                        weir_plan_file** file);

// Destroys a plan file; NULL is a no-op. Schedules loaded from it do not need it.
//
// Threads: thread-compatible.
WEIR_API void weir_plan_file_destroy(weir_plan_file* file);

// Returns how many plans there are, and the name of one; NULL for an unknown index.
//
// Ownership: names belong to the file and hold until a plan is added.
// Threads:   thread-compatible.
WEIR_API uint32_t weir_plan_file_count(const weir_plan_file* file);
WEIR_API const char* weir_plan_file_name(const weir_plan_file* file, uint32_t index);

// Returns the file as bytes.
//
// Ownership: belongs to the file; holds until a plan is added.
// Threads:   thread-compatible.
WEIR_API const void* weir_plan_file_bytes(const weir_plan_file* file, size_t* byte_size);

// Adds the plan of a schedule under a name. On failure the file is as before.
//
// Ownership: the schedule is not kept.
// Errors:    WEIR_INVALID_ARGUMENT there is one of that name; WEIR_OUT_OF_MEMORY.
// Threads:   thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_plan_file_add(weir_plan_file* file, const char* name,
                                                      const weir_schedule* schedule);

// Writes the file to a path, in whole or not at all: what is there before is replaced at the end. A
// link keeps its name: the file that it leads to is replaced. Devices and pipes are written in
// place. No signal tells of a reader that has left, or of a limit on the size of files.
//
// Errors:  WEIR_IO; WEIR_OUT_OF_MEMORY.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_plan_file_save(const weir_plan_file* file,
                                                       const char* path);

// Makes the schedule that was added under a name, for the same graph and target, without planning.
// It has the options that it was planned with, and all its figures; those that only planning can
// find (lower bound, bytes of the serial order) are taken from the file. Limits of the target
// (bindings, storages) may be higher than those that it was planned for.
//
// Ownership: the caller destroys it; the graph is not kept, the target's kernels must hold. Memory
//            comes from the allocator of the file.
// Errors:    WEIR_NOT_FOUND no plan of that name; WEIR_INVALID_ARGUMENT made for another target or
//            graph (the message says what differs); WEIR_BAD_FORMAT, WEIR_INFEASIBLE the plan is
//            none, or a wrong one; as weir_schedule_create.
// Threads:   thread-safe while nothing is added.
WEIR_API WEIR_MUST_USE weir_status weir_plan_file_load(const weir_plan_file* file, const char* name,
                                                       const weir_graph* graph,
                                                       const weir_target* target,
                                                       weir_schedule** schedule);

WEIR_C_END

#endif
