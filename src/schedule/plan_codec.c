#include "schedule/plan_codec.h"

#include <string.h>

static void write_bytes(plan_writer* writer, const void* bytes, size_t byte_size) {
    if (writer->status == WEIR_OK) {
        writer->status =
            array_reserve(writer->allocator, writer->bytes, writer->bytes->count + byte_size);
    }
    if (writer->status == WEIR_OK && byte_size > 0) {
        memcpy(writer->bytes->items + writer->bytes->count, bytes, byte_size);
        writer->bytes->count += byte_size;
    }
}

void plan_patch(uint8_t* bytes, uint64_t number, size_t byte_size) {
    for (size_t i = 0; i < byte_size; i++) {
        bytes[i] = (uint8_t)(number >> (8 * i));
    }
}

void plan_write_u32(plan_writer* writer, uint32_t number) {
    uint8_t bytes[sizeof number];
    plan_patch(bytes, number, sizeof bytes);
    write_bytes(writer, bytes, sizeof bytes);
}

void plan_write_u64(plan_writer* writer, uint64_t number) {
    uint8_t bytes[sizeof number];
    plan_patch(bytes, number, sizeof bytes);
    write_bytes(writer, bytes, sizeof bytes);
}

void plan_write_text(plan_writer* writer, const char* text) {
    const size_t length = strlen(text);
    if (length > INT32_MAX) {
        writer->status = WEIR_FAIL(WEIR_OUT_OF_RANGE, "a text of %zu bytes is too long", length);
    }
    plan_write_u32(writer, (uint32_t)length);
    write_bytes(writer, text, length + 1);
}

// The next bytes, or NULL where fewer are left.
static const uint8_t* take(plan_reader* reader, uint64_t byte_size) {
    reader->failed = reader->failed || byte_size > reader->byte_size - reader->at;
    if (reader->failed) {
        return NULL;
    }
    const uint8_t* bytes = reader->bytes + reader->at;
    reader->at += (size_t)byte_size;
    return bytes;
}

static uint64_t read_number(plan_reader* reader, size_t byte_size) {
    const uint8_t* bytes = take(reader, byte_size);
    uint64_t number = 0;
    for (size_t i = 0; bytes && i < byte_size; i++) {
        number |= (uint64_t)bytes[i] << (8 * i);
    }
    return number;
}

uint32_t plan_read_u32(plan_reader* reader) {
    return (uint32_t)read_number(reader, sizeof(uint32_t));
}

uint64_t plan_read_u64(plan_reader* reader) {
    return read_number(reader, sizeof(uint64_t));
}

const char* plan_read_text(plan_reader* reader) {
    const uint64_t length = plan_read_u32(reader);
    const char* text = (const char*)take(reader, length + 1);
    if (text && memchr(text, '\0', (size_t)length + 1) != text + length) {
        reader->failed = true;
    }
    return reader->failed ? "" : text;
}

size_t plan_read_skip(plan_reader* reader, uint64_t byte_size) {
    const size_t at = reader->at;
    take(reader, byte_size);
    return at;
}
