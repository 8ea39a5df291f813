// Faults: mapped files that somebody cuts short.
//
// A mapping shows its file as it is. If another process truncates the file, touching a page that is
// gone raises SIGBUS, which ends the process, from a worker thread in the midst of a kernel. With
// the handler installed such a page of a mapping of weir (weir_storage_map, on any device) reads as
// zeros instead, nothing jumps out of the kernel, and the mapping counts as damaged for good:
//
//     weir_fault_handler_install();
//     ...
//     weir_session_finish(session);     // WEIR_IO: model.gguf: bytes from 8192 on are lost
//
// Every pass that reads a damaged mapping ends with WEIR_IO, also one that met no lost page: the
// sizes of the files are compared at the end of each pass. That costs one look at each mapping that
// the pass reads, which is why the handler is installed on request only.
//
// Signal handlers belong to the whole process: this is the only state that the library keeps
// outside of its objects. Faults at other addresses go to the handler that was there before.
#ifndef WEIR_FAULT_H
#define WEIR_FAULT_H

#include <weir/status.h>

WEIR_C_BEGIN

// Installs the handler for SIGBUS; mappings that exist already are protected, too. Calls are
// counted. The handler is async-signal-safe, and runs in the thread that faults.
//
// Errors:  WEIR_IO the system refuses.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_fault_handler_install(void);

// Undoes one call of weir_fault_handler_install; the last brings back the handler that was there
// before.
//
// Errors:  WEIR_INVALID_ARGUMENT not installed; WEIR_BUSY another handler was installed since,
//          which may call ours. It stays installed then.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_fault_handler_remove(void);

WEIR_C_END

#endif
