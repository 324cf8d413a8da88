#pragma once
// q4_block32: nibbles that stand for 16 levels.

#include "kernels/schemes/scales.h"
#include "quant/q4_block32.h"

namespace edgekit::EDGEKIT_ISA {

template <const int8_t (&kLevels)[16]>
struct Nibbles {
    using Sums = LevelSums;
    template <class F>
    EDGEKIT_INLINE static void for_each_line(const std::byte* codes, F&& f) {
        const LevelTable table = level_table(kLevels);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
            const u8x64 packed = load_line(codes + 64 * j);
            f(j, levels_low(table, packed));
            f(j + 4, levels_high(table, packed));
        }
    }
};

struct Q4 : Nibbles<q4_block32::kLevels>, ByteScales<LevelSums> {
    static constexpr LayoutInfo kLayout = q4_block32::kLayout;
    static constexpr int kRows = kStreamRows;
};

// Keys of an int4 cache: the same codes, other scales (quant/kv.h).
struct K4 : Nibbles<q4_block32::kLevels>, Bf16Scales {
    static constexpr LayoutInfo kLayout = q4_block32::kLayout;
    static constexpr int kRows = kStreamRows;
};

}  // namespace edgekit::EDGEKIT_ISA
