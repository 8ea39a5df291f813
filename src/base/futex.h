// Sleeping on a word of memory (Linux futex(2)): the only blocking primitive of the executor.
#ifndef WEIR_BASE_FUTEX_H
#define WEIR_BASE_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

#define FUTEX_FOREVER UINT64_MAX

// Sleeps while `*word == expected`, at most `timeout_ns`; may return early for no reason.
void futex_wait(atomic_uint* word, unsigned expected, uint64_t timeout_ns);

// Wakes up to `count` sleepers.
void futex_wake(atomic_uint* word, unsigned count);

// Tells the core that this is a spin loop.
static inline void cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
