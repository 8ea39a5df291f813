// Runs a schedule dispatch by dispatch on the calling thread: the reference of the checks. It
// shares no code with the executors of the back ends.
#ifndef WEIR_DEVICE_CHECK_SERIAL_H
#define WEIR_DEVICE_CHECK_SERIAL_H

#include <weir/check.h>

#include "schedule/schedule.h"

typedef struct check_serial {
    const weir_schedule* schedule;
    weir_allocator allocator;
    bool apart;      // every value has bytes of its own; else those of the plan
    uint8_t* memory; // arena, inputs, outputs and copies of the states
    uint64_t byte_size;
    uint64_t arena_bytes; // at the beginning of the memory
    uint8_t** roots;      // per value: its first byte; NULL for views and what is not used
} check_serial;

// Takes the memory and copies the states; undone by check_serial_free, also after a failure.
WEIR_MUST_USE weir_status check_serial_make(const weir_allocator* allocator,
                                            const weir_check_desc* desc, bool apart,
                                            check_serial* serial);
void check_serial_free(check_serial* serial);

// Sets the inputs of a pass and overwrites the arena with 0xFF.
WEIR_MUST_USE weir_status check_serial_begin(check_serial* serial, const weir_check_pass* pass);

// Runs all tiles of one dispatch.
WEIR_MUST_USE weir_status check_serial_run(check_serial* serial, uint32_t dispatch,
                                           const uint64_t* params);

// Overwrites the bytes of every value whose last use was `dispatch`.
void check_serial_bury(check_serial* serial, uint32_t dispatch);

// Bytes of a value that a pass with these parameters gives; all of it for a state.
uint64_t check_value_bytes(const weir_schedule* schedule, weir_value value, const uint64_t* params);

#endif
