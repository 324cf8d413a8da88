#pragma once
// Keys and values of one KV head: `n_slots` positions, a multiple of 16, in tiles of 16 slots. Every slot is
// written on its own; a head's keys are one contiguous run of tiles, its values another.
//
// A tile of keys has the line shape of a weight tile whose rows are the slots, so that the scores of 16 keys
// come out of one accumulator. A tile of values has one row per slot.
// G = ceil(head_dim / 32), S = round_up64(32 · G).
//
//           keys                                                values
//   f32     element [d][slot]                                   element [slot][round_up(head_dim, 16)]
//   f16     element [d][slot], up to a multiple of 64 bytes     element [slot][round_up(head_dim, 16)]
//   int8    0: bfloat16 scale [G][16 slots]                     0: bfloat16 scale [G][16 slots]
//           S: codes as in q8_block32                           S: int8 [16 slots][32 · G]
//   int4    0: bfloat16 scale [G][16 slots]                     0: bfloat16 scale [G][16 slots]
//           S: codes as in q4_block32 (the same levels)         S: [16 slots][G] × 16 bytes: byte i holds a
//                                                                  group's dimension i in its low nibble, its
//                                                                  dimension 16 + i in its high nibble
//
// int4 stores both vectors rotated by a Hadamard matrix of the largest power of two that divides head_dim
// (QuaRot, arXiv:2404.00456): outliers spread over the head, and scores do not change, because queries are
// rotated alike.
//
// Where one vector is key and value (multi-head latent attention), it is kept once, as values are, and in
// int4 without the rotation.

#include "quant/layout.h"
#include "quant/q4_block32.h"
#include "quant/q8_block32.h"

namespace edgekit {

enum class KvType : uint8_t { f32, f16, int8, int4 };

namespace kv {

inline constexpr uint32_t kMaxHeadDim = 1024;

[[gnu::always_inline]] constexpr uint32_t n_groups(uint32_t head_dim) {
    return (head_dim + kGroup - 1) / kGroup;
}
[[gnu::always_inline]] constexpr size_t codes_offset(uint32_t head_dim) {
    return round_up64(size_t{32} * n_groups(head_dim));
}

[[gnu::always_inline]] constexpr size_t k_tile_bytes(KvType type, uint32_t head_dim) {
    switch (type) {
        case KvType::f32:
            return size_t{64} * head_dim;
        case KvType::f16:
            return round_up64(size_t{32} * head_dim);
        case KvType::int8:
            return codes_offset(head_dim) + q8_block32::kLayout.code_bytes * n_groups(head_dim);
        case KvType::int4:
            return codes_offset(head_dim) + q4_block32::kLayout.code_bytes * n_groups(head_dim);
    }
    return 0;
}

// Bytes from a slot's value row to the next (quantized: of its codes).
[[gnu::always_inline]] constexpr size_t v_row_bytes(KvType type, uint32_t head_dim) {
    switch (type) {
        case KvType::f32:
            return size_t{4} * round_up(head_dim, 16);
        case KvType::f16:
            return size_t{2} * round_up(head_dim, 16);
        case KvType::int8:
            return size_t{32} * n_groups(head_dim);
        case KvType::int4:
            return size_t{16} * n_groups(head_dim);
    }
    return 0;
}

[[gnu::always_inline]] constexpr size_t v_tile_bytes(KvType type, uint32_t head_dim) {
    const size_t rows = 16 * v_row_bytes(type, head_dim);
    return type == KvType::int8 || type == KvType::int4 ? codes_offset(head_dim) + rows : rows;
}

// One prepared query: codes [32 · G], then 16 bytes for each group (ActivationGroup).
[[gnu::always_inline]] constexpr size_t query_bytes(KvType type, uint32_t head_dim) {
    return type == KvType::int8 || type == KvType::int4 ? round_up64(size_t{48} * n_groups(head_dim)) : 0;
}

}  // namespace kv
}  // namespace edgekit
