#pragma once
// Plain C++: what every other instruction set is held against, and the list of the names that a simd header
// provides.
//
// Every set offers the same 16 lanes (one zmm, two ymm, four 128-bit vectors), so that a kernel written once
// adds in the same order everywhere; only the rounding of fma differs where there is none.
//
//   f32x16, i32x16, m32x16 (a mask), u8x64 (a line of 64 codes)
//
// Products of 16 weight rows with a group of 32 activations are summed by
//   LevelSums   of q4 levels + kLevelBias, as levels_low and levels_high make them
//   CodeSums    of q8 codes + kCodeBias, as biased_codes makes them
// exact integers on every set. The biases are what a set prefers (0: signed). Such sums have
//   start(starts)     the two words that make_starts made of the group's activations
//   add(j, line, a)   line j of 0 … 7: to lane r, the sum over b = 0 … 3 of line[4·r + b] · a[b]
//   total()           16 lanes
// where a set's last instruction for them multiplies anyway
//   factors(p), total(factors)    16 scales of 8 bits as it takes them; the sums times those
// and, where a set multiplies an expanded panel better by other means (kernels/panel.h),
//   arrange(lines)                            lines of a panel's group, in place
//   multiply<R>(panel, g, n, x, add, sums)    all of its multiply_panel

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd/half.h"

#define EDGEKIT_INLINE inline  // the compiler judges: speed is the business of the other sets
#define EDGEKIT_INLINE_LAMBDA

namespace edgekit::EDGEKIT_ISA {

// Blocking of the matrix kernels: accumulators of rows × tiles that fit the registers.
// Integer, weights expanded; blocks begin at multiples of the step.
inline constexpr int kGemmRows = 1, kGemmRowStep = 1, kGemmTiles = 1;
// Rows served by one pass over packed weights of 4 and of 8 bits, and of others; rows × tiles, and the groups
// unrolled.
inline constexpr int kStreamRows = 1, kOtherStreamRows = 1, kStreamSums = 1, kStreamGroups = 1;
// Float.
inline constexpr int kDenseRows = 1, kDenseTiles = 1;
inline constexpr int kLevelBias = 0, kCodeBias = 0;

struct f32x16 {
    float v[16];
};
struct i32x16 {
    int32_t v[16];
};
struct m32x16 {
    bool v[16];
};
struct u8x64 {
    uint8_t v[64];
};

#define EDGEKIT_LANES(T, expression)                          \
    do {                                                      \
        T out;                                                \
        for (int i = 0; i < 16; ++i) out.v[i] = (expression); \
        return out;                                           \
    } while (0)

EDGEKIT_INLINE f32x16 splat(float x) { EDGEKIT_LANES(f32x16, x); }
EDGEKIT_INLINE i32x16 splat_i32(int32_t x) { EDGEKIT_LANES(i32x16, x); }
EDGEKIT_INLINE f32x16 load(const float* p) { EDGEKIT_LANES(f32x16, p[i]); }
EDGEKIT_INLINE void store(float* p, f32x16 x) { std::memcpy(p, x.v, sizeof x.v); }

EDGEKIT_INLINE f32x16 operator+(f32x16 a, f32x16 b) { EDGEKIT_LANES(f32x16, a.v[i] + b.v[i]); }
EDGEKIT_INLINE f32x16 operator-(f32x16 a, f32x16 b) { EDGEKIT_LANES(f32x16, a.v[i] - b.v[i]); }
EDGEKIT_INLINE f32x16 operator*(f32x16 a, f32x16 b) { EDGEKIT_LANES(f32x16, a.v[i] * b.v[i]); }
EDGEKIT_INLINE f32x16 operator/(f32x16 a, f32x16 b) { EDGEKIT_LANES(f32x16, a.v[i] / b.v[i]); }
EDGEKIT_INLINE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) { EDGEKIT_LANES(f32x16, a.v[i] * b.v[i] + c.v[i]); }
EDGEKIT_INLINE f32x16 min(f32x16 a, f32x16 b) { EDGEKIT_LANES(f32x16, a.v[i] < b.v[i] ? a.v[i] : b.v[i]); }
EDGEKIT_INLINE f32x16 max(f32x16 a, f32x16 b) { EDGEKIT_LANES(f32x16, a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }

EDGEKIT_INLINE i32x16 operator+(i32x16 a, i32x16 b) { EDGEKIT_LANES(i32x16, a.v[i] + b.v[i]); }
EDGEKIT_INLINE i32x16 shift_to_exponent(i32x16 a) { EDGEKIT_LANES(i32x16, int32_t(uint32_t(a.v[i]) << 23)); }

EDGEKIT_INLINE i32x16 bits(f32x16 a) {
    i32x16 out;
    std::memcpy(out.v, a.v, sizeof out.v);
    return out;
}
EDGEKIT_INLINE f32x16 from_bits(i32x16 a) {
    f32x16 out;
    std::memcpy(out.v, a.v, sizeof out.v);
    return out;
}

EDGEKIT_INLINE f32x16 to_f32(i32x16 a) { EDGEKIT_LANES(f32x16, float(a.v[i])); }
// To the nearest integer, halves to even, for |a| < 2^22: adding 1.5 · 2^23 leaves the integer in the low
// bits.
EDGEKIT_INLINE i32x16 round_i32(f32x16 a) {
    const i32x16 shifted = bits(a + splat(12582912.0f));
    EDGEKIT_LANES(i32x16, shifted.v[i] - 0x4B400000);
}

EDGEKIT_INLINE m32x16 less(f32x16 a, f32x16 b) { EDGEKIT_LANES(m32x16, a.v[i] < b.v[i]); }
EDGEKIT_INLINE f32x16 select(m32x16 m, f32x16 a, f32x16 b) {
    EDGEKIT_LANES(f32x16, m.v[i] ? a.v[i] : b.v[i]);
}
EDGEKIT_INLINE f32x16 abs(f32x16 a) { EDGEKIT_LANES(f32x16, a.v[i] < 0 ? -a.v[i] : a.v[i]); }

// Pairwise from the halves down, as the vector sets do it.
EDGEKIT_INLINE float sum(f32x16 a) {
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; ++i) a.v[i] += a.v[i + width];
    return a.v[0];
}
EDGEKIT_INLINE float max_lane(f32x16 a) {
    for (int i = 1; i < 16; ++i) a.v[0] = a.v[i] > a.v[0] ? a.v[i] : a.v[0];
    return a.v[0];
}
EDGEKIT_INLINE int32_t sum(i32x16 a) {
    int32_t total = 0;
    for (int i = 0; i < 16; ++i) total += a.v[i];
    return total;
}

EDGEKIT_INLINE f32x16 load_bf16(const uint16_t* p) {
    i32x16 out;
    for (int i = 0; i < 16; ++i) out.v[i] = int32_t(uint32_t(p[i]) << 16);
    return from_bits(out);
}
EDGEKIT_INLINE f32x16 load_f16(const uint16_t* p) { EDGEKIT_LANES(f32x16, widen_half(p[i])); }
EDGEKIT_INLINE void store_f16(uint16_t* p, f32x16 a) {
    for (int i = 0; i < 16; ++i) p[i] = narrow_half(a.v[i]);
}
EDGEKIT_INLINE f32x16 load_i8(const void* p) {
    EDGEKIT_LANES(f32x16, float(static_cast<const int8_t*>(p)[i]));
}
// Lanes hold -127 … 127.
EDGEKIT_INLINE void store_i8(int8_t* p, i32x16 a) {
    for (int i = 0; i < 16; ++i) p[i] = int8_t(a.v[i]);
}

EDGEKIT_INLINE u8x64 load_line(const void* p) {
    u8x64 out;
    std::memcpy(out.v, p, 64);
    return out;
}
EDGEKIT_INLINE void store_line(void* p, u8x64 a) { std::memcpy(p, a.v, 64); }
EDGEKIT_INLINE u8x64 splat_u8(uint8_t x) {
    u8x64 out;
    std::memset(out.v, x, 64);
    return out;
}
EDGEKIT_INLINE u8x64 operator&(u8x64 a, u8x64 b) {
    for (int i = 0; i < 64; ++i) a.v[i] &= b.v[i];
    return a;
}
EDGEKIT_INLINE u8x64 operator+(u8x64 a, u8x64 b) {
    for (int i = 0; i < 64; ++i) a.v[i] = uint8_t(a.v[i] + b.v[i]);
    return a;
}
// Bits of a where the mask has ones, of b where it has zeros.
EDGEKIT_INLINE u8x64 merge(u8x64 mask, u8x64 a, u8x64 b) {
    for (int i = 0; i < 64; ++i) a.v[i] = uint8_t((a.v[i] & mask.v[i]) | (b.v[i] & ~mask.v[i]));
    return a;
}
// Each byte's bits n places up, or down when n is negative; what moves in is the caller's to mask.
template <int n>
EDGEKIT_INLINE u8x64 moved(u8x64 a) {
    for (int i = 0; i < 64; ++i) a.v[i] = uint8_t(n < 0 ? a.v[i] >> -n : a.v[i] << n);
    return a;
}

// The 16 levels plus kLevelBias, ready for the lookups.
struct LevelTable {
    uint8_t v[16];
};
EDGEKIT_INLINE LevelTable level_table(const int8_t* levels) {
    LevelTable out;
    for (int i = 0; i < 16; ++i) out.v[i] = uint8_t(levels[i] + kLevelBias);
    return out;
}
EDGEKIT_INLINE u8x64 levels_low(LevelTable t, u8x64 a) {
    for (int i = 0; i < 64; ++i) a.v[i] = t.v[a.v[i] & 15];
    return a;
}
EDGEKIT_INLINE u8x64 levels_high(LevelTable t, u8x64 a) {
    for (int i = 0; i < 64; ++i) a.v[i] = t.v[a.v[i] >> 4];
    return a;
}
// 16 bytes of nibbles as levels (unbiased): low nibbles, then high nibbles.
EDGEKIT_INLINE void load_levels(const int8_t* levels, const void* p, f32x16& low, f32x16& high) {
    const auto* code = static_cast<const uint8_t*>(p);
    for (int i = 0; i < 16; ++i) {
        low.v[i] = levels[code[i] & 15];
        high.v[i] = levels[code[i] >> 4];
    }
}
EDGEKIT_INLINE u8x64 biased_codes(u8x64 a) { return a; }

EDGEKIT_INLINE i32x16 dot_codes(i32x16 acc, u8x64 w, const int8_t* a) {
    for (int i = 0; i < 64; ++i) acc.v[i / 4] += int8_t(w.v[i]) * a[i % 4];
    return acc;
}

EDGEKIT_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

#undef EDGEKIT_LANES

}  // namespace edgekit::EDGEKIT_ISA

#include "simd/sums.h"

namespace edgekit::EDGEKIT_ISA {

using LevelSums = WideSums<kLevelBias, 0, dot_codes>;
using CodeSums = WideSums<kCodeBias, 1, dot_codes>;

// `codes`: 32 of them, and their sum.
EDGEKIT_INLINE void make_starts(const int8_t*, int32_t sum, int32_t* starts) {
    make_wide_starts<kLevelBias, kCodeBias>(sum, starts);
}

}  // namespace edgekit::EDGEKIT_ISA
