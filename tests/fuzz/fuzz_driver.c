// Runs a fuzz target without a fuzzer: each file of a corpus as it is, and mutations of it.
//
//     fuzz_gguf CORPUS [MUTATIONS]
#include "fuzz.h"

#include <dirent.h>

#define BYTES_MAX (1 << 20)

static uint64_t next_random(uint64_t* state) { // xorshift64* (Vigna 2016)
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545F4914F6CDD1D);
}

static uint64_t below(uint64_t* state, uint64_t bound) {
    return (next_random(state) >> 11) % bound;
}

// One small change: a bit, a byte, a number that is likely to be a bound, or a piece taken out.
static void mutate_once(uint64_t* state, uint8_t* bytes, size_t* byte_size) {
    static const uint64_t bounds[] = {0,          1,          0x7F,      0xFF,
                                      0x7FFFFFFF, UINT32_MAX, INT64_MAX, UINT64_MAX};
    const size_t place = (size_t)below(state, *byte_size);
    const size_t left = *byte_size - place;
    switch (below(state, 4)) {
    case 0:
        bytes[place] ^= (uint8_t)(1u << below(state, 8));
        break;
    case 1:
        bytes[place] = (uint8_t)next_random(state);
        break;
    case 2:
        memcpy(bytes + place, &bounds[below(state, sizeof bounds / sizeof bounds[0])],
               left < 8 ? left : 8);
        break;
    default: {
        const size_t length = (size_t)below(state, left < 16 ? left : 16) + 1;
        memmove(bytes + place, bytes + place + length, left - length);
        *byte_size -= length;
    }
    }
}

static void run_mutations(const uint8_t* bytes, size_t byte_size, uint64_t count) {
    uint64_t state = 88172645463325252u ^ byte_size;
    uint8_t* copy = malloc(byte_size);
    fuzz_require(copy);
    for (uint64_t i = 0; i < count; i++) {
        size_t length = byte_size;
        memcpy(copy, bytes, byte_size);
        for (uint64_t changes = 1 + below(&state, 4); changes > 0 && length > 0; changes--) {
            mutate_once(&state, copy, &length);
        }
        LLVMFuzzerTestOneInput(copy, length);
    }
    free(copy);
}

static void run_file(const char* path, uint64_t mutations) {
    FILE* file = fopen(path, "rb");
    fuzz_require(file);
    uint8_t* bytes = malloc(BYTES_MAX);
    fuzz_require(bytes);
    const size_t byte_size = fread(bytes, 1, BYTES_MAX, file);
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, byte_size);
    if (byte_size > 0) {
        run_mutations(bytes, byte_size, mutations);
    }
    free(bytes);
}

int main(int argument_count, char** arguments) {
    DIR* folder = argument_count > 1 ? opendir(arguments[1]) : NULL;
    if (!folder) {
        fprintf(stderr, "usage: %s CORPUS [MUTATIONS]\n", arguments[0]);
        return 64;
    }
    const uint64_t mutations = argument_count > 2 ? strtoull(arguments[2], NULL, 10) : 0;
    uint64_t files = 0;
    LLVMFuzzerTestOneInput((const uint8_t*)"", 0);
    for (struct dirent* entry = readdir(folder); entry; entry = readdir(folder)) {
        char path[1024];
        if (entry->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s", arguments[1], entry->d_name);
            run_file(path, mutations);
            files++;
        }
    }
    closedir(folder);
    printf("%llu files, %llu mutations of each\n", (unsigned long long)files,
           (unsigned long long)mutations);
    return files > 0 ? 0 : 1;
}
