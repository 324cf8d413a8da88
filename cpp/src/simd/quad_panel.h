#pragma once
// A panel's product on sets of 128-bit vectors: a tile's columns are four vectors, and V of them are
// multiplied at a time, so that the integer and the float sums of R rows stay in registers together.

#include <cstddef>

#include "quant/layout.h"

namespace edgekit::EDGEKIT_ISA {

// What kernels/panel.h asks of Sums::multiply. Part::panel<R, V>(lines, a, stride, totals) are the products
// of one group: `lines` of V vectors, each 64 bytes from the next.
template <class Part, int V, int R, class Rows>
EDGEKIT_INLINE void multiply_quads(const std::byte* panel, size_t g, size_t n, const Rows& x, bool add,
                                   float* sums) {
    for (int first = 0; first < 4; first += V, sums += 4 * V) {
        f32x4 y[R][V];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) y[r][v] = add ? load4(sums + 16 * r + 4 * v) : splat4(0.0f);
        const std::byte* lines = panel + 16 * first;
        for (size_t i = g; i < g + n; ++i, lines += kPanelGroupBytes) {
            i32x4 totals[R][V];
            Part::panel(lines, x.code(0, i), x.code_stride, totals);
            // The scales of a group's 16 columns follow its lines; `lines` is 16 · first bytes into them too.
            const auto* scales = reinterpret_cast<const float*>(lines + kPanelCodeBytes);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
                for (int v = 0; v < V; ++v)
                    y[r][v] = fma(to_f32(totals[r][v]),
                                  mul(load4(scales + 4 * v), splat4(x.group(r, i).scale)), y[r][v]);
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) store4(sums + 16 * r + 4 * v, y[r][v]);
    }
}

}  // namespace edgekit::EDGEKIT_ISA
