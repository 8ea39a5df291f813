// States: memory that outlives the passes and grows with them, such as caches of keys and values.
//
// A state has `slot_count` slots (the keys of block 0, its values, the keys of block 1, ...), each
// with room for `row_count_max` rows. Addresses for all rows are reserved when it is made, and
// memory comes by growth: views and programs bound to it hold for good, and the bytes taken follow
// the text. Rows are appended in place, through views of the rows to come.
//
//     slot 0 |=====rows=====|~committed~|      reserved      |
//     slot 1 |=====rows=====|~committed~|      reserved      |
//
//     weir_state_desc desc = {.dtype = WEIR_DTYPE_F32, .row = row, .row_count_max = 4096};
//     weir_state_create(device, &desc, &state);
//     weir_state_view(state, 0, &binding.view);            // all rows: what a program binds
//     weir_state_grow(state, position + count);            // before the pass that writes them
//     weir_state_rows(state, 0, position, count, &view);   // where a kernel appends
//
// Rows lie where kernels are fastest: where the host does not map that, sessions copy them.
// A device without reserved addresses takes the memory for all rows at once. Where a storage is
// capped (weir_target.storage_bytes_max) the slots are shared out to several; a slot lies in one.
#ifndef WEIR_STATE_H
#define WEIR_STATE_H

#include <weir/storage.h>

WEIR_C_BEGIN

typedef struct weir_state weir_state;

typedef struct weir_state_desc {
    weir_dtype dtype;
    weir_shape row;        // of one row; at most WEIR_RANK_MAX - 1 dims
    int64_t row_count_max; // of each slot: the limit of growth
    uint32_t slot_count;   // 0 = 1
    const char* name;      // for messages; copied (31 bytes), may be NULL
} weir_state_desc;

// Reserves a state without rows.
//
// Ownership: the caller destroys it.
// Errors:    WEIR_INVALID_ARGUMENT a bad row or no rows; WEIR_OUT_OF_RANGE the size passes 2^63 - 1
//            bytes; WEIR_DEVICE_OUT_OF_MEMORY a slot passes the largest storage of the device, or
//            there is no more; WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_state_create(weir_device* device,
                                                     const weir_state_desc* desc,
                                                     weir_state** state);

// Drops the state's references to its memory; NULL is a no-op. Programs and sessions that use it
// keep theirs.
//
// Threads: thread-compatible.
WEIR_API void weir_state_destroy(weir_state* state);

// Makes a view of all rows of a slot, [row_count_max, row...]: what programs bind. A pass that
// would touch rows that the state has not grown to is refused at its commit (WEIR_OUT_OF_RANGE).
//
// Ownership: the view borrows the storage of the slot.
// Errors:    WEIR_NOT_FOUND no such slot.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_state_view(const weir_state* state, uint32_t slot,
                                                   weir_view* view);

// Makes a view of rows [first, first + count) of a slot, [count, row...].
//
// Ownership: the view borrows the storage of the slot.
// Errors:    WEIR_NOT_FOUND no such slot; WEIR_OUT_OF_RANGE rows that the state has not.
// Threads:   thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_state_rows(const weir_state* state, uint32_t slot,
                                                   int64_t first, int64_t count, weir_view* view);

// Lets every slot have at least `row_count` rows; what new rows hold is not said. Memory is
// committed a little ahead, by an eighth of what there is, so that few calls commit any.
//
// Errors:  WEIR_OUT_OF_RANGE more than row_count_max; WEIR_OUT_OF_MEMORY,
//          WEIR_DEVICE_OUT_OF_MEMORY the system gives no more: the state is as before.
// Threads: thread-compatible; passes may be in flight.
WEIR_API WEIR_MUST_USE weir_status weir_state_grow(weir_state* state, int64_t row_count);

// Forgets the rows from `row_count` on, of every slot, and gives back memory that growth to
// `row_count` would not commit.
//
// Errors:  WEIR_OUT_OF_RANGE more rows than there are; WEIR_BUSY a pass in flight touches a row
//          that would go.
// Threads: thread-compatible.
WEIR_API WEIR_MUST_USE weir_status weir_state_truncate(weir_state* state, int64_t row_count);

// Return facts of a state: how many storages it has, the one of a slot (borrowed; NULL: no such
// slot), the rows of each slot, the bytes that are committed for all slots, and those that would be
// with all rows.
//
// Threads: thread-compatible.
WEIR_API uint32_t weir_state_storage_count(const weir_state* state);
WEIR_API weir_storage* weir_state_storage(const weir_state* state, uint32_t slot);
WEIR_API int64_t weir_state_row_count(const weir_state* state);
WEIR_API uint64_t weir_state_committed_bytes(const weir_state* state);
WEIR_API uint64_t weir_state_reserved_bytes(const weir_state* state);

WEIR_C_END

#endif
