#pragma once
// q4_block32: 4.25 bits per weight. A group of 32 columns shares an 8-bit scale, a row one float32 scale.
//
//   weight[r][k] = row_scale[r] · group_scale[k / 32][r] · codebook[code[r][k]]
//
// The 16 levels minimise the squared error of groups of 32 weights, Gaussian and heavier-tailed ones, when
// the scale may take either sign, among integers of 6 bits. Two things follow from the 6 bits. level + 32 is
// unsigned and below 64: the operand that vpdpbusd, pmaddubsw, sdot and relaxed_dot_i8x16_i7x16 all take
// without overflow; the 32 is taken back through the sum of the activations. And eight products of a level
// and an 8-bit activation fit 16 bits (8 · 31 · 127 < 2^15), which halves the work of instruction sets that
// multiply into 16 bits.
//
// Tile of 16 rows, G = ceil(k / 32) groups, columns past k having code 8 in a group whose activations are
// zero:
//   offset 0                    16 × float32  row scales
//   64                          G × 16 × int8 group scales: byte 16·g + r; then zeros up to a multiple of 64
//   64 + round_up64(16·G)       G × 256 bytes of codes: line j of 4, byte 4·r + b of a group g holds
//                                   low nibble   row r, column 32·g + 4·j + b
//                                   high nibble  row r, column 32·g + 16 + 4·j + b

#include "quant/layout.h"

namespace edgekit::q4_block32 {

inline constexpr int8_t kLevels[16] = {-31, -24, -18, -14, -11, -8, -5, -2, 0, 3, 6, 9, 12, 16, 21, 30};
inline constexpr LayoutInfo kLayout{"q4_block32", Layout::q4_block32, kGroup, 64, 16, 256};

}  // namespace edgekit::q4_block32
