#version 450
// y = x * transpose(w) for one row of x and weights in blocks, as matmul_dots does it, by workgroups
// that keep x in 8 bits and take one group of columns after the other.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_spirv_intrinsics : require
#define DOTS
#include "common.glsl"
#include "few.glsl"
#include "units.glsl"
#include "unit_dots.glsl"
#include "held_products.glsl"
