#pragma once
// How a product is cut: the operands' rows and tiles, and blocks of both whose sums fit the registers.

#include "kernels/kernels.h"

namespace edgekit::EDGEKIT_ISA {

// Quantized rows of activations, each `…_stride` elements from the next.
struct Rows {
    const int8_t* codes;
    const ActivationGroup* groups;
    size_t code_stride, group_stride;
    EDGEKIT_INLINE Rows from(size_t row) const {
        return {codes + row * code_stride, groups + row * group_stride, code_stride, group_stride};
    }
    EDGEKIT_INLINE const int8_t* code(size_t row, size_t g) const {
        return codes + row * code_stride + g * kGroup;
    }
    EDGEKIT_INLINE const ActivationGroup& group(size_t row, size_t g) const {
        return groups[row * group_stride + g];
    }
    EDGEKIT_INLINE f32x16 scale(size_t row, size_t g) const { return splat(group(row, g).scale); }
};

// A run of tiles, one after the other.
struct Tiles {
    const std::byte* data;
    size_t tile_bytes;
    size_t codes_offset;
    uint32_t n_groups;
    EDGEKIT_INLINE const std::byte* tile(size_t i) const { return data + i * tile_bytes; }
};

template <int N>
struct Count {};

// Calls f(Count<0>) … f(Count<N - 1>).
template <int N, class F>
EDGEKIT_INLINE void for_each_count(F&& f) {
    if constexpr (N > 0) {
        for_each_count<N - 1>(f);
        f(Count<N - 1>{});
    }
}

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

// How far ahead packed weights are fetched into the second-level cache, over all streams together. Measured
// (docs/kernels.md): fetching into the first level is limited by its few outstanding misses.
inline constexpr size_t kPrefetchBytes = 18432;

// How many bytes of each of T streams are fetched before they are needed. Neighbours that are shorter than
// that go on behind the last of them.
template <int T>
EDGEKIT_INLINE size_t fetched_ahead(const Tiles& w, size_t apart) {
    constexpr size_t kAhead = kPrefetchBytes / T;
    return apart == 1 && w.tile_bytes < kAhead ? kAhead + (T - 1) * w.tile_bytes : kAhead;
}

}  // namespace edgekit::EDGEKIT_ISA
