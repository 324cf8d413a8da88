#pragma once
// Packed matrices times rows of activations, and single rows of them (embeddings).

#include "kernels/product.h"
#include "quant/dense.h"

namespace edgekit::EDGEKIT_ISA {

inline void matmul(const Matrix& w, const Activations& x, const Store& to, uint32_t tile_begin,
                   uint32_t tile_end, std::byte* scratch) {
    const auto tiles = [&](size_t codes_offset) EDGEKIT_INLINE_LAMBDA {
        return Tiles{w.data, w.tile_bytes, codes_offset, w.n_groups()};
    };
    const size_t groups = row_groups(w.k);
    const Rows rows{x.codes, x.scales, x.starts, kGroup * groups, groups, 2 * groups};
    const auto sink = [&](uint32_t row, size_t tile, f32x16 y) EDGEKIT_INLINE_LAMBDA {
        const size_t column = 16 * tile, n = w.n - column < 16 ? w.n - column : 16;
        if (to.bias) y = y + load_part(to.bias + column, n);
        float* out = to.out + row * to.stride + (column - to.first_column);
        const f32x16 scale = splat(to.scale);
        store_part(out, to.add ? fma(y, scale, load_part(out, n)) : y * scale, n);
    };
    switch (w.layout) {
        case Layout::f32:
            return dense_product<F32>(tiles(0), tile_begin, tile_end, w.k, x.x, x.stride_x, x.m, sink);
        case Layout::f16:
            return dense_product<F16>(tiles(0), tile_begin, tile_end, w.k, x.x, x.stride_x, x.m, sink);
        case Layout::bf16:
            return dense_product<Bf16>(tiles(0), tile_begin, tile_end, w.k, x.x, x.stride_x, x.m, sink);
        case Layout::q8_block32:
            return quantized_product<Q8>(tiles(q8_block32::codes_offset(w.k)), tile_begin, tile_end, rows,
                                         x.m, scratch, sink);
        case Layout::q4_block32:
            return quantized_product<Q4>(tiles(q4_block32::codes_offset(w.k)), tile_begin, tile_end, rows,
                                         x.m, scratch, sink);
    }
}

// Lane r of 16 values that `load16` gives.
template <class F>
EDGEKIT_INLINE float lane(uint32_t r, F&& load16) {
    alignas(64) float lanes[16];
    store(lanes, load16());
    return lanes[r];
}

template <class D>
EDGEKIT_INLINE void dequantize_dense(const Matrix& w, uint32_t row, float scale, float* out) {
    const auto* tile = reinterpret_cast<const typename D::Element*>(w.tile(row / 16));
    for (size_t i = 0; i < w.k; ++i)
        out[i] = scale * lane(row % 16, [&] { return D::column(tile + 16 * i); });
}

// `code(group, column in the group)`: the signed code of this row.
template <class L, class Code>
EDGEKIT_INLINE void dequantize_groups(const Matrix& w, uint32_t row, float scale, float* out, Code&& code) {
    const std::byte* tile = w.tile(row / 16);
    scale *= lane(row % 16, [&] { return L::row_scale(tile); });
    for (uint32_t g = 0; g < w.n_groups(); ++g) {
        const float s = scale * lane(row % 16, [&] { return L::scales(tile, g); });
        const uint32_t left = w.k - g * kGroup, n = left < kGroup ? left : kGroup;
        for (uint32_t c = 0; c < n; ++c) out[g * kGroup + c] = s * float(code(g, c));
    }
}

inline void dequantize_row(const Matrix& w, uint32_t row, float scale, float* out) {
    const uint32_t r = row % 16;
    switch (w.layout) {
        case Layout::f32:
            return dequantize_dense<F32>(w, row, scale, out);
        case Layout::f16:
            return dequantize_dense<F16>(w, row, scale, out);
        case Layout::bf16:
            return dequantize_dense<Bf16>(w, row, scale, out);
        case Layout::q8_block32: {
            const auto* codes =
                reinterpret_cast<const int8_t*>(w.tile(row / 16) + q8_block32::codes_offset(w.k)) + 4 * r;
            return dequantize_groups<Q8>(w, row, scale, out, [=](uint32_t g, uint32_t c) {
                return codes[q8_block32::kGroupBytes * g + 64 * (c / 4) + c % 4];
            });
        }
        case Layout::q4_block32: {
            const auto* codes =
                reinterpret_cast<const uint8_t*>(w.tile(row / 16) + q4_block32::codes_offset(w.k)) + 4 * r;
            return dequantize_groups<Q4>(w, row, scale, out, [=](uint32_t g, uint32_t c) {
                const uint8_t byte = codes[q4_block32::kGroupBytes * g + 64 * (c % 16 / 4) + c % 4];
                return q4_block32::kLevels[c < 16 ? byte & 15 : byte >> 4];
            });
        }
    }
}

}  // namespace edgekit::EDGEKIT_ISA
