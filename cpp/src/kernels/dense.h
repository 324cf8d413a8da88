#pragma once
// Dense weights times rows of floats.

#include "kernels/blocks.h"
#include "quant/dense.h"

namespace edgekit::EDGEKIT_ISA {

// Element 16 · k + r of a tile is row r, column k.
struct F32 {
    static constexpr LayoutInfo kLayout = dense::kF32;
    using Element = float;
    EDGEKIT_INLINE static f32x16 column(const Element* p) { return load(p); }
};
struct F16 {
    static constexpr LayoutInfo kLayout = dense::kF16;
    using Element = uint16_t;
    EDGEKIT_INLINE static f32x16 column(const Element* p) { return load_f16(p); }
};
struct Bf16 {
    static constexpr LayoutInfo kLayout = dense::kBf16;
    using Element = uint16_t;
    EDGEKIT_INLINE static f32x16 column(const Element* p) { return load_bf16(p); }
};

// y[R][T][16]
template <class D, int R, int T>
[[gnu::noinline]] void multiply_dense(const std::byte* const (&tiles)[T], size_t ahead, uint32_t k,
                                      const float* x, size_t stride_x, float* out) {
    f32x16 y[R][T];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) y[r][t] = splat(0.0f);
    for (size_t i = 0; i < k; ++i) {
        f32x16 column[T];
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
            const auto* p = reinterpret_cast<const typename D::Element*>(tiles[t]) + 16 * i;
            if constexpr (R == 1) prefetch(reinterpret_cast<const std::byte*>(p) + ahead);
            column[t] = D::column(p);
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int t = 0; t < T; ++t) y[r][t] = fma(splat(x[r * stride_x + i]), column[t], y[r][t]);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) store(out + 16 * (r * T + t), y[r][t]);
}

// Calls sink(row, tile, y: the products of 16 weight rows) for m rows and tiles [begin, end). A row's columns
// are added in the same order whatever else is computed.
template <class D, class Sink>
EDGEKIT_INLINE void dense_product(const Tiles& w, size_t begin, size_t end, uint32_t k, const float* x,
                                  size_t stride_x, uint32_t m, Sink&& sink) {
    // One row is bound by the latency of fma, so it takes four tiles at once.
    if (m == 1)
        return for_each_side_by_side<4>(begin, end, [&]<int T>(Count<T>, size_t first, size_t apart) {
            const std::byte* tiles[T];
            for (size_t t = 0; t < T; ++t) tiles[t] = w.tile(first + t * apart);
            alignas(64) float y[T * 16];
            multiply_dense<D, 1, T>(tiles, fetched_ahead<T>(w, apart), k, x, stride_x, y);
            for (size_t t = 0; t < T; ++t) sink(0, first + t * apart, load(y + 16 * t));
        });
    constexpr size_t T = kDenseTiles;
    for (size_t first = begin; first < end; first += T) {
        const std::byte* tiles[T];
        for (size_t t = 0; t < T; ++t) tiles[t] = w.tile(first + t < end ? first + t : end - 1);
        const size_t heard = end - first < T ? end - first : T;
        for_each_block<kDenseRows>(m, [&]<int R>(Count<R>, uint32_t row) {
            alignas(64) float y[R * T * 16];
            multiply_dense<D, R, T>(tiles, 0, k, x + row * stride_x, stride_x, y);
            for (size_t r = 0; r < R; ++r)
                for (size_t t = 0; t < heard; ++t) sink(row + r, first + t, load(y + 16 * (r * T + t)));
        });
    }
}

}  // namespace edgekit::EDGEKIT_ISA
