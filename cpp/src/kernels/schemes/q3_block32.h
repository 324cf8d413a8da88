#pragma once
// q3_block32: two planes of lower pairs of bits and one of third bits, for 8 levels.

#include "kernels/blocks.h"
#include "kernels/schemes/scales.h"
#include "quant/q3_block32.h"

namespace edgekit::EDGEKIT_ISA {

struct Q3 : ByteScales<LevelSums> {
    static constexpr LayoutInfo kLayout = q3_block32::kLayout;
    static constexpr int kRows = kOtherStreamRows;
    using Sums = LevelSums;
    template <class F>
    EDGEKIT_INLINE static void for_each_line(const std::byte* codes, F&& f) {
        const u8x64 first = load_line(codes), second = load_line(codes + 64), plane = load_line(codes + 128);
        const LevelTable table = level_table(q3_block32::kLevels);
        const auto level = [&](u8x64 lower, u8x64 third) EDGEKIT_INLINE_LAMBDA {
            return levels_low(table, merge(splat_u8(3), lower, third));
        };
        for_each_count<4>([&]<int j>(Count<j>) EDGEKIT_INLINE_LAMBDA {
            f(j, level(moved<-2 * j>(first), moved<2 - j>(plane)));
            f(j + 4, level(moved<-2 * j>(second), moved<-2 - j>(plane)));
        });
    }
};

}  // namespace edgekit::EDGEKIT_ISA
