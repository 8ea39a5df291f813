// Storage: one piece of memory with an identity, shared by reference count.
//
// A storage is owned (allocated by its device, at once or at the first touch), mapped (a read-only
// range of a file) or wrapped (memory of somebody else, given back through a callback). It has no
// lock: the schedule guarantees exclusive access while kernels run. Mapped storages are sealed:
// recording a write access to sealed memory is refused.
//
//     weir_storage* storage;
//     weir_storage_allocate(device, &(weir_storage_desc){.byte_size = 4096}, &storage);
//     weir_view_make(storage, 0, WEIR_DTYPE_F32, &shape, &view);
//     ...
//     weir_storage_release(storage);
#ifndef WEIR_STORAGE_H
#define WEIR_STORAGE_H

#include <weir/tracker.h>
#include <weir/view.h>

WEIR_C_BEGIN

typedef struct weir_device weir_device;

typedef enum weir_fill {
    WEIR_FILL_NONE = 0,   // whatever the memory held
    WEIR_FILL_ZERO = 1,   // zeros
    WEIR_FILL_POISON = 2, // 0xFF bytes, NaN in every float type: shows reads before writes
} weir_fill;

typedef struct weir_storage_desc {
    uint64_t byte_size;
    weir_fill fill;
    const char* name; // for messages; copied (31 bytes), may be NULL
    bool lazy;        // allocate at the first touch: by the host, or by a commit that names it
    bool device_only; // no host pointer and no host access, on any device; kernels see no
                      // difference
    bool for_kernels; // the host seldom looks: where kernels are fastest, with a host pointer only
                      // where the host maps that memory
    bool huge_pages;  // ask for pages of 2 MiB where that many bytes are needed
    bool host_reads;  // the host reads much of it: cached for the host where the device has a
                      // choice
} weir_storage_desc;

// Allocates memory of the device, aligned to at least 64 bytes. A lazy storage has its size and
// its identity at once and takes its memory once, whoever comes first: weir_storage_touch, a host
// pointer asked for, the commit of a dispatch that names it, or a program that it is bound to. If
// that fails, the next one tries again.
//
// Ownership: the caller holds one reference.
// Errors:    WEIR_OUT_OF_MEMORY, WEIR_DEVICE_OUT_OF_MEMORY; WEIR_INVALID_ARGUMENT unknown fill.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_storage_allocate(weir_device* device,
                                                         const weir_storage_desc* desc,
                                                         weir_storage** storage);

// How a mapping will be read: advice to the system, which changes no byte.
typedef enum weir_advice {
    WEIR_ADVICE_NORMAL = 0,
    WEIR_ADVICE_SEQUENTIAL = 1, // read ahead far, forget early
    WEIR_ADVICE_RANDOM = 2,     // do not read ahead
    WEIR_ADVICE_WILL_NEED = 3,  // begin to read now
    WEIR_ADVICE_DROP = 4,       // not needed for a while: give the pages back, read again on touch
} weir_advice;

// Called now and then while a file is copied, with the bytes that are; false gives up.
typedef bool (*weir_progress_fn)(void* context, uint64_t done_bytes, uint64_t total_bytes);

typedef struct weir_storage_map_desc {
    const char* path;     // opened read-only
    uint64_t byte_offset; // any; need not be a multiple of the page size
    uint64_t byte_size;   // 0: to the end of the file
    weir_advice advice;   // for the whole range
    weir_progress_fn
        progress; // where the device gets a copy: called by the thread that touches the
                  // storage first, the last time when all is done; NULL: nobody asks
    void* progress_context;
} weir_storage_map_desc;

// Maps a range of a file read-only; no byte is read until the host or a kernel touches it. A device
// with memory of its own gets a copy, once, when the storage is first touched as a lazy one is
// (weir_storage_touch, a commit, a program); the host reads the file before and after. The storage
// is sealed. See weir/fault.h for files that another process may cut short.
//
// Ownership: the caller holds one reference; the file may be closed or unlinked meanwhile.
// Aliasing:  mappings of the same bytes of one file are the same memory, wherever they lie.
// Errors:    WEIR_IO cannot be opened or mapped; WEIR_OUT_OF_RANGE the range passes the end of the
//            file; WEIR_INVALID_ARGUMENT empty file, unknown advice; WEIR_UNSUPPORTED device cannot
//            read host memory.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_storage_map(weir_device* device,
                                                    const weir_storage_map_desc* desc,
                                                    weir_storage** storage);

// Tells the system how bytes [byte_offset, + byte_size) of a mapped storage will be read; size 0
// means to the end. The system counts in pages: the pages at both ends are included.
//
// Errors:  WEIR_UNSUPPORTED not a mapping; WEIR_OUT_OF_RANGE past the end; WEIR_INVALID_ARGUMENT
//          unknown advice; WEIR_IO the system refuses.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_storage_advise(weir_storage* storage, uint64_t byte_offset,
                                                       uint64_t byte_size, weir_advice advice);

// Checks that a mapped storage still has all bytes of its file: to be asked before the host reads
// what it maps. Passes ask by themselves once the handler of weir/fault.h is installed. Other
// storages have nothing to lose.
//
// Errors:  WEIR_IO the file was cut short, or a page could not be read; the message names file and
//          offset. Once it has failed, it always does.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_storage_check(const weir_storage* storage);

// Called once, when the last reference is gone and no work in flight names the storage.
typedef void (*weir_storage_release_fn)(void* context, void* pointer);

typedef struct weir_storage_wrap_desc {
    void* pointer; // first byte, aligned for the dtypes that views will use
    uint64_t byte_size;
    bool sealed;                     // refuse write accesses
    weir_storage_release_fn release; // NULL: nothing to do
    void* context;                   // handed to `release`
    const char* name;                // for messages; copied (31 bytes), may be NULL
} weir_storage_wrap_desc;

// Wraps host memory that somebody else owns, without a copy.
//
// Ownership: the caller holds one reference; `pointer` must hold until `release` is called.
// Aliasing:  wraps that overlap, each other or any storage of the device, are the same memory where
//            they do: accesses through either conflict where they share a byte. Memory that is
//            mapped at two addresses must be declared: weir_storage_alias.
// Errors:    WEIR_INVALID_ARGUMENT NULL pointer with bytes; WEIR_UNSUPPORTED on this device.
// Threads:   thread-safe; `release` runs in the thread that drops the last reference.
WEIR_API WEIR_MUST_USE weir_status weir_storage_wrap(weir_device* device,
                                                     const weir_storage_wrap_desc* desc,
                                                     weir_storage** storage);

// Declares that bytes [byte_offset, + byte_size) of a storage are bytes [other_offset, + byte_size)
// of another, or of the same: one memory mapped at two addresses, which nothing else would show.
// From then on accesses conflict where they share a byte through either. It takes in everything
// that overlaps one of the two, now or later, and what was declared for their bytes before; it ends
// when no storage has bytes of one side any more.
//
//     weir_storage_wrap(device, &(weir_storage_wrap_desc){.pointer = a, .byte_size = n}, &left);
//     weir_storage_wrap(device, &(weir_storage_wrap_desc){.pointer = b, .byte_size = n}, &right);
//     weir_storage_alias(left, 0, right, 0, n);
//
// Dispatches that were recorded before do not know of it.
//
// Errors:  WEIR_OUT_OF_RANGE past the end of a storage; WEIR_BUSY work is in flight on the device;
//          WEIR_INVALID_ARGUMENT storages of two devices; WEIR_OUT_OF_MEMORY. Nothing is declared
//          then.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_storage_alias(weir_storage* storage, uint64_t byte_offset,
                                                      weir_storage* other, uint64_t other_offset,
                                                      uint64_t byte_size);

// Adds or drops one reference; NULL is a no-op. Sessions and programs hold references of their own
// to what they record, until completion.
//
// Threads: thread-safe.
WEIR_API void weir_storage_retain(weir_storage* storage);
WEIR_API void weir_storage_release(weir_storage* storage);

// Returns the bytes of the storage.
//
// Threads: thread-safe.
WEIR_API uint64_t weir_storage_byte_size(const weir_storage* storage);

// Refuses write accesses from now on.
//
// Errors:  WEIR_BUSY work is in flight on the device.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_storage_seal(weir_storage* storage);

// Tells whether write accesses are refused.
//
// Threads: thread-safe.
WEIR_API bool weir_storage_is_sealed(const weir_storage* storage);

// Allocates what a lazy storage has not taken yet, and makes the copy of a mapped file where the
// device needs one; does nothing otherwise.
//
// Errors:  WEIR_OUT_OF_MEMORY, WEIR_DEVICE_OUT_OF_MEMORY, for a copy before it begins; WEIR_IO the
//          file cannot be read; WEIR_CANCELLED the progress of a copy was given up. A later call
//          tries again.
// Threads: thread-safe; of several at once, one allocates and the others wait for it.
WEIR_API WEIR_MUST_USE weir_status weir_storage_touch(weir_storage* storage);

// Tells whether the storage has its memory: false for a lazy one before its first touch, and for a
// file of which the device has no copy yet.
//
// Threads: thread-safe.
WEIR_API bool weir_storage_is_allocated(const weir_storage* storage);

// Tells whether the device reads a copy of a mapped file, in memory of its own.
//
// Threads: thread-safe.
WEIR_API bool weir_storage_is_copied(const weir_storage* storage);

// Tells whether the system agreed to back the storage by huge pages; where it did not, or there is
// no memory yet, ordinary ones serve.
//
// Threads: thread-safe.
WEIR_API bool weir_storage_has_huge_pages(const weir_storage* storage);

// Returns the address of the first byte where the host can reach the memory, else NULL. Touches a
// lazy storage; where that fails, NULL is returned and weir_last_error says why.
//
// Threads: thread-safe.
WEIR_API void* weir_storage_host_pointer(const weir_storage* storage);

// Makes a contiguous view of a whole shape at `byte_offset` of `storage`.
//
// Ownership: the view borrows the storage.
// Errors:    WEIR_INVALID_ARGUMENT no storage, bad shape, rows of a block type that are not whole
//            blocks, address not aligned to the dtype; WEIR_OUT_OF_RANGE the view passes the end of
//            the storage.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_view_make(weir_storage* storage, uint64_t byte_offset,
                                                  weir_dtype dtype, const weir_shape* shape,
                                                  weir_view* view);

// Retains or releases the storage of a view; a view without storage is left alone.
//
// Threads: thread-safe.
WEIR_API void weir_view_retain(const weir_view* view);
WEIR_API void weir_view_release(const weir_view* view);

// Returns the exact bytes of the view in the memory of its storage; empty without a storage. Bytes
// with declared aliases have more ranges: weir_view_accesses.
//
// Threads: thread-safe.
WEIR_API weir_range weir_view_range(const weir_view* view);

// Returns the access of a dispatch to a view.
//
// Threads: thread-safe.
WEIR_API weir_access weir_access_from_view(const weir_view* view, weir_access_kind kind);

// Lists the accesses of a dispatch to a view under every name that its bytes have: that of
// weir_access_from_view, then one or more for each alias. A tracker of the caller must be given all
// of them; sessions do so themselves. At most `capacity` are written; `count` receives how many
// there are.
//
// Errors:  WEIR_INVALID_ARGUMENT no storage; WEIR_OUT_OF_MEMORY.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_view_accesses(const weir_view* view, weir_access_kind kind,
                                                      weir_access* accesses, uint32_t capacity,
                                                      uint32_t* count);

// Tells whether two views share a byte, under whatever names.
//
// Errors:  WEIR_INVALID_ARGUMENT no storage; WEIR_OUT_OF_MEMORY.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_view_overlaps(const weir_view* a, const weir_view* b,
                                                      bool* overlap);

// Returns the address of the first element where the host can reach the memory, else NULL: the
// pointer includes the offset of the view. A lazy storage is touched. No check against work in
// flight is made.
//
// Threads: thread-safe.
WEIR_API void* weir_view_contents(const weir_view* view);

// Where the device's own interface finds a view, for kernels and libraries that speak it.
typedef struct weir_native {
    uint64_t handle;      // of the memory: its address on a host device; else what the interface of
                          // the device calls a buffer (VkBuffer, CUdeviceptr)
    uint64_t byte_offset; // of the first byte of the view, counted from what `handle` names
    uint64_t byte_length; // from there to one past the last byte of the view
} weir_native;

// Returns the native handle of the memory of a view and the absolute offset in it, also where the
// host has no pointer. A lazy storage is touched.
//
// Ownership: the handle belongs to the storage and holds as long as it.
// Errors:    WEIR_INVALID_ARGUMENT no storage; as weir_storage_touch.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_view_native(const weir_view* view, weir_native* native);

// Writes "weights: F32 [6, 4] @32 (96 bytes)" to `text`, cut to `capacity`, and returns `text`: the
// name of the storage, then the view as by weir_view_format.
//
// Threads: thread-safe.
WEIR_API char* weir_view_describe(const weir_view* view, char* text, size_t capacity);

WEIR_C_END

#endif
