// Snapshots: changes to a whole one, with its checksum made right or not, give an error and leave
// the context as it was, or a text that goes on. Keys and values may say anything.
#include "fuzz_changes.h"

#include <sys/mman.h>
#include <unistd.h>
#include <weir-llm/snapshot.h>

#include "llama_file.h"
#include "snapshot_bytes.h"

#define TOKENS 3

static weir_context* context; // made once, with one worker: runs repeat
static uint8_t* whole;
static size_t whole_size;

static void prepare(void) {
    const weir_device_desc desc = {.name = "cpu", .thread_count = 1};
    weir_device* device = NULL;
    weir_model* model = NULL;
    char path[64];
    size_t byte_size = 0;
    uint8_t* bytes = tiny_llama(NULL, &byte_size);
    const int descriptor = memfd_create("model", MFD_CLOEXEC);
    fuzz_require(descriptor >= 0 && write(descriptor, bytes, byte_size) == (ssize_t)byte_size);
    free(bytes);
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    fuzz_require(weir_device_create(&desc, &device) == WEIR_OK);
    fuzz_require(weir_model_open(NULL, device, path, NULL, &model) == WEIR_OK);
    fuzz_require(weir_context_create(NULL, model, NULL, &context) == WEIR_OK);
    close(descriptor);
    const uint32_t ids[TOKENS] = {1, 4, 7};
    fuzz_require(weir_context_feed(context, ids, TOKENS, WEIR_OUTPUT_NONE) == WEIR_OK);
    whole_size = weir_snapshot_bytes(context);
    whole = malloc(whole_size);
    fuzz_require(whole && weir_snapshot_save(context, whole, whole_size) == WEIR_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t byte_size) {
    if (!whole) {
        prepare();
    }
    fuzz_input input = {bytes, byte_size};
    const size_t room = whole_size + 4096;
    fuzz_bytes changed = {malloc(room), whole_size, room};
    fuzz_require(changed.items);
    memcpy(changed.items, whole, whole_size);
    const bool is_right = fuzz_byte(&input) % 2;
    fuzz_change(&input, &changed);
    if (is_right && changed.count >= SNAPSHOT_HEADER_BYTES) {
        snapshot_seal(changed.items, changed.count);
    }
    uint8_t* exact = fuzz_exact(changed.items, changed.count);
    free(changed.items);
    // Each input begins with the same text, whatever came before.
    fuzz_require(weir_snapshot_load(context, whole, whole_size) == WEIR_OK);
    const weir_status status = weir_snapshot_load(context, exact, changed.count);
    free(exact);
    if (status != WEIR_OK) {
        fuzz_require(weir_last_error()[0] != '\0');
        fuzz_require(weir_context_position(context) == TOKENS);
        return 0;
    }
    const uint32_t next = 5;
    const uint32_t position = weir_context_position(context);
    const weir_status fed = weir_context_feed(context, &next, 1, WEIR_OUTPUT_LAST);
    fuzz_require(fed == (position < weir_context_length(context) ? WEIR_OK : WEIR_OUT_OF_RANGE));
    return 0;
}
