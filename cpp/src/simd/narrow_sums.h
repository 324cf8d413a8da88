#pragma once
// The sums of a group's levels in 16 bits, for sets of 128-bit vectors whose multiplications end there: eight
// products of a level and an activation fit (quant/q4_block32.h), and a group has eight lines. Before it is
// included, the set defines
//
//   i16x8                              its vector of sums, and zero_i16()
//   add_low, add_high(sums, w, a)      sums + the products of the eight lower, or upper, signed bytes
//   add_fours(i16x8, i16x8)            an i32x4: the sums of four neighbours

#include "simd/sums.h"

namespace edgekit::EDGEKIT_ISA {

struct NarrowSums {
    i16x8 sums[8];
    EDGEKIT_INLINE void start(const int32_t*) {
        for (i16x8& s : sums) s = zero_i16();
    }
    EDGEKIT_INLINE void add(int, u8x64 line, const int8_t* a) {
        const u8x16 four = splat_bytes(a);
        const u8x16 rows[4] = {line.a, line.b, line.c, line.d};
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
            sums[2 * i] = add_low(sums[2 * i], rows[i], four);
            sums[2 * i + 1] = add_high(sums[2 * i + 1], rows[i], four);
        }
    }
    EDGEKIT_INLINE i32x16 total() const {
        return {add_fours(sums[0], sums[1]), add_fours(sums[2], sums[3]), add_fours(sums[4], sums[5]),
                add_fours(sums[6], sums[7])};
    }

    // Four weight rows at a time, so that the sums of several activation rows fit the registers.
    template <int R>
    EDGEKIT_INLINE static void panel(const std::byte* lines, const int8_t* a, size_t stride,
                                     i32x16 (&totals)[R][1]) {
        const auto quarter = [&](int rows, i32x4 i32x16::* part) EDGEKIT_INLINE_LAMBDA {
            i16x8 low[R], high[R];
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) low[r] = high[r] = zero_i16();
#pragma GCC unroll 8
            for (int j = 0; j < 8; ++j) {
                const u8x16 w = load_bytes(lines + 64 * j + 16 * rows);
#pragma GCC unroll 8
                for (int r = 0; r < R; ++r) {
                    const u8x16 four = splat_bytes(a + r * stride + 4 * j);
                    low[r] = add_low(low[r], w, four);
                    high[r] = add_high(high[r], w, four);
                }
            }
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) totals[r][0].*part = add_fours(low[r], high[r]);
        };
        quarter(0, &i32x16::a);
        quarter(1, &i32x16::b);
        quarter(2, &i32x16::c);
        quarter(3, &i32x16::d);
    }
};

}  // namespace edgekit::EDGEKIT_ISA
