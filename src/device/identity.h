// Who is who among the bytes of a device.
//
// A byte is named by a memory id and an offset in that memory:
//
//     HOST_MEMORY_ID      memory that had its address when its storage was made: the address
//     an id of its own    a lazy storage, counted from its first byte; a file, from its first byte
//
// Two tables of windows tell which bytes have other names too:
//
//     places    host addresses of lazy storages and mappings  ->  their own ids
//     aliases   any of the names above  ->  classes of bytes that callers declared to be the same
//
//     a  [....aaaaaaaa]                    class 7  [........]
//     b        [aaaaaaaa......]                      ^ both a and b lead there
//
// An access is recorded under the name of its storage and under every other name that its bytes
// have: then accesses conflict exactly where they share a byte, by whatever handles. Nearly every
// storage has one name only, which one look at a counter tells. Ids are counted up and never given
// twice.
#ifndef WEIR_DEVICE_IDENTITY_H
#define WEIR_DEVICE_IDENTITY_H

#include <pthread.h>
#include <stdatomic.h>
#include <weir/storage.h>

// Bytes [begin, + byte_size) of one memory are bytes [to_begin, + byte_size) of another.
typedef struct identity_window {
    uint64_t memory_id, begin, byte_size;
    uint64_t to_id, to_begin;
} identity_window;

// By memory and begin, rising; disjoint.
typedef struct identity_windows {
    identity_window* items;
    size_t count, capacity;
} identity_windows;

// A file with mappings; its id goes with the last of them, as the system may give the inode to
// another file then.
typedef struct identity_file {
    uint64_t device, inode;
    uint64_t memory_id;
    size_t mappings;
} identity_file;

typedef struct identity_files {
    identity_file* items;
    size_t count, capacity;
} identity_files;

typedef struct identity {
    atomic_uint_least64_t last_id;
    atomic_uint_least64_t epoch; // changes with the tables
    pthread_mutex_t lock;
    identity_windows places;
    identity_windows aliases;
    identity_files files;
    weir_storage* storages; // all of the device
} identity;

typedef struct access_array {
    weir_access* items;
    size_t count, capacity;
} access_array;

WEIR_MUST_USE weir_status identity_init(identity* names);
void identity_finish(const weir_allocator* allocator, identity* names);

// Returns an id that the device has never given before.
uint64_t identity_new_id(weir_device* device);

// Makes a storage with its name and size known to the device; undone by identity_leave, which does
// nothing for one that never joined. Aliases that were declared for its bytes hold at least as long
// as it.
void identity_join(weir_storage* storage);
void identity_leave(weir_storage* storage);

// Tells that the host address of a memory with an id of its own is known.
//
// Errors: WEIR_OUT_OF_MEMORY.
WEIR_MUST_USE weir_status identity_add_place(weir_device* device, const void* pointer,
                                             uint64_t byte_size, uint64_t memory_id,
                                             uint64_t memory_offset);
void identity_remove_place(weir_device* device, const void* pointer);

// Names host memory: as part of the memory that has its place there, else by its address.
void identity_name_host(weir_device* device, const void* pointer, uint64_t byte_size,
                        uint64_t* memory_id, uint64_t* memory_offset);

// Finds the id of a file (st_dev, st_ino), and keeps it until as many identity_forget_file.
//
// Errors: WEIR_OUT_OF_MEMORY.
WEIR_MUST_USE weir_status identity_name_file(weir_device* device, uint64_t file_device,
                                             uint64_t inode, uint64_t* memory_id);
void identity_forget_file(weir_device* device, uint64_t memory_id);

// Appends the other names of the bytes that item `position` of the list touches in a storage, under
// the name of that storage. On failure the list is as before.
//
// Errors: WEIR_OUT_OF_MEMORY.
WEIR_MUST_USE weir_status identity_append_names(weir_storage* storage, size_t position,
                                                access_array* list);

// Tells whether two views share a byte, by whatever names. The lists keep their memory: their owner
// frees them, with the allocator of the device.
//
// Errors: WEIR_INVALID_ARGUMENT no storage; WEIR_OUT_OF_MEMORY.
WEIR_MUST_USE weir_status identity_find_overlap(const weir_view* a, const weir_view* b,
                                                access_array names[2], bool* overlap);

// The accesses to a view by every name of its bytes. For nearly all views it is one, and takes no
// memory.
typedef struct identity_names {
    const weir_access* items;
    uint32_t count;
    weir_access one;
    access_array many;
} identity_names;

// Lists the accesses to a view, which has a storage; to be closed when that succeeds.
//
// Errors: WEIR_OUT_OF_MEMORY.
WEIR_MUST_USE weir_status identity_open_names(const weir_view* view, weir_access_kind kind,
                                              identity_names* names);
void identity_close_names(const weir_view* view, identity_names* names);

// Tells whether a pass in flight conflicts with an access to a view, which has a storage.
//
// Errors: WEIR_OUT_OF_MEMORY.
WEIR_MUST_USE weir_status identity_in_flight(const weir_view* view, weir_access_kind kind,
                                             bool* in_flight);

// The same for host memory in no particular storage, which the list names by its address.
//
// Errors: WEIR_OUT_OF_MEMORY.
WEIR_MUST_USE weir_status identity_append_host_names(weir_device* device, size_t position,
                                                     access_array* list);

#endif
