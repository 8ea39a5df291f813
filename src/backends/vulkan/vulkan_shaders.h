// The compiled kernels. Their sources are shaders/*.comp; scripts/build_shaders.py makes the words.
#ifndef WEIR_BACKENDS_VULKAN_SHADERS_H
#define WEIR_BACKENDS_VULKAN_SHADERS_H

#include <stddef.h>
#include <stdint.h>

// X(name, storage buffers that it binds, the parameters at 0 included)
#define VULKAN_SHADER_LIST(X)                                                                      \
    X(attention, 5)                                                                                \
    X(attention_split, 7)                                                                          \
    X(elementwise, 4)                                                                              \
    X(get_rows, 5)                                                                                 \
    X(matmul, 5)                                                                                   \
    X(matmul_dots, 8)                                                                              \
    X(matmul_few, 8)                                                                               \
    X(matmul_half, 5)                                                                              \
    X(matmul_held, 8)                                                                              \
    X(matmul_units, 8)                                                                             \
    X(narrow, 4)                                                                                   \
    X(rms_norm, 6)                                                                                 \
    X(rope, 5)                                                                                     \
    X(set_rows, 3)                                                                                 \
    X(shadow, 30)

typedef enum vulkan_shader {
#define VULKAN_SHADER_ENUM(name, bindings) VULKAN_SHADER_##name,
    VULKAN_SHADER_LIST(VULKAN_SHADER_ENUM)
#undef VULKAN_SHADER_ENUM
        VULKAN_SHADER_COUNT
} vulkan_shader;

typedef struct vulkan_shader_code {
    const char* name;
    const uint32_t* words;
    size_t byte_size;
    uint32_t binding_count;
} vulkan_shader_code;

extern const vulkan_shader_code vulkan_shader_codes[VULKAN_SHADER_COUNT];

#endif
