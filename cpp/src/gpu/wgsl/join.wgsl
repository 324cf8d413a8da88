// The pieces of attention together, as the output projection reads them. Grid: columns / 1024, rows.

struct Params {
    n_heads: u32,
    head_dim: u32,
    pieces: u32,  // that a row of `parts` has room for
    parts: u32,   // as in attend.wgsl
    sinks: u32,   // among the vectors: a score of each head that no key has, or NONE
    gate: u32,    // [rows][gates], or NONE: what its sigmoid multiplies, a head or a number of it
    gates: u32,
    floats: u32,  // [rows][heads][head_dim]
    codes: u32,   // [rows][10 · groups]
    kept: u32,
}

fn joined(row: u32, c: u32) -> f32 {
    let stride = p.head_dim + 2u;
    let first = p.parts + (row * p.n_heads + c / p.head_dim) * p.pieces * stride;
    let last = first + rows[3] * stride;
    var peak = NEVER;
    if (p.sinks != NONE) { peak = vectors[p.sinks + c / p.head_dim]; }
    let sink = peak;
    for (var at = first; at < last; at += stride) { peak = max(peak, number(at)); }
    var sum = 0.0;
    if (sink != NEVER) { sum = exp(sink - peak); }
    var y = 0.0;
    for (var at = first; at < last; at += stride) {
        let factor = exp(number(at) - peak);
        sum += number(at + 1u) * factor;
        y += number(at + 2u + c % p.head_dim) * factor;
    }
    if (p.gate != NONE) {
        let gate = number(p.gate + row * p.gates + c / (p.n_heads * p.head_dim / p.gates));
        y /= 1.0 + exp(-gate);
    }
    return y * select(0.0, 1.0 / sum, sum > 0.0);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = first_row(p.kept) + group.y;
    let width = p.n_heads * p.head_dim;
    let c = 4u * (LANES * group.x + lane);
    var v = vec4<f32>(0.0);
    for (var b = 0u; b < 4u; b += 1u) {
        if (c + b < width) { v[b] = joined(row, c + b); }
    }
    store_row(v, c, width, lane, p.floats + row * width, p.codes + row * 10u * ((width + 31u) / 32u));
}
