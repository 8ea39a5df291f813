// A model: a GGUF file mapped into memory, with every number and every tensor checked.
//
// Weights are views of the mapping: when a model is opened no weight is copied or read, but on a
// device with memory of its own, which gets its one copy then. The file must not shrink while the
// model is open (weir/fault.h says what happens if it does). A model that is split into several
// files is opened by the path of any of them; each is mapped on its own.
//
//     weir_model_open(NULL, device, "stories.gguf", NULL, &model);
//     weir_model_weight(model, "output_norm.weight", &view);
//     weir_model_destroy(model);
#ifndef WEIR_LLM_MODEL_H
#define WEIR_LLM_MODEL_H

#include <weir-llm/limits.h>
#include <weir-llm/llama.h>
#include <weir/device.h>
#include <weir/storage.h>

WEIR_C_BEGIN

typedef struct weir_model weir_model;

typedef struct weir_model_options {
    weir_limits limits;        // also of the contexts made of the model
    weir_progress_fn progress; // where the device gets a copy of the files: called by this thread;
                               // NULL: nobody asks
    void* progress_context;
} weir_model_options;

// Maps a file, or all parts of the set that it belongs to (weir_gguf_part_path), on a device and
// checks that it is a complete model. Options may be NULL.
//
// Ownership: the caller destroys it; the device must outlive it.
// Errors:    as weir_storage_map, weir_gguf_parse_parts, weir_gguf_part_path and
//            weir_llama_params_read; WEIR_NOT_FOUND a tensor is missing; WEIR_BAD_FORMAT a tensor
//            has another shape; WEIR_UNSUPPORTED a tensor has a type that weir cannot read, or one
//            without which results would silently be wrong cannot be used; WEIR_OUT_OF_RANGE a
//            limit is passed; WEIR_IO a file was cut short meanwhile; WEIR_CANCELLED the progress
//            was given up. The message names file and tensor, or what was found and is allowed.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_model_open(const weir_allocator* allocator,
                                                   weir_device* device, const char* path,
                                                   const weir_model_options* options,
                                                   weir_model** model);

// Closes the model; NULL is a no-op. Programs that use its weights keep the mapping.
//
// Threads: thread-compatible.
WEIR_API void weir_model_destroy(weir_model* model);

// Return facts of a model; pointers belong to it.
//
// Threads: thread-safe.
WEIR_API weir_device* weir_model_device(const weir_model* model);
WEIR_API const weir_gguf* weir_model_gguf(const weir_model* model);
WEIR_API const weir_llama_params* weir_model_params(const weir_model* model);
WEIR_API const weir_limits* weir_model_limits(const weir_model* model); // none of them 0
WEIR_API uint64_t weir_model_mapped_bytes(const weir_model* model);     // of all its files
WEIR_API uint64_t weir_model_copied_bytes(const weir_model* model);     // to the device
WEIR_API uint64_t weir_model_vocabulary_bytes(const weir_model* model); // weir_tokenizer_bytes

// Finds a weight by the name of its tensor.
//
// Ownership: the view borrows the model's storage.
// Errors:    WEIR_NOT_FOUND the model uses no such tensor.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_model_weight(const weir_model* model, const char* name,
                                                     weir_view* view);

WEIR_C_END

#endif
