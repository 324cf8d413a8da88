#pragma once
// q6_block32: nibbles and two planes of upper pairs of bits.

#include "kernels/blocks.h"
#include "kernels/schemes/scales.h"
#include "quant/q6_block32.h"

namespace edgekit::EDGEKIT_ISA {

struct Q6 : ByteScales<LevelSums> {
    static constexpr LayoutInfo kLayout = q6_block32::kLayout;
    static constexpr int kRows = kOtherStreamRows;
    using Sums = LevelSums;
    template <class F>
    EDGEKIT_INLINE static void for_each_line(const std::byte* codes, F&& f) {
        const u8x64 first = load_line(codes + 256), second = load_line(codes + 320);
        const auto level = [](u8x64 nibbles, u8x64 upper) EDGEKIT_INLINE_LAMBDA {
            return (merge(splat_u8(15), nibbles, upper) & splat_u8(63)) +
                   splat_u8(uint8_t(LevelSums::kBias - q6_block32::kZero));
        };
        for_each_count<4>([&]<int j>(Count<j>) EDGEKIT_INLINE_LAMBDA {
            const u8x64 packed = load_line(codes + 64 * j);
            f(j, level(packed, moved<4 - 2 * j>(first)));
            f(j + 4, level(moved<-4>(packed), moved<4 - 2 * j>(second)));
        });
    }
};

}  // namespace edgekit::EDGEKIT_ISA
