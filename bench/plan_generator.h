// Planning problems of any size, the same on every machine: numbers of the generator are whole, and
// no function of the mathematical library is called.
//
// Sizes are lognormal but for the line between two powers of two: 2^x for a normal x of mean 12 and
// deviation 2, at least 1, at most 2^26. Of the lives 7 in 8 are short, 1 to 32 steps; 1 in 16 is
// up to a hundredth of the clock; 1 in 16 is up to a tenth, like a skip connection. The clock has
// one step per buffer. In problems of long lives each is up to half of the clock, so that nearly
// everything conflicts with everything.
#ifndef WEIR_BENCH_PLAN_GENERATOR_H
#define WEIR_BENCH_PLAN_GENERATOR_H

#include <weir/plan.h>

#define PLAN_GENERATOR_SEED 20231

// xorshift64* (Vigna 2016); the state is never 0.
static inline uint64_t generator_next(uint64_t* state) {
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return (x * 0x2545F4914F6CDD1Dull) >> 32;
}

// The sum of twelve uniform numbers is nearly normal, of deviation 1; x has 16 bits of fraction.
static inline uint64_t generator_size(uint64_t* state) {
    int64_t sum = 0;
    for (int i = 0; i < 12; ++i) {
        sum += (int64_t)(generator_next(state) >> 16);
    }
    int64_t x = (12 << 16) + 2 * (sum - (6 << 16));
    x = x < 0 ? 0 : x;
    x = x > (26 << 16) ? 26 << 16 : x;
    const uint64_t fraction = (uint64_t)x & 0xFFFF;
    return ((0x10000 + fraction) << (x >> 16)) >> 16;
}

// Fills arrays of `count` buffers and as many intervals, and points the problem at them.
static inline void plan_generate(uint32_t count, uint64_t seed, bool long_lives,
                                 weir_plan_buffer* buffers, weir_plan_interval* intervals,
                                 weir_plan_problem* problem) {
    uint64_t state = seed;
    const uint64_t clock = count > 0 ? count : 1;
    for (uint32_t i = 0; i < count; ++i) {
        const uint64_t kind = generator_next(&state) % 16;
        const uint64_t longest = long_lives   ? clock / 2
                                 : kind < 14  ? 32
                                 : kind == 14 ? clock / 100
                                              : clock / 10;
        const uint64_t begin = generator_next(&state) % clock;
        const uint64_t life = 1 + generator_next(&state) % (longest > 0 ? longest : 1);
        intervals[i] = (weir_plan_interval){(int64_t)begin, (int64_t)(begin + life)};
        buffers[i] = (weir_plan_buffer){
            .byte_size = generator_size(&state), .interval_begin = i, .interval_count = 1};
    }
    *problem = (weir_plan_problem){
        .buffers = buffers, .buffer_count = count, .intervals = intervals, .interval_count = count};
}

#endif
