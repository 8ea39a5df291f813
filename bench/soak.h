// What the parts of the soak benchmark share: one thread with its model, and memory that is counted
// and made to fail.
#ifndef WEIR_BENCH_SOAK_H
#define WEIR_BENCH_SOAK_H

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <weir-llm/generate.h>
#include <weir/weir.h>

#define SOAK_SHAPES 3  // of contexts: each has its own bits
#define SOAK_TOKENS 24 // of one text
#define SOAK_FLOATS 512

// What was done, in the order of the columns that are printed.
typedef enum soak_count {
    SOAK_TEXTS = 0,          // said in full, to the bit as the first time
    SOAK_TEXTS_DROPPED,      // ended in the middle
    SOAK_SESSIONS,           // committed, with the right bytes
    SOAK_SESSIONS_DROPPED,   // recorded, or committed and not waited for
    SOAK_DEVICES,            // opened, used for a text, closed
    SOAK_FAILED_ALLOCATIONS, // injected
    SOAK_FAILED_KERNELS,     // injected
    SOAK_REFUSED,            // wrong requests and broken files
    SOAK_COUNTS
} soak_count;

// What a text has to be: its tokens and a hash of its last logits.
typedef struct soak_text {
    uint32_t ids[SOAK_TOKENS];
    uint64_t logits_hash;
} soak_text;

typedef struct soak_thread {
    uint32_t index;
    const char* path; // of its model
    uint64_t random;  // state, never 0
    weir_device* device;
    weir_storage* meeting; // one storage of all threads: a counter
    weir_model* model;
    weir_tokenizer* tokenizer;
    weir_context* context; // of `shape`; NULL: none
    uint32_t shape;
    weir_storage* floats; // of its own, SOAK_FLOATS of them
    float mirror[SOAK_FLOATS];
    uint64_t meetings; // additions to the counter that were committed
    soak_text expected[SOAK_SHAPES];
    uint64_t counts[SOAK_COUNTS];
} soak_thread;

// Ends the program: something is not as it must be.
#define soak_require(condition, thread)                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "soak: thread %u, %s:%d: %s does not hold; last error: %s\n",          \
                    (thread)->index, __FILE__, __LINE__, #condition, weir_last_error());           \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static inline uint32_t soak_below(soak_thread* thread, uint32_t bound) { // xorshift64* (Vigna 2016)
    thread->random ^= thread->random >> 12;
    thread->random ^= thread->random << 25;
    thread->random ^= thread->random >> 27;
    return (uint32_t)((thread->random * UINT64_C(0x2545F4914F6CDD1D) >> 33) % bound);
}

// soak.c: the allocator of everything. Of the calling thread, the allocation after `calls` others
// fails, once; soak_disarm returns whether it came to that.
weir_allocator soak_allocator(void);
void soak_arm(uint32_t calls);
bool soak_disarm(void);

// soak_text.c: models, contexts, and texts that must come out as the first time.
void soak_open_model(soak_thread* thread);
void soak_close_model(soak_thread* thread);
void soak_learn_texts(soak_thread* thread);
void soak_say_text(soak_thread* thread);
void soak_say_on_own_device(soak_thread* thread);
void soak_starve_text(soak_thread* thread);
void soak_ask_wrong(soak_thread* thread);

// soak_session.c: sessions over memory of the thread's own, against a copy of it, and over the
// counter where all threads meet.
void soak_run_session(soak_thread* thread);
void soak_drop_session(soak_thread* thread);
void soak_starve_session(soak_thread* thread);
void soak_fail_kernel(soak_thread* thread);

#endif
