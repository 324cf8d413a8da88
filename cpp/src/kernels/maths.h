#pragma once
// exp, tanh and erfc on 16 lanes, to about two units in the last place.

namespace edgekit::EDGEKIT_ISA {

// First n < 16 lanes; the others `fill`. Not inlined: the ends of rows are rare, and many.
[[gnu::noinline]] inline f32x16 load_n(const float* p, size_t n, float fill = 0.0f) {
    alignas(64) float lanes[16];
    for (size_t i = 0; i < 16; ++i) lanes[i] = i < n ? p[i] : fill;
    return load(lanes);
}
[[gnu::noinline]] inline void store_n(float* p, f32x16 x, size_t n) {
    alignas(64) float lanes[16];
    store(lanes, x);
    for (size_t i = 0; i < n; ++i) p[i] = lanes[i];
}

EDGEKIT_INLINE float first_lane(f32x16 x) {
    alignas(64) float lanes[16];
    store(lanes, x);
    return lanes[0];
}

// Calls f(i, n) for every 16 of `count` elements: n is 16 but for the last.
template <class F>
EDGEKIT_INLINE void for_each_16(size_t count, F&& f) {
    size_t i = 0;
    for (; i + 16 <= count; i += 16) f(i, size_t{16});
    if (i < count) f(i, count - i);
}
EDGEKIT_INLINE f32x16 load_part(const float* p, size_t n, float fill = 0.0f) {
    return n == 16 ? load(p) : load_n(p, n, fill);
}
EDGEKIT_INLINE void store_part(float* p, f32x16 x, size_t n) { n == 16 ? store(p, x) : store_n(p, x, n); }

// 2^n · e^r with n = round(x / ln 2), ln 2 in two parts (Cody and Waite) and Cephes' polynomial for e^r. 0
// below -87.3 (-inf included), capped at e^88.
EDGEKIT_INLINE f32x16 exp(f32x16 x) {
    const f32x16 clamped = max(min(x, splat(88.0f)), splat(-87.3f));
    const i32x16 n = round_i32(clamped * splat(1.44269504f));
    const f32x16 nf = to_f32(n);
    f32x16 r = fma(nf, splat(-0.693359375f), clamped);
    r = fma(nf, splat(2.12194440e-4f), r);
    f32x16 p = splat(1.9875691500e-4f);
    p = fma(p, r, splat(1.3981999507e-3f));
    p = fma(p, r, splat(8.3334519073e-3f));
    p = fma(p, r, splat(4.1665795894e-2f));
    p = fma(p, r, splat(1.6666665459e-1f));
    p = fma(p, r, splat(5.0000001201e-1f));
    p = fma(p, r * r, r + splat(1.0f));
    const f32x16 y = from_bits(bits(p) + shift_to_exponent(n));
    return select(less(x, splat(-87.3f)), splat(0.0f), y);
}

// Cephes' odd polynomial near zero, where 1 - 2 / (e^2x + 1) would cancel.
EDGEKIT_INLINE f32x16 tanh(f32x16 x) {
    const f32x16 s = x * x;
    f32x16 p = splat(-5.70498872745e-3f);
    p = fma(p, s, splat(2.06390887954e-2f));
    p = fma(p, s, splat(-5.37397155531e-2f));
    p = fma(p, s, splat(1.33314422036e-1f));
    p = fma(p, s, splat(-3.33332819422e-1f));
    const f32x16 near = fma(p * s, x, x);
    const f32x16 far = splat(1.0f) - splat(2.0f) / (exp(x + x) + splat(1.0f));
    return select(less(abs(x), splat(0.625f)), near, far);
}

EDGEKIT_INLINE f32x16 sigmoid(f32x16 x) { return splat(1.0f) / (splat(1.0f) + exp(splat(0.0f) - x)); }

// erfc(|x|): t · e^(-x² + P(t)) with t = 1 / (1 + |x| / 2), relative error 1.2e-7 (Numerical Recipes, 6.2).
EDGEKIT_INLINE f32x16 erfc_abs(f32x16 x) {
    const f32x16 z = abs(x);
    const f32x16 t = splat(1.0f) / fma(z, splat(0.5f), splat(1.0f));
    f32x16 p = splat(0.17087277f);
    p = fma(p, t, splat(-0.82215223f));
    p = fma(p, t, splat(1.48851587f));
    p = fma(p, t, splat(-1.13520398f));
    p = fma(p, t, splat(0.27886807f));
    p = fma(p, t, splat(-0.18628806f));
    p = fma(p, t, splat(0.09678418f));
    p = fma(p, t, splat(0.37409196f));
    p = fma(p, t, splat(1.00002368f));
    p = fma(p, t, splat(-1.26551223f));
    return t * exp(fma(splat(0.0f) - z, z, p));
}

}  // namespace edgekit::EDGEKIT_ISA
