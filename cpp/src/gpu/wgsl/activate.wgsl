// f(gate) · up, or f(up), as the down projection reads it. Grid: columns / 1024, rows.

struct Params {
    width: u32,
    gate: u32,    // [rows][width], or NONE
    up: u32,
    kept: u32,
    floats: u32,  // [rows][width]
    codes: u32,   // [rows][10 · groups]
    choices: u32,  // of experts: so many rows here for a row of the pass
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
fn activation(x: f32) -> f32 {
    switch ACTIVATION {
        case 0u: { return silu(x); }
        case 1u: { return gelu(x); }
        case 2u: { return gelu_tanh(x); }
        case 3u: { return relu(x); }
        default: { return relu2(x); }
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = first_row(p.kept) * p.choices + group.y;
    let c = 4u * (LANES * group.x + lane);
    var v = vec4<f32>(0.0);
    for (var b = 0u; b < 4u; b += 1u) {
        if (c + b < p.width) {
            let at = row * p.width + c + b;
            let up = number(p.up + at);
            if (p.gate == NONE) { v[b] = activation(up); } else { v[b] = activation(number(p.gate + at)) * up; }
        }
    }
    store_row(v, c, p.width, lane, p.floats + row * p.width, p.codes + row * 10u * ((p.width + 31u) / 32u));
}
