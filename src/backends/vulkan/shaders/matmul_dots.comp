#version 450
// y = x * transpose(w) for few rows of x and weights in blocks: x is rounded to 8 bits, and integers
// are multiplied, four at a time (VK_KHR_shader_integer_dot_product).
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_spirv_intrinsics : require
#define DOTS
#include "common.glsl"
#include "few.glsl"
#include "few_sums.glsl"
#include "units.glsl"
#include "unit_dots.glsl"
#include "unit_products.glsl"
