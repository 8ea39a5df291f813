#include <string.h>

#include "base/array.h"
#include "plan/plan_exact.h"
#include "plan/plan_internal.h"
#include "plan/plan_intervals.h"
#include "plan/plan_order.h"
#include "plan/plan_soft.h"

// Which pairs to place in place is decided by plans, not by rules: first one with none, then with
// as many as keep the peak, added in batches that are halved where they raise it. List orders judge
// the batches, for a full search of each would cost too much; the search then has the last word.

#define DEFAULT_ROUNDS 64
#define PROVE_ROUNDS 8192
#define DEFAULT_ROUNDS_CLASSES 2000 // with more buffers the default is no search
#define DEFAULT_SOFT_ROUNDS 2048
#define MERGE_ATTEMPTS 48 // plans made to find out which buffers to place on others
#define MERGE_BUFFERS 512 // with more buffers there are fewer, down to 8

// One plan and the in-place pairs it takes.
typedef struct attempt {
    bool* wanted; // per pair; after the attempt those that were taken
    weir_plan_entry* entries;
    weir_plan_result result; // peak UINT64_MAX: there is no such plan
} attempt;

typedef struct planner {
    plan_scratch scratch;
    const weir_plan_problem* problem;
    attempt best;
    attempt trial;
    uint32_t* pairs; // in-place pairs in the order they are tried
    uint32_t attempts_left;
    plan_budget order;
    uint64_t soft_rounds;
    bool softly; // the attempt takes the best placement and lessens its penalty
    plan_budget intervals;
    plan_exact_budget exact; // of the exact search, over all attempts
    bool exactly;            // the attempt is final: the exact search is worth its time
    weir_status refusal;     // why the first attempt gave no plan
} planner;

uint32_t weir_plan_row_words(uint32_t buffer_count) {
    return buffer_count / 64 + (buffer_count % 64 != 0);
}

// Classes of one pool lie together.
static uint32_t pool_end(const plan_instance* instance, uint32_t first) {
    uint32_t end = first + 1;
    while (end < instance->class_count &&
           instance->classes[end].pool == instance->classes[first].pool) {
        ++end;
    }
    return end;
}

// Fixed buffers that collide may yet lie in different blocks.
static bool any_fixed(const plan_instance* instance, uint32_t first, uint32_t end) {
    for (uint32_t c = first; c < end; ++c) {
        if (instance->classes[c].fixed) {
            return true;
        }
    }
    return false;
}

// Adds the blocks of one pool to the result; what lies on its line lies in block 0 up to the last.
static weir_status count_blocks(planner* plan, const plan_instance* instance, uint32_t first,
                                uint32_t end, const uint64_t* offsets, weir_plan_result* result) {
    const uint64_t cap = plan->problem->block_bytes_max;
    uint32_t needed = 1;
    uint32_t last = 0;
    if (cap > 0) {
        WEIR_TRY(plan_bound_blocks(&plan->scratch, instance, first, end - first, cap, &needed));
    }
    for (uint32_t c = first; c < end && cap > 0; ++c) {
        const uint32_t block = (uint32_t)(offsets[c] / cap);
        last = block > last ? block : last;
    }
    result->blocks += last + 1;
    result->block_bound += needed;
    return WEIR_OK;
}

// The budget where conflicts are all that is known.
static uint64_t order_rounds(const weir_plan_problem* problem) {
    if (problem->effort == WEIR_PLAN_PLACE) {
        return 0;
    }
    if (problem->iterations > 0 || problem->buffer_count > DEFAULT_ROUNDS_CLASSES) {
        return problem->iterations;
    }
    return problem->effort == WEIR_PLAN_PROVE ? PROVE_ROUNDS : DEFAULT_ROUNDS;
}

// Places one pool where conflicts are all that is known, or where it needs several blocks.
static weir_status place_by_conflicts(planner* plan, const plan_instance* instance, uint32_t first,
                                      uint32_t count, uint64_t rounds, uint64_t* offsets,
                                      uint64_t* peak, uint64_t* bound) {
    const weir_plan_problem* problem = plan->problem;
    const bool alone = count == instance->class_count;
    plan->order.rounds = rounds > 0 ? order_rounds(problem) : 0;
    return plan_order_place(&plan->scratch, instance, first, count, problem->block_bytes_max,
                            alone ? problem->capacity : 0, &plan->order, offsets, peak, bound);
}

// Bounds and places every pool, each in an address space of its own.
static weir_status place_pools(planner* plan, const plan_instance* instance, uint64_t rounds,
                               uint64_t* offsets, weir_plan_result* result) {
    uint32_t first = 0;
    while (first < instance->class_count) {
        const uint32_t end = pool_end(instance, first);
        uint64_t bound = 0;
        uint64_t peak = 0;
        const uint64_t cap = plan->problem->block_bytes_max;
        const bool by_spans = !instance->precedes && (cap == 0 || !any_fixed(instance, first, end));
        if (by_spans) {
            plan->intervals.rounds = rounds;
            WEIR_TRY(plan_intervals_pool(
                &plan->scratch, instance, first, end - first,
                end - first == instance->class_count ? plan->problem->capacity : 0,
                &plan->intervals, offsets, &peak, &bound));
        }
        if (plan->exactly && peak > bound) {
            const bool alone = end - first == instance->class_count;
            WEIR_TRY(plan_exact_pool(&plan->scratch, instance, first, end - first,
                                     alone ? plan->problem->capacity : 0, &plan->exact, offsets,
                                     &peak, &bound));
        }
        if (cap > 0) {
            WEIR_TRY(plan_bound_split(&plan->scratch, instance, first, end - first, &bound));
        }
        if (!by_spans || (cap > 0 && peak > cap)) {
            WEIR_TRY(place_by_conflicts(plan, instance, first, end - first, rounds, offsets, &peak,
                                        &bound));
        }
        if (peak > PLAN_LIMIT - result->peak) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE, "the peaks of all pools sum to more than 2^63 - 1");
        }
        WEIR_TRY(count_blocks(plan, instance, first, end, offsets, result));
        result->lower_bound += bound;
        result->peak += peak;
        first = end;
    }
    return WEIR_OK;
}

// The offset of a class; a root without bytes has none and lies at its fixed offset or at 0.
static uint64_t base_of(const weir_plan_problem* problem, const plan_instance* instance,
                        const uint64_t* offsets, uint32_t owner) {
    const uint32_t block = instance->class_of[owner];
    if (block != WEIR_PLAN_NONE) {
        return offsets[block];
    }
    const weir_plan_buffer* root = &problem->buffers[owner];
    return root->flags & WEIR_PLAN_FIXED ? root->fixed_offset : 0;
}

static void write_entries(const weir_plan_problem* problem, const plan_forest* forest,
                          const plan_instance* instance, const uint64_t* offsets, attempt* into) {
    const uint64_t cap = problem->block_bytes_max;
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        const weir_plan_buffer* buffer = &problem->buffers[i];
        const uint64_t base = base_of(problem, instance, offsets, forest->owner[i]);
        const bool cut = cap > 0 && instance->class_of[forest->owner[i]] != WEIR_PLAN_NONE;
        into->entries[i] =
            (weir_plan_entry){.byte_offset = (cut ? base % cap : base) + forest->within[i],
                              .byte_size = buffer->byte_size,
                              .pool = buffer->pool,
                              .block = cut ? (uint32_t)(base / cap) : 0,
                              .placed_on = forest->placed_on[i]};
        into->result.in_place += forest->placed_on[i] != WEIR_PLAN_NONE;
        into->result.total += buffer->flags & WEIR_PLAN_ALIAS ? 0 : buffer->byte_size;
    }
    into->result.optimal = into->result.peak == into->result.lower_bound;
    into->result.penalty = weir_plan_penalty_of(problem, into->entries);
}

// The placement of the best plan, softened: fewer penalties within what the capacity leaves.
static weir_status soften(planner* plan, const plan_instance* instance, uint64_t* offsets,
                          weir_plan_result* result) {
    const weir_plan_problem* problem = plan->problem;
    *result = plan->best.result;
    result->in_place = 0;
    result->total = 0;
    for (uint32_t c = 0; c < instance->class_count; ++c) {
        const weir_plan_entry* entry = &plan->best.entries[instance->classes[c].owner];
        offsets[c] = entry->byte_offset + entry->block * problem->block_bytes_max;
    }
    const uint64_t slack = problem->capacity > result->peak ? problem->capacity - result->peak : 0;
    plan->order.rounds = plan->soft_rounds;
    plan->order.peak = result->peak;
    plan->order.bound = result->lower_bound;
    return plan_soften(&plan->scratch, instance, problem, slack, &plan->order, offsets,
                       &result->peak);
}

static weir_status plan_wanted(planner* plan, uint64_t rounds, attempt* into) {
    const weir_plan_problem* problem = plan->problem;
    plan_forest forest;
    plan_instance instance;
    uint64_t* offsets = NULL;
    into->result = (weir_plan_result){0};
    WEIR_TRY(plan_forest_make(&plan->scratch, problem, &forest));
    // The order decides which of two pairs that exclude each other is taken.
    for (uint32_t i = 0; i < problem->in_place_count; ++i) {
        const uint32_t pair = plan->pairs[i];
        if (into->wanted[pair]) {
            into->wanted[pair] = plan_forest_merge(&forest, problem, &problem->in_place[pair]);
        }
    }
    WEIR_TRY(plan_instance_make(&plan->scratch, problem, &forest, &instance));
    WEIR_TRY(scratch_take(&plan->scratch, &offsets, instance.class_count));
    if (plan->softly) {
        WEIR_TRY(soften(plan, &instance, offsets, &into->result));
    } else {
        WEIR_TRY(place_pools(plan, &instance, rounds, offsets, &into->result));
    }
    write_entries(problem, &forest, &instance, offsets, into);
    return WEIR_OK;
}

// Makes the plan of the trial's wanted pairs. One that cannot be placed is no error here: it has
// the worst of all peaks.
static weir_status try_plan(planner* plan, uint64_t rounds) {
    scratch_block* mark = plan->scratch.last;
    const weir_status status = plan_wanted(plan, rounds, &plan->trial);
    plan_scratch_release(&plan->scratch, mark);
    if (status == WEIR_INFEASIBLE || status == WEIR_OUT_OF_RANGE) {
        plan->trial.result = (weir_plan_result){.peak = UINT64_MAX};
        plan->refusal = status;
        return WEIR_OK;
    }
    return status;
}

// Keeps the trial when it needs fewer bytes, or as many with as many buffers in place.
static bool keep_trial(planner* plan) {
    const weir_plan_result* trial = &plan->trial.result;
    const weir_plan_result* best = &plan->best.result;
    if (trial->peak > best->peak ||
        (trial->peak == best->peak && trial->in_place < best->in_place)) {
        return false;
    }
    const attempt kept = plan->trial;
    plan->trial = plan->best;
    plan->best = kept;
    return true;
}

// The next trial starts from what the best plan takes.
static void copy_wanted(const planner* plan) {
    if (plan->problem->in_place_count > 0) {
        memcpy(plan->trial.wanted, plan->best.wanted,
               plan->problem->in_place_count * sizeof *plan->trial.wanted);
    }
}

// Adds pairs [first, end) of the order to the best plan: all at once, or else by halves.
static weir_status add_pairs(planner* plan, uint32_t first, uint32_t end) {
    if (first == end || plan->attempts_left == 0 || !plan_budget_in_time(&plan->order)) {
        return WEIR_OK;
    }
    --plan->attempts_left;
    copy_wanted(plan);
    for (uint32_t i = first; i < end; ++i) {
        plan->trial.wanted[plan->pairs[i]] = true;
    }
    WEIR_TRY(try_plan(plan, 0));
    if (keep_trial(plan) || end - first == 1) {
        return WEIR_OK;
    }
    const uint32_t middle = first + (end - first) / 2;
    WEIR_TRY(add_pairs(plan, first, middle));
    return add_pairs(plan, middle, end);
}

static bool has_one_size(const weir_plan_problem* problem, const weir_plan_in_place* pair) {
    return problem->buffers[pair->buffer].byte_size == problem->buffers[pair->on].byte_size;
}

// Pairs of one size first: they never lengthen the life of a byte. Returns how many there are.
static uint32_t order_pairs(planner* plan) {
    const weir_plan_problem* problem = plan->problem;
    uint32_t count = 0;
    for (uint32_t i = 0; i < problem->in_place_count; ++i) {
        if (has_one_size(problem, &problem->in_place[i])) {
            plan->pairs[count++] = i;
        }
    }
    const uint32_t same_size = count;
    for (uint32_t i = 0; i < problem->in_place_count; ++i) {
        if (!has_one_size(problem, &problem->in_place[i])) {
            plan->pairs[count++] = i;
        }
    }
    return same_size;
}

static weir_status take_attempt(planner* plan, attempt* taken) {
    WEIR_TRY(scratch_take(&plan->scratch, &taken->wanted, plan->problem->in_place_count));
    return scratch_take(&plan->scratch, &taken->entries, plan->problem->buffer_count);
}

static weir_status refuse(planner* plan) {
    const weir_plan_problem* problem = plan->problem;
    if (plan->best.result.peak == UINT64_MAX) {
        return plan->refusal; // with the message of the last attempt
    }
    if (problem->capacity > 0 && plan->best.result.peak > problem->capacity) {
        // The bound of a plan holds for its classes, and of others says nothing.
        uint64_t bound = plan->best.result.lower_bound;
        if (!plan_classes_are_exact(problem)) {
            WEIR_TRY(plan_bound_best_case(&plan->scratch, problem, &bound));
        }
        const bool proven = bound > problem->capacity;
        return WEIR_FAIL(proven ? WEIR_INFEASIBLE : WEIR_TIMEOUT,
                         "%u buffers: the best plan found needs %llu bytes, expected at most %llu; "
                         "no plan needs less than %llu",
                         problem->buffer_count, (unsigned long long)plan->best.result.peak,
                         (unsigned long long)problem->capacity, (unsigned long long)bound);
    }
    return WEIR_OK;
}

// Searches with the pairs found best, and without any: what list orders judged must hold for the
// final plans.
static weir_status refine(planner* plan, uint64_t rounds, uint64_t bound_alone) {
    const bool search = rounds > 0 || plan->exact.work > 0;
    plan->exactly = plan->exact.work > 0;
    if (search && !plan->best.result.optimal) {
        copy_wanted(plan);
        WEIR_TRY(try_plan(plan, rounds));
        keep_trial(plan);
    }
    // Below its own bound the plan without pairs cannot come either.
    if (search && plan->best.result.in_place > 0 && bound_alone < plan->best.result.peak) {
        memset(plan->trial.wanted, 0, plan->problem->in_place_count * sizeof *plan->trial.wanted);
        WEIR_TRY(try_plan(plan, rounds));
        keep_trial(plan);
    }
    return WEIR_OK;
}

static uint32_t merge_attempts(uint32_t buffer_count) {
    if (buffer_count <= MERGE_BUFFERS) {
        return MERGE_ATTEMPTS;
    }
    const uint32_t fewer = MERGE_ATTEMPTS * MERGE_BUFFERS / buffer_count;
    return fewer > 8 ? fewer : 8;
}

// Lessens the penalty of the best plan, where it has one.
static weir_status lessen_penalty(planner* plan) {
    const weir_plan_problem* problem = plan->problem;
    const weir_plan_result* best = &plan->best.result;
    if (best->peak == UINT64_MAX || best->penalty == 0) {
        return WEIR_OK;
    }
    plan->softly = true;
    plan->soft_rounds = problem->iterations > 0 ? problem->iterations : DEFAULT_SOFT_ROUNDS;
    if (problem->effort == WEIR_PLAN_PLACE) {
        plan->soft_rounds = 0;
    }
    copy_wanted(plan);
    WEIR_TRY(try_plan(plan, 0));
    if (plan->trial.result.penalty < best->penalty) {
        const attempt kept = plan->trial;
        plan->trial = plan->best;
        plan->best = kept;
    }
    return WEIR_OK;
}

// Plans with all pairs of one size at once, and then starts again from none.
static weir_status try_all_pairs(planner* plan, uint32_t same_size) {
    for (uint32_t i = 0; i < same_size; ++i) {
        plan->trial.wanted[plan->pairs[i]] = true;
    }
    WEIR_TRY(try_plan(plan, 0));
    keep_trial(plan);
    memset(plan->trial.wanted, 0, plan->problem->in_place_count * sizeof *plan->trial.wanted);
    return WEIR_OK;
}

static bool is_enough(const planner* plan) {
    const uint64_t peak = plan->best.result.peak;
    const uint64_t capacity = plan->problem->capacity;
    return peak <= plan->problem->enough && (capacity == 0 || peak <= capacity);
}

static weir_status run(planner* plan) {
    const weir_plan_problem* problem = plan->problem;
    WEIR_TRY(plan_check(&plan->scratch, problem));
    WEIR_TRY(take_attempt(plan, &plan->best));
    WEIR_TRY(take_attempt(plan, &plan->trial));
    WEIR_TRY(scratch_take(&plan->scratch, &plan->pairs, problem->in_place_count));
    plan->intervals = plan_budget_of(problem);
    const uint64_t rounds = problem->precedes ? order_rounds(problem) : plan->intervals.rounds;
    plan->order = (plan_budget){.deadline_ns = plan_deadline_of(problem->time_limit_ns),
                                .progress = problem->progress,
                                .progress_context = problem->progress_context};
    const uint32_t same_size = order_pairs(plan);
    plan->exact = plan_exact_budget_of(problem);
    plan->exactly = plan->exact.work > 0 && problem->in_place_count == 0;
    plan->best.result.peak = UINT64_MAX;
    const bool all_first = problem->enough > 0 && same_size > 0;
    if (all_first) {
        WEIR_TRY(try_all_pairs(plan, same_size));
        if (is_enough(plan)) {
            WEIR_TRY(lessen_penalty(plan));
            return refuse(plan);
        }
    }
    // With pairs to choose from, the search waits until they are chosen.
    WEIR_TRY(try_plan(plan, problem->in_place_count > 0 ? 0 : rounds));
    const uint64_t bound_alone = plan->trial.result.lower_bound;
    const bool none_is_better = keep_trial(plan);
    if (problem->in_place_count > 0) {
        plan->attempts_left = merge_attempts(problem->buffer_count);
        if (!all_first || none_is_better) { // else all of one size are in already
            WEIR_TRY(add_pairs(plan, 0, same_size));
        }
        WEIR_TRY(add_pairs(plan, same_size, problem->in_place_count));
        WEIR_TRY(refine(plan, rounds, bound_alone));
    }
    WEIR_TRY(lessen_penalty(plan));
    return refuse(plan);
}

weir_status weir_plan_create(const weir_allocator* allocator, const weir_plan_problem* problem,
                             weir_plan** plan) {
    planner work = {.problem = problem};
    if (allocator) {
        work.scratch.allocator = *allocator;
    }
    weir_status status = run(&work);
    if (status == WEIR_OK) {
        status = plan_make(&work.scratch.allocator, work.best.entries, problem->buffer_count,
                           &work.best.result, plan);
    }
    plan_scratch_release(&work.scratch, NULL);
    return status;
}
