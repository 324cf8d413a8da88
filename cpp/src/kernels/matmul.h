#pragma once
// Packed matrices times rows of activations, and single rows of them (embeddings): one table of schemes.

#include "kernels/dense.h"
#include "kernels/product.h"
#include "kernels/schemes/q3_block32.h"
#include "kernels/schemes/q4_affine32.h"
#include "kernels/schemes/q4_block32.h"
#include "kernels/schemes/q5_block32.h"
#include "kernels/schemes/q6_block32.h"
#include "kernels/schemes/q8_block32.h"

namespace edgekit::EDGEKIT_ISA {

// Puts away the products of 16 weight rows with one row of activations.
struct StoreRows {
    const Store& to;
    uint32_t n;
    EDGEKIT_INLINE void operator()(uint32_t row, size_t tile, f32x16 y) const {
        const size_t column = 16 * tile, left = n - column < 16 ? n - column : 16;
        if (to.bias) y = y + load_part(to.bias + column, left);
        float* out = to.out + row * to.stride + (column - to.first_column);
        const f32x16 scale = splat(to.scale);
        store_part(out, to.add ? fma(y, scale, load_part(out, left)) : y * scale, left);
    }
};

// Lane r of 16 values.
EDGEKIT_INLINE float lane(uint32_t r, f32x16 values) {
    alignas(64) float lanes[16];
    store(lanes, values);
    return lanes[r];
}

template <class D>
struct DenseScheme {
    static void matmul(const Matrix& w, const Activations& x, const Store& to, uint32_t tile_begin,
                       uint32_t tile_end, std::byte*) {
        dense_product<D>({w.data, w.tile_bytes, 0, w.n_groups()}, tile_begin, tile_end, w.k, x.x, x.stride_x,
                         x.m, StoreRows{to, w.n});
    }
    static void dequantize_row(const Matrix& w, uint32_t row, float scale, float* out) {
        const auto* tile = reinterpret_cast<const typename D::Element*>(w.tile(row / 16));
        for (size_t i = 0; i < w.k; ++i) out[i] = scale * lane(row % 16, D::column(tile + 16 * i));
    }
};

template <class S>
struct QuantizedScheme {
    static void matmul(const Matrix& w, const Activations& x, const Store& to, uint32_t tile_begin,
                       uint32_t tile_end, std::byte* scratch) {
        const Tiles tiles{w.data, w.tile_bytes, S::kLayout.codes_offset(w.k), w.n_groups()};
        const size_t groups = row_groups(w.k);
        quantized_product<S>(tiles, tile_begin, tile_end, {x.codes, x.groups, kGroup * groups, groups}, x.m,
                             scratch, StoreRows{to, w.n});
    }
    static void dequantize_row(const Matrix& w, uint32_t row, float scale, float* out) {
        const uint32_t r = row % 16, n_groups = w.n_groups();
        const std::byte* tile = w.tile(row / 16);
        const std::byte* codes = tile + S::kLayout.codes_offset(w.k);
        scale *= lane(r, S::row_scale(tile));
        for (uint32_t g = 0; g < n_groups; ++g) {
            uint8_t lines[8][64];
            S::for_each_line(codes + g * S::kLayout.code_bytes,
                             [&](int j, u8x64 line) EDGEKIT_INLINE_LAMBDA { store_line(lines[j], line); });
            const float s = scale * lane(r, S::scales(tile, g));
            float minimum = 0.0f;
            if constexpr (HasMinima<S>) minimum = scale * lane(r, S::minima(tile, n_groups, g));
            const uint32_t left = w.k - g * kGroup, n = left < kGroup ? left : kGroup;
            for (uint32_t c = 0; c < n; ++c) {
                const auto code = int8_t(lines[c / 4][4 * r + c % 4] - S::Sums::kBias);
                out[g * kGroup + c] = s * float(code) + minimum;
            }
        }
    }
};

struct Scheme {
    Layout layout;
    decltype(Kernels::matmul) matmul;
    decltype(Kernels::dequantize_row) dequantize_row;
};
template <class D>
constexpr Scheme dense_scheme{D::kLayout.layout, DenseScheme<D>::matmul, DenseScheme<D>::dequantize_row};
template <class S>
constexpr Scheme quantized_scheme{S::kLayout.layout, QuantizedScheme<S>::matmul,
                                  QuantizedScheme<S>::dequantize_row};

// By Layout.
inline constexpr Scheme kSchemes[] = {dense_scheme<F32>,    dense_scheme<F16>,    dense_scheme<Bf16>,
                                      quantized_scheme<Q8>, quantized_scheme<Q4>, quantized_scheme<Q5>,
                                      quantized_scheme<Q6>, quantized_scheme<Q3>, quantized_scheme<Q4Affine>};
static_assert([] {
    for (size_t i = 0; i < sizeof kSchemes / sizeof *kSchemes; ++i)
        if (kSchemes[i].layout != Layout(i)) return false;
    return true;
}());

inline void matmul(const Matrix& w, const Activations& x, const Store& to, uint32_t tile_begin,
                   uint32_t tile_end, std::byte* scratch) {
    kSchemes[size_t(w.layout)].matmul(w, x, to, tile_begin, tile_end, scratch);
}

inline void dequantize_row(const Matrix& w, uint32_t row, float scale, float* out) {
    kSchemes[size_t(w.layout)].dequantize_row(w, row, scale, out);
}

}  // namespace edgekit::EDGEKIT_ISA
