// The products for instruction sets that have eight lanes of 32 bits, or two registers of four that
// count as eight: the body of one source file per set, which first includes the words of its set
// and defines LANES_SET, the name of the cpu_products that it makes.
//
// The words:
//
//     lanes_bytes     32 bytes                      lanes_load, _store, _set (all the same),
//                                                   _word (4 bytes, again and again), _or
//     lanes_ints      8 x int32                     lanes_int (all the same)
//     lanes_floats    8 x float                     lanes_load_floats, _store_floats, _float,
//                                                   _add, _mul, _fma (a b + c), _fnma (c - a b),
//                                                   _sum, _largest, _larger_magnitude
//     lanes_part      sums of products of bytes, 4 neighbours to a lane: lanes_part_zero,
//                     _part_add, at most LANES_STEPS(bits) times, _part_finish (adds it to ints)
//
//     lanes_down, _up       bytes shifted, and masked so that no bit of a neighbour is left
//     lanes_nibbles         the low nibbles of 16 bytes, then the high ones
//     lanes_where           `mask` in the bytes that have `bits` set, else 0
//     lanes_where_bits      `mask` in the bytes whose bit of 32 is set, else 0
//     lanes_look_up         the values that codes below 16 stand for, plus a number
//     lanes_to_floats, _from_f16, _from_bf16, _from_u8, _from_i8     eight numbers as floats
//     lanes_half            one of F16
//     lanes_twice           a b c d e f g h -> a a b b c c d d, e e f f g g h h
//     lanes_fours           a b -> a a a a b b b b
//     lanes_store_quants    32 floats, rounded to nearest even, as int8
//     lanes_add_fours       the sums of lanes 0 .. 3 and of 4 .. 7
//     lanes_transpose       eight rows of eight words
#include "backends/cpu/kernels/cpu_exp.h"
#include "backends/cpu/lanes/lanes_float.h"
#include "backends/cpu/lanes/lanes_quantized.h"

const cpu_products LANES_SET = {
    .quantized = quantized_types,
    .quantized_count = sizeof quantized_types / sizeof quantized_types[0],
    .floats = float_types,
    .float_count = sizeof float_types / sizeof float_types[0],
    .float_rows = LANES_FLOAT_ROWS,
    .float_rows_long = LANES_FLOAT_ROWS,
    .multiply_floats = multiply_floats,
    .silu_gate = cpu_silu_gate,
};
