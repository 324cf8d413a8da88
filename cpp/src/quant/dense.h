#pragma once
// f32, f16, bf16: weights as they are. A tile of 16 rows holds element 16·k + r: row r, column k; an odd
// number of 16-bit columns is followed by a column of zeros, so that tiles stay multiples of 64 bytes.

#include "quant/layout.h"

namespace edgekit::dense {

[[gnu::always_inline]] constexpr size_t tile_bytes_32(uint32_t k) { return size_t{64} * k; }
[[gnu::always_inline]] constexpr size_t tile_bytes_16(uint32_t k) { return round_up64(size_t{32} * k); }

inline constexpr LayoutInfo kF32{"f32", tile_bytes_32, Layout::f32, false};
inline constexpr LayoutInfo kF16{"f16", tile_bytes_16, Layout::f16, false};
inline constexpr LayoutInfo kBf16{"bf16", tile_bytes_16, Layout::bf16, false};

}  // namespace edgekit::dense
