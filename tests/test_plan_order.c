// Partial orders: bounds and plans, what shares bytes, orders to be scored, and two networks whose
// memory is planned without a false wait.
#include "testing.h"

#include <weir-llm/llama.h>
#include <weir/plan.h>
#include <weir/schedule.h>

#include "testing_allocator.h"

#define SMALL 7

typedef struct small_order {
    weir_plan_buffer buffers[SMALL];
    uint64_t precedes[SMALL];
    weir_plan_problem problem;
} small_order;

static void random_order(test_random* random, uint32_t count, small_order* made) {
    memset(made, 0, sizeof *made);
    made->problem = (weir_plan_problem){
        .buffers = made->buffers, .buffer_count = count, .precedes = made->precedes};
    for (uint32_t i = count; i-- > 0;) {
        made->buffers[i].byte_size = random_below(random, 10);
        for (uint32_t j = i + 1; j < count; ++j) {
            if (random_below(random, 3) == 0) {
                made->precedes[i] |= 1ull << j | made->precedes[j];
            }
        }
    }
}

static bool conflict(const small_order* made, uint32_t a, uint32_t b) {
    return made->buffers[a].byte_size > 0 && made->buffers[b].byte_size > 0 &&
           !(made->precedes[a] >> b & 1) && !(made->precedes[b] >> a & 1);
}

static uint64_t least_peak(const small_order* made, uint64_t* offsets, uint32_t placed,
                           uint64_t peak) {
    uint64_t best = UINT64_MAX;
    for (uint32_t i = 0; i < made->problem.buffer_count; ++i) {
        if (placed >> i & 1) {
            continue;
        }
        offsets[i] = 0;
        for (bool moved = true; moved;) {
            moved = false;
            for (uint32_t j = 0; j < made->problem.buffer_count; ++j) {
                const uint64_t end = offsets[j] + made->buffers[j].byte_size;
                if ((placed >> j & 1) && conflict(made, i, j) && offsets[i] < end &&
                    offsets[j] < offsets[i] + made->buffers[i].byte_size) {
                    offsets[i] = end;
                    moved = true;
                }
            }
        }
        const uint64_t end = made->buffers[i].byte_size + offsets[i];
        const uint64_t got = least_peak(made, offsets, placed | 1u << i, end > peak ? end : peak);
        best = got < best ? got : best;
    }
    return best == UINT64_MAX ? peak : best;
}

static void orders_are_planned_at_the_optimum_and_only_then_called_optimal(void** state) {
    (void)state;
    test_random random = {41};
    int best = 0;
    const int rounds = 500;
    for (int round = 0; round < rounds; ++round) {
        small_order made;
        random_order(&random, 1 + (uint32_t)random_below(&random, SMALL), &made);
        weir_plan* plan = NULL;
        assert_ok(weir_plan_create(NULL, &made.problem, &plan));
        assert_ok(weir_plan_verify(NULL, &made.problem, weir_plan_entries(plan, NULL)));
        const weir_plan_result* result = weir_plan_result_of(plan);
        uint64_t offsets[SMALL] = {0};
        const uint64_t least = least_peak(&made, offsets, 0, 0);
        assert_true(result->peak >= least && result->lower_bound <= least);
        assert_true(!result->optimal || result->peak == least);
        best += result->peak == least;
        weir_plan_destroy(plan);
    }
    assert_true(best >= rounds * 99 / 100);
}

// Numbered against the order and across words of bits, with pools in between.
static void numbering_and_pools_do_not_matter(void** state) {
    (void)state;
    enum { COUNT = 150 };
    static weir_plan_buffer buffers[COUNT];
    static uint64_t precedes[COUNT * 3];
    memset(precedes, 0, sizeof precedes);
    uint64_t clique[2] = {0, 0};
    for (uint32_t i = 0; i < COUNT; ++i) {
        // Chains of 30 from high numbers to low ones: five per pool side by side.
        buffers[i] = (weir_plan_buffer){.byte_size = 1 + i % 30, .pool = i % 2};
        clique[i % 2] += i % 30 >= 28 ? buffers[i].byte_size : 0; // the heaviest of its chain
        for (uint32_t j = i - i % 30; j < i; ++j) {
            precedes[i * 3 + j / 64] |= 1ull << (j % 64);
        }
    }
    const weir_plan_problem problem = {
        .buffers = buffers, .buffer_count = COUNT, .precedes = precedes};
    weir_plan* plan = NULL;
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    assert_ok(weir_plan_verify(NULL, &problem, weir_plan_entries(plan, NULL)));
    assert_int_equal(weir_plan_result_of(plan)->peak, clique[0] + clique[1]);
    assert_true(weir_plan_result_of(plan)->optimal);
    weir_plan_destroy(plan);
    precedes[149 * 3] |= 1; // the last chain before the first one's last only
    precedes[29 * 3] = 0;   // and that no longer after its own
    precedes[149 * 3] |= 1ull << 29;
    assert_ok(weir_plan_create(NULL, &problem, &plan));
    weir_plan_destroy(plan);
    plan = NULL;
    precedes[28 * 3 + 2] |= 1ull << (149 - 128); // 28 before 149 before 29, but not 28 before 29
    assert_status(weir_plan_create(NULL, &problem, &plan), WEIR_INVALID_ARGUMENT);
    assert_message_has("not transitive");
    precedes[28 * 3 + 2] = 0;
    precedes[5 * 3] |= 1ull << 5;
    assert_status(weir_plan_create(NULL, &problem, &plan), WEIR_INVALID_ARGUMENT);
    assert_message_has("precedes itself");
}

typedef struct pair_list {
    uint32_t pairs[64][2];
    uint32_t count;
    uint32_t stop_at;
} pair_list;

static weir_status collect(void* context, uint32_t earlier, uint32_t later) {
    pair_list* list = context;
    if (list->count == list->stop_at) {
        return WEIR_CANCELLED;
    }
    list->pairs[list->count][0] = earlier;
    list->pairs[list->count++][1] = later;
    return WEIR_OK;
}

static void pairs_that_share_bytes_are_visited_once(void** state) {
    (void)state;
    test_random random = {61};
    for (int round = 0; round < 500; ++round) {
        weir_plan_entry entries[8] = {{0}};
        uint32_t positions[8];
        uint32_t expected = 0;
        bool shares[8][8] = {{false}};
        for (uint32_t i = 0; i < 8; ++i) {
            positions[i] = (uint32_t)random_below(&random, 6);
            entries[i] = (weir_plan_entry){.byte_offset = random_below(&random, 20),
                                           .byte_size = random_below(&random, 8),
                                           .pool = (uint32_t)random_below(&random, 2),
                                           .block = (uint32_t)random_below(&random, 2)};
            for (uint32_t j = 0; j < i; ++j) {
                shares[i][j] =
                    entries[i].pool == entries[j].pool && entries[i].block == entries[j].block &&
                    entries[i].byte_size > 0 && entries[j].byte_size > 0 &&
                    entries[i].byte_offset < entries[j].byte_offset + entries[j].byte_size &&
                    entries[j].byte_offset < entries[i].byte_offset + entries[i].byte_size;
                expected += shares[i][j];
            }
        }
        pair_list list = {.stop_at = UINT32_MAX};
        assert_ok(weir_plan_sharing(NULL, entries, 8, positions, collect, &list));
        assert_int_equal(list.count, expected);
        for (uint32_t p = 0; p < list.count; ++p) {
            const uint32_t a = list.pairs[p][0];
            const uint32_t b = list.pairs[p][1];
            assert_true(positions[a] < positions[b] || (positions[a] == positions[b] && a < b));
            bool* seen = &shares[a > b ? a : b][a > b ? b : a];
            assert_true(*seen);
            *seen = false;
        }
        if (expected > 0) {
            pair_list stopped = {.stop_at = expected - 1};
            assert_status(weir_plan_sharing(NULL, entries, 8, NULL, collect, &stopped),
                          WEIR_CANCELLED);
        }
    }
}

static void a_score_is_the_live_sum_and_a_plan_of_the_order(void** state) {
    (void)state;
    test_random random = {71};
    for (int round = 0; round < 200; ++round) {
        enum { BUFFERS = 12, DISPATCHES = 9 };
        weir_plan_buffer buffers[BUFFERS] = {{0}};
        uint32_t begins[BUFFERS + 1] = {0};
        uint32_t uses[BUFFERS * 3];
        uint32_t positions[DISPATCHES];
        uint64_t live[DISPATCHES] = {0};
        weir_plan_interval lives[BUFFERS];
        for (uint32_t d = 0; d < DISPATCHES; ++d) {
            positions[d] = d;
            const uint32_t other = (uint32_t)random_below(&random, d + 1);
            positions[d] = positions[other];
            positions[other] = d;
        }
        for (uint32_t i = 0; i < BUFFERS; ++i) {
            buffers[i] = (weir_plan_buffer){
                .byte_size = random_below(&random, 50), .interval_begin = i, .interval_count = 1};
            begins[i + 1] = begins[i];
            uint32_t first = DISPATCHES;
            uint32_t last = 0;
            for (uint64_t u = random_below(&random, 4); u > 0; --u) {
                const uint32_t dispatch = (uint32_t)random_below(&random, DISPATCHES);
                const uint32_t at = positions[dispatch];
                uses[begins[i + 1]++] = dispatch;
                first = at < first ? at : first;
                last = at + 1 > last ? at + 1 : last;
            }
            lives[i] = (weir_plan_interval){first, last > first ? last : first};
            for (uint32_t p = first; p < last; ++p) {
                live[p] += buffers[i].byte_size;
            }
        }
        uint64_t most = 0;
        for (uint32_t p = 0; p < DISPATCHES; ++p) {
            most = live[p] > most ? live[p] : most;
        }
        const weir_plan_problem problem = {.buffers = buffers,
                                           .buffer_count = BUFFERS,
                                           .intervals = lives,
                                           .interval_count = BUFFERS};
        const weir_plan_order order = {begins, uses, positions, DISPATCHES};
        uint64_t bound = 0;
        uint64_t peak = 0;
        assert_ok(weir_plan_score(NULL, &problem, &order, &bound, NULL));
        assert_int_equal(bound, most);
        assert_ok(weir_plan_score(NULL, &problem, &order, &bound, &peak));
        assert_int_equal(bound, most);
        weir_plan* plan = NULL;
        assert_ok(weir_plan_create(NULL, &problem, &plan));
        assert_true(peak >= weir_plan_result_of(plan)->peak);
        assert_true(peak <= most + most / 2);
        weir_plan_destroy(plan);
        positions[3] = DISPATCHES;
        assert_status(weir_plan_score(NULL, &problem, &order, &bound, NULL), WEIR_INVALID_ARGUMENT);
    }
}

static weir_status call_each(const weir_allocator* allocator, const weir_plan_problem* problem) {
    const uint32_t begins[4] = {0, 1, 2, 3};
    const uint32_t uses[3] = {0, 1, 0};
    const uint32_t positions[2] = {0, 1};
    const weir_plan_order order = {begins, uses, positions, 2};
    uint64_t bound = 0;
    uint64_t peak = 0;
    weir_plan* plan = NULL;
    WEIR_TRY(weir_plan_create(allocator, problem, &plan));
    pair_list list = {.stop_at = UINT32_MAX};
    weir_status status = weir_plan_sharing(allocator, weir_plan_entries(plan, NULL),
                                           problem->buffer_count, NULL, collect, &list);
    weir_plan_destroy(plan);
    WEIR_TRY(status);
    return weir_plan_score(allocator, problem, &order, &bound, &peak);
}

static void a_failing_allocation_leaves_nothing_behind(void** state) {
    (void)state;
    const weir_plan_buffer buffers[3] = {{.byte_size = 3}, {.byte_size = 5}, {.byte_size = 2}};
    const uint64_t precedes[3] = {4, 0, 0};
    const weir_plan_problem problem = {.buffers = buffers, .buffer_count = 3, .precedes = precedes};
    test_allocator counter = {.fail_at = SIZE_MAX};
    const weir_allocator allocator = test_allocator_of(&counter);
    assert_ok(call_each(&allocator, &problem));
    for (size_t call = 0; call < counter.calls; ++call) {
        test_allocator failing = {.fail_at = call};
        const weir_allocator fails = test_allocator_of(&failing);
        assert_status(call_each(&fails, &problem), WEIR_OUT_OF_MEMORY);
        assert_int_equal(failing.live_blocks, 0);
    }
}

// Networks of operations that each make one tensor, numbered in order.
#define NET_OPS 130

typedef struct network {
    uint64_t sizes[NET_OPS];        // bytes of the output of each operation
    uint32_t channels[NET_OPS];     //
    uint64_t ancestors[NET_OPS][3]; // bits
    uint64_t readers[NET_OPS][3];   // bits: operations that read the output
    uint32_t last_reader[NET_OPS];  // by number
    uint32_t count;
} network;

#define NO_OP UINT32_MAX // the input of the network

static void read_by(network* net, uint32_t from) {
    const uint32_t op = net->count;
    if (from == NO_OP) {
        return;
    }
    for (int w = 0; w < 3; ++w) {
        net->ancestors[op][w] |= net->ancestors[from][w];
    }
    net->ancestors[op][from / 64] |= 1ull << (from % 64);
    net->readers[from][op / 64] |= 1ull << (op % 64);
    net->last_reader[from] = op;
}

// An operation on one tensor with a square output of float32.
static uint32_t layer(network* net, uint32_t from, uint32_t side, uint32_t channels) {
    assert_true(net->count < NET_OPS);
    read_by(net, from);
    net->sizes[net->count] = (uint64_t)side * side * channels * 4;
    net->channels[net->count] = channels;
    net->last_reader[net->count] = net->count;
    return net->count++;
}

static uint32_t concat(network* net, const uint32_t* parts, uint32_t count, uint32_t side) {
    uint32_t channels = 0;
    for (uint32_t i = 0; i < count; ++i) {
        channels += net->channels[parts[i]];
        read_by(net, parts[i]);
    }
    return layer(net, NO_OP, side, channels);
}

static uint32_t chain(network* net, uint32_t from, uint32_t side, const uint32_t* channels,
                      uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
        from = layer(net, from, side, channels[i]);
    }
    return from;
}

// The blocks of Inception v3 (Szegedy et al., arXiv 1512.00567).
static uint32_t block_a(network* net, uint32_t in, uint32_t pooled) {
    const uint32_t parts[4] = {layer(net, in, 35, 64), chain(net, in, 35, (uint32_t[]){48, 64}, 2),
                               chain(net, in, 35, (uint32_t[]){64, 96, 96}, 3),
                               layer(net, layer(net, in, 35, net->channels[in]), 35, pooled)};
    return concat(net, parts, 4, 35);
}

static uint32_t block_c(network* net, uint32_t in, uint32_t inner) {
    const uint32_t parts[4] = {layer(net, in, 17, 192),
                               chain(net, in, 17, (uint32_t[]){inner, inner, 192}, 3),
                               chain(net, in, 17, (uint32_t[]){inner, inner, inner, inner, 192}, 5),
                               layer(net, layer(net, in, 17, 768), 17, 192)};
    return concat(net, parts, 4, 17);
}

static uint32_t block_e(network* net, uint32_t in) {
    const uint32_t first = layer(net, in, 8, 320);
    const uint32_t wide = layer(net, in, 8, 384);
    const uint32_t second[2] = {layer(net, wide, 8, 384), layer(net, wide, 8, 384)};
    const uint32_t second_joined = concat(net, second, 2, 8);
    const uint32_t deep = chain(net, in, 8, (uint32_t[]){448, 384}, 2);
    const uint32_t third[2] = {layer(net, deep, 8, 384), layer(net, deep, 8, 384)};
    const uint32_t third_joined = concat(net, third, 2, 8);
    const uint32_t pooled = layer(net, layer(net, in, 8, net->channels[in]), 8, 192);
    return concat(net, (uint32_t[]){first, second_joined, third_joined, pooled}, 4, 8);
}

static void build_inception(network* net) {
    uint32_t x = layer(net, NO_OP, 149, 32);
    x = chain(net, x, 147, (uint32_t[]){32, 64}, 2);
    x = chain(net, x, 73, (uint32_t[]){64, 80}, 2);
    x = layer(net, layer(net, x, 71, 192), 35, 192);
    x = block_a(net, block_a(net, block_a(net, x, 32), 64), 64);
    const uint32_t reduced[3] = {layer(net, x, 17, 384),
                                 layer(net, chain(net, x, 35, (uint32_t[]){64, 96}, 2), 17, 96),
                                 layer(net, x, 17, net->channels[x])};
    x = concat(net, reduced, 3, 17);
    x = block_c(net, block_c(net, block_c(net, block_c(net, x, 128), 160), 160), 192);
    const uint32_t halved[3] = {
        layer(net, layer(net, x, 17, 192), 8, 320),
        layer(net, chain(net, x, 17, (uint32_t[]){192, 192, 192}, 3), 8, 192),
        layer(net, x, 8, 768)};
    x = concat(net, halved, 3, 8);
    x = block_e(net, block_e(net, x));
    x = layer(net, x, 1, 2048);
    layer(net, x, 1, 1000);
}

// Whether every access of tensor `a` comes before tensor `b` is made, whatever runs side by side.
static bool is_over(const network* net, uint32_t a, uint32_t b) {
    bool over = net->ancestors[b][a / 64] >> (a % 64) & 1;
    for (int w = 0; w < 3; ++w) {
        over &= (net->readers[a][w] & ~net->ancestors[b][w]) == 0;
    }
    return over;
}

static weir_status count_waits(void* context, uint32_t earlier, uint32_t later) {
    uint32_t* waits = ((void**)context)[1];
    *waits += !is_over(((void**)context)[0], earlier, later);
    return WEIR_OK;
}

static uint64_t plan_network(network* net, const weir_plan_problem* problem, uint32_t* waits) {
    weir_plan* plan = NULL;
    uint32_t count = 0;
    void* context[2] = {net, waits};
    *waits = 0;
    assert_ok(weir_plan_create(NULL, problem, &plan));
    const weir_plan_entry* entries = weir_plan_entries(plan, &count);
    assert_ok(weir_plan_verify(NULL, problem, entries));
    assert_ok(weir_plan_sharing(NULL, entries, count, NULL, count_waits, context));
    const uint64_t peak = weir_plan_result_of(plan)->peak;
    weir_plan_destroy(plan);
    return peak;
}

static void inception_v3_takes_no_more_bytes_without_false_waits(void** state) {
    (void)state;
    static network net;
    static weir_plan_buffer buffers[NET_OPS];
    static weir_plan_interval lives[NET_OPS];
    static uint64_t precedes[NET_OPS * 3];
    build_inception(&net);
    const uint32_t count = net.count - 1; // without the output
    const uint32_t words = weir_plan_row_words(count);
    for (uint32_t i = 0; i < count; ++i) {
        buffers[i] =
            (weir_plan_buffer){.byte_size = net.sizes[i], .interval_begin = i, .interval_count = 1};
        lives[i] = (weir_plan_interval){i, (int64_t)net.last_reader[i] + 1};
        for (uint32_t j = 0; j < count; ++j) {
            precedes[i * words + j / 64] |= (uint64_t)is_over(&net, i, j) << (j % 64);
        }
    }
    weir_plan_problem problem = {
        .buffers = buffers, .buffer_count = count, .intervals = lives, .interval_count = count};
    uint32_t waits = 0;
    const uint64_t serial = plan_network(&net, &problem, &waits);
    assert_int_equal(serial, 8297856); // 147 x 147 x (32 + 64) floats
    assert_true(waits > 50);
    problem.precedes = precedes;
    assert_int_equal(plan_network(&net, &problem, &waits), serial);
    assert_int_equal(waits, 0);
}

static void llama_takes_no_more_bytes_without_false_waits(void** state) {
    (void)state;
    const weir_llama_params params = {.blocks = 22,
                                      .context = 2048,
                                      .embedding = 2048,
                                      .feed_forward = 5632,
                                      .heads = 32,
                                      .kv_heads = 4,
                                      .head_dim = 64,
                                      .vocabulary = 32000,
                                      .rotated = 64,
                                      .rope_base = 10000.0f,
                                      .rope_scale = 1.0f,
                                      .epsilon = 1e-5f};
    weir_target target; // without scratch, beside which something else of the last block may run
    assert_ok(weir_target_find("cpu:plain", &target));
    for (uint32_t rows = 1; rows <= 512; rows *= 512) {
        const weir_llama_graph_desc desc = {.params = &params,
                                            .context = 2048,
                                            .rows = rows,
                                            .outputs = 1,
                                            .weight_dtype = WEIR_DTYPE_Q8_0};
        weir_llama_graph pass;
        weir_schedule* schedule = NULL;
        assert_ok(weir_llama_graph_build(NULL, &desc, &pass));
        assert_ok(weir_schedule_create(NULL, pass.graph, &target, NULL, &schedule));
        assert_ok(weir_schedule_check(schedule));
        const weir_schedule_report* report = weir_schedule_report_of(schedule);
        assert_int_equal(report->arena_bytes, report->serial_bytes);
        assert_int_equal(report->arena_bytes, report->bound_bytes);
        assert_int_equal(report->residual_edges, 0);
        weir_schedule_destroy(schedule);
        weir_graph_destroy(pass.graph);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orders_are_planned_at_the_optimum_and_only_then_called_optimal),
        cmocka_unit_test(numbering_and_pools_do_not_matter),
        cmocka_unit_test(pairs_that_share_bytes_are_visited_once),
        cmocka_unit_test(a_score_is_the_live_sum_and_a_plan_of_the_order),
        cmocka_unit_test(a_failing_allocation_leaves_nothing_behind),
        cmocka_unit_test(inception_v3_takes_no_more_bytes_without_false_waits),
        cmocka_unit_test(llama_takes_no_more_bytes_without_false_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
