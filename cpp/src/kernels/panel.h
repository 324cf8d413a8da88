#pragma once
// Many rows: kGemmTiles tiles are expanded to bytes, some groups at a time, in scratch that stays in the
// first-level cache, and multiplied by blocks of kGemmRows rows.

#include "kernels/sums.h"

namespace edgekit::EDGEKIT_ISA {

static_assert(kPanelTileGroups % kGemmTiles == 0 && kGemmTiles <= kMaxPanelTiles);

// The factors of a tile's group in a panel: 64 bytes of either kind.
EDGEKIT_INLINE void store_factors(std::byte* p, f32x16 factors) {
    store(reinterpret_cast<float*>(p), factors);
}
EDGEKIT_INLINE void store_factors(std::byte* p, u8x64 factors) { store_line(p, factors); }
EDGEKIT_INLINE void load_factors(const std::byte* p, f32x16& factors) {
    factors = load(reinterpret_cast<const float*>(p));
}
EDGEKIT_INLINE void load_factors(const std::byte* p, u8x64& factors) { factors = load_line(p); }

// Groups [g, g + n) of T tiles; the panel's group is the lines of all tiles, then the factors of all.
template <class S, int T>
[[gnu::noinline]] void expand_panel(const Tiles& w, const std::byte* const (&tiles)[T], size_t g, size_t n,
                                    std::byte* panel) {
    for (size_t i = 0; i < n; ++i) {
        std::byte* group = panel + i * T * kPanelGroupBytes;
        for (int t = 0; t < T; ++t) {
            S::for_each_line(tiles[t] + w.codes_offset + (g + i) * S::kLayout.code_bytes,
                             [&](int j, u8x64 line)
                                 EDGEKIT_INLINE_LAMBDA { store_line(group + 64 * (T * j + t), line); });
            store_factors(group + T * kPanelCodeBytes + 64 * t, S::factors(tiles[t], g + i));
        }
        if constexpr (requires { S::Sums::arrange(group); }) S::Sums::arrange(group);
    }
}

// sums[R][T][16] before any group.
template <class S, int R, int T>
[[gnu::noinline]] void begin_panel(const std::byte* const (&tiles)[T], size_t n_groups, const Rows& x,
                                   float* sums) {
    f32x16 y[R][T];
    begin_sums<S>(tiles, n_groups, x, y);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) store(sums + 16 * (r * T + t), y[r][t]);
}

// The products of group g with a panel's lines of it.
template <class Sums, int R, int T>
EDGEKIT_INLINE void multiply_group(const std::byte* lines, const Rows& x, size_t g, Sums (&sums)[R][T]) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) sums[r][t].start(x.group(r, g).starts);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
        u8x64 line[T];
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) line[t] = load_line(lines + 64 * (T * j + t));
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int t = 0; t < T; ++t) sums[r][t].add(j, line[t], x.code(r, g) + 4 * j);
    }
}

// sums[R][T][16] = the products of groups [g, g + n), without the scale of the rows, or += them when it is to
// add.
template <class Sums, class Factors, int R, int T>
[[gnu::noinline]] void multiply_panel(const std::byte* panel, size_t g, size_t n, const Rows& x, bool add,
                                      float* sums) {
    if constexpr (requires { Sums::template multiply<R>(panel, g, n, x, add, sums); })
        return Sums::template multiply<R>(panel, g, n, x, add, sums);
    f32x16 y[R][T];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) y[r][t] = add ? load(sums + 16 * (r * T + t)) : splat(0.0f);
    for (const size_t end = g + n; g < end; ++g, panel += T * kPanelGroupBytes) {
        Sums totals[R][T];
        multiply_group(panel, x, g, totals);
        Factors factors[T];
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) load_factors(panel + T * kPanelCodeBytes + 64 * t, factors[t]);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int t = 0; t < T; ++t) y[r][t] = add_group(y[r][t], totals[r][t], factors[t], x.scale(r, g));
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) store(sums + 16 * (r * T + t), y[r][t]);
}

// T tiles times at most kPanelRows rows. The last panel of an odd number of tiles repeats its last tile,
// unheard.
template <class S, int T, class Sink>
EDGEKIT_INLINE void multiply_tiles(const Tiles& w, size_t first, size_t end, const Rows& x, uint32_t m,
                                   std::byte* scratch, Sink&& sink) {
    constexpr size_t kGroups = kPanelTileGroups / T;
    const std::byte* tiles[T];
    for (size_t t = 0; t < T; ++t) tiles[t] = w.tile(first + t < end ? first + t : end - 1);
    const int heard = end - first < T ? int(end - first) : T;
    std::byte* const panel = scratch;
    float* const sums = reinterpret_cast<float*>(scratch + kGroups * T * kPanelGroupBytes);
    const uint32_t blocks = (m + kGemmRows - 1) / kGemmRows;
    const auto begin = [=](uint32_t block) {  // of equal size, or one row or step less
        const uint32_t row = m * block / blocks, step = kGemmRowStep;
        return block < blocks ? (row + step - 1) / step * step : m;
    };
    const auto for_each_rows = [&](auto&& f) EDGEKIT_INLINE_LAMBDA {
        for (uint32_t block = 0; block < blocks; ++block) {
            const uint32_t row = begin(block);
            with_count<kGemmRows>(begin(block + 1) - row, [&]<int R>(Count<R> count) {
                f(count, block, x.from(row), sums + size_t{row} * T * 16);
            });
        }
    };
    if constexpr (HasMinima<S>)
        for_each_rows([&]<int R>(Count<R>, uint32_t, const Rows& rows, float* y) {
            begin_panel<S, R, T>(tiles, w.n_groups, rows, y);
        });
    for (size_t g = 0; g < w.n_groups; g += kGroups) {
        const size_t n = w.n_groups - g < kGroups ? w.n_groups - g : kGroups;
        expand_panel<S, T>(w, tiles, g, n, panel);
        // What is expanded next comes from memory while this is multiplied, a few lines at each block.
        const size_t next =
            w.codes_offset + (g + n < w.n_groups ? (g + n) * S::kLayout.code_bytes : T * w.tile_bytes);
        constexpr uint32_t kLines = kGroups * S::kLayout.code_bytes / 64;
        for_each_rows([&]<int R>(Count<R>, uint32_t block, const Rows& rows, float* y) {
            for (size_t line = kLines * block / blocks; line < kLines * (block + 1) / blocks; ++line)
                for (int t = 0; t < T; ++t) prefetch(tiles[t] + next + 64 * line);
            multiply_panel<typename S::Sums, decltype(S::factors(panel, g)), R, T>(panel, g, n, rows,
                                                                                   HasMinima<S> || g > 0, y);
        });
    }
    for (uint32_t row = 0; row < m; ++row)
        for (int t = 0; t < heard; ++t)
            sink(row, first + t, load(sums + 16 * (size_t{row} * T + t)) * S::row_scale(tiles[t]));
}

// Calls sink(row, tile, y: the products of 16 weight rows) for m rows and tiles [begin, end). Scratch:
// matmul_scratch_bytes.
template <class S, class Sink>
EDGEKIT_INLINE void panel_product(const Tiles& w, size_t begin, size_t end, const Rows& x, uint32_t m,
                                  std::byte* scratch, Sink&& sink) {
    for (uint32_t row = 0; row < m; row += kPanelRows)
        for (size_t tile = begin; tile < end; tile += kGemmTiles)
            multiply_tiles<S, kGemmTiles>(
                w, tile, end, x.from(row), m - row < kPanelRows ? m - row : kPanelRows, scratch,
                [&](uint32_t r, size_t t, f32x16 y) EDGEKIT_INLINE_LAMBDA { sink(row + r, t, y); });
}

}  // namespace edgekit::EDGEKIT_ISA
