#pragma once
// The sums of a group's levels in 16 bits, for sets of 128-bit vectors whose multiplications end there: eight
// products of a level and an activation fit (quant/q4_block32.h), and a group has eight lines. Before it is
// included, the set defines
//
//   i16x8                              its vector of sums, and zero_i16()
//   add_low, add_high(sums, w, a)      sums + the products of the eight lower, or upper, signed bytes
//   add_fours(i16x8, i16x8)            an i32x4: the sums of four neighbours
//   kNarrowVectors                     vectors of columns whose sums fit its registers, for a panel's rows

#include "simd/quad_panel.h"
#include "simd/sums.h"

namespace edgekit::EDGEKIT_ISA {

struct NarrowSums {
    static constexpr int kBias = 0;
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

    template <int R, int V>
    EDGEKIT_INLINE static void panel(const std::byte* lines, const int8_t* a, size_t stride,
                                     i32x4 (&totals)[R][V]) {
        i16x8 low[R][V], high[R][V];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) low[r][v] = high[r][v] = zero_i16();
#pragma GCC unroll 8
        for (int j = 0; j < 8; ++j) {
            u8x16 w[V];
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) w[v] = load_bytes(lines + 64 * j + 16 * v);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) {
                const u8x16 four = splat_bytes(a + r * stride + 4 * j);
#pragma GCC unroll 4
                for (int v = 0; v < V; ++v) {
                    low[r][v] = add_low(low[r][v], w[v], four);
                    high[r][v] = add_high(high[r][v], w[v], four);
                }
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) totals[r][v] = add_fours(low[r][v], high[r][v]);
    }
    template <int R, class Rows>
    EDGEKIT_INLINE static void multiply(const std::byte* panel, size_t g, size_t n, const Rows& x, bool add,
                                        float* sums) {
        multiply_quads<NarrowSums, kNarrowVectors, R>(panel, g, n, x, add, sums);
    }
};

}  // namespace edgekit::EDGEKIT_ISA
