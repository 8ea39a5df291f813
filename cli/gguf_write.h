// Writes GGUF files, version 3: metadata first, then tensors in the order in which they are listed.
#ifndef WEIR_CLI_GGUF_WRITE_H
#define WEIR_CLI_GGUF_WRITE_H

#include "cli.h"
#include "output.h"

// Metadata and tensor infos, collected before anything is written. Zero-initialised = empty. The
// first failure is kept, and nothing is added after it.
typedef struct gguf_writer {
    cli_bytes values;
    cli_bytes infos;
    uint64_t value_count;
    uint64_t tensor_count;
    uint64_t data_size; // bytes of all tensors so far, each padded to the alignment
    weir_status status;
} gguf_writer;

void gguf_write_text(gguf_writer* writer, const char* key, const char* text);
void gguf_write_u32(gguf_writer* writer, const char* key, uint32_t number);
void gguf_write_u16(gguf_writer* writer, const char* key, uint16_t number);
void gguf_write_i32(gguf_writer* writer, const char* key, int32_t number);
void gguf_write_f32(gguf_writer* writer, const char* key, float number);

// Begins an array; its elements follow by gguf_write_element or gguf_write_element_text.
void gguf_write_array(gguf_writer* writer, const char* key, weir_gguf_type type, uint64_t count);
void gguf_write_element(gguf_writer* writer, const void* bytes, size_t byte_size);
void gguf_write_element_text(gguf_writer* writer, const char* text, size_t length);

// Lists a tensor. `type` is its number in the file format.
void gguf_write_tensor(gguf_writer* writer, const char* name, const weir_shape* shape,
                       uint32_t type, uint64_t byte_size);

// Writes everything up to the data of the first tensor.
//
// Errors: the first failure of the calls above; WEIR_IO.
WEIR_MUST_USE weir_status gguf_write_head(gguf_writer* writer, cli_output* output);

// Writes the padding behind a tensor of `byte_size` bytes.
//
// Errors: WEIR_IO.
WEIR_MUST_USE weir_status gguf_write_padding(cli_output* output, uint64_t byte_size);

// Releases what was collected; the writer is empty again.
void gguf_writer_free(gguf_writer* writer);

#endif
