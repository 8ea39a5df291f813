// The safetensors parser: tensors cover the data without hole and overlap, names are text.
#include "fuzz.h"

#include <weir/safetensors.h>

static void check_file(const weir_safetensors* file, size_t byte_size) {
    uint64_t count = 0;
    uint64_t covered = 0;
    const weir_safetensors_tensor* tensors = weir_safetensors_tensors(file, &count);
    for (uint64_t i = 0; i < count; i++) {
        const weir_safetensors_tensor* tensor = &tensors[i];
        fuzz_require(tensor->byte_offset <= byte_size);
        fuzz_require(tensor->byte_size <= byte_size - tensor->byte_offset);
        covered += tensor->byte_size;
        char* name = calloc(tensor->name.length + 1, 1);
        fuzz_require(name);
        memcpy(name, tensor->name.bytes, tensor->name.length);
        fuzz_require(strlen(name) == tensor->name.length);
        fuzz_require(weir_safetensors_find(file, name) == tensor);
        free(name);
        if (tensor->dtype != WEIR_DTYPE_NONE) {
            int64_t elements = 0;
            uint64_t bytes = 0;
            fuzz_require(weir_shape_check(&tensor->shape, &elements) == WEIR_OK);
            fuzz_require(weir_dtype_byte_size(tensor->dtype, elements, &bytes) == WEIR_OK);
            fuzz_require(bytes == tensor->byte_size);
        }
    }
    fuzz_require(covered < byte_size);
}

int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t byte_size) {
    fuzz_purse purse = {.most = 4 * byte_size + 1024};
    const weir_allocator allocator = fuzz_allocator(&purse);
    uint8_t* exact = fuzz_exact(bytes, byte_size);
    weir_safetensors* file = NULL;
    const weir_status status =
        weir_safetensors_parse(&allocator, exact, byte_size, "fuzz.safetensors", &file);
    fuzz_require(status != WEIR_OUT_OF_MEMORY);
    if (status == WEIR_OK) {
        check_file(file, byte_size);
    }
    weir_safetensors_destroy(file);
    fuzz_require(purse.live == 0);
    free(exact);
    return 0;
}
