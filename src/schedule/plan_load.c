#include "base/hash.h"
#include "schedule/plan_file.h"

#include <string.h>

// Flags of the options.
#define FENCE_ALL 1u
#define NEVER_IN_PLACE 2u

// Fills the position and the group of each dispatch as lowered.
static void find_lowered(const weir_schedule* schedule, uint32_t* lowered, uint32_t* groups) {
    for (uint32_t i = 0; i < schedule->dispatches.count; i++) {
        const schedule_dispatch* dispatch = &schedule->dispatches.items[i];
        lowered[dispatch->given] = i;
        groups[dispatch->given] = dispatch->planned;
    }
}

static plan_facts facts_of(const weir_schedule* schedule) {
    const weir_schedule_report* report = &schedule->report;
    plan_facts facts = {
        .lower_bound = weir_plan_result_of(schedule->plan)->lower_bound,
        .serial_bytes = report->serial_bytes,
        .block_bound = weir_plan_result_of(schedule->plan)->block_bound,
        .arena_bytes = report->arena_bytes,
        .waits = report->waits,
        .edges = report->edges,
        .residual_edges = report->residual_edges,
        .edge_hash = HASH_BEGIN,
    };
    for (size_t i = 0; i < schedule->dispatches.count; i++) {
        facts.edge_hash = hash_u64(facts.edge_hash, schedule->edges.begins[i + 1]);
    }
    for (size_t i = 0; i < schedule->edges.count; i++) {
        facts.edge_hash = hash_u64(facts.edge_hash, schedule->edges.items[i]);
    }
    return facts;
}

static void write_options(plan_writer* writer, const weir_schedule* schedule) {
    const weir_schedule_options* options = &schedule->options;
    plan_write_u32(writer, schedule->policy);
    plan_write_u32(writer, options->reuse);
    plan_write_u32(writer, options->order);
    plan_write_u64(writer, options->byte_budget);
    plan_write_u32(writer, (options->fence_all ? FENCE_ALL : 0) |
                               (options->never_in_place ? NEVER_IN_PLACE : 0));
    plan_write_u32(writer, options->without_fusions);
    plan_write_u64(writer, options->plan_iterations);
}

static void read_options(plan_reader* reader, weir_schedule_options* options,
                         schedule_policy* policy) {
    const uint32_t kind = plan_read_u32(reader);
    const uint32_t reuse = plan_read_u32(reader);
    const uint32_t order = plan_read_u32(reader);
    const uint64_t byte_budget = plan_read_u64(reader);
    const uint32_t flags = plan_read_u32(reader);
    *policy = (schedule_policy)kind;
    const uint32_t without_fusions = plan_read_u32(reader);
    *options = (weir_schedule_options){.reuse = (weir_reuse)reuse,
                                       .order = (weir_order)order,
                                       .byte_budget = byte_budget,
                                       .fence_all = (flags & FENCE_ALL) != 0,
                                       .never_in_place = (flags & NEVER_IN_PLACE) != 0,
                                       .without_fusions = without_fusions,
                                       .plan_iterations = plan_read_u64(reader)};
    reader->failed = reader->failed || kind > SCHEDULE_CAP || reuse > WEIR_REUSE_NONE ||
                     order > WEIR_ORDER_GIVEN || (flags & ~(FENCE_ALL | NEVER_IN_PLACE)) != 0 ||
                     (without_fusions & ~WEIR_FUSION_ALL) != 0;
}

static void write_entries(plan_writer* writer, const weir_plan* plan) {
    uint32_t count = 0;
    const weir_plan_entry* entries = weir_plan_entries(plan, &count);
    plan_write_u32(writer, count);
    for (uint32_t i = 0; i < count; i++) {
        plan_write_u64(writer, entries[i].byte_offset);
        plan_write_u64(writer, entries[i].byte_size);
        plan_write_u32(writer, entries[i].pool);
        plan_write_u32(writer, entries[i].block);
        plan_write_u32(writer, entries[i].placed_on);
    }
}

static void write_facts(plan_writer* writer, const plan_facts* facts) {
    plan_write_u64(writer, facts->lower_bound);
    plan_write_u64(writer, facts->serial_bytes);
    plan_write_u32(writer, facts->block_bound);
    plan_write_u64(writer, facts->arena_bytes);
    plan_write_u32(writer, facts->waits);
    plan_write_u32(writer, facts->edges);
    plan_write_u32(writer, facts->residual_edges);
    plan_write_u64(writer, facts->edge_hash);
}

static plan_facts read_facts(plan_reader* reader) {
    plan_facts facts = {0};
    facts.lower_bound = plan_read_u64(reader);
    facts.serial_bytes = plan_read_u64(reader);
    facts.block_bound = plan_read_u32(reader);
    facts.arena_bytes = plan_read_u64(reader);
    facts.waits = plan_read_u32(reader);
    facts.edges = plan_read_u32(reader);
    facts.residual_edges = plan_read_u32(reader);
    facts.edge_hash = plan_read_u64(reader);
    return facts;
}

weir_status weir_plan_file_encode(plan_writer* writer, const weir_schedule* schedule) {
    const uint32_t count = (uint32_t)schedule->dispatches.count;
    const size_t byte_size = 2 * count * sizeof(uint32_t);
    void* memory = NULL;
    WEIR_TRY(weir_alloc(writer->allocator, byte_size, _Alignof(uint32_t), &memory));
    uint32_t* lowered = memory;
    uint32_t* groups = lowered + count;
    const plan_facts facts = facts_of(schedule);
    find_lowered(schedule, lowered, groups);
    weir_plan_write_target(writer, &schedule->target);
    write_options(writer, schedule);
    weir_plan_write_graph(writer, schedule, lowered);
    plan_write_u32(writer, count);
    for (uint32_t i = 0; i < count; i++) {
        plan_write_u32(writer, groups[i]);
    }
    write_entries(writer, schedule->plan);
    write_facts(writer, &facts);
    weir_free(writer->allocator, memory, byte_size, _Alignof(uint32_t));
    return writer->status;
}

// The lists of a plan as read; sized by what the bytes hold, so that a false count costs nothing.
typedef struct given_lists {
    uint32_t* groups;
    size_t groups_bytes;
    weir_plan_entry* entries;
    size_t entries_bytes;
    schedule_given given;
    plan_facts facts;
} given_lists;

static weir_status read_count(plan_reader* reader, const char* label, size_t item_size,
                              uint32_t* count) {
    *count = plan_read_u32(reader);
    return !reader->failed && *count <= (reader->byte_size - reader->at) / item_size
               ? WEIR_OK
               : weir_plan_file_damaged(label, "a list is cut");
}

static weir_status read_groups(const weir_allocator* allocator, plan_reader* reader,
                               const char* label, given_lists* lists) {
    uint32_t count = 0;
    void* memory = NULL;
    WEIR_TRY(read_count(reader, label, sizeof(uint32_t), &count));
    const size_t byte_size = count * sizeof(uint32_t);
    WEIR_TRY(weir_alloc(allocator, byte_size, _Alignof(uint32_t), &memory));
    lists->groups = memory;
    lists->groups_bytes = byte_size;
    for (uint32_t i = 0; i < count; i++) {
        lists->groups[i] = plan_read_u32(reader);
    }
    lists->given.groups = lists->groups;
    lists->given.dispatch_count = count;
    return WEIR_OK;
}

static weir_status read_entries(const weir_allocator* allocator, plan_reader* reader,
                                const char* label, given_lists* lists) {
    uint32_t count = 0;
    void* memory = NULL;
    WEIR_TRY(read_count(reader, label, 2 * sizeof(uint64_t) + 3 * sizeof(uint32_t), &count));
    const size_t byte_size = count * sizeof(weir_plan_entry);
    WEIR_TRY(weir_alloc(allocator, byte_size, _Alignof(weir_plan_entry), &memory));
    lists->entries = memory;
    lists->entries_bytes = byte_size;
    for (uint32_t i = 0; i < count; i++) {
        weir_plan_entry* entry = &lists->entries[i];
        entry->byte_offset = plan_read_u64(reader);
        entry->byte_size = plan_read_u64(reader);
        entry->pool = plan_read_u32(reader);
        entry->block = plan_read_u32(reader);
        entry->placed_on = plan_read_u32(reader);
    }
    lists->given.entries = lists->entries;
    lists->given.entry_count = count;
    return WEIR_OK;
}

static weir_status read_results(const weir_allocator* allocator, plan_reader* reader,
                                const char* label, given_lists* lists) {
    WEIR_TRY(read_groups(allocator, reader, label, lists));
    WEIR_TRY(read_entries(allocator, reader, label, lists));
    lists->facts = read_facts(reader);
    lists->given.claims = (plan_claims){.lower_bound = lists->facts.lower_bound,
                                        .block_bound = lists->facts.block_bound};
    lists->given.serial_bytes = lists->facts.serial_bytes;
    return !reader->failed && reader->at == reader->byte_size
               ? WEIR_OK
               : weir_plan_file_damaged(label, "the results are cut, or more than that");
}

static weir_status check_facts(const weir_schedule* schedule, const char* label,
                               const plan_facts* there) {
    const plan_facts here = facts_of(schedule);
    const bool same = there->arena_bytes == here.arena_bytes && there->waits == here.waits &&
                      there->edges == here.edges && there->edge_hash == here.edge_hash &&
                      there->residual_edges == here.residual_edges &&
                      there->serial_bytes == here.serial_bytes;
    return same ? WEIR_OK
                : WEIR_FAIL(WEIR_INFEASIBLE,
                            "%s: its groups and places give %u edges (%u for reuse), %u waits and "
                            "%llu bytes; it was saved with %u (%u), %u and %llu",
                            label, here.edges, here.residual_edges, here.waits,
                            (unsigned long long)here.arena_bytes, there->edges,
                            there->residual_edges, there->waits,
                            (unsigned long long)there->arena_bytes);
}

// Makes the schedule of a lowered graph from what was given.
static weir_status finish_given(weir_schedule* schedule, plan_reader* reader, const char* label) {
    given_lists lists = {0};
    weir_status status = read_results(&schedule->allocator, reader, label, &lists);
    if (status == WEIR_OK) {
        schedule->given = &lists.given;
        status = weir_schedule_finish(schedule);
        schedule->given = NULL;
        if (status != WEIR_OK && status != WEIR_OUT_OF_MEMORY) {
            status = WEIR_FAIL(status, "%s: %s", label, weir_last_error());
        }
    }
    if (status == WEIR_OK) {
        status = check_facts(schedule, label, &lists.facts);
    }
    weir_free(&schedule->allocator, lists.groups, lists.groups_bytes, _Alignof(uint32_t));
    weir_free(&schedule->allocator, lists.entries, lists.entries_bytes, _Alignof(weir_plan_entry));
    return status;
}

static weir_status make_schedule(weir_schedule* schedule, plan_reader* reader, const char* label,
                                 const weir_graph* graph) {
    WEIR_TRY(weir_schedule_lower(schedule, graph));
    WEIR_TRY(weir_plan_match_graph(reader, label, schedule));
    return finish_given(schedule, reader, label);
}

weir_status weir_plan_file_decode(const weir_allocator* allocator, plan_reader* reader,
                                  const char* label, const weir_graph* graph,
                                  const weir_target* target, weir_schedule** schedule) {
    weir_schedule_options options;
    schedule_policy policy;
    weir_schedule* made = NULL;
    weir_target used = *target;
    used.alignment = target->alignment > 0 ? target->alignment : 1;
    WEIR_TRY(weir_plan_match_target(reader, label, &used));
    read_options(reader, &options, &policy);
    if (reader->failed) {
        return weir_plan_file_damaged(label, "unknown options");
    }
    WEIR_TRY(weir_schedule_begin(allocator, &used, &options, policy, &made));
    const weir_status status = make_schedule(made, reader, label, graph);
    if (status != WEIR_OK) {
        weir_schedule_destroy(made);
        return status;
    }
    *schedule = made;
    return WEIR_OK;
}
