#pragma once
// q4_affine32: nibbles as they are, scales and minima.

#include "kernels/schemes/q4_block32.h"
#include "quant/q4_affine32.h"

namespace edgekit::EDGEKIT_ISA {

inline constexpr int8_t kNibbles[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

struct Q4Affine : Nibbles<kNibbles> {
    static constexpr LayoutInfo kLayout = q4_affine32::kLayout;
    static constexpr int kRows = kOtherStreamRows;
    EDGEKIT_INLINE static f32x16 scales(const std::byte* tile, size_t g) {
        return load_f16(reinterpret_cast<const uint16_t*>(tile + 64 + 32 * g));
    }
    EDGEKIT_INLINE static f32x16 factors(const std::byte* tile, size_t g) { return scales(tile, g); }
    EDGEKIT_INLINE static f32x16 minima(const std::byte* tile, size_t n_groups, size_t g) {
        return load_f16(
            reinterpret_cast<const uint16_t*>(tile + q4_affine32::minima_offset(n_groups) + 32 * g));
    }
    EDGEKIT_INLINE static f32x16 row_scale(const std::byte* tile) {
        return load(reinterpret_cast<const float*>(tile));
    }
};

}  // namespace edgekit::EDGEKIT_ISA
