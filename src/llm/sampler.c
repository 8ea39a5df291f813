// Sampling in double precision: sums over 100,000 tokens then hold more digits than the float
// logits do, and a fixed order of every sum and walk makes a seed repeat its ids.
#include <weir-llm/sampler.h>

#include <math.h>

#include "memory.h"

struct weir_sampler {
    weir_allocator allocator;
    weir_sampler_options options;
    uint32_t token_count;
    uint64_t state[4]; // of the random numbers, never all 0
    double* weights;   // [token_count] probability before scaling; NULL when greedy
    uint32_t* order;   // [token_count] heap of ids; NULL unless top_p cuts
};

static uint64_t rotate_left(uint64_t x, int count) {
    return (x << count) | (x >> (64 - count));
}

// xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021).
static uint64_t next_random(uint64_t state[4]) {
    const uint64_t result = rotate_left(state[1] * 5, 7) * 9;
    const uint64_t shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate_left(state[3], 45);
    return result;
}

// splitmix64 (Steele, Lea and Flood 2014) spreads the seed: it is a bijection of a counter, so four
// steps never give four zeros.
static void seed_random(uint64_t state[4], uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        seed += 0x9E3779B97F4A7C15u;
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        state[i] = z ^ (z >> 31);
    }
}

// Uniform in [0, 1): the upper 53 bits, which a double holds exactly.
static double next_unit(weir_sampler* sampler) {
    return (double)(next_random(sampler->state) >> 11) * 0x1p-53;
}

// 0 and 1 both mean all tokens, and need no order.
static bool cuts_tail(const weir_sampler_options* options) {
    return options->top_p > 0.0f && options->top_p < 1.0f;
}

weir_status weir_sampler_create(const weir_allocator* allocator,
                                const weir_sampler_options* options, uint32_t token_count,
                                weir_sampler** sampler) {
    static const weir_sampler_options greedy = {0};
    options = options ? options : &greedy;
    if (!(options->temperature >= 0.0f) || isinf(options->temperature)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "temperature is %g; expected a finite number >= 0",
                         (double)options->temperature);
    }
    if (!(options->top_p >= 0.0f && options->top_p <= 1.0f)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "top_p is %g; expected 0 to 1",
                         (double)options->top_p);
    }
    if (token_count == 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "a sampler needs at least one token");
    }
    weir_sampler* created = NULL;
    WEIR_TRY(llm_array_new(allocator, 1, &created));
    *created = (weir_sampler){.options = *options, .token_count = token_count};
    if (allocator) {
        created->allocator = *allocator;
    }
    seed_random(created->state, options->seed);
    weir_status status = WEIR_OK;
    if (options->temperature > 0.0f) {
        status = llm_array_new(allocator, token_count, &created->weights);
        if (status == WEIR_OK && cuts_tail(options)) {
            status = llm_array_new(allocator, token_count, &created->order);
        }
    }
    if (status != WEIR_OK) {
        weir_sampler_destroy(created);
        return status;
    }
    *sampler = created;
    return WEIR_OK;
}

void weir_sampler_destroy(weir_sampler* sampler) {
    if (!sampler) {
        return;
    }
    const weir_allocator allocator = sampler->allocator;
    llm_array_free(&allocator, sampler->weights, sampler->token_count);
    llm_array_free(&allocator, sampler->order, sampler->token_count);
    llm_array_free(&allocator, sampler, 1);
}

uint32_t weir_sampler_size(const weir_sampler* sampler) {
    return sampler->token_count;
}

// Finds the largest logit, the lowest id among equals, and refuses what has no meaning.
static weir_status find_largest(const float* logits, uint32_t token_count, uint32_t* largest) {
    uint32_t best = 0;
    for (uint32_t id = 0; id < token_count; id++) {
        if (isnan(logits[id]) || logits[id] == INFINITY) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE, "the logit of token %u is %s", id,
                             isnan(logits[id]) ? "NaN" : "+inf");
        }
        best = logits[id] > logits[best] ? id : best;
    }
    if (logits[best] == -INFINITY) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "the logits of tokens 0 to %u are all -inf",
                         token_count - 1);
    }
    *largest = best;
    return WEIR_OK;
}

// Fills the weights exp((logit - largest) / temperature), each at most 1, and returns their sum.
static double weigh(weir_sampler* sampler, const float* logits, double largest) {
    const double temperature = (double)sampler->options.temperature;
    double sum = 0.0;
    for (uint32_t id = 0; id < sampler->token_count; id++) {
        sampler->weights[id] = exp(((double)logits[id] - largest) / temperature);
        sum += sampler->weights[id];
    }
    return sum;
}

// The order of candidates: heavier first, lower id first among equals.
static bool comes_before(const double* weights, uint32_t a, uint32_t b) {
    return weights[a] > weights[b] || (weights[a] == weights[b] && a < b);
}

static void sift_down(uint32_t* heap, uint32_t count, uint32_t at, const double* weights) {
    const uint32_t id = heap[at];
    while (at < count / 2) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < count && comes_before(weights, heap[child + 1], heap[child])) {
            child++;
        }
        if (!comes_before(weights, heap[child], id)) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = id;
}

// Moves the heaviest tokens to the end of `order`, heaviest last, until their weight reaches
// top_p of `sum`; returns how many, with their weight in `kept`. A heap costs O(n + k log n).
static uint32_t select_heaviest(weir_sampler* sampler, double sum, double* kept) {
    uint32_t* heap = sampler->order;
    const uint32_t count = sampler->token_count;
    for (uint32_t id = 0; id < count; id++) {
        heap[id] = id;
    }
    for (uint32_t at = count / 2; at > 0; at--) {
        sift_down(heap, count, at - 1, sampler->weights);
    }
    const double wanted = (double)sampler->options.top_p * sum;
    uint32_t taken = 0;
    double weight = 0.0;
    do {
        const uint32_t heaviest = heap[0];
        const uint32_t last = count - 1 - taken;
        heap[0] = heap[last];
        heap[last] = heaviest;
        sift_down(heap, last, 0, sampler->weights);
        weight += sampler->weights[heaviest];
        taken++;
    } while (weight < wanted && taken < count);
    *kept = weight;
    return taken;
}

// Walks `count` candidates in a fixed order and returns the one in whose share `point` lies, never
// one of weight 0. Rounding may leave `point` past the last share: then the last one with weight.
static uint32_t pick(const weir_sampler* sampler, uint32_t count, bool ordered, double point) {
    uint32_t chosen = 0;
    double passed = 0.0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t id = ordered ? sampler->order[sampler->token_count - 1 - i] : i;
        if (sampler->weights[id] > 0.0) {
            chosen = id;
            passed += sampler->weights[id];
            if (point < passed) {
                break;
            }
        }
    }
    return chosen;
}

weir_status weir_sampler_next(weir_sampler* sampler, const float* logits, uint32_t* id) {
    uint32_t largest = 0;
    WEIR_TRY(find_largest(logits, sampler->token_count, &largest));
    if (!sampler->weights) {
        *id = largest;
        return WEIR_OK;
    }
    double sum = weigh(sampler, logits, (double)logits[largest]);
    uint32_t count = sampler->token_count;
    if (sampler->order) {
        count = select_heaviest(sampler, sum, &sum);
    }
    *id = pick(sampler, count, sampler->order != NULL, next_unit(sampler) * sum);
    return WEIR_OK;
}
