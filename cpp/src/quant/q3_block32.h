#pragma once
// q3_block32: 3.25 bits per weight. The header of q4_block32, and codes of eight levels in planes of bits.
// The levels are those of least squared error (Lloyd's) for groups of real models' and of Gaussian weights.
//
//   weight[r][k] = row_scale[r] · group_scale[k / 32][r] · kLevels[code[r][k]]
//
// Tile of 16 rows, G = ceil(k / 32) groups, columns past k having any code in a group whose activations are
// zero:
//   offset 0                    16 × float32  row scales
//   64                          G × 16 × int8 group scales: byte 16·g + r; then zeros up to a multiple of 64
//   64 + round_up64(16·G)       G × 192 bytes of codes, three planes of 64 bytes:
//                               planes 0 and 1  bits 2·j and 2·j + 1 of byte 4·r + b of plane h are the lower
//                                               two bits of row r, column 32·g + 16·h + 4·j + b
//                               plane 2         bit j of byte 4·r + b is the third bit of row r,
//                                               column 32·g + 4·j + b

#include "quant/layout.h"

namespace edgekit::q3_block32 {

// Twice, for lookups that read four bits of an index of three.
inline constexpr int8_t kLevels[16] = {-31, -18, -10, -4, 2, 8, 15, 25, -31, -18, -10, -4, 2, 8, 15, 25};
inline constexpr LayoutInfo kLayout{"q3_block32", Layout::q3_block32, kGroup, 64, 16, 192};

}  // namespace edgekit::q3_block32
