#include "backends/vulkan/vulkan_cache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/array.h"
#include "base/file_bytes.h"

#define MAGIC UINT64_C(0x4B56524945570001) // "WEIRVK", and the version of the header
#define BYTES_MAX ((uint64_t)1 << 30)

typedef struct cache_header {
    uint64_t magic;
    uint32_t vendor_id, device_id, driver_version, api_version;
    uint8_t cache_uuid[VK_UUID_SIZE];
    uint64_t byte_size;
    uint64_t checksum; // of the data
} cache_header;

// FNV-1a (Fowler, Noll and Vo).
static uint64_t checksum_of(const uint8_t* bytes, size_t byte_size) {
    uint64_t sum = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < byte_size; i++) {
        sum = (sum ^ bytes[i]) * UINT64_C(0x100000001B3);
    }
    return sum;
}

static cache_header make_header(const vulkan_probe* probe, const void* data, size_t byte_size) {
    cache_header header = {.magic = MAGIC,
                           .vendor_id = probe->vendor_id,
                           .device_id = probe->device_id,
                           .driver_version = probe->driver_version,
                           .api_version = probe->api_version,
                           .byte_size = byte_size,
                           .checksum = checksum_of(data, byte_size)};
    memcpy(header.cache_uuid, probe->cache_uuid, sizeof header.cache_uuid);
    return header;
}

static bool is_for(const cache_header* header, const vulkan_probe* probe) {
    return header->magic == MAGIC && header->vendor_id == probe->vendor_id &&
           header->device_id == probe->device_id &&
           header->driver_version == probe->driver_version &&
           header->api_version == probe->api_version &&
           memcmp(header->cache_uuid, probe->cache_uuid, sizeof header->cache_uuid) == 0 &&
           header->byte_size > 0 && header->byte_size <= BYTES_MAX;
}

// Before memory is asked for: a header of a few bytes could name any size.
static bool has_bytes(FILE* file, uint64_t byte_size) {
    struct stat status;
    return fstat(fileno(file), &status) == 0 && status.st_size >= 0 &&
           (uint64_t)status.st_size == byte_size;
}

void vulkan_cache_read(const weir_allocator* allocator, const char* path, const vulkan_probe* probe,
                       void** data, size_t* byte_size) {
    cache_header header;
    void* bytes = NULL;
    FILE* file = fopen(path, "rbe");
    if (!file) {
        return;
    }
    const bool found =
        fread(&header, 1, sizeof header, file) == sizeof header && is_for(&header, probe) &&
        has_bytes(file, sizeof header + header.byte_size) &&
        weir_alloc(allocator, (size_t)header.byte_size, _Alignof(max_align_t), &bytes) == WEIR_OK;
    if (found && fread(bytes, 1, (size_t)header.byte_size, file) == header.byte_size &&
        fgetc(file) == EOF && checksum_of(bytes, (size_t)header.byte_size) == header.checksum) {
        *data = bytes;
        *byte_size = (size_t)header.byte_size;
    } else {
        weir_free(allocator, bytes, bytes ? (size_t)header.byte_size : 0, _Alignof(max_align_t));
    }
    fclose(file);
}

weir_status vulkan_cache_write(const char* path, const vulkan_probe* probe, const void* data,
                               size_t byte_size) {
    const cache_header header = make_header(probe, data, byte_size);
    char name[4096];
    if ((size_t)snprintf(name, sizeof name, "%s.XXXXXX", path) >= sizeof name) {
        return WEIR_FAIL(WEIR_IO, "%s: the path is too long", path);
    }
    const int handle = mkstemp(name);
    if (handle < 0) {
        return WEIR_FAIL(WEIR_IO, "%s: %s", name, strerror(errno));
    }
    bool good =
        file_write_all(handle, &header, sizeof header) && file_write_all(handle, data, byte_size);
    good = close(handle) == 0 && good;
    if (!good || rename(name, path) != 0) {
        const weir_status status = WEIR_FAIL(WEIR_IO, "%s: %s", path, strerror(errno));
        unlink(name);
        return status;
    }
    return WEIR_OK;
}
