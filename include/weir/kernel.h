// Kernels: the code of one operation, cut into tiles that run in any order and on any thread.
//
// One form serves weir's kernels and the caller's. A kernel on a host device is a C function that
// computes one tile; the tiles of a dispatch write disjoint bytes. Which bytes the dispatch touches
// is declared beside it and is what it will be held to: a kernel has no other memory than its
// operands.
//
//     static weir_status scale(const weir_kernel_call* call) {
//         float* x = call->pointers[0];
//         for (int64_t i = call->tile; i < call->views[0].shape.dims[0]; i += call->tile_count) ...
//         return WEIR_OK;
//     }
#ifndef WEIR_KERNEL_H
#define WEIR_KERNEL_H

#include <weir/view.h>

WEIR_C_BEGIN

// Memory of a worker for what its tiles of one dispatch share: a tile that finds it not filled may
// put there what the next ones would compute again, and say so. It is not filled when the worker
// comes to the dispatch; whoever counts on it works without it as well.
typedef struct weir_kernel_local {
    void* memory; // aligned to 64
    size_t byte_size;
    bool filled; // by an earlier tile of this dispatch and pass
} weir_kernel_local;

typedef struct weir_kernel_call {
    const weir_view* views;   // operands in the order of the dispatch, with the dims of this pass
    void* const* pointers;    // address of the first element of each operand
    uint32_t operand_count;   // of both lists
    uint32_t tile;            // which to compute: 0 .. tile_count - 1; tile_count for a join
    uint32_t tile_count;      // of the dispatch
    const void* constants;    // bytes given with the dispatch, aligned to 16
    const uint64_t* params;   // the parameter block of the pass; NULL in a session
    weir_kernel_local* local; // of the worker; NULL: none
} weir_kernel_call;

// Computes one tile. A status other than WEIR_OK ends the pass with that status and the message
// left by weir_status_fail; tiles that already run finish, no others start.
//
// Threads: called from worker threads of the device, for different tiles at the same time, and from
//          a host thread that waits, in place of one of them.
typedef weir_status (*weir_kernel_fn)(const weir_kernel_call* call);

// A kernel as code, for devices that do not run functions of the host: SPIR-V for Vulkan. Operand i
// of the dispatch is storage buffer i of set 0, the constants are pushed; what the code touches is
// declared beside it all the same. Operands begin at multiples of the alignment of the device's
// target (or of what its driver asks for, where that is less), and the constants are at most 128
// bytes, in words of 4. Code is compiled by the commit, which refuses words that are no SPIR-V, an
// entry that is not there, and buffers declared in another set or beyond the operands, used or not.
typedef struct weir_kernel_code {
    const uint32_t* words; // hold until the work is complete
    size_t byte_size;
    const char* entry;  // NULL = "main"
    uint32_t groups[3]; // workgroups of the dispatch; 0 = 1
} weir_kernel_code;

WEIR_C_END

#endif
