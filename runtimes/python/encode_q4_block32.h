#pragma once
// converters/quant/q4_block32.py in C++, for large models: the same choices, several times as fast. Constants
// and the layout of a tile are explained there and in docs/format.md.

#include <cstddef>
#include <cstdint>

namespace edgekit::q4_block32 {

inline constexpr uint32_t kTileRows = 16;
inline constexpr uint32_t kGroup = 32;

// Python's tables over a byte: the levels from each start, and the nearest code.
inline constexpr size_t kStarts = 4;

struct Tables {
    float levels[kStarts][256];
    uint8_t codes[256];
};

size_t tile_bytes(uint32_t k);

// Packs 16 rows of `k` weights, one after another, into a tile.
void encode(const float* rows, uint32_t k, const Tables& tables, uint8_t* tile);

}  // namespace edgekit::q4_block32
