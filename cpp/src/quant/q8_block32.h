#pragma once
// q8_block32: 8.5 bits per weight. A group of 32 columns shares a bfloat16 scale (no subnormals to lose, a
// shift to read).
//
//   weight[r][k] = scale[k / 32][r] · code[r][k],   code in -127 … 127
//
// Tile of 16 rows, G = ceil(k / 32) groups, columns past k having code 0:
//   offset 0                  G × 16 × bfloat16 scales: element 16·g + r; then zeros up to a multiple of 64
//   round_up64(32·G)          G × 512 bytes of codes: line j of 8, byte 4·r + b of a group g holds
//                                 row r, column 32·g + 4·j + b

#include "quant/layout.h"

namespace edgekit::q8_block32 {

inline constexpr LayoutInfo kLayout{"q8_block32", Layout::q8_block32, kGroup, 0, 32, 512};

}  // namespace edgekit::q8_block32
