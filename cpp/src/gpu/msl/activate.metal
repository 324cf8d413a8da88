// f(gate) · up, or f(up), as the down projection reads it. Grid: columns / (4 · LANES), rows.

struct Params {
    uint width, gate, up, up_stride, kept, floats, codes, choices, alpha_p, alpha_n;
};

inline float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }

// erfc(|x|): Numerical Recipes, 6.2.
inline float erfc_abs(float x) {
    const float z = abs(x), t = 1.0f / (1.0f + 0.5f * z);
    float y = 0.17087277f;
    y = y * t - 0.82215223f;
    y = y * t + 1.48851587f;
    y = y * t - 1.13520398f;
    y = y * t + 0.27886807f;
    y = y * t - 0.18628806f;
    y = y * t + 0.09678418f;
    y = y * t + 0.37409196f;
    y = y * t + 1.00002368f;
    y = y * t - 1.26551223f;
    return t * exp(y - z * z);
}

inline float silu(float x) { return x * sigmoid(x); }
inline float gelu(float x) {
    const float tail = 0.5f * x * erfc_abs(x * 0.70710678f);
    return x < 0 ? tail : x - tail;
}
inline float gelu_tanh(float x) { return x * sigmoid(1.5957691216f * x * (1.0f + 0.044715f * x * x)); }
inline float relu(float x) { return max(x, 0.0f); }
inline float relu2(float x) { return relu(x) * relu(x); }
// xIELU (arXiv:2411.13010).
inline float xielu(float x, float positive, float negative) {
    return 0.5f * x + (x > 0 ? positive * x * x : negative * (exp(min(x, -1e-6f)) - 1.0f - x));
}
inline float activation(float x) {
    switch (ACTIVATION) {
        case 0: return silu(x);
        case 1: return gelu(x);
        case 2: return gelu_tanh(x);
        case 3: return relu(x);
        case 4: return relu2(x);
        default: return sigmoid(x);
    }
}
inline float gated(float gate, float up) {
    if (ACTIVATION != 6) return activation(gate) * up;
    const float x = min(gate, 7.0f);  // gpt-oss's
    return x * sigmoid(1.702f * x) * (clamp(up, -7.0f, 7.0f) + 1.0f);
}

[[max_total_threads_per_threadgroup(LANES)]] kernel void run(BUFFERS) {
    const uint row = first_row(rows, p.kept) * p.choices + group.y, c = 4 * (LANES * group.x + lane);
    float4 v = float4(0.0f);
    for (uint b = 0; b < 4 && c + b < p.width; ++b) {
        const float up = arena[p.up + row * p.up_stride + c + b];
        v[b] = p.gate != NONE       ? gated(arena[p.gate + row * p.width + c + b], up)
               : p.alpha_p != NONE ? xielu(up, vectors[p.alpha_p], vectors[p.alpha_n])
                                   : activation(up);
    }
    store_row(v, c, p.width, lane, arena, p.floats + row * p.width, p.codes + row * 10 * ((p.width + 31) / 32));
}
