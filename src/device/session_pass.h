// What one commit of a session records and keeps until it is complete.
//
// Dispatches are positions in arrays, which move while they grow. Constants and uploaded bytes lie
// in blocks that never move:
//
//     newest block | used ........ | room ... |  ->  | used ............. |  ->  | used |
//
// A pass that is complete is emptied and kept for the next session that needs one.
#ifndef WEIR_DEVICE_SESSION_PASS_H
#define WEIR_DEVICE_SESSION_PASS_H

#include "device/backend.h"

typedef struct byte_block {
    struct byte_block* next;
    size_t size, used; // of the bytes behind this header
} byte_block;

typedef struct recorded_dispatch {
    const char* name;
    device_dispatch_kind kind;
    bool fence;
    weir_kernel_fn kernel;
    weir_kernel_code code; // of no words: none
    const void* constants; // in a block
    size_t constants_size;
    uint32_t tile_count;
    uint32_t level; // edges on the longest path that ends here
    size_t operand_begin, access_begin, edge_begin;
    uint32_t operand_count, access_count, edge_count; // accesses: of the operands first
} recorded_dispatch;

struct device_pass {
    device_pass* next;
    uint64_t sequence;
    device_work* work;
    uint32_t waits; // edges on the longest path
    bool fence;     // one of the dispatches is
    uint64_t bytes_read, bytes_written;
    uint64_t ranges_widened;
    byte_block* blocks;
    struct {
        recorded_dispatch* items;
        size_t count, capacity;
    } recorded;
    struct {
        weir_view* items; // operands; each retains its storage
        size_t count, capacity;
    } views;
    struct {
        void** items; // one per operand, filled at commit
        size_t count, capacity;
    } pointers;
    access_array accesses;
    struct {
        weir_access* items; // of all dispatches, for other passes to be compared with
        size_t count, capacity;
    } touched;
    struct {
        uint32_t* items;
        size_t count, capacity;
    } edges;
    struct {
        device_dispatch* items; // resolved at commit
        size_t count, capacity;
    } dispatches;
};

// Makes an empty pass, or takes one that was kept.
WEIR_MUST_USE weir_status session_pass_create(weir_device* device, device_pass** pass);

// Releases what a pass has recorded, and the work made of it; it can record again.
void session_pass_empty(weir_device* device, device_pass* pass);

// Releases the storages of a pass, and keeps or releases its memory; NULL is a no-op.
void session_pass_destroy(weir_device* device, device_pass* pass);

// Finds room for `byte_size` bytes that stay where they are as long as the pass, aligned to 16.
WEIR_MUST_USE weir_status session_pass_bytes(weir_device* device, device_pass* pass,
                                             size_t byte_size, void** bytes);

// Turns positions into addresses, now that the arrays no longer move.
//
// Errors: WEIR_INVALID_ARGUMENT storage that is written was sealed since; of lazy storages that are
//         touched here; WEIR_OUT_OF_MEMORY.
WEIR_MUST_USE weir_status session_pass_resolve(const weir_device* device, device_pass* pass);

#endif
