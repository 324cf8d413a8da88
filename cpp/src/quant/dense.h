#pragma once
// f32, f16, bf16: weights as they are. A tile of 16 rows holds element 16·k + r: row r, column k; an odd
// number of 16-bit columns is followed by a column of zeros, so that tiles stay multiples of 64 bytes.

#include "quant/layout.h"

namespace edgekit::dense {

inline constexpr LayoutInfo kF32{"f32", Layout::f32, 1, 0, 0, 64};
inline constexpr LayoutInfo kF16{"f16", Layout::f16, 1, 0, 0, 32};
inline constexpr LayoutInfo kBf16{"bf16", Layout::bf16, 1, 0, 0, 32};

}  // namespace edgekit::dense
