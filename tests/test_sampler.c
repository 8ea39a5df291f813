#include "testing.h"

#include <math.h>
#include <weir-llm/sampler.h>

#include "testing_allocator.h"

#define TOKENS 8

static weir_sampler* create(float temperature, float top_p, uint64_t seed, uint32_t token_count) {
    const weir_sampler_options options = {.temperature = temperature, .top_p = top_p, .seed = seed};
    weir_sampler* sampler = NULL;
    assert_ok(weir_sampler_create(NULL, &options, token_count, &sampler));
    return sampler;
}

static weir_sampler* create_with(weir_sampler_options options, uint32_t token_count) {
    weir_sampler* sampler = NULL;
    assert_ok(weir_sampler_create(NULL, &options, token_count, &sampler));
    return sampler;
}

static uint32_t next(weir_sampler* sampler, const float* logits) {
    uint32_t id = UINT32_MAX;
    assert_ok(weir_sampler_next(sampler, logits, &id));
    return id;
}

static void greedy_takes_the_largest_and_the_lowest_id_of_equals(void** state) {
    (void)state;
    weir_sampler* sampler = create(0.0f, 0.0f, 1, 5);
    const float rising[] = {-3.0f, -2.0f, -INFINITY, 0.5f, 0.25f};
    const float equal[] = {-1.0f, 2.0f, 0.0f, 2.0f, 2.0f};
    const float zeros[] = {0.0f, -0.0f, 0.0f, -0.0f, 0.0f};
    const float late[] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -1e30f};
    assert_int_equal(next(sampler, rising), 3);
    assert_int_equal(next(sampler, equal), 1);
    assert_int_equal(next(sampler, zeros), 0);
    assert_int_equal(next(sampler, late), 4);
    weir_sampler_destroy(sampler);
}

// The probabilities by their definition: softmax at the temperature, cut by sorting the ids.
static void exact_distribution(const float* logits, const weir_sampler_options* options,
                               double* probabilities) {
    int order[TOKENS];
    double top_sum = 0.0;
    for (int id = 0; id < TOKENS; id++) {
        probabilities[id] = exp((double)logits[id] / (double)options->temperature);
        int at = id;
        for (; at > 0 && probabilities[order[at - 1]] < probabilities[id]; at--) {
            order[at] = order[at - 1];
        }
        order[at] = id;
    }
    const int top = options->top_k == 0 || options->top_k > TOKENS ? TOKENS : (int)options->top_k;
    for (int i = 0; i < top; i++) {
        top_sum += probabilities[order[i]];
    }
    const double top_p = options->top_p > 0.0f ? (double)options->top_p : 1.0;
    const double least = (double)options->min_p * probabilities[order[0]] * (1.0 - 1e-12);
    double kept_sum = 0.0;
    int kept = 0;
    while (kept < top && kept_sum < top_p * top_sum * (1.0 - 1e-12) &&
           probabilities[order[kept]] >= least) {
        kept_sum += probabilities[order[kept++]];
    }
    for (int i = 0; i < TOKENS; i++) {
        probabilities[order[i]] = i < kept ? probabilities[order[i]] / kept_sum : 0.0;
    }
}

static void frequencies_follow_the_distribution(void** state) {
    (void)state;
    static const struct {
        weir_sampler_options options;
        int possible; // tokens that can come
    } cases[] = {
        {{.temperature = 1.0f}, 7},
        {{.temperature = 1.0f, .top_p = 1.0f}, 7},
        {{.temperature = 0.7f}, 7},
        {{.temperature = 2.5f, .top_p = 0.9f}, 6},
        {{.temperature = 1.0f, .top_p = 0.75f}, 3},
        {{.temperature = 1.0f, .top_p = 0.01f}, 1},
        {{.temperature = 1.0f, .top_k = 1}, 1},
        {{.temperature = 1.5f, .top_k = 4}, 4},
        {{.temperature = 1.0f, .top_k = TOKENS}, 7},
        {{.temperature = 1.0f, .top_k = 100}, 7},
        {{.temperature = 1.0f, .min_p = 1.0f}, 2},
        {{.temperature = 1.0f, .min_p = 0.5f}, 3},
        {{.temperature = 2.0f, .min_p = 0.2f}, 6},
        {{.temperature = 1.0f, .top_k = 2, .top_p = 0.6f},
         2}, // 0.6 of the two, of which each is half
        {{.temperature = 1.0f, .top_k = 2, .top_p = 0.4f}, 1},
        {{.temperature = 3.0f, .top_k = 6, .top_p = 0.9f, .min_p = 0.6f}, 4},
    };
    const float logits[TOKENS] = {1.0f, 3.0f, -2.0f, 3.0f, -INFINITY, 2.5f, 0.0f, 1.5f};
    const int draws = 40000;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weir_sampler_options options = cases[i].options;
        double probabilities[TOKENS];
        exact_distribution(logits, &options, probabilities);
        options.seed = 42 + i;
        weir_sampler* sampler = create_with(options, TOKENS);
        int counts[TOKENS] = {0};
        for (int draw = 0; draw < draws; draw++) {
            counts[next(sampler, logits)]++;
        }
        weir_sampler_destroy(sampler);
        double chi_square = 0.0;
        int possible = 0;
        for (int id = 0; id < TOKENS; id++) {
            const double expected = probabilities[id] * draws;
            if (expected == 0.0) {
                assert_int_equal(counts[id], 0);
                continue;
            }
            possible++;
            chi_square += (counts[id] - expected) * (counts[id] - expected) / expected;
        }
        if (possible != cases[i].possible) {
            fail_msg("case %zu: %d tokens can come, expected %d", i, possible, cases[i].possible);
        }
        // 6 degrees of freedom at most: 27.9 is passed once in 10^4 seeds, and the seeds are fixed.
        if (chi_square > 27.9) {
            fail_msg("case %zu: chi-square %g", i, chi_square);
        }
    }
}

static void top_p_keeps_the_smallest_set_and_the_lowest_ids_of_equals(void** state) {
    (void)state;
    enum { COUNT = 1000 };
    static float logits[COUNT]; // all equal: top_p 0.25 keeps ids 0 to 249
    weir_sampler* sampler = create(1.0f, 0.25f, 7, COUNT);
    bool seen[COUNT] = {false};
    for (int draw = 0; draw < 20000; draw++) {
        seen[next(sampler, logits)] = true;
    }
    for (int id = 0; id < COUNT; id++) {
        assert_int_equal(seen[id], id < 250);
    }
    weir_sampler_destroy(sampler);
}

static void extreme_logits_and_temperatures_stay_defined(void** state) {
    (void)state;
    const float logits[] = {-3e38f, 3e38f, 3e38f, -INFINITY};
    const float temperatures[] = {1e-45f, 1e-3f, 1.0f, 3e38f};
    for (size_t i = 0; i < 4; i++) {
        for (int cut = 0; cut < 2; cut++) {
            weir_sampler* sampler = create(temperatures[i], cut ? 0.9f : 0.0f, 3, 4);
            for (int draw = 0; draw < 200; draw++) {
                const uint32_t id = next(sampler, logits);
                assert_true(id < 3 && (id > 0 || temperatures[i] > 1.0f));
            }
            weir_sampler_destroy(sampler);
        }
    }
    const float single = -5.0f;
    weir_sampler* sampler = create(0.8f, 0.5f, 0, 1);
    assert_int_equal(next(sampler, &single), 0);
    weir_sampler_destroy(sampler);
}

static void the_same_seed_gives_the_same_ids(void** state) {
    (void)state;
    float logits[TOKENS] = {0.0f};
    weir_sampler* first = create(1.0f, 0.95f, 1234, TOKENS);
    weir_sampler* second = create(1.0f, 0.95f, 1234, TOKENS);
    weir_sampler* other = create(1.0f, 0.95f, 1235, TOKENS);
    test_random random = {.state = 5};
    int differing = 0;
    for (int draw = 0; draw < 500; draw++) {
        for (int id = 0; id < TOKENS; id++) {
            logits[id] = random_unit(&random);
        }
        const uint32_t id = next(first, logits);
        assert_int_equal(next(second, logits), id);
        differing += next(other, logits) != id;
    }
    assert_true(differing > 250);
    weir_sampler_destroy(first);
    weir_sampler_destroy(second);
    weir_sampler_destroy(other);
}

// Seed 0 spread by splitmix64 begins 0xE220A8397B1DCDAF, and xoshiro256** then gives
// 0x99EC5F36CB75F2B4: of 2^16 equal tokens the upper 16 bits are the choice.
static void random_numbers_are_those_of_the_published_generator(void** state) {
    (void)state;
    static float logits[1u << 16];
    weir_sampler* sampler = create(1.0f, 0.0f, 0, 1u << 16);
    assert_int_equal(next(sampler, logits), 0x99EC);
    weir_sampler_destroy(sampler);
}

static void undefined_logits_are_out_of_range(void** state) {
    (void)state;
    const float temperatures[] = {0.0f, 1.0f};
    for (size_t i = 0; i < 2; i++) {
        weir_sampler* sampler = create(temperatures[i], 0.9f, 1, 3);
        const float with_nan[] = {0.0f, NAN, 1.0f};
        const float with_inf[] = {0.0f, 1.0f, INFINITY};
        const float nothing[] = {-INFINITY, -INFINITY, -INFINITY};
        uint32_t id = 77;
        assert_status(weir_sampler_next(sampler, with_nan, &id), WEIR_OUT_OF_RANGE);
        assert_message_has("token 1 is NaN");
        assert_status(weir_sampler_next(sampler, with_inf, &id), WEIR_OUT_OF_RANGE);
        assert_message_has("token 2 is +inf");
        assert_status(weir_sampler_next(sampler, nothing, &id), WEIR_OUT_OF_RANGE);
        assert_message_has("-inf");
        assert_int_equal(id, 77);
        weir_sampler_destroy(sampler);
    }
}

static void unusable_options_are_invalid(void** state) {
    (void)state;
    const weir_sampler_options cases[] = {
        {.temperature = -1.0f},
        {.temperature = NAN},
        {.temperature = INFINITY},
        {.top_p = -0.1f},
        {.top_p = 1.5f},
        {.top_p = NAN},
        {.top_p = INFINITY},
        {.temperature = -1e-9f},
        {.min_p = -0.1f},
        {.min_p = 1.1f},
        {.min_p = NAN},
        {.repetition_penalty = -1.0f},
        {.repetition_penalty = NAN},
        {.repetition_penalty = INFINITY},
    };
    weir_sampler* sampler = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_status(weir_sampler_create(NULL, &cases[i], 3, &sampler), WEIR_INVALID_ARGUMENT);
    }
    const weir_sampler_options greedy = {0};
    assert_status(weir_sampler_create(NULL, &greedy, 0, &sampler), WEIR_INVALID_ARGUMENT);
    assert_null(sampler);
    weir_sampler_destroy(NULL);
}

// The last three of 1, 2, 1, 3 are penalised, each once: 4 / 2, -1 * 2, 3 / 2, and 0 is not.
static void the_penalty_is_on_the_last_tokens_once_each(void** state) {
    (void)state;
    const float logits[] = {1.75f, 4.0f, -1.0f, 3.0f};
    const uint32_t before[] = {1, 2, 1, 3};
    weir_sampler* sampler =
        create_with((weir_sampler_options){.repetition_penalty = 2.0f, .repetition_window = 3}, 4);
    assert_int_equal(next(sampler, logits), 1); // nothing is penalised yet
    assert_ok(weir_sampler_accept(sampler, before, 4));
    assert_int_equal(next(sampler, logits), 1); // 4 / 2 beats 1.75 and 3 / 2
    assert_int_equal(next(sampler, logits), 1); // 1 3 1
    const float closer[] = {2.25f, 4.0f, -1.0f, 4.0f};
    assert_int_equal(next(sampler, closer), 0); // 3 1 1
    assert_int_equal(next(sampler, closer), 3); // 1 1 0: 3 has left the window
    weir_sampler_reset(sampler, 0);
    assert_int_equal(next(sampler, closer), 1);
    weir_sampler_destroy(sampler);
}

// Negative logits move away from 0, what cannot come stays so, and no number becomes infinite.
static void penalised_logits_stay_numbers(void** state) {
    (void)state;
    const float logits[] = {-3e38f, -INFINITY, -3.1e38f};
    const uint32_t ids[] = {0, 1, 2};
    weir_sampler* sampler = create_with((weir_sampler_options){.repetition_penalty = 1e30f}, 3);
    assert_ok(weir_sampler_accept(sampler, ids, 3));
    assert_int_equal(next(sampler, logits), 0); // both are the lowest number: the lower id
    const float other[] = {-3e38f, -INFINITY, -2e38f};
    weir_sampler_reset(sampler, 0);
    assert_ok(weir_sampler_accept(sampler, ids + 2, 1));
    assert_int_equal(next(sampler, other), 0);
    weir_sampler_destroy(sampler);
}

static void a_penalty_changes_what_is_drawn(void** state) {
    (void)state;
    const float logits[] = {2.0f, 2.0f};
    int counts[2] = {0};
    for (uint64_t seed = 0; seed < 1000; seed++) {
        const weir_sampler_options options = {
            .temperature = 1.0f, .seed = seed, .repetition_penalty = 1000.0f};
        weir_sampler* sampler = create_with(options, 2);
        assert_ok(weir_sampler_accept(sampler, (uint32_t[]){1}, 1));
        counts[next(sampler, logits)]++;
        weir_sampler_destroy(sampler);
    }
    // exp(2) : exp(0.002) is 0.88 : 0.12; 0.8 to 0.95 is seven standard deviations wide.
    assert_true(counts[0] > 800 && counts[0] < 950);
}

static void ids_of_another_vocabulary_are_not_remembered(void** state) {
    (void)state;
    const float logits[] = {1.0f, 2.0f};
    weir_sampler* sampler = create_with((weir_sampler_options){.repetition_penalty = 8.0f}, 2);
    assert_status(weir_sampler_accept(sampler, (uint32_t[]){1, 2}, 2), WEIR_OUT_OF_RANGE);
    assert_message_has("token 1 is 2");
    assert_int_equal(next(sampler, logits), 1);
    assert_int_equal(next(sampler, logits), 0);
    weir_sampler_destroy(sampler);
}

static void a_reset_sampler_repeats_its_ids(void** state) {
    (void)state;
    static const float logits[TOKENS] = {0.0f};
    const weir_sampler_options options = {
        .temperature = 1.0f, .seed = 9, .repetition_penalty = 1.5f, .top_k = 6};
    uint32_t ids[50];
    weir_sampler* sampler = create_with(options, TOKENS);
    for (int i = 0; i < 50; i++) {
        ids[i] = next(sampler, logits);
    }
    weir_sampler_reset(sampler, 9);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(next(sampler, logits), ids[i]);
    }
    weir_sampler_destroy(sampler);
}

static void refused_allocations_leak_nothing_and_sampling_makes_none(void** state) {
    (void)state;
    const weir_sampler_options options = {
        .temperature = 1.0f, .top_p = 0.5f, .repetition_penalty = 1.1f};
    const float logits[4] = {0.0f};
    for (size_t fail_at = 0; fail_at <= 5; fail_at++) {
        test_allocator heap = {.fail_at = fail_at};
        const weir_allocator allocator = test_allocator_of(&heap);
        weir_sampler* sampler = NULL;
        const weir_status status = weir_sampler_create(&allocator, &options, 4, &sampler);
        assert_int_equal(status, fail_at < 5 ? WEIR_OUT_OF_MEMORY : WEIR_OK);
        if (status == WEIR_OK) {
            const size_t calls = heap.calls;
            (void)next(sampler, logits);
            assert_int_equal(heap.calls, calls);
        } else {
            assert_null(sampler);
        }
        weir_sampler_destroy(sampler);
        assert_int_equal(heap.live_bytes, 0);
    }
}

static void no_options_are_greedy(void** state) {
    (void)state;
    const float logits[] = {1.0f, 3.0f, 3.0f, 2.0f};
    weir_sampler* sampler = NULL;
    assert_ok(weir_sampler_create(NULL, NULL, 4, &sampler));
    assert_int_equal(next(sampler, logits), 1);
    weir_sampler_destroy(sampler);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_options_are_greedy),
        cmocka_unit_test(greedy_takes_the_largest_and_the_lowest_id_of_equals),
        cmocka_unit_test(frequencies_follow_the_distribution),
        cmocka_unit_test(top_p_keeps_the_smallest_set_and_the_lowest_ids_of_equals),
        cmocka_unit_test(extreme_logits_and_temperatures_stay_defined),
        cmocka_unit_test(the_same_seed_gives_the_same_ids),
        cmocka_unit_test(random_numbers_are_those_of_the_published_generator),
        cmocka_unit_test(undefined_logits_are_out_of_range),
        cmocka_unit_test(unusable_options_are_invalid),
        cmocka_unit_test(the_penalty_is_on_the_last_tokens_once_each),
        cmocka_unit_test(penalised_logits_stay_numbers),
        cmocka_unit_test(a_penalty_changes_what_is_drawn),
        cmocka_unit_test(ids_of_another_vocabulary_are_not_remembered),
        cmocka_unit_test(a_reset_sampler_repeats_its_ids),
        cmocka_unit_test(refused_allocations_leak_nothing_and_sampling_makes_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
