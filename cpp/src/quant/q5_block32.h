#pragma once
// q5_block32: 5.25 bits per weight. The header of q4_block32, and codes of evenly spaced levels: four bits as
// nibbles, the fifth in a plane of its own.
//
//   weight[r][k] = row_scale[r] · group_scale[k / 32][r] · (code[r][k] - 16)
//
// Tile of 16 rows, G = ceil(k / 32) groups, columns past k having any code in a group whose activations are
// zero:
//   offset 0                    16 × float32  row scales
//   64                          G × 16 × int8 group scales: byte 16·g + r; then zeros up to a multiple of 64
//   64 + round_up64(16·G)       G × 320 bytes of codes: 256 bytes of nibbles as in q4_block32, the lower four
//                               bits; then a plane of 64 bytes: bit j of byte 4·r + b is the fifth bit of
//                                   row r, column 32·g + 4·j + b
//
// A plane's byte i has a bit for byte i of each of the eight lines of four columns that the codes expand to:
// lines 0 … 3 come from low nibbles, 4 … 7 from high ones, and each takes one shift of the plane.

#include "quant/layout.h"

namespace edgekit::q5_block32 {

inline constexpr int kZero = 16;  // the code of weight 0
inline constexpr LayoutInfo kLayout{"q5_block32", Layout::q5_block32, kGroup, 64, 16, 320};

}  // namespace edgekit::q5_block32
