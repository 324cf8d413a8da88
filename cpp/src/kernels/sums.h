#pragma once
// What a scheme's products are to the sums of its rows: the same steps, in the same order, however many rows
// and tiles are computed together.

#include "kernels/blocks.h"

namespace edgekit::EDGEKIT_ISA {

template <class S>
concept HasMinima = requires(const std::byte* tile, size_t g) { S::minima(tile, g, g); };

// Where the sums of R rows and T tiles begin: at zero, or, for a scheme with minima, at the sums of its
// minima times those of the activations.
template <class S, int R, int T>
EDGEKIT_INLINE void begin_sums(const std::byte* const (&tiles)[T], size_t n_groups, const Rows& x,
                               f32x16 (&y)[R][T]) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) y[r][t] = splat(0.0f);
    if constexpr (HasMinima<S>)
        for (size_t g = 0; g < n_groups; ++g)
#pragma GCC unroll 8
            for (int t = 0; t < T; ++t) {
                const f32x16 minima = S::minima(tiles[t], n_groups, g);
#pragma GCC unroll 16
                for (int r = 0; r < R; ++r) y[r][t] = fma(minima, splat(x.group(r, g).sum), y[r][t]);
            }
}

// y + the sums of a group · its scales · the scale of the activations. Sums that take their factors as
// integers stay exact: 32 · 32 · 127 · 128 < 2^24.
template <class Sums, class Factors>
EDGEKIT_INLINE f32x16 add_group(f32x16 y, const Sums& sums, Factors factors, f32x16 scale) {
    if constexpr (requires { sums.total(factors); })
        return fma(to_f32(sums.total(factors)), scale, y);
    else
        return fma(to_f32(sums.total()), factors * scale, y);
}

}  // namespace edgekit::EDGEKIT_ISA
