#pragma once
// Few rows: packed weights are read once and unpacked in registers.

#include "kernels/sums.h"

namespace edgekit::EDGEKIT_ISA {

// y[R][T][16]: the products of T tiles, each `apart` bytes from the one before, `ahead` bytes of each stream
// fetched before they are needed. Several tiles at once are several streams from memory, which hide more of
// its latency than one, and share the loads of the activations.
template <class S, int R, int T>
[[gnu::noinline]] void stream_tiles(const Tiles& w, const std::byte* first, size_t apart, size_t ahead,
                                    const Rows& x, float* out) {
    const std::byte* tiles[T];
    for (int t = 0; t < T; ++t) tiles[t] = first + t * apart;
    // The loop fetches what lies `ahead` of its codes. From one tile to the next that leaves out as many
    // bytes as lie between the codes of the two.
    for (int t = 0; t < T; ++t)
        for (size_t at = 0; at < w.codes_offset; at += 64) prefetch(tiles[t] + ahead + at);
    f32x16 y[R][T];
    begin_sums<S>(tiles, w.n_groups, x, y);
#pragma GCC unroll kStreamGroups
    for (size_t g = 0; g < w.n_groups; ++g) {
        const std::byte* codes = first + w.codes_offset + g * S::kLayout.code_bytes;
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) {
            for (size_t at = 0; at < S::kLayout.code_bytes; at += 64)
                prefetch(codes + t * apart + ahead + at);
            typename S::Sums sums[R];
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) sums[r].start(x.group(r, g).starts);
            S::for_each_line(codes + t * apart, [&](int j, u8x64 line) EDGEKIT_INLINE_LAMBDA {
#pragma GCC unroll 16
                for (int r = 0; r < R; ++r) sums[r].add(j, line, x.code(r, g) + 4 * j);
            });
            const auto factors = S::factors(first + t * apart, g);
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) y[r][t] = add_group(y[r][t], sums[r], factors, x.scale(r, g));
        }
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
        const f32x16 row_scale = S::row_scale(tiles[t]);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) store(out + 16 * (r * T + t), y[r][t] * row_scale);
    }
}

// Calls sink(row, tile, y: the products of 16 weight rows) for m ≤ S::kRows rows and tiles [begin, end).
template <class S, class Sink>
EDGEKIT_INLINE void stream_product(const Tiles& w, size_t begin, size_t end, const Rows& x, uint32_t m,
                                   Sink&& sink) {
    with_count<S::kRows>(m, [&]<int R>(Count<R>) {
        constexpr int kMost = kStreamSums / R, kTiles = kMost < 1 ? 1 : kMost < 6 ? kMost : 6;
        for_each_side_by_side<kTiles>(begin, end, [&]<int T>(Count<T>, size_t first, size_t apart) {
            alignas(64) float y[R * T * 16];
            stream_tiles<S, R, T>(w, w.tile(first), apart * w.tile_bytes, fetched_ahead<T>(w, apart), x, y);
            for (int r = 0; r < R; ++r)
                for (int t = 0; t < T; ++t) sink(uint32_t(r), first + t * apart, load(y + 16 * (r * T + t)));
        });
    });
}

}  // namespace edgekit::EDGEKIT_ISA
