#pragma once
// Where a quantized scheme has the scales of its rows and groups.

#include "kernels/kernels.h"

namespace edgekit::EDGEKIT_ISA {

// Float32 for the rows, then 8 bits for the groups: q4_block32 and others with its header.
template <class Sums>
struct ByteScales {
    EDGEKIT_INLINE static const std::byte* at(const std::byte* tile, size_t g) { return tile + 64 + 16 * g; }
    EDGEKIT_INLINE static f32x16 scales(const std::byte* tile, size_t g) { return load_i8(at(tile, g)); }
    EDGEKIT_INLINE static auto factors(const std::byte* tile, size_t g) {
        if constexpr (requires { Sums::factors(at(tile, g)); })
            return Sums::factors(at(tile, g));
        else
            return scales(tile, g);
    }
    EDGEKIT_INLINE static f32x16 row_scale(const std::byte* tile) {
        return load(reinterpret_cast<const float*>(tile));
    }
};

// Bfloat16 for the groups, none for the rows: q8_block32 and the keys of the cache.
struct Bf16Scales {
    EDGEKIT_INLINE static f32x16 scales(const std::byte* tile, size_t g) {
        return load_bf16(reinterpret_cast<const uint16_t*>(tile) + 16 * g);
    }
    EDGEKIT_INLINE static f32x16 factors(const std::byte* tile, size_t g) { return scales(tile, g); }
    EDGEKIT_INLINE static f32x16 row_scale(const std::byte*) { return splat(1.0f); }
};

}  // namespace edgekit::EDGEKIT_ISA
