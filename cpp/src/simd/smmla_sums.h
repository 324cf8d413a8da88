#pragma once
// The sums of products by smmla, for many rows; few rows take sdot.

#include <cstddef>

#include "quant/layout.h"
#include "simd/sums.h"

namespace edgekit::EDGEKIT_ISA {

// Two lanes of each, in turn: of two rows' columns 0 … 3, columns 0 and 1 of both and columns 2 and 3 of
// both, and back.
EDGEKIT_INLINE f32x4 low_pairs(f32x4 x, f32x4 y) {
    return vreinterpretq_f32_f64(vzip1q_f64(vreinterpretq_f64_f32(x), vreinterpretq_f64_f32(y)));
}
EDGEKIT_INLINE f32x4 high_pairs(f32x4 x, f32x4 y) {
    return vreinterpretq_f32_f64(vzip2q_f64(vreinterpretq_f64_f32(x), vreinterpretq_f64_f32(y)));
}
EDGEKIT_INLINE int8x16_t low_eights(int8x16_t x, int8x16_t y) {
    return vreinterpretq_s8_s64(vzip1q_s64(vreinterpretq_s64_s8(x), vreinterpretq_s64_s8(y)));
}
EDGEKIT_INLINE int8x16_t high_eights(int8x16_t x, int8x16_t y) {
    return vreinterpretq_s8_s64(vzip2q_s64(vreinterpretq_s64_s8(x), vreinterpretq_s64_s8(y)));
}

// smmla multiplies 2 rows of 8 by 2 columns of 8: a group's lines (16 columns × 4) become, two by two, 8
// vectors of 2 columns × 8. Sums stay in the shape of its results, 2 rows × 2 columns, through all groups.
struct CodeSums : WideSums<0, 1, dot_codes> {
    EDGEKIT_INLINE static void arrange(std::byte* lines) {
        auto* bytes = reinterpret_cast<uint8_t*>(lines);
        for (int i = 0; i < 4; ++i, bytes += 128) {
            uint32x4_t even[4], odd[4];
            for (int j = 0; j < 4; ++j) {
                even[j] = vreinterpretq_u32_u8(vld1q_u8(bytes + 16 * j));
                odd[j] = vreinterpretq_u32_u8(vld1q_u8(bytes + 64 + 16 * j));
            }
            for (int j = 0; j < 4; ++j) {
                vst1q_u8(bytes + 32 * j, vreinterpretq_u8_u32(vzip1q_u32(even[j], odd[j])));
                vst1q_u8(bytes + 32 * j + 16, vreinterpretq_u8_u32(vzip2q_u32(even[j], odd[j])));
            }
        }
    }
    template <int R, class Rows>
    EDGEKIT_INLINE static void multiply(const std::byte* panel, size_t g, size_t n, const Rows& x, bool add,
                                        float* sums) {
        constexpr int P = (R + 1) / 2;  // pairs of rows; an odd row is its own neighbour
        for (int half = 0; half < 2; ++half, sums += 8) {
            f32x4 y[P][4];
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
                for (int v = 0; v < 2; ++v) {
                    const float* row = sums + 32 * p + 4 * v;
                    const f32x4 even = add ? load4(row) : splat4(0.0f);
                    const f32x4 odd = add && 2 * p + 1 < R ? load4(row + 16) : even;
                    y[p][2 * v] = low_pairs(even, odd);
                    y[p][2 * v + 1] = high_pairs(even, odd);
                }
            const std::byte* group = panel;
            for (size_t i = g; i < g + n; ++i, group += kPanelGroupBytes) {
                const auto* columns = reinterpret_cast<const int8_t*>(group) + 64 * half;
                const std::byte* scales = group + kPanelCodeBytes + 32 * half;
                i32x4 totals[P][4];
#pragma GCC unroll 4
                for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                    for (int c = 0; c < 4; ++c) totals[p][c] = splat4_i32(0);
                const auto eight = [&](const int8x16_t(&rows)[P], const int8_t* from) EDGEKIT_INLINE_LAMBDA {
#pragma GCC unroll 4
                    for (int c = 0; c < 4; ++c) {
                        const int8x16_t column = vld1q_s8(from + 16 * c);
#pragma GCC unroll 4
                        for (int p = 0; p < P; ++p) totals[p][c] = vmmlaq_s32(totals[p][c], rows[p], column);
                    }
                };
#pragma GCC unroll 2
                for (int k = 0; k < 2; ++k) {
                    int8x16_t low[P], high[P];
#pragma GCC unroll 4
                    for (int p = 0; p < P; ++p) {
                        const int8x16_t even = vld1q_s8(x.code(2 * p, i) + 16 * k),
                                        odd = vld1q_s8(x.code(2 * p + (2 * p + 1 < R), i) + 16 * k);
                        low[p] = low_eights(even, odd);
                        high[p] = high_eights(even, odd);
                    }
                    eight(low, columns + 256 * k);
                    eight(high, columns + 256 * k + 128);
                }
#pragma GCC unroll 4
                for (int p = 0; p < P; ++p) {
                    const f32x4 row_scales =
                        low_pairs(vld1q_dup_f32(&x.group(2 * p, i).scale),
                                  vld1q_dup_f32(&x.group(2 * p + (2 * p + 1 < R), i).scale));
#pragma GCC unroll 4
                    for (int c = 0; c < 4; ++c) {
                        double two;
                        __builtin_memcpy(&two, scales + 8 * c, 8);
                        const f32x4 column_scales = vreinterpretq_f32_f64(vdupq_n_f64(two));
                        y[p][c] = fma(to_f32(totals[p][c]), mul(column_scales, row_scales), y[p][c]);
                    }
                }
            }
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
                for (int v = 0; v < 2; ++v) {
                    float* row = sums + 32 * p + 4 * v;
                    store4(row, low_pairs(y[p][2 * v], y[p][2 * v + 1]));
                    if (2 * p + 1 < R) store4(row + 16, high_pairs(y[p][2 * v], y[p][2 * v + 1]));
                }
        }
    }
};

}  // namespace edgekit::EDGEKIT_ISA
