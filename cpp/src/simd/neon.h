#pragma once
// AArch64 NEON, with sdot and smmla where the target has them: the names that simd/scalar.h explains.

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "quant/layout.h"

#define EDGEKIT_INLINE [[gnu::always_inline]] inline
#define EDGEKIT_INLINE_LAMBDA __attribute__((always_inline))

namespace edgekit::EDGEKIT_ISA {

#ifdef __ARM_FEATURE_MATMUL_INT8
inline constexpr int kGemmRows = 4, kGemmRowStep = 2, kGemmTiles = 1;
#else
inline constexpr int kGemmRows = 4, kGemmRowStep = 1, kGemmTiles = 1;
#endif
// One row of the others: three more loops of each would not fit a phone's library.
inline constexpr int kStreamRows = 4, kOtherStreamRows = 1, kStreamSums = 1, kStreamGroups = 1;
inline constexpr int kDenseRows = 4, kDenseTiles = 1;
// sdot, and the multiplications without it, take both operands signed.
inline constexpr int kLevelBias = 0, kCodeBias = 0;

using f32x4 = float32x4_t;
using i32x4 = int32x4_t;
using u8x16 = uint8x16_t;

EDGEKIT_INLINE f32x4 splat4(float x) { return vdupq_n_f32(x); }
EDGEKIT_INLINE i32x4 splat4_i32(int32_t x) { return vdupq_n_s32(x); }
EDGEKIT_INLINE f32x4 load4(const float* p) { return vld1q_f32(p); }
EDGEKIT_INLINE void store4(float* p, f32x4 x) { vst1q_f32(p, x); }
EDGEKIT_INLINE f32x4 add(f32x4 x, f32x4 y) { return vaddq_f32(x, y); }
EDGEKIT_INLINE f32x4 sub(f32x4 x, f32x4 y) { return vsubq_f32(x, y); }
EDGEKIT_INLINE f32x4 mul(f32x4 x, f32x4 y) { return vmulq_f32(x, y); }
EDGEKIT_INLINE f32x4 div(f32x4 x, f32x4 y) { return vdivq_f32(x, y); }
EDGEKIT_INLINE f32x4 fma(f32x4 x, f32x4 y, f32x4 z) { return vfmaq_f32(z, x, y); }
EDGEKIT_INLINE f32x4 min(f32x4 x, f32x4 y) { return vminq_f32(x, y); }
EDGEKIT_INLINE f32x4 max(f32x4 x, f32x4 y) { return vmaxq_f32(x, y); }
EDGEKIT_INLINE f32x4 abs(f32x4 x) { return vabsq_f32(x); }
EDGEKIT_INLINE i32x4 add(i32x4 x, i32x4 y) { return vaddq_s32(x, y); }
EDGEKIT_INLINE i32x4 shift_to_exponent(i32x4 x) { return vshlq_n_s32(x, 23); }
EDGEKIT_INLINE i32x4 bits(f32x4 x) { return vreinterpretq_s32_f32(x); }
EDGEKIT_INLINE f32x4 from_bits(i32x4 x) { return vreinterpretq_f32_s32(x); }
EDGEKIT_INLINE f32x4 to_f32(i32x4 x) { return vcvtq_f32_s32(x); }
EDGEKIT_INLINE i32x4 round_i32(f32x4 x) { return vcvtnq_s32_f32(x); }
EDGEKIT_INLINE i32x4 less(f32x4 x, f32x4 y) { return vreinterpretq_s32_u32(vcltq_f32(x, y)); }
EDGEKIT_INLINE f32x4 select(i32x4 mask, f32x4 x, f32x4 y) {
    return vbslq_f32(vreinterpretq_u32_s32(mask), x, y);
}
EDGEKIT_INLINE u8x16 splat16_u8(uint8_t x) { return vdupq_n_u8(x); }
EDGEKIT_INLINE u8x16 and_u8(u8x16 x, u8x16 y) { return vandq_u8(x, y); }
EDGEKIT_INLINE u8x16 add_u8(u8x16 x, u8x16 y) { return vaddq_u8(x, y); }
EDGEKIT_INLINE u8x16 merge(u8x16 mask, u8x16 x, u8x16 y) { return vbslq_u8(mask, x, y); }
template <int n>
EDGEKIT_INLINE u8x16 moved(u8x16 x) {
    if constexpr (n < 0)
        return vshrq_n_u8(x, -n);
    else
        return vshlq_n_u8(x, n);
}
EDGEKIT_INLINE float sum4(f32x4 x) {
    const float32x2_t two = vadd_f32(vget_low_f32(x), vget_high_f32(x));
    return vget_lane_f32(vpadd_f32(two, two), 0);
}
EDGEKIT_INLINE float max4(f32x4 x) { return vmaxvq_f32(x); }
EDGEKIT_INLINE int32_t sum4_i32(i32x4 x) { return vaddvq_s32(x); }

}  // namespace edgekit::EDGEKIT_ISA

#include "simd/quad.h"

namespace edgekit::EDGEKIT_ISA {

struct LevelTable {
    int8x16_t v;
};

EDGEKIT_INLINE f32x4 widen_bf16(uint16x4_t x) { return vreinterpretq_f32_u32(vshll_n_u16(x, 16)); }
EDGEKIT_INLINE f32x16 load_bf16(const uint16_t* p) {
    return {widen_bf16(vld1_u16(p)), widen_bf16(vld1_u16(p + 4)), widen_bf16(vld1_u16(p + 8)),
            widen_bf16(vld1_u16(p + 12))};
}
EDGEKIT_INLINE f32x4 widen_f16(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
EDGEKIT_INLINE f32x16 load_f16(const uint16_t* p) {
    return {widen_f16(p), widen_f16(p + 4), widen_f16(p + 8), widen_f16(p + 12)};
}
EDGEKIT_INLINE void narrow_f16(uint16_t* p, f32x4 x) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x))); }
EDGEKIT_INLINE void store_f16(uint16_t* p, f32x16 x) {
    narrow_f16(p, x.a);
    narrow_f16(p + 4, x.b);
    narrow_f16(p + 8, x.c);
    narrow_f16(p + 12, x.d);
}
EDGEKIT_INLINE f32x16 widen_i8(int8x16_t x) {
    const int16x8_t low = vmovl_s8(vget_low_s8(x)), high = vmovl_s8(vget_high_s8(x));
    return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))};
}
EDGEKIT_INLINE f32x16 load_i8(const void* p) { return widen_i8(vld1q_s8(static_cast<const int8_t*>(p))); }
EDGEKIT_INLINE void store_i8(int8_t* p, i32x16 x) {
    const int16x8_t low = vcombine_s16(vmovn_s32(x.a), vmovn_s32(x.b)),
                    high = vcombine_s16(vmovn_s32(x.c), vmovn_s32(x.d));
    vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}

EDGEKIT_INLINE u8x64 load_line(const void* p) {
    const auto* byte = static_cast<const uint8_t*>(p);
    return {vld1q_u8(byte), vld1q_u8(byte + 16), vld1q_u8(byte + 32), vld1q_u8(byte + 48)};
}
EDGEKIT_INLINE void store_line(void* p, u8x64 x) {
    auto* byte = static_cast<uint8_t*>(p);
    vst1q_u8(byte, x.a);
    vst1q_u8(byte + 16, x.b);
    vst1q_u8(byte + 32, x.c);
    vst1q_u8(byte + 48, x.d);
}

EDGEKIT_INLINE LevelTable level_table(const int8_t* levels) { return {vld1q_s8(levels)}; }
EDGEKIT_INLINE u8x16 lookup(LevelTable t, u8x16 index) { return vreinterpretq_u8_s8(vqtbl1q_s8(t.v, index)); }
EDGEKIT_INLINE u8x64 levels_low(LevelTable t, u8x64 x) {
    const u8x16 mask = vdupq_n_u8(15);
    return {lookup(t, vandq_u8(x.a, mask)), lookup(t, vandq_u8(x.b, mask)), lookup(t, vandq_u8(x.c, mask)),
            lookup(t, vandq_u8(x.d, mask))};
}
EDGEKIT_INLINE u8x64 levels_high(LevelTable t, u8x64 x) {
    return {lookup(t, vshrq_n_u8(x.a, 4)), lookup(t, vshrq_n_u8(x.b, 4)), lookup(t, vshrq_n_u8(x.c, 4)),
            lookup(t, vshrq_n_u8(x.d, 4))};
}
EDGEKIT_INLINE void load_levels(const int8_t* levels, const void* p, f32x16& low, f32x16& high) {
    const u8x16 codes = vld1q_u8(static_cast<const uint8_t*>(p));
    low = widen_i8(vqtbl1q_s8(vld1q_s8(levels), vandq_u8(codes, vdupq_n_u8(15))));
    high = widen_i8(vqtbl1q_s8(vld1q_s8(levels), vshrq_n_u8(codes, 4)));
}
EDGEKIT_INLINE u8x64 biased_codes(u8x64 x) { return x; }

// One load for a row's four activations, sixteen times.
EDGEKIT_INLINE u8x16 splat_bytes(const int8_t* a) {
    int32_t four;
    __builtin_memcpy(&four, a, 4);
    return vreinterpretq_u8_s32(vdupq_n_s32(four));
}
EDGEKIT_INLINE i32x4 dot4(i32x4 acc, u8x16 w, u8x16 a) {
    const int8x16_t codes = vreinterpretq_s8_u8(w), x = vreinterpretq_s8_u8(a);
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(acc, codes, x);
#else
    // Neighbours' products fit 16 bits (2 · 127 · 127 < 2^15); sadalp adds their pairs.
    const int16x8_t low = vmull_s8(vget_low_s8(codes), vget_low_s8(x)), high = vmull_high_s8(codes, x);
    return vpadalq_s16(acc, vpaddq_s16(low, high));
#endif
}
EDGEKIT_INLINE i32x16 dot_codes(i32x16 acc, u8x64 w, const int8_t* a) {
    const u8x16 x = splat_bytes(a);
    return {dot4(acc.a, w.a, x), dot4(acc.b, w.b, x), dot4(acc.c, w.c, x), dot4(acc.d, w.d, x)};
}

EDGEKIT_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

inline constexpr int kNarrowVectors = 2;
using i16x8 = int16x8_t;
EDGEKIT_INLINE i16x8 zero_i16() { return vdupq_n_s16(0); }
EDGEKIT_INLINE u8x16 load_bytes(const void* p) { return vld1q_u8(static_cast<const uint8_t*>(p)); }
EDGEKIT_INLINE i16x8 add_low(i16x8 sums, u8x16 w, u8x16 a) {
    return vmlal_s8(sums, vreinterpret_s8_u8(vget_low_u8(w)), vreinterpret_s8_u8(vget_low_u8(a)));
}
EDGEKIT_INLINE i16x8 add_high(i16x8 sums, u8x16 w, u8x16 a) {
    return vmlal_high_s8(sums, vreinterpretq_s8_u8(w), vreinterpretq_s8_u8(a));
}
EDGEKIT_INLINE i32x4 add_fours(i16x8 low, i16x8 high) {
    return vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
}

}  // namespace edgekit::EDGEKIT_ISA

#if defined(__ARM_FEATURE_MATMUL_INT8)
#include "simd/smmla_sums.h"
#elif defined(__ARM_FEATURE_DOTPROD)
#include "simd/sdot_sums.h"
#else
#include "simd/narrow_sums.h"
#endif

namespace edgekit::EDGEKIT_ISA {

#ifdef __ARM_FEATURE_DOTPROD
using LevelSums = CodeSums;
#else
using LevelSums = NarrowSums;
using CodeSums = WideSums<0, 1, dot_codes>;
#endif

EDGEKIT_INLINE void make_starts(const int8_t*, int32_t sum, int32_t* starts) {
    make_wide_starts<kLevelBias, kCodeBias>(sum, starts);
}

}  // namespace edgekit::EDGEKIT_ISA
