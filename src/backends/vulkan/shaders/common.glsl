// What all kernels share: the parameters of the pass, where operands begin, and arithmetic whose
// accuracy does not depend on the driver.
//
// Binding 0 holds the parameters; the operands follow in the order of the dispatch. A binding may
// begin before its operand, because offsets of bindings are aligned: push.offset says how far.
#ifndef COMMON_GLSL
#define COMMON_GLSL

#extension GL_EXT_shader_16bit_storage : require

#define NONE 0xFFFFFFFFu

layout(set = 0, binding = 0, std430) readonly buffer Params {
    uint params[];
};

layout(push_constant, std430) uniform Push {
    uint rows;       // of the dispatch, unless rows_param names a parameter
    uint rows_param;
    uint width;      // elements of a row
    uint columns;    // matmul: rows of w in this launch
    uint offset[7];  // of each operand, in its elements; 16-bit words for packed weights
    uint stride[7];  // from row to row, in the same unit
    uint extra[8];   // of the kernel
} push;

uint row_count() {
    return push.rows_param == NONE ? push.rows : params[push.rows_param];
}

float half_to_float(uint bits) {
    return unpackHalf2x16(bits).x;
}

float bfloat_to_float(uint bits) {
    return uintBitsToFloat(bits << 16);
}

// e^x to about one unit in the last place: x = n ln 2 + r, ln 2 in two parts, Taylor series of r.
float exp_exact(float x) {
    precise float bounded = min(max(x, -87.0), 88.0);
    precise float n = floor(bounded * 1.44269504 + 0.5);
    precise float r = (bounded - n * 0.693359375) + n * 2.12194440e-4;
    precise float sum = 1.0 / 5040.0;
    sum = sum * r + 1.0 / 720.0;
    sum = sum * r + 1.0 / 120.0;
    sum = sum * r + 1.0 / 24.0;
    sum = sum * r + 1.0 / 6.0;
    sum = sum * r + 0.5;
    sum = sum * r * r + r + 1.0;
    return x < -87.0 ? 0.0 : ldexp(sum, int(n));
}

#endif
