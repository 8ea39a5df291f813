// Files of compiled pipelines: whatever the bytes, the reader hands on data exactly where the file
// is whole, undamaged and of this device and driver, and asks for no more memory than the file has
// bytes. Drivers need not survive data that is damaged.
//
// Bytes that begin as such a file does are taken for one. Others are changes to a file that is made
// here:
//
//     | bytes of data | changes (fuzz_changes.h) ... |
//
// Above 127, the size and the checksum of the changed file are made right, since a search would not
// get past them.
#include "fuzz_changes.h"

#include <sys/mman.h>
#include <unistd.h>

#include "backends/vulkan/vulkan_cache.h"

#define HEADER 56
#define DRIVER_AT 16
#define SIZE_AT 40
#define CHECKSUM_AT 48
#define DATA_MAX 127                  // bytes, of a file that is made here
#define CHANGED_MAX ((size_t)1 << 12) // bytes

static const vulkan_probe ours = {.vendor_id = 0x10DE,
                                  .device_id = 0x2330,
                                  .driver_version = 0x8C0A0040,
                                  .api_version = 0x00403114,
                                  .cache_uuid = "weir-pipelines"};
static uint8_t head[SIZE_AT]; // of every file of this device
static char path[64];         // of a file in memory
static int handle = -1;

static uint64_t read_number(const uint8_t* bytes) {
    uint64_t number = 0;
    for (int i = 7; i >= 0; i--) {
        number = number << 8 | bytes[i];
    }
    return number;
}

// FNV-1a, written anew.
static uint64_t checksum_of(const uint8_t* bytes, size_t byte_size) {
    uint64_t sum = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < byte_size; i++) {
        sum ^= bytes[i];
        sum *= UINT64_C(1099511628211);
    }
    return sum;
}

// Takes the head of files of this device from one that the writer made.
static void prepare(void) {
    char folder[] = "/tmp/weir-fuzz-XXXXXX";
    char written[64];
    fuzz_require(mkdtemp(folder));
    snprintf(written, sizeof written, "%s/cache", folder);
    fuzz_require(vulkan_cache_write(written, &ours, "data", 4) == WEIR_OK);
    FILE* file = fopen(written, "rb");
    fuzz_require(file && fread(head, 1, sizeof head, file) == sizeof head);
    fclose(file);
    unlink(written);
    rmdir(folder);
    handle = memfd_create("cache", MFD_CLOEXEC);
    fuzz_require(handle >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", handle);
}

static void write_file(const uint8_t* bytes, size_t byte_size) {
    fuzz_require(ftruncate(handle, 0) == 0);
    fuzz_require(pwrite(handle, bytes, byte_size, 0) == (ssize_t)byte_size);
}

static void seal(uint8_t* bytes, size_t byte_size) {
    if (byte_size >= HEADER) {
        fuzz_put(bytes + SIZE_AT, byte_size - HEADER, 8);
        fuzz_put(bytes + CHECKSUM_AT, checksum_of(bytes + HEADER, byte_size - HEADER), 8);
    }
}

static bool is_in_order(const vulkan_probe* probe, const uint8_t* bytes, size_t byte_size) {
    uint8_t wanted[SIZE_AT];
    memcpy(wanted, head, sizeof wanted);
    fuzz_put(wanted + DRIVER_AT, probe->driver_version, 4);
    return byte_size > HEADER && memcmp(bytes, wanted, SIZE_AT) == 0 &&
           read_number(bytes + SIZE_AT) == byte_size - HEADER &&
           read_number(bytes + CHECKSUM_AT) == checksum_of(bytes + HEADER, byte_size - HEADER);
}

static void check_read(const vulkan_probe* probe, const uint8_t* bytes, size_t byte_size) {
    const bool wanted = is_in_order(probe, bytes, byte_size);
    fuzz_purse purse = {.most = byte_size};
    const weir_allocator allocator = fuzz_allocator(&purse);
    void* data = NULL;
    size_t data_size = 0;
    vulkan_cache_read(&allocator, path, probe, &data, &data_size);
    fuzz_require((data != NULL) == wanted && purse.live == data_size);
    if (wanted) {
        fuzz_require(data_size == byte_size - HEADER);
        fuzz_require(memcmp(data, bytes + HEADER, data_size) == 0);
        weir_free(&allocator, data, data_size, _Alignof(max_align_t));
    } else {
        fuzz_require(data_size == 0 && !purse.refused);
    }
}

static uint8_t* changed_file(fuzz_input* input, size_t* byte_size) {
    const uint32_t choice = fuzz_byte(input);
    fuzz_bytes bytes = {malloc(CHANGED_MAX), HEADER + choice % (DATA_MAX + 1), CHANGED_MAX};
    fuzz_require(bytes.items);
    memcpy(bytes.items, head, SIZE_AT);
    for (size_t i = HEADER; i < bytes.count; i++) {
        bytes.items[i] = (uint8_t)(31 * i);
    }
    seal(bytes.items, bytes.count);
    fuzz_change(input, &bytes);
    if (choice > DATA_MAX) {
        seal(bytes.items, bytes.count);
    }
    *byte_size = bytes.count;
    return bytes.items;
}

int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t byte_size) {
    if (handle < 0) {
        prepare();
    }
    fuzz_input input = {bytes, byte_size};
    size_t file_size = byte_size;
    const bool is_file = byte_size >= 8 && memcmp(bytes, head, 8) == 0;
    uint8_t* file = is_file ? fuzz_exact(bytes, byte_size) : changed_file(&input, &file_size);
    write_file(file, file_size);
    check_read(&ours, file, file_size);
    vulkan_probe updated = ours;
    updated.driver_version++;
    check_read(&updated, file, file_size);
    free(file);
    return 0;
}
