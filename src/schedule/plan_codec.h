// Numbers and texts as bytes, the lowest byte first on every machine. Both sides are sticky: after
// the first failure the rest does nothing, and one look at the end tells.
#ifndef WEIR_SCHEDULE_PLAN_CODEC_H
#define WEIR_SCHEDULE_PLAN_CODEC_H

#include "base/array.h"

typedef struct plan_bytes {
    uint8_t* items;
    size_t count, capacity;
} plan_bytes;

typedef struct plan_writer {
    const weir_allocator* allocator;
    plan_bytes* bytes; // appended to
    weir_status status;
} plan_writer;

void plan_write_u32(plan_writer* writer, uint32_t number);
void plan_write_u64(plan_writer* writer, uint64_t number);
void plan_write_text(plan_writer* writer, const char* text); // length, bytes, NUL

// Overwrites a number that was written as 0.
void plan_patch(uint8_t* bytes, uint64_t number, size_t byte_size);

typedef struct plan_reader {
    const uint8_t* bytes;
    size_t byte_size;
    size_t at;
    bool failed; // read past the end, or a text that is none
} plan_reader;

uint32_t plan_read_u32(plan_reader* reader);
uint64_t plan_read_u64(plan_reader* reader);
const char* plan_read_text(plan_reader* reader); // lies in the bytes; "" after a failure
size_t plan_read_skip(plan_reader* reader, uint64_t byte_size); // returns where it stood

#endif
