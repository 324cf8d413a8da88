#pragma once
// The 16 lanes of simd/scalar.h as four 128-bit vectors, for instruction sets that have no wider ones. Before
// it is included, the set defines in its namespace
//
//   f32x4, i32x4, u8x16    its vector types
//   and on them: splat4, splat4_i32, load4, store4, add, sub, mul, div, fma, min, max, abs, add (integers),
//   shift_to_exponent, bits, from_bits, to_f32, round_i32, less (a u32 mask as an i32x4), select, sum4, max4,
//   sum4_i32; splat16_u8, and_u8, add_u8, merge, moved<n>

#include <cstddef>
#include <cstdint>

namespace edgekit::EDGEKIT_ISA {

struct f32x16 {
    f32x4 a, b, c, d;
};
struct i32x16 {
    i32x4 a, b, c, d;
};
struct m32x16 {
    i32x4 a, b, c, d;
};
struct u8x64 {
    u8x16 a, b, c, d;
};

#define EDGEKIT_EACH1(f) {f(x.a), f(x.b), f(x.c), f(x.d)}
#define EDGEKIT_EACH2(f) {f(x.a, y.a), f(x.b, y.b), f(x.c, y.c), f(x.d, y.d)}
#define EDGEKIT_EACH3(f) {f(x.a, y.a, z.a), f(x.b, y.b, z.b), f(x.c, y.c, z.c), f(x.d, y.d, z.d)}

EDGEKIT_INLINE f32x16 splat(float value) {
    const f32x4 x = splat4(value);
    return {x, x, x, x};
}
EDGEKIT_INLINE i32x16 splat_i32(int32_t value) {
    const i32x4 x = splat4_i32(value);
    return {x, x, x, x};
}
EDGEKIT_INLINE f32x16 load(const float* p) { return {load4(p), load4(p + 4), load4(p + 8), load4(p + 12)}; }
EDGEKIT_INLINE void store(float* p, f32x16 x) {
    store4(p, x.a);
    store4(p + 4, x.b);
    store4(p + 8, x.c);
    store4(p + 12, x.d);
}

EDGEKIT_INLINE f32x16 operator+(f32x16 x, f32x16 y) { return EDGEKIT_EACH2(add); }
EDGEKIT_INLINE f32x16 operator-(f32x16 x, f32x16 y) { return EDGEKIT_EACH2(sub); }
EDGEKIT_INLINE f32x16 operator*(f32x16 x, f32x16 y) { return EDGEKIT_EACH2(mul); }
EDGEKIT_INLINE f32x16 operator/(f32x16 x, f32x16 y) { return EDGEKIT_EACH2(div); }
EDGEKIT_INLINE f32x16 fma(f32x16 x, f32x16 y, f32x16 z) { return EDGEKIT_EACH3(fma); }
EDGEKIT_INLINE f32x16 min(f32x16 x, f32x16 y) { return EDGEKIT_EACH2(min); }
EDGEKIT_INLINE f32x16 max(f32x16 x, f32x16 y) { return EDGEKIT_EACH2(max); }
EDGEKIT_INLINE f32x16 abs(f32x16 x) { return EDGEKIT_EACH1(abs); }

EDGEKIT_INLINE i32x16 operator+(i32x16 x, i32x16 y) { return EDGEKIT_EACH2(add); }
EDGEKIT_INLINE i32x16 shift_to_exponent(i32x16 x) { return EDGEKIT_EACH1(shift_to_exponent); }
EDGEKIT_INLINE i32x16 bits(f32x16 x) { return EDGEKIT_EACH1(bits); }
EDGEKIT_INLINE f32x16 from_bits(i32x16 x) { return EDGEKIT_EACH1(from_bits); }
EDGEKIT_INLINE f32x16 to_f32(i32x16 x) { return EDGEKIT_EACH1(to_f32); }
EDGEKIT_INLINE i32x16 round_i32(f32x16 x) { return EDGEKIT_EACH1(round_i32); }

EDGEKIT_INLINE m32x16 less(f32x16 x, f32x16 y) { return EDGEKIT_EACH2(less); }
EDGEKIT_INLINE f32x16 select(m32x16 x, f32x16 y, f32x16 z) { return EDGEKIT_EACH3(select); }

EDGEKIT_INLINE u8x64 splat_u8(uint8_t value) {
    const u8x16 x = splat16_u8(value);
    return {x, x, x, x};
}
EDGEKIT_INLINE u8x64 operator&(u8x64 x, u8x64 y) { return EDGEKIT_EACH2(and_u8); }
EDGEKIT_INLINE u8x64 operator+(u8x64 x, u8x64 y) { return EDGEKIT_EACH2(add_u8); }
EDGEKIT_INLINE u8x64 merge(u8x64 x, u8x64 y, u8x64 z) { return EDGEKIT_EACH3(merge); }
template <int n>
EDGEKIT_INLINE u8x64 moved(u8x64 x) {
    return EDGEKIT_EACH1(moved<n>);
}

EDGEKIT_INLINE float sum(f32x16 x) { return sum4(add(add(x.a, x.c), add(x.b, x.d))); }
EDGEKIT_INLINE float max_lane(f32x16 x) { return max4(max(max(x.a, x.c), max(x.b, x.d))); }
EDGEKIT_INLINE int32_t sum(i32x16 x) { return sum4_i32(add(add(x.a, x.c), add(x.b, x.d))); }

}  // namespace edgekit::EDGEKIT_ISA
