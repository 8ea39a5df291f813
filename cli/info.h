// The two halves of `weir info`: models, and safetensors files.
#ifndef WEIR_CLI_INFO_H
#define WEIR_CLI_INFO_H

#include "cli.h"
#include "json.h"

typedef struct info_options {
    const char* path;
    uint32_t context; // of which the memory is told; 0: the default
    weir_limits limits;
    bool tensors;
    bool json;
} info_options;

cli_exit info_safetensors_command(const info_options* options);

// Writes the dimensions of a shape as the array "shape".
void info_json_shape(json* writer, const weir_shape* shape);

#endif
