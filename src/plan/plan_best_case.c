#include "plan/plan_internal.h"

// A bound for every choice of in-place pairs at once, and for aliases that need not be one block
// with their root. What is placed in place lies inside a root that it conflicts with, so while any
// of that root's memory lives it may need no byte of its own: that part of its life is left out. An
// alias counts only while neither its root nor an earlier alias of that lives. What is then left
// shares no byte while it lives together.

#define LIVES_MAX ((size_t)1 << 24)
#define WORK_MAX ((uint64_t)1 << 28) // looks at a pair

typedef struct best_case {
    const weir_plan_problem* problem;
    const plan_forest* forest; // nothing placed on anything
    weir_plan_buffer* buffers;
    weir_plan_interval* intervals;
    uint32_t interval_count;
} best_case;

static weir_plan_interval life_of(const weir_plan_problem* problem, uint32_t buffer,
                                  uint32_t index) {
    const weir_plan_buffer* live = &problem->buffers[buffer];
    return live->interval_count == 0 ? (weir_plan_interval){INT64_MIN, INT64_MAX}
                                     : problem->intervals[live->interval_begin + index];
}

static uint32_t life_count(const weir_plan_problem* problem, uint32_t buffer) {
    const uint32_t count = problem->buffers[buffer].interval_count;
    return count > 0 ? count : 1;
}

// Takes one interval out of a list of intervals; each that it divides becomes two.
static uint32_t cut_out(weir_plan_interval* lives, uint32_t count, weir_plan_interval gone) {
    const uint32_t before = count;
    for (uint32_t i = 0; i < before; ++i) {
        const weir_plan_interval life = lives[i];
        if (gone.begin >= gone.end || life.end <= gone.begin || gone.end <= life.begin) {
            continue;
        }
        lives[i] = (weir_plan_interval){life.begin, gone.begin};
        if (life.begin >= gone.begin) {
            lives[i] = (weir_plan_interval){gone.end, life.end};
        } else if (life.end > gone.end) {
            lives[count++] = (weir_plan_interval){gone.end, life.end};
        }
    }
    return count;
}

// Takes the lives of a root and its aliases out of the copied life of a buffer.
static uint32_t cut_class(const best_case* best, uint32_t member, weir_plan_interval* lives,
                          uint32_t count) {
    const uint32_t first = member;
    do {
        for (uint32_t i = 0; i < life_count(best->problem, member); ++i) {
            count = cut_out(lives, count, life_of(best->problem, member, i));
        }
        member = best->forest->next[member];
    } while (member != first);
    return count;
}

// Takes what counts before an alias out of its copied life: the root, and aliases that come first.
static uint32_t cut_family(const best_case* best, uint32_t alias, weir_plan_interval* lives,
                           uint32_t count) {
    const weir_plan_problem* problem = best->problem;
    const uint32_t root = best->forest->owner[alias];
    for (uint32_t member = best->forest->next[alias]; member != alias;
         member = best->forest->next[member]) {
        for (uint32_t i = 0;
             i < life_count(problem, member) &&
             (member == root || (member < alias && problem->buffers[member].byte_size > 0));
             ++i) {
            count = cut_out(lives, count, life_of(problem, member, i));
        }
    }
    return count;
}

// Copies the life of a buffer without the times at which memory that it, or the root that it is a
// part of, may be placed on lives.
static void copy_life(best_case* best, uint32_t buffer) {
    const weir_plan_problem* problem = best->problem;
    const uint32_t* owner = best->forest->owner;
    weir_plan_interval* lives = best->intervals + best->interval_count;
    uint32_t count = life_count(problem, buffer);
    for (uint32_t i = 0; i < count; ++i) {
        lives[i] = life_of(problem, buffer, i);
    }
    if (owner[buffer] != buffer) {
        count = cut_family(best, buffer, lives, count);
    }
    for (uint32_t p = 0; p < problem->in_place_count; ++p) {
        const weir_plan_in_place* pair = &problem->in_place[p];
        if (owner[pair->buffer] == owner[buffer] && owner[pair->on] != owner[buffer]) {
            count = cut_class(best, pair->on, lives, count);
        }
    }
    best->buffers[buffer].interval_begin = best->interval_count;
    best->buffers[buffer].interval_count = count;
    best->interval_count += count;
}

static size_t class_lives(const best_case* best, uint32_t member) {
    const uint32_t first = member;
    size_t count = 0;
    do {
        count += life_count(best->problem, member);
        member = best->forest->next[member];
    } while (member != first);
    return count;
}

// How many intervals the copies have at most: one that is taken out divides each that a buffer had
// in the beginning once.
static size_t count_lives(const best_case* best) {
    const weir_plan_problem* problem = best->problem;
    size_t most = 0;
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        const bool is_root = best->forest->owner[i] == i;
        most += life_count(problem, i) * (is_root ? 1 : 1 + class_lives(best, i));
    }
    for (uint32_t p = 0; p < problem->in_place_count; ++p) {
        const size_t upper = class_lives(best, problem->in_place[p].buffer);
        most += upper * class_lives(best, problem->in_place[p].on);
    }
    return most;
}

// In a partial order there is no time to take out: aliases, and what may be placed in place, count
// for nothing.
static void drop_bytes(best_case* best) {
    const weir_plan_problem* problem = best->problem;
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        best->buffers[i].byte_size = best->forest->owner[i] == i ? best->buffers[i].byte_size : 0;
    }
    for (uint32_t p = 0; p < problem->in_place_count; ++p) {
        const uint32_t first = problem->in_place[p].buffer;
        uint32_t member = first;
        do {
            best->buffers[member].byte_size = 0;
            member = best->forest->next[member];
        } while (member != first);
    }
}

static weir_status sum_bounds(plan_scratch* scratch, const weir_plan_problem* problem,
                              uint64_t* bound) {
    plan_forest forest;
    plan_instance instance;
    WEIR_TRY(plan_forest_make(scratch, problem, &forest));
    WEIR_TRY(plan_instance_make(scratch, problem, &forest, &instance));
    *bound = 0;
    for (uint32_t first = 0; first < instance.class_count;) {
        uint32_t end = first + 1;
        while (end < instance.class_count &&
               instance.classes[end].pool == instance.classes[first].pool) {
            ++end;
        }
        uint64_t bytes = 0;
        WEIR_TRY(problem->block_bytes_max > 0
                     ? plan_bound_split(scratch, &instance, first, end - first, &bytes)
                     : plan_bound(scratch, &instance, first, end - first, &bytes));
        *bound += bytes;
        first = end;
    }
    return WEIR_OK;
}

weir_status plan_bound_best_case(plan_scratch* scratch, const weir_plan_problem* problem,
                                 uint64_t* bound) {
    plan_forest forest;
    best_case best = {.problem = problem, .forest = &forest};
    *bound = 0;
    WEIR_TRY(plan_forest_make(scratch, problem, &forest));
    const size_t most = problem->precedes ? 0 : count_lives(&best);
    if (most > LIVES_MAX || (uint64_t)problem->buffer_count * problem->in_place_count > WORK_MAX) {
        return WEIR_OK; // not worth it
    }
    WEIR_TRY(scratch_take(scratch, &best.buffers, problem->buffer_count));
    WEIR_TRY(scratch_take(scratch, &best.intervals, most));
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        best.buffers[i] = problem->buffers[i];
        if (forest.owner[i] != i) {
            best.buffers[i].flags &= ~(uint32_t)WEIR_PLAN_ALIAS;
            best.buffers[i].alignment = plan_own_alignment(problem, i);
        }
        if (!problem->precedes) {
            copy_life(&best, i);
        }
    }
    if (problem->precedes) {
        drop_bytes(&best);
    }
    weir_plan_problem copy = *problem;
    copy.buffers = best.buffers;
    copy.intervals = best.intervals;
    copy.interval_count = best.interval_count;
    copy.in_place_count = 0;
    return sum_bounds(scratch, &copy, bound);
}

// Whether every interval of an alias lies within one of its root.
static bool lives_within(const weir_plan_problem* problem, uint32_t alias, uint32_t root) {
    for (uint32_t i = 0; i < life_count(problem, alias); ++i) {
        const weir_plan_interval life = life_of(problem, alias, i);
        bool is_inside = life.begin >= life.end;
        for (uint32_t k = 0; k < life_count(problem, root) && !is_inside; ++k) {
            const weir_plan_interval outer = life_of(problem, root, k);
            is_inside = outer.begin <= life.begin && life.end <= outer.end;
        }
        if (!is_inside) {
            return false;
        }
    }
    return true;
}

bool plan_classes_are_exact(const weir_plan_problem* problem) {
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        const weir_plan_buffer* alias = &problem->buffers[i];
        if ((alias->flags & WEIR_PLAN_ALIAS) && alias->byte_size > 0 &&
            alias->byte_size < problem->buffers[alias->alias_of].byte_size &&
            (problem->precedes || !lives_within(problem, i, alias->alias_of))) {
            return false;
        }
    }
    return problem->in_place_count == 0;
}
