// The pieces of attention together, as the output projection reads them. Grid: columns / (4 · LANES), rows.

struct Params {
    uint n_heads, head_dim, pieces, parts, sinks, gate, gates, floats, codes, kept;
};

// Of `pieces` parts, each a maximum, a sum, and [head_dim]; `sink`: the score that no key has.
inline float joined(device const float *parts, uint pieces, uint stride, uint d, float sink) {
    float peak = sink, y = 0;
    for (uint i = 0; i < pieces; ++i) peak = max(peak, parts[i * stride]);
    float sum = sink == NEVER ? 0.0f : exp(sink - peak);
    for (uint i = 0; i < pieces; ++i) {
        device const float *part = parts + i * stride;
        const float factor = exp(part[0] - peak);
        sum += part[1] * factor;
        y += part[2 + d] * factor;
    }
    return sum > 0 ? y / sum : 0.0f;
}

[[max_total_threads_per_threadgroup(LANES)]] kernel void run(BUFFERS) {
    const uint row = first_row(rows, p.kept) + group.y, width = p.n_heads * p.head_dim, stride = p.head_dim + 2,
               c = 4 * (LANES * group.x + lane);
    float4 v = float4(0.0f);
    for (uint b = 0; b < 4 && c + b < width; ++b) {
        const uint head = (c + b) / p.head_dim;
        device const float *parts = arena + p.parts + (row * p.n_heads + head) * p.pieces * stride;
        v[b] = joined(parts, rows[3], stride, (c + b) % p.head_dim, p.sinks == NONE ? NEVER : vectors[p.sinks + head]);
        if (p.gate != NONE) v[b] /= 1.0f + exp(-arena[p.gate + row * p.gates + (c + b) / (width / p.gates)]);
    }
    store_row(v, c, width, lane, arena, p.floats + row * width, p.codes + row * 10 * ((width + 31) / 32));
}
