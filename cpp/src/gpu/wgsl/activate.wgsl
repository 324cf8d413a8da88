// f(gate) · up, or f(up), as the down projection reads it. Grid: columns / 1024, rows.

struct Params {
    width: u32,
    gate: u32,    // [rows][width], or NONE
    up: u32,      // [rows][up_stride]
    up_stride: u32,
    kept: u32,
    floats: u32,  // [rows][width]
    codes: u32,   // [rows][10 · groups]
    choices: u32,  // of experts: so many rows here for a row of the pass
    alpha_p: u32,  // among the vectors: xIELU's slopes, or NONE
    alpha_n: u32,
}

fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp(-x)); }

// erfc(|x|): Numerical Recipes, 6.2.
fn erfc_abs(x: f32) -> f32 {
    let z = abs(x);
    let t = 1.0 / (1.0 + 0.5 * z);
    var y = 0.17087277;
    y = y * t - 0.82215223;
    y = y * t + 1.48851587;
    y = y * t - 1.13520398;
    y = y * t + 0.27886807;
    y = y * t - 0.18628806;
    y = y * t + 0.09678418;
    y = y * t + 0.37409196;
    y = y * t + 1.00002368;
    y = y * t - 1.26551223;
    return t * exp(y - z * z);
}

fn silu(x: f32) -> f32 { return x * sigmoid(x); }
fn gelu(x: f32) -> f32 {
    let tail = 0.5 * x * erfc_abs(x * 0.70710678);
    return select(x - tail, tail, x < 0.0);
}
fn gelu_tanh(x: f32) -> f32 { return x * sigmoid(1.5957691216 * x * (1.0 + 0.044715 * x * x)); }
fn relu(x: f32) -> f32 { return max(x, 0.0); }
fn relu2(x: f32) -> f32 { return relu(x) * relu(x); }
// xIELU (arXiv:2411.13010).
fn xielu(x: f32, positive: f32, negative: f32) -> f32 {
    return 0.5 * x + select(negative * (exp(min(x, -1e-6)) - 1.0 - x), positive * x * x, x > 0.0);
}
fn activation(x: f32) -> f32 {
    switch ACTIVATION {
        case 0u: { return silu(x); }
        case 1u: { return gelu(x); }
        case 2u: { return gelu_tanh(x); }
        case 3u: { return relu(x); }
        case 4u: { return relu2(x); }
        default: { return sigmoid(x); }
    }
}
fn gated(gate: f32, up: f32) -> f32 {
    if (ACTIVATION != 6u) { return activation(gate) * up; }
    let x = min(gate, 7.0);  // gpt-oss's
    return x * sigmoid(1.702 * x) * (clamp(up, -7.0, 7.0) + 1.0);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = first_row(p.kept) * p.choices + group.y;
    let c = 4u * (LANES * group.x + lane);
    var v = vec4<f32>(0.0);
    for (var b = 0u; b < 4u; b += 1u) {
        if (c + b < p.width) {
            let up = number(p.up + row * p.up_stride + c + b);
            if (p.gate != NONE) {
                v[b] = gated(number(p.gate + row * p.width + c + b), up);
            } else if (p.alpha_p != NONE) {
                v[b] = xielu(up, vectors[p.alpha_p], vectors[p.alpha_n]);
            } else {
                v[b] = activation(up);
            }
        }
    }
    store_row(v, c, p.width, lane, p.floats + row * p.width, p.codes + row * 10u * ((p.width + 31u) / 32u));
}
