#pragma once
// WebAssembly SIMD, and relaxed SIMD where the target has it: the names that simd/scalar.h explains.

#include <wasm_simd128.h>

#include <cstddef>
#include <cstdint>

#include "simd/half.h"

#define EDGEKIT_INLINE [[gnu::always_inline]] inline
#define EDGEKIT_INLINE_LAMBDA __attribute__((always_inline))

namespace edgekit::EDGEKIT_ISA {

inline constexpr int kGemmRows = 4, kGemmRowStep = 1, kGemmTiles = 1;
inline constexpr int kStreamRows = 2, kOtherStreamRows = 1, kStreamSums = 1, kStreamGroups = 1;
inline constexpr int kDenseRows = 4, kDenseTiles = 1;
#ifdef __wasm_relaxed_simd__
// relaxed_dot takes signed activations by 7-bit unsigned weights: levels fit; codes hand their sign to the
// activations.
inline constexpr int kLevelBias = 32, kCodeBias = 0;
#else
inline constexpr int kLevelBias = 0, kCodeBias = 0;
#endif

// One type in WebAssembly; three here, so that arithmetic finds its meaning.
struct f32x4 {
    v128_t v;
};
struct i32x4 {
    v128_t v;
};
struct u8x16 {
    v128_t v;
};

EDGEKIT_INLINE f32x4 splat4(float x) { return {wasm_f32x4_splat(x)}; }
EDGEKIT_INLINE i32x4 splat4_i32(int32_t x) { return {wasm_i32x4_splat(x)}; }
EDGEKIT_INLINE f32x4 load4(const float* p) { return {wasm_v128_load(p)}; }
EDGEKIT_INLINE void store4(float* p, f32x4 x) { wasm_v128_store(p, x.v); }
EDGEKIT_INLINE f32x4 add(f32x4 x, f32x4 y) { return {wasm_f32x4_add(x.v, y.v)}; }
EDGEKIT_INLINE f32x4 sub(f32x4 x, f32x4 y) { return {wasm_f32x4_sub(x.v, y.v)}; }
EDGEKIT_INLINE f32x4 mul(f32x4 x, f32x4 y) { return {wasm_f32x4_mul(x.v, y.v)}; }
EDGEKIT_INLINE f32x4 div(f32x4 x, f32x4 y) { return {wasm_f32x4_div(x.v, y.v)}; }
EDGEKIT_INLINE f32x4 fma(f32x4 x, f32x4 y, f32x4 z) {
#ifdef __wasm_relaxed_simd__
    return {wasm_f32x4_relaxed_madd(x.v, y.v, z.v)};
#else
    return add(mul(x, y), z);
#endif
}
EDGEKIT_INLINE f32x4 min(f32x4 x, f32x4 y) { return {wasm_f32x4_pmin(x.v, y.v)}; }
EDGEKIT_INLINE f32x4 max(f32x4 x, f32x4 y) { return {wasm_f32x4_pmax(x.v, y.v)}; }
EDGEKIT_INLINE f32x4 abs(f32x4 x) { return {wasm_f32x4_abs(x.v)}; }
EDGEKIT_INLINE i32x4 add(i32x4 x, i32x4 y) { return {wasm_i32x4_add(x.v, y.v)}; }
EDGEKIT_INLINE i32x4 shift_to_exponent(i32x4 x) { return {wasm_i32x4_shl(x.v, 23)}; }
EDGEKIT_INLINE i32x4 bits(f32x4 x) { return {x.v}; }
EDGEKIT_INLINE f32x4 from_bits(i32x4 x) { return {x.v}; }
EDGEKIT_INLINE f32x4 to_f32(i32x4 x) { return {wasm_f32x4_convert_i32x4(x.v)}; }
EDGEKIT_INLINE i32x4 round_i32(f32x4 x) {
    return {wasm_i32x4_sub(wasm_f32x4_add(x.v, wasm_f32x4_splat(12582912.0f)), wasm_i32x4_splat(0x4B400000))};
}
EDGEKIT_INLINE i32x4 less(f32x4 x, f32x4 y) { return {wasm_f32x4_lt(x.v, y.v)}; }
EDGEKIT_INLINE f32x4 select(i32x4 mask, f32x4 x, f32x4 y) { return {wasm_v128_bitselect(x.v, y.v, mask.v)}; }
EDGEKIT_INLINE u8x16 splat16_u8(uint8_t x) { return {wasm_u8x16_splat(x)}; }
EDGEKIT_INLINE u8x16 and_u8(u8x16 x, u8x16 y) { return {wasm_v128_and(x.v, y.v)}; }
EDGEKIT_INLINE u8x16 add_u8(u8x16 x, u8x16 y) { return {wasm_i8x16_add(x.v, y.v)}; }
EDGEKIT_INLINE u8x16 merge(u8x16 mask, u8x16 x, u8x16 y) { return {wasm_v128_bitselect(x.v, y.v, mask.v)}; }
template <int n>
EDGEKIT_INLINE u8x16 moved(u8x16 x) {
    return {n < 0 ? wasm_u8x16_shr(x.v, -n) : wasm_i8x16_shl(x.v, n)};
}
EDGEKIT_INLINE float sum4(f32x4 x) {
    const v128_t two = wasm_f32x4_add(x.v, wasm_i32x4_shuffle(x.v, x.v, 2, 3, 0, 1));
    return wasm_f32x4_extract_lane(two, 0) + wasm_f32x4_extract_lane(two, 1);
}
EDGEKIT_INLINE float max4(f32x4 x) {
    const v128_t two = wasm_f32x4_pmax(x.v, wasm_i32x4_shuffle(x.v, x.v, 2, 3, 0, 1));
    const float a = wasm_f32x4_extract_lane(two, 0), b = wasm_f32x4_extract_lane(two, 1);
    return a > b ? a : b;
}
EDGEKIT_INLINE int32_t sum4_i32(i32x4 x) {
    return wasm_i32x4_extract_lane(x.v, 0) + wasm_i32x4_extract_lane(x.v, 1) +
           wasm_i32x4_extract_lane(x.v, 2) + wasm_i32x4_extract_lane(x.v, 3);
}

}  // namespace edgekit::EDGEKIT_ISA

#include "simd/quad.h"

namespace edgekit::EDGEKIT_ISA {

struct LevelTable {
    v128_t v;
};

EDGEKIT_INLINE f32x4 widen_bf16(const uint16_t* p) { return {wasm_i32x4_shl(wasm_u32x4_load16x4(p), 16)}; }
EDGEKIT_INLINE f32x16 load_bf16(const uint16_t* p) {
    return {widen_bf16(p), widen_bf16(p + 4), widen_bf16(p + 8), widen_bf16(p + 12)};
}
EDGEKIT_INLINE f32x4 widen_f16(const uint16_t* p) {  // widen_half, four at a time
    const v128_t half = wasm_u32x4_load16x4(p), rest = wasm_v128_and(half, wasm_i32x4_splat(0x7FFF));
    const v128_t sign = wasm_i32x4_shl(wasm_v128_and(half, wasm_i32x4_splat(0x8000)), 16),
                 shifted = wasm_i32x4_shl(rest, 13);
    const v128_t magnitude = wasm_f32x4_mul(shifted, wasm_f32x4_splat(5.192296858534828e33f));
    const v128_t infinite = wasm_v128_or(shifted, wasm_i32x4_splat(0x7F800000));
    return {wasm_v128_or(
        sign, wasm_v128_bitselect(infinite, magnitude, wasm_i32x4_ge(rest, wasm_i32x4_splat(0x7C00))))};
}
EDGEKIT_INLINE f32x16 load_f16(const uint16_t* p) {
    return {widen_f16(p), widen_f16(p + 4), widen_f16(p + 8), widen_f16(p + 12)};
}
EDGEKIT_INLINE void store_f16(uint16_t* p, f32x16 x) {
    float lanes[16];
    store(lanes, x);
    for (int i = 0; i < 16; ++i) p[i] = narrow_half(lanes[i]);
}
EDGEKIT_INLINE f32x16 widen_i8(v128_t x) {
    const v128_t low = wasm_i16x8_extend_low_i8x16(x), high = wasm_i16x8_extend_high_i8x16(x);
    return {to_f32(i32x4{wasm_i32x4_extend_low_i16x8(low)}), to_f32(i32x4{wasm_i32x4_extend_high_i16x8(low)}),
            to_f32(i32x4{wasm_i32x4_extend_low_i16x8(high)}),
            to_f32(i32x4{wasm_i32x4_extend_high_i16x8(high)})};
}
EDGEKIT_INLINE f32x16 load_i8(const void* p) { return widen_i8(wasm_v128_load(p)); }
EDGEKIT_INLINE void store_i8(int8_t* p, i32x16 x) {
    wasm_v128_store(p, wasm_i8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(x.a.v, x.b.v),
                                               wasm_i16x8_narrow_i32x4(x.c.v, x.d.v)));
}

EDGEKIT_INLINE u8x64 load_line(const void* p) {
    const auto* byte = static_cast<const uint8_t*>(p);
    return {{wasm_v128_load(byte)},
            {wasm_v128_load(byte + 16)},
            {wasm_v128_load(byte + 32)},
            {wasm_v128_load(byte + 48)}};
}
EDGEKIT_INLINE void store_line(void* p, u8x64 x) {
    auto* byte = static_cast<uint8_t*>(p);
    wasm_v128_store(byte, x.a.v);
    wasm_v128_store(byte + 16, x.b.v);
    wasm_v128_store(byte + 32, x.c.v);
    wasm_v128_store(byte + 48, x.d.v);
}

EDGEKIT_INLINE LevelTable level_table(const int8_t* levels) {
    return {wasm_i8x16_add(wasm_v128_load(levels), wasm_i8x16_splat(kLevelBias))};
}
EDGEKIT_INLINE v128_t low_nibbles(v128_t x) { return wasm_v128_and(x, wasm_i8x16_splat(15)); }
EDGEKIT_INLINE v128_t lookup(v128_t table, v128_t index) {
#ifdef __wasm_relaxed_simd__
    return wasm_i8x16_relaxed_swizzle(table, index);
#else
    return wasm_i8x16_swizzle(table, index);
#endif
}
EDGEKIT_INLINE u8x64 levels_low(LevelTable t, u8x64 x) {
    return {{lookup(t.v, low_nibbles(x.a.v))},
            {lookup(t.v, low_nibbles(x.b.v))},
            {lookup(t.v, low_nibbles(x.c.v))},
            {lookup(t.v, low_nibbles(x.d.v))}};
}
EDGEKIT_INLINE u8x64 levels_high(LevelTable t, u8x64 x) {
    return {{lookup(t.v, wasm_u8x16_shr(x.a.v, 4))},
            {lookup(t.v, wasm_u8x16_shr(x.b.v, 4))},
            {lookup(t.v, wasm_u8x16_shr(x.c.v, 4))},
            {lookup(t.v, wasm_u8x16_shr(x.d.v, 4))}};
}
EDGEKIT_INLINE void load_levels(const int8_t* levels, const void* p, f32x16& low, f32x16& high) {
    const v128_t table = wasm_v128_load(levels), codes = wasm_v128_load(p);
    low = widen_i8(lookup(table, low_nibbles(codes)));
    high = widen_i8(lookup(table, wasm_u8x16_shr(codes, 4)));
}
EDGEKIT_INLINE u8x64 biased_codes(u8x64 x) { return x; }

// Four activations, four times.
EDGEKIT_INLINE u8x16 splat_bytes(const int8_t* a) { return {wasm_v128_load32_splat(a)}; }
#ifdef __wasm_relaxed_simd__
EDGEKIT_INLINE i32x4 dot4_level(i32x4 acc, v128_t w, v128_t a) {
    return {wasm_i32x4_relaxed_dot_i8x16_i7x16_add(a, w, acc.v)};
}
EDGEKIT_INLINE i32x4 dot4_code(i32x4 acc, v128_t w, v128_t a) {
    const v128_t sign = wasm_i8x16_shr(w, 7);
    return dot4_level(acc, wasm_i8x16_abs(w), wasm_i8x16_sub(wasm_v128_xor(a, sign), sign));
}
EDGEKIT_INLINE i32x16 dot_levels(i32x16 acc, u8x64 w, const int8_t* a) {
    const v128_t x = splat_bytes(a).v;
    return {dot4_level(acc.a, w.a.v, x), dot4_level(acc.b, w.b.v, x), dot4_level(acc.c, w.c.v, x),
            dot4_level(acc.d, w.d.v, x)};
}
#else
// Neighbours' products fit 16 bits (2 · 127 · 127 < 2^15).
EDGEKIT_INLINE i32x4 dot4_code(i32x4 acc, v128_t w, v128_t a) {
    const v128_t low = wasm_i16x8_extmul_low_i8x16(w, a), high = wasm_i16x8_extmul_high_i8x16(w, a);
    const v128_t even = wasm_i16x8_shuffle(low, high, 0, 2, 4, 6, 8, 10, 12, 14);
    const v128_t odd = wasm_i16x8_shuffle(low, high, 1, 3, 5, 7, 9, 11, 13, 15);
    return {wasm_i32x4_add(acc.v, wasm_i32x4_extadd_pairwise_i16x8(wasm_i16x8_add(even, odd)))};
}
#endif
EDGEKIT_INLINE i32x16 dot_codes(i32x16 acc, u8x64 w, const int8_t* a) {
    const v128_t x = splat_bytes(a).v;
    return {dot4_code(acc.a, w.a.v, x), dot4_code(acc.b, w.b.v, x), dot4_code(acc.c, w.c.v, x),
            dot4_code(acc.d, w.d.v, x)};
}

EDGEKIT_INLINE void prefetch(const void*) {}

inline constexpr int kNarrowVectors = 1;
struct i16x8 {
    v128_t v;
};
EDGEKIT_INLINE i16x8 zero_i16() { return {wasm_i16x8_splat(0)}; }
EDGEKIT_INLINE u8x16 load_bytes(const void* p) { return {wasm_v128_load(p)}; }
EDGEKIT_INLINE i16x8 add_low(i16x8 sums, u8x16 w, u8x16 a) {
    return {wasm_i16x8_add(sums.v, wasm_i16x8_extmul_low_i8x16(w.v, a.v))};
}
EDGEKIT_INLINE i16x8 add_high(i16x8 sums, u8x16 w, u8x16 a) {
    return {wasm_i16x8_add(sums.v, wasm_i16x8_extmul_high_i8x16(w.v, a.v))};
}
EDGEKIT_INLINE i32x4 add_fours(i16x8 low, i16x8 high) {
    const v128_t x = wasm_i32x4_extadd_pairwise_i16x8(low.v), y = wasm_i32x4_extadd_pairwise_i16x8(high.v);
    return {wasm_i32x4_add(wasm_i32x4_shuffle(x, y, 0, 2, 4, 6), wasm_i32x4_shuffle(x, y, 1, 3, 5, 7))};
}

}  // namespace edgekit::EDGEKIT_ISA

#include "simd/narrow_sums.h"

namespace edgekit::EDGEKIT_ISA {

#ifdef __wasm_relaxed_simd__
using LevelSums = WideSums<kLevelBias, 0, dot_levels>;
#else
using LevelSums = NarrowSums;
#endif
using CodeSums = WideSums<kCodeBias, 1, dot_codes>;

EDGEKIT_INLINE void make_starts(const int8_t*, int32_t sum, int32_t* starts) {
    make_wide_starts<kLevelBias, kCodeBias>(sum, starts);
}

}  // namespace edgekit::EDGEKIT_ISA
