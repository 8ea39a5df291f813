#version 450
// y = x * transpose(w) for few rows of x and weights in blocks, in f32.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "few.glsl"
#include "few_sums.glsl"
#include "units.glsl"
#include "unit_products.glsl"
