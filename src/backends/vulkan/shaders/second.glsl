// A second operand that is combined element by element: a matrix, or one row for all rows.
//
// Two variables name its binding, for f32 and for 16-bit rows. Without one, another operand that is
// read anyway is bound there.
#ifndef SECOND_GLSL
#define SECOND_GLSL

#define SECOND_NONE 0u
#define SECOND_MATRIX 1u
#define SECOND_ROW_F32 2u
#define SECOND_ROW_F16 3u
#define SECOND_ROW_BF16 4u

layout(constant_id = SECOND_CONSTANT) const uint SECOND = SECOND_NONE;

layout(set = 0, binding = SECOND_BINDING, std430) readonly buffer Second32 { float second32[]; };
layout(set = 0, binding = SECOND_BINDING, std430) readonly buffer Second16 { uint16_t second16[]; };

// `slot` is that of its offset and stride.
float second_at(uint slot, uint row, uint column) {
    if (SECOND == SECOND_MATRIX) {
        return second32[push.offset[slot] + row * push.stride[slot] + column];
    }
    if (SECOND == SECOND_ROW_F32) {
        return second32[push.offset[slot] + column];
    }
    const uint bits = uint(second16[push.offset[slot] + column]);
    return SECOND == SECOND_ROW_F16 ? half_to_float(bits) : bfloat_to_float(bits);
}

#endif
