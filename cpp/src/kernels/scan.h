#pragma once
// The recurrence of a state's columns, row after row of a text.

#include "kernels/kernels.h"

namespace edgekit::EDGEKIT_ISA {

// The sum of f(i, so far) over the keys; four of them hide the latency of the addition.
template <class F>
EDGEKIT_INLINE f32x16 sum_over_keys(uint32_t n, F&& f) {
    f32x16 total[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (uint32_t j = 0; j < 4; ++j) total[j] = f(i + j, total[j]);
    for (; i < n; ++i) total[0] = f(i, total[0]);
    return (total[0] + total[1]) + (total[2] + total[3]);
}

inline void scan(const ScanArgs& args) {
    float* state = args.state;
    for (uint32_t row = 0; row < args.rows; ++row) {
        const float* q = args.q + row * args.stride;
        const float* k = args.k + row * args.stride;
        const f32x16 decay = splat(args.decay[row]);
        f32x16 v = load_part(args.v + row * args.stride, args.columns);
        if (args.delta) {
            const f32x16 known =
                sum_over_keys(args.key_dim, [&](uint32_t i, f32x16 total) EDGEKIT_INLINE_LAMBDA {
                    return fma(splat(k[i]), load(state + size_t{16} * i), total);
                });
            v = v - decay * known;
        }
        v = v * splat(args.weight[row]);
        const f32x16 out = sum_over_keys(args.key_dim, [&](uint32_t i, f32x16 total) EDGEKIT_INLINE_LAMBDA {
            const f32x16 next = fma(splat(k[i]), v, load(state + size_t{16} * i) * decay);
            store(state + size_t{16} * i, next);
            return fma(splat(q[i]), next, total);
        });
        if (args.out) store_part(args.out + row * args.out_stride, out, args.columns);
    }
}

}  // namespace edgekit::EDGEKIT_ISA
