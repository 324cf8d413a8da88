#pragma once
// f32, f16, bf16: weights as they are. A tile of 16 rows holds element 16·k + r: row r, column k; an odd
// number of 16-bit columns is followed by a column of zeros, so that tiles stay multiples of 64 bytes.

#include "quant/layout.h"

namespace edgekit::dense {

[[gnu::always_inline]] constexpr size_t tile_bytes(Layout layout, uint32_t k) {
    return layout == Layout::f32 ? size_t{64} * k : round_up64(size_t{32} * k);
}

}  // namespace edgekit::dense
