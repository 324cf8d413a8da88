#pragma once
// q5_block32: nibbles and a plane of fifth bits.

#include "kernels/blocks.h"
#include "kernels/schemes/scales.h"
#include "quant/q5_block32.h"

namespace edgekit::EDGEKIT_ISA {

struct Q5 : ByteScales<LevelSums> {
    static constexpr LayoutInfo kLayout = q5_block32::kLayout;
    static constexpr int kRows = kOtherStreamRows;
    using Sums = LevelSums;
    template <class F>
    EDGEKIT_INLINE static void for_each_line(const std::byte* codes, F&& f) {
        const u8x64 plane = load_line(codes + 256);
        const auto level = [](u8x64 nibbles, u8x64 fifth) EDGEKIT_INLINE_LAMBDA {
            return (merge(splat_u8(15), nibbles, fifth) & splat_u8(31)) +
                   splat_u8(uint8_t(LevelSums::kBias - q5_block32::kZero));
        };
        for_each_count<4>([&]<int j>(Count<j>) EDGEKIT_INLINE_LAMBDA {
            const u8x64 packed = load_line(codes + 64 * j);
            f(j, level(packed, moved<4 - j>(plane)));
            f(j + 4, level(moved<-4>(packed), moved<-j>(plane)));
        });
    }
};

}  // namespace edgekit::EDGEKIT_ISA
