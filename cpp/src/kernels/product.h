#pragma once
// Rows of activations times tiles of 16 weight rows: the inner loops of matmul and of attention scores.
//
// Every path adds a row's groups (or, for dense weights, columns) in the same order with the same operations,
// so a result does not depend on how many rows are computed together.
//
//   stream   few rows: packed weights are read once and unpacked in registers
//   panel    many rows: kGemmTiles tiles are expanded to bytes, some groups at a time, in scratch that stays
//            in the first-level cache, and multiplied by blocks of kGemmRows rows

#include "kernels/kernels.h"
#include "quant/q4_block32.h"
#include "quant/q8_block32.h"

namespace edgekit::EDGEKIT_ISA {

// Quantized rows: codes [m][32 · n_groups], scales [m][n_groups] and starts [m][n_groups][2], each row
// `stride` elements from the next.
struct Rows {
    const int8_t* codes;
    const float* scales;
    const int32_t* starts;
    size_t code_stride, scale_stride, start_stride;
    EDGEKIT_INLINE Rows from(size_t row) const {
        return {codes + row * code_stride,
                scales + row * scale_stride,
                starts + row * start_stride,
                code_stride,
                scale_stride,
                start_stride};
    }
    EDGEKIT_INLINE const int8_t* code(size_t row, size_t g) const {
        return codes + row * code_stride + g * kGroup;
    }
    EDGEKIT_INLINE f32x16 scale(size_t row, size_t g) const { return splat(scales[row * scale_stride + g]); }
    EDGEKIT_INLINE const int32_t* start(size_t row, size_t g) const {
        return starts + row * start_stride + 2 * g;
    }
};

// A run of tiles, one after the other.
struct Tiles {
    const std::byte* data;
    size_t tile_bytes;
    size_t codes_offset;
    uint32_t n_groups;
    EDGEKIT_INLINE const std::byte* tile(size_t i) const { return data + i * tile_bytes; }
};

// How far ahead packed weights are fetched into the second-level cache, over all streams together. Measured
// (docs/kernels.md): fetching into the first level is limited by its few outstanding misses.
inline constexpr size_t kPrefetchBytes = 18432;

// A layout answers: what sums its products, the scales of a group, as numbers and as the factors its sums are
// multiplied by (a panel depends on these and on the sums alone), the scale of the rows, and
// for_each_line(codes of a group, f(line index 0 … 7, line)).
struct Nibbles {
    using Sums = LevelSums;
    static constexpr size_t kGroupBytes = q4_block32::kGroupBytes;
    template <class F>
    EDGEKIT_INLINE static void for_each_line(const std::byte* codes, F&& f) {
        const LevelTable table = level_table(q4_block32::kLevels);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
            const u8x64 packed = load_line(codes + 64 * j);
            f(j, levels_low(table, packed));
            f(j + 4, levels_high(table, packed));
        }
    }
};
struct Bytes {
    using Sums = CodeSums;
    static constexpr size_t kGroupBytes = q8_block32::kGroupBytes;
    template <class F>
    EDGEKIT_INLINE static void for_each_line(const std::byte* codes, F&& f) {
#pragma GCC unroll 8
        for (int j = 0; j < 8; ++j) {
            f(j, biased_codes(load_line(codes + 64 * j)));
        }
    }
};
struct Bf16Scales {
    EDGEKIT_INLINE static f32x16 scales(const std::byte* tile, size_t g) {
        return load_bf16(reinterpret_cast<const uint16_t*>(tile) + 16 * g);
    }
    EDGEKIT_INLINE static f32x16 factors(const std::byte* tile, size_t g) { return scales(tile, g); }
    EDGEKIT_INLINE static f32x16 row_scale(const std::byte*) { return splat(1.0f); }
};
// 16 scales of 8 bits as the sums take them, or as floats.
template <class Sums>
EDGEKIT_INLINE auto byte_factors(const std::byte* scales) {
    if constexpr (requires { Sums::factors(scales); })
        return Sums::factors(scales);
    else
        return load_i8(scales);
}
struct Q4 : Nibbles {
    EDGEKIT_INLINE static const std::byte* scale_bytes(const std::byte* tile, size_t g) {
        return tile + q4_block32::scales_offset() + 16 * g;
    }
    EDGEKIT_INLINE static f32x16 scales(const std::byte* tile, size_t g) {
        return load_i8(scale_bytes(tile, g));
    }
    EDGEKIT_INLINE static auto factors(const std::byte* tile, size_t g) {
        return byte_factors<Sums>(scale_bytes(tile, g));
    }
    EDGEKIT_INLINE static f32x16 row_scale(const std::byte* tile) {
        return load(reinterpret_cast<const float*>(tile));
    }
};
struct Q8 : Bytes, Bf16Scales {};
struct K4 : Nibbles, Bf16Scales {};  // int4 keys: see kv.h

// y + the sums of a group · its scales · the scale of the activations. Sums that take their factors as
// integers stay exact: 32 · 31 · 127 · 128 < 2^24.
template <class Sums, class Factors>
EDGEKIT_INLINE f32x16 add_group(f32x16 y, const Sums& sums, Factors factors, f32x16 scale) {
    if constexpr (requires { sums.total(factors); })
        return fma(to_f32(sums.total(factors)), scale, y);
    else
        return fma(to_f32(sums.total()), factors * scale, y);
}

// The factors of a tile's group in a panel: 64 bytes of either kind.
EDGEKIT_INLINE void store_factors(std::byte* p, f32x16 factors) {
    store(reinterpret_cast<float*>(p), factors);
}
EDGEKIT_INLINE void store_factors(std::byte* p, u8x64 factors) { store_line(p, factors); }
EDGEKIT_INLINE void load_factors(const std::byte* p, f32x16& factors) {
    factors = load(reinterpret_cast<const float*>(p));
}
EDGEKIT_INLINE void load_factors(const std::byte* p, u8x64& factors) { factors = load_line(p); }

template <int N>
struct Count {};

// Calls f(Count<R>, first) for blocks of R rows that together are rows 0 … m: blocks of Max, then of 4, 2
// and 1.
template <int Max, class F>
EDGEKIT_INLINE void for_each_block(uint32_t m, F&& f) {
    uint32_t row = 0;
    for (; row + Max <= m; row += Max) f(Count<Max>{}, row);
    if constexpr (Max > 4)
        for (; row + 4 <= m; row += 4) f(Count<4>{}, row);
    if constexpr (Max > 2)
        for (; row + 2 <= m; row += 2) f(Count<2>{}, row);
    if constexpr (Max > 1)
        for (; row < m; ++row) f(Count<1>{}, row);
}

// Calls f(Count<m>), 1 ≤ m ≤ Max.
template <int Max, class F>
EDGEKIT_INLINE void with_count(uint32_t m, F&& f) {
    if constexpr (Max > 1)
        if (m < Max) return with_count<Max - 1>(m, f);
    f(Count<Max>{});
}

// Calls f(Count<T>, first, apart) for tiles `first`, `first + apart` … of [begin, end), T of them side by
// side: T equal runs of neighbouring tiles, and what is left over in fewer.
template <int T, class F>
EDGEKIT_INLINE void for_each_side_by_side(size_t begin, size_t end, F&& f) {
    const size_t run = (end - begin) / T;
    for (size_t i = 0; i < run; ++i) f(Count<T>{}, begin + i, run);
    if constexpr (T > 1) for_each_side_by_side<(T > 4 ? 4 : T > 2 ? 2 : 1)>(begin + T * run, end, f);
}

// How many bytes of each of T streams are fetched before they are needed. Neighbours that are shorter than
// that go on behind the last of them.
template <int T>
EDGEKIT_INLINE size_t fetched_ahead(const Tiles& w, size_t apart) {
    constexpr size_t kAhead = kPrefetchBytes / T;
    return apart == 1 && w.tile_bytes < kAhead ? kAhead + (T - 1) * w.tile_bytes : kAhead;
}

// y[R][T][16]: the products of T tiles, each `apart` bytes from the one before, `ahead` bytes of each stream
// fetched before they are needed. Several tiles at once are several streams from memory, which hide more of
// its latency than one, and share the loads of the activations.
template <class L, int R, int T>
[[gnu::noinline]] void stream_tiles(const Tiles& w, const std::byte* tiles, size_t apart, size_t ahead,
                                    const Rows& x, float* out) {
    // The loop fetches what lies `ahead` of its codes. From one tile to the next that leaves out as many
    // bytes as lie between the codes of the two.
    for (int t = 0; t < T; ++t)
        for (size_t at = 0; at < w.codes_offset; at += 64) prefetch(tiles + t * apart + ahead + at);
    f32x16 y[R][T];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) y[r][t] = splat(0.0f);
#pragma GCC unroll kStreamGroups
    for (size_t g = 0; g < w.n_groups; ++g) {
        const std::byte* codes = tiles + w.codes_offset + g * L::kGroupBytes;
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) {
            for (size_t at = 0; at < L::kGroupBytes; at += 64) prefetch(codes + t * apart + ahead + at);
            typename L::Sums sums[R];
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) sums[r].start(x.start(r, g));
            L::for_each_line(codes + t * apart, [&](int j, u8x64 line) EDGEKIT_INLINE_LAMBDA {
#pragma GCC unroll 16
                for (int r = 0; r < R; ++r) sums[r].add(j, line, x.code(r, g) + 4 * j);
            });
            const auto factors = L::factors(tiles + t * apart, g);
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) y[r][t] = add_group(y[r][t], sums[r], factors, x.scale(r, g));
        }
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
        const f32x16 row_scale = L::row_scale(tiles + t * apart);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) store(out + 16 * (r * T + t), y[r][t] * row_scale);
    }
}

static_assert(kPanelTileGroups % kGemmTiles == 0 && kGemmTiles <= kMaxPanelTiles);

// Groups [g, g + n) of T tiles; the panel's group is the lines of all tiles, then the factors of all.
template <class L, int T>
[[gnu::noinline]] void expand_panel(const Tiles& w, const std::byte* const (&tiles)[T], size_t g, size_t n,
                                    std::byte* panel) {
    for (size_t i = 0; i < n; ++i) {
        std::byte* group = panel + i * T * kPanelGroupBytes;
        for (int t = 0; t < T; ++t) {
            L::for_each_line(tiles[t] + w.codes_offset + (g + i) * L::kGroupBytes,
                             [&](int j, u8x64 line)
                                 EDGEKIT_INLINE_LAMBDA { store_line(group + 64 * (T * j + t), line); });
            store_factors(group + T * kPanelCodeBytes + 64 * t, L::factors(tiles[t], g + i));
        }
        if constexpr (requires { L::Sums::arrange(group); }) L::Sums::arrange(group);
    }
}

// The products of group g with a panel's lines of it.
template <class Sums, int R, int T>
EDGEKIT_INLINE void multiply_group(const std::byte* lines, const Rows& x, size_t g, Sums (&sums)[R][T]) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) sums[r][t].start(x.start(r, g));
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

// sums[R][T][16] += the products of groups [g, g + n), without the scale of the rows; from zero when g is 0.
template <class Sums, class Factors, int R, int T>
[[gnu::noinline]] void multiply_panel(const std::byte* panel, size_t g, size_t n, const Rows& x,
                                      float* sums) {
    if constexpr (requires { Sums::template multiply<R>(panel, g, n, x, sums); })
        return Sums::template multiply<R>(panel, g, n, x, sums);
    f32x16 y[R][T];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) y[r][t] = g ? load(sums + 16 * (r * T + t)) : splat(0.0f);
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
template <class L, int T, class Sink>
EDGEKIT_INLINE void panel_product(const Tiles& w, size_t first, size_t end, const Rows& x, uint32_t m,
                                  std::byte* scratch, Sink&& sink) {
    constexpr size_t kGroups = kPanelTileGroups / T;
    const std::byte* tiles[T];
    for (size_t t = 0; t < T; ++t) tiles[t] = w.tile(first + t < end ? first + t : end - 1);
    const int heard = end - first < T ? int(end - first) : T;
    std::byte* const panel = scratch;
    float* const sums = reinterpret_cast<float*>(scratch + kGroups * T * kPanelGroupBytes);
    const uint32_t blocks = (m + kGemmRows - 1) / kGemmRows;
    for (size_t g = 0; g < w.n_groups; g += kGroups) {
        const size_t n = w.n_groups - g < kGroups ? w.n_groups - g : kGroups;
        expand_panel<L, T>(w, tiles, g, n, panel);
        // What is expanded next comes from memory while this is multiplied, a few lines at each block.
        const size_t next =
            w.codes_offset + (g + n < w.n_groups ? (g + n) * L::kGroupBytes : T * w.tile_bytes);
        constexpr uint32_t kLines = kGroups * L::kGroupBytes / 64;
        const auto begin = [=](uint32_t block) {  // of equal size, or one row or step less
            const uint32_t row = m * block / blocks, step = kGemmRowStep;
            return block < blocks ? (row + step - 1) / step * step : m;
        };
        for (uint32_t block = 0; block < blocks; ++block) {
            const uint32_t row = begin(block), rows = begin(block + 1) - row;
            for (size_t line = kLines * block / blocks; line < kLines * (block + 1) / blocks; ++line)
                for (int t = 0; t < T; ++t) prefetch(tiles[t] + next + 64 * line);
            with_count<kGemmRows>(rows, [&]<int R>(Count<R>) {
                multiply_panel<typename L::Sums, decltype(L::factors(panel, g)), R, T>(
                    panel, g, n, x.from(row), sums + size_t{row} * T * 16);
            });
        }
    }
    for (uint32_t row = 0; row < m; ++row)
        for (int t = 0; t < heard; ++t)
            sink(row, first + t, load(sums + 16 * (size_t{row} * T + t)) * L::row_scale(tiles[t]));
}

// Calls sink(row, tile, y: the products of 16 weight rows) for m rows and tiles [begin, end). Scratch:
// product_scratch_bytes.
template <class L, class Sink>
EDGEKIT_INLINE void quantized_product(const Tiles& w, size_t begin, size_t end, const Rows& x, uint32_t m,
                                      std::byte* scratch, Sink&& sink) {
    if (m == 0) return;
    if (m <= kStreamRows)
        return with_count<kStreamRows>(m, [&]<int R>(Count<R>) {
            constexpr int kMost = kStreamSums / R, kTiles = kMost < 1 ? 1 : kMost < 6 ? kMost : 6;
            for_each_side_by_side<kTiles>(begin, end, [&]<int T>(Count<T>, size_t first, size_t apart) {
                alignas(64) float y[R * T * 16];
                stream_tiles<L, R, T>(w, w.tile(first), apart * w.tile_bytes, fetched_ahead<T>(w, apart), x,
                                      y);
                for (int r = 0; r < R; ++r)
                    for (int t = 0; t < T; ++t)
                        sink(uint32_t(r), first + t * apart, load(y + 16 * (r * T + t)));
            });
        });
    for (uint32_t row = 0; row < m; row += kPanelRows)
        for (size_t tile = begin; tile < end; tile += kGemmTiles)
            panel_product<L, kGemmTiles>(
                w, tile, end, x.from(row), m - row < kPanelRows ? m - row : kPanelRows, scratch,
                [&](uint32_t r, size_t t, f32x16 y) EDGEKIT_INLINE_LAMBDA { sink(row + r, t, y); });
}

// Dense weights: element 16 · k + r of a tile is row r, column k.
struct F32 {
    using Element = float;
    EDGEKIT_INLINE static f32x16 column(const Element* p) { return load(p); }
};
struct F16 {
    using Element = uint16_t;
    EDGEKIT_INLINE static f32x16 column(const Element* p) { return load_f16(p); }
};
struct Bf16 {
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
            if constexpr (R == 1) prefetch(p + ahead / sizeof *p);
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
