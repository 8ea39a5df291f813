// Planning problems of any size, the same on every machine: numbers of the generator are whole, and
// no function of the mathematical library is called.
//
// Sizes are lognormal but for the line between two powers of two: 2^x for a normal x of mean 12 and
// deviation 2, at least 1, at most 2^26. The clock has one step per buffer. Shapes differ in lives:
//
//     mixed    7 in 8 short, 1 to 32 steps; 1 in 16 up to a hundredth of the clock; 1 in 16 up to a
//              tenth, like a skip connection
//     long     up to half of the clock, so that nearly everything conflicts with everything
//     uniform  up to a hundredth of the clock
//     powers   2^u steps for a uniform u, up to a tenth of the clock
//     sliding  a thousandth of the clock each: as one dies the next is born
//     gaps     as mixed, in two to four intervals with gaps between as long as these
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

typedef enum generator_shape {
    GENERATOR_MIXED,
    GENERATOR_LONG,
    GENERATOR_UNIFORM,
    GENERATOR_POWERS,
    GENERATOR_SLIDING,
    GENERATOR_GAPS,
    GENERATOR_SHAPES
} generator_shape;

#define PLAN_GENERATOR_SPANS 4 // intervals per buffer, at most

// The steps that a buffer lives, from its birth to its death.
static inline uint64_t generator_life(uint64_t* state, generator_shape shape, uint64_t clock,
                                      uint64_t kind) {
    const uint64_t mixed = kind < 14 ? 32 : kind == 14 ? clock / 100 : clock / 10;
    const uint64_t draw = generator_next(state);
    uint64_t longest = shape == GENERATOR_LONG      ? clock / 2
                       : shape == GENERATOR_UNIFORM ? clock / 100
                       : shape == GENERATOR_SLIDING ? clock / 1000
                                                    : mixed;
    longest = longest > 0 ? longest : 1;
    if (shape == GENERATOR_SLIDING) {
        return longest;
    }
    if (shape == GENERATOR_POWERS) {
        uint32_t powers = 1;
        while ((uint64_t)2 << powers <= clock / 10) {
            ++powers;
        }
        const uint64_t power = (uint64_t)1 << draw % powers;
        return power + generator_next(state) % power;
    }
    return 1 + draw % longest;
}

// Cuts a life into intervals with gaps between; returns how many.
static inline uint32_t generator_cut(uint64_t* state, weir_plan_interval life,
                                     weir_plan_interval* spans) {
    const int64_t wanted = 2 + (int64_t)(generator_next(state) % (PLAN_GENERATOR_SPANS - 1));
    const int64_t step = (life.end - life.begin) / (2 * wanted - 1);
    if (step == 0) {
        spans[0] = life;
        return 1;
    }
    for (int64_t k = 0; k < wanted; ++k) {
        const int64_t begin = life.begin + 2 * k * step;
        spans[k] = (weir_plan_interval){begin, k + 1 < wanted ? begin + step : life.end};
    }
    return (uint32_t)wanted;
}

// Fills arrays of `count` buffers and PLAN_GENERATOR_SPANS times as many intervals, and points the
// problem at them.
static inline void plan_generate(uint32_t count, uint64_t seed, generator_shape shape,
                                 weir_plan_buffer* buffers, weir_plan_interval* intervals,
                                 weir_plan_problem* problem) {
    uint64_t state = seed;
    uint32_t used = 0;
    const uint64_t clock = count > 0 ? count : 1;
    for (uint32_t i = 0; i < count; ++i) {
        const uint64_t kind = generator_next(&state) % 16;
        const int64_t begin = (int64_t)(generator_next(&state) % clock);
        const int64_t life = (int64_t)generator_life(&state, shape, clock, kind);
        const weir_plan_interval whole = {begin, begin + life};
        uint32_t spans = 1;
        intervals[used] = whole;
        if (shape == GENERATOR_GAPS) {
            spans = generator_cut(&state, whole, intervals + used);
        }
        buffers[i] = (weir_plan_buffer){
            .byte_size = generator_size(&state), .interval_begin = used, .interval_count = spans};
        used += spans;
    }
    *problem = (weir_plan_problem){
        .buffers = buffers, .buffer_count = count, .intervals = intervals, .interval_count = used};
}

#endif
