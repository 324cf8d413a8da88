#pragma once
// q4_block32: 4.25 bits per weight. A group of 32 columns shares an 8-bit scale, a row one float32 scale.
//
//   weight[r][k] = row_scale[r] · group_scale[k / 32][r] · codebook[code[r][k]]
//
// The 16 levels are those that minimise the squared error of groups of 32 Gaussian weights when the scale may
// take either sign (Lloyd's algorithm), rounded to 7 bits, so that level + 64 is an unsigned 7-bit number:
// the operand that vpdpbusd, pmaddubsw, sdot and relaxed_dot_i8x16_i7x16 all take without overflow. The 64 is
// taken back through the sum of the activations.
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

inline constexpr int8_t kLevels[16] = {-63, -50, -40, -31, -24, -17, -11, -5, 1, 7, 12, 18, 25, 32, 42, 55};
inline constexpr int kLevelOffset = 64;
inline constexpr size_t kGroupBytes = 256;

[[gnu::always_inline]] constexpr size_t scales_offset() { return 64; }
[[gnu::always_inline]] constexpr size_t codes_offset(uint32_t k) {
    return 64 + round_up64(size_t{16} * ((k + kGroup - 1) / kGroup));
}
[[gnu::always_inline]] constexpr size_t tile_bytes(uint32_t k) {
    return codes_offset(k) + kGroupBytes * ((k + kGroup - 1) / kGroup);
}

}  // namespace edgekit::q4_block32
