#pragma once
// Norms, rotary embedding, activations, and the small reductions of the sampler.

#include "kernels/kernels.h"

namespace edgekit::EDGEKIT_ISA {

// Sum of f over the row; four accumulators hide the latency of the addition.
template <class F>
EDGEKIT_INLINE float sum_of(const float* x, size_t n, F&& f) {
    f32x16 total[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
    size_t i = 0;
    for (; i + 64 <= n; i += 64)
        for (int j = 0; j < 4; ++j) total[j] = total[j] + f(load(x + i + 16 * j), size_t{16});
    for (; i < n; i += 16) {
        const size_t left = n - i < 16 ? n - i : 16;
        total[0] = total[0] + f(load_part(x + i, left), left);
    }
    return sum((total[0] + total[1]) + (total[2] + total[3]));
}

inline void rms_norm(const float* x, const float* weight, uint32_t n, float eps, float* out) {
    const float squares = sum_of(x, n, [](f32x16 v, size_t) EDGEKIT_INLINE_LAMBDA { return v * v; });
    const f32x16 inverse = splat(1.0f / __builtin_sqrtf(squares / float(n) + eps));
    for_each_16(n, [&](size_t i, size_t m) EDGEKIT_INLINE_LAMBDA {
        const f32x16 y = load_part(x + i, m) * inverse;
        store_part(out + i, weight ? y * load_part(weight + i, m) : y, m);
    });
}

inline void layer_norm(const float* x, const float* weight, const float* bias, uint32_t n, float eps,
                       float* out) {
    const float mean = sum_of(x, n, [](f32x16 v, size_t) EDGEKIT_INLINE_LAMBDA { return v; }) / float(n);
    const f32x16 center = splat(mean);
    const float squares = sum_of(x, n, [&](f32x16 v, size_t m) EDGEKIT_INLINE_LAMBDA {
        const f32x16 d = v - center;
        alignas(64) float lanes[16] = {};
        if (m == 16) return d * d;
        store_n(lanes, d * d, m);
        return load(lanes);
    });
    const f32x16 inverse = splat(1.0f / __builtin_sqrtf(squares / float(n) + eps));
    for_each_16(n, [&](size_t i, size_t m) EDGEKIT_INLINE_LAMBDA {
        f32x16 y = (load_part(x + i, m) - center) * inverse;
        if (weight) y = y * load_part(weight + i, m);
        if (bias) y = y + load_part(bias + i, m);
        store_part(out + i, y, m);
    });
}

inline void rope(float* heads, uint32_t n_heads, uint32_t head_dim, uint32_t dim, const float* cos,
                 const float* sin) {
    const size_t half = dim / 2;
    for (uint32_t h = 0; h < n_heads; ++h) {
        float* a = heads + size_t{h} * head_dim;
        float* b = a + half;
        for_each_16(half, [&](size_t i, size_t m) EDGEKIT_INLINE_LAMBDA {
            const f32x16 c = load_part(cos + i, m), s = load_part(sin + i, m);
            const f32x16 x = load_part(a + i, m), y = load_part(b + i, m);
            store_part(a + i, x * c - y * s, m);
            store_part(b + i, y * c + x * s, m);
        });
    }
}

EDGEKIT_INLINE f32x16 silu(f32x16 x) { return x * sigmoid(x); }
EDGEKIT_INLINE f32x16 gelu(f32x16 x) {
    const f32x16 tail = x * splat(0.5f) * erfc_abs(x * splat(0.70710678f));  // x · P(X > |x|)
    return select(less(x, splat(0.0f)), tail, x - tail);
}
// x / 2 · (1 + tanh u) = x · sigmoid(2u)
EDGEKIT_INLINE f32x16 gelu_tanh(f32x16 x) {
    const f32x16 u = x * fma(x * x, splat(0.044715f), splat(1.0f)) * splat(1.5957691216f);
    return x * sigmoid(u);
}
EDGEKIT_INLINE f32x16 relu(f32x16 x) { return max(x, splat(0.0f)); }
EDGEKIT_INLINE f32x16 relu2(f32x16 x) { return relu(x) * relu(x); }

template <class F>
EDGEKIT_INLINE void gated(const float* gate, const float* up, float* out, size_t n, F&& f) {
    for_each_16(n, [&](size_t i, size_t m) EDGEKIT_INLINE_LAMBDA {
        const f32x16 y = f(load_part(gate + i, m));
        store_part(out + i, up ? y * load_part(up + i, m) : y, m);
    });
}

inline void activate(Activation f, const float* gate, const float* up, float* out, size_t n) {
    switch (f) {
        case Activation::silu:
            return gated(gate, up, out, n, [](f32x16 x) EDGEKIT_INLINE_LAMBDA { return silu(x); });
        case Activation::gelu:
            return gated(gate, up, out, n, [](f32x16 x) EDGEKIT_INLINE_LAMBDA { return gelu(x); });
        case Activation::gelu_tanh:
            return gated(gate, up, out, n, [](f32x16 x) EDGEKIT_INLINE_LAMBDA { return gelu_tanh(x); });
        case Activation::relu:
            return gated(gate, up, out, n, [](f32x16 x) EDGEKIT_INLINE_LAMBDA { return relu(x); });
        case Activation::relu2:
            return gated(gate, up, out, n, [](f32x16 x) EDGEKIT_INLINE_LAMBDA { return relu2(x); });
        case Activation::sigmoid:
            return gated(gate, up, out, n, [](f32x16 x) EDGEKIT_INLINE_LAMBDA { return sigmoid(x); });
        case Activation::swiglu_oai:
            for_each_16(n, [&](size_t i, size_t m) EDGEKIT_INLINE_LAMBDA {
                const f32x16 bound = splat(7.0f), x = min(load_part(gate + i, m), bound);
                const f32x16 y = max(min(load_part(up + i, m), bound), splat(-7.0f)) + splat(1.0f);
                store_part(out + i, x * sigmoid(x * splat(1.702f)) * y, m);
            });
            return;
        case Activation::xielu:
            return;
    }
}

inline void add(float* x, const float* y, float scale, size_t n) {
    const f32x16 s = splat(scale);
    for_each_16(n, [&](size_t i, size_t m) EDGEKIT_INLINE_LAMBDA {
        store_part(x + i, fma(load_part(y + i, m), s, load_part(x + i, m)), m);
    });
}

inline void softcap(float* x, float cap, size_t n) {
    const f32x16 c = splat(cap), inverse = splat(1.0f / cap);
    for_each_16(n, [&](size_t i, size_t m) EDGEKIT_INLINE_LAMBDA {
        store_part(x + i, c * tanh(load_part(x + i, m) * inverse), m);
    });
}

inline float max(const float* x, size_t n) {
    f32x16 best = splat(-__builtin_inff());
    for_each_16(n, [&](size_t i, size_t m)
                       EDGEKIT_INLINE_LAMBDA { best = max(best, load_part(x + i, m, -__builtin_inff())); });
    return max_lane(best);
}

inline float exp_sum(const float* x, float max, float* out, size_t n) {
    const f32x16 offset = splat(max);
    f32x16 total = splat(0.0f);
    for_each_16(n, [&](size_t i, size_t m) EDGEKIT_INLINE_LAMBDA {
        const f32x16 y = exp(load_part(x + i, m, -__builtin_inff()) - offset);
        total = total + y;
        store_part(out + i, y, m);
    });
    return sum(total);
}

}  // namespace edgekit::EDGEKIT_ISA
