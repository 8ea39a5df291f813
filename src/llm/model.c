// Opening maps the file, parses its metadata and compares each tensor with what the hyperparameters
// ask for. After that a weight is one lookup and one view: nothing is kept per tensor.
#include <weir-llm/model.h>

#include <string.h>
#include <weir-llm/tokenizer.h>
#include <weir/target.h>

#include "llama.h"
#include "memory.h"
#include "model_files.h"

struct weir_model {
    weir_allocator allocator;
    weir_device* device;
    model_files files;
    weir_gguf* gguf; // points into the files
    weir_llama_params params;
    weir_limits limits;
    uint64_t vocabulary_bytes; // told while strings of the file are still read
};

// Vectors scale rows, which the kernels take as f32, f16 or bf16; the frequencies of RoPE only as
// f32.
static bool takes_dtype(llama_tensor tensor, const weir_shape* shape, weir_dtype dtype) {
    if (tensor == LLAMA_ROPE_FREQS) {
        return dtype == WEIR_DTYPE_F32;
    }
    if (shape->rank == 1) {
        return dtype == WEIR_DTYPE_F32 || dtype == WEIR_DTYPE_F16 || dtype == WEIR_DTYPE_BF16;
    }
    return weir_dtype_is_decodable(dtype);
}

// The device has kernels for a matrix as it lies in the file: rows of the embedding are looked up,
// and all others, with it where it serves as the output, are multiplied with.
static weir_status check_kernels(const weir_model* model, llama_tensor kind, const char* file,
                                 const char* name, const weir_view* w) {
    const weir_target* target = weir_device_target(model->device);
    const int64_t* dims = w->shape.dims;
    weir_view row; // of x, or what a lookup gives
    weir_view id;
    weir_view product;
    WEIR_TRY(
        weir_view_layout(WEIR_DTYPE_F32, &(weir_shape){.rank = 2, .dims = {1, dims[1]}}, &row));
    WEIR_TRY(weir_view_layout(WEIR_DTYPE_I32, &(weir_shape){.rank = 1, .dims = {1}}, &id));
    WEIR_TRY(
        weir_view_layout(WEIR_DTYPE_F32, &(weir_shape){.rank = 2, .dims = {1, dims[0]}}, &product));
    const bool looked_up = kind == LLAMA_TOKEN_EMBD;
    const bool multiplied = !looked_up || model->params.tied_output;
    const weir_kernel_use lookup = {(weir_view[]){*w, id, row}, 3, NULL};
    const weir_kernel_use matmul = {(weir_view[]){row, *w, product}, 3, NULL};
    if ((looked_up && !weir_llama_has_kernel(target, WEIR_OP_GET_ROWS, &lookup)) ||
        (multiplied && !weir_llama_has_kernel(target, WEIR_OP_MATMUL, &matmul))) {
        char shape[128];
        return WEIR_FAIL(WEIR_UNSUPPORTED,
                         "%s: tensor %s has type %s and shape %s, for which %s has no kernel", file,
                         name, weir_dtype_describe(w->dtype)->name,
                         weir_shape_format(&w->shape, shape, sizeof shape), target->name);
    }
    return WEIR_OK;
}

// A tensor is there, has the shape, has a type that its kernels take, and lies inside the file.
static weir_status check_tensor(const weir_model* model, llama_tensor kind, uint32_t block) {
    const llama_weight weight = weir_llama_weight(&model->params, kind, block);
    const weir_gguf_tensor* tensor = weir_gguf_find_tensor(model->gguf, weight.name);
    if (!tensor) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "%s: tensor %s is missing",
                         weir_gguf_file_name(model->gguf), weight.name);
    }
    const char* file = weir_gguf_part_name(model->gguf, tensor->part);
    if (!weir_shape_equal(&tensor->shape, &weight.shape)) {
        char found[128];
        char expected[128];
        return WEIR_FAIL(WEIR_BAD_FORMAT,
                         "%s: tensor %s has shape %s; the hyperparameters ask for %s", file,
                         weight.name, weir_shape_format(&tensor->shape, found, sizeof found),
                         weir_shape_format(&weight.shape, expected, sizeof expected));
    }
    if (!takes_dtype(kind, &weight.shape, tensor->dtype)) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "%s: tensor %s has type %s, which cannot be used there",
                         file, weight.name, weir_dtype_describe(tensor->dtype)->name);
    }
    weir_view view;
    WEIR_TRY(weir_model_weight(model, weight.name, &view)); // alignment and bounds
    return view.shape.rank == 2 ? check_kernels(model, kind, file, weight.name, &view) : WEIR_OK;
}

static bool ends_with(weir_text string, const char* end) {
    const size_t length = strlen(end);
    return string.length >= length &&
           memcmp(string.bytes + (string.length - length), end, length) == 0;
}

static bool is_in_a_block(weir_text name) {
    return name.length >= 4 && memcmp(name.bytes, "blk.", 4) == 0;
}

// Reads N of "blk.N.": decimal, at most so many digits as a number of blocks has.
static uint32_t block_of(weir_text name) {
    uint32_t block = 0;
    for (uint64_t i = 4; i < name.length && i < 8 && name.bytes[i] >= '0' && name.bytes[i] <= '9';
         i++) {
        block = 10 * block + (uint32_t)(name.bytes[i] - '0');
    }
    return block;
}

// Tells whether the pass uses a tensor of a block. Frequencies of RoPE, which old files hold for
// each block, are computed instead.
static bool is_used(const weir_llama_params* params, weir_text name) {
    const uint32_t block = block_of(name);
    for (llama_tensor tensor = LLAMA_ATTN_NORM; tensor < LLAMA_TENSOR_COUNT; tensor++) {
        const llama_weight weight = weir_llama_weight(params, tensor, block);
        if (block < params->blocks && name.length == strlen(weight.name) &&
            memcmp(name.bytes, weight.name, (size_t)name.length) == 0) {
            return true;
        }
    }
    return ends_with(name, ".attn_rot_embd.weight");
}

// Tensors that the pass does not use are ignored, except those without which the results would
// silently be wrong: biases, and what a block has beyond this architecture, or blocks beyond the
// number that the file says.
static weir_status check_extras(const weir_model* model) {
    uint64_t count = 0;
    const weir_gguf_tensor* tensors = weir_gguf_tensors(model->gguf, &count);
    for (uint64_t i = 0; i < count; i++) {
        const bool is_bias = ends_with(tensors[i].name, ".bias");
        if (is_bias ||
            (is_in_a_block(tensors[i].name) && !is_used(&model->params, tensors[i].name))) {
            char name[128];
            return WEIR_FAIL(WEIR_UNSUPPORTED, "%s: tensor %s: %s",
                             weir_gguf_part_name(model->gguf, tensors[i].part),
                             weir_text_escape(tensors[i].name, name, sizeof name),
                             is_bias ? "biases cannot be used"
                                     : "no block of this architecture and number uses it");
        }
    }
    return WEIR_OK;
}

static weir_status check_tensors(const weir_model* model) {
    for (llama_tensor tensor = 0; tensor < LLAMA_TENSOR_COUNT; tensor++) {
        const uint32_t blocks = tensor < LLAMA_ATTN_NORM ? 1 : model->params.blocks;
        for (uint32_t block = 0; block < blocks && weir_llama_uses(&model->params, tensor);
             block++) {
            WEIR_TRY(check_tensor(model, tensor, block));
        }
    }
    return check_extras(model);
}

// On failure the caller destroys the half-open model.
static weir_status open_model(weir_model* model, const char* path,
                              const weir_model_options* options) {
    WEIR_TRY(weir_model_files_open(&model->allocator, model->device, path, model->limits.file_bytes,
                                   &model->files, &model->gguf));
    WEIR_TRY(weir_llama_params_read(model->gguf, &model->params));
    if (model->params.vocabulary > model->limits.vocabulary) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%s: vocabulary: found %u tokens, allowed are %u",
                         weir_gguf_file_name(model->gguf), model->params.vocabulary,
                         model->limits.vocabulary);
    }
    model->vocabulary_bytes = weir_tokenizer_bytes(model->gguf);
    WEIR_TRY(check_tensors(model));
    WEIR_TRY(weir_model_files_check(&model->files));
    return weir_model_files_touch(&model->files, options ? options->progress : NULL,
                                  options ? options->progress_context : NULL);
}

// A device with memory of its own may have less of it than the machine.
static weir_limits limits_on(weir_device* device, const weir_limits* wanted) {
    weir_limits limits = weir_limits_resolve(wanted);
    const uint64_t device_bytes = weir_device_memory_now(device).total_bytes;
    const bool is_default = !wanted || wanted->memory_bytes == 0;
    if (is_default && device_bytes > 0 && device_bytes < limits.memory_bytes) {
        limits.memory_bytes = device_bytes;
    }
    return limits;
}

weir_status weir_model_open(const weir_allocator* allocator, weir_device* device, const char* path,
                            const weir_model_options* options, weir_model** model) {
    weir_model* opened = NULL;
    WEIR_TRY(llm_array_new(allocator, 1, &opened));
    *opened = (weir_model){.device = device,
                           .limits = limits_on(device, options ? &options->limits : NULL)};
    if (allocator) {
        opened->allocator = *allocator;
    }
    const weir_status status = open_model(opened, path, options);
    if (status != WEIR_OK) {
        weir_model_destroy(opened);
        return status;
    }
    *model = opened;
    return WEIR_OK;
}

void weir_model_destroy(weir_model* model) {
    if (!model) {
        return;
    }
    const weir_allocator allocator = model->allocator;
    // The parse points into the files and goes first.
    weir_gguf_destroy(model->gguf);
    weir_model_files_close(&allocator, &model->files);
    llm_array_free(&allocator, model, 1);
}

weir_device* weir_model_device(const weir_model* model) {
    return model->device;
}

const weir_gguf* weir_model_gguf(const weir_model* model) {
    return model->gguf;
}

const weir_llama_params* weir_model_params(const weir_model* model) {
    return &model->params;
}

const weir_limits* weir_model_limits(const weir_model* model) {
    return &model->limits;
}

uint64_t weir_model_mapped_bytes(const weir_model* model) {
    return model->files.byte_size;
}

uint64_t weir_model_vocabulary_bytes(const weir_model* model) {
    return model->vocabulary_bytes;
}

// The host copies nothing: the parser refuses files aligned to less than 8 bytes and a mapping
// begins at a page, so every type that can be used is read where it lies.
uint64_t weir_model_copied_bytes(const weir_model* model) {
    uint64_t copied = 0;
    for (uint32_t i = 0; i < model->files.count; i++) {
        const weir_storage* file = model->files.items[i].mapping;
        copied += weir_storage_is_copied(file) ? weir_storage_byte_size(file) : 0;
    }
    return copied;
}

weir_status weir_model_weight(const weir_model* model, const char* name, weir_view* view) {
    const weir_gguf_tensor* tensor = weir_gguf_find_tensor(model->gguf, name);
    if (!tensor) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "%s: tensor %s is missing",
                         weir_gguf_file_name(model->gguf), name);
    }
    return weir_view_make(model->files.items[tensor->part].mapping, tensor->byte_offset,
                          tensor->dtype, &tensor->shape, view);
}
