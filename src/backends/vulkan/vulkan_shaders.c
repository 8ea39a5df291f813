#include "backends/vulkan/vulkan_shaders.h"

static const uint32_t attention_words[] = {
#include "backends/vulkan/spirv/attention.inc"
};
static const uint32_t attention_split_words[] = {
#include "backends/vulkan/spirv/attention_split.inc"
};
static const uint32_t elementwise_words[] = {
#include "backends/vulkan/spirv/elementwise.inc"
};
static const uint32_t get_rows_words[] = {
#include "backends/vulkan/spirv/get_rows.inc"
};
static const uint32_t matmul_words[] = {
#include "backends/vulkan/spirv/matmul.inc"
};
static const uint32_t matmul_dots_words[] = {
#include "backends/vulkan/spirv/matmul_dots.inc"
};
static const uint32_t matmul_few_words[] = {
#include "backends/vulkan/spirv/matmul_few.inc"
};
static const uint32_t matmul_half_words[] = {
#include "backends/vulkan/spirv/matmul_half.inc"
};
static const uint32_t matmul_held_words[] = {
#include "backends/vulkan/spirv/matmul_held.inc"
};
static const uint32_t matmul_units_words[] = {
#include "backends/vulkan/spirv/matmul_units.inc"
};
static const uint32_t narrow_words[] = {
#include "backends/vulkan/spirv/narrow.inc"
};
static const uint32_t rms_norm_words[] = {
#include "backends/vulkan/spirv/rms_norm.inc"
};
static const uint32_t rope_words[] = {
#include "backends/vulkan/spirv/rope.inc"
};
static const uint32_t set_rows_words[] = {
#include "backends/vulkan/spirv/set_rows.inc"
};
static const uint32_t shadow_words[] = {
#include "backends/vulkan/spirv/shadow.inc"
};

const vulkan_shader_code vulkan_shader_codes[VULKAN_SHADER_COUNT] = {
#define VULKAN_SHADER_ROW(shader, bindings)                                                        \
    [VULKAN_SHADER_##shader] = {.name = #shader,                                                   \
                                .words = shader##_words,                                           \
                                .byte_size = sizeof shader##_words,                                \
                                .binding_count = (bindings)},
    VULKAN_SHADER_LIST(VULKAN_SHADER_ROW)
#undef VULKAN_SHADER_ROW
};
