// The passes in flight of a device and the bytes that they touch: what a new pass must wait for.
//
// Numbers of passes (sequences) count from 1. At most PASSES_IN_FLIGHT lie between the oldest pass
// in flight and the newest, so that each has an entry of its own:
//
//     entries[sequence % PASSES_IN_FLIGHT].sequence == sequence    while it is in flight
//
// Lists of accesses are compared by a sweep. For that they are reduced when first compared:
//
//     accesses   | writes, by memory and offset | reads, by memory and offset |
//
// Ranges without gaps of one memory and kind that overlap or touch become one; strided ones stay
// as they are, so nothing is ever reported in conflict that is not.
#ifndef WEIR_DEVICE_FLIGHT_H
#define WEIR_DEVICE_FLIGHT_H

#include <weir/tracker.h>

#define PASSES_IN_FLIGHT 64

typedef struct flight_entry {
    uint64_t sequence;     // 0: empty
    weir_access* accesses; // of the pass; hold until it is complete
    uint32_t access_count;
    uint32_t write_count; // of those, at the beginning, once reduced
    bool reduced;
    bool fence; // touches what it did not declare: in conflict with everything
} flight_entry;

typedef struct flight {
    flight_entry entries[PASSES_IN_FLIGHT];
    uint64_t used; // bit i: entries[i] is in flight
} flight;

// Reduces a list in place and returns how many accesses are left; `write_count` receives how many
// of those write. At its old length the list still touches the same bytes: it can be used again.
uint32_t flight_reduce(weir_access* accesses, uint32_t count, uint32_t* write_count);

// Adds a pass, whose entry is empty. The list must hold, and belongs to the flight, until it is
// removed.
void flight_add(flight* passes, uint64_t sequence, weir_access* accesses, uint32_t count,
                bool fence);

// Removes a pass; false when it is not in flight.
bool flight_remove(flight* passes, uint64_t sequence);

// Tells whether a pass is in flight.
bool flight_has(const flight* passes, uint64_t sequence);

// Finds the passes in flight that conflict with a list of accesses in any order, or with everything
// (`fence`): a bit for each of their entries.
uint64_t flight_conflicts(flight* passes, const weir_access* accesses, uint32_t count, bool fence);

// Writes the numbers of the passes of `bits`, which are in flight, rising; returns how many.
uint32_t flight_list(const flight* passes, uint64_t bits, uint64_t sequences[PASSES_IN_FLIGHT]);

#endif
