#pragma once
// Attention of some queries to a run of slots of one KV head, with a running softmax (Milakov and Gimelshein,
// arXiv:1805.02867).
//
// Blocks of 64 slots, counted from slot 0 whatever the run, so that a query's sums do not depend on its
// neighbours: scores of all queries, softmax, values times probabilities. Each key and value is read once for
// all queries. Where one vector is both, a block of them becomes floats first.

#include "kernels/kv.h"
#include "kernels/dense.h"
#include "kernels/product.h"
#include "kernels/schemes/q4_block32.h"
#include "kernels/schemes/q8_block32.h"

namespace edgekit::EDGEKIT_ISA {

inline constexpr uint32_t kBlockSlots = 64;
static_assert(kDenseRows <= kMaxWeighedQueries);

inline void attend_query(KvType type, const float* q, uint32_t n, uint32_t head_dim, std::byte* prepared) {
    if (type == KvType::f32 || type == KvType::f16) return;
    const uint32_t n_groups = kv::n_groups(head_dim);
    alignas(64) float padded[kv::kMaxHeadDim];
    for (uint32_t i = 0; i < n; ++i, prepared += kv::query_bytes(type, head_dim)) {
        pad_head(type == KvType::int4, q + size_t{i} * head_dim, head_dim, padded);
        auto* groups = reinterpret_cast<ActivationGroup*>(prepared + size_t{32} * n_groups);
        for (uint32_t g = 0; g < n_groups; ++g)
            quantize_group(padded + 32 * g, 32, reinterpret_cast<int8_t*>(prepared) + 32 * g, groups[g]);
    }
}

// The values of a slot; (c) are dimensions 16·c … 16·c + 15, as codes where there are scales.
template <KvType type>
struct ValueRow {
    const std::byte* row;
    size_t bytes;
    EDGEKIT_INLINE void next() { row += bytes; }  // in the same tile
    EDGEKIT_INLINE f32x16 operator()(size_t c) const {
        if constexpr (type == KvType::f32) return load(reinterpret_cast<const float*>(row) + 16 * c);
        if constexpr (type == KvType::f16) return load_f16(reinterpret_cast<const uint16_t*>(row) + 16 * c);
        if constexpr (type == KvType::int8) return load_i8(row + 16 * c);
        f32x16 half[2];
        load_levels(q4_block32::kLevels, row + c / 2 * 16, half[0], half[1]);
        return half[c % 2];
    }
};

template <KvType type>
struct Values {
    static constexpr bool kScaled = type == KvType::int8 || type == KvType::int4;
    const std::byte* data;
    size_t tile_bytes, row_bytes, codes;
    EDGEKIT_INLINE explicit Values(const KvHead& kv)
        : data(kv.v),
          tile_bytes(kv::v_tile_bytes(type, kv.head_dim)),
          row_bytes(kv::v_row_bytes(type, kv.head_dim)),
          codes(kScaled ? kv::codes_offset(kv.head_dim) : 0) {}
    EDGEKIT_INLINE ValueRow<type> row(size_t slot) const {
        return {data + slot / 16 * tile_bytes + codes + slot % 16 * row_bytes, row_bytes};
    }
    EDGEKIT_INLINE void fetch(uint32_t tile, uint32_t end) const {
        for (size_t at = tile * tile_bytes; at < end * tile_bytes; at += 64) prefetch(data + at);
    }
    // Of a tile's 16 slots.
    EDGEKIT_INLINE f32x16 scales(uint32_t tile, uint32_t g) const {
        return load_bf16(reinterpret_cast<const uint16_t*>(data + tile * tile_bytes) + 16 * g);
    }
};

// The same with a block's values, or codes, as floats: [64][stride].
template <class V>
struct FloatValues {
    static constexpr bool kScaled = V::kScaled;
    const V& stored;
    const float* data;
    size_t stride;
    uint32_t first;
    EDGEKIT_INLINE ValueRow<KvType::f32> row(size_t slot) const {
        return {reinterpret_cast<const std::byte*>(data + (slot - first) * stride), 4 * stride};
    }
    EDGEKIT_INLINE f32x16 scales(uint32_t tile, uint32_t g) const { return stored.scales(tile, g); }
};

struct AttendScratch {
    float* scores;     // [n][64], then probabilities
    float* factors;    // [n]: what the new maximum leaves of the old sums
    float* values;     // [64][round_up(head_dim, 16)]
    float* weights;    // [groups][kDenseRows][64]: probabilities times the scales of the values
    std::byte* panel;  // product_scratch
    EDGEKIT_INLINE AttendScratch(std::byte* p, uint32_t n, uint32_t head_dim)
        : scores(reinterpret_cast<float*>(p)),
          factors(scores + size_t{kBlockSlots} * n),
          values(factors + round_up(n, 16)),
          weights(values + size_t{kBlockSlots} * round_up(head_dim, 16)),
          panel(reinterpret_cast<std::byte*>(weights +
                                             size_t{kBlockSlots} * kDenseRows * kv::n_groups(head_dim))) {}
};

// Scores of block slots [16 · tile_begin, …) for every query, into scratch.scores.
template <KvType type>
EDGEKIT_INLINE void score_block(const AttendArgs& args, const AttendScratch& scratch, uint32_t tile_begin,
                                uint32_t tile_end) {
    const uint32_t head_dim = args.kv.head_dim;
    const Tiles keys{args.kv.k, kv::k_tile_bytes(type, head_dim), kv::codes_offset(head_dim),
                     kv::n_groups(head_dim)};
    const auto sink = [&](uint32_t row, size_t tile, f32x16 y) EDGEKIT_INLINE_LAMBDA {
        store(scratch.scores + size_t{kBlockSlots} * row + 16 * (tile - tile_begin), y);
    };
    if constexpr (type == KvType::f32) {
        dense_product<F32>(keys, tile_begin, tile_end, head_dim, args.q, head_dim, args.n, sink);
    } else if constexpr (type == KvType::f16) {
        dense_product<F16>(keys, tile_begin, tile_end, head_dim, args.q, head_dim, args.n, sink);
    } else {
        const size_t bytes = kv::query_bytes(type, head_dim);
        const auto* codes = reinterpret_cast<const int8_t*>(args.prepared);
        const auto* groups = reinterpret_cast<const ActivationGroup*>(codes + size_t{32} * keys.n_groups);
        const Rows rows{codes, groups, bytes, bytes / sizeof *groups};
        if constexpr (type == KvType::int8)
            quantized_product<Q8>(keys, tile_begin, tile_end, rows, args.n, scratch.panel, sink);
        else
            quantized_product<K4>(keys, tile_begin, tile_end, rows, args.n, scratch.panel, sink);
    }
}

// Scores to probabilities relative to the running maximum, for the block whose first slot is `first`.
[[gnu::noinline]] inline void softmax_block(const AttendArgs& args, const AttendScratch& scratch,
                                            uint32_t first) {
    const float never = -__builtin_inff();
    for (uint32_t i = 0; i < args.n; ++i) {
        float* s = scratch.scores + size_t{kBlockSlots} * i;
        const uint32_t begin = args.begin[i] > first ? args.begin[i] - first : 0;
        const uint32_t end = args.end[i] <= first                ? 0
                             : args.end[i] - first < kBlockSlots ? args.end[i] - first
                                                                 : kBlockSlots;
        if (args.softcap > 0.0f) softcap(s, args.softcap, kBlockSlots);
        for (uint32_t j = 0; j < begin && j < kBlockSlots; ++j) s[j] = never;
        for (uint32_t j = end; j < kBlockSlots; ++j) s[j] = never;
        const float peak = max_lane(max(max(load(s), load(s + 16)), max(load(s + 32), load(s + 48))));
        const float before = args.state.max[i];
        if (peak > before) args.state.max[i] = peak;
        scratch.factors[i] = peak > before ? before - peak : 0.0f;
    }
    for_each_16(args.n, [&](size_t i, size_t m) EDGEKIT_INLINE_LAMBDA {
        store_part(scratch.factors + i, exp(load_part(scratch.factors + i, m)), m);
    });
    for (uint32_t i = 0; i < args.n; ++i) {
        float* s = scratch.scores + size_t{kBlockSlots} * i;
        // A query that has seen nothing yet keeps scores of -inf, whose exponentials are 0 relative to any
        // number.
        const f32x16 offset = splat(args.state.max[i] > never ? args.state.max[i] : 0.0f);
        f32x16 total = splat(0.0f);
#pragma GCC unroll 4
        for (uint32_t j = 0; j < kBlockSlots; j += 16) {
            const f32x16 p = exp(load(s + j) - offset);
            store(s + j, p);
            total = total + p;
        }
        args.state.sum[i] = args.state.sum[i] * scratch.factors[i] + sum(total);
    }
}

// acc = acc · factor + Σ p · v over slots [begin, end) of the block, for R queries and 16 · C dimensions from
// 16 · c; the last of these 16 may be fewer, `last`. Weights: [groups][R][64] when scaled, [R][64] when not.
template <int R, int C, class V>
EDGEKIT_INLINE void weigh(const AttendArgs& args, const float* factors, const float* weights, const V& values,
                          uint32_t query, uint32_t c, uint32_t first, uint32_t begin, uint32_t end,
                          size_t last = 16) {
    const size_t head_dim = args.kv.head_dim;
    float* const out = args.state.acc + query * head_dim + 16 * c;
    f32x16 acc[R][C];
    const float* p[C];
#pragma GCC unroll 4
    for (uint32_t j = 0; j < C; ++j)
        p[j] = weights + (V::kScaled ? size_t{(c + j) / 2} * R * kBlockSlots : 0);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int j = 0; j < C; ++j)
            acc[r][j] = load_part(out + r * head_dim + 16 * j, last) * splat(factors[query + r]);
    for (size_t slot = begin; slot < end;) {
        auto row = values.row(slot);
        const size_t tile_end = slot / 16 * 16 + 16, stop = tile_end < end ? tile_end : end;
        for (; slot < stop; ++slot, row.next()) {
            f32x16 v[C];
#pragma GCC unroll 4
            for (int j = 0; j < C; ++j) v[j] = row(c + j);
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
                for (int j = 0; j < C; ++j)
                    acc[r][j] = fma(splat(p[j][kBlockSlots * r + (slot - first)]), v[j], acc[r][j]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int j = 0; j < C; ++j) store_part(out + r * head_dim + 16 * j, acc[r][j], last);
}

template <class V>
[[gnu::noinline]] void weigh_block(const AttendArgs& args, const AttendScratch& scratch, const V& values,
                                   uint32_t first, uint32_t begin, uint32_t end) {
    const uint32_t whole = args.kv.head_dim / 16, last = args.kv.head_dim % 16;
    for_each_block<kDenseRows>(args.n, [&]<int R>(Count<R>, uint32_t row) EDGEKIT_INLINE_LAMBDA {
        const float* weights = scratch.scores + size_t{kBlockSlots} * row;
        if constexpr (V::kScaled) {
            float* scaled = scratch.weights;
            for (uint32_t g = 0; g < kv::n_groups(args.kv.head_dim); ++g, scaled += R * kBlockSlots)
                for (uint32_t tile = begin / 16; tile < (end + 15) / 16; ++tile) {
                    const f32x16 scales = values.scales(tile, g);
                    const uint32_t at = 16 * tile - first;
#pragma GCC unroll 16
                    for (int r = 0; r < R; ++r)
                        store(scaled + kBlockSlots * r + at, load(weights + kBlockSlots * r + at) * scales);
                }
            weights = scratch.weights;
        }
        constexpr int room = kDenseRows * kDenseTiles / R, C = room > 4 ? 4 : room;
        uint32_t c = 0;
        for (; c + C <= whole; c += C)
            weigh<R, C>(args, scratch.factors, weights, values, row, c, first, begin, end);
        if constexpr (C > 1)
            for (; c < whole; ++c)
                weigh<R, 1>(args, scratch.factors, weights, values, row, c, first, begin, end);
        if (last) weigh<R, 1>(args, scratch.factors, weights, values, row, c, first, begin, end, last);
    });
}

// Slots [begin, end) of the block as floats, into scratch.values.
template <KvType type>
[[gnu::noinline]] void expand_block(const Values<type>& values, const AttendScratch& scratch, uint32_t chunks,
                                    uint32_t first, uint32_t begin, uint32_t end) {
    for (uint32_t slot = begin; slot < end; ++slot) {
        const auto row = values.row(slot);
        const auto* scales = reinterpret_cast<const uint16_t*>(values.data + slot / 16 * values.tile_bytes);
        for (uint32_t c = 0; c < chunks; ++c) {
            f32x16 x = row(c);
            if constexpr (Values<type>::kScaled) x = x * splat(from_bf16(scales[c / 2 * 16 + slot % 16]));
            store(scratch.values + (size_t{slot - first} * chunks + c) * 16, x);
        }
    }
}

// Scores of slots [begin, end) of a block, which expand_block made floats.
[[gnu::noinline]] inline void score_rows(const AttendArgs& args, const AttendScratch& scratch,
                                         uint32_t chunks, uint32_t begin, uint32_t end) {
    const uint32_t head_dim = args.kv.head_dim;
    for_each_block<kDenseRows>(args.n, [&]<int R>(Count<R>, uint32_t query) EDGEKIT_INLINE_LAMBDA {
        const float* q = args.q + size_t{query} * head_dim;
        for (uint32_t slot = begin; slot < end; ++slot) {
            const float* row = scratch.values + size_t{slot} * chunks * 16;
            f32x16 y[R];
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) y[r] = splat(0.0f);
            for_each_16(head_dim, [&](size_t d, size_t m) EDGEKIT_INLINE_LAMBDA {
                const f32x16 x = load(row + d);
#pragma GCC unroll 16
                for (int r = 0; r < R; ++r) y[r] = fma(load_part(q + size_t(r) * head_dim + d, m), x, y[r]);
            });
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) scratch.scores[size_t{kBlockSlots} * (query + r) + slot] = sum(y[r]);
        }
    });
}

template <KvType type>
inline void attend_typed(const AttendArgs& args) {
    uint32_t begin = ~0u, end = 0;
    for (uint32_t i = 0; i < args.n; ++i) {
        if (args.begin[i] >= args.end[i]) continue;
        begin = args.begin[i] < begin ? args.begin[i] : begin;
        end = args.end[i] > end ? args.end[i] : end;
    }
    const AttendScratch scratch(args.scratch, args.n, args.kv.head_dim);
    const Values<type> values(args.kv);
    const uint32_t chunks = (args.kv.head_dim + 15) / 16;
    for (uint32_t first = begin / kBlockSlots * kBlockSlots; first < end; first += kBlockSlots) {
        const uint32_t from = begin > first ? begin : first;
        const uint32_t to = end < first + kBlockSlots ? end : first + kBlockSlots;
        values.fetch(first / 16, (to + 15) / 16);  // while the keys are multiplied
        if (!args.kv.k) {
            expand_block<type>(values, scratch, chunks, first, from, to);
            score_rows(args, scratch, chunks, from - first, to - first);
            softmax_block(args, scratch, first);
            weigh_block(args, scratch,
                        FloatValues<Values<KvType::f32>>{Values<KvType::f32>(args.kv), scratch.values,
                                                         size_t{16} * chunks, first},
                        first, from, to);
            continue;
        }
        score_block<type>(args, scratch, first / 16, (to + 15) / 16);
        softmax_block(args, scratch, first);
        if (args.n <= kDenseRows) {
            weigh_block(args, scratch, values, first, from, to);
            continue;
        }
        for (uint32_t slot = from; slot < to; ++slot)
            for (uint32_t c = 0; c < chunks; ++c)
                store(scratch.values + (size_t{slot - first} * chunks + c) * 16, values.row(slot)(c));
        weigh_block(args, scratch,
                    FloatValues<Values<type>>{values, scratch.values, size_t{16} * chunks, first}, first,
                    from, to);
    }
}

inline void attend(const AttendArgs& args) {
    switch (args.kv.type) {
        case KvType::f32:
            return attend_typed<KvType::f32>(args);
        case KvType::f16:
            return attend_typed<KvType::f16>(args);
        case KvType::int8:
            return attend_typed<KvType::int8>(args);
        case KvType::int4:
            return attend_typed<KvType::int4>(args);
    }
}

inline void attend_merge(const AttendState& a, const AttendState& b, uint32_t n, uint32_t head_dim) {
    for (uint32_t i = 0; i < n; ++i) {
        const float peak = a.max[i] > b.max[i] ? a.max[i] : b.max[i];
        if (!(peak > -__builtin_inff())) continue;
        const f32x16 fa = exp(splat(a.max[i] - peak)), fb = exp(splat(b.max[i] - peak));
        a.sum[i] = a.sum[i] * first_lane(fa) + b.sum[i] * first_lane(fb);
        a.max[i] = peak;
        float* x = a.acc + size_t{i} * head_dim;
        const float* y = b.acc + size_t{i} * head_dim;
        for_each_16(head_dim, [&](size_t d, size_t m) EDGEKIT_INLINE_LAMBDA {
            store_part(x + d, load_part(x + d, m) * fa + load_part(y + d, m) * fb, m);
        });
    }
}

inline void attend_finish(KvType type, const AttendState& state, uint32_t n, uint32_t head_dim, float* out) {
    for (uint32_t i = 0; i < n; ++i, out += head_dim) {
        const float* acc = state.acc + size_t{i} * head_dim;
        const f32x16 inverse = splat(state.sum[i] > 0.0f ? 1.0f / state.sum[i] : 0.0f);
        for_each_16(head_dim, [&](size_t d, size_t m) EDGEKIT_INLINE_LAMBDA {
            store_part(out + d, load_part(acc + d, m) * inverse, m);
        });
        if (type == KvType::int4) rotate_hadamard(out, head_dim);
    }
}

}  // namespace edgekit::EDGEKIT_ISA
