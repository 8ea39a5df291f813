// The bytes of a snapshot, as docs/formats.md describes them, for who makes some up.
#ifndef WEIR_TESTS_SNAPSHOT_BYTES_H
#define WEIR_TESTS_SNAPSHOT_BYTES_H

#include <stdint.h>
#include <string.h>

#define SNAPSHOT_HEADER_BYTES 48
#define SNAPSHOT_CHECKSUM_AT 40

static inline uint64_t snapshot_mix(uint64_t hash, const uint8_t* bytes, size_t byte_size) {
    for (size_t at = 0; at < byte_size; at += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + at, byte_size - at < 8 ? byte_size - at : 8);
        hash = (hash ^ word) * 0x100000001B3u;
        hash ^= hash >> 32;
    }
    return hash;
}

// Makes the checksum of at least a header that of the other bytes.
static inline void snapshot_seal(uint8_t* bytes, size_t byte_size) {
    const uint64_t checksum =
        snapshot_mix(snapshot_mix(0xCBF29CE484222325u, bytes, SNAPSHOT_CHECKSUM_AT),
                     bytes + SNAPSHOT_HEADER_BYTES, byte_size - SNAPSHOT_HEADER_BYTES);
    memcpy(bytes + SNAPSHOT_CHECKSUM_AT, &checksum, sizeof checksum);
}

#endif
