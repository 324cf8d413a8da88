#pragma once
// AVX-512 with VNNI: the names that simd/scalar.h explains; 16 lanes are one zmm.

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own _mm512_undefined_ps
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#define EDGEKIT_INLINE [[gnu::always_inline]] inline
#define EDGEKIT_INLINE_LAMBDA __attribute__((always_inline))

namespace edgekit::EDGEKIT_ISA {

inline constexpr int kGemmRows = 6, kGemmRowStep = 1, kGemmTiles = 2;
inline constexpr int kStreamRows = 8, kOtherStreamRows = 8, kStreamSums = 8, kStreamGroups = 1;
inline constexpr int kDenseRows = 8, kDenseTiles = 2;
// vpdpbusd multiplies unsigned weights by signed activations.
inline constexpr int kLevelBias = 32, kCodeBias = 128;

struct f32x16 {
    __m512 v;
};
struct i32x16 {
    __m512i v;
};
struct m32x16 {
    __mmask16 v;
};
struct u8x64 {
    __m512i v;
};
struct LevelTable {
    __m512i v;
};

EDGEKIT_INLINE f32x16 splat(float x) { return {_mm512_set1_ps(x)}; }
EDGEKIT_INLINE i32x16 splat_i32(int32_t x) { return {_mm512_set1_epi32(x)}; }
EDGEKIT_INLINE f32x16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
EDGEKIT_INLINE void store(float* p, f32x16 x) { _mm512_storeu_ps(p, x.v); }

EDGEKIT_INLINE f32x16 operator+(f32x16 a, f32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
EDGEKIT_INLINE f32x16 operator-(f32x16 a, f32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
EDGEKIT_INLINE f32x16 operator*(f32x16 a, f32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
EDGEKIT_INLINE f32x16 operator/(f32x16 a, f32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
EDGEKIT_INLINE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
EDGEKIT_INLINE f32x16 min(f32x16 a, f32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }
EDGEKIT_INLINE f32x16 max(f32x16 a, f32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }
EDGEKIT_INLINE f32x16 abs(f32x16 a) { return {_mm512_abs_ps(a.v)}; }

EDGEKIT_INLINE i32x16 operator+(i32x16 a, i32x16 b) { return {_mm512_add_epi32(a.v, b.v)}; }
EDGEKIT_INLINE i32x16 shift_to_exponent(i32x16 a) { return {_mm512_slli_epi32(a.v, 23)}; }
EDGEKIT_INLINE i32x16 bits(f32x16 a) { return {_mm512_castps_si512(a.v)}; }
EDGEKIT_INLINE f32x16 from_bits(i32x16 a) { return {_mm512_castsi512_ps(a.v)}; }
EDGEKIT_INLINE f32x16 to_f32(i32x16 a) { return {_mm512_cvtepi32_ps(a.v)}; }
EDGEKIT_INLINE i32x16 round_i32(f32x16 a) { return {_mm512_cvtps_epi32(a.v)}; }

EDGEKIT_INLINE m32x16 less(f32x16 a, f32x16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
EDGEKIT_INLINE f32x16 select(m32x16 m, f32x16 a, f32x16 b) { return {_mm512_mask_blend_ps(m.v, b.v, a.v)}; }

EDGEKIT_INLINE float sum(f32x16 a) { return _mm512_reduce_add_ps(a.v); }
EDGEKIT_INLINE float max_lane(f32x16 a) { return _mm512_reduce_max_ps(a.v); }
EDGEKIT_INLINE int32_t sum(i32x16 a) { return _mm512_reduce_add_epi32(a.v); }

EDGEKIT_INLINE f32x16 load_bf16(const uint16_t* p) {
    const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16))};
}
EDGEKIT_INLINE f32x16 load_f16(const uint16_t* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
EDGEKIT_INLINE void store_f16(uint16_t* p, f32x16 a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
EDGEKIT_INLINE f32x16 load_i8(const void* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))))};
}
EDGEKIT_INLINE void store_i8(int8_t* p, i32x16 a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v));
}

EDGEKIT_INLINE u8x64 load_line(const void* p) { return {_mm512_loadu_si512(p)}; }
EDGEKIT_INLINE void store_line(void* p, u8x64 a) { _mm512_storeu_si512(p, a.v); }
EDGEKIT_INLINE u8x64 splat_u8(uint8_t x) { return {_mm512_set1_epi8(char(x))}; }
EDGEKIT_INLINE u8x64 operator&(u8x64 a, u8x64 b) { return {_mm512_and_si512(a.v, b.v)}; }
EDGEKIT_INLINE u8x64 operator+(u8x64 a, u8x64 b) { return {_mm512_add_epi8(a.v, b.v)}; }
EDGEKIT_INLINE u8x64 merge(u8x64 mask, u8x64 a, u8x64 b) {
    return {_mm512_ternarylogic_epi32(mask.v, a.v, b.v, 0xCA)};
}
template <int n>
EDGEKIT_INLINE u8x64 moved(u8x64 a) {
    if constexpr (n < 0)
        return {_mm512_srli_epi16(a.v, -n)};
    else
        return {_mm512_slli_epi16(a.v, n)};
}

EDGEKIT_INLINE LevelTable level_table(const int8_t* levels) {
    const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(levels));
    return {_mm512_broadcast_i32x4(_mm_add_epi8(table, _mm_set1_epi8(kLevelBias)))};
}
// vpermb reads six bits of an index; the table holds the 16 levels four times, so the upper two do not
// matter.
EDGEKIT_INLINE u8x64 levels_low(LevelTable t, u8x64 a) { return {_mm512_permutexvar_epi8(a.v, t.v)}; }
EDGEKIT_INLINE u8x64 levels_high(LevelTable t, u8x64 a) {
    return {_mm512_permutexvar_epi8(_mm512_srli_epi16(a.v, 4), t.v)};
}
EDGEKIT_INLINE void load_levels(const int8_t* levels, const void* p, f32x16& low, f32x16& high) {
    const __m512 table =
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(levels))));
    const __m512i codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
    low.v = _mm512_permutexvar_ps(codes, table);  // reads the low four bits of an index
    high.v = _mm512_permutexvar_ps(_mm512_srli_epi32(codes, 4), table);
}
EDGEKIT_INLINE u8x64 biased_codes(u8x64 a) { return {_mm512_xor_si512(a.v, _mm512_set1_epi8(char(0x80)))}; }

EDGEKIT_INLINE i32x16 dot_codes(i32x16 acc, u8x64 w, const int8_t* a) {
    int32_t four;
    __builtin_memcpy(&four, a, 4);
    return {_mm512_dpbusd_epi32(acc.v, w.v, _mm512_set1_epi32(four))};
}

EDGEKIT_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }

}  // namespace edgekit::EDGEKIT_ISA

#include "simd/sums.h"

namespace edgekit::EDGEKIT_ISA {

using LevelSums = WideSums<kLevelBias, 0, dot_codes>;
using CodeSums = WideSums<kCodeBias, 1, dot_codes>;

EDGEKIT_INLINE void make_starts(const int8_t*, int32_t sum, int32_t* starts) {
    make_wide_starts<kLevelBias, kCodeBias>(sum, starts);
}

}  // namespace edgekit::EDGEKIT_ISA
