// What a weight scheme costs: ternary weights, one float32 scale a row, from their bytes to products. All
// below "the scheme" is what quant/ and kernels/schemes/ would hold; the rest of the file checks it.

#define EDGEKIT_ISA toy
#include "simd/scalar.h"
// (order matters: each builds on those before it)
#include "kernels/maths.h"
#include "kernels/quantize.h"
#include "kernels/matmul.h"

#include <cmath>
#include <cstdio>
#include <vector>

namespace edgekit::toy {

// ---- the scheme -------------------------------------------------------------------------------------------

// Bits 2·j and 2·j + 1 of byte 4·r + b of plane h, of two planes of a group, are the weight of row r, column
// 16·h + 4·j + b, plus one.
constexpr LayoutInfo kTernary{"ternary32", Layout::q4_block32, kGroup, 64, 0, 128};

struct Ternary {
    static constexpr LayoutInfo kLayout = kTernary;
    static constexpr int kRows = kOtherStreamRows;
    using Sums = LevelSums;
    template <class F>
    static void for_each_line(const std::byte* codes, F&& f) {
        for (int j = 0; j < 8; ++j) {
            u8x64 line = load_line(codes + 64 * (j / 4));
            for (uint8_t& code : line.v) code = uint8_t((code >> 2 * (j % 4) & 3) - 1 + kLevelBias);
            f(j, line);
        }
    }
    static f32x16 scales(const std::byte*, size_t) { return splat(1.0f); }
    static f32x16 factors(const std::byte* tile, size_t g) { return scales(tile, g); }
    static f32x16 row_scale(const std::byte* tile) { return load(reinterpret_cast<const float*>(tile)); }
};

// -----------------------------------------------------------------------------------------------------------

int check(uint32_t m) {
    const uint32_t k = 75, n = 20;
    const size_t bytes = kTernary.tile_bytes(k);
    std::vector<std::byte> packed(2 * bytes);
    std::vector<double> weights(size_t{32} * k);
    uint32_t state = 1;
    for (uint32_t row = 0; row < n; ++row) {
        std::byte* tile = packed.data() + row / 16 * bytes;
        const uint32_t r = row % 16;
        const float scale = 0.5f + float(row);
        std::memcpy(tile + 4 * r, &scale, 4);
        for (uint32_t c = 0; c < k; ++c) {
            state = state * 1664525 + 1013904223;
            const uint32_t code = (state >> 24) % 3, g = c / 32, h = c % 32 / 16, j = c % 16 / 4;
            tile[kTernary.codes_offset(k) + 128 * g + 64 * h + 4 * r + c % 4] |= std::byte(code << 2 * j);
            weights[size_t{row} * k + c] = scale * (double(code) - 1);
        }
    }
    const Matrix w{packed.data(), kTernary.layout, n, k, bytes};
    std::vector<float> x(size_t{m} * k), out(size_t{m} * n), row(k);
    for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(float(i));
    std::vector<int8_t> codes(size_t{m} * row_groups(k) * kGroup);
    std::vector<ActivationGroup> groups(size_t{m} * row_groups(k));
    std::vector<std::byte> scratch(matmul_scratch_bytes());
    quantize(x.data(), k, m, k, codes.data(), groups.data());
    QuantizedScheme<Ternary>::matmul(w, {x.data(), k, codes.data(), groups.data(), m}, {out.data(), n}, 0, 2,
                                     scratch.data());
    int wrong = 0;
    for (uint32_t i = 0; i < n; ++i) {
        QuantizedScheme<Ternary>::dequantize_row(w, i, 1.0f, row.data());
        for (uint32_t c = 0; c < k; ++c) wrong += row[c] != weights[size_t{i} * k + c];
        for (uint32_t r = 0; r < m; ++r) {
            double expected = 0;
            for (uint32_t c = 0; c < k; ++c) {
                const size_t at = size_t{r} * row_groups(k) + c / 32;
                expected += weights[size_t{i} * k + c] * codes[at * kGroup + c % 32] * groups[at].scale;
            }
            wrong += !(std::fabs(out[size_t{r} * n + i] - expected) < 1e-4);
        }
    }
    return wrong;
}

}  // namespace edgekit::toy

int main() {
    const int wrong = edgekit::toy::check(1) + edgekit::toy::check(5);
    std::printf("%d wrong\n", wrong);
    return wrong ? 1 : 0;
}
