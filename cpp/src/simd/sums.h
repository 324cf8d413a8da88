#pragma once
// The sums of 16 rows' products with one group of activations, the plain way: in 32 bits. Every set names its
// LevelSums and CodeSums (simd/scalar.h) and fills in the starts of a group.

#include <cstddef>
#include <cstdint>

namespace edgekit::EDGEKIT_ISA {

// Weights carry `bias`; starts[slot] is minus the bias for every activation.
template <int bias, int slot, i32x16 (*dot)(i32x16, u8x64, const int8_t*)>
struct WideSums {
    static constexpr int kBias = bias;
    i32x16 sums;
    EDGEKIT_INLINE void start(const int32_t* starts) { sums = splat_i32(bias ? starts[slot] : 0); }
    EDGEKIT_INLINE void add(int, u8x64 line, const int8_t* a) { sums = dot(sums, line, a); }
    EDGEKIT_INLINE i32x16 total() const { return sums; }
};

// The starts of those, from the sum of a group's codes.
template <int level_bias, int code_bias>
EDGEKIT_INLINE void make_wide_starts(int32_t sum, int32_t* starts) {
    starts[0] = -level_bias * sum;
    starts[1] = -code_bias * sum;
}

}  // namespace edgekit::EDGEKIT_ISA
