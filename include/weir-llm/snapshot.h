// Snapshots: the text of a context as it stands, to go on with it later, elsewhere or several times
// without feeding it again.
//
// A snapshot holds the keys and values of all tokens that were fed, as bytes to be kept anywhere;
// another context of the same model takes them, be it longer, on another device or in another
// process. Logits are no part of it: who wants those of the last token saves before that is fed, or
// goes back by one and feeds it again.
//
//     uint64_t byte_size = weir_snapshot_bytes(context);
//     weir_snapshot_save(context, bytes, byte_size);
//     ...
//     weir_snapshot_load(other, bytes, byte_size);
//     weir_context_rewind(other, weir_context_position(other) - 1);
//     weir_context_feed(other, &last_id, 1, WEIR_OUTPUT_LAST);
//
// Contexts of one opened model need no bytes between them: weir_snapshot_copy.
#ifndef WEIR_LLM_SNAPSHOT_H
#define WEIR_LLM_SNAPSHOT_H

#include <weir-llm/context.h>

WEIR_C_BEGIN

// Returns the bytes of a snapshot of a context at its position.
//
// Threads: thread-compatible.
WEIR_API uint64_t weir_snapshot_bytes(const weir_context* context);

// Writes a snapshot of a context to the first weir_snapshot_bytes of `bytes`; the same text on the
// same device gives the same ones. docs/formats.md tells what they are.
//
// Errors:  WEIR_OUT_OF_RANGE `byte_size` is less; WEIR_OUT_OF_MEMORY; what the device says. What
//          was written to `bytes` is not said then.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_snapshot_save(const weir_context* context, void* bytes,
                                                      uint64_t byte_size);

// Replaces the text of a context by that of a snapshot. The bytes may be anything, but a snapshot
// that somebody made up is as good as any: its checksum guards against damage, and what identifies
// the model (its hyperparameters, and the beginning of each of its tensors) against mistakes.
//
// Errors:  WEIR_BAD_FORMAT no snapshot, or a damaged one; WEIR_INVALID_ARGUMENT of another model,
//          or keys and values of another type; WEIR_OUT_OF_RANGE more tokens than the context has
//          room for: it is as before then. WEIR_OUT_OF_MEMORY, WEIR_DEVICE_OUT_OF_MEMORY, what the
//          device says: it is empty then.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_snapshot_load(weir_context* context, const void* bytes,
                                                      uint64_t byte_size);

// Replaces the text of `to` by that of `from`, a context of the same opened model, on the device:
// to go on with one prompt in several ways. Of a context itself it does nothing.
//
// Errors:  WEIR_INVALID_ARGUMENT contexts of two models, or keys and values of two types;
//          WEIR_OUT_OF_RANGE more tokens than `to` has room for: it is as before then.
//          WEIR_OUT_OF_MEMORY, WEIR_DEVICE_OUT_OF_MEMORY, what the device says: it is empty then.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_snapshot_copy(const weir_context* from, weir_context* to);

WEIR_C_END

#endif
