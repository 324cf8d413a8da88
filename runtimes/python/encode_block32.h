#pragma once
// converters/quant/block32.py in C++, for large models: the same choices, several times as fast. What tells
// the layouts apart comes from there; their bytes are in cpp/src/quant/<layout>.h.

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace edgekit::block32 {

inline constexpr uint32_t kTileRows = 16;
inline constexpr uint32_t kGroup = 32;

struct Coder {
    std::vector<std::array<float, 256>> starts;  // the levels of a byte, from each start
    std::array<uint8_t, 256> codes;              // the nearest code of a byte
    float steps;                                 // bytes an integer
    std::vector<uint32_t> fields;                // the bits of a code, low ones first: 4, 2 or 1 in a plane

    uint32_t bits() const;
    size_t tile_bytes(uint32_t k) const;

    // Packs 16 rows of `k` weights, one after another, into a tile. `importance`, if any, are the weights of
    // the columns' errors, zero up to a whole group.
    void encode(const float* rows, uint32_t k, const float* importance, uint8_t* tile) const;

private:
    float best_scale(const float* x, const float* importance) const;
};

}  // namespace edgekit::block32
