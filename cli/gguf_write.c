#include "gguf_write.h"

#include <string.h>

#define VERSION 3
#define ALIGNMENT 32 // the default of the format

static void append(gguf_writer* writer, cli_bytes* list, const void* bytes, size_t byte_size) {
    if (writer->status == WEIR_OK) {
        writer->status = cli_bytes_append(list, bytes, byte_size);
    }
}

static void append_text(gguf_writer* writer, cli_bytes* list, const char* text, size_t length) {
    append(writer, list, &(uint64_t){length}, sizeof(uint64_t));
    append(writer, list, text, length);
}

static void begin_value(gguf_writer* writer, const char* key, weir_gguf_type type) {
    append_text(writer, &writer->values, key, strlen(key));
    append(writer, &writer->values, &(uint32_t){(uint32_t)type}, sizeof(uint32_t));
    writer->value_count++;
}

void gguf_write_text(gguf_writer* writer, const char* key, const char* text) {
    begin_value(writer, key, WEIR_GGUF_STRING);
    append_text(writer, &writer->values, text, strlen(text));
}

void gguf_write_u32(gguf_writer* writer, const char* key, uint32_t number) {
    begin_value(writer, key, WEIR_GGUF_U32);
    append(writer, &writer->values, &number, sizeof number);
}

void gguf_write_u16(gguf_writer* writer, const char* key, uint16_t number) {
    begin_value(writer, key, WEIR_GGUF_U16);
    append(writer, &writer->values, &number, sizeof number);
}

void gguf_write_i32(gguf_writer* writer, const char* key, int32_t number) {
    begin_value(writer, key, WEIR_GGUF_I32);
    append(writer, &writer->values, &number, sizeof number);
}

void gguf_write_f32(gguf_writer* writer, const char* key, float number) {
    begin_value(writer, key, WEIR_GGUF_F32);
    append(writer, &writer->values, &number, sizeof number);
}

void gguf_write_array(gguf_writer* writer, const char* key, weir_gguf_type type, uint64_t count) {
    begin_value(writer, key, WEIR_GGUF_ARRAY);
    append(writer, &writer->values, &(uint32_t){(uint32_t)type}, sizeof(uint32_t));
    append(writer, &writer->values, &count, sizeof count);
}

void gguf_write_element(gguf_writer* writer, const void* bytes, size_t byte_size) {
    append(writer, &writer->values, bytes, byte_size);
}

void gguf_write_element_text(gguf_writer* writer, const char* text, size_t length) {
    append_text(writer, &writer->values, text, length);
}

static uint64_t padding_of(uint64_t byte_size) {
    return (ALIGNMENT - byte_size % ALIGNMENT) % ALIGNMENT;
}

// The format lists dimensions innermost first.
void gguf_write_tensor(gguf_writer* writer, const char* name, const weir_shape* shape,
                       uint32_t type, uint64_t byte_size) {
    append_text(writer, &writer->infos, name, strlen(name));
    append(writer, &writer->infos, &shape->rank, sizeof shape->rank);
    for (uint32_t i = shape->rank; i > 0; i--) {
        append(writer, &writer->infos, &shape->dims[i - 1], sizeof shape->dims[0]);
    }
    append(writer, &writer->infos, &type, sizeof type);
    append(writer, &writer->infos, &writer->data_size, sizeof writer->data_size);
    writer->data_size += byte_size + padding_of(byte_size);
    writer->tensor_count++;
}

weir_status gguf_write_padding(cli_output* output, uint64_t byte_size) {
    static const char zeros[ALIGNMENT];
    return cli_output_put(output, zeros, (size_t)padding_of(byte_size));
}

weir_status gguf_write_head(gguf_writer* writer, cli_output* output) {
    if (writer->status != WEIR_OK) {
        return writer->status;
    }
    cli_bytes head = {0};
    append(writer, &head, "GGUF", 4);
    append(writer, &head, &(uint32_t){VERSION}, sizeof(uint32_t));
    append(writer, &head, &writer->tensor_count, sizeof writer->tensor_count);
    append(writer, &head, &writer->value_count, sizeof writer->value_count);
    append(writer, &head, writer->values.items, writer->values.count);
    append(writer, &head, writer->infos.items, writer->infos.count);
    weir_status status = writer->status;
    if (status == WEIR_OK) {
        status = cli_output_put(output, head.items, head.count);
    }
    if (status == WEIR_OK) {
        status = gguf_write_padding(output, head.count);
    }
    cli_bytes_free(&head);
    return status;
}

void gguf_writer_free(gguf_writer* writer) {
    cli_bytes_free(&writer->values);
    cli_bytes_free(&writer->infos);
    *writer = (gguf_writer){0};
}
