// Sampling in double precision: sums over 100,000 tokens then hold more digits than the float
// logits do, and a fixed order of every sum and walk makes a seed repeat its ids.
#include <weir-llm/sampler.h>

#include <float.h>
#include <math.h>
#include <string.h>

#include "memory.h"

struct weir_sampler {
    weir_allocator allocator;
    weir_sampler_options options; // with the default window
    uint32_t token_count;
    uint64_t state[4]; // of the random numbers, never all 0
    double* weights;   // [token_count] probability before scaling; NULL when greedy
    uint32_t* order;   // [token_count] heap of ids; NULL unless something cuts
    float* penalised;  // [token_count] logits after the penalty; NULL without one
    uint32_t* recent; // [options.repetition_window] the last tokens, a ring; NULL without a penalty
    uint32_t recent_count;
    uint32_t recent_next; // where the next one goes
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
    return (options->top_p > 0.0f && options->top_p < 1.0f) || options->top_k > 0 ||
           options->min_p > 0.0f;
}

static bool has_penalty(const weir_sampler_options* options) {
    return options->repetition_penalty > 0.0f && options->repetition_penalty != 1.0f;
}

static weir_status check_options(const weir_sampler_options* options, uint32_t token_count) {
    if (!(options->temperature >= 0.0f) || isinf(options->temperature)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "temperature is %g; expected a finite number >= 0",
                         (double)options->temperature);
    }
    if (!(options->top_p >= 0.0f && options->top_p <= 1.0f)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "top_p is %g; expected 0 to 1",
                         (double)options->top_p);
    }
    if (!(options->min_p >= 0.0f && options->min_p <= 1.0f)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "min_p is %g; expected 0 to 1",
                         (double)options->min_p);
    }
    if (!(options->repetition_penalty >= 0.0f) || isinf(options->repetition_penalty)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "repetition_penalty is %g; expected a finite number >= 0",
                         (double)options->repetition_penalty);
    }
    if (token_count == 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "a sampler needs at least one token");
    }
    return WEIR_OK;
}

// Takes the memory that the options ask for, and no other.
static weir_status make_lists(weir_sampler* sampler) {
    const weir_allocator* allocator = &sampler->allocator;
    const uint32_t token_count = sampler->token_count;
    if (sampler->options.temperature > 0.0f) {
        WEIR_TRY(llm_array_new(allocator, token_count, &sampler->weights));
        if (cuts_tail(&sampler->options)) {
            WEIR_TRY(llm_array_new(allocator, token_count, &sampler->order));
        }
    }
    if (has_penalty(&sampler->options)) {
        WEIR_TRY(llm_array_new(allocator, token_count, &sampler->penalised));
        WEIR_TRY(llm_array_new(allocator, sampler->options.repetition_window, &sampler->recent));
    }
    return WEIR_OK;
}

weir_status weir_sampler_create(const weir_allocator* allocator,
                                const weir_sampler_options* options, uint32_t token_count,
                                weir_sampler** sampler) {
    static const weir_sampler_options greedy = {0};
    options = options ? options : &greedy;
    WEIR_TRY(check_options(options, token_count));
    weir_sampler* created = NULL;
    WEIR_TRY(llm_array_new(allocator, 1, &created));
    *created = (weir_sampler){.options = *options, .token_count = token_count};
    if (allocator) {
        created->allocator = *allocator;
    }
    if (options->repetition_window == 0) {
        created->options.repetition_window = WEIR_SAMPLER_WINDOW_DEFAULT;
    }
    weir_sampler_reset(created, options->seed);
    const weir_status status = make_lists(created);
    if (status != WEIR_OK) {
        weir_sampler_destroy(created);
        return status;
    }
    *sampler = created;
    return WEIR_OK;
}

void weir_sampler_reset(weir_sampler* sampler, uint64_t seed) {
    seed_random(sampler->state, seed);
    sampler->recent_count = 0;
    sampler->recent_next = 0;
}

void weir_sampler_destroy(weir_sampler* sampler) {
    if (!sampler) {
        return;
    }
    const weir_allocator allocator = sampler->allocator;
    llm_array_free(&allocator, sampler->weights, sampler->token_count);
    llm_array_free(&allocator, sampler->order, sampler->token_count);
    llm_array_free(&allocator, sampler->penalised, sampler->token_count);
    llm_array_free(&allocator, sampler->recent, sampler->options.repetition_window);
    llm_array_free(&allocator, sampler, 1);
}

uint32_t weir_sampler_size(const weir_sampler* sampler) {
    return sampler->token_count;
}

static void remember(weir_sampler* sampler, uint32_t id) {
    const uint32_t window = sampler->options.repetition_window;
    if (sampler->recent) {
        sampler->recent[sampler->recent_next] = id;
        sampler->recent_next = (sampler->recent_next + 1) % window;
        sampler->recent_count += sampler->recent_count < window;
    }
}

weir_status weir_sampler_accept(weir_sampler* sampler, const uint32_t* ids, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (ids[i] >= sampler->token_count) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                             "token %zu is %u; the sampler is made for %u tokens", i, ids[i],
                             sampler->token_count);
        }
    }
    for (size_t i = 0; i < count; i++) {
        remember(sampler, ids[i]);
    }
    return WEIR_OK;
}

// Returns the logits with the penalty on the last tokens. Each is taken from its logit as it was
// given, so that a token that came twice is penalised once; none becomes -inf by it.
static const float* penalise(weir_sampler* sampler, const float* logits) {
    const float penalty = sampler->options.repetition_penalty;
    if (!sampler->recent) {
        return logits;
    }
    memcpy(sampler->penalised, logits, sampler->token_count * sizeof *logits);
    for (uint32_t i = 0; i < sampler->recent_count; i++) {
        const uint32_t id = sampler->recent[i];
        const float logit = logits[id];
        const float less = logit > 0.0f ? logit / penalty : logit * penalty;
        sampler->penalised[id] = isfinite(logit) && isinf(less) ? copysignf(FLT_MAX, less) : less;
    }
    return sampler->penalised;
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

static void make_heap(const weir_sampler* sampler) {
    const uint32_t count = sampler->token_count;
    for (uint32_t id = 0; id < count; id++) {
        sampler->order[id] = id;
    }
    for (uint32_t at = count / 2; at > 0; at--) {
        sift_down(sampler->order, count, at - 1, sampler->weights);
    }
}

// Moves the heaviest of the tokens that are still in the heap, all but `taken`, to its end.
static uint32_t take_heaviest(const weir_sampler* sampler, uint32_t taken) {
    uint32_t* heap = sampler->order;
    const uint32_t heaviest = heap[0];
    const uint32_t last = sampler->token_count - 1 - taken;
    heap[0] = heap[last];
    heap[last] = heaviest;
    sift_down(heap, last, 0, sampler->weights);
    return heaviest;
}

// Moves the candidates to the end of `order`, heaviest last; returns how many, with their weight in
// `sum`, which comes in as that of all tokens. Every rule keeps the heaviest down to some point, so
// the shortest list is that of all. The heaviest weighs 1. A heap costs O(n + k log n).
static uint32_t select_heaviest(const weir_sampler* sampler, double* sum) {
    const weir_sampler_options* options = &sampler->options;
    const uint32_t count = sampler->token_count;
    const uint32_t most = options->top_k > 0 && options->top_k < count ? options->top_k : count;
    const double top_p = options->top_p > 0.0f ? (double)options->top_p : 1.0;
    make_heap(sampler);
    uint32_t taken = 0;
    if (most < count) { // top_p is a share of the weight of these
        *sum = 0.0;
        for (; taken < most; taken++) {
            *sum += sampler->weights[take_heaviest(sampler, taken)];
        }
    }
    const double wanted = top_p < 1.0 ? top_p * *sum : INFINITY;
    uint32_t kept = 0;
    double weight = 0.0;
    do {
        if (taken == kept) {
            (void)take_heaviest(sampler, taken++);
        }
        const double heaviest = sampler->weights[sampler->order[count - 1 - kept]];
        if (heaviest < (double)options->min_p) {
            break;
        }
        weight += heaviest;
        kept++;
    } while (weight < wanted && kept < most);
    *sum = weight;
    return kept;
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

// Draws one of the tokens that the options leave.
static uint32_t draw(weir_sampler* sampler, const float* logits, uint32_t largest) {
    double sum = weigh(sampler, logits, (double)logits[largest]);
    uint32_t count = sampler->token_count;
    if (sampler->order) {
        count = select_heaviest(sampler, &sum);
    }
    return pick(sampler, count, sampler->order != NULL, next_unit(sampler) * sum);
}

weir_status weir_sampler_next(weir_sampler* sampler, const float* logits, uint32_t* id) {
    uint32_t largest = 0;
    logits = penalise(sampler, logits);
    WEIR_TRY(find_largest(logits, sampler->token_count, &largest));
    *id = sampler->weights ? draw(sampler, logits, largest) : largest;
    remember(sampler, *id);
    return WEIR_OK;
}
