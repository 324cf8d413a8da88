#pragma once
// Writing and reading single slots of the key/value ring; quant/kv.h gives the bytes.

#include "kernels/kernels.h"
#include "quant/kv.h"

namespace edgekit::EDGEKIT_ISA {

EDGEKIT_INLINE float from_bf16(uint16_t x) {
    const uint32_t word = uint32_t{x} << 16;
    float out;
    __builtin_memcpy(&out, &word, 4);
    return out;
}
EDGEKIT_INLINE uint16_t to_bf16(float x) {
    uint32_t word;
    __builtin_memcpy(&word, &x, 4);
    return uint16_t((word + 0x7FFF + ((word >> 16) & 1)) >> 16);
}

// Hadamard matrix of 16 (Sylvester's): element [i][j] is -1 to the number of ones in i & j.
struct Hadamard16 {
    alignas(64) float rows[16][16];
    constexpr Hadamard16() : rows() {
        for (int i = 0; i < 16; ++i)
            for (int j = 0; j < 16; ++j) rows[i][j] = __builtin_popcount(unsigned(i & j)) % 2 ? -1.0f : 1.0f;
    }
};
inline constexpr Hadamard16 kHadamard16;

EDGEKIT_INLINE void butterfly(float& a, float& b) {
    const float sum = a + b, difference = a - b;
    a = sum;
    b = difference;
}

// In place: blocks of the largest power of two that divides n, times the orthonormal Hadamard matrix, its own
// inverse.
inline void rotate_hadamard(float* x, uint32_t n) {
    const uint32_t block = n & (0u - n);
    const float norm = 1.0f / __builtin_sqrtf(float(block));
    if (block < 16) {
        for (uint32_t half = 1; half < block; half *= 2)
            for (uint32_t i = 0; i < n; i += 2 * half)
                for (uint32_t j = i; j < i + half; ++j) butterfly(x[j], x[j + half]);
        for (uint32_t i = 0; i < n; ++i) x[i] *= norm;
        return;
    }
    for (uint32_t i = 0; i < n; i += 16) {
        f32x16 y = splat(0.0f);
        for (uint32_t j = 0; j < 16; ++j) y = fma(splat(x[i + j]), load(kHadamard16.rows[j]), y);
        store(x + i, y * splat(norm));
    }
    for (uint32_t half = 16; half < block; half *= 2)
        for (uint32_t i = 0; i < n; i += 2 * half)
            for (uint32_t j = i; j < i + half; j += 16) {
                const f32x16 a = load(x + j), b = load(x + j + half);
                store(x + j, a + b);
                store(x + j + half, a - b);
            }
}

// 32 codes of a group and their scale: code · scale ≈ x.
EDGEKIT_INLINE uint16_t encode_int8(const float* x, int8_t* codes) {
    const f32x16 a = load(x), b = load(x + 16);
    const uint16_t scale = to_bf16(max_lane(max(abs(a), abs(b))) / 127.0f);
    const float value = from_bf16(scale);
    const f32x16 inverse = splat(value > 1e-30f ? 1.0f / value : 0.0f);
    for (int half = 0; half < 2; ++half) {
        const f32x16 scaled = (half ? b : a) * inverse;
        store_i8(codes + 16 * half, round_i32(min(max(scaled, splat(-127.0f)), splat(127.0f))));
    }
    return scale;
}

// Index of the nearest level: how many midpoints between neighbours lie below x.
EDGEKIT_INLINE i32x16 nearest_level(f32x16 x) {
    f32x16 index = splat(0.0f);
    for (int i = 0; i < 15; ++i) {
        const float midpoint = 0.5f * float(q4_block32::kLevels[i] + q4_block32::kLevels[i + 1]);
        index = index + select(less(splat(midpoint), x), splat(1.0f), splat(0.0f));
    }
    return round_i32(index);
}

// 32 level indices of a group and their scale, whose sign sends the number of largest magnitude to the
// outermost level.
EDGEKIT_INLINE uint16_t encode_int4(const float* x, int8_t* codes) {
    const f32x16 a = load(x), b = load(x + 16);
    const float high = max_lane(max(a, b)), low = max_lane(max(splat(0.0f) - a, splat(0.0f) - b));
    const uint16_t scale = to_bf16((high > low ? high : -low) / float(q4_block32::kLevels[0]));
    const float value = from_bf16(scale);
    const f32x16 inverse = splat(value > 1e-30f || value < -1e-30f ? 1.0f / value : 0.0f);
    store_i8(codes, nearest_level(a * inverse));
    store_i8(codes + 16, nearest_level(b * inverse));
    return scale;
}

// A head vector, rotated if asked for and followed by zeros up to whole groups, in `out`.
EDGEKIT_INLINE void pad_head(bool rotated, const float* x, uint32_t head_dim, float* out) {
    const uint32_t padded = kGroup * kv::n_groups(head_dim);
    __builtin_memcpy(out, x, size_t{4} * head_dim);
    __builtin_memset(out + head_dim, 0, size_t{4} * (padded - head_dim));
    if (rotated) rotate_hadamard(out, head_dim);
}

// The places of one slot.
struct Slot {
    std::byte *k, *v;  // its tiles; no k: see KvHead
    std::byte* v_row;  // its row of values, or of their codes
    uint32_t index;    // in the tile
    uint32_t head_dim, n_groups;
    size_t codes;  // where codes start in a quantized tile
    EDGEKIT_INLINE uint16_t& k_scale(uint32_t g) const {
        return reinterpret_cast<uint16_t*>(k)[16 * g + index];
    }
    EDGEKIT_INLINE uint16_t& v_scale(uint32_t g) const {
        return reinterpret_cast<uint16_t*>(v)[16 * g + index];
    }
    // Line `line` of a group's key codes: 4 bytes of this slot.
    EDGEKIT_INLINE std::byte* k_codes(uint32_t g, size_t group_bytes, uint32_t line) const {
        return k + codes + group_bytes * g + 64 * line + 4 * index;
    }
};

EDGEKIT_INLINE Slot slot_of(const KvHead& kv, uint32_t slot) {
    const uint32_t tile = slot / 16, index = slot % 16;
    std::byte* v = kv.v + tile * kv::v_tile_bytes(kv.type, kv.head_dim);
    const size_t codes = kv::codes_offset(kv.head_dim);
    const bool quantized = kv.type == KvType::int8 || kv.type == KvType::int4;
    return {kv.k ? kv.k + tile * kv::k_tile_bytes(kv.type, kv.head_dim) : nullptr,
            v,
            v + (quantized ? codes : 0) + index * kv::v_row_bytes(kv.type, kv.head_dim),
            index,
            kv.head_dim,
            kv::n_groups(kv.head_dim),
            codes};
}

inline void store_int8(const Slot& s, const float* k, const float* v) {
    for (uint32_t g = 0; g < s.n_groups; ++g) {
        if (s.k) {
            int8_t codes[32];
            s.k_scale(g) = encode_int8(k + 32 * g, codes);
            for (uint32_t j = 0; j < 8; ++j)
                __builtin_memcpy(s.k_codes(g, q8_block32::kLayout.code_bytes, j), codes + 4 * j, 4);
        }
        s.v_scale(g) = encode_int8(v + 32 * g, reinterpret_cast<int8_t*>(s.v_row + 32 * g));
    }
}

inline void store_int4(const Slot& s, const float* k, const float* v) {
    for (uint32_t g = 0; g < s.n_groups; ++g) {
        int8_t codes[32], nibbles[16];
        const auto pack = [&] {
            for (int i = 0; i < 16; ++i) nibbles[i] = int8_t(codes[i] | codes[i + 16] << 4);
        };
        if (s.k) {
            s.k_scale(g) = encode_int4(k + 32 * g, codes);
            pack();
            for (uint32_t j = 0; j < 4; ++j)
                __builtin_memcpy(s.k_codes(g, q4_block32::kLayout.code_bytes, j), nibbles + 4 * j, 4);
        }
        s.v_scale(g) = encode_int4(v + 32 * g, codes);
        pack();
        __builtin_memcpy(s.v_row + 16 * g, nibbles, 16);
    }
}

inline void kv_store(const KvHead& kv, uint32_t slot, const float* k, const float* v) {
    const Slot s = slot_of(kv, slot);
    alignas(64) float keys[kv::kMaxHeadDim], values[kv::kMaxHeadDim];
    const bool rotated = s.k && kv.type == KvType::int4;
    pad_head(rotated, k, kv.head_dim, keys);
    pad_head(rotated, s.k ? v : k, kv.head_dim, values);
    switch (kv.type) {
        case KvType::f32:
            for (uint32_t d = 0; s.k && d < kv.head_dim; ++d)
                reinterpret_cast<float*>(s.k)[16 * d + s.index] = keys[d];
            __builtin_memcpy(s.v_row, values, kv::v_row_bytes(kv.type, kv.head_dim));
            return;
        case KvType::f16: {
            alignas(64) uint16_t halves[kv::kMaxHeadDim];
            for (uint32_t d = 0; d < kv.head_dim; d += 16) store_f16(halves + d, load(keys + d));
            for (uint32_t d = 0; s.k && d < kv.head_dim; ++d)
                reinterpret_cast<uint16_t*>(s.k)[16 * d + s.index] = halves[d];
            for (uint32_t d = 0; d < kv.head_dim; d += 16)
                store_f16(reinterpret_cast<uint16_t*>(s.v_row) + d, load(values + d));
            return;
        }
        case KvType::int8:
            return store_int8(s, keys, values);
        case KvType::int4:
            return store_int4(s, keys, values);
    }
}

inline void kv_load(const KvHead& kv, uint32_t slot, float* k, float* v) {
    const Slot s = slot_of(kv, slot);
    alignas(64) float lanes[16];
    for (uint32_t d = 0; d < kv.head_dim; ++d) {
        const uint32_t g = d / 32, c = d % 32;
        switch (kv.type) {
            case KvType::f32:
                k[d] = reinterpret_cast<const float*>(s.k)[16 * d + s.index];
                v[d] = reinterpret_cast<const float*>(s.v_row)[d];
                break;
            case KvType::f16:
                store(lanes, load_f16(reinterpret_cast<const uint16_t*>(s.k) + 16 * d));
                k[d] = lanes[s.index];
                store(lanes, load_f16(reinterpret_cast<const uint16_t*>(s.v_row) + d / 16 * 16));
                v[d] = lanes[d % 16];
                break;
            case KvType::int8:
                k[d] = from_bf16(s.k_scale(g)) *
                       float(int8_t(s.k_codes(g, q8_block32::kLayout.code_bytes, c / 4)[c % 4]));
                v[d] = from_bf16(s.v_scale(g)) * float(int8_t(s.v_row[d]));
                break;
            case KvType::int4: {
                const auto level = [&](std::byte nibbles) {
                    return float(q4_block32::kLevels[c < 16 ? uint8_t(nibbles) & 15 : uint8_t(nibbles) >> 4]);
                };
                k[d] = from_bf16(s.k_scale(g)) *
                       level(s.k_codes(g, q4_block32::kLayout.code_bytes, c % 16 / 4)[c % 4]);
                v[d] = from_bf16(s.v_scale(g)) * level(s.v_row[16 * g + c % 16]);
                break;
            }
        }
    }
    if (kv.type == KvType::int4) {
        rotate_hadamard(k, kv.head_dim);
        rotate_hadamard(v, kv.head_dim);
    }
}

}  // namespace edgekit::EDGEKIT_ISA
