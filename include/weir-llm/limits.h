// Limits: what a model may ask of the machine that opens it.
//
// A model file is not trusted: its numbers decide how much memory a run takes. Every size that
// follows from them is computed and compared with these limits before it is taken. All 0 gives
// limits that fit the machine.
//
//     weir_model_options options = {.limits = {.memory_bytes = 2ull << 30, .context = 8192}};
//     weir_model_open(NULL, device, "model.gguf", &options, &model);
#ifndef WEIR_LLM_LIMITS_H
#define WEIR_LLM_LIMITS_H

#include <weir/status.h>

WEIR_C_BEGIN

#define WEIR_LIMIT_NONE UINT64_MAX     // of bytes: whatever the address space holds
#define WEIR_CONTEXT_MAX (1u << 24)    // positions; no model may have more
#define WEIR_VOCABULARY_MAX (1u << 24) // tokens; no model may have more

typedef struct weir_limits {
    uint64_t file_bytes;   // of all files of a model; 0: weir_machine_memory
    uint64_t memory_bytes; // that a context may need (weir_context_memory); 0: weir_machine_memory,
                           // or the memory of the device that a model is opened on where it is less
    uint32_t context;      // positions of a context; 0: WEIR_CONTEXT_MAX
    uint32_t vocabulary;   // tokens of a model; 0: WEIR_VOCABULARY_MAX
} weir_limits;

// Returns the limits that `wanted` (NULL: all defaults) stands for, each 0 replaced.
//
// Threads: thread-safe.
WEIR_API weir_limits weir_limits_resolve(const weir_limits* wanted);

// Returns the memory that this process may use, in bytes: that of the machine, or less where its
// address space or one of its control groups is held to less (Linux kernel documentation,
// cgroup-v2 "memory.max", cgroup-v1 "memory.limit_in_bytes"). WEIR_LIMIT_NONE where nothing is
// known.
//
// Threads: thread-safe.
WEIR_API uint64_t weir_machine_memory(void);

WEIR_C_END

#endif
