#pragma once
// q6_block32: 6.25 bits per weight. The header of q4_block32, and codes of evenly spaced levels: four bits as
// nibbles, the upper two in planes.
//
//   weight[r][k] = row_scale[r] · group_scale[k / 32][r] · (code[r][k] - 32)
//
// Six bits are as many as sums of eight products in 16 bits bear: see q4_block32.
//
// Tile of 16 rows, G = ceil(k / 32) groups, columns past k having any code in a group whose activations are
// zero:
//   offset 0                    16 × float32  row scales
//   64                          G × 16 × int8 group scales: byte 16·g + r; then zeros up to a multiple of 64
//   64 + round_up64(16·G)       G × 384 bytes of codes: 256 bytes of nibbles as in q4_block32, the lower four
//                               bits; then two planes of 64 bytes: bits 2·j and 2·j + 1 of byte 4·r + b of
//                               plane h are the upper two bits of row r, column 32·g + 16·h + 4·j + b

#include "quant/layout.h"

namespace edgekit::q6_block32 {

inline constexpr int kZero = 32;  // the code of weight 0
inline constexpr LayoutInfo kLayout{"q6_block32", Layout::q6_block32, kGroup, 64, 16, 384};

}  // namespace edgekit::q6_block32
