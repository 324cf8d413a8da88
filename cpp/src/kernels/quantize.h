#pragma once
// Activations to 8 bits, one ActivationGroup per row and group of 32.

#include "kernels/kernels.h"

namespace edgekit::EDGEKIT_ISA {

// One group: n ≤ 32 numbers to 32 codes.
EDGEKIT_INLINE void quantize_group(const float* x, size_t n, int8_t* codes, ActivationGroup& group) {
    const f32x16 a = load_part(x, n < 16 ? n : 16);
    const f32x16 b = n > 16 ? load_part(x + 16, n - 16) : splat(0.0f);
    const float peak = max_lane(max(abs(a), abs(b)));
    const f32x16 inverse = splat(peak > 1e-30f ? 127.0f / peak : 0.0f);
    // Numbers that are none can hide the peak: then codes are bounded here, and a damaged model gives
    // nonsense, never an overflow.
    const f32x16 least = splat(-127.0f), most = splat(127.0f);
    const auto code = [&](f32x16 v)
                          EDGEKIT_INLINE_LAMBDA { return round_i32(min(max(v * inverse, least), most)); };
    const i32x16 i = code(a), j = code(b);
    const int32_t total = sum(i + j);
    // Before the codes, which a compiler must take it to overwrite: it would read them back for their starts.
    group.scale = peak / 127.0f;
    group.sum = group.scale * float(total);
    store_i8(codes, i);
    store_i8(codes + 16, j);
    make_starts(codes, total, group.starts);
}

inline void quantize(const float* x, size_t stride_x, uint32_t m, uint32_t k, int8_t* codes,
                     ActivationGroup* groups) {
    const size_t n_groups = (k + kGroup - 1) / kGroup;
    for (size_t row = 0; row < m; ++row)
        for (size_t g = 0; g < n_groups; ++g) {
            const size_t left = k - g * kGroup, at = row * row_groups(k) + g;
            quantize_group(x + row * stride_x + g * kGroup, left < kGroup ? left : kGroup,
                           codes + at * kGroup, groups[at]);
        }
}

}  // namespace edgekit::EDGEKIT_ISA
