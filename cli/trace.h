// Records the tiles of the last passes of a context, worker by worker, or the dispatches where the
// device runs no functions of the host, and writes them in the trace event format that
// chrome://tracing and Perfetto read. All times are of the monotonic clock of the host. An arrow
// leads from a dispatch to each that waits for it, and names the hazards that it is for.
#ifndef WEIR_CLI_TRACE_H
#define WEIR_CLI_TRACE_H

#include <weir-llm/context.h>

#define TRACE_PASSES_DEFAULT 4
#define TRACE_PASSES_MAX 1024

typedef struct trace trace;

// Opens the file and records from now on what runs on the device of a context, of which the last
// `passes` passes are kept. The context must outlive the trace, `path` too.
WEIR_MUST_USE weir_status trace_start(weir_context* context, const char* path, uint32_t passes,
                                      trace** started);

// Ends the recording and writes what was kept; only once.
WEIR_MUST_USE weir_status trace_write(trace* t);

// Ends the recording and frees it; NULL is a no-op.
void trace_free(trace* t);

#endif
