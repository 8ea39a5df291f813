// Recording, for what sessions do besides running the caller's kernels.
#ifndef WEIR_DEVICE_SESSION_RECORD_H
#define WEIR_DEVICE_SESSION_RECORD_H

#include "device/backend.h"

typedef struct session_record {
    weir_dispatch_desc desc;
    device_dispatch_kind kind;
    const weir_access* host; // bytes of the host that it touches besides its operands; or NULL
} session_record;

// Checks one operand of a dispatch, as weir_session_dispatch does.
WEIR_MUST_USE weir_status weir_session_check(const weir_session* session, const char* name,
                                             uint32_t index, const weir_operand* operand);

// As weir_session_dispatch.
WEIR_MUST_USE weir_status weir_session_record(weir_session* session, const session_record* record,
                                              weir_verdict* verdict);

// Copies bytes to where they stay until the pass is complete, or dropped.
WEIR_MUST_USE weir_status weir_session_keep(weir_session* session, const void* bytes,
                                            size_t byte_size, void** kept);

#endif
