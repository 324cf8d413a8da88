#pragma once
// q8_block32: codes are bytes.

#include "kernels/schemes/scales.h"
#include "quant/q8_block32.h"

namespace edgekit::EDGEKIT_ISA {

struct Q8 : Bf16Scales {
    static constexpr LayoutInfo kLayout = q8_block32::kLayout;
    static constexpr int kRows = kStreamRows;
    using Sums = CodeSums;
    template <class F>
    EDGEKIT_INLINE static void for_each_line(const std::byte* codes, F&& f) {
#pragma GCC unroll 8
        for (int j = 0; j < 8; ++j) f(j, biased_codes(load_line(codes + 64 * j)));
    }
};

}  // namespace edgekit::EDGEKIT_ISA
