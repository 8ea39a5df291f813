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
static void exact_distribution(const float* logits, double temperature, double top_p,
                               double* probabilities) {
    double sum = 0.0;
    for (int id = 0; id < TOKENS; id++) {
        probabilities[id] = exp((double)logits[id] / temperature);
        sum += probabilities[id];
    }
    bool kept[TOKENS] = {false};
    double kept_sum = 0.0;
    while (kept_sum < top_p * sum * (1.0 - 1e-12)) {
        int best = -1;
        for (int id = 0; id < TOKENS; id++) {
            if (!kept[id] && (best < 0 || probabilities[id] > probabilities[best])) {
                best = id;
            }
        }
        kept[best] = true;
        kept_sum += probabilities[best];
    }
    for (int id = 0; id < TOKENS; id++) {
        probabilities[id] = kept[id] ? probabilities[id] / kept_sum : 0.0;
    }
}

static void frequencies_follow_the_distribution(void** state) {
    (void)state;
    static const struct {
        float temperature;
        float top_p;
        int possible; // tokens that can come
    } cases[] = {{1.0f, 0.0f, 7}, {1.0f, 1.0f, 7},  {0.7f, 0.0f, 7},
                 {2.5f, 0.9f, 6}, {1.0f, 0.75f, 3}, {1.0f, 0.01f, 1}};
    const float logits[TOKENS] = {1.0f, 3.0f, -2.0f, 3.0f, -INFINITY, 2.5f, 0.0f, 1.5f};
    const int draws = 40000;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const bool cuts = cases[i].top_p > 0.0f;
        double probabilities[TOKENS];
        exact_distribution(logits, (double)cases[i].temperature,
                           cuts ? (double)cases[i].top_p : 1.0, probabilities);
        weir_sampler* sampler = create(cases[i].temperature, cases[i].top_p, 42 + i, TOKENS);
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
        assert_int_equal(possible, cases[i].possible);
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
        {.temperature = -1.0f}, {.temperature = NAN},    {.temperature = INFINITY},
        {.top_p = -0.1f},       {.top_p = 1.5f},         {.top_p = NAN},
        {.top_p = INFINITY},    {.temperature = -1e-9f},
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

static void refused_allocations_leak_nothing_and_sampling_makes_none(void** state) {
    (void)state;
    const weir_sampler_options options = {.temperature = 1.0f, .top_p = 0.5f};
    const float logits[4] = {0.0f};
    for (size_t fail_at = 0; fail_at <= 3; fail_at++) {
        test_allocator heap = {.fail_at = fail_at};
        const weir_allocator allocator = test_allocator_of(&heap);
        weir_sampler* sampler = NULL;
        const weir_status status = weir_sampler_create(&allocator, &options, 4, &sampler);
        assert_int_equal(status, fail_at < 3 ? WEIR_OUT_OF_MEMORY : WEIR_OK);
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
        cmocka_unit_test(refused_allocations_leak_nothing_and_sampling_makes_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
