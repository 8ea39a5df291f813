// The order of a schedule: groups at the depth of the data flow, few live bytes, budgets, and the
// curve between bytes and waits.
#include "schedule_testing.h"

#include <weir/device.h>
#include <weir/explain.h>

#include "random_graph.h"
#include "schedule/order.h"
#include "testing_allocator.h"

#define SMALL 9 // dispatches of nets that are searched completely
#define POINTS 16

static weir_target target_of(const char* name) {
    weir_target target;
    assert_ok(weir_target_find(name, &target));
    return target;
}

// A net of `count` dispatches, each of which makes one buffer from up to two others.
typedef struct small_net {
    order_net net;
    plan_scratch scratch;
    uint32_t begins[5][SMALL + 2];
    uint32_t items[5][3 * SMALL];
    uint64_t bytes[SMALL];
} small_net;

static order_lists lists_of(small_net* small, uint32_t kind) {
    return (order_lists){.begins = small->begins[kind], .items = small->items[kind]};
}

// before, after, uses, touched, pairs: by scanning one relation, reads[from][to].
static void fill_net(small_net* small, uint32_t count, bool reads[SMALL][SMALL],
                     bool pairs[SMALL][SMALL]) {
    for (uint32_t i = 0; i < count; i++) {
        uint32_t ends[5];
        for (uint32_t kind = 0; kind < 5; kind++) {
            ends[kind] = small->begins[kind][i];
        }
        small->items[2][ends[2]++] = i; // buffer i is made by dispatch i
        for (uint32_t j = 0; j < count; j++) {
            if (reads[j][i]) {
                small->items[0][ends[0]++] = j;
                small->items[3][ends[3]++] = j;
            }
            if (reads[i][j]) {
                small->items[1][ends[1]++] = j;
                small->items[2][ends[2]++] = j;
            }
            if (pairs[j][i]) {
                small->items[4][ends[4]++] = j;
            }
        }
        small->items[3][ends[3]++] = i;
        for (uint32_t kind = 0; kind < 5; kind++) {
            small->begins[kind][i + 1] = ends[kind];
        }
    }
    small->net = (order_net){.dispatch_count = count,
                             .buffer_count = count,
                             .bytes = small->bytes,
                             .before = lists_of(small, 0),
                             .after = lists_of(small, 1),
                             .uses = lists_of(small, 2),
                             .touched = lists_of(small, 3),
                             .pairs = lists_of(small, 4)};
}

static void random_net(small_net* small, test_random* random) {
    const uint32_t count = 4 + (uint32_t)random_below(random, SMALL - 3);
    bool reads[SMALL][SMALL] = {0};
    bool pairs[SMALL][SMALL] = {0};
    memset(small, 0, sizeof *small);
    for (uint32_t i = 0; i < count; i++) {
        small->bytes[i] = 1 + random_below(random, 4);
        for (uint32_t k = 0; k < 2 && i > 0; k++) {
            const uint32_t from = (uint32_t)random_below(random, i);
            if (random_below(random, 3) > 0) {
                reads[from][i] = true;
                pairs[from][i] = small->bytes[from] == small->bytes[i] && from % 2 == 0;
            }
        }
    }
    fill_net(small, count, reads, pairs);
}

// Live bytes from the definition, group by group.
static uint64_t peak_of(const order_net* net, const uint32_t* groups, uint32_t group_count) {
    uint64_t peak = 0;
    for (uint32_t g = 0; g < group_count; g++) {
        uint64_t live = 0;
        for (uint32_t b = 0; b < net->buffer_count; b++) {
            bool before = false;
            bool after = false;
            for (uint32_t u = net->uses.begins[b]; u < net->uses.begins[b + 1]; u++) {
                before |= groups[net->uses.items[u]] <= g;
                after |= groups[net->uses.items[u]] >= g;
            }
            live += before && after ? net->bytes[b] : 0;
        }
        for (uint32_t d = 0; d < net->dispatch_count; d++) {
            bool saves = false;
            for (uint32_t p = net->pairs.begins[d]; p < net->pairs.begins[d + 1]; p++) {
                const uint32_t b = net->pairs.items[p];
                bool alone = true;
                for (uint32_t u = net->uses.begins[b]; u < net->uses.begins[b + 1]; u++) {
                    alone &= net->uses.items[u] == d || groups[net->uses.items[u]] < g;
                }
                saves |= alone;
            }
            live -= groups[d] == g && saves ? net->bytes[d] : 0;
        }
        peak = live > peak ? live : peak;
    }
    return peak;
}

static bool follows_flow(const order_net* net, const uint32_t* groups) {
    for (uint32_t d = 0; d < net->dispatch_count; d++) {
        for (uint32_t e = net->before.begins[d]; e < net->before.begins[d + 1]; e++) {
            if (groups[net->before.items[e]] >= groups[d]) {
                return false;
            }
        }
    }
    return true;
}

static uint32_t depth_of(const order_net* net) {
    uint32_t levels[SMALL] = {0};
    uint32_t depth = 0;
    for (uint32_t d = 0; d < net->dispatch_count; d++) {
        for (uint32_t e = net->before.begins[d]; e < net->before.begins[d + 1]; e++) {
            const uint32_t behind = levels[net->before.items[e]] + 1;
            levels[d] = behind > levels[d] ? behind : levels[d];
        }
        depth = levels[d] > depth ? levels[d] : depth;
    }
    return depth;
}

// The lowest peak of all assignments to `group_count` groups, one dispatch after another.
static uint64_t lowest_peak(const order_net* net, uint32_t group_count, bool alone,
                            uint32_t* groups, uint32_t next) {
    if (next == net->dispatch_count) {
        return peak_of(net, groups, group_count);
    }
    uint64_t lowest = UINT64_MAX;
    for (uint32_t g = 0; g < group_count; g++) {
        bool allowed = true;
        for (uint32_t e = net->before.begins[next]; e < net->before.begins[next + 1]; e++) {
            allowed &= groups[net->before.items[e]] < g;
        }
        for (uint32_t d = 0; alone && d < next; d++) {
            allowed &= groups[d] != g;
        }
        if (allowed) {
            groups[next] = g;
            const uint64_t found = lowest_peak(net, group_count, alone, groups, next + 1);
            lowest = found < lowest ? found : lowest;
        }
    }
    return lowest;
}

// How often a search that is allowed to miss found the lowest peak.
static void assert_mostly(uint32_t found, uint32_t cases) {
    assert_true(found <= cases);
    assert_true(100 * found >= 97 * cases);
}

static void groups_at_the_depth_have_nearly_always_the_lowest_peak(void** state) {
    (void)state;
    test_random random = {3};
    static small_net small;
    uint32_t found = 0;
    for (int i = 0; i < 400; i++) {
        uint32_t groups[SMALL];
        uint32_t tried[SMALL];
        random_net(&small, &random);
        const uint32_t group_count = depth_of(&small.net) + 1;
        assert_ok(order_by_depth(&small.scratch, &small.net, groups));
        assert_true(follows_flow(&small.net, groups));
        for (uint32_t d = 0; d < small.net.dispatch_count; d++) {
            assert_true(groups[d] < group_count);
        }
        const uint64_t lowest = lowest_peak(&small.net, group_count, false, tried, 0);
        const uint64_t peak = peak_of(&small.net, groups, group_count);
        assert_true(peak >= lowest);
        found += peak == lowest;
    }
    assert_mostly(found, 400);
}

static void orders_by_bytes_have_nearly_always_the_lowest_peak(void** state) {
    (void)state;
    test_random random = {5};
    static small_net small;
    uint32_t found = 0;
    for (int i = 0; i < 100; i++) {
        uint32_t groups[SMALL];
        uint32_t tried[SMALL];
        random_net(&small, &random);
        while (small.net.dispatch_count > 7) {
            random_net(&small, &random);
        }
        const uint32_t count = small.net.dispatch_count;
        assert_ok(order_by_bytes(&small.scratch, &small.net, 0, groups));
        assert_true(follows_flow(&small.net, groups));
        const uint64_t lowest = lowest_peak(&small.net, count, true, tried, 0);
        const uint64_t peak = peak_of(&small.net, groups, count);
        assert_true(peak >= lowest);
        found += peak == lowest;
        const uint64_t cap = lowest + 2;
        assert_ok(order_by_bytes(&small.scratch, &small.net, cap, groups));
        assert_true(follows_flow(&small.net, groups));
        assert_true(peak_of(&small.net, groups, count) <= (cap > peak ? cap : peak));
    }
    assert_mostly(found, 100);
}

static void live_bytes_follow_every_move(void** state) {
    (void)state;
    test_random random = {7};
    static small_net small;
    for (int i = 0; i < 300; i++) {
        order_live live;
        random_net(&small, &random);
        const uint32_t count = small.net.dispatch_count;
        assert_ok(order_live_make(&small.scratch, &small.net, SMALL, &live));
        for (uint32_t d = 0; d < count; d++) {
            live.groups[d] = d;
        }
        order_live_fill(&live);
        for (int move = 0; move < 20; move++) {
            order_live_move(&live, (uint32_t)random_below(&random, count),
                            (uint32_t)random_below(&random, SMALL));
            // Lives are spans: what the definition counts from first use to last.
            assert_int_equal(order_live_score(&live).peak, peak_of(&small.net, live.groups, SMALL));
        }
        plan_scratch_release(&small.scratch, NULL);
    }
}

static void groups_are_runs_of_dispatches(void** state) {
    (void)state;
    test_random random = {11};
    const weir_target target = target_of("barriers");
    for (int i = 0; i < 40; i++) {
        random_graph made = random_graph_make(&random, 30);
        weir_schedule* schedule = schedule_with(
            made.graph, &target, (weir_schedule_options){.order = (weir_order)((uint32_t)i % 3)});
        uint32_t next = 0;
        assert_int_equal(weir_schedule_groups(schedule), schedule->report.waits + 1);
        for (uint32_t g = 0; g < weir_schedule_groups(schedule); g++) {
            uint32_t begin = 0;
            uint32_t end = 0;
            assert_ok(weir_schedule_group(schedule, g, &begin, &end));
            assert_int_equal(begin, next);
            assert_true(end > begin);
            for (uint32_t d = begin; d < end; d++) {
                assert_int_equal(info_of(schedule, d).group, g);
            }
            next = end;
        }
        assert_int_equal(next, schedule->report.dispatches);
        assert_status(weir_schedule_group(schedule, weir_schedule_groups(schedule), &next, &next),
                      WEIR_NOT_FOUND);
        weir_schedule_destroy(schedule);
        weir_graph_destroy(made.graph);
    }
}

static void edges_make_no_groups(void** state) {
    const fixture* f = *state;
    uint32_t begin = 0;
    uint32_t end = 0;
    matmul(f, matmul(f, f->x));
    weir_schedule* schedule = schedule_of(f);
    assert_int_equal(weir_schedule_groups(schedule), 0);
    assert_status(weir_schedule_group(schedule, 0, &begin, &end), WEIR_NOT_FOUND);
    weir_schedule_destroy(schedule);
}

// A wide value that is needed late is made late: its producer has slack.
static void what_is_needed_late_is_made_late(void** state) {
    const fixture* f = *state;
    const weir_target target = target_of("barriers");
    const weir_value late = matmul(f, f->z);
    add(f, norm(f, matmul(f, norm(f, matmul(f, norm(f, matmul(f, f->x)))))), late);
    weir_schedule* early = schedule_with(
        f->graph, &target,
        (weir_schedule_options){.order = WEIR_ORDER_GIVEN, .without_fusions = WEIR_FUSION_ALL});
    weir_schedule* schedule = schedule_with(
        f->graph, &target, (weir_schedule_options){.without_fusions = WEIR_FUSION_ALL});
    assert_int_equal(schedule->report.waits, schedule->report.depth);
    assert_int_equal(schedule->report.arena_bytes, 2 * 512);
    assert_int_equal(early->report.arena_bytes, 3 * 512);
    weir_schedule_destroy(early);
    weir_schedule_destroy(schedule);
}

// In the order of the graph a boundary stands where a dispatch needs the open group, and the second
// branch is not overlapped with the first.
static void the_given_order_keeps_the_order_of_the_graph(void** state) {
    const fixture* f = *state;
    const weir_target target = target_of("barriers");
    matmul(f, matmul(f, f->x));
    matmul(f, matmul(f, f->z));
    weir_schedule* given =
        schedule_with(f->graph, &target, (weir_schedule_options){.order = WEIR_ORDER_GIVEN});
    weir_schedule* waits = schedule_with(f->graph, &target, (weir_schedule_options){0});
    const uint32_t groups[] = {0, 1, 1, 2};
    for (uint32_t d = 0; d < 4; d++) {
        assert_int_equal(given->dispatches.items[d].given, d);
        assert_int_equal(info_of(given, d).group, groups[d]);
    }
    assert_int_equal(given->report.waits, 2);
    assert_int_equal(waits->report.waits, 1);
    assert_int_equal(given->report.depth, 1);
    weir_schedule_destroy(given);
    weir_schedule_destroy(waits);
}

static void orders_by_waits_have_the_depth_and_no_more_bytes_than_the_earliest(void** state) {
    (void)state;
    test_random random = {13};
    uint32_t fewer = 0;
    const weir_target target = target_of("barriers");
    const weir_schedule_options options = {0};
    for (int i = 0; i < 100; i++) {
        random_graph made = random_graph_make(&random, 40);
        weir_schedule* early = NULL;
        weir_schedule* schedule = schedule_with(made.graph, &target, options);
        assert_ok(
            weir_schedule_build(NULL, made.graph, &target, &options, SCHEDULE_EARLY, 0, &early));
        assert_int_equal(schedule->report.waits, schedule->report.depth);
        assert_int_equal(schedule->report.residual_edges, 0);
        assert_true(schedule->report.bound_bytes <= early->report.arena_bytes);
        fewer += schedule->report.arena_bytes < early->report.arena_bytes;
        weir_schedule_destroy(early);
        weir_schedule_destroy(schedule);
        weir_graph_destroy(made.graph);
    }
    assert_true(fewer > 50);
}

typedef struct needs {
    const weir_schedule* schedule;
    uint32_t only[256]; // per boundary
    uint32_t visited, last;
} needs;

static weir_status note_need(void* context, const weir_wait_need* need) {
    needs* noted = context;
    const uint32_t earlier = info_of(noted->schedule, need->earlier).group;
    assert_true(need->boundary >= noted->last && need->boundary < 256);
    assert_int_equal(need->boundary, info_of(noted->schedule, need->later).group);
    assert_true(earlier < need->boundary);
    assert_int_equal(need->only, earlier + 1 == need->boundary);
    assert_true(weir_range_overlaps(&need->reason.earlier_range, &need->reason.later_range));
    noted->only[need->boundary] += need->only;
    noted->last = need->boundary;
    noted->visited++;
    return WEIR_OK;
}

static void every_boundary_is_needed_by_a_hazard_of_its_own(void** state) {
    (void)state;
    test_random random = {17};
    const weir_target target = target_of("barriers");
    for (int i = 0; i < 60; i++) {
        random_graph made = random_graph_make(&random, 40);
        weir_schedule* schedule = schedule_with(
            made.graph, &target,
            (weir_schedule_options){.order = i % 2 ? WEIR_ORDER_WAITS : WEIR_ORDER_BYTES});
        needs noted = {.schedule = schedule};
        assert_ok(weir_boundary_visit(schedule, note_need, &noted));
        for (uint32_t b = 1; b < weir_schedule_groups(schedule); b++) {
            assert_true(noted.only[b] > 0);
        }
        weir_schedule_destroy(schedule);
        weir_graph_destroy(made.graph);
    }
}

static void any_boundary_taken_out_is_found_by_the_check(void** state) {
    (void)state;
    test_random random = {19};
    const weir_target target = target_of("barriers");
    uint32_t removed = 0;
    for (int i = 0; i < 40; i++) {
        random_graph made = random_graph_make(&random, 30);
        weir_schedule* schedule = schedule_with(
            made.graph, &target,
            (weir_schedule_options){.order = i % 2 ? WEIR_ORDER_WAITS : WEIR_ORDER_BYTES});
        for (uint32_t boundary = 1; boundary < weir_schedule_groups(schedule); boundary++) {
            const uint32_t begin = remove_boundary(schedule, boundary);
            assert_status(weir_schedule_check_pairs(schedule), WEIR_INTERNAL);
            restore_boundary(schedule, begin);
            removed++;
        }
        assert_ok(weir_schedule_check(schedule));
        weir_schedule_destroy(schedule);
        weir_graph_destroy(made.graph);
    }
    assert_true(removed > 200);
}

// Two branches of two steps each whose results are needed together: side by side they need more.
static void two_branches(const fixture* f) {
    const weir_value a = matmul(f, norm(f, matmul(f, matmul(f, f->x))));
    const weir_value b = matmul(f, norm(f, matmul(f, matmul(f, f->z))));
    assert_ok(weir_graph_output(f->graph, a));
    assert_ok(weir_graph_output(f->graph, b));
}

static void an_order_by_bytes_takes_fewer_and_waits_more(void** state) {
    const fixture* f = *state;
    two_branches(f);
    const char* const names[] = {"cpu", "barriers"};
    for (int i = 0; i < 2; i++) {
        const weir_target target = target_of(names[i]);
        weir_schedule* waits = schedule_with(f->graph, &target, (weir_schedule_options){0});
        weir_schedule* bytes =
            schedule_with(f->graph, &target, (weir_schedule_options){.order = WEIR_ORDER_BYTES});
        assert_int_equal(waits->report.arena_bytes, 4 * 512);
        assert_int_equal(waits->report.waits, 3);
        assert_int_equal(bytes->report.arena_bytes, 2 * 512);
        assert_true(bytes->report.waits > 3);
        assert_true(bytes->report.residual_edges > 0);
        assert_int_equal(bytes->report.depth, 3);
        weir_schedule_destroy(waits);
        weir_schedule_destroy(bytes);
    }
}

static weir_status count_reuse(void* context, const weir_wait_need* need) {
    uint32_t* counts = context; // per earlier dispatch
    assert_true(need->reason.reuse && need->earlier < need->later && need->earlier < 128);
    assert_true(weir_range_overlaps(&need->reason.earlier_range, &need->reason.later_range));
    counts[need->earlier]++;
    return WEIR_OK;
}

static void check_residual(const weir_schedule* schedule) {
    uint32_t counts[128] = {0};
    uint32_t named = 0;
    assert_ok(weir_residual_visit(schedule, count_reuse, counts));
    for (size_t i = 0; i < schedule->residual.count; i++) {
        named += counts[schedule->residual.items[i].from] > 0;
    }
    assert_int_equal(named, schedule->report.residual_edges);
}

static void what_reuse_costs_is_counted_and_named(void** state) {
    (void)state;
    test_random random = {23};
    uint32_t residual = 0;
    const char* const names[] = {"cpu", "barriers"};
    for (int i = 0; i < 60; i++) {
        random_graph made = random_graph_make(&random, 40);
        const weir_target target = target_of(names[i % 2]);
        weir_schedule* schedule =
            schedule_with(made.graph, &target, (weir_schedule_options){.order = WEIR_ORDER_BYTES});
        assert_true(schedule->report.waits >= schedule->report.depth);
        check_residual(schedule);
        residual += schedule->report.residual_edges;
        weir_schedule_destroy(schedule);
        weir_graph_destroy(made.graph);
    }
    assert_true(residual > 100);
}

static void a_budget_is_kept_and_costs_only_what_it_must(void** state) {
    (void)state;
    test_random random = {29};
    const char* const names[] = {"cpu", "barriers"};
    uint32_t forced = 0;
    for (int i = 0; i < 40; i++) {
        random_graph made = random_graph_make(&random, 30);
        const weir_target target = target_of(names[i % 2]);
        weir_schedule* most = schedule_with(made.graph, &target, (weir_schedule_options){0});
        weir_schedule* least =
            schedule_with(made.graph, &target, (weir_schedule_options){.order = WEIR_ORDER_BYTES});
        const uint64_t high = most->report.arena_bytes;
        const uint64_t low = least->report.arena_bytes;
        assert_true(low <= high);
        const uint64_t budgets[] = {high + 1, high, low + (high - low) / 2, low};
        for (int k = 0; k < 4; k++) {
            weir_schedule* schedule = schedule_with(
                made.graph, &target, (weir_schedule_options){.byte_budget = budgets[k]});
            assert_true(schedule->report.arena_bytes <= budgets[k]);
            assert_true(k > 1 || schedule->report.waits == most->report.depth);
            forced += schedule->report.waits - schedule->report.depth;
            weir_schedule_destroy(schedule);
        }
        weir_schedule* none = NULL;
        assert_status(weir_schedule_create(NULL, made.graph, &target,
                                           &(weir_schedule_options){.byte_budget = 1}, &none),
                      WEIR_INFEASIBLE);
        assert_message_has("the budget is 1");
        assert_null(none);
        weir_schedule_destroy(most);
        weir_schedule_destroy(least);
        weir_graph_destroy(made.graph);
    }
    assert_true(forced > 40);
}

static void options_that_exclude_each_other_are_refused(void** state) {
    const fixture* f = *state;
    const weir_schedule_options wrong[] = {
        {.reuse = WEIR_REUSE_SERIAL, .order = WEIR_ORDER_BYTES},
        {.reuse = WEIR_REUSE_NONE, .byte_budget = 4096},
        {.order = (weir_order)3},
        {.reuse = (weir_reuse)3},
    };
    weir_schedule* schedule = NULL;
    weir_tradeoff_point points[2];
    uint32_t count = 7;
    norm(f, f->x);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_status(weir_schedule_create(NULL, f->graph, &f->target, &wrong[i], &schedule),
                      WEIR_INVALID_ARGUMENT);
        assert_null(schedule);
    }
    assert_status(weir_schedule_tradeoff(NULL, f->graph, &f->target, &wrong[0], points, 2, &count),
                  WEIR_INVALID_ARGUMENT);
    assert_status(weir_schedule_tradeoff(NULL, f->graph, &f->target, NULL, points, 1, &count),
                  WEIR_INVALID_ARGUMENT);
    assert_int_equal(count, 7);
}

static void no_point_of_a_curve_is_worse_than_another_in_everything(void** state) {
    (void)state;
    test_random random = {31};
    const char* const names[] = {"cpu", "barriers"};
    uint32_t total = 0;
    for (int i = 0; i < 30; i++) {
        weir_tradeoff_point points[POINTS];
        uint32_t count = 0;
        random_graph made = random_graph_make(&random, 40);
        const weir_target target = target_of(names[i % 2]);
        assert_ok(weir_schedule_tradeoff(NULL, made.graph, &target, NULL, points, POINTS, &count));
        for (uint32_t k = 1; k < count; k++) {
            assert_true(points[k].arena_bytes < points[k - 1].arena_bytes);
            assert_true(points[k].waits > points[k - 1].waits ||
                        points[k].residual_edges > points[k - 1].residual_edges);
        }
        weir_tradeoff_point ends[2];
        uint32_t end_count = 0;
        assert_ok(weir_schedule_tradeoff(NULL, made.graph, &target, NULL, ends, 2, &end_count));
        assert_true(end_count <= 2);
        assert_memory_equal(&ends[0], &points[0], sizeof points[0]);
        assert_memory_equal(&ends[end_count - 1], &points[count - 1], sizeof points[0]);
        total += count;
        weir_graph_destroy(made.graph);
    }
    assert_true(total > 100);
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void** state) {
    (void)state;
    test_random random = {37};
    random_graph made = random_graph_make(&random, 14);
    for (int mode = 0; mode < 4; mode++) {
        const weir_target target = target_of(mode % 2 ? "barriers" : "cpu");
        weir_status status = WEIR_OUT_OF_MEMORY;
        size_t step = 0;
        for (; status != WEIR_OK; step++) {
            test_allocator counter = {.fail_at = step};
            const weir_allocator allocator = test_allocator_of(&counter);
            weir_schedule* schedule = NULL;
            status = weir_schedule_create(&allocator, made.graph, &target,
                                          &(weir_schedule_options){.order = (weir_order)(mode / 2)},
                                          &schedule);
            uint32_t counts[128] = {0};
            if (status == WEIR_OK) {
                status = weir_residual_visit(schedule, count_reuse, counts);
            }
            needs noted = {.schedule = schedule};
            if (status == WEIR_OK) {
                status = weir_boundary_visit(schedule, note_need, &noted);
            }
            if (status != WEIR_OK) {
                assert_status(status, WEIR_OUT_OF_MEMORY);
            }
            weir_schedule_destroy(schedule);
            assert_int_equal(atomic_load(&counter.live_blocks), 0);
        }
        assert_true(step > 50);
    }
    weir_graph_destroy(made.graph);
}

static void note_phase(void* context, const char* name) {
    char* text = context;
    strcat(text, name);
    strcat(text, " ");
}

static void phases_are_told_as_they_end(void** state) {
    const fixture* f = *state;
    char text[128] = "";
    norm(f, f->x);
    weir_schedule* schedule = schedule_with(
        f->graph, &f->target, (weir_schedule_options){.phase = note_phase, .phase_context = text});
    assert_string_equal(text, "lower edges close order plan residual check ");
    weir_schedule_destroy(schedule);
}

static void a_target_to_plan_for_is_no_device(void** state) {
    (void)state;
    weir_device* device = NULL;
    assert_int_equal(target_of("barriers").waits, WEIR_WAIT_GROUPS);
    assert_status(weir_device_create(&(weir_device_desc){.name = "barriers"}, &device),
                  WEIR_UNSUPPORTED);
    assert_null(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(live_bytes_follow_every_move),
        cmocka_unit_test(groups_at_the_depth_have_nearly_always_the_lowest_peak),
        cmocka_unit_test(orders_by_bytes_have_nearly_always_the_lowest_peak),
        cmocka_unit_test(groups_are_runs_of_dispatches),
        with_graph(edges_make_no_groups),
        with_graph(what_is_needed_late_is_made_late),
        with_graph(the_given_order_keeps_the_order_of_the_graph),
        cmocka_unit_test(orders_by_waits_have_the_depth_and_no_more_bytes_than_the_earliest),
        cmocka_unit_test(every_boundary_is_needed_by_a_hazard_of_its_own),
        cmocka_unit_test(any_boundary_taken_out_is_found_by_the_check),
        with_graph(an_order_by_bytes_takes_fewer_and_waits_more),
        cmocka_unit_test(what_reuse_costs_is_counted_and_named),
        cmocka_unit_test(a_budget_is_kept_and_costs_only_what_it_must),
        with_graph(options_that_exclude_each_other_are_refused),
        cmocka_unit_test(no_point_of_a_curve_is_worse_than_another_in_everything),
        cmocka_unit_test(each_failing_allocation_is_reported_and_leaks_nothing),
        with_graph(phases_are_told_as_they_end),
        cmocka_unit_test(a_target_to_plan_for_is_no_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
