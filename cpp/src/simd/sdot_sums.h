#pragma once
// The sums of products by sdot.

#include "simd/quad_panel.h"
#include "simd/sums.h"

namespace edgekit::EDGEKIT_ISA {

// sdot by lane: one load gives a row's activations for four lines.
struct CodeSums : WideSums<0, 1, dot_codes> {
    template <int R, int V>
    EDGEKIT_INLINE static void panel(const std::byte* lines, const int8_t* a, size_t stride,
                                     i32x4 (&totals)[R][V]) {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) totals[r][v] = splat4_i32(0);
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half, lines += 256) {
            int8x16_t x[R];
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) x[r] = vld1q_s8(a + r * stride + 16 * half);
            const auto line = [&]<int lane>() EDGEKIT_INLINE_LAMBDA {
#pragma GCC unroll 4
                for (int v = 0; v < V; ++v) {
                    const auto* bytes = reinterpret_cast<const int8_t*>(lines + 64 * lane + 16 * v);
                    const int8x16_t w = vld1q_s8(bytes);
#pragma GCC unroll 8
                    for (int r = 0; r < R; ++r) totals[r][v] = vdotq_laneq_s32(totals[r][v], w, x[r], lane);
                }
            };
            line.template operator()<0>();
            line.template operator()<1>();
            line.template operator()<2>();
            line.template operator()<3>();
        }
    }
    template <int R, class Rows>
    EDGEKIT_INLINE static void multiply(const std::byte* panel, size_t g, size_t n, const Rows& x, bool add,
                                        float* sums) {
        multiply_quads<CodeSums, 2, R>(panel, g, n, x, add, sums);
    }
};

}  // namespace edgekit::EDGEKIT_ISA
