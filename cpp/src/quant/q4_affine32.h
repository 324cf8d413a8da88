#pragma once
// q4_affine32: 5 bits per weight, 4 of them its code. A group of 32 columns has a scale and a minimum: what
// other makers' 4-bit weights lie in unchanged.
//
//   weight[r][k] = row_factor[r] · (scale[k / 32][r] · code[r][k] + minimum[k / 32][r])
//
// The row factors are powers of two; they bring scales that float16 has no range for into it.
//
// Tile of 16 rows, G = ceil(k / 32) groups, columns past k having any code in a group whose activations are
// zero:
//   offset 0             16 × float32   row factors
//   64                   G × 16 × float16 scales: element 16·g + r
//   64 + 32·G            G × 16 × float16 minima: element 16·g + r
//   64 + 64·G            G × 256 bytes of codes: nibbles as in q4_block32

#include "quant/layout.h"

namespace edgekit::q4_affine32 {

[[gnu::always_inline]] constexpr size_t minima_offset(size_t n_groups) { return 64 + size_t{32} * n_groups; }
inline constexpr LayoutInfo kLayout{"q4_affine32", Layout::q4_affine32, kGroup, 64, 64, 256};

}  // namespace edgekit::q4_affine32
