#pragma once
// AVX2 with FMA and F16C, and with AVX-VNNI where the target has it: the names that simd/scalar.h explains;
// 16 lanes are two ymm.

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#define EDGEKIT_INLINE [[gnu::always_inline]] inline
#define EDGEKIT_INLINE_LAMBDA __attribute__((always_inline))

namespace edgekit::EDGEKIT_ISA {

inline constexpr int kGemmRows = 4, kGemmRowStep = 1, kGemmTiles = 1;
inline constexpr int kStreamRows = 4, kOtherStreamRows = 4, kStreamSums = 2, kStreamGroups = 2;
inline constexpr int kDenseRows = 4, kDenseTiles = 1;
// The products take weights unsigned.
inline constexpr int kLevelBias = 32;

struct f32x16 {
    __m256 a, b;
};
struct i32x16 {
    __m256i a, b;
};
struct m32x16 {
    __m256 a, b;
};
struct u8x64 {
    __m256i a, b;
};
struct LevelTable {
    __m256i v;
};

EDGEKIT_INLINE f32x16 splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
EDGEKIT_INLINE i32x16 splat_i32(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
EDGEKIT_INLINE f32x16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
EDGEKIT_INLINE void store(float* p, f32x16 x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}

EDGEKIT_INLINE f32x16 operator+(f32x16 x, f32x16 y) {
    return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
EDGEKIT_INLINE f32x16 operator-(f32x16 x, f32x16 y) {
    return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
EDGEKIT_INLINE f32x16 operator*(f32x16 x, f32x16 y) {
    return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
EDGEKIT_INLINE f32x16 operator/(f32x16 x, f32x16 y) {
    return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
EDGEKIT_INLINE f32x16 fma(f32x16 x, f32x16 y, f32x16 z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
EDGEKIT_INLINE f32x16 min(f32x16 x, f32x16 y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
EDGEKIT_INLINE f32x16 max(f32x16 x, f32x16 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
EDGEKIT_INLINE f32x16 abs(f32x16 x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}

EDGEKIT_INLINE i32x16 operator+(i32x16 x, i32x16 y) {
    return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}
EDGEKIT_INLINE i32x16 shift_to_exponent(i32x16 x) {
    return {_mm256_slli_epi32(x.a, 23), _mm256_slli_epi32(x.b, 23)};
}
EDGEKIT_INLINE i32x16 bits(f32x16 x) { return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
EDGEKIT_INLINE f32x16 from_bits(i32x16 x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
EDGEKIT_INLINE f32x16 to_f32(i32x16 x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
EDGEKIT_INLINE i32x16 round_i32(f32x16 x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }

EDGEKIT_INLINE m32x16 less(f32x16 x, f32x16 y) {
    return {_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)};
}
EDGEKIT_INLINE f32x16 select(m32x16 m, f32x16 x, f32x16 y) {
    return {_mm256_blendv_ps(y.a, x.a, m.a), _mm256_blendv_ps(y.b, x.b, m.b)};
}

EDGEKIT_INLINE float sum(f32x16 x) {
    const __m256 eight = _mm256_add_ps(x.a, x.b);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
EDGEKIT_INLINE float max_lane(f32x16 x) {
    const __m256 eight = _mm256_max_ps(x.a, x.b);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
EDGEKIT_INLINE int32_t sum(i32x16 x) {
    const __m256i eight = _mm256_add_epi32(x.a, x.b);
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

EDGEKIT_INLINE __m128i load_16_bytes(const void* p) {
    return _mm_loadu_si128(static_cast<const __m128i*>(p));
}

EDGEKIT_INLINE f32x16 load_bf16(const uint16_t* p) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16_bytes(p)), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16_bytes(p + 8)), 16))};
}
EDGEKIT_INLINE f32x16 load_f16(const uint16_t* p) {
    return {_mm256_cvtph_ps(load_16_bytes(p)), _mm256_cvtph_ps(load_16_bytes(p + 8))};
}
EDGEKIT_INLINE void store_f16(uint16_t* p, f32x16 x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}
EDGEKIT_INLINE f32x16 widen_i8(__m128i x) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(x, 8)))};
}
EDGEKIT_INLINE f32x16 load_i8(const void* p) {
    const auto* half = static_cast<const __m128i*>(p);
    const auto* other = reinterpret_cast<const __m128i*>(static_cast<const char*>(p) + 8);
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(half))),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(other)))};
}
EDGEKIT_INLINE void store_i8(int8_t* p, i32x16 x) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xD8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

EDGEKIT_INLINE u8x64 load_line(const void* p) {
    const auto* line = static_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(line), _mm256_loadu_si256(line + 1)};
}
EDGEKIT_INLINE void store_line(void* p, u8x64 x) {
    auto* line = static_cast<__m256i*>(p);
    _mm256_storeu_si256(line, x.a);
    _mm256_storeu_si256(line + 1, x.b);
}
EDGEKIT_INLINE u8x64 splat_u8(uint8_t x) { return {_mm256_set1_epi8(char(x)), _mm256_set1_epi8(char(x))}; }
EDGEKIT_INLINE u8x64 operator&(u8x64 x, u8x64 y) {
    return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)};
}
EDGEKIT_INLINE u8x64 operator+(u8x64 x, u8x64 y) {
    return {_mm256_add_epi8(x.a, y.a), _mm256_add_epi8(x.b, y.b)};
}
EDGEKIT_INLINE u8x64 merge(u8x64 mask, u8x64 x, u8x64 y) {
    return {_mm256_or_si256(_mm256_and_si256(mask.a, x.a), _mm256_andnot_si256(mask.a, y.a)),
            _mm256_or_si256(_mm256_and_si256(mask.b, x.b), _mm256_andnot_si256(mask.b, y.b))};
}
template <int n>
EDGEKIT_INLINE u8x64 moved(u8x64 x) {
    if constexpr (n < 0)
        return {_mm256_srli_epi16(x.a, -n), _mm256_srli_epi16(x.b, -n)};
    else
        return {_mm256_slli_epi16(x.a, n), _mm256_slli_epi16(x.b, n)};
}

EDGEKIT_INLINE LevelTable level_table(const int8_t* levels) {
    return {_mm256_broadcastsi128_si256(_mm_add_epi8(load_16_bytes(levels), _mm_set1_epi8(kLevelBias)))};
}
EDGEKIT_INLINE u8x64 levels_low(LevelTable t, u8x64 x) {
    const __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_shuffle_epi8(t.v, _mm256_and_si256(x.a, mask)),
            _mm256_shuffle_epi8(t.v, _mm256_and_si256(x.b, mask))};
}
EDGEKIT_INLINE u8x64 levels_high(LevelTable t, u8x64 x) {
    return levels_low(t, {_mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4)});
}
EDGEKIT_INLINE void load_levels(const int8_t* levels, const void* p, f32x16& low, f32x16& high) {
    const __m128i table = load_16_bytes(levels), codes = load_16_bytes(p), mask = _mm_set1_epi8(15);
    low = widen_i8(_mm_shuffle_epi8(table, _mm_and_si128(codes, mask)));
    high = widen_i8(_mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16(codes, 4), mask)));
}
EDGEKIT_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }

EDGEKIT_INLINE __m256i broadcast4(const int8_t* a) {
    int32_t four;
    __builtin_memcpy(&four, a, 4);
    return _mm256_set1_epi32(four);
}

}  // namespace edgekit::EDGEKIT_ISA

#include "simd/sums.h"

namespace edgekit::EDGEKIT_ISA {

#if defined(__AVXVNNI__) || defined(EDGEKIT_EMULATE_AVXVNNI)

inline constexpr int kCodeBias = 128;
EDGEKIT_INLINE u8x64 biased_codes(u8x64 x) {
    const __m256i bias = _mm256_set1_epi8(char(0x80));
    return {_mm256_xor_si256(x.a, bias), _mm256_xor_si256(x.b, bias)};
}

// Unsigned weights by signed activations, four to a lane.
EDGEKIT_INLINE __m256i dot4(__m256i acc, __m256i w, __m256i a) {
#ifdef EDGEKIT_EMULATE_AVXVNNI
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(w, _mm256_set1_epi16(255)),
                                           _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8)),
                  odd = _mm256_madd_epi16(_mm256_srli_epi16(w, 8), _mm256_srai_epi16(a, 8));
    return _mm256_add_epi32(acc, _mm256_add_epi32(even, odd));
#else
    return _mm256_dpbusd_avx_epi32(acc, w, a);
#endif
}
EDGEKIT_INLINE i32x16 dot_biased(i32x16 acc, u8x64 w, const int8_t* a) {
    const __m256i four = broadcast4(a);
    return {dot4(acc.a, w.a, four), dot4(acc.b, w.b, four)};
}
using LevelSums = WideSums<kLevelBias, 0, dot_biased>;
using CodeSums = WideSums<kCodeBias, 1, dot_biased>;

EDGEKIT_INLINE void make_starts(const int8_t*, int32_t sum, int32_t* starts) {
    make_wide_starts<kLevelBias, kCodeBias>(sum, starts);
}

#else

// vpmaddubsw multiplies into 16 bits: levels fit; codes do not, and hand their sign to the activations.
inline constexpr int kCodeBias = 0;
EDGEKIT_INLINE u8x64 biased_codes(u8x64 x) { return x; }

// GCC would compute all products of a group first, keep them in memory, and add them up at the end: what is
// added is added here.
EDGEKIT_INLINE __m256i here(__m256i sum) {
    __asm__("" : "+x"(sum));
    return sum;
}
EDGEKIT_INLINE __m256i dot4(__m256i acc, __m256i w, __m256i a) {
    const __m256i ones = _mm256_set1_epi16(1);
    return here(_mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), ones)));
}
EDGEKIT_INLINE i32x16 dot_codes(i32x16 acc, u8x64 w, const int8_t* a) {
    const __m256i four = broadcast4(a);
    return {dot4(acc.a, _mm256_abs_epi8(w.a), _mm256_sign_epi8(four, w.a)),
            dot4(acc.b, _mm256_abs_epi8(w.b), _mm256_sign_epi8(four, w.b))};
}
using CodeSums = WideSums<kCodeBias, 1, dot_codes>;

// Pairs of products summed in 16 bits, wrapping: the sums of half a group, unbiased by their start, fit
// (quant/q4_block32.h). Two words of starts: one for each half, each for the two pairs of columns of a line.
struct LevelSums {
    static constexpr int kBias = kLevelBias;
    u8x64 half[2];
    // 16 scales of 8 bits, each twice, in 16 bits: the instruction that widens the sums multiplies by them.
    EDGEKIT_INLINE static u8x64 factors(const void* p) {
        const __m256i words = _mm256_permute4x64_epi64(_mm256_cvtepi8_epi16(load_16_bytes(p)), 0xD8);
        return {_mm256_unpacklo_epi16(words, words), _mm256_unpackhi_epi16(words, words)};
    }
    EDGEKIT_INLINE void start(const int32_t* starts) {
        for (int h = 0; h < 2; ++h) half[h].a = half[h].b = _mm256_set1_epi32(starts[h]);
    }
    EDGEKIT_INLINE void add(int line, u8x64 w, const int8_t* a) {
        const __m256i four = broadcast4(a);
        u8x64& sums = half[line / 4];
        sums.a = here(_mm256_add_epi16(sums.a, _mm256_maddubs_epi16(w.a, four)));
        sums.b = here(_mm256_add_epi16(sums.b, _mm256_maddubs_epi16(w.b, four)));
    }
    EDGEKIT_INLINE i32x16 total() const { return total({_mm256_set1_epi16(1), _mm256_set1_epi16(1)}); }
    EDGEKIT_INLINE i32x16 total(u8x64 f) const {
        return {_mm256_add_epi32(_mm256_madd_epi16(half[0].a, f.a), _mm256_madd_epi16(half[1].a, f.a)),
                _mm256_add_epi32(_mm256_madd_epi16(half[0].b, f.b), _mm256_madd_epi16(half[1].b, f.b))};
    }
};
EDGEKIT_INLINE void make_starts(const int8_t* codes, int32_t, int32_t* starts) {
    // -32 · (a neighbour + the next); every second of the eight pairs belongs to the same lane of a line.
    const auto start = [](__m128i half) EDGEKIT_INLINE_LAMBDA {
        const __m128i minus = _mm_sub_epi8(_mm_setzero_si128(), half);
        __m128i pairs = _mm_maddubs_epi16(_mm_set1_epi8(kLevelBias), minus);
        pairs = _mm_add_epi16(pairs, _mm_shuffle_epi32(pairs, 0x4E));
        return _mm_cvtsi128_si32(_mm_add_epi16(pairs, _mm_shuffle_epi32(pairs, 0xB1)));
    };
    // Both before either is written, for the same reason as in quantize_group.
    const int32_t first = start(load_16_bytes(codes)), second = start(load_16_bytes(codes + 16));
    starts[0] = first;
    starts[1] = second;
}

#endif

}  // namespace edgekit::EDGEKIT_ISA
