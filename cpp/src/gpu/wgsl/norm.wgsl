// Rows, normalised, as the next matrix reads them, or added to the residual stream. Grid: 1, rows.

struct Params {
    kind: u32,     // 0: none, 1: RMS, 2: layer
    width: u32,
    input: u32,    // [rows][width]
    weight: u32,   // among the vectors, or NONE
    bias: u32,
    kept: u32,
    compact: u32,  // the first row gives row 0 of floats
    floats: u32,   // [rows][width], or NONE
    codes: u32,    // [rows][10 · groups], or NONE
    sum: u32,      // [rows][width] = (it + scale · y) · scalar, or NONE
    scale: f32,
    scalar: f32,
    eps: f32,
}


@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let start = first_row(p.kept);
    let row = start + group.y;
    let x = p.input + row * p.width;
    var mean = 0.0;
    var factor = 1.0;
    if (p.kind == 2u) {
        var sum = 0.0;
        for (var c = lane; c < p.width; c += LANES) { sum += number(x + c); }
        mean = total(sum, lane) / f32(p.width);
    }
    if (p.kind != 0u) {
        var squares = 0.0;
        for (var c = lane; c < p.width; c += LANES) {
            let d = number(x + c) - mean;
            squares += d * d;
        }
        factor = 1.0 / sqrt(total(squares, lane) / f32(p.width) + p.eps);
    }
    let groups = (p.width + 31u) / 32u;
    let floats = select(p.floats + (row - select(0u, start, p.compact != 0u)) * p.width, NONE, p.floats == NONE);
    let codes = select(p.codes + row * 10u * groups, NONE, p.codes == NONE);
    for (var base = 0u; base < 32u * groups; base += 4u * LANES) {
        let c = base + 4u * lane;
        var v = vec4<f32>(0.0);
        for (var b = 0u; b < 4u; b += 1u) {
            if (c + b < p.width) {
                v[b] = (number(x + c + b) - mean) * factor;
                if (p.weight != NONE) { v[b] *= vectors[p.weight + c + b]; }
                if (p.bias != NONE) { v[b] += vectors[p.bias + c + b]; }
                if (p.sum != NONE) {
                    let at = p.sum + row * p.width + c + b;
                    set_number(at, (number(at) + p.scale * v[b]) * p.scalar);
                }
            }
        }
        store_row(v, c, p.width, lane, floats, codes);
    }
}
